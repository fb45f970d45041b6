//! Flows: jobs that wait for others.
//!
//! A flow is a graph of named jobs, which is stored in one step or not at all. An edge leads from a job to one that comes after
//! it, and says what becomes of that one if the first ends badly. A job with edges is `blocked` until each of them is closed:
//!
//! ```text
//! parent ends ──> edge: close ──> the last one closed: the dependant is ready, or scheduled
//!                       hold  ──> the dependant stays blocked, until the parent is redriven and succeeds
//!                       end   ──> the dependant ends as its parent did, and so closes, holds or ends those after it
//! ```
//!
//! Every end of a parent settles its edges: success, death, cancellation, and removal. So no dependant waits for something that
//! can't happen any more, except where its edge says that it shall be held.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use crate::budget::Bytes;
use crate::id::{FlowJobName, JobId, UniqueKey};
use crate::job::{JobRecord, NewJob, State};

/// Maximum number of jobs in a flow.
pub const FLOW_JOBS_MAX: usize = 1_000;

/// Maximum number of edges in a flow.
pub const FLOW_EDGES_MAX: usize = 5_000;

/// Maximum total length of the payloads of a flow, as it is stored in one step.
pub const FLOW_BYTES_MAX: Bytes = Bytes::mib(8);

/// Maximum total length of the outputs of other jobs that are handed to a handler along with its payload. An output that makes it
/// longer is left out.
pub const PARENT_OUTPUTS_MAX: Bytes = Bytes::mib(1);

/// Treatment of a dependant if the job that it comes after ends in any other way than success.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum OnFailure {
    /// The dependant ends as well, and is never run.
    #[default]
    Fail,
    /// The dependant runs all the same.
    Ignore,
    /// The dependant stays blocked until the parent is redriven and succeeds, or the dependant is released.
    Hold,
}

impl OnFailure {
    /// Every rule.
    pub const ALL: [Self; 3] = [Self::Fail, Self::Ignore, Self::Hold];

    /// The name in files, JSON and docs.
    #[must_use]
    pub fn slug(self) -> &'static str {
        match self {
            Self::Fail => "fail",
            Self::Ignore => "ignore",
            Self::Hold => "hold",
        }
    }

    /// Returns the rule with this slug; `None` if there is no such rule.
    #[must_use]
    pub fn from_slug(slug: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|rule| rule.slug() == slug)
    }

    /// Returns the number by which stores know the rule. It never changes.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Fail => 0,
            Self::Ignore => 1,
            Self::Hold => 2,
        }
    }

    /// Returns the rule with this [`Self::code`]; `None` if there is no such rule.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|rule| rule.code() == code)
    }

    /// Decides what an open edge of a blocked dependant comes to when its parent has ended.
    #[must_use]
    pub fn settle(self, end: ParentEnd) -> EdgeVerdict {
        match (self, end.state) {
            (_, State::Succeeded) | (Self::Ignore, _) => EdgeVerdict::Close,
            // A parent that is gone can't be redriven.
            (Self::Hold, _) if !end.is_removed => EdgeVerdict::Hold,
            (Self::Fail | Self::Hold, State::Cancelled) => EdgeVerdict::End(State::Cancelled),
            (Self::Fail | Self::Hold, _) => EdgeVerdict::End(State::Dead),
        }
    }

    /// Whether a dependant that is put back has to wait for a parent in this state.
    #[must_use]
    pub fn waits_again(self, parent: State) -> bool {
        !parent.is_final() || (parent != State::Succeeded && self != Self::Ignore)
    }
}

impl fmt::Display for OnFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.slug())
    }
}

/// End of a job that others come after.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ParentEnd {
    /// Final state of the job. A job that was removed before it was final counts as cancelled.
    pub state: State,
    /// Whether the job was removed, and so can't be redriven.
    pub is_removed: bool,
}

impl ParentEnd {
    /// Added to the code of the state for a job that was removed.
    pub const REMOVED: u8 = 32;

    /// Returns the number by which stores know the end.
    #[must_use]
    pub fn code(self) -> u8 {
        self.state.code() + if self.is_removed { Self::REMOVED } else { 0 }
    }

