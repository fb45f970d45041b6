//! Jobs are handed out.

use std::time::Duration;

use sandhog_core::budget::Bytes;
use sandhog_core::id::{ContentType, JobId, LeaseNo, LeaseToken};
use sandhog_core::job::{Job, JobOptions, Lease, NewJob, Priority, State};
use sandhog_core::reason::Reason;
use sandhog_core::settle::Settlement;
use sandhog_core::unique::UniqueRule;

use super::case::{Case, TTL};
use super::script::{
    daemon, group, labels, ms, queue, queue_named, release, retry, revision, secs, succeed, trace, unique,
};
use crate::{Asker, Counts, LeaseAsk, Leased};

fn ids(leases: &[Lease]) -> Vec<JobId> {
    leases.iter().map(|lease| lease.token.job).collect()
}

/// A lease has the whole job, so that its holder can start without another call.
pub async fn a_lease_hands_over_the_whole_job(case: Case) {
    let new = NewJob { payload: b"in".to_vec(), ..case.new_job() };
    let (id, enqueued_at) = (case.enqueue(new.clone()).await, case.now());
    case.pass(secs(5));
    let job = Job::of(NewJob::new(id, queue(), new.kind, new.payload), case.tenant.clone(), enqueued_at);
    assert_eq!(case.lease(9).await, [Lease { token: LeaseToken { job: id, lease: LeaseNo(1) }, job }]);
    let record = case.record(id).await;
    assert_eq!(record.state, State::Leased);
    assert_eq!(record.leased_at, Some(case.now()));
    assert_eq!(record.lease_expires_at, Some(case.now().after(TTL)));
}

/// A pinned job stays pinned to its revision, also when it comes back, and whether or not it has a unique key.
pub async fn a_job_stays_pinned_to_its_revision(case: Case) {
    for unique_key in [None, unique("nightly")] {
        let pinned = Some(revision(9));
        let id = case.enqueue(NewJob { pinned, unique_key, ..case.new_job() }).await;
        for _ in 0..2 {
            let lease = case.lease(1).await.remove(0);
            assert_eq!((lease.token.job, lease.job.pinned, lease.job.payload), (id, pinned, b"{}".to_vec()));
            case.applied(lease.token, retry(Duration::ZERO)).await;
        }
        case.applied(case.lease_one().await, succeed()).await;
        let record = case.record(id).await;
        assert_eq!((record.pinned, record.revision), (pinned, Some(revision(1))));
    }
}

/// A job keeps all its options, also when it comes back, and whatever else it has.
pub async fn options_stay_with_their_job(case: Case) {
    for (pinned, unique_key) in
        [(None, None), (Some(revision(9)), None), (Some(revision(9)), unique("nightly"))]
    {
        let options = JobOptions {
            group: Some(group("a:b {c} *")),
            start_within: Some(secs(50)),
            deadline: Some(secs(70)),
            labels: labels(&["env=prod", "customer=Müller & Söhne"]),
            content_type: Some(ContentType::parse("text/plain").expect("a valid type")),
            trace: Some(trace()),
            flow: None,
            unique: UniqueRule { lasts: Some(secs(90)), ..UniqueRule::default() },
        };
        let asked = NewJob { pinned, unique_key, options: options.clone(), ..case.new_job() };
        let id = case.enqueue(asked.clone()).await;
        for _ in 0..2 {
            let lease = case.lease(1).await.remove(0);
            assert_eq!((lease.token.job, lease.job.pinned, &lease.job.options), (id, pinned, &options));
            assert_eq!((lease.job.kind, lease.job.payload), (asked.kind.clone(), b"{}".to_vec()));
            case.applied(lease.token, retry(Duration::ZERO)).await;
        }
        case.applied(case.lease_one().await, succeed()).await;
        let record = case.record(id).await;
        assert_eq!((record.options, record.kind, record.pinned), (options, asked.kind, pinned));
    }
}

/// Jobs are leased by priority, 255 first, and in order of arrival if it is the same, whatever their ids are.
pub async fn the_highest_priority_goes_first_and_equals_in_order_of_arrival(case: Case) {
    let of = |priority| NewJob { priority: Priority(priority), ..case.new_job() };
    let jobs = [of(100), of(0), of(255), of(100), of(101), of(255)];
    let [a, b, c, d, e, f] = jobs.each_ref().map(|job| job.id);
    // Ids rise from a to f; they arrive the other way round.
    let mut batch = jobs.to_vec();
    batch.reverse();
    case.enqueue_all(&batch).await;
    assert_eq!(ids(&case.lease(2).await), [f, c]);
    assert_eq!(ids(&case.lease(4).await), [e, d, a, b]);
}

/// Queues are served in the order in which they are asked for, each up to its own number.
pub async fn queues_are_served_in_the_order_asked_and_up_to_their_number(case: Case) {
    let in_queue = |name| NewJob { queue: queue_named(name), ..case.new_job() };
    let jobs = [in_queue("a"), in_queue("a"), in_queue("b"), in_queue("b"), in_queue("b")];
    let [a1, a2, b1, b2, b3] = jobs.each_ref().map(|job| job.id);
    case.enqueue_all(&jobs).await;
    let asks = [(queue_named("b"), 2), (queue_named("empty"), 7), (queue_named("a"), 1)];
    assert_eq!(ids(&case.ask(&asks).await.leases), [b1, b2, a1]);
    let asks = [(queue_named("a"), 5), (queue_named("b"), 5)];
    assert_eq!(ids(&case.ask(&asks).await.leases), [a2, b3]);
}

