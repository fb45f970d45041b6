//! Replies of functions.

use std::collections::BTreeMap;
use std::num::NonZeroU16;
use std::time::Duration;

use redis::Value;
use sandhog_core::account::{Account, Day, DayUsage};
use sandhog_core::attempt::SettleReply;
use sandhog_core::budget::Fuel;
use sandhog_core::edit::Edited;
use sandhog_core::event::{EventCursor, EventPage, EventSpan};
use sandhog_core::flow::{Flow, FlowJobView};
use sandhog_core::group::{GroupTurns, TurnHolder};
use sandhog_core::group_limit::{GroupLimit, LimitsUse};
use sandhog_core::hold::{Hold, HoldReason, HoldScope};
use sandhog_core::id::{
    BreakerName, DaemonId, FlowJobName, GroupKey, JobId, Kind, LeaseNo, LeaseToken, PluginName, QueueName,
    ScheduleName, StateKey, TenantId,
};
use sandhog_core::job::{JobRecord, Lease, LogLine, State};
use sandhog_core::quota::{FuelSpent, PayloadExcess, QueueExcess, StateExcess};
use sandhog_core::rate::{FullAt, RateOf};
use sandhog_core::time::Timestamp;
use sandhog_core::trial::{Decision, Pair, Records, TrialStatus};
use sandhog_core::waits::WaitFacts;

use super::codes::{self, OF_ALL};
use super::keys;
use super::layout::{self, StoredJob, StoredRun};
use super::link::Answer;
use crate::breakers::{Barriers, sort_holds};
use crate::pack::{Unpacker, Unreadable};
use crate::{
    BreakerWritten, Breakers, Changed, Counts, Cursor, Enqueued, Error, Fleet, FlowStored, FlowView,
    GroupLimited, HeldGroup, HoldOutcome, LANES_MAX, Lanes, Leased, Page, ParentView, QueueCensus, QueuePage,
    Renewal, Result, ScheduleWritten, Schedules, Settle, StoredBreaker, StoredSchedule, Swept, Unread,
};

/// Length of a job's id in characters.
const ID_BYTES: usize = 26;

/// Error for a reply that hasn't the form of the function's replies.
fn unexpected(what: &'static str) -> Error {
    Error::Corrupt { at: "an answer of the server".to_owned(), problem: what.to_owned() }
}

fn unreadable(at: impl Into<String>) -> impl FnOnce(Unreadable) -> Error {
    move |Unreadable(problem)| Error::Corrupt { at: at.into(), problem: problem.to_owned() }
}

fn array(value: Value) -> Result<Vec<Value>> {
    match value {
        Value::Array(values) => Ok(values),
        _ => Err(unexpected("there is no array where one should be")),
    }
}

fn fixed<const N: usize>(value: Value) -> Result<[Value; N]> {
    array(value)?.try_into().map_err(|_| unexpected("an array has another length"))
}

fn bytes(value: Value) -> Result<Vec<u8>> {
    match value {
        Value::BulkString(bytes) => Ok(bytes),
        _ => Err(unexpected("there are no bytes where some should be")),
    }
}

pub(super) fn optional_bytes(value: Value) -> Result<Option<Vec<u8>>> {
    match value {
        Value::Nil => Ok(None),
        value => bytes(value).map(Some),
    }
}

fn count(value: &Value) -> Result<u64> {
    match value {
        Value::Int(n) => u64::try_from(*n).map_err(|_| unexpected("a count is negative")),
        _ => Err(unexpected("there is no whole number where one should be")),
    }
}

fn job_id(value: Value) -> Result<JobId> {
    let bytes = bytes(value)?;
    let text = std::str::from_utf8(&bytes).map_err(|_| unexpected("a job's id is no text"))?;
    JobId::parse(text).map_err(|_| unexpected("a job's id is no ULID"))
}

fn job_ids(value: Value) -> Result<Vec<JobId>> {
    array(value)?.into_iter().map(job_id).collect()
}

/// Decodes the reply to an enqueue of `jobs` jobs.
pub(super) fn enqueued(jobs: usize, reply: Value) -> Result<Vec<Enqueued>> {
    let one = |value| match value {
        Value::BulkString(holder) if holder.is_empty() => Ok(Enqueued::Stored),
        Value::BulkString(mut holder) if holder.len() == ID_BYTES + 1 => {
            holder.truncate(ID_BYTES);
            job_id(Value::BulkString(holder)).map(Enqueued::Replaced)
        }
        holder @ Value::BulkString(_) => job_id(holder).map(Enqueued::Duplicate),
        value => match count(&value)? {
            codes::TOO_LARGE => Ok(Enqueued::TooLarge),
            codes::TOO_MANY_JOBS => Ok(Enqueued::Full(QueueExcess::Jobs)),
            codes::TOO_MANY_JOB_BYTES => Ok(Enqueued::Full(QueueExcess::Bytes)),
            _ => Err(unexpected("an enqueue's answer is unknown")),
        },
    };
    match reply {
        Value::Nil => Ok(vec![Enqueued::Stored; jobs]),
        reply => array(reply)?.into_iter().map(one).collect(),
    }
}

