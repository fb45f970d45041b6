//! Brokers, which store jobs: the trait [`Broker`], and its three implementations.
//!
//! - [`redis`]: Redis or Valkey. All keys of a tenant are in one hash slot; each transition is one script call for a batch.
//! - [`embedded`]: SQLite in a file, in the daemon's process.
//! - [`memory`]: the reference model, which defines the behaviour of the others.
//!
//! Wrappers around them: [`sealed`] lets the store see only ciphertext, [`routed`] gives each tenant a connection of its
//! own, and [`faulty`] injects faults.
//!
//! The suite in `conformance`, a feature for tests, states the rules, one test each, and runs on all implementations. A
//! randomised test runs the same operations on the model and on another implementation, and compares every answer.
//!
//! # Guarantees of every broker
//! - An operation is atomic: it happens as a whole or not at all. [`Error::Unavailable`] leaves open which; repeating it
//!   with the same ids and tokens is safe.
//! - A stale token changes nothing.
//! - A final job stays final until it is redriven, or removed at the end of its keep time.
//! - A refusal is a value, not an error.
//! - No operation costs more as a queue, the schedule or the dead letters grow.

mod breakers;
#[cfg(feature = "conformance")]
pub mod conformance;
mod control;
mod daemons;
pub mod embedded;
pub mod faulty;
mod look;
pub mod memory;
mod options;
mod pack;
pub mod redis;
pub mod routed;
mod schedules;
pub mod sealed;
mod wake;

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use async_trait::async_trait;
use sandhog_core::account::{Account, Day, DayUsage, RunEnd, Traffic};
use sandhog_core::attempt::SettleReply;
use sandhog_core::budget::Bytes;
use sandhog_core::edit::{Edited, JobEdit};
use sandhog_core::effects::Effects;
use sandhog_core::event::{EventCursor, EventKeep, EventPage};
use sandhog_core::flow::Flow;
use sandhog_core::group::QueueRule;
use sandhog_core::group_limit::{GroupLimitChange, LimitsUse};
use sandhog_core::history::{self, AttemptRecord};
use sandhog_core::hold::{Hold, HoldScope, NewHold};
use sandhog_core::id::{
    BreakerName, DaemonId, GroupKey, JobId, Kind, LeaseToken, PluginName, QueueName, Revision, StateKey,
    TenantId,
};
use sandhog_core::job::{JobRecord, Lease, LogLine, NewJob, Progress};
use sandhog_core::outcome::Usage;
use sandhog_core::quota::{FuelQuota, FuelSpent, PayloadExcess, QueueBounds, QueueExcess, StateQuota};
pub use sandhog_core::rate::{RateLimit, RateOf};
use sandhog_core::reason::Reason;
use sandhog_core::settle::Settlement;
use sandhog_core::time::Timestamp;
pub use sandhog_core::transition::Keep;
use sandhog_core::trial::{TrialReport, TrialStatus};
use sandhog_core::waits::WaitFacts;

pub use breakers::{BreakerRecord, BreakerWrite, BreakerWritten, Breakers, StoredBreaker};
pub use control::{
    Changed, Command, FlowStored, GroupLimited, HoldOutcome, JobAction, KeepMax, Outcome, Still, Sweep, Swept,
};
pub use daemons::{
    DAEMON_KEPT, DAEMON_LAPSE, DAEMON_REPORT_EVERY, DAEMONS_MAX, DaemonReport, DaemonSeen, Fleet, SERVED_MAX,
    Served,
};
pub use look::{
    Counts, Cursor, Filter, FlowView, HeldGroup, Lanes, LastTimes, Look, Page, ParentView, Query,
    QueueCensus, QueuePage, Seen, Unread,
};
pub use schedules::{
    SCHEDULES_PAGE, ScheduleQuery, ScheduleRecord, ScheduleWrite, ScheduleWritten, Schedules, StoredSchedule,
};
pub use wake::{Wake, Wakes};