    /// Returns the end with this [`Self::code`]; `None` if there is no such end.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        let is_removed = code >= Self::REMOVED;
        let state = State::from_code(if is_removed { code - Self::REMOVED } else { code })?;
        state.is_final().then_some(Self { state, is_removed })
    }

    /// Describes the end in a few words, to follow the name of the job.
    #[must_use]
    pub fn told(self) -> &'static str {
        match (self.is_removed, self.state) {
            (true, _) => PARENT_REMOVED,
            (false, State::Cancelled) => PARENT_CANCELLED,
            (false, _) => PARENT_DEAD,
        }
    }

    /// Returns the message, for people, of a dependant that ends for this end of its parent.
    #[must_use]
    pub fn message(self, parent: &FlowJobName, id: JobId) -> String {
        format!("job `{parent}` ({id}), which it comes after, {}", self.told())
    }
}

/// Ends of parents in words; functions in Redis tell the same.
pub const PARENT_DEAD: &str = "is dead";
/// See [`PARENT_DEAD`].
pub const PARENT_CANCELLED: &str = "was cancelled";
/// See [`PARENT_DEAD`].
pub const PARENT_REMOVED: &str = "was removed";

/// Effect of a parent's end on an edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EdgeVerdict {
    /// The edge is closed: the dependant doesn't wait for this parent any more.
    Close,
    /// The edge stays open, and with it the dependant blocked.
    Hold,
    /// The dependant ends in this state.
    End(State),
}

/// Membership of a job in a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlowMember {
    /// Id of the flow: that of its first job.
    pub flow: JobId,
    /// Whether the job comes after others, and so is blocked at first.
    pub has_parents: bool,
    /// Whether others come after the job.
    pub has_dependants: bool,
    /// Whether the handler gets the outputs of the job's parents along with its payload.
    pub takes_outputs: bool,
    /// Minimum time that the job waits once it isn't blocked any more.
    pub delay: Duration,
}

/// A job of a flow, as it is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlowJob {
    /// Name of the job in its flow.
    pub name: FlowJobName,
    /// The job itself. Its delay counts from when it isn't blocked any more.
    pub job: NewJob,
    /// Jobs that it comes after.
    pub after: Vec<After>,
    /// Whether the handler gets the outputs of those jobs along with its payload.
    pub takes_outputs: bool,
}

/// An edge, as the job that comes after names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct After {
    /// Name of the job that comes first.
    pub job: FlowJobName,
    /// Treatment of the one that comes after if the first ends badly.
    pub on_failure: OnFailure,
}

/// An edge of a stored flow, as the dependant has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parent {
    /// Id of the job that comes first.
    pub id: JobId,
    /// Name of that job.
    pub name: FlowJobName,
    /// Treatment of the dependant if that job ends badly.
    pub on_failure: OnFailure,
}

/// A job of a valid flow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlowNode {
    /// Name of the job in its flow.
    pub name: FlowJobName,
    /// The job itself, which is marked as a member of the flow. A job that comes after others has its delay in that mark.
    pub job: NewJob,
    /// Edges to the jobs that it comes after.
    pub parents: Vec<Parent>,
    /// Places in the flow of the jobs that come after it, each with the rule of its edge.
    pub dependants: Vec<(usize, OnFailure)>,
}

/// A valid flow: its names and ids are unique, its edges lead to jobs of it, and no job waits for itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flow {
    nodes: Vec<FlowNode>,
}

