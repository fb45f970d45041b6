//! Canary analysis: compares a new revision of a plugin with the old one by running both for a while.
//!
//! A share of the jobs has its first attempt on the new revision; which ones is decided by their ids, so a job that comes
//! back unharmed runs on the same side. Both sides are counted; once each has run often enough, the new one is promoted or
//! rolled back. One that fails so often that the old one hardly can, however little that has run, is rolled back as well, and
//! so is one of which too little is known when its time is over.

use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

use crate::budget::Fuel;
use crate::id::{JobId, Revision};
use crate::outcome::{Outcome, StopReason};

/// Share of a whole, above 0 and below 1.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Share(f64);

impl Share {
    /// Creates the share. `None` unless `part` is above 0 and below 1.
    #[must_use]
    pub fn new(part: f64) -> Option<Self> {
        (part > 0.0 && part < 1.0).then_some(Self(part))
    }

    /// Returns the share as a fraction, above 0 and below 1.
    #[must_use]
    pub fn part(self) -> f64 {
        self.0
    }
}

/// Shows the share in percent.
impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", percent(self.0))
    }
}

/// Rules of a canary: the share of jobs that it gets, and when it is promoted or rolled back.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Policy {
    /// Share of jobs that the new revision gets until it is decided.
    pub share: Share,
    /// Minimum number of runs on either side before anything is decided.
    pub runs_min: NonZeroU32,
    /// Maximum by which the new revision's failure rate (failed runs of all, 0 to 1) may exceed the old one's.
    pub failures_extra: f64,
    /// Maximum ratio of the mean fuel of the new revision's successful runs to that of the old one's.
    pub fuel_ratio: f64,
    /// Maximum time until both sides have run often enough.
    pub max_age: Duration,
}

/// One side of the comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// The revision that was in force before.
    Old,
    /// The revision on trial.
    New,
}

/// Counts of the runs on one side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Record {
    /// Number of runs whose end counts: those that were stopped from outside or put off, and faults of the host, are left out.
    pub runs: u64,
    /// Number of these runs that failed.
    pub failures: u64,
    /// Total fuel of the runs that succeeded.
    pub fuel: u128,
}

impl Record {
    /// Counts a run, unless its end says nothing about the code: it was stopped from outside or put off, or the host went wrong.
    pub fn count(&mut self, outcome: &Outcome, fuel: Fuel) {
        let failed = match outcome {
            Outcome::Returned { .. } => false,
            Outcome::FailedTransiently { .. }
            | Outcome::FailedPermanently { .. }
            | Outcome::Trapped { .. }
            | Outcome::Exceeded { .. }
            | Outcome::Aborted(StopReason::Deadline) => true,
            Outcome::Aborted(StopReason::Cancelled | StopReason::Drained | StopReason::LeaseLost)
            | Outcome::PutOff { .. }
            | Outcome::HostFault { .. } => return,
        };
        self.runs += 1;
        if failed {
            self.failures += 1;
        } else {
            self.fuel += u128::from(fuel.0);
        }
    }

    /// Adds two records. The sums saturate.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        Self {
            runs: self.runs.saturating_add(other.runs),
            failures: self.failures.saturating_add(other.failures),
            fuel: self.fuel.saturating_add(other.fuel),
        }
    }

    /// Returns the failure rate: failed runs of all, 0 to 1; 0 if there are none.
    #[must_use]
    pub fn failure_rate(&self) -> f64 {
        if self.runs == 0 { 0.0 } else { self.failures as f64 / self.runs as f64 }
    }

    /// Returns bounds of the true failure rate, 0 to 1, by Wilson's score interval of two standard deviations; 0 and 1 if
    /// there are no runs. See <https://doi.org/10.1080/01621459.1927.10502953>.
    #[must_use]
    pub fn failure_rate_bounds(&self) -> (f64, f64) {
        if self.runs == 0 {
            return (0.0, 1.0);
        }
        let (runs, rate) = (self.runs as f64, self.failure_rate());
        let square = DEVIATIONS * DEVIATIONS;
        let middle = rate + square / (2.0 * runs);
        let spread = DEVIATIONS * (rate * (1.0 - rate) / runs + square / (4.0 * runs * runs)).sqrt();
        let whole = 1.0 + square / runs;
        ((middle - spread) / whole, (middle + spread) / whole)
    }

    /// Returns the mean fuel of the runs that succeeded. `None` if none has.
    #[must_use]
    pub fn fuel_mean(&self) -> Option<f64> {
        let succeeded = self.runs - self.failures;
        (succeeded > 0).then(|| self.fuel as f64 / succeeded as f64)
    }
}

