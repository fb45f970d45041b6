//! Intake: leases the jobs of one tenant, permits first, then the broker. Only jobs that end quickly are prefetched.
//!
//! The loop sleeps until a wake says that there may be work, and there are permits for it. One call is under way at a time;
//! permits that come back meanwhile go to what was prefetched, and the rest into the next call, so calls carry one job when
//! little goes on and many under load.
//!
//! A broker may take long to answer, or never do. So that nobody else waits for it, slots are held for no longer than
//! [`SLOTS_HELD`] while it is asked; what comes later waits for the next slot that is free.

mod prefetch;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::{FuturesUnordered, StreamExt};
use sandhog_broker::{Asker, LaneAsk, LeaseAsk, Leased};
use sandhog_config as config;
use sandhog_core::id::{DaemonId, Kind, QueueName, TenantId};
use sandhog_core::job::Job;
use sandhog_core::quota::{FuelQuota, Verdict, Window};
use sandhog_core::reason::Reason;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::capacity::fair_slots::{Slots, TenantSlots, WaitPosition};
use crate::capacity::permits::{AvailablePermits, LeasePermits, Placement};
use crate::catalog::{Current, Plugin, Queue, Tenant};
use crate::intake::prefetch::PrefetchedJobs;
use crate::lease::broker_health::{BrokerHealth, Caller, Tries};
use crate::lease::janitor::Upkeep;
use crate::lease::suspects::Suspects;
use crate::run::runner::Runner;
use crate::run::turn::{self, NO_ROOM_REST, Turn};
use crate::run::worker::{LeasedJob, TenantContext};
use crate::shutdown::Phase;
use crate::telemetry::{Event, Observer};
use crate::vitals::Vitals;

/// Maximum number of jobs that one call asks for.
const BATCH_MAX: u32 = 256;

/// Maximum time for which a tenant whose fuel is used up goes without a look.
const HELD_MAX: Duration = Duration::from_secs(5);

/// Maximum time for which slots are held while the broker is asked for jobs.
const SLOTS_HELD: Duration = Duration::from_millis(20);

/// Maximum time that an intake that ends waits for the broker to take that in.
const GOODBYE_MAX: Duration = Duration::from_millis(500);

/// Intake loop of one tenant.
pub(crate) struct Intake<R: Runner> {
    pub(crate) context: Arc<TenantContext<R>>,
    pub(crate) catalog: Current<R::Plugin>,
    pub(crate) wakes: watch::Receiver<u64>,
    /// The tenant's access to the daemon's slots: one for each run under way at once.
    pub(crate) slots: TenantSlots,
    pub(crate) suspects: Arc<Suspects>,
    pub(crate) daemon: DaemonId,
    pub(crate) lease: config::Lease,
    pub(crate) health: Arc<BrokerHealth>,
    pub(crate) upkeep: Arc<Upkeep>,
    pub(crate) vitals: Arc<Vitals>,
}

/// Knowledge of the tenant's queues that the loop keeps from call to call.
#[derive(Default)]
struct QueueView {
    /// Queues that the last call emptied, and that nothing was heard of since.
    empty: HashSet<QueueName>,
    /// Index of the queue that the next call begins with, modulo their number.
    turn: usize,
    /// Lanes that this daemon serves, as of `lanes_number`, and those that it wants made.
    lanes: Vec<(QueueName, Kind)>,
    lanes_number: u64,
    /// Time until which nothing is to be had, whatever is heard: the tenant's fuel is used up.
    held_until: Option<Instant>,
    /// Window whose fuel the log has said to be used up.
    used_up: Option<Window>,
    /// Time at which a rate limit of which all tokens were taken has some again.
    token_at: Option<Instant>,
    /// Whether the last call failed.
    failed: bool,
    /// Number of the last call. If that failed, the next one has the same, so that what it leased isn't lost.
    asked: u64,
    /// Whether no suspects were asked for with the last call, so some may be left.
    without_suspects: bool,
    /// Place in line for slots that is still the tenant's: it gave its slots to others, as the broker took long.
    position: Option<WaitPosition>,
}

/// Decision to ask the broker for jobs, with the permits for them.
struct LeaseRequest<P> {
    terms: Arc<Tenant<P>>,
    permits: LeasePermits,
}

