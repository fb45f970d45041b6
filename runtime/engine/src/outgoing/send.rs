//! Sending of one request, from the guest's call to the end of its response.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures::task::AtomicWaker;
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use hyper::client::conn::http1;
use hyper::header::{CONTENT_LENGTH, HeaderValue, TRANSFER_ENCODING};
use hyper::http::uri::{PathAndQuery, Scheme};
use hyper::{Method, Request, Response, Uri};
use sandhog_core::host_memory;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::{Instant, Sleep, sleep_until, timeout, timeout_at};
use wasmtime_wasi::runtime::spawn;
use wasmtime_wasi_http::io::TokioIo;
use wasmtime_wasi_http::{Error, RequestOptions, Result, WasiBody};

use super::connect::Destination;
use super::reuse::Connection;
use super::upload::Upload;
use super::wire::{Counted, Cut};
use super::{Boxed, Requests, connect};
use crate::run_log::Remark;

/// Maximum number of header lines of a response, and maximum of the bytes that they take.
const HEADERS_MAX: usize = 128;
const HEAD_MAX: usize = host_memory::HEAD_MAX.0 as usize;

/// Maximum duration that a clock can be trusted with.
const FOREVER: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// Response, and the future that has to be driven for its body to come.
pub(super) type Sent = (Response<WasiBody>, Boxed<Result<(), Error>>);

/// Request under way.
struct Exchange {
    requests: Arc<Requests>,
    to: Destination,
    secret: bool,
    /// Time by which the request has to be over.
    ends: Instant,
    /// Step that the request waits for: a [`Step`].
    step: AtomicU8,
    options: RequestOptions,
    _permit: OwnedSemaphorePermit,
}

/// Step that a request waits for.
#[derive(Debug, Clone, Copy)]
#[repr(u8)]
pub(super) enum Step {
    /// The tenant has a connection to spare.
    Turn,
    /// The host's name is looked up.
    Name,
    /// The connection is made.
    Connection,
    /// The response comes.
    Response,
}

impl Requests {
    /// Sends a request, and waits for the head of its response.
    pub(super) async fn send(
        self: Arc<Self>,
        request: Request<WasiBody>,
        options: RequestOptions,
    ) -> Result<Sent> {
        let (host, port, secret) = ask(&request)?;
        let to = self.granted(&host, port)?;
        let permit = Arc::clone(&self.permits).try_acquire_owned().map_err(|_| self.too_many())?;
        let ends = Instant::now() + self.timeout.min(FOREVER);
        let step = AtomicU8::new(Step::Turn as u8);
        let exchange = Exchange { requests: self, to, secret, ends, step, options, _permit: permit };
        let (repeatable, (answered, seen)) = (is_repeatable(&request), watch::channel(false));
        let mut request = in_origin_form(request, seen);
        if repeatable {
            if let Some(used) = exchange.requests.idle.take(&exchange.to, secret) {
                let again = copy(&request);
                match exchange.over(used, request).await {
                    Ok((connection, response)) => {
                        answered.send_replace(true);
                        return Ok(exchange.repeatable(connection, response));
                    }
                    Err(error) if !is_of_connection(&error) => return Err(error),
                    // The server had closed it.
                    Err(_) => request = again,
                }
            }
        } else {
            // The connection isn't used for another request once it is answered.
            let close = HeaderValue::from_static("close");
            request.headers_mut().insert(hyper::header::CONNECTION, close);
        }
        let connection = exchange.connect().await?;
        let (connection, response) = exchange.over(connection, request).await?;
        answered.send_replace(true);
        Ok(if repeatable {
            exchange.repeatable(connection, response)
        } else {
            exchange.unrepeatable(connection, response)
        })
    }

    fn too_many(&self) -> Error {
        self.log.remark(Remark::HttpConnections, || {
            let (max, place) = (self.connections_max, self.plugin.place());
            format!(
                "{max} requests are under way, and no more can be; raise limits.http_connections of {place}"
            )
        });
        Error::ConnectionLimitReached
    }
}

