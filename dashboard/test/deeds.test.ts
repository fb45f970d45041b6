import assert from 'node:assert/strict';
import { test } from 'node:test';
import { curl } from '../src/command.ts';
import * as deeds from '../src/deeds.ts';
import { editOf, type Fields } from '../src/edit.ts';
import { Raw, written } from '../src/json.ts';

test('a deed is the same as a request and as a command', () => {
  const pause = deeds.pause({ tenant: 'acme', queue: 'mail' }, { lasts: '1h', note: 'it is down' });
  assert.deepEqual(pause.body, { tenant: 'acme', queue: 'mail', for: '1h', note: 'it is down' });
  assert.equal(deeds.commandOf(pause), "sandhog pause --tenant acme --queue mail --for 1h --note 'it is down'");

  const lift = deeds.lift({ tenant: 'acme', queue: null, kind: 'mail.send' });
  assert.deepEqual(lift.query, { tenant: 'acme', queue: undefined, kind: 'mail.send' });
  assert.equal(deeds.commandOf(lift), 'sandhog resume --tenant acme --kind mail.send');

  const close = deeds.forceBreaker('acme', 'smtp-eu', false, { lasts: '', note: '' });
  assert.deepEqual(close.body, { tenant: 'acme', name: 'smtp-eu', open: false });
  assert.equal(deeds.commandOf(close), 'sandhog breaker close smtp-eu --tenant acme');

  const limit = deeds.setLimit('acme', 'mail', 'customer 7', 3, { lasts: '1h', note: '' });
  assert.deepEqual(limit.body, { tenant: 'acme', queue: 'mail', group: 'customer 7', concurrency: 3, for: '1h' });
  assert.equal(deeds.commandOf(limit), "sandhog limit set mail 'customer 7' 3 --tenant acme --for 1h");
  assert.equal(deeds.commandOf(deeds.switchLimit('acme', 'mail', 'c', false)), 'sandhog limit off mail c --tenant acme');

  assert.equal(deeds.commandOf(deeds.actFlow('acme', '01', 'redrive', 'sum up')), "sandhog flow redrive 01 --tenant acme --from 'sum up'");
  assert.equal(deeds.backfill('acme', 'a/b', 'x', 'y').path, '/v1/schedules/a%2Fb/backfill');
});

test('what is counted is what is done', () => {
  const dead = { tenant: 'acme', kind: 'k', reason: 'trapped', message: 'in layout' };
  const [counted, done] = [true, false].map((dry) => deeds.redriveDead(dead, '2026-11-30T00:00:00.000Z', dry));
  const { dry_run: dry, ...asked } = counted?.body as Record<string, unknown>;
  const { dry_run: wet, ...acted } = done?.body as Record<string, unknown>;
  assert.deepEqual([dry, wet], [true, false]);
  assert.deepEqual(asked, acted);
  assert.deepEqual(acted, { action: 'redrive', state: 'dead', until: '2026-11-30T00:00:00.000Z', ...dead });
});

test('an edited payload keeps its digits', () => {
  const edit = deeds.edit({ tenant: 'acme', id: '01' }, { payload: { is: 'json', text: '{"n":12345678901234567890}' }, priority: 7 });
  assert.equal(written(edit.body), '{"payload":{"n":12345678901234567890},"priority":7}');
  assert.equal(curl('PATCH', 'https://sandhog.example/x', new Raw('{"a":1.10}')), `curl -H @token -X PATCH https://sandhog.example/x --json '{"a":1.10}'`);
  const text = deeds.edit({ tenant: 'acme', id: '01' }, { payload: { is: 'text', text: 'a"b' }, delay: '0s' });
  assert.equal(written(text.body), '{"text":"a\\"b","delay":"0s"}');
  assert.equal(deeds.commandOf(text), `sandhog job edit 01 --tenant acme --delay 0s --payload 'a"b' --raw`);
});

test('an edit is what differs, and nothing while a field is wrong', () => {
  const was: Fields = { payload: '{"a":1}', isJson: true, priority: '100', delay: '' };
  assert.deepEqual(editOf(was, was), {});
  assert.deepEqual(editOf(was, { ...was, priority: ' 7 ', delay: '10m' }), { edit: { priority: 7, delay: '10m' } });
  assert.deepEqual(editOf(was, { ...was, payload: '{"a":2}' }), { edit: { payload: { is: 'json', text: '{"a":2}' } } });
  assert.deepEqual(editOf(was, { ...was, payload: '{"a":' }), { wrong: 'wrong' });
  assert.deepEqual(editOf({ ...was, isJson: false }, { ...was, isJson: false, payload: '{"a":' }), { edit: { payload: { is: 'text', text: '{"a":' } } });
  for (const priority of ['', '256', '-1', '1.5']) assert.deepEqual(editOf(was, { ...was, priority }), { wrong: 'wrongPriority' });
  assert.deepEqual(editOf(was, { ...was, delay: 'soon' }), { wrong: 'wrongDelay' });
});
