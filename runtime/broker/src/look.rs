//! Queries of a broker, and their answers.

use std::ops::{Index, IndexMut, RangeInclusive};

use sandhog_core::account::{Day, DayUsage};
use sandhog_core::event::{EventCursor, EventPage};
use sandhog_core::flow::FlowJobView;
use sandhog_core::group_limit::LimitsUse;
use sandhog_core::hold::Hold;
use sandhog_core::id::{BreakerName, FlowJobName, GroupKey, JobId, Kind, PluginName, QueueName, StateKey};
use sandhog_core::job::{JobRecord, LogLine, State};
use sandhog_core::labels::Labels;
use sandhog_core::reason::Reason;
use sandhog_core::time::Timestamp;
use sandhog_core::waits::WaitFacts;

use crate::{Breakers, Error, Result, ScheduleQuery, Schedules};

/// A query for [`Broker::look`](crate::Broker::look).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Look {
    /// The whole record of a job. Answered by [`Seen::Job`].
    Job(JobId),
    /// The log lines that are kept with a job. Answered by [`Seen::Log`].
    Log(JobId),
    /// A page of the jobs of one state. Answered by [`Seen::Jobs`].
    Jobs(Query),
    /// The number of jobs in each state. Answered by [`Seen::Counts`].
    Counts,
    /// A stored value of a plugin's state. Answered by [`Seen::State`].
    State {
        /// The plugin whose state it is.
        plugin: PluginName,
        /// The key of the value.
        key: StateKey,
    },
    /// The usage of runs on these days. Answered by [`Seen::Usage`].
    Usage(RangeInclusive<Day>),
    /// The lanes of the tenant. Answered by [`Seen::Lanes`].
    Lanes,
    /// The breakers of which something is known, or the one of this name. Answered by [`Seen::Breakers`].
    Breakers(Option<BreakerName>),
    /// The holds that are in force, those of breakers included. Answered by [`Seen::Holds`].
    Holds,
    /// The facts about what a job waits for. Answered by [`Seen::Why`].
    Why(JobId),
    /// The groups that are held by dead jobs, those held for the longest time first, at most [`HELD_GROUPS_MAX`]. Answered by
    /// [`Seen::HeldGroups`].
    ///
    /// [`HELD_GROUPS_MAX`]: crate::HELD_GROUPS_MAX
    HeldGroups,
    /// The use of the tenant's limits, with those of single groups. Answered by [`Seen::Limits`].
    Limits,
    /// The jobs of a flow that are still kept, by the flow's id, which is that of its first job. Answered by [`Seen::Flow`].
    Flow(JobId),
    /// The states of the jobs that a job comes after, with their outputs up to this length in all. Answered by
    /// [`Seen::Parents`].
    Parents {
        /// The job that comes after them.
        job: JobId,
        /// Maximum total length of the outputs.
        bytes: usize,
    },
    /// Schedules of the tenant. Answered by [`Seen::Schedules`].
    Schedules(ScheduleQuery),
    /// A page of the census of queues, in the order of their names. Answered by [`Seen::Queues`].
    Queues {
        /// The queue behind which the page starts; `None` for the first page.
        after: Option<QueueName>,
        /// Maximum number of queues; 1 to [`QUEUES_PAGE_MAX`](crate::QUEUES_PAGE_MAX).
        max: usize,
    },
    /// A page of the events that are recorded. Answered by [`Seen::Events`].
    Events {
        /// The place behind which the page starts.
        after: EventCursor,
        /// Maximum number of events; 1 to [`EVENTS_PAGE_MAX`](sandhog_core::event::EVENTS_PAGE_MAX).
        max: usize,
    },
}

