//! Events of jobs: recorded with each change while somebody wants them. The rules are in [`sandhog_core::event`].

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, Row, params};
use sandhog_core::event::{
    EVENTS_PAGE_MAX, EventCursor, EventKeep, EventKind, EventPage, EventSpan, JobEvent,
};
use sandhog_core::id::TenantId;
use sandhog_core::reason::Reason;
use sandhog_core::time::{Timestamp, millis};

use super::fault::{Fault, Result};
use super::row::{parse, stamp, timestamp};
use super::step::Step;
use crate::SWEEP_MAX;

/// State of a tenant's events as a whole, as it is stored.
#[derive(Debug, Clone, Copy)]
pub(super) struct EventLog {
    until: i64,
    keep: EventKeep,
    /// The number of the last event.
    last: i64,
    /// The number of the last one before this step.
    last_before: i64,
}

/// A job, as far as an event tells of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Subject<'a> {
    pub(super) id: &'a str,
    pub(super) queue: &'a str,
    pub(super) kind: &'a str,
    pub(super) group: Option<&'a str>,
}

const LOG: &str = "SELECT until, keep_ms, most, last FROM event_log WHERE tenant = ?1";

impl EventLog {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        let (keep_ms, last): (i64, i64) = (row.get(1)?, row.get(3)?);
        let keep =
            EventKeep { time: Duration::from_millis(u64::try_from(keep_ms).unwrap_or(0)), max: row.get(2)? };
        Ok(Self { until: row.get(0)?, keep, last, last_before: last })
    }

    /// Whether the step has recorded anything.
    pub(super) fn has_news(&self) -> bool {
        self.last > self.last_before
    }
}

impl Step<'_> {
    /// Returns what is stored of the tenant's events, if somebody wants them.
    fn event_log(&mut self) -> Result<Option<EventLog>> {
        if let Some(known) = self.event_log {
            return Ok(known);
        }
        let now = self.now();
        let log = self.find(LOG, [self.tenant()], EventLog::read)?.filter(|log| log.until > now);
        self.event_log = Some(log);
        Ok(log)
    }

    /// Records an event of a job, if somebody wants it.
    pub(super) fn tell(
        &mut self,
        event: EventKind,
        job: Subject<'_>,
        attempt: Option<u32>,
        reason: Option<Reason>,
    ) -> Result<()> {
        let Some(log) = self.event_log()? else { return Ok(()) };
        let last = log.last.saturating_add(1);
        self.execute(
            "INSERT INTO event VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
            params![
                self.tenant(),
                last,
                self.now(),
                event.code(),
                job.id,
                job.queue,
                job.kind,
                job.group,
                attempt,
                reason.map(Reason::slug),
            ],
        )?;
        self.event_log = Some(Some(EventLog { last, ..log }));
        Ok(())
    }

    /// Writes the number of the last event, and removes those of which there are too many.
    pub(super) fn finish_events(&self) -> Result<bool> {
        let Some(log) = self.event_log.flatten().filter(EventLog::has_news) else { return Ok(false) };
        self.execute("UPDATE event_log SET last = ?2 WHERE tenant = ?1", params![self.tenant(), log.last])?;
        self.remove_events_up_to(log.last - i64::from(log.keep.max))?;
        Ok(true)
    }

    fn remove_events_up_to(&self, number: i64) -> Result<()> {
        self.execute("DELETE FROM event WHERE tenant = ?1 AND number <= ?2", params![self.tenant(), number])?;
        Ok(())
    }

    pub(super) fn record_events(&mut self, keep: EventKeep) -> Result<EventCursor> {
        let until = stamp(self.now.after(keep.time));
        let (until, last) = match self.event_log()? {
            Some(log) => (until.max(log.until), log.last),
            None => {
                let before = self.find(LOG, [self.tenant()], EventLog::read)?;
                let end = before.map(|log| EventCursor(log.last.cast_unsigned()));
                self.remove_events_up_to(i64::MAX)?;
                (until, EventCursor::anew(self.now, end).0.cast_signed())
            }
        };
        self.execute(
            "INSERT OR REPLACE INTO event_log VALUES (?1, ?2, ?3, ?4, ?5)",
            params![self.tenant(), until, millis(keep.time).cast_signed(), keep.max, last],
        )?;
        Ok(EventCursor(last.cast_unsigned()))
    }

    /// Removes events that are too old, and all once nobody wants them any more.
    pub(super) fn sweep_events(&mut self) -> Result<()> {
        match self.event_log()? {
            Some(log) => {
                if log.has_news() {
                    self.remove_events_up_to(log.last - i64::from(log.keep.max))?;
                }
                let old = stamp(self.now).saturating_sub(millis(log.keep.time).cast_signed());
                let last_old: Option<i64> = self.find(
                    "SELECT max(number) FROM
                         (SELECT number, at FROM event WHERE tenant = ?1 ORDER BY number LIMIT ?2) WHERE at <= ?3",
                    params![self.tenant(), SWEEP_MAX as i64, old],
                    |row| row.get::<_, Option<i64>>(0),
                )?.flatten();
                last_old.map_or(Ok(()), |last| self.remove_events_up_to(last))
            }
            None => self.forget_events(),
        }
    }

    /// Removes all that there is of events.
    pub(super) fn forget_events(&self) -> Result<()> {
        if self.find("SELECT 1 FROM event_log WHERE tenant = ?1", [self.tenant()], |_| Ok(()))?.is_some() {
            self.remove_events_up_to(i64::MAX)?;
            self.execute("DELETE FROM event_log WHERE tenant = ?1", [self.tenant()])?;
        }
        Ok(())
    }
}

