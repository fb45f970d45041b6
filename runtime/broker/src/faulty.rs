//! A broker that injects faults, by a plan that a seed makes repeatable.
//!
//! ```text
//! call ──> delay ──> lost before? ──> the broker behind ──> delay ──> lost after? ──> reply
//!                        Unavailable, nothing was done         Unavailable, and all was done
//! ```
//!
//! The second loss is the one that counts: the caller can't tell it from the first, and has to repeat what has happened
//! already. If no faults are configured, it behaves as the broker behind it.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use sandhog_core::attempt::SettleReply;
use sandhog_core::id::{DaemonId, TenantId};
use sandhog_core::job::NewJob;
use sandhog_core::quota::QueueBounds;
use tokio::sync::watch;

use crate::wake::Waker;
use crate::{
    Broker, Command, DaemonReport, Enqueued, Error, Fleet, LeaseAsk, Leased, Look, Outcome, Renew, Renewal,
    Result, Seen, Settle, Wake, Wakes,
};

/// The kinds of faults to inject, and their rates.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Faults {
    /// The seed of the faults: the same seed and the same calls make the same faults.
    pub seed: u64,
    /// The share of calls, 0 to 1, that fail and do nothing.
    pub lost_before: f64,
    /// The share of the other calls, 0 to 1, whose reply is lost after they were done.
    pub lost_after: f64,
    /// Maximum delay of a call, and of its reply. By tokio's clock, which a test may pause.
    pub delay_max: Duration,
}

/// The broker that injects faults.
pub struct Faulty {
    behind: Arc<dyn Broker>,
    faults: Faults,
    chance: Mutex<StdRng>,
    line: watch::Sender<Line>,
}

/// Whether the broker can be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    Up,
    Down,
}

/// The faults drawn for one call.
struct Fate {
    delays: [Duration; 2],
    lost_before: bool,
    lost_after: bool,
}

impl Faulty {
    /// Creates a broker that passes every call on to `behind`, but for these faults.
    #[must_use]
    pub fn new(behind: Arc<dyn Broker>, faults: Faults) -> Self {
        let chance = Mutex::new(StdRng::seed_from_u64(faults.seed));
        Self { behind, faults, chance, line: watch::Sender::new(Line::Up) }
    }

    /// Starts an outage: from now on nothing gets through, no call, no reply to one that is under way, and no wake.
    pub fn down(&self) {
        self.line.send_replace(Line::Down);
    }

    /// Ends an outage. Listeners get [`Wake::All`], as they may have missed something.
    pub fn up(&self) {
        self.line.send_replace(Line::Up);
    }

    async fn call<T>(&self, what: &'static str, call: impl Future<Output = Result<T>> + Send) -> Result<T> {
        let fate = self.draw();
        wait(fate.delays[0]).await;
        self.pass(what, fate.lost_before)?;
        let reply = call.await?;
        wait(fate.delays[1]).await;
        self.pass(what, fate.lost_after)?;
        Ok(reply)
    }

    fn draw(&self) -> Fate {
        let mut chance = self.chance.lock().unwrap_or_else(PoisonError::into_inner);
        let delay_max = self.faults.delay_max;
        Fate {
            delays: [delay_max.mul_f64(chance.random()), delay_max.mul_f64(chance.random())],
            lost_before: chance.random_bool(self.faults.lost_before),
            lost_after: chance.random_bool(self.faults.lost_after),
        }
    }

    fn pass(&self, what: &'static str, lost: bool) -> Result<()> {
        let cause = match *self.line.borrow() {
            Line::Down => "there is an outage",
            Line::Up if lost => "no answer came",
            Line::Up => return Ok(()),
        };
        Err(Error::Unavailable { what, cause: cause.to_owned() })
    }
}

async fn wait(delay: Duration) {
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
}

/// Passes wakes on while the line is up, until either end is gone.
async fn pass_on(mut heard: Wakes, waker: Waker, mut line: watch::Receiver<Line>) {
    loop {
        tokio::select! {
            biased;
            () = waker.closed() => return,
            changed = line.changed() => match changed {
                Ok(()) if *line.borrow_and_update() == Line::Up => waker.wake(Wake::All),
                Ok(()) => {}
                Err(_) => return,
            },
            wake = heard.next() => match wake {
                Some(wake) if *line.borrow() == Line::Up => waker.wake(wake),
                Some(_) => {}
                None => return,
            },
        }
    }
}

#[async_trait]
impl Broker for Faulty {
    async fn enqueue_within(
        &self,
        tenant: &TenantId,
        jobs: &[NewJob],
        bounds: &QueueBounds,
    ) -> Result<Vec<Enqueued>> {
        self.call("enqueue", self.behind.enqueue_within(tenant, jobs, bounds)).await
    }

    async fn lease(&self, ask: LeaseAsk<'_>) -> Result<Leased> {
        self.call("lease", self.behind.lease(ask)).await
    }

    async fn renew(&self, tenant: &TenantId, ttl: Duration, leases: &[Renew]) -> Result<Vec<Renewal>> {
        self.call("renew", self.behind.renew(tenant, ttl, leases)).await
    }

    async fn settle(&self, tenant: &TenantId, settlements: &[Settle]) -> Result<Vec<SettleReply>> {
        self.call("settle", self.behind.settle(tenant, settlements)).await
    }

    async fn control(&self, tenant: &TenantId, command: Command) -> Result<Outcome> {
        self.call("control", self.behind.control(tenant, command)).await
    }

    async fn look(&self, tenant: &TenantId, look: Look) -> Result<Seen> {
        self.call("look", self.behind.look(tenant, look)).await
    }

    async fn watch(&self, tenants: Vec<TenantId>) -> Result<Wakes> {
        let line = self.line.subscribe();
        let heard = self.call("watch", self.behind.watch(tenants)).await?;
        let (waker, wakes) = Wakes::channel();
        tokio::spawn(pass_on(heard, waker, line));
        Ok(wakes)
    }

    async fn tenants(&self) -> Result<Vec<TenantId>> {
        self.call("tenants", self.behind.tenants()).await
    }

    async fn report_daemon(&self, id: DaemonId, report: Option<&DaemonReport>) -> Result<()> {
        self.call("report of a daemon", self.behind.report_daemon(id, report)).await
    }

    async fn daemons(&self) -> Result<Fleet> {
        self.call("daemons", self.behind.daemons()).await
    }

    async fn check(&self) -> Result<Vec<String>> {
        self.call("check", self.behind.check()).await
    }
}
