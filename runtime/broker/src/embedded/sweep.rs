//! A tenant's jobs are brought up to date, in bounded steps: what is due becomes ready, what has run out is taken back, and
//! what is past its time or over its number is removed.

use std::time::Duration;

use rusqlite::{Row, params};
use sandhog_core::id::JobId;
use sandhog_core::job::State;
use sandhog_core::reason::Reason;
use sandhog_core::time::{Timestamp, millis};

use super::fault::{Fault, Result};
use super::look;
use super::row::{code, stamp, timestamp};
use super::step::{Step, Waits};
use crate::{Keep, KeepMax, SWEEP_MAX, Sweep, Swept};

/// How long a job that can't be read is left alone before it is looked at again: a newer program may be here by then.
const PARKED_FOR: Duration = Duration::from_secs(60);

/// A lease that has run out.
struct Expired {
    nr: i64,
    id: String,
    queue: String,
    kind: String,
    expiries: u32,
    cancel_requested: bool,
    /// Whether it counts against a limit of the fleet.
    is_limited: bool,
}

/// A job that becomes ready, perhaps.
struct Waiting {
    nr: i64,
    queue: String,
    kind: String,
    is_suspect: bool,
}

impl Waiting {
    /// A row of nr, queue, kind, and whether it is a suspect.
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self { nr: row.get(0)?, queue: row.get(1)?, kind: row.get(2)?, is_suspect: row.get(3)? })
    }

    fn waits(&self) -> Waits<'_> {
        Waits { queue: &self.queue, kind: &self.kind, is_suspect: self.is_suspect }
    }
}

