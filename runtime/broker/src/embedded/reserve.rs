//! Disk space that is kept for when there is no other: for steps that lead to space being freed.
//!
//! On a full disk nothing can be written, and so, without this, nothing removed either. The reserve is a file beside the
//! database. It is emptied when such a step finds no space, and filled again when there is some; until then, what would
//! store more is refused by all processes, or it would have the space that was meant for the others.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::rights;

/// Enough for the settlements of some thousand runs, or the removal of some ten thousand jobs.
const SIZE: u64 = 8 << 20;

/// The reserve of one file. Absent until a process has had the file open for a while.
pub(super) struct Reserve {
    path: PathBuf,
}

impl Reserve {
    /// The reserve beside this file.
    pub(super) fn beside(database: &Path) -> Self {
        Self { path: rights::beside(database, ".reserve") }
    }

    /// Whether it was needed, and there has been no space since to fill it again.
    pub(super) fn is_used(&self) -> bool {
        fs::metadata(&self.path).is_ok_and(|reserve| reserve.len() == 0)
    }

    /// Gives its space to what comes next; says whether it had any.
    pub(super) fn release(&self) -> bool {
        let had_some = fs::metadata(&self.path).is_ok_and(|reserve| reserve.len() > 0);
        let emptied = had_some && OpenOptions::new().write(true).truncate(true).open(&self.path).is_ok();
        if emptied {
            tracing::warn!(
                reserve = %self.path.display(),
                "the disk is full: no job is taken in until there is space again; what was leased is settled, and old jobs are removed"
            );
        }
        emptied
    }

    /// Makes it as large as it should be, if the disk has the space.
    pub(super) fn fill(&self) -> io::Result<()> {
        let before = fs::metadata(&self.path).ok().map(|reserve| reserve.len());
        if before.is_some_and(|length| length >= SIZE) {
            return Ok(());
        }
        let filled = self.write();
        match (&filled, before) {
            (Ok(()), Some(0)) => tracing::info!("there is space on the disk again; jobs are taken in"),
            (Ok(()), _) => {}
            // It must not take what little there is.
            (Err(_), None) => fs::remove_file(&self.path)?,
            (Err(_), Some(_)) => drop(File::create(&self.path)?),
        }
        filled
    }

    /// Zeros that are on the disk: a hole would reserve nothing.
    fn write(&self) -> io::Result<()> {
        let mut file = OpenOptions::new().append(true).create(true).mode(0o600).open(&self.path)?;
        rights::give_to_owner_of_folder(&self.path).map_err(io::Error::other)?;
        let zeros = [0; 64 << 10];
        let mut length = file.metadata()?.len();
        while length < SIZE {
            file.write_all(&zeros)?;
            length += zeros.len() as u64;
        }
        file.sync_all()
    }
}
