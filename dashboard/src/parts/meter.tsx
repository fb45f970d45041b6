import type { JSX } from 'preact';

/**
 * How much of a limit is used, with words for it: grey, amber from 80 %, red at all of it. With `isShare` it is a part of a whole,
 * which it is no fault to have: always grey. In a table, where the head of the column names it, the label is for screen readers alone.
 */
export function Meter({ label, value, max, words, isShare = false, inTable = false }: {
  label: string;
  value: number;
  max: number;
  words: string;
  isShare?: boolean;
  inTable?: boolean;
}): JSX.Element {
  const share = max > 0 ? Math.min(100, (value / max) * 100) : 0;
  const tone = isShare ? 'gr' : share >= 100 ? 'bad' : share >= 80 ? 'am' : 'gr';
  return (
    <div class="mt">
      {!inTable && <span>{label}</span>}
      <span class="nw">{words}</span>
      <span class="meter-w" role="meter" aria-valuemin={0} aria-valuemax={max} aria-valuenow={value} aria-valuetext={words} aria-label={label}>
        <svg class="meter" viewBox="0 0 100 6" preserveAspectRatio="none" aria-hidden="true">
          <rect class="tr" width="100" height="6" />
          <rect class={`fl ${tone}`} width={share.toFixed(1)} height="6" />
        </svg>
      </span>
    </div>
  );
}
