// Client of the public interface: what this page does, anybody can do. Answers are typed as docs/api.md has them.
import { base } from './base.ts';
import type { State } from './filter.ts';
import { written } from './json.ts';
import { queryOf, type Params } from './router.ts';

export type Role = 'observe' | 'produce' | 'operate' | 'edit' | 'deploy' | 'admin';

/** Roles; each may do what those before it may. */
export const ROLES: readonly Role[] = ['observe', 'produce', 'operate', 'edit', 'deploy', 'admin'];

export interface Me {
  name: string | null;
  role: Role;
  /** Null for all of them. */
  tenants: string[] | null;
  server: { name: string | null; version: string };
  time: string;
}

export type Counts = Partial<Record<State, number>>;
export interface TenantCounts {
  tenant: string;
  counts: Counts;
  next: string | null;
}

export interface Hold {
  tenant: string;
  queue: string | null;
  kind: string | null;
  reason: 'paused' | 'breaker' | 'half-open' | 'rate-limited';
  by: string | null;
  since: string | null;
  until: string | null;
  note: string | null;
}

export interface Breaker {
  tenant: string;
  name: string;
  state: 'closed' | 'open' | 'half-open' | null;
  kinds: string[];
  failed: number;
  ended: number;
  since: string | null;
  until: string | null;
  is_forced: boolean;
  by: string | null;
  note: string | null;
  problem: string | null;
}

export interface Queue {
  tenant: string;
  queue: string;
  /** Null where there were too many to count. */
  jobs: { scheduled: number | null; ready: number; blocked: number | null; leased: number | null };
  oldest_ready: string | null;
  /** Whether all of it is held back. */
  held: boolean;
}

export interface Queues {
  queues: Queue[];
  next: string | null;
}

/** Dead jobs of one tenant and kind that died for one reason, and are alike in their messages. */
export interface Failure {
  fingerprint: string;
  tenant: string;
  kind: string;
  queue: string;
  reason: string | null;
  message: string;
  /** What their messages have in common: numbers and ids are `#`, and what is quoted is `…`. */
  pattern: string;
  jobs: number;
  first: string | null;
  last: string | null;
  revisions: string[];
  example: string;
}

export interface Failures {
  groups: Failure[];
  /** Groups that were found beside these. */
  left_out: number;
  looked_at: number;
  complete: boolean;
}

export interface Group {
  tenant: string;
  queue: string;
  group: string;
  /** The dead job that holds it. */
  job: string;
  since: string | null;
}

export interface GroupLimit {
  tenant: string;
  queue: string;
  group: string;
  concurrency: number;
  used: number;
  /** The limit of its queue, in place of which it stands; null if the queue has none any more, so that this doesn't count. */
  instead_of: number | null;
  enabled: boolean;
  by: string | null;
  since: string | null;
  until: string | null;
  note: string | null;
}

export interface Limits {
  /** What queues give to each of their groups. */
  queues: { tenant: string; queue: string; concurrency: number }[];
  groups: GroupLimit[];
  plugins: { tenant: string; plugin: string; concurrency: number; used: number }[];
  rates: { tenant: string; name: string; is_of_plugin: boolean; interval_us: number; burst: number; left: number; next_at: string | null }[];
}

export interface FlowJob extends Job {
  name: string;
  after: { job: string; id: string; on_failure: 'fail' | 'ignore' | 'hold' }[];
}

export interface Flow {
  flow: string;
  tenant: string;
  jobs: FlowJob[];
  unread: string[];
}

export interface Schedule {
  tenant: string;
  schedule: string;
  plugin: string | null;
  cron: string[];
  every_ms: number | null;
  phase_ms: number | null;
  exclude: string[];
  timezone: string;
  kind: string;
  queue: string;
  overlap: string;
  paused: { by: string | null; since: string | null; note: string } | null;
  fired: number;
  by_hand: number;
  missed: number;
  skipped: number;
  waiting: number;
  last: { nominal: string; at: string; job: string | null; remark: string }[];
  next: { nominal: string; effective: string; local: string }[];
}

export interface Schedules {
  schedules: Schedule[];
  unread: { tenant: string; schedule: string; problem: string }[];
}

export interface Wait {
  reason: string;
  text: string;
  until: string | null;
  ahead: number | null;
  hold: Hold | null;
  limit: { name: string; leased: number; most: number } | null;
}

export interface Usage {
  fuel: number;
  memory_peak: number;
  wall_us: number;
  cpu_us: number;
  host_calls: number;
}

export interface Attempt {
  attempt: number;
  reason: string | null;
  message: string | null;
  leased_at: string;
  ended_at: string;
  daemon: string | null;
  revision: string | null;
  usage: Usage;
}

export interface LogLine {
  at: string;
  attempt: number;
  level: 'trace' | 'debug' | 'info' | 'warn' | 'error';
  message: string;
  fields: [string, string][];
}

