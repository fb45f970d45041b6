import assert from 'node:assert/strict';
import { test } from 'node:test';
import { asked, bulkOf, termsOf, typed, withoutTerm, withTerm } from '../src/filter.ts';

const NOW = Date.parse('2026-11-30T03:12:08Z');

test('a condition that would be dropped is shown as wrong', () => {
  const wrong = (query: string): (string | undefined)[] => termsOf(new URLSearchParams(query)).map((term) => term.wrong);
  assert.deepEqual(wrong('tenant=acme&state=dead&since=1h&label=a%3Db&label=c%3D&limit=50&after=x&live=0'), [undefined, undefined, undefined, undefined, undefined]);
  assert.deepEqual(wrong('colour=red'), ['unknown-key']);
  assert.deepEqual(wrong('state=dead&state=ready'), [undefined, 'twice']);
  assert.deepEqual(wrong('state=deed'), ['unknown-state']);
  assert.deepEqual(wrong('since=tomorrow'), ['no-time']);
  assert.deepEqual(wrong('label=a'), ['no-label']);
});

test('what is typed is an id, conditions, or a part of the message', () => {
  assert.deepEqual(typed(' 01M8S83CWM1519NBCNHFH3J76Y '), { id: '01M8S83CWM1519NBCNHFH3J76Y' });
  assert.deepEqual(typed('kind:mail.send message:"421 too many"'), { terms: [['kind', 'mail.send'], ['message', '421 too many']] });
  assert.deepEqual(typed('label:a=b "connection reset"'), { terms: [['label', 'a=b'], ['message', 'connection reset']] });
  assert.deepEqual(typed('connection reset'), { terms: [['message', 'connection reset']] });
});

test('a changed filter begins the list anew', () => {
  const query = new URLSearchParams('state=dead&after=1.x&label=a%3D1');
  assert.equal(withTerm(query, 'state', 'ready').toString(), 'state=ready&label=a%3D1');
  assert.equal(withTerm(query, 'label', 'b=2').getAll('label').length, 2);
  assert.equal(withoutTerm(query, 'label', 'a=1').toString(), 'state=dead');
});

test('a duration is an instant by the time that it is asked', () => {
  assert.equal(asked(new URLSearchParams('since=1h&live=0'), NOW).toString(), 'since=2026-11-30T02%3A12%3A08.000Z');
  assert.equal(asked(new URLSearchParams('since=2026-11-30'), NOW).get('since'), '2026-11-30');
});

test('a bulk action is about what the filter says, and nothing more', () => {
  const query = new URLSearchParams('tenant=acme&state=dead&label=a%3Db%3Dc&after=1.x&limit=50');
  assert.deepEqual(bulkOf(query, 'redrive', true, NOW), { action: 'redrive', dry_run: true, tenant: 'acme', state: 'dead', labels: { a: 'b=c' } });
});
