//! What deploys have done: said in the log, kept in a ring, told to whoever asks.

use std::collections::VecDeque;

use sandhog_core::id::{PluginName, Revision, TenantId};
use sandhog_core::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::slot::Key;

/// How many are kept.
const KEPT: usize = 200;

/// A longer message is cut.
const MESSAGE_MAX: usize = 8 * 1024;

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
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

impl What {
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
pub struct Event {
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
    /// What.
    pub what: What,
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

impl Event {
    /// Something about the whole configuration.
    pub(crate) fn new(at: Timestamp, what: What) -> Self {
        Self {
            at_ms: at.as_millis(),
            what,
            tenant: None,
            plugin: None,
            revision: None,
            was: None,
            message: None,
        }
    }

    /// Something about a tenant.
    pub(crate) fn of_tenant(at: Timestamp, what: What, tenant: &TenantId) -> Self {
        Self { tenant: Some(tenant.to_string()), ..Self::new(at, what) }
    }

    /// Something about a plugin.
    pub(crate) fn of_plugin(at: Timestamp, what: What, (tenant, plugin): &Key) -> Self {
        let plugin: &PluginName = plugin;
        Self { plugin: Some(plugin.to_string()), ..Self::of_tenant(at, what, tenant) }
    }

    /// Whether it is about this plugin.
    pub(crate) fn is_of(&self, (tenant, plugin): &Key) -> bool {
        self.tenant.as_deref() == Some(tenant.as_str()) && self.plugin.as_deref() == Some(plugin.as_str())
    }

    pub(crate) fn revision(mut self, revision: Revision) -> Self {
        self.revision = Some(revision.to_string());
        self
    }

    pub(crate) fn was(mut self, revision: Option<Revision>) -> Self {
        self.was = revision.map(|revision| revision.to_string());
        self
    }

    pub(crate) fn message(mut self, message: impl Into<String>) -> Self {
        let mut message = message.into();
        if message.len() > MESSAGE_MAX {
            let end = (0..=MESSAGE_MAX).rev().find(|end| message.is_char_boundary(*end)).unwrap_or(0);
            message.truncate(end);
            message.push('…');
        }
        self.message = Some(message);
        self
    }

    /// Says it in the log.
    fn log(&self) {
        let Self { what, tenant, plugin, revision, was, message, .. } = self;
        let (tenant, plugin) = (tenant.as_deref(), plugin.as_deref());
        let (revision, was) = (revision.as_deref(), was.as_deref());
        let because = message.as_deref();
        match what {
            What::Failed => {
                tracing::warn!(tenant, plugin, because, "deploy failed; what was in force stays");
            }
            What::Rejected => tracing::warn!(because, "reload rejected; nothing was changed"),
            What::RolledBack => {
                tracing::warn!(tenant, plugin, revision, was, because, "deploy: {}", what.slug());
            }
            _ => tracing::info!(tenant, plugin, revision, was, because, "deploy: {}", what.slug()),
        }
    }
}

/// The latest events, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Events(VecDeque<Event>);

impl Events {
    /// Those that were kept before.
    pub(crate) fn kept(events: Vec<Event>) -> Self {
        Self(events.into())
    }

    /// Adds some, and says them in the log.
    pub(crate) fn add(&mut self, events: &[Event]) {
        events.iter().for_each(Event::log);
        self.0.extend(events.iter().cloned());
        self.0.drain(..self.0.len().saturating_sub(KEPT));
    }

    /// All of them.
    pub(crate) fn all(&self) -> Vec<Event> {
        self.0.iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_are_kept_and_messages_are_bounded() {
        let mut events = Events::default();
        for n in 0..500 {
            events.add(&[Event::new(Timestamp::from_millis(n), What::Rejected)]);
        }
        let all = events.all();
        assert_eq!((all.len(), all[0].at_ms), (KEPT, 300));
        let long = Event::new(Timestamp::from_millis(0), What::Failed).message("ü".repeat(MESSAGE_MAX));
        assert!(long.message.expect("it is there").len() <= MESSAGE_MAX + '…'.len_utf8());
    }
}
