//! The dashboard: one page for all views, and its assets, embedded by the build script. It is a client of the API like any other,
//! so it is served to everybody; what it shows takes a token.

use axum::Router;
use axum::body::Body;
use axum::extract::Path;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper::StatusCode;
use hyper::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY};

include!(concat!(env!("OUT_DIR"), "/dashboard.rs"));

/// First parts of the paths of views. Below them, each path is answered with the page, which knows what to show.
const VIEWS: [&str; 16] = [
    "alerts",
    "audit",
    "breakers",
    "broker",
    "failures",
    "fleet",
    "flows",
    "groups",
    "holds",
    "jobs",
    "limits",
    "plugins",
    "queues",
    "schedules",
    "tasks",
    "tenants",
];

/// Path below which the assets are.
const ASSETS_PATH: &str = "/assets/";

/// Text of the page that stands for the path below which everything lies.
const BASE: &str = "@BASE@";

/// What the page may do: load what is embedded, and ask the interface that it comes from.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
     form-action 'self'; base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'";

/// Answer where the dashboard isn't embedded.
const MISSING: &str = "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>Sandhog</title>\n\
     <h1>Sandhog is here; its dashboard isn't</h1>\n\
     <p>This daemon was built without it. With Node.js and npm installed, <code>make dashboard sandhog</code> in the source tree \
     builds both.</p>\n<p>The interface under <code>/v1</code> and the command line can do the same.</p>\n</html>\n";

/// Whether the dashboard is served at this path, so that no token is needed.
pub(super) fn is_at(path: &str) -> bool {
    let first = path.strip_prefix('/').and_then(|rest| rest.split('/').next()).unwrap_or_default();
    path == "/" || path.starts_with(ASSETS_PATH) || VIEWS.contains(&first)
}

/// Adds the dashboard to the routes of the API. `base` is the path below which all of them are reached; empty if there is none.
pub(super) fn with_dashboard(routes: Router, base: &str) -> Router {
    let page = PAGE.map_or_else(|| MISSING.to_owned(), |page| page.replace(BASE, base));
    let page = get(move || {
        let page = page.clone();
        async move { shown(page) }
    });
    let mut routes = routes.route("/", page.clone()).route("/assets/{name}", get(asset));
    for view in VIEWS {
        routes = routes
            .route(&format!("/{view}"), page.clone())
            .route(&format!("/{view}/{{*rest}}"), page.clone());
    }
    routes
}

/// Serves everything below a base path, too. A proxy may leave it in the path of a request, or take it away.
pub(super) fn below(base: &str, router: Router) -> Router {
    if base.is_empty() {
        return router;
    }
    Router::new().nest_service(base, router.clone()).fallback_service(router)
}

fn shown(page: String) -> Response {
    let headers = [
        (CONTENT_TYPE, "text/html; charset=utf-8"),
        (CONTENT_SECURITY_POLICY, POLICY),
        (REFERRER_POLICY, "same-origin"),
        (CACHE_CONTROL, "no-store"),
    ];
    (headers, page).into_response()
}

async fn asset(Path(name): Path<String>) -> Response {
    let Some((_, bytes)) = ASSETS.iter().find(|(of, _)| *of == name) else {
        return (StatusCode::NOT_FOUND, "there is no such asset\n").into_response();
    };
    let kind = match name.rsplit_once('.') {
        Some((_, "js")) => "text/javascript; charset=utf-8",
        Some((_, "css")) => "text/css; charset=utf-8",
        _ => "application/octet-stream",
    };
    // The name has the hash of what is in it.
    let headers = [(CONTENT_TYPE, kind), (CACHE_CONTROL, "public, max-age=31536000, immutable")];
    (headers, Body::from(*bytes)).into_response()
}
