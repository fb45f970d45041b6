//! A tenant's two Redis users: the producer's enqueues and looks, and can do nothing else to what there is.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sandhog_broker::conformance::{self, Fixture, ManualClock};
use sandhog_broker::redis::testing::{Durability, Server};
use sandhog_broker::redis::{Config, Redis, Role, acl_rules};
use sandhog_broker::routed::Routed;
use sandhog_broker::{
    Asker, Broker, Command, DaemonReport, Enqueued, Error, Filter, Fleet, FlowStored, GroupLimited, LaneAsk,
    LeaseAsk, Leased, Look, Outcome, Query, Renew, Renewal, Result, ScheduleQuery, ScheduleRecord,
    ScheduleWrite, ScheduleWritten, Seen, Settle, Wakes,
};
use sandhog_core::account::Day;
use sandhog_core::attempt::SettleReply;
use sandhog_core::effects::Effects;
use sandhog_core::event::{EventCursor, EventKeep};
use sandhog_core::fair::{FairRule, Weight};
use sandhog_core::flow::{After, Flow, FlowJob, OnFailure};
use sandhog_core::group::{GroupRule, QueueRule};
use sandhog_core::group_limit::{GroupLimitChange, NewGroupLimit};
use sandhog_core::hold::{HoldEnd, HoldScope, NewHold};
use sandhog_core::id::{
    DaemonId, FlowJobName, GroupKey, Kind, QueueName, ScheduleName, StateKey, TenantId, UniqueKey,
};
use sandhog_core::job::{JobOptions, NewJob, Priority, State};
use sandhog_core::quota::QueueBounds;
use sandhog_core::reason::Reason;
use sandhog_core::settle::Settlement;
use sandhog_core::time::Timestamp;
use sandhog_core::unique::{Debounce, UniqueRule};

use crate::fenced::{Open, OwnUsers, furnish, log_in, of_tenant, refused, user_of};
use crate::whole::{store, unchanged};
use crate::work::{PATIENCE, TTL, Work, broker, job, jobs, plugin, queue, succeed, tenant};

/// A broker by both users of a tenant: by the producer's, whatever that one is for.
struct ByRole {
    producer: Redis,
    worker: Redis,
}

#[async_trait]
impl Broker for ByRole {
    async fn enqueue_within(
        &self,
        tenant: &TenantId,
        jobs: &[NewJob],
        bounds: &QueueBounds,
    ) -> Result<Vec<Enqueued>> {
        self.producer.enqueue_within(tenant, jobs, bounds).await
    }

    async fn lease(&self, ask: LeaseAsk<'_>) -> Result<Leased> {
        self.worker.lease(ask).await
    }

    async fn renew(&self, tenant: &TenantId, ttl: Duration, leases: &[Renew]) -> Result<Vec<Renewal>> {
        self.worker.renew(tenant, ttl, leases).await
    }

    async fn settle(&self, tenant: &TenantId, settlements: &[Settle]) -> Result<Vec<SettleReply>> {
        self.worker.settle(tenant, settlements).await
    }

    async fn control(&self, tenant: &TenantId, command: Command) -> Result<Outcome> {
        match command {
            Command::Flow { .. } | Command::RecordEvents(_) => self.producer.control(tenant, command).await,
            _ => self.worker.control(tenant, command).await,
        }
    }

    async fn look(&self, tenant: &TenantId, look: Look) -> Result<Seen> {
        match look {
            Look::State { .. } | Look::Why(_) | Look::Limits => self.worker.look(tenant, look).await,
            _ => self.producer.look(tenant, look).await,
        }
    }

    async fn watch(&self, tenants: Vec<TenantId>) -> Result<Wakes> {
        self.producer.watch(tenants).await
    }

    async fn tenants(&self) -> Result<Vec<TenantId>> {
        self.producer.tenants().await
    }

    async fn report_daemon(&self, id: DaemonId, report: Option<&DaemonReport>) -> Result<()> {
        self.worker.report_daemon(id, report).await
    }

    async fn daemons(&self) -> Result<Fleet> {
        self.worker.daemons().await
    }

