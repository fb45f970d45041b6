//! Daemons of a fleet, as programs read them.

use serde::{Deserialize, Serialize};

use crate::Time;

/// JSON document of the fleet. Names and meanings stay as they are; more may come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DaemonsDocument {
    /// Time of the look, by the broker's clock, as are all times here.
    pub time: Time,
    /// Processes that have told of themselves lately, in the order in which they started.
    pub daemons: Vec<DaemonDocument>,
    /// Number of further ones whose word can't be read, as another version wrote it.
    pub unreadable: u64,
}

/// JSON document of a daemon, or of a process that only serves the interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DaemonDocument {
    /// Id of the process, for as long as it runs.
    pub id: String,
    /// Name of its machine; null for callers who speak for some tenants only.
    pub name: Option<String>,
    /// Version of the program.
    pub version: String,
    /// Time at which it started.
    pub started: Time,
    /// Time at which it was heard of last.
    pub seen: Time,
    /// Time at which it last leased jobs, or saw that there were none for it; null if it hasn't yet, or runs no jobs.
    pub last_fetch: Option<Time>,
    /// Maximum number of runs under way at once; 0 if it runs no jobs.
    pub slots: u32,
    /// Number of them that are taken.
    pub slots_used: u32,
    /// Whether it is on its way down, and leases no more.
    pub draining: bool,
    /// Number of plugins in force.
    pub plugins: u32,
    /// Tenants in scope that it serves, by name.
    pub tenants: Vec<String>,
    /// Queues of theirs that it leases from, by tenant and name.
    pub queues: Vec<ServedQueueDocument>,
    /// Whether these are all that it serves of them: it tells the first 500 only.
    pub complete: bool,
}

/// JSON document of a queue that a daemon serves.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ServedQueueDocument {
    /// The tenant.
    pub tenant: String,
    /// Name of the queue.
    pub queue: String,
}

impl DaemonDocument {
    /// Whether it leases jobs.
    #[must_use]
    pub fn serves(&self) -> bool {
        self.slots > 0 && !self.draining && !self.queues.is_empty()
    }
}