/// Returns the host and port that a request is to go to, and whether over TLS.
fn ask(request: &Request<WasiBody>) -> Result<(String, u16, bool)> {
    // A tunnel would lead anywhere.
    if request.method() == Method::CONNECT {
        return Err(Error::HttpRequestMethodInvalid);
    }
    let uri = request.uri();
    let authority = uri.authority().ok_or(Error::HttpRequestUriInvalid)?;
    if authority.as_str().contains('@') || authority.host().is_empty() {
        return Err(Error::HttpRequestUriInvalid);
    }
    let secret = uri.scheme() == Some(&Scheme::HTTPS);
    let port = match authority.port() {
        Some(port) => port.as_u16(),
        // The part behind the colon is no port.
        None if authority.as_str().len() != authority.host().len() => {
            return Err(Error::HttpRequestUriInvalid);
        }
        None if secret => 443,
        None => 80,
    };
    Ok((authority.host().to_ascii_lowercase(), port, secret))
}

/// Whether a request may be sent twice without changing anything: it only reads, and has no body.
fn is_repeatable(request: &Request<WasiBody>) -> bool {
    let (method, headers) = (request.method(), request.headers());
    let asks = *method == Method::GET || *method == Method::HEAD;
    asks && !headers.contains_key(CONTENT_LENGTH) && !headers.contains_key(TRANSFER_ENCODING)
}

/// Copies a request, without a body.
fn copy(request: &Request<Upload>) -> Request<Upload> {
    let mut copy = Request::new(Upload::nothing());
    request.method().clone_into(copy.method_mut());
    request.uri().clone_into(copy.uri_mut());
    request.headers().clone_into(copy.headers_mut());
    copy
}

/// Whether an error is about the connection, before anything of a response has come.
fn is_of_connection(error: &Error) -> bool {
    matches!(error, Error::ConnectionTerminated | Error::HttpResponseIncomplete)
}

impl Exchange {
    fn waits_for(&self, step: Step) {
        self.step.store(step as u8, Ordering::Relaxed);
    }

    /// Waits for one step of the request, up to the end of its time or the limit that the guest has set for the step,
    /// whichever is first.
    async fn within<T>(
        &self,
        wanted: Option<Duration>,
        late: Error,
        cut: Arc<Cut>,
        part: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let part = async {
            match wanted {
                Some(wanted) => timeout(wanted.min(FOREVER), part).await.unwrap_or(Err(late)),
                None => part.await,
            }
        };
        match timeout_at(self.ends, part).await {
            Ok(result) => result.map_err(|error| cut.error().unwrap_or(error)),
            Err(_) => Err(self.out_of_time(&cut)),
        }
    }

    fn out_of_time(&self, cut: &Cut) -> Error {
        const STEPS: [Step; 4] = [Step::Turn, Step::Name, Step::Connection, Step::Response];
        let step = usize::from(self.step.load(Ordering::Relaxed));
        let step = STEPS.get(step).copied().unwrap_or(Step::Response);
        self.requests.out_of_time(step, &self.to, cut)
    }

    /// Makes a new connection.
    async fn connect(&self) -> Result<Connection> {
        let cut: Arc<Cut> = Arc::default();
        let requests = &self.requests;
        let to = self.to.clone();
        let of_connection = Arc::clone(&cut);
        let connecting = async move {
            let counted = match requests.work.try_connection() {
                Some(counted) => Some(counted),
                None => {
                    // Idle connections are the first to be closed.
                    while requests.idle.close_oldest() {}
                    requests.work.connection().await
                }
            };
            let counted = counted.ok_or(Error::ConnectionLimitReached)?;
            let _turn = requests.work.turn_to_connect().await;
            self.waits_for(Step::Name);
            let addresses = requests.resolve(&to).await?;
            self.waits_for(Step::Connection);
            let inner = requests.connect(&to, &addresses).await?;
            let (requests, cut) = (Arc::clone(requests), of_connection);
            let stream = Counted { inner, requests, cut: Arc::clone(&cut) };
            let secret = self.secret;
            let (sender, driver) = if secret {
                let stream = Box::new(connect::tls(&to, stream).await?);
                self.handshake(stream).await?
            } else {
                self.handshake(stream).await?
            };
            Ok(Connection { to, secret, sender, driver, cut, _counted: counted })
        };
        self.within(self.options.connect_timeout, Error::ConnectionTimeout, cut, connecting).await
    }

