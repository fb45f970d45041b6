//! Directories that a fake host grants. They are in a temporary folder, which is removed with the host.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;

use tempfile::TempDir;

/// The granted directories, by their names in the sandbox.
#[derive(Debug, Clone, Default)]
pub(super) struct Files {
    /// Temporary folder, created with the first directory.
    root: Option<Rc<TempDir>>,
    granted: BTreeSet<PathBuf>,
}

/// Name that no granted directory has, so that a path that isn't granted isn't there.
const NOWHERE: &str = ".not-granted";

impl Files {
    /// Grants a directory, which is empty if it wasn't there.
    pub(super) fn grant(&mut self, directory: &str) {
        let directory = inside(directory);
        let root = self.root.get_or_insert_with(|| {
            Rc::new(tempfile::tempdir().expect("a temporary folder can be made for the files of a fake host"))
        });
        std::fs::create_dir_all(root.path().join(&directory)).expect("a folder in a temporary one");
        self.granted.insert(directory);
    }

    /// Writes a file into its directory, and grants that directory if no granted one contains the file.
    pub(super) fn put(&mut self, file: &str, content: &[u8]) {
        if !self.is_granted(&inside(file)) {
            let parent = Path::new(file).parent().unwrap_or_else(|| Path::new("/"));
            self.grant(&parent.to_string_lossy());
        }
        let path = self.path(file);
        let folder = path.parent().expect("a file in a folder");
        std::fs::create_dir_all(folder).expect("a folder in a temporary one");
        std::fs::write(path, content).expect("a file in a temporary folder");
    }

    /// Returns the real path of a path of the sandbox.
    pub(super) fn path(&self, path: &str) -> PathBuf {
        let inside = inside(path);
        match &self.root {
            Some(root) if self.is_granted(&inside) => root.path().join(inside),
            Some(root) => root.path().join(NOWHERE).join(inside),
            None => std::env::temp_dir().join(NOWHERE).join(inside),
        }
    }

    fn is_granted(&self, inside: &Path) -> bool {
        self.granted.iter().any(|directory| inside.starts_with(directory))
    }
}

/// Returns a path relative to the sandbox's root. One that climbs above the root stays at the root.
fn inside(path: &str) -> PathBuf {
    let mut inside = PathBuf::new();
    for part in Path::new(path).components() {
        match part {
            Component::Normal(name) => inside.push(name),
            Component::ParentDir => {
                inside.pop();
            }
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    inside
}
