import assert from 'node:assert/strict';
import { test } from 'node:test';
import { age, bytes, clock, duration, exact, fuel, rounded } from '../src/units.ts';

const plain = (text: string): string => text.replaceAll('\u00a0', ' ');
const NOW = Date.parse('2026-11-30T03:12:08Z');

test('durations have two units at most', () => {
  const cases: [number, string][] = [
    [0, '0 ms'], [0.9, '0.9 ms'], [84, '84 ms'], [999.9, '999 ms'], [4200, '4.2 s'], [9999, '9.9 s'], [31_000, '31 s'],
    [130_000, '2 min 10 s'], [3_600_000, '1 h'], [5_280_000, '1 h 28 min'], [90_061_000, '1 d 1 h'], [-4200, '−4.2 s'],
  ];
  for (const [millis, text] of cases) assert.equal(plain(duration(millis)), text);
});

test('numbers are exact until they are long', () => {
  assert.equal(exact(1_234_567), '1,234,567');
  assert.equal(plain(rounded(9_999)), '9,999');
  assert.equal(plain(rounded(12_400)), '12.4 k');
  assert.equal(plain(fuel(3_910_000_000)), '3.91 G');
  assert.equal(plain(bytes(9_541_000)), '9.10 MiB');
  assert.equal(plain(bytes(12)), '12 B');
});

test('times are as short as they can be, in UTC', () => {
  assert.equal(clock(Date.parse('2026-11-30T02:41:09Z'), NOW), '02:41:09');
  assert.equal(clock(Date.parse('2026-11-24T09:12:00Z'), NOW), '24 Nov 09:12');
  assert.equal(clock(Date.parse('2025-11-24T09:12:00Z'), NOW), '24 Nov 2025 09:12');
  assert.equal(plain(age(NOW - 1_860_000, NOW)), '31 min ago');
  assert.equal(plain(age(NOW + 33_000, NOW)), 'in 33 s');
});
