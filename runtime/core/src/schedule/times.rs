//! Nominal times of a schedule: cron expressions or an interval, less what is excluded, in a time zone.
//!
//! **Fixed times.** An expression with one number for hour, minute and second is a fixed time of the day: it comes once on
//! each of its days. If the local clock skips it, it comes at the first instant behind the gap; if the clock shows it twice,
//! at the first. A day that is skipped as a whole has it at the first instant of the next one.
//!
//! **All others go by the clock**, second by second: what the local clock skips doesn't come, and what it shows twice comes
//! twice.

use std::fmt;
use std::sync::LazyLock;
use std::time::Duration;

use jiff::SignedDuration;
use jiff::civil::DateTime;
use jiff::tz::{TimeZone, TimeZoneDatabase};

use super::cron::Cron;
use crate::time::{Timestamp, millis};

/// Minimum time between two times of an interval, which is the resolution of cron expressions as well.
pub const EVERY_MIN: Duration = Duration::from_secs(1);

/// Maximum time between two times of an interval: ten years.
pub const EVERY_MAX: Duration = Duration::from_secs(10 * 366 * 86_400);

/// Maximum number of cron expressions of a schedule, and as well of those that are excluded.
pub const CRONS_MAX: usize = 16;

/// Maximum number of excluded stretches (of a day, mostly) that are passed over in search of a time.
const EXCLUDED_MAX: usize = 20_000;

/// A time zone by its IANA name. The rules are part of the program: those of the machine don't matter.
#[derive(Clone)]
pub struct Zone(TimeZone);

/// Error for text that is not the name of a time zone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a time zone: a name of the IANA database, such as `Europe/Berlin` or `UTC`")]
pub struct UnknownZone(pub String);

static ZONES: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);

/// The expressions or the interval by which times come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Base {
    /// The times that any of the expressions matches; 1 to [`CRONS_MAX`].
    Cron(Vec<Cron>),
    /// Times at a fixed interval, counted from the start of 1970 in UTC: the clock of a zone doesn't matter.
    Every {
        /// The interval, in whole milliseconds; [`EVERY_MIN`] to [`EVERY_MAX`].
        period: Duration,
        /// Offset of each time from a multiple of the interval; less than the interval.
        phase: Duration,
    },
}

/// Nominal times of a schedule, at which it fires.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Times {
    base: Base,
    exclude: Vec<Cron>,
    zone: Zone,
    start: Option<Timestamp>,
    end: Option<Timestamp>,
}

/// Reason why no schedule has such times.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTimes {
    /// There is no expression, or there are too many.
    #[error("a schedule has 1 to {CRONS_MAX} cron expressions, and as many excluded ones at most")]
    Number,
    /// The interval is out of range.
    #[error("the interval is from 1 second to ten years")]
    Every,
    /// The phase isn't less than the interval.
    #[error("the phase is less than the interval")]
    Phase,
    /// The end isn't after the start.
    #[error("the end is after the start")]
    End,
}

impl Zone {
    /// Finds a zone by its IANA name, such as `Europe/Berlin`.
    ///
    /// # Errors
    /// If there is no such zone.
    pub fn parse(name: &str) -> Result<Self, UnknownZone> {
        ZONES.get(name).map(Self).map_err(|_| UnknownZone(name.chars().take(80).collect()))
    }

    /// Returns the zone that is used where none is named: UTC.
    #[must_use]
    pub fn utc() -> Self {
        Self(TimeZone::UTC)
    }

    /// Returns the name of the zone.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.iana_name().unwrap_or("UTC")
    }

    /// Parses a point in time: in RFC 3339 with its offset, or as a date, with or without a time, by the zone's clock. `None` if
    /// it is neither, or before 1970.
    #[must_use]
    pub fn parse_time(&self, text: &str) -> Option<Timestamp> {
        if let Ok(at) = text.parse::<jiff::Timestamp>() {
            return timestamp(at);
        }
        let clock: DateTime = text.parse().ok()?;
        timestamp(self.0.to_ambiguous_timestamp(clock).compatible().ok()?)
    }

    /// Formats a time by the zone's clock, with its offset from UTC, such as `2026-03-29 03:00:00 +02:00`.
    #[must_use]
    pub fn show(&self, at: Timestamp) -> String {
        self.format(at, "%Y-%m-%d %H:%M:%S ").unwrap_or_else(|| "beyond the calendar".to_owned())
    }

    /// Formats a time as in RFC 3339, with the zone's offset, such as `2026-03-29T03:00:00+02:00`. `None` if it is beyond the
    /// calendar.
    #[must_use]
    pub fn rfc3339(&self, at: Timestamp) -> Option<String> {
        self.format(at, "%Y-%m-%dT%H:%M:%S")
    }

    /// Formats a time by the zone's clock, with its offset from UTC after that.
    fn format(&self, at: Timestamp, format: &str) -> Option<String> {
        let at = instant(at)?;
        let (clock, offset) = (self.0.to_datetime(at), self.0.to_offset(at).seconds());
        let sign = if offset < 0 { '-' } else { '+' };
        let minutes = offset.unsigned_abs() / 60;
        Some(format!("{}{sign}{:02}:{:02}", clock.strftime(format), minutes / 60, minutes % 60))
    }
}

