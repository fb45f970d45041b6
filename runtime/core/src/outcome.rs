//! Outcomes of runs, and what runs spend.

use std::fmt;
use std::time::Duration;

use crate::budget::{Budget, Bytes, Fuel};
use crate::effects::Effects;
use crate::id::{DownstreamName, FailureCode};
use crate::reason::Reason;

/// Resources that a run spent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Fuel in instructions, including those charged for host calls.
    pub fuel: Fuel,
    /// Peak of the run's memories together.
    pub memory_peak: Bytes,
    /// Wall-clock time from start to end.
    pub wall: Duration,
    /// CPU time, including what the host did for the run meanwhile.
    pub cpu: Duration,
    /// Number of calls from the guest to the host.
    pub host_calls: u64,
}

impl Usage {
    /// Returns what two runs spent together; of the peaks, the higher.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            fuel: Fuel(self.fuel.0.saturating_add(other.fuel.0)),
            memory_peak: self.memory_peak.max(other.memory_peak),
            wall: self.wall.saturating_add(other.wall),
            cpu: self.cpu.saturating_add(other.cpu),
            host_calls: self.host_calls.saturating_add(other.host_calls),
        }
    }
}

/// Reason why a run was stopped from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StopReason {
    /// Somebody cancelled the job.
    Cancelled,
    /// The daemon shuts down, and the grace period is over.
    Drained,
    /// The lease can't be trusted any longer.
    LeaseLost,
    /// The timeout has passed.
    Deadline,
}

/// Limit that a run hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Limit {
    /// [`Budget::fuel`].
    Fuel,
    /// [`Budget::memory`].
    Memory,
    /// [`Budget::table_elements`].
    Table,
    /// The guest's call stack, which is the same for all.
    Stack,
    /// [`Budget::timeout`].
    Time,
    /// [`Budget::output`].
    Output,
    /// Many times [`Budget::log`]; past that limit itself, lines are only dropped.
    Log,
    /// [`Budget::effects`].
    Effects,
    /// [`Budget::instances`].
    Instances,
    /// [`Budget::host_calls`].
    HostCalls,
    /// [`Budget::enqueues`].
    Enqueues,
    /// [`Budget::state_writes`].
    StateWrites,
    /// The memory of all runs of the tenant together.
    TenantMemory,
}

impl Limit {
    /// Returns the reason that a job gets for hitting this limit.
    #[must_use]
    pub fn reason(self) -> Reason {
        match self {
            Self::Fuel => Reason::OutOfFuel,
            Self::Memory => Reason::OutOfMemory,
            Self::Table => Reason::OutOfTable,
            Self::Stack => Reason::StackOverflow,
            Self::Time => Reason::TimedOut,
            Self::Output => Reason::TooMuchOutput,
            Self::Log => Reason::TooMuchLog,
            Self::Effects => Reason::TooManyEffects,
            Self::Instances => Reason::TooManyInstances,
            Self::HostCalls => Reason::TooManyHostCalls,
            Self::Enqueues => Reason::TooManyEnqueues,
            Self::StateWrites => Reason::TooManyStateWrites,
            Self::TenantMemory => Reason::TenantOutOfMemory,
        }
    }

    /// Every limit there is.
    pub const ALL: [Self; 13] = [
        Self::Fuel,
        Self::Memory,
        Self::Table,
        Self::Stack,
        Self::Time,
        Self::Output,
        Self::Log,
        Self::Effects,
        Self::Instances,
        Self::HostCalls,
        Self::Enqueues,
        Self::StateWrites,
        Self::TenantMemory,
    ];

    /// Whether the same code on the same input would hit it again.
    #[must_use]
    pub fn is_deterministic(self) -> bool {
        match self {
            Self::Fuel
            | Self::Memory
            | Self::Table
            | Self::Stack
            | Self::Output
            | Self::Log
            | Self::Effects
            | Self::Instances
            | Self::Enqueues
            | Self::StateWrites => true,
            // These depend on the machine, or on what else is going on.
            Self::Time | Self::HostCalls | Self::TenantMemory => false,
        }
    }

