//! Results of actions on jobs, as programs read them.

use std::borrow::Cow;
use std::collections::BTreeMap;

use sandhog_core::id::{JobId, TenantId};
use serde::{Deserialize, Serialize};

/// JSON document of an action on one job.
#[derive(Debug, Serialize, Deserialize)]
pub struct DoneDocument {
    /// The job's id.
    pub id: String,
    /// The job's tenant; null if there is no such job.
    pub tenant: Option<String>,
    /// `cancelled`, `cancel-requested`, `redriven`, `ready`, `removed` or `edited`; null if nothing was done.
    pub done: Option<Cow<'static, str>>,
    /// The reason why nothing was done; null if there is none.
    pub refused: Option<String>,
    /// Of a dry run over the network: the job's state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<Cow<'static, str>>,
}

/// JSON document of an action on several jobs.
#[derive(Debug, Serialize, Deserialize)]
pub struct DonesDocument {
    /// The result for each job.
    pub jobs: Vec<DoneDocument>,
    /// Number of jobs to which it was done.
    pub done: u64,
    /// Number of jobs to which it couldn't be done.
    pub refused: u64,
    /// Of jobs that were picked: the numbers of those that were left out, by the reason.
    pub left_out: BTreeMap<Cow<'static, str>, u64>,
}

/// JSON document of jobs to which an action would be done.
#[derive(Debug, Serialize, Deserialize)]
pub struct WouldDocument {
    /// The jobs; of those that are picked, the first ones.
    pub jobs: Vec<DoneDocument>,
    /// Number of all of them.
    pub would: u64,
}

/// JSON document of an action on all jobs that a filter lets through.
#[derive(Debug, Serialize, Deserialize)]
pub struct BulkDocument {
    /// The tenant.
    pub tenant: String,
    /// Number of jobs to which it was done; of a dry run, to which it would be.
    pub done: u64,
    /// Number of jobs that were left out.
    pub refused: u64,
    /// Numbers of those that were left out, by the reason.
    pub left_out: BTreeMap<Cow<'static, str>, u64>,
    /// Whether all jobs were gone through. If not, the same request goes on with those that are left.
    pub complete: bool,
    /// Place at which the next request goes on, for its `after`; null if this was the last one.
    #[serde(default)]
    pub next: Option<String>,
    /// Of a dry run: the numbers of those jobs by their states.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub states: BTreeMap<Cow<'static, str>, u64>,
    /// The first of the jobs, each with what was done to it or why nothing was; at most [`Self::JOBS_MAX`].
    #[serde(default)]
    pub jobs: Vec<DoneDocument>,
}

impl BulkDocument {
    /// Maximum number of jobs that are named one by one.
    pub const JOBS_MAX: usize = 1000;
}

impl DoneDocument {
    /// Creates the document of what was done, or of why nothing was.
    #[must_use]
    pub fn new(id: JobId, tenant: Option<&TenantId>, outcome: Result<&'static str, String>) -> Self {
        let (id, tenant) = (id.to_string(), tenant.map(ToString::to_string));
        match outcome {
            Ok(done) => Self { id, tenant, done: Some(done.into()), refused: None, state: None },
            Err(refused) => Self { id, tenant, done: None, refused: Some(refused), state: None },
        }
    }

    /// Creates the document of a job to which it would be done.
    #[must_use]
    pub fn would(id: JobId, tenant: &TenantId) -> Self {
        Self { id: id.to_string(), tenant: Some(tenant.to_string()), done: None, refused: None, state: None }
    }
}

impl DonesDocument {
    /// Creates the document of all of them, counted.
    #[must_use]
    pub fn new(jobs: Vec<DoneDocument>) -> Self {
        let count = |is: fn(&DoneDocument) -> bool| jobs.iter().filter(|job| is(job)).count() as u64;
        let (done, refused) = (count(|job| job.done.is_some()), count(|job| job.refused.is_some()));
        Self { jobs, done, refused, left_out: BTreeMap::new() }
    }
}
