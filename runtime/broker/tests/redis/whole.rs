//! A call that fails has done nothing, whatever it was that failed; and when it is repeated, everything is there once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use redis::Value;
use sandhog_broker::conformance::ManualClock;
use sandhog_broker::redis::testing::{Durability, Server};
use sandhog_broker::redis::{Config, Redis, Role, acl_rules};
use sandhog_broker::{
    Asker, Broker, Error, FleetLimit, JobAction, Keep, LaneAsk, LeaseAsk, Renew, Result, Settle, Sweep,
    WallClock,
};
use sandhog_core::canary::Record;
use sandhog_core::edit::{Due, JobEdit};
use sandhog_core::effects::Effects;
use sandhog_core::id::{
    DaemonId, JobId, Kind, LeaseToken, QueueName, Revision, StateKey, TenantId, UniqueKey,
};
use sandhog_core::job::{Lease, Level, LogLine, NewJob, Priority, Progress};
use sandhog_core::quota::QueueBounds;
use sandhog_core::reason::Reason;
use sandhog_core::settle::Settlement;
use sandhog_core::time::Timestamp;
use sandhog_core::trial::{Decision, Pair, Records, TrialReport};

use crate::work::{Work, impatiently, job, plugin, queue, succeed, until_it_works};

/// A call that changes something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Call {
    Enqueue,
    Lease,
    Renew,
    Settle,
    Sweep,
    Cancel,
    Redrive,
    RunNow,
    Remove,
    Edit,
    Purge,
    Trial,
}

impl Call {
    const ALL: [Self; 12] = [
        Self::Enqueue,
        Self::Lease,
        Self::Renew,
        Self::Settle,
        Self::Sweep,
        Self::Cancel,
        Self::Redrive,
        Self::RunNow,
        Self::Remove,
        Self::Edit,
        Self::Purge,
        Self::Trial,
    ];

    /// Whether it makes room in a server whose memory is full, or says how a run ended.
    fn runs_when_full(self) -> bool {
        !matches!(self, Self::Enqueue | Self::Lease | Self::Edit | Self::Trial)
    }
}

fn acme() -> TenantId {
    TenantId::parse("acme").expect("a valid name")
}

fn numbered(n: u128) -> NewJob {
    NewJob { id: JobId::from_parts(Timestamp::from_millis(1), n), ..job() }
}

fn unique(name: &str) -> Option<UniqueKey> {
    Some(UniqueKey::parse(name).expect("a valid key"))
}

fn state_key(name: &str) -> StateKey {
    StateKey::parse(name).expect("a valid key")
}

fn kind() -> Kind {
    Kind::parse("split.off").expect("a valid kind")
}

fn other_queue() -> QueueName {
    QueueName::parse("other").expect("a valid name")
}

fn line() -> LogLine {
    LogLine {
        at: Timestamp::from_millis(5),
        attempt: 1,
        level: Level::Info,
        message: "a line".to_owned(),
        fields: Vec::new(),
    }
}

fn trial_report(of: u128) -> TrialReport {
    let [old, new] = [1, 2].map(|n| Revision::from_sha256([n; 32]));
    let side = Record { runs: 3, failures: 1, fuel: 7 };
    TrialReport {
        daemon: DaemonId::from_parts(Timestamp::from_millis(1), of),
        pair: Pair { plugin: plugin(), old, new },
        counted: Records { old: side, new: side },
        ended: None,
        decision: None,
    }
}

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

/// A tenant with something of everything, always the same, and what is known of it.
struct Scene {
    tenant: TenantId,
    clock: Arc<ManualClock>,
    leases: Vec<Lease>,
}

