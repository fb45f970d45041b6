//! File system of a guest: that of wasmtime, with the limits that it lacks.
//!
//! | a guest could | and is held by |
//! |---|---|
//! | open a pipe and wait for ever on a thread of the host's | opening without waiting, and nothing but files and directories |
//! | fill the disk | the directory's quota |
//! | open files without end | `limits.open_files` |
//! | have the host list a directory of millions of entries | a bound on what is listed |
//! | wait for a disk that doesn't answer | a deadline for each call, on threads of its tenant's own |
//! | read the time off a file | times as coarse as the clocks |
//!
//! Paths can't leave their directory: `cap-std` sees to that, here as in wasmtime.

mod listing;
mod open;
mod quota;
mod rights;
mod streams;

use std::collections::HashMap;
use std::fs::File as OsFile;
use std::future::Future;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cap_primitives::fs;
use wasmtime::component::{HasData, Linker, Resource};
use wasmtime_wasi::filesystem::{Descriptor, WasiFilesystemCtxView};
use wasmtime_wasi::p2::bindings::filesystem::preopens;
use wasmtime_wasi::p2::bindings::filesystem::types::{
    self, DescriptorFlags, ErrorCode, HostDescriptor, HostDirectoryEntryStream,
};
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, FsError, FsResult};
use wasmtime_wasi::runtime::spawn_blocking;

use self::open::Opening;
use self::quota::paid;
use self::streams::OnBlockingThreads;
use super::account::{ENTRY, Full, OpenFile};
use super::clocks::ClockResolution;
use super::handles::{FileStreams, Listings};
use crate::host_work::{RunWork, TenantWork};
use crate::imports::RunState;
use crate::plugin::Plugin;
use crate::run_log::{Remark, RunLog};

/// Files that a run has open.
pub(crate) struct Files {
    /// Descriptors, by their numbers in the table.
    descriptors: HashMap<u32, Known>,
    /// Files that were opened; streams keep one open beyond its descriptor. The last holder of a file is always this: to
    /// close one may take as long as its disk likes, and must not happen on a guest thread.
    open: Vec<(Arc<OsFile>, Option<Arc<OpenFile>>)>,
    /// Files that the guest has closed. They are closed with the next call that may block, or at the end of the run.
    closed: Vec<Arc<OsFile>>,
    tenant: Arc<TenantWork>,
    /// Whether the guest has asked which directories it has, and has none.
    pub(crate) asked_in_vain: bool,
}

impl Files {
    /// Creates the file table of one run of `tenant`.
    pub(super) fn new(tenant: Arc<TenantWork>) -> Self {
        Self {
            descriptors: HashMap::new(),
            open: Vec::new(),
            closed: Vec::new(),
            tenant,
            asked_in_vain: false,
        }
    }

    /// Forgets files that have been closed, so that their account knows.
    fn forget_closed(&mut self) {
        let closed = self.open.extract_if(.., |(file, _)| Arc::strong_count(file) == 1);
        self.closed.extend(closed.map(|(file, _)| file));
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let open = self.open.drain(..).map(|(file, _)| file);
        let files: Vec<_> = self.closed.drain(..).chain(open).collect();
        if !files.is_empty() {
            self.tenant.later(move || drop(files));
        }
    }
}

/// Descriptor that is known.
struct Known {
    /// Index of the plugin's grant that it belongs to.
    grant: usize,
    /// File in its account, if it is a file and has an account.
    file: Option<Arc<OpenFile>>,
}

/// View of the run that file system calls work on.
pub(crate) struct FilesView<'a> {
    pub(crate) inner: WasiFilesystemCtxView<'a>,
    pub(crate) files: &'a mut Files,
    pub(super) listings: &'a mut Listings,
    pub(super) streams: &'a FileStreams,
    pub(crate) work: &'a RunWork,
    pub(crate) plugin: &'a Plugin,
    pub(crate) log: &'a RunLog,
    pub(crate) blocking: Blocking<'a>,
    pub(crate) open_max: u64,
    pub(crate) resolution: ClockResolution,
}

/// Terms of a blocking call: on whose threads it blocks, how long it may take, and which log is told if it takes longer.
#[derive(Clone, Copy)]
pub(crate) struct Blocking<'a> {
    pub(crate) work: &'a RunWork,
    pub(crate) log: &'a RunLog,
    pub(crate) deadline: Duration,
}

struct Has;

impl HasData for Has {
    type Data<'a> = FilesView<'a>;
}

/// Replaces wasmtime's calls in the linker by these.
pub(super) fn link(linker: &mut Linker<RunState>) -> wasmtime::Result<()> {
    preopens::add_to_linker::<_, Has>(linker, RunState::files)?;
    types::add_to_linker::<_, Has>(linker, RunState::files)
}

