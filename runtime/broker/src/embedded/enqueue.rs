//! Enqueueing of jobs, from producers and from runs that succeed.

use std::slice;

use rusqlite::params;
use sandhog_core::budget::Bytes;
use sandhog_core::event::EventKind;
use sandhog_core::id::{GroupKey, Revision, UniqueKey};
use sandhog_core::job::NewJob;
use sandhog_core::quota::{QueueBounds, Waiting};
use sandhog_core::transition::Next;

use super::events::Subject;
use super::fault::Result;
use super::groups::Member;
use super::row::{parse, stamp};
use super::step::{Step, Waits};
use crate::{Enqueued, options};

/// Reason why a job can't be stored.
enum Obstacle {
    /// The job is stored already.
    Stored,
    /// The job with this id holds this unique key.
    Holder(String, String),
    /// The job would pass the bounds.
    Bounds(Enqueued),
}

impl Step<'_> {
    /// Stores a job, unless it is stored already, another holds its unique key, or it would pass the bounds.
    pub(super) fn enqueue(&mut self, job: &NewJob, bounds: &QueueBounds) -> Result<Enqueued> {
        match self.obstacle(job, bounds)? {
            None => self.insert(job, Next::Waits(job.delay)).map(|_| Enqueued::Stored),
            Some(Obstacle::Stored) => Ok(Enqueued::Stored),
            Some(Obstacle::Holder(id, key)) => self.clash(&id, &key, job, bounds),
            Some(Obstacle::Bounds(refusal)) => Ok(refusal),
        }
    }

    /// Stores jobs if none of them passes the bounds together with those before it; otherwise none. Returns the first refusal. No
    /// two have the same id, and none has a unique key.
    pub(super) fn enqueue_together(
        &mut self,
        jobs: &[NewJob],
        bounds: &QueueBounds,
    ) -> Result<Option<Enqueued>> {
        let mut waiting = self.waiting()?;
        let mut new = Vec::with_capacity(jobs.len());
        for job in jobs {
            match self.obstacle(job, &QueueBounds { payload: bounds.payload, ..QueueBounds::NONE })? {
                Some(Obstacle::Stored) => continue,
                Some(Obstacle::Holder(id, _)) => return Ok(Some(Enqueued::Duplicate(parse("job.id", &id)?))),
                Some(Obstacle::Bounds(refusal)) => return Ok(Some(refusal)),
                None => {}
            }
            let one = Waiting::of(slice::from_ref(job));
            if let Some(excess) = bounds.excess(waiting, one) {
                return Ok(Some(Enqueued::Full(excess)));
            }
            waiting = Waiting { jobs: waiting.jobs + one.jobs, bytes: waiting.bytes + one.bytes };
            new.push(job);
        }
        new.into_iter().try_for_each(|job| self.insert(job, Next::Waits(job.delay)).map(drop))?;
        Ok(None)
    }

    /// Stores a job of a run that has been found to fit. If something keeps it from being stored, it is left out without an
    /// error.
    pub(super) fn enqueue_of_run(&mut self, job: &NewJob) -> Result<()> {
        match self.obstacle(job, &QueueBounds::NONE)? {
            None => self.insert(job, Next::Waits(job.delay)).map(drop),
            Some(Obstacle::Holder(id, key)) => self.clash(&id, &key, job, &QueueBounds::NONE).map(drop),
            Some(_) => Ok(()),
        }
    }

    fn obstacle(&self, job: &NewJob, bounds: &QueueBounds) -> Result<Option<Obstacle>> {
        let known = "SELECT 1 FROM job WHERE tenant = ?1 AND id = ?2";
        if self.find(known, [self.tenant(), &job.id.to_string()], |_| Ok(()))?.is_some() {
            return Ok(Some(Obstacle::Stored));
        }
        if let Some(key) = &job.unique_key
            && let Some(holder) = self.holder(key.as_str())?
        {
            return Ok(Some(Obstacle::Holder(holder, key.as_str().to_owned())));
        }
        Ok(self.bounds_refusal(job, bounds, Waiting::default())?.map(Obstacle::Bounds))
    }

    fn bounds_refusal(
        &self,
        job: &NewJob,
        bounds: &QueueBounds,
        beside: Waiting,
    ) -> Result<Option<Enqueued>> {
        if Bytes::of(job.payload.len()) > bounds.payload {
            return Ok(Some(Enqueued::TooLarge));
        }
        let waiting = self.waiting()?;
        let waiting = Waiting { jobs: waiting.jobs + beside.jobs, bytes: waiting.bytes + beside.bytes };
        Ok(bounds.excess(waiting, Waiting::of(slice::from_ref(job))).map(Enqueued::Full))
    }

    /// Returns the reason why a new job can't be stored, beside others that aren't stored yet.
    pub(super) fn refusal(
        &self,
        job: &NewJob,
        bounds: &QueueBounds,
        beside: Waiting,
    ) -> Result<Option<Enqueued>> {
        if let Some(key) = &job.unique_key
            && let Some(holder) = self.holder(key.as_str())?
        {
            return Ok(Some(Enqueued::Duplicate(parse("job.id", &holder)?)));
        }
        self.bounds_refusal(job, bounds, beside)
    }

    /// Stores a job in its first place, and returns its number.
    pub(super) fn insert(&mut self, job: &NewJob, next: Next) -> Result<i64> {
        let group = job.options.group.as_ref().map(GroupKey::as_str);
        let (queue, kind, priority) = (job.queue.as_str(), job.kind.as_str(), job.priority);
        let waits = Waits { queue, kind, is_suspect: false, priority, group };
        let member = group.map(|_| Member { has_turn: false, priority: job.priority });
        let place = self.place_in_group(waits, member, next)?;
        let (state, due_at, arrival, ..) = place.columns();
        let start_by = job.options.start_within.map(|within| stamp(self.now.after(within)));
        if let Some(start_by) = start_by {
            self.has_news = self.has_news || self.first_start_by()?.is_none_or(|first| start_by < first);
        }
        let (line_rank, blocked_nr) = place.in_line();
        self.execute(
            "INSERT INTO job
                 (tenant, id, queue, kind, priority, unique_key, pinned, state, due_at, arrival, enqueued_at, lane,
                  options, group_key, line_rank, blocked_nr, start_by, tie)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, iif(?12, ?4, ''), ?13, ?14, ?15, ?16, ?17, iif(?18, ?2, ''))",
            params![
                self.tenant(),
                job.id.to_string(),
                job.queue.as_str(),
                job.kind.as_str(),
                job.priority.0,
                job.unique_key.as_ref().map(UniqueKey::as_str),
                job.pinned.as_ref().map(Revision::to_string),
                state,
                due_at,
                arrival,
                self.now(),
                place.in_lane(),
                options::to_bytes(&job.options),
                group,
                line_rank,
                blocked_nr,
                start_by,
                place.is_fair(),
            ],
        )?;
        let nr = self.connection.last_insert_rowid();
        if let Some(key) = &job.unique_key {
            self.claim(key.as_str(), &job.id.to_string(), &job.options.unique)?;
        }
        self.execute("INSERT INTO payload VALUES (?1, ?2)", params![nr, job.payload])?;
        let id = job.id.to_string();
        let subject = Subject { id: &id, queue: waits.queue, kind: waits.kind, group };
        self.tell(EventKind::Created, subject, None, None)?;
        if let Some(key) = group.filter(|_| blocked_nr.is_some() && next != Next::Blocked) {
            self.let_in_one(job.queue.as_str(), key, Some(&id))?;
        }
        Ok(nr)
    }
}
