//! Fair queues: the places of their jobs. The rules are in [`sandhog_core::fair`].

use rusqlite::params;
use sandhog_core::fair::{FairRule, Weight, next_place};
use sandhog_core::id::QueueName;
use sandhog_core::job::Priority;

use super::fault::{Fault, Result};
use super::step::{Step, Waits};
use crate::GROUPED_MAX;

/// Number of groups that a lease forgets beyond two for each job: the clock has passed their places.
const FORGOTTEN_MAX: u32 = 100;

impl Step<'_> {
    /// Whether a queue is fair.
    pub(super) fn is_fair(&mut self, queue: &str) -> Result<bool> {
        if let Some(known) = self.fair_queues.get(queue) {
            return Ok(*known);
        }
        let is_fair = "SELECT 1 FROM fair_queue WHERE tenant = ?1 AND queue = ?2";
        let is_fair = self.find(is_fair, [self.tenant(), queue], |_| Ok(()))?.is_some();
        self.fair_queues.insert(queue.to_owned(), is_fair);
        Ok(is_fair)
    }

    /// Takes the next place of a job's group in a fair queue.
    pub(super) fn next_fair_place(&mut self, job: Waits<'_>) -> Result<i64> {
        let Waits { queue, priority, group, .. } = job;
        let key = group.unwrap_or_default();
        let weight: Option<u8> = self.find(
            "SELECT weight FROM fair_weight WHERE tenant = ?1 AND queue = ?2 AND group_key = ?3",
            [self.tenant(), queue, key],
            |row| row.get(0),
        )?;
        let weight = weight.map_or(Some(Weight::DEFAULT), Weight::new);
        let weight = weight.ok_or_else(|| Fault::unreadable("fair_weight.weight", "it is no weight"))?;
        let last: Option<i64> = self.find(
            "SELECT place FROM fair_last WHERE tenant = ?1 AND queue = ?2 AND priority = ?3 AND group_key = ?4",
            params![self.tenant(), queue, priority.0, key],
            |row| row.get(0),
        )?;
        let clock = self.fair_clock(queue, priority)?.cast_unsigned();
        let place = next_place(clock, last.unwrap_or(0).cast_unsigned(), weight).cast_signed();
        self.execute(
            "INSERT INTO fair_last VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT DO UPDATE SET place = excluded.place",
            params![self.tenant(), queue, priority.0, key, place],
        )?;
        Ok(place)
    }

    fn fair_clock(&self, queue: &str, priority: Priority) -> Result<i64> {
        let clock = self.find(
            "SELECT place FROM fair_clock WHERE tenant = ?1 AND queue = ?2 AND priority = ?3",
            params![self.tenant(), queue, priority.0],
            |row| row.get(0),
        )?;
        Ok(clock.unwrap_or(0))
    }

    /// Moves the clock of a priority of a fair queue on to a place that was leased, by one of so many jobs.
    pub(super) fn move_fair_clock(
        &self,
        queue: &str,
        priority: Priority,
        place: i64,
        leased: u32,
    ) -> Result<()> {
        self.execute(
            "INSERT INTO fair_clock VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT DO UPDATE SET place = max(place, excluded.place)",
            params![self.tenant(), queue, priority.0, place],
        )?;
        // Groups that are behind the clock go from there, as those do of which nothing is known.
        self.execute(
            "DELETE FROM fair_last WHERE tenant = ?1 AND queue = ?2 AND priority = ?3 AND group_key IN
                 (SELECT group_key FROM fair_last INDEXED BY fair_last_by_place
                  WHERE tenant = ?1 AND queue = ?2 AND priority = ?3 AND place <= ?4 LIMIT ?5)",
            params![self.tenant(), queue, priority.0, place, leased.saturating_mul(2) + FORGOTTEN_MAX],
        )?;
        Ok(())
    }

    /// Says that these queues are fair and no others, and returns those that weren't. Numbers of jobs go on behind the places of what
    /// is ready in queues that were.
    pub(super) fn set_fair_queues<'r>(
        &mut self,
        rules: &[(&'r QueueName, &FairRule)],
    ) -> Result<Vec<&'r QueueName>> {
        let before: Vec<String> =
            self.all("SELECT queue FROM fair_queue WHERE tenant = ?1", [self.tenant()], |row| row.get(0))?;
        for queue in before.iter().filter(|queue| !rules.iter().any(|(name, _)| name.as_str() == *queue)) {
            let highest: Option<i64> = self
                .find(
                    "SELECT max(place) FROM
                         (SELECT place FROM fair_last WHERE tenant = ?1 AND queue = ?2
                          UNION ALL SELECT place FROM fair_clock WHERE tenant = ?1 AND queue = ?2)",
                    [self.tenant(), queue],
                    |row| row.get(0),
                )?
                .flatten();
            self.raise_arrivals(highest.unwrap_or(0))?;
            self.forget_fair_places(queue)?;
        }
        self.execute("DELETE FROM fair_queue WHERE tenant = ?1", [self.tenant()])?;
        self.execute("DELETE FROM fair_weight WHERE tenant = ?1", [self.tenant()])?;
        self.fair_queues.clear();
        let mut new = Vec::new();
        for (queue, rule) in rules {
            self.execute("INSERT INTO fair_queue VALUES (?1, ?2)", [self.tenant(), queue.as_str()])?;
            for (group, weight) in rule.weights() {
                self.execute(
                    "INSERT INTO fair_weight VALUES (?1, ?2, ?3, ?4)",
                    params![self.tenant(), queue.as_str(), group.as_str(), weight.get()],
                )?;
            }
            if !before.iter().any(|known| known == queue.as_str()) {
                new.push(*queue);
            }
        }
        Ok(new)
    }

    /// Gives places to the ready jobs of a queue that has become fair, from the first one's on.
    pub(super) fn give_fair_places(&mut self, queue: &QueueName) -> Result<()> {
        let queue = queue.as_str();
        let ready: Vec<(i64, Option<String>, u8, i64)> = self.all(
            "SELECT nr, group_key, priority, arrival FROM job INDEXED BY job_in_line
             WHERE tenant = ?1 AND state = 1 AND queue = ?2
             ORDER BY ((255 - priority) << 45 | arrival), tie LIMIT ?3",
            params![self.tenant(), queue, GROUPED_MAX as i64],
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)),
        )?;
        let mut latest = None;
        for (nr, group, priority, arrival) in ready {
            let priority = Priority(priority);
            if latest != Some(priority) {
                latest = Some(priority);
                self.move_fair_clock(queue, priority, arrival - 1, 0)?;
            }
            self.place_fairly(
                nr,
                Waits { queue, kind: "", is_suspect: false, priority, group: group.as_deref() },
            )?;
        }
        Ok(())
    }

    /// Gives a ready job of a fair queue another place.
    pub(super) fn place_fairly(&mut self, nr: i64, job: Waits<'_>) -> Result<()> {
        let place = self.next_fair_place(job)?;
        self.execute("UPDATE job SET arrival = ?2, tie = id WHERE nr = ?1", [nr, place])?;
        Ok(())
    }

    /// Forgets the places that were given in fair queues in which nothing is ready.
    pub(super) fn forget_idle_places(&self) -> Result<()> {
        let idle: Vec<String> = self.all(
            "SELECT queue FROM fair_queue WHERE tenant = ?1
                 AND (EXISTS (SELECT 1 FROM fair_clock
                     WHERE fair_clock.tenant = fair_queue.tenant AND fair_clock.queue = fair_queue.queue)
                     OR EXISTS (SELECT 1 FROM fair_last
                     WHERE fair_last.tenant = fair_queue.tenant AND fair_last.queue = fair_queue.queue))
                 AND NOT EXISTS (SELECT 1 FROM job INDEXED BY job_ready
                     WHERE job.tenant = fair_queue.tenant AND job.queue = fair_queue.queue AND state = 1
                         AND parked_at IS NULL)",
            [self.tenant()],
            |row| row.get(0),
        )?;
        idle.iter().try_for_each(|queue| self.forget_fair_places(queue))
    }

    fn forget_fair_places(&self, queue: &str) -> Result<()> {
        self.execute("DELETE FROM fair_clock WHERE tenant = ?1 AND queue = ?2", [self.tenant(), queue])?;
        self.execute("DELETE FROM fair_last WHERE tenant = ?1 AND queue = ?2", [self.tenant(), queue])?;
        Ok(())
    }
}
