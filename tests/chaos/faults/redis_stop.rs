//! SIGSTOP for Redis: its connections stay, new ones are taken, and nothing is answered for a while.

use std::time::Duration;

use async_trait::async_trait;
use tokio::time::sleep;

use super::{Fault, Kind, with_redis};
use crate::plan::millis;
use crate::world::World;

pub(crate) const KIND: Kind = Kind {
    name: "redis-stop",
    fits: with_redis,
    draw: |r, _| Box::new(RedisStop { time: millis(r, 100, 2_500) }),
};

#[derive(Debug)]
struct RedisStop {
    time: Duration,
}

#[async_trait]
impl Fault for RedisStop {
    fn name(&self) -> &'static str {
        KIND.name
    }

    async fn strike(&self, world: &World) -> anyhow::Result<()> {
        let redis = world.redis().await;
        let trouble = world.trouble_of_all();
        redis.pause();
        sleep(self.time).await;
        redis.resume();
        drop(trouble);
        drop(redis);
        world.probe_all(KIND.name).await
    }
}
