//! Where jobs live: one small trait, and three homes behind it.
//!
//! - [`redis`]: one tenant, one hash slot; each transition is one script call that takes a batch.
//! - [`embedded`]: SQLite in a file, in the daemon's process.
//! - [`memory`]: the reference model. What it does is what the others have to do.
//!
//! Around them: [`sealed`] lets the store see ciphertext alone, [`routed`] gives each tenant a connection of its own, and
//! [`faulty`] goes wrong on purpose.
//!
//! The suite in `conformance`, a feature for tests, states the rules, one test each, and runs on all of them; a randomised
//! one plays the same operations on the model and on another, and compares every answer.
//!
//! # What every broker promises
//! - An operation either happened whole or not at all. [`Error::Unavailable`] leaves open which; repeating it with the
//!   same ids and tokens is safe.
//! - A stale token changes nothing.
//! - What is final stays final, until a redrive or until its keep time is over.
//! - A refusal is a value, not an error.
//! - No operation costs more as a queue, the schedule or the dead letters grow.

#[cfg(feature = "conformance")]
pub mod conformance;
mod control;
pub mod embedded;
pub mod faulty;
mod look;
pub mod memory;
pub mod redis;
pub mod routed;
pub mod sealed;
mod wake;

use std::ops::RangeInclusive;
use std::time::Duration;

use async_trait::async_trait;
use sandhog_core::account::{Account, Day, DayUsage, RunEnd, Traffic};
use sandhog_core::attempt::SettleReply;
use sandhog_core::budget::Bytes;
use sandhog_core::effects::Effects;
use sandhog_core::id::{
    DaemonId, JobId, Kind, LeaseToken, PluginName, QueueName, Revision, StateKey, TenantId,
};
use sandhog_core::job::{JobRecord, Lease, LogLine, NewJob, Progress};
use sandhog_core::outcome::Usage;
use sandhog_core::quota::{FuelQuota, FuelSpent, QueueBounds, QueueExcess, StateQuota};
use sandhog_core::settle::Settlement;
use sandhog_core::time::Timestamp;
pub use sandhog_core::transition::Keep;
use sandhog_core::trial::{TrialReport, TrialStatus};

pub use control::{Changed, Command, JobAction, KeepMax, Outcome, Sweep, Swept};
pub use look::{Counts, Cursor, Filter, Lanes, Look, Page, Query, Seen, Unread};
pub use wake::{Wake, Wakes};

