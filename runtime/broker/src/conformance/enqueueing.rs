//! Jobs come in.

use std::time::Duration;

use sandhog_core::budget::Bytes;
use sandhog_core::id::Kind;
use sandhog_core::job::{JobOptions, JobRecord, NewJob, Priority, State};
use sandhog_core::quota::{QueueBounds, QueueExcess};

use super::case::Case;
use super::script::{bury, group, ms, new_job, queue, queue_named, revision, secs, succeed, unique};
use crate::{Counts, Enqueued};

/// A job without a delay is ready at once, and its record has all that was asked for and nothing else.
pub async fn a_job_without_delay_is_ready_and_holds_what_was_asked_for(case: Case) {
    let job = NewJob {
        kind: Kind::parse("report.build").expect("a valid kind"),
        queue: queue_named("reports"),
        payload: b"{\"n\":1}".to_vec(),
        priority: Priority(7),
        unique_key: unique("report 1"),
        pinned: Some(revision(7)),
        options: JobOptions { group: Some(group("Müller & Söhne")), ..JobOptions::default() },
        ..case.new_job()
    };
    let id = case.enqueue(job.clone()).await;
    let expected = JobRecord::of(job, case.tenant.clone(), case.now());
    assert_eq!(expected.state, State::Ready);
    assert_eq!(case.record(id).await, expected);
}

/// A delayed job is scheduled, and is handed out when its delay is over, to the millisecond.
pub async fn a_delayed_job_is_scheduled_until_its_time(case: Case) {
    let id = case.enqueue(NewJob { delay: secs(60), ..case.new_job() }).await;
    let record = case.record(id).await;
    assert_eq!((record.state, record.due_at), (State::Scheduled, Some(case.now().after(secs(60)))));
    case.pass(ms(59_999));
    assert_eq!(case.lease(1).await, []);
    case.pass(ms(1));
    assert_eq!(case.lease_one().await.job, id);
    assert_eq!(case.record(id).await.due_at, None);
}

/// A delay is rounded up to whole milliseconds, so that no job is due too early.
pub async fn a_part_of_a_millisecond_is_waited_for_in_full(case: Case) {
    let id = case.enqueue(NewJob { delay: Duration::from_nanos(1), ..case.new_job() }).await;
    assert_eq!(case.record(id).await.due_at, Some(case.now().after(ms(1))));
    assert_eq!(case.drain().await, []);
    case.pass(ms(1));
    assert_eq!(case.drain().await, [id]);
}

/// The longest possible delay is accepted, and the job stays scheduled.
pub async fn a_delay_without_end_is_never_due(case: Case) {
    let id = case.enqueue(NewJob { delay: Duration::MAX, ..case.new_job() }).await;
    case.pass(secs(100 * 365 * 24 * 60 * 60));
    assert_eq!(case.drain().await, []);
    assert_eq!(case.state_of(id).await, State::Scheduled);
}

/// A job with a known id is answered as stored, and changes nothing: a producer that lost the answer can ask again.
pub async fn repeating_an_id_changes_nothing(case: Case) {
    let job = case.new_job();
    let id = case.enqueue(job.clone()).await;
    let before = case.record(id).await;
    case.pass(secs(1));
    let other = NewJob { payload: b"other".to_vec(), delay: secs(9), queue: queue_named("other"), ..job };
    assert_eq!(case.enqueue_all(std::slice::from_ref(&other)).await, [Enqueued::Stored]);
    assert_eq!(case.record(id).await, before);
    let token = case.lease_one().await;
    case.applied(token, succeed()).await;
    assert_eq!(case.enqueue_all(&[other]).await, [Enqueued::Stored]);
    assert_eq!(case.counts().await, Counts::of(&[(State::Succeeded, 1)]));
}

