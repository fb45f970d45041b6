//! Ownership of the broker's files, and errors of those that can't be used.
//!
//! Files made beside the database have to serve all who use it: a command that root runs once must not leave files that the
//! daemon's own user can't open.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{MetadataExt, lchown};
use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// Gives a file that this process has just made to the owner of its folder. Only root can, and only root has to.
pub(super) fn give_to_owner_of_folder(made: &Path) -> Result<()> {
    let folder =
        fs::metadata(folder_of(made)).map_err(|error| unfit(made, "looking at its folder", &error))?;
    let owner = fs::symlink_metadata(made).map_err(|error| unfit(made, "looking at it", &error))?;
    if owner.uid() == folder.uid() {
        return Ok(());
    }
    match lchown(made, Some(folder.uid()), Some(folder.gid())) {
        // In a folder that several users may write to, the file belongs to the user who made it.
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Ok(()),
        given => given.map_err(|error| unfit(made, "giving it to the owner of its folder", &error)),
    }
}

/// Returns the folder that a path is in.
fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."))
}

/// Returns the error of the first of the broker's files that this process may not use, as SQLite doesn't say which it was.
pub(super) fn barred(database: &Path) -> Option<Error> {
    let barred = |path: &Path, opened: io::Result<File>| match opened {
        Err(error) if error.kind() != ErrorKind::NotFound => Some(unfit(path, "opening it", &error)),
        _ => None,
    };
    let folder = folder_of(database);
    barred(folder, File::open(folder)).or_else(|| {
        ["", "-wal", "-shm"].iter().find_map(|ending| {
            let path = beside(database, ending);
            barred(&path, OpenOptions::new().read(true).write(true).open(&path))
        })
    })
}

/// Returns the path of a file beside the database: the database's path with this ending.
pub(super) fn beside(database: &Path, ending: &str) -> PathBuf {
    let mut path = database.as_os_str().to_owned();
    path.push(ending);
    PathBuf::from(path)
}

/// Creates the error of an operation on a file.
pub(super) fn unfit(path: &Path, what: &str, error: &io::Error) -> Error {
    let help = match error.kind() {
        ErrorKind::PermissionDenied => "; it has to belong to the user that the daemon runs as",
        _ => "",
    };
    Error::Unfit { problem: format!("`{}`: {what}: {error}{help}", path.display()) }
}
