//! Sealing changes nothing for whoever has the keys, and shows nothing to whoever hasn't.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sandhog_broker::conformance::{self, Fixture, ManualClock};
use sandhog_broker::faulty::{Faults, Faulty};
use sandhog_broker::memory::Memory;
use sandhog_broker::sealed::{Key, Keyring, Keys, Plain, Sealed};
use sandhog_broker::{
    Broker, Enqueued, Error, LeaseAsk, Leased, Query, Ran, Renew, Renewal, Settle, Sweep, WallClock,
};
use sandhog_core::attempt::SettleReply;
use sandhog_core::budget::Bytes;
use sandhog_core::effects::Effects;
use sandhog_core::id::{
    DaemonId, JobId, KeyId, Kind, LeaseToken, PluginName, QueueName, Revision, StateKey, TenantId,
};
use sandhog_core::job::{JobRecord, Lease, Level, LogLine, NewJob, Progress, State};
use sandhog_core::outcome::Usage;
use sandhog_core::quota::StateQuota;
use sandhog_core::reason::Reason;
use sandhog_core::settle::Settlement;
use sandhog_core::time::Timestamp;

/// Every tenant has this ring.
struct SameForAll(Keyring);

impl Keys for SameForAll {
    fn of(&self, _tenant: &TenantId) -> Option<Keyring> {
        Some(self.0.clone())
    }
}

fn key_id(name: &str) -> KeyId {
    KeyId::parse(name).expect("a valid id")
}

/// A ring of these keys, of which the first is active. A key is its name, as often as it takes.
fn ring(names: &[&str], plain: Plain) -> Keyring {
    let key = |name: &&str| (key_id(name), Key::parse(&name.repeat(64)).expect("a key"));
    Keyring::new(key_id(names[0]), names.iter().map(key).collect(), plain)
}

fn sealed(behind: &Arc<dyn Broker>, names: &[&str], plain: Plain) -> Sealed<SameForAll> {
    Sealed::new(Arc::clone(behind), SameForAll(ring(names, plain)))
}

struct OverMemory(Arc<Sealed<SameForAll>>);

#[async_trait]
impl Fixture for OverMemory {
    // The head of a sealed value with the id of its key, and the tag at its end.
    const SEAL: u64 = 4 + 1 + 1 + 1 + 24 + 16;

    async fn start(clock: Arc<ManualClock>) -> Self {
        let model: Arc<dyn Broker> = Arc::new(Memory::new(clock as Arc<dyn WallClock>));
        Self(Arc::new(sealed(&model, &["1"], Plain::Refused)))
    }

    fn broker(&self) -> Arc<dyn Broker> {
        Arc::clone(&self.0) as Arc<dyn Broker>
    }
}

conformance::suite!(OverMemory);

#[tokio::test]
async fn the_model_agrees_with_itself_behind_the_seal() {
    conformance::agree_on_some_seeds::<OverMemory>(conformance::steps::SEALED).await;
}

fn acme() -> TenantId {
    TenantId::parse("acme").expect("a valid name")
}

fn queue() -> QueueName {
    QueueName::parse("default").expect("a valid name")
}

fn plugin() -> PluginName {
    PluginName::parse("thumbnail").expect("a valid name")
}

fn state_key(name: &str) -> StateKey {
    StateKey::parse(name).expect("a valid key")
}

fn new_job(nth: u128) -> NewJob {
    NewJob::new(
        JobId::from_parts(Timestamp::from_millis(1), nth),
        queue(),
        Kind::parse("image.thumbnail").expect("a valid kind"),
        format!("payload of {nth}").into_bytes(),
    )
}

fn settle(token: LeaseToken, settlement: Settlement) -> Settle {
    let ran = Ran {
        state_max: StateQuota { bytes: Bytes::mib(1), keys: 1000 },
        ..Ran::new(
            DaemonId::from_parts(Timestamp::from_millis(1), 1),
            plugin(),
            Revision::from_sha256([1; 32]),
            Usage::default(),
        )
    };
    Settle::of_run(token, ran, settlement)
}