/// A job whose unique key is held is not stored. The answer names the holder.
pub async fn a_held_unique_key_lets_no_second_job_in(case: Case) {
    let first = case.enqueue(NewJob { unique_key: unique("nightly"), ..case.new_job() }).await;
    let second = NewJob { unique_key: unique("nightly"), delay: secs(1), ..case.new_job() };
    assert_eq!(case.enqueue_all(std::slice::from_ref(&second)).await, [Enqueued::Duplicate(first)]);
    case.lease_one().await;
    assert_eq!(case.enqueue_all(std::slice::from_ref(&second)).await, [Enqueued::Duplicate(first)]);
    assert_eq!(case.find(second.id).await, None);
    assert_eq!(case.counts().await, Counts::of(&[(State::Leased, 1)]));
}

/// A unique key is free as soon as its holder is final, in whichever state.
pub async fn a_unique_key_is_free_once_its_holder_is_final(case: Case) {
    let keyed = || NewJob { unique_key: unique("nightly"), ..case.new_job() };
    case.enqueue(keyed()).await;
    case.applied(case.lease_one().await, succeed()).await;
    case.enqueue(keyed()).await;
    case.applied(case.lease_one().await, bury()).await;
    let third = case.enqueue(keyed()).await;
    case.broker.cancel(&case.tenant, third).await.expect("a cancellation succeeds");
    let fourth = case.enqueue(keyed()).await;
    assert_eq!(case.enqueue_all(&[keyed()]).await, [Enqueued::Duplicate(fourth)]);
    assert_eq!(
        case.counts().await,
        Counts::of(&[(State::Ready, 1), (State::Succeeded, 1), (State::Dead, 1), (State::Cancelled, 1)])
    );
}

/// A job that is enqueued again is answered as stored, not as a duplicate of itself.
pub async fn a_job_that_is_stored_is_told_so_though_its_own_key_is_held(case: Case) {
    let job = NewJob { unique_key: unique("nightly"), ..case.new_job() };
    case.enqueue(job.clone()).await;
    assert_eq!(case.enqueue_all(&[job]).await, [Enqueued::Stored]);
    assert_eq!(case.counts().await, Counts::of(&[(State::Ready, 1)]));
}

/// A batch is stored in one step and in its order: later jobs are checked against earlier ones.
pub async fn a_batch_is_one_step_in_its_order(case: Case) {
    let keyed = NewJob { unique_key: unique("nightly"), ..case.new_job() };
    let rival = NewJob { unique_key: unique("nightly"), ..case.new_job() };
    let (plain, late) = (case.new_job(), NewJob { delay: secs(1), ..case.new_job() });
    let batch = [keyed.clone(), rival, plain.clone(), late, plain.clone()];
    let stored = Enqueued::Stored;
    assert_eq!(
        case.enqueue_all(&batch).await,
        [stored, Enqueued::Duplicate(keyed.id), stored, stored, stored]
    );
    assert_eq!(case.drain().await, [keyed.id, plain.id]);
    assert_eq!(case.counts().await, Counts::of(&[(State::Scheduled, 1), (State::Leased, 2)]));
}

/// Two tenants can use the same id and the same unique key for different jobs.
pub async fn tenants_share_neither_jobs_nor_keys(case: Case) {
    let other = case.of_another_tenant();
    let job = NewJob { unique_key: unique("nightly"), ..case.new_job() };
    case.enqueue(job.clone()).await;
    other.enqueue(NewJob { payload: b"other".to_vec(), ..job.clone() }).await;
    let token = case.lease_one().await;
    case.applied(token, succeed()).await;
    assert_eq!(other.record(job.id).await.payload, b"other");
    assert_eq!(other.counts().await, Counts::of(&[(State::Ready, 1)]));
}

/// Payloads are kept byte for byte, up to 1 MiB at least.
pub async fn payloads_are_kept_byte_for_byte(case: Case) {
    let all_bytes: Vec<u8> = (0..=255).collect();
    for payload in [Vec::new(), all_bytes.clone(), all_bytes.repeat(4096)] {
        let id = case.enqueue(NewJob { payload: payload.clone(), ..case.new_job() }).await;
        assert!(case.record(id).await.payload == payload, "{} bytes in the record", payload.len());
        assert!(case.lease(1).await[0].job.payload == payload, "{} bytes in the lease", payload.len());
    }
}

