//! Serving one connection, within its bounds.

use std::time::Duration;

use axum::Router;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Notify;
use tokio::time::sleep;

use crate::service::Caller;

/// Maximum length of a request's head, in bytes.
pub const HEAD_MAX: usize = 16 * 1024;

/// Maximum number of headers in a request.
const HEADERS_MAX: usize = 64;

/// Maximum time in which a head has to come in, and an answer has to be taken.
const IDLE_MAX: Duration = Duration::from_secs(10);

/// Serves one request. `caller` is who is at the other end; `None` for one that may ask for nothing.
///
/// # Errors
/// The input is no HTTP/1.1, or the other end is gone.
pub async fn serve_connection<S>(stream: S, router: Router, caller: Option<Caller>) -> hyper::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let answered = Notify::new();
    let router = TowerToHyperService::new(router);
    let service = service_fn(|mut request: Request<Incoming>| {
        if let Some(caller) = &caller {
            request.extensions_mut().insert(caller.clone());
        }
        let (answer, answered) = (router.call(request), &answered);
        async move {
            let answer = answer.await;
            answered.notify_one();
            answer
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE_MAX)
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEAD_MAX)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    // A request may take as long as it takes; a client that doesn't read the answer is hung up on.
    let unread = async {
        answered.notified().await;
        sleep(IDLE_MAX).await;
    };
    tokio::select! {
        ended = connection => ended,
        () = unread => Ok(()),
    }
}
