//! Somebody wants a running job cancelled.

use sandhog_core::job::State;
use sandhog_core::reason::Reason;
use sandhog_tests::{Backend, Fsync, Site, finished, hog_job, settled, tenant};

/// No lease is renewed by itself while the test lasts, and no limit ends the run: what ends it was told.
const NO_RENEWALS: &str = "[lease]\nttl = \"2h\"\nmargin = \"1s\"\nrenew_every = \"1h\"\n";

async fn a_run_ends_when_its_job_is_cancelled(backend: Backend) {
    let endless = "[limits]\nfuel = 9_000_000_000_000_000_000\ntimeout = \"1h\"";
    let limits = "[limits]\nfuel = 9_000_000_000_000_000_000\ntimeout = \"1h\"\n";
    let site = Site::new(backend, &format!("{NO_RENEWALS}{limits}")).with_hog("acme", endless);
    let (broker, acme) = (site.broker().await, tenant("acme"));
    let _daemon = site.daemon();
    let jobs = [hog_job("hog.spin", "{}"), hog_job("hog.spin", "{}")];
    broker.enqueue(&acme, &jobs).await.expect("the broker is up");
    settled(&*broker, &acme, |counts| counts[State::Leased] == 2).await;

    let cancelled = site.sandhog(&["job", "cancel", &jobs[0].id.to_string()]);
    assert!(cancelled.status.success(), "{}", String::from_utf8_lossy(&cancelled.stderr));
    let record = finished(&*broker, &acme, jobs[0].id).await;
    assert_eq!((record.state, record.reason), (State::Cancelled, Some(Reason::Cancelled)));
    let other = broker.job(&acme, jobs[1].id).await.expect("the broker is up").expect("it is there");
    assert_eq!(other.state, State::Leased, "nobody wanted that one cancelled");
    assert_eq!(
        other.lease_expires_at.map(|at| at.since(other.leased_at.expect("it is leased")).as_secs()),
        Some(7200)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_ends_when_its_job_is_cancelled_on_redis() {
    a_run_ends_when_its_job_is_cancelled(Backend::Redis(Fsync::EverySecond)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_ends_when_its_job_is_cancelled_on_the_embedded_broker() {
    a_run_ends_when_its_job_is_cancelled(Backend::Embedded).await;
}
