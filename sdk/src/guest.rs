//! The real host, as a component sees it: the bindings of `wit/`, and the dispatch from `handle` to a handler.

use std::panic::PanicHookInfo;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use crate::context::{Context, StopReason};
use crate::enqueue::{EnqueueError, JobId, NewJob, Start};
use crate::failure::Failure;
use crate::handler::{Table, dispatch};
use crate::host::{AttemptInfo, HostCalls, JobFacts, RawStateError, millis};
use crate::http::{HttpError, Request, Response};
use crate::log::Level;
use crate::progress::Progress;
use crate::secret::{Secret, SecretError};
use crate::state::Swapped;
use crate::unique::{UniqueRule, UniqueUntil};

use bindings::sandhog::job::{context, enqueue, log, progress, secrets, state, types};

#[allow(missing_docs, unsafe_code, unreachable_pub, clippy::all)]
pub mod bindings {
    wit_bindgen::generate!({
        path: "../wit",
        world: "handler",
        runtime_path: "::sandhog_sdk::__private::bindings::rt",
        default_bindings_module: "::sandhog_sdk::__private::bindings",
        export_macro_name: "export_component",
        pub_export_macro: true,
    });
    pub use wit_bindgen::rt;
}

pub use bindings::Guest;
pub use bindings::export_component;
pub use types::{Failure as WitFailure, Job, Output};

/// Handle of this component's host. There is only one host, available everywhere.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Host;

/// Runs one job; implements an exported component's `handle`.
///
/// # Errors
/// If the handler gave up.
pub fn run(job: Job, table: &Table) -> Result<Output, WitFailure> {
    std::panic::set_hook(Box::new(log_panic));
    let ctx = Context::new(Host, JobId::new(job.id), job.kind);
    dispatch(table, &ctx, job.payload).map_err(WitFailure::from)
}

/// Logs a panic. A panic traps, and the instance is gone: its message must reach the log before that.
fn log_panic(panic: &PanicHookInfo<'_>) {
    let payload = panic.payload();
    let message = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message");
    let place = panic.location().map(|at| ("at".to_owned(), at.to_string()));
    log::write(log::Level::Error, &format!("panicked: {message}"), place.as_slice());
}

impl HostCalls for Host {
    fn attempt_info(&self) -> AttemptInfo {
        let info = context::attempt_info();
        AttemptInfo {
            tenant: info.tenant,
            queue: info.queue,
            attempt: info.attempt,
            max_attempts: info.max_attempts,
            idempotency_key: info.idempotency_key,
            deadline: Duration::from_millis(info.deadline_ms),
        }
    }

    fn job_info(&self) -> JobFacts {
        let job = context::job_info();
        JobFacts {
            enqueued_at: Duration::from_millis(job.enqueued_at_ms),
            content_type: job.content_type,
            group: job.group,
            labels: job.labels,
            deadline: job.deadline_ms.map(Duration::from_millis),
        }
    }

    fn remaining(&self) -> Duration {
        Duration::from_millis(context::remaining_ms())
    }

    fn stop_requested(&self) -> Option<StopReason> {
        context::stop_requested().map(|reason| match reason {
            context::StopReason::Cancelled => StopReason::Cancelled,
            context::StopReason::Draining => StopReason::Draining,
        })
    }

    fn log(&self, level: Level, message: &str, fields: &[(String, String)]) {
        log::write(level.into(), message, fields);
    }

    fn report(&self, progress: Progress) {
        progress::report(progress.done, progress.total, progress.message.as_deref());
    }

    fn enqueue(&self, job: NewJob) -> Result<JobId, EnqueueError> {
        let payload =
            job.payload.map_err(|source| EnqueueError::Payload { kind: job.kind.clone(), source })?;
        let job = enqueue::NewJob {
            kind: job.kind,
            payload,
            content_type: job.content_type,
            queue: job.queue,
            group: job.group,
            start: job.start.into(),
            start_within_ms: job.start_within.map(millis),
            deadline_ms: job.deadline.map(millis),
            priority: job.priority,
            labels: job.labels,
            unique: job.unique.map(|(key, rule)| enqueue::Unique { key, rule: rule.into() }),
        };
        Ok(JobId::new(enqueue::enqueue(&job)?))
    }

