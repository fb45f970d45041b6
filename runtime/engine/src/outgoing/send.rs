//! One request, from the guest's call to the end of its response.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use hyper::client::conn::http1;
use hyper::header::HeaderValue;
use hyper::http::uri::{PathAndQuery, Scheme};
use hyper::{Method, Request, Response, Uri};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, Sleep, sleep_until, timeout, timeout_at};
use wasmtime_wasi::runtime::spawn;
use wasmtime_wasi_http::io::TokioIo;
use wasmtime_wasi_http::{Error, RequestOptions, Result, WasiBody};

use super::wire::{Counted, Cut};
use super::{Boxed, Requests, connect};
use crate::run_log::Remark;

/// The most header lines of a response, and the most bytes that they may take.
const HEADERS_MAX: usize = 128;
const HEAD_MAX: usize = 64 * 1024;

/// As far as a clock can be trusted to go.
const FOREVER: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// A response, and what has to go on for its body to come.
pub(super) type Sent = (Response<WasiBody>, Boxed<Result<(), Error>>);

/// The part of a request that outlives its head.
struct Course {
    requests: Arc<Requests>,
    cut: Arc<Cut>,
    /// When it has to be over.
    ends: Instant,
    options: RequestOptions,
    permit: OwnedSemaphorePermit,
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
        let course = Course { cut: Arc::default(), requests: self, ends, options, permit };
        let connecting = async {
            let inner = course.requests.connect(&to).await?;
            let (requests, cut) = (Arc::clone(&course.requests), Arc::clone(&course.cut));
            let stream = Counted { inner, requests, cut };
            Ok(if secret {
                Link::Secret(Box::new(connect::tls(&to, stream).await?))
            } else {
                Link::Plain(stream)
            })
        };
        let link =
            course.within(course.options.connect_timeout, Error::ConnectionTimeout, connecting).await?;
        match link {
            Link::Plain(stream) => course.over(stream, request).await,
            Link::Secret(stream) => course.over(stream, request).await,
        }
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

enum Link {
    Plain(Counted<tokio::net::TcpStream>),
    Secret(Box<tokio_rustls::client::TlsStream<Counted<tokio::net::TcpStream>>>),
}

/// Where a request wants to go, and whether over TLS.
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
        // What stands behind the colon is no port.
        None if authority.as_str().len() != authority.host().len() => {
            return Err(Error::HttpRequestUriInvalid);
        }
        None if secret => 443,
        None => 80,
    };
    Ok((authority.host().to_ascii_lowercase(), port, secret))
}

impl Course {
    /// What comes of a step, if it comes in time: before the whole is over, and as soon as the guest would have it.
    async fn within<T>(
        &self,
        wanted: Option<Duration>,
        late: Error,
        step: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let step = async {
            match wanted {
                Some(wanted) => timeout(wanted.min(FOREVER), step).await.unwrap_or(Err(late)),
                None => step.await,
            }
        };
        match timeout_at(self.ends, step).await {
            Ok(result) => result.map_err(|error| self.cut.error().unwrap_or(error)),
            Err(_) => Err(self.requests.out_of_time(&self.cut)),
        }
    }

    /// Talks HTTP over a connection.
    async fn over<S>(self, stream: S, request: Request<WasiBody>) -> Result<Sent>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let request = in_origin_form(request);
        let mut builder = http1::Builder::new();
        builder.max_headers(HEADERS_MAX).max_buf_size(HEAD_MAX);
        let first_byte = self.options.first_byte_timeout;
        let mut driver = None;
        let answer = self.within(first_byte, Error::ConnectionReadTimeout, async {
            let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(of_hyper)?;
            let (requests, cut, ends) = (Arc::clone(&self.requests), Arc::clone(&self.cut), self.ends);
            // Whatever becomes of the body, the connection ends when its time is over.
            driver = Some(spawn(async move {
                let mut connection = pin!(connection);
                // It must still be there when the reason is noted: to whoever reads the body, a connection that is gone
                // looks like its end. What else goes wrong shows there by itself.
                if timeout_at(ends, connection.as_mut()).await.is_err() {
                    requests.out_of_time(&cut);
                }
            }));
            sender.send_request(request).await.map_err(of_hyper)
        });
        let response = answer.await?;
        let Self { cut, options, permit, .. } = self;
        let quiet = options.between_bytes_timeout.map(|wait| Quiet::new(wait.min(FOREVER)));
        let response = response.map(|incoming| WasiBody::new(Answer { incoming, cut, quiet }));
        let io = async move {
            if let Some(driver) = driver {
                driver.await;
            }
            drop(permit);
            Ok(())
        };
        Ok((response, Box::new(io)))
    }
}

/// A request as a server gets to see it that isn't a proxy: with the path alone.
fn in_origin_form(mut request: Request<WasiBody>) -> Request<WasiBody> {
    let path = request.uri().path_and_query().map_or("/", PathAndQuery::as_str);
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    // It comes from a valid one.
    *request.uri_mut() = Uri::try_from(path).unwrap_or_default();
    // Nothing is asked of the connection once it is answered.
    request.headers_mut().insert(hyper::header::CONNECTION, HeaderValue::from_static("close"));
    request
}

/// The body of a response, which ends with an error where the host has cut it short.
struct Answer {
    incoming: Incoming,
    cut: Arc<Cut>,
    quiet: Option<Quiet>,
}

/// How long nothing may come, if the guest has said so.
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
        Poll::Ready(match frame {
            Some(Ok(frame)) => Some(Ok(frame)),
            Some(Err(error)) => Some(Err(self.cut.error().unwrap_or_else(|| of_hyper(error)))),
            // A connection that was dropped looks like the end.
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

fn of_hyper(error: hyper::Error) -> Error {
    if error.is_parse_too_large() {
        Error::HttpResponseHeaderSectionSize(u32::try_from(HEAD_MAX).ok())
    } else if error.is_incomplete_message() {
        Error::HttpResponseIncomplete
    } else if error.is_timeout() {
        Error::HttpResponseTimeout
    } else if error.is_canceled() || error.is_closed() {
        Error::ConnectionTerminated
    } else {
        Error::HttpProtocolError
    }
}
