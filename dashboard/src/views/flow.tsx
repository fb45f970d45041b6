import type { JSX } from 'preact';
import { address, api, type Flow as FlowDocument, type FlowJob } from '../api.ts';
import { command, curl } from '../command.ts';
import { actFlow } from '../deeds.ts';
import { STATES } from '../filter.ts';
import { layersOf } from '../graph.ts';
import { Act } from '../parts/act.tsx';
import { CopyBoth } from '../parts/copy.tsx';
import { TYPED_FROM } from '../parts/dialog.tsx';
import { FlowGraph } from '../parts/graph.tsx';
import { Hostile } from '../parts/hostile.tsx';
import { Empty, Failed } from '../parts/notice.tsx';
import { Head, Panel } from '../parts/panel.tsx';
import { StateBadge } from '../parts/state.tsx';
import { Table } from '../parts/table.tsx';
import { Age, Time } from '../parts/time.tsx';
import { WhyLine } from '../parts/why.tsx';
import { href, hrefWith, scope } from '../place.ts';
import type { ViewProps } from '../routes.ts';
import { may } from '../session.ts';
import { useSnapshot } from '../snapshot.ts';
import { t } from '../texts.ts';
import { useTitle } from '../title.ts';
import { duration, exact, fuel } from '../units.ts';
import { ANY_TENANT } from './job.tsx';

const isFinal = (job: FlowJob): boolean => job.finished_at !== null;

/** What a flow waits for, and what has become of its jobs. */
export function Flow({ params, query }: ViewProps): JSX.Element {
  const { tenant = ANY_TENANT, id = '' } = params;
  const asked = { tenant: tenant === ANY_TENANT ? undefined : tenant };
  const jobsOf = new Set<string>();
  const of = useSnapshot(JSON.stringify([tenant, id]), (signal) => api.flow(asked, id, signal), (event) => jobsOf.has(event.job));
  const flow = of.loading ? undefined : of.data;
  for (const job of flow?.jobs ?? []) jobsOf.add(job.id);
  useTitle(t.flow.title(id));
  const crumb = <a href={href(['flows'], { tenant: scope() })}>{t.flows.title}</a>;
  if (of.problem?.status === 404) {
    return (
      <>
        <Head crumb={crumb} title={t.flow.gone} sub={<code><Hostile text={id} /></code>} />
        <div class="p"><Empty title={t.flow.gone}><p>{t.flow.goneText}</p><a class="b" href={href(['flows'], { tenant: scope() })}>{t.flow.back}</a></Empty></div>
      </>
    );
  }
  const fold = query.get('fold') !== '0';
  const other = new URLSearchParams(query);
  if (fold) other.set('fold', '0');
  else other.delete('fold');
  return (
    <>
      <Head
        crumb={crumb}
        title={<span class="m id"><Hostile text={flow?.flow ?? id} /></span>}
        sub={flow && [t.flow.of(flow.jobs.length), ...STATES.flatMap((state) => {
          const count = flow.jobs.filter((job) => job.state === state).length;
          return count === 0 ? [] : [t.flow.state(count, t.state[state])];
        })].join(', ')}
        acts={
          <>
            {flow && <Acts flow={flow} reload={of.reload} />}
            <CopyBoth
              command={command('sandhog', 'flow', 'show', id, ...(asked.tenant === undefined ? [] : ['--tenant', asked.tenant]))}
              curl={curl('GET', location.origin + address(`/v1/flows/${encodeURIComponent(id)}`, asked))}
            />
          </>
        }
      />
      {of.problem && <Failed what={t.flow.title(id)} problem={of.problem} at={of.at} retry={of.reload} />}
      {flow === undefined && !of.problem && <p class="mu">{t.flow.loading}</p>}
      {flow && (
        <>
          <Answer jobs={flow.jobs} />
          {flow.jobs.length > 0 && <FlowGraph jobs={flow.jobs} fold={fold} foldHref={hrefWith(other)} />}
          <Jobs flow={flow} reload={of.reload} />
          {flow.unread.length > 0 && <p class="note">{t.flow.unread(flow.unread.length)}: <code>{flow.unread.join(' ')}</code></p>}
        </>
      )}
      {!may('operate') && <p class="note">{t.deed.mayLook(t.flow.mayLook, 'operate')}</p>}
    </>
  );
}

