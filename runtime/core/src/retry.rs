//! Retries: whether a job whose attempt failed is tried again, and after which wait.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use crate::id::FailureCode;
use crate::outcome::Limit;
use crate::reason::Reason;

/// Spread of waits at random, so that jobs which failed together don't come back together. See
/// <https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/>.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Jitter {
    /// No spread: every wait as computed.
    None,
    /// Half of the computed wait, and a random part of the other half.
    Equal,
    /// Random wait from zero to the computed one.
    Full,
    /// Random wait from the base to three times the wait before it, at most the maximum. How waits grow has no part in it.
    ///
    /// The earlier waits of a job are drawn anew for each of its waits, as nobody stores them: each wait has the distribution that
    /// this rule gives it, and doesn't depend on how long the job has in fact waited before.
    Decorrelated,
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

    /// Returns an endless row of numbers that follow from this one, each as random as it is.
    fn row(self) -> impl Iterator<Item = Self> {
        // SplitMix64: https://doi.org/10.1145/2660193.2660195
        let mut state = self.0.to_bits();
        std::iter::from_fn(move || {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            Some(Self::from_bits(mixed ^ (mixed >> 31)))
        })
    }
}

/// Growth of the waits from failure to failure.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Growth {
    /// Each wait is as long as the first.
    Fixed,
    /// Each wait is longer than the one before by the first.
    Linear,
    /// Each wait is longer than the one before by this factor.
    Exponential {
        /// Factor by which it is longer; at least 1.
        factor: f64,
    },
}

/// Backoff: the waits between attempts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Backoff {
    /// Wait after the first failure.
    pub base: Duration,
    /// Growth of the waits.
    pub growth: Growth,
    /// Maximum wait.
    pub max: Duration,
    /// Spread of the waits at random.
    pub jitter: Jitter,
}

/// Maximum number of waits in a row that [`Jitter::Decorrelated`] draws for one wait: those of a later failure are as long.
const ROW_MAX: u32 = 1000;

impl Backoff {
    /// Returns the wait after this many failures (1 is the first).
    #[must_use]
    pub fn wait(&self, failures: u32, chance: Chance) -> Duration {
        match self.jitter {
            Jitter::None => self.computed(failures),
            Jitter::Equal => self.computed(failures).mul_f64(0.5 + chance.0 / 2.0),
            Jitter::Full => self.computed(failures).mul_f64(chance.0),
            Jitter::Decorrelated => {
                let base = self.base.min(self.max);
                let drawn = chance.row().take(failures.clamp(1, ROW_MAX) as usize);
                drawn.fold(base, |before, chance| {
                    let spread = before.saturating_mul(3).saturating_sub(base);
                    base.saturating_add(spread.mul_f64(chance.0)).min(self.max)
                })
            }
        }
    }

    /// Returns the wait after this many failures, before it is spread.
    fn computed(&self, failures: u32) -> Duration {
        let wait = match self.growth {
            Growth::Fixed => self.base,
            Growth::Linear => self.base.saturating_mul(failures.max(1)),
            Growth::Exponential { factor } => {
                let exponent = i32::try_from(failures.saturating_sub(1)).unwrap_or(i32::MAX);
                let seconds = self.base.as_secs_f64() * factor.powi(exponent);
                // A product past the range of Duration is past `max` as well.
                Duration::try_from_secs_f64(seconds).unwrap_or(self.max)
            }
        };
        wait.min(self.max)
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            base: Duration::from_secs(2),
            growth: Growth::Exponential { factor: 2.0 },
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

/// Treatment of a job whose attempts are used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnExhausted {
    /// Bury it.
    #[default]
    Bury,
    /// Pause the jobs of its kind in its queue, and have it wait with them. It has one more attempt each time that they go on.
    Pause,
}

/// Next step after an attempt that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NextTry {
    /// Another attempt, after this wait.
    After(Duration),
    /// Another attempt once somebody lets the jobs of its kind in its queue go on, which are paused.
    AfterPause,
    /// None: the job is given up.
    Never,
}

/// Treatment of a job whose attempt has failed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum RetryRule {
    /// Bury it at once.
    Bury,
    /// Try it again.
    Retry {
        /// Maximum number of attempts in all, whatever the earlier ones failed of.
        max_attempts: NonZeroU32,
        /// Waits between attempts.
        backoff: Backoff,
    },
}

