//! Bulk commands: one action on all jobs of a tenant that a filter lets through, in bounded steps.
//!
//! A command is about the jobs that there are when it begins, by the broker's clock. One that comes later isn't touched, and
//! nothing is done to one twice: a job that dies again isn't redriven again. Each step is one page of the broker's list and one
//! action on what it has found, which does nothing to a job that is something else meanwhile; so a command can be ended between
//! any two of them, and the same command goes on with what is left.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use sandhog_api::{Problem, Slug, Time};
use sandhog_broker::{Changed, Cursor, Filter, JobAction, LastTimes, Page, Query, Still, Unread};
use sandhog_core::id::{JobId, TenantId};
use sandhog_core::job::State;
use sandhog_core::time::Timestamp;

use super::jobs::{check_count, page};
use super::{Caller, Role, Service, of_broker, tenants};

/// Smallest step of the broker's clock: what happens within the one in which a command begins counts as before it.
const TICK: Duration = Duration::from_millis(1);

/// A command on many jobs, and how far it has come.
#[derive(Debug, Clone)]
pub struct Bulk {
    tenant: TenantId,
    action: JobAction,
    /// The filter, with the times of the beginning.
    filter: Filter,
    /// The state that the caller has named.
    named: Option<State>,
    /// The states whose lists are still to be gone through, the next one last.
    states: Vec<State>,
    after: Option<Cursor>,
    /// Time of the beginning, by the broker's clock.
    begun: Timestamp,
}

/// Place that a command has come to, at which another one like it can go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Time at which the first of them has begun: it is about the jobs of then.
    pub begun: Timestamp,
    /// State whose list is gone through.
    pub state: State,
    /// Place in that list; `None` for its beginning.
    pub after: Option<Cursor>,
}

/// Result of one step: the jobs that it has found, or has changed.
#[derive(Debug, Default)]
pub struct Step<T> {
    /// The jobs, each with what has become of it.
    pub jobs: Vec<(JobId, T)>,
    /// Jobs that can't be read.
    pub unread: Vec<Unread>,
}

impl Bulk {
    /// Begins a command on the jobs that are in this state, or in any to which the action can be done, and that the filter lets
    /// through. Nothing is done yet.
    ///
    /// # Errors
    /// There is no such tenant in scope, the action can't be done to jobs in this state, or the broker can't be asked.
    pub async fn begin(
        service: &Service,
        caller: &Caller,
        tenant: &TenantId,
        action: JobAction,
        state: Option<State>,
        filter: Filter,
    ) -> Result<Self, Problem> {
        caller.needs(Role::Operate)?;
        let tenant = tenants::known(&service.config(), caller, tenant)?;
        let mut states = match state {
            None => states(action),
            Some(state) if action.changes(state) => vec![state],
            Some(state) => {
                let message = format!("this can't be done to {state} jobs");
                return Err(Problem::new(Slug::Conflict, message));
            }
        };
        // A job that goes on meanwhile is met again, rather than missed.
        states.reverse();
        let first = states.last().copied().unwrap_or(State::Ready);
        let now = service.broker.jobs(&tenant, Query { payloads: false, ..Query::of(first, 1) }).await;
        let begun = now.map_err(of_broker)?.now.after(TICK);
        let filter = frozen(filter, action, begun);
        Ok(Self { tenant, action, filter, named: state, states, after: None, begun })
    }

    /// Goes on where another command like this has come to, in its place.
    #[must_use]
    pub fn from(mut self, place: Place) -> Self {
        // Nobody begins later than now.
        self.begun = self.begun.min(place.begun);
        self.filter = frozen(self.filter, self.action, self.begun);
        while self.states.last().is_some_and(|state| *state != place.state) {
            self.states.pop();
        }
        self.after = place.after;
        self
    }

    /// Returns the place that it has come to. `None` once all jobs have been found.
    #[must_use]
    pub fn place(&self) -> Option<Place> {
        self.states.last().map(|state| Place { begun: self.begun, state: *state, after: self.after })
    }

    /// The tenant.
    #[must_use]
    pub fn tenant(&self) -> &TenantId {
        &self.tenant
    }

    /// Finds up to `most` further jobs, and does nothing to them. `None` once all have been found.
    ///
    /// # Errors
    /// The broker can't be asked.
    pub async fn find(
        &mut self,
        service: &Service,
        caller: &Caller,
        most: u32,
    ) -> Result<Option<Step<State>>, Problem> {
        let Some(state) = self.states.last() else { return Ok(None) };
        let (filter, after) = (self.filter.clone(), self.after);
        let query = Query { filter, after, payloads: false, ..Query::of(*state, most) };
        let Page { jobs, unread, next, .. } = page(service, caller, &self.tenant, query).await?;
        if next.is_none() {
            self.states.pop();
        }
        self.after = next;
        Ok(Some(Step { jobs: jobs.into_iter().map(|job| (job.id, job.state)).collect(), unread }))
    }

    /// Does the action to jobs that were found, at most [`ACT_MAX`](super::jobs::ACT_MAX), as far as they are still as they were then.
    ///
    /// # Errors
    /// There are more than [`ACT_MAX`](super::jobs::ACT_MAX), or the broker can't be asked.
    pub async fn act(
        &self,
        service: &Service,
        caller: &Caller,
        found: Step<State>,
    ) -> Result<Step<Changed>, Problem> {
        caller.needs(Role::Operate)?;
        let ids: Vec<JobId> = found.jobs.iter().map(|(id, _)| *id).collect();
        check_count(&ids)?;
        let mut changed = Vec::new();
        if !ids.is_empty() {
            let still = Still { state: self.named, last: self.filter.last };
            let acted = service.broker.act_on_found(&self.tenant, self.action, &ids, still).await;
            changed = acted.map_err(of_broker)?;
        }
        Ok(Step { jobs: ids.into_iter().zip(changed).collect(), unread: found.unread })
    }
}

