//! How long one tenant's settlements keep another tenant waiting on the same server.
//!
//! ```text
//! cargo run --release -p sandhog-broker --example redis_isolation [runs] [writes]
//! ```
//!
//! One tenant settles so many runs in one call, each with so many writes of state; another one leases meanwhile, a millisecond
//! after each answer, over a connection of its own. Printed is how long its calls took before and meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use sandhog_broker::redis::testing::{Durability, Server};
use sandhog_broker::redis::{Config, Redis};
use sandhog_broker::{Broker, LeaseAsk, Ran, Settle};
use sandhog_core::effects::Effects;
use sandhog_core::id::{DaemonId, JobId, Kind, PluginName, QueueName, Revision, StateKey, TenantId};
use sandhog_core::job::NewJob;
use sandhog_core::outcome::Usage;
use sandhog_core::settle::Settlement;
use sandhog_core::time::Timestamp;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

const TTL: Duration = Duration::from_secs(60);
/// Between an answer and the next call: so the watcher takes no processor from the server that it watches.
const PAUSE: Duration = Duration::from_millis(1);

#[tokio::main]
async fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let runs = args.next().map_or(Ok(64), |runs| runs.parse())?;
    let writes = args.next().map_or(Ok(5000), |writes| writes.parse())?;
    let server = Server::start(Durability::None, &[]);
    let settlements = prepare(&server, runs, writes).await?;

    let is_over = Arc::new(AtomicBool::new(false));
    let quiet = watch(&server, &is_over);
    tokio::time::sleep(Duration::from_secs(1)).await;
    is_over.store(true, Ordering::SeqCst);
    let quiet = quiet.await??;

    is_over.store(false, Ordering::SeqCst);
    let busy = watch(&server, &is_over);
    let broker = Redis::new(&Config::new(server.url()))?;
    let started = Instant::now();
    broker.settle(&TenantId::parse("busy")?, &settlements).await?;
    let took = started.elapsed();
    is_over.store(true, Ordering::SeqCst);
    let busy = busy.await??;
    println!("{runs} runs with {writes} writes each were settled in {took:.0?}");
    for (when, calls) in [("before", quiet), ("meanwhile", busy)] {
        let at = |share: f64| calls[((calls.len() - 1) as f64 * share) as usize];
        println!("another tenant's calls {when}: median {:.1?}, longest {:.1?}", at(0.5), at(1.0));
    }
    Ok(())
}

/// How long the calls of another tenant take, in order, until it is over.
fn watch(server: &Server, is_over: &Arc<AtomicBool>) -> tokio::task::JoinHandle<Result<Vec<Duration>>> {
    let (config, is_over) = (Config::new(server.url()), Arc::clone(is_over));
    tokio::spawn(async move {
        let broker = Redis::new(&config)?;
        let (tenant, queues) = (TenantId::parse("quiet")?, [(QueueName::parse("default")?, 1)]);
        let mut calls = Vec::new();
        broker.lease(LeaseAsk::new(&tenant, &queues, TTL)).await?;
        while !is_over.load(Ordering::SeqCst) {
            let started = Instant::now();
            broker.lease(LeaseAsk::new(&tenant, &queues, TTL)).await?;
            calls.push(started.elapsed());
            tokio::time::sleep(PAUSE).await;
        }
        calls.sort_unstable();
        Ok(calls)
    })
}

/// Leases so many jobs, and says how their runs end.
async fn prepare(server: &Server, runs: u32, writes: u32) -> Result<Vec<Settle>> {
    let broker = Redis::new(&Config::new(server.url()))?;
    let (tenant, queue) = (TenantId::parse("busy")?, QueueName::parse("default")?);
    let kind = Kind::parse("image.thumbnail")?;
    let jobs: Vec<NewJob> = (0..runs)
        .map(|n| {
            let id = JobId::from_parts(Timestamp::from_millis(1), n.into());
            NewJob::new(id, queue.clone(), kind.clone(), b"{}".to_vec())
        })
        .collect();
    broker.enqueue(&tenant, &jobs).await?;
    let queues = [(queue, runs)];
    let leased = broker.lease(LeaseAsk::new(&tenant, &queues, TTL)).await?;
    let ran = Ran::new(
        DaemonId::from_parts(Timestamp::from_millis(1), 1),
        PluginName::parse("thumbnail")?,
        Revision::from_sha256([7; 32]),
        Usage::default(),
    );
    let mut settlements = Vec::new();
    for (n, lease) in leased.leases.iter().enumerate() {
        let mut effects = Effects::default();
        for key in 0..writes {
            effects.set(StateKey::parse(&format!("{n}:{key}"))?, b"x".to_vec(), None);
        }
        settlements.push(Settle::of_run(
            lease.token,
            ran.clone(),
            Settlement::Succeed { output: Vec::new(), effects },
        ));
    }
    Ok(settlements)
}
