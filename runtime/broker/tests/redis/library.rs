//! The library of functions: who loads it, who may call it, what becomes of earlier ones; and scripts in its place.

use std::sync::Arc;

use async_trait::async_trait;
use sandhog_broker::conformance::{self, Fixture, ManualClock};
use sandhog_broker::redis::testing::{Durability, Server};
use sandhog_broker::redis::{Config, Redis, Role, acl_rules};
use sandhog_broker::{Broker, Error};
use sandhog_core::id::TenantId;
use sandhog_core::job::State;

use crate::work::{Work, broker, jobs, tenant};

/// What `sandhog tenant acl` allowed before there were functions.
const FORMER_COMMANDS: &str = "evalsha hello ping script|load select subscribe del exists expire get getrange hdel hget hgetall \
    hmget hset incrby lrange ltrim mget mset msetnx publish rpush sadd set sismember smembers srem strlen time unlink zadd \
    zcard zcount zrange zrem zremrangebyrank zscore";

fn former_rules(tenant: &TenantId) -> Vec<String> {
    let commands = FORMER_COMMANDS.split_whitespace().map(|command| format!("+{command}"));
    let head =
        [format!("~sandhog:{{{tenant}}}:*"), format!("&sandhog:{{{tenant}}}:wake"), "-@all".to_owned()];
    head.into_iter().chain(commands).collect()
}

/// Makes a user by these rules, and says where it logs in.
fn user(server: &Server, name: &str, rules: &[String]) -> String {
    let words: Vec<&str> = ["ACL", "SETUSER", name, "reset", "on", ">secret"]
        .into_iter()
        .chain(rules.iter().map(String::as_str))
        .collect();
    let () = server.ask(&words).expect("the rules are right");
    server.url().replace("//", &format!("//{name}:secret@"))
}

fn libraries(server: &Server) -> Vec<String> {
    let listed: Vec<Vec<redis::Value>> = server.ask(&["FUNCTION", "LIST"]).expect("it is there");
    listed.iter().map(|library| redis::from_redis_value_ref(&library[1]).expect("a name")).collect()
}

/// A user who may not call functions, so all of them are run as scripts.
struct ByScripts {
    broker: Arc<Redis>,
    _server: Arc<Server>,
}

#[async_trait]
impl Fixture for ByScripts {
    async fn start(clock: Arc<ManualClock>) -> Self {
        let server = Server::shared();
        let rules = ["~*", "&*", "+@all", "-fcall"].map(str::to_owned);
        let broker = Redis::with_clock(&Config::new(user(&server, "scripts", &rules)), clock);
        Self { broker: Arc::new(broker.expect("the url is right")), _server: server }
    }

    fn broker(&self) -> Arc<dyn Broker> {
        self.broker.clone()
    }
}

conformance::suite!(ByScripts);

#[tokio::test]
async fn the_model_agrees_on_random_operations_by_scripts() {
    conformance::agree::<ByScripts>(3, 400).await;
}

#[tokio::test]
async fn a_user_by_the_former_rules_goes_on_and_is_warned_of() {
    let (server, tenant) = (Server::start(Durability::Always, &[]), tenant());
    let operator = broker(&server);
    let url = user(&server, tenant.as_str(), &former_rules(&tenant));
    let config = Config::new(url);
    let broker = Redis::of_tenant(&config, tenant.clone(), Some(&operator)).expect("the url is right");
    broker.store(&tenant, &jobs(3)).await;
    let leases = broker.take(&tenant, 2).await;
    broker.finish(&tenant, &leases).await;
    let warnings = broker.check().await.expect("it will do").join("\n");
    assert!(warnings.contains("run as scripts") && warnings.contains("sandhog tenant acl"), "{warnings}");
}

#[tokio::test]
async fn the_operator_loads_what_a_tenants_user_calls() {
    let (server, tenant) = (Server::start(Durability::None, &[]), tenant());
    let config = Config::new(user(&server, tenant.as_str(), &acl_rules(&tenant, Role::Worker)));
    let alone = Redis::of_tenant(&config, tenant.clone(), None).expect("the url is right");
    match alone.counts(&tenant).await {
        Err(Error::Unfit { problem }) => assert!(problem.contains("the user may not load them"), "{problem}"),
        other => panic!("nobody has loaded them: {other:?}"),
    }
    assert_eq!(libraries(&server), [] as [String; 0]);

    // One that may do nothing else is enough.
    let rules = ["-@all", "+function|load", "+function|list", "+function|delete", "+time"].map(str::to_owned);
    let loader = Redis::new(&Config::new(user(&server, "loader", &rules))).expect("the url is right");
    let helped = Redis::of_tenant(&config, tenant.clone(), Some(&loader)).expect("the url is right");
    helped.store(&tenant, &jobs(1)).await;
    assert_eq!(libraries(&server).len(), 1);
    assert_eq!(alone.take(&tenant, 1).await.len(), 1);
}

#[tokio::test]
async fn the_libraries_that_were_loaded_last_stay_and_others_are_nobodys_business() {
    let (server, tenant) = (Server::start(Durability::None, &[]), tenant());
    for (name, loaded) in
        [("sandhog_a", "7"), ("sandhog_b", "4"), ("sandhog_c", "6"), ("sandhog_d", "5"), ("x", "1")]
    {
        let text = format!(
            "#!lua name={name}\nredis.register_function{{function_name = '{name}_f', description = 'loaded {loaded}', \
             callback = function() return 1 end}}"
        );
        let _: String = server.ask(&["FUNCTION", "LOAD", &text]).expect("it is right");
    }
    let broker = broker(&server);
    broker.store(&tenant, &jobs(1)).await;
    let mut left = libraries(&server);
    left.sort_unstable();
    assert_eq!(left.len(), 5, "{left:?}");
    for name in ["sandhog_a", "sandhog_c", "sandhog_d", "x"] {
        assert!(left.iter().any(|left| left == name), "{left:?}");
    }

    // What was removed is loaded again by whoever still needs it.
    let ours = left.iter().find(|name| name.len() > "sandhog_a".len()).expect("it is there").clone();
    let () = server.ask(&["FUNCTION", "DELETE", &ours]).expect("it is there");
    assert_eq!(broker.take(&tenant, 1).await.len(), 1);
    assert!(libraries(&server).contains(&ours));
}

#[tokio::test]
async fn a_user_who_lacks_a_command_is_told_so_before_it_takes_a_job() {
    let server = Server::start(Durability::None, &[]);
    let operator = broker(&server);
    for command in ["zrem", "mset", "hset", "lrange"] {
        let tenant = tenant();
        operator.store(&tenant, &jobs(1)).await;
        let mut rules = acl_rules(&tenant, Role::Worker);
        rules.push(format!("-{command}"));
        let config = Config::new(user(&server, tenant.as_str(), &rules));
        let broker = Redis::of_tenant(&config, tenant.clone(), Some(&operator)).expect("the url is right");
        for told in [broker.ask(&tenant, 1).await.map(drop), broker.check().await.map(drop)] {
            match told {
                Err(Error::Unfit { problem }) => {
                    assert!(problem.contains(&format!("may not call `{command}`")), "{problem}");
                }
                other => panic!("it lacks {command}: {other:?}"),
            }
        }
        assert_eq!(operator.counts(&tenant).await.expect("it is there")[State::Ready], 1);

        // With the right rules the same connection is good.
        user(&server, tenant.as_str(), &acl_rules(&tenant, Role::Worker));
        let again = Redis::of_tenant(&config, tenant.clone(), Some(&operator)).expect("the url is right");
        assert_eq!(again.take(&tenant, 1).await.len(), 1);
    }
}
