//! Routes of queues.

use axum::extract::State as Extracted;
use sandhog_api::QueuesDocument;
use sandhog_core::id::TenantId;

use super::query::Query;
use super::router::{Asks, Json, Refused, Shared};
use crate::service::queues::{self, Place};

/// Number of queues on a page, if nothing else is said.
const LIMIT: usize = 100;

pub(super) async fn list(
    caller: Asks,
    mut query: Query,
    Extracted(state): Shared,
) -> Result<Json<QueuesDocument>, Refused> {
    let tenant = query.take("tenant", TenantId::parse)?;
    let limit = query.take("limit", str::parse::<usize>)?.unwrap_or(LIMIT);
    let after = query.take("after", str::parse::<Place>)?;
    query.end()?;
    Ok(Json(queues::list(&state.service, &caller.0, tenant.as_ref(), after.as_ref(), limit).await?))
}
