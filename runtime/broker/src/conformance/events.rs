//! Events: each change of a job is told once, in order, to whoever wants it, and is not recorded for anybody else.

use std::collections::BTreeMap;
use std::num::NonZeroU16;
use std::time::Duration;

use sandhog_core::attempt::SettleReply;
use sandhog_core::event::{EventCursor, EventKeep, EventKind, EventPage, JobEvent};
use sandhog_core::flow::OnFailure;
use sandhog_core::group::GroupRule;
use sandhog_core::id::JobId;
use sandhog_core::job::{JobOptions, NewJob};
use sandhog_core::quota::StateQuota;
use sandhog_core::reason::Reason;

use super::case::{Case, EXPIRIES_MAX, TTL};
use super::script::{
    PLUGIN, bury, daemon, effects, group, key, ms, queue, ran, release, retry, secs, settle, succeed,
    succeed_with, usage,
};
use super::waking::{listen, next};
use crate::{Asker, Changed, Enqueued, JobAction, LeaseAsk, Settle, Wake};

/// For longer than any rule takes.
const KEEP: EventKeep = EventKeep { time: Duration::from_secs(24 * 60 * 60), max: 1000 };

async fn record(case: &Case) -> EventCursor {
    case.broker.record_events(&case.tenant, KEEP).await.expect("it succeeds")
}

async fn page(case: &Case, after: EventCursor, max: usize) -> EventPage {
    case.broker.events(&case.tenant, after, max).await.expect("a look succeeds")
}

/// What was told behind this place, all of it.
async fn told(case: &Case, after: EventCursor) -> Vec<JobEvent> {
    let page = page(case, after, 1000).await;
    assert!(!page.has_gap && !page.has_more);
    page.events
}

/// The kinds of events of a job, in order.
fn of(events: &[JobEvent], job: JobId) -> Vec<EventKind> {
    events.iter().filter(|event| event.job == job).map(|event| event.event).collect()
}

/// Each change of a job is recorded as one event, with its job, attempt and reason. Numbers follow each other without gaps.
pub async fn each_change_of_a_job_is_one_event(case: Case) {
    let start = record(&case).await;
    let options = JobOptions { group: Some(group("acme: {x} ü")), ..JobOptions::default() };
    let job = NewJob { options, ..case.new_job() };
    let id = case.enqueue(job.clone()).await;
    let mut expected = vec![(EventKind::Created, None, None)];
    for (settlement, event, attempt, reason) in [
        (release(Duration::ZERO), EventKind::Released, 1, Some(Reason::Drained)),
        (retry(Duration::ZERO), EventKind::Retried, 1, Some(Reason::Failed)),
        (retry(secs(1)), EventKind::Retried, 2, Some(Reason::Failed)),
        (succeed(), EventKind::Succeeded, 3, None),
    ] {
        let token = case.lease_one().await;
        case.applied(token, settlement).await;
        case.pass(secs(1));
        expected.push((EventKind::Started, Some(attempt), None));
        expected.push((event, Some(attempt), reason));
    }
    let events = told(&case, start).await;
    let seen: Vec<_> = events.iter().map(|event| (event.event, event.attempt, event.reason)).collect();
    assert_eq!(seen, expected);
    for event in &events {
        assert_eq!((event.job, &event.queue, &event.kind), (id, &job.queue, &job.kind));
        assert_eq!(event.group, job.options.group);
    }
    let numbers: Vec<u64> = events.iter().map(|event| event.cursor.0 - start.0).collect();
    assert_eq!(numbers, (1..=events.len() as u64).collect::<Vec<_>>(), "no number is left out");
    assert!(events.is_sorted_by_key(|event| event.at));
    assert_eq!(events.last().map(|event| Some(event.at)), Some(case.record(id).await.finished_at));
}

