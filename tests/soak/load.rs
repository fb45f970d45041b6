//! The jobs: a bit of everything, at an even rate.

use std::collections::VecDeque;
use std::time::Duration;

use rand::seq::IndexedRandom;
use sandhog_broker::Broker;
use sandhog_core::id::{JobId, TenantId};
use sandhog_core::job::NewJob;
use sandhog_tests::{PATIENCE, all_final, hog_job};
use tokio::time::{Instant, interval, sleep};

/// One job every so often: 50 a second, which leaves most of two cores to others.
const EVERY: Duration = Duration::from_millis(20);
/// How long a job that shall be cancelled may run. (One that is cancelled before it runs is kept for a day, as no plugin
/// has a say in it; so there are none here.)
const CANCELLED_AFTER: Duration = Duration::from_secs(1);
/// When a call that failed is made again.
const AGAIN: Duration = Duration::from_secs(1);
/// Jobs of each tenant that fill all slots: many times as many as there are.
const WARM_UP: usize = 200;
/// The counter of the jobs that count.
pub(crate) const COUNTER: &str = "runs";

/// What a job is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    Quick,
    Counts,
    KeepsStateForAWhile,
    IsTriedTwice,
    FailsEachTime,
    FailsForGood,
    IsDelayed,
    Spawns,
    LeavesANote,
    Logs,
    IsLarge,
    ReturnsMuch,
    WritesAFile,
    SendsRequests,
    RunsOnWhatChanges,
    IsCancelled,
    RunsOutOfFuel,
    RunsOutOfMemory,
    RunsOutOfTime,
    RunsOutOfStack,
    Panics,
}

/// Of a hundred jobs, how many are of which shape.
const MIX: [(Shape, u32); 21] = [
    (Shape::Quick, 30),
    (Shape::Counts, 10),
    (Shape::KeepsStateForAWhile, 8),
    (Shape::IsTriedTwice, 6),
    (Shape::FailsEachTime, 2),
    (Shape::FailsForGood, 2),
    (Shape::IsDelayed, 6),
    (Shape::Spawns, 4),
    (Shape::LeavesANote, 4),
    (Shape::Logs, 3),
    (Shape::IsLarge, 2),
    (Shape::ReturnsMuch, 1),
    (Shape::WritesAFile, 3),
    (Shape::SendsRequests, 3),
    (Shape::RunsOnWhatChanges, 6),
    (Shape::IsCancelled, 4),
    (Shape::RunsOutOfFuel, 1),
    (Shape::RunsOutOfMemory, 1),
    (Shape::RunsOutOfTime, 1),
    (Shape::RunsOutOfStack, 1),
    (Shape::Panics, 2),
];

impl Shape {
    fn drawn() -> Self {
        let drawn = MIX.choose_weighted(&mut rand::rng(), |(_, weight)| *weight);
        drawn.expect("the weights are good").0
    }

