//! A guest is ended with no help from it: one that spins, one that sleeps in a call of the host, one that waits for an
//! answer that never comes. (That two ticks are enough is for the tests of the engine, in `kill.rs`.)

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use sandhog_broker::{Broker, LaneAsk, LeaseAsk, Settle, Sweep};
use sandhog_core::attempt::SettleReply;
use sandhog_core::effects::Effects;
use sandhog_core::id::{QueueName, TenantId};
use sandhog_core::job::{Lease, NewJob, State};
use sandhog_core::reason::Reason;
use sandhog_core::settle::Settlement;
use sandhog_guests::{self as guests, Guest};
use sandhog_tests::{Backend, Daemon, Fsync, PATIENCE, Site, finished, hog_job, tenant, under_way};

/// One guest thread and one run at a time: whatever goes on for ever is in everybody's way.
const ONE: &str = "threads = 1\n\n[limits]\nfuel = 1_000_000_000_000\ntimeout = \"10m\"\n
[lease]\nttl = \"3s\"\nmargin = \"1s\"\nrenew_every = \"500ms\"\n";

const ENDLESS: &str = "[limits]\nfuel = 1_000_000_000_000\ntimeout = \"10m\"\nconcurrency = 1\n
[retry]\nmax_attempts = 1\n";

const BACKENDS: [Backend; 2] = [Backend::Embedded, Backend::Redis(Fsync::Always)];

