//! How full a directory with a quota is.
//!
//! What is there is counted once, when a run is about to write there and it wasn't counted lately; from then on it is
//! added up. All runs of all plugins that are granted the same directory share one account. What others do there
//! meanwhile shows with the next count, and nothing is refused for being full without a recent one.
//!
//! What runs do side by side must not be given back twice. So nothing is given back by what was seen before the change:
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

/// What an entry of a directory counts beside its content, so that empty ones aren't endless.
pub(super) const ENTRY: u64 = 4096;

/// A run that is about to write has it counted again if the last count is older.
const STALE: Duration = Duration::from_secs(60);

/// Before something is refused, it is counted again if the last count is older.
const RECENT: Duration = Duration::from_secs(1);

/// A directory of more entries counts as full: to count it would take too long.
const ENTRIES_MAX: u64 = 1_000_000;

/// A file's identity on this machine: device and inode.
pub(super) type Identity = (u64, u64);

/// There is no room for what is to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the directory's quota is used up")]
pub(super) struct Full;

/// How full one directory is.
#[derive(Debug)]
pub(super) struct Account {
    root: Arc<File>,
    books: Mutex<Books>,
    /// Held shared by whoever opens or counts, and alone by whoever makes room: what was there is still there.
    making_room: RwLock<()>,
    /// Held while counting: once is enough.
    counting: Mutex<()>,
}

#[derive(Debug, Default)]
struct Books {
    used: u64,
    /// All that was ever added, to know what came while it was counted.
    added: u64,
    counted: Option<Instant>,
    /// The files that are open.
    open: HashMap<Identity, Charged>,
}

/// What the account knows of a file that is open.
#[derive(Debug, Default)]
struct Charged {
    /// How often it is open.
    handles: usize,
    /// The length that it was charged.
    len: u64,
    /// What was added to that since a count began.
    grown: u64,
    /// Writes to it that are under way.
    writes: usize,
    /// It has no name any more.
    removed: bool,
}

impl Books {
    fn is_older(&self, age: Duration) -> bool {
        self.counted.is_none_or(|counted| counted.elapsed() > age)
    }

    fn add(&mut self, bytes: u64, max: Bytes) -> Result<(), Full> {
        // However full it is: what is cut off makes room.
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
    /// The account of a directory in which nothing was counted yet.
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

    /// Does something that removes what is at a path, or puts something else there, and gives back what that has taken.
    /// Blocks.
    pub(super) fn removing(
        &self,
        dir: &File,
        path: &Path,
        remove: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<()> {
        self.making_room(|| {
            // What there is no descriptor of is given back by the next count.
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

    /// Gives back what a name has taken that is gone, by what is left.
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

    /// Takes back.
    pub(super) fn give(&self, bytes: u64) {
        self.books().give(bytes);
    }

    /// Counts what is there, unless somebody has done so within this time.
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
        // What is written while it is counted may be found or not; it is taken for not found.
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

/// A directory's account, and how full it may get.
#[derive(Debug, Clone)]
pub(super) struct Quota {
    pub(super) account: Arc<Account>,
    pub(super) max: Bytes,
}

impl Quota {
    /// Sees to it that what is there was counted lately.
    pub(super) async fn settle(&self) -> io::Result<()> {
        self.count(STALE).await
    }

    /// Does something that needs room. If there is none by what is known, it is tried once more by what is there.
    pub(super) async fn within<T>(&self, ask: impl Fn() -> Result<T, Full>) -> Result<T, Full> {
        if let Ok(answer) = ask() {
            return Ok(answer);
        }
        self.recount().await;
        ask()
    }

    /// Sees whether somebody has made room. If that can't be found out, nobody has.
    pub(super) async fn recount(&self) {
        self.count(RECENT).await.ok();
    }

    /// Adds what is to be made, by what is known.
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

/// A file that a run has open in a directory with a quota.
#[derive(Debug)]
pub(super) struct OpenFile {
    quota: Quota,
    identity: Identity,
}

impl OpenFile {
    /// One that was just opened. To be called where nobody makes room meanwhile.
    pub(super) fn new(quota: Quota, metadata: &Metadata) -> Self {
        let identity = identity(metadata);
        // Whoever has it open already knows better how long it is.
        let charged = || Charged { len: metadata.len(), ..Charged::default() };
        quota.account.books().open.entry(identity).or_insert_with(charged).handles += 1;
        Self { quota, identity }
    }

    /// Whose account it is in, and how full that may get.
    pub(super) fn quota(&self) -> &Quota {
        &self.quota
    }

    /// Adds by how much a write makes it longer, and lets the write begin. Without a place it is at the end.
    pub(super) fn write_now(self: &Arc<Self>, at: Option<u64>, bytes: u64) -> Result<Writing, Full> {
        self.grow(|len| at.unwrap_or(len).saturating_add(bytes))?;
        self.change(|file| file.writes += 1);
        Ok(Writing(Arc::clone(self)))
    }

    /// Makes it longer or shorter. Blocks.
    pub(super) fn set_len(&self, file: &File, len: u64) -> io::Result<Result<(), Full>> {
        let account = &self.quota.account;
        account.making_room(|| {
            if self.grow(|_| len).is_err() {
                return Ok(Err(Full));
            }
            // What is being written meanwhile may come before the cut, or after it.
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

    /// Changes what is known of it: it is there as long as this handle is.
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

/// A write that is under way, until this is dropped.
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

/// What is at a path, itself and not what it may point to: to look at, whatever becomes of the path.
fn itself(dir: &File, path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    let to_look_at = i32::try_from(OFlags::PATH.bits()).unwrap_or_default();
    fs::open(dir, path, options.read(true).custom_flags(to_look_at).follow(FollowSymlinks::No))
}

/// The size of all that is in a directory, and of those files that are asked for. Links are not followed, and
/// directories are opened from their parent by what is there, so whoever swaps one meanwhile leads nobody outside.
fn size_of(root: &File, of: &mut HashMap<Identity, Option<u64>>) -> io::Result<u64> {
    let (mut sum, mut entries) = (0, 0);
    let mut linked = std::collections::HashSet::new();
    let mut left = vec![PathBuf::from(".")];
    while let Some(directory) = left.pop() {
        let Ok(listed) = fs::read_dir(root, &directory) else { continue };
        for entry in listed {
            // What goes away while it is counted isn't there.
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
