//! What a run has used of its budget, and which limit it hit.
//!
//! Wasmtime takes the fuel of instructions itself. Host calls cost fuel too, so that calling the host in a loop is
//! neither free nor endless; that part is owed here and added up at the end. It can't be taken from the store as it
//! comes up: compiled code keeps the fuel of the function that runs in a register, and wouldn't see it.

use sandhog_core::budget::{Budget, Bytes, Fuel};
use sandhog_core::outcome::Limit;
use wasmtime::{ResourceLimiter, Trap};

/// Fuel that each call of the host costs, whatever it does.
pub(crate) const CALL_FUEL: u64 = 500;

/// Fuel that each byte costs which a call of our own interfaces hands over, in either direction.
pub(crate) const BYTE_FUEL: u64 = 1;

/// The accounts of one run.
#[derive(Debug)]
pub(crate) struct Meter {
    fuel: u64,
    /// Fuel of host calls.
    owed: u64,
    calls: u64,
    memory: Quota,
    table: Quota,
    /// The limit for which the run was made to end.
    ended: Option<Limit>,
    /// The limit for which a growth was refused. The run may have gone on; if it traps, this is why.
    refused: Option<Limit>,
    /// The growth that is about to fail does so by the module's own declaration.
    past_own_maximum: bool,
}

/// A sum over all memories, or all tables, of a run.
#[derive(Debug)]
struct Quota {
    max: u64,
    now: u64,
}

/// What becomes of a growth.
enum Growth {
    Counted,
    /// Past the maximum that the module has declared itself: it fails by itself, and is no matter of the budget.
    PastOwnMaximum,
    Refused,
}

impl Quota {
    /// What has grown stays counted, even if the machine then couldn't give it.
    fn grow(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> Growth {
        let more = desired.saturating_sub(current) as u64;
        match self.now.checked_add(more) {
            Some(sum) if sum <= self.max && maximum.is_some_and(|maximum| desired > maximum) => {
                Growth::PastOwnMaximum
            }
            Some(sum) if sum <= self.max => {
                self.now = sum;
                Growth::Counted
            }
            _ => Growth::Refused,
        }
    }
}

impl Meter {
    pub(crate) fn new(budget: &Budget) -> Self {
        Self {
            fuel: budget.fuel.0,
            owed: 0,
            calls: 0,
            memory: Quota { max: budget.memory.0, now: 0 },
            table: Quota { max: budget.table_elements, now: 0 },
            ended: None,
            refused: None,
            past_own_maximum: false,
        }
    }

    /// Counts a call of the host.
    pub(crate) fn call(&mut self) {
        self.calls += 1;
        self.owed = self.owed.saturating_add(CALL_FUEL);
    }

    /// Takes fuel for bytes that a host call hands over.
    ///
    /// # Errors
    /// If host calls alone have cost more than there was.
    pub(crate) fn bytes(&mut self, len: usize) -> Result<(), Trap> {
        self.take((len as u64).saturating_mul(BYTE_FUEL))
    }

    /// Takes fuel for work of the host.
    ///
    /// # Errors
    /// If host calls alone have cost more than there was.
    pub(crate) fn take(&mut self, fuel: u64) -> Result<(), Trap> {
        self.owed = self.owed.saturating_add(fuel);
        self.check(self.fuel)
    }

    /// Compares what is owed with the fuel that instructions have left.
    ///
    /// # Errors
    /// If it is more.
    pub(crate) fn check(&mut self, left: u64) -> Result<(), Trap> {
        if self.owed > left {
            self.end(Limit::Fuel);
            return Err(Trap::OutOfFuel);
        }
        Ok(())
    }

    /// Notes the limit for which the run is made to end; the first one counts.
    pub(crate) fn end(&mut self, limit: Limit) {
        self.ended.get_or_insert(limit);
    }

    /// The limit for which the run was made to end.
    pub(crate) fn ended(&self) -> Option<Limit> {
        self.ended
    }

    /// The limit for which a growth was refused.
    pub(crate) fn refused(&self) -> Option<Limit> {
        self.refused
    }

