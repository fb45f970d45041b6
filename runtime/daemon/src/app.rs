//! The daemon, put together: one renewal loop, one dispatcher of wakes, one janitor, and for each tenant an intake and a
//! settler.
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

use crate::capacity::fair_slots::FairSlots;
use crate::catalog::{Archive, Catalog, Current};
use crate::clock::Clock;
use crate::intake::Intake;
use crate::lease::broker_health::BrokerHealth;
use crate::lease::janitor::{Janitor, RulesTold, Upkeep};
use crate::lease::renewal::{LeaseTable, renew_leases};
use crate::lease::suspects::Suspects;
use crate::lease::wake::{WakeSenders, dispatch_wakes};
use crate::run::breakers::Reports;
use crate::run::runner::Runner;
use crate::run::settler::Settler;
use crate::run::worker::TenantContext;
use crate::schedule::register::Registrar;
use crate::shutdown::{Follow, Phase, Shutdown};
use crate::telemetry::Observer;
use crate::vitals::{self, Vitals};

/// Components and settings that a daemon is made of.
pub struct Parts<R: Runner> {
    /// Broker that holds the jobs.
    pub broker: Arc<dyn Broker>,
    /// Runner of the jobs' plans.
    pub runner: Arc<R>,
    /// Tenants and plugins in force, at any time.
    pub catalog: Current<R::Plugin>,
    /// Revisions that were in force once, for jobs that are pinned to one.
    pub archive: Arc<dyn Archive<R::Plugin>>,
    /// Source of time and chance.
    pub clock: Clock,
    /// Signs of life that the loops give.
    pub vitals: Arc<Vitals>,
    /// Observer of the daemon's events.
    pub observer: Arc<dyn Observer>,
    /// Maximum number of runs under way at once.
    pub concurrency: NonZeroU32,
    /// Settings of leases: how long they hold, and when they are renewed.
    pub lease: config::Lease,
    /// Maximum time for which runs may go on when the daemon stops.
    pub grace: Duration,
}

/// Reason why a daemon ended that wasn't told to.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A loop that must go on ended: a bug. Jobs that were leased are taken back when their leases run out.
    #[error("a loop of the daemon has ended, which is a bug: {cause}")]
    LoopEnded {
        /// Known cause, as text for people.
        cause: String,
    },
}

/// Runs the daemon until `shutdown` says to drain, and all jobs that it has leased are settled or given back, or that takes too
/// long.
///
/// # Errors
/// One of its loops ended before that.
pub async fn run<R: Runner>(parts: Parts<R>, shutdown: &Shutdown) -> Result<(), Error> {
    let grace = parts.grace;
    let (broker, vitals) = (Arc::clone(&parts.broker), Arc::clone(&parts.vitals));
    let mut supervisor = Supervisor::new(parts, shutdown);
    let lease_table = Arc::clone(&supervisor.lease_table);
    let phase = shutdown.follow();
    let served = async {
        supervisor.supervise(&phase).await?;
        tokio::select! {
            biased;
            () = lease_table.idle() => Ok(()),
            bug = supervisor.watch_over() => Err(bug),
        }
    };
    let ended = tokio::select! {
        biased;
        ended = served => ended,
        () = shutdown.see_out(grace) => Ok(()),
    };
    // A report that comes after the farewell would be a ghost.
    drop(supervisor);
    vitals::leave(&*broker, &vitals).await;
    ended
}

/// Supervisor of all loops.
struct Supervisor<R: Runner> {
    parts: Parts<R>,
    /// Slots of the daemon: one for each run under way at once.
    slots: Arc<FairSlots>,
    suspects: Arc<Suspects>,
    daemon: DaemonId,
    health: Arc<BrokerHealth>,
    lease_table: Arc<LeaseTable>,
    phase: Follow,
    /// Schedule of sweeps by tenant.
    upkeep: Arc<Upkeep>,
    /// Sender of the catalog that the janitor goes by.
    kept: watch::Sender<Arc<Catalog<R::Plugin>>>,
    /// Sender of the catalog whose schedules are registered.
    scheduled: watch::Sender<Arc<Catalog<R::Plugin>>>,
    wake_senders: watch::Sender<WakeSenders>,
    /// Tenants whose intakes run.
    tenants: BTreeMap<TenantId, TenantTasks<R>>,
    /// The loops. Dropping the set at the end ends them.
    loops: JoinSet<Ended>,
}

