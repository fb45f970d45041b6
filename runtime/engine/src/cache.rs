//! Cache of compiled components, in a folder, so that a restart doesn't compile them again.
//!
//! An entry is two files: the artefact, and its record, which has the checksum and what was found out about the component.
//! Both are written aside and renamed, the artefact first, so a reader sees either nothing or all of it; an artefact that
//! doesn't fit its record, or that wasmtime refuses, counts as missing. The name holds the digest of the component and of
//! everything about wasmtime and its settings that the artefact depends on.
//!
//! Everything in the cache can be made again, so the least recently used entries are removed when it gets too large.
//!
//! To load an artefact is to run whatever machine code is in it. So the folder has to belong to the user that the daemon
//! runs as, nobody else may be able to write there, and it is held open: another folder that is put into its place changes
//! nothing. Each file is checked in the same way when it is read.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fmt;
use std::fs::{self, File};
use std::hash::{Hash, Hasher};
use std::io::{self, Read, Seek, Write};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use data_encoding::HEXLOWER;
use sandhog_core::id::Revision;
use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;
use wasmtime::component::Component;

use sandhog_files::own_folder::OwnFolder;

/// Maximum size of all artefacts together, in bytes. Each is two to four times the size of its component.
const SIZE_MAX: u64 = 2 << 30;

/// Age from which a file that was begun is taken to be abandoned.
const BEGUN_MAX: Duration = Duration::from_secs(3600);

/// Maximum size of a record, in bytes.
const RECORD_MAX: u64 = 1 << 20;

/// Prefix of the names of files that are being written.
const BEGUN: &str = ".new-";

/// Folder of compiled components.
#[derive(Debug)]
pub(crate) struct Cache {
    folder: Arc<OwnFolder>,
    size_max: u64,
    /// Digest of the engine's version and settings.
    settings: String,
}

impl Cache {
    /// Opens the folder, which is created if it isn't there.
    ///
    /// # Errors
    /// The folder can't be created, belongs to another user, or others could write there.
    pub(crate) fn open(folder: &Path, engine: &wasmtime::Engine) -> io::Result<Self> {
        let folder = Arc::new(OwnFolder::open(folder)?);
        let mut hasher = DigestHasher(Sha256::new());
        engine.precompile_compatibility_hash().hash(&mut hasher);
        let settings = HEXLOWER.encode(&hasher.0.finalize()[..8]);
        Ok(Self { folder, size_max: SIZE_MAX, settings })
    }

    /// Finds the artefact of a component that looks as it was written. `None` if there is none. Its bytes are checked only
    /// when it is loaded: most artefacts of a daemon with many plugins never are.
    pub(crate) fn find(&self, revision: Revision) -> Option<Artefact> {
        let name = self.name_of(revision);
        let mut text = String::new();
        let record = self.find_file(&record_of(&name))?;
        record.take(RECORD_MAX).read_to_string(&mut text).ok()?;
        let record = Record::parse(&text)?;
        let file = self.find_file(&artefact_of(&name))?;
        let artefact = Artefact { folder: Arc::clone(&self.folder), name, file, record };
        (artefact.file.metadata().ok()?.len() == artefact.record.size).then_some(artefact)
    }

    /// Opens a kept file. `None` if there is none, or it is of no use, which is logged: somebody else may have written it.
    fn find_file(&self, name: &str) -> Option<File> {
        match self.folder.open_file(name) {
            Ok(file) => Some(file.into_file()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                let cache = self.folder.path().display();
                tracing::warn!(%cache, file = name, %error, "a file in the cache is of no use");
                None
            }
        }
    }

    /// Creates a file for an artefact that is about to be made. It is removed unless it is kept.
    ///
    /// # Errors
    /// The file can't be created.
    pub(crate) fn begin(&self) -> io::Result<NamedTempFile> {
        tempfile::Builder::new().prefix(BEGUN).tempfile_in(self.folder.held())
    }

    /// Keeps an artefact for later.
    ///
    /// # Errors
    /// The artefact can't be written. Nothing half-written is left to be found.
    pub(crate) fn keep(&self, revision: Revision, written: NamedTempFile) -> io::Result<()> {
        let name = self.name_of(revision);
        let file = written.reopen()?;
        let record = Record { sha256: digest_of(&file)?, size: file.metadata()?.len(), vetted: None };
        self.persist(written, &artefact_of(&name))?;
        self.write_record(&name, &record)?;
        self.prune()
    }

    /// Records what was found out about a component whose artefact is kept.
    ///
    /// # Errors
    /// The record can't be written.
    pub(crate) fn vet(&self, artefact: &mut Artefact, vetted: Vetted) -> io::Result<()> {
        artefact.record.vetted = Some(vetted);
        self.write_record(&artefact.name, &artefact.record)
    }

