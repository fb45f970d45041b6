//! Keeps the leases of what runs, in batches, and brings to the broker what runs report meanwhile.
//!
//! A renewal is also how a holder learns that its job is to be cancelled. So when news of a cancellation come, that one
//! lease is renewed at once; the next beat is only the safety net.

use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use futures::future::join_all;
use futures::task::AtomicWaker;
use sandhog_broker::{Broker, Renew, Renewal};
use sandhog_core::attempt::Event;
use sandhog_core::id::{JobId, LeaseNo, LeaseToken, TenantId};
use sandhog_core::job::{LogLine, Progress};
use sandhog_core::time::Mono;
use tokio::sync::Notify;
use tokio::time::MissedTickBehavior;

use crate::ambient::Ambient;
use crate::config;
use crate::outage::Outage;

/// Renewals that one call carries at most.
const BATCH_MAX: usize = 500;

/// Progress and log lines are at most this old when they reach the broker.
const REPORT_EVERY: Duration = Duration::from_secs(1);

/// News of cancellations that came before the lease that they are about; more than that many are those of other daemons.
const EARLY_MAX: usize = 64;

/// What a run has reported since it was last brought to the broker.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    pub(crate) progress: Option<Progress>,
    pub(crate) log: Vec<LogLine>,
}

impl Notes {
    fn is_empty(&self) -> bool {
        self.progress.is_none() && self.log.is_empty()
    }

    /// Puts back what couldn't be delivered, before what came later.
    fn restore(&mut self, mut earlier: Self) {
        earlier.log.append(&mut self.log);
        self.log = earlier.log;
        self.progress = self.progress.take().or(earlier.progress);
    }
}

/// One attempt, as the heartbeat sees it.
#[derive(Debug)]
pub(crate) struct Pulse {
    tenant: TenantId,
    token: LeaseToken,
    state: Mutex<PulseState>,
    /// The attempt, if it waits for an event.
    attempt: AtomicWaker,
}

#[derive(Debug)]
struct PulseState {
    renewed_at: Mono,
    hurry: Hurry,
    notes: Notes,
    /// What the heartbeat has learned, and the attempt has not heard of yet. Most attempts end before there is anything.
    events: VecDeque<Event>,
}

/// Whether a lease is renewed before its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hurry {
    No,
    Yes,
}

impl Pulse {
    /// Adds to what is to be reported.
    pub(crate) fn note(&self, add: impl FnOnce(&mut Notes)) {
        add(&mut self.lock().notes);
    }

    /// Takes what is to be reported.
    pub(crate) fn take_notes(&self) -> Notes {
        std::mem::take(&mut self.lock().notes)
    }

