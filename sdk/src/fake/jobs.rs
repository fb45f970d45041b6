//! Jobs of a fake host: all of them, the next to run, and the unique keys that they hold.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use super::keys::{Clash, KeyHold, Rule};
use crate::codec::{Decode, InvalidJson};
use crate::enqueue::{JobId, NewJob, Start};
use crate::host::JobFacts;

/// A job of a fake host: created by a handler's success, or by [`FakeHost::enqueue`](crate::FakeHost::enqueue).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnqueuedJob {
    /// Id of the job.
    pub id: JobId,
    /// Kind of the job.
    pub kind: String,
    /// Input of the handler; [`EnqueuedJob::input`] decodes it.
    pub payload: Vec<u8>,
    /// Content type of the payload, if one was set.
    pub content_type: Option<String>,
    /// Queue, if one was named.
    pub queue: Option<String>,
    /// Group in the queue, if it has one.
    pub group: Option<String>,
    /// Time from its creation until it may start.
    pub delay: Duration,
    /// Time within which it has to start once it may, if it has to.
    pub start_within: Option<Duration>,
    /// Time after which it is given up, from when it may start, if there is one.
    pub deadline: Option<Duration>,
    /// Priority, 0 to 255; the highest goes first.
    pub priority: u8,
    /// Names and values of its labels, in the order of the names.
    pub labels: Vec<(String, String)>,
    /// Unique key: while a job of the kind holds it, no second one is created.
    pub unique_key: Option<String>,
    /// State of the job.
    pub state: JobState,
    /// Number of attempts that were made and count.
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
    timings: Vec<Timing>,
    /// How unique keys are held, by kind and key, and by which job.
    keys: BTreeMap<(String, String), (usize, KeyHold)>,
    places_given: u64,
}

/// Times of a job, by the host's clock.
#[derive(Debug, Clone, Copy)]
struct Timing {
    created_at: Duration,
    /// Time from which it may run.
    due: Duration,
    /// Place among those that may run.
    place: u64,
    /// Time by which it has to have started.
    start_by: Option<Duration>,
    /// Time at which it is given up.
    ends_at: Option<Duration>,
    has_started: bool,
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
        let rule = job.unique.as_ref().map(|(_, rule)| Rule::of(*rule));
        let delay = rule.as_ref().and_then(Rule::delay).unwrap_or_else(|| match job.start {
            Start::After(delay) => delay,
            Start::At(at) => {
                at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().saturating_sub(now)
            }
        });
        let unique_key = job.unique.map(|(key, _)| key);
        if let (Some(key), Some(rule)) = (&unique_key, rule) {
            let slot = (job.kind.clone(), key.clone());
            if let Some(holder) = self.clash(&slot, rule, &payload, now) {
                return Err(holder);
            }
            self.keys.insert(slot, (self.jobs.len(), rule.hold(now)));
        }
        let id = JobId::new(id);
        let due = now.saturating_add(delay);
        let from_due = |time: Option<Duration>| time.map(|time| due.saturating_add(time));
        self.timings.push(Timing {
            created_at: now,
            due,
            place: self.places_given,
            start_by: from_due(job.start_within),
            ends_at: from_due(job.deadline),
            has_started: false,
        });
        self.places_given += 1;
        self.jobs.push(EnqueuedJob {
            id: id.clone(),
            kind: job.kind,
            payload,
            content_type: job.content_type,
            queue: job.queue,
            group: job.group,
            delay,
            start_within: job.start_within,
            deadline: job.deadline,
            priority: job.priority,
            labels: job.labels,
            unique_key,
            state: JobState::Waiting,
            attempts: 0,
        });
        Ok(id)
    }

    /// Does what a job of this rule does to the one that holds its key, and returns that one's id; `None` if nobody holds it.
    fn clash(&mut self, slot: &(String, String), rule: Rule, payload: &[u8], now: Duration) -> Option<JobId> {
        let (at, held) = self.keys.get_mut(slot)?;
        let (job, timing) = (&mut self.jobs[*at], &mut self.timings[*at]);
        if !held.is_in_force(job.state, timing.has_started, now) {
            return None;
        }
        let Clash { replaces, due, ends } = rule.clash(held, !job.state.is_final(), now);
        if replaces {
            payload.clone_into(&mut job.payload);
        }
        if let Some(due) = due {
            timing.start_by = timing.start_by.map(|start_by| (start_by + due).saturating_sub(timing.due));
            timing.due = due;
        }
        held.ends = ends.or(held.ends);
        Some(job.id.clone())
    }

    /// Returns what is known of a job beside its id, kind and payload.
    pub(super) fn facts(&self, at: usize) -> JobFacts {
        let (job, timing) = (&self.jobs[at], &self.timings[at]);
        JobFacts {
            enqueued_at: timing.created_at,
            content_type: job.content_type.clone(),
            group: job.group.clone(),
            labels: job.labels.clone(),
            deadline: timing.ends_at,
        }
    }

    /// Ends a job whose time is over before it could run. Returns whether it was.
    pub(super) fn expire(&mut self, at: usize, now: Duration) -> bool {
        let Timing { start_by, ends_at, has_started, .. } = self.timings[at];
        let state = match () {
            () if !has_started && start_by.is_some_and(|start_by| start_by < now) => JobState::Cancelled,
            () if ends_at.is_some_and(|ends_at| ends_at <= now) => JobState::Dead,
            () => return false,
        };
        self.end(at, state);
        true
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
            let Timing { due, place, .. } = self.timings[*at];
            let wait = due.saturating_sub(now);
            (wait, u8::MAX - self.jobs[*at].priority, due, place)
        };
        waiting.min_by_key(order).map(|at| (at, self.timings[at].due))
    }

    /// Counts an attempt that has begun.
    pub(super) fn tried(&mut self, at: usize) {
        self.jobs[at].attempts += 1;
        self.timings[at].has_started = true;
    }

    /// Ends a job in a final state, which frees its unique key.
    pub(super) fn end(&mut self, at: usize, state: JobState) {
        self.jobs[at].state = state;
    }

    /// Has a job wait until it is due again. It is dead if its time is over then.
    pub(super) fn retry(&mut self, at: usize, due: Duration) {
        if self.timings[at].ends_at.is_some_and(|ends_at| ends_at <= due) {
            return self.end(at, JobState::Dead);
        }
        (self.timings[at].due, self.timings[at].place) = (due, self.places_given);
        self.places_given += 1;
    }

    /// Has a job wait until it is due again, as if this attempt hadn't been made. It is dead if its time is over then.
    pub(super) fn put_off(&mut self, at: usize, due: Duration) {
        self.retry(at, due);
        if !self.jobs[at].state.is_final() {
            self.jobs[at].attempts -= 1;
        }
    }
}