/// A store of jobs. Every call is about one tenant, and takes a batch where possible.
///
/// The hot path has a method for each step of a job's lifecycle. Every other change is a [`Command`], and every query a
/// [`Look`], so that a new one touches only the stores and its caller, and nothing in between.
///
/// There is one reply for each item of a batch, in the same order. Batches are borrowed, so that a caller still has its
/// batch if the call fails.
#[async_trait]
pub trait Broker: Send + Sync + 'static {
    /// Stores jobs. Once this returns, a job runs until it settles. Repeating a job's id changes nothing and answers
    /// [`Enqueued::Stored`] again, for as long as the job is kept.
    ///
    /// A job that would exceed the bounds is refused; this doesn't affect the others of the batch.
    async fn enqueue_within(
        &self,
        tenant: &TenantId,
        jobs: &[NewJob],
        bounds: &QueueBounds,
    ) -> Result<Vec<Enqueued>>;

    /// Leases ready jobs that aren't held back. Jobs that are due, or whose lease has expired, are made ready by a [`Command::Sweep`], not by this.
    async fn lease(&self, ask: LeaseAsk<'_>) -> Result<Leased>;

    /// Extends leases to `ttl` from now, and stores the progress and log lines that the runs have reported.
    async fn renew(&self, tenant: &TenantId, ttl: Duration, leases: &[Renew]) -> Result<Vec<Renewal>>;

    /// Records the ends of runs, each with all its effects in one atomic step, if its token is still valid.
    async fn settle(&self, tenant: &TenantId, settlements: &[Settle]) -> Result<Vec<SettleReply>>;

    /// Executes a command of a person, an interface or the daemon's upkeep.
    async fn control(&self, tenant: &TenantId, command: Command) -> Result<Outcome>;

    /// Answers a query. Changes nothing.
    async fn look(&self, tenant: &TenantId, look: Look) -> Result<Seen>;

    /// Subscribes to news of work for any of these tenants. The first wake is [`Wake::All`], once: there may be work already.
    async fn watch(&self, tenants: Vec<TenantId>) -> Result<Wakes>;

    /// Lists every tenant of which the store keeps anything, whether or not a daemon serves it, as far as the login may see.
    async fn tenants(&self) -> Result<Vec<TenantId>>;

    /// Records what a daemon tells of itself, or with `None` that it is gone. Without a further report within [`DAEMON_LAPSE`] it
    /// counts as gone. Works even if the store is full.
    async fn report_daemon(&self, id: DaemonId, report: Option<&DaemonReport>) -> Result<()>;

    /// Lists the daemons that have reported lately, whatever tenants they serve.
    async fn daemons(&self) -> Result<Fleet>;

    /// Checks that the store can be reached, and is set up so that it can keep the guarantees at the head of this crate.
    /// Returns warnings for the operator; a problem that makes the store unfit is an error.
    async fn check(&self) -> Result<Vec<String>>;

    /// Stores jobs within the default bounds; see [`Self::enqueue_within`].
    async fn enqueue(&self, tenant: &TenantId, jobs: &[NewJob]) -> Result<Vec<Enqueued>> {
        self.enqueue_within(tenant, jobs, &QueueBounds::default()).await
    }

    /// Brings a tenant's jobs up to date; see [`Command::Sweep`].
    async fn sweep(&self, tenant: &TenantId, sweep: Sweep) -> Result<Swept> {
        self.control(tenant, Command::Sweep(sweep)).await?.swept()
    }

    /// Removes a tenant's data, up to `most` jobs and values in this step, and returns how many are left; see
    /// [`Command::Purge`].
    async fn purge(&self, tenant: &TenantId, most: usize) -> Result<u64> {
        self.control(tenant, Command::Purge { most }).await?.left()
    }

    /// Reports a daemon's counts in a canary's trial, and returns the trial's status; see [`Command::Trial`].
    async fn report_trial(&self, tenant: &TenantId, report: &TrialReport) -> Result<TrialStatus> {
        self.control(tenant, Command::Trial(Box::new(report.clone()))).await?.trial()
    }

    /// Holds jobs back; see [`Command::Hold`].
    async fn hold(&self, tenant: &TenantId, hold: NewHold) -> Result<HoldOutcome> {
        self.control(tenant, Command::Hold(Box::new(hold))).await?.hold()
    }

    /// Ends a hold; see [`Command::Lift`].
    async fn lift(&self, tenant: &TenantId, scope: HoldScope) -> Result<HoldOutcome> {
        self.control(tenant, Command::Lift(scope)).await?.hold()
    }

    /// Sets the rules for groups of a tenant's queues; see [`Command::SetGroupRules`].
    async fn set_group_rules(&self, tenant: &TenantId, rules: &BTreeMap<QueueName, QueueRule>) -> Result<()> {
        self.control(tenant, Command::SetGroupRules(rules.clone())).await?.done()
    }

    /// Lets a group go on that is held by a dead job, and returns whether it was held; see [`Command::ReleaseGroup`].
    async fn release_group(&self, tenant: &TenantId, queue: &QueueName, group: &GroupKey) -> Result<bool> {
        let command = Command::ReleaseGroup { queue: queue.clone(), group: group.clone() };
        self.control(tenant, command).await?.released()
    }

    /// Changes the limit of a single group; see [`Command::LimitGroup`].
    async fn limit_group(
        &self,
        tenant: &TenantId,
        queue: &QueueName,
        group: &GroupKey,
        change: GroupLimitChange,
    ) -> Result<GroupLimited> {
        let (queue, group) = (queue.clone(), group.clone());
        self.control(tenant, Command::LimitGroup { queue, group, change: Box::new(change) }).await?.limited()
    }

    /// Looks up the use of a tenant's limits; see [`Look::Limits`].
    async fn limits(&self, tenant: &TenantId) -> Result<LimitsUse> {
        self.look(tenant, Look::Limits).await?.limits()
    }

    /// Stores a flow, or nothing of it; see [`Command::Flow`].
    async fn store_flow(&self, tenant: &TenantId, flow: &Flow, bounds: &QueueBounds) -> Result<FlowStored> {
        let command = Command::Flow { flow: Box::new(flow.clone()), bounds: *bounds };
        self.control(tenant, command).await?.flow()
    }

    /// Writes a schedule's record and enqueues jobs of it, in one step; see [`Command::Schedule`].
    async fn write_schedule(&self, tenant: &TenantId, write: ScheduleWrite) -> Result<ScheduleWritten> {
        self.control(tenant, Command::Schedule(Box::new(write))).await?.schedule()
    }

    /// Writes a breaker's record; see [`Command::Breaker`].
    async fn write_breaker(&self, tenant: &TenantId, write: BreakerWrite) -> Result<BreakerWritten> {
        self.control(tenant, Command::Breaker(Box::new(write))).await?.breaker()
    }

    /// Looks up the breakers of which something is known, or the one of this name; see [`Look::Breakers`].
    async fn breakers(&self, tenant: &TenantId, name: Option<BreakerName>) -> Result<Breakers> {
        self.look(tenant, Look::Breakers(name)).await?.breakers()
    }

    /// Looks up schedules; see [`ScheduleQuery`].
    async fn schedules(&self, tenant: &TenantId, query: ScheduleQuery) -> Result<Schedules> {
        self.look(tenant, Look::Schedules(query)).await?.schedules()
    }

    /// Has events recorded, and returns the place behind the last one so far; see [`Command::RecordEvents`].
    async fn record_events(&self, tenant: &TenantId, keep: EventKeep) -> Result<EventCursor> {
        self.control(tenant, Command::RecordEvents(keep)).await?.recording()
    }

    /// Looks up at most `max` of the events behind a place; see [`Look::Events`].
    async fn events(&self, tenant: &TenantId, after: EventCursor, max: usize) -> Result<EventPage> {
        self.look(tenant, Look::Events { after, max }).await?.events()
    }

    /// Applies one action to several jobs, and returns the result for each; see [`JobAction`].
    async fn act(&self, tenant: &TenantId, action: JobAction, jobs: &[JobId]) -> Result<Vec<Changed>> {
        let command = Command::Jobs { action, ids: jobs.to_vec(), still: None };
        self.control(tenant, command).await?.jobs(jobs.len())
    }

    /// Applies one action to those of several jobs that are still as a list has found them, and returns the result for each.
    async fn act_on_found(
        &self,
        tenant: &TenantId,
        action: JobAction,
        jobs: &[JobId],
        still: Still,
    ) -> Result<Vec<Changed>> {
        let command = Command::Jobs { action, ids: jobs.to_vec(), still: Some(still) };
        self.control(tenant, command).await?.jobs(jobs.len())
    }

    /// Cancels a job; see [`JobAction::Cancel`].
    async fn cancel(&self, tenant: &TenantId, job: JobId) -> Result<Changed> {
        Ok(self.act(tenant, JobAction::Cancel, &[job]).await?[0])
    }

    /// Puts a dead letter back to ready; see [`JobAction::Redrive`].
    async fn redrive(&self, tenant: &TenantId, job: JobId) -> Result<Changed> {
        Ok(self.act(tenant, JobAction::Redrive, &[job]).await?[0])
    }

    /// Edits a job that waits; see [`Command::Edit`].
    async fn edit(
        &self,
        tenant: &TenantId,
        job: JobId,
        edit: &JobEdit,
        bounds: &QueueBounds,
    ) -> Result<Edited> {
        let command = Command::Edit { job, edit: Box::new(edit.clone()), bounds: *bounds };
        self.control(tenant, command).await?.edited()
    }

    /// Looks up the record of a job, or `None` if there is no such job.
    async fn job(&self, tenant: &TenantId, job: JobId) -> Result<Option<JobRecord>> {
        self.look(tenant, Look::Job(job)).await?.job()
    }

    /// Looks up the log lines that are kept with a job, oldest first.
    async fn log(&self, tenant: &TenantId, job: JobId) -> Result<Vec<LogLine>> {
        self.look(tenant, Look::Log(job)).await?.log()
    }

    /// Lists jobs of one state: waiting jobs in the order in which they go, final jobs with the latest first.
    async fn jobs(&self, tenant: &TenantId, query: Query) -> Result<Page> {
        self.look(tenant, Look::Jobs(query)).await?.page()
    }

    /// Counts the jobs of each state.
    async fn counts(&self, tenant: &TenantId) -> Result<Counts> {
        self.look(tenant, Look::Counts).await?.counts()
    }

    /// Looks up how many jobs of each state there are in at most `max` of the queues behind one, in the order of their names; see
    /// [`Look::Queues`].
    async fn queues(&self, tenant: &TenantId, after: Option<QueueName>, max: usize) -> Result<QueuePage> {
        self.look(tenant, Look::Queues { after, max }).await?.queues()
    }

    /// Looks up a stored value of a plugin's state, or `None` if the key has none.
    async fn state(&self, tenant: &TenantId, plugin: &PluginName, key: &StateKey) -> Result<Option<Vec<u8>>> {
        self.look(tenant, Look::State { plugin: plugin.clone(), key: key.clone() }).await?.state()
    }

    /// Looks up the lanes of a tenant.
    async fn lanes(&self, tenant: &TenantId) -> Result<Lanes> {
        self.look(tenant, Look::Lanes).await?.lanes()
    }

    /// Looks up the holds that are in force, in the order of their scopes.
    async fn holds(&self, tenant: &TenantId) -> Result<Vec<Hold>> {
        self.look(tenant, Look::Holds).await?.holds()
    }

    /// Looks up what a job waits for, or `None` if there is no such job.
    async fn why(&self, tenant: &TenantId, job: JobId) -> Result<Option<WaitFacts>> {
        self.look(tenant, Look::Why(job)).await?.why()
    }

    /// Looks up the groups that are held by dead jobs; see [`Look::HeldGroups`].
    async fn held_groups(&self, tenant: &TenantId) -> Result<Vec<HeldGroup>> {
        self.look(tenant, Look::HeldGroups).await?.held_groups()
    }

    /// Looks up the jobs of a flow by its id, or `None` if none of them is kept.
    async fn flow(&self, tenant: &TenantId, flow: JobId) -> Result<Option<FlowView>> {
        self.look(tenant, Look::Flow(flow)).await?.flow()
    }

    /// Looks up what the jobs that a job comes after have come to, with outputs of `bytes` in all at most.
    async fn parents(&self, tenant: &TenantId, job: JobId, bytes: usize) -> Result<Vec<ParentView>> {
        self.look(tenant, Look::Parents { job, bytes }).await?.parents()
    }

    /// Looks up the usage of the tenant's runs on these days, by day and plugin. Days on which nothing ran are left out, and
    /// so are those that ended longer ago than the broker keeps usage ([`USAGE_DAYS_KEPT`]).
    async fn usage(&self, tenant: &TenantId, days: RangeInclusive<Day>) -> Result<Vec<DayUsage>> {
        self.look(tenant, Look::Usage(days)).await?.usage()
    }
}

