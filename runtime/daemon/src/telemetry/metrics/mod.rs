//! Metrics: what this process has counted, and how that is told to Prometheus.
//!
//! | part | is about |
//! |---|---|
//! | [`families`] | every metric by name |
//! | [`Metrics`] | the counts; an [`Observer`], which counts events |
//! | [`measured`] | a layer around a broker, which counts calls and jobs that are stored |
//! | [`text`] | the text format |
//!
//! `prometheus-client` is not used: its histograms take a lock for each value, and it tells all that is registered, where a token may
//! be for some tenants only.
//!
//! What a job adds to is found once, when its attempt is over, by a search in a sorted list. Each of its values is two atomic additions;
//! nothing is allocated, and nothing waits but for a queue and kind that are new.

pub mod families;
pub mod histogram;
pub mod measured;
#[cfg(test)]
pub(crate) mod parse;
pub mod text;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use sandhog_api::DeployEventKind;
use sandhog_core::attempt::SettleReply;
use sandhog_core::breaker::Turn;
use sandhog_core::id::{Kind, QueueName, TenantId};
use sandhog_core::outcome::Outcome;
use sandhog_core::reason::Reason;
use sandhog_core::time::Timestamp;

use self::histogram::Histogram;
use self::measured::Call;
use self::text::Exposition;
use super::observer::{Event, Finished, Observer};

/// Label of queues and kinds that the configuration doesn't have, so that their number is bounded by it.
pub const OTHER: &str = "other";

/// What became of jobs by settlements: slug of the settlement, and name of the outcome.
const OUTCOMES: [(&str, &str); 5] = [
    ("succeed", "succeeded"),
    ("retry", "retried"),
    ("release", "released"),
    ("bury", "dead"),
    ("cancel", "cancelled"),
];

/// Number of the ways in which an attempt can be settled: one for each reason, and one for none.
const REASONS: usize = Reason::ALL.len() + 1;

/// Answers of a broker to a job that is to be stored.
pub const ANSWERS: [&str; 5] = ["stored", "duplicate", "replaced", "too-large", "full"];

/// Counts of this process.
#[derive(Debug)]
pub struct Metrics {
    started: Timestamp,
    /// Maximum number of runs at once; 0 in a process that runs no jobs.
    slots: u32,
    calls: Vec<CallCounts>,
    /// Counts of jobs, in order of tenant, queue and kind.
    jobs: RwLock<Vec<(Labels, Arc<JobCounts>)>>,
    tenants: RwLock<BTreeMap<TenantId, Arc<TenantCounts>>>,
}

#[derive(Debug)]
struct CallCounts {
    took: Histogram,
    failed: AtomicU64,
}

/// Labels of jobs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Labels {
    tenant: TenantId,
    queue: Box<str>,
    kind: Box<str>,
}

/// Counts of the jobs of one kind in one queue. It begins a cache line of its own, as other threads count others meanwhile.
#[derive(Debug)]
#[repr(align(64))]
struct JobCounts {
    /// Numbers of settlements: by outcome, and of each by reason, the last one for none.
    settled: [[AtomicU64; REASONS]; OUTCOMES.len()],
    wait: Histogram,
    run: Histogram,
    total: Histogram,
    attempts: Histogram,
    fuel: Histogram,
    memory: Histogram,
}

impl Default for JobCounts {
    fn default() -> Self {
        Self {
            settled: std::array::from_fn(|_| std::array::from_fn(|_| AtomicU64::new(0))),
            wait: Histogram::new(&histogram::WAIT),
            run: Histogram::new(&histogram::RUN),
            total: Histogram::new(&histogram::WAIT),
            attempts: Histogram::new(&histogram::ATTEMPTS),
            fuel: Histogram::new(&histogram::FUEL),
            memory: Histogram::new(&histogram::MEMORY),
        }
    }
}

/// Counts of a tenant beside those of its jobs.
#[derive(Debug)]
#[repr(align(64))]
struct TenantCounts {
    runs: AtomicI64,
    /// By answer, in the order of [`ANSWERS`].
    enqueued: [AtomicU64; ANSWERS.len()],
    /// By reason.
    deferred: [AtomicU64; Reason::ALL.len()],
    lease_lost: AtomicU64,
    lease_expired: AtomicU64,
    late_settlements: AtomicU64,
    host_faults: AtomicU64,
    breaker_opened: AtomicU64,
    fuel_used_up: AtomicU64,
    /// By kind of event, for those that there were.
    deploys: RwLock<BTreeMap<&'static str, u64>>,
}

