//! Leases the jobs of one tenant: room first, then the broker. Only jobs that end quickly are leased a little ahead of it.
//!
//! The loop sleeps until there may be work (a ring of its bell, a due time that the broker named, or the poll that is
//! only the safety net), and there is room. One call is under way at a time; room that is freed meanwhile goes to what
//! was leased ahead, and the rest into the next call, so calls carry one job when little goes on and many under load.

use std::collections::HashSet;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::stream::{FuturesUnordered, StreamExt};
use sandhog_broker::{Keep, LeaseAsk, Leased, Settle};
use sandhog_core::id::{QueueName, TenantId};
use sandhog_core::quota::{FuelQuota, Verdict, Window};
use sandhog_core::reason::Reason;
use sandhog_core::settle::Settlement;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::ahead::Ahead;
use crate::catalog::{Current, Queue, Tenant};
use crate::config;
use crate::drain::Phase;
use crate::outage::{Outage, Tries};
use crate::room::{Place, Reservation, Room, Vacancy};
use crate::runner::Runner;
use crate::seats::{Member, Seat};
use crate::settler::Unsettled;
use crate::worker::{Ticket, Workshop};

/// Jobs that one call asks for at most.
const BATCH_MAX: u32 = 256;

/// How long the loop sleeps at most without a look. Wakes come by push; this is for one that went missing.
const POLL_EVERY: Duration = Duration::from_secs(5);

/// How long a job rests that was put into the queue of another plugin while its own had no room.
const NO_ROOM_REST: Duration = Duration::from_secs(1);

/// The loop of one tenant.
pub(crate) struct Intake<R: Runner> {
    pub(crate) workshop: Arc<Workshop<R>>,
    pub(crate) catalog: Current<R::Plugin>,
    pub(crate) bell: watch::Receiver<u64>,
    /// One seat for each run of the daemon under way at once.
    pub(crate) seats: Member,
    pub(crate) lease: config::Lease,
    pub(crate) outage: Arc<Outage>,
}

/// What the loop knows of the queues.
#[derive(Default)]
struct Outlook {
    /// The queues that the last call emptied, and that nothing was heard of since.
    empty: HashSet<QueueName>,
    /// Which of the queues the next call begins with.
    turn: usize,
    /// When to look again, whatever is heard.
    look_at: Option<Instant>,
    /// Until when nothing is to be had, whatever is heard: the tenant's fuel is used up.
    held_until: Option<Instant>,
    /// Whose fuel the log has said to be used up.
    used_up: Option<Window>,
}

impl Outlook {
    fn is_hungry<P>(&self, terms: &Tenant<P>) -> bool {
        terms.queues.iter().any(|queue| self.wants(queue))
    }

    /// Whether there may be jobs in it.
    fn wants(&self, queue: &Queue) -> bool {
        !self.empty.contains(&queue.name)
    }

    /// Anything may have turned up.
    fn forget(&mut self) {
        self.empty.clear();
        self.look_at = None;
    }

    /// Takes in whether there is fuel. Each time that it is used up, the log says so once.
    fn learn_of_fuel(&mut self, tenant: &TenantId, verdict: &Verdict) {
        let (window, what) = match verdict {
            Verdict::Run => {
                self.used_up = None;
                return;
            }
            Verdict::Hold { window, until } => {
                // Not longer than the poll: another daemon's file may say otherwise, and leases have to be taken back.
                self.held_until = Some(Instant::now() + (*until).min(POLL_EVERY));
                (*window, "its jobs wait for the next one")
            }
            Verdict::RunIdle(window) => (*window, "its jobs run when no other tenant wants the processors"),
            Verdict::Reject { window, .. } => (*window, "its jobs are buried"),
        };
        if self.used_up.replace(window) != Some(window) {
            tracing::info!(%tenant, "the tenant's fuel of this {window} is used up; {what}; tenants.{tenant}.fuel sets it");
        }
    }