    async fn check(&self) -> Result<Vec<String>> {
        self.worker.check().await
    }
}

struct TwoUsers(Arc<Routed<OwnUsers>>);

#[async_trait]
impl Fixture for TwoUsers {
    async fn start(clock: Arc<ManualClock>) -> Self {
        let open: Open = |tenant, server, clock| {
            let by = |role| of_tenant(tenant, server, &user_of(tenant, role, server)).at(clock.clone());
            Arc::new(ByRole { producer: by(Role::Producer), worker: by(Role::Worker) })
        };
        Self(Arc::new(OwnUsers::new(clock, open)))
    }

    fn broker(&self) -> Arc<dyn Broker> {
        Arc::clone(&self.0) as Arc<dyn Broker>
    }
}

conformance::suite!(TwoUsers);

#[tokio::test]
async fn the_model_agrees_on_random_operations_by_producers_and_workers() {
    conformance::agree::<TwoUsers>(3, 400).await;
}

fn producer(tenant: &TenantId, server: &Server) -> Redis {
    of_tenant(tenant, server, &user_of(tenant, Role::Producer, server))
}

fn split_off() -> Kind {
    Kind::parse("split.off").expect("a valid kind")
}

/// A queue that a daemon waits for.
fn awaited_queue() -> QueueName {
    QueueName::parse("awaited").expect("a valid name")
}

/// A flow of two jobs, of which the second comes after the first.
fn flow() -> Flow {
    let name = |text| FlowJobName::parse(text).expect("a valid name");
    let first = After { job: name("first"), on_failure: OnFailure::Fail };
    let of = |text, after| FlowJob { name: name(text), job: job(), after, takes_outputs: false };
    Flow::new(vec![of("first", vec![]), of("second", vec![first])]).expect("a valid flow")
}

/// A tenant with jobs in every state, a log, state, usage and a lane.
async fn prepare(operator: &Redis, tenant: &TenantId) {
    furnish(operator, tenant).await;
    operator.store(tenant, &jobs(3)).await;
    let leases = operator.take(tenant, 2).await;
    let bury = Settlement::Bury { reason: Reason::Trapped, message: "a trap".to_owned() };
    let dead = Settle { settlement: bury, ..succeed(leases[0].token, Effects::default()) };
    operator.settle(tenant, &[dead]).await.expect("the server is there");
    let waiting = job();
    operator.store(tenant, std::slice::from_ref(&waiting)).await;
    operator.cancel(tenant, waiting.id).await.expect("the server is there");
    operator.store_flow(tenant, &flow(), &QueueBounds::default()).await.expect("the server is there");
    let schedule = ScheduleWrite {
        name: ScheduleName::parse("nightly").expect("valid"),
        expected: None,
        record: Some(ScheduleRecord { bytes: b"a record".to_vec(), due_at: None }),
        jobs: Vec::new(),
        bounds: QueueBounds::default(),
    };
    let written = operator.write_schedule(tenant, schedule).await.expect("the server is there");
    assert_eq!(written, ScheduleWritten::Done);
    let lanes = [LaneAsk::new(queue(), split_off(), 0)];
    let queues = [(queue(), 0)];
    let ask = LeaseAsk { lanes: &lanes, ..LeaseAsk::new(tenant, &queues, TTL) };
    operator.lease(ask).await.expect("the server is there");
    operator.hold(tenant, NewHold::pause(held())).await.expect("the server is there");
    let_run(operator, tenant, 1).await;
    operator.store(tenant, &[grouped(), grouped(), grouped()]).await;
    // Now there is a turn that nobody has yet.
    let_run(operator, tenant, 2).await;
    // Last, as whoever fills another lane may forget those who wait.
    let queues = [(awaited_queue(), 1)];
    let daemon = DaemonId::from_parts(Timestamp::from_millis(1), 1);
    let asker = Some(Asker { daemon, number: 1, repeats: false });
    let ask = LeaseAsk { asker, ..LeaseAsk::new(tenant, &queues, TTL) };
    assert!(operator.lease(ask).await.expect("the server is there").leases.is_empty(), "it waits");
}

