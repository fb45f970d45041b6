//! Outgoing HTTP requests of guests: only to hosts that are granted, and to no address that a guest must not reach.
//!
//! ```text
//! request ──> granted? ──> room? ──> resolve ──> address allowed? ──> connect to that address ──> TLS ──> HTTP/1.1
//! ```
//!
//! The name is resolved here, and the connection goes to the very address that was checked, so it doesn't matter what the
//! name resolves to a moment later. A redirect is a response like any other: the guest that follows it makes a new request,
//! which is checked anew. A connection serves one request after the other of one run, and is closed with the run.

mod connect;
mod reuse;
mod send;
mod upload;
mod wire;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use futures::future::BoxFuture;
use hyper::Request;
use hyper::http::HeaderName;
use sandhog_core::budget::{Budget, Bytes};
use tokio::sync::Semaphore;
use wasmtime::component::{Linker, Resource};
use wasmtime_wasi_http::p2::bindings::http::types::{ErrorCode, IoError, Method};
use wasmtime_wasi_http::p2::types::HostOutgoingRequest;
use wasmtime_wasi_http::{
    DEFAULT_FORBIDDEN_HEADERS, Error, ForbiddenHeaderFilter, RequestOptions, Result, WasiBody, WasiHttpHooks,
    WasiHttpView,
};

pub(crate) use self::connect::{Denied, trust_anew};
use self::reuse::Idle;
use self::send::Sent;
use crate::host_work::RunWork;
use crate::imports::RunState;
use crate::plugin::Plugin;
use crate::run_log::RunLog;

/// Maximum size of a piece of a request's body that waits on the host to be sent; two may wait.
const PIECE_MAX: usize = 64 * 1024;

/// Maximum lengths of a request's method and authority; no real one is longer.
const METHOD_MAX: usize = 32;
const AUTHORITY_MAX: usize = 512;

/// Outgoing requests of one run.
pub(crate) struct Outgoing(Arc<Requests>);

/// State that all requests of a run share.
struct Requests {
    plugin: Arc<Plugin>,
    log: RunLog,
    work: RunWork,
    /// Connections that no request uses.
    idle: Idle,
    /// One permit for each request that may be under way at once.
    permits: Arc<Semaphore>,
    connections_max: u64,
    /// Number of bytes that may still be sent and received.
    left: AtomicU64,
    bytes_max: Bytes,
    timeout: Duration,
}

impl Outgoing {
    pub(crate) fn new(plugin: Arc<Plugin>, budget: &Budget, log: RunLog, work: RunWork) -> Self {
        let permits = usize::try_from(budget.http_connections).unwrap_or(usize::MAX);
        Self(Arc::new(Requests {
            plugin,
            log,
            work,
            idle: Idle::default(),
            permits: Arc::new(Semaphore::new(permits.min(Semaphore::MAX_PERMITS))),
            connections_max: budget.http_connections,
            left: AtomicU64::new(budget.http_bytes.0),
            bytes_max: budget.http_bytes,
            timeout: budget.http_timeout,
        }))
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        // The task that drives a connection holds the shared state.
        self.0.idle.close();
    }
}

type Boxed<T> = Box<dyn Future<Output = T> + Send>;

impl WasiHttpHooks for Outgoing {
    fn send_request(
        &mut self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _answered: Boxed<Result<(), Error>>,
    ) -> Boxed<Result<Sent, Error>> {
        let requests = Arc::clone(&self.0);
        let work = requests.work.clone();
        let sending: BoxFuture<'static, _> = Box::pin(requests.send(request, options.unwrap_or_default()));
        Box::new(async move { work.metered(sending).await })
    }

    /// Forbids, beside what no guest may set, the header fields that tell the server to answer in optional parts of
    /// HTTP/1.1.
    fn forbidden_header_filter(&mut self) -> ForbiddenHeaderFilter {
        Arc::new(|name: &HeaderName| {
            DEFAULT_FORBIDDEN_HEADERS.contains(name)
                || *name == hyper::header::TE
                || *name == hyper::header::TRAILER
        })
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        PIECE_MAX
    }

    // Errors between a guest and its peer are of no interest for the operator's log.

    fn p2_error_from_hyper(&mut self, _error: &hyper::Error) -> ErrorCode {
        ErrorCode::HttpProtocolError
    }

    fn p2_error_from_connect(&mut self, _error: &std::io::Error) -> ErrorCode {
        ErrorCode::ConnectionRefused
    }

    fn p2_error_from_tls(&mut self, _error: &std::io::Error) -> ErrorCode {
        ErrorCode::TlsProtocolError
    }
}

/// Bounds the two texts of a request that the host keeps whatever their length, and maps an error in the middle of a body to
/// its code, which wasmtime's own function doesn't know.
pub(crate) fn link(linker: &mut Linker<RunState>) -> wasmtime::Result<()> {
    let mut types = linker.instance("wasi:http/types@0.2.12")?;
    types.func_wrap(
        "[method]outgoing-request.set-method",
        |mut store, (request, method): (Resource<HostOutgoingRequest>, Method)| {
            use wasmtime_wasi_http::p2::bindings::http::types::HostOutgoingRequest as _;
            if matches!(&method, Method::Other(text) if text.len() > METHOD_MAX) {
                return Ok((Err(()),));
            }
            Ok((store.data_mut().http().set_method(request, method)?,))
        },
    )?;
    types.func_wrap(
        "[method]outgoing-request.set-authority",
        |mut store, (request, authority): (Resource<HostOutgoingRequest>, Option<String>)| {
            use wasmtime_wasi_http::p2::bindings::http::types::HostOutgoingRequest as _;
            if authority.as_ref().is_some_and(|text| text.len() > AUTHORITY_MAX) {
                return Ok((Err(()),));
            }
            Ok((store.data_mut().http().set_authority(request, authority)?,))
        },
    )?;
    types.func_wrap("http-error-code", |mut store, (error,): (Resource<IoError>,)| {
        let error = store.data_mut().http().table.get(&error)?.downcast_ref::<Error>();
        Ok((error.and_then(code_of_body),))
    })
}

/// Returns the code of an error that can occur once the head of a response is there. `None` for any other.
fn code_of_body(error: &Error) -> Option<ErrorCode> {
    match error {
        Error::HttpResponseBodySize(size) => Some(ErrorCode::HttpResponseBodySize(*size)),
        Error::HttpResponseTimeout => Some(ErrorCode::HttpResponseTimeout),
        Error::HttpResponseIncomplete => Some(ErrorCode::HttpResponseIncomplete),
        Error::ConnectionReadTimeout => Some(ErrorCode::ConnectionReadTimeout),
        Error::ConnectionTerminated => Some(ErrorCode::ConnectionTerminated),
        Error::HttpProtocolError => Some(ErrorCode::HttpProtocolError),
        _ => None,
    }
}
