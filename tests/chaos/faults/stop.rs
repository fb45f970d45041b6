//! SIGSTOP for a daemon, mostly for longer than its leases hold: whoever takes its jobs, it goes on with them when it wakes.

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
    name: "stop",
    fits: anywhere,
    draw: |r, daemons| Box::new(Stop { daemon: r.random_range(0..daemons), time: millis(r, 300, 2_500) }),
};

#[derive(Debug)]
struct Stop {
    daemon: usize,
    time: Duration,
}

#[async_trait]
impl Fault for Stop {
    fn name(&self) -> &'static str {
        KIND.name
    }

    async fn strike(&self, world: &World) -> anyhow::Result<()> {
        let process = world.process(self.daemon).await;
        let trouble = world.trouble(&[self.daemon]);
        if let Some(process) = &*process {
            world.history.note(Event::Robbed { fault: KIND.name, daemon: world.daemons[self.daemon].name() });
            process.signal(Signal::STOP);
            sleep(self.time).await;
            process.signal(Signal::CONT);
        }
        drop(trouble);
        drop(process);
        world.probe(&[self.daemon], KIND.name).await
    }
}
