import type { JSX } from 'preact';
import { address, api, type Failure as Group, type Failures as Found } from '../api.ts';
import { command, curl } from '../command.ts';
import { redriveDead } from '../deeds.ts';
import { commonOf, FAILURE_KEYS } from '../failures.ts';
import { asked, termsOf } from '../filter.ts';
import { Act } from '../parts/act.tsx';
import { CopyBoth } from '../parts/copy.tsx';
import { FilterBar } from '../parts/filter-bar.tsx';
import { Hostile } from '../parts/hostile.tsx';
import { Empty, Failed } from '../parts/notice.tsx';
import { Head, Panel } from '../parts/panel.tsx';
import { Table } from '../parts/table.tsx';
import { Age, Time } from '../parts/time.tsx';
import { WhyLine } from '../parts/why.tsx';
import { href, hrefWith, scope } from '../place.ts';
import type { ViewProps } from '../routes.ts';
import { may } from '../session.ts';
import { useSnapshot } from '../snapshot.ts';
import { now } from '../store.ts';
import { t } from '../texts.ts';
import { useTitle } from '../title.ts';
import { exact } from '../units.ts';

/** Most groups that are looked at for one of them. */
const LOOKED_AT = 1000;

/** What breaks: dead jobs in groups of those that died of the same. */
export function Failures({ query }: ViewProps): JSX.Element {
  const tenant = scope();
  const terms = termsOf(query, FAILURE_KEYS);
  const wrong = terms.filter((term) => term.wrong !== undefined);
  const key = wrong.length > 0 ? undefined : asked(query, 0).toString();
  const list = useSnapshot(key, (signal) => api.failures(asked(query, now()), signal));
  const found = list.loading ? undefined : list.data;
  useTitle(t.failures.title);
  const words = terms.flatMap(({ key: of, value }) => [`--${of}`, value]);
  return (
    <>
      <Head
        title={found === undefined ? t.failures.title : found.groups.length === 0 ? t.failures.quiet : t.failures.count(found.groups.reduce((sum, of) => sum + of.jobs, 0), found.groups.length)}
        acts={<CopyBoth command={command('sandhog', 'jobs', '--state', 'dead', ...words)} curl={curl('GET', location.origin + address('/v1/failures', asked(query, now())))} />}
      />
      <section class="p" aria-label={t.failures.title}>
        <div class="body"><FilterBar query={query} keys={FAILURE_KEYS} label={t.failures.filter} hint={t.failures.hint} /></div>
        {wrong.map(({ key: of, wrong: why }) => why && <p class="wrong-note" role="alert"><Hostile text={t.jobs.wrong[why](of)} /></p>)}
        {list.problem && <Failed what={t.failures.title} problem={list.problem} at={list.at} retry={list.reload} />}
        {found && found.groups.length > 0 && (
          <Table
            label={t.failures.title}
            columns={[
              { head: t.failures.failure }, { head: t.failures.revisions, rank: 3 }, { head: t.failures.first, num: true, rank: 3 },
              { head: t.failures.last, num: true, rank: 2 }, { head: t.failures.dead, num: true }, { head: <span class="vh">{t.deed.act}</span> },
            ]}
            rows={found.groups.map((of) => ({
              key: `${of.tenant} ${of.fingerprint}`,
              head: (
                <>
                  <a href={href(['failures', of.tenant, of.fingerprint], { tenant, ...spanOf(query) })}><b>{of.reason ?? t.failures.none}</b></a>{' '}
                  <span class="q"><bdi>{tenant === undefined ? `${of.tenant} / ${of.kind}` : of.kind}</bdi></span>
                  <span class="sub"><Hostile text={of.pattern} /></span>
                  <span class="sub only-s"><Age at={of.last} /></span>
                </>
              ),
              cells: [
                of.revisions.length === 0 ? t.failures.noRevision : of.revisions.map((revision) => <code title={revision}>{revision.slice(0, 8)} </code>),
                <><Time at={of.first} /><span class="sub"><Age at={of.first} /></span></>,
                <><Time at={of.last} /><span class="sub"><Age at={of.last} /></span></>,
                <a href={jobsOf(of)}>{exact(of.jobs)}</a>,
                <Redrive of={of} at={list.at ?? now()} small after={list.reload} />,
              ],
            }))}
          />
        )}
        {found && found.groups.length === 0 && (
          <Empty title={t.failures.emptyTitle}><p>{t.failures.emptyText}</p>{terms.length > 0 && <a class="b" href={hrefWith(new URLSearchParams())}>{t.jobs.clear}</a>}</Empty>
        )}
        {found && <Foot of={found} />}
      </section>
      {!may('operate') && <p class="note">{t.deed.mayLook(t.failures.mayLook, 'operate')}</p>}
    </>
  );
}

/** The span of time of a query, which goes along to one of its groups. */
const spanOf = (query: URLSearchParams): { since?: string; until?: string } => ({
  ...(query.has('since') ? { since: query.get('since') ?? '' } : {}),
  ...(query.has('until') ? { until: query.get('until') ?? '' } : {}),
});

const jobsOf = (of: Group): string => href(['jobs'], { tenant: of.tenant, state: 'dead', kind: of.kind, reason: of.reason ?? undefined, message: commonOf(of) });

