//! People change their minds: cancel and redrive.

use std::time::Duration;

use sandhog_core::id::{JobId, LeaseNo};
use sandhog_core::job::{NewJob, State};
use sandhog_core::reason::Reason;
use sandhog_core::settle::Settlement;

use super::case::{Case, EXPIRIES_MAX, TTL};
use super::script::{bury, lines, ms, progress, secs, settle, succeed, unique, usage};
use crate::{Changed, Counts, Enqueued, JobAction, LastTimes, Settle, Still};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

async fn cancel(case: &Case, job: JobId) -> Changed {
    case.broker.cancel(&case.tenant, job).await.expect("a cancellation succeeds")
}

async fn redrive(case: &Case, job: JobId) -> Changed {
    case.broker.redrive(&case.tenant, job).await.expect("a redrive succeeds")
}

async fn dead_letter(case: &Case, job: NewJob) -> JobId {
    let id = case.enqueue(job).await;
    let token = case.lease_one().await;
    assert_eq!(token.job, id);
    case.applied(token, bury()).await;
    id
}

/// A ready or scheduled job is cancelled at once, without a daemon, and is kept for a day.
pub async fn a_waiting_job_is_cancelled_at_once(case: Case) {
    let ready = case.enqueue(case.new_job()).await;
    let scheduled = case.enqueue(NewJob { delay: secs(5), ..case.new_job() }).await;
    for id in [ready, scheduled] {
        assert_eq!(cancel(&case, id).await, Changed::Done);
        let record = case.record(id).await;
        assert_eq!((record.state, record.reason), (State::Cancelled, Some(Reason::Cancelled)));
        assert_eq!((record.message, record.attempts, record.due_at), (None, 0, None));
        assert_eq!(record.finished_at, Some(case.now()));
    }
    case.pass(DAY - ms(1));
    assert_eq!(case.drain().await, []);
    assert_eq!(case.counts().await, Counts::of(&[(State::Cancelled, 2)]));
    case.pass(ms(1));
    case.sweep().await;
    assert_eq!(case.counts().await, Counts::default());
}

/// Cancelling a leased job makes a request, and changes nothing until the holder of the lease settles it.
pub async fn a_leased_job_is_cancelled_by_its_holder(case: Case) {
    let token = case.leased_job().await;
    let before = case.record(token.job).await;
    for _ in 0..2 {
        assert_eq!(cancel(&case, token.job).await, Changed::Requested);
        assert_eq!(case.record(token.job).await, before);
    }
    case.applied(token, Settlement::Cancel).await;
    assert_eq!(cancel(&case, token.job).await, Changed::Not(State::Cancelled));
}

/// A final job can't be cancelled, and stays unchanged.
pub async fn what_is_final_cannot_be_cancelled(case: Case) {
    let endings =
        [(succeed(), State::Succeeded), (bury(), State::Dead), (Settlement::Cancel, State::Cancelled)];
    for (settlement, state) in endings {
        let token = case.leased_job().await;
        case.applied(token, settlement).await;
        let before = case.record(token.job).await;
        assert_eq!(cancel(&case, token.job).await, Changed::Not(state));
        assert_eq!(case.record(token.job).await, before);
    }
}

/// A job that isn't the tenant's own is unknown, to a cancellation and to a redrive, and stays unchanged.
pub async fn an_unknown_job_is_neither_cancelled_nor_redriven(case: Case) {
    let id = dead_letter(&case, case.new_job()).await;
    let other = case.of_another_tenant();
    assert_eq!(cancel(&other, id).await, Changed::Unknown);
    assert_eq!(redrive(&other, id).await, Changed::Unknown);
    assert_eq!(case.state_of(id).await, State::Dead);
}