/// A leased job is handed out to nobody else.
pub async fn a_leased_job_is_handed_to_nobody_else(case: Case) {
    case.enqueue_n(3).await;
    assert_eq!(case.lease(2).await.len(), 2);
    assert_eq!(case.lease(2).await.len(), 1);
    assert_eq!(case.lease(2).await, []);
    assert_eq!(case.counts().await, Counts::of(&[(State::Leased, 3)]));
}

/// A lease raises the number of leases and not that of attempts, which a settlement counts.
pub async fn a_lease_counts_no_attempt_and_raises_the_number(case: Case) {
    let first = case.leased_job().await;
    assert_eq!((first.lease, case.record(first.job).await.attempts), (LeaseNo(1), 0));
    case.applied(first, release(Duration::ZERO)).await;
    let second = case.lease_one().await;
    assert_eq!((second.lease, case.record(first.job).await.attempts), (LeaseNo(2), 0));
    case.applied(second, retry(Duration::ZERO)).await;
    let lease = case.lease(1).await.remove(0);
    assert_eq!((lease.token.lease, lease.job.attempts), (LeaseNo(3), 1));
}

/// A job that is retried or released goes behind the ready ones of its priority.
pub async fn what_comes_back_goes_behind_those_of_its_priority(case: Case) {
    let jobs = case.enqueue_n(4).await;
    let tokens: Vec<_> = case.lease(2).await.iter().map(|lease| lease.token).collect();
    let urgent = case.enqueue(NewJob { priority: Priority(200), ..case.new_job() }).await;
    case.applied(tokens[1], retry(Duration::ZERO)).await;
    case.applied(tokens[0], release(Duration::ZERO)).await;
    assert_eq!(case.drain().await, [urgent, jobs[2], jobs[3], jobs[1], jobs[0]]);
}

/// Jobs that are due become ready in the order of their times, then of their ids, not in that of arrival.
pub async fn what_is_due_becomes_ready_in_order_of_time_then_id(case: Case) {
    let after = |delay| NewJob { delay: ms(delay), ..case.new_job() };
    let jobs = [after(30), after(20), after(20), after(10), after(31)];
    let [a, b, c, d, _later] = jobs.each_ref().map(|job| job.id);
    let mut batch = jobs.to_vec();
    batch.swap(1, 2);
    case.enqueue_all(&batch).await;
    case.pass(ms(30));
    assert_eq!(case.drain().await, [d, b, c, a]);
}

/// A job that becomes due goes behind those of its priority that are ready already.
pub async fn what_was_promoted_goes_behind_what_was_ready(case: Case) {
    let scheduled = case.enqueue(NewJob { delay: ms(10), ..case.new_job() }).await;
    case.pass(ms(20));
    let ready = case.enqueue(case.new_job()).await;
    assert_eq!(case.drain().await, [ready, scheduled]);
}

/// A job of a queue that nobody asks for becomes ready when it is due, and isn't handed out.
pub async fn a_queue_that_nobody_asks_for_keeps_its_jobs(case: Case) {
    let id = case.enqueue(NewJob { queue: queue_named("other"), delay: ms(1), ..case.new_job() }).await;
    case.pass(ms(1));
    assert_eq!(case.lease(10).await, []);
    assert_eq!(case.state_of(id).await, State::Ready);
}

/// The next time to look is that of the first scheduled job or the first lease to run out, or none.
pub async fn the_next_look_is_for_whatever_comes_first(case: Case) {
    assert_eq!(case.sweep().await.next_due, None);
    case.enqueue(case.new_job()).await;
    assert_eq!(case.sweep().await.next_due, None, "a ready job is nothing to wait for");
    case.enqueue(NewJob { delay: secs(90), ..case.new_job() }).await;
    assert_eq!(case.sweep().await.next_due, Some(secs(90)));
    let leased = case.ask(&[(queue(), 1)]).await;
    assert_eq!(leased.next_due, Some(TTL), "its own leases count");
    case.enqueue(NewJob { delay: secs(10), ..case.new_job() }).await;
    case.pass(ms(1));
    assert_eq!(case.sweep().await.next_due, Some(ms(9_999)));
    case.pass(ms(9_999));
    assert_eq!(case.sweep().await.next_due, Some(secs(20)));
    case.applied(leased.leases[0].token, succeed()).await;
    assert_eq!(case.sweep().await.next_due, Some(secs(80)));
}

