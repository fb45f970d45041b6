//! Leasing: hands out ready jobs.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::Duration;

use rusqlite::{Row, params};
use sandhog_core::event::EventKind;
use sandhog_core::hold::HoldScope;
use sandhog_core::id::{GroupKey, Kind, LeaseNo, LeaseToken, PluginName, QueueName};
use sandhog_core::job::{Job, Lease, NewJob, Priority};

use super::events::Subject;
use super::fault::{Fault, Result};
use super::lanes::Rooms;
use super::row::{asked, asked_columns, stamp, timestamp};
use super::step::Step;
use crate::breakers::Barriers;
use crate::{LeaseAsk, Leased, SWEEP_MAX};

/// Maximum number of times one call searches a queue for ready jobs, when the jobs that it found had to be moved or parked.
const ROUNDS_MAX: u32 = 16;

/// The start of a statement that selects what a holder sees of its job.
pub(super) const CURRENT: &str = concat!(
    "SELECT ",
    asked_columns!(),
    ", bytes, lease, attempts, expiries, faults, enqueued_at FROM job LEFT JOIN payload USING (nr) WHERE nr = ?1"
);

/// The leases that one call hands out, and the limits on them.
struct Batch<'a> {
    leases: Vec<Lease>,
    /// Total length of their payloads, and its maximum; both in bytes.
    bytes: u64,
    bytes_max: u64,
    /// Whether a payload was met that is too long for the batch.
    is_full: bool,
    /// The lanes, with the number of jobs of each that may still be handed out.
    rooms: Rooms<'a>,
    /// The scopes that are held back.
    held: Vec<HoldScope>,
    gates: Barriers,
    expires_at: i64,
}

/// A ready job, ordered by when it goes, and the lane that it was found in, by its index in the ask.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    rank: (Reverse<u8>, i64, String),
    nr: i64,
    lane: Option<usize>,
}

/// The result of trying to hand out a candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Met {
    Taken,
    /// Not handed out: its payload would have made the batch too long.
    TooLong,
    /// Not handed out: no more jobs of its lane may be handed out.
    NoRoom,
    /// Parked, as it can't be read; it isn't found again.
    Parked,
    /// Moved to the lane of its kind, as were others.
    Moved,
}

impl Batch<'_> {
    /// Whether jobs of this kind in this queue are held back.
    fn is_held(&self, queue: &QueueName, kind: &Kind) -> bool {
        self.held.iter().any(|scope| scope.covers(queue, kind)) || self.gates.is_shut(kind)
    }

    /// Whether jobs of this kind in this queue are handed out to those alone who ask for their lane.
    fn needs_lane(&self, queue: &QueueName, kind: &Kind) -> bool {
        self.is_held(queue, kind) || self.gates.probing(kind).next().is_some()
    }
}

