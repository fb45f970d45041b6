import type { JSX } from 'preact';
import { address, api, type Breaker } from '../api.ts';
import { command, curl } from '../command.ts';
import { forceBreaker, resetBreaker } from '../deeds.ts';
import { Act } from '../parts/act.tsx';
import { CopyBoth } from '../parts/copy.tsx';
import { Hostile } from '../parts/hostile.tsx';
import { Icon, type IconName } from '../parts/icon.tsx';
import { Empty, Failed } from '../parts/notice.tsx';
import { Head } from '../parts/panel.tsx';
import { Table } from '../parts/table.tsx';
import { Age, Time } from '../parts/time.tsx';
import { href, scope } from '../place.ts';
import type { ViewProps } from '../routes.ts';
import { may } from '../session.ts';
import { useSnapshot } from '../snapshot.ts';
import { t } from '../texts.ts';
import { useTitle } from '../title.ts';

const SHAPES: Record<NonNullable<Breaker['state']>, [IconName, string]> = { closed: ['ok', 'c-succeeded'], open: ['warn', 'c-blocked'], 'half-open': ['half', 'c-leased'] };

/** Which breakers are open, why, and until when. */
export function Breakers({ query }: ViewProps): JSX.Element {
  const tenant = scope();
  const named = query.get('name');
  const list = useSnapshot(tenant ?? '', (signal) => api.breakers({ tenant }, signal), () => true);
  const all = list.data?.breakers;
  const open = (all ?? []).filter((of) => of.state !== 'closed').length;
  // Those that aren't closed come first, in the order of the answer.
  const shown = [...(all ?? [])].sort((one, other) => Number(one.state === 'closed') - Number(other.state === 'closed')).filter((of) => named === null || of.name === named);
  useTitle(t.breakers.title);
  return (
    <>
      <Head
        title={all === undefined || all.length === 0 ? t.breakers.title : open === 0 ? t.breakers.quiet : t.breakers.open(open)}
        acts={
          <>
            {named !== null && <a class="b" href={href(['breakers'], { tenant })}>{t.all}</a>}
            <CopyBoth
              command={command('sandhog', 'breaker', 'list', ...(tenant === undefined ? [] : ['--tenant', tenant]))}
              curl={curl('GET', location.origin + address('/v1/breakers', { tenant }))}
            />
          </>
        }
      />
      {list.problem && <Failed what={t.breakers.title} problem={list.problem} at={list.at} retry={list.reload} />}
      {all && (
        <section class="p" aria-label={t.breakers.title}>
          {shown.length === 0 ? <Empty title={t.breakers.none}><p>{t.breakers.noneText}</p></Empty> : (
            <Table
              label={t.breakers.title}
              columns={[
                { head: t.breakers.name }, { head: t.breakers.state }, { head: t.breakers.runs, num: true, rank: 2 }, { head: t.breakers.kinds, rank: 3 },
                { head: t.breakers.since, num: true, rank: 3 }, { head: t.breakers.until, num: true, rank: 2 }, { head: <span class="vh">{t.deed.act}</span> },
              ]}
              rows={shown.map((of) => ({ key: `${of.tenant} ${of.name}`, head: <Name of={of} tenants={tenant === undefined} />, cells: cellsOf(of, list.reload) }))}
            />
          )}
        </section>
      )}
      {!may('operate') && <p class="note">{t.deed.mayLook(t.breakers.mayLook, 'operate')}</p>}
    </>
  );
}

const Name = ({ of, tenants }: { of: Breaker; tenants: boolean }): JSX.Element => (
  <>
    <a href={href(['jobs'], { tenant: of.tenant, state: 'ready', kind: of.kinds.length === 1 ? of.kinds[0] : undefined })}><Hostile text={of.name} /></a>
    {tenants && <span class="sub"><bdi>{of.tenant}</bdi></span>}
  </>
);

function cellsOf(of: Breaker, reload: () => void): JSX.Element[] {
  const [icon, tone] = of.state === null ? (['warn', 'c-dead'] as const) : SHAPES[of.state];
  const when = (at: string | null): JSX.Element => (at === null ? <>{t.none}</> : <><Time at={at} /><span class="sub"><Age at={at} /></span></>);
  return [
    <>
      <span class={`st ${tone}`}><Icon name={icon} />{of.state === null ? t.breakers.unread : t.breakers.states[of.state]}</span>
      {of.is_forced && <span class="sub"><Hostile text={t.breakers.forced(of.by ?? t.unknown)} /></span>}
      {of.note !== null && of.note !== '' && <span class="sub"><Hostile text={t.overview.note(of.note)} /></span>}
      {of.problem !== null && <span class="sub"><Hostile text={of.problem} /></span>}
      <span class="sub only-s">{t.breakers.runsOf(of.failed, of.ended)}{of.until !== null && <>; <Time at={of.until} /></>}</span>
    </>,
    <>{t.breakers.runsOf(of.failed, of.ended)}</>,
    <>{of.kinds.length === 0 ? t.none : of.kinds.map((kind) => <span class="m"><bdi>{kind}</bdi> </span>)}</>,
    when(of.since),
    when(of.until),
    <Acts of={of} reload={reload} />,
  ];
}

function Acts({ of, reload }: { of: Breaker; reload: () => void }): JSX.Element {
  const kinds = of.kinds.length === 0 ? t.breakers.itsKinds : of.kinds.join(', ');
  const { tenant, name } = of;
  return (
    <div class="acts">
      {of.state === 'closed' || of.state === null
        ? <Act label={t.breakers.forceOpen} title={t.breakers.openTitle(name)} tenant={tenant} deed={(terms) => forceBreaker(tenant, name, true, terms)} ends noted small said={t.breakers.opened} after={reload}><p>{t.breakers.openText(kinds)}</p></Act>
        : <Act label={t.breakers.forceClosed} title={t.breakers.closeTitle(name)} tenant={tenant} deed={(terms) => forceBreaker(tenant, name, false, terms)} ends noted small said={t.breakers.closed} after={reload}><p>{t.breakers.closeText(kinds)}</p></Act>}
      {(of.state !== 'closed' || of.is_forced) && (
        <Act label={t.breakers.reset} title={t.breakers.resetTitle(name)} tenant={tenant} deed={() => resetBreaker(tenant, name)} small said={t.breakers.wasReset} after={reload}><p>{t.breakers.resetText}</p></Act>
      )}
    </div>
  );
}
