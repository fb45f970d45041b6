//! The file system of a guest: what wasmtime has, with what it lacks.
//!
//! | a guest could | and is held by |
//! |---|---|
//! | open a pipe and wait for ever on a thread of the host's | opening without waiting, and nothing but files and directories |
//! | fill the disk | the directory's quota |
//! | open files without end | `limits.open_files` |
//! | have the host list a directory of millions of entries | a bound on what is listed |
//! | wait for a disk that doesn't answer | a deadline for each call |
//! | read the time off a file | times as coarse as the clocks |
//!
//! Paths can't leave their directory: `cap-std` sees to that, here as in wasmtime.

use std::collections::HashMap;
use std::fs::File as OsFile;
use std::future::Future;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;

use cap_fs_ext::{FollowSymlinks, OpenOptionsFollowExt};
use cap_primitives::fs::{self, Metadata, OpenOptions, OpenOptionsExt};
use rustix::fs::OFlags;
use wasmtime::component::{HasData, Linker, Resource};
use wasmtime_wasi::OpenMode;
use wasmtime_wasi::filesystem::{Descriptor, Dir, File, WasiFilesystemCtxView};
use wasmtime_wasi::p2::bindings::clocks::wall_clock::Datetime;
use wasmtime_wasi::p2::bindings::filesystem::types::{
    self, ErrorCode, HostDescriptor, HostDirectoryEntryStream,
};
use wasmtime_wasi::p2::bindings::filesystem::{preopens, types::DescriptorFlags};
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, FsError, FsResult};
use wasmtime_wasi::runtime::spawn_blocking;

use super::account::{ENTRY, Full, OpenFile, Quota};
use super::clocks::Grain;
use super::directories::Granted;
use super::growth::{Growing, Reporter};
use crate::imports::RunState;
use crate::plugin::Plugin;
use crate::run_log::{Remark, RunLog};

/// The most entries of a directory that are listed: the host holds them all at once.
const LISTED_MAX: usize = 50_000;

/// What a run has open.
#[derive(Default)]
pub(crate) struct Files {
    /// The descriptors, by their numbers in the table.
    descriptors: HashMap<u32, Known>,
    /// What was opened; streams keep a file open beyond its descriptor.
    open: Vec<(Weak<OsFile>, Option<Arc<OpenFile>>)>,
    /// The guest has asked which directories it has, and has none.
    pub(crate) asked_in_vain: bool,
}

impl Files {
    /// Forgets what has been closed, so that its account knows.
    fn forget_closed(&mut self) {
        self.open.retain(|(file, _)| file.strong_count() > 0);
    }
}

/// What is known of a descriptor.
struct Known {
    /// To which of the plugin's grants it belongs.
    grant: usize,
    /// In its account, if it is a file and has one.
    file: Option<Arc<OpenFile>>,
}

/// What the calls of a guest work on.
pub(crate) struct FilesView<'a> {
    pub(crate) inner: WasiFilesystemCtxView<'a>,
    pub(crate) files: &'a mut Files,
    pub(crate) plugin: &'a Plugin,
    pub(crate) log: &'a RunLog,
    pub(crate) patience: Patience<'a>,
    pub(crate) open_max: u64,
    pub(crate) grain: Grain,
}

/// How long a call may take, and who hears of one that takes longer.
#[derive(Clone, Copy)]
pub(crate) struct Patience<'a> {
    pub(crate) log: &'a RunLog,
    pub(crate) deadline: Duration,
}

struct Has;

impl HasData for Has {
    type Data<'a> = FilesView<'a>;
}

/// Puts these calls in the place of wasmtime's.
pub(super) fn link(linker: &mut Linker<RunState>) -> wasmtime::Result<()> {
    preopens::add_to_linker::<_, Has>(linker, RunState::files)?;
    types::add_to_linker::<_, Has>(linker, RunState::files)
}

