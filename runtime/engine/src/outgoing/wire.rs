//! Bytes on the wire of a run's requests, counted where they pass, and how that came to an end.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use wasmtime_wasi_http::Error;

use super::Requests;
use super::connect::Destination;
use super::send::Step;
use crate::run_log::Remark;

/// Reason why the host has cut a request short, if it has; and how much was received.
#[derive(Debug, Default)]
pub(super) struct Cut {
    why: AtomicU8,
    /// Number of bytes received since the request was sent.
    received: AtomicUsize,
}

const BYTES: u8 = 1;
const TIME: u8 = 2;

impl Cut {
    /// Starts counting anew, for a request that is about to be sent.
    pub(super) fn begin(&self) {
        self.received.store(0, Ordering::Relaxed);
    }

    /// Number of bytes received since then.
    pub(super) fn received(&self) -> usize {
        self.received.load(Ordering::Relaxed)
    }

    /// Error that the guest is told instead of whatever else it would see. `None` if the request wasn't cut short.
    pub(super) fn error(&self) -> Option<Error> {
        match self.why.load(Ordering::Acquire) {
            BYTES => Some(Error::HttpResponseBodySize(None)),
            TIME => Some(Error::HttpResponseTimeout),
            _ => None,
        }
    }
}

impl Requests {
    /// Cuts a request short because its time is over, while it waited for `step`. Returns the error for the guest.
    pub(super) fn out_of_time(&self, step: Step, to: &Destination, cut: &Cut) -> Error {
        cut.why.store(TIME, Ordering::Release);
        let (Destination { host, port, .. }, limit, place) = (to, self.timeout, self.plugin.place());
        let (late, said) = match step {
            Step::Turn => (
                Error::ConnectionLimitReached,
                format!(
                    "the tenant has had all the connections that it may for {limit:?}: its other runs have them"
                ),
            ),
            Step::Name => (
                Error::DnsTimeout,
                format!("the name {host} was not looked up within {limit:?}: whoever answers for it doesn't"),
            ),
            Step::Connection => {
                (Error::ConnectionTimeout, format!("no connection to {host}:{port} within {limit:?}"))
            }
            Step::Response => (
                Error::HttpResponseTimeout,
                format!("a request took longer than {limit:?}; raise limits.http_timeout of {place}"),
            ),
        };
        self.log.remark(Remark::HttpTimeout, || said);
        late
    }

    /// Takes the bytes that pass from those that the run may still send and receive.
    fn take(&self, bytes: usize, cut: &Cut) -> io::Result<()> {
        let less = |left: u64| left.checked_sub(bytes as u64);
        if self.left.fetch_update(Ordering::AcqRel, Ordering::Acquire, less).is_ok() {
            return Ok(());
        }
        // There may be fewer bytes left than came; nothing more may pass.
        self.left.store(0, Ordering::Release);
        cut.why.store(BYTES, Ordering::Release);
        self.log.remark(Remark::HttpBytes, || {
            let (max, place) = (self.bytes_max, self.plugin.place());
            format!("requests sent and received more than {max}; raise limits.http_bytes of {place}")
        });
        Err(io::Error::other("too many bytes"))
    }
}

/// Connection whose bytes are counted.
pub(super) struct Counted<S> {
    pub(super) inner: S,
    pub(super) requests: Arc<Requests>,
    pub(super) cut: Arc<Cut>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buffer))?;
        let received = buffer.filled().len() - before;
        self.cut.received.fetch_add(received, Ordering::Relaxed);
        Poll::Ready(self.requests.take(received, &self.cut))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.inner).poll_write(cx, bytes))?;
        Poll::Ready(self.requests.take(written, &self.cut).map(|()| written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
