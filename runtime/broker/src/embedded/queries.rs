//! Look-ups for people and programs. Nothing here changes anything.

use std::collections::BTreeSet;

use rusqlite::{CachedStatement, Connection, OptionalExtension, Row, params};
use sandhog_core::id::{JobId, PluginName, StateKey, TenantId};
use sandhog_core::job::{JobRecord, LogLine, State};
use sandhog_core::time::Timestamp;

use super::fault::{Fault, Result};
use super::row::{RECORD, code, log_line, record, stamp, state};
use crate::{Counts, Cursor, Page, Query, UNREADABLE_COUNTED_MAX, Unread};

/// Maximum number of parked jobs that are counted.
const PARKED_MAX: i64 = UNREADABLE_COUNTED_MAX.cast_signed();

/// Text that sorts after every id, as ids consist of digits and capital letters.
const BEHIND_ALL_IDS: &str = "~";

/// Returns the statement that finds a job by its id.
pub(super) fn by_id() -> String {
    format!("{RECORD}, nr FROM job WHERE tenant = ?1 AND id = ?2")
}

pub(super) fn job(connection: &Connection, tenant: &TenantId, job: JobId) -> Result<Option<JobRecord>> {
    let mut statement = connection.prepare_cached(&by_id())?;
    let mut rows = statement.query([tenant.as_str(), &job.to_string()])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    Ok(Some(with_payload(connection, row.get("nr")?, record(row)?)?))
}

pub(super) fn log(connection: &Connection, tenant: &TenantId, job: JobId) -> Result<Vec<LogLine>> {
    let mut statement = connection.prepare_cached(
        "SELECT at, attempt, level, log.message, fields FROM log JOIN job USING (nr)
         WHERE tenant = ?1 AND id = ?2 ORDER BY line",
    )?;
    let lines = statement.query_and_then([tenant.as_str(), &job.to_string()], log_line)?;
    lines.collect()
}

/// Returns the statement that lists the jobs of a state after a rank (and an id, where several may have the same rank). Its
/// terms are those of the indexes, as SQLite uses an index for no other terms.
pub(super) fn list(state: State) -> String {
    let (rank, behind, order) = match state {
        State::Blocked => ("blocked_nr", "(blocked_nr, id) > (?2, ?3)", "blocked_nr, id"),
        State::Scheduled => ("due_at", "(due_at, id) > (?2, ?3)", "due_at, id"),
        State::Ready => (
            "((255 - priority) << 45 | arrival)",
            "(((255 - priority) << 45 | arrival), tie) > (?2, ?3)",
            "((255 - priority) << 45 | arrival), tie",
        ),
        State::Leased => ("lease_expires_at", "(lease_expires_at, id) > (?2, ?3)", "lease_expires_at, id"),
        State::Succeeded | State::Dead | State::Cancelled => (
            "finished_at",
            "finished_at IS NOT NULL AND (finished_at, id) < (?2, ?3)",
            "finished_at DESC, id DESC",
        ),
    };
    let state = code(state);
    format!(
        "{RECORD}, {rank} AS rank, nr FROM job WHERE tenant = ?1 AND state = {state} AND {behind} ORDER BY {order}"
    )
}

/// Lists jobs of a state, in the order of its index, and reads no more of them than needed.
pub(super) fn jobs(
    connection: &Connection,
    tenant: &TenantId,
    query: &Query,
    now: Timestamp,
) -> Result<Page> {
    let mut statement = connection.prepare_cached(&list(query.state))?;
    let (rank, id) = match query.after {
        Some(after) => (i64::try_from(after.rank).unwrap_or(i64::MAX), after.id.to_string()),
        None if query.state.is_final() => (i64::MAX, BEHIND_ALL_IDS.to_owned()),
        None => (i64::MIN, String::new()),
    };
    let mut rows = statement.query(params![tenant.as_str(), rank, id])?;
    let limit = query.limit.clamp(1, Query::LIMIT_MAX) as usize;
    let mut page = Page { jobs: Vec::new(), next: None, unread: Vec::new(), now };
    let (mut looked_at, mut bytes, mut last) = (0, 0, None);
    while let Some(row) = rows.next()? {
        if page.jobs.len() + page.unread.len() >= limit || looked_at == Query::LOOKED_AT_MAX {
            page.next = last;
            break;
        }
        looked_at += 1;
        match listed(connection, query, row) {
            Ok(Some(record)) => {
                bytes += record.payload.len() + record.output.as_ref().map_or(0, Vec::len);
                if bytes > Query::BYTES_MAX && !page.jobs.is_empty() {
                    page.next = last;
                    break;
                }
                page.jobs.push(record);
            }
            Ok(None) => {}
            Err(Fault::Unreadable { at, problem }) => {
                page.unread.extend(
                    place(row).map(|Cursor { id, .. }| Unread { id, problem: format!("{at}: {problem}") }),
                );
            }
            Err(fault) => return Err(fault),
        }
        last = place(row).or(last);
    }
    Ok(page)
}

