//! Opening of files and directories: without waiting for the other end of a pipe, and within the limit on open files.

use std::fs::File as OsFile;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use cap_fs_ext::{FollowSymlinks, OpenOptionsFollowExt};
use cap_primitives::fs::{self, Metadata, OpenOptions, OpenOptionsExt};
use rustix::fs::OFlags;
use wasmtime::component::Resource;
use wasmtime_wasi::OpenMode;
use wasmtime_wasi::filesystem::{Descriptor, Dir, File};
use wasmtime_wasi::p2::bindings::filesystem::types::{self, DescriptorFlags, ErrorCode};
use wasmtime_wasi::p2::{FsError, FsResult};
use wasmtime_wasi::runtime::spawn_blocking;

use super::{FilesView, Known, in_time, outside};
use crate::run_log::Remark;
use crate::wasi::account::{ENTRY, Full, OpenFile, Quota};

/// Request to open something in a directory: its path, and how.
pub(super) struct Opening {
    path: PathBuf,
    follow: FollowSymlinks,
    mode: OpenMode,
    oflags: types::OpenFlags,
}

/// File or directory that was opened.
struct Opened {
    file: OsFile,
    is_dir: bool,
    accounted: Option<OpenFile>,
}

/// Reason why a file or directory wasn't opened.
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
    pub(super) fn new(
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
        // A file that is opened for nothing is opened for reading.
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

    /// Returns the options for opening, with which it never waits for the other end of a pipe.
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

    /// Opens a file that may have to be created first, which costs an entry.
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

impl FilesView<'_> {
    /// Opens something in a directory.
    pub(super) async fn open(
        &mut self,
        fd: &Resource<Descriptor>,
        opening: Opening,
    ) -> FsResult<Resource<Descriptor>> {
        let dir = if opening.writes() { self.dir_to_change(fd)? } else { self.dir(fd)? };
        let (grant, quota) = (self.known(fd)?.grant, self.quota(fd)?);
        self.room()?;
        if opening.writes() {
            // This is so that the bytes written are added to a recent count.
            self.take(quota.as_ref(), 0).await?;
        }
        let (mode, root) = (opening.mode, Arc::clone(&dir.dir));
        let (of, closed) = (quota.clone(), std::mem::take(&mut self.files.closed));
        let call = move || {
            drop(closed);
            opening.open(&root, of.as_ref())
        };
        let opened = in_time(self.blocking, async { Ok(spawn_blocking(call).await) }).await?;
        let Opened { file, is_dir, accounted } =
            opened.map_err(|error| self.not_opened(error, quota.as_ref()))?;
        let descriptor = match is_dir {
            true => Descriptor::Dir(Dir::new(file, dir.perms, mode, false)),
            false => Descriptor::File(File::new(file, dir.perms, mode, false)),
        };
        self.add(grant, descriptor, accounted)
    }

    /// Checks that one more file may be opened.
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

    /// Adds a descriptor that was opened to the table.
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
        self.files.open.push((Arc::clone(file), accounted.clone()));
        let fd = self.inner.table.push(descriptor)?;
        self.files.descriptors.insert(fd.rep(), Known { grant, file: accounted });
        Ok(fd)
    }

    fn not_opened(&self, error: NotOpened, quota: Option<&Quota>) -> FsError {
        match (error, quota) {
            (NotOpened::Io(error), _) => outside(self.log, error.into()),
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
