//! Jobs that wait can be edited: payload, priority and time.

use std::collections::BTreeMap;
use std::num::NonZeroU16;
use std::time::Duration;

use sandhog_core::budget::Bytes;
use sandhog_core::edit::{Due, Edited, JobEdit};
use sandhog_core::flow::{After, Flow, FlowJob, OnFailure};
use sandhog_core::group::{GroupRule, OnDead};
use sandhog_core::id::{FlowJobName, JobId};
use sandhog_core::job::{JobOptions, NewJob, Priority, State};
use sandhog_core::quota::{PayloadExcess, QueueBounds, QueueExcess};
use sandhog_core::unique::{Debounce, OnClash, UniqueRule};

use super::case::Case;
use super::script::{bury, group, ms, queue, retry, secs, succeed, unique};
use super::waking::{hear_of, listen};
use crate::{Enqueued, FlowStored, JobAction};

fn payload(text: &str) -> JobEdit {
    JobEdit { payload: Some(text.into()), ..JobEdit::default() }
}

fn priority(priority: u8) -> JobEdit {
    JobEdit { priority: Some(Priority(priority)), ..JobEdit::default() }
}

fn due(after: Duration) -> JobEdit {
    JobEdit { due: Some(Due::After(after)), ..JobEdit::default() }
}

impl Case {
    async fn edit_within(&self, job: JobId, edit: &JobEdit, bounds: &QueueBounds) -> Edited {
        self.broker.edit(&self.tenant, job, edit, bounds).await.expect("an edit succeeds")
    }

    async fn edit(&self, job: JobId, edit: &JobEdit) -> Edited {
        self.edit_within(job, edit, &QueueBounds::default()).await
    }

    /// Edits a job to which it can be done.
    async fn edited(&self, job: JobId, edit: JobEdit) {
        assert_eq!(self.edit(job, &edit).await, Edited::Done);
    }

    async fn rule(&self, rule: GroupRule) {
        let rules = BTreeMap::from([(queue(), rule.into())]);
        self.broker.set_group_rules(&self.tenant, &rules).await.expect("it succeeds");
    }

    async fn payload_of(&self, job: JobId) -> Vec<u8> {
        self.record(job).await.payload
    }
}

fn one_at_once() -> GroupRule {
    GroupRule::Concurrency(NonZeroU16::MIN)
}

fn member(case: &Case) -> NewJob {
    NewJob { options: JobOptions { group: Some(group("acme")), ..JobOptions::default() }, ..case.new_job() }
}

/// The payload of a waiting job can be replaced, and the next lease has the new one.
pub async fn a_waiting_job_gets_another_payload(case: Case) {
    let ready = case.enqueue(case.new_job()).await;
    let later = case.enqueue(NewJob { delay: secs(5), ..case.new_job() }).await;
    let other = case.enqueue(case.new_job()).await;
    case.edited(ready, payload("a longer one than before")).await;
    case.edited(later, payload("")).await;
    assert_eq!(case.payload_of(ready).await, b"a longer one than before");
    assert_eq!(case.payload_of(other).await, b"{}");
    case.pass(secs(5));
    let leased: Vec<_> =
        case.lease(9).await.into_iter().map(|lease| (lease.token.job, lease.job.payload)).collect();
    let expected = [(ready, &b"a longer one than before"[..]), (other, b"{}"), (later, b"")];
    assert_eq!(leased, expected.map(|(job, payload)| (job, payload.to_vec())));
}

/// A leased or final job can't be edited, and stays unchanged.
pub async fn what_runs_or_is_final_cannot_be_edited(case: Case) {
    let token = case.leased_job().await;
    let edits = [payload("x"), priority(7), due(Duration::ZERO), due(secs(1)), JobEdit::default()];
    let refused = async |state| {
        let before = case.record(token.job).await;
        for edit in &edits {
            assert_eq!(case.edit(token.job, edit).await, Edited::Not(state), "{edit:?}");
        }
        assert_eq!(case.record(token.job).await, before);
    };
    refused(State::Leased).await;
    case.applied(token, bury()).await;
    refused(State::Dead).await;
    case.act(JobAction::Remove, token.job).await;
    for edit in &edits {
        assert_eq!(case.edit(token.job, edit).await, Edited::Unknown);
    }
}

/// A ready job moves to its place by the new priority. Jobs of the same priority stay in order of arrival.
pub async fn a_ready_job_goes_by_its_new_priority(case: Case) {
    let ids = case.enqueue_n(5).await;
    case.edited(ids[3], priority(200)).await;
    case.edited(ids[1], priority(200)).await;
    case.edited(ids[0], priority(7)).await;
    assert_eq!(case.record(ids[0]).await.priority, Priority(7));
    assert_eq!(case.list(State::Ready).await, [ids[1], ids[3], ids[2], ids[4], ids[0]]);
    case.edited(ids[3], priority(100)).await;
    assert_eq!(case.drain().await, [ids[1], ids[2], ids[3], ids[4], ids[0]]);
}

