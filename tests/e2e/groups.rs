//! Groups of jobs, and rates, as an operator writes them, with two daemons on one broker.

use std::collections::BTreeMap;
use std::time::Duration;

use sandhog_core::id::{GroupKey, JobId, QueueName};
use sandhog_core::job::{JobOptions, JobRecord, NewJob, State};
use sandhog_tests::{Backend, Fsync, Site, all_final, component, finished, hog_job, settled, tenant};

fn of_group(key: &str, queue: &str, job: NewJob) -> NewJob {
    let group = Some(GroupKey::parse(key).expect("a valid key"));
    NewJob {
        queue: QueueName::parse(queue).expect("a queue"),
        options: JobOptions { group, ..JobOptions::default() },
        ..job
    }
}

async fn records(broker: &dyn sandhog_broker::Broker, ids: &[JobId]) -> Vec<JobRecord> {
    let mut records = Vec::new();
    for id in ids {
        records.push(broker.job(&tenant("acme"), *id).await.expect("the broker is up").expect("it is there"));
    }
    records
}

/// A daemon that is killed takes nothing out of order, and a dead job holds its group until somebody passes over it.
#[tokio::test(flavor = "multi_thread")]
async fn a_strict_group_goes_in_order_over_daemons_and_their_ends() {
    let rules = "[lease]\nttl = \"3s\"\nrenew_every = \"1s\"\nmargin = \"500ms\"\n\
                 [tenants.acme.queues.invoices]\norder = \"strict\"\n";
    let site = Site::new(Backend::Redis(Fsync::EverySecond), rules).with_plugin(
        "hog",
        "acme",
        &component("hog"),
        "kinds = [\"hog.sleep\", \"hog.fail\"]\nqueue = \"invoices\"\n\n[retry]\nmax_attempts = 1\n",
    );
    let (broker, acme) = (site.broker().await, tenant("acme"));
    let mut daemons = [site.daemon(), site.daemon()];
    // So the broker knows the rule.
    let first = of_group("first", "invoices", hog_job("hog.sleep", "{\"ms\": 1}"));
    broker.enqueue(&acme, std::slice::from_ref(&first)).await.expect("the broker is up");
    finished(&*broker, &acme, first.id).await;
    let mut jobs = BTreeMap::new();
    for key in ["a", "b", "c"] {
        let of_key: Vec<NewJob> =
            (0..8).map(|_| of_group(key, "invoices", hog_job("hog.sleep", "{\"ms\": 200}"))).collect();
        broker.enqueue(&acme, &of_key).await.expect("the broker is up");
        jobs.insert(key, of_key.iter().map(|job| job.id).collect::<Vec<_>>());
    }
    settled(&*broker, &acme, |counts| counts[State::Succeeded] >= 4).await;
    daemons[0].kill();
    all_final(&*broker, &acme).await;
    for (key, ids) in &jobs {
        let records = records(&*broker, ids).await;
        for pair in records.windows(2) {
            let ends: Vec<_> = pair.iter().map(|job| (job.state, job.leased_at, job.finished_at)).collect();
            assert!(
                pair[0].state == State::Succeeded && pair[0].finished_at <= pair[1].leased_at,
                "{key}: {ends:?}"
            );
        }
    }

    let dead = of_group("d", "invoices", hog_job("hog.fail", "\"permanent\""));
    let next = of_group("d", "invoices", hog_job("hog.sleep", "{\"ms\": 1}"));
    broker.enqueue(&acme, &[dead.clone(), next.clone()]).await.expect("the broker is up");
    assert_eq!(finished(&*broker, &acme, dead.id).await.state, State::Dead);
    let held = site.json(&["groups"]);
    let held = &held["groups"][0];
    assert_eq!((&held["group"], &held["job"]), (&"d".into(), &dead.id.to_string().into()));
    let shown = site.json(&["job", "show", &next.id.to_string()]);
    assert_eq!((&shown["state"], &shown["group"]), (&"blocked".into(), &"d".into()));
    assert_eq!(site.json(&["groups", "release", "invoices", "d"])["released"], true);
    assert_eq!(finished(&*broker, &acme, next.id).await.state, State::Succeeded);
}

/// By the broker's clock, whoever starts them.
#[tokio::test(flavor = "multi_thread")]
async fn two_daemons_start_no_more_than_a_rate_says_together() {
    const RATE: u64 = 100;
    const BURST: u64 = 10;
    let site = Site::new(Backend::Redis(Fsync::EverySecond), "[tenants.acme.rates]\nstripe = \"100/s\"\n")
        .with_plugin(
            "hog",
            "acme",
            &component("hog"),
            "kinds = [\"hog.echo\"]\nqueue = \"hogs\"\n\n[limits]\nrate = \"stripe\"\n",
        );
    let (broker, acme) = (site.broker().await, tenant("acme"));
    let jobs: Vec<NewJob> = (0..400)
        .map(|n| NewJob {
            queue: QueueName::parse("hogs").expect("a queue"),
            ..hog_job("hog.echo", &n.to_string())
        })
        .collect();
    broker.enqueue(&acme, &jobs).await.expect("the broker is up");
    let _daemons = [site.daemon(), site.daemon()];
    assert_eq!(all_final(&*broker, &acme).await[State::Succeeded], 400);
    let ids: Vec<JobId> = jobs.iter().map(|job| job.id).collect();
    let mut started: Vec<u64> =
        records(&*broker, &ids).await.iter().filter_map(|job| Some(job.leased_at?.as_millis())).collect();
    started.sort_unstable();
    for (nth, at) in started.iter().enumerate() {
        let earlier = started[..nth].iter().rev();
        for (before, then) in (1..).zip(earlier) {
            let most = BURST + RATE * (at - then) / 1000 + 1;
            assert!(before < most + 1, "{} within {} ms", before + 1, at - then);
        }
    }
    let took = Duration::from_millis(started[399] - started[0]);
    assert!(took < Duration::from_millis(4_400), "it says a hundred a second, and they took {took:?}");
}
