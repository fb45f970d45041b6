//! SIGSTOP for a primary of the cluster, which nobody takes for gone: the tenants that it holds wait, and those of the others
//! go on meanwhile.

use std::time::Duration;

use async_trait::async_trait;
use rand::RngExt;
use sandhog_broker::redis::testing::Cluster;
use sandhog_tests::tenant;
use tokio::task::block_in_place;
use tokio::time::sleep;

use super::{Fault, Kind};
use crate::plan::{Backend, TENANTS, millis};
use crate::world::World;

pub(crate) const KIND: Kind = Kind {
    name: "silent-shard",
    fits: |backend| backend == Backend::Cluster,
    draw: |r, _| {
        let of = TENANTS[r.random_range(0..TENANTS.len())];
        Box::new(SilentShard { of, time: millis(r, 0, 2_000) })
    },
};

#[derive(Debug)]
struct SilentShard {
    /// Whose node it is.
    of: &'static str,
    /// How much longer it is silent than it takes to see that the others go on.
    time: Duration,
}

#[async_trait]
impl Fault for SilentShard {
    fn name(&self) -> &'static str {
        KIND.name
    }

    async fn strike(&self, world: &World) -> anyhow::Result<()> {
        let cluster = world.cluster().await;
        let (silent, (touched, untouched)) = block_in_place(|| {
            let holder_of = |of| cluster.holder_of(Cluster::slot_of(&of));
            let silent = holder_of(tenant(self.of));
            let holds = |nth: &usize| holder_of(world.daemons[*nth].tenant()) == silent;
            (silent, (0..world.daemons.len()).partition::<Vec<_>, _>(holds))
        });
        let trouble = world.trouble(&touched);
        block_in_place(|| cluster.silence(silent));
        let gone_on = world.probe_meanwhile(&untouched, KIND.name).await;
        sleep(self.time).await;
        block_in_place(|| cluster.end_silence(silent));
        gone_on?;
        drop(trouble);
        drop(cluster);
        world.probe_all(KIND.name).await
    }
}
