//! How full a directory with a quota is.
//!
//! What is there is counted once, when a run is about to write there and it wasn't counted lately; from then on it is
//! added up. All runs of all plugins that are granted the same directory share one account. What others do there
//! meanwhile shows with the next count, and nothing is refused for being full without a recent one.
//!
//! A file that was removed while somebody has it open still takes its space. It stays in the account until a count
//! finds that it is open no more.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use cap_primitives::ambient_authority;
use cap_primitives::fs::{self, Metadata, MetadataExt};
use sandhog_core::budget::Bytes;
use wasmtime_wasi::runtime::spawn_blocking;

/// What an entry of a directory counts beside its content, so that empty ones aren't endless.
pub(super) const ENTRY: u64 = 4096;

/// A run that is about to write has it counted again if the last count is older.
const STALE: Duration = Duration::from_secs(60);

/// Before something is refused, it is counted again if the last count is older.
const RECENT: Duration = Duration::from_secs(1);

/// A directory of more entries counts as full: to count it would take too long.
const ENTRIES_MAX: u64 = 1_000_000;

/// Files that are known to be open before those are forgotten that aren't any more.
const OPEN_KEPT: usize = 1024;

/// A file's identity on this machine: device and inode.
pub(super) type Identity = (u64, u64);

/// There is no room for what is to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the directory's quota is used up")]
pub(crate) struct Full;

/// The accounts of all directories that have a quota, as long as a plugin is there that is granted one.
#[derive(Debug, Default)]
pub(crate) struct Accounts(Mutex<HashMap<PathBuf, Weak<Account>>>);

impl Accounts {
    /// The account of a directory.
    ///
    /// # Errors
    /// If the directory isn't there.
    pub(crate) fn of(&self, directory: &Path) -> io::Result<Arc<Account>> {
        let root = directory.canonicalize()?;
        let mut accounts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(account) = accounts.get(&root).and_then(Weak::upgrade) {
            return Ok(account);
        }
        accounts.retain(|_, account| account.strong_count() > 0);
        let account =
            Arc::new(Account { root: root.clone(), books: Mutex::default(), counting: Mutex::default() });
        accounts.insert(root, Arc::downgrade(&account));
        Ok(account)
    }
}

/// How full one directory is.
#[derive(Debug)]
pub(crate) struct Account {
    root: PathBuf,
    books: Mutex<Books>,
    /// Held while counting: once is enough.
    counting: Mutex<()>,
}

#[derive(Debug, Default)]
struct Books {
    used: u64,
    /// All that was ever added, to know what came while it was counted.
    added: u64,
    counted: Option<Instant>,
    open: HashMap<Identity, Vec<Weak<File>>>,
}

impl Books {
    fn is_older(&self, age: Duration) -> bool {
        self.counted.is_none_or(|counted| counted.elapsed() > age)
    }

    fn is_open(&mut self, file: Identity) -> bool {
        let Some(handles) = self.open.get_mut(&file) else { return false };
        handles.retain(|handle| handle.strong_count() > 0);
        !handles.is_empty()
    }
}

impl Account {
    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers that a file is open.
    pub(super) fn opened(&self, metadata: &Metadata, file: &Arc<File>) {
        let mut books = self.books();
        if books.open.len() >= OPEN_KEPT {
            books.open.retain(|_, handles| handles.iter().any(|handle| handle.strong_count() > 0));
        }
        books.open.entry(identity(metadata)).or_default().push(Arc::downgrade(file));
    }

    /// Takes back what a name that is about to go has taken.
    pub(super) fn removed(&self, metadata: &Metadata) {
        let mut books = self.books();
        let is_last = metadata.is_file() && metadata.nlink() == 1 && !books.is_open(identity(metadata));
        let freed = if is_last { ENTRY + metadata.len() } else { ENTRY };
        books.used = books.used.saturating_sub(freed);
    }

    /// Takes back.
    pub(super) fn give(&self, bytes: u64) {
        let mut books = self.books();
        books.used = books.used.saturating_sub(bytes);
    }

    fn add(&self, bytes: u64, max: Bytes) -> Result<(), Full> {
        let mut books = self.books();
        match books.used.checked_add(bytes).filter(|used| *used <= max.0) {
            Some(used) => {
                books.used = used;
                books.added += bytes;
                Ok(())
            }
            None => Err(Full),
        }
    }

    /// Counts what is there, unless somebody has done so within this time.
    fn count(&self, age: Duration) -> io::Result<()> {
        let _one_at_a_time = self.counting.lock().unwrap_or_else(PoisonError::into_inner);
        let added = {
            let books = self.books();
            if !books.is_older(age) {
                return Ok(());
            }
            books.added
        };
        let found = size_of(&self.root)?;
        let mut books = self.books();
        // What is written while it is counted may be found or not; it is taken for not found.
        books.used = found.saturating_add(orphans(&books.open)).saturating_add(books.added - added);
        books.counted = Some(Instant::now());
        Ok(())
    }
}

/// A directory's account, and how full it may get.
#[derive(Debug, Clone)]
pub(crate) struct Quota {
    pub(crate) account: Arc<Account>,
    pub(crate) max: Bytes,
}

impl Quota {
    /// Sees to it that what is there was counted lately.
    pub(super) async fn settle(&self) -> io::Result<()> {
        self.count(STALE).await
    }

