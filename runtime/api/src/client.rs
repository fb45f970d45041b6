//! Client of a daemon: HTTP/1.1, with one request per connection.

use std::io;
use std::path::{Path, PathBuf};

use http_body_util::{BodyExt, Full, Limited};
use hyper::Request;
use hyper::body::Bytes;
use hyper::client::conn::http1::handshake;
use hyper::header::{ACCEPT, CONTENT_TYPE, HOST};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use crate::route::Route;
use crate::socket::{SocketAddress, socket_path};
use crate::{DeployEvent, DeployEvents, PluginStatuses, Problem, Reloaded, RollBack, route};

/// Maximum size of an answer, in bytes.
const ANSWER_MAX: usize = 64 << 20;

/// Reason why there is no answer, or not the one that was hoped for.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No daemon listens on this socket.
    #[error("no daemon listens on {0}")]
    NoDaemon(PathBuf),
    /// The daemon can't be spoken to, or what came is not an answer.
    #[error("can't speak with the daemon on {path}: {cause}")]
    Broken {
        /// Path of the socket.
        path: PathBuf,
        /// Error that occurred.
        cause: io::Error,
    },
    /// The daemon answered that it hasn't done what was asked.
    #[error(transparent)]
    Problem(Box<Problem>),
}

/// Client that sends requests to a daemon, and waits for its answers as long as they take.
#[derive(Debug, Clone)]
pub struct Client {
    socket: PathBuf,
}

impl Client {
    /// Creates a client of the daemon on this machine whose folder of deploys is `deploys`.
    #[must_use]
    pub fn local(deploys: &Path) -> Self {
        Self { socket: socket_path(deploys) }
    }

    /// Asks the daemon to read its configuration again, and returns the result.
    ///
    /// # Errors
    /// If there is no daemon, or it refuses.
    pub async fn reload(&self) -> Result<Reloaded, ClientError> {
        self.call(route::RELOAD, None::<&()>).await
    }

    /// Puts an earlier revision of a plugin into force again.
    ///
    /// # Errors
    /// If there is no daemon, or it refuses.
    pub async fn roll_back(&self, ask: &RollBack) -> Result<DeployEvent, ClientError> {
        self.call(route::ROLLBACK, Some(ask)).await
    }

    /// Returns the status of all plugins.
    ///
    /// # Errors
    /// If there is no daemon, or it refuses.
    pub async fn plugins(&self) -> Result<PluginStatuses, ClientError> {
        self.call(route::PLUGINS, None::<&()>).await
    }

    /// Returns the latest events of deploys.
    ///
    /// # Errors
    /// If there is no daemon, or it refuses.
    pub async fn deploy_events(&self) -> Result<DeployEvents, ClientError> {
        self.call(route::DEPLOY_EVENTS, None::<&()>).await
    }

    async fn call<A: DeserializeOwned>(
        &self,
        route: Route,
        body: Option<&impl Serialize>,
    ) -> Result<A, ClientError> {
        let (status, answer) = match self.exchange(route, body).await {
            Ok(answer) => answer,
            Err(cause)
                if matches!(cause.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) =>
            {
                return Err(ClientError::NoDaemon(self.socket.clone()));
            }
            Err(cause) => return Err(self.broken(cause)),
        };
        if (200..300).contains(&status) {
            return serde_json::from_slice(&answer).map_err(|cause| self.broken(cause.into()));
        }
        match serde_json::from_slice(&answer) {
            Ok(problem) => Err(ClientError::Problem(Box::new(problem))),
            Err(_) => Err(self.broken(io::Error::other(format!("it answers with status {status}")))),
        }
    }

    fn broken(&self, cause: io::Error) -> ClientError {
        ClientError::Broken { path: self.socket.clone(), cause }
    }

    async fn exchange(&self, route: Route, body: Option<&impl Serialize>) -> io::Result<(u16, Bytes)> {
        let address = SocketAddress::of(&self.socket)?;
        let stream = UnixStream::connect(address.path()).await?;
        let (mut sender, connection) = handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        let request = Request::builder().method(route.method).uri(route.path).header(HOST, "localhost");
        let request = request.header(ACCEPT, "application/json");
        let request = match body {
            Some(body) => {
                let body = Full::new(Bytes::from(serde_json::to_vec(body)?));
                request.header(CONTENT_TYPE, "application/json").body(body)
            }
            None => request.body(Full::default()),
        };
        let request = request.map_err(io::Error::other)?;
        let exchange = async {
            let answer = sender.send_request(request).await.map_err(hung_up)?;
            let status = answer.status().as_u16();
            let body = Limited::new(answer.into_body(), ANSWER_MAX).collect().await;
            Ok((status, body.map_err(io::Error::other)?.to_bytes()))
        };
        // The connection moves the bytes, and ends once its sender is dropped; any failure of it that matters shows in the
        // exchange.
        let mut exchange = std::pin::pin!(exchange);
        tokio::select! {
            answer = &mut exchange => answer,
            _ = connection => exchange.await,
        }
    }
}

/// Converts the error of a connection that ended before there was an answer.
fn hung_up(error: hyper::Error) -> io::Error {
    if error.is_incomplete_message() || error.is_canceled() || error.is_closed() {
        return io::Error::new(io::ErrorKind::UnexpectedEof, "it has hung up; its log may say why");
    }
    io::Error::other(error)
}
