//! What docs/languages.md says of real programs in each language: packages, the standard library, what is missing, large
//! payloads, many files, and what the log tells of an exception.

use std::sync::Arc;

use sandhog_broker::Broker;
use sandhog_core::job::{JobRecord, Level, LogLine, NewJob, State};
use sandhog_core::reason::Reason;
use sandhog_tests::{Backend, Daemon, Language, Site, finished, hog_job, tenant};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A daemon with the hog of a language, which is granted a folder as `/data`.
struct Stage {
    broker: Arc<dyn Broker>,
    // They go with the stage.
    _daemon: Daemon,
    _site: Site,
    _folder: TempDir,
}

impl Stage {
    async fn new(language: Language) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let toml = format!(
            "[limits]\npayload = \"8MiB\"\n[retry]\nmax_attempts = 1\n\
             [grants]\ndirs = [{{ host = {:?}, guest = \"/data\", access = \"read-write\" }}]",
            folder.path()
        );
        let site = Site::new(Backend::Embedded, "[limits]\nmemory = \"512MiB\"\nfuel = 100_000_000_000\n")
            .with_hog_in(language, "acme", &toml);
        let (broker, daemon) = (site.broker().await, site.daemon());
        Self { broker, _daemon: daemon, _site: site, _folder: folder }
    }

    async fn run(&self, kind: &str, payload: &Value) -> (JobRecord, Vec<LogLine>) {
        let acme = tenant("acme");
        let job: NewJob = hog_job(kind, &payload.to_string());
        self.broker.enqueue(&acme, std::slice::from_ref(&job)).await.expect("the broker is up");
        let record = finished(&*self.broker, &acme, job.id).await;
        let log = self.broker.log(&acme, job.id).await.expect("the broker is up");
        (record, log)
    }

    /// What a claim comes to.
    async fn claim(&self, payload: Value) -> Value {
        let (record, log) = self.run("hog.claim", &payload).await;
        let output =
            record.output.unwrap_or_else(|| panic!("{:?} {:?} {log:?}", record.reason, record.message));
        serde_json::from_slice(&output).expect("JSON")
    }
}

/// Rows that are close to 8 MiB as JSON, and their sum.
fn large() -> (Value, Value) {
    const ROWS: u64 = 90_000;
    let rows: Vec<Value> =
        (0..ROWS).map(|n| json!({"n": n, "text": format!("row {n:06} äöü €, {}", "x".repeat(40))})).collect();
    let last = rows.last().expect("a row")["text"].clone();
    (
        json!({"claim": "large", "rows": rows}),
        json!({"rows": ROWS, "sum": ROWS * (ROWS - 1) / 2, "last": last}),
    )
}

fn messages(log: &[LogLine], level: Level) -> Vec<&str> {
    log.iter().filter(|line| line.level == level).map(|line| line.message.as_str()).collect()
}

