//! SIGTERM for a daemon: it drains, gives back what doesn't end in its grace time, and exits 0; then a successor.

use async_trait::async_trait;
use rand::RngExt;
use rustix::process::Signal;

use super::{Fault, Kind, anywhere};
use crate::history::Event;
use crate::process::how;
use crate::world::World;

pub(crate) const KIND: Kind = Kind {
    name: "term",
    fits: anywhere,
    draw: |r, daemons| Box::new(Term { daemon: r.random_range(0..daemons) }),
};

#[derive(Debug)]
struct Term {
    daemon: usize,
}

#[async_trait]
impl Fault for Term {
    fn name(&self) -> &'static str {
        KIND.name
    }

    async fn strike(&self, world: &World) -> anyhow::Result<()> {
        let mut process = world.process(self.daemon).await;
        let trouble = world.trouble(&[self.daemon]);
        if let Some(mut process) = process.take() {
            let daemon = world.daemons[self.daemon].name();
            let told = world.history.now();
            process.signal(Signal::TERM);
            let status = process.wait().await?;
            let time = world.history.now().saturating_sub(told);
            world.history.note(Event::Took {
                fault: KIND.name,
                what: "until it has ended, with a grace of 0.5 s",
                time,
            });
            if !status.success() {
                world
                    .history
                    .note(Event::Died { daemon, how: format!("{} when it was to drain", how(status)) });
            }
        }
        world.restart(self.daemon, &mut process).await?;
        drop(trouble);
        drop(process);
        world.probe(&[self.daemon], KIND.name).await
    }
}
