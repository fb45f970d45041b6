//! Disks that are full soon, or that never answer.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

use crate::{Site, binary};

/// File system in namespaces of its own, which need no privileges: only processes that are started in them see it. It is gone
/// when this is dropped.
#[derive(Debug)]
struct Mounted {
    keeper: Child,
    /// Ends the keeper process when it is closed.
    _stdin: ChildStdin,
    folder: PathBuf,
}

impl Mounted {
    /// Mounts a file system at a folder, which is created, by a script of the shell that finds the folder in `$1` and `argument`
    /// in `$2`. `None`, with a message on standard error, if the machine doesn't allow it.
    fn new(folder: &Path, script: &str, argument: &str) -> Option<Self> {
        fs::create_dir_all(folder).expect("a folder");
        let mut keeper = Command::new("unshare")
            .args(["--map-root-user", "--mount", "sh", "-c"])
            .arg(format!("{script} && echo mounted && exec cat >/dev/null"))
            .arg("sh")
            .arg(folder)
            .arg(argument)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare is there");
        let stdin = keeper.stdin.take().expect("it is piped");
        let mut said = String::new();
        let stdout = keeper.stdout.take().expect("it is piped");
        BufReader::new(stdout).read_line(&mut said).expect("text");
        if said.trim() != "mounted" {
            eprintln!("skipped: this machine doesn't allow a file system of its own to be mounted");
            keeper.wait().expect("it has ended");
            return None;
        }
        Some(Self { keeper, _stdin: stdin, folder: folder.to_owned() })
    }

    fn sandhog(&self, site: &Site) -> Command {
        let mut command = Command::new("nsenter");
        let keeper = self.keeper.id().to_string();
        command.args(["--user", "--mount", "--preserve-credentials", "--target", &keeper, "--"]);
        command.arg(binary()).arg("--config").arg(site.config());
        command
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // It may have ended already.
        self.keeper.kill().ok();
        self.keeper.wait().ok();
    }
}

/// Disk that never answers: whatever is asked of it waits, until this is dropped; from then on it is an error. Seen only by
/// processes that [`HungDisk::sandhog`] starts.
#[derive(Debug)]
pub struct HungDisk(Mounted);

impl HungDisk {
    /// Mounts such a disk at a folder, which is created. `None`, with a message on standard error, if the machine doesn't
    /// allow it.
    ///
    /// # Panics
    /// If `unshare` can't be started.
    #[must_use]
    pub fn mount(folder: &Path) -> Option<Self> {
        // A file system whose server, which is whoever holds the descriptor, never reads what is asked of it.
        let options = "fd=3,rootmode=40000,user_id=0,group_id=0";
        let script = "exec 3<>/dev/fuse && mount -i -t fuse -o \"$2\" none \"$1\"";
        Mounted::new(folder, script, options).map(Self)
    }

    /// Returns the command `sandhog` with the site's configuration, which sees the disk.
    #[must_use]
    pub fn sandhog(&self, site: &Site) -> Command {
        self.0.sandhog(site)
    }
}

/// File system of a few MiB in memory, visible only to processes that [`SmallDisk::sandhog`] starts.
#[derive(Debug)]
pub struct SmallDisk(Mounted);

/// Name of the file that fills the disk.
const FILLER: &str = "filler";

impl SmallDisk {
    /// Mounts a small disk at a folder, which is created; `size` is in the notation of `mount`, such as `16m`. `None`, with a
    /// message on standard error, if the machine doesn't allow namespaces.
    ///
    /// # Panics
    /// If `unshare` can't be started.
    #[must_use]
    pub fn mount(folder: &Path, size: &str) -> Option<Self> {
        Mounted::new(folder, "mount -t tmpfs -o size=\"$2\" none \"$1\"", size).map(Self)
    }

    /// Returns the command `sandhog` with the site's configuration, which sees the disk.
    #[must_use]
    pub fn sandhog(&self, site: &Site) -> Command {
        self.0.sandhog(site)
    }

    /// Writes a file until the disk is full.
    ///
    /// # Panics
    /// If nothing can be written at all.
    pub fn fill(&self) {
        let mut filler = File::create(self.path().join(FILLER)).expect("a file");
        // In ever smaller pieces, to the last byte.
        for piece in [1 << 20, 1 << 12, 1] {
            while filler.write_all(&vec![0; piece]).is_ok() {}
        }
    }

    /// Removes the file that fills the disk.
    ///
    /// # Panics
    /// If it wasn't filled.
    pub fn empty(&self) {
        fs::remove_file(self.path().join(FILLER)).expect("it was filled");
    }

    /// Returns the path at which processes outside its namespaces find the disk.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        let inside = self.0.folder.strip_prefix("/").expect("an absolute path");
        PathBuf::from(format!("/proc/{}/root", self.0.keeper.id())).join(inside)
    }
}
