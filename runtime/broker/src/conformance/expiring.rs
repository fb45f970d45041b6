//! Rules of jobs that have to start within a time, or to be over by a deadline.

use std::time::Duration;

use sandhog_core::job::{JobOptions, NewJob, State};
use sandhog_core::reason::Reason;

use super::case::{Case, TTL};
use super::script::{ms, queue, release, retry, secs, settle, succeed, unique};
use crate::{Counts, Enqueued, SWEEP_MAX, Settle};

fn within(job: NewJob, start_within: Duration) -> NewJob {
    NewJob { options: JobOptions { start_within: Some(start_within), ..JobOptions::default() }, ..job }
}

/// A job that hasn't started within its time is cancelled by a sweep, to the millisecond, even if nobody asks for leases.
pub async fn a_job_that_has_not_started_in_time_is_cancelled(case: Case) {
    let id = case.enqueue(within(case.new_job(), secs(5))).await;
    case.pass(ms(4_999));
    case.sweep().await;
    assert_eq!(case.state_of(id).await, State::Ready, "to its last millisecond");
    case.pass(ms(1));
    case.sweep().await;
    let record = case.record(id).await;
    assert_eq!((record.state, record.reason), (State::Cancelled, Some(Reason::Expired)));
    assert_eq!((record.finished_at, record.leased_at), (Some(case.now()), None));
}

/// A job that is too late to start is never leased, even if nobody has swept.
pub async fn it_is_handed_to_nobody_once_its_time_is_over(case: Case) {
    let late = case.enqueue(within(case.new_job(), secs(5))).await;
    let other = case.enqueue(case.new_job()).await;
    case.pass(secs(5));
    let leased = case.lease_as(case.asking(&[(queue(), 9)])).await;
    assert_eq!(leased.leases.iter().map(|lease| lease.job.id).collect::<Vec<_>>(), [other]);
    assert_eq!(case.record(late).await.reason, Some(Reason::Expired));
}

/// A scheduled job expires too, even if it isn't due yet.
pub async fn a_scheduled_job_expires_too(case: Case) {
    let id = case.enqueue(within(NewJob { delay: secs(60), ..case.new_job() }, secs(5))).await;
    case.pass(secs(5));
    case.sweep().await;
    assert_eq!(case.record(id).await.reason, Some(Reason::Expired));
    assert_eq!(case.counts().await, Counts::of(&[(State::Cancelled, 1)]));
}

/// A job that has started once does not expire, while it runs, while it waits for another try, or after its lease ran out.
pub async fn a_job_that_has_started_does_not_expire(case: Case) {
    for _ in 0..3 {
        case.enqueue(within(case.new_job(), secs(60))).await;
    }
    let leases = case.lease(3).await;
    let [retried, released, _lost] = [0, 1, 2].map(|nth: usize| leases[nth].token);
    case.applied(retried, retry(secs(100))).await;
    case.applied(released, release(secs(100))).await;
    case.pass(TTL);
    case.sweep().await;
    case.pass(secs(60));
    case.sweep().await;
    assert_eq!(case.counts().await, Counts::of(&[(State::Scheduled, 2), (State::Ready, 1)]));
    let late = case.enqueue(within(case.new_job(), secs(5))).await;
    let suspect_and_late = case.lease(2).await;
    assert_eq!(suspect_and_late.len(), 2);
    case.pass(secs(5));
    case.sweep().await;
    assert_eq!(case.state_of(late).await, State::Leased, "it has started in time");
    case.applied(suspect_and_late[1].token, succeed()).await;
}

/// A job that was leased but never ran hasn't started, and so still expires.
pub async fn a_job_that_was_given_back_without_a_run_expires(case: Case) {
    let id = case.enqueue(within(case.new_job(), secs(5))).await;
    let token = case.lease_one().await;
    case.settle_with(Settle { ran: None, ..settle(token, release(secs(0))) }).await;
    case.pass(secs(5));
    case.sweep().await;
    assert_eq!(case.record(id).await.reason, Some(Reason::Expired));
}

/// A job that expires frees its unique key, and its room in the queue.
pub async fn a_job_that_expires_frees_its_unique_key_and_its_room(case: Case) {
    let asked = |job| NewJob { unique_key: unique("nightly"), ..job };
    let first = within(asked(case.new_job()), secs(5));
    case.enqueue(first.clone()).await;
    let second = asked(case.new_job());
    assert_eq!(case.enqueue_all(std::slice::from_ref(&second)).await, [Enqueued::Duplicate(first.id)]);
    case.pass(secs(5));
    case.sweep().await;
    case.enqueue(second).await;
    assert_eq!(case.lease(2).await.len(), 1);
}

/// The next time to look at the queue includes that at which a job expires, so that it ends in time.
pub async fn the_next_look_is_for_a_job_that_has_to_start(case: Case) {
    case.enqueue(within(case.new_job(), secs(7))).await;
    assert_eq!(case.sweep().await.next_due, Some(secs(7)));
    case.pass(secs(2));
    assert_eq!(case.ask(&[]).await.next_due, Some(secs(5)));
    case.pass(secs(5));
    assert_eq!(case.sweep().await.next_due, None);
}

/// One call cancels at most [`SWEEP_MAX`] expired jobs. The rest is not leased meanwhile, and the next call is due at once.
pub async fn one_call_never_cancels_without_bound(case: Case) {
    let count = SWEEP_MAX + 1;
    for _ in 0..count {
        case.enqueue(within(case.new_job(), secs(5))).await;
    }
    case.pass(secs(5));
    let leased = case.lease_as(case.asking(&[(queue(), 9)])).await;
    assert_eq!((leased.leases.len(), leased.next_due), (0, Some(Duration::ZERO)));
    assert_eq!(case.counts().await, Counts::of(&[(State::Cancelled, SWEEP_MAX as u64), (State::Ready, 1)]));
    case.sweep().await;
    assert_eq!(case.counts().await, Counts::of(&[(State::Cancelled, count as u64)]));
}

/// A lease comes with the time by the broker's clock, from which a deadline is counted.
pub async fn a_lease_tells_the_time_from_which_a_deadline_counts(case: Case) {
    let options = JobOptions { deadline: Some(secs(60)), ..JobOptions::default() };
    case.enqueue(NewJob { options, ..case.new_job() }).await;
    case.pass(secs(20));
    let leased = case.ask(&[(queue(), 1)]).await;
    assert_eq!(leased.now, case.now());
    assert_eq!(leased.leases[0].job.time_left(leased.now), Some(secs(40)));
}
