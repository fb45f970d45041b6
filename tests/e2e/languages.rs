//! What holds for a handler holds for it in every language: ends, effects, limits, grants, log, a fresh instance.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;

use sandhog_broker::Broker;
use sandhog_core::id::{PluginName, StateKey, TenantId};
use sandhog_core::job::{JobRecord, Level, NewJob, State};
use sandhog_core::reason::Reason;
use sandhog_tests::{
    Backend, Language, Reply, Site, Web, all_final, component, finished, hog_job, settled, tenant,
};
use serde_json::{Value, json};

/// Each of these is one test a language.
macro_rules! in_every_language {
    ($($test:ident),+ $(,)?) => {
        in_every_language!(@ rust Rust: $($test),+);
        in_every_language!(@ javascript JavaScript: $($test),+);
        in_every_language!(@ python Python: $($test),+);
    };
    (@ $module:ident $language:ident: $($test:ident),+) => {
        mod $module {
            use sandhog_tests::Language;

            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $test() {
                    super::$test(Language::$language).await;
                }
            )+
        }
    };
}

in_every_language!(
    a_job_ends_as_its_handler_says,
    effects_happen_once_though_a_daemon_is_killed,
    what_a_failed_attempt_did_never_happened,
    each_misbehaviour_has_an_end_of_its_own_and_the_next_job_runs,
    a_timeout_or_a_cancellation_ends_what_would_go_on,
    log_lines_are_kept_with_the_job,
    what_is_granted_is_there_and_nothing_else,
    nothing_is_left_for_the_next_job,
    its_kinds_are_declared_and_held_against_its_toml,
);

async fn run(broker: &dyn Broker, of: &TenantId, job: NewJob) -> JobRecord {
    broker.enqueue(of, std::slice::from_ref(&job)).await.expect("the broker is up");
    finished(broker, of, job.id).await
}

async fn output(broker: &dyn Broker, of: &TenantId, kind: &str, payload: &Value) -> Value {
    let record = run(broker, of, hog_job(kind, &payload.to_string())).await;
    let output = record.output.unwrap_or_else(|| panic!("{kind}: {:?} {:?}", record.reason, record.message));
    serde_json::from_slice(&output).expect("the output is JSON")
}

