//! Deploys while jobs run: nobody notices the good ones, and the bad ones change nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Instant;

use sandhog_broker::Broker;
use sandhog_core::id::{DaemonId, JobId, PluginName, StateKey, TenantId};
use sandhog_core::job::{NewJob, State};
use sandhog_core::reason::Reason;
use sandhog_core::trial::{self, TrialReport};
use sandhog_tests::{
    Backend, Daemon, ECHO, Fsync, PATIENCE, SPIN, Site, TRAP, all_final, burn, component, component_of,
    finished, hog_job, tenant, with_section,
};
use serde_json::Value;

const DEPLOYS: usize = 10;
const JOBS_A_DEPLOY: usize = 100;

/// The kinds of the plugin `hog` that these tests use.
const KINDS: [&str; 3] = ["hog.count", "hog.echo", "hog.sleep"];

/// What a job that is to outlive a deploy does.
const LONG: &str = r#"{"ms": 15000}"#;

fn hog() -> Vec<u8> {
    fs::read(component("hog")).expect("it was built")
}

pub(crate) fn echo(comment: &str) -> Vec<u8> {
    component_of(ECHO, comment)
}

pub(crate) fn revision(wasm: &[u8]) -> String {
    sandhog_engine::revision_of(wasm).to_string()
}

pub(crate) fn echo_job() -> NewJob {
    hog_job("a.run", "7")
}

/// Has the daemon read its configuration again; returns the exit code and what came of it.
pub(crate) fn reload(site: &Site) -> (Option<i32>, Value) {
    let Output { status, stdout, stderr } = site.sandhog(&["--json", "reload"]);
    let outcome = serde_json::from_slice(&stdout);
    (status.code(), outcome.unwrap_or_else(|_| panic!("no outcome: {}", String::from_utf8_lossy(&stderr))))
}

/// Has it read again, and sees that this revision of a plugin is in force.
pub(crate) fn deployed(site: &Site, name: &str, wasm: &[u8]) {
    let (code, outcome) = reload(site);
    assert_eq!(code, Some(0), "{outcome}");
    assert_eq!(site.standing(name)["revision"], revision(wasm), "{outcome}");
}

/// The revision that a job ran on, once it has succeeded.
pub(crate) async fn ran_on(broker: &dyn Broker, acme: &TenantId, job: &NewJob) -> String {
    let record = finished(broker, acme, job.id).await;
    assert_eq!(record.state, State::Succeeded, "{record:?}");
    record.revision.expect("it ran").to_string()
}

/// Enqueues a job and returns the revision that it ran on.
pub(crate) async fn runs_on(broker: &dyn Broker, acme: &TenantId, job: NewJob) -> String {
    broker.enqueue(acme, std::slice::from_ref(&job)).await.expect("the broker is up");
    ran_on(broker, acme, &job).await
}

