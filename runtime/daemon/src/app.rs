//! The daemon, put together: one intake and one settler a tenant, one heartbeat, one bell ringer.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use sandhog_broker::Broker;
use sandhog_core::id::TenantId;
use sandhog_engine::MemoryAccount;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use crate::ambient::Ambient;
use crate::catalog::Current;
use crate::config;
use crate::drain::{Phase, Shutdown, reached};
use crate::heartbeat::{Live, beat};
use crate::intake::Intake;
use crate::outage::Outage;
use crate::runner::Runner;
use crate::settler::Settler;
use crate::slots::Slots;
use crate::wake::{Bells, ring};
use crate::worker::Workshop;

/// What a daemon is made of.
pub struct Parts<R: Runner> {
    /// Where jobs live.
    pub broker: Arc<dyn Broker>,
    /// What runs them.
    pub runner: Arc<R>,
    /// Who may have what run. The tenants are those of the catalog at the start.
    pub catalog: Current<R::Plugin>,
    /// Time and chance.
    pub ambient: Ambient,
    /// Runs under way at once.
    pub concurrency: NonZeroU32,
    /// How long leases hold.
    pub lease: config::Lease,
    /// How long what runs may go on when the daemon stops.
    pub grace: Duration,
}

/// Why a daemon ended that wasn't told to.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A loop that must go on ended: a bug. Whatever was leased is taken back when its leases run out.
    #[error("a loop of the daemon has ended, which is a bug: {cause}")]
    LoopEnded {
        /// What is known of it.
        cause: String,
    },
}

/// Sets slots aside for the tenants of each catalog that comes into force.
async fn set_aside<P: Send + Sync + 'static>(slots: Arc<Slots>, mut catalog: Current<P>) {
    while catalog.changed().await.is_ok() {
        slots.set_aside(catalog.borrow_and_update().busy_tenants());
    }
    // Nobody swaps it any more.
    std::future::pending().await
}

/// Runs the daemon until `shutdown` says to drain, and what it has leased is settled or given back.
///
/// # Errors
/// If one of its loops ends before that.
pub async fn run<R: Runner>(parts: Parts<R>, shutdown: &Shutdown) -> Result<(), Error> {
    let slots = Slots::new(parts.concurrency);
    slots.set_aside(parts.catalog.borrow().busy_tenants());
    let outage = Arc::new(Outage::default());
    let live = Arc::new(Live::default());
    let mut bells = Bells::new();
    let mut intakes = JoinSet::new();
    // Dropped at the end, which ends the loops.
    let mut loops = JoinSet::new();
    loops.spawn(set_aside(Arc::clone(&slots), parts.catalog.clone()));
    // Held to the end: a settler whose last user is gone would end before the daemon does.
    let mut workshops = Vec::new();

    let tenants: Vec<TenantId> = parts.catalog.borrow().tenants().cloned().collect();
    for tenant in tenants {
        let (settler, settling) = Settler::new(
            tenant.clone(),
            Arc::clone(&parts.broker),
            Arc::clone(&outage),
            parts.ambient.clone(),
        );
        loops.spawn(settling);
        let (bell, rung) = watch::channel(0);
        bells.insert(tenant.clone(), bell);
        let workshop = Workshop {
            tenant,
            broker: Arc::clone(&parts.broker),
            runner: Arc::clone(&parts.runner),
            settler,
            live: Arc::clone(&live),
            memory: MemoryAccount::default(),
            phase: shutdown.watch(),
            ambient: parts.ambient.clone(),
        };
        let workshop = Arc::new(workshop);
        workshops.push(Arc::clone(&workshop));
        let intake = Intake {
            workshop,
            catalog: parts.catalog.clone(),
            bell: rung,
            slots: Arc::clone(&slots),
            freed: Arc::new(Notify::new()),
            lease: parts.lease,
            outage: Arc::clone(&outage),
        };
        intakes.spawn(intake.run());
    }
    loops.spawn(ring(Arc::clone(&parts.broker), bells, Arc::clone(&outage), parts.ambient.clone()));
    loops.spawn(beat(live, Arc::clone(&parts.broker), parts.lease, outage, parts.ambient));

    let drained = async {
        reached(&mut shutdown.watch(), Phase::Draining).await;
        while let Some(ended) = intakes.join_next().await {
            ended.map_err(|panic| Error::LoopEnded { cause: panic.to_string() })?;
        }
        // Every run holds a slot until it is settled: with all of them back, nothing is left to do.
        shutdown.see_out(parts.grace, slots.idle()).await;
        Ok(())
    };
    tokio::select! {
        biased;
        drained = drained => drained,
        Some(ended) = loops.join_next() => {
            let cause = ended.map_or_else(|panic| panic.to_string(), |()| "it returned".to_owned());
            Err(Error::LoopEnded { cause })
        }
    }
}
