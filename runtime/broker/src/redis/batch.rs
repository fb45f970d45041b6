//! Arguments of functions: their keys, and a MessagePack value in the form that each function states at its head.

use std::borrow::Borrow;
use std::collections::{BTreeMap, HashSet};
use std::ops::RangeInclusive;
use std::time::Duration;

use redis::Cmd;
use sandhog_core::account::{Account, Day, RunEnd};
use sandhog_core::budget::{Bytes, Fuel};
use sandhog_core::edit::{Due, JobEdit};
use sandhog_core::effects::{Effects, StateWrite};
use sandhog_core::event::{EVENTS_PAGE_MAX, EventCursor, EventKeep};
use sandhog_core::flow::Flow;
use sandhog_core::group::{GroupRule, OnDead, QueueRule};
use sandhog_core::group_limit::{GroupLimitChange, NewGroupLimit};
use sandhog_core::hold::{HoldEnd, HoldScope, NewHold};
use sandhog_core::id::{
    BreakerName, DaemonId, GroupKey, JobId, Kind, PluginName, QueueName, StateKey, TenantId, UniqueKey,
};
use sandhog_core::job::{LogLine, NewJob};
use sandhog_core::quota::{FuelQuota, OnEmpty, QueueBounds, StateQuota};
use sandhog_core::reason::Reason;
use sandhog_core::settle::Settlement;
use sandhog_core::time::{Timestamp, millis};
use sandhog_core::trial::{Decision, Records, TrialReport};

use super::acl;
use super::codes;
use super::keys::{Keys, Place};
use super::layout::{self, Tail};
use super::library::Function;
use crate::pack::Packer;
use crate::{
    Asker, BreakerWrite, Cursor, DaemonReport, Filter, FleetLimit, JobAction, Keep, KeepMax, LOG_LINES_KEPT,
    LOOKED_UP_MAX, LaneAsk, LastTimes, LeaseAsk, QUEUES_PAGE_MAX, Query, Ran, RateLimit, Renew,
    SCHEDULED_COUNTED_MAX, SCHEDULES_PAGE, SWEEP_MAX, ScheduleQuery, ScheduleWrite, Settle, Still, Sweep,
    USAGE_DAYS_KEPT,
};

/// One call of a function.
#[derive(Debug)]
pub(super) struct Request {
    keys: Keys,
    now: Option<Timestamp>,
    asked: Packer,
    batch: Packer,
}

/// Way of calling a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Calling {
    /// Call of a function of the library (`FCALL`).
    Functions,
    /// Call of a script of its own that the server knows (`EVALSHA`).
    Scripts,
    /// Call of a script that is sent along (`EVAL`).
    Sources,
}

impl Request {
    /// Creates a request whose only key is the one that names the tenant, with no arguments yet.
    pub(super) fn of(tenant: &TenantId) -> Self {
        Self { keys: Keys::of(tenant), now: None, asked: Packer::default(), batch: Packer::default() }
    }

    /// Creates a request on the list of daemons, with no arguments yet.
    pub(super) fn of_fleet() -> Self {
        Self { keys: Keys::of_fleet(), now: None, asked: Packer::default(), batch: Packer::default() }
    }

    /// Sets the time of the call, or `None` for the server's time.
    pub(super) fn at(self, now: Option<Timestamp>) -> Self {
        Self { now, ..self }
    }

    /// Returns the command that calls the function.
    pub(super) fn command(&self, function: &Function, calling: Calling) -> Cmd {
        let (word, name) = match calling {
            Calling::Functions => ("FCALL", &function.name),
            Calling::Scripts => ("EVALSHA", &function.script_digest),
            Calling::Sources => ("EVAL", &function.script),
        };
        let mut command = Cmd::new();
        command.arg(word).arg(name).arg(self.keys.len());
        for key in self.keys.iter() {
            command.arg(key);
        }
        match self.now {
            Some(now) => command.arg(now.as_millis()),
            None => command.arg(""),
        };
        match self.asked.is_empty() {
            true => command.arg(Packer::default().absent().as_bytes()),
            false => command.arg(self.asked.as_bytes()),
        };
        command.arg(self.batch.as_bytes());
        command
    }
}

/// Maximum numbers of jobs, bytes and operations of one call, as the server serves nobody else meanwhile.
const PART_JOBS: usize = 1000;
const PART_BYTES: usize = 8 << 20;
const PART_OPERATIONS: usize = 4000;

/// Item of a batch.
pub(super) trait Item {
    /// Returns the job that the item is about.
    fn job(&self) -> JobId;
    /// Returns its approximate size in bytes.
    fn size(&self) -> usize;
    /// Returns the number of its operations: values that it reads and writes, jobs, log lines.
    fn operations(&self) -> usize;
    /// Returns the daemon that is said of the whole call, if it matters to the item.
    fn daemon(&self) -> Option<DaemonId> {
        None
    }
}

