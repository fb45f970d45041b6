//! Connections that stay open while nothing passes, in one direction or both: until the network mends, and what was on its
//! way arrives late, or for ever.

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
    name: "half-open",
    fits: with_redis,
    draw: |r, daemons| {
        Box::new(HalfOpen {
            whose: Whose::random(r, daemons),
            directions: match r.random_range(0..3) {
                0 => vec![Direction::There],
                1 => vec![Direction::Back],
                _ => Direction::BOTH.to_vec(),
            },
            time: millis(r, 50, 2_500),
            then: if r.random_bool(0.5) { Then::Arrives } else { Then::IsForgotten },
        })
    },
};

#[derive(Debug)]
struct HalfOpen {
    whose: Whose,
    directions: Vec<Direction>,
    time: Duration,
    then: Then,
}

/// What becomes of what was on its way, and of the connections.
#[derive(Debug, PartialEq, Eq)]
enum Then {
    Arrives,
    IsForgotten,
}

#[async_trait]
impl Fault for HalfOpen {
    fn name(&self) -> &'static str {
        KIND.name
    }

    async fn strike(&self, world: &World) -> anyhow::Result<()> {
        let (daemons, ways) = (self.whose.daemons(world), self.whose.ways(world));
        let trouble = world.trouble(&daemons);
        let set = |flow| {
            let each =
                ways.iter().flat_map(|way| self.directions.iter().map(move |direction| (way, *direction)));
            each.for_each(|(way, direction)| way.set(direction, flow));
        };
        set(Flow::Held);
        sleep(self.time).await;
        if self.then == Then::IsForgotten {
            ways.iter().for_each(|way| way.forget_all());
        }
        set(Flow::Free);
        drop(trouble);
        world.probe(&daemons, KIND.name).await
    }
}
