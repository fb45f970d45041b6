//! Schedules, fired by real daemons: each nominal time once, whatever becomes of the daemons.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Instant;

use sandhog_broker::{Broker, Query};
use sandhog_core::id::{JobId, TenantId};
use sandhog_core::job::State;
use sandhog_tests::{Backend, Clock, Daemon, Fsync, PATIENCE, Site, binary, settled, tenant};
use serde_json::Value;

/// How many seconds the schedule of a second is watched; more are asked for by hand.
fn seconds() -> u64 {
    std::env::var("SANDHOG_TEST_SCHEDULE_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(10)
}

/// The nominal time of a scheduled job, in milliseconds: what its id begins with.
fn nominal(job: JobId) -> u64 {
    u64::try_from(job.as_u128() >> 80).expect("48 bits")
}

/// The nominal times of all jobs of a tenant, in order.
async fn nominal_times(broker: &dyn Broker, of: &TenantId) -> Vec<u64> {
    let mut all = Vec::new();
    for state in State::ALL {
        let mut query = Query::of(state, Query::LIMIT_MAX);
        loop {
            let page = broker.jobs(of, query.clone()).await.expect("the broker is up");
            all.extend(page.jobs.iter().map(|job| nominal(job.id)));
            query.after = page.next;
            if query.after.is_none() {
                break;
            }
        }
    }
    all.sort_unstable();
    all
}

/// The document of the site's only schedule, once it is as is wanted.
fn once_so(site: &Site, wanted: impl Fn(&Value) -> bool) -> Value {
    let until = Instant::now() + PATIENCE;
    loop {
        let listed = site.json(&["schedules"]);
        let schedule = &listed["schedules"][0];
        if wanted(schedule) {
            return schedule.clone();
        }
        assert!(Instant::now() < until, "it is still {listed}");
    }
}

/// Two daemons, of which one is killed after a third of the time: no second is missed, and none is there twice.
async fn each_second_makes_one_job(backend: Backend) {
    let schedule =
        "[schedules.tick]\nevery = \"1s\"\nkind = \"hog.echo\"\npayload = \"1\"\noverlap = \"allow\"\n";
    let site = Site::new(backend, "").with_hog("acme", schedule);
    let (broker, acme) = (site.broker().await, tenant("acme"));
    let (mut first, _second) = (site.daemon(), site.daemon());
    let seconds = seconds();
    settled(&*broker, &acme, |counts| counts.total() >= seconds / 3).await;
    first.kill();
    settled(&*broker, &acme, |counts| counts.total() >= seconds).await;
    let paused = site.json(&["schedule", "pause", "tick", "--note", "enough", "--by", "the test"]);
    assert_eq!(paused["done"], "paused");
    let times = nominal_times(&*broker, &acme).await;
    let from = times[0];
    let expected: Vec<u64> = (0..times.len() as u64).map(|n| from + 1000 * n).collect();
    assert_eq!(times, expected);
    let shown = &site.json(&["schedules"])["schedules"][0];
    assert_eq!((&shown["missed"], &shown["skipped"]), (&0.into(), &0.into()));
    assert_eq!(shown["fired"], times.len());
    assert_eq!((&shown["paused"]["by"], &shown["paused"]["note"]), (&"the test".into(), &"enough".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_daemons_on_redis_of_which_one_is_killed_make_one_job_each_second() {
    each_second_makes_one_job(Backend::Redis(Fsync::EverySecond)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_daemons_on_the_embedded_broker_of_which_one_is_killed_make_one_job_each_second() {
    each_second_makes_one_job(Backend::Embedded).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_lasts_over_deploys_and_what_has_passed_meanwhile_is_not_caught_up() {
    let schedule = |every: &str| {
        format!(
            "[schedules.tick]\nevery = \"{every}\"\nkind = \"hog.echo\"\npayload = \"1\"\noverlap = \"allow\"\n"
        )
    };
    let site = Site::new(Backend::Embedded, "").with_hog("acme", &schedule("1s"));
    let (broker, acme) = (site.broker().await, tenant("acme"));
    let _daemon = site.daemon();
    settled(&*broker, &acme, |counts| counts.total() >= 2).await;
    site.json(&["schedule", "pause", "tick"]);
    let before = nominal_times(&*broker, &acme).await;
    // A deploy of another definition, which takes longer than the interval.
    let site = site.with_hog("acme", &schedule("2s"));
    assert!(site.sandhog(&["reload"]).status.success());
    let shown = once_so(&site, |schedule| schedule["every_ms"] == 2000);
    assert!(!shown["paused"].is_null() && shown["fired"] == before.len(), "{shown}");
    assert_eq!(nominal_times(&*broker, &acme).await, before);
    let again = site.sandhog(&["schedule", "resume", "tick"]);
    assert!(again.status.success());
    settled(&*broker, &acme, |counts| counts.total() >= before.len() as u64 + 2).await;
    let all = nominal_times(&*broker, &acme).await;
    assert!(all[before.len()..].iter().all(|at| at % 2000 == 0), "{all:?}");
    // One that its file has no more is removed, by a deploy as well.
    let site = site.with_hog("acme", "");
    assert!(site.sandhog(&["reload"]).status.success());
    let until = Instant::now() + PATIENCE;
    while site.json(&["schedules"])["schedules"].as_array().is_some_and(|left| !left.is_empty()) {
        assert!(Instant::now() < until, "it is still there");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_time_is_skipped_while_the_run_before_goes_on() {
    let schedule = "[schedules.slow]\nevery = \"1s\"\nkind = \"hog.sleep\"\npayload = '{\"ms\": 2500}'\n";
    let site = Site::new(Backend::Redis(Fsync::EverySecond), "").with_hog("acme", schedule);
    let (broker, acme) = (site.broker().await, tenant("acme"));
    let _daemon = site.daemon();
    let shown = once_so(&site, |schedule| schedule["skipped"].as_u64() >= Some(4));
    let counts = broker.counts(&acme).await.expect("the broker is up");
    assert!(counts.unfinished() <= 1 && shown["missed"] == 0, "{counts:?} {shown}");
    let last = shown["last"].as_array().expect("a list");
    assert!(last.iter().any(|past| past["remark"] == "skipped: the run before wasn't finished"), "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn after_hours_without_a_daemon_the_latest_time_is_caught_up() {
    let schedule = "[schedules.tick]\nevery = \"10m\"\nkind = \"hog.echo\"\npayload = \"1\"\n";
    let site = Site::new(Backend::Embedded, "").with_hog("acme", schedule);
    let (broker, acme) = (site.broker().await, tenant("acme"));
    let clock = Clock::new(site.path().join("clock"));
    let start = || {
        let mut command = Command::new(binary());
        command.arg("--config").arg(site.config()).envs(clock.env());
        Daemon::start_with(command)
    };
    let mut daemon = start();
    once_so(&site, |schedule| !schedule.is_null());
    assert_eq!(nominal_times(&*broker, &acme).await, [] as [u64; 0]);
    daemon.kill();
    clock.set_ahead(3 * 3600);
    let mut daemon = start();
    let said = daemon.has_said("scheduled times missed");
    assert!(said.contains("\"count\":17") || said.contains("\"count\":16"), "{said}");
    settled(&*broker, &acme, |counts| counts[State::Succeeded] == 1).await;
    let times = nominal_times(&*broker, &acme).await;
    assert_eq!(times.len(), 1);
    assert_eq!(times[0] % 600_000, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schedule_is_added_run_and_filled_in_by_command() {
    let site = Site::new(Backend::Redis(Fsync::EverySecond), "").with_hog("acme", "");
    let (broker, acme) = (site.broker().await, tenant("acme"));
    let _daemon = site.daemon();
    let add = [
        "schedule",
        "add",
        "daily",
        "--kind",
        "hog.echo",
        "--cron",
        "0 9 * * *",
        "--timezone",
        "Europe/Berlin",
    ];
    assert_eq!(site.json(&add)["done"], "added");
    let ran = site.json(&["schedule", "run", "daily"]);
    let id: JobId = ran["jobs"][0].as_str().expect("an id").parse().expect("a job's id");
    assert_eq!(sandhog_tests::finished(&*broker, &acme, id).await.state, State::Succeeded);
    let fill = ["schedule", "backfill", "daily", "--from", "2026-03-27", "--to", "2026-03-31"];
    let filled: BTreeSet<String> = site.json(&fill)["jobs"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|id| id.as_str().expect("an id").to_owned())
        .collect();
    let times: Vec<u64> =
        filled.iter().map(|id| nominal(id.parse().expect("an id")) / 3_600_000 % 24).collect();
    assert_eq!(times, [8, 8, 7, 7], "nine in Berlin, before and after the clock has changed");
    // Those that are there stay as they are.
    site.json(&fill);
    settled(&*broker, &acme, |counts| counts[State::Succeeded] == 5).await;
    let shown = site.json(&["schedule", "show", "daily"]);
    assert_eq!((&shown["fired"], &shown["by_hand"]), (&0.into(), &9.into()));
    assert!(
        site.sandhog(&["schedule", "add", "tick", "--kind", "hog.echo", "--every", "1s"]).status.success()
    );
    settled(&*broker, &acme, |counts| counts[State::Succeeded] >= 7).await;
    assert!(site.sandhog(&["schedule", "remove", "tick"]).status.success());
    let listed = site.json(&["schedules"]);
    assert_eq!(listed["schedules"].as_array().map(Vec::len), Some(1), "{listed}");
}
