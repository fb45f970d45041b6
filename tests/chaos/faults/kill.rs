//! SIGKILL for a daemon, in the midst of its work or while it drains, and a successor after a while.

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
    draw: |r, daemons| {
        let (daemon, gone_for) = (r.random_range(0..daemons), millis(r, 0, 500));
        Box::new(Kill { daemon, gone_for, drains: r.random_bool(0.2).then(|| millis(r, 0, 500)) })
    },
};

#[derive(Debug)]
struct Kill {
    daemon: usize,
    gone_for: Duration,
    /// For how long it has been draining, if it has.
    drains: Option<Duration>,
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
            if let Some(time) = self.drains {
                process.signal(Signal::TERM);
                sleep(time).await;
            }
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