/// Reason why jobs are no flow. Each names the job that is to be changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidFlow {
    /// The flow has no job.
    #[error("a flow has one job at least")]
    Empty,
    /// The flow has more than [`FLOW_JOBS_MAX`] jobs.
    #[error(
        "it has {0} jobs, and a flow has at most {FLOW_JOBS_MAX}; cut it in parts, each after the last job of the one before"
    )]
    TooManyJobs(usize),
    /// The flow has more than [`FLOW_EDGES_MAX`] edges.
    #[error(
        "it has {0} edges, and a flow has at most {FLOW_EDGES_MAX}; put a job that does nothing between many and many"
    )]
    TooManyEdges(usize),
    /// The payloads are longer together than [`FLOW_BYTES_MAX`].
    #[error(
        "its payloads have {0} together, and those of a flow have at most {FLOW_BYTES_MAX}; pass what is large by reference"
    )]
    TooManyBytes(Bytes),
    /// Two jobs have the same name.
    #[error("two of its jobs are named `{0}`")]
    NameTwice(FlowJobName),
    /// Two jobs have the same id.
    #[error("job `{name}` has the id {id} of a job before it")]
    IdTwice {
        /// Name of the second job.
        name: FlowJobName,
        /// The id of both.
        id: JobId,
    },
    /// Two jobs have the same unique key, so they could never both be stored.
    #[error("job `{0}` has the unique key of a job before it")]
    UniqueKeyTwice(FlowJobName),
    /// An edge leads from a job that isn't in the flow.
    #[error("job `{job}` comes after `{after}`, and there is no job of this name in the flow")]
    UnknownJob {
        /// Name of the job that comes after.
        job: FlowJobName,
        /// Name that no job has.
        after: FlowJobName,
    },
    /// Two edges lead from and to the same jobs.
    #[error("job `{job}` names `{after}` twice among those that it comes after")]
    EdgeTwice {
        /// Name of the job that comes after.
        job: FlowJobName,
        /// Name of the job that comes first.
        after: FlowJobName,
    },
    /// Jobs wait for each other.
    #[error("its jobs wait for each other: {}", cycle(.0))]
    Cycle(Vec<FlowJobName>),
}

/// Shows a cycle, each job before the one that it waits for; of a long one, the first jobs.
fn cycle(names: &[FlowJobName]) -> String {
    const SHOWN: usize = 8;
    let mut shown: Vec<String> = names.iter().take(SHOWN).map(|name| format!("`{name}`")).collect();
    shown.push(match names {
        [first, ..] if names.len() <= SHOWN => format!("`{first}`"),
        _ => "…".to_owned(),
    });
    shown.join(" after ")
}

impl Flow {
    /// Checks that these jobs are a flow, and marks them as its members.
    ///
    /// # Errors
    /// If there are too many, their names, ids or unique keys aren't unique, an edge is wrong, or jobs wait for each other.
    pub fn new(jobs: Vec<FlowJob>) -> Result<Self, InvalidFlow> {
        let places = places(&jobs)?;
        let flow = jobs.first().ok_or(InvalidFlow::Empty)?.job.id;
        let mut nodes = Vec::with_capacity(jobs.len());
        let mut dependants = vec![Vec::new(); jobs.len()];
        let ids: Vec<JobId> = jobs.iter().map(|job| job.job.id).collect();
        for (place, FlowJob { name, mut job, after, takes_outputs }) in jobs.into_iter().enumerate() {
            let mut parents: Vec<Parent> = Vec::with_capacity(after.len());
            for After { job: parent, on_failure } in after {
                let Some(&at) = places.get(&parent) else {
                    return Err(InvalidFlow::UnknownJob { job: name, after: parent });
                };
                if dependants[at].last().is_some_and(|(last, _)| *last == place) {
                    return Err(InvalidFlow::EdgeTwice { job: name, after: parent });
                }
                dependants[at].push((place, on_failure));
                parents.push(Parent { id: ids[at], name: parent, on_failure });
            }
            let has_parents = !parents.is_empty();
            let delay = if has_parents { std::mem::take(&mut job.delay) } else { Duration::ZERO };
            let takes_outputs = takes_outputs && has_parents;
            job.options.flow =
                Some(FlowMember { flow, has_parents, has_dependants: false, takes_outputs, delay });
            nodes.push(FlowNode { name, job, parents, dependants: Vec::new() });
        }
        for (node, dependants) in nodes.iter_mut().zip(dependants) {
            if let Some(member) = &mut node.job.options.flow {
                member.has_dependants = !dependants.is_empty();
            }
            node.dependants = dependants;
        }
        match find_cycle(&nodes) {
            Some(cycle) => Err(InvalidFlow::Cycle(cycle)),
            None => Ok(Self { nodes }),
        }
    }

