//! Every route by what goes in and what comes out, as callers over the network see it.

use std::collections::BTreeSet;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http_body_util::BodyExt;
use hyper::Request;
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use sandhog_api::route::{self, Route};
use sandhog_broker::memory::Memory;
use sandhog_broker::{Broker, DaemonReport, LeaseAsk, Served, Settle, SystemClock};
use sandhog_core::access::Role;
use sandhog_core::flow::{Flow, FlowJob};
use sandhog_core::id::{FlowJobName, JobId, Kind, QueueName, ScheduleName, TenantId};
use sandhog_core::job::{NewJob, Priority};
use sandhog_core::quota::QueueBounds;
use sandhog_core::reason::Reason;
use sandhog_core::schedule::{Base, CatchUp, Overlap, Schedule, Source, Template, Times, Zone};
use sandhog_core::settle::Settlement;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::sync::watch;

use super::dashboard::{below, with_dashboard};
use super::guard::guarded;
use super::router::{State, routes};
use super::server::Phase;
use crate::clock::Clock;
use crate::service::metrics::parse;
use crate::service::{Caller, Service, schedules};

/// The interface over the network, over the model of a broker, with a token for each role and tenant, such as `acme-observe`.
struct Site {
    router: Router,
    broker: Arc<Memory>,
    service: Service,
    clock: Clock,
    phase: watch::Sender<Phase>,
}

fn token_toml(name: &str, role: Role, rest: &str) -> String {
    let hash = data_encoding::HEXLOWER.encode(&Sha256::digest(name));
    format!("[[http.tokens]]\nname = \"{name}\"\nhash = \"{hash}\"\nrole = \"{role}\"\n{rest}\n")
}

fn site(more: &str) -> Site {
    let mut tokens = String::new();
    for tenant in ["acme", "globex"] {
        for role in Role::ALL {
            tokens += &token_toml(&format!("{tenant}-{role}"), role, &format!("tenants = [\"{tenant}\"]"));
        }
    }
    tokens += &token_toml("root", Role::Admin, "");
    tokens += &token_toml("late", Role::Admin, "expires = 2020-01-01T00:00:00Z");
    tokens += &token_toml("hasty", Role::Admin, "rate = \"1/1h burst 1\"");
    site_with(more, &tokens)
}

/// The same without tokens.
fn bare_site() -> Site {
    site_with("", "")
}

fn site_with(more: &str, tokens: &str) -> Site {
    let http = format!("[http]\nlisten = \"127.0.0.1:0\"\nhosts = [\"sandhog.test\"]\n{more}\n");
    let text = format!(
        "{http}{tokens}[tenants.acme]\n[tenants.acme.queues.mails]\ngroup_concurrency = 5\n[tenants.globex]\n"
    );
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("sandhog.toml");
    fs::write(&file, text).expect("ours");
    fs::create_dir(folder.path().join("plugins.d")).expect("ours");
    let plugin = "[plugin]\nname = \"hog\"\ntenant = \"acme\"\ncomponent = \"x.wasm\"\nkinds = [\"hog.run\"]\ncalls = [\"stripe\"]\n";
    fs::write(folder.path().join("plugins.d/hog.toml"), plugin).expect("ours");
    let config = sandhog_config::load_for_broker(&file).expect("it is right");
    let (body, base) = config.http.as_ref().map(|http| (http.body, http.base.clone())).expect("there is one");
    let broker = Arc::new(Memory::new(Arc::new(SystemClock)));
    let service = Service::without_daemon(Arc::new(config), Arc::clone(&broker) as Arc<dyn Broker>);
    let phase = watch::Sender::new(Phase::Serving);
    let state = State::new(service.clone(), phase.subscribe(), body);
    let router = below(&base, guarded(with_dashboard(routes(&state), &base), &state));
    Site { router, broker, service, clock: Clock::system(), phase }
}

struct Answer {
    status: u16,
    headers: hyper::HeaderMap,
    text: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }
}

fn request(method: &str, path: &str, token: Option<&str>, body: Option<&Value>) -> Request<Body> {
    let mut request = Request::builder().method(method).uri(path).header("host", "localhost:7070");
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let body = match body {
        Some(body) => {
            request = request.header("content-type", "application/json");
            Body::from(body.to_string())
        }
        None => Body::empty(),
    };
    request.body(body).expect("it is a request")
}

impl Site {
    async fn answer(&self, request: Request<Body>) -> Answer {
        let answer = TowerToHyperService::new(self.router.clone()).call(request).await.expect("infallible");
        let (head, body) = answer.into_parts();
        let text = body.collect().await.expect("it is whole").to_bytes();
        let text = String::from_utf8(text.to_vec()).expect("it is text");
        Answer { status: head.status.as_u16(), headers: head.headers, text }
    }

    async fn ask(&self, method: &str, path: &str, token: &str, body: Option<Value>) -> Answer {
        self.answer(request(method, path, Some(token), body.as_ref())).await
    }

    async fn job(&self, delay: Duration) -> JobId {
        let job = NewJob::new(self.clock.job_id(), queue(), kind(), b"{\"secret\": 1}".to_vec())
            .starting_after(delay);
        self.broker.enqueue(&acme(), std::slice::from_ref(&job)).await.expect("the model answers");
        job.id
    }

    /// Buries all jobs that are ready.
    async fn all_die(&self) {
        self.all_die_of("no luck").await;
    }

    async fn all_die_of(&self, message: &str) {
        let (acme, queues) = (acme(), [(queue(), 100)]);
        let ask = LeaseAsk::new(&acme, &queues, Duration::from_secs(60));
        for lease in self.broker.lease(ask).await.expect("the model answers").leases {
            let bury = Settlement::Bury { reason: Reason::Failed, message: message.to_owned() };
            self.broker.settle(&acme, &[Settle::new(lease.token, bury)]).await.expect("the model answers");
        }
    }

