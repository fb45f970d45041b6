//! SIGKILL for a daemon, and a successor after a while.

use std::time::Duration;

use async_trait::async_trait;
use rand::RngExt;
use rustix::process::Signal;
use tokio::time::sleep;

use super::{Fault, Kind, anywhere};
use crate::history::Event;
use crate::plan::millis;
use crate::world::World;

pub(crate) const KIND: Kind = Kind {
    name: "kill",
    fits: anywhere,
    draw: |r, daemons| Box::new(Kill { daemon: r.random_range(0..daemons), gone_for: millis(r, 0, 500) }),
};

#[derive(Debug)]
struct Kill {
    daemon: usize,
    gone_for: Duration,
}

#[async_trait]
impl Fault for Kill {
    fn name(&self) -> &'static str {
        KIND.name
    }

    async fn strike(&self, world: &World) -> anyhow::Result<()> {
        let mut process = world.process(self.daemon).await;
        let trouble = world.trouble(&[self.daemon]);
        if let Some(mut process) = process.take() {
            world.history.note(Event::Robbed { fault: KIND.name, daemon: world.daemons[self.daemon].name() });
            process.signal(Signal::KILL);
            process.wait().await?;
        }
        sleep(self.gone_for).await;
        world.restart(self.daemon, &mut process).await?;
        drop(trouble);
        drop(process);
        world.probe(&[self.daemon], KIND.name).await
    }
}