export interface Job {
  id: string;
  tenant: string;
  queue: string;
  kind: string;
  flow: string | null;
  waits_for: string[];
  state: State;
  reason: string | null;
  message: string | null;
  priority: number;
  unique_key: string | null;
  group: string | null;
  labels: Record<string, string>;
  content_type: string | null;
  traceparent: string | null;
  start_by: string | null;
  deadline: string | null;
  attempts: number;
  expiries: number;
  enqueued_at: string | null;
  due_at: string | null;
  leased_at: string | null;
  lease_expires_at: string | null;
  finished_at: string | null;
  progress: { done: number; total: number | null; message: string | null } | null;
  usage: Usage;
  revision: string | null;
  unreadable: string | null;
  waits: Wait[];
  /** Left out for those who may not see it; so is the output. */
  payload?: Content;
  output?: Content | null;
  history?: Attempt[];
  log?: LogLine[];
}

/** Bytes: JSON, text, or in hexadecimal digits. */
export type Content = { json: unknown } | { text: string } | { hex: string };

export interface Page {
  jobs: Job[];
  unread: { tenant: string; id: string; problem: string }[];
  tenants: TenantCounts[];
}

export interface Done {
  id: string;
  tenant: string | null;
  done: string | null;
  refused: string | null;
}

export interface Bulk {
  tenant: string;
  done: number;
  refused: number;
  left_out: Record<string, number>;
  complete: boolean;
}

export type PluginState = 'serving' | 'canary' | 'rolled-back' | 'failed' | 'draining';

/** One side of a canary: what its runs have come to. */
export interface Side {
  runs: number;
  failures: number;
  fuel_mean: number | null;
}

export interface Plugin {
  /** Null if its file doesn't say so; then `plugin` is the file. */
  tenant: string | null;
  plugin: string;
  state: PluginState;
  revision: string | null;
  since: string | null;
  message: string | null;
  canary: { revision: string; share: number; runs_min: number; old: Side; new: Side } | null;
  running: number;
  /** Revisions that can be rolled back to, the latest deployed first. */
  kept: string[];
}

export interface DeployEvent {
  at: string;
  what: string;
  tenant: string | null;
  plugin: string | null;
  revision: string | null;
  was: string | null;
  message: string | null;
}

export interface UsageRow {
  day?: string;
  tenant?: string;
  plugin?: string;
  succeeded: number;
  retried: number;
  dead: number;
  cancelled: number;
  released: number;
  attempts: number;
  fuel: number;
  cpu_us: number;
  wall_us: number;
  memory_byte_us: number;
  bytes_in: number;
  bytes_out: number;
  host_calls: number;
}

export interface UsageReport {
  from: string;
  to: string;
  rows: UsageRow[];
  total: UsageRow;
}

/** A daemon of the fleet. */
export interface Daemon {
  id: string;
  name: string | null;
  version: string;
  started: string;
  seen: string;
  last_fetch: string | null;
  slots: number;
  slots_used: number;
  draining: boolean;
  plugins: number;
  tenants: string[];
}

/** What wasn't done, and why, as RFC 9457 has it. */
export class Problem extends Error {
  override readonly name = 'Problem';
  constructor(
    /** What kind of problem it is; `unreachable` if no answer came. */
    readonly slug: string,
    readonly status: number,
    readonly detail: string,
    readonly help: readonly string[],
    readonly requestId: string | null,
    /** Seconds after which it may be tried again. */
    readonly retryAfter: number | null,
  ) {
    super(detail);
  }
}

export interface Ask {
  query?: Params | URLSearchParams;
  body?: unknown;
  signal?: AbortSignal;
}

/** Heard when the interface says that the session is over. */
export const onSignedOut: { heard: () => void } = { heard: () => undefined };

export type Method = 'GET' | 'POST' | 'PATCH' | 'DELETE';

/** Address of a path of the interface, such as `/v1/jobs`. */
export function address(path: string, query?: Ask['query']): string {
  const text = (query instanceof URLSearchParams ? query : queryOf(query ?? {})).toString();
  return `${base()}${path}${text === '' ? '' : `?${text}`}`;
}

/** Asks, and returns the answer as it was written. */
export async function askText(method: Method, path: string, ask: Ask = {}): Promise<string> {
  const headers: Record<string, string> = { accept: 'application/json' };
  if (method !== 'GET') headers['sandhog-csrf'] = '1';
  if (ask.body !== undefined) headers['content-type'] = 'application/json';
  let response: Response;
  let text: string;
  try {
    response = await fetch(address(path, ask.query), {
      method,
      headers,
      ...(ask.body === undefined ? {} : { body: written(ask.body) }),
      ...(ask.signal ? { signal: ask.signal } : {}),
    });
    text = await response.text();
  } catch (cause) {
    if (ask.signal?.aborted) throw cause;
    throw new Problem('unreachable', 0, cause instanceof Error ? cause.message : String(cause), [], null, null);
  }
  if (response.ok) return text;
  const problem = problemOf(response, text);
  if (problem.status === 401 && path !== '/v1/session') onSignedOut.heard();
  throw problem;
}