    /// Explains which limit was hit and which line of TOML to change, with the value that was in force.
    #[must_use]
    pub fn explain(self, budget: &Budget) -> String {
        match self {
            Self::Fuel => format!("out of fuel after {} units; raise limits.fuel", budget.fuel),
            Self::Memory => format!("out of memory at {}; raise limits.memory", budget.memory),
            Self::Table => {
                format!("out of table at {} elements; raise limits.table_elements", budget.table_elements)
            }
            Self::Stack => {
                "recursed deeper than the stack; engine.stack is the same for all plugins".to_owned()
            }
            Self::Time => format!("timed out after {:?}; raise limits.timeout", budget.timeout),
            Self::Output => format!("output larger than {}; raise limits.output", budget.output),
            Self::Log => format!("logged without end, far past {}; log less or raise limits.log", budget.log),
            Self::Effects => {
                format!("state writes and enqueued jobs larger than {}; raise limits.effects", budget.effects)
            }
            Self::Instances => {
                format!("made of more than {} core instances; raise limits.instances", budget.instances)
            }
            Self::HostCalls => {
                format!("more than {} host calls in a second; raise limits.host_calls", budget.host_calls)
            }
            Self::Enqueues => format!("enqueued more than {} jobs; raise limits.enqueues", budget.enqueues),
            Self::StateWrites => {
                format!("wrote more than {} keys; raise limits.state_writes", budget.state_writes)
            }
            Self::TenantMemory => {
                "out of memory, as all runs of the tenant together have no more; raise memory".to_owned()
            }
        }
    }
}

/// Reason why a handler put its job off.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum PutOff {
    /// The job came too early.
    Snoozed,
    /// A service that the handler calls took no more calls: this downstream, if the handler named one.
    RateLimited(Option<DownstreamName>),
    /// A service that the handler calls didn't answer, or couldn't do what it was asked for: this downstream, if its name is one.
    Unavailable(Option<DownstreamName>),
}

impl PutOff {
    /// Returns the reason that the job gets.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::Snoozed => Reason::Snoozed,
            Self::RateLimited(_) => Reason::RateLimited,
            Self::Unavailable(_) => Reason::Unavailable,
        }
    }
}

/// Outcome of a run: what the guest did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The handler returned a result.
    Returned {
        /// The result.
        output: Vec<u8>,
        /// Effects to be written with it.
        effects: Effects,
    },
    /// The handler said that it failed, and that trying again may help.
    FailedTransiently {
        /// Description of what went wrong, in the handler's words.
        message: String,
        /// Kind of the failure; `None` if the handler names none.
        code: Option<FailureCode>,
        /// Time to wait before the next attempt, in place of the backoff; `None` for the backoff.
        retry_after: Option<Duration>,
    },
    /// The handler said that trying again can't help.
    FailedPermanently {
        /// Description of what went wrong, in the handler's words.
        message: String,
    },
    /// The handler put the job off.
    PutOff {
        /// Reason why it did.
        why: PutOff,
        /// Time after which the job is to be run again.
        after: Duration,
    },
    /// The guest broke a rule of WebAssembly, or panicked.
    Trapped {
        /// Wasmtime's name of the trap and where it was.
        message: String,
    },
    /// The run hit a limit.
    Exceeded {
        /// Limit that was hit.
        limit: Limit,
        /// Explanation with the limit's value and the setting to change.
        message: String,
    },
    /// The run was stopped from outside.
    Aborted(StopReason),
    /// The daemon failed. The tenant sees no more than that.
    HostFault {
        /// Details, for the operator's log alone.
        message: String,
    },
}

impl Outcome {
    /// Returns the reason that goes with the outcome; `None` for a result.
    #[must_use]
    pub fn reason(&self) -> Option<Reason> {
        match self {
            Self::Returned { .. } => None,
            Self::FailedTransiently { .. } => Some(Reason::Failed),
            Self::FailedPermanently { .. } => Some(Reason::FailedPermanently),
            Self::PutOff { why, .. } => Some(why.reason()),
            Self::Trapped { .. } => Some(Reason::Trapped),
            Self::Exceeded { limit, .. } => Some(limit.reason()),
            Self::Aborted(StopReason::Cancelled) => Some(Reason::Cancelled),
            Self::Aborted(StopReason::Drained) => Some(Reason::Drained),
            Self::Aborted(StopReason::LeaseLost) => Some(Reason::LeaseExpired),
            Self::Aborted(StopReason::Deadline) => Some(Reason::TimedOut),
            Self::HostFault { .. } => Some(Reason::HostFault),
        }
    }
}

/// Formats the outcome's slug, as metrics and logs name it.
impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason().map_or("returned", Reason::slug))
    }
}

/// Everything that is known when a run has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Outcome of the run.
    pub outcome: Outcome,
    /// Resources that the run spent.
    pub usage: Usage,
    /// Whether the run slept in between, until a timer or the answer to a host call woke it. One that didn't would take
    /// about its CPU time with a processor to itself.
    pub slept: bool,
}

impl Report {
    /// Returns the maximum time that the run would have taken with a processor to itself.
    #[must_use]
    pub fn needed(&self) -> Duration {
        if self.slept { self.usage.wall } else { self.usage.cpu }
    }
}