fn succeed(token: LeaseToken, make: impl FnOnce(&mut Effects)) -> Settle {
    let mut effects = Effects::default();
    make(&mut effects);
    settle(token, Settlement::Succeed { output: b"an output".to_vec(), effects })
}

fn count(token: LeaseToken) -> Settle {
    succeed(token, |effects| effects.increment(state_key("runs"), 1).expect("a number"))
}

/// What the tests ask of a broker that answers.
#[async_trait]
trait Ask: Broker {
    async fn put(&self, jobs: &[NewJob]) {
        let answers = self.enqueue(&acme(), jobs).await.expect("it answers");
        assert_eq!(answers, vec![Enqueued::Stored; jobs.len()]);
    }

    async fn ask(&self) -> Leased {
        let queues = [(queue(), 1000)];
        let tenant = acme();
        self.sweep(&tenant, Sweep::new(3)).await.expect("it answers");
        self.lease(LeaseAsk::new(&tenant, &queues, Duration::from_secs(30))).await.expect("it answers")
    }

    async fn take(&self) -> Vec<Lease> {
        self.ask().await.leases
    }

    async fn end(&self, settlements: &[Settle]) -> Vec<SettleReply> {
        self.settle(&acme(), settlements).await.expect("it answers")
    }

    async fn find(&self, job: JobId) -> JobRecord {
        self.job(&acme(), job).await.expect("it answers").expect("it is there")
    }

    async fn stored(&self, key: &str) -> Option<Vec<u8>> {
        self.state(&acme(), &plugin(), &state_key(key)).await.expect("it answers")
    }
}

impl<B: Broker + ?Sized> Ask for B {}

fn model() -> (Arc<ManualClock>, Arc<dyn Broker>) {
    let clock = Arc::new(ManualClock::default());
    let model = Memory::new(Arc::clone(&clock) as Arc<dyn WallClock>);
    (clock, Arc::new(model))
}

/// All that a handler or producer wrote shows up in the open, and nothing of it in the store.
#[tokio::test]
async fn the_store_sees_ids_and_names_and_no_content() {
    const MARK: &str = "marker-7f3a";
    let (_, store) = model();
    let broker = sealed(&store, &["1"], Plain::Refused);
    let texts = |n: u32| LogLine {
        at: Timestamp::from_millis(5),
        attempt: n,
        level: Level::Info,
        message: format!("{MARK} in a line"),
        fields: vec![(format!("{MARK}-name"), MARK.to_owned())],
    };
    let progress = Some(Progress { done: 1, total: Some(2), message: Some(MARK.to_owned()) });
    broker.put(&[NewJob { payload: MARK.into(), ..new_job(1) }, new_job(2)]).await;
    let leases = broker.take().await;
    assert_eq!(leases[0].job.payload, MARK.as_bytes());
    let renew = Renew { token: leases[0].token, progress: progress.clone(), log: vec![texts(1)] };
    let renewals = broker.renew(&acme(), Duration::from_secs(9), &[renew]).await.expect("it answers");
    assert_eq!(renewals, [Renewal::Held]);
    let mut done = succeed(leases[0].token, |effects| {
        effects.set(state_key("k"), MARK.into(), None);
        effects.enqueue(NewJob { payload: MARK.into(), ..new_job(3) });
    });
    done.settlement = match done.settlement {
        Settlement::Succeed { effects, .. } => Settlement::Succeed { output: MARK.into(), effects },
        other => other,
    };
    done.log = vec![texts(2)];
    let message = format!("{MARK} went wrong");
    let buried = Settlement::Bury { reason: Reason::Failed, message: message.clone() };
    let replies = broker.end(&[done, settle(leases[1].token, buried)]).await;
    assert_eq!(replies, [SettleReply::Applied, SettleReply::Applied]);

    let seen = (
        broker.find(new_job(1).id).await,
        broker.find(new_job(2).id).await,
        broker.find(new_job(3).id).await,
    );
    assert_eq!(seen.0.output.as_deref(), Some(MARK.as_bytes()));
    assert_eq!((seen.0.progress, seen.0.unreadable), (progress, None));
    assert_eq!((seen.1.message, seen.2.payload), (Some(message), MARK.into()));
    let log = broker.log(&acme(), new_job(1).id).await.expect("it answers");
    assert_eq!(log, [texts(1), texts(2)]);
    assert_eq!(broker.stored("k").await, Some(MARK.into()));

    let mut raw = String::new();
    for n in 1..=3 {
        let record = store.find(new_job(n).id).await;
        raw += &format!("{record:?} {:?}", store.log(&acme(), record.id).await);
        raw += &String::from_utf8_lossy(&record.payload);
        raw += &String::from_utf8_lossy(&record.output.unwrap_or_default());
    }
    raw += &String::from_utf8_lossy(&store.stored("k").await.expect("it is there"));
    assert!(raw.contains("image.thumbnail") && !raw.contains(MARK), "{raw}");
}

