//! Output of flows.

use std::collections::{HashMap, HashSet};

use sandhog_broker::{Changed, FlowView, JobAction};
use sandhog_core::flow::{Flow, FlowJobView, OnFailure, Parent};
use sandhog_core::id::{JobId, TenantId};
use sandhog_core::job::{JobRecord, State};
use sandhog_core::text;
use serde::Serialize;

use super::job::{JobDocument, Payloads, standing};
use super::{Paint, of};

/// JSON document of a flow that was stored.
#[derive(Debug, Serialize)]
pub struct StoredFlowDocument {
    /// The flow's id: that of its first job.
    pub flow: String,
    /// The tenant that it belongs to.
    pub tenant: String,
    /// Its jobs, in the order of the file.
    pub jobs: Vec<NamedDocument>,
}

/// JSON document of the name and id of a job of a flow.
#[derive(Debug, Serialize)]
pub struct NamedDocument {
    /// The job's name in the flow.
    pub name: String,
    /// The job's id.
    pub id: String,
}

/// JSON document of a flow.
#[derive(Debug, Serialize)]
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
#[derive(Debug, Serialize)]
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
#[derive(Debug, Serialize)]
pub struct AfterDocument {
    /// The name of the job that comes first.
    pub job: String,
    /// The id of that job.
    pub id: String,
    /// `fail`, `ignore` or `hold`.
    pub on_failure: &'static str,
}

/// JSON document of an action on the jobs of a flow.
#[derive(Debug, Serialize)]
pub struct ActedDocument {
    /// The flow's id.
    pub flow: String,
    /// The tenant that it belongs to.
    pub tenant: String,
    /// `cancelled` or `redriven`.
    pub done: &'static str,
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
    pub fn new(tenant: &TenantId, flow: JobId, view: &FlowView) -> Self {
        let job = |FlowJobView { name, parents, job }: &FlowJobView| FlowJobDocument {
            name: name.to_string(),
            after: parents.iter().map(AfterDocument::new).collect(),
            job: JobDocument::new(job.clone(), None, Payloads::Left),
        };
        Self {
            flow: flow.to_string(),
            tenant: tenant.to_string(),
            jobs: view.jobs.iter().map(job).collect(),
            unread: view.unread.iter().map(|unread| unread.id.to_string()).collect(),
        }
    }
}

impl AfterDocument {
    fn new(Parent { id, name, on_failure }: &Parent) -> Self {
        Self { job: name.to_string(), id: id.to_string(), on_failure: on_failure.slug() }
    }
}

impl ActedDocument {
    /// Creates the document of an action, with the jobs to which it was done.
    #[must_use]
    pub fn new(
        tenant: &TenantId,
        flow: JobId,
        action: JobAction,
        answers: &[(&FlowJobView, Changed)],
    ) -> Self {
        let done =
            answers.iter().filter(|(_, changed)| matches!(changed, Changed::Done | Changed::Requested));
        Self {
            flow: flow.to_string(),
            tenant: tenant.to_string(),
            done: if action == JobAction::Cancel { "cancelled" } else { "redriven" },
            jobs: done.map(|(view, _)| NamedDocument::new(&view.name, view.job.id)).collect(),
        }
    }

    /// Renders the document for people.
    #[must_use]
    pub fn told(&self) -> String {
        format!("{} {}", of(self.jobs.len() as u64, "job"), self.done)
    }
}

/// Returns the jobs of a flow, each after those that it comes after.
#[must_use]
pub fn in_order(view: &FlowView) -> Vec<&FlowJobView> {
    let kept: HashMap<JobId, usize> =
        view.jobs.iter().enumerate().map(|(n, view)| (view.job.id, n)).collect();
    let mut dependants = vec![Vec::new(); view.jobs.len()];
    let mut open = vec![0; view.jobs.len()];
    for (n, FlowJobView { parents, .. }) in view.jobs.iter().enumerate() {
        for parent in parents.iter().filter_map(|parent| kept.get(&parent.id)) {
            dependants[*parent].push(n);
            open[n] += 1;
        }
    }
    let mut order: Vec<usize> = (0..open.len()).filter(|n| open[*n] == 0).collect();
    let mut next = 0;
    while let Some(&n) = order.get(next) {
        for &dependant in &dependants[n] {
            open[dependant] -= 1;
            if open[dependant] == 0 {
                order.push(dependant);
            }
        }
        next += 1;
    }
    order.into_iter().map(|n| &view.jobs[n]).collect()
}

