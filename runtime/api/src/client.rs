//! A command's end of the socket.

use std::io;
use std::path::{Path, PathBuf};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::message::{Reply, Request, line, socket};

/// No reply is longer.
const REPLY_MAX: u64 = 64 * 1024 * 1024;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Unanswered {
    /// Nobody listens.
    #[error("no daemon listens on {0}")]
    NoDaemon(PathBuf),
    /// The socket can't be used, or what came is no reply.
    #[error("can't speak with the daemon on {path}: {cause}")]
    Broken {
        /// The socket.
        path: PathBuf,
        /// What went wrong.
        cause: io::Error,
    },
}

/// Asks the daemon whose folder of deploys this is, and waits for its answer as long as it takes.
///
/// # Errors
/// If there is no daemon, or no answer.
pub async fn ask(deploys: &Path, request: &Request) -> Result<Reply, Unanswered> {
    let path = socket(deploys);
    exchange(&path, request).await.map_err(|cause| match cause.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Unanswered::NoDaemon(path),
        _ => Unanswered::Broken { path, cause },
    })
}

async fn exchange(path: &Path, request: &Request) -> io::Result<Reply> {
    let mut stream = UnixStream::connect(path).await?;
    stream.write_all(&line(request)?).await?;
    let mut reply = Vec::new();
    stream.take(REPLY_MAX).read_to_end(&mut reply).await?;
    if reply.is_empty() {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it has hung up; its log may say why"));
    }
    Ok(serde_json::from_slice(&reply)?)
}
