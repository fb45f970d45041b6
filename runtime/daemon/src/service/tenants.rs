//! Use cases on tenants: finding them, and looking up what they have spent.

use std::ops::RangeInclusive;

use sandhog_api::{Problem, Slug};
use sandhog_config::{Config, nearest};
use sandhog_core::account::{Day, DayUsage};
use sandhog_core::id::TenantId;

use super::{Caller, Role, Service, list, of_broker};

/// Finds the tenant that is meant, or all in scope if none is.
///
/// # Errors
/// There is no tenant in scope, or not the one that is meant.
pub fn find(service: &Service, caller: &Caller, wanted: Option<&TenantId>) -> Result<Vec<TenantId>, Problem> {
    let config = service.config();
    match wanted {
        Some(wanted) => Ok(vec![known(&config, caller, wanted)?]),
        None => {
            let all: Vec<TenantId> = in_scope(&config, caller).cloned().collect();
            if all.is_empty() { Err(no_tenants()) } else { Ok(all) }
        }
    }
}

/// Finds the tenant that is meant, or the only one in scope if none is.
///
/// # Errors
/// There is no such tenant in scope, or there are several and none is named.
pub fn one(service: &Service, caller: &Caller, wanted: Option<&TenantId>) -> Result<TenantId, Problem> {
    let mut found = find(service, caller, wanted)?;
    match (found.pop(), found.is_empty()) {
        (Some(only), true) => Ok(only),
        (Some(last), false) => {
            let names = found.iter().map(TenantId::as_str).chain([last.as_str()]);
            Err(Problem::new(Slug::Ambiguous, "there are several tenants")
                .help(format!("name the one that is meant: {}", list(names))))
        }
        (None, _) => Err(no_tenants()),
    }
}

/// Looks up what a tenant's runs have spent on these days.
///
/// # Errors
/// There is no such tenant, or the broker can't be asked.
pub async fn usage(
    service: &Service,
    caller: &Caller,
    tenant: &TenantId,
    days: RangeInclusive<Day>,
) -> Result<Vec<DayUsage>, Problem> {
    caller.needs(Role::Observe)?;
    let tenant = known(&service.config(), caller, tenant)?;
    service.broker.usage(&tenant, days).await.map_err(of_broker)
}

/// Tenants of a configuration that are in a caller's scope.
pub(super) fn in_scope<'c>(config: &'c Config, caller: &Caller) -> impl Iterator<Item = &'c TenantId> {
    config.tenants.keys().filter(|tenant| caller.sees(tenant))
}

/// Finds the tenant of this name, if the configuration has it, and it is in scope.
///
/// # Errors
/// There is no such tenant for the caller.
pub fn known(config: &Config, caller: &Caller, wanted: &TenantId) -> Result<TenantId, Problem> {
    if config.tenants.contains_key(wanted) && caller.sees(wanted) {
        return Ok(wanted.clone());
    }
    let names = || in_scope(config, caller).map(TenantId::as_str);
    let problem =
        Problem::new(Slug::UnknownTenant, format!("there is no tenant `{wanted}` in the configuration"));
    Err(match nearest(wanted.as_str(), names()) {
        Some(meant) => problem.help(format!("did you mean `{meant}`?")),
        None => problem.help(format!("its tenants are: {}", list(names()))),
    })
}

pub(super) fn no_tenants() -> Problem {
    Problem::new(Slug::UnknownTenant, "there is no tenant in the configuration")
        .help("add one, such as [tenants.acme], or put a plugin file into plugins.d")
}
