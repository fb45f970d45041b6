//! A broker that goes wrong by plan: without faults it is the one behind it, and what was done twice for want of a reply
//! is done once.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sandhog_broker::conformance::{self, Fixture, ManualClock};
use sandhog_broker::faulty::{Faults, Faulty};
use sandhog_broker::memory::Memory;
use sandhog_broker::{
    Broker, Counts, Enqueued, Error, LeaseAsk, Query, Ran, Result, Settle, Wake, Wakes, WallClock,
};
use sandhog_core::attempt::SettleReply;
use sandhog_core::effects::Effects;
use sandhog_core::event::{EventKeep, JobEvent};
use sandhog_core::id::{
    DaemonId, JobId, Kind, LeaseToken, PluginName, QueueName, Revision, StateKey, TenantId,
};
use sandhog_core::job::{JobRecord, LogLine, NewJob, State};
use sandhog_core::outcome::Usage;
use sandhog_core::reason::Reason;
use sandhog_core::settle::Settlement;
use sandhog_core::time::Timestamp;

struct Faultless(Arc<Faulty>);

#[async_trait]
impl Fixture for Faultless {
    async fn start(clock: Arc<ManualClock>) -> Self {
        let model = Arc::new(Memory::new(clock as Arc<dyn WallClock>));
        Self(Arc::new(Faulty::new(model, Faults::default())))
    }

    fn broker(&self) -> Arc<dyn Broker> {
        Arc::clone(&self.0) as Arc<dyn Broker>
    }
}

conformance::suite!(Faultless);

fn acme() -> TenantId {
    TenantId::parse("acme").expect("a valid name")
}

fn queue() -> QueueName {
    QueueName::parse("default").expect("a valid name")
}

fn new_job(nth: u128) -> NewJob {
    NewJob::new(
        JobId::from_parts(Timestamp::from_millis(1), nth),
        queue(),
        Kind::parse("image.thumbnail").expect("a valid kind"),
        b"{}".to_vec(),
    )
}

/// How the nth run ends: every way in turn. A success counts up, and leaves a child behind.
fn settle(token: LeaseToken, nth: u128) -> Settle {
    let message = || format!("run {nth}");
    let settlement = match nth % 5 {
        0 | 1 => {
            let mut effects = Effects::default();
            effects.increment(StateKey::parse("runs").expect("a valid key"), 1).expect("a number");
            effects.enqueue(NewJob { delay: Duration::from_secs(3600), ..new_job(1000 + nth) });
            Settlement::Succeed { output: b"done".to_vec(), effects }
        }
        2 => Settlement::Retry { after: Duration::from_secs(60), reason: Reason::Failed, message: message() },
        3 => Settlement::Release { after: Duration::from_secs(60), reason: Reason::Drained },
        _ => Settlement::Bury { reason: Reason::Trapped, message: message() },
    };
    let usage = Usage { host_calls: 1, ..Usage::default() };
    let plugin = PluginName::parse("thumbnail").expect("a valid name");
    let ran = Ran::new(
        DaemonId::from_parts(Timestamp::from_millis(1), 1),
        plugin,
        Revision::from_sha256([1; 32]),
        usage,
    );
    Settle::of_run(token, ran, settlement)
}

/// Asks until there is an answer, as a daemon does.
async fn insist<T, F: Future<Output = Result<T>>>(lost: &mut usize, call: impl Fn() -> F) -> T {
    loop {
        match call().await {
            Ok(answer) => return answer,
            Err(Error::Unavailable { .. }) => *lost += 1,
            Err(error) => panic!("only what was planned goes wrong, and not {error:?}"),
        }
    }
}

/// What is left of jobs: their records with their logs, a value of state, and what was told of them.
type Left = (Vec<(JobRecord, Vec<LogLine>)>, Option<Vec<u8>>, Vec<JobEvent>);

/// Plays some jobs through a faulty broker, and yields all that is left of them and how many calls were lost.
async fn play(faults: Faults) -> (Left, usize) {
    let model = Arc::new(Memory::new(Arc::new(ManualClock::default())));
    let faulty = Faulty::new(Arc::clone(&model) as Arc<dyn Broker>, faults);
    let (tenant, mut lost) = (acme(), 0);
    let start = insist(&mut lost, || faulty.record_events(&tenant, EventKeep::default())).await;
    let jobs: Vec<NewJob> = (0..20).map(new_job).collect();
    for batch in jobs.chunks(3) {
        let answers = insist(&mut lost, || faulty.enqueue(&tenant, batch)).await;
        assert_eq!(answers, vec![Enqueued::Stored; batch.len()]);
    }
    // Leases are handed out by the model: one whose reply is lost runs out, and that is another story.
    let queues = [(queue(), 100)];
    let ask = LeaseAsk::new(&tenant, &queues, Duration::from_secs(30));
    let leases = model.lease(ask).await.expect("the model answers").leases;
    let settlements: Vec<Settle> =
        leases.iter().zip(0..).map(|(lease, nth)| settle(lease.token, nth)).collect();
    for batch in settlements.chunks(3) {
        let answers = insist(&mut lost, || faulty.settle(&tenant, batch)).await;
        assert_eq!(answers, vec![SettleReply::Applied; batch.len()]);
    }
    let mut left = Vec::new();
    for state in State::ALL {
        let page = model.jobs(&tenant, Query::of(state, 100)).await.expect("the model answers");
        for record in page.jobs {
            let log = model.log(&tenant, record.id).await.expect("the model answers");
            left.push((record, log));
        }
    }
    let (plugin, key) = (PluginName::parse("thumbnail"), StateKey::parse("runs"));
    let runs = model.state(&tenant, &plugin.expect("a valid name"), &key.expect("a valid key")).await;
    let told = insist(&mut lost, || faulty.events(&tenant, start, 1000)).await.events;
    ((left, runs.expect("the model answers"), told), lost)
}