impl Scene {
    /// Makes it anew on an empty server.
    async fn set(server: &Server) -> Self {
        let () = server.ask(&["FLUSHALL"]).expect("it is there");
        let (tenant, clock) = (acme(), Arc::new(ManualClock::default()));
        let broker = Redis::with_clock(&Config::new(server.url()), clock.clone()).expect("the url is right");
        let jobs: Vec<NewJob> = (0..14)
            .map(|n| match n {
                2 => NewJob { unique_key: unique("two"), ..numbered(n) },
                9 => NewJob { delay: SECOND, unique_key: unique("nine"), ..numbered(n) },
                10 => NewJob { delay: HOUR, ..numbered(n) },
                11 => NewJob { queue: other_queue(), unique_key: unique("eleven"), ..numbered(n) },
                12 | 13 => NewJob { kind: kind(), ..numbered(n) },
                _ => numbered(n),
            })
            .collect();
        broker.store(&tenant, &jobs).await;
        let leases = broker.take(&tenant, 8).await;
        let token = |n: usize| leases[n].token;
        // One has ended, and is soon to be removed; one is dead; one is tried again; one is asked to stop.
        let mut effects = Effects::default();
        effects.set(state_key("kept"), b"1".to_vec(), None);
        effects.set(state_key("going"), b"2".to_vec(), Some(SECOND));
        let keep = Keep { done: SECOND, dead: HOUR, ..Keep::default() };
        let bury = Settlement::Bury { reason: Reason::Trapped, message: "a trap".to_owned() };
        let retry =
            Settlement::Retry { after: SECOND, reason: Reason::Failed, message: "no luck".to_owned() };
        let settles = [
            Settle { keep, log: vec![line()], ..succeed(token(0), effects) },
            Settle { settlement: bury, ..succeed(token(1), Effects::default()) },
            Settle { settlement: retry, ..succeed(token(3), Effects::default()) },
        ];
        broker.settle(&tenant, &settles).await.expect("the server is there");
        broker.cancel(&tenant, token(7).job).await.expect("the server is there");
        broker.report_trial(&tenant, &trial_report(1)).await.expect("the server is there");
        Self { tenant, clock, leases }
    }

    fn token(&self, n: usize) -> LeaseToken {
        self.leases[n].token
    }

    fn broker(&self, url: String) -> Redis {
        Redis::with_clock(&Config::new(url), self.clock.clone()).expect("the url is right")
    }

    async fn make(&self, call: Call, broker: &Redis) -> Result<()> {
        match call {
            Call::Enqueue => {
                let jobs = [
                    numbered(20),
                    NewJob { delay: SECOND / 2, ..numbered(21) },
                    NewJob { queue: QueueName::parse("new").expect("a valid name"), ..numbered(22) },
                    NewJob { unique_key: unique("new"), ..numbered(23) },
                    NewJob { unique_key: unique("nine"), ..numbered(24) },
                ];
                broker.enqueue(&self.tenant, &jobs).await.map(drop)
            }
            Call::Lease => {
                let queues = [(queue(), 50), (other_queue(), 50)];
                let limit = Some(FleetLimit { name: plugin(), most: 3 });
                let lanes = [LaneAsk { limit, ..LaneAsk::new(queue(), kind(), 2) }];
                let asker = Some(Asker {
                    daemon: DaemonId::from_parts(Timestamp::from_millis(1), 1),
                    number: 1,
                    repeats: false,
                });
                let ask = LeaseAsk {
                    suspects: 50,
                    lanes: &lanes,
                    asker,
                    ..LeaseAsk::new(&self.tenant, &queues, HOUR)
                };
                broker.lease(ask).await.map(drop)
            }
            Call::Sweep => {
                let moved = self.clock.now().since(ManualClock::default().now());
                self.clock.advance((120 * SECOND).saturating_sub(moved));
                broker.sweep(&self.tenant, Sweep::new(3)).await.map(drop)
            }
            Call::Renew => {
                let progress = Progress { done: 1, total: Some(2), message: None };
                let renews = [
                    Renew { log: vec![line()], ..Renew::new(self.token(4)) },
                    Renew { progress: Some(progress), ..Renew::new(self.token(5)) },
                    Renew::new(self.token(6)),
                ];
                broker.renew(&self.tenant, HOUR, &renews).await.map(drop)
            }
            Call::Settle => broker.settle(&self.tenant, &self.settlements()).await.map(drop),
            Call::Cancel => self.act(broker, JobAction::Cancel, &[8, 9, 11, 4]).await,
            Call::Redrive => self.act(broker, JobAction::Redrive, &[1]).await,
            Call::RunNow => self.act(broker, JobAction::RunNow, &[9, 10, 12]).await,
            Call::Remove => self.act(broker, JobAction::Remove, &[0, 1, 2]).await,
            Call::Edit => {
                let edit = JobEdit {
                    payload: Some(b"{\"edited\": true}".to_vec()),
                    priority: Some(Priority(200)),
                    due: Some(Due::At(ManualClock::default().now().after(HOUR / 2))),
                };
                let (job, bounds) = (numbered(8).id, QueueBounds::default());
                broker.edit(&self.tenant, job, &edit, &bounds).await.map(drop)
            }
            Call::Purge => broker.purge(&self.tenant, 1000).await.map(drop),
            // It begins another one, in the place of the one that is there.
            Call::Trial => {
                let ended = Some(ManualClock::default().now());
                let again = TrialReport { ended, decision: Some(Decision::Promote), ..trial_report(2) };
                broker.report_trial(&self.tenant, &again).await.map(drop)
            }
        }
    }

