//! Account of how full a directory with a quota is.
//!
//! The directory's content is counted once, when a run is about to write there and it wasn't counted lately; from then on it is
//! added up. All runs of all plugins that are granted the same directory share one account. Changes that others make there
//! meanwhile show with the next count, and nothing is refused for being full without a recent one.
//!
//! Space that runs free side by side must not be given back twice. So nothing is given back by what was seen before the change:
//!
//! - Of each file that is open the account knows the length that it was charged, and gives back that, once, whoever cuts
//!   the file off. While somebody writes to the file, nothing is: the next count finds what has become of it.
//! - Names are removed and replaced one at a time, and what was there is looked at afterwards, by a descriptor.
//!
//! A file that was removed while somebody has it open still takes its space. It is given back when the last one closes
//! it.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use cap_fs_ext::{FollowSymlinks, OpenOptionsFollowExt};
use cap_primitives::fs::{self, Metadata, MetadataExt, OpenOptions, OpenOptionsExt};
use rustix::fs::OFlags;
use sandhog_core::budget::Bytes;
use wasmtime_wasi::runtime::spawn_blocking;

/// Number of bytes that an entry of a directory counts beside its content, so that empty ones aren't endless.
pub(super) const ENTRY: u64 = 4096;

/// Maximum age of the last count when a run is about to write; an older one is repeated.
const STALE: Duration = Duration::from_secs(60);

/// Maximum age of the last count when something is refused; an older one is repeated before that.
const RECENT: Duration = Duration::from_secs(1);

/// Maximum number of entries; a directory of more counts as full: to count it would take too long.
const ENTRIES_MAX: u64 = 1_000_000;

/// Identity of a file on this machine: device and inode.
pub(super) type Identity = (u64, u64);

/// Error: there is no room for what is to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the directory's quota is used up")]
pub(super) struct Full;

/// Account of one directory.
#[derive(Debug)]
pub(super) struct Account {
    root: Arc<File>,
    books: Mutex<Books>,
    /// Lock that is held shared while opening or counting, and alone while making room: so what was there is still there.
    making_room: RwLock<()>,
    /// Lock that is held while counting: once is enough.
    counting: Mutex<()>,
}

#[derive(Debug, Default)]
struct Books {
    used: u64,
    /// Bytes that were ever added, to know how many came while it was counted.
    added: u64,
    counted: Option<Instant>,
    /// Files that are open.
    open: HashMap<Identity, Charged>,
}

/// Record of a file that is open.
#[derive(Debug, Default)]
struct Charged {
    /// Number of times that it is open.
    handles: usize,
    /// Length that it was charged, in bytes.
    len: u64,
    /// Bytes that were added to that since a count began.
    grown: u64,
    /// Number of writes to it that are under way.
    writes: usize,
    /// Whether it has no name any more.
    removed: bool,
}

impl Books {
    fn is_older(&self, age: Duration) -> bool {
        self.counted.is_none_or(|counted| counted.elapsed() > age)
    }

    fn add(&mut self, bytes: u64, max: Bytes) -> Result<(), Full> {
        // This is allowed however full it is: a change that adds nothing may cut a file off, which makes room.
        if bytes == 0 {
            return Ok(());
        }
        let used = self.used.checked_add(bytes).filter(|used| *used <= max.0).ok_or(Full)?;
        self.used = used;
        self.added += bytes;
        Ok(())
    }

    fn give(&mut self, bytes: u64) {
        self.used = self.used.saturating_sub(bytes);
    }
}

