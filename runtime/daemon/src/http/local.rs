//! The daemon's Unix socket on this machine.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use sandhog_api::socket_path;
use sandhog_files::own_folder::OwnFolder;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::connection::serve_connection;
use crate::service::Caller;

/// Maximum number of connections that are served at once; others wait. A reload takes as long as its components take to
/// compile, and is waited for.
const CONNECTIONS_MAX: usize = 32;

/// Reason why the socket can't be listened on.
#[derive(Debug, thiserror::Error)]
#[error("can't listen on {path}, which is in deploy.folder: {cause}")]
pub struct ListenError {
    path: PathBuf,
    cause: io::Error,
}

/// Socket that is bound, and serves nobody yet.
#[derive(Debug)]
pub struct Listener(UnixListener);

impl Listener {
    /// Binds the socket in the folder of deploys. One that an earlier daemon has left there is replaced.
    ///
    /// # Errors
    /// The socket can't be made.
    pub fn bind(deploys: &OwnFolder) -> Result<Self, ListenError> {
        let path = socket_path(&deploys.held());
        // The socket has another name until its permissions are set: so nobody else can open it.
        let begun = path.with_extension(format!("{}", std::process::id()));
        let bound = remove(&begun).and_then(|()| {
            let listener = UnixListener::bind(&begun)?;
            fs::set_permissions(&begun, Permissions::from_mode(0o600))?;
            fs::rename(&begun, &path)?;
            Ok(Self(listener))
        });
        bound.map_err(|cause| ListenError { path: socket_path(deploys.path()), cause })
    }

    /// Serves connections until the daemon ends.
    pub async fn serve(self, router: Router) {
        let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let mut served = JoinSet::new();
        loop {
            let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return };
            match self.0.accept().await {
                Ok((stream, _)) => {
                    let router = router.clone();
                    served.spawn(async move {
                        let caller = caller(&stream);
                        // A client that hangs up, or says nothing, is no concern of ours.
                        if let Err(error) = serve_connection(stream, router, caller).await {
                            tracing::debug!(%error, "a connection to the daemon's socket has ended early");
                        }
                        drop(permit);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "the daemon's socket refuses a connection");
                    // The cause may be a lack of file handles, say: that must not spin.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
            while served.try_join_next().is_some() {}
        }
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Identifies the caller at the other end by what the kernel says: the operator, or `None` for one that may ask for nothing.
/// The permissions of the socket say the same, and could be changed by mistake.
fn caller(stream: &UnixStream) -> Option<Caller> {
    let peer = stream.peer_cred().ok()?.uid();
    is_operator(peer, rustix::process::geteuid().as_raw()).then(Caller::operator)
}

fn is_operator(peer: u32, own: u32) -> bool {
    peer == own || peer == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_daemons_own_user_and_root_may_ask() {
        assert!(is_operator(1000, 1000) && is_operator(0, 1000) && is_operator(0, 0));
        assert!(!is_operator(1001, 1000) && !is_operator(1000, 0));
    }
}
