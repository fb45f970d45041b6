//! Folder that remembers deploys: copies of components by their digest, and the history of each plugin.
//!
//! ```text
//! deploys/
//!   components/<sha256>.wasm   a copy of each kept revision; it is hashed again when it is read
//!   components/<sha256>.<tenant>.<plugin>.sig   its signature for a plugin
//!   history.json               what is in force, what is kept, what was taken back
//!   events.json                the latest events
//!   plugin_files.json          what plugin files said when they were last right
//!   control.sock               where the daemon takes commands
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sandhog_config::COMPONENT_MAX;
use sandhog_core::budget::Bytes;
use sandhog_core::id::{PluginName, Revision, TenantId};
use sandhog_engine::Components;
use sandhog_files::own_folder::{Flush, OwnFolder};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::history::Record;
use super::slot::Key;
use crate::deploy::signatures::{self, Refusal, SignatureFile};

/// Reason why the folder can't be used, or something can't be kept in it.
#[derive(Debug, thiserror::Error)]
#[error("can't {what} {path}, which is in deploy.folder: {cause}")]
pub struct StoreError {
    what: &'static str,
    path: PathBuf,
    cause: io::Error,
}

impl StoreError {
    /// Whether the file that was to be read is not there, or isn't what it was.
    pub(crate) fn is_lost(&self) -> bool {
        matches!(self.cause.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidData)
    }
}

/// The folder of deploys.
pub(crate) struct Store {
    folder: Arc<OwnFolder>,
    components: OwnFolder,
    histories: Mutex<BTreeMap<Key, Record>>,
    /// Lock file, held for as long as the daemon runs.
    _lock: File,
}

/// Maximum size of a JSON file; a larger one is no history, whatever the number of plugins.
const FILE_MAX: Bytes = Bytes::mib(256);

const HISTORY: &str = "history.json";
const LOCK: &str = "lock";
const COMPONENTS: &str = "components";

impl Store {
    /// Opens the folder, which is created if it isn't there.
    pub(crate) fn open(folder: &Path) -> Result<Self, StoreError> {
        let failed = |what, path: PathBuf| move |cause| StoreError { what, path, cause };
        let own = OwnFolder::open(folder).and_then(|own| own.warn_of_others_above().map(|()| own));
        let own = own.map_err(failed("use", folder.to_owned()))?;
        let components = own.open_folder(COMPONENTS).map_err(failed("use", folder.join(COMPONENTS)))?;
        let lock = own.create_file(LOCK).map_err(failed("lock", folder.join(LOCK)))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => tracing::warn!(
                folder = %folder.display(),
                "another daemon uses this deploy.folder; commands reach the one that was started last"
            ),
            Err(TryLockError::Error(cause)) => return Err(failed("lock", folder.join(LOCK))(cause)),
        }
        let store = Self { folder: Arc::new(own), components, histories: Mutex::default(), _lock: lock };
        let written: BTreeMap<String, Record> = store.read(HISTORY).unwrap_or_default();
        *store.histories() =
            written.into_iter().filter_map(|(name, record)| Some((key_of(&name)?, record))).collect();
        Ok(store)
    }

    /// Returns the folder itself.
    pub(crate) fn folder(&self) -> Arc<OwnFolder> {
        Arc::clone(&self.folder)
    }

    fn histories(&self) -> MutexGuard<'_, BTreeMap<Key, Record>> {
        self.histories.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks up the history of a plugin.
    pub(crate) fn record(&self, key: &Key) -> Option<Record> {
        self.histories().get(key).cloned()
    }

    /// Changes the histories of plugins, and writes them.
    pub(crate) fn update(&self, change: impl FnOnce(&mut BTreeMap<Key, Record>)) -> Result<(), StoreError> {
        let text: BTreeMap<String, Record> = {
            let mut histories = self.histories();
            change(&mut histories);
            let named =
                |((tenant, plugin), record): (&Key, &Record)| (format!("{tenant}/{plugin}"), record.clone());
            histories.iter().map(named).collect()
        };
        self.write(HISTORY, &text)
    }

    /// Removes copies that nobody needs: those of revisions that no plugin is known to keep.
    pub(crate) fn prune(&self) -> Result<(), StoreError> {
        let kept: BTreeSet<Revision> = self.histories().values().flat_map(Record::kept).collect();
        self.remove_all_but(&kept)
    }

    /// Keeps a copy of a component.
    pub(crate) fn put(&self, revision: Revision, wasm: &[u8]) -> Result<(), StoreError> {
        self.keep(&copy_of(revision), wasm)
    }

    fn keep(&self, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        // This isn't flushed to disk: if a power cut leaves part of it, its digest tells.
        let kept = self.components.put(name, Flush::Later, |file| file.write_all(bytes));
        kept.map_err(|cause| StoreError { what: "keep", path: self.components.path().join(name), cause })
    }

    /// Whether there is a copy of a component.
    pub(crate) fn has(&self, revision: Revision) -> bool {
        self.components.has(&copy_of(revision))
    }

    /// Keeps a component's signature for a plugin.
    pub(crate) fn put_signature(
        &self,
        key: &Key,
        revision: Revision,
        signature: &str,
    ) -> Result<(), StoreError> {
        self.keep(&signature_of(key, revision), signature.as_bytes())
    }

    /// Returns the signature that was kept of a component for a plugin, if there is one.
    pub(crate) fn signature(&self, key: &Key, revision: Revision) -> Result<SignatureFile, Refusal> {
        let (copy, name) = (copy_of(revision), signature_of(key, revision));
        let text = self.components.open_file(&name).and_then(|file| file.read_text(signatures::FILE_MAX));
        SignatureFile::of(self.components.path().join(copy), self.components.path().join(name), text)
    }

    /// Reads the copy of a kept component, of at most `max` bytes.
    pub(crate) fn get(&self, revision: Revision, max: Bytes) -> Result<Vec<u8>, StoreError> {
        let name = copy_of(revision);
        let wasm = self.components.read(&name, max);
        let wasm = wasm.and_then(|wasm| match sandhog_engine::revision_of(&wasm) == revision {
            true => Ok(wasm),
            false => Err(io::Error::new(io::ErrorKind::InvalidData, "it isn't what its name says")),
        });
        wasm.map_err(|cause| StoreError { what: "read", path: self.components.path().join(name), cause })
    }

    fn remove_all_but(&self, kept: &BTreeSet<Revision>) -> Result<(), StoreError> {
        let is_kept = |name: &OsStr| {
            // A copy, or the signature of one.
            let digest = name.to_str().and_then(|name| name.split('.').next());
            let revision = digest.and_then(|digest| Revision::parse(digest).ok());
            revision.is_some_and(|revision| kept.contains(&revision))
        };
        let names = self.components.names();
        let removed = names.and_then(|names| {
            names.iter().filter(|name| !is_kept(name)).try_for_each(|name| self.components.remove(name))
        });
        let path = || self.components.path().to_owned();
        removed.map_err(|cause| StoreError { what: "clean up", path: path(), cause })
    }

    /// Reads a file of the folder. `None` if there is none, or it makes no sense.
    pub(crate) fn read<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        read_in(&self.folder, name)
    }

    /// Writes a file of the folder in one step.
    pub(crate) fn write(&self, name: &str, value: &impl Serialize) -> Result<(), StoreError> {
        let written = serde_json::to_vec(value).map_err(io::Error::from);
        let written =
            written.and_then(|text| self.folder.put(name, Flush::ToDisk, |file| file.write_all(&text)));
        written.map_err(|cause| StoreError { what: "write", path: self.folder.path().join(name), cause })
    }
}

