//! Serving one connection, within its bounds.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use crate::service::Caller;

/// Maximum length of a request's head, in bytes.
pub const HEAD_MAX: usize = 16 * 1024;

/// Maximum number of headers in a request.
const HEADERS_MAX: usize = 64;

/// Maximum time in which a head has to come in, and an answer has to be taken.
const IDLE_MAX: Duration = Duration::from_secs(10);

/// Maximum time for which a connection over the network waits for its next request, and for which the other end takes nothing
/// of an answer.
const REMOTE_IDLE_MAX: Duration = Duration::from_secs(30);

/// The other end of a connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer(pub(super) SocketAddr);

/// Serves one request. `caller` is who is at the other end; `None` for one that may ask for nothing.
///
/// # Errors
/// The input is no HTTP/1.1, or the other end is gone.
pub async fn serve_connection<S>(stream: S, router: Router, caller: Option<Caller>) -> hyper::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let router = TowerToHyperService::new(router);
    let service = service_fn(|mut request: Request<Incoming>| {
        if let Some(caller) = &caller {
            request.extensions_mut().insert(caller.clone());
        }
        router.call(request)
    });
    // A request may take as long as it takes; a client that doesn't read the answer is hung up on.
    let stream = TokioIo::new(Taken { stream, within: IDLE_MAX, waits: None });
    bounded(IDLE_MAX).keep_alive(false).serve_connection(stream, service).await
}

/// Serves the requests of a connection over the network, one after the other, until it is idle for too long or `stopped` is:
/// then the request under way is the last one.
///
/// # Errors
/// The input is no HTTP/1.1, or the other end is gone, or takes nothing.
pub(super) async fn serve_remote<S>(
    stream: S,
    router: Router,
    peer: SocketAddr,
    stopped: impl Future<Output = ()>,
) -> hyper::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let router = TowerToHyperService::new(router);
    let service = service_fn(|mut request: Request<Incoming>| {
        request.extensions_mut().insert(Peer(peer));
        router.call(request)
    });
    let stream = TokioIo::new(Taken { stream, within: REMOTE_IDLE_MAX, waits: None });
    let mut connection = pin!(bounded(REMOTE_IDLE_MAX).keep_alive(true).serve_connection(stream, service));
    tokio::select! {
        ended = &mut connection => return ended,
        () = stopped => connection.as_mut().graceful_shutdown(),
    }
    connection.await
}

fn bounded(idle_max: Duration) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(idle_max)
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEAD_MAX);
    builder
}

/// A stream whose other end has to take what is written: it fails if it takes nothing for so long.
struct Taken<S> {
    stream: S,
    within: Duration,
    waits: Option<Pin<Box<Sleep>>>,
}

impl<S> Taken<S> {
    /// Passes on what came of a write, unless it has waited for too long.
    fn within<T>(&mut self, context: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.waits = None;
            return written;
        }
        let within = self.within;
        let waits = self.waits.get_or_insert_with(|| Box::pin(sleep(within)));
        ready!(waits.as_mut().poll(context));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the other end takes nothing")))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Taken<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Taken<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.within(context, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        self.within(context, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = Pin::new(&mut self.stream).poll_shutdown(context);
        self.within(context, shut)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_takes_nothing_of_an_answer_is_hung_up_on() {
        let (ours, theirs) = tokio::io::duplex(8);
        let mut stream = Taken { stream: ours, within: IDLE_MAX, waits: None };
        let failed = stream.write_all(&[0; 100]).await.expect_err("nobody reads");
        assert_eq!(failed.kind(), io::ErrorKind::TimedOut);
        drop(theirs);
    }
}
