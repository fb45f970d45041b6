//! What a job costs the server. The bounds are those of BullMQ 6.7, measured on Redis 7.0 with a payload of 100 bytes:
//! 9 commands to add a job and 24 to run it, 716 bytes while it waits and 1,269 once it is done.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sandhog_broker::conformance::ManualClock;
use sandhog_broker::redis::testing::{Durability, Server};
use sandhog_broker::redis::{Config, Redis};
use sandhog_broker::{
    Broker, Counts, DAEMON_KEPT, DAEMONS_MAX, DaemonReport, LOOKED_UP_MAX, QUEUES_PAGE_MAX, Ran, SWEEP_MAX,
    Served, Settle, Sweep, Swept, WallClock,
};
use sandhog_core::budget::Bytes;
use sandhog_core::effects::Effects;
use sandhog_core::event::{EventCursor, EventKeep};
use sandhog_core::hold::{HoldScope, NewHold};
use sandhog_core::id::{DaemonId, TenantId};
use sandhog_core::job::{NewJob, State};
use sandhog_core::quota::StateQuota;
use sandhog_core::reason::Reason;
use sandhog_core::settle::Settlement;
use sandhog_core::time::Timestamp;

use crate::work::{Work, broker, connection, job, jobs, queue, succeed, tenant};

const JOBS: usize = 5_000;

struct Cost {
    commands_to_add: f64,
    commands_to_run: f64,
    bytes_waiting: f64,
    bytes_done: f64,
}

async fn number(server: &Server, section: &str, of: impl Fn(&str) -> Option<f64>) -> f64 {
    let info: String = redis::cmd("INFO")
        .arg(section)
        .query_async(&mut connection(server).await)
        .await
        .expect("it is there");
    info.lines().filter_map(of).sum()
}

async fn commands(server: &Server) -> f64 {
    number(server, "commandstats", |line| line.split("calls=").nth(1)?.split(',').next()?.parse().ok()).await
}

async fn bytes(server: &Server) -> f64 {
    number(server, "memory", |line| line.strip_prefix("used_memory_dataset:")?.trim().parse().ok()).await
        + number(server, "memory", |line| {
            line.strip_prefix("overhead_db_hashtable_lut:")?.trim().parse().ok()
        })
        .await
}

async fn cost(batch: u32) -> Cost {
    let server = Server::start(Durability::None, &[]);
    let (broker, tenant) = (broker(&server), TenantId::parse("acme").expect("a valid name"));
    let jobs: Vec<NewJob> = (0..JOBS).map(|_| NewJob { payload: vec![b'x'; 100], ..job() }).collect();
    // The scripts are loaded, and the connection is made.
    broker.take(&tenant, 0).await;
    let (commands_before, bytes_before) = (commands(&server).await, bytes(&server).await);
    for jobs in jobs.chunks(batch as usize) {
        broker.store(&tenant, jobs).await;
    }
    let (commands_added, bytes_added) = (commands(&server).await, bytes(&server).await);
    loop {
        let leases = broker.take(&tenant, batch).await;
        if leases.is_empty() {
            break;
        }
        broker.finish(&tenant, &leases).await;
    }
    let (commands_done, bytes_done) = (commands(&server).await, bytes(&server).await);
    let each = |n: f64| n / JOBS as f64;
    Cost {
        commands_to_add: each(commands_added - commands_before),
        commands_to_run: each(commands_done - commands_added),
        bytes_waiting: each(bytes_added - bytes_before),
        bytes_done: each(bytes_done - bytes_before),
    }
}

#[tokio::test]
async fn a_job_costs_no_more_than_with_bullmq_and_far_less_in_batches() {
    for (batch, most_to_add, most_to_run) in [(1, 9.0, 24.0), (32, 1.5, 1.5), (100, 1.2, 0.5)] {
        let Cost { commands_to_add, commands_to_run, bytes_waiting, bytes_done } = cost(batch).await;
        println!(
            "batches of {batch}: {commands_to_add:.2} commands to add a job, {commands_to_run:.2} to run it; \
             {bytes_waiting:.0} bytes while it waits, {bytes_done:.0} once it is done"
        );
        // The look that finds nothing in the end is one more, for all of them.
        let a_look = 20.0 / JOBS as f64;
        assert!(commands_to_add <= most_to_add && commands_to_run <= most_to_run + a_look);
        assert!(bytes_waiting <= 716.0 && bytes_done <= 1269.0);
    }
}

