//! Sessions of browsers: a token in a cookie, and what a request has to show besides so that no other page can send it.
//!
//! Daemons keep tokens as hashes and share no secret, so nothing but the token itself proves to each of them, after a restart as
//! well, that a session is its owner's, and nothing but the configuration need be asked whether it still holds. So the cookie has
//! the token; a page can't read it (`HttpOnly`), and no other site's request carries it (`SameSite=Strict`).
//!
//! | request | what a change has to show |
//! |---|---|
//! | with `Authorization` | nothing more: no page sends that by itself |
//! | with the cookie | `Sandhog-Csrf: 1`, which a page of another origin can't send unasked, and an `Origin` that fits |
//! | with neither | an `Origin` that fits, if it has one: browsers say it with each change |

use axum::extract::{Request, State as Extracted};
use axum::response::{IntoResponse, Response};
use data_encoding::BASE64URL_NOPAD;
use hyper::header::{AUTHORIZATION, COOKIE, HOST, ORIGIN, SET_COOKIE};
use hyper::http::HeaderValue;
use hyper::http::uri::Authority;
use hyper::{HeaderMap, Method, StatusCode, Uri};
use sandhog_api::{MeDocument, Problem, SessionAsk, Slug};
use sandhog_config::Http;
use url::Url;

use super::guard::{Audited, Known, known, refused_for};
use super::query::Query;
use super::router::{Asks, Json, Refused, Shared};

/// Name of a session's cookie.
const NAME: &str = "sandhog-session";

/// Header that a change with a session's cookie has to have.
const CSRF: &str = "sandhog-csrf";

/// Time after which a browser forgets a session, in seconds: that of a long working day.
const LASTS: u64 = 12 * 60 * 60;

/// Shows who asks.
pub(super) async fn me(
    caller: Asks,
    query: Query,
    Extracted(state): Shared,
) -> Result<Json<MeDocument>, Refused> {
    query.end()?;
    let (caller, config) = (caller.0, state.service.config());
    let server = config.http.as_ref().and_then(|http| http.name.as_deref());
    Ok(Json(MeDocument::new(caller.token(), caller.role(), caller.scope(), server, state.clock.now())))
}

/// Begins a session: has a browser send a token with each request from now on.
pub(super) async fn begin(
    Extracted(state): Shared,
    headers: HeaderMap,
    Json(ask): Json<SessionAsk>,
) -> Result<Response, Refused> {
    let config = state.service.config();
    let Some(http) = config.http.as_ref().filter(|http| !http.tokens.is_empty()) else {
        return Ok(StatusCode::NO_CONTENT.into_response());
    };
    let (token, now) = (ask.token.trim(), state.clock.now());
    let Known { caller, rate, key, expires } = known(http, token, now)?;
    if let Err(wait) = state.limiter.take(key, rate) {
        let problem = Problem::new(Slug::RateLimited, "this token has made too many requests");
        return Ok(refused_for(problem, wait));
    }
    let left = expires.map_or(LASTS, |end| end.since(now).as_secs().min(LASTS));
    let value = BASE64URL_NOPAD.encode(token.as_bytes());
    let mut response = cookie(http, &headers, &value, left);
    response.extensions_mut().insert(Audited(caller));
    Ok(response)
}

/// Ends a session: has a browser forget it.
pub(super) async fn end(Extracted(state): Shared, headers: HeaderMap) -> Response {
    let config = state.service.config();
    match &config.http {
        Some(http) => cookie(http, &headers, "", 0),
        None => StatusCode::NO_CONTENT.into_response(),
    }
}

/// Makes the answer that sets the cookie for so many seconds. It has no path: a browser then sends it to what lies beside this
/// route alone, wherever a proxy has put that.
fn cookie(http: &Http, headers: &HeaderMap, value: &str, seconds: u64) -> Response {
    // A page that came by TLS got it from a proxy, if not from here.
    let origin = headers.get(ORIGIN).and_then(|origin| origin.to_str().ok());
    let is_secure = http.tls.is_some() || origin.is_some_and(|origin| origin.starts_with("https://"));
    let secure = if is_secure { "; Secure" } else { "" };
    let text = format!("{NAME}={value}; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}");
    let mut response = StatusCode::NO_CONTENT.into_response();
    match HeaderValue::try_from(text) {
        Ok(mut header) => {
            header.set_sensitive(true);
            response.headers_mut().insert(SET_COOKIE, header);
            response
        }
        Err(_) => Refused::from(Problem::new(Slug::MalformedRequest, "the token is none")).into_response(),
    }
}

