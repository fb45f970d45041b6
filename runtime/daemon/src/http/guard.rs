//! What a request has to pass before a route is asked, and what is told of it afterwards.
//!
//! ```text
//! network ──> host ──> origin ──> token ──> rate ──┐
//!                                                  ├──> id, audit ──> role ──> body ──> route
//! local socket ──> the kernel vouches ─────────────┘
//! ```

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use axum::Router;
use axum::extract::{Request, State as Extracted};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use data_encoding::BASE64URL_NOPAD;
use hyper::header::{AUTHORIZATION, CACHE_CONTROL, RETRY_AFTER, X_CONTENT_TYPE_OPTIONS};
use hyper::http::HeaderValue;
use hyper::{HeaderMap, Method};
use rand::rngs::SysRng;
use rand::{RngExt, TryRng};
use sandhog_api::{Problem, Slug, route};
use sandhog_config::{Config, Http};
use sandhog_core::access::{Token, TokenHash};
use sandhog_core::rate::{FullAt, Rate};
use sandhog_core::time::Timestamp;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::connection::Peer;
use super::dashboard;
use super::router::{Refused, State};
use super::session;
use crate::service::Caller;
use crate::service::bulk::AUDIT;

/// Name of the header with a request's id.
pub const REQUEST_ID: &str = "x-request-id";

/// Maximum length of a request's id that the caller chooses, in bytes.
const REQUEST_ID_MAX: usize = 128;

/// Has requests over the network checked, and told of.
pub(super) fn guarded(router: Router, state: &Arc<State>) -> Router {
    recorded(router.layer(from_fn_with_state(Arc::clone(state), check)))
}

/// Gives requests their ids, and has changes told to the audit log.
pub(super) fn recorded(router: Router) -> Router {
    router.layer(from_fn(record))
}

/// A request that goes to the audit log, and who has made it.
#[derive(Debug, Clone)]
pub(super) struct Audited(pub(super) Caller);

async fn record(request: Request, next: Next) -> Response {
    let id = request_id(request.headers());
    let from =
        request.extensions().get::<Peer>().map_or_else(|| "local".to_owned(), |Peer(at)| at.to_string());
    let (method, path) = (request.method().clone(), request.uri().clone());
    let mut response = next.run(request).await;
    if let Some(Audited(caller)) = response.extensions_mut().remove::<Audited>() {
        let path = path.path_and_query().map(ToString::to_string).unwrap_or_default();
        let (by, role, status) = (caller.name(), caller.role(), response.status().as_u16());
        tracing::info!(target: AUDIT, by, %role, from, %method, path, status, request = id, "a request for a change");
    }
    let headers = response.headers_mut();
    if let Ok(id) = HeaderValue::from_str(&id) {
        headers.insert(REQUEST_ID, id);
    }
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

/// Returns the id that the caller has given to a request, or makes one.
fn request_id(headers: &HeaderMap) -> String {
    let given = headers.get(REQUEST_ID).and_then(|id| id.to_str().ok());
    let fits = |id: &&str| {
        (1..=REQUEST_ID_MAX).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic())
    };
    match given.filter(fits) {
        Some(id) => id.to_owned(),
        None => format!("{:032x}", rand::rng().random::<u128>()),
    }
}

async fn check(Extracted(state): Extracted<Arc<State>>, mut request: Request, next: Next) -> Response {
    let config = state.service.config();
    let hosts = config.http.as_ref().map_or(&[][..], |http| &http.hosts);
    let checked = check_host(hosts, &request).and_then(|()| session::check_origin(hosts, &request));
    if let Err(problem) = checked {
        return Refused::from(problem).into_response();
    }
    let path = request.uri().path();
    let is_open =
        dashboard::is_at(path) || route::ALL.iter().any(|route| route.role.is_none() && route.path == path);
    if !is_open {
        let known = authenticate(&config, request.method(), request.headers(), state.clock.now());
        let Known { caller, rate, key, .. } = match known {
            Ok(known) => known,
            Err(problem) => return Refused::from(problem).into_response(),
        };
        if let Err(wait) = state.limiter.take(key, rate) {
            let problem = Problem::new(Slug::RateLimited, "this token has made too many requests");
            return refused_for(
                problem.help("http.rate, or the token's own rate, says how many it may make"),
                wait,
            );
        }
        request.extensions_mut().insert(caller);
    }
    next.run(request).await
}

/// Makes the answer that something can't be done for so many seconds.
pub(super) fn refused_for(problem: Problem, seconds: u64) -> Response {
    let mut response = Refused::from(problem).into_response();
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    response
}

/// Checks that a request is for a name under which the daemon is reached. A page in a browser, whose own name leads to this
/// machine all of a sudden, can't hide that name.
fn check_host(hosts: &[String], request: &Request) -> Result<(), Problem> {
    let Some(authority) = session::asked(request.uri(), request.headers()) else {
        return Err(Problem::new(Slug::MalformedRequest, "the request doesn't say which host it is for"));
    };
    let host = authority.host();
    let address = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    let named = |name: &String| name.eq_ignore_ascii_case(host);
    let is_ours = address.parse::<IpAddr>().is_ok()
        || host.eq_ignore_ascii_case("localhost")
        || hosts.iter().any(named);
    if is_ours {
        return Ok(());
    }
    Err(Problem::new(Slug::UnknownHost, format!("this isn't `{host}`"))
        .help("http.hosts in the daemon's file has the names by which it is reached"))
}

/// A caller that is known.
pub(super) struct Known {
    pub(super) caller: Caller,
    /// Limit of its requests.
    pub(super) rate: Rate,
    /// Token under which its requests are counted. `None` for those without one, which are counted together.
    pub(super) key: Option<TokenHash>,
    /// Time from which on its token is good for nothing.
    pub(super) expires: Option<Timestamp>,
}

