//! What a seed means: who enqueues what and when, and which faults strike. Nothing here happens.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use sandhog_core::id::JobId;
use sandhog_core::job::Priority;
use sandhog_core::time::Timestamp;

use crate::faults::{self, Fault};

/// Faults strike within this time of the beginning, and jobs are enqueued.
const WINDOW_MS: u64 = 2_000;

/// The tenants whose jobs are enqueued.
pub(crate) const TENANTS: [&str; 2] = ["acme", "globex"];

/// Where the jobs of a run are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Backend {
    /// In a file.
    Embedded,
    /// In a Redis, which acknowledges nothing that isn't on its disk.
    Redis,
    /// In a Redis with two replicas, and three sentinels.
    Sentinels,
    /// In a Redis Cluster of three primaries with a replica each.
    Cluster,
}

impl Backend {
    pub(crate) const ALL: [Self; 4] = [Self::Embedded, Self::Redis, Self::Sentinels, Self::Cluster];
}

/// A run, decided beforehand.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) backend: Backend,
    pub(crate) daemons: usize,
    pub(crate) batches: Vec<Batch>,
    pub(crate) cancels: Vec<Cancel>,
    /// When which fault strikes. They overlap.
    pub(crate) faults: Vec<(Duration, Box<dyn Fault>)>,
}

/// Jobs that are enqueued by one call.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) at: Duration,
    pub(crate) tenant: &'static str,
    pub(crate) jobs: Vec<Job>,
    pub(crate) insists: Insists,
}

/// What a producer does whose call has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Insists {
    /// It repeats the call with the same ids until it is acknowledged.
    Yes,
    /// It gives up: the jobs may be there or not.
    No,
}

/// A job of the kind `witness.run`.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    pub(crate) id: JobId,
    pub(crate) delay: Duration,
    pub(crate) priority: Priority,
    pub(crate) hold: Hold,
    pub(crate) children: u32,
    pub(crate) sleep_ms: u64,
    pub(crate) failures: u32,
    pub(crate) end: End,
}

/// How long a run waits for its answer from the witness.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hold {
    /// So many milliseconds.
    Millis(u64),
    /// On the first attempt for ever; then not at all.
    Hang,
    /// Until so many runs do so at the same time.
    Until(usize),
}

/// How the last attempt ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Return,
    Fail,
}

/// A job that somebody wants cancelled.
#[derive(Debug)]
pub(crate) struct Cancel {
    pub(crate) at: Duration,
    pub(crate) tenant: &'static str,
    pub(crate) job: JobId,
}

impl Plan {
    /// The plan of a seed. Each part is drawn from a source of its own, so that a further kind of fault changes a seed's
    /// plan no further than by striking in it.
    pub(crate) fn of_seed(seed: u64) -> Self {
        let mut r = StdRng::seed_from_u64(seed);
        let of_one = if r.random_bool(0.2) { Backend::Embedded } else { Backend::Redis };
        let backend = match StdRng::seed_from_u64(!seed).random_range(0..16) {
            0 => Backend::Sentinels,
            1 => Backend::Cluster,
            _ => of_one,
        };
        let daemons = r.random_range(2..=3);
        let batches: Vec<Batch> = (0..r.random_range(10..25)).map(|_| Batch::random(&mut r)).collect();
        let mut cancels = Vec::new();
        for batch in &batches {
            for job in &batch.jobs {
                if r.random_bool(0.05) {
                    let at = batch.at + millis(&mut r, 0, 500);
                    cancels.push(Cancel { at, tenant: batch.tenant, job: job.id });
                }
            }
        }
        let faults = faults::draw(seed, r.random_range(1..=4), backend, daemons, WINDOW_MS);
        Self { seed, backend, daemons, batches, cancels, faults }
    }

