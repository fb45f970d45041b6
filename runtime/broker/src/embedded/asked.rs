//! Repeated asks: a daemon that has lost the answer to its ask is given the same leases again.

use rusqlite::params;
use sandhog_core::job::Lease;

use super::fault::{Fault, Result};
use super::row::stamp;
use super::step::Step;
use crate::{Asker, LeaseAsk};

/// Maximum number of a tenant's daemons whose last ask is kept; of more, the ones that started first are forgotten. A daemon
/// that starts anew counts as another.
const DAEMONS_MAX: i64 = 1024;

impl Step<'_> {
    /// Returns the leases that the same ask was given before, as far as they still hold, prolonged; `None` if this is no
    /// repetition.
    pub(super) fn repeated(&self, ask: &LeaseAsk<'_>) -> Result<Option<Vec<Lease>>> {
        let Some(asker) = ask.asker.filter(|asker| asker.repeats) else { return Ok(None) };
        let found: Option<(i64, String)> = self.find(
            "SELECT number, leases FROM asked WHERE tenant = ?1 AND daemon = ?2",
            [self.tenant(), &asker.daemon.to_string()],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )?;
        let Some((_, kept)) = found.filter(|(number, _)| number.cast_unsigned() == asker.number) else {
            return Ok(None);
        };
        let tokens: Vec<(String, u64)> = match serde_json::from_str(&kept) {
            Ok(tokens) => tokens,
            Err(error) => {
                // Those leases expire by themselves.
                tracing::warn!(tenant = self.tenant(), %error, "what a daemon was handed out last can't be read");
                return Ok(None);
            }
        };
        let mut leases = Vec::new();
        for (id, number) in tokens {
            leases.extend(self.prolonged(ask, &id, number)?);
        }
        Ok(Some(leases))
    }

    /// Prolongs a lease and returns it, or `None` if it no longer holds.
    fn prolonged(&self, ask: &LeaseAsk<'_>, id: &str, number: u64) -> Result<Option<Lease>> {
        let held = self.find(
            "SELECT nr FROM job WHERE tenant = ?1 AND id = ?2 AND state = 2 AND lease = ?3",
            params![self.tenant(), id, number.cast_signed()],
            |row| row.get(0),
        )?;
        let Some(nr) = held else { return Ok(None) };
        let lease = match self.current_lease(nr) {
            Err(Fault::Unreadable { .. }) => return Ok(None),
            read => read?,
        };
        self.execute(
            "UPDATE job SET lease_expires_at = ?2 WHERE nr = ?1",
            params![nr, stamp(self.now.after(ask.ttl))],
        )?;
        Ok(Some(lease))
    }

    /// Stores which leases a daemon was given, and by which ask.
    pub(super) fn remember(&self, asker: &Asker, leases: &[Lease]) -> Result<()> {
        let tokens: Vec<(String, u64)> =
            leases.iter().map(|lease| (lease.token.job.to_string(), lease.token.lease.0)).collect();
        let kept =
            serde_json::to_string(&tokens).map_err(|error| Fault::unreadable("asked.leases", error))?;
        let daemon = asker.daemon.to_string();
        let known = self.execute(
            "UPDATE asked SET number = ?3, leases = ?4 WHERE tenant = ?1 AND daemon = ?2",
            params![self.tenant(), daemon, asker.number.cast_signed(), kept],
        )?;
        if known == 0 {
            self.execute(
                "INSERT INTO asked VALUES (?1, ?2, ?3, ?4)",
                params![self.tenant(), daemon, asker.number.cast_signed(), kept],
            )?;
            // Ids of daemons rise with the time at which they started.
            self.execute(
                "DELETE FROM asked WHERE tenant = ?1 AND daemon <> ?2 AND daemon <=
                     (SELECT daemon FROM asked WHERE tenant = ?1 ORDER BY daemon DESC LIMIT 1 OFFSET ?3)",
                params![self.tenant(), daemon, DAEMONS_MAX],
            )?;
        }
        Ok(())
    }
}
