//! Case `isolation`: 200 quick jobs that arrive 20 ms apart, on an idle machine and while 8 hogs of another tenant use the
//! processors; and 100 that arrive 10 ms apart, beside 8 hogs of each other kind, which keep the host busy.
//!
//! Sandhog's hogs spin for ever; those in BullMQ's child processes spin for longer than the measurement takes. In BullMQ's
//! own process a hog that spins for ever would block everything else for ever, so each of those spins for 3 s. Times are
//! from the enqueue to the settlement, by each system's own records, to the millisecond.
//!
//! Hogs of the other kinds are measured only with Sandhog, each with a daemon of its own, so that none affects the next.

use std::fs;
use std::time::Duration;

use sandhog_core::job::{JobRecord, NewJob, State};
use sandhog_tests::{Backend, BackgroundWeb, Fsync, Redis, Reply, Site, hog_job, settled, tenant};
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
/// Limits high enough that hogs end only with what they wait for.
const ENDLESS_CALLS: &str = "[limits]\nfuel = 1_000_000_000_000_000\ntimeout = \"1h\"\nhost_calls = 1_000_000_000\nhttp_bytes = \"1000GiB\"\n";
/// Maximum number of jobs enqueued by one call.
const BATCH: usize = 1000;
/// Concurrency of BullMQ's worker: the default of Sandhog.
const CONCURRENCY: usize = 64;
/// Time for which a hog of BullMQ spins in the worker's process.
const SPIN: Duration = Duration::from_secs(3);
/// Time for which a hog of BullMQ spins in a child process: longer than the measurement takes.
const SPIN_ON: Duration = Duration::from_secs(20);
/// Time within which a quick job has to be settled for a delay not to be noticed.
const SOON: Duration = Duration::from_secs(1);

/// Number of quick jobs beside hogs of each other kind.
const JOBS_BESIDE: usize = 100;
const APART_BESIDE: Duration = Duration::from_millis(10);
/// Number of rounds beside hogs of each other kind: fewer, as they aren't compared with other systems.
const ROUNDS_BESIDE: usize = 2;
/// Number of jobs that aren't counted, as the first jobs of a daemon are slower.
const WARM_UP: usize = 20;
/// Number of hogs under way at once.
const AT_ONCE: u64 = 8;

/// System that runs the quick jobs.
#[derive(Debug, Clone, Copy)]
enum Subject {
    Sandhog(Backend),
    BullMq(Processors),
}

/// Process in which BullMQ's processors run.
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

/// Hogs of a kind other than computing.
#[derive(Debug, Clone, Copy)]
struct Hogs {
    /// Name of the case.
    name: &'static str,
    kind: &'static str,
    /// Payload of their jobs; `PORT` stands for the port of a server.
    payload: &'static str,
    /// TOML of their grants; `PORT` likewise.
    grants: &'static str,
    /// Number of hogs: as many as are under way at once, if they go on for ever.
    count: u64,
    /// Whether a broker takes part, so that this is measured with each broker.
    is_of_broker: bool,
}

const FOLDER: &str =
    r#"dirs = [{ host = "../granted", guest = "/data", access = "read-write", quota = "64MiB" }]"#;
const SERVER: &str = r#"http = [{ to = "127.0.0.1:PORT", private = ["127.0.0.0/8"] }]"#;

const KINDS: [Hogs; 7] = [
    // A directory of two thousand files.
    Hogs {
        name: "files",
        kind: "hog.list",
        payload: r#"{"path": "/data"}"#,
        grants: FOLDER,
        ..Hogs::ENDLESS
    },
    Hogs {
        name: "opens",
        kind: "hog.open",
        payload: r#"{"path": "/data/0", "times": 50, "again": true}"#,
        grants: FOLDER,
        ..Hogs::ENDLESS
    },
    Hogs {
        name: "http-requests",
        kind: "hog.exchange",
        payload: r#"{"url": "http://127.0.0.1:PORT/", "times": 1000000000}"#,
        grants: SERVER,
        ..Hogs::ENDLESS
    },
    // Requests with a body never share one.
    Hogs {
        name: "http-connections",
        kind: "hog.exchange",
        payload: r#"{"url": "http://127.0.0.1:PORT/", "method": "POST", "send": 1, "times": 1000000000}"#,
        grants: SERVER,
        ..Hogs::ENDLESS
    },
    Hogs {
        name: "names",
        kind: "hog.exchange",
        payload: r#"{"url": "http://x.nowhere.invalid/", "times": 1000000000, "heedless": true}"#,
        grants: r#"http = ["*.nowhere.invalid:80"]"#,
        ..Hogs::ENDLESS
    },
    // The key never exists, so nothing is written.
    Hogs {
        name: "state",
        kind: "hog.swap",
        payload: r#"{"key": "k", "expected": 1, "value": 2, "times": 1000000000000}"#,
        is_of_broker: true,
        ..Hogs::ENDLESS
    },
    // Each ends once it has logged sixteen times too much, and the next one begins.
    Hogs { name: "log", kind: "hog.log", payload: "{}", count: 5000, is_of_broker: true, ..Hogs::ENDLESS },
];