impl Default for TenantCounts {
    fn default() -> Self {
        let zeros = || AtomicU64::new(0);
        Self {
            runs: AtomicI64::new(0),
            enqueued: std::array::from_fn(|_| zeros()),
            deferred: std::array::from_fn(|_| zeros()),
            lease_lost: zeros(),
            lease_expired: zeros(),
            late_settlements: zeros(),
            host_faults: zeros(),
            breaker_opened: zeros(),
            fuel_used_up: zeros(),
            deploys: RwLock::default(),
        }
    }
}

fn add(counter: &AtomicU64, more: u64) {
    counter.fetch_add(more, Ordering::Relaxed);
}

fn get(counter: &AtomicU64) -> f64 {
    counter.load(Ordering::Relaxed) as f64
}

impl Metrics {
    /// Creates counts of a process that started at this time and may have so many runs at once, 0 if it runs no jobs.
    #[must_use]
    pub fn new(started: Timestamp, slots: u32) -> Arc<Self> {
        let calls = Call::ALL
            .iter()
            .map(|_| CallCounts { took: Histogram::new(&histogram::CALL), failed: AtomicU64::new(0) });
        Arc::new(Self {
            started,
            slots,
            calls: calls.collect(),
            jobs: RwLock::default(),
            tenants: RwLock::default(),
        })
    }

    /// Creates counts of a process whose metrics nobody asks for.
    #[must_use]
    pub fn unused() -> Arc<Self> {
        Self::new(Timestamp::from_millis(0), 0)
    }

    fn tenant(&self, tenant: &TenantId) -> Arc<TenantCounts> {
        if let Some(counts) = self.tenants.read().unwrap_or_else(PoisonError::into_inner).get(tenant) {
            return Arc::clone(counts);
        }
        let mut tenants = self.tenants.write().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(tenants.entry(tenant.clone()).or_default())
    }

    /// Returns the counts of a tenant's jobs of a kind in a queue, as the labels name them.
    fn jobs_of(&self, tenant: &TenantId, queue: &str, kind: &str) -> Arc<JobCounts> {
        type Known = [(Labels, Arc<JobCounts>)];
        let place = |known: &Known| {
            known.binary_search_by(|(labels, _)| {
                (&labels.tenant, &*labels.queue, &*labels.kind).cmp(&(tenant, queue, kind))
            })
        };
        let known = self.jobs.read().unwrap_or_else(PoisonError::into_inner);
        if let Ok(at) = place(&known) {
            return Arc::clone(&known[at].1);
        }
        drop(known);
        let mut known = self.jobs.write().unwrap_or_else(PoisonError::into_inner);
        match place(&known) {
            Ok(at) => Arc::clone(&known[at].1),
            Err(at) => {
                let counts = Arc::new(JobCounts::default());
                let labels = Labels { tenant: tenant.clone(), queue: queue.into(), kind: kind.into() };
                known.insert(at, (labels, Arc::clone(&counts)));
                counts
            }
        }
    }

    pub(super) fn called(&self, call: Call, took: Duration, has_failed: bool) {
        let counts = &self.calls[call as usize];
        counts.took.count_time(took);
        add(&counts.failed, has_failed.into());
    }

    /// Counts answers to jobs that were to be stored, each by its place in [`ANSWERS`].
    pub(super) fn enqueued(&self, tenant: &TenantId, answer: usize, count: usize) {
        add(&self.tenant(tenant).enqueued[answer], count as u64);
    }

    fn finished(&self, finished: &Finished<'_>) {
        let Finished { tenant, queue, kind, settled, attempt, waited, ran, age, .. } = *finished;
        let counts =
            self.jobs_of(tenant, queue.map_or(OTHER, QueueName::as_str), kind.map_or(OTHER, Kind::as_str));
        if let Some(waited) = waited {
            counts.wait.count_time(waited);
        }
        if let Some(usage) = ran {
            counts.run.count_time(usage.wall);
            counts.fuel.count(usage.fuel.0);
            counts.memory.count(usage.memory_peak.0);
        }
        let Some((slug, reason)) = settled else { return };
        let Some(outcome) = OUTCOMES.iter().position(|(known, _)| *known == slug) else { return };
        let reason = reason.map_or(REASONS - 1, |reason| reason as usize);
        add(&counts.settled[outcome][reason], 1);
        if !matches!(slug, "retry" | "release") {
            counts.total.count_time(age);
            counts.attempts.count(attempt.into());
        }
    }

