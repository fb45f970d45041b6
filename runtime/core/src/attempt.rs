//! State machine of one attempt, from its lease to its end: the one place that knows which step may follow which.
//!
//! ```text
//!              Admitted                Exited                 Settled(Applied)
//!  Starting ─────────────> Running ───────────> Settling ─────────────────────> Done(Settled)
//!     │  Deferred, Rejected, Drain                 ^  │ Settled(Conflict), SettleFailed: again
//!     └────────────────────────────────────────────┘  │
//!     lease lost, or no longer trusted, in any phase ─┴─────────────────────────> Done(Lost)
//! ```
//!
//! The machine holds no channel, clock or log. Its driver performs each [`Action`] and feeds back the result as an
//! [`Event`]. Three properties hold in any order of events, and the tests below play random orders to show it: at most one
//! settlement is applied, none is sent once the lease is lost, and every attempt can end.

use crate::id::StateKey;
use crate::outcome::{Outcome, StopReason};
use crate::quota::{QueueBounds, QueueExcess, StateExcess, StateQuota};
use crate::reason::Reason;
use crate::retry::{Chance, RetryPolicy};
use crate::settle::{
    AttemptCounts, Settlement, Verdict, settle, settle_conflict, settle_draining, settle_full,
    settle_queue_full,
};
use crate::time::Mono;
use std::sync::Arc;
use std::time::Duration;

/// Input of [`Attempt::on`]: something that happened to the attempt.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The job may run, and has to end by the deadline.
    Admitted {
        /// Policy by which the job is tried again if it fails.
        retry: Arc<RetryPolicy>,
        /// Time at which the job's timeout ends.
        deadline: Mono,
    },
    /// The job can't run now.
    Deferred {
        /// Minimum time before the job is ready again.
        after: Duration,
        /// Reason why the job can't run now.
        reason: Reason,
    },
    /// The job can never run.
    Rejected {
        /// Reason why the job can never run.
        reason: Reason,
        /// Full explanation, for people.
        message: String,
    },
    /// The run has ended.
    Exited(Outcome),
    /// The lease was renewed.
    Renewed {
        /// Time until which the lease can be trusted now.
        trusted_until: Mono,
    },
    /// The lease was renewed, and somebody wants the job cancelled.
    CancelRequested {
        /// Time until which the lease can be trusted now.
        trusted_until: Mono,
    },
    /// The broker says that this lease doesn't hold any more.
    LeaseLost,
    /// The handler was told that the daemon shuts down, and may end early.
    Draining,
    /// The grace period of a shutdown is over.
    Drain,
    /// Time has passed; see [`Attempt::wake_at`].
    Tick,
    /// The broker has answered the settlement.
    Settled(SettleReply),
    /// The settlement couldn't be sent to the broker, or the broker didn't answer.
    SettleFailed,
}

impl Event {
    /// The name in traces.
    #[must_use]
    pub fn slug(&self) -> &'static str {
        match self {
            Self::Admitted { .. } => "admitted",
            Self::Deferred { .. } => "deferred",
            Self::Rejected { .. } => "rejected",
            Self::Exited(_) => "exited",
            Self::Renewed { .. } => "renewed",
            Self::CancelRequested { .. } => "cancel-requested",
            Self::LeaseLost => "lease-lost",
            Self::Draining => "draining",
            Self::Drain => "drain",
            Self::Tick => "tick",
            Self::Settled(_) => "settled",
            Self::SettleFailed => "settle-failed",
        }
    }
}

/// The broker's answer to a settlement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SettleReply {
    /// The settlement is recorded with all its effects. A repetition of the same settlement gets the same answer.
    Applied,
    /// The token is stale: nothing was changed.
    Lost,
    /// State that the run had compared has another value now, or state that it adds to isn't a number: nothing was changed.
    Conflict {
        /// First key that was found in conflict.
        key: StateKey,
    },
    /// More jobs would wait than the tenant may have waiting: nothing was changed.
    QueueFull {
        /// Bound that would be exceeded.
        excess: QueueExcess,
        /// Bounds on what the tenant may have waiting.
        bounds: QueueBounds,
    },
    /// The stored job can't be read by this version: nothing was changed.
    Unreadable,
    /// The plugin would keep more state than it may: nothing was changed.
    Full {
        /// Part of the quota that would be exceeded.
        excess: StateExcess,
        /// Quota of the plugin's state.
        quota: StateQuota,
    },
}

