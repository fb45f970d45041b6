//! Escaping of text that somebody else wrote, so that it is fit to be shown: in a log, on a terminal, in a document.
//!
//! Handlers, components and producers choose messages, names and payloads. Shown as they are, these could end a line of the
//! log and begin one that nobody logged, command a terminal, or have it show characters in another order than they stand in.

use std::borrow::Cow;
use std::fmt::{self, Write};

/// Whether a character may change how the text around it is shown: a control character (the line feed among them), a line
/// or paragraph separator, or one that sets the direction of text (Unicode's `Bidi_Control`).
#[must_use]
pub fn is_unsafe(c: char) -> bool {
    matches!(c,
        '\0'..='\x1f' | '\x7f'..='\u{9f}' | '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    )
}

/// Whether a character is unsafe in text of several lines, in which line feeds and tabs are allowed.
fn is_unsafe_in_lines(c: char) -> bool {
    is_unsafe(c) && c != '\n' && c != '\t'
}

/// Escapes text to one line and nothing else: each unsafe character is shown by its escape, such as `\n` or `\u{1b}`.
#[must_use]
pub fn line(text: &str) -> Cow<'_, str> {
    escaped(text, is_unsafe)
}

/// Escapes text that may have several lines: like [`line()`], but line feeds and tabs stay.
#[must_use]
pub fn block(text: &str) -> Cow<'_, str> {
    escaped(text, is_unsafe_in_lines)
}

fn escaped(text: &str, is_escaped: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&is_escaped) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match is_escaped(c) {
            true => shown.extend(c.escape_default()),
            false => shown.push(c),
        }
    }
    Cow::Owned(shown)
}

/// Escapes a JSON document, which keeps its meaning: in strings, each unsafe character becomes its escape; between them a
/// carriage return becomes a blank.
#[must_use]
pub fn json(document: &str) -> Cow<'_, str> {
    // Outside of strings, JSON allows no such character but white space; inside of them, no control character below the
    // blank.
    if !document.contains(is_unsafe_in_lines) {
        return Cow::Borrowed(document);
    }
    let mut shown = String::with_capacity(document.len() + 8);
    for c in document.chars() {
        match c {
            '\r' => shown.push(' '),
            c if is_unsafe_in_lines(c) => shown.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => shown.push(c),
        }
    }
    Cow::Owned(shown)
}

/// Writer that makes one line of whatever is written to it: passes it on, escaped as by [`line()`].
pub struct OneLine<'w>(pub &'w mut dyn Write);

impl Write for OneLine<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.write_str(&line(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_line_stays_one_and_what_is_harmless_stays_as_it_is() {
        assert_eq!(line("ok\nERROR no\x1b[2J\u{202e}"), "ok\\nERROR no\\u{1b}[2J\\u{202e}");
        assert_eq!(block("a\n\tb\r\u{9b}"), "a\n\tb\\r\\u{9b}");
        let harmless = "Grüße, 世界 \u{1f980} – \"C:\\n\"";
        assert!(matches!(line(harmless), Cow::Borrowed(same) if same == harmless));
        let (said, mut shown) = ("a\n", String::new());
        write!(OneLine(&mut shown), "{said}b").expect("memory takes it");
        assert_eq!(shown, "a\\nb");
    }

    proptest! {
        #[test]
        fn nothing_unsafe_is_left(text in any::<String>()) {
            prop_assert!(!line(&text).contains(is_unsafe));
            prop_assert!(!block(&text).contains(|c| is_unsafe(c) && c != '\n' && c != '\t'));
        }

        #[test]
        fn a_document_means_the_same(text in any::<String>(), key in "\\PC*|[\u{80}-\u{9f}\u{200e}\u{2028}-\u{202e}]*") {
            let document = serde_json::json!({ key: [text, 1.5, null] });
            for written in [document.to_string(), serde_json::to_string_pretty(&document).expect("JSON")] {
                let shown = json(&written);
                prop_assert!(!shown.contains(|c| is_unsafe(c) && c != '\n' && c != '\t'));
                let read: serde_json::Value = serde_json::from_str(&shown).expect("JSON");
                prop_assert_eq!(&read, &document);
            }
        }
    }
}
