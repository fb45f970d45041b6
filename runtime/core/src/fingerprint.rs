//! Fingerprints of failures: what jobs that died of the same have in common.
//!
//! Two messages of the same error differ in what they are about: a number, an id, a quoted name. Without these they are alike, so
//! that ten thousand dead jobs are a handful of groups.

use std::fmt;

use crate::id::Kind;
use crate::reason::Reason;

/// Number of a message's first characters that count.
pub const MESSAGE_LOOKED_AT: usize = 512;

/// Stands for a number or an id.
const NUMBER: char = '#';

/// Stands for what is quoted.
const QUOTED: char = '…';

/// Shortest text of hexadecimal digits that is taken for an id, if one of them is decimal.
const HEX_MIN: usize = 8;

/// Lengths of the parts of a UUID.
const UUID: [usize; 5] = [8, 4, 4, 4, 12];

/// Fingerprint of a failure: the same for failures of a kind, for a reason, whose messages have one [`pattern()`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint(u64);

impl Fingerprint {
    /// Creates the fingerprint of failures of this kind and reason, whose messages have this pattern.
    #[must_use]
    pub fn of(kind: &Kind, reason: Option<Reason>, pattern: &str) -> Self {
        // FNV-1a: nothing is proven by it, and it is the same in each version.
        let parts = [kind.as_str(), reason.map_or("", Reason::slug), pattern];
        let bytes = parts.iter().flat_map(|part| part.bytes().chain([0]));
        Self(bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        }))
    }
}

/// Writes 16 hexadecimal digits.
impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Returns a message without what differs from one failure to the next of the same: numbers and ids are `#`, and what is quoted is
/// `…`. Of a long message, the first [`MESSAGE_LOOKED_AT`] characters count.
///
/// ```
/// # use sandhog_core::fingerprint::pattern;
/// assert_eq!(pattern("order 7741: can't open \"a.png\" (10.0.0.7:80)"), "order #: can't open \"…\" (#)");
/// ```
#[must_use]
pub fn pattern(message: &str) -> String {
    let message: Vec<char> = message.chars().take(MESSAGE_LOOKED_AT).collect();
    let mut pattern = Pattern::default();
    let mut at = 0;
    while let Some(&first) = message.get(at) {
        let rest = &message[at..];
        let is_within_word = at > 0 && is_of_word(message[at - 1]);
        if let Some(length) = quoted(rest).filter(|_| !is_within_word) {
            pattern.text.extend([first, QUOTED, rest[length - 1]]);
            at += length;
        } else if first.is_whitespace() {
            let length = rest.iter().take_while(|c| c.is_whitespace()).count();
            pattern.text.push(' ');
            at += length;
        } else if is_of_word(first) {
            let length = uuid(rest).unwrap_or(0);
            if length > 0 {
                pattern.number();
                at += length;
                continue;
            }
            let length = rest.iter().take_while(|c| is_of_word(**c)).count();
            pattern.word(&rest[..length]);
            at += length;
        } else {
            pattern.text.push(first);
            at += 1;
        }
    }
    pattern.text.trim().to_owned()
}

/// A pattern that is being made.
#[derive(Default)]
struct Pattern {
    text: String,
    /// Length of the text up to which its end is a number.
    number_until: Option<usize>,
}

impl Pattern {
    /// Adds a number. One that a single mark parts from another belongs to it, as in a time, an address or a version.
    fn number(&mut self) {
        if let Some(end) = self.number_until {
            let mut between = self.text[end..].chars();
            if let (Some('.' | ',' | ':' | '-' | '/' | '+'), None) = (between.next(), between.next()) {
                self.text.truncate(end);
                return;
            }
        }
        self.text.push(NUMBER);
        self.number_until = Some(self.text.len());
    }

    fn word(&mut self, word: &[char]) {
        let digits = word.iter().filter(|c| is_digit(**c)).count();
        let starts = |n: usize| is_digit(word[n]) && (n == 0 || !is_digit(word[n - 1]));
        let numbers = (0..word.len()).filter(|n| starts(*n)).count();
        let is_hex = word.len() >= HEX_MIN && word.iter().all(|c| c.is_ascii_hexdigit() || *c == NUMBER);
        match numbers {
            0 => self.text.extend(word),
            _ if digits == word.len() || numbers > 1 || is_hex => self.number(),
            // A number with its unit, such as `5ms`, or a name with a number in it, such as `worker7`.
            _ => {
                match is_digit(word[0]) {
                    true => self.number(),
                    false => {
                        self.text.extend(word.iter().take_while(|c| !is_digit(**c)));
                        self.text.push(NUMBER);
                    }
                }
                let behind = word.iter().skip_while(|c| !is_digit(**c)).skip_while(|c| is_digit(**c));
                self.text.extend(behind);
            }
        }
    }
}

