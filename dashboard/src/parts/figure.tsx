import type { ComponentChildren, JSX } from 'preact';
import { exact, rounded } from '../units.ts';
import { t } from '../texts.ts';

/** Figures side by side; five at most. */
export function Figures({ title, stale = false, children }: { title: string; stale?: boolean; children: ComponentChildren }): JSX.Element {
  return (
    <section aria-label={title}>
      <dl class={`p figs${stale ? ' stale' : ''}`}>{children}</dl>
    </section>
  );
}

/** A number with its unit and its window, and a line of how it came about. */
export function Figure({ label, value, unit, window, children }: {
  label: ComponentChildren;
  value: number | undefined;
  unit: string;
  window: ComponentChildren;
  children?: ComponentChildren;
}): JSX.Element {
  return (
    <div class="fig">
      <dt>{label}</dt>
      {value === undefined
        ? <dd class="v">{t.none}</dd>
        : <dd class="v" title={exact(value)}>{rounded(value)}<span class="u">{unit}</span></dd>}
      <dd class="w">{window}</dd>
      {children !== undefined && <dd class="s">{children}</dd>}
    </div>
  );
}