impl QueueView {
    fn is_hungry<P>(&self, terms: &Tenant<P>) -> bool {
        terms.queues.iter().any(|queue| self.wants(queue))
    }

    /// Whether there may be jobs in the queue.
    fn wants(&self, queue: &Queue) -> bool {
        !self.empty.contains(&queue.name)
    }

    /// Marks the lanes as unknown, so that they are looked up again: other kinds may be served than before.
    fn relearn(&mut self) {
        self.lanes_number = u64::MAX;
        self.forget();
    }

    /// Takes all queues to have jobs again, as anything may have turned up.
    fn forget(&mut self) {
        self.empty.clear();
    }

    /// Takes all queues to have jobs again if there are tokens again of a rate limit.
    fn learn_of_tokens(&mut self, now: Instant) {
        if self.token_at.take_if(|at| *at <= now).is_some() {
            self.forget();
        }
    }

    /// Asks for a kind in a queue by a lane of its own, so that its plugin's limit is held against it there.
    fn ask_for(&mut self, queue: &QueueName, kind: &Kind) {
        let lane = (queue.clone(), kind.clone());
        if !self.lanes.contains(&lane) {
            self.lanes.push(lane);
        }
        self.forget();
    }

    /// Records whether there is fuel. Each time that it is used up, that is reported once.
    fn learn_of_fuel(&mut self, tenant: &TenantId, verdict: &Verdict, observer: &dyn Observer) {
        let (window, consequence) = match verdict {
            Verdict::Run => {
                self.used_up = None;
                return;
            }
            Verdict::Hold { window, until } => {
                // Not for long: another daemon's file may say otherwise.
                self.held_until = Some(Instant::now() + (*until).min(HELD_MAX));
                (*window, "its jobs wait for the next one")
            }
            Verdict::RunIdle(window) => (*window, "its jobs run when no other tenant wants the processors"),
            Verdict::Reject { window, .. } => (*window, "its jobs are buried"),
        };
        if self.used_up.replace(window) != Some(window) {
            observer.on(&Event::FuelUsedUp { tenant, window, consequence });
        }
    }

    fn learn(&mut self, asks: &[(QueueName, u32)], leased: &Leased) {
        for (queue, count) in asks {
            let came = leased.leases.iter().filter(|lease| lease.job.queue == *queue).count();
            if came < *count as usize {
                self.empty.insert(queue.clone());
            } else {
                self.empty.remove(queue);
            }
        }
    }
}

impl<R: Runner> Intake<R> {
    /// Leases jobs until the daemon drains, or the tenant is gone from the catalog.
    pub(crate) async fn run(mut self) {
        let phase = self.context.phase.clone();
        let mut view = QueueView::default();
        let mut prefetched = PrefetchedJobs::default();
        let mut tries = Tries::default();
        loop {
            let ready = tokio::select! {
                biased;
                () = phase.reached(Phase::Draining) => break,
                ready = self.wait(&mut view, &mut prefetched) => ready,
            };
            let Some(request) = ready else { break };
            // A call that was begun is seen through: what it leases has to be run or given back.
            let Err(error) = self.lease(&mut view, &mut prefetched, request).await else {
                tries.succeeded();
                view.failed = false;
                self.vitals.fetched();
                continue;
            };
            view.failed = true;
            self.vitals.answered();
            self.health.note(Caller::Tenant(&self.context.tenant), &error);
            if matches!(error, sandhog_broker::Error::Full { .. }) {
                // Jobs that are past their time make room when they are removed.
                self.upkeep.due(&self.context.tenant, self.context.clock.mono());
            }
            view.forget();
            tokio::select! {
                biased;
                () = phase.reached(Phase::Draining) => break,
                () = tokio::time::sleep(tries.failed(&self.context.clock)) => {}
            }
        }
        let reason = match phase.phase() {
            Phase::Running => Reason::NoRoom,
            Phase::Draining | Phase::Releasing => Reason::Drained,
        };
        self.give_up(prefetched.all(), reason);
        self.wait_no_more(&view).await;
        self.health.forget(&self.context.tenant);
    }

