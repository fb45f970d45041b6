//! How a daemon stops.

use sandhog_core::job::State;
use sandhog_tests::{Backend, Fsync, Site, finished, hog_job, settled, tenant};

const ENDLESS: &str = "[limits]\nfuel = 1_000_000_000_000\ntimeout = \"10m\"\n";

#[tokio::test(flavor = "multi_thread")]
async fn what_runs_may_finish_within_the_grace_time_and_the_rest_is_given_back_unharmed() {
    for backend in [Backend::Embedded, Backend::Redis(Fsync::Always)] {
        let daemon_file = format!("[shutdown]\ngrace = \"3s\"\n{ENDLESS}");
        let site = Site::new(backend, &daemon_file).with_hog("acme", &format!("{ENDLESS}concurrency = 2"));
        let (broker, acme) = (site.broker().await, tenant("acme"));
        let (short, endless) = (hog_job("hog.sleep", r#"{"ms": 1000}"#), hog_job("hog.spin", "{}"));
        let waiting = hog_job("hog.echo", "1");
        broker
            .enqueue(&acme, &[short.clone(), endless.clone(), waiting.clone()])
            .await
            .expect("the broker is up");
        let mut daemon = site.daemon();
        settled(&*broker, &acme, |counts| counts[State::Leased] == 2).await;
        daemon.signal("TERM");
        assert_eq!(daemon.wait().code(), Some(0));

        let record = broker.job(&acme, short.id).await.expect("up").expect("there");
        assert_eq!(record.state, State::Succeeded, "{backend:?}: it had the time to finish");
        for job in [&endless, &waiting] {
            let record = broker.job(&acme, job.id).await.expect("up").expect("there");
            assert_eq!((record.state, record.attempts, record.expiries), (State::Ready, 0, 0), "{backend:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_stops_at_once_and_the_jobs_come_back() {
    let daemon_file = format!("[lease]\nttl = \"3s\"\nmargin = \"1s\"\nrenew_every = \"1s\"\n{ENDLESS}");
    let site = Site::new(Backend::Embedded, &daemon_file).with_hog("acme", ENDLESS);
    let (broker, acme) = (site.broker().await, tenant("acme"));
    let endless = hog_job("hog.spin", "{}");
    broker.enqueue(&acme, std::slice::from_ref(&endless)).await.expect("the broker is up");
    let mut daemon = site.daemon();
    settled(&*broker, &acme, |counts| counts[State::Leased] == 1).await;
    daemon.signal("TERM");
    daemon.wait_for("a further signal ends it at once");
    daemon.signal("TERM");
    assert_ne!(daemon.wait().code(), Some(0), "it was cut short, and says so");

    let _next = site.daemon();
    settled(&*broker, &acme, |counts| counts[State::Leased] == 1).await;
    broker.cancel(&acme, endless.id).await.expect("the broker is up");
    let record = finished(&*broker, &acme, endless.id).await;
    assert_eq!((record.state, record.attempts), (State::Cancelled, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_that_comes_twice_at_once_is_one() {
    let site = Site::new(Backend::Embedded, "").with_hog("acme", "");
    let (broker, acme) = (site.broker().await, tenant("acme"));
    let job = hog_job("hog.sleep", r#"{"ms": 2000}"#);
    broker.enqueue(&acme, std::slice::from_ref(&job)).await.expect("the broker is up");
    let mut daemon = site.daemon();
    settled(&*broker, &acme, |counts| counts[State::Leased] == 1).await;
    // As of a terminal and a supervisor.
    daemon.signal("INT");
    daemon.wait_for("draining");
    daemon.signal("TERM");
    daemon.signal("INT");
    assert_eq!(daemon.wait().code(), Some(0));
    let record = broker.job(&acme, job.id).await.expect("up").expect("there");
    assert_eq!(record.state, State::Succeeded, "it had its grace time");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_can_give_nothing_back_ends_soon_after_its_grace_time() {
    let daemon_file = format!("[shutdown]\ngrace = \"1s\"\n[lease]\nttl = \"10m\"\n{ENDLESS}");
    let mut site = Site::new(Backend::Redis(Fsync::EverySecond), &daemon_file).with_hog("acme", ENDLESS);
    let (broker, acme) = (site.broker().await, tenant("acme"));
    broker.enqueue(&acme, &[hog_job("hog.spin", "{}")]).await.expect("the broker is up");
    let mut daemon = site.daemon();
    settled(&*broker, &acme, |counts| counts[State::Leased] == 1).await;
    site.redis().kill();
    daemon.signal("TERM");
    daemon.wait_for("could not be given back in time");
    assert_eq!(daemon.wait().code(), Some(0));
}
