//! Two versions: a store that changes hands between them, and a fleet of both. See `docs/upgrading.md`.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sandhog_broker::{Broker, Enqueued, LeaseAsk, Ran, Settle, Sweep};
use sandhog_core::attempt::SettleReply;
use sandhog_core::id::{DaemonId, JobId, Kind, LeaseToken, PluginName, Revision, StateKey, UniqueKey};
use sandhog_core::job::{NewJob, State};
use sandhog_core::outcome::Usage;
use sandhog_core::reason::Reason;
use sandhog_core::settle::Settlement;
use sandhog_core::time::Timestamp;
use sandhog_tests::{
    Backend, Fsync, PATIENCE, Site, all_final, binary, finished, hog_job, previous_component,
    previous_if_possible, settled, tenant,
};
use serde_json::Value;

/// Leases of a killed daemon run out soon.
const SHORT_LEASES: &str = "[lease]\nttl = \"2s\"\nmargin = \"500ms\"\nrenew_every = \"500ms\"\n";

/// Few enough attempts that a job which fails thrice is dead, and enough that it isn't.
const TWO_ATTEMPTS: &str =
    "[limits]\nconcurrency = 8\n[retry]\nmax_attempts = 2\nbackoff = { base = \"1ms\" }\n";
const FOUR_ATTEMPTS: &str =
    "[limits]\nconcurrency = 8\n[retry]\nmax_attempts = 4\nbackoff = { base = \"1ms\" }\n";

const COUNT: &str = r#"{"counter": "runs"}"#;

/// The program of the version before; a test ends that can't have it.
macro_rules! old_or_return {
    () => {
        match previous_if_possible() {
            Some(old) => old,
            None => return,
        }
    };
}

/// Adds the plugin `hog` in the version that both can run, with the kinds that are used here.
fn with_hog(site: Site, extra: &str) -> Site {
    let kinds = ["count", "echo", "fail", "note", "sleep", "swap"].map(|kind| format!("\"hog.{kind}\""));
    let plugin = format!("kinds = [{}]\nqueue = \"hogs\"\n\n{extra}", kinds.join(", "));
    site.with_plugin("hog", "acme", &previous_component("hog"), &plugin)
}

/// Enqueues with a command, and returns the ids of the jobs that are there.
fn enqueue(site: &Site, program: &Path, arguments: &[&str]) -> Vec<String> {
    let printed = site.json_of(program, &[&["enqueue"], arguments].concat());
    let ids = printed["ids"].as_array().expect("ids");
    ids.iter().map(|id| id.as_str().expect("an id").to_owned()).collect()
}

/// Enqueues as many jobs of a kind by one command.
fn enqueue_many(site: &Site, program: &Path, kind: &str, payload: &str, count: usize) -> Vec<String> {
    let file = site.path().join(format!("jobs-{}", rand::random::<u64>()));
    std::fs::write(&file, format!("{payload}\n").repeat(count)).expect("a file");
    let ids = enqueue(site, program, &[kind, "--bulk", file.to_str().expect("a path in UTF-8")]);
    assert_eq!(ids.len(), count);
    ids
}

/// How many jobs are in a state, as a command says.
fn count_of(site: &Site, program: &Path, state: &str) -> u64 {
    let printed = site.json_of(program, &["jobs", "--limit", "1"]);
    printed["tenants"][0]["counts"][state].as_u64().expect("a count")
}