/// Jobs that have lost a lease are suspects, which may have killed their daemon. They go first, and at most as many are handed
/// out as were asked for.
pub async fn suspects_are_handed_out_as_many_as_asked_for(case: Case) {
    let lost = case.enqueue_n(3).await;
    case.lease(3).await;
    case.pass(TTL);
    let fresh = case.enqueue_n(2).await;
    case.sweep().await;
    let queues = [(queue(), 10)];
    let ids = |leased: &Leased| leased.leases.iter().map(|lease| lease.token.job).collect::<Vec<_>>();
    let leased = case.lease_as(LeaseAsk { suspects: 1, ..case.asking(&queues) }).await;
    assert_eq!(ids(&leased), [lost[0], fresh[0], fresh[1]], "a suspect goes before the others");
    assert_eq!(leased.leases[0].job.expiries, 1);
    let leased = case.lease_as(LeaseAsk { suspects: 0, ..case.asking(&queues) }).await;
    assert_eq!(ids(&leased), []);
    let leased = case.lease_as(LeaseAsk { suspects: 5, ..case.asking(&queues) }).await;
    assert_eq!(ids(&leased), [lost[1], lost[2]]);
}

/// An attempt that ends clears a job of suspicion, as its daemon has survived it. A release does not.
pub async fn an_attempt_that_ends_clears_a_suspect(case: Case) {
    let token = case.leased_job().await;
    case.pass(TTL);
    let again = case.lease_one().await;
    case.applied(again, release(Duration::ZERO)).await;
    assert_eq!(case.record(token.job).await.expiries, 1, "a release says nothing of it");
    let again = case.lease_one().await;
    case.applied(again, retry(Duration::ZERO)).await;
    assert_eq!(case.record(token.job).await.expiries, 0);
    let queues = [(queue(), 1)];
    let leased = case.lease_as(LeaseAsk { suspects: 0, ..case.asking(&queues) }).await;
    assert_eq!(leased.leases.len(), 1);
}

/// An ask that is repeated, as its answer was lost, gets the same leases again, renewed; those that are settled by now are left
/// out.
pub async fn an_ask_whose_answer_was_lost_is_answered_again(case: Case) {
    case.enqueue_n(3).await;
    let queues = [(queue(), 2)];
    let by = |number, repeats| Some(Asker { daemon: daemon(1), number, repeats });
    let first = case.lease_as(LeaseAsk { asker: by(1, false), ..case.asking(&queues) }).await;
    assert_eq!(first.leases.len(), 2);
    case.applied(first.leases[0].token, succeed()).await;
    case.pass(secs(20));
    let again = case.lease_as(LeaseAsk { asker: by(1, true), ..case.asking(&queues) }).await;
    assert_eq!(again.leases, first.leases[1..], "what is settled by now is not");
    case.pass(secs(20));
    case.sweep().await;
    assert_eq!(case.state_of(first.leases[1].token.job).await, State::Leased, "it was prolonged");
}

/// An ask that the broker hasn't heard before gets other jobs, even if it says that it is a repetition. Daemons number their
/// asks on their own.
pub async fn an_ask_that_nobody_heard_is_answered_anew(case: Case) {
    case.enqueue_n(4).await;
    let queues = [(queue(), 1)];
    let ask = async |nth, number, repeats| {
        let asker = Some(Asker { daemon: daemon(nth), number, repeats });
        case.lease_as(LeaseAsk { asker, ..case.asking(&queues) }).await.leases[0].token.job
    };
    let jobs = [ask(1, 1, true).await, ask(1, 2, false).await, ask(2, 2, true).await, ask(1, 3, true).await];
    assert_eq!(jobs.iter().collect::<std::collections::BTreeSet<_>>().len(), 4, "each is another one");
}

/// One answer is bounded in bytes, so that it holds up no other call. Smaller jobs don't overtake a large one that doesn't fit
/// any more.
pub async fn what_is_handed_out_is_bounded_in_bytes(case: Case) {
    let of = |bytes| NewJob { payload: vec![1; bytes], ..case.new_job() };
    let jobs = [of(500), of(300), of(300), of(10)];
    case.enqueue_all(&jobs).await;
    let bytes = Bytes(600 + 2 * case.seal);
    let queues = [(queue(), 10)];
    let mut sizes = Vec::new();
    for _ in 0..3 {
        let leased = case.lease_as(LeaseAsk { bytes, ..case.asking(&queues) }).await;
        sizes.push(leased.leases.iter().map(|lease| lease.job.payload.len()).collect::<Vec<_>>());
    }
    assert_eq!(sizes, [vec![500], vec![300, 300], vec![10]]);
}

/// A release for a fault of the host is counted as a fault, not as an attempt. The count starts anew when an attempt ends.
pub async fn host_faults_are_counted_apart(case: Case) {
    let token = case.leased_job().await;
    let fault = Settlement::Release { after: Duration::ZERO, reason: Reason::HostFault };
    case.applied(token, fault.clone()).await;
    let lease = case.lease(1).await.remove(0);
    assert_eq!((lease.job.faults, lease.job.attempts), (1, 0));
    case.applied(lease.token, release(Duration::ZERO)).await;
    let again = case.lease_one().await;
    case.applied(again, fault).await;
    assert_eq!(case.record(token.job).await.faults, 2);
    let again = case.lease_one().await;
    case.applied(again, retry(Duration::ZERO)).await;
    assert_eq!(case.record(token.job).await.faults, 0, "an attempt ended");
}
