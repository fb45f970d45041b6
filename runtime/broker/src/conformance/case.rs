//! What a rule works with: a broker, a clock, a tenant of its own, and short ways to say what is usual.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sandhog_core::attempt::SettleReply;
use sandhog_core::id::{JobId, LeaseToken, QueueName, StateKey, TenantId};
use sandhog_core::job::{JobRecord, Lease, LogLine, NewJob, State};
use sandhog_core::quota::{FuelQuota, QueueBounds};
use sandhog_core::settle::Settlement;
use sandhog_core::time::Timestamp;

use super::clock::ManualClock;
use super::script::{PLUGIN, new_job, plugin, queue, settle};
use crate::{
    Broker, Changed, Counts, Enqueued, JobAction, KeepMax, LeaseAsk, Leased, Page, Query, Renew, Renewal,
    Settle, Sweep, Swept, WallClock,
};

/// One rule's world. Every call to the broker has to succeed.
pub struct Case {
    /// The broker that is tested.
    pub broker: Arc<dyn Broker>,
    /// The tenant that no other test uses.
    pub tenant: TenantId,
    /// See [`super::Fixture::SEAL`].
    pub(super) seal: u64,
    clock: Arc<ManualClock>,
    jobs: AtomicU64,
}

/// How long leases hold here.
pub(super) const TTL: Duration = Duration::from_secs(30);
/// How many of its leases a job may lose here.
pub(super) const EXPIRIES_MAX: u32 = 2;

impl Case {
    pub(super) fn new(broker: Arc<dyn Broker>, clock: Arc<ManualClock>, seal: u64) -> Self {
        Self { broker, tenant: fresh_tenant(), seal, clock, jobs: AtomicU64::new(0) }
    }

    /// The same store, as another tenant sees it.
    #[must_use]
    pub fn of_another_tenant(&self) -> Self {
        Self::new(Arc::clone(&self.broker), Arc::clone(&self.clock), self.seal)
    }

    /// The time now.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Lets time pass.
    pub fn pass(&self, time: Duration) {
        self.clock.advance(time);
    }

    /// A job that nobody has seen yet, to be enqueued as it is or changed. Later ones have greater ids.
    #[must_use]
    pub fn new_job(&self) -> NewJob {
        let nth = self.jobs.fetch_add(1, Ordering::Relaxed);
        new_job(JobId::from_parts(Timestamp::from_millis(1), nth.into()))
    }

    /// Enqueues a batch.
    pub async fn enqueue_all(&self, jobs: &[NewJob]) -> Vec<Enqueued> {
        self.broker.enqueue(&self.tenant, jobs).await.expect("an enqueue succeeds")
    }

    /// Enqueues a batch within bounds.
    pub async fn enqueue_within(&self, jobs: &[NewJob], bounds: &QueueBounds) -> Vec<Enqueued> {
        self.broker.enqueue_within(&self.tenant, jobs, bounds).await.expect("an enqueue succeeds")
    }

    /// Enqueues one that is to be stored.
    pub async fn enqueue(&self, job: NewJob) -> JobId {
        let id = job.id;
        assert_eq!(self.enqueue_all(&[job]).await, [Enqueued::Stored]);
        id
    }

    /// Enqueues so many ordinary ones.
    pub async fn enqueue_n(&self, n: usize) -> Vec<JobId> {
        let jobs: Vec<NewJob> = (0..n).map(|_| self.new_job()).collect();
        assert_eq!(self.enqueue_all(&jobs).await, vec![Enqueued::Stored; n]);
        jobs.into_iter().map(|job| job.id).collect()
    }

    /// Asks for leases of these queues, with all that comes with them.
    pub async fn ask(&self, queues: &[(QueueName, u32)]) -> Leased {
        self.ask_within(queues, None).await
    }

    /// Asks for leases of these queues, within what the tenant may spend. Sweeps before, as a daemon does.
    pub async fn ask_within(&self, queues: &[(QueueName, u32)], fuel: Option<FuelQuota>) -> Leased {
        self.sweep().await;
        self.lease_as(LeaseAsk { suspects: u32::MAX, fuel, ..self.asking(queues) }).await
    }

    /// An ask for these queues, to be changed.
    pub fn asking<'a>(&'a self, queues: &'a [(QueueName, u32)]) -> LeaseAsk<'a> {
        LeaseAsk::new(&self.tenant, queues, TTL)
    }

    /// Asks for leases, and for nothing else.
    pub async fn lease_as(&self, ask: LeaseAsk<'_>) -> Leased {
        self.broker.lease(ask).await.expect("a lease succeeds")
    }