/// Facts about an attempt that failed, by which a policy says what becomes of its job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failed<'f> {
    /// Reason why it failed.
    pub reason: Reason,
    /// Code that its handler named; `None` if it named none.
    pub code: Option<&'f FailureCode>,
    /// Wait that its handler asked for; `None` if it asked for none.
    pub asked_for: Option<Duration>,
}

impl Failed<'_> {
    /// Creates the facts about an attempt of whose failure its handler said nothing.
    #[must_use]
    pub fn of(reason: Reason) -> Self {
        Self { reason, code: None, asked_for: None }
    }
}

/// Policy of when a job is tried again, and when it is given up.
#[derive(Debug, Clone, PartialEq)]
pub struct RetryPolicy {
    /// Maximum number of attempts in all.
    pub max_attempts: NonZeroU32,
    /// Waits between attempts.
    pub backoff: Backoff,
    /// Maximum wait that a handler may ask for; a longer one is cut to it.
    pub retry_after_max: Duration,
    /// Treatment of jobs that fail for a reason for which [`is_deterministic`] holds.
    pub on_limit: OnLimit,
    /// Treatment of jobs whose attempts are used up. Those that a rule buries at once, or whose handler says so, are buried all the same.
    pub on_exhausted: OnExhausted,
    /// Treatment of jobs by the reason why their attempt failed; it goes before all of the above but `retry_after_max`.
    pub rules: BTreeMap<Reason, RetryRule>,
    /// Treatment of jobs by the code of their handler's failure; it goes before `rules`.
    pub codes: BTreeMap<FailureCode, RetryRule>,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            max_attempts: const { NonZeroU32::new(5).expect("not zero") },
            backoff: Backoff::default(),
            retry_after_max: Duration::from_secs(24 * 60 * 60),
            on_limit: OnLimit::Bury,
            on_exhausted: OnExhausted::Bury,
            rules: BTreeMap::new(),
            codes: BTreeMap::new(),
        }
    }
}

impl RetryPolicy {
    /// Returns the treatment of a job whose attempt failed for this reason, and with this code if its handler named one.
    #[must_use]
    pub fn rule(&self, reason: Reason, code: Option<&FailureCode>) -> RetryRule {
        match code.and_then(|code| self.codes.get(code)).or_else(|| self.rules.get(&reason)) {
            Some(rule) => *rule,
            None if self.on_limit == OnLimit::Bury && is_deterministic(reason) => RetryRule::Bury,
            None => RetryRule::Retry { max_attempts: self.max_attempts, backoff: self.backoff },
        }
    }

    /// Returns what comes after the latest attempt of a job, which failed. `failures` counts that attempt and those before it.
    #[must_use]
    pub fn next(&self, failed: &Failed<'_>, failures: u32, chance: Chance) -> NextTry {
        let Failed { reason, code, asked_for } = *failed;
        match self.rule(reason, code) {
            RetryRule::Retry { max_attempts, backoff } if failures < max_attempts.get() => {
                let asked_for = asked_for.map(|wait| wait.min(self.retry_after_max));
                NextTry::After(asked_for.unwrap_or_else(|| backoff.wait(failures, chance)))
            }
            RetryRule::Retry { .. } if self.on_exhausted == OnExhausted::Pause => NextTry::AfterPause,
            RetryRule::Retry { .. } | RetryRule::Bury => NextTry::Never,
        }
    }

    /// Returns the maximum number of attempts in all, whatever they fail of.
    #[must_use]
    pub fn attempts_most(&self) -> NonZeroU32 {
        let by_rule = self.rules.values().chain(self.codes.values()).filter_map(|rule| match rule {
            RetryRule::Bury => None,
            RetryRule::Retry { max_attempts, .. } => Some(*max_attempts),
        });
        by_rule.fold(self.max_attempts, NonZeroU32::max)
    }
}

/// Whether an attempt may fail for this reason and another one be made: the reasons that a rule can be about.
#[must_use]
pub fn is_retriable(reason: Reason) -> bool {
    // The handler said of a permanent failure that another attempt can't help. All others end no attempt, or not by its fault.
    let by_guest =
        [Reason::Failed, Reason::Trapped, Reason::StateConflict, Reason::StateFull, Reason::QueueFull];
    by_guest.contains(&reason) || Limit::ALL.iter().any(|limit| limit.reason() == reason)
}

