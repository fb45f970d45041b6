//! Jobs that wait for others, with real daemons.

use sandhog_broker::Broker;
use sandhog_core::flow::{After, Flow, FlowJob, OnFailure};
use sandhog_core::id::{FlowJobName, JobId, TenantId};
use sandhog_core::job::{NewJob, State};
use sandhog_core::quota::QueueBounds;
use sandhog_core::reason::Reason;
use sandhog_tests::{Backend, Fsync, Site, finished, hog_job, tenant, under_way};

const BACKENDS: [Backend; 2] = [Backend::Embedded, Backend::Redis(Fsync::Always)];

const LEASE: &str = "[lease]\nttl = \"3s\"\nmargin = \"1s\"\nrenew_every = \"500ms\"\n";

const FAIL: OnFailure = OnFailure::Fail;

fn echo(payload: &str) -> NewJob {
    hog_job("hog.echo", payload)
}

/// One that fails for good.
fn doomed() -> NewJob {
    hog_job("hog.fail", "\"permanent\"")
}

fn named(name: &str, job: NewJob, after: &[(&str, OnFailure)]) -> FlowJob {
    let parse = |text: &str| FlowJobName::parse(text).expect("a valid name");
    let edge = |(job, on_failure): &(&str, OnFailure)| After { job: parse(job), on_failure: *on_failure };
    FlowJob { name: parse(name), job, after: after.iter().map(edge).collect(), takes_outputs: false }
}

async fn store(broker: &dyn Broker, tenant: &TenantId, jobs: Vec<FlowJob>) -> Vec<JobId> {
    let flow = Flow::new(jobs).expect("a valid flow");
    broker.store_flow(tenant, &flow, &QueueBounds::default()).await.expect("the broker is up");
    flow.jobs().map(|job| job.id).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn b_and_c_run_after_a_and_then_d_with_their_outputs() {
    for backend in BACKENDS {
        let site = Site::new(backend, LEASE).with_hog("acme", "");
        let (broker, acme) = (site.broker().await, tenant("acme"));
        let _daemon = site.daemon();
        let mut last = named("d", echo("\"last\""), &[("b", FAIL), ("c", FAIL)]);
        last.takes_outputs = true;
        let jobs = vec![
            named("a", echo("1"), &[]),
            named("b", echo("2"), &[("a", FAIL)]),
            named("c", echo("3"), &[("a", FAIL)]),
            last,
        ];
        let ids = store(&*broker, &acme, jobs).await;
        let record = finished(&*broker, &acme, ids[3]).await;
        assert_eq!(record.state, State::Succeeded);
        let output = String::from_utf8(record.output.expect("it has one")).expect("a text");
        let expected = concat!(
            r#"{"payload":"last","parents":{"b":{"state":"succeeded","output":2},"#,
            r#""c":{"state":"succeeded","output":3}}}"#
        );
        assert_eq!(output, expected);
        let mut finished_at = Vec::new();
        for id in &ids {
            let record = finished(&*broker, &acme, *id).await;
            assert_eq!((record.state, record.attempts), (State::Succeeded, 1));
            finished_at.push((record.leased_at, record.finished_at));
        }
        for (first, second) in [(0, 1), (0, 2), (1, 3), (2, 3)] {
            assert!(finished_at[first].1 <= finished_at[second].0, "{second} after {first}: {finished_at:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_is_for_each_edge_what_its_rule_says() {
    for backend in BACKENDS {
        let site = Site::new(backend, LEASE).with_hog("acme", "");
        let (broker, acme) = (site.broker().await, tenant("acme"));
        let _daemon = site.daemon();
        let jobs = vec![
            named("first", doomed(), &[]),
            named("fails", echo("1"), &[("first", FAIL)]),
            named("ignores", echo("2"), &[("first", OnFailure::Ignore)]),
            named("held", echo("3"), &[("first", OnFailure::Hold)]),
            named("last", echo("4"), &[("fails", OnFailure::Ignore), ("ignores", FAIL)]),
        ];
        let ids = store(&*broker, &acme, jobs).await;
        assert_eq!(finished(&*broker, &acme, ids[4]).await.state, State::Succeeded);
        let fails = finished(&*broker, &acme, ids[1]).await;
        assert_eq!((fails.state, fails.reason), (State::Dead, Some(Reason::ParentFailed)));
        assert_eq!(finished(&*broker, &acme, ids[2]).await.state, State::Succeeded);
        let held = broker.job(&acme, ids[3]).await.expect("the broker is up").expect("it is there");
        assert_eq!((held.state, held.waits_for), (State::Blocked, vec![ids[0]]));
        broker.act(&acme, sandhog_broker::JobAction::RunNow, &[ids[3]]).await.expect("the broker is up");
        assert_eq!(finished(&*broker, &acme, ids[3]).await.state, State::Succeeded, "it was released");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flow_whose_daemon_is_killed_midway_goes_on_with_another() {
    for backend in BACKENDS {
        let site = Site::new(backend, LEASE).with_hog("acme", "");
        let (broker, acme) = (site.broker().await, tenant("acme"));
        let mut daemon = site.daemon();
        let jobs = vec![
            named("a", echo("1"), &[]),
            named("b", hog_job("hog.sleep", "{\"ms\": 1000}"), &[("a", FAIL)]),
            named("c", echo("3"), &[("b", FAIL)]),
        ];
        let ids = store(&*broker, &acme, jobs).await;
        under_way(&*broker, &acme, ids[1]).await;
        daemon.kill();
        let _other = site.daemon();
        assert_eq!(finished(&*broker, &acme, ids[2]).await.state, State::Succeeded);
        let again = finished(&*broker, &acme, ids[1]).await;
        assert_eq!((again.state, again.attempts), (State::Succeeded, 1));
    }
}
