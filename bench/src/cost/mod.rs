//! What a job costs, counted: at the Redis server, in the daemon, and at the kernel. Counts are the same on a busy
//! machine, or nearly, where times are not.
//!
//! The worker is stopped (SIGSTOP) while its jobs are enqueued, and goes on when all are: so what is counted is the
//! work alone, from the first lease to the last settlement.

mod traced;

use std::sync::Arc;

use sandhog_broker::{Broker, Keep};
use sandhog_core::id::TenantId;
use sandhog_core::job::NewJob;
use sandhog_tests::{Backend, Daemon, Fsync, Site, hog_job, tenant};

use self::traced::Tracer;
use crate::figures::Figures;
use crate::process::Process;
use crate::server::Server;

const ROUNDS: usize = 3;
const CONCURRENCY: [usize; 2] = [1, 100];
/// In each round. The processor's time is told in hundredths of a second, so there are some seconds of work.
const JOBS: usize = 20_000;
/// In each round in which the worker is slowed down.
const TRACED: usize = 5_000;
/// They are enqueued so many at a time.
const BATCH: usize = 1_000;

/// Measures, and prints what was counted.
pub(crate) fn run(figures: &mut Figures) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(adds(figures));
    for concurrency in CONCURRENCY {
        runtime.block_on(work(concurrency, figures));
    }
}

/// What is measured in rounds, by name.
#[derive(Default)]
struct Rounds(Vec<(&'static str, Vec<f64>)>);

impl Rounds {
    fn add(&mut self, metric: &'static str, value: f64) {
        match self.0.iter_mut().find(|(name, _)| *name == metric) {
            Some((_, values)) => values.push(value),
            None => self.0.push((metric, vec![value])),
        }
    }

    fn into_figures(self, case: &str, subject: &str, figures: &mut Figures) {
        for (metric, values) in self.0 {
            figures.add(case, subject, metric, &values);
            println!("  {case} {subject} {metric}: {:.3}", crate::figures::median(&values));
        }
    }
}

/// What jobs cost to enqueue, a thousand at a time, and what memory they take while they wait.
async fn adds(figures: &mut Figures) {
    let mut rounds = Rounds::default();
    for _ in 0..ROUNDS {
        let mut site = Site::new(Backend::Redis(Fsync::EverySecond), "").with_hog("acme", "");
        let mut server = Server::at(&site.redis().url());
        let (broker, acme) = (site.broker().await, tenant("acme"));
        enqueue(&*broker, &acme, BATCH).await;
        let before = server.done();
        enqueue(&*broker, &acme, JOBS).await;
        let done = server.done().since(&before);
        let each = |n: f64| n / JOBS as f64;
        rounds.add("redis_commands_per_job", each(done.commands() as f64));
        rounds.add("redis_bytes_in_per_job", each(done.bytes_in as f64));
        rounds.add("redis_us_per_job", each(done.processor.as_secs_f64() * 1e6));
        rounds.add("redis_bytes_per_waiting_job", each(done.memory as f64));
    }
    rounds.into_figures("cost/adds", "sandhog", figures);
}

/// What it costs to lease, run and settle jobs that wait, with so many under way at once.
async fn work(concurrency: usize, figures: &mut Figures) {
    let case = format!("cost/c{concurrency}");
    let extra = format!("concurrency = {concurrency}\n");
    let mut site = Site::new(Backend::Redis(Fsync::EverySecond), &extra).with_hog("acme", "");
    let server = Server::at(&site.redis().url());
    let (broker, tenant) = (site.broker().await, tenant("acme"));
    let mut worker = Worker { daemon: site.daemon(), server, broker, tenant, settled: 0 };
    // The first jobs of a daemon are dearer: files are read, memory is fetched.
    worker.stop_and_fill(JOBS / 10).await;
    worker.see_through().await;

    let mut rounds = Rounds::default();
    for _ in 0..ROUNDS {
        worker.stop_and_fill(JOBS).await;
        let (used, before) = (worker.process().used(), worker.server.done());
        worker.see_through().await;
        let (used, done) = (worker.process().used().since(used), worker.server.done().since(&before));
        let each = |n: f64| n / JOBS as f64;
        rounds.add("redis_commands_per_job", each(done.commands() as f64));
        rounds.add("redis_scripts_per_job", each(done.scripts() as f64));
        rounds.add("redis_reads_per_job", each(done.reads as f64));
        rounds.add("redis_bytes_in_per_job", each(done.bytes_in as f64));
        rounds.add("redis_bytes_out_per_job", each(done.bytes_out as f64));
        rounds.add("redis_us_per_job", each(done.processor.as_secs_f64() * 1e6));
        rounds.add("worker_us_per_job", each(used.processor.as_secs_f64() * 1e6));
        rounds.add("worker_context_switches_per_job", each(used.context_switches as f64));
        rounds.add("worker_page_faults_per_job", each(used.page_faults as f64));
        println!("  {case} sandhog redis commands a job: {}", done.shown_by_name(JOBS));
    }
    trace(&mut worker, &mut rounds).await;
    rounds.into_figures(&case, "sandhog", figures);
}

/// Counts once more, what slows the worker down while it is counted.
async fn trace(worker: &mut Worker, rounds: &mut Rounds) {
    let Some(tracer) = Tracer::on(worker.process()) else {
        println!("  no system calls and allocations: counting them takes `perf`, and root");
        return;
    };
    for _ in 0..ROUNDS {
        worker.stop_and_fill(TRACED).await;
        let count = tracer.begin();
        worker.see_through().await;
        let counted = count.end();
        rounds.add("worker_system_calls_per_job", counted.system_calls as f64 / TRACED as f64);
        if let Some(allocations) = counted.allocations {
            rounds.add("worker_allocations_per_job", allocations as f64 / TRACED as f64);
        }
    }
}

/// A daemon and its jobs.
struct Worker {
    daemon: Daemon,
    server: Server,
    broker: Arc<dyn Broker>,
    tenant: TenantId,
    settled: u64,
}

impl Worker {
    fn process(&self) -> Process {
        Process(self.daemon.id())
    }

    /// Stops it, and then enqueues so many jobs.
    async fn stop_and_fill(&mut self, jobs: usize) {
        self.daemon.signal("STOP");
        enqueue(&*self.broker, &self.tenant, jobs).await;
        self.settled += jobs as u64;
    }

    /// Lets it go on until all jobs are settled.
    async fn see_through(&mut self) {
        self.daemon.signal("CONT");
        let key =
            format!("sandhog:{{{}}}:finals:succeeded:{}", self.tenant, Keep::default().done.as_millis());
        self.server.await_count(&key, self.settled).await;
    }
}

async fn enqueue(broker: &dyn Broker, tenant: &TenantId, count: usize) {
    let jobs: Vec<NewJob> = (0..count).map(|n| hog_job("hog.echo", &n.to_string())).collect();
    for batch in jobs.chunks(BATCH) {
        broker.enqueue(tenant, batch).await.expect("the broker is up");
    }
}