/// Splits a batch into parts of one call each: within the bounds, with each job at most once, and of one daemon. A single item may
/// exceed the bounds.
pub(super) fn parts<T: Item>(items: &[T]) -> impl Iterator<Item = &[T]> {
    let mut rest = items;
    std::iter::from_fn(move || {
        let (mut bytes, mut operations, mut daemon) = (0, 0, None);
        let mut jobs = HashSet::with_capacity(rest.len().min(PART_JOBS));
        let too_much = rest.iter().take(PART_JOBS).position(|item| {
            bytes += item.size();
            operations += item.operations();
            let is_of_another = item.daemon().is_some_and(|its| *daemon.get_or_insert(its) != its);
            bytes > PART_BYTES || operations > PART_OPERATIONS || is_of_another || !jobs.insert(item.job())
        });
        let count = too_much.unwrap_or(PART_JOBS).max(1).min(rest.len());
        let (part, later) = rest.split_at(count);
        rest = later;
        (!part.is_empty()).then_some(part)
    })
}

impl Item for JobId {
    fn job(&self) -> JobId {
        *self
    }

    fn size(&self) -> usize {
        0
    }

    /// A cancellation reads and writes several keys.
    fn operations(&self) -> usize {
        10
    }
}

impl Item for NewJob {
    fn job(&self) -> JobId {
        self.id
    }

    fn size(&self) -> usize {
        self.payload.len()
    }

    fn operations(&self) -> usize {
        1
    }
}

impl Item for Renew {
    fn job(&self) -> JobId {
        self.token.job
    }

    fn size(&self) -> usize {
        log_size(&self.log)
    }

    fn operations(&self) -> usize {
        1 + self.log.len()
    }
}

impl Item for Settle {
    fn job(&self) -> JobId {
        self.token.job
    }

    fn size(&self) -> usize {
        let said = match &self.settlement {
            Settlement::Succeed { output, effects } => {
                output.len() + usize::try_from(effects.size().0).unwrap_or(usize::MAX)
            }
            Settlement::Retry { message, .. } | Settlement::Bury { message, .. } => message.len(),
            Settlement::Release { .. } | Settlement::Cancel => 0,
        };
        said + log_size(&self.log)
    }

    fn operations(&self) -> usize {
        let effects = match &self.settlement {
            Settlement::Succeed { effects, .. } => {
                effects.expectations().len() + effects.writes().len() + effects.jobs().len()
            }
            _ => 0,
        };
        1 + effects + self.log.len()
    }

    fn daemon(&self) -> Option<DaemonId> {
        self.recorded().map(|ran| ran.daemon)
    }
}

fn log_size(lines: &[LogLine]) -> usize {
    let fields =
        |line: &LogLine| line.fields.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
    lines.iter().map(|line| line.message.len() + fields(line)).sum()
}

pub(super) fn enqueue(tenant: &TenantId, jobs: &[NewJob], bounds: &QueueBounds) -> Request {
    let mut request = Request::of(tenant);
    request.asked.array(4).uint(jobs.len() as u64);
    request.asked.uint(exact(bounds.jobs)).uint(exact(bounds.bytes.0)).uint(exact(bounds.payload.0));
    put_jobs(&mut request.keys, &mut request.batch, jobs);
    request
}

/// Writes jobs to create, in the form of `lua/creation.lua`, and their keys. Returns the place of the first one's key.
fn put_jobs<J: Borrow<NewJob>>(keys: &mut Keys, batch: &mut Packer, jobs: &[J]) -> Place {
    let first = keys.len() as Place + 1;
    for group in jobs.chunk_by(|one, other| are_alike(one.borrow(), other.borrow())) {
        let [job, ..] = group else { continue };
        let job = job.borrow();
        batch
            .number(exact_millis(job.delay), 8)
            .number(layout::layout(job), 1)
            .number(job.priority.0.into(), 1);
        batch.counted(job.queue.as_str().as_bytes(), 1);
        batch.counted(job.unique_key.as_ref().map_or("", UniqueKey::as_str).as_bytes(), 2);
        batch.counted(job.kind.as_str().as_bytes(), 1);
        batch.counted(&layout::job_head_bytes(job), 2).number(group.len() as u64, 4);
        for job in group.iter().map(Borrow::borrow) {
            keys.job(job.id);
            batch.counted(&job.payload, 4);
        }
    }
    first
}

/// Whether two jobs differ only in their ids and payloads. Jobs with unique keys never count as alike.
fn are_alike(one: &NewJob, other: &NewJob) -> bool {
    let NewJob { id: _, payload: _, kind, queue, priority, delay, unique_key, pinned, options } = one;
    unique_key.is_none()
        && other.unique_key.is_none()
        && (kind, queue, priority, delay, pinned, options)
            == (&other.kind, &other.queue, &other.priority, &other.delay, &other.pinned, &other.options)
}

