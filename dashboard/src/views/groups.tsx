import type { JSX } from 'preact';
import { address, api } from '../api.ts';
import { command, curl } from '../command.ts';
import { release } from '../deeds.ts';
import { Act } from '../parts/act.tsx';
import { CopyBoth } from '../parts/copy.tsx';
import { Hostile } from '../parts/hostile.tsx';
import { Empty, Failed } from '../parts/notice.tsx';
import { Head } from '../parts/panel.tsx';
import { Table } from '../parts/table.tsx';
import { Age, Time } from '../parts/time.tsx';
import { href, scope } from '../place.ts';
import { may } from '../session.ts';
import { useSnapshot } from '../snapshot.ts';
import { t } from '../texts.ts';
import { useTitle } from '../title.ts';

/** Groups that a dead job holds, and what waits behind it. */
export function Groups(): JSX.Element {
  const tenant = scope();
  const list = useSnapshot(tenant ?? '', (signal) => api.groups({ tenant }, signal), (event) => event.group !== null);
  const groups = list.data?.groups;
  useTitle(t.groups.title);
  return (
    <>
      <Head
        title={groups === undefined ? t.groups.title : groups.length === 0 ? t.groups.quiet : t.groups.count(groups.length)}
        acts={
          <CopyBoth
            command={command('sandhog', 'groups', ...(tenant === undefined ? [] : ['--tenant', tenant]))}
            curl={curl('GET', location.origin + address('/v1/groups', { tenant }))}
          />
        }
      />
      {list.problem && <Failed what={t.groups.title} problem={list.problem} at={list.at} retry={list.reload} />}
      {groups && (
        <section class="p" aria-label={t.groups.title}>
          {groups.length === 0 ? <Empty title={t.groups.quiet}><p>{t.groups.noneText}</p></Empty> : (
            <Table
              label={t.groups.title}
              columns={[
                { head: t.groups.group }, { head: t.groups.job, rank: 2 }, { head: t.groups.since, num: true }, { head: t.groups.waiting, rank: 2 },
                { head: <span class="vh">{t.deed.act}</span> },
              ]}
              rows={groups.map((of) => ({
                key: JSON.stringify([of.tenant, of.queue, of.group]),
                head: (
                  <>
                    <a class="m" href={href(['jobs'], { tenant: of.tenant, queue: of.queue, group: of.group })}><Hostile text={of.group} /></a>
                    <span class="sub"><bdi>{tenant === undefined ? t.queue.title(of.tenant, of.queue) : of.queue}</bdi></span>
                  </>
                ),
                cells: [
                  <a class="m id" href={href(['jobs', of.tenant, of.job], { tenant })}>{of.job}</a>,
                  <><Time at={of.since} /><span class="sub"><Age at={of.since} /></span></>,
                  <a href={href(['jobs'], { tenant: of.tenant, queue: of.queue, group: of.group, state: 'ready' })}>{t.groups.look}</a>,
                  <Act label={t.groups.release} title={t.groups.releaseTitle(of.group)} tenant={of.tenant} deed={() => release(of.tenant, of.queue, of.group)} small said={t.groups.released} after={list.reload}>
                    <p><code>{of.job}</code></p>
                    <p>{t.groups.releaseText}</p>
                  </Act>,
                ],
              }))}
            />
          )}
        </section>
      )}
      {!may('operate') && <p class="note">{t.deed.mayLook(t.groups.mayLook, 'operate')}</p>}
    </>
  );
}
