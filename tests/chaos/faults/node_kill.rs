//! A primary of the cluster ends, its replica takes over, and it comes back as the replica of that one.
//!
//! Its replica has all that it has acknowledged by then, so nothing may be lost; see `failover.rs`.

use std::time::Duration;

use async_trait::async_trait;
use rand::RngExt;
use sandhog_broker::redis::testing::Cluster;
use sandhog_tests::tenant;
use tokio::task::block_in_place;
use tokio::time::sleep;

use super::{Fault, Kind};
use crate::history::Event;
use crate::plan::{Backend, TENANTS, millis};
use crate::world::{World, until_answered};

pub(crate) const KIND: Kind = Kind {
    name: "node-kill",
    fits: |backend| backend == Backend::Cluster,
    draw: |r, _| {
        let of = TENANTS[r.random_range(0..TENANTS.len())];
        Box::new(NodeKill { of, gone_for: millis(r, 0, 1_500) })
    },
};

#[derive(Debug)]
struct NodeKill {
    /// Whose node it is.
    of: &'static str,
    /// How long after the other has taken over it comes back.
    gone_for: Duration,
}

#[async_trait]
impl Fault for NodeKill {
    fn name(&self) -> &'static str {
        KIND.name
    }

    async fn strike(&self, world: &World) -> anyhow::Result<()> {
        let mut cluster = world.cluster().await;
        let trouble = world.trouble_of_all();
        let of = tenant(self.of);
        let node = block_in_place(|| cluster.holder_of(Cluster::slot_of(&of)));
        block_in_place(|| cluster.nodes()[node].kill_once_replicated());
        let gone_at = world.history.now();
        until_answered(|| world.direct.counts(&of)).await;
        let time = world.history.now().saturating_sub(gone_at);
        world.history.note(Event::Took { fault: KIND.name, what: "until its replica is the primary", time });
        sleep(self.gone_for).await;
        // It has to be whole again before another one may end.
        block_in_place(|| {
            cluster.nodes()[node].restart();
            cluster.nodes()[node].wait_until_replicating();
        });
        drop(trouble);
        drop(cluster);
        world.probe_all(KIND.name).await
    }
}
