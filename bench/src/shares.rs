//! Case `shares`: two tenants of weight 1 and 3, each with endless work for the processors: ratio of their fuel in 5 s.
//!
//! Every job is ended by its timeout, and its record says how much fuel it has used by then.

use sandhog_broker::Broker;
use sandhog_core::id::TenantId;
use sandhog_core::job::NewJob;
use sandhog_core::reason::Reason;
use sandhog_tests::{Backend, Fsync, Site, finished, hog_job, tenant};

use crate::figures::Figures;
use crate::rounds::in_turns;

const ROUNDS: usize = 3;
/// Numbers of runs of the light tenant and of the heavy one: equal, far more of the light one, far more of the heavy one.
const RUNS: [[usize; 2]; 3] = [[4, 4], [40, 4], [4, 40]];
/// Ratio of the heavy tenant's weight to the light one's.
const WEIGHTS: f64 = 3.0;
const DAEMON: &str =
    "[limits]\nfuel = 1_000_000_000_000_000\n\n[tenants.light]\nweight = 1\n\n[tenants.heavy]\nweight = 3\n";
const FOR_A_WHILE: &str =
    "[limits]\nfuel = 1_000_000_000_000_000\ntimeout = \"5s\"\n\n[retry]\nmax_attempts = 1\n";

/// Runs the case.
pub(crate) fn run(figures: &mut Figures) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let ratios = in_turns(ROUNDS, &RUNS, |runs| runtime.block_on(measure(*runs)));
    for ([light, heavy], ratios) in RUNS.iter().zip(&ratios) {
        let case = format!("shares/{light}-to-{heavy}");
        let off: Vec<f64> = ratios.iter().map(|ratio| (ratio / WEIGHTS - 1.0).abs() * 100.0).collect();
        figures.add(&case, "sandhog", "ratio", ratios);
        figures.add(&case, "sandhog", "off_percent", &off);
    }
}

/// Returns the ratio of the heavy tenant's fuel to the light one's.
async fn measure(runs: [usize; 2]) -> f64 {
    let site = Site::new(Backend::Redis(Fsync::EverySecond), DAEMON)
        .with_hog("light", FOR_A_WHILE)
        .with_hog("heavy", FOR_A_WHILE);
    let broker = site.broker().await;
    let _daemon = site.daemon();
    let of = |name: &str, count: usize| {
        let jobs: Vec<NewJob> = (0..count).map(|_| hog_job("hog.spin", "{}")).collect();
        (tenant(name), jobs)
    };
    let both = [of("light", runs[0]), of("heavy", runs[1])];
    for (tenant, jobs) in &both {
        broker.enqueue(tenant, jobs).await.expect("the broker is up");
    }
    let mut fuel = [0; 2];
    for (fuel, (tenant, jobs)) in fuel.iter_mut().zip(&both) {
        *fuel = fuel_of(&*broker, tenant, jobs).await;
    }
    fuel[1] as f64 / fuel[0] as f64
}

async fn fuel_of(broker: &dyn Broker, tenant: &TenantId, jobs: &[NewJob]) -> u64 {
    let mut fuel = 0;
    for job in jobs {
        let record = finished(broker, tenant, job.id).await;
        assert_eq!(record.reason, Some(Reason::TimedOut), "{:?}", record.message);
        fuel += record.usage.fuel.0;
    }
    fuel
}