    /// Waits for what the heartbeat learns next. For one waiter at a time.
    pub(crate) async fn event(&self) -> Event {
        poll_fn(|cx| {
            self.attempt.register(cx.waker());
            self.lock().events.pop_front().map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }

    fn tell(&self, event: Event) {
        self.lock().events.push_back(event);
        self.attempt.wake();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, PulseState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The attempts that are under way.
#[derive(Debug, Default)]
pub(crate) struct Live {
    attempts: Mutex<Attempts>,
    /// Says that a lease is to be renewed at once.
    hurried: Notify,
    /// Says that the last attempt has ended.
    none_left: Notify,
}

#[derive(Debug, Default)]
struct Attempts {
    // By tenant as well: the ids of two tenants' jobs may be the same.
    pulses: BTreeMap<(TenantId, LeaseToken), Arc<Pulse>>,
    /// Jobs to be cancelled that no attempt here is about, the latest last: its lease may be on its way to us.
    early: VecDeque<(TenantId, JobId)>,
}

/// Membership in [`Live`]; ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Alive {
    live: Arc<Live>,
    pub(crate) pulse: Arc<Pulse>,
}

impl Drop for Alive {
    fn drop(&mut self) {
        let mut attempts = self.live.lock();
        attempts.pulses.remove(&(self.pulse.tenant.clone(), self.pulse.token));
        if attempts.pulses.is_empty() {
            self.live.none_left.notify_waiters();
        }
    }
}

impl Live {
    /// Adds an attempt that was leased at `leased_at`.
    pub(crate) fn join(self: &Arc<Self>, tenant: TenantId, token: LeaseToken, leased_at: Mono) -> Alive {
        let state = PulseState {
            renewed_at: leased_at,
            hurry: Hurry::No,
            notes: Notes::default(),
            events: VecDeque::new(),
        };
        let (state, attempt) = (Mutex::new(state), AtomicWaker::new());
        let pulse = Arc::new(Pulse { tenant: tenant.clone(), token, state, attempt });
        let mut attempts = self.lock();
        let early = attempts.early.iter().position(|(of, job)| (of, *job) == (&tenant, token.job));
        if let Some(early) = early {
            attempts.early.remove(early);
            pulse.lock().hurry = Hurry::Yes;
            self.hurried.notify_one();
        }
        attempts.pulses.insert((tenant, token), Arc::clone(&pulse));
        drop(attempts);
        Alive { live: Arc::clone(self), pulse }
    }

    /// Waits until no attempt is under way.
    pub(crate) async fn idle(&self) {
        loop {
            let none_left = self.none_left.notified();
            if self.lock().pulses.is_empty() {
                return;
            }
            none_left.await;
        }
    }

    /// Has the leases of a job renewed at once.
    pub(crate) fn hurry(&self, tenant: TenantId, job: JobId) {
        let mut attempts = self.lock();
        let token = |lease| (tenant.clone(), LeaseToken { job, lease: LeaseNo(lease) });
        let mut found = attempts.pulses.range(token(0)..=token(u64::MAX)).peekable();
        if found.peek().is_some() {
            found.for_each(|(_, pulse)| pulse.lock().hurry = Hurry::Yes);
            self.hurried.notify_one();
            return;
        }
        drop(found);
        if attempts.early.len() == EARLY_MAX {
            attempts.early.pop_front();
        }
        attempts.early.push_back((tenant, job));
    }

    /// Has all leases renewed with the next beat: any of them may be about a job to be cancelled.
    pub(crate) fn hurry_all(&self) {
        self.lock().pulses.values().for_each(|pulse| pulse.lock().hurry = Hurry::Yes);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Attempts> {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Those that need a renewal by now or have something to report, by tenant.
    fn due(&self, renewed_before: Option<Mono>) -> BTreeMap<TenantId, Vec<Arc<Pulse>>> {
        let mut due: BTreeMap<TenantId, Vec<Arc<Pulse>>> = BTreeMap::new();
        for pulse in self.lock().pulses.values() {
            let state = pulse.lock();
            let in_time = renewed_before.is_some_and(|before| state.renewed_at <= before);
            if in_time || state.hurry == Hurry::Yes || !state.notes.is_empty() {
                due.entry(pulse.tenant.clone()).or_default().push(Arc::clone(pulse));
            }
        }
        due
    }
}

/// Beats until the process ends.
pub(crate) async fn beat(
    live: Arc<Live>,
    broker: Arc<dyn Broker>,
    lease: config::Lease,
    outage: Arc<Outage>,
    ambient: Ambient,
) {
    let mut ticks = tokio::time::interval(REPORT_EVERY.min(lease.renew_every));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            _ = ticks.tick() => {}
            () = live.hurried.notified() => {}
        }
        let now = ambient.mono().since_origin();
        let renewed_before = now.checked_sub(lease.renew_every).map(Mono::from_origin);
        let due = live.due(renewed_before);
        join_all(due.iter().flat_map(|(tenant, pulses)| {
            pulses.chunks(BATCH_MAX).map(|batch| renew(&*broker, tenant, batch, lease, &outage, &ambient))
        }))
        .await;
    }
}

async fn renew(
    broker: &dyn Broker,
    tenant: &TenantId,
    batch: &[Arc<Pulse>],
    lease: config::Lease,
    outage: &Outage,
    ambient: &Ambient,
) {
    let asks: Vec<Renew> = batch
        .iter()
        .map(|pulse| {
            pulse.lock().hurry = Hurry::No;
            let Notes { progress, log } = pulse.take_notes();
            Renew { token: pulse.token, progress, log }
        })
        .collect();
    // What the broker grants counts from when it was asked: its answer may have taken long.
    let asked_at = ambient.mono();
    let trusted_until = asked_at.after(lease.ttl.saturating_sub(lease.margin));
    match broker.renew(tenant, lease.ttl, &asks).await {
        Ok(renewals) => {
            outage.over();
            for (pulse, renewal) in batch.iter().zip(renewals) {
                pulse.lock().renewed_at = asked_at;
                let event = match renewal {
                    Renewal::Held => Event::Renewed { trusted_until },
                    Renewal::CancelRequested => Event::CancelRequested { trusted_until },
                    Renewal::Lost => Event::LeaseLost,
                };
                pulse.tell(event);
            }
        }
        Err(error) => {
            outage.note(&error);
            for (pulse, ask) in batch.iter().zip(asks) {
                pulse.lock().hurry = Hurry::Yes;
                pulse.note(|notes| notes.restore(Notes { progress: ask.progress, log: ask.log }));
            }
        }
    }
}
