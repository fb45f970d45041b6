//! What people do to jobs: cancel, redrive, run now, remove.

use sandhog_core::id::JobId;
use sandhog_core::job::State;
use sandhog_core::reason::Reason;

use super::fault::{Fault, Result};
use super::row;
use super::step::{Step, Waits};
use crate::{Changed, JobAction, Keep};

/// A job that something is to be done to.
struct Found {
    nr: i64,
    state: State,
    queue: String,
    kind: String,
    expiries: i64,
    unique_key: Option<String>,
}

impl Step<'_> {
    /// Does one thing to several jobs. One that can't be read is left as it is, and keeps no other from it.
    pub(super) fn act(&mut self, action: JobAction, jobs: &[JobId]) -> Result<Vec<Changed>> {
        jobs.iter().map(|job| self.act_on(action, *job)).collect()
    }

    fn act_on(&mut self, action: JobAction, job: JobId) -> Result<Changed> {
        let changed = match self.found(job) {
            Ok(Some(found)) => match action {
                JobAction::Cancel => self.cancel(job, &found),
                JobAction::Redrive => self.redrive(&found),
                JobAction::RunNow => self.run_now(&found),
                JobAction::Remove => self.remove(&found),
            },
            Ok(None) => return Ok(Changed::Unknown),
            Err(fault) => Err(fault),
        };
        match changed {
            // All is read before anything is written.
            Err(Fault::Unreadable { at, problem }) => {
                tracing::warn!(tenant = self.tenant(), %job, at, problem, "a job can't be read, and is left as it is");
                Ok(Changed::Unreadable)
            }
            changed => changed,
        }
    }

    fn found(&self, job: JobId) -> Result<Option<Found>> {
        let found = self.find(
            "SELECT nr, state, queue, kind, expiries, unique_key FROM job WHERE tenant = ?1 AND id = ?2",
            [self.tenant(), &job.to_string()],
            |row| {
                let found = Found {
                    nr: row.get(0)?,
                    state: State::Ready,
                    queue: row.get(2)?,
                    kind: row.get(3)?,
                    expiries: row.get(4)?,
                    unique_key: row.get(5)?,
                };
                Ok((found, row.get(1)?))
            },
        )?;
        let Some((found, code)) = found else { return Ok(None) };
        Ok(Some(Found { state: row::state(code)?, ..found }))
    }

    fn cancel(&mut self, job: JobId, found: &Found) -> Result<Changed> {
        match found.state {
            State::Scheduled | State::Ready => {
                self.put(found.nr, self.finished(State::Cancelled, Keep::default()))?;
                self.explain(found.nr, Some(Reason::Cancelled), None)?;
                Ok(Changed::Done)
            }
            State::Leased => {
                self.execute("UPDATE job SET cancel_requested = 1 WHERE nr = ?1", [found.nr])?;
                self.to_cancel.push(job);
                Ok(Changed::Requested)
            }
            state @ (State::Succeeded | State::Dead | State::Cancelled) => Ok(Changed::Not(state)),
        }
    }

    fn redrive(&mut self, found: &Found) -> Result<Changed> {
        if found.state != State::Dead {
            return Ok(Changed::Not(found.state));
        }
        if let Some(key) = &found.unique_key
            && let Some(holder) = self.holder(key)?
        {
            return Ok(Changed::Duplicate(row::parse("job.id", &holder)?));
        }
        let place = self.ready(Waits { queue: &found.queue, kind: &found.kind, is_suspect: false })?;
        self.execute("UPDATE job SET attempts = 0, expiries = 0, faults = 0 WHERE nr = ?1", [found.nr])?;
        self.put(found.nr, place)?;
        self.explain(found.nr, None, None)?;
        Ok(Changed::Done)
    }

    fn run_now(&mut self, found: &Found) -> Result<Changed> {
        match found.state {
            State::Ready => Ok(Changed::Done),
            State::Scheduled => {
                let is_suspect = found.expiries > 0;
                let place = self.ready(Waits { queue: &found.queue, kind: &found.kind, is_suspect })?;
                self.put(found.nr, place)?;
                Ok(Changed::Done)
            }
            state => Ok(Changed::Not(state)),
        }
    }

    fn remove(&self, found: &Found) -> Result<Changed> {
        if !found.state.is_final() {
            return Ok(Changed::Not(found.state));
        }
        self.delete(found.nr)?;
        Ok(Changed::Done)
    }
}
