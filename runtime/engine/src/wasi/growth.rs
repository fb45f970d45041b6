//! A stream that writes to a file of a directory with a quota: what makes the file longer is accounted before.

use std::fs::File;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use wasmtime_wasi::p2::{DynOutputStream, OutputStream, Pollable, StreamError, StreamResult};

use super::account::{Full, Quota};
use crate::run_log::{Remark, RunLog};

/// Where growth is accounted, and who hears of it if there is no room.
pub(super) struct Growth {
    pub(super) quota: Quota,
    pub(super) log: RunLog,
    /// Whose grant it is.
    pub(super) place: String,
}

impl Growth {
    /// Says that there is no room.
    pub(super) fn say(&self) {
        self.log.remark(Remark::Quota, || {
            let (max, place) = (self.quota.max, &self.place);
            format!("the directory has no room: its quota is {max}; remove files, or raise `quota` in `dirs` under [grants] of {place}")
        });
    }

    fn refused(&self) -> StreamError {
        self.say();
        StreamError::LastOperationFailed(Full.into())
    }
}

/// By how much a write of this length makes a file longer; without a place it is at the end.
pub(super) fn beyond(file: &File, at: Option<u64>, len: u64) -> io::Result<u64> {
    match at {
        Some(at) => Ok(at.saturating_add(len).saturating_sub(file.metadata()?.len())),
        None => Ok(len),
    }
}

/// The stream.
pub(super) struct Growing {
    pub(super) inner: DynOutputStream,
    pub(super) file: Arc<File>,
    /// Where the next byte goes; none: to the end.
    pub(super) at: Option<u64>,
    pub(super) growth: Growth,
}

impl Growing {
    fn more(&self, len: usize) -> StreamResult<u64> {
        beyond(&self.file, self.at, len as u64)
            .map_err(|error| StreamError::LastOperationFailed(error.into()))
    }

    fn moved(&mut self, len: usize) {
        self.at = self.at.map(|at| at.saturating_add(len as u64));
    }
}

#[async_trait::async_trait]
impl OutputStream for Growing {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        let (len, more) = (bytes.len(), self.more(bytes.len())?);
        self.growth.quota.take_now(more).map_err(|Full| self.growth.refused())?;
        self.inner.write(bytes)?;
        self.moved(len);
        Ok(())
    }

    async fn blocking_write_and_flush(&mut self, bytes: Bytes) -> StreamResult<()> {
        // What was written before has to be in the file for its length to be right.
        self.inner.write_ready().await?;
        let (len, more) = (bytes.len(), self.more(bytes.len())?);
        self.growth.quota.take(more).await.map_err(|Full| self.growth.refused())?;
        self.inner.blocking_write_and_flush(bytes).await?;
        self.moved(len);
        Ok(())
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
impl Pollable for Growing {
    async fn ready(&mut self) {
        self.inner.ready().await;
    }
}