    /// Has the broker sweep.
    pub async fn sweep(&self) -> Swept {
        self.sweep_to(KeepMax::default()).await
    }

    /// Has the broker sweep, and keep no more final jobs than this.
    pub async fn sweep_to(&self, keep_max: KeepMax) -> Swept {
        self.sweep_as(Sweep { keep_max, ..Sweep::new(EXPIRIES_MAX) }).await
    }

    /// Has the broker sweep so.
    pub async fn sweep_as(&self, sweep: Sweep) -> Swept {
        self.broker.sweep(&self.tenant, sweep).await.expect("a sweep succeeds")
    }

    /// Does something to one job.
    pub async fn act(&self, action: JobAction, job: JobId) -> Changed {
        self.broker.act(&self.tenant, action, &[job]).await.expect("it succeeds")[0]
    }

    /// Leases up to so many of the usual queue.
    pub async fn lease(&self, n: u32) -> Vec<Lease> {
        self.ask(&[(queue(), n)]).await.leases
    }

    /// Leases the one job that has to be there.
    pub async fn lease_one(&self) -> LeaseToken {
        let leases = self.lease(1).await;
        assert_eq!(leases.len(), 1, "there is a job to lease");
        leases[0].token
    }

    /// A fresh job, leased.
    pub async fn leased_job(&self) -> LeaseToken {
        let id = self.enqueue(self.new_job()).await;
        let token = self.lease_one().await;
        assert_eq!(token.job, id, "there is no other");
        token
    }

    /// The ids of the ready jobs of the usual queue, in the order in which leases are handed out.
    pub async fn drain(&self) -> Vec<JobId> {
        self.lease(1000).await.into_iter().map(|lease| lease.token.job).collect()
    }

    /// Renews one lease.
    pub async fn renew(&self, renew: Renew) -> Renewal {
        let renewals = self.broker.renew(&self.tenant, TTL, &[renew]).await.expect("a renewal succeeds");
        assert_eq!(renewals.len(), 1);
        renewals[0]
    }

    /// Settles a batch.
    pub async fn settle_all(&self, settlements: &[Settle]) -> Vec<SettleReply> {
        self.broker.settle(&self.tenant, settlements).await.expect("a settlement succeeds")
    }

    /// Settles one lease, as the usual plugin does.
    pub async fn settle(&self, token: LeaseToken, settlement: Settlement) -> SettleReply {
        self.settle_with(settle(token, settlement)).await
    }

    /// Settles one lease.
    pub async fn settle_with(&self, settle: Settle) -> SettleReply {
        let mut replies = self.settle_all(&[settle]).await;
        assert_eq!(replies.len(), 1);
        replies.remove(0)
    }

    /// Settles one lease, which has to be in order.
    pub async fn applied(&self, token: LeaseToken, settlement: Settlement) {
        assert_eq!(self.settle(token, settlement).await, SettleReply::Applied);
    }

    /// A job that has to be there.
    pub async fn record(&self, job: JobId) -> JobRecord {
        self.find(job).await.expect("the job is there")
    }

    /// A job, if it is there.
    pub async fn find(&self, job: JobId) -> Option<JobRecord> {
        self.broker.job(&self.tenant, job).await.expect("a look succeeds")
    }

    /// Where a job stands.
    pub async fn state_of(&self, job: JobId) -> State {
        self.record(job).await.state
    }

    /// A job's log.
    pub async fn log(&self, job: JobId) -> Vec<LogLine> {
        self.broker.log(&self.tenant, job).await.expect("a look succeeds")
    }

    /// The first jobs of a state.
    pub async fn list(&self, state: State) -> Vec<JobId> {
        self.page(Query::of(state, 100)).await.jobs.into_iter().map(|record| record.id).collect()
    }

    /// A page of jobs.
    pub async fn page(&self, query: Query) -> Page {
        self.broker.jobs(&self.tenant, query).await.expect("a look succeeds")
    }

    /// How many jobs there are in each state.
    pub async fn counts(&self) -> Counts {
        self.broker.counts(&self.tenant).await.expect("a look succeeds")
    }

    /// A value of the usual plugin's state.
    pub async fn stored(&self, key: &StateKey) -> Option<Vec<u8>> {
        self.broker.state(&self.tenant, &plugin(PLUGIN), key).await.expect("a look succeeds")
    }
}

fn fresh_tenant() -> TenantId {
    TenantId::parse(&format!("t{:032x}", rand::random::<u128>()))
        .expect("hexadecimal digits are a valid name")
}
