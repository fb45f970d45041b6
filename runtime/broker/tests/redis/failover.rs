//! What asynchronous replication may lose when a primary ends: the last steps, each of them whole, and nothing before them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use sandhog_broker::redis::Redis;
use sandhog_broker::redis::testing::{Durability, Server};
use sandhog_broker::{Broker, Settle};
use sandhog_core::attempt::SettleReply;
use sandhog_core::effects::Effects;
use sandhog_core::id::{JobId, StateKey, TenantId};
use sandhog_core::job::{Lease, NewJob, State};
use sandhog_core::settle::Settlement;
use sandhog_core::time::Timestamp;

use crate::work::{Work, impatient, job, jobs, plugin, succeed, tenant};

const STEPS: usize = 100;
const JOBS_A_STEP: usize = 4;
/// So many are known to have reached the replica.
const SAFE_STEPS: usize = 5;

/// So large that a step may be cut in its midst, and that the steps of a quarter don't fit the system's buffers on the way.
const OUTPUT_BYTES: usize = 150_000;

/// How the replica comes to know less than the primary.
#[derive(Debug, Clone, Copy)]
enum Cut {
    /// It is promoted while the stream goes on.
    Promoted,
    /// It hangs, and the primary ends meanwhile.
    Hung,
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failover_loses_the_last_steps_each_whole_and_none_before_them() {
    for cut in [Cut::Promoted, Cut::Hung, Cut::Promoted] {
        fail_over(cut).await;
    }
}

async fn fail_over(cut: Cut) {
    const SOON: [&str; 2] = ["--repl-diskless-sync-delay", "0"];
    let mut primary = Server::start(Durability::None, &SOON);
    let port = primary.port().to_string();
    let replica =
        Server::start(Durability::None, &[&SOON[..], &["--replicaof", "127.0.0.1", &port]].concat());
    replica.wait_until_replicating();
    let (broker, tenant) = (Arc::new(impatient(primary.url())), tenant());
    broker.store(&tenant, &jobs(STEPS * JOBS_A_STEP)).await;
    let settles: Arc<Vec<Settle>> = {
        let leases = broker.take(&tenant, (STEPS * JOBS_A_STEP) as u32).await;
        Arc::new(leases.iter().enumerate().map(|(n, lease)| settle(n, lease)).collect())
    };
    for step in settles.chunks(JOBS_A_STEP).take(SAFE_STEPS) {
        settle_all(&broker, &tenant, step).await;
    }
    primary.wait_until_replicated();

    let acknowledged = Arc::new(AtomicUsize::new(SAFE_STEPS));
    let stream = tokio::spawn(stream(
        Arc::clone(&broker),
        tenant.clone(),
        Arc::clone(&settles),
        Arc::clone(&acknowledged),
    ));
    let at = rand::random_range(SAFE_STEPS + 1..STEPS / 2);
    while acknowledged.load(Ordering::Relaxed) < at && !stream.is_finished() {
        tokio::time::sleep(Duration::from_micros(200)).await;
    }
    let promote = || replica.ask::<()>(&["REPLICAOF", "NO", "ONE"]).expect("the replica is there");
    match cut {
        Cut::Promoted => {
            promote();
            primary.kill();
        }
        Cut::Hung => {
            replica.pause();
            while acknowledged.load(Ordering::Relaxed) < at + STEPS / 4 && !stream.is_finished() {
                tokio::time::sleep(Duration::from_micros(200)).await;
            }
            primary.kill();
            replica.resume();
            promote();
        }
    }
    stream.await.expect("it only settles");

    let heir = impatient(replica.url());
    let kept = kept_steps(&heir, &tenant, &settles).await;
    let acknowledged = acknowledged.load(Ordering::Relaxed);
    println!("{cut:?}: {acknowledged} steps were acknowledged, {kept} are kept");
    // One more may have arrived whose acknowledgement didn't.
    assert!((SAFE_STEPS..=acknowledged + 1).contains(&kept));
    assert!(matches!(cut, Cut::Promoted) || kept < acknowledged, "something was lost, or nothing is shown");

    // Whoever repeats what it has no answer to, or what was lost, does it once.
    for step in settles.chunks(JOBS_A_STEP) {
        settle_all(&heir, &tenant, step).await;
    }
    assert_eq!(kept_steps(&heir, &tenant, &settles).await, STEPS);
}

fn counter() -> StateKey {
    StateKey::parse("settled").expect("a valid key")
}

/// What the nth job leaves behind: its output, one more in a counter, and a job.
fn settle(nth: usize, lease: &Lease) -> Settle {
    let mut effects = Effects::default();
    effects.increment(counter(), 1).expect("nothing was set before");
    effects.enqueue(NewJob { id: follower(nth), ..job() });
    let settlement = Settlement::Succeed { output: vec![b'x'; OUTPUT_BYTES], effects };
    Settle { settlement, ..succeed(lease.token, Effects::default()) }
}

fn follower(nth: usize) -> JobId {
    JobId::from_parts(Timestamp::from_millis(nth as u64), 8)
}

async fn settle_all(broker: &Redis, tenant: &TenantId, step: &[Settle]) {
    let replies = broker.settle(tenant, step).await.expect("the server is there");
    assert_eq!(replies, vec![SettleReply::Applied; step.len()]);
}

/// Settles step after step until the server is gone.
async fn stream(
    broker: Arc<Redis>,
    tenant: TenantId,
    settles: Arc<Vec<Settle>>,
    acknowledged: Arc<AtomicUsize>,
) {
    for step in settles.chunks(JOBS_A_STEP).skip(SAFE_STEPS) {
        match broker.settle(&tenant, step).await {
            Ok(_) => acknowledged.fetch_add(1, Ordering::Relaxed),
            Err(_) => return,
        };
    }
}

/// How many steps there are; a part of one, or one without those before it, fails.
async fn kept_steps(broker: &Redis, tenant: &TenantId, settles: &[Settle]) -> usize {
    let counted = broker.state(tenant, &plugin(), &counter()).await.expect("the server is there");
    let counted = String::from_utf8(counted.expect("there are safe ones")).expect("a number");
    let counted: usize = counted.parse().expect("a number");
    assert_eq!(counted % JOBS_A_STEP, 0, "each step is whole");
    for (n, settle) in settles.iter().enumerate() {
        let id = settle.token.job;
        let record = broker.job(tenant, id).await.expect("the server is there").expect("it is not final");
        let state = if n < counted { State::Succeeded } else { State::Leased };
        assert_eq!(record.state, state, "job {n} of {counted}");
        assert_eq!(record.output.is_some_and(|output| output.len() == OUTPUT_BYTES), n < counted);
        let follower = broker.job(tenant, follower(n)).await.expect("the server is there");
        assert_eq!(follower.is_some(), n < counted, "the job of job {n} of {counted}");
    }
    let found = broker.counts(tenant).await.expect("the server is there");
    let counts = [State::Ready, State::Leased, State::Succeeded]
        .map(|state| usize::try_from(found[state]).expect("few"));
    assert_eq!(counts, [counted, settles.len() - counted, counted]);
    counted / JOBS_A_STEP
}