/// Returns the token of a request's session. `None` if it has none.
pub(super) fn token(headers: &HeaderMap) -> Option<String> {
    let cookies = headers.get_all(COOKIE).iter().filter_map(|cookies| cookies.to_str().ok());
    let mut pairs =
        cookies.flat_map(|cookies| cookies.split(';')).filter_map(|pair| pair.trim().split_once('='));
    let (_, value) = pairs.find(|(name, value)| *name == NAME && !value.is_empty())?;
    String::from_utf8(BASE64URL_NOPAD.decode(value.as_bytes()).ok()?).ok()
}

/// Checks that a change which is asked for with a session's cookie comes from a page of this origin.
pub(super) fn check_change(method: &Method, headers: &HeaderMap) -> Result<(), Problem> {
    if is_look(method) {
        return Ok(());
    }
    if headers.get(CSRF).is_none_or(|value| value != "1") {
        let problem =
            Problem::new(Slug::Forbidden, "a change with a session's cookie has no Sandhog-Csrf: 1");
        return Err(problem.help("send that header, or a token in place of the cookie"));
    }
    match headers.contains_key(ORIGIN) {
        true => Ok(()),
        false => Err(Problem::new(Slug::Forbidden, "a change with a session's cookie has no Origin")),
    }
}

/// Checks that a change which may come from a browser comes from a page of this origin, as far as it says where it comes from.
pub(super) fn check_origin(hosts: &[String], request: &Request) -> Result<(), Problem> {
    let headers = request.headers();
    let Some(origin) = headers.get(ORIGIN) else { return Ok(()) };
    if is_look(request.method()) || headers.contains_key(AUTHORIZATION) {
        return Ok(());
    }
    let fits =
        origin.to_str().is_ok_and(|origin| fits(origin, asked(request.uri(), headers).as_ref(), hosts));
    match fits {
        true => Ok(()),
        false => Err(Problem::new(Slug::Forbidden, "the request comes from a page of another origin")
            .help("http.hosts in the daemon's file has the names by which it is reached")),
    }
}

fn is_look(method: &Method) -> bool {
    method == Method::GET || method == Method::HEAD
}

/// Returns the host and port that a request is for.
pub(super) fn asked(uri: &Uri, headers: &HeaderMap) -> Option<Authority> {
    match uri.authority() {
        Some(authority) => Some(authority.clone()),
        None => headers.get(HOST)?.to_str().ok()?.parse().ok(),
    }
}

/// Whether a page of this origin belongs to the host that is asked, or to one of `hosts` at the port of its scheme: a proxy in
/// between may ask for another host than the page's.
fn fits(origin: &str, asked: Option<&Authority>, hosts: &[String]) -> bool {
    let Ok(origin) = Url::parse(origin) else { return false };
    let (Some(host), Some(port)) = (origin.host_str(), origin.port_or_known_default()) else { return false };
    let is_web = matches!(origin.scheme(), "http" | "https");
    let usual = if origin.scheme() == "https" { 443 } else { 80 };
    let is_asked = asked.is_some_and(|asked| {
        asked.host().eq_ignore_ascii_case(host) && asked.port_u16().unwrap_or(usual) == port
    });
    is_web && (is_asked || (port == usual && hosts.iter().any(|name| name.eq_ignore_ascii_case(host))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_fits_if_it_is_of_the_host_that_is_asked_or_of_a_name_of_ours() {
        let hosts = ["sandhog.acme.example".to_owned()];
        for (origin, asked, right) in [
            ("http://localhost:7070", "localhost:7070", true),
            ("http://LOCALHOST:7070", "localhost:7070", true),
            ("https://a.example", "a.example", true),
            ("https://a.example", "a.example:443", true),
            ("http://[::1]:7070", "[::1]:7070", true),
            ("https://sandhog.acme.example", "127.0.0.1:7070", true),
            ("https://sandhog.acme.example:8443", "127.0.0.1:7070", false),
            ("https://evil.example", "127.0.0.1:7070", false),
            ("http://localhost:3000", "localhost:7070", false),
            ("http://localhost", "localhost:7070", false),
            ("ftp://localhost:7070", "localhost:7070", false),
            ("null", "localhost:7070", false),
            ("", "localhost:7070", false),
        ] {
            let asked: Authority = asked.parse().expect("it is one");
            assert_eq!(fits(origin, Some(&asked), &hosts), right, "{origin} for {asked}");
        }
    }

    #[test]
    fn a_token_comes_out_of_the_cookie_as_it_went_in() {
        let mut headers = HeaderMap::new();
        for (cookies, found) in [
            ("a=b; sandhog-session=c2hnX3g; c=d", Some("shg_x")),
            ("sandhog-session=c2hnX3g", Some("shg_x")),
            ("sandhog-session=", None),
            ("sandhog-session=!", None),
            ("sandhog-sessions=c2hnX3g", None),
        ] {
            headers.insert(COOKIE, cookies.parse().expect("a value"));
            assert_eq!(token(&headers).as_deref(), found, "{cookies}");
        }
    }
}
