//! Client of a daemon: HTTP/1.1, over the socket on its machine or over the network.

use std::fmt::Display;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::handshake;
use hyper::header::{ACCEPT, CONTENT_TYPE, HOST, RETRY_AFTER};
use hyper::http::request::Builder;
use hyper_util::rt::TokioIo;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::time::{sleep, timeout};

use crate::network::{EventStream, Network};
use crate::route::Route;
use crate::socket::{SocketAddress, socket_path};
use crate::{DeployEvent, DeployEvents, PluginStatuses, Problem, Reloaded, RollBack, Slug, route};

/// Maximum size of an answer, in bytes.
const ANSWER_MAX: usize = 64 << 20;

/// Maximum time for an answer over the network to come in whole: that of a reload, which compiles what is new.
const ANSWER_TIME: Duration = Duration::from_secs(10 * 60);

/// Number of times that a request is made again which was refused for the moment, with nothing done.
const AGAIN_MAX: u32 = 5;

/// Longest wait before a request is made again.
const AGAIN_AFTER_MAX: Duration = Duration::from_secs(10);

/// Reason why there is no answer, or not the one that was hoped for.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No daemon listens on this socket.
    #[error("no daemon listens on {0}")]
    NoDaemon(PathBuf),
    /// The server can't be connected to. Nothing was sent.
    #[error("can't connect to {url}: {cause}")]
    Unreachable {
        /// Address of the server.
        url: String,
        /// Error that occurred.
        cause: io::Error,
    },
    /// The daemon can't be spoken to, or what came is not an answer. It is open whether it has done what was asked.
    #[error("can't speak with the daemon on {place}: {cause}")]
    Broken {
        /// Path of the socket, or address of the server.
        place: String,
        /// Error that occurred.
        cause: io::Error,
    },
    /// The daemon answered that it hasn't done what was asked.
    #[error(transparent)]
    Problem(Box<Problem>),
}

impl From<ClientError> for Problem {
    fn from(error: ClientError) -> Self {
        let text = error.to_string();
        match error {
            ClientError::Problem(problem) => *problem,
            ClientError::NoDaemon(_) => Self::new(Slug::NoDaemon, text),
            ClientError::Unreachable { .. } => Self::new(Slug::NoDaemon, text).help(
                "check the address, and that the server runs; a certificate of one's own needs --ca FILE",
            ),
            // As of a broker that didn't answer, it is open what was done.
            ClientError::Broken { .. } => Self::new(Slug::BrokerUnavailable, text),
        }
    }
}

/// Request to a daemon.
#[derive(Debug, Clone)]
pub struct Request {
    route: Route,
    path: String,
    query: String,
    body: Option<Vec<u8>>,
}

impl Request {
    /// Creates a request to a route in whose path there is nothing to choose.
    #[must_use]
    pub fn to(route: Route) -> Self {
        Self { route, path: route.path.to_owned(), query: String::new(), body: None }
    }

    /// Creates a request to a route with `part` in place of what its path leaves to choose.
    #[must_use]
    pub fn to_part(route: Route, part: impl Display) -> Self {
        let part = part.to_string();
        let path = route.with(utf8_percent_encode(&part, NON_ALPHANUMERIC));
        Self { path, ..Self::to(route) }
    }

    /// Adds a parameter, if there is a value for it.
    #[must_use]
    pub fn with(mut self, name: &str, value: Option<impl Display>) -> Self {
        if let Some(value) = value {
            let mark = if self.query.is_empty() { '?' } else { '&' };
            let value = value.to_string();
            self.query += &format!("{mark}{name}={}", utf8_percent_encode(&value, NON_ALPHANUMERIC));
        }
        self
    }

    /// Sets the body, a JSON document.
    ///
    /// # Panics
    /// Never: the documents of this crate can be written as JSON.
    #[must_use]
    pub fn body(self, document: &impl Serialize) -> Self {
        let body = serde_json::to_vec(document).expect("documents can be written as JSON");
        Self { body: Some(body), ..self }
    }

    /// Returns path and query.
    pub(crate) fn target(&self) -> String {
        format!("{}{}", self.path, self.query)
    }