    /// Creates a job; requests go to the server at `port`.
    fn job(self, port: u16) -> NewJob {
        let key: u64 = rand::random();
        match self {
            Self::Quick => hog_job("hog.echo", "1"),
            Self::Counts => hog_job("hog.count", &format!(r#"{{"counter": "{COUNTER}"}}"#)),
            Self::KeepsStateForAWhile => hog_job("hog.keep", &format!(r#"{{"key": "{key}", "ms": 5000}}"#)),
            Self::IsTriedTwice => hog_job("hog.fail", r#"{"transient": {"attempts": 1}}"#),
            Self::FailsEachTime => hog_job("hog.fail", r#"{"transient": {}}"#),
            Self::FailsForGood => hog_job("hog.fail", r#""permanent""#),
            Self::IsDelayed => NewJob { delay: Duration::from_secs(3), ..hog_job("hog.echo", "2") },
            Self::Spawns => hog_job("hog.spawn", r#"{"kind": "hog.echo", "count": 3, "payload": "3"}"#),
            Self::LeavesANote => hog_job("hog.note", r#"{"text": "a note"}"#),
            Self::Logs => hog_job("hog.log", r#"{"lines": 100}"#),
            Self::IsLarge => hog_job("hog.echo", &"x".repeat(256 << 10)),
            Self::ReturnsMuch => hog_job("hog.output", r#"{"bytes": 500000}"#),
            Self::WritesAFile => hog_job("hog.write", r#"{"path": "/data/mine", "bytes": 100000}"#),
            Self::SendsRequests => hog_job(
                "hog.exchange",
                &format!(
                    r#"{{"url": "http://127.0.0.1:{port}/", "method": "POST", "send": 100, "times": 3}}"#
                ),
            ),
            Self::RunsOnWhatChanges => hog_job("churn.run", "4"),
            Self::IsCancelled | Self::RunsOutOfTime => hog_job("hog.sleep", r#"{"ms": 60000}"#),
            Self::RunsOutOfFuel => hog_job("hog.spin", "{}"),
            Self::RunsOutOfMemory => hog_job("hog.allocate", "{}"),
            Self::RunsOutOfStack => hog_job("hog.recurse", "{}"),
            Self::Panics => hog_job("hog.panic", "{}"),
        }
    }
}

/// Fills all slots of all daemons at once, with runs that take all the memory they may. Whatever instances keep of it, which
/// they would come to have one by one over half an hour, they have from the beginning.
pub(crate) async fn warm_up(broker: &dyn Broker, tenants: &[TenantId]) -> anyhow::Result<()> {
    for tenant in tenants {
        let jobs: Vec<NewJob> = (0..WARM_UP).map(|_| Shape::RunsOutOfMemory.job(0)).collect();
        patiently(async || broker.enqueue(tenant, &jobs).await).await?;
    }
    for tenant in tenants {
        all_final(broker, tenant).await;
    }
    Ok(())
}

/// What was enqueued.
#[derive(Debug, Default)]
pub(crate) struct Enqueued {
    /// All jobs.
    pub(crate) jobs: u64,
    /// Those that count in the state.
    pub(crate) counting: u64,
}

/// Enqueues until then, for the tenants in turn. Requests go to the server at `port`.
pub(crate) async fn enqueue(
    broker: &dyn Broker,
    tenants: &[TenantId],
    port: u16,
    until: Instant,
) -> anyhow::Result<Enqueued> {
    let mut enqueued = Enqueued::default();
    let mut to_cancel: VecDeque<(Instant, &TenantId, JobId)> = VecDeque::new();
    let mut ticks = interval(EVERY);
    for tenant in tenants.iter().cycle() {
        let now = ticks.tick().await;
        if now >= until && to_cancel.is_empty() {
            break;
        }
        if to_cancel.front().is_some_and(|(at, ..)| *at <= now)
            && let Some((_, of, job)) = to_cancel.pop_front()
        {
            patiently(async || broker.cancel(of, job).await).await?;
        }
        if now >= until {
            continue;
        }
        let shape = Shape::drawn();
        let job = shape.job(port);
        patiently(async || broker.enqueue(tenant, std::slice::from_ref(&job)).await).await?;
        enqueued.jobs += 1;
        enqueued.counting += u64::from(shape == Shape::Counts);
        if shape == Shape::IsCancelled {
            to_cancel.push_back((now + CANCELLED_AFTER, tenant, job.id));
        }
    }
    Ok(enqueued)
}

/// Calls until there is an answer: in an hour, a machine stands still now and then. To say the same again is safe.
async fn patiently<T>(call: impl AsyncFn() -> sandhog_broker::Result<T>) -> sandhog_broker::Result<T> {
    let until = Instant::now() + PATIENCE;
    loop {
        match call().await {
            Err(_) if Instant::now() < until => sleep(AGAIN).await,
            answer => return answer,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mix_is_of_a_hundred() {
        assert_eq!(MIX.iter().map(|(_, weight)| weight).sum::<u32>(), 100);
    }
}