/// Half-width of the interval in standard deviations: the true rate is outside in one case of 20.
const DEVIATIONS: f64 = 2.0;

/// Verdict on the new revision.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Verdict {
    /// Too little is known: the trial goes on.
    Undecided,
    /// The new revision gets all jobs.
    Promote,
    /// The old revision gets all jobs back.
    RollBack(Fault),
}

/// Reason why a new revision is rolled back.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Fault {
    /// The new revision fails more often than it may.
    Failures {
        /// Failure rate of the old revision, 0 to 1.
        old: f64,
        /// Failure rate of the new revision, 0 to 1.
        new: f64,
    },
    /// The new revision takes more fuel than it may.
    Fuel {
        /// Mean fuel of the old revision's successful runs.
        old: f64,
        /// Mean fuel of the new revision's successful runs.
        new: f64,
    },
    /// The time was over before both sides had run often enough.
    TooLong {
        /// Number of runs of the old revision.
        old: u64,
        /// Number of runs of the new revision.
        new: u64,
        /// Number of runs that are needed on either side.
        needed: u32,
    },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong { old, new, needed } => write!(
                f,
                "its time is over after {new} runs of it and {old} of the old one, where {needed} of each are needed; \
                 lower canary.runs_min or raise canary.max_age"
            ),
            Self::Failures { old, new } => {
                write!(f, "{}% of its runs fail, and {}% of the old ones", percent(*new), percent(*old))
            }
            Self::Fuel { old, new } => {
                write!(f, "its runs take {new:.0} units of fuel on average, and the old ones {old:.0}")
            }
        }
    }
}

/// Converts a fraction to percent, rounded to a tenth.
fn percent(part: f64) -> f64 {
    (part * 1000.0).round() / 10.0
}

/// Judges a trial of this age by the records of both sides. The new revision is rolled back early where no further run could
/// make good what has failed; or where its failure rate is too high whatever the old one's turns out to be, though the old
/// one hasn't run often enough.
#[must_use]
pub fn judge(policy: &Policy, old: &Record, new: &Record, age: Duration) -> Verdict {
    let needed = u64::from(policy.runs_min.get());
    let (rate_old, rate_new) = (old.failure_rate(), new.failure_rate());
    let fails_too_often = if old.runs < needed {
        // Whatever the old revision's rate turns out to be, the new one's is higher by more than is allowed.
        let (at_most, at_least) = (old.failure_rate_bounds().1, new.failure_rate_bounds().0);
        new.runs >= needed && at_least > at_most + policy.failures_extra
    } else {
        // The new revision's rate at best, when it has run often enough.
        new.failures as f64 > (rate_old + policy.failures_extra) * new.runs.max(needed) as f64
    };
    if fails_too_often {
        return Verdict::RollBack(Fault::Failures { old: rate_old, new: rate_new });
    }
    if old.runs < needed || new.runs < needed {
        let too_long = Fault::TooLong { old: old.runs, new: new.runs, needed: policy.runs_min.get() };
        return if age < policy.max_age { Verdict::Undecided } else { Verdict::RollBack(too_long) };
    }
    match (old.fuel_mean(), new.fuel_mean()) {
        (Some(old), Some(new)) if new > old * policy.fuel_ratio => {
            Verdict::RollBack(Fault::Fuel { old, new })
        }
        _ => Verdict::Promote,
    }
}

/// Returns the side on which a job's first attempt runs as long as `trial` is on trial. The same job always gets the same
/// side.
#[must_use]
pub fn side(job: JobId, trial: Revision, share: Share) -> Side {
    let digest = trial.as_sha256();
    let salt = digest[..8].iter().fold(0, |salt, byte| salt << 8 | u64::from(*byte));
    let id = job.as_u128();
    let drawn = mix(mix(id as u64 ^ salt) ^ (id >> 64) as u64);
    // An f64 holds 53 bits exactly.
    let drawn = (drawn >> 11) as f64 / (1u64 << 53) as f64;
    if drawn < share.0 { Side::New } else { Side::Old }
}

