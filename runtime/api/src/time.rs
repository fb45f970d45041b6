//! Points in time, as programs read and write them.

use std::fmt;

use sandhog_core::time::Timestamp;
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A point in time, written in RFC 3339, in UTC, to the millisecond. Milliseconds since 1970 are read as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(pub Timestamp);

impl Time {
    /// Returns the time in RFC 3339; `None` after the year 9999.
    #[must_use]
    pub fn rfc3339(self) -> Option<String> {
        let at = i64::try_from(self.0.as_millis()).ok()?;
        Some(jiff::Timestamp::from_millisecond(at).ok()?.to_string())
    }
}

impl From<Timestamp> for Time {
    fn from(at: Timestamp) -> Self {
        Self(at)
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.rfc3339().as_deref().unwrap_or("after the year 9999"))
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TimeVisitor)
    }
}

struct TimeVisitor;

impl Visitor<'_> for TimeVisitor {
    type Value = Time;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a time in RFC 3339, or milliseconds since 1970")
    }

    fn visit_u64<E: Error>(self, millis: u64) -> Result<Time, E> {
        Ok(Time(Timestamp::from_millis(millis)))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Time, E> {
        let at: jiff::Timestamp = text.parse().map_err(E::custom)?;
        let millis = u64::try_from(at.as_millisecond()).map_err(E::custom)?;
        self.visit_u64(millis)
    }
}

/// Parses a time in RFC 3339, with its offset.
///
/// # Errors
/// The text is none, or a time before 1970.
pub fn parse_time(text: &str) -> Result<Timestamp, &'static str> {
    let at: jiff::Timestamp =
        text.parse().map_err(|_| "it is a time in RFC 3339, such as 2026-11-24T18:00:00Z")?;
    u64::try_from(at.as_millisecond()).map(Timestamp::from_millis).map_err(|_| "it is before 1970")
}

/// Formats a time in RFC 3339; `None` after the year 9999.
pub(crate) fn at_of(at: Timestamp) -> Option<String> {
    Time(at).rfc3339()
}

/// Formats a time for people.
pub(crate) fn shown(at: Timestamp) -> String {
    Time(at).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_read_as_it_is_written_and_from_milliseconds() {
        let at = Time(Timestamp::from_millis(1_500));
        let text = serde_json::to_string(&at).expect("it can be written");
        assert_eq!(text, "\"1970-01-01T00:00:01.5Z\"");
        for text in [text.as_str(), "1500"] {
            assert_eq!(serde_json::from_str::<Time>(text).expect("it can be read"), at);
        }
        for wrong in ["\"yesterday\"", "-1", "\"1969-12-31T23:59:59Z\"", "null"] {
            assert!(serde_json::from_str::<Time>(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_time_that_no_calendar_has_is_said_in_words() {
        assert_eq!(Time(Timestamp::from_millis(u64::MAX)).to_string(), "after the year 9999");
    }
}
