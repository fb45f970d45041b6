//! Redis time of a job on the first day, when no job is past its keep time yet, and later, when as many are removed as come.

use sandhog_broker::Counts;
use sandhog_core::job::State;
use sandhog_tests::{Backend, Fsync, Site, settled, tenant};

use super::{add, load};
use crate::figures::Figures;
use crate::server::Server;

/// Cases: name, keep time of jobs, and number of jobs still kept at the end.
const CASES: [(&str, &str, usize); 2] =
    [("growth/keep-first-day", "1d", JOBS), ("growth/keep-steady", "1s", 0)];
const JOBS: usize = 60_000;
const ROUNDS: usize = 3;

pub(super) async fn run(figures: &mut Figures) {
    let mut rounds = CASES.map(|_| Vec::new());
    for _ in 0..ROUNDS {
        for ((_, keep, left), rounds) in CASES.iter().zip(&mut rounds) {
            rounds.push(redis_us_of_a_job(keep, *left).await);
        }
    }
    for ((case, ..), rounds) in CASES.iter().zip(&rounds) {
        add(figures, case, "sandhog", "redis_us", rounds);
    }
}

/// Returns Redis' processor time of a job in microseconds. Measured from an empty server until all jobs are done, and
/// removed if they aren't kept for long, so that the whole life of each is counted.
async fn redis_us_of_a_job(keep: &str, left: usize) -> f64 {
    let (acme, extra) = (tenant("acme"), format!("[keep]\ndone = \"{keep}\""));
    let mut site =
        Site::new(Backend::Redis(Fsync::EverySecond), "concurrency = 100\n").with_hog("acme", &extra);
    let mut server = Server::at(&site.redis().url()).without_rewrites();
    let broker = site.broker().await;
    let _daemon = site.daemon();
    let before = server.done();
    load::enqueue(&*broker, std::slice::from_ref(&acme), JOBS, load::job).await;
    let in_the_end = Counts::of(&[(State::Succeeded, left as u64)]);
    settled(&*broker, &acme, |counts| *counts == in_the_end).await;
    server.done().since(&before).processor.as_secs_f64() * 1e6 / JOBS as f64
}
