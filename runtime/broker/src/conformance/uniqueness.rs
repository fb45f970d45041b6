//! Unique keys beyond the usual: held until a job starts or for a time, jobs that replace those that wait, debounced ones.

use std::collections::BTreeMap;
use std::num::NonZeroU16;
use std::time::Duration;

use sandhog_core::budget::Bytes;
use sandhog_core::flow::{Flow, FlowJob};
use sandhog_core::group::GroupRule;
use sandhog_core::id::{FlowJobName, JobId};
use sandhog_core::job::{JobOptions, NewJob, State};
use sandhog_core::quota::{QueueBounds, QueueExcess};
use sandhog_core::unique::{Debounce, OnClash, UniqueRule, UniqueUntil};

use super::case::Case;
use super::script::{bury, effects, group, ms, queue, retry, secs, succeed, succeed_with, unique};
use crate::{Changed, Enqueued, FlowStored, JobAction};

/// A job with the usual key and this rule.
fn job(case: &Case, rule: UniqueRule, payload: &str) -> NewJob {
    let options = JobOptions { unique: rule, ..JobOptions::default() };
    NewJob { unique_key: unique("k"), options, payload: payload.into(), ..case.new_job() }
}

fn until(until: UniqueUntil, lasts: Option<Duration>) -> UniqueRule {
    UniqueRule { until, lasts, ..UniqueRule::default() }
}

fn replacing() -> UniqueRule {
    UniqueRule { on_clash: OnClash::Replace, ..UniqueRule::default() }
}

fn debounce(delay: u64, longest: u64) -> Debounce {
    Debounce::new(secs(delay), secs(longest)).expect("the delay is shorter")
}

/// An event that is debounced: its job is delayed as the rule wants it.
fn event(case: &Case, delay: u64, longest: u64, payload: &str) -> NewJob {
    let rule = UniqueRule::trailing(debounce(delay, longest));
    NewJob { delay: secs(delay), ..job(case, rule, payload) }
}

async fn answer(case: &Case, job: NewJob) -> Enqueued {
    case.enqueue_all(&[job]).await[0]
}

async fn payload_of(case: &Case, job: JobId) -> String {
    String::from_utf8(case.record(job).await.payload).expect("a text")
}

/// A key that is held until the start is free once its job is leased, so that another can wait while that one runs.
pub async fn a_key_that_is_held_until_the_start_is_free_once_its_job_is_leased(case: Case) {
    let started = until(UniqueUntil::Started, None);
    let first = case.enqueue(job(&case, started, "1")).await;
    assert_eq!(answer(&case, job(&case, started, "2")).await, Enqueued::Duplicate(first));
    let token = case.lease_one().await;
    let second = case.enqueue(job(&case, started, "3")).await;
    case.applied(token, retry(Duration::ZERO)).await;
    assert_eq!(
        answer(&case, job(&case, started, "4")).await,
        Enqueued::Duplicate(second),
        "it is the other's now"
    );
    case.act(JobAction::Cancel, second).await;
    case.enqueue(job(&case, started, "5")).await;
}

/// A key that is held for a time is free when that is over, to the millisecond, even if its job has ended or is removed before.
pub async fn a_key_that_is_held_for_a_time_is_free_when_that_is_over(case: Case) {
    let minutes = until(UniqueUntil::Over, Some(secs(600)));
    let first = case.enqueue(job(&case, minutes, "1")).await;
    let token = case.lease_one().await;
    case.applied(token, succeed()).await;
    assert_eq!(answer(&case, job(&case, minutes, "2")).await, Enqueued::Duplicate(first));
    case.act(JobAction::Remove, first).await;
    case.pass(secs(600) - ms(1));
    case.sweep().await;
    assert_eq!(answer(&case, job(&case, minutes, "3")).await, Enqueued::Duplicate(first));
    case.pass(ms(1));
    let second = case.enqueue(job(&case, minutes, "4")).await;
    case.act(JobAction::Cancel, second).await;
    assert_eq!(answer(&case, job(&case, minutes, "5")).await, Enqueued::Duplicate(second));
}

