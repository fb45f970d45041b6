//! Running of waiting jobs, with retries, as a daemon would: the clock moves on to when the next one is due.

use std::time::Duration;

use super::jobs::{EnqueuedJob, JobState};
use super::{FakeHost, Run, Tried, within_output};
use crate::failure::Failure;
use crate::handler::HandlerFn;

/// Maximum number of attempts in one call: jobs that enqueue jobs without end are a mistake that a test should see.
const ATTEMPTS_MAX: usize = 1_000;

/// Bounds of the waits between attempts: those of a plugin whose TOML sets none, without their jitter.
const BACKOFF_BASE: Duration = Duration::from_secs(2);
const BACKOFF_MAX: Duration = Duration::from_secs(600);

/// Wait of a job whose service is unavailable, if its handler names none.
const UNAVAILABLE_REST: Duration = Duration::from_secs(10);

/// Minimum time for which a handler puts its job off.
const PUT_OFF_MIN: Duration = Duration::from_secs(1);

/// Maximum wait that a handler may ask for.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// Result of [`FakeHost::drain`].
#[derive(Debug)]
pub struct Drained {
    /// All attempts, in the order in which they ran.
    pub attempts: Vec<Attempt>,
}

/// One attempt of a job.
#[derive(Debug)]
pub struct Attempt {
    /// The job as it was after this attempt: its `attempts` are the number of this one, unless it was put off, and its `state`
    /// is the result.
    pub job: EnqueuedJob,
    /// Time from the call to the beginning of the attempt, by the host's clock.
    pub at: Duration,
    /// Run of the attempt; its result is the output as it is kept with the job.
    pub run: Run<Vec<u8>>,
}

impl Drained {
    /// Returns the attempts of jobs of a kind.
    pub fn of<'d>(&'d self, kind: &str) -> impl Iterator<Item = &'d Attempt> {
        self.attempts.iter().filter(move |attempt| attempt.job.kind == kind)
    }
}

impl FakeHost {
    /// Runs the waiting jobs, and those that they enqueue, until none of these kinds is left:
    /// `host.drain(&handlers![resize, send])`.
    ///
    /// A job that fails is tried again after its wait, as often as [`max_attempts`](Self::max_attempts) says. Nothing
    /// sleeps: the clock moves to when the next job is due. The wait is what the handler asked for, or else that of a
    /// plugin whose TOML sets no policy, without jitter: 2 s, 4 s, 8 s, up to 10 minutes. Jobs run one after the other,
    /// those that are due by priority, and then by age. Jobs of other kinds go on waiting. Groups are known to the handler, and
    /// no rule for them is kept.
    ///
    /// ```
    /// # use sandhog_sdk::{FakeHost, JobState, NewJob, handlers, prelude::*};
    /// #[handler(kind = "order.place")]
    /// fn place(ctx: &Context, order: u64) -> Result<()> {
    ///     ctx.enqueue(NewJob::new("mail.send", &order))?;
    ///     Ok(())
    /// }
    ///
    /// #[handler(kind = "mail.send")]
    /// fn send(ctx: &Context, order: u64) -> Result<String> {
    ///     if ctx.attempt() == 1 {
    ///         return Err(transient("the server is busy"));
    ///     }
    ///     Ok(format!("sent {order}"))
    /// }
    ///
    /// let mut host = FakeHost::new();
    /// host.enqueue(NewJob::new("order.place", &7)).unwrap();
    /// let drained = host.drain(&handlers![place, send]);
    /// assert_eq!(drained.attempts.len(), 3);
    /// assert!(host.jobs().iter().all(|job| job.state == JobState::Succeeded));
    /// ```
    ///
    /// # Panics
    /// If jobs are still waiting after 1,000 attempts.
    pub fn drain(&mut self, handlers: &[(&str, HandlerFn)]) -> Drained {
        self.drain_until(Duration::MAX, handlers)
    }

    /// Moves the clock by this time, and runs the jobs that become due meanwhile; otherwise as [`Self::drain`].
    ///
    /// # Panics
    /// As [`Self::drain`].
    pub fn drain_for(&mut self, time: Duration, handlers: &[(&str, HandlerFn)]) -> Drained {
        let until = self.clock.since_epoch().saturating_add(time);
        let drained = self.drain_until(until, handlers);
        self.clock.advance_to(until);
        drained
    }

    fn drain_until(&mut self, until: Duration, handlers: &[(&str, HandlerFn)]) -> Drained {
        let begun = self.clock.since_epoch();
        let of =
            |kind: &str| handlers.iter().find(|(handled, _)| *handled == kind).map(|(_, handle)| *handle);
        let mut attempts = Vec::new();
        while let Some((at, due)) = self
            .jobs
            .next(self.clock.since_epoch(), |kind| of(kind).is_some())
            .filter(|(_, due)| *due <= until)
        {
            let job = self.jobs.get(at);
            assert!(
                attempts.len() < ATTEMPTS_MAX,
                "drain: after {ATTEMPTS_MAX} attempts jobs still wait, the next of kind `{}`: do they enqueue each other \
                 without end?",
                job.kind
            );
            let handle = of(&job.kind).expect("the next job is of a kind that is handled");
            self.clock.advance_to(due);
            if self.jobs.expire(at, self.clock.since_epoch()) {
                continue;
            }
            let at_time = self.clock.since_epoch() - begun;
            let run = self.attempt_of(at, handle);
            attempts.push(Attempt { job: self.jobs.get(at).clone(), at: at_time, run });
        }
        Drained { attempts }
    }

    fn attempt_of(&mut self, at: usize, handle: HandlerFn) -> Run<Vec<u8>> {
        self.jobs.tried(at);
        let EnqueuedJob { id, kind, queue, attempts, payload, .. } = self.jobs.get(at).clone();
        let queue = queue.unwrap_or_else(|| self.given.queue.clone());
        let job = self.jobs.facts(at);
        let tried = Tried { id: id.as_str().to_owned(), kind, queue, attempt: attempts, job };
        let output_max = self.given.limits.output;
        let run = self.attempted(
            tried,
            |ctx| within_output(handle(ctx, payload), output_max),
            // The job's own unique key is freed before the jobs that it enqueued are created.
            |jobs| jobs.end(at, JobState::Succeeded),
        );
        match &run.result {
            Ok(_) => {}
            Err(Failure::Snoozed { after } | Failure::RateLimited { after, .. }) => {
                let wait = (*after).min(RETRY_AFTER_MAX).max(PUT_OFF_MIN);
                self.jobs.put_off(at, self.clock.since_epoch().saturating_add(wait));
            }
            Err(Failure::Unavailable { after, .. }) => {
                let wait = after.unwrap_or(UNAVAILABLE_REST).min(RETRY_AFTER_MAX).max(PUT_OFF_MIN);
                self.jobs.put_off(at, self.clock.since_epoch().saturating_add(wait));
            }
            Err(Failure::Transient { retry_after, .. }) if attempts < self.given.max_attempts => {
                let wait = retry_after.map_or_else(|| backoff(attempts), |wait| wait.min(RETRY_AFTER_MAX));
                self.jobs.retry(at, self.clock.since_epoch().saturating_add(wait));
            }
            Err(_) => self.jobs.end(at, JobState::Dead),
        }
        run
    }
}

/// Returns the wait after this many failures; 1 is the first.
fn backoff(failures: u32) -> Duration {
    let factor = 1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX);
    BACKOFF_BASE.saturating_mul(factor).min(BACKOFF_MAX)
}
