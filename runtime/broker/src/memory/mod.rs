//! Reference model: the behaviour of a broker, in the plainest code.
//!
//! ```text
//! mod.rs     the trait: one lock, one tenant, one step; then wakes, if the step has caused any
//! tenant.rs  the steps: a tenant's jobs in one map, found by a linear scan
//! flows.rs   the steps of flows
//! groups.rs  turns in groups, and who gets them
//! events.rs  events of jobs
//! ```
//!
//! There is no index to keep consistent, so the code states the rules directly. The price is that a step looks at every job
//! of the tenant: good for tests and simulations with some thousands of jobs, and for nothing else. It spawns no task and
//! never waits, so a simulation on one thread with a paused clock is deterministic.

mod events;
mod flows;
mod groups;
mod tenant;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use sandhog_core::attempt::SettleReply;
use sandhog_core::id::{DaemonId, JobId, TenantId};
use sandhog_core::job::NewJob;
use sandhog_core::quota::QueueBounds;
use sandhog_core::time::Timestamp;

use self::tenant::Tenant;
use crate::wake::Listeners;
use crate::{
    Broker, Changed, Command, DAEMON_KEPT, DAEMONS_MAX, DaemonReport, Enqueued, Fleet, JobAction, LeaseAsk,
    Leased, Look, Outcome, Renew, Renewal, Result, Seen, Settle, Still, Wake, Wakes, WallClock,
};

/// Broker that keeps its jobs in memory for as long as it exists.
pub struct Memory {
    clock: Arc<dyn WallClock>,
    tenants: Mutex<BTreeMap<TenantId, Tenant>>,
    /// What daemons have told of themselves, and when.
    daemons: Mutex<BTreeMap<DaemonId, (Timestamp, Vec<u8>)>>,
    listeners: Listeners,
}

impl Memory {
    /// Creates an empty broker on this clock.
    #[must_use]
    pub fn new(clock: Arc<dyn WallClock>) -> Self {
        Self { clock, tenants: Mutex::default(), daemons: Mutex::default(), listeners: Listeners::default() }
    }

    /// Creates an independent copy with the same jobs, on this clock, to explore what may happen next. It has no listeners.
    #[must_use]
    pub fn fork(&self, clock: Arc<dyn WallClock>) -> Self {
        Self { tenants: Mutex::new(self.lock().clone()), ..Self::new(clock) }
    }

    /// Reads a tenant.
    fn look_at<T>(&self, tenant: &TenantId, look: impl FnOnce(&Tenant, Timestamp) -> T) -> T {
        look(self.lock().entry(tenant.clone()).or_default(), self.clock.now())
    }

    /// Executes one step of a tenant, and wakes listeners if there is more to do than before.
    fn step<T>(&self, tenant: &TenantId, step: impl FnOnce(&mut Tenant, Timestamp) -> T) -> T {
        let mut tenants = self.lock();
        let jobs = tenants.entry(tenant.clone()).or_default();
        let (before, due_before) = (jobs.wake_cause(), jobs.first_schedule());
        let events_before = jobs.events_end();
        let reply = step(jobs, self.clock.now());
        if jobs.events_end().is_some_and(|end| events_before.is_some_and(|before| before < end)) {
            self.listeners.wake(&Wake::Events(tenant.clone()));
        }
        if jobs.first_schedule().is_some_and(|due| due_before.is_none_or(|before| due < before)) {
            self.listeners.wake(&Wake::Due(tenant.clone()));
        }
        if jobs.wake_cause().is_news_after(&before) {
            self.listeners.wake(&Wake::Ready { tenant: tenant.clone(), named: None });
        }
        reply
    }

