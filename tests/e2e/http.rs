//! HTTP as programs use it: real components and a real server, in every shape that requests and responses have.

use std::fs;
use std::process::Command;
use std::time::Duration;

use sandhog_core::job::{NewJob, State};
use sandhog_tests::{
    Backend, Daemon, Language, Reply, SilentNames, Site, Web, authority, binary, finished, hog_job, tenant,
};
use serde_json::{Value, json};

const MIB: usize = 1 << 20;

/// "hello" by gzip.
const GZIP: &[u8] = &[
    0x1f, 0x8b, 0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x03, 0xcb, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00,
    0x86, 0xa6, 0x10, 0x36, 0x05, 0x00, 0x00, 0x00,
];

/// "hello" by zlib, which the `deflate` of HTTP is.
const DEFLATE: &[u8] = &[0x78, 0x9c, 0xcb, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x06, 0x2c, 0x02, 0x15];

fn replies(path: &str) -> Reply {
    let chunks = |pieces: usize, size: usize, pause: u64, trailers| Reply::Chunked {
        pieces: vec![vec![b'x'; size]; pieces],
        pause: Duration::from_millis(pause),
        trailers,
    };
    match path {
        "/hello" => Reply::Body(b"hello".to_vec()),
        "/2MiB" => Reply::Bytes(2 * MIB),
        "/8MiB" => Reply::Bytes(8 * MIB),
        "/100MiB" => Reply::Bytes(100 * MIB),
        "/framing" => Reply::Framing,
        "/early" => Reply::Early(413),
        "/204" => Reply::Bare(204, ""),
        "/304" => Reply::Bare(304, "etag: \"x\"\r\n"),
        "/gzip" => Reply::Encoded("content-encoding: gzip", GZIP.to_vec()),
        "/deflate" => Reply::Encoded("Content-Encoding: Deflate", DEFLATE.to_vec()),
        "/br" => Reply::Encoded("content-encoding: br", b"no br".to_vec()),
        "/no-gzip" => Reply::Encoded("content-encoding: gzip", b"no gzip".to_vec()),
        "/empty-gzip" => Reply::Encoded("content-encoding: gzip", Vec::new()),
        "/cookies" => {
            Reply::Bare(200, "set-cookie: a=1\r\nset-cookie: b=2\r\nx-none:\r\ncontent-length: 0\r\n")
        }
        "/chunks" => chunks(5, 10, 1, ""),
        "/trailers" => chunks(1, 10, 0, "x-sum: 10\r\n"),
        "/events" => chunks(1000, 14, 0, ""),
        "/until-close" => Reply::UntilClose(b"until close".to_vec()),
        "/body-and-close" => Reply::BodyAndClose(b"hello".to_vec()),
        "/close" => Reply::Close,
        "/silence" => Reply::Silence,
        "/headers" => Reply::Headers(200),
        "/long-header" => Reply::LongHeader(300_000),
        _ => Reply::Bare(404, "content-length: 0\r\n"),
    }
}

/// A server, a daemon with a hog in some language, and a tenant that may ask the one from the other.
struct Scene {
    web: Web,
    site: Site,
    _daemon: Daemon,
}

impl Scene {
    async fn new(language: Language, limits: &str) -> Self {
        let web = Web::start(replies).await;
        let port = web.port();
        let terms = format!(
            "[grants]\nhttp = [{{ to = \"127.0.0.1:{port}\", private = \"allow\" }}]\n\
             [limits]\n{limits}\n[retry]\nmax_attempts = 1"
        );
        let site = Site::new(Backend::Embedded, &format!("[limits]\n{limits}"))
            .with_hog_in(language, "acme", &terms);
        let daemon = site.daemon();
        Self { web, site, _daemon: daemon }
    }

    fn job(&self, path: &str, shape: Value) -> NewJob {
        let mut payload = json!({ "url": format!("http://127.0.0.1:{}{path}", self.web.port()) });
        let shape = shape.as_object().expect("an object").clone();
        payload.as_object_mut().expect("an object").extend(shape);
        hog_job("hog.exchange", &payload.to_string())
    }

    /// What came of an exchange, or what its handler said, and the log.
    async fn exchange(&self, path: &str, shape: Value) -> (Result<Value, String>, String) {
        self.run(self.job(path, shape)).await
    }

    /// What came of a job, or why it has failed, and the log.
    async fn run(&self, job: NewJob) -> (Result<Value, String>, String) {
        let (broker, acme) = (self.site.broker().await, tenant("acme"));
        broker.enqueue(&acme, std::slice::from_ref(&job)).await.expect("the broker is up");
        let record = finished(&*broker, &acme, job.id).await;
        let log = broker.log(&acme, job.id).await.expect("the broker is up");
        let log = log.into_iter().map(|line| line.message).collect::<Vec<_>>().join("\n");
        let ended = match record.output {
            Some(output) => Ok(serde_json::from_slice(&output).expect("JSON")),
            None => Err(record.message.unwrap_or_default()),
        };
        (ended, log)
    }

