//! Case `cost`: resources that a job takes at the Redis server, in the worker and in the kernel, compared with BullMQ and
//! its Rust crate. Counts are nearly the same on a busy machine, where times are not.
//!
//! Jobs are enqueued while no worker runs: Sandhog's daemon is stopped (SIGSTOP) meanwhile, and the others' workers are
//! started afterwards. So only the work is counted, from the first lease to the last settlement.

mod traced;

use std::sync::Arc;

use sandhog_broker::{Broker, Keep};
use sandhog_core::id::TenantId;
use sandhog_core::job::NewJob;
use sandhog_tests::{Backend, Daemon, Fsync, Site, hog_job, tenant};
use tokio::runtime::Runtime;

use self::traced::{Counted, Tracer};
use crate::figures::{Figures, median};
use crate::peers::Peer;
use crate::process::{Process, Used};
use crate::rounds::in_turns;
use crate::server::{Done, Server};

const PEERS: [&str; 2] = ["bullmq", "bullmq-rust"];
const ROUNDS: usize = 3;
/// Concurrency, and number of jobs in a round. Processor time is reported in hundredths of a second, so a round is about a
/// second of work.
const AT_ONCE: [(usize, usize); 2] = [(1, 5_000), (100, 20_000)];
/// Number of jobs in a round that traces the worker, which slows it down.
const TRACED: usize = 5_000;
/// Number of jobs enqueued by one call.
const BATCH: usize = 1_000;

/// Runs the case, and prints the counts.
pub(crate) fn run(figures: &mut Figures) {
    for (concurrency, jobs) in AT_ONCE {
        let mut site =
            Site::new(Backend::Redis(Fsync::EverySecond), &format!("concurrency = {concurrency}\n"))
                .with_hog("acme", "");
        let url = site.redis().url();
        let mut server = Server::at(&url);
        let mut sandhog = Sandhog::new(&site, &url);
        let mut peers = PEERS.map(|name| Theirs { peer: Peer::start(name, &url, name), concurrency });
        let case = format!("cost/c{concurrency}");

        let [first, second] = &mut peers;
        let mut subjects: [(&str, &mut dyn Subject); 3] =
            [("sandhog", &mut sandhog), (PEERS[0], first), (PEERS[1], second)];
        for (_, subject) in &mut subjects {
            // The first jobs cost more: files are read, code is compiled, memory is mapped.
            round(*subject, &mut server, BATCH);
        }
        let measured = in_turns(ROUNDS, &[0, 1, 2], |&nth: &usize| round(subjects[nth].1, &mut server, jobs));
        for ((name, _), rounds) in subjects.iter().zip(&measured) {
            add_all(figures, &case, name, rounds, &WORK);
            if (concurrency, jobs) == AT_ONCE[1] {
                add_all(figures, "cost/adds", name, rounds, &ADDS);
            }
        }
        println!("  {case} sandhog, Redis commands a job: {}", measured[0][0].work.shown_by_name(jobs));
        trace(&mut sandhog, &case, figures);
    }
}

/// Counts of a round.
struct Round {
    jobs: usize,
    adds: Done,
    work: Done,
    worker: Used,
}

