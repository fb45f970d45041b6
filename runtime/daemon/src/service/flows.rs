//! Use cases on flows: storing one, and looking at one.

use sandhog_api::{Problem, Slug};
use sandhog_broker::{FlowStored, FlowView};
use sandhog_core::budget::Bytes;
use sandhog_core::flow::Flow;
use sandhog_core::id::{JobId, TenantId};
use sandhog_core::job::NewJob;
use sandhog_core::quota::QueueBounds;

use super::enqueue::{Route, until_answered};
use super::{Caller, Role, Service, jobs, of_broker, tenants};

/// A flow that was found, as the caller gets to see it.
#[derive(Debug)]
pub struct Found {
    /// The flow's tenant.
    pub tenant: TenantId,
    /// Id of the flow: that of its first job.
    pub id: JobId,
    /// The jobs that are still kept.
    pub view: FlowView,
}

/// Stores a flow, or nothing of it. `routes` has the route of each of its jobs, all of one tenant. If the broker's answer is lost,
/// it is asked again: the ids are the caller's, so nothing is stored twice.
///
/// # Errors
/// A payload is larger than the plugin of its kind takes, or the broker can't be asked. With [`Slug::BrokerUnavailable`] it is open
/// whether the flow is stored.
pub async fn store(
    service: &Service,
    caller: &Caller,
    flow: &Flow,
    routes: &[Route],
) -> Result<FlowStored, Problem> {
    caller.needs(Role::Produce)?;
    let Some(first) = routes.first() else {
        return Err(Problem::new(Slug::MalformedRequest, "a flow has one job at least"));
    };
    let tenant = tenants::known(&service.config(), caller, &first.tenant)?;
    let too_large = |(job, route): (&NewJob, &Route)| {
        (Bytes::of(job.payload.len()) > route.bounds.payload).then_some(job.id)
    };
    if let Some(job) = flow.jobs().zip(routes).find_map(too_large) {
        return Ok(FlowStored::TooLarge(job));
    }
    // Each payload is within the bound of its own kind.
    let bounds = QueueBounds { payload: QueueBounds::PAYLOAD_MAX, ..first.bounds };
    until_answered(async || service.broker.store_flow(&tenant, flow, &bounds).await).await
}

/// Looks up a flow by its id or by that of any of its jobs; its tenant need not be named.
///
/// # Errors
/// There is no such job or flow in scope, or the broker can't be asked.
pub async fn find(
    service: &Service,
    caller: &Caller,
    id: JobId,
    tenant: Option<&TenantId>,
) -> Result<Found, Problem> {
    caller.needs(Role::Observe)?;
    let tenants = tenants::find(service, caller, tenant)?;
    for tenant in &tenants {
        let job = service.broker.job(tenant, id).await.map_err(of_broker)?;
        // The first job of a flow, which has given it its id, may not be kept any more.
        let flow = match job {
            Some(job) => job.options.flow.map(|member| member.flow),
            None => Some(id),
        };
        let Some(flow) = flow else {
            return Err(Problem::new(Slug::UnknownJob, format!("job {id} is in no flow")));
        };
        if let Some(view) = service.broker.flow(tenant, flow).await.map_err(of_broker)? {
            return Ok(Found { tenant: tenant.clone(), id: flow, view });
        }
    }
    Err(jobs::unknown(id, &tenants))
}
