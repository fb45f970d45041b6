//! What scripts are asked: their keys, and a MessagePack value whose form each script states at its head.

use std::time::Duration;

use redis::Cmd;
use sandhog_core::effects::{Effects, StateWrite};
use sandhog_core::id::{JobId, PluginName, StateKey, TenantId, UniqueKey};
use sandhog_core::job::{LogLine, NewJob, Progress};
use sandhog_core::reason::Reason;
use sandhog_core::settle::Settlement;
use sandhog_core::time::{Timestamp, millis};

use super::keys::Keys;
use super::layout;
use super::pack::Packer;
use super::scripts::Script;
use crate::{Keep, LOG_LINES_KEPT, LeaseAsk, Query, Ran, Renew, SWEEP_MAX, Settle};

/// One call of a script.
#[derive(Debug)]
pub(super) struct Request {
    keys: Keys,
    asked: Packer,
}

impl Request {
    pub(super) fn new(keys: Keys, asked: Packer) -> Self {
        Self { keys, asked }
    }

    /// The command; with a time, if it isn't the server's that counts.
    pub(super) fn into_command(self, script: &Script, now: Option<Timestamp>) -> Cmd {
        let asked = match self.asked.into_bytes() {
            nothing if nothing.is_empty() => vec![0xc2],
            asked => asked,
        };
        let mut command = redis::cmd("EVALSHA");
        command.arg(&script.digest).arg(self.keys.len());
        for key in self.keys.iter() {
            command.arg(key);
        }
        command.arg(asked);
        if let Some(now) = now {
            command.arg(now.as_millis());
        }
        command
    }
}

/// No script call takes more jobs or bytes than this, as a script keeps everybody else waiting.
const PART_JOBS: usize = 1000;
const PART_BYTES: usize = 8 << 20;

/// Cuts a batch into parts, each of which one script call can take. A single item may be larger than the bound.
pub(super) fn parts<T>(items: &[T], size: impl Fn(&T) -> usize) -> impl Iterator<Item = &[T]> {
    let mut rest = items;
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let too_much = rest.iter().take(PART_JOBS).position(|item| {
            bytes += size(item);
            bytes > PART_BYTES
        });
        let count = too_much.unwrap_or(PART_JOBS).max(1).min(rest.len());
        let (part, later) = rest.split_at(count);
        rest = later;
        (!part.is_empty()).then_some(part)
    })
}

pub(super) fn job_size(job: &NewJob) -> usize {
    job.payload.len()
}

pub(super) fn renew_size(renew: &Renew) -> usize {
    log_size(&renew.log)
}

pub(super) fn settle_size(settle: &Settle) -> usize {
    let said = match &settle.settlement {
        Settlement::Succeed { output, effects } => {
            output.len() + usize::try_from(effects.size().0).unwrap_or(usize::MAX)
        }
        Settlement::Retry { message, .. } | Settlement::Bury { message, .. } => message.len(),
        Settlement::Release { .. } | Settlement::Cancel => 0,
    };
    said + log_size(&settle.log)
}

fn log_size(lines: &[LogLine]) -> usize {
    let fields =
        |line: &LogLine| line.fields.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
    lines.iter().map(|line| line.message.len() + fields(line)).sum()
}

pub(super) fn enqueue(tenant: &TenantId, jobs: &[NewJob]) -> Request {
    let mut keys = Keys::of(tenant);
    let mut asked = Packer::default();
    put_jobs(&mut keys, &mut asked, jobs);
    Request::new(keys, asked)
}

