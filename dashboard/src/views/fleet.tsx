import type { JSX } from 'preact';
import { address, api, type Daemon } from '../api.ts';
import { command, curl } from '../command.ts';
import { Copy, CopyBoth } from '../parts/copy.tsx';
import { Hostile } from '../parts/hostile.tsx';
import { Icon } from '../parts/icon.tsx';
import { Meter } from '../parts/meter.tsx';
import { Empty, Failed } from '../parts/notice.tsx';
import { Head } from '../parts/panel.tsx';
import { Table } from '../parts/table.tsx';
import { Age, Time } from '../parts/time.tsx';
import { WhyLine } from '../parts/why.tsx';
import type { ViewProps } from '../routes.ts';
import { useSnapshot } from '../snapshot.ts';
import { useNow } from '../store.ts';
import { t } from '../texts.ts';
import { useTitle } from '../title.ts';
import { exact, timeOf } from '../units.ts';

/** Time without a fetch after which a daemon counts as one that fetches no more. */
const FETCHES_WITHIN = 30_000;

const fetches = (daemon: Daemon, now: number): boolean => {
  const last = timeOf(daemon.last_fetch);
  return !daemon.draining && last !== undefined && now - last < FETCHES_WITHIN;
};

/** Who fetches jobs, and who only seems to be there. */
export function Fleet(_: ViewProps): JSX.Element {
  const of = useSnapshot('', (signal) => api.daemons(signal), () => true);
  const now = useNow();
  useTitle(t.fleet.title);
  const daemons = of.data?.daemons ?? [];
  const fetching = daemons.filter((daemon) => fetches(daemon, now)).length;
  const versions = new Set(daemons.map((daemon) => daemon.version)).size;
  const url = new URL(address('/v1/daemons'), location.origin).href;
  return (
    <>
      <Head
        title={of.data === undefined || fetching === 0 ? t.fleet.title : t.fleet.serves(fetching)}
        acts={<CopyBoth command={command('sandhog', 'status')} curl={curl('GET', url)} />}
      />
      {of.problem?.status === 404 && <div class="p"><Empty title={t.fleet.missing} /></div>}
      {of.problem && of.problem.status !== 404 && <Failed what={t.fleet.title} problem={of.problem} at={of.at} retry={of.reload} />}
      {of.data && fetching === 0 && <WhyLine severity="crit" title={t.fleet.nobody}><p>{t.fleet.nobodyText}</p></WhyLine>}
      {versions > 1 && <WhyLine severity="info" icon="half" title={t.fleet.versions(versions)} />}
      {of.data && daemons.length === 0 && (
        <div class="p"><Empty title={t.fleet.none}><p>{t.fleet.noneText}</p><p><code>{t.fleet.first}</code></p><Copy label={t.copy.command} text={t.fleet.first} /></Empty></div>
      )}
      {daemons.length > 0 && (
        <section class="p" aria-label={t.fleet.title}>
          <Table
            label={t.fleet.title}
            columns={[
              { head: t.fleet.daemon }, { head: t.fleet.fetched }, { head: t.fleet.slots }, { head: t.fleet.plugins, num: true, rank: 2 },
              { head: t.fleet.version, rank: 2 }, { head: t.fleet.started, num: true, rank: 3 },
            ]}
            rows={daemons.map((daemon) => ({
              key: daemon.id,
              head: <>{daemon.name === null ? <code>{daemon.id}</code> : <Hostile text={daemon.name} />}{daemon.name !== null && <span class="sub m id">{daemon.id}</span>}</>,
              cells: [
                <Fetched daemon={daemon} now={now} />,
                daemon.slots === 0 ? t.none : <Meter inTable isShare label={t.fleet.slots} value={daemon.slots_used} max={daemon.slots} words={t.fleet.slotsOf(daemon.slots_used, daemon.slots)} />,
                exact(daemon.plugins),
                <bdi>{daemon.version}</bdi>,
                <Time at={daemon.started} />,
              ],
            }))}
          />
        </section>
      )}
    </>
  );
}

function Fetched({ daemon, now }: { daemon: Daemon; now: number }): JSX.Element {
  const [icon, severity, word] =
    daemon.draining ? (['half', 'info', t.fleet.draining] as const)
    : fetches(daemon, now) ? (['ok', 'ok', t.fleet.fetching] as const)
    : daemon.slots === 0 ? (['info', 'info', t.fleet.serving] as const)
    : (['warn', 'warn', t.fleet.late] as const);
  return <><span class={`st k-${severity}`}><Icon name={icon} />{word}</span><span class="sub"><Age at={daemon.last_fetch ?? daemon.seen} /></span></>;
}
