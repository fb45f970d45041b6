//! Settling: from what the guest did to what the broker shall record.
//!
//! The party at fault decides: a failure of the guest consumes an attempt; one of the daemon releases the job at no cost; a
//! limit that the same input would hit again buries it at once, unless the operator chose to retry.

use std::num::NonZeroU32;
use std::time::Duration;

use crate::effects::Effects;
use crate::outcome::{Limit, Outcome, StopReason};
use crate::reason::Reason;

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

/// Whether waits are spread at random.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Jitter {
    /// No spread: every wait as computed.
    None,
    /// Random wait from zero to the computed one, so that jobs which failed together don't come back together. See
    /// <https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/>.
    Full,
}

/// Random number from 0 (included) to 1 (excluded), drawn by the caller.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Chance(f64);

impl Chance {
    /// Maps 64 random bits to the range.
    #[must_use]
    pub fn from_bits(bits: u64) -> Self {
        // 53 bits are what an f64 holds exactly, so the quotient never rounds up to 1.
        Self((bits >> 11) as f64 / (1u64 << 53) as f64)
    }

    /// Returns the number itself.
    #[must_use]
    pub fn as_f64(self) -> f64 {
        self.0
    }
}

/// Exponential backoff: the waits between attempts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Backoff {
    /// Wait after the first failure.
    pub base: Duration,
    /// Factor by which each wait is longer than the one before; at least 1.
    pub factor: f64,
    /// Maximum wait.
    pub max: Duration,
    /// Whether waits are spread at random.
    pub jitter: Jitter,
}

impl Backoff {
    /// Returns the wait after this many failures (1 is the first).
    #[must_use]
    pub fn wait(&self, failures: u32, chance: Chance) -> Duration {
        let exponent = i32::try_from(failures.saturating_sub(1)).unwrap_or(i32::MAX);
        let seconds = self.base.as_secs_f64() * self.factor.powi(exponent);
        // A product past the range of Duration is past `max` as well.
        let wait = Duration::try_from_secs_f64(seconds).unwrap_or(self.max).min(self.max);
        match self.jitter {
            Jitter::None => wait,
            Jitter::Full => wait.mul_f64(chance.0),
        }
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            base: Duration::from_secs(2),
            factor: 2.0,
            max: Duration::from_secs(600),
            jitter: Jitter::Full,
        }
    }
}

/// Treatment of a job that hit a limit which the same input would hit again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnLimit {
    /// Bury it at once.
    #[default]
    Bury,
    /// Retry it like any failure.
    Retry,
}

/// Policy of when a job is tried again, and when it is given up.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RetryPolicy {
    /// Maximum number of attempts in all.
    pub max_attempts: NonZeroU32,
    /// Waits between attempts.
    pub backoff: Backoff,
    /// Maximum wait that a handler may ask for; a longer one is cut to it.
    pub retry_after_max: Duration,
    /// Treatment of jobs that hit a limit for which [`Limit::is_deterministic`] holds.
    pub on_limit: OnLimit,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            max_attempts: const { NonZeroU32::new(5).expect("not zero") },
            backoff: Backoff::default(),
            retry_after_max: Duration::from_secs(24 * 60 * 60),
            on_limit: OnLimit::Bury,
        }
    }
}

/// Time that a job rests after the daemon itself failed on it.
pub const HOST_FAULT_REST: Duration = Duration::from_secs(5);

/// Maximum number of times that daemons may fail on a job; at the next fault it is given up. Whatever it does to daemons,
/// it does it every time.
pub const HOST_FAULTS_MAX: u32 = 100;

/// Counts of how often a job has been tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttemptCounts {
    /// Number of attempts that counted, before this one.
    pub attempts: u32,
    /// Number of times since an attempt last ended that a daemon failed on the job.
    pub faults: u32,
}

