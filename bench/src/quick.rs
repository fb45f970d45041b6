//! Quick jobs, one after the other, and how long each took.

use std::time::Duration;

use sandhog_broker::Broker;
use sandhog_core::id::TenantId;
use sandhog_core::job::{JobRecord, State};
use sandhog_tests::{finished, hog_job};
use tokio::time::{MissedTickBehavior, interval};

use crate::times::Times;

/// Has so many jobs done, so far apart; how long each took.
///
/// # Panics
/// If one doesn't succeed.
pub(crate) async fn jobs(broker: &dyn Broker, tenant: &TenantId, count: usize, apart: Duration) -> Times {
    times(&records(broker, tenant, count, apart).await)
}

/// Enqueues so many jobs, so far apart, and waits for them.
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

/// How long each took from its enqueue to its settlement, both by the broker's own clock, as the job's record has them
/// (to the millisecond).
///
/// # Panics
/// If one isn't final.
pub(crate) fn times(records: &[JobRecord]) -> Times {
    let took = |record: &JobRecord| record.finished_at.expect("it is final").since(record.enqueued_at);
    Times::of(records.iter().map(took).collect())
}
