//! Storage of what daemons tell of themselves.

use rusqlite::{Connection, params};
use sandhog_core::id::DaemonId;
use sandhog_core::time::{Timestamp, millis};

use super::fault::{Fault, Result};
use super::row::{stamp, timestamp};
use crate::{DAEMON_KEPT, DAEMON_LAPSE, DAEMONS_MAX, DaemonReport, Fleet};

/// Records what a daemon tells of itself, or that it is gone.
pub(super) fn report(
    connection: &Connection,
    id: DaemonId,
    report: Option<&DaemonReport>,
    now: Timestamp,
) -> Result<()> {
    let run = |sql: &str, values: &[&dyn rusqlite::ToSql]| connection.prepare_cached(sql)?.execute(values);
    let forgotten = now.as_millis().saturating_sub(millis(DAEMON_KEPT)).cast_signed();
    run("DELETE FROM daemon WHERE seen <= ?1", &[&forgotten])?;
    let id = id.to_string();
    let Some(report) = report else {
        run("DELETE FROM daemon WHERE id = ?1", &[&id])?;
        return Ok(());
    };
    run(
        "INSERT OR REPLACE INTO daemon (id, seen, report) VALUES (?1, ?2, ?3)",
        params![id, stamp(now), report.to_bytes()],
    )?;
    // Of more than there may be, those that were silent for longest go; this one was heard of just now.
    run(
        "DELETE FROM daemon WHERE id IN (
             SELECT id FROM daemon WHERE id != ?1 ORDER BY seen DESC LIMIT -1 OFFSET ?2)",
        params![id, DAEMONS_MAX as i64 - 1],
    )?;
    Ok(())
}

/// Lists the daemons that were heard of lately.
pub(super) fn fleet(connection: &Connection, now: Timestamp) -> Result<Fleet> {
    let mut statement = connection.prepare_cached("SELECT id, seen, report FROM daemon WHERE seen > ?1")?;
    let read = |row: &rusqlite::Row<'_>| {
        let (id, seen, told): (String, i64, Vec<u8>) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let id = DaemonId::parse(&id).map_err(|error| Fault::unreadable("daemon.id", error))?;
        Ok((id, timestamp(seen), told))
    };
    let lapsed = now.as_millis().saturating_sub(millis(DAEMON_LAPSE)).cast_signed();
    let entries: Vec<(DaemonId, Timestamp, Vec<u8>)> =
        statement.query_and_then([lapsed], read)?.collect::<Result<_>>()?;
    Ok(Fleet::of(now, entries.iter().map(|(id, seen, told)| (*id, *seen, &told[..]))))
}