    async fn dead_job(&self) -> JobId {
        let job = self.job(Duration::ZERO).await;
        self.all_die().await;
        job
    }

    async fn flow(&self) -> JobId {
        let job = NewJob::new(self.clock.job_id(), queue(), kind(), Vec::new());
        let name = FlowJobName::parse("a").expect("valid");
        let flow = Flow::new(vec![FlowJob { name, job, after: Vec::new(), takes_outputs: false }])
            .expect("it is one");
        self.broker.store_flow(&acme(), &flow, &QueueBounds::default()).await.expect("the model answers");
        flow.id()
    }

    async fn schedule(&self, name: &str) {
        let base = Base::Every { period: Duration::from_secs(3600), phase: Duration::ZERO };
        let schedule = Schedule {
            name: ScheduleName::parse(name).expect("valid"),
            source: Source::Command,
            times: Times::new(base, Vec::new(), Zone::utc(), None, None).expect("they are right"),
            job: Template {
                kind: kind(),
                queue: queue(),
                payload: b"null".to_vec(),
                priority: Priority::default(),
            },
            spread: Duration::ZERO,
            times_max: None,
            catch_up: CatchUp::default(),
            overlap: Overlap::default(),
            paused: false,
        };
        schedules::add(&self.service, &Caller::operator(), &acme(), &schedule).await.expect("it is added");
    }
}

fn acme() -> TenantId {
    TenantId::parse("acme").expect("valid")
}

fn queue() -> QueueName {
    QueueName::parse("default").expect("valid")
}

fn kind() -> Kind {
    Kind::parse("hog.run").expect("valid")
}

/// Input: path and query, and a body.
type In = (String, Option<Value>);

/// A route with what is right for it and what is wrong.
struct Case {
    route: Route,
    good: In,
    status: u16,
    /// Wrong input; `None` for a route that takes none.
    bad: Option<In>,
    /// The same for what belongs to `acme`; `None` where `good` says so itself.
    foreign: Option<In>,
}

