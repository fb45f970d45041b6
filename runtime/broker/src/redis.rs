//! Broker on Redis or Valkey: jobs that outlive the daemons, and that any number of daemons share.
//!
//! ```text
//! keys.rs     the names of keys, and their values              nodes.rs     the server that holds each tenant
//! layout.rs   jobs and runs in bytes                           link.rs      a connection to it, with deadlines
//! codes.rs    numbers that Rust and Lua share                  dial.rs      creation of connections
//! library.rs  the library of lua/*.lua    loading.rs  loading  sentinel.rs  finding the primary by Sentinel
//! batch.rs    arguments of functions      reply.rs  replies    failure.rs   the meaning of errors
//! acl.rs      ACL rules of a tenant's own users                listen.rs    wakes, on a connection of their own
//! fitness.rs  checks of the server's setup
//! ```
//!
//! All keys of a tenant are in one hash slot, so each transition is one call of a function for a whole batch: it reads with
//! a command or two for all jobs together, decides, and writes with a command or two. A waiting job is one string and one
//! entry of a sorted set; its later history is a second string.
//!
//! # Failure paths
//! - The server is gone, slow or silent: each call has a deadline, fails with [`crate::Error::Unavailable`], and the next one
//!   reconnects. Listeners get [`crate::Wake::All`] whenever their connection was made again.
//! - Sentinel promotes a replica to primary: clients of the old primary lose their connection, or are refused as it can't be
//!   written to any more, and ask the sentinels again.
//! - A tenant has moved to another node of a cluster: the node that is asked names the new one, within the call. While its
//!   keys are moved one by one, calls fail with [`crate::Error::Unavailable`], and none has done a part of its work.
//! - The server doesn't have this version's functions: they are loaded within the call, by the operator's user.
//! - The user may not call one of the commands that functions call: no job is leased, and [`crate::Error::Unfit`] names the command.
//!   If the user's rules change at runtime, calls fail before they have written anything.
//! - A key holds a value that this version can't read: look-ups fail with [`crate::Error::Corrupt`], and nothing of the job is
//!   changed. A ready job that can't be read is parked, so that it doesn't block others, and tried again now and then.
//!
//! # Assumptions about the server
//! - **It keeps what it has acknowledged.** With `appendfsync always` nothing acknowledged is lost. With `everysec` a
//!   power cut loses the last second, and with snapshots alone everything since the last one; jobs of that time are lost or
//!   run again. [`Broker::check`] warns of it.
//! - **It evicts nothing** (`maxmemory-policy noeviction`): half a job is worse than a refused one. `check` fails otherwise.
//! - **Its replicas lag.** A failover loses writes that hadn't reached the replica: jobs enqueued in that moment are lost,
//!   jobs settled in it run again, and a lease of it may be granted once more under the same number. It loses whole calls,
//!   and none without those after it: a replica applies the writes of a script as one.
//! - **Its clock is fairly right.** All times are the server's. A jump moves due times and expiries, no more: who holds a
//!   job is decided by numbers that only rise.

mod acl;
mod batch;
mod codes;
mod dial;
mod failure;
mod fitness;
mod keys;
mod layout;
mod library;
mod link;
mod listen;
mod loading;
mod nodes;
mod reply;
mod sentinel;
#[cfg(feature = "conformance")]
pub mod testing;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use redis::Value;
use sandhog_core::attempt::SettleReply;
use sandhog_core::id::{DaemonId, JobId, TenantId};
use sandhog_core::job::NewJob;
use sandhog_core::quota::QueueBounds;
use sandhog_core::trial::{TrialReport, TrialStatus};
use tokio::sync::watch;

pub use self::acl::{Role, acl_rules};
pub use sandhog_core::redis::{Address, Config, ConfigError, Login, Topology, UrlError, shown_url};

use self::batch::Request;
use self::library::{Function, Scripts};
use self::link::Call;
use self::nodes::Nodes;
use crate::{
    Broker, Command, DaemonReport, Enqueued, Fleet, JobAction, LeaseAsk, Leased, Look, Outcome, Renew,
    Renewal, Result, SWEEP_MAX, Seen, Settle, Still, Sweep, Swept, Wakes, WallClock,
};

/// Tenants that were registered on the server, each with the time of its registration.
type Registered = HashMap<TenantId, Instant>;

/// Time for which a registration of a tenant is relied on; another process may have purged the tenant meanwhile.
const REGISTERED_FOR: Duration = Duration::from_secs(10 * 60);

