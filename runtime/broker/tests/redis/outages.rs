//! The server forgets, dies, comes back, or says nothing at all.

use sandhog_core::job::State;
use std::sync::Arc;
use std::time::Duration;

use sandhog_broker::redis::Redis;
use sandhog_broker::redis::testing::{Durability, Proxy, Server};
use sandhog_broker::{Broker, Counts, Error, Wake};
use sandhog_core::id::TenantId;
use tokio::time::timeout;

use crate::work::{
    PATIENCE, Work, broker, connection, hear_of, impatient, job, jobs, next, tenant, until_it_works,
};

#[tokio::test]
async fn forgotten_functions_are_loaded_again() {
    let server = Server::start(Durability::None, &[]);
    let (broker, tenant) = (broker(&server), tenant());
    let mut connection = connection(&server).await;
    for _ in 0..3 {
        broker.store(&tenant, &jobs(2)).await;
        let () = redis::cmd("FUNCTION").arg("FLUSH").query_async(&mut connection).await.expect("it is there");
        let leases = broker.take(&tenant, 2).await;
        let () = redis::cmd("FUNCTION").arg("FLUSH").query_async(&mut connection).await.expect("it is there");
        broker.finish(&tenant, &leases).await;
    }
    assert_eq!(broker.counts(&tenant).await.expect("it is there"), Counts::of(&[(State::Succeeded, 6)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_when_the_server_dies() {
    let mut server = Server::start(Durability::Always, &[]);
    let (broker, tenant) = (Arc::new(impatient(server.url())), tenant());
    // It goes on until the server is gone, and says what it was told is safe.
    let producer = tokio::spawn({
        let (broker, tenant) = (Arc::clone(&broker), tenant.clone());
        async move {
            let mut safe = Vec::new();
            loop {
                let jobs = jobs(5);
                match broker.enqueue(&tenant, &jobs).await {
                    Ok(_) => safe.extend(jobs.into_iter().map(|job| job.id)),
                    Err(error) => return (safe, error),
                }
            }
        }
    });
    while broker.counts(&tenant).await.expect("it is there")[State::Ready] < 500 {}
    server.kill();
    let (safe, error) = producer.await.expect("it only enqueues");
    assert!(matches!(error, Error::Unavailable { what: "enqueue", .. }), "{error}");
    server.restart();
    for id in &safe {
        assert!(until_it_works(async || broker.job(&tenant, *id).await).await.is_some());
    }
    assert!(safe.len() >= 500 && broker.take(&tenant, u32::MAX).await.len() >= safe.len());
}

#[tokio::test]
async fn a_listener_hears_of_everything_after_the_server_came_back() {
    let mut server = Server::start(Durability::Always, &[]);
    let (broker, tenant) = (impatient(server.url()), tenant());
    let mut wakes = broker.watch(vec![tenant.clone()]).await.expect("listening waits for nothing");
    assert_eq!(next(&mut wakes).await, Wake::All);
    broker.store(&tenant, &[job()]).await;
    assert_eq!(next(&mut wakes).await, Wake::Ready { tenant: tenant.clone(), named: None });
    server.restart();
    assert_eq!(next(&mut wakes).await, Wake::All);
    let leases = until_it_works(async || broker.ask(&tenant, 9).await).await.leases;
    assert_eq!(leases.len(), 1);
    broker.store(&tenant, &[job()]).await;
    hear_of(&mut wakes, &tenant).await;
}

#[tokio::test]
async fn listening_may_start_before_the_server_does() {
    let mut server = Server::start(Durability::None, &[]);
    server.kill();
    let broker = impatient(server.url());
    let mut wakes = broker.watch(vec![tenant()]).await.expect("listening waits for nothing");
    server.restart();
    assert_eq!(next(&mut wakes).await, Wake::All);
}

#[tokio::test]
async fn listening_ends_with_the_broker() {
    let server = Server::shared();
    let broker = broker(&server);
    let mut wakes = broker.watch(vec![tenant()]).await.expect("listening waits for nothing");
    assert_eq!(next(&mut wakes).await, Wake::All);
    drop(broker);
    assert_eq!(timeout(PATIENCE, wakes.next()).await.expect("it ends"), None);
}

/// The worst of outages: everything looks connected, and nothing comes.
#[tokio::test]
async fn silence_costs_a_call_its_deadline_and_no_more() {
    let server = Server::start(Durability::None, &[]);
    let proxy = Proxy::to(server.port()).await;
    let (broker, tenant) = (Arc::new(impatient(proxy.url())), tenant());
    let mut wakes = broker.watch(vec![tenant.clone()]).await.expect("listening waits for nothing");
    assert_eq!(next(&mut wakes).await, Wake::All);
    broker.store(&tenant, &[job()]).await;
    hear_of(&mut wakes, &tenant).await;

    proxy.go_silent();
    for _ in 0..3 {
        all_fail(&broker, &tenant).await;
    }
    proxy.go_on();
    let leases = until_it_works(async || broker.ask(&tenant, 9).await).await.leases;
    assert_eq!(leases.len(), 1);
    assert_eq!(next(&mut wakes).await, Wake::All);
    broker.store(&tenant, &[job()]).await;
    hear_of(&mut wakes, &tenant).await;
}

/// Fifty calls at once all come back with an error, so none of them waits for the others' deadlines in turn.
async fn all_fail(broker: &Arc<Redis>, tenant: &TenantId) {
    let calls = (0..50).map(|_| {
        let (broker, tenant) = (Arc::clone(broker), tenant.clone());
        tokio::spawn(async move { broker.ask(&tenant, 1).await })
    });
    for call in calls.collect::<Vec<_>>() {
        let answer =
            timeout(Duration::from_secs(5), call).await.expect("no call takes longer than its deadlines");
        let error = answer.expect("it only leases").expect_err("nothing gets through");
        assert!(matches!(error, Error::Unavailable { what: "lease", .. }), "{error}");
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unavailable() {
    let mut server = Server::start(Durability::None, &[]);
    let (broker, tenant) = (impatient(server.url()), tenant());
    server.kill();
    for _ in 0..5 {
        let error = broker.ask(&tenant, 1).await.expect_err("nobody is there").to_string();
        assert!(
            error.starts_with("the broker is unavailable: lease failed: no connection to redis://127.0.0.1:"),
            "{error}"
        );
    }
    assert!(matches!(broker.check().await, Err(Error::Unavailable { what: "check", .. })));
}

#[tokio::test]
async fn a_server_that_can_write_no_more_says_so_until_it_can() {
    let server = Server::start(Durability::None, &["--maxmemory", "3mb", "--maxmemory-policy", "noeviction"]);
    let (broker, tenant) = (broker(&server), tenant());
    let mut stored = 0;
    let error = loop {
        let large = sandhog_core::job::NewJob { payload: vec![7; 100_000], ..job() };
        match broker.enqueue(&tenant, &[large]).await {
            Ok(_) => stored += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(&error, Error::Full { what: "enqueue", cause, .. } if cause.contains("OOM")), "{error}");
    assert_eq!(broker.counts(&tenant).await.expect("reading needs no memory")[State::Ready], stored);
    let mut connection = connection(&server).await;
    let more = redis::cmd("CONFIG").arg("SET").arg("maxmemory").arg("100mb").to_owned();
    let () = more.query_async(&mut connection).await.expect("the server is there");
    assert_eq!(broker.take(&tenant, 100).await.len() as u64, stored);
}
