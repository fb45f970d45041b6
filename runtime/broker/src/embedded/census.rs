//! The census of queues: how many jobs of each state wait in each, and since when.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension, params};
use sandhog_core::id::{QueueName, TenantId};
use sandhog_core::job::State;
use sandhog_core::time::Timestamp;

use super::fault::{Fault, Result};
use super::row::{code, timestamp};
use crate::{QUEUES_PAGE_MAX, QueueCensus, QueuePage};

/// Returns a page of the census. What is counted is kept by triggers, so no job is looked at but the first ones of each lane.
pub(super) fn queues(
    connection: &Connection,
    tenant: &TenantId,
    after: Option<&QueueName>,
    max: usize,
    now: Timestamp,
) -> Result<QueuePage> {
    let max = max.clamp(1, QUEUES_PAGE_MAX);
    let mut all: BTreeMap<QueueName, QueueCensus> = BTreeMap::new();
    for state in [State::Scheduled, State::Ready, State::Blocked, State::Leased] {
        let mut statement = connection.prepare_cached(
            "SELECT queue, n FROM tally WHERE tenant = ?1 AND state = ?2 AND queue > ?3 AND n > 0
             ORDER BY queue LIMIT ?4",
        )?;
        let after = after.map_or("", QueueName::as_str);
        // One more shows that there is another page.
        let rows = statement
            .query_map(params![tenant.as_str(), code(state), after, (max + 1) as i64], |row| {
                Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?))
            })?;
        for row in rows {
            let (queue, n) = row?;
            let Ok(queue) = QueueName::parse(&queue) else {
                return Err(Fault::unreadable("tally.queue", "it is no queue's name"));
            };
            let n = n.cast_unsigned();
            let census = all.entry(queue.clone()).or_insert_with(|| QueueCensus::empty(queue));
            match state {
                State::Scheduled => census.scheduled = Some(n),
                State::Blocked => census.blocked = Some(n),
                State::Leased => census.leased = Some(n),
                _ => census.ready = n,
            }
        }
    }
    let has_more = all.len() > max;
    let mut queues: Vec<_> = all.into_values().take(max).collect();
    for census in queues.iter_mut().filter(|census| census.ready > 0) {
        census.oldest_ready = oldest_ready(connection, tenant, &census.queue)?;
    }
    let next = queues.last().filter(|_| has_more).map(|last| last.queue.clone());
    Ok(QueuePage { queues, next, now })
}

/// Returns the earliest time since which the first ready job of a priority has waited.
fn oldest_ready(connection: &Connection, tenant: &TenantId, queue: &QueueName) -> Result<Option<Timestamp>> {
    let mut next_lane = connection.prepare_cached(
        "SELECT lane, expiries > 0 FROM job INDEXED BY job_ready
         WHERE tenant = ?1 AND queue = ?2 AND (lane, (expiries > 0)) > (?3, ?4) AND state = 1 AND parked_at IS NULL
         ORDER BY lane, (expiries > 0) LIMIT 1",
    )?;
    let mut next_priority = connection.prepare_cached(
        "SELECT priority, arrival, tie, max(enqueued_at, coalesce(leased_at, 0)) FROM job INDEXED BY job_ready
         WHERE tenant = ?1 AND queue = ?2 AND lane = ?3 AND (expiries > 0) = ?4 AND priority < ?5
             AND state = 1 AND parked_at IS NULL
         ORDER BY priority DESC, arrival, tie LIMIT 1",
    )?;
    // By priority the first job over all lanes: its place, and since when it waits.
    let mut first: BTreeMap<i64, ((i64, String), i64)> = BTreeMap::new();
    let mut lane = (String::new(), -1);
    loop {
        let at = params![tenant.as_str(), queue.as_str(), lane.0, lane.1];
        let found = next_lane.query_row(at, |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
        let Some(found) = found else { break };
        lane = found;
        let mut below = i64::from(u8::MAX) + 1;
        loop {
            let at = params![tenant.as_str(), queue.as_str(), lane.0, lane.1, below];
            let read = |row: &rusqlite::Row<'_>| {
                Ok((row.get(0)?, (row.get(1)?, row.get::<_, String>(2)?), row.get::<_, i64>(3)?))
            };
            let Some((priority, place, since)) = next_priority.query_row(at, read).optional()? else {
                break;
            };
            let known = first.entry(priority).or_insert_with(|| (place.clone(), since));
            if place < known.0 {
                *known = (place, since);
            }
            below = priority;
        }
    }
    Ok(first.into_values().map(|(_, since)| timestamp(since)).min())
}
