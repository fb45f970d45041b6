//! Redis goes away in the middle of work, and comes back.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};
use std::time::Duration;

use sandhog_core::id::{PluginName, StateKey};
use sandhog_core::job::State;
use sandhog_tests::{Backend, Daemon, Fsync, Site, all_final, binary, hog_job, settled, tenant};

const JOBS: u64 = 2_000;

/// Longer than any lease holds, so that every run that was under way has to be stopped and run again.
const GONE_FOR: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn redis_gone_for_half_a_minute_costs_nothing_but_time() {
    let leases = "[lease]\nttl = \"10s\"\nmargin = \"2s\"\nrenew_every = \"2s\"\n";
    let mut site =
        Site::new(Backend::Redis(Fsync::Always), leases).with_hog("acme", "[limits]\nconcurrency = 16");
    let (broker, acme) = (site.broker().await, tenant("acme"));
    let mut jobs: Vec<_> = (0..JOBS).map(|_| hog_job("hog.count", r#"{"counter": "runs"}"#)).collect();
    jobs.extend((0..8).map(|_| hog_job("hog.sleep", r#"{"ms": 3000}"#)));
    let mut daemon = site.daemon();
    broker.enqueue(&acme, &jobs).await.expect("the broker is up");
    settled(&*broker, &acme, |counts| counts[State::Succeeded] > 100).await;

    site.redis().kill();
    daemon.wait_for("waiting for the broker");
    // The outage itself is what is under test: its length, not an event, is what matters.
    tokio::time::sleep(GONE_FOR).await;
    site.redis().restart();
    daemon.wait_for("the broker is back");

    let more = hog_job("hog.count", r#"{"counter": "runs"}"#);
    while broker.enqueue(&acme, std::slice::from_ref(&more)).await.is_err() {}
    let counts = all_final(&*broker, &acme).await;
    assert_eq!(counts[State::Succeeded], JOBS + 9, "{counts:?}");
    let (hog, runs) = (PluginName::parse("hog").expect("valid"), StateKey::parse("runs").expect("valid"));
    let counted = broker.state(&acme, &hog, &runs).await.expect("the broker is up");
    assert_eq!(counted, Some((JOBS + 1).to_string().into_bytes()));
    let said = daemon.log().iter().filter(|line| line.contains("waiting for the broker;")).count();
    assert!(said < 10, "the log isn't flooded: {said} lines");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_starts_before_its_server_waits_for_it_and_commands_do_not() {
    let mut site = Site::new(Backend::Redis(Fsync::EverySecond), "").with_hog("acme", "");
    site.redis().kill();
    let mut command = Command::new(binary());
    command.arg("--config").arg(site.config());
    let mut daemon = Daemon::start_until(command, "waiting for the broker");
    let refused = site.sandhog(&["enqueue", "hog.echo", "1"]);
    assert_eq!(refused.status.code(), Some(1));
    site.redis().restart();
    daemon.wait_for("ready");
    assert_eq!(site.json(&["enqueue", "hog.echo", "1", "--wait"])["state"], State::Succeeded.slug());
    let said = daemon.log().iter().filter(|line| line.contains("waiting for the broker")).count();
    assert_eq!(said, 1, "once");

    // Told to stop while it waits, it does.
    site.redis().kill();
    let mut command = Command::new(binary());
    command.arg("--config").arg(site.config());
    let mut other = Daemon::start_until(command, "waiting for the broker");
    other.signal("HUP");
    other.signal("TERM");
    assert_eq!(other.wait().code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_is_refused_is_not_waited_for() {
    let site = Site::new(Backend::Redis(Fsync::EverySecond), "").with_hog("acme", "");
    let text = fs::read_to_string(site.config()).expect("the site's file");
    site.write("sandhog.toml", text.replace("redis://", "redis://nobody:wrong@").as_bytes());
    let output = site.sandhog(&["run"]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && stderr.contains("the login was refused"), "{stderr}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_a_job_outlives_the_outage_and_who_enqueues_can_repeat_it() {
    let mut site = Site::new(Backend::Redis(Fsync::Always), "").with_hog("acme", "");
    let mut waits = Command::new(binary())
        .arg("--config")
        .arg(site.config())
        .args(["enqueue", "hog.echo", "1", "--wait"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the command can be started");
    let mut out = BufReader::new(waits.stdout.take().expect("it is piped"));
    let mut err = BufReader::new(waits.stderr.take().expect("it is piped"));
    let mut id = String::new();
    out.read_line(&mut id).expect("it tells the id, so the job is stored");
    site.redis().kill();
    let mut told = String::new();
    while !told.contains("can't be looked up") {
        assert!(err.read_line(&mut told).expect("it speaks on") > 0, "it gave up: {told}");
    }

    const OTHER: &str = "01ARZ3NDEKTSV4RRFFQ69G5FAV";
    let enqueue = ["enqueue", "hog.echo", "2", "--id", OTHER];
    let output = site.sandhog(&enqueue);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    for part in [format!("unknown whether job {OTHER} is stored"), format!("--id {OTHER}")] {
        assert!(said.contains(&part), "{part}: {said}");
    }

    site.redis().restart();
    let _daemon = site.daemon();
    for _ in 0..2 {
        assert_eq!(site.json(&enqueue)["ids"][0], OTHER);
    }
    let mut rest = String::new();
    out.read_to_string(&mut rest).expect("it is text");
    assert!(waits.wait().expect("it ends").success(), "{rest}");
    assert!(rest.starts_with("succeeded after"), "{id}{rest}");
    let (broker, acme) = (site.broker().await, tenant("acme"));
    assert_eq!(all_final(&*broker, &acme).await[State::Succeeded], 2);
}