    fn learn(&mut self, asks: &[(QueueName, u32)], leased: &Leased) {
        if leased.next_due == Some(Duration::ZERO) {
            return self.forget();
        }
        for (queue, count) in asks {
            let came = leased.leases.iter().filter(|lease| lease.job.queue == *queue).count();
            if came < *count as usize {
                self.empty.insert(queue.clone());
            } else {
                self.empty.remove(queue);
            }
        }
        let due = leased.next_due.unwrap_or(POLL_EVERY).min(POLL_EVERY);
        self.look_at = Some(Instant::now() + due);
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
            let Some((terms, room)) = ready else { break };
            // A call that was begun is seen through: what it leases has to be run or given back.
            let Err(error) = self.lease(&mut outlook, &mut ahead, terms, room).await else {
                tries.succeeded();
                continue;
            };
            self.outage.note(&error);
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
    }

    /// Waits until there may be work, and room for it or reason to lease it ahead; none if the tenant is gone. Starts what
    /// was leased ahead meanwhile.
    async fn wait(
        &mut self,
        outlook: &mut Outlook,
        ahead: &mut Ahead<R::Plugin>,
    ) -> Option<(Arc<Tenant<R::Plugin>>, Reservation)> {
        loop {
            let terms = self.terms()?;
            if let Some(held_until) = outlook.held_until.take() {
                // Nothing is leased ahead of a quota, but it may be new.
                self.give_up(ahead.all(), Reason::NoRoom);
                tokio::select! {
                    biased;
                    Ok(()) = self.catalog.changed() => {}
                    () = tokio::time::sleep_until(held_until) => {}
                }
                outlook.forget();
                continue;
            }
            if ahead.is_empty() && !outlook.is_hungry(&terms) {
                self.changed(outlook.look_at).await;
                outlook.forget();
                continue;
            }
            ahead.count(&terms.queues, self.workshop.ambient.mono());
            let goes_ahead =
                terms.queues.iter().any(|queue| outlook.wants(queue) && ahead.more(&terms, queue) > 0);
            let seat = if goes_ahead {
                self.seats.try_acquire()
            } else {
                tokio::select! {
                    biased;
                    seat = self.seats.acquire(None) => Some(seat),
                    () = self.workshop.ambient.reached(ahead.until()) => None,
                }
            };
            // A ring or a deploy up to here is answered by the call that follows; a later one has to be looked at
            // after it.
            if self.bell.has_changed().unwrap_or(false) || self.catalog.has_changed().unwrap_or(false) {
                self.bell.mark_unchanged();
                self.catalog.mark_unchanged();
                outlook.forget();
            }
            let terms = self.terms()?;
            let has_seat = seat.is_some();
            let vacancy = seat.and_then(|seat| self.admit(ahead, &terms, seat));
            self.give_up(ahead.overdue(self.workshop.ambient.mono()), Reason::NoRoom);
            let more = |queue: &Queue| ahead.more(&terms, queue);
            let room = Reservation::take(&terms, vacancy, |queue| outlook.wants(queue), more, outlook.turn);
            if let Some(room) = room {
                outlook.turn = outlook.turn.wrapping_add(1);
                return Some((terms, room));
            }
            if !has_seat {
                continue;
            }
            tokio::select! {
                biased;
                () = terms.gate.freed() => {}
                () = ring(&mut self.bell) => outlook.forget(),
                Ok(()) = self.catalog.changed() => outlook.forget(),
                () = self.workshop.ambient.reached(ahead.until()) => {}
            }
        }
    }

    /// Starts those of the jobs leased ahead that there is room for. Returns what room is left.
    fn admit(&self, ahead: &mut Ahead<R::Plugin>, terms: &Tenant<R::Plugin>, seat: Seat) -> Option<Vacancy> {
        let mut vacancy = Vacancy::take(terms, seat, BATCH_MAX)?;
        self.start(ahead.admit(&mut vacancy));
        Some(vacancy)
    }

    fn terms(&self) -> Option<Arc<Tenant<R::Plugin>>> {
        self.catalog.borrow().tenant(&self.workshop.tenant).cloned()
    }

    /// Waits for a ring, another catalog, or the time given.
    async fn changed(&mut self, look_at: Option<Instant>) {
        let look_at = look_at.unwrap_or_else(|| Instant::now() + POLL_EVERY);
        tokio::select! {
            biased;
            () = ring(&mut self.bell) => {}
            Ok(()) = self.catalog.changed() => {}
            () = tokio::time::sleep_until(look_at) => {}
        }
    }