/// Tasks of a tenant whose intake runs.
struct TenantTasks<R: Runner> {
    /// Held so that its settler goes on for as long.
    _context: Arc<TenantContext<R>>,
    /// Sender of the catalog that its intake goes by. Each tenant has its own, and they are sent to in order of name: receivers
    /// of one channel are woken in an order that is left to chance, and a simulation could not be played again.
    catalog: watch::Sender<Arc<Catalog<R::Plugin>>>,
}

/// End of a loop.
enum Ended {
    /// A loop that had to go on, by name.
    Unending(String),
    Intake(TenantId),
    /// Settler of a tenant that is gone, or was gone and has come back with loops of its own.
    Settler,
    /// Reports of a tenant, likewise.
    Reports,
}

impl<R: Runner> Supervisor<R> {
    fn new(parts: Parts<R>, shutdown: &Shutdown) -> Self {
        let catalog = parts.catalog.borrow().clone();
        let mut supervisor = Self {
            slots: FairSlots::new(parts.concurrency),
            suspects: Arc::default(),
            daemon: parts.vitals.id(),
            health: Arc::new(BrokerHealth::new(Arc::clone(&parts.observer))),
            lease_table: Arc::new(LeaseTable::default()),
            phase: shutdown.follow(),
            wake_senders: watch::Sender::default(),
            upkeep: Arc::default(),
            kept: watch::Sender::new(Arc::clone(&catalog)),
            scheduled: watch::Sender::new(catalog),
            tenants: BTreeMap::new(),
            loops: JoinSet::new(),
            parts,
        };
        supervisor.parts.vitals.serve(supervisor.parts.concurrency.get(), Arc::clone(&supervisor.slots));
        supervisor.follow_catalog();
        let janitor = Janitor {
            upkeep: Arc::clone(&supervisor.upkeep),
            broker: Arc::clone(&supervisor.parts.broker),
            catalog: supervisor.kept.subscribe(),
            wake_senders: supervisor.wake_senders.subscribe(),
            lease: supervisor.parts.lease,
            health: Arc::clone(&supervisor.health),
            observer: Arc::clone(&supervisor.parts.observer),
            clock: supervisor.parts.clock.clone(),
            rules: RulesTold::default(),
            vitals: Arc::clone(&supervisor.parts.vitals),
        };
        supervisor.loops.spawn(async move {
            janitor.run().await;
            Ended::Unending("the janitor".to_owned())
        });
        let registrar = Registrar {
            broker: Arc::clone(&supervisor.parts.broker),
            catalog: supervisor.scheduled.subscribe(),
            observer: Arc::clone(&supervisor.parts.observer),
            clock: supervisor.parts.clock.clone(),
        };
        supervisor.loops.spawn(async move {
            registrar.run().await;
            Ended::Unending("the registration of schedules".to_owned())
        });
        let (broker, lease) = (Arc::clone(&supervisor.parts.broker), supervisor.parts.lease);
        let (health, clock) = (Arc::clone(&supervisor.health), supervisor.parts.clock.clone());
        let dispatching = dispatch_wakes(
            supervisor.daemon,
            Arc::clone(&broker),
            supervisor.wake_senders.subscribe(),
            Arc::clone(&supervisor.lease_table),
            Arc::clone(&supervisor.upkeep),
            Arc::clone(&health),
            clock.clone(),
        );
        let renewing = renew_leases(Arc::clone(&supervisor.lease_table), broker, lease, health, clock);
        supervisor.loops.spawn(async move {
            dispatching.await;
            Ended::Unending("the dispatcher of wakes".to_owned())
        });
        supervisor.loops.spawn(async move {
            renewing.await;
            Ended::Unending("the renewal loop".to_owned())
        });
        let Parts { broker, vitals, catalog, .. } = &supervisor.parts;
        let (broker, vitals, catalog) = (Arc::clone(broker), Arc::clone(vitals), catalog.clone());
        let phase = supervisor.phase.clone();
        supervisor.loops.spawn(async move {
            let about = move || catalog.borrow().about();
            vitals::roll_call(&*broker, &vitals, &phase, about).await;
            Ended::Unending("the roll call".to_owned())
        });
        supervisor
    }

