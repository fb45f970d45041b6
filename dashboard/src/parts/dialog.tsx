import type { ComponentChildren, JSX } from 'preact';
import { useEffect, useId, useRef, useState } from 'preact/hooks';
import { t } from '../texts.ts';
import { Hostile } from './hostile.tsx';

/** A dialog that is open as long as it is there. Focus goes back to where it was. */
export function Dialog({ title, close, children }: { title: string; close: () => void; children: ComponentChildren }): JSX.Element {
  const id = useId();
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    const before = document.activeElement;
    const shown = dialog.current;
    shown?.showModal();
    return () => {
      shown?.close();
      if (before instanceof HTMLElement && before.isConnected) before.focus();
    };
  }, []);
  return (
    <dialog ref={dialog} aria-labelledby={id} onCancel={(event) => { event.preventDefault(); close(); }}>
      <form method="dialog" onSubmit={(event) => event.preventDefault()}>
        <h2 id={id}><Hostile text={title} /></h2>
        {children}
      </form>
    </dialog>
  );
}

/** Number of jobs from which removing them asks for the number itself. */
export const TYPED_FROM = 100;

/** Asks before something is done: what, to what, and what can't be undone. With `typed`, the number has to be typed. */
export function Confirm({ title, button, risk = false, typed, busy = false, close, confirm, children }: {
  title: string;
  button: string;
  risk?: boolean;
  typed?: { number: number; label: string } | undefined;
  busy?: boolean;
  close: () => void;
  confirm: () => void;
  children: ComponentChildren;
}): JSX.Element {
  const [text, setText] = useState('');
  const right = typed === undefined || text.replace(/\D/g, '') === String(typed.number);
  return (
    <Dialog title={title} close={close}>
      {children}
      {typed && (
        <label>
          <span>{typed.label}</span>
          <input class="in" inputMode="numeric" autocomplete="off" value={text} onInput={(event) => setText(event.currentTarget.value)} />
        </label>
      )}
      <div class="acts">
        <button class="b" type="button" onClick={close}>{t.act.abort}</button>
        <button class={`b go${risk ? ' risk' : ''}`} type="button" disabled={!right || busy} onClick={confirm}><Hostile text={button} /></button>
      </div>
    </Dialog>
  );
}
