//! Edits of jobs that wait.

use rusqlite::params;
use sandhog_core::edit::{Edited, JobEdit, start_by_after_edit};
use sandhog_core::id::JobId;
use sandhog_core::job::State;
use sandhog_core::quota::QueueBounds;
use sandhog_core::transition::Next;

use super::fault::{Fault, Result};
use super::row::{stamp, timestamp};
use super::step::Step;
use super::stored::{Stored, select_stored};

impl Step<'_> {
    /// Edits a job, as a whole or not at all.
    pub(super) fn edit(&mut self, job: JobId, edit: &JobEdit, bounds: &QueueBounds) -> Result<Edited> {
        let edited = self.readable(job, |step, found| step.edit_stored(found, edit, bounds))?;
        Ok(edited.unwrap_or_else(|unchanged| match unchanged {
            Unchanged::Unknown => Edited::Unknown,
            Unchanged::Unreadable => Edited::Unreadable,
        }))
    }

    /// Does something to a stored job, which has to read everything before it writes anything.
    pub(super) fn readable<T>(
        &mut self,
        job: JobId,
        step: impl FnOnce(&mut Self, Stored) -> Result<T>,
    ) -> Result<std::result::Result<T, Unchanged>> {
        let found = self
            .stored_job(select_stored!("WHERE tenant = ?1 AND id = ?2"), [self.tenant(), &job.to_string()]);
        let done = match found {
            Ok(Some(found)) => step(self, found),
            Ok(None) => return Ok(Err(Unchanged::Unknown)),
            Err(fault) => Err(fault),
        };
        match done {
            Err(Fault::Unreadable { at, problem }) => {
                tracing::warn!(tenant = self.tenant(), %job, at, problem, "a job can't be read, and is left as it is");
                Ok(Err(Unchanged::Unreadable))
            }
            done => done.map(Ok),
        }
    }

    fn edit_stored(&mut self, mut job: Stored, edit: &JobEdit, bounds: &QueueBounds) -> Result<Edited> {
        let delay = edit.due.map(|due| due.delay(self.now));
        let change = match job.standing.edited(delay) {
            Ok(change) => change,
            Err(state) => return Ok(Edited::Not(state)),
        };
        let stored: Option<(i64, Option<i64>, Option<i64>)> = self.find(
            "SELECT octet_length(bytes), due_at, start_by FROM job JOIN payload USING (nr) WHERE nr = ?1",
            [job.nr],
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
        )?;
        let (length, due_at, start_by) =
            stored.ok_or_else(|| Fault::unreadable("payload", "it isn't there"))?;
        let rule = match &job.group {
            Some(_) => self.group_rule(&job.queue)?,
            None => None,
        };
        if let Some(payload) = &edit.payload {
            let (before, after) = (length.cast_unsigned(), payload.len() as u64);
            if let Some(excess) = bounds.payload_excess(self.waiting()?, before, after) {
                return Ok(Edited::Excess(excess));
            }
            self.execute("UPDATE payload SET bytes = ?2 WHERE nr = ?1", params![job.nr, payload])?;
        }
        if let Some(priority) = edit.priority {
            let before = std::mem::replace(&mut job.priority, priority);
            if job.standing.state == State::Ready
                && change.is_none()
                && before != priority
                && self.is_fair(&job.queue)?
            {
                self.place_fairly(job.nr, job.waits(job.standing.counts))?;
            }
            self.execute(
                "UPDATE job SET priority = ?2, line_rank = iif(line_rank IS NULL, NULL, coalesce(?3, line_rank))
                 WHERE nr = ?1",
                params![job.nr, priority.0, rule.map(|rule| rule.rank(priority))],
            )?;
        }
        if let Some(change) = change {
            if let (Some(start_by), Next::Waits(delay)) = (start_by, change.next) {
                let before = due_at.map_or(self.now, timestamp);
                let start_by = start_by_after_edit(timestamp(start_by), before, self.now.after(delay));
                self.execute("UPDATE job SET start_by = ?2 WHERE nr = ?1", params![job.nr, stamp(start_by)])?;
            }
            self.change(&job, &change)?;
        }
        Ok(Edited::Done)
    }
}

/// Reason why nothing was done to a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unchanged {
    /// There is no such job.
    Unknown,
    /// The job can't be read.
    Unreadable,
}
