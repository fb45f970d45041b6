//! Reading of files that somebody else may have written: nothing here waits for a file that has no end or no writer.
//!
//! A file is opened once, and everything is asked of that open file, so that what was looked at is what is read, whatever
//! is put into its place meanwhile. It has to be a regular file, and is read up to a bound. Links are followed, as deploy
//! tools put them before what they deploy, but not in a folder of the daemon's own. A disk that doesn't answer is given up
//! ([`disk`]).

use std::fs::{File, FileType, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use sandhog_core::budget::Bytes;

use crate::disk::{self, Progress, folder_of};

/// A regular file, open for reading.
#[derive(Debug)]
pub struct RegularFile {
    file: File,
    metadata: Metadata,
    folder: PathBuf,
}

/// Opens a regular file. If its path is a link, that is followed.
///
/// # Errors
/// If it can't be opened, is anything but a regular file, or its disk doesn't answer.
pub fn open(path: &Path) -> io::Result<RegularFile> {
    // Without these flags, opening a pipe would wait for a writer, and a terminal could become that of the daemon.
    let flags = i32::try_from((OFlags::NONBLOCK | OFlags::NOCTTY).bits()).map_err(io::Error::other)?;
    let (path, folder) = (path.to_owned(), folder_of(path).to_owned());
    disk::ask(&folder.clone(), move |_| {
        let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
        RegularFile::new(file, folder)
    })
}

/// Returns what a file is, for a message; `None` if it is a regular one.
fn kind(of: FileType) -> Option<&'static str> {
    let kinds = [
        (of.is_dir(), "a directory"),
        (of.is_fifo(), "a named pipe"),
        (of.is_char_device() || of.is_block_device(), "a device"),
    ];
    let named = kinds.iter().find(|(is, _)| *is).map(|(_, kind)| *kind);
    if of.is_file() { None } else { Some(named.unwrap_or("something else")) }
}

impl RegularFile {
    /// Takes a file that was opened in a folder, if it is a regular one.
    pub(crate) fn new(file: File, folder: PathBuf) -> io::Result<Self> {
        let metadata = file.metadata()?;
        match kind(metadata.file_type()) {
            None => Ok(Self { file, metadata, folder }),
            Some(kind) => {
                Err(io::Error::new(io::ErrorKind::InvalidInput, format!("it is {kind}, not a regular file")))
            }
        }
    }

    /// Returns the file's metadata as of when it was opened.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// Returns the open file itself.
    pub fn into_file(self) -> File {
        self.file
    }

    /// Reads the whole file.
    ///
    /// # Errors
    /// As [`Self::read_by`].
    pub fn read(self, max: Bytes) -> io::Result<Vec<u8>> {
        self.read_by(max, |reader| {
            let mut bytes = Vec::new();
            reader.read_to_end(&mut bytes)?;
            Ok(bytes)
        })
    }

    /// Reads the whole file as text.
    ///
    /// # Errors
    /// As [`Self::read_by`], and if it isn't UTF-8.
    pub fn read_text(self, max: Bytes) -> io::Result<String> {
        let not_text = |_| io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8");
        String::from_utf8(self.read(max)?).map_err(not_text)
    }

    /// Has the file read by `read`, whose reader fails behind the first `max` bytes.
    ///
    /// # Errors
    /// If it can't be read, its disk doesn't answer, or it is larger than `max`; one that grows meanwhile is read no further
    /// than that.
    pub fn read_by<T: Send + 'static>(
        self,
        max: Bytes,
        read: impl FnOnce(&mut dyn Read) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        if Bytes(self.metadata.len()) > max {
            return Err(too_large(max));
        }
        let Self { file, folder, .. } = self;
        disk::ask(&folder, move |progress| {
            read(&mut Bounded { file, left: max.0, max, progress: progress.clone() })
        })
    }
}

/// Reads the whole of a regular file.
///
/// # Errors
/// As [`open`] and [`RegularFile::read`].
pub fn read(path: &Path, max: Bytes) -> io::Result<Vec<u8>> {
    open(path)?.read(max)
}

/// Reads the whole of a regular file that is text.
///
/// # Errors
/// As [`open`] and [`RegularFile::read_text`].
pub fn read_text(path: &Path, max: Bytes) -> io::Result<String> {
    open(path)?.read_text(max)
}

fn too_large(max: Bytes) -> io::Error {
    io::Error::new(io::ErrorKind::FileTooLarge, format!("it is larger than {max}"))
}

/// Maximum number of bytes that are asked for at once: each answer counts as progress.
const CHUNK: usize = 1 << 20;

/// A file of which only a number of bytes, `left`, may still be read.
struct Bounded {
    file: File,
    left: u64,
    max: Bytes,
    progress: Progress,
}

impl Read for Bounded {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // One byte more tells a file that ends here from one that goes on.
        let room = usize::try_from(self.left.saturating_add(1)).unwrap_or(usize::MAX).min(buffer.len());
        let read = self.file.read(&mut buffer[..room.min(CHUNK)])?;
        self.progress.step();
        self.left = self.left.checked_sub(read as u64).ok_or_else(|| too_large(self.max))?;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use rustix::fs::{CWD, Mode, mkfifoat};

    use super::*;

    fn error(path: impl AsRef<Path>) -> String {
        read(path.as_ref(), Bytes::kib(1)).expect_err("it is no regular file").to_string()
    }

    #[test]
    fn what_is_no_regular_file_is_refused_by_what_it_is_and_never_waited_for() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        mkfifoat(CWD, path("pipe"), Mode::RUSR | Mode::WUSR).expect("a pipe");
        symlink("/dev/zero", path("endless")).expect("a link");
        symlink("pipe", path("link")).expect("a link");
        for (name, what) in [
            ("pipe", "a named pipe"),
            ("link", "a named pipe"),
            ("endless", "a device"),
            (".", "a directory"),
        ] {
            assert_eq!(error(path(name)), format!("it is {what}, not a regular file"), "{name}");
        }
        assert_eq!(open(&path("none")).expect_err("there is none").kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_file_is_read_up_to_its_bound_also_if_it_has_more_than_the_system_says() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a");
        fs::write(&path, "four").expect("a file");
        assert_eq!(read(&path, Bytes(4)).expect("it is there"), b"four");
        assert_eq!(read(&path, Bytes(3)).expect_err("too large").to_string(), "it is larger than 3B");
        // Its length is zero for the system, as is that of a file that is only just being written.
        let told = Path::new("/proc/self/status");
        assert_eq!(read(told, Bytes(3)).expect_err("too large").kind(), io::ErrorKind::FileTooLarge);
        assert!(read_text(told, Bytes::mib(1)).expect("it is text").contains("Name:"));
    }

    #[test]
    fn a_link_is_followed() {
        let folder = tempfile::tempdir().expect("a folder");
        let (path, link) = (folder.path().join("a"), folder.path().join("link"));
        fs::write(&path, "a").expect("a file");
        symlink(&path, &link).expect("a link");
        assert_eq!(read(&link, Bytes(1)).expect("it is followed"), b"a");
    }
}