/// Maximum number of levels by which the tree is indented; what lies deeper is shown at that level.
const LEVELS_MAX: usize = 16;

/// Renders a flow for people: a line for each job, below the first of those that it comes after.
#[must_use]
pub fn tree(flow: JobId, view: &FlowView, paint: Paint) -> String {
    let kept: HashSet<JobId> = view.jobs.iter().map(|view| view.job.id).collect();
    let mut below: HashMap<Option<JobId>, Vec<&FlowJobView>> = HashMap::new();
    for job in &view.jobs {
        let parent = job.parents.iter().map(|parent| parent.id).find(|parent| kept.contains(parent));
        below.entry(parent).or_default().push(job);
    }
    let width = view.jobs.iter().map(|view| view.name.as_str().len()).max().unwrap_or(0);
    let mut lines = vec![format!("{} {flow}", paint.bold("flow"))];
    let mut stack: Vec<(&FlowJobView, usize)> =
        below.remove(&None).into_iter().flatten().rev().map(|view| (view, 0)).collect();
    while let Some((job, level)) = stack.pop() {
        let indent = "  ".repeat(level.min(LEVELS_MAX));
        let mark = if level > 0 { "└ " } else { "" };
        let name = format!("{indent}{mark}{:width$}", job.name.as_str());
        let record = &job.job;
        let mut line = format!("{name}  {}  {}  {}", record.id, standing(record, paint), record.kind);
        let others: Vec<&str> = job.parents.iter().skip(1).map(|parent| parent.name.as_str()).collect();
        if !others.is_empty() {
            line += &paint.dim(&format!("  also after {}", some(&others)));
        }
        let waits_for = waits_for(record, view, Paint::Plain);
        if !waits_for.is_empty() {
            let waits_for: Vec<&str> = waits_for.iter().map(String::as_str).collect();
            line += &paint.dim(&format!("  waits for {}", some(&waits_for)));
        }
        if let Some(message) = &record.message {
            line += &format!("  {}", text::line(message.lines().next().unwrap_or_default()));
        }
        lines.push(line);
        let below = below.remove(&Some(record.id)).into_iter().flatten().rev();
        stack.extend(below.map(|view| (view, level + 1)));
    }
    lines
        .extend(view.unread.iter().map(|unread| format!("{}  can't be read: {}", unread.id, unread.problem)));
    lines.join("\n")
}

/// Names a few of these, and says how many more there are.
fn some(names: &[&str]) -> String {
    const SHOWN: usize = 4;
    let more = names.len().saturating_sub(SHOWN);
    let shown = names[..names.len() - more].join(", ");
    if more > 0 { format!("{shown} and {more} more") } else { shown }
}

/// Renders what a blocked job waits for: the name and state of each job, and whether it is held by it.
#[must_use]
pub fn waits_for(job: &JobRecord, view: &FlowView, paint: Paint) -> Vec<String> {
    let own = view.jobs.iter().find(|view| view.job.id == job.id);
    let parents = own.into_iter().flat_map(|own| &own.parents);
    let told = |parent: &Parent| {
        let record = view.jobs.iter().find(|view| view.job.id == parent.id).map(|view| &view.job);
        let state = record.map_or_else(|| "gone".to_owned(), |record| paint.state(record.state));
        let failed = record.is_some_and(|record| record.state.is_final() && record.state != State::Succeeded);
        let held = if failed && parent.on_failure == OnFailure::Hold { ", which holds it" } else { "" };
        format!("{} ({state}{held})", parent.name)
    };
    parents.filter(|parent| job.waits_for.contains(&parent.id)).map(told).collect()
}
