//! Metrics as a scraper reads them, and the numbers of queues, of a daemon at work.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use sandhog_core::job::State;
use sandhog_tests::{Backend, Fsync, Site, finished, hog_job, tenant};

const ALL: [Backend; 2] = [Backend::Embedded, Backend::Redis(Fsync::Always)];

/// Returns what the daemon answers to a scrape.
fn scrape(site: &Site) -> String {
    let mut stream =
        UnixStream::connect(site.path().join("deploys/control.sock")).expect("the daemon listens");
    stream
        .write_all(b"GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        .expect("it is heard");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("it answers");
    text
}

/// Returns the value of the first sample that begins so and contains all of these.
fn value(text: &str, name: &str, parts: &[&str]) -> Option<f64> {
    let mut lines = text.lines().filter(|line| line.starts_with(name));
    let line = lines.find(|line| parts.iter().all(|part| line.contains(part)))?;
    line.rsplit_once(' ')?.1.parse().ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scrape_tells_what_has_become_of_jobs_and_what_waits() {
    for backend in ALL {
        let site = Site::new(backend, "").with_hog("acme", "[retry]\nmax_attempts = 1");
        let (broker, acme) = (site.broker().await, tenant("acme"));
        let _daemon = site.daemon();
        let (good, bad) = (hog_job("hog.sleep", "{\"ms\": 1}"), hog_job("hog.fail", "\"permanent\""));
        let mut later = hog_job("hog.sleep", "{\"ms\": 1}");
        later.delay = std::time::Duration::from_secs(3600);
        let jobs = [good, bad, later];
        broker.enqueue(&acme, &jobs).await.expect("the broker is up");
        for (job, state) in jobs.iter().zip([State::Succeeded, State::Dead]) {
            assert_eq!(finished(&*broker, &acme, job.id).await.state, state);
        }
        // The daemon counts once the broker has told it, so it may be asked before that.
        let settled = |text: &str| {
            ["succeeded", "dead"].map(|outcome| {
                let outcome = format!("outcome=\"{outcome}\"");
                value(text, "sandhog_jobs_settled_total{", &["tenant=\"acme\"", &outcome])
            })
        };
        let mut text = scrape(&site);
        while settled(&text) != [Some(1.0), Some(1.0)] {
            tokio::task::yield_now().await;
            text = scrape(&site);
        }
        assert_eq!(value(&text, "sandhog_runs{", &[]), Some(0.0), "{text}");
        assert_eq!(value(&text, "sandhog_broker_up{", &["acme"]), Some(1.0));
        let scheduled = ["acme", "state=\"scheduled\""];
        assert_eq!(value(&text, "sandhog_jobs{", &scheduled), Some(1.0));
        assert_eq!(value(&text, "sandhog_queue_jobs{", &scheduled), Some(1.0));
        assert!(value(&text, "sandhog_broker_call_seconds_count{", &["settle"]).is_some_and(|n| n >= 1.0));
        assert!(value(&text, "sandhog_job_run_seconds_count{", &["acme"]).is_some_and(|n| n >= 1.0));
        let queues = site.json(&["queues"]);
        assert_eq!(queues["queues"][0]["jobs"]["scheduled"], 1, "{queues}");
    }
}