impl FilesView<'_> {
    fn known(&self, fd: &Resource<Descriptor>) -> FsResult<&Known> {
        // Every descriptor of the table was noted when it came to be.
        self.files.descriptors.get(&fd.rep()).ok_or_else(|| ErrorCode::BadDescriptor.into())
    }

    fn granted(&self, grant: usize) -> FsResult<&Granted> {
        self.plugin.dirs.get(grant).map(Arc::as_ref).ok_or_else(|| ErrorCode::BadDescriptor.into())
    }

    fn quota(&self, fd: &Resource<Descriptor>) -> FsResult<Option<Quota>> {
        Ok(self.granted(self.known(fd)?.grant)?.quota.clone())
    }

    fn dir(&self, fd: &Resource<Descriptor>) -> FsResult<Dir> {
        match self.inner.table.get(fd)? {
            Descriptor::Dir(dir) => Ok(dir.clone()),
            Descriptor::File(_) => Err(ErrorCode::NotDirectory.into()),
        }
    }

    /// A directory in which something is to be changed.
    fn dir_to_change(&self, fd: &Resource<Descriptor>) -> FsResult<Dir> {
        let dir = self.dir(fd)?;
        if dir.perms.write_not_permitted() { Err(self.read_only(fd)) } else { Ok(dir) }
    }

    fn file(&self, fd: &Resource<Descriptor>) -> FsResult<File> {
        match self.inner.table.get(fd)? {
            Descriptor::File(file) => Ok(file.clone()),
            Descriptor::Dir(_) => Err(ErrorCode::BadDescriptor.into()),
        }
    }

    fn read_only(&self, fd: &Resource<Descriptor>) -> FsError {
        self.log.remark(Remark::ReadOnly, || {
            let granted = self.known(fd).and_then(|known| self.granted(known.grant));
            let dir = granted.map_or("", |granted| granted.guest.as_str());
            format!(
                "a write to {dir} is refused: it is granted for reading; add `access = \"read-write\"` to it in `dirs` under [grants] of {}",
                self.plugin.place()
            )
        });
        ErrorCode::NotPermitted.into()
    }

    /// Adds to the account of a directory what is to be written.
    async fn take(&mut self, quota: Option<&Quota>, bytes: u64) -> FsResult<()> {
        let Some(quota) = quota else { return Ok(()) };
        in_time(self.patience, async { Ok(quota.settle().await?) }).await?;
        let taken = async { Ok(quota.within(|| quota.take_now(bytes)).await) };
        in_time(self.patience, taken).await?.map_err(|Full| self.full(quota))
    }

    fn reporter(&self) -> Reporter {
        Reporter { log: self.log.clone(), place: self.plugin.place() }
    }

    fn full(&self, quota: &Quota) -> FsError {
        self.reporter().full(quota);
        ErrorCode::Quota.into()
    }

    fn coarse(&self, time: Option<Datetime>) -> Option<Datetime> {
        let time = time?;
        let seen = self.grain.floor(Duration::new(time.seconds, time.nanoseconds));
        Some(Datetime { seconds: seen.as_secs(), nanoseconds: seen.subsec_nanos() })
    }

    fn coarse_times(&self, stat: types::DescriptorStat) -> types::DescriptorStat {
        if self.grain.is_finest() {
            return stat;
        }
        types::DescriptorStat {
            data_access_timestamp: self.coarse(stat.data_access_timestamp),
            data_modification_timestamp: self.coarse(stat.data_modification_timestamp),
            status_change_timestamp: self.coarse(stat.status_change_timestamp),
            ..stat
        }
    }

    /// Whether one more may be opened.
    fn room(&mut self) -> FsResult<()> {
        self.files.forget_closed();
        if (self.files.open.len() as u64) < self.open_max {
            return Ok(());
        }
        self.log.remark(Remark::OpenFiles, || {
            let max = self.open_max;
            format!(
                "{max} files are open, and no more can be; raise limits.open_files of {}",
                self.plugin.place()
            )
        });
        // There is no code for too many open files.
        Err(ErrorCode::InsufficientMemory.into())
    }

    /// Notes a descriptor that was opened.
    fn add(
        &mut self,
        grant: usize,
        descriptor: Descriptor,
        accounted: Option<OpenFile>,
    ) -> FsResult<Resource<Descriptor>> {
        let file = match &descriptor {
            Descriptor::File(file) => &file.file,
            Descriptor::Dir(dir) => &dir.dir,
        };
        let accounted = accounted.map(Arc::new);
        self.files.open.push((Arc::downgrade(file), accounted.clone()));
        let fd = self.inner.table.push(descriptor)?;
        self.files.descriptors.insert(fd.rep(), Known { grant, file: accounted });
        Ok(fd)
    }

    /// Wraps a stream that writes to a file, so that what it adds is accounted.
    fn growing(
        &mut self,
        fd: &Resource<Descriptor>,
        stream: Resource<DynOutputStream>,
        at: Option<u64>,
    ) -> FsResult<Resource<DynOutputStream>> {
        let Some(file) = self.known(fd)?.file.clone() else { return Ok(stream) };
        let reporter = self.reporter();
        let inner = self.inner.table.delete(stream)?;
        let stream: DynOutputStream = Box::new(Growing { inner, file, at, writing: None, reporter });
        Ok(self.inner.table.push(stream)?)
    }

    /// Does something on a thread that may wait for a disk.
    async fn blocking<T: Send + 'static>(
        &mut self,
        call: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> FsResult<T> {
        in_time(self.patience, async { Ok(spawn_blocking(call).await?) }).await
    }

    /// Removes a name.
    async fn remove(
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
        self.blocking(call).await
    }

    /// Both descriptors are of one grant; or neither has an account that the other's would have to be told of.
    fn same_account(&self, a: &Resource<Descriptor>, b: &Resource<Descriptor>) -> FsResult<()> {
        let counted = self.quota(a)?.is_some() || self.quota(b)?.is_some();
        let same = self.known(a)?.grant == self.known(b)?.grant;
        if counted && !same { Err(ErrorCode::CrossDevice.into()) } else { Ok(()) }
    }
}

