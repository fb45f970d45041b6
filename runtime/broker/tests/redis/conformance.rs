//! Every rule of the suite, and random operations on which the reference model has to agree.

use std::sync::Arc;

use async_trait::async_trait;
use sandhog_broker::Broker;
use sandhog_broker::conformance::{self, Fixture, ManualClock};
use sandhog_broker::redis::testing::Server;
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

/// However many jobs one group has.
#[tokio::test]
async fn a_group_with_many_jobs_delays_the_first_ones_of_others_hardly() {
    let many = conformance::groups::OneOfMany { jobs: 20_000, others: 1_000, within: 1_500 };
    conformance::play::<OnRedis, _>(|case| many.play(case)).await;
}

#[tokio::test]
async fn the_model_agrees_on_random_operations() {
    conformance::agree_on_some_seeds::<OnRedis>(conformance::steps::ON_REDIS).await;
}
