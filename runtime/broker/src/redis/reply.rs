//! What functions answer.

use std::collections::BTreeMap;
use std::time::Duration;

use redis::Value;
use sandhog_core::account::{Account, Day, DayUsage};
use sandhog_core::attempt::SettleReply;
use sandhog_core::budget::Fuel;
use sandhog_core::id::{JobId, LeaseNo, LeaseToken, PluginName, StateKey, TenantId};
use sandhog_core::job::{JobRecord, Lease, LogLine, State};
use sandhog_core::quota::{FuelSpent, StateExcess};
use sandhog_core::time::Timestamp;

use super::codes::{self, OF_ALL};
use super::keys;
use super::layout::{self, StoredJob, StoredRun};
use super::pack::{Unpacker, Unreadable};
use crate::{Changed, Counts, Enqueued, Error, Leased, Renewal, Result, Settle};

/// Letters and digits of a job's id.
const ID_BYTES: usize = 26;

/// An answer of another form than the function's.
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

/// Of so many jobs.
pub(super) fn enqueued(jobs: usize, reply: Value) -> Result<Vec<Enqueued>> {
    let one = |value| match value {
        Value::BulkString(holder) if holder.is_empty() => Ok(Enqueued::Stored),
        value => job_id(value).map(Enqueued::Duplicate),
    };
    match reply {
        Value::Nil => Ok(vec![Enqueued::Stored; jobs]),
        reply => array(reply)?.into_iter().map(one).collect(),
    }
}

pub(super) fn leased(tenant: &TenantId, reply: Value) -> Result<Leased> {
    let [next_due, buried, unreadable, leases, spent] = fixed(reply)?;
    for id in job_ids(unreadable)? {
        let at = keys::job(tenant, id);
        tracing::error!(at, "passed over a job that is gone or unreadable; did the server evict keys?");
    }
    let next_due = match next_due {
        Value::Nil => None,
        millis => Some(Duration::from_millis(count(&millis)?)),
    };
    let (leases, spent) = (leases_in(tenant, leases)?, fuel_spent(spent)?);
    let _ = job_ids(buried)?;
    Ok(Leased { leases, next_due, spent, lanes: 0 })
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
        let (token, attempts) = lease_head(&mut from).map_err(unreadable("an answer of the server"))?;
        match StoredJob::read(from.rest()) {
            Ok(job) => leases.push(Lease { token, job: job.leased(token.job, tenant, attempts) }),
            // The others can run. This one is buried when its lease has run out often enough.
            Err(problem) => {
                tracing::error!(%tenant, job = %token.job, %problem, "a leased job is unreadable")
            }
        }
    }
    Ok(leases)
}

fn lease_head(from: &mut Unpacker<'_>) -> std::result::Result<(LeaseToken, u32), Unreadable> {
    let id = std::str::from_utf8(from.take(ID_BYTES)?).map_err(|_| Unreadable("a job's id is no text"))?;
    let job = JobId::parse(id).map_err(|_| Unreadable("a job's id is no ULID"))?;
    let lease = LeaseNo(from.number(6)?);
    let attempts = u32::try_from(from.number(4)?).map_err(|_| Unreadable("attempts are out of range"))?;
    Ok((LeaseToken { job, lease }, attempts))
}

pub(super) fn renewals(reply: Value) -> Result<Vec<Renewal>> {
    let one = |value| match count(&value)? {
        codes::LOST => Ok(Renewal::Lost),
        codes::HELD => Ok(Renewal::Held),
        codes::CANCEL_REQUESTED => Ok(Renewal::CancelRequested),
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
            _ => Err(unexpected("a settlement's answer is unknown")),
        },
    };
    let values = array(reply)?;
    if values.len() != settlements.len() {
        return Err(unexpected("there is not one answer for each settlement"));
    }
    settlements.iter().zip(values).map(one).collect()
}

pub(super) fn cancelled(reply: Value) -> Result<Changed> {
    match reply {
        Value::Nil => Ok(Changed::Unknown),
        Value::Okay => Ok(Changed::Done),
        other => match state(&other)? {
            State::Leased => Ok(Changed::Requested),
            other => Ok(Changed::Not(other)),
        },
    }
}

pub(super) fn redriven(reply: Value) -> Result<Changed> {
    match reply {
        Value::Nil => Ok(Changed::Unknown),
        Value::Okay => Ok(Changed::Done),
        holder @ Value::BulkString(_) => job_id(holder).map(Changed::Duplicate),
        other => state(&other).map(Changed::Not),
    }
}

fn state(reply: &Value) -> Result<State> {
    layout::state(count(reply)?).map_err(unreadable("an answer of the server"))
}

pub(super) fn record(tenant: &TenantId, reply: Value) -> Result<Option<JobRecord>> {
    if reply == Value::Nil {
        return Ok(None);
    }
    let [id, job, run, at] = fixed(reply)?;
    let id = job_id(id)?;
    let (job, run) = (bytes(job)?, optional_bytes(run)?);
    let job = StoredJob::read(&job).map_err(unreadable(keys::job(tenant, id)))?;
    let run = match run {
        Some(run) => StoredRun::read(&run).map_err(unreadable(keys::run(tenant, id)))?,
        None => StoredRun::none(),
    };
    let at = optional_bytes(at)?.map(|score| timestamp(&score)).transpose()?;
    Ok(Some(job.record(id, tenant, run, at)))
}

/// A time out of a sorted set's score.
fn timestamp(score: &[u8]) -> Result<Timestamp> {
    let score = std::str::from_utf8(score).ok().and_then(|score| score.parse::<f64>().ok());
    // A score past the range of u64 becomes its end, as times do.
    score.map(|score| Timestamp::from_millis(score as u64)).ok_or_else(|| unexpected("a score is no number"))
}

/// The records that can be read; one that can't keeps no other from being shown.
pub(super) fn records(tenant: &TenantId, reply: Value) -> Result<Vec<JobRecord>> {
    let readable = |value| match record(tenant, value) {
        Err(Error::Corrupt { at, problem }) => {
            tracing::error!(at, problem, "left a job out of a list, as it can't be read");
            None
        }
        other => other.transpose(),
    };
    array(reply)?.into_iter().filter_map(readable).collect()
}

/// The commands that the user may not call.
pub(super) fn refused(reply: Value) -> Result<Vec<String>> {
    let name = |value| Ok(String::from_utf8_lossy(&bytes(value)?).into_owned());
    array(reply)?.into_iter().map(name).collect()
}

pub(super) fn log(key: &str, reply: Value) -> Result<Vec<LogLine>> {
    let line = |value| layout::read_log_line(&bytes(value)?).map_err(unreadable(key));
    array(reply)?.into_iter().map(line).collect()
}

pub(super) fn counts(reply: Value) -> Result<Counts> {
    let mut counts = Counts::default();
    for (state, value) in State::ALL.into_iter().zip(array(reply)?) {
        counts[state] = count(&value)?;
    }
    Ok(counts)
}

/// An account as `lua/accounts.lua` has it.
fn account(numbers: &[u8]) -> Option<Account> {
    let (numbers, []) = numbers.as_chunks::<8>() else { return None };
    let parts: [[u8; 8]; Account::PARTS.len()] = numbers.try_into().ok()?;
    Some(Account::from_parts(parts.map(u64::from_be_bytes)))
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
