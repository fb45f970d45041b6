//! What can be looked at, and what is seen.

use std::ops::{Index, IndexMut, RangeInclusive};

use sandhog_core::account::{Day, DayUsage};
use sandhog_core::id::{JobId, Kind, PluginName, QueueName, StateKey};
use sandhog_core::job::{JobRecord, LogLine, State};
use sandhog_core::reason::Reason;
use sandhog_core::time::Timestamp;

use crate::{Error, Result};

/// What [`Broker::look`](crate::Broker::look) is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Look {
    /// All that is known of a job. Answered by [`Seen::Job`].
    Job(JobId),
    /// The log lines that are kept with a job. Answered by [`Seen::Log`].
    Log(JobId),
    /// Jobs of one state. Answered by [`Seen::Jobs`].
    Jobs(Query),
    /// How many jobs there are in each state. Answered by [`Seen::Counts`].
    Counts,
    /// A stored value. Answered by [`Seen::State`].
    State {
        /// Of which plugin.
        plugin: PluginName,
        /// Under which key.
        key: StateKey,
    },
    /// What runs have spent on these days. Answered by [`Seen::Usage`].
    Usage(RangeInclusive<Day>),
    /// Which lanes there are. Answered by [`Seen::Lanes`].
    Lanes,
}

/// The answer to a [`Look`].
#[derive(Debug, Clone, PartialEq)]
pub enum Seen {
    /// The job, if there is one.
    Job(Option<Box<JobRecord>>),
    /// The lines, oldest first.
    Log(Vec<LogLine>),
    /// The jobs.
    Jobs(Page),
    /// The counts.
    Counts(Counts),
    /// The value, if there is one.
    State(Option<Vec<u8>>),
    /// What was spent, by day and plugin.
    Usage(Vec<DayUsage>),
    /// The lanes.
    Lanes(Lanes),
}

/// Takes an answer apart, which has to be that to the question.
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
}

/// The lanes of a tenant.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Lanes {
    /// A number that changes whenever a lane comes or goes.
    pub number: u64,
    /// By queue and kind, in their order, at most [`LANES_MAX`](crate::LANES_MAX).
    pub lanes: Vec<(QueueName, Kind)>,
}

/// How many jobs there are in each state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    states: [u64; State::ALL.len()],
    /// Jobs that this version can't read, as far as the store has found that out: whether they count as ready as well, is the
    /// store's affair. If it is [`UNREADABLE_COUNTED_MAX`](crate::UNREADABLE_COUNTED_MAX), there may be more.
    pub unreadable: u64,
}

impl Counts {
    /// Counts with these numbers, and 0 for the other states.
    #[must_use]
    pub fn of(counts: &[(State, u64)]) -> Self {
        let mut all = Self::default();
        counts.iter().for_each(|(state, count)| all[*state] += count);
        all
    }

    /// All states in the order of a job's life, each with its number.
    pub fn iter(&self) -> impl Iterator<Item = (State, u64)> {
        State::ALL.into_iter().zip(self.states)
    }

    /// The number of jobs that are not final.
    #[must_use]
    pub fn unfinished(&self) -> u64 {
        self.iter().filter(|(state, _)| !state.is_final()).map(|(_, count)| count).sum()
    }

    /// The number of all jobs.
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

/// Which jobs to list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// Of which state.
    pub state: State,
    /// Which of those.
    pub filter: Filter,
    /// Behind which place in the list; from its start, if there is none.
    pub after: Option<Cursor>,
    /// How many at most; 1 to [`Query::LIMIT_MAX`].
    pub limit: u32,
    /// Whether they come with payload and output. Without, both are left empty.
    pub payloads: bool,
}

impl Query {
    /// One page holds no more than this.
    pub const LIMIT_MAX: u32 = 1000;
    /// One page looks at no more jobs than this, whatever its filter finds among them.
    pub const LOOKED_AT_MAX: usize = 5000;
    /// Payloads and outputs of one page are at most this long together, unless those of its first job are longer.
    pub const BYTES_MAX: usize = 4 << 20;

    /// The first `limit` jobs of a state, with payload and output.
    #[must_use]
    pub fn of(state: State, limit: u32) -> Self {
        Self { state, filter: Filter::default(), after: None, limit, payloads: true }
    }
}

/// What a job has to be like to be listed. What isn't said may be anything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Its queue.
    pub queue: Option<QueueName>,
    /// Its kind.
    pub kind: Option<Kind>,
    /// Why it is where it is.
    pub reason: Option<Reason>,
    /// It was enqueued at this time or later.
    pub enqueued_from: Option<Timestamp>,
    /// It was enqueued before this time.
    pub enqueued_until: Option<Timestamp>,
}

impl Filter {
    /// Whether a job is like that.
    #[must_use]
    pub fn passes(&self, job: &JobRecord) -> bool {
        self.queue.as_ref().is_none_or(|queue| *queue == job.queue)
            && self.kind.as_ref().is_none_or(|kind| *kind == job.kind)
            && self.reason.is_none_or(|reason| Some(reason) == job.reason)
            && self.enqueued_from.is_none_or(|from| job.enqueued_at >= from)
            && self.enqueued_until.is_none_or(|until| job.enqueued_at < until)
    }
}

/// A place in the list of a state. It stays good while jobs come and go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor {
    /// By what the list is ordered: a time in milliseconds; of ready jobs a number in which they go.
    pub rank: u64,
    /// Among those of the same rank.
    pub id: JobId,
}

/// Part of a list of jobs.
#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    /// The jobs, in the order of the list.
    pub jobs: Vec<JobRecord>,
    /// Where the next page begins. None if this one holds the last.
    pub next: Option<Cursor>,
    /// Those that can't be read.
    pub unread: Vec<Unread>,
}

/// A job that is there, and can't be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unread {
    /// Its id.
    pub id: JobId,
    /// What is wrong with what is stored.
    pub problem: String,
}