/// Name of a metric, and its value in a round.
type Metric = (&'static str, fn(&Round) -> f64);

const ADDS: [Metric; 5] = [
    ("redis_commands_per_job", |round| round.adds.commands() as f64),
    ("redis_bytes_in_per_job", |round| round.adds.bytes_in as f64),
    ("redis_bytes_out_per_job", |round| round.adds.bytes_out as f64),
    ("redis_us_per_job", |round| round.adds.processor.as_secs_f64() * 1e6),
    ("redis_bytes_per_waiting_job", |round| round.adds.memory as f64),
];

const WORK: [Metric; 9] = [
    ("redis_commands_per_job", |round| round.work.commands() as f64),
    ("redis_scripts_per_job", |round| round.work.scripts() as f64),
    ("redis_reads_per_job", |round| round.work.reads as f64),
    ("redis_bytes_in_per_job", |round| round.work.bytes_in as f64),
    ("redis_bytes_out_per_job", |round| round.work.bytes_out as f64),
    ("redis_us_per_job", |round| round.work.processor.as_secs_f64() * 1e6),
    ("worker_us_per_job", |round| round.worker.processor.as_secs_f64() * 1e6),
    ("worker_context_switches_per_job", |round| round.worker.context_switches as f64),
    ("worker_page_faults_per_job", |round| round.worker.page_faults as f64),
];

fn add_all(figures: &mut Figures, case: &str, subject: &str, rounds: &[Round], metrics: &[Metric]) {
    for (name, of) in metrics {
        let values: Vec<f64> = rounds.iter().map(|round| of(round) / round.jobs as f64).collect();
        add(figures, case, subject, name, &values);
    }
}

fn add(figures: &mut Figures, case: &str, subject: &str, metric: &str, values: &[f64]) {
    figures.add(case, subject, metric, values);
    println!("  {case} {subject} {metric}: {:.3}", median(values));
}

/// Enqueues jobs, lets them be worked off, and returns the counts.
fn round(subject: &mut dyn Subject, server: &mut Server, jobs: usize) -> Round {
    let empty = server.done();
    subject.enqueue(jobs);
    let (full, used) = (server.done(), subject.process().used());
    subject.work_off(jobs);
    let (done, worker) = (server.done(), subject.process().used().since(used));
    Round { jobs, adds: full.since(&empty), work: done.since(&full), worker }
}

/// Counts system calls and allocations, which slows the worker down.
fn trace(sandhog: &mut Sandhog, case: &str, figures: &mut Figures) {
    let Some(tracer) = Tracer::on(sandhog.process()) else {
        println!("  no system calls and allocations: counting them takes `perf`, and root");
        return;
    };
    let rounds: Vec<Counted> = (0..ROUNDS)
        .map(|_| {
            sandhog.enqueue(TRACED);
            let count = tracer.begin();
            sandhog.work_off(TRACED);
            count.end()
        })
        .collect();
    let each = |counts: Vec<u64>| -> Vec<f64> { counts.iter().map(|n| *n as f64 / TRACED as f64).collect() };
    let system_calls = each(rounds.iter().map(|counted| counted.system_calls).collect());
    add(figures, case, "sandhog", "worker_system_calls_per_job", &system_calls);
    let allocations = each(rounds.iter().filter_map(|counted| counted.allocations).collect());
    if !allocations.is_empty() {
        add(figures, case, "sandhog", "worker_allocations_per_job", &allocations);
    }
}

/// System whose costs are counted.
trait Subject {
    /// Returns the worker's process.
    fn process(&self) -> Process;

    /// Enqueues jobs while no worker runs.
    fn enqueue(&mut self, jobs: usize);

    /// Lets the worker work off the enqueued jobs.
    fn work_off(&mut self, jobs: usize);
}

/// Sandhog's daemon and its jobs.
struct Sandhog {
    runtime: Runtime,
    daemon: Daemon,
    broker: Arc<dyn Broker>,
    tenant: TenantId,
    /// Connection apart from those that are counted; asks for the progress only now and then.
    server: Server,
    settled: u64,
}

impl Sandhog {
    fn new(site: &Site, url: &str) -> Self {
        let runtime = Runtime::new().expect("a runtime");
        let broker = runtime.block_on(site.broker());
        let (daemon, server) = (site.daemon(), Server::at(url));
        Self { runtime, daemon, broker, tenant: tenant("acme"), server, settled: 0 }
    }
}

impl Subject for Sandhog {
    fn process(&self) -> Process {
        Process(self.daemon.id())
    }

    fn enqueue(&mut self, count: usize) {
        self.daemon.signal("STOP");
        let jobs: Vec<NewJob> = (0..count).map(|n| hog_job("hog.echo", &format!("{{\"n\":{n}}}"))).collect();
        self.runtime.block_on(async {
            for batch in jobs.chunks(BATCH) {
                self.broker.enqueue(&self.tenant, batch).await.expect("the broker is up");
            }
        });
    }

    fn work_off(&mut self, jobs: usize) {
        self.daemon.signal("CONT");
        self.settled += jobs as u64;
        let key =
            format!("sandhog:{{{}}}:finals:succeeded:{}", self.tenant, Keep::default().done.as_millis());
        self.server.await_count(&key, self.settled);
    }
}

/// Program of another system.
struct Theirs {
    peer: Peer,
    concurrency: usize,
}

impl Subject for Theirs {
    fn process(&self) -> Process {
        Process(self.peer.id())
    }

    fn enqueue(&mut self, jobs: usize) {
        self.peer.enqueue(jobs);
    }

    fn work_off(&mut self, jobs: usize) {
        self.peer.work(jobs, self.concurrency).settled();
    }
}
