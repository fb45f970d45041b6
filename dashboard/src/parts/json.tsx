import type { JSX } from 'preact';
import { useState } from 'preact/hooks';
import type { Tree } from '../json.ts';
import { t } from '../texts.ts';
import { Hostile } from './hostile.tsx';

/** Depth down to which members are shown at once, and how many of each are. */
const OPEN_TO = 4;
const MEMBERS_MAX = 200;

/** JSON as a tree: every value as it was written, what is deep folded until it is asked for. */
export function JsonTree({ of }: { of: Tree }): JSX.Element {
  return <div class="tree m" tabIndex={0} role="group" aria-label={t.job.payload}><Value of={of} depth={0} /></div>;
}

function Value({ name, of, depth }: { name?: string | undefined; of: Tree; depth: number }): JSX.Element {
  const [open, setOpen] = useState(depth < OPEN_TO);
  const [most, setMost] = useState(MEMBERS_MAX);
  const head = name !== undefined && <><span class="q"><Hostile text={name} /></span>: </>;
  if (of.is === 'leaf') return <div class="leaf">{head}<Hostile text={of.text} panel /></div>;
  const count = of.members.length;
  const [begin, end] = of.is === 'object' ? ['{', '}'] : ['[', ']'];
  if (count === 0) return <div class="leaf">{head}{begin}{end}</div>;
  return (
    <details open={open} onToggle={(event) => setOpen(event.currentTarget.open)}>
      <summary>{head}{begin}{!open && `…${end}`} <span class="note">{of.is === 'object' ? t.tree.members(count) : t.tree.items(count)}</span></summary>
      {open && (
        <>
          {of.members.slice(0, most).map((member, at) => <Value key={at} name={member.name} of={member.value} depth={depth + 1} />)}
          {count > most && <button class="b sm" type="button" onClick={() => setMost(most + MEMBERS_MAX)}>{t.tree.more(count - most)}</button>}
        </>
      )}
    </details>
  );
}
