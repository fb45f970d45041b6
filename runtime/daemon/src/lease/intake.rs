//! Leases the jobs of one tenant: room first, then the broker. Only jobs that end quickly are leased a little ahead of it.
//!
//! The loop sleeps until its bell rings, as there may be work, and there is room. One call is under way at a time; room that is freed meanwhile goes to what
//! was leased ahead, and the rest into the next call, so calls carry one job when little goes on and many under load.
//!
//! A broker may take long to answer, or never do. So that nobody else waits for it, seats are held for no longer than
//! [`SEATS_HELD`] while it is asked; what comes later waits for the next seat that is free.

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

use crate::capacity::fair_slots::{Member, PlaceInLine, Seat};
use crate::capacity::permits::{Place, Reservation, Vacancy};
use crate::catalog::{Current, Plugin, Queue, Tenant};
use crate::lease::broker_health::{Caller, Outage, Tries};
use crate::lease::janitor::Upkeep;
use crate::lease::prefetch::Ahead;
use crate::lease::suspects::Suspects;
use crate::run::runner::Runner;
use crate::run::turn::{self, Turn};
use crate::run::worker::{Ticket, Workshop};
use crate::shutdown::Phase;
use crate::telemetry::{Event, Observer};

/// Jobs that one call asks for at most.
const BATCH_MAX: u32 = 256;

/// How long a tenant whose fuel is used up goes without a look.
const HELD_MAX: Duration = Duration::from_secs(5);

/// How long a job rests that was put into the queue of another plugin while its own had no room.
pub(crate) const NO_ROOM_REST: Duration = Duration::from_secs(1);

/// How long seats are held while the broker is asked for jobs.
const SEATS_HELD: Duration = Duration::from_millis(20);

/// How long an intake that ends waits for the broker to take that in.
const GOODBYE_MAX: Duration = Duration::from_millis(500);

/// The loop of one tenant.
pub(crate) struct Intake<R: Runner> {
    pub(crate) workshop: Arc<Workshop<R>>,
    pub(crate) catalog: Current<R::Plugin>,
    pub(crate) bell: watch::Receiver<u64>,
    /// One seat for each run of the daemon under way at once.
    pub(crate) seats: Member,
    pub(crate) suspects: Arc<Suspects>,
    pub(crate) daemon: DaemonId,
    pub(crate) lease: config::Lease,
    pub(crate) outage: Arc<Outage>,
    pub(crate) upkeep: Arc<Upkeep>,
}

/// What the loop knows of the queues.
#[derive(Default)]
struct Outlook {
    /// The queues that the last call emptied, and that nothing was heard of since.
    empty: HashSet<QueueName>,
    /// Which of the queues the next call begins with.
    turn: usize,
    /// The lanes that this daemon serves, as of this number of theirs, and those that it wants made.
    lanes: Vec<(QueueName, Kind)>,
    lanes_number: u64,
    /// Until when nothing is to be had, whatever is heard: the tenant's fuel is used up.
    held_until: Option<Instant>,
    /// Whose fuel the log has said to be used up.
    used_up: Option<Window>,
    /// The last call failed.
    failed: bool,
    /// The number of the last call. If that failed, the next one has the same, so that what it leased isn't lost.
    asked: u64,
    /// No suspects were asked for with the last call, so some may be left.
    without_suspects: bool,
    /// A place in line for seats that is still the tenant's: it gave its seats to others, as the broker took long.
    place: Option<PlaceInLine>,
}

/// What the loop has decided to ask the broker for.
struct Asking<P> {
    terms: Arc<Tenant<P>>,
    room: Reservation,
    /// Whether what is leased ahead is run in the room of those before it.
    in_turns: bool,
}

impl Outlook {
    fn is_hungry<P>(&self, terms: &Tenant<P>) -> bool {
        terms.queues.iter().any(|queue| self.wants(queue))
    }

    /// Whether there may be jobs in it.
    fn wants(&self, queue: &Queue) -> bool {
        !self.empty.contains(&queue.name)
    }

    /// Other kinds may be served than before.
    fn relearn(&mut self) {
        self.lanes_number = u64::MAX;
        self.forget();
    }

    /// Anything may have turned up.
    fn forget(&mut self) {
        self.empty.clear();
    }

    /// Has a kind asked for in a queue by a lane of its own, so that its plugin's limit is held against it there.
    fn ask_for(&mut self, queue: &QueueName, kind: &Kind) {
        let lane = (queue.clone(), kind.clone());
        if !self.lanes.contains(&lane) {
            self.lanes.push(lane);
        }
        self.forget();
    }

