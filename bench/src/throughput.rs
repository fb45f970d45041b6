//! Case `throughput`: jobs of a trivial handler, by concurrency: Sandhog, each job in a fresh sandbox, compared with other
//! job systems, whose handlers run unprotected in the worker; and Sandhog's broker alone, with leases settled without a run.
//!
//! | metric | what is timed |
//! |---|---|
//! | `jobs_per_s` | jobs wait, and a connected worker begins: until the last one is settled |
//! | `with_enqueue_jobs_per_s` | a worker waits, and a producer in another process begins to add: until the last one is settled |
//! | `adds_per_s` | a producer adds, a thousand jobs by one call where there is such a call, and no worker runs |
//!
//! Each handler returns its payload, which its system stores; finished jobs are kept, as is the default of all of them
//! except where `bench/README.md` says otherwise. They use one Redis server exclusively, in turns.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sandhog_broker::{Broker, LeaseAsk, Ran, Settle};
use sandhog_core::effects::Effects;
use sandhog_core::id::{DaemonId, PluginName, QueueName, Revision, TenantId};
use sandhog_core::job::{Lease, State};
use sandhog_core::outcome::Usage;
use sandhog_core::settle::Settlement;
use sandhog_core::time::Timestamp;
use sandhog_tests::{Backend, Daemon, Fsync, Site, hog_job, tenant};
use tokio::runtime::Runtime;

use crate::figures::{Figures, median};
use crate::peers::{self, Peer};
use crate::rounds::in_turns;
use crate::server::Server;

/// Concurrencies that are measured.
const AT_ONCE: [usize; 4] = [1, 10, 100, 300];
/// Concurrency at which adds and the broker alone are measured.
const MAIN: usize = 100;
const ROUNDS: usize = 3;
/// Approximate length of a measurement, for which the number of jobs is chosen.
const LENGTH: Duration = Duration::from_millis(1500);
/// Number of jobs that aren't counted, as the first ones of a program are slower.
const WARM_UP: usize = 500;
const JOBS_MAX: usize = 60_000;
/// Maximum number of jobs for apalis, which fails if more than about 8,000 jobs wait.
const JOBS_MAX_OF_APALIS: usize = 7000;
/// Maximum number of jobs added by one call.
const BATCH: usize = 1000;
/// Interval at which Sandhog's producer polls whether all jobs are settled.
const LOOK: Duration = Duration::from_millis(5);
/// Number of callers of the broker alone; the jobs under way are divided among them.
const CALLERS: usize = 2;