/// Returns the record of a row if it matches the query.
fn listed(connection: &Connection, query: &Query, row: &Row<'_>) -> Result<Option<JobRecord>> {
    let record = record(row)?;
    if !query.filter.passes(&record) {
        return Ok(None);
    }
    if !query.payloads {
        return Ok(Some(record));
    }
    with_payload(connection, row.get("nr")?, record).map(Some)
}

/// Returns the place of a row in its list, or `None` if its id can't be read.
fn place(row: &Row<'_>) -> Option<Cursor> {
    let rank: i64 = row.get("rank").ok()?;
    let id = row.get_ref("id").ok()?.as_str().ok()?;
    Some(Cursor { rank: u64::try_from(rank).unwrap_or(0), id: JobId::parse(id).ok()? })
}

/// Adds the payload and the output to a record.
fn with_payload(connection: &Connection, nr: i64, record: JobRecord) -> Result<JobRecord> {
    let mut statement =
        connection.prepare_cached("SELECT bytes, output FROM job JOIN payload USING (nr) WHERE nr = ?1")?;
    let found = statement.query_row([nr], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
    let (payload, output) = found.ok_or_else(|| Fault::unreadable("payload", "it isn't there"))?;
    Ok(JobRecord { payload, output, ..record })
}

/// The records of jobs of flows, without payloads and outputs.
pub(super) struct FlowRecords<'c>(CachedStatement<'c>);

/// Prepares to look up [`FlowRecords`].
pub(super) fn flow_records(connection: &Connection) -> Result<FlowRecords<'_>> {
    Ok(FlowRecords(connection.prepare_cached(&format!("{RECORD} FROM job WHERE nr = ?1"))?))
}

impl FlowRecords<'_> {
    /// Returns the record of the job with this number.
    pub(super) fn of(&mut self, nr: i64) -> Result<JobRecord> {
        let mut rows = self.0.query([nr])?;
        rows.next()?.map_or_else(|| Err(Fault::unreadable("job", "it isn't there")), record)
    }
}

/// Lists every tenant of which something is kept. Finds each by an index search after the one before.
pub(super) fn tenants(connection: &Connection) -> Result<Vec<TenantId>> {
    let mut tenants = BTreeSet::new();
    for next in [
        "SELECT tenant FROM job WHERE tenant > ?1 ORDER BY tenant LIMIT 1",
        "SELECT tenant FROM state WHERE tenant > ?1 ORDER BY tenant LIMIT 1",
        "SELECT tenant FROM usage WHERE tenant > ?1 ORDER BY tenant LIMIT 1",
        "SELECT tenant FROM trial WHERE tenant > ?1 ORDER BY tenant LIMIT 1",
        "SELECT tenant FROM hold WHERE tenant > ?1 ORDER BY tenant LIMIT 1",
        "SELECT tenant FROM schedule WHERE tenant > ?1 ORDER BY tenant LIMIT 1",
        "SELECT tenant FROM breaker WHERE tenant > ?1 ORDER BY tenant LIMIT 1",
    ] {
        let mut next = connection.prepare_cached(next)?;
        let mut last = String::new();
        while let Some(name) = next.query_row([&last], |row| row.get::<_, String>(0)).optional()? {
            match TenantId::parse(&name) {
                Ok(tenant) => {
                    tenants.insert(tenant);
                }
                Err(error) => {
                    tracing::warn!(%error, "there is something of a tenant whose name can't be read")
                }
            }
            last = name;
        }
    }
    Ok(tenants.into_iter().collect())
}

pub(super) fn counts(connection: &Connection, tenant: &TenantId) -> Result<Counts> {
    let mut counts = Counts::default();
    let mut statement =
        connection.prepare_cached("SELECT state, sum(n) FROM tally WHERE tenant = ?1 GROUP BY state")?;
    let rows = statement.query_map([tenant.as_str()], |row| Ok((row.get(0)?, row.get::<_, i64>(1)?)))?;
    for row in rows {
        let (of, n) = row?;
        match state(of) {
            Ok(of) => counts[of] = n.cast_unsigned(),
            // A state of a newer version has no place of its own here.
            Err(_) => counts.unreadable += n.cast_unsigned(),
        }
    }
    let mut statement = connection
        .prepare_cached("SELECT nr FROM job WHERE tenant = ?1 AND parked_at IS NOT NULL LIMIT ?2")?;
    let mut parked = statement.query(params![tenant.as_str(), PARKED_MAX])?;
    while parked.next()?.is_some() {
        counts.unreadable += 1;
    }
    counts.unreadable = counts.unreadable.min(UNREADABLE_COUNTED_MAX);
    Ok(counts)
}

pub(super) fn stored(
    connection: &Connection,
    tenant: &TenantId,
    plugin: &PluginName,
    key: &StateKey,
    now: Timestamp,
) -> Result<Option<Vec<u8>>> {
    let mut statement = connection.prepare_cached(
        "SELECT value FROM state WHERE tenant = ?1 AND plugin = ?2 AND key = ?3
         AND (expires_at IS NULL OR expires_at > ?4)",
    )?;
    let at = params![tenant.as_str(), plugin.as_str(), key.as_str(), stamp(now)];
    Ok(statement.query_row(at, |row| row.get(0)).optional()?)
}
