//! Use cases on events of jobs: having them recorded, and reading them.

use std::time::Duration;

use sandhog_api::Problem;
use sandhog_broker::Wakes;
use sandhog_core::event::{EVENTS_PAGE_MAX, EventCursor, EventPage};
use sandhog_core::id::TenantId;

use super::{Caller, Role, Service, of_broker, tenants};

/// Has the events of a tenant's jobs recorded for as long as they are kept, from now on. Returns the place behind the last one so
/// far.
///
/// # Errors
/// There is no such tenant in scope, or the broker can't be asked.
pub async fn record(service: &Service, caller: &Caller, tenant: &TenantId) -> Result<EventCursor, Problem> {
    caller.needs(Role::Observe)?;
    let config = service.config();
    let tenant = tenants::known(&config, caller, tenant)?;
    let keep = config.tenants.get(&tenant).map(|terms| terms.events).unwrap_or_default();
    service.broker.record_events(&tenant, keep).await.map_err(of_broker)
}

/// Returns how often somebody who goes on reading has to have a tenant's events recorded again, so that none is missed.
///
/// # Errors
/// There is no such tenant in scope.
pub fn renew_every(service: &Service, caller: &Caller, tenant: &TenantId) -> Result<Duration, Problem> {
    const TIMES: u32 = 4;
    let config = service.config();
    let tenant = tenants::known(&config, caller, tenant)?;
    Ok(config.tenants.get(&tenant).map(|terms| terms.events).unwrap_or_default().time / TIMES)
}

/// Reads the next page of a tenant's events.
///
/// # Errors
/// There is no such tenant in scope, or the broker can't be asked.
pub async fn page(
    service: &Service,
    caller: &Caller,
    tenant: &TenantId,
    after: EventCursor,
) -> Result<EventPage, Problem> {
    caller.needs(Role::Observe)?;
    let tenant = tenants::known(&service.config(), caller, tenant)?;
    service.broker.events(&tenant, after, EVENTS_PAGE_MAX).await.map_err(of_broker)
}

/// Subscribes to news of events of these tenants, as [`Wake::Events`](sandhog_broker::Wake::Events).
///
/// # Errors
/// One of the tenants isn't in scope, or the broker can't be listened to.
pub async fn watch(service: &Service, caller: &Caller, wanted: &[TenantId]) -> Result<Wakes, Problem> {
    caller.needs(Role::Observe)?;
    let config = service.config();
    let known = wanted.iter().map(|tenant| tenants::known(&config, caller, tenant));
    service.broker.watch(known.collect::<Result<_, _>>()?).await.map_err(of_broker)
}
