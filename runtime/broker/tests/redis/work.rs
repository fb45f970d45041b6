//! Short ways to say what the tests here do all the time.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sandhog_broker::redis::testing::Server;
use sandhog_broker::redis::{Config, Redis};
use sandhog_broker::{Broker, Counts, Enqueued, Error, LeaseAsk, Leased, Ran, Result, Settle, Wake, Wakes};
use sandhog_core::attempt::SettleReply;
use sandhog_core::effects::Effects;
use sandhog_core::id::{DaemonId, JobId, Kind, LeaseToken, PluginName, QueueName, Revision, TenantId};
use sandhog_core::job::{Lease, NewJob, State};
use sandhog_core::outcome::Usage;
use sandhog_core::settle::Settlement;
use sandhog_core::time::Timestamp;
use tokio::time::timeout;

/// Counts of scheduled, ready, leased, succeeded, dead and cancelled jobs.
pub(crate) fn counts(numbers: [u64; 6]) -> Counts {
    let states = State::ALL.into_iter().filter(|state| *state != State::Blocked);
    let all: Vec<(State, u64)> = states.zip(numbers).collect();
    Counts::of(&all)
}

pub(crate) const TTL: Duration = Duration::from_secs(60);

/// Longer than anything takes that isn't broken.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn broker(server: &Server) -> Redis {
    Redis::new(&Config::new(server.url())).expect("the url is right")
}

pub(crate) fn impatient(url: String) -> Redis {
    Redis::new(&impatiently(Config::new(url))).expect("the url is right")
}

/// With waits so short that a test of outages needn't take long.
pub(crate) fn impatiently(config: Config) -> Config {
    Config {
        connect_timeout: Duration::from_millis(500),
        command_timeout: Duration::from_millis(500),
        ping_interval: Duration::from_millis(100),
        ..config
    }
}

/// Repeats a call until the server is back.
pub(crate) async fn until_it_works<T>(mut call: impl AsyncFnMut() -> sandhog_broker::Result<T>) -> T {
    let trying = async {
        loop {
            match call().await {
                Ok(value) => return value,
                Err(Error::Unavailable { .. }) => tokio::time::sleep(Duration::from_millis(10)).await,
                Err(other) => panic!("an outage is no reason to give up: {other}"),
            }
        }
    };
    timeout(PATIENCE, trying).await.expect("it works again")
}

pub(crate) async fn next(wakes: &mut Wakes) -> Wake {
    timeout(PATIENCE, wakes.next()).await.expect("a wake comes").expect("the broker is open")
}

/// Waits for news that make whoever hears them ask for this tenant.
pub(crate) async fn hear_of(wakes: &mut Wakes, tenant: &TenantId) {
    while !matches!(next(wakes).await, Wake::Ready { tenant: woken, .. } if woken == *tenant) {}
}

fn next_number() -> u64 {
    static COUNT: AtomicU64 = AtomicU64::new(1);
    COUNT.fetch_add(1, Ordering::Relaxed)
}

/// A tenant that no other test here uses.
pub(crate) fn tenant() -> TenantId {
    TenantId::parse(&format!("tenant-{}", next_number())).expect("a valid name")
}

pub(crate) fn queue() -> QueueName {
    QueueName::parse("default").expect("a valid name")
}

pub(crate) fn plugin() -> PluginName {
    PluginName::parse("thumbnail").expect("a valid name")
}

pub(crate) fn job() -> NewJob {
    NewJob::new(
        JobId::from_parts(Timestamp::from_millis(next_number()), 7),
        queue(),
        Kind::parse("image.thumbnail").expect("a valid name"),
        b"{}".to_vec(),
    )
}

pub(crate) fn jobs(count: usize) -> Vec<NewJob> {
    (0..count).map(|_| job()).collect()
}

pub(crate) fn succeed(token: LeaseToken, effects: Effects) -> Settle {
    let ran = Ran::new(
        DaemonId::from_parts(Timestamp::from_millis(1), 1),
        plugin(),
        Revision::from_sha256([7; 32]),
        Usage::default(),
    );
    Settle::of_run(token, ran, Settlement::Succeed { output: b"done".to_vec(), effects })
}

/// A broker with what the tests here ask of one.
pub(crate) trait Work: Broker {
    async fn store(&self, tenant: &TenantId, jobs: &[NewJob]) {
        let replies = self.enqueue(tenant, jobs).await.expect("the server is there");
        assert_eq!(replies, vec![Enqueued::Stored; jobs.len()]);
    }

    async fn ask(&self, tenant: &TenantId, count: u32) -> Result<Leased> {
        let queues = [(queue(), count)];
        self.lease(LeaseAsk::new(tenant, &queues, TTL)).await
    }

    async fn take(&self, tenant: &TenantId, count: u32) -> Vec<Lease> {
        self.ask(tenant, count).await.expect("the server is there").leases
    }

    /// Settles them all as done.
    async fn finish(&self, tenant: &TenantId, leases: &[Lease]) {
        let settles: Vec<Settle> =
            leases.iter().map(|lease| succeed(lease.token, Effects::default())).collect();
        let replies = self.settle(tenant, &settles).await.expect("the server is there");
        assert_eq!(replies, vec![SettleReply::Applied; leases.len()]);
    }
}

impl<B: Broker> Work for B {}

/// A plain connection, to look at the server with.
pub(crate) async fn connection(server: &Server) -> redis::aio::MultiplexedConnection {
    let client = redis::Client::open(server.url()).expect("the url is right");
    client.get_multiplexed_async_connection().await.expect("the server is there")
}