#[tokio::test]
async fn tenants_without_keys_pass_through_as_they_are() {
    let (_, store) = model();
    let keys: BTreeMap<TenantId, Keyring> =
        BTreeMap::from([(TenantId::parse("other").expect("a valid name"), ring(&["1"], Plain::Refused))]);
    let broker = Sealed::new(Arc::clone(&store), keys);
    broker.put(&[new_job(1)]).await;
    let leases = broker.take().await;
    broker.end(&[count(leases[0].token)]).await;
    assert_eq!(store.find(new_job(1).id).await, broker.find(new_job(1).id).await);
    assert_eq!(store.stored("runs").await, Some(b"1".to_vec()));
}

#[tokio::test]
async fn keys_rotate_old_ones_open_and_the_active_one_seals() {
    let (_, store) = model();
    let before = sealed(&store, &["1"], Plain::Refused);
    before.put(&[new_job(1), new_job(2)]).await;
    let leases = before.take().await;
    before.end(&[count(leases[0].token)]).await;
    let after = sealed(&store, &["2", "1"], Plain::Refused);
    assert_eq!(after.find(new_job(1).id).await, before.find(new_job(1).id).await);
    assert_eq!(after.end(&[count(leases[1].token)]).await, [SettleReply::Applied]);
    let only_new = sealed(&store, &["2"], Plain::Refused);
    assert_eq!(only_new.stored("runs").await, Some(b"2".to_vec()), "it was sealed anew by the active key");
    assert_eq!(only_new.find(new_job(2).id).await.output.as_deref(), Some(&b"an output"[..]));
}

#[tokio::test]
async fn a_job_whose_key_is_gone_rests_and_the_others_run() {
    let (clock, store) = model();
    sealed(&store, &["1"], Plain::Refused).put(&[new_job(1)]).await;
    let broker = sealed(&store, &["2"], Plain::Refused);
    broker.put(&[new_job(2)]).await;
    let leases = broker.take().await;
    assert_eq!(leases.iter().map(|lease| lease.token.job).collect::<Vec<_>>(), [new_job(2).id]);
    let record = broker.find(new_job(1).id).await;
    assert_eq!((record.state, record.reason), (State::Scheduled, Some(Reason::Unreadable)));
    assert_eq!((record.attempts, record.payload.len()), (0, 0));
    let why = record.unreadable.expect("it says why");
    assert!(why.contains("tenant acme") && why.contains("the key `1`"), "{why}");

    // Somebody brings the key.
    clock.advance(Duration::from_secs(60));
    let leases = sealed(&store, &["2", "1"], Plain::Refused).take().await;
    let payloads: Vec<_> = leases.into_iter().map(|lease| lease.job.payload).collect();
    assert!(payloads.contains(&new_job(1).payload), "{payloads:?}");
}

#[tokio::test]
async fn a_job_whose_key_stays_away_is_given_up_with_a_message_that_names_it() {
    let (clock, store) = model();
    sealed(&store, &["1"], Plain::Refused).put(&[new_job(1)]).await;
    let broker = sealed(&store, &["2"], Plain::Refused);
    for _ in 0..=100 {
        assert_eq!(broker.take().await, []);
        clock.advance(Duration::from_secs(60));
    }
    let record = broker.find(new_job(1).id).await;
    assert_eq!((record.state, record.reason), (State::Dead, Some(Reason::Unreadable)));
    let message = record.message.expect("it says why");
    assert!(message.contains("tenant acme") && message.contains("the key `1`"), "{message}");
}

