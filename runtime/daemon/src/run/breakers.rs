//! Reports to circuit breakers: how runs ended, summed up, goes to the broker, which keeps each breaker for all daemons.
//!
//! A run that failed is reported at once. What succeeded goes along, or by itself after a part of the breaker's window. Of a breaker
//! that is closed and of which nothing is stored, successes stay here, until one fails: so a breaker that has nothing to do costs the
//! broker a look now and then, and that only while its jobs run.
//!
//! The record is read, changed by the rules of [`sandhog_core::breaker`] and written, if nobody was faster. One report a tenant is under
//! way at a time; what comes up meanwhile goes with the next.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sandhog_broker::{BreakerRecord, BreakerWrite, BreakerWritten, Broker, Result, StoredBreaker};
use sandhog_core::breaker::{
    Breaker, BreakerReport, BreakerTerms, EndedRuns, RunTally, Turn, Verdict, WINDOW_PARTS,
};
use sandhog_core::id::{BreakerName, TenantId};
use sandhog_core::outcome::Outcome;
use sandhog_core::time::{Mono, Timestamp};
use tokio::sync::Notify;

use crate::catalog::Tenant;
use crate::clock::Clock;
use crate::lease::broker_health::{BrokerHealth, Caller};
use crate::telemetry::{Event, Observer};

/// Maximum number of tries to write a record that other daemons write as well. What isn't written then goes with the next report.
const TRIES_MAX: usize = 10;

/// Time after a report that has failed before the next.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Maximum number of sums of runs that are kept of one breaker; of more, the oldest are dropped.
const SUMS_MAX: usize = 1000;

/// Handle on a tenant's reports. The loop ends when it is dropped.
pub(crate) struct Reports(Arc<Shared>);

struct Shared {
    noted: Mutex<BTreeMap<BreakerName, Noted>>,
    news: Notify,
    is_over: AtomicBool,
}

/// Ends of runs that are to be reported to one breaker.
#[derive(Clone)]
struct Noted {
    terms: Arc<BreakerTerms>,
    /// Sums of runs, by the parts of time in which they ended and started, counted from the origin of the clock.
    sums: BTreeMap<(u64, u64), RunTally>,
    limited_until: Option<Mono>,
    /// Time at which it is to be reported; `None` if nothing is new.
    at: Option<Mono>,
}

impl Drop for Reports {
    fn drop(&mut self) {
        self.0.is_over.store(true, Ordering::Relaxed);
        self.0.news.notify_one();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<BreakerName, Noted>> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reports {
    /// Creates a tenant's reports, and the loop that sends them.
    pub(crate) fn new(
        tenant: TenantId,
        broker: Arc<dyn Broker>,
        health: Arc<BrokerHealth>,
        observer: Arc<dyn Observer>,
        clock: Clock,
    ) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let shared = Arc::new(Shared {
            noted: Mutex::default(),
            news: Notify::new(),
            is_over: AtomicBool::new(false),
        });
        let reporter = Reporter { tenant, broker, health, observer, clock, shared: Arc::clone(&shared) };
        (Self(shared), reporter.run())
    }

    /// Takes in how a run ended that was started then, for the breakers of its kind. A handler puts nothing off for longer than
    /// `put_off_max`.
    pub(crate) fn note<P>(
        &self,
        terms: &Tenant<P>,
        kind: &sandhog_core::id::Kind,
        outcome: &Outcome,
        (started, ended): (Mono, Mono),
        put_off_max: Duration,
    ) {
        for (name, terms) in terms.breakers.iter().filter(|(_, terms)| terms.kinds.contains(kind)) {
            let Some(verdict) = Verdict::of(outcome, name) else { continue };
            let mut noted = self.0.lock();
            let noted = noted.entry(name.clone()).or_insert_with(|| Noted::new(Arc::clone(terms)));
            if noted.take_in(terms, verdict, (started, ended), put_off_max) {
                self.0.news.notify_one();
            }
        }
    }
}

impl Noted {
    fn new(terms: Arc<BreakerTerms>) -> Self {
        Self { terms, sums: BTreeMap::new(), limited_until: None, at: None }
    }

    /// Length of the parts of time, in milliseconds.
    fn part(&self) -> u64 {
        u64::try_from(self.terms.rule.part().as_millis()).unwrap_or(u64::MAX).max(1)
    }

    /// Adds a verdict. Returns whether a report is due earlier than it was.
    fn take_in(
        &mut self,
        terms: &Arc<BreakerTerms>,
        verdict: Verdict,
        (started, ended): (Mono, Mono),
        put_off_max: Duration,
    ) -> bool {
        if self.terms.rule != terms.rule {
            // Parts of time of another length aren't to be mixed.
            self.sums.clear();
        }
        self.terms = Arc::clone(terms);
        let part = self.part();
        let part_of = |at: Mono| u64::try_from(at.since_origin().as_millis()).unwrap_or(u64::MAX) / part;
        let mut count = |tally: RunTally| {
            let sum = self.sums.entry((part_of(ended), part_of(started))).or_default();
            *sum = sum.and(tally);
            while self.sums.len() > SUMS_MAX {
                self.sums.pop_first();
            }
        };
        let at = match verdict {
            Verdict::Works => {
                count(RunTally { succeeded: 1, failed: 0 });
                ended.after(terms.rule.window() / WINDOW_PARTS)
            }
            Verdict::Fails => {
                count(RunTally { succeeded: 0, failed: 1 });
                ended
            }
            Verdict::Limited(time) => {
                let until = ended.after(time.min(put_off_max));
                self.limited_until = self.limited_until.max(Some(until));
                ended
            }
        };
        let is_sooner = self.at.is_none_or(|before| at < before);
        if is_sooner {
            self.at = Some(at);
        }
        is_sooner
    }

