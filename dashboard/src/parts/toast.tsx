import type { JSX } from 'preact';
import { Store, useStore } from '../store.ts';

const LASTS = 6000;
const said = new Store<readonly { id: number; text: string }[]>([]);
let count = 0;

/** Says that something the user did is done. Errors are never said here: they stay where they happened. */
export function say(text: string): void {
  const id = ++count;
  said.set([...said.value, { id, text }]);
  setTimeout(() => said.set(said.value.filter((of) => of.id !== id)), LASTS);
}

export function Toasts(): JSX.Element {
  const all = useStore(said);
  return <div class="toasts" role="status" aria-live="polite">{all.map((of) => <p class="toast" key={of.id}>{of.text}</p>)}</div>;
}
