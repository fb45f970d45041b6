//! Peer program of BullMQ's own crate: a producer and a worker.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use bullmq::options::RedisConnectionOptions;
use bullmq::worker::WorkerEvent;
use bullmq::{BulkJob, Job, Queue, QueueOptions, Worker, WorkerOptions};
use sandhog_bench_peers::{BATCH, Latency, Peer, every_so_often, place, serve, working};
use serde_json::{Value, json};

struct BullMq {
    connection: RedisConnectionOptions,
    queue: Arc<Queue>,
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
        let options = self.worker_options(concurrency);
        let echo = |job: Job, _token| async move { Ok(job.data().clone()) };
        let worker = Worker::with_options(self.queue.name(), echo, options).await?;
        working();
        let start = Instant::now();
        worker.run().await?;
        until_settled(&worker, jobs, |_| ()).await?;
        let took = start.elapsed();
        worker.close(1000).await?;
        Ok(took)
    }

    async fn latency(&mut self, every: Duration, concurrency: usize, times: Arc<Latency>) -> Result<()> {
        let options = self.worker_options(concurrency);
        let begun = Arc::clone(&times);
        let echo = move |job: Job, _token| {
            begun.started(number(job.data()));
            async move { Ok(job.data().clone()) }
        };
        let worker = Worker::with_options(self.queue.name(), echo, options).await?;
        worker.run().await?;
        let adds = every_so_often(times.jobs(), every, |n| {
            let (queue, times) = (Arc::clone(&self.queue), Arc::clone(&times));
            async move {
                times.adds(n);
                queue.add("echo", json!({ "n": n })).await?;
                Ok(())
            }
        });
        let settled = until_settled(&worker, times.jobs(), |result| times.settled(number(result)));
        tokio::try_join!(adds, settled)?;
        worker.close(1000).await?;
        Ok(())
    }
}

impl BullMq {
    fn worker_options(&self, concurrency: usize) -> WorkerOptions {
        WorkerOptions::new().connection(self.connection.clone()).concurrency(concurrency).manual_start()
    }
}

/// Waits until `jobs` jobs are settled; calls `settled` with the result of each.
async fn until_settled(worker: &Worker, jobs: usize, settled: impl Fn(&Value)) -> Result<()> {
    let mut left = jobs;
    while left > 0 {
        match worker.next_event().await {
            // The event comes once Redis has acknowledged that the job is completed.
            Some(WorkerEvent::Completed { result, .. }) => {
                settled(&result);
                left -= 1;
            }
            Some(WorkerEvent::Failed { error, .. } | WorkerEvent::Error(error)) => bail!(error),
            Some(_) => {}
            None => bail!("the worker ended"),
        }
    }
    Ok(())
}

/// Returns the number of a job, which is the only content of its data and of its result.
fn number(data: &Value) -> usize {
    data["n"].as_u64().unwrap_or_default() as usize
}

#[tokio::main]
async fn main() -> Result<()> {
    let (url, queue) = place()?;
    let connection = RedisConnectionOptions::new().url(url);
    let queue = Queue::with_options(&queue, QueueOptions::new().connection(connection.clone())).await?;
    serve(BullMq { connection, queue: Arc::new(queue) }).await
}
