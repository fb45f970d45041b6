//! What a daemon costs that has nothing to do: processor time, and what it asks of Redis. With one tenant, and with a
//! hundred, each of which has loops of its own.
//!
//! It has worked before: each tenant has had some jobs. Commands are counted by Redis, those in scripts among them, and
//! nobody else asks it for anything meanwhile.

use std::time::{Duration, Instant};

use redis::Client;
use sandhog_tests::{Backend, Daemon, Fsync, Site, all_final, hog_job, tenant};

use crate::figures::Figures;

const TENANTS: [usize; 2] = [1, 100];
const ROUNDS: usize = 3;
/// Each tenant's, before the daemon is left alone.
const JOBS: usize = 10;
/// What was begun is over by then: the last reports, the pulse of the guests.
const REST: Duration = Duration::from_secs(2);
/// The kernel counts processor time in hundredths of a second: this is fine to a twentieth of a percent.
const WATCH: Duration = Duration::from_secs(20);

/// What somebody has done up to now.
struct Spent {
    at: Instant,
    processor: Duration,
    wakeups: u64,
    commands: u64,
}

/// Measures.
pub(crate) fn run(figures: &mut Figures) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    for tenants in TENANTS {
        let case = format!("idle/tenants{tenants}");
        let watches = runtime.block_on(watch(tenants));
        let per_second = |what: &dyn Fn(&Spent) -> f64| -> Vec<f64> {
            let rate =
                |pair: &[Spent]| (what(&pair[1]) - what(&pair[0])) / (pair[1].at - pair[0].at).as_secs_f64();
            watches.windows(2).map(rate).collect()
        };
        figures.add(&case, "sandhog", "percent", &per_second(&|spent| spent.processor.as_secs_f64() * 100.0));
        figures.add(&case, "sandhog", "wakeups_per_s", &per_second(&|spent| spent.wakeups as f64));
        figures.add(&case, "sandhog", "redis_commands_per_s", &per_second(&|spent| spent.commands as f64));
    }
}

/// What had been done before and after each of the rounds.
async fn watch(tenants: usize) -> Vec<Spent> {
    let names: Vec<String> = (0..tenants).map(|n| format!("tenant-{n}")).collect();
    let new = Site::new(Backend::Redis(Fsync::EverySecond), "concurrency = 200\n");
    let mut site = names.iter().fold(new, |site, name| site.with_hog(name, ""));
    let url = site.redis().url();
    let daemon = site.daemon();
    let broker = site.broker().await;
    for name in &names {
        let jobs: Vec<_> = (0..JOBS).map(|n| hog_job("hog.echo", &n.to_string())).collect();
        broker.enqueue(&tenant(name), &jobs).await.expect("the broker is up");
        all_final(&*broker, &tenant(name)).await;
    }
    drop(broker);
    tokio::time::sleep(REST).await;
    let mut watches = vec![spent(&daemon, &url).await];
    for _ in 0..ROUNDS {
        tokio::time::sleep(WATCH).await;
        watches.push(spent(&daemon, &url).await);
    }
    watches
}

async fn spent(daemon: &Daemon, url: &str) -> Spent {
    let (at, processor, wakeups) = (Instant::now(), daemon.cpu(), daemon.wakeups());
    let client = Client::open(url).expect("a right URL");
    let mut connection = client.get_multiplexed_async_connection().await.expect("Redis is up");
    let stats: String = redis::cmd("INFO")
        .arg("commandstats")
        .query_async(&mut connection)
        .await
        .expect("Redis counts what it does");
    Spent { at, processor, wakeups, commands: stats.lines().filter_map(calls_of_others).sum() }
}

/// How often a command was called, if it is none of those that are needed to count them.
fn calls_of_others(line: &str) -> Option<u64> {
    let (command, stats) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
    let is_ours = command == "info" || command.starts_with("client|");
    stats.split(',').next()?.parse().ok().filter(|_| !is_ours)
}