/// Looks up a page of the events behind a place.
pub(super) fn events(
    connection: &Connection,
    tenant: &TenantId,
    after: EventCursor,
    max: usize,
    now: Timestamp,
) -> Result<EventPage> {
    let log = connection.prepare_cached(LOG)?.query_row([tenant.as_str()], EventLog::read).optional()?;
    let Some(log) = log.filter(|log| log.until > stamp(now)) else {
        return Ok(EventPage::of(after, None, 0, Vec::new()));
    };
    let first: Option<i64> = connection
        .prepare_cached("SELECT number FROM event WHERE tenant = ?1 ORDER BY number LIMIT 1")?
        .query_row([tenant.as_str()], |row| row.get(0))
        .optional()?;
    let place = |number: i64| EventCursor(number.cast_unsigned());
    let kept = EventSpan { before: place(first.map_or(log.last, |first| first - 1)), end: place(log.last) };
    let (from, _) = kept.go_on(after);
    let mut statement = connection.prepare_cached(
        "SELECT number, at, event, job, queue, kind, group_key, attempt, reason FROM event
         WHERE tenant = ?1 AND number > ?2 ORDER BY number LIMIT ?3",
    )?;
    let mut rows = statement.query(params![
        tenant.as_str(),
        from.0.cast_signed(),
        max.clamp(1, EVENTS_PAGE_MAX) as i64
    ])?;
    let (mut read, mut events) = (0, Vec::new());
    while let Some(row) = rows.next()? {
        read += 1;
        match event(row) {
            Ok(event) => events.push(event),
            Err(Fault::Unreadable { at, problem }) => {
                tracing::warn!(%tenant, at, problem, "an event can't be read, and is left out");
            }
            Err(fault) => return Err(fault),
        }
    }
    Ok(EventPage::of(after, Some(kept), read, events))
}

fn event(row: &Row<'_>) -> Result<JobEvent> {
    let code: u8 = row.get(2)?;
    let event = EventKind::from_code(code)
        .ok_or_else(|| Fault::unreadable("event.event", format!("there is no event {code}")))?;
    let (job, queue, kind): (String, String, String) = (row.get(3)?, row.get(4)?, row.get(5)?);
    let (group, reason): (Option<String>, Option<String>) = (row.get(6)?, row.get(8)?);
    Ok(JobEvent {
        cursor: EventCursor(row.get::<_, i64>(0)?.cast_unsigned()),
        at: timestamp(row.get(1)?),
        event,
        job: parse("event.job", &job)?,
        queue: parse("event.queue", &queue)?,
        kind: parse("event.kind", &kind)?,
        group: group.map(|group| parse("event.group_key", &group)).transpose()?,
        attempt: row.get(7)?,
        reason: reason.as_deref().and_then(Reason::from_slug),
    })
}
