//! A Redis user for each tenant: it can do all that the broker does for its tenant, and reach nothing else.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use redis::aio::MultiplexedConnection;
use redis::{RedisResult, Value};
use sandhog_broker::conformance::{self, Fixture, ManualClock};
use sandhog_broker::redis::testing::{Durability, Server};
use sandhog_broker::redis::{Config, Redis, Role, acl_rules};
use sandhog_broker::routed::{Routed, Routes};
use sandhog_broker::{Broker, Error, Result, Wake, WallClock};
use sandhog_core::effects::Effects;
use sandhog_core::id::{StateKey, TenantId};
use sandhog_core::job::NewJob;
use tokio::time::timeout;

use crate::work::{PATIENCE, Work, broker, connection, counts, jobs, plugin, succeed, tenant};

const PASSWORD: &str = "p@ss:word";

/// Makes a user of a tenant by the rules that operators get, and says where it logs in.
pub(crate) fn user_of(tenant: &TenantId, role: Role, server: &Server) -> String {
    let client = redis::Client::open(server.url()).expect("the url is right");
    let mut admin = client.get_connection().expect("it runs");
    let name = match role {
        Role::Worker => tenant.to_string(),
        Role::Producer => format!("{tenant}-producer"),
    };
    let mut user = redis::cmd("ACL");
    user.arg("SETUSER").arg(&name).arg(format!(">{PASSWORD}"));
    let () = user.arg(acl_rules(tenant, role)).query(&mut admin).expect("the rules are right");
    server.url().replace("//", &format!("//{name}:p%40ss%3Aword@"))
}

/// A broker by a tenant's own user, whose functions the operator loads.
pub(crate) fn of_tenant(tenant: &TenantId, server: &Server, url: &str) -> Redis {
    let operator = broker(server);
    Redis::of_tenant(&Config::new(url), tenant.clone(), Some(&operator)).expect("the url is right")
}

/// Makes the users of a tenant on a server, and a broker by them at a time of the test's own.
pub(crate) type Open = fn(&TenantId, &Server, Arc<ManualClock>) -> Arc<dyn Broker>;

/// Every tenant that is asked for gets users and connections of its own.
pub(crate) struct OwnUsers {
    server: Arc<Server>,
    clock: Arc<ManualClock>,
    open: Open,
    brokers: Mutex<HashMap<TenantId, Arc<dyn Broker>>>,
}

impl OwnUsers {
    pub(crate) fn new(clock: Arc<ManualClock>, open: Open) -> Routed<Self> {
        Routed::new(Self { server: Server::shared(), clock, open, brokers: Mutex::default() })
    }
}

impl Routes for OwnUsers {
    fn route(&self, tenant: &TenantId) -> Result<Arc<dyn Broker>> {
        let mut brokers = self.brokers.lock().expect("no test fails with it");
        let open = || (self.open)(tenant, &self.server, Arc::clone(&self.clock));
        Ok(Arc::clone(brokers.entry(tenant.clone()).or_insert_with(open)))
    }

    fn all(&self) -> Vec<Arc<dyn Broker>> {
        self.brokers.lock().expect("no test fails with it").values().cloned().collect()
    }

    fn of_fleet(&self) -> Arc<dyn Broker> {
        Arc::new(broker(&self.server).at(Arc::clone(&self.clock) as Arc<dyn WallClock>))
    }
}

struct Fenced(Arc<Routed<OwnUsers>>);

#[async_trait]
impl Fixture for Fenced {
    async fn start(clock: Arc<ManualClock>) -> Self {
        let open: Open = |tenant, server, clock| {
            Arc::new(of_tenant(tenant, server, &user_of(tenant, Role::Worker, server)).at(clock))
        };
        Self(Arc::new(OwnUsers::new(clock, open)))
    }

    fn broker(&self) -> Arc<dyn Broker> {
        Arc::clone(&self.0) as Arc<dyn Broker>
    }
}

conformance::suite!(Fenced);

#[tokio::test]
async fn the_model_agrees_on_random_operations_by_users_of_their_own() {
    conformance::agree::<Fenced>(3, 400).await;
}

pub(crate) async fn log_in(url: &str) -> MultiplexedConnection {
    let client = redis::Client::open(url).expect("the url is right");
    client.get_multiplexed_async_connection().await.expect("the user may log in")
}

/// A tenant with something of everything: jobs in several states, a log, state.
pub(crate) async fn furnish(broker: &Redis, tenant: &TenantId) {
    let unique_key = Some(sandhog_core::id::UniqueKey::parse("once").expect("a valid key"));
    let mut all = jobs(4);
    all[3] = NewJob { unique_key, delay: Duration::from_secs(3600), ..all[3].clone() };
    broker.store(tenant, &all).await;
    let leases = broker.take(tenant, 2).await;
    let mut effects = Effects::default();
    effects.set(StateKey::parse("secret").expect("a valid key"), b"treasure".to_vec(), None);
    let mut done = succeed(leases[0].token, effects);
    done.log = vec![sandhog_core::job::LogLine {
        at: sandhog_core::time::Timestamp::from_millis(1),
        attempt: 1,
        level: sandhog_core::job::Level::Info,
        message: "a line".to_owned(),
        fields: Vec::new(),
    }];
    broker.settle(tenant, &[done]).await.expect("the server is there");
}

pub(crate) fn refused(what: &str, reply: RedisResult<Value>) {
    match reply.and_then(Value::extract_error) {
        Err(error) if error.code() == Some("NOPERM") => {}
        // What a script calls is refused by another code.
        Err(error) if error.to_string().contains("can't access at least one of the keys") => {}
        other => panic!("{what} is refused for want of permission: {other:?}"),
    }
}

