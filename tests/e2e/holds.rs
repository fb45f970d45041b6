//! Pauses, as an operator makes them, and daemons that keep them.

use std::time::Duration;

use sandhog_core::job::State;
use sandhog_tests::{Backend, Fsync, Site, finished, hog_job, once, tenant};

/// Much longer than it takes a daemon to hear of work, and much shorter than any daemon waits before it looks by itself.
const SOON: Duration = Duration::from_secs(2);

/// What the janitor does by itself would come later: each tenant of many has its turn once in a long while.
fn many_tenants() -> String {
    let others: String = (0..40).map(|nth| format!("[tenants.t{nth}]\n")).collect();
    format!("[tenants.acme]\n{others}")
}

async fn a_pause_holds_and_ends_on(backend: Backend) {
    let site = Site::new(backend, &many_tenants()).with_hog("acme", "");
    let (broker, acme) = (site.broker().await, tenant("acme"));
    let _daemon = site.daemon();
    let made = site.json(&["pause", "--tenant", "acme", "--queue", "hogs", "--for", "3s", "--by", "ana"]);
    assert_eq!((&made["hold"]["queue"], &made["hold"]["by"]), (&"hogs".into(), &"ana".into()));
    let until = broker.holds(&acme).await.expect("the broker is up")[0].until.expect("it has an end");
    let job = hog_job("hog.echo", "1");
    broker.enqueue(&acme, std::slice::from_ref(&job)).await.expect("the broker is up");
    site.json(&["reload"]);
    let shown = site.json(&["job", "show", &job.id.to_string()]);
    assert_eq!((&shown["state"], &shown["waits"][0]["reason"]), (&"ready".into(), &"paused".into()));
    assert!(
        shown["waits"][0]["text"].as_str().is_some_and(|text| text.starts_with("paused queue hogs by ana"))
    );
    let record = finished(&*broker, &acme, job.id).await;
    let leased = record.leased_at.expect("it ran");
    assert!(leased >= until && leased.since(until) < SOON, "{leased:?}, and the pause ended at {until:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_ends_by_itself_at_its_time_and_not_by_a_deploy() {
    a_pause_holds_and_ends_on(Backend::Redis(Fsync::EverySecond)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_ends_by_itself_on_an_embedded_broker_as_well() {
    a_pause_holds_and_ends_on(Backend::Embedded).await;
}

/// What runs goes on, other kinds go on, and the rest goes on at a word.
#[tokio::test(flavor = "multi_thread")]
async fn a_kind_is_paused_while_others_go_on_and_resumed_at_a_word() {
    let site = Site::new(Backend::Redis(Fsync::EverySecond), &many_tenants()).with_hog("acme", "");
    let (broker, acme) = (site.broker().await, tenant("acme"));
    let _daemon = site.daemon();
    let long = hog_job("hog.sleep", r#"{"ms": 1500}"#);
    broker.enqueue(&acme, std::slice::from_ref(&long)).await.expect("the broker is up");
    once(&*broker, &acme, long.id, |record| record.state == State::Leased).await;
    site.json(&["pause", "--tenant", "acme", "--kind", "hog.sleep", "--note", "too slow"]);
    let held: Vec<_> = (0..50).map(|_| hog_job("hog.sleep", r#"{"ms": 1}"#)).collect();
    broker.enqueue(&acme, &held).await.expect("the broker is up");
    let other = hog_job("hog.echo", "1");
    broker.enqueue(&acme, std::slice::from_ref(&other)).await.expect("the broker is up");
    assert_eq!(finished(&*broker, &acme, other.id).await.state, State::Succeeded);
    assert_eq!(finished(&*broker, &acme, long.id).await.state, State::Succeeded, "it ran already");
    assert_eq!(broker.counts(&acme).await.expect("the broker is up")[State::Ready], 50);
    let listed = site.json(&["holds"]);
    assert_eq!(listed["holds"][0]["note"], "too slow");
    site.json(&["resume", "--tenant", "acme", "--kind", "hog.sleep"]);
    for job in held {
        assert_eq!(finished(&*broker, &acme, job.id).await.state, State::Succeeded);
    }
}

/// A job that has used up its attempts pauses what is like it, and has another one when that goes on.
async fn a_job_without_attempts_left_waits_behind_a_pause_on(backend: Backend) {
    let retry = "[retry]\nmax_attempts = 2\nbackoff = { base = \"1ms\" }\non_exhausted = \"pause\"\n";
    let site = Site::new(backend, "[tenants.acme]\n").with_hog("acme", retry);
    let (broker, acme) = (site.broker().await, tenant("acme"));
    let _daemon = site.daemon();
    let job = hog_job("hog.fail", r#"{"transient": {"attempts": 3}}"#);
    broker.enqueue(&acme, std::slice::from_ref(&job)).await.expect("the broker is up");
    let resume = ["resume", "--tenant", "acme", "--queue", "hogs", "--kind", "hog.fail"];
    for attempts in [2, 3] {
        let waits = once(&*broker, &acme, job.id, |record| {
            record.state == State::Ready && record.attempts == attempts
        });
        let record = waits.await;
        assert!(record.message.is_some_and(|message| message.contains("was told to fail")));
        let listed = site.json(&["holds"]);
        let hold = &listed["holds"][0];
        assert_eq!(
            (&hold["queue"], &hold["kind"], &hold["by"]),
            (&"hogs".into(), &"hog.fail".into(), &"sandhog".into())
        );
        let note = format!("job {} has used up its attempts: failed", job.id);
        assert_eq!(hold["note"], note.as_str());
        let other = hog_job("hog.echo", "1");
        broker.enqueue(&acme, std::slice::from_ref(&other)).await.expect("the broker is up");
        assert_eq!(finished(&*broker, &acme, other.id).await.state, State::Succeeded, "another kind goes on");
        site.json(&resume);
    }
    let record = finished(&*broker, &acme, job.id).await;
    assert_eq!((record.state, record.attempts), (State::Succeeded, 4));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_without_attempts_left_pauses_what_is_like_it() {
    a_job_without_attempts_left_waits_behind_a_pause_on(Backend::Redis(Fsync::EverySecond)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_without_attempts_left_pauses_on_an_embedded_broker_as_well() {
    a_job_without_attempts_left_waits_behind_a_pause_on(Backend::Embedded).await;
}
