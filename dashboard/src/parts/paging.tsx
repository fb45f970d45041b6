import type { ComponentChildren, JSX } from 'preact';
import { t } from '../texts.ts';

/** Foot of a list: how much it shows, how far it looked, and where it goes on. */
export function Paging({ first, next, children }: { first?: string | undefined; next?: string | undefined; children: ComponentChildren }): JSX.Element {
  return (
    <footer>
      <span class="grow">{children}</span>
      {first !== undefined && <a class="b" href={first}>{t.jobs.first}</a>}
      {next !== undefined && <a class="b" href={next} rel="next">{t.jobs.next}</a>}
    </footer>
  );
}
