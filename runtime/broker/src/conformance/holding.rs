//! Holds: what is held back isn't leased, however it came to wait, and until exactly when the hold ends.

use std::time::Duration;

use sandhog_core::hold::{HOLDS_MAX, Hold, HoldEnd, HoldReason, HoldScope, NewHold};
use sandhog_core::id::{JobId, Kind, QueueName};
use sandhog_core::job::{NewJob, State};

use super::case::Case;
use super::script::{bury, ms, queue, queue_named, release, renew, retry, secs, succeed};
use super::waking::{hear_of, listen};
use crate::{Changed, Command, HoldOutcome, JobAction, LaneAsk, LeaseAsk, Outcome, Renewal};

fn kind(name: &str) -> Kind {
    Kind::parse(name).expect("a valid kind")
}

/// A queue, a kind, both or neither.
fn scope(queue: Option<&str>, of_kind: Option<&str>) -> HoldScope {
    HoldScope { queue: queue.map(queue_named), kind: of_kind.map(kind) }
}

async fn hold(case: &Case, new: NewHold) {
    assert_eq!(case.broker.hold(&case.tenant, new).await.expect("a hold succeeds"), HoldOutcome::Held);
}

async fn pause(case: &Case, scope: HoldScope) {
    hold(case, NewHold::pause(scope)).await;
}

async fn lift(case: &Case, scope: HoldScope) -> HoldOutcome {
    case.broker.lift(&case.tenant, scope).await.expect("it succeeds")
}

async fn holds(case: &Case) -> Vec<Hold> {
    case.broker.holds(&case.tenant).await.expect("a look succeeds")
}

/// One job of each of two kinds in each of two queues.
async fn jobs(case: &Case) -> [JobId; 4] {
    let mut ids = Vec::new();
    for (in_queue, of_kind) in [("mail", "send"), ("mail", "sort"), ("other", "send"), ("other", "sort")] {
        let job = NewJob { queue: queue_named(in_queue), kind: kind(of_kind), ..case.new_job() };
        ids.push(case.enqueue(job).await);
    }
    ids.try_into().expect("four were made")
}

/// Leases all that is to be had, as a daemon does that serves every kind and asks for each lane that there is.
async fn leased(case: &Case) -> Vec<JobId> {
    let queues = [(queue_named("mail"), 99), (queue_named("other"), 99)];
    let mut ids = Vec::new();
    // The lanes that the first ask makes are known to the second.
    for _ in 0..2 {
        let lanes = case.broker.lanes(&case.tenant).await.expect("a look succeeds").lanes;
        let ask = |(queue, kind): (QueueName, Kind)| LaneAsk::new(queue, kind, 99);
        let lanes: Vec<LaneAsk> = lanes.into_iter().map(ask).collect();
        let ask = LeaseAsk { lanes: &lanes, suspects: u32::MAX, ..case.asking(&queues) };
        ids.extend(case.lease_as(ask).await.leases.into_iter().map(|lease| lease.token.job));
    }
    ids
}

/// A hold keeps exactly the jobs of its scope from being leased: those of a queue, of a kind, of a kind in one queue, or all.
pub async fn what_a_hold_covers_is_not_leased_and_all_else_is(case: Case) {
    for (held, free) in [
        (scope(Some("mail"), None), vec![2, 3]),
        (scope(None, Some("send")), vec![1, 3]),
        (scope(Some("mail"), Some("send")), vec![1, 2, 3]),
        (scope(None, None), vec![]),
    ] {
        let case = case.of_another_tenant();
        let ids = jobs(&case).await;
        pause(&case, held.clone()).await;
        let free: Vec<JobId> = free.into_iter().map(|nth: usize| ids[nth]).collect();
        assert_eq!(leased(&case).await, free, "{held}");
        assert_eq!(lift(&case, held.clone()).await, HoldOutcome::Lifted);
        let rest: Vec<JobId> = ids.into_iter().filter(|id| !free.contains(id)).collect();
        assert_eq!(leased(&case).await, rest, "{held}, in the order in which they came");
    }
}

/// Held jobs don't delay those behind them, even if there are many.
pub async fn held_jobs_are_in_nobodys_way(case: Case) {
    pause(&case, scope(None, Some("send"))).await;
    for _ in 0..40 {
        case.enqueue(NewJob { kind: kind("send"), ..case.new_job() }).await;
    }
    let free = case.enqueue(NewJob { kind: kind("sort"), ..case.new_job() }).await;
    assert_eq!(case.lease_one().await.job, free);
}

