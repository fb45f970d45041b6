//! Use case of those who watch over the process: whether it can do its work.

use std::time::Duration;

use sandhog_api::Problem;

use super::{Service, Settings, of_broker};
use crate::vitals::FETCH_MAX;

/// Checks that the broker answers. Anybody may ask.
///
/// # Errors
/// The broker doesn't answer.
pub async fn broker(service: &Service) -> Result<(), Problem> {
    let config = service.config();
    match config.tenants.keys().next() {
        // A count by state costs the same however many jobs there are.
        Some(tenant) => service.broker.counts(tenant).await.map(drop).map_err(of_broker),
        None => Ok(()),
    }
}

/// Lists what keeps the daemon in this process from running jobs as it should, for people; nothing if no daemon runs here.
/// Anybody may ask, so no names are told.
#[must_use]
pub fn problems(service: &Service) -> Vec<String> {
    let plugins = match &service.settings {
        Settings::InForce(deployer) => (
            deployer.config().plugins.len(),
            deployer.plugins().iter().filter(|plugin| plugin.revision.is_some()).count(),
        ),
        Settings::Read(_) | Settings::Followed(_) => (0, 0),
    };
    found(plugins, service.vitals.as_ref().and_then(|vitals| vitals.overdue()))
}

/// Decides what is wrong, given the numbers of plugins that are configured and in force, and for how long no jobs were fetched
/// that could have been.
fn found((configured, in_force): (usize, usize), overdue: Option<Duration>) -> Vec<String> {
    let plugins = (configured > 0 && in_force == 0).then(|| "no plugin is in force".to_owned());
    let fetch = overdue.map(|silent| {
        format!("no jobs were fetched for {} s, and {} s are too many", silent.as_secs(), FETCH_MAX.as_secs())
    });
    plugins.into_iter().chain(fetch).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_daemon_is_ready_if_it_fetches_and_has_a_plugin_or_needs_none() {
        assert_eq!(found((0, 0), None), [""; 0]);
        assert_eq!(found((3, 1), None), [""; 0]);
        assert_eq!(found((3, 0), None), ["no plugin is in force"]);
        let overdue = Some(Duration::from_secs(75));
        assert_eq!(found((1, 1), overdue), ["no jobs were fetched for 75 s, and 60 s are too many"]);
    }
}
