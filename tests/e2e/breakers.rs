//! Circuit breakers: of a plugin whose runs fail, and of a service that handlers call.

use sandhog_core::job::{NewJob, State};
use sandhog_core::reason::Reason;
use sandhog_tests::{Backend, Fsync, Site, finished, hog_job, once, tenant};
use serde_json::json;

const ALL: [Backend; 2] = [Backend::Embedded, Backend::Redis(Fsync::EverySecond)];

fn jobs(count: usize, kind: &str, payload: &str) -> Vec<NewJob> {
    (0..count).map(|_| hog_job(kind, payload)).collect()
}

/// Four failures of four open it for an hour. What comes then waits with its attempts, and goes on at a word.
#[tokio::test(flavor = "multi_thread")]
async fn jobs_of_a_plugin_that_fails_wait_with_their_attempts_until_somebody_closes_its_breaker() {
    for backend in ALL {
        let site =
            Site::new(backend, "").with_hog("acme", "[breaker]\nmin = 4\nopen = \"1h\"\nopen_max = \"1h\"");
        let (broker, acme) = (site.broker().await, tenant("acme"));
        let mut daemon = site.daemon();
        let failing = jobs(4, "hog.fail", "\"permanent\"");
        broker.enqueue(&acme, &failing).await.expect("the broker is up");
        daemon.wait_for("the breaker is open");
        let waiting = jobs(20, "hog.echo", "1");
        broker.enqueue(&acme, &waiting).await.expect("the broker is up");

        let listed = &site.json(&["breaker", "list"])["breakers"][0];
        let shown = [&listed["name"], &listed["state"], &listed["failed"], &listed["ended"]];
        assert_eq!(shown, [&json!("plugin/hog"), &json!("open"), &json!(4), &json!(4)], "{listed}");
        let hold = &site.json(&["holds"])["holds"][0];
        assert_eq!((&hold["reason"], &hold["by"]), (&json!("breaker"), &json!("plugin/hog")), "{hold}");
        for job in [&waiting[0], &waiting[19]] {
            let shown = site.json(&["job", "show", &job.id.to_string()]);
            let why = &shown["waits"][0]["reason"];
            assert_eq!(
                (&shown["state"], &shown["attempts"], why),
                (&json!("ready"), &json!(0), &json!("breaker"))
            );
        }

        site.json(&["breaker", "close", "plugin/hog", "--note", "mended"]);
        for job in &waiting {
            let done = finished(&*broker, &acme, job.id).await;
            assert_eq!((done.state, done.attempts), (State::Succeeded, 1), "{:?}", done.message);
        }
    }
}

/// Half-open at its time by itself: one job runs first, and as it succeeds, so do the others.
#[tokio::test(flavor = "multi_thread")]
async fn a_breaker_lets_one_job_find_out_and_then_all() {
    for backend in ALL {
        let site = Site::new(backend, "").with_hog("acme", "[breaker]\nmin = 2\nopen = \"2s\"");
        let (broker, acme) = (site.broker().await, tenant("acme"));
        let mut daemon = site.daemon();
        broker.enqueue(&acme, &jobs(2, "hog.fail", "\"permanent\"")).await.expect("the broker is up");
        daemon.wait_for("the breaker is open");
        let until = broker.holds(&acme).await.expect("the broker is up")[0].until.expect("it has an end");
        let waiting = jobs(20, "hog.echo", "1");
        broker.enqueue(&acme, &waiting).await.expect("the broker is up");
        let mut runs = Vec::new();
        for job in &waiting {
            let done = finished(&*broker, &acme, job.id).await;
            assert_eq!((done.state, done.attempts), (State::Succeeded, 1));
            runs.push((done.leased_at.expect("it ran"), done.finished_at.expect("it is finished")));
        }
        runs.sort_unstable();
        let (probe_leased, probe_finished) = runs[0];
        assert!(probe_leased >= until, "{probe_leased:?}, and it was open until {until:?}");
        assert!(runs[1..].iter().all(|(leased, _)| *leased >= probe_finished), "one at a time: {runs:?}");
        daemon.wait_for("the breaker is closed");
    }
}

/// A handler says that the service doesn't answer: its job, and all that call the same, wait, and lose no attempt.
#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_is_unavailable_holds_back_all_that_call_it_and_costs_no_attempt() {
    for backend in ALL {
        let folder = tempfile::tempdir().expect("a folder");
        let daemon_file = "[tenants.acme.breakers.stripe]\nmin = 1\nopen = \"2s\"\n";
        let pays = format!(
            "calls = [\"stripe\"]\n[retry]\nmax_attempts = 1\n[grants]\ndirs = [{{ host = {:?}, guest = \"/out\", access = \"read-write\" }}]",
            folder.path()
        );
        let site = Site::new(backend, daemon_file).with_hog("acme", &pays);
        let (broker, acme) = (site.broker().await, tenant("acme"));
        let mut daemon = site.daemon();
        let step = json!({"unavailable": {"ms": 1000, "unless": "/out/was-down"}});
        let pay = hog_job("hog.play", &json!({"attempts": [[step]]}).to_string());
        broker.enqueue(&acme, std::slice::from_ref(&pay)).await.expect("the broker is up");
        daemon.wait_for("the breaker is open");
        let put_off =
            once(&*broker, &acme, pay.id, |record| record.reason == Some(Reason::Unavailable)).await;
        assert_eq!((put_off.reason, put_off.attempts), (Some(Reason::Unavailable), 0));
        let until = broker.holds(&acme).await.expect("the broker is up")[0].until.expect("it has an end");
        let other = hog_job("hog.echo", "1");
        broker.enqueue(&acme, std::slice::from_ref(&other)).await.expect("the broker is up");
        for job in [&pay, &other] {
            let done = finished(&*broker, &acme, job.id).await;
            assert_eq!((done.state, done.attempts), (State::Succeeded, 1), "{:?}", done.message);
            assert!(done.leased_at.expect("it ran") >= until);
        }
    }
}