#[tokio::test]
async fn what_is_repeated_for_want_of_a_reply_ends_as_if_nothing_had_been_lost() {
    let (expected, lost) = play(Faults::default()).await;
    let (jobs, runs, told) = &expected;
    assert_eq!((runs.as_deref(), lost, jobs.len()), (Some(&b"8"[..]), 0, 28));
    assert_eq!(told.len(), 20 + 20 + 20 + 8, "created, started and ended, and what runs have left behind");
    for seed in 0..50 {
        let faults = Faults { seed, lost_before: 0.2, lost_after: 0.4, ..Faults::default() };
        let (left, lost) = play(faults.clone()).await;
        assert!(lost > 0, "seed {seed} loses something");
        assert_eq!(left, expected, "seed {seed}");
        assert_eq!(play(faults).await.1, lost, "the same seed loses the same calls");
    }
}

#[tokio::test]
async fn a_call_that_is_lost_before_does_nothing_and_one_that_is_lost_after_does_all() {
    for (before, after, stored) in [(1.0, 0.0, 0), (0.0, 1.0, 1)] {
        let model = Arc::new(Memory::new(Arc::new(ManualClock::default())));
        let faults = Faults { lost_before: before, lost_after: after, ..Faults::default() };
        let faulty = Faulty::new(Arc::clone(&model) as Arc<dyn Broker>, faults);
        let error = faulty.enqueue(&acme(), &[new_job(1)]).await.expect_err("every call is lost");
        assert!(matches!(error, Error::Unavailable { what: "enqueue", .. }));
        assert_eq!(model.counts(&acme()).await.expect("the model answers")[State::Ready], stored);
    }
}

#[tokio::test(start_paused = true)]
async fn delays_are_those_of_the_plan() {
    let model = Arc::new(Memory::new(Arc::new(ManualClock::default())));
    let delay_max = Duration::from_secs(10);
    let faulty = Faulty::new(model, Faults { delay_max, ..Faults::default() });
    let mut took = BTreeSet::new();
    for _ in 0..20 {
        let started = tokio::time::Instant::now();
        faulty.counts(&acme()).await.expect("it is only slow");
        assert!(started.elapsed() <= 2 * delay_max + Duration::from_millis(2));
        took.insert(started.elapsed());
    }
    assert!(took.len() > 10, "each call is slow in its own way");
}

async fn next(wakes: &mut Wakes) -> Wake {
    wakes.next().await.expect("the broker is open")
}

#[tokio::test]
async fn an_outage_lets_nothing_through_and_ends_with_a_wake_for_all() {
    let model = Arc::new(Memory::new(Arc::new(ManualClock::default())));
    let faulty = Faulty::new(Arc::clone(&model) as Arc<dyn Broker>, Faults::default());
    let mut wakes = faulty.watch(vec![acme()]).await.expect("the line is up");
    assert_eq!(next(&mut wakes).await, Wake::All);
    faulty.down();
    assert!(faulty.enqueue(&acme(), &[new_job(1)]).await.is_err());
    assert_eq!(model.counts(&acme()).await.expect("the model answers"), Counts::default());
    // Somebody else's job comes in meanwhile.
    model.enqueue(&acme(), &[new_job(2)]).await.expect("the model answers");
    tokio::task::yield_now().await;
    faulty.up();
    assert_eq!(next(&mut wakes).await, Wake::All, "the single wake was lost, and this one stands for it");
    let other = QueueName::parse("other").expect("a valid name");
    faulty.enqueue(&acme(), &[NewJob { queue: other, ..new_job(3) }]).await.expect("the line is up");
    assert_eq!(next(&mut wakes).await, Wake::Ready { tenant: acme(), named: None });
    drop(faulty);
    assert_eq!(wakes.next().await, None, "it ends with its broker");
}

#[tokio::test(start_paused = true)]
async fn a_reply_that_is_under_way_when_the_line_breaks_is_lost() {
    let model = Arc::new(Memory::new(Arc::new(ManualClock::default())));
    let faults = Faults { delay_max: Duration::from_secs(10), ..Faults::default() };
    let faulty = Arc::new(Faulty::new(Arc::clone(&model) as Arc<dyn Broker>, faults));
    let call = tokio::spawn({
        let faulty = Arc::clone(&faulty);
        async move { faulty.enqueue(&acme(), &[new_job(1)]).await }
    });
    while model.counts(&acme()).await.expect("the model answers") == Counts::default() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    faulty.down();
    assert!(matches!(call.await.expect("no panic"), Err(Error::Unavailable { .. })));
}
