//! Growth with waiting jobs: a thousand, a hundred thousand and a million; then with a million dead letters, and a million
//! scheduled jobs in addition.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sandhog_broker::{Broker, LeaseAsk, Settle};
use sandhog_core::id::{LeaseToken, QueueName, TenantId};
use sandhog_core::job::{NewJob, State};
use sandhog_core::reason::Reason;
use sandhog_core::settle::Settlement;
use sandhog_tests::{Backend, Fsync, PATIENCE, Site, tenant};

use super::{add, load};
use crate::figures::Figures;
use crate::server::Server;

const DEPTHS: [usize; 3] = [1_000, 100_000, 1_000_000];
const MANY: usize = 1_000_000;
/// Number of jobs of each round, in addition to those that wait all the time.
const JOBS: usize = 20_000;
/// Number of jobs before those, which aren't measured.
const WARM_UP: usize = 2_000;
const ROUNDS: usize = 3;
const CONCURRENCY: &str = "concurrency = 100\n";
const SUBJECT: &str = "sandhog";
const LATER: Duration = Duration::from_secs(24 * 60 * 60);

pub(super) async fn run(figures: &mut Figures) {
    redis(figures).await;
    embedded(figures).await;
}

async fn redis(figures: &mut Figures) {
    let mut site = Site::new(Backend::Redis(Fsync::EverySecond), CONCURRENCY).with_hog("acme", "");
    let server = Server::at(&site.redis().url()).without_rewrites();
    let mut queue = Queue::of(&site, SUBJECT, Some(server)).await;
    let mut waiting_bytes = 0.0;
    for depth in DEPTHS {
        let case = format!("growth/waiting-{depth}");
        let (before, waited) = (queue.memory(), queue.count(State::Ready).await);
        queue.fill_to(depth).await;
        waiting_bytes = (queue.memory() - before) / (depth - waited) as f64;
        add(figures, &case, SUBJECT, "redis_bytes_per_job", &[waiting_bytes]);
        queue.measure(&case, depth, figures).await;
    }
    let (case, before) = (format!("growth/dead-{MANY}"), queue.memory());
    queue.bury_all().await;
    let dead = queue.count(State::Dead).await;
    let more = (queue.memory() - before) / dead as f64;
    add(figures, &case, SUBJECT, "redis_bytes_per_job", &[waiting_bytes + more]);
    queue.measure(&case, 0, figures).await;
    let (case, before) = (format!("growth/scheduled-{MANY}"), queue.memory());
    let later = |n| NewJob { delay: LATER, ..load::job(n) };
    load::enqueue(&*queue.broker, &queue.tenant, MANY, later).await;
    add(figures, &case, SUBJECT, "redis_bytes_per_job", &[(queue.memory() - before) / MANY as f64]);
    queue.measure(&case, 0, figures).await;
}

async fn embedded(figures: &mut Figures) {
    let site = Site::new(Backend::Embedded, CONCURRENCY).with_hog("acme", "");
    let mut queue = Queue::of(&site, "sandhog-embedded", None).await;
    // A million would take minutes to be written, each call on disk before it is acknowledged.
    for depth in &DEPTHS[..2] {
        queue.fill_to(*depth).await;
        queue.measure(&format!("growth/waiting-{depth}"), *depth, figures).await;
    }
}

/// A queue of one tenant.
struct Queue<'a> {
    subject: &'static str,
    site: &'a Site,
    broker: Arc<dyn Broker>,
    server: Option<Server>,
    tenant: [TenantId; 1],
}

impl<'a> Queue<'a> {
    async fn of(site: &'a Site, subject: &'static str, server: Option<Server>) -> Self {
        Self { subject, site, broker: site.broker().await, server, tenant: [tenant("acme")] }
    }

    async fn count(&self, state: State) -> usize {
        load::count(&*self.broker, &self.tenant[0], state).await as usize
    }

    /// Enqueues jobs until `depth` wait. Returns the number of jobs enqueued per second.
    async fn fill_to(&self, depth: usize) -> f64 {
        let more = depth - self.count(State::Ready).await;
        load::enqueue(&*self.broker, &self.tenant, more, load::job).await
    }

    /// Returns the memory of the Redis server's data in bytes; 0 if there is no server.
    fn memory(&mut self) -> f64 {
        self.server.as_mut().map_or(0.0, |server| server.done().memory as f64)
    }

    async fn measure(&mut self, case: &str, depth: usize, figures: &mut Figures) {
        let [mut adds, mut done, mut memory] = [const { Vec::new() }; 3];
        for _ in 0..ROUNDS {
            self.fill_to(depth + WARM_UP).await;
            adds.push(self.fill_to(depth + WARM_UP + JOBS).await);
            let (jobs_per_s, bytes) = self.work_off().await;
            done.push(jobs_per_s);
            memory.push(bytes as f64);
        }
        for (metric, rounds) in [("adds_per_s", adds), ("jobs_per_s", done), ("daemon_bytes", memory)] {
            add(figures, case, self.subject, metric, &rounds);
        }
    }

    /// Lets a daemon work off the round's jobs, and ends it. Returns the jobs per second, and the daemon's memory in bytes.
    async fn work_off(&self) -> (f64, u64) {
        let succeeded = self.count(State::Succeeded).await;
        let mut daemon = self.site.daemon();
        // The first jobs of a daemon cost more: files are read, memory is mapped.
        let (began, first) = self.once_succeeded(succeeded + WARM_UP).await;
        let (ended, last) = self.once_succeeded(succeeded + WARM_UP + JOBS).await;
        let memory = daemon.resident();
        daemon.signal("TERM");
        daemon.wait();
        ((last - first) as f64 / (ended - began).as_secs_f64(), memory)
    }

    /// Waits until at least `wanted` jobs have succeeded; returns the time of that, and their number.
    async fn once_succeeded(&self, wanted: usize) -> (Instant, usize) {
        let until = Instant::now() + PATIENCE;
        loop {
            let (count, now) = (self.count(State::Succeeded).await, Instant::now());
            if count >= wanted {
                return (now, count);
            }
            assert!(now < until, "jobs are still under way");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Turns all waiting jobs into dead letters, by the broker alone.
    async fn bury_all(&mut self) {
        let [tenant] = &self.tenant;
        let queues = [(QueueName::parse("hogs").expect("a name"), 1_000)];
        let ttl = Duration::from_secs(30);
        let ask = LeaseAsk::new(tenant, &queues, ttl);
        loop {
            let leases = self.broker.lease(ask).await.expect("the broker is up").leases;
            if leases.is_empty() {
                return;
            }
            let buried: Vec<Settle> = leases.iter().map(|lease| bury(lease.token)).collect();
            self.broker.settle(tenant, &buried).await.expect("the broker is up");
        }
    }
}

fn bury(token: LeaseToken) -> Settle {
    Settle::new(
        token,
        Settlement::Bury { reason: Reason::FailedPermanently, message: "of no use".to_owned() },
    )
}