/// Time for which the tally of a purged tenant is kept, so that daemons see that its lanes have changed.
const TALLY_KEPT: Duration = Duration::from_secs(24 * 60 * 60);

/// A broker on a Redis server.
pub struct Redis {
    nodes: Arc<Nodes>,
    ping_interval: Duration,
    scripts: Scripts,
    /// The tenant that the login belongs to, or `None` if it is the operator's.
    tenant: Option<TenantId>,
    registered: Mutex<Registered>,
    clock: Option<Arc<dyn WallClock>>,
    /// Ends the listeners when it is dropped.
    open: watch::Sender<()>,
}

impl Redis {
    /// Creates a broker on this server. Nothing is sent before the first call.
    ///
    /// # Errors
    /// [`crate::Error::Unfit`] if the URL or the certificate can't be used.
    pub fn new(config: &Config) -> Result<Self> {
        Ok(Self {
            nodes: Arc::new(Nodes::new(config)?),
            ping_interval: config.ping_interval,
            scripts: Scripts::new(),
            tenant: None,
            registered: Mutex::default(),
            clock: None,
            open: watch::Sender::new(()),
        })
    }

    /// Creates a broker on this server for a tenant's own user, who may not load functions: they are loaded by the user of
    /// `operator`, if that is on the same server.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn of_tenant(config: &Config, tenant: TenantId, operator: Option<&Self>) -> Result<Self> {
        let mut nodes = Nodes::new(config)?;
        if let Some(operator) = operator {
            nodes = nodes.loaded_by(&operator.nodes);
        }
        Ok(Self { nodes: Arc::new(nodes), tenant: Some(tenant), ..Self::new(config)? })
    }

    /// Replaces the server's clock by this one, for tests that move the time by hand.
    #[cfg(feature = "conformance")]
    #[must_use]
    pub fn at(self, clock: Arc<dyn WallClock>) -> Self {
        Self { clock: Some(clock), ..self }
    }

    /// Creates a broker with this clock in place of the server's, for tests that move the time by hand.
    ///
    /// # Errors
    /// As [`Self::new`].
    #[cfg(feature = "conformance")]
    pub fn with_clock(config: &Config, clock: Arc<dyn WallClock>) -> Result<Self> {
        Ok(Self::new(config)?.at(clock))
    }

    async fn run(
        &self,
        what: &'static str,
        tenant: &TenantId,
        function: &Function,
        request: Request,
    ) -> Result<Value> {
        let request = request.at(self.clock.as_ref().map(|clock| clock.now()));
        let call = Call { scripts: &self.scripts, function, request: &request };
        self.nodes.run(what, tenant, call).await
    }

    /// Calls a function on the list of daemons.
    async fn run_of_fleet(&self, what: &'static str, function: &Function, request: Request) -> Result<Value> {
        let request = request.at(self.clock.as_ref().map(|clock| clock.now()));
        let call = Call { scripts: &self.scripts, function, request: &request };
        self.nodes.run_at_registry(what, call).await
    }

    /// Registers on the server, if this is the operator's user, that it keeps something of a tenant.
    async fn register(&self, tenant: &TenantId) {
        let is_known =
            |registered: &Registered| registered.get(tenant).is_some_and(|at| at.elapsed() < REGISTERED_FOR);
        if self.tenant.is_some() || is_known(&self.registered()) {
            return;
        }
        let command = redis::cmd("SADD").arg(keys::TENANTS).arg(tenant.as_str()).to_owned();
        match self.nodes.ask_registry("registration of a tenant", &command).await {
            Ok(_) => drop(self.registered().insert(tenant.clone(), Instant::now())),
            // The call that follows reports what is wrong.
            Err(error) => tracing::debug!(%tenant, %error, "can't register a tenant yet"),
        }
    }

    fn registered(&self) -> MutexGuard<'_, Registered> {
        self.registered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn act_on(
        &self,
        tenant: &TenantId,
        action: JobAction,
        ids: &[JobId],
        still: Option<Still>,
    ) -> Result<Outcome> {
        let mut changed = Vec::with_capacity(ids.len());
        for part in batch::parts(ids) {
            let request = batch::act(tenant, action, part, still);
            let reply = self.run("change of jobs", tenant, &self.scripts.act, request).await?;
            changed.extend(reply::changed(part.len(), reply)?);
        }
        Ok(Outcome::Jobs(changed))
    }

    async fn sweep(&self, tenant: &TenantId, sweep: &Sweep) -> Result<Swept> {
        let reply = self.run("sweep", tenant, &self.scripts.sweep, batch::sweep(tenant, sweep)).await?;
        let swept = reply::swept(tenant, reply)?;
        if swept.has_ready
            || swept.next_due.is_some()
            || swept.next_schedule.is_some()
            || swept.next_removal.is_some()
        {
            self.register(tenant).await;
        }
        Ok(swept)
    }

    async fn change_holds(&self, tenant: &TenantId, request: Request) -> Result<Outcome> {
        let reply = self.run("change of holds", tenant, &self.scripts.hold, request).await?;
        reply::held(reply).map(Outcome::Hold)
    }

    async fn report_trial_of(&self, tenant: &TenantId, report: &TrialReport) -> Result<TrialStatus> {
        self.register(tenant).await;
        let reply = self.run("trial", tenant, &self.scripts.trial, batch::trial(tenant, report)).await?;
        reply::trial(tenant, &report.pair, reply)
    }

    /// Removes up to `most` items: jobs first, then values of state, and the rest of the tenant once there are none. Returns how
    /// many are left.
    async fn purge(&self, tenant: &TenantId, most: usize) -> Result<u64> {
        const WHAT: &str = "purge";
        let mut room = most.max(1);
        loop {
            let step = room.min(SWEEP_MAX);
            let request = batch::purge(tenant, step, &[]);
            let (mut left, mut unused) =
                reply::purged(self.run(WHAT, tenant, &self.scripts.purge, request).await?)?;
            if left > 0 && unused > 0 {
                let values =
                    self.nodes.find_keys(WHAT, tenant, &keys::pattern(tenant, "state:"), unused).await?;
                let request = batch::purge(tenant, unused, &values);
                (left, unused) = reply::purged(self.run(WHAT, tenant, &self.scripts.purge, request).await?)?;
                left = if values.is_empty() { 0 } else { left };
            }
            if left == 0 {
                break;
            }
            room -= step - unused;
            if room == 0 {
                return Ok(left);
            }
        }
        // The tally is kept: daemons that know of its lanes have to learn that they are gone.
        self.nodes.remove_keys(WHAT, tenant, (&keys::tally(tenant), TALLY_KEPT)).await?;
        if self.tenant.is_none() {
            let command = redis::cmd("SREM").arg(keys::TENANTS).arg(tenant.as_str()).to_owned();
            self.nodes.ask_registry(WHAT, &command).await?;
            self.registered().remove(tenant);
        }
        Ok(0)
    }
}

