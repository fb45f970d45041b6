//! Jobs are handed out, after what is due has become ready, and what has run out was taken back.

use std::time::Duration;

use rusqlite::{Row, params};
use sandhog_core::id::{JobId, LeaseNo, LeaseToken, QueueName};
use sandhog_core::job::{Job, Lease, State};
use sandhog_core::reason::Reason;

use super::fault::{Fault, Result};
use super::row::{parse, stamp, timestamp};
use super::step::Step;
use crate::{Keep, LeaseAsk, Leased, SWEEP_MAX};

/// Jobs at the head of a queue that can't be read, and are passed over in one call.
const PASSED_OVER_MAX: i64 = 256;

/// A lease that has run out.
struct Expired {
    nr: i64,
    id: JobId,
    queue: String,
    expiries: u32,
    cancel_requested: bool,
}

impl Step<'_> {
    pub(super) fn lease(&mut self, ask: &LeaseAsk<'_>) -> Result<Leased> {
        let promoted = self.promote()?;
        let (taken_back, buried) = self.take_back()?;
        let removed = self.remove_old()?;
        let mut leases = Vec::new();
        let spent = ask.fuel.map(|_| self.fuel_spent()).transpose()?;
        let is_held = ask.fuel.zip(spent).is_some_and(|(quota, spent)| quota.holds(&spent));
        for (queue, n) in ask.queues.iter().filter(|_| !is_held) {
            self.hand_out(queue, *n, ask.ttl, &mut leases)?;
        }
        let swept_to_the_limit = [promoted, taken_back, removed].contains(&SWEEP_MAX);
        let next_due = if swept_to_the_limit { Some(Duration::ZERO) } else { self.next_due()? };
        drop(buried);
        Ok(Leased { leases, next_due, spent, lanes: 0 })
    }

    /// Makes ready what is due; says how many.
    fn promote(&mut self) -> Result<usize> {
        let due: Vec<(i64, String)> = self.all(
            "SELECT nr, queue FROM job WHERE tenant = ?1 AND state = 0 AND due_at <= ?2 ORDER BY due_at, id LIMIT ?3",
            params![self.tenant(), self.now(), SWEEP_MAX as i64],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )?;
        for (nr, queue) in &due {
            let place = self.ready(queue)?;
            self.put(*nr, place)?;
        }
        Ok(due.len())
    }

    /// Takes back leases that ran out; says how many, and which jobs had lost one too many.
    fn take_back(&mut self) -> Result<(usize, Vec<JobId>)> {
        let expired = self.expired()?;
        let mut buried = Vec::new();
        for job in &expired {
            let expiries = job.expiries.saturating_add(1);
            self.execute(
                "UPDATE job SET lease = lease + 1, expiries = ?2 WHERE nr = ?1",
                params![job.nr, expiries],
            )?;
            let place = if expiries > 5 {
                self.explain(job.nr, Some(Reason::LeaseExpired), Some("its daemons vanished"))?;
                buried.push(job.id);
                self.finished(State::Dead, Keep::default())
            } else if job.cancel_requested {
                self.explain(job.nr, Some(Reason::Cancelled), None)?;
                self.finished(State::Cancelled, Keep::default())
            } else {
                self.ready(&job.queue)?
            };
            self.put(job.nr, place)?;
        }
        Ok((expired.len(), buried))
    }

    fn expired(&self) -> Result<Vec<Expired>> {
        let rows = self.all(
            "SELECT nr, id, queue, expiries, cancel_requested FROM job
             WHERE tenant = ?1 AND state = 2 AND lease_expires_at <= ?2 ORDER BY lease_expires_at, id LIMIT ?3",
            params![self.tenant(), self.now(), SWEEP_MAX as i64],
            |row| Ok((row.get(0)?, row.get::<_, String>(1)?, row.get(2)?, row.get(3)?, row.get(4)?)),
        )?;
        let expired = |(nr, id, queue, expiries, cancel_requested): (_, String, _, _, _)| {
            Some(Expired { nr, id: id.parse().ok()?, queue, expiries, cancel_requested })
        };
        Ok(rows.into_iter().filter_map(expired).collect())
    }

    /// Removes final jobs whose time is over; says how many. State that is past its time goes with them.
    fn remove_old(&self) -> Result<usize> {
        let limits = params![self.tenant(), self.now(), SWEEP_MAX as i64];
        // The triggers take along what else belongs to a job.
        let jobs: Vec<i64> = self.all(
            "SELECT nr FROM job WHERE tenant = ?1 AND remove_at <= ?2 ORDER BY remove_at, id LIMIT ?3",
            limits,
            |row| row.get(0),
        )?;
        for nr in &jobs {
            self.execute("DELETE FROM job WHERE nr = ?1", [nr])?;
        }
        self.sweep_state(SWEEP_MAX)?;
        Ok(jobs.len())
    }

    fn hand_out(&self, queue: &QueueName, n: u32, ttl: Duration, leases: &mut Vec<Lease>) -> Result<()> {
        for (nr, lease) in self.first_ready(queue, n)? {
            self.execute(
                "UPDATE job SET state = 2, arrival = NULL, lease = ?2, leased_at = ?3, lease_expires_at = ?4
                 WHERE nr = ?1",
                params![nr, lease.token.lease.0.cast_signed(), self.now(), stamp(self.now.after(ttl))],
            )?;
            leases.push(lease);
        }
        Ok(())
    }

    /// The jobs that are to be handed out next. What can't be read is passed over, and stays where it is.
    fn first_ready(&self, queue: &QueueName, n: u32) -> Result<Vec<(i64, Lease)>> {
        let mut statement = self.connection.prepare_cached(
            "SELECT nr, id, lease, kind, bytes, attempts, enqueued_at, pinned FROM job JOIN payload USING (nr)
             WHERE tenant = ?1 AND queue = ?2 AND state = 1 ORDER BY priority DESC, arrival LIMIT ?3",
        )?;
        let limit = i64::from(n).saturating_add(if n == 0 { 0 } else { PASSED_OVER_MAX });
        let found = statement.query_and_then(params![self.tenant(), queue.as_str(), limit], |row| {
            self.ready_job(queue, row)
        })?;
        let mut ready = Vec::new();
        for found in found {
            match found {
                Err(Fault::Unreadable { at, problem }) => {
                    tracing::debug!(tenant = self.tenant(), at, problem, "a ready job can't be read");
                }
                found => ready.push(found?),
            }
            if ready.len() >= n as usize {
                break;
            }
        }
        Ok(ready)
    }

    fn ready_job(&self, queue: &QueueName, row: &Row<'_>) -> Result<(i64, Lease)> {
        let (id, kind, pinned): (String, String, Option<String>) = (row.get(1)?, row.get(3)?, row.get(7)?);
        let id = parse("job.id", &id)?;
        let lease = LeaseNo(row.get::<_, i64>(2)?.wrapping_add(1).cast_unsigned());
        let job = Job {
            id,
            tenant: self.tenant.clone(),
            queue: queue.clone(),
            kind: parse("job.kind", &kind)?,
            payload: row.get(4)?,
            pinned: pinned.map(|text| parse("job.pinned", &text)).transpose()?,
            attempts: row.get(5)?,
            expiries: 0,
            faults: 0,
            enqueued_at: timestamp(row.get(6)?),
        };
        Ok((row.get(0)?, Lease { token: LeaseToken { job: id, lease }, job }))
    }

    fn next_due(&self) -> Result<Option<Duration>> {
        let expiring: Option<i64> = self.find(
            "SELECT lease_expires_at FROM job WHERE tenant = ?1 AND state = 2 ORDER BY lease_expires_at LIMIT 1",
            [self.tenant()],
            |row| row.get(0),
        )?;
        let next = self.first_due()?.into_iter().chain(expiring).min();
        Ok(next.map(|next| timestamp(next).since(self.now)))
    }
}
