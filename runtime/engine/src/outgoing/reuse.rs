//! Connections that are kept for further requests of the same run, and never for anybody else's.
//!
//! Only requests that may be repeated go over one that was used before, as nobody can know whether the other side has closed
//! it meanwhile: if it has, they are sent once more, over a new one.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hyper::client::conn::http1::SendRequest;
use sandhog_core::host_memory::IDLE_CONNECTIONS_MAX;
use tokio::sync::OwnedSemaphorePermit;
use wasmtime_wasi::runtime::AbortOnDropJoinHandle;

use super::connect::Destination;
use super::upload::Upload;
use super::wire::Cut;

/// How long one is kept: most servers close it after some seconds.
const IDLE_FOR: Duration = Duration::from_secs(3);

/// A connection, which is closed when this is dropped.
pub(super) struct Connection {
    pub(super) to: Destination,
    pub(super) secret: bool,
    pub(super) sender: SendRequest<Upload>,
    pub(super) driver: AbortOnDropJoinHandle<()>,
    pub(super) cut: Arc<Cut>,
    /// It is one of those that the tenant may have.
    pub(super) _counted: OwnedSemaphorePermit,
}

/// Those that no request has.
#[derive(Default)]
pub(super) struct Idle(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    /// With the time since when; the newest are at the end.
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

    /// Takes one that leads there.
    pub(super) fn take(&self, to: &Destination, secret: bool) -> Option<Connection> {
        let mut kept = self.lock();
        kept.connections
            .retain(|(since, connection)| since.elapsed() < IDLE_FOR && !connection.sender.is_closed());
        let leads =
            |(_, connection): &(Instant, Connection)| connection.to == *to && connection.secret == secret;
        let at = kept.connections.iter().rposition(leads)?;
        Some(kept.connections.remove(at).1)
    }

    /// Closes the oldest, if there is any.
    pub(super) fn close_oldest(&self) -> bool {
        let mut kept = self.lock();
        let any = !kept.connections.is_empty();
        if any {
            kept.connections.remove(0);
        }
        any
    }

    /// Closes all, and keeps none from now on.
    pub(super) fn close(&self) {
        let mut kept = self.lock();
        kept.closed = true;
        kept.connections.clear();
    }
}
