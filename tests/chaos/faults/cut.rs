//! Connections that are closed, several times in a row: at once, or in the midst of a command or an answer.

use std::time::Duration;

use async_trait::async_trait;
use rand::RngExt;
use sandhog_tests::Direction;
use tokio::time::sleep;

use super::ways::Whose;
use super::{Fault, Kind, with_redis};
use crate::plan::millis;
use crate::world::World;

pub(crate) const KIND: Kind = Kind {
    name: "cut",
    fits: with_redis,
    draw: |r, daemons| {
        let whose = Whose::random(r, daemons);
        let cuts = (0..r.random_range(1..6)).map(|_| {
            let at = match r.random_range(0..3) {
                0 => At::Once,
                1 => At::Byte(Direction::There, r.random_range(1..2_000)),
                _ => At::Byte(Direction::Back, r.random_range(1..2_000)),
            };
            (at, millis(r, 0, 300))
        });
        Box::new(Cut { whose, cuts: cuts.collect() })
    },
};

#[derive(Debug)]
struct Cut {
    whose: Whose,
    /// Each with the time until the next.
    cuts: Vec<(At, Duration)>,
}

#[derive(Debug, Clone, Copy)]
enum At {
    Once,
    /// When so many more bytes have passed.
    Byte(Direction, usize),
}

#[async_trait]
impl Fault for Cut {
    fn name(&self) -> &'static str {
        KIND.name
    }

    async fn strike(&self, world: &World) -> anyhow::Result<()> {
        let (daemons, ways) = (self.whose.daemons(world), self.whose.ways(world));
        let trouble = world.trouble(&daemons);
        for (at, rest) in &self.cuts {
            for way in &ways {
                match *at {
                    At::Once => way.close_all(),
                    At::Byte(direction, bytes) => way.close_after(direction, bytes),
                }
            }
            sleep(*rest).await;
        }
        // What hasn't burnt down yet would strike in the next fault.
        ways.iter().for_each(|way| way.disarm());
        drop(trouble);
        world.probe(&daemons, KIND.name).await
    }
}
