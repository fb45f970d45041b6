// Where the page is: the URL, as a store. Links are ordinary links, which this takes over.
import { base } from './base.ts';
import { hrefOf, placeOf, type Params, type Place } from './router.ts';
import { Store } from './store.ts';

const here = (): Place => placeOf(base(), new URL(location.href)) ?? { parts: [], query: new URLSearchParams() };

export const place = new Store<Place>(here());

/** Address of a place. The tenant that is looked at comes along, unless `params` names another. */
export function href(parts: readonly string[], params: Params = {}): string {
  return hrefOf(base(), parts, { tenant: scope(), ...params });
}

/** Address of this place with another query. */
export const hrefWith = (query: URLSearchParams): string => hrefOf(base(), place.value.parts, query);

/** The tenant that is looked at; undefined for all. */
export function scope(): string | undefined {
  return place.value.query.get('tenant') ?? undefined;
}

/** Goes to an address of the dashboard. */
export function go(address: string, how: 'push' | 'replace' = 'push'): void {
  history[how === 'push' ? 'pushState' : 'replaceState'](null, '', address);
  place.set(here());
}

/** Takes over links, and follows the browser's history. */
export function followLinks(): void {
  addEventListener('popstate', () => place.set(here()));
  document.addEventListener('click', (event) => {
    if (event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    const link = event.target instanceof Element ? event.target.closest('a') : null;
    if (!link || link.target !== '' || link.hasAttribute('download') || link.origin !== location.origin) return;
    const to = new URL(link.href);
    if (to.hash !== '' && to.pathname === location.pathname && to.search === location.search) return;
    if (placeOf(base(), to) === undefined || to.pathname.startsWith(`${base()}/v1/`)) return;
    event.preventDefault();
    go(link.href);
  });
}