/// Result of a call to a broker.
pub type Result<T> = std::result::Result<T, Error>;

/// Reason why a call to a broker failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The broker can't be reached, or didn't answer in time. It is unknown whether the operation happened.
    #[error("the broker is unavailable: {what} failed: {cause}")]
    Unavailable {
        /// The operation that failed.
        what: &'static str,
        /// The error that came instead of an answer.
        cause: String,
    },
    /// The broker can be reached but refuses writes, as its memory or disk is full. Nothing was changed; trying again helps
    /// once there is room.
    #[error("the broker takes no writes: {what} failed: {cause}")]
    Full {
        /// The operation that failed.
        what: &'static str,
        /// The store's own message.
        cause: String,
        /// Advice on how to make room.
        remedy: &'static str,
    },
    /// The store holds a value that this version can't read.
    #[error("the broker holds something unreadable at `{at}`: {problem}")]
    Corrupt {
        /// The key, table or field that holds it.
        at: String,
        /// Description of what is wrong with it.
        problem: String,
    },
    /// The store holds a sealed value that can't be opened.
    #[error("{what} of tenant {tenant} can't be opened: {why}")]
    Sealed {
        /// The kind of the value, and its place; nothing of its content.
        what: String,
        /// The tenant that the value belongs to.
        tenant: TenantId,
        /// Reason why it can't be opened.
        why: String,
    },
    /// The broker isn't set up as required. Trying again won't help.
    #[error("the broker is not fit for use: {problem}")]
    Unfit {
        /// Description of what is wrong, and of what to change.
        problem: String,
    },
    /// The operation panicked, which is a bug of the broker. Nothing of it has happened.
    #[error(
        "the broker has a bug: {what} panicked, and nothing of it was done; the log says where: please report it"
    )]
    Bug {
        /// The operation that failed.
        what: &'static str,
    },
}

