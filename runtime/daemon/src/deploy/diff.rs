//! What a new configuration asks for, beside what is in force: pure.

use sandhog_core::id::{Revision, TenantId};

use super::history::Origin;
use super::slot::Slot;
use crate::config::{self, Config};

/// What can't change while the daemon runs: those keys stay as they were at its start, and are named.
///
/// `started` is the configuration that the daemon was started with. Returns `new` as far as it can be in force now, and
/// the keys that need a restart.
pub(crate) fn within_reach(started: &Config, new: Config) -> (Config, Vec<String>) {
    let mut reached = new;
    let mut needs_restart = Vec::new();
    let mut fixed = |key: &'static str, differs: bool| {
        if differs {
            needs_restart.push(key);
        }
    };
    fixed("broker", reached.broker != started.broker);
    fixed("lease", reached.lease != started.lease);
    fixed("engine", reached.engine != started.engine);
    fixed("shutdown.grace", reached.grace != started.grace);
    fixed("deploy.folder", reached.deploy.folder != started.deploy.folder);
    // The room for memories and tables was set aside at the start; less is no trouble.
    fixed("limits.memory", reached.limits.memory > started.limits.memory);
    fixed("limits.table_elements", reached.limits.table_elements > started.limits.table_elements);
    fixed("limits.instances", reached.limits.instances > started.limits.instances);
    reached.broker = started.broker.clone();
    reached.lease = started.lease;
    reached.engine = started.engine.clone();
    reached.grace = started.grace;
    reached.deploy.folder.clone_from(&started.deploy.folder);
    reached.limits.memory = reached.limits.memory.min(started.limits.memory);
    reached.limits.table_elements = reached.limits.table_elements.min(started.limits.table_elements);
    reached.limits.instances = reached.limits.instances.min(started.limits.instances);
    let mut needs_restart: Vec<String> = needs_restart.into_iter().map(str::to_owned).collect();
    needs_restart.extend(keep_own(started, &mut reached));
    (reached, needs_restart)
}

/// The connections to the broker, and the keys that seal what goes there, are made at the start. A tenant that comes with
/// a login or keys of its own has to wait: it must not be served by those of others, or in plain text.
fn keep_own(started: &Config, reached: &mut Config) -> Vec<String> {
    let mut waiting = Vec::new();
    reached.tenants.retain(|id, tenant| match started.tenants.get(id) {
        Some(before) => {
            if tenant.broker != before.broker {
                waiting.push(format!("tenants.{id}.broker"));
                tenant.broker.clone_from(&before.broker);
            }
            if tenant.encryption != before.encryption {
                waiting.push(format!("tenants.{id}.encryption"));
                tenant.encryption.clone_from(&before.encryption);
            }
            true
        }
        None if tenant.broker.is_some() || tenant.encryption.is_some() => {
            waiting.push(format!("tenants.{id}"));
            false
        }
        None => true,
    });
    let tenants = &reached.tenants;
    reached.plugins.retain(|plugin| tenants.contains_key(&plugin.tenant));
    waiting
}

/// How tenants differ.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum TenantChange {
    Added,
    Changed,
    Removed,
}

/// The tenants that differ.
pub(crate) fn tenants(old: &Config, new: &Config) -> Vec<(TenantId, TenantChange)> {
    let mut changes = Vec::new();
    for (id, tenant) in &new.tenants {
        match old.tenants.get(id) {
            None => changes.push((id.clone(), TenantChange::Added)),
            Some(before) if before != tenant => changes.push((id.clone(), TenantChange::Changed)),
            Some(_) => {}
        }
    }
    let gone = old.tenants.keys().filter(|id| !new.tenants.contains_key(*id));
    changes.extend(gone.map(|id| (id.clone(), TenantChange::Removed)));
    changes
}

/// Whether a plugin is as its TOML has it. `file` is the digest of its component, if that can be read.
pub(crate) fn is_in_force<P>(
    slot: &Slot<P>,
    terms: &config::Plugin,
    origin: Origin,
    file: Option<Revision>,
) -> bool {
    let wanted = match origin {
        Origin::File => file,
        Origin::Kept(revision) => Some(revision),
    };
    let latest = slot.latest();
    latest.terms == *terms
        && wanted == Some(latest.code.revision)
        && (origin == Origin::File || slot.trial.is_none())
}

/// How new code comes into force.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Entrance {
    /// At once.
    Swap,
    /// On trial, beside what is there.
    Canary(sandhog_core::canary::Policy),
}

/// New code is tried if the operator wants that, and there is other code to compare it with.
pub(crate) fn entrance(
    terms: &config::Plugin,
    stable: Option<Revision>,
    origin: Origin,
    revision: Revision,
) -> Entrance {
    match terms.canary {
        Some(policy) if origin == Origin::File && stable.is_some_and(|stable| stable != revision) => {
            Entrance::Canary(policy)
        }
        _ => Entrance::Swap,
    }
}
