//! One line of a log: an access line in the common or combined format, or any line that tells its level.

/// What is to be known of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogLine<'a> {
    /// A request to a web server.
    Access {
        method: &'a str,
        /// Without its query.
        path: &'a str,
        status: u16,
        bytes: u64,
    },
    /// Something at a level.
    Levelled(LineLevel),
}

/// The levels that logs have, by whatever name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum LineLevel {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
    Fatal,
}

/// A level comes early in its line; further on it is more likely a word of the message.
const WORDS_BEFORE_LEVEL_MAX: usize = 6;

impl<'a> LogLine<'a> {
    /// None if it is neither.
    pub(crate) fn parse(line: &'a str) -> Option<Self> {
        parse_access(line).or_else(|| parse_level(line).map(LogLine::Levelled))
    }
}

impl LineLevel {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Trace => "trace",
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
            Self::Fatal => "fatal",
        }
    }

    fn of_name(name: &str) -> Option<Self> {
        const NAMES: [(&str, LineLevel); 13] = [
            ("trace", LineLevel::Trace),
            ("debug", LineLevel::Debug),
            ("info", LineLevel::Info),
            ("notice", LineLevel::Info),
            ("warn", LineLevel::Warn),
            ("warning", LineLevel::Warn),
            ("err", LineLevel::Error),
            ("error", LineLevel::Error),
            ("severe", LineLevel::Error),
            ("crit", LineLevel::Fatal),
            ("critical", LineLevel::Fatal),
            ("fatal", LineLevel::Fatal),
            ("emerg", LineLevel::Fatal),
        ];
        NAMES.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, level)| *level)
    }
}

/// `host ident user [time] "METHOD /path HTTP/1.1" status bytes`, and whatever follows.
fn parse_access(line: &str) -> Option<LogLine<'_>> {
    let (client, rest) = line.split_once(" [")?;
    let (_time, rest) = rest.split_once("] \"")?;
    if client.split_ascii_whitespace().count() != 3 {
        return None;
    }
    // A quote inside the request is escaped by the servers that write this format.
    let (request, rest) = rest.split_once("\" ")?;
    let mut words = request.split_ascii_whitespace();
    let (method, target) = (words.next()?, words.next()?);
    if !method.bytes().all(|b| b.is_ascii_uppercase()) {
        return None;
    }
    let path = target.split_once('?').map_or(target, |(path, _)| path);

    let mut words = rest.split_ascii_whitespace();
    let status = words.next()?.parse().ok().filter(|status| (100..600).contains(status))?;
    let bytes = match words.next()? {
        "-" => 0,
        bytes => bytes.parse().ok()?,
    };
    Some(LogLine::Access { method, path, status, bytes })
}

/// `2026-01-01T00:00:00Z WARN …`, `[error] …`, `… level=info …`, `{"level":"info",…}`.
fn parse_level(line: &str) -> Option<LineLevel> {
    if let Some(level) = field(line, "level=").or_else(|| field(line, "\"level\":")) {
        return LineLevel::of_name(level);
    }
    line.split_ascii_whitespace()
        .take(WORDS_BEFORE_LEVEL_MAX)
        .map(|word| word.trim_matches(|c: char| !c.is_ascii_alphabetic()))
        .find_map(LineLevel::of_name)
}

fn field<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let (_, value) = line.split_once(name)?;
    let value = value.trim_start_matches([' ', '"']);
    let end = value.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(value.len());
    Some(&value[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn common_and_combined_access_lines_are_understood() {
        let common = r#"10.0.0.1 - ann [10/Oct/2026:13:55:36 -0700] "GET /a/b?c=d HTTP/1.1" 200 2326"#;
        let line = LogLine::Access { method: "GET", path: "/a/b", status: 200, bytes: 2326 };
        assert_eq!(LogLine::parse(common), Some(line));
        let combined =
            r#"::1 - - [10/Oct/2026:13:55:36 +0000] "POST /x HTTP/2.0" 304 - "http://a/" "curl/8 (error)""#;
        let line = LogLine::Access { method: "POST", path: "/x", status: 304, bytes: 0 };
        assert_eq!(LogLine::parse(combined), Some(line));
    }

    #[test]
    fn levels_are_found_where_logs_have_them() {
        let level = |line| LogLine::parse(line);
        let is = |level| Some(LogLine::Levelled(level));
        assert_eq!(level("2026-01-01T00:00:00Z  WARN disk is nearly full"), is(LineLevel::Warn));
        assert_eq!(level("2026/01/01 10:00:00 [error] 12#0: connect() failed"), is(LineLevel::Error));
        assert_eq!(level("Jan  1 10:00:00 host app[12]: INFO: started"), is(LineLevel::Info));
        assert_eq!(level("ts=1 msg=\"an error\" level=debug"), is(LineLevel::Debug));
        assert_eq!(level(r#"{"time":1,"level": "FATAL","msg":"x"}"#), is(LineLevel::Fatal));
    }

    #[test]
    fn what_is_neither_is_malformed() {
        for line in [
            "",
            "    at Main.run(Main.java:12)",
            "a line of seven words before an error",
            r#"10.0.0.1 - - [10/Oct/2026:13:55:36 -0700] "GET /a HTTP/1.1" 99 1"#,
            r#"10.0.0.1 - - [10/Oct/2026:13:55:36 -0700] "GET /a HTTP/1.1" 200 many"#,
            r#"10.0.0.1 - - [10/Oct/2026:13:55:36 -0700] "\x16\x03\x01" 400 0"#,
            "level=loud",
        ] {
            assert_eq!(LogLine::parse(line), None, "{line}");
        }
    }
}
