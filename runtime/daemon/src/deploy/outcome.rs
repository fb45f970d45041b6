//! What came of a reload, and how plugins stand: for the log, for the control socket, for people.

use serde::{Deserialize, Serialize};

use super::events::Event;

/// What came of a reload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub enum ReloadOutcome {
    /// All is as it was.
    Unchanged,
    /// What could be changed was.
    Applied {
        /// What was done, failures included.
        changes: Vec<Event>,
        /// Keys that differ from what the daemon was started with, and can't change while it runs.
        needs_restart: Vec<String>,
    },
    /// The daemon's file is wrong, and nothing was changed.
    Rejected {
        /// All that is wrong, for people, each with its place.
        problems: String,
    },
}

/// How a plugin stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PluginState {
    /// It is as its TOML has it.
    Serving,
    /// A new revision is on trial.
    Canary,
    /// Its component was taken back; an earlier revision is in force until that changes.
    RolledBack,
    /// What its TOML has can't be deployed; what was in force still is, if there was something.
    Failed,
    /// It is no longer deployed, and some of it still runs.
    Draining,
}

impl PluginState {
    /// The name in what programs get.
    #[must_use]
    pub fn slug(self) -> &'static str {
        match self {
            Self::Serving => "serving",
            Self::Canary => "canary",
            Self::RolledBack => "rolled-back",
            Self::Failed => "failed",
            Self::Draining => "draining",
        }
    }
}

/// A plugin, and how it stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PluginStatus {
    /// Whose it is, unless its file doesn't say so.
    pub tenant: Option<String>,
    /// Its name; without a tenant, its file.
    pub plugin: String,
    /// How it stands.
    pub state: PluginState,
    /// The revision in force, if there is one.
    pub revision: Option<String>,
    /// Since when it is in force, in milliseconds since 1970.
    pub since_ms: Option<u64>,
    /// Why it is not as its TOML has it.
    pub message: Option<String>,
    /// What is on trial.
    pub canary: Option<CanaryStatus>,
    /// Runs under way.
    pub running: u32,
    /// The revisions that can be gone back to, the latest deployed first.
    pub kept: Vec<String>,
}

/// A revision on trial.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CanaryStatus {
    /// The revision.
    pub revision: String,
    /// Its share of the jobs, 0 to 1.
    pub share: f64,
    /// How often either side has to run before anything is decided.
    pub runs_min: u32,
    /// What the revision in force has done meanwhile.
    pub old: SideStatus,
    /// What the one on trial has done.
    pub new: SideStatus,
}

/// One side of a trial.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SideStatus {
    /// Runs that ended by themselves.
    pub runs: u64,
    /// Those of them that failed.
    pub failures: u64,
    /// Fuel of the others, on average.
    pub fuel_mean: Option<f64>,
}
