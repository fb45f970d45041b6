//! Disks that are full soon, or that don't answer, and name servers that don't.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, PipeWriter, Read, Write};
use std::net::UdpSocket;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread::{self, JoinHandle};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

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

/// Script that mounts a file system whose server is whoever holds its descriptor 3, and the argument of that script.
const SERVED: &str = "exec 3<>/dev/fuse && mount -i -t fuse -o \"$2\" none \"$1\"";
const SERVED_BY: &str = "fd=3,rootmode=40000,user_id=0,group_id=0";

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
        // Nobody reads what is asked of the file system's server.
        Mounted::new(folder, SERVED, SERVED_BY).map(Self)
    }

    /// Returns the command `sandhog` with the site's configuration, which sees the disk.
    #[must_use]
    pub fn sandhog(&self, site: &Site) -> Command {
        self.0.sandhog(site)
    }
}

/// Disk with an empty folder, which answers until [`StallingDisk::stall`]; from then on whatever is asked of it waits, until this
/// is dropped. Seen only by processes that [`StallingDisk::sandhog`] starts.
#[derive(Debug)]
pub struct StallingDisk {
    mounted: Mounted,
    server: Option<Server>,
    /// Descriptor of the file system's server, which is there as long as this is open.
    _held: OwnedFd,
}

/// Thread that answers for a disk until its pipe is closed.
#[derive(Debug)]
struct Server {
    ends: PipeWriter,
    thread: JoinHandle<()>,
}

impl StallingDisk {
    /// Mounts such a disk at a folder, which is created. `None`, with a message on standard error, if the machine doesn't
    /// allow it.
    ///
    /// # Panics
    /// If `unshare` can't be started, or the disk can't be served.
    #[must_use]
    pub fn mount(folder: &Path) -> Option<Self> {
        let mounted = Mounted::new(folder, SERVED, SERVED_BY)?;
        let keeper = pidfd_open(Pid::from_child(&mounted.keeper), PidfdFlags::empty()).expect("it runs");
        let device = pidfd_getfd(keeper, 3, PidfdGetfdFlags::empty()).expect("it is a child of ours");
        let held = device.try_clone().expect("there is room for a descriptor");
        let (ended, ends) = io::pipe().expect("a pipe");
        let thread = thread::spawn(move || {
            let mut device = File::from(device);
            let mut request = vec![0; REQUEST_MAX];
            loop {
                let mut ready =
                    [PollFd::new(&ended, PollFlags::empty()), PollFd::new(&device, PollFlags::IN)];
                poll(&mut ready, None).expect("two descriptors of ours");
                let [ended, asked] = ready.map(|file| !file.revents().is_empty());
                if ended {
                    return;
                }
                if asked {
                    // Who has asked may have given up meanwhile.
                    let Ok(length) = device.read(&mut request) else { continue };
                    if let Some(reply) = reply(&request[..length]) {
                        device.write_all(&reply).ok();
                    }
                }
            }
        });
        Some(Self { mounted, server: Some(Server { ends, thread }), _held: held })
    }

    /// Returns the command `sandhog` with the site's configuration, which sees the disk.
    #[must_use]
    pub fn sandhog(&self, site: &Site) -> Command {
        self.mounted.sandhog(site)
    }

    /// Has the disk answer no more.
    ///
    /// # Panics
    /// If it could never be served.
    pub fn stall(&mut self) {
        if let Some(Server { ends, thread }) = self.server.take() {
            drop(ends);
            thread.join().expect("it has served");
        }
    }
}

impl Drop for StallingDisk {
    fn drop(&mut self) {
        self.stall();
    }
}

/// Maximum size of what is asked of a disk's server at once, in bytes: the least that the kernel wants room for.
const REQUEST_MAX: usize = 64 << 10;

/// Maximum size of a write to a disk of ours, in bytes.
const WRITE_MAX: u32 = 4096;

/// Returns the reply to a request of the kernel (`linux/fuse.h`) to the server of a disk with an empty folder. `None` if it
/// wants none.
fn reply(request: &[u8]) -> Option<Vec<u8>> {
    const NO_ENTRY: i32 = -2;
    const NO_SUCH_CALL: i32 = -38;
    let (opcode, unique) = (&request[4..8], &request[8..16]);
    let words = |words: &[u32]| words.iter().flat_map(|word| word.to_ne_bytes()).collect::<Vec<u8>>();
    let (error, body) = match u32::from_ne_bytes(opcode.try_into().expect("four bytes")) {
        // FORGET, INTERRUPT, BATCH_FORGET.
        2 | 36 | 42 => return None,
        // LOOKUP.
        1 => (NO_ENTRY, Vec::new()),
        // GETATTR: valid for no time; inode, size, blocks and times; then their fractions, mode, links, owner.
        3 => {
            let mut words = words(&[0; 26]);
            for (at, value) in [(4, 1), (19, 0o40_777), (20, 2)] {
                words[4 * at..4 * at + 4].copy_from_slice(&u32::to_ne_bytes(value));
            }
            (0, words)
        }
        // STATFS.
        17 => (0, words(&[0; 20])),
        // INIT: version, and what has no default.
        26 => {
            let mut init = [0; 16];
            [init[0], init[1], init[5], init[6]] = [7, 31, WRITE_MAX, 1];
            (0, words(&init))
        }
        // OPENDIR.
        27 => (0, words(&[0; 4])),
        // READDIR, RELEASEDIR, READDIRPLUS.
        28 | 29 | 44 => (0, Vec::new()),
        _ => (NO_SUCH_CALL, Vec::new()),
    };
    let length = u32::try_from(16 + body.len()).expect("it is short");
    let head = [&length.to_ne_bytes()[..], &error.to_ne_bytes(), unique];
    Some([&head.concat()[..], &body].concat())
}

/// Name server that never answers, for names that aren't in `/etc/hosts`. Asked only by processes that [`SilentNames::sandhog`]
/// starts.
#[derive(Debug)]
pub struct SilentNames {
    mounted: Mounted,
    _socket: UdpSocket,
}

impl SilentNames {
    /// Sets up such a name server, with its files in a folder, which is created. `None`, with a message on standard error, if
    /// the machine doesn't allow it.
    ///
    /// # Panics
    /// If `unshare` can't be started.
    #[must_use]
    pub fn start(folder: &Path) -> Option<Self> {
        // Any address of the loopback is as good as another, and this one is hardly anybody's.
        let Ok(socket) = UdpSocket::bind("127.0.83.53:53") else {
            eprintln!("skipped: this machine doesn't allow a name server of its own");
            return None;
        };
        let script = "cd \"$1\" && printf \"$2\" >resolv.conf && echo 'hosts: files dns' >nsswitch.conf \
            && mount --bind resolv.conf /etc/resolv.conf && mount --bind nsswitch.conf /etc/nsswitch.conf";
        let resolves = "nameserver 127.0.83.53\\noptions timeout:30\\n";
        Mounted::new(folder, script, resolves).map(|mounted| Self { mounted, _socket: socket })
    }

    /// Returns the command `sandhog` with the site's configuration, which asks this name server.
    #[must_use]
    pub fn sandhog(&self, site: &Site) -> Command {
        self.mounted.sandhog(site)
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
