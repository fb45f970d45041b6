//! What must hold whatever has failed. All of it is decided by the history and what is found in the broker at the end.

use sandhog_broker::Counts;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use sandhog_core::account::{Account, RunEnd};
use sandhog_core::id::{JobId, TenantId};
use sandhog_core::job::{JobRecord, State};
use sandhog_core::reason::Reason;
use serde_json::Value;

use crate::history::{Entry, Event, Run};
use crate::plan::{End, Job};
use crate::recovery::under_way;

/// Runs under way at once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Of one daemon.
    pub(crate) daemon: usize,
    /// Of a tenant or its plugin on one daemon, by tenant.
    pub(crate) tenants: [(&'static str, usize); 2],
}

/// What is found in the end, once nothing is under way any more.
#[derive(Debug, Default, Clone)]
pub(crate) struct Found {
    pub(crate) tenants: BTreeMap<TenantId, OfTenant>,
}

/// What is found of one tenant.
#[derive(Debug, Default, Clone)]
pub(crate) struct OfTenant {
    pub(crate) records: Vec<JobRecord>,
    pub(crate) counts: Counts,
    pub(crate) spent: Account,
    /// The state of its plugin, as far as it may be there.
    pub(crate) state: BTreeMap<String, String>,
}

/// Which child of whom a job is, and of which run.
struct Child {
    parent: String,
    number: u32,
    run: String,
}

impl Child {
    /// As the payload says.
    fn of(record: &JobRecord) -> Option<Self> {
        let payload: Value = serde_json::from_slice(&record.payload).ok()?;
        let text = |key: &str| Some(payload[key].as_str()?.to_owned());
        let number = u32::try_from(payload["number"].as_u64()?).ok()?;
        Some(Self { parent: text("parent")?, number, run: text("run")? })
    }
}

/// How often a job may lose its lease: so often as a daemon allows that is told nothing about it.
pub(crate) fn expiries_max() -> usize {
    sandhog_config::Lease::default().expiries_max as usize
}

/// Everything that doesn't hold, in words.
pub(crate) fn violations(
    entries: &[Entry],
    planned: &HashMap<JobId, Job>,
    limits: &Limits,
    found: &Found,
) -> Vec<String> {
    let mut wrong = Vec::new();
    for (tenant, of_tenant) in &found.tenants {
        let case = Case { tenant, of_tenant, entries, planned };
        wrong.extend(case.nothing_is_lost());
        wrong.extend(case.every_job_is_settled_as_it_was_to_be());
        wrong.extend(case.effects_happened_once());
        wrong.extend(case.children_exist_once());
        wrong.extend(case.counters_add_up());
    }
    wrong.extend(limits_held(entries, limits));
    wrong.extend(one_holder_settled(entries));
    wrong.extend(events_are_right(entries));
    wrong
}

/// One tenant.
struct Case<'a> {
    tenant: &'a TenantId,
    of_tenant: &'a OfTenant,
    entries: &'a [Entry],
    planned: &'a HashMap<JobId, Job>,
}