/// Runs the case, and prints each figure as it comes.
pub(crate) fn run(figures: &mut Figures) {
    let field = Field::new();
    let mut server = Server::at(&field.url);
    server.rewrite_when_cleared();
    let mut peers: BTreeMap<&str, Pair> = peers::subjects()
        .filter(|peer| figures.wants(peer))
        .map(|peer| (peer, Pair::start(peer, &field.url)))
        .collect();
    for at_once in AT_ONCE {
        let mut systems: Vec<(&str, Box<dyn System + '_>)> = Vec::new();
        if figures.wants("sandhog") {
            systems.push(("sandhog", Box::new(Sandhog::start(&field, at_once))));
        }
        if figures.wants("sandhog-broker") && at_once == MAIN {
            systems.push(("sandhog-broker", Box::new(Alone::new(&field, at_once))));
        }
        for (subject, pair) in &mut peers {
            systems.push((subject, Box::new(PeerAt { subject, pair, at_once })));
        }
        measure(figures, at_once, &mut systems, &mut server);
    }
}

fn measure(
    figures: &mut Figures,
    at_once: usize,
    systems: &mut [(&str, Box<dyn System + '_>)],
    server: &mut Server,
) {
    let jobs: Vec<usize> = systems.iter_mut().map(|(_, system)| jobs_for(&mut **system, server)).collect();
    let all: Vec<usize> = (0..systems.len()).collect();
    let measured = in_turns(ROUNDS, &all, |&which| {
        let ((_, system), jobs) = (&mut systems[which], jobs[which]);
        server.clear();
        let apart = system.apart(jobs);
        server.clear();
        [Some(apart.work), system.with_enqueue(jobs), Some(apart.adds)]
            .map(|took| took.map(|took| jobs as f64 / took.as_secs_f64()))
    });
    let case = format!("throughput/c{at_once}");
    let rows = [
        (case.as_str(), "jobs_per_s"),
        (case.as_str(), "with_enqueue_jobs_per_s"),
        ("throughput/enqueue", "adds_per_s"),
    ];
    for (((subject, _), jobs), rounds) in systems.iter().zip(jobs).zip(measured) {
        for (n, (case, metric)) in rows.into_iter().enumerate() {
            let rates: Vec<f64> = rounds.iter().filter_map(|round| round[n]).collect();
            if rates.is_empty() || (metric == "adds_per_s" && at_once != MAIN) {
                continue;
            }
            println!("{case:<20} {subject:<16} {metric:<24} {:>9.0}   ({jobs} jobs)", median(&rates));
            figures.add(case, subject, metric, &rates);
        }
    }
}

/// Returns the number of jobs that take about [`LENGTH`] to be worked off, estimated after a warm-up.
fn jobs_for(system: &mut dyn System, server: &mut Server) -> usize {
    server.clear();
    system.apart(WARM_UP);
    let (mut jobs, max) = (WARM_UP, system.jobs_max());
    loop {
        server.clear();
        let took = system.apart(jobs).work;
        let factor = LENGTH.as_secs_f64() / took.as_secs_f64();
        if took > LENGTH / 4 || jobs == max {
            return ((jobs as f64 * factor) as usize).clamp(100, max);
        }
        jobs = ((jobs as f64 * factor.min(16.0) / 2.0) as usize).min(max);
    }
}

/// System that is measured.
trait System {
    /// Returns the maximum number of jobs that it is given.
    fn jobs_max(&self) -> usize {
        JOBS_MAX
    }

    /// Adds jobs while no worker runs, and then lets them be worked off.
    fn apart(&mut self, jobs: usize) -> Apart;

    /// Adds jobs while a worker runs, and returns the time until the last one was settled. `None` if the system doesn't support
    /// that.
    fn with_enqueue(&mut self, jobs: usize) -> Option<Duration>;
}

/// Times to add the jobs, and then to work them off.
struct Apart {
    adds: Duration,
    work: Duration,
}

/// The common Redis server, and a Sandhog site around it.
struct Field {
    site: Site,
    url: String,
    runtime: Runtime,
    broker: Arc<dyn Broker>,
}

impl Field {
    fn new() -> Self {
        let mut site = Site::new(Backend::Redis(Fsync::EverySecond), "").with_hog("acme", "");
        let url = site.redis().url();
        let runtime = Runtime::new().expect("a runtime");
        let broker = runtime.block_on(site.broker());
        Self { site, url, runtime, broker }
    }
}

/// A daemon, and a producer in this process.
struct Sandhog<'a> {
    runtime: &'a Runtime,
    producer: Producer<'a>,
    daemon: Daemon,
}

impl<'a> Sandhog<'a> {
    fn start(field: &'a Field, at_once: usize) -> Self {
        let site = fs::read_to_string(field.site.config()).expect("it is there");
        // The site's text ends in its table `[engine]`.
        let name = format!("c{at_once}.toml");
        field.site.write(&name, format!("{site}concurrency = {at_once}\n").as_bytes());
        let daemon = Daemon::start(&field.site.path().join(name));
        Self { runtime: &field.runtime, producer: Producer::of(field, "acme"), daemon }
    }
}

impl System for Sandhog<'_> {
    /// Adds jobs while the daemon is stopped by a signal, as it can't be told to wait. It is then as ready as a connected worker,
    /// and knows as little of the jobs.
    fn apart(&mut self, jobs: usize) -> Apart {
        self.daemon.signal("STOP");
        let adds = self.runtime.block_on(self.producer.add(jobs));
        let start = Instant::now();
        self.daemon.signal("CONT");
        self.runtime.block_on(self.producer.settled(jobs));
        Apart { adds, work: start.elapsed() }
    }

    fn with_enqueue(&mut self, jobs: usize) -> Option<Duration> {
        let start = Instant::now();
        self.runtime.block_on(async {
            self.producer.add(jobs).await;
            self.producer.settled(jobs).await;
        });
        Some(start.elapsed())
    }
}

/// Producer that adds jobs for a tenant, and asks for their states.
struct Producer<'a> {
    broker: &'a dyn Broker,
    tenant: TenantId,
}