    /// Waits until there may be work, and permits for it or reason to prefetch it. `None` if the tenant is gone. Starts
    /// prefetched jobs meanwhile.
    async fn wait(
        &mut self,
        view: &mut QueueView,
        prefetched: &mut PrefetchedJobs<R::Plugin>,
    ) -> Option<LeaseRequest<R::Plugin>> {
        loop {
            let terms = self.terms()?;
            view.learn_of_tokens(Instant::now());
            if let Some(held_until) = view.held_until.take() {
                // Nothing is prefetched under a quota, but it may be new.
                self.give_up(prefetched.all(), Reason::NoRoom);
                tokio::select! {
                    biased;
                    Ok(()) = self.catalog.changed() => view.relearn(),
                    () = tokio::time::sleep_until(held_until) => view.forget(),
                }
                continue;
            }
            if prefetched.is_empty() && !view.is_hungry(&terms) {
                self.vitals.fetched();
                self.changed(view).await;
                continue;
            }
            prefetched.count(&terms.queues, self.context.clock.mono());
            let in_turns = self.slots.is_contended();
            let more = |queue: &Queue| view.wants(queue) && prefetched.more(&terms, queue) > 0;
            let slots = if !in_turns && terms.queues.iter().any(more) {
                self.slots.try_acquire()
            } else {
                tokio::select! {
                    biased;
                    slots = self.slots.acquire(view.position) => Some(slots),
                    () = self.context.clock.reached(prefetched.until()) => None,
                }
            };
            // A wake or a deploy up to here is answered by the call that follows; a later one has to be looked at
            // after it.
            if self.catalog.has_changed().unwrap_or(false) {
                self.catalog.mark_unchanged();
                view.relearn();
            }
            if self.wakes.has_changed().unwrap_or(false) {
                self.wakes.mark_unchanged();
                view.forget();
            }
            let terms = self.terms()?;
            let has_slots = slots.is_some();
            if has_slots {
                view.position = None;
            }
            // A broker that doesn't answer is asked for one job, so that others find the slots free.
            let most = if view.failed { 1 } else { BATCH_MAX };
            let available = slots.and_then(|slots| self.admit(prefetched, &terms, slots, most));
            self.give_up(prefetched.overdue(self.context.clock.mono()), Reason::NoRoom);
            let more = |queue: &Queue, count: u32| match in_turns {
                true => count.saturating_mul(prefetched.turn(&terms, queue) - 1).min(BATCH_MAX - count),
                false => prefetched.more(&terms, queue),
            };
            let permits = LeasePermits::take(&terms, available, |queue| view.wants(queue), more, view.turn);
            if let Some(permits) = permits {
                view.turn = view.turn.wrapping_add(1);
                return Some(LeaseRequest { terms, permits });
            }
            if !has_slots {
                continue;
            }
            if !view.failed {
                // Its own limits leave the tenant no room.
                self.vitals.fetched();
            }
            tokio::select! {
                biased;
                () = terms.concurrency_limit.freed() => {}
                () = woken(&mut self.wakes) => view.forget(),
                Ok(()) = self.catalog.changed() => view.relearn(),
                () = self.context.clock.reached(prefetched.until()) => {}
                () = reached(view.token_at) => {}
            }
        }
    }

    /// Starts the prefetched jobs that there are permits for. Returns the permits that are left.
    fn admit(
        &self,
        prefetched: &mut PrefetchedJobs<R::Plugin>,
        terms: &Tenant<R::Plugin>,
        slots: Slots,
        most: u32,
    ) -> Option<AvailablePermits> {
        let mut available = AvailablePermits::take(terms, slots, most)?;
        let turns = prefetched.admit(&mut available);
        self.start_turns(turns, prefetched, terms);
        Some(available)
    }

    /// Starts turns. Where others wait in line for slots, jobs that wait to be started go along.
    fn start_turns(
        &self,
        mut turns: Vec<Turn<R::Plugin>>,
        prefetched: &mut PrefetchedJobs<R::Plugin>,
        terms: &Tenant<R::Plugin>,
    ) {
        if self.slots.is_contended() {
            prefetched.fill(&mut turns, terms);
        }
        self.start(turns);
    }

    fn terms(&self) -> Option<Arc<Tenant<R::Plugin>>> {
        self.catalog.borrow().tenant(&self.context.tenant).cloned()
    }

