//! Granted directories. Each is opened once, when the plugin that is granted it is loaded, and is a descriptor from then
//! on: no run looks its path up again, so nothing that happens to the path later leads a guest elsewhere.
//!
//! That leaves the one look-up. A path of the configuration is the operator's, and so are the links on it, unless they
//! lie where a handler can write: who may write in a directory on the way can put a link to anywhere in the place of the
//! next one. So a path is followed name by name, each directory in which a name was looked up is noted as its *route*,
//! and afterwards, by what was opened and not by names, the route is held against what is granted. One that leads
//! through a directory that any handler may write is refused: by what is loaded, and by what the configuration says of
//! plugins that aren't, since their handlers may have been there before.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use rustix::fs::{Mode, OFlags, openat, readlinkat};
use rustix::io::Errno;
use sandhog_files::disk::{self, Progress};
use wasmtime_wasi::filesystem::Dir;
use wasmtime_wasi::{FsPerms, OpenMode};

use super::account::{Account, Identity, Quota};
use crate::error::{Diverted, Error};
use crate::plugin::{Access, DirGrant};

/// Maximum number of links that one path may lead through, as Linux has it.
const LINKS_MAX: usize = 40;

/// Directories in which the names of a path were looked up.
type Route = BTreeSet<Identity>;

/// Directory as a plugin is granted it.
pub(crate) struct Granted {
    /// Path of the directory, as the operator has it.
    host: PathBuf,
    /// Name under which the guest sees it.
    pub(super) guest: String,
    access: Access,
    /// Plugin that is granted it, as messages name it.
    place: String,
    identity: Identity,
    route: Route,
    dir: Dir,
    account: Arc<Account>,
    /// Quota that bounds how full it may get. `None` if it has none.
    pub(super) quota: Option<Quota>,
}

impl Granted {
    /// Returns the directory itself, for a run.
    pub(super) fn dir(&self) -> Dir {
        self.dir.clone()
    }

    /// Whether its path leads there still, as far as its disk answers.
    pub(crate) fn is_there(&self) -> bool {
        match find_each([self.host.as_path()]).pop() {
            Some((_, Ok(found))) => found.identity == self.identity,
            // While its disk doesn't answer, nobody knows, and the directory is open.
            Some((_, Err(error))) => error.kind() == io::ErrorKind::TimedOut,
            None => false,
        }
    }
}

/// Directories that plugins are granted.
#[derive(Default)]
pub(crate) struct Directories {
    /// Directories of plugins that are loaded.
    loaded: Mutex<Vec<Weak<Granted>>>,
    /// Directories that handlers may write by the configuration, as far as they were found.
    configured: Mutex<Vec<Writable>>,
}

/// Directory that handlers of a plugin may write, once it is loaded.
struct Writable {
    place: String,
    host: PathBuf,
    found: Found,
}

impl Directories {
    /// Records the directories that handlers may write by the configuration, in the place of those recorded before. One whose
    /// disk doesn't answer is left out. Blocks.
    pub(crate) fn configure(&self, writable: impl IntoIterator<Item = (String, PathBuf)>) {
        let writable: Vec<_> = writable.into_iter().collect();
        let found = find_each(writable.iter().map(|(_, host)| host.as_path()));
        let found = writable.into_iter().zip(found).filter_map(|((place, host), (_, found))| match found {
            Ok(found) => Some(Writable { place, host, found }),
            Err(error) => {
                if error.kind() == io::ErrorKind::TimedOut {
                    tracing::warn!(plugin = %place, directory = %host.display(), %error, "a granted directory can't be looked at");
                }
                // Nobody writes in a directory that isn't there.
                None
            }
        });
        *lock(&self.configured) = found.collect();
    }