/// Where jobs live. Every call is about one tenant, and every call that can takes a batch.
///
/// The hot path has a method for each step of a job's way. Whatever else is done to jobs is a [`Command`], and whatever is
/// looked at a [`Look`], so that a new one touches the stores and its caller, and nothing in between.
///
/// Replies come in the order of what was asked, one for each. Batches are borrowed, so that a caller whose call failed
/// still has what it wanted to say.
#[async_trait]
pub trait Broker: Send + Sync + 'static {
    /// Stores jobs. Once this returns, a job runs until it settles. Repeating a job's id changes nothing and answers
    /// [`Enqueued::Stored`] again, for as long as the job is kept.
    ///
    /// A job that would pass the bounds is refused; those before and after it are not.
    async fn enqueue_within(
        &self,
        tenant: &TenantId,
        jobs: &[NewJob],
        bounds: &QueueBounds,
    ) -> Result<Vec<Enqueued>>;

    /// Hands out leases on ready jobs. What is due or has run out is made ready by a [`Command::Sweep`], not by this.
    async fn lease(&self, ask: LeaseAsk<'_>) -> Result<Leased>;

    /// Prolongs leases, to `ttl` from now, and stores what the runs have reported meanwhile.
    async fn renew(&self, tenant: &TenantId, ttl: Duration, leases: &[Renew]) -> Result<Vec<Renewal>>;

    /// Records how runs ended, each with all its effects in one atomic step, if its token still holds.
    async fn settle(&self, tenant: &TenantId, settlements: &[Settle]) -> Result<Vec<SettleReply>>;

    /// Does what a person, an interface or the daemon's upkeep asks for.
    async fn control(&self, tenant: &TenantId, command: Command) -> Result<Outcome>;

    /// Looks something up. Changes nothing.
    async fn look(&self, tenant: &TenantId, look: Look) -> Result<Seen>;

    /// Starts to listen for work that turns up, for any of these tenants.
    async fn watch(&self, tenants: Vec<TenantId>) -> Result<Wakes>;

    /// Every tenant of which the store keeps anything, whether or not a daemon serves it, as far as the login may see.
    async fn tenants(&self) -> Result<Vec<TenantId>>;

    /// Checks that the store can be reached and is set up so that it can keep the promises above. The texts are
    /// warnings for the operator; what makes the store unfit is an error.
    async fn check(&self) -> Result<Vec<String>>;

    /// Stores jobs within the usual bounds; see [`Self::enqueue_within`].
    async fn enqueue(&self, tenant: &TenantId, jobs: &[NewJob]) -> Result<Vec<Enqueued>> {
        self.enqueue_within(tenant, jobs, &QueueBounds::default()).await
    }

    /// Brings a tenant's jobs up to date; see [`Command::Sweep`].
    async fn sweep(&self, tenant: &TenantId, sweep: Sweep) -> Result<Swept> {
        self.control(tenant, Command::Sweep(sweep)).await?.swept()
    }

    /// Removes what there is of a tenant, up to `most` jobs and values in this step; see [`Command::Purge`].
    async fn purge(&self, tenant: &TenantId, most: usize) -> Result<u64> {
        self.control(tenant, Command::Purge { most }).await?.left()
    }

    /// Says what a daemon has counted in a canary's trial, and hears how the trial stands; see [`Command::Trial`].
    async fn report_trial(&self, tenant: &TenantId, report: &TrialReport) -> Result<TrialStatus> {
        self.control(tenant, Command::Trial(Box::new(report.clone()))).await?.trial()
    }

    /// Does one thing to several jobs; answers for each. See [`JobAction`].
    async fn act(&self, tenant: &TenantId, action: JobAction, jobs: &[JobId]) -> Result<Vec<Changed>> {
        self.control(tenant, Command::Jobs { action, ids: jobs.to_vec() }).await?.jobs(jobs.len())
    }

    /// Cancels a job; see [`JobAction::Cancel`].
    async fn cancel(&self, tenant: &TenantId, job: JobId) -> Result<Changed> {
        Ok(self.act(tenant, JobAction::Cancel, &[job]).await?[0])
    }

    /// Puts a dead letter back to ready; see [`JobAction::Redrive`].
    async fn redrive(&self, tenant: &TenantId, job: JobId) -> Result<Changed> {
        Ok(self.act(tenant, JobAction::Redrive, &[job]).await?[0])
    }

    /// Looks up all that is known of a job.
    async fn job(&self, tenant: &TenantId, job: JobId) -> Result<Option<JobRecord>> {
        self.look(tenant, Look::Job(job)).await?.job()
    }

    /// Looks up the log lines that are kept with a job, oldest first.
    async fn log(&self, tenant: &TenantId, job: JobId) -> Result<Vec<LogLine>> {
        self.look(tenant, Look::Log(job)).await?.log()
    }

    /// Lists jobs of one state: those waiting in the order in which they go, those final with the latest first.
    async fn jobs(&self, tenant: &TenantId, query: Query) -> Result<Page> {
        self.look(tenant, Look::Jobs(query)).await?.page()
    }

    /// Counts the jobs of each state.
    async fn counts(&self, tenant: &TenantId) -> Result<Counts> {
        self.look(tenant, Look::Counts).await?.counts()
    }

    /// Looks up a stored value of a plugin's state.
    async fn state(&self, tenant: &TenantId, plugin: &PluginName, key: &StateKey) -> Result<Option<Vec<u8>>> {
        self.look(tenant, Look::State { plugin: plugin.clone(), key: key.clone() }).await?.state()
    }

    /// Looks up which lanes there are.
    async fn lanes(&self, tenant: &TenantId) -> Result<Lanes> {
        self.look(tenant, Look::Lanes).await?.lanes()
    }

    /// Looks up what the tenant's runs have spent on these days, by day and plugin; days on which nothing ran are left
    /// out, and so are those that are over for longer than the broker keeps them ([`USAGE_DAYS_KEPT`]).
    async fn usage(&self, tenant: &TenantId, days: RangeInclusive<Day>) -> Result<Vec<DayUsage>> {
        self.look(tenant, Look::Usage(days)).await?.usage()
    }
}

/// What a call to a broker yields.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a broker couldn't do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It can't be reached, or didn't answer in time. Whether the operation happened is open.
    #[error("the broker is unavailable: {what} failed: {cause}")]
    Unavailable {
        /// What was being done.
        what: &'static str,
        /// What came back instead of an answer.
        cause: String,
    },
    /// It is there, and takes no writes, as its memory or disk is full. Nothing was changed; trying again helps once there is
    /// room.
    #[error("the broker takes no writes: {what} failed: {cause}")]
    Full {
        /// What was being done.
        what: &'static str,
        /// What the store said.
        cause: String,
        /// What makes room.
        remedy: &'static str,
    },
    /// It holds something that this version can't read.
    #[error("the broker holds something unreadable at `{at}`: {problem}")]
    Corrupt {
        /// The key, table or field.
        at: String,
        /// What is wrong with it.
        problem: String,
    },
    /// It holds something that is sealed, and can't be opened.
    #[error("{what} of tenant {tenant} can't be opened: {why}")]
    Sealed {
        /// What it is, and where it stands; nothing of its content.
        what: String,
        /// Whose it is.
        tenant: TenantId,
        /// Why not.
        why: String,
    },
    /// It is not set up as it has to be. Trying again won't help.
    #[error("the broker is not fit for use: {problem}")]
    Unfit {
        /// What is wrong, and what to change.
        problem: String,
    },
    /// It has a bug, which this operation has met. Nothing of it has happened.
    #[error(
        "the broker has a bug: {what} panicked, and nothing of it was done; the log says where: please report it"
    )]
    Bug {
        /// What was being done.
        what: &'static str,
    },
}

