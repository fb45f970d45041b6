//! What a peer program says and is told: a line of JSON each, on standard output and input. See `../README.md`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader, stdin};
use tokio::task::JoinSet;

/// So many jobs are added by one call.
pub const BATCH: usize = 1000;

/// A job system.
pub trait Peer {
    /// Its name among the subjects.
    const SYSTEM: &str;
    /// The crate whose version counts.
    const CRATE: &str;

    /// Adds so many jobs, and returns how long that took.
    fn enqueue(&mut self, jobs: usize) -> impl Future<Output = Result<Duration>>;

    /// Starts a worker, calls [`working`], and returns how long it took until so many jobs were settled.
    fn work(&mut self, jobs: usize, concurrency: usize) -> impl Future<Output = Result<Duration>>;

    /// Starts a worker, and adds one job each `every` meanwhile, whatever becomes of those before it; each by a call of
    /// its own. Returns once all of them are settled.
    fn latency(
        &mut self,
        every: Duration,
        concurrency: usize,
        times: Arc<Latency>,
    ) -> impl Future<Output = Result<()>>;
}

#[derive(Debug, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
enum Command {
    Enqueue { jobs: usize },
    Work { jobs: usize, concurrency: usize },
    Latency { jobs: usize, every_us: f64, concurrency: usize },
    Quit,
}

/// When something was done with each of some jobs, in nanoseconds since the first moment that counts.
#[derive(Debug)]
pub struct Latency {
    origin: Instant,
    added: Vec<AtomicU64>,
    started: Vec<AtomicU64>,
    settled: Vec<AtomicU64>,
}

impl Latency {
    fn new(jobs: usize) -> Self {
        let times = || (0..jobs).map(|_| AtomicU64::new(0)).collect();
        Self { origin: Instant::now(), added: times(), started: times(), settled: times() }
    }

    /// How many jobs there are.
    #[must_use]
    pub fn jobs(&self) -> usize {
        self.added.len()
    }

    /// One is about to be added.
    pub fn adds(&self, n: usize) {
        self.note(&self.added[n]);
    }

    /// A handler begins.
    pub fn started(&self, n: usize) {
        self.note(&self.started[n]);
    }

    /// Redis has acknowledged the end of one.
    pub fn settled(&self, n: usize) {
        self.note(&self.settled[n]);
    }

    fn note(&self, time: &AtomicU64) {
        time.store(self.origin.elapsed().as_nanos() as u64, Ordering::Relaxed);
    }

    fn answer(&self) -> Value {
        let since = |times: &[AtomicU64]| -> Vec<u64> {
            let took = |(time, added): (&AtomicU64, &AtomicU64)| {
                time.load(Ordering::Relaxed).saturating_sub(added.load(Ordering::Relaxed)) / 1000
            };
            times.iter().zip(&self.added).map(took).collect()
        };
        json!({ "start_us": since(&self.started), "settled_us": since(&self.settled) })
    }
}

/// Begins one of so many things each `every`, as fine as timers are; returns once all of them are done.
///
/// # Errors
/// If one fails.
pub async fn every_so_often<F>(count: usize, every: Duration, mut begin: impl FnMut(usize) -> F) -> Result<()>
where
    F: Future<Output = Result<()>> + Send + 'static,
{
    let mut due = tokio::time::Instant::now();
    let mut under_way = JoinSet::new();
    for n in 0..count {
        tokio::time::sleep_until(due).await;
        due += every;
        under_way.spawn(begin(n));
    }
    under_way.join_all().await.into_iter().collect()
}

/// The server and the queue that the command line names.
///
/// # Errors
/// If it doesn't.
pub fn place() -> Result<(String, String)> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.as_slice() {
        [url_flag, url, queue_flag, queue] if url_flag == "--url" && queue_flag == "--queue" => {
            Ok((url.clone(), queue.clone()))
        }
        _ => bail!("usage: --url redis://HOST:PORT --queue NAME"),
    }
}

/// Says who this is, then does one command after the other.
///
/// # Errors
/// If one fails.
pub async fn serve<P: Peer>(mut peer: P) -> Result<()> {
    say(&json!({ "ready": true, "system": P::SYSTEM, "version": version(P::CRATE)? }));
    let mut lines = BufReader::new(stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        let seconds = |took: Duration| json!({ "seconds": took.as_secs_f64() });
        let answer = match serde_json::from_str(&line)? {
            Command::Enqueue { jobs } => seconds(peer.enqueue(jobs).await?),
            Command::Work { jobs, concurrency } => seconds(peer.work(jobs, concurrency).await?),
            Command::Latency { jobs, every_us, concurrency } => {
                let times = Arc::new(Latency::new(jobs));
                let every = Duration::from_secs_f64(every_us / 1e6);
                peer.latency(every, concurrency, Arc::clone(&times)).await?;
                times.answer()
            }
            Command::Quit => break,
        };
        say(&answer);
    }
    Ok(())
}

/// Says that the worker is connected and begins.
pub fn working() {
    say(&json!({ "working": true }));
}

fn say(line: &Value) {
    println!("{line}");
}

/// The version that was built, by the lock file.
fn version(of: &str) -> Result<&'static str> {
    let lock = include_str!("../Cargo.lock");
    let at = lock.split_once(&format!("name = \"{of}\"\nversion = \"")).map(|(_, rest)| rest);
    at.and_then(|rest| rest.split_once('"')).map(|(version, _)| version).context("it is in the lock file")
}