/// Jobs to create, as `lua/create.lua` takes them, and the keys of the queues that they go to.
fn put_jobs(keys: &mut Keys, asked: &mut Packer, jobs: &[NewJob]) {
    asked.array(6 * jobs.len());
    for job in jobs {
        asked.uint(keys.job(job.id)).uint(exact_millis(job.delay)).uint(job.priority.0.into());
        asked.bytes(job.queue.as_str().as_bytes());
        asked.optional_bytes(job.unique_key.as_ref().map(UniqueKey::as_str).map(str::as_bytes));
        asked.bytes(&layout::job_bytes(job));
    }
    let mut queues: Vec<_> = jobs.iter().map(|job| &job.queue).collect();
    queues.sort_unstable();
    queues.dedup();
    for queue in queues {
        keys.ready(queue);
    }
}

pub(super) fn lease(ask: &LeaseAsk<'_>) -> Request {
    let mut keys = Keys::of(ask.tenant);
    let mut asked = Packer::default();
    let keep = Keep::default();
    asked.array(7).uint(exact_millis(ask.ttl)).uint(ask.expiries_max.into());
    asked.bytes(&layout::why_bytes(Reason::LeaseExpired, Some(&ask.buried_message())));
    asked.uint(SWEEP_MAX as u64).uint(exact_millis(keep.dead)).uint(exact_millis(keep.done));
    asked.array(2 * ask.queues.len());
    for (queue, count) in ask.queues {
        keys.ready(queue);
        asked.bytes(queue.as_str().as_bytes()).uint((*count).into());
    }
    Request::new(keys, asked)
}

pub(super) fn renew(tenant: &TenantId, ttl: Duration, leases: &[Renew]) -> Request {
    let mut keys = Keys::of(tenant);
    let mut asked = Packer::default();
    asked.array(3 + 3 * leases.len());
    asked.uint(exact_millis(ttl)).uint(LOG_LINES_KEPT as u64).uint(leases.len() as u64);
    for lease in leases {
        keys.run(lease.token.job);
        asked.uint(lease.token.lease.0);
        put_report(&mut asked, lease.progress.as_ref(), &lease.log);
    }
    for lease in leases.iter().filter(|lease| !lease.log.is_empty()) {
        keys.log(lease.token.job);
    }
    Request::new(keys, asked)
}

fn put_report(asked: &mut Packer, progress: Option<&Progress>, lines: &[LogLine]) {
    asked.optional_bytes(progress.map(layout::progress_bytes).as_deref());
    if lines.is_empty() {
        asked.absent();
        return;
    }
    // Of more than are kept, none but the last would stay.
    let lines = &lines[lines.len().saturating_sub(LOG_LINES_KEPT)..];
    asked.array(lines.len());
    for line in lines {
        asked.bytes(&layout::log_line_bytes(line));
    }
}

pub(super) fn settle(tenant: &TenantId, settlements: &[Settle]) -> Request {
    let mut keys = Keys::of(tenant);
    let mut asked = Packer::default();
    for settle in settlements {
        keys.run(settle.token.job);
    }
    asked.array(2 + 11 * settlements.len());
    asked.uint(LOG_LINES_KEPT as u64).uint(settlements.len() as u64);
    for settle in settlements {
        put_settle(&mut keys, &mut asked, settle);
    }
    Request::new(keys, asked)
}

fn put_settle(keys: &mut Keys, asked: &mut Packer, settle: &Settle) {
    if !settle.log.is_empty() {
        keys.log(settle.token.job);
    }
    asked.uint(settle.token.lease.0);
    put_settlement(asked, &settle.settlement);
    asked.optional_bytes(settle.ran.as_ref().map(layout::ran_bytes).as_deref());
    put_report(asked, settle.progress.as_ref(), &settle.log);
    asked.uint(exact_millis(settle.keep.dead)).uint(exact_millis(settle.keep.done));
    match (&settle.settlement, &settle.ran) {
        (Settlement::Succeed { effects, .. }, Some(ran)) if has_effect(effects) => {
            put_effects(keys, asked, ran, effects);
        }
        _ => {
            asked.absent();
        }
    }
}

