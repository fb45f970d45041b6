//! Quick jobs, one after the other, and how long each took.

use std::time::Duration;

use sandhog_broker::Broker;
use sandhog_core::id::TenantId;
use sandhog_core::job::State;
use sandhog_tests::{finished, hog_job};
use tokio::time::{MissedTickBehavior, interval};

use crate::times::Times;

/// Enqueues so many jobs, so far apart, and waits for them. A job's time is that from its enqueue to its settlement,
/// both by the broker's own clock, as the job's record has them (to the millisecond).
pub(crate) async fn jobs(broker: &dyn Broker, tenant: &TenantId, count: usize, apart: Duration) -> Times {
    let mut ticks = interval(apart);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut jobs = Vec::new();
    for n in 0..count {
        ticks.tick().await;
        let job = hog_job("hog.echo", &n.to_string());
        broker.enqueue(tenant, std::slice::from_ref(&job)).await.expect("the broker is up");
        jobs.push(job.id);
    }
    let mut times = Vec::new();
    for job in jobs {
        let record = finished(broker, tenant, job).await;
        assert_eq!(record.state, State::Succeeded);
        times.push(record.finished_at.expect("it is final").since(record.enqueued_at));
    }
    Times::of(times)
}
