//! What was done to jobs.

use sandhog_core::id::{JobId, TenantId};
use serde::Serialize;

/// What was done to a job, for programs.
#[derive(Debug, Serialize)]
pub struct DoneDocument {
    /// The job.
    pub id: String,
    /// Whose it is, if there is such a job.
    pub tenant: Option<String>,
    /// `cancelled`, `cancel-requested`, `redriven`, `ready` or `removed`; null if nothing was done.
    pub done: Option<&'static str>,
    /// Why nothing was done.
    pub refused: Option<String>,
}

/// What was done to several, for programs.
#[derive(Debug, Serialize)]
pub struct DonesDocument {
    /// Each of them.
    pub jobs: Vec<DoneDocument>,
    /// To how many something was done.
    pub done: u64,
    /// To how many it couldn't be done.
    pub refused: u64,
}

impl DoneDocument {
    /// What was done, or why nothing was.
    #[must_use]
    pub fn new(id: JobId, tenant: Option<&TenantId>, outcome: Result<&'static str, String>) -> Self {
        let (id, tenant) = (id.to_string(), tenant.map(ToString::to_string));
        match outcome {
            Ok(done) => Self { id, tenant, done: Some(done), refused: None },
            Err(refused) => Self { id, tenant, done: None, refused: Some(refused) },
        }
    }

    /// A job to which it would be done.
    #[must_use]
    pub fn would(id: JobId, tenant: &TenantId) -> Self {
        Self { id: id.to_string(), tenant: Some(tenant.to_string()), done: None, refused: None }
    }
}

impl DonesDocument {
    /// All of them, counted.
    #[must_use]
    pub fn new(jobs: Vec<DoneDocument>) -> Self {
        let count = |is: fn(&DoneDocument) -> bool| jobs.iter().filter(|job| is(job)).count() as u64;
        let (done, refused) = (count(|job| job.done.is_some()), count(|job| job.refused.is_some()));
        Self { jobs, done, refused }
    }
}
