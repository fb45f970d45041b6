// Single keys. Never while typing, never with a modifier, and none of them destroys without its dialog.
import { live } from './live.ts';
import { go, href } from './place.ts';
import { ROUTES } from './routes.ts';
import { kept, keep } from './kept.ts';

const AFTER_G = 1200;

/** Whether single keys are on. */
export const keysAreOn = (): boolean => kept('keys') !== 'off';
export const switchKeys = (): void => keep('keys', keysAreOn() ? 'off' : undefined);

/** Listens to keys. `help` shows which there are. */
export function followKeys(help: () => void): () => void {
  let afterG = 0;
  const rowNow = (): HTMLTableRowElement | null => document.querySelector('tbody[data-keys] tr.cur');
  const move = (by: number): void => {
    const rows = [...document.querySelectorAll<HTMLTableRowElement>('tbody[data-keys] tr')];
    if (rows.length === 0) return;
    const current = rowNow();
    const at = current ? rows.indexOf(current) : -1;
    const to = rows[Math.max(0, Math.min(rows.length - 1, at + by))];
    current?.classList.remove('cur');
    to?.classList.add('cur');
    to?.querySelector('a')?.focus();
  };
  const press = (key: string): void => document.querySelector<HTMLElement>(`main [data-key="${key}"]`)?.click();
  const acts: Record<string, () => void> = {
    '/': () => document.querySelector<HTMLElement>('main [data-search], [data-search]')?.focus(),
    '?': help,
    l: () => (live.state.value.is === 'paused' ? live.resume() : live.pause()),
    j: () => move(1),
    k: () => move(-1),
    x: () => rowNow()?.querySelector<HTMLInputElement>('.ck input')?.click(),
    c: () => press('c'),
    r: () => press('r'),
  };
  const heard = (event: KeyboardEvent): void => {
    if (!keysAreOn() || event.metaKey || event.ctrlKey || event.altKey || event.defaultPrevented) return;
    if (event.target instanceof Element && event.target.closest('input:not([type=checkbox]),select,textarea,dialog[open]')) return;
    if (afterG > Date.now()) {
      afterG = 0;
      const route = ROUTES.find((of) => of.nav?.key === event.key);
      if (route) {
        event.preventDefault();
        go(href(route.path));
        return;
      }
    }
    if (event.key === 'g') afterG = Date.now() + AFTER_G;
    const act = acts[event.key];
    if (act) {
      event.preventDefault();
      act();
    }
  };
  document.addEventListener('keydown', heard);
  return () => document.removeEventListener('keydown', heard);
}