impl<'a> Producer<'a> {
    fn of(field: &'a Field, name: &str) -> Self {
        Self { broker: &*field.broker, tenant: tenant(name) }
    }

    async fn add(&self, jobs: usize) -> Duration {
        let start = Instant::now();
        for first in (0..jobs).step_by(BATCH) {
            let payloads = (first..jobs.min(first + BATCH)).map(|n| format!("{{\"n\":{n}}}"));
            let batch: Vec<_> = payloads.map(|payload| hog_job("hog.echo", &payload)).collect();
            self.broker.enqueue(&self.tenant, &batch).await.expect("the broker is up");
        }
        start.elapsed()
    }

    async fn settled(&self, jobs: usize) {
        loop {
            let counts = self.broker.counts(&self.tenant).await.expect("the broker is up");
            assert_eq!(counts[State::Dead], 0, "they all succeed");
            if counts[State::Succeeded] == jobs as u64 {
                return;
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// The broker alone, for a tenant that no daemon serves.
struct Alone<'a> {
    runtime: &'a Runtime,
    producer: Producer<'a>,
    at_once: usize,
}

impl<'a> Alone<'a> {
    fn new(field: &'a Field, at_once: usize) -> Self {
        Self { runtime: &field.runtime, producer: Producer::of(field, "alone"), at_once }
    }

    /// Leases and settles until nothing is left.
    async fn work(&self, at_once: usize) {
        let queues = [(QueueName::parse("hogs").expect("a queue"), at_once as u32)];
        let Producer { broker, tenant } = &self.producer;
        let ask = LeaseAsk::new(tenant, &queues, Duration::from_secs(30));
        loop {
            let leased = broker.lease(ask).await.expect("the broker is up");
            if leased.leases.is_empty() {
                return;
            }
            let settles: Vec<Settle> = leased.leases.iter().map(success).collect();
            broker.settle(tenant, &settles).await.expect("the broker is up");
        }
    }
}

impl System for Alone<'_> {
    fn apart(&mut self, jobs: usize) -> Apart {
        self.runtime.block_on(async {
            let adds = self.producer.add(jobs).await;
            let start = Instant::now();
            futures::future::join_all((0..CALLERS).map(|_| self.work(self.at_once / CALLERS))).await;
            let work = start.elapsed();
            self.producer.settled(jobs).await;
            Apart { adds, work }
        })
    }

    fn with_enqueue(&mut self, _jobs: usize) -> Option<Duration> {
        None
    }
}

/// Creates the settlement of a run that returned its payload, as a daemon does.
fn success(lease: &Lease) -> Settle {
    let ran = Ran::new(
        DaemonId::from_parts(Timestamp::from_millis(1), 1),
        PluginName::parse("hog").expect("a name"),
        Revision::from_sha256([7; 32]),
        Usage::default(),
    );
    let output = lease.job.payload.clone();
    Settle::of_run(lease.token, ran, Settlement::Succeed { output, effects: Effects::default() })
}

/// Producer and worker of another system, each in a process.
struct Pair {
    producer: Peer,
    worker: Peer,
}

impl Pair {
    fn start(subject: &str, url: &str) -> Self {
        let start = || Peer::start(subject, url, "throughput");
        Self { producer: start(), worker: start() }
    }
}

struct PeerAt<'a> {
    subject: &'a str,
    pair: &'a mut Pair,
    at_once: usize,
}

impl System for PeerAt<'_> {
    fn jobs_max(&self) -> usize {
        if self.subject == "apalis" { JOBS_MAX_OF_APALIS } else { JOBS_MAX }
    }

    fn apart(&mut self, jobs: usize) -> Apart {
        let adds = self.pair.producer.enqueue(jobs);
        Apart { adds, work: self.pair.worker.work(jobs, self.at_once).settled() }
    }

    fn with_enqueue(&mut self, jobs: usize) -> Option<Duration> {
        let Pair { producer, worker } = &mut *self.pair;
        let working = worker.work(jobs, self.at_once);
        let start = Instant::now();
        producer.enqueue(jobs);
        working.settled();
        Some(start.elapsed())
    }
}
