//! What a daemon costs that has nothing to do: processor time, and what it asks of Redis. With one tenant, and with a
//! hundred, each of which has loops of its own.
//!
//! It has worked before: each tenant has had some jobs. Commands are counted by Redis, those in scripts among them, and
//! nobody else asks it for anything meanwhile.

use std::time::{Duration, Instant};

use sandhog_tests::{Backend, Fsync, Site, all_final, hog_job, tenant};

use crate::figures::{Figures, median};
use crate::process::{Process, Used};
use crate::server::{Done, Server};

const TENANTS: [usize; 2] = [1, 100];
const ROUNDS: usize = 3;
/// Each tenant's, before the daemon is left alone.
const JOBS: usize = 10;
/// What was begun is over by then: the last reports, the pulse of the guests.
const REST: Duration = Duration::from_secs(2);
/// The kernel counts processor time in hundredths of a second: this is fine to a tenth of a percent.
const WATCH: Duration = Duration::from_secs(10);

/// What was used in a while.
struct Watched {
    seconds: f64,
    /// By the daemon.
    used: Used,
    /// By whoever asks Redis: the daemon, and once this program, for what it has done.
    redis: Done,
}

/// Measures, and prints each figure as it comes.
pub(crate) fn run(figures: &mut Figures) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    for tenants in TENANTS {
        let case = format!("idle/tenants{tenants}");
        let watches = runtime.block_on(watch(tenants));
        let mut add = |metric, value: &dyn Fn(&Watched) -> f64| {
            let values: Vec<f64> = watches.iter().map(value).collect();
            println!("{case:<16} {metric:<22} {:>7.2}", median(&values));
            figures.add(&case, "sandhog", metric, &values);
        };
        add("percent", &|watched| watched.used.processor.as_secs_f64() / watched.seconds * 100.0);
        add("context_switches_per_s", &|watched| watched.used.context_switches as f64 / watched.seconds);
        add("redis_calls_per_s", &|watched| watched.redis.scripts() as f64 / watched.seconds);
        add("redis_commands_per_s", &|watched| watched.redis.commands() as f64 / watched.seconds);
    }
}

async fn watch(tenants: usize) -> Vec<Watched> {
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
    let (process, mut server) = (Process(daemon.id()), Server::at(&url));
    let mut watches = Vec::new();
    for _ in 0..ROUNDS {
        let (at, used, done) = (Instant::now(), process.used(), server.done());
        tokio::time::sleep(WATCH).await;
        let (used, redis) = (process.used().since(used), server.done().since(&done));
        watches.push(Watched { seconds: at.elapsed().as_secs_f64(), used, redis });
    }
    watches
}
