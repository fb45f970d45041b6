//! The trials of canaries: daemons count together, and one decision holds for all.

use std::time::Duration;

use sandhog_core::canary::Record;
use sandhog_core::trial::{Decision, Pair, Records, TRIAL_DAEMONS_MAX, TRIAL_KEPT, TrialReport, TrialStatus};

use super::case::Case;
use super::script::{PLUGIN, daemon, plugin, revision, secs};

fn side(runs: u64, failures: u64) -> Record {
    Record { runs, failures, fuel: u128::from(runs - failures) << 80 }
}

/// The report of a daemon that has counted `runs` runs of the old revision, and as many of the new one that all failed.
fn report(of: u8, runs: u64) -> TrialReport {
    TrialReport {
        daemon: daemon(of),
        pair: Pair { plugin: plugin(PLUGIN), old: revision(1), new: revision(2) },
        counted: counted(runs),
        ended: None,
        decision: None,
    }
}

fn counted(runs: u64) -> Records {
    Records { old: side(runs, 0), new: side(runs, runs) }
}

fn deciding(report: TrialReport, decision: &Decision) -> TrialReport {
    TrialReport { decision: Some(decision.clone()), ..report }
}

fn roll_back() -> Decision {
    Decision::RollBack { why: "50% of its runs fail, and 2.1% of the old ones".to_owned() }
}

async fn say(case: &Case, report: &TrialReport) -> TrialStatus {
    case.broker.report_trial(&case.tenant, report).await.expect("a report succeeds")
}

/// The counts of all daemons are added up. Each daemon is told those of the others, and a repeated report counts once.
pub async fn what_all_daemons_count_adds_up(case: Case) {
    let began = case.now();
    let first = say(&case, &report(1, 3)).await;
    assert_eq!(first, TrialStatus { began, age: Duration::ZERO, others: Records::default(), decision: None });
    case.pass(secs(5));
    for _ in 0..2 {
        let second = say(&case, &report(2, 40)).await;
        assert_eq!(second, TrialStatus { began, age: secs(5), others: counted(3), decision: None });
    }
    assert_eq!(say(&case, &report(1, 7)).await.others, counted(40));
    let all = say(&case, &report(3, 0)).await;
    assert_eq!(all.others, counted(47), "one that has run nothing listens");
    assert_eq!(say(&case, &report(1, 7)).await.others, counted(40));
}

/// The first decision of a trial, by any daemon, holds for all of them.
pub async fn the_first_decision_of_a_trial_holds_for_all(case: Case) {
    assert_eq!(say(&case, &report(1, 3)).await.decision, None);
    assert_eq!(say(&case, &deciding(report(2, 3), &roll_back())).await.decision, Some(roll_back()));
    assert_eq!(say(&case, &deciding(report(1, 9), &Decision::Promote)).await.decision, Some(roll_back()));
    assert_eq!(say(&case, &report(3, 0)).await.decision, Some(roll_back()));
    let mut another = deciding(report(1, 9), &Decision::Promote);
    another.pair.new = revision(3);
    assert_eq!(say(&case, &another).await.decision, Some(Decision::Promote));
}

/// Each pair of revisions of a plugin of a tenant has a trial of its own.
pub async fn each_trial_is_by_itself(case: Case) {
    say(&case, &deciding(report(1, 3), &roll_back())).await;
    let pair = report(2, 1).pair;
    for pair in [
        Pair { plugin: plugin("report"), ..pair.clone() },
        Pair { old: revision(3), ..pair.clone() },
        Pair { new: revision(3), ..pair.clone() },
        Pair { old: pair.new, new: pair.old, ..pair.clone() },
    ] {
        let status = say(&case, &TrialReport { pair, ..report(2, 1) }).await;
        assert_eq!((status.others, status.decision), (Records::default(), None));
    }
    let status = say(&case.of_another_tenant(), &report(2, 1)).await;
    assert_eq!((status.others, status.decision), (Records::default(), None));
    assert_eq!(say(&case, &report(2, 1)).await.others, counted(3));
}

/// A daemon that has seen the end of a trial begins another, in which those that come later take part.
pub async fn whoever_saw_the_end_of_a_trial_begins_another(case: Case) {
    let before = say(&case, &deciding(report(1, 3), &roll_back())).await.began;
    let ended = Some(before);
    let again = TrialReport { ended, ..report(1, 1) };
    let status = say(&case, &again).await;
    assert!(status.began > before, "also within the same millisecond");
    assert_eq!((status.age, status.others, status.decision), (Duration::ZERO, Records::default(), None));
    case.pass(secs(1));
    let other = say(&case, &TrialReport { ended, ..report(2, 4) }).await;
    assert_eq!((other.began, other.others, other.decision), (status.began, counted(1), None));
    assert_eq!(say(&case, &again).await.others, counted(4));
}

/// A trial is forgotten once no daemon has reported for [`TRIAL_KEPT`], whether or not it is swept.
pub async fn a_trial_is_forgotten_once_nobody_has_reported_for_long(case: Case) {
    say(&case, &deciding(report(1, 3), &roll_back())).await;
    case.pass(TRIAL_KEPT - secs(1));
    case.sweep().await;
    assert_eq!(say(&case, &report(2, 1)).await.decision, Some(roll_back()));
    case.pass(TRIAL_KEPT - secs(1));
    case.sweep().await;
    assert_eq!(say(&case, &report(1, 3)).await.others, counted(1), "a report keeps it");
    case.pass(TRIAL_KEPT);
    let status = say(&case, &report(2, 1)).await;
    let anew =
        TrialStatus { began: case.now(), age: Duration::ZERO, others: Records::default(), decision: None };
    assert_eq!(status, anew);
    case.pass(TRIAL_KEPT);
    case.sweep().await;
    assert_eq!(say(&case, &report(3, 0)).await.others, Records::default());
}

/// A purge removes the tenant's trials.
pub async fn trials_are_purged(case: Case) {
    say(&case, &deciding(report(1, 3), &roll_back())).await;
    assert_eq!(case.broker.purge(&case.tenant, 10).await.expect("a purge succeeds"), 0);
    let known = case.broker.tenants().await.expect("a look succeeds");
    assert!(!known.contains(&case.tenant));
    let status = say(&case, &report(2, 1)).await;
    assert_eq!((status.others, status.decision), (Records::default(), None));
}

/// A trial counts at most [`TRIAL_DAEMONS_MAX`] daemons. Further ones are told the counts of these, and aren't counted
/// themselves.
pub async fn no_more_daemons_are_counted_in_a_trial_than_that(case: Case) {
    let nth = |nth: usize| {
        let started = sandhog_core::time::Timestamp::from_millis(1);
        sandhog_core::id::DaemonId::from_parts(started, 1000 + nth as u128)
    };
    for n in 0..=TRIAL_DAEMONS_MAX {
        say(&case, &TrialReport { daemon: nth(n), ..report(1, 1) }).await;
    }
    assert_eq!(say(&case, &report(1, 0)).await.others, counted(TRIAL_DAEMONS_MAX as u64));
    say(&case, &TrialReport { daemon: nth(0), ..report(1, 5) }).await;
    assert_eq!(say(&case, &report(1, 0)).await.others, counted(TRIAL_DAEMONS_MAX as u64 + 4));
}
