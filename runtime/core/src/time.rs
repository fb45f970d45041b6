//! Two kinds of time, which never mix: calendar time, and monotonic time to measure how long something took.

use std::time::Duration;

/// A point of calendar time, to the millisecond. The broker's clock gives it; it may jump.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(u64);

impl Timestamp {
    /// Creates the point this many milliseconds after 1970-01-01T00:00:00Z.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Returns the milliseconds since 1970-01-01T00:00:00Z.
    #[must_use]
    pub fn as_millis(self) -> u64 {
        self.0
    }

    /// Returns the microseconds since 1970-01-01T00:00:00Z; the maximum, if that is exceeded.
    #[must_use]
    pub fn as_micros(self) -> u64 {
        self.0.saturating_mul(1000)
    }

    /// Returns this point plus a duration; the maximum, if that is exceeded.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(millis(duration)))
    }

    /// Returns the time from `earlier` to this point; zero if `earlier` isn't earlier.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// A point on the monotonic clock of this process, counted from an origin that the process chose. It never jumps, and
/// means nothing to another process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mono(Duration);

impl Mono {
    /// Creates the point this long after the origin.
    #[must_use]
    pub const fn from_origin(since_origin: Duration) -> Self {
        Self(since_origin)
    }

    /// Returns the time from the origin to this point.
    #[must_use]
    pub fn since_origin(self) -> Duration {
        self.0
    }

    /// Returns this point plus a duration.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(duration))
    }
}

/// Returns the whole milliseconds of a duration, rounded up so that nothing waits less than it was told to.
#[must_use]
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fraction_of_a_millisecond_is_waited_in_full() {
        assert_eq!(millis(Duration::ZERO), 0);
        assert_eq!(millis(Duration::from_nanos(1)), 1);
        assert_eq!(millis(Duration::from_millis(7)), 7);
        assert_eq!(millis(Duration::MAX), u64::MAX);
    }
}
