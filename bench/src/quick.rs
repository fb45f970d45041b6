//! Quick jobs at even intervals, and their times.

use std::time::Duration;

use sandhog_broker::Broker;
use sandhog_core::id::TenantId;
use sandhog_core::job::{JobRecord, State};
use sandhog_tests::{finished, hog_job};
use tokio::time::{MissedTickBehavior, interval};

use crate::times::Times;

/// Enqueues `count` jobs at intervals of `apart`, waits for them, and returns their times.
///
/// # Panics
/// If one doesn't succeed.
pub(crate) async fn jobs(broker: &dyn Broker, tenant: &TenantId, count: usize, apart: Duration) -> Times {
    times(&records(broker, tenant, count, apart).await)
}

/// Enqueues jobs at even intervals, waits for them, and returns their records.
///
/// # Panics
/// If one doesn't succeed.
pub(crate) async fn records(
    broker: &dyn Broker,
    tenant: &TenantId,
    count: usize,
    apart: Duration,
) -> Vec<JobRecord> {
    let mut ticks = interval(apart);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut jobs = Vec::new();
    for n in 0..count {
        ticks.tick().await;
        let job = hog_job("hog.echo", &n.to_string());
        broker.enqueue(tenant, std::slice::from_ref(&job)).await.expect("the broker is up");
        jobs.push(job.id);
    }
    let mut records = Vec::new();
    for job in jobs {
        let record = finished(broker, tenant, job).await;
        assert_eq!(record.state, State::Succeeded);
        records.push(record);
    }
    records
}

/// Returns the times of jobs from enqueue to settlement, both by the broker's own clock, from the jobs' records (to the
/// millisecond).
///
/// # Panics
/// If one isn't final.
pub(crate) fn times(records: &[JobRecord]) -> Times {
    let took = |record: &JobRecord| record.finished_at.expect("it is final").since(record.enqueued_at);
    Times::of(records.iter().map(took).collect())
}
