//! Notifications between processes that share a file. Each process that listens has a Unix datagram socket in a folder beside
//! the file. A process that commits something that wakes a tenant sends the tenant's name to all the others; for a leased job
//! that is to be cancelled, with a `/` and the job's id, for a schedule that is due earlier with `/due`, and
//! for events with `/events`.
//!
//! Nothing is lost, except in a crash between a commit and its notifications:
//! - Sending never waits. If a listener's buffer is full, at least two datagrams are unread there; and a listener that
//!   finds two at once takes them for [`Wake::All`] as well.
//! - A process that starts to listen gets [`Wake::All`] once its socket is there.
//!
//! A process that was killed leaves its socket behind; the first sender that gets no answer there removes it. Names are used
//! once, so no process removes the socket of a living one.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File};
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use sandhog_core::id::{JobId, TenantId};

use super::rights;
use crate::wake::Listeners;
use crate::{Result, Wake};

/// Maximum length of a path, in bytes, that fits the address of a socket on every system.
const ADDRESS_MAX: usize = 100;
/// Size of the receive buffer, in bytes: longer than any tenant's name with a job's id.
const DATAGRAM_MAX: usize = 256;

/// Sends to the sockets of all processes that listen, and owns this process's socket.
pub(super) struct SocketNotifier {
    folder: PathBuf,
    /// The open folder, by which sockets get a short path if the long one doesn't fit an address.
    handle: File,
    outgoing: UnixDatagram,
    own: Mutex<Option<ListeningSocket>>,
}

/// The socket of this process, and the thread that reads it.
struct ListeningSocket {
    name: String,
    address: PathBuf,
    hearing: Option<JoinHandle<()>>,
}

impl SocketNotifier {
    /// Opens the folder of sockets beside this database file, and creates it if it is missing.
    pub(super) fn beside(database: &Path) -> Result<Self> {
        let folder = rights::beside(database, ".wakes");
        match DirBuilder::new().mode(0o700).create(&folder) {
            Ok(()) => rights::give_to_owner_of_folder(&folder)?,
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(rights::unfit(&folder, "making it", &error)),
        }
        let handle = open_folder(&folder).map_err(|error| rights::unfit(&folder, "opening it", &error))?;
        let socket = || {
            let socket = UnixDatagram::unbound()?;
            socket.set_nonblocking(true)?;
            Ok(socket)
        };
        let outgoing =
            socket().map_err(|error: io::Error| rights::unfit(&folder, "making a socket for it", &error))?;
        Ok(Self { folder, handle, outgoing, own: Mutex::new(None) })
    }

    /// Starts to receive the notifications of other processes, unless this has been done already.
    pub(super) fn listen(&self, listeners: &Arc<Listeners>) -> Result<()> {
        let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        if own.is_none() {
            let name = format!("{}-{:032x}", std::process::id(), rand::random::<u128>());
            let address = self.address(&name);
            let failed = |error: io::Error| rights::unfit(&self.folder, "listening for news in it", &error);
            let socket = UnixDatagram::bind(&address).map_err(failed)?;
            rights::give_to_owner_of_folder(&self.folder.join(&name))?;
            let listeners = Arc::clone(listeners);
            let hearing = thread::Builder::new().name("sandhog-wakes".to_owned());
            let hearing = hearing.spawn(move || hear(&socket, &listeners)).map_err(failed)?;
            *own = Some(ListeningSocket { name, address, hearing: Some(hearing) });
        }
        Ok(())
    }

    /// Notifies the other processes. Never waits: a process that can't be told is gone, or has enough unread to ask for
    /// everything.
    pub(super) fn notify(&self, news: &BTreeSet<Wake>) {
        if news.is_empty() {
            return;
        }
        let own = self
            .own
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .as_ref()
            .map(|socket| socket.name.clone());
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) => {
                tracing::warn!(folder = %self.folder.display(), %error, "other processes can't be told of new jobs");
                return;
            }
        };
        for name in entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()) {
            if Some(&name) != own.as_ref() {
                self.ring_one(&name, news);
            }
        }
    }

    fn ring_one(&self, name: &str, news: &BTreeSet<Wake>) {
        let address = self.address(name);
        for datagram in news.iter().filter_map(datagram) {
            match self.outgoing.send_to(datagram.as_bytes(), &address) {
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                    // A socket that can't be removed does no harm.
                    let _left = fs::remove_file(self.folder.join(name));
                    return;
                }
                Err(error) if error.kind() == ErrorKind::NotFound => return,
                Err(error) if error.kind() != ErrorKind::WouldBlock => {
                    tracing::warn!(socket = name, %error, "another process can't be told of new jobs");
                    return;
                }
                _ => {}
            }
        }
    }

    /// Returns a path of a socket that is short enough to be an address.
    fn address(&self, name: &str) -> PathBuf {
        let path = self.folder.join(name);
        if path.as_os_str().len() <= ADDRESS_MAX {
            return path;
        }
        PathBuf::from(format!("/proc/self/fd/{}/{name}", self.handle.as_raw_fd()))
    }
}

