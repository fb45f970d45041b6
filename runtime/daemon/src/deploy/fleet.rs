//! Fleet's side of trials: each daemon reports to the store what it has counted, and is told what the others have, and how
//! the trial ends. See [`sandhog_core::trial`].
//!
//! None of this delays a job: runs are counted in memory, and reported every [`REPORT_EVERY`]. A verdict by what is known
//! here is found at the run that brings it about, and reported at once.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream;
use sandhog_broker::{Broker, Error};
use sandhog_core::id::DaemonId;
use sandhog_core::time::Timestamp;
use sandhog_core::trial::{Decision, Pair, TrialReport, TrialStatus};
use tokio::time::Instant;

use super::CanaryTrial;
use super::slot::Key;

/// Interval between two reports of a trial. All daemons follow a decision after this time and the duration of a call at the
/// latest.
pub(super) const REPORT_EVERY: Duration = Duration::from_secs(3);

/// Minimum time between two reports of which the second has a reason of its own.
pub(super) const REPORT_AGAIN: Duration = Duration::from_millis(100);

/// Time for which the store has to be silent before a daemon decides by itself.
const ALONE_AFTER: Duration = Duration::from_secs(10);

/// Maximum number of trials that are reported at once; the others of a round wait for them.
const REPORTS_MAX: usize = 8;

/// Handle by which this daemon reports trials to the store.
#[derive(Clone)]
pub(super) struct Fleet {
    broker: Arc<dyn Broker>,
    daemon: DaemonId,
}

/// Trial that goes on.
pub(super) struct Ongoing {
    pub(super) key: Key,
    pub(super) pair: Pair,
    pub(super) trial: Arc<CanaryTrial>,
    /// Start of the latest trial of the same pair whose end this daemon has seen, by the store's clock. `None` if it has
    /// seen none end.
    pub(super) ended: Option<Timestamp>,
}

/// Trial that is over.
pub(super) struct Decided {
    pub(super) of: Ongoing,
    pub(super) decision: Decision,
    /// Time at which the trial had begun, by the store's clock. `None` if the store doesn't know of the decision.
    pub(super) began: Option<Timestamp>,
}

impl Fleet {
    /// Creates the handle. `daemon` is an id that no other daemon has.
    pub(super) fn new(broker: Arc<dyn Broker>, daemon: DaemonId) -> Self {
        Self { broker, daemon }
    }

    /// Reports trials. Returns those that are over.
    pub(super) async fn report_all(&self, trials: Vec<Ongoing>) -> Vec<Decided> {
        let reports = stream::iter(trials).map(|of| async move {
            let (decision, began) = self.decide(&of).await?;
            Some(Decided { of, decision, began })
        });
        reports.buffer_unordered(REPORTS_MAX).filter_map(async |decided| decided).collect().await
    }

    /// Reports a trial. If there is a verdict by what all daemons have counted, that is reported as well; the decision is
    /// then the one that the store has, perhaps the verdict of another daemon. `None` if the trial goes on.
    async fn decide(&self, of: &Ongoing) -> Option<(Decision, Option<Timestamp>)> {
        let status = match self.report(of, None).await {
            Ok(status) => status,
            Err(error) => return alone(of, &error),
        };
        let decided = |status: TrialStatus| Some((status.decision?, Some(status.began)));
        if status.decision.is_some() {
            return decided(status);
        }
        let verdict = Decision::of(of.trial.verdict())?;
        match self.report(of, Some(verdict)).await {
            Ok(status) => decided(status),
            // The store may have taken the verdict in or not. The next report tells.
            Err(error) => alone(of, &error),
        }
    }

    async fn report(&self, of: &Ongoing, decision: Option<Decision>) -> Result<TrialStatus, Error> {
        let Ongoing { key: (tenant, _), pair, trial, ended } = of;
        let report = TrialReport {
            daemon: self.daemon,
            pair: pair.clone(),
            counted: trial.own_records(),
            ended: *ended,
            decision,
        };
        let status = self.broker.report_trial(tenant, &report).await?;
        trial.told(&status);
        Ok(status)
    }
}