/// A thousand jobs, ten deploys of which two are broken, a rollback.
async fn nobody_notices(backend: Backend) {
    let site = Site::new(backend, "");
    let first = with_section(&hog(), "0");
    site.plugin("hog", &first, &KINDS, "[limits]\nconcurrency = 32");
    let (broker, acme) = (site.broker().await, tenant("acme"));
    let mut daemon = site.daemon();
    let mut good = vec![first];
    let mut long: Vec<(NewJob, String)> = Vec::new();
    let mut jobs: Vec<NewJob> = Vec::new();
    for deploy in 1..=DEPLOYS {
        let in_force = site.standing("hog")["revision"].as_str().expect("a revision").to_owned();
        let outlives = hog_job("hog.sleep", LONG);
        let quick = || (1..JOBS_A_DEPLOY).map(|_| hog_job("hog.count", r#"{"counter": "runs"}"#));
        let batch: Vec<NewJob> = std::iter::once(outlives.clone()).chain(quick()).collect();
        broker.enqueue(&acme, &batch).await.expect("the broker is up");
        jobs.extend(batch);
        is_leased(&*broker, &acme, outlives.id).await;
        long.push((outlives, in_force));
        match deploy {
            4 => refused(&site, b"\0asm\x0d\0\x01\0garbage", "can't be compiled"),
            7 => refused(&site, b"(component)", "exports no function `handle`"),
            _ => {
                let next = with_section(&hog(), &deploy.to_string());
                site.component("hog", &next);
                deployed(&site, "hog", &next);
                good.push(next);
            }
        }
    }
    let back = site.json(&["plugin", "rollback", "hog"]);
    let (last, before) = (revision(&good[good.len() - 1]), revision(&good[good.len() - 2]));
    assert_eq!((&back["revision"], &back["was"]), (&Value::from(before.clone()), &Value::from(last)));
    assert_eq!(runs_on(&*broker, &acme, hog_job("hog.echo", "1")).await, before);

    let counts = all_final(&*broker, &acme).await;
    assert_eq!(counts[State::Succeeded] as usize, DEPLOYS * JOBS_A_DEPLOY + 1, "{counts:?}");
    let good: BTreeSet<String> = good.iter().map(|wasm| revision(wasm)).collect();
    let mut ran: BTreeMap<String, usize> = BTreeMap::new();
    for job in &jobs {
        let record = broker.job(&acme, job.id).await.expect("up").expect("there");
        let on = record.revision.expect("it ran").to_string();
        assert!(good.contains(&on), "{on} was never deployed");
        assert_eq!((record.attempts, record.lease.0), (1, 1), "it ran once: {record:?}");
        *ran.entry(on).or_default() += 1;
    }
    assert!(
        ran.len() >= DEPLOYS - 2,
        "each revision but perhaps the last, which was taken back, has run: {ran:?}"
    );
    outlived(&*broker, &acme, &long, &site).await;
    let key = StateKey::parse("runs").expect("valid");
    let counted = broker.state(&acme, &PluginName::parse("hog").expect("valid"), &key).await.expect("up");
    assert_eq!(counted, Some((DEPLOYS * (JOBS_A_DEPLOY - 1)).to_string().into_bytes()));
    // What was replaced is gone once its last run is.
    for old in good.iter().filter(|old| **old != before) {
        daemon.has_said(&format!("dropped: nothing runs on revision {} any more", &old[..12]));
    }
}

/// A broken component is refused by name, and what is in force stays.
fn refused(site: &Site, wasm: &[u8], why: &str) {
    let in_force = site.standing("hog")["revision"].clone();
    site.component("hog", wasm);
    let (code, outcome) = reload(site);
    assert_eq!(code, Some(1), "{outcome}");
    let change = &outcome["changes"][0];
    assert_eq!(change["what"], "failed");
    let message = change["message"].as_str().expect("it says why");
    assert!(message.contains(why) && message.contains("plugin acme/hog"), "{message}");
    let standing = site.standing("hog");
    assert_eq!((&standing["state"], &standing["revision"]), (&Value::from("failed"), &in_force));
    assert_eq!(standing["message"].as_str(), Some(message));
}

/// Waits until a job runs.
async fn is_leased(broker: &dyn Broker, acme: &TenantId, job: JobId) {
    let until = Instant::now() + PATIENCE;
    loop {
        let record = broker.job(acme, job).await.expect("up").expect("there");
        if record.state == State::Leased {
            return;
        }
        assert!(Instant::now() < until && !record.state.is_final(), "{record:?}");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

/// Long jobs ended on what they began with; and some of them were under way when that was replaced.
async fn outlived(broker: &dyn Broker, acme: &TenantId, long: &[(NewJob, String)], site: &Site) {
    let events = site.json(&["plugins", "--events"]);
    let events = events["events"].as_array().expect("a list");
    let replaced_at = |old: &str| {
        let event = events.iter().find(|event| event["was"] == old && event["what"] == "deployed");
        event.map(|event| event["at"].as_str().expect("a time").to_owned())
    };
    let mut outlived = 0;
    for (job, began_on) in long {
        let record = broker.job(acme, job.id).await.expect("up").expect("there");
        assert_eq!(record.revision.map(|revision| revision.to_string()).as_ref(), Some(began_on));
        let ended = sandhog::output::clock(record.finished_at.expect("it has ended"));
        // Times in this form sort as texts, to the millisecond at least.
        outlived += usize::from(replaced_at(began_on).is_some_and(|at| at < ended));
    }
    assert!(outlived > 0, "no job was under way while its revision was replaced");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_jobs_over_ten_deploys_on_redis_notice_nothing() {
    nobody_notices(Backend::Redis(Fsync::Always)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_jobs_over_ten_deploys_on_the_embedded_broker_notice_nothing() {
    nobody_notices(Backend::Embedded).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_change_are_heard_of_and_one_broken_plugin_holds_no_other_back() {
    let site = Site::new(Backend::Embedded, "");
    site.plugin("a", &echo("a1"), &["a.run"], "");
    site.plugin("b", &echo("b1"), &["b.run"], "");
    let mut daemon = site.daemon();
    // Both at once: the broken one comes first.
    site.component("a", b"garbage");
    site.component("b", &echo("b2"));
    let failed = daemon.has_said("deploy failed");
    assert!(failed.contains("plugin acme/a") && failed.contains("a.toml"), "{failed}");
    daemon.has_said(&format!("\"revision\":\"{}\"", revision(&echo("b2"))));
    assert_eq!(site.standing("b")["revision"], revision(&echo("b2")));
    assert_eq!(site.standing("a")["state"], "failed");
    let (broker, acme) = (site.broker().await, tenant("acme"));
    assert_eq!(runs_on(&*broker, &acme, echo_job()).await, revision(&echo("a1")));
    let events = site.json(&["plugins", "--events"]);
    let events = events["events"].as_array().expect("a list");
    assert!(events.iter().any(|event| event["what"] == "failed" && event["plugin"] == "a"), "{events:?}");
    // Mended, it is as good as any other.
    site.component("a", &echo("a2"));
    daemon.has_said(&format!("\"revision\":\"{}\"", revision(&echo("a2"))));
    assert_eq!(site.standing("a")["state"], "serving");
    assert_eq!(runs_on(&*broker, &acme, echo_job()).await, revision(&echo("a2")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mistake_in_the_daemons_file_changes_nothing_and_says_file_line_and_reason() {
    let site = Site::new(Backend::Embedded, "");
    site.plugin("a", &echo("1"), &["a.run"], "");
    let mut daemon = site.daemon();
    let right = fs::read(site.config()).expect("it is there");
    let wrong = [b"limits.fuel = \"much\"\n", &right[..]].concat();
    site.write("sandhog.toml", &wrong);
    site.component("a", &echo("2"));
    let output = site.sandhog(&["reload"]);
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(64), "{stderr}");
    for part in ["limits.fuel", "sandhog.toml:1", "nothing was changed"] {
        assert!(stderr.contains(part), "{part}: {stderr}");
    }
    let said = daemon.has_said("reload rejected");
    assert!(said.contains("sandhog.toml:1"), "{said}");
    assert_eq!(site.standing("a")["revision"], revision(&echo("1")));
    site.write("sandhog.toml", &right);
    deployed(&site, "a", &echo("2"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mistake_in_a_plugins_file_leaves_it_as_it_was_and_says_file_line_and_reason() {
    let site = Site::new(Backend::Embedded, "");
    site.plugin("a", &echo("1"), &["a.run"], "");
    let mut daemon = site.daemon();
    site.plugin("a", &echo("2"), &["a.run"], "[limits]\nfuel = \"much\"");
    let (code, outcome) = reload(&site);
    assert_eq!(code, Some(1), "{outcome}");
    let said = daemon.has_said("deploy failed");
    let standing = site.standing("a");
    for told in [&outcome["changes"][0]["message"], &standing["message"], &said.into()] {
        let told = told.as_str().expect("it says why");
        assert!(told.contains("limits.fuel") && told.contains("a.toml:9"), "{told}");
    }
    assert_eq!((&standing["state"], &standing["revision"]), (&"failed".into(), &revision(&echo("1")).into()));
    site.plugin("a", &echo("2"), &["a.run"], "");
    deployed(&site, "a", &echo("2"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hangup_has_it_read_again_what_no_watch_tells_of() {
    let site = Site::new(Backend::Embedded, "");
    site.write("token", b"one");
    site.plugin(
        "a",
        &echo("1"),
        &["a.run"],
        "[grants]\nsecrets = [\"TOKEN\"]\n[secrets]\nTOKEN = { file = \"../token\" }",
    );
    let mut daemon = site.daemon();
    site.write("token", b"two");
    daemon.signal("HUP");
    daemon.has_said("SIGHUP");
    daemon.has_said("deploy: changed");
    let (code, outcome) = reload(&site);
    assert_eq!((code, &outcome["outcome"]), (Some(0), &Value::from("unchanged")));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_needs_a_restart_is_named_and_the_rest_is_applied() {
    let site = Site::new(Backend::Embedded, "[tenants.acme]\nweight = 1");
    site.plugin("a", &echo("1"), &["a.run"], "");
    let _daemon = site.daemon();
    let text = fs::read_to_string(site.config()).expect("it is there");
    let text = text.replace("[engine]", "[engine]\nconcurrency = 7").replace("weight = 1", "weight = 3");
    site.write("sandhog.toml", format!("{text}\n[lease]\nttl = \"1m\"\n").as_bytes());
    let (code, outcome) = reload(&site);
    assert_eq!(code, Some(0), "{outcome}");
    assert_eq!(outcome["needs_restart"], serde_json::json!(["lease", "engine"]), "{outcome}");
    let events = site.json(&["plugins", "--events"]);
    let events = events["events"].as_array().expect("a list");
    assert!(events.iter().any(|event| event["what"] == "tenant-changed"), "{events:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_plugin_drains_and_its_jobs_wait_until_it_is_back() {
    for backend in [Backend::Embedded, Backend::Redis(Fsync::Always)] {
        let site = Site::new(backend, "");
        site.plugin("hog", &hog(), &KINDS, "[limits]\nconcurrency = 2");
        // Another plugin leases from the same queue.
        site.plugin("a", &echo("1"), &["a.run"], "");
        let toml = fs::read(site.path().join("plugins.d/hog.toml")).expect("it is there");
        let (broker, acme) = (site.broker().await, tenant("acme"));
        let mut daemon = site.daemon();
        let runs = hog_job("hog.sleep", r#"{"ms": 3000}"#);
        broker.enqueue(&acme, std::slice::from_ref(&runs)).await.expect("the broker is up");
        is_leased(&*broker, &acme, runs.id).await;
        fs::remove_file(site.path().join("plugins.d/hog.toml")).expect("it is there");
        let (code, outcome) = reload(&site);
        assert_eq!(code, Some(0), "{outcome}");
        let waits = hog_job("hog.echo", "1");
        broker.enqueue(&acme, std::slice::from_ref(&waits)).await.expect("the broker is up");
        // What runs finishes, on the revision that is gone; what waits is given back, and waits.
        assert_eq!(ran_on(&*broker, &acme, &runs).await, revision(&hog()));
        daemon.has_said("dropped: nothing runs on revision");
        let shown = site.json(&["job", "show", &waits.id.to_string()]);
        assert_eq!((&shown["state"], &shown["reason"]), (&"ready".into(), &"no-plugin".into()), "{shown}");
        let listed = site.json(&["jobs", "--state", "ready", "--reason", "no-plugin"]);
        assert_eq!(listed["jobs"][0]["id"], waits.id.to_string(), "{listed}");
        let plugins = site.json(&["plugins"]);
        assert_eq!(plugins["plugins"].as_array().map(Vec::len), Some(1), "{plugins}");
        site.write("plugins.d/hog.toml", &toml);
        deployed(&site, "hog", &hog());
        assert_eq!(ran_on(&*broker, &acme, &waits).await, revision(&hog()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tenants_come_and_go_by_reload() {
    for backend in [Backend::Embedded, Backend::Redis(Fsync::Always)] {
        let site = Site::new(backend, "");
        let _daemon = site.daemon();
        let (broker, acme) = (site.broker().await, tenant("acme"));
        for round in ["1", "2"] {
            let job = echo_job();
            broker.enqueue(&acme, std::slice::from_ref(&job)).await.expect("the broker is up");
            site.plugin("a", &echo(round), &["a.run"], "");
            deployed(&site, "a", &echo(round));
            assert_eq!(ran_on(&*broker, &acme, &job).await, revision(&echo(round)));
            // By push, too: nothing but a wake tells of it before the next poll.
            assert_eq!(runs_on(&*broker, &acme, echo_job()).await, revision(&echo(round)));
            fs::remove_file(site.path().join("plugins.d/a.toml")).expect("it is there");
            assert_eq!(reload(&site).0, Some(0));
            assert_eq!(site.json(&["plugins"])["plugins"], serde_json::json!([]));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_holds_across_a_restart_until_the_component_changes() {
    let site = Site::new(Backend::Embedded, "");
    site.plugin("a", &echo("1"), &["a.run"], "");
    let (broker, acme) = (site.broker().await, tenant("acme"));
    let mut daemon = site.daemon();
    for next in ["2", "3"] {
        site.component("a", &echo(next));
        deployed(&site, "a", &echo(next));
    }
    let kept = site.standing("a")["kept"].clone();
    assert_eq!(kept, serde_json::json!([revision(&echo("3")), revision(&echo("2")), revision(&echo("1"))]));
    let digits = &revision(&echo("1"))[..8];
    site.json(&["plugin", "rollback", "acme/a", "--to", digits]);
    assert_eq!(runs_on(&*broker, &acme, echo_job()).await, revision(&echo("1")));
    // A reload of what is there changes nothing.
    assert_eq!(reload(&site).1["outcome"], "unchanged");
    daemon.signal("TERM");
    assert_eq!(daemon.wait().code(), Some(0));

    let _next = site.daemon();
    let standing = site.standing("a");
    assert_eq!(standing["state"], "rolled-back");
    assert_eq!(standing["revision"], revision(&echo("1")));
    assert_eq!(runs_on(&*broker, &acme, echo_job()).await, revision(&echo("1")));
    site.component("a", &echo("4"));
    deployed(&site, "a", &echo("4"));
    assert_eq!(site.standing("a")["state"], "serving");
    let nowhere = site.sandhog(&["plugin", "rollback", "a", "--to", "ffff"]);
    let stderr = String::from_utf8_lossy(&nowhere.stderr);
    assert!(!nowhere.status.success() && stderr.contains("no revision ffff"), "{stderr}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_that_fails_its_smoke_run_is_not_deployed() {
    let site = Site::new(Backend::Embedded, "");
    let smoke = "[smoke]\nkind = \"a.run\"\npayload = \"1\"\n[limits]\nfuel = 1_000_000";
    site.plugin("a", &echo("1"), &["a.run"], smoke);
    let (broker, acme) = (site.broker().await, tenant("acme"));
    let mut daemon = site.daemon();
    deployed(&site, "a", &echo("1"));
    for (wasm, why) in [(component_of(TRAP, "2"), "trapped"), (component_of(SPIN, "2"), "out-of-fuel")] {
        site.component("a", &wasm);
        let (code, outcome) = reload(&site);
        let message = outcome["changes"][0]["message"].as_str().unwrap_or_default().to_owned();
        assert!(code == Some(1) && message.contains("smoke run") && message.contains(why), "{outcome}");
        daemon.has_said(why);
        assert_eq!(runs_on(&*broker, &acme, echo_job()).await, revision(&echo("1")));
    }
    site.component("a", &echo("3"));
    deployed(&site, "a", &echo("3"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_not_be_loaded_at_the_start_is_replaced_by_what_is_kept() {
    let site = Site::new(Backend::Embedded, "");
    site.plugin("a", &echo("1"), &["a.run"], "");
    let mut daemon = site.daemon();
    daemon.signal("TERM");
    assert_eq!(daemon.wait().code(), Some(0));
    site.component("a", b"garbage");
    let mut daemon = site.daemon();
    daemon.has_said("starting with the revision that is kept");
    let (broker, acme) = (site.broker().await, tenant("acme"));
    assert_eq!(site.standing("a")["state"], "failed");
    assert_eq!(runs_on(&*broker, &acme, echo_job()).await, revision(&echo("1")));
    daemon.signal("TERM");
    assert_eq!(daemon.wait().code(), Some(0));
    // With nothing kept, there is nothing to start it with.
    fs::remove_dir_all(site.path().join("deploys")).expect("it is there");
    let output = site.sandhog(&["run", "--strict"]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && stderr.contains("acme/a"), "{stderr}");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_tenant_with_signers_only_signed_components_come_into_force_or_back() {
    let site = Site::new(Backend::Embedded, "");
    let path = |name: &str| site.path().join(name).display().to_string();
    let signer =
        site.json(&["plugin", "key", &path("key.pem")])["signer"].as_str().expect("a key").to_owned();
    let text = fs::read_to_string(site.config()).expect("it is there");
    let text = format!("{text}\n[tenants.acme]\nsigners = [\"{signer}\"]\n");
    site.write("sandhog.toml", text.as_bytes());
    let sign = || {
        let (wasm, key) = (path("plugins.d/a.wasm"), path("key.pem"));
        site.json(&["plugin", "sign", &wasm, "--plugin", "acme/a", "--key", &key])
    };
    site.plugin("a", &echo("1"), &["a.run"], "");
    sign();
    let first = fs::read(path("plugins.d/a.wasm.sig")).expect("it is there");
    let _daemon = site.daemon();
    site.component("a", &echo("2"));
    let (code, outcome) = reload(&site);
    let message = outcome["changes"][0]["message"].as_str().unwrap_or_default().to_owned();
    assert!(code == Some(1) && message.contains("can't be trusted"), "{outcome}");
    assert_eq!(site.standing("a")["revision"], revision(&echo("1")));
    sign();
    deployed(&site, "a", &echo("2"));
    // Whoever may write the files puts the first one back, with its signature.
    site.write("plugins.d/a.wasm.sig", &first);
    site.component("a", &echo("1"));
    let (code, outcome) = reload(&site);
    let message = outcome["changes"][0]["message"].as_str().unwrap_or_default().to_owned();
    assert!(code == Some(1) && message.contains("is taken back by `sandhog plugin rollback`"), "{outcome}");
    assert_eq!(site.standing("a")["revision"], revision(&echo("2")));
    site.component("a", &echo("2"));
    sign();
    deployed(&site, "a", &echo("2"));
    // The signature of the first is not beside the component any more, but it was kept.
    site.json(&["plugin", "rollback", "a"]);
    assert_eq!(site.standing("a")["revision"], revision(&echo("1")));
}

/// Half the jobs go to the new revision; either side has to run ten times.
/// A job that fails on a canary has its second attempt on the old revision.
pub(crate) const CANARY: &str = "[canary]\nshare = 0.5\nruns_min = 10\n[retry]\nmax_attempts = 2\nbackoff = { base = \"20ms\", max = \"20ms\" }";

/// Deploys a component on trial.
fn tried(site: &Site, wasm: &[u8]) {
    site.component("a", wasm);
    let (code, outcome) = reload(site);
    assert_eq!(code, Some(0), "{outcome}");
    let standing = site.standing("a");
    assert_eq!(standing["state"], "canary", "{standing}");
    assert_eq!(standing["canary"]["revision"], revision(wasm), "{standing}");
}

/// Runs jobs until a trial is over; all of them succeed.
pub(crate) async fn until_decided(site: &Site, broker: &dyn Broker, acme: &TenantId) -> BTreeSet<String> {
    let mut revisions = BTreeSet::new();
    let until = Instant::now() + PATIENCE;
    while site.standing("a")["state"] == "canary" {
        assert!(Instant::now() < until, "nothing is decided: {}", site.standing("a"));
        let jobs: Vec<NewJob> = (0..20).map(|_| echo_job()).collect();
        broker.enqueue(acme, &jobs).await.expect("the broker is up");
        for job in &jobs {
            revisions.insert(ran_on(broker, acme, job).await);
        }
    }
    revisions
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_that_does_as_well_is_promoted_by_itself() {
    for backend in [Backend::Embedded, Backend::Redis(Fsync::Always)] {
        let site = Site::new(backend, "");
        site.plugin("a", &echo("1"), &["a.run"], CANARY);
        let (broker, acme) = (site.broker().await, tenant("acme"));
        let mut daemon = site.daemon();
        tried(&site, &echo("2"));
        let both = BTreeSet::from([revision(&echo("1")), revision(&echo("2"))]);
        assert_eq!(until_decided(&site, &*broker, &acme).await, both);
        daemon.has_said("deploy: promoted");
        let standing = site.standing("a");
        assert_eq!(standing["state"], "serving", "{standing}");
        assert_eq!(standing["revision"], revision(&echo("2")));
        assert_eq!(runs_on(&*broker, &acme, echo_job()).await, revision(&echo("2")));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_that_fails_or_takes_too_much_fuel_is_taken_back_by_itself() {
    let site = Site::new(Backend::Embedded, "");
    site.plugin("a", &echo("1"), &["a.run"], CANARY);
    let (broker, acme) = (site.broker().await, tenant("acme"));
    let mut daemon = site.daemon();
    for (wasm, why) in
        [(component_of(TRAP, "2"), "of its runs fail"), (component_of(&burn(), "2"), "of fuel")]
    {
        tried(&site, &wasm);
        until_decided(&site, &*broker, &acme).await;
        let said = daemon.has_said(why);
        assert!(said.contains("rolled-back"), "{said}");
        let standing = site.standing("a");
        assert_eq!(standing["state"], "rolled-back", "{standing}");
        assert_eq!(runs_on(&*broker, &acme, echo_job()).await, revision(&echo("1")));
        // It isn't tried again as long as it stays what it is.
        assert_eq!(reload(&site).1["outcome"], "unchanged");
    }
    // By command, too.
    tried(&site, &echo("3"));
    site.json(&["plugin", "rollback", "a"]);
    assert_eq!(site.standing("a")["state"], "rolled-back");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_that_always_fails_is_taken_back_though_the_old_one_hardly_runs() {
    let site = Site::new(Backend::Embedded, "");
    site.plugin("a", &echo("1"), &["a.run"], &CANARY.replace("share = 0.5", "share = 0.9"));
    let (broker, acme) = (site.broker().await, tenant("acme"));
    let mut daemon = site.daemon();
    let bad = component_of(TRAP, "2");
    tried(&site, &bad);
    // Half as many jobs for the old one as it would need, and all for the new one.
    let trial = sandhog_engine::revision_of(&bad);
    let share = sandhog_core::canary::Share::new(0.9).expect("a part");
    let on = |wanted| {
        std::iter::repeat_with(echo_job)
            .find(move |job| sandhog_core::canary::side(job.id, trial, share) == wanted)
            .expect("there is always one more")
    };
    for _ in 0..5 {
        runs_on(&*broker, &acme, on(sandhog_core::canary::Side::Old)).await;
    }
    for _ in 0..10 {
        runs_on(&*broker, &acme, on(sandhog_core::canary::Side::New)).await;
    }
    let said = daemon.has_said("of its runs fail");
    assert!(said.contains("rolled-back"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_that_nothing_is_known_of_is_taken_back_when_its_time_is_over() {
    let site = Site::new(Backend::Embedded, "");
    site.plugin("a", &echo("1"), &["a.run"], &CANARY.replace("runs_min", "max_age = \"1s\"\nruns_min"));
    let mut daemon = site.daemon();
    site.component("a", &echo("2"));
    daemon.has_said("canary-started");
    let said = daemon.has_said("its time is over");
    assert!(said.contains("rolled-back"), "{said}");
    assert_eq!(site.standing("a")["revision"], revision(&echo("1")));
}

/// Two daemons of one fleet, each with a folder of deploys of its own, of which one at a time is let run.
struct Pair {
    daemons: [Daemon; 2],
    configs: [PathBuf; 2],
}

impl Pair {
    fn of(site: &Site) -> Self {
        let second = site.path().join("second.toml");
        let text = fs::read_to_string(site.config()).expect("a file");
        fs::write(&second, format!("{text}\n[deploy]\nfolder = \"second\"\n")).expect("a file");
        let configs = [site.config(), second];
        Self { daemons: [Daemon::start(&configs[0]), Daemon::start(&configs[1])], configs }
    }

    /// How the plugin stands with one of them.
    fn standing(&self, nth: usize) -> Value {
        let mut command = std::process::Command::new(sandhog_tests::binary());
        let command = command.arg("--config").arg(&self.configs[nth]).args(["--json", "plugins"]);
        let output = command.output().expect("the command can be started");
        let plugins: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        plugins["plugins"][0].clone()
    }

    /// Waits until one of them has heard of so many runs of either side.
    fn has_heard(&self, nth: usize, runs: u64) {
        let until = Instant::now() + PATIENCE;
        loop {
            let standing = self.standing(nth);
            let known = ["old", "new"].map(|side| standing["canary"][side]["runs"].as_u64());
            if known == [Some(runs); 2] {
                return;
            }
            assert!(Instant::now() < until, "{standing}");
        }
    }

    /// Deploys a component on trial on both, and runs ten first attempts of each side on the one and then on the other,
    /// where twenty of each are needed.
    async fn try_by_halves(&mut self, site: &Site, broker: &dyn Broker, acme: &TenantId, wasm: &[u8]) {
        let trial = sandhog_engine::revision_of(wasm);
        site.component("a", wasm);
        for daemon in &mut self.daemons {
            let begun = "canary-started\",\"tenant\":\"acme\",\"plugin\":\"a\",\"revision\":";
            daemon.has_said(&format!("{begun}\"{trial}\""));
        }
        let share = sandhog_core::canary::Share::new(0.5).expect("a part");
        let half = async || {
            for side in [sandhog_core::canary::Side::Old, sandhog_core::canary::Side::New] {
                let of_side = |job: &NewJob| sandhog_core::canary::side(job.id, trial, share) == side;
                for job in std::iter::repeat_with(echo_job).filter(of_side).take(10) {
                    runs_on(broker, acme, job).await;
                }
            }
        };
        self.daemons[1].signal("STOP");
        half().await;
        self.daemons[1].signal("CONT");
        let standing = self.standing(0);
        assert_eq!(standing["state"], "canary", "half of it is not enough: {standing}");
        self.has_heard(1, 10);
        self.daemons[0].signal("STOP");
        half().await;
        self.daemons[0].signal("CONT");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn daemons_judge_a_canary_together_and_all_by_one_verdict() {
    let site = Site::new(Backend::Redis(Fsync::Always), "");
    site.plugin("a", &echo("1"), &["a.run"], &CANARY.replace("runs_min = 10", "runs_min = 20"));
    let (broker, acme) = (site.broker().await, tenant("acme"));
    let mut pair = Pair::of(&site);
    pair.try_by_halves(&site, &*broker, &acme, &component_of(TRAP, "2")).await;
    for daemon in &mut pair.daemons {
        let said = daemon.has_said("rolled-back");
        assert!(said.contains("canary: 100% of its runs fail, and 0% of the old ones"), "{said}");
    }
    pair.try_by_halves(&site, &*broker, &acme, &echo("3")).await;
    for daemon in &mut pair.daemons {
        let said = daemon.has_said("deploy: promoted");
        assert!(said.contains("after 20 runs of it and 20 of the old one"), "{said}");
    }
    for nth in 0..2 {
        assert_eq!(pair.standing(nth)["revision"], revision(&echo("3")));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_canary_has_run_counts_across_a_restart() {
    for backend in [Backend::Embedded, Backend::Redis(Fsync::Always)] {
        let site = Site::new(backend, "");
        site.plugin("a", &echo("1"), &["a.run"], CANARY);
        let (broker, acme) = (site.broker().await, tenant("acme"));
        let trial = sandhog_engine::revision_of(&echo("2"));
        let share = sandhog_core::canary::Share::new(0.5).expect("a part");
        let of = |side| move |job: &NewJob| sandhog_core::canary::side(job.id, trial, share) == side;
        let mut daemon = site.daemon();
        tried(&site, &echo("2"));
        for job in std::iter::repeat_with(echo_job).filter(of(sandhog_core::canary::Side::Old)).take(10) {
            runs_on(&*broker, &acme, job).await;
        }
        reported(&*broker, &acme, trial, 10).await;
        daemon.signal("TERM");
        assert!(daemon.wait().success());
        let mut daemon = site.daemon();
        daemon.has_said("canary-started");
        for job in std::iter::repeat_with(echo_job).filter(of(sandhog_core::canary::Side::New)).take(10) {
            runs_on(&*broker, &acme, job).await;
        }
        let said = daemon.has_said("deploy: promoted");
        assert!(said.contains("after 10 runs of it and 10 of the old one"), "{said}");
    }
}

/// Waits until the store knows of so many runs of the old side.
async fn reported(broker: &dyn Broker, acme: &TenantId, new: sandhog_core::id::Revision, runs: u64) {
    let report = TrialReport {
        daemon: DaemonId::from_parts(sandhog_core::time::Timestamp::from_millis(1), 1),
        pair: trial::Pair {
            plugin: PluginName::parse("a").expect("valid"),
            old: sandhog_engine::revision_of(&echo("1")),
            new,
        },
        counted: trial::Records::default(),
        ended: None,
        decision: None,
    };
    let until = Instant::now() + PATIENCE;
    while broker.report_trial(acme, &report).await.expect("the broker is up").others.old.runs < runs {
        assert!(Instant::now() < until, "the daemon reports nothing");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pinned_job_runs_on_its_revision_as_long_as_that_is_kept() {
    for backend in [Backend::Embedded, Backend::Redis(Fsync::Always)] {
        let site = Site::new(backend, "[deploy]\nkeep = 3");
        site.plugin("a", &echo("1"), &["a.run"], "");
        let (broker, acme) = (site.broker().await, tenant("acme"));
        let daemon = site.daemon();
        // It waits over the deploy that replaces its revision.
        let delayed = NewJob {
            pinned: Some(sandhog_engine::revision_of(&echo("1"))),
            delay: std::time::Duration::from_millis(500),
            ..echo_job()
        };
        broker.enqueue(&acme, std::slice::from_ref(&delayed)).await.expect("the broker is up");
        for next in ["2", "3"] {
            site.component("a", &echo(next));
            deployed(&site, "a", &echo(next));
        }
        assert_eq!(ran_on(&*broker, &acme, &delayed).await, revision(&echo("1")));
        let pinned = |wanted: &str| {
            let arguments = ["enqueue", "a.run", "7", "--revision", wanted, "--wait"];
            site.json(&arguments)["revision"].as_str().expect("it ran").to_owned()
        };
        assert_eq!(pinned(&revision(&echo("2"))[..9]), revision(&echo("2")));
        assert_eq!(pinned("current"), revision(&echo("3")));
        assert_eq!(runs_on(&*broker, &acme, echo_job()).await, revision(&echo("3")));
        // With the next one, the first is not kept any more.
        site.component("a", &echo("4"));
        deployed(&site, "a", &echo("4"));
        let late = NewJob { pinned: Some(sandhog_engine::revision_of(&echo("1"))), ..echo_job() };
        broker.enqueue(&acme, std::slice::from_ref(&late)).await.expect("the broker is up");
        let record = finished(&*broker, &acme, late.id).await;
        assert_eq!((record.state, record.reason), (State::Dead, Some(Reason::NoRevision)));
        drop(daemon);
    }
}

/// Sends bytes to the daemon's socket, and returns what comes back.
fn say(socket: &Path, bytes: &[u8]) -> String {
    let mut stream = UnixStream::connect(socket).expect("the daemon listens");
    // It may hang up on what is too long.
    stream.write_all(bytes).ok();
    let mut reply = Vec::new();
    stream.read_to_end(&mut reply).ok();
    String::from_utf8_lossy(&reply).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_said_to_the_socket_the_daemon_goes_on() {
    let site = Site::new(Backend::Embedded, "");
    site.plugin("a", &echo("1"), &["a.run"], "");
    let daemon = site.daemon();
    let socket = site.path().join("deploys/control.sock");
    let mode = fs::metadata(&socket).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "nobody else can open it");
    let at_rest = daemon.resident();
    // Those who say nothing take the places of others for a while only.
    let silent: Vec<UnixStream> =
        (0..100).map(|_| UnixStream::connect(&socket).expect("the daemon listens")).collect();
    for bytes in [
        &b"\n"[..],
        b"{",
        b"\xff\xfe\n",
        b"GET / HTTP/1.1\r\n",
        b"POST /v1/rollback HTTP/1.1\r\ncontent-type: application/json\r\ncontent-length: 9000\r\n\r\n{",
        b"{\"ask\": \"reload\"}\n",
    ] {
        let mut stream = UnixStream::connect(&socket).expect("the daemon listens");
        stream.write_all(bytes).expect("there is room");
        drop(stream);
    }
    drop(silent);
    let long = vec![b'['; 8 << 20];
    say(&socket, &long);
    let ask = |head: &str, body: &str| {
        let length = body.len();
        let kind = "content-type: application/json";
        say(
            &socket,
            format!("{head} HTTP/1.1\r\n{kind}\r\ncontent-length: {length}\r\n\r\n{body}").as_bytes(),
        )
    };
    for (head, body, status, slug) in [
        ("GET /v1/format-the-disk", "", "404", "unknown-route"),
        ("DELETE /v1/plugins", "", "405", "method-not-allowed"),
        ("POST /v1/rollback", "{\"plugin\": \"../..\"}", "404", "unknown-plugin"),
        ("POST /v1/rollback", "{\"plugin\": \"a\", \"force\": true}", "400", "malformed-request"),
        ("POST /v1/rollback", &"[".repeat(70_000), "413", "request-too-large"),
    ] {
        let answer = ask(head, body);
        let (status, slug) = (format!("HTTP/1.1 {status} "), format!("\"slug\":\"{slug}\""));
        assert!(answer.starts_with(&status) && answer.contains(&slug), "{head}: {answer}");
        assert!(answer.contains("application/problem+json"), "{answer}");
    }
    let many = "x: y\r\n".repeat(1000);
    assert!(say(&socket, format!("GET /v1/plugins HTTP/1.1\r\n{many}\r\n").as_bytes()).contains(" 431 "));
    assert_eq!(site.standing("a")["state"], "serving");
    let grown = daemon.resident().saturating_sub(at_rest);
    assert!(grown < 32 << 20, "it has grown by {grown} bytes");
}

#[test]
fn without_a_daemon_commands_say_so_and_what_to_do() {
    let site = Site::new(Backend::Embedded, "");
    for command in [&["reload"][..], &["plugins"], &["plugin", "rollback", "a"]] {
        let output = site.sandhog(command);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1));
        assert!(stderr.contains("no daemon listens") && stderr.contains("start one"), "{stderr}");
    }
    // One that was killed leaves its socket behind.
    let mut daemon = site.daemon();
    daemon.kill();
    let output = site.sandhog(&["reload"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("no daemon listens"));
}
