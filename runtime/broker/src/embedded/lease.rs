//! Jobs are handed out.

use std::time::Duration;

use rusqlite::{Row, params};
use sandhog_core::id::{LeaseNo, LeaseToken, QueueName};
use sandhog_core::job::{Job, Lease};

use super::fault::{Fault, Result};
use super::row::{parse, stamp, timestamp};
use super::step::Step;
use crate::{LeaseAsk, Leased};

/// Jobs at the head of a queue that can't be read, and are parked in one call.
const PARKED_MAX: i64 = 256;

/// Which of the ready jobs of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lane {
    /// Those that have lost a lease since an attempt of them last ended.
    Suspects,
    Others,
}

/// What one call hands out.
struct Batch {
    jobs: Vec<(i64, Lease)>,
    /// The length of their payloads together, and how long it may be.
    bytes: u64,
    bytes_max: u64,
    /// Whether a payload was met that is too long to go along.
    is_full: bool,
}

impl Batch {
    /// Takes a job in, unless its payload is too long. The first is always taken.
    fn take(&mut self, nr: i64, lease: Lease) {
        self.bytes = self.bytes.saturating_add(lease.job.payload.len() as u64);
        self.is_full = self.bytes > self.bytes_max && !self.jobs.is_empty();
        if !self.is_full {
            self.jobs.push((nr, lease));
        }
    }
}

impl Step<'_> {
    pub(super) fn lease(&mut self, ask: &LeaseAsk<'_>) -> Result<Leased> {
        let spent = ask.fuel.map(|_| self.fuel_spent()).transpose()?;
        let is_held = ask.fuel.zip(spent).is_some_and(|(quota, spent)| quota.holds(&spent));
        let leases = match self.repeated(ask)? {
            Some(again) => again,
            None if is_held => Vec::new(),
            None => self.hand_out(ask)?,
        };
        if let Some(asker) = ask.asker.filter(|_| !leases.is_empty()) {
            self.remember(&asker, &leases)?;
        }
        Ok(Leased { leases, next_due: self.next_due()?, spent, lanes: 0 })
    }

    fn hand_out(&self, ask: &LeaseAsk<'_>) -> Result<Vec<Lease>> {
        let mut batch = Batch { jobs: Vec::new(), bytes: 0, bytes_max: ask.bytes.0, is_full: false };
        let mut suspects = ask.suspects;
        for (queue, n) in ask.queues {
            let first = batch.jobs.len();
            let taken = self.take_ready(queue, Lane::Suspects, suspects.min(*n), &mut batch)?;
            suspects -= taken;
            self.take_ready(queue, Lane::Others, n - taken, &mut batch)?;
            for (nr, lease) in &batch.jobs[first..] {
                self.execute(
                    "UPDATE job SET state = 2, arrival = NULL, lease = ?2, leased_at = ?3, lease_expires_at = ?4
                     WHERE nr = ?1",
                    params![
                        nr,
                        lease.token.lease.0.cast_signed(),
                        self.now(),
                        stamp(self.now.after(ask.ttl))
                    ],
                )?;
            }
            if batch.is_full {
                break;
            }
        }
        Ok(batch.jobs.into_iter().map(|(_, lease)| lease).collect())
    }

    /// Takes up to `n` jobs that are to be handed out next; says how many. Those that can't be read are parked, so that
    /// they are in nobody's way.
    fn take_ready(&self, queue: &QueueName, lane: Lane, n: u32, batch: &mut Batch) -> Result<u32> {
        if n == 0 || batch.is_full {
            return Ok(0);
        }
        let mut unreadable = Vec::new();
        let before = batch.jobs.len();
        let mut next = self.connection.prepare_cached(
            "SELECT nr FROM job
             WHERE tenant = ?1 AND queue = ?2 AND (expiries > 0) = ?3 AND state = 1 AND parked_at IS NULL
             ORDER BY priority DESC, arrival LIMIT ?4",
        )?;
        let limit = i64::from(n).saturating_add(PARKED_MAX);
        let mut found = next.query(params![self.tenant(), queue.as_str(), lane == Lane::Suspects, limit])?;
        while batch.jobs.len() - before < n as usize
            && !batch.is_full
            && let Some(row) = found.next()?
        {
            let nr = row.get(0)?;
            match self.current_lease(nr) {
                Ok(mut lease) => {
                    lease.token.lease = LeaseNo(lease.token.lease.0.wrapping_add(1));
                    batch.take(nr, lease);
                }
                Err(Fault::Unreadable { at, problem }) => {
                    tracing::warn!(
                        tenant = self.tenant(),
                        at,
                        problem,
                        "a ready job can't be read, and is not handed out"
                    );
                    unreadable.push(nr);
                }
                Err(fault) => return Err(fault),
            }
        }
        drop(found);
        unreadable.into_iter().try_for_each(|nr| self.park(nr))?;
        Ok(u32::try_from(batch.jobs.len() - before).unwrap_or(n))
    }

    /// Keeps a ready job from being handed out, from now on.
    pub(super) fn park(&self, nr: i64) -> Result<()> {
        self.execute("UPDATE job SET parked_at = ?2 WHERE nr = ?1", params![nr, self.now()])?;
        Ok(())
    }

    /// A job as its holder sees it, with the number of its latest lease.
    pub(super) fn current_lease(&self, nr: i64) -> Result<Lease> {
        let mut statement = self.connection.prepare_cached(
            "SELECT id, queue, kind, bytes, lease, attempts, expiries, faults, enqueued_at, pinned
             FROM job LEFT JOIN payload USING (nr) WHERE nr = ?1",
        )?;
        let mut rows = statement.query_and_then([nr], |row| self.read_lease(row))?;
        rows.next().unwrap_or_else(|| Err(Fault::unreadable("job", "it isn't there")))
    }

    fn read_lease(&self, row: &Row<'_>) -> Result<Lease> {
        let text = |nth, at| -> Result<String> {
            let text = row.get_ref(nth)?.as_str().map_err(|error| Fault::unreadable(at, error))?;
            Ok(text.to_owned())
        };
        let id = parse("job.id", &text(0, "job.id")?)?;
        let pinned: Option<String> = row.get(9)?;
        let job = Job {
            id,
            tenant: self.tenant.clone(),
            queue: parse("job.queue", &text(1, "job.queue")?)?,
            kind: parse("job.kind", &text(2, "job.kind")?)?,
            payload: row.get(3)?,
            pinned: pinned.map(|text| parse("job.pinned", &text)).transpose()?,
            attempts: row.get(5)?,
            expiries: row.get(6)?,
            faults: row.get(7)?,
            enqueued_at: timestamp(row.get(8)?),
        };
        let lease = LeaseNo(row.get::<_, i64>(4)?.cast_unsigned());
        Ok(Lease { token: LeaseToken { job: id, lease }, job })
    }

    /// When a sweep will find something: the next scheduled job is due, or the next lease runs out.
    pub(super) fn next_due(&self) -> Result<Option<Duration>> {
        let expiring: Option<i64> = self.find(
            "SELECT lease_expires_at FROM job WHERE tenant = ?1 AND state = 2 ORDER BY lease_expires_at LIMIT 1",
            [self.tenant()],
            |row| row.get(0),
        )?;
        let next = self.first_due()?.into_iter().chain(expiring).min();
        Ok(next.map(|next| timestamp(next).since(self.now)))
    }
}
