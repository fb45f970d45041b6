//! Folders that only the daemon's user can write to: of compiled code, and of what was deployed. Anybody else who could
//! write there could have the daemon run any code.

use std::ffi::{OsStr, OsString};
use std::fs::{self, DirBuilder, File, Metadata};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags, mkdirat, open, openat, statat, unlinkat};
use rustix::io::Errno;
use rustix::process::{getegid, geteuid};
use sandhog_core::budget::Bytes;
use tempfile::NamedTempFile;

use crate::regular_file::RegularFile;

/// Permission bits that let others write: the group, and everybody.
const GROUP_WRITES: u32 = 0o020;
const ALL_WRITE: u32 = 0o002;
/// Permission bit by which only its owner can replace what lies in the folder, even if others may write there.
const STICKY: u32 = 0o1000;

/// Folder that only this user can write to, held open: what was checked is what is used, even if its path leads elsewhere
/// later.
#[derive(Debug)]
pub struct OwnFolder {
    dir: File,
    path: PathBuf,
}

impl OwnFolder {
    /// Opens the folder, which is created if it isn't there.
    ///
    /// # Errors
    /// The folder can't be created, belongs to another user, or others could write to it.
    pub fn open(path: &Path) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(OWN.bits()).create(path)?;
        Self::open_existing(path)
    }

    /// Opens the folder, which has to be there.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_existing(path: &Path) -> io::Result<Self> {
        Self::of(File::from(open(path, DIRECTORY, Mode::empty())?), path.to_owned())
    }

    /// Opens a folder in this one, which is created if it isn't there. A link is refused.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_folder(&self, name: &str) -> io::Result<Self> {
        match mkdirat(&self.dir, name, OWN) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        let dir = openat(&self.dir, name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty())?;
        Self::of(File::from(dir), self.path.join(name))
    }

    fn of(dir: File, path: PathBuf) -> io::Result<Self> {
        let metadata = dir.metadata()?;
        if metadata.uid() != geteuid().as_raw() {
            return Err(io::Error::other(
                "it belongs to another user; name one that isn't there yet, which is made",
            ));
        }
        if can_be_written_by_others(&metadata) {
            return Err(io::Error::other("others can write there; `chmod go-w` it"));
        }
        Ok(Self { dir, path })
    }

    /// Logs a warning if others could put another folder into the place of this one: that would be used the next time.
    ///
    /// # Errors
    /// The folders above it can't be looked at.
    pub fn warn_of_others_above(&self) -> io::Result<()> {
        for above in fs::canonicalize(&self.path)?.ancestors().skip(1) {
            if is_others(&fs::metadata(above)?) {
                tracing::warn!(
                    folder = %self.path.display(), above = %above.display(),
                    "others can write to a folder above one that is the daemon's alone, and so could replace it"
                );
            }
        }
        Ok(())
    }

    /// Returns a path that leads to the folder itself, for as long as it is held.
    pub fn held(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.dir.as_raw_fd()))
    }

    /// Returns the path at which the folder was opened, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens a file of the folder for reading, if nobody but this user can have written it: the folder may have been open to
    /// others before.
    ///
    /// # Errors
    /// The file can't be opened, isn't a regular file, belongs to another user, or others can write to it.
    pub fn open_file(&self, name: &str) -> io::Result<RegularFile> {
        self.open_with(name, OFlags::RDONLY, Mode::empty())
    }

    /// Opens a file of the folder for writing, or to lock it. It is created if it isn't there, for this user alone.
    ///
    /// # Errors
    /// As [`Self::open_file`], and if it can't be created.
    pub fn create_file(&self, name: &str) -> io::Result<File> {
        let own = Mode::RUSR | Mode::WUSR;
        self.open_with(name, OFlags::WRONLY | OFlags::CREATE, own).map(RegularFile::into_file)
    }

    fn open_with(&self, name: &str, how: OFlags, mode: Mode) -> io::Result<RegularFile> {
        // Links aren't followed, and opening a pipe doesn't wait for its other end.
        let flags = how | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = File::from(openat(&self.dir, name, flags, mode)?);
        let file = RegularFile::new(file, self.path.clone())?;
        let metadata = file.metadata();
        if metadata.uid() != geteuid().as_raw() || can_be_written_by_others(metadata) {
            return Err(io::Error::other("others can write to it, or could"));
        }
        Ok(file)
    }

    /// Reads a file of the folder.
    ///
    /// # Errors
    /// As [`Self::open_file`] and [`RegularFile::read`].
    pub fn read(&self, name: &str, max: Bytes) -> io::Result<Vec<u8>> {
        self.open_file(name)?.read(max)
    }

    /// Whether the folder has a file, or anything else, of this name.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        statat(&self.dir, name, AtFlags::SYMLINK_NOFOLLOW).is_ok()
    }

    /// Writes a file of the folder in one step, in the place of any of its name.
    ///
    /// # Errors
    /// The file can't be written. Nothing half-written is left to be found.
    pub fn put(
        &self,
        name: &str,
        flush: Flush,
        write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut file = NamedTempFile::new_in(self.held())?;
        write(&mut file)?;
        if flush == Flush::ToDisk {
            file.as_file().sync_all()?;
        }
        file.persist(self.held().join(name))?;
        Ok(())
    }

    /// Lists the names of what lies in the folder.
    ///
    /// # Errors
    /// The folder can't be read.
    pub fn names(&self) -> io::Result<Vec<OsString>> {
        fs::read_dir(self.held())?.map(|entry| Ok(entry?.file_name())).collect()
    }

    /// Removes a file of the folder. It may be gone already.
    ///
    /// # Errors
    /// The file can't be removed.
    pub fn remove(&self, name: &OsStr) -> io::Result<()> {
        match unlinkat(&self.dir, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

fn can_be_written_by_others(metadata: &Metadata) -> bool {
    metadata.mode() & (GROUP_WRITES | ALL_WRITE) != 0
}

/// Whether a file that is written has to be on the disk before it is found under its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flush {
    /// Yes: what it replaces is needed if the power goes.
    ToDisk,
    /// No: its readers can tell if a part is missing.
    Later,
}

/// Permissions of a folder that is made.
const OWN: Mode = Mode::RWXU;

/// Flags with which a folder is opened.
const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// Whether others could replace what lies in a folder.
fn is_others(folder: &Metadata) -> bool {
    let (user, group) = (geteuid().as_raw(), getegid().as_raw());
    let by_group = folder.mode() & GROUP_WRITES != 0 && ![0, group].contains(&folder.gid());
    let by_all = folder.mode() & ALL_WRITE != 0;
    let is_owned = [0, user].contains(&folder.uid());
    !is_owned || ((by_group || by_all) && folder.mode() & STICKY == 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn one_that_is_made_is_ours_alone_and_one_that_others_can_write_to_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("above/own");
        assert!(OwnFolder::open_existing(&path).is_err());
        let above = OwnFolder::open(&folder.path().join("above")).expect("it is made");
        above.open_folder("own").expect("it is made");
        for made in [&path, &folder.path().join("above")] {
            assert_eq!(made.metadata().expect("it is there").mode() & 0o777, 0o700);
        }
        for (mode, is_right) in [(0o700, true), (0o755, true), (0o770, false), (0o702, false)] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("ours");
            let opened = [OwnFolder::open(&path), OwnFolder::open_existing(&path), above.open_folder("own")];
            assert!(opened.iter().all(|opened| opened.is_ok() == is_right), "{mode:o}");
        }
        std::os::unix::fs::symlink("own", folder.path().join("above/link")).expect("a link");
        assert!(above.open_folder("link").is_err());
    }

    #[test]
    fn a_file_is_read_if_nobody_else_can_have_written_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let own = OwnFolder::open(&folder.path().join("own")).expect("it is made");
        let file = folder.path().join("own/file");
        fs::write(&file, "ours").expect("a file");
        for (mode, is_read) in [(0o600, true), (0o644, true), (0o664, false), (0o602, false)] {
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).expect("ours");
            assert_eq!(own.read("file", Bytes(4)).is_ok(), is_read, "{mode:o}");
            assert_eq!(own.create_file("file").is_ok(), is_read, "{mode:o}");
        }
        std::os::unix::fs::symlink("file", folder.path().join("own/link")).expect("a link");
        fs::create_dir(folder.path().join("own/folder")).expect("a folder");
        for name in ["link", "folder", "nothing"] {
            assert!(own.open_file(name).is_err(), "{name}");
        }
        assert!(own.create_file("link").is_err());
    }

    #[test]
    fn what_is_put_into_its_place_changes_nothing_for_one_that_is_held() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("own");
        let own = OwnFolder::open(&path).expect("it is made");
        let put = |own: &OwnFolder, text: &str| {
            own.put("file", Flush::Later, |file| file.write_all(text.as_bytes())).expect("there is room");
        };
        put(&own, "ours");
        fs::rename(&path, folder.path().join("aside")).expect("one folder");
        put(&OwnFolder::open(&path).expect("it is made"), "another's");
        assert_eq!(own.read("file", Bytes(4)).expect("it is there"), b"ours");
        put(&own, "new");
        assert_eq!(fs::read(folder.path().join("aside/file")).expect("it is there"), b"new");
        assert_eq!(own.names().expect("it can be listed"), ["file"]);
        own.remove(OsStr::new("file")).expect("ours");
        assert!(!own.has("file") && path.join("file").exists());
    }

    #[test]
    fn one_above_is_others_if_they_can_replace_what_lies_in_it() {
        let folder = tempfile::tempdir().expect("a folder");
        for (mode, others) in [(0o755, false), (0o777, true), (0o1777, false), (0o775, false)] {
            fs::set_permissions(folder.path(), fs::Permissions::from_mode(mode)).expect("ours");
            assert_eq!(is_others(&folder.path().metadata().expect("it is there")), others, "{mode:o}");
        }
    }
}
