//! Trial of a canary by all daemons together: the counts of each, and the one decision for all.
//!
//! ```text
//! each daemon, every few seconds:      report what it has counted ──> the store ──> what the others have, and the decision
//! a daemon that finds one by the sums: report it as well          ──> the first one stays, and all follow it
//! ```
//!
//! A daemon reports all that it has counted since its trial began, not what was added since its last report, so a report
//! whose answer was lost can be repeated.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::canary::{Record, Verdict};
use crate::id::{DaemonId, PluginName, Revision};
use crate::text;
use crate::time::Timestamp;

/// Time for which a trial is kept after a daemon last reported to it. Daemons report every few seconds while one goes on.
pub const TRIAL_KEPT: Duration = Duration::from_secs(24 * 60 * 60);

/// Maximum number of daemons whose counts a trial keeps. A daemon that restarts counts as another one; those that come later
/// are told what the others have counted, and aren't counted themselves.
pub const TRIAL_DAEMONS_MAX: usize = 1000;

/// Pair of revisions of a plugin that a trial compares. A tenant has one trial of a pair at a time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pair {
    /// Name of the plugin.
    pub plugin: PluginName,
    /// Revision in force.
    pub old: Revision,
    /// Revision on trial.
    pub new: Revision,
}

/// Counts of the runs on both sides of a trial.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Records {
    /// Counts of the revision in force.
    pub old: Record,
    /// Counts of the revision on trial.
    pub new: Record,
}

impl Records {
    /// Length of the stored form, in bytes.
    pub const BYTES: usize = 2 * SIDE_BYTES;

    /// Adds two pairs of records, side by side. The sums saturate.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        Self { old: self.old.and(&other.old), new: self.new.and(&other.new) }
    }

    /// Encodes the records as they are stored: of the old side and then of the new one, runs and failures in 8 bytes each
    /// and fuel in 16, big-endian.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        for (side, record) in bytes.chunks_exact_mut(SIDE_BYTES).zip([self.old, self.new]) {
            side[..8].copy_from_slice(&record.runs.to_be_bytes());
            side[8..16].copy_from_slice(&record.failures.to_be_bytes());
            side[16..].copy_from_slice(&record.fuel.to_be_bytes());
        }
        bytes
    }

    /// Decodes what [`Self::to_bytes`] has made. `None` for anything else: another length, or more failures than runs.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (old, new) = bytes.split_at_checked(SIDE_BYTES)?;
        Some(Self { old: side_of(old)?, new: side_of(new)? })
    }
}

const SIDE_BYTES: usize = 32;

fn side_of(bytes: &[u8]) -> Option<Record> {
    let (runs, rest) = bytes.split_first_chunk()?;
    let (failures, fuel) = rest.split_first_chunk()?;
    let (runs, failures) = (u64::from_be_bytes(*runs), u64::from_be_bytes(*failures));
    let fuel = u128::from_be_bytes(fuel.try_into().ok()?);
    (failures <= runs).then_some(Record { runs, failures, fuel })
}

/// Decision that ends a trial.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// The new revision gets all jobs.
    Promote,
    /// The old revision gets all jobs back.
    RollBack {
        /// Reason: what is wrong with the new revision; one line of at most [`Decision::WHY_MAX`] bytes.
        why: String,
    },
}

impl Decision {
    /// Maximum length of the reason, in bytes.
    pub const WHY_MAX: usize = 500;

    const PROMOTE: &str = "promote";
    const ROLL_BACK: &str = "roll-back ";

    /// Returns the decision that a verdict comes to. `None` if it is undecided.
    #[must_use]
    pub fn of(verdict: Verdict) -> Option<Self> {
        match verdict {
            Verdict::Undecided => None,
            Verdict::Promote => Some(Self::Promote),
            Verdict::RollBack(fault) => Some(Self::roll_back(&fault.to_string())),
        }
    }

    fn roll_back(why: &str) -> Self {
        let why = text::line(why);
        Self::RollBack { why: why[..why.floor_char_boundary(Self::WHY_MAX)].to_owned() }
    }

