//! Two holders of one job. The slow one lets its lease run out, and goes on as if it hadn't noticed: with the token that is
//! stale by then it tries whatever a holder may do. All of it is to be refused, and to leave no trace.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sandhog_broker::{Broker, LeaseAsk, Ran, Renew, Renewal, Settle, Sweep};
use sandhog_core::account::Day;
use sandhog_core::attempt::SettleReply;
use sandhog_core::budget::Bytes;
use sandhog_core::effects::Effects;
use sandhog_core::id::{DaemonId, LeaseToken, PluginName, QueueName, Revision, StateKey, TenantId};
use sandhog_core::job::{Level, LogLine, NewJob, Progress};
use sandhog_core::outcome::Usage;
use sandhog_core::quota::StateQuota;
use sandhog_core::reason::Reason;
use sandhog_core::settle::Settlement;
use sandhog_core::time::Timestamp;
use sandhog_tests::{hog_job, tenant};
use tokio::sync::watch;
use tokio::time::sleep;

use crate::history::Event;
use crate::world::{World, until_answered};

/// So short that it runs out while its holder does nothing.
const SLOW: Duration = Duration::from_millis(150);
/// Longer than a round.
const QUICK: Duration = Duration::from_secs(3);
const REST: Duration = Duration::from_millis(20);

/// Plays rounds until it is told that it is over; a round that was begun is played to its end.
pub(crate) async fn hold(world: Arc<World>, over: watch::Receiver<bool>) {
    let pair = Pair { tenant: tenant("held"), world };
    while !*over.borrow() {
        pair.round().await;
    }
}

/// A lease, which holds until then at least.
struct Held {
    token: LeaseToken,
    until: Instant,
}

struct Pair {
    world: Arc<World>,
    tenant: TenantId,
}

impl Pair {
    async fn round(&self) {
        let (slow_way, quick_way) = (&*self.world.client, &*self.world.direct);
        let job = hog_job("hog.echo", "1");
        until_answered(|| slow_way.enqueue(&self.tenant, std::slice::from_ref(&job))).await;
        let stale = self.lease(slow_way, &job, SLOW).await.token;
        let held = self.lease(quick_way, &job, QUICK).await;
        self.try_all(stale, &job, Some(&held)).await;
        let held = held.token;
        let settle = self.settle(held, "quick", succeed("quick", &job));
        // Once more, as if the answer had been lost.
        for _ in 0..2 {
            let reply =
                until_answered(|| quick_way.settle(&self.tenant, std::slice::from_ref(&settle))).await;
            if reply != [SettleReply::Applied] {
                // The round took longer than its lease. What it leaves would change while the next one compares.
                return self.clear(&job).await;
            }
            self.world.history.note(Event::Settled { job: job.id, lease: held.lease });
        }
        self.try_all(stale, &job, None).await;
        let counted = self.state(quick_way, &key("quick", &job)).await;
        let after = format!("counted {:?}", counted.as_deref().map(String::from_utf8_lossy));
        self.world.history.note(Event::Trace {
            job: job.id,
            before: "counted Some(\"1\")".to_owned(),
            after,
        });
    }

    /// Leases the job, however long that takes.
    async fn lease(&self, way: &dyn Broker, job: &NewJob, ttl: Duration) -> Held {
        let queues = [(job.queue.clone(), 1)];
        loop {
            // No daemon knows the tenant, or would take back its leases at once.
            let swept = way.sweep(&self.tenant, Sweep::new(u32::MAX)).await;
            let ask = LeaseAsk::new(&self.tenant, &queues, ttl);
            let until = Instant::now() + ttl;
            let leased = if swept.is_ok() { way.lease(ask).await.ok() } else { None };
            let leases = leased.map(|leased| leased.leases).unwrap_or_default();
            match leases.into_iter().find(|lease| lease.token.job == job.id) {
                Some(lease) => return Held { token: lease.token, until },
                None => sleep(REST).await,
            }
        }
    }

    /// Has a job end, whoever holds it.
    async fn clear(&self, job: &NewJob) {
        let way = &*self.world.direct;
        loop {
            until_answered(|| way.cancel(&self.tenant, job.id)).await;
            until_answered(|| way.sweep(&self.tenant, Sweep::new(u32::MAX))).await;
            let record = until_answered(|| way.job(&self.tenant, job.id)).await;
            if record.is_none_or(|record| record.state.is_final()) {
                return;
            }
            sleep(REST).await;
        }
    }