impl Error {
    /// Error for an answer to another question than was asked: a bug of a broker or of a wrapper around it.
    pub(crate) fn unasked(at: &str) -> Self {
        Self::Corrupt { at: at.to_owned(), problem: "it answers another question than was asked".to_owned() }
    }
}

impl From<PayloadExcess> for Enqueued {
    fn from(excess: PayloadExcess) -> Self {
        match excess {
            PayloadExcess::TooLarge => Self::TooLarge,
            PayloadExcess::Full(excess) => Self::Full(excess),
        }
    }
}

/// Result of enqueueing one job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Enqueued {
    /// The job is stored.
    Stored,
    /// Another job holds its unique key; this is the other job's id. Nothing was stored.
    Duplicate(JobId),
    /// Another job that waits holds its unique key, and has got its payload; this is the other job's id.
    Replaced(JobId),
    /// Its payload is larger than the bounds allow. Nothing was stored.
    TooLarge,
    /// The tenant's waiting jobs have reached the bounds. Nothing was stored.
    Full(QueueExcess),
}

/// Identity of a lease request: the daemon that makes it, and whether it repeats an earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asker {
    /// The daemon that asks.
    pub daemon: DaemonId,
    /// Number of the request, which rises with each new one of this daemon.
    pub number: u64,
    /// Whether this repeats the request of the same number, as its answer was lost: then the leases that it was granted are
    /// granted again, extended, as far as they still hold.
    pub repeats: bool,
}

