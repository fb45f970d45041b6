//! Commands other than the running of jobs: on jobs, on a tenant, and on the trials of canaries.

use std::collections::BTreeMap;
use std::time::Duration;

use sandhog_core::edit::{Edited, JobEdit};
use sandhog_core::event::{EventCursor, EventKeep};
use sandhog_core::flow::Flow;
use sandhog_core::group::QueueRule;
use sandhog_core::group_limit::GroupLimitChange;
use sandhog_core::hold::{HoldScope, NewHold};
use sandhog_core::id::{GroupKey, JobId, PluginName, QueueName};
use sandhog_core::job::State;
use sandhog_core::quota::{QueueBounds, QueueExcess};
use sandhog_core::time::Timestamp;
use sandhog_core::transition::too_many_expiries;
pub use sandhog_core::transition::{JobAction, KeepMax};
use sandhog_core::trial::{TrialReport, TrialStatus};

use crate::{BreakerWrite, BreakerWritten, Error, LastTimes, Result, ScheduleWrite, ScheduleWritten};

/// A command to [`Broker::control`](crate::Broker::control).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Applies one action to several jobs, each independently. Answered by [`Outcome::Jobs`].
    Jobs {
        /// The action.
        action: JobAction,
        /// The jobs.
        ids: Vec<JobId>,
        /// Condition on what each job still is; `None` for no such condition.
        still: Option<Still>,
    },
    /// Edits a job that waits, as a whole or not at all. Answered by [`Outcome::Edited`].
    Edit {
        /// The job.
        job: JobId,
        /// The edit.
        edit: Box<JobEdit>,
        /// Bounds of a payload, and of the tenant's waiting payloads.
        bounds: QueueBounds,
    },
    /// Brings a tenant's jobs up to date, in bounded steps: makes due jobs ready, takes back expired leases, settles the edges of
    /// flows whose jobs have ended, removes final jobs and state that are past their time, and gives turns in groups to those who
    /// wait for them. Works even if the store is full. Answered by [`Outcome::Swept`].
    Sweep(Sweep),
    /// Removes everything that is kept of a tenant, its usage last, up to `most` jobs and values of state in one step. Answered
    /// by [`Outcome::Left`].
    Purge {
        /// Maximum number of jobs and values to remove; at least 1.
        most: usize,
    },
    /// Sets the rules for groups of all queues of a tenant; other queues have none from now on. Where a queue had no rule, ready
    /// jobs of groups are held to it from now on as well, the first [`GROUPED_MAX`] of the queue, and leased ones count. Other
    /// changes show as jobs come and go, and by sweeps. In a queue that becomes fair the first [`GROUPED_MAX`] ready jobs get new
    /// places; in one that isn't any more the ready ones keep theirs, before all that come. Answered by [`Outcome::Done`].
    ///
    /// [`GROUPED_MAX`]: crate::GROUPED_MAX
    SetGroupRules(BTreeMap<QueueName, QueueRule>),
    /// Takes their turns from the dead jobs that hold a group, so that it goes on. Answered by [`Outcome::Released`].
    ReleaseGroup {
        /// The queue.
        queue: QueueName,
        /// The group.
        group: GroupKey,
    },
    /// Changes the limit of a single group, and gives the turns that are left to those who wait for them. It counts where the rule of
    /// the queue is a [`Concurrency`](sandhog_core::group::GroupRule::Concurrency). Works even if the store is full. Answered by
    /// [`Outcome::Limited`].
    LimitGroup {
        /// The queue.
        queue: QueueName,
        /// The group.
        group: GroupKey,
        /// The change.
        change: Box<GroupLimitChange>,
    },
    /// Reports a daemon's counts in a canary's trial, by the rules of [`Trial::report`]. Repeating it changes nothing. Answered
    /// by [`Outcome::Trial`].
    ///
    /// [`Trial::report`]: sandhog_core::trial::Trial::report
    Trial(Box<TrialReport>),
    /// Holds jobs back: none of those that the scope covers is leased from now on, until the hold ends. What runs goes on. Works
    /// even if the store is full. Answered by [`Outcome::Hold`].
    Hold(Box<NewHold>),
    /// Ends the hold of this very scope. Holds of other scopes stay, whether or not they cover the same jobs. Answered by
    /// [`Outcome::Hold`].
    Lift(HoldScope),
    /// Stores a flow in one step, or nothing of it. Repeating it changes nothing and answers [`FlowStored::Stored`] again, for as
    /// long as a job of the flow is kept. Answered by [`Outcome::Flow`].
    Flow {
        /// The flow.
        flow: Box<Flow>,
        /// Bounds of the tenant's waiting jobs, those of the flow included.
        bounds: QueueBounds,
    },
    /// Writes a schedule's record, if it is still the one that was read, and enqueues jobs of it, in one step. Answered by
    /// [`Outcome::Schedule`].
    Schedule(Box<ScheduleWrite>),
    /// Writes a breaker's record and its gate, if it is still the one that was read. Works even if the store is full. Answered by
    /// [`Outcome::Breaker`].
    Breaker(Box<BreakerWrite>),
    /// Has the events of the tenant's jobs recorded for [`EventKeep::time`] from now on, and keeps as many as this says. Events that
    /// are kept already stay. Without readers that say so again and again, nothing is recorded. Answered by [`Outcome::Recording`].
    RecordEvents(EventKeep),
}