    fn build(
        &self,
        to: &str,
        host: &str,
        accept: &str,
        with: impl FnOnce(Builder) -> Builder,
    ) -> io::Result<Sent> {
        let request = hyper::Request::builder().method(self.route.method).uri(to);
        let request = with(request.header(HOST, host).header(ACCEPT, accept));
        let request = match &self.body {
            Some(body) => {
                request.header(CONTENT_TYPE, "application/json").body(Full::new(Bytes::from(body.clone())))
            }
            None => request.body(Full::default()),
        };
        request.map_err(io::Error::other)
    }
}

type Sent = hyper::Request<Full<Bytes>>;

/// Media type of a stream of events.
const EVENT_STREAM: &str = "text/event-stream";

/// Client that sends requests to a daemon, and waits for its answers.
#[derive(Debug, Clone)]
pub struct Client(Arc<Transport>);

#[derive(Debug)]
enum Transport {
    Socket(PathBuf),
    Network(Box<Network>),
}

impl Client {
    /// Creates a client of the daemon on this machine whose folder of deploys is `deploys`. It waits as long as an answer takes.
    #[must_use]
    pub fn local(deploys: &Path) -> Self {
        Self(Arc::new(Transport::Socket(socket_path(deploys))))
    }

    /// Creates a client of a daemon, or of `sandhog serve`, over the network.
    #[must_use]
    pub fn over(network: Network) -> Self {
        Self(Arc::new(Transport::Network(Box::new(network))))
    }

    /// Asks the daemon to read its configuration again, and returns the result.
    ///
    /// # Errors
    /// If there is no daemon, or it refuses.
    pub async fn reload(&self) -> Result<Reloaded, ClientError> {
        self.call(&Request::to(route::RELOAD)).await
    }

    /// Puts an earlier revision of a plugin into force again.
    ///
    /// # Errors
    /// If there is no daemon, or it refuses.
    pub async fn roll_back(&self, ask: &RollBack) -> Result<DeployEvent, ClientError> {
        self.call(&Request::to(route::ROLLBACK).body(ask)).await
    }

    /// Returns the status of all plugins.
    ///
    /// # Errors
    /// If there is no daemon, or it refuses.
    pub async fn plugins(&self) -> Result<PluginStatuses, ClientError> {
        self.call(&Request::to(route::PLUGINS)).await
    }

    /// Returns the latest events of deploys.
    ///
    /// # Errors
    /// If there is no daemon, or it refuses.
    pub async fn deploy_events(&self) -> Result<DeployEvents, ClientError> {
        self.call(&Request::to(route::DEPLOY_EVENTS)).await
    }

    /// Makes a request, and reads the answer. One that is refused for the moment is made again a few times.
    ///
    /// # Errors
    /// If there is no daemon, it refuses, or its answer can't be read.
    pub async fn call<A: DeserializeOwned>(&self, request: &Request) -> Result<A, ClientError> {
        let mut again = 0;
        loop {
            let Answer { status, after, body } = match &*self.0 {
                Transport::Socket(socket) => self.by_socket(socket, request).await?,
                Transport::Network(network) => self.by_network(network, request).await?,
            };
            if (200..300).contains(&status) {
                return serde_json::from_slice(&body).map_err(|cause| self.broken(cause.into()));
            }
            let problem = self.problem(status, &body)?;
            // With either of them nothing was done.
            let is_passing = matches!(problem.slug, Slug::RateLimited | Slug::Busy);
            match after.filter(|_| is_passing && again < AGAIN_MAX) {
                Some(after) => sleep(after.min(AGAIN_AFTER_MAX)).await,
                None => return Err(ClientError::Problem(Box::new(problem))),
            }
            again += 1;
        }
    }

    /// Opens a stream of events, behind the place `since`. Only over the network.
    ///
    /// # Errors
    /// If there is no daemon, or it refuses.
    pub async fn events(&self, request: &Request) -> Result<EventStream, ClientError> {
        let Transport::Network(network) = &*self.0 else {
            return Err(self.broken(io::Error::other("the local socket has no streams")));
        };
        let sender = network.connect().await.map_err(|cause| self.unreachable(cause))?;
        let answer = self.send(network, sender, request, EVENT_STREAM).await?;
        let status = answer.1.status().as_u16();
        if status == 200 {
            return Ok(EventStream::new(answer.0, answer.1.into_body()));
        }
        let body = self.collect(answer.1.into_body()).await?;
        Err(ClientError::Problem(Box::new(self.problem(status, &body)?)))
    }