    /// Returns the id of the flow: that of its first job.
    #[must_use]
    pub fn id(&self) -> JobId {
        self.nodes[0].job.id
    }

    /// Returns the jobs of the flow, in the order in which they were given.
    #[must_use]
    pub fn nodes(&self) -> &[FlowNode] {
        &self.nodes
    }

    /// Returns the jobs alone.
    pub fn jobs(&self) -> impl Iterator<Item = &NewJob> {
        self.nodes.iter().map(|node| &node.job)
    }

    /// Returns the flow with other payloads.
    ///
    /// # Errors
    /// That of the first job whose payload can't be had.
    pub fn with_payloads<E>(
        mut self,
        mut payload: impl FnMut(&NewJob) -> Result<Vec<u8>, E>,
    ) -> Result<Self, E> {
        for node in &mut self.nodes {
            node.job.payload = payload(&node.job)?;
        }
        Ok(self)
    }
}

/// Finds the place of each name, and checks all that can be told without following edges.
fn places(jobs: &[FlowJob]) -> Result<HashMap<FlowJobName, usize>, InvalidFlow> {
    if jobs.len() > FLOW_JOBS_MAX {
        return Err(InvalidFlow::TooManyJobs(jobs.len()));
    }
    let edges: usize = jobs.iter().map(|job| job.after.len()).sum();
    if edges > FLOW_EDGES_MAX {
        return Err(InvalidFlow::TooManyEdges(edges));
    }
    let bytes = Bytes::of(jobs.iter().map(|job| job.job.payload.len()).sum());
    if bytes > FLOW_BYTES_MAX {
        return Err(InvalidFlow::TooManyBytes(bytes));
    }
    let (mut places, mut ids) = (HashMap::new(), HashMap::new());
    let mut keys: HashMap<&UniqueKey, ()> = HashMap::new();
    for (place, FlowJob { name, job, .. }) in jobs.iter().enumerate() {
        if places.insert(name.clone(), place).is_some() {
            return Err(InvalidFlow::NameTwice(name.clone()));
        }
        if ids.insert(job.id, ()).is_some() {
            return Err(InvalidFlow::IdTwice { name: name.clone(), id: job.id });
        }
        if job.unique_key.as_ref().is_some_and(|key| keys.insert(key, ()).is_some()) {
            return Err(InvalidFlow::UniqueKeyTwice(name.clone()));
        }
    }
    Ok(places)
}

/// Finds jobs that wait for each other, each before the one that it waits for. `None` if there are none.
fn find_cycle(nodes: &[FlowNode]) -> Option<Vec<FlowJobName>> {
    let mut open: Vec<usize> = nodes.iter().map(|node| node.parents.len()).collect();
    let mut free: Vec<usize> = (0..nodes.len()).filter(|place| open[*place] == 0).collect();
    while let Some(place) = free.pop() {
        for (dependant, _) in &nodes[place].dependants {
            open[*dependant] -= 1;
            if open[*dependant] == 0 {
                free.push(*dependant);
            }
        }
    }
    // Each job that is left waits for another one that is left, so whoever follows them comes back to where they were.
    let by_name: HashMap<&FlowJobName, usize> =
        nodes.iter().enumerate().map(|(place, node)| (&node.name, place)).collect();
    let mut way: Vec<usize> = vec![open.iter().position(|open| *open > 0)?];
    loop {
        let parents = nodes[*way.last()?].parents.iter().filter_map(|parent| by_name.get(&parent.name));
        let next = parents.copied().find(|place| open[*place] > 0)?;
        if let Some(start) = way.iter().position(|place| *place == next) {
            return Some(way[start..].iter().map(|place| nodes[*place].name.clone()).collect());
        }
        way.push(next);
    }
}