/// Condition for an action on jobs that a list has found: that they are still as it has found them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Still {
    /// The state; a job in another one is answered by [`Changed::Not`]. `None` for any.
    pub state: Option<State>,
    /// The latest times of its latest lease and of its end; a job that was leased or has ended since is answered by
    /// [`Changed::Touched`].
    pub last: LastTimes,
}

impl Still {
    /// Returns the answer to an action on a job that is something else by now; `None` if it is still what it was.
    pub(crate) fn refusal(
        self,
        state: State,
        leased_at: Option<Timestamp>,
        finished_at: Option<Timestamp>,
    ) -> Option<Changed> {
        if self.state.is_some_and(|found| found != state) {
            return Some(Changed::Not(state));
        }
        (!self.last.pass(leased_at, finished_at)).then_some(Changed::Touched)
    }
}

/// Parameters of a [`Command::Sweep`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sweep {
    /// Maximum number of lease expiries of a job without an attempt that ended in between. With the next one it is buried, as it
    /// seems to kill its daemons.
    pub expiries_max: u32,
    /// Maximum numbers of final jobs kept, whatever their keep times.
    pub keep_max: KeepMax,
    /// The same for the final jobs that are [counted](sandhog_core::transition::Keep::is_counted) among those of a plugin.
    pub keep_max_of: BTreeMap<PluginName, KeepMax>,
}

impl Sweep {
    /// Creates a sweep that buries a job with the expiry after this many, and keeps the default numbers of final jobs.
    #[must_use]
    pub fn new(expiries_max: u32) -> Self {
        Self { expiries_max, keep_max: KeepMax::default(), keep_max_of: BTreeMap::new() }
    }

    /// Returns the message, for people, that is stored with a job that this sweep buries.
    pub(crate) fn buried_message(&self) -> String {
        too_many_expiries(self.expiries_max)
    }
}

/// Result of a sweep.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Swept {
    /// Jobs that were buried because their leases had expired too often.
    pub buried: Vec<JobId>,
    /// Time until the next sweep: zero if a bounded step left something undone, or edges of flows are to be settled, else the
    /// time until the next scheduled job is due, the next lease expires, or the next hold or limit of a group ends.
    /// `None` if there is none of these.
    pub next_due: Option<Duration>,
    /// Time until the next schedule is due; zero if one is. `None` if none will be.
    pub next_schedule: Option<Duration>,
    /// Time until the next final job is past its keep time. `None` if there is none.
    pub next_removal: Option<Duration>,
    /// Whether any job is ready that isn't held back. A daemon that missed the news of it can look for work now.
    pub has_ready: bool,
    /// Number of jobs of which something can't be read, as another version wrote it. They stay as they are. See
    /// [`Counts::unreadable`](crate::Counts::unreadable).
    pub unreadable: u64,
}

/// The answer to a [`Command`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Result for each job, in the order of the command.
    Jobs(Vec<Changed>),
    /// Result of an edit.
    Edited(Edited),
    /// Result of a sweep.
    Swept(Swept),
    /// Number of jobs and values of state that a purge has left.
    Left(u64),
    /// Status of a trial.
    Trial(TrialStatus),
    /// Result of a write of a schedule.
    Schedule(ScheduleWritten),
    /// Result of a write of a breaker.
    Breaker(BreakerWritten),
    /// Result of a command on holds.
    Hold(HoldOutcome),
    /// The command was executed.
    Done,
    /// Whether the group was held.
    Released(bool),
    /// Result of a change of the limit of a group.
    Limited(GroupLimited),
    /// Result of storing a flow.
    Flow(FlowStored),
    /// Events are recorded, and this is the place behind the last one so far.
    Recording(EventCursor),
}

