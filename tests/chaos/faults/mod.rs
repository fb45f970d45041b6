//! What can go wrong: one module each, and a line in [`KINDS`].

pub(crate) mod clock;
mod cut;
mod deploy;
mod failing_command;
mod failover;
mod half_open;
mod kill;
mod node_kill;
mod redis_drops;
mod redis_full;
mod redis_kill;
mod redis_stop;
mod silent_shard;
mod slot_move;
mod slow;
mod stop;
mod term;
pub(crate) mod version_mix;
mod ways;

use std::fmt::Debug;
use std::time::Duration;

use async_trait::async_trait;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use redis::AsyncConnectionConfig;
use redis::aio::MultiplexedConnection;
use sandhog_tests::Redis;

use crate::plan::{Backend, millis};
use crate::world::World;

/// All kinds of faults.
pub(crate) const KINDS: &[Kind] = &[
    clock::KIND,
    cut::KIND,
    deploy::KIND,
    failing_command::KIND,
    failover::KIND,
    half_open::KIND,
    kill::KIND,
    node_kill::KIND,
    redis_drops::KIND,
    redis_full::KIND,
    redis_kill::KIND,
    redis_stop::KIND,
    silent_shard::KIND,
    slot_move::KIND,
    slow::KIND,
    stop::KIND,
    term::KIND,
    version_mix::KIND,
];

/// One that strikes at a time of its plan.
#[async_trait]
pub(crate) trait Fault: Debug + Send + Sync {
    /// That of its kind.
    fn name(&self) -> &'static str;

    /// Strikes, and returns once it is over and was seen to be: what went wrong is whole again.
    async fn strike(&self, world: &World) -> anyhow::Result<()>;
}

/// A kind of fault.
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    /// Where it can strike.
    pub(crate) fits: fn(Backend) -> bool,
    /// One of its kind, given how many daemons there are.
    pub(crate) draw: fn(&mut StdRng, usize) -> Box<dyn Fault>,
}

/// How often a kind may strike in a run.
const TIMES_MAX: u64 = 2;

/// The faults of a seed. Each kind draws from a source of its own, and those with the lowest lots strike: so with a kind
/// that is new, most seeds mean what they did.
pub(crate) fn draw(
    seed: u64,
    count: usize,
    backend: Backend,
    daemons: usize,
    window_ms: u64,
) -> Vec<(Duration, Box<dyn Fault>)> {
    let mut drawn = Vec::new();
    for kind in KINDS.iter().filter(|kind| (kind.fits)(backend)) {
        for time in 0..TIMES_MAX {
            let mut r = StdRng::seed_from_u64(seed ^ hash(kind.name).wrapping_add(time));
            let lot: u64 = r.random();
            let at = millis(&mut r, 200, window_ms);
            drawn.push((lot, at, (kind.draw)(&mut r, daemons)));
        }
    }
    drawn.sort_by_key(|(lot, ..)| *lot);
    drawn.truncate(count);
    drawn.sort_by_key(|(_, at, _)| *at);
    drawn.into_iter().map(|(_, at, fault)| (at, fault)).collect()
}

/// FNV-1a: the same everywhere and for ever.
fn hash(text: &str) -> u64 {
    text.bytes()
        .fold(0xCBF2_9CE4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3))
}

/// A connection of a fault's own, which waits for as long as it takes.
async fn connection(redis: &Redis) -> anyhow::Result<MultiplexedConnection> {
    let client = redis::Client::open(redis.url())?;
    let patient = AsyncConnectionConfig::new().set_response_timeout(None).set_connection_timeout(None);
    Ok(client.get_multiplexed_async_connection_with_config(&patient).await?)
}

fn anywhere(_: Backend) -> bool {
    true
}

fn with_redis(backend: Backend) -> bool {
    backend == Backend::Redis
}