    /// Adds what was counted for the tenants that `sees` lets through, and for the process as a whole if `sees_all` is true.
    pub fn expose(&self, into: &mut Exposition, sees_all: bool, sees: impl Fn(&TenantId) -> bool) {
        into.add(&families::BUILD_INFO, &[env!("CARGO_PKG_VERSION")], 1.0);
        into.add(&families::PROCESS_START, &[], self.started.as_millis() as f64 / 1000.0);
        if sees_all {
            into.add(&families::SLOTS, &[], self.slots.into());
            for (call, counts) in Call::ALL.iter().zip(&self.calls) {
                into.add_histogram(&families::BROKER_CALL, &[call.slug()], &counts.took.counted());
                into.add(&families::BROKER_FAILURES, &[call.slug()], get(&counts.failed));
            }
        }
        let tenants = self.tenants.read().unwrap_or_else(PoisonError::into_inner);
        for (tenant, counts) in tenants.iter().filter(|(tenant, _)| sees(tenant)) {
            counts.expose(into, tenant.as_str());
        }
        drop(tenants);
        let jobs = self.jobs.read().unwrap_or_else(PoisonError::into_inner);
        for (labels, counts) in jobs.iter().filter(|(labels, _)| sees(&labels.tenant)) {
            counts.expose(into, &[labels.tenant.as_str(), &labels.queue, &labels.kind]);
        }
    }
}

impl JobCounts {
    fn expose(&self, into: &mut Exposition, labels: &[&str; 3]) {
        let [tenant, queue, kind] = *labels;
        for ((_, outcome), by_reason) in OUTCOMES.iter().zip(&self.settled) {
            for (place, count) in by_reason.iter().enumerate() {
                let (count, reason) = (get(count), Reason::ALL.get(place).map_or("", |reason| reason.slug()));
                if count > 0.0 {
                    into.add(&families::SETTLED, &[tenant, queue, kind, outcome, reason], count);
                }
            }
        }
        for (family, histogram) in [
            (&families::WAIT, &self.wait),
            (&families::RUN, &self.run),
            (&families::TOTAL, &self.total),
            (&families::ATTEMPTS, &self.attempts),
            (&families::FUEL, &self.fuel),
            (&families::MEMORY, &self.memory),
        ] {
            into.add_histogram(family, labels, &histogram.counted());
        }
    }
}

impl TenantCounts {
    fn expose(&self, into: &mut Exposition, tenant: &str) {
        into.add(&families::RUNS, &[tenant], self.runs.load(Ordering::Relaxed) as f64);
        for (answer, count) in ANSWERS.iter().zip(&self.enqueued) {
            into.add(&families::ENQUEUED, &[tenant, answer], get(count));
        }
        for (reason, count) in Reason::ALL.iter().zip(&self.deferred) {
            if get(count) > 0.0 {
                into.add(&families::DEFERRED, &[tenant, reason.slug()], get(count));
            }
        }
        for (family, count) in [
            (&families::LEASE_LOST, &self.lease_lost),
            (&families::LEASE_EXPIRED, &self.lease_expired),
            (&families::LATE_SETTLEMENTS, &self.late_settlements),
            (&families::HOST_FAULTS, &self.host_faults),
            (&families::BREAKER_OPENED, &self.breaker_opened),
            (&families::FUEL_USED_UP, &self.fuel_used_up),
        ] {
            into.add(family, &[tenant], get(count));
        }
        for (what, count) in &*self.deploys.read().unwrap_or_else(PoisonError::into_inner) {
            into.add(&families::DEPLOYS, &[tenant, what], *count as f64);
        }
    }
}