/// Each way in which a job ends is recorded, with its reason: also expiry, cancellation and lost leases.
pub async fn each_end_of_a_job_is_told(case: Case) {
    let start = record(&case).await;
    let within = JobOptions { start_within: Some(secs(5)), ..JobOptions::default() };
    let late = case.enqueue(NewJob { options: within, delay: secs(60), ..case.new_job() }).await;
    case.pass(secs(5));
    case.sweep().await;
    let waiting = case.enqueue(case.new_job()).await;
    assert_eq!(case.act(JobAction::Cancel, waiting).await, Changed::Done);
    let buried = case.leased_job().await;
    case.applied(buried, bury()).await;
    assert_eq!(case.act(JobAction::Redrive, buried.job).await, Changed::Done);
    let token = case.lease_one().await;
    assert_eq!(case.act(JobAction::Cancel, token.job).await, Changed::Requested);
    case.applied(token, retry(secs(1))).await;
    let lost = case.leased_job().await.job;
    for _ in 0..EXPIRIES_MAX {
        case.pass(TTL);
        case.lease_one().await;
    }
    case.pass(TTL);
    case.sweep().await;
    let events = told(&case, start).await;
    let created = EventKind::Created;
    assert_eq!(of(&events, late), [created, EventKind::Cancelled]);
    assert_eq!(of(&events, waiting), [created, EventKind::Cancelled]);
    assert_eq!(
        of(&events, token.job),
        [
            created,
            EventKind::Started,
            EventKind::Dead,
            EventKind::Redriven,
            EventKind::Started,
            EventKind::Cancelled
        ]
    );
    let mut expired = vec![created];
    (0..EXPIRIES_MAX).for_each(|_| expired.extend([EventKind::Started, EventKind::LeaseExpired]));
    expired.extend([EventKind::Started, EventKind::Dead]);
    assert_eq!(of(&events, lost), expired);
    let ends = events.iter().filter(|event| event.event.is_final());
    let reasons: Vec<_> = ends.map(|event| (event.reason, event.attempt)).collect();
    assert_eq!(
        reasons,
        [
            (Some(Reason::Expired), None),
            (Some(Reason::Cancelled), None),
            (Some(Reason::OutOfFuel), Some(1)),
            (Some(Reason::Cancelled), Some(1)),
            (Some(Reason::LeaseExpired), Some(1)),
        ]
    );
}

/// Events are in the order in which the store made the changes. Jobs that a run enqueues come behind the end of its own job.
pub async fn events_are_in_the_order_of_the_changes(case: Case) {
    let start = record(&case).await;
    let ids = case.enqueue_n(3).await;
    let leases = case.lease(3).await;
    let child = case.new_job();
    let run = succeed_with(effects(|effects| effects.enqueue(child.clone())));
    let (first, second) = (settle(leases[2].token, run), settle(leases[0].token, retry(secs(1))));
    assert_eq!(case.settle_all(&[first, second]).await, [SettleReply::Applied, SettleReply::Applied]);
    let events: Vec<_> = told(&case, start).await.into_iter().map(|event| (event.event, event.job)).collect();
    let mut expected: Vec<_> = ids.iter().map(|id| (EventKind::Created, *id)).collect();
    expected.extend(ids.iter().map(|id| (EventKind::Started, *id)));
    expected.push((EventKind::Succeeded, ids[2]));
    expected.push((EventKind::Created, child.id));
    expected.push((EventKind::Retried, ids[0]));
    assert_eq!(events, expected);
}

/// Nothing is recorded before somebody asks for events, and what happened until then isn't recorded later.
pub async fn nothing_is_recorded_that_nobody_wants(case: Case) {
    let token = case.leased_job().await;
    assert_eq!(page(&case, EventCursor::START, 9).await, EventPage::of(EventCursor::START, None, 0, vec![]));
    let start = record(&case).await;
    assert_eq!(told(&case, start).await, []);
    assert_eq!(told(&case, EventCursor::START).await, []);
    case.applied(token, succeed()).await;
    let events = told(&case, EventCursor::START).await;
    assert_eq!(of(&events, token.job), [EventKind::Succeeded]);
}

/// Recording stops once nobody has asked for events within the keep time. A reader that comes later is told of a gap.
pub async fn events_are_recorded_until_nobody_has_asked_for_them_in_a_while(case: Case) {
    let start = record(&case).await;
    case.enqueue_n(1).await;
    case.pass(KEEP.time - ms(1));
    record(&case).await;
    case.pass(secs(60));
    case.enqueue_n(1).await;
    let read = told(&case, start).await;
    assert_eq!(read.len(), 2, "none is swept yet");
    let last = read[1].cursor;
    case.pass(KEEP.time - secs(60) - ms(1));
    let page_after = async |after| page(&case, after, 9).await;
    assert!(!page_after(last).await.has_gap, "to the last millisecond");
    case.pass(ms(1));
    for sweeps in [false, true] {
        if sweeps {
            case.sweep().await;
        }
        let page = page_after(last).await;
        assert_eq!((page.events, page.next, page.has_gap), (vec![], EventCursor::START, true));
    }
    case.enqueue_n(1).await;
    let again = record(&case).await;
    assert!(again > last);
    assert_eq!(told(&case, again).await, []);
    assert!(page_after(last).await.has_gap, "what was not recorded in between is missed");
    let ids = case.enqueue_n(1).await;
    assert_eq!(of(&told(&case, again).await, ids[0]), [EventKind::Created]);
}

