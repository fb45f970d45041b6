import type { JSX } from 'preact';
import { useState } from 'preact/hooks';
import { address, api, type GroupLimit, type Limits as Found } from '../api.ts';
import { command, curl } from '../command.ts';
import { setLimit, switchLimit, unsetLimit } from '../deeds.ts';
import { concurrencyOf, reachedOf } from '../limits.ts';
import { Act } from '../parts/act.tsx';
import { CopyBoth } from '../parts/copy.tsx';
import { Hostile } from '../parts/hostile.tsx';
import { Icon } from '../parts/icon.tsx';
import { Meter } from '../parts/meter.tsx';
import { Empty, Failed } from '../parts/notice.tsx';
import { Head, Panel } from '../parts/panel.tsx';
import { Table } from '../parts/table.tsx';
import { Age, Time } from '../parts/time.tsx';
import { href, scope } from '../place.ts';
import { may } from '../session.ts';
import { useSnapshot } from '../snapshot.ts';
import { t } from '../texts.ts';
import { useTitle } from '../title.ts';
import { exact, rate } from '../units.ts';

/** Which limits are reached, and which of them stand in place of the configuration's. */
export function Limits(): JSX.Element {
  const tenant = scope();
  const list = useSnapshot(tenant ?? '', (signal) => api.limits({ tenant }, signal), (event) => tenant === undefined || event.tenant === tenant);
  const found = list.data;
  useTitle(t.limits.title);
  const none = found && found.plugins.length + found.rates.length + found.groups.length + found.queues.length === 0;
  const reached = found ? reachedOf(found) : 0;
  const named = (of: { tenant: string }, name: string): string => (tenant === undefined ? `${of.tenant}/${name}` : name);
  return (
    <>
      <Head
        title={found === undefined || none ? t.limits.title : reached === 0 ? t.limits.quiet : t.limits.reached(reached)}
        acts={
          <CopyBoth
            command={command('sandhog', 'limit', 'list', ...(tenant === undefined ? [] : ['--tenant', tenant]))}
            curl={curl('GET', location.origin + address('/v1/limits', { tenant }))}
          />
        }
      />
      {list.problem && <Failed what={t.limits.title} problem={list.problem} at={list.at} retry={list.reload} />}
      {none && <div class="p"><Empty title={t.limits.none}><p>{t.limits.noneText}</p></Empty></div>}
      {found && found.plugins.length > 0 && (
        <Panel title={t.limits.plugins} note={t.limits.pluginsNote}>
          <div class="body mts">
            {found.plugins.map((of) => (
              <Meter key={`${of.tenant} ${of.plugin}`} label={named(of, of.plugin)} value={of.used} max={of.concurrency} words={t.limits.usedOf(of.used, of.concurrency)} />
            ))}
          </div>
        </Panel>
      )}
      {found && found.rates.length > 0 && (
        <Panel title={t.limits.rates}>
          <Table
            label={t.limits.rates}
            columns={[{ head: t.limits.name }, { head: t.limits.rate, num: true }, { head: t.limits.left, num: true }, { head: t.limits.next, num: true, rank: 2 }]}
            rows={found.rates.map((of) => ({
              key: JSON.stringify([of.tenant, of.is_of_plugin, of.name]),
              head: <><bdi>{named(of, of.name)}</bdi>{of.is_of_plugin && <span class="sub">{t.limits.ofPlugin}</span>}</>,
              cells: [
                rate(of.interval_us),
                t.limits.usedOf(of.left, of.burst),
                of.next_at === null ? t.limits.now : <><Time at={of.next_at} /><span class="sub"><Age at={of.next_at} /></span></>,
              ],
            }))}
          />
        </Panel>
      )}
      {found && found.queues.length > 0 && <Queues found={found} tenants={tenant === undefined} reload={list.reload} />}
      {found && found.groups.length > 0 && <Groups found={found} tenants={tenant === undefined} reload={list.reload} />}
      {!may('operate') && <p class="note">{t.deed.mayLook(t.limits.mayLook, 'operate')}</p>}
    </>
  );
}

const nameOf = (of: { tenant: string; queue: string }, tenants: boolean): string => (tenants ? t.queue.title(of.tenant, of.queue) : of.queue);

