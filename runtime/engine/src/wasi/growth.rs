//! Stream that writes to a file of a directory with a quota: bytes that make the file longer are charged before.

use std::sync::Arc;

use bytes::Bytes;
use wasmtime_wasi::p2::{DynOutputStream, OutputStream, Pollable, StreamError, StreamResult};

use super::account::{Full, OpenFile, Quota, Writing};
use crate::run_log::{Remark, RunLog};

/// Reports to the job's log that there is no room.
pub(super) struct Reporter {
    pub(super) log: RunLog,
    /// Plugin whose grant it is, as messages name it.
    pub(super) place: String,
}

impl Reporter {
    /// Reports that there is no room, once a run.
    pub(super) fn full(&self, quota: &Quota) {
        self.log.remark(Remark::Quota, || {
            let (max, place) = (quota.max, &self.place);
            format!("the directory has no room: its quota is {max}; remove files, or raise `quota` in `dirs` under [grants] of {place}")
        });
    }
}

/// The stream.
pub(super) struct Growing {
    pub(super) inner: DynOutputStream,
    pub(super) file: Arc<OpenFile>,
    /// Position of the next byte. `None` to write to the end.
    pub(super) at: Option<u64>,
    /// The last write, until it is known to be in the file.
    pub(super) writing: Option<Writing>,
    pub(super) reporter: Reporter,
}

impl Growing {
    fn refused(&self) -> StreamError {
        self.reporter.full(self.file.quota());
        StreamError::LastOperationFailed(Full.into())
    }

    fn moved(&mut self, len: usize) {
        self.at = self.at.map(|at| at.saturating_add(len as u64));
    }
}

#[async_trait::async_trait]
impl OutputStream for Growing {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        let len = bytes.len();
        let writing = self.file.write_now(self.at, len as u64).map_err(|Full| self.refused())?;
        self.inner.write(bytes)?;
        self.writing = Some(writing);
        self.moved(len);
        Ok(())
    }

    async fn blocking_write_and_flush(&mut self, bytes: Bytes) -> StreamResult<()> {
        // Any earlier write has come to its end, well or not.
        self.write_ready().await?;
        let (len, at) = (bytes.len(), self.at);
        let (file, quota) = (&self.file, self.file.quota());
        let writing = quota.within(|| file.write_now(at, len as u64)).await.map_err(|Full| self.refused())?;
        self.writing = Some(writing);
        self.inner.blocking_write_and_flush(bytes).await?;
        self.writing = None;
        self.moved(len);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        self.inner.flush()
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        let room = self.inner.check_write()?;
        if room > 0 {
            self.writing = None;
        }
        Ok(room)
    }

    async fn cancel(&mut self) {
        self.inner.cancel().await;
    }
}

#[async_trait::async_trait]
impl Pollable for Growing {
    async fn ready(&mut self) {
        self.inner.ready().await;
        self.writing = None;
    }
}
