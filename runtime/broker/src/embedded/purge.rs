//! Removal of everything that is kept of a tenant, in bounded steps.

use rusqlite::params;

use super::fault::Result;
use super::flows::{Removable, select_removable};
use super::step::Step;

impl Step<'_> {
    /// Removes up to `most` jobs and values of state, and returns how many are left. The rest of the tenant's data is removed
    /// with the last of them.
    pub(super) fn purge(&mut self, most: usize) -> Result<u64> {
        let most = i64::try_from(most.max(1)).unwrap_or(i64::MAX);
        let jobs = self.all(
            select_removable!("WHERE tenant = ?1 ORDER BY id LIMIT ?2"),
            params![self.tenant(), most],
            Removable::read,
        )?;
        jobs.iter().try_for_each(|job| self.remove(job))?;
        let values: Vec<(String, String)> = self.all(
            "SELECT plugin, key FROM state WHERE tenant = ?1 ORDER BY plugin, key LIMIT ?2",
            params![self.tenant(), most - jobs.len() as i64],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )?;
        for (plugin, key) in &values {
            self.execute(
                "DELETE FROM state WHERE tenant = ?1 AND plugin = ?2 AND key = ?3",
                [self.tenant(), plugin, key],
            )?;
        }
        let left = self.left()?;
        if left == 0 {
            self.give_up_all_lanes()?;
            for rest in [
                "DELETE FROM asked WHERE tenant = ?1",
                "DELETE FROM waiting WHERE tenant = ?1",
                "DELETE FROM tally WHERE tenant = ?1",
                "DELETE FROM minute WHERE tenant = ?1",
                "DELETE FROM usage WHERE tenant = ?1",
                "DELETE FROM trial WHERE tenant = ?1",
                "DELETE FROM hold WHERE tenant = ?1",
                "DELETE FROM group_rules WHERE tenant = ?1",
                "DELETE FROM group_limit WHERE tenant = ?1",
                "DELETE FROM fair_queue WHERE tenant = ?1",
                "DELETE FROM fair_weight WHERE tenant = ?1",
                "DELETE FROM fair_clock WHERE tenant = ?1",
                "DELETE FROM fair_last WHERE tenant = ?1",
                "DELETE FROM rates WHERE tenant = ?1",
                "DELETE FROM settled WHERE tenant = ?1",
                "DELETE FROM rest WHERE tenant = ?1",
                "DELETE FROM schedule WHERE tenant = ?1",
                "DELETE FROM breaker WHERE tenant = ?1",
                "DELETE FROM held_key WHERE tenant = ?1",
                "DELETE FROM event WHERE tenant = ?1",
                "DELETE FROM event_log WHERE tenant = ?1",
                "DELETE FROM kept WHERE tenant = ?1",
            ] {
                self.execute(rest, [self.tenant()])?;
            }
        }
        Ok(left)
    }

    /// Returns the number of jobs and values that there are.
    fn left(&self) -> Result<u64> {
        let sum = |sql| -> Result<i64> {
            Ok(self.find(sql, [self.tenant()], |row| row.get::<_, Option<i64>>(0))?.flatten().unwrap_or(0))
        };
        let jobs = sum("SELECT sum(n) FROM tally WHERE tenant = ?1")?;
        let values = sum("SELECT sum(keys) FROM state_size WHERE tenant = ?1")?;
        Ok(jobs.cast_unsigned() + values.cast_unsigned())
    }
}
