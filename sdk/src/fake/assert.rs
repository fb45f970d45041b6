//! Assertions on enqueued jobs, which report the jobs that were enqueued instead.

use std::fmt::Write as _;

use super::jobs::EnqueuedJob;
use super::{FakeHost, Run};
use crate::codec::Decode;

/// Maximum number of characters of a payload that are shown.
const PAYLOAD_SHOWN: usize = 200;

/// Maximum number of jobs that are shown.
const JOBS_SHOWN: usize = 50;

/// A source of enqueued jobs: a [`Run`], or a [`FakeHost`] with all its runs. For
/// [`assert_enqueued!`](crate::assert_enqueued).
pub trait Enqueued {
    /// Returns the jobs that were enqueued.
    fn enqueued(&self) -> &[EnqueuedJob];
}

impl<T> Enqueued for Run<T> {
    fn enqueued(&self) -> &[EnqueuedJob] {
        &self.enqueued
    }
}

impl Enqueued for FakeHost {
    fn enqueued(&self) -> &[EnqueuedJob] {
        self.jobs()
    }
}

/// Asserts that a job of a kind was enqueued, with a payload that fulfils a condition, if one is given; evaluates to that
/// job.
///
/// The first argument is a [`Run`], for the jobs that this run has enqueued, or a
/// [`FakeHost`], for all of its jobs. If there is no such job, the panic lists what was enqueued.
///
/// ```
/// # use sandhog_sdk::{FakeHost, NewJob, assert_enqueued};
/// # use std::time::Duration;
/// let run = FakeHost::new().run(|ctx| {
///     ctx.enqueue(NewJob::new("mail.send", &("ann", "Welcome")).delay(Duration::from_secs(60)))?;
///     Ok(())
/// });
/// assert_enqueued!(run, "mail.send");
/// let job = assert_enqueued!(run, "mail.send", |(to, _): (String, String)| to == "ann");
/// assert_eq!(job.delay, Duration::from_secs(60));
/// ```
#[macro_export]
macro_rules! assert_enqueued {
    ($of:expr, $kind:expr $(,)?) => {
        $crate::assert_enqueued!(@ $of, $kind, "", |_: $crate::Bytes| true)
    };
    ($of:expr, $kind:expr, $matches:expr $(,)?) => {
        $crate::assert_enqueued!(@ $of, $kind, ::core::stringify!($matches), $matches)
    };
    (@ $of:expr, $kind:expr, $wanted:expr, $matches:expr) => {
        match $crate::__private::find_enqueued(&$of, $kind, $wanted, $matches) {
            ::core::result::Result::Ok(job) => job,
            ::core::result::Result::Err(problem) => ::core::panic!("{problem}"),
        }
    };
}

/// Asserts that no job of a kind was enqueued, or none with a payload that fulfils a condition. See
/// [`assert_enqueued!`](crate::assert_enqueued).
#[macro_export]
macro_rules! assert_not_enqueued {
    ($of:expr, $kind:expr $(,)?) => {
        $crate::assert_not_enqueued!($of, $kind, |_: $crate::Bytes| true)
    };
    ($of:expr, $kind:expr, $matches:expr $(,)?) => {
        if let ::core::result::Result::Ok(job) = $crate::__private::find_enqueued(&$of, $kind, "", $matches) {
            ::core::panic!("{}", $crate::__private::describe_unwanted(job));
        }
    };
}

/// Returns the first job of a kind whose payload fulfils the condition.
///
/// # Errors
/// If there is none; the text lists what was enqueued instead.
pub fn find_enqueued<'j, P: Decode>(
    of: &'j impl Enqueued,
    kind: &str,
    wanted: &str,
    matches: impl Fn(P) -> bool,
) -> Result<&'j EnqueuedJob, String> {
    let mut undecoded = Vec::new();
    for (at, job) in of.enqueued().iter().enumerate().filter(|(_, job)| job.kind == kind) {
        match job.input::<P>() {
            Ok(input) => {
                if matches(input) {
                    return Ok(job);
                }
            }
            Err(error) => undecoded.push((at, error)),
        }
    }
    let condition =
        if wanted.is_empty() { String::new() } else { format!(" for which this holds: {wanted}") };
    let mut problem = format!("no job of kind `{kind}` was enqueued{condition}\n{}", list(of.enqueued()));
    for (at, error) in undecoded {
        // Writing to a string can't fail.
        let _ =
            write!(problem, "\nthe payload of {} is no input of that type: {error}", of.enqueued()[at].id);
    }
    Err(problem)
}

/// Describes a job that shouldn't have been enqueued.
#[must_use]
pub fn describe_unwanted(job: &EnqueuedJob) -> String {
    format!("a job was enqueued that shouldn't be:\n{}", describe(job))
}

fn list(jobs: &[EnqueuedJob]) -> String {
    if jobs.is_empty() {
        return "nothing was enqueued".to_owned();
    }
    let mut text = "what was enqueued:".to_owned();
    for job in jobs.iter().take(JOBS_SHOWN) {
        text.push('\n');
        text.push_str(&describe(job));
    }
    if let Some(more) = jobs.len().checked_sub(JOBS_SHOWN).filter(|more| *more > 0) {
        let _ = write!(text, "\n  and {more} more");
    }
    text
}

/// Describes a job in a line: id, kind, payload, and whatever isn't the default.
fn describe(job: &EnqueuedJob) -> String {
    let mut text = format!("  {} {} {}", job.id, job.kind, shown(&job.payload));
    if let Some(queue) = &job.queue {
        let _ = write!(text, ", queue {queue}");
    }
    if !job.delay.is_zero() {
        let _ = write!(text, ", after {:?}", job.delay);
    }
    let texts = [("group", &job.group), ("content type", &job.content_type)];
    for (name, value) in texts.iter().filter_map(|(name, text)| Some((name, text.as_ref()?))) {
        let _ = write!(text, ", {name} {value:?}");
    }
    let times = [("start within", job.start_within), ("deadline", job.deadline)];
    for (name, time) in times.iter().filter_map(|(name, time)| Some((name, (*time)?))) {
        let _ = write!(text, ", {name} {time:?}");
    }
    for (name, value) in &job.labels {
        let _ = write!(text, ", label {name}={value}");
    }
    if job.priority != crate::enqueue::PRIORITY_USUAL {
        let _ = write!(text, ", priority {}", job.priority);
    }
    if let Some(key) = &job.unique_key {
        let _ = write!(text, ", unique key {key:?}");
    }
    text
}

fn shown(payload: &[u8]) -> String {
    let text = match std::str::from_utf8(payload) {
        Ok(text) => text.to_owned(),
        Err(_) => format!("{} bytes that are no text", payload.len()),
    };
    match text.char_indices().nth(PAYLOAD_SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