/// Held jobs are put aside by the first leases that meet them, and looked at no more.
#[tokio::test]
async fn held_jobs_cost_a_lease_of_others_nothing() {
    let server = Server::start(Durability::None, &[]);
    let broker = broker(&server);
    let pause = NewHold::pause(HoldScope { queue: None, kind: Some(job().kind) });
    let mut costs = Vec::new();
    for held in [0, 3_000] {
        let tenant = tenant();
        broker.hold(&tenant, pause.clone()).await.expect("the server is there");
        broker.store(&tenant, &(0..held + 1).map(|_| job()).collect::<Vec<_>>()).await;
        let other = || NewJob { kind: "mail.send".parse().expect("a valid name"), ..job() };
        broker.store(&tenant, &(0..200).map(|_| other()).collect::<Vec<_>>()).await;
        // As often as there are held ones in the way.
        while broker.take(&tenant, 1).await.is_empty() {}
        let before = commands(&server).await;
        for _ in 0..100 {
            assert_eq!(broker.take(&tenant, 1).await.len(), 1);
        }
        costs.push(commands(&server).await - before);
    }
    println!("commands for 100 leases beside one held job and many: {costs:?}");
    assert!(costs[1] <= costs[0] * 1.02, "{costs:?}");
}

/// One look at who may be held is a bit of what is read anyway.
#[tokio::test]
async fn a_lease_costs_the_same_once_nothing_is_held_any_more() {
    let server = Server::start(Durability::None, &[]);
    let broker = broker(&server);
    let mut costs = Vec::new();
    for pauses in [0, 1] {
        let tenant = tenant();
        broker.store(&tenant, &jobs(101)).await;
        for _ in 0..pauses {
            let scope = HoldScope { queue: Some(queue()), kind: None };
            broker.hold(&tenant, NewHold::pause(scope.clone())).await.expect("the server is there");
            assert_eq!(broker.take(&tenant, 1).await.len(), 0);
            broker.lift(&tenant, scope).await.expect("the server is there");
        }
        assert_eq!(broker.take(&tenant, 1).await.len(), 1);
        let before = commands(&server).await;
        for _ in 0..100 {
            assert_eq!(broker.take(&tenant, 1).await.len(), 1);
        }
        costs.push(commands(&server).await - before);
    }
    assert_eq!(costs[0], costs[1]);
}

/// Whether somebody wants them is a bit of what is read anyway. A call appends all of its own at once.
#[tokio::test]
async fn events_cost_nothing_where_nobody_wants_them() {
    const EACH: usize = 50;
    let server = Server::start(Durability::None, &[]);
    let clock = Arc::new(ManualClock::default());
    let broker = broker(&server).at(clock.clone());
    let keep = EventKeep { time: Duration::from_secs(60), max: 20 };
    let mut costs = Vec::new();
    for (follows, still) in [(false, false), (true, false), (true, true)] {
        let tenant = tenant();
        broker.take(&tenant, 1).await;
        if follows {
            broker.record_events(&tenant, keep).await.expect("the server is there");
        }
        if !still {
            clock.advance(keep.time);
            broker.sweep(&tenant, Sweep::new(5)).await.expect("the server is there");
        }
        let before = commands(&server).await;
        for _ in 0..EACH {
            broker.store(&tenant, &jobs(10)).await;
            let leases = broker.take(&tenant, 10).await;
            broker.finish(&tenant, &leases).await;
        }
        costs.push(commands(&server).await - before);
        let told = broker.events(&tenant, EventCursor::START, 100).await.expect("the server is there").events;
        assert_eq!(told.len(), if still { 20 } else { 0 });
    }
    println!("commands for {EACH} times ten jobs, never followed, no more, and still: {costs:?}");
    assert_eq!(costs[0], costs[1]);
    // For each call who wants them, two that append and trim, with a look at what is there, and one that tells; and what a job is
    // that a settlement ends, which needn't be known otherwise.
    let (calls, ends) = (3.0 * EACH as f64, 10.0 * EACH as f64);
    assert!(costs[2] <= costs[0] + 5.0 * calls + 2.0 * ends, "{costs:?}");
}