/// Decides a trial by what this daemon knows, once the store has been silent for [`ALONE_AFTER`]. `None` before, or if it is
/// undecided.
fn alone(of: &Ongoing, error: &Error) -> Option<(Decision, Option<Timestamp>)> {
    let (tenant, plugin) = &of.key;
    let silent = Instant::now().saturating_duration_since(of.trial.last_told());
    if silent < ALONE_AFTER {
        tracing::debug!(%tenant, %plugin, %error, "a canary can't be reported yet");
        return None;
    }
    let decision = Decision::of(of.trial.verdict())?;
    tracing::warn!(
        %tenant, %plugin, %error, ?silent,
        "the store doesn't tell what other daemons have seen of a canary; it is judged by what this one knows"
    );
    Some((decision, None))
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use sandhog_broker::conformance::ManualClock;
    use sandhog_broker::faulty::{Faults, Faulty};
    use sandhog_broker::memory::Memory;
    use sandhog_core::budget::Fuel;
    use sandhog_core::canary::{Policy, Share, Side};
    use sandhog_core::effects::Effects;
    use sandhog_core::id::{PluginName, Revision, TenantId};
    use sandhog_core::outcome::{Outcome, Report, Usage};
    use tokio::sync::Notify;

    use super::*;

    fn memory() -> Arc<Faulty> {
        memory_at(Arc::default())
    }

    fn memory_at(clock: Arc<ManualClock>) -> Arc<Faulty> {
        let memory: Arc<dyn Broker> = Arc::new(Memory::new(clock));
        Arc::new(Faulty::new(memory, Faults::default()))
    }

    /// A daemon, and the trial as it has it.
    struct Daemon {
        fleet: Fleet,
        trial: Arc<CanaryTrial>,
        news: Arc<Notify>,
        ended: Option<Timestamp>,
    }

    impl Daemon {
        fn new(broker: &Arc<Faulty>, nth: u128, runs_min: u32) -> Self {
            let broker = Arc::clone(broker) as Arc<dyn Broker>;
            let daemon = DaemonId::from_parts(Timestamp::from_millis(1), nth);
            let policy = Policy {
                share: Share::new(0.5).expect("a part"),
                runs_min: NonZeroU32::new(runs_min).expect("not zero"),
                failures_extra: 0.05,
                fuel_ratio: 1.5,
                max_age: Duration::from_secs(3600),
            };
            let news = Arc::new(Notify::new());
            let trial = Arc::new(CanaryTrial::new(policy, Revision::from_sha256([2; 32]), Arc::clone(&news)));
            Self { fleet: Fleet::new(broker, daemon), trial, news, ended: None }
        }

        fn runs(&self, side: Side, count: usize, outcome: &Outcome) {
            let usage = Usage { fuel: Fuel(1000), ..Usage::default() };
            for _ in 0..count {
                self.trial.record(side, &Report { outcome: outcome.clone(), usage, slept: false });
            }
        }

        async fn report(&self) -> Option<Decided> {
            let key = (TenantId::parse("acme").expect("valid"), PluginName::parse("a").expect("valid"));
            let [old, new] = [1, 2].map(|n| Revision::from_sha256([n; 32]));
            let pair = Pair { plugin: key.1.clone(), old, new };
            let of = Ongoing { key, pair, trial: Arc::clone(&self.trial), ended: self.ended };
            self.fleet.report_all(vec![of]).await.pop()
        }

        async fn decides(&self) -> Option<Decision> {
            self.report().await.map(|decided| decided.decision)
        }

        async fn hears_news(&self) -> bool {
            tokio::time::timeout(Duration::from_millis(1), self.news.notified()).await.is_ok()
        }
    }

    fn good() -> Outcome {
        Outcome::Returned { output: Vec::new(), effects: Effects::default() }
    }

    fn bad() -> Outcome {
        Outcome::Trapped { message: String::new() }
    }

    #[tokio::test(start_paused = true)]
    async fn each_sees_half_of_it_and_the_sum_decides_for_both() {
        let broker = memory();
        let daemons = [1, 2].map(|nth| Daemon::new(&broker, nth, 20));
        for daemon in &daemons {
            assert!(daemon.hears_news().await, "a trial that has begun is reported");
            daemon.runs(Side::Old, 10, &good());
            daemon.runs(Side::New, 10, &bad());
            assert!(!daemon.hears_news().await, "it knows no verdict by itself");
        }
        let [first, second] = &daemons;
        assert_eq!(first.decides().await, None);
        let decision = second.decides().await;
        assert!(
            matches!(&decision, Some(Decision::RollBack { why }) if why.starts_with("100% of its runs fail")),
            "{decision:?}"
        );
        assert_eq!(first.decides().await, decision);
        assert_eq!(first.trial.records(), second.trial.records());
    }

    #[tokio::test(start_paused = true)]
    async fn one_decision_holds_for_all_whatever_each_would_have_decided() {
        let broker = memory();
        let [lenient, strict] = [(1, 5), (2, 6)].map(|(nth, runs_min)| Daemon::new(&broker, nth, runs_min));
        lenient.runs(Side::Old, 5, &good());
        lenient.runs(Side::New, 5, &good());
        assert_eq!(lenient.decides().await, Some(Decision::Promote));
        strict.runs(Side::Old, 6, &good());
        strict.runs(Side::New, 6, &bad());
        assert_eq!(strict.decides().await, Some(Decision::Promote));
    }

    #[tokio::test(start_paused = true)]
    async fn a_trial_of_the_same_revisions_can_be_held_again() {
        let broker = memory();
        let mut daemon = Daemon::new(&broker, 1, 5);
        daemon.runs(Side::Old, 5, &good());
        daemon.runs(Side::New, 5, &bad());
        let first = daemon.report().await.expect("it is decided");
        assert!(matches!(first.decision, Decision::RollBack { .. }));
        daemon = Daemon { ended: first.began, ..Daemon::new(&broker, 1, 5) };
        assert_eq!(daemon.decides().await, None, "it has just begun");
        daemon.runs(Side::Old, 5, &good());
        daemon.runs(Side::New, 5, &good());
        assert_eq!(daemon.decides().await, Some(Decision::Promote));
    }

    #[tokio::test(start_paused = true)]
    async fn a_daemon_decides_by_itself_once_the_store_is_silent_for_long() {
        let broker = memory();
        let daemon = Daemon::new(&broker, 1, 5);
        assert_eq!(daemon.decides().await, None);
        daemon.runs(Side::Old, 5, &good());
        daemon.runs(Side::New, 5, &good());
        broker.down();
        assert_eq!(daemon.decides().await, None, "it may be back at once");
        tokio::time::advance(ALONE_AFTER).await;
        let decided = daemon.report().await.expect("it knows enough");
        assert_eq!((decided.decision, decided.began), (Decision::Promote, None));
    }

    #[tokio::test(start_paused = true)]
    async fn a_trial_is_as_old_as_the_first_daemon_has_it() {
        let clock = Arc::new(ManualClock::default());
        let broker = memory_at(Arc::clone(&clock));
        let [first, second] = [1, 2].map(|nth| Daemon::new(&broker, nth, 5));
        first.decides().await;
        let before = second.trial.ends().expect("it has an end");
        clock.advance(Duration::from_secs(30));
        second.decides().await;
        assert_eq!(before - second.trial.ends().expect("it has an end"), Duration::from_secs(30));
    }
}
