//! Protocol of a peer program: lines of JSON, commands on standard input and answers on standard output. See
//! `../README.md`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader, stdin};
use tokio::task::JoinSet;

/// Maximum number of jobs added by one call.
pub const BATCH: usize = 1000;

/// A job system.
pub trait Peer {
    /// Name among the subjects.
    const SYSTEM: &str;
    /// Crate whose version is reported as that of the system.
    const CRATE: &str;

    /// Adds `jobs` jobs, and returns the time that it took.
    fn enqueue(&mut self, jobs: usize) -> impl Future<Output = Result<Duration>>;

    /// Starts a worker, calls [`working`], and returns the time until `jobs` jobs were settled.
    fn work(&mut self, jobs: usize, concurrency: usize) -> impl Future<Output = Result<Duration>>;

    /// Starts a worker, and meanwhile adds one job each `every`, each by a call of its own, whatever becomes of earlier ones.
    /// Returns once all of them are settled.
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

/// Times at which each job was added, started and settled, in nanoseconds since a common origin.
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

    /// Returns the number of jobs.
    #[must_use]
    pub fn jobs(&self) -> usize {
        self.added.len()
    }

    /// Records that job `n` is about to be added.
    pub fn adds(&self, n: usize) {
        self.note(&self.added[n]);
    }

    /// Records that the handler of job `n` begins.
    pub fn started(&self, n: usize) {
        self.note(&self.started[n]);
    }

    /// Records that Redis has acknowledged the end of job `n`.
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

/// Begins one of `count` futures each `every`, within the resolution of timers; returns once all of them are done.
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

/// Returns the server's URL and the queue's name from the command line.
///
/// # Errors
/// If they are missing.
pub fn place() -> Result<(String, String)> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.as_slice() {
        [url_flag, url, queue_flag, queue] if url_flag == "--url" && queue_flag == "--queue" => {
            Ok((url.clone(), queue.clone()))
        }
        _ => bail!("usage: --url redis://HOST:PORT --queue NAME"),
    }
}

/// Announces the system, then executes one command after the other.
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

/// Announces that the worker is connected and begins.
pub fn working() {
    say(&json!({ "working": true }));
}

fn say(line: &Value) {
    println!("{line}");
}

/// Returns the version of a crate that was built, from the lock file.
fn version(of: &str) -> Result<&'static str> {
    let lock = include_str!("../Cargo.lock");
    let at = lock.split_once(&format!("name = \"{of}\"\nversion = \"")).map(|(_, rest)| rest);
    at.and_then(|rest| rest.split_once('"')).map(|(version, _)| version).context("it is in the lock file")
}