pub(super) fn flow(tenant: &TenantId, flow: &Flow, bounds: &QueueBounds) -> Request {
    let mut request = Request::of(tenant);
    let nodes = flow.nodes();
    let asked = &mut request.asked;
    asked.array(6).uint(nodes.len() as u64);
    asked.uint(exact(bounds.jobs)).uint(exact(bounds.bytes.0)).uint(exact(bounds.payload.0));
    asked.bytes(flow.id().to_string().as_bytes()).array(nodes.len());
    for (place, node) in nodes.iter().enumerate() {
        let open: String = node.parents.iter().map(|parent| parent.id.to_string()).collect();
        let open = Some(open.as_bytes()).filter(|open| !open.is_empty());
        let after = (!node.dependants.is_empty()).then(|| layout::after_bytes(node, nodes));
        asked
            .array(3)
            .bytes(&layout::flow_node_bytes(place, node))
            .optional_bytes(open)
            .optional_bytes(after.as_deref());
    }
    let jobs: Vec<&NewJob> = flow.jobs().collect();
    put_jobs(&mut request.keys, &mut request.batch, &jobs);
    request
}

pub(super) fn flow_jobs(tenant: &TenantId, flow: JobId) -> Request {
    let mut request = Request::of(tenant);
    request.asked.array(1).bytes(flow.to_string().as_bytes());
    request
}

pub(super) fn parents(tenant: &TenantId, job: JobId, bytes: usize) -> Request {
    let mut request = Request::of(tenant);
    request.keys.job(job);
    request.asked.array(1).uint(exact(bytes as u64));
    request
}

pub(super) fn lease(ask: &LeaseAsk<'_>) -> Request {
    let mut request = Request::of(ask.tenant);
    let asked = &mut request.asked;
    asked.array(7).uint(exact_millis(ask.ttl)).array(2 * ask.queues.len());
    for (queue, count) in ask.queues {
        asked.bytes(queue.as_str().as_bytes()).uint((*count).into());
    }
    asked.uint(ask.suspects.into()).uint(exact(ask.bytes.0));
    put_fuel(asked, ask.fuel);
    match ask.asker {
        None => asked.absent(),
        Some(Asker { daemon, number, repeats }) => {
            asked.array(3).bytes(daemon.to_string().as_bytes()).uint(exact(number)).flag(repeats)
        }
    };
    asked.array(8 * ask.lanes.len());
    for LaneAsk { queue, kind, room, limit, rate } in ask.lanes {
        asked.bytes(queue.as_str().as_bytes()).bytes(kind.as_str().as_bytes()).uint((*room).into());
        match limit {
            None => asked.absent().absent(),
            Some(FleetLimit { name, most }) => asked.bytes(name.as_str().as_bytes()).uint((*most).into()),
        };
        match rate {
            None => asked.absent().absent().absent(),
            Some(RateLimit { of, rate }) => {
                asked.bytes(of.key().as_bytes()).uint(rate.interval()).uint(rate.burst().get().into())
            }
        };
    }
    request
}

pub(super) fn sweep(tenant: &TenantId, sweep: &Sweep) -> Request {
    let mut request = Request::of(tenant);
    let keep = Keep::default();
    let asked = &mut request.asked;
    asked.array(8).uint(SWEEP_MAX as u64).uint(sweep.expiries_max.into());
    asked.bytes(&layout::why_bytes(Reason::LeaseExpired, Some(&sweep.buried_message())));
    asked.uint(exact_millis(keep.dead)).uint(exact_millis(keep.done));
    asked.uint(exact(sweep.keep_max.done)).uint(exact(sweep.keep_max.dead));
    asked.array(3 * sweep.keep_max_of.len());
    for (plugin, KeepMax { done, dead }) in &sweep.keep_max_of {
        asked.bytes(plugin.as_str().as_bytes()).uint(exact(*done)).uint(exact(*dead));
    }
    request
}

/// Removes up to `most` jobs, and once none is left the values of state at these keys.
pub(super) fn purge(tenant: &TenantId, most: usize, values: &[String]) -> Request {
    let mut request = Request::of(tenant);
    for key in values {
        request.keys.named(key);
    }
    request.asked.array(2).uint(most as u64).uint(values.len() as u64);
    request
}

/// Writes the bounds of a fuel quota, if it holds jobs back when it is used up.
fn put_fuel(asked: &mut Packer, quota: Option<FuelQuota>) {
    let Some(FuelQuota { per_minute, per_day, on_empty }) = quota else {
        asked.absent();
        return;
    };
    asked.array(2);
    for bound in [per_minute, per_day] {
        let bound = bound.filter(|_| on_empty == OnEmpty::Hold).map(|Fuel(bound)| bound.to_be_bytes());
        asked.optional_bytes(bound.as_ref().map(<[u8; 8]>::as_slice));
    }
}

