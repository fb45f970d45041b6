//! Formatting of numbers, sizes and times for people.

use std::time::Duration;

use sandhog_api::Time;
use sandhog_core::time::Timestamp;

use sandhog_config::units::time;

/// Formats a count to three digits: `1.23M`.
#[must_use]
pub fn count(n: u64) -> String {
    scaled(n, 1000, &["", "k", "M", "G", "T", "P", "E"])
}

/// Formats a size in bytes to three digits: `12.3 MiB`.
#[must_use]
pub fn bytes(n: u64) -> String {
    scaled(n, 1024, &[" B", " KiB", " MiB", " GiB", " TiB", " PiB", " EiB"])
}

fn scaled(n: u64, step: u64, units: &[&str]) -> String {
    if n < step {
        return format!("{n}{}", units[0]);
    }
    let (mut value, mut unit) = (n as f64, 0);
    // A value that would be rounded up to a whole step belongs to the next unit.
    while value >= step as f64 - 0.5 && unit + 1 < units.len() {
        value /= step as f64;
        unit += 1;
    }
    let digits = if value < 9.995 {
        2
    } else if value < 99.95 {
        1
    } else {
        0
    };
    format!("{value:.digits$}{}", units[unit])
}

/// Formats a duration to three digits: `35.1ms`, `1.24s`, `2m5s`.
#[must_use]
pub fn duration(duration: Duration) -> String {
    let micros = duration.as_micros();
    match micros {
        0..1000 => format!("{micros}µs"),
        1000..10_000 => format!("{:.2}ms", micros as f64 / 1e3),
        10_000..100_000 => format!("{:.1}ms", micros as f64 / 1e3),
        100_000..1_000_000 => format!("{:.0}ms", (micros as f64 / 1e3).min(999.0)),
        1_000_000..60_000_000 => format!("{:.2}s", micros as f64 / 1e6),
        _ => time(Duration::from_secs(duration.as_secs())),
    }
}

/// Formats a point in time in RFC 3339, in UTC; `None` if it is after the year 9999.
#[must_use]
pub fn rfc3339(at: Timestamp) -> Option<String> {
    Time(at).rfc3339()
}

/// Formats a point in time for people, in UTC.
#[must_use]
pub fn clock(at: Timestamp) -> String {
    Time(at).to_string()
}

/// Formats a duration in its largest unit, rounded down: `3m`, `7h`, `12d`.
#[must_use]
pub fn rough(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..172_800 => format!("{}h", seconds / 3600),
        172_800..63_072_000 => format!("{}d", seconds / 86_400),
        _ => format!("{}y", seconds / 31_536_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits() {
        for (n, text) in [
            (0, "0"),
            (999, "999"),
            (1000, "1.00k"),
            (12_345, "12.3k"),
            (999_999, "1.00M"),
            (u64::MAX, "18.4E"),
        ] {
            assert_eq!(count(n), text);
        }
        for (n, text) in [(0, "0 B"), (1536, "1.50 KiB"), (128 << 20, "128 MiB"), ((1 << 20) - 1, "1.00 MiB")]
        {
            assert_eq!(bytes(n), text);
        }
    }

    #[test]
    fn times_have_three_digits() {
        for (micros, text) in [
            (0, "0µs"),
            (999, "999µs"),
            (1500, "1.50ms"),
            (35_123, "35.1ms"),
            (999_999, "999ms"),
            (1_240_000, "1.24s"),
            (125_000_000, "2m5s"),
        ] {
            assert_eq!(duration(Duration::from_micros(micros)), text);
        }
    }

    #[test]
    fn points_in_time_are_in_utc() {
        assert_eq!(clock(Timestamp::from_millis(1_500)), "1970-01-01T00:00:01.5Z");
        assert_eq!(clock(Timestamp::from_millis(u64::MAX)), "after the year 9999");
        assert_eq!(rfc3339(Timestamp::from_millis(u64::MAX)), None);
    }

    #[test]
    fn a_rough_length_of_time_has_one_unit() {
        for (seconds, text) in [
            (0, "0s"),
            (59, "59s"),
            (60, "1m"),
            (7199, "1h"),
            (100_000, "27h"),
            (172_800, "2d"),
            (63_072_000, "2y"),
        ] {
            assert_eq!(rough(Duration::from_secs(seconds)), text);
        }
    }
}