/// Somebody who can write to the store puts one job's payload under another's id.
#[tokio::test]
async fn a_payload_that_was_moved_to_another_job_is_refused_and_buried() {
    let (_, store) = model();
    let (_, elsewhere) = model();
    let broker = sealed(&store, &["1"], Plain::Refused);
    sealed(&elsewhere, &["1"], Plain::Refused).put(&[new_job(1)]).await;
    let stolen = elsewhere.find(new_job(1).id).await.payload;
    store.put(&[NewJob { payload: stolen, ..new_job(2) }]).await;
    broker.put(&[new_job(3)]).await;
    let leases = broker.take().await;
    assert_eq!(leases.iter().map(|lease| lease.token.job).collect::<Vec<_>>(), [new_job(3).id]);
    let record = broker.find(new_job(2).id).await;
    assert_eq!((record.state, record.reason), (State::Dead, Some(Reason::Unreadable)));
    let message = record.message.expect("it says why");
    assert!(message.contains("changed or moved") && !message.contains("payload of 1"), "{message}");
}

#[tokio::test]
async fn plain_data_from_before_is_read_where_that_is_allowed_and_nowhere_else() {
    let (_, store) = model();
    store.put(&[new_job(1), new_job(2)]).await;
    let leases = store.take().await;
    store.end(&[count(leases[0].token)]).await;
    let moving = sealed(&store, &["1"], Plain::Read);
    assert_eq!(moving.find(new_job(1).id).await, store.find(new_job(1).id).await);
    assert_eq!(moving.end(&[count(leases[1].token)]).await, [SettleReply::Applied]);
    assert_eq!(moving.stored("runs").await, Some(b"2".to_vec()));
    let strict = sealed(&store, &["1"], Plain::Refused);
    assert_eq!(strict.stored("runs").await, Some(b"2".to_vec()), "it was sealed when it was written");
    let unreadable = strict.find(new_job(1).id).await.unreadable.expect("it is plain");
    assert!(unreadable.contains("encryption.plain"), "{unreadable}");
}

#[tokio::test]
async fn state_that_cannot_be_opened_fails_its_own_reader_alone() {
    let (_, store) = model();
    let before = sealed(&store, &["1"], Plain::Refused);
    before.put(&[new_job(1), new_job(2), new_job(3)]).await;
    let leases = before.take().await;
    before.end(&[count(leases[0].token)]).await;
    let broker = sealed(&store, &["2"], Plain::Refused);
    let error = broker.state(&acme(), &plugin(), &state_key("runs")).await.expect_err("the key is gone");
    assert!(matches!(&error, Error::Sealed { .. }) && error.to_string().contains("the key `1`"), "{error}");
    let replies = broker.end(&[count(leases[1].token), succeed(leases[2].token, |_| ())]).await;
    assert_eq!(replies, [SettleReply::Applied, SettleReply::Applied]);
    let record = broker.find(new_job(2).id).await;
    assert_eq!((record.state, record.reason), (State::Scheduled, Some(Reason::Unreadable)));
    assert_eq!(broker.find(new_job(3).id).await.state, State::Succeeded);
    assert_eq!(before.stored("runs").await, Some(b"1".to_vec()), "what can't be read is not written over");
}

#[tokio::test]
async fn a_job_whose_state_stays_unreadable_is_given_up_with_a_message_that_names_the_key() {
    let (clock, store) = model();
    let before = sealed(&store, &["1"], Plain::Refused);
    before.put(&[new_job(1)]).await;
    let leases = before.take().await;
    before.end(&[count(leases[0].token)]).await;
    let broker = sealed(&store, &["2"], Plain::Refused);
    broker.put(&[new_job(2)]).await;
    for run in 0..=100 {
        let leases = broker.take().await;
        assert_eq!(leases.len(), 1, "run {run}");
        assert_eq!(broker.end(&[count(leases[0].token)]).await, [SettleReply::Applied]);
        clock.advance(Duration::from_secs(60));
    }
    let record = broker.find(new_job(2).id).await;
    assert_eq!((record.state, record.reason), (State::Dead, Some(Reason::Unreadable)));
    let message = record.message.expect("it says why");
    assert!(message.contains("tenant acme") && message.contains("the key `1`"), "{message}");
}

