//! Flows, as programs read them.

use std::borrow::Cow;

use sandhog_core::flow::{Flow, FlowJobView, Parent};
use sandhog_core::id::{JobId, TenantId};
use serde::{Deserialize, Serialize};

use crate::{JobDocument, Payloads};

/// JSON document of a flow that was stored.
#[derive(Debug, Serialize, Deserialize)]
pub struct StoredFlowDocument {
    /// The flow's id: that of its first job.
    pub flow: String,
    /// The tenant that it belongs to.
    pub tenant: String,
    /// Its jobs, in the order of the file.
    pub jobs: Vec<NamedDocument>,
}

/// JSON document of the name and id of a job of a flow.
#[derive(Debug, Serialize, Deserialize)]
pub struct NamedDocument {
    /// The job's name in the flow.
    pub name: String,
    /// The job's id.
    pub id: String,
}

/// JSON document of a flow.
#[derive(Debug, Serialize, Deserialize)]
pub struct FlowDocument {
    /// The flow's id: that of its first job.
    pub flow: String,
    /// The tenant that it belongs to.
    pub tenant: String,
    /// Its jobs that are still kept, in the order in which the flow was given.
    pub jobs: Vec<FlowJobDocument>,
    /// Ids of its jobs that are stored but can't be read.
    pub unread: Vec<String>,
}

/// JSON document of a job of a flow.
#[derive(Debug, Serialize, Deserialize)]
pub struct FlowJobDocument {
    /// The job's name in the flow.
    pub name: String,
    /// The jobs that it comes after.
    pub after: Vec<AfterDocument>,
    /// The job, without payload and output.
    #[serde(flatten)]
    pub job: JobDocument,
}

/// JSON document of an edge.
#[derive(Debug, Serialize, Deserialize)]
pub struct AfterDocument {
    /// The name of the job that comes first.
    pub job: String,
    /// The id of that job.
    pub id: String,
    /// `fail`, `ignore` or `hold`.
    pub on_failure: Cow<'static, str>,
}

/// JSON document of an action on the jobs of a flow.
#[derive(Debug, Serialize, Deserialize)]
pub struct ActedDocument {
    /// The flow's id.
    pub flow: String,
    /// The tenant that it belongs to.
    pub tenant: String,
    /// `cancelled` or `redriven`.
    pub done: Cow<'static, str>,
    /// The jobs to which it was done; those that run end as soon as their daemon has stopped them.
    pub jobs: Vec<NamedDocument>,
}

impl NamedDocument {
    fn new(name: &impl ToString, id: JobId) -> Self {
        Self { name: name.to_string(), id: id.to_string() }
    }
}

impl StoredFlowDocument {
    /// Creates the document of a flow that a tenant has stored.
    #[must_use]
    pub fn new(tenant: &TenantId, flow: &Flow) -> Self {
        let jobs = flow.nodes().iter().map(|node| NamedDocument::new(&node.name, node.job.id));
        Self { flow: flow.id().to_string(), tenant: tenant.to_string(), jobs: jobs.collect() }
    }
}

impl FlowDocument {
    /// Creates the document of a flow.
    #[must_use]
    pub fn new(
        tenant: &TenantId,
        flow: JobId,
        jobs: &[FlowJobView],
        unread: impl Iterator<Item = JobId>,
    ) -> Self {
        let job = |FlowJobView { name, parents, job }: &FlowJobView| FlowJobDocument {
            name: name.to_string(),
            after: parents.iter().map(AfterDocument::new).collect(),
            job: JobDocument::new(job.clone(), None, Payloads::Left),
        };
        Self {
            flow: flow.to_string(),
            tenant: tenant.to_string(),
            jobs: jobs.iter().map(job).collect(),
            unread: unread.map(|id| id.to_string()).collect(),
        }
    }
}

impl AfterDocument {
    fn new(Parent { id, name, on_failure }: &Parent) -> Self {
        Self { job: name.to_string(), id: id.to_string(), on_failure: on_failure.slug().into() }
    }
}

impl ActedDocument {
    /// Creates the document of an action, with the jobs to which it was done.
    #[must_use]
    pub fn new<'v>(
        tenant: &TenantId,
        flow: JobId,
        done: &'static str,
        jobs: impl Iterator<Item = &'v FlowJobView>,
    ) -> Self {
        Self {
            flow: flow.to_string(),
            tenant: tenant.to_string(),
            done: done.into(),
            jobs: jobs.map(|view| NamedDocument::new(&view.name, view.job.id)).collect(),
        }
    }
}