function Queues({ found, tenants, reload }: { found: Found; tenants: boolean; reload: () => void }): JSX.Element {
  return (
    <Panel title={t.limits.queues} note={t.limits.queuesNote}>
      <Table
        label={t.limits.queues}
        columns={[{ head: t.queues.queue }, { head: t.limits.each, num: true }, { head: <span class="vh">{t.deed.act}</span> }]}
        rows={found.queues.map((of) => ({
          key: `${of.tenant} ${of.queue}`,
          head: <a href={href(['queues', of.tenant, of.queue], { tenant: scope() })}><bdi>{nameOf(of, tenants)}</bdi></a>,
          cells: [exact(of.concurrency), <SetLimit of={of} reload={reload} />],
        }))}
      />
    </Panel>
  );
}

/** Gives a group a limit of its own, with an end. */
function SetLimit({ of, reload }: { of: { tenant: string; queue: string; concurrency: number; group?: string }; reload: () => void }): JSX.Element {
  const [group, setGroup] = useState(of.group ?? '');
  const [text, setText] = useState(String(of.concurrency));
  const concurrency = concurrencyOf(text);
  return (
    <Act
      label={of.group === undefined ? t.limits.set : t.limits.change}
      title={of.group === undefined ? t.limits.setTitle(of.queue) : t.limits.changeTitle(of.group)}
      tenant={of.tenant}
      deed={(terms) => setLimit(of.tenant, of.queue, group, concurrency ?? of.concurrency, terms)}
      ends
      noted
      small
      ready={concurrency !== undefined && group !== ''}
      said={t.limits.wasSet}
      after={reload}
    >
      <p>{t.limits.setText}</p>
      {of.group === undefined && (
        <label><span>{t.limits.group}</span><input class="in" autocomplete="off" spellcheck={false} value={group} onInput={(event) => setGroup(event.currentTarget.value)} /></label>
      )}
      <label><span>{t.limits.concurrency}</span><input class="in" inputMode="numeric" autocomplete="off" aria-invalid={concurrency === undefined} value={text} onInput={(event) => setText(event.currentTarget.value)} /></label>
    </Act>
  );
}

function Groups({ found, tenants, reload }: { found: Found; tenants: boolean; reload: () => void }): JSX.Element {
  return (
    <Panel title={t.limits.groups} note={t.limits.groupsNote}>
      <Table
        label={t.limits.groups}
        columns={[
          { head: t.limits.group }, { head: t.limits.used, num: true }, { head: t.limits.instead, num: true, rank: 3 },
          { head: t.holds.until, num: true, rank: 2 }, { head: <span class="vh">{t.deed.act}</span> },
        ]}
        rows={found.groups.map((of) => ({
          key: JSON.stringify([of.tenant, of.queue, of.group]),
          head: (
            <>
              <a class="m" href={href(['jobs'], { tenant: of.tenant, queue: of.queue, group: of.group })}><Hostile text={of.group} /></a>
              <span class="sub"><bdi>{nameOf(of, tenants)}</bdi></span>
              {!of.enabled && <span class="st c-cancelled"><Icon name="cancelled" />{t.limits.off}</span>}
              {of.by !== null && <span class="sub"><Hostile text={t.holds.by(of.by)} /></span>}
              {of.note !== null && of.note !== '' && <span class="sub"><Hostile text={t.overview.note(of.note)} /></span>}
            </>
          ),
          cells: [
            t.limits.usedOf(of.used, of.concurrency),
            of.instead_of === null ? t.limits.noRule : exact(of.instead_of),
            of.until === null ? t.holds.open : <><Time at={of.until} /><span class="sub"><Age at={of.until} /></span></>,
            <GroupActs of={of} reload={reload} />,
          ],
        }))}
      />
    </Panel>
  );
}

function GroupActs({ of, reload }: { of: GroupLimit; reload: () => void }): JSX.Element {
  const { tenant, queue, group, enabled } = of;
  return (
    <div class="acts">
      <SetLimit of={of} reload={reload} />
      <Act
        label={enabled ? t.limits.switchOff : t.limits.switchOn}
        title={enabled ? t.limits.offTitle(group) : t.limits.onTitle(group)}
        tenant={tenant}
        deed={() => switchLimit(tenant, queue, group, !enabled)}
        small
        said={enabled ? t.limits.wasOff : t.limits.wasOn}
        after={reload}
      ><p>{enabled ? t.limits.offText : t.limits.onText}</p></Act>
      <Act label={t.limits.unset} title={t.limits.unsetTitle(group)} tenant={tenant} deed={() => unsetLimit(tenant, queue, group)} small said={t.limits.wasUnset} after={reload}>
        <p>{t.limits.unsetText}</p>
      </Act>
    </div>
  );
}
