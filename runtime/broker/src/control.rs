//! What can be done beside running jobs: to jobs, to a tenant, and to the trials of canaries.

use std::time::Duration;

use sandhog_core::id::JobId;
use sandhog_core::job::State;
use sandhog_core::transition::too_many_expiries;
pub use sandhog_core::transition::{JobAction, KeepMax};
use sandhog_core::trial::{TrialReport, TrialStatus};

use crate::{Error, Result};

/// What [`Broker::control`](crate::Broker::control) is asked to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Does one thing to several jobs, each by itself. Answered by [`Outcome::Jobs`].
    Jobs {
        /// What to do.
        action: JobAction,
        /// To which jobs.
        ids: Vec<JobId>,
    },
    /// Brings a tenant's jobs up to date, in bounded steps: makes ready what is due, takes back leases that have run out,
    /// removes final jobs and state that are past their time. A store that is full still does it. Answered by
    /// [`Outcome::Swept`].
    Sweep(Sweep),
    /// Removes all that is kept of a tenant, its usage last, up to `most` jobs and values of state in one step. Answered by
    /// [`Outcome::Left`].
    Purge {
        /// Bounds the step; at least 1.
        most: usize,
    },
    /// Says what a daemon has counted in a canary's trial, by the rules of [`Trial::report`]. Repeating it changes nothing.
    /// Answered by [`Outcome::Trial`].
    ///
    /// [`Trial::report`]: sandhog_core::trial::Trial::report
    Trial(Box<TrialReport>),
}

/// The terms of a [`Command::Sweep`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sweep {
    /// A job whose lease runs out for the time after this many, with no attempt that ended in between, is buried, as it
    /// seems to kill its daemons.
    pub expiries_max: u32,
    /// How many final jobs are kept, however long they may be.
    pub keep_max: KeepMax,
}

impl Sweep {
    /// A sweep that buries a job with the lease that runs out after this many, and keeps the usual number of final jobs.
    #[must_use]
    pub fn new(expiries_max: u32) -> Self {
        Self { expiries_max, keep_max: KeepMax::default() }
    }

    /// What is kept with a job that this buries, for people.
    pub(crate) fn buried_message(&self) -> String {
        too_many_expiries(self.expiries_max)
    }
}

/// What a sweep has done.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Swept {
    /// Jobs that it buried because their lease had run out too often.
    pub buried: Vec<JobId>,
    /// When to sweep again: at once (zero) if a bounded step left something undone, else when the next scheduled job is due
    /// or the next lease runs out.
    pub next_due: Option<Duration>,
    /// When the next final job is past its time.
    pub next_removal: Option<Duration>,
    /// Whether any job is ready: if nobody has heard of it, it is time.
    pub has_ready: bool,
    /// Jobs of which something can't be read, as another version wrote it. They stay as they are. See
    /// [`Counts::unreadable`](crate::Counts::unreadable).
    pub unreadable: u64,
}

/// The answer to a [`Command`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// What became of each job, in the order in which they were named.
    Jobs(Vec<Changed>),
    /// What a sweep has done.
    Swept(Swept),
    /// How many jobs and values of state a purge has left.
    Left(u64),
    /// How a trial stands.
    Trial(TrialStatus),
}

impl Outcome {
    /// The answers for `count` jobs.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if it is the answer to another command.
    pub(crate) fn jobs(self, count: usize) -> Result<Vec<Changed>> {
        match self {
            Self::Jobs(changed) if changed.len() == count => Ok(changed),
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

    pub(crate) fn trial(self) -> Result<TrialStatus> {
        match self {
            Self::Trial(status) => Ok(status),
            _ => Err(Error::unasked("a command's outcome")),
        }
    }
}

/// What became of a job that something was to be done to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Changed {
    /// It is done.
    Done,
    /// The job is leased: its holder was told, by a [`Wake::Cancel`](crate::Wake::Cancel), and will stop it.
    Requested,
    /// It can't be done to a job in this state.
    Not(State),
    /// Another job that is not final holds its unique key by now.
    Duplicate(JobId),
    /// There is no such job of this tenant.
    Unknown,
    /// What is stored of it can't be read by this version. Nothing was changed.
    Unreadable,
}
