//! Whether something grows.
//!
//! A run has four quarters. The first is for warming up: caches fill, pools are touched, the first jobs reach the end of
//! their keep time. Flat is what has, in the last quarter, a median that is above that of the second by no more than
//! [`SHARE`] of it, or by no more than the leeway that the measure is given, whichever is more.

/// What counts as no growth, in parts of the value.
const SHARE: f64 = 0.05;

/// The seconds since the start of the run, and what was measured then.
pub(crate) type Point = (f64, f64);

/// How a measure went.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Trend {
    /// The medians of the second, third and last quarter.
    pub(crate) medians: [f64; 3],
    /// The slope of the line through these three quarters (least squares), by hour.
    pub(crate) per_hour: f64,
    /// Whether it is flat by the rule above.
    pub(crate) is_flat: bool,
}

impl Trend {
    /// The trend of what was measured at even distances.
    ///
    /// # Panics
    /// If there are fewer than eight points: no quarter has a median then.
    pub(crate) fn of(points: &[Point], leeway: f64) -> Self {
        assert!(points.len() >= 8, "{} points make no trend", points.len());
        let at = |quarter: usize| points.len() * quarter / 4;
        let medians = [1, 2, 3].map(|quarter| median(&points[at(quarter)..at(quarter + 1)]));
        let [before, _, after] = medians;
        let is_flat = after - before <= (before * SHARE).max(leeway);
        Self { medians, per_hour: slope(&points[at(1)..]) * 3600.0, is_flat }
    }
}

fn median(points: &[Point]) -> f64 {
    let mut values: Vec<f64> = points.iter().map(|(_, value)| *value).collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 { values[middle] } else { f64::midpoint(values[middle - 1], values[middle]) }
}

/// By second.
fn slope(points: &[Point]) -> f64 {
    let n = points.len() as f64;
    let mean_at = points.iter().map(|(at, _)| at).sum::<f64>() / n;
    let mean = points.iter().map(|(_, value)| value).sum::<f64>() / n;
    let together: f64 = points.iter().map(|(at, value)| (at - mean_at) * (value - mean)).sum();
    let alone: f64 = points.iter().map(|(at, _)| (at - mean_at).powi(2)).sum();
    together / alone
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An hour, with a point every ten seconds.
    fn hour(value: impl Fn(f64) -> f64) -> Vec<Point> {
        (0..360).map(|n| f64::from(n) * 10.0).map(|at| (at, value(at))).collect()
    }

    #[test]
    fn what_only_warms_up_is_flat() {
        let trend = Trend::of(&hour(|at| 100.0 * (at / 900.0).min(1.0)), 0.0);
        assert!(trend.is_flat && trend.per_hour.abs() < 1e-9, "{trend:?}");
        assert_eq!(trend.medians, [100.0; 3]);
    }

    #[test]
    fn what_grows_evenly_is_found_and_measured() {
        let trend = Trend::of(&hour(|at| 100.0 + at / 36.0), 0.0);
        assert!(!trend.is_flat && (trend.per_hour - 100.0).abs() < 1e-6, "{trend:?}");
    }

    #[test]
    fn what_swings_is_flat_as_long_as_its_middle_is() {
        let trend = Trend::of(&hour(|at| 100.0 + 50.0 * (at / 7.0).sin()), 5.0);
        assert!(trend.is_flat, "{trend:?}");
    }

    #[test]
    fn small_numbers_have_a_leeway() {
        let handles = hour(|at| if at < 2000.0 { 20.0 } else { 22.0 });
        assert!(Trend::of(&handles, 2.0).is_flat && !Trend::of(&handles, 1.0).is_flat);
    }

    #[test]
    fn what_shrinks_does_not_grow() {
        assert!(Trend::of(&hour(|at| 1000.0 - at / 10.0), 0.0).is_flat);
    }
}