    /// Opens the directories of a plugin, in their order. Plugins that are granted the same one, under whatever name, share its
    /// account. Blocks.
    ///
    /// # Errors
    /// A directory isn't there or can't be opened, or a path leads through a directory that handlers may write: those of this
    /// plugin, of another that is loaded, or of another that the configuration has.
    pub(crate) fn grant(&self, place: &str, grants: &[DirGrant]) -> Result<Vec<Arc<Granted>>, Error> {
        // Disks may take their time; nobody else waits for them.
        let found = find_each(grants.iter().map(|grant| grant.host.as_path()));
        let configured = lock(&self.configured);
        let mut loaded = lock(&self.loaded);
        loaded.retain(|granted| granted.strong_count() > 0);
        let mut known: Vec<Arc<Granted>> = loaded.iter().filter_map(Weak::upgrade).collect();
        let others = known.len();
        for (grant, (route, found)) in grants.iter().zip(found) {
            let line = || format!("`dirs = [{{ host = {:?}, … }}]`", grant.host);
            let diverted = |(inner, reader): (&Path, &str), (outer, writer): (&Path, &str)| {
                let (inner, reader) = (inner.to_owned(), reader.to_owned());
                let (outer, writer) = (outer.to_owned(), writer.to_owned());
                Box::new(Diverted { plugin: place.to_owned(), line: line(), inner, reader, outer, writer })
            };
            // This is checked also where nothing is found: handlers who write there choose what is.
            if let Some(outer) = writer_on(&route, &known, &configured) {
                return Err(diverted((&grant.host, place), outer).into());
            }
            let found =
                found.map_err(|reason| Error::Grant { plugin: place.to_owned(), line: line(), reason })?;
            let granted = Arc::new(granted(place, grant, route, found, &known));
            known.push(Arc::clone(&granted));
            let led = |other: &&Arc<Granted>| other.route.contains(&granted.identity);
            if granted.access == Access::ReadWrite
                && let Some(inner) = known.iter().find(led)
            {
                return Err(diverted((&inner.host, &inner.place), (&granted.host, place)).into());
            }
        }
        let granted = known.split_off(others);
        loaded.extend(granted.iter().map(Arc::downgrade));
        Ok(granted)
    }
}

/// Finds a directory of a route that handlers may write, and the plugin of those handlers. `None` if there is none.
fn writer_on<'a>(
    route: &Route,
    known: &'a [Arc<Granted>],
    configured: &'a [Writable],
) -> Option<(&'a Path, &'a str)> {
    let loaded = known.iter().filter(|granted| granted.access == Access::ReadWrite);
    let loaded = loaded.map(|granted| (granted.identity, &*granted.host, &*granted.place));
    let configured =
        configured.iter().map(|writable| (writable.found.identity, &*writable.host, &*writable.place));
    let mut writable = loaded.chain(configured);
    let (_, host, place) = writable.find(|(identity, ..)| route.contains(identity))?;
    Some((host, place))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn granted(place: &str, grant: &DirGrant, route: Route, found: Found, known: &[Arc<Granted>]) -> Granted {
    let (perms, mode) = match grant.access {
        Access::Read => (FsPerms::ReadOnly, OpenMode::READ),
        Access::ReadWrite => (FsPerms::ReadWrite, OpenMode::READ | OpenMode::WRITE),
    };
    let dir = Dir::new(found.dir, perms, mode, false);
    let same = known.iter().find(|other| other.identity == found.identity);
    let account = match same {
        Some(same) => Arc::clone(&same.account),
        None => Arc::new(Account::new(Arc::clone(&dir.dir))),
    };
    let quota = grant.quota.map(|max| Quota { account: Arc::clone(&account), max });
    Granted {
        host: grant.host.clone(),
        guest: grant.guest.clone(),
        access: grant.access,
        place: place.to_owned(),
        identity: found.identity,
        route,
        dir,
        account,
        quota,
    }
}

/// Directory that a path leads to.
struct Found {
    dir: File,
    identity: Identity,
}

/// Opens directories, and records the way to each, as far as it goes. Blocks, though not for a disk that doesn't answer.
fn find_each<'p>(paths: impl IntoIterator<Item = &'p Path>) -> Vec<(Route, io::Result<Found>)> {
    let asks = paths.into_iter().map(|path| {
        let host = path.to_owned();
        let look = move |_: &Progress| {
            let mut route = Route::new();
            let found = find(&host, &mut route);
            Ok((route, found))
        };
        (path.to_owned(), look)
    });
    let found = disk::ask_each(asks).into_iter();
    found.map(|found| found.unwrap_or_else(|error| (Route::new(), Err(error)))).collect()
}