/// Result of a command on holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HoldOutcome {
    /// The hold is in force.
    Held,
    /// The hold has ended.
    Lifted,
    /// There is no hold of this scope. Nothing was changed.
    NotHeld,
    /// The tenant has [`HOLDS_MAX`](sandhog_core::hold::HOLDS_MAX) holds already. Nothing was changed.
    TooMany,
}

/// Result of a change of the limit of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupLimited {
    /// The change was made.
    Done,
    /// The group has no limit of its own. Nothing was changed.
    NotLimited,
    /// The tenant has [`GROUP_LIMITS_MAX`](sandhog_core::group_limit::GROUP_LIMITS_MAX) limits of single groups already. Nothing was
    /// changed.
    TooMany,
}

/// Result of storing a flow. If there are several reasons to refuse it, the answer is that of the first job that has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlowStored {
    /// The flow is stored.
    Stored,
    /// Another job that is not final holds the unique key of a job of the flow. Nothing was stored.
    Duplicate {
        /// The job of the flow.
        job: JobId,
        /// The job that holds the key.
        holder: JobId,
    },
    /// The payload of this job is larger than the bounds allow. Nothing was stored.
    TooLarge(JobId),
    /// The tenant's waiting jobs would pass the bounds. Nothing was stored.
    Full(QueueExcess),
    /// A job with this id, which isn't of this flow, is kept or was removed a moment ago. Nothing was stored.
    Taken(JobId),
}

impl Outcome {
    /// Returns the results for `count` jobs.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if this is the answer to another command, or for another number of jobs.
    pub(crate) fn jobs(self, count: usize) -> Result<Vec<Changed>> {
        match self {
            Self::Jobs(changed) if changed.len() == count => Ok(changed),
            _ => Err(Error::unasked("a command's outcome")),
        }
    }

    pub(crate) fn edited(self) -> Result<Edited> {
        match self {
            Self::Edited(edited) => Ok(edited),
            _ => Err(Error::unasked("a command's outcome")),
        }
    }

    pub(crate) fn swept(self) -> Result<Swept> {
        match self {
            Self::Swept(swept) => Ok(swept),
            _ => Err(Error::unasked("a command's outcome")),
        }
    }

    pub(crate) fn left(self) -> Result<u64> {
        match self {
            Self::Left(left) => Ok(left),
            _ => Err(Error::unasked("a command's outcome")),
        }
    }

    pub(crate) fn done(self) -> Result<()> {
        match self {
            Self::Done => Ok(()),
            _ => Err(Error::unasked("a command's outcome")),
        }
    }

    pub(crate) fn released(self) -> Result<bool> {
        match self {
            Self::Released(was_held) => Ok(was_held),
            _ => Err(Error::unasked("a command's outcome")),
        }
    }

    pub(crate) fn limited(self) -> Result<GroupLimited> {
        match self {
            Self::Limited(limited) => Ok(limited),
            _ => Err(Error::unasked("a command's outcome")),
        }
    }

    pub(crate) fn hold(self) -> Result<HoldOutcome> {
        match self {
            Self::Hold(outcome) => Ok(outcome),
            _ => Err(Error::unasked("a command's outcome")),
        }
    }

    pub(crate) fn breaker(self) -> Result<BreakerWritten> {
        match self {
            Self::Breaker(written) => Ok(written),
            _ => Err(Error::unasked("a command's outcome")),
        }
    }

    pub(crate) fn flow(self) -> Result<FlowStored> {
        match self {
            Self::Flow(stored) => Ok(stored),
            _ => Err(Error::unasked("a command's outcome")),
        }
    }

    pub(crate) fn recording(self) -> Result<EventCursor> {
        match self {
            Self::Recording(end) => Ok(end),
            _ => Err(Error::unasked("a command's outcome")),
        }
    }

    pub(crate) fn schedule(self) -> Result<ScheduleWritten> {
        match self {
            Self::Schedule(written) => Ok(written),
            _ => Err(Error::unasked("a command's outcome")),
        }
    }

    pub(crate) fn trial(self) -> Result<TrialStatus> {
        match self {
            Self::Trial(status) => Ok(status),
            _ => Err(Error::unasked("a command's outcome")),
        }
    }
}

/// Result of an action on one job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Changed {
    /// The action was applied.
    Done,
    /// The job is leased: its holder was notified by a [`Wake::Cancel`](crate::Wake::Cancel), and will stop it.
    Requested,
    /// The action can't be applied to a job in this state.
    Not(State),
    /// Another job that is not final now holds its unique key; this is the other job's id.
    Duplicate(JobId),
    /// The job was leased or has ended since it was found. Nothing was changed.
    Touched,
    /// The tenant has no such job.
    Unknown,
    /// This version can't read what is stored of the job. Nothing was changed.
    Unreadable,
}
