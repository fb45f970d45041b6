//! 500 quick jobs that arrive 20 ms apart, on an idle machine and while a thousand jobs of another tenant spin for ever.

use std::time::Duration;

use comfy_table::{Table, presets};
use sandhog_tests::{Backend, Fsync, Site, hog_job, settled, tenant};

use crate::figures::Figures;
use crate::quick;

const SPINNERS: usize = 1000;
const JOBS: usize = 500;
const APART: Duration = Duration::from_millis(20);

/// Half of the seats is for whoever comes first, and the quick tenant's part is a quarter: room for all the spinners.
const DAEMON: &str =
    "concurrency = 1400\n\n[limits]\nfuel = 1_000_000_000_000_000\ntimeout = \"1h\"\nmemory = \"16MiB\"\n";
const SPINS: &str = "[limits]\nfuel = 1_000_000_000_000_000\ntimeout = \"1h\"\n";

/// The target: twice the p99 of an idle machine, and so much more.
const MORE: Duration = Duration::from_millis(5);

/// Measures, and prints a table.
pub(crate) fn run(_figures: &mut Figures) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let mut table = Table::new();
    let header = ["broker", "spinning", "p50", "p99", "max", "target of p99", "daemon's memory"];
    table.load_style(presets::UTF8_FULL_CONDENSED).set_header(header);
    for (name, backend) in
        [("Redis, fsync every second", Backend::Redis(Fsync::EverySecond)), ("embedded", Backend::Embedded)]
    {
        runtime.block_on(measure(name, backend, &mut table));
    }
    println!("{table}");
}

async fn measure(name: &str, backend: Backend, table: &mut Table) {
    let site = Site::new(backend, DAEMON).with_hog("greedy", SPINS).with_hog("quick", "");
    let (broker, greedy, quick) = (site.broker().await, tenant("greedy"), tenant("quick"));
    let daemon = site.daemon();
    // The first jobs of a daemon are slower: files are read, memory is fetched.
    quick::jobs(&*broker, &quick, 50, APART).await;
    let mut target = None;
    for spinners in [0, SPINNERS] {
        if spinners > 0 {
            let spins: Vec<_> = (0..spinners).map(|_| hog_job("hog.spin", "{}")).collect();
            for batch in spins.chunks(250) {
                broker.enqueue(&greedy, batch).await.expect("the broker is up");
            }
            settled(&*broker, &greedy, |counts| counts[2] == spinners as u64).await;
        }
        let times = quick::jobs(&*broker, &quick, JOBS, APART).await;
        let at = |share: f64| format!("{:?}", times.at(share));
        let met = |target: Duration| match times.at(0.99) < target {
            true => format!("under {target:?}: met"),
            false => format!("under {target:?}: MISSED"),
        };
        let shown = target.map_or_else(String::new, met);
        let memory = format!("{} MiB", daemon.resident() >> 20);
        table.add_row([name.to_owned(), spinners.to_string(), at(0.5), at(0.99), at(1.0), shown, memory]);
        target = Some(times.at(0.99) * 2 + MORE);
        if spinners > 0 {
            let counts = broker.counts(&greedy).await.expect("the broker is up");
            assert_eq!(counts[2], spinners as u64, "they all spin still");
        }
    }
}