/// Whether the same code on the same input would fail for this reason again.
#[must_use]
pub fn is_deterministic(reason: Reason) -> bool {
    reason == Reason::StateFull
        || Limit::ALL.iter().any(|limit| limit.reason() == reason && limit.is_deterministic())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use proptest::sample::select;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    fn growths() -> impl Strategy<Value = Growth> {
        prop_oneof![
            Just(Growth::Fixed),
            Just(Growth::Linear),
            (1.0..10.0f64).prop_map(|factor| Growth::Exponential { factor }),
        ]
    }

    fn backoffs(jitter: Jitter) -> impl Strategy<Value = Backoff> {
        (1..10_000u64, growths(), 1..1_000_000u64).prop_map(move |(base, growth, longer)| Backoff {
            base: ms(base),
            growth,
            max: ms(base + longer),
            jitter,
        })
    }

    fn failures() -> impl Strategy<Value = u32> {
        prop_oneof![1..50u32, 1..=u32::MAX]
    }

    fn chances() -> impl Strategy<Value = Chance> {
        any::<u64>().prop_map(Chance::from_bits)
    }

    proptest! {
        #[test]
        fn waits_never_shrink_and_stay_within_base_and_maximum(
            backoff in backoffs(Jitter::None), failures in failures(), chance in chances(),
        ) {
            let wait = backoff.wait(failures, chance);
            prop_assert!(backoff.base <= wait && wait <= backoff.max);
            prop_assert!(backoff.wait(failures.saturating_add(1), chance) >= wait);
            prop_assert_eq!(backoff.wait(1, chance), backoff.base);
        }

        #[test]
        fn fixed_waits_are_the_first_and_linear_ones_so_many_times_it(
            backoff in backoffs(Jitter::None), failures in failures(), chance in chances(),
        ) {
            let fixed = Backoff { growth: Growth::Fixed, ..backoff };
            prop_assert_eq!(fixed.wait(failures, chance), backoff.base);
            let linear = Backoff { growth: Growth::Linear, ..backoff };
            prop_assert_eq!(
                linear.wait(failures, chance), backoff.base.saturating_mul(failures).min(backoff.max)
            );
        }

        #[test]
        fn each_jitter_keeps_to_its_part_of_the_wait(
            backoff in backoffs(Jitter::None), failures in failures(), chance in chances(),
        ) {
            let whole = backoff.wait(failures, chance);
            let full = Backoff { jitter: Jitter::Full, ..backoff }.wait(failures, chance);
            prop_assert!(full <= whole);
            let equal = Backoff { jitter: Jitter::Equal, ..backoff }.wait(failures, chance);
            prop_assert!(whole / 2 <= equal + Duration::from_nanos(1) && equal <= whole);
        }

        #[test]
        fn a_decorrelated_wait_lies_between_the_base_and_three_times_the_longest_before_it(
            backoff in backoffs(Jitter::Decorrelated), failures in failures(), chance in chances(),
        ) {
            let wait = backoff.wait(failures, chance);
            let longest = backoff.base.as_secs_f64() * 3f64.powi(i32::try_from(failures.min(1000)).expect("small"));
            prop_assert!(backoff.base <= wait && wait <= backoff.max);
            prop_assert!(wait.as_secs_f64() <= longest + 1e-6, "{:?} after {} failures", wait, failures);
        }

        #[test]
        fn a_job_is_tried_as_often_as_the_rule_of_its_failure_says_and_never_more_often_than_the_largest(
            most in 1..10u32, by_rule in 1..10u32, failures in 1..20u32, reason in select(Reason::ALL),
            chance in chances(),
        ) {
            let [most, by_rule] = [most, by_rule].map(|n| NonZeroU32::new(n).expect("not zero"));
            let rule = RetryRule::Retry { max_attempts: by_rule, backoff: Backoff::default() };
            let rules = BTreeMap::from([(Reason::TimedOut, rule), (Reason::Trapped, RetryRule::Bury)]);
            let policy = RetryPolicy { max_attempts: most, rules, ..RetryPolicy::default() };
            let next = policy.next(&Failed::of(reason), failures, chance);
            let is_tried = matches!(next, NextTry::After(_));
            let expected = match reason {
                Reason::TimedOut => failures < by_rule.get(),
                Reason::Trapped => false,
                reason => failures < most.get() && !is_deterministic(reason),
            };
            prop_assert_eq!(is_tried, expected);
            prop_assert!(!is_tried || failures < policy.attempts_most().get());
        }

        #[test]
        fn chance_stays_below_one(bits: u64) {
            for Chance(value) in Chance::from_bits(bits).row().take(9).chain([Chance::from_bits(bits)]) {
                prop_assert!((0.0..1.0).contains(&value));
            }
        }
    }

    /// The mean wait after so many failures, in units of the base, over evenly spread chances.
    fn mean(jitter: Jitter, failures: u32) -> f64 {
        const DRAWN: u64 = 20_000;
        let backoff = Backoff { base: ms(1000), growth: Growth::Fixed, max: ms(10_000_000), jitter };
        let waits = (0..DRAWN)
            .map(|nth| backoff.wait(failures, Chance::from_bits(nth * (u64::MAX / DRAWN))).as_secs_f64());
        waits.sum::<f64>() / DRAWN as f64
    }

    #[test]
    fn waits_are_on_average_as_long_as_their_rules_say() {
        let is_about = |found: f64, expected: f64| (found / expected - 1.0).abs() < 0.03;
        assert!(is_about(mean(Jitter::Full, 1), 0.5) && is_about(mean(Jitter::Equal, 1), 0.75));
        // The mean after n failures is half of the base, and half of three times the mean before.
        let mut expected = 1.0;
        for failures in 1..5 {
            expected = (1.0 + 3.0 * expected) / 2.0;
            let found = mean(Jitter::Decorrelated, failures);
            assert!(is_about(found, expected), "after {failures}: {found} instead of {expected}");
        }
    }

    #[test]
    fn a_rule_for_a_limit_goes_before_what_is_said_of_all_limits() {
        let backoff = Backoff::default();
        let patient =
            RetryRule::Retry { max_attempts: const { NonZeroU32::new(9).expect("not zero") }, backoff };
        let rules = BTreeMap::from([(Reason::OutOfFuel, patient), (Reason::OutOfMemory, RetryRule::Bury)]);
        let policy = |on_limit| RetryPolicy { on_limit, rules: rules.clone(), ..RetryPolicy::default() };
        for on_limit in [OnLimit::Bury, OnLimit::Retry] {
            assert_eq!(policy(on_limit).rule(Reason::OutOfFuel, None), patient);
            assert_eq!(policy(on_limit).rule(Reason::OutOfMemory, None), RetryRule::Bury);
        }
        assert_eq!(policy(OnLimit::Bury).rule(Reason::StackOverflow, None), RetryRule::Bury);
        assert_ne!(policy(OnLimit::Retry).rule(Reason::StackOverflow, None), RetryRule::Bury);
    }

    #[test]
    fn a_rule_for_a_code_goes_before_that_for_its_reason_and_says_nothing_of_other_codes() {
        let code = |text: &str| FailureCode::parse(text).expect("valid");
        let patient = RetryRule::Retry {
            max_attempts: const { NonZeroU32::new(50).expect("not zero") },
            backoff: Backoff::default(),
        };
        let policy = RetryPolicy {
            rules: BTreeMap::from([(Reason::Failed, RetryRule::Bury)]),
            codes: BTreeMap::from([(code("busy"), patient)]),
            ..RetryPolicy::default()
        };
        assert_eq!(policy.rule(Reason::Failed, Some(&code("busy"))), patient);
        assert_eq!(policy.rule(Reason::Failed, Some(&code("gone"))), RetryRule::Bury);
        assert_eq!(policy.rule(Reason::Failed, None), RetryRule::Bury);
        assert_eq!(policy.attempts_most().get(), 50);
    }

    #[test]
    fn what_is_deterministic_or_ran_into_a_limit_can_have_a_rule() {
        for limit in Limit::ALL {
            assert!(is_retriable(limit.reason()), "{}", limit.reason());
        }
        assert!(Reason::ALL.iter().all(|reason| !is_deterministic(*reason) || is_retriable(*reason)));
    }
}
