// Changes, each told once: the request that makes it, and the command that does the same. What is copied is so what is done.
import { address, ask, type Hold, type Job, type Method } from './api.ts';
import { command, curl } from './command.ts';
import { Raw } from './json.ts';
import type { Params } from './router.ts';

export interface Deed {
  method: Method;
  path: string;
  query?: Params;
  body?: unknown;
  /** Words of the command, after `sandhog`. */
  words: readonly string[];
}

export const done = <T>({ method, path, query = {}, body }: Deed): Promise<T> => ask<T>(method, path, { query, body });

export const commandOf = (deed: Deed): string => command('sandhog', ...deed.words);

/** The request of curl, to where the page has come from. */
export const curlOf = ({ method, path, query, body }: Deed, origin: string): string => curl(method, origin + address(path, query), body);

/** Which jobs: a tenant's, of a queue, of a kind, or of a kind in a queue. */
export interface Scope {
  tenant: string;
  queue?: string | undefined;
  kind?: string | undefined;
}

/** How long something lasts, and what is said about it; empty for until somebody ends it, and for nothing. */
export interface Terms {
  lasts: string;
  note: string;
}

/** Options of a command; those without a value are left out. */
const options = (of: Record<string, string | undefined>): string[] =>
  Object.entries(of).flatMap(([name, value]) => (value === undefined || value === '' ? [] : [`--${name}`, value]));

const filled = (of: Record<string, unknown>): Record<string, unknown> =>
  Object.fromEntries(Object.entries(of).filter(([, value]) => value !== undefined && value !== ''));

export function pause({ tenant, queue, kind }: Scope, { lasts, note }: Terms): Deed {
  return {
    method: 'POST',
    path: '/v1/holds',
    body: filled({ tenant, queue, kind, for: lasts, note }),
    words: ['pause', ...options({ tenant, queue, kind, for: lasts, note })],
  };
}

export function lift({ tenant, queue, kind }: Pick<Hold, 'tenant' | 'queue' | 'kind'>): Deed {
  const scope = { tenant, queue: queue ?? undefined, kind: kind ?? undefined };
  return { method: 'DELETE', path: '/v1/holds', query: scope, words: ['resume', ...options(scope)] };
}

export function forceBreaker(tenant: string, name: string, open: boolean, { lasts, note }: Terms): Deed {
  return {
    method: 'POST',
    path: '/v1/breakers/force',
    body: filled({ tenant, name, open, for: lasts, note }),
    words: ['breaker', open ? 'open' : 'close', name, ...options({ tenant, for: lasts, note })],
  };
}

export function resetBreaker(tenant: string, name: string): Deed {
  return { method: 'POST', path: '/v1/breakers/reset', body: { tenant, name }, words: ['breaker', 'reset', name, '--tenant', tenant] };
}

export function release(tenant: string, queue: string, group: string): Deed {
  return {
    method: 'POST',
    path: '/v1/groups/release',
    body: { tenant, queue, group },
    words: ['groups', 'release', queue, group, '--tenant', tenant],
  };
}

export function rollBack(plugin: string, to: string): Deed {
  return { method: 'POST', path: '/v1/rollback', body: { plugin, to }, words: ['plugin', 'rollback', plugin, '--to', to] };
}

export function setLimit(tenant: string, queue: string, group: string, concurrency: number, { lasts, note }: Terms): Deed {
  return {
    method: 'POST',
    path: '/v1/limits',
    body: filled({ tenant, queue, group, concurrency, for: lasts, note }),
    words: ['limit', 'set', queue, group, String(concurrency), ...options({ tenant, for: lasts, note })],
  };
}

export function switchLimit(tenant: string, queue: string, group: string, enabled: boolean): Deed {
  return {
    method: 'PATCH',
    path: '/v1/limits',
    body: { tenant, queue, group, enabled },
    words: ['limit', enabled ? 'on' : 'off', queue, group, '--tenant', tenant],
  };
}

export function unsetLimit(tenant: string, queue: string, group: string): Deed {
  return { method: 'DELETE', path: '/v1/limits', query: { tenant, queue, group }, words: ['limit', 'unset', queue, group, '--tenant', tenant] };
}

const schedule = (name: string, rest: string): string => `/v1/schedules/${encodeURIComponent(name)}${rest}`;

export function pauseSchedule(tenant: string, name: string, note: string): Deed {
  return {
    method: 'POST',
    path: schedule(name, '/pause'),
    query: { tenant },
    body: filled({ note }),
    words: ['schedule', 'pause', name, ...options({ tenant, note })],
  };
}

export function actSchedule(tenant: string, name: string, action: 'resume' | 'run'): Deed {
  return { method: 'POST', path: schedule(name, `/${action}`), query: { tenant }, words: ['schedule', action, name, '--tenant', tenant] };
}

export function backfill(tenant: string, name: string, from: string, to: string): Deed {
  return {
    method: 'POST',
    path: schedule(name, '/backfill'),
    query: { tenant },
    body: { from, to },
    words: ['schedule', 'backfill', name, ...options({ tenant, from, to })],
  };
}

/** Cancels a flow's jobs or puts back its dead ones; with `from`, the name of one, that one and those that depend on it. */
export function actFlow(tenant: string, id: string, action: 'cancel' | 'redrive', from?: string): Deed {
  return {
    method: 'POST',
    path: `/v1/flows/${encodeURIComponent(id)}/${action}`,
    query: { tenant, from },
    words: ['flow', action, id, ...options({ tenant, from })],
  };
}

/** Dead jobs of a kind that died for a reason, with a part of their message. */
export interface Dead {
  tenant: string;
  kind: string;
  reason: string | null;
  message: string;
}

export function redriveDead({ tenant, kind, reason, message }: Dead, until: string, dryRun: boolean): Deed {
  const of = { tenant, state: 'dead', kind, reason: reason ?? undefined, until, message };
  return {
    method: 'POST',
    path: '/v1/jobs/bulk',
    body: filled({ action: 'redrive', dry_run: dryRun, ...of }),
    words: ['job', 'redrive', ...options(of), ...(dryRun ? ['--dry-run'] : [])],
  };
}

/** What an edit changes; what is undefined stays as it is. */
export interface Edit {
  payload?: { is: 'json' | 'text'; text: string } | undefined;
  priority?: number | undefined;
  delay?: string | undefined;
}

/** Edits a job. A payload in JSON is sent as it is written, so that its numbers keep their digits. */
export function edit({ tenant, id }: Pick<Job, 'tenant' | 'id'>, { payload, priority, delay }: Edit): Deed {
  const members: [string, string][] = [];
  if (payload) members.push(payload.is === 'json' ? ['payload', payload.text] : ['text', JSON.stringify(payload.text)]);
  if (priority !== undefined) members.push(['priority', String(priority)]);
  if (delay !== undefined) members.push(['delay', JSON.stringify(delay)]);
  return {
    method: 'PATCH',
    path: `/v1/jobs/${encodeURIComponent(id)}`,
    query: { tenant },
    body: new Raw(`{${members.map(([name, value]) => `"${name}":${value}`).join(',')}}`),
    words: [
      'job', 'edit', id,
      ...options({ tenant, priority: priority === undefined ? undefined : String(priority), delay }),
      ...(payload ? ['--payload', payload.text, ...(payload.is === 'text' ? ['--raw'] : [])] : []),
    ],
  };
}