/// A hold applies to one tenant only.
pub async fn a_hold_is_of_one_tenant(case: Case) {
    let other = case.of_another_tenant();
    pause(&case, scope(None, None)).await;
    other.enqueue(other.new_job()).await;
    other.lease_one().await;
    assert_eq!(holds(&other).await, []);
}

/// A job that is leased already goes on under a hold: its lease can be renewed and settled.
pub async fn what_runs_goes_on_while_it_is_held(case: Case) {
    let token = case.leased_job().await;
    pause(&case, scope(None, None)).await;
    assert_eq!(case.renew(renew(token)).await, Renewal::Held);
    case.applied(token, succeed()).await;
    assert_eq!(case.state_of(token.job).await, State::Succeeded);
}

/// Jobs that come to a held queue wait there, whether they are new, due, retried, released or redriven.
pub async fn what_comes_to_a_held_queue_waits_there(case: Case) {
    let mut held = Vec::new();
    for end in [retry(Duration::ZERO), release(Duration::ZERO), retry(secs(1)), bury()] {
        let token = case.leased_job().await;
        held.push(token);
        pause(&case, scope(Some(queue().as_str()), None)).await;
        case.applied(token, end).await;
        lift(&case, scope(Some(queue().as_str()), None)).await;
        pause(&case, scope(Some("default"), None)).await;
        assert_eq!(case.lease(9).await.len(), 0, "it came back, and is held");
        // Out of the way of the next one.
        case.act(JobAction::Cancel, token.job).await;
        lift(&case, scope(Some("default"), None)).await;
    }
    pause(&case, scope(Some("default"), None)).await;
    assert_eq!(case.act(JobAction::Redrive, held[3].job).await, Changed::Done);
    let new = case.enqueue(case.new_job()).await;
    let due = case.enqueue(NewJob { delay: secs(1), ..case.new_job() }).await;
    let now = case.enqueue(NewJob { delay: secs(60), ..case.new_job() }).await;
    assert_eq!(case.act(JobAction::RunNow, now).await, Changed::Done);
    case.pass(secs(1));
    assert_eq!(case.lease(9).await.len(), 0);
    assert_eq!(case.state_of(due).await, State::Ready, "its time has come all the same");
    lift(&case, scope(Some("default"), None)).await;
    assert_eq!(case.drain().await, [held[3].job, new, now, due]);
}

/// A hold ends at its time, to the millisecond, even if nobody sweeps.
pub async fn a_hold_ends_at_its_time(case: Case) {
    let id = case.enqueue(case.new_job()).await;
    let end = HoldEnd::After(secs(60));
    hold(&case, NewHold { end, ..NewHold::pause(scope(Some("default"), None)) }).await;
    let queues = [(queue(), 9)];
    case.pass(secs(60) - ms(1));
    let told = case.lease_as(case.asking(&queues)).await;
    assert_eq!((told.leases.len(), told.next_due), (0, Some(ms(1))), "the janitor knows when");
    case.pass(ms(1));
    assert_eq!(holds(&case).await, []);
    let leases = case.lease_as(case.asking(&queues)).await.leases;
    assert_eq!(leases.len(), 1);
    assert_eq!(leases[0].token.job, id);
}

/// A hold can end at a point in time as well as after a time from now.
pub async fn a_hold_may_end_at_a_time_of_day(case: Case) {
    let end = HoldEnd::At(case.now().after(secs(5)));
    hold(&case, NewHold { end, ..NewHold::pause(scope(None, None)) }).await;
    assert_eq!(case.sweep().await.next_due, Some(secs(5)));
    assert_eq!(holds(&case).await[0].until, Some(case.now().after(secs(5))));
}

/// The end of a hold wakes listeners, whether it is lifted or its time is over.
pub async fn the_end_of_a_hold_wakes(case: Case) {
    case.enqueue(case.new_job()).await;
    let of_all = || scope(None, None);
    pause(&case, of_all()).await;
    let mut wakes = listen(&case, &[&case.tenant]).await;
    lift(&case, of_all()).await;
    hear_of(&mut wakes, &case.tenant).await;
    hold(&case, NewHold { end: HoldEnd::After(secs(1)), ..NewHold::pause(of_all()) }).await;
    hear_of(&mut wakes, &case.tenant).await;
    case.pass(secs(1));
    let swept = case.sweep().await;
    assert_eq!((swept.next_due, swept.has_ready), (None, true));
    hear_of(&mut wakes, &case.tenant).await;
}

/// A sweep doesn't report held jobs as ready, as a daemon would look for them in vain.
pub async fn held_jobs_are_no_ready_ones_to_a_sweep(case: Case) {
    case.enqueue(case.new_job()).await;
    for held in [scope(None, None), scope(Some("default"), None)] {
        pause(&case, held.clone()).await;
        assert!(!case.sweep().await.has_ready, "{held}");
        lift(&case, held).await;
        assert!(case.sweep().await.has_ready);
    }
}