    /// Formats the decision as it is stored.
    #[must_use]
    pub fn to_text(&self) -> String {
        match self {
            Self::Promote => Self::PROMOTE.to_owned(),
            Self::RollBack { why } => format!("{}{why}", Self::ROLL_BACK),
        }
    }

    /// Parses what [`Self::to_text`] has made. `None` if it is no decision.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            Self::PROMOTE => Some(Self::Promote),
            text => text.strip_prefix(Self::ROLL_BACK).map(Self::roll_back),
        }
    }
}

/// Report of a daemon on a trial.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrialReport {
    /// Daemon that reports.
    pub daemon: DaemonId,
    /// Trial that the report is about.
    pub pair: Pair,
    /// All that this daemon has counted since its trial began.
    pub counted: Records,
    /// Start of the latest trial of this pair whose end the daemon has seen, as the store told it. A stored trial that began
    /// no later is over: the report begins another, with a decision of its own. `None` if the daemon has seen none end.
    pub ended: Option<Timestamp>,
    /// Decision that the daemon has come to. `None` if it hasn't come to any.
    pub decision: Option<Decision>,
}

/// Status of a trial, as the store answers a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrialStatus {
    /// Time at which the trial began, by the store's clock.
    pub began: Timestamp,
    /// Age of the trial.
    pub age: Duration,
    /// Sum of what all other daemons have counted.
    pub others: Records,
    /// First decision that a daemon has reported, this one's own if that was first. `None` while there is none.
    pub decision: Option<Decision>,
}

/// Trial in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trial {
    /// Time at which the trial began.
    pub began: Timestamp,
    /// Time of the latest report.
    pub reported: Timestamp,
    /// First decision that was reported. `None` while there is none.
    pub decision: Option<Decision>,
    /// Counts of each daemon; at most [`TRIAL_DAEMONS_MAX`].
    pub counted: BTreeMap<DaemonId, Records>,
}

impl Trial {
    /// Whether the trial has expired: no daemon has reported to it for [`TRIAL_KEPT`].
    #[must_use]
    pub fn is_forgotten(&self, now: Timestamp) -> bool {
        now.since(self.reported) >= TRIAL_KEPT
    }

    /// Applies a report. Returns the trial as it is to be stored, and what the daemon is told.
    #[must_use]
    pub fn report(stored: Option<Self>, report: &TrialReport, now: Timestamp) -> (Self, TrialStatus) {
        let goes_on =
            |trial: &Self| !trial.is_forgotten(now) && report.ended.is_none_or(|ended| trial.began > ended);
        let mut trial = stored.filter(goes_on).unwrap_or_else(|| {
            // This is later than the trial before, even if the clock was put back; otherwise it would be over as well.
            let after_last = report.ended.map(|ended| ended.after(Duration::from_millis(1)));
            let began = after_last.map_or(now, |after_last| now.max(after_last));
            Self { began, reported: now, decision: None, counted: BTreeMap::new() }
        });
        trial.reported = now;
        if report.counted == Records::default() {
            trial.counted.remove(&report.daemon);
        } else if trial.counted.contains_key(&report.daemon) || trial.counted.len() < TRIAL_DAEMONS_MAX {
            trial.counted.insert(report.daemon, report.counted);
        }
        trial.decision = trial.decision.or_else(|| report.decision.clone());
        let status = TrialStatus {
            began: trial.began,
            age: now.since(trial.began),
            others: of_others(&trial.counted, report.daemon),
            decision: trial.decision.clone(),
        };
        (trial, status)
    }
}