/// Counts the events that metrics are made of.
impl Observer for Metrics {
    fn on(&self, event: &Event<'_>) {
        match *event {
            Event::Started { tenant, .. } => {
                self.tenant(tenant).runs.fetch_add(1, Ordering::Relaxed);
            }
            Event::Finished(ref finished) => {
                if finished.was_started {
                    self.tenant(finished.tenant).runs.fetch_sub(1, Ordering::Relaxed);
                }
                self.finished(finished);
            }
            Event::Ended { tenant, failure: Some(Outcome::HostFault { .. }), .. } => {
                add(&self.tenant(tenant).host_faults, 1);
            }
            Event::Deferred { tenant, reason, .. } => add(&self.tenant(tenant).deferred[reason as usize], 1),
            Event::Settled { tenant, reply: SettleReply::Lost, .. } => {
                add(&self.tenant(tenant).late_settlements, 1);
            }
            Event::LeaseLost { tenant, .. } => add(&self.tenant(tenant).lease_lost, 1),
            Event::Expired { tenant, .. } => add(&self.tenant(tenant).lease_expired, 1),
            Event::FuelUsedUp { tenant, .. } => add(&self.tenant(tenant).fuel_used_up, 1),
            Event::BreakerTurned { tenant, turn: Turn::Opened { .. }, .. } => {
                add(&self.tenant(tenant).breaker_opened, 1);
            }
            Event::Deploy(event) => {
                let what: DeployEventKind = event.what;
                let tenant = event.tenant.as_deref().and_then(|tenant| TenantId::parse(tenant).ok());
                if let Some(tenant) = tenant {
                    let counts = self.tenant(&tenant);
                    let mut deploys = counts.deploys.write().unwrap_or_else(PoisonError::into_inner);
                    *deploys.entry(what.slug()).or_default() += 1;
                }
            }
            // The store tells of schedules and breakers for all daemons together, and each scrape asks whether brokers answer.
            Event::Leased { .. }
            | Event::Ended { .. }
            | Event::Settled { .. }
            | Event::BreakerTurned { .. }
            | Event::Scheduled { .. }
            | Event::ScheduleRegistered { .. }
            | Event::ScheduleUnreadable { .. }
            | Event::BrokerDown { .. }
            | Event::BrokerUp { .. } => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use sandhog_core::budget::{Bytes, Fuel};
    use sandhog_core::id::{JobId, LeaseNo, LeaseToken, PluginName};
    use sandhog_core::outcome::Usage;

    use super::parse::parse;
    use super::*;

    fn finished<'e>(tenant: &'e TenantId, queue: &'e QueueName, kind: &'e Kind) -> Finished<'e> {
        let usage = Usage {
            fuel: Fuel(2_000_000),
            memory_peak: Bytes::mib(3),
            wall: Duration::from_millis(20),
            ..Usage::default()
        };
        Finished {
            tenant,
            queue: Some(queue),
            kind: Some(kind),
            settled: Some(("succeed", None)),
            attempt: 1,
            was_started: true,
            waited: Some(Duration::from_secs(2)),
            ran: Some(usage),
            age: Duration::from_secs(3),
        }
    }