/// Step for the driver to take after an [`Event`].
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Do nothing.
    Wait,
    /// Start the run.
    Start,
    /// Make the run end; it reports its exit as usual.
    Stop(StopReason),
    /// Send this settlement.
    Settle(Settlement),
    /// Pause the jobs of the same kind in the same queue, and then send this settlement.
    PauseAndSettle(Settlement),
    /// Send the last settlement once more.
    SettleAgain,
    /// Forget the attempt: it has ended.
    End(Ending),
}

impl Action {
    /// The name in traces.
    #[must_use]
    pub fn slug(&self) -> &'static str {
        match self {
            Self::Wait => "wait",
            Self::Start => "start",
            Self::Stop(_) => "stop",
            Self::Settle(settlement) => settlement.slug(),
            Self::PauseAndSettle(_) => "pause-and-settle",
            Self::SettleAgain => "settle-again",
            Self::End(Ending::Settled) => "end-settled",
            Self::End(Ending::Lost) => "end-lost",
        }
    }
}

/// End of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The settlement is recorded.
    Settled,
    /// The lease was lost, or can't be trusted any more: whatever the run did is dropped.
    Lost,
}

#[derive(Debug, Clone, PartialEq)]
enum Phase {
    Starting,
    Running(Running),
    Settling { retry: Option<Arc<RetryPolicy>> },
    Done,
}

/// State machine of one attempt.
#[derive(Debug, Clone, PartialEq)]
pub struct Attempt {
    counts: AttemptCounts,
    trusted_until: Mono,
    /// The job's deadline over all its attempts; `None` if it has none.
    job_deadline: Option<Mono>,
    phase: Phase,
}

#[derive(Debug, Clone, PartialEq)]
struct Running {
    retry: Arc<RetryPolicy>,
    deadline: Mono,
    /// Reason why the run is being stopped; `None` if it isn't.
    stop: Option<StopReason>,
    /// Whether the handler was told that the daemon shuts down.
    is_draining: bool,
}

impl Attempt {
    /// Creates the attempt of a leased job about which nothing is decided yet. The lease can be trusted until
    /// `trusted_until`.
    #[must_use]
    pub fn new(counts: AttemptCounts, trusted_until: Mono) -> Self {
        Self { counts, trusted_until, job_deadline: None, phase: Phase::Starting }
    }

    /// Returns the attempt of a job with this deadline over all its attempts.
    #[must_use]
    pub fn with_deadline(self, job_deadline: Option<Mono>) -> Self {
        Self { job_deadline, ..self }
    }

    /// Returns the time at which an [`Event::Tick`] is due if nothing else happens until then; `None` once the attempt has
    /// ended, or while a run stops because its lease is lost.
    #[must_use]
    pub fn wake_at(&self) -> Option<Mono> {
        match &self.phase {
            Phase::Running(Running { stop: Some(_), .. }) if self.lost() => None,
            Phase::Running(Running { deadline, stop: None, .. }) => Some(self.trusted_until.min(*deadline)),
            Phase::Starting | Phase::Running(_) | Phase::Settling { .. } => Some(self.trusted_until),
            Phase::Done => None,
        }
    }

    /// Whether the lease should be renewed.
    #[must_use]
    pub fn wants_lease(&self) -> bool {
        !self.lost() && self.phase != Phase::Done
    }

    fn lost(&self) -> bool {
        matches!(self.phase, Phase::Running(Running { stop: Some(StopReason::LeaseLost), .. }))
    }

    /// Takes one event and returns the action to perform.
    pub fn on(&mut self, event: Event, now: Mono, chance: Chance) -> Action {
        if let Event::Renewed { trusted_until } | Event::CancelRequested { trusted_until } = event {
            self.trusted_until = self.trusted_until.max(trusted_until);
        }
        match self.phase.clone() {
            Phase::Starting => self.on_starting(event, now),
            Phase::Running(running) => self.on_running(event, now, chance, running),
            Phase::Settling { retry } => self.on_settling(event, now, chance, retry),
            Phase::Done => Action::Wait,
        }
    }

