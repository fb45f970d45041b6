//! WASI 0.2 with nothing granted but what the plugin's grants say. stdout and stderr go to the job's log.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::AsyncWrite;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamError, StreamResult};
use wasmtime_wasi::{FsPerms, WasiCtx, WasiCtxView};

use crate::plugin::{Access, Grants};
use crate::run_log::{RunLog, Stream};

/// Streams, files, pollables and the like that a run may hold at once.
const RESOURCES_MAX: usize = 256;

/// The most random bytes that one call gives: they're made in one go.
const RANDOM_MAX: u64 = 256 * 1024;

/// How much a guest may write to stdout at once.
const WRITE_MAX: usize = 64 * 1024;

/// The WASI state of one run.
pub(crate) struct Wasi {
    ctx: WasiCtx,
    table: ResourceTable,
}

impl Wasi {
    /// Everything that `grants` grants, and nothing else.
    ///
    /// # Errors
    /// If a granted directory can't be opened any more.
    pub(crate) fn new(grants: &Grants, log: &RunLog) -> wasmtime::Result<Self> {
        let mut builder = WasiCtx::builder();
        builder
            .stdout(LogStream { log: log.clone(), stream: Stream::Out })
            .stderr(LogStream { log: log.clone(), stream: Stream::Err })
            .envs(&grants.env)
            .max_random_size(RANDOM_MAX)
            .allow_tcp(false)
            .allow_udp(false)
            .allow_ip_name_lookup(false);
        for dir in &grants.dirs {
            let perms = match dir.access {
                Access::Read => FsPerms::ReadOnly,
                Access::ReadWrite => FsPerms::ReadWrite,
            };
            builder.preopened_dir(&dir.host, &dir.guest, perms)?;
        }
        let mut table = ResourceTable::new();
        table.set_max_capacity(RESOURCES_MAX);
        Ok(Self { ctx: builder.build(), table })
    }

    pub(crate) fn view(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.ctx, table: &mut self.table }
    }
}

/// stdout or stderr of a guest.
#[derive(Clone)]
struct LogStream {
    log: RunLog,
    stream: Stream,
}

impl IsTerminal for LogStream {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for LogStream {
    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }

    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }
}

impl OutputStream for LogStream {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.log.stream(self.stream, &bytes).map_err(|end| StreamError::Trap(end.into()))
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE_MAX)
    }
}

#[async_trait::async_trait]
impl Pollable for LogStream {
    async fn ready(&mut self) {}
}

impl AsyncWrite for LogStream {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(self.log.stream(self.stream, bytes).map(|()| bytes.len()).map_err(io::Error::other))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
