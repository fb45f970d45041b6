//! What a plugin may reach: what its TOML grants, and nothing else, with a line in the job's log that says what to add.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::process::Command;

use sandhog_broker::Broker;
use sandhog_core::job::{JobRecord, NewJob, State};
use sandhog_core::reason::Reason;
use sandhog_tests::{Backend, Reply, Site, Web, finished, hog_job, tenant};

/// Runs a job, and returns its record and its log.
async fn run(broker: &dyn Broker, job: NewJob) -> (JobRecord, Vec<String>) {
    run_for("acme", broker, job).await
}

async fn run_for(name: &str, broker: &dyn Broker, job: NewJob) -> (JobRecord, Vec<String>) {
    let tenant = tenant(name);
    broker.enqueue(&tenant, std::slice::from_ref(&job)).await.expect("the broker is up");
    let record = finished(broker, &tenant, job.id).await;
    let log = broker.log(&tenant, job.id).await.expect("the broker is up");
    (record, log.into_iter().map(|line| line.message).collect())
}

/// Fetches, and returns how that ended and the log.
async fn fetch(broker: &dyn Broker, url: &str) -> (Result<String, String>, String) {
    fetch_for("acme", broker, url).await
}

async fn fetch_for(tenant: &str, broker: &dyn Broker, url: &str) -> (Result<String, String>, String) {
    let job = hog_job("hog.fetch", &format!(r#"{{"url": "{url}"}}"#));
    let (record, log) = run_for(tenant, broker, job).await;
    let ended = match record.output {
        Some(output) => Ok(String::from_utf8(output).expect("JSON")),
        None => Err(record.message.expect("it says why")),
    };
    (ended, log.join("\n"))
}

fn replies(path: &str) -> Reply {
    match path {
        "/hello" => Reply::Body(b"hello".to_vec()),
        "/large" => Reply::Bytes(4 << 20),
        "/silent" => Reply::Silence,
        "/stalled" => Reply::Stall,
        "/headers" => Reply::Headers(1000),
        other => match other.strip_prefix("/to/") {
            Some(to) => Reply::Redirect(to.replace("%2F", "/")),
            None => Reply::Body(Vec::new()),
        },
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_go_only_where_they_are_granted() {
    let web = Web::start(replies).await;
    let port = web.port();
    let grants = format!(
        "[grants]\nhttp = [{{ to = \"127.0.0.1:{port}\", private = \"allow\" }}, \"localhost:{port}\"]\n[retry]\nmax_attempts = 1"
    );
    let site = Site::new(Backend::Embedded, "").with_hog("acme", &grants);
    let broker = site.broker().await;
    let _daemon = site.daemon();

    let (hello, log) = fetch(&*broker, &format!("http://127.0.0.1:{port}/hello")).await;
    assert_eq!((hello, log), (Ok(r#"{"status":200,"body":"hello"}"#.to_owned()), String::new()));

    // Another port of the same host, another name, and a redirect to one.
    for url in [
        "http://127.0.0.1:1/".to_owned(),
        format!("http://elsewhere.example:{port}/"),
        format!("http://127.0.0.1:{port}/to/http:%2F%2Felsewhere.example:{port}%2F"),
    ] {
        let (ended, log) = fetch(&*broker, &url).await;
        assert!(
            ended.as_ref().is_err_and(|message| message.contains("HttpRequestDenied")),
            "{url}: {ended:?}"
        );
        assert!(log.contains("are refused; add `http = [\""), "{url}: {log}");
        assert!(log.contains("under [grants] of plugin acme/hog"), "{url}: {log}");
    }

    // A name that is granted, and turns out to be an internal address: asked for directly, and by a redirect.
    for url in [
        format!("http://localhost:{port}/hello"),
        format!("http://127.0.0.1:{port}/to/http:%2F%2Flocalhost:{port}%2Fhello"),
    ] {
        let (ended, log) = fetch(&*broker, &url).await;
        assert!(ended.as_ref().is_err_and(|message| message.contains("IpProhibited")), "{url}: {ended:?}");
        let line = format!("write `http = [{{ to = \"localhost:{port}\", private = [\"");
        assert!(log.contains(&line), "{url}: {log}");
    }
}

/// What is granted is one range of private addresses, and what the operator denies is denied to all: at once, by a reload.
#[tokio::test(flavor = "multi_thread")]
async fn private_addresses_are_reached_in_the_ranges_that_are_granted_and_not_denied() {
    let web = Web::start(replies).await;
    let port = web.port();
    let terms = |range: &str| {
        format!(
            "[grants]\nhttp = [{{ to = \"127.0.0.1:{port}\", private = [\"{range}\"] }}]\n[retry]\nmax_attempts = 1"
        )
    };
    let site = Site::new(Backend::Embedded, "")
        .with_hog("acme", &terms("127.0.0.0/8"))
        .with_hog("globex", &terms("10.0.0.0/8"));
    let broker = site.broker().await;
    let _daemon = site.daemon();
    let url = format!("http://127.0.0.1:{port}/hello");
    let (hello, _) = fetch_for("acme", &*broker, &url).await;
    assert!(hello.is_ok(), "{hello:?}");
    let (ended, log) = fetch_for("globex", &*broker, &url).await;
    assert!(ended.as_ref().is_err_and(|message| message.contains("IpProhibited")), "{ended:?}");
    assert!(log.contains("private = [\"127.0.0.1/32\"]"), "{log}");

    let file = site.path().join("sandhog.toml");
    let permissive = std::fs::read_to_string(&file).expect("the daemon's file");
    for (deny, is_reached) in [("127.0.0.0/16", false), ("127.1.0.0/16", true), ("0.0.0.0/0", false)] {
        std::fs::write(&file, format!("{permissive}\n[grants]\nhttp_deny = [\"{deny}\"]\n")).expect("a file");
        assert_eq!(super::deploys::reload(&site).0, Some(0));
        let (ended, log) = fetch_for("acme", &*broker, &url).await;
        assert_eq!(ended.is_ok(), is_reached, "{deny}: {ended:?}");
        assert_eq!(log.contains("grants.http_deny"), !is_reached, "{deny}: {log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_have_limits_of_bytes_headers_and_time() {
    let web = Web::start(replies).await;
    let port = web.port();
    let terms = format!(
        "[grants]\nhttp = [{{ to = \"127.0.0.1:{port}\", private = \"allow\" }}]\n\
         [limits]\nhttp_bytes = \"1MiB\"\nhttp_timeout = \"500ms\"\n[retry]\nmax_attempts = 1"
    );
    let site = Site::new(Backend::Embedded, "").with_hog("acme", &terms);
    let broker = site.broker().await;
    let _daemon = site.daemon();
    for (path, code, knob) in [
        ("large", "HttpResponseBodySize", "more than 1MiB; raise limits.http_bytes of plugin acme/hog"),
        ("silent", "HttpResponseTimeout", "longer than 500ms; raise limits.http_timeout of plugin acme/hog"),
        ("stalled", "HttpResponseTimeout", "longer than 500ms; raise limits.http_timeout of plugin acme/hog"),
        ("headers", "HttpResponseHeaderSectionSize", ""),
    ] {
        let (ended, log) = fetch(&*broker, &format!("http://127.0.0.1:{port}/{path}")).await;
        assert!(ended.as_ref().is_err_and(|message| message.contains(code)), "{path}: {ended:?}");
        assert!(log.contains(knob), "{path}: {log}");
        let (hello, _) = fetch(&*broker, &format!("http://127.0.0.1:{port}/hello")).await;
        assert!(hello.is_ok(), "the job after {path}: {hello:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_under_way_have_a_limit() {
    let web = Web::start(replies).await;
    let port = web.port();
    let terms = format!(
        "[grants]\nhttp = [{{ to = \"127.0.0.1:{port}\", private = \"allow\" }}]\n\
         [limits]\nhttp_connections = 0\n[retry]\nmax_attempts = 1"
    );
    let site = Site::new(Backend::Embedded, "").with_hog("acme", &terms);
    let broker = site.broker().await;
    let _daemon = site.daemon();
    let (ended, log) = fetch(&*broker, &format!("http://127.0.0.1:{port}/hello")).await;
    assert!(ended.as_ref().is_err_and(|message| message.contains("ConnectionLimitReached")), "{ended:?}");
    assert!(log.contains("no more can be; raise limits.http_connections of plugin acme/hog"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_timeout_ends_a_run_that_waits_for_a_server() {
    let web = Web::start(replies).await;
    let port = web.port();
    let terms = format!(
        "[grants]\nhttp = [{{ to = \"127.0.0.1:{port}\", private = \"allow\" }}]\n\
         [limits]\ntimeout = \"500ms\"\n[retry]\nmax_attempts = 1"
    );
    let site = Site::new(Backend::Embedded, "").with_hog("acme", &terms);
    let broker = site.broker().await;
    let _daemon = site.daemon();
    let job = hog_job("hog.fetch", &format!(r#"{{"url": "http://127.0.0.1:{port}/silent"}}"#));
    let (record, _) = run(&*broker, job).await;
    assert_eq!((record.state, record.reason), (State::Dead, Some(Reason::TimedOut)));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_granted_refuses_at_the_call_and_says_so() {
    let site = Site::new(Backend::Embedded, "").with_hog("acme", "[retry]\nmax_attempts = 1");
    let broker = site.broker().await;
    let mut daemon = site.daemon();
    let deployed =
        daemon.log().iter().find(|line| line.contains("its component may ask for what it isn't granted"));
    let deployed = deployed.expect("it is said before the daemon is ready");
    assert!(deployed.contains("grants.http, grants.dirs, grants.env, grants.secrets"), "{deployed}");
    for (kind, payload, line) in [
        ("hog.connect", "null", "no plugin gets sockets"),
        (
            "hog.fetch",
            r#"{"url": "http://127.0.0.1:1/"}"#,
            "add `http = [\"127.0.0.1:1\"]` under [grants] of plugin acme/hog",
        ),
        ("hog.cat", r#"{"path": "/data/x"}"#, "add them under [grants] of plugin acme/hog, such as `dirs = "),
        (
            "hog.tell",
            r#"{"secret": "TOKEN", "aloud": false}"#,
            "add `secrets = [\"TOKEN\"]` under [grants] of plugin acme/hog",
        ),
    ] {
        let (record, log) = run(&*broker, hog_job(kind, payload)).await;
        assert_eq!(record.state, State::Dead, "{kind}");
        let about = log.iter().filter(|message| message.contains(line)).count();
        assert_eq!(about, 1, "{kind}: {log:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_can_demand_that_nothing_is_missing() {
    let daemon = "[tenants.acme]\nmissing_grants = \"refuse\"";
    let site = Site::new(Backend::Embedded, daemon).with_hog("acme", "[grants]\nenv = { LANG = \"C\" }");
    let output = site.sandhog(&["check"]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{stderr}");
    for said in [
        "asks for what its [grants] don't give",
        "requests to other hosts (such as `http = ",
        "missing_grants = \"allow\"",
    ] {
        assert!(stderr.contains(said), "{said}: {stderr}");
    }
    assert!(!stderr.contains("environment variables"), "{stderr}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_has_its_access_and_its_quota_and_nothing_leads_out_of_it() {
    let site = Site::new(Backend::Embedded, "");
    let (data, outside) = (site.path().join("data"), site.path().join("outside"));
    std::fs::create_dir(&data).expect("a folder");
    std::fs::write(&outside, "not yours").expect("a file");
    std::fs::write(data.join("there"), vec![0; 50_000]).expect("a file");
    symlink(&outside, data.join("link")).expect("a link");
    symlink("../outside", data.join("up")).expect("a link");
    symlink("..", data.join("parent")).expect("a link");
    let made = Command::new("mkfifo").arg(data.join("pipe")).status().expect("mkfifo is there");
    assert!(made.success());
    let host = data.display();
    let grants = format!(
        "[grants]\ndirs = [{{ host = \"{host}\", guest = \"/data\", access = \"read-write\", quota = \"200KiB\" }}, {{ host = \"{host}\", guest = \"/read\" }}]\n[retry]\nmax_attempts = 1"
    );
    let site = site.with_hog("acme", &grants);
    let broker = site.broker().await;
    let _daemon = site.daemon();

    let write = |path: &str, bytes: usize| {
        hog_job("hog.write", &format!(r#"{{"path": "{path}", "bytes": {bytes}}}"#))
    };
    let read = |path: &str| hog_job("hog.cat", &format!(r#"{{"path": "{path}"}}"#));
    let (record, log) = run(&*broker, write("/data/mine", 20_000)).await;
    assert_eq!((record.output.as_deref(), log), (Some(&b"20000"[..]), Vec::new()));
    let (record, _) = run(&*broker, read("/read/mine")).await;
    assert_eq!(record.output.map(|output| output.len()), Some(20_000));

    let (record, log) = run(&*broker, write("/data/more", 150_000)).await;
    assert_eq!(record.state, State::Dead);
    assert!(
        log.iter().any(|line| line.contains("its quota is 200KiB; remove files, or raise `quota`")),
        "{log:?}"
    );
    let on_disk = std::fs::metadata(data.join("more")).expect("it was begun").len();
    assert!(on_disk < 150_000, "{on_disk}");
    // What is written anew takes the place of what was there.
    let (record, log) = run(&*broker, write("/data/more", 10_000)).await;
    assert_eq!((record.state, log), (State::Succeeded, Vec::new()), "{:?}", record.message);

    let (record, log) = run(&*broker, write("/read/mine", 1)).await;
    assert_eq!(record.state, State::Dead);
    assert!(log.iter().any(|line| line.contains("add `access = \"read-write\"`")), "{log:?}");

    for path in [
        "/data/link",
        "/data/up",
        "/data/parent/outside",
        "/data/../outside",
        "/data/../../etc/passwd",
        "/etc/passwd",
    ] {
        let (record, _) = run(&*broker, read(path)).await;
        assert_eq!(record.output, None, "{path}");
    }
    assert_eq!(std::fs::read_to_string(&outside).expect("it is there"), "not yours");
    // A link that starts at the root of the host's files, which isn't the guest's.
    let (_, log) = run(&*broker, read("/data/link")).await;
    assert!(log.iter().any(|line| line.contains("links there have to be relative")), "{log:?}");
    // A name that no guest can say.
    std::fs::write(data.join(OsStr::from_bytes(b"\xff")), "").expect("a file");
    let (record, log) = run(&*broker, hog_job("hog.list", r#"{"path": "/data", "times": 1}"#)).await;
    assert_eq!(record.state, State::Succeeded, "{:?}", record.message);
    assert!(log.iter().any(|line| line.contains("names are not UTF-8; they are left out")), "{log:?}");
    // A pipe with nobody at its other end.
    let (record, log) = run(&*broker, read("/data/pipe")).await;
    assert_eq!(record.output, None);
    assert!(log.iter().any(|line| line.contains("only files and directories can be opened")), "{log:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn open_files_have_a_limit() {
    let site = Site::new(Backend::Embedded, "");
    std::fs::create_dir(site.path().join("data")).expect("a folder");
    std::fs::write(site.path().join("data/file"), "x").expect("a file");
    let terms = "[grants]\ndirs = [{ host = \"../data\", guest = \"/data\" }]\n[limits]\nopen_files = 8\n[retry]\nmax_attempts = 1";
    let site = site.with_hog("acme", terms);
    let broker = site.broker().await;
    let _daemon = site.daemon();
    let open = |times: u32| hog_job("hog.open", &format!(r#"{{"path": "/data/file", "times": {times}}}"#));
    let (record, log) = run(&*broker, open(8)).await;
    assert_eq!((record.output.as_deref(), log), (Some(&b"8"[..]), Vec::new()), "{:?}", record.message);
    let (record, log) = run(&*broker, open(9)).await;
    assert!(record.message.is_some_and(|message| message.contains("open number 9")));
    assert_eq!(log, ["8 files are open, and no more can be; raise limits.open_files of plugin acme/hog"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_is_in_no_log_no_progress_and_no_failure() {
    let site = Site::new(Backend::Embedded, "");
    std::fs::write(site.path().join("token"), "hunter2-hunter2").expect("a file");
    let terms = "[grants]\nsecrets = [\"TOKEN\"]\n[secrets]\nTOKEN = { file = \"../token\" }\n[retry]\nmax_attempts = 1";
    let site = site.with_hog("acme", terms);
    let broker = site.broker().await;
    let mut daemon = site.daemon();
    let (record, log) = run(&*broker, hog_job("hog.tell", r#"{"secret": "TOKEN", "aloud": true}"#)).await;
    assert_eq!(record.state, State::Succeeded, "{:?}", record.message);
    assert_eq!(log, ["it is [secret TOKEN]", "it is [secret TOKEN]"]);
    assert_eq!(
        record.progress.and_then(|progress| progress.message).as_deref(),
        Some("it is [secret TOKEN]")
    );
    let (record, _) = run(&*broker, hog_job("hog.tell", r#"{"secret": "TOKEN", "aloud": false}"#)).await;
    assert_eq!(record.message.as_deref(), Some("it is [secret TOKEN]"));
    daemon.signal("TERM");
    daemon.wait();
    assert!(!daemon.log().iter().any(|line| line.contains("hunter2")));
}

#[tokio::test(flavor = "multi_thread")]
async fn clocks_are_as_coarse_as_the_tenant_wants_them() {
    let terms = "[tenants.acme.limits]\nclock_resolution = \"1s\"";
    let site = Site::new(Backend::Embedded, terms).with_hog("acme", "");
    let broker = site.broker().await;
    let _daemon = site.daemon();
    let (record, _) = run(&*broker, hog_job("hog.clocks", "null")).await;
    let seen: serde_json::Value = serde_json::from_slice(&record.output.expect("it succeeds")).expect("JSON");
    assert_eq!(seen["wall"].as_u64().map(|nanos| nanos % 1_000_000_000), Some(0), "{seen}");
    assert_eq!(seen["remaining"].as_u64().map(|millis| millis % 1000), Some(0), "{seen}");
}
