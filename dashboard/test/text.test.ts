import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import { command, curl, quoted } from '../src/command.ts';
import { pretty, rawAt } from '../src/json.ts';
import { Lines } from '../src/sse.ts';
import { cut, pieces } from '../src/text.ts';

test('what can not be seen is shown by its number, and nothing is dropped', () => {
  assert.deepEqual(pieces('invoice.\u202egpj.exe\u0000'), [{ text: 'invoice.' }, { code: 'U+202E' }, { text: 'gpj.exe' }, { code: 'U+0000' }]);
  assert.deepEqual(pieces('a\u200bb'), [{ text: 'a' }, { code: 'U+200B' }, { text: 'b' }]);
  assert.deepEqual(pieces('\u{e0041}\ud800'), [{ code: 'U+E0041' }, { code: 'U+D800' }]);
  assert.deepEqual(pieces('a\nb\u001b[31m', true), [{ text: 'a\nb' }, { code: 'U+001B' }, { text: '[31m' }]);
  assert.deepEqual(pieces('a\nb'), [{ text: 'a' }, { code: 'U+000A' }, { text: 'b' }]);
  assert.deepEqual(pieces('<img src=x onerror=alert(1)> 🚇 ä'), [{ text: '<img src=x onerror=alert(1)> 🚇 ä' }]);
});

test('text is cut between characters', () => {
  assert.deepEqual(cut('abc', 3), { shown: 'abc', left: 0 });
  assert.deepEqual(cut('a🚇b', 2), { shown: 'a', left: 3 });
});

test('numbers of a payload keep their digits', () => {
  const text = '{"id":"x","history":[{"payload":{"json":1}}],"payload":{"json":{"n":12345678901234567890,"f":1.10,"s":"a\\"}b"}},"output":{"json":[]}}';
  const raw = rawAt(text, ['payload', 'json']);
  assert.equal(raw, '{"n":12345678901234567890,"f":1.10,"s":"a\\"}b"}');
  assert.equal(pretty(raw ?? ''), '{\n  "n": 12345678901234567890,\n  "f": 1.10,\n  "s": "a\\"}b"\n}');
  assert.equal(rawAt(text, ['output', 'json']), '[]');
  assert.equal(pretty('{"a":[],"b":{}}'), '{\n  "a": [],\n  "b": {}\n}');
  assert.equal(rawAt('{"payload":{"text":"{"}}', ['payload', 'json']), undefined);
  assert.equal(rawAt('{"payload":{"json":7}}', ['payload', 'json']), '7');
});

test('a command is what the shell gets', () => {
  assert.equal(command('sandhog', 'jobs', '--message', "it's $(rm)"), `sandhog jobs --message 'it'\\''s $(rm)'`);
  assert.equal(quoted('a\u001bb\n'), "$'a\\x1bb\\x0a'");
  assert.equal(quoted(''), "''");
  assert.equal(curl('GET', 'https://x.example/v1/jobs?a=1&b=2'), "curl -H @token 'https://x.example/v1/jobs?a=1&b=2'");
});

test('events are read however their stream is cut', () => {
  const stream = ': from x\n\nid: 1\nevent: dead\ndata: {"a":1}\n\n: \n\ndata: a\r\ndata: b\r\n\r\n';
  const wanted = ['alive', { event: 'dead', id: '1', data: '{"a":1}' }, 'alive', { event: 'message', id: '1', data: 'a\nb' }];
  for (const size of [1, 2, 3, 7, stream.length]) {
    const lines = new Lines();
    const said = [];
    for (let at = 0; at < stream.length; at += size) said.push(...lines.take(stream.slice(at, at + size)));
    assert.deepEqual(said, wanted, `in pieces of ${size}`);
  }
});

test('nothing is put into the page but as text, and no style but by a class', () => {
  const banned = /innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|\bstyle=|cssText|setAttribute\('style'|javascript:|https?:\/\/(?!sandhog)/;
  for (const name of readdirSync(`${HERE}src`, { recursive: true, encoding: 'utf8' })) {
    if (!/\.tsx?$/.test(name)) continue;
    const found = banned.exec(readFileSync(`${HERE}src/${name}`, 'utf8'));
    assert.equal(found, null, `${name}: ${found?.[0]}`);
  }
});