/// Returns the settlement for an outcome.
#[must_use]
pub fn settle(counts: AttemptCounts, outcome: Outcome, policy: &RetryPolicy, chance: Chance) -> Settlement {
    let failures = counts.attempts.saturating_add(1);
    let retry = |after: Option<Duration>, reason, message| {
        if failures >= policy.max_attempts.get() {
            return Settlement::Bury { reason, message };
        }
        let asked_for = after.map(|after: Duration| after.min(policy.retry_after_max));
        let after = asked_for.unwrap_or_else(|| policy.backoff.wait(failures, chance));
        Settlement::Retry { after, reason, message }
    };
    match outcome {
        Outcome::Returned { output, effects } => Settlement::Succeed { output, effects },
        Outcome::FailedTransiently { message, retry_after } => retry(retry_after, Reason::Failed, message),
        Outcome::FailedPermanently { message } => {
            Settlement::Bury { reason: Reason::FailedPermanently, message }
        }
        Outcome::Trapped { message } => retry(None, Reason::Trapped, message),
        Outcome::Exceeded { limit, message } if buries(limit, policy) => {
            Settlement::Bury { reason: limit.reason(), message }
        }
        Outcome::Exceeded { limit, message } => retry(None, limit.reason(), message),
        Outcome::Aborted(StopReason::Deadline) => retry(None, Reason::TimedOut, "timed out".to_owned()),
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
    }
}

