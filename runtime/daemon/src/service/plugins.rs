//! Use cases on plugins: their statuses and events, reloads, rollbacks.

use sandhog_api::{DeployEvent, DeployEvents, PluginStatuses, Problem, Reloaded, RollBack, Slug};
use sandhog_core::id::{PluginName, TenantId};

use super::{Caller, Role, Service};
use crate::deploy::Refusal;

/// Returns the status of the plugins in scope.
///
/// # Errors
/// No daemon runs here.
pub fn statuses(service: &Service, caller: &Caller) -> Result<PluginStatuses, Problem> {
    caller.needs(Role::Observe)?;
    let mut plugins = service.deployer()?.plugins();
    plugins.retain(|plugin| is_in_scope(caller, plugin.tenant.as_deref()));
    Ok(PluginStatuses { plugins })
}

/// Returns the latest deploy events in scope.
///
/// # Errors
/// No daemon runs here.
pub fn events(service: &Service, caller: &Caller) -> Result<DeployEvents, Problem> {
    caller.needs(Role::Observe)?;
    let mut events = service.deployer()?.events();
    events.retain(|event| is_in_scope(caller, event.tenant.as_deref()));
    Ok(DeployEvents { events })
}

/// Reloads the configuration, and waits for the result.
///
/// # Errors
/// The daemon is about to end.
pub async fn reload(service: &Service, caller: &Caller) -> Result<Reloaded, Problem> {
    caller.needs_for_all(Role::Admin)?;
    service.deployer()?.reload().await.map_err(refused)
}

/// Puts an earlier revision of a plugin into force again, and waits until it is.
///
/// # Errors
/// There is no such plugin or revision, or it can't be loaded any more.
pub async fn roll_back(service: &Service, caller: &Caller, ask: &RollBack) -> Result<DeployEvent, Problem> {
    caller.needs(Role::Deploy)?;
    let deployer = service.deployer()?;
    let key = find(service, caller, &ask.plugin)?;
    deployer.roll_back(key, ask.to.clone()).await.map_err(refused)
}

/// Finds the plugin in scope that is meant by `TENANT/NAME`, or by `NAME` if only one tenant has it.
fn find(service: &Service, caller: &Caller, wanted: &str) -> Result<(TenantId, PluginName), Problem> {
    let (tenant, name) = match wanted.split_once('/') {
        Some((tenant, name)) => (Some(tenant), name),
        None => (None, wanted),
    };
    let config = service.config();
    let mut found = config.plugins.iter().filter(|plugin| {
        let is_meant = tenant.is_none_or(|tenant| tenant == plugin.tenant.as_str());
        plugin.name.as_str() == name && is_meant && caller.sees(&plugin.tenant)
    });
    match (found.next(), found.next()) {
        (None, _) => {
            let message = format!("there is no plugin {wanted}; `sandhog plugins` lists them");
            Err(Problem::new(Slug::UnknownPlugin, message))
        }
        (Some(_), Some(_)) => {
            let message = format!("several tenants have a plugin {wanted}; name one: TENANT/{wanted}");
            Err(Problem::new(Slug::Ambiguous, message))
        }
        (Some(plugin), None) => Ok((plugin.tenant.clone(), plugin.name.clone())),
    }
}

/// Whether something about this tenant is in scope. Items that are about no tenant are only for callers that see all.
fn is_in_scope(caller: &Caller, tenant: Option<&str>) -> bool {
    match tenant.map(TenantId::parse) {
        Some(Ok(tenant)) => caller.sees(&tenant),
        Some(Err(_)) | None => caller.sees_all(),
    }
}

fn refused(refusal: Refusal) -> Problem {
    let slug = match refusal {
        Refusal::Unknown(_) => Slug::UnknownPlugin,
        Refusal::Conflict(_) => Slug::Conflict,
        Refusal::Ending => Slug::NoDaemon,
    };
    Problem::new(slug, refusal.to_string())
}
