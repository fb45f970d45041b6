//! Events of a daemon, and the trait of those that read them.

use std::sync::Arc;
use std::time::Duration;

use sandhog_api::DeployEvent;
use sandhog_broker::Error;
use sandhog_core::attempt::SettleReply;
use sandhog_core::breaker::Turn;
use sandhog_core::id::{BreakerName, JobId, Kind, LeaseToken, PluginName, QueueName, ScheduleName, TenantId};
use sandhog_core::outcome::{Outcome, Usage};
use sandhog_core::quota::Window;
use sandhog_core::reason::Reason;
use sandhog_core::schedule::Past;

/// Reader of events. It is called from the loops that lease and settle: it never blocks and never fails.
pub trait Observer: Send + Sync + 'static {
    /// Handles an event.
    fn on(&self, event: &Event<'_>);
}

/// Observer that ignores all events.
impl Observer for () {
    fn on(&self, _: &Event<'_>) {}
}

/// Observers that are called one after the other, in their order.
impl Observer for Vec<Arc<dyn Observer>> {
    fn on(&self, event: &Event<'_>) {
        self.iter().for_each(|observer| observer.on(event));
    }
}

/// Event of a daemon. No event has a job's payload or output.
#[derive(Debug)]
pub enum Event<'e> {
    /// A job was leased.
    Leased {
        /// The job's tenant.
        tenant: &'e TenantId,
        /// Kind of the job.
        kind: &'e Kind,
        /// Token of the lease, which names the job.
        token: LeaseToken,
    },
    /// A handler starts on a job.
    Started {
        /// The job's tenant.
        tenant: &'e TenantId,
        /// Plugin that handles the job.
        plugin: &'e PluginName,
        /// Id of the job.
        job: JobId,
        /// Kind of the job.
        kind: &'e Kind,
    },
    /// A handler has ended, or was stopped.
    Ended {
        /// The job's tenant.
        tenant: &'e TenantId,
        /// Plugin that handled the job.
        plugin: &'e PluginName,
        /// Id of the job.
        job: JobId,
        /// Outcome of the run, or `None` if the handler has returned.
        failure: Option<&'e Outcome>,
        /// Fuel, memory and time that the run took.
        usage: Usage,
    },
    /// A job that was leased goes back without a run.
    Deferred {
        /// The job's tenant.
        tenant: &'e TenantId,
        /// Id of the job.
        job: JobId,
        /// Time for which the job rests.
        after: Duration,
        /// Reason why it wasn't run.
        reason: Reason,
    },
    /// The broker has replied to a settlement.
    Settled {
        /// The job's tenant.
        tenant: &'e TenantId,
        /// Token of the lease that was settled.
        token: LeaseToken,
        /// Slug of the settlement that was to be recorded.
        settlement: &'static str,
        /// Plugin that ran the job. `None` if none did.
        plugin: Option<&'e PluginName>,
        /// The broker's reply.
        reply: &'e SettleReply,
    },
    /// The lease of an attempt went to another: all effects of the attempt are dropped.
    LeaseLost {
        /// The job's tenant.
        tenant: &'e TenantId,
        /// Token of the lost lease.
        token: LeaseToken,
    },
    /// An attempt is over: it was settled, or its lease was lost.
    Finished(Finished<'e>),
    /// A job was buried because its leases ran out too often.
    Expired {
        /// The job's tenant.
        tenant: &'e TenantId,
        /// Id of the job.
        job: JobId,
    },
    /// A tenant's fuel of this window is used up.
    FuelUsedUp {
        /// The tenant.
        tenant: &'e TenantId,
        /// Window of the quota that is used up.
        window: Window,
        /// Consequence for the tenant's jobs, as text for people.
        consequence: &'static str,
    },
    /// A breaker has opened or closed.
    BreakerTurned {
        /// The breaker's tenant.
        tenant: &'e TenantId,
        /// The breaker.
        breaker: &'e BreakerName,
        /// Change of its state.
        turn: Turn,
    },
    /// A nominal time of a schedule was dealt with.
    Scheduled {
        /// The schedule's tenant.
        tenant: &'e TenantId,
        /// The schedule.
        schedule: &'e ScheduleName,
        /// The nominal time, and what became of it.
        past: &'e Past,
    },
    /// A schedule of a plugin was registered, changed or removed, or can't be.
    ScheduleRegistered {
        /// The schedule's tenant.
        tenant: &'e TenantId,
        /// The schedule.
        schedule: &'e ScheduleName,
        /// The plugin in whose file it is, or was.
        plugin: &'e PluginName,
        /// Result of the registration.
        registration: Registration,
    },
    /// A schedule can't be read, so it doesn't fire.
    ScheduleUnreadable {
        /// The schedule's tenant.
        tenant: &'e TenantId,
        /// The schedule.
        schedule: &'e ScheduleName,
        /// Reason why, as text for people.
        why: &'e str,
    },
    /// A deploy event: something was deployed, tried, taken back, or failed to be.
    Deploy(&'e DeployEvent),
    /// A broker can't be used any more.
    BrokerDown {
        /// Tenant that uses the broker. `None` for the connection that listens for all tenants.
        tenant: Option<&'e TenantId>,
        /// Kind of trouble: whether it may end by itself.
        trouble: Trouble,
        /// Number of tenants that have the same trouble by now.
        tenants: usize,
        /// The error.
        error: &'e Error,
    },
    /// A broker can be used again.
    BrokerUp {
        /// Tenant that uses the broker. `None` for the connection that listens for all tenants.
        tenant: Option<&'e TenantId>,
        /// Time for which it couldn't be used.
        after: Duration,
        /// Number of tenants whose broker still can't be used.
        tenants_left: usize,
    },
}

/// Attempt that is over.
#[derive(Debug, Clone, Copy)]
pub struct Finished<'e> {
    /// The job's tenant.
    pub tenant: &'e TenantId,
    /// Queue of the job. `None` if no plugin of the tenant names it.
    pub queue: Option<&'e QueueName>,
    /// Kind of the job. `None` if no plugin of the tenant handles it.
    pub kind: Option<&'e Kind>,
    /// Slug of the settlement that is recorded, and its reason. `None` if the lease was lost.
    pub settled: Option<(&'static str, Option<Reason>)>,
    /// Number of the attempt, from 1 on.
    pub attempt: u32,
    /// Whether [`Event::Started`] was told of it.
    pub was_started: bool,
    /// Time from the job's enqueueing to the start of its first run. `None` if this isn't its first, or it didn't start.
    pub waited: Option<Duration>,
    /// Fuel, memory and time that the run took. `None` if nothing ran to its end.
    pub ran: Option<Usage>,
    /// Time since the job was enqueued.
    pub age: Duration,
}

/// Result of the registration of a schedule that a plugin's file has, or has no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Registration {
    /// The schedule is new.
    Added,
    /// The schedule was there, with another definition.
    Changed,
    /// The schedule was removed, as its file doesn't have it any more.
    Removed,
    /// Another plugin or a command has a schedule of this name, which stays.
    Taken,
    /// The tenant has the maximum number of schedules.
    TooMany,
}

/// Trouble with a broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// The broker can't be reached, or is full, which may end by itself.
    Gone,
    /// The broker answers, and can't be used. This doesn't end before somebody changes something.
    Unusable,
}
