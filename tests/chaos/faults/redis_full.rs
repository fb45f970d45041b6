//! Redis at its `maxmemory`: it refuses whatever would write, and evicts nothing.

use std::time::Duration;

use async_trait::async_trait;
use tokio::time::sleep;

use super::{Fault, Kind, connection, with_redis};
use crate::plan::millis;
use crate::world::World;

pub(crate) const KIND: Kind = Kind {
    name: "redis-full",
    fits: with_redis,
    draw: |r, _| Box::new(RedisFull { time: millis(r, 100, 2_000) }),
};

#[derive(Debug)]
struct RedisFull {
    time: Duration,
}

#[async_trait]
impl Fault for RedisFull {
    fn name(&self) -> &'static str {
        KIND.name
    }

    async fn strike(&self, world: &World) -> anyhow::Result<()> {
        let redis = world.redis().await;
        let trouble = world.trouble_of_all();
        let mut connection = connection(&redis).await?;
        let mut set = async |bytes: u64| {
            let mut command = redis::cmd("CONFIG");
            command.arg("SET").arg("maxmemory").arg(bytes).query_async::<()>(&mut connection).await
        };
        set(1).await?;
        sleep(self.time).await;
        // No bound.
        set(0).await?;
        drop(trouble);
        drop(redis);
        world.probe_all(KIND.name).await
    }
}
