//! BullMQ's own crate: a producer and a worker.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use bullmq::options::RedisConnectionOptions;
use bullmq::worker::WorkerEvent;
use bullmq::{BulkJob, Job, Queue, QueueOptions, Worker, WorkerOptions};
use sandhog_bench_peers::{BATCH, Peer, place, serve, working};
use serde_json::json;

struct BullMq {
    connection: RedisConnectionOptions,
    queue: Queue,
}

impl Peer for BullMq {
    const SYSTEM: &str = "bullmq-rust";
    const CRATE: &str = "bullmq-official";

    async fn enqueue(&mut self, jobs: usize) -> Result<Duration> {
        let start = Instant::now();
        for first in (0..jobs).step_by(BATCH) {
            let batch = first..jobs.min(first + BATCH);
            self.queue.add_bulk(batch.map(|n| BulkJob::new("echo", json!({ "n": n }))).collect()).await?;
        }
        Ok(start.elapsed())
    }

    async fn work(&mut self, jobs: usize, concurrency: usize) -> Result<Duration> {
        let options = WorkerOptions::new().connection(self.connection.clone()).concurrency(concurrency);
        let echo = |job: Job, _token| async move { Ok(job.data().clone()) };
        let worker = Worker::with_options(self.queue.name(), echo, options.manual_start()).await?;
        working();
        let start = Instant::now();
        worker.run().await?;
        let mut left = jobs;
        while left > 0 {
            match worker.next_event().await {
                // It comes once Redis has acknowledged that the job is completed.
                Some(WorkerEvent::Completed { .. }) => left -= 1,
                Some(WorkerEvent::Failed { error, .. } | WorkerEvent::Error(error)) => bail!(error),
                Some(_) => {}
                None => bail!("the worker ended"),
            }
        }
        let took = start.elapsed();
        worker.close(1000).await?;
        Ok(took)
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let (url, queue) = place()?;
    let connection = RedisConnectionOptions::new().url(url);
    let queue = Queue::with_options(&queue, QueueOptions::new().connection(connection.clone())).await?;
    serve(BullMq { connection, queue }).await
}