/// A redriven job has all its attempts and expiries before it. Its lease number goes on rising.
pub async fn a_redriven_job_starts_anew(case: Case) {
    let id = case.enqueue(case.new_job()).await;
    for _ in 0..=EXPIRIES_MAX {
        case.lease_one().await;
        case.pass(TTL);
    }
    case.sweep().await;
    let numbers = LeaseNo(u64::from(EXPIRIES_MAX + 1) * 2);
    assert_eq!(redrive(&case, id).await, Changed::Done);
    let record = case.record(id).await;
    assert_eq!((record.state, record.attempts, record.expiries), (State::Ready, 0, 0));
    assert_eq!((record.reason, record.message, record.finished_at), (None, None, None));
    assert_eq!(record.lease, numbers);
    let lease = case.lease(1).await.remove(0);
    assert_eq!((lease.token.lease, lease.job.attempts), (LeaseNo(numbers.0 + 1), 0));
    case.pass(TTL);
    assert_eq!(case.sweep().await.buried, [], "it may lose as many leases as ever");
}

/// A redrive of a job that isn't dead changes nothing, and answers with the job's state.
pub async fn only_a_dead_letter_can_be_redriven(case: Case) {
    let id = case.enqueue(NewJob { delay: secs(1), ..case.new_job() }).await;
    assert_eq!(redrive(&case, id).await, Changed::Not(State::Scheduled));
    case.pass(secs(1));
    case.sweep().await;
    assert_eq!(redrive(&case, id).await, Changed::Not(State::Ready));
    let token = case.lease_one().await;
    assert_eq!(redrive(&case, id).await, Changed::Not(State::Leased));
    case.applied(token, succeed()).await;
    assert_eq!(redrive(&case, id).await, Changed::Not(State::Succeeded));
    let cancelled = case.enqueue(case.new_job()).await;
    cancel(&case, cancelled).await;
    assert_eq!(redrive(&case, cancelled).await, Changed::Not(State::Cancelled));
}

/// A redriven job holds its unique key again. The redrive is refused while another job holds the key.
pub async fn a_redriven_job_takes_its_unique_key_again(case: Case) {
    let keyed = || NewJob { unique_key: unique("nightly"), ..case.new_job() };
    let first = dead_letter(&case, keyed()).await;
    let second = dead_letter(&case, keyed()).await;
    assert_eq!(redrive(&case, first).await, Changed::Done);
    assert_eq!(case.enqueue_all(&[keyed()]).await, [Enqueued::Duplicate(first)]);
    let before = case.record(second).await;
    assert_eq!(redrive(&case, second).await, Changed::Duplicate(first));
    assert_eq!(case.record(second).await, before);
    case.applied(case.lease_one().await, succeed()).await;
    assert_eq!(redrive(&case, second).await, Changed::Done);
    assert_eq!(case.counts().await, Counts::of(&[(State::Ready, 1), (State::Succeeded, 1)]));
}

/// A redriven job goes behind the ready ones, and is not removed when its keep time as a dead letter would have been over.
pub async fn a_redriven_job_goes_behind_and_is_not_removed(case: Case) {
    let dead = dead_letter(&case, case.new_job()).await;
    let waiting = case.enqueue(case.new_job()).await;
    redrive(&case, dead).await;
    case.pass(40 * DAY);
    assert_eq!(case.drain().await, [waiting, dead]);
}

/// A redriven job keeps its usage, its progress and its log.
pub async fn what_a_dead_letter_spent_is_not_forgotten(case: Case) {
    let token = case.leased_job().await;
    case.settle_with(Settle { progress: progress(3), log: lines(0..2), ..settle(token, bury()) }).await;
    redrive(&case, token.job).await;
    let record = case.record(token.job).await;
    assert_eq!((record.usage, record.progress), (usage(1), progress(3)));
    assert_eq!(case.log(token.job).await, lines(0..2));
}

