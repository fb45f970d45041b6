//! State of deploys: what is in force, shared between the deployer, which alone changes it, and those who look.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sandhog_api::DeployEvent;
use sandhog_api::{CanaryStatus, PluginState, PluginStatus, SideStatus};
use sandhog_config::{BrokenFile, Config};
use sandhog_core::canary::Record as SideRecord;
use sandhog_core::id::Revision;

use super::CanaryTrial;
use super::events::Events;
use super::slot::{Key, Slot, Slots, catalog};
use super::store::Store;
use crate::capacity::concurrency::ConcurrencyLimits;
use crate::catalog::Catalog;

/// State of deploys.
pub(crate) struct State<P> {
    /// Configuration in force.
    pub(crate) config: Arc<Config>,
    /// Plugins in force.
    pub(crate) slots: Slots<P>,
    /// Plugins whose TOML has something else than what is in force, and why.
    pub(crate) failed: BTreeMap<Key, String>,
    /// Plugins that were removed, and may still run.
    pub(crate) removed: BTreeMap<Key, Revision>,
    pub(crate) concurrency_limits: ConcurrencyLimits,
    pub(crate) events: Events,
}

/// The state, and the store that keeps it.
pub(crate) struct Shared<P> {
    state: Mutex<State<P>>,
    pub(crate) store: Arc<Store>,
}

impl<P: Clone> Shared<P> {
    pub(crate) fn new(state: State<P>, store: Arc<Store>) -> Self {
        Self { state: Mutex::new(state), store }
    }

    /// Locks the state, for a look or a change. The lock is never held while anything is waited for.
    pub(crate) fn state(&self) -> MutexGuard<'_, State<P>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Latest events, oldest first.
    pub(crate) fn events(&self) -> Vec<DeployEvent> {
        self.state().events.all()
    }

    /// Statuses of all plugins, including those that are removed but still run.
    pub(crate) fn plugins(&self) -> Vec<PluginStatus> {
        let state = self.state();
        let in_force = state.slots.iter().map(|(key, slot)| self.status(&state, key, Some(slot)));
        let never = state.failed.keys().filter(|key| !state.slots.contains_key(*key));
        let draining = state
            .removed
            .iter()
            .filter(|((tenant, name), _)| state.concurrency_limits.running(tenant, name) > 0);
        let nameless = state.config.broken.iter().filter(|broken| broken.plugin.is_none()).map(of_file);
        let mut all: Vec<PluginStatus> = in_force
            .chain(nameless)
            .chain(never.map(|key| self.status(&state, key, None)))
            .chain(draining.map(|(key, revision)| PluginStatus {
                revision: Some(revision.to_string()),
                ..self.status(&state, key, None)
            }))
            .collect();
        all.sort_by(|a, b| (&a.tenant, &a.plugin).cmp(&(&b.tenant, &b.plugin)));
        all
    }

    fn status(&self, state: &State<P>, key: &Key, slot: Option<&Slot<P>>) -> PluginStatus {
        let (tenant, name) = key;
        let record = self.store.record(key);
        let failed = state.failed.get(key).cloned();
        let trial = slot.and_then(|slot| slot.trial.as_ref());
        let held = record.as_ref().is_some_and(super::history::Record::is_held);
        let of_state = match (&failed, trial) {
            (Some(_), _) => PluginState::Failed,
            (None, Some(_)) => PluginState::Canary,
            (None, None) if slot.is_none() => PluginState::Draining,
            (None, None) if held => PluginState::RolledBack,
            (None, None) => PluginState::Serving,
        };
        let since = record.as_ref().filter(|_| slot.is_some()).map(|record| record.since().into());
        PluginStatus {
            tenant: Some(tenant.to_string()),
            plugin: name.to_string(),
            state: of_state,
            revision: slot.map(|slot| slot.stable.code.revision.to_string()),
            since,
            message: failed,
            canary: trial.map(|(deployed, trial)| canary(deployed.code.revision, trial)),
            running: state.concurrency_limits.running(tenant, name),
            kept: record.iter().flat_map(|record| record.kept()).map(|kept| kept.to_string()).collect(),
        }
    }
}

impl<P: Clone> State<P> {
    /// Messages of why plugins are not as their TOML has them.
    pub(crate) fn failures(&self) -> impl Iterator<Item = String> {
        let nameless = self.config.broken.iter().filter(|broken| broken.plugin.is_none());
        self.failed.values().cloned().chain(nameless.map(|broken| broken.problems.listed()))
    }

    /// Builds the catalog of what is in force.
    pub(crate) fn catalog(&mut self) -> Arc<Catalog<P>> {
        let Self { config, slots, failed, concurrency_limits, .. } = self;
        Arc::new(catalog(config, slots, |key| failed.contains_key(key), concurrency_limits))
    }
}

/// Makes the status for a file that is wrong, and doesn't say which plugin it has.
fn of_file(broken: &BrokenFile) -> PluginStatus {
    PluginStatus {
        tenant: None,
        plugin: broken.file.display().to_string(),
        state: PluginState::Failed,
        revision: None,
        since: None,
        message: Some(broken.problems.listed()),
        canary: None,
        running: 0,
        kept: Vec::new(),
    }
}

fn canary(revision: Revision, trial: &CanaryTrial) -> CanaryStatus {
    let (policy, records) = (trial.policy(), trial.records());
    let side = |record: SideRecord| SideStatus {
        runs: record.runs,
        failures: record.failures,
        fuel_mean: record.fuel_mean(),
    };
    CanaryStatus {
        revision: revision.to_string(),
        share: policy.share.part(),
        runs_min: policy.runs_min.get(),
        old: side(records.old),
        new: side(records.new),
    }
}
