//! Reading of files that somebody else may have written: nothing here waits for a file that has no end or no writer.
//!
//! A file is opened once, and everything is asked of that open file, so that what was looked at is what is read, whatever
//! is put into its place meanwhile. It has to be a regular file, and is read up to a bound. Links are followed, as deploy
//! tools put them before what they deploy, but not in a folder of the daemon's own.

use std::fs::{File, FileType, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::OFlags;
use sandhog_core::budget::Bytes;

/// A regular file, open for reading.
#[derive(Debug)]
pub struct RegularFile {
    file: File,
    metadata: Metadata,
}

/// Opens a regular file. If its path is a link, that is followed.
///
/// # Errors
/// If it can't be opened, or is anything but a regular file.
pub fn open(path: &Path) -> io::Result<RegularFile> {
    open_with(OpenOptions::new().read(true), path, OFlags::empty())
}

/// Opens a regular file in a folder that is the daemon's alone; a link is refused there.
///
/// # Errors
/// If it can't be opened, or is anything but a regular file.
pub fn open_own(path: &Path) -> io::Result<RegularFile> {
    open_with(OpenOptions::new().read(true), path, OFlags::NOFOLLOW)
}

/// Opens a regular file in a folder that is the daemon's alone to write to it, or to lock it. It is created if it isn't
/// there, for its owner alone; a link is refused.
///
/// # Errors
/// If it can't be opened or made, or is anything but a regular file.
pub fn create_own(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    let options = options.write(true).create(true).truncate(false).mode(0o600);
    open_with(options, path, OFlags::NOFOLLOW).map(|opened| opened.file)
}

fn open_with(options: &mut OpenOptions, path: &Path, further: OFlags) -> io::Result<RegularFile> {
    // Without these flags, opening a pipe would wait for a writer, and a terminal could become that of the daemon.
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY | further;
    let flags = i32::try_from(flags.bits()).map_err(io::Error::other)?;
    let file = options.custom_flags(flags).open(path)?;
    let metadata = file.metadata()?;
    match kind(metadata.file_type()) {
        None => Ok(RegularFile { file, metadata }),
        Some(kind) => {
            Err(io::Error::new(io::ErrorKind::InvalidInput, format!("it is {kind}, not a regular file")))
        }
    }
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
    /// Returns the file's metadata as of when it was opened.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// Reads the whole file.
    ///
    /// # Errors
    /// If it can't be read, or is larger than `max`; one that grows meanwhile is read no further than that.
    pub fn read(self, max: Bytes) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.bounded(max)?.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Reads the whole file as text.
    ///
    /// # Errors
    /// As [`Self::read`], and if it isn't UTF-8.
    pub fn read_text(self, max: Bytes) -> io::Result<String> {
        let not_text = |_| io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8");
        String::from_utf8(self.read(max)?).map_err(not_text)
    }

    /// Returns a reader of the file that fails behind the first `max` bytes.
    ///
    /// # Errors
    /// If the file is larger than that already.
    pub fn bounded(self, max: Bytes) -> io::Result<impl Read> {
        if Bytes(self.metadata.len()) > max {
            return Err(too_large(max));
        }
        Ok(Bounded { file: self.file, left: max.0, max })
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

/// A file of which only a number of bytes, `left`, may still be read.
struct Bounded {
    file: File,
    left: u64,
    max: Bytes,
}

impl Read for Bounded {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // One byte more tells a file that ends here from one that goes on.
        let room = usize::try_from(self.left.saturating_add(1)).unwrap_or(usize::MAX).min(buffer.len());
        let read = self.file.read(&mut buffer[..room])?;
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
    fn a_link_is_followed_unless_the_folder_is_the_daemons_own() {
        let folder = tempfile::tempdir().expect("a folder");
        let (path, link) = (folder.path().join("a"), folder.path().join("link"));
        fs::write(&path, "a").expect("a file");
        symlink(&path, &link).expect("a link");
        assert_eq!(read(&link, Bytes(1)).expect("it is followed"), b"a");
        assert!(open_own(&link).is_err() && create_own(&link).is_err());
        assert!(open_own(&path).is_ok() && create_own(&path).is_ok());
    }
}