async fn cases(site: &Site) -> Vec<Case> {
    let case =
        |route: Route, good: In, bad: In| Case { route, good, status: 200, bad: Some(bad), foreign: None };
    let at = |route: Route, query: &str| (format!("{}{query}", route.path), None);
    let list = |route: Route| Case {
        foreign: Some(at(route, "?tenant=acme")),
        ..case(route, at(route, ""), at(route, "?tenantt=acme"))
    };
    let of_part = |route: Route, part: &str, body: Option<Value>, wrong: Option<Value>| {
        let path = route.with(part);
        match wrong {
            Some(wrong) => case(route, (path.clone(), body), (path, Some(wrong))),
            None => case(route, (path.clone(), body.clone()), (format!("{path}?x=1"), body)),
        }
    };
    let body = |route: Route, body: Value, wrong: Value| {
        case(route, (route.path.to_owned(), Some(body)), (route.path.to_owned(), Some(wrong)))
    };
    let fixed = |route: Route, status: u16| Case {
        route,
        good: at(route, ""),
        status,
        bad: None,
        foreign: Some(at(route, "")),
    };
    let hour = Duration::from_secs(3600);
    let (one, later, dead, old) =
        (site.job(hour).await, site.job(hour).await, site.dead_job().await, site.dead_job().await);
    let flow = site.flow().await.to_string();
    site.schedule("hourly").await;
    let id = |job: JobId| job.to_string();
    let now = site.clock.now().as_millis();
    let (from, to) = (now - 7_200_000, now - 1000);
    let mut all = vec![
        fixed(route::LIVE, 200),
        fixed(route::READY, 200),
        Case {
            good: (route::BEGIN_SESSION.path.to_owned(), Some(json!({ "token": "root" }))),
            ..fixed(route::BEGIN_SESSION, 204)
        },
        fixed(route::END_SESSION, 204),
        list(route::ME),
        Case {
            status: 201,
            ..body(
                route::ENQUEUE,
                json!({ "tenant": "acme", "kind": "hog.run", "payload": { "a": 1 }, "labels": { "x": "y" } }),
                json!({ "kind": "not a kind" }),
            )
        },
        Case {
            status: 201,
            ..body(
                route::ENQUEUE_MANY,
                json!({ "jobs": [{ "tenant": "acme", "kind": "hog.run" }, { "tenant": "acme", "kind": "hog.run", "hex": "00ff" }] }),
                json!({ "jobs": [] }),
            )
        },
        list(route::JOBS),
        of_part(route::JOB, &id(one), None, None),
        of_part(route::EDIT, &id(one), Some(json!({ "priority": 9 })), Some(json!({}))),
        of_part(route::RUN_NOW, &id(one), None, None),
        of_part(route::CANCEL, &id(later), None, None),
        of_part(route::REDRIVE, &id(dead), None, None),
        of_part(route::REMOVE, &id(old), None, None),
        body(
            route::BULK,
            json!({ "action": "cancel", "tenant": "acme", "dry_run": true }),
            json!({ "action": "eat", "tenant": "acme" }),
        ),
        Case {
            foreign: Some(at(route::METRICS, "")),
            ..case(route::METRICS, at(route::METRICS, ""), at(route::METRICS, "?x=1"))
        },
        list(route::COUNTS),
        list(route::QUEUES),
        list(route::FAILURES),
        body(
            route::HOLD,
            json!({ "tenant": "acme", "queue": "default", "for": "1h" }),
            json!({ "tenant": "acme", "for": "soon" }),
        ),
        list(route::HOLDS),
        case(
            route::LIFT,
            at(route::LIFT, "?tenant=acme&queue=default"),
            at(route::LIFT, "?tenant=acme&queue=!"),
        ),
        body(
            route::SET_LIMIT,
            json!({ "tenant": "acme", "queue": "mails", "group": "initech", "concurrency": 9, "for": "1h" }),
            json!({ "tenant": "acme", "queue": "mails", "group": "initech", "concurrency": 0 }),
        ),
        list(route::LIMITS),
        body(
            route::SWITCH_LIMIT,
            json!({ "tenant": "acme", "queue": "mails", "group": "initech", "enabled": false }),
            json!({ "tenant": "acme", "queue": "mails", "group": "initech" }),
        ),
        case(
            route::UNSET_LIMIT,
            at(route::UNSET_LIMIT, "?tenant=acme&queue=mails&group=initech"),
            at(route::UNSET_LIMIT, "?tenant=acme&queue=mails"),
        ),
        list(route::BREAKERS),
        body(
            route::FORCE_BREAKER,
            json!({ "tenant": "acme", "name": "stripe", "open": true, "for": "1h", "note": "down" }),
            json!({ "tenant": "acme", "name": "stripe", "open": "yes" }),
        ),
        body(
            route::RESET_BREAKER,
            json!({ "tenant": "acme", "name": "stripe" }),
            json!({ "tenant": "acme", "name": "!" }),
        ),
        list(route::GROUPS),
        body(
            route::RELEASE,
            json!({ "tenant": "acme", "queue": "default", "group": "g" }),
            json!({ "tenant": "acme", "queue": "!", "group": "g" }),
        ),
        list(route::SCHEDULES),
        body(
            route::ADD_SCHEDULE,
            json!({ "tenant": "acme", "name": "nightly", "kind": "hog.run", "cron": ["0 2 * * *"], "timezone": "Europe/Berlin" }),
            json!({ "tenant": "acme", "name": "nightly", "kind": "hog.run" }),
        ),
        of_part(route::SCHEDULE, "hourly", None, None),
        of_part(route::SCHEDULE_NEXT, "hourly", None, None),
        of_part(
            route::PAUSE_SCHEDULE,
            "hourly",
            Some(json!({ "note": "why" })),
            Some(json!({ "not": "why" })),
        ),
        of_part(route::RESUME_SCHEDULE, "hourly", None, None),
        of_part(route::RUN_SCHEDULE, "hourly", None, None),
        of_part(
            route::BACKFILL,
            "hourly",
            Some(json!({ "from": from, "to": to })),
            Some(json!({ "from": "then" })),
        ),
        of_part(route::REMOVE_SCHEDULE, "hourly", None, None),
        Case {
            status: 201,
            ..body(
                route::STORE_FLOW,
                json!({ "tenant": "acme", "jobs": [{ "name": "a", "kind": "hog.run" }, { "name": "b", "kind": "hog.run", "after": ["a"] }] }),
                json!({ "tenant": "acme", "jobs": [{ "name": "a", "kind": "hog.run", "after": ["b"] }] }),
            )
        },
        of_part(route::FLOW, &flow, None, None),
        of_part(route::CANCEL_FLOW, &flow, None, None),
        of_part(route::REDRIVE_FLOW, &flow, None, None),
        case(route::EVENTS, at(route::EVENTS, "?tenant=acme"), at(route::EVENTS, "?tenant=acme&since=then")),
        Case {
            foreign: Some(at(route::TENANTS, "")),
            ..case(route::TENANTS, at(route::TENANTS, ""), at(route::TENANTS, "?x=1"))
        },
        Case {
            foreign: Some(at(route::USAGE, "?tenant=acme")),
            ..case(route::USAGE, at(route::USAGE, ""), at(route::USAGE, "?by=hour"))
        },
    ];
    // No daemon runs in this process, so these say so; what they do is seen in whole daemons.
    all.push(case(route::DAEMONS, at(route::DAEMONS, ""), at(route::DAEMONS, "?x=1")));
    all.extend([route::RELOAD, route::PLUGINS, route::DEPLOY_EVENTS].map(|route| fixed(route, 503)));
    all.push(Case {
        status: 503,
        ..body(route::ROLLBACK, json!({ "plugin": "acme/hog" }), json!({ "plugn": "x" }))
    });
    all
}

