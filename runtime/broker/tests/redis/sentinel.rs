//! Sentinels, and what becomes of jobs when the primary that they watch is gone.

use sandhog_core::job::State;
use std::sync::Arc;

use async_trait::async_trait;
use sandhog_broker::conformance::{self, Fixture, ManualClock};
use sandhog_broker::redis::testing::{Durability, Sentinels};
use sandhog_broker::redis::{Config, Redis, Topology};
use sandhog_broker::{Broker, Counts, Error, Wake};

use crate::work::{Work, hear_of, impatiently, job, jobs, next, tenant, until_it_works};

struct BySentinels(Arc<Redis>);

#[async_trait]
impl Fixture for BySentinels {
    async fn start(clock: Arc<ManualClock>) -> Self {
        Self(Arc::new(Redis::with_clock(&Sentinels::shared().config(), clock).expect("the urls are right")))
    }

    fn broker(&self) -> Arc<dyn Broker> {
        Arc::clone(&self.0) as Arc<dyn Broker>
    }
}

conformance::suite!(BySentinels);

#[tokio::test]
async fn the_model_agrees_on_random_operations_by_sentinels() {
    conformance::agree::<BySentinels>(5, 400).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_failover_calls_and_wakes_find_the_new_primary() {
    let mut servers = Sentinels::start(Durability::EverySecond);
    let (broker, tenant) = (Redis::new(&impatiently(servers.config())).expect("right"), tenant());
    let mut wakes = broker.watch(vec![tenant.clone()]).await.expect("listening waits for nothing");
    assert_eq!(next(&mut wakes).await, Wake::All);
    broker.store(&tenant, &jobs(3)).await;
    hear_of(&mut wakes, &tenant).await;
    let leases = broker.take(&tenant, 1).await;
    let lost = servers.kill_primary();

    let stored = until_it_works(async || broker.enqueue(&tenant, &jobs(1)).await).await;
    assert_eq!(stored.len(), 1);
    assert_ne!(servers.primary(), lost);
    while next(&mut wakes).await != Wake::All {}
    // What was leased before is settled after.
    broker.finish(&tenant, &leases).await;
    let leases = broker.take(&tenant, 9).await;
    assert_eq!(leases.len(), 3);
    broker.store(&tenant, &[job()]).await;
    hear_of(&mut wakes, &tenant).await;

    broker.finish(&tenant, &leases).await;
    assert_eq!(
        broker.counts(&tenant).await.expect("it is there"),
        Counts::of(&[(State::Ready, 1), (State::Succeeded, 4)])
    );
}

/// A primary that hangs is passed over, as one that is gone; and when it goes on, it is no primary any more.
#[tokio::test(flavor = "multi_thread")]
async fn a_primary_that_hangs_costs_a_call_its_deadline_and_no_more() {
    let mut servers = Sentinels::start(Durability::None);
    let (broker, tenant) = (Redis::new(&impatiently(servers.config())).expect("right"), tenant());
    broker.store(&tenant, &jobs(2)).await;
    let hung = servers.primary();
    servers.servers()[hung].wait_until_replicated();
    servers.servers()[hung].pause();
    let leases = until_it_works(async || broker.ask(&tenant, 1).await).await.leases;
    assert_eq!(leases.len(), 1);
    servers.servers()[hung].resume();
    servers.servers()[hung].wait_until_replicating();
    broker.finish(&tenant, &leases).await;
    assert_eq!(
        broker.counts(&tenant).await.expect("it is there"),
        Counts::of(&[(State::Ready, 1), (State::Succeeded, 1)])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn one_sentinel_of_three_is_enough() {
    let mut servers = Sentinels::start(Durability::None);
    servers.sentinels()[0].kill();
    servers.sentinels()[1].pause();
    let broker = Redis::new(&impatiently(servers.config())).expect("right");
    broker.store(&tenant(), &jobs(1)).await;
}

#[tokio::test]
async fn sentinels_that_know_no_such_primary_or_are_not_there_are_named() {
    let servers = Sentinels::shared();
    let unknown = Config { url: "redis://other".to_owned(), ..servers.config() };
    match Redis::new(&unknown).expect("right").check().await {
        Err(Error::Unfit { problem }) => {
            assert!(problem.contains("knows no primary called `other`"), "{problem}")
        }
        other => panic!("there is none: {other:?}"),
    }
    let nowhere = Topology::Sentinels(vec!["redis://:hunter2@127.0.0.1:1".to_owned()]);
    let nowhere = Config { topology: nowhere, ..servers.config() };
    let error = Redis::new(&nowhere).expect("right").check().await.expect_err("nobody is there");
    assert!(matches!(error, Error::Unavailable { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains("127.0.0.1:1") && !text.contains("hunter2"), "{text}");
}

/// The sentinels tell whoever asks; what counts is what the server says of itself.
#[tokio::test]
async fn a_replica_that_a_sentinel_names_is_not_taken_for_the_primary() {
    let mut servers = Sentinels::start(Durability::None);
    let replica = (servers.primary() + 1) % 3;
    let misled = Sentinels::misled(&servers.servers()[replica]);
    let config = Config { topology: Topology::Sentinels(vec![misled.url()]), ..servers.config() };
    let error = Redis::new(&impatiently(config)).expect("right").check().await.expect_err("it is a replica");
    assert!(error.to_string().contains("is not the primary"), "{error}");
}
