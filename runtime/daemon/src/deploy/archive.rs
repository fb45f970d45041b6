//! Archive of kept revisions for jobs that are pinned to one which is not in force: loaded when the first such job comes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sandhog_core::id::Revision;
use sandhog_engine::Plugin;

use super::slot::{Key, Loaded};
use crate::catalog::{Archive, Archived};

/// Entry of one kept revision.
#[derive(Debug, Clone)]
enum Entry {
    /// The revision is being loaded.
    Loading,
    Loaded(Loaded<Arc<Plugin>>),
    /// The revision couldn't be loaded, at this time; it may be loaded later.
    Failed(Instant),
    /// The revision can't be loaded under the plugin's present terms.
    Gone,
}

/// Minimum time after which a revision that couldn't be loaded is tried again.
const REST: Duration = Duration::from_secs(5);

/// Kept revisions that jobs have asked for.
#[derive(Debug, Default)]
pub(super) struct Pinned {
    entries: Mutex<HashMap<(Key, Revision), Entry>>,
}

impl Pinned {
    fn entries(&self) -> MutexGuard<'_, HashMap<(Key, Revision), Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks up a revision. If it isn't known yet, `begin` tries to begin its loading, and returns whether it could.
    fn find(&self, key: Key, revision: Revision, begin: impl FnOnce(&Key) -> Begun) -> Archived<Arc<Plugin>> {
        let mut entries = self.entries();
        match entries.get(&(key.clone(), revision)) {
            Some(Entry::Loaded(code)) => {
                Archived::Here { plugin: Arc::clone(&code.plugin), in_use: Arc::clone(&code.in_use) }
            }
            Some(Entry::Loading) => Archived::Loading,
            Some(Entry::Failed(at)) if at.elapsed() < REST => Archived::Loading,
            Some(Entry::Gone) => Archived::Gone,
            Some(Entry::Failed(_)) | None => match begin(&key) {
                Begun::Yes => {
                    entries.insert((key, revision), Entry::Loading);
                    Archived::Loading
                }
                Begun::Later => Archived::Loading,
                Begun::Never => Archived::Gone,
            },
        }
    }

    /// Records that a revision was loaded.
    pub(super) fn came(&self, key: Key, revision: Revision, loaded: Loaded<Arc<Plugin>>) {
        self.entries().insert((key, revision), Entry::Loaded(loaded));
    }

    /// Records that a revision couldn't be loaded, and may be another time.
    pub(super) fn failed(&self, key: Key, revision: Revision) {
        self.entries().insert((key, revision), Entry::Failed(Instant::now()));
    }

    /// Records that a revision can't be loaded.
    pub(super) fn gone(&self, key: Key, revision: Revision) {
        self.entries().insert((key, revision), Entry::Gone);
    }

    /// Records that the loading of a revision wasn't begun, as too much else is loaded: it is to be asked for again.
    pub(super) fn later(&self, key: Key, revision: Revision) {
        self.entries().remove(&(key, revision));
    }

    /// Forgets the entries of plugins whose terms may be others now, or that are gone.
    pub(super) fn forget(&self, is_meant: impl Fn(&Key) -> bool) {
        self.entries().retain(|(key, _), entry| {
            let stays = !is_meant(key);
            if let (false, Entry::Loaded(code)) = (stays, entry) {
                code.in_use.retire();
            }
            stays
        });
    }
}

/// Whether the loading of a kept revision could be begun.
enum Begun {
    Yes,
    /// Not now: the queue of the deployer is full.
    Later,
    /// The revision isn't kept.
    Never,
}

impl Archive<Arc<Plugin>> for super::Handle {
    fn find(&self, key: Key, revision: Revision) -> Archived<Arc<Plugin>> {
        self.pinned().find(key, revision, |key| {
            let record = self.shared().store.record(key);
            if !record.is_some_and(|record| record.kept().any(|kept| kept == revision)) {
                return Begun::Never;
            }
            if self.fetch(key.clone(), revision) { Begun::Yes } else { Begun::Later }
        })
    }
}
