//! Daemons that are killed in the middle of their work.

use sandhog_core::id::{PluginName, StateKey};
use sandhog_core::job::State;
use sandhog_tests::{Backend, Daemon, Fsync, Site, all_final, finished, hog_job, settled, tenant};

const JOBS: u64 = 10_000;

/// Leases of a killed daemon run out soon, so that the test needn't wait half a minute for them.
const SHORT_LEASES: &str =
    "[lease]\nttl = \"3s\"\nmargin = \"1s\"\nrenew_every = \"1s\"\nexpiries_max = 100\n";

/// Ten thousand jobs each add 1 to a counter while their daemons are killed: each of them succeeds, and each has counted
/// exactly once, however often it ran.
async fn counted_exactly_once(backend: Backend) {
    let site = Site::new(backend, SHORT_LEASES).with_hog("acme", "[limits]\nconcurrency = 64");
    let (broker, acme) = (site.broker().await, tenant("acme"));
    let jobs: Vec<_> = (0..JOBS).map(|_| hog_job("hog.count", r#"{"counter": "runs"}"#)).collect();
    for batch in jobs.chunks(1000) {
        broker.enqueue(&acme, batch).await.expect("the broker is up");
    }
    for share in [1, 3, 5] {
        let mut daemon = site.daemon();
        let so_far = JOBS * share / 8;
        settled(&*broker, &acme, |counts| counts[State::Succeeded] >= so_far).await;
        daemon.kill();
    }
    let counts = settled(&*broker, &acme, |counts| counts[State::Succeeded] < JOBS).await;
    assert!(counts[State::Succeeded] < JOBS, "the last daemon was killed before all was done: {counts:?}");
    let _daemon = site.daemon();
    let counts = all_final(&*broker, &acme).await;
    assert_eq!(counts[State::Succeeded], JOBS, "{counts:?}");
    let (hog, runs) = (PluginName::parse("hog").expect("valid"), StateKey::parse("runs").expect("valid"));
    let counted = broker.state(&acme, &hog, &runs).await.expect("the broker is up");
    assert_eq!(counted, Some(JOBS.to_string().into_bytes()));
}

/// A wake goes to one of those that wait. Those that were killed are told in vain, and the one that is left finds what they
/// were told of.
#[tokio::test(flavor = "multi_thread")]
async fn what_daemons_were_told_of_that_had_been_killed_is_run_by_another() {
    let site = Site::new(Backend::Redis(Fsync::EverySecond), "").with_hog("acme", "");
    let (broker, acme) = (site.broker().await, tenant("acme"));
    let mut daemons = [site.daemon(), site.daemon(), site.daemon()];
    for nth in 0..12 {
        let job = hog_job("hog.echo", "1");
        broker.enqueue(&acme, std::slice::from_ref(&job)).await.expect("the broker is up");
        assert_eq!(finished(&*broker, &acme, job.id).await.state, State::Succeeded);
        if nth == 3 {
            daemons.iter_mut().skip(1).for_each(Daemon::kill);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_daemons_on_redis_lose_nothing_and_repeat_no_effect() {
    counted_exactly_once(Backend::Redis(Fsync::Always)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_daemons_on_the_embedded_broker_lose_nothing_and_repeat_no_effect() {
    counted_exactly_once(Backend::Embedded).await;
}