impl std::fmt::Debug for Redis {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Redis").field("server", &self.nodes).finish_non_exhaustive()
    }
}

#[async_trait]
impl Broker for Redis {
    async fn enqueue_within(
        &self,
        tenant: &TenantId,
        jobs: &[NewJob],
        bounds: &QueueBounds,
    ) -> Result<Vec<Enqueued>> {
        self.register(tenant).await;
        let mut replies = Vec::with_capacity(jobs.len());
        for part in batch::parts(jobs) {
            let request = batch::enqueue(tenant, part, bounds);
            let reply = self.run("enqueue", tenant, &self.scripts.enqueue, request).await?;
            replies.extend(reply::enqueued(part.len(), reply)?);
        }
        Ok(replies)
    }

    async fn lease(&self, ask: LeaseAsk<'_>) -> Result<Leased> {
        let reply = self.run("lease", ask.tenant, &self.scripts.lease, batch::lease(&ask)).await?;
        reply::leased(ask.tenant, reply)
    }

    async fn renew(&self, tenant: &TenantId, ttl: Duration, leases: &[Renew]) -> Result<Vec<Renewal>> {
        let mut replies = Vec::with_capacity(leases.len());
        for part in batch::parts(leases) {
            let reply =
                self.run("renew", tenant, &self.scripts.renew, batch::renew(tenant, ttl, part)).await?;
            replies.extend(reply::renewals(reply)?);
        }
        Ok(replies)
    }

    async fn settle(&self, tenant: &TenantId, settlements: &[Settle]) -> Result<Vec<SettleReply>> {
        let mut replies = Vec::with_capacity(settlements.len());
        for part in batch::parts(settlements) {
            let reply = self.run("settle", tenant, &self.scripts.settle, batch::settle(tenant, part)).await?;
            replies.extend(reply::settled(tenant, part, reply)?);
        }
        Ok(replies)
    }