/// Reads a file of a folder of deploys. `None` if there is none, or it makes no sense.
pub(super) fn read<T: DeserializeOwned>(folder: &Path, name: &str) -> Option<T> {
    match OwnFolder::open_existing(folder) {
        Ok(folder) => read_in(&folder, name),
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => None,
        Err(error) => {
            tracing::warn!(path = %folder.display(), %error, "can't be used; going on without it");
            None
        }
    }
}

fn read_in<T: DeserializeOwned>(folder: &OwnFolder, name: &str) -> Option<T> {
    let path = || folder.path().join(name);
    let text = match folder.read(name, FILE_MAX) {
        Ok(text) => text,
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => {
            tracing::warn!(path = %path().display(), %error, "can't be read; going on without it");
            return None;
        }
    };
    serde_json::from_slice(&text)
        .inspect_err(|error| {
            tracing::warn!(path = %path().display(), %error, "makes no sense; going on without it");
        })
        .ok()
}

/// Name of the copy of a component.
fn copy_of(revision: Revision) -> String {
    format!("{revision}.wasm")
}

/// Name of the copy of a component's signature for a plugin.
fn signature_of((tenant, plugin): &Key, revision: Revision) -> String {
    format!("{revision}.{tenant}.{plugin}.sig")
}

impl Components for Store {
    fn get(&self, revision: Revision) -> io::Result<Vec<u8>> {
        Self::get(self, revision, COMPONENT_MAX).map_err(io::Error::other)
    }
}

fn key_of(name: &str) -> Option<Key> {
    let (tenant, plugin) = name.split_once('/')?;
    Some((TenantId::parse(tenant).ok()?, PluginName::parse(plugin).ok()?))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use sandhog_core::time::Timestamp;

    use super::*;

    fn key() -> Key {
        key_of("acme/hog").expect("valid")
    }

    #[test]
    fn what_was_deployed_is_remembered_and_what_nobody_needs_is_removed() {
        let folder = tempfile::tempdir().expect("a folder");
        let folder = folder.path().join("deploys");
        let [a, b] = [&b"a"[..], b"b"].map(sandhog_engine::revision_of);
        let store = Store::open(&folder).expect("it is made");
        store.put(a, b"a").expect("there is room");
        store.put(b, b"b").expect("there is room");
        store
            .update(|histories| {
                histories.insert(key(), Record::first(a, Timestamp::from_millis(1)));
            })
            .expect("it can be written");
        store.prune().expect("ours");
        drop(store);
        let store = Store::open(&folder).expect("it is there");
        assert_eq!(store.record(&key()).map(|record| record.serving()), Some(a));
        assert_eq!(store.get(a, Bytes(1)).expect("it is kept"), b"a");
        assert!(store.get(b, Bytes(1)).is_err(), "nobody needs it");
    }

    #[test]
    fn a_copy_that_was_changed_is_not_taken_for_what_it_was() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::open(folder.path()).expect("it is there");
        let revision = sandhog_engine::revision_of(b"a");
        store.put(revision, b"a").expect("there is room");
        fs::write(folder.path().join(COMPONENTS).join(copy_of(revision)), b"b").expect("ours");
        let error = store.get(revision, Bytes(1)).expect_err("it was changed").to_string();
        assert!(error.contains("deploy.folder") && error.contains("isn't what its name says"), "{error}");
    }

    #[test]
    fn a_history_that_makes_no_sense_is_no_reason_not_to_start() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join(HISTORY), "{").expect("a file");
        let store = Store::open(folder.path()).expect("it goes on without");
        assert_eq!(store.record(&key()), None);
    }
}
