//! Load of the `growth` cases: enqueues jobs for some tenants, and waits for them.

use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt, stream};
use sandhog_broker::{Broker, Enqueued};
use sandhog_core::id::TenantId;
use sandhog_core::job::{NewJob, State};
use sandhog_core::quota::QueueBounds;
use sandhog_tests::{Daemon, PATIENCE, hog_job};

/// Maximum number of jobs of one call.
const BATCH: usize = 1_000;

/// Maximum number of concurrent calls.
const CALLS: usize = 4;

/// Maximum number of tenants polled at once.
const LOOKS: usize = 16;

/// Creates a job that returns at once.
pub(super) fn job(n: usize) -> NewJob {
    hog_job("hog.echo", &n.to_string())
}

/// Enqueues a number of jobs for each tenant. Returns the jobs enqueued per second.
///
/// # Panics
/// If the broker can't be reached, or refuses one.
pub(super) async fn enqueue(
    broker: &dyn Broker,
    tenants: &[TenantId],
    jobs_each: usize,
    job: impl Fn(usize) -> NewJob,
) -> f64 {
    let mut calls = Vec::new();
    for tenant in tenants {
        let jobs: Vec<NewJob> = (0..jobs_each).map(&job).collect();
        calls.extend(jobs.chunks(BATCH).map(|batch| (tenant, batch.to_vec())));
    }
    let began = Instant::now();
    stream::iter(calls)
        .map(|(tenant, batch)| async move {
            // The jobs exceed the default bounds of a tenant's waiting jobs.
            broker.enqueue_within(tenant, &batch, &QueueBounds::NONE).await
        })
        .buffer_unordered(CALLS)
        .try_for_each(|answers| async move {
            assert!(answers.iter().all(|answer| *answer == Enqueued::Stored), "all are taken in");
            Ok(())
        })
        .await
        .expect("the broker is up");
    (tenants.len() * jobs_each) as f64 / began.elapsed().as_secs_f64()
}

/// Returns the number of a tenant's jobs in a state.
///
/// # Panics
/// If the broker can't be reached.
pub(super) async fn count(broker: &dyn Broker, tenant: &TenantId, state: State) -> u64 {
    broker.counts(tenant).await.expect("the broker is up")[state]
}

/// Continues stopped daemons until a number of further jobs of each tenant have succeeded. Returns the jobs per second.
///
/// # Panics
/// If that takes too long.
pub(super) async fn work_off(
    daemons: &[Daemon],
    broker: &dyn Broker,
    tenants: &[TenantId],
    jobs_each: usize,
) -> f64 {
    let mut wanted = Vec::new();
    for tenant in tenants {
        wanted.push((tenant, count(broker, tenant, State::Succeeded).await + jobs_each as u64));
    }
    let began = Instant::now();
    daemons.iter().for_each(|daemon| daemon.signal("CONT"));
    // All tenants progress about evenly: a few are polled often, and the others when those are done.
    stream::iter(wanted)
        .for_each_concurrent(LOOKS, async |(tenant, wanted)| {
            while count(broker, tenant, State::Succeeded).await < wanted {
                assert!(began.elapsed() < PATIENCE, "jobs of {tenant} are still under way");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await;
    let took = began.elapsed();
    daemons.iter().for_each(|daemon| daemon.signal("STOP"));
    (tenants.len() * jobs_each) as f64 / took.as_secs_f64()
}
