// What has happened to a job, and what will, from what is kept of it.
import type { Job } from './api.ts';
import { timeOf } from './units.ts';

/** A stretch of a job's life. */
export interface Block {
  is: 'wait' | 'run' | 'ok' | 'bad' | 'next';
  from: number;
  /** Undefined for what has no end yet. */
  to: number | undefined;
  /** Number of the attempt, of a run. */
  attempt?: number;
  reason?: string | null;
}

/** Returns the stretches of a job's life in order: waits and runs. */
export function blocksOf(job: Job, now: number): Block[] {
  const blocks: Block[] = [];
  let at = timeOf(job.enqueued_at);
  for (const attempt of job.history ?? []) {
    const [from, to] = [timeOf(attempt.leased_at), timeOf(attempt.ended_at)];
    if (from === undefined || to === undefined) continue;
    if (at !== undefined && from > at) blocks.push({ is: 'wait', from: at, to: from });
    blocks.push({ is: attempt.reason === null ? 'ok' : 'bad', from, to, attempt: attempt.attempt, reason: attempt.reason });
    at = to;
  }
  if (job.state === 'leased') {
    const from = timeOf(job.leased_at) ?? now;
    if (at !== undefined && from > at) blocks.push({ is: 'wait', from: at, to: from });
    blocks.push({ is: 'run', from, to: undefined, attempt: job.attempts + 1 });
  } else if (timeOf(job.finished_at) === undefined && at !== undefined) {
    blocks.push({ is: 'wait', from: at, to: now });
    const due = timeOf(job.due_at);
    if (due !== undefined && due > now) blocks.push({ is: 'next', from: now, to: due });
  }
  return blocks;
}

/** Widths of stretches that fill `width` together: by the logarithm of their time, none below `least`. */
export function widthsOf(times: readonly number[], width: number, least: number): number[] {
  const weights = times.map((time) => Math.log1p(Math.max(0, time)));
  const sum = weights.reduce((total, weight) => total + weight, 0);
  const free = Math.max(0, width - least * times.length);
  return weights.map((weight) => least + (sum > 0 ? (weight / sum) * free : free / times.length));
}