/// A daemon sweeps a tenant in which nothing is due now and then, and some have thousands.
#[tokio::test]
async fn a_sweep_that_finds_nothing_is_few_commands() {
    let server = Server::start(Durability::None, &[]);
    let (broker, tenant) = (broker(&server), TenantId::parse("acme").expect("a valid name"));
    let later = NewJob { delay: Duration::from_secs(3600), ..job() };
    broker.store(&tenant, &[job(), job(), later]).await;
    let leases = broker.take(&tenant, 2).await;
    let bury = Settlement::Bury { reason: Reason::Trapped, message: "a trap".to_owned() };
    let dead = Settle { settlement: bury, ..succeed(leases[0].token, Effects::default()) };
    broker.settle(&tenant, &[dead]).await.expect("the server is there");
    broker.finish(&tenant, &leases[1..]).await;
    let sweep = || broker.sweep(&tenant, Sweep::new(3));
    let first = sweep().await.expect("the server is there");
    assert!(first.next_due.is_some() && first.next_removal.is_some() && !first.has_ready, "{first:?}");
    // The one that counts logs in by three, and its INFO is one.
    let before = commands(&server).await;
    let counting = commands(&server).await - before;
    let before = commands(&server).await;
    let swept = sweep().await.expect("the server is there");
    let spent = commands(&server).await - before - counting;
    println!("{spent} commands for a sweep that finds nothing");
    assert!(spent <= 11.0, "{spent}");
    let due = |swept: &Swept| (swept.next_due.is_some(), swept.next_removal.is_some());
    assert_eq!(due(&swept), due(&first));
}

/// Values whose time is over are swept in bounded steps, also by a settlement that they are in the way of.
#[tokio::test]
async fn a_settlement_sweeps_no_more_than_a_bounded_number_of_expired_values() {
    const EXPIRED: usize = 5_000;
    let server = Server::start(Durability::None, &[]);
    let clock = Arc::new(ManualClock::default());
    let broker = Redis::with_clock(&Config::new(server.url()), clock.clone()).expect("the url is right");
    let tenant = tenant();
    let mut costs = Vec::new();
    for expired in [0, EXPIRED] {
        let keys: Vec<String> = (0..expired).map(|n| format!("old-{n}")).collect();
        for keys in keys.chunks(100) {
            let mut effects = Effects::default();
            for key in keys {
                effects.set(key.parse().expect("a key"), b"x".to_vec(), Some(Duration::from_secs(1)));
            }
            broker.store(&tenant, &[job()]).await;
            let lease = broker.take(&tenant, 1).await.remove(0);
            broker.settle(&tenant, &[succeed(lease.token, effects)]).await.expect("the server is there");
        }
        clock.advance(Duration::from_secs(2));
        broker.store(&tenant, &[job()]).await;
        let lease = broker.take(&tenant, 1).await.remove(0);
        let mut effects = Effects::default();
        effects.set("new".parse().expect("a key"), b"x".to_vec(), None);
        let mut settle = succeed(lease.token, effects);
        let quota = StateQuota { bytes: Bytes(1), keys: 1 };
        settle.ran = settle.ran.map(|ran| Ran { state_max: quota, ..ran });
        let before = commands(&server).await;
        broker.settle(&tenant, &[settle]).await.expect("the server is there");
        costs.push(commands(&server).await - before);
    }
    println!("{costs:?} commands for a settlement without and beside {EXPIRED} expired values");
    // Four for each that it may take away at most.
    assert!(costs[1] <= costs[0] + 4.0 * SWEEP_MAX as f64, "{costs:?}");
}

/// Listening and looking now and then is all that an idle daemon does.
#[tokio::test]
async fn whoever_finds_nothing_asks_little() {
    let server = Server::start(Durability::None, &[]);
    let (broker, tenant) = (broker(&server), TenantId::parse("acme").expect("a valid name"));
    broker.take(&tenant, 9).await;
    let before = commands(&server).await;
    broker.take(&tenant, 9).await;
    // One of them is the INFO of the first count, three log its connection in.
    let spent = commands(&server).await - before;
    println!("{spent} commands for a look that finds nothing, with those that count them");
    assert!(spent <= 15.0);
    assert_eq!(broker.counts(&tenant).await.expect("it is there"), Counts::default());
}