    /// Keeps the loops in step with the catalog until the daemon drains and no intake leases any more.
    async fn supervise(&mut self, phase: &Follow) -> Result<(), Error> {
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
                // This is also for a tenant that was gone, and came back before its end was noted.
                self.start_missing_tenants();
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
                self.wake_senders.send_modify(|wake_senders| drop(wake_senders.remove(&tenant)));
                Ok(())
            }
            Ended::Settler | Ended::Reports => Ok(()),
            Ended::Unending(name) => Err(Error::LoopEnded { cause: format!("{name} returned") }),
        }
    }

    /// Sets slots aside for the tenants in force, and starts the loops of those that have none.
    fn follow_catalog(&mut self) {
        let catalog = self.parts.catalog.borrow().clone();
        self.slots.set_aside(catalog.busy_tenants());
        for tenant in self.tenants.values() {
            tenant.catalog.send_replace(Arc::clone(&catalog));
        }
        self.kept.send_replace(Arc::clone(&catalog));
        self.scheduled.send_replace(Arc::clone(&catalog));
        self.start_missing_tenants();
    }

    /// Starts the loops of tenants that have none.
    fn start_missing_tenants(&mut self) {
        let catalog = self.parts.catalog.borrow().clone();
        for tenant in catalog.tenants() {
            if !self.tenants.contains_key(tenant) {
                self.start_tenant(tenant.clone());
            }
        }
    }

    fn start_tenant(&mut self, tenant: TenantId) {
        let Parts { broker, runner, archive, clock, observer, lease, .. } = &self.parts;
        let health = &self.health;
        let (settler, settling) = Settler::new(
            tenant.clone(),
            Arc::clone(broker),
            Arc::clone(health),
            Arc::clone(observer),
            clock.clone(),
        );
        let (reports, reporting) = Reports::new(
            tenant.clone(),
            Arc::clone(broker),
            Arc::clone(health),
            Arc::clone(observer),
            clock.clone(),
        );
        let context = Arc::new(TenantContext {
            tenant: tenant.clone(),
            daemon: self.daemon,
            broker: Arc::clone(broker),
            runner: Arc::clone(runner),
            archive: Arc::clone(archive),
            settler,
            reports,
            lease_table: Arc::clone(&self.lease_table),
            memory: MemoryAccount::default(),
            phase: self.phase.clone(),
            clock: clock.clone(),
            observer: Arc::clone(observer),
        });
        let (wakes, woken) = watch::channel(0);
        let (catalog, followed) = watch::channel(self.parts.catalog.borrow().clone());
        let intake = Intake {
            context: Arc::clone(&context),
            catalog: followed,
            wakes: woken,
            slots: self.slots.join(&tenant),
            suspects: Arc::clone(&self.suspects),
            daemon: self.daemon,
            lease: *lease,
            health: Arc::clone(health),
            upkeep: Arc::clone(&self.upkeep),
            vitals: Arc::clone(&self.parts.vitals),
        };
        let (of_settler, of_intake) = (tenant.clone(), tenant.clone());
        let served = Arc::downgrade(&context);
        self.loops.spawn(async move {
            settling.await;
            if served.strong_count() == 0 {
                Ended::Settler
            } else {
                Ended::Unending(format!("the settler of tenant {of_settler}"))
            }
        });
        self.loops.spawn(async move {
            reporting.await;
            Ended::Reports
        });
        self.loops.spawn(async move {
            intake.run().await;
            Ended::Intake(of_intake)
        });
        self.wake_senders
            .send_modify(|wake_senders| drop(wake_senders.insert(tenant.clone(), Arc::new(wakes))));
        self.tenants.insert(tenant, TenantTasks { _context: context, catalog });
    }
}
