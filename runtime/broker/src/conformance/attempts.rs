//! Rules of the history: how the attempts of a job ended.

use sandhog_core::history::{ATTEMPT_MESSAGE_MAX, ATTEMPTS_KEPT, AttemptRecord};
use sandhog_core::id::LeaseNo;
use sandhog_core::outcome::Usage;
use sandhog_core::reason::Reason;
use sandhog_core::settle::Settlement;

use super::case::{Case, TTL};
use super::script::{PLUGIN, bury, daemon, ms, ran, release, retry, revision, secs, settle, succeed, usage};
use crate::{Changed, Settle};

/// The history has one entry for each end of an attempt, in order, with daemon, revision, usage and times. Attempts are
/// numbered as in the job's log.
pub async fn each_end_of_an_attempt_is_kept_in_order(case: Case) {
    let token = case.leased_job().await;
    let first_leased = case.now();
    case.pass(ms(700));
    case.settle_with(Settle { ran: Some(ran(PLUGIN, usage(5))), ..settle(token, retry(secs(0))) }).await;
    let first_ended = case.now();
    let second = case.lease_one().await;
    case.pass(ms(30));
    let mut on_another = ran(PLUGIN, usage(2));
    (on_another.daemon, on_another.revision) = (daemon(2), revision(2));
    case.settle_with(Settle { ran: Some(on_another), ..settle(second, release(secs(0))) }).await;
    let second_ended = case.now();
    let third = case.lease_one().await;
    case.applied(third, succeed()).await;
    let first = AttemptRecord {
        attempt: 1,
        lease: LeaseNo(1),
        reason: Some(Reason::Failed),
        message: Some("no luck".to_owned()),
        leased_at: first_leased,
        ended_at: first_ended,
        daemon: Some(daemon(1)),
        revision: Some(revision(1)),
        usage: usage(5),
    };
    let released = AttemptRecord {
        attempt: 2,
        lease: LeaseNo(2),
        reason: Some(Reason::Drained),
        message: None,
        leased_at: first_ended,
        ended_at: second_ended,
        daemon: Some(daemon(2)),
        revision: Some(revision(2)),
        usage: usage(2),
    };
    let succeeded = AttemptRecord {
        attempt: 2,
        lease: LeaseNo(3),
        reason: None,
        message: None,
        leased_at: second_ended,
        ended_at: second_ended,
        daemon: Some(daemon(1)),
        revision: Some(revision(1)),
        usage: usage(1),
    };
    let record = case.record(token.job).await;
    assert_eq!(record.history, [first, released, succeeded]);
    assert_eq!(record.ended_attempts(), record.history);
}

/// A job that succeeds at the first attempt stores no history: its record has all that the entry would say.
pub async fn a_success_at_once_is_told_by_the_job_itself(case: Case) {
    let token = case.leased_job().await;
    assert_eq!(case.record(token.job).await.ended_attempts(), [], "it is under way");
    case.applied(token, succeed()).await;
    let record = case.record(token.job).await;
    assert_eq!(record.history, []);
    let [only] = &record.ended_attempts()[..] else { panic!("one attempt: {record:?}") };
    assert_eq!((only.attempt, only.reason, only.usage), (1, None, usage(1)));
    assert_eq!(Some(only.ended_at), record.finished_at);
}

/// A lease that is taken back ends an attempt, with the times of lease and end, and with nothing for daemon, revision and
/// usage.
pub async fn a_lease_that_was_taken_back_is_an_attempt_that_ended(case: Case) {
    let token = case.leased_job().await;
    let leased_at = case.now();
    case.pass(TTL);
    case.sweep().await;
    let lost = AttemptRecord {
        attempt: 1,
        lease: LeaseNo(1),
        reason: Some(Reason::LeaseExpired),
        message: None,
        leased_at,
        ended_at: case.now(),
        daemon: None,
        revision: None,
        usage: Usage::default(),
    };
    assert_eq!(case.record(token.job).await.history, [lost]);
}

/// A settlement without a run adds nothing to the history, where it would push out real attempts.
pub async fn what_did_not_run_is_no_attempt(case: Case) {
    let token = case.leased_job().await;
    case.settle_with(Settle { ran: None, ..settle(token, release(secs(0))) }).await;
    let token = case.lease_one().await;
    case.settle_with(Settle { ran: None, ..settle(token, bury()) }).await;
    assert_eq!(case.record(token.job).await.ended_attempts(), []);
}

/// The history keeps the latest [`ATTEMPTS_KEPT`] attempts; older ones are removed.
pub async fn no_more_attempts_are_kept_than_that(case: Case) {
    let mut token = case.leased_job().await;
    let kept = ATTEMPTS_KEPT as u32;
    for _ in 0..kept + 2 {
        case.applied(token, retry(secs(0))).await;
        token = case.lease_one().await;
    }
    let history = case.record(token.job).await.history;
    let numbers: Vec<u32> = history.iter().map(|attempt| attempt.attempt).collect();
    assert_eq!(numbers, (3..kept + 3).collect::<Vec<_>>());
}

/// A message in the history is cut to at most [`ATTEMPT_MESSAGE_MAX`] bytes, between two characters. The job's own message is
/// kept in full.
pub async fn of_a_long_message_the_beginning_is_kept(case: Case) {
    let token = case.leased_job().await;
    let message = format!("{}ü{}", "x".repeat(ATTEMPT_MESSAGE_MAX - 1), "y".repeat(1000));
    case.applied(token, Settlement::Bury { reason: Reason::Trapped, message: message.clone() }).await;
    let record = case.record(token.job).await;
    assert_eq!(record.message, Some(message));
    let kept = record.history.first().and_then(|attempt| attempt.message.clone());
    assert_eq!(kept, Some("x".repeat(ATTEMPT_MESSAGE_MAX - 1)));
}

/// A redrive keeps the attempts before it in the history, so that it can be seen why the job was redriven.
pub async fn a_redrive_leaves_what_was_before_it(case: Case) {
    let token = case.leased_job().await;
    case.applied(token, bury()).await;
    let redriven = case.broker.redrive(&case.tenant, token.job).await.expect("a redrive succeeds");
    assert_eq!(redriven, Changed::Done);
    let token = case.lease_one().await;
    case.applied(token, bury()).await;
    let history = case.record(token.job).await.history;
    let ends: Vec<_> =
        history.iter().map(|attempt| (attempt.attempt, attempt.lease, attempt.reason)).collect();
    let fuel = Some(Reason::OutOfFuel);
    assert_eq!(ends, [(1, LeaseNo(1), fuel), (1, LeaseNo(2), fuel)]);
}
