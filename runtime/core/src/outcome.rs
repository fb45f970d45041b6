//! How a run can end, and what it spent.

use std::fmt;
use std::time::Duration;

use crate::budget::{Budget, Bytes, Fuel};
use crate::effects::Effects;
use crate::reason::Reason;

/// What a run spent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Instructions, those of host calls included.
    pub fuel: Fuel,
    /// The largest sum of its memories.
    pub memory_peak: Bytes,
    /// From start to end.
    pub wall: Duration,
    /// On a processor, with what the host did for the run meanwhile.
    pub cpu: Duration,
    /// Calls from the guest to the host.
    pub host_calls: u64,
}

impl Usage {
    /// What two runs spent together; of the peaks, the higher.
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

/// Why a run was made to stop from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StopReason {
    /// Somebody cancelled the job.
    Cancelled,
    /// The daemon shuts down and the grace time is over.
    Drained,
    /// The lease can't be trusted any longer.
    LeaseLost,
    /// The timeout has passed.
    Deadline,
}

/// Which limit a run hit.
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
    /// Many times [`Budget::log`]: past that one, lines are only dropped.
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
    /// The reason that a job gets for it.
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

    /// What happened and which line of TOML to change, with the value that was in force.
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

/// What the guest did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It returned a result.
    Returned {
        /// The result.
        output: Vec<u8>,
        /// What is to be written with it.
        effects: Effects,
    },
    /// It said that it failed, and that trying again may help.
    FailedTransiently {
        /// What went wrong, in its words.
        message: String,
        /// When to try again, instead of by the backoff.
        retry_after: Option<Duration>,
    },
    /// It said that trying again can't help.
    FailedPermanently {
        /// What went wrong, in its words.
        message: String,
    },
    /// It broke a rule of WebAssembly, or panicked.
    Trapped {
        /// Wasmtime's name of the trap and where it was.
        message: String,
    },
    /// It hit a limit.
    Exceeded {
        /// Which one.
        limit: Limit,
        /// The limit's value and the knob.
        message: String,
    },
    /// It was stopped from outside.
    Aborted(StopReason),
    /// The daemon went wrong. The tenant sees no more than that.
    HostFault {
        /// For the operator's log alone.
        message: String,
    },
}

impl Outcome {
    /// The reason that goes with it; none for a result.
    #[must_use]
    pub fn reason(&self) -> Option<Reason> {
        match self {
            Self::Returned { .. } => None,
            Self::FailedTransiently { .. } => Some(Reason::Failed),
            Self::FailedPermanently { .. } => Some(Reason::FailedPermanently),
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

/// The outcome's slug, as metrics and logs name it.
impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason().map_or("returned", Reason::slug))
    }
}

/// All that is known when a run has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// How it ended.
    pub outcome: Outcome,
    /// What it spent.
    pub usage: Usage,
    /// Whether it slept in between, until a timer or the answer to a host call woke it. One that didn't would take about its
    /// CPU time with a processor to itself.
    pub slept: bool,
}

impl Report {
    /// How long it would have taken with a processor to itself, at most.
    #[must_use]
    pub fn needed(&self) -> Duration {
        if self.slept { self.usage.wall } else { self.usage.cpu }
    }
}
