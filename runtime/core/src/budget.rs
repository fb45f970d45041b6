//! What a run may spend: the narrowest of what the daemon, tenant, plugin and job allow.

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
    /// This many times 1,024 bytes.
    #[must_use]
    pub const fn kib(n: u64) -> Self {
        Self(n * 1024)
    }

    /// This many times 1,048,576 bytes.
    #[must_use]
    pub const fn mib(n: u64) -> Self {
        Self(n * 1024 * 1024)
    }

    /// The size of something that is in memory.
    #[must_use]
    pub const fn of(len: usize) -> Self {
        Self(len as u64)
    }
}

/// In the largest binary unit that divides it, as it is written in TOML.
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

/// What one run may spend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Instructions.
    pub fuel: Fuel,
    /// Linear memory, summed over all memories of the instance.
    pub memory: Bytes,
    /// Table elements, summed over all tables of the instance.
    pub table_elements: u64,
    /// From start to end on the wall clock.
    pub timeout: Duration,
    /// The size of the output.
    pub output: Bytes,
    /// The log lines that are kept with the job.
    pub log: Bytes,
    /// What is held back until the job succeeds: state writes and enqueued jobs, keys and values together.
    pub effects: Bytes,
}

impl Budget {
    /// What is left of this budget under further caps.
    #[must_use]
    pub fn narrow(self, caps: &Caps) -> Self {
        fn least<T: Ord>(have: T, cap: Option<T>) -> T {
            match cap {
                Some(cap) => have.min(cap),
                None => have,
            }
        }
        Self {
            fuel: least(self.fuel, caps.fuel),
            memory: least(self.memory, caps.memory),
            table_elements: least(self.table_elements, caps.table_elements),
            timeout: least(self.timeout, caps.timeout),
            output: least(self.output, caps.output),
            log: least(self.log, caps.log),
            effects: least(self.effects, caps.effects),
        }
    }
}

/// What one party allows at most; where it says nothing, it leaves the budget as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Caps {
    /// See [`Budget::fuel`].
    pub fuel: Option<Fuel>,
    /// See [`Budget::memory`].
    pub memory: Option<Bytes>,
    /// See [`Budget::table_elements`].
    pub table_elements: Option<u64>,
    /// See [`Budget::timeout`].
    pub timeout: Option<Duration>,
    /// See [`Budget::output`].
    pub output: Option<Bytes>,
    /// See [`Budget::log`].
    pub log: Option<Bytes>,
    /// See [`Budget::effects`].
    pub effects: Option<Bytes>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn budgets() -> impl Strategy<Value = Budget> {
        (any::<u64>(), any::<u64>(), any::<u64>(), any::<u32>(), any::<u64>(), any::<u64>(), any::<u64>())
            .prop_map(|(fuel, memory, table_elements, secs, output, log, effects)| Budget {
                fuel: Fuel(fuel),
                memory: Bytes(memory),
                table_elements,
                timeout: Duration::from_secs(secs.into()),
                output: Bytes(output),
                log: Bytes(log),
                effects: Bytes(effects),
            })
    }

    fn all_of(budget: Budget) -> Caps {
        Caps {
            fuel: Some(budget.fuel),
            memory: Some(budget.memory),
            table_elements: Some(budget.table_elements),
            timeout: Some(budget.timeout),
            output: Some(budget.output),
            log: Some(budget.log),
            effects: Some(budget.effects),
        }
    }

    proptest! {
        #[test]
        fn narrowing_never_widens_and_order_does_not_matter(budget in budgets(), a in budgets(), b in budgets()) {
            let (a, b) = (all_of(a), all_of(b));
            let both = budget.narrow(&a).narrow(&b);
            prop_assert_eq!(both, budget.narrow(&b).narrow(&a));
            prop_assert_eq!(both.narrow(&a), both);
            prop_assert!(both.fuel <= budget.fuel && both.memory <= budget.memory && both.timeout <= budget.timeout);
        }
    }

    #[test]
    fn no_cap_leaves_the_budget_alone() {
        proptest!(|(budget in budgets())| prop_assert_eq!(budget.narrow(&Caps::default()), budget));
    }

    #[test]
    fn sizes_are_shown_as_they_are_written_in_toml() {
        assert_eq!(Bytes::mib(128).to_string(), "128MiB");
        assert_eq!(Bytes(1536).to_string(), "1536B");
        assert_eq!(Bytes(0).to_string(), "0B");
    }
}