    fn secret(&self, name: &str) -> Result<Secret, SecretError> {
        secrets::get(name).map(Secret::new).map_err(|error| match error {
            secrets::SecretError::NotGranted(text) => SecretError::NotGranted(text),
        })
    }

    fn env(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    fn path(&self, path: &str) -> PathBuf {
        path.into()
    }

    fn http(&self, request: &Request) -> Result<Response, HttpError> {
        crate::guest_http::send(request)
    }

    fn state_get(&self, key: &str) -> Result<Option<Vec<u8>>, RawStateError> {
        Ok(state::get(key)?)
    }

    fn state_set(&self, key: &str, value: &[u8], ttl: Option<Duration>) -> Result<(), RawStateError> {
        Ok(state::set(key, value, ttl.map(millis))?)
    }

    fn state_delete(&self, key: &str) -> Result<(), RawStateError> {
        Ok(state::delete(key)?)
    }

    fn state_increment(&self, key: &str, by: i64) -> Result<(), RawStateError> {
        Ok(state::increment(key, by)?)
    }

    fn state_compare_and_set(
        &self,
        key: &str,
        expected: Option<&[u8]>,
        value: &[u8],
        ttl: Option<Duration>,
    ) -> Result<Swapped, RawStateError> {
        Ok(match state::compare_and_set(key, expected, value, ttl.map(millis))? {
            state::Swapped::Yes => Swapped::Yes,
            state::Swapped::No => Swapped::No,
        })
    }
}

impl From<Failure> for WitFailure {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Permanent { message } => Self::Permanent(message),
            Failure::Transient { message, code, retry_after } => {
                let retry_after_ms = retry_after.map(millis);
                Self::Transient(types::TransientFailure { message, code, retry_after_ms })
            }
            Failure::Snoozed { after } => Self::Snoozed(millis(after)),
            Failure::RateLimited { downstream, after } => {
                Self::RateLimited(types::RateLimit { downstream, after_ms: millis(after) })
            }
            Failure::Unavailable { downstream, after } => {
                Self::Unavailable(types::UnavailableService { downstream, after_ms: after.map(millis) })
            }
        }
    }
}

impl From<Start> for enqueue::Start {
    fn from(start: Start) -> Self {
        match start {
            Start::After(delay) => Self::After(millis(delay)),
            Start::At(at) => Self::At(at.duration_since(SystemTime::UNIX_EPOCH).map_or(0, millis)),
        }
    }
}

impl From<UniqueRule> for enqueue::UniqueRule {
    fn from(rule: UniqueRule) -> Self {
        match rule {
            UniqueRule::Hold(hold) => Self::Hold(enqueue::Hold {
                until: match hold.until {
                    UniqueUntil::Settled => enqueue::UniqueUntil::Settled,
                    UniqueUntil::Started => enqueue::UniqueUntil::Started,
                    UniqueUntil::Over => enqueue::UniqueUntil::Over,
                },
                lasts_ms: hold.lasts.map(millis),
                replaces: hold.replaces,
            }),
            UniqueRule::Debounce(times) => Self::Debounce(enqueue::Debounce {
                delay_ms: millis(times.delay),
                longest_ms: millis(times.longest),
                leading: times.is_leading,
            }),
        }
    }
}

impl From<Level> for log::Level {
    fn from(level: Level) -> Self {
        match level {
            Level::Trace => Self::Trace,
            Level::Debug => Self::Debug,
            Level::Info => Self::Info,
            Level::Warn => Self::Warn,
            Level::Error => Self::Error,
        }
    }
}

impl From<enqueue::EnqueueError> for EnqueueError {
    fn from(error: enqueue::EnqueueError) -> Self {
        match error {
            enqueue::EnqueueError::UnknownKind(text) => Self::UnknownKind(text),
            enqueue::EnqueueError::Invalid(text) => Self::Invalid(text),
            enqueue::EnqueueError::Limit(text) => Self::Limit(text),
        }
    }
}

impl From<state::StateError> for RawStateError {
    fn from(error: state::StateError) -> Self {
        match error {
            state::StateError::InvalidKey(text) => Self::InvalidKey(text),
            state::StateError::Limit(text) => Self::Limit(text),
            state::StateError::NotANumber => Self::NotANumber,
            state::StateError::Unavailable(text) => Self::Unavailable(text),
        }
    }
}