/// A scope of no job here.
fn held() -> HoldScope {
    HoldScope { queue: None, kind: Some(Kind::parse("held.back").expect("a valid name")) }
}

/// A job of a group in a queue that has a rule for them.
fn grouped() -> NewJob {
    let group = Some(GroupKey::parse("acme").expect("a valid key"));
    let queue = QueueName::parse("grouped").expect("a valid name");
    NewJob { queue, options: JobOptions { group, ..JobOptions::default() }, ..job() }
}

/// A job of a group of another queue, which is fair.
fn shared() -> NewJob {
    NewJob { queue: QueueName::parse("shared").expect("a valid name"), ..grouped() }
}

/// Lets so many jobs of each group of that queue be ready or leased at once.
async fn let_run(operator: &Redis, tenant: &TenantId, turns: u16) {
    let rule = GroupRule::Concurrency(NonZeroU16::new(turns).expect("not zero"));
    let weights = grouped().options.group.zip(Weight::new(3)).into_iter().collect();
    let fair = QueueRule::Fair(FairRule::new(weights).expect("it is one"));
    let rules = [(grouped().queue, rule.into()), (shared().queue, fair)].into();
    operator.set_group_rules(tenant, &rules).await.expect("the server is there");
    let (queue, group) = (grouped().queue, GroupKey::parse("another").expect("a valid key"));
    let concurrency = NonZeroU16::new(turns).expect("not zero");
    let limit = NewGroupLimit { concurrency, by: None, end: HoldEnd::Lifted, note: None };
    let limited = operator.limit_group(tenant, &queue, &group, GroupLimitChange::Set(limit)).await;
    assert_eq!(limited.expect("the server is there"), GroupLimited::Done);
}

/// Enqueues in every way there is.
async fn enqueue_everything(producer: &Redis, tenant: &TenantId) {
    producer.record_events(tenant, EventKeep::default()).await.expect("a producer may");
    let unique_key = Some(UniqueKey::parse("held").expect("a valid key"));
    let held = NewJob { unique_key, ..job() };
    let all = [
        job(),
        NewJob { priority: Priority(200), ..job() },
        NewJob { delay: Duration::from_secs(60), ..job() },
        NewJob { queue: QueueName::parse("other").expect("a valid name"), ..job() },
        NewJob { kind: split_off(), ..job() },
        NewJob {
            options: JobOptions { start_within: Some(Duration::from_secs(60)), ..JobOptions::default() },
            ..job()
        },
        held.clone(),
        grouped(),
    ];
    producer.store(tenant, &all).await;
    producer.store(tenant, &[NewJob { queue: awaited_queue(), ..job() }]).await;
    producer.store(tenant, &[shared()]).await;
    let flow = flow();
    for _ in 0..2 {
        let stored = producer.store_flow(tenant, &flow, &QueueBounds::default()).await.expect("it may");
        assert_eq!(stored, FlowStored::Stored);
    }
    // As when an answer was lost, and further jobs have come since.
    producer.store(tenant, &[all[0].clone(), job()]).await;
    let again = NewJob { id: job().id, ..held.clone() };
    let debounce = Debounce::new(Duration::from_secs(60), Duration::from_secs(600)).expect("it is shorter");
    let options = JobOptions { unique: UniqueRule::trailing(debounce), ..JobOptions::default() };
    let unique_key = Some(UniqueKey::parse("debounced").expect("a valid key"));
    let event = || NewJob {
        unique_key: unique_key.clone(),
        options: options.clone(),
        delay: debounce.delay,
        ..job()
    };
    let first = event();
    producer.store(tenant, std::slice::from_ref(&first)).await;
    let replaced = producer.enqueue(tenant, &[event()]).await.expect("it may");
    assert_eq!(replaced, [Enqueued::Replaced(first.id)]);
    let none = QueueBounds { jobs: 1, ..QueueBounds::default() };
    assert_eq!(producer.enqueue(tenant, &[again]).await.expect("it may"), [Enqueued::Duplicate(held.id)]);
    let replies = producer.enqueue_within(tenant, &jobs(1), &none).await.expect("it may");
    assert!(matches!(replies[..], [Enqueued::Full(_)]), "{replies:?}");
}

