//! Redis goes away in the middle of work, and comes back.

use std::time::Duration;

use sandhog_core::id::{PluginName, StateKey};
use sandhog_core::job::State;
use sandhog_tests::{Backend, Fsync, Site, all_final, hog_job, settled, tenant};

const JOBS: u64 = 2_000;

/// Longer than any lease holds, so that every run that was under way has to be stopped and run again.
const GONE_FOR: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn redis_gone_for_half_a_minute_costs_nothing_but_time() {
    let leases = "[lease]\nttl = \"10s\"\nmargin = \"2s\"\nrenew_every = \"2s\"\n";
    let mut site =
        Site::new(Backend::Redis(Fsync::Always), leases).with_hog("acme", "[limits]\nconcurrency = 16");
    let (broker, acme) = (site.broker().await, tenant("acme"));
    let mut jobs: Vec<_> = (0..JOBS).map(|_| hog_job("hog.count", r#"{"counter": "runs"}"#)).collect();
    jobs.extend((0..8).map(|_| hog_job("hog.sleep", r#"{"ms": 3000}"#)));
    let mut daemon = site.daemon();
    broker.enqueue(&acme, &jobs).await.expect("the broker is up");
    settled(&*broker, &acme, |counts| counts[State::Succeeded] > 100).await;

    site.redis().kill();
    daemon.wait_for("waiting for the broker");
    // The outage itself is what is under test: its length, not an event, is what matters.
    tokio::time::sleep(GONE_FOR).await;
    site.redis().restart();
    daemon.wait_for("the broker is back");

    let more = hog_job("hog.count", r#"{"counter": "runs"}"#);
    while broker.enqueue(&acme, std::slice::from_ref(&more)).await.is_err() {}
    let counts = all_final(&*broker, &acme).await;
    assert_eq!(counts[State::Succeeded], JOBS + 9, "{counts:?}");
    let (hog, runs) = (PluginName::parse("hog").expect("valid"), StateKey::parse("runs").expect("valid"));
    let counted = broker.state(&acme, &hog, &runs).await.expect("the broker is up");
    assert_eq!(counted, Some((JOBS + 1).to_string().into_bytes()));
    let said = daemon.log().iter().filter(|line| line.contains("waiting for the broker;")).count();
    assert!(said < 10, "the log isn't flooded: {said} lines");
}
