//! The state that plugins keep from job to job: compared, written, and held to its quota.

use rusqlite::{OptionalExtension, params};
use sandhog_core::budget::Bytes;
use sandhog_core::effects::{Effects, StateWrite, Written};
use sandhog_core::id::{PluginName, StateKey};
use sandhog_core::quota::{StateExcess, StateQuota, StateSize};

use super::fault::{Fault, Result};
use super::row::stamp;
use super::step::Step;
use crate::SWEEP_MAX;

impl Step<'_> {
    /// Removes up to `count` expired values. Returns their number.
    pub(super) fn sweep_state(&self, count: usize) -> Result<usize> {
        let values: Vec<(String, String)> = self.all(
            "SELECT plugin, key FROM state WHERE tenant = ?1 AND expires_at <= ?2 LIMIT ?3",
            params![self.tenant(), self.now(), count as i64],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )?;
        for (plugin, key) in &values {
            let delete = "DELETE FROM state WHERE tenant = ?1 AND plugin = ?2 AND key = ?3";
            self.execute(delete, [self.tenant(), plugin, key])?;
        }
        Ok(values.len())
    }

    /// Returns what a run's writes, if applied, would exceed of the quota, or `None` if they fit.
    pub(super) fn excess(
        &self,
        plugin: &PluginName,
        effects: &Effects,
        quota: StateQuota,
    ) -> Result<Option<StateExcess>> {
        if effects.writes().len() == 0 || self.excess_at_most(plugin, effects, quota)?.is_none() {
            return Ok(None);
        }
        // Expired values count until they are swept.
        while self.sweep_state(SWEEP_MAX)? == SWEEP_MAX {}
        self.excess_at_most(plugin, effects, quota)
    }

    /// As [`Self::excess`], but expired values count as much as any.
    fn excess_at_most(
        &self,
        plugin: &PluginName,
        effects: &Effects,
        quota: StateQuota,
    ) -> Result<Option<StateExcess>> {
        let before = self.find(
            "SELECT bytes, keys FROM state_size WHERE tenant = ?1 AND plugin = ?2",
            [self.tenant(), plugin.as_str()],
            |row| {
                let (bytes, keys): (i64, i64) = (row.get(0)?, row.get(1)?);
                Ok(StateSize { bytes: Bytes(bytes.cast_unsigned()), keys: keys.cast_unsigned() })
            },
        )?;
        let before = before.unwrap_or_default();
        let mut after = before;
        for (key, write) in effects.writes() {
            let stored = self.stored(plugin, key)?.map(|(value, _)| value);
            let taken = |length| (key.as_str().len() + length) as u64;
            if let Some(value) = &stored {
                after.bytes.0 -= taken(value.len());
                after.keys -= 1;
            }
            if let Some(length) = write.over(stored.as_deref()).ok().and_then(|written| written.length()) {
                after.bytes.0 += taken(length);
                after.keys += 1;
            }
        }
        Ok(quota.excess(before, after))
    }

    /// Returns the first key whose value isn't what the run had relied on.
    pub(super) fn conflict(&self, plugin: &PluginName, effects: &Effects) -> Result<Option<StateKey>> {
        let stored = |key: &StateKey| -> Result<_> { Ok(self.stored(plugin, key)?.map(|(value, _)| value)) };
        Ok(effects.conflict(stored)?.cloned())
    }

    /// Returns a value that hasn't expired, and its time of expiry.
    fn stored(&self, plugin: &PluginName, key: &StateKey) -> Result<Option<(Vec<u8>, Option<i64>)>> {
        let mut statement = self.connection.prepare_cached(
            "SELECT value, expires_at FROM state WHERE tenant = ?1 AND plugin = ?2 AND key = ?3
             AND (expires_at IS NULL OR expires_at > ?4)",
        )?;
        let at = params![self.tenant(), plugin.as_str(), key.as_str(), self.now()];
        Ok(statement.query_row(at, |row| Ok((row.get(0)?, row.get(1)?))).optional()?)
    }

    pub(super) fn write(&self, plugin: &PluginName, key: &StateKey, write: &StateWrite) -> Result<()> {
        let stored = self.stored(plugin, key)?;
        let written = write
            .over(stored.as_ref().map(|(value, _)| value.as_slice()))
            .map_err(|error| Fault::unreadable("state.value", error))?;
        let (value, expires_at) = match written {
            Written::Gone => {
                let delete = "DELETE FROM state WHERE tenant = ?1 AND plugin = ?2 AND key = ?3";
                self.execute(delete, [self.tenant(), plugin.as_str(), key.as_str()])?;
                return Ok(());
            }
            Written::Value(value, ttl) => (value, ttl.map(|ttl| stamp(self.now.after(ttl)))),
            Written::Changed(value) => (value, stored.and_then(|(_, expires_at)| expires_at)),
        };
        self.execute(
            "INSERT INTO state VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT DO UPDATE SET value = excluded.value, expires_at = excluded.expires_at",
            params![self.tenant(), plugin.as_str(), key.as_str(), value, expires_at],
        )?;
        Ok(())
    }
}