    fn problem(&self, status: u16, body: &[u8]) -> Result<Problem, ClientError> {
        serde_json::from_slice(body)
            .map_err(|_| self.broken(io::Error::other(format!("it answers with status {status}"))))
    }

    fn broken(&self, cause: io::Error) -> ClientError {
        let place = match &*self.0 {
            Transport::Socket(socket) => socket.display().to_string(),
            Transport::Network(network) => network.url(),
        };
        ClientError::Broken { place, cause }
    }

    fn unreachable(&self, cause: io::Error) -> ClientError {
        match &*self.0 {
            Transport::Socket(socket) => ClientError::NoDaemon(socket.clone()),
            Transport::Network(network) => ClientError::Unreachable { url: network.url(), cause },
        }
    }

    async fn by_socket(&self, socket: &Path, request: &Request) -> Result<Answer, ClientError> {
        let is_absence = |kind| matches!(kind, io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused);
        let exchanged = async {
            let address = SocketAddress::of(socket)?;
            let stream = UnixStream::connect(address.path()).await?;
            let (mut sender, connection) = handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
            let request =
                request.build(&request.target(), "localhost", "application/json", |request| request)?;
            let exchange = async {
                let answer = sender.send_request(request).await.map_err(hung_up)?;
                Answer::of(answer).await
            };
            // The connection moves the bytes, and ends once its sender is dropped; any failure of it that matters shows in the
            // exchange.
            let mut exchange = std::pin::pin!(exchange);
            tokio::select! {
                answer = &mut exchange => answer,
                _ = connection => exchange.await,
            }
        };
        exchanged.await.map_err(|cause| {
            if is_absence(cause.kind()) { self.unreachable(cause) } else { self.broken(cause) }
        })
    }

    async fn by_network(&self, network: &Network, request: &Request) -> Result<Answer, ClientError> {
        let sender = match network.idle() {
            Some(sender) => sender,
            None => network.connect().await.map_err(|cause| self.unreachable(cause))?,
        };
        let exchange = async {
            let (sender, answer) = self.send(network, sender, request, "application/json").await?;
            let answer = Answer::of(answer).await.map_err(|cause| self.broken(cause))?;
            network.keep(sender);
            Ok(answer)
        };
        timeout(ANSWER_TIME, exchange).await.unwrap_or_else(|_| {
            Err(self.broken(io::Error::new(io::ErrorKind::TimedOut, "the answer has not come in time")))
        })
    }

    async fn send(
        &self,
        network: &Network,
        mut sender: crate::network::Sender,
        request: &Request,
        accept: &str,
    ) -> Result<(crate::network::Sender, hyper::Response<Incoming>), ClientError> {
        let to = format!("{}{}", network.base(), request.target());
        let sent = request.build(&to, network.authority(), accept, |request| network.authorized(request));
        let sent = sent.map_err(|cause| self.broken(cause))?;
        let answer = sender.send_request(sent).await.map_err(|error| self.broken(hung_up(error)))?;
        Ok((sender, answer))
    }

    async fn collect(&self, body: Incoming) -> Result<Bytes, ClientError> {
        collected(body).await.map_err(|cause| self.broken(cause))
    }
}

/// Answer of a daemon.
struct Answer {
    status: u16,
    /// Time after which the request may be made again.
    after: Option<Duration>,
    body: Bytes,
}

impl Answer {
    async fn of(response: hyper::Response<Incoming>) -> io::Result<Self> {
        let after = response.headers().get(RETRY_AFTER).and_then(|after| after.to_str().ok()?.parse().ok());
        let status = response.status().as_u16();
        let body = collected(response.into_body()).await?;
        Ok(Self { status, after: after.map(Duration::from_secs), body })
    }
}

async fn collected(body: Incoming) -> io::Result<Bytes> {
    let body = Limited::new(body, ANSWER_MAX).collect().await;
    Ok(body.map_err(io::Error::other)?.to_bytes())
}

/// Converts the error of a connection that ended before there was an answer.
fn hung_up(error: hyper::Error) -> io::Error {
    if error.is_incomplete_message() || error.is_canceled() || error.is_closed() {
        return io::Error::new(io::ErrorKind::UnexpectedEof, "it has hung up; its log may say why");
    }
    io::Error::other(error)
}
