//! TCP proxy that injects faults of networks.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Proxy from one port of 127.0.0.1 to another. It ends when this is dropped.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    road: Arc<Road>,
    taking: JoinHandle<()>,
}

/// Direction of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the server.
    There,
    /// From the server to the client.
    Back,
}

impl Direction {
    /// Both directions.
    pub const BOTH: [Self; 2] = [Self::There, Self::Back];
}

/// Treatment of bytes in one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// Bytes pass at once.
    Free,
    /// Bytes wait until this changes, as in a network that is cut and mends: then bytes that a client has long given up on
    /// arrive after all.
    Held,
    /// Bytes pass in pieces, each a fixed time after the one before.
    Slow {
        /// Maximum size of a piece in bytes; at least 1.
        bytes: usize,
        /// Pause before each piece.
        every: Duration,
    },
}

#[derive(Debug)]
struct Road {
    weather: watch::Sender<Weather>,
    /// Direction and number of further bytes after which the connection that carries the last of them is closed.
    fuse: Mutex<Option<(Direction, usize)>>,
}

#[derive(Debug, Clone, Copy)]
struct Weather {
    flows: [Flow; 2],
    /// Number of times that all connections were closed.
    closed: u64,
    /// Number of times that all connections were forgotten.
    forgotten: u64,
}

impl Weather {
    fn flow(&self, direction: Direction) -> Flow {
        self.flows[direction as usize]
    }
}

/// Error if the byte count of a [`Proxy::close_after`] is reached: the connection is to be closed.
struct Burnt;

impl Proxy {
    /// Starts a proxy to this port of 127.0.0.1.
    ///
    /// # Panics
    /// If no port is free.
    pub async fn to(target: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("there is a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let weather = Weather { flows: [Flow::Free; 2], closed: 0, forgotten: 0 };
        let road = Arc::new(Road { weather: watch::Sender::new(weather), fuse: Mutex::default() });
        let of_road = Arc::clone(&road);
        let taking = tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                tokio::spawn(of_road.clone().carry(near, target));
            }
        });
        Self { port, road, taking }
    }

    /// Returns the port on which the proxy listens.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Sets the flow in one direction, for existing and new connections.
    pub fn set(&self, direction: Direction, flow: Flow) {
        self.road.weather.send_modify(|weather| weather.flows[direction as usize] = flow);
    }

    /// Closes all connections.
    pub fn close_all(&self) {
        self.road.weather.send_modify(|weather| weather.closed += 1);
    }

    /// Forgets all connections: they stay open, but no bytes pass any more. New connections aren't affected.
    pub fn forget_all(&self) {
        self.road.weather.send_modify(|weather| weather.forgotten += 1);
    }

    /// Closes a connection after `bytes` further bytes, counted over all connections, right after the last of them: possibly
    /// within a command or a reply.
    pub fn close_after(&self, direction: Direction, bytes: usize) {
        *self.road.fuse() = Some((direction, bytes));
    }

    /// Cancels a pending [`Self::close_after`].
    pub fn disarm(&self) {
        *self.road.fuse() = None;
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.taking.abort();
        self.close_all();
    }
}

impl Road {
    /// Forwards bytes both ways until both ends have closed or the connection is to be closed.
    async fn carry(self: Arc<Self>, mut near: TcpStream, target: u16) {
        let mut weather = self.weather.subscribe();
        let Weather { closed, forgotten, .. } = *weather.borrow();
        let Ok(mut far) = TcpStream::connect(("127.0.0.1", target)).await else { return };
        // Small commands are sent at once, as the two ends would.
        let (_, _) = (near.set_nodelay(true), far.set_nodelay(true));
        {
            let ((near_in, near_out), (far_in, far_out)) = (near.split(), far.split());
            let there = self.pump(Direction::There, near_in, far_out);
            let back = self.pump(Direction::Back, far_in, near_out);
            tokio::select! {
                _ = async { tokio::try_join!(there, back) } => return,
                changed = weather.wait_for(|now| now.closed > closed || now.forgotten > forgotten) => {
                    if changed.map_or(true, |now| now.closed > closed) {
                        return;
                    }
                }
            }
        }
        // Forgotten: nothing passes until the client closes its end.
        let mut unheard = [0; 1024];
        tokio::select! {
            () = async { while near.read(&mut unheard).await.is_ok_and(|length| length > 0) {} } => {}
            _ = weather.wait_for(|now| now.closed > closed) => {}
        }
    }

    async fn pump(
        &self,
        direction: Direction,
        mut from: ReadHalf<'_>,
        mut to: WriteHalf<'_>,
    ) -> Result<(), Burnt> {
        let mut weather = self.weather.subscribe();
        let mut piece = [0; 16 * 1024];
        loop {
            // A failed connection counts as ended.
            let length = from.read(&mut piece).await.unwrap_or(0);
            if length == 0 {
                to.shutdown().await.ok();
                return Ok(());
            }
            let mut left = &piece[..length];
            while !left.is_empty() {
                let most = may_pass(&mut weather, direction).await;
                let (now, later) = left.split_at(most.min(left.len()));
                let burnt_after = self.burn(direction, now.len());
                if to.write_all(&now[..burnt_after.unwrap_or(now.len())]).await.is_err() {
                    return Ok(());
                }
                if burnt_after.is_some() {
                    return Err(Burnt);
                }
                left = later;
            }
        }
    }

    fn fuse(&self) -> MutexGuard<'_, Option<(Direction, usize)>> {
        self.fuse.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts `bytes` bytes; returns the number of them after which the connection is to be closed, or `None` if it isn't.
    fn burn(&self, direction: Direction, bytes: usize) -> Option<usize> {
        let mut fuse = self.fuse();
        match &mut *fuse {
            Some((of, left)) if *of == direction && *left > bytes => {
                *left -= bytes;
                None
            }
            Some((of, left)) if *of == direction => {
                let last = *left;
                *fuse = None;
                Some(last)
            }
            _ => None,
        }
    }
}

/// Waits until bytes may pass, and returns their maximum number.
async fn may_pass(weather: &mut watch::Receiver<Weather>, direction: Direction) -> usize {
    loop {
        let flow = weather.borrow_and_update().flow(direction);
        match flow {
            Flow::Free => return usize::MAX,
            Flow::Slow { bytes, every } => {
                tokio::time::sleep(every).await;
                return bytes;
            }
            Flow::Held => {
                if weather.changed().await.is_err() {
                    // The proxy is dropped, so nothing is held any more.
                    return usize::MAX;
                }
            }
        }
    }
}
