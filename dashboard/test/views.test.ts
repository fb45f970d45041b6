import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { FlowJob, Hold, Queue } from '../src/api.ts';
import { wordsOf } from '../src/cron.ts';
import { commonOf } from '../src/failures.ts';
import type { State } from '../src/filter.ts';
import { FAN_MAX, graphOf, layersOf } from '../src/graph.ts';
import { concurrencyOf, reachedOf } from '../src/limits.ts';
import { treeOf, type Tree } from '../src/json.ts';
import { firesOf } from '../src/schedule.ts';
import { rate } from '../src/units.ts';
import { FAR_BEHIND_FROM, BEHIND_FROM, holdsOf, verdictOf } from '../src/verdict.ts';

const NOW = Date.parse('2026-11-30T03:12:08Z');

test('a queue keeps up by the age of its oldest ready job', () => {
  const verdict = (waited: number | null, leased: number | null, held = false): string => {
    const jobs = { ready: waited === null ? 0 : 5, leased, scheduled: 0, blocked: null } satisfies Queue['jobs'];
    const { is, severity } = verdictOf({ jobs, held, oldest_ready: waited === null ? null : new Date(NOW - waited).toISOString() }, NOW);
    return `${is} ${severity}`;
  };
  assert.equal(verdict(null, 0), 'idle ok');
  assert.equal(verdict(BEHIND_FROM - 1, 0), 'keeps-up ok');
  assert.equal(verdict(BEHIND_FROM, 3), 'behind info');
  assert.equal(verdict(FAR_BEHIND_FROM, 3), 'behind warn');
  assert.equal(verdict(BEHIND_FROM, 0), 'stuck warn');
  // Too many to count is not none.
  assert.equal(verdict(BEHIND_FROM, null), 'behind info');
  assert.equal(verdict(FAR_BEHIND_FROM, 0, true), 'held info');
  // A clock that is ahead makes nothing wait for a negative time.
  assert.equal(verdict(-5000, 0), 'keeps-up ok');
});

test('the holds of a queue are those of the tenant, of the queue, and of kinds', () => {
  const hold = (tenant: string, queue: string | null, kind: string | null): Hold => ({ tenant, queue, kind, reason: 'paused', by: null, since: null, until: null, note: null });
  const holds = [hold('a', null, null), hold('a', 'q', null), hold('a', 'other', null), hold('a', null, 'k'), hold('b', 'q', null)];
  assert.deepEqual(holdsOf(holds, 'a', 'q'), [holds[0], holds[1], holds[3]]);
});

test('a limit is reached when it lets nothing further through', () => {
  const group = { tenant: 'a', queue: 'q', group: 'g', concurrency: 2, used: 2, instead_of: 5, enabled: true, by: null, since: null, until: null, note: null };
  const rate = { tenant: 'a', name: 'r', is_of_plugin: false, interval_us: 1000, burst: 5, left: 0, next_at: null };
  const plugin = { tenant: 'a', plugin: 'p', concurrency: 4, used: 4 };
  const of = (limits: Partial<Parameters<typeof reachedOf>[0]>): number => reachedOf({ queues: [], groups: [], plugins: [], rates: [], ...limits });
  assert.equal(of({ groups: [group, { ...group, enabled: false }, { ...group, instead_of: null }, { ...group, used: 1 }] }), 1);
  assert.equal(of({ rates: [rate, { ...rate, next_at: '2026-11-30T03:12:41Z' }] }), 1);
  assert.equal(of({ plugins: [plugin, { ...plugin, used: 3 }] }), 1);
  assert.deepEqual(['1', ' 1000 ', '0', '1001', '', '1.5', '-1'].map(concurrencyOf), [1, 1000, undefined, undefined, undefined, undefined, undefined]);
});

test('cron expressions have words, or stay as they are', () => {
  const cases: [string, string | undefined][] = [
    ['0 9 * * mon-fri', 'at 09:00 on weekdays'],
    ['0 9 * * 1-5', 'at 09:00 on weekdays'],
    ['0 8,20 * * sat,sun', 'at 08:00 and 20:00 on Saturdays and Sundays'],
    ['0 12 * * 7', 'at 12:00 on Sundays'],
    ['30 2 * * *', 'at 02:30 every day'],
    ['0 1 L * *', 'at 01:00 on the last day of each month'],
    ['15 6 1,15 * *', 'at 06:15 on day 1 and 15 of each month'],
    ['*/10 * * * *', 'every 10 minutes'],
    ['* * * * *', 'every minute'],
    ['0,30 * * * *', 'every hour at :00 and :30'],
    ['0 0 9 * * mon', 'at 09:00 on Mondays'],
    ['*/30 * * * * *', undefined],
    ['*/7 * * * *', undefined],
    ['0 0 13 * fri', undefined],
    ['* * 24-26 12 *', undefined],
    ['@daily', undefined],
    ['0 9 * * fri-mon', undefined],
  ];
  for (const [cron, words] of cases) assert.equal(wordsOf(cron), words, cron);
  const fires = (cron: string[], every_ms: number | null = null, phase_ms: number | null = null): string => firesOf({ cron, every_ms, phase_ms }).replaceAll('\u00a0', ' ');
  assert.equal(fires(['0 9 * * *', '*/7 * * * *']), 'At 09:00 every day; */7 * * * *');
  assert.equal(fires([], 600_000, 0), 'Every 10 min');
  assert.equal(fires([], 600_000, 180_000), 'Every 10 min, 3 min after each');
});