/// Whether it is a part of a word or a number. The mark of a number is one, so that a pattern's pattern is itself.
fn is_of_word(c: char) -> bool {
    c.is_alphanumeric() || c == NUMBER
}

fn is_digit(c: char) -> bool {
    c.is_ascii_digit() || c == NUMBER
}

/// Returns the length of the quoted text with which a text begins, quotes included. `None` if it begins with none.
fn quoted(text: &[char]) -> Option<usize> {
    let close = match text.first()? {
        quote @ ('"' | '\'' | '`') => *quote,
        '“' => '”',
        _ => return None,
    };
    let ends = |n: usize| text[n] == close && !text.get(n + 1).is_some_and(|next| is_of_word(*next));
    let end = (1..text.len()).find(|n| ends(*n))?;
    (end > 1).then_some(end + 1)
}

/// Returns the length of the UUID with which a text begins. `None` if it begins with none.
fn uuid(text: &[char]) -> Option<usize> {
    let mut at = 0;
    for (n, length) in UUID.into_iter().enumerate() {
        if n > 0 {
            (text.get(at) == Some(&'-')).then_some(())?;
            at += 1;
        }
        text.get(at..at + length)?.iter().all(char::is_ascii_hexdigit).then_some(())?;
        at += length;
    }
    (!text.get(at).is_some_and(|next| is_of_word(*next))).then_some(at)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn messages_of_the_same_error_have_one_pattern() {
        for (message, wanted) in [
            ("", ""),
            ("timed out", "timed out"),
            ("timed out after 1.5s", "timed out after #s"),
            ("timed out after 1500 ms", "timed out after # ms"),
            ("job 01JDZ5M6K7R2V3W4X5Y6Z7A8B9 is gone", "job # is gone"),
            ("user 1a2b3c4d-cafe-4d5e-abcd-0123456789ab", "user #"),
            ("cafecafe-cafe-cafe-cafe-cafecafecafe?", "#?"),
            ("sha256 deadbeef0 doesn't fit", "sha# # doesn't fit"),
            ("at 2026-12-01 16:47:25", "at # #"),
            ("10.0.0.7:8080 refused", "# refused"),
            ("no file 'a b.png', no `x`, no “y”", "no file '…', no `…`, no “…”"),
            ("can't and won't", "can't and won't"),
            ("an \"open quote", "an \"open quote"),
            ("an empty \"\" one", "an empty \"\" one"),
            ("two\n  lines", "two lines"),
            ("HTTP 503 from worker7", "HTTP # from worker#"),
            ("job_12 of a/7", "job_# of a/#"),
        ] {
            assert_eq!(pattern(message), wanted, "{message}");
        }
    }

    #[test]
    fn kind_and_reason_tell_failures_apart_as_well() {
        let kind = |name: &str| Kind::parse(name).expect("valid");
        let one = Fingerprint::of(&kind("a.b"), Some(Reason::Failed), "x");
        assert_eq!(one, Fingerprint::of(&kind("a.b"), Some(Reason::Failed), "x"));
        for other in [
            Fingerprint::of(&kind("a.c"), Some(Reason::Failed), "x"),
            Fingerprint::of(&kind("a.b"), None, "x"),
            Fingerprint::of(&kind("a.b"), Some(Reason::Failed), "y"),
        ] {
            assert_ne!(one, other);
        }
        assert_eq!(one.to_string().len(), 16);
    }

    /// Texts in which there is something to be taken out.
    fn message() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            "[a-z]{1,6}",
            "[0-9]{1,6}",
            "[0-9a-f]{7,10}",
            "[ \\n]{1,2}",
            "[-.,:/+_#…'\"`“”]{1,2}",
            "\\PC",
        ];
        prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn a_pattern_is_its_own_and_no_longer_than_what_counts(message in message()) {
            let once = pattern(&message);
            prop_assert_eq!(&pattern(&once), &once);
            prop_assert!(once.chars().count() <= MESSAGE_LOOKED_AT);
            prop_assert!(!once.bytes().any(|byte| byte.is_ascii_digit()));
        }

        #[test]
        fn another_number_or_name_makes_no_other_pattern(
            (one, other) in (any::<u64>(), any::<u64>()),
            (name, another) in ("[a-z.é]{1,9}", "[A-Z ]{1,9}"),
        ) {
            let message = |number: u64, name: &str| format!("order {number}: no '{name}' at {number}, v{number}");
            prop_assert_eq!(pattern(&message(one, &name)), pattern(&message(other, &another)));
        }
    }
}
