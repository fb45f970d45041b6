//! Groups of a fair queue share by weight.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU16;
use std::time::Duration;

use sandhog_core::edit::JobEdit;
use sandhog_core::fair::{FairRule, Weight};
use sandhog_core::group::{GroupRule, QueueRule};
use sandhog_core::id::{JobId, Kind, QueueName};
use sandhog_core::job::{JobOptions, NewJob, Priority, State};
use sandhog_core::quota::QueueBounds;

use super::case::{Case, TTL};
use super::script::{group, ms, queue, queue_named, release, retry, secs, succeed};
use crate::{JobAction, LaneAsk, LeaseAsk, Query};

fn fair(weights: &[(&str, u8)]) -> QueueRule {
    let weight = |n| Weight::new(n).expect("it is in range");
    let weights = weights.iter().map(|(key, n)| (group(key), weight(*n))).collect();
    QueueRule::Fair(FairRule::new(weights).expect("they are few"))
}

async fn set(case: &Case, rule: QueueRule) {
    set_all(case, &[(queue(), rule)]).await;
}

async fn set_all(case: &Case, rules: &[(QueueName, QueueRule)]) {
    let rules: BTreeMap<_, _> = rules.iter().cloned().collect();
    case.broker.set_group_rules(&case.tenant, &rules).await.expect("it succeeds");
}

fn of(case: &Case, key: &str) -> NewJob {
    NewJob { options: JobOptions { group: Some(group(key)), ..JobOptions::default() }, ..case.new_job() }
}

/// Enqueues so many jobs of a group, and returns their ids.
async fn enqueue(case: &Case, key: &str, n: usize) -> Vec<JobId> {
    let jobs: Vec<NewJob> = (0..n).map(|_| of(case, key)).collect();
    case.enqueue_all(&jobs).await;
    jobs.into_iter().map(|job| job.id).collect()
}

/// Leases so many jobs, and returns the keys of their groups; empty for jobs that have none.
async fn lease(case: &Case, n: u32) -> Vec<String> {
    let key = |job: &sandhog_core::job::Job| {
        job.options.group.as_ref().map_or_else(String::new, |key| key.as_str().to_owned())
    };
    case.lease(n).await.iter().map(|lease| key(&lease.job)).collect()
}

/// Returns how many of these are this one.
fn count(of: &[String], key: &str) -> usize {
    of.iter().filter(|other| *other == key).count()
}

/// A group with many jobs waiting delays no other one's first. Nor does it where some of its jobs have been leased already, which
/// gives no credit to groups that come later.
pub async fn a_group_with_many_jobs_delays_no_other_ones_first(case: Case) {
    set(&case, fair(&[])).await;
    enqueue(&case, "many", 200).await;
    assert_eq!(count(&lease(&case, 50).await, "many"), 50);
    for n in 0..30 {
        enqueue(&case, &format!("g{n}"), 2).await;
    }
    let first: BTreeSet<String> = lease(&case, 31).await.into_iter().collect();
    assert_eq!(first.len(), 31, "{first:?}");
    let second: BTreeSet<String> = lease(&case, 31).await.into_iter().collect();
    assert_eq!(first, second);
    assert_eq!(count(&lease(&case, 200).await, "many"), 148);
}

/// Of those that wait, three go of a group of weight 3 where one goes of a group of weight 1.
pub async fn groups_go_by_their_weights(case: Case) {
    set(&case, fair(&[("heavy", 3), ("*", 2)])).await;
    for key in ["light", "heavy", "*"] {
        enqueue(&case, key, 60).await;
    }
    let gone = lease(&case, 60).await;
    let counts = ["light", "heavy", "*"].map(|key| count(&gone, key));
    assert!(
        counts[0].abs_diff(10) <= 1 && counts[1].abs_diff(30) <= 1 && counts[2].abs_diff(20) <= 1,
        "{counts:?}"
    );
    // A weight that is changed holds for what comes then.
    set(&case, fair(&[("late", 100)])).await;
    enqueue(&case, "late", 50).await;
    assert!(count(&lease(&case, 20).await, "late") >= 15);
}

/// They are one group together.
pub async fn jobs_without_a_group_are_one_group(case: Case) {
    set(&case, fair(&[])).await;
    case.enqueue_n(40).await;
    enqueue(&case, "acme", 40).await;
    let gone = lease(&case, 20).await;
    assert!(count(&gone, "acme").abs_diff(10) <= 1, "{gone:?}");
}

