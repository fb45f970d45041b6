//! Use cases on holds: pausing jobs, resuming them, and looking up what is held back.

use sandhog_api::{Problem, Slug};
use sandhog_broker::HoldOutcome;
use sandhog_core::hold::{HOLDS_MAX, Hold, HoldScope, NewHold};
use sandhog_core::id::TenantId;

use super::{Caller, Role, Service, of_broker, tenants};

/// Holds jobs of a tenant back, in place of a hold of the same scope.
///
/// # Errors
/// There is no such tenant in scope, a text of the hold is too long, the tenant has too many holds, or the broker can't be asked.
pub async fn hold(
    service: &Service,
    caller: &Caller,
    tenant: &TenantId,
    hold: NewHold,
) -> Result<(), Problem> {
    caller.needs(Role::Operate)?;
    let tenant = tenants::known(&service.config(), caller, tenant)?;
    hold.check().map_err(|error| Problem::new(Slug::RequestTooLarge, error.to_string()))?;
    match service.broker.hold(&tenant, hold).await.map_err(of_broker)? {
        HoldOutcome::TooMany => {
            let message = format!("tenant {tenant} has {HOLDS_MAX} holds, and can have no more");
            let help = "`sandhog holds` lists them; one hold of a whole queue, or of all jobs, does for many";
            Err(Problem::new(Slug::RequestTooLarge, message).help(help))
        }
        HoldOutcome::Held | HoldOutcome::Lifted | HoldOutcome::NotHeld => Ok(()),
    }
}

/// Ends the hold of this very scope. Returns whether there was one.
///
/// # Errors
/// There is no such tenant in scope, or the broker can't be asked.
pub async fn lift(
    service: &Service,
    caller: &Caller,
    tenant: &TenantId,
    scope: HoldScope,
) -> Result<bool, Problem> {
    caller.needs(Role::Operate)?;
    let tenant = tenants::known(&service.config(), caller, tenant)?;
    let lifted = service.broker.lift(&tenant, scope).await.map_err(of_broker)?;
    Ok(lifted == HoldOutcome::Lifted)
}

/// Looks up a tenant's holds that are in force, in the order of their scopes.
///
/// # Errors
/// There is no such tenant in scope, or the broker can't be asked.
pub async fn list(service: &Service, caller: &Caller, tenant: &TenantId) -> Result<Vec<Hold>, Problem> {
    caller.needs(Role::Observe)?;
    let tenant = tenants::known(&service.config(), caller, tenant)?;
    service.broker.holds(&tenant).await.map_err(of_broker)
}