/// Waits until a command says of the counts what is wanted.
async fn until(site: &Site, program: &Path, wanted: impl Fn(&dyn Fn(&str) -> u64) -> bool) {
    let until = Instant::now() + PATIENCE;
    loop {
        let printed = site.json_of(program, &["jobs", "--limit", "1"]);
        let counts = &printed["tenants"][0]["counts"];
        if wanted(&|state| counts[state].as_u64().expect("a count")) {
            return;
        }
        assert!(Instant::now() < until, "the jobs are still {counts}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn counter(broker: &dyn Broker, plugin: &str, key: &str) -> String {
    let (plugin, key) = (PluginName::parse(plugin).expect("valid"), StateKey::parse(key).expect("valid"));
    let value = broker.state(&tenant("acme"), &plugin, &key).await.expect("the broker is up");
    String::from_utf8(value.unwrap_or_default()).expect("text")
}

fn job_id(text: &str) -> JobId {
    JobId::parse(text).expect("an id")
}

/// What `sandhog usage` sums up.
fn spent(site: &Site, program: &Path) -> Value {
    site.json_of(program, &["usage"])["total"].clone()
}

/// Asserts that whatever the one version told, the other tells as well. It may tell more.
fn tells_all_of(later: &Value, before: &Value, of: &str) {
    match (later, before) {
        (Value::Object(later), Value::Object(before)) => {
            for (key, value) in before {
                tells_all_of(later.get(key).unwrap_or(&Value::Null), value, &format!("{of}.{key}"));
            }
        }
        _ => assert_eq!(later, before, "{of}"),
    }
}

/// The version before ran jobs of every sort, and was killed in the midst of them. This one finds each as it was, and runs
/// what is left, once each.
async fn a_store_is_taken_over(backend: Backend) {
    const MANY: usize = 2_000;
    let (old, acme) = (old_or_return!(), tenant("acme"));
    let site = with_hog(Site::new(backend, SHORT_LEASES), TWO_ATTEMPTS);
    let by_old = |arguments: &[&str]| enqueue(&site, &old, arguments).remove(0);

    // What is over.
    let mut daemon = site.daemon_of(&old);
    let note = by_old(&["hog.note", r#"{"text": "kept"}"#]);
    let dead = by_old(&["hog.fail", r#"{"transient": {"attempts": 2}}"#]);
    enqueue_many(&site, &old, "hog.count", COUNT, 20);
    until(&site, &old, |of| of("succeeded") == 22 && of("dead") == 1).await;

    // What waits for long, and what is under way when the daemon is killed.
    let later = by_old(&["hog.count", COUNT, "--delay", "1h"]);
    let later_unique = by_old(&["hog.count", COUNT, "--delay", "1h", "--unique-key", "one"]);
    let sleeper = by_old(&["hog.sleep", r#"{"ms": 4000}"#, "--priority", "200"]);
    until(&site, &old, |of| of("leased") == 1).await;
    enqueue_many(&site, &old, "hog.count", COUNT, MANY);
    until(&site, &old, |of| of("succeeded") > 200).await;
    daemon.kill();
    let cancelled = by_old(&["hog.count", COUNT, "--delay", "2h"]);
    site.json_of(&old, &["job", "cancel", &cancelled]);
    // The one that comes later is met by what the other one has left.
    let first = by_old(&["hog.swap", r#"{"key": "who", "value": 1}"#, "--priority", "220"]);
    by_old(&["hog.swap", r#"{"key": "who", "value": 2}"#, "--priority", "10"]);
    let leased = count_of(&site, &old, "leased");
    assert!(leased >= 1, "the daemon held leases when it was killed");
    let shown = [&note, &dead, &later, &later_unique, &sleeper, &cancelled, &first];
    let told = shown.map(|id| site.json_of(&old, &["job", "show", id]));
    let spent_before = spent(&site, &old);

    // All of that is told by this version as it was.
    for (id, before) in shown.iter().zip(&told) {
        tells_all_of(&site.json(&["job", "show", id]), before, id);
    }
    tells_all_of(&spent(&site, &binary()), &spent_before, "usage");
    let broker = site.broker().await;
    assert_eq!(counter(&*broker, "hog", "note").await, "\"kept\"");
    let unique = NewJob {
        kind: Kind::parse("hog.count").expect("valid"),
        unique_key: Some(UniqueKey::parse("one").expect("valid")),
        ..hog_job("hog.count", COUNT)
    };
    let answer = broker.enqueue(&acme, std::slice::from_ref(&unique)).await.expect("the broker is up");
    assert_eq!(answer, [Enqueued::Duplicate(job_id(&later_unique))], "its key is held");

    // And run, once each.
    let site = with_hog(site, FOUR_ATTEMPTS);
    let _daemon = site.daemon();
    site.json(&["job", "redrive", &dead]);
    site.json(&["job", "run-now", &later, &later_unique]);
    let counts = all_final(&*broker, &acme).await;
    let ran = MANY + 22;
    // Beside what counts: a note and its echo, a job that failed first, one that slept, and two that swapped.
    let expected = [(State::Succeeded, ran as u64 + 6), (State::Dead, 0), (State::Cancelled, 1)];
    for (state, count) in expected {
        assert_eq!(counts[state], count, "{state}: {counts:?}");
    }
    assert_eq!(counter(&*broker, "hog", "runs").await, ran.to_string());
    assert_eq!(counter(&*broker, "hog", "who").await, "1", "the higher priority went first");
    let sleeper = finished(&*broker, &acme, job_id(&sleeper)).await;
    assert_eq!((sleeper.state, sleeper.expiries), (State::Succeeded, 1), "{sleeper:?}");
    let redriven = finished(&*broker, &acme, job_id(&dead)).await;
    assert_eq!((redriven.state, redriven.attempts), (State::Succeeded, 3), "{redriven:?}");
    let answer = broker.enqueue(&acme, std::slice::from_ref(&unique)).await.expect("the broker is up");
    assert_eq!(answer, [Enqueued::Stored], "its key is free again");
    finished(&*broker, &acme, unique.id).await;
    let spent = spent(&site, &binary());
    // The note, its echo, the swaps, the sleeper, the failures (two before, two after) and the success after them.
    assert_eq!(
        spent["attempts"],
        ran + 1 + 2 + 2 + 1 + 5,
        "no run is counted twice, and none is missing: {spent}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_of_the_version_before_is_taken_over() {
    a_store_is_taken_over(Backend::Redis(Fsync::EverySecond)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_the_version_before_is_taken_over() {
    a_store_is_taken_over(Backend::Embedded).await;
}

/// The version before keeps no count of what waits, and of how long that is. Its jobs are leased in answers of the same length
/// all the same.
#[tokio::test(flavor = "multi_thread")]
async fn long_payloads_of_the_version_before_come_a_few_at_a_time() {
    let old = old_or_return!();
    const LENGTH: usize = 600 << 10;
    const COUNT: usize = 20;
    let site = with_hog(Site::new(Backend::Redis(Fsync::EverySecond), ""), "");
    let payload = format!("\"{}\"", "x".repeat(LENGTH));
    enqueue_many(&site, &old, "hog.echo", &payload, COUNT);
    let (broker, acme) = (site.broker().await, tenant("acme"));
    broker.sweep(&acme, Sweep::new(5)).await.expect("the broker is up");
    let queues = [(hog_job("hog.echo", "").queue, 100)];
    let (mut ids, mut answers) = (BTreeSet::new(), 0);
    while ids.len() < COUNT {
        let ask = LeaseAsk::new(&acme, &queues, Duration::from_secs(60));
        let leases = broker.lease(ask).await.expect("the broker is up").leases;
        let length: usize = leases.iter().map(|lease| lease.job.payload.len()).sum();
        assert!(length as u64 <= LeaseAsk::BYTES.0 && !leases.is_empty(), "{length} bytes");
        ids.extend(leases.iter().map(|lease| lease.token.job));
        answers += 1;
    }
    assert_eq!(answers, 4, "each carries as much as it may");
}

/// What a file of this version holds is nothing for the version before: it says so, and leaves the file alone.
#[tokio::test(flavor = "multi_thread")]
async fn the_version_before_refuses_a_file_of_this_one() {
    let (old, acme) = (old_or_return!(), tenant("acme"));
    let site = with_hog(Site::new(Backend::Embedded, SHORT_LEASES), "");
    let ids = enqueue_many(&site, &binary(), "hog.count", COUNT, 20);
    for arguments in [&["jobs"][..], &["enqueue", "hog.count", COUNT], &["run"], &["job", "cancel", &ids[0]]]
    {
        let output = site.sandhog_of(&old, arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains("use the newer program"), "{arguments:?}: {said}");
    }
    let _daemon = site.daemon();
    let broker = site.broker().await;
    assert_eq!(all_final(&*broker, &acme).await[State::Succeeded], 20);
    assert_eq!(counter(&*broker, "hog", "runs").await, "20");
}

/// A site with a plugin whose kind has a lane, as it may have fewer runs than its tenant, and one without.
fn site_with_lane() -> Site {
    let hog = previous_component("hog");
    Site::new(Backend::Redis(Fsync::EverySecond), &format!("{SHORT_LEASES}[tenants.acme]\nconcurrency = 8\n"))
        .with_plugin("wide", "acme", &hog, "kinds = [\"hog.count\", \"hog.sleep\"]\nqueue = \"hogs\"\n")
        .with_plugin(
            "narrow",
            "acme",
            &hog,
            "kinds = [\"hog.swap\"]\nqueue = \"hogs\"\n[limits]\nconcurrency = 1\n",
        )
}

/// The token of a job that is leased by hand, for so long.
async fn lease(broker: &dyn Broker, job: &NewJob, ttl: Duration) -> LeaseToken {
    let (acme, queues) = (tenant("acme"), [(job.queue.clone(), 1)]);
    let ask = LeaseAsk { suspects: 0, ..LeaseAsk::new(&acme, &queues, ttl) };
    let leased = broker.lease(ask).await.expect("the broker is up");
    let token = leased.leases.first().expect("a job is ready").token;
    assert_eq!(token.job, job.id);
    token
}

/// Redis as this version leaves it, with all that the one before doesn't know: that one goes on with what isn't in a lane,
/// and leaves what is in one for this version. It may cancel it, and then it never runs.
#[tokio::test(flavor = "multi_thread")]
async fn the_version_before_goes_on_with_a_redis_of_this_one() {
    let (old, acme) = (old_or_return!(), tenant("acme"));
    let site = site_with_lane();
    let broker = site.broker().await;
    let swap = |value: u32| format!(r#"{{"key": "swapped-{value}", "value": {value}}}"#);

    // This version at work, until it is killed. Its lanes stay.
    let mut daemon = site.daemon();
    let ran = enqueue_many(&site, &binary(), "hog.count", COUNT, 50).len();
    enqueue(&site, &binary(), &["hog.swap", &swap(0)]);
    settled(&*broker, &acme, |counts| counts[State::Succeeded] == 51).await;
    daemon.kill();
    // One on which its host failed, one that is leased by nobody, one that is a suspect, and others in a lane.
    let [faulted, robbed, suspect] = [0; 3].map(|_| hog_job("hog.count", COUNT));
    broker.enqueue(&acme, std::slice::from_ref(&faulted)).await.expect("the broker is up");
    let token = lease(&*broker, &faulted, Duration::from_secs(60)).await;
    let plugin = PluginName::parse("wide").expect("valid");
    let run = Ran::new(
        DaemonId::from_parts(Timestamp::from_millis(1), 1),
        plugin,
        Revision::from_sha256([0; 32]),
        Usage::default(),
    );
    let release = Settlement::Release { after: Duration::from_secs(1), reason: Reason::HostFault };
    let settle = Settle::of_run(token, run, release);
    let reply = broker.settle(&acme, std::slice::from_ref(&settle)).await.expect("the broker is up");
    assert_eq!(reply, [SettleReply::Applied]);
    for (job, is_swept) in [(&suspect, true), (&robbed, false)] {
        broker.enqueue(&acme, std::slice::from_ref(job)).await.expect("the broker is up");
        lease(&*broker, job, Duration::from_millis(1)).await;
        if is_swept {
            until_taken_back(&*broker, job).await;
        }
    }
    let bulk = enqueue_many(&site, &binary(), "hog.count", COUNT, 100).len();
    let in_lane: Vec<String> =
        (1..=5).flat_map(|value| enqueue(&site, &binary(), &["hog.swap", &swap(value)])).collect();

    let mut daemon = site.daemon_of(&old);
    // All but the suspect and what is in the lane of its kind.
    let waits = in_lane.len() as u64 + 1;
    settled(&*broker, &acme, |counts| counts.unfinished() == waits).await;
    let counted = ran + bulk + 2;
    assert_eq!(counter(&*broker, "wide", "runs").await, counted.to_string());
    assert_eq!(finished(&*broker, &acme, faulted.id).await.state, State::Succeeded);
    let robbed = finished(&*broker, &acme, robbed.id).await;
    assert_eq!((robbed.state, robbed.expiries), (State::Succeeded, 1), "{robbed:?}");
    // The version before can't show a job that keeps a history, such as the suspect.
    assert_eq!(count_of(&site, &binary(), "ready"), waits, "it leaves them");
    site.json_of(&old, &["job", "cancel", &in_lane[0]]);
    daemon.signal("TERM");
    daemon.wait();

    let _daemon = site.daemon();
    let counts = all_final(&*broker, &acme).await;
    assert_eq!((counts[State::Cancelled], counts[State::Dead]), (1, 0), "{counts:?}");
    assert_eq!(counter(&*broker, "wide", "runs").await, (counted + 1).to_string());
    let cancelled =
        broker.job(&acme, job_id(&in_lane[0])).await.expect("the broker is up").expect("it is kept");
    assert_eq!((cancelled.state, cancelled.attempts), (State::Cancelled, 0), "{cancelled:?}");
    for (value, expected) in [(0, "0"), (1, ""), (2, "2"), (3, "3"), (4, "4"), (5, "5")] {
        assert_eq!(counter(&*broker, "narrow", &format!("swapped-{value}")).await, expected);
    }
}

/// Waits until a lease that has run out is taken back.
async fn until_taken_back(broker: &dyn Broker, job: &NewJob) {
    let (acme, until) = (tenant("acme"), Instant::now() + PATIENCE);
    loop {
        broker.sweep(&acme, Sweep::new(5)).await.expect("the broker is up");
        let record = broker.job(&acme, job.id).await.expect("the broker is up").expect("it is there");
        if record.expiries > 0 {
            return;
        }
        assert!(Instant::now() < until, "the lease doesn't run out: {record:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Daemons and commands of both versions at once, and each daemon killed once: every job succeeds, and each has counted once.
#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_of_both_versions_loses_nothing_and_repeats_no_effect() {
    const AT_ONCE: usize = 300;
    const TIMES: usize = 6;
    let (programs, acme) = ([old_or_return!(), binary()], tenant("acme"));
    // No plugin has a limit of its own: what is in a lane, the version before leaves there.
    let config = format!("{SHORT_LEASES}[tenants.acme]\nconcurrency = 8\n");
    let site = Arc::new(with_hog(Site::new(Backend::Redis(Fsync::EverySecond), &config), ""));
    let broker = site.broker().await;
    let mut daemons = programs.each_ref().map(|program| site.daemon_of(program));
    let producers: Vec<_> = programs
        .iter()
        .cloned()
        .map(|program| {
            let site = Arc::clone(&site);
            tokio::task::spawn_blocking(move || {
                for _ in 0..TIMES {
                    enqueue_many(&site, &program, "hog.count", COUNT, AT_ONCE);
                    enqueue(&site, &program, &["hog.note", r#"{"text": "both"}"#]);
                    enqueue(&site, &program, &["hog.count", COUNT, "--delay", "1s", "--priority", "200"]);
                }
            })
        })
        .collect();
    let total = (programs.len() * TIMES * (AT_ONCE + 3)) as u64;
    for nth in 0..daemons.len() {
        let so_far = total * (nth as u64 + 1) / 4;
        settled(&*broker, &acme, |counts| counts[State::Succeeded] >= so_far).await;
        daemons[nth].kill();
        // The other one goes on alone.
        settled(&*broker, &acme, |counts| counts[State::Succeeded] >= so_far + total / 8).await;
        daemons[nth] = site.daemon_of(&programs[nth]);
    }
    for producer in producers {
        producer.await.expect("all commands succeed");
    }
    let counts = all_final(&*broker, &acme).await;
    assert_eq!(counts[State::Succeeded], total, "{counts:?}");
    let counted = programs.len() * TIMES * (AT_ONCE + 1);
    assert_eq!(counter(&*broker, "hog", "runs").await, counted.to_string());
}

/// A tenant's own user serves both versions as long as it has the rules of the one before; with those of this one, this one alone.
#[tokio::test(flavor = "multi_thread")]
async fn a_tenants_user_of_the_version_before_serves_both() {
    let (old, new) = (old_or_return!(), binary());
    let own = "[tenants.acme.broker]\npassword = { file = \"acme.password\" }\n";
    let mut site = with_hog(Site::new(Backend::Redis(Fsync::EverySecond), own), "");
    site.write("acme.password", b"secret\n");
    let client = redis::Client::open(site.redis().url()).expect("the url is right");
    let mut server = client.get_connection().expect("the server is up");
    let mut allow = |program: &Path| {
        let printed = site.json_of(program, &["tenant", "acl", "acme"]);
        // The version before has one user a tenant, and this one a second for producers.
        let workers = printed["users"].as_array().into_iter().flatten().find(|user| user["role"] == "worker");
        let words = workers.unwrap_or(&printed)["command"].as_array().expect("words");
        let words: Vec<&str> = words.iter().map(|word| word.as_str().expect("a word")).collect();
        redis::Cmd::new().arg(&words).query::<()>(&mut server).expect("the rules are right");
    };
    let runs = |program: &Path| {
        let mut daemon = site.daemon_of(program);
        let printed = site.json_of(program, &["enqueue", "hog.echo", "1", "--wait", "--timeout", "3m"]);
        assert_eq!(printed["state"], "succeeded", "{printed}");
        daemon.signal("TERM");
        assert!(daemon.wait().success());
    };
    allow(&old);
    runs(&old);
    runs(&new);
    allow(&new);
    runs(&new);
    let refused = site.sandhog_of(&old, &["enqueue", "hog.echo", "1"]);
    assert!(!refused.status.success(), "it calls no functions: {refused:?}");
}
