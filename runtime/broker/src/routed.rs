//! A broker that sends each tenant's calls to the broker that serves the tenant.
//!
//! With a Redis user of its own for each tenant, no connection sees another tenant's data.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::future::join_all;
use sandhog_core::attempt::SettleReply;
use sandhog_core::id::{DaemonId, TenantId};
use sandhog_core::job::NewJob;
use sandhog_core::quota::QueueBounds;

use crate::wake::Waker;
use crate::{
    Broker, Command, DaemonReport, Enqueued, Fleet, LeaseAsk, Leased, Look, Outcome, Renew, Renewal, Result,
    Seen, Settle, Wakes,
};

/// The assignment of tenants to brokers.
pub trait Routes: Send + Sync + 'static {
    /// Returns the broker of this tenant.
    ///
    /// # Errors
    /// If the tenant has no broker that can be used.
    fn route(&self, tenant: &TenantId) -> Result<Arc<dyn Broker>>;

    /// Returns every broker that serves a tenant, once each.
    fn all(&self) -> Vec<Arc<dyn Broker>>;

    /// Returns the broker that has the list of daemons.
    fn of_fleet(&self) -> Arc<dyn Broker>;
}

/// A broker, and the tenants that it serves.
type Group = (Arc<dyn Broker>, Vec<TenantId>);

/// Several brokers as one: each call goes to its tenant's broker.
#[derive(Debug)]
pub struct Routed<R> {
    routes: R,
}

impl<R: Routes> Routed<R> {
    /// Creates a broker that sends each call where `routes` says.
    #[must_use]
    pub fn new(routes: R) -> Self {
        Self { routes }
    }

    /// Groups these tenants by their broker. A tenant that has none is left out.
    fn by_broker(&self, tenants: Vec<TenantId>) -> Vec<Group> {
        let mut groups: Vec<Group> = Vec::new();
        for tenant in tenants {
            // Any other call for this tenant says what is wrong.
            let Ok(broker) = self.routes.route(&tenant) else { continue };
            match groups.iter_mut().find(|(known, _)| Arc::ptr_eq(known, &broker)) {
                Some((_, of_broker)) => of_broker.push(tenant),
                None => groups.push((broker, vec![tenant])),
            }
        }
        groups
    }
}

