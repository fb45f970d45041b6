//! The path of the database file, and the check that the file is still there.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::{Error, Result};

/// Maximum age of a check of the path before it is checked again.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Minimum time between two log messages that the file is gone.
const SAY_EVERY: Duration = Duration::from_secs(60);

/// The path and identity of an open file. A file that was removed or replaced goes on to exist for those who have it open,
/// and nobody else finds what they store in it. So the path is checked every now and then, and calls are refused while the
/// file isn't there. They are served again if the file is put back.
pub(super) struct Place {
    path: PathBuf,
    identity: Identity,
    latest: Mutex<Latest>,
}

/// The identity of a file, whatever its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
}

/// The latest check of the path.
struct Latest {
    at: Instant,
    is_there: bool,
    said_at: Option<Instant>,
}

impl Identity {
    fn of(path: &Path) -> io::Result<Self> {
        let metadata = fs::metadata(path)?;
        Ok(Self { device: metadata.dev(), inode: metadata.ino() })
    }
}

impl Place {
    /// Creates the place of the file that is at `path` now.
    pub(super) fn of(path: PathBuf) -> io::Result<Self> {
        let identity = Identity::of(&path)?;
        let latest = Latest { at: Instant::now(), is_there: true, said_at: None };
        Ok(Self { path, identity, latest: Mutex::new(latest) })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Checks that the file is there, as of at most [`LOOK_EVERY`] ago.
    pub(super) fn check(&self) -> Result<()> {
        let now = Instant::now();
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        if now.duration_since(latest.at) >= LOOK_EVERY {
            self.look(&mut latest, now);
        }
        self.verdict(&latest)
    }

    /// Checks that the file is there, as of now.
    pub(super) fn check_now(&self) -> Result<()> {
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        self.look(&mut latest, Instant::now());
        self.verdict(&latest)
    }

    fn look(&self, latest: &mut Latest, now: Instant) {
        latest.at = now;
        latest.is_there = Identity::of(&self.path).is_ok_and(|found| found == self.identity);
        if latest.is_there {
            latest.said_at = None;
        } else if latest.said_at.is_none_or(|said_at| now.duration_since(said_at) >= SAY_EVERY) {
            latest.said_at = Some(now);
            tracing::error!(
                path = %self.path.display(),
                "the database was removed or replaced while it is in use; nothing is taken from it or stored in it any more"
            );
        }
    }

    fn verdict(&self, latest: &Latest) -> Result<()> {
        if latest.is_there {
            return Ok(());
        }
        let problem = format!(
            "`{}` was removed or replaced while it was open; put it back, or start again what has it open",
            self.path.display()
        );
        Err(Error::Unfit { problem })
    }
}