/// A job under several holds waits until each of them is lifted.
pub async fn a_job_waits_for_all_its_holds(case: Case) {
    let ids = jobs(&case).await;
    pause(&case, scope(Some("mail"), None)).await;
    pause(&case, scope(None, Some("send"))).await;
    assert_eq!(leased(&case).await, [ids[3]]);
    assert_eq!(lift(&case, scope(Some("mail"), Some("send"))).await, HoldOutcome::NotHeld);
    lift(&case, scope(Some("mail"), None)).await;
    assert_eq!(leased(&case).await, [ids[1]]);
    lift(&case, scope(None, Some("send"))).await;
    assert_eq!(leased(&case).await, [ids[0], ids[2]]);
    assert_eq!(lift(&case, scope(None, Some("send"))).await, HoldOutcome::NotHeld);
}

/// Holds are listed with scope, reason, author, note, start and end.
pub async fn holds_are_listed_as_they_were_made(case: Case) {
    let made = case.now();
    let mail = NewHold {
        by: Some("ana".to_owned()),
        note: Some("provider is down: see \"ü\"".to_owned()),
        end: HoldEnd::After(secs(60)),
        ..NewHold::pause(scope(Some("mail"), Some("send")))
    };
    pause(&case, scope(None, Some("sort"))).await;
    hold(&case, mail).await;
    let expected = |by: Option<&str>, note: Option<&str>, until, scope| Hold {
        scope,
        reason: HoldReason::Paused,
        by: by.map(str::to_owned),
        since: made,
        until,
        note: note.map(str::to_owned),
    };
    let mail = scope(Some("mail"), Some("send"));
    let note = "provider is down: see \"ü\"";
    let listed = [
        expected(None, None, None, scope(None, Some("sort"))),
        expected(Some("ana"), Some(note), Some(made.after(secs(60))), mail),
    ];
    assert_eq!(holds(&case).await, listed);
}

/// A hold of the same scope replaces the one before. It keeps that one's start.
pub async fn holding_again_replaces_the_hold(case: Case) {
    let since = case.now();
    let ends = NewHold { end: HoldEnd::After(secs(5)), ..NewHold::pause(scope(Some("mail"), None)) };
    hold(&case, ends).await;
    case.pass(secs(4));
    let again = NewHold { by: Some("ben".to_owned()), ..NewHold::pause(scope(Some("mail"), None)) };
    hold(&case, again).await;
    case.pass(secs(10));
    let listed = holds(&case).await;
    assert_eq!(listed.len(), 1);
    assert_eq!((listed[0].since, listed[0].until), (since, None));
    assert_eq!(listed[0].by.as_deref(), Some("ben"));
}

/// A tenant has at most [`HOLDS_MAX`] holds; a further one is refused.
pub async fn a_tenant_has_a_bounded_number_of_holds(case: Case) {
    for nth in 0..HOLDS_MAX {
        pause(&case, scope(Some(&format!("q{nth}")), None)).await;
    }
    let one_more = Command::Hold(Box::new(NewHold::pause(scope(None, None))));
    let refused = case.broker.control(&case.tenant, one_more).await.expect("it answers");
    assert_eq!(refused, Outcome::Hold(HoldOutcome::TooMany));
    pause(&case, scope(Some("q0"), None)).await;
    lift(&case, scope(Some("q0"), None)).await;
    pause(&case, scope(None, None)).await;
    assert_eq!(holds(&case).await.len(), HOLDS_MAX);
}

/// An ask for a lane of a held kind is answered with nothing, and doesn't end the hold.
pub async fn asking_for_what_is_held_lifts_nothing(case: Case) {
    case.enqueue(NewJob { kind: kind("send"), ..case.new_job() }).await;
    pause(&case, scope(None, Some("send"))).await;
    let lanes = [LaneAsk::new(queue(), kind("send"), 9)];
    let queues = [(queue(), 9)];
    for _ in 0..2 {
        assert_eq!(case.lease_as(LeaseAsk { lanes: &lanes, ..case.asking(&queues) }).await.leases, []);
    }
    assert_eq!(holds(&case).await.len(), 1);
}

/// A purge removes the tenant's holds.
pub async fn a_purge_removes_holds(case: Case) {
    pause(&case, scope(None, None)).await;
    case.broker.purge(&case.tenant, usize::MAX).await.expect("a purge succeeds");
    assert_eq!(holds(&case).await, []);
    case.enqueue(case.new_job()).await;
    case.lease_one().await;
}