function Foot({ of }: { of: Found }): JSX.Element {
  return (
    <footer>
      <span class="grow">
        {of.complete ? t.failures.complete(of.looked_at) : t.failures.incomplete(of.looked_at)} {of.left_out > 0 && t.failures.leftOut(of.left_out)}
      </span>
    </footer>
  );
}

/** Redrives a group as it was at a time, by a filter that the dialog shows and counts. */
function Redrive({ of, at, small = false, after }: { of: Group; at: number; small?: boolean; after: () => void }): JSX.Element {
  const message = commonOf(of);
  // What has been enqueued since is not meant.
  const until = new Date(at).toISOString();
  const dead = { tenant: of.tenant, kind: of.kind, reason: of.reason, message };
  return (
    <Act
      label={t.failures.redrive}
      title={t.failures.redriveTitle(of.kind)}
      many={t.failures.redriveMany}
      tenant={of.tenant}
      deed={() => redriveDead(dead, until, false)}
      counted={redriveDead(dead, until, true)}
      small={small}
      said={t.failures.redriven}
      press="r"
      after={after}
    >
      <p>{t.failures.group(of.jobs)} {t.failures.filterIs}</p>
      <p><code><Hostile text={new URLSearchParams({ state: 'dead', kind: of.kind, ...(of.reason === null ? {} : { reason: of.reason }), ...(message === '' ? {} : { message }), until }).toString()} /></code></p>
      <p class="q"><Hostile text={message === '' ? t.failures.moreAll : t.failures.more(message)} /> {t.act.redrive.irrevocable}</p>
    </Act>
  );
}

/** One way to fail: its message, since when, on which revisions. */
export function Failure({ params, query }: ViewProps): JSX.Element {
  const { tenant = '', fingerprint = '' } = params;
  const span = asked(new URLSearchParams({ ...spanOf(query) }), now());
  const of = useSnapshot(JSON.stringify([tenant, fingerprint, spanOf(query)]), async (signal) => {
    const { groups } = await api.failures({ ...Object.fromEntries(span), tenant, limit: LOOKED_AT }, signal);
    return groups.find((group) => group.fingerprint === fingerprint) ?? null;
  });
  const group = of.loading ? undefined : of.data;
  useTitle(group ? `${group.reason ?? t.failures.none}, ${group.kind}` : t.failures.title);
  const crumb = <a href={href(['failures'], { tenant: scope(), ...spanOf(query) })}>{t.failures.title}</a>;
  if (group === null) {
    return (
      <>
        <Head crumb={crumb} title={t.failures.gone} sub={<code><Hostile text={fingerprint} /></code>} />
        <div class="p"><Empty title={t.failures.gone}><p>{t.failures.goneText}</p><a class="b" href={href(['failures'], { tenant })}>{t.failures.back}</a></Empty></div>
      </>
    );
  }
  return (
    <>
      <Head
        crumb={crumb}
        title={group === undefined ? <code><Hostile text={fingerprint} /></code> : <><bdi>{group.kind}</bdi>: {group.reason ?? t.failures.none}</>}
        acts={group && (
          <>
            <Redrive of={group} at={of.at ?? now()} after={of.reload} />
            <a class="b" href={jobsOf(group)}>{t.failures.look}</a>
            <CopyBoth command={command('sandhog', 'jobs', '--state', 'dead', '--tenant', tenant, '--kind', group.kind)} curl={curl('GET', location.origin + address('/v1/failures', { tenant, kind: group.kind }))} />
          </>
        )}
      />
      {of.problem && <Failed what={t.failures.title} problem={of.problem} at={of.at} retry={of.reload} />}
      {group === undefined && !of.problem && <p class="mu">{t.failures.loading}</p>}
      {group && (
        <>
          <WhyLine severity="crit" title={t.failures.count(group.jobs, 1)}>
            <p><Hostile text={group.pattern} panel /></p>
          </WhyLine>
          <div class="two">
            <Panel title={t.failures.message}><div class="body"><pre tabIndex={0}><Hostile text={group.message} lines panel /></pre></div></Panel>
            <Panel title={t.failures.details}>
              <div class="body">
                <dl class="dl">
                  <dt>{t.job.detail.tenant}</dt><dd><a href={href(['jobs'], { tenant })}><bdi>{tenant}</bdi></a></dd>
                  <dt>{t.job.detail.kind}</dt><dd><a href={href(['jobs'], { tenant, kind: group.kind })}><bdi>{group.kind}</bdi></a></dd>
                  <dt>{t.job.detail.queue}</dt><dd><a href={href(['queues', tenant, group.queue], { tenant: scope() })}><bdi>{group.queue}</bdi></a></dd>
                  <dt>{t.failures.first}</dt><dd><Time at={group.first} />, <Age at={group.first} /></dd>
                  <dt>{t.failures.last}</dt><dd><Time at={group.last} />, <Age at={group.last} /></dd>
                  <dt>{t.failures.example}</dt><dd><a class="m id" href={href(['jobs', tenant, group.example], { tenant: scope() })}>{group.example}</a></dd>
                  <dt>{t.failures.revisions}</dt><dd>{group.revisions.length === 0 ? t.failures.noRevision : group.revisions.map((revision) => <code title={revision}>{revision.slice(0, 12)} </code>)}</dd>
                </dl>
              </div>
            </Panel>
          </div>
        </>
      )}
      {!may('operate') && <p class="note">{t.deed.mayLook(t.failures.mayLook, 'operate')}</p>}
    </>
  );
}
