//! A daemon that has lost the answer to its ask is given the same leases again.

use rusqlite::params;
use sandhog_core::job::Lease;

use super::fault::{Fault, Result};
use super::row::stamp;
use super::step::Step;
use crate::{Asker, LeaseAsk};

/// Daemons of a tenant whose last ask is kept; of more, the ones that started first are forgotten. A daemon that starts
/// anew is another.
const DAEMONS_MAX: i64 = 1024;

impl Step<'_> {
    /// What was handed out by the same ask before, if this repeats one: those leases that still hold, prolonged.
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
                // Those leases run out by themselves.
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

    /// A lease that still holds, and holds longer now.
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

    /// Keeps what a daemon is handed out.
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
            // Ids rise with the time at which a daemon started.
            self.execute(
                "DELETE FROM asked WHERE tenant = ?1 AND daemon <> ?2 AND daemon <=
                     (SELECT daemon FROM asked WHERE tenant = ?1 ORDER BY daemon DESC LIMIT 1 OFFSET ?3)",
                params![self.tenant(), daemon, DAEMONS_MAX],
            )?;
        }
        Ok(())
    }
}
