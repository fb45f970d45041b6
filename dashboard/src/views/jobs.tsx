import type { JSX } from 'preact';
import { useEffect, useRef, useState } from 'preact/hooks';
import { ACTIONS, type Action } from '../actions.ts';
import { address, api, type Bulk, type Counts, type Job, type Page } from '../api.ts';
import { useChange } from '../change.ts';
import { command, curl, options } from '../command.ts';
import { asked, bulkOf, STATES, termsOf, withoutTerm, withTerm, isState } from '../filter.ts';
import { live } from '../live.ts';
import { Copy, CopyBoth } from '../parts/copy.tsx';
import { Confirm, TYPED_FROM } from '../parts/dialog.tsx';
import { FilterBar } from '../parts/filter-bar.tsx';
import { Hostile } from '../parts/hostile.tsx';
import { Empty, Failed } from '../parts/notice.tsx';
import { Paging } from '../parts/paging.tsx';
import { Head } from '../parts/panel.tsx';
import { StateBadge, StateMark } from '../parts/state.tsx';
import { Table } from '../parts/table.tsx';
import { Age, Time } from '../parts/time.tsx';
import { say } from '../parts/toast.tsx';
import { href, hrefWith, scope } from '../place.ts';
import type { ViewProps } from '../routes.ts';
import { may, session } from '../session.ts';
import { useSnapshot } from '../snapshot.ts';
import { now } from '../store.ts';
import { t } from '../texts.ts';
import { useTitle } from '../title.ts';
import { duration, exact, fuel, rounded } from '../units.ts';

/** The time that matters most of a job in its state. */
const whenOf = (job: Job): string | null =>
  job.finished_at ?? (job.state === 'leased' ? job.leased_at : null) ?? job.due_at ?? job.enqueued_at;

/** Which jobs, and why they are there. */
export function Jobs({ query }: ViewProps): JSX.Element {
  const terms = termsOf(query);
  const wrong = terms.filter((term) => term.wrong !== undefined);
  const state = query.get('state') ?? undefined;
  const tenant = scope();
  const key = wrong.length > 0 ? undefined : asked(query, 0).toString();
  const list = useSnapshot(key, async (signal) => {
    const began = performance.now();
    const page = await api.jobs(asked(query, now()), signal);
    return { page, took: performance.now() - began };
  });
  const changes = useChanges(key, list.at, query);
  const [picked, setPicked] = useState<ReadonlySet<string>>(new Set());
  useEffect(() => setPicked(new Set()), [key]);

  const title =
    state !== undefined && tenant !== undefined ? t.jobs.titleOf(state, tenant)
    : state !== undefined ? t.jobs.titleState(state)
    : tenant !== undefined ? t.jobs.titleTenant(tenant)
    : t.jobs.title;
  useTitle(title);

  const filters = new URLSearchParams(query);
  filters.delete('live');
  const page = list.data?.page;
  const jobs = page?.jobs ?? [];
  const next = page && state !== undefined && page.tenants.length === 1 ? page.tenants[0]?.next : undefined;
  const goesOn = page?.tenants.some((of) => of.next !== null) === true;
  return (
    <>
      <Head
        title={<Hostile text={title} />}
        acts={<CopyBoth
          command={command('sandhog', 'jobs', ...options(filters))}
          curl={curl('GET', new URL(address('/v1/jobs', asked(query, now())), location.origin).href)}
        />}
      />
      <section class="p" aria-label={t.jobs.title}>
        <div class="body"><FilterBar query={query} /></div>
        <StateTabs query={query} state={state} counts={countsOf(page)} />
        {wrong.map(({ key: of, wrong: why }) => why && <p class="wrong-note" role="alert"><Hostile text={t.jobs.wrong[why](of)} /></p>)}
        {changes > 0 && <button class="newrows" type="button" onClick={list.reload}>{t.jobs.newer(changes)}</button>}
        {list.problem && <Failed what={t.jobs.title} problem={list.problem} at={list.at} retry={list.reload} />}
        {page && jobs.length > 0 && <Rows jobs={jobs} picked={picked} setPicked={setPicked} />}
        {page && jobs.length === 0 && <Nothing filtered={terms.length > 0} />}
        {page && page.unread.length > 0 && (
          <div class="body"><p><b>{t.jobs.unread(page.unread.length)}</b></p><ul>{page.unread.map((of) => <li><code>{of.id}</code> <Hostile text={of.problem} /></li>)}</ul></div>
        )}
        {picked.size > 0 && page && (
          <BulkBar query={query} jobs={jobs} picked={picked} clear={() => setPicked(new Set())} reload={list.reload} />
        )}
        {page && (
          <Paging
            first={query.has('after') ? hrefWith(withoutTerm(query, 'after')) : undefined}
            next={next ? hrefWith(nextOf(query, next)) : undefined}
          >
            {t.jobs.shown(jobs.length)}. {t.jobs.reach(duration(list.data?.took ?? 0))}{' '}
            {terms.some((term) => !['tenant', 'state', 'since', 'until'].includes(term.key)) && t.jobs.reachOf}{' '}
            {goesOn && !next && t.jobs.nextHow}
          </Paging>
        )}
      </section>
      {!may('operate') && <p class="note">{t.jobs.mayLook}</p>}
    </>
  );
}