impl Error {
    /// An answer of another kind than what was asked for: a bug of a broker, or of one around it.
    pub(crate) fn unasked(at: &str) -> Self {
        Self::Corrupt { at: at.to_owned(), problem: "it answers another question than was asked".to_owned() }
    }
}

/// The answer to an enqueue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Enqueued {
    /// It is stored.
    Stored,
    /// A job that is not final holds its unique key. Nothing was stored.
    Duplicate(JobId),
    /// Its payload is larger than the bounds allow. Nothing was stored.
    TooLarge,
    /// Its tenant has as much waiting as the bounds allow. Nothing was stored.
    Full(QueueExcess),
}

/// Who asks for leases, and whether it has asked for the same before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asker {
    /// The daemon.
    pub daemon: DaemonId,
    /// The number of what it asks for, which rises with each new one.
    pub number: u64,
    /// Whether the answer to the same number was lost: then what was handed out by it is handed out again, prolonged, as far
    /// as it still holds.
    pub repeats: bool,
}

/// What a daemon asks for.
#[derive(Debug, Clone, Copy)]
pub struct LeaseAsk<'a> {
    /// Whose jobs.
    pub tenant: &'a TenantId,
    /// How many of which queue at most, its lanes included; served in this order.
    pub queues: &'a [(QueueName, u32)],
    /// The lanes of those queues that are to be served as well. Jobs of a queue and its lanes go in one order. Naming a lane
    /// makes it one: see [`LaneAsk`].
    pub lanes: &'a [LaneAsk],
    /// How many of them, over all queues, may be suspects: jobs whose lease has run out since an attempt of them last ended.
    /// Those go before the others of their queue.
    pub suspects: u32,
    /// No further job is handed out whose payload would make the payloads longer than this together; the first always is.
    pub bytes: Bytes,
    /// How long the leases hold, unless renewed.
    pub ttl: Duration,
    /// How much fuel the tenant's runs may spend. If it is used up and jobs are to be held then, none is handed out.
    pub fuel: Option<FuelQuota>,
    /// Who asks. What is handed out to nobody in particular can't be handed out again.
    pub asker: Option<Asker>,
}

impl<'a> LeaseAsk<'a> {
    /// The payloads of one call's leases are at most this long together, unless the first one is longer.
    pub const BYTES: Bytes = Bytes::mib(4);

    /// Asks for jobs of these queues, one suspect among them, within [`Self::BYTES`].
    #[must_use]
    pub fn new(tenant: &'a TenantId, queues: &'a [(QueueName, u32)], ttl: Duration) -> Self {
        Self { tenant, queues, lanes: &[], suspects: 1, bytes: Self::BYTES, ttl, fuel: None, asker: None }
    }
}

/// A lane that a daemon asks for: the jobs of one kind in one queue, apart from the others of the queue.
///
/// A kind gets a lane of its own in a queue when a daemon names it, or when a job of it was released since that daemon has no
/// plugin for it ([`Reason::NoPlugin`](sandhog_core::reason::Reason::NoPlugin)). From then on its jobs go to those alone who
/// ask for the lane. A lane that is empty and was not named for [`LANE_KEPT`] is given up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaneAsk {
    /// Of which queue.
    pub queue: QueueName,
    /// Of which kind.
    pub kind: Kind,
    /// How many jobs at most.
    pub room: u32,
    /// How many of them may be leased at once, over all daemons.
    pub limit: Option<FleetLimit>,
}

/// How many jobs may be leased at once under one name, by all daemons together.
///
/// A job that is handed out counts against it until its lease ends, however it does, and is handed out only if there are then no
/// more of them than the ask says. If there are more already, as another ask said more, none of them is taken back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FleetLimit {
    /// The plugin, whose kinds share it.
    pub name: PluginName,
    /// How many.
    pub most: u32,
}

/// Jobs of a tenant that can't be read and are counted one by one; if there are more, a store says this number.
pub const UNREADABLE_COUNTED_MAX: u64 = 1000;

/// How long a lane is kept that is empty and that nobody asks for.
pub const LANE_KEPT: Duration = Duration::from_secs(60 * 60);

/// How old the note may be of when a lane was asked for.
pub const LANE_NOTED_EVERY: Duration = Duration::from_secs(10 * 60);