/// A key can be free after a time though its job hasn't ended. The end of that job doesn't free the key of the next one.
pub async fn a_key_may_have_an_end_though_its_job_goes_on(case: Case) {
    let ends = until(UniqueUntil::Settled, Some(secs(60)));
    let first = case.enqueue(job(&case, ends, "1")).await;
    case.pass(secs(60));
    let second = case.enqueue(job(&case, ends, "2")).await;
    let leases = case.lease(9).await;
    assert_eq!(leases[0].token.job, first);
    case.applied(leases[0].token, succeed()).await;
    let late = answer(&case, job(&case, ends, "3")).await;
    assert_eq!(late, Enqueued::Duplicate(second), "the end of the first frees nothing of the second");
    case.sweep().await;
    case.applied(leases[1].token, succeed()).await;
    case.enqueue(job(&case, ends, "4")).await;
}

/// A waiting job gets the payload of the one that replaces it, and keeps its id and its place.
pub async fn a_job_that_waits_gets_the_payload_of_one_that_replaces_it(case: Case) {
    let first = case.enqueue(job(&case, replacing(), "old")).await;
    let other = case.enqueue(case.new_job()).await;
    let newer = job(&case, replacing(), "new and longer");
    let id = newer.id;
    assert_eq!(answer(&case, newer).await, Enqueued::Replaced(first));
    assert_eq!(payload_of(&case, first).await, "new and longer");
    assert_eq!(case.find(id).await, None, "it is no job of its own");
    assert_eq!(case.drain().await, [first, other]);
}

/// A leased job isn't replaced. One that waits for another try is.
pub async fn a_job_that_runs_is_not_replaced(case: Case) {
    let first = case.enqueue(job(&case, replacing(), "1")).await;
    let token = case.lease_one().await;
    assert_eq!(answer(&case, job(&case, replacing(), "2")).await, Enqueued::Duplicate(first));
    case.applied(token, retry(secs(9))).await;
    assert_eq!(
        answer(&case, job(&case, replacing(), "3")).await,
        Enqueued::Replaced(first),
        "it waits again"
    );
    assert_eq!(case.record(first).await.attempts, 1);
    case.pass(secs(9));
    let lease = case.lease(1).await.remove(0);
    assert_eq!(lease.job.payload, b"3");
    case.applied(lease.token, succeed()).await;
    case.enqueue(job(&case, replacing(), "4")).await;
}

/// A job is replaced only if its own rule allows that as well.
pub async fn a_job_that_may_not_be_replaced_keeps_its_payload(case: Case) {
    let first = case.enqueue(job(&case, UniqueRule::default(), "1")).await;
    assert_eq!(answer(&case, job(&case, replacing(), "2")).await, Enqueued::Duplicate(first));
    assert_eq!(payload_of(&case, first).await, "1");
}

/// A payload that replaces another is held to the same bounds, on one payload and on all that wait. A shorter one always fits.
pub async fn a_payload_that_replaces_another_has_the_same_bounds(case: Case) {
    let first = case.enqueue(job(&case, replacing(), "12345")).await;
    let seal = case.seal;
    let bounds = |payload: u64, bytes: u64| QueueBounds {
        payload: Bytes(payload),
        bytes: Bytes(bytes + seal),
        ..QueueBounds::NONE
    };
    let within = async |payload: &str, bounds: QueueBounds| {
        case.enqueue_within(&[job(&case, replacing(), payload)], &bounds).await[0]
    };
    assert_eq!(within("123456", bounds(5, 99)).await, Enqueued::TooLarge);
    assert_eq!(within("123456", bounds(99, 5)).await, Enqueued::Full(QueueExcess::Bytes));
    assert_eq!(payload_of(&case, first).await, "12345");
    assert_eq!(within("1234567", bounds(99, 7)).await, Enqueued::Replaced(first));
    assert_eq!(
        within("1", bounds(99, 1)).await,
        Enqueued::Replaced(first),
        "one that is shorter is always taken"
    );
    let more = case.enqueue_within(&[case.new_job()], &bounds(99, 1 + 2 + seal)).await;
    assert_eq!(more, [Enqueued::Stored], "what is counted is what waits");
}

