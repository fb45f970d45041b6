//! Many at once.

use sandhog_core::job::State;
use std::collections::HashSet;
use std::sync::Arc;

use sandhog_broker::redis::testing::Server;
use sandhog_broker::{Broker, Counts};
use sandhog_core::id::JobId;

use crate::work::{Work, broker, jobs, tenant};

#[tokio::test(flavor = "multi_thread")]
async fn two_clients_that_race_never_get_the_same_job() {
    const JOBS: usize = 10_000;
    let server = Server::shared();
    let tenant = tenant();
    broker(&server).store(&tenant, &jobs(JOBS)).await;
    let racers = [7, 32, 1].map(|batch| {
        let (broker, tenant) = (broker(&server), tenant.clone());
        tokio::spawn(async move {
            let mut got = Vec::new();
            loop {
                let leases = broker.take(&tenant, batch).await;
                if leases.is_empty() {
                    return got;
                }
                got.extend(leases.iter().map(|lease| lease.token.job));
                broker.finish(&tenant, &leases).await;
            }
        })
    });
    let mut all: Vec<JobId> = Vec::new();
    for racer in racers {
        all.extend(racer.await.expect("it only works"));
    }
    let distinct: HashSet<JobId> = all.iter().copied().collect();
    assert_eq!((all.len(), distinct.len()), (JOBS, JOBS));
    let broker = broker(&server);
    assert_eq!(
        broker.counts(&tenant).await.expect("the server is there"),
        Counts::of(&[(State::Succeeded, JOBS as u64)])
    );
}

/// Calls of one broker share a connection and don't wait for each other.
#[tokio::test(flavor = "multi_thread")]
async fn calls_at_once_each_get_their_own_answer() {
    let server = Server::shared();
    let broker = Arc::new(broker(&server));
    let calls = (0..200).map(|_| {
        let (broker, tenant) = (Arc::clone(&broker), tenant());
        tokio::spawn(async move {
            let jobs = jobs(3);
            broker.store(&tenant, &jobs).await;
            let got: Vec<JobId> = broker.take(&tenant, 9).await.iter().map(|lease| lease.token.job).collect();
            assert_eq!(got, jobs.iter().map(|job| job.id).collect::<Vec<_>>());
        })
    });
    for call in calls.collect::<Vec<_>>() {
        call.await.expect("it gets its own");
    }
}