/// A daemon's request for leases.
#[derive(Debug, Clone, Copy)]
pub struct LeaseAsk<'a> {
    /// The tenant whose jobs are leased.
    pub tenant: &'a TenantId,
    /// The queues to lease from, each with the maximum number of its jobs, those of its lanes included; served in this order.
    pub queues: &'a [(QueueName, u32)],
    /// The lanes of those queues to lease from as well. The jobs of a queue and its lanes go in one common order. Naming a lane
    /// creates it: see [`LaneAsk`].
    pub lanes: &'a [LaneAsk],
    /// Maximum number of suspects among them, over all queues. A suspect is a job whose lease has expired since an attempt of it
    /// last ended. Suspects go before the other jobs of their queue.
    pub suspects: u32,
    /// Maximum total length of the payloads. The first job is leased even if its payload is longer.
    pub bytes: Bytes,
    /// Time for which the leases are valid unless they are renewed.
    pub ttl: Duration,
    /// The tenant's fuel quota, or `None` for no quota. If it is used up and its policy is to hold jobs, none is leased.
    pub fuel: Option<FuelQuota>,
    /// Identity of the request. If `None`, a lost answer can't be repeated.
    pub asker: Option<Asker>,
}

impl<'a> LeaseAsk<'a> {
    /// Default of [`Self::bytes`], the maximum total length of the payloads of one call.
    pub const BYTES: Bytes = Bytes::mib(4);

