//! apalis with its Redis backend: a producer and a worker.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use apalis::prelude::*;
use apalis_redis::{Config, RedisStorage, connect};
use sandhog_bench_peers::{BATCH, Peer, place, serve, working};
use serde::{Deserialize, Serialize};

/// Neither a queue that was empty nor the end of the jobs is looked at later than this.
const LOOK: Duration = Duration::from_millis(5);

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
        // No event of the worker says that a result is stored, only that there is one.
        let settled = async {
            let mut count = redis::cmd("SCARD");
            count.arg(self.config.done_jobs_set());
            while count.query_async::<usize>(&mut looks).await? < jobs {
                tokio::time::sleep(LOOK).await;
            }
            anyhow::Ok(start.elapsed())
        };
        tokio::select! {
            took = settled => took,
            ended = worker.run() => bail!("the worker ended: {ended:?}"),
        }
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let (url, queue) = place()?;
    // As many to a batch as the project's own tests have.
    let config = Config::default().queue(queue).batch_size(100);
    serve(Apalis { url, config }).await
}
