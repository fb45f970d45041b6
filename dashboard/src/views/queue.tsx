import type { JSX } from 'preact';
import { address, api, type Hold, type Job, type Queue as QueueDocument } from '../api.ts';
import { command, curl } from '../command.ts';
import { lift, pause } from '../deeds.ts';
import { Act } from '../parts/act.tsx';
import { CopyBoth } from '../parts/copy.tsx';
import { Figure, Figures } from '../parts/figure.tsx';
import { HoldAct, heldOf, HoldTable } from '../parts/holds.tsx';
import { Hostile } from '../parts/hostile.tsx';
import type { IconName } from '../parts/icon.tsx';
import { Empty, Failed } from '../parts/notice.tsx';
import { Head, Panel } from '../parts/panel.tsx';
import { Table } from '../parts/table.tsx';
import { Age, Time, told } from '../parts/time.tsx';
import { WhyLine } from '../parts/why.tsx';
import { href, scope } from '../place.ts';
import type { ViewProps } from '../routes.ts';
import { may } from '../session.ts';
import { useSnapshot } from '../snapshot.ts';
import { useNow } from '../store.ts';
import { t } from '../texts.ts';
import { useTitle } from '../title.ts';
import { duration } from '../units.ts';
import { holdsOf, verdictOf, type Verdict } from '../verdict.ts';

/** Most pages of the tenant's queues that are looked at for this one, and how many queues each has. */
const PAGES_MAX = 10;
const PAGE = 1000;
/** Ready jobs that are shown with what they wait for. */
const READY_SHOWN = 10;

/** Looks for a queue among its tenant's. Null if it has no jobs that aren't final. */
async function found(tenant: string, name: string, signal: AbortSignal): Promise<QueueDocument | null> {
  let after: string | undefined;
  for (let page = 0; page < PAGES_MAX; page++) {
    const { queues, next } = await api.queues({ tenant, limit: PAGE, after }, signal);
    const queue = queues.find((of) => of.tenant === tenant && of.queue === name);
    if (queue || next === null) return queue ?? null;
    after = next;
  }
  return null;
}

/** Whether one queue keeps up, and by what it is held back. */
export function Queue({ params }: ViewProps): JSX.Element {
  const { tenant = '', queue: name = '' } = params;
  const key = JSON.stringify([tenant, name]);
  const concerns = (event: { tenant: string; queue: string }): boolean => event.tenant === tenant && event.queue === name;
  const of = useSnapshot(key, (signal) => found(tenant, name, signal), concerns);
  const holds = useSnapshot(key, (signal) => api.holds({ tenant }, signal), concerns);
  const ready = useSnapshot(key, (signal) => api.jobs(new URLSearchParams({ tenant, queue: name, state: 'ready', limit: String(READY_SHOWN) }), signal), concerns);
  useTitle(t.queue.title(tenant, name));
  const queue = of.loading ? undefined : of.data;
  const touching = holdsOf(holds.data?.holds ?? [], tenant, name);
  const paused = touching.find((hold) => hold.reason === 'paused' && hold.queue === name && hold.kind === null);
  const reload = (): void => [of, holds, ready].forEach((one) => one.reload());
  const jobs = ready.loading ? [] : (ready.data?.jobs ?? []);
  return (
    <>
      <Head
        crumb={<a href={href(['queues'], { tenant: scope() })}>{t.queues.title}</a>}
        title={<bdi>{t.queue.title(tenant, name)}</bdi>}
        acts={
          <>
            {paused
              ? <Act label={t.queue.resume} title={t.queue.resumeTitle(name)} tenant={tenant} deed={() => lift(paused)} said={t.queue.resumed} after={reload}><p>{t.holds.lifts(t.holds.ofQueue(name))}</p></Act>
              : <Act label={t.queue.pause} title={t.queue.pauseTitle(name)} tenant={tenant} deed={(terms) => pause({ tenant, queue: name }, terms)} ends noted said={t.queue.paused} after={reload}><p>{t.queue.goesOn}</p></Act>}
            <a class="b" href={href(['jobs'], { tenant, queue: name })}>{t.queue.jobs}</a>
            <a class="b pl" href={href(['jobs'], { tenant, queue: name, state: 'dead' })}>{t.queue.dead}</a>
            <CopyBoth command={command('sandhog', 'queues', '--tenant', tenant)} curl={curl('GET', location.origin + address('/v1/queues', { tenant }))} />
          </>
        }
      />
      {of.problem && <Failed what={t.queue.title(tenant, name)} problem={of.problem} at={of.at} retry={of.reload} />}
      {queue === undefined && !of.problem && <p class="mu">{t.queue.loading}</p>}
      {queue === null && (
        <div class="p"><Empty title={t.queue.goneTitle}><p>{t.queue.goneText}</p><a class="b" href={href(['jobs'], { tenant, queue: name })}>{t.queue.jobs}</a></Empty></div>
      )}
      {queue && <Answer queue={queue} touching={touching} reload={reload} />}
      {queue && <Numbers queue={queue} />}
      {holds.problem && <Failed what={t.queue.holds} problem={holds.problem} at={holds.at} retry={holds.reload} />}
      {holds.data && (
        <Panel title={t.queue.holds} note={t.queue.holdsNote}>
          {touching.length === 0 ? <Empty title={t.queue.noHolds} /> : <HoldTable label={t.queue.holds} holds={touching} tenants={false} reload={reload} />}
        </Panel>
      )}
      {ready.problem && <Failed what={t.queue.waits} problem={ready.problem} at={ready.at} retry={ready.reload} />}
      {ready.data && !ready.loading && (
        <Panel title={t.queue.waits} note={jobs.length === 0 ? undefined : t.queue.waitsNote(jobs.length)}>
          {jobs.length === 0 ? <Empty title={t.queue.noWaits} /> : <Waiting jobs={jobs} />}
        </Panel>
      )}
      {!may('operate') && <p class="note">{t.deed.mayLook(t.queues.mayLook, 'operate')}</p>}
    </>
  );
}

