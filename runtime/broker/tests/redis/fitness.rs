//! What a server must be, and what only deserves a warning.

use sandhog_broker::redis::testing::{Durability, Server};
use sandhog_broker::redis::{Config, Redis};
use sandhog_broker::{Broker, Error};

use crate::work::{broker, connection, tenant};

async fn warnings(server: &Server) -> String {
    broker(server).check().await.expect("it will do").join("\n")
}

async fn problem(server: &Server) -> String {
    match broker(server).check().await {
        Err(Error::Unfit { problem }) => problem,
        other => panic!("it is not fit: {other:?}"),
    }
}

#[tokio::test]
async fn a_server_that_writes_all_down_passes_without_a_warning() {
    assert_eq!(warnings(&Server::start(Durability::Always, &[])).await, "");
    let server =
        Server::start(Durability::EverySecond, &["--maxmemory", "1gb", "--maxmemory-policy", "noeviction"]);
    assert_eq!(warnings(&server).await, "");
}

#[tokio::test]
async fn a_server_that_may_lose_jobs_is_warned_of() {
    let warning = warnings(&Server::start(Durability::None, &[])).await;
    assert!(warning.contains("set appendonly to yes"), "{warning}");
    let server = Server::start(Durability::None, &["--appendonly", "yes", "--appendfsync", "no"]);
    let warning = warnings(&server).await;
    assert!(warning.contains("set appendfsync to everysec or always"), "{warning}");
}

#[tokio::test]
async fn a_server_that_evicts_is_unfit() {
    let server =
        Server::start(Durability::Always, &["--maxmemory", "1gb", "--maxmemory-policy", "allkeys-lru"]);
    let problem = problem(&server).await;
    assert!(problem.contains("allkeys-lru") && problem.contains("noeviction"), "{problem}");
}

#[tokio::test]
async fn a_replica_is_unfit() {
    let primary = Server::shared();
    let replica = Server::start(Durability::None, &["--replicaof", &format!("127.0.0.1 {}", primary.port())]);
    let problem = problem(&replica).await;
    assert!(problem.contains("name its primary, 127.0.0.1"), "{problem}");
}

#[tokio::test]
async fn a_user_who_may_not_ask_is_warned_that_nothing_was_checked() {
    let server = Server::start(Durability::None, &[]);
    let rule =
        ["SETUSER", "worker", "on", ">hunter2", "~sandhog:*", "&sandhog:*", "+@all", "-info", "-config"];
    let command = redis::cmd("ACL").arg(&rule[..]).to_owned();
    let () = command.query_async(&mut connection(&server).await).await.expect("the server is there");
    let url = server.url().replace("//", "//worker:hunter2@");
    let broker = Redis::new(&Config::new(url)).expect("the url is right");
    let warnings = broker.check().await.expect("it will do").join("\n");
    assert!(warnings.contains("doesn't answer INFO") && !warnings.contains("hunter2"), "{warnings}");
}

/// A server as it is run by somebody else, who has taken these commands away.
fn without(commands: &[&str], further: &[&str]) -> Server {
    let renamed: Vec<&str> = commands.iter().flat_map(|command| ["--rename-command", command, ""]).collect();
    Server::start(Durability::EverySecond, &[&renamed[..], further].concat())
}

#[tokio::test]
async fn a_command_that_is_taken_away_is_a_warning_of_what_could_not_be_checked() {
    let warning = warnings(&without(&["CONFIG"], &[])).await;
    assert!(warning.contains("appendfsync could not be checked") && warning.contains("CONFIG"), "{warning}");
    let warning = warnings(&without(&["INFO"], &[])).await;
    assert!(warning.contains("eviction policy") && warning.contains("doesn't answer INFO"), "{warning}");
    let all = without(&["CONFIG", "INFO", "SCRIPT", "CLUSTER"], &[]);
    assert_eq!(warnings(&all).await.lines().count(), 1);
}

#[tokio::test]
async fn a_node_that_does_not_tell_of_its_cluster_is_a_warning() {
    let warning = warnings(&without(&["CLUSTER"], &["--cluster-enabled", "yes"])).await;
    assert!(warning.contains("the other nodes of the cluster could not be checked"), "{warning}");
}

#[tokio::test]
async fn a_server_that_loads_no_scripts_is_sent_them_with_the_call() {
    let server = without(&["CONFIG", "INFO", "SCRIPT"], &[]);
    let (broker, tenant) = (broker(&server), tenant());
    for _ in 0..2 {
        let counts = broker.counts(&tenant).await.expect("it works all the same");
        assert_eq!(counts.total(), 0);
    }
}
