//! Clock of a fake host, which stands still until it is moved.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

/// Time of a new host's clock: a day in 2025, since 1970-01-01T00:00:00Z.
const START: Duration = Duration::from_secs(1_750_000_000);

/// Clock of a [`FakeHost`](crate::FakeHost), shared with it, so that whatever a handler under test waits for can move it.
///
/// ```
/// # use sandhog_sdk::FakeHost;
/// # use std::time::Duration;
/// let mut host = FakeHost::new().remaining(Duration::from_secs(30));
/// let clock = host.clock();
/// let run = host.run(|ctx| {
///     clock.advance(Duration::from_secs(20));
///     Ok(ctx.remaining())
/// });
/// assert_eq!(run.result, Ok(Duration::from_secs(10)));
/// ```
#[derive(Debug, Clone)]
pub struct FakeClock(Rc<Cell<Duration>>);

impl Default for FakeClock {
    fn default() -> Self {
        Self(Rc::new(Cell::new(START)))
    }
}

impl FakeClock {
    /// Moves the clock forward.
    pub fn advance(&self, time: Duration) {
        self.0.set(self.0.get().saturating_add(time));
    }

    /// Returns the time of the clock.
    #[must_use]
    pub fn now(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + self.0.get()
    }

    /// Returns the time since 1970-01-01T00:00:00Z.
    pub(super) fn since_epoch(&self) -> Duration {
        self.0.get()
    }

    /// Moves the clock to a time, unless that has passed already.
    pub(super) fn advance_to(&self, time: Duration) {
        self.0.set(self.0.get().max(time));
    }
}
