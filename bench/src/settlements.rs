//! Times at which jobs were settled, as seen by a client.
//!
//! Redis notifies this client of every key of a tenant that is written (`CLIENT TRACKING ON BCAST`), at the same time as it
//! answers the writer. A job's own keys are written when it is enqueued, leased and settled: the last notification is the
//! settlement. This costs Redis a message for each of these, and no polling.

use std::collections::HashMap;
use std::time::SystemTime;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, PushInfo, PushKind, Value};
use sandhog_core::id::{JobId, TenantId};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Listener to writes of a tenant's jobs.
pub(crate) struct Settlements {
    /// Connection that has to be kept for as long as notifications are to come.
    connection: MultiplexedConnection,
    heard: JoinHandle<HashMap<JobId, SystemTime>>,
}

impl Settlements {
    /// Starts to listen.
    ///
    /// # Panics
    /// If the server can't be reached.
    pub(crate) async fn listen(url: &str, tenant: &TenantId) -> Self {
        let client = Client::open(format!("{url}?protocol=resp3")).expect("a right URL");
        let (sender, pushes) = mpsc::unbounded_channel();
        let config = AsyncConnectionConfig::new().set_push_sender(sender);
        let connection = client.get_multiplexed_async_connection_with_config(&config).await;
        let mut connection = connection.expect("Redis is up");
        let prefix = format!("sandhog:{{{tenant}}}:");
        let on =
            redis::cmd("CLIENT").arg("TRACKING").arg("ON").arg("BCAST").arg("PREFIX").arg(prefix).clone();
        on.exec_async(&mut connection).await.expect("Redis can tell of what is written");
        Self { connection, heard: tokio::spawn(hear(pushes)) }
    }

    /// Stops, and returns the time of each job's last write.
    ///
    /// # Panics
    /// If listening has failed.
    pub(crate) async fn end(self) -> HashMap<JobId, SystemTime> {
        drop(self.connection);
        self.heard.await.expect("it doesn't panic")
    }
}

/// Records the notifications until the connection is gone.
async fn hear(mut pushes: mpsc::UnboundedReceiver<PushInfo>) -> HashMap<JobId, SystemTime> {
    let mut last = HashMap::new();
    while let Some(push) = pushes.recv().await {
        let now = SystemTime::now();
        if push.kind == PushKind::Invalidate {
            last.extend(push.data.iter().flat_map(jobs_of).map(|job| (job, now)));
        }
    }
    last
}

/// Returns the jobs whose keys are in a list of keys.
fn jobs_of(keys: &Value) -> impl Iterator<Item = JobId> {
    let keys = match keys {
        Value::Array(keys) => keys.as_slice(),
        _ => &[],
    };
    keys.iter().filter_map(|key| match key {
        Value::BulkString(key) => JobId::parse(str::from_utf8(key).ok()?.rsplit(':').next()?).ok(),
        _ => None,
    })
}
