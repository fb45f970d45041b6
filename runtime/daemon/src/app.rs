//! The daemon, put together: one heartbeat, one bell ringer, one janitor, and for each tenant an intake and a settler.
//!
//! Tenants come and go with the catalog. One that comes gets its loops. Of one that goes, the intake ends by itself,
//! as it finds no terms any more; its settler ends with the last of its runs.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use sandhog_broker::Broker;
use sandhog_config as config;
use sandhog_core::id::{DaemonId, TenantId};
use sandhog_engine::MemoryAccount;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};

use crate::capacity::fair_slots::Seats;
use crate::catalog::{Archive, Catalog, Current};
use crate::clock::Ambient;
use crate::lease::broker_health::Outage;
use crate::lease::intake::Intake;
use crate::lease::janitor::{Janitor, Upkeep};
use crate::lease::renewal::{Live, beat};
use crate::lease::suspects::Suspects;
use crate::lease::wake::{Bells, ring};
use crate::run::runner::Runner;
use crate::run::settler::Settler;
use crate::run::worker::Workshop;
use crate::shutdown::{Follow, Phase, Shutdown};
use crate::telemetry::Observer;

/// What a daemon is made of.
pub struct Parts<R: Runner> {
    /// Where jobs live.
    pub broker: Arc<dyn Broker>,
    /// What runs them.
    pub runner: Arc<R>,
    /// Who may have what run, at any time.
    pub catalog: Current<R::Plugin>,
    /// Revisions that were in force once, for jobs that are pinned to one.
    pub archive: Arc<dyn Archive<R::Plugin>>,
    /// Time and chance.
    pub ambient: Ambient,
    /// What reads what happens.
    pub observer: Arc<dyn Observer>,
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

/// Runs the daemon until `shutdown` says to drain, and what it has leased is settled or given back, or that takes too long.
///
/// # Errors
/// If one of its loops ends before that.
pub async fn run<R: Runner>(parts: Parts<R>, shutdown: &Shutdown) -> Result<(), Error> {
    let grace = parts.grace;
    let mut floor = Floor::new(parts, shutdown);
    let live = Arc::clone(&floor.live);
    let phase = shutdown.follow();
    let served = async {
        floor.attend(&phase).await?;
        tokio::select! {
            biased;
            () = live.idle() => Ok(()),
            bug = floor.watch_over() => Err(bug),
        }
    };
    tokio::select! {
        biased;
        ended = served => ended,
        () = shutdown.see_out(grace) => Ok(()),
    }
}

/// All the loops.
struct Floor<R: Runner> {
    parts: Parts<R>,
    /// One for each run of the daemon under way at once.
    seats: Arc<Seats>,
    suspects: Arc<Suspects>,
    daemon: DaemonId,
    outage: Arc<Outage>,
    live: Arc<Live>,
    phase: Follow,
    /// When which tenant is swept next.
    upkeep: Arc<Upkeep>,
    /// What the janitor goes by.
    kept: watch::Sender<Arc<Catalog<R::Plugin>>>,
    bells: watch::Sender<Bells>,
    /// The tenants whose intakes run.
    tenants: BTreeMap<TenantId, Staffed<R>>,
    /// Dropped at the end, which ends the loops.
    loops: JoinSet<Ended>,
}

/// A tenant whose intake runs.
struct Staffed<R: Runner> {
    /// Held so that its settler goes on for as long.
    _workshop: Arc<Workshop<R>>,
    /// What its intake goes by. Each has its own, and they are told in order of name: those who follow one channel are
    /// woken in an order that is left to chance, and a simulation could not be played again.
    catalog: watch::Sender<Arc<Catalog<R::Plugin>>>,
}

/// A loop that has come to its end.
enum Ended {
    /// One that had to go on.
    Unending(String),
    Intake(TenantId),
    /// That of a tenant that is gone, or was gone and has come back with loops of its own.
    Settler,
}

impl<R: Runner> Floor<R> {
    fn new(parts: Parts<R>, shutdown: &Shutdown) -> Self {
        let catalog = parts.catalog.borrow().clone();
        let mut floor = Self {
            seats: Seats::new(parts.concurrency),
            suspects: Arc::default(),
            daemon: parts.ambient.daemon_id(),
            outage: Arc::new(Outage::new(Arc::clone(&parts.observer))),
            live: Arc::new(Live::default()),
            phase: shutdown.follow(),
            bells: watch::Sender::default(),
            upkeep: Arc::default(),
            kept: watch::Sender::new(catalog),
            tenants: BTreeMap::new(),
            loops: JoinSet::new(),
            parts,
        };
        floor.follow_catalog();
        let janitor = Janitor {
            upkeep: Arc::clone(&floor.upkeep),
            broker: Arc::clone(&floor.parts.broker),
            catalog: floor.kept.subscribe(),
            bells: floor.bells.subscribe(),
            lease: floor.parts.lease,
            outage: Arc::clone(&floor.outage),
            observer: Arc::clone(&floor.parts.observer),
            ambient: floor.parts.ambient.clone(),
        };
        floor.loops.spawn(async move {
            janitor.run().await;
            Ended::Unending("the janitor".to_owned())
        });
        let (broker, lease) = (Arc::clone(&floor.parts.broker), floor.parts.lease);
        let (outage, ambient) = (Arc::clone(&floor.outage), floor.parts.ambient.clone());
        let ringing = ring(
            floor.daemon,
            Arc::clone(&broker),
            floor.bells.subscribe(),
            Arc::clone(&floor.live),
            Arc::clone(&outage),
            ambient.clone(),
        );
        let beating = beat(Arc::clone(&floor.live), broker, lease, outage, ambient);
        floor.loops.spawn(async move {
            ringing.await;
            Ended::Unending("the bell ringer".to_owned())
        });
        floor.loops.spawn(async move {
            beating.await;
            Ended::Unending("the heartbeat".to_owned())
        });
        floor
    }