/// The answer to a [`Look`].
#[derive(Debug, Clone, PartialEq)]
pub enum Seen {
    /// The job, or `None` if there is no such job.
    Job(Option<Box<JobRecord>>),
    /// The log lines, oldest first.
    Log(Vec<LogLine>),
    /// The page of jobs.
    Jobs(Page),
    /// The counts.
    Counts(Counts),
    /// The value, or `None` if there is no value under the key.
    State(Option<Vec<u8>>),
    /// The usage, by day and plugin.
    Usage(Vec<DayUsage>),
    /// The lanes.
    Lanes(Lanes),
    /// The breakers.
    Breakers(Breakers),
    /// The holds, in the order of their scopes.
    Holds(Vec<Hold>),
    /// The facts about what the job waits for, or `None` if there is no such job.
    Why(Option<Box<WaitFacts>>),
    /// The held groups.
    HeldGroups(Vec<HeldGroup>),
    /// The use of the limits.
    Limits(Box<LimitsUse>),
    /// The jobs of the flow, or `None` if none of them is kept.
    Flow(Option<FlowView>),
    /// The parents, in the order in which the flow names them.
    Parents(Vec<ParentView>),
    /// The schedules.
    Schedules(Schedules),
    /// The page of events.
    Events(EventPage),
    /// The page of queues.
    Queues(QueuePage),
}

/// Defines methods that take the answer out of a [`Seen`], and fail if it answers another query.
macro_rules! answers {
    ($($(#[$doc:meta])* $name:ident: $variant:ident($found:ident) -> $answer:ty = $value:expr,)*) => {
        impl Seen {
            $($(#[$doc])* pub(crate) fn $name(self) -> Result<$answer> {
                match self {
                    Self::$variant($found) => Ok($value),
                    _ => Err(Error::unasked("what was seen")),
                }
            })*
        }
    };
}

answers! {
    job: Job(found) -> Option<JobRecord> = found.map(|job| *job),
    log: Log(lines) -> Vec<LogLine> = lines,
    page: Jobs(page) -> Page = page,
    counts: Counts(counts) -> Counts = counts,
    state: State(value) -> Option<Vec<u8>> = value,
    usage: Usage(usage) -> Vec<DayUsage> = usage,
    lanes: Lanes(lanes) -> Lanes = lanes,
    breakers: Breakers(breakers) -> Breakers = breakers,
    holds: Holds(holds) -> Vec<Hold> = holds,
    why: Why(facts) -> Option<WaitFacts> = facts.map(|facts| *facts),
    held_groups: HeldGroups(groups) -> Vec<HeldGroup> = groups,
    limits: Limits(found) -> LimitsUse = *found,
    flow: Flow(found) -> Option<FlowView> = found,
    parents: Parents(parents) -> Vec<ParentView> = parents,
    schedules: Schedules(schedules) -> Schedules = schedules,
    events: Events(page) -> EventPage = page,
    queues: Queues(page) -> QueuePage = page,
}

/// A page of the census of a tenant's queues.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueuePage {
    /// The queues that have a job which is not final, in the order of their names.
    pub queues: Vec<QueueCensus>,
    /// The queue behind which the next page starts, or `None` if this is the last page.
    pub next: Option<QueueName>,
    /// Time of the look, by the broker's clock.
    pub now: Timestamp,
}

/// The numbers of jobs of a queue that are not final, by state.
///
/// A store needn't keep count of all of them. It tells those of a state if the whole tenant has no more of them than
/// [`SCHEDULED_COUNTED_MAX`](crate::SCHEDULED_COUNTED_MAX) or [`LOOKED_UP_MAX`](crate::LOOKED_UP_MAX), and otherwise may leave them
/// open; the ready ones it always tells. What the tenant has of each state is exact in any case: see [`Counts`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueCensus {
    /// Name of the queue.
    pub queue: QueueName,
    /// Number of jobs that can be leased, or could if nothing held them back.
    pub ready: u64,
    /// Number of jobs that wait for their time; `None` if they were too many to count.
    pub scheduled: Option<u64>,
    /// Number of jobs that wait for others; `None` if they were too many to count.
    pub blocked: Option<u64>,
    /// Number of jobs that daemons hold; `None` if they were too many to count.
    pub leased: Option<u64>,
    /// Earliest time since which a ready job has waited, among the first ones of each priority: it was enqueued then, or last
    /// leased. For a job that had to wait for a time of its own, that time counts as well. `None` if none is ready.
    pub oldest_ready: Option<Timestamp>,
}

