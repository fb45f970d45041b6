//! What can be done to jobs beside running them.

use sandhog_core::id::JobId;
use sandhog_core::job::State;

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
}

/// What can be done to a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum JobAction {
    /// Cancels it: at once if it waits; with the help of its holder, who is told by a [`Wake::Cancel`](crate::Wake::Cancel),
    /// if it is leased.
    Cancel,
    /// Puts a dead letter back to ready, with its attempts and expiries at zero.
    Redrive,
}

/// The answer to a [`Command`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// What became of each job, in the order in which they were named.
    Jobs(Vec<Changed>),
}

impl Outcome {
    /// The answers for `count` jobs.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if it is the answer to another command.
    pub(crate) fn jobs(self, count: usize) -> Result<Vec<Changed>> {
        match self {
            Self::Jobs(changed) if changed.len() == count => Ok(changed),
            Self::Jobs(_) => Err(Error::unasked("a command's outcome")),
        }
    }
}

/// What became of a job that something was to be done to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Changed {
    /// It is done.
    Done,
    /// The job is leased: its holder was told and will stop it.
    Requested,
    /// It can't be done to a job in this state.
    Not(State),
    /// Another job that is not final holds its unique key by now.
    Duplicate(JobId),
    /// There is no such job of this tenant.
    Unknown,
}