/// Looks at all that a producer may look at.
async fn look_at_everything(producer: &Redis, tenant: &TenantId) {
    let limits = producer.limits(tenant).await.expect("it may");
    assert_eq!((limits.groups.len(), limits.rates.len()), (1, 0));
    let told = producer.events(tenant, EventCursor::START, 50).await.expect("it may");
    assert!(!told.events.is_empty());
    let counts = producer.counts(tenant).await.expect("it may");
    let mut lines = 0;
    for state in State::ALL {
        let page = producer.jobs(tenant, Query::of(state, 50)).await.expect("it may");
        assert!(counts[state] > 0 && page.jobs.len() as u64 == counts[state], "{state:?}: {page:?}");
        let filter = Filter { queue: Some(queue()), ..Filter::default() };
        let query = Query { filter, payloads: false, ..Query::of(state, 50) };
        producer.jobs(tenant, query).await.expect("it may");
        for listed in page.jobs {
            let found = producer.job(tenant, listed.id).await.expect("it may");
            assert_eq!(found.as_ref().map(|job| job.state), Some(state));
            if let Some(member) = found.and_then(|job| job.options.flow) {
                let flow = producer.flow(tenant, member.flow).await.expect("it may").expect("it is there");
                assert_eq!(flow.jobs.len(), 2);
                producer.parents(tenant, listed.id, 1000).await.expect("it may");
            }
            lines += producer.log(tenant, listed.id).await.expect("it may").len();
        }
    }
    assert!(lines > 0, "there is a log");
    let days = Day(0)..=Day(u32::MAX);
    assert!(!producer.usage(tenant, days).await.expect("it may").is_empty(), "something was spent");
    assert_eq!(producer.lanes(tenant).await.expect("it may").lanes, [(queue(), split_off())]);
    assert_eq!(producer.holds(tenant).await.expect("it may").len(), 1);
    let ready = producer.jobs(tenant, Query::of(State::Ready, 1)).await.expect("it may").jobs;
    let why = producer.why(tenant, ready[0].id).await.expect("it may").expect("it is there");
    assert_eq!((why.ahead, why.limits.len()), (0, 0), "limits are the worker's affair");
    assert_eq!(producer.held_groups(tenant).await.expect("it may"), []);
    assert_eq!(producer.queues(tenant, None, 1).await.expect("it may").queues.len(), 1);
    assert_eq!(producer.breakers(tenant, None).await.expect("it may").breakers, []);
    let schedules = producer.schedules(tenant, ScheduleQuery::After(None)).await.expect("it may").schedules;
    assert_eq!(schedules.len(), 1);
    assert_eq!(producer.tenants().await.expect("it may"), std::slice::from_ref(tenant));
}

/// Commands that a server has been sent, and those that functions have called there.
struct Monitor(BufReader<TcpStream>);

impl Monitor {
    const END: &str = "this is the end";

    fn start(server: &Server) -> Self {
        let mut stream = TcpStream::connect(("127.0.0.1", server.port())).expect("it is there");
        stream.set_read_timeout(Some(PATIENCE)).expect("it is not zero");
        stream.write_all(b"MONITOR\r\n").expect("it reads");
        let mut monitor = Self(BufReader::new(stream));
        assert_eq!(monitor.line(), "+OK");
        monitor
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).expect("it goes on");
        line.trim_end().to_owned()
    }

    /// All that came up to now, each in its words.
    fn stop(mut self, server: &Server) -> Vec<Vec<String>> {
        let _: String = server.ask(&["ECHO", Self::END]).expect("it is there");
        let mut calls = Vec::new();
        loop {
            let words = words(&self.line());
            if words.iter().any(|word| word == Self::END) {
                return calls;
            }
            calls.push(words);
        }
    }
}