/// A scheduled job with a new priority keeps its time. The priority takes effect once the job is ready.
pub async fn a_scheduled_job_keeps_its_time_with_another_priority(case: Case) {
    let due = NewJob { delay: secs(5), ..case.new_job() };
    let ids = [case.enqueue(due.clone()).await, case.enqueue(NewJob { id: case.new_job().id, ..due }).await];
    case.edited(ids[1], priority(101)).await;
    assert_eq!(case.list(State::Scheduled).await, ids);
    case.pass(secs(5) - ms(1));
    assert_eq!(case.drain().await, []);
    case.pass(ms(1));
    assert_eq!(case.drain().await, [ids[1], ids[0]]);
}

/// The time of a scheduled job can be changed: to some time from now, to a point in time, or to now.
pub async fn a_scheduled_job_can_be_put_off_or_brought_forward(case: Case) {
    let id = case.enqueue(NewJob { delay: secs(60), ..case.new_job() }).await;
    case.edited(id, due(secs(100))).await;
    assert_eq!(case.record(id).await.due_at, Some(case.now().after(secs(100))));
    let at = case.now().after(secs(10));
    case.edited(id, JobEdit { due: Some(Due::At(at)), ..JobEdit::default() }).await;
    assert_eq!((case.state_of(id).await, case.record(id).await.due_at), (State::Scheduled, Some(at)));
    case.pass(secs(10));
    let leases = case.lease(1).await;
    assert_eq!(leases[0].token.job, id);
    case.applied(leases[0].token, retry(secs(60))).await;
    let over = JobEdit { due: Some(Due::At(at)), ..JobEdit::default() };
    case.edited(id, over).await;
    let record = case.record(id).await;
    assert_eq!((record.state, record.attempts, record.due_at), (State::Ready, 1, None));
    assert_eq!(case.drain().await, [id]);
}

/// A ready job that is put off becomes scheduled. Once it is due it goes behind the ready ones.
pub async fn a_ready_job_can_be_put_off(case: Case) {
    let ids = case.enqueue_n(2).await;
    case.edited(ids[0], due(Duration::ZERO)).await;
    assert_eq!(case.list(State::Ready).await, ids, "it is due already");
    case.edited(ids[0], due(secs(5))).await;
    assert_eq!(case.state_of(ids[0]).await, State::Scheduled);
    assert_eq!(case.list(State::Ready).await, ids[1..]);
    assert_eq!(case.sweep().await.next_due, Some(secs(5)));
    case.pass(secs(5));
    assert_eq!(case.drain().await, [ids[1], ids[0]]);
}

/// An edited job that has lost a lease stays a suspect: it is handed out only if suspects are asked for.
pub async fn a_suspect_stays_one(case: Case) {
    let token = case.leased_job().await;
    case.pass(super::case::TTL);
    case.sweep().await;
    assert_eq!(case.record(token.job).await.expiries, 1);
    case.edited(token.job, JobEdit { due: Some(Due::After(secs(5))), ..priority(7) }).await;
    case.pass(secs(5));
    case.sweep().await;
    let queues = [(queue(), 9)];
    let ask = crate::LeaseAsk { suspects: 0, ..case.asking(&queues) };
    assert_eq!(case.lease_as(ask).await.leases, [], "no suspects are asked for");
    assert_eq!(case.drain().await, [token.job]);
}

/// An edit is applied as a whole or not at all. A payload over its bounds leaves priority and time unchanged too.
pub async fn an_edit_is_done_as_a_whole_or_not_at_all(case: Case) {
    let id = case.enqueue(NewJob { payload: b"12345".to_vec(), ..case.new_job() }).await;
    let seal = case.seal;
    let bounds = |payload: u64, bytes: u64| QueueBounds {
        payload: Bytes(payload),
        bytes: Bytes(bytes + seal),
        ..QueueBounds::NONE
    };
    let whole = |text: &str| JobEdit { due: Some(Due::After(secs(5))), ..priority(7) }.with(text);
    let before = case.record(id).await;
    let too_large = case.edit_within(id, &whole("123456"), &bounds(5, 99)).await;
    assert_eq!(too_large, Edited::Excess(PayloadExcess::TooLarge));
    let full = case.edit_within(id, &whole("123456"), &bounds(99, 5)).await;
    assert_eq!(full, Edited::Excess(PayloadExcess::Full(QueueExcess::Bytes)));
    assert_eq!(case.record(id).await, before);
    assert_eq!(case.edit_within(id, &whole("1234567"), &bounds(99, 7)).await, Edited::Done);
    let after = case.record(id).await;
    assert_eq!((after.priority, after.state), (Priority(7), State::Scheduled));
    assert_eq!(after.payload, b"1234567");
    let shorter = case.edit_within(id, &whole("1"), &bounds(99, 1)).await;
    assert_eq!(shorter, Edited::Done, "one that is shorter is always taken");
    let more = case.enqueue_within(&[case.new_job()], &bounds(99, 1 + 2 + seal)).await;
    assert_eq!(more, [Enqueued::Stored], "what is counted is what waits");
}

