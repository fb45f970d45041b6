//! Failures, as programs read them: dead jobs in groups of those that died of the same.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::Time;

/// JSON document of dead jobs, in groups of those that died of the same.
#[derive(Debug, Serialize, Deserialize)]
pub struct FailuresDocument {
    /// The groups, those with the most jobs first.
    pub groups: Vec<FailureDocument>,
    /// Number of groups that were found beside these.
    pub left_out: u64,
    /// Number of dead jobs that were looked at, the latest first.
    pub looked_at: u64,
    /// Whether these are all dead jobs that were asked for.
    pub complete: bool,
}

/// JSON document of a group of dead jobs: of one tenant and kind, for one reason, and alike in their messages.
#[derive(Debug, Serialize, Deserialize)]
pub struct FailureDocument {
    /// The fingerprint of kind, reason and pattern: 16 hexadecimal digits, the same tomorrow.
    pub fingerprint: String,
    /// The tenant.
    pub tenant: String,
    /// The kind of the jobs.
    pub kind: String,
    /// The queue of the latest of them.
    pub queue: String,
    /// The reason why they are dead: a slug such as `out-of-fuel`.
    pub reason: Option<Cow<'static, str>>,
    /// The message of the latest of them.
    pub message: String,
    /// The part that their messages share: numbers and ids are `#`, and what is quoted is `…`.
    pub pattern: String,
    /// Number of jobs that were found.
    pub jobs: u64,
    /// Time at which the first of them that was found died.
    pub first: Option<Time>,
    /// Time at which the latest of them died.
    pub last: Option<Time>,
    /// The sha256 of each component on which they died, the latest first; eight of them at most.
    pub revisions: Vec<String>,
    /// The id of the latest of them.
    pub example: String,
}