    /// Tries all that a holder may do, and notes what was answered; and what has changed, unless the other one's lease may have
    /// run out meanwhile.
    async fn try_all(&self, token: LeaseToken, job: &NewJob, other: Option<&Held>) {
        let before = self.trace(job).await;
        let way = &*self.world.client;
        let renew = Renew { token, progress: Some(progress()), log: vec![line()] };
        let renewed = until_answered(|| way.renew(&self.tenant, QUICK, std::slice::from_ref(&renew))).await;
        self.note(job, "a renewal with progress and log", renewed == [Renewal::Lost]);
        let message = || "stale".to_owned();
        let wait = Duration::ZERO;
        for settlement in [
            succeed("stale", job),
            Settlement::Retry { after: wait, reason: Reason::Failed, message: message() },
            Settlement::Release { after: wait, reason: Reason::Drained },
            Settlement::Bury { reason: Reason::Failed, message: message() },
            Settlement::Cancel,
        ] {
            let call = settlement.slug();
            let settle = self.settle(token, "stale", settlement);
            let reply = until_answered(|| way.settle(&self.tenant, std::slice::from_ref(&settle))).await;
            self.note(job, call, reply == [SettleReply::Lost]);
        }
        let after = self.trace(job).await;
        if other.is_none_or(|held| Instant::now() < held.until) {
            self.world.history.note(Event::Trace { job: job.id, before, after });
        }
    }

    fn note(&self, job: &NewJob, call: &'static str, refused: bool) {
        self.world.history.note(Event::Stale { job: job.id, call, refused });
    }

    fn settle(&self, token: LeaseToken, who: &str, settlement: Settlement) -> Settle {
        let ran = Ran {
            state_max: StateQuota { bytes: Bytes::mib(64), keys: 1_000 },
            ..Ran::new(
                DaemonId::from_parts(Timestamp::from_millis(1), 1),
                plugin(),
                Revision::from_sha256([0; 32]),
                Usage::default(),
            )
        };
        let log = LogLine { message: who.to_owned(), ..line() };
        Settle { progress: Some(progress()), log: vec![log], ..Settle::of_run(token, ran, settlement) }
    }

    async fn state(&self, way: &dyn Broker, key: &StateKey) -> Option<Vec<u8>> {
        let plugin = plugin();
        until_answered(|| way.state(&self.tenant, &plugin, key)).await
    }

    /// All that there is of the job, and of what stale calls would have left elsewhere.
    async fn trace(&self, job: &NewJob) -> String {
        let way = &*self.world.direct;
        let record = until_answered(|| way.job(&self.tenant, job.id)).await;
        let log = until_answered(|| way.log(&self.tenant, job.id)).await;
        let counts = until_answered(|| way.counts(&self.tenant)).await;
        let state = self.state(way, &key("stale", job)).await;
        let usage = until_answered(|| way.usage(&self.tenant, Day(0)..=Day(u32::MAX))).await;
        format!("{record:?} {log:?} {counts:?} {state:?} {usage:?}")
    }
}

/// With an effect of each kind.
fn succeed(who: &str, job: &NewJob) -> Settlement {
    let mut effects = Effects::default();
    effects.increment(key(who, job), 1).expect("nothing is there that is no number");
    let elsewhere = QueueName::parse("nobodys").expect("a queue");
    effects.enqueue(NewJob { queue: elsewhere, ..hog_job("hog.echo", "2") });
    Settlement::Succeed { output: who.as_bytes().to_vec(), effects }
}

fn plugin() -> PluginName {
    PluginName::parse("holder").expect("a name")
}

fn key(who: &str, job: &NewJob) -> StateKey {
    StateKey::parse(&format!("{who}/{}", job.id)).expect("a key")
}

fn progress() -> Progress {
    Progress { done: 1, total: None, message: Some("stale".to_owned()) }
}

fn line() -> LogLine {
    let at = Timestamp::from_millis(1);
    LogLine { at, attempt: 1, level: Level::Info, message: "stale".to_owned(), fields: Vec::new() }
}