pub(super) fn group_rules(tenant: &TenantId, rules: &BTreeMap<QueueName, QueueRule>) -> Request {
    let (mut turns, mut fair) = (Vec::new(), Vec::new());
    for (queue, rule) in rules {
        match rule {
            QueueRule::Turns(rule) => turns.push((queue, rule)),
            QueueRule::Fair(rule) => fair.push((queue, rule)),
        }
    }
    let mut request = Request::of(tenant);
    let asked = &mut request.asked;
    asked.array(3).array(5 * turns.len());
    for (queue, rule) in turns {
        let (is_strict, holds, has_rest_cancelled) = match rule {
            GroupRule::Concurrency(_) => (false, false, false),
            GroupRule::Strict(on_dead) => (true, *on_dead != OnDead::Skip, *on_dead == OnDead::CancelRest),
        };
        asked.bytes(queue.as_str().as_bytes()).uint(rule.turns().into());
        asked.flag(is_strict).flag(holds).flag(has_rest_cancelled);
    }
    asked.flag(false).array(2 * fair.len());
    for (queue, rule) in fair {
        asked.bytes(queue.as_str().as_bytes()).array(2 * rule.weights().len());
        for (group, weight) in rule.weights() {
            asked.bytes(group.as_str().as_bytes()).uint(weight.get().into());
        }
    }
    request
}

pub(super) fn release_group(tenant: &TenantId, queue: &QueueName, group: &GroupKey) -> Request {
    let mut request = Request::of(tenant);
    let asked = &mut request.asked;
    asked.array(2).array(2).bytes(queue.as_str().as_bytes()).bytes(group.as_str().as_bytes());
    asked.flag(true);
    request
}

pub(super) fn limit_group(
    tenant: &TenantId,
    queue: &QueueName,
    group: &GroupKey,
    change: &GroupLimitChange,
) -> Request {
    let mut request = Request::of(tenant);
    let asked = &mut request.asked;
    asked.array(8).bytes(queue.as_str().as_bytes()).bytes(group.as_str().as_bytes());
    let (what, new) = match change {
        GroupLimitChange::Unset => (0, None),
        GroupLimitChange::Switch { is_on: true } => (1, None),
        GroupLimitChange::Switch { is_on: false } => (2, None),
        GroupLimitChange::Set(new) => (3, Some(new)),
    };
    asked.uint(what);
    let Some(NewGroupLimit { concurrency, by, end, note }) = new else {
        asked.absent().absent().absent().absent().absent();
        return request;
    };
    asked.uint(concurrency.get().into());
    remark(asked, by.as_deref(), note.as_deref(), end);
    request
}

pub(super) fn daemon(id: DaemonId, report: Option<&DaemonReport>) -> Request {
    let mut request = Request::of_fleet();
    let told = report.map(DaemonReport::to_bytes);
    request.asked.array(2).bytes(id.to_string().as_bytes()).optional_bytes(told.as_deref());
    request
}

pub(super) fn trial(tenant: &TenantId, report: &TrialReport) -> Request {
    let TrialReport { daemon, pair, counted, ended, decision } = report;
    let mut request = Request::of(tenant);
    request.keys.trial(pair);
    let counted = (*counted != Records::default()).then(|| counted.to_bytes());
    let (ended, decision) = (ended.map(Timestamp::as_millis), decision.as_ref().map(Decision::to_text));
    request
        .asked
        .array(4)
        .bytes(daemon.to_string().as_bytes())
        .optional_bytes(counted.as_ref().map(|counted| &counted[..]))
        .optional_uint(ended)
        .optional_bytes(decision.as_deref().map(str::as_bytes));
    request
}

pub(super) fn breaker(tenant: &TenantId, write: &BreakerWrite) -> Request {
    let BreakerWrite { name, expected, record } = write;
    let mut request = Request::of(tenant);
    let gate = record.as_ref().and_then(|record| record.gate.as_ref()).map(layout::gate_bytes);
    request
        .asked
        .array(4)
        .bytes(name.as_str().as_bytes())
        .optional_uint(expected.map(exact))
        .optional_bytes(record.as_ref().map(|record| record.bytes.as_slice()))
        .optional_bytes(gate.as_deref());
    request
}

pub(super) fn breakers(tenant: &TenantId, name: Option<&BreakerName>) -> Request {
    let mut request = Request::of(tenant);
    request.asked.array(1).optional_bytes(name.map(|name| name.as_str().as_bytes()));
    request
}

