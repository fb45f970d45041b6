//! Routes of the daemon's HTTP interface.

use std::fmt::Display;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts, Path, Request, State as Extracted};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, delete, get, patch, post};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use hyper::http::HeaderValue;
use hyper::http::request::Parts;
use hyper::{HeaderMap, Method, StatusCode, Uri};
use sandhog_api::route::{self, Route};
use sandhog_api::{
    DeployEvent, DeployEvents, PROBLEM_JSON, PluginStatuses, Problem, Readiness, Reloaded, RollBack, Slug,
};
use sandhog_core::budget::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::{Semaphore, SemaphorePermit, watch};
use tokio::time::timeout;

use super::guard::{Audited, Limiter, recorded, refused_for};
use super::server::Phase;
use super::{daemons, jobs, metrics, queues, rules, session, tenants};
use crate::clock::Clock;
use crate::service::{Caller, Service, health, plugins};

/// Maximum length of a request's body, in bytes, where no jobs come in.
pub const BODY_MAX: usize = 64 * 1024;

/// Maximum time in which a body has to come in.
const BODY_TIME: Duration = Duration::from_secs(10);

/// Maximum size of all bodies together that are longer than [`BODY_MAX`], in KiB.
const BODIES_MAX: usize = 256 * 1024;

/// Maximum time for which a request waits for room for its body.
const ROOM_TIME: Duration = Duration::from_secs(2);

/// Maximum time that the broker may take to answer whether it is there.
const READY_TIME: Duration = Duration::from_secs(2);

/// Number of seconds after which what can't be done now may be tried again.
const AGAIN_AFTER: u64 = 5;

/// State that all requests share.
pub(super) struct State {
    pub(super) service: Service,
    pub(super) clock: Clock,
    pub(super) limiter: Limiter,
    /// Phase of the server on its way down.
    phase: watch::Receiver<Phase>,
    /// Maximum length of a body in which jobs come in, in bytes.
    body_max: usize,
    /// Room for large bodies, in KiB.
    bodies: Semaphore,
    /// Room for streams of events.
    pub(super) streams: Arc<Semaphore>,
}

/// Maximum number of streams of events at once.
const STREAMS_MAX: usize = 100;

impl State {
    pub(super) fn new(service: Service, phase: watch::Receiver<Phase>, body_max: Bytes) -> Arc<Self> {
        Arc::new(Self {
            service,
            clock: Clock::system(),
            limiter: Limiter::default(),
            phase,
            body_max: usize::try_from(body_max.0).unwrap_or(usize::MAX),
            bodies: Semaphore::new(BODIES_MAX),
            streams: Arc::new(Semaphore::new(STREAMS_MAX)),
        })
    }
}

impl State {
    /// Phase of the server on its way down, to be followed.
    pub(super) fn phase(&self) -> watch::Receiver<Phase> {
        self.phase.clone()
    }
}

/// Routes requests to the use cases of a service, without a check of where they come from. A request without a [`Caller`] in its
/// extensions is refused.
pub fn router(service: Service) -> Router {
    let phase = watch::Sender::new(Phase::Serving);
    recorded(routes(&State::new(service, phase.subscribe(), LOCAL_BODY_MAX)))
}

/// Maximum length of a body in which jobs come in by the local socket.
const LOCAL_BODY_MAX: Bytes = Bytes::mib(16);