    /// Creates a request for jobs of these queues, with at most one suspect among them, within [`Self::BYTES`].
    #[must_use]
    pub fn new(tenant: &'a TenantId, queues: &'a [(QueueName, u32)], ttl: Duration) -> Self {
        Self { tenant, queues, lanes: &[], suspects: 1, bytes: Self::BYTES, ttl, fuel: None, asker: None }
    }
}

/// Request for jobs of a lane: the jobs of one kind in one queue, apart from the others of the queue.
///
/// A kind gets a lane of its own in a queue when a daemon names it, when a daemon releases a job of it for want of a plugin
/// ([`Reason::NoPlugin`]), or when a lease meets a job of it that is held back. From then on its jobs go only to daemons that ask
/// for the lane. A lane that is empty and was not named for [`LANE_KEPT`] is removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaneAsk {
    /// The queue.
    pub queue: QueueName,
    /// The kind of the lane's jobs.
    pub kind: Kind,
    /// Maximum number of jobs to lease.
    pub room: u32,
    /// Limit on the number of them that are leased at once, over all daemons. `None` for no limit.
    pub limit: Option<FleetLimit>,
    /// Limit on the number of them that are leased within a time, over all daemons. `None` for no limit.
    pub rate: Option<RateLimit>,
}

impl LaneAsk {
    /// Creates a request for jobs of a lane without limits.
    #[must_use]
    pub fn new(queue: QueueName, kind: Kind, room: u32) -> Self {
        Self { queue, kind, room, limit: None, rate: None }
    }
}

/// Limit on the number of jobs that are leased at once under one name, by all daemons together.
///
/// A leased job counts against the limit until its lease ends in any way. A job is leased only if, with it, no more than
/// `most` are leased. If more are leased already, as another request had a higher limit, none of them is taken back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FleetLimit {
    /// The plugin whose kinds share the limit.
    pub name: PluginName,
    /// Maximum number of jobs that are leased at once.
    pub most: u32,
}

/// Maximum number of unreadable jobs of a tenant that a store counts; if there are more, it reports this number.
pub const UNREADABLE_COUNTED_MAX: u64 = 1000;

/// Time for which a lane is kept that is empty and that no daemon asks for.
pub const LANE_KEPT: Duration = Duration::from_secs(60 * 60);

