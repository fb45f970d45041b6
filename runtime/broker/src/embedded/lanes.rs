//! Lanes: jobs of one kind that wait apart from the others of their queue, and limits on how many may be leased.
//!
//! A job is put into its lane when it becomes ready. Jobs that are ready when the lane is made move there, a bounded number
//! at once; the others when a lease meets them.

use std::collections::BTreeMap;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, params};
use sandhog_core::id::{BreakerName, Kind, PluginName, QueueName, TenantId};
use sandhog_core::rate::{FullAt, Rate};
use sandhog_core::time::{Timestamp, millis};

use super::fault::Result;
use super::row::{parse, stamp, timestamp};
use super::step::Step;
use crate::breakers::Barriers;
use crate::{LANE_KEPT, LANE_NOTED_EVERY, LANES_MAX, LaneAsk, Lanes, LeaseAsk, RateLimit, RateOf, SWEEP_MAX};

/// Maximum number of ready jobs of a queue that are searched at once for those that belong in a lane.
const LOOKED_AT_MAX: i64 = 1000;

/// The lanes that an ask names, with the number of jobs of each that may still be handed out.
pub(super) struct Rooms<'a> {
    lanes: Vec<(&'a LaneAsk, u32)>,
    /// Number of further jobs that may be leased, by the name of the limit.
    free: BTreeMap<&'a PluginName, u32>,
    /// Tokens of the rate limits that the lanes name.
    tokens: BTreeMap<&'a RateOf, Tokens>,
    /// Of each lane, the breakers whose probes its jobs are.
    probing: Vec<Vec<BreakerName>>,
    /// Number of further jobs that may be leased as probes of each breaker.
    probes: BTreeMap<BreakerName, u32>,
}

/// Tokens of a rate limit.
#[derive(Debug, Clone, Copy)]
struct Tokens {
    rate: Rate,
    full_at: FullAt,
    taken: u32,
    /// Number of tokens left.
    left: u32,
}

impl<'a> Rooms<'a> {
    /// Returns the lanes of a queue, by their index in the ask.
    pub(super) fn of(&self, queue: &QueueName) -> Vec<usize> {
        let of_queue = |nth: &usize| self.lanes[*nth].0.queue == *queue;
        // If a lane is named twice, the first counts.
        let is_first = |nth: &usize| {
            let lane = self.lanes[*nth].0;
            self.find(&lane.queue, &lane.kind) == Some(*nth)
        };
        (0..self.lanes.len()).filter(of_queue).filter(is_first).collect()
    }

    /// Returns the lane of a kind in a queue, by its index in the ask.
    pub(super) fn find(&self, queue: &QueueName, kind: &Kind) -> Option<usize> {
        self.lanes.iter().position(|(lane, _)| lane.queue == *queue && lane.kind == *kind)
    }

    pub(super) fn kind(&self, nth: usize) -> &'a Kind {
        &self.lanes[nth].0.kind
    }

    /// Returns the limit that jobs of a lane count against.
    pub(super) fn limit(&self, nth: usize) -> Option<&'a PluginName> {
        self.lanes[nth].0.limit.as_ref().map(|limit| &limit.name)
    }

    /// Returns the rate limit of which jobs of a lane take tokens.
    fn rate(&self, nth: usize) -> Option<&'a RateOf> {
        self.lanes[nth].0.rate.as_ref().map(|limit| &limit.of)
    }

    /// Returns the number of jobs of a lane that may still be handed out.
    pub(super) fn left(&self, nth: usize) -> u32 {
        let free = self.limit(nth).and_then(|name| self.free.get(name)).copied();
        let tokens = self.rate(nth).and_then(|of| self.tokens.get(of)).map(|tokens| tokens.left);
        let probes = self.probing[nth].iter().filter_map(|name| self.probes.get(name)).min().copied();
        let bounds = [free, tokens, probes].into_iter().flatten();
        bounds.fold(self.lanes[nth].1, u32::min)
    }

    /// Returns the breakers whose probes the jobs of a lane are, with blanks between their names; `None` if there are none.
    pub(super) fn probe_of(&self, nth: usize) -> Option<String> {
        let names: Vec<&str> = self.probing[nth].iter().map(BreakerName::as_str).collect();
        (!names.is_empty()).then(|| names.join(" "))
    }

    /// Counts one job of a lane as handed out.
    pub(super) fn take(&mut self, nth: usize) {
        if let Some(free) = self.limit(nth).and_then(|name| self.free.get_mut(name)) {
            *free = free.saturating_sub(1);
        }
        if let Some(tokens) = self.rate(nth).and_then(|of| self.tokens.get_mut(of)) {
            (tokens.taken, tokens.left) = (tokens.taken + 1, tokens.left.saturating_sub(1));
        }
        for name in &self.probing[nth] {
            self.probes.entry(name.clone()).and_modify(|left| *left = left.saturating_sub(1));
        }
        let (_, room) = &mut self.lanes[nth];
        *room = room.saturating_sub(1);
    }
}

