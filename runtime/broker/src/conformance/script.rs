//! Jobs, settlements and names as the rules use them, so that a rule has to say only what it is about.

use std::time::Duration;

use sandhog_core::account::Traffic;
use sandhog_core::budget::{Bytes, Fuel};
use sandhog_core::effects::Effects;
use sandhog_core::id::{
    DaemonId, GroupKey, JobId, Kind, LeaseToken, PluginName, QueueName, Revision, StateKey, TraceParent,
    UniqueKey,
};
use sandhog_core::job::{Level, LogLine, NewJob, Progress, TraceContext};
use sandhog_core::labels::Labels;
use sandhog_core::outcome::Usage;
use sandhog_core::quota::{QueueBounds, StateQuota};
use sandhog_core::reason::Reason;
use sandhog_core::settle::Settlement;
use sandhog_core::time::Timestamp;

use crate::{Ran, Renew, Settle};

/// The plugin that runs the jobs, where nothing else is said.
pub(super) const PLUGIN: &str = "thumbnail";

/// More than any rule writes.
pub(super) const STATE_MAX: StateQuota = StateQuota { bytes: Bytes::mib(1), keys: 10_000 };

pub(super) fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

pub(super) fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// The queue, where nothing else is said.
pub(super) fn queue() -> QueueName {
    queue_named("default")
}

pub(super) fn queue_named(name: &str) -> QueueName {
    QueueName::parse(name).expect("a valid queue name")
}

pub(super) fn plugin(name: &str) -> PluginName {
    PluginName::parse(name).expect("a valid plugin name")
}

pub(super) fn daemon(nth: u8) -> DaemonId {
    DaemonId::from_parts(Timestamp::from_millis(1), nth.into())
}

pub(super) fn key(text: &str) -> StateKey {
    StateKey::parse(text).expect("a valid state key")
}

pub(super) fn unique(text: &str) -> Option<UniqueKey> {
    Some(UniqueKey::parse(text).expect("a valid unique key"))
}

pub(super) fn group(text: &str) -> GroupKey {
    GroupKey::parse(text).expect("a valid group")
}

pub(super) fn new_job(id: JobId) -> NewJob {
    NewJob::new(id, queue(), Kind::parse("image.thumbnail").expect("a valid kind"), b"{}".to_vec())
}

/// Labels, each a name and a value with `=` between them.
pub(super) fn labels(texts: &[&str]) -> Labels {
    Labels::of(texts.iter().map(|text| Labels::parse(text).expect("a valid label"))).expect("few of them")
}

pub(super) fn trace() -> TraceContext {
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    TraceContext { parent: TraceParent::parse(parent).expect("a valid position"), state: None }
}

pub(super) fn settle(token: LeaseToken, settlement: Settlement) -> Settle {
    Settle::of_run(token, ran(PLUGIN, usage(1)), settlement)
}

pub(super) fn ran(name: &str, usage: Usage) -> Ran {
    Ran {
        traffic: traffic(1),
        state_max: STATE_MAX,
        queue_max: QueueBounds::default(),
        ..Ran::new(daemon(1), plugin(name), revision(1), usage)
    }
}

pub(super) fn revision(n: u8) -> Revision {
    Revision::from_sha256([n; 32])
}

/// A usage that is `times` times the smallest one.
pub(super) fn usage(times: u64) -> Usage {
    Usage {
        fuel: Fuel(1_000_003 * times),
        memory_peak: Bytes(65_536 * times),
        wall: Duration::from_micros(2_001 * times),
        cpu: Duration::from_micros(1_001 * times),
        host_calls: 3 * times,
    }
}

/// A traffic that is `times` times the smallest one.
pub(super) fn traffic(times: u64) -> Traffic {
    Traffic { input: Bytes(301 * times), output: Bytes(401 * times) }
}

pub(super) fn renew(token: LeaseToken) -> Renew {
    Renew::new(token)
}

pub(super) fn succeed() -> Settlement {
    succeed_with(Effects::default())
}

pub(super) fn succeed_with(effects: Effects) -> Settlement {
    Settlement::Succeed { output: b"done".to_vec(), effects }
}

pub(super) fn retry(after: Duration) -> Settlement {
    Settlement::Retry { after, reason: Reason::Failed, message: "no luck".to_owned() }
}

pub(super) fn release(after: Duration) -> Settlement {
    Settlement::Release { after, reason: Reason::Drained }
}

pub(super) fn bury() -> Settlement {
    Settlement::Bury { reason: Reason::OutOfFuel, message: "out of fuel".to_owned() }
}

pub(super) fn progress(done: u64) -> Option<Progress> {
    Some(Progress { done, total: Some(100), message: Some(format!("at {done}")) })
}

/// Log lines with these numbers as text.
pub(super) fn lines(numbers: std::ops::Range<u64>) -> Vec<LogLine> {
    let line = |n: u64| LogLine {
        at: Timestamp::from_millis(n),
        attempt: 1,
        level: Level::Info,
        message: format!("line {n}"),
        fields: vec![("n".to_owned(), n.to_string()), ("quote \"".to_owned(), "ü\n".to_owned())],
    };
    numbers.map(line).collect()
}

/// Effects that are made by calling on them.
pub(super) fn effects(make: impl FnOnce(&mut Effects)) -> Effects {
    let mut effects = Effects::default();
    make(&mut effects);
    effects
}

/// Effects that add to one key.
pub(super) fn add_to(name: &str, by: i64) -> Effects {
    effects(|effects| effects.increment(key(name), by).expect("nothing was set before"))
}
