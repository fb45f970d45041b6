//! Parsing of points in time on the command line.

use std::time::Duration;

use jiff::civil;
use sandhog_config::units::{InvalidUnit, parse_time, time};
use sandhog_core::hold::HoldEnd;
use sandhog_core::time::{Timestamp, millis};

use sandhog_daemon::clock::Clock;

const RULE: &str = "a point in time is written as 2026-11-24T18:00:00Z or 2026-11-24T19:00:00+01:00";

/// Parses a point in time in RFC 3339.
///
/// # Errors
/// If the text is not one, or is before 1970.
pub(crate) fn parse_at(text: &str) -> Result<Timestamp, String> {
    if let Ok(at) = text.parse::<jiff::Timestamp>() {
        let millis = u64::try_from(at.as_millisecond()).map_err(|_| format!("{text} is before 1970"))?;
        return Ok(Timestamp::from_millis(millis));
    }
    if text.parse::<civil::Date>().is_ok() && !text.contains([':', ' ', 'T', 't']) {
        return Err(format!("{RULE}; did you mean {text}T00:00:00Z?"));
    }
    match text.parse::<civil::DateTime>() {
        Ok(civil) => Err(format!("{text} names no zone; did you mean {civil}Z?")),
        Err(_) => match parse_time(text) {
            Ok(length) => Err(format!("{RULE}; to wait, say how long: --delay {}", time(length))),
            Err(_) => Err(RULE.to_owned()),
        },
    }
}

/// Returns when what holds jobs back ends by itself: after a time, at one, or not at all.
pub(crate) fn hold_end(time: Option<Duration>, until: Option<Timestamp>) -> HoldEnd {
    match (time, until) {
        (Some(time), _) => HoldEnd::After(time),
        (None, Some(until)) => HoldEnd::At(until),
        (None, None) => HoldEnd::Lifted,
    }
}

/// Parses a point in the past: in RFC 3339, as a day in UTC, or as how long ago it was.
///
/// # Errors
/// If the text is not one.
pub(crate) fn parse_past(text: &str) -> Result<Timestamp, String> {
    if let Ok(at) = parse_age(text) {
        return Ok(at);
    }
    let day = text.parse::<civil::Date>().is_ok() && !text.contains([':', ' ', 'T', 't']);
    parse_at(&if day { format!("{text}T00:00:00Z") } else { text.to_owned() })
        .map_err(|problem| format!("{problem}; or a day such as 2026-11-24, or how long ago such as 90m"))
}

/// Parses how long ago something was.
///
/// # Errors
/// If the text is no length of time.
pub(crate) fn parse_age(text: &str) -> Result<Timestamp, InvalidUnit> {
    let ago = millis(parse_time(text)?);
    Ok(Timestamp::from_millis(Clock::system().now().as_millis().saturating_sub(ago)))
}

/// Parses a point in the future: in RFC 3339, or as the time until then.
///
/// # Errors
/// If the text is not one.
pub(crate) fn parse_until(text: &str) -> Result<Timestamp, String> {
    match parse_time(text) {
        Ok(length) => Ok(Clock::system().now().after(length)),
        Err(_) => {
            parse_at(text).map_err(|problem| format!("{problem}; or how long it is until then, such as 90d"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_in_time_is_read_with_its_zone() {
        let at = Timestamp::from_millis(1_795_543_200_000);
        for text in ["2026-11-24T18:00:00Z", "2026-11-24T19:00:00+01:00", "2026-11-24 18:00:00.000Z"] {
            assert_eq!(parse_at(text), Ok(at), "{text}");
        }
        for (text, told) in [
            ("2026-11-24T18:00:00", "did you mean 2026-11-24T18:00:00Z?"),
            ("2026-11-24 18:00", "did you mean 2026-11-24T18:00:00Z?"),
            ("2026-11-24", "did you mean 2026-11-24T00:00:00Z?"),
            ("90m", "--delay 1h30m"),
            ("1969-12-31T23:59:59Z", "before 1970"),
            ("tomorrow", "2026-11-24T18:00:00Z"),
        ] {
            let problem = parse_at(text).expect_err(text);
            assert!(problem.contains(told), "{problem}");
        }
    }

    #[test]
    fn a_point_in_the_future_may_be_a_length_of_time() {
        assert_eq!(parse_until("2026-11-24T00:00:00Z"), Ok(Timestamp::from_millis(1_795_478_400_000)));
        let hour = parse_until("1h").expect("a length").since(Clock::system().now());
        assert!(hour.as_secs().abs_diff(3600) < 60);
        assert!(parse_until("tomorrow").is_err_and(|told| told.contains("90d")));
    }

    #[test]
    fn a_point_in_the_past_may_be_a_day_or_a_length_of_time() {
        let day = Timestamp::from_millis(1_795_478_400_000);
        assert_eq!(parse_past("2026-11-24"), Ok(day));
        assert_eq!(parse_past("2026-11-24T00:00:00Z"), Ok(day));
        let now = Clock::system().now();
        let hour_ago = parse_past("1h").expect("a length");
        assert!(now.since(hour_ago).as_secs().abs_diff(3600) < 60);
        assert!(parse_past("yesterday").is_err_and(|told| told.contains("90m")));
    }
}