impl QueueCensus {
    /// Creates the census of a queue that has no jobs.
    #[must_use]
    pub fn empty(queue: QueueName) -> Self {
        let none = Some(0);
        Self { queue, ready: 0, scheduled: none, blocked: none, leased: none, oldest_ready: None }
    }
}

/// A group that is held by a dead job: its other jobs wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldGroup {
    /// The queue.
    pub queue: QueueName,
    /// The group.
    pub group: GroupKey,
    /// The dead job.
    pub job: JobId,
    /// Time at which it died.
    pub since: Timestamp,
}

/// A flow, as far as its jobs are still kept.
#[derive(Debug, Clone, PartialEq)]
pub struct FlowView {
    /// The jobs, in the order in which the flow was given.
    pub jobs: Vec<FlowJobView>,
    /// The jobs of the flow that can't be read.
    pub unread: Vec<Unread>,
}

/// State and output of a job that another comes after.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParentView {
    /// Name of the job in the flow.
    pub name: FlowJobName,
    /// Id of the job.
    pub id: JobId,
    /// State of the job; `None` if it isn't kept any more, or can't be read.
    pub state: Option<State>,
    /// Output of the job, if it succeeded, and its length is within what was asked for.
    pub output: Option<Vec<u8>>,
}

/// The lanes of a tenant.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Lanes {
    /// A number that changes whenever a lane comes or goes.
    pub number: u64,
    /// The queue and kind of each lane, in that order; at most [`LANES_MAX`](crate::LANES_MAX).
    pub lanes: Vec<(QueueName, Kind)>,
}

/// The number of jobs in each state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    states: [u64; State::ALL.len()],
    /// Number of jobs that this version can't read, as far as the store has found that out. Whether they count as ready as
    /// well is up to the store. If it is [`UNREADABLE_COUNTED_MAX`](crate::UNREADABLE_COUNTED_MAX), there may be more.
    pub unreadable: u64,
}

impl Counts {
    /// Creates counts with these numbers, and 0 for the other states.
    #[must_use]
    pub fn of(counts: &[(State, u64)]) -> Self {
        let mut all = Self::default();
        counts.iter().for_each(|(state, count)| all[*state] += count);
        all
    }

    /// Returns all states in the order of a job's life, each with its number of jobs.
    pub fn iter(&self) -> impl Iterator<Item = (State, u64)> {
        State::ALL.into_iter().zip(self.states)
    }

    /// Returns the number of jobs that are not final.
    #[must_use]
    pub fn unfinished(&self) -> u64 {
        self.iter().filter(|(state, _)| !state.is_final()).map(|(_, count)| count).sum()
    }

    /// Returns the number of all jobs.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.states.iter().sum()
    }
}

impl Index<State> for Counts {
    type Output = u64;
    fn index(&self, state: State) -> &u64 {
        &self.states[place(state)]
    }
}

impl IndexMut<State> for Counts {
    fn index_mut(&mut self, state: State) -> &mut u64 {
        &mut self.states[place(state)]
    }
}

fn place(state: State) -> usize {
    State::ALL.iter().position(|known| *known == state).expect("every state is one of them")
}

/// A query for one page of the jobs of a state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// The state of the jobs.
    pub state: State,
    /// The filter that listed jobs have to pass.
    pub filter: Filter,
    /// The place in the list behind which the page starts; `None` for the start of the list.
    pub after: Option<Cursor>,
    /// Maximum number of jobs on the page; 1 to [`Query::LIMIT_MAX`].
    pub limit: u32,
    /// Whether the jobs come with payload and output. If not, both are left empty.
    pub payloads: bool,
}

impl Query {
    /// Maximum number of jobs on one page.
    pub const LIMIT_MAX: u32 = 1000;
    /// Maximum number of jobs that one page looks at, whatever its filter finds among them.
    pub const LOOKED_AT_MAX: usize = 5000;
    /// Maximum total length of the payloads and outputs of one page, in bytes, unless those of its first job are longer.
    pub const BYTES_MAX: usize = 4 << 20;
    /// Length of what is read for one page, in bytes, at which it ends, whatever its filter has found.
    pub const READ_MAX: usize = 32 << 20;