    /// Drops runs that ended before the window.
    fn prune(&mut self, now: Mono) {
        let (part, window) = (self.part(), self.terms.rule.window());
        let oldest = now.since_origin().saturating_sub(window).as_millis();
        let oldest = u64::try_from(oldest).unwrap_or(u64::MAX) / part;
        self.sums = self.sums.split_off(&(oldest, 0));
    }

    /// Whether it has nothing but successes.
    fn is_good(&self) -> bool {
        self.limited_until.is_none() && self.sums.values().all(|tally| tally.failed == 0)
    }

    /// Returns the report, with the times of the broker's clock, which shows `now` at `mono` of this daemon's or a bit later.
    fn report(&self, now: Timestamp, mono: Mono) -> BreakerReport {
        let part = self.part();
        let mono_millis = u64::try_from(mono.since_origin().as_millis()).unwrap_or(u64::MAX);
        let at = |millis: u64| {
            let age = mono_millis.saturating_sub(millis);
            Timestamp::from_millis(now.as_millis().saturating_sub(age))
        };
        let runs = self.sums.iter().map(|((ended, started), tally)| EndedRuns {
            // The latest that it may be: a probe isn't to be taken for a run from before.
            started: at((started + 1).saturating_mul(part)),
            ended: at(ended.saturating_mul(part)),
            tally: *tally,
        });
        let limited_until = self
            .limited_until
            .map(|until| now.after(until.since_origin().saturating_sub(mono.since_origin())));
        BreakerReport { runs: runs.collect(), limited_until }
    }

    /// Takes away what was reported.
    fn forget(&mut self, reported: &Self) {
        for (at, tally) in &reported.sums {
            if let Some(left) = self.sums.get_mut(at) {
                left.succeeded = left.succeeded.saturating_sub(tally.succeeded);
                left.failed = left.failed.saturating_sub(tally.failed);
            }
        }
        self.sums.retain(|_, tally| tally.ended() > 0);
        if self.limited_until == reported.limited_until {
            self.limited_until = None;
        }
    }
}

/// Outcome of a report.
enum Reported {
    /// The report is in the breaker's record.
    Written(Option<Turn>),
    /// There is no record, and nothing to be said but that all is well.
    NotNeeded,
    /// Others were always faster, or the record can't be had.
    Left,
}

struct Reporter {
    tenant: TenantId,
    broker: Arc<dyn Broker>,
    health: Arc<BrokerHealth>,
    observer: Arc<dyn Observer>,
    clock: Clock,
    shared: Arc<Shared>,
}

impl Reporter {
    async fn run(self) {
        while !self.shared.is_over.load(Ordering::Relaxed) {
            let Some(name) = self.due(self.clock.mono()) else {
                let next = self.shared.lock().values().filter_map(|noted| noted.at).min();
                tokio::select! {
                    biased;
                    () = self.shared.news.notified() => {}
                    () = self.clock.reached(next) => {}
                }
                continue;
            };
            self.report(&name).await;
        }
    }

    /// Returns a breaker that is to be told something now.
    fn due(&self, now: Mono) -> Option<BreakerName> {
        let noted = self.shared.lock();
        let due = noted.iter().filter(|(_, noted)| noted.at.is_some_and(|at| at <= now));
        due.min_by_key(|(_, noted)| noted.at).map(|(name, _)| name.clone())
    }

    async fn report(&self, name: &BreakerName) {
        let taken = match self.shared.lock().get_mut(name) {
            Some(noted) => {
                noted.prune(self.clock.mono());
                noted.at = None;
                noted.clone()
            }
            None => return,
        };
        let reported = self.send(name, &taken).await;
        let mut noted = self.shared.lock();
        let Some(left) = noted.get_mut(name) else { return };
        match reported {
            Ok(Reported::Written(turn)) => {
                left.forget(&taken);
                drop(noted);
                if let Some(turn) = turn {
                    self.observer.on(&Event::BreakerTurned { tenant: &self.tenant, breaker: name, turn });
                }
            }
            // The successes of the window go with the first failure.
            Ok(Reported::NotNeeded) => {}
            Ok(Reported::Left) => left.at = left.at.or_else(|| Some(self.clock.mono().after(RETRY_AFTER))),
            Err(error) => {
                // It may have been written: what counts twice could open the breaker.
                left.forget(&taken);
                drop(noted);
                self.health.note(Caller::Tenant(&self.tenant), &error);
            }
        }
    }