pub(super) fn schedule(tenant: &TenantId, write: &ScheduleWrite) -> Request {
    let ScheduleWrite { name, expected, record, jobs, bounds } = write;
    let mut request = Request::of(tenant);
    let asked = &mut request.asked;
    asked.array(8).bytes(name.as_str().as_bytes()).optional_uint(expected.map(exact));
    asked.optional_bytes(record.as_ref().map(|record| record.bytes.as_slice()));
    let due_at = record.as_ref().and_then(|record| record.due_at);
    asked.optional_uint(due_at.map(|due| due.as_millis().min(codes::NEVER - 1)));
    asked.uint(jobs.len() as u64).uint(exact(bounds.jobs)).uint(exact(bounds.bytes.0));
    asked.uint(exact(bounds.payload.0));
    put_jobs(&mut request.keys, &mut request.batch, jobs);
    request
}

pub(super) fn schedules(tenant: &TenantId, query: &ScheduleQuery) -> Request {
    let mut request = Request::of(tenant);
    let (what, name) = match query {
        ScheduleQuery::Due => (codes::SCHEDULES_DUE, None),
        ScheduleQuery::Named(name) => (codes::SCHEDULE_NAMED, Some(name)),
        ScheduleQuery::After(name) => (codes::SCHEDULES_AFTER, name.as_ref()),
    };
    let name = name.map(|name| name.as_str().as_bytes());
    request.asked.array(3).uint(what).optional_bytes(name).uint(SCHEDULES_PAGE as u64);
    request
}

pub(super) fn renew(tenant: &TenantId, ttl: Duration, leases: &[Renew]) -> Request {
    let mut request = Request::of(tenant);
    request.asked.array(3).uint(leases.len() as u64).uint(exact_millis(ttl)).uint(LOG_LINES_KEPT as u64);
    for lease in leases {
        request.keys.run(lease.token.job);
        let progress = lease.progress.as_ref().map(layout::progress_bytes);
        request.batch.number(lease.token.lease.0, 8).counted(&progress.unwrap_or_default(), 4);
        request.batch.counted(&lines(&lease.log), 4);
    }
    request
}

/// Encodes log lines; empty if there are none.
fn lines(lines: &[LogLine]) -> Vec<u8> {
    let mut packed = Packer::default();
    if !lines.is_empty() {
        // Of more lines than are kept, only the last would stay.
        let lines = &lines[lines.len().saturating_sub(LOG_LINES_KEPT)..];
        packed.array(lines.len());
        for line in lines {
            packed.bytes(&layout::log_line_bytes(line));
        }
    }
    packed.into_bytes()
}

pub(super) fn settle(tenant: &TenantId, settlements: &[Settle]) -> Request {
    let mut request = Request::of(tenant);
    request.asked.array(5).uint(settlements.len() as u64).uint(LOG_LINES_KEPT as u64);
    request.asked.uint(USAGE_DAYS_KEPT.into());
    let daemon = settlements.iter().find_map(Item::daemon).map(|daemon| daemon.to_string());
    request.asked.optional_bytes(daemon.as_deref().map(str::as_bytes));
    for settle in settlements {
        request.keys.run(settle.token.job);
    }
    let mut totals = Totals::default();
    for settle in settlements {
        put_settle(&mut request.keys, &mut request.batch, settle);
        totals.put(&mut request.batch, settle);
    }
    totals.pack(&mut request.asked);
    request
}

/// Totals of a batch's runs, by plugin in the order of first use.
#[derive(Default)]
struct Totals<'a>(Vec<(&'a PluginName, Account)>);

impl<'a> Totals<'a> {
    /// Adds a settlement to the totals, and writes its share to the batch, in case not all settlements are recorded.
    fn put(&mut self, batch: &mut Packer, settle: &'a Settle) {
        let Some((plugin, account)) = settle.account(RunEnd::of(&settle.settlement)) else {
            batch.number(0, 2).counted(b"", 2);
            return;
        };
        let nth = self.0.iter().position(|(known, _)| *known == plugin).unwrap_or_else(|| {
            self.0.push((plugin, Account::default()));
            self.0.len() - 1
        });
        self.0[nth].1 = self.0[nth].1.and(&account);
        let spent = numbers(&account.parts()[RunEnd::ALL.len()..]);
        batch.number(nth as u64 + 1, 2).counted(&spent, 2);
    }

    /// Encodes the plugins and their accounts, in the form of `lua/accounts.lua`.
    fn pack(self, asked: &mut Packer) {
        asked.array(2 * self.0.len());
        for (plugin, account) in &self.0 {
            asked.bytes(plugin.as_str().as_bytes()).bytes(&numbers(&account.parts()));
        }
    }
}

/// Encodes numbers as 64 bits each, big-endian.
fn numbers(of: &[u64]) -> Vec<u8> {
    of.iter().flat_map(|number| number.to_be_bytes()).collect()
}

