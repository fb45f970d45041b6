import type { JSX } from 'preact';
import { address, api, type DeployEvent, type Problem, type Plugin as PluginStatus, type PluginState, type Side } from '../api.ts';
import { command, curl } from '../command.ts';
import { rollBack } from '../deeds.ts';
import { Act } from '../parts/act.tsx';
import { Copy, CopyBoth } from '../parts/copy.tsx';
import { Hostile } from '../parts/hostile.tsx';
import { Icon, type IconName } from '../parts/icon.tsx';
import { Empty, Failed } from '../parts/notice.tsx';
import { Head, Panel } from '../parts/panel.tsx';
import { Table } from '../parts/table.tsx';
import { Time } from '../parts/time.tsx';
import { WhyLine, type Severity } from '../parts/why.tsx';
import { href, scope } from '../place.ts';
import type { ViewProps } from '../routes.ts';
import { may } from '../session.ts';
import { useSnapshot } from '../snapshot.ts';
import { now } from '../store.ts';
import { t } from '../texts.ts';
import { useTitle } from '../title.ts';
import { clock, exact, fuel, percent, timeOf } from '../units.ts';

/** Digits of a revision that are shown; its title has all. */
const DIGITS = 12;
/** Most deploy events that are listed. */
const EVENTS_MAX = 100;

const LOOK: Record<PluginState, { severity: Severity; icon: IconName }> = {
  serving: { severity: 'ok', icon: 'ok' },
  canary: { severity: 'info', icon: 'half' },
  'rolled-back': { severity: 'warn', icon: 'redo' },
  failed: { severity: 'crit', icon: 'crit' },
  draining: { severity: 'info', icon: 'half' },
};

const short = (revision: string): string => revision.slice(0, DIGITS);

function Revision({ of }: { of: string | null }): JSX.Element {
  return of === null ? <span class="mu">{t.none}</span> : <code title={of}>{short(of)}</code>;
}

function State({ of }: { of: PluginState }): JSX.Element {
  return <span class={`st k-${LOOK[of].severity}`}><Icon name={LOOK[of].icon} />{t.plugins.states[of] ?? of}</span>;
}

const anything = (): boolean => true;
const isServe = (problem: Problem | undefined): boolean => problem?.status === 503;

/** Which plugins are in force, and which aren't as their files have them. */
export function Plugins(_: ViewProps): JSX.Element {
  const tenant = scope();
  const of = useSnapshot('', (signal) => api.plugins(signal), anything);
  const events = useSnapshot('', (signal) => api.deployEvents(signal), anything);
  useTitle(t.plugins.title);
  const plugins = (of.data?.plugins ?? []).filter((plugin) => tenant === undefined || plugin.tenant === tenant);
  const failed = plugins.filter((plugin) => plugin.state === 'failed').length;
  const url = new URL(address('/v1/plugins'), location.origin).href;
  if (isServe(of.problem)) return <><Head title={t.plugins.title} /><div class="p"><Empty title={t.plugins.serve} /></div></>;
  return (
    <>
      <Head title={failed > 0 ? t.plugins.failed(failed) : t.plugins.title} acts={<CopyBoth command={command('sandhog', 'plugins')} curl={curl('GET', url)} />} />
      {of.problem && <Failed what={t.plugins.title} problem={of.problem} at={of.at} retry={of.reload} />}
      {of.data && plugins.length === 0 && (
        <div class="p"><Empty title={t.plugins.none}><p>{t.plugins.noneText}</p><p><code>{t.plugins.first}</code></p><Copy label={t.copy.command} text={t.plugins.first} /></Empty></div>
      )}
      {plugins.length > 0 && (
        <section class="p" aria-label={t.plugins.title}>
          <Table
            label={t.plugins.title}
            columns={[{ head: t.plugins.plugin }, { head: t.plugins.state }, { head: t.plugins.revision, rank: 2 }, { head: t.plugins.since, num: true, rank: 2 }, { head: t.plugins.running, num: true }]}
            rows={plugins.map((plugin) => ({
              key: `${plugin.tenant ?? ''} ${plugin.plugin}`,
              head: plugin.tenant === null
                ? <Hostile text={plugin.plugin} />
                : <><a href={href(['plugins', plugin.tenant, plugin.plugin])}><bdi>{plugin.plugin}</bdi></a><span class="sub"><bdi>{plugin.tenant}</bdi></span></>,
              cells: [
                <><State of={plugin.state} />{plugin.message !== null && <span class="sub"><Hostile text={plugin.message} /></span>}</>,
                <Revision of={plugin.revision} />,
                <Time at={plugin.since} />,
                exact(plugin.running),
              ],
            }))}
          />
        </section>
      )}
      {events.problem && <Failed what={t.plugins.events} problem={events.problem} at={events.at} retry={events.reload} />}
      {events.data && <Events events={events.data.events.filter((event) => tenant === undefined || event.tenant === tenant || event.tenant === null)} />}
    </>
  );
}

/** What deploys have done, the latest first. */
function Events({ events }: { events: readonly DeployEvent[] }): JSX.Element {
  const shown = [...events].reverse().slice(0, EVENTS_MAX);
  const isBad = (what: string): boolean => what === 'failed' || what === 'rejected';
  return (
    <Panel title={t.plugins.events} note={t.plugins.eventsNote}>
      {shown.length === 0 ? <Empty title={t.plugins.eventsNone} /> : (
        <ol class="ev body">
          {shown.map((event, index) => (
            <li key={`${event.at} ${index}`} class={isBad(event.what) ? 'k-bad' : ''}>
              <Time at={event.at} />
              <Icon name={isBad(event.what) ? 'crit' : event.what === 'rolled-back' ? 'redo' : 'ok'} />
              <div>
                <b>{t.plugins.what[event.what] ?? event.what}</b>{' '}
                {event.tenant !== null && event.plugin !== null && <a href={href(['plugins', event.tenant, event.plugin])}><bdi>{event.tenant}/{event.plugin}</bdi></a>}
                {event.tenant !== null && event.plugin === null && <bdi>{event.tenant}</bdi>}{' '}
                {event.revision !== null && <Revision of={event.revision} />}
                <span class="sub">
                  {event.was !== null && <>{t.plugins.was(short(event.was))} </>}
                  {event.message !== null && <Hostile text={event.message} lines />}
                </span>
              </div>
            </li>
          ))}
        </ol>
      )}
    </Panel>
  );
}