async fn a_job_ends_as_its_handler_says(language: Language) {
    let site = Site::new(Backend::Embedded, "").with_hog_in(
        language,
        "acme",
        "[retry]\nmax_attempts = 4\nbackoff = { base = \"10ms\" }",
    );
    let (broker, acme) = (site.broker().await, tenant("acme"));
    let _daemon = site.daemon();

    let raw =
        run(&*broker, &acme, NewJob { payload: b"\0no json\xff".to_vec(), ..hog_job("hog.echo", "") }).await;
    assert_eq!(raw.output.as_deref(), Some(&b"\0no json\xff"[..]));

    for told in [r#"{"transient": {"attempts": 2}}"#, r#"{"retry-after": {"ms": 10, "attempts": 2}}"#] {
        let record = run(&*broker, &acme, hog_job("hog.fail", told)).await;
        assert_eq!((record.state, record.attempts), (State::Succeeded, 3), "{told}: {:?}", record.message);
        assert_eq!(record.output.as_deref(), Some(&b"3"[..]));
    }
    let never = run(&*broker, &acme, hog_job("hog.fail", r#"{"transient": {}}"#)).await;
    assert_eq!((never.state, never.reason, never.attempts), (State::Dead, Some(Reason::Failed), 4));
    assert_eq!(never.message.as_deref(), Some("attempt 4 was told to fail"));

    let permanent = run(&*broker, &acme, hog_job("hog.fail", "\"permanent\"")).await;
    let malformed = run(&*broker, &acme, hog_job("hog.count", "{\"counter\":\n hunter2")).await;
    let unfit = run(&*broker, &acme, hog_job("hog.count", "{\"counter\": 7}")).await;
    for (record, says) in [(permanent, "for good"), (malformed, "line 2"), (unfit, "`hog.count`")] {
        let ended = (record.state, record.reason, record.attempts);
        assert_eq!(ended, (State::Dead, Some(Reason::FailedPermanently), 1), "{:?}", record.message);
        let message = record.message.expect("it says why");
        assert!(message.contains(says) && !message.contains("hunter2"), "{message}");
    }
}

async fn effects_happen_once_though_a_daemon_is_killed(language: Language) {
    const JOBS: u64 = 400;
    let leases = "[lease]\nttl = \"3s\"\nmargin = \"1s\"\nrenew_every = \"1s\"\nexpiries_max = 100\n";
    let site = Site::new(Backend::Embedded, leases).with_hog_in(
        language,
        "acme",
        "[retry]\nbackoff = { base = \"10ms\" }",
    );
    let (broker, acme) = (site.broker().await, tenant("acme"));
    let jobs: Vec<_> = (0..JOBS).map(|_| hog_job("hog.count", r#"{"counter": "runs"}"#)).collect();
    broker.enqueue(&acme, &jobs).await.expect("the broker is up");
    let mut daemon = site.daemon();
    settled(&*broker, &acme, |counts| counts[State::Succeeded] > JOBS / 8).await;
    daemon.kill();

    let _daemon = site.daemon();
    let counts = all_final(&*broker, &acme).await;
    assert_eq!(counts[State::Succeeded], JOBS, "{counts:?}");
    let (hog, runs) = (PluginName::parse("hog").expect("valid"), StateKey::parse("runs").expect("valid"));
    let counted = broker.state(&acme, &hog, &runs).await.expect("the broker is up");
    assert_eq!(counted, Some(JOBS.to_string().into_bytes()));

    let swap = |expected: Value, value: i64| json!({"key": "owner", "expected": expected, "value": value});
    for (payload, swapped) in
        [(swap(Value::Null, 1), true), (swap(Value::Null, 2), false), (swap(json!(1), 3), true)]
    {
        let found = output(&*broker, &acme, "hog.swap", &payload).await;
        assert_eq!(found, json!({"swapped": swapped}), "{payload}");
    }
    let spawn = json!({"kind": "hog.echo", "count": 20, "payload": "1", "unique_prefix": "u"});
    let ids = output(&*broker, &acme, "hog.spawn", &spawn).await;
    let ids: BTreeSet<&str> = ids.as_array().expect("a list").iter().filter_map(Value::as_str).collect();
    assert_eq!(ids.len(), 20);
    let counts = all_final(&*broker, &acme).await;
    assert_eq!(counts[State::Succeeded], JOBS + 3 + 1 + 20, "{counts:?}");
}

async fn what_a_failed_attempt_did_never_happened(language: Language) {
    let site = Site::new(Backend::Embedded, "").with_hog_in(language, "acme", "");
    let (broker, acme) = (site.broker().await, tenant("acme"));
    let _daemon = site.daemon();
    let (hog, note) = (PluginName::parse("hog").expect("valid"), StateKey::parse("note").expect("valid"));
    for (fails, jobs, noted) in [(true, 0, None), (false, 2, Some(b"\"kept\"".to_vec()))] {
        let job = hog_job("hog.note", &json!({"text": "kept", "fail": fails}).to_string());
        let record = run(&*broker, &acme, job.clone()).await;
        let counts = all_final(&*broker, &acme).await;
        assert_eq!(counts[State::Succeeded], jobs, "it, and the one that it enqueued: {counts:?}");
        assert_eq!(broker.state(&acme, &hog, &note).await.expect("the broker is up"), noted);
        // What was seen while it ran stays.
        assert_eq!(record.progress.and_then(|progress| progress.message).as_deref(), Some("kept"));
        assert_eq!(broker.log(&acme, job.id).await.expect("the broker is up").len(), 1);
    }
}

async fn each_misbehaviour_has_an_end_of_its_own_and_the_next_job_runs(language: Language) {
    const GROWTH_MAX: u64 = 200 << 20;
    let limits = r#"
        [limits]
        fuel = 2_000_000_000
        memory = "64MiB"
        output = "1MiB"
        log = "64KiB"
        timeout = "60s"
        [retry]
        max_attempts = 1
    "#;
    let site = Site::new(Backend::Embedded, "").with_hog_in(language, "acme", limits);
    let (broker, acme) = (site.broker().await, tenant("acme"));
    let daemon = site.daemon();
    assert_eq!(output(&*broker, &acme, "hog.echo", &json!("first")).await, "first");
    let at_rest = daemon.resident();
    // An interpreter ends a recursion, and what would be a panic, by an exception of the language.
    let (recursion, panic) = match language {
        Language::Rust => ((Reason::StackOverflow, "engine.stack"), (Reason::Trapped, "unreachable")),
        Language::JavaScript => {
            ((Reason::Failed, "too much recursion"), (Reason::Failed, "TypeError: the hog was told to"))
        }
        Language::Python => (
            (Reason::Failed, "maximum recursion depth"),
            (Reason::Failed, "AssertionError: the hog was told to"),
        ),
    };
    let cases = [
        ("hog.spin", "{}", (Reason::OutOfFuel, "2000000000 units; raise limits.fuel of plugin acme/hog")),
        ("hog.allocate", "{}", (Reason::OutOfMemory, "64MiB; raise limits.memory of plugin acme/hog")),
        ("hog.recurse", "{}", recursion),
        ("hog.panic", "{}", panic),
        (
            "hog.output",
            r#"{"bytes": 2097152}"#,
            (Reason::TooMuchOutput, "1MiB; raise limits.output of plugin acme/hog"),
        ),
        ("hog.log", "{}", (Reason::TooMuchLog, "raise limits.log of plugin acme/hog")),
    ];
    for (kind, payload, (reason, says)) in cases {
        let record = run(&*broker, &acme, hog_job(kind, payload)).await;
        let message = record.message.unwrap_or_default();
        assert_eq!((record.state, record.reason), (State::Dead, Some(reason)), "{kind}: {message}");
        assert!(message.contains(says), "{kind}: {message}");
        assert!(record.usage.fuel.0 > 0, "{kind}: what it spent is recorded");
        assert_eq!(output(&*broker, &acme, "hog.echo", &json!("still here")).await, "still here");
        let grown = daemon.resident().saturating_sub(at_rest);
        assert!(grown < GROWTH_MAX, "{kind}: the daemon has grown by {grown} bytes");
    }
}

async fn a_timeout_or_a_cancellation_ends_what_would_go_on(language: Language) {
    let endless = "[limits]\nfuel = 1_000_000_000_000\ntimeout = \"10m\"\n";
    let brief = endless.replace("10m", "500ms");
    let site = Site::new(Backend::Embedded, endless)
        .with_hog_in(language, "acme", &format!("{brief}[retry]\nmax_attempts = 1"))
        .with_hog_in(language, "globex", endless);
    let (broker, acme, globex) = (site.broker().await, tenant("acme"), tenant("globex"));
    let _daemon = site.daemon();
    for (kind, payload) in [("hog.spin", "{}"), ("hog.sleep", r#"{"ms": 600000}"#)] {
        let record = run(&*broker, &acme, hog_job(kind, payload)).await;
        assert_eq!((record.state, record.reason), (State::Dead, Some(Reason::TimedOut)), "{kind}");

        let cancelled = hog_job(kind, payload);
        broker.enqueue(&globex, std::slice::from_ref(&cancelled)).await.expect("the broker is up");
        settled(&*broker, &globex, |counts| counts[State::Leased] == 1).await;
        broker.cancel(&globex, cancelled.id).await.expect("the broker is up");
        assert_eq!(finished(&*broker, &globex, cancelled.id).await.state, State::Cancelled, "{kind}");
    }
}

async fn log_lines_are_kept_with_the_job(language: Language) {
    let site = Site::new(Backend::Embedded, "").with_hog_in(language, "acme", "[retry]\nmax_attempts = 1");
    let (broker, acme) = (site.broker().await, tenant("acme"));
    let _daemon = site.daemon();
    let job = hog_job("hog.log", r#"{"lines": 4}"#);
    assert_eq!(run(&*broker, &acme, job.clone()).await.state, State::Succeeded);
    let lines = broker.log(&acme, job.id).await.expect("the broker is up");
    assert_eq!(lines.len(), 4, "{lines:?}");
    assert!(lines.iter().all(|line| line.message == "the hog has a lot to say" && line.level == Level::Info));
    assert_eq!(lines[2].fields, [("line".to_owned(), "2".to_owned())]);

    let panic = hog_job("hog.panic", r#"{"message": "by order"}"#);
    assert_eq!(run(&*broker, &acme, panic.clone()).await.state, State::Dead);
    let lines = broker.log(&acme, panic.id).await.expect("the broker is up");
    let why = lines.iter().find(|line| line.level == Level::Error).expect("what ended it is in the log");
    assert!(why.message.contains("by order") && why.fields.len() == 1, "and where it happened: {why:?}");
    // An interpreter looks for directories at its start; a failure that isn't about a file has nothing to do with them.
    assert!(!lines.iter().any(|line| line.message.contains("looked for directories")), "{lines:?}");
}

async fn what_is_granted_is_there_and_nothing_else(language: Language) {
    let granted = tempfile::tempdir().expect("a folder");
    let hidden = tempfile::tempdir().expect("a folder");
    fs::write(granted.path().join("a.txt"), "hello").expect("a file");
    fs::write(hidden.path().join("b.txt"), "hunter2").expect("a file");
    symlink(hidden.path(), granted.path().join("way-out")).expect("a link");
    let secrets = hidden.path().join("token");
    fs::write(&secrets, "s3cr3t-v4lu3").expect("a file");
    let grants = format!(
        "[grants]\ndirs = [{{ host = {:?}, guest = \"/in\", access = \"read\" }}]\nsecrets = [\"TOKEN\"]\n\
         [secrets]\nTOKEN = {{ file = {secrets:?} }}\n",
        granted.path()
    );
    let site = Site::new(Backend::Embedded, "")
        .with_hog_in(language, "acme", &grants)
        .with_hog_in(language, "globex", "");
    let broker = site.broker().await;
    let mut daemon = site.daemon();

    let (acme, globex) = (tenant("acme"), tenant("globex"));
    let ask = async |of: &TenantId, kind, payload: Value| output(&*broker, of, kind, &payload).await;
    assert_eq!(ask(&acme, "hog.secret", json!({"name": "TOKEN"})).await, json!({"bytes": 12}));
    let read = async |of: &TenantId, path: &str| {
        run(&*broker, of, hog_job("hog.read", &json!({"path": path}).to_string())).await
    };
    assert_eq!(read(&acme, "/in/a.txt").await.output.as_deref(), Some(&b"hello"[..]));
    for (of, name) in [(&acme, "OTHER"), (&globex, "TOKEN")] {
        let refused = ask(of, "hog.secret", json!({"name": name})).await;
        let why = refused["refused"].as_str().unwrap_or_else(|| panic!("{name} of {of}: {refused}"));
        assert!(why.contains(&format!("secrets = [\"{name}\"]")), "it names the line to add: {why}");
    }
    let beside = hidden.path().join("b.txt");
    let climbing = format!("/in/../..{}", beside.display());
    for (of, path) in [
        (&acme, "/in/way-out/b.txt"),
        (&acme, beside.to_str().expect("a path")),
        (&acme, &climbing),
        (&acme, "/etc/passwd"),
        (&globex, "/in/a.txt"),
    ] {
        let refused = read(of, path).await;
        assert_eq!((refused.state, refused.reason), (State::Dead, Some(Reason::FailedPermanently)), "{path}");
    }
    assert!(!daemon.log().iter().any(|line| line.contains("s3cr3t")), "a secret is in no log");
}

async fn nothing_is_left_for_the_next_job(language: Language) {
    let site = Site::new(Backend::Embedded, "").with_hog_in(language, "acme", "");
    let (broker, acme) = (site.broker().await, tenant("acme"));
    let _daemon = site.daemon();
    for _ in 0..5 {
        assert_eq!(output(&*broker, &acme, "hog.remember", &Value::Null).await, 1);
    }
}

async fn its_kinds_are_declared_and_held_against_its_toml(language: Language) {
    let site = Site::new(Backend::Embedded, "").with_hog_in(language, "acme", "");
    let toml = site.path().join("plugins.d/hog-acme.toml");
    let text = fs::read_to_string(&toml).expect("it is there");
    let wasm = text.lines().find_map(|line| line.strip_prefix("component = ")).expect("it names a component");
    let wasm = wasm.trim_matches('"');
    let inspect = || {
        let said = site.sandhog(&["--json", "plugin", "inspect", wasm, "--plugin", &toml.to_string_lossy()]);
        (said.status.code(), serde_json::from_slice::<Value>(&said.stdout).expect("JSON"))
    };
    let (code, document) = inspect();
    let declared = document["kinds"].as_array().expect("they are declared");
    assert!(
        ["hog.echo", "hog.play", "hog.spin"].iter().all(|kind| declared.contains(&json!(kind))),
        "{document}"
    );
    assert_eq!((code, &document["kinds_differ"]["unhandled"]), (Some(0), &json!([])));

    let (broker, acme) = (site.broker().await, tenant("acme"));
    let mut daemon = site.daemon();
    if language == Language::Rust {
        daemon.has_said("has handlers of kinds that plugin.kinds doesn't list");
    }
    fs::write(&toml, text.replace("\"hog.echo\"", "\"hog.echo\", \"hog.ehco\"")).expect("a file");
    let (code, document) = inspect();
    assert_eq!((code, &document["kinds_differ"]["unhandled"]), (Some(1), &json!(["hog.ehco"])));
    let checked = site.sandhog(&["check", "--offline"]);
    let said = String::from_utf8_lossy(&checked.stderr).into_owned();
    assert!(!checked.status.success() && said.contains("no handler of `hog.ehco`"), "{said}");
    // The daemon has seen it too, or does so now; what is in force stays.
    site.sandhog(&["reload"]);
    let standing = site.standing("hog");
    let message = standing["message"].as_str().unwrap_or_default();
    assert!(standing["state"] == "failed" && message.contains("no handler of `hog.ehco`"), "{standing}");
    assert_eq!(output(&*broker, &acme, "hog.echo", &json!("still here")).await, "still here");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_below_what_an_interpreter_needs_is_named() {
    for language in [Language::JavaScript, Language::Python] {
        for (limit, reason) in
            [("memory = \"8MiB\"", Reason::OutOfMemory), ("fuel = 100_000", Reason::OutOfFuel)]
        {
            let site =
                Site::new(Backend::Embedded, "").with_hog_in(language, "acme", &format!("[limits]\n{limit}"));
            let (broker, acme) = (site.broker().await, tenant("acme"));
            let _daemon = site.daemon();
            let record = run(&*broker, &acme, hog_job("hog.echo", "1")).await;
            let message = record.message.unwrap_or_default();
            assert_eq!((record.state, record.reason), (State::Dead, Some(reason)), "{language:?}: {message}");
            let knob = limit.split(' ').next().expect("a key");
            assert!(message.contains(&format!("raise limits.{knob} of plugin acme/hog")), "{message}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fetch_of_javascript_goes_only_where_it_is_granted() {
    let web = Web::start(|_| Reply::Body(b"hello".to_vec())).await;
    let host = format!("127.0.0.1:{}", web.port());
    let site = Site::new(Backend::Embedded, "")
        .with_hog_in(
            Language::JavaScript,
            "acme",
            &format!("[grants]\nhttp = [{{ to = \"{host}\", private = \"allow\" }}]"),
        )
        .with_hog_in(Language::JavaScript, "globex", "");
    let (broker, acme, globex) = (site.broker().await, tenant("acme"), tenant("globex"));
    let _daemon = site.daemon();
    let get = json!({"url": format!("http://{host}/")});
    let got = output(&*broker, &acme, "hog.fetch", &get).await;
    assert_eq!(got, json!({"status": 200, "body": "hello"}));

    let job = hog_job("hog.fetch", &get.to_string());
    let refused = run(&*broker, &globex, job.clone()).await;
    assert_eq!((refused.state, refused.reason), (State::Dead, Some(Reason::FailedPermanently)));
    let log = broker.log(&globex, job.id).await.expect("the broker is up");
    let line = format!("add `http = [\"{host}\"]` under [grants] of plugin globex/hog");
    assert!(log.iter().any(|entry| entry.message.contains(&line)), "{log:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn mails_are_rendered_from_a_granted_folder_and_handed_on() {
    let templates = tempfile::tempdir().expect("a folder");
    fs::write(templates.path().join("welcome.md"), "# Welcome, {{name}}\n\nYou have **{{plan}}**.\n")
        .expect("a file");
    let grants = format!(
        "kinds = [\"mail.render\"]\nqueue = \"hogs\"\n\n[grants]\ndirs = [{{ host = {:?}, guest = \"/templates\", access = \"read\" }}]",
        templates.path()
    );
    let site = Site::new(Backend::Embedded, "").with_hog("acme", "").with_plugin(
        "mail",
        "acme",
        &component("mail"),
        &grants,
    );
    let (broker, acme) = (site.broker().await, tenant("acme"));
    let _daemon = site.daemon();
    let payload = json!({
        "to": "ann@example.org", "file": "/templates/welcome.md", "values": {"name": "Ann <b>", "plan": "gold"},
        "send": "hog.echo",
    });
    let mail = output(&*broker, &acme, "mail.render", &payload).await;
    assert_eq!(mail["subject"], "Welcome, Ann <b>");
    assert_eq!(mail["html"], "<h1>Welcome, Ann &lt;b&gt;</h1>\n<p>You have <strong>gold</strong>.</p>\n");
    let counts = all_final(&*broker, &acme).await;
    assert_eq!(counts[State::Succeeded], 2, "the mail was handed on: {counts:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn invoices_added_up_at_the_same_time_have_numbers_without_gaps() {
    const INVOICES: usize = 40;
    let site = Site::new(Backend::Embedded, "").with_plugin(
        "invoice",
        "acme",
        &component("invoice"),
        "kinds = [\"invoice.total\"]\nqueue = \"hogs\"\n\n[retry]\nmax_attempts = 1000\nbackoff = { base = \"10ms\", max = \"50ms\" }",
    );
    let (broker, acme) = (site.broker().await, tenant("acme"));
    let _daemon = site.daemon();
    let payload = json!({"customer": "Globex", "currency": "EUR", "lines": [
        {"text": "Digging", "quantity": "7.5", "price": "85.00", "vat": "19", "discount": "10"},
    ]});
    let jobs: Vec<_> = (0..INVOICES).map(|_| hog_job("invoice.total", &payload.to_string())).collect();
    broker.enqueue(&acme, &jobs).await.expect("the broker is up");
    let mut numbers = BTreeSet::new();
    for job in &jobs {
        let record = finished(&*broker, &acme, job.id).await;
        let invoice: Value = serde_json::from_slice(&record.output.expect("it succeeded")).expect("JSON");
        assert_eq!((&invoice["net"], &invoice["gross"]), (&json!("573.75"), &json!("682.76")));
        let number = invoice["number"].as_str().and_then(|number| number.rsplit('-').next()?.parse().ok());
        numbers.insert(number.expect("a number"));
    }
    assert_eq!(numbers, (1..=INVOICES).collect());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_in_c_counts_the_words_of_a_granted_file() {
    let texts = tempfile::tempdir().expect("a folder");
    fs::write(texts.path().join("call.txt"), "Call me Ishmael.\nSome years ago\n").expect("a file");
    let grants = format!(
        "kinds = [\"text.count\"]\nqueue = \"hogs\"\n\n[grants]\ndirs = [{{ host = {:?}, guest = \"/texts\", access = \"read\" }}]",
        texts.path()
    );
    let site =
        Site::new(Backend::Embedded, "").with_plugin("wordcount", "acme", &component("wordcount"), &grants);
    let (broker, acme) = (site.broker().await, tenant("acme"));
    let _daemon = site.daemon();
    let job = hog_job("text.count", "/texts/call.txt");
    let record = run(&*broker, &acme, job.clone()).await;
    let counts = record.output.unwrap_or_else(|| panic!("{:?}", record.message));
    assert_eq!(counts, br#"{"lines": 2, "words": 6, "bytes": 32}"#);
    let lines = broker.log(&acme, job.id).await.expect("the broker is up");
    assert_eq!(lines[0].message, "counted /texts/call.txt", "what it prints is in the job's log");

    let hidden = run(&*broker, &acme, hog_job("text.count", "/etc/passwd")).await;
    assert_eq!((hidden.state, hidden.reason), (State::Dead, Some(Reason::FailedPermanently)));
    assert!(
        hidden.message.is_some_and(|message| message.contains("/etc/passwd") && message.contains("`dirs`"))
    );
}
