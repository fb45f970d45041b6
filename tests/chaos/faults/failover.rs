//! The primary ends, and its sentinels put a replica in its place; the old one may come back.
//!
//! Replicas have all that it has acknowledged by then, so nothing may be lost. What is lost otherwise, and that it is no more,
//! is shown by the broker's own tests.

use std::time::Duration;

use async_trait::async_trait;
use rand::RngExt;
use sandhog_tests::tenant;
use tokio::task::block_in_place;
use tokio::time::sleep;

use super::{Fault, Kind};
use crate::history::Event;
use crate::plan::{Backend, TENANTS, millis};
use crate::world::{World, until_answered};

pub(crate) const KIND: Kind = Kind {
    name: "failover",
    fits: |backend| backend == Backend::Sentinels,
    draw: |r, _| Box::new(Failover { back_after: r.random_bool(0.5).then(|| millis(r, 0, 3_000)) }),
};

#[derive(Debug)]
struct Failover {
    /// How long after the other has taken over the old primary comes back; in between it takes itself for the primary.
    back_after: Option<Duration>,
}

#[async_trait]
impl Fault for Failover {
    fn name(&self) -> &'static str {
        KIND.name
    }

    async fn strike(&self, world: &World) -> anyhow::Result<()> {
        let mut sentinels = world.sentinels().await;
        let trouble = world.trouble_of_all();
        let of = tenant(TENANTS[0]);
        let primary = block_in_place(|| sentinels.primary());
        block_in_place(|| sentinels.servers()[primary].kill_once_replicated());
        let gone_at = world.history.now();
        until_answered(|| world.direct.counts(&of)).await;
        let time = world.history.now().saturating_sub(gone_at);
        world.history.note(Event::Took { fault: KIND.name, what: "until another is the primary", time });
        if let Some(time) = self.back_after {
            sleep(time).await;
            block_in_place(|| sentinels.servers()[primary].restart());
        }
        drop(trouble);
        drop(sentinels);
        world.probe_all(KIND.name).await
    }
}