fn put_settle(keys: &mut Keys, batch: &mut Packer, settle: &Settle) {
    let (what, delay, keep) = kind_of(settle);
    batch.number(settle.token.lease.0, 8).number(what, 1);
    batch.number(exact_millis(delay), 8).number(exact_millis(keep), 8);
    batch.number(settle.keep.is_counted.into(), 1);
    batch.counted(&tail_of(settle).bytes(), 4).counted(&lines(&settle.log), 4);
    let effects = match (&settle.settlement, &settle.ran) {
        (Settlement::Succeed { effects, .. }, Some(ran)) if has_effect(effects) => {
            effects_bytes(keys, ran, effects)
        }
        _ => Vec::new(),
    };
    batch.counted(&effects, 4);
}

/// Returns the settlement's code, the delay before the job is ready again, and the keep time if the job becomes final.
fn kind_of(settle: &Settle) -> (u64, Duration, Duration) {
    let keep = settle.keep;
    match &settle.settlement {
        Settlement::Succeed { .. } => (codes::SUCCEED, Duration::ZERO, keep.done),
        // Retries and releases make the job final only if its cancellation was requested.
        Settlement::Retry { after, .. } => (codes::RETRY, *after, keep.done),
        Settlement::Release { after, reason } if reason.is_host_fault() => {
            (codes::RELEASE_AS_FAULT, *after, keep.done)
        }
        Settlement::Release { after, reason: Reason::NoPlugin } => {
            (codes::RELEASE_WITHOUT_PLUGIN, *after, keep.done)
        }
        Settlement::Release { after, .. } => (codes::RELEASE, *after, keep.done),
        Settlement::Bury { .. } => (codes::BURY, Duration::ZERO, keep.dead),
        Settlement::Cancel => (codes::CANCEL_IT, Duration::ZERO, keep.done),
    }
}

fn tail_of(settle: &Settle) -> Tail<'_> {
    let (why, output) = match &settle.settlement {
        Settlement::Succeed { output, .. } => (None, Some(output.as_slice())),
        Settlement::Retry { reason, message, .. } | Settlement::Bury { reason, message } => {
            (Some((*reason, Some(message.as_str()))), None)
        }
        Settlement::Release { reason, .. } => (Some((*reason, None)), None),
        Settlement::Cancel => (Some((Reason::Cancelled, None)), None),
    };
    let ended = settle.recorded().and_then(|_| settle.why_in_brief());
    Tail { ran: settle.ran.as_ref(), why, progress: settle.progress.as_ref(), output, ended }
}

fn has_effect(effects: &Effects) -> bool {
    !effects.is_empty() || effects.expectations().len() > 0
}

fn effects_bytes(keys: &mut Keys, ran: &Ran, effects: &Effects) -> Vec<u8> {
    let mut packed = Packer::default();
    packed.array(12).array(2 * effects.expectations().len());
    for (key, value) in effects.expectations() {
        packed.uint(keys.state(&ran.plugin, key)).optional_bytes(value);
    }
    let (need_stored, others): (Vec<_>, Vec<_>) =
        effects.writes().partition(|(_, write)| write.needs_stored());
    packed.array(4 * effects.writes().len());
    for (key, write) in need_stored.iter().chain(&others) {
        packed.uint(keys.state(&ran.plugin, key));
        match write {
            // A value that expires at once is as good as deleted.
            StateWrite::Set { ttl: Some(Duration::ZERO), .. } | StateWrite::Delete => {
                packed.uint(codes::DELETE).absent().absent()
            }
            StateWrite::Set { value, ttl } => {
                packed.uint(codes::SET).bytes(value).optional_uint(ttl.map(exact_millis))
            }
            StateWrite::Replace(value) => packed.uint(codes::REPLACE).bytes(value).absent(),
            StateWrite::Add(by) => packed.uint(codes::ADD).bytes(by.to_string().as_bytes()).absent(),
        };
    }
    let most: usize = effects.writes().map(|(key, write)| key.as_str().len() + write.length_max()).sum();
    let StateQuota { bytes: Bytes(bytes), keys: keys_max } = ran.state_max;
    packed.uint(need_stored.len() as u64).uint(most as u64).uint(exact(bytes)).uint(exact(keys_max));
    let mut jobs = Packer::default();
    let first = put_jobs(keys, &mut jobs, effects.jobs());
    packed.uint(effects.jobs().len() as u64).uint(first).bytes(&jobs.into_bytes());
    let length: usize = effects.jobs().iter().map(|job| job.payload.len()).sum();
    packed.uint(length as u64).uint(exact(ran.queue_max.jobs)).uint(exact(ran.queue_max.bytes.0));
    packed.into_bytes()
}

