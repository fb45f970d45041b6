// Which limits are reached, and what one may be set to.
import type { Limits } from './api.ts';

/** Most jobs of a group that may be ready or run at once. */
export const CONCURRENCY_MAX = 1000;

/** Returns how many limits let no further job through now. */
export function reachedOf({ plugins, rates, groups }: Limits): number {
  return (
    plugins.filter((of) => of.used >= of.concurrency).length +
    rates.filter((of) => of.next_at !== null).length +
    groups.filter((of) => of.enabled && of.instead_of !== null && of.used >= of.concurrency).length
  );
}

/** Reads a limit of jobs at once. Undefined if it is none. */
export function concurrencyOf(text: string): number | undefined {
  const number = /^\s*\d{1,4}\s*$/.test(text) ? Number(text) : 0;
  return number >= 1 && number <= CONCURRENCY_MAX ? number : undefined;
}
