// Views that are looked at less often: they are loaded together, with the first of them.
export { Breakers } from './breakers.tsx';
export { Fleet } from './fleet.tsx';
export { Flow } from './flow.tsx';
export { Flows } from './flows.tsx';
export { Groups } from './groups.tsx';
export { Holds } from './holds.tsx';
export { Limits } from './limits.tsx';
export { Plugin, Plugins } from './plugins.tsx';
export { Schedule } from './schedule.tsx';
export { Schedules } from './schedules.tsx';
export { Tenant, Tenants } from './tenants.tsx';
