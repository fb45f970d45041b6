//! How fast the Redis broker is, and what a job costs the server: commands, processor time and memory.
//!
//! ```text
//! cargo run --release -p sandhog-broker --example redis_speed [jobs] [payload bytes] [batch]
//! ```
//!
//! It starts a server of its own that keeps nothing on disk, and prints one line for each way of working.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sandhog_broker::redis::testing::{Durability, Server};
use sandhog_broker::redis::{Config, Redis};
use sandhog_broker::{Broker, LeaseAsk, Ran, Settle};
use sandhog_core::budget::{Bytes, Fuel};
use sandhog_core::effects::Effects;
use sandhog_core::id::{DaemonId, JobId, Kind, PluginName, QueueName, Revision, TenantId};
use sandhog_core::job::{Lease, NewJob};
use sandhog_core::outcome::Usage;
use sandhog_core::settle::Settlement;
use sandhog_core::time::Timestamp;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// One tenant on a server, and what is asked of them.
struct Player {
    broker: Arc<Redis>,
    server: Server,
    tenant: TenantId,
    queue: QueueName,
    jobs: usize,
    payload: usize,
}

/// What the server has done so far.
struct Spent {
    at: Instant,
    processor: Duration,
    /// Within calls of functions.
    in_calls: Duration,
    commands: u64,
    memory: u64,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let jobs = args.next().map_or(Ok(100_000), |jobs| jobs.parse())?;
    let payload = args.next().map_or(Ok(100), |payload| payload.parse())?;
    let batch = args.next().map(|batch| batch.parse()).transpose()?;
    println!("{jobs} jobs with a payload of {payload} bytes");
    println!(
        "{:<34}{:>10}{:>12}{:>12}{:>12}{:>12}{:>12}",
        "", "jobs/s", "server us", "call us", "commands", "calls", "bytes"
    );
    if let Some(batch) = batch {
        return Player::new(jobs, payload)?.play(batch, 1).await;
    }
    for batch in [1, 32, 100, 256] {
        // One job at a time is slow, and as exact with fewer of them.
        let jobs = if batch == 1 { jobs / 10 } else { jobs };
        Player::new(jobs, payload)?.play(batch, 1).await?;
    }
    for callers in [4, 16] {
        Player::new(jobs, payload)?.play(32, callers).await?;
    }
    Ok(())
}

impl Player {
    fn new(jobs: usize, payload: usize) -> Result<Self> {
        let server = Server::start(Durability::None, &[]);
        let broker = Arc::new(Redis::new(&Config::new(server.url()))?);
        let (tenant, queue) = (TenantId::parse("acme")?, QueueName::parse("default")?);
        Ok(Self { broker, server, tenant, queue, jobs, payload })
    }

    /// Enqueues all jobs, then leases and settles them, so many at a time and by so many callers at once.
    async fn play(&self, batch: usize, callers: usize) -> Result<()> {
        self.broker.check().await?;
        let jobs: Vec<NewJob> = (0..self.jobs as u128).map(|n| self.job(n)).collect::<Result<_>>()?;
        let before = self.spent().await?;
        for jobs in jobs.chunks(batch) {
            self.broker.enqueue(&self.tenant, jobs).await?;
        }
        let enqueued = self.spent().await?;
        self.print(&format!("enqueue {batch}"), batch, &before, &enqueued, &before);
        if callers == 1 {
            self.work(batch).await?;
        } else {
            let tasks = (0..callers).map(|_| self.work(batch));
            join_all(tasks).await?;
        }
        let done = self.spent().await?;
        let what = format!("lease and settle {batch}, {callers} at once");
        self.print(&what, batch, &enqueued, &done, &before);
        Ok(())
    }

    /// Leases and settles until nothing is left.
    async fn work(&self, batch: usize) -> Result<()> {
        let queues = [(self.queue.clone(), u32::try_from(batch)?)];
        let ttl = Duration::from_secs(30);
        let ask = LeaseAsk::new(&self.tenant, &queues, ttl);
        loop {
            let leased = self.broker.lease(ask).await?;
            if leased.leases.is_empty() {
                return Ok(());
            }
            let settles: Vec<Settle> = leased.leases.iter().map(success).collect::<Result<_>>()?;
            self.broker.settle(&self.tenant, &settles).await?;
        }
    }