function Acts({ flow, reload }: { flow: FlowDocument; reload: () => void }): JSX.Element {
  const dead = flow.jobs.filter((job) => job.state === 'dead').length;
  const left = flow.jobs.filter((job) => !isFinal(job)).length;
  return (
    <>
      {dead > 0 && (
        <Act label={t.flow.redrive} title={t.failures.redriveMany(dead)} tenant={flow.tenant} deed={() => actFlow(flow.tenant, flow.flow, 'redrive')} said={t.flow.redriven} press="r" after={reload}>
          <p>{t.flow.redriveText}</p>
        </Act>
      )}
      {left > 0 && (
        <Act
          label={t.flow.cancel}
          title={t.flow.cancelMany(left)}
          tenant={flow.tenant}
          deed={() => actFlow(flow.tenant, flow.flow, 'cancel')}
          typed={left > TYPED_FROM ? { number: left, label: t.flow.cancelType(left) } : undefined}
          risk
          said={t.flow.cancelled}
          after={reload}
        >
          <p>{t.flow.cancelText}</p>
        </Act>
      )}
    </>
  );
}

/** What the flow waits for: what is dead first, then what others wait for. */
function Answer({ jobs }: { jobs: readonly FlowJob[] }): JSX.Element {
  const of = (state: FlowJob['state']): FlowJob[] => jobs.filter((job) => job.state === state);
  const [dead, running, blocked] = [of('dead'), of('leased'), of('blocked')];
  const runs = running.length > 0 && <p>{t.flow.runs(running.length)}</p>;
  if (dead.length > 0) {
    return <WhyLine severity="crit" title={t.flow.line.dead(dead.length)}><p>{t.flow.deadText(blocked.length)}</p>{runs}</WhyLine>;
  }
  const open = [...of('ready'), ...of('scheduled'), ...running];
  const [first, ...others] = open;
  if (first) {
    return (
      <WhyLine severity="info" icon={first.state} title={<Hostile text={others.length === 0 ? t.flow.line.waits(first.name) : t.flow.line.waitsMore(first.name, others.length)} />}>
        {first.waits?.[0] && <p><Hostile text={first.waits[0].text} /></p>}
        {runs}
      </WhyLine>
    );
  }
  return jobs.every((job) => job.state === 'succeeded')
    ? <WhyLine severity="ok" title={t.flow.line.succeeded} />
    : <WhyLine severity="info" title={t.flow.line.final} />;
}

function Jobs({ flow, reload }: { flow: FlowDocument; reload: () => void }): JSX.Element {
  const layers = layersOf(flow.jobs);
  const shown = [...flow.jobs].sort((one, other) => (layers.get(one.id) ?? 0) - (layers.get(other.id) ?? 0));
  return (
    <Panel title={t.flow.table}>
      <Table
        label={t.flow.table}
        columns={[
          { head: t.flow.job }, { head: t.flow.stateHead }, { head: t.flow.after, rank: 2 }, { head: t.flow.ended, num: true, rank: 3 },
          { head: t.flow.took, num: true, rank: 2 }, { head: t.flow.fuel, num: true, rank: 3 }, { head: <span class="vh">{t.deed.act}</span>, rank: 2 },
        ]}
        rows={shown.map((job) => ({
          key: job.id,
          head: <><a href={href(['jobs', job.tenant, job.id], { tenant: scope() })}><Hostile text={job.name} /></a><span class="sub"><bdi>{job.kind}</bdi></span></>,
          cells: [
            <><StateBadge state={job.state} />{job.reason !== null && <span class="sub">{job.reason}</span>}{job.message !== null && <span class="sub"><Hostile text={job.message} /></span>}</>,
            job.after.length === 0 ? t.none : job.after.map((parent) => <span class="sub"><Hostile text={parent.job} />{parent.on_failure !== 'fail' && <>, {t.flow.rule[parent.on_failure]}</>}</span>),
            <><Time at={job.finished_at} /><span class="sub"><Age at={job.finished_at} /></span></>,
            job.usage.wall_us > 0 ? duration(job.usage.wall_us / 1000) : t.none,
            job.usage.fuel > 0 ? <span title={exact(job.usage.fuel)}>{fuel(job.usage.fuel)}</span> : t.none,
            job.state === 'dead' && (
              <Act label={t.flow.redriveFrom} title={t.flow.redriveFromTitle(job.name)} tenant={flow.tenant} deed={() => actFlow(flow.tenant, flow.flow, 'redrive', job.name)} small said={t.flow.redriven} after={reload}>
                <p>{t.flow.redriveFromText}</p>
              </Act>
            ),
          ],
        }))}
      />
    </Panel>
  );
}