/** What is in force of one plugin, why it isn't as its file has it, its canary, and what it can go back to. */
export function Plugin({ params }: ViewProps): JSX.Element {
  const { tenant = '', name = '' } = params;
  const of = useSnapshot('', (signal) => api.plugins(signal), anything);
  const events = useSnapshot('', (signal) => api.deployEvents(signal), anything);
  const plugin = of.data?.plugins.find((one) => one.tenant === tenant && one.plugin === name);
  useTitle(`${tenant}/${name}`);
  const crumb = <a href={href(['plugins'])}>{t.plugins.crumb}</a>;
  if (plugin === undefined) {
    if (of.problem) return <><Head crumb={crumb} title={<bdi>{name}</bdi>} /><Failed what={name} problem={of.problem} retry={of.reload} /></>;
    if (of.data === undefined) return <Head crumb={crumb} title={<bdi>{name}</bdi>} />;
    return <><Head crumb={crumb} title={t.plugins.gone} /><div class="p"><Empty title={t.plugins.gone}><p>{t.plugins.goneText}</p></Empty></div></>;
  }
  const look = LOOK[plugin.state];
  const title =
    plugin.state === 'serving' ? t.plugins.why.serving(at(plugin.since))
    : plugin.state === 'canary' ? t.plugins.why.canary(percent(plugin.canary?.share ?? 0))
    : t.plugins.why[plugin.state]();
  const url = new URL(address('/v1/plugins'), location.origin).href;
  return (
    <>
      <Head
        crumb={crumb}
        title={<bdi>{name}</bdi>}
        sub={<bdi>{tenant}</bdi>}
        acts={<><a class="b" href={href(['jobs'], { tenant })}>{t.plugins.jobs}</a><CopyBoth command={command('sandhog', 'plugins')} curl={curl('GET', url)} /></>}
      />
      <WhyLine severity={look.severity} icon={look.icon} title={title}>
        {plugin.message !== null && <p class="lines"><Hostile text={plugin.message} lines panel /></p>}
        <p>{t.plugins.runs(plugin.running)}</p>
      </WhyLine>
      {plugin.canary && <Canary of={plugin.canary} inForce={plugin.revision} />}
      <Revisions plugin={plugin} reload={() => { of.reload(); events.reload(); }} />
      {events.data && <Events events={events.data.events.filter((event) => event.tenant === tenant && event.plugin === name)} />}
    </>
  );
}

const at = (text: string | null): string => {
  const time = timeOf(text);
  return time === undefined ? t.unknown : clock(time, now());
};

function Canary({ of, inForce }: { of: NonNullable<PluginStatus['canary']>; inForce: string | null }): JSX.Element {
  const row = (key: string, revision: string | null, side: Side, word: string) => ({
    key,
    head: <><Revision of={revision} /><span class="sub">{word}</span></>,
    cells: [
      exact(side.runs),
      <>{exact(side.failures)}{side.runs > 0 && <span class="sub">{percent(side.failures / side.runs)}</span>}</>,
      side.fuel_mean === null ? t.none : <span title={exact(Math.round(side.fuel_mean))}>{fuel(side.fuel_mean)}</span>,
    ],
  });
  return (
    <Panel title={t.plugins.canary} note={t.plugins.canaryNote(of.runs_min)}>
      <Table
        label={t.plugins.canary}
        columns={[{ head: t.plugins.side }, { head: t.plugins.ended, num: true }, { head: t.plugins.failures, num: true }, { head: t.plugins.fuelMean, num: true }]}
        rows={[row('old', inForce, of.old, t.plugins.old), row('new', of.revision, of.new, t.plugins.new)]}
      />
    </Panel>
  );
}

function Revisions({ plugin, reload }: { plugin: PluginStatus; reload: () => void }): JSX.Element {
  const tenant = plugin.tenant ?? '';
  const name = `${tenant}/${plugin.plugin}`;
  const revisions = [...(plugin.revision === null ? [] : [plugin.revision]), ...plugin.kept.filter((kept) => kept !== plugin.revision)];
  return (
    <Panel title={t.plugins.revisions} note={t.plugins.revisionsNote}>
      <Table
        label={t.plugins.revisions}
        columns={[{ head: t.plugins.side }, { head: '' }]}
        rows={revisions.map((revision) => ({
          key: revision,
          head: <><Revision of={revision} /><span class="sub">{revision === plugin.revision ? t.plugins.force : t.plugins.kept}</span></>,
          cells: [
            revision === plugin.revision ? '' : (
              <Act
                label={t.plugins.back}
                title={t.plugins.backTitle(name, short(revision))}
                tenant={tenant}
                deed={() => rollBack(name, revision)}
                role="deploy"
                risk
                small
                said={t.plugins.backDone(name, short(revision))}
                after={reload}
              >
                <p>{t.plugins.backText}</p>
                <p class="q">{t.plugins.backHeld}</p>
              </Act>
            ),
          ],
        }))}
      />
      {!may('deploy') && <p class="note body">{t.deed.mayLook(t.plugins.mayLook, 'deploy')}</p>}
    </Panel>
  );
}
