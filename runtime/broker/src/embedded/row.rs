//! Conversion of values to and from columns; nothing that is read is trusted to be valid.

use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

use rusqlite::Row;
use rusqlite::types::FromSql;
use sandhog_core::budget::{Bytes, Fuel};
use sandhog_core::history::AttemptRecord;
use sandhog_core::id::{DaemonId, JobId, LeaseNo};
use sandhog_core::job::{JobOptions, JobRecord, Level, LogLine, NewJob, Priority, Progress, State};
use sandhog_core::outcome::Usage;
use sandhog_core::reason::Reason;
use sandhog_core::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::fault::{Fault, Result};
use crate::options;

/// Progress as it is stored, in JSON.
#[derive(Serialize, Deserialize)]
struct ProgressJson {
    done: u64,
    total: Option<u64>,
    message: Option<String>,
}

/// The record of an attempt as it is stored, in JSON.
#[derive(Serialize, Deserialize)]
struct AttemptJson {
    attempt: u32,
    lease: u64,
    reason: Option<String>,
    message: Option<String>,
    leased_at: u64,
    ended_at: u64,
    daemon: Option<String>,
    revision: Option<String>,
    fuel: u64,
    memory_peak: u64,
    wall_us: u64,
    cpu_us: u64,
    host_calls: u64,
}

/// Returns the number of a state in the file.
pub(super) fn code(state: State) -> i64 {
    state.code().into()
}

/// Returns the state with this number.
pub(super) fn state(code_read: i64) -> Result<State> {
    let state = u8::try_from(code_read).ok().and_then(State::from_code);
    state.ok_or_else(|| Fault::unreadable("job.state", format!("there is no state {code_read}")))
}

/// Returns a time as it is stored, in milliseconds. Times after 2^63 - 1 are stored as that one.
pub(super) fn stamp(at: Timestamp) -> i64 {
    i64::try_from(at.as_millis()).unwrap_or(i64::MAX)
}

/// Returns the time of a stored number of milliseconds.
pub(super) fn timestamp(stamp: i64) -> Timestamp {
    Timestamp::from_millis(u64::try_from(stamp).unwrap_or(0))
}

/// Returns a duration as it is stored, in whole microseconds.
pub(super) fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

/// Parses a stored name or id.
pub(super) fn parse<T: FromStr<Err: Display>>(at: &str, text: &str) -> Result<T> {
    text.parse().map_err(|error: T::Err| Fault::unreadable(at, error))
}

/// Returns progress as it is stored.
pub(super) fn progress_json(progress: &Progress) -> Result<String> {
    let Progress { done, total, message } = progress.clone();
    serde_json::to_string(&ProgressJson { done, total, message })
        .map_err(|error| Fault::unreadable("job.progress", error))
}

/// Reads usage, of one run or several, from the five columns that start at `first`.
pub(super) fn usage(row: &Row<'_>, first: usize) -> rusqlite::Result<Usage> {
    let number = |nth| row.get::<_, i64>(first + nth).map(i64::cast_unsigned);
    Ok(Usage {
        fuel: Fuel(number(0)?),
        memory_peak: Bytes(number(1)?),
        wall: Duration::from_micros(number(2)?),
        cpu: Duration::from_micros(number(3)?),
        host_calls: number(4)?,
    })
}

/// The columns of what a producer asked for, except its payload, in the order in which [`asked`] reads them.
macro_rules! asked_columns {
    () => {
        "id, queue, kind, priority, unique_key, pinned, options"
    };
}
pub(super) use asked_columns;

