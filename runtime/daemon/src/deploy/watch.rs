//! Watcher of the files that a configuration is made of, which tells when they have changed.
//!
//! Plugin files and components are watched by their folders, because editors and deploy tools replace files rather than
//! write them. The daemon's file is watched by itself, where it can be: the embedded broker's database is often beside
//! it, and each write to that would wake the watcher.
//!
//! An event of one of the files tells that it may have changed. Any other in those folders has them looked at: what lies
//! there may be links that lead through it to the files, such as `..data` in a volume of Kubernetes. Where no event comes
//! at all, as from a network's file system or when a folder on the way to a file is replaced, they are looked at by time.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use notify::event::{AccessKind, AccessMode};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use sandhog_config::{Config, is_plugin_file};
use sandhog_files::disk::{self, Progress};
use sandhog_files::stamp::Stamp;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::handle::Handle;
use crate::deploy::signatures::signature_path;
use crate::off_thread::off_thread;

/// Time without a further change after which the writer is taken to have finished.
const QUIET: Duration = Duration::from_millis(200);

/// Maximum time after which a change is looked at, however much goes on.
const QUIET_MAX: Duration = Duration::from_secs(2);

/// Files that a configuration is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watched {
    look_every: Duration,
    daemon_file: PathBuf,
    plugins: PathBuf,
    /// Paths of the components, of their signatures, and of the file of tokens.
    components: BTreeSet<PathBuf>,
}

impl Watched {
    /// Returns the files of a configuration, and the daemon's file that it was read from.
    pub(super) fn of(daemon_file: &Path, config: &Config) -> Self {
        Self {
            look_every: config.deploy.look_every,
            daemon_file: absolute(daemon_file),
            plugins: absolute(&config.plugins_folder),
            components: config
                .plugins
                .iter()
                .map(|plugin| absolute(&plugin.component))
                .flat_map(|component| [signature_path(&component), component])
                .chain(config.http.iter().filter_map(|http| Some(absolute(http.tokens_file.as_ref()?))))
                .collect(),
        }
    }

    /// Whether a change of a path may be a change of the configuration.
    fn is_about(&self, path: &Path) -> bool {
        let of_plugin = path.parent() == Some(&self.plugins) && is_plugin_file(path);
        of_plugin || path == self.daemon_file || path == self.plugins || self.components.contains(path)
    }

    /// Paths that have to be watched for that, as far as their disks answer. Blocks.
    fn places(&self) -> BTreeSet<PathBuf> {
        let nearest = |path: &PathBuf| match exists(path) {
            true => Some(path.clone()),
            false => path.parent().map(Path::to_owned),
        };
        let of_components = self.components.iter().filter_map(|path| path.parent().map(Path::to_owned));
        let places = [&self.daemon_file, &self.plugins].into_iter().filter_map(nearest).chain(of_components);
        let places: BTreeSet<_> = places.collect();
        let there = disk::ask_each(places.iter().cloned().map(|place| {
            let looked_at = place.clone();
            (place, move |_: &Progress| looked_at.try_exists())
        }));
        places
            .into_iter()
            .zip(there)
            .filter_map(|(place, there)| there.unwrap_or(false).then_some(place))
            .collect()
    }

    /// Reads the stamps of all files. One whose disk doesn't answer has that of `before`. Blocks.
    fn stamps(&self, before: &Stamps) -> Stamps {
        let plugins = self.plugins.clone();
        let listed = disk::ask(&self.plugins, move |_| {
            let entries = fs::read_dir(plugins)?.map(|entry| Ok(entry?.path()));
            entries.collect::<io::Result<Vec<PathBuf>>>()
        });
        let plugin_files = match listed {
            Ok(listed) => listed.into_iter().filter(|path| is_plugin_file(path)).collect(),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                before.keys().filter(|path| path.parent() == Some(&self.plugins)).cloned().collect()
            }
            Err(_) => Vec::new(),
        };
        let mut by_folder: BTreeMap<PathBuf, Vec<PathBuf>> = BTreeMap::new();
        for path in plugin_files.into_iter().chain([self.daemon_file.clone()]).chain(self.components.clone())
        {
            by_folder.entry(path.parent().unwrap_or(&path).to_owned()).or_default().push(path);
        }
        let asks = by_folder.iter().map(|(folder, paths)| {
            let paths = paths.clone();
            (folder.clone(), move |progress: &Progress| Ok(stamps_of(&paths, progress)))
        });
        let as_before = |path: &PathBuf| before.get(path).copied().flatten();
        let stamps = by_folder.values().zip(disk::ask_each(asks)).flat_map(|(paths, found)| {
            let stamps = found.unwrap_or_else(|_no_answer| paths.iter().map(as_before).collect());
            paths.iter().cloned().zip(stamps)
        });
        stamps.collect()
    }
}