    async fn control(&self, tenant: &TenantId, command: Command) -> Result<Outcome> {
        match command {
            Command::Jobs { action, ids, still } => self.act_on(tenant, action, &ids, still).await,
            Command::Edit { job, edit, bounds } => {
                let request = batch::edit(tenant, job, &edit, &bounds);
                let reply = self.run("edit of a job", tenant, &self.scripts.edit, request).await?;
                reply::edited(&reply).map(Outcome::Edited)
            }
            Command::Sweep(sweep) => Ok(Outcome::Swept(self.sweep(tenant, &sweep).await?)),
            Command::Purge { most } => Ok(Outcome::Left(self.purge(tenant, most).await?)),
            Command::SetGroupRules(rules) => {
                let request = batch::group_rules(tenant, &rules);
                self.run("setting of rules for groups", tenant, &self.scripts.group_rules, request).await?;
                Ok(Outcome::Done)
            }
            Command::ReleaseGroup { queue, group } => {
                let request = batch::release_group(tenant, &queue, &group);
                let reply =
                    self.run("release of a group", tenant, &self.scripts.group_rules, request).await?;
                Ok(Outcome::Released(reply::released(&reply)?))
            }
            Command::LimitGroup { queue, group, change } => {
                self.register(tenant).await;
                let request = batch::limit_group(tenant, &queue, &group, &change);
                let reply = self.run("limit of a group", tenant, &self.scripts.group_limit, request).await?;
                reply::limited(&reply).map(Outcome::Limited)
            }
            Command::Flow { flow, bounds } => {
                self.register(tenant).await;
                let request = batch::flow(tenant, &flow, &bounds);
                let reply = self.run("storing of a flow", tenant, &self.scripts.flow, request).await?;
                Ok(Outcome::Flow(reply::flow_stored(&flow, reply)?))
            }
            Command::Trial(report) => Ok(Outcome::Trial(self.report_trial_of(tenant, &report).await?)),
            Command::Hold(hold) => {
                self.register(tenant).await;
                self.change_holds(tenant, batch::hold(tenant, &hold)).await
            }
            Command::Lift(scope) => self.change_holds(tenant, batch::lift(tenant, &scope)).await,
            Command::Breaker(write) => {
                self.register(tenant).await;
                let request = batch::breaker(tenant, &write);
                let reply = self.run("write of a breaker", tenant, &self.scripts.breaker, request).await?;
                reply::breaker(&reply).map(Outcome::Breaker)
            }
            Command::Schedule(write) => {
                self.register(tenant).await;
                let request = batch::schedule(tenant, &write);
                let reply = self.run("write of a schedule", tenant, &self.scripts.schedule, request).await?;
                reply::schedule(reply).map(Outcome::Schedule)
            }
            Command::RecordEvents(keep) => {
                let request = batch::record_events(tenant, keep);
                let reply =
                    self.run("recording of events", tenant, &self.scripts.record_events, request).await?;
                reply::recording(&reply).map(Outcome::Recording)
            }
        }
    }