const nextOf = (query: URLSearchParams, after: string): URLSearchParams => {
  const next = new URLSearchParams(query);
  next.set('after', after);
  return next;
};

const countsOf = (page: Page | undefined): Counts => {
  const sum: Counts = {};
  for (const { counts } of page?.tenants ?? []) {
    for (const state of STATES) sum[state] = (sum[state] ?? 0) + (counts[state] ?? 0);
  }
  return sum;
};

/** Counts what has happened since the list was fetched. Rows don't move by themselves. */
function useChanges(key: string | undefined, fetched: number | undefined, query: URLSearchParams): number {
  const [seen, setSeen] = useState<ReadonlySet<string>>(new Set());
  const latest = useRef(query);
  latest.current = query;
  useEffect(() => setSeen(new Set()), [key, fetched]);
  useEffect(
    () =>
      live.follow((event) => {
        if (event === 'snapshot') return;
        const of = latest.current;
        for (const field of ['tenant', 'queue', 'kind', 'group'] as const) {
          const wanted = of.get(field);
          if (wanted !== null && event[field] !== wanted) return;
        }
        setSeen((before) => new Set(before).add(event.job));
      }),
    [],
  );
  return seen.size;
}

function StateTabs({ query, state, counts }: { query: URLSearchParams; state: string | undefined; counts: Counts }): JSX.Element {
  return (
    <nav class="tabs" aria-label={t.jobs.byState}>
      <a href={hrefWith(withoutTerm(query, 'state'))} aria-current={state === undefined ? 'page' : undefined}>{t.jobs.allStates}</a>
      {STATES.map((of) => (
        <a key={of} href={hrefWith(withTerm(query, 'state', of))} aria-current={state === of ? 'page' : undefined}>
          <StateBadge state={of} />
          {counts[of] !== undefined && <span class="n" title={exact(counts[of])}>{rounded(counts[of])}</span>}
        </a>
      ))}
    </nav>
  );
}

function Rows({ jobs, picked, setPicked }: { jobs: readonly Job[]; picked: ReadonlySet<string>; setPicked: (picked: ReadonlySet<string>) => void }): JSX.Element {
  const all = scope() === undefined;
  return (
    <Table
      label={t.jobs.match}
      columns={[
        { head: t.jobs.job },
        { head: t.jobs.why },
        { head: t.jobs.attempts, num: true, rank: 2 },
        { head: t.jobs.when, num: true, rank: 2 },
        { head: t.jobs.fuel, num: true, rank: 3 },
        { head: t.jobs.took, num: true, rank: 2 },
      ]}
      rows={jobs.map((job) => ({
        key: job.id,
        name: job.id,
        head: (
          <>
            <StateMark state={job.state}><a href={href(['jobs', job.tenant, job.id], { tenant: scope() })}><bdi>{job.kind}</bdi></a></StateMark>
            <span class="sub m id">{job.id}</span>
            <span class="sub">{all ? <><bdi>{job.tenant}</bdi>/<bdi>{job.queue}</bdi></> : <bdi>{job.queue}</bdi>}</span>
          </>
        ),
        cells: [
          <Why job={job} />,
          exact(job.attempts),
          <><Time at={whenOf(job)} /><span class="sub"><Age at={whenOf(job)} /></span></>,
          job.usage.fuel > 0 ? <span title={exact(job.usage.fuel)}>{fuel(job.usage.fuel)}</span> : t.none,
          job.usage.wall_us > 0 ? duration(job.usage.wall_us / 1000) : t.none,
        ],
      }))}
      picking={{ picked, set: setPicked, all: t.jobs.pickAll, one: t.jobs.pick }}
    />
  );
}