trait With {
    fn with(self, payload: &str) -> Self;
}

impl With for JobEdit {
    fn with(self, payload: &str) -> Self {
        Self { payload: Some(payload.into()), ..self }
    }
}

/// A job that waits in its group's line moves by its new priority, in order of arrival among those of the same priority.
pub async fn a_job_in_its_groups_line_moves_by_its_priority(case: Case) {
    case.rule(one_at_once()).await;
    let jobs = [(); 5].map(|()| member(&case));
    let ids = jobs.each_ref().map(|job| job.id);
    case.enqueue_all(&jobs).await;
    case.edited(ids[3], priority(200)).await;
    case.edited(ids[2], priority(200)).await;
    case.edited(ids[1], priority(7).with("new")).await;
    assert_eq!(case.list(State::Blocked).await, ids[1..], "the list is in the order in which they came");
    let mut gone = Vec::new();
    while let Some(lease) = case.lease(9).await.pop() {
        gone.push(lease.token.job);
        case.applied(lease.token, succeed()).await;
    }
    assert_eq!(gone, [ids[0], ids[2], ids[3], ids[4], ids[1]]);
}

/// An edit doesn't move a job of a strictly ordered group. The time of one that waits in line can't be changed.
pub async fn an_edit_changes_nothing_about_a_strict_order(case: Case) {
    case.rule(GroupRule::Strict(OnDead::Hold)).await;
    let jobs = [(); 3].map(|()| member(&case));
    let ids = jobs.each_ref().map(|job| job.id);
    case.enqueue_all(&jobs).await;
    case.edited(ids[2], priority(255).with("third")).await;
    for time in [Duration::ZERO, secs(5)] {
        assert_eq!(case.edit(ids[1], &due(time)).await, Edited::Not(State::Blocked));
    }
    case.edited(ids[0], due(secs(5))).await;
    assert_eq!(case.drain().await, [], "the first one keeps its turn while it is put off");
    case.pass(secs(5));
    for id in ids {
        let leases = case.lease(9).await;
        assert_eq!(leases.iter().map(|lease| lease.token.job).collect::<Vec<_>>(), [id]);
        case.applied(leases[0].token, succeed()).await;
    }
}

/// A job of a group with a limit on concurrency gives its turn to the next one when it is put off, and gets in line again when
/// it is due.
pub async fn a_job_that_is_put_off_gives_its_turn_up(case: Case) {
    case.rule(one_at_once()).await;
    let jobs = [member(&case), member(&case)];
    let ids = jobs.each_ref().map(|job| job.id);
    case.enqueue_all(&jobs).await;
    case.edited(ids[0], due(secs(5))).await;
    assert_eq!([case.state_of(ids[0]).await, case.state_of(ids[1]).await], [State::Scheduled, State::Ready]);
    case.pass(secs(5));
    case.sweep().await;
    assert_eq!(case.state_of(ids[0]).await, State::Blocked, "it gets in line when it is due");
}