/// Returns the settlement for the outcome of a run whose handler was told that the daemon shuts down. A failure that may go
/// away, or a timeout, may be how the handler ends early: the job goes back, and the attempt doesn't count.
#[must_use]
pub fn settle_draining(
    counts: AttemptCounts,
    outcome: Outcome,
    policy: &RetryPolicy,
    chance: Chance,
) -> Settlement {
    let release = |after| Settlement::Release { after, reason: Reason::Drained };
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

fn buries(limit: Limit, policy: &RetryPolicy) -> bool {
    limit.is_deterministic() && policy.on_limit == OnLimit::Bury
}

/// Returns the settlement to record instead, when state that a run had compared was changed by another job before it could
/// settle.
#[must_use]
pub fn settle_conflict(counts: AttemptCounts, key: &str, policy: &RetryPolicy, chance: Chance) -> Settlement {
    let message = format!("state `{key}` was changed by another job before this one could settle");
    let failures = counts.attempts.saturating_add(1);
    if failures >= policy.max_attempts.get() {
        return Settlement::Bury { reason: Reason::StateConflict, message };
    }
    Settlement::Retry { after: policy.backoff.wait(failures, chance), reason: Reason::StateConflict, message }
}

/// Returns the settlement to record instead, when the run's jobs found no room in its tenant's queues. Room may come, so it
/// is tried again.
#[must_use]
pub fn settle_queue_full(
    counts: AttemptCounts,
    message: String,
    policy: &RetryPolicy,
    chance: Chance,
) -> Settlement {
    let failures = counts.attempts.saturating_add(1);
    if failures >= policy.max_attempts.get() {
        return Settlement::Bury { reason: Reason::QueueFull, message };
    }
    Settlement::Retry { after: policy.backoff.wait(failures, chance), reason: Reason::QueueFull, message }
}

/// Returns the settlement to record instead, when the plugin would keep more state than it may. Like other limits, the same
/// input would hit it again.
#[must_use]
pub fn settle_full(
    counts: AttemptCounts,
    message: String,
    policy: &RetryPolicy,
    chance: Chance,
) -> Settlement {
    let failures = counts.attempts.saturating_add(1);
    if policy.on_limit == OnLimit::Bury || failures >= policy.max_attempts.get() {
        return Settlement::Bury { reason: Reason::StateFull, message };
    }
    Settlement::Retry { after: policy.backoff.wait(failures, chance), reason: Reason::StateFull, message }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn transient() -> Outcome {
        Outcome::FailedTransiently { message: "no".into(), retry_after: None }
    }

    fn exceeded(limit: Limit) -> Outcome {
        Outcome::Exceeded { limit, message: "over".into() }
    }

    const CHANCE: Chance = Chance(0.5);

    fn after(attempts: u32) -> AttemptCounts {
        AttemptCounts { attempts, faults: 0 }
    }

    #[test]
    fn a_job_that_the_daemon_fails_on_for_ever_is_given_up() {
        let fault = || Outcome::HostFault { message: "bug".into() };
        let counts = |faults| AttemptCounts { attempts: 0, faults };
        let policy = RetryPolicy::default();
        assert!(matches!(settle(counts(0), fault(), &policy, CHANCE), Settlement::Release { .. }));
        assert!(matches!(
            settle(counts(HOST_FAULTS_MAX - 1), fault(), &policy, CHANCE),
            Settlement::Release { .. }
        ));
        assert!(matches!(settle(counts(HOST_FAULTS_MAX), fault(), &policy, CHANCE), Settlement::Bury { .. }));
    }

    #[test]
    fn the_last_attempt_is_buried_with_its_own_reason() {
        let policy = RetryPolicy::default();
        assert!(matches!(
            settle(after(3), transient(), &policy, CHANCE),
            Settlement::Retry { reason: Reason::Failed, .. }
        ));
        assert!(matches!(
            settle(after(4), transient(), &policy, CHANCE),
            Settlement::Bury { reason: Reason::Failed, .. }
        ));
    }

    #[test]
    fn a_deterministic_limit_buries_at_once_unless_configured_otherwise() {
        let mut policy = RetryPolicy::default();
        let buried = Settlement::Bury { reason: Reason::OutOfFuel, message: "over".into() };
        assert_eq!(settle(after(0), exceeded(Limit::Fuel), &policy, CHANCE), buried);
        policy.on_limit = OnLimit::Retry;
        assert!(matches!(settle(after(0), exceeded(Limit::Fuel), &policy, CHANCE), Settlement::Retry { .. }));
    }

    #[test]
    fn a_timeout_may_be_the_machines_mood_and_is_retried() {
        let settlement = settle(after(0), exceeded(Limit::Time), &RetryPolicy::default(), CHANCE);
        assert!(matches!(settlement, Settlement::Retry { reason: Reason::TimedOut, .. }));
    }

    #[test]
    fn what_is_not_the_guests_fault_costs_no_attempt() {
        for outcome in [Outcome::HostFault { message: "bug".into() }, Outcome::Aborted(StopReason::Drained)] {
            let settlement = settle(after(4), outcome, &RetryPolicy::default(), CHANCE);
            assert!(matches!(settlement, Settlement::Release { .. }), "{settlement:?}");
        }
    }

    #[test]
    fn the_handlers_own_wait_goes_before_the_backoff() {
        let wanted = Duration::from_secs(77);
        let outcome = Outcome::FailedTransiently { message: "later".into(), retry_after: Some(wanted) };
        let settlement = settle(after(0), outcome, &RetryPolicy::default(), CHANCE);
        assert!(matches!(settlement, Settlement::Retry { after, .. } if after == wanted));
    }

    #[test]
    fn no_handler_puts_its_job_off_for_longer_than_the_policy_allows() {
        let policy = RetryPolicy { retry_after_max: Duration::from_secs(60), ..RetryPolicy::default() };
        let outcome = |wait| Outcome::FailedTransiently { message: "later".into(), retry_after: Some(wait) };
        for (asked, granted) in [(59, 59), (60, 60), (61, 60), (u64::MAX, 60)]
            .map(|(asked, granted)| (Duration::from_secs(asked), Duration::from_secs(granted)))
        {
            let settlement = settle(after(0), outcome(asked), &policy, CHANCE);
            assert!(matches!(settlement, Settlement::Retry { after, .. } if after == granted));
            let settlement = settle_draining(after(0), outcome(asked), &policy, CHANCE);
            assert!(matches!(settlement, Settlement::Release { after, .. } if after == granted));
        }
    }

    proptest! {
        #[test]
        fn waits_grow_and_stay_within_bounds(
            base in 1..10_000u64, factor in 1.0..10.0f64, max in 1..1_000_000u64, failures in 1..u32::MAX, bits: u64,
        ) {
            let (base, max) = (Duration::from_millis(base), Duration::from_millis(max));
            let backoff = Backoff { base, factor, max, jitter: Jitter::None };
            let wait = backoff.wait(failures, Chance::from_bits(bits));
            prop_assert!(wait <= max && wait >= base.min(max));
            prop_assert!(backoff.wait(failures.saturating_add(1), CHANCE) >= wait);
            let spread = Backoff { jitter: Jitter::Full, ..backoff }.wait(failures, Chance::from_bits(bits));
            prop_assert!(spread <= wait);
        }

        #[test]
        fn chance_stays_below_one(bits: u64) {
            let Chance(value) = Chance::from_bits(bits);
            prop_assert!((0.0..1.0).contains(&value));
        }
    }
}
