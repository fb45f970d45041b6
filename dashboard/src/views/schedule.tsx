import type { ComponentChildren, JSX } from 'preact';
import { useState } from 'preact/hooks';
import { address, api, type Schedule as ScheduleDocument } from '../api.ts';
import { command, curl } from '../command.ts';
import { actSchedule, backfill, pauseSchedule } from '../deeds.ts';
import { Act } from '../parts/act.tsx';
import { CopyBoth } from '../parts/copy.tsx';
import { Hostile } from '../parts/hostile.tsx';
import { Empty, Failed } from '../parts/notice.tsx';
import { Head, Panel } from '../parts/panel.tsx';
import { RunNow } from '../parts/schedule.tsx';
import { Table } from '../parts/table.tsx';
import { Age, Time, told } from '../parts/time.tsx';
import { WhyLine } from '../parts/why.tsx';
import { href, scope } from '../place.ts';
import type { ViewProps } from '../routes.ts';
import { firesOf } from '../schedule.ts';
import { may } from '../session.ts';
import { useSnapshot } from '../snapshot.ts';
import { now } from '../store.ts';
import { t } from '../texts.ts';
import { useTitle } from '../title.ts';
import { exact, timeOf } from '../units.ts';

const DAY = 86_400_000;

/** One schedule: its last and its next times, and what can be done to it. */
export function Schedule({ params }: ViewProps): JSX.Element {
  const { tenant = '', name = '' } = params;
  const of = useSnapshot(JSON.stringify([tenant, name]), (signal) => api.schedule({ tenant }, name, signal), (event) => event.tenant === tenant && event.event === 'created');
  const schedule = of.loading ? undefined : of.data;
  useTitle(t.queue.title(tenant, name));
  const crumb = <a href={href(['schedules'], { tenant: scope() })}>{t.schedules.title}</a>;
  if (of.problem?.status === 404) {
    return (
      <>
        <Head crumb={crumb} title={t.schedule.gone} sub={<code><Hostile text={t.queue.title(tenant, name)} /></code>} />
        <div class="p"><Empty title={t.schedule.gone}><p>{t.schedule.goneText}</p><a class="b" href={href(['schedules'], { tenant: scope() })}>{t.schedule.back}</a></Empty></div>
      </>
    );
  }
  return (
    <>
      <Head
        crumb={crumb}
        title={<bdi>{t.queue.title(tenant, name)}</bdi>}
        sub={schedule && `${firesOf(schedule)}, ${schedule.timezone}`}
        acts={
          <>
            {schedule && <Acts of={schedule} reload={of.reload} />}
            <a class="b pl" href={href(['jobs'], { tenant, label: [`schedule=${name}`] })}>{t.schedule.jobs}</a>
            <CopyBoth
              command={command('sandhog', 'schedule', 'show', name, '--tenant', tenant)}
              curl={curl('GET', location.origin + address(`/v1/schedules/${encodeURIComponent(name)}`, { tenant }))}
            />
          </>
        }
      />
      {of.problem && <Failed what={t.queue.title(tenant, name)} problem={of.problem} at={of.at} retry={of.reload} />}
      {schedule === undefined && !of.problem && <p class="mu">{t.schedule.loading}</p>}
      {schedule && (
        <>
          <Answer of={schedule} />
          <div class="two half">
            <NextTimes of={schedule} />
            <LastTimes of={schedule} />
          </div>
          <Details of={schedule} />
        </>
      )}
      {!may('operate') && <p class="note">{t.deed.mayLook(t.schedules.mayLook, 'operate')}</p>}
    </>
  );
}

function Acts({ of, reload }: { of: ScheduleDocument; reload: () => void }): JSX.Element {
  const { tenant, schedule: name } = of;
  // A pause of its file ends with the file alone.
  const byHand = of.paused !== null && of.paused.since !== null;
  return (
    <>
      <RunNow of={of} after={reload} />
      {byHand && <Act label={t.schedule.resume} title={t.schedule.resumeTitle(name)} tenant={tenant} deed={() => actSchedule(tenant, name, 'resume')} said={t.schedule.resumed} after={reload}><p>{t.schedule.resumeText}</p></Act>}
      {of.paused === null && (
        <Act label={t.schedule.pause} title={t.schedule.pauseTitle(name)} tenant={tenant} deed={({ note }) => pauseSchedule(tenant, name, note)} noted said={t.schedule.wasPaused} after={reload}><p>{t.schedule.pauseText}</p></Act>
      )}
      <Backfill of={of} reload={reload} />
    </>
  );
}

