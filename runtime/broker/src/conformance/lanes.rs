//! Lanes: kinds that not every daemon serves, and limits that hold for the whole fleet.

use std::time::Duration;

use sandhog_core::id::{JobId, Kind, PluginName};
use sandhog_core::job::{Lease, NewJob, Priority};
use sandhog_core::reason::Reason;
use sandhog_core::settle::Settlement;

use super::case::{Case, TTL};
use super::script::{ms, plugin, queue, queue_named, retry, secs, succeed};
use super::waking::{hear_of, listen};
use crate::{FleetLimit, LANE_KEPT, LaneAsk, LeaseAsk};

fn kind(name: &str) -> Kind {
    Kind::parse(name).expect("a valid kind")
}

fn lane(name: &str, room: u32) -> LaneAsk {
    LaneAsk::new(queue(), kind(name), room)
}

fn limited(name: &str, room: u32, limit: &PluginName, most: u32) -> LaneAsk {
    LaneAsk { limit: Some(FleetLimit { name: limit.clone(), most }), ..lane(name, room) }
}

async fn job_of(case: &Case, name: &str) -> JobId {
    case.enqueue(NewJob { kind: kind(name), ..case.new_job() }).await
}

async fn lease(case: &Case, n: u32, lanes: &[LaneAsk]) -> Vec<Lease> {
    let queues = [(queue(), n)];
    case.lease_as(LeaseAsk { lanes, ..case.asking(&queues) }).await.leases
}

fn ids(leases: &[Lease]) -> Vec<JobId> {
    leases.iter().map(|lease| lease.token.job).collect()
}

/// Gives a job back as its daemon has no plugin for it.
async fn give_back(case: &Case, lease: &Lease) {
    let after = Duration::ZERO;
    case.applied(lease.token, Settlement::Release { after, reason: Reason::NoPlugin }).await;
}

/// A job that is given back for want of a plugin gets its kind a lane of its own, which is handed out only to those who ask for
/// it.
pub async fn a_kind_without_plugin_gets_a_lane_of_its_own(case: Case) {
    let unserved = job_of(&case, "new.kind").await;
    let leases = lease(&case, 1, &[]).await;
    give_back(&case, &leases[0]).await;
    let (also, served) = (job_of(&case, "new.kind").await, job_of(&case, "old.kind").await);
    assert_eq!(
        ids(&lease(&case, 9, &[]).await),
        [served],
        "those of the lane are nobody's who doesn't ask for it"
    );
    assert_eq!(ids(&lease(&case, 9, &[lane("new.kind", 9)]).await), [unserved, also]);
}

/// Jobs of the kind that wait already go to the new lane as well.
pub async fn jobs_that_wait_go_to_their_new_lane(case: Case) {
    let first = job_of(&case, "new.kind").await;
    let served = job_of(&case, "old.kind").await;
    let second = job_of(&case, "new.kind").await;
    let leases = lease(&case, 1, &[]).await;
    assert_eq!(ids(&leases), [first]);
    give_back(&case, &leases[0]).await;
    assert_eq!(ids(&lease(&case, 9, &[]).await), [served]);
    assert_eq!(ids(&lease(&case, 9, &[lane("new.kind", 9)]).await), [second, first]);
}

/// Jobs of a queue and its lanes are handed out in one order, as if there were no lanes.
pub async fn a_queue_and_its_lanes_go_in_one_order(case: Case) {
    lease(&case, 0, &[lane("a", 1), lane("b", 1)]).await;
    let mut jobs = Vec::new();
    for name in ["a", "plain", "b", "plain", "a"] {
        jobs.push(job_of(&case, name).await);
    }
    let urgent = NewJob { kind: kind("b"), priority: Priority(200), ..case.new_job() };
    let urgent = case.enqueue(urgent).await;
    let lanes = [lane("a", 9), lane("b", 9)];
    assert_eq!(ids(&lease(&case, 3, &lanes).await), [urgent, jobs[0], jobs[1]]);
    assert_eq!(ids(&lease(&case, 9, &lanes).await), jobs[2..]);
}

/// A lane hands out at most as many jobs as the ask has room for; other jobs of the queue aren't held up.
pub async fn a_lane_hands_out_no_more_than_its_room(case: Case) {
    let narrow = [job_of(&case, "narrow").await, job_of(&case, "narrow").await];
    let wide = job_of(&case, "wide").await;
    assert_eq!(ids(&lease(&case, 9, &[lane("narrow", 1)]).await), [narrow[0], wide]);
    assert_eq!(ids(&lease(&case, 9, &[lane("narrow", 0)]).await), []);
    assert_eq!(ids(&lease(&case, 9, &[lane("narrow", 1)]).await), [narrow[1]]);
}

/// A limit counts the leases of all daemons, over all kinds of its plugin.
pub async fn a_limit_holds_for_the_whole_fleet(case: Case) {
    let mut jobs = Vec::new();
    for name in ["a", "b", "a", "b"] {
        jobs.push(job_of(&case, name).await);
    }
    let lanes = [limited("a", 9, &plugin("p"), 2), limited("b", 9, &plugin("p"), 2)];
    let held = lease(&case, 9, &lanes).await;
    assert_eq!(ids(&held), jobs[..2]);
    assert_eq!(ids(&lease(&case, 9, &lanes).await), []);
    case.applied(held[0].token, succeed()).await;
    assert_eq!(ids(&lease(&case, 9, &lanes).await), [jobs[2]]);
    let wider = [limited("a", 9, &plugin("p"), 3), limited("b", 9, &plugin("p"), 3)];
    assert_eq!(ids(&lease(&case, 9, &wider).await), [jobs[3]], "the limit is as the asker says");
}