impl Account {
    /// Creates the account of a directory in which nothing was counted yet.
    pub(super) fn new(root: Arc<File>) -> Self {
        Self { root, books: Mutex::default(), making_room: RwLock::default(), counting: Mutex::default() }
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens something while nobody makes room. Blocks.
    pub(super) fn opening<T>(&self, open: impl FnOnce() -> T) -> T {
        let _others_may_too = self.making_room.read().unwrap_or_else(PoisonError::into_inner);
        open()
    }

    /// Makes room while nobody else does, opens anything or counts. Blocks.
    fn making_room<T>(&self, make: impl FnOnce() -> T) -> T {
        let _alone = self.making_room.write().unwrap_or_else(PoisonError::into_inner);
        make()
    }

    /// Runs a call that removes what is at a path, or puts something else there, and gives back the space that this has taken.
    /// Blocks.
    pub(super) fn removing(
        &self,
        dir: &File,
        path: &Path,
        remove: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<()> {
        self.making_room(|| {
            // If there is no descriptor of it, its space is given back by the next count.
            let there = itself(dir, path);
            remove()?;
            let Ok(metadata) = there.and_then(|there| Metadata::from_file(&there)) else { return Ok(()) };
            // Nothing happens to a file whose one name is moved to another of its names.
            let now = itself(dir, path).and_then(|now| Metadata::from_file(&now));
            if now.map_or(true, |now| identity(&now) != identity(&metadata)) {
                self.removed(&metadata);
            }
            Ok(())
        })
    }

    /// Gives back the space of a name that is gone, by what is left of the file.
    fn removed(&self, metadata: &Metadata) {
        let mut books = self.books();
        books.give(ENTRY);
        if metadata.is_dir() || metadata.nlink() > 0 {
            return;
        }
        match books.open.get_mut(&identity(metadata)) {
            Some(open) => open.removed = true,
            None => books.give(metadata.len()),
        }
    }

    /// Gives back bytes.
    pub(super) fn give(&self, bytes: u64) {
        self.books().give(bytes);
    }

    /// Counts the directory's content, unless it was counted within this time.
    fn count(&self, age: Duration) -> io::Result<()> {
        let _one_at_a_time = self.counting.lock().unwrap_or_else(PoisonError::into_inner);
        let (added, mut sizes) = {
            let mut books = self.books();
            if !books.is_older(age) {
                return Ok(());
            }
            books.open.values_mut().for_each(|open| open.grown = 0);
            (books.added, books.open.keys().map(|open| (*open, None)).collect())
        };
        let found = self.opening(|| size_of(&self.root, &mut sizes))?;
        let mut books = self.books();
        // Bytes that are written while it is counted may be found or not; they are taken for not found.
        let removed: u64 = books.open.values().filter(|open| open.removed).map(|open| open.len).sum();
        books.used = found.saturating_add(removed).saturating_add(books.added - added);
        for (identity, size) in sizes {
            if let (Some(open), Some(size)) = (books.open.get_mut(&identity), size) {
                open.len = size + open.grown;
            }
        }
        books.counted = Some(Instant::now());
        Ok(())
    }
}

/// Quota: a directory's account, and how full it may get.
#[derive(Debug, Clone)]
pub(super) struct Quota {
    pub(super) account: Arc<Account>,
    pub(super) max: Bytes,
}

impl Quota {
    /// Ensures that the directory was counted lately.
    pub(super) async fn settle(&self) -> io::Result<()> {
        self.count(STALE).await
    }

    /// Runs a call that needs room. If there is none by what is known, it is tried once more after a recount.
    pub(super) async fn within<T>(&self, ask: impl Fn() -> Result<T, Full>) -> Result<T, Full> {
        if let Ok(answer) = ask() {
            return Ok(answer);
        }
        self.recount().await;
        ask()
    }

    /// Counts again, to see whether somebody has made room. If that can't be found out, nobody has.
    pub(super) async fn recount(&self) {
        self.count(RECENT).await.ok();
    }

    /// Charges bytes that are to be written or made, by what is known.
    pub(super) fn take_now(&self, bytes: u64) -> Result<(), Full> {
        self.account.books().add(bytes, self.max)
    }

    async fn count(&self, age: Duration) -> io::Result<()> {
        if !self.account.books().is_older(age) {
            return Ok(());
        }
        let account = Arc::clone(&self.account);
        spawn_blocking(move || account.count(age)).await
    }
}

/// Handle of a file that a run has open in a directory with a quota.
#[derive(Debug)]
pub(super) struct OpenFile {
    quota: Quota,
    identity: Identity,
}

impl OpenFile {
    /// Creates the handle of a file that was just opened. To be called where nobody makes room meanwhile.
    pub(super) fn new(quota: Quota, metadata: &Metadata) -> Self {
        let identity = identity(metadata);
        // If it is open already, the length on record is more exact.
        let charged = || Charged { len: metadata.len(), ..Charged::default() };
        quota.account.books().open.entry(identity).or_insert_with(charged).handles += 1;
        Self { quota, identity }
    }

    /// Quota that its account is held to.
    pub(super) fn quota(&self) -> &Quota {
        &self.quota
    }

    /// Charges the bytes by which a write makes the file longer, and lets the write begin. With `at` `None` it writes to the
    /// end.
    pub(super) fn write_now(self: &Arc<Self>, at: Option<u64>, bytes: u64) -> Result<Writing, Full> {
        self.grow(|len| at.unwrap_or(len).saturating_add(bytes))?;
        self.change(|file| file.writes += 1);
        Ok(Writing(Arc::clone(self)))
    }

    /// Makes the file longer or shorter. Blocks.
    pub(super) fn set_len(&self, file: &File, len: u64) -> io::Result<Result<(), Full>> {
        let account = &self.quota.account;
        account.making_room(|| {
            if self.grow(|_| len).is_err() {
                return Ok(Err(Full));
            }
            // A write that is under way may come before the cut, or after it.
            let cut = self.change(|file| match file.writes {
                0 => std::mem::replace(&mut file.len, len).saturating_sub(len),
                _ => 0,
            });
            file.set_len(len)?;
            account.give(cut);
            Ok(Ok(()))
        })
    }

    fn grow(&self, end: impl FnOnce(u64) -> u64) -> Result<(), Full> {
        let mut books = self.quota.account.books();
        let Some(len) = books.open.get(&self.identity).map(|file| file.len) else { return Ok(()) };
        let more = end(len).saturating_sub(len);
        books.add(more, self.quota.max)?;
        if let Some(file) = books.open.get_mut(&self.identity) {
            file.len += more;
            file.grown += more;
        }
        Ok(())
    }

    /// Changes the file's record, which is there as long as this handle is.
    fn change<T: Default>(&self, change: impl FnOnce(&mut Charged) -> T) -> T {
        self.quota.account.books().open.get_mut(&self.identity).map(change).unwrap_or_default()
    }
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        let mut books = self.quota.account.books();
        let Some(file) = books.open.get_mut(&self.identity) else { return };
        file.handles -= 1;
        if file.handles == 0
            && let Some(file) = books.open.remove(&self.identity)
            && file.removed
        {
            books.give(file.len);
        }
    }
}

/// Write that is under way until this is dropped.
#[derive(Debug)]
pub(super) struct Writing(Arc<OpenFile>);

impl Drop for Writing {
    fn drop(&mut self) {
        self.0.change(|file| file.writes -= 1);
    }
}

pub(super) fn identity(metadata: &Metadata) -> Identity {
    (metadata.dev(), metadata.ino())
}

/// Opens what is at a path, itself and not what it may point to: to look at, whatever becomes of the path.
fn itself(dir: &File, path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    let to_look_at = i32::try_from(OFlags::PATH.bits()).unwrap_or_default();
    fs::open(dir, path, options.read(true).custom_flags(to_look_at).follow(FollowSymlinks::No))
}

/// Sums the size of all that is in a directory, and notes the sizes of the files in `of`. Links are not followed, and
/// directories are opened below the root by what is there, so swapping one meanwhile leads nobody outside.
fn size_of(root: &File, of: &mut HashMap<Identity, Option<u64>>) -> io::Result<u64> {
    let (mut sum, mut entries) = (0, 0);
    let mut linked = std::collections::HashSet::new();
    let mut left = vec![PathBuf::from(".")];
    while let Some(directory) = left.pop() {
        let Ok(listed) = fs::read_dir(root, &directory) else { continue };
        for entry in listed {
            // An entry that goes away while it is counted isn't there.
            let Ok(entry) = entry else { continue };
            let Ok(metadata) = entry.metadata() else { continue };
            entries += 1;
            if entries > ENTRIES_MAX {
                return Ok(u64::MAX);
            }
            sum += ENTRY;
            if let Some(size) = of.get_mut(&identity(&metadata)) {
                *size = Some(metadata.len());
            }
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
        let root = Arc::new(File::open(folder).expect("a folder"));
        Quota { account: Arc::new(Account::new(root)), max: Bytes(max) }
    }

    /// Opens a file as a run does, to write.
    fn open(quota: &Quota, name: &str) -> (File, Arc<OpenFile>) {
        quota.account.opening(|| {
            let mut options = OpenOptions::new();
            let file = fs::open(&quota.account.root, Path::new(name), options.write(true)).expect("a file");
            let metadata = Metadata::from_file(&file).expect("it is open");
            (file, Arc::new(OpenFile::new(quota.clone(), &metadata)))
        })
    }

    fn remove(quota: &Quota, name: &str) {
        let (root, name) = (&*quota.account.root, Path::new(name));
        quota.account.removing(root, name, || fs::remove_file(root, name)).expect("it is there");
    }

    fn used(quota: &Quota) -> u64 {
        quota.account.books().used
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
        let refused = quota.within(|| quota.take_now(501)).await;
        assert_eq!(refused, Err(Full), "the name of the link counts as well");
        assert_eq!(quota.within(|| quota.take_now(500)).await, Ok(()));
        assert_eq!(quota.within(|| quota.take_now(1)).await, Err(Full));
    }

    #[test]
    fn a_file_that_is_open_keeps_its_space_when_its_name_goes() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("file"), vec![0; 1000]).expect("a file");
        let quota = quota(folder.path(), 10_000);
        quota.account.count(Duration::ZERO).expect("it can be counted");
        let (first, again) = (open(&quota, "file"), open(&quota, "file"));
        remove(&quota, "file");
        assert_eq!(used(&quota), 1000);
        quota.account.count(Duration::ZERO).expect("it can be counted");
        assert_eq!(used(&quota), 1000);
        first.1.write_now(Some(1000), 500).expect("there is room");
        drop(first);
        assert_eq!(used(&quota), 1500);
        drop(again);
        assert_eq!(used(&quota), 0);
    }