impl FilesView<'_> {
    /// Runs an operation on a thread that may wait for a disk.
    async fn blocking<T: Send + 'static>(
        &mut self,
        call: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> FsResult<T> {
        in_time(self.blocking, async { Ok(spawn_blocking(call).await?) }).await
    }
}

/// Waits for a call until its deadline. What a thread of the host is doing can't be stopped, but nobody waits for it any
/// longer.
async fn in_time<T>(blocking: Blocking<'_>, call: impl Future<Output = FsResult<T>>) -> FsResult<T> {
    let Blocking { work, log, deadline } = blocking;
    match tokio::time::timeout(deadline, work.on_blocking_threads(call)).await {
        Ok(result) => result,
        Err(_) => {
            log.remark(Remark::FileTime, || {
                format!("a call of the file system took longer than {deadline:?} and was given up")
            });
            Err(ErrorCode::Io.into())
        }
    }
}

/// Logs to the job's log if a path was refused because it leads out of its directory, as far as an error shows that.
fn outside(log: &RunLog, error: FsError) -> FsError {
    if error.downcast_ref() == Some(&ErrorCode::NotPermitted) {
        log.remark(Remark::PathOutside, || {
            "a path is refused: it leads out of its granted directory, or the system forbids it; links there have to be relative, and to lead to what is granted"
                .to_owned()
        });
    }
    error
}

impl preopens::Host for FilesView<'_> {
    fn get_directories(&mut self) -> wasmtime::Result<Vec<(Resource<Descriptor>, String)>> {
        self.files.asked_in_vain |= self.plugin.dirs.is_empty();
        let mut directories = Vec::with_capacity(self.plugin.dirs.len());
        for (grant, granted) in self.plugin.dirs.iter().enumerate() {
            let fd = self.inner.table.push(Descriptor::Dir(granted.dir()))?;
            self.files.descriptors.insert(fd.rep(), Known { grant, file: None });
            directories.push((fd, granted.guest.clone()));
        }
        Ok(directories)
    }
}

impl types::Host for FilesView<'_> {
    fn convert_error_code(&mut self, error: FsError) -> wasmtime::Result<ErrorCode> {
        types::Host::convert_error_code(&mut self.inner, error)
    }

    fn filesystem_error_code(
        &mut self,
        error: Resource<wasmtime::Error>,
    ) -> wasmtime::Result<Option<ErrorCode>> {
        if self.inner.table.get(&error)?.is::<Full>() {
            return Ok(Some(ErrorCode::Quota));
        }
        types::Host::filesystem_error_code(&mut self.inner, error)
    }
}

