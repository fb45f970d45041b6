//! Kept revisions for jobs that are pinned to one which is not in force: loaded when the first such job comes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sandhog_core::id::Revision;
use sandhog_engine::Plugin;

use super::slot::{Key, Loaded};
use crate::catalog::{Archive, Archived};

/// What is known of one.
#[derive(Debug, Clone)]
enum Entry {
    /// It is being loaded.
    Loading,
    Loaded(Loaded<Arc<Plugin>>),
    /// It couldn't be loaded just now.
    Failed(Instant),
    /// It can't be loaded under the plugin's present terms.
    Gone,
}

/// For so long what couldn't be loaded is left alone.
const REST: Duration = Duration::from_secs(5);

/// The kept revisions that were asked for.
#[derive(Debug, Default)]
pub(super) struct Pinned {
    entries: Mutex<HashMap<(Key, Revision), Entry>>,
}

impl Pinned {
    fn entries(&self) -> MutexGuard<'_, HashMap<(Key, Revision), Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What there is. If it isn't known yet, `begin` says whether its loading could be begun.
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

    /// It was loaded.
    pub(super) fn came(&self, key: Key, revision: Revision, loaded: Loaded<Arc<Plugin>>) {
        self.entries().insert((key, revision), Entry::Loaded(loaded));
    }

    /// It couldn't be loaded, and may be another time.
    pub(super) fn failed(&self, key: Key, revision: Revision) {
        self.entries().insert((key, revision), Entry::Failed(Instant::now()));
    }

    /// It can't be loaded.
    pub(super) fn gone(&self, key: Key, revision: Revision) {
        self.entries().insert((key, revision), Entry::Gone);
    }

    /// Its loading wasn't begun, as too much else is loaded: it is to be asked for again.
    pub(super) fn later(&self, key: Key, revision: Revision) {
        self.entries().remove(&(key, revision));
    }

    /// Forgets what was loaded of plugins whose terms may be others now, or that are gone.
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
    /// Not now: too much is asked for.
    Later,
    /// It isn't kept.
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
