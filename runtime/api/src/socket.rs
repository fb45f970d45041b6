//! Sockets on which daemons listen on their own machine.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

/// Maximum length in bytes of a path in a socket's address; the last one of 108 is the terminator.
const PATH_MAX: usize = 107;

/// Returns the path of the socket of the daemon whose folder of deploys is `deploys`.
#[must_use]
pub fn socket_path(deploys: &Path) -> PathBuf {
    deploys.join("control.sock")
}

/// A path that leads to a socket and fits into its address, valid as long as this value is kept.
#[derive(Debug)]
pub struct SocketAddress {
    path: PathBuf,
    /// Folder by whose descriptor the path goes; `None` if the socket's own path is short enough.
    _folder: Option<File>,
}

impl SocketAddress {
    /// Finds a path to a socket. If its own path is too long, the path goes by a descriptor of its folder.
    ///
    /// # Errors
    /// If the folder can't be opened.
    pub fn of(socket: &Path) -> io::Result<Self> {
        if socket.as_os_str().len() <= PATH_MAX {
            return Ok(Self { path: socket.to_owned(), _folder: None });
        }
        let (Some(folder), Some(name)) = (socket.parent(), socket.file_name()) else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the path names no file in a folder"));
        };
        let flags = i32::try_from((OFlags::PATH | OFlags::DIRECTORY).bits()).map_err(io::Error::other)?;
        let folder = File::options().read(true).custom_flags(flags).open(folder)?;
        let path = Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string()).join(name);
        Ok(Self { path, _folder: Some(folder) })
    }

    /// Returns the path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::{UnixListener, UnixStream};

    use super::*;

    #[test]
    fn a_socket_is_found_however_long_its_path_is() {
        let folder = tempfile::tempdir().expect("a folder");
        for deploys in [folder.path().join("short"), folder.path().join("long".repeat(50)).join("x")] {
            std::fs::create_dir_all(&deploys).expect("a folder");
            let socket = socket_path(&deploys);
            let address = SocketAddress::of(&socket).expect("the folder is there");
            let listener = UnixListener::bind(address.path()).expect("it fits");
            let address = SocketAddress::of(&socket).expect("the folder is there");
            UnixStream::connect(address.path()).expect("somebody listens");
            drop(listener);
            assert!(socket.exists());
        }
    }

    #[test]
    fn a_folder_that_is_not_there_is_said() {
        let missing = Path::new("/nowhere").join("x".repeat(200)).join("control.sock");
        assert_eq!(SocketAddress::of(&missing).expect_err("no folder").kind(), io::ErrorKind::NotFound);
    }
}