/// Finds who has sent a request, by its token or the cookie of its session.
fn authenticate(
    config: &Config,
    method: &Method,
    headers: &HeaderMap,
    now: Timestamp,
) -> Result<Known, Problem> {
    let refused = |why: &str| Problem::new(Slug::Unauthenticated, why);
    let Some(http) = &config.http else { return Err(refused("the configuration has no [http] any more")) };
    if http.tokens.is_empty() {
        return Ok(Known { caller: Caller::anonymous(), rate: http.rate, key: None, expires: None });
    }
    let Some(told) = headers.get(AUTHORIZATION) else {
        if let Some(token) = session::token(headers) {
            session::check_change(method, headers)?;
            return known(http, &token, now);
        }
        let problem = refused("the request has no token");
        return Err(problem.help("send it as a header: Authorization: Bearer TOKEN"));
    };
    let bearer = told.to_str().ok().and_then(|told| told.split_once(' '));
    let bearer = bearer.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    let Some((_, text)) = bearer else {
        return Err(refused("the token isn't sent as `Authorization: Bearer TOKEN`"));
    };
    known(http, text.trim(), now)
}

/// Finds whose a token is.
///
/// # Errors
/// There is no such token, or it has expired.
pub(super) fn known(http: &Http, text: &str, now: Timestamp) -> Result<Known, Problem> {
    let refused = |why: &str| Problem::new(Slug::Unauthenticated, why);
    match find(&http.tokens, text) {
        None => Err(refused("there is no such token")),
        Some(token) if token.expires.is_some_and(|end| end <= now) => Err(refused("the token has expired")),
        Some(token) => {
            let Token { name, hash, role, scope, rate, expires } = token;
            let caller = Caller::new(name.clone(), scope.clone(), *role);
            Ok(Known { caller, rate: rate.unwrap_or(http.rate), key: Some(*hash), expires: *expires })
        }
    }
}

/// Finds a token. How long it takes says nothing about how much of it is right.
fn find<'t>(tokens: &'t [Token], text: &str) -> Option<&'t Token> {
    let hash: [u8; 32] = Sha256::digest(text.as_bytes()).into();
    let mut found = None;
    for token in tokens {
        if bool::from(token.hash.as_sha256().ct_eq(&hash)) {
            found = Some(token);
        }
    }
    found
}

/// Makes a token of 32 random bytes.
///
/// # Errors
/// The system gives no random bytes.
pub fn new_token() -> io::Result<String> {
    let mut secret = [0; 32];
    SysRng.try_fill_bytes(&mut secret).map_err(io::Error::other)?;
    Ok(format!("{TOKEN_PREFIX}{}", BASE64URL_NOPAD.encode(&secret)))
}

/// Beginning of a token, by which it is recognised where it has no business to be.
const TOKEN_PREFIX: &str = "shg_";

/// Limits of requests, by token; those without a token are counted together.
#[derive(Debug)]
pub(super) struct Limiter {
    started: Instant,
    full_at: Mutex<HashMap<Option<TokenHash>, FullAt>>,
}

impl Default for Limiter {
    fn default() -> Self {
        Self { started: Instant::now(), full_at: Mutex::default() }
    }
}

impl Limiter {
    /// Counts a request. If there were too many, returns the number of seconds after which there may be another.
    pub(super) fn take(&self, key: Option<TokenHash>, rate: Rate) -> Result<(), u64> {
        let now = u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.take_at(key, rate, now)
    }

    fn take_at(&self, key: Option<TokenHash>, rate: Rate, now: u64) -> Result<(), u64> {
        let mut full_at = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        // Tokens come and go with the configuration; those that are full need not be remembered.
        if full_at.len() > sandhog_config::TOKENS_MAX {
            full_at.retain(|_, full_at| full_at.0 > now);
        }
        let state = full_at.entry(key).or_default();
        *state = rate.adopted(*state, now);
        if rate.left(*state, now) == 0 {
            return Err(rate.wait(*state, 1, now).div_ceil(1_000_000).max(1));
        }
        *state = rate.taken(*state, 1, now);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use sandhog_core::access::{Role, Scope};

    use super::*;

    fn token(text: &str, role: Role) -> Token {
        let hash = TokenHash::from_sha256(Sha256::digest(text).into());
        Token { name: text.to_owned(), hash, role, scope: Scope::All, expires: None, rate: None }
    }

    #[test]
    fn a_token_is_known_by_its_hash_alone() {
        let tokens = [token("a", Role::Admin), token("b", Role::Observe)];
        assert_eq!(find(&tokens, "b").map(|token| token.role), Some(Role::Observe));
        assert!(find(&tokens, "c").is_none() && find(&tokens, &tokens[0].hash.to_string()).is_none());
    }

    #[test]
    fn who_asks_too_often_is_told_when_to_come_again() {
        let limiter = Limiter::default();
        let two = NonZeroU32::new(2).expect("not zero");
        let rate = Rate::new(NonZeroU32::MIN, 10_000_000, Some(two)).expect("it is a rate");
        assert_eq!([0, 0].map(|now| limiter.take_at(None, rate, now)), [Ok(()), Ok(())]);
        assert_eq!(limiter.take_at(None, rate, 1_000_000), Err(9));
        let other = Some(token("a", Role::Admin).hash);
        assert_eq!(limiter.take_at(other, rate, 1_000_000), Ok(()), "it is counted by itself");
        assert_eq!(limiter.take_at(None, rate, 10_000_000), Ok(()));
    }
}