pub(super) fn leased(tenant: &TenantId, reply: Value) -> Result<Leased> {
    let [next_due, unreadable, leases, spent, lanes, now, next_token] = fixed(reply)?;
    tell_unreadable(tenant, unreadable)?;
    let (leases, spent) = (leases_in(tenant, leases)?, fuel_spent(spent)?);
    let now = Timestamp::from_millis(count(&now)?);
    let next_token = match &next_token {
        Value::Nil => None,
        micros => Some(Duration::from_micros(count(micros)?)),
    };
    let lanes = count(&lanes)?;
    Ok(Leased { leases, next_due: from_now(&next_due)?, spent, now, next_token, lanes })
}

fn tell_unreadable(tenant: &TenantId, ids: Value) -> Result<()> {
    for id in job_ids(ids)? {
        let at = keys::job(tenant, id);
        tracing::error!(at, "put a job aside, as it is gone or can't be read; did the server evict keys?");
    }
    Ok(())
}

fn from_now(millis: &Value) -> Result<Option<Duration>> {
    match millis {
        Value::Nil => Ok(None),
        millis => Ok(Some(Duration::from_millis(count(millis)?))),
    }
}

pub(super) fn swept(tenant: &TenantId, reply: Value) -> Result<Swept> {
    let [next_due, buried, next_removal, has_ready, unreadable, found, next_schedule] = fixed(reply)?;
    tell_unreadable(tenant, found)?;
    Ok(Swept {
        buried: job_ids(buried)?,
        next_due: from_now(&next_due)?,
        next_schedule: from_now(&next_schedule)?,
        next_removal: from_now(&next_removal)?,
        has_ready: count(&has_ready)? > 0,
        unreadable: count(&unreadable)?,
    })
}

pub(super) fn schedule(reply: Value) -> Result<ScheduleWritten> {
    if let holder @ Value::BulkString(_) = reply {
        return job_id(holder).map(|holder| ScheduleWritten::Refused(Enqueued::Duplicate(holder)));
    }
    match count(&reply)? {
        codes::WRITTEN => Ok(ScheduleWritten::Done),
        codes::STALE => Ok(ScheduleWritten::Stale),
        codes::TOO_MANY_SCHEDULES => Ok(ScheduleWritten::TooMany),
        codes::TOO_LARGE => Ok(ScheduleWritten::Refused(Enqueued::TooLarge)),
        codes::TOO_MANY_JOBS => Ok(ScheduleWritten::Refused(Enqueued::Full(QueueExcess::Jobs))),
        codes::TOO_MANY_JOB_BYTES => Ok(ScheduleWritten::Refused(Enqueued::Full(QueueExcess::Bytes))),
        _ => Err(unexpected("the answer to a write of a schedule is unknown")),
    }
}

pub(super) fn schedules(reply: Value) -> Result<Schedules> {
    let [now, schedules] = fixed(reply)?;
    let one = |value| {
        let [name, due_at, stored] = fixed(value)?;
        let (name, stored) = (bytes(name)?, bytes(stored)?);
        let name = std::str::from_utf8(&name).ok().and_then(|name| ScheduleName::parse(name).ok());
        let name = name.ok_or_else(|| unexpected("the name of a schedule is none"))?;
        let due_at = Some(timestamp(&bytes(due_at)?)?).filter(|due| due.as_millis() < codes::NEVER);
        let mut from = Unpacker::new(&stored);
        let version = from.number(6).map_err(unreadable("schedules:records"))?;
        Ok(StoredSchedule { name, version, due_at, record: Ok(from.rest().to_vec()) })
    };
    let schedules = array(schedules)?.into_iter().map(one).collect::<Result<_>>()?;
    Ok(Schedules { now: Timestamp::from_millis(count(&now)?), schedules })
}

/// Decodes the number of jobs and values that a purge has left, and how many more it could have removed.
pub(super) fn purged(reply: Value) -> Result<(u64, usize)> {
    let [left, room] = fixed(reply)?;
    let room = usize::try_from(count(&room)?).map_err(|_| unexpected("a count is out of range"))?;
    Ok((count(&left)?, room))
}

fn fuel_spent(reply: Value) -> Result<Option<FuelSpent>> {
    let values = array(reply)?;
    let [now, minute, day] = values.as_slice() else { return Ok(None) };
    let fuel = |value: &Value| match value {
        Value::BulkString(bytes) => bytes.as_slice().try_into().ok().map(u64::from_be_bytes).map(Fuel),
        _ => None,
    };
    let now = Timestamp::from_millis(count(now)?);
    let (minute, day) = fuel(minute).zip(fuel(day)).ok_or_else(|| unexpected("spent fuel is no number"))?;
    Ok(Some(FuelSpent::at(now, minute, day)))
}

fn leases_in(tenant: &TenantId, reply: Value) -> Result<Vec<Lease>> {
    let replies = array(reply)?;
    let mut leases = Vec::with_capacity(replies.len());
    for reply in replies {
        let bytes = bytes(reply)?;
        let mut from = Unpacker::new(&bytes);
        let (token, counts) = lease_head(&mut from).map_err(unreadable("an answer of the server"))?;
        match StoredJob::read(token.job, from.rest()) {
            Ok(job) => leases.push(Lease { token, job: job.leased(tenant, counts) }),
            // The others can run. This one is buried when its lease has expired often enough.
            Err(problem) => {
                tracing::error!(%tenant, job = %token.job, %problem, "a leased job is unreadable")
            }
        }
    }
    Ok(leases)
}

