//! A layer around a broker, which counts calls and the jobs that they store.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sandhog_broker::{
    Broker, Command, DaemonReport, Enqueued, Fleet, FlowStored, LeaseAsk, Leased, Look, Outcome, Renew,
    Renewal, Result, ScheduleWritten, Seen, Settle, Wakes,
};
use sandhog_core::attempt::SettleReply;
use sandhog_core::id::{DaemonId, TenantId};
use sandhog_core::job::NewJob;
use sandhog_core::quota::QueueBounds;
use sandhog_core::settle::Settlement;
use tokio::time::Instant;

use super::Metrics;

macro_rules! calls {
    ($($(#[$doc:meta])* $name:ident = $slug:literal,)*) => {
        /// Kind of a call to a broker.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Call { $($(#[$doc])* $name,)* }

        impl Call {
            /// Every kind of call.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The name in metrics.
            #[must_use]
            pub fn slug(self) -> &'static str {
                match self { $(Self::$name => $slug,)* }
            }
        }
    };
}

calls! {
    /// Storing of jobs.
    Enqueue = "enqueue",
    /// Leasing of jobs.
    Lease = "lease",
    /// Renewal of leases.
    Renew = "renew",
    /// Settling of runs.
    Settle = "settle",
    /// Sweep of a tenant.
    Sweep = "sweep",
    /// Any other change.
    Command = "command",
    /// Look-up.
    Look = "look",
}

/// Broker whose calls are counted.
pub struct Measured {
    inner: Arc<dyn Broker>,
    metrics: Arc<Metrics>,
}

impl Measured {
    /// Creates a layer around a broker, which counts for these metrics.
    #[must_use]
    pub fn new(inner: Arc<dyn Broker>, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self { inner, metrics })
    }

    async fn timed<T>(&self, call: Call, made: impl Future<Output = Result<T>> + Send) -> Result<T> {
        let began = Instant::now();
        let answer = made.await;
        self.metrics.called(call, began.elapsed().max(Duration::ZERO), answer.is_err());
        answer
    }
}

/// Place of an answer in [`ANSWERS`](super::ANSWERS).
fn place_of(answer: Enqueued) -> usize {
    match answer {
        Enqueued::Stored => 0,
        Enqueued::Duplicate(_) => 1,
        Enqueued::Replaced(_) => 2,
        Enqueued::TooLarge => 3,
        Enqueued::Full(_) => 4,
    }
}

const STORED: usize = 0;

#[async_trait]
impl Broker for Measured {
    async fn enqueue_within(
        &self,
        tenant: &TenantId,
        jobs: &[NewJob],
        bounds: &QueueBounds,
    ) -> Result<Vec<Enqueued>> {
        let answers = self.timed(Call::Enqueue, self.inner.enqueue_within(tenant, jobs, bounds)).await?;
        let mut counts = [0; super::ANSWERS.len()];
        answers.iter().for_each(|answer| counts[place_of(*answer)] += 1);
        for (answer, count) in counts.into_iter().enumerate().filter(|(_, count)| *count > 0) {
            self.metrics.enqueued(tenant, answer, count);
        }
        Ok(answers)
    }

    async fn lease(&self, ask: LeaseAsk<'_>) -> Result<Leased> {
        self.timed(Call::Lease, self.inner.lease(ask)).await
    }

    async fn renew(&self, tenant: &TenantId, ttl: Duration, leases: &[Renew]) -> Result<Vec<Renewal>> {
        self.timed(Call::Renew, self.inner.renew(tenant, ttl, leases)).await
    }

    async fn settle(&self, tenant: &TenantId, settlements: &[Settle]) -> Result<Vec<SettleReply>> {
        let replies = self.timed(Call::Settle, self.inner.settle(tenant, settlements)).await?;
        let created = settlements.iter().zip(&replies).map(|(settle, reply)| match &settle.settlement {
            Settlement::Succeed { effects, .. } if *reply == SettleReply::Applied => effects.jobs().len(),
            _ => 0,
        });
        let created = created.sum();
        if created > 0 {
            self.metrics.enqueued(tenant, STORED, created);
        }
        Ok(replies)
    }

    async fn control(&self, tenant: &TenantId, command: Command) -> Result<Outcome> {
        let call = if matches!(command, Command::Sweep(_)) { Call::Sweep } else { Call::Command };
        let jobs = match &command {
            Command::Flow { flow, .. } => flow.nodes().len(),
            Command::Schedule(write) => write.jobs.len(),
            _ => 0,
        };
        let outcome = self.timed(call, self.inner.control(tenant, command)).await?;
        let is_stored =
            matches!(outcome, Outcome::Flow(FlowStored::Stored) | Outcome::Schedule(ScheduleWritten::Done));
        if jobs > 0 && is_stored {
            self.metrics.enqueued(tenant, STORED, jobs);
        }
        Ok(outcome)
    }

    async fn look(&self, tenant: &TenantId, look: Look) -> Result<Seen> {
        self.timed(Call::Look, self.inner.look(tenant, look)).await
    }

    async fn watch(&self, tenants: Vec<TenantId>) -> Result<Wakes> {
        self.inner.watch(tenants).await
    }

    async fn tenants(&self) -> Result<Vec<TenantId>> {
        self.timed(Call::Look, self.inner.tenants()).await
    }

    async fn report_daemon(&self, id: DaemonId, report: Option<&DaemonReport>) -> Result<()> {
        self.timed(Call::Command, self.inner.report_daemon(id, report)).await
    }

    async fn daemons(&self) -> Result<Fleet> {
        self.timed(Call::Look, self.inner.daemons()).await
    }

    async fn check(&self) -> Result<Vec<String>> {
        self.inner.check().await
    }
}

#[cfg(test)]
mod tests {
    use sandhog_broker::SystemClock;
    use sandhog_broker::memory::Memory;
    use sandhog_core::id::{JobId, Kind, QueueName};
    use sandhog_core::time::Timestamp;

    use super::super::parse::parse;
    use super::super::text::Exposition;
    use super::*;

    #[tokio::test]
    async fn calls_and_the_jobs_that_they_store_are_counted() {
        let metrics = Metrics::new(Timestamp::from_millis(0), 0);
        let broker = Measured::new(Arc::new(Memory::new(Arc::new(SystemClock))), Arc::clone(&metrics));
        let acme = TenantId::parse("acme").expect("valid");
        let job = |nth| {
            let (queue, kind) = (QueueName::parse("q").expect("valid"), Kind::parse("k").expect("valid"));
            NewJob::new(JobId::from_parts(Timestamp::from_millis(1), nth), queue, kind, vec![0; 10])
        };
        let bounds = QueueBounds { jobs: 2, ..QueueBounds::default() };
        broker.enqueue_within(&acme, &[job(1), job(2), job(3)], &bounds).await.expect("it answers");
        broker.counts(&acme).await.expect("it answers");
        let mut exposition = Exposition::default();
        metrics.expose(&mut exposition, true, |_| true);
        let all = parse(&exposition.into_text());
        for (sample, value) in [
            ("sandhog_jobs_enqueued_total{tenant=\"acme\",answer=\"stored\"}", 2.0),
            ("sandhog_jobs_enqueued_total{tenant=\"acme\",answer=\"full\"}", 1.0),
            ("sandhog_broker_call_seconds_count{call=\"enqueue\"}", 1.0),
            ("sandhog_broker_call_seconds_count{call=\"look\"}", 1.0),
            ("sandhog_broker_call_failures_total{call=\"look\"}", 0.0),
        ] {
            assert_eq!(all.value(sample), Some(value), "{sample}");
        }
    }
}
