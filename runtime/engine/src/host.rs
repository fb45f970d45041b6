//! What a run needs of the world beyond its sandbox.

use std::time::Duration;

use async_trait::async_trait;
use sandhog_core::id::{JobId, Kind, QueueName, StateKey, UniqueKey};
use sandhog_core::job::{Level, NewJob, Priority, Progress};

/// What the engine can't know: it belongs to the broker, the catalog or the log.
///
/// One is handed to each run. The functions that aren't async are called on a guest thread and must not block.
#[async_trait]
pub trait Host: Send + Sync + 'static {
    /// The stored value of a key of this plugin's state, without what this run has written.
    ///
    /// Given up when the run ends, or its deadline passes.
    ///
    /// # Errors
    /// If the store can't be reached, in words that the guest may see.
    async fn state(&self, key: &StateKey) -> Result<Option<Vec<u8>>, String>;

    /// Checks a job that the guest wants enqueued, and gives it its id and its queue. Nothing is written yet: the
    /// engine keeps it with the run's effects.
    ///
    /// # Errors
    /// If it can't be enqueued.
    fn new_job(&self, ask: JobAsk) -> Result<NewJob, EnqueueRefusal>;

    /// Takes a report of progress; the last one counts.
    fn progress(&self, progress: Progress);

    /// Takes a line of the job's log, already within its log limit. The host adds time and attempt.
    fn log(&self, level: Level, message: String, fields: Vec<(String, String)>);
}

/// A job that the guest wants enqueued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobAsk {
    /// What is to be done.
    pub kind: Kind,
    /// The input.
    pub payload: Vec<u8>,
    /// The queue; the one of the kind's plugin, if there is none.
    pub queue: Option<QueueName>,
    /// How long it waits at least.
    pub delay: Duration,
    /// Its place among the ready ones.
    pub priority: Priority,
    /// See [`NewJob::unique_key`].
    pub unique_key: Option<UniqueKey>,
}

impl JobAsk {
    /// The job, in `queue` if the guest named none.
    #[must_use]
    pub fn into_job(self, id: JobId, queue: &QueueName) -> NewJob {
        NewJob {
            delay: self.delay,
            priority: self.priority,
            unique_key: self.unique_key,
            ..NewJob::new(id, self.queue.unwrap_or_else(|| queue.clone()), self.kind, self.payload)
        }
    }
}

/// Why a job can't be enqueued.
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