impl HostDescriptor for FilesView<'_> {
    async fn open_at(
        &mut self,
        fd: Resource<Descriptor>,
        follow: types::PathFlags,
        path: String,
        oflags: types::OpenFlags,
        flags: DescriptorFlags,
    ) -> FsResult<Resource<Descriptor>> {
        self.open(&fd, Opening::new(follow, path, oflags, flags)?).await
    }

    async fn write(&mut self, fd: Resource<Descriptor>, bytes: Vec<u8>, at: u64) -> FsResult<u64> {
        let file = self.file(&fd)?;
        if file.perms.write_not_permitted() {
            return Err(self.read_only(&fd));
        }
        match self.known(&fd)?.file.clone() {
            Some(accounted) => self.write_accounted(file.file, accounted, bytes, at).await,
            None => in_time(self.blocking, self.inner.write(fd, bytes, at)).await,
        }
    }

    fn write_via_stream(&mut self, fd: Resource<Descriptor>, at: u64) -> FsResult<Resource<DynOutputStream>> {
        if self.file(&fd)?.perms.write_not_permitted() {
            return Err(self.read_only(&fd));
        }
        let stream = self.inner.write_via_stream(Resource::new_borrow(fd.rep()), at)?;
        self.writing(&fd, stream, Some(at))
    }

    fn append_via_stream(&mut self, fd: Resource<Descriptor>) -> FsResult<Resource<DynOutputStream>> {
        if self.file(&fd)?.perms.write_not_permitted() {
            return Err(self.read_only(&fd));
        }
        let stream = self.inner.append_via_stream(Resource::new_borrow(fd.rep()))?;
        self.writing(&fd, stream, None)
    }

    async fn set_size(&mut self, fd: Resource<Descriptor>, size: u64) -> FsResult<()> {
        let file = self.file(&fd)?;
        if file.perms.write_not_permitted() {
            return Err(self.read_only(&fd));
        }
        match self.known(&fd)?.file.clone() {
            Some(accounted) => self.set_size_accounted(file.file, accounted, size).await,
            None => in_time(self.blocking, self.inner.set_size(fd, size)).await,
        }
    }

    async fn create_directory_at(&mut self, fd: Resource<Descriptor>, path: String) -> FsResult<()> {
        self.dir_to_change(&fd)?;
        let quota = self.quota(&fd)?;
        self.take(quota.as_ref(), ENTRY).await?;
        let done = in_time(self.blocking, paid(quota, ENTRY, self.inner.create_directory_at(fd, path))).await;
        done.map_err(|error| outside(self.log, error))
    }

    async fn symlink_at(&mut self, fd: Resource<Descriptor>, to: String, path: String) -> FsResult<()> {
        self.dir_to_change(&fd)?;
        let (quota, size) = (self.quota(&fd)?, ENTRY + to.len() as u64);
        self.take(quota.as_ref(), size).await?;
        let done = in_time(self.blocking, paid(quota, size, self.inner.symlink_at(fd, to, path))).await;
        done.map_err(|error| outside(self.log, error))
    }

    async fn link_at(
        &mut self,
        fd: Resource<Descriptor>,
        follow: types::PathFlags,
        old: String,
        to: Resource<Descriptor>,
        new: String,
    ) -> FsResult<()> {
        self.dir_to_change(&fd)?;
        self.dir_to_change(&to)?;
        self.same_account(&fd, &to)?;
        let quota = self.quota(&to)?;
        self.take(quota.as_ref(), ENTRY).await?;
        let done =
            in_time(self.blocking, paid(quota, ENTRY, self.inner.link_at(fd, follow, old, to, new))).await;
        done.map_err(|error| outside(self.log, error))
    }

    async fn rename_at(
        &mut self,
        fd: Resource<Descriptor>,
        old: String,
        to: Resource<Descriptor>,
        new: String,
    ) -> FsResult<()> {
        let (from, into) = (self.dir_to_change(&fd)?.dir, self.dir_to_change(&to)?.dir);
        self.same_account(&fd, &to)?;
        let quota = self.quota(&to)?;
        let call = move || {
            let (old, new) = (Path::new(&old), Path::new(&new));
            let rename = || fs::rename(&from, old, &into, new);
            match quota {
                Some(quota) => quota.account.removing(&into, new, rename),
                None => rename(),
            }
        };
        let done = self.blocking(call).await;
        done.map_err(|error| outside(self.log, error))
    }

    async fn unlink_file_at(&mut self, fd: Resource<Descriptor>, path: String) -> FsResult<()> {
        self.remove(&fd, path, fs::remove_file).await
    }

    async fn remove_directory_at(&mut self, fd: Resource<Descriptor>, path: String) -> FsResult<()> {
        self.remove(&fd, path, fs::remove_dir).await
    }

    async fn read_directory(
        &mut self,
        fd: Resource<Descriptor>,
    ) -> FsResult<Resource<types::DirectoryEntryStream>> {
        let entries = self.countable(&fd).await?;
        let listed = in_time(self.blocking, self.inner.read_directory(fd)).await?;
        self.listings.add(listed.rep(), entries).map_err(FsError::trap)?;
        Ok(listed)
    }

    async fn stat(&mut self, fd: Resource<Descriptor>) -> FsResult<types::DescriptorStat> {
        let stat = in_time(self.blocking, HostDescriptor::stat(&mut self.inner, fd)).await?;
        Ok(self.coarse_times(stat))
    }

    async fn stat_at(
        &mut self,
        fd: Resource<Descriptor>,
        follow: types::PathFlags,
        path: String,
    ) -> FsResult<types::DescriptorStat> {
        let stat = in_time(self.blocking, self.inner.stat_at(fd, follow, path)).await;
        let stat = stat.map_err(|error| outside(self.log, error))?;
        Ok(self.coarse_times(stat))
    }

    fn drop(&mut self, fd: Resource<Descriptor>) -> wasmtime::Result<()> {
        self.files.descriptors.remove(&fd.rep());
        HostDescriptor::drop(&mut self.inner, fd)?;
        self.files.forget_closed();
        Ok(())
    }

    // The calls from here on are wasmtime's, with a deadline.

    async fn advise(
        &mut self,
        fd: Resource<Descriptor>,
        offset: u64,
        len: u64,
        advice: types::Advice,
    ) -> FsResult<()> {
        in_time(self.blocking, self.inner.advise(fd, offset, len, advice)).await
    }

    async fn sync_data(&mut self, fd: Resource<Descriptor>) -> FsResult<()> {
        in_time(self.blocking, HostDescriptor::sync_data(&mut self.inner, fd)).await
    }

    async fn sync(&mut self, fd: Resource<Descriptor>) -> FsResult<()> {
        in_time(self.blocking, HostDescriptor::sync(&mut self.inner, fd)).await
    }

    async fn get_flags(&mut self, fd: Resource<Descriptor>) -> FsResult<DescriptorFlags> {
        in_time(self.blocking, self.inner.get_flags(fd)).await
    }

    async fn get_type(&mut self, fd: Resource<Descriptor>) -> FsResult<types::DescriptorType> {
        in_time(self.blocking, self.inner.get_type(fd)).await
    }

    async fn set_times(
        &mut self,
        fd: Resource<Descriptor>,
        accessed: types::NewTimestamp,
        modified: types::NewTimestamp,
    ) -> FsResult<()> {
        in_time(self.blocking, self.inner.set_times(fd, accessed, modified)).await
    }

    async fn set_times_at(
        &mut self,
        fd: Resource<Descriptor>,
        follow: types::PathFlags,
        path: String,
        accessed: types::NewTimestamp,
        modified: types::NewTimestamp,
    ) -> FsResult<()> {
        let done =
            in_time(self.blocking, self.inner.set_times_at(fd, follow, path, accessed, modified)).await;
        done.map_err(|error| outside(self.log, error))
    }

    async fn read(&mut self, fd: Resource<Descriptor>, len: u64, at: u64) -> FsResult<(Vec<u8>, bool)> {
        in_time(self.blocking, self.inner.read(fd, len, at)).await
    }

    async fn readlink_at(&mut self, fd: Resource<Descriptor>, path: String) -> FsResult<String> {
        let done = in_time(self.blocking, self.inner.readlink_at(fd, path)).await;
        done.map_err(|error| outside(self.log, error))
    }

    fn read_via_stream(&mut self, fd: Resource<Descriptor>, at: u64) -> FsResult<Resource<DynInputStream>> {
        let counted = self.streams.add().map_err(FsError::trap)?;
        let stream = self.inner.read_via_stream(fd, at)?;
        let inner = self.inner.table.delete(stream)?;
        let stream: DynInputStream =
            Box::new(OnBlockingThreads { inner, work: self.work.clone(), _counted: counted });
        Ok(self.inner.table.push(stream)?)
    }

    async fn is_same_object(
        &mut self,
        a: Resource<Descriptor>,
        b: Resource<Descriptor>,
    ) -> wasmtime::Result<bool> {
        self.inner.is_same_object(a, b).await
    }

    async fn metadata_hash(&mut self, fd: Resource<Descriptor>) -> FsResult<types::MetadataHashValue> {
        in_time(self.blocking, self.inner.metadata_hash(fd)).await
    }

    async fn metadata_hash_at(
        &mut self,
        fd: Resource<Descriptor>,
        follow: types::PathFlags,
        path: String,
    ) -> FsResult<types::MetadataHashValue> {
        let done = in_time(self.blocking, self.inner.metadata_hash_at(fd, follow, path)).await;
        done.map_err(|error| outside(self.log, error))
    }
}

