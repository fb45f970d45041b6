import type { JSX } from 'preact';
import { address, api, type UsageRow } from '../api.ts';
import { command, curl } from '../command.ts';
import { CopyBoth } from '../parts/copy.tsx';
import { Figure, Figures } from '../parts/figure.tsx';
import { Meter } from '../parts/meter.tsx';
import { Empty, Failed } from '../parts/notice.tsx';
import { Head, Panel } from '../parts/panel.tsx';
import { Sparkline } from '../parts/sparkline.tsx';
import { Table, type Column } from '../parts/table.tsx';
import { href, hrefWith } from '../place.ts';
import type { ViewProps } from '../routes.ts';
import { useSnapshot } from '../snapshot.ts';
import { now } from '../store.ts';
import { t } from '../texts.ts';
import { useTitle } from '../title.ts';
import { bytes, duration, exact, fuel, percent } from '../units.ts';

const DAY = 86_400_000;
const PERIODS = ['1', '7', '30', '90'];
const USUAL = '7';

const dayOf = (time: number): string => new Date(time).toISOString().slice(0, 10);

/** Days of a period that ends today, the first one first. */
const daysOf = (period: string): string[] => {
  const count = Number(period);
  return Array.from({ length: count }, (_, nth) => dayOf(now() - (count - 1 - nth) * DAY));
};

const periodOf = (query: URLSearchParams): string => {
  const told = query.get('days') ?? USUAL;
  return PERIODS.includes(told) ? told : USUAL;
};

function Period({ query, period }: { query: URLSearchParams; period: string }): JSX.Element {
  const to = (days: string): string => {
    const next = new URLSearchParams(query);
    next.set('days', days);
    return hrefWith(next);
  };
  return (
    <nav class="tabs" aria-label={t.tenants.period}>
      {PERIODS.map((days) => <a key={days} href={to(days)} aria-current={days === period ? 'page' : undefined}>{t.tenants.periods[days]}</a>)}
    </nav>
  );
}

const failedOf = (row: UsageRow): number => row.dead + row.retried;

/** Columns of usage, after that which names the row. */
const COLUMNS: readonly Column[] = [
  { head: t.tenants.runs, num: true },
  { head: t.tenants.failed, num: true },
  { head: t.tenants.fuel, num: true },
  { head: t.tenants.cpu, num: true, rank: 2 },
  { head: t.tenants.wall, num: true, rank: 2 },
  { head: t.tenants.calls, num: true, rank: 3 },
  { head: t.tenants.traffic, num: true, rank: 3 },
];

const cellsOf = (row: UsageRow): (JSX.Element | string)[] => [
  exact(row.attempts),
  <>{exact(failedOf(row))}{row.attempts > 0 && <span class="sub">{percent(failedOf(row) / row.attempts)}</span>}</>,
  <span title={exact(row.fuel)}>{fuel(row.fuel)}</span>,
  duration(row.cpu_us / 1000),
  duration(row.wall_us / 1000),
  exact(row.host_calls),
  <>{bytes(row.bytes_in)}<span class="sub">{bytes(row.bytes_out)}</span></>,
];

const usageCommand = (from: string, by: string, tenant?: string): string =>
  command('sandhog', 'usage', '--from', from, '--by', by, ...(tenant === undefined ? [] : ['--tenant', tenant]));

/** Who has used the processors, and how much of what. */
export function Tenants({ query }: ViewProps): JSX.Element {
  const period = periodOf(query);
  const from = daysOf(period)[0] ?? '';
  const usage = useSnapshot(period, (signal) => api.usage({ from, by: 'tenant' }, signal), () => true);
  useTitle(t.tenants.title);
  const { rows = [], total } = usage.data ?? {};
  const sorted = [...rows].sort((one, other) => other.cpu_us - one.cpu_us);
  const url = new URL(address('/v1/usage', { from, by: 'tenant' }), location.origin).href;
  return (
    <>
      <Head title={t.tenants.title} sub={usage.data && t.tenants.window(usage.data.from, usage.data.to)} acts={<CopyBoth command={usageCommand(from, 'tenant')} curl={curl('GET', url)} />} />
      {usage.problem && <Failed what={t.tenants.title} problem={usage.problem} at={usage.at} retry={usage.reload} />}
      <section class="p" aria-label={t.tenants.title}>
        <Period query={query} period={period} />
        {usage.data && rows.length === 0 && <Empty title={t.tenants.none}><p>{t.tenants.noneText}</p></Empty>}
        {total && rows.length > 0 && (
          <Table
            label={t.tenants.title}
            columns={[{ head: t.tenants.tenant }, { head: t.tenants.share }, ...COLUMNS]}
            rows={sorted.map((row) => {
              const name = row.tenant ?? '';
              const share = total.cpu_us > 0 ? row.cpu_us / total.cpu_us : 0;
              return {
                key: name,
                head: <a href={href(['tenants', name], { tenant: undefined, days: period })}><bdi>{name}</bdi></a>,
                cells: [<Meter inTable isShare label={t.tenants.share} value={share} max={1} words={percent(share)} />, ...cellsOf(row)],
              };
            })}
          />
        )}
      </section>
    </>
  );
}

