import type { JSX } from 'preact';
import { useState } from 'preact/hooks';
import { t } from '../texts.ts';
import { Dialog } from './dialog.tsx';
import { say } from './toast.tsx';

/** Copies without HTTPS too: by a field that is selected. Returns whether the browser has let it. */
async function copied(text: string): Promise<boolean> {
  if (navigator.clipboard) {
    try {
      await navigator.clipboard.writeText(text);
      return true;
    } catch {
      // Refused; the other way may still be open.
    }
  }
  const before = document.activeElement;
  const field = document.createElement('textarea');
  field.value = text;
  field.readOnly = true;
  field.className = 'vh';
  document.body.append(field);
  field.select();
  const done = document.execCommand('copy');
  field.remove();
  if (before instanceof HTMLElement) before.focus();
  return done;
}

/** Copies a text, exactly as it is. Where that is refused, it is shown to be copied by hand. */
export function Copy({ label, text, id }: { label: string; text: string; id?: string }): JSX.Element {
  const [shown, setShown] = useState(false);
  const copy = async (): Promise<void> => {
    if (await copied(text)) say(t.copy.copied(text));
    else setShown(true);
  };
  return (
    <>
      <button class="b pl" type="button" data-key={id} onClick={() => void copy()}>{label}</button>
      {shown && (
        <Dialog title={label} close={() => setShown(false)}>
          <label><span>{t.copy.refused}</span><textarea class="in" readOnly value={text} rows={4} /></label>
          <div class="acts"><button class="b" type="button" onClick={() => setShown(false)}>{t.copy.done}</button></div>
        </Dialog>
      )}
    </>
  );
}

/** What the page shows or does, as a command and as curl. */
export function CopyBoth({ command, curl }: { command: string; curl: string }): JSX.Element {
  return <><Copy label={t.copy.command} text={command} id="c" /><Copy label={t.copy.curl} text={curl} /></>;
}