/// What came of a call, if that is known in time. What a thread of the host's is about can't be taken from it, but nobody
/// waits for it any longer.
async fn in_time<T>(patience: Patience<'_>, call: impl Future<Output = FsResult<T>>) -> FsResult<T> {
    let Patience { log, deadline } = patience;
    match tokio::time::timeout(deadline, call).await {
        Ok(result) => result,
        Err(_) => {
            log.remark(Remark::FileTime, || {
                format!("a call of the file system took longer than {deadline:?} and was given up")
            });
            Err(ErrorCode::Io.into())
        }
    }
}

/// Makes something that its account was charged for, and gives that back if it can't be made. A call that isn't waited for
/// any longer may yet make it.
async fn paid(quota: Option<Quota>, bytes: u64, make: impl Future<Output = FsResult<()>>) -> FsResult<()> {
    let made = make.await;
    if let (Some(quota), Err(_)) = (quota, &made) {
        quota.account.give(bytes);
    }
    made
}

/// What is to be opened, and how.
struct Opening {
    path: PathBuf,
    follow: FollowSymlinks,
    mode: OpenMode,
    oflags: types::OpenFlags,
}

/// What was opened.
struct Opened {
    file: OsFile,
    is_dir: bool,
    accounted: Option<OpenFile>,
}

/// Why it wasn't.
enum NotOpened {
    Io(io::Error),
    Full,
    NotAFile,
    NotDirectory,
}

impl From<io::Error> for NotOpened {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl Opening {
    fn new(
        follow: types::PathFlags,
        path: String,
        oflags: types::OpenFlags,
        flags: DescriptorFlags,
    ) -> FsResult<Self> {
        let synced = DescriptorFlags::FILE_INTEGRITY_SYNC
            | DescriptorFlags::DATA_INTEGRITY_SYNC
            | DescriptorFlags::REQUESTED_WRITE_SYNC;
        if flags.intersects(synced) {
            return Err(ErrorCode::Unsupported.into());
        }
        let changing = types::OpenFlags::CREATE | types::OpenFlags::TRUNCATE;
        let created = changing | types::OpenFlags::EXCLUSIVE;
        if oflags.contains(types::OpenFlags::DIRECTORY) && oflags.intersects(created) {
            return Err(ErrorCode::Invalid.into());
        }
        let mut mode = OpenMode::empty();
        if flags.contains(DescriptorFlags::WRITE) || oflags.intersects(changing) {
            mode |= OpenMode::WRITE;
        }
        // What is opened for nothing is opened for reading.
        if flags.contains(DescriptorFlags::READ) || !flags.contains(DescriptorFlags::WRITE) {
            mode |= OpenMode::READ;
        }
        let follow = match follow.contains(types::PathFlags::SYMLINK_FOLLOW) {
            true => FollowSymlinks::Yes,
            false => FollowSymlinks::No,
        };
        Ok(Self { path: path.into(), follow, mode, oflags })
    }

    fn writes(&self) -> bool {
        self.mode.contains(OpenMode::WRITE)
    }

    fn has(&self, flag: types::OpenFlags) -> bool {
        self.oflags.contains(flag)
    }

