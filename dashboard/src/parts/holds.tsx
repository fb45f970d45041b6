import type { JSX } from 'preact';
import type { Hold } from '../api.ts';
import { lift } from '../deeds.ts';
import { href } from '../place.ts';
import { t } from '../texts.ts';
import { Act } from './act.tsx';
import { Hostile } from './hostile.tsx';
import { Icon } from './icon.tsx';
import { Table } from './table.tsx';
import { Age, Time } from './time.tsx';

/** What a hold holds back, in words. */
export const heldOf = ({ queue, kind }: Pick<Hold, 'queue' | 'kind'>): string =>
  queue !== null && kind !== null ? t.holds.ofBoth(kind, queue) : queue !== null ? t.holds.ofQueue(queue) : kind !== null ? t.holds.ofKind(kind) : t.holds.all;

export const holdKey = ({ tenant, queue, kind, reason, by }: Hold): string => JSON.stringify([tenant, queue, kind, reason, by]);

/** Holds with why they are there, until when, and how they end. */
export function HoldTable({ label, holds, tenants, reload }: { label: string; holds: readonly Hold[]; tenants: boolean; reload: () => void }): JSX.Element {
  return (
    <Table
      label={label}
      columns={[{ head: t.holds.what }, { head: t.holds.why }, { head: t.holds.since, num: true, rank: 2 }, { head: t.holds.until, num: true, rank: 2 }, { head: <span class="vh">{t.deed.act}</span> }]}
      rows={holds.map((hold) => ({
        key: holdKey(hold),
        head: (
          <>
            <a href={href(['jobs'], { tenant: hold.tenant, state: 'ready', queue: hold.queue ?? undefined, kind: hold.kind ?? undefined })}><Hostile text={heldOf(hold)} /></a>
            {tenants && <span class="sub"><bdi>{hold.tenant}</bdi></span>}
          </>
        ),
        cells: [
          <>
            <span class="st c-blocked"><Icon name={hold.reason === 'paused' ? 'pause' : 'hold'} />{t.holds.reasons[hold.reason] ?? hold.reason}</span>
            {hold.by !== null && <span class="sub"><Hostile text={t.holds.by(hold.by)} /></span>}
            {hold.note !== null && hold.note !== '' && <span class="sub"><Hostile text={t.overview.note(hold.note)} /></span>}
            <span class="sub only-s">{hold.until === null ? t.holds.open : <><Time at={hold.until} />, <Age at={hold.until} /></>}</span>
          </>,
          <><Time at={hold.since} /><span class="sub"><Age at={hold.since} /></span></>,
          hold.until === null ? (hold.reason === 'paused' ? t.holds.open : t.none) : <><Time at={hold.until} /><span class="sub"><Age at={hold.until} /></span></>,
          <HoldAct hold={hold} reload={reload} />,
        ],
      }))}
    />
  );
}

/** How a hold ends: a pause is lifted; what a breaker holds goes on with the breaker. */
export function HoldAct({ hold, reload }: { hold: Hold; reload: () => void }): JSX.Element | null {
  if (hold.reason !== 'paused') {
    return hold.reason === 'rate-limited' ? null : <a class="b sm" href={href(['breakers'], { tenant: hold.tenant, name: hold.by ?? undefined })}>{t.holds.toBreaker}</a>;
  }
  return (
    <Act label={t.holds.lift} title={t.holds.liftOf(heldOf(hold))} tenant={hold.tenant} deed={() => lift(hold)} small said={t.holds.lifted} after={reload}>
      <p><Hostile text={t.holds.lifts(heldOf(hold))} /></p>
    </Act>
  );
}
