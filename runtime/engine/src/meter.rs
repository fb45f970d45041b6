//! Meter of what a run has used of its budget, and which limit it hit.
//!
//! Wasmtime takes the fuel of instructions itself. Host calls cost fuel too, so that calling the host in a loop is
//! neither free nor endless; that part is owed here and added up at the end. It can't be taken from the store as it
//! comes up: compiled code keeps the fuel of the function that runs in a register, and wouldn't see it.

use std::time::{Duration, Instant};

use sandhog_core::budget::{Budget, Bytes, Fuel};
use sandhog_core::outcome::Limit;
use wasmtime::ResourceLimiter;

use crate::account::Drawn;

/// Fuel that each host call costs, whatever it does.
pub(crate) const CALL_FUEL: u64 = 500;

/// Fuel that each byte costs which a call of our own interfaces hands over, in either direction.
pub(crate) const BYTE_FUEL: u64 = 1;

/// Error that ends a run that hit a limit; which one is on record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("over a limit")]
pub(crate) struct Over;

/// Meter of one run.
#[derive(Debug)]
pub(crate) struct Meter {
    fuel: u64,
    /// Fuel that host calls cost so far.
    owed: u64,
    calls: u64,
    rate: Rate,
    memory: Quota,
    /// Memory of the run as drawn from the account of all runs of the tenant.
    drawn: Drawn,
    instances: usize,
    table: Quota,
    /// Limit for which the run was made to end.
    ended: Option<Limit>,
    /// Limit for which something was refused. The run may have gone on; if it traps, this is why.
    refused: Option<Limit>,
    /// Whether the growth that is about to fail does so by the module's own declaration.
    past_own_maximum: bool,
}

/// Rate limit of calls in a second. The clock is read only once the calls of a second are used up.
#[derive(Debug)]
struct Rate {
    max: u64,
    began: Instant,
    calls: u64,
}

impl Rate {
    const WINDOW: Duration = Duration::from_secs(1);

    /// Counts a call. Returns whether it is within the limit.
    fn call(&mut self, now: impl FnOnce() -> Instant) -> bool {
        self.calls += 1;
        if self.calls <= self.max {
            return true;
        }
        let now = now();
        if now.saturating_duration_since(self.began) < Self::WINDOW {
            return false;
        }
        (self.began, self.calls) = (now, 1);
        true
    }
}

/// Sum over all memories, or all tables, of a run, and its limit.
#[derive(Debug)]
struct Quota {
    max: u64,
    now: u64,
}

/// Decision on a growth.
enum Growth {
    Counted,
    /// The growth is past the maximum that the module has declared itself: it fails by itself, and is no matter of the budget.
    PastOwnMaximum,
    Refused,
}

impl Quota {
    /// Counts a growth if it is within the limit. It stays counted, even if the machine then couldn't give it.
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
    /// Creates the meter of a run that begins `now`.
    pub(crate) fn new(budget: &Budget, drawn: Drawn, now: Instant) -> Self {
        Self {
            fuel: budget.fuel.0,
            owed: 0,
            calls: 0,
            rate: Rate { max: budget.host_calls, began: now, calls: 0 },
            memory: Quota { max: budget.memory.0, now: 0 },
            drawn,
            instances: budget.instances as usize,
            table: Quota { max: budget.table_elements, now: 0 },
            ended: None,
            refused: None,
            past_own_maximum: false,
        }
    }

    /// Counts a host call. If there are too many, the run ends at the next check: the call itself can't fail.
    pub(crate) fn call(&mut self) {
        self.calls += 1;
        self.owed = self.owed.saturating_add(CALL_FUEL);
        if !self.rate.call(Instant::now) {
            self.end(Limit::HostCalls);
        }
    }

    /// Takes fuel for bytes that a host call hands over.
    ///
    /// # Errors
    /// The run is over, or host calls alone have cost more fuel than there was.
    pub(crate) fn bytes(&mut self, len: usize) -> Result<(), Over> {
        self.take((len as u64).saturating_mul(BYTE_FUEL))
    }

    /// Takes fuel for work of the host.
    ///
    /// # Errors
    /// The run is over, or host calls alone have cost more fuel than there was.
    pub(crate) fn take(&mut self, fuel: u64) -> Result<(), Over> {
        self.owed = self.owed.saturating_add(fuel);
        self.check(self.fuel)
    }

    /// Compares the fuel owed for host calls with the fuel that instructions have left.
    ///
    /// # Errors
    /// More is owed than left, or the run is over for another limit.
    pub(crate) fn check(&mut self, left: u64) -> Result<(), Over> {
        if self.owed > left {
            self.end(Limit::Fuel);
        }
        if self.ended.is_some() { Err(Over) } else { Ok(()) }
    }

    /// Records the limit for which the run is made to end; the first one counts.
    pub(crate) fn end(&mut self, limit: Limit) {
        self.ended.get_or_insert(limit);
    }

