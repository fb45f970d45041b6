// Whether a queue keeps up: by the age of its oldest ready job, never by how many there are.
import type { Hold, Queue } from './api.ts';
import type { Severity } from './parts/why.tsx';
import { timeOf } from './units.ts';

/** Age of the oldest ready job from which a queue falls behind, and from which that needs somebody; in milliseconds. */
export const BEHIND_FROM = 60_000;
export const FAR_BEHIND_FROM = 600_000;

export interface Verdict {
  is: 'held' | 'idle' | 'keeps-up' | 'behind' | 'stuck';
  severity: Severity;
  /** Time that the oldest ready job has waited, in milliseconds. */
  waited: number | undefined;
}

/** `stuck`: jobs are ready and none runs. */
export function verdictOf(queue: Pick<Queue, 'jobs' | 'oldest_ready' | 'held'>, now: number): Verdict {
  const oldest = timeOf(queue.oldest_ready);
  const waited = oldest === undefined ? undefined : Math.max(0, now - oldest);
  if (queue.held) return { is: 'held', severity: 'info', waited };
  if (queue.jobs.ready === 0) return { is: 'idle', severity: 'ok', waited };
  if (waited === undefined || waited < BEHIND_FROM) return { is: 'keeps-up', severity: 'ok', waited };
  const severity = waited < FAR_BEHIND_FROM ? 'info' : 'warn';
  return { is: queue.jobs.leased === 0 ? 'stuck' : 'behind', severity: queue.jobs.leased === 0 ? 'warn' : severity, waited };
}

/** Returns the holds that touch a queue: all of it, or as far as it has jobs of their kind. */
export const holdsOf = (holds: readonly Hold[], tenant: string, queue: string): Hold[] =>
  holds.filter((hold) => hold.tenant === tenant && (hold.queue === null || hold.queue === queue));
