//! Usage accounts: what runs spend, a row for each plugin and day.
//!
//! A step sums up what its settlements spent and adds the sums once, at its end.

use std::ops::RangeInclusive;

use rusqlite::{Connection, Row, params_from_iter};
use sandhog_core::account::{Account, Day, DayUsage};
use sandhog_core::budget::Fuel;
use sandhog_core::id::{PluginName, TenantId};
use sandhog_core::quota::{FuelSpent, minute_of};

use super::fault::Result;
use super::row::parse;
use super::step::Step;
use crate::USAGE_DAYS_KEPT;

const PARTS: usize = Account::PARTS.len();

impl Step<'_> {
    /// Adds what was spent in this step to the day's accounts.
    pub(super) fn add_accounts(&self) -> Result<()> {
        if self.spent.is_empty() {
            return Ok(());
        }
        let day = Day::of(self.now);
        for (plugin, spent) in &self.spent {
            let so_far = self.find(
                "SELECT succeeded, retried, dead, cancelled, released, fuel, cpu_us, wall_us, memory_high, memory_low,
                     bytes_in, bytes_out, host_calls
                 FROM usage WHERE tenant = ?1 AND day = ?2 AND plugin = ?3",
                (self.tenant(), day.0, plugin.as_str()),
                |row| account(row, 0),
            )?;
            if so_far.is_none() {
                let first = day.before(USAGE_DAYS_KEPT).0;
                self.execute("DELETE FROM usage WHERE tenant = ?1 AND day < ?2", (self.tenant(), first))?;
            }
            let parts = so_far.unwrap_or_default().and(spent).parts().map(u64::cast_signed);
            let names: [&dyn rusqlite::ToSql; 3] = [&self.tenant(), &day.0, &plugin.as_str()];
            let values = names.into_iter().chain(parts.iter().map(|part| part as &dyn rusqlite::ToSql));
            self.execute(
                "INSERT OR REPLACE INTO usage VALUES
                     (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)",
                params_from_iter(values),
            )?;
        }
        let fuel =
            self.spent.values().fold(self.minute_fuel()?, |sum, spent| sum.saturating_add(spent.fuel.0));
        self.execute(
            "INSERT OR REPLACE INTO minute VALUES (?1, ?2, ?3)",
            (self.tenant(), minute_of(self.now).cast_signed(), fuel.min(Account::MOST).cast_signed()),
        )?;
        Ok(())
    }

    /// Returns what the tenant's runs have spent in the current minute and on the current day.
    pub(super) fn fuel_spent(&self) -> Result<FuelSpent> {
        let of_plugins: Vec<i64> = self.all(
            "SELECT fuel FROM usage WHERE tenant = ?1 AND day = ?2",
            (self.tenant(), Day::of(self.now).0),
            |row| row.get(0),
        )?;
        let day = of_plugins.into_iter().fold(0, |sum: u64, fuel| sum.saturating_add(fuel.cast_unsigned()));
        Ok(FuelSpent::at(self.now, Fuel(self.minute_fuel()?), Fuel(day.min(Account::MOST))))
    }

    fn minute_fuel(&self) -> Result<u64> {
        let fuel: Option<i64> = self.find(
            "SELECT fuel FROM minute WHERE tenant = ?1 AND minute = ?2",
            (self.tenant(), minute_of(self.now).cast_signed()),
            |row| row.get(0),
        )?;
        Ok(fuel.map_or(0, i64::cast_unsigned))
    }
}

/// Reads an account from the columns that start at `first`.
fn account(row: &Row<'_>, first: usize) -> rusqlite::Result<Account> {
    let mut parts = [0; PARTS];
    for (nth, part) in parts.iter_mut().enumerate() {
        *part = row.get::<_, i64>(first + nth)?.cast_unsigned();
    }
    Ok(Account::from_parts(parts))
}

pub(super) fn usage(
    connection: &Connection,
    tenant: &TenantId,
    days: &RangeInclusive<Day>,
) -> Result<Vec<DayUsage>> {
    let mut statement = connection.prepare_cached(
        "SELECT day, plugin, succeeded, retried, dead, cancelled, released, fuel, cpu_us, wall_us, memory_high,
             memory_low, bytes_in, bytes_out, host_calls
         FROM usage WHERE tenant = ?1 AND day BETWEEN ?2 AND ?3 ORDER BY day, plugin",
    )?;
    let rows = statement.query_and_then((tenant.as_str(), days.start().0, days.end().0), |row| {
        let plugin: PluginName = parse("usage.plugin", row.get_ref(1)?.as_str().unwrap_or_default())?;
        Ok(DayUsage { day: Day(row.get(0)?), plugin, account: account(row, 2)? })
    })?;
    rows.collect()
}