/// Sums up what all daemons but one have counted.
fn of_others(counted: &BTreeMap<DaemonId, Records>, daemon: DaemonId) -> Records {
    let others = counted.iter().filter(|(other, _)| **other != daemon);
    others.fold(Records::default(), |sum, (_, counted)| sum.and(counted))
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use proptest::prelude::*;

    use super::*;
    use crate::canary::{Policy, Share, judge};

    const SECOND: Duration = Duration::from_secs(1);

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    fn daemon(nth: u128) -> DaemonId {
        DaemonId::from_parts(at(1), nth)
    }

    fn side(runs: u64, failures: u64) -> Record {
        Record { runs, failures, fuel: u128::from(runs - failures) * 1000 }
    }

    fn pair() -> Pair {
        let plugin = PluginName::parse("thumbnail").expect("a valid name");
        Pair { plugin, old: Revision::from_sha256([1; 32]), new: Revision::from_sha256([2; 32]) }
    }

    fn report(of: u128, old: Record, new: Record) -> TrialReport {
        TrialReport {
            daemon: daemon(of),
            pair: pair(),
            counted: Records { old, new },
            ended: None,
            decision: None,
        }
    }

    /// A trial that stands in a store.
    #[derive(Default)]
    struct Stored(Option<Trial>);

    impl Stored {
        fn take(&mut self, report: &TrialReport, now: Timestamp) -> TrialStatus {
            let (trial, status) = Trial::report(self.0.take(), report, now);
            self.0 = Some(trial);
            status
        }
    }

    fn policy(runs_min: u32) -> Policy {
        Policy {
            share: Share::new(0.5).expect("a part"),
            runs_min: NonZeroU32::new(runs_min).expect("not zero"),
            failures_extra: 0.05,
            fuel_ratio: 1.5,
            max_age: 60 * SECOND,
        }
    }

    #[test]
    fn the_sum_decides_what_no_daemon_knows_by_itself() {
        let (policy, mut stored) = (policy(20), Stored::default());
        let half = |of| report(of, side(10, 0), side(10, 10));
        let judged = |of: u128, status: &TrialStatus| {
            let all = half(of).counted.and(&status.others);
            Decision::of(judge(&policy, &all.old, &all.new, status.age))
        };
        let first = stored.take(&half(1), at(10));
        assert_eq!(judged(1, &first), None);
        let second = stored.take(&half(2), at(11));
        assert_eq!((second.age, second.others), (SECOND, half(1).counted));
        let decision = judged(2, &second);
        assert!(
            matches!(&decision, Some(Decision::RollBack { why }) if why.contains("100% of its runs fail")),
            "{decision:?}"
        );
        assert_eq!(
            stored.take(&TrialReport { decision: decision.clone(), ..half(2) }, at(12)).decision,
            decision
        );
        assert_eq!(stored.take(&half(1), at(13)).decision, decision, "the others follow");
    }

    #[test]
    fn the_first_decision_stays() {
        let mut stored = Stored::default();
        let promote = TrialReport { decision: Some(Decision::Promote), ..report(1, side(9, 0), side(9, 0)) };
        let roll_back = Decision::RollBack { why: "it fails".to_owned() };
        let roll_back = TrialReport { decision: Some(roll_back), ..report(2, side(9, 0), side(9, 9)) };
        assert_eq!(stored.take(&promote, at(1)).decision, Some(Decision::Promote));
        assert_eq!(stored.take(&roll_back, at(2)).decision, Some(Decision::Promote));
    }

    #[test]
    fn a_report_that_is_repeated_counts_once_and_a_daemon_is_not_told_its_own() {
        let mut stored = Stored::default();
        for runs in [3, 3, 5] {
            assert_eq!(stored.take(&report(1, side(runs, 0), side(1, 1)), at(1)).others, Records::default());
        }
        let seen = stored.take(&report(2, side(0, 0), side(0, 0)), at(2));
        assert_eq!(seen.others, Records { old: side(5, 0), new: side(1, 1) });
    }

    #[test]
    fn whoever_has_seen_the_end_of_a_trial_begins_another() {
        let mut stored = Stored::default();
        let decided = TrialReport { decision: Some(Decision::Promote), ..report(1, side(9, 0), side(9, 0)) };
        let began = stored.take(&decided, at(1)).began;
        let again = TrialReport { ended: Some(began), ..report(1, side(1, 0), side(0, 0)) };
        // Though the clock was put back meanwhile.
        let status = stored.take(&again, at(0));
        assert!(status.began > began);
        assert_eq!((status.decision, status.others), (None, Records::default()));
        // Who comes to it later, or says the same again, takes part in it.
        let other = TrialReport { ended: Some(began), ..report(2, side(2, 0), side(0, 0)) };
        assert_eq!(stored.take(&other, at(3)).others, again.counted);
        assert_eq!(stored.take(&again, at(4)).others, other.counted);
    }

    #[test]
    fn a_trial_is_forgotten_when_nobody_has_reported_for_long() {
        let mut stored = Stored::default();
        let decided = TrialReport { decision: Some(Decision::Promote), ..report(1, side(9, 0), side(9, 0)) };
        stored.take(&decided, at(1));
        let late = at(1).after(TRIAL_KEPT);
        let before = Timestamp::from_millis(late.as_millis() - 1);
        assert!(
            stored.0.as_ref().is_some_and(|trial| trial.is_forgotten(late) && !trial.is_forgotten(before))
        );
        let status = stored.take(&report(2, side(0, 0), side(0, 0)), late);
        assert_eq!((status.began, status.others, status.decision), (late, Records::default(), None));
    }

    #[test]
    fn no_more_daemons_are_kept_than_that_and_those_that_have_run_nothing_take_no_place() {
        let mut stored = Stored::default();
        for nth in 0..TRIAL_DAEMONS_MAX as u128 + 5 {
            stored.take(&report(2 * nth, side(0, 0), side(0, 0)), at(1));
            stored.take(&report(2 * nth + 1, side(1, 0), side(0, 0)), at(1));
        }
        let seen = stored.take(&report(0, side(0, 0), side(0, 0)), at(2));
        assert_eq!(seen.others.old.runs, TRIAL_DAEMONS_MAX as u64);
        // One that is in it goes on.
        stored.take(&report(1, side(3, 0), side(0, 0)), at(3));
        let seen = stored.take(&report(0, side(0, 0), side(0, 0)), at(4));
        assert_eq!(seen.others.old.runs, TRIAL_DAEMONS_MAX as u64 + 2);
    }

    #[test]
    fn a_decision_is_one_bounded_line_whatever_was_stored() {
        let long = format!("roll-back a\nb{}", "ü".repeat(1000));
        let Some(Decision::RollBack { why }) = Decision::parse(&long) else { panic!("it is one") };
        assert!(why.starts_with("a\\nbü") && why.len() <= Decision::WHY_MAX, "{why}");
        assert_eq!(Decision::parse("perhaps"), None);
        for decision in [Decision::Promote, Decision::RollBack { why: "50% of its runs fail".to_owned() }] {
            assert_eq!(Decision::parse(&decision.to_text()), Some(decision));
        }
    }

    fn records() -> impl Strategy<Value = Records> {
        let side = || {
            (any::<u64>(), any::<u64>(), any::<u128>()).prop_map(|(runs, failures, fuel)| Record {
                runs,
                failures: failures.min(runs),
                fuel,
            })
        };
        (side(), side()).prop_map(|(old, new)| Records { old, new })
    }

    proptest! {
        #[test]
        fn records_that_were_stored_are_read_again(records in records()) {
            prop_assert_eq!(Records::from_bytes(&records.to_bytes()), Some(records));
        }

        #[test]
        fn bytes_are_no_records_or_ones_that_can_be_judged(bytes: Vec<u8>, other in records()) {
            if let Some(read) = Records::from_bytes(&bytes) {
                let sum = read.and(&other);
                let _ = judge(&policy(5), &sum.old, &sum.new, Duration::ZERO);
            }
        }

        #[test]
        fn sums_of_any_size_can_be_judged(a in records(), b in records()) {
            let sum = a.and(&b);
            prop_assert!(sum.old.failures <= sum.old.runs && sum.new.failures <= sum.new.runs);
            let _ = judge(&policy(5), &sum.old, &sum.new, Duration::ZERO);
        }
    }
}
