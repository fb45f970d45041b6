//! Jobs come in, from producers and from runs that succeed.

use rusqlite::params;
use sandhog_core::id::{Revision, UniqueKey};
use sandhog_core::job::NewJob;

use super::fault::Result;
use super::step::Step;
use crate::Enqueued;

impl Step<'_> {
    /// Stores a job, unless it is stored already or another holds its unique key.
    pub(super) fn enqueue(&mut self, job: &NewJob) -> Result<Enqueued> {
        let id = job.id.to_string();
        let known = "SELECT 1 FROM job WHERE tenant = ?1 AND id = ?2";
        if self.find(known, [self.tenant(), &id], |_| Ok(()))?.is_some() {
            return Ok(Enqueued::Stored);
        }
        let unique_key = job.unique_key.as_ref().map(UniqueKey::as_str);
        if let Some(key) = unique_key
            && let Some(holder) = self.holder(key)?
        {
            return Ok(Enqueued::Duplicate(holder));
        }
        let (state, due_at, arrival, ..) = self.wait(job.queue.as_str(), job.delay)?.columns();
        self.execute(
            "INSERT INTO job
                 (tenant, id, queue, kind, priority, unique_key, pinned, state, due_at, arrival, enqueued_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
            params![
                self.tenant(),
                id,
                job.queue.as_str(),
                job.kind.as_str(),
                job.priority.0,
                unique_key,
                job.pinned.as_ref().map(Revision::to_string),
                state,
                due_at,
                arrival,
                self.now(),
            ],
        )?;
        let nr = self.connection.last_insert_rowid();
        self.execute("INSERT INTO payload VALUES (?1, ?2)", params![nr, job.payload])?;
        Ok(Enqueued::Stored)
    }
}
