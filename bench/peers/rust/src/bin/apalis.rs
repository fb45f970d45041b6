//! Peer program of apalis with its Redis backend: a producer and a worker.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use apalis::prelude::*;
use apalis_redis::{Config, RedisStorage, connect};
use redis::aio::ConnectionManager;
use sandhog_bench_peers::{BATCH, Latency, Peer, every_so_often, place, serve, working};
use serde::{Deserialize, Serialize};

/// Maximum interval between looks at an empty queue, and between looks whether all jobs are settled.
const LOOK: Duration = Duration::from_millis(5);
/// Resolution of timers.
const TICK: Duration = Duration::from_millis(1);

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Echo {
    n: usize,
}

struct Apalis {
    url: String,
    config: Config,
}

impl Apalis {
    async fn storage(&self) -> Result<RedisStorage<Echo>> {
        Ok(RedisStorage::new(connect(self.url.as_str()).await?).with_config(self.config.clone()))
    }
}

impl Peer for Apalis {
    const SYSTEM: &str = "apalis";
    const CRATE: &str = "apalis-redis";

    async fn enqueue(&mut self, jobs: usize) -> Result<Duration> {
        let mut storage = self.storage().await?;
        let start = Instant::now();
        for first in (0..jobs).step_by(BATCH) {
            let batch = first..jobs.min(first + BATCH);
            storage.push_bulk(batch.map(|n| Echo { n }).collect()).await?;
        }
        Ok(start.elapsed())
    }

    async fn work(&mut self, jobs: usize, concurrency: usize) -> Result<Duration> {
        let storage = self.storage().await?;
        let mut looks = connect(self.url.as_str()).await?;
        let worker = WorkerBuilder::new("worker")
            .backend(storage.poll_with_interval(LOOK))
            .concurrency(concurrency)
            .parallelize(tokio::spawn)
            .build(async |echo: Echo| Ok::<_, BoxDynError>(echo));
        working();
        let start = Instant::now();
        tokio::select! {
            settled = self.until_settled(&mut looks, 0, jobs, LOOK, |_| ()) => settled?,
            ended = worker.run() => bail!("the worker ended: {ended:?}"),
        }
        Ok(start.elapsed())
    }

    /// Which job is settled when isn't reported either: the first result to be stored is taken for that of the first job that
    /// was added, and so on.
    async fn latency(&mut self, every: Duration, concurrency: usize, times: Arc<Latency>) -> Result<()> {
        let storage = self.storage().await?;
        let mut looks = connect(self.url.as_str()).await?;
        let before = self.settled(&mut looks).await?;
        let begun = Arc::clone(&times);
        // A worker's name stays taken until the worker has been silent for long, so each gets a new one.
        let worker = WorkerBuilder::new(format!("worker-{before}"))
            .backend(storage.poll_with_interval(LOOK))
            .concurrency(concurrency)
            .parallelize(tokio::spawn)
            .build(move |echo: Echo| {
                begun.started(echo.n);
                async move { Ok::<_, BoxDynError>(echo) }
            });
        let producer = self.storage().await?;
        let adds = every_so_often(times.jobs(), every, |n| {
            let (mut producer, times) = (producer.clone(), Arc::clone(&times));
            async move {
                times.adds(n);
                producer.push(Echo { n }).await?;
                Ok(())
            }
        });
        let settled = self.until_settled(&mut looks, before, times.jobs(), TICK, |n| times.settled(n));
        tokio::select! {
            done = async { tokio::try_join!(adds, settled) } => done.map(drop),
            ended = worker.run() => bail!("the worker ended: {ended:?}"),
        }
    }
}

impl Apalis {
    /// Polls until `jobs` more than `before` are settled; calls `settled` with the number of each. No event of the worker says
    /// that a result is stored, only that there is one.
    async fn until_settled(
        &self,
        looks: &mut ConnectionManager,
        before: usize,
        jobs: usize,
        look: Duration,
        settled: impl Fn(usize),
    ) -> Result<()> {
        let mut known = 0;
        while known < jobs {
            let now = self.settled(looks).await? - before;
            (known..now).for_each(&settled);
            known = now;
            tokio::time::sleep(look).await;
        }
        Ok(())
    }

    /// Returns the number of stored results.
    async fn settled(&self, looks: &mut ConnectionManager) -> Result<usize> {
        Ok(redis::cmd("SCARD").arg(self.config.done_jobs_set()).query_async(looks).await?)
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let (url, queue) = place()?;
    // The batch size of the project's own tests.
    let config = Config::default().queue(queue).batch_size(100);
    serve(Apalis { url, config }).await
}