/// Reads what a producer asked for from a row that starts with [`asked_columns`], with the payload left empty. Columns that
/// every job needs have to be readable; others that aren't are left out, and reported as the problem.
pub(super) fn asked(row: &Row<'_>, problem: &mut Option<String>) -> Result<NewJob> {
    let (queue, kind) = (parsed(row, 1, "job.queue")?, parsed(row, 2, "job.kind")?);
    Ok(NewJob {
        priority: Priority(row.get(3)?),
        unique_key: known(problem, maybe(row, 4, |text: String| parse("job.unique_key", &text)))?,
        pinned: known(problem, maybe(row, 5, |text: String| parse("job.pinned", &text)))?,
        options: known(problem, maybe(row, 6, |bytes: Vec<u8>| options(&bytes)))?.unwrap_or_default(),
        ..NewJob::new(parsed(row, 0, "job.id")?, queue, kind, Vec::new())
    })
}

/// The start of a statement that selects a job's columns, except payload and output, in the order in which [`record`] reads
/// them.
pub(super) const RECORD: &str = concat!(
    "SELECT ",
    asked_columns!(),
    ", tenant, state, reason, message, attempts, expiries, faults, lease, enqueued_at, due_at, leased_at, lease_expires_at,
     finished_at, progress, revision, fuel, memory_peak, wall_us, cpu_us, host_calls, history,
     CASE WHEN state = 6 THEN
         (SELECT group_concat(parent) FROM edge WHERE edge.nr = job.nr AND is_open = 1) END AS waits_for"
);

/// Reads a row of [`RECORD`], with payload and output left empty. Columns that a record can do without are left out if they
/// can't be read, and the record says so.
pub(super) fn record(row: &Row<'_>) -> Result<JobRecord> {
    let time = |nth| -> Result<Option<Timestamp>> { Ok(row.get::<_, Option<i64>>(nth)?.map(timestamp)) };
    let mut problem = None;
    let asked = asked(row, &mut problem)?;
    let tenant = parsed(row, 7, "job.tenant")?;
    Ok(JobRecord {
        state: state(row.get(8)?)?,
        reason: known(&mut problem, maybe(row, 9, |slug: String| reason(&slug)))?,
        message: row.get(10)?,
        attempts: row.get(11)?,
        expiries: row.get(12)?,
        faults: row.get(13)?,
        lease: LeaseNo(row.get::<_, i64>(14)?.cast_unsigned()),
        due_at: time(16)?,
        leased_at: time(17)?,
        lease_expires_at: time(18)?,
        finished_at: time(19)?,
        progress: known(&mut problem, maybe(row, 20, |json: String| progress(&json)))?,
        revision: known(&mut problem, maybe(row, 21, |text: String| parse("job.revision", &text)))?,
        waits_for: row
            .get::<_, Option<String>>("waits_for")?
            .map_or(Ok(Vec::new()), |ids| waits_for(&ids))?,
        usage: usage(row, 22)?,
        history: known(&mut problem, maybe(row, 27, |json: String| history(&json)))?.unwrap_or_default(),
        unreadable: problem,
        ..JobRecord::of(asked, tenant, timestamp(row.get(15)?))
    })
}

/// Returns the history of a job's attempts as it is stored.
pub(super) fn history_json(history: &[AttemptRecord]) -> Result<String> {
    let attempts = history.iter().map(|record| AttemptJson {
        attempt: record.attempt,
        lease: record.lease.0,
        reason: record.reason.map(|reason| reason.slug().to_owned()),
        message: record.message.clone(),
        leased_at: record.leased_at.as_millis(),
        ended_at: record.ended_at.as_millis(),
        daemon: record.daemon.map(|daemon| daemon.to_string()),
        revision: record.revision.map(|revision| revision.to_string()),
        fuel: record.usage.fuel.0,
        memory_peak: record.usage.memory_peak.0,
        wall_us: micros(record.usage.wall).cast_unsigned(),
        cpu_us: micros(record.usage.cpu).cast_unsigned(),
        host_calls: record.usage.host_calls,
    });
    serde_json::to_string(&attempts.collect::<Vec<_>>())
        .map_err(|error| Fault::unreadable("job.history", error))
}

