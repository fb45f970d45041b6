//! Settling: from what the guest did to what the broker shall record.
//!
//! The party at fault decides: a failure of the guest consumes an attempt; one of the daemon releases the job at no cost; a
//! limit that the same input would hit again buries it at once, unless the operator chose to retry.

use std::time::Duration;

use crate::effects::Effects;
use crate::id::{FailureCode, LeaseNo};
use crate::outcome::{Limit, Outcome, StopReason};
use crate::reason::Reason;
use crate::retry::{Chance, Failed, NextTry, RetryPolicy};

/// Settlement of a job, for the broker to record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settlement {
    /// Success: the output and all effects are written in this very step.
    Succeed {
        /// Result of the handler, kept with the job.
        output: Vec<u8>,
        /// Effects that the run wants written.
        effects: Effects,
    },
    /// Retry: the attempt counts, and there is to be another.
    Retry {
        /// Time to wait before the job is ready again.
        after: Duration,
        /// Reason for the retry.
        reason: Reason,
        /// Full explanation, for people.
        message: String,
    },
    /// Release: the attempt doesn't count, and the job goes back unharmed.
    Release {
        /// Time to wait before the job is ready again.
        after: Duration,
        /// Reason for the release.
        reason: Reason,
    },
    /// Burial as a dead letter. The attempt counts.
    Bury {
        /// Reason why the job is given up.
        reason: Reason,
        /// Full explanation, for people.
        message: String,
    },
    /// Cancellation, as somebody had asked.
    Cancel,
}

impl Settlement {
    /// Whether a job that gets this settlement has started, and so doesn't expire any more. One that is released without having
    /// run (`has_run`) goes back as it came.
    #[must_use]
    pub fn is_start(&self, has_run: bool) -> bool {
        has_run || !matches!(self, Self::Release { .. })
    }

    /// The name in logs and metrics.
    #[must_use]
    pub fn slug(&self) -> &'static str {
        match self {
            Self::Succeed { .. } => "succeed",
            Self::Retry { .. } => "retry",
            Self::Release { .. } => "release",
            Self::Bury { .. } => "bury",
            Self::Cancel => "cancel",
        }
    }
}

/// Decision about a job whose run has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Settlement to be recorded.
    pub settlement: Settlement,
    /// Whether the jobs of its kind in its queue are paused first.
    pub pauses: bool,
}

impl From<Settlement> for Verdict {
    fn from(settlement: Settlement) -> Self {
        Self { settlement, pauses: false }
    }
}

/// Time that a job rests after the daemon itself failed on it.
pub const HOST_FAULT_REST: Duration = Duration::from_secs(5);

/// Maximum number of times that daemons may fail on a job; at the next fault it is given up. Whatever it does to daemons,
/// it does it every time.
pub const HOST_FAULTS_MAX: u32 = 100;

/// Minimum time for which a handler puts its job off; a shorter one is raised to it.
pub const PUT_OFF_MIN: Duration = Duration::from_secs(1);

/// Time that a job rests whose handler finds what it calls to be unavailable, and names no time.
pub const UNAVAILABLE_REST: Duration = Duration::from_secs(10);

/// Maximum number of leases of a job with which its handler may put it off. From then on that counts as a failure: no job runs
/// for ever at the cost of no attempt.
pub const PUT_OFF_LEASES_MAX: LeaseNo = LeaseNo(10_000);

/// Counts of how often a job has been tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttemptCounts {
    /// Number of the lease, whatever became of those before.
    pub lease: LeaseNo,
    /// Number of attempts that counted, before this one.
    pub attempts: u32,
    /// Number of times since an attempt last ended that a daemon failed on the job.
    pub faults: u32,
}

