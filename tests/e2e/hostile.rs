//! Handlers that take all the time there is: others get their share. (What else handlers can do is in `tests/hostile`.)

use sandhog_core::job::State;
use sandhog_tests::{Backend, Site, finished, hog_job, tenant};

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
