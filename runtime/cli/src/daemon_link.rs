//! Access to the running daemon, for the commands that talk to it.

use std::path::Path;

use sandhog_api::{Client, ClientError};
use sandhog_config as config;

use crate::exit::Failure;

/// Returns a client of the daemon that runs with this configuration. Whether one runs is not checked.
///
/// # Errors
/// If the configuration can't be read.
pub(crate) fn daemon(path: &Path) -> Result<Client, Failure> {
    Ok(Client::local(&config::deploy_folder(path)?))
}

/// Creates the failure of a request that the daemon of this configuration refused or didn't answer.
pub(crate) fn unanswered(path: &Path, error: ClientError) -> Failure {
    match error {
        ClientError::Problem(problem) => (*problem).into(),
        ClientError::NoDaemon(_) => {
            let config = path.display();
            Failure::new(error.to_string())
                .help(format!("start one with this configuration: sandhog --config {config} run"))
                .help("or name the configuration of the one that runs: --config PATH")
        }
        ClientError::Broken { .. } => Failure::new(error.to_string()),
    }
}
