//! Clocks that a guest sees, made as coarse as its budget says: a fine clock tells one tenant what another does.

use std::time::{Duration, Instant, SystemTime};

use wasmtime_wasi::{HostMonotonicClock, HostWallClock};

/// Resolution of the clocks of a run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Grain(Duration);

impl Grain {
    pub(crate) fn new(resolution: Duration) -> Self {
        Self(resolution)
    }

    /// Whether clocks are as fine as the machine's.
    pub(crate) fn is_finest(self) -> bool {
        self.0.is_zero()
    }

    /// Returns the last time up to this one that can be seen.
    pub(crate) fn floor(self, time: Duration) -> Duration {
        let (grain, nanos) = (self.0.as_nanos(), time.as_nanos());
        if grain == 0 { time } else { Duration::from_nanos_u128(nanos - nanos % grain) }
    }

    fn resolution(self) -> Duration {
        self.0.max(Duration::from_nanos(1))
    }
}

/// Monotonic clock: time since the run began to look at clocks.
pub(crate) struct Monotonic {
    pub(crate) grain: Grain,
    pub(crate) zero: Instant,
}

impl HostMonotonicClock for Monotonic {
    fn resolution(&self) -> u64 {
        nanos(self.grain.resolution())
    }

    fn now(&self) -> u64 {
        nanos(self.grain.floor(self.zero.elapsed()))
    }
}

/// Wall clock: calendar time.
pub(crate) struct Wall {
    pub(crate) grain: Grain,
}

impl HostWallClock for Wall {
    fn resolution(&self) -> Duration {
        self.grain.resolution()
    }

    fn now(&self) -> Duration {
        // A machine whose clock stands before 1970 has worse to care for.
        self.grain.floor(SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default())
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
        fn what_is_seen_is_whole_grains_and_never_ahead(grain in any::<u32>(), time in any::<u64>()) {
            let (grain, time) = (Duration::from_nanos(grain.into()), Duration::from_nanos(time));
            let seen = Grain::new(grain).floor(time);
            prop_assert!(seen <= time);
            if grain.is_zero() {
                prop_assert_eq!(seen, time);
            } else {
                prop_assert!(time - seen < grain && seen.as_nanos().is_multiple_of(grain.as_nanos()));
            }
        }
    }

    #[test]
    fn coarse_clocks_say_how_coarse_they_are_and_tick_in_whole_grains() {
        let grain = Grain::new(Duration::from_millis(10));
        let monotonic = Monotonic { grain, zero: Instant::now() };
        assert_eq!((monotonic.resolution(), monotonic.now() % 10_000_000), (10_000_000, 0));
        let wall = Wall { grain };
        assert_eq!((wall.resolution(), wall.now().subsec_millis() % 10), (Duration::from_millis(10), 0));
        assert_eq!(wall.now().subsec_nanos() % 10_000_000, 0);
    }
}
