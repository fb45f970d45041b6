//! Redis is full of jobs, up to its `maxmemory`, which stays as it is: it refuses what would take more, and evicts nothing. So
//! what gets daemons out of it is that they remove what is past its time.

use std::time::Duration;

use anyhow::{Context, ensure};
use async_trait::async_trait;
use rand::RngExt;
use redis::aio::MultiplexedConnection;
use sandhog_broker::{Enqueued, Error, Keep, LeaseAsk, Settle};
use sandhog_core::attempt::SettleReply;
use sandhog_core::effects::Effects;
use sandhog_core::id::{JobId, QueueName};
use sandhog_core::job::{NewJob, State};
use sandhog_core::settle::Settlement;
use sandhog_core::time::Timestamp;
use sandhog_tests::{hog_job, tenant};
use tokio::time::{sleep, timeout};

use super::{Fault, Kind, connection, with_redis};
use crate::history::Event;
use crate::plan::millis;
use crate::world::{BALLAST, World, until_answered};

/// The jobs that fill it, and how long the payload of each is: 8 MiB together, many times what a run needs.
const JOBS: u64 = 128;
const PAYLOAD: usize = 64 << 10;
/// How many are stored and settled by one call.
const AT_ONCE: usize = 16;
/// Longer than a call takes.
const TTL: Duration = Duration::from_secs(5);
/// How much less than it holds already it may hold: more than what comes and goes with the connections of clients.
const LESS: u64 = 256 << 10;
/// Within this time it is full: before the jobs that fill it are past theirs.
const FULL_WITHIN: Duration = Duration::from_secs(1);
/// Within this time what is past its time is removed: each tenant has its turn within seconds.
const REMOVED_WITHIN: Duration = Duration::from_secs(60);
const REST: Duration = Duration::from_millis(20);

pub(crate) const KIND: Kind = Kind {
    name: "redis-full",
    fits: with_redis,
    draw: |r, _| Box::new(RedisFull { kept: millis(r, 2_000, 4_000), id: r.random() }),
};

#[derive(Debug)]
struct RedisFull {
    /// How long the jobs that fill it are kept.
    kept: Duration,
    id: u128,
}

#[async_trait]
impl Fault for RedisFull {
    fn name(&self) -> &'static str {
        KIND.name
    }

    async fn strike(&self, world: &World) -> anyhow::Result<()> {
        let redis = world.redis().await;
        let mut connection = connection(&redis).await?;
        let trouble = world.trouble_of_all();
        // The bound of an earlier one of its kind, which has got out of it, leaves no room for as much again.
        set_bound(&mut connection, 0).await?;
        self.fill(world).await?;
        timeout(FULL_WITHIN, self.bound(world, &mut connection)).await.context("Redis isn't full")??;
        let full_at = world.history.now();
        timeout(REMOVED_WITHIN, emptied(world)).await.context("what is past its time isn't removed")?;
        let time = world.history.now().saturating_sub(full_at).saturating_sub(self.kept);
        world.history.note(Event::Took {
            fault: KIND.name,
            what: "until what is past its time is gone",
            time,
        });
        drop(trouble);
        drop(redis);
        world.probe_all(KIND.name).await
    }
}

impl RedisFull {
    fn ballast(&self, number: u128, length: usize) -> NewJob {
        let id = JobId::from_parts(Timestamp::from_millis(1), self.id.wrapping_add(number));
        NewJob { id, payload: vec![b'x'; length], ..hog_job("hog.echo", "") }
    }

    /// Lets it hold no more than it does, and returns once it refuses a job for that. What connections hold of the jobs that
    /// were just stored goes first, so it may take several tries.
    async fn bound(&self, world: &World, connection: &mut MultiplexedConnection) -> anyhow::Result<()> {
        let job = [self.ballast(u128::MAX, 1)];
        loop {
            let bound = used(connection).await?.saturating_sub(LESS);
            set_bound(connection, bound).await?;
            match world.direct.enqueue(&tenant(BALLAST), &job).await {
                Err(Error::Full { .. }) => return Ok(()),
                Ok(_) | Err(_) => sleep(REST).await,
            }
        }
    }

    /// Stores jobs, and has them succeed.
    async fn fill(&self, world: &World) -> anyhow::Result<()> {
        let (of, broker) = (tenant(BALLAST), &world.direct);
        let jobs: Vec<NewJob> = (0..u128::from(JOBS)).map(|number| self.ballast(number, PAYLOAD)).collect();
        for some in jobs.chunks(AT_ONCE) {
            let answers = until_answered(|| broker.enqueue(&of, some)).await;
            ensure!(answers.iter().all(|answer| *answer == Enqueued::Stored), "{answers:?}");
        }
        let queues: [(QueueName, u32); 1] = [(jobs[0].queue.clone(), u32::try_from(AT_ONCE)?)];
        let keep = Keep { done: self.kept, ..Keep::default() };
        let mut left = JOBS;
        while left > 0 {
            let ask = LeaseAsk::new(&of, &queues, TTL);
            // What was leased by a call whose answer was lost comes back when that lease has run out.
            let Ok(leased) = broker.lease(ask).await else { continue };
            if leased.leases.is_empty() {
                sleep(REST).await;
            }
            let settlements: Vec<Settle> =
                leased.leases.iter().map(|lease| succeeded(lease.token, keep)).collect();
            let replies = until_answered(|| broker.settle(&of, &settlements)).await;
            left -= replies.iter().filter(|reply| **reply == SettleReply::Applied).count() as u64;
        }
        Ok(())
    }
}

fn succeeded(token: sandhog_core::id::LeaseToken, keep: Keep) -> Settle {
    let settlement = Settlement::Succeed { output: Vec::new(), effects: Effects::default() };
    Settle { keep, ..Settle::new(token, settlement) }
}

/// Says how much memory a server may use; 0 is as much as there is.
async fn set_bound(connection: &mut MultiplexedConnection, bytes: u64) -> redis::RedisResult<()> {
    redis::cmd("CONFIG").arg("SET").arg("maxmemory").arg(bytes).query_async(connection).await
}

/// How much memory a server uses.
async fn used(connection: &mut MultiplexedConnection) -> anyhow::Result<u64> {
    let info: redis::InfoDict = redis::cmd("INFO").arg("memory").query_async(connection).await?;
    info.get("used_memory").context("a server tells how much memory it uses")
}

/// Returns once the jobs that filled it are gone.
async fn emptied(world: &World) {
    let of = tenant(BALLAST);
    while until_answered(|| world.direct.counts(&of)).await[State::Succeeded] > 0 {
        sleep(REST).await;
    }
}
