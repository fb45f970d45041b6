//! What commands share that speak with the running daemon.

use std::path::Path;

use sandhog_api::{Reply, Request, Unanswered, ask};
use sandhog_config as config;

use crate::exit::Failure;

/// Asks the daemon that runs with this configuration.
///
/// # Errors
/// If none does, or it refuses.
pub(crate) async fn ask_daemon(path: &Path, request: &Request) -> Result<Reply, Failure> {
    let folder = config::deploy_folder(path)?;
    match ask(&folder, request).await {
        Ok(Reply::Refused { message }) => Err(Failure::new(message)),
        Ok(reply) => Ok(reply),
        Err(error @ Unanswered::NoDaemon(_)) => {
            let failure = Failure::new(error.to_string());
            let config = path.display();
            Err(failure
                .help(format!("start one with this configuration: sandhog --config {config} run"))
                .help("or name the configuration of the one that runs: --config PATH"))
        }
        Err(error) => Err(Failure::new(error.to_string())),
    }
}

/// A reply that doesn't fit the request.
pub(crate) fn unexpected() -> Failure {
    Failure::new("the daemon gave an answer that this version of the command doesn't know")
}
