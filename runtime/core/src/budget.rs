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

macro_rules! limits {
    ($($(#[$doc:meta])* $name:ident: $type:ty = $default:expr,)*) => {
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
        }

        /// Upper bounds that one party sets on a budget; `None` leaves that limit as it is.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        pub struct Caps {
            $(
                #[doc = concat!("See [`Budget::", stringify!($name), "`].")]
                pub $name: Option<$type>,
            )*
        }
    };
}

limits! {
    /// Maximum fuel, in instructions, including those charged for host calls.
    fuel: Fuel = Fuel(10_000_000_000),
    /// Maximum linear memory, summed over all memories of the instance.
    memory: Bytes = Bytes::mib(128),
    /// Maximum number of table elements, summed over all tables of the instance.
    table_elements: u64 = 100_000,
    /// Maximum number of core instances that the component is made of: one built by cargo has a handful, one of Python some
    /// dozens.
    instances: u32 = 128,
    /// Maximum time from start to end, on the wall clock.
    timeout: Duration = Duration::from_secs(300),
    /// Maximum number of host calls within a second.
    host_calls: u64 = 1_000_000,
    /// Maximum size of the output.
    output: Bytes = Bytes::mib(1),
    /// Maximum size of the log lines that are kept with the job.
    log: Bytes = Bytes::kib(64),
    /// Maximum size of the effects held back until the job succeeds: state writes and enqueued jobs, keys and values
    /// together.
    effects: Bytes = Bytes::mib(1),
    /// Maximum number of jobs enqueued.
    enqueues: u32 = 5_000,
    /// Maximum number of state keys written.
    state_writes: u32 = 5_000,
    /// Maximum number of files and directories open at once.
    open_files: u64 = 64,
    /// Maximum number of HTTP requests under way at once.
    http_connections: u64 = 8,
    /// Maximum number of bytes that all HTTP requests together send and receive.
    http_bytes: Bytes = Bytes::mib(32),
    /// Maximum time from the start of one HTTP request to the end of its response.
    http_timeout: Duration = Duration::from_secs(30),
    /// Resolution to which the guest's clocks are coarsened.
    clock_resolution: ClockResolution = ClockResolution(Duration::ZERO),
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all() -> impl Strategy<Value = Caps> {
        let sizes = (any::<u64>(), any::<u64>(), any::<u64>(), any::<u64>(), any::<u64>(), any::<u64>());
        let counts = (any::<u64>(), any::<u32>(), any::<u32>(), any::<u32>(), any::<u32>());
        let reach = (any::<u64>(), any::<u64>(), any::<u64>(), any::<u32>(), any::<u32>());
        (sizes, counts, reach).prop_map(
            |(
                (fuel, memory, table_elements, output, log, effects),
                (host_calls, secs, instances, enqueues, writes),
                (open_files, http_connections, http_bytes, http_secs, resolution),
            )| {
                Caps {
                    fuel: Some(Fuel(fuel)),
                    memory: Some(Bytes(memory)),
                    table_elements: Some(table_elements),
                    instances: Some(instances),
                    timeout: Some(Duration::from_secs(secs.into())),
                    host_calls: Some(host_calls),
                    output: Some(Bytes(output)),
                    log: Some(Bytes(log)),
                    effects: Some(Bytes(effects)),
                    enqueues: Some(enqueues),
                    state_writes: Some(writes),
                    open_files: Some(open_files),
                    http_connections: Some(http_connections),
                    http_bytes: Some(Bytes(http_bytes)),
                    http_timeout: Some(Duration::from_secs(http_secs.into())),
                    clock_resolution: Some(ClockResolution(Duration::from_secs(resolution.into()))),
                }
            },
        )
    }

    proptest! {
        #[test]
        fn narrowing_never_widens_and_order_does_not_matter(budget in all(), a in all(), b in all()) {
            let budget = Budget::DEFAULT.replace(&budget);
            let both = budget.narrow(&a).narrow(&b);
            prop_assert_eq!(both, budget.narrow(&b).narrow(&a));
            prop_assert_eq!(both.narrow(&a), both);
            prop_assert!(both.fuel <= budget.fuel && both.memory <= budget.memory && both.timeout <= budget.timeout);
            prop_assert!(both.host_calls <= budget.host_calls && both.enqueues <= budget.enqueues);
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
    fn sizes_are_shown_as_they_are_written_in_toml() {
        assert_eq!(Bytes::mib(128).to_string(), "128MiB");
        assert_eq!(Bytes(1536).to_string(), "1536B");
        assert_eq!(Bytes(0).to_string(), "0B");
    }
}