fn stamps_of(paths: &[PathBuf], progress: &Progress) -> Vec<Option<Stamp>> {
    let stamp = |path: &PathBuf| {
        progress.step();
        Stamp::at(path)
    };
    paths.iter().map(stamp).collect()
}

/// Whether there is something at a path. False if its disk doesn't answer. Blocks.
fn exists(path: &Path) -> bool {
    let looked_at = path.to_owned();
    disk::ask(path, move |_| looked_at.try_exists()).unwrap_or(false)
}

/// Stamp of each file by what the system says, wherever links lead. `None` for one that isn't there.
type Stamps = BTreeMap<PathBuf, Option<Stamp>>;

/// Makes a path absolute. Paths in events are those that were asked for, so all are made absolute in the same way.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// Requests a reload of the configuration whenever one of its files has changed.
pub async fn watch_files(watched: watch::Receiver<Watched>, deployer: Handle) {
    let mut files = FileWatch::new(watched).await;
    // Something may have changed while the daemon was starting.
    deployer.nudge().await;
    while files.calls().await {
        deployer.nudge().await;
    }
}

/// Tells when the files are to be read.
struct FileWatch {
    watched: watch::Receiver<Watched>,
    /// Watcher of the files. `None` where the system can't watch files.
    watcher: Option<Watcher>,
    events: Arc<Events>,
    /// Stamps of the files when they were looked at last.
    seen: Stamps,
}

/// Notifications of the watcher.
#[derive(Default)]
struct Events {
    /// Notified when one of the files may have changed.
    change: Notify,
    /// Notified when something else has changed, in a folder of theirs.
    stir: Notify,
}

impl FileWatch {
    async fn new(mut watched: watch::Receiver<Watched>) -> Self {
        let events = Arc::new(Events::default());
        let watcher = Watcher::start(&watched.borrow_and_update(), &events);
        let mut files = Self { watched, watcher, events, seen: Stamps::new() };
        files.watch_anew().await;
        files
    }

    /// Waits until something has changed, or other files are to be watched. Returns whether the files are to be read; false if
    /// nobody wants to know any more. The files are watched anew before it returns true, and nothing is heard of them
    /// meanwhile: so other files to watch always call for a read.
    async fn calls(&mut self) -> bool {
        loop {
            let every = self.watched.borrow().look_every;
            tokio::select! {
                biased;
                told = self.watched.changed() => {
                    if told.is_err() {
                        return false;
                    }
                    break;
                }
                () = self.events.change.notified() => {
                    quiet(&self.events.change).await;
                    break;
                }
                () = self.events.stir.notified() => quiet(&self.events.stir).await,
                () = sleep(every) => {}
            }
            if self.stamps().await != self.seen {
                break;
            }
        }
        self.watch_anew().await;
        true
    }

    /// Watches the files as they are now: a file that was replaced is another one, which isn't watched yet.
    async fn watch_anew(&mut self) {
        if let Some(watcher) = self.watcher.take() {
            let watched = self.watched.borrow_and_update().clone();
            let to_watch = watched.clone();
            let armed = off_thread(move || watcher.armed(to_watch)).await;
            // One that is left behind with a disk that has ceased to answer is replaced, and armed the next time.
            self.watcher = armed.or_else(|| Watcher::start(&watched, &self.events));
        }
        self.seen = self.stamps().await;
    }

    async fn stamps(&self) -> Stamps {
        let (watched, seen) = (self.watched.borrow().clone(), self.seen.clone());
        off_thread(move || watched.stamps(&seen)).await
    }
}

/// Waits until nothing more changes, for [`QUIET_MAX`] at most.
async fn quiet(changed: &Notify) {
    let latest = Instant::now() + QUIET_MAX;
    while timeout(QUIET, timeout_at(latest, changed.notified())).await.is_ok_and(|in_time| in_time.is_ok()) {}
}

