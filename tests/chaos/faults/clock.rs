//! The calendar of a daemon's machine steps by up to an hour, and back after a while: nothing is to happen.

use std::time::Duration;

use async_trait::async_trait;
use rand::RngExt;
use tokio::time::sleep;

use super::{Fault, Kind};
use crate::plan::{Backend, millis};
use crate::world::World;

pub(crate) const KIND: Kind = Kind {
    name: "clock",
    // Where jobs are kept in a file, its daemons are on one machine, and have one clock.
    fits: |backend| backend != Backend::Embedded,
    draw: |r, daemons| {
        let (daemon, seconds) = (r.random_range(0..daemons), r.random_range(-3_600..=3_600));
        Box::new(Clock { daemon, seconds, time: millis(r, 100, 2_500) })
    },
};

#[derive(Debug)]
struct Clock {
    daemon: usize,
    /// How far ahead of the truth it is.
    seconds: i64,
    time: Duration,
}

#[async_trait]
impl Fault for Clock {
    fn name(&self) -> &'static str {
        KIND.name
    }

    async fn strike(&self, world: &World) -> anyhow::Result<()> {
        let clock = world.clock(self.daemon);
        clock.set_ahead(self.seconds);
        world.probe(&[self.daemon], KIND.name).await?;
        sleep(self.time).await;
        clock.set_ahead(0);
        world.probe(&[self.daemon], KIND.name).await
    }
}