    /// Keeps the loops in step with the catalog until the daemon drains and no intake leases any more.
    async fn attend(&mut self, phase: &Follow) -> Result<(), Error> {
        let mut catalog = self.parts.catalog.clone();
        loop {
            let draining = phase.phase() >= Phase::Draining;
            if draining && self.tenants.is_empty() {
                return Ok(());
            }
            tokio::select! {
                biased;
                () = phase.reached(Phase::Draining), if !draining => {}
                Some(ended) = self.loops.join_next() => self.note(ended)?,
                Ok(()) = catalog.changed(), if !draining => self.follow_catalog(),
            }
            if phase.phase() == Phase::Running {
                // Also for one that was gone, and came back before its end was noted.
                self.receive_tenants();
            }
        }
    }

    /// Waits for a loop that must not end.
    async fn watch_over(&mut self) -> Error {
        loop {
            match self.loops.join_next().await.map(|ended| self.note(ended)) {
                Some(Ok(())) => {}
                Some(Err(bug)) => return bug,
                None => std::future::pending().await,
            }
        }
    }

    fn note(&mut self, ended: Result<Ended, JoinError>) -> Result<(), Error> {
        match ended.map_err(|panic| Error::LoopEnded { cause: panic.to_string() })? {
            Ended::Intake(tenant) => {
                self.tenants.remove(&tenant);
                self.bells.send_modify(|bells| drop(bells.remove(&tenant)));
                Ok(())
            }
            Ended::Settler => Ok(()),
            Ended::Unending(name) => Err(Error::LoopEnded { cause: format!("{name} returned") }),
        }
    }

    /// Sets seats aside for the tenants in force, and starts the loops of those that have none.
    fn follow_catalog(&mut self) {
        let catalog = self.parts.catalog.borrow().clone();
        self.seats.set_aside(catalog.busy_tenants());
        for tenant in self.tenants.values() {
            tenant.catalog.send_replace(Arc::clone(&catalog));
        }
        self.kept.send_replace(Arc::clone(&catalog));
        self.receive_tenants();
    }

    /// Starts the loops of tenants that have none.
    fn receive_tenants(&mut self) {
        let catalog = self.parts.catalog.borrow().clone();
        for tenant in catalog.tenants() {
            if !self.tenants.contains_key(tenant) {
                self.receive(tenant.clone());
            }
        }
    }

    fn receive(&mut self, tenant: TenantId) {
        let Parts { broker, runner, archive, ambient, observer, lease, .. } = &self.parts;
        let outage = &self.outage;
        let (settler, settling) = Settler::new(
            tenant.clone(),
            Arc::clone(broker),
            Arc::clone(outage),
            Arc::clone(observer),
            ambient.clone(),
        );
        let workshop = Arc::new(Workshop {
            tenant: tenant.clone(),
            broker: Arc::clone(broker),
            runner: Arc::clone(runner),
            archive: Arc::clone(archive),
            settler,
            live: Arc::clone(&self.live),
            memory: MemoryAccount::default(),
            phase: self.phase.clone(),
            ambient: ambient.clone(),
            observer: Arc::clone(observer),
        });
        let (bell, rung) = watch::channel(0);
        let (catalog, followed) = watch::channel(self.parts.catalog.borrow().clone());
        let intake = Intake {
            workshop: Arc::clone(&workshop),
            catalog: followed,
            bell: rung,
            seats: self.seats.join(&tenant),
            suspects: Arc::clone(&self.suspects),
            daemon: self.daemon,
            lease: *lease,
            outage: Arc::clone(outage),
            upkeep: Arc::clone(&self.upkeep),
        };
        let (of_settler, of_intake) = (tenant.clone(), tenant.clone());
        let served = Arc::downgrade(&workshop);
        self.loops.spawn(async move {
            settling.await;
            if served.strong_count() == 0 {
                Ended::Settler
            } else {
                Ended::Unending(format!("the settler of tenant {of_settler}"))
            }
        });
        self.loops.spawn(async move {
            intake.run().await;
            Ended::Intake(of_intake)
        });
        self.bells.send_modify(|bells| drop(bells.insert(tenant.clone(), Arc::new(bell))));
        self.tenants.insert(tenant, Staffed { _workshop: workshop, catalog });
    }
}