/** Enqueues what a span of its times would have. */
function Backfill({ of, reload }: { of: ScheduleDocument; reload: () => void }): JSX.Element {
  const { tenant, schedule: name } = of;
  const [today] = useState(() => Math.floor(now() / DAY) * DAY);
  const whole = (at: number): string => new Date(at).toISOString().replace('.000', '');
  const [from, setFrom] = useState(whole(today - DAY));
  const [to, setTo] = useState(whole(today));
  const [first, last] = [timeOf(from), timeOf(to)];
  return (
    <Act label={t.schedule.backfill} title={t.schedule.backfillTitle(name)} tenant={tenant} deed={() => backfill(tenant, name, from.trim(), to.trim())} ready={first !== undefined && last !== undefined && first < last} said={t.schedule.backfilled} after={reload}>
      <p>{t.schedule.backfillText}</p>
      <label><span>{t.deed.from}</span><input class="in" autocomplete="off" value={from} onInput={(event) => setFrom(event.currentTarget.value)} /></label>
      <label><span>{t.deed.to}</span><input class="in" autocomplete="off" value={to} onInput={(event) => setTo(event.currentTarget.value)} /></label>
    </Act>
  );
}

function Answer({ of }: { of: ScheduleDocument }): JSX.Element {
  const waiting = of.waiting > 0 && <p>{t.schedule.waiting(of.waiting)}</p>;
  if (of.paused !== null) {
    const { by, since, note } = of.paused;
    return (
      <WhyLine severity="info" icon="pause" title={t.schedule.paused}>
        <p><Hostile text={since === null ? t.schedules.pausedByFile : t.schedules.pausedBy(by ?? t.unknown, told(since))} />{note !== '' && <>: <Hostile text={t.overview.note(note)} /></>} {t.schedule.pausedText}</p>
        {waiting}
      </WhyLine>
    );
  }
  const next = of.next[0];
  if (next === undefined) return <WhyLine severity="info" title={t.schedule.never}>{waiting}</WhyLine>;
  return <WhyLine severity="ok" icon="scheduled" title={t.schedule.next(told(next.nominal))}><p><Age at={next.nominal} /></p>{waiting}</WhyLine>;
}

function NextTimes({ of }: { of: ScheduleDocument }): JSX.Element {
  return (
    <Panel title={t.schedule.nextTen} note={t.schedule.nextNote(of.timezone)}>
      {of.next.length === 0 ? <Empty title={t.schedule.noNext} /> : (
        <Table
          label={t.schedule.nextTen}
          columns={[{ head: t.schedule.local }, { head: t.schedule.utc, num: true }, { head: t.schedule.ready, num: true, rank: 2 }]}
          rows={of.next.map((time) => ({
            key: time.nominal,
            head: <span class="nw">{time.local}</span>,
            cells: [<Time at={time.nominal} />, time.effective === time.nominal ? t.none : <Time at={time.effective} />],
          }))}
        />
      )}
    </Panel>
  );
}

function LastTimes({ of }: { of: ScheduleDocument }): JSX.Element {
  return (
    <Panel title={t.schedule.lastTen}>
      {of.last.length === 0 ? <Empty title={t.schedule.noLast} /> : (
        <Table
          label={t.schedule.lastTen}
          columns={[{ head: t.schedule.nominal }, { head: t.schedule.remark }, { head: t.schedule.at, num: true, rank: 2 }]}
          rows={[...of.last].reverse().map((time) => ({
            key: `${time.nominal} ${time.at}`,
            head: <Time at={time.nominal} />,
            cells: [
              <>
                {time.job === null ? <span class="mu">{t.schedule.noJob}</span> : <a class="m id" href={href(['jobs', of.tenant, time.job], { tenant: scope() })}>{time.job}</a>}
                {time.remark !== '' && <span class="sub"><Hostile text={time.remark} /></span>}
              </>,
              <Time at={time.at} />,
            ],
          }))}
        />
      )}
    </Panel>
  );
}

function Details({ of }: { of: ScheduleDocument }): JSX.Element {
  const d = t.schedule.detail;
  const row = (name: string, value: ComponentChildren): JSX.Element => <><dt>{name}</dt><dd>{value}</dd></>;
  return (
    <div class="two half">
      <Panel title={t.schedule.details}>
        <div class="body">
          <dl class="dl">
            {of.cron.length > 0 && row(d.cron, of.cron.map((cron) => <div><code>{cron}</code></div>))}
            {of.exclude.length > 0 && row(d.exclude, of.exclude.map((cron) => <div><code>{cron}</code></div>))}
            {row(d.zone, <bdi>{of.timezone}</bdi>)}
            {row(d.kind, <a href={href(['jobs'], { tenant: of.tenant, kind: of.kind })}><bdi>{of.kind}</bdi></a>)}
            {row(d.queue, <a href={href(['queues', of.tenant, of.queue], { tenant: scope() })}><bdi>{of.queue}</bdi></a>)}
            {row(d.overlap, <code>{of.overlap}</code>)}
            {row(d.source, of.plugin === null ? t.schedule.byCommand : <bdi>{t.schedule.plugin(of.plugin)}</bdi>)}
          </dl>
        </div>
      </Panel>
      <Panel title={t.schedule.counts} note={t.schedule.countsNote}>
        <div class="body">
          <dl class="dl">
            {row(d.fired, exact(of.fired))}
            {row(d.hand, exact(of.by_hand))}
            {row(d.missed, exact(of.missed))}
            {row(d.skipped, exact(of.skipped))}
            {row(d.waiting, exact(of.waiting))}
          </dl>
        </div>
      </Panel>
    </div>
  );
}