    /// Creates a query for the first `limit` jobs of a state, with payload and output.
    #[must_use]
    pub fn of(state: State, limit: u32) -> Self {
        Self { state, filter: Filter::default(), after: None, limit, payloads: true }
    }
}

/// A filter of listed jobs, by properties that all have to match. A property that is `None` may be anything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// The job's queue.
    pub queue: Option<QueueName>,
    /// The job's kind.
    pub kind: Option<Kind>,
    /// The reason why the job is in its state.
    pub reason: Option<Reason>,
    /// The earliest time of enqueueing, inclusive.
    pub enqueued_from: Option<Timestamp>,
    /// The latest time of enqueueing, exclusive.
    pub enqueued_until: Option<Timestamp>,
    /// The job's group.
    pub group: Option<GroupKey>,
    /// Labels that the job has, among others.
    pub labels: Labels,
    /// Text that is a part of the message of why the job is in its state, as it is written. Empty for any message, or none.
    pub message: String,
    /// The latest times of its latest lease and of its end.
    pub last: LastTimes,
}

/// Times before which a job was last leased and has ended, if it ever was or has. A time that is `None` may be any. A command on
/// many jobs goes by them, so that it does nothing to a job twice.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LastTimes {
    /// Time before which the job was last leased.
    pub leased_until: Option<Timestamp>,
    /// Time before which the job has ended.
    pub finished_until: Option<Timestamp>,
}

impl LastTimes {
    /// Whether these are the times of a job that was last leased and has ended in time.
    #[must_use]
    pub fn pass(self, leased_at: Option<Timestamp>, finished_at: Option<Timestamp>) -> bool {
        let passes = |at: Option<Timestamp>, until: Option<Timestamp>| {
            until.is_none_or(|until| at.is_none_or(|at| at < until))
        };
        passes(leased_at, self.leased_until) && passes(finished_at, self.finished_until)
    }
}

impl Filter {
    /// Whether a job passes the filter.
    #[must_use]
    pub fn passes(&self, job: &JobRecord) -> bool {
        self.queue.as_ref().is_none_or(|queue| *queue == job.queue)
            && self.kind.as_ref().is_none_or(|kind| *kind == job.kind)
            && self.reason.is_none_or(|reason| Some(reason) == job.reason)
            && self.enqueued_from.is_none_or(|from| job.enqueued_at >= from)
            && self.enqueued_until.is_none_or(|until| job.enqueued_at < until)
            && self.group.as_ref().is_none_or(|group| Some(group) == job.options.group.as_ref())
            && self.labels.iter().all(|(name, value)| job.options.labels.get(name) == Some(value))
            && self.passes_message(job)
            && self.last.pass(job.leased_at, job.finished_at)
    }

    /// Whether the message of a job passes.
    #[must_use]
    pub fn passes_message(&self, job: &JobRecord) -> bool {
        self.message.is_empty() || job.message.as_ref().is_some_and(|message| message.contains(&self.message))
    }
}

/// A place in the list of a state. It stays valid while jobs come and go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor {
    /// The rank by which the list is ordered: a time in milliseconds, or for ready jobs a number that rises in their order.
    pub rank: u64,
    /// The job's id, which orders jobs of the same rank.
    pub id: JobId,
}

/// A page of a list of jobs. It may have fewer jobs than there is room for, or none, and still not be the last: what is looked at
/// for one page is bounded.
#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    /// The jobs, in the order of the list.
    pub jobs: Vec<JobRecord>,
    /// The place behind which the next page starts, or `None` if this is the last page.
    pub next: Option<Cursor>,
    /// The jobs of the page that can't be read.
    pub unread: Vec<Unread>,
    /// Time of the look, by the broker's clock.
    pub now: Timestamp,
}

/// A job that is stored but can't be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unread {
    /// The job's id.
    pub id: JobId,
    /// A description of what is wrong with the stored job.
    pub problem: String,
}
