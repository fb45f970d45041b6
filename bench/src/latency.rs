//! How long a job takes from being added to the start of its handler, and to its settlement: with little to do, at half
//! load, and at a rate that is the same for all, beside other job systems.
//!
//! Idle, a job is added every 3 ms. At half load, they are added at half of the rate at which the subject has jobs done
//! that are added meanwhile, at concurrency 100, as the case `throughput` has measured it: in this run, or else in the one
//! whose figures are kept. The rate that is the same for all is below half the load of all but the slowest, which are left
//! out.
//!
//! Each job is added by a call of its own, and its time counts from that call. Nobody waits for an earlier job. The timers
//! of the systems that are compared are good for a millisecond, so jobs that are due more often are added one right after
//! the other, once in a millisecond.
//!
//! - *Started* is when the handler's first line runs. Sandhog's handler, in its sandbox, looks at the calendar clock and
//!   returns what it says; that is the clock of the whole machine, of which this program looks at the same when it adds.
//!   The others have producer and worker in one process, and look at its monotonic clock.
//! - *Settled* is when somebody knows that the job's end is safe in Redis. With the others that is when their worker has
//!   Redis' acknowledgement. Sandhog's daemon has it earlier than anybody outside, and this program hears of it by a push
//!   to another connection ([`Settlements`]): a hop more, which is in what is measured.

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

/// Jobs that come at even intervals.
#[derive(Debug, Clone, Copy)]
struct Load {
    jobs: usize,
    every: Duration,
}

/// Of each job, how long it took.
struct Latency {
    start: Times,
    settled: Times,
}

/// What `hog.clocks` returns.
#[derive(Deserialize)]
struct Clocks {
    /// Nanoseconds since 1970.
    wall: u64,
}

const ROUNDS: usize = 3;
const CONCURRENCY: usize = 100;
const IDLE: Load = Load { jobs: 2000, every: Duration::from_millis(3) };
/// The rate that is the same for all, a second.
const SAME: f64 = 4000.0;
/// How long a load lasts that isn't idle.
const LENGTH: Duration = Duration::from_secs(5);
/// Not counted: what is there on the disk alone is fetched, what is made when it is first needed is made.
const WARM_UP: Load = Load { jobs: 300, every: Duration::from_millis(1) };
/// Records that are asked for at once.
const LOOKS: usize = 500;

/// Measures, and prints each figure as it comes.
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
    /// So many jobs a second, for [`LENGTH`].
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

/// Adds jobs as they are due; returns when each was.
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

/// When the handler of each job began.
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
