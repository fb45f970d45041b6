//! The host of a handler that is tried out: no broker, no other jobs, an empty state.

use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use sandhog_core::id::{QueueName, StateKey};
use sandhog_core::job::{Level, LogLine, NewJob, Progress};
use sandhog_daemon::clock::Clock;
use sandhog_engine::{EnqueueRefusal, Host, JobAsk};

use crate::output::Paint;
use crate::output::console::Console;
use crate::output::job::{log_line, progress};

/// A host without a broker. Log lines and progress are shown as they come, and kept.
pub(super) struct LocalHost {
    clock: Clock,
    queue: QueueName,
    console: Console,
    paint: Paint,
    heard: Mutex<Heard>,
}

/// The log lines and the latest progress of the handler.
#[derive(Debug, Default)]
pub(super) struct Heard {
    pub(super) log: Vec<LogLine>,
    pub(super) progress: Option<Progress>,
}

impl LocalHost {
    pub(super) fn new(clock: Clock, queue: QueueName, console: Console) -> Self {
        let paint = console.paint_remarks();
        Self { clock, queue, console, paint, heard: Mutex::default() }
    }

    /// Returns what the handler has reported since the last call.
    pub(super) fn take(&self) -> Heard {
        std::mem::take(&mut *self.heard.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[async_trait]
impl Host for LocalHost {
    async fn state(&self, _key: &StateKey) -> Result<Option<Vec<u8>>, String> {
        Ok(None)
    }

    fn new_job(&self, ask: JobAsk) -> Result<NewJob, EnqueueRefusal> {
        Ok(ask.into_job(self.clock.job_id(), &self.queue, self.clock.now()))
    }

    fn progress(&self, report: Progress) {
        self.console.remark(&format!("progress: {}", progress(&report)));
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).progress = Some(report);
    }

    fn log(&self, level: Level, message: String, fields: Vec<(String, String)>) {
        let line = LogLine { at: self.clock.now(), attempt: 1, level, message, fields };
        self.console.remark(&log_line(&line, self.paint));
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).log.push(line);
    }
}
