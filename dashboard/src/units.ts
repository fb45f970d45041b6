// Numbers and times as people read them. Every function is pure: what time it is is told to it.

/** Space that doesn't break, between a number and its unit. */
const NB = '\u00a0';

const whole = new Intl.NumberFormat('en-US', { maximumFractionDigits: 0 });

/** A number with all its digits: `4,586`. */
export const exact = (value: number): string => whole.format(value);

/** A number for a figure: exact below 10,000, then with three digits: `12.4 k`, `6.40 M`. */
export function rounded(value: number): string {
  return Math.abs(value) < 10_000 ? exact(value) : scaled(value, 1000, ['', 'k', 'M', 'G', 'T', 'P']);
}

/** Fuel: `3.91 G`. */
export const fuel = (value: number): string => scaled(value, 1000, ['', 'k', 'M', 'G', 'T', 'P']);

/** A part of a whole, 0 to 1: `8.7 %`, `under 0.1 %`. */
export function percent(share: number): string {
  if (share > 0 && share < 0.001) return `under 0.1${NB}%`;
  return `${trim((share * 100).toFixed(1))}${NB}%`;
}

/** Bytes: `9.10 MiB`. */
export const bytes = (value: number): string => scaled(value, 1024, ['B', 'KiB', 'MiB', 'GiB', 'TiB']);

function scaled(value: number, by: number, units: readonly string[]): string {
  let unit = 0;
  let left = value;
  while (Math.abs(left) >= by && unit < units.length - 1) {
    left /= by;
    unit++;
  }
  const name = units[unit] ?? '';
  const digits = unit === 0 ? 0 : Math.max(0, 2 - Math.floor(Math.log10(Math.max(1, Math.abs(left)))));
  return `${left.toFixed(digits)}${name === '' ? '' : NB + name}`;
}

const SPANS: readonly [number, string][] = [
  [86_400_000, 'd'],
  [3_600_000, 'h'],
  [60_000, 'min'],
  [1000, 's'],
];

/** A duration in two units at most: `2 min 10 s`, `4.2 s`, `0.9 ms`. */
export function duration(millis: number): string {
  if (millis < 0) return `\u2212${duration(-millis)}`;
  if (millis < 10) return `${trim(millis.toFixed(1))}${NB}ms`;
  if (millis < 1000) return `${Math.floor(millis)}${NB}ms`;
  if (millis < 10_000) return `${trim((Math.floor(millis / 100) / 10).toFixed(1))}${NB}s`;
  const first = SPANS.findIndex(([span]) => millis >= span);
  const [span, name] = SPANS[first] ?? [1000, 's'];
  const most = Math.floor(millis / span);
  const next = SPANS[first + 1];
  const rest = next ? Math.floor((millis - most * span) / next[0]) : 0;
  return `${most}${NB}${name}${next && rest > 0 ? ` ${rest}${NB}${next[1]}` : ''}`;
}

/** A rate by the time between two, in microseconds: `100/s`, `1.5/min`. */
export function rate(interval: number): string {
  const [per, unit] = ([[1e6, 's'], [60e6, 'min'], [3600e6, 'h']] as const).find(([span]) => span >= interval) ?? [86_400e6, 'd'];
  return `${trim(new Intl.NumberFormat('en-US', { maximumSignificantDigits: 3 }).format(per / interval))}/${unit}`;
}

const trim = (text: string): string => text.replace(/\.0$/, '');

const MONTHS = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec'];
const two = (value: number): string => String(value).padStart(2, '0');

/** A time in UTC, as short as it can be: `03:12:08` today, `24 Nov 09:12` this year, `24 Nov 2025 09:12` else. */
export function clock(at: number, now: number): string {
  const [time, today] = [new Date(at), new Date(now)];
  const minutes = `${two(time.getUTCHours())}:${two(time.getUTCMinutes())}`;
  if (time.toISOString().slice(0, 10) === today.toISOString().slice(0, 10)) return `${minutes}:${two(time.getUTCSeconds())}`;
  const day = `${time.getUTCDate()} ${MONTHS[time.getUTCMonth()] ?? ''}`;
  const year = time.getUTCFullYear() === today.getUTCFullYear() ? '' : ` ${time.getUTCFullYear()}`;
  return `${day}${year} ${minutes}`;
}

/** A time of today to the millisecond, in UTC: `03:12:08.204`. */
export const precise = (at: number): string => new Date(at).toISOString().slice(11, 23);

/** How long ago, or how long still: `31 min ago`, `in 33 s`. */
export function age(at: number, now: number): string {
  const apart = now - at;
  if (Math.abs(apart) < 1000) return 'now';
  const told = duration(Math.floor(Math.abs(apart) / 1000) * 1000);
  return apart > 0 ? `${told} ago` : `in ${told}`;
}

/** Reads a time of the interface. Undefined if there is none, or it is no time. */
export function timeOf(text: string | null | undefined): number | undefined {
  const at = text ? Date.parse(text) : NaN;
  return Number.isNaN(at) ? undefined : at;
}