/** Asks, and returns the document of the answer. */
export async function ask<T>(method: Method, path: string, of: Ask = {}): Promise<T> {
  const text = await askText(method, path, of);
  return (text === '' ? undefined : JSON.parse(text)) as T;
}

function problemOf(response: Response, text: string): Problem {
  let told: { slug?: unknown; detail?: unknown; help?: unknown } = {};
  try {
    told = (JSON.parse(text) ?? {}) as typeof told;
  } catch {
    // Something in between has answered, in its own words.
  }
  const seconds = Number.parseInt(response.headers.get('retry-after') ?? '', 10);
  return new Problem(
    typeof told.slug === 'string' ? told.slug : `http-${response.status}`,
    response.status,
    typeof told.detail === 'string' ? told.detail : text.slice(0, 400),
    Array.isArray(told.help) ? told.help.map(String) : [],
    response.headers.get('x-request-id'),
    Number.isNaN(seconds) ? null : seconds,
  );
}

const job = (id: string, rest = ''): string => `/v1/jobs/${encodeURIComponent(id)}${rest}`;

/** The routes that views use. */
export const api = {
  me: () => ask<Me>('GET', '/v1/me'),
  signIn: (token: string) => ask<void>('POST', '/v1/session', { body: { token } }),
  signOut: () => ask<void>('DELETE', '/v1/session'),
  counts: (query: Params, signal?: AbortSignal) => ask<{ tenants: TenantCounts[] }>('GET', '/v1/counts', with_(query, signal)),
  holds: (query: Params, signal?: AbortSignal) => ask<{ holds: Hold[] }>('GET', '/v1/holds', with_(query, signal)),
  breakers: (query: Params, signal?: AbortSignal) => ask<{ breakers: Breaker[] }>('GET', '/v1/breakers', with_(query, signal)),
  queues: (query: Params, signal?: AbortSignal) => ask<Queues>('GET', '/v1/queues', with_(query, signal)),
  failures: (query: Params | URLSearchParams, signal?: AbortSignal) => ask<Failures>('GET', '/v1/failures', with_(query, signal)),
  limits: (query: Params, signal?: AbortSignal) => ask<Limits>('GET', '/v1/limits', with_(query, signal)),
  groups: (query: Params, signal?: AbortSignal) => ask<{ groups: Group[] }>('GET', '/v1/groups', with_(query, signal)),
  flow: (query: Params, id: string, signal?: AbortSignal) => ask<Flow>('GET', `/v1/flows/${encodeURIComponent(id)}`, with_(query, signal)),
  schedules: (query: Params, signal?: AbortSignal) => ask<Schedules>('GET', '/v1/schedules', with_(query, signal)),
  schedule: (query: Params, name: string, signal?: AbortSignal) => ask<Schedule>('GET', `/v1/schedules/${encodeURIComponent(name)}`, with_(query, signal)),
  jobs: (query: URLSearchParams, signal?: AbortSignal) => ask<Page>('GET', '/v1/jobs', with_(query, signal)),
  /** A job, and the document as it was written: its payload may have numbers with more digits than the page can keep. */
  job: async (tenant: string, id: string, signal?: AbortSignal): Promise<{ job: Job; text: string }> => {
    const text = await askText('GET', job(id), with_({ tenant }, signal));
    return { job: JSON.parse(text) as Job, text };
  },
  act: (tenant: string, id: string, action: 'cancel' | 'redrive' | 'run-now') => ask<Done>('POST', job(id, `/${action}`), { query: { tenant } }),
  remove: (tenant: string, id: string) => ask<Done>('DELETE', job(id), { query: { tenant } }),
  bulk: (body: Record<string, unknown>) => ask<Bulk>('POST', '/v1/jobs/bulk', { body }),
  plugins: (signal?: AbortSignal) => ask<{ plugins: Plugin[] }>('GET', '/v1/plugins', with_({}, signal)),
  deployEvents: (signal?: AbortSignal) => ask<{ events: DeployEvent[] }>('GET', '/v1/deploy-events', with_({}, signal)),
  usage: (query: Params, signal?: AbortSignal) => ask<UsageReport>('GET', '/v1/usage', with_(query, signal)),
  daemons: (signal?: AbortSignal) => ask<{ daemons: Daemon[] }>('GET', '/v1/daemons', with_({}, signal)),
} as const;

function with_(query: Params | URLSearchParams, signal?: AbortSignal): Ask {
  return signal ? { query, signal } : { query };
}
