//! Storage of breakers, and of what they keep from being leased.

use std::collections::BTreeMap;

use rusqlite::{Connection, params};
use sandhog_core::breaker::{BREAKERS_MAX, Barrier};
use sandhog_core::id::{BreakerName, TenantId};
use sandhog_core::time::Timestamp;

use super::fault::{Fault, Result};
use super::row::parse;
use super::step::Step;
use crate::breakers::Barriers;
use crate::schedules::next_version;
use crate::{BreakerWrite, BreakerWritten, Breakers, StoredBreaker};

impl Step<'_> {
    /// Writes a breaker's record, or does nothing.
    pub(super) fn write_breaker(&mut self, write: &BreakerWrite) -> Result<BreakerWritten> {
        let BreakerWrite { name, expected, record } = write;
        let of_name = [self.tenant(), name.as_str()];
        let select = "SELECT version, gate FROM breaker WHERE tenant = ?1 AND name = ?2";
        let stored: Option<(i64, Option<Vec<u8>>)> =
            self.find(select, of_name, |row| Ok((row.get(0)?, row.get(1)?)))?;
        let (version, gate_before) = stored.map_or((None, None), |(version, gate)| (Some(version), gate));
        let version = version.map(i64::cast_unsigned);
        if version != *expected {
            return Ok(BreakerWritten::Stale);
        }
        let gate = record.as_ref().and_then(|record| record.gate.as_ref()).map(Barrier::to_bytes);
        match record {
            None => {
                self.execute("DELETE FROM breaker WHERE tenant = ?1 AND name = ?2", of_name)?;
            }
            Some(_) if version.is_none() && self.count_breakers()? >= BREAKERS_MAX => {
                return Ok(BreakerWritten::TooMany);
            }
            Some(record) => {
                self.execute(
                    "INSERT OR REPLACE INTO breaker (tenant, name, version, record, gate) VALUES (?1, ?2, ?3, ?4, ?5)",
                    params![
                        self.tenant(),
                        name.as_str(),
                        next_version(version, self.now).cast_signed(),
                        record.bytes,
                        gate
                    ],
                )?;
            }
        }
        // Those who wait for jobs have to look, and all have to know when the gate opens.
        self.has_news |= gate != gate_before;
        Ok(BreakerWritten::Done)
    }

    fn count_breakers(&self) -> Result<usize> {
        let count: Option<i64> =
            self.find("SELECT count(*) FROM breaker WHERE tenant = ?1", [self.tenant()], |row| row.get(0))?;
        Ok(count.and_then(|count| usize::try_from(count).ok()).unwrap_or(0))
    }

    fn stored_gates(&self) -> Result<Vec<(BreakerName, Barrier)>> {
        stored_gates(self.connection, self.tenant)
    }

    /// Returns what the breakers keep from being leased.
    pub(super) fn gates(&self) -> Result<Barriers> {
        Ok(Barriers::new(self.stored_gates()?, self.now))
    }

    /// Returns the next time at which a gate opens by itself.
    pub(super) fn next_gate(&self) -> Result<Option<Timestamp>> {
        Ok(self.stored_gates()?.iter().filter_map(|(_, gate)| gate.next()).min())
    }

    /// Takes back from the gates what is over, and tells those who wait.
    pub(super) fn sweep_gates(&mut self) -> Result<()> {
        for (name, gate) in self.stored_gates()? {
            let swept = gate.clone().swept(self.now);
            if swept.as_ref() != Some(&gate) {
                self.execute(
                    "UPDATE breaker SET gate = ?3 WHERE tenant = ?1 AND name = ?2",
                    params![self.tenant(), name.as_str(), swept.as_ref().map(Barrier::to_bytes)],
                )?;
                self.has_news = true;
            }
        }
        Ok(())
    }

    /// Returns the number of leased jobs that are probes of each breaker.
    pub(super) fn probes_under_way(&self) -> Result<BTreeMap<BreakerName, u32>> {
        let leased: Vec<String> = self.all(
            "SELECT probe_of FROM job WHERE tenant = ?1 AND state = 2 AND probe_of IS NOT NULL",
            [self.tenant()],
            |row| row.get(0),
        )?;
        let mut counts = BTreeMap::new();
        for name in leased.iter().flat_map(|names| names.split(' ')) {
            *counts.entry(parse("job.probe_of", name)?).or_default() += 1;
        }
        Ok(counts)
    }
}

fn stored_gates(connection: &Connection, tenant: &TenantId) -> Result<Vec<(BreakerName, Barrier)>> {
    let mut statement = connection.prepare_cached(
        "SELECT name, gate FROM breaker WHERE tenant = ?1 AND gate IS NOT NULL ORDER BY name",
    )?;
    let read = |row: &rusqlite::Row<'_>| {
        let (name, gate): (String, Vec<u8>) = (row.get(0)?, row.get(1)?);
        let gate = Barrier::from_bytes(&gate).map_err(|error| Fault::unreadable("breaker.gate", error))?;
        Ok((parse("breaker.name", &name)?, gate))
    };
    statement.query_and_then([tenant.as_str()], read)?.collect()
}

/// Returns what a tenant's breakers keep from being leased.
pub(super) fn gates(connection: &Connection, tenant: &TenantId, now: Timestamp) -> Result<Barriers> {
    Ok(Barriers::new(stored_gates(connection, tenant)?, now))
}

/// Returns a tenant's breakers, or the one of this name.
pub(super) fn breakers(
    connection: &Connection,
    tenant: &TenantId,
    name: Option<&BreakerName>,
    now: Timestamp,
) -> Result<Breakers> {
    let mut statement = connection.prepare_cached(
        "SELECT name, version, record FROM breaker WHERE tenant = ?1 AND (?2 IS NULL OR name = ?2) ORDER BY name",
    )?;
    let read = |row: &rusqlite::Row<'_>| {
        let (name, version): (String, i64) = (row.get(0)?, row.get(1)?);
        let (name, record) = (parse("breaker.name", &name)?, Ok(row.get(2)?));
        Ok(StoredBreaker { name, version: version.cast_unsigned(), record })
    };
    let name = name.map(BreakerName::as_str);
    let breakers = statement.query_and_then(params![tenant.as_str(), name], read)?;
    Ok(Breakers { now, breakers: breakers.collect::<Result<_>>()? })
}