/// The words of a line of MONITOR: each in quotes, and escaped.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut escaped) = (Vec::new(), None::<String>, false);
    for c in line.chars() {
        match (&mut word, c) {
            (None, '"') => word = Some(String::new()),
            (None, _) => {}
            (Some(open), _) if escaped => {
                open.push(c);
                escaped = false;
            }
            (Some(_), '\\') => escaped = true,
            (Some(_), '"') => words.extend(word.take()),
            (Some(open), _) => open.push(c),
        }
    }
    words
}

/// The keys in a call, without what all keys of the tenant begin with.
fn keys_in<'c>(call: &'c [String], prefix: &str) -> Vec<&'c str> {
    let all = match call[0].to_lowercase().as_str() {
        "mset" | "msetnx" => call[1..].iter().step_by(2).collect(),
        "exists" | "mget" => call[1..].iter().collect(),
        _ => call.get(1).into_iter().collect::<Vec<_>>(),
    };
    all.into_iter().filter_map(|key| key.strip_prefix(prefix)).collect()
}

fn matches(pattern: &str, key: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => key.starts_with(start),
        None => key == pattern,
    }
}

/// Pairs of a command and a pattern of keys that rules of a user allow, functions aside; and the commands that go on no key.
fn rights(rules: &[String], prefix: &str) -> Vec<(String, Vec<String>)> {
    let of = |words: &[&str]| {
        let patterns = words.iter().filter_map(|word| word.split_once('~')?.1.strip_prefix(prefix));
        let patterns: Vec<String> = patterns.map(str::to_owned).collect();
        let commands = words.iter().filter_map(|word| word.strip_prefix('+'));
        commands.map(|command| (command.to_owned(), patterns.clone())).collect::<Vec<_>>()
    };
    let (selectors, root): (Vec<&str>, Vec<&str>) =
        rules.iter().map(String::as_str).partition(|rule| rule.starts_with('('));
    let mut rights = of(&root);
    for selector in selectors {
        let words: Vec<&str> = selector.trim_matches(['(', ')']).split(' ').collect();
        rights.extend(of(&words));
    }
    rights
}

/// Each command that it may call is called, and each key that it may write is written by the command that may, and read by some.
#[tokio::test]
async fn a_producer_has_no_right_that_it_does_not_use() {
    let (server, tenant) = (Server::start(Durability::None, &[]), tenant());
    prepare(&broker(&server), &tenant).await;
    let producer = producer(&tenant, &server);
    let monitor = Monitor::start(&server);
    enqueue_everything(&producer, &tenant).await;
    look_at_everything(&producer, &tenant).await;
    let calls = monitor.stop(&server);

    let prefix = format!("sandhog:{{{tenant}}}:");
    let mut used = BTreeSet::new();
    for call in calls.iter().filter(|call| !call.is_empty()) {
        let command = call[0].to_lowercase();
        used.extend(keys_in(call, &prefix).into_iter().map(|key| (command.clone(), key.to_owned())));
        used.insert((command, String::new()));
    }
    let rules = acl_rules(&tenant, Role::Producer);
    let rights = rights(&rules, &prefix);
    let of_connection = ["hello", "ping", "select", "subscribe", "fcall"];
    let writing = rules.iter().filter_map(|rule| rule.strip_prefix("(+")?.split_once(" %W"));
    let writing: BTreeSet<&str> = writing.map(|(command, _)| command).collect();
    assert!(writing.contains("zadd") && !writing.contains("get"), "{writing:?}");
    for (command, patterns) in rights {
        if of_connection.contains(&command.as_str()) {
            continue;
        }
        assert!(used.iter().any(|(used, _)| *used == command), "`{command}` is not needed");
        let does_it = |used: &str| match writing.contains(command.as_str()) {
            true => used == command,
            false => !writing.contains(used),
        };
        for pattern in patterns {
            let is_used = used.iter().any(|(used, key)| does_it(used) && matches(&pattern, key));
            assert!(is_used, "`{command}` on `{pattern}` is not needed");
        }
    }
}

