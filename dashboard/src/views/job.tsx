import type { ComponentChildren, JSX } from 'preact';
import { useEffect, useState } from 'preact/hooks';
import { ACTIONS, isEditable, type Action } from '../actions.ts';
import { address, api, type Content, type Job as JobDocument, type LogLine } from '../api.ts';
import { useChange } from '../change.ts';
import { command, curl } from '../command.ts';
import { rawAt, pretty, treeOf } from '../json.ts';
import { Copy, CopyBoth } from '../parts/copy.tsx';
import { Confirm } from '../parts/dialog.tsx';
import { EditJob } from '../parts/edit.tsx';
import { Hostile } from '../parts/hostile.tsx';
import { Icon, type IconName } from '../parts/icon.tsx';
import { JsonTree } from '../parts/json.tsx';
import { Meter } from '../parts/meter.tsx';
import { Empty, Failed } from '../parts/notice.tsx';
import { Head, Panel } from '../parts/panel.tsx';
import { StateBadge } from '../parts/state.tsx';
import { Table } from '../parts/table.tsx';
import { Age, Time } from '../parts/time.tsx';
import { WhyLine, type Severity } from '../parts/why.tsx';
import { href, hrefWith, scope } from '../place.ts';
import type { ViewProps } from '../routes.ts';
import { may } from '../session.ts';
import { useSnapshot } from '../snapshot.ts';
import { now } from '../store.ts';
import { SHOWN_MAX } from '../text.ts';
import { t } from '../texts.ts';
import { blocksOf, widthsOf, type Block } from '../timeline.ts';
import { useTitle } from '../title.ts';
import { bytes, clock, duration, exact, fuel, precise, timeOf } from '../units.ts';

/** Most lines of a log that the page shows at once. */
const LOG_MAX = 1000;

/** Stands for the tenant where it isn't known: a job's id is enough to find it. */
export const ANY_TENANT = '-';

/** Why a job doesn't run, what happened to it, and what it cost. */
export function Job({ params, query }: ViewProps): JSX.Element {
  const { tenant = ANY_TENANT, id = '' } = params;
  const of = useSnapshot(
    `${tenant} ${id}`,
    (signal) => api.job(tenant === ANY_TENANT ? '' : tenant, id, signal),
    (event) => event.job === id,
  );
  const job = of.loading ? undefined : of.data?.job;
  useTitle(t.job.title(job?.kind ?? id));
  if (of.problem?.slug === 'unknown-job' || of.problem?.slug === 'unknown-tenant') return <Gone tenant={tenant} id={id} />;
  if (job === undefined) {
    return (
      <>
        <Head crumb={<Crumb />} title={<code>{id}</code>} />
        {of.problem ? <Failed what={t.job.title('')} problem={of.problem} retry={of.reload} /> : <p class="mu">{t.job.loading}</p>}
      </>
    );
  }
  const blocks = blocksOf(job, now());
  const run = Number(query.get('run')) || undefined;
  return (
    <>
      <Head
        crumb={<Crumb />}
        title={<><bdi>{job.kind}</bdi> <StateBadge state={job.state} tag /></>}
        sub={<span class="m id">{job.id}</span>}
        acts={<Actions job={job} text={of.data?.text ?? ''} reload={of.reload} />}
      />
      {of.problem && <Failed what={t.job.title(job.kind)} problem={of.problem} at={of.at} retry={of.reload} />}
      <Why job={job} />
      {job.progress && <Panel title={t.job.progress}><div class="body mts"><Progress of={job.progress} /></div></Panel>}
      <Panel title={t.job.timeline} note={t.job.timelineNote}>
        <div class="body">
          {blocks.length > 0 && <Timeline blocks={blocks} />}
          <Happened job={job} blocks={blocks} />
        </div>
      </Panel>
      <div class="two">
        <div class="stack">
          <Attempts job={job} run={run} query={query} />
          <Log lines={job.log ?? []} run={run} query={query} />
        </div>
        <div class="stack">
          <Contents job={job} text={of.data?.text ?? ''} />
          <Details job={job} />
        </div>
      </div>
    </>
  );
}

const Crumb = (): JSX.Element => <a href={href(['jobs'])}>{t.job.crumb}</a>;

function Gone({ tenant, id }: { tenant: string; id: string }): JSX.Element {
  return (
    <>
      <Head crumb={<Crumb />} title={t.job.gone} sub={<code><Hostile text={id} /></code>} />
      <div class="p"><Empty title={t.job.gone}><p>{t.job.goneText}</p><a class="b" href={href(['jobs'], tenant === ANY_TENANT ? {} : { tenant })}>{t.job.goneBack}</a></Empty></div>
    </>
  );
}

