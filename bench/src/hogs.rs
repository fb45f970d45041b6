//! 200 quick jobs that arrive 20 ms apart, idle and while 8 handlers of another tenant spin for ever.

use std::time::Duration;

use comfy_table::{Table, presets};
use sandhog_tests::{Backend, Fsync, Site, hog_job, settled, tenant};

use crate::figures::Figures;
use crate::quick;

const BROKERS: [(&str, Backend); 2] =
    [("Redis, fsync every second", Backend::Redis(Fsync::EverySecond)), ("embedded", Backend::Embedded)];
const JOBS: usize = 200;
const APART: Duration = Duration::from_millis(20);
const HOGS: usize = 8;
const ENDLESS: &str = "[limits]\nfuel = 1_000_000_000_000_000\ntimeout = \"1h\"\n";

/// Measures, and prints a table.
pub(crate) fn run(_figures: &mut Figures) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED).set_header(["broker", "hogs", "p50", "p99", "max"]);
    for (name, backend) in BROKERS {
        runtime.block_on(measure(name, backend, &mut table));
    }
    println!("{table}");
}

async fn measure(name: &str, backend: Backend, table: &mut Table) {
    let site = Site::new(backend, ENDLESS).with_hog("greedy", ENDLESS).with_hog("quick", "");
    let (broker, greedy, quick) = (site.broker().await, tenant("greedy"), tenant("quick"));
    let _daemon = site.daemon();
    for hogs in [0, HOGS] {
        let spins: Vec<_> = (0..hogs).map(|_| hog_job("hog.spin", "{}")).collect();
        if hogs > 0 {
            broker.enqueue(&greedy, &spins).await.expect("the broker is up");
            settled(&*broker, &greedy, |counts| counts[2] == hogs as u64).await;
        }
        let times = quick::jobs(&*broker, &quick, JOBS, APART).await;
        let at = |share: f64| format!("{:?}", times.at(share));
        table.add_row([name.to_owned(), hogs.to_string(), at(0.5), at(0.99), at(1.0)]);
    }
}