/** What one tenant has used, by day and by plugin. */
export function Tenant({ params, query }: ViewProps): JSX.Element {
  const { name = '' } = params;
  const period = periodOf(query);
  const all = daysOf(period);
  const from = all[0] ?? '';
  const key = `${name} ${period}`;
  const days = useSnapshot(key, (signal) => api.usage({ from, by: 'day', tenant: name }, signal), () => true);
  const plugins = useSnapshot(key, (signal) => api.usage({ from, by: 'plugin', tenant: name }, signal), () => true);
  useTitle(name);
  const total = days.data?.total;
  const byDay = new Map((days.data?.rows ?? []).map((row) => [row.day ?? '', row]));
  const fuels = all.map((day) => byDay.get(day)?.fuel ?? 0);
  const url = new URL(address('/v1/usage', { from, by: 'day', tenant: name }), location.origin).href;
  const sentence = t.tenants.sentence(all.length, fuel(Math.max(0, ...fuels)));
  const window = days.data ? t.tenants.window(days.data.from, days.data.to) : '';
  return (
    <>
      <Head
        crumb={<a href={href(['tenants'], { tenant: undefined })}>{t.tenants.crumb}</a>}
        title={<bdi>{name}</bdi>}
        sub={window}
        acts={<><a class="b" href={href(['jobs'], { tenant: name })}>{t.tenants.live}</a><CopyBoth command={usageCommand(from, 'day', name)} curl={curl('GET', url)} /></>}
      />
      {days.problem && <Failed what={name} problem={days.problem} at={days.at} retry={days.reload} />}
      {total && (
        <Figures title={t.tenants.sum}>
          <Figure label={t.tenants.runs} value={total.attempts} unit="" window={window} />
          <Figure label={t.tenants.failed} value={failedOf(total)} unit="" window={total.attempts > 0 ? percent(failedOf(total) / total.attempts) : window} />
          <Figure label={t.tenants.fuel} value={total.fuel} unit="" window={window}><Sparkline values={fuels} sentence={sentence} /></Figure>
          <Figure label={t.tenants.cpu} value={Math.round(total.cpu_us / 1e6)} unit="s" window={window} />
          <Figure label={t.tenants.calls} value={total.host_calls} unit="" window={window} />
        </Figures>
      )}
      <section class="p" aria-label={t.tenants.days}>
        <Period query={query} period={period} />
        {days.data && days.data.rows.length === 0 && <Empty title={t.tenants.none}><p>{t.tenants.noneText}</p></Empty>}
        {days.data && days.data.rows.length > 0 && (
          <Table
            label={t.tenants.days}
            columns={[{ head: t.tenants.day }, ...COLUMNS]}
            rows={[...days.data.rows].reverse().map((row) => ({ key: row.day ?? '', head: row.day ?? '', cells: cellsOf(row) }))}
          />
        )}
      </section>
      {plugins.problem && <Failed what={t.tenants.plugins} problem={plugins.problem} at={plugins.at} retry={plugins.reload} />}
      {plugins.data && plugins.data.rows.length > 0 && (
        <Panel title={t.tenants.plugins}>
          <Table
            label={t.tenants.plugins}
            columns={[{ head: t.tenants.plugin }, ...COLUMNS]}
            rows={[...plugins.data.rows].sort((one, other) => other.fuel - one.fuel).map((row) => ({
              key: row.plugin ?? '',
              head: <a href={href(['plugins', name, row.plugin ?? ''], { tenant: undefined })}><bdi>{row.plugin}</bdi></a>,
              cells: cellsOf(row),
            }))}
          />
        </Panel>
      )}
    </>
  );
}