#[tokio::test]
async fn one_tenants_user_can_neither_read_nor_write_nor_scan_nor_hear_another_tenant() {
    let server = Server::start(Durability::None, &[]);
    let (mine, other) = (tenant(), tenant());
    let admin = Redis::new(&Config::new(server.url())).expect("the url is right");
    furnish(&admin, &other).await;
    let url = user_of(&mine, Role::Worker, &server);
    let broker = of_tenant(&mine, &server, &url);
    furnish(&broker, &mine).await;

    // By the broker: each of its calls.
    let calls = [
        broker.enqueue(&other, &jobs(1)).await.map(drop),
        broker.counts(&other).await.map(drop),
        broker.state(&other, &plugin(), &StateKey::parse("secret").expect("a valid key")).await.map(drop),
        broker.log(&other, jobs(1)[0].id).await.map(drop),
        broker.cancel(&other, jobs(1)[0].id).await.map(drop),
    ];
    for call in calls {
        assert!(matches!(call, Err(Error::Unfit { .. })), "{call:?}");
    }

    // By hand: every key of the other tenant, with the commands that its user has, and those that it hasn't.
    let mut connection_of_admin = connection(&server).await;
    let pattern = format!("sandhog:{{{other}}}:*");
    let keys: Vec<String> =
        redis::cmd("KEYS").arg(&pattern).query_async(&mut connection_of_admin).await.expect("it runs");
    assert!(keys.len() >= 9, "there is something of everything: {keys:?}");
    let mut user = log_in(&url).await;
    for key in &keys {
        for command in ["GET", "DEL", "UNLINK", "SMEMBERS", "ZCARD", "EXISTS", "DUMP", "TYPE", "OBJECT"] {
            let mut call = redis::cmd(command);
            if command == "OBJECT" {
                call.arg("ENCODING");
            }
            refused(&format!("{command} {key}"), user.send_packed_command(call.arg(key)).await);
        }
        let write = redis::cmd("SET").arg(key).arg("mine").to_owned();
        refused(&format!("SET {key}"), user.send_packed_command(&write).await);
    }
    for words in [
        &["SCAN", "0"][..],
        &["KEYS", "*"],
        &["RANDOMKEY"],
        &["DBSIZE"],
        &["FLUSHALL"],
        &["MONITOR"],
        &["CONFIG", "GET", "*"],
        &["ACL", "LIST"],
        &["ACL", "SETUSER", mine.as_str(), "allkeys"],
        &["CLIENT", "LIST"],
        &["PSUBSCRIBE", "*"],
        &["EVAL", "return 1", "0"],
        &["SORT", &keys[0]],
        &["COPY", &keys[0], &format!("sandhog:{{{mine}}}:copy")],
        &["RENAME", &keys[0], &format!("sandhog:{{{mine}}}:copy")],
    ] {
        let call = redis::cmd(words[0]).arg(&words[1..]).to_owned();
        refused(&words.join(" "), user.send_packed_command(&call).await);
    }

    // It can't bring code of its own, neither for itself nor for others.
    let script = "return redis.call('GET', KEYS[1])";
    let library = "#!lua name=mine\nredis.register_function('mine', function() return 1 end)";
    for words in [
        &["EVAL", script, "1", &keys[0]][..],
        &["EVALSHA", "0000000000000000000000000000000000000000", "0"],
        &["SCRIPT", "LOAD", script],
        &["SCRIPT", "FLUSH"],
        &["FUNCTION", "LOAD", library],
        &["FUNCTION", "LIST"],
        &["FUNCTION", "FLUSH"],
    ] {
        let call = redis::cmd(words[0]).arg(&words[1..]).to_owned();
        refused(&words.join(" "), user.send_packed_command(&call).await);
    }

    // Its channel, to hear and to speak.
    let wake = format!("sandhog:{{{other}}}:wake");
    for command in ["SUBSCRIBE", "PUBLISH"] {
        let mut call = redis::cmd(command);
        call.arg(&wake);
        if command == "PUBLISH" {
            call.arg("");
        }
        refused(command, log_in(&url).await.send_packed_command(&call).await);
    }
    let untouched = admin.counts(&other).await.expect("the server is there");
    assert_eq!(untouched, counts([1, 1, 1, 1, 0, 0]));
}

/// The default user may be off: nothing needs it once tenants have users of their own.
#[tokio::test]
async fn no_user_that_sees_all_tenants_is_needed() {
    let server = Server::start(Durability::None, &[]);
    let mine = tenant();
    let url = user_of(&mine, Role::Worker, &server);
    broker(&server).check().await.expect("the operator loads the functions");
    let off = redis::cmd("ACL").arg(&["SETUSER", "default", "off"]).to_owned();
    let () = off.query_async(&mut connection(&server).await).await.expect("it runs");
    let broker = Redis::of_tenant(&Config::new(url), mine.clone(), None).expect("the url is right");
    furnish(&broker, &mine).await;
    let mut wakes = broker.watch(vec![mine.clone()]).await.expect("listening waits for nothing");
    assert_eq!(timeout(PATIENCE, wakes.next()).await.expect("it listens"), Some(Wake::All));
    let warnings = broker.check().await.expect("it can be reached");
    assert!(warnings.len() == 1 && warnings[0].contains("doesn't answer INFO"), "{warnings:?}");
    let nobody = Redis::new(&Config::new(server.url())).expect("the url is right");
    assert!(matches!(nobody.counts(&mine).await, Err(Error::Unfit { .. })), "the default user is off");
}