impl Step<'_> {
    pub(super) fn lease(&mut self, ask: &LeaseAsk<'_>) -> Result<Leased> {
        let spent = ask.fuel.map(|_| self.fuel_spent()).transpose()?;
        let held = self.held_scopes()?;
        let is_held = ask.fuel.zip(spent).is_some_and(|(quota, spent)| quota.holds(&spent))
            || held.iter().any(HoldScope::covers_all);
        for lane in ask.lanes {
            self.note_lane(lane.queue.as_str(), lane.kind.as_str())?;
        }
        let expired = self.expire()?;
        let leases = match self.repeated(ask)? {
            Some(again) => again,
            // There may be more of them, which nobody is to get.
            None if expired == SWEEP_MAX => Vec::new(),
            None if is_held => Vec::new(),
            None => self.hand_out(ask, held)?,
        };
        if let Some(asker) = ask.asker.filter(|_| !leases.is_empty()) {
            self.remember(&asker, &leases)?;
        }
        let next_due = if expired == SWEEP_MAX { Some(Duration::ZERO) } else { self.next_due()? };
        let next_token = self.next_token(ask)?;
        Ok(Leased { leases, next_due, spent, now: self.now, next_token, lanes: self.lane_changes()? })
    }

    fn hand_out(&mut self, ask: &LeaseAsk<'_>, held: Vec<HoldScope>) -> Result<Vec<Lease>> {
        let gates = self.gates()?;
        let mut batch = Batch {
            leases: Vec::new(),
            bytes: 0,
            bytes_max: ask.bytes.0,
            is_full: false,
            rooms: self.rooms(ask, &gates)?,
            held,
            gates,
            expires_at: stamp(self.now.after(ask.ttl)),
        };
        let mut suspects = ask.suspects;
        for (queue, n) in ask.queues {
            if batch.held.iter().any(|scope| scope.covers_queue(queue)) {
                continue;
            }
            let taken = self.take_ready(queue, true, suspects.min(*n), &mut batch)?;
            suspects -= taken;
            self.take_ready(queue, false, n - taken, &mut batch)?;
        }
        self.take_tokens(&batch.rooms)?;
        Ok(batch.leases)
    }

    /// Hands out up to `n` jobs of a queue and its lanes. Returns their number.
    fn take_ready(
        &mut self,
        queue: &QueueName,
        suspects: bool,
        n: u32,
        batch: &mut Batch<'_>,
    ) -> Result<u32> {
        let mut places = BTreeMap::new();
        let taken = self.take_in_order(queue, suspects, n, batch, &mut places)?;
        if taken > 0 && self.is_fair(queue.as_str())? {
            for (priority, place) in places {
                self.move_fair_clock(queue.as_str(), priority, place, taken)?;
            }
        }
        Ok(taken)
    }

    /// The same; `places` gets the last place of each priority.
    fn take_in_order(
        &mut self,
        queue: &QueueName,
        suspects: bool,
        n: u32,
        batch: &mut Batch<'_>,
        places: &mut BTreeMap<Priority, i64>,
    ) -> Result<u32> {
        let mut taken = 0;
        if n == 0 || batch.is_full {
            return Ok(taken);
        }
        for _ in 0..ROUNDS_MAX {
            let mut is_clear = true;
            for candidate in self.candidates(queue, suspects, n - taken, batch)? {
                if taken == n || batch.is_full {
                    break;
                }
                let (Reverse(priority), place, _) = candidate.rank;
                match self.meet(queue, candidate, batch)? {
                    Met::Taken => {
                        taken += 1;
                        places
                            .entry(Priority(priority))
                            .and_modify(|last| *last = place.max(*last))
                            .or_insert(place);
                    }
                    Met::TooLong => batch.is_full = true,
                    Met::NoRoom => {}
                    Met::Parked => is_clear = false,
                    Met::Moved => {
                        is_clear = false;
                        break;
                    }
                }
            }
            // There may be others behind those that were moved or parked.
            if is_clear || taken == n || batch.is_full {
                return Ok(taken);
            }
        }
        // To get those, a daemon has to ask once more.
        self.has_news = true;
        Ok(taken)
    }

    /// Returns the first ready jobs of a queue and of those of its lanes that have room, in the order in which they go.
    fn candidates(
        &self,
        queue: &QueueName,
        suspects: bool,
        n: u32,
        batch: &Batch<'_>,
    ) -> Result<Vec<Candidate>> {
        let rooms = &batch.rooms;
        let mut found = self.first_in_line(queue, "", None, suspects, n)?;
        for nth in rooms.of(queue).into_iter().filter(|nth| !batch.is_held(queue, rooms.kind(*nth))) {
            let n = n.min(rooms.left(nth));
            found.extend(self.first_in_line(queue, rooms.kind(nth).as_str(), Some(nth), suspects, n)?);
        }
        found.sort_unstable();
        Ok(found)
    }

    fn first_in_line(
        &self,
        queue: &QueueName,
        lane: &str,
        nth: Option<usize>,
        suspects: bool,
        n: u32,
    ) -> Result<Vec<Candidate>> {
        if n == 0 {
            return Ok(Vec::new());
        }
        self.all(
            "SELECT nr, priority, arrival, tie FROM job
             WHERE tenant = ?1 AND queue = ?2 AND lane = ?3 AND (expiries > 0) = ?4 AND state = 1 AND parked_at IS NULL
             ORDER BY priority DESC, arrival, tie LIMIT ?5",
            params![self.tenant(), queue.as_str(), lane, suspects, n],
            |row| {
                let rank = (Reverse(row.get(1)?), row.get(2)?, row.get(3)?);
                Ok(Candidate { rank, nr: row.get(0)?, lane: nth })
            },
        )
    }

    /// Hands out a job, if possible. A job that can't be read is parked. One that hadn't been moved to the lane of its kind yet is
    /// moved, and so is one that is held back, whose kind gets a lane for that. So none of them blocks others.
    fn meet(&mut self, queue: &QueueName, found: Candidate, batch: &mut Batch<'_>) -> Result<Met> {
        if found.lane.is_some_and(|nth| batch.rooms.left(nth) == 0) {
            return Ok(Met::NoRoom);
        }
        let mut lease = match self.current_lease(found.nr) {
            Ok(lease) => lease,
            Err(Fault::Unreadable { at, problem }) => {
                let tenant = self.tenant();
                tracing::warn!(tenant, at, problem, "a ready job can't be read, and is not handed out");
                self.park(found.nr)?;
                return Ok(Met::Parked);
            }
            Err(fault) => return Err(fault),
        };
        let mut lane = found.lane;
        let is_held = batch.is_held(queue, &lease.job.kind);
        let needs_lane = batch.needs_lane(queue, &lease.job.kind);
        if needs_lane && !self.is_lane(queue.as_str(), lease.job.kind.as_str())? {
            self.note_lane(queue.as_str(), lease.job.kind.as_str())?;
        }
        if lane.is_none() && self.is_lane(queue.as_str(), lease.job.kind.as_str())? {
            lane =
                batch.rooms.find(queue, &lease.job.kind).filter(|nth| !is_held && batch.rooms.left(*nth) > 0);
            if lane.is_none() {
                self.move_to_lane(queue.as_str(), lease.job.kind.as_str(), lease.job.expiries > 0)?;
                return Ok(Met::Moved);
            }
        }
        let bytes = batch.bytes.saturating_add(lease.job.payload.len() as u64);
        if bytes > batch.bytes_max && !batch.leases.is_empty() {
            return Ok(Met::TooLong);
        }
        let limit = lane.and_then(|nth| batch.rooms.limit(nth)).map(PluginName::as_str);
        let probe_of = lane.and_then(|nth| batch.rooms.probe_of(nth));
        lease.token.lease = lease.token.lease.next();
        self.execute(
            "UPDATE job SET state = 2, arrival = NULL, lease = ?2, leased_at = ?3, lease_expires_at = ?4,
                 limited_by = ?5, probe_of = ?6
             WHERE nr = ?1",
            params![
                found.nr,
                lease.token.lease.0.cast_signed(),
                self.now(),
                batch.expires_at,
                limit,
                probe_of
            ],
        )?;
        if let Some(nth) = lane {
            batch.rooms.take(nth);
        }
        let job = &lease.job;
        let (id, group) = (job.id.to_string(), job.options.group.as_ref().map(GroupKey::as_str));
        let subject = Subject { id: &id, queue: job.queue.as_str(), kind: job.kind.as_str(), group };
        self.tell(EventKind::Started, subject, Some(job.attempts.saturating_add(1)), None)?;
        batch.bytes = bytes;
        batch.leases.push(lease);
        Ok(Met::Taken)
    }

    /// Parks a ready job: it isn't handed out any more.
    pub(super) fn park(&self, nr: i64) -> Result<()> {
        self.execute("UPDATE job SET parked_at = ?2 WHERE nr = ?1", params![nr, self.now()])?;
        Ok(())
    }

    /// Returns a job as its holder sees it, with the number of its latest lease.
    pub(super) fn current_lease(&self, nr: i64) -> Result<Lease> {
        let mut statement = self.connection.prepare_cached(CURRENT)?;
        let mut rows = statement.query_and_then([nr], |row| self.read_lease(row))?;
        rows.next().unwrap_or_else(|| Err(Fault::unreadable("job", "it isn't there")))
    }

    fn read_lease(&self, row: &Row<'_>) -> Result<Lease> {
        let mut problem = None;
        let asked = asked(row, &mut problem)?;
        if let Some(problem) = problem {
            return Err(Fault::unreadable("job", problem));
        }
        let asked = NewJob { payload: row.get(7)?, ..asked };
        let lease = LeaseNo(row.get::<_, i64>(8)?.cast_unsigned());
        let token = LeaseToken { job: asked.id, lease };
        let job = Job {
            attempts: row.get(9)?,
            expiries: row.get(10)?,
            faults: row.get(11)?,
            ..Job::of(asked, self.tenant.clone(), timestamp(row.get(12)?))
        };
        Ok(Lease { token, job })
    }

    /// Returns the time until a sweep finds something: edges of flows are to be settled, the next scheduled job is due, or the
    /// next lease expires.
    pub(super) fn next_due(&self) -> Result<Option<Duration>> {
        if self.has_settled()? {
            return Ok(Some(Duration::ZERO));
        }
        let expiring: Option<i64> = self.find(
            "SELECT lease_expires_at FROM job WHERE tenant = ?1 AND state = 2 ORDER BY lease_expires_at LIMIT 1",
            [self.tenant()],
            |row| row.get(0),
        )?;
        let gate = self.next_gate()?.map(stamp);
        let ends = [self.first_due()?, expiring, self.first_end()?, gate, self.first_start_by()?];
        let next = ends.into_iter().flatten().min();
        Ok(next.map(|next| timestamp(next).since(self.now)))
    }
}