    fn on_starting(&mut self, event: Event, now: Mono) -> Action {
        if now >= self.trusted_until {
            return self.end(Ending::Lost);
        }
        match event {
            Event::Admitted { .. } if self.job_deadline.is_some_and(|deadline| now >= deadline) => {
                let message = "its deadline was over before this attempt could begin".to_owned();
                self.send(None, Settlement::Bury { reason: Reason::DeadlineExceeded, message }, now)
            }
            Event::Admitted { retry, deadline } => {
                let deadline = self.job_deadline.map_or(deadline, |of_job| deadline.min(of_job));
                self.phase = Phase::Running(Running { retry, deadline, stop: None, is_draining: false });
                Action::Start
            }
            Event::Deferred { after, reason } => self.send(None, Settlement::Release { after, reason }, now),
            Event::Rejected { reason, message } => self.send(None, Settlement::Bury { reason, message }, now),
            Event::CancelRequested { .. } => self.send(None, Settlement::Cancel, now),
            Event::Drain => {
                self.send(None, Settlement::Release { after: Duration::ZERO, reason: Reason::Drained }, now)
            }
            Event::LeaseLost => self.end(Ending::Lost),
            // A run that starts all the same is told once it runs.
            Event::Draining
            | Event::Exited(_)
            | Event::Renewed { .. }
            | Event::Tick
            | Event::Settled(_)
            | Event::SettleFailed => Action::Wait,
        }
    }

    fn on_running(&mut self, event: Event, now: Mono, chance: Chance, running: Running) -> Action {
        let Running { retry, deadline, stop, is_draining } = running;
        if let Event::Exited(outcome) = event {
            if stop == Some(StopReason::LeaseLost) || now >= self.trusted_until {
                return self.end(Ending::Lost);
            }
            // A cancellation rules out any further attempt; a result that came first is kept.
            let verdict = match (stop, outcome) {
                (Some(StopReason::Cancelled), outcome) if !matches!(outcome, Outcome::Returned { .. }) => {
                    Settlement::Cancel.into()
                }
                (_, outcome) if is_draining => settle_draining(self.counts, outcome, &retry, chance),
                (_, outcome) => settle(self.counts, outcome, &retry, chance),
            };
            return self.send(Some(retry), verdict, now);
        }
        let wanted = match event {
            Event::LeaseLost => Some(StopReason::LeaseLost),
            _ if now >= self.trusted_until => Some(StopReason::LeaseLost),
            Event::CancelRequested { .. } => Some(StopReason::Cancelled),
            Event::Drain => Some(StopReason::Drained),
            _ if now >= deadline => Some(StopReason::Deadline),
            _ => None,
        };
        let is_draining = is_draining || matches!(event, Event::Draining | Event::Drain);
        let (stop, action) = match wanted {
            Some(wanted) if stop.is_none_or(|stop| outranks(wanted, stop)) => {
                (Some(wanted), Action::Stop(wanted))
            }
            _ => (stop, Action::Wait),
        };
        self.phase = Phase::Running(Running { retry, deadline, stop, is_draining });
        action
    }

    fn on_settling(
        &mut self,
        event: Event,
        now: Mono,
        chance: Chance,
        retry: Option<Arc<RetryPolicy>>,
    ) -> Action {
        match event {
            Event::Settled(SettleReply::Applied) => self.end(Ending::Settled),
            Event::Settled(SettleReply::Lost) => self.end(Ending::Lost),
            // Once the lease can't be trusted any more, a settlement is neither repeated nor replaced.
            _ if now >= self.trusted_until => self.end(Ending::Lost),
            Event::SettleFailed => Action::SettleAgain,
            Event::Settled(SettleReply::Conflict { key }) => match retry {
                Some(retry) => {
                    let instead = settle_conflict(self.counts, key.as_str(), &retry, chance);
                    self.send(None, instead, now)
                }
                // A settlement without effects can't conflict: a broker that says so can't be trusted with it.
                None => self.end(Ending::Lost),
            },
            // Another version may have taken it over; this one has no say in it any more.
            Event::Settled(SettleReply::Unreadable) => self.end(Ending::Lost),
            Event::Settled(SettleReply::QueueFull { excess, bounds }) => match retry {
                Some(retry) => {
                    let instead = settle_queue_full(self.counts, bounds.explain(excess), &retry, chance);
                    self.send(None, instead, now)
                }
                // Nor can one without effects fill a queue.
                None => self.end(Ending::Lost),
            },
            Event::Settled(SettleReply::Full { excess, quota }) => match retry {
                Some(retry) => {
                    let instead = settle_full(self.counts, quota.explain(excess), &retry, chance);
                    self.send(None, instead, now)
                }
                // Nor can one without effects fill the state.
                None => self.end(Ending::Lost),
            },
            // A renewal that crossed the settlement finds no lease any more; the settlement's own reply decides.
            Event::LeaseLost
            | Event::Admitted { .. }
            | Event::Deferred { .. }
            | Event::Rejected { .. }
            | Event::Exited(_)
            | Event::Renewed { .. }
            | Event::CancelRequested { .. }
            | Event::Draining
            | Event::Drain
            | Event::Tick => Action::Wait,
        }
    }

