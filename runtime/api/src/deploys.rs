//! Deploys: which plugins are in force, what deploys have done, and the result of a reload.

use sandhog_core::id::{PluginName, Revision, TenantId};
use sandhog_core::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::Time;

/// Maximum length of a message in bytes; longer ones are cut.
const MESSAGE_MAX: usize = 8 * 1024;

/// Kind of a deploy event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeployEventKind {
    /// A revision came into force.
    Deployed,
    /// The terms of the plugin changed; its revision is the same.
    Changed,
    /// A new revision gets a share of the jobs.
    CanaryStarted,
    /// The new revision did as well as the old one, and gets all jobs.
    Promoted,
    /// An earlier revision is in force again.
    RolledBack,
    /// A plugin's new revision or terms couldn't be deployed, or its file is wrong; what was in force still is.
    Failed,
    /// A plugin is no longer deployed. Its runs under way finish.
    Removed,
    /// A tenant was added.
    TenantAdded,
    /// A tenant's terms changed.
    TenantChanged,
    /// A tenant was removed. Its runs under way finish.
    TenantRemoved,
    /// The daemon's file is wrong; nothing was changed.
    Rejected,
}

impl DeployEventKind {
    /// The name in the log and for programs.
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

/// Event of a deploy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeployEvent {
    /// Time of the event.
    #[serde(alias = "at_ms")]
    pub at: Time,
    /// Kind of the event.
    pub what: DeployEventKind,
    /// Tenant whose plugin it is about, or tenant that it is about.
    pub tenant: Option<String>,
    /// Name of the plugin that it is about.
    pub plugin: Option<String>,
    /// Revision that it is about.
    pub revision: Option<String>,
    /// Revision that was in force before.
    pub was: Option<String>,
    /// Reason, in full.
    pub message: Option<String>,
}

impl DeployEvent {
    /// Creates an event about the whole configuration.
    #[must_use]
    pub fn new(at: Timestamp, what: DeployEventKind) -> Self {
        Self { at: at.into(), what, tenant: None, plugin: None, revision: None, was: None, message: None }
    }

    /// Creates an event about a tenant.
    #[must_use]
    pub fn of_tenant(at: Timestamp, what: DeployEventKind, tenant: &TenantId) -> Self {
        Self { tenant: Some(tenant.to_string()), ..Self::new(at, what) }
    }

    /// Creates an event about a plugin.
    #[must_use]
    pub fn of_plugin(
        at: Timestamp,
        what: DeployEventKind,
        (tenant, plugin): &(TenantId, PluginName),
    ) -> Self {
        Self { plugin: Some(plugin.to_string()), ..Self::of_tenant(at, what, tenant) }
    }

    /// Whether the event is about this plugin.
    #[must_use]
    pub fn is_of(&self, (tenant, plugin): &(TenantId, PluginName)) -> bool {
        self.tenant.as_deref() == Some(tenant.as_str()) && self.plugin.as_deref() == Some(plugin.as_str())
    }

    /// Sets the revision that the event is about.
    #[must_use]
    pub fn revision(mut self, revision: Revision) -> Self {
        self.revision = Some(revision.to_string());
        self
    }

    /// Sets the revision that was in force before.
    #[must_use]
    pub fn was(mut self, revision: Option<Revision>) -> Self {
        self.was = revision.map(|revision| revision.to_string());
        self
    }

    /// Sets the reason. A text of more than 8 KiB is cut.
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

/// Latest events of deploys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeployEvents {
    /// Events, the oldest first.
    pub events: Vec<DeployEvent>,
}

/// Whether requests and jobs are served as they should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Readiness {
    /// Whether they are.
    pub ready: bool,
    /// Reasons why they aren't; for people.
    pub problems: Vec<String>,
}

/// Status of all plugins.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PluginStatuses {
    /// Plugins, in order of tenant and name.
    pub plugins: Vec<PluginStatus>,
}

/// Result of a reload, in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReloadOutcome {
    /// Nothing had changed.
    Unchanged,
    /// Everything that could be changed was changed.
    Applied,
    /// The daemon's file is wrong, and nothing was changed.
    Rejected,
}

/// Result of a reload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloaded {
    /// Result in a word.
    pub outcome: ReloadOutcome,
    /// Changes that were made, failures included.
    pub changes: Vec<DeployEvent>,
    /// Keys that differ from what the daemon was started with, and can't change while it runs.
    pub needs_restart: Vec<String>,
    /// Everything that is wrong with the daemon's file, for people, each problem with its place.
    pub problems: Option<String>,
}

impl Reloaded {
    /// Creates the result if there was nothing to do.
    #[must_use]
    pub fn unchanged() -> Self {
        let outcome = ReloadOutcome::Unchanged;
        Self { outcome, changes: Vec::new(), needs_restart: Vec::new(), problems: None }
    }

    /// Creates the result if these changes were made.
    #[must_use]
    pub fn applied(changes: Vec<DeployEvent>, needs_restart: Vec<String>) -> Self {
        Self { outcome: ReloadOutcome::Applied, changes, needs_restart, problems: None }
    }

    /// Creates the result if nothing was done, because of these problems.
    #[must_use]
    pub fn rejected(problems: String) -> Self {
        Self { outcome: ReloadOutcome::Rejected, problems: Some(problems), ..Self::unchanged() }
    }
}

/// Request to put an earlier revision of a plugin into force again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RollBack {
    /// Plugin: `TENANT/NAME`, or `NAME` if only one tenant has such a plugin.
    pub plugin: String,
    /// First digits of the revision's sha256, or all of them; `None` for the one before what is in force.
    #[serde(default)]
    pub to: Option<String>,
}

/// State of a plugin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PluginState {
    /// The plugin is in force as its TOML has it.
    Serving,
    /// A canary of a new revision is under way.
    Canary,
    /// The component was rolled back; an earlier revision is in force until the component or its pin changes.
    RolledBack,
    /// The plugin can't be deployed as its TOML has it; what was in force before, if anything, still is.
    Failed,
    /// The plugin is no longer deployed, and some of its runs are still under way.
    Draining,
}

impl PluginState {
    /// The name for programs.
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

/// Status of a plugin.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PluginStatus {
    /// Tenant of the plugin; `None` if its file doesn't say so.
    pub tenant: Option<String>,
    /// Name of the plugin; its file, if the tenant is `None`.
    pub plugin: String,
    /// State of the plugin.
    pub state: PluginState,
    /// Revision in force, if there is one.
    pub revision: Option<String>,
    /// Time since which that revision is in force.
    pub since: Option<Time>,
    /// Reason why the plugin is not as its TOML has it.
    pub message: Option<String>,
    /// Canary that is under way.
    pub canary: Option<CanaryStatus>,
    /// Number of runs under way.
    pub running: u32,
    /// Revisions that can be rolled back to, the latest deployed first.
    pub kept: Vec<String>,
}

/// Status of a canary.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CanaryStatus {
    /// Revision on trial.
    pub revision: String,
    /// Share of the jobs that the canary gets, 0 to 1.
    pub share: f64,
    /// Minimum number of runs of either side before anything is decided.
    pub runs_min: u32,
    /// Results of the revision in force meanwhile.
    pub old: SideStatus,
    /// Results of the revision on trial.
    pub new: SideStatus,
}

/// Results of one side of a canary.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SideStatus {
    /// Number of runs that ended by themselves.
    pub runs: u64,
    /// Number of those runs that failed.
    pub failures: u64,
    /// Average fuel of those runs that didn't fail.
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