/// Returns the states in which the action can be done to a job.
#[must_use]
pub fn states(action: JobAction) -> Vec<State> {
    State::ALL.into_iter().filter(|state| action.changes(*state)).collect()
}

/// Returns a filter that lets no job through which came after the beginning, or to which the action may have been done since.
fn frozen(filter: Filter, action: JobAction, start: Timestamp) -> Filter {
    let start = Some(start);
    let last = match action {
        // One that is cancelled is final, and so can't be met again.
        JobAction::Cancel => LastTimes::default(),
        JobAction::Redrive | JobAction::Remove => LastTimes { finished_until: start, leased_until: None },
        JobAction::RunNow => LastTimes { leased_until: start, finished_until: None },
    };
    let enqueued_until = filter.enqueued_until.min(start).or(start);
    Filter { enqueued_until, last, ..filter }
}

/// Summary of a command on many jobs so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BulkSummary {
    /// Number of jobs to which it was done.
    pub done: u64,
    /// Number of jobs whose daemons were told to stop them.
    pub requested: u64,
    /// Numbers of the others, by the reason why they were left out.
    pub left_out: BTreeMap<LeftOut, u64>,
}

/// Reason why a bulk command has left a job out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LeftOut {
    /// The job is in another state meanwhile, or the action can't be done to it.
    State(State),
    /// The job was leased or has ended since the command began.
    Touched,
    /// Another job that isn't final holds its unique key.
    UniqueKey,
    /// The stored job can't be read.
    Unreadable,
    /// The job is no longer there.
    Gone,
}

impl LeftOut {
    /// Name of the reason.
    #[must_use]
    pub fn slug(self) -> &'static str {
        match self {
            Self::State(state) => state.slug(),
            Self::Touched => "touched",
            Self::UniqueKey => "unique-key",
            Self::Unreadable => "unreadable",
            Self::Gone => "gone",
        }
    }
}

impl BulkSummary {
    /// Counts what a step has done.
    pub fn add(&mut self, step: &Step<Changed>) {
        for (_, changed) in &step.jobs {
            let left_out = match changed {
                Changed::Done => {
                    self.done += 1;
                    continue;
                }
                Changed::Requested => {
                    self.requested += 1;
                    continue;
                }
                Changed::Not(state) => LeftOut::State(*state),
                Changed::Touched => LeftOut::Touched,
                Changed::Duplicate(_) => LeftOut::UniqueKey,
                Changed::Unreadable => LeftOut::Unreadable,
                Changed::Unknown => LeftOut::Gone,
            };
            *self.left_out.entry(left_out).or_default() += 1;
        }
        if !step.unread.is_empty() {
            *self.left_out.entry(LeftOut::Unreadable).or_default() += step.unread.len() as u64;
        }
    }

    /// Number of jobs that were left out.
    #[must_use]
    pub fn left_out(&self) -> u64 {
        self.left_out.values().sum()
    }

    /// Number of all jobs that were gone through.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.done + self.requested + self.left_out()
    }

    /// Writes to the log what a command has done, and who has given it.
    pub fn audit(&self, bulk: &Bulk, by: Option<&str>, is_whole: bool) {
        tracing::info!(
            target: AUDIT,
            tenant = %bulk.tenant,
            by = by.unwrap_or("unknown"),
            action = name(bulk.action),
            filter = %Told(bulk),
            done = self.done,
            requested = self.requested,
            left_out = self.left_out(),
            is_whole,
            "a command on many jobs",
        );
    }
}

/// The filter of a command, for people.
struct Told<'b>(&'b Bulk);

impl fmt::Display for Told<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Bulk { filter, named, .. } = self.0;
        let Filter { queue, kind, reason, enqueued_from, enqueued_until, group, labels, message, last: _ } =
            filter;
        let mut parts: Vec<String> = Vec::new();
        let mut part = |name: &str, value: Option<String>| {
            parts.extend(value.map(|value| format!("{name}={value}")));
        };
        part("state", named.map(|state| state.to_string()));
        part("queue", queue.as_ref().map(ToString::to_string));
        part("kind", kind.as_ref().map(ToString::to_string));
        part("reason", reason.map(|reason| reason.slug().to_owned()));
        part("group", group.as_ref().map(ToString::to_string));
        for (name, value) in labels.iter() {
            part("label", Some(format!("{name}={value}")));
        }
        part("message", (!message.is_empty()).then(|| format!("{message:?}")));
        part("since", enqueued_from.map(|at| Time(at).to_string()));
        part("until", enqueued_until.map(|at| Time(at).to_string()));
        f.write_str(&parts.join(" "))
    }
}

/// Target of log lines about what people have done.
pub const AUDIT: &str = "sandhog::audit";

fn name(action: JobAction) -> &'static str {
    match action {
        JobAction::Cancel => "cancel",
        JobAction::Redrive => "redrive",
        JobAction::RunNow => "run-now",
        JobAction::Remove => "remove",
    }
}
