//! The reserve: disk space for steps that lead to space being freed, for when the disk is full.
//!
//! On a full disk nothing can be written, and so, without the reserve, nothing removed either. It is a file beside the
//! database. It is emptied when such a step finds no space, and filled again once there is some; until then, all processes
//! refuse what would store more, or that would take the space that was meant for the others.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::rights;

/// Size of the reserve, in bytes: enough for the settlements of some thousand runs, or the removal of some ten thousand jobs.
const SIZE: u64 = 8 << 20;

/// Length of the file once its space was given away: a hole, which takes none. An empty file is only just being made.
const USED: u64 = 1;

/// The reserve of one database file. Absent until a process has had the file open for a while.
pub(super) struct Reserve {
    path: PathBuf,
}

impl Reserve {
    /// Returns the reserve beside this database file.
    pub(super) fn beside(database: &Path) -> Self {
        Self { path: rights::beside(database, ".reserve") }
    }

    /// Whether the reserve was used, and there has been no space since to fill it again.
    pub(super) fn is_used(&self) -> bool {
        self.len() == Some(USED)
    }

    fn len(&self) -> Option<u64> {
        fs::metadata(&self.path).ok().map(|reserve| reserve.len())
    }

    /// Frees its space for the next write. Returns whether it had any.
    pub(super) fn release(&self) -> bool {
        let had_some = self.len().is_some_and(|length| length > USED);
        let emptied = had_some && self.empty().is_ok();
        if emptied {
            tracing::warn!(
                reserve = %self.path.display(),
                "the disk is full: no job is taken in until there is space again; what was leased is settled, and old jobs are removed"
            );
        }
        emptied
    }

    fn empty(&self) -> io::Result<()> {
        OpenOptions::new().write(true).truncate(true).open(&self.path)?.set_len(USED)
    }

    /// Fills the reserve to its full size, if the disk has the space.
    pub(super) fn fill(&self) -> io::Result<()> {
        let before = self.len();
        if before.is_some_and(|length| length >= SIZE) {
            return Ok(());
        }
        let filled = self.write();
        match (&filled, before) {
            (Ok(()), Some(USED)) => tracing::info!("there is space on the disk again; jobs are taken in"),
            (Ok(()), _) => {}
            // The reserve must not take the little space that there is.
            (Err(_), None) => fs::remove_file(&self.path)?,
            (Err(_), Some(_)) => self.empty()?,
        }
        filled
    }

    /// Writes zeros to the disk: a hole would reserve nothing.
    fn write(&self) -> io::Result<()> {
        let mut file = OpenOptions::new().append(true).create(true).mode(0o600).open(&self.path)?;
        rights::give_to_owner_of_folder(&self.path).map_err(io::Error::other)?;
        let zeros = [0; 64 << 10];
        let mut length = file.metadata()?.len();
        while length < SIZE {
            let more = (SIZE - length).min(zeros.len() as u64);
            file.write_all(&zeros[..more as usize])?;
            length += more;
        }
        file.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_used_from_its_release_until_it_is_filled_and_at_no_other_time() {
        let folder = tempfile::tempdir().expect("a folder");
        let reserve = Reserve::beside(&folder.path().join("jobs.db"));
        assert!(!reserve.is_used() && !reserve.release());
        // Another process is about to fill it.
        fs::write(&reserve.path, "").expect("a file");
        assert!(!reserve.is_used());
        for _ in 0..2 {
            reserve.fill().expect("there is space");
            assert!(!reserve.is_used() && reserve.len() == Some(SIZE));
            assert!(reserve.release() && reserve.is_used());
            assert!(!reserve.release() && reserve.is_used());
            assert_eq!(reserve.len(), Some(USED));
        }
    }
}