/// Events in a row make one job, with the latest payload. It runs once no event has come for a while, and at the latest after
/// the longest wait of the first event.
pub async fn events_in_a_row_make_one_job_that_runs_after_the_last_of_them(case: Case) {
    let start = case.now();
    let first = case.enqueue(event(&case, 10, 25, "1")).await;
    case.pass(secs(9));
    assert_eq!(answer(&case, event(&case, 10, 25, "2")).await, Enqueued::Replaced(first));
    assert_eq!(case.record(first).await.due_at, Some(start.after(secs(19))));
    case.pass(secs(9));
    assert_eq!(answer(&case, event(&case, 10, 9000, "3")).await, Enqueued::Replaced(first));
    let due = case.record(first).await.due_at;
    assert_eq!(
        due,
        Some(start.after(secs(25))),
        "the longest wait is that of the first, whoever comes later"
    );
    case.pass(secs(7));
    let lease = case.lease(9).await.remove(0);
    assert_eq!((lease.token.job, &lease.job.payload[..]), (first, &b"3"[..]));
    let second = case.enqueue(event(&case, 10, 25, "4")).await;
    case.applied(lease.token, succeed()).await;
    assert_eq!(answer(&case, event(&case, 10, 25, "5")).await, Enqueued::Replaced(second));
    case.pass(secs(10));
    let lease = case.lease(9).await.remove(0);
    assert_eq!(
        (lease.token.job, &lease.job.payload[..]),
        (second, &b"5"[..]),
        "none was lost while the first ran"
    );
}

/// Events in one batch make one job, as if they had come one after the other.
pub async fn events_in_one_batch_make_one_job(case: Case) {
    let batch = ["1", "2", "3"].map(|payload| event(&case, 10, 25, payload));
    let first = batch[0].id;
    let answers = [Enqueued::Stored, Enqueued::Replaced(first), Enqueued::Replaced(first)];
    assert_eq!(case.enqueue_all(&batch).await, answers);
    let record = case.record(first).await;
    assert_eq!((&record.payload[..], record.due_at), (&b"3"[..], Some(case.now().after(secs(10)))));
    assert_eq!(case.list(State::Scheduled).await, [first]);
}

/// An event doesn't put off a job that is due already; it only replaces the payload.
pub async fn an_event_puts_off_nothing_that_is_due(case: Case) {
    let first = case.enqueue(event(&case, 10, 25, "1")).await;
    case.pass(secs(10));
    case.sweep().await;
    assert_eq!(answer(&case, event(&case, 10, 25, "2")).await, Enqueued::Replaced(first));
    assert_eq!(case.state_of(first).await, State::Ready);
    let lease = case.lease(9).await.remove(0);
    assert_eq!(lease.job.payload, b"2");
}

/// An event after its job was cancelled makes another job, with a wait of its own.
pub async fn an_event_after_a_cancelled_job_makes_another(case: Case) {
    let first = case.enqueue(event(&case, 10, 25, "1")).await;
    assert_eq!(case.act(JobAction::Cancel, first).await, Changed::Done);
    let second = event(&case, 10, 25, "2");
    let id = second.id;
    assert_eq!(answer(&case, second).await, Enqueued::Stored);
    assert_eq!(case.record(id).await.due_at, Some(case.now().after(secs(10))), "with a wait of its own");
}

/// The first event runs at once. Those that follow make no job until none has come for a while, or the longest wait is over.
pub async fn a_leading_event_runs_at_once_and_those_that_follow_do_not(case: Case) {
    let leading = UniqueRule::leading(debounce(10, 25));
    let first = case.enqueue(job(&case, leading, "1")).await;
    let token = case.lease_one().await;
    case.applied(token, succeed()).await;
    for _ in 0..2 {
        case.pass(secs(9));
        assert_eq!(answer(&case, job(&case, leading, "2")).await, Enqueued::Duplicate(first));
    }
    assert_eq!(payload_of(&case, first).await, "1");
    case.pass(secs(7));
    case.enqueue(job(&case, leading, "3")).await;
}

/// Jobs that runs enqueue are debounced by the same rules.
pub async fn events_of_runs_are_debounced_as_well(case: Case) {
    let first = case.enqueue(event(&case, 10, 25, "1")).await;
    let token = case.leased_job().await;
    let later = event(&case, 10, 25, "2");
    case.applied(token, succeed_with(effects(|effects| effects.enqueue(later)))).await;
    assert_eq!(payload_of(&case, first).await, "2");
}