    /// Takes in whether there is fuel. Each time that it is used up, that is told once.
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
    /// Leases until the daemon drains, or the tenant is gone from the catalog.
    pub(crate) async fn run(mut self) {
        let phase = self.workshop.phase.clone();
        let mut outlook = Outlook::default();
        let mut ahead = Ahead::default();
        let mut tries = Tries::default();
        loop {
            let ready = tokio::select! {
                biased;
                () = phase.reached(Phase::Draining) => break,
                ready = self.wait(&mut outlook, &mut ahead) => ready,
            };
            let Some(asking) = ready else { break };
            // A call that was begun is seen through: what it leases has to be run or given back.
            let Err(error) = self.lease(&mut outlook, &mut ahead, asking).await else {
                tries.succeeded();
                outlook.failed = false;
                continue;
            };
            outlook.failed = true;
            self.outage.note(Caller::Tenant(&self.workshop.tenant), &error);
            if matches!(error, sandhog_broker::Error::Full { .. }) {
                // Whatever is past its time makes room.
                self.upkeep.due(&self.workshop.tenant, self.workshop.ambient.mono());
            }
            outlook.forget();
            tokio::select! {
                biased;
                () = phase.reached(Phase::Draining) => break,
                () = tokio::time::sleep(tries.failed(&self.workshop.ambient)) => {}
            }
        }
        let reason = match phase.phase() {
            Phase::Running => Reason::NoRoom,
            Phase::Draining | Phase::Releasing => Reason::Drained,
        };
        self.give_up(ahead.all(), reason);
        self.wait_no_more(&outlook).await;
        self.outage.forget(&self.workshop.tenant);
    }

    /// Waits until there may be work, and room for it or reason to lease it ahead; none if the tenant is gone. Starts what
    /// was leased ahead meanwhile.
    async fn wait(
        &mut self,
        outlook: &mut Outlook,
        ahead: &mut Ahead<R::Plugin>,
    ) -> Option<Asking<R::Plugin>> {
        loop {
            let terms = self.terms()?;
            if let Some(held_until) = outlook.held_until.take() {
                // Nothing is leased ahead of a quota, but it may be new.
                self.give_up(ahead.all(), Reason::NoRoom);
                tokio::select! {
                    biased;
                    Ok(()) = self.catalog.changed() => outlook.relearn(),
                    () = tokio::time::sleep_until(held_until) => outlook.forget(),
                }
                continue;
            }
            if ahead.is_empty() && !outlook.is_hungry(&terms) {
                self.changed(outlook).await;
                continue;
            }
            ahead.count(&terms.queues, self.workshop.ambient.mono());
            let in_turns = self.seats.is_contended();
            let more = |queue: &Queue| outlook.wants(queue) && ahead.more(&terms, queue) > 0;
            let seat = if !in_turns && terms.queues.iter().any(more) {
                self.seats.try_acquire()
            } else {
                tokio::select! {
                    biased;
                    seat = self.seats.acquire(outlook.place) => Some(seat),
                    () = self.workshop.ambient.reached(ahead.until()) => None,
                }
            };
            // A ring or a deploy up to here is answered by the call that follows; a later one has to be looked at
            // after it.
            if self.catalog.has_changed().unwrap_or(false) {
                self.catalog.mark_unchanged();
                outlook.relearn();
            }
            if self.bell.has_changed().unwrap_or(false) {
                self.bell.mark_unchanged();
                outlook.forget();
            }
            let terms = self.terms()?;
            let has_seat = seat.is_some();
            if has_seat {
                outlook.place = None;
            }
            // A broker that doesn't answer is asked for one job, so that others find the seats free.
            let most = if outlook.failed { 1 } else { BATCH_MAX };
            let vacancy = seat.and_then(|seat| self.admit(ahead, &terms, seat, most));
            self.give_up(ahead.overdue(self.workshop.ambient.mono()), Reason::NoRoom);
            let more = |queue: &Queue, room: u32| match in_turns {
                true => room.saturating_mul(ahead.turn(&terms, queue) - 1).min(BATCH_MAX - room),
                false => ahead.more(&terms, queue),
            };
            let room = Reservation::take(&terms, vacancy, |queue| outlook.wants(queue), more, outlook.turn);
            if let Some(room) = room {
                outlook.turn = outlook.turn.wrapping_add(1);
                return Some(Asking { terms, room, in_turns });
            }
            if !has_seat {
                continue;
            }
            tokio::select! {
                biased;
                () = terms.gate.freed() => {}
                () = ring(&mut self.bell) => outlook.forget(),
                Ok(()) = self.catalog.changed() => outlook.relearn(),
                () = self.workshop.ambient.reached(ahead.until()) => {}
            }
        }
    }

