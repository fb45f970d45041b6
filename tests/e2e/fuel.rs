//! A tenant's fuel is used up.

use sandhog_broker::Counts;
use sandhog_core::budget::Fuel;
use sandhog_core::job::State;
use sandhog_core::reason::Reason;
use sandhog_tests::{Backend, Fsync, Site, all_final, finished, hog_job, once, settled, tenant};

/// So much that one run uses it up, and so little that none hits its own limit.
const QUOTA: &str = "per_day = 1_000_000\n";
const SPIN: &str = r#"{"rounds": 1000000}"#;

fn terms(on_empty: &str) -> String {
    format!("[tenants.acme]\nconcurrency = 1\n\n[tenants.acme.fuel]\n{QUOTA}on_empty = \"{on_empty}\"\n")
}

async fn jobs_wait_for_fuel(backend: Backend) {
    let site = Site::new(backend, &terms("hold")).with_hog("acme", "");
    let (broker, acme) = (site.broker().await, tenant("acme"));
    let mut daemon = site.daemon();
    let jobs: Vec<_> = (0..5).map(|_| hog_job("hog.spin", SPIN)).collect();
    broker.enqueue(&acme, &jobs).await.expect("the broker is up");
    let said = daemon.wait_for("fuel of this day is used up");
    assert!(said.contains("tenants.acme.fuel") && !said.contains("ERROR"), "{said}");
    let counts = settled(&*broker, &acme, |counts| counts[State::Leased] == 0).await;
    assert_eq!(
        counts,
        Counts::of(&[(State::Ready, 4), (State::Succeeded, 1)]),
        "no more than the one that was under way"
    );

    daemon.signal("TERM");
    assert!(daemon.wait().success());
    let text = std::fs::read_to_string(site.config()).expect("the file is there");
    std::fs::write(site.config(), text.replace("1_000_000", "100_000_000_000")).expect("it can be written");
    let _daemon = site.daemon();
    assert_eq!(all_final(&*broker, &acme).await, Counts::of(&[(State::Succeeded, 5)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_wait_for_fuel_on_redis() {
    jobs_wait_for_fuel(Backend::Redis(Fsync::EverySecond)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_wait_for_fuel_on_the_embedded_broker() {
    jobs_wait_for_fuel(Backend::Embedded).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_without_fuel_are_buried_if_that_is_chosen() {
    let site = Site::new(Backend::Embedded, &terms("reject")).with_hog("acme", "");
    let (broker, acme) = (site.broker().await, tenant("acme"));
    let _daemon = site.daemon();
    let jobs: Vec<_> = (0..3).map(|_| hog_job("hog.spin", SPIN)).collect();
    broker.enqueue(&acme, &jobs).await.expect("the broker is up");
    assert_eq!(all_final(&*broker, &acme).await, Counts::of(&[(State::Succeeded, 1), (State::Dead, 2)]));
    let record = finished(&*broker, &acme, jobs[2].id).await;
    assert_eq!((record.reason, record.usage.fuel), (Some(Reason::OutOfBudget), Fuel(0)));
    let message = record.message.expect("it says why");
    assert!(message.contains("raise tenants.acme.fuel.per_day"), "{message}");

    // What this daemon wouldn't run isn't its to bury.
    let elsewhere = hog_job("mail.send", "1");
    broker.enqueue(&acme, std::slice::from_ref(&elsewhere)).await.expect("the broker is up");
    let record = once(&*broker, &acme, elsewhere.id, |record| record.reason.is_some()).await;
    assert_eq!((record.state, record.reason), (State::Ready, Some(Reason::NoPlugin)));
}

/// With one thread for both, and ten thousand times the weight, the tenant without fuel comes last all the same.
#[tokio::test(flavor = "multi_thread")]
async fn jobs_without_fuel_give_way_to_other_tenants_if_that_is_chosen() {
    let config =
        format!("{}\n[tenants.globex]\n", terms("idle").replace("concurrency = 1", "weight = 10_000"));
    let site = Site::new(Backend::Embedded, &config).with_hog("acme", "").with_hog("globex", "");
    let text = std::fs::read_to_string(site.config()).expect("the file is there");
    std::fs::write(site.config(), text.replace("[engine]", "[engine]\nthreads = 1"))
        .expect("it can be written");
    let (broker, acme, globex) = (site.broker().await, tenant("acme"), tenant("globex"));
    let mut daemon = site.daemon();
    broker.enqueue(&acme, &[hog_job("hog.spin", SPIN)]).await.expect("the broker is up");
    all_final(&*broker, &acme).await;
    daemon.signal("TERM");
    assert!(daemon.wait().success());

    let (idle, normal) =
        (hog_job("hog.spin", r#"{"rounds": 100000000}"#), hog_job("hog.spin", r#"{"rounds": 200000000}"#));
    broker.enqueue(&globex, std::slice::from_ref(&normal)).await.expect("the broker is up");
    broker.enqueue(&acme, std::slice::from_ref(&idle)).await.expect("the broker is up");
    let mut daemon = site.daemon();
    daemon.wait_for("run when no other tenant wants the processors");
    let (idle, normal) =
        (finished(&*broker, &acme, idle.id).await, finished(&*broker, &globex, normal.id).await);
    assert_eq!((idle.state, normal.state), (State::Succeeded, State::Succeeded));
    assert!(idle.usage.fuel < normal.usage.fuel, "it had less to do");
    assert!(idle.finished_at > normal.finished_at, "{:?} {:?}", idle.finished_at, normal.finished_at);
}
