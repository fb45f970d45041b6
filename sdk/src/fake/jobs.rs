//! Jobs of a fake host: all of them, the next to run, and the unique keys that they hold.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use crate::codec::{Decode, InvalidJson};
use crate::enqueue::{JobId, NewJob};

/// A job of a fake host: created by a handler's success, or by [`FakeHost::enqueue`](crate::FakeHost::enqueue).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnqueuedJob {
    /// Id of the job.
    pub id: JobId,
    /// Kind of the job.
    pub kind: String,
    /// Input of the handler; [`EnqueuedJob::input`] decodes it.
    pub payload: Vec<u8>,
    /// Queue, if one was named.
    pub queue: Option<String>,
    /// Minimum time to wait that was asked for.
    pub delay: Duration,
    /// Priority, 0 to 255; the highest goes first.
    pub priority: u8,
    /// Unique key: while a job of the kind with it isn't final, no second one is created.
    pub unique_key: Option<String>,
    /// State of the job.
    pub state: JobState,
    /// Number of attempts that were made.
    pub attempts: u32,
}

/// State of a job of a fake host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum JobState {
    /// The job is to be run, now or later.
    Waiting,
    /// The handler succeeded.
    Succeeded,
    /// The handler failed for good, or as often as it may: a dead letter.
    Dead,
    /// The job was cancelled.
    Cancelled,
}

impl JobState {
    /// Whether nothing more happens to the job.
    #[must_use]
    pub fn is_final(self) -> bool {
        self != Self::Waiting
    }
}

impl EnqueuedJob {
    /// Decodes the payload to the type from which it was made.
    ///
    /// # Errors
    /// If it is not the JSON of this type.
    pub fn input<T: Decode>(&self) -> Result<T, InvalidJson> {
        T::decode(self.payload.clone())
    }

    fn holds(&self, kind: &str, key: &str) -> bool {
        !self.state.is_final() && self.kind == kind && self.unique_key.as_deref() == Some(key)
    }
}

/// Source of ids, each given out once, even if the job that it was for isn't created.
#[derive(Debug, Clone, Default)]
pub(super) struct Ids(Rc<Cell<u64>>);

impl Ids {
    pub(super) fn next(&self) -> String {
        self.0.set(self.0.get() + 1);
        format!("job-{}", self.0.get())
    }
}

/// All jobs of a host, in the order in which they were created.
#[derive(Debug, Default)]
pub(super) struct Jobs {
    jobs: Vec<EnqueuedJob>,
    /// Time from which each job may run, by the host's clock, and its place among those that may.
    due: Vec<(Duration, u64)>,
    places_given: u64,
}

impl Jobs {
    pub(super) fn all(&self) -> &[EnqueuedJob] {
        &self.jobs
    }

    /// Creates a job and returns its id; the error is the id of the job that holds its unique key.
    pub(super) fn create(
        &mut self,
        id: String,
        job: NewJob,
        payload: Vec<u8>,
        now: Duration,
    ) -> Result<JobId, JobId> {
        let NewJob { kind, queue, delay, priority, unique_key, .. } = job;
        if let Some(key) = &unique_key
            && let Some(holder) = self.jobs.iter().find(|job| job.holds(&kind, key))
        {
            return Err(holder.id.clone());
        }
        let id = JobId::new(id);
        self.due.push((now.saturating_add(delay), self.places_given));
        self.places_given += 1;
        let (state, attempts) = (JobState::Waiting, 0);
        self.jobs.push(EnqueuedJob {
            id: id.clone(),
            kind,
            payload,
            queue,
            delay,
            priority,
            unique_key,
            state,
            attempts,
        });
        Ok(id)
    }

    pub(super) fn find(&self, id: &JobId) -> Option<usize> {
        self.jobs.iter().position(|job| job.id == *id)
    }

    pub(super) fn get(&self, at: usize) -> &EnqueuedJob {
        &self.jobs[at]
    }

    /// Returns the job to be run next, and the time from which it may run: of those that may run now the one with the
    /// highest priority that has waited longest, or else the one that may run first.
    pub(super) fn next(&self, now: Duration, runs: impl Fn(&str) -> bool) -> Option<(usize, Duration)> {
        let waiting =
            (0..self.jobs.len()).filter(|at| !self.jobs[*at].state.is_final() && runs(&self.jobs[*at].kind));
        let order = |at: &usize| {
            let (due, place) = self.due[*at];
            let wait = due.saturating_sub(now);
            (wait, u8::MAX - self.jobs[*at].priority, due, place)
        };
        waiting.min_by_key(order).map(|at| (at, self.due[at].0))
    }

    /// Counts an attempt that has begun.
    pub(super) fn tried(&mut self, at: usize) {
        self.jobs[at].attempts += 1;
    }

    /// LimitEffect a job in a final state, which frees its unique key.
    pub(super) fn end(&mut self, at: usize, state: JobState) {
        self.jobs[at].state = state;
    }

    pub(super) fn retry(&mut self, at: usize, due: Duration) {
        self.due[at] = (due, self.places_given);
        self.places_given += 1;
    }
}