/// Decodes the token, and the counts of attempts, expiries and faults.
fn lease_head(from: &mut Unpacker<'_>) -> std::result::Result<(LeaseToken, [u32; 3]), Unreadable> {
    let id = std::str::from_utf8(from.take(ID_BYTES)?).map_err(|_| Unreadable("a job's id is no text"))?;
    let job = JobId::parse(id).map_err(|_| Unreadable("a job's id is no ULID"))?;
    let lease = LeaseNo(from.number(6)?);
    let mut count =
        || u32::try_from(from.number(4)?).map_err(|_| Unreadable("a count of a lease is out of range"));
    Ok((LeaseToken { job, lease }, [count()?, count()?, count()?]))
}

pub(super) fn renewals(reply: Value) -> Result<Vec<Renewal>> {
    let one = |value| match count(&value)? {
        codes::LOST => Ok(Renewal::Lost),
        codes::HELD => Ok(Renewal::Held),
        codes::CANCEL_REQUESTED => Ok(Renewal::CancelRequested),
        codes::UNREADABLE => Ok(Renewal::Unreadable),
        _ => Err(unexpected("a renewal's answer is unknown")),
    };
    array(reply)?.into_iter().map(one).collect()
}

pub(super) fn settled(tenant: &TenantId, settlements: &[Settle], reply: Value) -> Result<Vec<SettleReply>> {
    let full = |settle: &Settle, excess| {
        let quota = settle.ran.as_ref().map(|ran| ran.state_max);
        let full = |quota| SettleReply::Full { excess, quota };
        quota.map(full).ok_or_else(|| unexpected("what didn't run can't fill the state"))
    };
    let queue_full = |settle: &Settle, excess| {
        let bounds = settle.ran.as_ref().map(|ran| ran.queue_max);
        let full = |bounds| SettleReply::QueueFull { excess, bounds };
        bounds.map(full).ok_or_else(|| unexpected("what didn't run can't fill a queue"))
    };
    let conflict = |key: &[u8]| {
        let key = std::str::from_utf8(key).ok().and_then(|key| keys::state_key_in(tenant, key));
        let key = key.and_then(|key| StateKey::parse(key).ok());
        key.map(|key| SettleReply::Conflict { key }).ok_or_else(|| unexpected("a state's key is unknown"))
    };
    let one = |(settle, value): (&Settle, Value)| match value {
        Value::BulkString(key) => conflict(&key),
        value => match count(&value)? {
            codes::LOST => Ok(SettleReply::Lost),
            codes::APPLIED => Ok(SettleReply::Applied),
            codes::TOO_MANY_BYTES => full(settle, StateExcess::Bytes),
            codes::TOO_MANY_KEYS => full(settle, StateExcess::Keys),
            codes::TOO_MANY_JOBS => queue_full(settle, QueueExcess::Jobs),
            codes::TOO_MANY_JOB_BYTES => queue_full(settle, QueueExcess::Bytes),
            codes::UNREADABLE => Ok(SettleReply::Unreadable),
            _ => Err(unexpected("a settlement's answer is unknown")),
        },
    };
    let values = array(reply)?;
    if values.len() != settlements.len() {
        return Err(unexpected("there is not one answer for each settlement"));
    }
    settlements.iter().zip(values).map(one).collect()
}

/// Decodes the result for each of `jobs` jobs.
pub(super) fn changed(jobs: usize, reply: Value) -> Result<Vec<Changed>> {
    let one = |value| match value {
        holder @ Value::BulkString(_) => job_id(holder).map(Changed::Duplicate),
        value => match count(&value)? {
            codes::DONE => Ok(Changed::Done),
            codes::REQUESTED => Ok(Changed::Requested),
            codes::TOUCHED => Ok(Changed::Touched),
            codes::UNKNOWN => Ok(Changed::Unknown),
            codes::UNREADABLE => Ok(Changed::Unreadable),
            other => not_in(other).map(Changed::Not),
        },
    };
    let values = array(reply)?;
    if values.len() != jobs {
        return Err(unexpected("there is not one answer for each job"));
    }
    values.into_iter().map(one).collect()
}

pub(super) fn edited(reply: &Value) -> Result<Edited> {
    match count(reply)? {
        codes::DONE => Ok(Edited::Done),
        codes::UNKNOWN => Ok(Edited::Unknown),
        codes::UNREADABLE => Ok(Edited::Unreadable),
        codes::TOO_LARGE => Ok(Edited::Excess(PayloadExcess::TooLarge)),
        codes::TOO_MANY_JOB_BYTES => Ok(Edited::Excess(PayloadExcess::Full(QueueExcess::Bytes))),
        other => not_in(other).map(Edited::Not),
    }
}

/// Decodes the answer that nothing can be done to a job in its state.
fn not_in(code: u64) -> Result<State> {
    let number = code.checked_sub(codes::NOT_IN).ok_or_else(|| unexpected("an answer is unknown"))?;
    layout::state(number).map_err(unreadable("an answer of the server"))
}