/// Returns the verdict on an outcome.
#[must_use]
pub fn settle(counts: AttemptCounts, outcome: Outcome, policy: &RetryPolicy, chance: Chance) -> Verdict {
    let fails = |reason, message| fail(counts, &Failed::of(reason), message, policy, chance);
    let settlement = match outcome {
        Outcome::Returned { output, effects } => Settlement::Succeed { output, effects },
        Outcome::FailedTransiently { message, code, retry_after } => {
            let failed = Failed { code: code.as_ref(), asked_for: retry_after, ..Failed::of(Reason::Failed) };
            return fail(counts, &failed, with_code(code.as_ref(), message), policy, chance);
        }
        Outcome::PutOff { .. } if counts.lease >= PUT_OFF_LEASES_MAX => {
            let message =
                format!("it was started {} times, so putting it off counts as a failure", counts.lease.0);
            return fails(Reason::Failed, message);
        }
        Outcome::PutOff { why, after } => Settlement::Release {
            after: after.min(policy.retry_after_max).max(PUT_OFF_MIN),
            reason: why.reason(),
        },
        Outcome::FailedPermanently { message } => {
            Settlement::Bury { reason: Reason::FailedPermanently, message }
        }
        Outcome::Trapped { message } => return fails(Reason::Trapped, message),
        Outcome::Exceeded { limit, message } => return fails(limit.reason(), message),
        Outcome::Aborted(StopReason::Deadline) => return fails(Reason::TimedOut, "timed out".to_owned()),
        Outcome::Aborted(StopReason::Cancelled) => Settlement::Cancel,
        Outcome::Aborted(StopReason::Drained | StopReason::LeaseLost) => {
            Settlement::Release { after: Duration::ZERO, reason: Reason::Drained }
        }
        Outcome::HostFault { .. } if counts.faults >= HOST_FAULTS_MAX => {
            let message = "the daemon failed on it every time; its log says how".to_owned();
            Settlement::Bury { reason: Reason::HostFault, message }
        }
        Outcome::HostFault { .. } => {
            Settlement::Release { after: HOST_FAULT_REST, reason: Reason::HostFault }
        }
    };
    settlement.into()
}

/// Returns the verdict on an attempt that failed: a retry, as long as the policy grants one.
fn fail(
    counts: AttemptCounts,
    failed: &Failed<'_>,
    message: String,
    policy: &RetryPolicy,
    chance: Chance,
) -> Verdict {
    let reason = failed.reason;
    match policy.next(failed, counts.attempts.saturating_add(1), chance) {
        NextTry::After(after) => Settlement::Retry { after, reason, message }.into(),
        NextTry::AfterPause => {
            let settlement = Settlement::Retry { after: Duration::ZERO, reason, message };
            Verdict { settlement, pauses: true }
        }
        NextTry::Never => Settlement::Bury { reason, message }.into(),
    }
}

/// Returns the message of a failure with its code before it.
fn with_code(code: Option<&FailureCode>, message: String) -> String {
    match code {
        Some(code) => format!("{code}: {message}"),
        None => message,
    }
}

/// Returns the verdict on the outcome of a run whose handler was told that the daemon shuts down. A failure that may go
/// away, or a timeout, may be how the handler ends early: the job goes back, and the attempt doesn't count.
#[must_use]
pub fn settle_draining(
    counts: AttemptCounts,
    outcome: Outcome,
    policy: &RetryPolicy,
    chance: Chance,
) -> Verdict {
    let release = |after| Verdict::from(Settlement::Release { after, reason: Reason::Drained });
    match outcome {
        Outcome::FailedTransiently { retry_after, .. } => {
            release(retry_after.unwrap_or_default().min(policy.retry_after_max))
        }
        Outcome::Exceeded { limit: Limit::Time, .. } | Outcome::Aborted(StopReason::Deadline) => {
            release(Duration::ZERO)
        }
        outcome => settle(counts, outcome, policy, chance),
    }
}

/// Returns the verdict to go by instead, when state that a run had compared was changed by another job before it could
/// settle.
#[must_use]
pub fn settle_conflict(counts: AttemptCounts, key: &str, policy: &RetryPolicy, chance: Chance) -> Verdict {
    let message = format!("state `{key}` was changed by another job before this one could settle");
    fail(counts, &Failed::of(Reason::StateConflict), message, policy, chance)
}

/// Returns the verdict to go by instead, when the run's jobs found no room in its tenant's queues. Room may come, so it
/// is tried again.
#[must_use]
pub fn settle_queue_full(
    counts: AttemptCounts,
    message: String,
    policy: &RetryPolicy,
    chance: Chance,
) -> Verdict {
    fail(counts, &Failed::of(Reason::QueueFull), message, policy, chance)
}

