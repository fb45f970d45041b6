import type { ComponentChildren, JSX } from 'preact';
import { Icon, type IconName } from './icon.tsx';

/** How much it needs somebody. */
export type Severity = 'crit' | 'warn' | 'info' | 'ok';

/** How much it needs somebody, the sentence that says it, what follows from it, and what can be done. */
interface Said {
  severity: Severity;
  icon?: IconName;
  title: ComponentChildren;
  children?: ComponentChildren;
  acts?: ComponentChildren;
}

/** The answer of a page: one sentence with the cause, what follows from it, and what can be done. */
export function WhyLine({ severity, icon = severity, title, children, acts }: Said): JSX.Element {
  return (
    <section class={`why k-${severity}`} aria-live="off">
      <Icon name={icon} />
      <div>
        <h2>{title}</h2>
        {children}
      </div>
      {acts !== undefined && <div class="acts">{acts}</div>}
    </section>
  );
}

/** One of several things that need somebody, in a list of class `att`. */
export function Attention({ severity, icon = severity, title, children, acts }: Said): JSX.Element {
  return (
    <li class={`k-${severity}`}>
      <Icon name={icon} />
      <div>
        <p class="t">{title}</p>
        {children}
      </div>
      {acts !== undefined && <div class="acts">{acts}</div>}
    </li>
  );
}