const SHAPES: Record<Verdict['is'], IconName> = { held: 'pause', idle: 'ok', 'keeps-up': 'ok', behind: 'warn', stuck: 'warn' };

/** The verdict, with the hold that explains it, and the one way out. */
function Answer({ queue, touching, reload }: { queue: QueueDocument; touching: readonly Hold[]; reload: () => void }): JSX.Element {
  const { is, severity } = verdictOf(queue, useNow());
  const unwell = is === 'behind' || is === 'stuck' || is === 'held';
  const [cause, ...others] = unwell ? touching : [];
  const why = cause && (t.holds.reasons[cause.reason] ?? cause.reason);
  return (
    <WhyLine
      severity={severity}
      icon={severity === 'info' && is === 'behind' ? 'info' : SHAPES[is]}
      title={<bdi>{t.queue.line[is](t.queue.title(queue.tenant, queue.queue))}</bdi>}
      acts={cause && <HoldAct hold={cause} reload={reload} />}
    >
      <p>
        {queue.oldest_ready !== null && is !== 'idle' && <>{t.queue.oldest(told(queue.oldest_ready))} </>}
        {cause && why !== undefined && <Hostile text={cause.by === null ? t.queue.cause(heldOf(cause), why) : t.queue.causeBy(heldOf(cause), why, cause.by)} />}
        {others.length > 0 && <> {t.queue.causes(others.length)}</>}
        {unwell && !cause && is !== 'held' && t.queue.noCause}
      </p>
      {is === 'held' && <p>{t.queue.goesOn}</p>}
    </WhyLine>
  );
}

function Numbers({ queue }: { queue: QueueDocument }): JSX.Element {
  const { waited } = verdictOf(queue, useNow());
  return (
    <Figures title={t.queue.figures}>
      <div class="fig">
        <dt>{t.queue.oldestLabel}</dt>
        <dd class="v">{waited === undefined ? t.none : duration(Math.floor(waited / 1000) * 1000)}</dd>
        <dd class="w">{waited === undefined ? t.queue.noneReady : t.queue.oldestWindow(told(queue.oldest_ready))}</dd>
      </div>
      {(['ready', 'leased', 'scheduled', 'blocked'] as const).map((state) => {
        const count = queue.jobs[state];
        return (
          <Figure
            key={state}
            label={<a href={href(['jobs'], { tenant: queue.tenant, queue: queue.queue, state })}>{t.overview.figures[state]}</a>}
            value={count ?? undefined}
            unit={t.overview.unit(count ?? 0)}
            window={count === null ? t.queues.many : t.queue.windows[state]}
          />
        );
      })}
    </Figures>
  );
}

function Waiting({ jobs }: { jobs: readonly Job[] }): JSX.Element {
  return (
    <Table
      label={t.queue.waits}
      columns={[{ head: t.queue.job }, { head: t.queue.why }, { head: t.jobs.when, num: true, rank: 2 }]}
      rows={jobs.map((job) => ({
        key: job.id,
        head: <><a href={href(['jobs', job.tenant, job.id], { tenant: scope() })}><bdi>{job.kind}</bdi></a><span class="sub m id">{job.id}</span></>,
        cells: [
          job.waits.length === 0 ? t.state.ready : job.waits.map((wait, at) => <span class={at === 0 ? '' : 'sub'}><Hostile text={wait.text} /></span>),
          <><Time at={job.due_at ?? job.enqueued_at} /><span class="sub"><Age at={job.due_at ?? job.enqueued_at} /></span></>,
        ],
      }))}
    />
  );
}