#[tokio::test]
async fn what_a_daemon_tells_of_itself_is_few_commands_and_is_kept_for_a_while_only() {
    let clock = Arc::new(ManualClock::default());
    let server = Server::start(Durability::None, &[]);
    let broker = Redis::with_clock(&Config::new(server.url()), Arc::clone(&clock) as Arc<dyn WallClock>);
    let broker = broker.expect("the url is right");
    let served = (0..40).map(|nth| (tenant(), format!("q{nth}").parse().expect("a valid name")));
    let report = DaemonReport {
        name: "one".to_owned(),
        version: "1.2.3".to_owned(),
        age: Duration::from_secs(1),
        fetched: None,
        slots: 8,
        slots_used: 0,
        is_draining: false,
        plugins: 1,
        served: Served::of(served),
    };
    let daemon = |nth: u128| DaemonId::from_parts(Timestamp::from_millis(1), nth);
    // The functions are loaded, and the connection is made.
    broker.report_daemon(daemon(0), Some(&report)).await.expect("it may");
    let before = commands(&server).await;
    for _ in 0..100 {
        broker.report_daemon(daemon(0), Some(&report)).await.expect("it may");
    }
    let each = (commands(&server).await - before) / 100.0;
    assert!(each <= 9.0, "{each} commands for a report");
    let entries = async || -> (usize, usize) {
        let fleet = "sandhog:{sandhog:tenants}:";
        let mut pipe = redis::pipe();
        pipe.zcard(format!("{fleet}daemons")).hlen(format!("{fleet}daemon_reports"));
        pipe.query_async(&mut connection(&server).await).await.expect("it is there")
    };
    for nth in 1..DAEMONS_MAX as u128 + 10 {
        clock.advance(Duration::from_millis(1));
        broker.report_daemon(daemon(nth), Some(&report)).await.expect("it may");
    }
    assert_eq!(entries().await, (DAEMONS_MAX, DAEMONS_MAX));
    let listed = broker.daemons().await.expect("it may").daemons;
    assert_eq!(listed.len(), DAEMONS_MAX);
    assert_eq!(listed[0].id, daemon(10), "those that were silent for longest are gone");
    clock.advance(DAEMON_KEPT);
    for _ in 0..DAEMONS_MAX / 100 {
        broker.report_daemon(daemon(DAEMONS_MAX as u128 + 9), Some(&report)).await.expect("it may");
    }
    assert_eq!(entries().await, (1, 1));
}

/// The census goes by the sizes of lanes. What it would have to read one by one, it reads up to a bound.
#[tokio::test]
async fn a_census_costs_the_same_however_many_jobs_there_are() {
    let server = Server::start(Durability::None, &[]);
    let broker = broker(&server);
    let mut costs = Vec::new();
    for ready in [10, 3_000] {
        let tenant = tenant();
        broker.store(&tenant, &jobs(ready)).await;
        broker.queues(&tenant, None, 10).await.expect("the server is there");
        let before = commands(&server).await;
        let page = broker.queues(&tenant, None, 10).await.expect("the server is there");
        costs.push(commands(&server).await - before);
        assert_eq!(page.queues[0].ready, ready as u64);
    }
    println!("commands for a census of few and of many ready jobs: {costs:?}");
    assert_eq!(costs[0], costs[1]);
    let (tenant, many) = (tenant(), LOOKED_UP_MAX as usize + 1);
    broker.store(&tenant, &jobs(many)).await;
    while !broker.take(&tenant, 500).await.is_empty() {}
    let before = commands(&server).await;
    let page = broker.queues(&tenant, None, 10).await.expect("the server is there");
    let spent = commands(&server).await - before;
    println!("{spent} commands for a census beside {many} leased jobs, which are too many to count");
    assert_eq!(page.queues, [], "nothing is known of where they are");
    assert!(spent <= costs[0], "{spent}");
    let counts = broker.counts(&tenant).await.expect("the server is there");
    assert_eq!(counts[State::Leased], many as u64, "and how many they are is exact");
}

#[tokio::test]
async fn ten_thousand_queues_are_listed_page_by_page() {
    const QUEUES: usize = 10_000;
    let server = Server::start(Durability::None, &[]);
    let (broker, tenant) = (broker(&server), tenant());
    let in_queue = |nth: usize| NewJob { queue: format!("q{nth:05}").parse().expect("a name"), ..job() };
    for first in (0..QUEUES).step_by(500) {
        broker.store(&tenant, &(first..first + 500).map(in_queue).collect::<Vec<_>>()).await;
    }
    let (mut listed, mut after) = (0, None);
    loop {
        let began = Instant::now();
        let page = broker.queues(&tenant, after, QUEUES_PAGE_MAX).await.expect("the server is there");
        println!("{:?} for a page of {} queues of {QUEUES}", began.elapsed(), page.queues.len());
        for census in &page.queues {
            assert_eq!((census.queue.as_str(), census.ready), (format!("q{listed:05}").as_str(), 1));
            listed += 1;
        }
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(listed, QUEUES);
}
