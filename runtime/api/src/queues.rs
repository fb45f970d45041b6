//! Queues, as programs read them.

use sandhog_core::id::{QueueName, TenantId};
use sandhog_core::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::Time;

/// JSON document of a queue. Names and meanings stay as they are; more may come.
#[derive(Debug, Serialize, Deserialize)]
pub struct QueueDocument {
    /// The tenant.
    pub tenant: String,
    /// The queue.
    pub queue: String,
    /// Numbers of its jobs that are not final.
    pub jobs: QueueJobsDocument,
    /// Time since which the oldest ready job has waited; null if none is ready.
    pub oldest_ready: Option<Time>,
    /// Whether the whole queue is held back.
    pub held: bool,
}

/// JSON document of the numbers of jobs of a queue, by state. A number is null if there were too many to count.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct QueueJobsDocument {
    /// Number of jobs that wait for their time.
    pub scheduled: Option<u64>,
    /// Number of jobs that can be leased, or could if nothing held them back.
    pub ready: u64,
    /// Number of jobs that wait for others.
    pub blocked: Option<u64>,
    /// Number of jobs that daemons hold.
    pub leased: Option<u64>,
}

impl QueueDocument {
    /// Creates the document of a tenant's queue.
    #[must_use]
    pub fn new(
        tenant: &TenantId,
        queue: &QueueName,
        jobs: QueueJobsDocument,
        oldest_ready: Option<Timestamp>,
        held: bool,
    ) -> Self {
        Self {
            tenant: tenant.to_string(),
            queue: queue.to_string(),
            jobs,
            oldest_ready: oldest_ready.map(Time),
            held,
        }
    }
}

/// JSON document of a page of queues.
#[derive(Debug, Serialize, Deserialize)]
pub struct QueuesDocument {
    /// The queues, by tenant, then by name.
    pub queues: Vec<QueueDocument>,
    /// Place behind which the next page starts; null if this is the last page.
    pub next: Option<String>,
}
