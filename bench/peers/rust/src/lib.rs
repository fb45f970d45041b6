//! What a peer program says and is told: a line of JSON each, on standard output and input. See `../README.md`.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader, stdin};

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
}

#[derive(Debug, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
enum Command {
    Enqueue { jobs: usize },
    Work { jobs: usize, concurrency: usize },
    Quit,
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
        let took = match serde_json::from_str(&line)? {
            Command::Enqueue { jobs } => peer.enqueue(jobs).await?,
            Command::Work { jobs, concurrency } => peer.work(jobs, concurrency).await?,
            Command::Quit => break,
        };
        say(&json!({ "seconds": took.as_secs_f64() }));
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