    /// Limit for which the run was made to end. `None` if it wasn't.
    pub(crate) fn ended(&self) -> Option<Limit> {
        self.ended
    }

    /// Records that something was refused for a limit.
    pub(crate) fn refuse(&mut self, limit: Limit) {
        self.refused = Some(limit);
    }

    /// Limit for which a growth, or another entry, was refused. `None` if nothing was.
    pub(crate) fn refused(&self) -> Option<Limit> {
        self.refused
    }

    /// All fuel that was used, if instructions have left `left`.
    pub(crate) fn fuel_used(&self, left: u64) -> Fuel {
        Fuel(self.fuel.saturating_sub(left).saturating_add(self.owed).min(self.fuel))
    }

    /// Largest sum of memories. They only ever grow.
    pub(crate) fn memory_peak(&self) -> Bytes {
        Bytes(self.memory.now)
    }

    /// Number of host calls.
    pub(crate) fn calls(&self) -> u64 {
        self.calls
    }

    fn note(&mut self, growth: Growth, limit: Limit) -> bool {
        match growth {
            Growth::Counted => {}
            Growth::PastOwnMaximum => self.past_own_maximum = true,
            Growth::Refused => self.refuse(limit),
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
        let before = self.memory.now;
        let growth = self.memory.grow(current, desired, maximum);
        if matches!(growth, Growth::Counted) && !self.drawn.draw(self.memory.now - before) {
            self.memory.now = before;
            self.refuse(Limit::TenantMemory);
            return Ok(false);
        }
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

    /// Records that a growth failed. Also called, with no call of `memory_growing` before it, for a growth past what a memory
    /// of its kind can ever have.
    fn memory_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        if !std::mem::take(&mut self.past_own_maximum) {
            self.refuse(Limit::Memory);
        }
        Ok(())
    }

    fn table_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        if !std::mem::take(&mut self.past_own_maximum) {
            self.refuse(Limit::Table);
        }
        Ok(())
    }

    fn instances(&self) -> usize {
        self.instances
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::MemoryAccount;

    fn meter(fuel: u64, memory: u64) -> Meter {
        of(&Budget { fuel: Fuel(fuel), memory: Bytes(memory), ..Budget::DEFAULT })
    }

    fn of(budget: &Budget) -> Meter {
        Meter::new(budget, Drawn::new(MemoryAccount::default(), Bytes::mib(1)), Instant::now())
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
        assert_eq!(meter.bytes(1), Err(Over));
        assert_eq!(meter.ended(), Some(Limit::Fuel));
    }

    #[test]
    fn fuel_of_instructions_and_of_calls_counts_together() {
        let mut meter = meter(1000, 0);
        meter.call();
        assert!(meter.check(500).is_ok());
        assert_eq!(meter.fuel_used(600), Fuel(900));
        assert_eq!(meter.check(499), Err(Over));
        assert_eq!(meter.fuel_used(499), Fuel(1000), "no more than there was");
    }

    #[test]
    fn a_growth_that_the_tenant_has_no_memory_for_is_not_counted() {
        let account = MemoryAccount::default();
        let drawn = || Drawn::new(account.clone(), Bytes(100));
        let mut others = drawn();
        assert!(others.draw(70));
        let mut meter = Meter::new(&Budget::DEFAULT, drawn(), Instant::now());
        assert!(grow(&mut meter, 0, 20, None));
        assert!(!grow(&mut meter, 20, 60, None));
        assert_eq!((meter.memory_peak(), meter.refused()), (Bytes(20), Some(Limit::TenantMemory)));
        drop(others);
        assert!(grow(&mut meter, 20, 60, None));
        assert_eq!(account.in_use(), Bytes(60));
        drop(meter);
        assert_eq!(account.in_use(), Bytes(0));
    }

    #[test]
    fn so_many_calls_are_allowed_in_a_second_and_the_next_second_as_many() {
        let start = Instant::now();
        let after = |ms| move || start + Duration::from_millis(ms);
        let mut rate = Rate { max: 3, began: start, calls: 0 };
        for ms in [0, 300, 999] {
            assert!(rate.call(after(ms)), "{ms}");
        }
        assert!(!rate.call(after(999)), "the fourth within a second");
        for ms in [1000, 1001, 1002] {
            assert!(rate.call(after(ms)), "{ms}");
        }
        assert!(!rate.call(after(1999)));
        assert!(rate.call(after(2000)));
    }

    #[test]
    fn too_many_calls_end_the_run_at_the_next_check() {
        let mut meter = of(&Budget { host_calls: 2, ..Budget::DEFAULT });
        meter.call();
        meter.call();
        assert_eq!(meter.bytes(1), Ok(()));
        meter.call();
        assert_eq!((meter.bytes(1), meter.check(u64::MAX)), (Err(Over), Err(Over)));
        assert_eq!(meter.ended(), Some(Limit::HostCalls));
    }
}
