//! Further jobs of the same tenant.

use std::fmt;
use std::time::Duration;

use crate::codec::{Encode, InvalidJson};

/// A job to be created when this one succeeds.
///
/// ```
/// # use sandhog_sdk::{Context, NewJob, Result};
/// # use std::time::Duration;
/// # fn f(ctx: &Context) -> Result<()> {
/// ctx.enqueue(NewJob::new("mail.send", &("ann@example.org", "Welcome")).delay(Duration::from_secs(60)))?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
#[must_use = "a new job does nothing until it is enqueued"]
pub struct NewJob {
    pub(crate) kind: String,
    // Encoded at once, so that the payload may be borrowed; `Context::enqueue` returns the error of it.
    pub(crate) payload: Result<Vec<u8>, InvalidJson>,
    pub(crate) queue: Option<String>,
    pub(crate) delay: Duration,
    pub(crate) priority: u8,
    pub(crate) unique_key: Option<String>,
}

/// Id of a job, unique for all time.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct JobId(String);

/// Reason why a job can't be enqueued.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnqueueError {
    /// No plugin of this tenant handles the kind, and no queue was named.
    #[error("enqueue a job: {0}")]
    UnknownKind(String),
    /// A name or value is malformed; the text says which rule it breaks.
    #[error("enqueue a job: {0}")]
    Invalid(String),
    /// The payload, or the number of jobs of one run, is over a limit; the text names the limit.
    #[error("enqueue a job: {0}")]
    Limit(String),
    /// The payload has no JSON form.
    #[error("enqueue a job of kind `{kind}`: encode its payload")]
    Payload {
        /// Kind of the job that was to be enqueued.
        kind: String,
        /// Error of encoding the payload.
        source: InvalidJson,
    },
}

pub(crate) const PRIORITY_USUAL: u8 = 100;

impl NewJob {
    /// Creates a job of this kind with this payload: any serde type as JSON, or [`Bytes`](crate::Bytes).
    pub fn new(kind: impl Into<String>, payload: &(impl Encode + ?Sized)) -> Self {
        Self {
            kind: kind.into(),
            payload: payload.encode().map(std::borrow::Cow::into_owned),
            queue: None,
            delay: Duration::ZERO,
            priority: PRIORITY_USUAL,
            unique_key: None,
        }
    }

    /// Sets the queue. Without it, the job goes to the one that the kind's plugin names.
    pub fn queue(self, queue: impl Into<String>) -> Self {
        Self { queue: Some(queue.into()), ..self }
    }

    /// Sets the minimum time that the job waits, in whole milliseconds, rounded up.
    pub fn delay(self, delay: Duration) -> Self {
        Self { delay, ..self }
    }

    /// Sets the priority, 0 to 255; the highest goes first. The default is 100.
    pub fn priority(self, priority: u8) -> Self {
        Self { priority, ..self }
    }

    /// Sets the unique key: while a job of the same kind with this key is neither succeeded, dead nor cancelled, no second
    /// one is created. Jobs of different kinds don't hold each other's keys.
    pub fn unique_key(self, key: impl Into<String>) -> Self {
        Self { unique_key: Some(key.into()), ..self }
    }
}

impl JobId {
    pub(crate) fn new(id: String) -> Self {
        Self(id)
    }

    /// Returns the id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