    /// Starts those of the jobs leased ahead that there is room for. Returns what room is left.
    fn admit(
        &self,
        ahead: &mut Ahead<R::Plugin>,
        terms: &Tenant<R::Plugin>,
        seat: Seat,
        most: u32,
    ) -> Option<Vacancy> {
        let mut vacancy = Vacancy::take(terms, seat, most)?;
        self.start(ahead.admit(&mut vacancy).into_iter().map(|(ticket, room)| Turn::new(ticket, room)));
        Some(vacancy)
    }

    fn terms(&self) -> Option<Arc<Tenant<R::Plugin>>> {
        self.catalog.borrow().tenant(&self.workshop.tenant).cloned()
    }

    /// Waits for a ring or another catalog, or until a suspect may be asked for if none was.
    async fn changed(&mut self, outlook: &mut Outlook) {
        tokio::select! {
            biased;
            () = ring(&mut self.bell) => outlook.forget(),
            Ok(()) = self.catalog.changed() => outlook.relearn(),
            () = self.suspects.free(), if outlook.without_suspects => outlook.forget(),
        }
    }

    async fn lease(
        &mut self,
        outlook: &mut Outlook,
        ahead: &mut Ahead<R::Plugin>,
        asking: Asking<R::Plugin>,
    ) -> sandhog_broker::Result<()> {
        let Asking { terms, mut room, in_turns } = asking;
        let queues = room.asks();
        let asked_at = self.workshop.ambient.mono();
        if !outlook.failed {
            outlook.asked += 1;
        }
        let lanes = room.lanes(&terms, &outlook.lanes);
        let suspects = self.suspects.wanted();
        outlook.without_suspects = suspects == 0;
        let ask = LeaseAsk {
            lanes: &lanes,
            suspects,
            asker: Some(Asker { daemon: self.daemon, number: outlook.asked, repeats: outlook.failed }),
            fuel: Some(terms.fuel).filter(FuelQuota::is_bounded),
            ..LeaseAsk::new(&self.workshop.tenant, &queues, self.lease.ttl)
        };
        let mut call = self.workshop.broker.lease(ask);
        let mut held_long = std::pin::pin!(self.workshop.ambient.reached(Some(asked_at.after(SEATS_HELD))));
        let mut place = None;
        let leased = loop {
            tokio::select! {
                biased;
                leased = &mut call => break leased?,
                () = &mut held_long, if room.has_room() => place = room.give_back(),
                () = terms.gate.freed(), if !ahead.is_empty() => {
                    if let Some(seat) = self.seats.try_acquire() {
                        self.admit(ahead, &terms, seat, BATCH_MAX);
                    }
                }
            }
        };
        self.outage.over(Caller::Tenant(&self.workshop.tenant));
        outlook.learn(&queues, &leased);
        self.learn_lanes(outlook, &terms, leased.lanes).await;
        if let Some(due) = leased.next_due {
            self.upkeep.due(&self.workshop.tenant, self.workshop.ambient.mono().after(due));
        }
        let decide = |spent| terms.fuel.decide(&self.workshop.tenant, &spent);
        let verdict = leased.spent.map_or(Verdict::Run, decide);
        outlook.learn_of_fuel(&self.workshop.tenant, &verdict, &*self.workshop.observer);
        if self.bell.has_changed().unwrap_or(false) {
            outlook.forget();
        }
        let mut turns = Vec::with_capacity(leased.leases.len());
        let mut followers = Vec::new();
        let now = self.workshop.ambient.mono();
        for lease in leased.leases {
            let (tenant, token) = (&self.workshop.tenant, lease.token);
            self.workshop.observer.on(&Event::Leased { tenant, job: &lease.job, token });
            let plugin = terms.kinds.get(&lease.job.kind).map(|plugin| &**plugin);
            let is_suspect = lease.job.expiries > 0;
            let watch = if is_suspect { self.suspects.take() } else { None };
            // There may be more of them than this one, which nobody tells of when it has ended.
            outlook.without_suspects |= is_suspect;
            let is_uncounted = plugin.is_some_and(|plugin| is_uncounted(plugin, &lease.job, &lanes));
            if is_uncounted {
                outlook.ask_for(&lease.job.queue, &lease.job.kind);
            }
            let room = if is_uncounted || (is_suspect && watch.is_none()) {
                // Or another tenant's call has brought a suspect meanwhile.
                Place::Nowhere
            } else {
                room.place(&lease.job.queue, plugin)
            };
            let ticket = Ticket {
                trusted_until: asked_at.after(self.lease.ttl.saturating_sub(self.lease.margin)),
                alive: self.workshop.live.join(self.workshop.tenant.clone(), lease.token, asked_at),
                terms: Arc::clone(&terms),
                verdict: verdict.clone(),
                watch,
                lease,
            };
            match room {
                Place::Inside(room) => turns.push(Turn::new(ticket, room)),
                Place::Ahead if place.is_some() => ahead.push_without_seat(ticket, now),
                Place::Ahead if in_turns => followers.push(ticket),
                Place::Ahead => ahead.push(ticket, now),
                Place::Nowhere if is_uncounted => {
                    self.workshop.give_back(ticket, Duration::ZERO, Reason::NoRoom);
                }
                Place::Nowhere => self.workshop.give_back(ticket, NO_ROOM_REST, Reason::NoRoom),
            }
        }
        if !ahead.is_empty() {
            outlook.place = place;
        }
        for (nth, ticket) in followers.into_iter().enumerate() {
            match turns.len() {
                0 => ahead.push(ticket, now),
                count => turns[nth % count].push(ticket),
            }
        }
        self.start(turns);
        Ok(())
    }

