//! Jobs are handed out, after what is due has become ready, and what has run out was taken back.

use std::time::Duration;

use rusqlite::params;
use sandhog_core::id::{JobId, LeaseNo, LeaseToken, QueueName};
use sandhog_core::job::{Job, Lease, State};
use sandhog_core::reason::Reason;

use super::fault::Result;
use super::row::{parse, stamp, timestamp};
use super::step::Step;
use crate::{Keep, LeaseAsk, Leased, SWEEP_MAX};

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
        Ok(Leased { leases, next_due, spent })
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
            Ok(Expired { nr, id: parse("job.id", &id)?, queue, expiries, cancel_requested })
        };
        rows.into_iter().map(expired).collect()
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
        let ready = self.all(
            "SELECT nr, id, lease, kind, bytes, attempts, enqueued_at, pinned FROM job JOIN payload USING (nr)
             WHERE tenant = ?1 AND queue = ?2 AND state = 1 ORDER BY priority DESC, arrival LIMIT ?3",
            params![self.tenant(), queue.as_str(), n],
            |row| {
                let (nr, id, lease): (i64, String, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
                let (kind, payload): (String, Vec<u8>) = (row.get(3)?, row.get(4)?);
                let pinned: Option<String> = row.get(7)?;
                Ok((nr, id, lease + 1, kind, payload, row.get(5)?, row.get(6)?, pinned))
            },
        )?;
        for (nr, id, lease, kind, payload, attempts, enqueued_at, pinned) in ready {
            self.execute(
                "UPDATE job SET state = 2, arrival = NULL, lease = ?2, leased_at = ?3, lease_expires_at = ?4
                 WHERE nr = ?1",
                params![nr, lease, self.now(), stamp(self.now.after(ttl))],
            )?;
            let id = parse("job.id", &id)?;
            let job = Job {
                id,
                tenant: self.tenant.clone(),
                queue: queue.clone(),
                kind: parse("job.kind", &kind)?,
                payload,
                pinned: pinned.map(|text| parse("job.pinned", &text)).transpose()?,
                attempts,
                expiries: 0,
                faults: 0,
                enqueued_at: timestamp(enqueued_at),
            };
            leases.push(Lease { token: LeaseToken { job: id, lease: LeaseNo(lease.cast_unsigned()) }, job });
        }
        Ok(())
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