/// What functions keep from call to call is nobody's to choose.
#[tokio::test]
async fn whoever_names_other_keys_than_the_tenants_own_misleads_no_later_call() {
    let (server, other, tenant) = (Server::start(Durability::None, &[]), tenant(), tenant());
    let worker = broker(&server);
    worker.store(&other, &jobs(1)).await;
    let mut connection = log_in(&user_of(&tenant, Role::Producer, &server)).await;
    let listed: redis::Value = server.ask(&["FUNCTION", "LIST"]).expect("it is there");
    let listed = format!("{listed:?}");
    let functions: Vec<&str> =
        listed.split(['"', '\'']).filter(|word| word.starts_with("sandhog_")).collect();
    assert!(functions.iter().any(|name| name.ends_with("_counts")), "{functions:?}");
    let prefix = format!("sandhog:{{{tenant}}}:");
    for (function, first) in
        functions.iter().flat_map(|name| ["never", "sequence"].map(|first| (name, first)))
    {
        let mut call = redis::cmd("FCALL");
        call.arg(function).arg(3).arg(format!("{prefix}{first}"));
        call.arg(format!("{prefix}queues")).arg(format!("{prefix}sequence"));
        // Whether it is refused, or finds nothing, is all one.
        let _answer: redis::RedisResult<redis::Value> =
            call.arg("").arg(b"\xc0").arg("").query_async(&mut connection).await;
    }

    worker.store(&tenant, &jobs(2)).await;
    let leases = worker.take(&tenant, 2).await;
    worker.finish(&tenant, &leases[..1]).await;
    let ours =
        |name: &str| server.ask::<Vec<String>>(&["KEYS", &format!("{prefix}{name}*")]).expect("it is there");
    assert_eq!(ours("sequence"), Vec::<String>::new(), "nothing waits any more, so there is none");
    assert_eq!((ours("leases").len(), ours("finals:").len()), (1, 1));
}

/// All kinds of keys that a tenant has, those that enqueueing writes among them.
const KEYS: [&str; 38] = [
    "rules",
    "group_limits",
    "turns",
    "lines",
    "held",
    "rests",
    "blocked",
    "rates",
    "job:01",
    "run:01",
    "log:01",
    "ready:default",
    "queues",
    "tally",
    "lanes",
    "places",
    "limits",
    "in:thumbnail",
    "asked:01",
    "sequence",
    "schedule",
    "starting",
    "leases",
    "finals:succeeded:1",
    "finals",
    "unique",
    "state:thumbnail:secret",
    "expiring",
    "sizes",
    "usage:20000",
    "parked:default",
    "parked",
    "unreadable",
    "waiters:default",
    "events",
    "event_log",
    "never",
    "anything",
];

/// Commands that write, with what follows the key.
const WRITES: [&str; 27] = [
    "APPEND x",
    "COPY to",
    "DEL",
    "EXPIRE 1",
    "GETDEL",
    "GETSET x",
    "HDEL x",
    "HINCRBY x 1",
    "HSET x 1",
    "INCR",
    "INCRBY 1",
    "LPUSH x",
    "LTRIM 0 0",
    "MSET x",
    "PERSIST",
    "RENAME to",
    "RESTORE 0 x",
    "RPUSH x",
    "SADD x",
    "SET x",
    "SETRANGE 0 x",
    "SREM x",
    "UNLINK",
    "ZADD 1 x",
    "ZINCRBY 1 x",
    "ZREM x",
    "ZREMRANGEBYRANK 0 -1",
];

/// What enqueueing writes, and so a producer can write by hand as well.
const ITS_OWN: [(&str, &str); 17] = [
    ("ZADD", "blocked"),
    ("ZADD", "lines"),
    ("ZADD", "turns"),
    ("ZREM", "blocked"),
    ("ZREM", "lines"),
    ("ZADD", "ready:default"),
    ("ZADD", "schedule"),
    ("ZADD", "starting"),
    ("MSET", "job:01"),
    ("MSET", "sequence"),
    ("MSET", "tally"),
    ("SADD", "queues"),
    ("HSET", "unique"),
    ("SREM", "waiters:default"),
    ("RPUSH", "events"),
    ("LTRIM", "events"),
    ("MSET", "event_log"),
];