    /// Never waits for whoever is at the other end of a pipe.
    fn options(&self) -> OpenOptions {
        let mut options = OpenOptions::new();
        let unwaiting = OFlags::NONBLOCK | OFlags::NOCTTY;
        options
            .read(self.mode.contains(OpenMode::READ))
            .write(self.writes())
            .custom_flags(i32::try_from(unwaiting.bits()).unwrap_or_default())
            .follow(self.follow);
        options
    }

    fn open(&self, dir: &OsFile, quota: Option<&Quota>) -> Result<Opened, NotOpened> {
        let opened = match quota {
            Some(quota) => quota.account.opening(|| self.find(dir, Some(quota)))?,
            None => self.find(dir, None)?,
        };
        match opened.is_dir {
            false if self.has(types::OpenFlags::DIRECTORY) => return Err(NotOpened::NotDirectory),
            false if self.has(types::OpenFlags::TRUNCATE) => match &opened.accounted {
                Some(accounted) => accounted.set_len(&opened.file, 0)?.map_err(|Full| NotOpened::Full)?,
                None => opened.file.set_len(0)?,
            },
            _ => {}
        }
        Ok(opened)
    }

    fn find(&self, dir: &OsFile, quota: Option<&Quota>) -> Result<Opened, NotOpened> {
        let file = if self.has(types::OpenFlags::CREATE) {
            self.create(dir, quota)?
        } else {
            fs::open(dir, &self.path, &self.options())?
        };
        let metadata = Metadata::from_file(&file)?;
        let accounted = match (metadata.is_dir(), metadata.is_file()) {
            (false, false) => return Err(NotOpened::NotAFile),
            (false, true) => quota.map(|quota| OpenFile::new(quota.clone(), &metadata)),
            (true, _) => None,
        };
        Ok(Opened { file, is_dir: metadata.is_dir(), accounted })
    }

