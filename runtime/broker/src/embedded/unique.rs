//! Who holds which unique key.

use rusqlite::params;
use sandhog_core::id::JobId;
use sandhog_core::job::NewJob;
use sandhog_core::quota::QueueBounds;
use sandhog_core::unique::{KeyHold, OnClash, UniqueRule, UniqueUntil, moved_along};

use super::fault::{Fault, Result};
use super::row::{parse, stamp, timestamp};
use super::step::Step;
use crate::{Enqueued, SWEEP_MAX, options};

impl Step<'_> {
    /// Returns the id of the job that holds a unique key.
    pub(super) fn holder(&self, key: &str) -> Result<Option<String>> {
        self.find(
            "SELECT job FROM held_key WHERE tenant = ?1 AND key = ?2 AND (ends_at IS NULL OR ends_at > ?3)",
            params![self.tenant(), key, self.now()],
            |row| row.get(0),
        )
    }

    /// Has a job hold a unique key that is free.
    pub(super) fn claim(&self, key: &str, job: &str, rule: &UniqueRule) -> Result<()> {
        let KeyHold { until, ends, deadline, is_replaceable } = rule.hold(self.now);
        self.execute(
            "INSERT OR REPLACE INTO held_key VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            params![
                self.tenant(),
                key,
                job,
                until_code(until),
                ends.map(stamp),
                deadline.map(stamp),
                is_replaceable
            ],
        )?;
        Ok(())
    }

    /// Does to the holder of a key what a job does that comes with the same one.
    pub(super) fn clash(
        &mut self,
        holder: &str,
        key: &str,
        job: &NewJob,
        bounds: &QueueBounds,
    ) -> Result<Enqueued> {
        let id: JobId = parse("held_key.job", holder)?;
        if job.options.unique.on_clash == OnClash::Keep {
            return Ok(Enqueued::Duplicate(id));
        }
        let held = self.key_hold(key)?;
        let waiting: Option<(i64, i64, Option<i64>, Option<i64>)> = self.find(
            "SELECT nr, octet_length(bytes), due_at, start_by FROM job JOIN payload USING (nr)
             WHERE tenant = ?1 AND id = ?2 AND kind = ?3 AND state IN (0, 1, 6)
                 AND NOT EXISTS (SELECT 1 FROM flow_job WHERE flow_job.nr = job.nr)",
            params![self.tenant(), holder, job.kind.as_str()],
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)),
        )?;
        let clash = job.options.unique.clash(&held, waiting.is_some(), self.now);
        if let Some(ends) = clash.ends {
            let put_off = "UPDATE held_key SET ends_at = ?3 WHERE tenant = ?1 AND key = ?2";
            self.execute(put_off, params![self.tenant(), key, stamp(ends)])?;
        }
        let Some((nr, length, due_at, start_by)) = waiting.filter(|_| clash.replaces) else {
            return Ok(Enqueued::Duplicate(id));
        };
        let (before, after) = (length.cast_unsigned(), job.payload.len() as u64);
        if let Some(excess) = bounds.payload_excess(self.waiting()?, before, after) {
            return Ok(excess.into());
        }
        self.execute("UPDATE payload SET bytes = ?2 WHERE nr = ?1", params![nr, job.payload])?;
        if let (Some(before), Some(due)) = (due_at, clash.due) {
            let first = (self.first_due()?, self.first_start_by()?);
            let start_by =
                start_by.map(|start_by| stamp(moved_along(timestamp(start_by), timestamp(before), due)));
            self.execute(
                "UPDATE job SET due_at = ?2, start_by = ?3 WHERE nr = ?1",
                params![nr, stamp(due), start_by],
            )?;
            let is_earlier = |now: Option<i64>, before: Option<i64>| {
                now.is_some_and(|now| before.is_none_or(|before| now < before))
            };
            self.has_news |=
                is_earlier(self.first_due()?, first.0) || is_earlier(self.first_start_by()?, first.1);
        }
        Ok(Enqueued::Replaced(id))
    }

    fn key_hold(&self, key: &str) -> Result<KeyHold> {
        let found = self.find(
            "SELECT until, ends_at, deadline, replaceable FROM held_key WHERE tenant = ?1 AND key = ?2",
            [self.tenant(), key],
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)),
        )?;
        let (until, ends, deadline, is_replaceable): (i64, Option<i64>, Option<i64>, bool) =
            found.ok_or_else(|| Fault::unreadable("held_key", "it isn't there"))?;
        Ok(KeyHold {
            until: until_of(until)?,
            ends: ends.map(timestamp),
            deadline: deadline.map(timestamp),
            is_replaceable,
        })
    }

    /// Returns the rule of a stored job's unique key.
    pub(super) fn unique_rule(&self, nr: i64) -> Result<UniqueRule> {
        let stored: Option<Vec<u8>> = self
            .find("SELECT options FROM job WHERE nr = ?1", [nr], |row| row.get::<_, Option<Vec<u8>>>(0))?
            .flatten();
        let Some(stored) = stored else { return Ok(UniqueRule::default()) };
        let read = options::read(&stored).map_err(|error| Fault::unreadable("job.options", error))?;
        Ok(read.unique)
    }

    /// Forgets keys whose time is over, up to [`SWEEP_MAX`]. Returns how many.
    pub(super) fn sweep_keys(&self) -> Result<usize> {
        self.execute(
            "DELETE FROM held_key WHERE tenant = ?1 AND key IN
                 (SELECT key FROM held_key WHERE tenant = ?1 AND ends_at IS NOT NULL AND ends_at <= ?2
                  ORDER BY ends_at LIMIT ?3)",
            params![self.tenant(), self.now(), SWEEP_MAX as i64],
        )
    }
}

/// Returns the number of an event in the file.
fn until_code(until: UniqueUntil) -> i64 {
    match until {
        UniqueUntil::Settled => 0,
        UniqueUntil::Started => 1,
        UniqueUntil::Over => 2,
    }
}

fn until_of(code: i64) -> Result<UniqueUntil> {
    let known = UniqueUntil::ALL.into_iter().find(|until| until_code(*until) == code);
    known.ok_or_else(|| Fault::unreadable("held_key.until", format!("there is no event {code}")))
}
