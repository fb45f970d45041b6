// All views: what they are called, where they are, and where the navigation has them. A new view is a file in `views` and a line
// here; if it isn't looked at first, a line in `views/rest.ts` as well. If its first part is a new one, the server's `VIEWS`
// (runtime/daemon/src/http/dashboard.rs) has to have it too, which a test checks.
import type { ComponentType } from 'preact';
import { later } from './later.tsx';
import type { IconName } from './parts/icon.tsx';
import { matched, type Pattern } from './router.ts';
import { t } from './texts.ts';
import { Failure, Failures } from './views/failures.tsx';
import { Job } from './views/job.tsx';
import { Jobs } from './views/jobs.tsx';
import { Overview } from './views/overview.tsx';
import { Queue } from './views/queue.tsx';
import { Queues } from './views/queues.tsx';

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

/** A view of `views/rest.ts`. */
const rest = (name: keyof typeof import('./views/rest.ts')): ComponentType<ViewProps> =>
  later(t.name, async (): Promise<ComponentType<ViewProps>> => (await import('./views/rest.ts'))[name]);

export const ROUTES: readonly Route[] = [
  { path: [], view: Overview, nav: { name: t.nav.overview, group: 'top', bar: 'home', key: 'o' } },
  { path: ['jobs'], view: Jobs, nav: { name: t.nav.jobs, group: 'work', bar: 'jobs', key: 'j' } },
  { path: ['jobs', ':tenant', ':id'], view: Job },
  { path: ['failures'], view: Failures, nav: { name: t.failures.title, group: 'work', bar: 'warn', key: 'f' } },
  { path: ['failures', ':tenant', ':fingerprint'], view: Failure },
  { path: ['queues'], view: Queues, nav: { name: t.queues.title, group: 'work', bar: 'queue', key: 'q' } },
  { path: ['queues', ':tenant', ':queue'], view: Queue },
  { path: ['flows'], view: rest('Flows'), nav: { name: t.flows.title, group: 'work', key: 'w' } },
  { path: ['flows', ':tenant', ':id'], view: rest('Flow') },
  { path: ['schedules'], view: rest('Schedules'), nav: { name: t.schedules.title, group: 'work', key: 's' } },
  { path: ['schedules', ':tenant', ':name'], view: rest('Schedule') },
  { path: ['holds'], view: rest('Holds'), nav: { name: t.holds.title, group: 'held' } },
  { path: ['limits'], view: rest('Limits'), nav: { name: t.limits.title, group: 'held' } },
  { path: ['breakers'], view: rest('Breakers'), nav: { name: t.breakers.title, group: 'held' } },
  { path: ['groups'], view: rest('Groups'), nav: { name: t.groups.title, group: 'held' } },
  { path: ['plugins'], view: rest('Plugins'), nav: { name: t.nav.plugins, group: 'code', key: 'p' } },
  { path: ['plugins', ':tenant', ':name'], view: rest('Plugin') },
  { path: ['tenants'], view: rest('Tenants'), nav: { name: t.nav.tenants, group: 'code', key: 't' } },
  { path: ['tenants', ':name'], view: rest('Tenant') },
  { path: ['fleet'], view: rest('Fleet'), nav: { name: t.nav.fleet, group: 'machines', key: 'd' } },
];

/** Finds the route of these parts of a path, and what its named parts are. */
export function routeOf(parts: readonly string[]): { route: Route; params: Record<string, string> } | undefined {
  for (const route of ROUTES) {
    const params = matched(route.path, parts);
    if (params) return { route, params };
  }
  return undefined;
}
