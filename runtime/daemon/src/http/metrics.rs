//! Route of metrics.

use axum::extract::State as Extracted;
use axum::response::{IntoResponse, Response};
use hyper::header::CONTENT_TYPE;

use super::query::Query;
use super::router::{Asks, Refused, Shared};
use crate::service::metrics;

pub(super) async fn text(caller: Asks, query: Query, Extracted(state): Shared) -> Result<Response, Refused> {
    query.end()?;
    let text = metrics::text(&state.service, &caller.0).await?;
    Ok(([(CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response())
}