/** What can be done to the job. What has been asked for is shown as done once it has taken effect. */
function Actions({ job, text, reload }: { job: JobDocument; text: string; reload: () => void }): JSX.Element {
  const [asked, setAsked] = useState<{ action: Action; at: number; from: string }>();
  const [refused, setRefused] = useState<string>();
  const [asking, setAsking] = useState(false);
  const { busy, problem, change } = useChange();
  const act = async (action: Action): Promise<void> => {
    setRefused(undefined);
    await change(async () => {
      const done = action === 'remove' ? await api.remove(job.tenant, job.id) : await api.act(job.tenant, job.id, action);
      if (done.done === null) setRefused(done.refused ?? t.unknown);
      else setAsked({ action, at: now(), from: job.state });
      reload();
    });
    setAsking(false);
  };
  const path = `/v1/jobs/${encodeURIComponent(job.id)}`;
  const url = new URL(address(path, { tenant: job.tenant }), location.origin).href;
  return (
    <>
      {may('operate') && ACTIONS[job.state].map((action) => (
        <button
          key={action}
          class={`b${action === 'remove' ? ' risk' : ''}`}
          type="button"
          disabled={busy}
          data-key={action === 'redrive' ? 'r' : undefined}
          onClick={() => (action === 'remove' ? setAsking(true) : void act(action))}
        >{t.act[action].button}</button>
      ))}
      {may('edit') && isEditable(job.state) && job.unreadable === null && <EditJob key={`${job.id} ${job.priority}`} job={job} text={text} after={reload} />}
      <CopyBoth command={command('sandhog', 'job', 'show', job.id, '--tenant', job.tenant)} curl={curl('GET', url)} />
      {ACTIONS[job.state].map((action) => (
        <Copy key={action} label={`${t.copy.command}: ${t.act[action].ask}`} text={command('sandhog', 'job', action, job.id, '--tenant', job.tenant)} />
      ))}
      {asked && <p class="note full" role="status">{asked.from === job.state ? t.act.asked(t.act[asked.action].ask, precise(asked.at)) : t.act.took(t.act[asked.action].ask, precise(now()))}</p>}
      {refused !== undefined && <p class="note full" role="alert"><Hostile text={t.act.refused(refused)} /></p>}
      {problem && <div class="full"><Failed what={t.job.title(job.kind)} problem={problem} /></div>}
      {asking && (
        <Confirm title={t.act.oneTitle(job.kind)} button={t.act.remove.many(t.act.count(1))} risk busy={busy} close={() => setAsking(false)} confirm={() => void act('remove')}>
          <p><code>{job.id}</code></p>
          <p class="q">{t.act.remove.irrevocable}</p>
        </Confirm>
      )}
    </>
  );
}

const at = (text: string | null): string => {
  const time = timeOf(text);
  return time === undefined ? t.unknown : clock(time, now());
};

/** The answer: why the job is where it is. */
function Why({ job }: { job: JobDocument }): JSX.Element {
  const took = job.usage.wall_us > 0 ? <p>{t.job.why.tookAll(duration(job.usage.wall_us / 1000), Math.max(1, job.attempts))}</p> : null;
  if (job.unreadable !== null) return <WhyLine severity="warn" icon="hold" title={t.job.unreadable(job.unreadable)} />;
  switch (job.state) {
    case 'succeeded':
      return <WhyLine severity="ok" title={t.job.why.succeeded(at(job.finished_at))}>{took}</WhyLine>;
    case 'dead':
      return (
        <WhyLine severity="crit" title={t.job.why.dead(at(job.finished_at), job.reason ?? t.unknown)}>
          {job.message !== null && <p class="lines"><Hostile text={job.message} lines panel /></p>}
          {took}
        </WhyLine>
      );
    case 'cancelled':
      return <WhyLine severity="info" icon="cancelled" title={t.job.why.cancelled(at(job.finished_at))}>{job.message !== null && <p><Hostile text={job.message} panel /></p>}{took}</WhyLine>;
    case 'leased':
      return <WhyLine severity="info" icon="leased" title={t.job.why.leased(at(job.leased_at))}><p>{t.job.why.lease(at(job.lease_expires_at))}</p></WhyLine>;
    case 'blocked':
      return (
        <WhyLine severity="info" icon="blocked" title={t.job.why.blocked(job.waits_for.length)}>
          <p class="m">{job.waits_for.map((id) => <><a href={href(['jobs', job.tenant, id], { tenant: scope() })}>{id}</a> </>)}</p>
        </WhyLine>
      );
    default:
      return <Waits job={job} />;
  }
}