/// A scheduled job that is run now becomes ready at once, behind the ready ones. A ready one stays as it is.
pub async fn a_scheduled_job_can_be_run_now(case: Case) {
    let id = case.enqueue(NewJob { delay: secs(60), ..case.new_job() }).await;
    let ready = case.enqueue(case.new_job()).await;
    assert_eq!(case.act(JobAction::RunNow, id).await, Changed::Done);
    assert_eq!(case.act(JobAction::RunNow, id).await, Changed::Done, "it is ready already");
    assert_eq!(case.record(id).await.due_at, None);
    assert_eq!(case.drain().await, [ready, id]);
    assert_eq!(case.act(JobAction::RunNow, id).await, Changed::Not(State::Leased));
}

/// A final job can be removed, and its log with it. Jobs that aren't final can't.
pub async fn a_final_job_can_be_removed(case: Case) {
    let token = case.leased_job().await;
    assert_eq!(case.act(JobAction::Remove, token.job).await, Changed::Not(State::Leased));
    case.settle_with(Settle { log: super::script::lines(0..3), ..settle(token, bury()) }).await;
    assert_eq!(case.act(JobAction::Remove, token.job).await, Changed::Done);
    assert_eq!(case.act(JobAction::Remove, token.job).await, Changed::Unknown);
    assert_eq!((case.find(token.job).await, case.log(token.job).await), (None, vec![]));
    assert_eq!(case.counts().await, Counts::default());
}

/// An action on many jobs is answered for each of them, in order. One that can't be changed keeps none of the others from it.
pub async fn many_are_changed_at_once_and_answered_one_by_one(case: Case) {
    let ids = case.enqueue_n(3).await;
    let token = case.lease_one().await;
    let unknown = case.new_job().id;
    let jobs = [ids[1], unknown, ids[0], ids[1], ids[2]];
    let answers = case.broker.act(&case.tenant, JobAction::Cancel, &jobs).await.expect("it succeeds");
    assert_eq!(
        answers,
        [Changed::Done, Changed::Unknown, Changed::Requested, Changed::Not(State::Cancelled), Changed::Done]
    );
    case.applied(token, Settlement::Cancel).await;
    assert_eq!(case.counts().await, Counts::of(&[(State::Cancelled, 3)]));
}

/// A command on many jobs finds them first. It leaves alone those that have changed their state, run or ended since.
pub async fn a_job_that_is_not_as_it_was_found_is_left_alone(case: Case) {
    let found = async |action, state, last, job| {
        let still = Still { state: Some(state), last };
        case.broker.act_on_found(&case.tenant, action, &[job], still).await.expect("it succeeds")[0]
    };
    let any = LastTimes::default();
    let id = case.enqueue(case.new_job()).await;
    assert_eq!(
        found(JobAction::Cancel, State::Scheduled, any, id).await,
        Changed::Not(State::Ready),
        "it could be cancelled, though"
    );
    let start = case.now().after(ms(1));
    let last = LastTimes { leased_until: Some(start), finished_until: Some(start) };
    case.pass(secs(5));
    let token = case.lease_one().await;
    assert_eq!(found(JobAction::Cancel, State::Leased, last, id).await, Changed::Touched);
    assert_eq!(found(JobAction::Cancel, State::Ready, any, id).await, Changed::Not(State::Leased));
    case.applied(token, bury()).await;
    let ended = LastTimes { leased_until: None, ..last };
    for action in [JobAction::Redrive, JobAction::Remove] {
        assert_eq!(found(action, State::Dead, ended, id).await, Changed::Touched, "{action:?}");
    }
    assert_eq!(case.state_of(id).await, State::Dead);
    let now = LastTimes { leased_until: None, finished_until: Some(case.now().after(ms(1))) };
    assert_eq!(found(JobAction::Redrive, State::Dead, now, id).await, Changed::Done);
    assert_eq!(found(JobAction::Remove, State::Dead, now, id).await, Changed::Not(State::Ready));
    let unknown = case.new_job().id;
    assert_eq!(found(JobAction::Cancel, State::Ready, any, unknown).await, Changed::Unknown);
}