    /// A seed that nobody has played, where jobs are kept like that.
    pub(crate) fn fresh_seed(backends: &[Backend]) -> u64 {
        let seeds = std::iter::repeat_with(|| rand::random_range(0..1 << 32));
        let mut fitting = seeds.filter(|seed| backends.contains(&Self::of_seed(*seed).backend));
        fitting.next().expect("there are more and more")
    }

    /// All that is enqueued.
    pub(crate) fn jobs(&self) -> impl Iterator<Item = (&'static str, &Job)> {
        self.batches.iter().flat_map(|batch| batch.jobs.iter().map(|job| (batch.tenant, job)))
    }
}

impl Batch {
    fn random(r: &mut StdRng) -> Self {
        Self {
            at: millis(r, 0, WINDOW_MS),
            tenant: TENANTS[r.random_range(0..TENANTS.len())],
            jobs: (0..r.random_range(1..8)).map(|_| Job::random(r)).collect(),
            insists: if r.random_bool(0.9) { Insists::Yes } else { Insists::No },
        }
    }
}

impl Job {
    fn random(r: &mut StdRng) -> Self {
        let hold = match r.random_range(0..20) {
            0 => Hold::Hang,
            1 => Hold::Millis(r.random_range(300..1_200)),
            _ => Hold::Millis(r.random_range(0..150)),
        };
        Self {
            delay: if r.random_bool(0.15) { millis(r, 0, 1_000) } else { Duration::ZERO },
            priority: Priority(r.random_range(90..110)),
            children: if r.random_bool(0.3) { r.random_range(1..4) } else { 0 },
            sleep_ms: if r.random_bool(0.1) { r.random_range(0..400) } else { 0 },
            failures: if r.random_bool(0.15) { r.random_range(1..3) } else { 0 },
            end: if r.random_bool(0.05) { End::Fail } else { End::Return },
            ..Self::of_hold(r, hold)
        }
    }

    /// One that does nothing but hold.
    pub(crate) fn of_hold(r: &mut StdRng, hold: Hold) -> Self {
        Self {
            id: JobId::from_parts(Timestamp::from_millis(1), r.random()),
            delay: Duration::ZERO,
            priority: Priority::default(),
            hold,
            children: 0,
            sleep_ms: 0,
            failures: 0,
            end: End::Return,
        }
    }

    /// What its handler is told.
    pub(crate) fn payload(&self) -> Vec<u8> {
        let hold = match self.hold {
            Hold::Millis(millis) => millis.to_string(),
            Hold::Hang => "hang".to_owned(),
            Hold::Until(runs) => format!("until-{runs}"),
        };
        let end = match self.end {
            End::Return => "return",
            End::Fail => "fail",
        };
        let payload = serde_json::json!({
            "hold": hold, "children": self.children, "sleep": self.sleep_ms, "failures": self.failures, "end": end,
        });
        payload.to_string().into_bytes()
    }
}

/// Some milliseconds.
pub(crate) fn millis(r: &mut StdRng, from: u64, to: u64) -> Duration {
    Duration::from_millis(r.random_range(from..=to))
}

/// A seed is replayed by its number alone.
pub(crate) fn a_seed_always_means_the_same() {
    for seed in 0..50 {
        let text = || format!("{:?}", Plan::of_seed(seed));
        assert_eq!(text(), text());
    }
    assert_ne!(format!("{:?}", Plan::of_seed(1).faults), format!("{:?}", Plan::of_seed(2).faults));
}

/// All kinds of faults are drawn, and only where they fit.
pub(crate) fn every_fault_strikes_in_some_seed() {
    let struck = |backend| {
        let plans = (0..500).map(Plan::of_seed).filter(move |plan| plan.backend == backend);
        plans
            .flat_map(|plan| plan.faults)
            .map(|(_, fault)| fault.name())
            .collect::<std::collections::BTreeSet<_>>()
    };
    for backend in Backend::ALL {
        let fitting = faults::KINDS.iter().filter(|kind| (kind.fits)(backend)).map(|kind| kind.name);
        assert_eq!(struck(backend), fitting.collect());
    }
}
