//! Idle connections, kept for further requests of the same run, and never for any other's.
//!
//! Only requests that may be repeated are sent over a connection that was used before, as nobody can know whether the server
//! has closed it meanwhile: if it has, they are sent once more, over a new one.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hyper::client::conn::http1::SendRequest;
use sandhog_core::host_memory::IDLE_CONNECTIONS_MAX;
use tokio::sync::OwnedSemaphorePermit;
use wasmtime_wasi::runtime::AbortOnDropJoinHandle;

use super::connect::Destination;
use super::upload::Upload;
use super::wire::Cut;

/// Time for which an idle connection is kept: most servers close it after some seconds.
const IDLE_FOR: Duration = Duration::from_secs(3);

/// Connection, which is closed when this is dropped.
pub(super) struct Connection {
    pub(super) to: Destination,
    pub(super) secret: bool,
    pub(super) sender: SendRequest<Upload>,
    pub(super) driver: AbortOnDropJoinHandle<()>,
    pub(super) cut: Arc<Cut>,
    /// Permit: the connection is one of those that the tenant may have.
    pub(super) _counted: OwnedSemaphorePermit,
}

/// Connections that no request uses.
#[derive(Default)]
pub(super) struct Idle(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    /// Connections, each with the time since when it is idle; the newest are at the end.
    connections: Vec<(Instant, Connection)>,
    closed: bool,
}

impl Idle {
    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a connection whose response has come to its end.
    pub(super) fn keep(&self, connection: Connection) {
        let mut kept = self.lock();
        if kept.closed || connection.sender.is_closed() {
            return;
        }
        if kept.connections.len() as u64 >= IDLE_CONNECTIONS_MAX {
            kept.connections.remove(0);
        }
        kept.connections.push((Instant::now(), connection));
    }

    /// Takes a connection to a destination, with TLS if it is to be `secret`. `None` if there is none.
    pub(super) fn take(&self, to: &Destination, secret: bool) -> Option<Connection> {
        let mut kept = self.lock();
        kept.connections
            .retain(|(since, connection)| since.elapsed() < IDLE_FOR && !connection.sender.is_closed());
        let leads =
            |(_, connection): &(Instant, Connection)| connection.to == *to && connection.secret == secret;
        let at = kept.connections.iter().rposition(leads)?;
        Some(kept.connections.remove(at).1)
    }

    /// Closes the oldest connection. Returns whether there was one.
    pub(super) fn close_oldest(&self) -> bool {
        let mut kept = self.lock();
        let any = !kept.connections.is_empty();
        if any {
            kept.connections.remove(0);
        }
        any
    }

    /// Closes all connections, and keeps none from now on.
    pub(super) fn close(&self) {
        let mut kept = self.lock();
        kept.closed = true;
        kept.connections.clear();
    }
}
