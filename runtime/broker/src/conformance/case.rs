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

/// The world of one rule: a broker, a tenant of its own and a clock. Every call to the broker has to succeed, or panics.
pub struct Case {
    /// The broker that is tested.
    pub broker: Arc<dyn Broker>,
    /// The tenant that no other test uses.
    pub tenant: TenantId,
    /// Value of [`super::Fixture::SEAL`].
    pub(super) seal: u64,
    clock: Arc<ManualClock>,
    jobs: AtomicU64,
}

/// Time for which leases hold here.
pub(super) const TTL: Duration = Duration::from_secs(30);
/// Maximum number of leases that a job may lose here.
pub(super) const EXPIRIES_MAX: u32 = 2;

impl Case {
    pub(super) fn new(broker: Arc<dyn Broker>, clock: Arc<ManualClock>, seal: u64) -> Self {
        Self { broker, tenant: fresh_tenant(), seal, clock, jobs: AtomicU64::new(0) }
    }

    /// Returns a case of another tenant, with the same broker and clock.
    #[must_use]
    pub fn of_another_tenant(&self) -> Self {
        Self::new(Arc::clone(&self.broker), Arc::clone(&self.clock), self.seal)
    }

    /// Returns the present time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Moves the clock on.
    pub fn pass(&self, time: Duration) {
        self.clock.advance(time);
    }

    /// Creates a job with a new id, to be enqueued as it is or changed. Later ones have greater ids.
    #[must_use]
    pub fn new_job(&self) -> NewJob {
        let nth = self.jobs.fetch_add(1, Ordering::Relaxed);
        new_job(JobId::from_parts(Timestamp::from_millis(1), nth.into()))
    }

    /// Enqueues a batch, and returns an answer for each job.
    pub async fn enqueue_all(&self, jobs: &[NewJob]) -> Vec<Enqueued> {
        self.broker.enqueue(&self.tenant, jobs).await.expect("an enqueue succeeds")
    }

    /// Enqueues a batch within bounds, and returns an answer for each job.
    pub async fn enqueue_within(&self, jobs: &[NewJob], bounds: &QueueBounds) -> Vec<Enqueued> {
        self.broker.enqueue_within(&self.tenant, jobs, bounds).await.expect("an enqueue succeeds")
    }

    /// Enqueues a job, which has to be stored, and returns its id.
    pub async fn enqueue(&self, job: NewJob) -> JobId {
        let id = job.id;
        assert_eq!(self.enqueue_all(&[job]).await, [Enqueued::Stored]);
        id
    }

    /// Enqueues `n` ordinary jobs, and returns their ids.
    pub async fn enqueue_n(&self, n: usize) -> Vec<JobId> {
        let jobs: Vec<NewJob> = (0..n).map(|_| self.new_job()).collect();
        assert_eq!(self.enqueue_all(&jobs).await, vec![Enqueued::Stored; n]);
        jobs.into_iter().map(|job| job.id).collect()
    }

    /// Sweeps, as a daemon does, and asks for leases of these queues.
    pub async fn ask(&self, queues: &[(QueueName, u32)]) -> Leased {
        self.ask_within(queues, None).await
    }

    /// Sweeps, as a daemon does, and asks for leases of these queues within a quota of fuel.
    pub async fn ask_within(&self, queues: &[(QueueName, u32)], fuel: Option<FuelQuota>) -> Leased {
        self.sweep().await;
        self.lease_as(LeaseAsk { suspects: u32::MAX, fuel, ..self.asking(queues) }).await
    }

    /// Creates an ask for these queues, to be changed.
    pub fn asking<'a>(&'a self, queues: &'a [(QueueName, u32)]) -> LeaseAsk<'a> {
        LeaseAsk::new(&self.tenant, queues, TTL)
    }

    /// Asks for leases, without a sweep before.
    pub async fn lease_as(&self, ask: LeaseAsk<'_>) -> Leased {
        self.broker.lease(ask).await.expect("a lease succeeds")
    }

    /// Sweeps once.
    pub async fn sweep(&self) -> Swept {
        self.sweep_to(KeepMax::default()).await
    }

