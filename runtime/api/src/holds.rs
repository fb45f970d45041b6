//! Holds, as programs read them.

use std::borrow::Cow;

use sandhog_core::hold::Hold;
use serde::{Deserialize, Serialize};

use crate::time::at_of;

/// JSON document of a hold.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct HoldDocument {
    /// The tenant whose jobs are held back.
    pub tenant: String,
    /// The queue of the jobs; null for all queues.
    pub queue: Option<String>,
    /// The kind of the jobs; null for all kinds.
    pub kind: Option<String>,
    /// The reason: `paused`, or `breaker`, `half-open` or `rate-limited` for what a circuit breaker holds back.
    pub reason: Cow<'static, str>,
    /// Name of the person who holds them back, as they call themselves, or of the breaker that does; null if that is unknown.
    pub by: Option<String>,
    /// Time since which they are held back. All times are RFC 3339, in UTC.
    pub since: Option<String>,
    /// Time at which the hold ends by itself; null if somebody has to lift it.
    pub until: Option<String>,
    /// The remark of who made the hold.
    pub note: Option<String>,
}

/// JSON document of what is held back.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct HoldsDocument {
    /// The holds, by tenant, queue and kind.
    pub holds: Vec<HoldDocument>,
}

/// JSON document of a pause that was made.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PausedDocument {
    /// The hold; null if its end has passed already.
    pub hold: Option<HoldDocument>,
}

/// JSON document of what was held back, and goes on.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ResumedDocument {
    /// The holds that have ended.
    pub lifted: Vec<HoldDocument>,
}

impl HoldDocument {
    /// Creates the document of a tenant's hold.
    #[must_use]
    pub fn new(tenant: &str, hold: Hold) -> Self {
        let Hold { scope, reason, by, since, until, note } = hold;
        Self {
            tenant: tenant.to_owned(),
            queue: scope.queue.map(|queue| queue.to_string()),
            kind: scope.kind.map(|kind| kind.to_string()),
            reason: reason.slug().into(),
            by,
            since: at_of(since),
            until: until.and_then(at_of),
            note,
        }
    }
}