impl Drop for SocketNotifier {
    fn drop(&mut self) {
        let own = self.own.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut socket) = own else { return };
        // An empty datagram ends the thread. If it can't be sent, the thread lives until the process ends.
        let told = UnixDatagram::unbound().and_then(|sender| sender.send_to(&[], &socket.address));
        if told.is_ok()
            && let Some(hearing) = socket.hearing.take()
            && hearing.join().is_err()
        {
            tracing::error!("the thread that hears of new jobs has panicked, which is a bug");
        }
        // If it can't be removed, the next process that notifies removes it.
        let _left = fs::remove_file(self.folder.join(&socket.name));
    }
}

fn open_folder(path: &Path) -> io::Result<File> {
    let folder = File::open(path)?;
    if folder.metadata()?.is_dir() { Ok(folder) } else { Err(ErrorKind::NotADirectory.into()) }
}

/// Passes on incoming notifications, until an empty datagram comes.
fn hear(socket: &UnixDatagram, listeners: &Listeners) {
    let mut datagram = [0; DATAGRAM_MAX];
    loop {
        match socket.recv(&mut datagram) {
            Ok(0) => return,
            Ok(length) => pass_on(&datagram[..length], listeners),
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => {
                tracing::warn!(%error, "no more news of new jobs from other processes");
                return;
            }
        }
        match drain(socket, &mut datagram, listeners) {
            Ok(Missed::Nothing) => {}
            Ok(Missed::Perhaps) => listeners.wake(&Wake::All),
            Err(Ended) => return,
        }
    }
}

/// Error: this process has asked the thread to end.
struct Ended;

/// Whether notifications may have been lost for want of room.
enum Missed {
    Nothing,
    Perhaps,
}

/// Passes on what else has come in.
fn drain(
    socket: &UnixDatagram,
    datagram: &mut [u8],
    listeners: &Listeners,
) -> std::result::Result<Missed, Ended> {
    let mut missed = Missed::Nothing;
    if socket.set_nonblocking(true).is_err() {
        return Ok(Missed::Perhaps);
    }
    loop {
        match socket.recv(datagram) {
            Ok(0) => return Err(Ended),
            Ok(length) => pass_on(&datagram[..length], listeners),
            Err(_) => break,
        }
        missed = Missed::Perhaps;
    }
    match socket.set_nonblocking(false) {
        Ok(()) => Ok(missed),
        Err(_) => Err(Ended),
    }
}

/// Passes on a notification. One that can't be read comes from another version, and is taken for [`Wake::All`].
fn pass_on(datagram: &[u8], listeners: &Listeners) {
    listeners.wake(&wake(datagram).unwrap_or(Wake::All));
}

/// Stands for [`Wake::Due`] in the place of a job's id. Earlier versions take it for [`Wake::All`].
const DUE: &str = "due";

/// Stands for [`Wake::Events`] likewise.
const EVENTS: &str = "events";

/// Returns a wake as it is sent to other processes; `None` for [`Wake::All`], which isn't sent.
fn datagram(wake: &Wake) -> Option<String> {
    match wake {
        Wake::Ready { tenant, .. } => Some(tenant.to_string()),
        Wake::Cancel(tenant, job) => Some(format!("{tenant}/{job}")),
        Wake::Due(tenant) => Some(format!("{tenant}/{DUE}")),
        Wake::Events(tenant) => Some(format!("{tenant}/{EVENTS}")),
        Wake::All => None,
    }
}

fn wake(datagram: &[u8]) -> Option<Wake> {
    let text = std::str::from_utf8(datagram).ok()?;
    match text.split_once('/') {
        Some((tenant, DUE)) => Some(Wake::Due(TenantId::parse(tenant).ok()?)),
        Some((tenant, EVENTS)) => Some(Wake::Events(TenantId::parse(tenant).ok()?)),
        Some((tenant, job)) => Some(Wake::Cancel(TenantId::parse(tenant).ok()?, JobId::parse(job).ok()?)),
        None => Some(Wake::Ready { tenant: TenantId::parse(text).ok()?, named: None }),
    }
}