/// The log line of what ended a run, and its stack.
fn ended(log: &[LogLine]) -> (&str, &str) {
    let line = log.iter().find(|line| line.level == Level::Error).unwrap_or_else(|| panic!("{log:?}"));
    let stack = line.fields.iter().find(|(name, _)| name == "stack").map_or("", |(_, stack)| stack);
    (&line.message, stack)
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_in_javascript_are_as_the_page_says() {
    let stage = Stage::new(Language::JavaScript).await;
    let order = json!({"customer": "ann@example.org", "cents": [1, 2]});
    let packages = stage.claim(json!({"claim": "packages", "order": order})).await;
    assert_eq!(packages, json!({"order": order, "refused": 2, "ids": 100}));
    let timers = stage.claim(json!({"claim": "timers"})).await;
    assert_eq!(timers, json!(["first", "microtask", 10, 20, 30]));
    let settled = stage.claim(json!({"claim": "async"})).await;
    assert_eq!(settled, json!([6, ["rejected", "fulfilled"], 5]));
    assert_eq!(stage.claim(json!({"claim": "forgotten"})).await, json!("done"));
    assert_eq!(stage.claim(json!({"claim": "handled"})).await, json!(["late", "pulled"]));
    let web = stage.claim(json!({"claim": "web"})).await;
    assert_eq!(
        web,
        json!({
            "url": "https://example.org/b?c=%C3%BC#d", "uuid": 36, "text": "ü", "clone": true, "base64": "aGk=", "digest": 32,
            "stream": "ab", "missing": [],
        })
    );
    let places = stage.claim(json!({"claim": "places"})).await;
    assert_eq!(
        places,
        json!({"number": "1234567.5", "date": "01/01/1970", "compared": ["a", "b", "ä"], "zone": 0})
    );
    let (payload, expected) = large();
    assert_eq!(stage.claim(payload).await, expected);
    let files = stage.claim(json!({"claim": "files", "folder": "/data", "times": 500})).await;
    assert_eq!(files, json!(["0", "1", "2"]));

    let (record, log) = stage.run("hog.claim", &json!({"claim": "throws", "message": "too far"})).await;
    assert_eq!((record.state, record.reason), (State::Dead, Some(Reason::Failed)));
    assert_eq!(record.message.as_deref(), Some("TypeError: it can't be done: RangeError: too far"));
    let (message, stack) = ended(&log);
    assert_eq!(message, "TypeError: it can't be done");
    assert!(stack.contains("outer@") && stack.contains("claims.js:"), "{stack}");
    let (_, log) = stage.run("hog.claim", &json!({"claim": "console"})).await;
    assert_eq!(messages(&log, Level::Info), ["a %s log { a: [1] }", "two", "lines", ""], "{log:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_handler_in_javascript_forgets_to_wait_for_is_told() {
    let stage = Stage::new(Language::JavaScript).await;
    let (record, log) = stage.run("hog.claim", &json!({"claim": "rejected"})).await;
    assert_eq!((record.state, record.reason), (State::Dead, Some(Reason::Failed)));
    assert_eq!(record.message.as_deref(), Some("unhandled rejection: RangeError: nobody waits for this"));
    let (message, stack) = ended(&log);
    assert_eq!(message, "RangeError: nobody waits for this");
    assert!(stack.contains("late@") && stack.contains("claims.js:"), "{stack}");

    let (record, log) = stage.run("hog.claim", &json!({"claim": "several"})).await;
    assert_eq!(record.message.as_deref(), Some("number 0"), "what the handler throws comes first");
    let told: Vec<String> = (1..=8).map(|n| format!("unhandled rejection: number {n}")).collect();
    assert_eq!(messages(&log, Level::Warn), told);

    let (record, _) = stage.run("hog.claim", &json!({"claim": "promised"})).await;
    assert_eq!((record.state, record.reason), (State::Dead, Some(Reason::FailedPermanently)));
    assert!(
        record.message.as_ref().is_some_and(|message| message.contains("is an `await` missing?")),
        "{record:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_in_python_are_as_the_page_says() {
    let stage = Stage::new(Language::Python).await;
    let packages =
        stage.claim(json!({"claim": "packages", "names": ["Ann", "<b>"], "date": "31 Jan 2026"})).await;
    assert_eq!(packages, json!({"text": "hello, Ann! hello, &lt;b&gt;!", "later": "2026-02-28T00:00:00"}));
    let library = stage.claim(json!({"claim": "library"})).await;
    assert_eq!(
        library,
        json!({"digest": "e3b0c442", "sum": "0.3", "uuid": 36, "found": ["1", "22"], "date": "2026-01-31T00:00:00+00:00", "waited": true,
        "encoded": [
            "786e2d2d62636865722d6b76612e6578616d706c65",
            "efbbbf62c3bc636865722e6578616d706c65",
            "6200fc0063006800650072002e006500780061006d0070006c006500",
            "62fc636865722e6578616d706c65",
            "62fc636865722e6578616d706c65",
        ]})
    );
    let missing = stage.claim(json!({"claim": "missing"})).await;
    assert_eq!(
        missing,
        json!({"threads": "RuntimeError", "asyncio": "PermissionError", "processes": "AttributeError", "import": "ModuleNotFoundError"})
    );
    assert_eq!(stage.claim(json!({"claim": "coroutines"})).await, json!([2, 4]));
    let (one, other) =
        (stage.claim(json!({"claim": "random"})).await, stage.claim(json!({"claim": "random"})).await);
    for part in 0..3 {
        assert_ne!(one[part], other[part], "chance is another one in each job");
    }
    let (payload, expected) = large();
    assert_eq!(stage.claim(payload).await, expected);
    let files = stage.claim(json!({"claim": "files", "folder": "/data", "times": 500})).await;
    assert_eq!(files, json!(["0", "1", "2"]));

    let (record, log) = stage.run("hog.claim", &json!({"claim": "raises", "message": "4111"})).await;
    assert_eq!((record.state, record.reason), (State::Dead, Some(Reason::Failed)));
    assert_eq!(record.message.as_deref(), Some("RuntimeError: account of 4 digits: ValueError: 4111"));
    let (message, stack) = ended(&log);
    assert_eq!(message, "RuntimeError: account of 4 digits");
    assert!(
        stack.contains("claims.py") && stack.contains("in _raises") && stack.contains("line "),
        "{stack}"
    );
    assert!(!format!("{log:?}").contains("4111"), "no value of the payload is in the log: {log:?}");
    let (record, log) = stage.run("hog.claim", &json!({"claim": "quotes", "message": "4111x"})).await;
    assert!(record.message.is_some_and(|message| message.contains("4111x")), "the job says it");
    assert!(!format!("{log:?}").contains("4111"), "{log:?}");
    let (_, log) = stage.run("hog.claim", &json!({"claim": "prints"})).await;
    let expected = ["a line", "two", "lines", "\u{fffd}\0 binary", "without an end"];
    assert_eq!(messages(&log, Level::Info), expected, "{log:?}");
    assert_eq!(messages(&log, Level::Warn), ["a warning"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_in_rust_tells_its_place_and_the_functions_that_led_there() {
    let stage = Stage::new(Language::Rust).await;
    let (record, log) = stage.run("hog.panic", &json!({"message": "by order"})).await;
    assert_eq!((record.state, record.reason), (State::Dead, Some(Reason::Trapped)));
    let line = log.iter().find(|line| line.level == Level::Error).expect("it is in the log");
    assert_eq!(line.message, "panicked: by order");
    assert!(
        line.fields.iter().any(|(name, place)| name == "at" && place.contains("misbehave.rs:")),
        "{line:?}"
    );
    let message = record.message.expect("it says why");
    assert!(
        message.contains("panics") && !message.contains("<wasm function"),
        "it names functions: {message}"
    );
}
