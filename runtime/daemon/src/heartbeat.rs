//! Keeps the leases of what runs, in batches, and brings to the broker what runs report meanwhile.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::join_all;
use sandhog_broker::{Broker, Renew, Renewal};
use sandhog_core::attempt::Event;
use sandhog_core::id::{LeaseToken, TenantId};
use sandhog_core::job::{LogLine, Progress};
use sandhog_core::time::Mono;
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

use crate::ambient::Ambient;
use crate::config;
use crate::outage::Outage;

/// Renewals that one call carries at most.
const BATCH_MAX: usize = 500;

/// Progress and log lines are at most this old when they reach the broker.
const REPORT_EVERY: Duration = Duration::from_secs(1);

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
    events: mpsc::UnboundedSender<Event>,
    state: Mutex<PulseState>,
}

#[derive(Debug)]
struct PulseState {
    renewed_at: Mono,
    notes: Notes,
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

    fn lock(&self) -> std::sync::MutexGuard<'_, PulseState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The attempts that are under way.
#[derive(Debug, Default)]
pub(crate) struct Live {
    pulses: Mutex<BTreeMap<LeaseToken, Arc<Pulse>>>,
}

/// Membership in [`Live`]; ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Alive {
    live: Arc<Live>,
    pub(crate) pulse: Arc<Pulse>,
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.live.lock().remove(&self.pulse.token);
    }
}

impl Live {
    /// Adds an attempt that was leased at `leased_at`; what the heartbeat learns goes to `events`.
    pub(crate) fn join(
        self: &Arc<Self>,
        tenant: TenantId,
        token: LeaseToken,
        leased_at: Mono,
        events: mpsc::UnboundedSender<Event>,
    ) -> Alive {
        let state = Mutex::new(PulseState { renewed_at: leased_at, notes: Notes::default() });
        let pulse = Arc::new(Pulse { tenant, token, events, state });
        self.lock().insert(token, Arc::clone(&pulse));
        Alive { live: Arc::clone(self), pulse }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<LeaseToken, Arc<Pulse>>> {
        self.pulses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Those that need a renewal by now or have something to report, by tenant.
    fn due(&self, renewed_before: Mono) -> BTreeMap<TenantId, Vec<Arc<Pulse>>> {
        let mut due: BTreeMap<TenantId, Vec<Arc<Pulse>>> = BTreeMap::new();
        for pulse in self.lock().values() {
            let state = pulse.lock();
            if state.renewed_at <= renewed_before || !state.notes.is_empty() {
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
        ticks.tick().await;
        let now = ambient.mono().since_origin();
        let Some(renewed_before) = now.checked_sub(lease.renew_every).map(Mono::from_origin) else {
            continue;
        };
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
                // A closed channel is an attempt that has just ended.
                let _ = pulse.events.send(event);
            }
        }
        Err(error) => {
            outage.note(&error);
            for (pulse, ask) in batch.iter().zip(asks) {
                pulse.note(|notes| notes.restore(Notes { progress: ask.progress, log: ask.log }));
            }
        }
    }
}
