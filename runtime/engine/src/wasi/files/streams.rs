//! Streams that read and write files on the threads of a tenant that may block.

use bytes::Bytes;
use sandhog_core::host_memory::FILE_STREAM;
use wasmtime_wasi::p2::{
    DynInputStream, DynOutputStream, InputStream, OutputStream, Pollable, StreamError, StreamResult,
};

use crate::host_work::RunWork;
use crate::wasi::handles::FileStreams;

/// Stream whose blocking parts run on those threads.
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
    /// Writes bytes, which wait on the host for the disk: at most [`FILE_STREAM`] at once. More is a trap.
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        if bytes.len() as u64 > FILE_STREAM.0 {
            let (many, max) = (bytes.len(), FILE_STREAM);
            return Err(StreamError::Trap(wasmtime::format_err!(
                "writes {many} bytes to a file at once; {max} are the most"
            )));
        }
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

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use sandhog_core::id::TenantId;
    use wasmtime_wasi::p2::pipe::MemoryOutputPipe;

    use super::*;
    use crate::host_work::{HostTime, HostWork};

    #[tokio::test]
    async fn no_more_can_be_handed_over_at_once_than_is_offered() {
        let tenant = TenantId::parse("acme").expect("valid");
        let work = RunWork::new(HostWork::new(NonZeroUsize::MIN).of(&tenant), HostTime::default());
        let inner: DynOutputStream = Box::new(MemoryOutputPipe::new(1 << 20));
        let mut stream = OnBlockingThreads { inner, work, _counted: FileStreams::default() };
        let bytes = |more: u64| Bytes::from(vec![0; (FILE_STREAM.0 + more) as usize]);
        assert!(stream.write(bytes(0)).is_ok());
        assert!(matches!(stream.write(bytes(1)), Err(StreamError::Trap(_))));
    }
}
