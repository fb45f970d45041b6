//! The clock of a daemon's machine is wrong, and is put right while jobs run: leases and waits don't follow it.

use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use sandhog_core::job::State;
use sandhog_tests::{Backend, Clock, Daemon, Fsync, Site, all_final, binary, hog_job, settled, tenant};

const JOBS: u64 = 40;

/// By how many seconds it is ahead: it steps forward, back by two hours, and to the truth.
const STEPS: [i64; 3] = [3600, -3600, 0];

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_steps_by_an_hour_costs_no_lease() {
    let leases = "[lease]\nttl = \"4s\"\nmargin = \"1s\"\nrenew_every = \"500ms\"\n";
    let site = Site::new(Backend::Redis(Fsync::EverySecond), leases)
        .with_hog("acme", "[limits]\ntimeout = \"30s\"\nconcurrency = 16\n");
    let (broker, acme) = (site.broker().await, tenant("acme"));
    let clock = Clock::new(site.path().join("clock"));
    let mut command = Command::new(binary());
    command.arg("--config").arg(site.config()).envs(clock.env());
    let mut daemon = Daemon::start_with(command);
    for (round, seconds) in (1..).zip(STEPS) {
        // Each of them runs for longer than a lease holds.
        let jobs: Vec<_> = (0..JOBS).map(|_| hog_job("hog.sleep", r#"{"ms": 5000}"#)).collect();
        broker.enqueue(&acme, &jobs[..8]).await.expect("the broker is up");
        settled(&*broker, &acme, |counts| counts[State::Leased] == 8).await;
        clock.set_ahead(seconds);
        let off = ahead(&site) - seconds;
        assert!(off.abs() < 120, "after a step to {seconds} s ahead it is off by {off} s");
        let quick: Vec<_> = (0..JOBS).map(|_| hog_job("hog.echo", "1")).collect();
        broker.enqueue(&acme, &quick).await.expect("the broker is up");
        let counts = all_final(&*broker, &acme).await;
        assert_eq!(counts[State::Succeeded], round * (JOBS + 8 + 1), "{counts:?}");
        for job in jobs[..8].iter().chain(&quick) {
            let record = broker.job(&acme, job.id).await.expect("the broker is up").expect("it is there");
            assert_eq!(
                (record.attempts, record.expiries, record.lease.0),
                (1, 0, 1),
                "{seconds:+}: {record:?}"
            );
        }
    }
    let lost = daemon.log().iter().filter(|line| line.contains("lease was lost")).count();
    assert_eq!(lost, 0);
}

/// By how many seconds the daemon's calendar is ahead, as a handler sees it.
fn ahead(site: &Site) -> i64 {
    let shown = site.json(&["enqueue", "hog.clocks", "--wait"]);
    let wall = shown["output"]["json"]["wall"].as_u64().expect("nanoseconds");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    (i128::from(wall) - now.as_nanos() as i128).div_euclid(1_000_000_000) as i64
}
