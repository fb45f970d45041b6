//! Usage accounting: what a tenant's runs spend, day by day.
//!
//! Every number only grows, and stays at [`Account::MOST`] rather than leave the range that all brokers can count in, so
//! sums don't depend on the order or grouping of their parts.

use std::fmt;
use std::time::Duration;

use crate::budget::{Bytes, Fuel};
use crate::id::PluginName;
use crate::outcome::Usage;
use crate::settle::Settlement;
use crate::time::Timestamp;

/// A calendar day in UTC, as the number of days since 1970-01-01.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day(pub u32);

impl Day {
    /// Number of milliseconds in a day; computer calendars have no leap seconds.
    pub const MILLIS: u64 = 24 * 60 * 60 * 1000;

    /// Returns the day on which a point in time falls.
    #[must_use]
    pub fn of(at: Timestamp) -> Self {
        Self(u32::try_from(at.as_millis() / Self::MILLIS).unwrap_or(u32::MAX))
    }

    /// Returns the day `days` earlier, but none before 1970-01-01.
    #[must_use]
    pub fn before(self, days: u32) -> Self {
        Self(self.0.saturating_sub(days))
    }
}

/// End of a run, by how it was settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RunEnd {
    /// The job succeeded.
    Succeeded,
    /// The run failed, and its job is tried again.
    Retried,
    /// The job was given up.
    Dead,
    /// The job was cancelled.
    Cancelled,
    /// The job was released: it went back unharmed, and no attempt was counted.
    Released,
}

impl RunEnd {
    /// Every end, in the order of an account's counts.
    pub const ALL: [Self; 5] = [Self::Succeeded, Self::Retried, Self::Dead, Self::Cancelled, Self::Released];

    /// The name in the API and docs.
    #[must_use]
    pub fn slug(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Retried => "retried",
            Self::Dead => "dead",
            Self::Cancelled => "cancelled",
            Self::Released => "released",
        }
    }

    /// Returns the end that a settlement means, unless the job is to be cancelled.
    #[must_use]
    pub fn of(settlement: &Settlement) -> Self {
        match settlement {
            Settlement::Succeed { .. } => Self::Succeeded,
            Settlement::Retry { .. } => Self::Retried,
            Settlement::Release { .. } => Self::Released,
            Settlement::Bury { .. } => Self::Dead,
            Settlement::Cancel => Self::Cancelled,
        }
    }

    /// Returns the end if somebody wants the job cancelled: one after which the job would go on becomes
    /// [`Self::Cancelled`].
    #[must_use]
    pub fn cancelled(self) -> Self {
        match self {
            Self::Retried | Self::Released => Self::Cancelled,
            Self::Succeeded | Self::Dead | Self::Cancelled => self,
        }
    }
}

impl fmt::Display for RunEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.slug())
    }
}

/// Bytes that runs took in and gave out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Traffic {
    /// Size of the payload.
    pub input: Bytes,
    /// Size of the output and effects that were recorded.
    pub output: Bytes,
}

/// Sum of what runs spent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Account {
    /// Number of runs by how they ended, in the order of [`RunEnd::ALL`].
    pub runs: [u64; RunEnd::ALL.len()],
    /// Fuel spent, in instructions.
    pub fuel: Fuel,
    /// CPU time, in microseconds.
    pub cpu_us: u64,
    /// Wall-clock time from start to end, in microseconds.
    pub wall_us: u64,
    /// Peak memory of each run times its wall-clock time, in byte-microseconds.
    pub memory: u128,
    /// Bytes in and out.
    pub traffic: Traffic,
    /// Number of calls from guests to the host.
    pub host_calls: u64,
}

impl Account {
    /// Maximum value of every part; none is counted any further.
    pub const MOST: u64 = i64::MAX as u64;

    /// Names of the parts by which brokers store an account: whole numbers up to [`Self::MOST`]. Memory has two parts,
    /// since one has no room for it: `memory_high` counts units of 2^24, and `memory_low` the remainder.
    pub const PARTS: [&'static str; 13] = [
        "succeeded",
        "retried",
        "dead",
        "cancelled",
        "released",
        "fuel",
        "cpu_us",
        "wall_us",
        "memory_high",
        "memory_low",
        "bytes_in",
        "bytes_out",
        "host_calls",
    ];

    /// Creates the account of one run.
    #[must_use]
    pub fn of(end: RunEnd, usage: Usage, traffic: Traffic) -> Self {
        let micros = |duration: Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let wall_us = micros(usage.wall);
        let account = Self {
            runs: RunEnd::ALL.map(|other| u64::from(other == end)),
            fuel: usage.fuel,
            cpu_us: micros(usage.cpu),
            wall_us,
            memory: u128::from(usage.memory_peak.0) * u128::from(wall_us),
            traffic,
            host_calls: usage.host_calls,
        };
        account.within_range()
    }

    /// Returns the number of runs that ended this way.
    #[must_use]
    pub fn ended(&self, end: RunEnd) -> u64 {
        self.runs[end as usize]
    }

    /// Returns the number of runs that counted as an attempt.
    #[must_use]
    pub fn attempts(&self) -> u64 {
        let counted = [RunEnd::Succeeded, RunEnd::Retried, RunEnd::Dead];
        counted.into_iter().fold(0, |sum, end| sum.saturating_add(self.ended(end)))
    }