/// Lanes of a tenant that are told at most.
pub const LANES_MAX: usize = 10_000;

/// What a daemon gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leased {
    /// The leases.
    pub leases: Vec<Lease>,
    /// When a [`Command::Sweep`] will find something: at once (zero) if it would by now, else when the next scheduled job
    /// is due or the next lease runs out.
    pub next_due: Option<Duration>,
    /// What the tenant's settled runs had spent before this call, if it was asked with a [`LeaseAsk::fuel`].
    pub spent: Option<FuelSpent>,
    /// A number that changes whenever a lane comes or goes, 0 before the first: see [`Look::Lanes`].
    pub lanes: u64,
}

/// The prolonging of one lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Renew {
    /// Which lease.
    pub token: LeaseToken,
    /// The latest progress, if there was any since.
    pub progress: Option<Progress>,
    /// The log lines since.
    pub log: Vec<LogLine>,
}

impl Renew {
    /// A renewal that has nothing to report.
    #[must_use]
    pub fn new(token: LeaseToken) -> Self {
        Self { token, progress: None, log: Vec::new() }
    }
}

/// The answer to a renewal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Renewal {
    /// The lease goes on.
    Held,
    /// The lease goes on, and somebody wants the job cancelled.
    CancelRequested,
    /// The token is stale. Nothing was changed.
    Lost,
    /// What is stored of the job can't be read by this version. Nothing was changed.
    Unreadable,
}

/// How a run ended, for the record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settle {
    /// The proof.
    pub token: LeaseToken,
    /// What ran, whose state the effects are about. None if nothing ran: then effects are ignored, as they are nobody's.
    pub ran: Option<Ran>,
    /// What to record.
    pub settlement: Settlement,
    /// The last progress and log lines.
    pub progress: Option<Progress>,
    /// The log lines since the last renewal.
    pub log: Vec<LogLine>,
    /// How long the job is kept once it is final.
    pub keep: Keep,
}

/// What ran, and what it spent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ran {
    /// The plugin.
    pub plugin: PluginName,
    /// Its code.
    pub revision: Revision,
    /// What this run spent; the record adds it to that of earlier ones, with times to the microsecond.
    pub usage: Usage,
    /// What it took in and gave out.
    pub traffic: Traffic,
    /// How much state the plugin may keep.
    pub state_max: StateQuota,
    /// How much the tenant may have waiting, what this run enqueues among it.
    pub queue_max: QueueBounds,
}

impl Ran {
    /// A run that spent this, with no traffic, and within no bounds but those of the store.
    #[must_use]
    pub fn new(plugin: PluginName, revision: Revision, usage: Usage) -> Self {
        let (state_max, queue_max) = (StateQuota::NONE, QueueBounds::NONE);
        Self { plugin, revision, usage, traffic: Traffic::default(), state_max, queue_max }
    }
}

impl Settle {
    /// The end of a lease for which nothing ran, or nothing that is to be counted. The job is kept as long as usual.
    #[must_use]
    pub fn new(token: LeaseToken, settlement: Settlement) -> Self {
        Self { token, ran: None, settlement, progress: None, log: Vec::new(), keep: Keep::default() }
    }

    /// The end of a run. The job is kept as long as usual.
    #[must_use]
    pub fn of_run(token: LeaseToken, ran: Ran, settlement: Settlement) -> Self {
        Self { ran: Some(ran), ..Self::new(token, settlement) }
    }

    /// What a run that succeeded wants written. Nothing, if nothing ran, as it would be nobody's.
    fn effects(&self) -> Option<(&Ran, &Effects)> {
        match (&self.settlement, &self.ran) {
            (Settlement::Succeed { effects, .. }, Some(ran)) => Some((ran, effects)),
            _ => None,
        }
    }

    /// What a run that ends so adds to whose account of the day. Nothing, if nothing ran.
    fn account(&self, end: RunEnd) -> Option<(&PluginName, Account)> {
        let ran = self.ran.as_ref()?;
        Some((&ran.plugin, Account::of(end, ran.usage, ran.traffic)))
    }
}

/// Log lines that are kept with a job at most; the oldest go first.
pub const LOG_LINES_KEPT: usize = 1000;

/// Days whose usage is kept, today not among them: a year, and a month to bill it.
pub const USAGE_DAYS_KEPT: u32 = 400;

/// Jobs that one sweep makes ready, takes back or removes at most, each, so that none takes long.
pub const SWEEP_MAX: usize = 500;

/// Tells the calendar time to brokers that have no server with a clock of its own.
pub trait WallClock: Send + Sync + 'static {
    /// The time now.
    fn now(&self) -> Timestamp;
}

/// The clock of this machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl WallClock for SystemClock {
    fn now(&self) -> Timestamp {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_millis(sandhog_core::time::millis(since))
    }
}
