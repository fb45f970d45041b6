//! The reference model behind a wrapper that checks each answer against the record before and after.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use sandhog_broker::memory::Memory;
use sandhog_broker::{
    Broker, Clock, Command, Enqueued, JobAction, LeaseAsk, Leased, Look, Outcome, Renew, Renewal, Result,
    Seen, Settle, Wakes,
};
use sandhog_core::attempt::SettleReply;
use sandhog_core::id::{JobId, TenantId};
use sandhog_core::job::{JobRecord, NewJob, State};
use sandhog_core::quota::QueueBounds;
use sandhog_core::settle::Settlement;
use sandhog_core::time::Timestamp;

/// A lease that was handed out.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Handed {
    /// Whose job.
    pub(crate) tenant: String,
    /// When.
    pub(crate) at: Timestamp,
    /// Since when it had been waiting.
    pub(crate) ready_at: Timestamp,
}

/// The watched model.
pub(crate) struct Watched {
    inner: Memory,
    clock: Arc<dyn Clock>,
    seen: Mutex<Noted>,
}

#[derive(Default)]
struct Noted {
    stored: HashMap<TenantId, u64>,
    /// When jobs could run first that were stored to wait for their time.
    due: HashMap<JobId, Timestamp>,
    finals: HashMap<JobId, JobRecord>,
    handed: Vec<Handed>,
    calls: usize,
    /// Calls of any kind.
    asked: usize,
}

impl Watched {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { inner: Memory::new(Arc::clone(&clock)), clock, seen: Mutex::default() }
    }

    /// The leases that were handed out, and in how many calls.
    pub(crate) fn handed(&self) -> (Vec<Handed>, usize) {
        let seen = self.seen();
        (seen.handed.clone(), seen.calls)
    }

    /// How many calls have come, of any kind.
    pub(crate) fn asked(&self) -> usize {
        self.seen().asked
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, Noted> {
        self.seen.lock().expect("one thread")
    }

    async fn record(&self, tenant: &TenantId, job: JobId) -> JobRecord {
        self.inner.job(tenant, job).await.expect("the model answers").expect("a stored job is there")
    }

    /// Invariants 1 and 3, for one tenant.
    pub(crate) async fn check_all(&self, tenant: &TenantId) {
        let counts = self.inner.counts(tenant).await.expect("the model answers");
        let stored = self.seen().stored.get(tenant).copied().unwrap_or_default();
        assert_eq!(counts.total(), stored, "{tenant}: every stored job is in one state: {counts:?}");
        let finals: Vec<JobRecord> =
            self.seen().finals.values().filter(|job| job.tenant == *tenant).cloned().collect();
        for job in finals {
            assert_eq!(self.record(tenant, job.id).await, job, "what is final stays as it is");
        }
    }

    async fn note_final(&self, tenant: &TenantId, job: JobId) {
        let record = self.record(tenant, job).await;
        if record.state.is_final() {
            self.seen().finals.insert(job, record);
        }
    }
}

#[async_trait]
impl Broker for Watched {
    async fn enqueue_within(
        &self,
        tenant: &TenantId,
        jobs: &[NewJob],
        bounds: &QueueBounds,
    ) -> Result<Vec<Enqueued>> {
        self.seen().asked += 1;
        let mut fresh = 0;
        for job in jobs {
            self.seen().due.entry(job.id).or_insert_with(|| self.clock.now().after(job.delay));
            fresh += u64::from(self.inner.job(tenant, job.id).await?.is_none());
        }
        let answers = self.inner.enqueue_within(tenant, jobs, bounds).await?;
        *self.seen().stored.entry(tenant.clone()).or_default() += fresh;
        Ok(answers)
    }

    async fn lease(&self, ask: LeaseAsk<'_>) -> Result<Leased> {
        self.seen().asked += 1;
        let leased = self.inner.lease(ask).await?;
        self.seen().calls += usize::from(!leased.leases.is_empty());
        for lease in &leased.leases {
            let record = self.record(ask.tenant, lease.token.job).await;
            assert_eq!((record.state, record.lease), (State::Leased, lease.token.lease));
            let due = self.seen().due.get(&lease.token.job).copied();
            let handed = Handed {
                tenant: ask.tenant.to_string(),
                at: self.clock.now(),
                ready_at: record.due_at.or(due).unwrap_or(record.enqueued_at),
            };
            self.seen().handed.push(handed);
        }
        Ok(leased)
    }

    async fn renew(&self, tenant: &TenantId, ttl: Duration, leases: &[Renew]) -> Result<Vec<Renewal>> {
        self.seen().asked += 1;
        let mut answers = Vec::new();
        for renew in leases {
            let before = self.record(tenant, renew.token.job).await;
            let answer = self.inner.renew(tenant, ttl, std::slice::from_ref(renew)).await?;
            let after = self.record(tenant, renew.token.job).await;
            let holds = before.state == State::Leased && before.lease == renew.token.lease;
            assert_eq!(answer[0] != Renewal::Lost, holds, "only the holder's token renews");
            assert!(holds || before == after, "a stale token changed the job");
            answers.extend(answer);
        }
        Ok(answers)
    }

    async fn settle(&self, tenant: &TenantId, settlements: &[Settle]) -> Result<Vec<SettleReply>> {
        self.seen().asked += 1;
        let mut answers = Vec::new();
        for settle in settlements {
            let job = settle.token.job;
            let before = self.record(tenant, job).await;
            let answer = self.inner.settle(tenant, std::slice::from_ref(settle)).await?;
            let after = self.record(tenant, job).await;
            let holds = before.state == State::Leased && before.lease == settle.token.lease;
            assert!(holds || before == after, "a stale token changed the job");
            assert!(!holds || answer[0] != SettleReply::Lost, "the holder's token settles");
            if let (true, SettleReply::Applied, Settlement::Succeed { effects, .. }) =
                (holds, &answer[0], &settle.settlement)
            {
                *self.seen().stored.entry(tenant.clone()).or_default() += effects.jobs().len() as u64;
            }
            self.note_final(tenant, job).await;
            answers.extend(answer);
        }
        Ok(answers)
    }

    async fn control(&self, tenant: &TenantId, command: Command) -> Result<Outcome> {
        self.seen().asked += 1;
        if let Command::Jobs { action: JobAction::Redrive, ids } = &command {
            ids.iter().for_each(|job| drop(self.seen().finals.remove(job)));
        }
        let outcome = self.inner.control(tenant, command.clone()).await?;
        let changed = match (command, &outcome) {
            (Command::Jobs { ids, .. }, _) => ids,
            (_, Outcome::Swept(swept)) => swept.buried.clone(),
            _ => Vec::new(),
        };
        for job in changed {
            self.note_final(tenant, job).await;
        }
        Ok(outcome)
    }

    async fn look(&self, tenant: &TenantId, look: Look) -> Result<Seen> {
        self.seen().asked += 1;
        self.inner.look(tenant, look).await
    }

    async fn watch(&self, tenants: Vec<TenantId>) -> Result<Wakes> {
        self.seen().asked += 1;
        self.inner.watch(tenants).await
    }

    async fn tenants(&self) -> Result<Vec<TenantId>> {
        self.seen().asked += 1;
        self.inner.tenants().await
    }

    async fn check(&self) -> Result<Vec<String>> {
        self.inner.check().await
    }
}