/// Reads the history of a job's attempts.
pub(super) fn history(json: &str) -> Result<Vec<AttemptRecord>> {
    let attempts: Vec<AttemptJson> =
        serde_json::from_str(json).map_err(|error| Fault::unreadable("job.history", error))?;
    let read = |stored: AttemptJson| {
        Ok(AttemptRecord {
            attempt: stored.attempt,
            lease: LeaseNo(stored.lease),
            reason: stored.reason.as_deref().map(reason).transpose()?,
            message: stored.message,
            leased_at: Timestamp::from_millis(stored.leased_at),
            ended_at: Timestamp::from_millis(stored.ended_at),
            daemon: stored.daemon.as_deref().map(daemon).transpose()?,
            revision: stored.revision.as_deref().map(|text| parse("job.history", text)).transpose()?,
            usage: Usage {
                fuel: Fuel(stored.fuel),
                memory_peak: Bytes(stored.memory_peak),
                wall: Duration::from_micros(stored.wall_us),
                cpu: Duration::from_micros(stored.cpu_us),
                host_calls: stored.host_calls,
            },
        })
    };
    attempts.into_iter().map(read).collect()
}

/// Parses the ids of jobs that a blocked job waits for, and puts them in order.
fn waits_for(ids: &str) -> Result<Vec<JobId>> {
    let mut ids: Vec<JobId> = ids.split(',').map(|id| parse("edge.parent", id)).collect::<Result<_>>()?;
    ids.sort_unstable();
    Ok(ids)
}

/// Reads a line of a log: at, attempt, level, message, fields. A level that this version doesn't know becomes a field.
pub(super) fn log_line(row: &Row<'_>) -> Result<LogLine> {
    let slug: String = row.get(2)?;
    let fields: String = row.get(4)?;
    let mut fields: Vec<(String, String)> = serde_json::from_str(&fields)
        .unwrap_or_else(|error| vec![("unreadable".to_owned(), format!("its fields: {error}"))]);
    let level = Level::ALL.into_iter().find(|known| known.slug() == slug).unwrap_or_else(|| {
        fields.push(("level".to_owned(), slug));
        Level::Info
    });
    Ok(LogLine { at: timestamp(row.get(0)?), attempt: row.get(1)?, level, message: row.get(3)?, fields })
}

/// Returns a value that a record can do without, or `None` if it can't be read. The first such problem is kept.
fn known<T>(problem: &mut Option<String>, read: Result<Option<T>>) -> Result<Option<T>> {
    match read {
        Err(Fault::Unreadable { at, problem: why }) => {
            problem.get_or_insert_with(|| format!("{at} can't be read: {why}"));
            Ok(None)
        }
        read => read,
    }
}

/// Returns the fields of a log line as they are stored.
pub(super) fn fields_json(fields: &[(String, String)]) -> Result<String> {
    serde_json::to_string(fields).map_err(|error| Fault::unreadable("log.fields", error))
}

fn parsed<T: FromStr<Err: Display>>(row: &Row<'_>, nth: usize, at: &str) -> Result<T> {
    parse(at, row.get_ref(nth)?.as_str().map_err(|error| Fault::unreadable(at, error))?)
}

fn maybe<V: FromSql, T>(row: &Row<'_>, nth: usize, read: impl FnOnce(V) -> Result<T>) -> Result<Option<T>> {
    row.get::<_, Option<V>>(nth)?.map(read).transpose()
}

/// Reads the options of a job.
pub(super) fn options(bytes: &[u8]) -> Result<JobOptions> {
    options::read(bytes).map_err(|error| Fault::unreadable("job.options", error))
}

fn daemon(text: &str) -> Result<DaemonId> {
    DaemonId::parse(text).map_err(|error| Fault::unreadable("job.history", error))
}

fn reason(slug: &str) -> Result<Reason> {
    Reason::from_slug(slug)
        .ok_or_else(|| Fault::unreadable("job.reason", format!("there is no reason `{slug}`")))
}

fn progress(json: &str) -> Result<Progress> {
    let ProgressJson { done, total, message } =
        serde_json::from_str(json).map_err(|error| Fault::unreadable("job.progress", error))?;
    Ok(Progress { done, total, message })
}