    fn write_record(&self, name: &str, record: &Record) -> io::Result<()> {
        let mut file = self.begin()?;
        file.write_all(record.to_string().as_bytes())?;
        self.persist(file, &record_of(name))
    }

    /// Renames a file to its final name.
    fn persist(&self, file: NamedTempFile, name: &str) -> io::Result<()> {
        file.as_file().sync_all()?;
        file.persist(self.folder.held().join(name))?;
        Ok(())
    }

    /// Removes the least recently used artefacts as long as all together are too large, files that were never finished, and
    /// records of artefacts that are gone. Others may do the same meanwhile.
    fn prune(&self) -> io::Result<()> {
        let (mut artefacts, mut old_records) = (Vec::new(), Vec::new());
        for entry in fs::read_dir(self.folder.held())? {
            let entry = entry?;
            let metadata = match entry.metadata() {
                Ok(metadata) => metadata,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            let used = metadata.modified()?;
            let is_old = used.elapsed().is_ok_and(|age| age > BEGUN_MAX);
            let file = entry.file_name();
            let without =
                |suffix| file.to_str().and_then(|file| file.strip_suffix(suffix)).map(str::to_owned);
            if let Some(name) = without(ARTEFACT) {
                artefacts.push((used, metadata.len(), name));
            } else if !is_old {
                // What it belongs to may be on its way.
            } else if let Some(name) = without(RECORD) {
                old_records.push(name);
            } else if file.as_encoded_bytes().starts_with(BEGUN.as_bytes()) {
                self.folder.remove(&file)?;
            }
        }
        let there: HashSet<&str> = artefacts.iter().map(|(.., name)| name.as_str()).collect();
        for name in old_records.iter().filter(|name| !there.contains(name.as_str())) {
            self.folder.remove(OsStr::new(&record_of(name)))?;
        }
        artefacts.sort_by(|a, b| b.cmp(a));
        let mut sum = 0;
        for (_, size, name) in artefacts {
            sum += size;
            if sum > self.size_max {
                remove(&self.folder, &name)?;
            }
        }
        Ok(())
    }

    fn name_of(&self, revision: Revision) -> String {
        format!("{revision}-{}", self.settings)
    }
}

/// Kept artefact, open: it can be loaded even when it has gone from the cache.
#[derive(Debug)]
pub(crate) struct Artefact {
    folder: Arc<OwnFolder>,
    name: String,
    file: File,
    record: Record,
}

impl Artefact {
    /// Returns what was found out about the component. `None` if nothing was yet.
    pub(crate) fn vetted(&self) -> Option<&Vetted> {
        self.record.vetted.as_ref()
    }

    /// Loads the artefact if it is as it was written. If not, it is removed from the cache.
    ///
    /// # Errors
    /// Reason why the artefact can't be loaded, as text.
    pub(crate) fn load(&self, engine: &wasmtime::Engine) -> Result<Component, String> {
        let loaded = match digest_of(&self.file) {
            Ok(found) if found == self.record.sha256 => {
                // This is by the open file: what is under its name now may be another one.
                let path = format!("/proc/self/fd/{}", self.file.as_raw_fd());
                load_trusted(engine, path.as_ref()).map_err(|error| format!("doesn't load: {error:#}"))
            }
            Ok(_) => Err("is damaged".to_owned()),
            Err(error) => Err(format!("can't be read: {error}")),
        };
        match &loaded {
            Ok(_) => touch(&self.file),
            Err(reason) => {
                let (cache, artefact) = (self.folder.path().display(), &self.name);
                tracing::warn!(%cache, artefact, reason, "a compiled component in the cache is of no use");
                // An entry that can't be removed is found unusable the next time as well.
                let _ = remove(&self.folder, &self.name);
            }
        }
        loaded.map_err(|reason| format!("its compiled code {reason}"))
    }
}

/// Record of an artefact.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Record {
    sha256: String,
    size: u64,
    vetted: Option<Vetted>,
}

/// Finding that a component is a handler, with what it imports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Vetted {
    /// Digest of what the host served when the component was found to be a handler.
    pub(crate) host: String,
    /// Names of the component's imports; none has a line break in it.
    pub(crate) imports: Vec<String>,
}

/// Writes a line for each value: its name, a space, the value.
impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "sha256 {}\nsize {}", self.sha256, self.size)?;
        if let Some(Vetted { host, imports }) = &self.vetted {
            writeln!(f, "host {host}")?;
            imports.iter().try_for_each(|import| writeln!(f, "import {import}"))?;
        }
        Ok(())
    }
}

