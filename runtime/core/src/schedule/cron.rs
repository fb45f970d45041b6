//! Cron expressions: parsed with all bounds checked before anything is expanded, and asked which times they match.
//!
//! An expression is a set of numbers for each field. A time matches if each of its parts is in the set of its field, but for
//! the days: if both the day of the month and the day of the week are restricted, a day that is in either matches.

use std::fmt;

use jiff::civil::{Date, DateTime};

/// A cron expression of five fields (minute, hour, day of the month, month, day of the week) or six (seconds first).
///
/// Equal if the text is.
#[derive(Debug, Clone)]
pub struct Cron {
    text: String,
    seconds: u64,
    minutes: u64,
    hours: u64,
    days: u64,
    last_day: bool,
    months: u64,
    /// Days of the week, Sunday as 0.
    weekdays: u64,
    are_days_restricted: bool,
    are_weekdays_restricted: bool,
    has_seconds: bool,
}

/// Error for text that is no cron expression.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a cron expression: {why}")]
pub struct InvalidCron {
    /// The text, cut to a length that is fit for a log.
    pub text: String,
    /// Reason why, as text for people.
    pub why: String,
}

/// Maximum length of an expression, in bytes.
pub const CRON_BYTES_MAX: usize = 256;

const SHOWN: usize = 80;

struct Field {
    name: &'static str,
    first: u8,
    last: u8,
    /// Names of the numbers from `first` on.
    names: &'static [&'static str],
}

const SECOND: Field = Field { name: "second", first: 0, last: 59, names: &[] };
const MINUTE: Field = Field { name: "minute", first: 0, last: 59, names: &[] };
const HOUR: Field = Field { name: "hour", first: 0, last: 23, names: &[] };
const DAY: Field = Field { name: "day of the month", first: 1, last: 31, names: &[] };
const MONTH: Field = Field {
    name: "month",
    first: 1,
    last: 12,
    names: &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
};
/// 7 is Sunday as well.
const WEEKDAY: Field = Field {
    name: "day of the week",
    first: 0,
    last: 7,
    names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"],
};

const NICKNAMES: [(&str, &str); 8] = [
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
    ("@monthly", "0 0 1 * *"),
    ("@weekly", "0 0 * * 0"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@hourly", "0 * * * *"),
    ("@minutely", "* * * * *"),
];

/// Days of each month, in a leap year.
const DAYS_OF_MONTHS: [u8; 12] = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];

/// Number of years in which every day that there is comes at least once: 29 February is left out in 2100.
const YEARS_SEARCHED: i16 = 9;

impl Cron {
    /// Parses an expression of five or six fields, or a nickname such as `@daily`.
    ///
    /// A field is `*`, a number, a range `1-5`, any of these with a step `*/15`, `10-30/5`, or a list of them. Months and days
    /// of the week also go by their first three letters. The day of the month may be `L`, the last one.
    ///
    /// # Errors
    /// If the text is something else, if a number is out of its field's range, or if it would never match.
    pub fn parse(text: &str) -> Result<Self, InvalidCron> {
        Self::read(text.trim()).map_err(|why| InvalidCron { text: text.chars().take(SHOWN).collect(), why })
    }

    fn read(text: &str) -> Result<Self, String> {
        if text.len() > CRON_BYTES_MAX {
            return Err(format!("it has more than {CRON_BYTES_MAX} bytes"));
        }
        let expanded = match text.strip_prefix('@') {
            None => text,
            Some(_) => nickname(text)?,
        };
        let fields: Vec<&str> = expanded.split_ascii_whitespace().collect();
        let (second, [minute, hour, day, month, weekday]) = match fields[..] {
            [minute, hour, day, month, weekday] => (None, [minute, hour, day, month, weekday]),
            [second, minute, hour, day, month, weekday] => {
                (Some(second), [minute, hour, day, month, weekday])
            }
            _ => return Err(format!("it has {} fields, and should have 5 or 6", fields.len())),
        };
        let (day, last_day) = last_day(day);
        let weekdays = WEEKDAY.read(weekday)?;
        let cron = Self {
            text: text.to_owned(),
            seconds: second.map_or(Ok(1), |second| SECOND.read(second))?,
            minutes: MINUTE.read(minute)?,
            hours: HOUR.read(hour)?,
            days: day.map_or(Ok(0), |day| DAY.read(&day))?,
            last_day,
            months: MONTH.read(month)?,
            weekdays: (weekdays | weekdays >> 7) & 0x7f,
            are_days_restricted: !is_any(fields[fields.len() - 3]),
            are_weekdays_restricted: !is_any(weekday),
            has_seconds: second.is_some(),
        };
        if cron.has_any_day() {
            Ok(cron)
        } else {
            Err("no month has such a day, so it never matches".to_owned())
        }
    }

