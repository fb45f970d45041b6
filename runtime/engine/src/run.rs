//! One run of one component.

use std::num::NonZeroU32;

use sandhog_core::id::{JobId, Kind, QueueName, TenantId};
use sandhog_core::time::Timestamp;

/// What the handler gets to see of its job and attempt.
#[derive(Debug, Clone)]
pub struct Input {
    /// The job's id.
    pub id: JobId,
    /// What is to be done.
    pub kind: Kind,
    /// The input of the handler.
    pub payload: Vec<u8>,
    /// Whose job it is.
    pub tenant: TenantId,
    /// The queue it came from.
    pub queue: QueueName,
    /// 1 for the first attempt that counts.
    pub attempt: u32,
    /// After this attempt has failed there is no other.
    pub max_attempts: u32,
    /// When the attempt ends at the latest, for the guest's eyes; what counts is the budget's timeout.
    pub deadline: Timestamp,
}

/// Whose share of the machine a run is charged to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    /// The tenant.
    pub tenant: TenantId,
    /// How large its share is beside the others': twice the weight, twice the CPU time when both want it.
    pub weight: NonZeroU32,
}