impl Hogs {
    const ENDLESS: Self =
        Self { name: "", kind: "", payload: "", grants: "", count: AT_ONCE, is_of_broker: false };
}

/// Answer of BullMQ's producer.
#[derive(Deserialize)]
struct Neighbours {
    took_ms: Vec<u64>,
    run_twice: usize,
}

/// Results of the quick jobs.
struct Quick {
    times: Times,
    /// Number of quick jobs that were run more than once.
    run_twice: usize,
}

/// Runs the case, and prints each figure as it comes.
pub(crate) fn run(figures: &mut Figures) {
    let wanted: Vec<_> = SUBJECTS.into_iter().filter(|(name, _)| figures.wants(name)).collect();
    let measured = in_turns(ROUNDS, &wanted, |(_, subject)| subject.measure());
    for ((name, _), rounds) in wanted.iter().zip(&measured) {
        for (n, hogs) in HOGS.iter().enumerate() {
            let rounds: Vec<&Quick> = rounds.iter().map(|round| &round[n]).collect();
            report(figures, &format!("isolation/hogs{hogs}"), name, &rounds);
        }
    }
    let of_kinds: Vec<_> =
        wanted.iter().filter_map(|(name, subject)| Some((*name, subject.backend()?))).collect();
    let of_kinds: Vec<(&str, Backend, Hogs)> = KINDS
        .iter()
        .flat_map(|hogs| of_kinds.iter().map(move |(name, backend)| (*name, *backend, *hogs)))
        .filter(|(_, backend, hogs)| hogs.is_of_broker || *backend != Backend::Embedded)
        .collect();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let measured =
        in_turns(ROUNDS_BESIDE, &of_kinds, |(_, backend, hogs)| runtime.block_on(beside(*backend, hogs)));
    for ((name, _, hogs), rounds) in of_kinds.iter().zip(&measured) {
        let rounds: Vec<&Quick> = rounds.iter().collect();
        report(figures, &format!("isolation/{}", hogs.name), name, &rounds);
    }
}

fn report(figures: &mut Figures, case: &str, name: &str, rounds: &[&Quick]) {
    let mut add = |metric, value: &dyn Fn(&Quick) -> f64| {
        let values: Vec<f64> = rounds.iter().map(|quick| value(quick)).collect();
        println!("{case:<28} {name:<16} {metric:<18} {:>9.1}", median(&values));
        figures.add(case, name, metric, &values);
    };
    add("p50_ms", &|quick| quick.times.ms(0.5));
    add("p99_ms", &|quick| quick.times.ms(0.99));
    add("max_ms", &|quick| quick.times.ms(1.0));
    add("within_1s_percent", &|quick| quick.times.within(SOON) * 100.0);
    add("run_twice", &|quick| quick.run_twice as f64);
}

impl Subject {
    /// Returns Sandhog's broker, or `None` for another system.
    fn backend(self) -> Option<Backend> {
        match self {
            Self::Sandhog(backend) => Some(backend),
            Self::BullMq(_) => None,
        }
    }

    /// Measures once for each number of hogs.
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
        measured.push(Quick::of(&quick::records(&*broker, &quick, JOBS, APART).await));
    }
    measured
}

impl Quick {
    fn of(records: &[JobRecord]) -> Self {
        let run_twice = records.iter().filter(|record| record.lease.0 > 1).count();
        Self { times: quick::times(records), run_twice }
    }
}

/// Measures the quick jobs beside hogs of a kind.
async fn beside(backend: Backend, hogs: &Hogs) -> Quick {
    let web = BackgroundWeb::start(|_| Reply::Body(b"hello".to_vec()));
    let with_port = |text: &str| text.replace("PORT", &web.port().to_string());
    let site = Site::new(backend, ENDLESS_CALLS);
    let granted = site.path().join("granted");
    fs::create_dir(&granted).expect("a folder");
    (0..2000).for_each(|n| fs::write(granted.join(n.to_string()), "x").expect("a file"));
    let terms = format!("{ENDLESS_CALLS}concurrency = {AT_ONCE}\n\n[grants]\n{}\n", with_port(hogs.grants));
    let site = site.with_hog("greedy", &terms).with_hog("quick", "");
    let (broker, greedy, quick) = (site.broker().await, tenant("greedy"), tenant("quick"));
    let _daemon = site.daemon();
    quick::jobs(&*broker, &quick, WARM_UP, APART_BESIDE).await;
    let jobs: Vec<NewJob> = (0..hogs.count).map(|_| hog_job(hogs.kind, &with_port(hogs.payload))).collect();
    for batch in jobs.chunks(BATCH) {
        broker.enqueue(&greedy, batch).await.expect("the broker is up");
    }
    settled(&*broker, &greedy, |counts| counts[State::Leased] >= AT_ONCE).await;
    let records = quick::records(&*broker, &quick, JOBS_BESIDE, APART_BESIDE).await;
    let counts = broker.counts(&greedy).await.expect("the broker is up");
    let unfinished = counts.unfinished();
    assert!(unfinished >= AT_ONCE, "the hogs of {} were at it all the time: {counts:?}", hogs.name);
    Quick::of(&records)
}

/// Measures BullMQ. The producer is a process of its own, as the hogs would keep one in the worker's process from adding.
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
