//! Connections on which bytes come late, or few at a time.

use std::time::Duration;

use async_trait::async_trait;
use rand::RngExt;
use sandhog_tests::{Direction, Flow};
use tokio::time::sleep;

use super::ways::Whose;
use super::{Fault, Kind, with_redis};
use crate::plan::millis;
use crate::world::World;

pub(crate) const KIND: Kind = Kind {
    name: "slow",
    fits: with_redis,
    draw: |r, daemons| {
        let whose = Whose::random(r, daemons);
        let (bytes, every) = if r.random_bool(0.5) {
            (WHOLE, millis(r, 5, 400))
        } else {
            (r.random_range(1..200), millis(r, 1, 20))
        };
        Box::new(Slow { whose, bytes, every, time: millis(r, 200, 2_000) })
    },
};

/// More than the way takes at a time.
const WHOLE: usize = 1 << 20;

#[derive(Debug)]
struct Slow {
    whose: Whose,
    bytes: usize,
    every: Duration,
    time: Duration,
}

#[async_trait]
impl Fault for Slow {
    fn name(&self) -> &'static str {
        KIND.name
    }

    async fn strike(&self, world: &World) -> anyhow::Result<()> {
        let (daemons, ways) = (self.whose.daemons(world), self.whose.ways(world));
        let trouble = world.trouble(&daemons);
        let set = |flow| {
            let each = ways.iter().flat_map(|way| Direction::BOTH.map(move |direction| (way, direction)));
            each.for_each(|(way, direction)| way.set(direction, flow));
        };
        set(Flow::Slow { bytes: self.bytes, every: self.every });
        sleep(self.time).await;
        set(Flow::Free);
        drop(trouble);
        world.probe(&daemons, KIND.name).await
    }
}
