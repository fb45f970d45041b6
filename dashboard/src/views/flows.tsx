import type { JSX } from 'preact';
import { useState } from 'preact/hooks';
import { api, type Job } from '../api.ts';
import { Hostile } from '../parts/hostile.tsx';
import { Empty, Failed } from '../parts/notice.tsx';
import { Head, Panel } from '../parts/panel.tsx';
import { Table } from '../parts/table.tsx';
import { Age, Time } from '../parts/time.tsx';
import { go, href, scope } from '../place.ts';
import { useSnapshot } from '../snapshot.ts';
import { t } from '../texts.ts';
import { useTitle } from '../title.ts';
import { exact } from '../units.ts';
import { ANY_TENANT } from './job.tsx';

/** Blocked jobs whose flows are listed. */
const BLOCKED_MAX = 100;

/** Flows with jobs that wait for others, and the way to any other. */
export function Flows(): JSX.Element {
  const tenant = scope();
  const list = useSnapshot(tenant ?? '', (signal) => {
    const query = new URLSearchParams({ state: 'blocked', limit: String(BLOCKED_MAX) });
    if (tenant !== undefined) query.set('tenant', tenant);
    return api.jobs(query, signal);
  });
  const [id, setId] = useState('');
  const flows = new Map<string, Job[]>();
  for (const job of list.data?.jobs ?? []) if (job.flow !== null) flows.set(job.flow, [...(flows.get(job.flow) ?? []), job]);
  useTitle(t.flows.title);
  const open = (event: Event): void => {
    event.preventDefault();
    if (id.trim() !== '') go(href(['flows', tenant ?? ANY_TENANT, id.trim()]));
  };
  return (
    <>
      <Head title={t.flows.title} sub={t.flows.intro} />
      <form class="filter" onSubmit={open}>
        <input class="in" aria-label={t.flows.id} placeholder={t.flows.id} data-search autocomplete="off" spellcheck={false} value={id} onInput={(event) => setId(event.currentTarget.value)} />
        <button class="b go" type="submit">{t.flows.open}</button>
      </form>
      {list.problem && <Failed what={t.flows.title} problem={list.problem} at={list.at} retry={list.reload} />}
      {list.data && (
        <Panel title={t.flows.waiting} note={t.flows.waitingNote}>
          {flows.size === 0 ? <Empty title={t.flows.none}><p>{t.flows.noneText}</p></Empty> : (
            <Table
              label={t.flows.waiting}
              columns={[{ head: t.flows.flow }, { head: t.flows.blocked, num: true }, { head: t.flows.since, num: true }]}
              rows={[...flows].map(([flow, jobs]) => ({
                key: flow,
                head: (
                  <>
                    <a class="m id" href={href(['flows', jobs[0]?.tenant ?? ANY_TENANT, flow], { tenant })}>{flow}</a>
                    <span class="sub"><Hostile text={[...new Set(jobs.map((job) => job.kind))].join(', ')} /></span>
                  </>
                ),
                cells: [exact(jobs.length), <><Time at={jobs[0]?.enqueued_at} /><span class="sub"><Age at={jobs[0]?.enqueued_at} /></span></>],
              }))}
            />
          )}
        </Panel>
      )}
    </>
  );
}
