//! Budgets of runs: the narrowest of what the daemon, tenant, plugin and job allow.

use std::cmp::Ordering;
use std::fmt;
use std::time::Duration;

/// Wasmtime's deterministic count of executed instructions, roughly one unit each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Fuel(pub u64);

impl fmt::Display for Fuel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// A size in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Bytes(pub u64);

impl Bytes {
    /// Creates a size of `n` times 1,024 bytes.
    #[must_use]
    pub const fn kib(n: u64) -> Self {
        Self(n * 1024)
    }

    /// Creates a size of `n` times 1,048,576 bytes.
    #[must_use]
    pub const fn mib(n: u64) -> Self {
        Self(n * 1024 * 1024)
    }

    /// Creates the size of something in memory from its length in bytes.
    #[must_use]
    pub const fn of(len: usize) -> Self {
        Self(len as u64)
    }
}

/// Formats the size in the largest binary unit that divides it, as it is written in TOML.
impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(u64, &str); 4] =
            [(1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
        match UNITS.iter().find(|(size, _)| self.0 >= *size && self.0.is_multiple_of(*size)) {
            Some((size, unit)) => write!(f, "{}{unit}", self.0 / size),
            None => write!(f, "{}B", self.0),
        }
    }
}

/// Resolution to which a guest's clocks are coarsened; zero leaves them as fine as the machine's. Of two, the coarser
/// compares as the lesser, since it tells less.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ClockResolution(pub Duration);

impl Ord for ClockResolution {
    fn cmp(&self, other: &Self) -> Ordering {
        other.0.cmp(&self.0)
    }
}

impl PartialOrd for ClockResolution {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Key of a limit: what the operator sets it by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitKey {
    /// Its name, as it stands in `limits`.
    pub name: &'static str,
    /// Its unit.
    pub unit: LimitUnit,
    /// Whether it can't be zero.
    pub is_positive: bool,
    /// Maximum that can be set. `None` if any value can.
    pub max: Option<LimitValue>,
}

/// Unit of a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitUnit {
    /// A number of things, up to [`u64::MAX`].
    Count,
    /// A number of things, up to [`u32::MAX`].
    SmallCount,
    /// A size in bytes.
    Size,
    /// A time.
    Time,
    /// A resolution of clocks, of which the coarser is the narrower.
    Resolution,
}

/// Value of a limit, by its unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd)]
pub enum LimitValue {
    /// See [`LimitUnit::Count`].
    Count(u64),
    /// See [`LimitUnit::SmallCount`].
    SmallCount(u32),
    /// See [`LimitUnit::Size`].
    Size(Bytes),
    /// See [`LimitUnit::Time`].
    Time(Duration),
    /// See [`LimitUnit::Resolution`].
    Resolution(ClockResolution),
}

/// Type of a limit.
trait Limit: Sized {
    const UNIT: LimitUnit;

    fn value(self) -> LimitValue;

    /// Returns the limit. `None` if the value is of another unit.
    fn of(value: LimitValue) -> Option<Self>;
}

macro_rules! units {
    ($($type:ty: $unit:ident($number:pat => $limit:expr, $of:expr);)*) => {$(
        impl Limit for $type {
            const UNIT: LimitUnit = LimitUnit::$unit;

            fn value(self) -> LimitValue {
                LimitValue::$unit($of(self))
            }

            fn of(value: LimitValue) -> Option<Self> {
                match value {
                    LimitValue::$unit($number) => Some($limit),
                    _ => None,
                }
            }
        }
    )*};
}

units! {
    Fuel: Count(number => Fuel(number), |Fuel(number)| number);
    u64: Count(number => number, |number| number);
    u32: SmallCount(number => number, |number| number);
    Bytes: Size(size => size, |size| size);
    Duration: Time(time => time, |time| time);
    ClockResolution: Resolution(resolution => resolution, |resolution| resolution);
}