/** Waits that somebody has to see to. */
const SERIOUS: Record<string, Severity> = { 'no-plugin': 'crit', breaker: 'warn', fuel: 'warn' };

/** What a job waits for. The wait that ends last leads; the others follow. */
function Waits({ job }: { job: JobDocument }): JSX.Element {
  const [first, ...others] = job.waits;
  if (!first) {
    return job.state === 'scheduled'
      ? <WhyLine severity="info" icon="scheduled" title={t.job.why.scheduled(at(job.due_at))} />
      : <WhyLine severity="info" icon="ready" title={t.job.why.ready} />;
  }
  const reason = first.hold?.reason ?? first.reason;
  const icon: IconName = reason === 'paused' ? 'pause' : reason === 'time' || reason === 'retry' ? 'scheduled' : reason === 'turn' ? 'ready' : SERIOUS[reason] ?? 'hold';
  return (
    <WhyLine severity={SERIOUS[reason] ?? 'info'} icon={icon} title={<Hostile text={first.text} />}>
      <p>
        {t.job.wait[reason] ?? reason}.{' '}
        {first.until !== null && <>{t.job.why.until(at(first.until))} <Age at={first.until} /></>}
      </p>
      {first.hold?.note && <p><Hostile text={t.overview.note(first.hold.note)} /></p>}
      {others.length > 0 && <p>{t.job.why.then} {others.map((wait, index) => <>{index > 0 && '; '}<Hostile text={wait.text} /></>)}</p>}
    </WhyLine>
  );
}

function Progress({ of }: { of: NonNullable<JobDocument['progress']> }): JSX.Element {
  return (
    <>
      {of.total === null
        ? <p>{exact(of.done)}</p>
        : <Meter label={t.job.progress} value={of.done} max={of.total} words={t.job.progressOf(of.done, of.total)} />}
      {of.message !== null && <p><Hostile text={of.message} panel /></p>}
    </>
  );
}

const CLASS: Record<Block['is'], string> = { wait: 'wait', run: 'live', ok: 'ok', bad: 'run', next: 'next' };
const WIDTH = 1000;
const LEAST = 56;
const GAP = 8;
/** Most stretches that are drawn; the list below has all. */
const DRAWN = 12;

/** Waits and runs as blocks in order; idle time is shortened, and the true time stands under each. */
function Timeline({ blocks }: { blocks: readonly Block[] }): JSX.Element {
  const drawn = blocks.slice(-DRAWN);
  const times = drawn.map((block) => (block.to ?? now()) - block.from);
  const widths = widthsOf(times, WIDTH - GAP * (drawn.length - 1), LEAST);
  const [first, last] = [drawn[0], drawn[drawn.length - 1]];
  let x = 0;
  const runs = drawn.filter((block) => block.attempt !== undefined).length;
  return (
    <div class="scroll tl-w" tabIndex={0} role="region" aria-label={t.job.timelineDrawn}>
      <svg class="tl" viewBox={`0 0 ${WIDTH} 70`} role="img" aria-label={t.job.timelineSentence(runs, first ? precise(first.from) : '', last ? precise(last.to ?? now()) : '')}>
        {drawn.map((block, index) => {
          const [left, width, time] = [x, widths[index] ?? LEAST, times[index] ?? 0];
          x += width + GAP;
          return (
            <g key={index}>
              <rect class={CLASS[block.is]} x={left} y="18" width={width} height="26" rx="4" />
              {block.attempt !== undefined && <text class="b1" x={left + width / 2} y="35" text-anchor="middle">{block.attempt}</text>}
              <text x={left + width / 2} y="60" text-anchor="middle">{duration(time)}</text>
            </g>
          );
        })}
      </svg>
    </div>
  );
}

