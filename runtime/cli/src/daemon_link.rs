//! Access to the running daemon, for the commands that talk to it.

use sandhog_api::{Client, ClientError, Slug};
use sandhog_config as config;

use crate::exit::Failure;
use crate::target::Target;

/// Returns a client of the daemon that runs with this configuration, or of the server that is meant. Whether one runs is not
/// checked.
///
/// # Errors
/// If the configuration can't be read.
pub(crate) fn daemon(target: &Target) -> Result<Client, Failure> {
    match target {
        Target::Config(path) => Ok(Client::local(&config::deploy_folder(path)?)),
        Target::Server(client) => Ok(client.clone()),
    }
}

/// Creates the failure of a request that the daemon refused or didn't answer.
pub(crate) fn unanswered(target: &Target, error: ClientError) -> Failure {
    match (error, target) {
        (error @ ClientError::NoDaemon(_), Target::Config(config)) => {
            let config = config.display();
            Failure::new(error.to_string())
                .help(format!("start one with this configuration: sandhog --config {config} run"))
                .help("or name the configuration of the one that runs: --config PATH")
        }
        (ClientError::Problem(problem), Target::Server(_)) if problem.slug == Slug::NoDaemon => {
            Failure::from(*problem).help("of `sandhog serve` this can't be had: name a daemon's address")
        }
        (error, _) => Failure::from(error),
    }
}