function Why({ job }: { job: Job }): JSX.Element {
  const [first, ...others] = job.waits;
  return (
    <>
      {job.reason !== null && <b><Hostile text={job.reason} /></b>}
      {job.message !== null && <span class="sub"><Hostile text={job.message} /></span>}
      {first && <span><Hostile text={first.text} /></span>}
      {others.map((wait) => <span class="sub"><Hostile text={wait.text} /></span>)}
      {job.reason === null && !first && <StateBadge state={job.state} />}
      <span class="sub only-s">{t.jobs.attemptsShort(job.attempts, '')}<Age at={whenOf(job)} /></span>
    </>
  );
}

function Nothing({ filtered }: { filtered: boolean }): JSX.Element {
  if (filtered) {
    return <Empty title={t.jobs.emptyTitle}><p>{t.jobs.emptyText}</p><a class="b" href={hrefWith(new URLSearchParams())}>{t.jobs.clear}</a></Empty>;
  }
  return (
    <Empty title={t.jobs.startTitle}>
      <p><code>{t.overview.first}</code></p>
      <Copy label={t.copy.command} text={t.overview.first} />
    </Empty>
  );
}

/** What a bulk action would be about: the rows that are picked, or all that the filter lets through, as it was then. */
interface Asked {
  action: Action;
  /** Filter of all that match; undefined for picked rows. */
  filter?: URLSearchParams;
  ids: readonly Job[];
  /** How many it can be done to. */
  can: number;
  cannot: Record<string, number>;
  complete: boolean;
}

function BulkBar({ query, jobs, picked, clear, reload }: {
  query: URLSearchParams;
  jobs: readonly Job[];
  picked: ReadonlySet<string>;
  clear: () => void;
  reload: () => void;
}): JSX.Element {
  const [all, setAll] = useState(false);
  const [asking, setAsking] = useState<Asked>();
  const { busy, problem, change } = useChange();
  const [progress, setProgress] = useState<number>();
  const rows = jobs.filter((job) => picked.has(job.id));
  const state = query.get('state') ?? '';
  const actions = new Set<Action>(all ? (isState(state) ? ACTIONS[state] : []) : rows.flatMap((job) => [...ACTIONS[job.state]]));
  const tenant = scope();
  const mayAll = tenant !== undefined && isState(state);

  const tried = async (work: () => Promise<void>): Promise<void> => {
    if (!(await change(work))) setAsking(undefined);
    setProgress(undefined);
  };
  const prepare = (action: Action): Promise<void> =>
    tried(async () => {
      if (!all) {
        const ids = rows.filter((job) => ACTIONS[job.state].includes(action));
        const cannot: Record<string, number> = {};
        for (const job of rows) if (!ids.includes(job)) cannot[job.state] = (cannot[job.state] ?? 0) + 1;
        setAsking({ action, ids, can: ids.length, cannot, complete: true });
        return;
      }
      // Times become instants here, so that what is confirmed is what was counted.
      const frozen = asked(query, now());
      const would = await api.bulk(bulkOf(frozen, action, true, now()));
      setAsking({ action, filter: frozen, ids: [], can: would.done, cannot: would.left_out, complete: would.complete });
    });
  const act = (of: Asked): Promise<void> =>
    tried(async () => {
      const done = of.filter ? await api.bulk(bulkOf(of.filter, of.action, false, now())) : await each(of, setProgress);
      say(t.bulk.done(t.act[of.action].done, done.done));
      if (!done.complete) say(t.bulk.incomplete);
      setAsking(undefined);
      clear();
      reload();
    });
  return (
    <div class="bulk" role="region" aria-label={t.bulk.picked(picked.size)}>
      <p>
        <b>{all ? t.bulk.matching : t.bulk.picked(picked.size)}</b>{' '}
        {!all && mayAll && <button class="b sm" type="button" onClick={() => setAll(true)}>{t.bulk.allMatch}</button>}
        {!mayAll && <span class="note">{t.bulk.needsTenant}</span>}
      </p>
      <div class="acts">
        {may('operate') && [...actions].map((action) => (
          <button key={action} class={`b${action === 'remove' ? ' risk' : ''}`} type="button" disabled={busy} data-key={action === 'redrive' ? 'r' : undefined} onClick={() => void prepare(action)}>
            {busy ? t.bulk.counting : `${t.act[action].ask}…`}
          </button>
        ))}
        {[...actions].map((action) => <Copy key={action} label={`${t.copy.command}: ${t.act[action].ask}`} text={bulkCommand(action, all ? query : undefined, rows)} />)}
        <button class="b pl" type="button" onClick={clear}>{t.bulk.clear}</button>
      </div>
      {problem && <Failed what={t.bulk.picked(picked.size)} problem={problem} />}
      {asking && <Ask of={asking} tenant={tenant} busy={busy} progress={progress} close={() => setAsking(undefined)} act={() => void act(asking)} />}
    </div>
  );
}

