//! The interface over the network: a listener with a runtime and a connection to the broker of its own, so that no flood of
//! requests delays a job.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use rustls::ServerConfig;
use sandhog_broker::Broker;
use sandhog_config::{Config, Http};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

use super::connection::serve_remote;
use super::dashboard::{below, with_dashboard};
use super::guard::guarded;
use super::router::{State, routes};
use super::tls::{self, TlsError};
use crate::broker::{Access, connect};
use crate::off_thread::off_thread;
use crate::service::Service;

/// Maximum time in which a handshake has to be done.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);

/// Maximum time for which requests under way may go on at the end.
const GRACE: Duration = Duration::from_secs(5);

/// Reason why the interface can't be served.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The address can't be listened on.
    #[error("can't listen on {address}, which is http.listen: {cause}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Error that occurred.
        cause: io::Error,
    },
    /// The certificate can't be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The broker can't be used.
    #[error(transparent)]
    Broker(#[from] sandhog_broker::Error),
    /// There is no runtime to be had.
    #[error("can't start the threads of http.threads: {0}")]
    Runtime(io::Error),
}

/// Interface over the network that is served until this is dropped, or stopped.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    /// Whether it is about to end, and whether it ends.
    phase: watch::Sender<Phase>,
    serving: JoinHandle<()>,
    runtime: Option<Runtime>,
}

/// Phase of a server on its way down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// All is served.
    Serving,
    /// All is served, and whoever asks is told to go elsewhere from now on.
    Draining,
    /// Requests under way are the last ones.
    Stopping,
}

impl Server {
    /// Starts to serve what `http` says, by the use cases of a service that `of` creates for a broker.
    ///
    /// # Errors
    /// The address, the certificate or the broker can't be used.
    pub async fn start(
        config: &Config,
        http: &Http,
        of: impl FnOnce(Arc<dyn Broker>) -> Service,
    ) -> Result<Self, ServerError> {
        let listening = |cause| ServerError::Listen { address: http.listen, cause };
        let listener = std::net::TcpListener::bind(http.listen).map_err(listening)?;
        listener.set_nonblocking(true).map_err(listening)?;
        let address = listener.local_addr().map_err(listening)?;
        let certificate = match http.tls.clone() {
            None => None,
            Some(files) => {
                let (files, stamps, config) = off_thread(move || {
                    let stamps = tls::stamps(&files);
                    let config = tls::load(&files);
                    (files, stamps, config)
                })
                .await;
                Some((files, stamps, watch::Sender::new(config?)))
            }
        };
        let runtime = Builder::new_multi_thread()
            .worker_threads(http.threads.get())
            .thread_name("sandhog-http")
            .enable_all()
            .build()
            .map_err(ServerError::Runtime)?;
        let mut server = Self {
            address,
            phase: watch::Sender::new(Phase::Serving),
            serving: runtime.spawn(async {}),
            runtime: Some(runtime),
        };
        let Some(runtime) = &server.runtime else { return Ok(server) };
        // What a connection to a broker needs runs where it was made.
        let of_broker = config.clone();
        let connection = runtime.spawn(async move { connect(&of_broker, Access::Serve).await }).await;
        let connection = connection.map_err(|panic| ServerError::Runtime(io::Error::other(panic)))??;
        let state = State::new(of(Arc::clone(&connection.broker)), server.phase.subscribe(), http.body);
        let router = below(&http.base, guarded(with_dashboard(routes(&state), &http.base), &state));
        let (phase, permits) = (server.phase.subscribe(), http.connections.get() as usize);
        let every = config.deploy.look_every;
        server.serving = runtime.spawn(async move {
            let acceptor = certificate.as_ref().map(|(.., in_force)| in_force.subscribe());
            let follow = async {
                match certificate {
                    Some((files, stamps, in_force)) => tls::follow(files, stamps, every, in_force).await,
                    None => std::future::pending().await,
                }
            };
            match TcpListener::from_std(listener) {
                Ok(listener) => {
                    let listener = Listener { listener, acceptor, router, permits, phase };
                    tokio::select! {
                        () = listener.serve() => {}
                        () = follow => {}
                    }
                }
                Err(error) => tracing::error!(%error, "http.listen can't be served"),
            }
            connection.close().await;
        });
        let scheme = if http.tls.is_some() { "https" } else { "http" };
        let dashboard = format!("{scheme}://{address}{}/", http.base);
        tracing::info!(%address, tokens = http.tokens.len(), dashboard, "listening for requests over HTTP");
        if http.tokens.is_empty() {
            tracing::warn!(%address, "there are no http.tokens: whoever reaches this may do everything");
        }
        Ok(server)
    }

    /// Address that is listened on.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Says from now on that it isn't ready, and goes on serving.
    pub fn drain(&self) {
        self.phase.send_replace(Phase::Draining);
    }

    /// Takes no more requests, and waits for those under way, for a few seconds at most.
    pub async fn stop(mut self) {
        self.phase.send_replace(Phase::Stopping);
        if timeout(GRACE, &mut self.serving).await.is_err() {
            tracing::warn!("some requests over HTTP were cut off");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Listener with all that it takes to serve a connection.
struct Listener {
    listener: TcpListener,
    acceptor: Option<watch::Receiver<Arc<ServerConfig>>>,
    router: Router,
    permits: usize,
    phase: watch::Receiver<Phase>,
}

/// Waits until the last requests are those under way.
pub(super) async fn stopping(phase: &mut watch::Receiver<Phase>) {
    if phase.wait_for(|phase| *phase >= Phase::Stopping).await.is_err() {
        // Nobody says so any more, as on the local socket, which is served to the end.
        std::future::pending().await
    }
}

impl Listener {
    /// Serves connections until it is told to stop, and those under way have ended.
    async fn serve(self) {
        let Self { listener, acceptor, router, permits, mut phase } = self;
        let permits = Arc::new(Semaphore::new(permits));
        let mut served = JoinSet::new();
        loop {
            let taken = async {
                let permit = Arc::clone(&permits).acquire_owned().await.ok();
                (permit, listener.accept().await)
            };
            let (permit, accepted) = tokio::select! {
                biased;
                () = stopping(&mut phase) => break,
                taken = taken => taken,
            };
            match accepted {
                Ok((stream, peer)) => {
                    let (router, mut phase) = (router.clone(), phase.clone());
                    let acceptor =
                        acceptor.as_ref().map(|config| TlsAcceptor::from(Arc::clone(&config.borrow())));
                    served.spawn(async move {
                        let stopped = stopping(&mut phase);
                        // A client that hangs up, or says nothing, is no concern of ours.
                        if let Err(error) = serve_one(stream, acceptor, router, peer, stopped).await {
                            tracing::debug!(%error, %peer, "a connection over HTTP has ended early");
                        }
                        drop(permit);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "http.listen refuses a connection");
                    // The cause may be a lack of file handles, say: that must not spin.
                    sleep(Duration::from_millis(100)).await;
                }
            }
            while served.try_join_next().is_some() {}
        }
        drop(listener);
        while served.join_next().await.is_some() {}
    }
}

async fn serve_one(
    stream: TcpStream,
    acceptor: Option<TlsAcceptor>,
    router: Router,
    peer: SocketAddr,
    stopped: impl Future<Output = ()>,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let served = match acceptor {
        None => serve_remote(stream, router, peer, stopped).await,
        Some(acceptor) => {
            let shaken = timeout(HANDSHAKE_MAX, acceptor.accept(stream)).await;
            let stream = shaken.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
            serve_remote(stream, router, peer, stopped).await
        }
    };
    served.map_err(io::Error::other)
}