    /// Opens a file that may have to be made first, which costs an entry.
    fn create(&self, dir: &OsFile, quota: Option<&Quota>) -> Result<OsFile, NotOpened> {
        let mut options = self.options();
        if self.has(types::OpenFlags::EXCLUSIVE) {
            options.create_new(true);
        } else {
            match fs::open(dir, &self.path, &options) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                found => return Ok(found?),
            }
            options.create(true);
        }
        if quota.is_some_and(|quota| quota.take_now(ENTRY).is_err()) {
            return Err(NotOpened::Full);
        }
        fs::open(dir, &self.path, &options).map_err(|error| {
            if let Some(quota) = quota {
                quota.account.give(ENTRY);
            }
            error.into()
        })
    }
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
        let opening = Opening::new(follow, path, oflags, flags)?;
        let dir = if opening.writes() { self.dir_to_change(&fd)? } else { self.dir(&fd)? };
        let (grant, quota) = (self.known(&fd)?.grant, self.quota(&fd)?);
        self.room()?;
        if opening.writes() {
            // So that whatever is written is added to a recent count.
            self.take(quota.as_ref(), 0).await?;
        }
        let (mode, root) = (opening.mode, Arc::clone(&dir.dir));
        let of = quota.clone();
        let opened = spawn_blocking(move || opening.open(&root, of.as_ref()));
        let opened = in_time(self.patience, async { Ok(opened.await) }).await?;
        let Opened { file, is_dir, accounted } =
            opened.map_err(|error| self.not_opened(error, quota.as_ref()))?;
        let descriptor = match is_dir {
            true => Descriptor::Dir(Dir::new(file, dir.perms, mode, false)),
            false => Descriptor::File(File::new(file, dir.perms, mode, false)),
        };
        self.add(grant, descriptor, accounted)
    }

    async fn write(&mut self, fd: Resource<Descriptor>, bytes: Vec<u8>, at: u64) -> FsResult<u64> {
        let file = self.file(&fd)?;
        if file.perms.write_not_permitted() {
            return Err(self.read_only(&fd));
        }
        let Some(accounted) = self.known(&fd)?.file.clone() else {
            return in_time(self.patience, self.inner.write(fd, bytes, at)).await;
        };
        let quota = accounted.quota();
        self.take(Some(quota), 0).await?;
        let writing = quota.within(|| accounted.write_now(Some(at), bytes.len() as u64));
        let writing = in_time(self.patience, async { Ok(writing.await) }).await?;
        let writing = writing.map_err(|Full| self.full(quota))?;
        let call = move || {
            // It is under way as long as the disk takes, whoever still waits for it.
            let _writing = writing;
            file.file.write_at(&bytes, at)
        };
        Ok(self.blocking(call).await? as u64)
    }

    fn write_via_stream(&mut self, fd: Resource<Descriptor>, at: u64) -> FsResult<Resource<DynOutputStream>> {
        if self.file(&fd)?.perms.write_not_permitted() {
            return Err(self.read_only(&fd));
        }
        let stream = self.inner.write_via_stream(Resource::new_borrow(fd.rep()), at)?;
        self.growing(&fd, stream, Some(at))
    }

    fn append_via_stream(&mut self, fd: Resource<Descriptor>) -> FsResult<Resource<DynOutputStream>> {
        if self.file(&fd)?.perms.write_not_permitted() {
            return Err(self.read_only(&fd));
        }
        let stream = self.inner.append_via_stream(Resource::new_borrow(fd.rep()))?;
        self.growing(&fd, stream, None)
    }

    async fn set_size(&mut self, fd: Resource<Descriptor>, size: u64) -> FsResult<()> {
        let file = self.file(&fd)?;
        if file.perms.write_not_permitted() {
            return Err(self.read_only(&fd));
        }
        let Some(accounted) = self.known(&fd)?.file.clone() else {
            return in_time(self.patience, self.inner.set_size(fd, size)).await;
        };
        let quota = accounted.quota();
        self.take(Some(quota), 0).await?;
        let set = || {
            let (file, accounted) = (Arc::clone(&file.file), Arc::clone(&accounted));
            move || accounted.set_len(&file, size)
        };
        if self.blocking(set()).await?.is_ok() {
            return Ok(());
        }
        let recounted = async {
            quota.recount().await;
            Ok(())
        };
        in_time(self.patience, recounted).await?;
        self.blocking(set()).await?.map_err(|Full| self.full(quota))
    }

    async fn create_directory_at(&mut self, fd: Resource<Descriptor>, path: String) -> FsResult<()> {
        self.dir_to_change(&fd)?;
        let quota = self.quota(&fd)?;
        self.take(quota.as_ref(), ENTRY).await?;
        in_time(self.patience, paid(quota, ENTRY, self.inner.create_directory_at(fd, path))).await
    }

    async fn symlink_at(&mut self, fd: Resource<Descriptor>, to: String, path: String) -> FsResult<()> {
        self.dir_to_change(&fd)?;
        let (quota, size) = (self.quota(&fd)?, ENTRY + to.len() as u64);
        self.take(quota.as_ref(), size).await?;
        in_time(self.patience, paid(quota, size, self.inner.symlink_at(fd, to, path))).await
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
        in_time(self.patience, paid(quota, ENTRY, self.inner.link_at(fd, follow, old, to, new))).await
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
        self.blocking(call).await
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
        let dir = self.dir(&fd)?.dir;
        let counted = move || Ok(fs::read_base_dir(&dir)?.take(LISTED_MAX + 1).count());
        if self.blocking(counted).await? > LISTED_MAX {
            self.log.remark(Remark::Listing, || {
                format!("a directory of more than {LISTED_MAX} entries can't be listed; split it up")
            });
            return Err(ErrorCode::InsufficientMemory.into());
        }
        in_time(self.patience, self.inner.read_directory(fd)).await
    }

    async fn stat(&mut self, fd: Resource<Descriptor>) -> FsResult<types::DescriptorStat> {
        let stat = in_time(self.patience, HostDescriptor::stat(&mut self.inner, fd)).await?;
        Ok(self.coarse_times(stat))
    }

    async fn stat_at(
        &mut self,
        fd: Resource<Descriptor>,
        follow: types::PathFlags,
        path: String,
    ) -> FsResult<types::DescriptorStat> {
        let stat = in_time(self.patience, self.inner.stat_at(fd, follow, path)).await?;
        Ok(self.coarse_times(stat))
    }

    fn drop(&mut self, fd: Resource<Descriptor>) -> wasmtime::Result<()> {
        self.files.descriptors.remove(&fd.rep());
        HostDescriptor::drop(&mut self.inner, fd)?;
        self.files.forget_closed();
        Ok(())
    }

    // From here on as wasmtime has it, in time.

    async fn advise(
        &mut self,
        fd: Resource<Descriptor>,
        offset: u64,
        len: u64,
        advice: types::Advice,
    ) -> FsResult<()> {
        in_time(self.patience, self.inner.advise(fd, offset, len, advice)).await
    }

    async fn sync_data(&mut self, fd: Resource<Descriptor>) -> FsResult<()> {
        in_time(self.patience, HostDescriptor::sync_data(&mut self.inner, fd)).await
    }

    async fn sync(&mut self, fd: Resource<Descriptor>) -> FsResult<()> {
        in_time(self.patience, HostDescriptor::sync(&mut self.inner, fd)).await
    }

    async fn get_flags(&mut self, fd: Resource<Descriptor>) -> FsResult<DescriptorFlags> {
        in_time(self.patience, self.inner.get_flags(fd)).await
    }

    async fn get_type(&mut self, fd: Resource<Descriptor>) -> FsResult<types::DescriptorType> {
        in_time(self.patience, self.inner.get_type(fd)).await
    }

    async fn set_times(
        &mut self,
        fd: Resource<Descriptor>,
        accessed: types::NewTimestamp,
        modified: types::NewTimestamp,
    ) -> FsResult<()> {
        in_time(self.patience, self.inner.set_times(fd, accessed, modified)).await
    }

    async fn set_times_at(
        &mut self,
        fd: Resource<Descriptor>,
        follow: types::PathFlags,
        path: String,
        accessed: types::NewTimestamp,
        modified: types::NewTimestamp,
    ) -> FsResult<()> {
        in_time(self.patience, self.inner.set_times_at(fd, follow, path, accessed, modified)).await
    }

    async fn read(&mut self, fd: Resource<Descriptor>, len: u64, at: u64) -> FsResult<(Vec<u8>, bool)> {
        in_time(self.patience, self.inner.read(fd, len, at)).await
    }

    async fn readlink_at(&mut self, fd: Resource<Descriptor>, path: String) -> FsResult<String> {
        in_time(self.patience, self.inner.readlink_at(fd, path)).await
    }

    fn read_via_stream(&mut self, fd: Resource<Descriptor>, at: u64) -> FsResult<Resource<DynInputStream>> {
        self.inner.read_via_stream(fd, at)
    }

    async fn is_same_object(
        &mut self,
        a: Resource<Descriptor>,
        b: Resource<Descriptor>,
    ) -> wasmtime::Result<bool> {
        self.inner.is_same_object(a, b).await
    }

    async fn metadata_hash(&mut self, fd: Resource<Descriptor>) -> FsResult<types::MetadataHashValue> {
        in_time(self.patience, self.inner.metadata_hash(fd)).await
    }

    async fn metadata_hash_at(
        &mut self,
        fd: Resource<Descriptor>,
        follow: types::PathFlags,
        path: String,
    ) -> FsResult<types::MetadataHashValue> {
        in_time(self.patience, self.inner.metadata_hash_at(fd, follow, path)).await
    }
}