    /// Returns the sum of two accounts.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        let add = u64::saturating_add;
        let mut runs = self.runs;
        runs.iter_mut().zip(other.runs).for_each(|(sum, more)| *sum = add(*sum, more));
        let traffic = Traffic {
            input: Bytes(add(self.traffic.input.0, other.traffic.input.0)),
            output: Bytes(add(self.traffic.output.0, other.traffic.output.0)),
        };
        let sum = Self {
            runs,
            fuel: Fuel(add(self.fuel.0, other.fuel.0)),
            cpu_us: add(self.cpu_us, other.cpu_us),
            wall_us: add(self.wall_us, other.wall_us),
            memory: self.memory.saturating_add(other.memory),
            traffic,
            host_calls: add(self.host_calls, other.host_calls),
        };
        sum.within_range()
    }

    /// Returns the numbers to store, in the order of [`Self::PARTS`].
    #[must_use]
    pub fn parts(&self) -> [u64; Self::PARTS.len()] {
        let [succeeded, retried, dead, cancelled, released] = self.runs;
        let high = u64::try_from(self.memory >> MEMORY_LOW_BITS).unwrap_or(u64::MAX);
        let low = (self.memory & ((1 << MEMORY_LOW_BITS) - 1)) as u64;
        let Traffic { input, output } = self.traffic;
        [
            succeeded,
            retried,
            dead,
            cancelled,
            released,
            self.fuel.0,
            self.cpu_us,
            self.wall_us,
            high,
            low,
            input.0,
            output.0,
            self.host_calls,
        ]
    }

    /// Creates the account from its stored parts. They may have been summed one by one, so `memory_low` may have outgrown
    /// its bits.
    #[must_use]
    pub fn from_parts(parts: [u64; Self::PARTS.len()]) -> Self {
        let [
            succeeded,
            retried,
            dead,
            cancelled,
            released,
            fuel,
            cpu_us,
            wall_us,
            high,
            low,
            input,
            output,
            calls,
        ] = parts;
        let account = Self {
            runs: [succeeded, retried, dead, cancelled, released],
            fuel: Fuel(fuel),
            cpu_us,
            wall_us,
            memory: (u128::from(high) << MEMORY_LOW_BITS) + u128::from(low),
            traffic: Traffic { input: Bytes(input), output: Bytes(output) },
            host_calls: calls,
        };
        account.within_range()
    }

    fn within_range(self) -> Self {
        let cap = |n: u64| n.min(Self::MOST);
        Self {
            runs: self.runs.map(cap),
            fuel: Fuel(cap(self.fuel.0)),
            cpu_us: cap(self.cpu_us),
            wall_us: cap(self.wall_us),
            memory: self.memory.min(u128::from(Self::MOST) << MEMORY_LOW_BITS),
            traffic: Traffic {
                input: Bytes(cap(self.traffic.input.0)),
                output: Bytes(cap(self.traffic.output.0)),
            },
            host_calls: cap(self.host_calls),
        }
    }
}

/// Number of bits in `memory_low`: few enough that 2^39 runs can be summed in one part.
const MEMORY_LOW_BITS: u32 = 24;

/// Sum of what one plugin's runs spent on one day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DayUsage {
    /// Day on which the runs were settled.
    pub day: Day,
    /// Plugin that ran.
    pub plugin: PluginName,
    /// Sum of the runs.
    pub account: Account,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn accounts() -> impl Strategy<Value = Account> {
        let n = || prop_oneof![0..1000u64, any::<u64>()];
        (n(), n(), n(), n(), n(), n(), 0..RunEnd::ALL.len()).prop_map(
            |(fuel, peak, wall, cpu, bytes, host_calls, end)| {
                let usage = Usage {
                    fuel: Fuel(fuel),
                    memory_peak: Bytes(peak),
                    wall: Duration::from_micros(wall),
                    cpu: Duration::from_micros(cpu),
                    host_calls,
                };
                let traffic = Traffic { input: Bytes(bytes), output: Bytes(bytes / 3) };
                Account::of(RunEnd::ALL[end], usage, traffic)
            },
        )
    }

    fn stored(account: &Account) -> Account {
        Account::from_parts(account.parts())
    }

    proptest! {
        #[test]
        fn a_sum_is_the_same_in_any_order_and_grouping(a in accounts(), b in accounts(), c in accounts()) {
            prop_assert_eq!(a.and(&b).and(&c), c.and(&a).and(&b));
            prop_assert_eq!(a.and(&b).and(&c), a.and(&b.and(&c)));
        }

        #[test]
        fn what_is_stored_is_read_again_though_parts_are_summed_one_by_one(a in accounts(), b in accounts()) {
            let (mut sum, other) = (a.parts(), b.parts());
            sum.iter_mut().zip(other).for_each(|(sum, part)| *sum = sum.saturating_add(part).min(Account::MOST));
            prop_assert_eq!(Account::from_parts(sum), a.and(&b));
            prop_assert_eq!(stored(&a), a);
        }
    }

    #[test]
    fn the_memory_of_many_long_runs_has_room() {
        let hour =
            Usage { memory_peak: Bytes::mib(4096), wall: Duration::from_secs(3600), ..Usage::default() };
        let run = Account::of(RunEnd::Succeeded, hour, Traffic::default());
        let many = (0..1000).fold(Account::default(), |sum, _| sum.and(&run));
        assert_eq!(many.memory, 1000 * (4u128 << 30) * 3_600_000_000);
        assert_eq!(many.ended(RunEnd::Succeeded), 1000);
    }

    #[test]
    fn a_day_begins_at_midnight_in_utc() {
        assert_eq!(Day::of(Timestamp::from_millis(Day::MILLIS - 1)), Day(0));
        assert_eq!(Day::of(Timestamp::from_millis(Day::MILLIS)), Day(1));
        assert_eq!(Day(1).before(2), Day(0));
    }
}