/// Pages of events follow each other without overlap, also while new ones are recorded.
pub async fn a_reader_goes_on_where_it_was(case: Case) {
    let start = record(&case).await;
    let ids = case.enqueue_n(5).await;
    let mut seen = Vec::new();
    let mut after = start;
    for (count, has_more) in [(2, true), (2, true), (1, false), (0, false)] {
        let page = page(&case, after, 2).await;
        assert_eq!((page.events.len(), page.has_more, page.has_gap), (count, has_more, false));
        seen.extend(page.events.iter().map(|event| event.job));
        after = page.next;
    }
    assert_eq!(seen, ids);
    case.enqueue_n(1).await;
    assert_eq!(told(&case, after).await.len(), 1);
}

/// The latest events are kept, up to the maximum that was asked for. A slow reader is told of a gap, and goes on with the first
/// that is kept.
pub async fn no_more_events_are_kept_than_that(case: Case) {
    let keep = EventKeep { max: 3, ..KEEP };
    let start = case.broker.record_events(&case.tenant, keep).await.expect("it succeeds");
    let mut ids = case.enqueue_n(3).await;
    assert!(!page(&case, start, 9).await.has_gap);
    ids.extend(case.enqueue_n(2).await);
    let late = page(&case, start, 9).await;
    assert!(late.has_gap);
    assert_eq!(late.events.iter().map(|event| event.job).collect::<Vec<_>>(), ids[2..]);
    assert_eq!(page(&case, EventCursor(start.0 + 2), 9).await, EventPage { has_gap: false, ..late });
    let many = case.enqueue_n(10).await;
    let last = page(&case, EventCursor::START, 9).await;
    assert_eq!(last.events.iter().map(|event| event.job).collect::<Vec<_>>(), many[7..], "of one call");
    assert!(!last.has_gap, "it began with the first");
}

/// A sweep removes events that are older than the keep time, to the millisecond.
pub async fn events_go_when_they_are_old(case: Case) {
    let start = record(&case).await;
    case.enqueue_n(2).await;
    case.pass(KEEP.time / 2);
    record(&case).await;
    let later = case.enqueue_n(1).await;
    case.pass(KEEP.time / 2 - ms(1));
    record(&case).await;
    case.sweep().await;
    assert_eq!(told(&case, start).await.len(), 3);
    case.pass(ms(1));
    case.sweep().await;
    let page = page(&case, start, 9).await;
    assert!(page.has_gap);
    assert_eq!(page.events.iter().map(|event| event.job).collect::<Vec<_>>(), later);
}

/// A call that is repeated, after its answer was lost, records nothing twice.
pub async fn a_call_that_is_repeated_tells_nothing_twice(case: Case) {
    let start = record(&case).await;
    let job = case.new_job();
    for _ in 0..2 {
        assert_eq!(case.enqueue_all(std::slice::from_ref(&job)).await, [Enqueued::Stored]);
    }
    let queues = [(queue(), 1)];
    let mut leases = Vec::new();
    for repeats in [false, true] {
        let asker = Some(Asker { daemon: daemon(1), number: 1, repeats });
        leases.extend(case.lease_as(LeaseAsk { asker, ..case.asking(&queues) }).await.leases);
    }
    assert_eq!(leases.len(), 2);
    case.applied(leases[0].token, bury()).await;
    case.applied(leases[1].token, bury()).await;
    assert_eq!(
        of(&told(&case, start).await, job.id),
        [EventKind::Created, EventKind::Started, EventKind::Dead]
    );
    case.sweep().await;
    assert_eq!(told(&case, start).await.len(), 3, "a sweep that changes nothing tells nothing");
}

/// A refused call records nothing: a conflict, a full state, a stale token or an action that isn't possible.
pub async fn what_is_refused_is_no_event(case: Case) {
    let token = case.leased_job().await;
    let start = record(&case).await;
    let conflict = effects(|effects| effects.swap(key("n"), Some(b"7".to_vec()), b"8".to_vec(), None));
    let reply = case.settle(token, succeed_with(conflict)).await;
    assert!(matches!(reply, SettleReply::Conflict { .. }));
    let full = effects(|effects| effects.set(key("n"), b"8".to_vec(), None));
    let ran = crate::Ran {
        state_max: StateQuota { bytes: sandhog_core::budget::Bytes(0), keys: 0 },
        ..ran(PLUGIN, usage(1))
    };
    let reply = case.settle_with(Settle::of_run(token, ran, succeed_with(full))).await;
    assert!(matches!(reply, SettleReply::Full { .. }));
    assert_eq!(case.act(JobAction::Redrive, token.job).await, Changed::Not(case.state_of(token.job).await));
    assert_eq!(case.act(JobAction::Cancel, token.job).await, Changed::Requested);
    case.pass(TTL);
    case.sweep().await;
    assert_eq!(case.settle(token, succeed()).await, SettleReply::Lost);
    assert_eq!(of(&told(&case, start).await, token.job), [EventKind::Cancelled]);
}