#[tokio::test]
async fn without_the_active_key_nothing_is_written_and_all_is_read() {
    let (_, store) = model();
    let before = sealed(&store, &["1"], Plain::Refused);
    before.put(&[new_job(1)]).await;
    let key = BTreeMap::from([(key_id("1"), Key::parse(&"1".repeat(64)).expect("a key"))]);
    let reader = Sealed::new(Arc::clone(&store), SameForAll(Keyring::new(key_id("2"), key, Plain::Refused)));
    assert_eq!(reader.find(new_job(1).id).await.payload, new_job(1).payload);
    let error = reader.enqueue(&acme(), &[new_job(2)]).await.expect_err("it can't be sealed").to_string();
    assert!(error.contains("the key `2`") && error.contains("tenant acme"), "{error}");
}

/// Calls whose replies are lost are repeated, sealed by other nonces, and change nothing a second time.
#[tokio::test]
async fn what_is_repeated_for_want_of_a_reply_counts_once() {
    for seed in 0..20 {
        let (_, store) = model();
        // A batch that adds to one counter takes two calls for each job, and is repeated until all come through.
        let faults = Faults { seed, lost_before: 0.05, lost_after: 0.1, ..Faults::default() };
        let faulty: Arc<dyn Broker> = Arc::new(Faulty::new(Arc::clone(&store), faults));
        let broker = sealed(&faulty, &["1"], Plain::Refused);
        let calm = sealed(&store, &["1"], Plain::Refused);
        let jobs: Vec<NewJob> = (0..20).map(new_job).collect();
        for batch in jobs.chunks(7) {
            while broker.enqueue(&acme(), batch).await.is_err() {}
        }
        let leases = calm.take().await;
        assert_eq!(leases.len(), 20);
        let settles: Vec<Settle> = leases
            .iter()
            .zip(100..)
            .map(|(lease, child)| {
                succeed(lease.token, |effects| {
                    effects.increment(state_key("runs"), 1).expect("a number");
                    effects.enqueue(NewJob { delay: Duration::from_secs(9), ..new_job(child) });
                })
            })
            .collect();
        for batch in settles.chunks(6) {
            let replies = loop {
                if let Ok(replies) = broker.settle(&acme(), batch).await {
                    break replies;
                }
            };
            assert_eq!(replies, vec![SettleReply::Applied; batch.len()], "seed {seed}");
        }
        assert_eq!(calm.stored("runs").await, Some(b"20".to_vec()), "seed {seed}");
        let children = calm.jobs(&acme(), Query::of(State::Scheduled, 100)).await.expect("it answers").jobs;
        assert_eq!(children.len(), 20, "seed {seed}");
        assert!(children.iter().all(|child| child.payload.starts_with(b"payload of 1")), "seed {seed}");
    }
}

/// Several daemons, each with a layer of its own, add to one counter at the same time.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sums_of_daemons_that_race_all_count() {
    const DAEMONS: usize = 8;
    let (_, store) = model();
    sealed(&store, &["1"], Plain::Refused).put(&(0..160).map(new_job).collect::<Vec<_>>()).await;
    let leases = sealed(&store, &["1"], Plain::Refused).take().await;
    let daemons = leases.chunks(160 / DAEMONS).map(|part| {
        let broker = sealed(&store, &["1"], Plain::Refused);
        let settles: Vec<Settle> = part.iter().map(|lease| count(lease.token)).collect();
        tokio::spawn(async move {
            for batch in settles.chunks(5) {
                assert_eq!(broker.end(batch).await, vec![SettleReply::Applied; batch.len()]);
            }
        })
    });
    for daemon in daemons.collect::<Vec<_>>() {
        daemon.await.expect("no panic");
    }
    assert_eq!(sealed(&store, &["1"], Plain::Refused).stored("runs").await, Some(b"160".to_vec()));
}
