//! What is stored: everything, byte for byte, under keys of the tenant's own, and nothing once it is over.

use std::sync::Arc;
use std::time::Duration;

use sandhog_broker::conformance::ManualClock;
use sandhog_broker::redis::testing::{Durability, Server};
use sandhog_broker::redis::{Config, Redis};
use sandhog_broker::{Broker, Changed, Counts, Error, LeaseAsk, Query, Renew, Settle, Sweep};
use sandhog_core::attempt::SettleReply;
use sandhog_core::effects::{Effects, add};
use sandhog_core::event::{EventCursor, EventKeep};
use sandhog_core::id::{JobId, QueueName, StateKey, TenantId, UniqueKey};
use sandhog_core::job::{Level, LogLine, NewJob, Progress, State};
use sandhog_core::reason::Reason;
use sandhog_core::settle::Settlement;
use sandhog_core::time::Timestamp;

use crate::work::{TTL, Work, broker, connection, job, jobs, plugin, queue, succeed, tenant};

#[tokio::test]
async fn a_thousand_jobs_go_in_one_batch_and_more_in_several() {
    let server = Server::shared();
    let (broker, tenant) = (broker(&server), tenant());
    let jobs = jobs(2_500);
    broker.store(&tenant, &jobs).await;
    let leases = broker.take(&tenant, 5_000).await;
    let order: Vec<JobId> = leases.iter().map(|lease| lease.token.job).collect();
    assert_eq!(order, jobs.iter().map(|job| job.id).collect::<Vec<_>>());
    broker.finish(&tenant, &leases).await;
    assert_eq!(
        broker.counts(&tenant).await.expect("the server is there"),
        Counts::of(&[(State::Succeeded, 2_500)])
    );
}

#[tokio::test]
async fn one_run_may_create_more_jobs_than_lua_takes_arguments() {
    let server = Server::shared();
    let (broker, tenant) = (broker(&server), tenant());
    broker.store(&tenant, &[job()]).await;
    let lease = broker.take(&tenant, 1).await.remove(0);
    let mut effects = Effects::default();
    jobs(20_000).into_iter().for_each(|job| effects.enqueue(job));
    let reply = broker.settle(&tenant, &[succeed(lease.token, effects)]).await.expect("the server is there");
    assert_eq!(reply, [SettleReply::Applied]);
    assert_eq!(
        broker.counts(&tenant).await.expect("the server is there"),
        Counts::of(&[(State::Ready, 20_000), (State::Succeeded, 1)])
    );
    assert_eq!(broker.take(&tenant, 20_000).await.len(), 20_000);
}

#[tokio::test]
async fn every_byte_of_every_text_survives() {
    let server = Server::shared();
    let (broker, tenant) = (broker(&server), tenant());
    let all: Vec<u8> = (0..=255).chain(0..=255).collect();
    let text = "\0\r\n$-1\r\n\u{10ffff} {} %d".to_owned();
    let unique_key = Some(UniqueKey::parse("{other}:ключ %").expect("a valid key"));
    let job = NewJob { payload: all.clone(), unique_key: unique_key.clone(), ..job() };
    broker.store(&tenant, std::slice::from_ref(&job)).await;
    let lease = broker.take(&tenant, 1).await.remove(0);
    assert_eq!(lease.job.payload, all);

    let key = StateKey::parse("{a}:b:ü").expect("a valid key");
    let mut effects = Effects::default();
    effects.set(key.clone(), all.clone(), None);
    let line = LogLine {
        at: Timestamp::from_millis(5),
        attempt: 1,
        level: Level::Error,
        message: text.clone(),
        fields: vec![(text.clone(), text.clone())],
    };
    let progress = Progress { done: u64::MAX, total: Some(u64::MAX - 1), message: Some(text.clone()) };
    let settle = Settle {
        settlement: Settlement::Succeed { output: all.clone(), effects },
        progress: Some(progress.clone()),
        log: vec![line.clone()],
        ..succeed(lease.token, Effects::default())
    };
    broker.settle(&tenant, &[settle]).await.expect("the server is there");

    let record = broker.job(&tenant, job.id).await.expect("the server is there").expect("it is kept");
    assert_eq!(
        (record.payload, record.output, record.unique_key),
        (all.clone(), Some(all.clone()), unique_key)
    );
    assert_eq!(record.progress, Some(progress));
    assert_eq!(broker.log(&tenant, job.id).await.expect("the server is there"), [line]);
    assert_eq!(broker.state(&tenant, &plugin(), &key).await.expect("the server is there"), Some(all));
}