    #[test]
    fn a_name_of_several_gives_back_its_entry_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("a"), vec![0; 1000]).expect("a file");
        std::fs::hard_link(folder.path().join("a"), folder.path().join("b")).expect("a link");
        let quota = quota(folder.path(), 2 * ENTRY + 1000);
        quota.account.count(Duration::ZERO).expect("it can be counted");
        let root = &*quota.account.root;
        let (a, b) = (Path::new("a"), Path::new("b"));
        quota.account.removing(root, b, || fs::rename(root, a, root, b)).expect("both are one file");
        assert_eq!(used(&quota), 2 * ENTRY + 1000, "and so nothing was moved");
        remove(&quota, "a");
        assert_eq!(used(&quota), ENTRY + 1000);
        remove(&quota, "b");
        assert_eq!(used(&quota), 0);
    }

    #[test]
    fn what_is_replaced_is_given_back() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("a"), vec![0; 1000]).expect("a file");
        std::fs::write(folder.path().join("b"), vec![0; 300]).expect("a file");
        symlink("somewhere", folder.path().join("c")).expect("a link");
        let quota = quota(folder.path(), 100_000);
        quota.account.count(Duration::ZERO).expect("it can be counted");
        let root = &*quota.account.root;
        let rename = |from: &str, to: &str| {
            let (from, to) = (Path::new(from), Path::new(to));
            quota.account.removing(root, to, || fs::rename(root, from, root, to)).expect("it is there");
            used(&quota)
        };
        assert_eq!(rename("b", "a"), 2 * ENTRY + 300 + "somewhere".len() as u64);
        assert_eq!(rename("a", "c"), ENTRY + 300);
        assert_eq!(rename("c", "new"), ENTRY + 300);
    }

    #[test]
    fn what_two_cut_off_is_given_back_once() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("file"), vec![0; 1000]).expect("a file");
        let quota = quota(folder.path(), 10_000);
        quota.account.count(Duration::ZERO).expect("it can be counted");
        let [(first, ours), (second, theirs)] = [open(&quota, "file"), open(&quota, "file")];
        // Neither has seen what the other one did.
        assert_eq!(ours.set_len(&first, 0).expect("a file"), Ok(()));
        assert_eq!(theirs.set_len(&second, 0).expect("a file"), Ok(()));
        assert_eq!(used(&quota), ENTRY);
        assert_eq!(theirs.set_len(&second, 9000).expect("a file"), Err(Full));
        assert_eq!(theirs.set_len(&second, 700).expect("a file"), Ok(()));
        assert_eq!((used(&quota), first.metadata().expect("a file").len()), (ENTRY + 700, 700));
        remove(&quota, "file");
        drop((ours, theirs));
        assert_eq!(used(&quota), 0);
    }

    #[test]
    fn what_is_more_than_full_can_be_emptied() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("file"), vec![0; 1000]).expect("a file");
        let quota = quota(folder.path(), ENTRY + 500);
        quota.account.count(Duration::ZERO).expect("it can be counted");
        let (file, open) = open(&quota, "file");
        assert_eq!(open.set_len(&file, 1001).expect("a file"), Err(Full));
        assert_eq!(open.set_len(&file, 400).expect("a file"), Ok(()));
        assert_eq!(used(&quota), ENTRY + 400);
    }

    #[test]
    fn while_somebody_writes_nothing_is_given_back() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("file"), vec![0; 1000]).expect("a file");
        let quota = quota(folder.path(), 10_000);
        quota.account.count(Duration::ZERO).expect("it can be counted");
        let (file, open) = open(&quota, "file");
        let writing = open.write_now(Some(1000), 500).expect("there is room");
        // The write may come after the cut, and its bytes are there.
        assert_eq!(open.set_len(&file, 0).expect("a file"), Ok(()));
        assert_eq!(used(&quota), ENTRY + 1500);
        drop(writing);
        quota.account.count(Duration::ZERO).expect("it can be counted");
        assert_eq!(used(&quota), ENTRY);
        drop(open.write_now(Some(0), 200).expect("there is room"));
        assert_eq!(used(&quota), ENTRY + 200, "a count tells how long the open files are");
    }

    #[test]
    fn however_often_a_file_is_opened_it_is_known_once_and_only_while_it_is_open() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("file"), "x").expect("a file");
        let quota = quota(folder.path(), 10_000);
        let kept = open(&quota, "file");
        for _ in 0..1000 {
            drop(open(&quota, "file"));
        }
        let known = || quota.account.books().open.values().map(|open| open.handles).collect::<Vec<_>>();
        assert_eq!(known(), [1]);
        drop(kept);
        assert!(known().is_empty());
    }

    /// Threads cut off, rename, remove and make anew the same few files; whatever order that makes, the books say in the
    /// end what is there.
    #[test]
    fn what_is_done_side_by_side_is_given_back_once() {
        const THREADS: usize = 4;
        const ROUNDS: usize = 500;
        let folder = tempfile::tempdir().expect("a folder");
        let quota = quota(folder.path(), u64::MAX / 2);
        quota.account.count(Duration::ZERO).expect("it can be counted");
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let quota = &quota;
                scope.spawn(move || {
                    for round in 0..ROUNDS {
                        let name = ["a", "b", "c"][(round + thread) % 3];
                        write_and_cut(quota, name, round as u64 % 5000);
                        if round % 2 == thread % 2 {
                            let (root, name) = (&*quota.account.root, Path::new(name));
                            quota.account.removing(root, name, || fs::remove_file(root, name)).ok();
                        }
                    }
                });
            }
        });
        assert!(quota.account.books().open.is_empty());
        let by_the_books = used(&quota);
        quota.account.count(Duration::ZERO).expect("it can be counted");
        assert_eq!(by_the_books, used(&quota));
    }

    fn write_and_cut(quota: &Quota, name: &str, len: u64) {
        let account = &quota.account;
        let made = account.opening(|| {
            let mut options = OpenOptions::new();
            let file = fs::open(&account.root, Path::new(name), options.write(true).create_new(true));
            file.map(|_| quota.take_now(ENTRY).expect("there is room")).ok();
            let file = fs::open(&account.root, Path::new(name), OpenOptions::new().write(true)).ok()?;
            let open = OpenFile::new(quota.clone(), &Metadata::from_file(&file).ok()?);
            Some((file, Arc::new(open)))
        });
        let Some((file, open)) = made else { return };
        open.set_len(&file, len).expect("a file").expect("there is room");
        open.set_len(&file, len / 2).expect("a file").expect("there is room");
    }
}
