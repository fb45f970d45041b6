//! The queues of one tenant beside each other.

use sandhog_core::id::QueueName;
use sandhog_core::job::{NewJob, State};
use sandhog_tests::{Backend, Site, component, finished, hog_job, tenant};

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_never_runs_dry_keeps_no_other_one_waiting() {
    let hog = component("hog");
    let site = Site::new(Backend::Embedded, "concurrency = 1")
        .with_plugin("busy", "acme", &hog, "kinds = [\"hog.sleep\"]\nqueue = \"a\"")
        .with_plugin("quick", "acme", &hog, "kinds = [\"hog.echo\"]\nqueue = \"b\"");
    let (broker, acme) = (site.broker().await, tenant("acme"));
    let into = |queue, job| NewJob { queue: QueueName::parse(queue).expect("a queue"), ..job };
    let backlog: Vec<_> = (0..500).map(|_| into("a", hog_job("hog.sleep", "{\"ms\": 50}"))).collect();
    let quick = into("b", hog_job("hog.echo", "1"));
    broker.enqueue(&acme, &backlog).await.expect("the broker is up");
    broker.enqueue(&acme, std::slice::from_ref(&quick)).await.expect("the broker is up");
    let _daemon = site.daemon();
    assert_eq!(finished(&*broker, &acme, quick.id).await.state, State::Succeeded);
    let counts = broker.counts(&acme).await.expect("the broker is up");
    assert!(counts[State::Ready] > 0, "it had to wait for all that came before: {counts:?}");
}