pub(super) fn record(tenant: &TenantId, reply: Value) -> Result<Option<JobRecord>> {
    if reply == Value::Nil {
        return Ok(None);
    }
    let (id, record) = record_or_problem(tenant, reply)?;
    match record {
        Ok(record) => Ok(Some(record)),
        Err((at, problem)) => Err(Error::Corrupt { at: at(tenant, id), problem: problem.to_owned() }),
    }
}

/// An unreadable part: the function that names its key, and a description of what is wrong.
type Problem = (fn(&TenantId, JobId) -> String, &'static str);

fn record_or_problem(
    tenant: &TenantId,
    reply: Value,
) -> Result<(JobId, std::result::Result<JobRecord, Problem>)> {
    let [id, job, run, at, is_blocked, open] = fixed(reply)?;
    let id = job_id(id)?;
    let (job, run) = (optional_bytes(job)?, optional_bytes(run)?);
    let at = optional_bytes(at)?.map(|score| timestamp(&score)).transpose()?;
    let is_blocked = count(&is_blocked)? > 0;
    let open = open_in(optional_bytes(open)?)?;
    let read = || {
        let job = job.as_deref().ok_or((keys::job as _, "it is gone, or something else than a job"))?;
        let job = StoredJob::read(id, job).map_err(|Unreadable(problem)| (keys::job as _, problem))?;
        let run = match &run {
            Some(run) => StoredRun::read(run).map_err(|Unreadable(problem)| (keys::run as _, problem))?,
            None => StoredRun::none(),
        };
        Ok(job.record(tenant, run, at, is_blocked, open))
    };
    Ok((id, read()))
}

/// Decodes the ids of jobs that a blocked one waits for, which stand one after the other.
fn open_in(ids: Option<Vec<u8>>) -> Result<Vec<JobId>> {
    let ids = ids.unwrap_or_default();
    ids.chunks(ID_BYTES).map(|id| job_id(Value::BulkString(id.to_vec()))).collect()
}

/// Decodes the reply to a flow that was to be stored.
pub(super) fn flow_stored(flow: &Flow, reply: Value) -> Result<FlowStored> {
    if reply == Value::Nil {
        return Ok(FlowStored::Stored);
    }
    let [place, why] = fixed(reply)?;
    let nth = count(&place)?.checked_sub(1).and_then(|nth| usize::try_from(nth).ok());
    let job = nth.and_then(|nth| flow.nodes().get(nth)).map(|node| node.job.id);
    let job = job.ok_or_else(|| unexpected("there is no such job in the flow"))?;
    Ok(match why {
        holder @ Value::BulkString(_) => FlowStored::Duplicate { job, holder: job_id(holder)? },
        code => match count(&code)? {
            codes::TAKEN => FlowStored::Taken(job),
            codes::TOO_LARGE => FlowStored::TooLarge(job),
            codes::TOO_MANY_JOBS => FlowStored::Full(QueueExcess::Jobs),
            codes::TOO_MANY_JOB_BYTES => FlowStored::Full(QueueExcess::Bytes),
            _ => return Err(unexpected("a flow's answer is unknown")),
        },
    })
}

/// Decodes the jobs of a flow, in any order. A job that can't be read doesn't keep others from being shown.
pub(super) fn flow(tenant: &TenantId, reply: Value) -> Result<Option<FlowView>> {
    let (mut jobs, mut unread) = (Vec::new(), Vec::new());
    for reply in array(reply)? {
        let [record, node] = fixed(reply)?;
        let (id, record) = record_or_problem(tenant, record)?;
        let node = layout::read_flow_node(&bytes(node)?);
        match (record, node) {
            (Ok(job), Ok((place, name, parents))) => jobs.push((place, FlowJobView { name, parents, job })),
            (Err((_, problem)), _) | (_, Err(Unreadable(problem))) => {
                unread.push(Unread { id, problem: problem.to_owned() })
            }
        }
    }
    if jobs.is_empty() && unread.is_empty() {
        return Ok(None);
    }
    jobs.sort_by_key(|(place, _)| *place);
    unread.sort_by_key(|unread| unread.id);
    Ok(Some(FlowView { jobs: jobs.into_iter().map(|(_, job)| job).collect(), unread }))
}

/// Decodes what the parents of a job have come to.
pub(super) fn parents(tenant: &TenantId, reply: Value) -> Result<Vec<ParentView>> {
    let one = |reply| {
        let [name, record, output] = fixed(reply)?;
        let name = bytes(name)?;
        let name = std::str::from_utf8(&name).ok().and_then(|name| FlowJobName::parse(name).ok());
        let name = name.ok_or_else(|| unexpected("the name of a job in a flow is none"))?;
        let (id, record) = record_or_problem(tenant, record)?;
        let state = record.ok().map(|record| record.state);
        Ok(ParentView { name, id, state, output: optional_bytes(output)? })
    };
    array(reply)?.into_iter().map(one).collect()
}

/// Decodes a time from a sorted set's score.
fn timestamp(score: &[u8]) -> Result<Timestamp> {
    let score = std::str::from_utf8(score).ok().and_then(|score| score.parse::<f64>().ok());
    // A score past the range of u64 becomes its end, as times do.
    score.map(|score| Timestamp::from_millis(score as u64)).ok_or_else(|| unexpected("a score is no number"))
}

/// Decodes a page of a list. A job that can't be read doesn't keep others from being shown.
pub(super) fn page(tenant: &TenantId, payloads: bool, reply: Value) -> Result<Page> {
    let [records, rank, id, now] = fixed(reply)?;
    let now = Timestamp::from_millis(count(&now)?);
    let next = match (optional_bytes(rank)?, optional_bytes(id)?) {
        (Some(rank), Some(id)) => {
            Some(Cursor { rank: timestamp(&rank)?.as_millis(), id: job_id(Value::BulkString(id))? })
        }
        _ => None,
    };
    let mut page = Page { jobs: Vec::new(), next, unread: Vec::new(), now };
    for reply in array(records)? {
        match record_or_problem(tenant, reply)? {
            (_, Ok(record)) if payloads => page.jobs.push(record),
            (_, Ok(record)) => page.jobs.push(record.without_payloads()),
            (id, Err((_, problem))) => page.unread.push(Unread { id, problem: problem.to_owned() }),
        }
    }
    Ok(page)
}

/// Decodes the lanes, in the order of their queues and kinds.
pub(super) fn lanes(reply: Value) -> Result<Lanes> {
    let [number, names] = fixed(reply)?;
    let lane = |value| {
        let name = bytes(value)?;
        let parts = std::str::from_utf8(&name).ok().and_then(|name| name.split_once(' '));
        let parts = parts.and_then(|(queue, kind)| QueueName::parse(queue).ok().zip(Kind::parse(kind).ok()));
        parts.ok_or_else(|| unexpected("the name of a lane is none"))
    };
    let mut lanes = array(names)?.into_iter().map(lane).collect::<Result<Vec<_>>>()?;
    lanes.sort_unstable();
    lanes.truncate(LANES_MAX);
    Ok(Lanes { number: count(&number)?, lanes })
}

pub(super) fn held(reply: Value) -> Result<HoldOutcome> {
    match count(&reply)? {
        codes::DONE => Ok(HoldOutcome::Held),
        codes::LIFTED => Ok(HoldOutcome::Lifted),
        codes::NOT_HELD => Ok(HoldOutcome::NotHeld),
        codes::TOO_MANY_HOLDS => Ok(HoldOutcome::TooMany),
        _ => Err(unexpected("a hold's answer is unknown")),
    }
}

pub(super) fn breaker(reply: &Value) -> Result<BreakerWritten> {
    match count(reply)? {
        codes::WRITTEN => Ok(BreakerWritten::Done),
        codes::STALE => Ok(BreakerWritten::Stale),
        codes::TOO_MANY_BREAKERS => Ok(BreakerWritten::TooMany),
        _ => Err(unexpected("the answer to a write of a breaker is unknown")),
    }
}

pub(super) fn breakers(reply: Value) -> Result<Breakers> {
    let [now, pairs] = fixed(reply)?;
    let one = |(name, stored): (BreakerName, Vec<u8>)| {
        let mut from = Unpacker::new(&stored);
        let version = from.number(6).map_err(unreadable("breakers"))?;
        Ok(StoredBreaker { name, version, record: Ok(from.rest().to_vec()) })
    };
    let mut breakers = by_breaker(pairs)?.into_iter().map(one).collect::<Result<Vec<_>>>()?;
    breakers.sort_unstable_by(|one, other| one.name.cmp(&other.name));
    Ok(Breakers { now: Timestamp::from_millis(count(&now)?), breakers })
}

/// Decodes the list of daemons.
pub(super) fn fleet(reply: Value) -> Result<Fleet> {
    let [now, listed] = fixed(reply)?;
    let (mut listed, mut entries) = (array(listed)?.into_iter(), Vec::new());
    while let (Some(id), Some(seen), Some(told)) = (listed.next(), listed.next(), listed.next()) {
        let id = bytes(id)?;
        let id = std::str::from_utf8(&id).ok().and_then(|id| DaemonId::parse(id).ok());
        let id = id.ok_or_else(|| unexpected("the id of a daemon is none"))?;
        entries.push((id, Timestamp::from_millis(count(&seen)?), bytes(told)?));
    }
    let now = Timestamp::from_millis(count(&now)?);
    Ok(Fleet::of(now, entries.iter().map(|(id, seen, told)| (*id, *seen, &told[..]))))
}

/// Decodes names of breakers, each with the bytes behind it.
fn by_breaker(pairs: Value) -> Result<Vec<(BreakerName, Vec<u8>)>> {
    let (mut pairs, mut found) = (array(pairs)?.into_iter(), Vec::new());
    while let (Some(name), Some(stored)) = (pairs.next(), pairs.next()) {
        let name = bytes(name)?;
        let name = std::str::from_utf8(&name).ok().and_then(|name| BreakerName::parse(name).ok());
        found.push((name.ok_or_else(|| unexpected("the name of a breaker is none"))?, bytes(stored)?));
    }
    Ok(found)
}

/// Decodes all holds, in the order in which they are listed.
pub(super) fn holds(tenant: &TenantId, reply: Value) -> Result<Vec<Hold>> {
    let [now, made, gates] = fixed(reply)?;
    all_holds(tenant, Timestamp::from_millis(count(&now)?), made, gates)
}

fn all_holds(tenant: &TenantId, now: Timestamp, made: Value, gates: Value) -> Result<Vec<Hold>> {
    let gate = |(name, stored): (BreakerName, Vec<u8>)| {
        Ok((name, layout::read_gate(&stored).map_err(unreadable("gates"))?))
    };
    let gates = by_breaker(gates)?.into_iter().map(gate).collect::<Result<Vec<_>>>()?;
    let mut holds = holds_by_hand(tenant, made)?;
    holds.extend(Barriers::new(gates, now).holds());
    sort_holds(&mut holds);
    Ok(holds)
}

fn holds_by_hand(tenant: &TenantId, reply: Value) -> Result<Vec<Hold>> {
    let hold = |value| {
        let [scope, until, noted] = fixed(value)?;
        let until = optional_bytes(until)?.map(|ends| timestamp(&ends)).transpose()?;
        let (scope, noted) = (bytes(scope)?, optional_bytes(noted)?.unwrap_or_default());
        read_hold(&scope, until, &noted).map_err(unreadable(keys::hold_notes(tenant)))
    };
    array(reply)?.into_iter().map(hold).collect()
}

pub(super) fn why(tenant: &TenantId, reply: Value) -> Result<Option<WaitFacts>> {
    if reply == Value::Nil {
        return Ok(None);
    }
    let [now, ahead, of_minute, of_day, covering, gates, kind, leased, rates, turns] = fixed(reply)?;
    let kind = bytes(kind)?;
    let is_its = |hold: &Hold| hold.scope.kind.as_ref().is_none_or(|own| own.as_str().as_bytes() == kind);
    let at = Timestamp::from_millis(count(&now)?);
    let no_fuel = || unexpected("spent fuel is no number");
    let spent = fuel_spent(Value::Array(vec![now, of_minute, of_day]))?.ok_or_else(no_fuel)?;
    let limits = leased_under_limits(leased)?;
    let rates = rates_spent(rates, at)?;
    let group = if turns == Value::Nil { None } else { Some(group_turns(turns)?) };
    Ok(Some(WaitFacts {
        now: at,
        holds: all_holds(tenant, at, covering, gates)?.into_iter().filter(is_its).collect(),
        ahead: count(&ahead)?,
        spent,
        limits,
        rates,
        group,
    }))
}

/// Decodes the use of limits.
pub(super) fn limits(reply: Value) -> Result<LimitsUse> {
    let [now, leased, rates, groups] = fixed(reply)?;
    let now = Timestamp::from_millis(count(&now)?);
    let mut groups = array(groups)?.into_iter().map(group_limit).collect::<Result<Vec<_>>>()?;
    groups.sort_by(|(a, _), (b, _)| (&a.queue, &a.group).cmp(&(&b.queue, &b.group)));
    Ok(LimitsUse { now, leased: leased_under_limits(leased)?, rates: rates_spent(rates, now)?, groups })
}

fn group_limit(reply: Value) -> Result<(GroupLimit, u16)> {
    let [queue, group, turns, is_on, until, since, by, note, taken] = fixed(reply)?;
    let name = |value, what| String::from_utf8(bytes(value)?).map_err(|_| unexpected(what));
    let number = |value: &Value| {
        u16::try_from(count(value)?).map_err(|_| unexpected("a number of turns is too large"))
    };
    let no_group = "the group of a limit is none";
    let text = |value| {
        let text = optional_bytes(value)?.map(String::from_utf8).transpose();
        text.map_err(|_| unexpected("a text of a limit is no text"))
    };
    let limit = GroupLimit {
        queue: name(queue, no_group)?.parse().map_err(|_| unexpected(no_group))?,
        group: name(group, no_group)?.parse().map_err(|_| unexpected(no_group))?,
        concurrency: NonZeroU16::new(number(&turns)?).ok_or_else(|| unexpected("a limit has no turns"))?,
        is_on: count(&is_on)? == 1,
        by: text(by)?,
        since: Timestamp::from_millis(count(&since)?),
        until: match until {
            Value::Nil => None,
            until => Some(Timestamp::from_millis(count(&until)?)),
        },
        note: text(note)?,
    };
    Ok((limit, number(&taken)?))
}

/// Decodes the answer to a change of the limit of a group.
pub(super) fn limited(reply: &Value) -> Result<GroupLimited> {
    match count(reply)? {
        codes::DONE => Ok(GroupLimited::Done),
        codes::NOT_LIMITED => Ok(GroupLimited::NotLimited),
        codes::TOO_MANY_LIMITS => Ok(GroupLimited::TooMany),
        _ => Err(unexpected("the answer to a change of a limit is unknown")),
    }
}

/// Decodes how many jobs are leased under each limit; those under which none is are left out.
fn leased_under_limits(reply: Value) -> Result<Vec<(PluginName, u64)>> {
    let mut limits = Vec::new();
    for pair in array(reply)?.chunks_exact(2) {
        let [Value::BulkString(name), leased] = pair else { return Err(unexpected("a limit has no name")) };
        let name = std::str::from_utf8(name).ok().and_then(|name| PluginName::parse(name).ok());
        let leased = count(leased)?;
        limits.extend(name.filter(|_| leased > 0).map(|name| (name, leased)));
    }
    limits.sort_unstable();
    Ok(limits)
}

/// Decodes the states of rate limits of which not all tokens are there. Those that this version doesn't know are left out.
fn rates_spent(reply: Value, now: Timestamp) -> Result<Vec<(RateOf, FullAt)>> {
    let mut rates = Vec::new();
    for pair in array(reply)?.chunks_exact(2) {
        let [Value::BulkString(name), full_at] = pair else {
            return Err(unexpected("a rate limit has no name"));
        };
        let of = std::str::from_utf8(name).ok().and_then(RateOf::from_key);
        let full_at = FullAt(count(full_at)?);
        rates.extend(of.filter(|_| full_at.0 > now.as_micros()).map(|of| (of, full_at)));
    }
    rates.sort_unstable();
    Ok(rates)
}

fn group_turns(reply: Value) -> Result<GroupTurns> {
    let [taken, most, holder, is_dead] = fixed(reply)?;
    let number = |value: &Value| {
        u16::try_from(count(value)?).map_err(|_| unexpected("a number of turns is too large"))
    };
    let is_dead = count(&is_dead)? == 1;
    let holder = optional_bytes(holder)?.map(|id| {
        let job = std::str::from_utf8(&id).ok().and_then(|id| id.parse().ok());
        Ok(TurnHolder { job: job.ok_or_else(|| unexpected("a job with a turn has no id"))?, is_dead })
    });
    Ok(GroupTurns { taken: number(&taken)?, most: number(&most)?, holder: holder.transpose()? })
}

fn read_hold(scope: &[u8], until: Option<Timestamp>, noted: &[u8]) -> std::result::Result<Hold, Unreadable> {
    let no_scope = Unreadable("the scope of a hold is none");
    let (queue, kind) =
        std::str::from_utf8(scope).ok().and_then(|name| name.split_once(' ')).ok_or(no_scope)?;
    let queue = (!queue.is_empty()).then(|| QueueName::parse(queue)).transpose().map_err(|_| no_scope)?;
    let kind = (!kind.is_empty()).then(|| Kind::parse(kind)).transpose().map_err(|_| no_scope)?;
    let mut from = Unpacker::new(noted);
    from.array()?;
    let since = Timestamp::from_millis(from.uint()?);
    let reason = HoldReason::from_slug(from.text()?).ok_or(Unreadable("a hold's reason is unknown"))?;
    let by = from.optional(Unpacker::text)?.map(str::to_owned);
    let note = from.optional(Unpacker::text)?.map(str::to_owned);
    Ok(Hold { scope: HoldScope { queue, kind }, reason, by, since, until, note })
}

/// Decodes the place behind the last event.
pub(super) fn recording(reply: &Value) -> Result<EventCursor> {
    count(reply).map(EventCursor)
}

/// Decodes a page of events behind a place. What this version can't read of them is left out.
pub(super) fn events(tenant: &TenantId, after: EventCursor, reply: Value) -> Result<EventPage> {
    if reply == Value::Nil {
        return Ok(EventPage::of(after, None, 0, Vec::new()));
    }
    let [first, last, found] = fixed(reply)?;
    let kept =
        EventSpan { before: EventCursor(count(&first)?.saturating_sub(1)), end: EventCursor(count(&last)?) };
    let found = array(found)?;
    let mut events = Vec::with_capacity(found.len());
    let read = found.len();
    for event in found {
        match layout::read_event(&bytes(event)?) {
            Ok(event) => events.push(event),
            Err(Unreadable(problem)) => {
                tracing::warn!(at = keys::events(tenant), problem, "an event can't be read, and is left out");
            }
        }
    }
    Ok(EventPage::of(after, Some(kept), read, events))
}

/// Decodes whether a group was held.
pub(super) fn released(reply: &Value) -> Result<bool> {
    Ok(count(reply)? > 0)
}

/// Decodes held groups.
pub(super) fn held_groups(reply: Value) -> Result<Vec<HeldGroup>> {
    let mut parts = array(reply)?.into_iter();
    let mut groups = Vec::new();
    while let (Some(queue), Some(group), Some(job), Some(since)) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    {
        let text = |value| String::from_utf8(bytes(value)?).map_err(|_| unexpected("a name is no text"));
        let queue = QueueName::parse(&text(queue)?).map_err(|_| unexpected("a queue's name is none"))?;
        let group = GroupKey::parse(&text(group)?).map_err(|_| unexpected("a group's key is none"))?;
        let since = Timestamp::from_millis(count(&since)?);
        groups.push(HeldGroup { queue, group, job: job_id(job)?, since });
    }
    Ok(groups)
}

/// Decodes a page of the census of queues.
pub(super) fn queues(reply: Value) -> Result<QueuePage> {
    let [now, found, has_more] = fixed(reply)?;
    let optional = |value: &Value| match value {
        Value::Nil => Ok(None),
        value => count(value).map(Some),
    };
    let census = |of_queue| {
        let [queue, ready, scheduled, blocked, leased, oldest] = fixed(of_queue)?;
        let queue = bytes(queue)?;
        let queue = std::str::from_utf8(&queue).ok().and_then(|name| QueueName::parse(name).ok());
        Ok(QueueCensus {
            queue: queue.ok_or_else(|| unexpected("a queue's name is none"))?,
            ready: count(&ready)?,
            scheduled: optional(&scheduled)?,
            blocked: optional(&blocked)?,
            leased: optional(&leased)?,
            oldest_ready: optional(&oldest)?.map(Timestamp::from_millis),
        })
    };
    let queues: Vec<_> = array(found)?.into_iter().map(census).collect::<Result<_>>()?;
    let next = queues.last().filter(|_| has_more != Value::Int(0)).map(|last| last.queue.clone());
    Ok(QueuePage { queues, next, now: Timestamp::from_millis(count(&now)?) })
}

/// Decodes the registered tenants; empty if the user may not look.
pub(super) fn tenants(answer: Answer) -> Result<Vec<TenantId>> {
    let Answer::Given(reply) = answer else { return Ok(Vec::new()) };
    let tenant = |value| {
        let name = bytes(value)?;
        let name = std::str::from_utf8(&name).ok().and_then(|name| TenantId::parse(name).ok());
        name.ok_or_else(|| unexpected("a tenant's name is none"))
    };
    array(reply)?.into_iter().map(tenant).collect()
}

/// Decodes the places, from 0 on, of the calls that the user may not make.
pub(super) fn refused(reply: Value) -> Result<Vec<usize>> {
    let place = |value: Value| Ok(usize::try_from(count(&value)?).unwrap_or(usize::MAX));
    array(reply)?.into_iter().map(place).collect()
}

pub(super) fn log(key: &str, reply: Value) -> Result<Vec<LogLine>> {
    let line = |value| layout::read_log_line(&bytes(value)?).map_err(unreadable(key));
    array(reply)?.into_iter().map(line).collect()
}

pub(super) fn counts(reply: Value) -> Result<Counts> {
    let mut counts = Counts::default();
    let mut values = array(reply)?.into_iter();
    for (state, value) in State::ALL.into_iter().zip(values.by_ref()) {
        counts[state] = count(&value)?;
    }
    counts.unreadable = values.next().as_ref().map_or(Ok(0), count)?;
    Ok(counts)
}

/// Decodes an account in the form of `lua/accounts.lua`, or `None` if it hasn't that form.
fn account(numbers: &[u8]) -> Option<Account> {
    let (numbers, []) = numbers.as_chunks::<8>() else { return None };
    let parts: [[u8; 8]; Account::PARTS.len()] = numbers.try_into().ok()?;
    Some(Account::from_parts(parts.map(u64::from_be_bytes)))
}

pub(super) fn trial(tenant: &TenantId, pair: &Pair, reply: Value) -> Result<TrialStatus> {
    let unreadable =
        |problem: &str| Error::Corrupt { at: keys::trial(tenant, pair), problem: problem.to_owned() };
    let [began, age, decision, others] = fixed(reply)?;
    let decision = optional_bytes(decision)?.map(|text| {
        let decision = std::str::from_utf8(&text).ok().and_then(Decision::parse);
        decision.ok_or_else(|| unreadable("its decision is none"))
    });
    let mut sum = Records::default();
    for pair in array(others)?.chunks_exact(2) {
        let [_, Value::BulkString(counted)] = pair else {
            return Err(unexpected("what a daemon has counted is no bytes"));
        };
        let counted = Records::from_bytes(counted);
        sum = sum.and(&counted.ok_or_else(|| unreadable("what a daemon has counted is no count of runs"))?);
    }
    Ok(TrialStatus {
        began: Timestamp::from_millis(count(&began)?),
        age: Duration::from_millis(count(&age)?),
        others: sum,
        decision: decision.transpose()?,
    })
}

pub(super) fn usage(tenant: &TenantId, reply: Value) -> Result<Vec<DayUsage>> {
    let mut usage = Vec::new();
    let mut days = array(reply)?.into_iter();
    while let (Some(day), Some(fields)) = (days.next(), days.next()) {
        let day = Day(u32::try_from(count(&day)?).map_err(|_| unexpected("a day is out of range"))?);
        let unreadable = || Error::Corrupt {
            at: keys::usage(tenant, day),
            problem: "a field is not what this version writes".to_owned(),
        };
        let mut accounts = BTreeMap::new();
        for pair in array(fields)?.chunks_exact(2) {
            let [Value::BulkString(name), Value::BulkString(numbers)] = pair else {
                return Err(unreadable());
            };
            let name = std::str::from_utf8(name).map_err(|_| unreadable())?;
            if name == OF_ALL {
                continue;
            }
            let plugin = PluginName::parse(name).map_err(|_| unreadable())?;
            accounts.insert(plugin, account(numbers).ok_or_else(unreadable)?);
        }
        let of_day = |(plugin, account)| DayUsage { day, plugin, account };
        usage.extend(accounts.into_iter().map(of_day));
    }
    Ok(usage)
}
