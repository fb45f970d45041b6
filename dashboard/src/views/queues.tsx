import type { JSX } from 'preact';
import { address, api, type Queue } from '../api.ts';
import { command, curl } from '../command.ts';
import { withoutTerm } from '../filter.ts';
import { CopyBoth } from '../parts/copy.tsx';
import { Icon } from '../parts/icon.tsx';
import { Empty, Failed } from '../parts/notice.tsx';
import { Paging } from '../parts/paging.tsx';
import { Head, Panel } from '../parts/panel.tsx';
import { StateBadge } from '../parts/state.tsx';
import { Table } from '../parts/table.tsx';
import { Age, Time } from '../parts/time.tsx';
import { href, hrefWith, scope } from '../place.ts';
import type { ViewProps } from '../routes.ts';
import { useSnapshot } from '../snapshot.ts';
import { useNow } from '../store.ts';
import { t } from '../texts.ts';
import { useTitle } from '../title.ts';
import { exact } from '../units.ts';
import { verdictOf } from '../verdict.ts';

const COUNTED = ['ready', 'leased', 'scheduled', 'blocked'] as const;

/** Which queues keep up, and which don't. */
export function Queues({ query }: ViewProps): JSX.Element {
  const tenant = scope();
  const after = query.get('after') ?? undefined;
  const asked = { tenant, after };
  const list = useSnapshot(JSON.stringify(asked), (signal) => api.queues(asked, signal), (event) => tenant === undefined || event.tenant === tenant);
  const now = useNow();
  const queues = list.data?.queues;
  const behind = (queues ?? []).filter((queue) => ['behind', 'stuck'].includes(verdictOf(queue, now).is)).length;
  useTitle(t.queues.title);
  const next = list.loading ? null : list.data?.next;
  const onward = new URLSearchParams(query);
  onward.set('after', next ?? '');
  const words = [...(tenant === undefined ? [] : ['--tenant', tenant]), ...(after === undefined ? [] : ['--after', after])];
  return (
    <>
      <Head
        title={queues === undefined || queues.length === 0 ? t.queues.title : behind === 0 ? t.queues.quiet : t.queues.behind(behind)}
        acts={<CopyBoth command={command('sandhog', 'queues', ...words)} curl={curl('GET', location.origin + address('/v1/queues', asked))} />}
      />
      {list.problem && <Failed what={t.queues.title} problem={list.problem} at={list.at} retry={list.reload} />}
      {queues && (
        <Panel title={t.queues.title} note={t.queues.note}>
          {queues.length === 0 ? <Empty title={t.queues.none}><p>{t.queues.noneText}</p></Empty> : (
            <Table
              label={t.queues.title}
              columns={[
                { head: t.queues.queue }, { head: t.queues.verdict }, { head: t.queues.oldest, num: true, rank: 2 },
                ...COUNTED.map((state) => ({ head: <StateBadge state={state} />, num: true, ...(state === 'ready' ? {} : { rank: state === 'leased' ? 2 as const : 3 as const }) })),
              ]}
              rows={queues.map((queue) => ({
                key: `${queue.tenant} ${queue.queue}`,
                head: (
                  <>
                    <a href={href(['queues', queue.tenant, queue.queue], { tenant })}><bdi>{queue.queue}</bdi></a>
                    {tenant === undefined && <span class="sub"><bdi>{queue.tenant}</bdi></span>}
                  </>
                ),
                cells: [
                  <VerdictMark queue={queue} now={now} />,
                  queue.oldest_ready === null ? t.none : <><Age at={queue.oldest_ready} /><span class="sub"><Time at={queue.oldest_ready} /></span></>,
                  ...COUNTED.map((state) => (
                    <a href={href(['jobs'], { tenant: queue.tenant, queue: queue.queue, state })}>{counted(queue.jobs[state])}</a>
                  )),
                ],
              }))}
            />
          )}
          <Paging
            first={after === undefined ? undefined : hrefWith(withoutTerm(query, 'after'))}
            next={next === null || next === undefined ? undefined : hrefWith(onward)}
          >
            {t.queues.shown(queues.length)}. {t.queues.reach}
          </Paging>
        </Panel>
      )}
    </>
  );
}

const counted = (count: number | null): string => (count === null ? t.queues.many : exact(count));

const SHAPES = { held: 'pause', idle: 'ok', 'keeps-up': 'ok', behind: 'warn', stuck: 'warn' } as const;
const TONES = { held: 'c-blocked', idle: 'c-succeeded', 'keeps-up': 'c-succeeded', behind: 'c-blocked', stuck: 'c-dead' } as const;

function VerdictMark({ queue, now }: { queue: Queue; now: number }): JSX.Element {
  const { is } = verdictOf(queue, now);
  return (
    <>
      <span class={`st ${TONES[is]}`}><Icon name={SHAPES[is]} />{t.queues.verdicts[is]}</span>
      {queue.oldest_ready !== null && <span class="sub only-s">{t.queues.oldest}: <Age at={queue.oldest_ready} /></span>}
    </>
  );
}
