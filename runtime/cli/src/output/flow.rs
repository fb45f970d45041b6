//! Output of flows.

use std::collections::{HashMap, HashSet};

pub use sandhog_api::{ActedDocument, FlowDocument, StoredFlowDocument};
use sandhog_broker::{Changed, FlowView, JobAction};
use sandhog_core::flow::{FlowJobView, OnFailure, Parent};
use sandhog_core::id::{JobId, TenantId};
use sandhog_core::job::{JobRecord, State};
use sandhog_core::text;

use super::job::standing;
use super::{Paint, of};

/// Creates the document of a flow.
#[must_use]
pub fn document(tenant: &TenantId, flow: JobId, view: &FlowView) -> FlowDocument {
    FlowDocument::new(tenant, flow, &view.jobs, view.unread.iter().map(|unread| unread.id))
}

/// Creates the document of an action on the jobs of a flow.
#[must_use]
pub fn acted(
    tenant: &TenantId,
    flow: JobId,
    action: JobAction,
    answers: &[(&FlowJobView, Changed)],
) -> ActedDocument {
    let was_done = |changed: &Changed| matches!(changed, Changed::Done | Changed::Requested);
    let done = answers.iter().filter(|(_, changed)| was_done(changed)).map(|(view, _)| *view);
    let word = if action == JobAction::Cancel { "cancelled" } else { "redriven" };
    ActedDocument::new(tenant, flow, word, done)
}

/// Renders what was done to the jobs of a flow.
#[must_use]
pub fn told(acted: &ActedDocument) -> String {
    format!("{} {}", of(acted.jobs.len() as u64, "job"), acted.done)
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
