//! What a job costs Redis on the first day, when nothing is past its time yet, and from then on, when as many jobs go as come.

use std::time::{Duration, Instant};

use sandhog_broker::Counts;
use sandhog_core::job::State;
use sandhog_tests::{Backend, Fsync, PATIENCE, Site, tenant};

use super::{add, load};
use crate::figures::Figures;
use crate::server::Server;

const CASES: [(&str, &str); 2] = [("growth/keep-first-day", "1d"), ("growth/keep-steady", "1s")];
const JOBS: usize = 60_000;
const ROUNDS: usize = 3;

pub(super) async fn run(figures: &mut Figures) {
    let mut rounds = CASES.map(|_| Vec::new());
    for _ in 0..ROUNDS {
        for ((_, keep), rounds) in CASES.iter().zip(&mut rounds) {
            rounds.push(redis_us_of_a_job(keep).await);
        }
    }
    for ((case, _), rounds) in CASES.iter().zip(&rounds) {
        add(figures, case, "sandhog", "redis_us", rounds);
    }
}

/// From an empty server until all jobs are done, and gone if they aren't kept for long: so each is paid for to its end.
async fn redis_us_of_a_job(keep: &str) -> f64 {
    let (acme, extra) = (tenant("acme"), format!("[keep]\ndone = \"{keep}\""));
    let mut site =
        Site::new(Backend::Redis(Fsync::EverySecond), "concurrency = 100\n").with_hog("acme", &extra);
    let mut server = Server::at(&site.redis().url()).without_rewrites();
    let broker = site.broker().await;
    let _daemon = site.daemon();
    let before = server.done();
    load::enqueue(&*broker, std::slice::from_ref(&acme), JOBS, load::job).await;
    let is_over = |counts: &Counts| match keep {
        "1d" => counts[State::Succeeded] == JOBS as u64,
        _ => counts.iter().all(|(_, count)| count == 0),
    };
    let until = Instant::now() + PATIENCE;
    while !is_over(&broker.counts(&acme).await.expect("the broker is up")) {
        assert!(Instant::now() < until, "jobs are still under way, or still kept");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    server.done().since(&before).processor.as_secs_f64() * 1e6 / JOBS as f64
}
