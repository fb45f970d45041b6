//! The broker in a file follows every rule, and agrees with the reference model.

use std::sync::Arc;

use async_trait::async_trait;
use sandhog_broker::conformance::{self, Fixture, ManualClock};
use sandhog_broker::embedded::Embedded;
use sandhog_broker::{Broker, Clock};
use tempfile::TempDir;

struct InFile {
    broker: Arc<Embedded>,
    _folder: TempDir,
}

#[async_trait]
impl Fixture for InFile {
    async fn start(clock: Arc<ManualClock>) -> Self {
        // The rules are about what is in the file; a disk would only make them slow.
        let folder =
            tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a temporary folder");
        let path = folder.path().join("jobs.db");
        let broker = Embedded::open(&path, clock as Arc<dyn Clock>).expect("a new file opens");
        Self { broker: Arc::new(broker), _folder: folder }
    }

    fn broker(&self) -> Arc<dyn Broker> {
        Arc::clone(&self.broker) as Arc<dyn Broker>
    }
}

conformance::suite!(InFile);

#[tokio::test]
async fn the_model_agrees_on_random_operations() {
    conformance::agree_on_some_seeds::<InFile>().await;
}