/// Guests that go on for ever, by what they do.
fn endless() -> [NewJob; 2] {
    [hog_job("hog.spin", "{}"), hog_job("hog.sleep", r#"{"ms": 3600000}"#)]
}

async fn enqueue(broker: &dyn Broker, of: &TenantId, job: &NewJob) {
    broker.enqueue(of, std::slice::from_ref(job)).await.expect("the broker is up");
}

/// The one place for a run is free again.
async fn another_runs(broker: &dyn Broker, of: &TenantId) {
    let next = hog_job("hog.echo", "1");
    enqueue(broker, of, &next).await;
    assert_eq!(finished(broker, of, next.id).await.state, State::Succeeded);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_timeout_ends_it() {
    for backend in BACKENDS {
        let short = ENDLESS.replace("10m", "300ms");
        let site = Site::new(backend, ONE).with_hog("acme", &short);
        let (broker, acme) = (site.broker().await, tenant("acme"));
        let _daemon = site.daemon();
        for job in endless() {
            enqueue(&*broker, &acme, &job).await;
            let record = finished(&*broker, &acme, job.id).await;
            assert_eq!((record.state, record.reason), (State::Dead, Some(Reason::TimedOut)), "{}", job.kind);
            another_runs(&*broker, &acme).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancellation_ends_it() {
    for backend in BACKENDS {
        let site = Site::new(backend, ONE).with_hog("acme", ENDLESS);
        let (broker, acme) = (site.broker().await, tenant("acme"));
        let _daemon = site.daemon();
        for job in endless() {
            enqueue(&*broker, &acme, &job).await;
            under_way(&*broker, &acme, job.id).await;
            broker.cancel(&acme, job.id).await.expect("the broker is up");
            assert_eq!(finished(&*broker, &acme, job.id).await.state, State::Cancelled, "{}", job.kind);
            another_runs(&*broker, &acme).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_another_holder_has_got_meanwhile_ends_it() {
    for backend in BACKENDS {
        let site = Site::new(backend, ONE).with_hog("acme", ENDLESS);
        let (broker, acme) = (site.broker().await, tenant("acme"));
        for job in endless() {
            let mut daemon = site.daemon();
            enqueue(&*broker, &acme, &job).await;
            under_way(&*broker, &acme, job.id).await;
            // The daemon hangs for so long that its lease runs out.
            daemon.signal("STOP");
            let stolen = steal(&*broker, &acme).await;
            daemon.signal("CONT");
            daemon.wait_for("the lease was lost");
            let settlement = Settlement::Succeed { output: b"stolen".to_vec(), effects: Effects::default() };
            let settle = Settle::new(stolen.token, settlement);
            let reply = broker.settle(&acme, &[settle]).await.expect("the broker is up");
            assert_eq!(reply, [SettleReply::Applied], "nobody else has settled it");
            another_runs(&*broker, &acme).await;
        }
    }
}

/// Leases the one job there is, as soon as its lease has run out.
async fn steal(broker: &dyn Broker, from: &TenantId) -> Lease {
    let queues = [(QueueName::parse("hogs").expect("valid"), 1)];
    let lanes = broker.lanes(from).await.expect("the broker is up").lanes;
    let lanes: Vec<LaneAsk> = lanes.into_iter().map(|(queue, kind)| LaneAsk::new(queue, kind, 1)).collect();
    let ask = LeaseAsk { lanes: &lanes, ..LeaseAsk::new(from, &queues, Duration::from_secs(600)) };
    let until = std::time::Instant::now() + PATIENCE;
    loop {
        broker.sweep(from, Sweep::new(5)).await.expect("the broker is up");
        if let Some(lease) = broker.lease(ask).await.expect("the broker is up").leases.pop() {
            return lease;
        }
        assert!(std::time::Instant::now() < until, "the lease doesn't run out");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_the_broker_knows_nothing_of_any_more_ends_it() {
    let mut site = Site::new(Backend::Redis(Fsync::Always), ONE).with_hog("acme", ENDLESS);
    let (broker, acme) = (site.broker().await, tenant("acme"));
    let mut daemon = site.daemon();
    for job in endless() {
        enqueue(&*broker, &acme, &job).await;
        under_way(&*broker, &acme, job.id).await;
        site.redis().forget();
        daemon.wait_for("the lease was lost");
        another_runs(&*broker, &acme).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_ends_it() {
    for backend in BACKENDS {
        for job in endless() {
            let daemon_file = format!("{ONE}\n[shutdown]\ngrace = \"100ms\"\n");
            let site = Site::new(backend, &daemon_file).with_hog("acme", ENDLESS);
            let (broker, acme) = (site.broker().await, tenant("acme"));
            let mut daemon = site.daemon();
            enqueue(&*broker, &acme, &job).await;
            under_way(&*broker, &acme, job.id).await;
            daemon.signal("TERM");
            assert_eq!(daemon.wait().code(), Some(0));
            let record = broker.job(&acme, job.id).await.expect("up").expect("there");
            assert_eq!((record.state, record.attempts), (State::Ready, 0), "{}: given back", job.kind);
        }
    }
}

/// Says that it is there, and then reads state for ever.
fn reads_state() -> Guest {
    Guest::that(
        "(call $log (i32.const 2) (i32.const 1024) (i32.const 8) (i32.const 0) (i32.const 0))
         (loop $again (call $get (i32.const 1024) (i32.const 8) (i32.const 2048)) br $again)",
    )
    .importing(&guests::state_get())
    .importing(&guests::log())
    .with_fields("(data (i32.const 1024) \"reading!\")")
}

/// A site whose guest waits for state that never comes, once Redis is paused.
fn silent_site(timeout: &str, extra: &str) -> Site {
    let site = Site::new(Backend::Redis(Fsync::Always), &format!("{ONE}\n{extra}"));
    fs::write(site.path().join("reads.wat"), reads_state().text()).expect("a file");
    let limits = ENDLESS.replace("10m", timeout);
    let toml = format!(
        "[plugin]\nname = \"reads\"\ntenant = \"acme\"\ncomponent = \"../reads.wat\"\nkinds = [\"hog.echo\"]\nqueue = \"hogs\"\n\n{limits}"
    );
    fs::write(site.path().join("plugins.d/reads.toml"), toml).expect("a file");
    site
}

/// Its daemon with a guest that waits like that, and the job.
async fn waits_in_silence(site: &mut Site) -> (Arc<dyn Broker>, Daemon, NewJob) {
    let broker = site.broker().await;
    let mut daemon = site.daemon();
    let job = hog_job("hog.echo", "1");
    enqueue(&*broker, &tenant("acme"), &job).await;
    daemon.wait_for("reading!");
    site.redis().pause();
    (broker, daemon, job)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_timeout_ends_one_that_waits_for_a_store_that_says_nothing() {
    let mut site = silent_site("1s", "");
    let (broker, mut daemon, job) = waits_in_silence(&mut site).await;
    daemon.wait_for("timed-out");
    site.redis().resume();
    let record = finished(&*broker, &tenant("acme"), job.id).await;
    assert!(matches!(record.reason, Some(Reason::TimedOut | Reason::LeaseExpired)), "{record:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_cant_be_renewed_ends_one_that_waits_for_a_store_that_says_nothing() {
    let mut site = silent_site("10m", "");
    let (_, mut daemon, _) = waits_in_silence(&mut site).await;
    daemon.wait_for("the lease was lost");
    site.redis().resume();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_ends_one_that_waits_for_a_store_that_says_nothing() {
    let mut site = silent_site("10m", "[shutdown]\ngrace = \"100ms\"\n");
    let (_, mut daemon, _) = waits_in_silence(&mut site).await;
    daemon.signal("TERM");
    assert_eq!(daemon.wait().code(), Some(0), "what can't be given back runs out by itself");
    site.redis().resume();
}