    fn act_on(&self, tenant: &TenantId, action: JobAction, job: JobId, still: Option<Still>) -> Changed {
        let changed = self.step(tenant, |t, now| t.act(action, job, still, now));
        if changed == Changed::Requested {
            self.listeners.wake(&Wake::Cancel(tenant.clone(), job));
        }
        changed
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<TenantId, Tenant>> {
        self.tenants.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Broker for Memory {
    async fn enqueue_within(
        &self,
        tenant: &TenantId,
        jobs: &[NewJob],
        bounds: &QueueBounds,
    ) -> Result<Vec<Enqueued>> {
        Ok(self.step(tenant, |t, now| jobs.iter().map(|job| t.enqueue(tenant, job, bounds, now)).collect()))
    }

    async fn lease(&self, ask: LeaseAsk<'_>) -> Result<Leased> {
        Ok(self.step(ask.tenant, |t, now| t.lease(&ask, now)))
    }

    async fn renew(&self, tenant: &TenantId, ttl: Duration, leases: &[Renew]) -> Result<Vec<Renewal>> {
        Ok(self.step(tenant, |t, now| leases.iter().map(|renew| t.renew(renew, now.after(ttl))).collect()))
    }

    async fn settle(&self, tenant: &TenantId, settlements: &[Settle]) -> Result<Vec<SettleReply>> {
        Ok(self
            .step(tenant, |t, now| settlements.iter().map(|settle| t.settle(tenant, settle, now)).collect()))
    }

    async fn control(&self, tenant: &TenantId, command: Command) -> Result<Outcome> {
        match command {
            Command::Jobs { action, ids, still } => {
                let changed = ids.into_iter().map(|job| self.act_on(tenant, action, job, still));
                Ok(Outcome::Jobs(changed.collect()))
            }
            Command::Edit { job, edit, bounds } => {
                Ok(Outcome::Edited(self.step(tenant, |t, now| t.edit(job, *edit, &bounds, now))))
            }
            Command::Sweep(sweep) => Ok(Outcome::Swept(self.step(tenant, |t, now| t.sweep(&sweep, now)))),
            Command::Purge { most } => Ok(Outcome::Left(self.step(tenant, |t, now| t.purge(most, now)))),
            Command::SetGroupRules(rules) => {
                self.step(tenant, |t, now| t.set_group_rules(rules, now));
                Ok(Outcome::Done)
            }
            Command::ReleaseGroup { queue, group } => {
                Ok(Outcome::Released(self.step(tenant, |t, now| t.release_group(&(queue, group), now))))
            }
            Command::LimitGroup { queue, group, change } => {
                Ok(Outcome::Limited(self.step(tenant, |t, now| t.limit_group((queue, group), *change, now))))
            }
            Command::Flow { flow, bounds } => {
                Ok(Outcome::Flow(self.step(tenant, |t, now| t.store_flow(tenant, &flow, &bounds, now))))
            }
            Command::Trial(report) => {
                Ok(Outcome::Trial(self.step(tenant, |t, now| t.report_trial(&report, now))))
            }
            Command::Hold(hold) => Ok(Outcome::Hold(self.step(tenant, |t, now| t.hold(*hold, now)))),
            Command::Lift(scope) => Ok(Outcome::Hold(self.step(tenant, |t, now| t.lift(&scope, now)))),
            Command::Breaker(write) => {
                Ok(Outcome::Breaker(self.step(tenant, |t, now| t.write_breaker(*write, now))))
            }
            Command::Schedule(write) => {
                Ok(Outcome::Schedule(self.step(tenant, |t, now| t.write_schedule(tenant, &write, now))))
            }
            Command::RecordEvents(keep) => {
                Ok(Outcome::Recording(self.step(tenant, |t, now| t.record_events(keep, now))))
            }
        }
    }

    async fn look(&self, tenant: &TenantId, look: Look) -> Result<Seen> {
        Ok(self.look_at(tenant, |t, now| match look {
            Look::Job(job) => Seen::Job(t.record(job).map(Box::new)),
            Look::Log(job) => Seen::Log(t.log(job)),
            Look::Jobs(query) => Seen::Jobs(t.list(&query, now)),
            Look::Counts => Seen::Counts(t.counts()),
            Look::State { plugin, key } => Seen::State(t.stored(&plugin, &key, now).map(<[u8]>::to_vec)),
            Look::Usage(days) => Seen::Usage(t.usage(&days, now)),
            Look::Lanes => Seen::Lanes(t.lanes()),
            Look::Holds => Seen::Holds(t.all_holds(now)),
            Look::Why(job) => Seen::Why(t.why(job, now).map(Box::new)),
            Look::Limits => Seen::Limits(Box::new(t.limits_use(now))),
            Look::HeldGroups => Seen::HeldGroups(t.held_groups()),
            Look::Flow(flow) => Seen::Flow(t.flow(flow)),
            Look::Parents { job, bytes } => Seen::Parents(t.parents(job, bytes)),
            Look::Breakers(name) => Seen::Breakers(t.breakers(name.as_ref(), now)),
            Look::Schedules(query) => Seen::Schedules(t.schedules(&query, now)),
            Look::Events { after, max } => Seen::Events(t.events(after, max, now)),
            Look::Queues { after, max } => Seen::Queues(t.queues(after.as_ref(), max, now)),
        }))
    }

    async fn watch(&self, tenants: Vec<TenantId>) -> Result<Wakes> {
        Ok(self.listeners.listen(tenants))
    }

    async fn tenants(&self) -> Result<Vec<TenantId>> {
        Ok(self
            .lock()
            .iter()
            .filter(|(_, tenant)| tenant.keeps_anything())
            .map(|(id, _)| id.clone())
            .collect())
    }

    async fn report_daemon(&self, id: DaemonId, report: Option<&DaemonReport>) -> Result<()> {
        let now = self.clock.now();
        let mut daemons = self.daemons.lock().unwrap_or_else(PoisonError::into_inner);
        daemons.retain(|_, (seen, _)| now.since(*seen) < DAEMON_KEPT);
        match report {
            None => drop(daemons.remove(&id)),
            Some(report) => {
                if !daemons.contains_key(&id) && daemons.len() >= DAEMONS_MAX {
                    let silent = daemons.iter().min_by_key(|(_, (seen, _))| *seen).map(|(id, _)| *id);
                    silent.and_then(|id| daemons.remove(&id));
                }
                daemons.insert(id, (now, report.to_bytes()));
            }
        }
        Ok(())
    }

    async fn daemons(&self) -> Result<Fleet> {
        let daemons = self.daemons.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(Fleet::of(self.clock.now(), daemons.iter().map(|(id, (seen, told))| (*id, *seen, &told[..]))))
    }

    async fn check(&self) -> Result<Vec<String>> {
        Ok(vec!["jobs are kept in memory alone, and are gone when this process ends".to_owned()])
    }
}