    async fn look(&self, tenant: &TenantId, look: Look) -> Result<Seen> {
        let scripts = &self.scripts;
        let (what, script, request) = match &look {
            Look::Job(job) => ("look-up of a job", &scripts.job, batch::of_job(tenant, *job)),
            Look::Log(job) => ("look-up of a log", &scripts.log, batch::log(tenant, *job)),
            Look::Jobs(query) => ("list of jobs", &scripts.jobs, batch::jobs(tenant, query)),
            Look::Counts => ("count of jobs", &scripts.counts, Request::of(tenant)),
            Look::State { plugin, key } => {
                ("look-up of state", &scripts.state, batch::state(tenant, plugin, key))
            }
            Look::Usage(days) => ("look-up of usage", &scripts.usage, batch::usage(tenant, days)),
            Look::Lanes => ("look-up of the lanes", &scripts.lanes, Request::of(tenant)),
            Look::Holds => ("look-up of the holds", &scripts.holds, Request::of(tenant)),
            Look::Why(job) => ("look-up of what a job waits for", &scripts.why, batch::of_job(tenant, *job)),
            Look::Limits => ("look-up of limits", &scripts.limits, Request::of(tenant)),
            Look::HeldGroups => ("look-up of held groups", &scripts.held_groups, Request::of(tenant)),
            Look::Flow(flow) => ("look-up of a flow", &scripts.flow_jobs, batch::flow_jobs(tenant, *flow)),
            Look::Parents { job, bytes } => {
                ("look-up of outputs", &scripts.parents, batch::parents(tenant, *job, *bytes))
            }
            Look::Breakers(name) => {
                ("look-up of breakers", &scripts.breakers, batch::breakers(tenant, name.as_ref()))
            }
            Look::Schedules(query) => {
                ("look-up of schedules", &scripts.schedules, batch::schedules(tenant, query))
            }
            Look::Events { after, max } => {
                ("look-up of events", &scripts.events, batch::events(tenant, *after, *max))
            }
            Look::Queues { after, max } => {
                ("census of queues", &scripts.queues, batch::queues(tenant, after.as_ref(), *max))
            }
        };
        let reply = self.run(what, tenant, script, request).await?;
        Ok(match look {
            Look::Job(_) => Seen::Job(reply::record(tenant, reply)?.map(Box::new)),
            Look::Log(job) => Seen::Log(reply::log(&keys::log(tenant, job), reply)?),
            Look::Jobs(query) => Seen::Jobs(reply::page(tenant, query.payloads, reply)?),
            Look::Counts => Seen::Counts(reply::counts(reply)?),
            Look::State { .. } => Seen::State(reply::optional_bytes(reply)?),
            Look::Usage(_) => Seen::Usage(reply::usage(tenant, reply)?),
            Look::Lanes => Seen::Lanes(reply::lanes(reply)?),
            Look::Holds => Seen::Holds(reply::holds(tenant, reply)?),
            Look::Why(_) => Seen::Why(reply::why(tenant, reply)?.map(Box::new)),
            Look::Limits => Seen::Limits(Box::new(reply::limits(reply)?)),
            Look::HeldGroups => Seen::HeldGroups(reply::held_groups(reply)?),
            Look::Flow(_) => Seen::Flow(reply::flow(tenant, reply)?),
            Look::Parents { .. } => Seen::Parents(reply::parents(tenant, reply)?),
            Look::Breakers(_) => Seen::Breakers(reply::breakers(reply)?),
            Look::Schedules(_) => Seen::Schedules(reply::schedules(reply)?),
            Look::Events { after, .. } => Seen::Events(reply::events(tenant, after, reply)?),
            Look::Queues { .. } => Seen::Queues(reply::queues(reply)?),
        })
    }

    async fn watch(&self, tenants: Vec<TenantId>) -> Result<Wakes> {
        Ok(listen::start(Arc::clone(&self.nodes), self.ping_interval, tenants, self.open.subscribe()))
    }

    /// A tenant's own user sees no more than whether there is anything of its tenant.
    async fn tenants(&self) -> Result<Vec<TenantId>> {
        const WHAT: &str = "look-up of the tenants";
        match &self.tenant {
            Some(tenant) if self.nodes.has_any(WHAT, tenant).await? => Ok(vec![tenant.clone()]),
            Some(_) => Ok(Vec::new()),
            None => {
                let command = redis::cmd("SMEMBERS").arg(keys::TENANTS).to_owned();
                reply::tenants(self.nodes.ask_registry(WHAT, &command).await?)
            }
        }
    }

    async fn report_daemon(&self, id: DaemonId, report: Option<&DaemonReport>) -> Result<()> {
        const WHAT: &str = "report of a daemon";
        if self.tenant.is_some() {
            return Err(for_the_operator(WHAT));
        }
        self.run_of_fleet(WHAT, &self.scripts.daemon, batch::daemon(id, report)).await.map(drop)
    }

    async fn daemons(&self) -> Result<Fleet> {
        const WHAT: &str = "look-up of the daemons";
        if self.tenant.is_some() {
            return Err(for_the_operator(WHAT));
        }
        reply::fleet(self.run_of_fleet(WHAT, &self.scripts.daemons, Request::of_fleet()).await?)
    }

    async fn check(&self) -> Result<Vec<String>> {
        fitness::check(&self.nodes, &self.scripts, self.tenant.as_ref()).await
    }
}

/// Error of a tenant's own user, who may not touch the list of daemons.
fn for_the_operator(what: &str) -> crate::Error {
    crate::Error::Unfit {
        problem: format!(
            "{what} failed: the list of daemons is no tenant's; it takes the user in `[broker]`"
        ),
    }
}
