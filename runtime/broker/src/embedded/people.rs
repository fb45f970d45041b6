//! People change their minds: cancel and redrive.

use sandhog_core::id::JobId;
use sandhog_core::job::State;
use sandhog_core::reason::Reason;

use super::fault::Result;
use super::row;
use super::step::Step;
use crate::{Changed, Keep};

impl Step<'_> {
    pub(super) fn cancel(&mut self, job: JobId) -> Result<Changed> {
        let found = self.find(
            "SELECT nr, state FROM job WHERE tenant = ?1 AND id = ?2",
            [self.tenant(), &job.to_string()],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )?;
        let Some((nr, state)) = found else { return Ok(Changed::Unknown) };
        match row::state(state)? {
            State::Scheduled | State::Ready => {
                self.put(nr, self.finished(State::Cancelled, Keep::default()))?;
                self.explain(nr, Some(Reason::Cancelled), None)?;
                Ok(Changed::Done)
            }
            State::Leased => {
                self.execute("UPDATE job SET cancel_requested = 1 WHERE nr = ?1", [nr])?;
                self.to_cancel = Some(job);
                Ok(Changed::Requested)
            }
            state @ (State::Succeeded | State::Dead | State::Cancelled) => Ok(Changed::Not(state)),
        }
    }

    pub(super) fn redrive(&mut self, job: JobId) -> Result<Changed> {
        let found: Option<(i64, i64, String, Option<String>)> = self.find(
            "SELECT nr, state, queue, unique_key FROM job WHERE tenant = ?1 AND id = ?2",
            [self.tenant(), &job.to_string()],
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)),
        )?;
        let Some((nr, state, queue, unique_key)) = found else { return Ok(Changed::Unknown) };
        let state = row::state(state)?;
        if state != State::Dead {
            return Ok(Changed::Not(state));
        }
        if let Some(key) = unique_key
            && let Some(holder) = self.holder(&key)?
        {
            return Ok(Changed::Duplicate(holder));
        }
        let place = self.ready(&queue)?;
        self.put(nr, place)?;
        self.explain(nr, None, None)?;
        self.execute("UPDATE job SET attempts = 0, expiries = 0 WHERE nr = ?1", [nr])?;
        Ok(Changed::Done)
    }
}
