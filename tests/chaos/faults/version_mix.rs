//! A daemon is replaced by one of the version before, which works beside the others for a while, and back.

use std::time::Duration;

use anyhow::Context;
use async_trait::async_trait;
use rand::RngExt;
use rustix::process::Signal;
use sandhog_tests::previous;
use tokio::time::sleep;

use super::{Fault, Kind};
use crate::history::Event;
use crate::plan::{Backend, millis};
use crate::process::Process;
use crate::world::World;

pub(crate) const KIND: Kind = Kind {
    name: "version-mix",
    // A file of this version is nothing for the one before. Where that one wasn't built, there is none to come.
    fits: |backend| backend != Backend::Embedded && previous().is_some(),
    draw: |r, daemons| {
        Box::new(VersionMix {
            daemon: r.random_range(0..daemons),
            time: millis(r, 300, 2_500),
            ends: [0; 2].map(|_| if r.random_bool(0.3) { Signal::KILL } else { Signal::TERM }),
        })
    },
};

#[derive(Debug)]
struct VersionMix {
    daemon: usize,
    /// How long the version before is there.
    time: Duration,
    /// How the one of this version ends, and then the other one.
    ends: [Signal; 2],
}

impl VersionMix {
    async fn end(&self, world: &World, process: &mut Option<Process>, by: Signal) -> anyhow::Result<()> {
        let Some(mut process) = process.take() else { return Ok(()) };
        if by == Signal::KILL {
            let daemon = world.daemons[self.daemon].name();
            world.history.note(Event::Robbed { fault: KIND.name, daemon });
        }
        process.signal(by);
        process.wait().await?;
        Ok(())
    }
}

#[async_trait]
impl Fault for VersionMix {
    fn name(&self) -> &'static str {
        KIND.name
    }

    async fn strike(&self, world: &World) -> anyhow::Result<()> {
        let old = previous().context("the version before was there when this was drawn")?;
        // Its scripts stop half-way at a command that they may not call.
        let rights = world.rights.read().await;
        // That one may tell of a deploy in other words, and somebody waits for those of this one.
        let deploying = world.daemons[self.daemon].deploying.lock().await;
        let mut process = world.process(self.daemon).await;
        let trouble = world.trouble(&[self.daemon]);
        let [of_this, of_old] = self.ends;
        self.end(world, &mut process, of_this).await?;
        world.restart_as(&old, self.daemon, &mut process).await?;
        sleep(self.time).await;
        self.end(world, &mut process, of_old).await?;
        world.restart(self.daemon, &mut process).await?;
        drop(trouble);
        drop(process);
        drop(deploying);
        drop(rights);
        world.probe(&[self.daemon], KIND.name).await
    }
}