/// A life with everything in it, after which nothing may be left but what is meant to stay.
#[tokio::test]
async fn all_keys_carry_the_tenants_tag_and_none_is_left_when_jobs_are_removed() {
    let server = Server::start(Durability::None, &[]);
    let clock = Arc::new(ManualClock::default());
    let broker = Redis::with_clock(&Config::new(server.url()), clock.clone()).expect("the url is right");
    let tenant = tenant();
    live_a_full_life(&broker, &tenant, &clock).await;

    let tag = format!("sandhog:{{{tenant}}}:");
    let keys = keys_of(&server).await;
    assert!(keys.len() > 10, "there is much to see: {keys:?}");
    assert!(keys.iter().all(|key| key.starts_with(&tag)), "{keys:?}");

    let queues = [(queue(), 100), (other_queue(), 100)];
    while broker.counts(&tenant).await.expect("the server is there") != Counts::default() {
        clock.advance(Duration::from_secs(365 * 24 * 3600));
        broker.sweep(&tenant, Sweep::new(3)).await.expect("the server is there");
        let leases =
            broker.lease(LeaseAsk::new(&tenant, &queues, TTL)).await.expect("the server is there").leases;
        broker.finish(&tenant, &leases).await;
    }
    let mut keys = keys_of(&server).await;
    keys.sort_unstable();
    let (usage, left): (Vec<_>, Vec<_>) =
        keys.into_iter().partition(|key| key.starts_with(&format!("{tag}usage:")));
    assert_eq!(left, [format!("{tag}sizes"), format!("{tag}state:thumbnail:kept")]);
    for key in usage {
        let mut connection = connection(&server).await;
        let days: u64 = redis::cmd("TTL").arg(&key).query_async(&mut connection).await.expect("it will go");
        assert!((400..=401).contains(&(days / 86_400)), "{key} goes after {days} seconds");
    }
}

fn other_queue() -> QueueName {
    QueueName::parse("other").expect("a valid name")
}

async fn keys_of(server: &Server) -> Vec<String> {
    let mut keys: Vec<String> = redis::cmd("KEYS")
        .arg("*")
        .query_async(&mut connection(server).await)
        .await
        .expect("the server is there");
    // The list of tenants is the operator's.
    keys.retain(|key| key != "sandhog:tenants");
    keys
}

async fn live_a_full_life(broker: &Redis, tenant: &TenantId, clock: &ManualClock) {
    let unique = |name: &str| Some(UniqueKey::parse(name).expect("a valid key"));
    let all = [
        job(),
        NewJob { unique_key: unique("a"), ..job() },
        NewJob { unique_key: unique("b"), ..job() },
        NewJob { delay: Duration::from_secs(1), ..job() },
        NewJob { delay: Duration::from_secs(3600), unique_key: unique("c"), ..job() },
        NewJob { queue: other_queue(), ..job() },
        job(),
        job(),
    ];
    let keep = EventKeep { time: Duration::from_secs(3600), max: 1000 };
    broker.record_events(tenant, keep).await.expect("the server is there");
    broker.store(tenant, &all).await;
    let leases = broker.take(tenant, 5).await;
    let line = |n| LogLine {
        at: Timestamp::from_millis(n),
        attempt: 1,
        level: Level::Info,
        message: "a line".to_owned(),
        fields: Vec::new(),
    };
    let renew = Renew { log: vec![line(1), line(2)], ..Renew::new(leases[0].token) };
    broker.renew(tenant, Duration::from_secs(60), &[renew]).await.expect("the server is there");
    let mut effects = Effects::default();
    effects.set(StateKey::parse("kept").expect("a valid key"), b"1".to_vec(), None);
    effects.enqueue(NewJob { unique_key: unique("d"), ..job() });
    let retry = Settlement::Retry {
        after: Duration::from_secs(5),
        reason: Reason::Failed,
        message: "no luck".to_owned(),
    };
    let bury = Settlement::Bury { reason: Reason::Trapped, message: "a trap".to_owned() };
    let settles = [
        succeed(leases[0].token, effects),
        Settle { settlement: retry, ..succeed(leases[1].token, Effects::default()) },
        Settle { settlement: bury, log: vec![line(3)], ..succeed(leases[2].token, Effects::default()) },
    ];
    let replies = broker.settle(tenant, &settles).await.expect("the server is there");
    assert_eq!(replies, [SettleReply::Applied, SettleReply::Applied, SettleReply::Applied]);
    broker.cancel(tenant, all[4].id).await.expect("the server is there");
    assert_eq!(
        broker.redrive(tenant, leases[2].token.job).await.expect("the server is there"),
        Changed::Done
    );
    clock.advance(Duration::from_secs(10));
    broker.take(tenant, 1).await;
}