/// A job of a stored flow, as it is looked up.
#[derive(Debug, Clone, PartialEq)]
pub struct FlowJobView {
    /// Name of the job in its flow.
    pub name: FlowJobName,
    /// Edges to the jobs that it comes after, also to those that are not kept any more.
    pub parents: Vec<Parent>,
    /// The job, without payload and output.
    pub job: JobRecord,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{Kind, QueueName};
    use crate::time::Timestamp;
    use proptest::prelude::*;

    fn name(n: usize) -> FlowJobName {
        FlowJobName::parse(&format!("j{n}")).expect("a valid name")
    }

    fn job(n: usize, after: &[(usize, OnFailure)]) -> FlowJob {
        let id = JobId::from_parts(Timestamp::from_millis(1), n as u128);
        let (queue, kind) = (QueueName::parse("q").expect("valid"), Kind::parse("k").expect("valid"));
        let edge =
            |(parent, on_failure): &(usize, OnFailure)| After { job: name(*parent), on_failure: *on_failure };
        FlowJob {
            name: name(n),
            job: NewJob::new(id, queue, kind, b"{}".to_vec()),
            after: after.iter().map(edge).collect(),
            takes_outputs: false,
        }
    }

    /// A graph without cycles: each job comes after some of those before it.
    fn graphs() -> impl Strategy<Value = Vec<Vec<(usize, OnFailure)>>> {
        let rule = prop::sample::select(&OnFailure::ALL[..]);
        let edges = |n: usize| {
            prop::collection::btree_map(0..n.max(1), prop::sample::select(&OnFailure::ALL[..]), 0..4)
        };
        let _ = rule;
        (1..12usize).prop_flat_map(move |count| {
            (0..count)
                .map(|n| {
                    edges(n).prop_map(move |map| map.into_iter().filter(|(parent, _)| *parent < n).collect())
                })
                .collect::<Vec<_>>()
        })
    }

    fn flow(graph: &[Vec<(usize, OnFailure)>]) -> Flow {
        let jobs = graph.iter().enumerate().map(|(n, after)| job(n, after)).collect();
        Flow::new(jobs).expect("a graph without cycles")
    }