impl HostDirectoryEntryStream for FilesView<'_> {
    async fn read_directory_entry(
        &mut self,
        stream: Resource<types::DirectoryEntryStream>,
    ) -> FsResult<Option<types::DirectoryEntry>> {
        loop {
            let entry = self.inner.read_directory_entry(Resource::new_borrow(stream.rep())).await;
            match entry {
                // Paths of guests are text, so they couldn't open it either.
                Err(error) if error.downcast_ref() == Some(&ErrorCode::IllegalByteSequence) => {
                    self.log.remark(Remark::FileName, || {
                        "a directory has entries whose names are not UTF-8; they are left out of its listing".to_owned()
                    });
                }
                entry => return entry,
            }
        }
    }

    fn drop(&mut self, stream: Resource<types::DirectoryEntryStream>) -> wasmtime::Result<()> {
        self.listings.remove(stream.rep());
        HostDirectoryEntryStream::drop(&mut self.inner, stream)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::testing::Lines;
    use crate::host_work::{HostTime, HostWork};
    use sandhog_core::budget::Bytes;
    use sandhog_core::id::TenantId;
    use std::num::NonZeroUsize;

    #[tokio::test]
    async fn a_disk_that_does_not_answer_is_given_up() {
        let (seen, log) = Lines::logged(Bytes(1000));
        let tenant = TenantId::parse("acme").expect("a name");
        let work = RunWork::new(HostWork::new(NonZeroUsize::MIN).of(&tenant), HostTime::default());
        let blocking = Blocking { work: &work, log: &log, deadline: Duration::from_millis(1) };
        let answer = in_time(blocking, std::future::pending::<FsResult<()>>()).await;
        let code = answer.expect_err("nothing came").downcast().expect("a code");
        assert_eq!(code, ErrorCode::Io);
        assert_eq!(seen.lines()[0].1, "a call of the file system took longer than 1ms and was given up");
    }
}