    /// Sets up HTTP on a connection, which sends nothing.
    async fn handshake<S>(&self, stream: S) -> Result<(http1::SendRequest<Upload>, Driver)>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let mut builder = http1::Builder::new();
        builder.max_headers(HEADERS_MAX).max_buf_size(HEAD_MAX);
        let (sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(of_hyper)?;
        let work = self.requests.work.clone();
        let driver = spawn(async move {
            // An error shows to the one who waits for the response, or reads it.
            work.metered(connection).await.ok();
        });
        Ok((sender, driver))
    }

    /// Sends the request over a connection, and waits for the head of its response.
    async fn over(
        &self,
        mut connection: Connection,
        request: Request<Upload>,
    ) -> Result<(Connection, Response<Incoming>)> {
        self.waits_for(Step::Response);
        connection.cut.begin();
        let first_byte = self.options.first_byte_timeout;
        let cut = Arc::clone(&connection.cut);
        let answer = self.within(first_byte, Error::ConnectionReadTimeout, cut, async {
            connection.sender.ready().await.map_err(of_hyper)?;
            connection
                .sender
                .send_request(request)
                .await
                .map_err(|error| self.requests.of_head(error, &connection.cut))
        });
        let response = answer.await?;
        Ok((connection, response))
    }

    /// Makes the response to a request that may be repeated. Its connection is kept once the response has come to its end.
    fn repeatable(self, connection: Connection, response: Response<Incoming>) -> Sent {
        let (ends, quiet, cut) = (self.ends, self.quiet(), Arc::clone(&connection.cut));
        let rest = Rest::new(self, connection);
        let (of_answer, of_cut) = (Arc::clone(&rest), Arc::clone(&cut));
        let response = response.map(|incoming| {
            let answer = Answer { incoming, cut, quiet, rest: Some(of_answer) };
            answer.end_if_over();
            WasiBody::new(answer)
        });
        let io = async move {
            // Whether anybody reads the body or not, the connection ends when its time is over. It must still be there when
            // the reason is noted: to the reader of the body, a connection that is gone looks like the body's end.
            if timeout_at(ends, poll_fn(|cx| rest.poll_end(cx))).await.is_err()
                && let Some((exchange, connection)) = rest.take()
            {
                exchange.out_of_time(&of_cut);
                drop(connection);
            }
            Ok(())
        };
        (response, Box::new(io))
    }

    /// Makes the response to any other request. Its connection ends with it.
    fn unrepeatable(self, connection: Connection, response: Response<Incoming>) -> Sent {
        let (cut, quiet) = (Arc::clone(&connection.cut), self.quiet());
        let response = response.map(|incoming| WasiBody::new(Answer { incoming, cut, quiet, rest: None }));
        let io = async move {
            let Connection { mut driver, cut, _counted, .. } = connection;
            // As above. The body of the request may still be on its way.
            if timeout_at(self.ends, &mut driver).await.is_err() {
                self.out_of_time(&cut);
            }
            Ok(())
        };
        (response, Box::new(io))
    }

    fn quiet(&self) -> Option<Quiet> {
        self.options.between_bytes_timeout.map(|wait| Quiet::new(wait.min(FOREVER)))
    }
}

/// Task that drives a connection, until this is dropped.
type Driver = wasmtime_wasi::runtime::AbortOnDropJoinHandle<()>;

/// Converts a request to the form for a server that isn't a proxy: with the path alone.
fn in_origin_form(request: Request<WasiBody>, answered: watch::Receiver<bool>) -> Request<Upload> {
    let (mut parts, body) = request.into_parts();
    let path = parts.uri.path_and_query().map_or("/", PathAndQuery::as_str);
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    // The path comes from a valid URI.
    parts.uri = Uri::try_from(path).unwrap_or_default();
    let body = Upload::new(&parts.headers, body, answered);
    Request::from_parts(parts, body)
}

/// Body of a response, which ends with an error where the host has cut it short.
struct Answer {
    incoming: Incoming,
    cut: Arc<Cut>,
    quiet: Option<Quiet>,
    /// Rest of the request, which is kept at the body's end.
    rest: Option<Arc<Rest>>,
}

