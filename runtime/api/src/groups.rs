//! Groups of jobs, as programs read them.

use sandhog_core::id::{GroupKey, JobId, QueueName, TenantId};
use sandhog_core::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::time::{at_of, parse_time};

/// JSON document of a held group. Names and meanings stay as they are; more may come.
#[derive(Debug, Serialize, Deserialize)]
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
        }
    }

    /// Returns the time since which it is held; `None` after the year 9999.
    #[must_use]
    pub fn since(&self) -> Option<Timestamp> {
        parse_time(self.since.as_deref()?).ok()
    }
}

/// JSON document of all held groups.
#[derive(Debug, Serialize, Deserialize)]
pub struct HeldGroupsDocument {
    /// The groups, those of a tenant that are held for the longest time first.
    pub groups: Vec<HeldDocument>,
}

/// JSON document of the release of a group.
#[derive(Debug, Serialize, Deserialize)]
pub struct ReleasedDocument {
    /// Whether the group was held.
    pub released: bool,
}
