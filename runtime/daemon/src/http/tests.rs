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
use sandhog_broker::{Broker, LeaseAsk, Settle, SystemClock};
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

use super::guard::guarded;
use super::router::{State, routes};
use super::server::Phase;
use crate::clock::Clock;
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
    let mut text = format!("[http]\nlisten = \"127.0.0.1:0\"\nhosts = [\"sandhog.test\"]\n{more}\n");
    for tenant in ["acme", "globex"] {
        for role in Role::ALL {
            text += &token_toml(&format!("{tenant}-{role}"), role, &format!("tenants = [\"{tenant}\"]"));
        }
    }
    text += &token_toml("root", Role::Admin, "");
    text += &token_toml("late", Role::Admin, "expires = 2020-01-01T00:00:00Z");
    text += &token_toml("hasty", Role::Admin, "rate = \"1/1h burst 1\"");
    text += "[tenants.acme]\n[tenants.acme.queues.mails]\ngroup_concurrency = 5\n[tenants.globex]\n";
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("sandhog.toml");
    fs::write(&file, text).expect("ours");
    fs::create_dir(folder.path().join("plugins.d")).expect("ours");
    let plugin = "[plugin]\nname = \"hog\"\ntenant = \"acme\"\ncomponent = \"x.wasm\"\nkinds = [\"hog.run\"]\ncalls = [\"stripe\"]\n";
    fs::write(folder.path().join("plugins.d/hog.toml"), plugin).expect("ours");
    let config = sandhog_config::load_for_broker(&file).expect("it is right");
    let body = config.http.as_ref().expect("there is one").body;
    let broker = Arc::new(Memory::new(Arc::new(SystemClock)));
    let service = Service::without_daemon(Arc::new(config), Arc::clone(&broker) as Arc<dyn Broker>);
    let phase = watch::Sender::new(Phase::Serving);
    let state = State::new(service.clone(), phase.subscribe(), body);
    Site { router: guarded(routes(&state), &state), broker, service, clock: Clock::system(), phase }
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
        let (acme, queues) = (acme(), [(queue(), 100)]);
        let ask = LeaseAsk::new(&acme, &queues, Duration::from_secs(60));
        for lease in self.broker.lease(ask).await.expect("the model answers").leases {
            let bury = Settlement::Bury { reason: Reason::Failed, message: "no luck".to_owned() };
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
        list(route::COUNTS),
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
            route::TENANTS => assert!(!theirs.text.contains("acme"), "{name}: {}", theirs.text),
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
        answer.json();
    }
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
    }
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