/// In the order in which they came.
pub async fn jobs_of_a_group_keep_their_order(case: Case) {
    set(&case, fair(&[("acme", 7)])).await;
    let mut ids = enqueue(&case, "acme", 5).await;
    enqueue(&case, "globex", 3).await;
    ids.extend(enqueue(&case, "acme", 5).await);
    let leases = case.lease(20).await;
    let gone: Vec<JobId> = leases
        .iter()
        .filter(|lease| lease.job.options.group == Some(group("acme")))
        .map(|lease| lease.token.job)
        .collect();
    assert_eq!(gone, ids);
}

/// The higher ones go first, and groups share each of them by itself: no group pays for what it had of another priority.
pub async fn each_priority_is_shared_by_itself(case: Case) {
    set(&case, fair(&[])).await;
    let jobs: Vec<NewJob> =
        (0..30).map(|_| NewJob { priority: Priority(200), ..of(&case, "many") }).collect();
    case.enqueue_all(&jobs).await;
    enqueue(&case, "few", 10).await;
    enqueue(&case, "many", 10).await;
    assert_eq!(count(&lease(&case, 30).await, "many"), 30);
    assert_eq!(count(&lease(&case, 10).await, "many"), 5);
    // And so is a new one, to which a job is moved.
    let first = case.list(State::Ready).await[0];
    let edit = JobEdit { priority: Some(Priority(201)), ..JobEdit::default() };
    let bounds = QueueBounds::NONE;
    case.broker.edit(&case.tenant, first, &edit, &bounds).await.expect("it succeeds");
    assert_eq!(case.lease(1).await[0].token.job, first);
}

/// A job gets its place when it is ready, be it late, tried again or given back: behind those of its group, and before those of a group
/// with more.
pub async fn what_gets_ready_later_takes_the_next_place_of_its_group(case: Case) {
    set(&case, fair(&[])).await;
    enqueue(&case, "many", 20).await;
    let late = case.enqueue(NewJob { delay: secs(1), ..of(&case, "late") }).await;
    let leases = case.lease(2).await;
    let (retried, released) = (leases[0].token, leases[1].token);
    case.applied(retried, retry(Duration::ZERO)).await;
    case.applied(released, release(Duration::ZERO)).await;
    case.pass(secs(1));
    case.sweep().await;
    assert!(case.lease(2).await.iter().any(|lease| lease.token.job == late));
    let rest: Vec<JobId> = case.lease(30).await.iter().map(|lease| lease.token.job).collect();
    assert_eq!(rest[rest.len() - 2..], [retried.job, released.job]);
}

/// Nobody pays for a time that is over.
pub async fn a_queue_in_which_nothing_is_ready_begins_anew(case: Case) {
    set(&case, fair(&[])).await;
    enqueue(&case, "many", 50).await;
    for id in case.list(State::Ready).await {
        case.act(JobAction::Cancel, id).await;
    }
    case.sweep().await;
    enqueue(&case, "other", 10).await;
    enqueue(&case, "many", 10).await;
    assert_eq!(count(&lease(&case, 10).await, "many"), 5);
}

/// One rule says nothing about another queue, nor another tenant's.
pub async fn other_queues_and_tenants_share_by_themselves(case: Case) {
    let other = case.of_another_tenant();
    set_all(&case, &[(queue(), fair(&[])), (queue_named("other"), fair(&[("acme", 2)]))]).await;
    for case in [&case, &other] {
        enqueue(case, "many", 10).await;
        enqueue(case, "acme", 10).await;
    }
    assert_eq!(count(&lease(&other, 10).await, "many"), 10, "that one has no rule");
    assert_eq!(count(&lease(&case, 10).await, "many"), 5);
    let there = |key: &str| NewJob { queue: queue_named("other"), ..of(&case, key) };
    let jobs: Vec<NewJob> = [[(); 9].map(|()| there("many")), [(); 9].map(|()| there("acme"))].concat();
    case.enqueue_all(&jobs).await;
    let queues = [(queue_named("other"), 9)];
    let leased = case.broker.lease(LeaseAsk::new(&case.tenant, &queues, TTL)).await.expect("it succeeds");
    let acme = leased.leases.iter().filter(|lease| lease.job.options.group == Some(group("acme"))).count();
    assert_eq!(acme, 6);
}

