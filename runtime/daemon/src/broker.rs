//! From configuration to a broker.

use std::sync::Arc;

use sandhog_broker::embedded::Embedded;
use sandhog_broker::redis::Redis;
use sandhog_broker::{Broker, Result, SystemClock};

use crate::config::{self, Config};
use crate::off_thread::off_thread;

/// The broker that a configuration names. A server is not spoken to before the first call; a file is opened, and made
/// if it isn't there.
///
/// # Errors
/// If the file can't be used.
pub async fn connect(config: &Config) -> Result<Arc<dyn Broker>> {
    match &config.broker {
        config::Broker::Embedded { path } => {
            let path = path.clone();
            let opened = off_thread(move || Embedded::open(&path, Arc::new(SystemClock))).await;
            Ok(Arc::new(opened?))
        }
        config::Broker::Redis(server) => Ok(Arc::new(Redis::new(server)?)),
    }
}
