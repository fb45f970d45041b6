//! What the operator wrote, checked: every value in here is valid, and fits with the others.
//!
//! [`load`] reads the daemon's file and the folder of plugin files beside it. Either the whole of it is right, or all
//! that is wrong with it comes back at once, each with its place. Each part is handed by value to whatever it
//! configures; nobody else reads files or the environment.

use std::collections::BTreeMap;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use sandhog_broker::Keep;
use sandhog_core::budget::{Budget, Bytes, Caps};
use sandhog_core::id::{Kind, PluginName, QueueName, Revision, TenantId};
use sandhog_core::settle::RetryPolicy;
use sandhog_engine::Grants;

/// All of it.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where jobs live.
    pub broker: Broker,
    /// How long leases hold.
    pub lease: Lease,
    /// The machine's share for guests.
    pub engine: Engine,
    /// What any run may spend at most, and what it may spend if nobody says otherwise.
    pub limits: Budget,
    /// How long running jobs may go on after the first signal to stop.
    pub grace: Duration,
    /// The teams.
    pub tenants: BTreeMap<TenantId, Tenant>,
    /// Their plugins. Every tenant and name pair, and every tenant and kind pair, is there once.
    pub plugins: Vec<Plugin>,
}

/// Where jobs live.
#[derive(Debug, Clone)]
pub enum Broker {
    /// A SQLite file on this machine.
    Embedded {
        /// The file.
        path: PathBuf,
    },
    /// A Redis or Valkey server.
    Redis(sandhog_broker::redis::Config),
}

/// How long leases hold. `margin + renew_every < ttl` always.
#[derive(Debug, Clone, Copy)]
pub struct Lease {
    /// From the broker's answer on.
    pub ttl: Duration,
    /// So much earlier the daemon stops to trust it.
    pub margin: Duration,
    /// How often leases are renewed, and progress and log lines stored.
    pub renew_every: Duration,
    /// After this many leases of a job ran out, it is buried.
    pub expiries_max: u32,
}

impl Default for Lease {
    fn default() -> Self {
        Self {
            ttl: Duration::from_secs(30),
            margin: Duration::from_secs(5),
            renew_every: Duration::from_secs(5),
            expiries_max: 5,
        }
    }
}

/// The machine's share for guests.
#[derive(Debug, Clone)]
pub struct Engine {
    /// Threads that run guests and nothing else.
    pub threads: NonZeroUsize,
    /// Runs that are under way at once, waiting ones included.
    pub concurrency: NonZeroU32,
    /// The call stack of a guest.
    pub stack: Bytes,
    /// Where compiled components are kept; only the daemon's user may write there.
    pub cache: PathBuf,
}

/// A team.
#[derive(Debug, Clone)]
pub struct Tenant {
    /// Its share of the processors, relative to the other tenants'.
    pub weight: NonZeroU32,
    /// Its runs under way at once.
    pub concurrency: NonZeroU32,
    /// What its runs may spend at most.
    pub limits: Caps,
}

/// A component and its terms.
#[derive(Debug, Clone)]
pub struct Plugin {
    /// Its name, unique within its tenant.
    pub name: PluginName,
    /// Whose it is.
    pub tenant: TenantId,
    /// The file it is written in, for messages.
    pub file: PathBuf,
    /// The component.
    pub component: PathBuf,
    /// The only revision that may be loaded, if the operator pinned one.
    pub sha256: Option<Revision>,
    /// What it handles; unique within its tenant.
    pub kinds: Vec<Kind>,
    /// Where its jobs wait, unless their producer says otherwise.
    pub queue: QueueName,
    /// What its runs may spend at most.
    pub limits: Caps,
    /// The largest payload that it takes.
    pub payload: Bytes,
    /// Its runs under way at once.
    pub concurrency: NonZeroU32,
    /// When its jobs are tried again.
    pub retry: RetryPolicy,
    /// How long its final jobs are kept.
    pub keep: Keep,
    /// What it may reach.
    pub grants: Grants,
}
