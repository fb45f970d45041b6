//! The socket on which a daemon takes commands.
//!
//! It is a file in the folder of deploys that only the daemon's user can open. Still, nothing that comes in is trusted:
//! lines are bounded, whoever is slow is hung up on, and no more than a few are served at once; the others wait.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sandhog_api::{Reply, Request, line, socket};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::deploy::{Handle, RollBack};

/// A longer line, its break included, is no request. In bytes.
pub const REQUEST_MAX: u64 = 16 * 1024;

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

/// Why what came is no request.
#[derive(Debug, thiserror::Error)]
pub enum NoRequest {
    /// The line is longer than [`REQUEST_MAX`].
    #[error("the request is longer than {max} bytes", max = REQUEST_MAX)]
    TooLong,
    /// The line isn't the JSON of a request.
    #[error("this daemon doesn't understand the request: {0}")]
    NotUnderstood(serde_json::Error),
}

impl NoRequest {
    /// The answer.
    #[must_use]
    pub fn reply(&self) -> Reply {
        Reply::Refused { message: self.to_string() }
    }
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
    let (read, mut write) = stream.split();
    let reply = match timeout(PATIENCE, read_request(read)).await?? {
        Ok(request) => carry_out(request, deployer).await,
        Err(error) => error.reply(),
    };
    timeout(PATIENCE, write.write_all(&line(&reply)?)).await??;
    timeout(PATIENCE, write.shutdown()).await?
}

/// Reads one line, and what it asks for.
///
/// # Errors
/// If nothing can be read from there.
pub async fn read_request(from: impl AsyncRead + Unpin) -> io::Result<Result<Request, NoRequest>> {
    let mut line = Vec::new();
    // A byte more than may be shows that there is more.
    BufReader::new(from.take(REQUEST_MAX + 1)).read_until(b'\n', &mut line).await?;
    if line.len() as u64 > REQUEST_MAX {
        return Ok(Err(NoRequest::TooLong));
    }
    Ok(serde_json::from_slice(&line).map_err(NoRequest::NotUnderstood))
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