impl PartialEq for Zone {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl Eq for Zone {}

impl fmt::Debug for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Times {
    /// Creates the times of a base in a zone, less all those that one of `exclude` matches; from `start` on, and before `end`.
    ///
    /// # Errors
    /// If a bound isn't kept.
    pub fn new(
        base: Base,
        exclude: Vec<Cron>,
        zone: Zone,
        start: Option<Timestamp>,
        end: Option<Timestamp>,
    ) -> Result<Self, InvalidTimes> {
        match &base {
            Base::Cron(crons) if crons.is_empty() || crons.len() > CRONS_MAX => {
                return Err(InvalidTimes::Number);
            }
            Base::Every { period, .. } if !(EVERY_MIN..=EVERY_MAX).contains(period) => {
                return Err(InvalidTimes::Every);
            }
            Base::Every { period, phase } if phase >= period => return Err(InvalidTimes::Phase),
            Base::Cron(_) | Base::Every { .. } => {}
        }
        if exclude.len() > CRONS_MAX {
            return Err(InvalidTimes::Number);
        }
        if start.zip(end).is_some_and(|(start, end)| start >= end) {
            return Err(InvalidTimes::End);
        }
        Ok(Self { base, exclude, zone, start, end })
    }

    /// Returns what the times come by.
    #[must_use]
    pub fn base(&self) -> &Base {
        &self.base
    }

    /// Returns the expressions whose times are left out.
    #[must_use]
    pub fn exclude(&self) -> &[Cron] {
        &self.exclude
    }

    /// Returns the time zone.
    #[must_use]
    pub fn zone(&self) -> &Zone {
        &self.zone
    }

    /// Returns the time before which none comes. `None` if there is no such bound.
    #[must_use]
    pub fn start(&self) -> Option<Timestamp> {
        self.start
    }

    /// Returns the time from which on none comes. `None` if there is no such bound.
    #[must_use]
    pub fn end(&self) -> Option<Timestamp> {
        self.end
    }

    /// Returns the first nominal time after this one. `None` if there is none.
    #[must_use]
    pub fn next_after(&self, after: Timestamp) -> Option<Timestamp> {
        let before_start =
            self.start.map(|start| Timestamp::from_millis(start.as_millis().saturating_sub(1)));
        let mut after = before_start.map_or(after, |before_start| before_start.max(after));
        for _ in 0..EXCLUDED_MAX {
            let next = self.base.next_after(after, &self.zone.0)?;
            if self.end.is_some_and(|end| next >= end) {
                return None;
            }
            match self.excluded_until(next) {
                None => return Some(next),
                Some(until) => after = Timestamp::from_millis(until.as_millis().saturating_sub(1)).max(next),
            }
        }
        None
    }

    /// Returns the nominal times after this one, in their order.
    pub fn after(&self, after: Timestamp) -> impl Iterator<Item = Timestamp> {
        std::iter::successors(self.next_after(after), |last| self.next_after(*last))
    }

