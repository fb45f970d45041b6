//! Case `latency`: time from the adding of a job to the start of its handler, and to its settlement: when idle, at half
//! load, and at a rate that is the same for all, compared with other job systems.
//!
//! Idle, a job is added every 3 ms. At half load, jobs are added at half of the subject's throughput with enqueues at the
//! same time, at concurrency 100, as measured by the case `throughput`: in this run, or else in the one whose figures are
//! kept. The rate that is the same for all is below half load for all but the slowest subjects, which are left out.
//!
//! Each job is added by a call of its own, and its time counts from that call, without waiting for earlier jobs. The timers
//! of the systems compared have a resolution of a millisecond, so jobs that are due more often are added one right after
//! the other, once in a millisecond.
//!
//! - *Started* is when the handler's first line runs. Sandhog's handler, in its sandbox, reads the calendar clock and
//!   returns it; that is the clock of the whole machine, which this program reads as well when it adds a job. The others
//!   have producer and worker in one process, and read its monotonic clock.
//! - *Settled* is when a client knows that the job's end is safe in Redis. With the others that is when their worker has
//!   Redis' acknowledgement. Sandhog's daemon has it earlier than any client outside, and this program hears of it by a push
//!   to another connection ([`Settlements`]): one hop more, which is included in the measurement.

use std::collections::HashMap;
use std::iter;
use std::slice;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures::future::join_all;
use sandhog_broker::Broker;
use sandhog_core::id::{JobId, TenantId};
use sandhog_core::job::{NewJob, State};
use sandhog_core::time::Timestamp;
use sandhog_tests::{Backend, Fsync, Site, all_final, hog_job, tenant};
use serde::Deserialize;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::figures::{Figures, median};
use crate::peers::{self, Peer};
use crate::rounds::in_turns;
use crate::server::Server;
use crate::settlements::Settlements;
use crate::times::Times;

/// Jobs that are added at even intervals.
#[derive(Debug, Clone, Copy)]
struct Load {
    jobs: usize,
    every: Duration,
}

/// Times of the jobs from being added to their start and to their settlement.
struct Latency {
    start: Times,
    settled: Times,
}

/// Output of `hog.clocks`.
#[derive(Deserialize)]
struct Clocks {
    /// Calendar time in nanoseconds since 1970.
    wall: u64,
}

const ROUNDS: usize = 3;
const CONCURRENCY: usize = 100;
const IDLE: Load = Load { jobs: 2000, every: Duration::from_millis(3) };
/// The rate that is the same for all, in jobs per second.
const SAME: f64 = 4000.0;
/// Duration of a load other than idle.
const LENGTH: Duration = Duration::from_secs(5);
/// Load before the measurement, which isn't counted: fetches what is only on the disk, and creates what is created at its
/// first use.
const WARM_UP: Load = Load { jobs: 300, every: Duration::from_millis(1) };
/// Maximum number of records looked up at once.
const LOOKS: usize = 500;

/// Runs the case, and prints each figure as it comes.
pub(crate) fn run(figures: &mut Figures) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let more = format!("concurrency = {CONCURRENCY}\n");
    let mut site = Site::new(Backend::Redis(Fsync::EverySecond), &more).with_hog("acme", "");
    let url = site.redis().url();
    let mut server = Server::at(&url);
    server.rewrite_when_cleared();
    let subjects: Vec<&str> =
        iter::once("sandhog").chain(peers::subjects()).filter(|subject| figures.wants(subject)).collect();
    let kept = Figures::kept().expect("what is kept can be read");
    let half_rate = |subject: &str| {
        let rate = |figures: &Figures| figures.value("throughput/c100", subject, "with_enqueue_jobs_per_s");
        rate(figures).or_else(|| rate(&kept)).map(|rate| rate / 2.0)
    };
    let half_rates: Vec<(&str, f64)> =
        subjects.iter().filter_map(|subject| Some((*subject, half_rate(subject)?))).collect();
    if half_rates.len() < subjects.len() {
        println!("under load: left out where the case `throughput` has not been measured");
    }
    let idle: Vec<(&str, Load)> = subjects.iter().map(|subject| (*subject, IDLE)).collect();
    let half = half_rates.iter().map(|(subject, rate)| (*subject, Load::at(*rate))).collect();
    let same = half_rates.iter().filter(|(_, rate)| *rate >= SAME);
    let same = same.map(|(subject, _)| (*subject, Load::at(SAME))).collect();
    let same_case = format!("latency/{SAME}-per-s");
    for (case, loads) in [("latency/idle", idle), (&same_case, same), ("latency/half-load", half)] {
        let measured = in_turns(ROUNDS, &loads, |(subject, load)| {
            server.clear();
            match *subject {
                "sandhog" => runtime.block_on(of_sandhog(&site, &url, *load)),
                peer => of_peer(peer, &url, *load),
            }
        });
        for ((subject, load), rounds) in loads.iter().zip(&measured) {
            if case == "latency/half-load" {
                figures.add(case, subject, "adds_per_s", &[load.per_second()]);
            }
            add(figures, case, subject, rounds);
        }
    }
}

