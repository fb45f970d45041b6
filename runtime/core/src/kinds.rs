//! The kinds that a component declares, and how they compare with those that its plugin's TOML lists.
//!
//! A component that was built with an SDK has a custom section with the kinds that it has handlers for, one per line. A
//! component without it may handle anything.

use crate::id::Kind;

/// The name of the custom section.
pub const SECTION: &str = "sandhog:kinds";

/// Maximum number of kinds that a component may declare.
pub const DECLARED_MAX: usize = 10_000;

/// Reason why a section doesn't declare kinds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSection {
    /// A line is not a kind.
    #[error("its section {SECTION} has a line that is no kind: {0}")]
    Line(#[from] crate::id::InvalidName),
    /// The section isn't UTF-8.
    #[error("its section {SECTION} is not UTF-8")]
    Text,
    /// The section declares more than [`DECLARED_MAX`] kinds.
    #[error("its section {SECTION} declares more than {DECLARED_MAX} kinds")]
    TooMany,
}

/// Parses the kinds that a section declares, in its order.
///
/// # Errors
/// If it isn't a list of kinds, one per line, or declares more than [`DECLARED_MAX`].
pub fn parse(section: &[u8]) -> Result<Vec<Kind>, InvalidSection> {
    let text = std::str::from_utf8(section).map_err(|_| InvalidSection::Text)?;
    let mut kinds = Vec::new();
    for line in text.lines() {
        if kinds.len() == DECLARED_MAX {
            return Err(InvalidSection::TooMany);
        }
        kinds.push(Kind::parse(line)?);
    }
    Ok(kinds)
}

/// Difference between the kinds of a component and those of its plugin's TOML.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Difference {
    /// Kinds that the TOML lists, and for which the component has no handler: their jobs would fail for good.
    pub unhandled: Vec<Kind>,
    /// Kinds for which the component has handlers, and which the TOML doesn't list: no jobs go there.
    pub unlisted: Vec<Kind>,
}

/// Compares the kinds that a component `declared` with those that a TOML `listed`. Each list of the result is in the order
/// of the one that it is from.
#[must_use]
pub fn compare(declared: &[Kind], listed: &[Kind]) -> Difference {
    let beyond = |these: &[Kind], those: &[Kind]| -> Vec<Kind> {
        these.iter().filter(|kind| !those.contains(kind)).cloned().collect()
    };
    Difference { unhandled: beyond(listed, declared), unlisted: beyond(declared, listed) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(texts: &[&str]) -> Vec<Kind> {
        texts.iter().map(|text| Kind::parse(text).expect("valid")).collect()
    }

    #[test]
    fn a_section_has_a_kind_a_line() {
        assert_eq!(parse(b"a.run\nb.run\n"), Ok(kinds(&["a.run", "b.run"])));
        assert_eq!(parse(b""), Ok(Vec::new()));
        assert_eq!(parse(b"\xff\n"), Err(InvalidSection::Text));
        assert!(matches!(parse(b"a.run\n\n"), Err(InvalidSection::Line(_))));
        assert!(matches!(parse(b"Not a kind\n"), Err(InvalidSection::Line(_))));
        assert_eq!(parse("a\n".repeat(DECLARED_MAX + 1).as_bytes()), Err(InvalidSection::TooMany));
    }

    #[test]
    fn what_differs_is_told_by_who_has_it() {
        let difference = compare(&kinds(&["a", "b", "c"]), &kinds(&["d", "b", "e"]));
        assert_eq!(difference.unhandled, kinds(&["d", "e"]));
        assert_eq!(difference.unlisted, kinds(&["a", "c"]));
        assert_eq!(compare(&kinds(&["a", "b"]), &kinds(&["b", "a"])), Difference::default());
    }
}
