//! Interface of a context to its host: the calls of `wit/`, in Rust types.
//!
//! There are two hosts: the real one for Wasm targets, and the fake one of native tests. The choice is made when the crate
//! is compiled, so a call costs a guest nothing.

use std::path::PathBuf;
use std::time::Duration;

use crate::JobId;
use crate::context::StopReason;
use crate::enqueue::{EnqueueError, NewJob};
use crate::http::{HttpError, Request, Response};
use crate::log::Level;
use crate::progress::Progress;
use crate::secret::{Secret, SecretError};
use crate::state::Swapped;

#[cfg(not(target_family = "wasm"))]
pub(crate) use crate::fake::Host;
#[cfg(target_family = "wasm")]
pub(crate) use crate::guest::Host;

/// Facts about an attempt, which don't change while it runs.
#[derive(Debug, Clone)]
pub(crate) struct AttemptInfo {
    pub(crate) tenant: String,
    pub(crate) queue: String,
    pub(crate) attempt: u32,
    pub(crate) max_attempts: u32,
    pub(crate) idempotency_key: String,
    /// Time of the deadline, since 1970-01-01T00:00:00Z.
    pub(crate) deadline: Duration,
}

/// Facts about the job beside its id, kind and payload.
#[derive(Debug, Clone, Default)]
pub(crate) struct JobFacts {
    /// Time at which it was enqueued, since 1970-01-01T00:00:00Z.
    pub(crate) enqueued_at: Duration,
    pub(crate) content_type: Option<String>,
    pub(crate) group: Option<String>,
    pub(crate) labels: Vec<(String, String)>,
    /// Time of its deadline, since 1970-01-01T00:00:00Z.
    pub(crate) deadline: Option<Duration>,
}

/// Reason why the host refused a state call; the key is known to the caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RawStateError {
    InvalidKey(String),
    Limit(String),
    NotANumber,
    Unavailable(String),
}

pub(crate) trait HostCalls {
    fn attempt_info(&self) -> AttemptInfo;
    fn job_info(&self) -> JobFacts;
    fn remaining(&self) -> Duration;
    fn stop_requested(&self) -> Option<StopReason>;
    fn log(&self, level: Level, message: &str, fields: &[(String, String)]);
    fn report(&self, progress: Progress);
    fn enqueue(&self, job: NewJob) -> Result<JobId, EnqueueError>;
    fn secret(&self, name: &str) -> Result<Secret, SecretError>;
    fn env(&self, name: &str) -> Option<String>;
    fn path(&self, path: &str) -> PathBuf;
    fn http(&self, request: &Request) -> Result<Response, HttpError>;
    fn state_get(&self, key: &str) -> Result<Option<Vec<u8>>, RawStateError>;
    fn state_set(&self, key: &str, value: &[u8], ttl: Option<Duration>) -> Result<(), RawStateError>;
    fn state_delete(&self, key: &str) -> Result<(), RawStateError>;
    fn state_increment(&self, key: &str, by: i64) -> Result<(), RawStateError>;
    fn state_compare_and_set(
        &self,
        key: &str,
        expected: Option<&[u8]>,
        value: &[u8],
        ttl: Option<Duration>,
    ) -> Result<Swapped, RawStateError>;
}

/// Converts a time to the whole milliseconds of the contract, rounded up, so that a short wait doesn't become none.
#[cfg_attr(
    not(any(target_family = "wasm", test)),
    allow(dead_code, reason = "the fake host keeps durations")
)]
pub(crate) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_millisecond_counts_as_one() {
        assert_eq!(millis(Duration::ZERO), 0);
        assert_eq!(millis(Duration::from_nanos(1)), 1);
        assert_eq!(millis(Duration::from_millis(20)), 20);
        assert_eq!(millis(Duration::MAX), u64::MAX);
    }
}
