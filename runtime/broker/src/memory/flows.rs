//! Steps of flows: storing one, settling the edges of jobs that have ended, and looking at one.

use std::collections::VecDeque;

use sandhog_core::flow::{EdgeVerdict, Flow, FlowJobView, Parent, ParentEnd};
use sandhog_core::id::{FlowJobName, JobId, TenantId};
use sandhog_core::job::State;
use sandhog_core::quota::{QueueBounds, Waiting};
use sandhog_core::time::Timestamp;
use sandhog_core::transition::Change;

use super::tenant::{Entry, Tenant};
use crate::{Enqueued, FlowStored, FlowView, ParentView, SWEEP_MAX};

/// A job of a flow that is still kept.
#[derive(Clone)]
pub(super) struct Member {
    /// Its place in the flow.
    position: usize,
    name: FlowJobName,
    parents: Vec<Parent>,
}

impl Tenant {
    pub(super) fn store_flow(
        &mut self,
        tenant: &TenantId,
        flow: &Flow,
        bounds: &QueueBounds,
        now: Timestamp,
    ) -> FlowStored {
        if self.flows.contains_key(&flow.id()) {
            return FlowStored::Stored;
        }
        let is_pending = |id: JobId| self.settled.keys().any(|(job, end)| *job == id && end.is_removed);
        let is_taken = |id: JobId| self.jobs.contains_key(&id) || is_pending(id);
        if let Some(taken) = flow.jobs().find(|job| is_taken(job.id)) {
            return FlowStored::Taken(taken.id);
        }
        let mut beside = Waiting::default();
        for job in flow.jobs() {
            match self.refusal(job, bounds, beside, now) {
                Some(Enqueued::Duplicate(holder)) => return FlowStored::Duplicate { job: job.id, holder },
                Some(Enqueued::TooLarge) => return FlowStored::TooLarge(job.id),
                Some(Enqueued::Full(excess)) => return FlowStored::Full(excess),
                // A flow replaces nothing.
                Some(Enqueued::Stored | Enqueued::Replaced(_)) | None => {}
            }
            let more = Waiting::of(std::slice::from_ref(job));
            beside = Waiting { jobs: beside.jobs + more.jobs, bytes: beside.bytes + more.bytes };
        }
        for (position, node) in flow.nodes().iter().enumerate() {
            let is_blocked = !node.parents.is_empty();
            let change = if is_blocked { Change::of_new_blocked() } else { Change::of_new(node.job.delay) };
            self.insert(tenant, &node.job, &change, now);
            self.wait_for(node.job.id, node.parents.iter().map(|parent| parent.id).collect());
            let member = Member { position, name: node.name.clone(), parents: node.parents.clone() };
            self.flows.entry(flow.id()).or_default().insert(node.job.id, member);
        }
        FlowStored::Stored
    }

    fn wait_for(&mut self, job: JobId, mut parents: Vec<JobId>) {
        parents.sort_unstable();
        if let Some(entry) = self.jobs.get_mut(&job) {
            entry.record.waits_for = parents;
        }
    }

    /// Puts a dead letter back: to where it waits for those of its parents that have not succeeded, if there are any.
    pub(super) fn revive(&mut self, job: JobId, change: Change<'_>, now: Timestamp) {
        let open: Vec<JobId> =
            self.parents_of(job).filter(|parent| self.waits_again(job, parent)).map(|p| p.id).collect();
        if open.is_empty() {
            return self.change(job, &change, now);
        }
        self.change(job, &change.blocked(), now);
        self.wait_for(job, open);
    }

    /// Whether a parent that is still kept with its flow has to be waited for.
    fn waits_again(&self, job: JobId, parent: &Parent) -> bool {
        let state = self.jobs.get(&parent.id).map(|entry| entry.record.state);
        let is_member = self.flow_of(job).is_some_and(|flow| self.flows[&flow].contains_key(&parent.id));
        is_member && state.is_some_and(|state| parent.on_failure.waits_again(state))
    }

    fn flow_of(&self, job: JobId) -> Option<JobId> {
        self.flows.iter().find(|(_, members)| members.contains_key(&job)).map(|(flow, _)| *flow)
    }

    fn parents_of(&self, job: JobId) -> impl Iterator<Item = &Parent> {
        self.flows.values().filter_map(move |members| members.get(&job)).flat_map(|member| &member.parents)
    }