    async fn act(&self, broker: &Redis, action: JobAction, numbers: &[u128]) -> Result<()> {
        let ids: Vec<JobId> = numbers.iter().map(|n| numbered(*n).id).collect();
        broker.act(&self.tenant, action, &ids).await.map(drop)
    }

    fn settlements(&self) -> Vec<Settle> {
        let mut first = Effects::default();
        first.set(state_key("kept"), b"10".to_vec(), None);
        first.set(state_key("new"), b"x".to_vec(), Some(HOUR));
        first.increment(state_key("count"), 1).expect("nothing was set before");
        first.enqueue(NewJob { unique_key: unique("two"), ..numbered(30) });
        first.enqueue(NewJob { delay: HOUR, ..numbered(31) });
        let mut second = Effects::default();
        second.increment(state_key("count"), 1).expect("nothing was set before");
        second.delete(state_key("going"));
        let retry =
            |after| Settlement::Retry { after, reason: Reason::Failed, message: "no luck".to_owned() };
        let release = Settlement::Release { after: Duration::ZERO, reason: Reason::Drained };
        let log = vec![line()];
        vec![
            // The holder of a unique key hands it on.
            Settle { log, ..succeed(self.token(2), first) },
            succeed(self.token(4), second),
            Settle { settlement: retry(Duration::ZERO), ..succeed(self.token(5), Effects::default()) },
            Settle { settlement: release, ..succeed(self.token(6), Effects::default()) },
            Settle { settlement: retry(SECOND), ..succeed(self.token(7), Effects::default()) },
        ]
    }
}

pub(crate) type Store = BTreeMap<String, String>;

/// All that the server holds. The order of becoming ready may be another when a call is repeated.
pub(crate) fn store(server: &Server) -> Store {
    let keys: Vec<String> = server.ask(&["KEYS", "sandhog:{*"]).expect("it is there");
    let mut store = Store::new();
    for key in keys {
        let name = key.rsplit_once("}:").expect("a tenant's key").1.to_owned();
        let kind: String = server.ask(&["TYPE", &key]).expect("it is there");
        let words: &[&str] = match kind.as_str() {
            "string" => &["GET", &key],
            "list" => &["LRANGE", &key, "0", "-1"],
            "set" => &["SMEMBERS", &key],
            "hash" => &["HGETALL", &key],
            _ if name.starts_with("ready:") => &["ZRANGE", &key, "0", "-1"],
            _ => &["ZRANGE", &key, "0", "-1", "WITHSCORES"],
        };
        let value: Value = server.ask(words).expect("it is there");
        let mut texts: Vec<String> = match value {
            Value::Array(values) if kind == "hash" => {
                values.chunks(2).map(|pair| format!("{pair:?}")).collect()
            }
            Value::Array(values) => values.iter().map(|value| format!("{value:?}")).collect(),
            other => vec![format!("{other:?}")],
        };
        // A renewal that is repeated adds its lines again.
        if kind == "list" {
            texts.dedup();
        }
        if kind == "set" || kind == "hash" || name.starts_with("ready:") {
            texts.sort_unstable();
        }
        if name != "sequence" {
            store.insert(name, texts.join(" "));
        }
    }
    store
}

/// Compares what is there with what was there before.
pub(crate) fn unchanged(found: &Store, before: &Store, when: &str) {
    compare(found, before, when, |_| true);
}

/// Compares what is there with what should be, but for who waits: whoever repeats an ask may have got less by it.
pub(crate) fn same(found: &Store, expected: &Store, when: &str) {
    compare(found, expected, when, |name| !name.starts_with("waiters:"));
}

/// Shows no more than the difference.
fn compare(found: &Store, expected: &Store, when: &str, matters: impl Fn(&str) -> bool) {
    let names: std::collections::BTreeSet<&String> = found.keys().chain(expected.keys()).collect();
    let differ =
        names.into_iter().filter(|name| matters(name.as_str()) && found.get(*name) != expected.get(*name));
    let differ: Vec<_> = differ.map(|name| (name, found.get(name), expected.get(name))).collect();
    assert!(differ.is_empty(), "{when}: found and expected differ: {differ:#?}");
}

