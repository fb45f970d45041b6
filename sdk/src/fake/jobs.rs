//! The jobs of a fake host: which there are, which is next, whose unique key is held.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use crate::codec::{Decode, InvalidJson};
use crate::enqueue::{JobId, NewJob};

/// A job of a fake host: created by a handler's success, or by [`FakeHost::enqueue`](crate::FakeHost::enqueue).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnqueuedJob {
    /// Its id.
    pub id: JobId,
    /// What is to be done.
    pub kind: String,
    /// The input; [`EnqueuedJob::input`] decodes it.
    pub payload: Vec<u8>,
    /// The queue, if one was named.
    pub queue: Option<String>,
    /// The wait that was asked for.
    pub delay: Duration,
    /// 0 to 255; the highest goes first.
    pub priority: u8,
    /// While a job of the kind with this key isn't final, no second one is created.
    pub unique_key: Option<String>,
    /// What has become of it.
    pub state: JobState,
    /// How often it has been tried.
    pub attempts: u32,
}

/// What has become of a job of a fake host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum JobState {
    /// It is to be run, now or later.
    Waiting,
    /// Its handler succeeded.
    Succeeded,
    /// Its handler failed for good, or as often as it may: a dead letter.
    Dead,
    /// It was cancelled.
    Cancelled,
}

impl JobState {
    /// Whether nothing more becomes of it.
    #[must_use]
    pub fn is_final(self) -> bool {
        self != Self::Waiting
    }
}

impl EnqueuedJob {
    /// The payload as what it was made from.
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

/// Ids, each given once, whatever becomes of who asked for it.
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
    /// When each may run, by the host's clock, and its place among those that may.
    due: Vec<(Duration, u64)>,
    places_given: u64,
}

impl Jobs {
    pub(super) fn all(&self) -> &[EnqueuedJob] {
        &self.jobs
    }

    /// Creates a job, unless its unique key is held: then it answers who holds it.
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

    /// The job that is to be run next, and when: of those that may run now the one with the highest priority that has
    /// waited longest, or else the one that may run first.
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

    /// An attempt that counts has begun.
    pub(super) fn tried(&mut self, at: usize) {
        self.jobs[at].attempts += 1;
    }

    /// Nothing more becomes of it, and its unique key is free.
    pub(super) fn end(&mut self, at: usize, state: JobState) {
        self.jobs[at].state = state;
    }

    pub(super) fn retry(&mut self, at: usize, due: Duration) {
        self.due[at] = (due, self.places_given);
        self.places_given += 1;
    }
}