    /// Sweeps once, and keeps no more final jobs than this.
    pub async fn sweep_to(&self, keep_max: KeepMax) -> Swept {
        self.sweep_as(Sweep { keep_max, ..Sweep::new(EXPIRIES_MAX) }).await
    }

    /// Sweeps once, as this sweep says.
    pub async fn sweep_as(&self, sweep: Sweep) -> Swept {
        self.broker.sweep(&self.tenant, sweep).await.expect("a sweep succeeds")
    }

    /// Applies an action to one job.
    pub async fn act(&self, action: JobAction, job: JobId) -> Changed {
        self.broker.act(&self.tenant, action, &[job]).await.expect("it succeeds")[0]
    }

    /// Leases up to `n` jobs of the usual queue.
    pub async fn lease(&self, n: u32) -> Vec<Lease> {
        self.ask(&[(queue(), n)]).await.leases
    }

    /// Leases the next job of the usual queue, which has to be there.
    pub async fn lease_one(&self) -> LeaseToken {
        let leases = self.lease(1).await;
        assert_eq!(leases.len(), 1, "there is a job to lease");
        leases[0].token
    }

    /// Enqueues a new job and leases it; there must be no other.
    pub async fn leased_job(&self) -> LeaseToken {
        let id = self.enqueue(self.new_job()).await;
        let token = self.lease_one().await;
        assert_eq!(token.job, id, "there is no other");
        token
    }

    /// Leases all ready jobs of the usual queue, and returns their ids in the order of the leases.
    pub async fn drain(&self) -> Vec<JobId> {
        self.lease(1000).await.into_iter().map(|lease| lease.token.job).collect()
    }

    /// Renews one lease.
    pub async fn renew(&self, renew: Renew) -> Renewal {
        let renewals = self.broker.renew(&self.tenant, TTL, &[renew]).await.expect("a renewal succeeds");
        assert_eq!(renewals.len(), 1);
        renewals[0]
    }

    /// Settles a batch, and returns an answer for each settlement.
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

    /// Settles one lease, as the usual plugin does; it has to be applied.
    pub async fn applied(&self, token: LeaseToken, settlement: Settlement) {
        assert_eq!(self.settle(token, settlement).await, SettleReply::Applied);
    }

    /// Returns a job, which has to be there.
    pub async fn record(&self, job: JobId) -> JobRecord {
        self.find(job).await.expect("the job is there")
    }

    /// Returns a job, or `None` if it isn't there.
    pub async fn find(&self, job: JobId) -> Option<JobRecord> {
        self.broker.job(&self.tenant, job).await.expect("a look succeeds")
    }

    /// Returns the state of a job, which has to be there.
    pub async fn state_of(&self, job: JobId) -> State {
        self.record(job).await.state
    }

    /// Returns the log of a job.
    pub async fn log(&self, job: JobId) -> Vec<LogLine> {
        self.broker.log(&self.tenant, job).await.expect("a look succeeds")
    }

    /// Returns the ids of the first 100 jobs of a state, as they are listed.
    pub async fn list(&self, state: State) -> Vec<JobId> {
        self.page(Query::of(state, 100)).await.jobs.into_iter().map(|record| record.id).collect()
    }

    /// Returns a page of jobs.
    pub async fn page(&self, query: Query) -> Page {
        self.broker.jobs(&self.tenant, query).await.expect("a look succeeds")
    }

    /// Returns the number of jobs in each state.
    pub async fn counts(&self) -> Counts {
        self.broker.counts(&self.tenant).await.expect("a look succeeds")
    }

    /// Returns a value of the usual plugin's state, or `None` if there is none.
    pub async fn stored(&self, key: &StateKey) -> Option<Vec<u8>> {
        self.broker.state(&self.tenant, &plugin(PLUGIN), key).await.expect("a look succeeds")
    }
}

fn fresh_tenant() -> TenantId {
    TenantId::parse(&format!("t{:032x}", rand::random::<u128>()))
        .expect("hexadecimal digits are a valid name")
}
