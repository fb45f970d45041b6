//! A plugin's state is full, or its tenant's queues are.

use sandhog_broker::Counts;
use sandhog_core::id::{PluginName, StateKey};
use sandhog_core::job::State;
use sandhog_core::reason::Reason;
use sandhog_tests::{Backend, Fsync, Site, all_final, finished, hog_job, tenant};

async fn a_full_state_takes_no_more(backend: Backend) {
    let site = Site::new(backend, "").with_hog("acme", "[limits]\nstate_keys = 2\nconcurrency = 1");
    let (broker, acme) = (site.broker().await, tenant("acme"));
    let _daemon = site.daemon();
    let count = |name: &str| hog_job("hog.count", &format!(r#"{{"counter": "{name}"}}"#));
    let jobs = ["a", "b", "c", "a"].map(count);
    broker.enqueue(&acme, &jobs).await.expect("the broker is up");
    assert_eq!(all_final(&*broker, &acme).await, Counts::of(&[(State::Succeeded, 3), (State::Dead, 1)]));
    let refused = finished(&*broker, &acme, jobs[2].id).await;
    assert_eq!((refused.state, refused.reason, refused.attempts), (State::Dead, Some(Reason::StateFull), 1));
    let message = refused.message.expect("it says why");
    assert_eq!(message, "the state is full at 2 keys; raise limits.state_keys of plugin acme/hog");
    let hog = PluginName::parse("hog").expect("valid");
    for (name, value) in [("a", Some("2")), ("b", Some("1")), ("c", None)] {
        let key = StateKey::parse(name).expect("valid");
        let stored = broker.state(&acme, &hog, &key).await.expect("the broker is up");
        assert_eq!(stored.as_deref(), value.map(str::as_bytes), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_state_takes_no_more_on_redis() {
    a_full_state_takes_no_more(Backend::Redis(Fsync::EverySecond)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_state_takes_no_more_on_the_embedded_broker() {
    a_full_state_takes_no_more(Backend::Embedded).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_whose_jobs_find_no_room_in_the_queues_says_whose_bound_it_was() {
    let terms = "[tenants.acme.queue]\njobs = 2\n";
    let site = Site::new(Backend::Embedded, terms).with_hog("acme", "[retry]\nmax_attempts = 1\n");
    let (broker, acme) = (site.broker().await, tenant("acme"));
    let _daemon = site.daemon();
    let spawn = |count: u32| hog_job("hog.spawn", &format!(r#"{{"kind": "hog.echo", "count": {count}}}"#));
    let (few, many) = (spawn(2), spawn(3));
    for job in [&few, &many] {
        broker.enqueue(&acme, std::slice::from_ref(job)).await.expect("the broker is up");
        all_final(&*broker, &acme).await;
    }
    assert_eq!(finished(&*broker, &acme, few.id).await.state, State::Succeeded);
    let refused = finished(&*broker, &acme, many.id).await;
    assert_eq!((refused.state, refused.reason), (State::Dead, Some(Reason::QueueFull)));
    let message = refused.message.expect("it says why");
    assert!(message.contains("raise queue.jobs of tenants.acme"), "{message}");
    assert_eq!(broker.counts(&acme).await.expect("the broker is up")[State::Succeeded], 3);
}
