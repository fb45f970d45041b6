//! SIGKILL for Redis, which has acknowledged nothing that isn't on its disk.

use std::time::Duration;

use async_trait::async_trait;
use tokio::task::block_in_place;
use tokio::time::sleep;

use super::{Fault, Kind, with_redis};
use crate::plan::millis;
use crate::world::World;

pub(crate) const KIND: Kind = Kind {
    name: "redis-kill",
    fits: with_redis,
    draw: |r, _| Box::new(RedisKill { gone_for: millis(r, 0, 1_500) }),
};

#[derive(Debug)]
struct RedisKill {
    gone_for: Duration,
}

#[async_trait]
impl Fault for RedisKill {
    fn name(&self) -> &'static str {
        KIND.name
    }

    async fn strike(&self, world: &World) -> anyhow::Result<()> {
        let mut redis = world.redis().await;
        let trouble = world.trouble_of_all();
        block_in_place(|| redis.kill());
        sleep(self.gone_for).await;
        block_in_place(|| redis.restart());
        drop(trouble);
        drop(redis);
        world.probe_all(KIND.name).await
    }
}