    /// What came of one that succeeds.
    async fn exchanged(&self, path: &str, shape: Value) -> Value {
        let (ended, log) = self.exchange(path, shape).await;
        ended.unwrap_or_else(|message| panic!("{path}: {message}\n{log}"))
    }
}

const EVERY: [Language; 3] = [Language::Rust, Language::JavaScript, Language::Python];

#[tokio::test(flavor = "multi_thread")]
async fn a_response_of_any_size_and_shape_is_received_whole() {
    for language in EVERY {
        let scene = Scene::new(language, "").await;
        for (path, status, received, body) in [
            ("/hello", 200, 5, "hello"),
            ("/2MiB", 200, 2 * MIB, "xxx"),
            ("/8MiB", 200, 8 * MIB, "xxx"),
            ("/204", 204, 0, ""),
            ("/304", 304, 0, ""),
            ("/chunks", 200, 50, "xxx"),
            ("/events", 200, 14_000, "xxx"),
            ("/until-close", 200, 11, "until close"),
        ] {
            let exchanged = scene.exchanged(path, json!({})).await;
            assert_eq!(
                (&exchanged["status"], &exchanged["received"]),
                (&json!(status), &json!(received)),
                "{path}"
            );
            assert!(
                exchanged["body"].as_str().is_some_and(|text| text.starts_with(body)),
                "{path}: {exchanged}"
            );
        }
        let head = scene.exchanged("/hello", json!({ "method": "HEAD" })).await;
        assert_eq!((&head["status"], &head["received"]), (&json!(200), &json!(0)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_encoded_body_is_decoded_by_fetch_of_javascript_and_left_to_handlers_in_rust() {
    let scene = Scene::new(Language::Rust, "").await;
    assert_eq!(scene.exchanged("/gzip", json!({})).await["received"], json!(GZIP.len()));

    let scene = Scene::new(Language::JavaScript, "").await;
    for (path, body) in [("/gzip", "hello"), ("/deflate", "hello"), ("/br", "no br"), ("/empty-gzip", "")] {
        let exchanged = scene.exchanged(path, json!({ "times": 3 })).await;
        assert_eq!((&exchanged["status"], &exchanged["body"]), (&json!(200), &json!(body)), "{path}");
        let fields = exchanged["headers"].as_array().expect("a list");
        assert!(fields.iter().any(|field| field[0] == json!("content-encoding")), "{path}: {exchanged}");
    }
    let head = scene.exchanged("/gzip", json!({ "method": "HEAD" })).await;
    assert_eq!((&head["status"], &head["received"]), (&json!(200), &json!(0)));
    let (ended, log) = scene.exchange("/no-gzip", json!({})).await;
    assert!(ended.as_ref().is_err_and(|said| said.contains("DecompressionStream")), "{ended:?} {log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn header_fields_and_trailers_arrive_as_they_were_sent() {
    let scene = Scene::new(Language::Rust, "").await;
    let cookies = scene.exchanged("/cookies", json!({})).await;
    let expected =
        json!([["set-cookie", "a=1"], ["set-cookie", "b=2"], ["x-none", ""], ["content-length", "0"]]);
    assert_eq!(cookies["headers"], expected);
    assert_eq!(scene.exchanged("/trailers", json!({})).await["trailers"], json!([["x-sum", "10"]]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_megabytes_come_within_the_limit_and_are_never_held() {
    let scene = Scene::new(Language::Rust, "http_bytes = \"128MiB\"\nmemory = \"4MiB\"").await;
    let at_rest = scene._daemon.resident();
    let exchanged = scene.exchanged("/100MiB", json!({})).await;
    assert_eq!(exchanged["received"], json!(100 * MIB));
    let grown = scene._daemon.peak().saturating_sub(at_rest);
    assert!(grown < 48 * MIB as u64, "the daemon grew by {grown} bytes");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_is_sent_whole_whether_its_length_was_announced_or_not() {
    for language in EVERY {
        let scene = Scene::new(language, "").await;
        for method in ["POST", "PUT", "PATCH"] {
            for bytes in [1, 1000, 3 * MIB] {
                let shape = json!({ "method": method, "send": bytes });
                let sent = scene.exchanged("/framing", shape).await;
                let body = sent["body"].as_str().unwrap_or_default();
                assert!(body.ends_with(&format!(" {bytes}")), "{method} {bytes}: {sent}");
            }
        }
    }
    let scene = Scene::new(Language::Rust, "").await;
    // Again and again: a connection that has all it was promised lets go of the body before the guest is done with it.
    let announced = json!({ "method": "POST", "send": 1000, "announced": true, "times": 200 });
    assert_eq!(scene.exchanged("/framing", announced).await["body"], json!("length 1000"));
    let large = json!({ "method": "PUT", "send": 11 * MIB, "announced": true });
    assert_eq!(scene.exchanged("/framing", large).await["body"], json!(format!("length {}", 11 * MIB)));
    let chunks = json!({ "method": "POST", "send": 1000, "times": 200 });
    assert_eq!(scene.exchanged("/framing", chunks).await["body"], json!("chunks 1000"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_answers_before_it_has_read_is_heard() {
    for language in EVERY {
        let scene = Scene::new(language, "").await;
        for shape in [
            json!({ "method": "POST", "send": 3 * MIB }),
            json!({ "method": "POST", "send": 3 * MIB, "announced": true }),
        ] {
            if language != Language::Rust && shape.get("announced").is_some() {
                continue;
            }
            let early = scene.exchanged("/early", shape).await;
            assert_eq!((&early["status"], &early["body"]), (&json!(413), &json!("early")));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hundreds_of_requests_go_out_of_one_job() {
    for language in EVERY {
        let scene = Scene::new(language, "").await;
        for shape in [
            json!({ "times": 500 }),
            json!({ "times": 300, "unread": true }),
            json!({ "times": 300, "method": "POST", "send": 1000 }),
        ] {
            let last = scene.exchanged("/hello", shape).await;
            assert_eq!(last["status"], json!(200), "{last}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_holds_all_the_handles_that_it_may_is_told_so() {
    // The JavaScript engine gives back none that a request needs.
    let scene = Scene::new(Language::JavaScript, "http_bytes = \"64KiB\"").await;
    scene.exchanged("/hello", json!({ "times": 100 })).await;
    let (ended, _) = scene.exchange("/hello", json!({ "times": 500 })).await;
    let message = ended.expect_err("a run may hold 1024, and one for each 4 KiB");
    assert!(message.starts_with("it holds 1040 handles of streams, timers, requests"), "{message}");
    assert!(message.contains("limits.http_bytes, which is 64KiB"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_a_handler_in_javascript_forgets_is_told() {
    let scene = Scene::new(Language::JavaScript, "").await;
    let url = format!("http://127.0.0.1:{}/silence", scene.web.port());
    let forgotten = hog_job("hog.claim", &json!({ "claim": "unanswered", "url": url }).to_string());
    let (ended, log) = scene.run(forgotten).await;
    assert_eq!(ended, Ok(json!("done")));
    assert!(log.contains("which is dropped: is an `await` missing?"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_serves_one_request_after_the_other_of_its_run_alone() {
    let scene = Scene::new(Language::Rust, "").await;
    scene.exchanged("/hello", json!({ "times": 50 })).await;
    assert_eq!(scene.web.connections(), 1);
    scene.exchanged("/hello", json!({ "times": 50 })).await;
    assert_eq!(scene.web.connections(), 2, "the next run has its own");
    // What can't be repeated goes over one of its own, and so does what comes after a server has closed without a word.
    scene.exchanged("/framing", json!({ "times": 5, "method": "POST", "send": 1 })).await;
    assert_eq!(scene.web.connections(), 7);
    let closing = scene.exchanged("/body-and-close", json!({ "times": 50 })).await;
    assert_eq!((&closing["status"], &closing["received"]), (&json!(200), &json!(250)));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_response_is_told() {
    let scene = Scene::new(Language::Rust, "").await;
    for path in ["/headers", "/long-header"] {
        let (ended, log) = scene.exchange(path, json!({})).await;
        assert!(
            ended.as_ref().is_err_and(|said| said.contains("HttpResponseHeaderSectionSize")),
            "{path}: {ended:?}"
        );
        assert!(log.contains("more than 128 lines, or more than 64KiB"), "{path}: {log}");
    }
    let (ended, _) = scene.exchange("/close", json!({})).await;
    assert!(ended.as_ref().is_err_and(|said| said.contains("HttpResponseIncomplete")), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_not_be_looked_up_is_told() {
    let site = Site::new(Backend::Embedded, "")
        .with_hog("acme", "[grants]\nhttp = [\"nowhere.invalid:80\"]\n[retry]\nmax_attempts = 1");
    let (broker, acme) = (site.broker().await, tenant("acme"));
    let _daemon = site.daemon();
    let job = hog_job("hog.exchange", r#"{"url": "http://nowhere.invalid/"}"#);
    broker.enqueue(&acme, std::slice::from_ref(&job)).await.expect("the broker is up");
    let record = finished(&*broker, &acme, job.id).await;
    assert!(record.message.as_ref().is_some_and(|message| message.contains("Dns")), "{record:?}");
    let log = broker.log(&acme, job.id).await.expect("the broker is up");
    assert!(log.iter().any(|line| line.message.contains("the name nowhere.invalid")), "{log:?}");
}

/// Looks up names, more at once than a tenant has threads for, and fewer than may connect at once.
const LOOK_UPS: usize = 12;

#[tokio::test(flavor = "multi_thread")]
async fn a_name_server_that_does_not_answer_costs_those_who_ask_it_alone() {
    let web = Web::start(replies).await;
    let port = web.port();
    let grant = format!("[grants]\nhttp = [{{ to = \"localhost:{port}\", private = \"allow\" }}]");
    let site = Site::new(Backend::Embedded, "")
        .with_hog(
            "acme",
            "[grants]\nhttp = [\"slow.example:80\"]\n[limits]\nhttp_timeout = \"1s\"\n[retry]\nmax_attempts = 1",
        )
        .with_hog("globex", &grant);
    let Some(names) = SilentNames::start(&site.path().join("names")) else { return };
    let (broker, acme, globex) = (site.broker().await, tenant("acme"), tenant("globex"));
    let _daemon = Daemon::start_with(names.sandhog(&site));
    let slow = |_| hog_job("hog.exchange", r#"{"url": "http://slow.example/"}"#);
    let slow: Vec<NewJob> = (0..LOOK_UPS).map(slow).collect();
    broker.enqueue(&acme, &slow).await.expect("the broker is up");
    let url = format!("http://localhost:{port}/hello");
    for _ in 0..20 {
        let job = hog_job("hog.exchange", &json!({ "url": url }).to_string());
        broker.enqueue(&globex, std::slice::from_ref(&job)).await.expect("the broker is up");
        let record = finished(&*broker, &globex, job.id).await;
        assert_eq!(record.state, State::Succeeded, "{record:?}");
    }
    for job in &slow {
        let record = finished(&*broker, &acme, job.id).await;
        assert!(record.message.as_ref().is_some_and(|message| message.contains("DnsTimeout")), "{record:?}");
        let log = broker.log(&acme, job.id).await.expect("the broker is up");
        let log = log.into_iter().map(|line| line.message).collect::<Vec<_>>().join("\n");
        assert!(log.contains("the name slow.example was not looked up within 1s"), "{log}");
        assert!(!log.contains("limits.http_timeout"), "more time would be of no use: {log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_trusted_whose_authority_is_and_who_is_may_change() {
    let web = Web::start_tls(replies).await;
    let port = web.port();
    let site = Site::new(Backend::Embedded, "").with_hog(
        "acme",
        &format!(
            "[grants]\nhttp = [{{ to = \"127.0.0.1:{port}\", private = \"allow\" }}]\n[retry]\nmax_attempts = 1"
        ),
    );
    let (broker, acme) = (site.broker().await, tenant("acme"));
    // A certificate, and not the one of who has signed the server's.
    fs::copy(authority().with_file_name("server.pem"), site.path().join("trusted.pem")).expect("a file");
    let mut command = Command::new(binary());
    command
        .arg("--config")
        .arg(site.config())
        .env("SSL_CERT_FILE", site.path().join("trusted.pem"))
        .env_remove("SSL_CERT_DIR");
    let _daemon = Daemon::start_with(command);
    let ask = async || {
        let url = format!("https://127.0.0.1:{port}/hello");
        let job = hog_job("hog.exchange", &json!({ "url": url }).to_string());
        broker.enqueue(&acme, std::slice::from_ref(&job)).await.expect("the broker is up");
        let record = finished(&*broker, &acme, job.id).await;
        let log = broker.log(&acme, job.id).await.expect("the broker is up");
        (record, log.into_iter().map(|line| line.message).collect::<Vec<_>>().join("\n"))
    };
    let (record, log) = ask().await;
    assert!(record.message.as_ref().is_some_and(|said| said.contains("TlsCertificateError")), "{record:?}");
    let place = format!("the certificate of 127.0.0.1:{port} is not trusted: ");
    assert!(log.contains(&place) && log.contains("SSL_CERT_FILE"), "{log}");

    site.write("trusted.pem", &fs::read(authority()).expect("a file"));
    assert_eq!(site.sandhog(&["reload"]).status.code(), Some(0));
    let (record, log) = ask().await;
    assert_eq!((record.state, log), (State::Succeeded, String::new()), "{:?}", record.message);

    // Nobody at all is trusted by mistake: then it stays as it was.
    site.write("trusted.pem", b"");
    assert_eq!(site.sandhog(&["reload"]).status.code(), Some(0));
    assert_eq!(ask().await.0.state, State::Succeeded);
}