/// Finalizer of `SplitMix64`: each bit of the input changes each of the output with even chance. See
/// <https://doi.org/10.1145/2714064.2660195>.
fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::effects::Effects;
    use crate::time::Timestamp;
    use proptest::prelude::*;

    fn policy(runs_min: u32) -> Policy {
        Policy {
            share: Share::new(0.1).expect("a part"),
            runs_min: NonZeroU32::new(runs_min).expect("not zero"),
            failures_extra: 0.05,
            fuel_ratio: 1.5,
            max_age: Duration::from_secs(60),
        }
    }

    /// Judges a trial whose time isn't over.
    fn judge(policy: &Policy, old: &Record, new: &Record) -> Verdict {
        super::judge(policy, old, new, Duration::ZERO)
    }

    fn record(runs: u64, failures: u64, fuel_mean: u64) -> Record {
        let failures = failures.min(runs);
        Record { runs, failures, fuel: u128::from(fuel_mean) * u128::from(runs - failures) }
    }

    fn records() -> impl Strategy<Value = Record> {
        (0..500u64, 0..500u64, 0..1u64 << 40).prop_map(|(runs, failures, fuel)| record(runs, failures, fuel))
    }

    fn returned() -> Outcome {
        Outcome::Returned { output: Vec::new(), effects: Effects::default() }
    }

    #[test]
    fn one_that_does_as_well_is_promoted_and_one_that_does_worse_is_rolled_back() {
        let (policy, old) = (policy(100), record(1000, 20, 5000));
        assert_eq!(judge(&policy, &old, &record(100, 2, 5100)), Verdict::Promote);
        assert_eq!(judge(&policy, &old, &record(100, 7, 7400)), Verdict::Promote);
        let fails = judge(&policy, &old, &record(100, 8, 5000));
        assert_eq!(fails, Verdict::RollBack(Fault::Failures { old: 0.02, new: 0.08 }));
        let burns = judge(&policy, &old, &record(100, 0, 7600));
        assert_eq!(burns, Verdict::RollBack(Fault::Fuel { old: 5000.0, new: 7600.0 }));
        assert_eq!(judge(&policy, &old, &record(99, 2, 5000)), Verdict::Undecided);
    }

    #[test]
    fn one_that_fails_more_often_than_the_old_one_can_is_rolled_back_though_that_has_hardly_run() {
        let policy = policy(100);
        let always = record(100, 100, 0);
        let fails = Verdict::RollBack(Fault::Failures { old: 0.0, new: 1.0 });
        assert_eq!(judge(&policy, &record(1, 0, 5000), &always), fails);
        assert_eq!(judge(&policy, &record(99, 0, 5000), &always), fails);
        // It may be that the old one fails as often.
        assert_eq!(judge(&policy, &record(1, 1, 5000), &always), Verdict::Undecided);
        assert_eq!(judge(&policy, &record(20, 0, 5000), &record(100, 20, 0)), Verdict::Undecided);
        assert_eq!(judge(&policy, &Record::default(), &always), Verdict::Undecided);
    }

    #[test]
    fn a_trial_in_which_too_little_runs_has_an_end() {
        let (policy, at_its_end) = (policy(100), Duration::from_secs(60));
        let (old, new) = (record(99, 0, 5000), record(7, 0, 5000));
        assert_eq!(judge(&policy, &old, &new), Verdict::Undecided);
        let over = super::judge(&policy, &old, &new, at_its_end);
        assert_eq!(over, Verdict::RollBack(Fault::TooLong { old: 99, new: 7, needed: 100 }));
        assert!(
            matches!(over, Verdict::RollBack(fault) if fault.to_string().contains("raise canary.max_age"))
        );
        assert_eq!(
            super::judge(&policy, &record(100, 0, 1), &record(100, 0, 1), at_its_end),
            Verdict::Promote
        );
    }

    #[test]
    fn the_true_rate_lies_between_the_bounds_and_more_runs_bring_them_together() {
        let (least, most) = record(100, 50, 0).failure_rate_bounds();
        assert!(least < 0.5 && most > 0.5 && most - least < 0.31, "{least} {most}");
        let (least, most) = record(10_000, 5000, 0).failure_rate_bounds();
        assert!(least < 0.5 && most > 0.5 && most - least < 0.031, "{least} {most}");
    }

    #[test]
    fn one_that_only_fails_is_rolled_back_before_it_has_run_often() {
        let verdict = judge(&policy(100), &record(1000, 0, 1), &record(6, 6, 0));
        assert_eq!(verdict, Verdict::RollBack(Fault::Failures { old: 0.0, new: 1.0 }));
    }

    #[test]
    fn what_says_nothing_about_the_code_is_not_counted() {
        let mut record = Record::default();
        for reason in [StopReason::Cancelled, StopReason::Drained, StopReason::LeaseLost] {
            record.count(&Outcome::Aborted(reason), Fuel(7));
        }
        record.count(&Outcome::HostFault { message: String::new() }, Fuel(7));
        assert_eq!(record, Record::default());
        record.count(&Outcome::Aborted(StopReason::Deadline), Fuel(7));
        record.count(&Outcome::Trapped { message: String::new() }, Fuel(7));
        record.count(&returned(), Fuel(7));
        assert_eq!(record, Record { runs: 3, failures: 2, fuel: 7 });
    }

    #[test]
    fn the_text_of_a_fault_has_both_sides() {
        let text = Fault::Failures { old: 0.021, new: 0.5 }.to_string();
        assert_eq!(text, "50% of its runs fail, and 2.1% of the old ones");
        assert_eq!(Share::new(0.125).expect("a part").to_string(), "12.5%");
        assert!([0.0, 1.0, -0.1, f64::NAN].into_iter().all(|part| Share::new(part).is_none()));
    }

    proptest! {
        #[test]
        fn a_copy_of_the_old_one_is_promoted(old in records(), runs_min in 1..500u32) {
            let verdict = judge(&policy(runs_min), &old, &old);
            let enough = old.runs >= u64::from(runs_min);
            prop_assert_eq!(verdict, if enough { Verdict::Promote } else { Verdict::Undecided });
        }

        #[test]
        fn one_more_failure_never_saves_it(old in records(), new in records(), runs_min in 1..500u32) {
            let policy = policy(runs_min);
            let mut worse = new;
            worse.count(&Outcome::Trapped { message: String::new() }, Fuel(0));
            match (judge(&policy, &old, &new), judge(&policy, &old, &worse)) {
                (Verdict::RollBack(Fault::Failures { .. }), after) => {
                    prop_assert!(matches!(after, Verdict::RollBack(_)), "{:?}", after);
                }
                (Verdict::RollBack(Fault::Fuel { .. }), after) => {
                    prop_assert!(matches!(after, Verdict::RollBack(_)), "{:?}", after);
                }
                _ => {}
            }
        }

        #[test]
        fn more_fuel_never_saves_it(old in records(), new in records(), more: u32, runs_min in 1..500u32) {
            let policy = policy(runs_min);
            let hungrier = Record { fuel: new.fuel + u128::from(more), ..new };
            if let Verdict::RollBack(_) = judge(&policy, &old, &new) {
                let verdict = judge(&policy, &old, &hungrier);
                prop_assert!(matches!(verdict, Verdict::RollBack(_)));
            }
        }

        #[test]
        fn enough_runs_on_both_sides_decide(old in records(), new in records()) {
            let decided = judge(&policy(1), &old, &new) != Verdict::Undecided;
            // With one run to be had, an early end takes a failure more than it.
            prop_assert_eq!(decided, old.runs >= 1 && new.runs >= 1);
        }

        #[test]
        fn a_larger_share_keeps_the_jobs_that_it_had(random: u128, digest: [u8; 32], a in 0.01..0.99f64, b in 0.01..0.99f64) {
            let job = JobId::from_parts(Timestamp::from_millis(5), random);
            let (less, more) = (Share::new(a.min(b)).expect("a part"), Share::new(a.max(b)).expect("a part"));
            let trial = Revision::from_sha256(digest);
            prop_assert!(side(job, trial, less) == Side::Old || side(job, trial, more) == Side::New);
        }

        #[test]
        fn about_so_many_jobs_go_to_the_new_one(seed: u128, digest: [u8; 32], part in 0.05..0.95f64) {
            let (trial, share) = (Revision::from_sha256(digest), Share::new(part).expect("a part"));
            // Ids that differ in little, as those made at the same time by a poor source of chance would.
            let jobs = (0..4000).map(|n| JobId::from_parts(Timestamp::from_millis(n / 50), seed.wrapping_add(n.into())));
            let new = jobs.filter(|job| side(*job, trial, share) == Side::New).count();
            // Six standard deviations.
            let (mean, spread) = (4000.0 * part, 6.0 * (4000.0 * part * (1.0 - part)).sqrt());
            prop_assert!((new as f64 - mean).abs() < spread, "{} of {}", new, mean);
        }
    }
}