impl Step<'_> {
    pub(super) fn sweep(&mut self, sweep: &Sweep) -> Result<Swept> {
        let promoted = self.promote()?;
        let (taken_back, buried) = self.take_back(sweep)?;
        let mut removed = self.remove_old()?;
        removed += self.remove_surplus(&sweep.keep_max, SWEEP_MAX - removed)?;
        let forgotten = self.sweep_state(SWEEP_MAX)?;
        let given_up = self.give_up_lanes()?;
        self.unpark()?;
        let is_left = [promoted, taken_back, removed, forgotten, given_up].contains(&SWEEP_MAX);
        let next_due = if is_left { Some(Duration::ZERO) } else { self.next_due()? };
        let (next_removal, has_ready) = (self.next_removal()?, self.has_any_ready()?);
        let unreadable = look::counts(self.connection, self.tenant)?.unreadable;
        Ok(Swept { buried, next_due, next_removal, has_ready, unreadable })
    }

    /// Makes ready what is due; says how many.
    fn promote(&mut self) -> Result<usize> {
        let due = self.all(
            "SELECT nr, queue, kind, expiries > 0 FROM job WHERE tenant = ?1 AND state = 0 AND due_at <= ?2
             ORDER BY due_at, id LIMIT ?3",
            params![self.tenant(), self.now(), SWEEP_MAX as i64],
            Waiting::read,
        )?;
        for job in &due {
            let place = self.ready(job.waits())?;
            self.put(job.nr, place)?;
        }
        Ok(due.len())
    }

    /// Takes back leases that ran out; says how many, and which jobs had lost one too many.
    fn take_back(&mut self, sweep: &Sweep) -> Result<(usize, Vec<JobId>)> {
        let expired = self.expired()?;
        let mut buried = Vec::new();
        for job in &expired {
            let expiries = job.expiries.saturating_add(1);
            self.execute(
                "UPDATE job SET lease = lease + 1, expiries = ?2 WHERE nr = ?1",
                params![job.nr, expiries],
            )?;
            let place = if expiries > sweep.expiries_max {
                self.explain(job.nr, Some(Reason::LeaseExpired), Some(&sweep.buried_message()))?;
                // One whose id can't be read can't be named; it is buried all the same.
                buried.extend(JobId::parse(&job.id).ok());
                self.finished(State::Dead, Keep::default())
            } else if job.cancel_requested {
                self.explain(job.nr, Some(Reason::Cancelled), None)?;
                self.finished(State::Cancelled, Keep::default())
            } else {
                self.ready(Waits { queue: &job.queue, kind: &job.kind, is_suspect: true })?
            };
            self.put(job.nr, place)?;
            self.has_left |= job.is_limited;
        }
        Ok((expired.len(), buried))
    }

    fn expired(&self) -> Result<Vec<Expired>> {
        self.all(
            "SELECT nr, id, queue, kind, expiries, cancel_requested, limited_by IS NOT NULL FROM job
             WHERE tenant = ?1 AND state = 2 AND lease_expires_at <= ?2 ORDER BY lease_expires_at, id LIMIT ?3",
            params![self.tenant(), self.now(), SWEEP_MAX as i64],
            |row| {
                Ok(Expired {
                    nr: row.get(0)?,
                    id: row.get(1)?,
                    queue: row.get(2)?,
                    kind: row.get(3)?,
                    expiries: row.get(4)?,
                    cancel_requested: row.get(5)?,
                    is_limited: row.get(6)?,
                })
            },
        )
    }

    /// Removes final jobs whose time is over; says how many.
    fn remove_old(&self) -> Result<usize> {
        let old: Vec<i64> = self.all(
            "SELECT nr FROM job WHERE tenant = ?1 AND remove_at <= ?2 ORDER BY remove_at, id LIMIT ?3",
            params![self.tenant(), self.now(), SWEEP_MAX as i64],
            |row| row.get(0),
        )?;
        old.iter().try_for_each(|nr| self.delete(*nr))?;
        Ok(old.len())
    }

    /// Removes the oldest of the final jobs of which there are more than are to be kept, at most `most`; says how many.
    fn remove_surplus(&self, keep: &KeepMax, most: usize) -> Result<usize> {
        let mut removed = 0;
        for (state, kept) in
            [(State::Succeeded, keep.done), (State::Cancelled, keep.done), (State::Dead, keep.dead)]
        {
            let count: Option<i64> = self.find(
                "SELECT n FROM tally WHERE tenant = ?1 AND state = ?2",
                params![self.tenant(), code(state)],
                |row| row.get(0),
            )?;
            let surplus = count.map_or(0, i64::cast_unsigned).saturating_sub(kept);
            let surplus = usize::try_from(surplus).unwrap_or(usize::MAX).min(most - removed);
            let oldest: Vec<i64> = self.all(
                "SELECT nr FROM job WHERE tenant = ?1 AND state = ?2 AND finished_at IS NOT NULL
                 ORDER BY finished_at, id LIMIT ?3",
                params![self.tenant(), code(state), surplus as i64],
                |row| row.get(0),
            )?;
            oldest.iter().try_for_each(|nr| self.delete(*nr))?;
            removed += oldest.len();
        }
        Ok(removed)
    }

    /// Looks again at jobs that couldn't be read, those first that were looked at the longest ago. What can be read now is
    /// handed out as before.
    fn unpark(&mut self) -> Result<()> {
        let until = self.now.as_millis().saturating_sub(millis(PARKED_FOR));
        let parked = self.all(
            "SELECT nr, queue, kind, expiries > 0 FROM job WHERE tenant = ?1 AND parked_at IS NOT NULL AND parked_at <= ?2
             ORDER BY parked_at LIMIT ?3",
            params![self.tenant(), stamp(Timestamp::from_millis(until)), SWEEP_MAX as i64],
            Waiting::read,
        )?;
        for job in parked {
            match self.current_lease(job.nr) {
                Err(Fault::Unreadable { .. }) => self.park(job.nr)?,
                read => {
                    read?;
                    let in_lane = self.enter(job.waits())?;
                    self.execute(
                        "UPDATE job SET parked_at = NULL, lane = iif(?2, kind, '') WHERE nr = ?1",
                        params![job.nr, in_lane],
                    )?;
                }
            }
        }
        Ok(())
    }

    /// When the next final job is past its time.
    fn next_removal(&self) -> Result<Option<Duration>> {
        let next: Option<i64> = self.find(
            "SELECT remove_at FROM job WHERE tenant = ?1 AND remove_at IS NOT NULL ORDER BY remove_at LIMIT 1",
            [self.tenant()],
            |row| row.get(0),
        )?;
        Ok(next.map(|next| timestamp(next).since(self.now)))
    }

    /// Whether a job can be handed out.
    fn has_any_ready(&self) -> Result<bool> {
        let found = self.find(
            "SELECT 1 FROM job INDEXED BY job_ready WHERE tenant = ?1 AND state = 1 AND parked_at IS NULL LIMIT 1",
            [self.tenant()],
            |_| Ok(()),
        )?;
        Ok(found.is_some())
    }
}