/// It writes the tally without the mark that somebody wants events, and records none.
#[tokio::test]
async fn readers_are_told_of_a_gap_where_a_version_was_at_work_that_knows_of_no_events() {
    let server = Server::shared();
    let (broker, tenant) = (broker(&server), tenant());
    let keep = EventKeep::default();
    broker.record_events(&tenant, keep).await.expect("the server is there");
    broker.store(&tenant, &jobs(1)).await;
    let told = broker.events(&tenant, EventCursor::START, 9).await.expect("the server is there");
    assert_eq!(told.events.len(), 1);
    let tally = format!("sandhog:{{{tenant}}}:tally");
    let mut connection = connection(&server).await;
    let mut numbers: Vec<u8> =
        redis::cmd("GET").arg(&tally).query_async(&mut connection).await.expect("it is there");
    *numbers.last_mut().expect("it has flags") &= 63;
    let _: () =
        redis::cmd("SET").arg(&tally).arg(numbers).query_async(&mut connection).await.expect("it may be");
    broker.store(&tenant, &jobs(1)).await;
    broker.record_events(&tenant, keep).await.expect("the server is there");
    broker.store(&tenant, &jobs(2)).await;
    let later = broker.events(&tenant, told.next, 9).await.expect("the server is there");
    assert_eq!((later.events.len(), later.has_gap), (2, true));
}

/// Lua's numbers are exact to 53 bits; sums of state have 64.
#[tokio::test]
async fn sums_of_state_are_those_of_the_rule_to_the_last_digit() {
    let server = Server::shared();
    let (broker, tenant) = (broker(&server), tenant());
    let key = StateKey::parse("sum").expect("a valid key");
    let edges =
        [0, 1, 9, 10, 999_999_999, 1_000_000_000, 1_000_000_001, 1 << 53, (1 << 53) + 1, i64::MAX - 1];
    let numbers: Vec<i64> =
        edges.iter().flat_map(|n| [*n, -*n]).chain([i64::MAX, i64::MIN, i64::MIN + 1]).collect();
    let mut pairs: Vec<(Vec<u8>, i64)> =
        numbers.iter().flat_map(|a| numbers.iter().map(|b| (a.to_string().into_bytes(), *b))).collect();
    for text in
        [&b"+1"[..], b"007", b"-0", b" 1", b"", b"1.0", b"\xff", b"9223372036854775808", b"1\0", b"0x1"]
    {
        pairs.push((text.to_vec(), 1));
    }
    broker.store(&tenant, &jobs(2 * pairs.len())).await;
    let leases = broker.take(&tenant, u32::MAX).await;
    let mut settles = Vec::new();
    for ((stored, by), leases) in pairs.iter().zip(leases.chunks(2)) {
        let (mut set, mut increment) = (Effects::default(), Effects::default());
        set.set(key.clone(), stored.clone(), None);
        increment.increment(key.clone(), *by).expect("nothing was set before");
        settles.push((succeed(leases[0].token, set), succeed(leases[1].token, increment)));
    }
    for ((stored, by), (set, increment)) in pairs.iter().zip(settles) {
        let replies = broker.settle(&tenant, &[set, increment]).await.expect("the server is there");
        let value = broker.state(&tenant, &plugin(), &key).await.expect("the server is there");
        match add(Some(stored), *by) {
            Ok(sum) => {
                assert_eq!((&replies[1], value), (&SettleReply::Applied, Some(sum)), "{stored:?} + {by}")
            }
            Err(_) => assert_eq!(
                (&replies[1], value),
                (&SettleReply::Conflict { key: key.clone() }, Some(stored.clone())),
                "{stored:?} + {by}"
            ),
        }
    }
}