/** The same as a list, which is all that a phone gets. */
function Happened({ job, blocks }: { job: JobDocument; blocks: readonly Block[] }): JSX.Element {
  const line = (key: string, time: number | undefined, kind: string, icon: IconName, text: ComponentChildren, sub?: ComponentChildren): JSX.Element => (
    <li key={key} class={kind}>
      {time === undefined ? <span class="mu">{t.none}</span> : <time dateTime={new Date(time).toISOString()} title={new Date(time).toISOString()}>{clock(time, now())}</time>}
      <Icon name={icon} />
      <div>{text}{sub !== undefined && <span class="sub">{sub}</span>}</div>
    </li>
  );
  const due = timeOf(job.due_at);
  return (
    <ol class="ev">
      {line('enqueued', timeOf(job.enqueued_at), '', 'ready', t.job.enqueued)}
      {(job.history ?? []).map((of) =>
        line(
          `attempt ${of.ended_at} ${of.attempt}`,
          timeOf(of.ended_at),
          of.reason === null ? '' : 'k-bad',
          of.reason === null ? 'succeeded' : 'dead',
          of.reason === null
            ? t.job.succeededIn(of.attempt, duration(of.usage.wall_us / 1000))
            : t.job.ended(of.attempt, duration(of.usage.wall_us / 1000), of.reason),
          <>{of.daemon !== null && <>{t.job.onDaemon(of.daemon)} </>}{of.message !== null && <Hostile text={of.message} />}</>,
        ),
      )}
      {blocks.some((block) => block.is === 'run') && line('runs', timeOf(job.leased_at), 'k-run', 'leased', t.job.runsNow(job.attempts + 1))}
      {due !== undefined && due > now() && line('due', due, '', 'scheduled', t.job.due)}
      {job.finished_at !== null && line('final', timeOf(job.finished_at), job.state === 'dead' ? 'k-bad' : '', job.state === 'leased' ? 'leased' : (job.state as IconName), t.job.final(job.state))}
    </ol>
  );
}

/** The query with another attempt looked at. */
function withRun(query: URLSearchParams, run: number | undefined): string {
  const next = new URLSearchParams(query);
  if (run === undefined) next.delete('run');
  else next.set('run', String(run));
  return hrefWith(next);
}

function Attempts({ job, run, query }: { job: JobDocument; run: number | undefined; query: URLSearchParams }): JSX.Element {
  const history = [...(job.history ?? [])].reverse();
  return (
    <Panel title={t.job.attempts} note={t.job.attemptsNote(job.attempts)}>
      {history.length === 0 ? <Empty title={t.job.noAttempts} /> : (
        <Table
          label={t.job.attempts}
          columns={[
            { head: '' }, { head: t.job.end }, { head: t.job.fuel, num: true }, { head: t.job.memory, num: true, rank: 2 },
            { head: t.job.wall, num: true }, { head: t.job.cpu, num: true, rank: 2 }, { head: t.job.calls, num: true, rank: 3 }, { head: t.job.revision, rank: 3 },
          ]}
          rows={history.map((of) => ({
            key: `${of.attempt} ${of.ended_at}`,
            head: <a href={withRun(query, of.attempt)} aria-current={run === of.attempt ? 'true' : undefined}>{exact(of.attempt)}</a>,
            cells: [
              <>
                {of.reason === null ? <StateBadge state="succeeded" /> : <b>{of.reason}</b>}
                {of.message !== null && <span class="sub"><Hostile text={of.message} /></span>}
                <span class="sub"><Time at={of.ended_at} /></span>
              </>,
              <span title={exact(of.usage.fuel)}>{fuel(of.usage.fuel)}</span>,
              <span title={exact(of.usage.memory_peak)}>{bytes(of.usage.memory_peak)}</span>,
              duration(of.usage.wall_us / 1000),
              duration(of.usage.cpu_us / 1000),
              exact(of.usage.host_calls),
              of.revision === null ? t.none : <code title={of.revision}>{of.revision.slice(0, 12)}</code>,
            ],
          }))}
        />
      )}
    </Panel>
  );
}

const LEVEL: Partial<Record<LogLine['level'], string>> = { warn: 'lv-w', error: 'lv-e' };

function Log({ lines, run, query }: { lines: readonly LogLine[]; run: number | undefined; query: URLSearchParams }): JSX.Element {
  const wanted = lines.filter((line) => run === undefined || line.attempt === run);
  const shown = wanted.slice(-LOG_MAX);
  const end = useState<HTMLOListElement | null>(null);
  const [list, setList] = end;
  useEffect(() => {
    // It sticks to its end, unless somebody has scrolled away from there.
    if (list && list.scrollHeight - list.scrollTop - list.clientHeight < 60) list.scrollTop = list.scrollHeight;
  }, [list, shown.length]);
  return (
    <Panel
      title={run === undefined ? t.job.log : `${t.job.log}: ${t.job.run(run)}`}
      note={t.job.logNote(wanted.length)}
      acts={run !== undefined && <a class="b pl" href={withRun(query, undefined)}>{t.job.logAll}</a>}
    >
      <div class="body">
        {shown.length === 0 ? <p class="mu">{t.job.logNone}</p> : (
          <>
            {wanted.length > shown.length && <p class="note">{t.job.logCut(wanted.length - shown.length)}</p>}
            <ol class="log" tabIndex={0} aria-label={t.job.log} ref={setList}>
              {shown.map((line, index) => (
                <li key={index}>
                  <time dateTime={line.at} title={line.at}>{precise(timeOf(line.at) ?? 0)}</time>
                  <span class={LEVEL[line.level] ?? 'mu'}>{line.level}</span>
                  <span class="msg">
                    <Hostile text={line.message} lines />
                    {line.fields.map(([name, value]) => <span class="mu"> <Hostile text={`${name}=${value}`} lines /></span>)}
                  </span>
                </li>
              ))}
            </ol>
          </>
        )}
      </div>
    </Panel>
  );
}

