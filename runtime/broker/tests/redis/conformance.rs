//! Every rule of the suite, and random operations on which the reference model has to agree.

use std::sync::Arc;

use async_trait::async_trait;
use sandhog_broker::Broker;
use sandhog_broker::conformance::{self, Fixture, ManualClock};
use sandhog_broker::redis::testing::{Durability, Server};
use sandhog_broker::redis::{Config, Redis};

struct OnRedis {
    broker: Arc<Redis>,
    _server: Arc<Server>,
}

impl OnRedis {
    fn at(server: Arc<Server>, clock: Arc<ManualClock>) -> Self {
        let broker = Redis::with_clock(&Config::new(server.url()), clock).expect("the url is right");
        Self { broker: Arc::new(broker), _server: server }
    }
}

#[async_trait]
impl Fixture for OnRedis {
    async fn start(clock: Arc<ManualClock>) -> Self {
        Self::at(Server::shared(), clock)
    }

    fn broker(&self) -> Arc<dyn Broker> {
        self.broker.clone()
    }
}

conformance::suite!(OnRedis);

#[tokio::test]
async fn the_model_agrees_on_random_operations() {
    conformance::agree_on_some_seeds::<OnRedis>().await;
}

/// A node of a cluster refuses a script that goes for keys of two slots.
struct OnCluster(OnRedis);

#[async_trait]
impl Fixture for OnCluster {
    async fn start(clock: Arc<ManualClock>) -> Self {
        let server = Server::start(Durability::None, &["--cluster-enabled", "yes"]);
        let client = redis::Client::open(server.url()).expect("the url is right");
        let mut connection = client.get_multiplexed_async_connection().await.expect("it runs");
        let all_slots = redis::cmd("CLUSTER").arg("ADDSLOTSRANGE").arg(0).arg(16_383).to_owned();
        let () = all_slots.query_async(&mut connection).await.expect("the slots are free");
        loop {
            let info: String =
                redis::cmd("CLUSTER").arg("INFO").query_async(&mut connection).await.expect("it runs");
            if info.contains("cluster_state:ok") {
                return Self(OnRedis::at(Arc::new(server), clock));
            }
            tokio::task::yield_now().await;
        }
    }

    fn broker(&self) -> Arc<dyn Broker> {
        self.0.broker()
    }
}

#[tokio::test]
async fn no_script_leaves_the_slot_of_its_tenant() {
    conformance::agree::<OnCluster>(1, 400).await;
}
