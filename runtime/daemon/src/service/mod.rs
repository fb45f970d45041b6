//! Use cases: what people and programs can ask for, as plain functions.
//!
//! Each takes a [`Service`], which has what is needed to do it, and a [`Caller`], who asks. For a caller, jobs and plugins of
//! tenants out of scope don't exist; a refusal is a [`Problem`]. The daemon's HTTP interface and the
//! command line, which goes without a daemon where it can, both call these.
//!
//! | part | is about |
//! |---|---|
//! | [`jobs`] | looking at jobs, acting on them |
//! | [`bulk`] | acting on all jobs that a filter lets through |
//! | [`enqueue`] | routing jobs by kind, and storing them |
//! | [`asks`] | jobs as programs ask for them |
//! | [`failures`] | dead jobs, in groups of those that died of the same |
//! | [`flows`] | jobs that wait for others: storing them, and looking at them |
//! | [`breakers`] | circuit breakers: their states, and changes of them by hand |
//! | [`holds`] | pausing jobs, and what is held back |
//! | [`groups`] | groups of jobs that are held |
//! | [`queues`] | queues, with the numbers of their jobs |
//! | [`schedules`] | schedules of jobs |
//! | [`plugins`] | the plugins in force, reloads, rollbacks |
//! | [`tenants`] | the tenants, and what they have spent |
//! | [`daemons`] | the fleet |
//! | [`metrics`] | what was counted |
//! | [`health`] | whether the process can do its work |

pub mod asks;
pub mod breakers;
pub mod bulk;
mod caller;
pub mod daemons;
pub mod enqueue;
pub mod events;
pub mod failures;
pub mod flows;
pub mod groups;
pub mod health;
pub mod holds;
pub mod jobs;
pub mod limits;
pub mod metrics;
pub mod plugins;
pub mod queues;
pub mod schedules;
pub mod tenants;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::Arc;

use sandhog_api::{Problem, Slug};
use sandhog_broker::{Broker, Error};
use sandhog_config::Config;
use sandhog_core::labels::Labels;
use tokio::sync::watch;

use crate::deploy::Handle;
use crate::telemetry::metrics::Metrics;
use crate::vitals::Vitals;

pub use caller::{Caller, Role, Scope};

/// Broker and configuration that the use cases work with.
#[derive(Clone)]
pub struct Service {
    broker: Arc<dyn Broker>,
    settings: Settings,
    /// Signs of life of the daemon in this process, if one runs here.
    vitals: Option<Arc<Vitals>>,
    metrics: Arc<Metrics>,
}

/// Leaves out all that it has.
impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Service")
    }
}

/// Source of the configuration.
#[derive(Clone)]
enum Settings {
    /// The configuration was read once; no daemon runs in this process.
    Read(Arc<Config>),
    /// The configuration is read again when it changes; no daemon runs in this process.
    Followed(watch::Receiver<Arc<Config>>),
    /// The configuration is the one that the deployer has in force.
    InForce(Handle),
}

impl Service {
    /// Creates the service for use cases that go without a daemon: those on jobs and usage.
    #[must_use]
    pub fn without_daemon(config: Arc<Config>, broker: Arc<dyn Broker>) -> Self {
        Self { broker, settings: Settings::Read(config), vitals: None, metrics: Metrics::unused() }
    }

    /// Creates the service for use cases that go without a daemon, by the configuration that was sent last.
    #[must_use]
    pub fn following(config: watch::Receiver<Arc<Config>>, broker: Arc<dyn Broker>) -> Self {
        Self { broker, settings: Settings::Followed(config), vitals: None, metrics: Metrics::unused() }
    }

    /// Creates the service for all use cases, in the daemon that has this deployer and gives these signs of life.
    #[must_use]
    pub fn of_daemon(deployer: Handle, broker: Arc<dyn Broker>, vitals: Arc<Vitals>) -> Self {
        let settings = Settings::InForce(deployer);
        Self { broker, settings, vitals: Some(vitals), metrics: Metrics::unused() }
    }

    /// Returns the service with the counts of this process, which it tells.
    #[must_use]
    pub fn with_metrics(self, metrics: Arc<Metrics>) -> Self {
        Self { metrics, ..self }
    }

    /// Configuration that counts now.
    #[must_use]
    pub fn config(&self) -> Arc<Config> {
        match &self.settings {
            Settings::Read(config) => Arc::clone(config),
            Settings::Followed(config) => Arc::clone(&config.borrow()),
            Settings::InForce(deployer) => deployer.config(),
        }
    }

    fn deployer(&self) -> Result<&Handle, Problem> {
        match &self.settings {
            Settings::InForce(deployer) => Ok(deployer),
            Settings::Read(_) | Settings::Followed(_) => {
                Err(Problem::new(Slug::NoDaemon, "no daemon runs here"))
            }
        }
    }
}

/// Makes the problem for a part of a request that can't be understood.
pub(crate) fn malformed(what: &str, why: &dyn Display) -> Problem {
    Problem::new(Slug::MalformedRequest, format!("{what}: {why}"))
}

/// Parses a text of a request, if it is there.
///
/// # Errors
/// `parse` refuses it.
pub(crate) fn parsed<T, E: Display>(
    what: &str,
    text: Option<&str>,
    parse: impl FnOnce(&str) -> Result<T, E>,
) -> Result<Option<T>, Problem> {
    text.map(|text| parse(text).map_err(|error| malformed(what, &error))).transpose()
}

/// Parses the labels of a request.
///
/// # Errors
/// One of them is none, or they are too many.
pub(crate) fn labels_of(labels: &BTreeMap<String, String>) -> Result<Labels, Problem> {
    let labels = labels.iter().map(|(name, value)| Labels::parse(&format!("{name}={value}")));
    let labels: Result<Vec<_>, _> = labels.collect();
    labels.and_then(Labels::of).map_err(|error| malformed("labels", &error))
}

/// Makes the problem for a broker's error.
fn of_broker(error: Error) -> Problem {
    let slug = match error {
        Error::Unavailable { .. } => Slug::BrokerUnavailable,
        Error::Full { .. } => Slug::BrokerFull,
        Error::Corrupt { .. } | Error::Sealed { .. } | Error::Unfit { .. } | Error::Bug { .. } => {
            Slug::BrokerUnfit
        }
    };
    let problem = Problem::new(slug, error.to_string());
    match error {
        Error::Unavailable { .. } => {
            problem.help("check that it runs and has room, and `[broker]` in the configuration")
        }
        Error::Full { remedy, .. } => problem.help(remedy),
        Error::Sealed { tenant, .. } => problem
            .help(format!("its keys are those of `[tenants.{tenant}.encryption]` in the configuration")),
        Error::Corrupt { .. } | Error::Unfit { .. } | Error::Bug { .. } => problem,
    }
}

/// Lists names for a message; of many, the first ones.
fn list<'n>(names: impl Iterator<Item = &'n str>) -> String {
    const SHOWN: usize = 12;
    let mut names: Vec<&str> = names.collect();
    names.sort_unstable();
    names.dedup();
    let more = if names.len() > SHOWN { ", …" } else { "" };
    names.truncate(SHOWN);
    format!("{}{more}", names.join(", "))
}