function Contents({ job, text }: { job: JobDocument; text: string }): JSX.Element {
  if (job.payload === undefined) {
    return (
      <Panel title={t.job.payload}>
        <div class="body"><div class="hid"><p><Icon name="eyeoff" /> <b>{t.job.hidden}</b></p><p class="q">{t.job.hiddenText}</p></div></div>
      </Panel>
    );
  }
  return (
    <>
      <Panel title={t.job.payload} note={job.content_type === null ? undefined : <Hostile text={job.content_type} />}>
        <div class="body"><Bytes of={job.payload} raw={rawAt(text, ['payload', 'json'])} /></div>
      </Panel>
      {job.output && (
        <Panel title={t.job.output}><div class="body"><Bytes of={job.output} raw={rawAt(text, ['output', 'json'])} /></div></Panel>
      )}
    </>
  );
}

function Bytes({ of, raw }: { of: Content; raw: string | undefined }): JSX.Element {
  if ('json' in of) {
    const tree = raw !== undefined && raw.length <= SHOWN_MAX ? treeOf(raw) : undefined;
    return tree && tree.is !== 'leaf' ? <JsonTree of={tree} /> : <pre tabIndex={0}><Hostile text={raw === undefined ? '' : pretty(raw)} lines panel /></pre>;
  }
  if ('text' in of) return of.text === '' ? <p class="mu">{t.job.empty}</p> : <pre tabIndex={0}><Hostile text={of.text} lines panel /></pre>;
  return <><p class="note">{t.job.hex}</p><pre tabIndex={0}><Hostile text={of.hex} panel /></pre></>;
}

function Details({ job }: { job: JobDocument }): JSX.Element {
  const d = t.job.detail;
  const row = (name: string, value: ComponentChildren): JSX.Element | null => (value === null || value === undefined ? null : <><dt>{name}</dt><dd>{value}</dd></>);
  const text = (value: string | null): ComponentChildren => (value === null ? null : <span class="m"><Hostile text={value} /></span>);
  return (
    <Panel title={t.job.details}>
      <div class="body">
        <dl class="dl">
          {row(d.tenant, <a href={href(['jobs'], { tenant: job.tenant })}><bdi>{job.tenant}</bdi></a>)}
          {row(d.queue, <a href={href(['queues', job.tenant, job.queue], { tenant: scope() })}><bdi>{job.queue}</bdi></a>)}
          {row(d.kind, <a href={href(['jobs'], { tenant: job.tenant, kind: job.kind })}><bdi>{job.kind}</bdi></a>)}
          {row(d.group, job.group === null ? null : <a class="m" href={href(['jobs'], { tenant: job.tenant, group: job.group })}><Hostile text={job.group} /></a>)}
          {row(d.priority, exact(job.priority))}
          {row(d.unique, text(job.unique_key))}
          {Object.keys(job.labels).length > 0 && row(d.labels, Object.entries(job.labels).map(([name, value]) => (
            <><a class="m" href={href(['jobs'], { tenant: job.tenant, label: [`${name}=${value}`] })}><Hostile text={`${name}=${value}`} /></a> </>
          )))}
          {row(d.start, job.start_by === null ? null : <><Time at={job.start_by} />, <Age at={job.start_by} /></>)}
          {row(d.deadline, job.deadline === null ? null : <><Time at={job.deadline} />, <Age at={job.deadline} /></>)}
          {row(d.flow, job.flow === null ? null : <a class="m id" href={href(['flows', job.tenant, job.flow], { tenant: scope() })}>{job.flow}</a>)}
          {row(d.revision, text(job.revision))}
          {row(d.trace, text(job.traceparent))}
          {row(d.type, text(job.content_type))}
          {job.expiries > 0 && row(d.expiries, exact(job.expiries))}
        </dl>
      </div>
    </Panel>
  );
}