    /// Adds what is to be written.
    pub(super) async fn take(&self, bytes: u64) -> Result<(), Full> {
        if self.take_now(bytes).is_ok() {
            return Ok(());
        }
        // Somebody may have made room. If that can't be found out, nobody has.
        self.count(RECENT).await.map_err(|_| Full)?;
        self.take_now(bytes)
    }

    /// As [`Self::take`], by what is known.
    pub(super) fn take_now(&self, bytes: u64) -> Result<(), Full> {
        self.account.add(bytes, self.max)
    }

    async fn count(&self, age: Duration) -> io::Result<()> {
        if !self.account.books().is_older(age) {
            return Ok(());
        }
        let account = Arc::clone(&self.account);
        spawn_blocking(move || account.count(age)).await
    }
}

pub(super) fn identity(metadata: &Metadata) -> Identity {
    (metadata.dev(), metadata.ino())
}

/// What removed files take that are still open.
fn orphans(open: &HashMap<Identity, Vec<Weak<File>>>) -> u64 {
    let orphan = |handles: &Vec<Weak<File>>| {
        let file = handles.iter().find_map(Weak::upgrade)?;
        let metadata = Metadata::from_file(&file).ok()?;
        (metadata.nlink() == 0).then(|| metadata.len())
    };
    open.values().filter_map(orphan).sum()
}

/// The size of all that is in a directory. Links are not followed, and directories are opened from their parent by what
/// is there, so whoever swaps one meanwhile leads nobody outside.
fn size_of(root: &Path) -> io::Result<u64> {
    let root = fs::open_ambient_dir(root, ambient_authority())?;
    let (mut sum, mut entries) = (0, 0);
    let mut linked = std::collections::HashSet::new();
    let mut left = vec![PathBuf::from(".")];
    while let Some(directory) = left.pop() {
        let Ok(listed) = fs::read_dir(&root, &directory) else { continue };
        for entry in listed {
            // What goes away while it is counted isn't there.
            let Ok(entry) = entry else { continue };
            let Ok(metadata) = entry.metadata() else { continue };
            entries += 1;
            if entries > ENTRIES_MAX {
                return Ok(u64::MAX);
            }
            sum += ENTRY;
            if metadata.is_dir() {
                left.push(directory.join(entry.file_name()));
            } else if metadata.nlink() == 1 || linked.insert(identity(&metadata)) {
                sum += metadata.len();
            }
        }
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn quota(folder: &Path, max: u64) -> Quota {
        Quota { account: Accounts::default().of(folder).expect("a folder"), max: Bytes(max) }
    }

    fn metadata(folder: &Path, name: &str) -> Metadata {
        let root = File::open(folder).expect("a folder");
        fs::stat(&root, Path::new(name), fs::FollowSymlinks::No).expect("a file")
    }

    #[tokio::test]
    async fn what_is_there_counts_and_what_is_added_too() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(folder.path().join("sub")).expect("a folder");
        std::fs::write(folder.path().join("sub/file"), vec![0; 1000]).expect("a file");
        std::fs::hard_link(folder.path().join("sub/file"), folder.path().join("again")).expect("a link");
        symlink("/", folder.path().join("root")).expect("a link");
        let quota = quota(folder.path(), 4 * ENTRY + 1000 + 1 + 500);
        quota.settle().await.expect("it can be counted");
        assert_eq!(quota.take(501).await, Err(Full), "the name of the link counts as well");
        assert_eq!(quota.take(500).await, Ok(()));
        assert_eq!(quota.take(1).await, Err(Full));
    }

    #[tokio::test]
    async fn a_directory_has_one_account_by_whatever_name() {
        let folder = tempfile::tempdir().expect("a folder");
        let other = folder.path().join(".");
        let accounts = Accounts::default();
        let first = accounts.of(folder.path()).expect("a folder");
        assert!(Arc::ptr_eq(&first, &accounts.of(&other).expect("a folder")));
        assert!(accounts.of(&folder.path().join("missing")).is_err());
    }

    #[tokio::test]
    async fn a_file_that_is_open_keeps_its_space_when_its_name_goes() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("file");
        std::fs::write(&path, vec![0; 1000]).expect("a file");
        let quota = quota(folder.path(), ENTRY + 1000);
        quota.settle().await.expect("it can be counted");
        let (found, open) = (metadata(folder.path(), "file"), Arc::new(File::open(&path).expect("a file")));
        quota.account.opened(&found, &open);
        quota.account.removed(&found);
        std::fs::remove_file(&path).expect("it is there");
        assert_eq!(quota.take_now(ENTRY + 1), Err(Full));
        quota.account.count(Duration::ZERO).expect("it can be counted");
        assert_eq!(quota.take_now(ENTRY + 1), Err(Full));
        drop(open);
        quota.account.count(Duration::ZERO).expect("it can be counted");
        assert_eq!(quota.take_now(ENTRY + 1000), Ok(()));
    }

    #[tokio::test]
    async fn a_name_of_several_gives_back_its_entry_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("a"), vec![0; 1000]).expect("a file");
        std::fs::hard_link(folder.path().join("a"), folder.path().join("b")).expect("a link");
        let quota = quota(folder.path(), 2 * ENTRY + 1000);
        quota.settle().await.expect("it can be counted");
        quota.account.removed(&metadata(folder.path(), "a"));
        assert_eq!((quota.take_now(ENTRY + 1), quota.take_now(ENTRY)), (Err(Full), Ok(())));
    }
}
