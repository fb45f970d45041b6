//! What a server must be, and what only deserves a warning.

use sandhog_broker::redis::testing::{Durability, Server};
use sandhog_broker::redis::{Config, Redis};
use sandhog_broker::{Broker, Error};

use crate::work::{broker, connection};

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
    assert!(warnings.contains("may not ask for INFO") && !warnings.contains("hunter2"), "{warnings}");
}
