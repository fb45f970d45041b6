import type { ComponentChildren, JSX } from 'preact';
import { useId, useState } from 'preact/hooks';
import { t } from '../texts.ts';

/** A panel with its head: what it is, a note on it, and what can be done. */
export function Panel({ title, note, acts, children }: {
  title: ComponentChildren;
  note?: ComponentChildren;
  acts?: ComponentChildren;
  children: ComponentChildren;
}): JSX.Element {
  const id = useId();
  return (
    <section class="p" aria-labelledby={id}>
      <header>
        <h2 id={id}>{title}</h2>
        {note !== undefined && <span class="note">{note}</span>}
        {acts !== undefined && <div class="acts">{acts}</div>}
      </header>
      {children}
    </section>
  );
}

/** The head of a page: where it is, what it is, what can be done. On a phone, what is plain waits behind one button. */
export function Head({ crumb, title, sub, acts }: {
  crumb?: ComponentChildren;
  title: ComponentChildren;
  sub?: ComponentChildren;
  acts?: ComponentChildren;
}): JSX.Element {
  const [open, setOpen] = useState(false);
  return (
    <div class="head">
      <div>
        {crumb !== undefined && <p class="crumb">{crumb}</p>}
        <h1>{title}</h1>
        {sub !== undefined && <p>{sub}</p>}
      </div>
      {acts !== undefined && (
        <div class={`acts${open ? ' open' : ''}`}>
          {acts}
          <button class="b sq more" type="button" aria-label={t.copy.more} aria-expanded={open} onClick={() => setOpen(!open)}>⋯</button>
        </div>
      )}
    </div>
  );
}