fn add(figures: &mut Figures, case: &str, subject: &str, rounds: &[Latency]) {
    type What = fn(&Latency) -> &Times;
    let both: [(&str, What); 2] =
        [("start", |latency| &latency.start), ("settled", |latency| &latency.settled)];
    for (what, times) in both {
        let [p50, p99, p999] =
            [(0.5, "p50_ms"), (0.99, "p99_ms"), (0.999, "p999_ms")].map(|(share, metric)| {
                let values: Vec<f64> = rounds.iter().map(|round| times(round).ms(share)).collect();
                figures.add(case, subject, &format!("{what}_{metric}"), &values);
                median(&values)
            });
        println!(
            "{case:<18} {subject:<12} {what:<8} p50 {p50:>8.2} ms  p99 {p99:>8.2} ms  p99.9 {p999:>8.2} ms"
        );
    }
}

impl Load {
    /// Creates a load of `per_second` jobs per second, for [`LENGTH`].
    fn at(per_second: f64) -> Self {
        let every = Duration::from_secs_f64(1.0 / per_second);
        Self { jobs: (LENGTH.as_secs_f64() * per_second) as usize, every }
    }

    fn per_second(self) -> f64 {
        1.0 / self.every.as_secs_f64()
    }
}

fn of_peer(subject: &str, url: &str, load: Load) -> Latency {
    let mut peer = Peer::start(subject, url, "latency");
    peer.latency(WARM_UP.jobs, WARM_UP.every, CONCURRENCY);
    let [start, settled] = peer.latency(load.jobs, load.every, CONCURRENCY).map(Times::of);
    Latency { start, settled }
}

async fn of_sandhog(site: &Site, url: &str, load: Load) -> Latency {
    let (broker, tenant) = (site.broker().await, tenant("acme"));
    let _daemon = site.daemon();
    add_all(&broker, &tenant, WARM_UP).await;
    all_final(&*broker, &tenant).await;

    let settlements = Settlements::listen(url, &tenant).await;
    let added = add_all(&broker, &tenant, load).await;
    all_final(&*broker, &tenant).await;
    let settled = settlements.end().await;
    let started = starts(&*broker, &tenant, added.keys().copied().collect()).await;
    let since_added = |times: &HashMap<JobId, SystemTime>| {
        let since = |(job, added): (&JobId, &SystemTime)| {
            times[job].duration_since(*added).expect("a machine's clock goes forwards")
        };
        Times::of(added.iter().map(since).collect())
    };
    Latency { start: since_added(&started), settled: since_added(&settled) }
}

/// Adds jobs as they are due, and returns the time at which each was added.
async fn add_all(broker: &Arc<dyn Broker>, tenant: &TenantId, load: Load) -> HashMap<JobId, SystemTime> {
    let (began, made_at) = (Instant::now(), Timestamp::from_millis(millis_since_1970()));
    let (mut due, mut added, mut adds) = (began, HashMap::new(), JoinSet::new());
    for n in 0..load.jobs {
        sleep_until(due).await;
        due += load.every;
        let id = JobId::from_parts(made_at, n as u128);
        let job = NewJob { id, ..hog_job("hog.clocks", "null") };
        let (broker, tenant) = (Arc::clone(broker), tenant.clone());
        added.insert(id, SystemTime::now());
        adds.spawn(async move { broker.enqueue(&tenant, slice::from_ref(&job)).await });
    }
    for answer in adds.join_all().await {
        answer.expect("the broker is up");
    }
    added
}

/// Returns the time at which the handler of each job began.
async fn starts(broker: &dyn Broker, tenant: &TenantId, jobs: Vec<JobId>) -> HashMap<JobId, SystemTime> {
    let mut starts = HashMap::new();
    for jobs in jobs.chunks(LOOKS) {
        for record in join_all(jobs.iter().map(|job| broker.job(tenant, *job))).await {
            let record = record.expect("the broker is up").expect("the job is kept");
            assert_eq!(record.state, State::Succeeded, "{:?}", record.message);
            let output = record.output.expect("it has succeeded");
            let clocks: Clocks = serde_json::from_slice(&output).expect("the handler's answer");
            starts.insert(record.id, UNIX_EPOCH + Duration::from_nanos(clocks.wall));
        }
    }
    starts
}

fn millis_since_1970() -> u64 {
    let since = UNIX_EPOCH.elapsed().expect("it is later than 1970");
    u64::try_from(since.as_millis()).expect("not for ever")
}
