import type { JSX } from 'preact';
import { address, api, type Schedule } from '../api.ts';
import { command, curl } from '../command.ts';
import { Copy, CopyBoth } from '../parts/copy.tsx';
import { Hostile } from '../parts/hostile.tsx';
import { Icon } from '../parts/icon.tsx';
import { Empty, Failed } from '../parts/notice.tsx';
import { Head, Panel } from '../parts/panel.tsx';
import { RunNow } from '../parts/schedule.tsx';
import { Table } from '../parts/table.tsx';
import { Age, Time, told } from '../parts/time.tsx';
import { href, scope } from '../place.ts';
import { firesOf } from '../schedule.ts';
import { may } from '../session.ts';
import { useSnapshot } from '../snapshot.ts';
import { t } from '../texts.ts';
import { useTitle } from '../title.ts';
import { exact, timeOf } from '../units.ts';

/** When jobs are enqueued by themselves: the next and the last time of each schedule. */
export function Schedules(): JSX.Element {
  const tenant = scope();
  const list = useSnapshot(tenant ?? '', (signal) => api.schedules({ tenant }, signal), (event) => event.event === 'created');
  const all = list.data?.schedules;
  useTitle(t.schedules.title);
  const paused = (all ?? []).filter((of) => of.paused !== null).length;
  const coming = (all ?? []).filter((of) => of.paused === null && of.next.length > 0).sort((one, other) => nextOf(one) - nextOf(other))[0];
  return (
    <>
      <Head
        title={all === undefined || all.length === 0 ? t.schedules.title : t.schedules.count(all.length)}
        sub={all && all.length > 0 && <>{coming && t.schedules.next(coming.schedule, told(coming.next[0]?.nominal))} {paused > 0 && t.schedules.paused(paused)}</>}
        acts={
          <CopyBoth
            command={command('sandhog', 'schedules', ...(tenant === undefined ? [] : ['--tenant', tenant]))}
            curl={curl('GET', location.origin + address('/v1/schedules', { tenant }))}
          />
        }
      />
      {list.problem && <Failed what={t.schedules.title} problem={list.problem} at={list.at} retry={list.reload} />}
      {all && (
        <Panel title={t.schedules.title} note={t.schedules.kept}>
          {all.length === 0 ? (
            <Empty title={t.schedules.none}><p>{t.schedules.noneText}</p><p><code>{t.schedules.first}</code></p><Copy label={t.copy.command} text={t.schedules.first} /></Empty>
          ) : (
            <Table
              label={t.schedules.title}
              columns={[
                { head: t.schedules.schedule }, { head: t.schedules.fires }, { head: t.schedules.nextHead, num: true }, { head: t.schedules.last, rank: 2 },
                { head: t.schedules.missed, num: true, rank: 3 }, { head: t.schedules.skipped, num: true, rank: 3 }, { head: <span class="vh">{t.deed.act}</span>, rank: 2 },
              ]}
              rows={all.map((of) => ({
                key: `${of.tenant} ${of.schedule}`,
                head: (
                  <>
                    <a href={href(['schedules', of.tenant, of.schedule], { tenant })}><bdi>{of.schedule}</bdi></a>
                    {tenant === undefined && <span class="sub"><bdi>{of.tenant}</bdi></span>}
                  </>
                ),
                cells: [
                  <>{firesOf(of)}<span class="sub"><bdi>{of.timezone}</bdi></span></>,
                  <Next of={of} />,
                  <Last of={of} />,
                  exact(of.missed),
                  exact(of.skipped),
                  <RunNow of={of} small after={list.reload} />,
                ],
              }))}
            />
          )}
          {list.data && list.data.unread.length > 0 && (
            <div class="body"><p><b>{t.schedules.unread(list.data.unread.length)}</b></p><ul>{list.data.unread.map((of) => <li><bdi>{of.tenant}/{of.schedule}</bdi>: <Hostile text={of.problem} /></li>)}</ul></div>
          )}
        </Panel>
      )}
      {!may('operate') && <p class="note">{t.deed.mayLook(t.schedules.mayLook, 'operate')}</p>}
    </>
  );
}

const nextOf = (of: Schedule): number => timeOf(of.next[0]?.nominal) ?? Infinity;

function Next({ of }: { of: Schedule }): JSX.Element {
  if (of.paused !== null) {
    const { by, since, note } = of.paused;
    return (
      <>
        <span class="st c-blocked"><Icon name="pause" />{t.schedules.isPaused}</span>
        <span class="sub"><Hostile text={since === null ? t.schedules.pausedByFile : t.schedules.pausedBy(by ?? t.unknown, told(since))} /></span>
        {note !== '' && <span class="sub"><Hostile text={t.overview.note(note)} /></span>}
      </>
    );
  }
  const next = of.next[0];
  return next === undefined ? <span class="mu">{t.schedules.noNext}</span> : <><Time at={next.nominal} /><span class="sub"><Age at={next.nominal} /></span></>;
}

function Last({ of }: { of: Schedule }): JSX.Element {
  const last = of.last[of.last.length - 1];
  if (last === undefined) return <span class="mu">{t.none}</span>;
  return (
    <>
      {last.job === null ? <Time at={last.nominal} /> : <a href={href(['jobs', of.tenant, last.job], { tenant: scope() })}><Time at={last.nominal} /></a>}
      {last.remark !== '' && <span class="sub"><Hostile text={last.remark} /></span>}
    </>
  );
}