/// Returns all routes, each with the role that it takes.
pub(super) fn routes(state: &Arc<State>) -> Router {
    let routes = Routes { router: Router::new(), state: Arc::clone(state) };
    let routes = routes
        .open(route::LIVE, get(live))
        .open(route::READY, get(ready))
        .open(route::BEGIN_SESSION, post(session::begin))
        .open(route::END_SESSION, delete(session::end))
        .at(route::ME, get(session::me))
        .at(route::METRICS, get(metrics::text))
        .at(route::ENQUEUE, post(jobs::enqueue))
        .at(route::ENQUEUE_MANY, post(jobs::enqueue_many))
        .at(route::JOBS, get(jobs::list))
        .at(route::JOB, get(jobs::get))
        .at(route::EDIT, patch(jobs::edit))
        .at(route::CANCEL, post(jobs::cancel))
        .at(route::REDRIVE, post(jobs::redrive))
        .at(route::RUN_NOW, post(jobs::run_now))
        .at(route::REMOVE, delete(jobs::remove))
        .at(route::BULK, post(jobs::bulk))
        .at(route::COUNTS, get(jobs::counts))
        .at(route::QUEUES, get(queues::list))
        .at(route::FAILURES, get(jobs::failures_of))
        .at(route::HOLDS, get(rules::holds_of))
        .at(route::HOLD, post(rules::hold))
        .at(route::LIFT, delete(rules::lift))
        .at(route::LIMITS, get(rules::limits_of))
        .at(route::SET_LIMIT, post(rules::set_limit))
        .at(route::SWITCH_LIMIT, patch(rules::switch_limit))
        .at(route::UNSET_LIMIT, delete(rules::unset_limit))
        .at(route::BREAKERS, get(rules::breakers_of))
        .at(route::FORCE_BREAKER, post(rules::force_breaker))
        .at(route::RESET_BREAKER, post(rules::reset_breaker))
        .at(route::GROUPS, get(rules::groups_of))
        .at(route::RELEASE, post(rules::release))
        .at(route::SCHEDULES, get(rules::schedules_of))
        .at(route::ADD_SCHEDULE, post(rules::add_schedule))
        .at(route::SCHEDULE, get(rules::schedule))
        .at(route::SCHEDULE_NEXT, get(rules::next))
        .at(route::PAUSE_SCHEDULE, post(rules::pause))
        .at(route::RESUME_SCHEDULE, post(rules::resume))
        .at(route::RUN_SCHEDULE, post(rules::run))
        .at(route::BACKFILL, post(rules::backfill))
        .at(route::REMOVE_SCHEDULE, delete(rules::remove))
        .at(route::STORE_FLOW, post(jobs::store_flow))
        .at(route::FLOW, get(jobs::flow))
        .at(route::CANCEL_FLOW, post(jobs::cancel_flow))
        .at(route::REDRIVE_FLOW, post(jobs::redrive_flow))
        .at(route::EVENTS, get(tenants::events_of))
        .at(route::TENANTS, get(tenants::list))
        .at(route::USAGE, get(tenants::usage))
        .at(route::DAEMONS, get(daemons::list))
        .at(route::RELOAD, post(reload))
        .at(route::ROLLBACK, post(roll_back))
        .at(route::PLUGINS, get(plugin_statuses))
        .at(route::DEPLOY_EVENTS, get(deploy_events));
    routes
        .router
        .fallback(unknown_route)
        .method_not_allowed_fallback(method_not_allowed)
        .with_state(Arc::clone(state))
}

/// Routes, as they are put together.
struct Routes {
    router: Router<Arc<State>>,
    state: Arc<State>,
}

impl Routes {
    /// Adds a route for callers with the role that it takes. Others are refused before anything is read.
    fn at(self, route: Route, handler: MethodRouter<Arc<State>>) -> Self {
        let handler = handler.layer(from_fn_with_state((Arc::clone(&self.state), route), admit));
        self.open(route, handler)
    }

    /// Adds a route for everybody.
    fn open(mut self, route: Route, handler: MethodRouter<Arc<State>>) -> Self {
        self.router = self.router.route(route.path, handler);
        self
    }
}

/// Maximum length of a request's body, in bytes.
#[derive(Debug, Clone, Copy)]
struct BodyMax(usize);

/// Routes in whose bodies there are payloads.
const LARGE: [Route; 4] = [route::ENQUEUE, route::ENQUEUE_MANY, route::STORE_FLOW, route::EDIT];

/// Lets a request through whose caller has the role that the route takes, once there is room for its body.
async fn admit(
    Extracted((state, route)): Extracted<(Arc<State>, Route)>,
    mut request: Request,
    next: Next,
) -> Response {
    let caller = request.extensions().get::<Caller>().cloned();
    let Some(caller) = caller else { return Refused(unknown_caller()).into_response() };
    let mut response = match route.role.map_or(Ok(()), |role| caller.needs(role)) {
        Err(problem) => Refused(problem).into_response(),
        Ok(()) => {
            let max = if LARGE.contains(&route) { state.body_max } else { BODY_MAX };
            request.extensions_mut().insert(BodyMax(max));
            let size = told_size(request.headers()).unwrap_or(max).min(max);
            match room(&state, size).await {
                Err(problem) => refused_for(problem, 1),
                // The room is held until the request is answered.
                Ok(_room) => next.run(request).await,
            }
        }
    };
    if route.is_audited() {
        response.extensions_mut().insert(Audited(caller));
    }
    response
}

/// Returns the length of a body as its sender tells it, in bytes.
fn told_size(headers: &HeaderMap) -> Option<usize> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Waits for room for a body of this size.
async fn room(state: &State, size: usize) -> Result<Option<SemaphorePermit<'_>>, Problem> {
    if size <= BODY_MAX {
        return Ok(None);
    }
    let permits = u32::try_from(size.div_ceil(1024).min(BODIES_MAX)).unwrap_or(u32::MAX);
    match timeout(ROOM_TIME, state.bodies.acquire_many(permits)).await {
        Ok(Ok(room)) => Ok(Some(room)),
        _ => Err(Problem::new(Slug::Busy, "there is no room for more requests of this size at once")),
    }
}

