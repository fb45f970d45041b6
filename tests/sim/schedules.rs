//! Schedules, and the jobs that were enqueued for their times.

use std::collections::BTreeMap;

use sandhog_core::id::{JobId, ScheduleName, TenantId};
use sandhog_core::schedule::Schedule;
use sandhog_core::time::Timestamp;

/// Number of nominal times, from the start on, that are looked through for those of jobs.
const TIMES: usize = 100_000;

/// What all tenants' schedules have enqueued.
#[derive(Default)]
pub(crate) struct Fired(BTreeMap<(TenantId, ScheduleName), OfSchedule>);

#[derive(Default)]
struct OfSchedule {
    /// The jobs, with their nominal times.
    jobs: Vec<(Timestamp, JobId)>,
    /// How many of them are from before it was removed, when a reload took its plugin away.
    earlier: usize,
}

impl Fired {
    /// Invariant 17, for one job that was just enqueued. Yields those that the schedule has enqueued before it.
    pub(crate) fn fire(
        &mut self,
        tenant: &TenantId,
        schedule: &Schedule,
        (started, now): (Timestamp, Timestamp),
        job: JobId,
    ) -> Vec<JobId> {
        let name = &schedule.name;
        let OfSchedule { jobs: before, earlier } = self.0.entry((tenant.clone(), name.clone())).or_default();
        let nominal = schedule.times.after(started).take(TIMES).find(|time| schedule.job_id(*time) == job);
        let nominal = nominal.unwrap_or_else(|| panic!("{job} is of no time of {name}"));
        assert!(nominal <= now, "{name} fired before its time");
        let latest = before.last().map(|(time, _)| *time);
        assert!(latest < Some(nominal), "{name} fired for {nominal:?}, after it had for {latest:?}");
        let jobs = before[*earlier..].iter().map(|(_, job)| *job).collect();
        before.push((nominal, job));
        let most = schedule.times_max.map_or(u64::MAX, |most| most.get());
        assert!((before.len() - *earlier) as u64 <= most, "{name} fired more often than {most} times");
        jobs
    }

    /// Takes in that a schedule was removed. If it comes back, it is a new one, of which no time has passed.
    pub(crate) fn remove(&mut self, tenant: &TenantId, name: &ScheduleName) {
        if let Some(of) = self.0.get_mut(&(tenant.clone(), name.clone())) {
            of.earlier = of.jobs.len();
        }
    }

    /// How many jobs a schedule has enqueued, since it was there for the last time.
    pub(crate) fn count(&self, tenant: &TenantId, name: &ScheduleName) -> usize {
        self.0.get(&(tenant.clone(), name.clone())).map_or(0, |of| of.jobs.len() - of.earlier)
    }

    /// How many jobs all have enqueued.
    pub(crate) fn all(&self) -> usize {
        self.0.values().map(|of| of.jobs.len()).sum()
    }
}
