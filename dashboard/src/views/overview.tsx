import type { JSX } from 'preact';
import { api, type Breaker, type Counts, type Hold, type TenantCounts } from '../api.ts';
import { STATES } from '../filter.ts';
import { Copy } from '../parts/copy.tsx';
import { Figure, Figures } from '../parts/figure.tsx';
import { Hostile } from '../parts/hostile.tsx';
import { Empty, Failed } from '../parts/notice.tsx';
import { Head, Panel } from '../parts/panel.tsx';
import { StateBadge } from '../parts/state.tsx';
import { Table } from '../parts/table.tsx';
import { Attention } from '../parts/why.tsx';
import { href, scope } from '../place.ts';
import { useSnapshot } from '../snapshot.ts';
import { now } from '../store.ts';
import { t } from '../texts.ts';
import { useTitle } from '../title.ts';
import { clock, exact, timeOf } from '../units.ts';

const at = (text: string | null): string => {
  const time = timeOf(text);
  return time === undefined ? t.unknown : clock(time, now());
};

/** What needs somebody, and how many jobs there are. */
export function Overview(): JSX.Element {
  const tenant = scope();
  const key = tenant ?? '';
  const anything = (): boolean => true;
  const counts = useSnapshot(key, (signal) => api.counts({ tenant }, signal), anything);
  const holds = useSnapshot(key, (signal) => api.holds({ tenant }, signal), anything);
  const breakers = useSnapshot(key, (signal) => api.breakers({ tenant }, signal), anything);

  const unwell = (breakers.data?.breakers ?? []).filter((of) => of.state !== 'closed');
  const held = (holds.data?.holds ?? []).filter((of) => of.reason === 'paused');
  const needs = unwell.filter((of) => of.state !== 'half-open').length;
  const known = holds.data !== undefined && breakers.data !== undefined;
  const title = !known ? t.overview.title : needs === 0 ? t.overview.quiet : t.overview.needs(needs);
  useTitle(t.overview.title);

  const all = (counts.data?.tenants ?? []).filter((of) => tenant === undefined || of.tenant === tenant);
  return (
    <>
      <Head title={title} sub={tenant === undefined ? t.overview.scopeAll : t.overview.scopeOf(tenant)} />
      {breakers.problem && <Failed what={t.overview.attention} problem={breakers.problem} at={breakers.at} retry={breakers.reload} />}
      {holds.problem && <Failed what={t.overview.attention} problem={holds.problem} at={holds.at} retry={holds.reload} />}
      {unwell.length + held.length > 0 && (
        <section class="p" aria-label={t.overview.attention}>
          <ul class="att">
            {unwell.map((of) => <BreakerLine key={`${of.tenant} ${of.name}`} of={of} />)}
            {held.map((of) => <HoldLine key={`${of.tenant} ${of.queue ?? ''} ${of.kind ?? ''}`} of={of} />)}
          </ul>
        </section>
      )}
      {counts.problem && <Failed what={t.overview.now} problem={counts.problem} at={counts.at} retry={counts.reload} />}
      {counts.data && all.length === 0 && (
        <div class="p">
          <Empty title={t.overview.noTenants}>
            <p>{t.overview.noTenantsText}</p>
            <p><code>{t.overview.first}</code></p>
            <Copy label={t.copy.command} text={t.overview.first} />
          </Empty>
        </div>
      )}
      {all.length > 0 && <Numbers all={all} tenant={tenant} />}
    </>
  );
}

function Numbers({ all, tenant }: { all: readonly TenantCounts[]; tenant: string | undefined }): JSX.Element {
  const sum = (state: keyof Counts): number => all.reduce((total, of) => total + (of.counts[state] ?? 0), 0);
  const shown = ['ready', 'leased', 'scheduled', 'blocked', 'dead'] as const;
  return (
    <>
      <Figures title={t.overview.now}>
        {shown.map((state) => (
          <Figure
            key={state}
            label={<a href={href(['jobs'], { tenant, state })}>{t.overview.figures[state]}</a>}
            value={sum(state)}
            unit={t.overview.unit(sum(state))}
            window={t.overview.windows[state]}
          />
        ))}
      </Figures>
      <Panel title={t.overview.tenants} note={t.overview.tenantsNote}>
        <Table
          label={t.overview.tenants}
          columns={[
            { head: t.overview.tenant },
            ...STATES.map((state) => ({ head: <StateBadge state={state} />, num: true, ...(rankOf(state)) })),
          ]}
          rows={all.map((of) => ({
            key: of.tenant,
            head: <a href={href(['jobs'], { tenant: of.tenant })}><bdi>{of.tenant}</bdi></a>,
            cells: STATES.map((state) => <a href={href(['jobs'], { tenant: of.tenant, state })}>{exact(of.counts[state] ?? 0)}</a>),
          }))}
        />
      </Panel>
    </>
  );
}

const rankOf = (state: (typeof STATES)[number]): { rank?: 2 | 3 } =>
  state === 'ready' || state === 'leased' || state === 'dead' ? {} : { rank: 2 };

function BreakerLine({ of }: { of: Breaker }): JSX.Element {
  const title =
    of.problem !== null ? t.overview.breakerUnread(of.tenant, of.name)
    : of.state === 'half-open' ? t.overview.breakerHalf(of.tenant, of.name)
    : t.overview.breakerOpen(of.tenant, of.name);
  return (
    <Attention
      severity={of.state === 'half-open' ? 'info' : 'warn'}
      icon={of.state === 'half-open' ? 'half' : 'warn'}
      title={title}
      acts={<a class="b" href={href(['jobs'], { tenant: of.tenant, state: 'ready', kind: of.kinds.length === 1 ? of.kinds[0] : undefined })}>{t.overview.look}</a>}
    >
      <p>
        {of.is_forced ? t.overview.breakerForced(of.by ?? t.unknown) : t.overview.breakerFailed(of.failed, of.ended)}
        {of.since !== null && ` ${t.overview.heldSince(at(of.since))}`}
        {of.until !== null && ` ${of.is_forced ? t.overview.heldUntil(at(of.until)) : t.overview.breakerProbe(at(of.until))}`}
        {of.kinds.length > 0 && ` ${t.overview.breakerKinds(of.kinds.join(', '))}`}
      </p>
      {of.note !== null && <p><Hostile text={t.overview.note(of.note)} /></p>}
      {of.problem !== null && <p><Hostile text={of.problem} /></p>}
    </Attention>
  );
}

function HoldLine({ of }: { of: Hold }): JSX.Element {
  const { tenant, queue, kind } = of;
  const title =
    queue !== null && kind !== null ? t.overview.heldBoth(tenant, queue, kind)
    : queue !== null ? t.overview.heldQueue(tenant, queue)
    : kind !== null ? t.overview.heldKind(tenant, kind)
    : t.overview.heldAll(tenant);
  return (
    <Attention
      severity="info"
      icon="pause"
      title={title}
      acts={<a class="b" href={href(['jobs'], { tenant, state: 'ready', queue: queue ?? undefined, kind: kind ?? undefined })}>{t.overview.look}</a>}
    >
      <p>
        {of.by === null ? t.overview.heldSince(at(of.since)) : t.overview.heldBy(of.by, at(of.since))}{' '}
        {of.until === null ? t.overview.heldOpen : t.overview.heldUntil(at(of.until))}
      </p>
      {of.note !== null && <p><Hostile text={t.overview.note(of.note)} /></p>}
    </Attention>
  );
}