    async fn send(&self, name: &BreakerName, noted: &Noted) -> Result<Reported> {
        for _ in 0..TRIES_MAX {
            let asked_at = self.clock.mono();
            let mut found = self.broker.breakers(&self.tenant, Some(name.clone())).await?;
            let stored = found.breakers.pop();
            if stored.is_none() && noted.is_good() {
                return Ok(Reported::NotNeeded);
            }
            let mut breaker = match stored.as_ref().map(StoredBreaker::read) {
                None => Breaker::default(),
                Some(Ok(breaker)) => breaker,
                Some(Err(error)) => {
                    tracing::warn!(tenant = %self.tenant, breaker = %name, %error, "a breaker can't be read, and doesn't count; `sandhog breaker reset` removes it");
                    return Ok(Reported::Written(None));
                }
            };
            let kinds = noted.terms.kinds.iter().cloned();
            let report = noted.report(found.now, asked_at);
            let turn = breaker.report(&noted.terms.rule, kinds, &report, found.now);
            let write = BreakerWrite {
                name: name.clone(),
                expected: stored.map(|stored| stored.version),
                record: BreakerRecord::of(&breaker, found.now),
            };
            match self.broker.write_breaker(&self.tenant, write).await? {
                BreakerWritten::Done => return Ok(Reported::Written(turn)),
                BreakerWritten::Stale => {}
                BreakerWritten::TooMany => {
                    tracing::warn!(tenant = %self.tenant, breaker = %name, "the tenant has as many breakers as it may; this one never opens");
                    return Ok(Reported::Written(None));
                }
            }
        }
        Ok(Reported::Left)
    }
}

#[cfg(test)]
mod tests {
    use sandhog_core::breaker::BreakerRule;

    use super::*;

    fn at(millis: u64) -> Mono {
        Mono::from_origin(Duration::from_millis(millis))
    }

    fn noted() -> Noted {
        Noted::new(Arc::new(BreakerTerms { rule: BreakerRule::default(), ..BreakerTerms::default() }))
    }

    fn take_in(noted: &mut Noted, verdict: Verdict, started: u64, ended: u64) -> bool {
        let terms = Arc::clone(&noted.terms);
        noted.take_in(&terms, verdict, (at(started), at(ended)), Duration::from_secs(60))
    }

    #[test]
    fn a_failure_is_reported_at_once_and_successes_after_a_part_of_the_window() {
        let mut noted = noted();
        assert!(take_in(&mut noted, Verdict::Works, 0, 1_000));
        assert_eq!(noted.at, Some(at(7_000)));
        assert!(!take_in(&mut noted, Verdict::Works, 0, 2_000), "the first one counts");
        assert!(noted.is_good());
        assert!(take_in(&mut noted, Verdict::Fails, 0, 3_000));
        assert_eq!((noted.at, noted.is_good()), (Some(at(3_000)), false));
    }

    #[test]
    fn a_report_has_the_brokers_times_and_calls_no_probe_an_earlier_run() {
        let mut noted = noted();
        let part = noted.part();
        take_in(&mut noted, Verdict::Fails, 10_000, 20_000);
        take_in(&mut noted, Verdict::Limited(Duration::from_secs(300)), 10_000, 20_000);
        let now = Timestamp::from_millis(1_000_000);
        let report = noted.report(now, at(21_000));
        let [runs] = report.runs[..] else { panic!("they are summed up") };
        assert_eq!(runs.tally, RunTally { succeeded: 0, failed: 1 });
        let started = runs.started.as_millis();
        assert!((989_000..=989_000 + part).contains(&started), "{started}");
        let ended = runs.ended.as_millis();
        assert!((999_000 - part..=999_000).contains(&ended), "{ended}");
        assert_eq!(
            report.limited_until,
            Some(now.after(Duration::from_secs(59))),
            "within what may be put off"
        );
    }

    #[test]
    fn what_was_reported_is_forgotten_and_what_came_meanwhile_is_not() {
        let mut noted = noted();
        take_in(&mut noted, Verdict::Fails, 0, 1);
        let taken = noted.clone();
        take_in(&mut noted, Verdict::Fails, 0, 2);
        take_in(&mut noted, Verdict::Works, 0, 3);
        noted.forget(&taken);
        let left = noted.sums.values().fold(RunTally::default(), |all, tally| all.and(*tally));
        assert_eq!(left, RunTally { succeeded: 1, failed: 1 });
    }

    #[test]
    fn runs_from_before_the_window_are_dropped() {
        let mut noted = noted();
        take_in(&mut noted, Verdict::Works, 0, 1_000);
        take_in(&mut noted, Verdict::Works, 0, 50_000);
        noted.prune(at(70_000));
        assert_eq!(noted.sums.len(), 1);
    }

    #[test]
    fn no_more_than_so_many_sums_are_kept() {
        let mut noted = noted();
        for n in 0..2 * SUMS_MAX as u64 {
            take_in(&mut noted, Verdict::Works, 0, n * 10_000);
        }
        assert_eq!(noted.sums.len(), SUMS_MAX);
    }
}
