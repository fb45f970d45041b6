//! Groups of jobs, as programs read them.

use sandhog_core::id::{GroupKey, JobId, QueueName, TenantId};
use sandhog_core::time::Timestamp;
use serde::Serialize;

use crate::time::at_of;

/// JSON document of a held group. Names and meanings stay as they are; more may come.
#[derive(Debug, Serialize)]
pub struct HeldDocument {
    /// The tenant.
    pub tenant: String,
    /// The queue.
    pub queue: String,
    /// The group.
    pub group: String,
    /// The dead job that holds it.
    pub job: String,
    /// Time since which it is held.
    pub since: Option<String>,
    /// The same, to be reckoned with.
    #[serde(skip)]
    pub at: Timestamp,
}

impl HeldDocument {
    /// Creates the document of a tenant's group.
    #[must_use]
    pub fn new(tenant: &TenantId, queue: &QueueName, group: &GroupKey, job: JobId, since: Timestamp) -> Self {
        Self {
            tenant: tenant.to_string(),
            queue: queue.to_string(),
            group: group.to_string(),
            job: job.to_string(),
            since: at_of(since),
            at: since,
        }
    }
}

/// JSON document of all held groups.
#[derive(Debug, Serialize)]
pub struct HeldGroupsDocument {
    /// The groups, those of a tenant that are held for the longest time first.
    pub groups: Vec<HeldDocument>,
}

/// JSON document of the release of a group.
#[derive(Debug, Serialize)]
pub struct ReleasedDocument {
    /// Whether the group was held.
    pub released: bool,
}