test('what messages have in common is a part of each', () => {
  const cases: [string, string, string][] = [
    ["wanted # MiB of '…' beyond limits.memory", "wanted 4096 MiB of 'a.png' beyond limits.memory", 'beyond limits.memory'],
    ['in layout::table (src/layout.rs:#) at a', 'in layout::table (src/layout.rs:212)\n  at a', 'in layout::table (src/layout.rs:'],
    ['#', '7', ''],
    ['out of memory', 'out\n of memory', 'memory'],
  ];
  for (const [pattern, message, common] of cases) {
    assert.equal(commonOf({ pattern, message }), common);
    assert.ok(message.includes(common));
  }
});

const job = (id: string, after: readonly string[], state: State = 'succeeded', kind = 'k'): FlowJob =>
  ({ id, name: id, kind, state, after: after.map((of) => ({ job: of, id: of, on_failure: 'fail' })) }) as unknown as FlowJob;

test('each job of a flow stands behind all that it comes after', () => {
  // In the order of the file, which needn't be that of the edges; `gone` is kept no more.
  const jobs = [job('d', ['b', 'c']), job('b', ['a']), job('c', ['b', 'a']), job('a', []), job('e', ['gone'])];
  const layers = layersOf(jobs);
  assert.deepEqual(Object.fromEntries(layers), { a: 0, e: 0, b: 1, c: 2, d: 3 });
  const { nodes, edges, layers: count } = graphOf(jobs, true);
  assert.equal(count, 4);
  assert.equal(nodes.length, 5);
  assert.equal(edges.length, 5);
  const order = nodes.map((node) => node.key);
  for (const { from, to } of edges) assert.ok(order.indexOf(from.key) < order.indexOf(to.key));
});

test('jobs that are alike are folded where they are many', () => {
  const fan = (count: number): FlowJob[] => [job('first', []), ...Array.from({ length: count }, (_, at) => job(`f${at}`, ['first'], at === 0 ? 'leased' : 'succeeded')), job('last', Array.from({ length: count }, (_, at) => `f${at}`), 'blocked')];
  assert.equal(graphOf(fan(FAN_MAX), true).nodes.length, FAN_MAX + 2);
  const folded = graphOf(fan(FAN_MAX + 1), true);
  assert.equal(folded.nodes.length, 3);
  assert.deepEqual(folded.edges.map((edge) => edge.is), ['done', 'wait']);
  assert.equal(graphOf(fan(FAN_MAX + 1), false).nodes.length, FAN_MAX + 3);
});

test('an edge behind a dead job is bad', () => {
  assert.deepEqual(graphOf([job('a', [], 'dead'), job('b', ['a'], 'blocked')], true).edges.map((edge) => edge.is), ['bad']);
});

test('a tree has every token as it was written', () => {
  const write = (tree: Tree): string =>
    tree.is === 'leaf' ? tree.text
    : tree.is === 'array' ? `[${tree.members.map(({ value }) => write(value)).join(',')}]`
    : `{${tree.members.map(({ name, value }) => `${name ?? ''}:${write(value)}`).join(',')}}`;
  for (const text of ['{"a":12345678901234567890,"b":[1.10,"x:y,{}",[],{}],"c":{"d":null,"e":{"f":true}},"a":"twice"}', '[]', '7', '"a"', '[["a",["b"]],{"c":"d"}]']) {
    assert.equal(write(treeOf(text) as Tree), text);
  }
  assert.equal(treeOf('{"a":[1}')?.is, undefined);
  assert.equal(treeOf(']'), undefined);
  const deep = `${'['.repeat(100_000)}${']'.repeat(100_000)}`;
  assert.equal(treeOf(deep)?.is, 'array');
});

test('a rate is at least one of its unit', () => {
  for (const [interval, text] of [[10_000, '100/s'], [1_000_000, '1/s'], [40_000_000, '1.5/min'], [60_000_000, '1/min'], [600_000_000, '6/h'], [7_200_000_000, '12/d']] as const) {
    assert.equal(rate(interval), text);
  }
});
