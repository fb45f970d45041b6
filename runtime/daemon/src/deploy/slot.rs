//! Slots: what is in force of each plugin, and the catalog that follows from it.

use std::collections::BTreeMap;
use std::sync::Arc;

use sandhog_config::Signer;
use sandhog_config::{self as config, Config};
use sandhog_core::admit::Offer;
use sandhog_core::id::{PluginName, Revision, TenantId};

use super::{CanaryTrial, InUse};
use crate::capacity::concurrency::ConcurrencyLimits;
use crate::catalog::{Catalog, PluginTerms, TenantTerms, Version};

/// Full name of a plugin.
pub(crate) type Key = (TenantId, PluginName);

/// Returns the key of a plugin.
pub(crate) fn key(plugin: &config::Plugin) -> Key {
    (plugin.tenant.clone(), plugin.name.clone())
}

/// Loaded code.
#[derive(Debug, Clone)]
pub(crate) struct Loaded<P> {
    pub(crate) plugin: P,
    pub(crate) revision: Revision,
    pub(crate) in_use: Arc<InUse>,
}

impl<P> Loaded<P> {
    pub(crate) fn new((tenant, name): &Key, revision: Revision, plugin: P) -> Self {
        Self { plugin, revision, in_use: Arc::new(InUse::new(tenant.clone(), name.clone(), revision)) }
    }
}

/// Deployed code, and the terms that it was loaded for.
#[derive(Debug, Clone)]
pub(crate) struct Deployed<P> {
    pub(crate) terms: config::Plugin,
    /// Signers of whom one has signed it; empty if none was demanded.
    pub(crate) signers: Vec<Signer>,
    pub(crate) code: Loaded<P>,
}

/// Code of one plugin that is in force.
#[derive(Debug, Clone)]
pub(crate) struct Slot<P> {
    pub(crate) stable: Deployed<P>,
    pub(crate) trial: Option<(Deployed<P>, Arc<CanaryTrial>)>,
}

impl<P> Slot<P> {
    /// Code that came last: the one on trial, if there is one.
    pub(crate) fn latest(&self) -> &Deployed<P> {
        self.trial.as_ref().map_or(&self.stable, |(deployed, _)| deployed)
    }

    /// Marks the code as retired: from now on it is held by the runs that are still on it, and by nothing else.
    pub(crate) fn retire(&self) {
        self.stable.code.in_use.retire();
        if let Some((deployed, _)) = &self.trial {
            deployed.code.in_use.retire();
        }
    }
}

/// Slots of all plugins.
pub(crate) type Slots<P> = BTreeMap<Key, Slot<P>>;

/// Builds the catalog of what is in force. `is_old` tells a plugin whose latest terms couldn't be deployed: where another one
/// handles a kind of its now, that one gets it.
pub(crate) fn catalog<P: Clone>(
    config: &Config,
    slots: &Slots<P>,
    is_old: impl Fn(&Key) -> bool,
    concurrency_limits: &mut ConcurrencyLimits,
) -> Catalog<P> {
    let mut tenants: BTreeMap<TenantId, TenantTerms<P>> = config
        .tenants
        .iter()
        .map(|(id, tenant)| {
            let config::Tenant { weight, concurrency, memory, fuel, queue, keep_max, .. } = *tenant;
            let group_rules = tenant.group_rules.clone();
            let breakers =
                config.breakers(id).into_iter().map(|(name, terms)| (name, Arc::new(terms))).collect();
            let terms = TenantTerms {
                weight,
                concurrency,
                memory,
                fuel,
                queue,
                group_rules,
                breakers,
                keep_max,
                plugins: Vec::new(),
            };
            (id.clone(), terms)
        })
        .collect();
    let (old, new): (Vec<_>, Vec<_>) = slots.iter().partition(|(key, _)| is_old(key));
    for ((tenant, name), slot) in old.into_iter().chain(new) {
        // A tenant that is gone has no plugins in force.
        let Some(terms) = tenants.get_mut(tenant) else { continue };
        let latest = &slot.latest().terms;
        terms.plugins.push(PluginTerms {
            name: name.clone(),
            queue: latest.queue.clone(),
            concurrency: latest.concurrency,
            rate: latest.rate.clone(),
            keep_max: latest.keep_max,
            stable: version(config, &slot.stable),
            canary: slot
                .trial
                .as_ref()
                .map(|(deployed, trial)| (version(config, deployed), Arc::clone(trial))),
            // Those of a revision on trial come with its promotion.
            schedules: slot.stable.terms.schedules.clone(),
        });
    }
    let catalog = Catalog::new(tenants, concurrency_limits);
    concurrency_limits.prune();
    catalog
}

/// Makes the version that the plugin's jobs run on.
fn version<P: Clone>(config: &Config, deployed: &Deployed<P>) -> Version<P> {
    let Deployed { terms, code, .. } = deployed;
    Version {
        revision: code.revision,
        kinds: terms.kinds.clone(),
        keep: terms.keep,
        state: terms.state,
        offer: Offer {
            plugin: code.plugin.clone(),
            budget: config.budget(terms),
            retry: Arc::new(terms.retry.clone()),
            payload_max: terms.payload,
        },
        in_use: Arc::clone(&code.in_use),
    }
}
