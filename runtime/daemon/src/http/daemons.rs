//! Route of the fleet.

use axum::extract::State as Extracted;
use sandhog_api::DaemonsDocument;

use super::query::Query;
use super::router::{Asks, Json, Refused, Shared};
use crate::service::daemons;

pub(super) async fn list(
    caller: Asks,
    query: Query,
    Extracted(state): Shared,
) -> Result<Json<DaemonsDocument>, Refused> {
    query.end()?;
    Ok(Json(daemons::list(&state.service, &caller.0).await?))
}