/// A job of a flow has an event when it is unblocked, or when it ends as its parent has failed.
pub async fn a_job_of_a_flow_is_told_of_when_it_is_unblocked(case: Case) {
    let start = record(&case).await;
    let edge = ("first", OnFailure::Fail);
    let ids =
        case.flow(&[("first", &[]), ("second", &[edge]), ("third", &[("second", OnFailure::Fail)])]).await;
    case.applied(case.lease_one().await, succeed()).await;
    case.sweep().await;
    let token = case.lease_one().await;
    assert_eq!(token.job, ids[1]);
    case.applied(token, bury()).await;
    case.sweep().await;
    let events = told(&case, start).await;
    let (created, started) = (EventKind::Created, EventKind::Started);
    assert_eq!(of(&events, ids[0]), [created, started, EventKind::Succeeded]);
    assert_eq!(of(&events, ids[1]), [created, EventKind::Unblocked, started, EventKind::Dead]);
    assert_eq!(of(&events, ids[2]), [created, EventKind::Dead]);
    assert_eq!(events.last().and_then(|event| event.reason), Some(Reason::ParentFailed));
    let released = case.flow(&[("first", &[]), ("second", &[edge])]).await[1];
    assert_eq!(case.act(JobAction::RunNow, released).await, Changed::Done);
    assert_eq!(of(&told(&case, start).await, released), [created, EventKind::Unblocked]);
}

/// A job that waited in its group's line has an event when it gets its turn, behind the change that gave it. One that gets its
/// turn at once has none.
pub async fn a_job_of_a_group_is_told_of_when_it_gets_its_turn(case: Case) {
    let one = GroupRule::Concurrency(NonZeroU16::new(1).expect("it isn't 0"));
    let rules = BTreeMap::from([(queue(), one.into())]);
    case.broker.set_group_rules(&case.tenant, &rules).await.expect("it succeeds");
    let start = record(&case).await;
    let in_group = |job: NewJob| {
        let options = JobOptions { group: Some(group("acme")), ..JobOptions::default() };
        NewJob { options, ..job }
    };
    let jobs = [(); 3].map(|()| in_group(case.new_job()));
    let [first, second, third] = [0, 1, 2].map(|nth: usize| jobs[nth].id);
    case.enqueue_all(&jobs).await;
    let token = case.lease_one().await;
    case.applied(token, retry(secs(1))).await;
    assert_eq!(case.act(JobAction::Cancel, second).await, Changed::Done);
    let events: Vec<_> = told(&case, start).await.into_iter().map(|event| (event.event, event.job)).collect();
    let created = EventKind::Created;
    assert_eq!(
        events,
        [
            (created, first),
            (created, second),
            (created, third),
            (EventKind::Started, first),
            (EventKind::Retried, first),
            (EventKind::Unblocked, second),
            (EventKind::Cancelled, second),
            (EventKind::Unblocked, third),
        ]
    );
}

/// Each tenant has events of its own. A cursor of another tenant's events is answered with a gap.
pub async fn each_tenant_has_events_of_its_own(case: Case) {
    let other = case.of_another_tenant();
    let start = record(&case).await;
    case.enqueue_n(1).await;
    other.enqueue_n(1).await;
    assert_eq!(page(&other, EventCursor::START, 9).await.events, []);
    other.pass(ms(1));
    let of_other = record(&other).await;
    other.enqueue_n(3).await;
    assert_eq!(told(&case, start).await.len(), 1);
    assert_eq!(told(&other, of_other).await.len(), 3);
    let strayed = page(&case, EventCursor(of_other.0 + 2), 9).await;
    assert!(strayed.has_gap, "it leaves nothing out without saying so");
    assert_eq!(strayed.events.len(), 1);
}

/// A purge removes the tenant's events and ends their recording.
pub async fn a_purge_removes_events(case: Case) {
    let start = record(&case).await;
    case.enqueue_n(2).await;
    assert_eq!(case.broker.purge(&case.tenant, 100).await.expect("it succeeds"), 0);
    case.enqueue_n(1).await;
    let page = page(&case, start, 9).await;
    assert_eq!((page.events, page.has_gap), (vec![], true));
}

/// A recorded event wakes listeners, so that readers needn't poll.
pub async fn recorded_events_wake(case: Case) {
    let mut wakes = listen(&case, &[&case.tenant]).await;
    let start = record(&case).await;
    let token = case.leased_job().await;
    case.applied(token, succeed()).await;
    let mut after = start;
    let mut seen = Vec::new();
    while seen.len() < 3 {
        while next(&mut wakes).await != Wake::Events(case.tenant.clone()) {}
        let page = page(&case, after, 100).await;
        after = page.next;
        seen.extend(page.events.into_iter().map(|event| event.event));
    }
    assert_eq!(seen, [EventKind::Created, EventKind::Started, EventKind::Succeeded]);
}
