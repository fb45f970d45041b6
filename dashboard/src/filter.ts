// The filter of jobs: the query of the URL, the chips, and what is typed are three forms of the same.

/** Keys that `GET /v1/jobs` and `POST /v1/jobs/bulk` take. */
export const KEYS = ['tenant', 'queue', 'kind', 'state', 'reason', 'since', 'until', 'group', 'label', 'message'] as const;
export type Key = (typeof KEYS)[number];

/** Keys of the URL that say what is shown of the list, and filter nothing. */
export const SHOWS = ['limit', 'after', 'live'] as const;

/** States in the order of a job's life. */
export const STATES = ['scheduled', 'ready', 'leased', 'blocked', 'succeeded', 'dead', 'cancelled'] as const;
export type State = (typeof STATES)[number];

/** One condition. A wrong one is shown as such, and nothing is asked until it is gone: without it a bulk action would reach further. */
export interface Term {
  key: string;
  value: string;
  wrong?: 'unknown-key' | 'twice' | 'unknown-state' | 'no-time' | 'no-label';
}

const isKey = (key: string): key is Key => (KEYS as readonly string[]).includes(key);
export const isState = (text: string): text is State => (STATES as readonly string[]).includes(text);

/** Reads the conditions of a query, in its order; those of `keys` are the ones that there are. */
export function termsOf(query: URLSearchParams, keys: readonly string[] = KEYS): Term[] {
  const terms: Term[] = [];
  const seen = new Set<string>();
  for (const [key, value] of query) {
    if ((SHOWS as readonly string[]).includes(key)) continue;
    const wrong = wrongOf(key, value, seen.has(key), keys);
    seen.add(key);
    terms.push(wrong === undefined ? { key, value } : { key, value, wrong });
  }
  return terms;
}

function wrongOf(key: string, value: string, again: boolean, keys: readonly string[]): Term['wrong'] {
  if (!keys.includes(key)) return 'unknown-key';
  if (again && key !== 'label') return 'twice';
  if (key === 'state' && !isState(value)) return 'unknown-state';
  if (key === 'label' && !/^[^=]+=/.test(value)) return 'no-label';
  if ((key === 'since' || key === 'until') && durationOf(value) === undefined && Number.isNaN(Date.parse(value))) return 'no-time';
  return undefined;
}

/** Reads a duration as the configuration has them, such as `1h` or `90s`, in milliseconds. */
export function durationOf(text: string): number | undefined {
  const match = /^(\d{1,9})(ms|s|m|h|d)$/.exec(text);
  const unit = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 }[match?.[2] ?? ''];
  return match && unit ? Number(match[1]) * unit : undefined;
}

/** What was typed: conditions, a job's id, or nothing of either. */
export type Typed = { id: string } | { terms: [string, string][] };

const ID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$|^[0-9A-HJKMNP-TV-Z]{26}$/i;

/** Reads what was typed: `key:value` or `key=value` by spaces, quotes around a value with spaces, and else a part of the message. */
export function typed(text: string): Typed {
  const trimmed = text.trim();
  if (ID.test(trimmed)) return { id: trimmed };
  const terms: [string, string][] = [];
  const free: string[] = [];
  for (const match of trimmed.matchAll(/([a-z_]+):(?:"([^"]*)"|(\S+))|"([^"]*)"|(\S+)/g)) {
    const [, key, quoted, plain, text1, text2] = match;
    if (key !== undefined) terms.push([key, quoted ?? plain ?? '']);
    else free.push(text1 ?? text2 ?? '');
  }
  if (free.length > 0) terms.push(['message', free.join(' ')]);
  return { terms };
}

/** Returns the query with a condition more; one of the same key gives way, but for labels. The list begins anew. */
export function withTerm(query: URLSearchParams, key: string, value: string): URLSearchParams {
  const next = new URLSearchParams(query);
  next.delete('after');
  if (key === 'label') next.append(key, value);
  else next.set(key, value);
  return next;
}

/** Returns the query without a condition. The list begins anew. */
export function withoutTerm(query: URLSearchParams, key: string, value?: string): URLSearchParams {
  const next = new URLSearchParams(query);
  next.delete('after');
  next.delete(key, value);
  return next;
}

/** Returns the parameters for the interface: times as instants, since a duration would move from one page to the next. */
export function asked(query: URLSearchParams, now: number): URLSearchParams {
  const params = new URLSearchParams(query);
  params.delete('live');
  for (const key of ['since', 'until']) {
    const value = params.get(key);
    const span = value === null ? undefined : durationOf(value);
    if (span !== undefined) params.set(key, new Date(now - span).toISOString());
  }
  return params;
}

/** Body of a bulk action on all jobs that the filter lets through. */
export function bulkOf(query: URLSearchParams, action: string, dryRun: boolean, now: number): Record<string, unknown> {
  const body: Record<string, unknown> = { action, dry_run: dryRun };
  const labels: Record<string, string> = {};
  for (const [key, value] of asked(query, now)) {
    if (key === 'label') {
      const at = value.indexOf('=');
      labels[value.slice(0, at)] = value.slice(at + 1);
    } else if (isKey(key)) body[key] = value;
  }
  if (Object.keys(labels).length > 0) body.labels = labels;
  return body;
}
