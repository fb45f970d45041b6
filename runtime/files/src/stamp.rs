//! Stamps of files: whether one is another by now, or has been written.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// Age of a file's last change from which its stamp can be relied on: a file that was written less long ago may be written
/// again without its stamp telling.
const SETTLED: Duration = Duration::from_secs(2);

/// Attributes of a file that change when it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    changed: (i64, i64),
}

impl Stamp {
    /// Creates the stamp of a file with these attributes.
    #[must_use]
    pub fn of(file: &Metadata) -> Self {
        let changed = (file.ctime(), file.ctime_nsec());
        Self { device: file.dev(), inode: file.ino(), size: file.size(), changed }
    }

    /// Reads the stamp of the file at a path, wherever links lead. `None` if none can be found there. Blocks.
    #[must_use]
    pub fn at(path: &Path) -> Option<Self> {
        fs::metadata(path).ok().map(|file| Self::of(&file))
    }

    /// Whether the stamp would have told by `now` if the file had been written since.
    #[must_use]
    pub fn is_settled(&self, now: SystemTime) -> bool {
        let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let changed = u64::try_from(self.changed.0).unwrap_or(0);
        since.saturating_sub(Duration::from_secs(changed)) > SETTLED
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_file_that_was_left_alone_for_a_while_is_known_by_its_stamp() {
        let stamp = Stamp { device: 1, inode: 1, size: 1, changed: (1000, 0) };
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        assert!(!stamp.is_settled(at(1000)) && !stamp.is_settled(at(1002)) && stamp.is_settled(at(1003)));
        assert!(!stamp.is_settled(at(0)), "a clock that was set back");
    }
}