struct Watcher {
    inner: RecommendedWatcher,
    watched: Arc<Mutex<Watched>>,
    armed: BTreeSet<PathBuf>,
    /// Paths that can't be watched, which was logged.
    failed: BTreeSet<PathBuf>,
}

impl Watcher {
    fn new(watched: Watched, events: Arc<Events>) -> notify::Result<Self> {
        let watched = Arc::new(Mutex::new(watched));
        let about = Arc::clone(&watched);
        let inner = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            let is_about =
                |path: &PathBuf| about.lock().unwrap_or_else(PoisonError::into_inner).is_about(path);
            match event {
                Ok(event) if !event.need_rescan() => {
                    if is_change(&event) {
                        let about = event.paths.iter().any(is_about);
                        if about { &events.change } else { &events.stir }.notify_one();
                    }
                }
                // After an error, or when too much came at once, nobody knows what was missed.
                _ => events.change.notify_one(),
            }
        })?;
        Ok(Self { inner, watched, armed: BTreeSet::new(), failed: BTreeSet::new() })
    }

    /// Creates a watcher, which is to be armed. `None`, which is logged, where the system can't watch files.
    fn start(watched: &Watched, events: &Arc<Events>) -> Option<Self> {
        match Self::new(watched.clone(), Arc::clone(events)) {
            Ok(watcher) => Some(watcher),
            Err(error) => {
                let every = watched.look_every;
                tracing::warn!(%error, ?every, "can't watch the configuration; it is looked at by time alone (deploy.look_every)");
                None
            }
        }
    }

    /// Watches the paths that have to be watched for these files, and nothing else. `None` if a disk ceases to answer meanwhile.
    /// Blocks.
    fn armed(mut self, watched: Watched) -> Option<Self> {
        let (places, every) = (watched.places(), watched.look_every);
        *self.watched.lock().unwrap_or_else(PoisonError::into_inner) = watched;
        self.failed.retain(|place| places.contains(place));
        for place in std::mem::take(&mut self.armed) {
            // It fails where the place itself is gone, and the watch with it.
            let _ = self.inner.unwatch(&place);
            if places.contains(&place) {
                self.armed.insert(place);
            }
        }
        for place in places {
            let to_watch = place.clone();
            let watching = disk::ask(&place, move |_| {
                self.watch(to_watch, every);
                Ok(self)
            });
            self = watching
                .inspect_err(|error| {
                    tracing::warn!(place = %place.display(), %error, "can't be watched");
                })
                .ok()?;
        }
        Some(self)
    }

    fn watch(&mut self, place: PathBuf, every: Duration) {
        match self.inner.watch(&place, RecursiveMode::NonRecursive) {
            Ok(()) => {
                self.failed.remove(&place);
                self.armed.insert(place);
            }
            Err(error) => {
                self.armed.remove(&place);
                if self.failed.insert(place.clone()) {
                    let place = place.display();
                    tracing::warn!(%place, %error, ?every, "can't be watched; it is looked at by time alone (deploy.look_every)");
                }
            }
        }
    }
}

