//! Further jobs of the same tenant.

use std::fmt;
use std::time::{Duration, SystemTime};

use crate::codec::{Encode, InvalidJson};
use crate::unique::{Debounce, Unique, UniqueRule};

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
    pub(crate) content_type: Option<String>,
    pub(crate) queue: Option<String>,
    pub(crate) group: Option<String>,
    pub(crate) start: Start,
    pub(crate) start_within: Option<Duration>,
    pub(crate) deadline: Option<Duration>,
    pub(crate) priority: u8,
    pub(crate) labels: Vec<(String, String)>,
    pub(crate) unique: Option<(String, UniqueRule)>,
}

/// Time from which on a job may start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    /// This long after it is created.
    After(Duration),
    /// At this time.
    At(SystemTime),
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
            content_type: None,
            queue: None,
            group: None,
            start: Start::After(Duration::ZERO),
            start_within: None,
            deadline: None,
            priority: PRIORITY_USUAL,
            labels: Vec::new(),
            unique: None,
        }
    }

    /// Sets what the payload is, such as `text/csv`.
    pub fn content_type(self, content_type: impl Into<String>) -> Self {
        Self { content_type: Some(content_type.into()), ..self }
    }

    /// Sets the queue. Without it, the job goes to the one that the kind's plugin names.
    pub fn queue(self, queue: impl Into<String>) -> Self {
        Self { queue: Some(queue.into()), ..self }
    }

    /// Sets the group in the queue, such as a customer: what the queue's rules for groups go by.
    pub fn group(self, group: impl Into<String>) -> Self {
        Self { group: Some(group.into()), ..self }
    }

    /// Sets the minimum time that the job waits, in whole milliseconds, rounded up.
    pub fn delay(self, delay: Duration) -> Self {
        Self { start: Start::After(delay), ..self }
    }

    /// Sets the time from which on the job may start, in place of a delay.
    pub fn at(self, time: SystemTime) -> Self {
        Self { start: Start::At(time), ..self }
    }

    /// Sets the time within which the job has to start once it may, or else it is cancelled.
    pub fn start_within(self, time: Duration) -> Self {
        Self { start_within: Some(time), ..self }
    }

    /// Sets the time after which the job is given up, counted from when it may start, whatever attempts are left.
    pub fn deadline(self, time: Duration) -> Self {
        Self { deadline: Some(time), ..self }
    }

    /// Adds a label, for people and programs to see: at most 16, each name once.
    pub fn label(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.push((name.into(), value.into()));
        self
    }

    /// Sets the priority, 0 to 255; the highest goes first. The default is 100.
    pub fn priority(self, priority: u8) -> Self {
        Self { priority, ..self }
    }

    /// Sets the unique key: while a job of the same kind with this key is neither succeeded, dead nor cancelled, no second
    /// one is created. Jobs of different kinds don't hold each other's keys.
    pub fn unique_key(self, key: impl Into<String>) -> Self {
        self.unique(Unique::new(key))
    }

    /// Sets the unique key, and for how long the job holds it.
    ///
    /// ```
    /// # use sandhog_sdk::{NewJob, Unique};
    /// # use std::time::Duration;
    /// let latest = NewJob::new("index.update", &7).unique(Unique::new("7").until_started().replacing());
    /// let hourly = NewJob::new("mail.warn", &7).unique(Unique::for_time("7", Duration::from_secs(3600)));
    /// ```
    pub fn unique(self, unique: Unique) -> Self {
        let Unique { key, hold } = unique;
        Self { unique: Some((key, UniqueRule::Hold(hold))), ..self }
    }

    /// Makes one job of many events: it runs when no other with the key has come for a while. It may have no delay of its own.
    ///
    /// ```
    /// # use sandhog_sdk::{Debounce, NewJob};
    /// # use std::time::Duration;
    /// let (quiet, longest) = (Duration::from_secs(600), Duration::from_secs(3600));
    /// let digest = NewJob::new("mail.digest", &7).debounce(Debounce::new("7", quiet, longest));
    /// ```
    pub fn debounce(self, debounce: Debounce) -> Self {
        let Debounce { key, times } = debounce;
        Self { unique: Some((key, UniqueRule::Debounce(times))), ..self }
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