    /// Returns the text that was parsed.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether the expression is a fixed time of the day: one second, one minute and one hour.
    #[must_use]
    pub fn is_fixed_time(&self) -> bool {
        [self.seconds, self.minutes, self.hours].iter().all(|set| set.count_ones() == 1)
    }

    /// Returns the time of the day, hour, minute and second, at which a fixed-time expression fires: the first of each field.
    pub(super) fn time_of_day(&self) -> (i8, i8, i8) {
        let first = |set: u64| i8::try_from(set.trailing_zeros()).unwrap_or(0);
        (first(self.hours), first(self.minutes), first(self.seconds))
    }

    fn has_any_day(&self) -> bool {
        if self.are_weekdays_restricted || self.last_day {
            return true;
        }
        let months = DAYS_OF_MONTHS.iter().enumerate();
        months
            .filter(|(n, _)| has(self.months, n + 1))
            .any(|(_, last)| self.days.trailing_zeros() <= u32::from(*last))
    }

    fn matches_date(&self, date: Date) -> bool {
        let in_month =
            || has(self.days, unsigned(date.day())) || (self.last_day && date.day() == date.days_in_month());
        let in_week = || has(self.weekdays, unsigned(date.weekday().to_sunday_zero_offset()));
        let is_day = match (self.are_days_restricted, self.are_weekdays_restricted) {
            (true, true) => in_month() || in_week(),
            (true, false) => in_month(),
            (false, true) => in_week(),
            (false, false) => true,
        };
        is_day && has(self.months, unsigned(date.month()))
    }

    /// Returns the first matching date from `from` on, or `None` if there is none within the calendar.
    pub(super) fn date_from(&self, from: Date) -> Option<Date> {
        let last_year = from.year().saturating_add(YEARS_SEARCHED);
        let mut date = from;
        while date.year() <= last_year {
            if !has(self.months, unsigned(date.month())) {
                date = date.last_of_month().tomorrow().ok()?;
            } else if self.matches_date(date) {
                return Some(date);
            } else {
                date = date.tomorrow().ok()?;
            }
        }
        None
    }

    /// Returns the first matching time of a local clock from `from` on, which has whole seconds. `None` if there is none within
    /// the calendar.
    pub(super) fn civil_from(&self, from: DateTime) -> Option<DateTime> {
        let date = self.date_from(from.date())?;
        if date == from.date()
            && let Some((hour, minute, second)) = self.time_from([from.hour(), from.minute(), from.second()])
        {
            return Some(date.at(hour, minute, second, 0));
        }
        let date = if date == from.date() { self.date_from(date.tomorrow().ok()?)? } else { date };
        let (hour, minute, second) = self.time_of_day();
        Some(date.at(hour, minute, second, 0))
    }

    /// Returns the first matching time of the day from this one on.
    fn time_from(&self, [hour, minute, second]: [i8; 3]) -> Option<(i8, i8, i8)> {
        let (_, first_minute, first_second) = self.time_of_day();
        if has(self.hours, unsigned(hour)) {
            if has(self.minutes, unsigned(minute))
                && let Some(second) = from(self.seconds, second)
            {
                return Some((hour, minute, second));
            }
            if let Some(minute) = from(self.minutes, minute + 1) {
                return Some((hour, minute, first_second));
            }
        }
        Some((from(self.hours, hour + 1)?, first_minute, first_second))
    }