impl Record {
    /// Parses a record. `None` if the text is anything else.
    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let sha256 = lines.next()?.strip_prefix("sha256 ")?.to_owned();
        let size = lines.next()?.strip_prefix("size ")?.parse().ok()?;
        let vetted = match lines.next() {
            Some(line) => {
                let host = line.strip_prefix("host ")?.to_owned();
                let import = |line: &str| line.strip_prefix("import ").map(str::to_owned);
                Some(Vetted { host, imports: lines.map(import).collect::<Option<_>>()? })
            }
            None => None,
        };
        Some(Self { sha256, size, vetted })
    }
}

/// Loads machine code from a file of this process: one that was compiled just now, or one of the cache.
#[allow(unsafe_code)]
pub(crate) fn load_trusted(engine: &wasmtime::Engine, artefact: &Path) -> wasmtime::Result<Component> {
    // SAFETY: the file was made by `Engine::precompile_component`, here or in our child. Only our own user can write to it:
    // it was made with no rights for others, and the cache is a folder that was checked when it was opened, and is held; an
    // entry of it was checked as well, and still has the checksum that was written with it. Entries are replaced by
    // renaming, so a file that is mapped never changes.
    unsafe { Component::deserialize_file(engine, artefact) }
}

/// Removes an artefact, its record first.
fn remove(folder: &OwnFolder, name: &str) -> io::Result<()> {
    folder.remove(OsStr::new(&record_of(name)))?;
    folder.remove(OsStr::new(&artefact_of(name)))
}

/// Marks an artefact as used just now. If that fails, it may only be removed earlier than it should.
fn touch(artefact: &File) {
    if let Err(error) = artefact.set_modified(SystemTime::now()) {
        tracing::debug!(%error, "a compiled component in the cache can't be marked as used");
    }
}

/// Suffix of the names of artefacts.
const ARTEFACT: &str = ".cwasm";

fn artefact_of(name: &str) -> String {
    format!("{name}{ARTEFACT}")
}

/// Suffix of the names of records.
const RECORD: &str = ".record";

fn record_of(name: &str) -> String {
    format!("{name}{RECORD}")
}

/// Returns the SHA-256 of a file's whole content, in hexadecimal digits.
fn digest_of(mut file: &File) -> io::Result<String> {
    file.rewind()?;
    let mut digest = Sha256::new();
    let mut chunk = vec![0; 64 * 1024];
    loop {
        match file.read(&mut chunk)? {
            0 => return Ok(HEXLOWER.encode(&digest.finalize())),
            n => digest.update(&chunk[..n]),
        }
    }
}

/// Hasher that feeds a digest, which unlike the standard hasher is the same in every build.
struct DigestHasher(Sha256);

