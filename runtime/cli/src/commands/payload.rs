//! Payloads: how they are read, and what they may be; the same rule on every way in.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use sandhog_core::budget::Bytes;
use sandhog_core::quota::QueueBounds;

use crate::exit::Failure;

/// Whether payloads have to be JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Check {
    Json,
    Nothing,
}

impl Check {
    /// Returns `Json`, unless the payload is to be taken as it is.
    pub(crate) fn unless(raw: bool) -> Self {
        if raw { Self::Nothing } else { Self::Json }
    }

    /// Checks these bytes and returns the payload; a byte order mark before JSON is removed.
    ///
    /// # Errors
    /// If they have to be JSON and are not.
    pub(crate) fn payload(self, mut bytes: Vec<u8>) -> Result<Vec<u8>, NotJson> {
        if self == Self::Nothing {
            return Ok(bytes);
        }
        if bytes.starts_with(MARK) {
            bytes.drain(..MARK.len());
        }
        match not_json(&bytes) {
            Some(problem) => Err(problem),
            None => Ok(bytes),
        }
    }
}

/// The byte order mark that editors on Windows put before a text; it is not part of the text.
const MARK: &[u8] = b"\xef\xbb\xbf";

/// Error for a payload that is not JSON; it holds nothing of the payload.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NotJson {
    /// A description of what is wrong.
    pub(crate) problem: String,
    /// The line and column, both from 1; `None` if the problem is the payload as a whole.
    pub(crate) place: Option<(usize, usize)>,
}

fn not_json(bytes: &[u8]) -> Option<NotJson> {
    if bytes.trim_ascii().is_empty() {
        return Some(NotJson { problem: "it is empty; no input is written `null`".to_owned(), place: None });
    }
    // serde_json checks for UTF-8 only where it keeps a text.
    if let Err(error) = std::str::from_utf8(bytes) {
        let before = &bytes[..error.valid_up_to()];
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        let column = before.rsplit(|byte| *byte == b'\n').next().map_or(0, <[u8]>::len) + 1;
        return Some(NotJson { problem: "it is not UTF-8".to_owned(), place: Some((line, column)) });
    }
    let error = serde_json::from_slice::<serde::de::IgnoredAny>(bytes).err()?;
    let (line, column) = (error.line(), error.column());
    let text = error.to_string();
    let problem = text.strip_suffix(&format!(" at line {line} column {column}")).unwrap_or(&text);
    Some(NotJson { problem: problem.to_owned(), place: Some((line, column)) })
}

/// Reads the one payload: from a file, from standard input, or as written on the command line.
///
/// # Errors
/// If it can't be read, has to be JSON and is not, or is larger than any payload may be.
pub(crate) fn read(inline: Option<&str>, file: Option<&Path>, check: Check) -> Result<Vec<u8>, Failure> {
    let (bytes, of) = match (file, inline) {
        (Some(file), _) => {
            let name = file.display().to_string();
            let opened = File::open(file).and_then(|file| bounded(file, &name));
            (opened.map_err(|cause| Failure::io(format!("read {name}"), &cause))?, format!(" in {name}"))
        }
        (None, Some("-")) => {
            let read = bounded(io::stdin().lock(), "standard input");
            let read = read.map_err(|cause| Failure::io("read standard input", &cause))?;
            (read, " on standard input".to_owned())
        }
        (None, inline) => (inline.unwrap_or("null").as_bytes().to_vec(), String::new()),
    };
    check.payload(bytes).map_err(|NotJson { problem, place }| {
        let place = match place {
            Some((line, column)) if !of.is_empty() => format!(" at line {line}, column {column}"),
            Some((_, column)) => format!(" at column {column}"),
            None => String::new(),
        };
        let failure = Failure::new(format!("the payload{of} is not JSON: {problem}{place}"));
        let quoted = "quote it for the shell: '{\"a\": 1}', '\"text\"'";
        let failure = if of.is_empty() { failure.help(quoted) } else { failure };
        failure.help("to take it as it is: --raw")
    })
}

/// Reads to the end, unless that is more than any payload may be.
fn bounded(from: impl Read, name: &str) -> io::Result<Vec<u8>> {
    let most = QueueBounds::PAYLOAD_MAX;
    let mut bytes = Vec::new();
    from.take(most.0 + 1).read_to_end(&mut bytes)?;
    match Bytes::of(bytes.len()) > most {
        true => Err(io::Error::other(format!("{name} is larger than {most}, and no payload may be"))),
        false => Ok(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(bytes: &[u8]) -> (String, Option<(usize, usize)>) {
        let NotJson { problem, place } = Check::Json.payload(bytes.to_vec()).expect_err("it is none");
        (problem, place)
    }

    #[test]
    fn json_is_taken_as_it_is_but_for_a_byte_order_mark() {
        for good in ["1e400", "{\"a\": 1, \"a\": 2}", " 1\n", &"[".repeat(9)[..0], "\"\u{e9}\""] {
            let taken = Check::Json.payload(good.as_bytes().to_vec());
            assert_eq!(taken.is_ok(), !good.is_empty(), "{good}");
        }
        assert_eq!(Check::Json.payload(b"\xef\xbb\xbf1".to_vec()), Ok(b"1".to_vec()));
        assert_eq!(Check::Nothing.payload(b"\xef\xbb\xbf\xff".to_vec()), Ok(b"\xef\xbb\xbf\xff".to_vec()));
    }

    #[test]
    fn what_is_no_json_is_told_with_its_place_and_without_a_word_of_it() {
        assert_eq!(problem(b"{\n oops}"), ("key must be a string".into(), Some((2, 2))));
        assert_eq!(
            problem(b"\"a\n"),
            ("control character (\\u0000-\\u001F) found while parsing a string".into(), Some((1, 2)))
        );
        assert_eq!(problem(b"\n\"\xff\""), ("it is not UTF-8".into(), Some((2, 2))));
        assert!(problem(b" \n").0.contains("empty"));
        assert!(!problem(b"hunter2").0.contains("hunter"));
    }
}