/// Every job is in one index and no more, and none is put aside.
fn each_has_its_place(found: &Store, when: &str) {
    let is_index = |name: &str| {
        ["ready:", "finals:"].iter().any(|prefix| name.starts_with(prefix))
            || name == "leases"
            || name == "schedule"
    };
    for id in found.keys().filter_map(|name| name.strip_prefix("job:")) {
        let indexes = found.iter().filter(|(name, value)| is_index(name) && value.contains(id));
        assert_eq!(indexes.count(), 1, "{when}: job {id} in {found:#?}");
    }
    let aside = found.keys().find(|name| name.starts_with("parked:") || *name == "unreadable");
    assert_eq!(aside, None, "{when}");
}

/// What there is before and after a call that nothing disturbs.
async fn undisturbed(server: &Server, call: Call) -> (Store, Store) {
    let scene = Scene::set(server).await;
    let before = store(server);
    let broker = scene.broker(server.url());
    scene.make(call, &broker).await.expect("nothing disturbs it");
    let after = store(server);
    scene.make(call, &broker).await.expect("nothing disturbs it");
    same(&store(server), &after, &format!("{call:?} repeated"));
    (before, after)
}

fn key_of(name: &str) -> String {
    format!("sandhog:{{{}}}:{name}", acme())
}

/// A sweep does several things, each by itself, and so does a purge.
fn is_several(call: Call) -> bool {
    matches!(call, Call::Sweep | Call::Purge)
}

#[tokio::test]
async fn a_call_that_may_not_use_a_command_has_done_nothing() {
    let server = Server::start(Durability::None, &[]);
    let commands = acl_rules(&acme(), Role::Worker);
    let commands = commands.iter().filter_map(|rule| rule.strip_prefix('+'));
    let own = ["fcall", "hello", "ping", "select", "subscribe"];
    let commands: Vec<&str> = commands.filter(|command| !own.contains(command)).collect();
    for call in Call::ALL {
        let (before, after) = undisturbed(&server, call).await;
        let mut refused = 0;
        for command in &commands {
            let scene = Scene::set(&server).await;
            let mut user = vec!["ACL", "SETUSER", "fragile", "reset", "on", ">secret", "~*", "&*", "+@all"];
            let () = server.ask(&user).expect("the rules are right");
            let broker = scene.broker(server.url().replace("//", "//fragile:secret@"));
            // It is found to be good enough, and changes after that.
            broker.take(&scene.tenant, 0).await;
            let denied = format!("-{command}");
            user.push(&denied);
            let () = server.ask(&user).expect("the rules are right");
            if let Err(error) = scene.make(call, &broker).await {
                refused += 1;
                assert!(matches!(error, Error::Unfit { .. }), "{call:?} without {command}: {error}");
                if !is_several(call) {
                    unchanged(&store(&server), &before, &format!("{call:?} without {command}"));
                }
            }
            scene.make(call, &scene.broker(server.url())).await.expect("this user may");
            same(&store(&server), &after, &format!("{call:?} without {command}, and then with it"));
        }
        assert!(refused >= 5, "{call:?} needs some of them: {refused}");
    }
}

#[tokio::test]
async fn a_producers_user_changes_nothing_but_by_enqueueing() {
    let server = Server::start(Durability::None, &[]);
    for call in Call::ALL {
        let scene = Scene::set(&server).await;
        let with_rules = |role| {
            let rules = acl_rules(&scene.tenant, role);
            let words = ["ACL", "SETUSER", "acme", ">secret"].into_iter().map(str::to_owned).chain(rules);
            let words: Vec<String> = words.collect();
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let () = server.ask(&words).expect("the rules are right");
        };
        // It was found to be a worker's, and isn't any more: so it is the server that refuses it.
        with_rules(Role::Worker);
        let broker = scene.broker(server.url().replace("//", "//acme:secret@"));
        broker.take(&scene.tenant, 0).await;
        with_rules(Role::Producer);
        let before = store(&server);
        match (call, scene.make(call, &broker).await) {
            (Call::Enqueue, made) => made.expect("that is what it is for"),
            (_, Err(Error::Unfit { problem })) => {
                assert!(problem.contains("sandhog tenant acl acme --role worker"), "{call:?}: {problem}");
                unchanged(&store(&server), &before, &format!("{call:?} by a producer"));
            }
            (_, made) => panic!("{call:?} by a producer: {made:?}"),
        }
    }
}