/// Opens a directory, and records the way there, as far as it goes.
fn find(path: &Path, route: &mut Route) -> io::Result<Found> {
    let step = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut here = File::from(openat(rustix::fs::CWD, "/", step, Mode::empty())?);
    let mut left = parts(&std::path::absolute(path)?);
    let mut links = 0;
    while let Some(name) = left.pop() {
        // The root is the same from everywhere.
        if name != "/" {
            route.insert(identity_of(&here)?);
        }
        match openat(&here, &name, step, Mode::empty()) {
            Ok(next) => here = File::from(next),
            // The name of a link is looked up twice; both times here, in a directory of the route.
            Err(Errno::NOTDIR | Errno::LOOP) => {
                let target =
                    readlinkat(&here, &name, Vec::new()).map_err(|_| io::ErrorKind::NotADirectory)?;
                links += 1;
                if links > LINKS_MAX {
                    return Err(Errno::LOOP.into());
                }
                left.extend(parts(Path::new(OsStr::from_bytes(target.as_bytes()))));
            }
            Err(error) => return Err(error.into()),
        }
    }
    // To see that it exists is not yet to be let in.
    let dir = openat(&here, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    Ok(Found { dir: File::from(dir), identity: identity_of(&here)? })
}

/// Returns the names of a path, the first one last. The root is a name as well.
fn parts(path: &Path) -> Vec<OsString> {
    path.components().rev().map(|part| part.as_os_str().to_owned()).collect()
}

fn identity_of(file: &File) -> io::Result<Identity> {
    let metadata = file.metadata()?;
    Ok((metadata.dev(), metadata.ino()))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    /// A folder with `outer/inner/innermost`, `beside`, and links into them.
    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        fs::create_dir_all(folder.path().join("outer/inner/innermost")).expect("folders");
        fs::create_dir(folder.path().join("beside")).expect("a folder");
        symlink("outer", folder.path().join("link-to-outer")).expect("a link");
        symlink(folder.path().join("outer/inner"), folder.path().join("link-to-inner")).expect("a link");
        symlink("../beside", folder.path().join("outer/link-out")).expect("a link");
        symlink("endless", folder.path().join("endless")).expect("a link");
        folder
    }

    fn grant(folder: &tempfile::TempDir, name: &str, access: Access) -> DirGrant {
        DirGrant { host: folder.path().join(name), guest: "/data".to_owned(), access, quota: None }
    }

    use Access::{Read, ReadWrite};

    /// What comes of granting one directory to a plugin, and then another to a second one.
    fn both(first: (&str, Access), second: (&str, Access)) -> Result<(), String> {
        let (folder, directories) = (folder(), Directories::default());
        let first = directories.grant("plugin acme/first", &[grant(&folder, first.0, first.1)]);
        let _first = first.expect("nobody else has anything");
        let second = directories.grant("plugin globex/second", &[grant(&folder, second.0, second.1)]);
        second.map(drop).map_err(|error| error.to_string())
    }

    #[test]
    fn no_path_leads_through_what_a_handler_may_write() {
        for (outer, inner) in [
            ("outer", "outer/inner"),
            ("outer", "outer/inner/innermost"),
            ("link-to-outer", "outer/inner"),
            ("outer", "link-to-outer/inner"),
            ("outer", "link-to-inner"),
            ("link-to-inner", "outer/inner/innermost"),
            // It lies elsewhere, and yet those who write in the outer one say where.
            ("outer", "outer/link-out"),
            ("outer", "outer/inner/../../beside"),
        ] {
            for access in [Read, ReadWrite] {
                let refused = both((outer, ReadWrite), (inner, access)).expect_err(inner);
                assert!(
                    refused.starts_with("plugin globex/second: can't grant `dirs = [{ host = "),
                    "{refused}"
                );
                assert!(refused.contains("which plugin acme/first may write"), "{refused}");
                let refused = both((inner, access), (outer, ReadWrite)).expect_err(inner);
                assert!(refused.contains("of plugin acme/first leads through"), "{refused}");
                assert!(refused.contains("which plugin globex/second may write"), "{refused}");
                assert_eq!(both((outer, Read), (inner, access)), Ok(()), "{outer} {inner}");
                assert_eq!(both((inner, access), (outer, Read)), Ok(()), "{outer} {inner}");
            }
        }
    }

    #[test]
    fn who_may_write_on_the_way_is_named_even_if_nothing_is_there() {
        let refused =
            both(("outer", ReadWrite), ("outer/missing/and/more", Read)).expect_err("nothing is there");
        assert!(refused.contains("which plugin acme/first may write"), "{refused}");
    }

    #[test]
    fn a_plugin_is_held_to_its_own_directories_as_well() {
        let (folder, directories) = (folder(), Directories::default());
        let nested = [grant(&folder, "outer", ReadWrite), grant(&folder, "outer/inner", ReadWrite)];
        let refused = directories.grant("plugin acme/first", &nested).err().expect("nested");
        assert!(matches!(refused, Error::GrantDiverted(_)), "{refused}");
        // Where this leads, those who write in it say.
        let through_itself = [grant(&folder, "outer/inner/..", ReadWrite)];
        assert!(directories.grant("plugin acme/first", &through_itself).is_err());
        assert!(directories.grant("plugin acme/first", &[grant(&folder, "outer/inner", ReadWrite)]).is_ok());
    }

    #[test]
    fn what_a_plugin_may_write_that_is_not_loaded_counts_as_well() {
        let (folder, directories) = (folder(), Directories::default());
        let writer = |name: &str| ("plugin acme/writer".to_owned(), folder.path().join(name));
        let inner = || directories.grant("plugin acme/first", &[grant(&folder, "link-to-inner", Read)]);
        directories.configure([writer("missing"), writer("outer")]);
        let refused = inner().err().expect("its handlers may have been there").to_string();
        assert!(refused.contains("which plugin acme/writer may write"), "{refused}");
        assert!(directories.grant("plugin acme/writer", &[grant(&folder, "outer", ReadWrite)]).is_ok());
        directories.configure([writer("beside")]);
        assert!(inner().is_ok());
    }

    #[test]
    fn what_is_granted_no_longer_keeps_nobody_out() {
        let (folder, directories) = (folder(), Directories::default());
        let outer = directories.grant("plugin acme/first", &[grant(&folder, "outer", ReadWrite)]);
        let inner = || directories.grant("plugin acme/second", &[grant(&folder, "outer/inner", Read)]);
        assert!(outer.is_ok() && inner().is_err());
        drop(outer);
        assert!(inner().is_ok());
    }

    #[test]
    fn a_directory_has_one_account_by_whatever_name_and_whosever_it_is() {
        let (folder, directories) = (folder(), Directories::default());
        let grants = [grant(&folder, "outer", ReadWrite), grant(&folder, "./link-to-outer/", Read)];
        let ours = directories.grant("plugin acme/first", &grants).expect("they are one");
        let theirs = directories.grant("plugin globex/second", &grants[..1]).expect("it is the same");
        assert!(Arc::ptr_eq(&ours[0].account, &ours[1].account));
        assert!(Arc::ptr_eq(&ours[0].account, &theirs[0].account));
        let other = directories.grant("plugin acme/third", &[grant(&folder, "beside", Read)]).expect("free");
        assert!(!Arc::ptr_eq(&ours[0].account, &other[0].account));
    }

    #[test]
    fn what_is_no_directory_says_so() {
        let folder = folder();
        fs::write(folder.path().join("file"), "x").expect("a file");
        let why = |name: &str| {
            let granted = Directories::default().grant("plugin acme/first", &[grant(&folder, name, Read)]);
            match granted.err() {
                Some(Error::Grant { reason, .. }) => reason.kind(),
                other => panic!("{name}: {other:?}"),
            }
        };
        assert_eq!(why("missing"), io::ErrorKind::NotFound);
        assert_eq!(why("file"), io::ErrorKind::NotADirectory);
        assert_eq!(why("file/below"), io::ErrorKind::NotADirectory);
        assert_eq!(why("endless"), io::Error::from(Errno::LOOP).kind());
    }

    #[test]
    fn a_granted_directory_stays_the_same_one_whatever_becomes_of_its_path() {
        let (folder, directories) = (folder(), Directories::default());
        let granted = directories.grant("plugin acme/first", &[grant(&folder, "outer/inner", Read)]);
        let granted = granted.expect("it is there");
        let was = identity_of(&granted[0].dir().dir).expect("it is open");
        fs::rename(folder.path().join("outer/inner"), folder.path().join("aside")).expect("one disk");
        symlink("/", folder.path().join("outer/inner")).expect("a link");
        assert_eq!(identity_of(&granted[0].dir().dir).expect("it is open"), was);
        assert!(folder.path().join("aside/innermost").exists());
    }
}