    /// Waits for a wake or another catalog, or until a suspect may be asked for if none was.
    async fn changed(&mut self, view: &mut QueueView) {
        tokio::select! {
            biased;
            () = woken(&mut self.wakes) => view.forget(),
            Ok(()) = self.catalog.changed() => view.relearn(),
            () = self.suspects.free(), if view.without_suspects => view.forget(),
            () = reached(view.token_at) => {}
        }
    }

    async fn lease(
        &mut self,
        view: &mut QueueView,
        prefetched: &mut PrefetchedJobs<R::Plugin>,
        request: LeaseRequest<R::Plugin>,
    ) -> sandhog_broker::Result<()> {
        let LeaseRequest { terms, mut permits } = request;
        let queues = permits.asks();
        let asked_at = self.context.clock.mono();
        if !view.failed {
            view.asked += 1;
        }
        let lanes = permits.lanes(&terms, &view.lanes);
        let suspects = self.suspects.wanted();
        view.without_suspects = suspects == 0;
        let ask = LeaseAsk {
            lanes: &lanes,
            suspects,
            asker: Some(Asker { daemon: self.daemon, number: view.asked, repeats: view.failed }),
            fuel: Some(terms.fuel).filter(FuelQuota::is_bounded),
            ..LeaseAsk::new(&self.context.tenant, &queues, self.lease.ttl)
        };
        let mut call = self.context.broker.lease(ask);
        let mut held_long = std::pin::pin!(self.context.clock.reached(Some(asked_at.after(SLOTS_HELD))));
        let mut position = None;
        let leased = loop {
            tokio::select! {
                biased;
                leased = &mut call => break leased?,
                () = &mut held_long, if permits.has_permits() => position = permits.give_back(),
                () = terms.concurrency_limit.freed(), if !prefetched.is_empty() => {
                    if let Some(slots) = self.slots.try_acquire() {
                        self.admit(prefetched, &terms, slots, BATCH_MAX);
                    }
                }
            }
        };
        self.health.over(Caller::Tenant(&self.context.tenant));
        view.learn(&queues, &leased);
        view.token_at = leased.next_token.map(|wait| Instant::now() + wait);
        self.learn_lanes(view, &terms, leased.lanes).await;
        if let Some(due) = leased.next_due {
            self.upkeep.due(&self.context.tenant, self.context.clock.mono().after(due));
        }
        let decide = |spent| terms.fuel.decide(&self.context.tenant, &spent);
        let verdict = leased.spent.map_or(Verdict::Run, decide);
        view.learn_of_fuel(&self.context.tenant, &verdict, &*self.context.observer);
        if self.wakes.has_changed().unwrap_or(false) {
            view.forget();
        }
        let mut turns = Vec::with_capacity(leased.leases.len());
        let granted_at = leased.now;
        let now = self.context.clock.mono();
        for lease in leased.leases {
            let (tenant, token) = (&self.context.tenant, lease.token);
            self.context.observer.on(&Event::Leased { tenant, kind: &lease.job.kind, token });
            let plugin = terms.kinds.get(&lease.job.kind).map(|plugin| &**plugin);
            let is_suspect = lease.job.expiries > 0;
            let watch = if is_suspect { self.suspects.take() } else { None };
            // There may be more of them than this one, and nobody tells when it has ended.
            view.without_suspects |= is_suspect;
            let is_uncounted = plugin.is_some_and(|plugin| is_uncounted(plugin, &lease.job, &lanes));
            if is_uncounted {
                view.ask_for(&lease.job.queue, &lease.job.kind);
            }
            let placement = if is_uncounted || (is_suspect && watch.is_none()) {
                // Without the right to run a suspect, another tenant's call has brought one meanwhile.
                Placement::NoPermit
            } else {
                permits.place(&lease.job.queue, plugin)
            };
            let leased_job = LeasedJob {
                trusted_until: asked_at.after(self.lease.ttl.saturating_sub(self.lease.margin)),
                deadline: lease.job.time_left(granted_at).map(|left| asked_at.after(left)),
                lease_guard: self.context.lease_table.join(
                    self.context.tenant.clone(),
                    lease.token,
                    asked_at,
                ),
                terms: Arc::clone(&terms),
                verdict: verdict.clone(),
                watch,
                lease,
            };
            match placement {
                Placement::Run(permit) => turns.push(Turn::new(leased_job, permit)),
                Placement::Prefetched if position.is_some() => prefetched.push_without_slot(leased_job, now),
                Placement::Prefetched => prefetched.push(leased_job, now),
                Placement::NoPermit if is_uncounted => {
                    self.context.give_back(leased_job, Duration::ZERO, Reason::NoRoom);
                }
                Placement::NoPermit => self.context.give_back(leased_job, NO_ROOM_REST, Reason::NoRoom),
            }
        }
        if !prefetched.is_empty() {
            view.position = position;
        }
        self.start_turns(turns, prefetched, &terms);
        Ok(())
    }