    #[test]
    fn each_count_moves_when_its_thing_happens() {
        let metrics = Metrics::new(Timestamp::from_millis(1500), 8);
        let (acme, queue) = (TenantId::parse("acme").expect("valid"), QueueName::parse("q").expect("valid"));
        let (kind, plugin) =
            (Kind::parse("mail.send").expect("valid"), PluginName::parse("mail").expect("valid"));
        let job = JobId::from_parts(Timestamp::from_millis(1), 1);
        let token = LeaseToken { job, lease: LeaseNo(1) };
        let exposed = || {
            let mut exposition = Exposition::default();
            metrics.expose(&mut exposition, true, |_| true);
            parse(&exposition.into_text())
        };
        let started = Event::Started { tenant: &acme, plugin: &plugin, job, kind: &kind };
        metrics.on(&started);
        assert_eq!(exposed().value("sandhog_runs{tenant=\"acme\"}"), Some(1.0));
        metrics.on(&Event::Finished(finished(&acme, &queue, &kind)));
        let died = Finished {
            settled: Some(("bury", Some(Reason::OutOfFuel))),
            queue: None,
            kind: None,
            waited: None,
            attempt: 3,
            ..finished(&acme, &queue, &kind)
        };
        metrics.on(&started);
        metrics.on(&Event::Finished(died));
        metrics.on(&Event::LeaseLost { tenant: &acme, token });
        metrics.on(&Event::Expired { tenant: &acme, job });
        let reason = Reason::NoPlugin;
        metrics.on(&Event::Deferred { tenant: &acme, job, after: Duration::ZERO, reason });
        let reply = &SettleReply::Lost;
        metrics.on(&Event::Settled { tenant: &acme, token, settlement: "succeed", plugin: None, reply });
        let failure = Some(&Outcome::HostFault { message: String::new() });
        let usage = Usage::default();
        metrics.on(&Event::Ended { tenant: &acme, plugin: &plugin, job, failure, usage });
        metrics.enqueued(&acme, 1, 4);
        metrics.called(Call::Lease, Duration::from_millis(3), true);
        let all = exposed();
        let of = "tenant=\"acme\",queue=\"q\",kind=\"mail.send\"";
        let other = "tenant=\"acme\",queue=\"other\",kind=\"other\"";
        for (sample, value) in [
            ("sandhog_process_start_timestamp_seconds".to_owned(), 1.5),
            ("sandhog_slots".to_owned(), 8.0),
            ("sandhog_runs{tenant=\"acme\"}".to_owned(), 0.0),
            (format!("sandhog_jobs_settled_total{{{of},outcome=\"succeeded\",reason=\"\"}}"), 1.0),
            (format!("sandhog_jobs_settled_total{{{other},outcome=\"dead\",reason=\"out-of-fuel\"}}"), 1.0),
            (format!("sandhog_job_wait_seconds_bucket{{{of},le=\"1\"}}"), 0.0),
            (format!("sandhog_job_wait_seconds_bucket{{{of},le=\"2.5\"}}"), 1.0),
            (format!("sandhog_job_wait_seconds_count{{{other}}}"), 0.0),
            (format!("sandhog_job_run_seconds_sum{{{of}}}"), 0.02),
            (format!("sandhog_job_total_seconds_sum{{{other}}}"), 3.0),
            (format!("sandhog_job_attempts_sum{{{other}}}"), 3.0),
            (format!("sandhog_job_fuel_sum{{{of}}}"), 2_000_000.0),
            (format!("sandhog_job_memory_peak_bytes_bucket{{{of},le=\"4194304\"}}"), 1.0),
            ("sandhog_lease_lost_total{tenant=\"acme\"}".to_owned(), 1.0),
            ("sandhog_lease_expired_total{tenant=\"acme\"}".to_owned(), 1.0),
            ("sandhog_late_settlements_refused_total{tenant=\"acme\"}".to_owned(), 1.0),
            ("sandhog_host_faults_total{tenant=\"acme\"}".to_owned(), 1.0),
            ("sandhog_jobs_deferred_total{tenant=\"acme\",reason=\"no-plugin\"}".to_owned(), 1.0),
            ("sandhog_jobs_enqueued_total{tenant=\"acme\",answer=\"duplicate\"}".to_owned(), 4.0),
            ("sandhog_broker_call_seconds_count{call=\"lease\"}".to_owned(), 1.0),
            ("sandhog_broker_call_failures_total{call=\"lease\"}".to_owned(), 1.0),
        ] {
            assert_eq!(all.value(&sample), Some(value), "{sample}");
        }
    }

    #[test]
    fn whoever_sees_a_tenant_sees_no_other_and_nothing_of_the_process_as_a_whole() {
        let metrics = Metrics::new(Timestamp::from_millis(0), 8);
        let (acme, globex) =
            (TenantId::parse("acme").expect("valid"), TenantId::parse("globex").expect("valid"));
        let (queue, kind) = (QueueName::parse("q").expect("valid"), Kind::parse("mail.send").expect("valid"));
        for tenant in [&acme, &globex] {
            metrics.on(&Event::Finished(finished(tenant, &queue, &kind)));
        }
        let mut exposition = Exposition::default();
        metrics.expose(&mut exposition, false, |tenant| *tenant == acme);
        let text = exposition.into_text();
        parse(&text);
        assert!(text.contains("acme") && !text.contains("globex") && !text.contains("broker_call"));
    }

    #[test]
    fn each_reason_has_the_place_of_its_number() {
        for (place, reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, place);
        }
    }
}
