//! Digests of component files; a file that hasn't changed isn't read again.

use std::collections::{BTreeSet, HashMap};
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use sandhog_core::budget::Bytes;
use sandhog_core::id::Revision;

use sandhog_files::regular_file;

/// Age of a file's last change from which its stamp can be relied on: a file that was written less long ago may be written
/// again without its stamp telling.
const SETTLED: Duration = Duration::from_secs(2);

/// Attributes of a file that change when it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    changed: (i64, i64),
}

impl Stamp {
    pub(super) fn of(file: &Metadata) -> Self {
        let changed = (file.ctime(), file.ctime_nsec());
        Self { device: file.dev(), inode: file.ino(), size: file.size(), changed }
    }

    fn is_settled(&self, now: SystemTime) -> bool {
        let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let changed = u64::try_from(self.changed.0).unwrap_or(0);
        since.saturating_sub(Duration::from_secs(changed)) > SETTLED
    }
}

/// Known digests, by path.
#[derive(Debug, Default)]
pub(crate) struct Files {
    known: Mutex<HashMap<PathBuf, (Stamp, Revision)>>,
}

impl Files {
    /// Returns the digest of a file.
    ///
    /// # Errors
    /// The file can't be read, or is larger than `max`.
    pub(crate) fn digest(&self, path: &Path, max: Bytes) -> io::Result<Revision> {
        let file = regular_file::open(path)?;
        let stamp = Stamp::of(file.metadata());
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(path).copied();
        if let Some((_, revision)) = known.filter(|(of_then, _)| *of_then == stamp) {
            return Ok(revision);
        }
        let revision = file.read_by(max, |file| sandhog_engine::revision_of_reader(file))?;
        if stamp.is_settled(SystemTime::now()) {
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            known.insert(path.to_owned(), (stamp, revision));
        }
        Ok(revision)
    }

    /// Forgets all files but these.
    pub(crate) fn retain(&self, paths: &BTreeSet<&Path>) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|path, _| paths.contains(path.as_path()));
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_file_that_changes_has_another_digest() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.wasm");
        let files = Files::default();
        for text in ["a", "b", "a"] {
            fs::write(&path, text).expect("a file");
            let digest = files.digest(&path, Bytes(10)).expect("it is there");
            assert_eq!(digest, sandhog_engine::revision_of(text.as_bytes()));
        }
        assert!(files.digest(&path, Bytes(0)).is_err() && files.digest(folder.path(), Bytes(10)).is_err());
        assert!(files.digest(&folder.path().join("none"), Bytes(10)).is_err());
    }

    #[test]
    fn only_a_file_that_was_left_alone_for_a_while_is_known_by_its_stamp() {
        let stamp = Stamp { device: 1, inode: 1, size: 1, changed: (1000, 0) };
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        assert!(!stamp.is_settled(at(1000)) && !stamp.is_settled(at(1002)) && stamp.is_settled(at(1003)));
        assert!(!stamp.is_settled(at(0)), "a clock that was set back");
    }
}
