//! Update of the catalog: what is to be in force next, and the changes that lead there; made as one piece, then published in
//! one step.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sandhog_api::{DeployEvent, DeployEventKind};
use sandhog_config::Config;
use sandhog_core::id::Revision;
use sandhog_core::time::Timestamp;
use sandhog_engine::Plugin;
use tokio::sync::Notify;

use super::CanaryTrial;
use super::diff::{self, Entrance, TenantChange, entrance};
use super::history::{Origin, Record, Wanted};
use super::slot::{Deployed, Key, Slot, Slots};
use super::store::Store;

/// Loaded code of a plugin, and the terms that it was loaded for.
type DeployedPlugin = Deployed<Arc<Plugin>>;

/// Next state of what is in force, while it is worked out.
pub(super) struct CatalogUpdate {
    pub(super) config: Arc<Config>,
    pub(super) slots: Slots<Arc<Plugin>>,
    pub(super) failed: BTreeMap<Key, String>,
    pub(super) records: BTreeMap<Key, Record>,
    pub(super) removed: BTreeMap<Key, Revision>,
    pub(super) events: Vec<DeployEvent>,
    /// Plugins that are as they are to be, or can't be.
    pub(super) settled: BTreeSet<Key>,
    pub(super) now: Timestamp,
    pub(super) store: Arc<Store>,
    /// Notified when a trial has to be reported at once.
    pub(super) trial_news: Arc<Notify>,
}

impl CatalogUpdate {
    /// Returns the number of revisions of each plugin that are kept.
    fn keep(&self) -> usize {
        self.config.deploy.keep.get()
    }

    /// Returns the history of a plugin, as this update has it or else as it is stored. `None` if there is none.
    pub(super) fn record(&self, key: &Key) -> Option<Record> {
        self.records.get(key).cloned().or_else(|| self.store.record(key))
    }

    /// Adds events for the tenants that differ from those of `before`.
    pub(super) fn tenants(&mut self, before: &Config) {
        for (tenant, change) in diff::tenants(before, &self.config) {
            let what = match change {
                TenantChange::Added => DeployEventKind::TenantAdded,
                TenantChange::Changed => DeployEventKind::TenantChanged,
                TenantChange::Removed => DeployEventKind::TenantRemoved,
            };
            self.events.push(DeployEvent::of_tenant(self.now, what, &tenant));
        }
    }

    /// Takes a plugin out of force, as its file is gone.
    pub(super) fn remove(&mut self, key: Key) {
        if let Some(slot) = self.slots.remove(&key) {
            slot.retire();
            let revision = slot.stable.code.revision;
            let event = DeployEvent::of_plugin(self.now, DeployEventKind::Removed, &key).revision(revision);
            self.events.push(event.message("nothing more is leased for it; what runs finishes"));
            self.removed.insert(key.clone(), revision);
        }
        self.failed.remove(&key);
        self.settled.insert(key);
    }

    /// Records why a plugin can't be as it is to be. What was in force stays.
    pub(super) fn fail(&mut self, key: Key, why: String) {
        self.events
            .push(DeployEvent::of_plugin(self.now, DeployEventKind::Failed, &key).message(why.clone()));
        self.failed.insert(key.clone(), why);
        self.settled.insert(key);
    }

    /// Brings new code, or the same code under new terms, into force.
    pub(super) fn enter(&mut self, key: Key, deployed: DeployedPlugin, origin: Origin) {
        let (revision, keep) = (deployed.code.revision, self.keep());
        let stable = self.slots.get(&key).map(|slot| slot.stable.clone());
        let was = stable.as_ref().map(|stable| stable.code.revision);
        let mut record = self.record(&key).unwrap_or_else(|| Record::first(revision, self.now));
        match (entrance(&deployed.terms, was, origin, revision), stable) {
            (Entrance::Canary(policy), Some(stable)) => {
                let event = DeployEvent::of_plugin(self.now, DeployEventKind::CanaryStarted, &key)
                    .revision(revision)
                    .was(was);
                self.events.push(event.message(format!("it gets {} of the jobs", policy.share)));
                let trial = Arc::new(CanaryTrial::new(policy, revision, Arc::clone(&self.trial_news)));
                record.keep(revision, keep);
                self.replace(&key, Slot { stable, trial: Some((deployed, trial)) });
            }
            _ => {
                let what =
                    if was == Some(revision) { DeployEventKind::Changed } else { DeployEventKind::Deployed };
                let was = was.filter(|was| *was != revision);
                self.events.push(DeployEvent::of_plugin(self.now, what, &key).revision(revision).was(was));
                if origin == Origin::File {
                    record.deployed(revision, self.now, keep);
                }
                self.replace(&key, Slot { stable: deployed, trial: None });
            }
        }
        self.failed.remove(&key);
        self.records.insert(key.clone(), record);
        self.settled.insert(key);
    }

