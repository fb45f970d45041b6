//! Calls that change how full a directory with a quota is.

use std::fs::File as OsFile;
use std::future::Future;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use wasmtime::component::Resource;
use wasmtime_wasi::filesystem::Descriptor;
use wasmtime_wasi::p2::bindings::filesystem::types::ErrorCode;
use wasmtime_wasi::p2::{DynOutputStream, FsError, FsResult};

use super::streams::OnBlockingThreads;
use super::{FilesView, in_time, outside};
use crate::wasi::account::{Full, OpenFile, Quota};
use crate::wasi::growth::{Growing, Reporter};

impl FilesView<'_> {
    pub(super) fn quota(&self, fd: &Resource<Descriptor>) -> FsResult<Option<Quota>> {
        Ok(self.granted(self.known(fd)?.grant)?.quota.clone())
    }

    /// Charges bytes that are to be written to the account of a directory.
    pub(super) async fn take(&mut self, quota: Option<&Quota>, bytes: u64) -> FsResult<()> {
        let Some(quota) = quota else { return Ok(()) };
        in_time(self.blocking, async { Ok(quota.settle().await?) }).await?;
        let taken = async { Ok(quota.within(|| quota.take_now(bytes)).await) };
        in_time(self.blocking, taken).await?.map_err(|Full| self.full(quota))
    }

    fn reporter(&self) -> Reporter {
        Reporter { log: self.log.clone(), place: self.plugin.place() }
    }

    pub(super) fn full(&self, quota: &Quota) -> FsError {
        self.reporter().full(quota);
        ErrorCode::Quota.into()
    }

    /// Wraps a stream that writes to a file, so that it blocks no guest thread, and the bytes that it adds are charged.
    pub(super) fn writing(
        &mut self,
        fd: &Resource<Descriptor>,
        stream: Resource<DynOutputStream>,
        at: Option<u64>,
    ) -> FsResult<Resource<DynOutputStream>> {
        let counted = self.streams.add().map_err(FsError::trap)?;
        let mut inner = self.inner.table.delete(stream)?;
        if let Some(file) = self.known(fd)?.file.clone() {
            inner = Box::new(Growing { inner, file, at, writing: None, reporter: self.reporter() });
        }
        let stream: DynOutputStream =
            Box::new(OnBlockingThreads { inner, work: self.work.clone(), _counted: counted });
        Ok(self.inner.table.push(stream)?)
    }

    /// Removes a name.
    pub(super) async fn remove(
        &mut self,
        fd: &Resource<Descriptor>,
        path: String,
        remove: fn(&OsFile, &Path) -> io::Result<()>,
    ) -> FsResult<()> {
        let (dir, quota) = (self.dir_to_change(fd)?.dir, self.quota(fd)?);
        let call = move || {
            let (dir, path) = (&*dir, Path::new(&path));
            match quota {
                Some(quota) => quota.account.removing(dir, path, || remove(dir, path)),
                None => remove(dir, path),
            }
        };
        let done = self.blocking(call).await;
        done.map_err(|error| outside(self.log, error))
    }

    /// Writes to a file that has an account.
    pub(super) async fn write_accounted(
        &mut self,
        file: Arc<OsFile>,
        accounted: Arc<OpenFile>,
        bytes: Vec<u8>,
        at: u64,
    ) -> FsResult<u64> {
        let quota = accounted.quota();
        self.take(Some(quota), 0).await?;
        let writing = quota.within(|| accounted.write_now(Some(at), bytes.len() as u64));
        let writing = in_time(self.blocking, async { Ok(writing.await) }).await?;
        let writing = writing.map_err(|Full| self.full(quota))?;
        let call = move || {
            // The write is under way as long as the disk takes, even if nobody waits for it any longer.
            let _writing = writing;
            file.write_at(&bytes, at)
        };
        Ok(self.blocking(call).await? as u64)
    }

    /// Makes a file that has an account longer or shorter.
    pub(super) async fn set_size_accounted(
        &mut self,
        file: Arc<OsFile>,
        accounted: Arc<OpenFile>,
        size: u64,
    ) -> FsResult<()> {
        let quota = accounted.quota();
        self.take(Some(quota), 0).await?;
        let set = || {
            let (file, accounted) = (Arc::clone(&file), Arc::clone(&accounted));
            move || accounted.set_len(&file, size)
        };
        if self.blocking(set()).await?.is_ok() {
            return Ok(());
        }
        let recounted = async {
            quota.recount().await;
            Ok(())
        };
        in_time(self.blocking, recounted).await?;
        self.blocking(set()).await?.map_err(|Full| self.full(quota))
    }
}

/// Makes something that its account was charged for, and gives that back if it can't be made. A call that isn't waited for any
/// longer may yet make it.
pub(super) async fn paid(
    quota: Option<Quota>,
    bytes: u64,
    make: impl Future<Output = FsResult<()>>,
) -> FsResult<()> {
    let made = make.await;
    if let (Some(quota), Err(_)) = (quota, &made) {
        quota.account.give(bytes);
    }
    made
}
