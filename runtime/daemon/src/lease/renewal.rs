//! Renewal of running attempts' leases, in batches; renewals also bring to the broker what runs report meanwhile.
//!
//! A renewal is also how a holder learns that its job is to be cancelled. So when news of a cancellation come, that one
//! lease is renewed at once; the next round is only the safety net.
//!
//! Each tenant has its own calls, one after the other: a broker that keeps one tenant waiting holds up nobody else's
//! renewals.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::poll_fn;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use futures::future::join_all;
use futures::stream::{FuturesUnordered, StreamExt};
use futures::task::AtomicWaker;
use sandhog_broker::{Broker, Renew, Renewal};
use sandhog_config as config;
use sandhog_core::attempt::Event;
use sandhog_core::id::{JobId, LeaseNo, LeaseToken, TenantId};
use sandhog_core::job::{LogLine, Progress};
use sandhog_core::time::Mono;
use tokio::sync::Notify;
use tokio::time::MissedTickBehavior;

use crate::clock::Clock;
use crate::lease::broker_health::{BrokerHealth, Caller};

/// Maximum number of renewals that one call carries.
const BATCH_MAX: usize = 500;

/// Maximum age of progress and log lines when they reach the broker.
const REPORT_EVERY: Duration = Duration::from_secs(1);

/// Maximum number of kept cancellations that came before the lease that they are about; more than that are those of other
/// daemons.
const EARLY_MAX: usize = 64;

/// Progress and log lines that a run has reported since they were last brought to the broker.
#[derive(Debug, Clone, Default)]
pub(crate) struct Notes {
    pub(crate) progress: Option<Progress>,
    pub(crate) log: Vec<LogLine>,
}

impl Notes {
    pub(crate) fn is_empty(&self) -> bool {
        self.progress.is_none() && self.log.is_empty()
    }

    /// Puts back notes that couldn't be delivered, before those that came later.
    pub(crate) fn restore(&mut self, mut earlier: Self) {
        earlier.log.append(&mut self.log);
        self.log = earlier.log;
        self.progress = self.progress.take().or(earlier.progress);
    }
}

/// Lease of one attempt, shared between the attempt and the renewal loop.
#[derive(Debug)]
pub(crate) struct LeaseHandle {
    tenant: TenantId,
    token: LeaseToken,
    state: Mutex<LeaseState>,
    /// Waker of the attempt, if it waits for an event.
    attempt: AtomicWaker,
}

#[derive(Debug)]
struct LeaseState {
    renewed_at: Mono,
    renew_soon: RenewSoon,
    /// Whether the attempt wants its lease renewed; once it doesn't, it never does again.
    wanted: bool,
    notes: Notes,
    /// Whether a renewal under way brings notes, which come back if it fails.
    notes_on_their_way: bool,
    /// Events that the renewal loop has learned, and the attempt has not heard of yet. Most attempts end before there is any.
    events: VecDeque<Event>,
}

/// Whether a lease is renewed before its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RenewSoon {
    No,
    Yes,
}

impl LeaseHandle {
    /// Adds to the notes that are to be reported.
    pub(crate) fn note(&self, add: impl FnOnce(&mut Notes)) {
        add(&mut self.lock().notes);
    }

    /// Takes the notes that are to be reported.
    pub(crate) fn take_notes(&self) -> Notes {
        std::mem::take(&mut self.lock().notes)
    }

    /// Stops renewing the lease.
    pub(crate) fn let_go(&self) {
        self.lock().wanted = false;
    }

    /// Waits until no renewal is under way that brings notes. Notes that it couldn't deliver are there again by then. For one
    /// waiter at a time, counting that of [`Self::event`].
    pub(crate) async fn notes_are_here(&self) {
        poll_fn(|cx| {
            self.attempt.register(cx.waker());
            if self.lock().notes_on_their_way { Poll::Pending } else { Poll::Ready(()) }
        })
        .await;
    }

    /// Takes the notes that are to be reported and makes the renewal that carries them.
    fn begin_renewal(&self) -> Renew {
        let mut state = self.lock();
        state.renew_soon = RenewSoon::No;
        let notes = std::mem::take(&mut state.notes);
        state.notes_on_their_way = !notes.is_empty();
        Renew { token: self.token, progress: notes.progress, log: notes.log }
    }