#[tokio::test]
async fn every_route_is_open_to_those_who_may_and_to_no_others() {
    let site = site("");
    let cases = cases(&site).await;
    let seen: BTreeSet<_> = cases.iter().map(|case| (case.route.method, case.route.path)).collect();
    let all: BTreeSet<_> = route::ALL.iter().map(|route| (route.method, route.path)).collect();
    assert_eq!(seen, all, "each route has its case");
    for Case { route, good, status, bad, foreign } in cases {
        let ask = async |token: Option<&str>, (path, body): &In| {
            site.answer(request(route.method, path, token, body.as_ref())).await
        };
        let name = format!("{} {}", route.method, good.0);
        let Some(role) = route.role else {
            assert_eq!(ask(None, &good).await.status, status, "{name}: open to all");
            continue;
        };
        let refused = ask(None, &good).await;
        assert_eq!((refused.status, &refused.json()["slug"]), (401, &json!("unauthenticated")), "{name}");
        assert_eq!(refused.headers["www-authenticate"], "Bearer");
        assert_eq!(ask(Some("nobody's"), &good).await.status, 401, "{name}");
        if let Some(below) = Role::ALL.into_iter().rev().find(|has| *has < role) {
            let refused = ask(Some(&format!("acme-{below}")), &good).await;
            assert_eq!(
                (refused.status, &refused.json()["slug"]),
                (403, &json!("forbidden")),
                "{name}: {below}"
            );
        }
        let theirs = ask(Some("globex-admin"), foreign.as_ref().unwrap_or(&good)).await;
        match route {
            route::RELOAD => assert_eq!(theirs.status, 403, "{name}"),
            // Whose they are is told by a daemon.
            route::PLUGINS | route::DEPLOY_EVENTS | route::ROLLBACK => {
                assert_eq!(theirs.status, 503, "{name}")
            }
            route::ME => assert_eq!(theirs.status, 400, "{name}: it says nothing of others"),
            route::TENANTS | route::DAEMONS | route::METRICS => {
                assert!(!theirs.text.contains("acme"), "{name}: {}", theirs.text)
            }
            _ => {
                assert_eq!(theirs.status, 404, "{name}: {}", theirs.text);
                assert!(!theirs.text.contains("hog.run"), "{name}: {}", theirs.text);
            }
        }
        // The least role that may is enough, but where all tenants are concerned.
        let token = if route == route::RELOAD { "root".to_owned() } else { format!("acme-{role}") };
        match bad {
            Some(bad) => {
                let refused = ask(Some(&token), &bad).await;
                assert_eq!(refused.status, 400, "{name}: {}", refused.text);
                assert_eq!(refused.headers["content-type"], "application/problem+json");
            }
            None => {
                let wrong = request("PUT", &good.0, Some(&token), None);
                assert_eq!(site.answer(wrong).await.status, 405, "{name}");
            }
        }
        let answer = ask(Some(&token), &good).await;
        assert_eq!(answer.status, status, "{name}: {}", answer.text);
        assert!(answer.headers.contains_key("x-request-id") && answer.headers["cache-control"] == "no-store");
        if route != route::METRICS {
            answer.json();
        }
    }
}

#[tokio::test]
async fn daemons_are_listed_by_what_they_serve_and_named_to_those_who_see_all() {
    let site = site("");
    let report = DaemonReport {
        name: "rack-7".to_owned(),
        version: "1.2.3".to_owned(),
        age: Duration::from_secs(60),
        fetched: Some(Duration::from_secs(2)),
        slots: 8,
        slots_used: 3,
        is_draining: false,
        plugins: 1,
        served: Served::of([(acme(), queue())]),
    };
    site.broker.report_daemon(site.clock.daemon_id(), Some(&report)).await.expect("the model answers");
    let all = site.ask("GET", "/v1/daemons", "root", None).await.json();
    let daemon = &all["daemons"][0];
    assert_eq!((&daemon["name"], &daemon["version"]), (&json!("rack-7"), &json!("1.2.3")));
    assert_eq!(
        (&daemon["slots"], &daemon["slots_used"], &daemon["plugins"]),
        (&json!(8), &json!(3), &json!(1))
    );
    assert_eq!((&daemon["tenants"], &daemon["draining"]), (&json!(["acme"]), &json!(false)));
    assert_eq!(daemon["queues"][0]["tenant"], "acme");
    let own = site.ask("GET", "/v1/daemons", "acme-observe", None).await.json();
    assert_eq!((&own["daemons"][0]["id"], &own["daemons"][0]["name"]), (&daemon["id"], &json!(null)));
    let other = site.ask("GET", "/v1/daemons", "globex-admin", None).await.json();
    assert_eq!(other["daemons"], json!([]));
}

#[tokio::test]
async fn what_a_request_has_to_pass_first_refuses_by_itself() {
    let site = site("");
    let hosted = |host: &str| {
        let request = Request::builder().uri("/v1/tenants").header("authorization", "Bearer root");
        request.header("host", host).body(Body::empty()).expect("it is a request")
    };
    for (host, status) in [
        ("sandhog.test", 200),
        ("SANDHOG.test:443", 200),
        ("127.0.0.1:7070", 200),
        ("[::1]:7070", 200),
        ("10.1.2.3", 200),
        ("evil.example", 421),
        ("localhost.evil.example", 421),
        ("a b", 400),
    ] {
        assert_eq!(site.answer(hosted(host)).await.status, status, "{host}");
    }
    assert_eq!(site.ask("GET", "/v1/tenants", "late", None).await.status, 401);
    assert_eq!(site.ask("GET", "/v1/tenants", "hasty", None).await.status, 200);
    let limited = site.ask("GET", "/v1/tenants", "hasty", None).await;
    assert_eq!((limited.status, &limited.json()["slug"]), (429, &json!("rate-limited")));
    assert!(
        limited.headers["retry-after"]
            .to_str()
            .is_ok_and(|wait| wait.parse::<u64>().is_ok_and(|wait| wait > 3000))
    );
    assert_eq!(site.ask("GET", "/v2", "root", None).await.status, 404);
    let mut named = request("GET", "/v1/tenants", Some("root"), None);
    named.headers_mut().insert("x-request-id", "mine-1".parse().expect("a value"));
    assert_eq!(site.answer(named).await.headers["x-request-id"], "mine-1");
    let large = json!({ "plugin": "x".repeat(70_000) });
    assert_eq!(site.ask("POST", "/v1/rollback", "root", Some(large)).await.status, 413);
    let plain = Request::builder().method("POST").uri("/v1/jobs").header("host", "localhost");
    let plain = plain
        .header("authorization", "Bearer root")
        .header("content-type", "text/plain")
        .body(Body::from("{}"));
    assert_eq!(
        site.answer(plain.expect("it is a request")).await.status,
        400,
        "a page can send that unasked"
    );
    site.phase.send_replace(Phase::Draining);
    let ready = site.answer(request("GET", "/readyz", None, None)).await;
    assert_eq!((ready.status, &ready.json()["ready"]), (503, &json!(false)));
    assert_eq!(site.answer(request("GET", "/livez", None, None)).await.status, 200);
}

