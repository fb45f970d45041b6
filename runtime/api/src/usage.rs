//! Usage, as programs read it: what tenants have spent.

use std::collections::BTreeMap;
use std::fmt;

use jiff::ToSpan;
use jiff::civil::{Date, date};
use sandhog_core::account::{Account, Day, RunEnd};
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Property by which rows of usage are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum By {
    /// The day, in UTC.
    Day,
    /// The tenant.
    Tenant,
    /// The plugin, with its tenant.
    Plugin,
}

/// A row of usage. The parts by which rows aren't told apart are `None`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The day on which the runs were settled.
    pub day: Option<String>,
    /// The tenant.
    pub tenant: Option<String>,
    /// The plugin that ran.
    pub plugin: Option<String>,
    /// The sums of the usage.
    pub account: Account,
}

/// JSON document of usage. Names and meanings stay as they are; more may come.
#[derive(Debug, Serialize, Deserialize)]
pub struct Report {
    /// The first day, included.
    pub from: String,
    /// The last day, included.
    pub to: String,
    /// The rows, in order of day, tenant and plugin.
    pub rows: Vec<Row>,
    /// The sum of all rows.
    pub total: Row,
    /// Properties by which the rows are told apart.
    #[serde(skip)]
    pub by: Vec<By>,
}

impl Report {
    /// Creates a report that sums up `rows` by the parts in `by`.
    #[must_use]
    pub fn new(from: String, to: String, mut by: Vec<By>, rows: Vec<Row>) -> Self {
        if by.contains(&By::Plugin) {
            // A plugin's name alone is ambiguous, as another tenant may have one of the same name.
            by.push(By::Tenant);
        }
        by.sort_unstable();
        by.dedup();
        let mut sums: BTreeMap<[Option<String>; 3], Account> = BTreeMap::new();
        let mut total = Account::default();
        for row in rows {
            total = total.and(&row.account);
            let key = |name: Option<String>, wanted| name.filter(|_| by.contains(&wanted));
            let key = [key(row.day, By::Day), key(row.tenant, By::Tenant), key(row.plugin, By::Plugin)];
            let sum = sums.entry(key).or_default();
            *sum = sum.and(&row.account);
        }
        let row = |([day, tenant, plugin], account): ([Option<String>; 3], Account)| Row {
            day,
            tenant,
            plugin,
            account,
        };
        let total = Row { day: None, tenant: None, plugin: None, account: total };
        Self { from, to, rows: sums.into_iter().map(row).collect(), total, by }
    }
}

impl Row {
    /// Returns the part of the row that tells it apart.
    #[must_use]
    pub fn name(&self, by: By) -> Option<&str> {
        match by {
            By::Day => self.day.as_deref(),
            By::Tenant => self.tenant.as_deref(),
            By::Plugin => self.plugin.as_deref(),
        }
    }

    /// Returns all numbers of an account, by the names that programs know.
    #[must_use]
    pub fn numbers(&self) -> Vec<(&'static str, u128)> {
        let account = &self.account;
        let mut numbers: Vec<_> = RunEnd::ALL.map(|end| (end.slug(), account.ended(end).into())).to_vec();
        numbers.extend([
            ("attempts", account.attempts().into()),
            ("fuel", account.fuel.0.into()),
            ("cpu_us", account.cpu_us.into()),
            ("wall_us", account.wall_us.into()),
            ("memory_byte_us", account.memory),
            ("bytes_in", account.traffic.input.0.into()),
            ("bytes_out", account.traffic.output.0.into()),
            ("host_calls", account.host_calls.into()),
        ]);
        numbers
    }
}

impl By {
    /// All of them, in the order of a row.
    pub const ALL: [Self; 3] = [Self::Day, Self::Tenant, Self::Plugin];

    /// Returns the one of this name. `None` if there is none.
    #[must_use]
    pub fn from_slug(slug: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|by| by.slug() == slug)
    }

    /// Returns the name.
    #[must_use]
    pub fn slug(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Tenant => "tenant",
            Self::Plugin => "plugin",
        }
    }
}

impl Serialize for Row {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for by in [By::Day, By::Tenant, By::Plugin] {
            if let Some(name) = self.name(by) {
                map.serialize_entry(by.slug(), name)?;
            }
        }
        for (name, number) in self.numbers() {
            map.serialize_entry(name, &number)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Row {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(RowVisitor)
    }
}

struct RowVisitor;

impl<'de> Visitor<'de> for RowVisitor {
    type Value = Row;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a row of usage")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Row, A::Error> {
        let mut row = Row { day: None, tenant: None, plugin: None, account: Account::default() };
        while let Some(name) = map.next_key::<String>()? {
            let account = &mut row.account;
            let end = RunEnd::ALL.iter().position(|end| end.slug() == name);
            match (name.as_str(), end) {
                (_, Some(end)) => account.runs[end] = map.next_value()?,
                ("day", _) => row.day = map.next_value()?,
                ("tenant", _) => row.tenant = map.next_value()?,
                ("plugin", _) => row.plugin = map.next_value()?,
                ("fuel", _) => account.fuel.0 = map.next_value()?,
                ("cpu_us", _) => account.cpu_us = map.next_value()?,
                ("wall_us", _) => account.wall_us = map.next_value()?,
                ("memory_byte_us", _) => account.memory = map.next_value()?,
                ("bytes_in", _) => account.traffic.input.0 = map.next_value()?,
                ("bytes_out", _) => account.traffic.output.0 = map.next_value()?,
                ("host_calls", _) => account.host_calls = map.next_value()?,
                // The number of attempts is the sum of the ends, and a later version may have more.
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(row)
    }
}

/// The day with the number zero.
const FIRST_DAY: Date = date(1970, 1, 1);

/// Parses a day in UTC.
///
/// # Errors
/// The text is no day, or one before 1970.
pub fn parse_day(text: &str) -> Result<Day, String> {
    let refuse = || "a day is written as 2026-11-24, from 1970-01-01 on".to_owned();
    let day: Date = text.parse().map_err(|_| refuse())?;
    let days = (day - FIRST_DAY).get_days();
    u32::try_from(days).map(Day).map_err(|_| refuse())
}

/// Formats a day as [`parse_day`] reads it.
#[must_use]
pub fn show_day(day: Day) -> String {
    let shown = i32::try_from(day.0).ok().and_then(|days| FIRST_DAY.checked_add(days.days()).ok());
    shown.map_or_else(|| "after the end of time".to_owned(), |day| day.to_string())
}