    /// Returns the first time behind the stretch in which the expression surely matches all the while: the next day, hour,
    /// minute or second. `None` if it doesn't match at this local time. An expression of five fields matches whole minutes.
    pub(super) fn excludes_until(&self, at: DateTime) -> Option<DateTime> {
        let matches = self.matches_date(at.date())
            && has(self.hours, unsigned(at.hour()))
            && has(self.minutes, unsigned(at.minute()))
            && (!self.has_seconds || has(self.seconds, unsigned(at.second())));
        if !matches {
            return None;
        }
        let any_second = !self.has_seconds || self.seconds == full(&SECOND);
        let (any_minute, any_hour) = (self.minutes == full(&MINUTE), self.hours == full(&HOUR));
        let wait = match (any_second, any_minute, any_hour) {
            (true, true, true) => return Some(at.date().tomorrow().ok()?.at(0, 0, 0, 0)),
            (true, true, false) => 3600 - 60 * i64::from(at.minute()) - i64::from(at.second()),
            (true, false, _) => 60 - i64::from(at.second()),
            (false, ..) => 1,
        };
        at.checked_add(jiff::SignedDuration::from_secs(wait)).ok()
    }
}

impl PartialEq for Cron {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Cron {}

impl fmt::Display for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Field {
    /// Reads a field as a set: bit `n` for the number `n`.
    fn read(&self, text: &str) -> Result<u64, String> {
        text.split(',').try_fold(0, |set, part| Ok(set | self.part(part)?))
    }

    fn part(&self, text: &str) -> Result<u64, String> {
        let (range, step) = match text.split_once('/') {
            Some((range, step)) => (range, Some(self.step(step)?)),
            None => (text, None),
        };
        let (first, last) = match range.split_once('-') {
            _ if is_any(range) => (self.first, self.last_of_any()),
            Some((first, last)) => (self.number(first)?, self.number(last)?),
            None => {
                let number = self.number(range)?;
                (number, if step.is_some() { self.last_of_any() } else { number })
            }
        };
        if first > last {
            let name = self.name;
            return Err(format!(
                "the range `{range}` of the {name} runs backwards; write it as two, with a comma"
            ));
        }
        let numbers = (first..=last).step_by(step.unwrap_or(1).into());
        Ok(numbers.fold(0, |set, number| set | 1 << number))
    }

    /// Returns the last number that `*` stands for.
    fn last_of_any(&self) -> u8 {
        if self.last == WEEKDAY.last { WEEKDAY.last - 1 } else { self.last }
    }

    fn step(&self, text: &str) -> Result<u8, String> {
        let step = text.parse().ok().filter(|step| (1..=self.last).contains(step));
        step.ok_or_else(|| {
            let Self { name, last, .. } = self;
            format!("`{}` is no step of the {name}: a whole number from 1 to {last}", shown(text))
        })
    }

    fn number(&self, text: &str) -> Result<u8, String> {
        let named = self.names.iter().position(|name| name.eq_ignore_ascii_case(text));
        let number = match named {
            Some(nth) => u8::try_from(nth).ok().map(|nth| self.first + nth),
            // `parse` would take a sign.
            None if text.bytes().all(|byte| byte.is_ascii_digit()) => text.parse().ok(),
            None => None,
        };
        number.filter(|number| (self.first..=self.last).contains(number)).ok_or_else(|| {
            let Self { name, first, last, names } = self;
            let or_names =
                names.first().map(|name| format!(", or a name such as `{name}`")).unwrap_or_default();
            format!("`{}` is no {name}: a number from {first} to {last}{or_names}", shown(text))
        })
    }
}

fn nickname(text: &str) -> Result<&'static str, String> {
    if text.eq_ignore_ascii_case("@reboot") {
        return Err("a schedule goes by the clock, and no clock tells of a start of a machine".to_owned());
    }
    let found = NICKNAMES.iter().find(|(name, _)| name.eq_ignore_ascii_case(text));
    found.map(|(_, expression)| *expression).ok_or_else(|| {
        let names: Vec<&str> = NICKNAMES.iter().map(|(name, _)| *name).collect();
        format!("there is no such nickname; there are {}", names.join(", "))
    })
}

