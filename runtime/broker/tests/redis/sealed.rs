//! Sealed data on a real server: the same rules, and nothing in the server's hands that it could read or swap.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use sandhog_broker::conformance::{self, Fixture, ManualClock};
use sandhog_broker::redis::testing::{Durability, Server};
use sandhog_broker::redis::{Config, Redis};
use sandhog_broker::sealed::{Keyring, Keys, Plain, Sealed, random_key};
use sandhog_broker::{Broker, Error, Settle};
use sandhog_core::attempt::SettleReply;
use sandhog_core::effects::Effects;
use sandhog_core::id::{JobId, KeyId, StateKey, TenantId};
use sandhog_core::job::{NewJob, State};
use sandhog_core::reason::Reason;

use crate::work::{Work, broker, connection, jobs, plugin, succeed, tenant};

/// Every tenant has the same ring.
struct SameForAll(Keyring);

impl Keys for SameForAll {
    fn of(&self, _tenant: &TenantId) -> Option<Keyring> {
        Some(self.0.clone())
    }
}

fn sealed(behind: Redis) -> Sealed<SameForAll> {
    let id = KeyId::parse("2026-11").expect("a valid id");
    let keys = BTreeMap::from([(id.clone(), random_key())]);
    Sealed::new(Arc::new(behind), SameForAll(Keyring::new(id, keys, Plain::Refused)))
}

struct OnRedis {
    broker: Arc<Sealed<SameForAll>>,
    _server: Arc<Server>,
}

#[async_trait]
impl Fixture for OnRedis {
    // The head of a sealed value with the id of its key, and the tag at its end.
    const SEAL: u64 = 4 + 1 + 1 + 7 + 24 + 16;

    async fn start(clock: Arc<ManualClock>) -> Self {
        let server = Server::shared();
        let behind = Redis::with_clock(&Config::new(server.url()), clock).expect("the url is right");
        Self { broker: Arc::new(sealed(behind)), _server: server }
    }

    fn broker(&self) -> Arc<dyn Broker> {
        self.broker.clone()
    }
}

conformance::suite!(OnRedis);

#[tokio::test]
async fn the_model_agrees_on_random_operations_behind_the_seal() {
    conformance::agree::<OnRedis>(5, 400).await;
}

async fn calls(server: &Server) -> u64 {
    let info = redis::cmd("INFO").arg("commandstats").to_owned();
    let info: String = info.query_async(&mut connection(server).await).await.expect("it is there");
    let line = info.lines().find_map(|line| line.strip_prefix("cmdstat_fcall:calls=")).expect("some were");
    line.split(',').next().and_then(|calls| calls.parse().ok()).expect("a number")
}

/// Each rests on what the one before it leaves, and yet the server is asked once what is there, and told once.
#[tokio::test]
async fn a_batch_that_only_adds_takes_one_look_and_one_call() {
    let server = Server::start(Durability::None, &[]);
    let (broker, tenant) = (sealed(broker(&server)), tenant());
    let key = StateKey::parse("runs").expect("a valid key");
    broker.store(&tenant, &jobs(201)).await;
    let settles: Vec<Settle> = broker
        .take(&tenant, 201)
        .await
        .into_iter()
        .map(|lease| {
            let mut effects = Effects::default();
            effects.increment(key.clone(), 1).expect("a number");
            succeed(lease.token, effects)
        })
        .collect();
    // So that the scripts are known.
    broker.state(&tenant, &plugin(), &key).await.expect("the server is there");
    broker.settle(&tenant, &settles[..1]).await.expect("the server is there");
    let before = calls(&server).await;
    let replies = broker.settle(&tenant, &settles[1..]).await.expect("the server is there");
    assert_eq!((replies, calls(&server).await - before), (vec![SettleReply::Applied; 200], 2));
    // Of those that were settled before nothing is written, so whoever rests on one of them has to look again.
    let replies = broker.settle(&tenant, &settles).await.expect("the server is there");
    assert_eq!(replies, vec![SettleReply::Applied; 201]);
    let stored = broker.state(&tenant, &plugin(), &key).await.expect("the server is there");
    assert_eq!(stored, Some(b"201".to_vec()));
}

/// Whoever has the server swaps two jobs' bytes, and two values of state.
#[tokio::test]
async fn what_was_swapped_by_hand_is_refused() {
    let server = Server::shared();
    let (broker, tenant) = (sealed(broker(&server)), tenant());
    let payload = |n: u8| vec![n; 16];
    let all: Vec<NewJob> =
        jobs(4).into_iter().zip(0..).map(|(job, n)| NewJob { payload: payload(n), ..job }).collect();
    broker.store(&tenant, &all[..2]).await;
    let key = |name: &str| StateKey::parse(name).expect("a valid key");
    let mut effects = Effects::default();
    effects.set(key("a"), b"first".to_vec(), None);
    effects.set(key("b"), b"second".to_vec(), None);
    let leases = broker.take(&tenant, 2).await;
    broker.settle(&tenant, &[succeed(leases[0].token, effects)]).await.expect("the server is there");
    broker.finish(&tenant, &leases[1..]).await;
    broker.store(&tenant, &all[2..]).await;

    let mut hand = connection(&server).await;
    let mut swap = async |one: String, other: String| {
        let get = |key: &str| redis::cmd("GET").arg(key).to_owned();
        let first: Vec<u8> = get(&one).query_async(&mut hand).await.expect("it is there");
        let second: Vec<u8> = get(&other).query_async(&mut hand).await.expect("it is there");
        for (key, value) in [(one, second), (other, first)] {
            let set = redis::cmd("SET").arg(key).arg(value).to_owned();
            let () = set.query_async(&mut hand).await.expect("it can be written");
        }
    };
    let at = |what: &str, rest: &str| format!("sandhog:{{{tenant}}}:{what}:{rest}");
    let of_job = |n: usize| at("job", &all[n].id.to_string());
    swap(of_job(2), of_job(3)).await;
    swap(at("run", &all[0].id.to_string()), at("run", &all[1].id.to_string())).await;
    swap(at("state", &format!("{}:a", plugin())), at("state", &format!("{}:b", plugin()))).await;

    assert!(broker.take(&tenant, 9).await.is_empty(), "neither of the swapped jobs is handed out");
    for job in &all[2..] {
        let record = broker.job(&tenant, job.id).await.expect("the server is there").expect("it is there");
        assert_eq!((record.state, record.reason), (State::Dead, Some(Reason::Unreadable)));
        assert!(record.payload.is_empty() && record.unreadable.is_some());
    }
    for job in &all[..2] {
        let record = broker.job(&tenant, job.id).await.expect("the server is there").expect("it is there");
        assert_eq!((record.state, record.output), (State::Succeeded, None));
        let unreadable = record.unreadable.expect("its output was swapped");
        assert!(
            unreadable.contains("the output of job") && unreadable.contains("changed or moved"),
            "{unreadable}"
        );
    }
    for name in ["a", "b"] {
        let error = broker.state(&tenant, &plugin(), &key(name)).await.expect_err("it was swapped");
        assert!(matches!(error, Error::Sealed { .. }), "{error}");
    }
    let unknown = JobId::parse("01ARZ3NDEKTSV4RRFFQ69G5FAV").expect("a valid id");
    assert_eq!(broker.job(&tenant, unknown).await.expect("the server is there"), None);
}