#[tokio::test]
async fn a_request_that_is_repeated_stores_nothing_twice() {
    let site = site("");
    let once = async |key: &str, kind: &str| {
        let body = json!({ "jobs": [{ "kind": kind }, { "kind": kind }] });
        let mut request = request("POST", "/v1/jobs/batch", Some("acme-produce"), Some(&body));
        request.headers_mut().insert("idempotency-key", key.parse().expect("a value"));
        site.answer(request).await.json()["ids"].clone()
    };
    let first = once("order 7", "hog.run").await;
    assert_eq!(once("order 7", "hog.run").await, first);
    assert_ne!(once("order 8", "hog.run").await, first);
    let counts = site.ask("GET", "/v1/counts", "acme-observe", None).await.json();
    assert_eq!(counts["tenants"][0]["counts"]["ready"], json!(4));
}

#[tokio::test]
async fn metrics_tell_of_the_store_by_queues_that_the_configuration_has() {
    let site = site("");
    for (name, count) in [("default", 2), ("of-nobody", 1), ("of-nobody-else", 1)] {
        for _ in 0..count {
            let queue = QueueName::parse(name).expect("valid");
            let job = NewJob::new(site.clock.job_id(), queue, kind(), Vec::new());
            site.broker.enqueue(&acme(), &[job]).await.expect("the model answers");
        }
    }
    site.schedule("hourly").await;
    let open = json!({ "name": "stripe", "open": true });
    assert_eq!(site.ask("POST", "/v1/breakers/force", "acme-operate", Some(open)).await.status, 200);
    let answer = site.ask("GET", "/metrics", "acme-observe", None).await;
    assert_eq!(answer.headers["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    let all = parse(&answer.text);
    for (sample, value) in [
        ("sandhog_broker_up{tenant=\"acme\"}", 1.0),
        ("sandhog_jobs{tenant=\"acme\",state=\"ready\"}", 4.0),
        ("sandhog_queue_jobs{tenant=\"acme\",queue=\"default\",state=\"ready\"}", 2.0),
        ("sandhog_queue_jobs{tenant=\"acme\",queue=\"other\",state=\"ready\"}", 2.0),
        ("sandhog_breaker_state{tenant=\"acme\",breaker=\"stripe\",state=\"open\"}", 1.0),
        ("sandhog_breaker_state{tenant=\"acme\",breaker=\"stripe\",state=\"closed\"}", 0.0),
        ("sandhog_schedule_fired_total{tenant=\"acme\",schedule=\"hourly\"}", 0.0),
    ] {
        assert_eq!(all.value(sample), Some(value), "{sample}: {}", answer.text);
    }
    assert!(all.value("sandhog_waiting_jobs_limit{tenant=\"acme\"}").is_some_and(|limit| limit > 0.0));
    let next = all.of("sandhog_schedule_next_timestamp_seconds").next();
    assert!(next.is_some_and(|(_, at)| at * 1000.0 > site.clock.now().as_millis() as f64));
    assert!(!answer.text.contains("globex") && !answer.text.contains("of-nobody"), "{}", answer.text);
    assert!(all.value("sandhog_slots").is_none(), "the process as a whole is for those who see all");
    let root = parse(&site.ask("GET", "/metrics", "root", None).await.text);
    assert_eq!(root.value("sandhog_broker_up{tenant=\"globex\"}"), Some(1.0));
    assert_eq!(root.value("sandhog_slots"), Some(0.0));
}

#[tokio::test]
async fn queues_are_listed_page_by_page() {
    let site = site("");
    for name in ["a", "b", "c"] {
        let queue = QueueName::parse(name).expect("valid");
        let job = NewJob::new(site.clock.job_id(), queue, kind(), Vec::new());
        site.broker.enqueue(&acme(), &[job]).await.expect("the model answers");
    }
    let hold = json!({ "queue": "c", "for": "1h" });
    assert_eq!(site.ask("POST", "/v1/holds", "acme-operate", Some(hold)).await.status, 200);
    let page = async |query: &str| {
        site.ask("GET", &format!("/v1/queues?limit=2{query}"), "acme-observe", None).await.json()
    };
    let first = page("").await;
    assert_eq!(first["queues"].as_array().map(Vec::len), Some(2));
    assert_eq!(first["queues"][0]["jobs"], json!({ "scheduled": 0, "ready": 1, "blocked": 0, "leased": 0 }));
    assert!(first["queues"][0]["oldest_ready"].is_string());
    let last = page(&format!("&after={}", first["next"].as_str().expect("there is more"))).await;
    let queue = &last["queues"][0];
    assert_eq!((&queue["queue"], &queue["held"], &last["next"]), (&json!("c"), &json!(true), &Value::Null));
    let all = site.ask("GET", "/v1/queues?after=acme/c", "root", None).await.json();
    assert_eq!(all["queues"], json!([]), "other tenants come behind");
    assert_eq!(site.ask("GET", "/v1/queues?limit=1001", "root", None).await.status, 400);
}

#[tokio::test]
async fn payloads_are_for_those_who_operate() {
    let site = site("");
    let job = site.job(Duration::ZERO).await;
    for (role, sees) in [("observe", false), ("produce", false), ("operate", true)] {
        let token = format!("acme-{role}");
        let one = site.ask("GET", &format!("/v1/jobs/{job}"), &token, None).await;
        let list = site.ask("GET", "/v1/jobs?payloads=true", &token, None).await;
        for answer in [&one, &list] {
            assert_eq!(answer.text.contains("secret"), sees, "{role}: {}", answer.text);
            assert_eq!(answer.status, 200);
        }
        assert_eq!(one.json().get("payload").is_some(), sees);
    }
}

#[tokio::test]
async fn a_unique_key_that_is_held_is_told_and_may_refuse() {
    let site = site("");
    let ask = async |on_clash: &str| {
        let body = json!({ "kind": "hog.run", "unique_key": "7", "on_clash": on_clash });
        site.ask("POST", "/v1/jobs", "acme-produce", Some(body)).await
    };
    assert_eq!(ask("existing").await.status, 201);
    let duplicate = ask("existing").await;
    assert_eq!((duplicate.status, &duplicate.json()["duplicates"]), (200, &json!(1)));
    let rejected = ask("reject").await;
    assert_eq!((rejected.status, &rejected.json()["slug"]), (409, &json!("conflict")));
    let large = json!({ "kind": "hog.run", "text": "x".repeat(20_000) });
    let large = site.ask("POST", "/v1/jobs", "acme-produce", Some(large)).await;
    assert_eq!((large.status, &large.json()["slug"]), (413, &json!("request-too-large")));
}

#[tokio::test]
async fn who_waits_for_a_job_hears_of_its_end() {
    let site = site("");
    let job = site.job(Duration::ZERO).await;
    let path = format!("/v1/jobs/{job}?wait=60s");
    let waits = site.ask("GET", &path, "acme-observe", None);
    let (answer, ()) = tokio::join!(waits, site.all_die());
    assert_eq!(answer.json()["state"], json!("dead"));
    let at_once = site.ask("GET", &path, "acme-observe", None).await;
    assert_eq!(at_once.json()["reason"], json!("failed"));
}

#[tokio::test]
async fn many_jobs_are_acted_on_as_far_as_they_are_like_that() {
    let site = site("");
    for _ in 0..3 {
        site.job(Duration::ZERO).await;
    }
    site.all_die().await;
    site.job(Duration::ZERO).await;
    let bulk = async |more: Value| {
        let mut body = json!({ "action": "redrive", "reason": "failed" });
        body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        site.ask("POST", "/v1/jobs/bulk", "acme-operate", Some(body)).await.json()
    };
    for (more, done) in [(json!({ "dry_run": true }), 3), (json!({ "kind": "other" }), 0), (json!({}), 3)] {
        let answer = bulk(more).await;
        assert_eq!((&answer["done"], &answer["complete"]), (&json!(done), &json!(true)), "{answer}");
        let named = answer["jobs"].as_array().expect("a list").len();
        assert_eq!(json!(named), answer["done"], "{answer}");
    }
    // In several requests, each job is met once, whatever becomes of it meanwhile.
    site.all_die().await;
    let (mut seen, mut after) = (BTreeSet::new(), Value::Null);
    loop {
        let answer = bulk(json!({ "limit": 2, "after": after })).await;
        for job in answer["jobs"].as_array().expect("a list") {
            assert!(seen.insert(job["id"].as_str().expect("an id").to_owned()), "{answer}");
        }
        site.all_die().await;
        after = answer["next"].clone();
        assert_eq!(answer["complete"], json!(after.is_null()), "{answer}");
        if after.is_null() {
            break;
        }
    }
    assert_eq!(seen.len(), 4);
    assert_eq!(bulk(json!({ "after": "nowhere" })).await["slug"], "malformed-request");
}

/// Reads a stream of events up to one whose text contains `wanted`, and returns what was read.
async fn read_until(body: &mut Body, wanted: &str) -> String {
    let mut read = String::new();
    while !read.contains(wanted) {
        let frame = body.frame().await.expect("it goes on").expect("it is whole");
        read += std::str::from_utf8(&frame.into_data().unwrap_or_default()).expect("it is text");
    }
    read
}

#[tokio::test]
async fn events_come_as_they_happen_and_go_on_where_they_ended() {
    let site = site("");
    let stream = async |last: Option<&str>| {
        let mut request = request("GET", "/v1/events", Some("acme-observe"), None);
        request.headers_mut().insert("accept", "text/event-stream".parse().expect("a value"));
        if let Some(last) = last {
            request.headers_mut().insert("last-event-id", last.parse().expect("a value"));
        }
        let answer = TowerToHyperService::new(site.router.clone()).call(request).await.expect("infallible");
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        answer.into_body()
    };
    let mut first = stream(None).await;
    read_until(&mut first, ": from acme@").await;
    let job = site.job(Duration::ZERO).await;
    let read = read_until(&mut first, &job.to_string()).await;
    assert!(read.contains("event: ") && read.contains("\"tenant\":\"acme\""), "{read}");
    let id = read.lines().find_map(|line| line.strip_prefix("id: ")).expect("it has an id").to_owned();
    drop(first);
    let missed = site.job(Duration::ZERO).await;
    let mut second = stream(Some(&id)).await;
    let read = read_until(&mut second, &missed.to_string()).await;
    assert!(!read.contains(&job.to_string()), "it was read before: {read}");
    site.phase.send_replace(Phase::Stopping);
    while let Some(frame) = second.frame().await {
        frame.expect("it ends in good order");
    }
}

#[tokio::test]
async fn the_dashboard_is_served_to_everybody_and_at_each_of_its_views() {
    let site = site("");
    for path in ["/", "/jobs", "/jobs/acme/01", "/queues/acme/mail"] {
        let answer = site.answer(request("GET", path, None, None)).await;
        assert_eq!(answer.status, 200, "{path}");
        let header =
            |name: &str| answer.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        assert_eq!(header("content-type"), "text/html; charset=utf-8");
        assert_eq!(header("cache-control"), "no-store");
        let policy = header("content-security-policy");
        assert!(policy.starts_with("default-src 'none';") && !policy.contains("unsafe"), "{policy}");
        assert!(!answer.text.contains("@BASE@"), "{path}");
    }
    assert_eq!(site.answer(request("GET", "/jobsy", None, None)).await.status, 401);
    assert_eq!(site.answer(request("POST", "/jobs", None, None)).await.status, 405);
    assert_eq!(site.answer(request("GET", "/assets/none.js", None, None)).await.status, 404);
}

#[tokio::test]
async fn each_asset_of_the_page_is_there_and_may_be_kept() {
    let site = site("base = \"/tools/sandhog\"");
    let page = site.answer(request("GET", "/tools/sandhog/jobs", None, None)).await;
    assert_eq!(page.status, 200);
    let assets: Vec<&str> =
        page.text.split('"').filter(|text| text.starts_with("/tools/sandhog/assets/")).collect();
    if page.text.contains("data-base") {
        assert!(page.text.contains("data-base=\"/tools/sandhog\"") && assets.len() >= 3, "{}", page.text);
    }
    for path in assets {
        let asset = site.answer(request("GET", path, None, None)).await;
        assert_eq!(asset.status, 200, "{path}");
        let kept = asset.headers.get("cache-control").and_then(|value| value.to_str().ok());
        assert_eq!(kept, Some("public, max-age=31536000, immutable"), "{path}");
    }
}

#[tokio::test]
async fn the_api_is_below_the_base_path_and_beside_it() {
    let site = site("base = \"/sandhog\"");
    for path in ["/v1/counts", "/sandhog/v1/counts"] {
        assert_eq!(site.ask("GET", path, "root", None).await.status, 200, "{path}");
        assert_eq!(site.answer(request("GET", path, None, None)).await.status, 401, "{path}");
    }
    assert_eq!(site.ask("GET", "/sandhogg/v1/counts", "root", None).await.status, 404);
}

/// Makes a request of a page of this origin.
fn paged(mut request: Request<Body>, headers: &[(&'static str, &str)]) -> Request<Body> {
    for (name, value) in headers {
        request.headers_mut().insert(*name, value.parse().expect("a value"));
    }
    request
}

#[tokio::test]
async fn who_asks_is_told_who_that_is() {
    let site = site("name = \"production\"");
    let me = site.ask("GET", "/v1/me", "acme-operate", None).await.json();
    assert_eq!((&me["name"], &me["role"]), (&json!("acme-operate"), &json!("operate")));
    assert_eq!((&me["tenants"], &me["server"]["name"]), (&json!(["acme"]), &json!("production")));
    assert_eq!(site.ask("GET", "/v1/me", "root", None).await.json()["tenants"], json!(null));
}

#[tokio::test]
async fn a_session_looks_as_its_token_does_and_changes_things_from_its_own_page_alone() {
    let site = site("");
    let ask = |token: &str| request("POST", "/v1/session", None, Some(&json!({ "token": token })));
    for wrong in ["nobody's", "late", ""] {
        let refused = site.answer(ask(wrong)).await;
        assert_eq!((refused.status, refused.headers.contains_key("set-cookie")), (401, false), "{wrong}");
    }
    assert_eq!(site.answer(request("POST", "/v1/session", None, Some(&json!({ "x": 1 })))).await.status, 400);
    let elsewhere = paged(ask("acme-operate"), &[("origin", "https://evil.example")]);
    assert_eq!(site.answer(elsewhere).await.status, 403, "nobody is put into another's session");
    let begun = site.answer(ask("acme-operate")).await;
    assert_eq!((begun.status, begun.text.as_str()), (204, ""));
    let set = begun.headers["set-cookie"].to_str().expect("text").to_owned();
    assert!(
        set.ends_with("; Max-Age=43200; HttpOnly; SameSite=Strict") && !set.contains("acme-operate"),
        "{set}"
    );
    let secure = site.answer(paged(ask("root"), &[("origin", "https://sandhog.test")])).await;
    assert!(secure.headers["set-cookie"].to_str().is_ok_and(|set| set.ends_with("; Secure")));
    let cookie = set.split(';').next().expect("it has a value");

    let job = site.job(Duration::from_secs(3600)).await;
    let with = |method: &str, path: &str, more: &[(&'static str, &str)]| {
        let headers = [&[("cookie", cookie)], more].concat();
        site.answer(paged(request(method, path, None, None), &headers))
    };
    assert_eq!(with("GET", "/v1/me", &[]).await.json()["role"], json!("operate"));
    let cancel = format!("/v1/jobs/{job}/cancel");
    let (ours, theirs) = (("origin", "http://localhost:7070"), ("origin", "http://localhost:3000"));
    let header = ("sandhog-csrf", "1");
    for (shown, status) in [
        (&[][..], 403),
        (&[ours], 403),
        (&[header], 403),
        (&[header, theirs], 403),
        (&[header, ("origin", "null")], 403),
        (&[("sandhog-csrf", "0"), ours], 403),
        (&[header, ours], 200),
    ] {
        assert_eq!(with("POST", &cancel, shown).await.status, status, "{shown:?}");
    }
    let ended = with("DELETE", "/v1/session", &[ours]).await;
    assert!(
        ended.headers["set-cookie"].to_str().is_ok_and(|set| set.starts_with("sandhog-session=; Max-Age=0"))
    );
}

#[tokio::test]
async fn without_tokens_no_session_is_needed_and_other_pages_change_nothing() {
    let site = bare_site();
    let session = request("POST", "/v1/session", None, Some(&json!({ "token": "x" })));
    let session = site.answer(session).await;
    assert_eq!((session.status, session.headers.contains_key("set-cookie")), (204, false));
    let me = site.answer(request("GET", "/v1/me", None, None)).await.json();
    assert_eq!((&me["name"], &me["role"], &me["tenants"]), (&json!(null), &json!("admin"), &json!(null)));
    let job = site.job(Duration::from_secs(3600)).await;
    let cancel = || request("POST", &format!("/v1/jobs/{job}/cancel"), None, None);
    for (origin, status) in [("https://evil.example", 403), ("null", 403), ("http://localhost:7070", 200)] {
        assert_eq!(site.answer(paged(cancel(), &[("origin", origin)])).await.status, status, "{origin}");
    }
}

#[tokio::test]
async fn failures_are_grouped_by_what_they_have_in_common() {
    let site = site("");
    for message in ["order 1: no 'a.png'", "order 22: no 'b.png'", "order 333: no 'c.png'", "no luck"] {
        site.job(Duration::ZERO).await;
        site.all_die_of(message).await;
    }
    let ask = async |query: &str| {
        site.ask("GET", &format!("/v1/failures{query}"), "acme-observe", None).await.json()
    };
    let all = ask("").await;
    let groups = all["groups"].as_array().expect("a list");
    assert_eq!((&all["looked_at"], &all["complete"], groups.len()), (&json!(4), &json!(true), 2));
    let most = &groups[0];
    assert_eq!((&most["jobs"], &most["pattern"]), (&json!(3), &json!("order #: no '…'")));
    // Of those that died in one millisecond, any may be the latest.
    let message = most["message"].as_str().unwrap_or_default();
    assert!(message.starts_with("order ") && most["reason"] == json!("failed"), "{most}");
    assert_eq!(
        (&most["tenant"], &most["kind"], &most["queue"]),
        (&json!("acme"), &json!("hog.run"), &json!("default"))
    );
    assert!(most["first"].as_str() <= most["last"].as_str() && most["example"].is_string());
    let one = ask("?limit=1").await;
    assert_eq!((one["groups"].as_array().map(Vec::len), &one["left_out"]), (Some(1), &json!(1)));
    for none in
        ["?kind=other", "?reason=out-of-fuel", "?since=2100-01-01T00:00:00Z", "?until=2000-01-01T00:00:00Z"]
    {
        assert_eq!(ask(none).await["groups"], json!([]), "{none}");
    }
    for wrong in ["?limit=0", "?limit=1001", "?since=then", "?reason=bad-luck"] {
        let refused = site.ask("GET", &format!("/v1/failures{wrong}"), "acme-observe", None).await;
        assert_eq!(refused.status, 400, "{wrong}");
    }
}

#[tokio::test]
async fn a_flow_is_stored_whole_and_once() {
    let site = site("");
    let ask = async |key: &str, second: Value| {
        let jobs = json!({ "jobs": [{ "name": "a", "kind": "hog.run", "payload": { "n": 1 } }, second] });
        let mut request = request("POST", "/v1/flows", Some("acme-produce"), Some(&jobs));
        request.headers_mut().insert("idempotency-key", key.parse().expect("a value"));
        site.answer(request).await
    };
    let after = |edge: Value| json!({ "name": "b", "kind": "hog.run", "after": [edge], "outputs": true });
    let first = ask("k", after(json!("a"))).await;
    assert_eq!((first.status, &first.json()["jobs"][1]["name"]), (201, &json!("b")), "{}", first.text);
    assert_eq!(ask("k", after(json!("a"))).await.json(), first.json(), "it is the same flow");
    let other = ask("l", after(json!({ "job": "a", "on_failure": "ignore" }))).await;
    assert_ne!(other.json()["flow"], first.json()["flow"]);
    let shown = format!("/v1/flows/{}", first.json()["flow"].as_str().expect("an id"));
    let shown = site.ask("GET", &shown, "acme-observe", None).await.json();
    assert_eq!(
        (&shown["jobs"][0]["state"], &shown["jobs"][1]["state"]),
        (&json!("ready"), &json!("blocked"))
    );
    for wrong in [
        after(json!("c")),
        after(json!({ "job": "a", "on_failure": "cry" })),
        json!({ "name": "a", "kind": "hog.run" }),
        json!({ "name": "b", "kind": "hog.run", "delay": "soon" }),
        json!({ "name": "b", "kind": "hog.run", "afterr": [] }),
    ] {
        let refused = ask("m", wrong.clone()).await;
        assert_eq!(refused.status, 400, "{wrong}: {}", refused.text);
    }
    let large = json!({ "name": "b", "kind": "hog.run", "payload": "x".repeat(20_000) });
    assert_eq!(ask("n", large).await.status, 413);
    let counts = site.ask("GET", "/v1/counts", "acme-observe", None).await.json();
    assert_eq!(counts["tenants"][0]["counts"]["ready"], json!(2), "nothing of a wrong one is stored");
}

#[tokio::test]
async fn a_schedule_is_added_as_the_command_line_adds_it() {
    let site = site("");
    let ask = async |more: Value| {
        let mut body = json!({ "name": "poll", "kind": "hog.run", "every": "90s", "payload": { "feed": 7 } });
        body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        site.ask("POST", "/v1/schedules", "acme-edit", Some(body)).await
    };
    let added = ask(json!({ "overlap": "allow", "spread": "10s", "catch_up_most": 3 })).await;
    assert_eq!((added.status, &added.json()["done"]), (200, &json!("added")), "{}", added.text);
    let shown = site.ask("GET", "/v1/schedules/poll", "acme-observe", None).await.json();
    assert_eq!((&shown["every_ms"], &shown["overlap"]), (&json!(90_000), &json!("allow")));
    for wrong in [
        json!({ "name": "not a name" }),
        json!({ "cron": ["0 2 * * *"] }),
        json!({ "every": null, "cron": ["61 * * * *"] }),
        json!({ "timezone": "Mars/Base" }),
        json!({ "overlap": "sometimes" }),
        json!({ "spread": "2d" }),
        json!({ "end": "2000-01-01T00:00:00Z" }),
        json!({ "start": "then" }),
        json!({ "text": "as well" }),
    ] {
        let refused = ask(wrong.clone()).await;
        assert_eq!(refused.status, 400, "{wrong}: {}", refused.text);
    }
}