    fn send(&mut self, retry: Option<Arc<RetryPolicy>>, verdict: impl Into<Verdict>, now: Mono) -> Action {
        self.phase = Phase::Settling { retry };
        let Verdict { settlement, pauses } = verdict.into();
        match self.before_deadline(settlement, now) {
            // One that is given up for its deadline needs no pause.
            settlement @ Settlement::Retry { .. } if pauses => Action::PauseAndSettle(settlement),
            settlement => Action::Settle(settlement),
        }
    }

    /// Returns the settlement, or a burial in the place of a retry that would begin when the job's deadline is over.
    fn before_deadline(&self, settlement: Settlement, now: Mono) -> Settlement {
        let is_late = |after| self.job_deadline.is_some_and(|deadline| now.after(after) >= deadline);
        match settlement {
            Settlement::Retry { after, message, .. } if is_late(after) => {
                let message = format!("no further attempt before its deadline; the last one: {message}");
                Settlement::Bury { reason: Reason::DeadlineExceeded, message }
            }
            Settlement::Release {
                after,
                reason: Reason::Snoozed | Reason::RateLimited | Reason::Unavailable,
            } if is_late(after) => {
                let message = "its handler put it off until after its deadline".to_owned();
                Settlement::Bury { reason: Reason::DeadlineExceeded, message }
            }
            settlement => settlement,
        }
    }

    fn end(&mut self, ending: Ending) -> Action {
        self.phase = Phase::Done;
        Action::End(ending)
    }
}

