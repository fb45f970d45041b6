//! Folders that only the daemon's user can write to: of compiled code, and of what was deployed. Anybody else who could
//! write there could have the daemon run any code.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, Metadata};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags, open, openat, unlinkat};
use rustix::io::Errno;
use rustix::process::{getegid, geteuid};

/// Permission bits that let others write: the group, and everybody.
const GROUP_WRITES: u32 = 0o020;
const ALL_WRITE: u32 = 0o002;
/// Permission bit by which only its owner can replace what lies in the folder, even if others may write there.
const STICKY: u32 = 0o1000;

/// Folder that only this user can write to, held open: what was checked is what is used, even if its path leads elsewhere
/// later.
#[derive(Debug)]
pub(crate) struct OwnFolder {
    dir: File,
    path: PathBuf,
}

impl OwnFolder {
    /// Opens the folder, which is created if it isn't there.
    ///
    /// # Errors
    /// The folder can't be created, belongs to another user, or others could write to it.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        let dir =
            File::from(open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?);
        let metadata = dir.metadata()?;
        if metadata.uid() != geteuid().as_raw() {
            return Err(io::Error::other(
                "it belongs to another user; name one that isn't there yet, which is made",
            ));
        }
        if can_be_written_by_others(&metadata) {
            return Err(io::Error::other("others can write there; `chmod go-w` it"));
        }
        Ok(Self { dir, path: path.to_owned() })
    }

    /// Returns a path that leads to the folder itself, for as long as it is held.
    pub(crate) fn held(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.dir.as_raw_fd()))
    }

    /// Returns the path at which the folder was opened, for messages.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Opens a file of the folder for reading, if nobody but this user can have written it: the folder may have been open to
    /// others before.
    ///
    /// # Errors
    /// The file can't be opened, isn't a regular file, belongs to another user, or others can write to it.
    pub(crate) fn open_file(&self, name: &str) -> io::Result<File> {
        // Links aren't followed, and opening a pipe doesn't wait for its other end.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = File::from(openat(&self.dir, name, flags, Mode::empty())?);
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::other("it is no regular file"));
        }
        if metadata.uid() != geteuid().as_raw() || can_be_written_by_others(&metadata) {
            return Err(io::Error::other("others can write to it, or could"));
        }
        Ok(file)
    }

    /// Removes a file of the folder. It may be gone already.
    ///
    /// # Errors
    /// The file can't be removed.
    pub(crate) fn remove(&self, name: &OsStr) -> io::Result<()> {
        match unlinkat(&self.dir, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

fn can_be_written_by_others(metadata: &Metadata) -> bool {
    metadata.mode() & (GROUP_WRITES | ALL_WRITE) != 0
}

/// Creates a folder that nobody but this user can write to, unless it is there. Logs a warning if others could put another
/// one into its place.
///
/// # Errors
/// The folder can't be created, belongs to another user, or others could write to it.
pub fn make_own_folder(folder: &Path) -> io::Result<()> {
    OwnFolder::open(folder)?;
    let whole = fs::canonicalize(folder)?;
    for above in whole.ancestors().skip(1) {
        if is_others(&fs::metadata(above)?) {
            tracing::warn!(
                folder = %folder.display(), above = %above.display(),
                "others can write to a folder above one that is the daemon's alone, and so could replace it"
            );
        }
    }
    Ok(())
}

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
        let own = folder.path().join("above/own");
        make_own_folder(&own).expect("it is made");
        assert_eq!(own.metadata().expect("it is there").mode() & 0o777, 0o700);
        for (mode, is_right) in [(0o700, true), (0o755, true), (0o770, false), (0o702, false)] {
            fs::set_permissions(&own, fs::Permissions::from_mode(mode)).expect("ours");
            assert_eq!(make_own_folder(&own).is_ok(), is_right, "{mode:o}");
        }
    }

    #[test]
    fn a_file_is_read_if_nobody_else_can_have_written_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let own = OwnFolder::open(&folder.path().join("own")).expect("it is made");
        let file = folder.path().join("own/file");
        fs::write(&file, "ours").expect("a file");
        for (mode, is_read) in [(0o600, true), (0o644, true), (0o664, false), (0o602, false)] {
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).expect("ours");
            assert_eq!(own.open_file("file").is_ok(), is_read, "{mode:o}");
        }
        std::os::unix::fs::symlink("file", folder.path().join("own/link")).expect("a link");
        fs::create_dir(folder.path().join("own/folder")).expect("a folder");
        for name in ["link", "folder", "nothing"] {
            assert!(own.open_file(name).is_err(), "{name}");
        }
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
