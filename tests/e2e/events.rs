//! What is told of jobs is what has happened to them, also if their daemons are killed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use sandhog_broker::{Broker, Wake};
use sandhog_core::event::{EVENTS_PAGE_MAX, EventCursor, EventKeep, EventKind, JobEvent};
use sandhog_core::id::JobId;
use sandhog_core::job::{JobRecord, State};
use sandhog_tests::{Backend, Fsync, Site, all_final, hog_job, settled, tenant};

const JOBS: usize = 1000;

const KEEP: EventKeep = EventKeep { time: Duration::from_secs(60 * 60), max: 1_000_000 };

/// Reads events as they come, until so many jobs have ended.
async fn follow(broker: Arc<dyn Broker>, mut after: EventCursor, ends: usize) -> Vec<JobEvent> {
    let acme = tenant("acme");
    let mut wakes = broker.watch(vec![acme.clone()]).await.expect("it can be listened to");
    let mut told: Vec<JobEvent> = Vec::new();
    while told.iter().filter(|event| event.event.is_final()).count() < ends {
        let wake = wakes.next().await.expect("the broker is open");
        if !matches!(wake, Wake::Events(_) | Wake::All) {
            continue;
        }
        loop {
            let page = broker.events(&acme, after, EVENTS_PAGE_MAX).await.expect("the broker is up");
            assert!(!page.has_gap);
            (after, told) = (page.next, [told, page.events].concat());
            if !page.has_more {
                break;
            }
        }
    }
    told
}

/// Checks that the events of a job are its history: each lease and its end in turn, and as many of each as the record says.
fn is_history(job: &JobRecord, events: &[JobEvent]) {
    let kinds: Vec<EventKind> = events.iter().map(|event| event.event).collect();
    assert_eq!(kinds.first(), Some(&EventKind::Created), "{kinds:?}");
    for lease in kinds[1..].chunks(2) {
        assert!(
            lease[0] == EventKind::Started && lease.len() == 2 && lease[1] != EventKind::Started,
            "{kinds:?}"
        );
    }
    assert_eq!(kinds.last().map(|last| last.slug()), Some(job.state.slug()));
    assert_eq!(kinds.iter().filter(|kind| kind.is_final()).count(), 1, "{kinds:?}");
    let count = |wanted: &[EventKind]| kinds.iter().filter(|kind| wanted.contains(kind)).count();
    // Taking a lease back raises the number as well.
    let leases = count(&[EventKind::Started, EventKind::LeaseExpired]);
    assert_eq!(leases as u64, job.lease.0, "{kinds:?}");
    let attempts = [EventKind::Retried, EventKind::Succeeded, EventKind::Dead];
    assert_eq!(count(&attempts), job.attempts as usize, "{kinds:?}");
    assert_eq!(events.last().map(|last| (Some(last.at), last.reason)), Some((job.finished_at, job.reason)));
}

async fn daemons_are_killed(backend: Backend) {
    let leases = "[lease]\nttl = \"3s\"\nmargin = \"1s\"\nrenew_every = \"1s\"\nexpiries_max = 100\n";
    let site = Site::new(backend, leases)
        .with_hog("acme", "[retry]\nbackoff = { base = \"10ms\", max = \"50ms\" }\n");
    let (broker, acme) = (site.broker().await, tenant("acme"));
    let start = broker.record_events(&acme, KEEP).await.expect("the broker is up");
    let following = tokio::spawn(follow(site.broker().await, start, JOBS));
    let mut jobs = Vec::new();
    for nth in 0..JOBS {
        jobs.push(match nth % 10 {
            0 => hog_job("hog.fail", r#"{"transient": {"attempts": 1}}"#),
            1 => hog_job("hog.fail", r#""permanent""#),
            _ => hog_job("hog.count", r#"{"counter": "runs"}"#),
        });
    }
    broker.enqueue(&acme, &jobs).await.expect("the broker is up");
    for share in [1, 3] {
        let mut daemon = site.daemon();
        settled(&*broker, &acme, |counts| counts[State::Succeeded] >= (JOBS * share / 8) as u64).await;
        daemon.kill();
    }
    let _daemon = site.daemon();
    all_final(&*broker, &acme).await;
    let told = following.await.expect("it only reads");
    let mut of_jobs: BTreeMap<JobId, Vec<JobEvent>> = BTreeMap::new();
    told.iter().for_each(|event| of_jobs.entry(event.job).or_default().push(event.clone()));
    assert_eq!(of_jobs.len(), JOBS);
    for (id, events) in &of_jobs {
        let record = broker.job(&acme, *id).await.expect("the broker is up").expect("it is kept");
        is_history(&record, events);
    }
    let expired = told.iter().filter(|event| event.event == EventKind::LeaseExpired).count();
    println!("{} events, {expired} leases expired", told.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_the_history_of_jobs_on_redis_whose_daemons_are_killed() {
    daemons_are_killed(Backend::Redis(Fsync::EverySecond)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_the_history_of_jobs_in_a_file_whose_daemons_are_killed() {
    daemons_are_killed(Backend::Embedded).await;
}