const bulkCommand = (action: Action, query: URLSearchParams | undefined, rows: readonly Job[]): string => {
  if (query) {
    const filter = new URLSearchParams(query);
    for (const key of ['after', 'limit']) filter.delete(key);
    return command('sandhog', 'job', action, ...options(filter));
  }
  const ids = rows.filter((job) => ACTIONS[job.state].includes(action));
  return command('sandhog', 'job', action, ...ids.map((job) => job.id));
};

/** Acts on each of the picked jobs, one after the other. */
async function each(of: Asked, progress: (done: number) => void): Promise<Bulk> {
  let done = 0;
  let refused = 0;
  for (const job of of.ids) {
    const { done: did } = of.action === 'remove' ? await api.remove(job.tenant, job.id) : await api.act(job.tenant, job.id, of.action);
    if (did === null) refused++;
    else done++;
    progress(done + refused);
  }
  return { tenant: '', done, refused, left_out: {}, complete: true };
}

function Ask({ of, tenant, busy, progress, close, act }: {
  of: Asked;
  tenant: string | undefined;
  busy: boolean;
  progress: number | undefined;
  close: () => void;
  act: () => void;
}): JSX.Element {
  const text = t.act[of.action];
  const title = text.many(t.act.count(of.can));
  const server = session.value.is === 'in' ? (session.value.me.server.name ?? location.host) : location.host;
  const cannot = Object.entries(of.cannot).filter(([, count]) => count > 0);
  const typedNumber = of.action === 'remove' && of.can > TYPED_FROM ? { number: of.can, label: t.bulk.type(of.can) } : undefined;
  return (
    <Confirm title={title} button={title} risk={of.action === 'remove'} typed={typedNumber} busy={busy || of.can === 0} close={close} confirm={act}>
      <p>{t.bulk.where(tenant ?? [...new Set(of.ids.map((job) => job.tenant))].join(', '), server)}</p>
      {of.filter && <p>{t.bulk.filter} <code><Hostile text={of.filter.toString()} /></code></p>}
      <p>{of.complete ? t.bulk.can(of.can) : t.bulk.atLeast(of.can)}</p>
      {cannot.length > 0 && (
        <>
          <p>{t.bulk.cannot(cannot.reduce((sum, [, count]) => sum + count, 0))}</p>
          <ul>{cannot.map(([why, count]) => <li>{exact(count)}: {t.bulk.leftOut[why] ?? why}</li>)}</ul>
        </>
      )}
      <p class="q">{text.irrevocable}</p>
      {progress !== undefined && <p role="status">{t.bulk.progress(progress, of.can)}</p>}
    </Confirm>
  );
}

