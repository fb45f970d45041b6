import type { JSX } from 'preact';
import { now, useNow } from '../store.ts';
import { t } from '../texts.ts';
import { age, clock, timeOf } from '../units.ts';

/** A time in UTC, with the exact one and the local one as its title. */
export function Time({ at }: { at: string | null | undefined }): JSX.Element {
  const time = timeOf(at);
  if (time === undefined || !at) return <span class="mu">{t.none}</span>;
  return <time dateTime={at} title={`${at}; ${new Date(time).toString()}`}>{clock(time, now())}</time>;
}

/** How long ago, or how long still. It goes on by itself. */
export function Age({ at }: { at: string | null | undefined }): JSX.Element | null {
  const time = timeOf(at);
  const is = useNow();
  return time === undefined ? null : <span class="nw">{age(time, is)}</span>;
}

/** A time in UTC within a sentence. */
export function told(at: string | null | undefined): string {
  const time = timeOf(at);
  return time === undefined ? t.unknown : clock(time, now());
}