    /// Records that the renewal succeeded.
    fn is_renewed(&self, asked_at: Mono, event: Event) {
        let mut state = self.lock();
        state.renewed_at = asked_at;
        state.notes_on_their_way = false;
        state.events.push_back(event);
        drop(state);
        self.attempt.wake();
    }

    /// Records that the renewal failed: it is tried again, and its notes go with the next one, or with the settlement.
    fn renewal_failed(&self, renew: Renew) {
        let mut state = self.lock();
        state.renew_soon = RenewSoon::Yes;
        state.notes_on_their_way = false;
        state.notes.restore(Notes { progress: renew.progress, log: renew.log });
        drop(state);
        self.attempt.wake();
    }

    /// Waits for the next event that the renewal loop learns. For one waiter at a time.
    pub(crate) async fn event(&self) -> Event {
        poll_fn(|cx| {
            self.attempt.register(cx.waker());
            self.lock().events.pop_front().map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, LeaseState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Attempts that are under way, each with its lease.
#[derive(Debug, Default)]
pub(crate) struct LeaseTable {
    attempts: Mutex<Attempts>,
    /// Notified when a lease is to be renewed at once.
    renewals_wanted: Notify,
    /// Notified when the last attempt has ended.
    none_left: Notify,
}

#[derive(Debug, Default)]
struct Attempts {
    // Keyed by tenant as well: the ids of two tenants' jobs may be the same.
    handles: BTreeMap<(TenantId, LeaseToken), Arc<LeaseHandle>>,
    /// Jobs to be cancelled that have no attempt here, the latest last: the lease may be on its way to us. At most
    /// [`EARLY_MAX`].
    early: VecDeque<(TenantId, JobId)>,
}

/// Membership in [`LeaseTable`]; ends when it is dropped.
#[derive(Debug)]
pub(crate) struct LeaseGuard {
    lease_table: Arc<LeaseTable>,
    pub(crate) handle: Arc<LeaseHandle>,
}

impl Drop for LeaseGuard {
    fn drop(&mut self) {
        let mut attempts = self.lease_table.lock();
        attempts.handles.remove(&(self.handle.tenant.clone(), self.handle.token));
        if attempts.handles.is_empty() {
            self.lease_table.none_left.notify_waiters();
        }
    }
}

impl LeaseTable {
    /// Adds an attempt that was leased at `leased_at`.
    pub(crate) fn join(self: &Arc<Self>, tenant: TenantId, token: LeaseToken, leased_at: Mono) -> LeaseGuard {
        let state = LeaseState {
            renewed_at: leased_at,
            renew_soon: RenewSoon::No,
            wanted: true,
            notes: Notes::default(),
            notes_on_their_way: false,
            events: VecDeque::new(),
        };
        let (state, attempt) = (Mutex::new(state), AtomicWaker::new());
        let handle = Arc::new(LeaseHandle { tenant: tenant.clone(), token, state, attempt });
        let mut attempts = self.lock();
        let early = attempts.early.iter().position(|(of, job)| (of, *job) == (&tenant, token.job));
        if let Some(early) = early {
            attempts.early.remove(early);
            handle.lock().renew_soon = RenewSoon::Yes;
            self.renewals_wanted.notify_one();
        }
        attempts.handles.insert((tenant, token), Arc::clone(&handle));
        drop(attempts);
        LeaseGuard { lease_table: Arc::clone(self), handle }
    }

    /// Waits until no attempt is under way.
    pub(crate) async fn idle(&self) {
        loop {
            let none_left = self.none_left.notified();
            if self.lock().handles.is_empty() {
                return;
            }
            none_left.await;
        }
    }

    /// Requests that the leases of a job are renewed at once.
    pub(crate) fn renew_soon(&self, tenant: TenantId, job: JobId) {
        let mut attempts = self.lock();
        let token = |lease| (tenant.clone(), LeaseToken { job, lease: LeaseNo(lease) });
        let mut found = attempts.handles.range(token(0)..=token(u64::MAX)).peekable();
        if found.peek().is_some() {
            found.for_each(|(_, handle)| handle.lock().renew_soon = RenewSoon::Yes);
            self.renewals_wanted.notify_one();
            return;
        }
        drop(found);
        if attempts.early.len() == EARLY_MAX {
            attempts.early.pop_front();
        }
        attempts.early.push_back((tenant, job));
    }

    /// Requests that all leases are renewed with the next round: any of them may be about a job to be cancelled.
    pub(crate) fn renew_all_soon(&self) {
        self.lock().handles.values().for_each(|handle| handle.lock().renew_soon = RenewSoon::Yes);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Attempts> {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the leases that need a renewal by now or have something to report, by tenant: of all tenants, or `only` of one.
    fn due(
        &self,
        renewed_before: Option<Mono>,
        only: Option<&TenantId>,
    ) -> BTreeMap<TenantId, Vec<Arc<LeaseHandle>>> {
        let mut due: BTreeMap<TenantId, Vec<Arc<LeaseHandle>>> = BTreeMap::new();
        for handle in self.lock().handles.values() {
            if only.is_some_and(|only| *only != handle.tenant) {
                continue;
            }
            let state = handle.lock();
            if !state.wanted {
                continue;
            }
            let in_time = renewed_before.is_some_and(|before| state.renewed_at <= before);
            if in_time || state.renew_soon == RenewSoon::Yes || !state.notes.is_empty() {
                due.entry(handle.tenant.clone()).or_default().push(Arc::clone(handle));
            }
        }
        due
    }
}

/// Renews leases until the process ends.
pub(crate) async fn renew_leases(
    lease_table: Arc<LeaseTable>,
    broker: Arc<dyn Broker>,
    lease: config::Lease,
    health: Arc<BrokerHealth>,
    clock: Clock,
) {
    let mut ticks = tokio::time::interval(REPORT_EVERY.min(lease.renew_every));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut calls = FuturesUnordered::new();
    let mut busy = Busy::default();
    loop {
        let only = tokio::select! {
            biased;
            Some(tenant) = calls.next() => match busy.is_over(&tenant) {
                Next::Nothing => continue,
                Next::Look => Some(tenant),
            },
            _ = ticks.tick() => None,
            () = lease_table.renewals_wanted.notified() => None,
        };
        let now = clock.mono().since_origin();
        let renewed_before = now.checked_sub(lease.renew_every).map(Mono::from_origin);
        for (tenant, handles) in lease_table.due(renewed_before, only.as_ref()) {
            if busy.begins(&tenant, &handles) {
                let renewed = renew_tenant(&*broker, tenant, handles, lease, &health, &clock);
                calls.push(renewed);
            }
        }
    }
}

/// Tenants that have a call under way.
#[derive(Debug, Default)]
struct Busy {
    tenants: BTreeSet<TenantId>,
    /// Tenants for which a lease was to be renewed at once meanwhile.
    renewals_wanted: BTreeSet<TenantId>,
}

/// Next step once a tenant's call is over.
enum Next {
    Nothing,
    /// Renew what is due.
    Look,
}

impl Busy {
    /// Returns whether a tenant's leases can be renewed now. If not, they are looked at again once its call is over.
    fn begins(&mut self, tenant: &TenantId, handles: &[Arc<LeaseHandle>]) -> bool {
        if self.tenants.insert(tenant.clone()) {
            return true;
        }
        if handles.iter().any(|handle| handle.lock().renew_soon == RenewSoon::Yes) {
            self.renewals_wanted.insert(tenant.clone());
        }
        false
    }

    fn is_over(&mut self, tenant: &TenantId) -> Next {
        self.tenants.remove(tenant);
        if self.renewals_wanted.remove(tenant) { Next::Look } else { Next::Nothing }
    }
}

/// Renews a tenant's leases that are due. Returns the tenant.
async fn renew_tenant(
    broker: &dyn Broker,
    tenant: TenantId,
    handles: Vec<Arc<LeaseHandle>>,
    lease: config::Lease,
    health: &BrokerHealth,
    clock: &Clock,
) -> TenantId {
    let batches = handles.chunks(BATCH_MAX);
    join_all(batches.map(|batch| renew(broker, &tenant, batch, lease, health, clock))).await;
    tenant
}

async fn renew(
    broker: &dyn Broker,
    tenant: &TenantId,
    batch: &[Arc<LeaseHandle>],
    lease: config::Lease,
    health: &BrokerHealth,
    clock: &Clock,
) {
    let asks: Vec<Renew> = batch.iter().map(|handle| handle.begin_renewal()).collect();
    // What the broker grants counts from when it was asked: its answer may have taken long.
    let asked_at = clock.mono();
    let trusted_until = asked_at.after(lease.ttl.saturating_sub(lease.margin));
    match broker.renew(tenant, lease.ttl, &asks).await {
        Ok(renewals) => {
            health.over(Caller::Tenant(tenant));
            for (handle, renewal) in batch.iter().zip(renewals) {
                let event = match renewal {
                    Renewal::Held => Event::Renewed { trusted_until },
                    Renewal::CancelRequested => Event::CancelRequested { trusted_until },
                    // Another version has taken the job over.
                    Renewal::Lost | Renewal::Unreadable => Event::LeaseLost,
                };
                handle.is_renewed(asked_at, event);
            }
        }
        Err(error) => {
            health.note(Caller::Tenant(tenant), &error);
            for (handle, ask) in batch.iter().zip(asks) {
                handle.renewal_failed(ask);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;
    use sandhog_broker::faulty::{Faults, Faulty};
    use sandhog_broker::memory::Memory;
    use sandhog_broker::routed::{Routed, Routes};
    use sandhog_broker::{LeaseAsk, Result, SystemClock};
    use sandhog_core::id::{Kind, QueueName};
    use sandhog_core::job::NewJob;
    use sandhog_core::time::Timestamp;

    const LEASE: config::Lease = config::Lease {
        ttl: Duration::from_secs(30),
        margin: Duration::from_secs(5),
        renew_every: Duration::from_secs(10),
        expiries_max: 5,
    };

    struct Roads {
        silent: Arc<dyn Broker>,
        others: Arc<dyn Broker>,
    }

    impl Routes for Roads {
        fn route(&self, tenant: &TenantId) -> Result<Arc<dyn Broker>> {
            Ok(Arc::clone(if tenant.as_str() == "silent" { &self.silent } else { &self.others }))
        }

        fn all(&self) -> Vec<Arc<dyn Broker>> {
            vec![Arc::clone(&self.silent), Arc::clone(&self.others)]
        }

        fn of_fleet(&self) -> Arc<dyn Broker> {
            Arc::clone(&self.others)
        }
    }

    fn tenant(name: &str) -> TenantId {
        TenantId::parse(name).expect("valid")
    }

    /// A lease of a job that waits in this broker.
    async fn lease(broker: &dyn Broker, tenant: &TenantId) -> LeaseToken {
        let queue = QueueName::parse("default").expect("valid");
        let id = JobId::from_parts(Timestamp::from_millis(1), 1);
        let job = NewJob::new(id, queue.clone(), Kind::parse("k").expect("valid"), Vec::new());
        broker.enqueue(tenant, &[job]).await.expect("it is stored");
        let queues = [(queue, 1)];
        broker.lease(LeaseAsk::new(tenant, &queues, LEASE.ttl)).await.expect("it answers").leases[0].token
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_broker_of_one_tenant_holds_up_nobody_elses_beat() {
        let memory: Arc<dyn Broker> = Arc::new(Memory::new(Arc::new(SystemClock)));
        let hours = Faults { delay_max: Duration::from_secs(100 * 60 * 60), ..Faults::default() };
        let silent: Arc<dyn Broker> = Arc::new(Faulty::new(Arc::clone(&memory), hours));
        let lease_table = Arc::new(LeaseTable::default());
        let clock = Clock::system();
        let leased_at = clock.mono();
        let broker = Arc::new(Routed::new(Roads { silent, others: Arc::clone(&memory) }));
        tokio::spawn(renew_leases(Arc::clone(&lease_table), broker, LEASE, Arc::default(), clock));

        let (silent, other) = (tenant("silent"), tenant("other"));
        let of_silent =
            LeaseToken { job: JobId::from_parts(Timestamp::from_millis(1), 1), lease: LeaseNo(1) };
        let _of_silent = lease_table.join(silent.clone(), of_silent, leased_at);
        lease_table.renew_soon(silent.clone(), of_silent.job);
        tokio::time::sleep(Duration::from_secs(1)).await;

        let token = lease(&*memory, &other).await;
        let lease_guard = lease_table.join(other.clone(), token, leased_at);
        let cancelled_at = tokio::time::Instant::now();
        memory.cancel(&other, token.job).await.expect("it answers");
        lease_table.renew_soon(other, token.job);
        assert!(matches!(lease_guard.handle.event().await, Event::CancelRequested { .. }));
        assert!(cancelled_at.elapsed() < Duration::from_millis(10), "it took {:?}", cancelled_at.elapsed());
        for _ in 0..3 {
            assert!(matches!(lease_guard.handle.event().await, Event::CancelRequested { .. }));
        }
        let renewed = cancelled_at.elapsed();
        assert!(renewed < 3 * LEASE.renew_every + Duration::from_secs(2), "three beats took {renewed:?}");
    }

    #[test]
    fn a_lease_that_its_attempt_has_given_up_is_renewed_no_more() {
        let lease_table = Arc::new(LeaseTable::default());
        let token = LeaseToken { job: JobId::from_parts(Timestamp::from_millis(1), 1), lease: LeaseNo(1) };
        let lease_guard = lease_table.join(tenant("acme"), token, Mono::from_origin(Duration::ZERO));
        let later = Some(Mono::from_origin(Duration::from_secs(60)));
        assert_eq!(lease_table.due(later, None).len(), 1);
        lease_guard.handle.let_go();
        lease_table.renew_soon(tenant("acme"), token.job);
        lease_guard
            .handle
            .note(|notes| notes.progress = Some(Progress { done: 1, total: None, message: None }));
        assert_eq!(lease_table.due(later, None).len(), 0);
    }

    #[tokio::test]
    async fn what_a_renewal_could_not_bring_is_there_for_the_settlement() {
        let lease_table = Arc::new(LeaseTable::default());
        let token = LeaseToken { job: JobId::from_parts(Timestamp::from_millis(1), 1), lease: LeaseNo(1) };
        let lease_guard = lease_table.join(tenant("acme"), token, Mono::from_origin(Duration::ZERO));
        let progress = Progress { done: 1, total: None, message: None };
        lease_guard.handle.note(|notes| notes.progress = Some(progress.clone()));
        let renew = lease_guard.handle.begin_renewal();
        let mut here = std::pin::pin!(lease_guard.handle.notes_are_here());
        assert!(here.as_mut().now_or_never().is_none(), "they are on their way");
        lease_guard.handle.renewal_failed(renew);
        here.await;
        assert_eq!(lease_guard.handle.take_notes().progress, Some(progress));
        let nothing_to_bring = lease_guard.handle.begin_renewal();
        lease_guard.handle.notes_are_here().await;
        drop(nothing_to_bring);
    }

    #[test]
    fn a_cancellation_during_a_call_is_asked_about_once_that_is_over() {
        let (lease_table, acme, mut busy) =
            (Arc::new(LeaseTable::default()), tenant("acme"), Busy::default());
        let token = LeaseToken { job: JobId::from_parts(Timestamp::from_millis(1), 1), lease: LeaseNo(1) };
        let lease_guard = lease_table.join(acme.clone(), token, Mono::from_origin(Duration::ZERO));
        let handles = [Arc::clone(&lease_guard.handle)];
        assert!(busy.begins(&acme, &handles));
        assert!(!busy.begins(&acme, &handles), "one call is under way");
        assert!(
            matches!(busy.is_over(&acme), Next::Nothing),
            "nothing came that can't wait for the next beat"
        );
        assert!(busy.begins(&acme, &handles));
        lease_table.renew_soon(acme.clone(), token.job);
        assert!(!busy.begins(&acme, &handles));
        assert!(matches!(busy.is_over(&acme), Next::Look));
        assert!(busy.begins(&acme, &handles));
    }
}