/// An empty batch is answered with nothing, and an ask for 0 jobs hands out none.
pub async fn nothing_enqueued_is_nothing_answered(case: Case) {
    assert_eq!(case.enqueue_all(&[]).await, []);
    assert_eq!(case.settle_all(&[]).await, []);
    let renewals = case.broker.renew(&case.tenant, secs(1), &[]).await.expect("a renewal succeeds");
    assert_eq!(renewals, []);
    assert_eq!(case.ask(&[(queue(), 0)]).await.leases, []);
    assert_eq!(case.counts().await, Counts::default());
    // Not even a job that is there is handed out where none is asked for.
    case.enqueue(new_job(case.new_job().id)).await;
    assert_eq!(case.ask(&[(queue(), 0)]).await.leases, []);
}

/// A job whose payload is over the bound is refused. The other jobs of the batch are stored.
pub async fn a_payload_over_its_bound_is_refused_and_its_neighbours_are_not(case: Case) {
    let of = |bytes| NewJob { payload: vec![1; bytes], ..case.new_job() };
    let bounds = QueueBounds { payload: Bytes(10), ..QueueBounds::default() };
    let jobs = [of(10), of(11), of(0)];
    assert_eq!(
        case.enqueue_within(&jobs, &bounds).await,
        [Enqueued::Stored, Enqueued::TooLarge, Enqueued::Stored]
    );
    assert_eq!(case.find(jobs[1].id).await, None);
}

/// A bound on the number of jobs counts those that wait; leased and final ones don't count.
pub async fn no_more_jobs_wait_than_may(case: Case) {
    let bounds = QueueBounds { jobs: 3, ..QueueBounds::default() };
    let later = NewJob { delay: secs(60), ..case.new_job() };
    let full = Enqueued::Full(QueueExcess::Jobs);
    let jobs = [case.new_job(), later, case.new_job(), case.new_job()];
    assert_eq!(
        case.enqueue_within(&jobs, &bounds).await,
        [Enqueued::Stored, Enqueued::Stored, Enqueued::Stored, full]
    );
    assert_eq!(case.enqueue_within(&jobs[..1], &bounds).await, [Enqueued::Stored], "it is stored already");
    let token = case.lease_one().await;
    assert_eq!(case.enqueue_within(&jobs[3..], &bounds).await, [Enqueued::Stored], "one is under way");
    assert_eq!(case.enqueue_within(&[case.new_job()], &bounds).await, [full]);
    case.applied(token, super::script::retry(Duration::ZERO)).await;
    case.broker.cancel(&case.tenant, jobs[1].id).await.expect("a cancellation succeeds");
    assert_eq!(case.enqueue_within(&[case.new_job()], &bounds).await, [full], "one has come back");
    case.broker.cancel(&case.tenant, jobs[2].id).await.expect("a cancellation succeeds");
    assert_eq!(case.enqueue_within(&[case.new_job()], &bounds).await, [Enqueued::Stored]);
}

/// A bound on bytes counts the payloads of all waiting jobs; those of leased ones don't count.
pub async fn no_more_bytes_wait_than_may(case: Case) {
    let of = |bytes| NewJob { payload: vec![1; bytes], ..case.new_job() };
    let bounds = QueueBounds { bytes: Bytes(100 + 3 * case.seal), ..QueueBounds::default() };
    let full = Enqueued::Full(QueueExcess::Bytes);
    let jobs = [of(60), of(41 + usize::try_from(2 * case.seal).expect("a small number")), of(40)];
    assert_eq!(case.enqueue_within(&jobs, &bounds).await, [Enqueued::Stored, full, Enqueued::Stored]);
    case.lease_one().await;
    assert_eq!(case.enqueue_within(&[of(60)], &bounds).await, [Enqueued::Stored]);
}
