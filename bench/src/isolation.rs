//! 200 quick jobs that arrive 20 ms apart, idle and while 8 hogs of somebody else use the processors.
//!
//! Sandhog's hogs spin for ever, and so do those in BullMQ's child processes, as far as this sees: longer than it looks. In
//! BullMQ's own process one that spins for ever would let nothing else be done ever again, so each of those spins for
//! 3 s. Times are from the enqueue to the settlement, as each system's own records have them, to the millisecond.

use sandhog_core::job::State;
use std::time::Duration;

use sandhog_tests::{Backend, Fsync, Redis, Site, hog_job, settled, tenant};
use serde::Deserialize;
use serde_json::json;

use crate::figures::{Figures, median};
use crate::peers::Peer;
use crate::quick;
use crate::rounds::in_turns;
use crate::times::Times;

const ROUNDS: usize = 3;
const JOBS: usize = 200;
const APART: Duration = Duration::from_millis(20);
const HOGS: [usize; 2] = [0, 8];
const ENDLESS: &str = "[limits]\nfuel = 1_000_000_000_000_000\ntimeout = \"1h\"\n";
/// As many as Sandhog's, by default.
const CONCURRENCY: usize = 64;
/// How long a hog of BullMQ spins in the worker's process.
const SPIN: Duration = Duration::from_secs(3);
/// How long it does in a child: longer than this looks.
const SPIN_ON: Duration = Duration::from_secs(20);
/// Whoever waits longer than this for a quick job has noticed.
const SOON: Duration = Duration::from_secs(1);

/// Who has the quick jobs done.
#[derive(Debug, Clone, Copy)]
enum Subject {
    Sandhog(Backend),
    BullMq(Processors),
}

/// Where BullMQ's processors run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Processors {
    InWorker,
    InChildren,
}

const SUBJECTS: [(&str, Subject); 4] = [
    ("sandhog", Subject::Sandhog(Backend::Redis(Fsync::EverySecond))),
    ("sandhog-embedded", Subject::Sandhog(Backend::Embedded)),
    ("bullmq", Subject::BullMq(Processors::InWorker)),
    ("bullmq-sandboxed", Subject::BullMq(Processors::InChildren)),
];

/// What BullMQ's producer has to say.
#[derive(Deserialize)]
struct Neighbours {
    took_ms: Vec<u64>,
    run_twice: usize,
}

/// What became of the quick jobs.
struct Quick {
    times: Times,
    /// How many of them were run more than once.
    run_twice: usize,
}

/// Measures, and prints each figure as it comes.
pub(crate) fn run(figures: &mut Figures) {
    let wanted: Vec<_> = SUBJECTS.into_iter().filter(|(name, _)| figures.wants(name)).collect();
    let measured = in_turns(ROUNDS, &wanted, |(_, subject)| subject.measure());
    for ((name, _), rounds) in wanted.iter().zip(&measured) {
        for (n, hogs) in HOGS.iter().enumerate() {
            let case = format!("isolation/hogs{hogs}");
            let mut add = |metric, value: &dyn Fn(&Quick) -> f64| {
                let values: Vec<f64> = rounds.iter().map(|round| value(&round[n])).collect();
                println!("{case:<20} {name:<16} {metric:<18} {:>9.1}", median(&values));
                figures.add(&case, name, metric, &values);
            };
            add("p50_ms", &|quick| quick.times.ms(0.5));
            add("p99_ms", &|quick| quick.times.ms(0.99));
            add("max_ms", &|quick| quick.times.ms(1.0));
            add("within_1s_percent", &|quick| quick.times.within(SOON) * 100.0);
            add("run_twice", &|quick| quick.run_twice as f64);
        }
    }
}

impl Subject {
    /// Once for each number of hogs.
    fn measure(self) -> Vec<Quick> {
        match self {
            Self::Sandhog(backend) => {
                let runtime = tokio::runtime::Runtime::new().expect("a runtime");
                runtime.block_on(of_sandhog(backend))
            }
            Self::BullMq(processors) => of_bullmq(processors),
        }
    }
}

async fn of_sandhog(backend: Backend) -> Vec<Quick> {
    let site = Site::new(backend, ENDLESS).with_hog("greedy", ENDLESS).with_hog("quick", "");
    let (broker, greedy, quick) = (site.broker().await, tenant("greedy"), tenant("quick"));
    let _daemon = site.daemon();
    let mut measured = Vec::new();
    for hogs in HOGS {
        let spins: Vec<_> = (0..hogs).map(|_| hog_job("hog.spin", "{}")).collect();
        if hogs > 0 {
            broker.enqueue(&greedy, &spins).await.expect("the broker is up");
            settled(&*broker, &greedy, |counts| counts[State::Leased] == hogs as u64).await;
        }
        let records = quick::records(&*broker, &quick, JOBS, APART).await;
        let run_twice = records.iter().filter(|record| record.lease.0 > 1).count();
        measured.push(Quick { times: quick::times(&records), run_twice });
    }
    measured
}

/// The producer is a process of its own: one in the worker's would be kept from adding.
fn of_bullmq(processors: Processors) -> Vec<Quick> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let server = Redis::start(folder.path(), Fsync::EverySecond);
    let (mut worker, mut producer) =
        (Peer::start("bullmq", &server.url(), "quick"), Peer::start("bullmq", &server.url(), "quick"));
    let sandboxed = processors == Processors::InChildren;
    worker.ask(&json!({ "do": "attend", "concurrency": CONCURRENCY, "sandboxed": sandboxed }));
    let spin = match processors {
        Processors::InWorker => SPIN,
        Processors::InChildren => SPIN_ON,
    };
    let measure = |hogs: &usize| {
        let ask = json!({
            "do": "neighbours", "hogs": hogs, "spin_ms": spin.as_millis(),
            "jobs": JOBS, "every_us": APART.as_micros(),
        });
        let answer: Neighbours = serde_json::from_value(producer.ask(&ask)).expect("the peer's answer");
        let times = answer.took_ms.into_iter().map(Duration::from_millis).collect();
        Quick { times: Times::of(times), run_twice: answer.run_twice }
    };
    HOGS.iter().map(measure).collect()
}