    /// Makes the broker tell other daemons of jobs, by a call that asks for none. A broker that can't be reached isn't told:
    /// then the news of one job are in vain, and others look by themselves a while later.
    async fn wait_no_more(&self, view: &QueueView) {
        let queues: Vec<(QueueName, u32)> = view.empty.iter().map(|queue| (queue.clone(), 0)).collect();
        if queues.is_empty() {
            return;
        }
        let of_those = view.lanes.iter().filter(|(queue, _)| view.empty.contains(queue));
        let lanes: Vec<LaneAsk> =
            of_those.map(|(queue, kind)| LaneAsk::new(queue.clone(), kind.clone(), 0)).collect();
        let ask = LeaseAsk {
            lanes: &lanes,
            suspects: 0,
            asker: Some(Asker { daemon: self.daemon, number: view.asked + 1, repeats: false }),
            ..LeaseAsk::new(&self.context.tenant, &queues, self.lease.ttl)
        };
        match tokio::time::timeout(GOODBYE_MAX, self.context.broker.lease(ask)).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => {
                tracing::debug!(tenant = %self.context.tenant, %error, "the broker can't be told that nobody waits here any more");
            }
            Err(_) => {
                tracing::debug!(tenant = %self.context.tenant, "the broker wasn't told in time that nobody waits here any more");
            }
        }
    }

    /// Looks up the lanes if they have changed: kinds that another daemon doesn't serve, and this one may.
    async fn learn_lanes(&self, view: &mut QueueView, terms: &Tenant<R::Plugin>, number: u64) {
        if number == view.lanes_number {
            return;
        }
        match self.context.broker.lanes(&self.context.tenant).await {
            Ok(found) => {
                let is_served = |(queue, kind): &(QueueName, Kind)| {
                    terms.kinds.contains_key(kind) && terms.queues.iter().any(|known| known.name == *queue)
                };
                view.lanes = found.lanes.into_iter().filter(is_served).collect();
                view.lanes_number = found.number;
                view.forget();
            }
            // The next call tells of the change again.
            Err(error) => self.health.note(Caller::Tenant(&self.context.tenant), &error),
        }
    }

    /// Starts jobs. One task sees all of them through: runs that end meanwhile are looked at in one go.
    fn start(&self, turns: impl IntoIterator<Item = Turn<R::Plugin>>) {
        let turns: FuturesUnordered<_> =
            turns.into_iter().map(|turn| turn::take(Arc::clone(&self.context), turn)).collect();
        if !turns.is_empty() {
            tokio::spawn(turns.collect::<()>());
        }
    }

    /// Gives back prefetched jobs; others may have them at once.
    fn give_up(&self, prefetched: Vec<LeasedJob<R::Plugin>>, reason: Reason) {
        for leased_job in prefetched {
            self.context.give_back(leased_job, Duration::ZERO, reason);
        }
    }
}

/// Whether a plugin has a limit that a job of it was not counted against, as it came from another plugin's queue and nobody had
/// asked for its kind there.
fn is_uncounted<P>(plugin: &Plugin<P>, job: &Job, lanes: &[LaneAsk]) -> bool {
    let has_limit = |lane: &LaneAsk| lane.limit.is_some() || lane.rate.is_some();
    let counts = |lane: &LaneAsk| lane.queue == job.queue && lane.kind == job.kind && has_limit(lane);
    plugin.has_fleet_limit() && plugin.queue != job.queue && !lanes.iter().any(counts)
}

/// Waits until this time; without one, for ever.
async fn reached(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

async fn woken(wakes: &mut watch::Receiver<u64>) {
    if wakes.changed().await.is_err() {
        // The sender is gone, and with it the daemon.
        std::future::pending::<()>().await;
    }
}