    fn job(&self, n: u128) -> Result<NewJob> {
        Ok(NewJob::new(
            JobId::from_parts(
                Timestamp::from_millis(1_700_000_000_000 + n as u64),
                n * 0x9e37_79b9_7f4a_7c15,
            ),
            self.queue.clone(),
            Kind::parse("image.thumbnail")?,
            vec![b'x'; self.payload],
        ))
    }

    async fn spent(&self) -> Result<Spent> {
        let client = redis::Client::open(self.server.url())?;
        let mut connection = client.get_multiplexed_async_connection().await?;
        let info: String = redis::cmd("INFO").arg("all").query_async(&mut connection).await?;
        let number = |name: &str| -> Result<f64> {
            let line = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            Ok(line.ok_or("INFO has no such line")?.trim().parse()?)
        };
        let calls = info.lines().filter(|line| line.starts_with("cmdstat_"));
        let calls =
            calls.filter_map(|line| line.split("calls=").nth(1)?.split(',').next()?.parse::<u64>().ok());
        let in_calls = info
            .lines()
            .filter(|line| line.starts_with("cmdstat_fcall:") || line.starts_with("cmdstat_evalsha:"))
            .filter_map(|line| line.split("usec=").nth(1)?.split(',').next()?.parse::<u64>().ok());
        let in_calls = Duration::from_micros(in_calls.sum());
        let seconds = number("used_cpu_user")? + number("used_cpu_sys")?;
        Ok(Spent {
            at: Instant::now(),
            processor: Duration::from_secs_f64(seconds),
            in_calls,
            commands: calls.sum(),
            memory: number("used_memory")? as u64,
        })
    }

    fn print(&self, what: &str, batch: usize, from: &Spent, to: &Spent, empty: &Spent) {
        let each = |n: f64| n / self.jobs as f64;
        println!(
            "{what:<34}{:>10.0}{:>12.2}{:>12.2}{:>12.2}{:>12.3}{:>12.0}",
            self.jobs as f64 / (to.at - from.at).as_secs_f64(),
            each((to.processor - from.processor).as_secs_f64() * 1e6),
            each((to.in_calls - from.in_calls).as_secs_f64() * 1e6),
            each((to.commands - from.commands) as f64),
            1.0 / batch as f64,
            each(to.memory as f64 - empty.memory as f64),
        );
    }
}

fn success(lease: &Lease) -> Result<Settle> {
    let usage = Usage {
        fuel: Fuel(12_345_678),
        memory_peak: Bytes::mib(2),
        wall: Duration::from_micros(3_456),
        cpu: Duration::from_micros(3_210),
        host_calls: 7,
    };
    let ran = Ran::new(
        DaemonId::from_parts(Timestamp::from_millis(1), 1),
        PluginName::parse("thumbnail")?,
        Revision::from_sha256([7; 32]),
        usage,
    );
    let settlement = Settlement::Succeed { output: br#"{"ok":true}"#.to_vec(), effects: Effects::default() };
    Ok(Settle::of_run(lease.token, ran, settlement))
}

/// Polls all until the last is done.
async fn join_all(tasks: impl Iterator<Item = impl Future<Output = Result<()>>>) -> Result<()> {
    let mut tasks: Vec<_> = tasks.map(Box::pin).map(Some).collect();
    std::future::poll_fn(|context| {
        for slot in &mut tasks {
            let Some(task) = slot else { continue };
            if let std::task::Poll::Ready(done) = task.as_mut().poll(context) {
                done?;
                *slot = None;
            }
        }
        if tasks.iter().all(Option::is_none) {
            std::task::Poll::Ready(Ok(()))
        } else {
            std::task::Poll::Pending
        }
    })
    .await
}