    /// What stores do with a flow, in the fewest words.
    struct Played<'f> {
        flow: &'f Flow,
        states: Vec<State>,
        open: Vec<Vec<usize>>,
    }

    impl<'f> Played<'f> {
        fn new(flow: &'f Flow) -> Self {
            let place = |id: JobId| flow.jobs().position(|job| job.id == id).expect("it is in the flow");
            let open: Vec<Vec<usize>> = flow
                .nodes()
                .iter()
                .map(|node| node.parents.iter().map(|parent| place(parent.id)).collect())
                .collect();
            let states = open
                .iter()
                .map(|open: &Vec<usize>| if open.is_empty() { State::Ready } else { State::Blocked });
            Self { flow, states: states.collect(), open }
        }

        fn end(&mut self, place: usize, state: State, is_removed: bool) {
            self.states[place] = state;
            let mut ended = vec![(place, ParentEnd { state, is_removed })];
            while let Some((place, end)) = ended.pop() {
                for (dependant, on_failure) in &self.flow.nodes()[place].dependants {
                    let is_open = self.open[*dependant].contains(&place);
                    if self.states[*dependant] != State::Blocked || !is_open {
                        continue;
                    }
                    match on_failure.settle(end) {
                        EdgeVerdict::Close => {
                            self.open[*dependant].retain(|open| *open != place);
                            if self.open[*dependant].is_empty() {
                                self.states[*dependant] = State::Ready;
                            }
                        }
                        EdgeVerdict::Hold => {}
                        EdgeVerdict::End(state) => {
                            self.states[*dependant] = state;
                            ended.push((*dependant, ParentEnd { state, is_removed: false }));
                        }
                    }
                }
            }
        }
    }

    proptest! {
        #[test]
        fn a_graph_without_cycles_is_a_flow_and_its_jobs_are_marked(graph in graphs()) {
            let flow = flow(&graph);
            for (n, node) in flow.nodes().iter().enumerate() {
                let member = node.job.options.flow.expect("each is marked");
                prop_assert_eq!(member.flow, flow.id());
                prop_assert_eq!(member.has_parents, !graph[n].is_empty());
                let has_dependants = graph.iter().flatten().any(|(parent, _)| *parent == n);
                prop_assert_eq!(member.has_dependants, has_dependants);
                for (dependant, on_failure) in &node.dependants {
                    prop_assert!(graph[*dependant].contains(&(n, *on_failure)));
                }
            }
        }

        /// In whichever order jobs end, and however: none is left blocked but by an edge that says so.
        #[test]
        fn any_order_of_ends_settles_all(graph in graphs(), order in prop::collection::vec((0..12usize, 0..4u8), 60)) {
            let flow = flow(&graph);
            let mut played = Played::new(&flow);
            let ends = |how: u8| match how {
                0 | 1 => (State::Succeeded, false),
                2 => (State::Dead, false),
                _ => (State::Cancelled, false),
            };
            let rest = (0..graph.len()).cycle().take(12 * 12).map(|n| (n, 0));
            for (n, how) in order.into_iter().chain(rest) {
                let n = n % graph.len();
                if played.states[n] == State::Ready {
                    let (state, is_removed) = ends(how);
                    played.end(n, state, is_removed);
                }
            }
            for (n, node) in flow.nodes().iter().enumerate() {
                if played.states[n] == State::Blocked {
                    // Somebody that it waits for failed and holds it, or is held itself.
                    let is_held = node.parents.iter().zip(&graph[n]).any(|(parent, (place, _))| {
                        let state = played.states[*place];
                        state == State::Blocked
                            || (parent.on_failure == OnFailure::Hold && state.is_final() && state != State::Succeeded)
                    });
                    prop_assert!(is_held, "{n} waits for nothing that could come");
                } else {
                    prop_assert!(played.states[n].is_final());
                }
            }
            // What holds them is removed: then none is left.
            for n in 0..graph.len() {
                if played.states[n].is_final() {
                    let state = played.states[n];
                    played.end(n, state, true);
                }
            }
            for n in (0..graph.len()).cycle().take(12 * 12) {
                if played.states[n] == State::Ready {
                    played.end(n, State::Succeeded, false);
                }
            }
            prop_assert!(played.states.iter().all(|state| state.is_final()), "{:?}", played.states);
        }

        #[test]
        fn a_cycle_is_found_and_shown(graph in graphs(), from in 0..12usize, length in 1..5usize) {
            let count = graph.len();
            let (from, length) = (from % count, length.min(count));
            let mut jobs: Vec<FlowJob> = graph.iter().enumerate().map(|(n, after)| job(n, after)).collect();
            for step in 0..length {
                let (this, next) = ((from + step) % count, (from + (step + 1) % length) % count);
                if !jobs[this].after.iter().any(|after| after.job == name(next)) {
                    jobs[this].after.push(After { job: name(next), on_failure: OnFailure::Fail });
                }
            }
            let edges: Vec<(FlowJobName, FlowJobName)> = jobs
                .iter()
                .flat_map(|job| job.after.iter().map(|after| (job.name.clone(), after.job.clone())))
                .collect();
            match Flow::new(jobs) {
                Err(InvalidFlow::Cycle(names)) => {
                    for (n, this) in names.iter().enumerate() {
                        let next = names[(n + 1) % names.len()].clone();
                        prop_assert!(edges.contains(&(this.clone(), next)), "each waits for the next");
                    }
                }
                other => prop_assert!(false, "{other:?}"),
            }
        }
    }

    #[test]
    fn what_is_no_flow_is_told_with_the_job_that_is_wrong() {
        let refused = |jobs: Vec<FlowJob>| Flow::new(jobs).expect_err("it is none").to_string();
        assert_eq!(refused(vec![]), "a flow has one job at least");
        assert_eq!(refused(vec![job(1, &[]), job(1, &[])]), "two of its jobs are named `j1`");
        let after = |parent| [(parent, OnFailure::Fail)];
        assert_eq!(
            refused(vec![job(1, &after(7))]),
            "job `j1` comes after `j7`, and there is no job of this name in the flow"
        );
        assert_eq!(refused(vec![job(1, &after(1))]), "its jobs wait for each other: `j1` after `j1`");
        assert_eq!(
            refused(vec![job(1, &after(2)), job(2, &after(1))]),
            "its jobs wait for each other: `j1` after `j2` after `j1`"
        );
        let twice = [(1, OnFailure::Fail), (1, OnFailure::Hold)];
        assert_eq!(
            refused(vec![job(1, &[]), job(2, &twice)]),
            "job `j2` names `j1` twice among those that it comes after"
        );
        let mut same_id = job(2, &[]);
        same_id.job.id = job(1, &[]).job.id;
        assert!(refused(vec![job(1, &[]), same_id]).contains("`j2` has the id"));
        let keyed = |n| {
            let mut keyed = job(n, &[]);
            keyed.job.unique_key = Some(UniqueKey::parse("nightly").expect("valid"));
            keyed
        };
        assert!(refused(vec![keyed(1), keyed(2)]).contains("`j2` has the unique key"));
        let many = (0..=FLOW_JOBS_MAX).map(|n| job(n, &[])).collect();
        assert!(refused(many).contains("it has 1001 jobs"));
        let all: Vec<(usize, OnFailure)> = (0..80).map(|n| (n, OnFailure::Fail)).collect();
        let dense = (0..160).map(|n| job(n, if n < 80 { &[] } else { &all })).collect();
        assert!(refused(dense).contains("it has 6400 edges"));
        let mut long = job(1, &[]);
        long.job.payload = vec![0; (8 << 20) + 1];
        assert!(refused(vec![long]).contains("its payloads have"));
    }

    #[test]
    fn the_delay_of_a_job_that_comes_after_others_counts_from_then() {
        let mut jobs = vec![job(1, &[]), job(2, &[(1, OnFailure::Fail)])];
        jobs.iter_mut().for_each(|job| job.job.delay = Duration::from_secs(5));
        let flow = Flow::new(jobs).expect("a flow");
        let delays: Vec<_> =
            flow.jobs().map(|job| (job.delay, job.options.flow.expect("it is marked").delay)).collect();
        let five = Duration::from_secs(5);
        assert_eq!(delays, [(five, Duration::ZERO), (Duration::ZERO, five)]);
    }

    #[test]
    fn an_end_settles_an_edge_by_its_rule() {
        let end = |state, is_removed| ParentEnd { state, is_removed };
        for rule in OnFailure::ALL {
            for removed in [false, true] {
                assert_eq!(rule.settle(end(State::Succeeded, removed)), EdgeVerdict::Close);
            }
            assert_eq!(OnFailure::from_code(rule.code()), Some(rule));
            assert_eq!(OnFailure::from_slug(rule.slug()), Some(rule));
        }
        let dead =
            [false, true].map(|removed| OnFailure::ALL.map(|rule| rule.settle(end(State::Dead, removed))));
        let fails = EdgeVerdict::End(State::Dead);
        assert_eq!(
            dead,
            [[fails, EdgeVerdict::Close, EdgeVerdict::Hold], [fails, EdgeVerdict::Close, fails]]
        );
        assert_eq!(OnFailure::Fail.settle(end(State::Cancelled, false)), EdgeVerdict::End(State::Cancelled));
        for state in State::ALL.into_iter().filter(|state| state.is_final()) {
            for is_removed in [false, true] {
                let end = end(state, is_removed);
                assert_eq!(ParentEnd::from_code(end.code()), Some(end));
            }
        }
        assert_eq!(ParentEnd::from_code(State::Ready.code()), None);
    }

    #[test]
    fn who_is_put_back_waits_again_for_what_has_not_succeeded() {
        for rule in OnFailure::ALL {
            assert!(rule.waits_again(State::Ready) && rule.waits_again(State::Blocked));
            assert!(!rule.waits_again(State::Succeeded));
            assert_eq!(rule.waits_again(State::Dead), rule != OnFailure::Ignore);
        }
    }
}
