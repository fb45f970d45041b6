//! Case `idle`: cost of daemons that have nothing to do, in processor time and Redis commands. With one tenant, a hundred and
//! ten thousand, each of which has loops of its own; two daemons with a hundred, and ten with ten thousand. The Redis commands
//! have to be the same with any number of tenants.
//!
//! The daemons have worked before: each tenant has had some jobs. Commands are counted by Redis, those in scripts among
//! them, and Redis has no other clients meanwhile.

use std::time::{Duration, Instant};

use sandhog_tests::{Backend, Fsync, Site, all_final, hog_job, tenant};

use crate::figures::{Figures, median};
use crate::process::{Process, Used};
use crate::server::{Done, Server};

/// Numbers of tenants and of daemons.
const SIZES: [(usize, usize); 5] = [(1, 1), (100, 1), (100, 2), (10_000, 1), (10_000, 10)];
const ROUNDS: usize = 3;
/// Number of jobs of each tenant before the daemon is left alone.
const JOBS: usize = 10;
/// Time after which earlier activity is over: the last reports, the pulse of the guests, and the sweep at the time when the
/// last leases would have expired, one for each tenant.
const REST: Duration = Duration::from_secs(35);
/// Length of the measurement. The kernel counts processor time in hundredths of a second, so it is exact to 0.1 %.
const WATCH: Duration = Duration::from_secs(10);

/// Usage during the measurement.
struct Watched {
    seconds: f64,
    /// Usage of the first daemon.
    used: Used,
    /// Redis' work for the daemons, and for this program's one request for these counts.
    redis: Done,
}

/// Runs the case, and prints each figure as it comes.
pub(crate) fn run(figures: &mut Figures) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    for (tenants, daemons) in SIZES {
        let of_several = if daemons > 1 { format!("-daemons{daemons}") } else { String::new() };
        let case = format!("idle/tenants{tenants}{of_several}");
        let watches = runtime.block_on(watch(tenants, daemons));
        let mut add = |metric, value: &dyn Fn(&Watched) -> f64| {
            let values: Vec<f64> = watches.iter().map(value).collect();
            println!("{case:<26} {metric:<22} {:>7.2}", median(&values));
            figures.add(&case, "sandhog", metric, &values);
        };
        add("percent", &|watched| watched.used.processor.as_secs_f64() / watched.seconds * 100.0);
        add("context_switches_per_s", &|watched| watched.used.context_switches as f64 / watched.seconds);
        add("redis_calls_per_s", &|watched| watched.redis.scripts() as f64 / watched.seconds);
        add("redis_commands_per_s", &|watched| watched.redis.commands() as f64 / watched.seconds);
    }
}

async fn watch(tenants: usize, daemons: usize) -> Vec<Watched> {
    let names: Vec<String> = (0..tenants).map(|n| format!("tenant-{n}")).collect();
    let new = Site::new(Backend::Redis(Fsync::EverySecond), "concurrency = 200\n");
    let mut site = names.iter().fold(new, |site, name| site.with_hog(name, ""));
    let url = site.redis().url();
    let daemons: Vec<_> = (0..daemons).map(|_| site.daemon()).collect();
    let broker = site.broker().await;
    for name in &names {
        let jobs: Vec<_> = (0..JOBS).map(|n| hog_job("hog.echo", &n.to_string())).collect();
        broker.enqueue(&tenant(name), &jobs).await.expect("the broker is up");
        all_final(&*broker, &tenant(name)).await;
    }
    drop(broker);
    tokio::time::sleep(REST).await;
    let (process, mut server) = (Process(daemons[0].id()), Server::at(&url));
    let mut watches = Vec::new();
    for _ in 0..ROUNDS {
        let (at, used, done) = (Instant::now(), process.used(), server.done());
        tokio::time::sleep(WATCH).await;
        let (used, redis) = (process.used().since(used), server.done().since(&done));
        watches.push(Watched { seconds: at.elapsed().as_secs_f64(), used, redis });
    }
    watches
}
