//! Case `spinners`: 250 quick jobs that arrive 20 ms apart, on an idle machine and while a thousand jobs of another tenant
//! spin for ever.

use sandhog_core::job::State;
use std::time::Duration;

use sandhog_tests::{Backend, Fsync, Site, hog_job, settled, tenant};

use crate::figures::Figures;
use crate::quick;
use crate::rounds::in_turns;
use crate::times::Times;

const ROUNDS: usize = 3;
const SPINNERS: usize = 1000;
const JOBS: usize = 250;
const APART: Duration = Duration::from_millis(20);

/// Settings of the daemon. Half of the slots go to the first to come, and a quarter is set aside for the quick tenant: room
/// for all the spinners.
const DAEMON: &str =
    "concurrency = 1400\n\n[limits]\nfuel = 1_000_000_000_000_000\ntimeout = \"1h\"\nmemory = \"16MiB\"\n";
const SPINS: &str = "[limits]\nfuel = 1_000_000_000_000_000\ntimeout = \"1h\"\n";

const BROKERS: [(&str, Backend); 2] =
    [("sandhog", Backend::Redis(Fsync::EverySecond)), ("sandhog-embedded", Backend::Embedded)];

/// Measurements of one round.
struct Round {
    alone: Times,
    beside: Times,
    /// Resident memory of the daemon while all spinners run, in bytes.
    resident: u64,
}

/// Runs the case.
pub(crate) fn run(figures: &mut Figures) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let measured = in_turns(ROUNDS, &BROKERS, |(_, backend)| runtime.block_on(measure(*backend)));
    for ((subject, _), rounds) in BROKERS.iter().zip(&measured) {
        for (share, metric) in [(0.5, "p50_ms"), (0.99, "p99_ms"), (1.0, "max_ms")] {
            let of = |times: fn(&Round) -> &Times| -> Vec<f64> {
                rounds.iter().map(|round| times(round).ms(share)).collect()
            };
            figures.add("spinners/alone", subject, metric, &of(|round| &round.alone));
            figures.add("spinners/beside-1000", subject, metric, &of(|round| &round.beside));
        }
        let past = |round: &Round| round.beside.ms(0.99) - 2.0 * round.alone.ms(0.99);
        let past: Vec<f64> = rounds.iter().map(past).collect();
        figures.add("spinners/beside-1000", subject, "p99_past_twice_alone_ms", &past);
        let resident: Vec<f64> = rounds.iter().map(|round| (round.resident >> 20) as f64).collect();
        figures.add("spinners/beside-1000", subject, "resident_mib", &resident);
    }
}

async fn measure(backend: Backend) -> Round {
    let site = Site::new(backend, DAEMON).with_hog("greedy", SPINS).with_hog("quick", "");
    let (broker, greedy, quick) = (site.broker().await, tenant("greedy"), tenant("quick"));
    let daemon = site.daemon();
    // The first jobs of a daemon are slower: files are read, memory is mapped.
    quick::jobs(&*broker, &quick, 50, APART).await;
    let alone = quick::jobs(&*broker, &quick, JOBS, APART).await;
    let spins: Vec<_> = (0..SPINNERS).map(|_| hog_job("hog.spin", "{}")).collect();
    for batch in spins.chunks(250) {
        broker.enqueue(&greedy, batch).await.expect("the broker is up");
    }
    settled(&*broker, &greedy, |counts| counts[State::Leased] == SPINNERS as u64).await;
    let beside = quick::jobs(&*broker, &quick, JOBS, APART).await;
    let counts = broker.counts(&greedy).await.expect("the broker is up");
    assert_eq!(counts[State::Leased], SPINNERS as u64, "they all spin still");
    Round { alone, beside, resident: daemon.resident() }
}
