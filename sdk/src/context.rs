//! A handler's access to its host.

use std::cell::OnceCell;
use std::fmt::Display;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use crate::enqueue::{EnqueueError, JobId, NewJob};
use crate::host::{AttemptInfo, Host, HostCalls, JobFacts};
use crate::log::Level;
use crate::progress::Progress;
use crate::secret::{Secret, SecretError};

/// A handler's access to its host: facts about the attempt, its deadline, log, progress, further jobs,
/// [state](Context::state), secrets.
///
/// Writes through [`enqueue`](Self::enqueue) and [`state`](Self::state) happen if and only if the job succeeds, exactly
/// once. Log lines and progress are seen at once.
#[derive(Debug)]
pub struct Context {
    host: Host,
    job_id: JobId,
    kind: String,
    // Fetched when first needed: a handler that doesn't need it doesn't pay for it.
    info: OnceCell<AttemptInfo>,
    job: OnceCell<JobFacts>,
}

/// Reason why the host would like the handler to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StopReason {
    /// Somebody cancelled the job.
    Cancelled,
    /// The daemon is shutting down; the job is run again elsewhere, and this attempt won't count.
    Draining,
}

impl Context {
    pub(crate) fn new(host: Host, job_id: JobId, kind: String) -> Self {
        Self { host, job_id, kind, info: OnceCell::new(), job: OnceCell::new() }
    }

    pub(crate) fn host(&self) -> &Host {
        &self.host
    }

    fn info(&self) -> &AttemptInfo {
        self.info.get_or_init(|| self.host.attempt_info())
    }

    fn job(&self) -> &JobFacts {
        self.job.get_or_init(|| self.host.job_info())
    }

    /// Returns the job's id, unique for all time.
    #[must_use]
    pub fn job_id(&self) -> &JobId {
        &self.job_id
    }

    /// Returns the kind of job, such as `image.thumbnail`.
    #[must_use]
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// Returns the tenant that the job belongs to.
    #[must_use]
    pub fn tenant(&self) -> &str {
        &self.info().tenant
    }

    /// Returns the queue that the job came from.
    #[must_use]
    pub fn queue(&self) -> &str {
        &self.info().queue
    }

    /// Returns the number of this attempt: 1 for the first that counts.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.info().attempt
    }

    /// Returns the maximum number of attempts: there is no other after the one of this number has failed.
    #[must_use]
    pub fn max_attempts(&self) -> u32 {
        self.info().max_attempts
    }

    /// Returns a key that is the same on every attempt of this job, and of no other job. Hand it to outside systems, so
    /// that they can recognise a repetition.
    #[must_use]
    pub fn idempotency_key(&self) -> &str {
        &self.info().idempotency_key
    }

    /// Returns the time by which this attempt ends at the latest.
    #[must_use]
    pub fn deadline(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + self.info().deadline
    }

    /// Returns the time at which the job was enqueued.
    #[must_use]
    pub fn enqueued_at(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + self.job().enqueued_at
    }

    /// Returns what the payload is, such as `text/csv`; `None` if the producer didn't say.
    #[must_use]
    pub fn content_type(&self) -> Option<&str> {
        self.job().content_type.as_deref()
    }

    /// Returns the job's group in its queue, such as a customer; `None` if it has none.
    #[must_use]
    pub fn group(&self) -> Option<&str> {
        self.job().group.as_deref()
    }

    /// Returns the names and values of the job's labels, in the order of the names.
    pub fn labels(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.job().labels.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Returns the value of a label; `None` if the job has none of this name.
    #[must_use]
    pub fn label(&self, name: &str) -> Option<&str> {
        self.labels().find(|(known, _)| *known == name).map(|(_, value)| value)
    }

    /// Returns the time at which the job is given up, whatever attempts are left; `None` if there is no such time.
    /// [`deadline`](Self::deadline) is that of this attempt.
    #[must_use]
    pub fn job_deadline(&self) -> Option<SystemTime> {
        self.job().deadline.map(|deadline| SystemTime::UNIX_EPOCH + deadline)
    }

    /// Returns the time until the deadline; zero when it has passed.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        self.host.remaining()
    }

    /// Returns the reason why the host would like the handler to stop; `None` if it wouldn't.
    ///
    /// For handlers that can end early in good order: the host needs no help to stop one.
    #[must_use]
    pub fn stop_requested(&self) -> Option<StopReason> {
        self.host.stop_requested()
    }

    /// Writes a log line; [`info!`](crate::info) and the macros like it are shorter. Past the log limit, lines are counted
    /// and dropped. Put no secret in a line.
    pub fn log(&self, level: Level, message: &str, fields: &[(&str, &dyn Display)]) {
        let fields: Vec<(String, String)> =
            fields.iter().map(|(name, value)| ((*name).to_owned(), value.to_string())).collect();
        self.host.log(level, message, &fields);
    }

    /// Reports the job's progress. The last report wins; the host may leave some out.
    pub fn progress(&self, progress: Progress) {
        self.host.report(progress);
    }

    /// Enqueues a further job, held back until this one succeeds. The returned id is final, with one exception: if another
    /// job of the kind holds the unique key by then, this one isn't created.
    ///
    /// # Errors
    /// If nobody handles the kind, something is malformed or over a limit, or the payload has no JSON form.
    pub fn enqueue(&self, job: NewJob) -> Result<JobId, EnqueueError> {
        self.host.enqueue(job)
    }

    /// Returns a secret that the operator granted to this plugin by name.
    ///
    /// # Errors
    /// If the plugin's TOML doesn't grant it.
    pub fn secret(&self, name: &str) -> Result<Secret, SecretError> {
        self.host.secret(name)
    }

    /// Returns an environment variable that the plugin's TOML grants, as text; `None` if it isn't granted or isn't UTF-8.
    /// In a sandbox it is the same as `std::env::var`; under a [`FakeHost`](crate::FakeHost) it is what the test has
    /// granted.
    #[must_use]
    pub fn env(&self, name: &str) -> Option<String> {
        self.host.env(name)
    }

    /// Returns the path for `std::fs` of a file or directory that the plugin's TOML grants:
    /// `std::fs::read(ctx.path("/in/a.csv"))`. In a sandbox it is the path itself; under a [`FakeHost`](crate::FakeHost) it
    /// leads to the files of the test.
    pub fn path(&self, path: &str) -> PathBuf {
        self.host.path(path)
    }
}