    /// Has the broker tell others of jobs, by an ask for none. One that can't be reached is told nothing: then the news of one job
    /// are in vain, and others look by themselves a while later.
    async fn wait_no_more(&self, outlook: &Outlook) {
        let queues: Vec<(QueueName, u32)> = outlook.empty.iter().map(|queue| (queue.clone(), 0)).collect();
        if queues.is_empty() {
            return;
        }
        let of_those = outlook.lanes.iter().filter(|(queue, _)| outlook.empty.contains(queue));
        let lanes: Vec<LaneAsk> = of_those
            .map(|(queue, kind)| LaneAsk { queue: queue.clone(), kind: kind.clone(), room: 0, limit: None })
            .collect();
        let ask = LeaseAsk {
            lanes: &lanes,
            suspects: 0,
            asker: Some(Asker { daemon: self.daemon, number: outlook.asked + 1, repeats: false }),
            ..LeaseAsk::new(&self.workshop.tenant, &queues, self.lease.ttl)
        };
        match tokio::time::timeout(GOODBYE_MAX, self.workshop.broker.lease(ask)).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => {
                tracing::debug!(tenant = %self.workshop.tenant, %error, "the broker can't be told that nobody waits here any more");
            }
            Err(_) => {
                tracing::debug!(tenant = %self.workshop.tenant, "the broker wasn't told in time that nobody waits here any more");
            }
        }
    }

    /// Finds out which lanes there are, if they have changed: kinds that another daemon doesn't serve, and this one may.
    async fn learn_lanes(&self, outlook: &mut Outlook, terms: &Tenant<R::Plugin>, number: u64) {
        if number == outlook.lanes_number {
            return;
        }
        match self.workshop.broker.lanes(&self.workshop.tenant).await {
            Ok(found) => {
                let is_served = |(queue, kind): &(QueueName, Kind)| {
                    terms.kinds.contains_key(kind) && terms.queues.iter().any(|known| known.name == *queue)
                };
                outlook.lanes = found.lanes.into_iter().filter(is_served).collect();
                outlook.lanes_number = found.number;
                outlook.forget();
            }
            // The next call tells of the change again.
            Err(error) => self.outage.note(Caller::Tenant(&self.workshop.tenant), &error),
        }
    }

    /// Starts jobs. One task sees all of them through: whatever ends meanwhile is looked at in one go.
    fn start(&self, turns: impl IntoIterator<Item = Turn<R::Plugin>>) {
        let turns: FuturesUnordered<_> =
            turns.into_iter().map(|turn| turn::take(Arc::clone(&self.workshop), turn)).collect();
        if !turns.is_empty() {
            tokio::spawn(turns.collect::<()>());
        }
    }

    /// Gives back jobs that were leased ahead; others may have them at once.
    fn give_up(&self, ahead: Vec<Ticket<R::Plugin>>, reason: Reason) {
        for ticket in ahead {
            self.workshop.give_back(ticket, Duration::ZERO, reason);
        }
    }
}

/// Whether a plugin has a limit that a job of it was not counted against, as it came from another plugin's queue and nobody had
/// asked for its kind there.
fn is_uncounted<P>(plugin: &Plugin<P>, job: &Job, lanes: &[LaneAsk]) -> bool {
    let counts = |lane: &LaneAsk| lane.queue == job.queue && lane.kind == job.kind && lane.limit.is_some();
    plugin.is_limited && plugin.queue != job.queue && !lanes.iter().any(counts)
}

async fn ring(bell: &mut watch::Receiver<u64>) {
    if bell.changed().await.is_err() {
        // The ringer is gone, and with it the daemon.
        std::future::pending::<()>().await;
    }
}
