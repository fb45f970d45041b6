//! A Redis Cluster: tenants on different nodes, slots that move, nodes that end.

use sandhog_core::job::State;
use std::collections::HashSet;
use std::sync::Arc;

use async_trait::async_trait;
use sandhog_broker::conformance::{self, Fixture, ManualClock};
use sandhog_broker::redis::testing::{Cluster, Durability};
use sandhog_broker::redis::{Config, Redis, Topology};
use sandhog_broker::{Broker, Counts, Error, Wake};
use sandhog_core::effects::Effects;
use sandhog_core::id::{StateKey, TenantId};

use crate::work::{
    Work, counts, hear_of, impatiently, job, jobs, next, plugin, succeed, tenant, until_it_works,
};

struct InCluster(Arc<Redis>);

#[async_trait]
impl Fixture for InCluster {
    async fn start(clock: Arc<ManualClock>) -> Self {
        Self(Arc::new(Redis::with_clock(&Cluster::shared().config(), clock).expect("the urls are right")))
    }

    fn broker(&self) -> Arc<dyn Broker> {
        Arc::clone(&self.0) as Arc<dyn Broker>
    }
}

conformance::suite!(InCluster);

#[tokio::test]
async fn the_model_agrees_on_random_operations_in_a_cluster() {
    conformance::agree::<InCluster>(7, 400).await;
}

fn impatient(config: Config) -> Redis {
    Redis::new(&impatiently(config)).expect("the url is right")
}

#[tokio::test]
async fn tenants_are_spread_over_the_nodes_and_all_are_served_and_woken() {
    let cluster = Cluster::shared();
    let tenants: Vec<TenantId> = (0..30).map(|_| tenant()).collect();
    let nodes: HashSet<usize> =
        tenants.iter().map(|tenant| cluster.holder_of(Cluster::slot_of(tenant))).collect();
    assert_eq!(nodes.len(), 3);
    // One node is enough to find the others.
    let alone = Config { topology: Topology::Server, ..cluster.config() };
    let broker = Redis::new(&alone).expect("the url is right");
    let mut wakes = broker.watch(tenants.clone()).await.expect("listening waits for nothing");
    assert_eq!(next(&mut wakes).await, Wake::All);
    for tenant in &tenants {
        broker.store(tenant, &jobs(2)).await;
        hear_of(&mut wakes, tenant).await;
        let leases = broker.take(tenant, 2).await;
        broker.finish(tenant, &leases).await;
        assert_eq!(broker.counts(tenant).await.expect("it is there"), Counts::of(&[(State::Succeeded, 2)]));
    }
    let warnings = broker.check().await.expect("it will do").join("\n");
    assert_eq!(warnings.matches("set appendonly to yes").count(), 3, "{warnings}");
    assert!(
        warnings.contains("set min-replicas-to-write to 1") && !warnings.contains("it has no replica"),
        "{warnings}"
    );
}

/// A job in each state, and something in every kind of key, so that nothing keeps a script from starting on the node that
/// the slot leaves.
async fn furnish(broker: &Redis, tenant: &TenantId) {
    let unique_key = Some(sandhog_core::id::UniqueKey::parse("once").expect("a valid key"));
    let delay = std::time::Duration::from_secs(3600);
    let later = sandhog_core::job::NewJob { unique_key, delay, ..job() };
    broker.store(tenant, &[&jobs(40)[..], &[later]].concat()).await;
    let leases = broker.take(tenant, 10).await;
    let mut effects = Effects::default();
    effects.set(StateKey::parse("seen").expect("a valid key"), b"1".to_vec(), None);
    broker.settle(tenant, &[succeed(leases[0].token, effects)]).await.expect("the cluster is there");
}

