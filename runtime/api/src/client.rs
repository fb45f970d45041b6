//! The client of a daemon: HTTP/1.1, one request a connection.

use std::io;
use std::path::{Path, PathBuf};

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1::handshake;
use hyper::header::{ACCEPT, CONTENT_TYPE, HOST};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use crate::socket::{SocketAddress, socket_path};
use crate::{DeployEvent, DeployEvents, PluginStatuses, Problem, Reloaded, RollBack, route};

/// No answer is longer. In bytes.
const ANSWER_MAX: usize = 64 << 20;

/// Why there is no answer, or not the one that was hoped for.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens.
    #[error("no daemon listens on {0}")]
    NoDaemon(PathBuf),
    /// The daemon can't be spoken to, or what came is no answer.
    #[error("can't speak with the daemon on {path}: {cause}")]
    Broken {
        /// The socket.
        path: PathBuf,
        /// What went wrong.
        cause: io::Error,
    },
    /// The daemon has not done it.
    #[error(transparent)]
    Problem(Box<Problem>),
}

/// Asks a daemon, and waits for its answers as long as they take.
#[derive(Debug, Clone)]
pub struct Client {
    socket: PathBuf,
}

impl Client {
    /// The client of the daemon on this machine whose folder of deploys this is.
    #[must_use]
    pub fn local(deploys: &Path) -> Self {
        Self { socket: socket_path(deploys) }
    }

    /// Has the configuration read again, and says what came of it.
    ///
    /// # Errors
    /// If there is no daemon, or it refuses.
    pub async fn reload(&self) -> Result<Reloaded, ClientError> {
        self.call(Method::POST, route::RELOAD, None::<&()>).await
    }

    /// Puts an earlier revision of a plugin into force again.
    ///
    /// # Errors
    /// If there is no daemon, or it refuses.
    pub async fn roll_back(&self, ask: &RollBack) -> Result<DeployEvent, ClientError> {
        self.call(Method::POST, route::ROLLBACK, Some(ask)).await
    }

    /// Says how all plugins stand.
    ///
    /// # Errors
    /// If there is no daemon, or it refuses.
    pub async fn plugins(&self) -> Result<PluginStatuses, ClientError> {
        self.call(Method::GET, route::PLUGINS, None::<&()>).await
    }

    /// Says what deploys have done lately.
    ///
    /// # Errors
    /// If there is no daemon, or it refuses.
    pub async fn deploy_events(&self) -> Result<DeployEvents, ClientError> {
        self.call(Method::GET, route::DEPLOY_EVENTS, None::<&()>).await
    }

    async fn call<A: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<A, ClientError> {
        let (status, answer) = match self.exchange(method, path, body).await {
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

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> io::Result<(u16, Bytes)> {
        let address = SocketAddress::of(&self.socket)?;
        let stream = UnixStream::connect(address.path()).await?;
        let (mut sender, connection) = handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        let request = Request::builder().method(method).uri(path).header(HOST, "localhost");
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
        // The connection moves the bytes, and ends once its sender is gone: what matters of it shows in the exchange.
        let mut exchange = std::pin::pin!(exchange);
        tokio::select! {
            answer = &mut exchange => answer,
            _ = connection => exchange.await,
        }
    }
}

/// What it means if the connection ends before there is an answer.
fn hung_up(error: hyper::Error) -> io::Error {
    if error.is_incomplete_message() || error.is_canceled() || error.is_closed() {
        return io::Error::new(io::ErrorKind::UnexpectedEof, "it has hung up; its log may say why");
    }
    io::Error::other(error)
}