/// Returns the verdict to go by instead, when the plugin would keep more state than it may. Like other limits, the same
/// input would hit it again.
#[must_use]
pub fn settle_full(counts: AttemptCounts, message: String, policy: &RetryPolicy, chance: Chance) -> Verdict {
    fail(counts, &Failed::of(Reason::StateFull), message, policy, chance)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::PutOff;
    use crate::retry::{OnExhausted, OnLimit, RetryRule};

    fn settle(counts: AttemptCounts, outcome: Outcome, policy: &RetryPolicy, chance: Chance) -> Settlement {
        super::settle(counts, outcome, policy, chance).settlement
    }

    fn settle_draining(
        counts: AttemptCounts,
        outcome: Outcome,
        policy: &RetryPolicy,
        chance: Chance,
    ) -> Settlement {
        super::settle_draining(counts, outcome, policy, chance).settlement
    }

    fn transient() -> Outcome {
        Outcome::FailedTransiently { message: "no".into(), code: None, retry_after: None }
    }

    fn exceeded(limit: Limit) -> Outcome {
        Outcome::Exceeded { limit, message: "over".into() }
    }

    const CHANCE: fn() -> Chance = || Chance::from_bits(1 << 63);

    fn after(attempts: u32) -> AttemptCounts {
        AttemptCounts { lease: LeaseNo(1), attempts, faults: 0 }
    }

    #[test]
    fn a_job_that_the_daemon_fails_on_for_ever_is_given_up() {
        let fault = || Outcome::HostFault { message: "bug".into() };
        let counts = |faults| AttemptCounts { faults, ..after(0) };
        let policy = RetryPolicy::default();
        assert!(matches!(settle(counts(0), fault(), &policy, CHANCE()), Settlement::Release { .. }));
        assert!(matches!(
            settle(counts(HOST_FAULTS_MAX - 1), fault(), &policy, CHANCE()),
            Settlement::Release { .. }
        ));
        assert!(matches!(
            settle(counts(HOST_FAULTS_MAX), fault(), &policy, CHANCE()),
            Settlement::Bury { .. }
        ));
    }

    #[test]
    fn the_last_attempt_is_buried_with_its_own_reason() {
        let policy = RetryPolicy::default();
        assert!(matches!(
            settle(after(3), transient(), &policy, CHANCE()),
            Settlement::Retry { reason: Reason::Failed, .. }
        ));
        assert!(matches!(
            settle(after(4), transient(), &policy, CHANCE()),
            Settlement::Bury { reason: Reason::Failed, .. }
        ));
    }

    #[test]
    fn a_deterministic_limit_buries_at_once_unless_configured_otherwise() {
        let mut policy = RetryPolicy::default();
        let buried = Settlement::Bury { reason: Reason::OutOfFuel, message: "over".into() };
        assert_eq!(settle(after(0), exceeded(Limit::Fuel), &policy, CHANCE()), buried);
        policy.on_limit = OnLimit::Retry;
        assert!(matches!(
            settle(after(0), exceeded(Limit::Fuel), &policy, CHANCE()),
            Settlement::Retry { .. }
        ));
    }

    #[test]
    fn a_timeout_may_be_the_machines_mood_and_is_retried() {
        let settlement = settle(after(0), exceeded(Limit::Time), &RetryPolicy::default(), CHANCE());
        assert!(matches!(settlement, Settlement::Retry { reason: Reason::TimedOut, .. }));
    }

    #[test]
    fn what_is_not_the_guests_fault_costs_no_attempt() {
        for outcome in [Outcome::HostFault { message: "bug".into() }, Outcome::Aborted(StopReason::Drained)] {
            let settlement = settle(after(4), outcome, &RetryPolicy::default(), CHANCE());
            assert!(matches!(settlement, Settlement::Release { .. }), "{settlement:?}");
        }
    }

    #[test]
    fn the_handlers_own_wait_goes_before_the_backoff() {
        let wanted = Duration::from_secs(77);
        let outcome =
            Outcome::FailedTransiently { message: "later".into(), code: None, retry_after: Some(wanted) };
        let settlement = settle(after(0), outcome, &RetryPolicy::default(), CHANCE());
        assert!(matches!(settlement, Settlement::Retry { after, .. } if after == wanted));
    }

    #[test]
    fn no_handler_puts_its_job_off_for_longer_than_the_policy_allows() {
        let policy = RetryPolicy { retry_after_max: Duration::from_secs(60), ..RetryPolicy::default() };
        let outcome = |wait| Outcome::FailedTransiently {
            message: "later".into(),
            code: None,
            retry_after: Some(wait),
        };
        for (asked, granted) in [(59, 59), (60, 60), (61, 60), (u64::MAX, 60)]
            .map(|(asked, granted)| (Duration::from_secs(asked), Duration::from_secs(granted)))
        {
            let settlement = settle(after(0), outcome(asked), &policy, CHANCE());
            assert!(matches!(settlement, Settlement::Retry { after, .. } if after == granted));
            let settlement = settle_draining(after(0), outcome(asked), &policy, CHANCE());
            assert!(matches!(settlement, Settlement::Release { after, .. } if after == granted));
        }
    }

    #[test]
    fn a_job_that_is_put_off_keeps_its_attempts_until_it_was_started_too_often() {
        let policy = RetryPolicy { retry_after_max: Duration::from_secs(60), ..RetryPolicy::default() };
        let put_off = |wait| Outcome::PutOff { why: PutOff::RateLimited(None), after: wait };
        for (asked, granted) in [(0, 1), (1, 1), (59, 59), (61, 60)]
            .map(|(asked, granted)| (Duration::from_secs(asked), Duration::from_secs(granted)))
        {
            let released = Settlement::Release { after: granted, reason: Reason::RateLimited };
            assert_eq!(settle(after(4), put_off(asked), &policy, CHANCE()), released);
            assert_eq!(settle_draining(after(4), put_off(asked), &policy, CHANCE()), released);
        }
        let often = |attempts| AttemptCounts { lease: PUT_OFF_LEASES_MAX, ..after(attempts) };
        let settlement = settle(often(0), put_off(Duration::ZERO), &policy, CHANCE());
        assert!(matches!(settlement, Settlement::Retry { reason: Reason::Failed, .. }), "{settlement:?}");
        let settlement = settle(often(4), put_off(Duration::ZERO), &policy, CHANCE());
        assert!(matches!(settlement, Settlement::Bury { reason: Reason::Failed, .. }), "{settlement:?}");
    }

    #[test]
    fn a_failure_with_a_code_goes_by_the_rule_for_it_and_names_it() {
        let code = FailureCode::parse("smtp-550").expect("valid");
        let codes = [(code.clone(), RetryRule::Bury)].into();
        let policy = RetryPolicy { codes, ..RetryPolicy::default() };
        let outcome =
            Outcome::FailedTransiently { message: "no".into(), code: Some(code), retry_after: None };
        let buried = Settlement::Bury { reason: Reason::Failed, message: "smtp-550: no".into() };
        assert_eq!(settle(after(0), outcome, &policy, CHANCE()), buried);
    }

    #[test]
    fn a_job_without_attempts_left_waits_behind_a_pause_if_it_is_to() {
        let policy = RetryPolicy { on_exhausted: OnExhausted::Pause, ..RetryPolicy::default() };
        let retried =
            || Settlement::Retry { after: Duration::ZERO, reason: Reason::Failed, message: "no".into() };
        // It has one more attempt after each pause.
        for attempts in [4, 5, 100, u32::MAX] {
            let verdict = super::settle(after(attempts), transient(), &policy, CHANCE());
            assert_eq!(verdict, Verdict { settlement: retried(), pauses: true });
        }
        assert!(!super::settle(after(3), transient(), &policy, CHANCE()).pauses);
        // What another attempt can't help is given up all the same.
        for outcome in [Outcome::FailedPermanently { message: "no".into() }, exceeded(Limit::Fuel)] {
            let verdict = super::settle(after(4), outcome, &policy, CHANCE());
            assert!(matches!(verdict, Verdict { settlement: Settlement::Bury { .. }, pauses: false }));
        }
    }
}