#[tokio::test(flavor = "multi_thread")]
async fn while_a_slot_moves_nothing_is_done_by_halves_and_then_all_goes_on() {
    let cluster = Cluster::start(Durability::None);
    let (broker, tenant) = (impatient(cluster.config()), tenant());
    furnish(&broker, &tenant).await;
    let slot = Cluster::slot_of(&tenant);
    let from = cluster.holder_of(slot);
    let to = cluster.other_than(from);
    let before = broker.counts(&tenant).await.expect("the cluster is there");
    assert_eq!(before, counts([1, 30, 9, 1, 0, 0]));

    cluster.open(slot, from, to);
    let mut refused = 0;
    loop {
        let refusals = [
            broker.ask(&tenant, 3).await.map(drop),
            broker.enqueue(&tenant, &jobs(1)).await.map(drop),
            broker.counts(&tenant).await.map(drop),
            broker.state(&tenant, &plugin(), &StateKey::parse("seen").expect("a valid key")).await.map(drop),
        ];
        for refusal in refusals {
            match refusal {
                Err(Error::Unavailable { cause, .. }) => {
                    assert!(cause.contains("moves the tenant"), "{cause}")
                }
                other => panic!("a part of the tenant is elsewhere: {other:?}"),
            }
            refused += 1;
        }
        if cluster.carry(slot, from, to, 7) == 0 {
            break;
        }
    }
    assert!(refused > 20);
    cluster.close(slot, from, to);
    assert_eq!(broker.counts(&tenant).await.expect("the cluster is there"), before);
    let leases = broker.take(&tenant, 99).await;
    assert_eq!(leases.len(), 30);
    broker.finish(&tenant, &leases).await;
    assert_eq!(cluster.holder_of(slot), to);
    // Another daemon that knows nothing of it is sent on.
    let stranger = impatient(cluster.config());
    assert_eq!(
        stranger.counts(&tenant).await.expect("the cluster is there"),
        Counts::of(&[(State::Scheduled, 1), (State::Leased, 9), (State::Succeeded, 31)])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn when_a_primary_ends_its_replica_goes_on() {
    let mut cluster = Cluster::start(Durability::EverySecond);
    let (broker, tenant) = (impatient(cluster.config()), tenant());
    let slot = Cluster::slot_of(&tenant);
    let primary = cluster.holder_of(slot);
    broker.store(&tenant, &jobs(3)).await;
    let leases = broker.take(&tenant, 1).await;
    cluster.nodes()[primary].wait_until_replicated();
    cluster.nodes()[primary].kill();
    let found = until_it_works(async || broker.counts(&tenant).await).await;
    assert_eq!(found, counts([0, 2, 1, 0, 0, 0]));
    broker.finish(&tenant, &leases).await;
    let heir = cluster.holder_of(slot);
    assert_ne!(heir, primary);
    // It comes back, is no primary any more, and sends on whoever asks.
    cluster.nodes()[primary].restart();
    cluster.nodes()[primary].wait_until_replicating();
    let leases = broker.take(&tenant, 9).await;
    broker.finish(&tenant, &leases).await;
    assert_eq!(broker.counts(&tenant).await.expect("it is there"), Counts::of(&[(State::Succeeded, 3)]));
}

/// Also the node that the listener is connected to, and that the configuration names first.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_hangs_is_passed_over() {
    let mut cluster = Cluster::start(Durability::None);
    let broker = impatient(cluster.config());
    let first = 0;
    let mine = tenant_on(&cluster, first);
    let elsewhere = tenant_on(&cluster, 1);
    let tenants = vec![mine.clone(), elsewhere.clone()];
    let mut wakes = broker.watch(tenants).await.expect("listening waits for nothing");
    assert_eq!(next(&mut wakes).await, Wake::All);
    broker.store(&mine, &jobs(2)).await;
    cluster.nodes()[first].wait_until_replicated();
    cluster.nodes()[first].pause();
    while next(&mut wakes).await != Wake::All {}
    let leases = until_it_works(async || broker.ask(&mine, 9).await).await.leases;
    assert_eq!(leases.len(), 2);
    until_it_works(async || broker.enqueue(&elsewhere, &[job()]).await).await;
    hear_of(&mut wakes, &elsewhere).await;
    cluster.nodes()[first].resume();
    cluster.nodes()[first].wait_until_replicating();
    broker.finish(&mine, &leases).await;
}

fn tenant_on(cluster: &Cluster, node: usize) -> TenantId {
    std::iter::repeat_with(tenant)
        .find(|tenant| cluster.holder_of(Cluster::slot_of(tenant)) == node)
        .expect("there are enough names")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_can_be_found_while_the_first_node_is_gone() {
    let mut cluster = Cluster::start(Durability::None);
    cluster.nodes()[0].kill();
    let broker = impatient(cluster.config());
    let tenant = tenant_on(&cluster, 1);
    until_it_works(async || broker.enqueue(&tenant, &jobs(1)).await).await;
    assert_eq!(broker.take(&tenant, 9).await.len(), 1);
}
