//! Storage of schedules' records.

use rusqlite::{Connection, Row, params};
use sandhog_core::id::{ScheduleName, TenantId};
use sandhog_core::schedule::SCHEDULES_MAX;
use sandhog_core::time::Timestamp;

use super::fault::{Fault, Result};
use super::row::{stamp, timestamp};
use super::step::Step;
use crate::schedules::next_version;
use crate::{SCHEDULES_PAGE, ScheduleQuery, ScheduleWrite, ScheduleWritten, Schedules, StoredSchedule};

impl Step<'_> {
    /// Writes a schedule's record and enqueues jobs of it, or does nothing.
    pub(super) fn write_schedule(&mut self, write: &ScheduleWrite) -> Result<ScheduleWritten> {
        let ScheduleWrite { name, expected, record, jobs, bounds } = write;
        let of_name = [self.tenant(), name.as_str()];
        let stored = self
            .find("SELECT version FROM schedule WHERE tenant = ?1 AND name = ?2", of_name, |row| row.get(0))?
            .map(i64::cast_unsigned);
        if stored != *expected {
            return Ok(ScheduleWritten::Stale);
        }
        if stored.is_none() && record.is_some() && self.count_schedules()? >= SCHEDULES_MAX {
            return Ok(ScheduleWritten::TooMany);
        }
        let first = self.first_schedule()?;
        if let Some(refusal) = self.enqueue_together(jobs, bounds)? {
            return Ok(ScheduleWritten::Refused(refusal));
        }
        match record {
            None => {
                self.execute("DELETE FROM schedule WHERE tenant = ?1 AND name = ?2", of_name)?;
            }
            Some(record) => {
                let due_at = record.due_at.map(stamp);
                self.is_due_earlier |= due_at.is_some_and(|due| first.is_none_or(|first| due < first));
                self.execute(
                    "INSERT OR REPLACE INTO schedule (tenant, name, version, due_at, record) VALUES (?1, ?2, ?3, ?4, ?5)",
                    params![
                        self.tenant(),
                        name.as_str(),
                        next_version(stored, self.now).cast_signed(),
                        due_at,
                        record.bytes
                    ],
                )?;
            }
        }
        Ok(ScheduleWritten::Done)
    }

    /// Returns the time at which the first schedule is due.
    pub(super) fn first_schedule(&self) -> Result<Option<i64>> {
        self.find(
            "SELECT due_at FROM schedule WHERE tenant = ?1 AND due_at IS NOT NULL ORDER BY due_at LIMIT 1",
            [self.tenant()],
            |row| row.get(0),
        )
    }

    fn count_schedules(&self) -> Result<usize> {
        let count: Option<i64> =
            self.find("SELECT count(*) FROM schedule WHERE tenant = ?1", [self.tenant()], |row| row.get(0))?;
        Ok(count.and_then(|count| usize::try_from(count).ok()).unwrap_or(0))
    }
}

pub(super) fn schedules(
    connection: &Connection,
    tenant: &TenantId,
    query: &ScheduleQuery,
    now: Timestamp,
) -> Result<Schedules> {
    let (tenant, limit) = (tenant.as_str(), SCHEDULES_PAGE as i64);
    let found: Vec<Result<StoredSchedule>> = match query {
        ScheduleQuery::Due => connection
            .prepare_cached(
                "SELECT name, version, due_at, record FROM schedule
                 WHERE tenant = ?1 AND due_at IS NOT NULL AND due_at <= ?2 ORDER BY due_at, name LIMIT ?3",
            )?
            .query_map(params![tenant, stamp(now), limit], |row| Ok(schedule(row)))?
            .collect::<rusqlite::Result<_>>()?,
        ScheduleQuery::Named(name) => connection
            .prepare_cached(
                "SELECT name, version, due_at, record FROM schedule WHERE tenant = ?1 AND name = ?2",
            )?
            .query_map([tenant, name.as_str()], |row| Ok(schedule(row)))?
            .collect::<rusqlite::Result<_>>()?,
        ScheduleQuery::After(after) => connection
            .prepare_cached(
                "SELECT name, version, due_at, record FROM schedule
                 WHERE tenant = ?1 AND name > ?2 ORDER BY name LIMIT ?3",
            )?
            .query_map(params![tenant, after.as_ref().map_or("", ScheduleName::as_str), limit], |row| {
                Ok(schedule(row))
            })?
            .collect::<rusqlite::Result<_>>()?,
    };
    Ok(Schedules { now, schedules: found.into_iter().collect::<Result<_>>()? })
}

fn schedule(row: &Row<'_>) -> Result<StoredSchedule> {
    let name: String = row.get("name")?;
    let name = ScheduleName::parse(&name).map_err(|error| Fault::unreadable("schedule.name", error))?;
    let (version, due_at): (i64, Option<i64>) = (row.get("version")?, row.get("due_at")?);
    let record: Vec<u8> = row.get("record")?;
    Ok(StoredSchedule {
        name,
        version: version.cast_unsigned(),
        due_at: due_at.map(timestamp),
        record: Ok(record),
    })
}
