//! Host of a run: what a run needs of the world beyond its sandbox.

use std::time::Duration;

use async_trait::async_trait;
use sandhog_core::id::{JobId, Kind, QueueName, StateKey, UniqueKey};
use sandhog_core::job::{JobOptions, Level, NewJob, Priority, Progress};
use sandhog_core::time::Timestamp;

/// Services for a run that the engine can't provide: they belong to the broker, the catalog or the log.
///
/// Each run is handed one. The functions that aren't async are called on a guest thread and must not block.
#[async_trait]
pub trait Host: Send + Sync + 'static {
    /// Returns the stored value of a key of this plugin's state, without what this run has written. `None` if there is none.
    ///
    /// The call is given up when the run ends, or its deadline passes.
    ///
    /// # Errors
    /// The store can't be reached; the text is one that the guest may see.
    async fn state(&self, key: &StateKey) -> Result<Option<Vec<u8>>, String>;

    /// Checks a job that the guest wants enqueued, and gives it its id and its queue. Nothing is written yet: the engine keeps
    /// it with the run's effects.
    ///
    /// # Errors
    /// The job can't be enqueued.
    fn new_job(&self, ask: JobAsk) -> Result<NewJob, EnqueueRefusal>;

    /// Takes a report of progress; the last one counts.
    fn progress(&self, progress: Progress);

    /// Takes a line of the job's log, already within its log limit. The host adds time and attempt.
    fn log(&self, level: Level, message: String, fields: Vec<(String, String)>);
}

/// Job that the guest wants enqueued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobAsk {
    /// Kind of the job.
    pub kind: Kind,
    /// Payload of the job.
    pub payload: Vec<u8>,
    /// Queue of the job. `None` for that of the kind's plugin.
    pub queue: Option<QueueName>,
    /// Time from which on it may start.
    pub start: Start,
    /// Priority among the ready jobs.
    pub priority: Priority,
    /// See [`NewJob::unique_key`].
    pub unique_key: Option<UniqueKey>,
    /// Further options of the job. What they say of times counts from when it may start.
    pub options: JobOptions,
}

/// Time from which on a job may start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// This long after it is created.
    After(Duration),
    /// This time.
    At(Timestamp),
}

impl Start {
    /// Returns the time; `None` if it isn't known before the job is created.
    #[must_use]
    pub fn at(self) -> Option<Timestamp> {
        match self {
            Self::After(_) => None,
            Self::At(at) => Some(at),
        }
    }
}

impl JobAsk {
    /// Makes the job, in `queue` if the guest named none, as if it were created `now`.
    #[must_use]
    pub fn into_job(self, id: JobId, queue: &QueueName, now: Timestamp) -> NewJob {
        let delay = match self.start {
            Start::After(delay) => delay,
            Start::At(at) => at.since(now),
        };
        let job = NewJob {
            priority: self.priority,
            unique_key: self.unique_key,
            options: self.options,
            ..NewJob::new(id, self.queue.unwrap_or_else(|| queue.clone()), self.kind, self.payload)
        };
        job.starting_after(delay)
    }
}

/// Reason why a job can't be enqueued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EnqueueRefusal {
    /// No plugin of this tenant handles the kind, and no queue was named.
    UnknownKind,
    /// A value is malformed; the text says which rule it breaks.
    Invalid(String),
    /// The payload, or the number of jobs, is over a limit; the text names it.
    Limit(String),
}

/// A host that remembers what is logged.
#[cfg(test)]
pub(crate) mod testing {
    use std::sync::{Arc, Mutex};

    use sandhog_core::budget::Bytes;

    use super::*;
    use crate::run_log::RunLog;

    #[derive(Default)]
    pub(crate) struct Lines {
        lines: Mutex<Vec<(Level, String)>>,
        fields: Mutex<Vec<String>>,
    }

    impl Lines {
        /// One, and a log of a run that it gets.
        pub(crate) fn logged(max: Bytes) -> (Arc<Self>, RunLog) {
            let lines = Arc::new(Self::default());
            (Arc::clone(&lines), RunLog::new(lines, max, None))
        }

        pub(crate) fn lines(&self) -> Vec<(Level, String)> {
            self.lines.lock().expect("no line panics").clone()
        }

        /// The names and values of all fields.
        pub(crate) fn fields(&self) -> Vec<String> {
            self.fields.lock().expect("no line panics").clone()
        }
    }

    #[async_trait]
    impl Host for Lines {
        async fn state(&self, _key: &StateKey) -> Result<Option<Vec<u8>>, String> {
            Ok(None)
        }

        fn new_job(&self, _ask: JobAsk) -> Result<NewJob, EnqueueRefusal> {
            Err(EnqueueRefusal::UnknownKind)
        }

        fn progress(&self, _progress: Progress) {}

        fn log(&self, level: Level, message: String, fields: Vec<(String, String)>) {
            self.lines.lock().expect("no line panics").push((level, message));
            let texts = fields.into_iter().flat_map(|(name, value)| [name, value]);
            self.fields.lock().expect("no line panics").extend(texts);
        }
    }
}
