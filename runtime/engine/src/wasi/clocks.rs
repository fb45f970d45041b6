//! Clocks that a guest sees, made as coarse as its budget says: a fine clock tells one tenant what another does.

use std::time::{Duration, Instant, SystemTime};

use wasmtime_wasi::{HostMonotonicClock, HostWallClock};

/// Resolution of the clocks of a run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ClockResolution(Duration);

impl ClockResolution {
    pub(crate) fn new(resolution: Duration) -> Self {
        Self(resolution)
    }

    /// Whether clocks are as fine as the machine's.
    pub(crate) fn is_finest(self) -> bool {
        self.0.is_zero()
    }

    /// Returns the last time up to this one that can be seen.
    pub(crate) fn floor(self, time: Duration) -> Duration {
        let (resolution, nanos) = (self.0.as_nanos(), time.as_nanos());
        if resolution == 0 { time } else { Duration::from_nanos_u128(nanos - nanos % resolution) }
    }

    fn resolution(self) -> Duration {
        self.0.max(Duration::from_nanos(1))
    }
}

/// Monotonic clock: time since the run began to look at clocks.
pub(crate) struct Monotonic {
    pub(crate) resolution: ClockResolution,
    pub(crate) zero: Instant,
}

impl HostMonotonicClock for Monotonic {
    fn resolution(&self) -> u64 {
        nanos(self.resolution.resolution())
    }

    fn now(&self) -> u64 {
        nanos(self.resolution.floor(self.zero.elapsed()))
    }
}

/// Wall clock: calendar time.
pub(crate) struct Wall {
    pub(crate) resolution: ClockResolution,
}

impl HostWallClock for Wall {
    fn resolution(&self) -> Duration {
        self.resolution.resolution()
    }

    fn now(&self) -> Duration {
        // A machine whose clock stands before 1970 has worse to care for.
        self.resolution.floor(SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default())
    }
}

/// Converts to nanoseconds, which last for centuries.
fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_seen_is_whole_grains_and_never_ahead(resolution in any::<u32>(), time in any::<u64>()) {
            let (resolution, time) = (Duration::from_nanos(resolution.into()), Duration::from_nanos(time));
            let seen = ClockResolution::new(resolution).floor(time);
            prop_assert!(seen <= time);
            if resolution.is_zero() {
                prop_assert_eq!(seen, time);
            } else {
                prop_assert!(time - seen < resolution && seen.as_nanos().is_multiple_of(resolution.as_nanos()));
            }
        }
    }

    #[test]
    fn coarse_clocks_say_how_coarse_they_are_and_tick_in_whole_grains() {
        let resolution = ClockResolution::new(Duration::from_millis(10));
        let monotonic = Monotonic { resolution, zero: Instant::now() };
        assert_eq!((monotonic.resolution(), monotonic.now() % 10_000_000), (10_000_000, 0));
        let wall = Wall { resolution };
        assert_eq!((wall.resolution(), wall.now().subsec_millis() % 10), (Duration::from_millis(10), 0));
        assert_eq!(wall.now().subsec_nanos() % 10_000_000, 0);
    }
}
