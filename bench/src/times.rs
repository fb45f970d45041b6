//! How long things took.

use std::time::Duration;

/// All of the times, the shortest first: what is said of them is exact.
#[derive(Debug, Clone)]
pub(crate) struct Times(Vec<Duration>);

impl Times {
    /// These.
    ///
    /// # Panics
    /// If there are none.
    pub(crate) fn of(mut times: Vec<Duration>) -> Self {
        assert!(!times.is_empty(), "something took some time");
        times.sort_unstable();
        Self(times)
    }

    /// The time that this share of them stayed within.
    pub(crate) fn at(&self, share: f64) -> Duration {
        self.0[((self.0.len() - 1) as f64 * share).round() as usize]
    }

    /// The same in milliseconds.
    pub(crate) fn ms(&self, share: f64) -> f64 {
        self.at(share).as_secs_f64() * 1e3
    }

    /// The share of them that stayed within a time.
    pub(crate) fn within(&self, time: Duration) -> f64 {
        self.0.partition_point(|took| *took <= time) as f64 / self.0.len() as f64
    }
}
