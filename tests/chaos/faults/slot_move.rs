//! The slot of a tenant is moved to another node of the cluster, a few keys at a time, while its jobs run.

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
use crate::world::World;

pub(crate) const KIND: Kind = Kind {
    name: "slot-move",
    fits: |backend| backend == Backend::Cluster,
    draw: |r, _| {
        Box::new(SlotMove {
            of: TENANTS[r.random_range(0..TENANTS.len())],
            keys: r.random_range(1..30),
            rest: millis(r, 0, 30),
        })
    },
};

#[derive(Debug)]
struct SlotMove {
    of: &'static str,
    /// How many keys go at a time.
    keys: usize,
    /// How long until the next ones go.
    rest: Duration,
}

#[async_trait]
impl Fault for SlotMove {
    fn name(&self) -> &'static str {
        KIND.name
    }

    async fn strike(&self, world: &World) -> anyhow::Result<()> {
        let cluster = world.cluster().await;
        let trouble = world.trouble_of_all();
        let slot = Cluster::slot_of(&tenant(self.of));
        let (from, to) = block_in_place(|| {
            let from = cluster.holder_of(slot);
            (from, cluster.other_than(from))
        });
        let began = world.history.now();
        block_in_place(|| cluster.open(slot, from, to));
        while block_in_place(|| cluster.carry(slot, from, to, self.keys)) > 0 {
            sleep(self.rest).await;
        }
        block_in_place(|| cluster.close(slot, from, to));
        let time = world.history.now().saturating_sub(began);
        world.history.note(Event::Took { fault: KIND.name, what: "until the slot has arrived", time });
        drop(trouble);
        drop(cluster);
        world.probe_all(KIND.name).await
    }
}