/// An edited job keeps its unique key, even if the key was made from the payload that is replaced.
pub async fn a_unique_key_stays_with_its_job(case: Case) {
    let keyed = |text: &str| NewJob { unique_key: unique("k"), payload: text.into(), ..case.new_job() };
    let first = case.enqueue(keyed(r#"{"order":1}"#)).await;
    case.edited(first, payload(r#"{"order":2}"#)).await;
    assert_eq!(case.record(first).await.unique_key, unique("k"));
    assert_eq!(case.enqueue_all(&[keyed(r#"{"order":1}"#)]).await, [Enqueued::Duplicate(first)]);
    case.applied(case.lease_one().await, succeed()).await;
    case.enqueue(keyed("{}")).await;
}

/// An edited job is still replaced or debounced by a later one with its unique key, and loses what was edited.
pub async fn an_edited_job_is_replaced_and_debounced_as_before(case: Case) {
    let of = |rule: UniqueRule, text: &str| NewJob {
        unique_key: unique("k"),
        options: JobOptions { unique: rule, ..JobOptions::default() },
        payload: text.into(),
        ..case.new_job()
    };
    let replacing = UniqueRule { on_clash: OnClash::Replace, ..UniqueRule::default() };
    let first = case.enqueue(of(replacing, "1")).await;
    case.edited(first, payload("edited")).await;
    assert_eq!(case.payload_of(first).await, b"edited");
    assert_eq!(case.enqueue_all(&[of(replacing, "2")]).await, [Enqueued::Replaced(first)]);
    assert_eq!(case.payload_of(first).await, b"2");
    case.act(JobAction::Cancel, first).await;

    let trailing = UniqueRule::trailing(Debounce::new(secs(10), secs(60)).expect("the delay is shorter"));
    let event = |text: &str| NewJob { delay: secs(10), ..of(trailing, text) };
    let second = case.enqueue(event("a")).await;
    case.edited(second, due(secs(1000)).with("edited")).await;
    assert_eq!(case.enqueue_all(&[event("b")]).await, [Enqueued::Replaced(second)]);
    let record = case.record(second).await;
    assert_eq!((record.payload, record.due_at), (b"b".to_vec(), Some(case.now().after(secs(10)))));
}

/// A job that waits for others of its flow can get another payload and priority. It has no time to be changed until it is
/// unblocked.
pub async fn a_job_that_waits_for_others_of_its_flow_can_be_edited(case: Case) {
    let name = |text: &str| FlowJobName::parse(text).expect("a valid name");
    let after = vec![After { job: name("first"), on_failure: OnFailure::Fail }];
    let job =
        |text: &str, after| FlowJob { name: name(text), job: case.new_job(), after, takes_outputs: false };
    let flow = Flow::new(vec![job("first", Vec::new()), job("second", after)]).expect("a valid flow");
    assert_eq!(case.store_flow(&flow).await, FlowStored::Stored);
    let ids: Vec<JobId> = flow.jobs().map(|job| job.id).collect();
    assert_eq!(case.edit(ids[1], &due(secs(5))).await, Edited::Not(State::Blocked));
    case.edited(ids[1], priority(200).with("new")).await;
    assert_eq!(case.record(ids[1]).await.waits_for, [ids[0]]);
    let plain = case.enqueue(case.new_job()).await;
    let leases = case.lease(1).await;
    assert_eq!(leases[0].token.job, ids[0]);
    case.applied(leases[0].token, succeed()).await;
    let leases = case.lease(9).await;
    let leased: Vec<_> = leases.iter().map(|lease| (lease.token.job, &lease.job.payload[..])).collect();
    assert_eq!(leased, [(ids[1], &b"new"[..]), (plain, b"{}")]);
}

/// The time by which a job has to start moves along when it is put off, and stays when it is brought forward.
pub async fn a_job_that_is_put_off_may_start_later_by_as_much(case: Case) {
    let options = JobOptions { start_within: Some(secs(20)), ..JobOptions::default() };
    let job = NewJob { delay: secs(10), options, ..case.new_job() };
    let (late, early) =
        (case.enqueue(job.clone()).await, case.enqueue(NewJob { id: case.new_job().id, ..job }).await);
    case.edited(late, due(secs(25))).await;
    case.edited(early, due(secs(1))).await;
    case.pass(secs(20) - ms(1));
    case.sweep().await;
    assert_eq!([case.state_of(late).await, case.state_of(early).await], [State::Scheduled, State::Ready]);
    case.pass(ms(1));
    case.sweep().await;
    assert_eq!([case.state_of(late).await, case.state_of(early).await], [State::Scheduled, State::Cancelled]);
    case.pass(secs(15));
    case.sweep().await;
    assert_eq!(case.state_of(late).await, State::Cancelled, "15 seconds later than it would have been");
}

/// A job that is brought forward wakes listeners, which may sleep until its former time.
pub async fn a_job_that_is_brought_forward_wakes(case: Case) {
    let id = case.enqueue(NewJob { delay: secs(60), ..case.new_job() }).await;
    let mut wakes = listen(&case, &[&case.tenant]).await;
    case.edited(id, due(secs(5))).await;
    hear_of(&mut wakes, &case.tenant).await;
    case.edited(id, due(Duration::ZERO)).await;
    hear_of(&mut wakes, &case.tenant).await;
    assert_eq!(case.drain().await, [id]);
}

/// A job of another tenant is unknown to an edit, and stays unchanged.
pub async fn a_job_of_another_tenant_is_edited_by_nobody_else(case: Case) {
    let id = case.enqueue(case.new_job()).await;
    let other = case.of_another_tenant();
    assert_eq!(other.edit(id, &payload("x")).await, Edited::Unknown);
    assert_eq!(case.payload_of(id).await, b"{}");
}