/// Maximum age of the stored time at which a lane was last asked for, before it is updated.
pub const LANE_NOTED_EVERY: Duration = Duration::from_secs(10 * 60);

/// Maximum number of a tenant's lanes that a look-up returns.
pub const LANES_MAX: usize = 10_000;

/// Answer to a [`LeaseAsk`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leased {
    /// The leases granted.
    pub leases: Vec<Lease>,
    /// Time until a [`Command::Sweep`] has something to do: zero if it would have now, else the time until the next scheduled
    /// job is due, the next lease expires or the next hold ends. `None` if there is none of these.
    pub next_due: Option<Duration>,
    /// Fuel that the tenant's settled runs had spent before this call, if the request had a [`LeaseAsk::fuel`].
    pub spent: Option<FuelSpent>,
    /// The broker's time when it granted them: what is left of a job's deadline counts from it.
    pub now: Timestamp,
    /// Time until there are tokens again of the first of the request's rate limits that has none left. `None` if all have some.
    pub next_token: Option<Duration>,
    /// Version number of the lanes: changes whenever a lane is added or removed, 0 before the first. See [`Look::Lanes`].
    pub lanes: u64,
}

/// Renewal of one lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Renew {
    /// The lease to renew.
    pub token: LeaseToken,
    /// The latest progress, if any was reported since the last renewal.
    pub progress: Option<Progress>,
    /// The log lines since the last renewal.
    pub log: Vec<LogLine>,
}

impl Renew {
    /// Creates a renewal without progress or log lines.
    #[must_use]
    pub fn new(token: LeaseToken) -> Self {
        Self { token, progress: None, log: Vec::new() }
    }
}

/// Result of a renewal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Renewal {
    /// The lease was renewed.
    Held,
    /// The lease was renewed, and cancellation of the job was requested.
    CancelRequested,
    /// The token is stale. Nothing was changed.
    Lost,
    /// This version can't read what is stored of the job. Nothing was changed.
    Unreadable,
}

/// The end of a lease, for the record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settle {
    /// The token, which proves that the lease is held.
    pub token: LeaseToken,
    /// The plugin that ran, to whose state the effects apply. `None` if nothing ran: then effects are ignored, as they belong to
    /// no plugin.
    pub ran: Option<Ran>,
    /// The settlement to record.
    pub settlement: Settlement,
    /// The beginning of the settlement's message for the history of attempts, where that is sealed apart, as what is sealed can't be
    /// cut. `None` for that of the message itself.
    pub brief: Option<String>,
    /// The latest progress, if any was reported since the last renewal.
    pub progress: Option<Progress>,
    /// The log lines since the last renewal.
    pub log: Vec<LogLine>,
    /// Time for which the job is kept once it is final.
    pub keep: Keep,
}

/// The plugin that ran, and what the run used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ran {
    /// The daemon that ran it.
    pub daemon: DaemonId,
    /// The plugin.
    pub plugin: PluginName,
    /// The revision of its code.
    pub revision: Revision,
    /// Usage of this run. The record adds it to that of earlier runs of the job, with times to the microsecond.
    pub usage: Usage,
    /// Data that the run took in and gave out.
    pub traffic: Traffic,
    /// Quota of the plugin's state.
    pub state_max: StateQuota,
    /// Bounds of the tenant's waiting jobs, those that this run enqueues included.
    pub queue_max: QueueBounds,
}

impl Ran {
    /// Creates the record of a run with this usage, no traffic, and no bounds except those of the store.
    #[must_use]
    pub fn new(daemon: DaemonId, plugin: PluginName, revision: Revision, usage: Usage) -> Self {
        let (state_max, queue_max) = (StateQuota::NONE, QueueBounds::NONE);
        Self { daemon, plugin, revision, usage, traffic: Traffic::default(), state_max, queue_max }
    }
}

impl Settle {
    /// Creates the settlement of a lease for which nothing ran, or nothing that is to be counted. The job is kept for the
    /// default time.
    #[must_use]
    pub fn new(token: LeaseToken, settlement: Settlement) -> Self {
        Self {
            token,
            ran: None,
            settlement,
            brief: None,
            progress: None,
            log: Vec::new(),
            keep: Keep::default(),
        }
    }

