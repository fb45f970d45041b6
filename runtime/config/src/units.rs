//! Sizes and times as people write them: `"64MiB"`, `"1h30m"`.

use std::num::NonZeroU32;
use std::time::Duration;

use sandhog_core::budget::Bytes;
use sandhog_core::rate::Rate;

/// Error for text that is not a size or a duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{value}\" is not a {what}: {rule}{}", .meant.as_ref().map(|meant| format!("; did you mean {meant}?")).unwrap_or_default())]
pub struct InvalidUnit {
    /// Kind of value: `size`, `time` or `rate`.
    pub what: &'static str,
    /// The text, cut to a length fit for a message.
    pub value: String,
    /// Rule of what is allowed.
    pub rule: &'static str,
    /// Text that may have been meant.
    pub meant: Option<String>,
}

const SIZES: [(&str, u64); 5] =
    [("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40)];

const TIMES: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

const SIZE_RULE: &str = "a number and one of B, KiB, MiB, GiB, TiB, such as \"64MiB\" or \"1.5GiB\"";
const TIME_RULE: &str = "whole numbers, each with one of d, h, m, s, ms, such as \"30s\" or \"1h30m\"";

const RATE_RULE: &str =
    "a number within a time, at most 10,000 a second, such as \"100/s\", \"5/10m\" or \"100/s burst 1\"";

/// Parses a size.
///
/// # Errors
/// If the text is not a size.
pub fn parse_size(text: &str) -> Result<Bytes, InvalidUnit> {
    let refuse =
        |meant: Option<String>| InvalidUnit { what: "size", value: short(text), rule: SIZE_RULE, meant };
    let (number, unit) = split(text);
    let Some(&(_, unit)) = SIZES.iter().find(|(name, _)| *name == unit) else {
        return Err(refuse(meant_size(number, unit)));
    };
    let bytes = match number.split_once('.') {
        None => digits(number).and_then(|whole| whole.checked_mul(unit)),
        Some((whole, part)) => fraction(whole, part, unit),
    };
    bytes.map(Bytes).ok_or_else(|| refuse(None))
}

/// Parses a duration.
///
/// # Errors
/// If the text is not a duration.
pub fn parse_time(text: &str) -> Result<Duration, InvalidUnit> {
    let refuse = |meant| InvalidUnit { what: "time", value: short(text), rule: TIME_RULE, meant };
    let (mut rest, mut millis, mut units) = (text, 0u64, TIMES.iter());
    while !rest.is_empty() {
        let (number, after) = split(rest);
        let length = after.bytes().position(|byte| byte.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(length);
        // The iterator has the units that are left: each may stand once, the largest first.
        let Some((_, size)) = units.find(|(name, _)| *name == unit) else {
            return Err(refuse(meant_time(text)));
        };
        let part = digits(number).and_then(|number| number.checked_mul(*size));
        let sum = part.and_then(|part| millis.checked_add(part));
        millis = sum.ok_or_else(|| refuse(if number.contains('.') { meant_time(text) } else { None }))?;
        rest = after;
    }
    if text.is_empty() { Err(refuse(None)) } else { Ok(Duration::from_millis(millis)) }
}

/// Parses a rate: a number within a time, and how many of them at once, if that isn't left to the rate.
///
/// # Errors
/// If the text is not a rate.
pub fn parse_rate(text: &str) -> Result<Rate, InvalidUnit> {
    let refuse = || InvalidUnit { what: "rate", value: short(text), rule: RATE_RULE, meant: None };
    let (rate, burst) = match text.split_once(" burst ") {
        Some((rate, burst)) => (rate, Some(burst)),
        None => (text, None),
    };
    let number = |text: &str| digits(text).and_then(|n| NonZeroU32::new(u32::try_from(n).ok()?));
    let (count, period) = rate.split_once('/').ok_or_else(refuse)?;
    let period = match period.starts_with(|first: char| first.is_ascii_digit()) {
        true => parse_time(period),
        false => parse_time(&format!("1{period}")),
    };
    let period = period.map_err(|_| refuse())?;
    let burst = burst.map(|burst| number(burst).ok_or_else(refuse)).transpose()?;
    let period = u64::try_from(period.as_micros()).map_err(|_| refuse())?;
    Rate::new(number(count).ok_or_else(refuse)?, period, burst).ok_or_else(refuse)
}

/// Formats a duration as [`parse_time`] reads it, to the millisecond.
#[must_use]
pub fn time(duration: Duration) -> String {
    let mut rest = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let mut text = String::new();
    for (name, size) in TIMES {
        if rest >= size {
            text += &format!("{}{name}", rest / size);
            rest %= size;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

/// Splits the text into the leading number and what comes after it.
fn split(text: &str) -> (&str, &str) {
    let end = text.bytes().position(|byte| !byte.is_ascii_digit() && byte != b'.').unwrap_or(text.len());
    text.split_at(end)
}

fn digits(text: &str) -> Option<u64> {
    // `parse` would take a sign.
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

/// Returns the bytes of `whole.part` of a unit, if they are a whole number.
fn fraction(whole: &str, part: &str, unit: u64) -> Option<u64> {
    const PART_MAX: usize = 12;
    if part.is_empty() || part.len() > PART_MAX {
        return None;
    }
    let scale = 10u128.pow(u32::try_from(part.len()).ok()?);
    let product = u128::from(digits(part)?) * u128::from(unit);
    let rest = product.is_multiple_of(scale).then_some(product / scale)?;
    digits(whole)?.checked_mul(unit)?.checked_add(u64::try_from(rest).ok()?)
}

/// Guesses the size that was meant: `64mb`, `64 MB`, `64M` and the like mean `64MiB`.
fn meant_size(number: &str, unit: &str) -> Option<String> {
    let first = unit.trim().chars().next()?.to_ascii_uppercase();
    let (name, _) = SIZES.iter().find(|(name, _)| name.starts_with(first))?;
    let plausible = unit.trim().len() <= 3 && !number.is_empty();
    plausible.then(|| format!("{number}{name}"))
}

/// Guesses the duration that was meant by `30 seconds`, `5min`, `1.5h`, `2w` and the like.
fn meant_time(text: &str) -> Option<String> {
    let (number, unit) = split(text);
    let (short, size) = match unit.trim().to_ascii_lowercase().as_str() {
        "w" | "week" | "weeks" => ("", 7 * 86_400_000),
        "d" | "day" | "days" => ("d", 86_400_000),
        "h" | "hr" | "hrs" | "hour" | "hours" => ("h", 3_600_000),
        "m" | "min" | "mins" | "minute" | "minutes" => ("m", 60_000),
        "s" | "sec" | "secs" | "second" | "seconds" => ("s", 1000),
        "ms" | "msec" | "millis" | "milliseconds" => ("ms", 1),
        _ => return None,
    };
    let whole = || digits(number).filter(|_| !number.is_empty());
    match number.split_once('.') {
        None if short.is_empty() => {
            whole()?.checked_mul(size).map(|millis| time(Duration::from_millis(millis)))
        }
        None => whole().map(|number| format!("{number}{short}")),
        Some((whole, part)) => fraction(whole, part, size).map(|millis| time(Duration::from_millis(millis))),
    }
}

fn short(text: &str) -> String {
    const SHOWN: usize = 40;
    text.chars().filter(|c| !c.is_control()).take(SHOWN).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn rates_are_read_as_people_write_them() {
        for (text, interval, burst) in [
            ("100/s", 10_000, 10),
            ("100/s burst 1", 10_000, 1),
            ("5/10m", 120_000_000, 1),
            ("1/d", 86_400_000_000, 1),
            ("10000/s burst 20", 100, 20),
            ("3/1h30m", 1_800_000_000, 1),
        ] {
            let rate = parse_rate(text).expect("it is a rate");
            assert_eq!((rate.interval(), rate.burst().get()), (interval, burst), "{text}");
        }
        for text in [
            "",
            "100",
            "100/",
            "/s",
            "0/s",
            "100/s burst 0",
            "100/x",
            "-1/s",
            "10001/s",
            "1/32d",
            "1/0s",
            "1.5/s",
        ] {
            let refusal = parse_rate(text).expect_err("it is none");
            assert_eq!((refusal.what, refusal.rule), ("rate", RATE_RULE), "{text}");
        }
    }

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, bytes) in
            [("64MiB", 64 << 20), ("0B", 0), ("1.5GiB", 3 << 29), ("7B", 7), ("2TiB", 2 << 40)]
        {
            assert_eq!(parse_size(text), Ok(Bytes(bytes)), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused_with_what_was_meant() {
        for (text, meant) in [
            ("64MB", Some("64MiB")),
            ("64 MiB", Some("64MiB")),
            ("64m", Some("64MiB")),
            ("64", None),
            ("", None),
            ("MiB", None),
            ("-1KiB", None),
            ("1.5B", None),
            ("1..5KiB", None),
            ("1.KiB", None),
            (".5KiB", None),
            ("99999999999TiB", None),
            ("5 parsecs", None),
        ] {
            let refusal = parse_size(text).expect_err(text);
            assert_eq!(refusal.meant.as_deref(), meant, "{text}");
        }
    }

    #[test]
    fn times_are_read_as_people_write_them() {
        for (text, millis) in
            [("30s", 30_000), ("500ms", 500), ("1h30m", 5_400_000), ("30d", 2_592_000_000), ("0s", 0)]
        {
            assert_eq!(parse_time(text), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_refused_with_what_was_meant() {
        for (text, meant) in [
            ("30 seconds", Some("30s")),
            ("5min", Some("5m")),
            ("30", None),
            ("", None),
            ("s", None),
            ("30s1h", None),
            ("1s1s", None),
            ("1.5s", Some("1s500ms")),
            ("1.5h", Some("1h30m")),
            ("-1s", None),
            ("1w", Some("7d")),
            ("1.5w", Some("10d12h")),
            (".5h", None),
            ("99999999999999999d", None),
            ("5 parsecs", None),
        ] {
            let refusal = parse_time(text).expect_err(text);
            assert_eq!(refusal.meant.as_deref(), meant, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read_back(millis in 0..u64::MAX, bytes: u64) {
            let duration = Duration::from_millis(millis);
            prop_assert_eq!(parse_time(&time(duration)), Ok(duration));
            prop_assert_eq!(parse_size(&Bytes(bytes).to_string()), Ok(Bytes(bytes)));
        }

        #[test]
        fn any_text_is_read_or_refused(text in ".*|[0-9.]{0,25}[a-zA-Z ]{0,4}") {
            let _ = (parse_size(&text), parse_time(&text));
        }
    }
}
