//! Streams that read and write files on the threads of a tenant that may block.

use bytes::Bytes;
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, InputStream, OutputStream, Pollable, StreamResult};

use crate::host_work::RunWork;
use crate::wasi::handles::FileStreams;

/// A stream whose blocking parts are done there.
pub(super) struct OnBlockingThreads<S> {
    pub(super) inner: S,
    pub(super) work: RunWork,
    pub(super) _counted: FileStreams,
}

#[async_trait::async_trait]
impl InputStream for OnBlockingThreads<DynInputStream> {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        let _entered = self.work.enter();
        self.inner.read(size)
    }

    async fn blocking_read(&mut self, size: usize) -> StreamResult<Bytes> {
        self.work.on_blocking_threads(self.inner.blocking_read(size)).await
    }

    async fn cancel(&mut self) {
        self.inner.cancel().await;
    }
}

#[async_trait::async_trait]
impl Pollable for OnBlockingThreads<DynInputStream> {
    async fn ready(&mut self) {
        self.work.on_blocking_threads(self.inner.ready()).await;
    }
}

#[async_trait::async_trait]
impl OutputStream for OnBlockingThreads<DynOutputStream> {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        let _entered = self.work.enter();
        self.inner.write(bytes)
    }

    async fn blocking_write_and_flush(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.work.on_blocking_threads(self.inner.blocking_write_and_flush(bytes)).await
    }

    fn flush(&mut self) -> StreamResult<()> {
        self.inner.flush()
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        self.inner.check_write()
    }

    async fn cancel(&mut self) {
        self.inner.cancel().await;
    }
}

#[async_trait::async_trait]
impl Pollable for OnBlockingThreads<DynOutputStream> {
    async fn ready(&mut self) {
        self.work.on_blocking_threads(self.inner.ready()).await;
    }
}