    /// Promotes the revision on trial: it gets all jobs. Does nothing if the plugin has no trial.
    pub(super) fn promote(&mut self, key: &Key) {
        let Some(Slot { stable, trial: Some((tried, trial)) }) = self.slots.get(key).cloned() else {
            return;
        };
        let (revision, was) = (tried.code.revision, stable.code.revision);
        let records = trial.records();
        let message =
            format!("after {} runs of it and {} of the old one", records.new.runs, records.old.runs);
        let event = DeployEvent::of_plugin(self.now, DeployEventKind::Promoted, key)
            .revision(revision)
            .was(Some(was));
        self.events.push(event.message(message));
        let mut record = self.record(key).unwrap_or_else(|| Record::first(revision, self.now));
        record.deployed(revision, self.now, self.keep());
        self.records.insert(key.clone(), record);
        self.replace(key, Slot { stable: tried, trial: None });
    }

    /// Returns what is in force of a plugin, and what is on trial. `None` if it has no trial.
    pub(super) fn trial_of(&self, key: &Key) -> Option<(DeployedPlugin, DeployedPlugin)> {
        let Slot { stable, trial } = self.slots.get(key).cloned()?;
        trial.map(|(tried, _)| (stable, tried))
    }

    /// Gives all jobs back to the revision in force, and holds back the one that was tried.
    pub(super) fn end_trial(
        &mut self,
        key: &Key,
        stable: DeployedPlugin,
        tried: &DeployedPlugin,
        why: &str,
    ) -> DeployEvent {
        let instead_of = Wanted { file: Some(tried.code.revision), pin: tried.terms.sha256 };
        self.went_back(key, stable, tried.code.revision, instead_of, format!("canary: {why}"))
    }

    /// Puts an earlier revision into force, and holds back what would be instead of it. `None` if nothing of the plugin is
    /// in force.
    pub(super) fn go_back(
        &mut self,
        key: &Key,
        to: DeployedPlugin,
        instead_of: Wanted,
        why: &str,
    ) -> Option<DeployEvent> {
        let was = self.slots.get(key)?.stable.code.revision;
        if !self.config.broken.iter().any(|broken| broken.plugin.as_ref() == Some(key)) {
            self.failed.remove(key);
        }
        Some(self.went_back(key, to, was, instead_of, why.to_owned()))
    }

    fn went_back(
        &mut self,
        key: &Key,
        to: DeployedPlugin,
        was: Revision,
        instead_of: Wanted,
        why: String,
    ) -> DeployEvent {
        let revision = to.code.revision;
        let mut record = self.record(key).unwrap_or_else(|| Record::first(revision, self.now));
        record.went_back(revision, instead_of, self.now);
        self.records.insert(key.clone(), record);
        self.replace(key, Slot { stable: to, trial: None });
        let event = DeployEvent::of_plugin(self.now, DeployEventKind::RolledBack, key)
            .revision(revision)
            .was(Some(was));
        let event = event.message(why);
        self.events.push(event.clone());
        self.settled.insert(key.clone());
        event
    }

    /// Replaces the slot of a plugin. Code that is no longer in it is retired.
    pub(super) fn replace(&mut self, key: &Key, slot: Slot<Arc<Plugin>>) {
        let stays =
            [Some(slot.stable.code.revision), slot.trial.as_ref().map(|(tried, _)| tried.code.revision)];
        if let Some(old) = self.slots.insert(key.clone(), slot) {
            let of_trial = old.trial.map(|(tried, _)| tried);
            for old in [Some(old.stable), of_trial].into_iter().flatten() {
                if !stays.contains(&Some(old.code.revision)) {
                    old.code.in_use.retire();
                }
            }
        }
    }
}
