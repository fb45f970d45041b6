//! Limits as an operator writes them: each in the TOML of a plugin or a tenant, and a handler that hits it.

use std::fs;

use sandhog_core::job::{NewJob, State};
use sandhog_core::reason::Reason;
use sandhog_tests::{
    Backend, Fsync, Site, all_final, component, finished, hog_job, settled, tenant, with_section,
};

const ONCE: &str = "[retry]\nmax_attempts = 1\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_that_a_plugin_sets_holds_for_its_runs_alone() {
    let cases = [
        ("instances", "instances = 1", "hog.echo", "1", Reason::TooManyInstances),
        ("host-calls", "host_calls = 100", "hog.log", "{}", Reason::TooManyHostCalls),
        (
            "enqueues",
            "enqueues = 2",
            "hog.spawn",
            r#"{"kind": "hog.echo", "count": 3}"#,
            Reason::TooManyEnqueues,
        ),
        ("state-writes", "state_writes = 0", "hog.count", r#"{"counter": "n"}"#, Reason::TooManyStateWrites),
        ("effects", "effects = \"10B\"", "hog.count", r#"{"counter": "n"}"#, Reason::TooManyEffects),
        ("payload", "payload = \"4B\"", "hog.echo", "\"too long\"", Reason::PayloadTooLarge),
    ];
    let mut site = Site::new(Backend::Embedded, "").with_hog("neighbour", ONCE);
    for (name, limit, ..) in cases {
        site = site.with_hog(name, &format!("[limits]\n{limit}\n{ONCE}"));
    }
    let (broker, neighbour) = (site.broker().await, tenant("neighbour"));
    let _daemon = site.daemon();
    for (name, limit, kind, payload, reason) in cases {
        let (own, job, same) = (tenant(name), hog_job(kind, payload), hog_job(kind, payload));
        broker.enqueue(&own, std::slice::from_ref(&job)).await.expect("the broker is up");
        let record = finished(&*broker, &own, job.id).await;
        let message = record.message.expect("it says why");
        assert_eq!((record.state, record.reason), (State::Dead, Some(reason)), "{name}: {message}");
        let key = limit.split(' ').next().expect("a key");
        assert!(message.contains(&format!("raise limits.{key}")), "{name}: {message}");
        // With the usual limits the same job succeeds, unless it has no end.
        if kind != "hog.log" {
            broker.enqueue(&neighbour, std::slice::from_ref(&same)).await.expect("the broker is up");
            let record = finished(&*broker, &neighbour, same.id).await;
            assert_eq!(record.state, State::Succeeded, "{name}: {:?}", record.message);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_that_a_tenant_has_no_more_of_is_there_when_its_other_runs_have_ended() {
    let daemon_file =
        "[limits]\nfuel = 1_000_000_000_000\n[tenants.acme]\nmemory = \"2MiB\"\n[tenants.globex]\n";
    let patient = "[limits]\nfuel = 1_000_000_000_000\n[retry]\nmax_attempts = 1000\nbackoff = { base = \"50ms\", factor = 1.0 }\n";
    let site =
        Site::new(Backend::Embedded, daemon_file).with_hog("acme", patient).with_hog("globex", patient);
    let (broker, acme, globex) = (site.broker().await, tenant("acme"), tenant("globex"));
    let mut daemon = site.daemon();
    // A hog has a little more than 1 MiB: there is room for one at a time.
    let (spin, second, other) =
        (hog_job("hog.spin", "{}"), hog_job("hog.echo", "1"), hog_job("hog.echo", "2"));
    broker.enqueue(&acme, std::slice::from_ref(&spin)).await.expect("the broker is up");
    settled(&*broker, &acme, |counts| counts[State::Leased] == 1).await;
    broker.enqueue(&acme, std::slice::from_ref(&second)).await.expect("the broker is up");
    daemon.wait_for("tenant-out-of-memory");
    broker.enqueue(&globex, std::slice::from_ref(&other)).await.expect("the broker is up");
    assert_eq!(
        finished(&*broker, &globex, other.id).await.state,
        State::Succeeded,
        "its neighbour has its own"
    );
    let record = broker.job(&acme, second.id).await.expect("the broker is up").expect("it is there");
    assert!(!record.state.is_final(), "it is tried again: {record:?}");
    broker.cancel(&acme, spin.id).await.expect("the broker is up");
    let record = finished(&*broker, &acme, second.id).await;
    assert_eq!(record.state, State::Succeeded, "{:?}", record.message);
    assert!(record.attempts > 1, "it had no memory at first");
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_that_never_end_leave_other_tenants_their_part_of_the_daemon() {
    let endless = "[limits]\nfuel = 1_000_000_000_000\ntimeout = \"10m\"";
    let daemon_file = format!("concurrency = 8\n\n{endless}");
    let site = Site::new(Backend::Embedded, &daemon_file).with_hog("greedy", endless).with_hog("quick", "");
    let (broker, greedy, quick) = (site.broker().await, tenant("greedy"), tenant("quick"));
    let _daemon = site.daemon();
    // Half of the slots for whoever comes first, and half of the rest.
    let spins: Vec<_> = (0..20).map(|_| hog_job("hog.spin", "{}")).collect();
    broker.enqueue(&greedy, &spins).await.expect("the broker is up");
    settled(&*broker, &greedy, |counts| counts[State::Leased] == 6).await;
    let jobs: Vec<_> = (0..20).map(|n| hog_job("hog.echo", &n.to_string())).collect();
    broker.enqueue(&quick, &jobs).await.expect("the broker is up");
    for job in &jobs {
        assert_eq!(finished(&*broker, &quick, job.id).await.state, State::Succeeded);
    }
    assert_eq!(
        broker.counts(&greedy).await.expect("the broker is up")[State::Leased],
        6,
        "the hogs still spin"
    );
}

/// Two daemons have room for three runs of the tenant each, and the plugin may have four: more than one of them, and less than both.
#[tokio::test(flavor = "multi_thread")]
async fn a_plugins_limit_above_what_one_daemon_has_room_for_holds_on_all_of_them() {
    let patient = "[limits]\ntimeout = \"10m\"\n";
    let hog = component("hog");
    let limited = format!("kinds = [\"hog.sleep\"]\nqueue = \"hogs\"\n\n{patient}concurrency = 4\n");
    let site =
        Site::new(Backend::Redis(Fsync::EverySecond), &format!("{patient}[tenants.acme]\nconcurrency = 3\n"))
            .with_plugin("limited", "acme", &hog, &limited)
            .with_plugin("other", "acme", &hog, "kinds = [\"hog.echo\"]\nqueue = \"hogs\"\n");
    let (broker, acme) = (site.broker().await, tenant("acme"));
    let sleeps: Vec<_> = (0..20).map(|_| hog_job("hog.sleep", "{\"ms\": 500000}")).collect();
    broker.enqueue(&acme, &sleeps).await.expect("the broker is up");
    let _daemons = [site.daemon(), site.daemon()];
    settled(&*broker, &acme, |counts| counts[State::Leased] == 4).await;
    // Those behind them in the queue are run, in the room that is left: so daemons have asked for more, and got none of these.
    let echoes: Vec<_> = (0..20).map(|n| hog_job("hog.echo", &n.to_string())).collect();
    broker.enqueue(&acme, &echoes).await.expect("the broker is up");
    for job in &echoes {
        assert_eq!(finished(&*broker, &acme, job.id).await.state, State::Succeeded);
    }
    let counts = settled(&*broker, &acme, |counts| counts[State::Succeeded] == 20).await;
    assert_eq!((counts[State::Leased], counts[State::Ready]), (4, 16), "{counts:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_kept_of_the_memory_of_runs_is_bounded_over_all_components() {
    const IDLE: u64 = 16 << 20;
    /// What a daemon takes for itself in the course of this, generously.
    const OWN: u64 = 16 << 20;
    let daemon = "concurrency = 8\nidle_memory = \"16MiB\"\n";
    let site = Site::new(Backend::Embedded, daemon);
    let hog = fs::read(component("hog")).expect("it was built");
    // Each takes 8 MiB in each of eight places, and another one takes other places.
    let deploy = |n: u64| {
        let revision = with_section(&hog, &n.to_string());
        site.plugin("hog", &revision, &["hog.allocate"], "[limits]\nmemory = \"16MiB\"\n");
    };
    deploy(1);
    let (broker, acme) = (site.broker().await, tenant("acme"));
    let daemon = site.daemon();
    let at_rest = daemon.anonymous();
    for n in 1..=4 {
        let jobs: Vec<NewJob> = (0..100).map(|_| hog_job("hog.allocate", r#"{"bytes": 8388608}"#)).collect();
        broker.enqueue(&acme, &jobs).await.expect("the broker is up");
        assert_eq!(all_final(&*broker, &acme).await[State::Succeeded], 100 * n);
        let kept = daemon.anonymous().saturating_sub(at_rest);
        assert!(kept < IDLE + OWN, "after {n} revisions it keeps {kept} bytes");
        deploy(n + 1);
        site.json(&["reload"]);
    }
}
