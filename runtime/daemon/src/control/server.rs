//! The daemon's end of the socket.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::{Reply, Request, socket};
use crate::deploy::{Handle, RollBack};

/// A longer request is none.
const REQUEST_MAX: u64 = 16 * 1024;

/// How long a request may take to come in, and a reply to be taken.
const PATIENCE: Duration = Duration::from_secs(10);

/// Connections that are served at once. A reload takes as long as its components take to compile, and is waited for.
const CONNECTIONS_MAX: usize = 32;

/// Why the daemon can't be spoken to.
#[derive(Debug, thiserror::Error)]
#[error("can't listen on {path}, which is in deploy.folder: {cause}")]
pub struct ListenError {
    path: PathBuf,
    cause: io::Error,
}

/// A socket that nobody has been served on yet.
#[derive(Debug)]
pub struct Listener(UnixListener);

impl Listener {
    /// Makes the socket in the folder of deploys. One that a daemon before has left there is replaced.
    ///
    /// # Errors
    /// If it can't be made.
    pub fn bind(deploys: &Path) -> Result<Self, ListenError> {
        let path = socket(deploys);
        // It is out of reach under another name until nobody else can open it.
        let begun = path.with_extension(format!("{}", std::process::id()));
        let bound = remove(&begun).and_then(|()| {
            let listener = UnixListener::bind(&begun)?;
            fs::set_permissions(&begun, Permissions::from_mode(0o600))?;
            fs::rename(&begun, &path)?;
            Ok(Self(listener))
        });
        bound.map_err(|cause| ListenError { path, cause })
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Serves until the daemon ends.
pub async fn serve(listener: Listener, deployer: Handle) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut served = JoinSet::new();
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.0.accept().await {
            Ok((stream, _)) => {
                let deployer = deployer.clone();
                served.spawn(async move {
                    // Whoever hangs up, or says nothing, is no concern of ours.
                    if let Err(error) = answer(stream, &deployer).await {
                        tracing::debug!(%error, "a connection to the control socket has ended early");
                    }
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "the control socket refuses a connection");
                // Out of file handles, say: that must not spin.
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        while served.try_join_next().is_some() {}
    }
}

async fn answer(mut stream: UnixStream, deployer: &Handle) -> io::Result<()> {
    let mut line = Vec::new();
    let (read, mut write) = stream.split();
    let mut bounded = BufReader::new(read.take(REQUEST_MAX));
    timeout(PATIENCE, bounded.read_until(b'\n', &mut line)).await??;
    let reply = match serde_json::from_slice(&line) {
        Ok(request) => carry_out(request, deployer).await,
        Err(error) => {
            Reply::Refused { message: format!("this daemon doesn't understand the request: {error}") }
        }
    };
    let mut text = serde_json::to_vec(&reply)?;
    text.push(b'\n');
    timeout(PATIENCE, write.write_all(&text)).await??;
    timeout(PATIENCE, write.shutdown()).await?
}

async fn carry_out(request: Request, deployer: &Handle) -> Reply {
    let done = match request {
        Request::Reload => deployer.reload().await.map(|outcome| Reply::Reloaded { outcome }),
        Request::RollBack { plugin, to } => {
            let done = deployer.roll_back(RollBack { plugin, to }).await;
            done.map(|event| Reply::RolledBack { event })
        }
        Request::Plugins => Ok(Reply::Plugins { plugins: deployer.plugins() }),
        Request::Events => Ok(Reply::Events { events: deployer.events() }),
    };
    done.unwrap_or_else(|refusal| Reply::Refused { message: refusal.to_string() })
}
