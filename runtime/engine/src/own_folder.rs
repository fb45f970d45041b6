//! Folders that are the daemon's alone: of compiled code, and of what was deployed. Whoever else could write there could
//! have it run whatever they like.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, Metadata};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags, open, openat, unlinkat};
use rustix::io::Errno;
use rustix::process::{getegid, geteuid};

/// Permissions that let others write: the group, and everybody.
const GROUP_WRITES: u32 = 0o020;
const ALL_WRITE: u32 = 0o002;
/// What lies in the folder can be replaced by its owner alone, whoever may write there.
const STICKY: u32 = 0o1000;

/// A folder that is this user's alone, held open: what was checked is what is used, whatever becomes of its path.
#[derive(Debug)]
pub(crate) struct OwnFolder {
    dir: File,
    path: PathBuf,
}

impl OwnFolder {
    /// Opens it, and makes it if it isn't there.
    ///
    /// # Errors
    /// If it can't be made, or is there and others could write to it.
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

    /// A path that leads to the folder itself, for as long as it is held.
    pub(crate) fn held(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.dir.as_raw_fd()))
    }

    /// Where it was when it was opened, for people to read.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Opens a file in it to read, if nobody but this user can have written it: the folder may have been open to others before.
    ///
    /// # Errors
    /// If it can't be opened, is no regular file, or is or was for others to write.
    pub(crate) fn open_file(&self, name: &str) -> io::Result<File> {
        // A link isn't followed, and nobody who doesn't write to a pipe is waited for.
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

    /// Removes a file from it, unless somebody else was quicker.
    ///
    /// # Errors
    /// If it can't be removed.
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

/// Makes a folder that nobody but this user can write to, unless it is there; and says in the log if others could put
/// another one into its place.
///
/// # Errors
/// If it can't be made, or is there and others could write to it.
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