/// Puts something else where a key is, calls, and puts back what was there.
async fn with_alien(server: &Server, call: Call, name: &str, before: &Store) -> Store {
    let scene = Scene::set(server).await;
    let key = key_of(name);
    let was_there = before.contains_key(name) || name == "sequence";
    if was_there {
        let () = server.ask(&["RENAME", &key, &key_of("aside")]).expect("it is there");
    }
    let list = ["RPUSH", &key, "alien"];
    let string = ["SET", &key, "alien"];
    let words: &[&str] = if name.starts_with("log:") { &string } else { &list };
    let () = server.ask(words).map(|_: Value| ()).expect("it is there");
    let disturbed = store(server);
    let broker = scene.broker(server.url());
    let outcome = scene.make(call, &broker).await;
    if outcome.is_err() && !is_several(call) {
        unchanged(&store(server), &disturbed, &format!("{call:?} with an alien {name}: {outcome:?}"));
    }
    let is_left = server.ask::<u64>(&["EXISTS", &key]).expect("it is there") == 1;
    if is_left {
        let () = server.ask(&["DEL", &key]).map(|_: Value| ()).expect("it is there");
        if was_there {
            let () = server.ask(&["RENAME", &key_of("aside"), &key]).expect("it is there");
        }
    }
    let _: Value = server.ask(&["DEL", &key_of("aside")]).expect("it is there");
    // What was put aside meanwhile is found again: once its queue holds nothing else, or some time later.
    for _ in 0..3 {
        scene.make(call, &broker).await.expect("all is as it was");
        if matches!(call, Call::Lease | Call::Sweep) {
            scene.clock.advance(HOUR + HOUR);
            broker.sweep(&scene.tenant, Sweep::new(3)).await.expect("all is as it was");
        }
    }
    store(server)
}

#[tokio::test]
async fn a_key_of_another_type_spoils_at_most_what_is_its_own() {
    let server = Server::start(Durability::None, &[]);
    for call in Call::ALL {
        let (before, after) = undisturbed(&server, call).await;
        let names = before.keys().chain(after.keys().filter(|name| !before.contains_key(*name)));
        let names: Vec<String> = names.cloned().chain(["sequence".to_owned()]).collect();
        for name in names {
            // A job that is there already isn't created, whatever it is.
            if name.starts_with("job:") && !before.contains_key(&name) && call == Call::Settle {
                continue;
            }
            let found = with_alien(&server, call, &name, &before).await;
            let when = format!("{call:?} after {name} was of another type");
            match call {
                Call::Lease | Call::Sweep => each_has_its_place(&found, &when),
                _ => same(&found, &after, &when),
            }
        }
    }
}

#[tokio::test]
async fn a_full_server_does_nothing_by_halves_and_lets_runs_end() {
    let server = Server::start(Durability::None, &["--maxmemory-policy", "noeviction"]);
    for call in Call::ALL {
        let (before, after) = undisturbed(&server, call).await;
        let scene = Scene::set(&server).await;
        let broker = scene.broker(server.url());
        broker.counts(&scene.tenant).await.expect("the server is there");
        let () = server.ask(&["CONFIG", "SET", "maxmemory", "1"]).expect("it is there");
        let outcome = scene.make(call, &broker).await;
        let () = server.ask(&["CONFIG", "SET", "maxmemory", "0"]).expect("it is there");
        if call.runs_when_full() {
            outcome.expect("it makes room, or says how a run ended");
        } else {
            let error = outcome.expect_err("it needs room");
            assert!(matches!(&error, Error::Full { cause, .. } if cause.contains("OOM")), "{error}");
            unchanged(&store(&server), &before, &format!("{call:?} without room"));
            scene.make(call, &broker).await.expect("there is room again");
        }
        same(&store(&server), &after, &format!("{call:?} in the end"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_dies_in_between_has_done_all_or_nothing() {
    let mut server = Server::start(Durability::Always, &[]);
    for call in Call::ALL {
        let (before, after) = undisturbed(&server, call).await;
        for _ in 0..3 {
            let scene = Arc::new(Scene::set(&server).await);
            let config = impatiently(Config::new(server.url()));
            let broker = Arc::new(Redis::with_clock(&config, scene.clock.clone()).expect("the url is right"));
            broker.counts(&scene.tenant).await.expect("the server is there");
            let making = tokio::spawn({
                let (scene, broker) = (Arc::clone(&scene), Arc::clone(&broker));
                async move { scene.make(call, &broker).await }
            });
            tokio::task::yield_now().await;
            server.kill();
            // Whether it was in time, nobody knows.
            let _ = making.await.expect("it only calls");
            server.restart();
            until_it_works(async || broker.counts(&scene.tenant).await).await;
            let found = store(&server);
            assert!(is_several(call) || found == before || found == after, "{call:?}");
            until_it_works(async || scene.make(call, &broker).await).await;
            same(&store(&server), &after, &format!("{call:?} after a restart"));
        }
    }
}
