//! Disk that is full soon.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

use crate::{Site, binary};

/// File system of a few MiB in memory, visible only to processes started by [`SmallDisk::sandhog`]: it is mounted in
/// namespaces of its own, which need no privileges. It is gone when this is dropped.
#[derive(Debug)]
pub struct SmallDisk {
    keeper: Child,
    /// Ends the keeper process when it is closed.
    _stdin: ChildStdin,
    folder: PathBuf,
}

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
        std::fs::create_dir_all(folder).expect("a folder");
        let script = "mount -t tmpfs -o size=$1 none \"$2\" && echo mounted && exec cat >/dev/null";
        let mut keeper = Command::new("unshare")
            .args(["--map-root-user", "--mount", "sh", "-c", script, "sh", size])
            .arg(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare is there");
        let stdin = keeper.stdin.take().expect("it is piped");
        let mut said = String::new();
        let stdout = keeper.stdout.take().expect("it is piped");
        std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut said).expect("text");
        if said.trim() != "mounted" {
            eprintln!("skipped: no namespaces are to be had here, and so no small disk");
            keeper.wait().expect("it has ended");
            return None;
        }
        Some(Self { keeper, _stdin: stdin, folder: folder.to_owned() })
    }

    /// Returns the command `sandhog` with the site's configuration, which sees the disk.
    #[must_use]
    pub fn sandhog(&self, site: &Site) -> Command {
        let mut command = Command::new("nsenter");
        let keeper = self.keeper.id().to_string();
        command.args(["--user", "--mount", "--preserve-credentials", "--target", &keeper, "--"]);
        command.arg(binary()).arg("--config").arg(site.config());
        command
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
        std::fs::remove_file(self.path().join(FILLER)).expect("it was filled");
    }

    /// Returns the path at which processes outside its namespaces find the disk.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        let inside = self.folder.strip_prefix("/").expect("an absolute path");
        PathBuf::from(format!("/proc/{}/root", self.keeper.id())).join(inside)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // It may have ended already.
        self.keeper.kill().ok();
        self.keeper.wait().ok();
    }
}
