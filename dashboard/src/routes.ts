// All views: what they are called, where they are, and where the navigation has them. A new view is a file in `views` and a line
// here; if its first part is a new one, the server's `VIEWS` (runtime/daemon/src/http/dashboard.rs) has to have it too, which a
// test checks.
import type { ComponentType } from 'preact';
import type { IconName } from './parts/icon.tsx';
import { matched, type Pattern } from './router.ts';
import { t } from './texts.ts';
import { Job } from './views/job.tsx';
import { Jobs } from './views/jobs.tsx';
import { Overview } from './views/overview.tsx';
import { Plugin, Plugins } from './views/plugins.tsx';
import { Fleet } from './views/fleet.tsx';
import { Tenant, Tenants } from './views/tenants.tsx';

/** What a view gets: the named parts of its path, and the query. */
export interface ViewProps {
  params: Record<string, string>;
  query: URLSearchParams;
}

export interface Route {
  path: Pattern;
  view: ComponentType<ViewProps>;
  /** Name in the navigation; its group; its shape in the bar of a phone, which has four; the key after `g`. */
  nav?: { name: string; group: keyof typeof t.nav.groups | 'top'; bar?: IconName; key?: string };
}

export const ROUTES: readonly Route[] = [
  { path: [], view: Overview, nav: { name: t.nav.overview, group: 'top', bar: 'home', key: 'o' } },
  { path: ['jobs'], view: Jobs, nav: { name: t.nav.jobs, group: 'work', bar: 'jobs', key: 'j' } },
  { path: ['jobs', ':tenant', ':id'], view: Job },
  { path: ['plugins'], view: Plugins, nav: { name: t.nav.plugins, group: 'code', bar: 'queue', key: 'p' } },
  { path: ['plugins', ':tenant', ':name'], view: Plugin },
  { path: ['tenants'], view: Tenants, nav: { name: t.nav.tenants, group: 'code', key: 't' } },
  { path: ['tenants', ':name'], view: Tenant },
  { path: ['fleet'], view: Fleet, nav: { name: t.nav.fleet, group: 'machines', key: 'd' } },
];

/** Finds the route of these parts of a path, and what its named parts are. */
export function routeOf(parts: readonly string[]): { route: Route; params: Record<string, string> } | undefined {
  for (const route of ROUTES) {
    const params = matched(route.path, parts);
    if (params) return { route, params };
  }
  return undefined;
}
