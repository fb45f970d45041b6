//! Output of a single run.

use sandhog_config::units::time;
use sandhog_core::effects::{Effects, StateWrite};
use sandhog_core::id::StateKey;
use sandhog_core::job::{LogLine, NewJob, Progress};
use sandhog_core::outcome::{Outcome, Report};
use sandhog_core::text;
use serde::Serialize;

use super::job::{Content, LogDocument, ProgressDocument, UsageDocument, usage};
use super::{Paint, content};

/// JSON document of a single run. Names and meanings stay as they are; more may come.
#[derive(Debug, Serialize)]
pub struct RunDocument {
    /// `returned`, or a reason such as `out-of-fuel`.
    pub outcome: String,
    /// The reason in full, for people.
    pub message: Option<String>,
    /// The result, if the run returned one.
    pub output: Option<Content>,
    /// Usage of the run.
    pub usage: UsageDocument,
    /// The last progress report.
    pub progress: Option<ProgressDocument>,
    /// The log lines of the run.
    pub log: Vec<LogDocument>,
    /// The writes to its state that would have been applied, in order of key.
    pub state: Vec<WriteDocument>,
    /// The jobs that would have been enqueued.
    pub jobs: Vec<NewJobDocument>,
}

/// JSON document of a write to the state.
#[derive(Debug, Serialize)]
pub struct WriteDocument {
    /// The key.
    pub key: String,
    /// The write to the key.
    pub write: Write,
}

/// A write to a key of the state: an object with one of three keys.
#[derive(Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Write {
    /// Sets this value.
    Set(Content),
    /// Removes the key.
    Delete(bool),
    /// Adds this number.
    Add(i64),
}

/// JSON document of a job that would have been enqueued.
#[derive(Debug, Serialize)]
pub struct NewJobDocument {
    /// The kind, which names its handler.
    pub kind: String,
    /// The queue in which it would wait.
    pub queue: String,
    /// The input.
    pub payload: Content,
    /// The minimum time that it would wait, in milliseconds.
    pub delay_ms: u64,
}

impl RunDocument {
    /// Creates the document of a run that has ended, with the log lines and progress of its handler.
    #[must_use]
    pub fn new(report: Report, log: Vec<LogLine>, progress: Option<Progress>) -> Self {
        let outcome = report.outcome.to_string();
        let message = message(&report.outcome);
        let (output, effects) = match report.outcome {
            Outcome::Returned { output, effects } => (Some(output), effects),
            _ => (None, Effects::default()),
        };
        Self {
            outcome,
            message,
            output: output.as_deref().map(Content::of),
            usage: report.usage.into(),
            progress: progress.map(Into::into),
            log: log.into_iter().map(Into::into).collect(),
            state: effects.writes().map(|(key, write)| WriteDocument::new(key, write)).collect(),
            jobs: effects.jobs().iter().map(NewJobDocument::new).collect(),
        }
    }
}

impl WriteDocument {
    fn new(key: &StateKey, write: &StateWrite) -> Self {
        let write = match write {
            StateWrite::Set { value, .. } | StateWrite::Replace(value) => Write::Set(Content::of(value)),
            StateWrite::Delete => Write::Delete(true),
            StateWrite::Add(by) => Write::Add(*by),
        };
        Self { key: key.to_string(), write }
    }
}

impl NewJobDocument {
    fn new(job: &NewJob) -> Self {
        Self {
            kind: job.kind.to_string(),
            queue: job.queue.to_string(),
            payload: Content::of(&job.payload),
            delay_ms: sandhog_core::time::millis(job.delay),
        }
    }
}

fn message(outcome: &Outcome) -> Option<String> {
    match outcome {
        Outcome::FailedTransiently { message, .. }
        | Outcome::FailedPermanently { message }
        | Outcome::Trapped { message }
        | Outcome::Exceeded { message, .. }
        | Outcome::HostFault { message } => Some(message.clone()),
        Outcome::Returned { .. } | Outcome::PutOff { .. } | Outcome::Aborted(_) => None,
    }
}

/// Renders a single run, for people.
#[must_use]
pub fn run(report: &Report, paint: Paint) -> String {
    let outcome = text::line(&report.outcome.to_string()).into_owned();
    let outcome = match &report.outcome {
        Outcome::Returned { .. } => paint.green(&outcome),
        _ => paint.red(&outcome),
    };
    let mut lines = vec![format!("{outcome} {}", paint.dim(&usage(&report.usage)))];
    lines.extend(message(&report.outcome).map(|message| text::block(&message).into_owned()));
    if let Outcome::FailedTransiently { retry_after: Some(wait), .. } | Outcome::PutOff { after: wait, .. } =
        &report.outcome
    {
        lines.push(format!("it wants to be tried again after {}", time(*wait)));
    }
    if let Outcome::Returned { output, effects } = &report.outcome {
        lines.extend(effects.writes().map(|(key, write)| would_write(key, write)));
        lines.extend(
            effects.jobs().iter().map(|job| format!("would enqueue {} on queue {}", job.kind, job.queue)),
        );
        lines.push(content(output));
    }
    lines.join("\n")
}

fn would_write(key: &StateKey, write: &StateWrite) -> String {
    let key = text::line(key.as_str());
    match write {
        StateWrite::Set { value, .. } | StateWrite::Replace(value) => {
            format!("would set state `{key}` to {}", content(value))
        }
        StateWrite::Delete => format!("would delete state `{key}`"),
        StateWrite::Add(by) => format!("would add {by} to state `{key}`"),
    }
}