/// Whether the reason to stop `new` outranks `old` in deciding what becomes of the job.
fn outranks(new: StopReason, old: StopReason) -> bool {
    fn rank(reason: StopReason) -> u8 {
        match reason {
            StopReason::Drained | StopReason::Deadline => 0,
            StopReason::Cancelled => 1,
            StopReason::LeaseLost => 2,
        }
    }
    rank(new) > rank(old)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::effects::Effects;
    use crate::id::LeaseNo;
    use crate::outcome::{Limit, PutOff};
    use crate::retry::OnExhausted;
    use proptest::prelude::*;

    const CHANCE: fn() -> Chance = || Chance::from_bits(1 << 63);
    const FIRST: AttemptCounts = AttemptCounts { lease: LeaseNo(1), attempts: 0, faults: 0 };
    const TRUST: u64 = 30;
    const DEADLINE: u64 = 20;

    fn at(seconds: u64) -> Mono {
        Mono::from_origin(Duration::from_secs(seconds))
    }

    fn admitted() -> Event {
        Event::Admitted { retry: Arc::default(), deadline: at(DEADLINE) }
    }

    fn returned() -> Event {
        Event::Exited(Outcome::Returned { output: vec![1], effects: Effects::default() })
    }

    fn gave_up(retry_after: Option<Duration>) -> Event {
        Event::Exited(Outcome::FailedTransiently { message: "not now".into(), code: None, retry_after })
    }

    fn conflict() -> Event {
        Event::Settled(SettleReply::Conflict { key: StateKey::parse("k").expect("valid") })
    }

    /// Every event, by the name that the table below uses.
    fn events() -> Vec<(&'static str, Event)> {
        vec![
            ("admitted", admitted()),
            ("deferred", Event::Deferred { after: Duration::from_secs(1), reason: Reason::NoPlugin }),
            ("rejected", Event::Rejected { reason: Reason::PayloadTooLarge, message: "big".into() }),
            ("returned", returned()),
            ("failed", Event::Exited(Outcome::FailedPermanently { message: "no".into() })),
            ("gave-up", gave_up(None)),
            ("put-off", Event::Exited(Outcome::PutOff { why: PutOff::Snoozed, after: Duration::ZERO })),
            ("trapped", Event::Exited(Outcome::Trapped { message: "unreachable".into() })),
            ("renewed", Event::Renewed { trusted_until: at(TRUST) }),
            ("cancel", Event::CancelRequested { trusted_until: at(TRUST) }),
            ("lost", Event::LeaseLost),
            ("draining", Event::Draining),
            ("drain", Event::Drain),
            ("tick", Event::Tick),
            ("applied", Event::Settled(SettleReply::Applied)),
            ("stale", Event::Settled(SettleReply::Lost)),
            ("conflict", conflict()),
            ("settle-failed", Event::SettleFailed),
        ]
    }

    fn show(action: &Action) -> String {
        match action {
            Action::Stop(reason) => format!("stop:{reason:?}"),
            other => other.slug().to_owned(),
        }
    }

    /// One machine in each phase, reached by the events that lead there.
    fn phases() -> Vec<(&'static str, Attempt)> {
        let after = |events: Vec<Event>| {
            let mut attempt = Attempt::new(FIRST, at(TRUST));
            for event in events {
                attempt.on(event, at(0), CHANCE());
            }
            attempt
        };
        vec![
            ("starting", after(vec![])),
            ("running", after(vec![admitted()])),
            ("cancelling", after(vec![admitted(), Event::CancelRequested { trusted_until: at(TRUST) }])),
            ("draining", after(vec![admitted(), Event::Draining])),
            ("drained", after(vec![admitted(), Event::Drain])),
            ("losing", after(vec![admitted(), Event::LeaseLost])),
            ("settling", after(vec![admitted(), returned()])),
            ("done", after(vec![admitted(), returned(), Event::Settled(SettleReply::Applied)])),
        ]
    }

    fn table(now: u64) -> String {
        let mut out = String::new();
        for (phase, machine) in phases() {
            for (name, event) in events() {
                let action = machine.clone().on(event, at(now), CHANCE());
                if action != Action::Wait {
                    out.push_str(&format!("{phase} {name} {}\n", show(&action)));
                }
            }
        }
        out
    }

    #[test]
    fn no_attempt_begins_or_goes_on_after_the_deadline_of_its_job() {
        let attempt = || Attempt::new(FIRST, at(TRUST)).with_deadline(Some(at(10)));
        let mut late = attempt();
        let action = late.on(admitted(), at(10), CHANCE());
        assert!(
            matches!(action, Action::Settle(Settlement::Bury { reason: Reason::DeadlineExceeded, .. })),
            "{action:?}"
        );
        let mut running = attempt();
        assert_eq!(running.on(admitted(), at(1), CHANCE()), Action::Start);
        assert_eq!(running.wake_at(), Some(at(10)), "sooner than its own timeout");
        assert_eq!(running.on(Event::Tick, at(10), CHANCE()), Action::Stop(StopReason::Deadline));
        let stopped = Event::Exited(Outcome::Aborted(StopReason::Deadline));
        let action = running.on(stopped, at(10), CHANCE());
        assert!(
            matches!(action, Action::Settle(Settlement::Bury { reason: Reason::DeadlineExceeded, .. })),
            "{action:?}"
        );
    }

    #[test]
    fn a_retry_that_would_begin_after_the_deadline_is_a_burial_and_one_before_it_is_not() {
        for (wait, is_buried) in [(8, false), (9, true), (1000, true)] {
            let mut attempt = Attempt::new(FIRST, at(TRUST)).with_deadline(Some(at(10)));
            assert_eq!(attempt.on(admitted(), at(0), CHANCE()), Action::Start);
            let retry_after = Some(Duration::from_secs(wait));
            let failed = Outcome::FailedTransiently { message: "no luck".into(), code: None, retry_after };
            let put_off = Outcome::PutOff { why: PutOff::Snoozed, after: Duration::from_secs(wait) };
            match attempt.clone().on(Event::Exited(put_off), at(1), CHANCE()) {
                Action::Settle(Settlement::Bury { reason: Reason::DeadlineExceeded, .. }) if is_buried => {}
                Action::Settle(Settlement::Release { reason: Reason::Snoozed, .. }) if !is_buried => {}
                other => panic!("put off for {wait}s: {other:?}"),
            }
            match attempt.on(Event::Exited(failed), at(1), CHANCE()) {
                Action::Settle(Settlement::Bury { reason, message }) if is_buried => {
                    assert_eq!(reason, Reason::DeadlineExceeded);
                    assert!(message.contains("no luck"), "{message}");
                }
                Action::Settle(Settlement::Retry { .. }) if !is_buried => {}
                other => panic!("after {wait}s: {other:?}"),
            }
        }
    }

    #[test]
    fn every_phase_answers_every_event() {
        let expected = "\
starting admitted start
starting deferred release
starting rejected bury
starting cancel cancel
starting lost end-lost
starting drain release
running returned succeed
running failed bury
running gave-up retry
running put-off release
running trapped retry
running cancel stop:Cancelled
running lost stop:LeaseLost
running drain stop:Drained
cancelling returned succeed
cancelling failed cancel
cancelling gave-up cancel
cancelling put-off cancel
cancelling trapped cancel
cancelling lost stop:LeaseLost
draining returned succeed
draining failed bury
draining gave-up release
draining put-off release
draining trapped retry
draining cancel stop:Cancelled
draining lost stop:LeaseLost
draining drain stop:Drained
drained returned succeed
drained failed bury
drained gave-up release
drained put-off release
drained trapped retry
drained cancel stop:Cancelled
drained lost stop:LeaseLost
losing returned end-lost
losing failed end-lost
losing gave-up end-lost
losing put-off end-lost
losing trapped end-lost
settling applied end-settled
settling stale end-lost
settling conflict retry
settling settle-failed settle-again
";
        assert_eq!(table(1), expected);
    }

    #[test]
    fn past_its_trust_an_attempt_only_stops_and_ends() {
        let out = table(TRUST + 1);
        for line in out.lines() {
            let allowed = ["stop:LeaseLost", "end-lost", "end-settled"];
            assert!(allowed.iter().any(|action| line.ends_with(action)), "{line}");
        }
    }

    #[test]
    fn past_its_deadline_a_run_is_stopped_once() {
        let mut attempt = Attempt::new(FIRST, at(TRUST));
        attempt.on(admitted(), at(0), CHANCE());
        assert_eq!(attempt.wake_at(), Some(at(DEADLINE)));
        assert_eq!(attempt.on(Event::Tick, at(DEADLINE), CHANCE()), Action::Stop(StopReason::Deadline));
        assert_eq!(attempt.on(Event::Tick, at(DEADLINE), CHANCE()), Action::Wait);
        assert_eq!(attempt.wake_at(), Some(at(TRUST)));
    }

    #[test]
    fn a_handler_that_ends_early_because_the_daemon_drains_loses_no_attempt() {
        let last = AttemptCounts { attempts: RetryPolicy::default().max_attempts.get() - 1, ..FIRST };
        let ends = |events: Vec<Event>| {
            let mut attempt = Attempt::new(last, at(TRUST));
            attempt.on(admitted(), at(0), CHANCE());
            events.into_iter().map(|event| attempt.on(event, at(1), CHANCE())).last().expect("it ends")
        };
        let released = |after| Action::Settle(Settlement::Release { after, reason: Reason::Drained });
        assert_eq!(ends(vec![Event::Draining, gave_up(None)]), released(Duration::ZERO));
        let wait = Duration::from_secs(60);
        assert_eq!(ends(vec![Event::Draining, gave_up(Some(wait))]), released(wait), "it has said when");
        for timed_out in [
            Outcome::Aborted(StopReason::Deadline),
            Outcome::Exceeded { limit: Limit::Time, message: "timed out".into() },
        ] {
            assert_eq!(ends(vec![Event::Draining, Event::Exited(timed_out)]), released(Duration::ZERO));
        }
        assert!(matches!(ends(vec![gave_up(None)]), Action::Settle(Settlement::Bury { .. })));
    }

    #[test]
    fn a_conflict_is_answered_without_effects() {
        let mut attempt = Attempt::new(FIRST, at(TRUST));
        attempt.on(admitted(), at(0), CHANCE());
        attempt.on(returned(), at(1), CHANCE());
        let action = attempt.on(conflict(), at(1), CHANCE());
        assert!(matches!(action, Action::Settle(Settlement::Retry { reason: Reason::StateConflict, .. })));
        assert_eq!(attempt.on(conflict(), at(1), CHANCE()), Action::End(Ending::Lost));
    }

    #[test]
    fn a_job_without_attempts_left_is_settled_behind_a_pause_unless_its_deadline_gives_it_up() {
        let policy = RetryPolicy { on_exhausted: OnExhausted::Pause, ..RetryPolicy::default() };
        let retry = Arc::new(policy);
        let last = AttemptCounts { attempts: retry.max_attempts.get() - 1, ..FIRST };
        let ends = |job_deadline| {
            let mut attempt = Attempt::new(last, at(TRUST)).with_deadline(job_deadline);
            attempt.on(
                Event::Admitted { retry: Arc::clone(&retry), deadline: at(DEADLINE) },
                at(0),
                CHANCE(),
            );
            attempt.on(gave_up(None), at(2), CHANCE())
        };
        let is_paused = |action| matches!(action, Action::PauseAndSettle(Settlement::Retry { .. }));
        assert!(is_paused(ends(None)) && is_paused(ends(Some(at(3)))));
        assert!(matches!(
            ends(Some(at(2))),
            Action::Settle(Settlement::Bury { reason: Reason::DeadlineExceeded, .. })
        ));
    }

    fn any_event() -> impl Strategy<Value = Event> {
        prop::sample::select(events().into_iter().map(|(_, event)| event).collect::<Vec<_>>())
    }

    proptest! {
        #[test]
        fn whatever_the_order_at_most_one_settlement_is_applied_and_none_is_sent_after_the_loss(
            script in prop::collection::vec((any_event(), 0..5u64), 0..60),
        ) {
            let mut attempt = Attempt::new(FIRST, at(TRUST));
            let (mut now, mut starts, mut endings, mut sent) = (0, 0, 0, 0);
            let mut lost = false;
            for (event, pause) in script {
                now += pause;
                let conflict = matches!(event, Event::Settled(SettleReply::Conflict { .. }));
                let action = attempt.on(event, at(now), CHANCE());
                match &action {
                    Action::Start => starts += 1,
                    Action::End(_) => endings += 1,
                    Action::Stop(StopReason::LeaseLost) => lost = true,
                    Action::Settle(_) | Action::PauseAndSettle(_) | Action::SettleAgain => {
                        prop_assert!(!lost && endings == 0, "settles after it was lost or has ended");
                        // Only a conflict, which changed nothing, allows a second settlement.
                        if matches!(action, Action::Settle(_) | Action::PauseAndSettle(_)) {
                            sent += 1;
                            prop_assert!(sent == 1 || conflict);
                        }
                    }
                    Action::Wait | Action::Stop(_) => {}
                }
                prop_assert!(starts <= 1 && endings <= 1 && sent <= 2);
            }
        }

        #[test]
        fn once_its_handler_was_told_of_a_shutdown_a_failure_that_may_go_away_is_never_counted(
            before in prop::collection::vec(any_event(), 0..30),
            after in prop::collection::vec(any_event(), 0..30),
            attempts in 0..9u32,
        ) {
            let mut attempt = Attempt::new(AttemptCounts { attempts, ..FIRST }, at(TRUST));
            let script = before.into_iter().chain([Event::Draining]).chain(after);
            let (mut told, mut runs) = (false, false);
            for event in script {
                let gives_up = event == gave_up(None);
                let is_told = event == Event::Draining;
                let action = attempt.on(event, at(1), CHANCE());
                runs |= action == Action::Start;
                told |= is_told && runs;
                if let (true, true, Action::Settle(settlement)) = (told, gives_up, action) {
                    let counts = matches!(settlement, Settlement::Retry { .. } | Settlement::Bury { .. });
                    prop_assert!(!counts, "{settlement:?}");
                }
            }
        }

        #[test]
        fn from_wherever_it_is_an_attempt_ends_once_its_trust_is_over(
            script in prop::collection::vec(any_event(), 0..30),
        ) {
            let mut attempt = Attempt::new(FIRST, at(TRUST));
            for event in script {
                attempt.on(event, at(1), CHANCE());
            }
            attempt.on(Event::Tick, at(TRUST), CHANCE());
            attempt.on(returned(), at(TRUST), CHANCE());
            prop_assert_eq!(attempt.wake_at(), None);
            prop_assert!(!attempt.wants_lease());
        }
    }
}