#[tokio::test]
async fn a_producer_can_write_nothing_by_hand_but_what_enqueueing_writes() {
    let (server, tenant) = (Server::start(Durability::None, &[]), tenant());
    prepare(&broker(&server), &tenant).await;
    let url = user_of(&tenant, Role::Producer, &server);
    let before = store(&server);
    let mut user = log_in(&url).await;
    let mut its_own = 0;
    for name in KEYS {
        let key = format!("sandhog:{{{tenant}}}:{name}");
        for write in WRITES {
            let (command, rest) = write.split_once(' ').unwrap_or((write, ""));
            if ITS_OWN.contains(&(command, name)) {
                its_own += 1;
                continue;
            }
            let mut call = redis::cmd(command);
            call.arg(&key).arg(rest.split_whitespace().collect::<Vec<_>>());
            refused(&format!("{command} {name}"), user.send_packed_command(&call).await);
        }
    }
    assert_eq!(its_own, ITS_OWN.len());

    let usage = format!("sandhog:{{{tenant}}}:usage:20000");
    let state = format!("sandhog:{{{tenant}}}:state:thumbnail:secret");
    let library = "#!lua name=mine\nredis.register_function('mine', function() return 1 end)";
    for words in [
        &["GET", &state][..],
        &["STRLEN", &state],
        &["MGET", &state],
        &["DUMP", &state],
        &["HSET", &usage, "thumbnail", "0"],
        &["EVAL", "return redis.call('DEL', KEYS[1])", "1", &usage],
        &["EVALSHA", "0000000000000000000000000000000000000000", "0"],
        &["EVAL_RO", "return 1", "0"],
        &["SCRIPT", "LOAD", "return 1"],
        &["SCRIPT", "FLUSH"],
        &["FUNCTION", "LOAD", library],
        &["FUNCTION", "DELETE", "mine"],
        &["FUNCTION", "FLUSH"],
        &["ACL", "SETUSER", tenant.as_str(), "on"],
        &["ACL", "LIST"],
        &["CONFIG", "SET", "maxmemory", "1"],
        &["MULTI"],
        &["WATCH", &usage],
        &["KEYS", "*"],
        &["SCAN", "0"],
        &["FLUSHALL"],
        &["PUBLISH", "other", ""],
    ] {
        let call = redis::cmd(words[0]).arg(&words[1..]).to_owned();
        refused(&words.join(" "), user.send_packed_command(&call).await);
    }
    unchanged(&store(&server), &before, "after all that was refused");
}

#[tokio::test]
async fn a_daemon_by_a_producers_user_is_told_so_before_it_takes_a_job() {
    let (server, tenant) = (Server::start(Durability::None, &[]), tenant());
    broker(&server).store(&tenant, &jobs(1)).await;
    let producer = producer(&tenant, &server);
    let state = StateKey::parse("secret").expect("a valid key");
    for (told, what) in [
        (producer.ask(&tenant, 1).await.map(drop), "the user is a producer's"),
        (producer.check().await.map(drop), "the user is a producer's"),
        (producer.cancel(&tenant, job().id).await.map(drop), "may enqueue jobs and look at them at most"),
        (producer.state(&tenant, &plugin(), &state).await.map(drop), "the user may not do this"),
    ] {
        match told {
            Err(Error::Unfit { problem }) => {
                let who_may = format!("`sandhog tenant acl {tenant} --role worker`");
                assert!(problem.contains(what) && problem.contains(&who_may), "{problem}");
            }
            other => panic!("it is a producer's: {other:?}"),
        }
    }
    assert_eq!(producer.counts(&tenant).await.expect("it may look")[State::Ready], 1);

    let as_the_operator =
        Redis::new(&Config::new(user_of(&tenant, Role::Producer, &server))).expect("the url is right");
    let told = as_the_operator.check().await.expect_err("it is no operator's").to_string();
    assert!(told.contains("the user may not do this") && told.contains("`[tenants.NAME.broker]`"), "{told}");
}