impl Case<'_> {
    fn events(&self) -> impl Iterator<Item = &Event> {
        self.entries.iter().map(|(_, event)| event)
    }

    /// The planned jobs, each with its plan.
    fn roots(&self) -> impl Iterator<Item = (&JobRecord, &Job)> {
        self.of_tenant.records.iter().filter_map(|record| Some((record, self.planned.get(&record.id)?)))
    }

    fn state(&self, key: &str) -> Option<&str> {
        self.of_tenant.state.get(key).map(String::as_str)
    }

    fn nothing_is_lost(&self) -> Vec<String> {
        let there: BTreeSet<JobId> = self.of_tenant.records.iter().map(|record| record.id).collect();
        let acknowledged = self.events().filter_map(|event| match event {
            Event::Acknowledged { tenant, job } if tenant == self.tenant => Some(job),
            _ => None,
        });
        acknowledged
            .filter(|job| !there.contains(job))
            .map(|job| format!("lost: job {job} of {} was acknowledged, and isn't there", self.tenant))
            .collect()
    }

    fn every_job_is_settled_as_it_was_to_be(&self) -> Vec<String> {
        let cancels = |wanted: fn(&Event) -> Option<(&TenantId, &JobId)>| -> BTreeSet<JobId> {
            self.events()
                .filter_map(wanted)
                .filter(|(of, _)| *of == self.tenant)
                .map(|(_, job)| *job)
                .collect()
        };
        let asked = cancels(|event| match event {
            Event::CancelAsked { tenant, job } => Some((tenant, job)),
            _ => None,
        });
        let cancelled = cancels(|event| match event {
            Event::Cancelled { tenant, job } => Some((tenant, job)),
            _ => None,
        });
        let mut wrong = Vec::new();
        for record in &self.of_tenant.records {
            let JobRecord { id, state, reason, .. } = record;
            let end = self.planned.get(id).map_or(End::Return, |job| job.end);
            let is_right = match state {
                State::Blocked | State::Scheduled | State::Ready | State::Leased => false,
                State::Cancelled => asked.contains(id),
                State::Succeeded => end == End::Return && !cancelled.contains(id),
                State::Dead if *reason == Some(Reason::LeaseExpired) => {
                    self.robbed(id) > expiries_max() && !cancelled.contains(id)
                }
                State::Dead => {
                    end == End::Fail && *reason == Some(Reason::FailedPermanently) && !cancelled.contains(id)
                }
            };
            if !is_right {
                let because = reason.map_or("-", Reason::slug);
                wrong.push(format!("settled wrongly: job {id} of {} is {state} ({because})", self.tenant));
            }
        }
        wrong
    }

    /// How often a daemon was robbed of a run of this job.
    fn robbed(&self, id: &JobId) -> usize {
        let (job, tenant) = (id.to_string(), self.tenant.as_str());
        let is_of_it = |run: &&&Run| run.job == job && run.tenant == tenant;
        let runs = self.entries.iter().enumerate().filter_map(|(nth, (_, event))| match event {
            Event::Robbed { daemon, .. } => Some(under_way(&self.entries[..nth], daemon)),
            _ => None,
        });
        runs.map(|runs| runs.iter().filter(is_of_it).count()).sum()
    }

    /// All effects of a job that succeeded are there, once, and are those of the run whose output was kept; of others there
    /// are none.
    fn effects_happened_once(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        for (record, _) in self.roots() {
            let id = record.id;
            let found = (self.state(&format!("runs/{id}")), self.state(&format!("run/{id}")));
            let output = record.output.as_deref().map(String::from_utf8_lossy);
            let name = output.as_ref().map(|output| format!("\"{}\"", output.trim_matches('"')));
            let expected = match record.state {
                State::Succeeded => (Some("1"), name.as_deref()),
                _ => (None, None),
            };
            if found != expected || (record.state == State::Succeeded && name.is_none()) {
                wrong.push(format!(
                    "effects: job {id} of {} is {}, its run, how often and by whom: {found:?}, not {expected:?}",
                    self.tenant, record.state
                ));
            }
        }
        wrong
    }

    /// The children of jobs that succeeded, each once, and no others; and each has counted once.
    fn children_exist_once(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut left: BTreeMap<(String, u32), String> = BTreeMap::new();
        for (record, job) in self.roots().filter(|(record, _)| record.state == State::Succeeded) {
            let output = String::from_utf8_lossy(record.output.as_deref().unwrap_or_default());
            for number in 0..job.children {
                left.insert((record.id.to_string(), number), output.trim_matches('"').to_owned());
            }
        }
        for record in self.of_tenant.records.iter().filter(|record| !self.planned.contains_key(&record.id)) {
            let known = Child::of(record).and_then(|child| {
                let run = left.remove(&(child.parent.clone(), child.number))?;
                (run == child.run).then_some(child)
            });
            let Some(Child { parent, number, .. }) = known else {
                wrong.push(format!("invented: job {} of {} is nobody's", record.id, self.tenant));
                continue;
            };
            let counted = self.state(&format!("child/{parent}/{number}"));
            if counted != Some("1") {
                wrong
                    .push(format!("effects: child {} of {} has counted {counted:?}", record.id, self.tenant));
            }
        }
        let missing = left.into_keys().map(|(parent, number)| {
            format!("lost: child {number} of job {parent} of {} isn't there", self.tenant)
        });
        wrong.extend(missing);
        wrong
    }

    /// What the broker counts is what the jobs' own records come to.
    fn counters_add_up(&self) -> Vec<String> {
        let OfTenant { records, counts, spent, .. } = self.of_tenant;
        let of_state = |state| records.iter().filter(|record| record.state == state).count() as u64;
        let is_root = |record: &&JobRecord| self.planned.contains_key(&record.id);
        let succeeded = records.iter().filter(|record| record.state == State::Succeeded);
        let (roots, children): (Vec<_>, Vec<_>) = succeeded.partition(is_root);
        let number = |key| self.state(key).map_or(Ok(0), str::parse::<usize>);
        let sum = |of: fn(&JobRecord) -> u64| records.iter().map(of).sum::<u64>();
        let dead = records.iter().filter(|record| record.reason != Some(Reason::LeaseExpired));
        let dead = dead.filter(|record| record.state == State::Dead).count() as u64;
        let micros = |time: std::time::Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let equal = [
            (
                "counts of jobs",
                State::ALL.map(of_state).to_vec(),
                counts.iter().map(|(_, count)| count).collect(),
            ),
            ("runs counted", vec![roots.len() as u64], vec![number("runs").map_or(u64::MAX, |n| n as u64)]),
            (
                "children counted",
                vec![children.len() as u64],
                vec![number("children").map_or(u64::MAX, |n| n as u64)],
            ),
            ("runs that succeeded", vec![of_state(State::Succeeded)], vec![spent.ended(RunEnd::Succeeded)]),
            ("runs that buried", vec![dead], vec![spent.ended(RunEnd::Dead)]),
            ("attempts", vec![sum(|record| u64::from(record.attempts))], vec![spent.attempts()]),
            ("fuel", vec![sum(|record| record.usage.fuel.0)], vec![spent.fuel.0]),
            ("host calls", vec![sum(|record| record.usage.host_calls)], vec![spent.host_calls]),
            ("time", vec![records.iter().map(|record| micros(record.usage.wall)).sum()], vec![spent.wall_us]),
        ];
        let differ = equal.into_iter().filter(|(_, of_records, counted)| of_records != counted);
        differ
            .map(|(what, of_records, counted)| {
                format!(
                    "counters: {what} of {}: {of_records:?} by the records, {counted:?} counted",
                    self.tenant
                )
            })
            .collect()
    }
}

