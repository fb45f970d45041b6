//! Watches the files that a configuration is made of, and says when they have changed.
//!
//! Plugin files and components are watched by their folders, because editors and deploy tools replace files rather than
//! write them. The daemon's file is watched by itself, where it can be: the embedded broker's database is often beside
//! it, and each write to that would wake the watcher.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use notify::event::{AccessKind, AccessMode};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout, timeout_at};

use super::handle::Handle;
use crate::config::Config;
use crate::provenance::signature_path;

/// Nothing more has changed for so long: whoever was writing has finished.
const QUIET: Duration = Duration::from_millis(200);

/// However much goes on, what has changed is looked at after this.
const QUIET_MAX: Duration = Duration::from_secs(2);

/// The files that a configuration is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watched {
    daemon_file: PathBuf,
    plugins: PathBuf,
    /// And their signatures.
    components: BTreeSet<PathBuf>,
}

impl Watched {
    /// The files of a configuration, and the daemon's file that it was read from.
    pub(super) fn of(daemon_file: &Path, config: &Config) -> Self {
        Self {
            daemon_file: absolute(daemon_file),
            plugins: absolute(&config.plugins_folder),
            components: config
                .plugins
                .iter()
                .map(|plugin| absolute(&plugin.component))
                .flat_map(|component| [signature_path(&component), component])
                .collect(),
        }
    }

    /// Whether a change of a path may be a change of the configuration.
    fn is_about(&self, path: &Path) -> bool {
        let of_plugin = path.parent() == Some(&self.plugins)
            && path.extension().is_some_and(|extension| extension == "toml");
        of_plugin || path == self.daemon_file || path == self.plugins || self.components.contains(path)
    }

    /// What has to be watched for that.
    fn places(&self) -> BTreeSet<PathBuf> {
        let folder = |path: &Path| path.parent().map(Path::to_owned);
        let of_daemon = match self.daemon_file.exists() {
            true => Some(self.daemon_file.clone()),
            false => folder(&self.daemon_file),
        };
        let of_plugins = match self.plugins.is_dir() {
            true => Some(self.plugins.clone()),
            false => folder(&self.plugins),
        };
        let of_components = self.components.iter().filter_map(|path| folder(path));
        of_daemon.into_iter().chain(of_plugins).chain(of_components).collect()
    }
}

/// Paths in events are those that were asked for, so all are made absolute in the same way.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// Has the configuration read again whenever one of its files has changed. Where the system can't watch files, it says so
/// and returns: SIGHUP and `sandhog reload` still do it.
pub async fn watch_files(watched: watch::Receiver<Watched>, deployer: Handle) {
    let mut lookout = match Lookout::new(watched) {
        Ok(lookout) => lookout,
        Err(error) => {
            tracing::warn!(%error, "can't watch the configuration; SIGHUP and `sandhog reload` have it read again");
            return;
        }
    };
    // Something may have changed while the daemon was starting.
    deployer.nudge().await;
    while lookout.calls().await {
        deployer.nudge().await;
    }
}

/// Says when the files are to be read.
struct Lookout {
    watched: watch::Receiver<Watched>,
    watcher: Watcher,
    changed: Arc<Notify>,
}

impl Lookout {
    fn new(mut watched: watch::Receiver<Watched>) -> notify::Result<Self> {
        let changed = Arc::new(Notify::new());
        let mut watcher = Watcher::new(watched.borrow_and_update().clone(), Arc::clone(&changed))?;
        watcher.arm();
        Ok(Self { watched, watcher, changed })
    }

    /// Waits until something has changed, or other files are to be watched; false if nobody wants to know any more. By
    /// then the files are watched anew, and while that is done nothing is heard of them: so it always calls for a look.
    async fn calls(&mut self) -> bool {
        tokio::select! {
            biased;
            told = self.watched.changed() => {
                if told.is_err() {
                    return false;
                }
                self.watcher.about(self.watched.borrow_and_update().clone());
            }
            // A file that was replaced is another one, which isn't watched yet.
            () = self.changed.notified() => quiet(&self.changed).await,
        }
        self.watcher.arm();
        true
    }
}

/// Waits until nothing more changes.
async fn quiet(changed: &Notify) {
    let latest = Instant::now() + QUIET_MAX;
    while timeout(QUIET, timeout_at(latest, changed.notified())).await.is_ok_and(|in_time| in_time.is_ok()) {}
}

struct Watcher {
    inner: RecommendedWatcher,
    watched: Arc<Mutex<Watched>>,
    armed: BTreeSet<PathBuf>,
}