pub(super) type Shared = Extracted<Arc<State>>;

async fn live() -> &'static str {
    "ok\n"
}

async fn ready(Extracted(state): Shared) -> Response {
    let mut problems = Vec::new();
    if *state.phase.borrow() >= Phase::Draining {
        problems.push("the daemon is about to end".to_owned());
    }
    problems.extend(health::problems(&state.service));
    match timeout(READY_TIME, health::broker(&state.service)).await {
        Ok(Ok(())) => {}
        // Who asks may be anybody, so no more is said.
        Ok(Err(_)) | Err(_) => problems.push("the broker can't be reached".to_owned()),
    }
    let readiness = Readiness { ready: problems.is_empty(), problems };
    let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    document(status, "application/json", &readiness)
}

async fn reload(caller: Asks, Extracted(state): Shared) -> Result<Json<Reloaded>, Refused> {
    Ok(Json(plugins::reload(&state.service, &caller.0).await?))
}

async fn roll_back(
    caller: Asks,
    Extracted(state): Shared,
    Json(ask): Json<RollBack>,
) -> Result<Json<DeployEvent>, Refused> {
    Ok(Json(plugins::roll_back(&state.service, &caller.0, &ask).await?))
}

async fn plugin_statuses(caller: Asks, Extracted(state): Shared) -> Result<Json<PluginStatuses>, Refused> {
    Ok(Json(plugins::statuses(&state.service, &caller.0)?))
}

async fn deploy_events(caller: Asks, Extracted(state): Shared) -> Result<Json<DeployEvents>, Refused> {
    Ok(Json(plugins::events(&state.service, &caller.0)?))
}

async fn unknown_route(_: Asks, uri: Uri) -> Refused {
    Problem::new(Slug::UnknownRoute, format!("there is nothing at {}", uri.path())).into()
}

async fn method_not_allowed(_: Asks, method: Method, uri: Uri) -> Refused {
    Problem::new(Slug::MethodNotAllowed, format!("{} takes no {method}", uri.path())).into()
}

/// Caller of a request, extracted from it. A request whose caller isn't known is refused.
pub(super) struct Asks(pub(super) Caller);

impl<S: Sync> FromRequestParts<S> for Asks {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refused> {
        Ok(Self(parts.extensions.remove::<Caller>().ok_or_else(unknown_caller)?))
    }
}

fn unknown_caller() -> Problem {
    Problem::new(Slug::Forbidden, "only the daemon's own user, or root, may ask here")
}

/// Part of a path that the caller chooses.
pub(super) struct Part<T>(pub(super) T);

impl<S: Send + Sync, T: FromStr<Err: Display> + Send> FromRequestParts<S> for Part<T> {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refused> {
        let refuse =
            |why: &dyn Display| Problem::new(Slug::MalformedRequest, format!("{}: {why}", parts.uri.path()));
        let part = Path::<String>::from_request_parts(&mut parts.clone(), state).await;
        let part = part.map_err(|error| refuse(&error))?;
        Ok(Self(part.parse().map_err(|error: T::Err| refuse(&error))?))
    }
}

/// JSON document, in a request or an answer.
pub(super) struct Json<T>(pub(super) T);

impl<S: Sync, T: DeserializeOwned> FromRequest<S> for Json<T> {
    type Rejection = Refused;

    async fn from_request(request: Request, _: &S) -> Result<Self, Refused> {
        if !is_json(request.headers()) {
            let message = "the body has to be of the type application/json";
            return Err(Problem::new(Slug::MalformedRequest, message).into());
        }
        let max = request.extensions().get::<BodyMax>().map_or(BODY_MAX, |BodyMax(max)| *max);
        let body = Limited::new(request.into_body(), max).collect();
        let body = match timeout(BODY_TIME, body).await {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(cause)) if cause.is::<LengthLimitError>() => {
                let message = format!("the body is longer than {max} bytes");
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
pub(super) struct Refused(Problem);

impl From<Problem> for Refused {
    fn from(problem: Problem) -> Self {
        Self(problem)
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = document(status, PROBLEM_JSON, &self.0);
        if let Slug::Busy | Slug::QueueFull | Slug::BrokerUnavailable | Slug::BrokerFull = self.0.slug {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(AGAIN_AFTER));
        }
        if self.0.slug == Slug::Unauthenticated {
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// Makes an answer with a JSON document.
pub(super) fn answered(status: StatusCode, value: &impl Serialize) -> Response {
    document(status, "application/json", value)
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