/// At no time has a daemon had more runs under way than it may.
fn limits_held(entries: &[Entry], limits: &Limits) -> Vec<String> {
    let mut under_way = Vec::new();
    let mut wrong = Vec::new();
    for (at, event) in entries {
        match event {
            Event::Began(run) => {
                under_way.push(run);
                let count = |is: &dyn Fn(&str) -> bool| {
                    under_way.iter().filter(|other| other.daemon == run.daemon && is(&other.tenant)).count()
                };
                let mut exceeded = |count: usize, limit: usize, whose: &str| {
                    if count > limit {
                        let at = at.as_secs_f64();
                        wrong.push(format!("limit: {count} runs of {whose} on {} at {at:.3} s", run.daemon));
                    }
                };
                exceeded(count(&|_| true), limits.daemon, "all tenants");
                for (tenant, limit) in limits.tenants {
                    if tenant == run.tenant {
                        exceeded(count(&|other| other == tenant), limit, tenant);
                    }
                }
            }
            Event::Ended { run } => under_way.retain(|other| other.number != *run),
            _ => {}
        }
    }
    wrong
}

/// Of the holders of a job, one has settled it.
fn one_holder_settled(entries: &[Entry]) -> Vec<String> {
    let mut settled: BTreeMap<JobId, BTreeSet<u64>> = BTreeMap::new();
    for (_, event) in entries {
        if let Event::Settled { job, lease } = event {
            settled.entry(*job).or_default().insert(lease.0);
        }
    }
    let by_many = settled.into_iter().filter(|(_, leases)| leases.len() > 1);
    by_many.map(|(job, leases)| format!("settled twice: job {job}, by leases {leases:?}")).collect()
}

/// What says by itself whether it is right.
fn events_are_right(entries: &[Entry]) -> Vec<String> {
    let wrong = entries.iter().filter_map(|(_, event)| match event {
        Event::Stale { job, call, refused: false } => {
            Some(format!("stale: {call} of job {job} was accepted"))
        }
        Event::Trace { job, before, after } if before != after => {
            Some(format!("stale: job {job} was changed: {before} became {after}"))
        }
        Event::Probed { daemon, fault, begun: false } => {
            Some(format!("silent: {daemon} fetches nothing after {fault}"))
        }
        Event::Died { daemon, how } => Some(format!("daemon: {daemon} ended: {how}")),
        Event::Filled { runs, room } if runs != room => {
            Some(format!("room: {runs} runs at once of the {room} that there is room for"))
        }
        _ => None,
    });
    wrong.collect()
}