impl Watcher {
    fn new(watched: Watched, changed: Arc<Notify>) -> notify::Result<Self> {
        let watched = Arc::new(Mutex::new(watched));
        let about = Arc::clone(&watched);
        let inner = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            let is_about =
                |path: &PathBuf| about.lock().unwrap_or_else(PoisonError::into_inner).is_about(path);
            // After an error, or when too much came at once, nobody knows what was missed.
            let tells = event.map_or(true, |event| {
                event.need_rescan() || (is_change(&event) && event.paths.iter().any(is_about))
            });
            if tells {
                changed.notify_one();
            }
        })?;
        Ok(Self { inner, watched, armed: BTreeSet::new() })
    }

    fn about(&self, watched: Watched) {
        *self.watched.lock().unwrap_or_else(PoisonError::into_inner) = watched;
    }

    /// Watches what has to be watched, and nothing else.
    fn arm(&mut self) {
        let places = self.watched.lock().unwrap_or_else(PoisonError::into_inner).places();
        for place in std::mem::take(&mut self.armed) {
            // It fails where the place itself is gone, and the watch with it.
            let _ = self.inner.unwatch(&place);
            if places.contains(&place) {
                self.armed.insert(place);
            }
        }
        for place in places {
            match self.inner.watch(&place, RecursiveMode::NonRecursive) {
                Ok(()) => drop(self.armed.insert(place)),
                Err(error) => {
                    self.armed.remove(&place);
                    let place = place.display();
                    tracing::warn!(%place, %error, "can't be watched; SIGHUP and `sandhog reload` have the configuration read again");
                }
            }
        }
    }
}

/// Whether something was written, made, renamed or removed, rather than looked at.
fn is_change(event: &notify::Event) -> bool {
    match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => true,
        EventKind::Access(_) => false,
        EventKind::Any
        | EventKind::Create(_)
        | EventKind::Modify(_)
        | EventKind::Remove(_)
        | EventKind::Other => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// A folder with a configuration, and a lookout over it.
    struct Site {
        folder: tempfile::TempDir,
        lookout: Lookout,
        teller: watch::Sender<Watched>,
    }

    fn site() -> Site {
        let folder = tempfile::tempdir().expect("a folder");
        fs::create_dir(folder.path().join("plugins.d")).expect("a folder");
        fs::create_dir(folder.path().join("built")).expect("a folder");
        fs::write(folder.path().join("sandhog.toml"), "").expect("a file");
        let watched = Watched {
            daemon_file: folder.path().join("sandhog.toml"),
            plugins: folder.path().join("plugins.d"),
            components: BTreeSet::from([folder.path().join("built/a.wasm")]),
        };
        let (teller, watched) = watch::channel(watched);
        Site { folder, lookout: Lookout::new(watched).expect("files can be watched"), teller }
    }

    const PATIENCE: Duration = Duration::from_secs(60);

    impl Site {
        async fn hears(&mut self, what: &str) {
            let heard = timeout(PATIENCE, self.lookout.calls()).await;
            assert_eq!(heard, Ok(true), "nothing was heard of {what}");
        }
    }

    #[tokio::test]
    async fn what_belongs_to_a_configuration_is_heard_of_however_it_is_written() {
        let mut site = site();
        let path = |name: &str| site.folder.path().join(name);
        let (daemon, plugin, component) =
            (path("sandhog.toml"), path("plugins.d/a.toml"), path("built/a.wasm"));
        let aside = path("aside");
        for round in 0..2 {
            fs::write(&daemon, "a").expect("a file");
            site.hears("a write").await;
            fs::write(&aside, "b").expect("a file");
            fs::rename(&aside, &daemon).expect("one folder");
            site.hears("a file that was replaced").await;
            fs::remove_file(&daemon).expect("it is there");
            site.hears("a file that was removed").await;
            fs::write(&daemon, "c").expect("a file");
            site.hears("a file that came back").await;
            fs::write(&plugin, "a").expect("a file");
            site.hears("a plugin file").await;
            fs::write(&component, format!("{round}")).expect("a file");
            site.hears("a component").await;
            fs::remove_file(&plugin).expect("it is there");
            site.hears("a plugin file that was removed").await;
        }
    }

    #[tokio::test]
    async fn whenever_files_are_watched_anew_they_are_to_be_read() {
        let mut site = site();
        site.teller.send_modify(|_| {});
        site.hears("what may have changed while they weren't watched").await;
        drop(site.teller);
        assert!(!site.lookout.calls().await);
    }

    #[test]
    fn what_does_not_belong_to_it_is_passed_over() {
        let watched = site().teller.borrow().clone();
        let folder = watched.plugins.parent().expect("a folder").to_owned();
        for name in ["sandhog.db-wal", "plugins.d/a.toml.swp", "plugins.d/a.wasm", "built/b.wasm", "built"] {
            assert!(!watched.is_about(&folder.join(name)), "{name}");
        }
        for name in ["sandhog.toml", "plugins.d", "plugins.d/b.toml", "built/a.wasm"] {
            assert!(watched.is_about(&folder.join(name)), "{name}");
        }
    }
}
