//! Waiting for jobs to become final.
//!
//! A broker tells daemons of work, not producers of results, so whoever waits asks: soon at first, then less and less
//! often.

use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt};
use sandhog_broker::Broker;
use sandhog_core::id::{JobId, TenantId};
use sandhog_core::job::JobRecord;

use super::exit::{Exit, Failure};
use crate::config::units::time;

const FIRST: Duration = Duration::from_millis(5);
const LONGEST: Duration = Duration::from_millis(500);

/// Of many jobs, so many are asked about at once.
const AT_ONCE: usize = 16;

/// How long to wait at most.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    timeout: Option<Duration>,
    started: Instant,
}

impl Patience {
    /// From now on, for so long, or for ever.
    pub(super) fn new(timeout: Option<Duration>) -> Self {
        Self { timeout, started: Instant::now() }
    }

    /// Waits a little longer than the last time.
    pub(super) async fn pause(&self, last: &mut Option<Duration>, what: &str) -> Result<(), Failure> {
        let pause = last.map_or(FIRST, |last| (last * 3 / 2).min(LONGEST));
        if let Some(timeout) = self.timeout.filter(|timeout| self.started.elapsed() + pause > *timeout) {
            let failure = Failure::new(format!("{what} after {}", time(timeout))).exit(Exit::TimedOut);
            return Err(
                failure.help("is a daemon running? the job goes on in any case; `sandhog job show` shows it")
            );
        }
        tokio::time::sleep(pause).await;
        *last = Some(pause);
        Ok(())
    }
}

/// Waits until a job is final. `seen` gets to see it each time it is asked about.
pub(super) async fn wait_for(
    broker: &dyn Broker,
    tenant: &TenantId,
    id: JobId,
    patience: Patience,
    seen: impl Fn(&JobRecord),
) -> Result<JobRecord, Failure> {
    let mut last = None;
    loop {
        let Some(job) = broker.job(tenant, id).await? else {
            let failure = Failure::new(format!("there is no job {id} of tenant {tenant} any more"));
            return Err(failure.exit(Exit::NotFound));
        };
        if job.state.is_final() {
            return Ok(job);
        }
        seen(&job);
        patience.pause(&mut last, &format!("job {id} is still {}", job.state)).await?;
    }
}

/// Waits until all those jobs are final. `done` gets to see each one when it is.
pub(super) async fn wait_for_all(
    broker: &dyn Broker,
    tenant: &TenantId,
    ids: &[JobId],
    patience: Patience,
    done: impl Fn(&JobRecord),
) -> Result<(), Failure> {
    let waits = ids.iter().map(|id| wait_for(broker, tenant, *id, patience, |_| ()));
    let jobs = futures::stream::iter(waits).buffer_unordered(AT_ONCE);
    jobs.try_for_each(|job| {
        done(&job);
        std::future::ready(Ok(()))
    })
    .await
}