impl Hasher for DigestHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Not used: the digest itself is taken instead.
    fn finish(&self) -> u64 {
        let digest = self.0.clone().finalize();
        u64::from_le_bytes(digest[..8].try_into().expect("a digest has more than eight bytes"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Keeps an artefact of a component that does nothing.
    fn keep(cache: &Cache, engine: &wasmtime::Engine, revision: Revision) {
        let bytes = engine.precompile_component(b"(component)").expect("a component");
        let mut file = cache.begin().expect("ours");
        file.write_all(&bytes).expect("there is room");
        cache.keep(revision, file).expect("there is room");
    }

    /// Who can write to a folder above moves the cache away, and puts in its place another one with artefacts of the same names.
    #[test]
    fn a_folder_that_takes_the_place_of_the_cache_is_not_used() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let engine = wasmtime::Engine::default();
        let (place, away) = (folder.path().join("above/cache"), folder.path().join("above/away"));
        let cache = Cache::open(&place, &engine).expect("a cache of our own");
        let [kept, later] = [1, 2].map(|n| Revision::from_sha256([n; 32]));
        keep(&cache, &engine, kept);
        fs::rename(&place, &away).expect("ours");
        let other = Cache::open(&place, &engine).expect("a folder in its place");
        let mut evil = other.begin().expect("ours");
        evil.write_all(b"evil").expect("there is room");
        other.keep(kept, evil).expect("there is room");

        cache.find(kept).expect("it is there").load(&engine).expect("the one that was kept");
        keep(&cache, &engine, later);
        assert!(other.find(later).is_none() && cache.find(later).is_some(), "kept where the others are");
        assert!(away.join(artefact_of(&cache.name_of(later))).exists());
        fs::remove_dir_all(folder.path().join("above")).expect("ours");
        assert!(cache.find(kept).is_none() && cache.begin().is_err(), "a folder that is gone has nothing");
    }

    #[test]
    fn what_others_can_have_written_is_not_there() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let folder = tempfile::tempdir().expect("a temporary folder");
        let engine = wasmtime::Engine::default();
        let cache = Cache::open(folder.path(), &engine).expect("a cache of our own");
        let revision = Revision::from_sha256([1; 32]);
        for name in [artefact_of, record_of].map(|of| of(&cache.name_of(revision))) {
            let path = folder.path().join(&name);
            keep(&cache, &engine, revision);
            assert!(cache.find(revision).is_some());
            fs::set_permissions(&path, fs::Permissions::from_mode(0o606)).expect("ours");
            assert!(cache.find(revision).is_none(), "{name}: others can write to it");
            keep(&cache, &engine, revision);
            assert!(cache.find(revision).is_some(), "{name}: it is made anew");
            let elsewhere = folder.path().join("elsewhere");
            fs::rename(&path, &elsewhere).expect("ours");
            symlink(&elsewhere, &path).expect("a link");
            assert!(cache.find(revision).is_none(), "{name}: it is a link");
        }
    }

    #[test]
    fn what_was_used_least_lately_goes_first() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let engine = wasmtime::Engine::default();
        let keep = |cache: &Cache, revision| keep(cache, &engine, revision);
        let mut cache = Cache::open(folder.path(), &engine).expect("a cache of our own");
        let revisions = [1, 2, 3].map(|n| Revision::from_sha256([n; 32]));
        keep(&cache, revisions[0]);
        let path = |cache: &Cache, revision| folder.path().join(artefact_of(&cache.name_of(revision)));
        let size = fs::metadata(path(&cache, revisions[0])).expect("it was written").len();
        cache.size_max = 2 * size;
        let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        for (n, revision) in (0..).zip(&revisions[..2]) {
            keep(&cache, *revision);
            let file = File::open(path(&cache, *revision)).expect("it was written");
            file.set_modified(long_ago + Duration::from_secs(n)).expect("ours");
        }
        let found = cache.find(revisions[0]).expect("it is there");
        found.load(&engine).expect("and is thereby used");
        keep(&cache, revisions[2]);
        let there = revisions.map(|revision| cache.find(revision).is_some());
        assert_eq!(there, [true, false, true]);
    }

    #[test]
    fn two_daemons_can_prune_one_cache_at_once() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let engine = wasmtime::Engine::default();
        let bytes = engine.precompile_component(b"(component)").expect("a component");
        let caches = [(); 2].map(|()| {
            let mut cache = Cache::open(folder.path(), &engine).expect("a cache of our own");
            // Whatever is kept takes the place of the others.
            cache.size_max = bytes.len() as u64;
            cache
        });
        std::thread::scope(|threads| {
            for (which, cache) in (0..).zip(&caches) {
                let bytes = &bytes;
                threads.spawn(move || {
                    for round in 0..200 {
                        let mut file = cache.begin().expect("ours");
                        file.write_all(bytes).expect("there is room");
                        let mut digest = [which; 32];
                        digest[0] = round;
                        cache
                            .keep(Revision::from_sha256(digest), file)
                            .expect("the other is in no one's way");
                    }
                });
            }
        });
    }

    #[test]
    fn a_record_whose_artefact_is_gone_goes_as_well_unless_it_is_new() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let engine = wasmtime::Engine::default();
        let cache = Cache::open(folder.path(), &engine).expect("a cache of our own");
        let old = SystemTime::now() - 2 * BEGUN_MAX;
        for (name, time) in [("gone", old), ("new", SystemTime::now())] {
            let file = File::create(folder.path().join(record_of(name))).expect("a file");
            file.set_modified(time).expect("ours");
        }
        let [first, second] = [1, 2].map(|n| Revision::from_sha256([n; 32]));
        keep(&cache, &engine, first);
        let kept = File::open(folder.path().join(record_of(&cache.name_of(first)))).expect("it was written");
        kept.set_modified(old).expect("ours");
        keep(&cache, &engine, second);
        let there = ["gone", "new"].map(|name| folder.path().join(record_of(name)).exists());
        assert_eq!(there, [false, true]);
        assert!(cache.find(first).is_some(), "an old one whose artefact is there stays");
    }

    #[test]
    fn a_record_is_read_as_it_was_written_and_nothing_else_is_one() {
        let bare = Record { sha256: "ab".to_owned(), size: 7, vetted: None };
        let imports = vec!["wasi:io/streams@0.2.6".to_owned(), "sandhog:job/log@0.1.0".to_owned()];
        let vetted = Some(Vetted { host: "cd".to_owned(), imports });
        for record in [bare.clone(), Record { vetted, ..bare }] {
            assert_eq!(Record::parse(&record.to_string()), Some(record));
        }
        for text in
            ["", "sha256 ab", "sha256 ab\nsize x", "sha256 ab\nsize 7\nmore", "sha256 ab\nsize 7\nhost c\nx"]
        {
            assert_eq!(Record::parse(text), None, "{text}");
        }
    }
}