impl Step<'_> {
    /// Returns the lanes of an ask, with the number of jobs of each that may be handed out.
    pub(super) fn rooms<'a>(&self, ask: &LeaseAsk<'a>, gates: &Barriers) -> Result<Rooms<'a>> {
        let mut free = BTreeMap::new();
        for limit in ask.lanes.iter().filter_map(|lane| lane.limit.as_ref()) {
            let under_way: Vec<i64> = self.all(
                "SELECT nr FROM job WHERE tenant = ?1 AND limited_by = ?2 AND state = 2 LIMIT ?3",
                params![self.tenant(), limit.name.as_str(), limit.most],
                |row| row.get(0),
            )?;
            let under_way = u32::try_from(under_way.len()).unwrap_or(u32::MAX);
            free.insert(&limit.name, limit.most.saturating_sub(under_way));
        }
        let mut tokens = BTreeMap::new();
        for RateLimit { of, rate } in ask.lanes.iter().filter_map(|lane| lane.rate.as_ref()) {
            let full_at = self.full_at(of)?;
            let left = rate.left(full_at, self.now.as_micros());
            tokens.insert(of, Tokens { rate: *rate, full_at, taken: 0, left });
        }
        let mut probes: BTreeMap<BreakerName, u32> = BTreeMap::new();
        for (name, most) in ask.lanes.iter().flat_map(|lane| gates.probing(&lane.kind)) {
            probes.insert(name.clone(), most.get());
        }
        if !probes.is_empty() {
            for (name, under_way) in self.probes_under_way()? {
                probes.entry(name).and_modify(|left| *left = left.saturating_sub(under_way));
            }
        }
        let probing = |lane: &LaneAsk| gates.probing(&lane.kind).map(|(name, _)| name.clone()).collect();
        Ok(Rooms {
            lanes: ask.lanes.iter().map(|lane| (lane, lane.room)).collect(),
            free,
            tokens,
            probing: ask.lanes.iter().map(probing).collect(),
            probes,
        })
    }

    /// Stores how many tokens were taken.
    pub(super) fn take_tokens(&self, rooms: &Rooms<'_>) -> Result<()> {
        for (of, tokens) in rooms.tokens.iter().filter(|(_, tokens)| tokens.taken > 0) {
            self.set_full_at(of, tokens.rate.taken(tokens.full_at, tokens.taken, self.now.as_micros()))?;
        }
        Ok(())
    }

    fn set_full_at(&self, of: &RateOf, FullAt(full_at): FullAt) -> Result<()> {
        self.execute(
            "INSERT INTO rates VALUES (?1, ?2, ?3) ON CONFLICT DO UPDATE SET full_at = excluded.full_at",
            params![self.tenant(), of.key(), full_at.cast_signed()],
        )?;
        Ok(())
    }

    /// Returns the time until there are tokens again of the first of the ask's rate limits that has none left. What a slower
    /// rate has left doesn't hold the ones that are asked for.
    pub(super) fn next_token(&self, ask: &LeaseAsk<'_>) -> Result<Option<Duration>> {
        let limits: BTreeMap<&RateOf, Rate> = ask
            .lanes
            .iter()
            .filter_map(|lane| lane.rate.as_ref())
            .map(|limit| (&limit.of, limit.rate))
            .collect();
        let mut next = None;
        for (of, rate) in limits {
            let (found, now) = (self.full_at(of)?, self.now.as_micros());
            let full_at = rate.adopted(found, now);
            if full_at < found {
                self.set_full_at(of, full_at)?;
            }
            if rate.left(full_at, now) == 0 {
                let wait = rate.wait(full_at, rate.batch(), now);
                next = Some(next.map_or(wait, |next: u64| next.min(wait)));
            }
        }
        Ok(next.map(Duration::from_micros))
    }

    /// Returns the rate limits of which not all tokens are there.
    pub(super) fn rates_spent(&self) -> Result<Vec<(RateOf, FullAt)>> {
        let spent: Vec<(String, i64)> = self.all(
            "SELECT name, full_at FROM rates WHERE tenant = ?1 AND full_at > ?2",
            params![self.tenant(), self.now.as_micros().cast_signed()],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )?;
        let of = |(name, full_at): (String, i64)| {
            Some((RateOf::from_key(&name)?, FullAt(full_at.cast_unsigned())))
        };
        let mut rates: Vec<_> = spent.into_iter().filter_map(of).collect();
        rates.sort_unstable();
        Ok(rates)
    }

    fn full_at(&self, of: &RateOf) -> Result<FullAt> {
        let stored: Option<i64> = self.find(
            "SELECT full_at FROM rates WHERE tenant = ?1 AND name = ?2",
            [self.tenant(), &of.key()],
            |row| row.get(0),
        )?;
        Ok(stored.map(|full_at| FullAt(full_at.cast_unsigned())).unwrap_or_default())
    }

    /// Makes a lane for a kind, or notes that it was asked for.
    pub(super) fn note_lane(&mut self, queue: &str, kind: &str) -> Result<()> {
        let noted: Option<i64> = self.find(
            "SELECT noted_at FROM lanes WHERE tenant = ?1 AND queue = ?2 AND kind = ?3",
            [self.tenant(), queue, kind],
            |row| row.get(0),
        )?;
        let is_old = noted.is_none_or(|noted| self.now.since(timestamp(noted)) >= LANE_NOTED_EVERY);
        if is_old {
            self.execute(
                "INSERT INTO lanes VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO UPDATE SET noted_at = excluded.noted_at",
                params![self.tenant(), queue, kind, self.now()],
            )?;
        }
        if noted.is_none() {
            self.count_lane_changes(1)?;
            let moved = self.move_to_lane(queue, kind, false)? + self.move_to_lane(queue, kind, true)?;
            // A daemon that serves the lane may have asked in vain before.
            self.has_news |= moved > 0;
        }
        Ok(())
    }

    /// Whether a kind has a lane of its own in a queue.
    pub(super) fn is_lane(&self, queue: &str, kind: &str) -> Result<bool> {
        if self.lane_changes()? == 0 {
            return Ok(false);
        }
        let found = self.find(
            "SELECT 1 FROM lanes WHERE tenant = ?1 AND queue = ?2 AND kind = ?3",
            [self.tenant(), queue, kind],
            |_| Ok(()),
        )?;
        Ok(found.is_some())
    }

    /// Returns how often a lane has come or gone.
    pub(super) fn lane_changes(&self) -> Result<u64> {
        if let Some(known) = self.lane_changes.get() {
            return Ok(known);
        }
        let changes = lane_changes(self.connection, self.tenant)?;
        self.lane_changes.set(Some(changes));
        Ok(changes)
    }

    fn count_lane_changes(&self, more: usize) -> Result<()> {
        if more > 0 {
            self.execute(
                "INSERT INTO lane_changes VALUES (?1, ?2) ON CONFLICT DO UPDATE SET n = n + excluded.n",
                params![self.tenant(), more as i64],
            )?;
            self.lane_changes.set(None);
        }
        Ok(())
    }

    /// Moves ready jobs to the lane of their kind, as far as they are among the first of their queue, suspects or others.
    /// Returns their number.
    pub(super) fn move_to_lane(&self, queue: &str, kind: &str, suspects: bool) -> Result<usize> {
        self.execute(
            "UPDATE job SET lane = ?3 WHERE kind = ?3 AND nr IN
                 (SELECT nr FROM job INDEXED BY job_ready
                  WHERE tenant = ?1 AND queue = ?2 AND lane = '' AND (expiries > 0) = ?4 AND state = 1
                      AND parked_at IS NULL
                  ORDER BY priority DESC, arrival, tie LIMIT ?5)",
            params![self.tenant(), queue, kind, suspects, LOOKED_AT_MAX],
        )
    }

    /// Removes lanes that are empty and were not asked for within [`LANE_KEPT`]. Returns their number.
    pub(super) fn give_up_lanes(&self) -> Result<usize> {
        let until = Timestamp::from_millis(self.now.as_millis().saturating_sub(millis(LANE_KEPT)));
        let empty: Vec<(String, String)> = self.all(
            "SELECT queue, kind FROM lanes WHERE tenant = ?1 AND noted_at <= ?2 AND NOT EXISTS
                 (SELECT 1 FROM job WHERE job.tenant = lanes.tenant AND job.queue = lanes.queue
                  AND job.lane = lanes.kind AND state = 1 AND parked_at IS NULL)
             ORDER BY noted_at LIMIT ?3",
            params![self.tenant(), stamp(until), SWEEP_MAX as i64],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )?;
        for (queue, kind) in &empty {
            let delete = "DELETE FROM lanes WHERE tenant = ?1 AND queue = ?2 AND kind = ?3";
            self.execute(delete, [self.tenant(), queue, kind])?;
        }
        self.count_lane_changes(empty.len())?;
        Ok(empty.len())
    }

    /// Removes all lanes. Their removal is counted, so that later lanes aren't taken for these.
    pub(super) fn give_up_all_lanes(&self) -> Result<()> {
        let given_up = self.execute("DELETE FROM lanes WHERE tenant = ?1", [self.tenant()])?;
        self.count_lane_changes(given_up)
    }

    /// Whether a lane has a job that can be handed out.
    pub(super) fn has_ready_in_lanes(&self) -> Result<bool> {
        let found = self.find(
            "SELECT 1 FROM job INDEXED BY job_in_lane
             WHERE tenant = ?1 AND state = 1 AND parked_at IS NULL AND lane <> '' LIMIT 1",
            [self.tenant()],
            |_| Ok(()),
        )?;
        Ok(found.is_some())
    }
}

fn lane_changes(connection: &Connection, tenant: &TenantId) -> Result<u64> {
    let mut statement = connection.prepare_cached("SELECT n FROM lane_changes WHERE tenant = ?1")?;
    let found = statement.query_row([tenant.as_str()], |row| row.get::<_, i64>(0)).optional()?;
    Ok(found.map_or(0, i64::cast_unsigned))
}

/// Returns the tenant's lanes.
pub(super) fn lanes(connection: &Connection, tenant: &TenantId) -> Result<Lanes> {
    let mut statement = connection
        .prepare_cached("SELECT queue, kind FROM lanes WHERE tenant = ?1 ORDER BY queue, kind LIMIT ?2")?;
    let rows = statement.query_and_then(params![tenant.as_str(), LANES_MAX as i64], |row| {
        let (queue, kind): (String, String) = (row.get(0)?, row.get(1)?);
        Ok((parse("lanes.queue", &queue)?, parse("lanes.kind", &kind)?))
    })?;
    Ok(Lanes { number: lane_changes(connection, tenant)?, lanes: rows.collect::<Result<_>>()? })
}