/// What to do, the delay, why, and the output.
fn put_settlement(asked: &mut Packer, settlement: &Settlement) {
    let why = |reason, message: Option<&str>| layout::why_bytes(reason, message);
    match settlement {
        Settlement::Succeed { output, .. } => asked.uint(1).uint(0).absent().bytes(output),
        Settlement::Retry { after, reason, message } => {
            asked.uint(2).uint(exact_millis(*after)).bytes(&why(*reason, Some(message))).absent()
        }
        Settlement::Release { after, reason } => {
            asked.uint(3).uint(exact_millis(*after)).bytes(&why(*reason, None)).absent()
        }
        Settlement::Bury { reason, message } => {
            asked.uint(4).uint(0).bytes(&why(*reason, Some(message))).absent()
        }
        Settlement::Cancel => asked.uint(5).uint(0).bytes(&why(Reason::Cancelled, None)).absent(),
    };
}

fn has_effect(effects: &Effects) -> bool {
    !effects.is_empty() || effects.expectations().len() > 0
}

fn put_effects(keys: &mut Keys, asked: &mut Packer, ran: &Ran, effects: &Effects) {
    asked.array(3).array(2 * effects.expectations().len());
    for (key, value) in effects.expectations() {
        asked.uint(keys.state(&ran.plugin, key)).optional_bytes(value);
    }
    asked.array(4 * effects.writes().len());
    for (key, write) in effects.writes() {
        asked.uint(keys.state(&ran.plugin, key));
        match write {
            // What is gone at once is as good as deleted, and Redis refuses to keep anything for no time.
            StateWrite::Set { ttl: Some(Duration::ZERO), .. } | StateWrite::Delete => {
                asked.uint(1).absent().absent()
            }
            StateWrite::Set { value, ttl } => asked.uint(2).bytes(value).optional_uint(ttl.map(exact_millis)),
            StateWrite::Add(by) => asked.uint(3).bytes(by.to_string().as_bytes()).absent(),
        };
    }
    put_jobs(keys, asked, effects.jobs());
}

/// Whole milliseconds, up to 285,000 years: to there Lua's numbers are exact, and times in the range of Redis's clock.
fn exact_millis(duration: Duration) -> u64 {
    millis(duration).min(1 << 53)
}

pub(super) fn cancel(tenant: &TenantId, job: JobId) -> Request {
    let Request { keys, mut asked } = of_job(tenant, job);
    asked.uint(exact_millis(Keep::default().done));
    Request::new(keys, asked)
}

/// A request that has nothing to say but which job it is about.
pub(super) fn of_job(tenant: &TenantId, job: JobId) -> Request {
    let mut keys = Keys::of(tenant);
    keys.job(job);
    keys.run(job);
    Request::new(keys, Packer::default())
}

pub(super) fn jobs(tenant: &TenantId, query: &Query) -> Request {
    let mut asked = Packer::default();
    let limit = query.limit.clamp(1, Query::LIMIT_MAX);
    // There are never that many jobs, and Lua's numbers are exact up to here.
    let offset = query.offset.min(1 << 52);
    asked.array(3).uint(layout::state_number(query.state)).uint(offset).uint(limit.into());
    Request::new(Keys::of(tenant), asked)
}

pub(super) fn state(tenant: &TenantId, plugin: &PluginName, key: &StateKey) -> Request {
    let mut keys = Keys::of(tenant);
    keys.state(plugin, key);
    Request::new(keys, Packer::default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_cut_where_it_gets_too_long_or_too_large() {
        let lengths = |sizes: &[usize]| parts(sizes, |size| *size).map(<[usize]>::len).collect::<Vec<_>>();
        assert_eq!(lengths(&[]), [] as [usize; 0]);
        assert_eq!(lengths(&vec![1; 2500]), [1000, 1000, 500]);
        assert_eq!(lengths(&[PART_BYTES, 1, PART_BYTES * 2, 1]), [1, 1, 1, 1]);
        assert_eq!(lengths(&[PART_BYTES / 2, PART_BYTES / 2, 1]), [2, 1]);
    }
}
