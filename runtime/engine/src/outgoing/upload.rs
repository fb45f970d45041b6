//! Body of a request, on its way from the guest to the wire.
//!
//! A connection lets go of a body as soon as it needs no more of it: after the last byte that `content-length` announced, or
//! when the server has answered and wants no more. The guest isn't done then, it has yet to flush and to finish; to a guest
//! whose body is gone, a request that went well would look like one that failed. So a body that a connection lets go of is read
//! on here, into nothing, until the guest is done, if all of it was sent or the server has answered. If the request has failed,
//! the body is dropped.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use hyper::body::{Body, Bytes, Frame, SizeHint};
use hyper::header::{CONTENT_LENGTH, HeaderMap};
use tokio::runtime::Handle;
use tokio::sync::watch;
use wasmtime_wasi_http::{Error, WasiBody};

/// Body of a request.
pub(super) struct Upload {
    /// The guest's body. `None` once the guest is done with it.
    body: Option<WasiBody>,
    /// Number of announced bytes that are still to come. `None` if no length was announced.
    left: Option<u64>,
    /// Whether the head of the response has come; the sender is gone once the request has failed.
    answered: watch::Receiver<bool>,
}

impl Upload {
    /// Creates an empty body.
    pub(super) fn nothing() -> Self {
        Self { body: None, left: None, answered: watch::channel(false).1 }
    }

    /// Creates the body of a request with these header fields.
    pub(super) fn new(headers: &HeaderMap, body: WasiBody, answered: watch::Receiver<bool>) -> Self {
        let announced = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        Self { body: Some(body), left: announced, answered }
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let frame = ready!(Pin::new(body).poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => {
                let length = frame.data_ref().map_or(0, Bytes::len) as u64;
                self.left = self.left.map(|left| left.saturating_sub(length));
            }
            Some(Err(_)) | None => self.body = None,
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(WasiBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), WasiBody::size_hint)
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        let Some(mut body) = self.body.take() else { return };
        if body.is_end_stream() {
            return;
        }
        let (sent, mut answered) = (self.left == Some(0), self.answered.clone());
        let Ok(runtime) = Handle::try_current() else { return };
        // The task ends with the guest's end of the body, which the run holds.
        runtime.spawn(async move {
            if sent || answered.wait_for(|answered| *answered).await.is_ok() {
                while let Some(Ok(_)) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {}
            }
        });
    }
}
