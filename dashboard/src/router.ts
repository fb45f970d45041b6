// Every state of the page is its URL: below the base path the view with its parts, and the query.

/** A place in the dashboard: the parts of its path, decoded, and its query. */
export interface Place {
  parts: readonly string[];
  query: URLSearchParams;
}

/** Reads a URL below the base path. Undefined if it lies elsewhere, or its path can't be decoded. */
export function placeOf(base: string, url: URL): Place | undefined {
  const { pathname } = url;
  if (base !== '' && pathname !== base && !pathname.startsWith(`${base}/`)) return undefined;
  try {
    const parts = pathname.slice(base.length).split('/').filter((part) => part !== '').map(decodeURIComponent);
    return { parts, query: new URLSearchParams(url.search) };
  } catch {
    return undefined;
  }
}

/** Query of a link; what is undefined or empty is left out, and several values of a key stay in order. */
export type Params = Record<string, string | number | readonly string[] | undefined>;

/** Makes the address of a place: each part is encoded by itself. */
export function hrefOf(base: string, parts: readonly string[], params: Params | URLSearchParams = {}): string {
  for (const part of parts) {
    // Browsers resolve these, however they are encoded.
    if (part === '.' || part === '..' || part === '') throw new RangeError(`no part of a path: ${JSON.stringify(part)}`);
  }
  const query = params instanceof URLSearchParams ? params : queryOf(params);
  const text = query.toString();
  return `${base}/${parts.map(encodeURIComponent).join('/')}${text === '' ? '' : `?${text}`}`;
}

/** Makes a query of parameters. */
export function queryOf(params: Params): URLSearchParams {
  const query = new URLSearchParams();
  for (const [key, value] of Object.entries(params)) {
    if (value === undefined || value === '') continue;
    if (typeof value === 'string' || typeof value === 'number') query.append(key, String(value));
    else for (const one of value) query.append(key, one);
  }
  return query;
}

/** Parts of a path that a route takes: fixed ones, and `:name` for those that differ. */
export type Pattern = readonly string[];

/** Matches the parts of a place with a route's. Returns what the named parts are; undefined if it is another route. */
export function matched(pattern: Pattern, parts: readonly string[]): Record<string, string> | undefined {
  if (pattern.length !== parts.length) return undefined;
  const found: Record<string, string> = {};
  for (const [index, of] of pattern.entries()) {
    const part = parts[index] ?? '';
    if (of.startsWith(':')) found[of.slice(1)] = part;
    else if (of !== part) return undefined;
  }
  return found;
}
