//! Jobs whose handlers put them off, and failures with codes.

use sandhog_broker::JobAction;
use sandhog_core::job::State;
use sandhog_core::reason::Reason;
use sandhog_tests::{Backend, Fsync, Site, finished, hog_job, once, tenant};

const ALL: [Backend; 2] = [Backend::Embedded, Backend::Redis(Fsync::Always)];

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_is_put_off_waits_for_its_reason_and_has_lost_no_attempt() {
    for backend in ALL {
        let folder = tempfile::tempdir().expect("a folder");
        let dir = format!(
            "[retry]\nmax_attempts = 1\n[grants]\ndirs = [{{ host = {:?}, guest = \"/out\", access = \"read-write\" }}]",
            folder.path()
        );
        let site = Site::new(backend, "").with_hog("acme", &dir);
        let (broker, acme) = (site.broker().await, tenant("acme"));
        let _daemon = site.daemon();
        for (step, reason) in [
            ("snooze", Reason::Snoozed),
            ("rate_limited", Reason::RateLimited),
            ("unavailable", Reason::Unavailable),
        ] {
            let steps = format!(
                r#"{{"increment": {{"key": "n", "by": 1}}}}, {{"{step}": {{"ms": 3600000, "unless": "/out/{step}"}}}}"#
            );
            let job = hog_job("hog.play", &format!(r#"{{"attempts": [[{steps}]]}}"#));
            broker.enqueue(&acme, std::slice::from_ref(&job)).await.expect("the broker is up");
            let put_off = once(&*broker, &acme, job.id, |record| {
                record.lease.0 > 0 && record.state == State::Scheduled
            })
            .await;
            assert_eq!((put_off.reason, put_off.attempts), (Some(reason), 0));
            let due_in = put_off.due_at.expect("it is scheduled").since(put_off.enqueued_at);
            assert!(due_in.as_secs() >= 3600, "{due_in:?}");
            assert_eq!(put_off.history.last().and_then(|attempt| attempt.reason), Some(reason));
            broker.act(&acme, JobAction::RunNow, &[job.id]).await.expect("the broker is up");
            let done = finished(&*broker, &acme, job.id).await;
            assert_eq!((done.state, done.attempts), (State::Succeeded, 1), "{:?}", done.message);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_with_a_code_goes_by_the_rule_for_it() {
    for backend in ALL {
        let rules = r#"
[retry]
max_attempts = 2
backoff = { base = "10ms", max = "20ms" }
[[retry.rules]]
codes = ["busy"]
max_attempts = 4
backoff = { type = "fixed", base = "10ms" }
[[retry.rules]]
codes = ["gone"]
action = "bury"
"#;
        let site = Site::new(backend, "").with_hog("acme", rules);
        let (broker, acme) = (site.broker().await, tenant("acme"));
        let _daemon = site.daemon();
        for (code, attempts) in [("busy", 4), ("gone", 1), ("other", 2)] {
            let step = format!(r#"{{"fail_with": {{"code": "{code}", "message": "told to"}}}}"#);
            let job = hog_job("hog.play", &format!(r#"{{"attempts": [[{step}]]}}"#));
            broker.enqueue(&acme, std::slice::from_ref(&job)).await.expect("the broker is up");
            let dead = finished(&*broker, &acme, job.id).await;
            assert_eq!(
                (dead.state, dead.reason, dead.attempts),
                (State::Dead, Some(Reason::Failed), attempts)
            );
            assert_eq!(dead.message, Some(format!("{code}: told to")));
        }
    }
}