/// Takes `L` out of the list of days: what is left of it, and whether it was there.
fn last_day(days: &str) -> (Option<String>, bool) {
    let others: Vec<&str> = days.split(',').filter(|part| !part.eq_ignore_ascii_case("l")).collect();
    let has_last = others.len() < days.split(',').count();
    ((!others.is_empty()).then(|| others.join(",")), has_last)
}

fn is_any(text: &str) -> bool {
    text == "*" || text == "?"
}

fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(20).collect()
}

fn full(field: &Field) -> u64 {
    (field.first..=field.last).fold(0, |set, number| set | 1 << number)
}

fn has(set: u64, number: usize) -> bool {
    set >> number & 1 == 1
}

/// Returns the first number of a set from `number` on.
fn from(set: u64, number: i8) -> Option<i8> {
    let left = set.checked_shr(u32::try_from(number).ok()?)?;
    (left != 0).then(|| number + i8::try_from(left.trailing_zeros()).unwrap_or(0))
}

fn unsigned(part: i8) -> usize {
    usize::try_from(part).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn why(text: &str) -> String {
        Cron::parse(text).expect_err(text).why
    }

    #[test]
    fn bounds_are_checked_before_anything_is_expanded() {
        for (text, told) in [
            ("0 0 1--100000000 * *", "`-100000000` is no day of the month: a number from 1 to 31"),
            ("0 0 1-100000000 * *", "`100000000` is no day of the month: a number from 1 to 31"),
            ("*/0 * * * *", "`0` is no step of the minute: a whole number from 1 to 59"),
            ("*/99999999999999999999 * * * *", "`99999999999999999999` is no step"),
            ("60 * * * *", "`60` is no minute: a number from 0 to 59"),
            ("+5 * * * *", "`+5` is no minute"),
            ("0 0 * * 8", "`8` is no day of the week: a number from 0 to 7, or a name such as `sun`"),
            ("0 0 * january *", "`january` is no month: a number from 1 to 12, or a name such as `jan`"),
            ("0 22-6 * * *", "the range `22-6` of the hour runs backwards"),
            ("0 0 * *", "it has 4 fields, and should have 5 or 6"),
            ("", "it has 0 fields"),
            ("0 0 30 2 *", "no month has such a day"),
            ("0 0 31 4,6,9,11 *", "no month has such a day"),
            ("@reboot", "no clock tells of a start"),
            ("@fortnightly", "there is no such nickname"),
            (",* * * * *", "`` is no minute"),
        ] {
            let why = why(text);
            assert!(why.starts_with(told) || why.contains(told), "{text}: {why}");
        }
        assert_eq!(why(&"0,".repeat(200)), "it has more than 256 bytes");
    }

    #[test]
    fn an_error_names_the_expression() {
        let error = Cron::parse("0 25 * * *").expect_err("it is wrong").to_string();
        assert_eq!(error, "`0 25 * * *` is not a cron expression: `25` is no hour: a number from 0 to 23");
    }

    fn next(text: &str, at: &str) -> String {
        let cron = Cron::parse(text).expect(text);
        cron.civil_from(at.parse().expect("a time")).expect("it matches").to_string()
    }

    #[test]
    fn the_next_time_of_a_local_clock_is_found_field_by_field() {
        for (text, at, expected) in [
            ("* * * * *", "2026-01-01T00:00:00", "2026-01-01T00:00:00"),
            ("* * * * *", "2026-01-01T00:00:01", "2026-01-01T00:01:00"),
            ("*/20 * * * * *", "2026-01-01T00:00:41", "2026-01-01T00:01:00"),
            ("59 59 23 31 12 *", "2026-01-01T00:00:00", "2026-12-31T23:59:59"),
            ("0 9 * * mon-FRI", "2026-12-25T09:00:01", "2026-12-28T09:00:00"),
            ("0 0 L * *", "2026-02-03T00:00:00", "2026-02-28T00:00:00"),
            ("0 0 15,L * *", "2028-02-16T00:00:00", "2028-02-29T00:00:00"),
            ("0 0 29 2 *", "2096-03-01T00:00:00", "2104-02-29T00:00:00"),
            ("0 0 * * 5-7", "2026-12-03T00:00:00", "2026-12-04T00:00:00"),
            ("30 10/6 * * *", "2026-01-01T10:31:00", "2026-01-01T16:30:00"),
            ("@monthly", "2026-01-01T00:00:01", "2026-02-01T00:00:00"),
            ("0 0 ? jan ?", "2026-02-01T00:00:00", "2027-01-01T00:00:00"),
        ] {
            assert_eq!(next(text, at), expected, "{text}");
        }
    }

    #[test]
    fn the_end_of_the_calendar_is_no_panic() {
        let cron = Cron::parse("0 0 1 1 *").expect("valid");
        assert_eq!(cron.civil_from("9999-06-01T00:00:00".parse().expect("a time")), None);
    }

    #[test]
    fn one_second_minute_and_hour_are_a_fixed_time() {
        for (text, is_fixed) in [
            ("30 2 * * *", true),
            ("0 30 2 * * *", true),
            ("*/10 30 2 * * *", false),
            ("30 2,14 * * *", false),
            ("30 1-2 * * *", false),
            ("30 * * * *", false),
        ] {
            assert_eq!(Cron::parse(text).expect(text).is_fixed_time(), is_fixed, "{text}");
        }
    }

    #[test]
    fn what_is_excluded_is_passed_over_in_the_longest_stretches() {
        let until = |text: &str, at: &str| {
            let cron = Cron::parse(text).expect(text);
            cron.excludes_until(at.parse().expect("a time")).map(|until| until.to_string())
        };
        let at = "2026-12-25T13:14:15";
        assert_eq!(until("* * 24-26 12 *", at).as_deref(), Some("2026-12-26T00:00:00"));
        assert_eq!(until("* 12-14 * * *", at).as_deref(), Some("2026-12-25T14:00:00"));
        assert_eq!(until("14 * * * *", at).as_deref(), Some("2026-12-25T13:15:00"));
        assert_eq!(until("15 14 13 * * *", at).as_deref(), Some("2026-12-25T13:14:16"));
        assert_eq!(until("15 * * * *", at), None);
    }

    fn field(first: u8, last: u8) -> impl Strategy<Value = String> {
        let number = move || first..=last;
        prop_oneof![
            Just("*".to_owned()),
            number().prop_map(|n| n.to_string()),
            (number(), number()).prop_map(|(a, b)| format!("{}-{}", a.min(b), a.max(b))),
            (1..=last).prop_map(|n| format!("*/{n}")),
            (number(), number()).prop_map(|(a, b)| format!("{a},{b}")),
        ]
    }

    proptest! {
        #[test]
        fn parsing_any_text_never_panics(text in "[-@*/,?L0-9a-z ]{0,40}") {
            let _ = Cron::parse(&text);
        }

        #[test]
        fn the_next_time_is_the_first_that_matches(
            minute in field(0, 59), hour in field(0, 23), day in field(1, 31), month in field(1, 12), weekday in field(0, 7),
            after in 0..500_000i64,
        ) {
            let text = format!("{minute} {hour} {day} {month} {weekday}");
            let Ok(cron) = Cron::parse(&text) else { return Ok(()) };
            let start: DateTime = "2027-11-05T00:00:00".parse().expect("a time");
            let from = start.checked_add(jiff::SignedDuration::from_mins(after)).expect("in range");
            let found = cron.civil_from(from).expect("it matches within nine years");
            prop_assert!(cron.excludes_until(found).is_some() && found >= from);
            // And none between, as far as that can be walked in a test.
            let mut walked = from;
            for _ in 0..3000 {
                if walked >= found { break }
                prop_assert!(cron.excludes_until(walked).is_none(), "{} {}", text, walked);
                walked = walked.checked_add(jiff::SignedDuration::from_mins(1)).expect("in range");
            }
        }
    }
}
