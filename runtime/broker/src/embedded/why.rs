//! Why a job isn't running, as far as the file tells.

use rusqlite::params;
use sandhog_core::hold::HoldScope;
use sandhog_core::id::{JobId, PluginName};
use sandhog_core::job::State;
use sandhog_core::waits::{AHEAD_COUNTED_MAX, WaitFacts};

use super::fault::Result;
use super::row::parse;
use super::step::Step;
use super::stored::{Stored, select_stored};
use crate::breakers::Barriers;

impl Step<'_> {
    /// Returns what a job waits for, or `None` if there is no such job. Changes nothing.
    pub(super) fn why(&mut self, job: JobId) -> Result<Option<WaitFacts>> {
        let by_id = select_stored!("WHERE tenant = ?1 AND id = ?2");
        let Some(found) = self.stored_job(by_id, params![self.tenant(), job.to_string()])? else {
            return Ok(None);
        };
        let (scopes, gates) = (self.held_scopes()?, self.gates()?);
        let (queue, kind) = (parse("job.queue", &found.queue)?, parse("job.kind", &found.kind)?);
        let covers = |scope: &HoldScope| scope.covers(&queue, &kind);
        let is_held = scopes.iter().any(covers) || gates.is_shut(&kind);
        let is_in_line = found.standing.state == State::Ready && !is_held;
        Ok(Some(WaitFacts {
            now: self.now,
            holds: super::holds::holds(self.connection, self.tenant, self.now)?
                .into_iter()
                .filter(|hold| covers(&hold.scope))
                .collect(),
            ahead: if is_in_line { self.ahead_of(&found, &scopes, &gates)? } else { 0 },
            spent: self.fuel_spent()?,
            limits: self.leased_under_limits()?,
            rates: self.rates_spent()?,
            group: match self.group_waited_for(&found)? {
                Some(key) => self.turns_of(&found.queue, &key)?,
                None => None,
            },
        }))
    }

    /// Returns the group in whose line a job waits, or `None` if it waits in none.
    fn group_waited_for(&self, job: &Stored) -> Result<Option<String>> {
        self.find("SELECT group_key FROM job WHERE nr = ?1 AND line_rank IS NOT NULL", [job.nr], |row| {
            row.get(0)
        })
    }

    /// Counts the ready jobs of its queue that go before a ready one and aren't held back, up to [`AHEAD_COUNTED_MAX`].
    fn ahead_of(&self, job: &Stored, held: &[HoldScope], gates: &Barriers) -> Result<u64> {
        let suspect = job.standing.counts.is_suspect();
        let (priority, arrival): (i64, i64) = self
            .find("SELECT priority, arrival FROM job WHERE nr = ?1", [job.nr], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })?
            .unwrap_or_default();
        let mut ahead = 0;
        for lane in self.lines_of(&job.queue, held, gates)? {
            for line in [true, false] {
                // All suspects go before the others.
                let (before, most) = (line == suspect, AHEAD_COUNTED_MAX - ahead);
                if line && !suspect || before {
                    let count: Option<u64> = self.find(
                        "SELECT count(*) FROM (SELECT 1 FROM job
                             WHERE tenant = ?1 AND queue = ?2 AND lane = ?3 AND (expiries > 0) = ?4 AND state = 1
                                 AND parked_at IS NULL
                                 AND (NOT ?5 OR priority > ?6 OR (priority = ?6 AND arrival < ?7))
                             LIMIT ?8)",
                        params![self.tenant(), job.queue, lane, line, before, priority, arrival, most.cast_signed()],
                        |row| row.get::<_, i64>(0).map(i64::cast_unsigned),
                    )?;
                    ahead += count.unwrap_or_default();
                }
            }
        }
        Ok(ahead)
    }

    /// Returns the lanes of a queue that hold a ready job and aren't held back; that of no kind is empty.
    fn lines_of(&self, queue: &str, held: &[HoldScope], gates: &Barriers) -> Result<Vec<String>> {
        let mut lanes = Vec::new();
        let mut next: Option<String> = self.lane_from(queue, "")?;
        while let Some(lane) = next {
            next = self.lane_from(queue, &format!("{lane}\0"))?;
            if !super::holds::is_held(held, gates, queue, &lane)? {
                lanes.push(lane);
            }
        }
        Ok(lanes)
    }

    /// Returns the first lane of a queue from this name on that holds a ready job.
    fn lane_from(&self, queue: &str, first: &str) -> Result<Option<String>> {
        self.find(
            "SELECT lane FROM job INDEXED BY job_ready
             WHERE tenant = ?1 AND queue = ?2 AND lane >= ?3 AND state = 1 AND parked_at IS NULL
             ORDER BY lane LIMIT 1",
            [self.tenant(), queue, first],
            |row| row.get(0),
        )
    }

    /// Returns the number of jobs that are leased under each fleet limit.
    pub(super) fn leased_under_limits(&self) -> Result<Vec<(PluginName, u64)>> {
        let counts: Vec<(String, i64)> = self.all(
            "SELECT limited_by, count(*) FROM job WHERE tenant = ?1 AND state = 2 AND limited_by IS NOT NULL
             GROUP BY limited_by ORDER BY limited_by",
            [self.tenant()],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )?;
        counts
            .into_iter()
            .map(|(name, count)| Ok((parse("job.limited_by", &name)?, count.cast_unsigned())))
            .collect()
    }
}
