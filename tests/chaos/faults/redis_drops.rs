//! Redis throws all clients out and forgets their functions, several times in a row.

use std::time::Duration;

use async_trait::async_trait;
use rand::RngExt;
use tokio::time::sleep;

use super::{Fault, Kind, connection, with_redis};
use crate::plan::millis;
use crate::world::World;

pub(crate) const KIND: Kind = Kind {
    name: "redis-drops",
    fits: with_redis,
    draw: |r, _| {
        Box::new(RedisDrops { rests: (0..r.random_range(1..6)).map(|_| millis(r, 0, 300)).collect() })
    },
};

#[derive(Debug)]
struct RedisDrops {
    /// The time after each.
    rests: Vec<Duration>,
}

#[async_trait]
impl Fault for RedisDrops {
    fn name(&self) -> &'static str {
        KIND.name
    }

    async fn strike(&self, world: &World) -> anyhow::Result<()> {
        let redis = world.redis().await;
        let trouble = world.trouble_of_all();
        let mut connection = connection(&redis).await?;
        for rest in &self.rests {
            // Those who only listen are of a type of their own.
            for kind in ["normal", "pubsub"] {
                let mut kill = redis::cmd("CLIENT");
                kill.arg("KILL").arg("TYPE").arg(kind).arg("SKIPME").arg("yes");
                kill.query_async::<()>(&mut connection).await?;
            }
            redis::cmd("FUNCTION").arg("FLUSH").query_async::<()>(&mut connection).await?;
            sleep(*rest).await;
        }
        drop(trouble);
        drop(redis);
        world.probe_all(KIND.name).await
    }
}
