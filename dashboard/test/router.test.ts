import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { hrefOf, matched, placeOf } from '../src/router.ts';

const at = (path: string): URL => new URL(path, 'https://sandhog.example');

test('a place is read below its base path alone', () => {
  assert.deepEqual(placeOf('', at('/jobs/acme/01?run=3'))?.parts, ['jobs', 'acme', '01']);
  assert.deepEqual(placeOf('/tools', at('/tools/jobs'))?.parts, ['jobs']);
  assert.deepEqual(placeOf('/tools', at('/tools'))?.parts, []);
  assert.equal(placeOf('/tools', at('/toolsy/jobs')), undefined);
  assert.equal(placeOf('', at('/jobs/%ff')), undefined);
});

test('what a link is made of is read from it again', () => {
  for (const part of ['a b', 'a/b', '%2f', 'ä', '?#', '\u202e', '...']) {
    for (const base of ['', '/tools/sandhog']) {
      const href = hrefOf(base, ['jobs', part], { label: [`x=${part}`, 'y=1'], none: undefined, empty: '' });
      const place = placeOf(base, at(href));
      assert.deepEqual(place?.parts, ['jobs', part]);
      assert.deepEqual(place?.query.getAll('label'), [`x=${part}`, 'y=1']);
      assert.equal(place?.query.size, 2);
    }
  }
});

test('what a browser would resolve is no part of a path', () => {
  for (const part of ['.', '..', '']) assert.throws(() => hrefOf('', ['jobs', part]), RangeError);
});

test('a pattern matches as many parts as it has', () => {
  assert.deepEqual(matched(['jobs', ':tenant', ':id'], ['jobs', 'acme', '1']), { tenant: 'acme', id: '1' });
  assert.equal(matched(['jobs'], ['jobs', 'acme']), undefined);
  assert.equal(matched([], ['jobs']), undefined);
});

test('the server answers with the page at each view', () => {
  const server = readFileSync(`${HERE}../runtime/daemon/src/http/dashboard.rs`, 'utf8');
  const views = /const VIEWS[^=]*= \[([^\]]*)\]/.exec(server)?.[1]?.match(/[a-z-]+/g)?.map(String) ?? [];
  const routes = readFileSync(`${HERE}src/routes.ts`, 'utf8');
  const first = [...routes.matchAll(/path: \['([a-z-]+)'/g)].map((match) => match[1] ?? '');
  assert.ok(first.includes('jobs'));
  for (const view of first) assert.ok(views.includes(view), view);
});