/// Makes all that there is of each limit: its part of a budget, its cap, its key. Each is a number that is `positive` or may
/// be zero (`any`), `at_most` so much.
macro_rules! limits {
    (
        $($(#[$doc:meta])* $name:ident: $type:ty = $default:expr, $least:ident $(, at_most $max:expr)?;)*
    ) => {
        /// Limits on what one run may spend.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub struct Budget { $($(#[$doc])* pub $name: $type,)* }

        impl Budget {
            /// Budget in force where nothing else is configured: enough for a handler that works on a picture.
            pub const DEFAULT: Self = Self { $($name: $default,)* };

            /// Returns this budget with each limit lowered to the one in `caps`, if that is lower.
            #[must_use]
            pub fn narrow(self, caps: &Caps) -> Self {
                Self { $($name: caps.$name.map_or(self.$name, |cap| self.$name.min(cap)),)* }
            }

            /// Returns this budget with the limits that `caps` sets in the place of its own, wider or narrower.
            #[must_use]
            pub fn replace(self, caps: &Caps) -> Self {
                Self { $($name: caps.$name.unwrap_or(self.$name),)* }
            }

            /// Returns each limit by its key.
            pub fn values(self) -> impl Iterator<Item = (&'static LimitKey, LimitValue)> {
                LIMITS.iter().zip([$(self.$name.value(),)*])
            }
        }

        /// Upper bounds that one party sets on a budget; `None` leaves that limit as it is.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        pub struct Caps {
            $(
                #[doc = concat!("See [`Budget::", stringify!($name), "`].")]
                pub $name: Option<$type>,
            )*
        }

        impl Caps {
            /// Reads each bound by its key. A value of another unit than the key's counts as none.
            pub fn read(mut read: impl FnMut(&'static LimitKey) -> Option<LimitValue>) -> Self {
                let mut keys = LIMITS.iter();
                Self { $($name: keys.next().and_then(&mut read).and_then(<$type as Limit>::of),)* }
            }

            /// Returns each bound by its key.
            pub fn values(self) -> impl Iterator<Item = (&'static LimitKey, Option<LimitValue>)> {
                LIMITS.iter().zip([$(self.$name.map(Limit::value),)*])
            }
        }

        /// Keys of all limits, in the order in which they are shown.
        pub static LIMITS: &[LimitKey] = &[$(LimitKey {
            name: stringify!($name),
            unit: <$type as Limit>::UNIT,
            is_positive: limits!(@ $least),
            max: limits!(@ $($max)?),
        },)*];
    };
    (@ positive) => { true };
    (@ any) => { false };
    (@) => { None };
    (@ $max:expr) => { Some($max) };
}

/// Maximum number of entries that one settlement can carry without keeping the broker from others for long.
const ENTRIES_MAX: LimitValue = LimitValue::SmallCount(10_000);

/// Maximum size of what goes to the broker in one piece.
const PIECE_MAX: LimitValue = LimitValue::Size(Bytes::mib(64));

limits! {
    /// Maximum fuel, in instructions, including those charged for host calls.
    fuel: Fuel = Fuel(10_000_000_000), positive;
    /// Maximum linear memory, summed over all memories of the instance. A guest's memory is addressed with 32 bits.
    memory: Bytes = Bytes::mib(128), positive, at_most LimitValue::Size(Bytes::mib(4096));
    /// Maximum number of table elements, summed over all tables of the instance.
    table_elements: u64 = 100_000, positive, at_most LimitValue::Count(10_000_000);
    /// Maximum number of core instances that the component is made of: one built by cargo has a handful, one of Python some
    /// dozens.
    instances: u32 = 128, positive, at_most LimitValue::SmallCount(1000);
    /// Maximum time from start to end, on the wall clock.
    timeout: Duration = Duration::from_secs(300), positive;
    /// Maximum number of host calls within a second.
    host_calls: u64 = 1_000_000, positive;
    /// Maximum size of the output.
    output: Bytes = Bytes::mib(1), any, at_most PIECE_MAX;
    /// Maximum size of the log lines that are kept with the job.
    log: Bytes = Bytes::kib(64), any, at_most PIECE_MAX;
    /// Maximum size of the effects held back until the job succeeds: state writes and enqueued jobs, keys and values
    /// together.
    effects: Bytes = Bytes::mib(1), any, at_most PIECE_MAX;
    /// Maximum number of jobs enqueued.
    enqueues: u32 = 5_000, any, at_most ENTRIES_MAX;
    /// Maximum number of state keys written.
    state_writes: u32 = 5_000, any, at_most ENTRIES_MAX;
    /// Maximum number of files and directories open at once.
    open_files: u64 = 64, any;
    /// Maximum number of HTTP requests under way at once.
    http_connections: u64 = 8, any;
    /// Maximum number of bytes that all HTTP requests together send and receive.
    http_bytes: Bytes = Bytes::mib(32), any;
    /// Maximum time from the start of one HTTP request to the end of its response.
    http_timeout: Duration = Duration::from_secs(30), positive;
    /// Resolution to which the guest's clocks are coarsened.
    clock_resolution: ClockResolution = ClockResolution(Duration::ZERO), any;
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all() -> impl Strategy<Value = Caps> {
        proptest::collection::vec(any::<u32>(), LIMITS.len()).prop_map(|numbers| {
            let mut numbers = numbers.into_iter();
            Caps::read(|key| {
                let number = numbers.next()?;
                let (count, time) = (u64::from(number), Duration::from_secs(number.into()));
                Some(match key.unit {
                    LimitUnit::Count => LimitValue::Count(count),
                    LimitUnit::SmallCount => LimitValue::SmallCount(number),
                    LimitUnit::Size => LimitValue::Size(Bytes(count)),
                    LimitUnit::Time => LimitValue::Time(time),
                    LimitUnit::Resolution => LimitValue::Resolution(ClockResolution(time)),
                })
            })
        })
    }

    proptest! {
        #[test]
        fn narrowing_never_widens_and_order_does_not_matter(budget in all(), a in all(), b in all()) {
            let budget = Budget::DEFAULT.replace(&budget);
            let both = budget.narrow(&a).narrow(&b);
            prop_assert_eq!(both, budget.narrow(&b).narrow(&a));
            prop_assert_eq!(both.narrow(&a), both);
            for ((key, narrow), (_, wide)) in both.values().zip(budget.values()) {
                prop_assert!(narrow <= wide, "{}", key.name);
            }
            prop_assert!(both.clock_resolution.0 >= budget.clock_resolution.0, "a clock only gets coarser");
        }

        #[test]
        fn no_cap_leaves_the_budget_alone(budget in all()) {
            let budget = Budget::DEFAULT.replace(&budget);
            prop_assert_eq!(budget.narrow(&Caps::default()), budget);
            prop_assert_eq!(budget.replace(&Caps::default()), budget);
        }
    }

    #[test]
    fn each_default_is_within_what_can_be_set_and_of_its_unit() {
        for (key, default) in Budget::DEFAULT.values() {
            assert!(key.max.is_none_or(|max| default <= max), "{}", key.name);
        }
        let caps =
            Caps::read(|key| Budget::DEFAULT.values().find(|(of, _)| *of == key).map(|(_, value)| value));
        assert!(caps.values().all(|(_, cap)| cap.is_some()));
        assert_eq!(Budget::DEFAULT.narrow(&caps), Budget::DEFAULT);
    }

    #[test]
    fn sizes_are_shown_as_they_are_written_in_toml() {
        assert_eq!(Bytes::mib(128).to_string(), "128MiB");
        assert_eq!(Bytes(1536).to_string(), "1536B");
        assert_eq!(Bytes(0).to_string(), "0B");
    }
}
