//! What happens in a daemon, told to whoever reads it.

use std::sync::Arc;
use std::time::Duration;

use sandhog_api::DeployEvent;
use sandhog_broker::Error;
use sandhog_core::attempt::SettleReply;
use sandhog_core::id::{JobId, LeaseToken, PluginName, TenantId};
use sandhog_core::job::Job;
use sandhog_core::outcome::{Outcome, Usage};
use sandhog_core::quota::Window;
use sandhog_core::reason::Reason;

/// A reader of what happens. It is called from the loops that lease and settle: it never blocks and never fails.
pub trait Observer: Send + Sync + 'static {
    /// Takes in that something has happened.
    fn on(&self, event: &Event<'_>);
}

/// Reads nothing.
impl Observer for () {
    fn on(&self, _: &Event<'_>) {}
}

/// Several readers, in their order.
impl Observer for Vec<Arc<dyn Observer>> {
    fn on(&self, event: &Event<'_>) {
        self.iter().for_each(|observer| observer.on(event));
    }
}

/// Something that has happened. What a job carries is none of a reader's business: payloads and outputs go nowhere.
#[derive(Debug)]
pub enum Event<'e> {
    /// A job was leased.
    Leased {
        /// Whose it is.
        tenant: &'e TenantId,
        /// The job.
        job: &'e Job,
        /// The lease.
        token: LeaseToken,
    },
    /// A handler begins with a job.
    Started {
        /// Whose it is.
        tenant: &'e TenantId,
        /// What handles it.
        plugin: &'e PluginName,
        /// The job.
        job: &'e Job,
    },
    /// A handler has ended, or was stopped.
    Ended {
        /// Whose it is.
        tenant: &'e TenantId,
        /// What handled it.
        plugin: &'e PluginName,
        /// The job.
        job: JobId,
        /// What it did.
        outcome: &'e Outcome,
        /// What it took.
        usage: Usage,
    },
    /// A job that was leased goes back without a run.
    Deferred {
        /// Whose it is.
        tenant: &'e TenantId,
        /// The job.
        job: JobId,
        /// How long it rests.
        after: Duration,
        /// Why.
        reason: Reason,
    },
    /// The broker has answered to a settlement.
    Settled {
        /// Whose the job is.
        tenant: &'e TenantId,
        /// Which lease was settled.
        token: LeaseToken,
        /// What was to be recorded, by its slug.
        settlement: &'static str,
        /// What ran, if something did.
        plugin: Option<&'e PluginName>,
        /// The answer.
        reply: &'e SettleReply,
    },
    /// The lease of an attempt went to another: whatever it did is dropped.
    LeaseLost {
        /// Whose the job is.
        tenant: &'e TenantId,
        /// The lease.
        token: LeaseToken,
    },
    /// A job was buried because its leases ran out too often.
    Expired {
        /// Whose it is.
        tenant: &'e TenantId,
        /// The job.
        job: JobId,
    },
    /// A tenant's fuel of this window is used up.
    FuelUsedUp {
        /// Whose.
        tenant: &'e TenantId,
        /// Of which window.
        window: Window,
        /// What becomes of its jobs, for people.
        consequence: &'static str,
    },
    /// Something was deployed, tried, taken back, or failed to be.
    Deploy(&'e DeployEvent),
    /// A broker can't be used any more.
    BrokerDown {
        /// Whose it is; none of the connection that listens for all tenants.
        tenant: Option<&'e TenantId>,
        /// Whether that may end by itself.
        trouble: Trouble,
        /// How many tenants have the same trouble by now.
        tenants: usize,
        /// What went wrong.
        error: &'e Error,
    },
    /// A broker can be used again.
    BrokerUp {
        /// Whose it is; none of the connection that listens for all tenants.
        tenant: Option<&'e TenantId>,
        /// How long it couldn't be used.
        after: Duration,
        /// How many tenants still have to do without.
        tenants_left: usize,
    },
}

/// What is wrong with a broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// It can't be reached, which may end by itself.
    Gone,
    /// It answers, and can't be used. This doesn't end before somebody changes something.
    Unusable,
}
