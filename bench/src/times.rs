//! Distribution of measured times.

use std::time::Duration;

/// All times, the shortest first, so that quantiles are exact.
#[derive(Debug, Clone)]
pub(crate) struct Times(Vec<Duration>);

impl Times {
    /// Creates the distribution of these times.
    ///
    /// # Panics
    /// If there are none.
    pub(crate) fn of(mut times: Vec<Duration>) -> Self {
        assert!(!times.is_empty(), "something took some time");
        times.sort_unstable();
        Self(times)
    }

    /// Returns the quantile: the time that this share of them didn't exceed.
    pub(crate) fn at(&self, share: f64) -> Duration {
        self.0[((self.0.len() - 1) as f64 * share).round() as usize]
    }

    /// Returns the quantile in milliseconds.
    pub(crate) fn ms(&self, share: f64) -> f64 {
        self.at(share).as_secs_f64() * 1e3
    }

    /// Returns the share of them that didn't exceed `time`.
    pub(crate) fn within(&self, time: Duration) -> f64 {
        self.0.partition_point(|took| *took <= time) as f64 / self.0.len() as f64
    }
}