    /// All fuel that was used, if instructions have left this much.
    pub(crate) fn fuel_used(&self, left: u64) -> Fuel {
        Fuel(self.fuel.saturating_sub(left).saturating_add(self.owed).min(self.fuel))
    }

    /// The largest sum of memories. They only ever grow.
    pub(crate) fn memory_peak(&self) -> Bytes {
        Bytes(self.memory.now)
    }

    /// Calls of the host.
    pub(crate) fn calls(&self) -> u64 {
        self.calls
    }

    fn note(&mut self, growth: Growth, limit: Limit) -> bool {
        match growth {
            Growth::Counted => {}
            Growth::PastOwnMaximum => self.past_own_maximum = true,
            Growth::Refused => self.refused = Some(limit),
        }
        !matches!(growth, Growth::Refused)
    }
}

impl ResourceLimiter for Meter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let growth = self.memory.grow(current, desired, maximum);
        Ok(self.note(growth, Limit::Memory))
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let growth = self.table.grow(current, desired, maximum);
        Ok(self.note(growth, Limit::Table))
    }

    /// Also called, without a word before, for a growth past what a memory of its kind can ever have.
    fn memory_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        if !std::mem::take(&mut self.past_own_maximum) {
            self.refused = Some(Limit::Memory);
        }
        Ok(())
    }

    fn table_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        if !std::mem::take(&mut self.past_own_maximum) {
            self.refused = Some(Limit::Table);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn meter(fuel: u64, memory: u64) -> Meter {
        let budget = Budget {
            fuel: Fuel(fuel),
            memory: Bytes(memory),
            table_elements: 10,
            timeout: Duration::from_secs(1),
            output: Bytes(0),
            log: Bytes(0),
            effects: Bytes(0),
        };
        Meter::new(&budget)
    }

    fn grow(meter: &mut Meter, current: usize, desired: usize, maximum: Option<usize>) -> bool {
        meter.memory_growing(current, desired, maximum).expect("the meter never traps on growth")
    }

    #[test]
    fn memories_count_together() {
        let mut meter = meter(0, 100);
        assert!(grow(&mut meter, 0, 60, None));
        assert!(!grow(&mut meter, 0, 60, None));
        assert!(grow(&mut meter, 0, 40, None));
        assert_eq!((meter.memory_peak(), meter.refused()), (Bytes(100), Some(Limit::Memory)));
    }

    #[test]
    fn a_growth_past_its_own_maximum_neither_counts_nor_is_a_refusal() {
        let mut meter = meter(0, 100);
        assert!(grow(&mut meter, 0, 10, Some(10)));
        assert!(grow(&mut meter, 10, 60, Some(10)));
        meter.memory_grow_failed(wasmtime::format_err!("past its maximum")).expect("no trap");
        assert_eq!((meter.memory_peak(), meter.refused()), (Bytes(10), None));
    }

    #[test]
    fn a_growth_that_fails_unasked_gives_nothing_back() {
        let mut meter = meter(0, 100);
        assert!(grow(&mut meter, 0, 100, None));
        meter.memory_grow_failed(wasmtime::format_err!("past 4 GiB")).expect("no trap");
        assert!(!grow(&mut meter, 100, 101, None), "what was given stays counted");
    }

    #[test]
    fn calls_of_the_host_use_fuel_up() {
        let mut meter = meter(2 * CALL_FUEL + 10, 0);
        meter.call();
        assert!(meter.bytes(10).is_ok());
        meter.call();
        assert!(meter.bytes(0).is_ok());
        assert_eq!(meter.fuel_used(2 * CALL_FUEL + 10), Fuel(2 * CALL_FUEL + 10));
        assert_eq!(meter.ended(), None);
        assert_eq!(meter.bytes(1), Err(Trap::OutOfFuel));
        assert_eq!(meter.ended(), Some(Limit::Fuel));
    }

    #[test]
    fn fuel_of_instructions_and_of_calls_counts_together() {
        let mut meter = meter(1000, 0);
        meter.call();
        assert!(meter.check(500).is_ok());
        assert_eq!(meter.fuel_used(600), Fuel(900));
        assert_eq!(meter.check(499), Err(Trap::OutOfFuel));
        assert_eq!(meter.fuel_used(499), Fuel(1000), "no more than there was");
    }
}