/// Largest number up to which Lua's numbers are exact.
const EXACT_MAX: u64 = 1 << 53;

fn exact(n: u64) -> u64 {
    n.min(EXACT_MAX)
}

/// Whole milliseconds, up to 285,000 years.
fn exact_millis(duration: Duration) -> u64 {
    exact(millis(duration))
}

/// Does one thing to these jobs, of which none is named twice.
pub(super) fn act(tenant: &TenantId, action: JobAction, jobs: &[JobId], still: Option<Still>) -> Request {
    let mut request = Request::of(tenant);
    let what = match action {
        JobAction::Cancel => codes::CANCEL,
        JobAction::Redrive => codes::REDRIVE,
        JobAction::RunNow => codes::RUN_NOW,
        JobAction::Remove => codes::REMOVE,
    };
    let asked = &mut request.asked;
    asked.array(6).uint(what).uint(jobs.len() as u64).uint(exact_millis(Keep::default().done));
    asked.optional_uint(still.and_then(|still| still.state).map(layout::state_number));
    let LastTimes { leased_until, finished_until } = still.map(|still| still.last).unwrap_or_default();
    for time in [leased_until, finished_until] {
        asked.optional_uint(time.map(|time| exact(time.as_millis())));
    }
    for job in jobs {
        request.keys.job(*job);
        request.keys.run(*job);
    }
    request
}

pub(super) fn edit(tenant: &TenantId, job: JobId, edit: &JobEdit, bounds: &QueueBounds) -> Request {
    let JobEdit { payload, priority, due } = edit;
    let mut request = Request::of(tenant);
    let asked = &mut request.asked;
    asked.array(6).optional_bytes(payload.as_deref()).optional_uint(priority.map(|it| it.0.into()));
    match due {
        None => asked.absent().absent(),
        Some(Due::After(delay)) => asked.uint(exact_millis(*delay)).absent(),
        Some(Due::At(at)) => asked.absent().uint(exact(at.as_millis())),
    };
    asked.uint(exact(bounds.payload.0)).uint(exact(bounds.bytes.0));
    request.keys.job(job);
    request.keys.run(job);
    request
}

/// Returns the name of a scope, in the form of `lua/holds.lua`.
fn scope_name(HoldScope { queue, kind }: &HoldScope) -> String {
    let queue = queue.as_ref().map_or("", QueueName::as_str);
    format!("{queue} {}", kind.as_ref().map_or("", Kind::as_str))
}

/// Packs who does something and a note on it, and after what time or at what time it ends: four values, as far as they are there.
fn remark(asked: &mut Packer, by: Option<&str>, note: Option<&str>, end: &HoldEnd) {
    for text in [by, note] {
        asked.optional_bytes(text.map(str::as_bytes));
    }
    match end {
        HoldEnd::Lifted => asked.absent().absent(),
        HoldEnd::After(time) => asked.uint(exact_millis(*time)).absent(),
        HoldEnd::At(until) => asked.absent().uint(exact(until.as_millis())),
    };
}

pub(super) fn hold(tenant: &TenantId, hold: &NewHold) -> Request {
    let NewHold { scope, reason, by, end, note } = hold;
    let mut request = Request::of(tenant);
    let asked = &mut request.asked;
    asked.array(6).bytes(scope_name(scope).as_bytes()).bytes(reason.slug().as_bytes());
    remark(asked, by.as_deref(), note.as_deref(), end);
    request
}

pub(super) fn lift(tenant: &TenantId, scope: &HoldScope) -> Request {
    let mut request = Request::of(tenant);
    request.asked.array(6).bytes(scope_name(scope).as_bytes());
    request.asked.absent().absent().absent().absent().absent();
    request
}

pub(super) fn record_events(tenant: &TenantId, keep: EventKeep) -> Request {
    let mut request = Request::of(tenant);
    request.asked.array(2).uint(exact_millis(keep.time)).uint(keep.max.into());
    request
}

pub(super) fn events(tenant: &TenantId, after: EventCursor, max: usize) -> Request {
    let mut request = Request::of(tenant);
    request.asked.array(2).uint(exact(after.0)).uint(max.clamp(1, EVENTS_PAGE_MAX) as u64);
    request
}

pub(super) fn queues(tenant: &TenantId, after: Option<&QueueName>, max: usize) -> Request {
    let mut request = Request::of(tenant);
    request.asked.array(4).bytes(after.map_or("", QueueName::as_str).as_bytes());
    request.asked.uint(max.clamp(1, QUEUES_PAGE_MAX) as u64).uint(SCHEDULED_COUNTED_MAX).uint(LOOKED_UP_MAX);
    request
}