    async fn lease(
        &mut self,
        outlook: &mut Outlook,
        ahead: &mut Ahead<R::Plugin>,
        terms: Arc<Tenant<R::Plugin>>,
        mut room: Reservation,
    ) -> sandhog_broker::Result<()> {
        let queues = room.asks();
        let asked_at = self.workshop.ambient.mono();
        let ask = LeaseAsk {
            tenant: &self.workshop.tenant,
            queues: &queues,
            ttl: self.lease.ttl,
            expiries_max: self.lease.expiries_max,
            fuel: Some(terms.fuel).filter(FuelQuota::is_bounded),
        };
        let mut call = self.workshop.broker.lease(ask);
        let leased = loop {
            tokio::select! {
                biased;
                leased = &mut call => break leased?,
                () = terms.gate.freed(), if !ahead.is_empty() => {
                    if let Some(seat) = self.seats.try_acquire() {
                        self.admit(ahead, &terms, seat);
                    }
                }
            }
        };
        self.outage.over();
        outlook.learn(&queues, &leased);
        let decide = |spent| terms.fuel.decide(&self.workshop.tenant, &spent);
        let verdict = leased.spent.map_or(Verdict::Run, decide);
        outlook.learn_of_fuel(&self.workshop.tenant, &verdict);
        if self.bell.has_changed().unwrap_or(false) {
            outlook.forget();
        }
        for job in leased.buried {
            tracing::warn!(tenant = %self.workshop.tenant, %job, "buried: its leases ran out too often, so it seems to kill its daemons");
        }
        let mut admitted = Vec::with_capacity(leased.leases.len());
        for lease in leased.leases {
            let place =
                room.place(&lease.job.queue, terms.kinds.get(&lease.job.kind).map(|plugin| &**plugin));
            let ticket = Ticket {
                trusted_until: asked_at.after(self.lease.ttl.saturating_sub(self.lease.margin)),
                alive: self.workshop.live.join(self.workshop.tenant.clone(), lease.token, asked_at),
                terms: Arc::clone(&terms),
                verdict: verdict.clone(),
                lease,
            };
            match place {
                Place::Inside(room) => admitted.push((ticket, room)),
                Place::Ahead => ahead.push(ticket, asked_at),
                Place::Nowhere => self.give_back(ticket, NO_ROOM_REST, Reason::NoRoom),
            }
        }
        self.start(admitted);
        Ok(())
    }

    /// Starts jobs. One task sees all of them through: whatever ends meanwhile is looked at in one go. A panic is the end
    /// of the attempt that it is in alone; its lease runs out.
    fn start(&self, admitted: Vec<(Ticket<R::Plugin>, Room)>) {
        let attempts: FuturesUnordered<_> = admitted
            .into_iter()
            .map(|(ticket, room)| {
                AssertUnwindSafe(Arc::clone(&self.workshop).attempt(ticket, room)).catch_unwind().map(drop)
            })
            .collect();
        if !attempts.is_empty() {
            tokio::spawn(attempts.collect::<()>());
        }
    }

    /// Gives back jobs that were leased ahead; others may have them at once.
    fn give_up(&self, ahead: Vec<Ticket<R::Plugin>>, reason: Reason) {
        for ticket in ahead {
            self.give_back(ticket, Duration::ZERO, reason);
        }
    }

    /// Gives back a job that hasn't started. If this doesn't get through, its lease runs out by itself.
    fn give_back(&self, ticket: Ticket<R::Plugin>, after: Duration, reason: Reason) {
        let settle = Settle {
            token: ticket.lease.token,
            ran: None,
            settlement: Settlement::Release { after, reason },
            progress: None,
            log: Vec::new(),
            keep: Keep::default(),
        };
        let answer = self.workshop.settler.send(Unsettled { settle, room: None });
        // A daemon that drains waits for as long as it is alive.
        let alive = ticket.alive;
        tokio::spawn(answer.map(|_| drop(alive)));
    }
}

async fn ring(bell: &mut watch::Receiver<u64>) {
    if bell.changed().await.is_err() {
        // The ringer is gone, and with it the daemon.
        std::future::pending::<()>().await;
    }
}
