// When a schedule enqueues, in words.
import type { Schedule } from './api.ts';
import { wordsOf } from './cron.ts';
import { t } from './texts.ts';
import { duration } from './units.ts';

/** Says its times in words; an expression for which there are none stays as it is. */
export function firesOf({ cron, every_ms, phase_ms }: Pick<Schedule, 'cron' | 'every_ms' | 'phase_ms'>): string {
  if (every_ms !== null) {
    return phase_ms !== null && phase_ms > 0 ? t.cron.everyPhase(duration(every_ms), duration(phase_ms)) : t.cron.every(duration(every_ms));
  }
  return t.cron.joined(cron.map((one) => wordsOf(one) ?? one));
}