/// Creates a request for the calls that the user may not make.
pub(super) fn permissions(tenant: &TenantId) -> Request {
    let mut request = Request::of(tenant);
    let calls = acl::calls(tenant);
    request.asked.array(calls.len());
    for call in calls {
        request.asked.array(call.len());
        for word in call {
            request.asked.bytes(word.as_bytes());
        }
    }
    request
}

/// A request that has nothing to say but which job it is about.
pub(super) fn of_job(tenant: &TenantId, job: JobId) -> Request {
    let mut request = Request::of(tenant);
    request.keys.job(job);
    request.keys.run(job);
    request
}

pub(super) fn log(tenant: &TenantId, job: JobId) -> Request {
    let mut request = Request::of(tenant);
    request.keys.log(job);
    request
}

pub(super) fn jobs(tenant: &TenantId, query: &Query) -> Request {
    let Query { state, filter, after, limit, payloads } = query;
    let mut request = Request::of(tenant);
    let asked = &mut request.asked;
    asked.array(18).uint(layout::state_number(*state));
    match after {
        None => asked.absent().absent(),
        Some(Cursor { rank, id }) => asked.uint(exact(*rank)).bytes(id.to_string().as_bytes()),
    };
    asked.uint((*limit).clamp(1, Query::LIMIT_MAX).into());
    asked.uint(Query::LOOKED_AT_MAX as u64).uint(Query::READ_MAX as u64);
    asked.uint(Query::BYTES_MAX as u64).flag(*payloads);
    let Filter { queue, kind, reason, enqueued_from, enqueued_until, group, labels, message, last } = filter;
    asked.optional_bytes(queue.as_ref().map(|queue| queue.as_str().as_bytes()));
    asked.optional_bytes(kind.as_ref().map(|kind| kind.as_str().as_bytes()));
    asked.optional_bytes(reason.map(|reason| reason.slug().as_bytes()));
    asked.optional_bytes(group.as_ref().map(|group| group.as_str().as_bytes()));
    if labels.is_empty() {
        asked.absent();
    } else {
        asked.array(2 * labels.iter().len());
        for (name, value) in labels.iter() {
            asked.bytes(name.as_str().as_bytes()).bytes(value.as_str().as_bytes());
        }
    }
    asked.optional_bytes((!message.is_empty()).then_some(message.as_bytes()));
    for time in [enqueued_from, enqueued_until, &last.leased_until, &last.finished_until] {
        asked.optional_uint(time.map(|time| exact(time.as_millis())));
    }
    request
}

pub(super) fn usage(tenant: &TenantId, days: &RangeInclusive<Day>) -> Request {
    let mut request = Request::of(tenant);
    request.asked.array(3).uint(days.start().0.into()).uint(days.end().0.into()).uint(USAGE_DAYS_KEPT.into());
    request
}

pub(super) fn state(tenant: &TenantId, plugin: &PluginName, key: &StateKey) -> Request {
    let mut request = Request::of(tenant);
    request.keys.state(plugin, key);
    request
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Sized {
        job: u128,
        size: usize,
        operations: usize,
    }

    impl Item for Sized {
        fn job(&self) -> JobId {
            JobId::from_parts(Timestamp::from_millis(1), self.job)
        }

        fn size(&self) -> usize {
            self.size
        }

        fn operations(&self) -> usize {
            self.operations
        }
    }

    fn lengths(items: impl IntoIterator<Item = (u128, usize)>) -> Vec<usize> {
        let items: Vec<Sized> =
            items.into_iter().map(|(job, size)| Sized { job, size, operations: 1 }).collect();
        parts(&items).map(<[Sized]>::len).collect()
    }

    #[test]
    fn a_batch_is_cut_where_it_would_do_too_much() {
        let lengths = |operations: &[usize]| {
            let items: Vec<Sized> =
                (0..).zip(operations).map(|(job, n)| Sized { job, size: 1, operations: *n }).collect();
            parts(&items).map(<[Sized]>::len).collect::<Vec<_>>()
        };
        assert_eq!(lengths(&[5000, 5000, 1]), [1, 1, 1]);
        assert_eq!(lengths(&[2000, 2000, 2000, 1, 1]), [2, 3]);
    }

    #[test]
    fn a_batch_is_cut_where_it_gets_too_long_or_too_large_or_repeats_a_job() {
        assert_eq!(lengths([]), [] as [usize; 0]);
        assert_eq!(lengths((0..2500).map(|n| (n, 1))), [1000, 1000, 500]);
        assert_eq!(lengths([(0, PART_BYTES), (1, 1), (2, PART_BYTES * 2), (3, 1)]), [1, 1, 1, 1]);
        assert_eq!(lengths([(0, PART_BYTES / 2), (1, PART_BYTES / 2), (2, 1)]), [2, 1]);
        assert_eq!(lengths([(0, 1), (1, 1), (0, 1), (0, 1), (1, 1)]), [2, 1, 2]);
    }
}
