//! Digests of component files; a file that hasn't changed isn't read again.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use sandhog_core::budget::Bytes;
use sandhog_core::id::Revision;
use sandhog_files::regular_file;
use sandhog_files::stamp::Stamp;

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
}
