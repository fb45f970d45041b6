import type { JSX } from 'preact';

/** Points of a line in a box of 100 by 24, from zero to the largest value; null where a value is missing. */
export function points(values: readonly (number | null)[]): string {
  const most = Math.max(1e-9, ...values.map((value) => value ?? 0));
  const step = 100 / Math.max(1, values.length - 1);
  return values
    .map((value, at) => (value === null ? '' : `${(at * step).toFixed(1)},${(24 - (value / most) * 22).toFixed(1)}`))
    .filter((point) => point !== '')
    .join(' ');
}

/** A line of up to 60 values with a sentence that says what it shows. Red only if it is the reason for a verdict. */
export function Sparkline({ values, sentence, bad = false }: { values: readonly (number | null)[]; sentence: string; bad?: boolean }): JSX.Element {
  return (
    <svg class="spark" viewBox="0 0 100 24" preserveAspectRatio="none" role="img" aria-label={sentence}>
      <polyline class={`ln${bad ? ' bad' : ''}`} points={points(values.slice(-60))} />
    </svg>
  );
}
