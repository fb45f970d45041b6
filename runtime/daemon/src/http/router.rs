//! Routes of the daemon's HTTP interface.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts, Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::header::CONTENT_TYPE;
use hyper::http::request::Parts;
use hyper::{HeaderMap, Method, StatusCode, Uri};
use sandhog_api::{
    DeployEvent, DeployEvents, PROBLEM_JSON, PluginStatuses, Problem, Reloaded, RollBack, Slug, route,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use crate::service::{Caller, Service, plugins};

/// Maximum length of a request's body, in bytes.
pub const BODY_MAX: usize = 16 * 1024;

/// Maximum time in which a body has to come in.
const BODY_TIME: Duration = Duration::from_secs(10);

/// Routes requests to the use cases of a service. A request without a [`Caller`] in its extensions is refused.
pub fn router(service: Service) -> Router {
    Router::new()
        .route(route::RELOAD, post(reload))
        .route(route::ROLLBACK, post(roll_back))
        .route(route::PLUGINS, get(plugin_statuses))
        .route(route::DEPLOY_EVENTS, get(deploy_events))
        .fallback(unknown_route)
        .method_not_allowed_fallback(method_not_allowed)
        .with_state(Arc::new(service))
}

type Services = State<Arc<Service>>;

async fn reload(caller: Asks, State(service): Services) -> Result<Json<Reloaded>, Refused> {
    Ok(Json(plugins::reload(&service, &caller.0).await?))
}

async fn roll_back(
    caller: Asks,
    State(service): Services,
    Json(ask): Json<RollBack>,
) -> Result<Json<DeployEvent>, Refused> {
    Ok(Json(plugins::roll_back(&service, &caller.0, &ask).await?))
}

async fn plugin_statuses(caller: Asks, State(service): Services) -> Result<Json<PluginStatuses>, Refused> {
    Ok(Json(plugins::statuses(&service, &caller.0)?))
}

async fn deploy_events(caller: Asks, State(service): Services) -> Result<Json<DeployEvents>, Refused> {
    Ok(Json(plugins::events(&service, &caller.0)?))
}

async fn unknown_route(_: Asks, uri: Uri) -> Refused {
    Problem::new(Slug::UnknownRoute, format!("there is nothing at {}", uri.path())).into()
}

async fn method_not_allowed(_: Asks, method: Method, uri: Uri) -> Refused {
    Problem::new(Slug::MethodNotAllowed, format!("{} takes no {method}", uri.path())).into()
}

/// Caller of a request, extracted from it. A request whose caller isn't known is refused.
struct Asks(Caller);

impl<S: Sync> FromRequestParts<S> for Asks {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refused> {
        let unknown = || Problem::new(Slug::Forbidden, "only the daemon's own user, or root, may ask here");
        Ok(Self(parts.extensions.remove::<Caller>().ok_or_else(unknown)?))
    }
}

/// JSON document, in a request or an answer.
struct Json<T>(T);

impl<S: Sync, T: DeserializeOwned> FromRequest<S> for Json<T> {
    type Rejection = Refused;

    async fn from_request(request: Request, _: &S) -> Result<Self, Refused> {
        if !is_json(request.headers()) {
            let message = "the body has to be of the type application/json";
            return Err(Problem::new(Slug::MalformedRequest, message).into());
        }
        let body = Limited::new(request.into_body(), BODY_MAX).collect();
        let body = match timeout(BODY_TIME, body).await {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(cause)) if cause.is::<LengthLimitError>() => {
                let message = format!("the body is longer than {BODY_MAX} bytes");
                return Err(Problem::new(Slug::RequestTooLarge, message).into());
            }
            Ok(Err(_)) => return Err(Problem::new(Slug::MalformedRequest, "the body ends early").into()),
            Err(_) => {
                let message = format!("the body has not come in within {BODY_TIME:?}");
                return Err(Problem::new(Slug::RequestTimeout, message).into());
            }
        };
        serde_json::from_slice(&body).map(Self).map_err(|error| {
            Problem::new(Slug::MalformedRequest, format!("the body isn't what is expected: {error}")).into()
        })
    }
}

/// Whether a body is said to be JSON. A page in a browser can't say so without being asked for permission first.
fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        document(StatusCode::OK, "application/json", &self.0)
    }
}

/// Refusal: a problem, as an answer.
struct Refused(Problem);

impl From<Problem> for Refused {
    fn from(problem: Problem) -> Self {
        Self(problem)
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        document(status, PROBLEM_JSON, &self.0)
    }
}

fn document(status: StatusCode, kind: &'static str, document: &impl Serialize) -> Response {
    match serde_json::to_vec(document) {
        Ok(text) => (status, [(CONTENT_TYPE, kind)], Body::from(text)).into_response(),
        Err(error) => {
            tracing::error!(%error, "an answer can't be written as JSON");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}
