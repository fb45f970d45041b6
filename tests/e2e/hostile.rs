//! Handlers that misbehave: each ends with an outcome of its own, the daemon's memory stays bounded, the next job runs.

use sandhog_core::job::State;
use sandhog_core::reason::Reason;
use sandhog_tests::{Backend, Site, finished, hog_job, tenant};

const LIMITS: &str = r#"
[limits]
fuel = 500_000_000
memory = "32MiB"
output = "1MiB"
log = "64KiB"
timeout = "30s"

[retry]
max_attempts = 1
"#;

/// Beyond what the daemon has in use at rest, hostile guests may cost this much.
const GROWTH_MAX: u64 = 150 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn each_misbehaviour_has_an_end_of_its_own_and_the_next_job_runs() {
    let site = Site::new(Backend::Embedded, "").with_hog("acme", LIMITS);
    let (broker, acme) = (site.broker().await, tenant("acme"));
    let daemon = site.daemon();
    let at_rest = daemon.resident();
    let cases = [
        ("hog.spin", "{}", Reason::OutOfFuel, "500000000 units; raise limits.fuel of plugin acme/hog"),
        ("hog.allocate", "{}", Reason::OutOfMemory, "32MiB; raise limits.memory of plugin acme/hog"),
        ("hog.recurse", "{}", Reason::StackOverflow, "engine.stack"),
        ("hog.panic", "{}", Reason::Trapped, "unreachable"),
        (
            "hog.output",
            r#"{"bytes": 4194304}"#,
            Reason::TooMuchOutput,
            "1MiB; raise limits.output of plugin acme/hog",
        ),
        ("hog.log", "{}", Reason::TooMuchLog, "raise limits.log of plugin acme/hog"),
    ];
    for (kind, payload, reason, says) in cases {
        let (bad, next) = (hog_job(kind, payload), hog_job("hog.echo", "\"still here\""));
        broker.enqueue(&acme, &[bad.clone(), next.clone()]).await.expect("the broker is up");
        let record = finished(&*broker, &acme, bad.id).await;
        assert_eq!(
            (record.state, record.reason),
            (State::Dead, Some(reason)),
            "{kind}: {:?}",
            record.message
        );
        let message = record.message.expect("it says why");
        assert!(message.contains(says), "{kind}: {message}");
        assert!(record.usage.fuel.0 > 0, "{kind}: what it spent is recorded");
        let next = finished(&*broker, &acme, next.id).await;
        assert_eq!(next.output.as_deref(), Some(&b"\"still here\""[..]), "the job after {kind}");
        let grown = daemon.resident().saturating_sub(at_rest);
        assert!(grown < GROWTH_MAX, "{kind}: the daemon has grown by {grown} bytes");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_timeout_ends_a_guest_that_has_fuel_left_and_one_that_sleeps() {
    let limits = "[limits]\nfuel = 1_000_000_000_000\ntimeout = \"500ms\"\n[retry]\nmax_attempts = 1";
    let site = Site::new(Backend::Embedded, "[limits]\nfuel = 1_000_000_000_000").with_hog("acme", limits);
    let (broker, acme) = (site.broker().await, tenant("acme"));
    let _daemon = site.daemon();
    for (kind, payload) in [("hog.spin", "{}"), ("hog.sleep", r#"{"ms": 600000}"#)] {
        let job = hog_job(kind, payload);
        broker.enqueue(&acme, std::slice::from_ref(&job)).await.expect("the broker is up");
        let record = finished(&*broker, &acme, job.id).await;
        assert_eq!((record.state, record.reason), (State::Dead, Some(Reason::TimedOut)), "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hogs_of_one_tenant_dont_keep_anothers_jobs_from_running() {
    let endless = "[limits]\nfuel = 1_000_000_000_000\ntimeout = \"10m\"";
    let site = Site::new(Backend::Embedded, endless).with_hog("greedy", endless).with_hog("quick", "");
    let (broker, greedy, quick) = (site.broker().await, tenant("greedy"), tenant("quick"));
    let _daemon = site.daemon();
    let spins: Vec<_> = (0..8).map(|_| hog_job("hog.spin", "{}")).collect();
    broker.enqueue(&greedy, &spins).await.expect("the broker is up");
    let jobs: Vec<_> = (0..50).map(|n| hog_job("hog.echo", &n.to_string())).collect();
    broker.enqueue(&quick, &jobs).await.expect("the broker is up");
    for job in &jobs {
        assert_eq!(finished(&*broker, &quick, job.id).await.state, State::Succeeded);
    }
    for spin in &spins {
        let record = broker.job(&greedy, spin.id).await.expect("the broker is up").expect("it is there");
        assert_eq!(record.state, State::Leased, "the hogs still spin");
        broker.cancel(&greedy, spin.id).await.expect("the broker is up");
    }
    for spin in &spins {
        assert_eq!(finished(&*broker, &greedy, spin.id).await.state, State::Cancelled);
    }
}
