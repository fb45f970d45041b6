//! A way to several brokers: each tenant's calls go to the one that serves it.
//!
//! With a Redis user of its own for each tenant, nobody's connection sees what isn't its tenant's.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sandhog_core::attempt::SettleReply;
use sandhog_core::id::TenantId;
use sandhog_core::job::NewJob;
use sandhog_core::quota::QueueBounds;

use crate::wake::Waker;
use crate::{
    Broker, Command, Enqueued, LeaseAsk, Leased, Look, Outcome, Renew, Renewal, Result, Seen, Settle, Wakes,
};

/// Which broker serves whom.
pub trait Routes: Send + Sync + 'static {
    /// The broker of this tenant.
    ///
    /// # Errors
    /// If it has none that can be used.
    fn route(&self, tenant: &TenantId) -> Result<Arc<dyn Broker>>;

    /// Every broker that serves somebody, once each.
    fn all(&self) -> Vec<Arc<dyn Broker>>;
}

/// A broker, and whom it serves.
type Group = (Arc<dyn Broker>, Vec<TenantId>);

/// Several brokers as one.
#[derive(Debug)]
pub struct Routed<R> {
    routes: R,
}

impl<R: Routes> Routed<R> {
    /// Sends each call where `routes` says.
    #[must_use]
    pub fn new(routes: R) -> Self {
        Self { routes }
    }

    /// The brokers of these tenants, each with its own among them.
    fn by_broker(&self, tenants: Vec<TenantId>) -> Result<Vec<Group>> {
        let mut groups: Vec<Group> = Vec::new();
        for tenant in tenants {
            let broker = self.routes.route(&tenant)?;
            match groups.iter_mut().find(|(known, _)| Arc::ptr_eq(known, &broker)) {
                Some((_, of_broker)) => of_broker.push(tenant),
                None => groups.push((broker, vec![tenant])),
            }
        }
        Ok(groups)
    }
}

/// Passes wakes on until either end is gone.
async fn pass_on(mut heard: Wakes, waker: Arc<Waker>) {
    loop {
        tokio::select! {
            biased;
            () = waker.closed() => return,
            wake = heard.next() => match wake {
                Some(wake) => waker.wake(wake),
                None => return,
            },
        }
    }
}

#[async_trait]
impl<R: Routes> Broker for Routed<R> {
    async fn enqueue_within(
        &self,
        tenant: &TenantId,
        jobs: &[NewJob],
        bounds: &QueueBounds,
    ) -> Result<Vec<Enqueued>> {
        self.routes.route(tenant)?.enqueue_within(tenant, jobs, bounds).await
    }

    async fn lease(&self, ask: LeaseAsk<'_>) -> Result<Leased> {
        self.routes.route(ask.tenant)?.lease(ask).await
    }

    async fn renew(&self, tenant: &TenantId, ttl: Duration, leases: &[Renew]) -> Result<Vec<Renewal>> {
        self.routes.route(tenant)?.renew(tenant, ttl, leases).await
    }

    async fn settle(&self, tenant: &TenantId, settlements: &[Settle]) -> Result<Vec<SettleReply>> {
        self.routes.route(tenant)?.settle(tenant, settlements).await
    }

    async fn control(&self, tenant: &TenantId, command: Command) -> Result<Outcome> {
        self.routes.route(tenant)?.control(tenant, command).await
    }

    async fn look(&self, tenant: &TenantId, look: Look) -> Result<Seen> {
        self.routes.route(tenant)?.look(tenant, look).await
    }

    /// One stream for all of them. It goes on as long as one of theirs does.
    async fn watch(&self, tenants: Vec<TenantId>) -> Result<Wakes> {
        let (waker, wakes) = Wakes::channel();
        let waker = Arc::new(waker);
        for (broker, tenants) in self.by_broker(tenants)? {
            tokio::spawn(pass_on(broker.watch(tenants).await?, Arc::clone(&waker)));
        }
        Ok(wakes)
    }

    /// What several have to say is said once.
    async fn check(&self) -> Result<Vec<String>> {
        let mut warnings = Vec::new();
        for broker in self.routes.all() {
            for warning in broker.check().await? {
                if !warnings.contains(&warning) {
                    warnings.push(warning);
                }
            }
        }
        Ok(warnings)
    }
}