/// A daemon with a lower limit than others waits until fewer jobs are leased than it allows.
pub async fn a_lower_limit_is_waited_for(case: Case) {
    let mut jobs = Vec::new();
    for _ in 0..4 {
        jobs.push(job_of(&case, "a").await);
    }
    let lower = [limited("a", 9, &plugin("p"), 2)];
    let held = lease(&case, 9, &[limited("a", 9, &plugin("p"), 3)]).await;
    assert_eq!(ids(&held), jobs[..3]);
    for lease_of in &held[..2] {
        assert_eq!(ids(&lease(&case, 9, &lower).await), []);
        case.applied(lease_of.token, succeed()).await;
    }
    assert_eq!(ids(&lease(&case, 9, &lower).await), jobs[3..]);
    case.applied(held[2].token, succeed()).await;
}

/// Every end of a lease frees its place under the limit, also when it runs out.
pub async fn every_end_of_a_lease_leaves_its_place(case: Case) {
    let lanes = [limited("a", 9, &plugin("p"), 1)];
    let ends = [
        retry(secs(60)),
        Settlement::Release { after: secs(60), reason: Reason::Drained },
        super::script::bury(),
        Settlement::Cancel,
    ];
    for end in ends {
        job_of(&case, "a").await;
        let held = lease(&case, 9, &lanes).await;
        assert_eq!(held.len(), 1, "{end:?}");
        case.applied(held[0].token, end).await;
    }
    job_of(&case, "a").await;
    assert_eq!(lease(&case, 9, &lanes).await.len(), 1);
    case.pass(TTL);
    case.sweep().await;
    let queues = [(queue(), 9)];
    let again = LeaseAsk { lanes: &lanes, suspects: 1, ..case.asking(&queues) };
    assert_eq!(case.lease_as(again).await.leases.len(), 1, "a lease that ran out leaves it too");
}

/// A lane is of one kind in one queue; the kind has none in other queues.
pub async fn a_lane_is_of_one_queue(case: Case) {
    lease(&case, 0, &[lane("a", 1)]).await;
    let other = case.enqueue(NewJob { kind: kind("a"), queue: queue_named("other"), ..case.new_job() }).await;
    let leases = case.ask(&[(queue_named("other"), 9)]).await.leases;
    assert_eq!(ids(&leases), [other]);
}

/// Lanes can be looked up, and every lease call answers with a number that changes with them, so that a daemon knows when to
/// look.
pub async fn lanes_can_be_looked_up_and_their_number_tells_of_a_change(case: Case) {
    let queues = [(queue(), 0)];
    let number = async || case.lease_as(case.asking(&queues)).await.lanes;
    assert_eq!(number().await, 0);
    lease(&case, 0, &[lane("b", 1), lane("a", 1)]).await;
    let lanes = case.broker.lanes(&case.tenant).await.expect("a look succeeds");
    assert_eq!(lanes.lanes, [(queue(), kind("a")), (queue(), kind("b"))]);
    assert!(lanes.number > 0);
    assert_eq!(number().await, lanes.number);
    lease(&case, 0, &[lane("b", 1)]).await;
    assert_eq!(number().await, lanes.number, "it was there");
}

/// A lane that is empty and hasn't been asked for within [`LANE_KEPT`] is removed by a sweep.
pub async fn a_lane_that_is_empty_and_not_asked_for_is_given_up(case: Case) {
    lease(&case, 0, &[lane("a", 1), lane("b", 1), lane("c", 1)]).await;
    job_of(&case, "b").await;
    case.pass(LANE_KEPT - ms(1));
    lease(&case, 0, &[lane("c", 1)]).await;
    case.sweep().await;
    assert_eq!(case.broker.lanes(&case.tenant).await.expect("a look succeeds").lanes.len(), 3);
    case.pass(ms(1));
    case.sweep().await;
    let lanes = case.broker.lanes(&case.tenant).await.expect("a look succeeds").lanes;
    assert_eq!(lanes, [(queue(), kind("b")), (queue(), kind("c"))]);
}

/// A lane that gets a job, or has room under its limit again, wakes listeners.
pub async fn a_lane_that_fills_or_has_room_again_wakes(case: Case) {
    let lanes = [limited("a", 9, &plugin("p"), 1)];
    lease(&case, 0, &lanes).await;
    job_of(&case, "plain").await;
    let mut wakes = listen(&case, &[&case.tenant]).await;
    job_of(&case, "a").await;
    hear_of(&mut wakes, &case.tenant).await;
    let held = lease(&case, 9, &lanes).await;
    job_of(&case, "a").await;
    hear_of(&mut wakes, &case.tenant).await;
    let token = held.iter().find(|lease| lease.job.kind == kind("a")).expect("it was there").token;
    case.applied(token, succeed()).await;
    hear_of(&mut wakes, &case.tenant).await;
}
