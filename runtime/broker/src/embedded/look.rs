//! What people and programs look at. Nothing here changes anything.

use std::cmp::Reverse;

use rusqlite::{Connection, OptionalExtension, Params, params};
use sandhog_core::id::{JobId, PluginName, StateKey, TenantId};
use sandhog_core::job::{JobRecord, LogLine, State};
use sandhog_core::time::Timestamp;

use super::fault::{Fault, Result};
use super::row::{RECORD, code, log_line, record, stamp, state};
use crate::{Counts, Query};

pub(super) fn job(connection: &Connection, tenant: &TenantId, job: JobId) -> Result<Option<JobRecord>> {
    let by_id = format!("{RECORD} WHERE tenant = ?1 AND id = ?2");
    let mut statement = connection.prepare_cached(&by_id)?;
    let mut rows = statement.query_and_then([tenant.as_str(), &job.to_string()], record)?;
    rows.next().transpose()
}

pub(super) fn log(connection: &Connection, tenant: &TenantId, job: JobId) -> Result<Vec<LogLine>> {
    let mut statement = connection.prepare_cached(
        "SELECT at, attempt, level, log.message, fields FROM log JOIN job USING (nr)
         WHERE tenant = ?1 AND id = ?2 ORDER BY line",
    )?;
    let lines = statement.query_and_then([tenant.as_str(), &job.to_string()], log_line)?;
    lines.collect()
}

pub(super) fn jobs(connection: &Connection, tenant: &TenantId, query: &Query) -> Result<Vec<JobRecord>> {
    // The terms are those of the indexes, which are used for nothing less.
    let of_state = match query.state {
        State::Ready => return ready(connection, tenant, query),
        State::Scheduled => "state = 0 AND state = ?2 ORDER BY due_at, id",
        State::Leased => "state = 2 AND state = ?2 ORDER BY lease_expires_at, id",
        State::Succeeded | State::Dead | State::Cancelled => {
            "finished_at IS NOT NULL AND state = ?2 ORDER BY finished_at DESC, id DESC"
        }
    };
    let offset = i64::try_from(0_u64).unwrap_or(i64::MAX);
    let page = format!("{RECORD} WHERE tenant = ?1 AND {of_state} LIMIT ?3 OFFSET ?4");
    records(connection, &page, params![tenant.as_str(), code(query.state), limit(query), offset])
}

/// Ready jobs of all queues. They are kept in order queue by queue, so the first of each are put together.
fn ready(connection: &Connection, tenant: &TenantId, query: &Query) -> Result<Vec<JobRecord>> {
    let last = 0_u64.saturating_add(limit(query).into());
    let mut first = connection.prepare_cached(
        "SELECT priority, arrival, nr FROM job WHERE tenant = ?1 AND queue = ?2 AND state = 1
         ORDER BY priority DESC, arrival LIMIT ?3",
    )?;
    let mut found: Vec<(Reverse<u8>, i64, i64)> = Vec::new();
    for queue in queues_with_jobs(connection, tenant)? {
        let rows = first
            .query_map(params![tenant.as_str(), queue, i64::try_from(last).unwrap_or(i64::MAX)], |row| {
                Ok((Reverse(row.get(0)?), row.get(1)?, row.get(2)?))
            })?;
        for row in rows {
            found.push(row?);
        }
    }
    found.sort_unstable();
    let offset = usize::try_from(0_u64).unwrap_or(usize::MAX);
    let by_nr = format!("{RECORD} WHERE nr = ?1");
    let mut page = Vec::new();
    for (.., nr) in found.into_iter().skip(offset).take(limit(query) as usize) {
        page.extend(records(connection, &by_nr, [nr])?);
    }
    Ok(page)
}

/// Finds each queue by a jump behind the one before, and so looks at no more jobs than there are queues.
fn queues_with_jobs(connection: &Connection, tenant: &TenantId) -> Result<Vec<String>> {
    let mut next = connection.prepare_cached(
        "SELECT queue FROM job WHERE tenant = ?1 AND state = 1 AND queue > ?2 ORDER BY queue LIMIT 1",
    )?;
    let mut queues: Vec<String> = Vec::new();
    loop {
        let after = queues.last().map_or("", String::as_str);
        match next.query_row([tenant.as_str(), after], |row| row.get(0)).optional()? {
            Some(queue) => queues.push(queue),
            None => return Ok(queues),
        }
    }
}

pub(super) fn counts(connection: &Connection, tenant: &TenantId) -> Result<Counts> {
    let mut counts = Counts::default();
    let mut statement = connection.prepare_cached("SELECT state, n FROM tally WHERE tenant = ?1")?;
    let rows = statement.query_map([tenant.as_str()], |row| Ok((row.get(0)?, row.get::<_, i64>(1)?)))?;
    for row in rows {
        let (of, n) = row?;
        // A state of a newer version has no place here.
        if let Ok(of) = state(of) {
            counts[of] = n.cast_unsigned();
        }
    }
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

fn limit(query: &Query) -> u32 {
    query.limit.clamp(1, Query::LIMIT_MAX)
}

/// The records that can be read. The others are no reason not to show these.
fn records(connection: &Connection, sql: &str, params: impl Params) -> Result<Vec<JobRecord>> {
    let mut statement = connection.prepare_cached(sql)?;
    let mut records = Vec::new();
    for read in statement.query_and_then(params, record)? {
        match read {
            Ok(record) => records.push(record),
            Err(Fault::Unreadable { at, problem }) => {
                tracing::warn!(at, problem, "a job can't be read, and is left out of the list");
            }
            Err(fault) => return Err(fault),
        }
    }
    Ok(records)
}
