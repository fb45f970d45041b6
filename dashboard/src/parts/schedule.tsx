import type { JSX } from 'preact';
import type { Schedule } from '../api.ts';
import { actSchedule } from '../deeds.ts';
import { t } from '../texts.ts';
import { Act } from './act.tsx';

/** Enqueues a job of a schedule now, beside those of its times. */
export function RunNow({ of, small = false, after }: { of: Schedule; small?: boolean; after: () => void }): JSX.Element {
  const { tenant, schedule, kind, queue } = of;
  return (
    <Act label={t.schedule.run} title={t.schedule.runTitle(schedule)} tenant={tenant} deed={() => actSchedule(tenant, schedule, 'run')} small={small} said={t.schedule.ran} after={after}>
      <p><bdi>{t.schedule.runText(kind, queue)}</bdi></p>
    </Act>
  );
}