/// Whether something was written, created, renamed or removed, rather than looked at.
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
    use std::os::unix::fs::symlink;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tracing::span;

    use super::*;

    /// A folder with a configuration, and the watch over its files.
    struct Site {
        folder: tempfile::TempDir,
        files: FileWatch,
        teller: watch::Sender<Watched>,
    }

    /// Nothing is looked at by time within any test.
    const NEVER: Duration = Duration::from_secs(3600);

    async fn site(look_every: Duration) -> Site {
        let folder = tempfile::tempdir().expect("a folder");
        fs::create_dir(folder.path().join("plugins.d")).expect("a folder");
        fs::create_dir(folder.path().join("built")).expect("a folder");
        fs::write(folder.path().join("sandhog.toml"), "").expect("a file");
        let watched = Watched {
            look_every,
            daemon_file: folder.path().join("sandhog.toml"),
            plugins: folder.path().join("plugins.d"),
            components: BTreeSet::from(
                ["a.wasm", "a.wasm.sig"].map(|name| folder.path().join("built").join(name)),
            ),
        };
        let (teller, watched) = watch::channel(watched);
        Site { folder, files: FileWatch::new(watched).await, teller }
    }

    const PATIENCE: Duration = Duration::from_secs(60);

    impl Site {
        async fn hears(&mut self, what: &str) {
            let heard = timeout(PATIENCE, self.files.calls()).await;
            assert_eq!(heard, Ok(true), "nothing was heard of {what}");
        }
    }

    #[tokio::test]
    async fn what_belongs_to_a_configuration_is_heard_of_however_it_is_written() {
        let mut site = site(NEVER).await;
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
        let mut site = site(NEVER).await;
        site.teller.send_modify(|_| {});
        site.hears("what may have changed while they weren't watched").await;
        drop(site.teller);
        assert!(!site.files.calls().await);
    }

    /// Kubernetes mounts a volume as links through `..data`, and replaces that when the volume changes.
    #[tokio::test]
    async fn a_link_on_the_way_to_a_file_that_is_replaced_in_its_folder_is_heard_of() {
        let mut site = site(NEVER).await;
        let folder = site.folder.path().join("plugins.d");
        for version in ["1", "2"] {
            fs::create_dir(folder.join(version)).expect("a folder");
            fs::write(folder.join(version).join("a.toml"), version).expect("a file");
        }
        symlink("1", folder.join("..data")).expect("a link");
        symlink("..data/a.toml", folder.join("a.toml")).expect("a link");
        site.hears("a plugin file that is a link").await;
        symlink("2", folder.join("..data_tmp")).expect("a link");
        fs::rename(folder.join("..data_tmp"), folder.join("..data")).expect("one folder");
        site.hears("a volume that was replaced").await;
    }

    /// As on a network's file system.
    #[tokio::test]
    async fn where_no_event_comes_files_are_looked_at_by_time() {
        let mut site = site(Duration::from_millis(100)).await;
        site.files.watcher = None;
        let path = |name: &str| site.folder.path().join(name);
        let files =
            [path("sandhog.toml"), path("plugins.d/a.toml"), path("built/a.wasm"), path("built/a.wasm.sig")];
        for file in files {
            fs::write(&file, "a").expect("a file");
            site.hears("a file that was written").await;
            fs::remove_file(&file).expect("it is there");
            site.hears("a file that was removed").await;
        }
    }

    /// Log of which only the number of lines is kept.
    #[derive(Debug, Clone, Default)]
    struct Lines(Arc<AtomicUsize>);

    impl tracing::Subscriber for Lines {
        fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
            true
        }

        fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
            span::Id::from_u64(1)
        }

        fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

        fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

        fn event(&self, _: &tracing::Event<'_>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }

        fn enter(&self, _: &span::Id) {}

        fn exit(&self, _: &span::Id) {}
    }

    /// A place that can't be watched is told of when it can't any more, and not each time that is tried.
    #[tokio::test]
    async fn what_can_not_be_watched_is_told_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let watched = site(NEVER).await.teller.borrow().clone();
        let mut watcher = Watcher::new(watched, Arc::default()).expect("this system can watch files");
        let place = folder.path().join("place");
        let lines = Lines::default();
        let mut watch = || {
            let before = lines.0.load(Ordering::Relaxed);
            tracing::subscriber::with_default(lines.clone(), || watcher.watch(place.clone(), NEVER));
            lines.0.load(Ordering::Relaxed) - before
        };
        assert_eq!([watch(), watch(), watch()], [1, 0, 0], "it isn't there");
        fs::create_dir(&place).expect("a folder");
        assert_eq!(watch(), 0);
        fs::remove_dir(&place).expect("it is there");
        assert_eq!([watch(), watch()], [1, 0], "it is gone again");
    }

    #[tokio::test]
    async fn what_does_not_belong_to_it_is_passed_over() {
        let watched = site(NEVER).await.teller.borrow().clone();
        let folder = watched.plugins.parent().expect("a folder").to_owned();
        for name in ["sandhog.db-wal", "plugins.d/a.toml.swp", "plugins.d/a.wasm", "built/b.wasm", "built"] {
            assert!(!watched.is_about(&folder.join(name)), "{name}");
        }
        for name in ["sandhog.toml", "plugins.d", "plugins.d/b.toml", "built/a.wasm"] {
            assert!(watched.is_about(&folder.join(name)), "{name}");
        }
    }
}