/// Jobs that wait when a queue becomes fair share as well.
pub async fn a_queue_that_becomes_fair_shares_what_waits(case: Case) {
    enqueue(&case, "many", 30).await;
    let few = enqueue(&case, "few", 2).await;
    set(&case, fair(&[])).await;
    let gone: Vec<JobId> = case.lease(4).await.iter().map(|lease| lease.token.job).collect();
    assert!(few.iter().all(|id| gone.contains(id)), "{gone:?}");
    set(&case, fair(&[("few", 2)])).await;
    enqueue(&case, "few", 10).await;
    assert_eq!(count(&lease(&case, 9).await, "few"), 6);
}

/// Jobs that wait when a queue is fair no more keep their places, before all that come, and new jobs go as they come.
pub async fn a_queue_that_isnt_fair_any_more_goes_as_it_came(case: Case) {
    set(&case, fair(&[])).await;
    enqueue(&case, "a", 3).await;
    enqueue(&case, "b", 3).await;
    set_all(&case, &[]).await;
    enqueue(&case, "c", 4).await;
    let gone = lease(&case, 10).await;
    assert_eq!(gone[..6].iter().collect::<BTreeSet<_>>().len(), 2, "{gone:?}");
    assert_eq!(count(&gone[6..], "c"), 4, "{gone:?}");
    assert_eq!(case.counts().await[State::Leased], 10);
}

/// Those that waited for a turn have places as the others do.
pub async fn a_queue_may_get_the_one_rule_in_place_of_the_other(case: Case) {
    let turns = GroupRule::Concurrency(NonZeroU16::MIN);
    set(&case, turns.into()).await;
    enqueue(&case, "many", 10).await;
    enqueue(&case, "few", 2).await;
    set(&case, fair(&[])).await;
    case.sweep().await;
    assert_eq!(case.counts().await[State::Blocked], 0);
    let gone = lease(&case, 4).await;
    assert_eq!(count(&gone, "few"), 2, "{gone:?}");
    set(&case, turns.into()).await;
    enqueue(&case, "many", 1).await;
    assert!(case.counts().await[State::Blocked] > 0);
}

/// Also kinds that have lanes of their own, by one order.
pub async fn lanes_of_a_fair_queue_share_one_order(case: Case) {
    set(&case, fair(&[])).await;
    let special = |key: &str| NewJob { kind: Kind::parse("special").expect("a kind"), ..of(&case, key) };
    let lane = [LaneAsk::new(queue(), Kind::parse("special").expect("a kind"), 100)];
    let queues = [(queue(), 0)];
    let none = LeaseAsk { lanes: &lane, ..LeaseAsk::new(&case.tenant, &queues, TTL) };
    case.broker.lease(none).await.expect("it succeeds");
    enqueue(&case, "many", 20).await;
    let jobs: Vec<NewJob> = (0..20).map(|n| special(if n < 10 { "many" } else { "other" })).collect();
    case.enqueue_all(&jobs).await;
    let queues = [(queue(), 20)];
    let ask = LeaseAsk { lanes: &lane, ..LeaseAsk::new(&case.tenant, &queues, TTL) };
    let leased = case.broker.lease(ask).await.expect("it succeeds").leases;
    let of_other = leased.iter().filter(|lease| lease.job.options.group == Some(group("other"))).count();
    assert_eq!((leased.len(), of_other), (20, 10));
}

/// A list goes on behind each of them.
pub async fn jobs_with_the_same_place_are_listed_each_once(case: Case) {
    set(&case, fair(&[])).await;
    for n in 0..25 {
        enqueue(&case, &format!("g{n}"), 1).await;
    }
    let (mut found, mut query) = (Vec::new(), Query::of(State::Ready, 4));
    loop {
        let page = case.broker.jobs(&case.tenant, query.clone()).await.expect("it succeeds");
        found.extend(page.jobs.into_iter().map(|job| job.id));
        query.after = page.next;
        if query.after.is_none() {
            break;
        }
    }
    assert_eq!(found.len(), 25);
    assert_eq!(found.iter().collect::<BTreeSet<_>>().len(), 25);
    assert_eq!(case.lease(30).await.iter().map(|lease| lease.token.job).collect::<Vec<_>>(), found);
}

/// A group whose jobs have ended keeps no place.
pub async fn a_fair_queue_goes_on_for_long(case: Case) {
    set(&case, fair(&[("g1", 5)])).await;
    for round in 0..40 {
        enqueue(&case, &format!("g{round}"), 3).await;
        case.pass(ms(1));
        for lease in case.lease(2).await {
            case.applied(lease.token, succeed()).await;
        }
    }
    assert_eq!(case.counts().await[State::Ready], 40);
    assert_eq!(case.drain().await.len(), 40);
}