    /// If a time is excluded, returns a later one up to which all are.
    fn excluded_until(&self, at: Timestamp) -> Option<Timestamp> {
        if self.exclude.is_empty() {
            return None;
        }
        let (at, zone) = (instant(at)?, &self.zone.0);
        let clock = zone.to_datetime(at);
        let until = self.exclude.iter().filter_map(|cron| cron.excludes_until(clock)).max()?;
        // By the present offset. The stretch ends where the offset changes, if that comes first.
        let wait = clock.duration_until(until);
        let by_clock = at.checked_add(wait).ok()?;
        let change = zone.following(at).next().map(|change| change.timestamp());
        timestamp(change.map_or(by_clock, |change| change.min(by_clock)))
    }
}

impl Base {
    fn next_after(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        match self {
            Self::Cron(crons) => crons.iter().filter_map(|cron| next_match(cron, after, zone)).min(),
            Self::Every { period, phase } => {
                let (period, phase) = (millis(*period), millis(*phase));
                let number = match after.as_millis().checked_sub(phase) {
                    Some(since) => (since / period).checked_add(1)?,
                    None => 0,
                };
                let next = Timestamp::from_millis(number.checked_mul(period)?.checked_add(phase)?);
                instant(next).map(|_| next)
            }
        }
    }
}

/// Returns the first time after this one that an expression fires at.
fn next_match(cron: &Cron, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
    let after = instant(after)?;
    let next =
        if cron.is_fixed_time() { next_fixed(cron, after, zone) } else { next_by_clock(cron, after, zone) };
    timestamp(next?)
}

/// Returns the first time after this one of an expression with a fixed time of the day.
fn next_fixed(cron: &Cron, after: jiff::Timestamp, zone: &TimeZone) -> Option<jiff::Timestamp> {
    // A time that the clock skips may come on a later day than its own: if a whole day is skipped, on the next.
    let mut date = zone.to_datetime(after).date().yesterday().ok()?;
    let (hour, minute, second) = cron.time_of_day();
    loop {
        date = cron.date_from(date)?;
        let at = fixed_instant(date.at(hour, minute, second, 0), zone)?;
        if at > after {
            return Some(at);
        }
        date = date.tomorrow().ok()?;
    }
}

/// Returns the instant at which a clock shows this time: the first, if it does so twice; the first one behind the gap, if it
/// skips it.
fn fixed_instant(clock: DateTime, zone: &TimeZone) -> Option<jiff::Timestamp> {
    let ambiguous = zone.to_ambiguous_timestamp(clock);
    match ambiguous.offset() {
        jiff::tz::AmbiguousOffset::Gap { after, .. } => {
            // By the offset behind the gap, the time lies before it: the change that follows is the gap.
            let before = after.to_timestamp(clock).ok()?;
            zone.following(before).next().map(|change| change.timestamp())
        }
        _ => ambiguous.earlier().ok(),
    }
}

/// Returns the first time after this one that an expression matches as the local clock goes on, from one change of its offset
/// to the next.
fn next_by_clock(cron: &Cron, after: jiff::Timestamp, zone: &TimeZone) -> Option<jiff::Timestamp> {
    let second = SignedDuration::from_secs(1);
    let mut from = jiff::Timestamp::from_second(after.as_second()).ok()?.checked_add(second).ok()?;
    let mut changes = zone.following(from);
    loop {
        let offset = zone.to_offset(from);
        let found = cron.civil_from(offset.to_datetime(from));
        let found = found.and_then(|clock| offset.to_timestamp(clock).ok());
        let change = changes.next().map(|change| change.timestamp());
        match (found, change) {
            (Some(found), Some(change)) if found < change => return Some(found),
            (_, Some(change)) => from = change,
            (found, None) => return found,
        }
    }
}

fn instant(at: Timestamp) -> Option<jiff::Timestamp> {
    jiff::Timestamp::from_millisecond(i64::try_from(at.as_millis()).ok()?).ok()
}

fn timestamp(at: jiff::Timestamp) -> Option<Timestamp> {
    u64::try_from(at.as_millisecond()).ok().map(Timestamp::from_millis)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> Timestamp {
        let text = if text.matches(':').count() == 1 { text.replace('Z', ":00Z") } else { text.to_owned() };
        timestamp(text.parse().expect("a time in UTC")).expect("after 1970")
    }

    fn shown(at: Timestamp) -> String {
        instant(at).expect("in the calendar").to_string()
    }

    fn crons(texts: &[&str]) -> Vec<Cron> {
        texts.iter().map(|text| Cron::parse(text).expect(text)).collect()
    }

    fn times(cron: &[&str], exclude: &[&str], zone: &str) -> Times {
        let zone = Zone::parse(zone).expect(zone);
        Times::new(Base::Cron(crons(cron)), crons(exclude), zone, None, None).expect("valid")
    }

    fn every(period: Duration, phase: Duration) -> Times {
        Times::new(Base::Every { period, phase }, Vec::new(), Zone::utc(), None, None).expect("valid")
    }

    /// The columns are: cron, zone, after, the next times, why. Only a why has commas within quotes, or a cron.
    fn columns(row: &str) -> Vec<String> {
        let mut columns = vec![String::new()];
        let mut is_quoted = false;
        for c in row.chars() {
            match c {
                '"' => is_quoted = !is_quoted,
                ',' if !is_quoted => columns.push(String::new()),
                c => columns.last_mut().expect("there is one").push(c),
            }
        }
        columns
    }

    #[test]
    fn all_rows_of_the_table_that_was_made_without_a_cron_library() {
        let table = include_str!("tests/schedules.csv");
        let mut rows = 0;
        for row in table.lines().skip(1) {
            let columns = columns(row);
            let [cron, zone, after, expected, why] = &columns[..] else { panic!("{row}") };
            let expected: Vec<Timestamp> = expected.split(' ').map(at).collect();
            let found: Vec<Timestamp> =
                times(&[cron], &[], zone).after(at(after)).take(expected.len()).collect();
            let texts = |times: &[Timestamp]| times.iter().copied().map(shown).collect::<Vec<_>>();
            assert_eq!(texts(&found), texts(&expected), "{cron} in {zone}: {why}");
            rows += 1;
        }
        assert_eq!(rows, 25);
    }

    #[test]
    fn rules_of_zones_are_those_of_the_program_and_names_are_checked() {
        assert_eq!(Zone::parse("europe/berlin").expect("found").name(), "Europe/Berlin");
        for unknown in ["Europe/Bielefeld", "", "../etc/passwd", "CEST+2"] {
            assert!(Zone::parse(unknown).is_err(), "{unknown}");
        }
        let zone = Zone::parse("Europe/Berlin").expect("found");
        assert_eq!(zone.show(at("2026-03-29T01:00Z")), "2026-03-29 03:00:00 +02:00");
        assert_eq!(zone.show(Timestamp::from_millis(u64::MAX)), "beyond the calendar");
        for text in
            ["2026-06-01T09:00:00", "2026-06-01 09:00", "2026-06-01T07:00:00Z", "2026-06-01T12:00:00+05:00"]
        {
            assert_eq!(zone.parse_time(text), Some(at("2026-06-01T07:00Z")), "{text}");
        }
        assert_eq!(zone.parse_time("2026-06-01"), Some(at("2026-05-31T22:00Z")));
        for text in ["", "tomorrow", "1960-01-01", "9:00"] {
            assert_eq!(zone.parse_time(text), None, "{text}");
        }
    }

    #[test]
    fn several_expressions_come_in_one_order_and_once_at_the_same_time() {
        let times = times(&["0 9 * * *", "0 9 * * mon", "30 12 * * *"], &[], "UTC");
        let found: Vec<String> = times.after(at("2026-11-30T00:00Z")).take(3).map(shown).collect();
        assert_eq!(found, ["2026-11-30T09:00:00Z", "2026-11-30T12:30:00Z", "2026-12-01T09:00:00Z"]);
    }

    #[test]
    fn what_is_excluded_does_not_come_however_dense_the_rest() {
        let times = times(&["* * * * * *"], &["* * 24-26 12 *", "* * * * sun"], "Europe/Berlin");
        let next = |after| times.next_after(at(after)).map(shown).expect("there is one");
        assert_eq!(next("2026-12-23T22:59:58Z"), "2026-12-23T22:59:59Z");
        // 27 December 2026 is a Sunday.
        assert_eq!(next("2026-12-23T22:59:59Z"), "2026-12-27T23:00:00Z");
        // The Sunday on which the clock skips an hour ends an hour earlier.
        assert_eq!(next("2026-03-28T22:59:59Z"), "2026-03-29T22:00:00Z");
        assert_eq!(next("2026-10-24T21:59:59Z"), "2026-10-25T23:00:00Z");
    }

    #[test]
    fn a_schedule_whose_times_are_all_excluded_has_none_and_says_so_soon() {
        assert_eq!(times(&["* * * * * *"], &["* * * * *"], "UTC").next_after(at("2026-01-01T00:00Z")), None);
        assert_eq!(times(&["0 9 * * *"], &["0 9 * * *"], "UTC").next_after(at("2026-01-01T00:00Z")), None);
    }

    #[test]
    fn an_interval_counts_from_1970_with_its_phase() {
        let times = every(Duration::from_secs(3600), Duration::from_secs(600));
        let found: Vec<String> = times.after(at("2026-03-29T00:10Z")).take(3).map(shown).collect();
        assert_eq!(found, ["2026-03-29T01:10:00Z", "2026-03-29T02:10:00Z", "2026-03-29T03:10:00Z"]);
        assert_eq!(times.next_after(Timestamp::from_millis(0)), Some(at("1970-01-01T00:10Z")));
    }

    #[test]
    fn it_starts_at_the_start_and_is_over_before_the_end() {
        let (start, end) = (at("2026-06-01T09:00Z"), at("2026-06-03T09:00Z"));
        let base = Base::Cron(crons(&["0 9 * * *"]));
        let times = Times::new(base, Vec::new(), Zone::utc(), Some(start), Some(end)).expect("valid");
        let found: Vec<String> = times.after(at("2026-01-01T00:00Z")).map(shown).collect();
        assert_eq!(found, ["2026-06-01T09:00:00Z", "2026-06-02T09:00:00Z"]);
    }

    #[test]
    fn bounds_are_kept() {
        let hour = Duration::from_secs(3600);
        let of = |base, start, end| Times::new(base, Vec::new(), Zone::utc(), start, end).map(drop);
        let interval = |period, phase| of(Base::Every { period, phase }, None, None);
        assert_eq!(of(Base::Cron(Vec::new()), None, None), Err(InvalidTimes::Number));
        assert_eq!(
            of(Base::Cron(vec![crons(&["@daily"])[0].clone(); 17]), None, None),
            Err(InvalidTimes::Number)
        );
        assert_eq!(interval(Duration::from_millis(999), Duration::ZERO), Err(InvalidTimes::Every));
        assert_eq!(interval(EVERY_MAX + hour, Duration::ZERO), Err(InvalidTimes::Every));
        assert_eq!(interval(hour, hour), Err(InvalidTimes::Phase));
        let noon = Some(at("2026-06-01T12:00Z"));
        assert_eq!(
            of(Base::Every { period: hour, phase: Duration::ZERO }, noon, noon),
            Err(InvalidTimes::End)
        );
    }

    #[test]
    fn an_expression_of_one_weekday_is_found_day_by_day_not_minute_by_minute() {
        let times = times(&["0 0 29 2 *"], &[], "Europe/Berlin");
        let started = std::time::Instant::now();
        assert_eq!(times.after(at("2026-01-01T00:00Z")).take(200).count(), 200);
        assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    }

    const ZONES: [&str; 6] =
        ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Pacific/Apia", "Asia/Kathmandu"];
    const CRONS: [&str; 9] = [
        "* * * * *",
        "30 2 * * *",
        "0 */6 * * *",
        "15 1-2 * * *",
        "*/7 * * * *",
        "0 9 * * 1-5",
        "0 0 L * *",
        "*/20 * * * * *",
        "0 0 13 * 5",
    ];

    proptest! {
        #[test]
        fn the_next_time_is_after_and_all_that_follow_rise(
            cron in 0..CRONS.len(), zone in 0..ZONES.len(), after in 0..4_000_000_000_000u64,
        ) {
            let times = times(&[CRONS[cron]], &["* 3-4 * * *"], ZONES[zone]);
            let after = Timestamp::from_millis(after);
            let mut last = after;
            for next in times.after(after).take(20) {
                prop_assert!(next > last && next.as_millis() % 1000 == 0);
                last = next;
            }
            prop_assert!(last > after);
        }

        #[test]
        fn a_time_found_is_the_next_of_every_instant_before_it(
            cron in 0..CRONS.len(), zone in 0..ZONES.len(), after in 0..4_000_000_000_000u64, part in 0.0..1.0f64,
        ) {
            let times = times(&[CRONS[cron]], &[], ZONES[zone]);
            let after = Timestamp::from_millis(after);
            let next = times.next_after(after).expect("there is one");
            let wait = (next.as_millis() - after.as_millis()) as f64;
            let between = Timestamp::from_millis(after.as_millis() + (wait * part) as u64);
            prop_assert_eq!(times.next_after(between), Some(next));
        }

        #[test]
        fn an_interval_comes_at_its_phase(period in 1000..100_000_000u64, phase: u64, after in 0..4_000_000_000_000u64) {
            let phase = phase % period;
            let next = every(Duration::from_millis(period), Duration::from_millis(phase))
                .next_after(Timestamp::from_millis(after)).expect("there is one").as_millis();
            prop_assert!(next > after && next % period == phase);
            prop_assert!(next - after <= period || after < phase);
        }
    }
}
