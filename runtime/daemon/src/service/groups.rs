//! Use cases on groups of jobs: which are held, and letting them go on.

use sandhog_api::Problem;
use sandhog_broker::HeldGroup;
use sandhog_core::id::{GroupKey, QueueName, TenantId};

use super::{Caller, Role, Service, of_broker, tenants};

/// Looks up the groups of a tenant that are held by dead jobs, those held for the longest time first.
///
/// # Errors
/// There is no such tenant in scope, or the broker can't be asked.
pub async fn held(service: &Service, caller: &Caller, tenant: &TenantId) -> Result<Vec<HeldGroup>, Problem> {
    caller.needs(Role::Observe)?;
    let tenant = tenants::known(&service.config(), caller, tenant)?;
    service.broker.held_groups(&tenant).await.map_err(of_broker)
}

/// Lets a held group go on with its next job, and returns whether it was held.
///
/// # Errors
/// There is no such tenant in scope, or the broker can't be asked.
pub async fn release(
    service: &Service,
    caller: &Caller,
    tenant: &TenantId,
    queue: &QueueName,
    group: &GroupKey,
) -> Result<bool, Problem> {
    caller.needs(Role::Operate)?;
    let tenant = tenants::known(&service.config(), caller, tenant)?;
    service.broker.release_group(&tenant, queue, group).await.map_err(of_broker)
}
