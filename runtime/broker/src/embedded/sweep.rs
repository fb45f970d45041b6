//! Sweeps: bring a tenant's jobs up to date in bounded steps. Due jobs become ready, expired leases are taken back, and
//! final jobs and state past their time or number are removed.

use std::time::Duration;

use rusqlite::params;
use sandhog_core::history::AttemptRecord;
use sandhog_core::id::{JobId, PluginName};
use sandhog_core::job::State;
use sandhog_core::reason::Reason;
use sandhog_core::time::{Timestamp, millis};

use super::fault::{Fault, Result};
use super::flows::{Removable, select_removable};
use super::queries;
use super::row::{code, stamp, timestamp};
use super::step::Step;
use super::stored::select_stored;
use crate::{KeepMax, SWEEP_MAX, Sweep, Swept};

/// Time after which a job that couldn't be read is looked at again: a newer program may be running by then.
const PARKED_FOR: Duration = Duration::from_secs(60);

/// Number of counts of 0 that a tenant may keep: queues get empty and full again all the time.
const EMPTY_QUEUES_KEPT: i64 = 100;

impl Step<'_> {
    pub(super) fn sweep(&mut self, sweep: &Sweep) -> Result<Swept> {
        let expired = self.expire()?;
        let promoted = self.promote()?;
        let (taken_back, buried) = self.take_back(sweep)?;
        self.cancel_rests()?;
        self.settle_edges()?;
        let mut removed = self.remove_old()?;
        for (plugin, keep_max) in &sweep.keep_max_of {
            removed += self.remove_surplus(Some(plugin), keep_max, SWEEP_MAX - removed)?;
        }
        removed += self.remove_surplus(None, &sweep.keep_max, SWEEP_MAX - removed)?;
        let let_in = self.let_in_all()?;
        self.forget_idle_places()?;
        let forgotten = self.sweep_state(SWEEP_MAX)?;
        let given_up = self.give_up_lanes()?;
        self.forget_empty_queues()?;
        self.sweep_trials()?;
        self.sweep_group_limits()?;
        self.sweep_holds()?;
        self.sweep_gates()?;
        self.sweep_events()?;
        let freed = self.sweep_keys()?;
        self.unpark()?;
        let is_left =
            [expired, promoted, taken_back, removed, let_in, forgotten, given_up, freed].contains(&SWEEP_MAX);
        let limit_end = self.first_limit_end()?.map(|end| timestamp(end).since(self.now));
        let next_due = self.next_due()?.into_iter().chain(limit_end).min();
        let next_due = if is_left { Some(Duration::ZERO) } else { next_due };
        let (next_removal, has_ready) = (self.next_removal()?, self.has_any_ready()?);
        let unreadable = queries::counts(self.connection, self.tenant)?.unreadable;
        let next_schedule = self.first_schedule()?.map(|due| timestamp(due).since(self.now));
        Ok(Swept { buried, next_due, next_schedule, next_removal, has_ready, unreadable })
    }

    /// Cancels the jobs that haven't started within their time. Returns how many had that time behind them: one that is leased
    /// has started.
    pub(super) fn expire(&mut self) -> Result<usize> {
        let expired = self.stored_jobs(
            select_stored!(
                "WHERE tenant = ?1 AND start_by IS NOT NULL AND start_by <= ?2 AND state IN (0, 1, 2, 6)
                 ORDER BY start_by, id LIMIT ?3"
            ),
            params![self.tenant(), self.now(), SWEEP_MAX as i64],
        )?;
        for job in &expired {
            match job.standing.state {
                State::Blocked | State::Scheduled | State::Ready => {
                    self.change(job, &job.standing.expired())?
                }
                State::Leased | State::Succeeded | State::Dead | State::Cancelled => self.start(job)?,
            }
        }
        Ok(expired.len())
    }

    /// Removes counts of queues that have no jobs of a state, if there are many.
    fn forget_empty_queues(&self) -> Result<()> {
        let beyond: Option<i64> = self.find(
            "SELECT state FROM tally INDEXED BY tally_empty WHERE tenant = ?1 AND n = 0 LIMIT 1 OFFSET ?2",
            params![self.tenant(), EMPTY_QUEUES_KEPT],
            |row| row.get(0),
        )?;
        if beyond.is_some() {
            self.execute(
                "DELETE FROM tally WHERE (tenant, state, queue) IN
                     (SELECT tenant, state, queue FROM tally INDEXED BY tally_empty
                      WHERE tenant = ?1 AND n = 0 LIMIT ?2)",
                params![self.tenant(), SWEEP_MAX as i64],
            )?;
        }
        Ok(())
    }

    /// Makes due jobs ready, and returns how many.
    fn promote(&mut self) -> Result<usize> {
        let due = self.stored_jobs(
            select_stored!("WHERE tenant = ?1 AND state = 0 AND due_at <= ?2 ORDER BY due_at, id LIMIT ?3"),
            params![self.tenant(), self.now(), SWEEP_MAX as i64],
        )?;
        for job in &due {
            self.change(job, &job.standing.made_ready())?;
        }
        Ok(due.len())
    }

    /// Takes back expired leases; returns how many, and the jobs that were buried as too many leases of them had expired.
    fn take_back(&mut self, sweep: &Sweep) -> Result<(usize, Vec<JobId>)> {
        let expired = self.stored_jobs(
            select_stored!(
                "WHERE tenant = ?1 AND state = 2 AND lease_expires_at <= ?2 ORDER BY lease_expires_at, id LIMIT ?3"
            ),
            params![self.tenant(), self.now(), SWEEP_MAX as i64],
        )?;
        let mut buried = Vec::new();
        for job in &expired {
            let reason = Some(Reason::LeaseExpired);
            self.start(job)?;
            self.add_attempt(job, AttemptRecord { reason, ..job.attempt_that_ends(self.now) })?;
            let change = job.standing.taken_back(sweep.expiries_max);
            self.change(job, &change)?;
            if change.state() == State::Dead {
                // A job whose id can't be read can't be named; it is buried all the same.
                buried.extend(JobId::parse(&job.id).ok());
            }
        }
        Ok((expired.len(), buried))
    }

    /// Removes final jobs past their keep time, and returns how many.
    fn remove_old(&mut self) -> Result<usize> {
        let old = self.all(
            select_removable!("WHERE tenant = ?1 AND remove_at <= ?2 ORDER BY remove_at, id LIMIT ?3"),
            params![self.tenant(), self.now(), SWEEP_MAX as i64],
            Removable::read,
        )?;
        old.iter().try_for_each(|job| self.remove(job))?;
        Ok(old.len())
    }

    /// Removes the oldest final jobs in excess of the numbers to be kept, of a plugin or of all, at most `most`, and returns how
    /// many.
    fn remove_surplus(&mut self, of: Option<&PluginName>, keep: &KeepMax, most: usize) -> Result<usize> {
        let mut removed = 0;
        for (state, kept) in keep.by_state() {
            let count = self.count_finals(of, state)?;
            let surplus = usize::try_from(count.saturating_sub(kept)).unwrap_or(usize::MAX);
            let surplus = surplus.min(most - removed);
            if surplus == 0 {
                continue;
            }
            let (state, surplus) = (code(state), surplus as i64);
            let oldest = match of {
                None => self.all(
                    select_removable!(
                        "WHERE tenant = ?1 AND state = ?2 AND finished_at IS NOT NULL
                         ORDER BY finished_at, id LIMIT ?3"
                    ),
                    params![self.tenant(), state, surplus],
                    Removable::read,
                )?,
                Some(plugin) => self.all(
                    select_removable!(
                        "WHERE tenant = ?1 AND kept_of = ?2 AND state = ?3 ORDER BY finished_at, id LIMIT ?4"
                    ),
                    params![self.tenant(), plugin.as_str(), state, surplus],
                    Removable::read,
                )?,
            };
            oldest.iter().try_for_each(|job| self.remove(job))?;
            removed += oldest.len();
        }
        Ok(removed)
    }

    /// Returns the number of jobs in a final state, of a plugin or of all.
    fn count_finals(&self, of: Option<&PluginName>, state: State) -> Result<u64> {
        let count: Option<i64> = match of {
            None => self.find(
                "SELECT n FROM tally WHERE tenant = ?1 AND state = ?2 AND queue = ''",
                params![self.tenant(), code(state)],
                |row| row.get(0),
            )?,
            Some(plugin) => self.find(
                "SELECT n FROM kept WHERE tenant = ?1 AND plugin = ?2 AND state = ?3",
                params![self.tenant(), plugin.as_str(), code(state)],
                |row| row.get(0),
            )?,
        };
        Ok(count.map_or(0, i64::cast_unsigned))
    }

    /// Looks again at parked jobs, in the order of when they were last looked at. Those that can be read now can be leased
    /// again.
    fn unpark(&mut self) -> Result<()> {
        let until = self.now.as_millis().saturating_sub(millis(PARKED_FOR));
        let parked = self.stored_jobs(
            select_stored!(
                "WHERE tenant = ?1 AND parked_at IS NOT NULL AND parked_at <= ?2 ORDER BY parked_at LIMIT ?3"
            ),
            params![self.tenant(), stamp(Timestamp::from_millis(until)), SWEEP_MAX as i64],
        )?;
        for job in parked {
            match self.current_lease(job.nr) {
                Err(Fault::Unreadable { .. }) => self.park(job.nr)?,
                read => {
                    read?;
                    let in_lane = self.enter(job.waits(job.standing.counts))?;
                    self.execute(
                        "UPDATE job SET parked_at = NULL, lane = iif(?2, kind, '') WHERE nr = ?1",
                        params![job.nr, in_lane],
                    )?;
                }
            }
        }
        Ok(())
    }

    /// Returns the time until the next final job is past its keep time, or `None` if there is none.
    fn next_removal(&self) -> Result<Option<Duration>> {
        let next: Option<i64> = self.find(
            "SELECT remove_at FROM job WHERE tenant = ?1 AND remove_at IS NOT NULL ORDER BY remove_at LIMIT 1",
            [self.tenant()],
            |row| row.get(0),
        )?;
        Ok(next.map(|next| timestamp(next).since(self.now)))
    }

    /// Whether any job can be leased.
    fn has_any_ready(&self) -> Result<bool> {
        let (held, gates) = (self.held_scopes()?, self.gates()?);
        if !held.is_empty() || !gates.are_open() {
            return self.has_ready_besides(&held, &gates);
        }
        let found = self.find(
            "SELECT 1 FROM job INDEXED BY job_ready WHERE tenant = ?1 AND state = 1 AND parked_at IS NULL LIMIT 1",
            [self.tenant()],
            |_| Ok(()),
        )?;
        Ok(found.is_some())
    }
}
