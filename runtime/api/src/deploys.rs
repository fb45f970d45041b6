//! Deploys: which plugins are in force, what deploys have done, what came of a reload.

use sandhog_core::id::{PluginName, Revision, TenantId};
use sandhog_core::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::Time;

/// A longer message is cut. In bytes.
const MESSAGE_MAX: usize = 8 * 1024;

/// What a deploy has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeployEventKind {
    /// A revision is in force.
    Deployed,
    /// The revision is the same, its terms are others.
    Changed,
    /// A new revision gets a share of the jobs.
    CanaryStarted,
    /// The new revision did as well as the old one, and gets all jobs.
    Promoted,
    /// An earlier revision is in force again.
    RolledBack,
    /// A plugin's new revision or terms couldn't be deployed, or its file is wrong; what was in force still is.
    Failed,
    /// A plugin is no longer deployed. What runs of it finishes.
    Removed,
    /// A tenant has come.
    TenantAdded,
    /// A tenant's terms are others.
    TenantChanged,
    /// A tenant is gone. What runs of it finishes.
    TenantRemoved,
    /// The daemon's file is wrong; nothing was changed.
    Rejected,
}

impl DeployEventKind {
    /// The name in the log and in what programs get.
    #[must_use]
    pub fn slug(self) -> &'static str {
        match self {
            Self::Deployed => "deployed",
            Self::Changed => "changed",
            Self::CanaryStarted => "canary-started",
            Self::Promoted => "promoted",
            Self::RolledBack => "rolled-back",
            Self::Failed => "failed",
            Self::Removed => "removed",
            Self::TenantAdded => "tenant-added",
            Self::TenantChanged => "tenant-changed",
            Self::TenantRemoved => "tenant-removed",
            Self::Rejected => "rejected",
        }
    }
}

/// Something that a deploy has done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeployEvent {
    /// When.
    #[serde(alias = "at_ms")]
    pub at: Time,
    /// What.
    pub what: DeployEventKind,
    /// Whose plugin it is about, or which tenant.
    pub tenant: Option<String>,
    /// The plugin.
    pub plugin: Option<String>,
    /// The revision that it is about.
    pub revision: Option<String>,
    /// The one that was in force before.
    pub was: Option<String>,
    /// Why, in full.
    pub message: Option<String>,
}

impl DeployEvent {
    /// Something about the whole configuration.
    #[must_use]
    pub fn new(at: Timestamp, what: DeployEventKind) -> Self {
        Self { at: at.into(), what, tenant: None, plugin: None, revision: None, was: None, message: None }
    }

    /// Something about a tenant.
    #[must_use]
    pub fn of_tenant(at: Timestamp, what: DeployEventKind, tenant: &TenantId) -> Self {
        Self { tenant: Some(tenant.to_string()), ..Self::new(at, what) }
    }

    /// Something about a plugin.
    #[must_use]
    pub fn of_plugin(
        at: Timestamp,
        what: DeployEventKind,
        (tenant, plugin): &(TenantId, PluginName),
    ) -> Self {
        Self { plugin: Some(plugin.to_string()), ..Self::of_tenant(at, what, tenant) }
    }

    /// Whether it is about this plugin.
    #[must_use]
    pub fn is_of(&self, (tenant, plugin): &(TenantId, PluginName)) -> bool {
        self.tenant.as_deref() == Some(tenant.as_str()) && self.plugin.as_deref() == Some(plugin.as_str())
    }

    /// Names the revision that it is about.
    #[must_use]
    pub fn revision(mut self, revision: Revision) -> Self {
        self.revision = Some(revision.to_string());
        self
    }

    /// Names the revision that was in force before.
    #[must_use]
    pub fn was(mut self, revision: Option<Revision>) -> Self {
        self.was = revision.map(|revision| revision.to_string());
        self
    }

    /// Says why. A text of more than 8 KiB is cut.
    #[must_use]
    pub fn message(mut self, message: impl Into<String>) -> Self {
        let mut message = message.into();
        if message.len() > MESSAGE_MAX {
            let end = (0..=MESSAGE_MAX).rev().find(|end| message.is_char_boundary(*end)).unwrap_or(0);
            message.truncate(end);
            message.push('…');
        }
        self.message = Some(message);
        self
    }
}

/// What deploys have done lately.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeployEvents {
    /// The oldest first.
    pub events: Vec<DeployEvent>,
}

/// How all plugins stand.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PluginStatuses {
    /// In order of tenant and name.
    pub plugins: Vec<PluginStatus>,
}

/// What came of a reload, in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReloadOutcome {
    /// All is as it was.
    Unchanged,
    /// What could be changed was.
    Applied,
    /// The daemon's file is wrong, and nothing was changed.
    Rejected,
}

/// What came of a reload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloaded {
    /// In a word.
    pub outcome: ReloadOutcome,
    /// What was done, failures included.
    pub changes: Vec<DeployEvent>,
    /// Keys that differ from what the daemon was started with, and can't change while it runs.
    pub needs_restart: Vec<String>,
    /// All that is wrong with the daemon's file, for people, each with its place.
    pub problems: Option<String>,
}

impl Reloaded {
    /// Nothing was to be done.
    #[must_use]
    pub fn unchanged() -> Self {
        let outcome = ReloadOutcome::Unchanged;
        Self { outcome, changes: Vec::new(), needs_restart: Vec::new(), problems: None }
    }

    /// This was done.
    #[must_use]
    pub fn applied(changes: Vec<DeployEvent>, needs_restart: Vec<String>) -> Self {
        Self { outcome: ReloadOutcome::Applied, changes, needs_restart, problems: None }
    }

    /// Nothing was done, as this is wrong.
    #[must_use]
    pub fn rejected(problems: String) -> Self {
        Self { outcome: ReloadOutcome::Rejected, problems: Some(problems), ..Self::unchanged() }
    }
}

/// Which plugin goes back to which revision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RollBack {
    /// `TENANT/NAME`, or `NAME` if only one tenant has such a plugin.
    pub plugin: String,
    /// The first digits of the revision's sha256, or all of them; without it, the one before what is in force.
    #[serde(default)]
    pub to: Option<String>,
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
    /// Since when it is in force.
    pub since: Option<Time>,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_bounded() {
        let at = Timestamp::from_millis(0);
        let long = DeployEvent::new(at, DeployEventKind::Failed).message("ü".repeat(MESSAGE_MAX));
        assert!(long.message.expect("it is there").len() <= MESSAGE_MAX + '…'.len_utf8());
    }

    #[test]
    fn an_event_that_a_version_before_has_kept_is_read() {
        let kept = r#"{"at_ms":1500,"what":"canary-started","tenant":"acme","plugin":"hog","revision":null,"was":null,"message":null}"#;
        let event: DeployEvent = serde_json::from_str(kept).expect("it can be read");
        assert_eq!(
            (event.at, event.what),
            (Time(Timestamp::from_millis(1_500)), DeployEventKind::CanaryStarted)
        );
    }

    #[test]
    fn slugs_are_what_programs_get() {
        for what in [DeployEventKind::RolledBack, DeployEventKind::TenantAdded, DeployEventKind::Deployed] {
            assert_eq!(serde_json::to_value(what).expect("JSON"), what.slug());
        }
        for state in [PluginState::RolledBack, PluginState::Serving] {
            assert_eq!(serde_json::to_value(state).expect("JSON"), state.slug());
        }
    }
}
