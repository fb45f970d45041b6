//! Growth with daemons: one, two and four daemons on one Redis.

use sandhog_tests::{Backend, Daemon, Fsync, Site, tenant};

use super::{add, load};
use crate::figures::Figures;

const DAEMONS: [usize; 3] = [1, 2, 4];
const JOBS: usize = 20_000;
const ROUNDS: usize = 3;

pub(super) async fn run(figures: &mut Figures) {
    let site = Site::new(Backend::Redis(Fsync::EverySecond), "concurrency = 100\n").with_hog("acme", "");
    let (broker, acme) = (site.broker().await, [tenant("acme")]);
    let daemons: Vec<Daemon> = (0..DAEMONS[2]).map(|_| site.daemon()).collect();
    daemons.iter().for_each(|daemon| daemon.signal("STOP"));
    let mut measured = vec![Vec::new(); DAEMONS.len()];
    for _ in 0..=ROUNDS {
        for (rounds, count) in measured.iter_mut().zip(DAEMONS) {
            load::enqueue(&*broker, &acme, JOBS, load::job).await;
            rounds.push(load::work_off(&daemons[..count], &*broker, &acme, JOBS).await);
        }
    }
    for (rounds, count) in measured.iter().zip(DAEMONS) {
        // The first round only warms the daemons up.
        add(figures, &format!("growth/daemons-{count}"), "sandhog", "jobs_per_s", &rounds[1..]);
    }
}
