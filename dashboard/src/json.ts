// JSON as it is written: numbers keep all their digits, which `JSON.parse` doesn't.

const TOKEN = /"(?:[^"\\]|\\.)*"|[{}[\],:]|[^\s{}[\],:"]+/gs;

/** Returns the text of the value at this path of keys in a document, as it is written there. Undefined if there is none. */
export function rawAt(document: string, path: readonly string[]): string | undefined {
  let depth = 0;
  let matched = 0;
  let key: string | undefined;
  let before = '';
  let start: number | undefined;
  for (const match of document.matchAll(TOKEN)) {
    const token = match[0];
    if (start !== undefined) {
      if (token === '{' || token === '[') depth++;
      if (token === '}' || token === ']') depth--;
      if (depth === path.length) return document.slice(start, match.index + token.length);
      continue;
    }
    if (token === ':') key = JSON.parse(before) as string;
    else if (before === ':' && depth === matched + 1 && key === path[matched]) {
      matched++;
      if (matched === path.length) {
        if (token !== '{' && token !== '[') return token;
        start = match.index;
        depth++;
        before = token;
        continue;
      }
      if (token !== '{') return undefined;
      depth++;
    } else if (token === '{' || token === '[') depth++;
    else if (token === '}' || token === ']') {
      depth--;
      if (depth < matched + 1 && matched > 0) return undefined;
    }
    before = token;
  }
  return undefined;
}

/** Writes JSON with one member a line, every token as it was. */
export function pretty(raw: string): string {
  let depth = 0;
  let out = '';
  let before = '';
  const line = (): string => `\n${'  '.repeat(depth)}`;
  for (const match of raw.matchAll(TOKEN)) {
    const token = match[0];
    if (token === '}' || token === ']') {
      depth--;
      out += before === '{' || before === '[' ? token : line() + token;
    } else {
      if (before === '{' || before === '[' || before === ',') out += line();
      out += token === ':' ? ': ' : token;
      if (token === '{' || token === '[') depth++;
    }
    before = token;
  }
  return out;
}

/** JSON as it is written, to be sent. */
export class Raw {
  constructor(readonly text: string) {}
}

/** Writes the body of a request. */
export const written = (body: unknown): string => (body instanceof Raw ? body.text : JSON.stringify(body));

/** A value: its members, each under the text of its name or without one; or a text as it is written. */
export type Tree = { is: 'object' | 'array'; members: { name: string | undefined; value: Tree }[] } | { is: 'leaf'; text: string };

/** Reads a value, however deep it is. Undefined if it isn't JSON. */
export function treeOf(raw: string): Tree | undefined {
  const open: Extract<Tree, { members: unknown }>[] = [];
  let root: Tree | undefined;
  let name: string | undefined;
  let last = '';
  const put = (value: Tree): void => {
    const parent = open[open.length - 1];
    if (parent) parent.members.push({ name, value });
    else root ??= value;
    name = undefined;
  };
  for (const match of raw.matchAll(TOKEN)) {
    const token = match[0];
    if (token === '{' || token === '[') {
      const value: Tree = { is: token === '{' ? 'object' : 'array', members: [] };
      put(value);
      open.push(value);
    } else if (token === '}' || token === ']') {
      if (open.pop() === undefined) return undefined;
    } else if (token === ':') name = last;
    else if (token !== ',') {
      // A name is put once its colon has come, and a value at once.
      last = token;
      const parent = open[open.length - 1];
      if (parent?.is !== 'object' || name !== undefined) put({ is: 'leaf', text: token });
    }
  }
  return open.length === 0 ? root : undefined;
}

/** Whether a text is JSON. */
export function isJson(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}
