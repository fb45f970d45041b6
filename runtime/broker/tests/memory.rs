//! The reference model follows its own rules.

use std::sync::Arc;

use async_trait::async_trait;
use sandhog_broker::conformance::{self, Fixture, ManualClock};
use sandhog_broker::memory::Memory;
use sandhog_broker::{Broker, WallClock};

struct Model(Arc<Memory>);

#[async_trait]
impl Fixture for Model {
    async fn start(clock: Arc<ManualClock>) -> Self {
        Self(Arc::new(Memory::new(clock as Arc<dyn WallClock>)))
    }

    fn broker(&self) -> Arc<dyn Broker> {
        Arc::clone(&self.0) as Arc<dyn Broker>
    }
}

conformance::suite!(Model);

/// Two models that were told the same are the same: nothing in it is left to chance.
#[tokio::test]
async fn the_model_agrees_with_itself() {
    conformance::agree_on_some_seeds::<Model>(conformance::steps::MODEL).await;
}