    /// Removes a job, and takes it out of its flow. Those that still wait for it are told that it won't come.
    /// Its turn of its group goes with it, without another job getting that.
    pub(super) fn remove(&mut self, job: JobId, now: Timestamp) -> Option<Entry> {
        let entry = self.jobs.remove(&job)?;
        for members in self.flows.values_mut() {
            members.remove(&job);
        }
        self.flows.retain(|_, members| !members.is_empty());
        if entry.record.options.flow.is_some_and(|member| member.has_dependants) {
            let state = Some(entry.record.state).filter(|state| state.is_final()).unwrap_or(State::Cancelled);
            self.settled.insert((job, ParentEnd { state, is_removed: true }), now);
        }
        Some(entry)
    }

    /// Settles the edges of jobs that have ended, in the order of their ends, and those of jobs that end by that. Stops after
    /// [`SWEEP_MAX`] edges.
    pub(super) fn settle_edges(&mut self, now: Timestamp) {
        let mut ended: Vec<_> =
            self.settled.iter().map(|((job, end), at)| (*at, *job, end.code(), *end)).collect();
        ended.sort();
        ended.truncate(SWEEP_MAX);
        let mut queue: VecDeque<(JobId, ParentEnd)> =
            ended.into_iter().map(|(_, job, _, end)| (job, end)).collect();
        let mut edges = 0;
        while edges < SWEEP_MAX
            && let Some((parent, end)) = queue.pop_front()
        {
            self.settled.remove(&(parent, end));
            edges += self.settle_edges_of(parent, end, &mut queue, now);
        }
    }

    /// Settles the edges of one job, and returns how many it has. A job that is put back has not ended.
    fn settle_edges_of(
        &mut self,
        parent: JobId,
        end: ParentEnd,
        queue: &mut VecDeque<(JobId, ParentEnd)>,
        now: Timestamp,
    ) -> usize {
        let end = match self.jobs.get(&parent).map(|entry| entry.record.state) {
            _ if end.is_removed => end,
            Some(state) if state.is_final() => ParentEnd { state, is_removed: false },
            _ => return 0,
        };
        let mut dependants: Vec<(usize, JobId, Parent)> = Vec::new();
        for (id, member) in self.flows.values().flatten() {
            let edge = member.parents.iter().find(|edge| edge.id == parent);
            dependants.extend(edge.map(|edge| (member.position, *id, edge.clone())));
        }
        dependants.sort_by_key(|(position, id, _)| (*position, *id));
        for (_, dependant, edge) in &dependants {
            let Some(entry) = self.jobs.get_mut(dependant) else { continue };
            let Some(place) = entry.record.waits_for.iter().position(|open| *open == parent) else {
                continue;
            };
            let (standing, member) = (entry.standing(), entry.record.options.flow);
            match edge.on_failure.settle(end) {
                EdgeVerdict::Hold => {}
                EdgeVerdict::Close => {
                    entry.record.waits_for.remove(place);
                    if entry.record.waits_for.is_empty() {
                        let delay = member.map(|member| member.delay).unwrap_or_default();
                        self.change(*dependant, &standing.unblocked(delay), now);
                    }
                }
                EdgeVerdict::End(state) => {
                    let message = end.message(&edge.name, parent);
                    self.change(*dependant, &standing.failed_by_parent(state, message), now);
                    if member.is_some_and(|member| member.has_dependants) {
                        queue.push_back((*dependant, ParentEnd { state, is_removed: false }));
                    }
                }
            }
        }
        dependants.len()
    }

    pub(super) fn flow(&self, flow: JobId) -> Option<FlowView> {
        let mut members: Vec<_> = self.flows.get(&flow)?.iter().collect();
        members.sort_by_key(|(_, member)| member.position);
        let view = |(id, member): (&JobId, &Member)| {
            let job = self.jobs.get(id)?.record.clone().without_payloads();
            Some(FlowJobView { name: member.name.clone(), parents: member.parents.clone(), job })
        };
        Some(FlowView { jobs: members.into_iter().filter_map(view).collect(), unread: Vec::new() })
    }

    /// Returns what the parents of a job have come to, with outputs as long as all of them together have no more bytes.
    pub(super) fn parents(&self, job: JobId, mut bytes: usize) -> Vec<ParentView> {
        let view = |parent: &Parent| {
            let record = self.jobs.get(&parent.id).map(|entry| &entry.record);
            let output =
                record.and_then(|record| record.output.clone()).filter(|output| output.len() <= bytes);
            bytes -= output.as_ref().map_or(0, Vec::len);
            let state = record.map(|record| record.state);
            ParentView { name: parent.name.clone(), id: parent.id, state, output }
        };
        self.parents_of(job).map(view).collect()
    }
}