/// A redriven job that held its key until it was final takes it again, for its full time.
pub async fn a_redriven_job_holds_its_key_again_if_it_did_to_its_end(case: Case) {
    let ends = until(UniqueUntil::Settled, Some(secs(60)));
    let first = case.enqueue(job(&case, ends, "1")).await;
    let token = case.lease_one().await;
    case.applied(token, bury()).await;
    case.pass(secs(50));
    assert_eq!(case.act(JobAction::Redrive, first).await, Changed::Done);
    case.pass(secs(59));
    assert_eq!(answer(&case, job(&case, ends, "2")).await, Enqueued::Duplicate(first));
    case.pass(secs(1));
    case.enqueue(job(&case, ends, "3")).await;
}

/// A job that is put off by an event has as long to start, from when it is due, as it had before.
pub async fn a_job_that_is_put_off_has_as_long_to_start_as_before(case: Case) {
    let expiring = |payload| {
        let event = event(&case, 10, 60, payload);
        let options = JobOptions { start_within: Some(secs(15)), ..event.options.clone() };
        NewJob { options, ..event }
    };
    let first = case.enqueue(expiring("1")).await;
    case.pass(secs(8));
    assert_eq!(answer(&case, expiring("2")).await, Enqueued::Replaced(first));
    case.pass(secs(15) - ms(1));
    case.sweep().await;
    assert_eq!(case.record(first).await.state, State::Ready, "it was due 5 seconds ago");
    case.pass(ms(1));
    case.sweep().await;
    assert_eq!(case.record(first).await.state, State::Cancelled);
    let batch = [expiring("3"), expiring("4")];
    assert_eq!(case.enqueue_all(&batch).await, [Enqueued::Stored, Enqueued::Replaced(batch[0].id)]);
    case.pass(secs(15));
    case.sweep().await;
    assert_eq!(case.record(batch[0].id).await.state, State::Cancelled, "put off by the same batch");
}

/// A job in its group's line gets the payload of the one that replaces it, and keeps its place.
pub async fn a_job_in_its_groups_line_gets_the_payload_and_keeps_its_place(case: Case) {
    let rules = BTreeMap::from([(queue(), GroupRule::Concurrency(NonZeroU16::MIN).into())]);
    case.broker.set_group_rules(&case.tenant, &rules).await.expect("it succeeds");
    let member = |new: NewJob| {
        let options = JobOptions { group: Some(group("g")), ..new.options.clone() };
        NewJob { options, ..new }
    };
    let running = case.enqueue(member(case.new_job())).await;
    let waiting = case.enqueue(member(job(&case, replacing(), "old"))).await;
    let last = case.enqueue(member(case.new_job())).await;
    assert_eq!(case.record(waiting).await.state, State::Blocked);
    assert_eq!(answer(&case, member(job(&case, replacing(), "new"))).await, Enqueued::Replaced(waiting));
    assert_eq!(payload_of(&case, waiting).await, "new");
    for next in [running, waiting, last] {
        let token = case.lease_one().await;
        assert_eq!(token.job, next);
        case.applied(token, succeed()).await;
    }
}

/// A job of a flow neither replaces another job nor is replaced.
pub async fn jobs_of_flows_neither_replace_nor_are_replaced(case: Case) {
    let flow_of = |job: NewJob| {
        let name = FlowJobName::parse("only").expect("a valid name");
        Flow::new(vec![FlowJob { name, job, after: Vec::new(), takes_outputs: false }]).expect("a flow")
    };
    let waiting = case.enqueue(job(&case, replacing(), "old")).await;
    let newer = job(&case, replacing(), "new");
    let id = newer.id;
    assert_eq!(case.store_flow(&flow_of(newer)).await, FlowStored::Duplicate { job: id, holder: waiting });
    assert_eq!(payload_of(&case, waiting).await, "old");
    case.act(JobAction::Cancel, waiting).await;
    let of_flow = job(&case, replacing(), "of a flow");
    let id = of_flow.id;
    assert_eq!(case.store_flow(&flow_of(of_flow)).await, FlowStored::Stored);
    assert_eq!(answer(&case, job(&case, replacing(), "other")).await, Enqueued::Duplicate(id));
    assert_eq!(payload_of(&case, id).await, "of a flow");
}