/// Rest of a request when its response has come to its end: its connection, and its permit among those under way. The first
/// to see the end takes it: the reader of the body, or the task that waits for the connection, which has read a small body
/// to its end before anybody wants it.
struct Rest {
    left: Mutex<Option<(Exchange, Connection)>>,
    /// Waker of the task that waits for the connection.
    waker: AtomicWaker,
}

impl Rest {
    fn new(exchange: Exchange, connection: Connection) -> Arc<Self> {
        Arc::new(Self { left: Mutex::new(Some((exchange, connection))), waker: AtomicWaker::new() })
    }

    fn take(&self) -> Option<(Exchange, Connection)> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Records that the response has been read to its end.
    fn end(&self) {
        if let Some((exchange, connection)) = self.take() {
            exchange.requests.idle.keep(connection);
            self.waker.wake();
        }
    }

    /// Waits until the connection has nothing left to do for the response.
    fn poll_end(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.waker.register(cx.waker());
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((_, connection)) = left.as_mut() else { return Poll::Ready(()) };
        match ready!(connection.sender.poll_ready(cx)) {
            Ok(()) => {
                drop(left);
                self.end();
            }
            // The connection serves no other request. What it has read can still be had when it is gone.
            Err(_) => {
                ready!(Pin::new(&mut connection.driver).poll(cx));
                *left = None;
            }
        }
        Poll::Ready(())
    }
}

impl Answer {
    fn end_if_over(&self) {
        if self.incoming.is_end_stream()
            && let Some(rest) = &self.rest
        {
            rest.end();
        }
    }
}

/// Timeout between two pieces of the body, if the guest has set one.
struct Quiet {
    wait: Duration,
    timer: Pin<Box<Sleep>>,
}

impl Quiet {
    fn new(wait: Duration) -> Self {
        Self { wait, timer: Box::pin(sleep_until(Instant::now() + wait)) }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let Poll::Ready(frame) = Pin::new(&mut self.incoming).poll_frame(cx) else {
            let Some(quiet) = &mut self.quiet else { return Poll::Pending };
            ready!(quiet.timer.as_mut().poll(cx));
            return Poll::Ready(Some(Err(Error::ConnectionReadTimeout)));
        };
        if let Some(quiet) = &mut self.quiet {
            let next = Instant::now() + quiet.wait;
            quiet.timer.as_mut().reset(next);
        }
        self.end_if_over();
        Poll::Ready(match frame {
            Some(Ok(frame)) => Some(Ok(frame)),
            Some(Err(error)) => Some(Err(self.cut.error().unwrap_or_else(|| of_hyper(error)))),
            // A connection that was dropped looks like the body's end.
            None => self.cut.error().map(Err),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream() && self.cut.error().is_none()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

/// Whether the connection itself has failed.
fn is_of_socket(error: &hyper::Error) -> bool {
    std::error::Error::source(error).is_some_and(<dyn std::error::Error>::is::<std::io::Error>)
}

impl Requests {
    /// Maps an error that occurred before the head of a response was there.
    fn of_head(&self, error: hyper::Error, cut: &Cut) -> Error {
        // To hyper, one line that is longer than the whole head may be looks as if the rest were missing.
        let too_large = error.is_incomplete_message() && cut.received() >= HEAD_MAX;
        if error.is_parse_too_large() || too_large {
            self.log.remark(Remark::HttpHead, || {
                let bytes = sandhog_core::budget::Bytes::of(HEAD_MAX);
                format!("the head of a response is refused: it has more than {HEADERS_MAX} lines, or more than {bytes}")
            });
            return Error::HttpResponseHeaderSectionSize(u32::try_from(HEAD_MAX).ok());
        }
        of_hyper(error)
    }
}

fn of_hyper(error: hyper::Error) -> Error {
    if error.is_parse_too_large() {
        Error::HttpResponseHeaderSectionSize(u32::try_from(HEAD_MAX).ok())
    } else if error.is_incomplete_message() {
        Error::HttpResponseIncomplete
    } else if error.is_timeout() {
        Error::HttpResponseTimeout
    } else if error.is_canceled() || error.is_closed() || is_of_socket(&error) {
        Error::ConnectionTerminated
    } else {
        Error::HttpProtocolError
    }
}
