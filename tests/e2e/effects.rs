//! What handlers do through the host: all of it when they succeed, none of it when they don't.

use std::time::Duration;

use sandhog_core::id::{PluginName, StateKey};
use sandhog_core::job::State;
use sandhog_core::reason::Reason;
use sandhog_tests::{Backend, Fsync, Site, all_final, finished, hog_job, tenant};

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_enqueues_jobs_that_run_and_a_retry_comes_back() {
    for backend in [Backend::Embedded, Backend::Redis(Fsync::Always)] {
        let site = Site::new(backend, "").with_hog("acme", "[retry]\nbackoff = { base = \"10ms\" }");
        let (broker, acme) = (site.broker().await, tenant("acme"));
        let _daemon = site.daemon();
        let spawn = hog_job("hog.spawn", r#"{"kind": "hog.echo", "count": 20, "payload": "1"}"#);
        let retried = hog_job("hog.fail", r#"{"transient": {"attempts": 2}}"#);
        let gives_up = hog_job("hog.fail", "\"permanent\"");
        broker.enqueue(&acme, &[spawn, retried.clone(), gives_up.clone()]).await.expect("the broker is up");
        let retried = finished(&*broker, &acme, retried.id).await;
        assert_eq!((retried.state, retried.attempts), (State::Succeeded, 3));
        let gives_up = finished(&*broker, &acme, gives_up.id).await;
        assert_eq!((gives_up.state, gives_up.reason), (State::Dead, Some(Reason::FailedPermanently)));
        let counts = all_final(&*broker, &acme).await;
        assert_eq!(counts[State::Succeeded], 22, "{counts:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_swaps_that_race_one_wins() {
    let site = Site::new(Backend::Redis(Fsync::Always), "")
        .with_hog("acme", "[retry]\nbackoff = { base = \"10ms\" }");
    let (broker, acme) = (site.broker().await, tenant("acme"));
    let _daemon = site.daemon();
    let swaps: Vec<_> = (0..30)
        .map(|n| hog_job("hog.swap", &format!(r#"{{"key": "owner", "expected": null, "value": {n}}}"#)))
        .collect();
    broker.enqueue(&acme, &swaps).await.expect("the broker is up");
    let mut winners = Vec::new();
    for (n, swap) in swaps.iter().enumerate() {
        let record = finished(&*broker, &acme, swap.id).await;
        let output = String::from_utf8(record.output.expect("it succeeded")).expect("text");
        if output.contains("true") {
            winners.push(n);
        }
    }
    let (hog, owner) = (PluginName::parse("hog").expect("valid"), StateKey::parse("owner").expect("valid"));
    let stored = broker.state(&acme, &hog, &owner).await.expect("the broker is up").expect("one has won");
    assert_eq!(winners.len(), 1);
    assert_eq!(stored, winners[0].to_string().into_bytes());
}

/// What the broker refuses to settle as it is, is settled otherwise, and the log is that of the attempt all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_whose_effects_are_refused_keeps_its_log() {
    for backend in [Backend::Embedded, Backend::Redis(Fsync::Always)] {
        let site = Site::new(backend, "").with_hog("acme", "[retry]\nmax_attempts = 1");
        let (broker, acme) = (site.broker().await, tenant("acme"));
        let _daemon = site.daemon();
        let play = |step: &str| hog_job("hog.play", &format!(r#"{{"attempts": [[{step}]]}}"#));
        let sets = play(r#"{"set": {"key": "k", "value": "no number"}}"#);
        let adds = play(r#"{"increment": {"key": "k", "by": 1}}"#);
        for (job, state) in [(sets, State::Succeeded), (adds, State::Dead)] {
            broker.enqueue(&acme, std::slice::from_ref(&job)).await.expect("the broker is up");
            let record = finished(&*broker, &acme, job.id).await;
            assert_eq!(record.state, state, "{:?}", record.message);
            let log = broker.log(&acme, job.id).await.expect("the broker is up");
            let said: Vec<&str> = log.iter().map(|line| line.message.as_str()).collect();
            assert_eq!(said, ["answer"], "{state}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_daemon_hears_of_a_job_by_push_and_of_a_delayed_one_in_time() {
    for backend in [Backend::Embedded, Backend::Redis(Fsync::Always)] {
        let site = Site::new(backend, "").with_hog("acme", "");
        let (broker, acme) = (site.broker().await, tenant("acme"));
        let _daemon = site.daemon();
        let now = hog_job("hog.echo", "1");
        let mut later = hog_job("hog.echo", "2");
        later.delay = Duration::from_millis(300);
        broker.enqueue(&acme, &[later.clone(), now.clone()]).await.expect("the broker is up");
        let now = finished(&*broker, &acme, now.id).await;
        let later = finished(&*broker, &acme, later.id).await;
        let waited = later.leased_at.expect("it ran").since(later.enqueued_at);
        assert!(
            waited >= Duration::from_millis(300),
            "{backend:?}: it was started {waited:?} after it was enqueued"
        );
        assert!(now.finished_at < later.finished_at);
    }
}