impl FilesView<'_> {
    fn not_opened(&self, error: NotOpened, quota: Option<&Quota>) -> FsError {
        match (error, quota) {
            (NotOpened::Io(error), _) => error.into(),
            (NotOpened::Full, Some(quota)) => self.full(quota),
            (NotOpened::Full, None) => ErrorCode::Quota.into(),
            (NotOpened::NotDirectory, _) => ErrorCode::NotDirectory.into(),
            (NotOpened::NotAFile, _) => {
                self.log.remark(Remark::NotAFile, || {
                    "only files and directories can be opened; pipes, devices and sockets of a granted directory are refused"
                        .to_owned()
                });
                ErrorCode::NotPermitted.into()
            }
        }
    }
}

impl HostDirectoryEntryStream for FilesView<'_> {
    async fn read_directory_entry(
        &mut self,
        stream: Resource<types::DirectoryEntryStream>,
    ) -> FsResult<Option<types::DirectoryEntry>> {
        self.inner.read_directory_entry(stream).await
    }

    fn drop(&mut self, stream: Resource<types::DirectoryEntryStream>) -> wasmtime::Result<()> {
        HostDirectoryEntryStream::drop(&mut self.inner, stream)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::testing::Lines;
    use sandhog_core::budget::Bytes;

    #[tokio::test]
    async fn a_disk_that_does_not_answer_is_given_up() {
        let (seen, log) = Lines::logged(Bytes(1000));
        let patience = Patience { log: &log, deadline: Duration::from_millis(1) };
        let answer = in_time(patience, std::future::pending::<FsResult<()>>()).await;
        let code = answer.expect_err("nothing came").downcast().expect("a code");
        assert_eq!(code, ErrorCode::Io);
        assert_eq!(seen.lines()[0].1, "a call of the file system took longer than 1ms and was given up");
    }
}
