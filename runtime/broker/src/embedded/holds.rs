//! Holds: what keeps jobs from being leased.

use rusqlite::{Connection, Row, params};
use sandhog_core::hold::{HOLDS_MAX, Hold, HoldReason, HoldScope, NewHold};
use sandhog_core::id::{Kind, QueueName, TenantId};
use sandhog_core::time::Timestamp;

use super::fault::{Fault, Result};
use super::row::{parse, stamp, timestamp};
use super::step::Step;
use crate::HoldOutcome;
use crate::breakers::{Barriers, sort_holds};

impl Step<'_> {
    /// Makes a hold, in place of one of the same scope.
    pub(super) fn hold(&mut self, new: NewHold) -> Result<HoldOutcome> {
        let stored = self.holds()?;
        let before = stored.iter().find(|hold| hold.scope == new.scope);
        if before.is_none() && stored.len() >= HOLDS_MAX {
            return Ok(HoldOutcome::TooMany);
        }
        let Hold { scope, reason, by, since, until, note } = new.made(before, self.now);
        let (queue, kind) = columns(&scope);
        self.execute(
            "INSERT OR REPLACE INTO hold VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            params![self.tenant(), queue, kind, reason.slug(), by, stamp(since), until.map(stamp), note],
        )?;
        // All have to know when the first one ends.
        self.has_news = true;
        Ok(HoldOutcome::Held)
    }

    /// Ends a hold.
    pub(super) fn lift(&mut self, scope: &HoldScope) -> Result<HoldOutcome> {
        let stored = self.holds()?;
        let Some(hold) = stored.iter().find(|hold| hold.scope == *scope) else {
            return Ok(HoldOutcome::NotHeld);
        };
        let is_in_force = hold.is_in_force(self.now);
        self.forget_hold(scope)?;
        Ok(if is_in_force { HoldOutcome::Lifted } else { HoldOutcome::NotHeld })
    }

    fn forget_hold(&mut self, scope: &HoldScope) -> Result<()> {
        let (queue, kind) = columns(scope);
        let delete = "DELETE FROM hold WHERE tenant = ?1 AND queue = ?2 AND kind = ?3";
        self.execute(delete, [self.tenant(), queue, kind])?;
        self.has_news = true;
        Ok(())
    }

    /// Removes the holds that have ended.
    pub(super) fn sweep_holds(&mut self) -> Result<()> {
        for hold in self.holds()? {
            if !hold.is_in_force(self.now) {
                self.forget_hold(&hold.scope)?;
            }
        }
        Ok(())
    }

    /// Returns the scopes of the holds that are in force, but for those of breakers.
    pub(super) fn held_scopes(&self) -> Result<Vec<HoldScope>> {
        let in_force = self.holds()?.into_iter().filter(|hold| hold.is_in_force(self.now));
        Ok(in_force.map(|hold| hold.scope).collect())
    }

    /// Returns the time at which the first hold ends by itself, or `None` if none does.
    pub(super) fn first_end(&self) -> Result<Option<i64>> {
        self.find("SELECT min(until) FROM hold WHERE tenant = ?1", [self.tenant()], |row| row.get(0))
            .map(Option::flatten)
    }

    /// Whether a line has a job that can be leased and isn't held back.
    pub(super) fn has_ready_besides(&self, held: &[HoldScope], gates: &Barriers) -> Result<bool> {
        let mut last = Some((String::new(), String::new()));
        while let Some((queue, lane)) = last {
            last = self.find(
                "SELECT queue, lane FROM job INDEXED BY job_ready
                 WHERE tenant = ?1 AND (queue, lane) > (?2, ?3) AND state = 1 AND parked_at IS NULL
                 ORDER BY queue, lane LIMIT 1",
                [self.tenant(), &queue, &lane],
                |row| Ok((row.get(0)?, row.get(1)?)),
            )?;
            if let Some((queue, lane)) = &last
                && !is_held(held, gates, queue, lane)?
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Returns all holds that are stored, whether or not they have ended.
    fn holds(&self) -> Result<Vec<Hold>> {
        let mut statement = self.connection.prepare_cached(ALL)?;
        statement.query_and_then([self.tenant()], read)?.collect()
    }
}

const ALL: &str = "SELECT queue, kind, reason, by_whom, since, until, note FROM hold WHERE tenant = ?1 ORDER BY queue, kind";

/// Whether the lane of a queue is held back; an empty lane is that of no kind.
pub(super) fn is_held(held: &[HoldScope], gates: &Barriers, queue: &str, lane: &str) -> Result<bool> {
    let queue: QueueName = parse("job.queue", queue)?;
    if lane.is_empty() {
        return Ok(held.iter().any(|scope| scope.covers_queue(&queue)));
    }
    let kind: Kind = parse("job.lane", lane)?;
    Ok(held.iter().any(|scope| scope.covers(&queue, &kind)) || gates.is_shut(&kind))
}

fn columns(scope: &HoldScope) -> (&str, &str) {
    (scope.queue.as_ref().map_or("", QueueName::as_str), scope.kind.as_ref().map_or("", Kind::as_str))
}

fn read(row: &Row<'_>) -> Result<Hold> {
    let (queue, kind, reason): (String, String, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
    let queue = (!queue.is_empty()).then(|| parse("hold.queue", &queue)).transpose()?;
    let kind = (!kind.is_empty()).then(|| parse("hold.kind", &kind)).transpose()?;
    let no_reason = || Fault::unreadable("hold.reason", format!("there is no reason `{reason}`"));
    Ok(Hold {
        scope: HoldScope { queue, kind },
        reason: HoldReason::from_slug(&reason).ok_or_else(no_reason)?,
        by: row.get(3)?,
        since: timestamp(row.get(4)?),
        until: row.get::<_, Option<i64>>(5)?.map(timestamp),
        note: row.get(6)?,
    })
}

/// Returns the tenant's holds that are in force, those of breakers included.
pub(super) fn holds(connection: &Connection, tenant: &TenantId, now: Timestamp) -> Result<Vec<Hold>> {
    let mut statement = connection.prepare_cached(ALL)?;
    let all = statement.query_and_then([tenant.as_str()], read)?;
    let mut holds = all
        .filter(|hold| hold.as_ref().map_or(true, |hold| hold.is_in_force(now)))
        .collect::<Result<Vec<Hold>>>()?;
    holds.extend(super::breakers::gates(connection, tenant, now)?.holds());
    sort_holds(&mut holds);
    Ok(holds)
}
