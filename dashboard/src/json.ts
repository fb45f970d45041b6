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
