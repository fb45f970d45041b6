//! What a handler can ask and tell its host.

use std::cell::OnceCell;
use std::fmt::Display;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use crate::enqueue::{EnqueueError, JobId, NewJob};
use crate::host::{AttemptInfo, Host, HostCalls};
use crate::log::Level;
use crate::progress::Progress;
use crate::secret::{Secret, SecretError};

/// What a handler can ask and tell its host: the attempt it is, its deadline, log, progress, further jobs,
/// [state](Context::state), secrets.
///
/// What it writes through [`enqueue`](Self::enqueue) and [`state`](Self::state) happens if and only if the job succeeds,
/// exactly once. Log lines and progress are seen at once.
#[derive(Debug)]
pub struct Context {
    host: Host,
    job_id: JobId,
    kind: String,
    // Asked for when first needed: a handler that doesn't need it doesn't pay.
    info: OnceCell<AttemptInfo>,
}

/// Why the host would like the handler to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StopReason {
    /// Somebody cancelled the job.
    Cancelled,
    /// The daemon is shutting down; the job is run again elsewhere, and this attempt won't count.
    Draining,
}

impl Context {
    pub(crate) fn new(host: Host, job_id: JobId, kind: String) -> Self {
        Self { host, job_id, kind, info: OnceCell::new() }
    }

    pub(crate) fn host(&self) -> &Host {
        &self.host
    }

    fn info(&self) -> &AttemptInfo {
        self.info.get_or_init(|| self.host.attempt_info())
    }

    /// The job's id, unique for all time.
    #[must_use]
    pub fn job_id(&self) -> &JobId {
        &self.job_id
    }

    /// The kind of job, such as `image.thumbnail`.
    #[must_use]
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// The tenant whose job this is.
    #[must_use]
    pub fn tenant(&self) -> &str {
        &self.info().tenant
    }

    /// The queue that the job came from.
    #[must_use]
    pub fn queue(&self) -> &str {
        &self.info().queue
    }

    /// Which attempt this is: 1 for the first that counts.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.info().attempt
    }

    /// After this attempt has failed there is no other.
    #[must_use]
    pub fn max_attempts(&self) -> u32 {
        self.info().max_attempts
    }

    /// The same on every attempt of this job, and of no other job: hand it to outside systems, so that they can tell a
    /// repetition.
    #[must_use]
    pub fn idempotency_key(&self) -> &str {
        &self.info().idempotency_key
    }

    /// When this attempt ends at the latest.
    #[must_use]
    pub fn deadline(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + self.info().deadline
    }

    /// The time until the deadline; zero when it has passed.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        self.host.remaining()
    }

    /// Whether the host would like the handler to stop, and why.
    ///
    /// A courtesy, for handlers that can end early in good order: the host needs no help to stop one.
    #[must_use]
    pub fn stop_requested(&self) -> Option<StopReason> {
        self.host.stop_requested()
    }

    /// Writes a log line; [`info!`](crate::info) and its sisters are shorter. Past the log limit, lines are counted and
    /// dropped. Put no secret in one.
    pub fn log(&self, level: Level, message: &str, fields: &[(&str, &dyn Display)]) {
        let fields: Vec<(String, String)> =
            fields.iter().map(|(name, value)| ((*name).to_owned(), value.to_string())).collect();
        self.host.log(level, message, &fields);
    }

    /// Reports how far the job has come. The last report wins; the host may leave some out.
    pub fn progress(&self, progress: Progress) {
        self.host.report(progress);
    }

    /// Enqueues a further job, held back until this one succeeds. The id is final, with one exception: where the unique
    /// key is then held by another job of the kind, this one isn't created.
    ///
    /// # Errors
    /// If nobody handles the kind, something is malformed or over a limit, or the payload has no JSON form.
    pub fn enqueue(&self, job: NewJob) -> Result<JobId, EnqueueError> {
        self.host.enqueue(job)
    }

    /// A secret that the operator granted to this plugin by name.
    ///
    /// # Errors
    /// If the plugin's TOML doesn't grant it.
    pub fn secret(&self, name: &str) -> Result<Secret, SecretError> {
        self.host.secret(name)
    }

    /// An environment variable that the plugin's TOML grants, as text; none if it doesn't, or it is no UTF-8. In a sandbox
    /// it is the same as `std::env::var`; under a [`FakeHost`](crate::FakeHost) it is what the test has granted.
    #[must_use]
    pub fn env(&self, name: &str) -> Option<String> {
        self.host.env(name)
    }

    /// Where a file or directory is that the plugin's TOML grants, for `std::fs`: `std::fs::read(ctx.path("/in/a.csv"))`.
    /// In a sandbox it is the path itself; under a [`FakeHost`](crate::FakeHost) it leads to the files of the test.
    pub fn path(&self, path: &str) -> PathBuf {
        self.host.path(path)
    }
}
