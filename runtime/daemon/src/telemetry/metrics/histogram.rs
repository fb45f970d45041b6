//! Histograms that many threads count in at once.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds of a histogram's buckets, as whole numbers of a small unit.
#[derive(Debug)]
pub struct Bounds {
    /// The bounds, in rising order.
    pub upper: &'static [u64],
    /// Number of small units in the unit in which it is told.
    pub scale: f64,
}

const MICROS: f64 = 1e6;
const MIB: u64 = 1 << 20;
const SECOND: u64 = 1_000_000;

/// Bounds for the time that a job waits, from milliseconds to a day.
pub const WAIT: Bounds = Bounds {
    upper: &[
        5_000,
        10_000,
        25_000,
        50_000,
        100_000,
        250_000,
        500_000,
        SECOND,
        2_500_000,
        5 * SECOND,
        10 * SECOND,
        30 * SECOND,
        60 * SECOND,
        300 * SECOND,
        900 * SECOND,
        3600 * SECOND,
        21_600 * SECOND,
        86_400 * SECOND,
    ],
    scale: MICROS,
};

/// Bounds for the time of a run, from a millisecond to a quarter of an hour.
pub const RUN: Bounds = Bounds {
    upper: &[
        1_000,
        2_500,
        5_000,
        10_000,
        25_000,
        50_000,
        100_000,
        250_000,
        500_000,
        SECOND,
        2_500_000,
        5 * SECOND,
        10 * SECOND,
        30 * SECOND,
        60 * SECOND,
        300 * SECOND,
        900 * SECOND,
    ],
    scale: MICROS,
};

/// Bounds for the time of a call to the broker, from a tenth of a millisecond to five seconds.
pub const CALL: Bounds = Bounds {
    upper: &[
        100,
        250,
        500,
        1_000,
        2_500,
        5_000,
        10_000,
        25_000,
        50_000,
        100_000,
        250_000,
        500_000,
        SECOND,
        5 * SECOND,
    ],
    scale: MICROS,
};

/// Bounds for the fuel of a run.
pub const FUEL: Bounds = Bounds {
    upper: &[
        100_000,
        1_000_000,
        3_000_000,
        10_000_000,
        30_000_000,
        100_000_000,
        300_000_000,
        1_000_000_000,
        10_000_000_000,
        100_000_000_000,
    ],
    scale: 1.0,
};

/// Bounds for the memory of a run.
pub const MEMORY: Bounds = Bounds {
    upper: &[
        MIB,
        2 * MIB,
        4 * MIB,
        8 * MIB,
        16 * MIB,
        32 * MIB,
        64 * MIB,
        128 * MIB,
        256 * MIB,
        512 * MIB,
        1024 * MIB,
        4096 * MIB,
    ],
    scale: 1.0,
};

/// Bounds for the number of attempts of a job.
pub const ATTEMPTS: Bounds = Bounds { upper: &[1, 2, 3, 5, 10, 20, 50], scale: 1.0 };

/// Histogram. To count a value takes two atomic additions.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static Bounds,
    /// Numbers of values by bucket; the last one is of those above all bounds.
    counts: Box<[AtomicU64]>,
    sum: AtomicU64,
}

/// Counts of a histogram at a time.
#[derive(Debug, Clone, PartialEq)]
pub struct Counted {
    /// Upper bound of each bucket, `None` for the last one, and the number of its values.
    pub buckets: Vec<(Option<f64>, u64)>,
    /// Sum of all values.
    pub sum: f64,
}

impl Histogram {
    /// Creates a histogram that has counted nothing.
    #[must_use]
    pub fn new(bounds: &'static Bounds) -> Self {
        let counts = (0..=bounds.upper.len()).map(|_| AtomicU64::new(0)).collect();
        Self { bounds, counts, sum: AtomicU64::new(0) }
    }

    /// Counts a value, in the small unit of the bounds.
    pub fn count(&self, value: u64) {
        let bucket = self.bounds.upper.partition_point(|upper| *upper < value);
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(value, Ordering::Relaxed);
    }

    /// Counts a time.
    pub fn count_time(&self, time: Duration) {
        self.count(u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
    }

    /// Returns what was counted so far. Values that come in meanwhile may be in a part of it.
    #[must_use]
    pub fn counted(&self) -> Counted {
        let upper = self.bounds.upper.iter().map(|upper| Some(*upper as f64 / self.bounds.scale));
        let counts = self.counts.iter().map(|count| count.load(Ordering::Relaxed));
        Counted {
            buckets: upper.chain([None]).zip(counts).collect(),
            sum: self.sum.load(Ordering::Relaxed) as f64 / self.bounds.scale,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_in_the_first_bucket_that_it_fits() {
        let histogram = Histogram::new(&ATTEMPTS);
        for value in [1, 1, 4, 5, 6, 51] {
            histogram.count(value);
        }
        let counted = histogram.counted();
        let counts: Vec<u64> = counted.buckets.iter().map(|(_, count)| *count).collect();
        assert_eq!((counts, counted.sum), (vec![2, 0, 0, 2, 1, 0, 0, 1], 68.0));
        assert_eq!(counted.buckets[7].0, None);
    }

    #[test]
    fn bounds_rise_and_times_are_told_in_seconds() {
        for bounds in [&WAIT, &RUN, &CALL, &FUEL, &MEMORY, &ATTEMPTS] {
            assert!(bounds.upper.is_sorted_by(|a, b| a < b));
        }
        let histogram = Histogram::new(&CALL);
        histogram.count_time(Duration::from_millis(1500));
        let counted = histogram.counted();
        assert_eq!((counted.sum, counted.buckets[13]), (1.5, (Some(5.0), 1)));
    }
}