    /// Creates the settlement of a run. The job is kept for the default time.
    #[must_use]
    pub fn of_run(token: LeaseToken, ran: Ran, settlement: Settlement) -> Self {
        Self { ran: Some(ran), ..Self::new(token, settlement) }
    }

    /// Returns the effects of a run that succeeded, or `None` if it didn't, or if nothing ran to whose state they could apply.
    fn effects(&self) -> Option<(&Ran, &Effects)> {
        match (&self.settlement, &self.ran) {
            (Settlement::Succeed { effects, .. }, Some(ran)) => Some((ran, effects)),
            _ => None,
        }
    }

    /// Returns the run whose end goes into the history of its job's attempts, or `None` if it doesn't.
    fn recorded(&self) -> Option<&Ran> {
        self.ran.as_ref().filter(|_| history::is_recorded(&self.settlement, self.token.lease))
    }

    /// Returns the reason for the settlement, and the beginning of its message; `None` for a success.
    fn why_in_brief(&self) -> Option<(Reason, Option<&str>)> {
        let (reason, message) = self.settlement.why()?;
        let brief = self.brief.as_deref().or_else(|| message.map(history::brief));
        Some((reason, brief))
    }

    /// Returns the attempt that goes into the history of its job, or `None` if none does. `ends` is the attempt as far as the job
    /// itself tells of it.
    fn attempt(&self, ends: AttemptRecord) -> Option<AttemptRecord> {
        let ran = self.recorded()?;
        let why = self.why_in_brief();
        Some(AttemptRecord {
            reason: why.map(|(reason, _)| reason),
            message: why.and_then(|(_, brief)| brief).map(str::to_owned),
            daemon: Some(ran.daemon),
            revision: Some(ran.revision),
            usage: ran.usage,
            ..ends
        })
    }

    /// Returns the plugin among whose final jobs the job is counted, if this makes it final.
    fn keeper(&self) -> Option<&PluginName> {
        self.ran.as_ref().filter(|_| self.keep.is_counted).map(|ran| &ran.plugin)
    }

    /// Returns what a run that ends this way adds to its plugin's account of the day, or `None` if nothing ran.
    fn account(&self, end: RunEnd) -> Option<(&PluginName, Account)> {
        let ran = self.ran.as_ref()?;
        Some((&ran.plugin, Account::of(end, ran.usage, ran.traffic)))
    }
}

/// Maximum number of held groups that a look-up returns.
pub const HELD_GROUPS_MAX: usize = 1000;

/// Maximum number of queues on one page of the census.
pub const QUEUES_PAGE_MAX: usize = 1000;

/// Number of a tenant's scheduled jobs up to which the census tells in which queues they are, whatever the store.
pub const SCHEDULED_COUNTED_MAX: u64 = 10_000;

/// Number of a tenant's leased jobs, and of its blocked ones, up to which the census tells in which queues they are, whatever the
/// store.
pub const LOOKED_UP_MAX: u64 = 2000;

/// Maximum number of leased and of ready jobs of a queue that are held to a rule for groups when it gets one.
pub const GROUPED_MAX: usize = 10_000;

/// Maximum number of log lines kept with a job; the oldest are removed first.
pub const LOG_LINES_KEPT: usize = 1000;

/// Number of days, not counting today, whose usage is kept: a year, and a month to bill it.
pub const USAGE_DAYS_KEPT: u32 = 400;

/// Maximum number of jobs for each task of one sweep (making ready, taking back, removing), so that no sweep takes long.
pub const SWEEP_MAX: usize = 500;

/// Source of the calendar time for brokers that have no server with a clock of its own.
pub trait WallClock: Send + Sync + 'static {
    /// Returns the current time.
    fn now(&self) -> Timestamp;
}

/// Clock of this machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl WallClock for SystemClock {
    fn now(&self) -> Timestamp {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_millis(sandhog_core::time::millis(since))
    }
}