#[tokio::test]
async fn an_unreadable_job_is_named_and_keeps_no_other_from_running() {
    let server = Server::shared();
    let (broker, tenant) = (broker(&server), tenant());
    let all = jobs(4);
    broker.store(&tenant, &all).await;
    let key = |kind: &str, n: usize| format!("sandhog:{{{tenant}}}:{kind}:{}", all[n].id);
    let mut connection = connection(&server).await;
    let mut spoil = async |key: String, value: &[u8]| {
        let () =
            redis::cmd("SET").arg(key).arg(value).query_async(&mut connection).await.expect("it is there");
    };
    spoil(key("job", 0), b"\x02a later layout").await;
    spoil(key("job", 1), b"").await;
    spoil(key("run", 2), b"\xc1").await;

    let leases = broker.take(&tenant, 9).await;
    assert_eq!(leases.iter().map(|lease| lease.token.job).collect::<Vec<_>>(), [all[3].id]);
    broker.finish(&tenant, &leases).await;
    for (n, kind) in [(0, "job"), (1, "job"), (2, "run")] {
        match broker.job(&tenant, all[n].id).await {
            Err(Error::Corrupt { at, .. }) => assert_eq!(at, key(kind, n)),
            other => panic!("{other:?}"),
        }
    }
    let counts = broker.counts(&tenant).await.expect("the server is there");
    let swept = broker.sweep(&tenant, Sweep::new(3)).await.expect("the server is there");
    assert_eq!((counts.unreadable, counts[State::Ready], swept.unreadable), (3, 0, 3));
    let key = key("run", 2);
    let () = server.ask(&["DEL", &key]).expect("it is there");
    broker.sweep(&tenant, Sweep::new(3)).await.expect("the server is there");
    let counts = broker.counts(&tenant).await.expect("the server is there");
    assert_eq!((counts.unreadable, counts[State::Ready]), (2, 1), "one can be read again");
}

/// A page that lies deep in several queues is found by counting; it must be the one that passing over finds.
#[tokio::test]
async fn pages_of_many_queues_follow_on_each_other() {
    let server = Server::shared();
    let (broker, tenant) = (broker(&server), tenant());
    let queues = ["a", "b", "c"].map(|name| QueueName::parse(name).expect("a valid name"));
    let all: Vec<NewJob> = jobs(300)
        .into_iter()
        .enumerate()
        .map(|(n, job)| NewJob {
            queue: queues[n * n % 3].clone(),
            priority: sandhog_core::job::Priority((n % 5) as u8 * 60),
            ..job
        })
        .collect();
    broker.store(&tenant, &all).await;
    let mut expected: Vec<&NewJob> = all.iter().collect();
    expected.sort_by_key(|job| std::cmp::Reverse(job.priority));
    let mut seen = Vec::new();
    let mut query = Query::of(State::Ready, 7);
    loop {
        let page = broker.jobs(&tenant, query.clone()).await.expect("the server is there");
        seen.extend(page.jobs.into_iter().map(|record| record.id));
        query.after = page.next;
        if query.after.is_none() {
            break;
        }
    }
    assert_eq!(seen, expected.into_iter().map(|job| job.id).collect::<Vec<_>>());
}