/// Time to wait before trying again to listen to a broker that couldn't be listened to.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Passes on the wakes of one broker, from when it can be listened to until either end is gone.
async fn listen((broker, tenants): Group, waker: Arc<Waker>) {
    loop {
        let heard = tokio::select! {
            biased;
            () = waker.closed() => return,
            heard = broker.watch(tenants.clone()) => heard,
        };
        match heard {
            Ok(heard) => return pass_on(heard, waker).await,
            Err(error) => tracing::debug!(%error, "a broker can't be listened to yet"),
        }
        tokio::select! {
            biased;
            () = waker.closed() => return,
            () = tokio::time::sleep(RETRY_AFTER) => {}
        }
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

    /// Merges the wakes of all the brokers into one stream. It goes on as long as one of theirs does, and waits for none of
    /// them: a broker that can't be listened to is tried again, and its own calls say what is wrong with it.
    async fn watch(&self, tenants: Vec<TenantId>) -> Result<Wakes> {
        let (waker, wakes) = Wakes::channel();
        let waker = Arc::new(waker);
        for group in self.by_broker(tenants) {
            tokio::spawn(listen(group, Arc::clone(&waker)));
        }
        Ok(wakes)
    }

    /// Returns the tenants of all brokers that answer, once each. Fails if none answers.
    async fn tenants(&self) -> Result<Vec<TenantId>> {
        let mut tenants = BTreeSet::new();
        let (mut answers, mut failure) = (0, None);
        let brokers = self.routes.all();
        for found in join_all(brokers.iter().map(|broker| broker.tenants())).await {
            match found {
                Ok(found) => {
                    answers += 1;
                    tenants.extend(found);
                }
                // Any other call for its tenants says what is wrong.
                Err(error) => failure = Some(error),
            }
        }
        match failure {
            Some(error) if answers == 0 => Err(error),
            _ => Ok(tenants.into_iter().collect()),
        }
    }

    async fn report_daemon(&self, id: DaemonId, report: Option<&DaemonReport>) -> Result<()> {
        self.routes.of_fleet().report_daemon(id, report).await
    }

    async fn daemons(&self) -> Result<Fleet> {
        self.routes.of_fleet().daemons().await
    }

    /// Returns the warnings of all brokers, each once. Fails with the first broker that fails.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::faulty::{Faults, Faulty};
    use crate::memory::Memory;
    use crate::{SystemClock, Wake};

    struct Roads {
        silent: Arc<dyn Broker>,
        others: Arc<dyn Broker>,
    }

    impl Routes for Roads {
        fn route(&self, tenant: &TenantId) -> Result<Arc<dyn Broker>> {
            match tenant.as_str() {
                "none" => Err(crate::Error::Unfit { problem: "its login is not at hand".into() }),
                "silent" => Ok(Arc::clone(&self.silent)),
                _ => Ok(Arc::clone(&self.others)),
            }
        }

        fn all(&self) -> Vec<Arc<dyn Broker>> {
            vec![Arc::clone(&self.silent), Arc::clone(&self.others)]
        }

        fn of_fleet(&self) -> Arc<dyn Broker> {
            Arc::clone(&self.others)
        }
    }

    #[tokio::test]
    async fn tenants_of_a_broker_that_answers_are_known_though_another_is_gone() {
        let known: Arc<dyn Broker> = Arc::new(Memory::new(Arc::new(SystemClock)));
        let tenant = TenantId::parse("other").expect("valid");
        let id = sandhog_core::id::JobId::from_parts(sandhog_core::time::Timestamp::from_millis(1), 1);
        let [queue, kind] = ["q", "k"];
        let (queue, kind) = (queue.parse().expect("valid"), kind.parse().expect("valid"));
        known.enqueue(&tenant, &[NewJob::new(id, queue, kind, Vec::new())]).await.expect("it is stored");
        let gone = Arc::new(Faulty::new(Arc::clone(&known), Faults::default()));
        gone.down();
        let gone: Arc<dyn Broker> = gone;
        let some = Routed::new(Roads { silent: Arc::clone(&gone), others: known });
        assert_eq!(some.tenants().await.expect("one answers"), [tenant]);
        let none = Routed::new(Roads { silent: Arc::clone(&gone), others: gone });
        assert!(none.tenants().await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_tenant_is_heard_of_though_the_brokers_of_others_are_silent_gone_or_missing() {
        let tenant = |name| TenantId::parse(name).expect("valid");
        let hours = Faults { delay_max: Duration::from_secs(100 * 60 * 60), ..Faults::default() };
        let memory: Arc<dyn Broker> = Arc::new(Memory::new(Arc::new(SystemClock)));
        let gone = Arc::new(Faulty::new(Arc::clone(&memory), Faults::default()));
        gone.down();
        let silent: Arc<dyn Broker> = Arc::new(Faulty::new(Arc::clone(&memory), hours));

        let heard = Routed::new(Roads { silent, others: Arc::clone(&memory) });
        let tenants = ["none", "silent", "other"].map(tenant);
        let mut wakes = heard.watch(tenants.to_vec()).await.expect("it waits for none of them");
        let started = tokio::time::Instant::now();
        assert_eq!(wakes.next().await, Some(Wake::All));
        assert_eq!(started.elapsed(), Duration::ZERO);

        let others: Arc<dyn Broker> = Arc::clone(&gone) as _;
        let heard = Routed::new(Roads { silent: memory, others });
        let mut wakes = heard.watch(tenants.to_vec()).await.expect("it waits for none of them");
        assert_eq!(wakes.next().await, Some(Wake::All), "of the one that answers");
        gone.up();
        assert_eq!(wakes.next().await, Some(Wake::All), "of the one that is back");
    }
}
