//! Redaction: keeps the secrets of a plugin out of all text that its handlers produce.

use aho_corasick::{AhoCorasick, MatchKind};

use crate::plugin::{EnvValue, Grants};

/// Minimum length of a value that is redacted, in bytes. A shorter value would be found everywhere, and redacting it would tell
/// what it is.
const VALUE_MIN: usize = 4;

/// Minimum length, in bytes, from which a line of a value of several lines is redacted by itself too: logs are made of lines.
const LINE_MIN: usize = 8;

/// Replaces the values of secrets by their names.
#[derive(Debug)]
pub(crate) struct Redactor {
    finder: AhoCorasick,
    /// Replacements, by number of the pattern.
    masks: Vec<String>,
    longest: usize,
}

impl Redactor {
    /// Creates a redactor of all secrets among the grants. `None` if there are none.
    pub(crate) fn new(grants: &Grants) -> Option<Self> {
        let granted = grants.secrets.iter().map(|(name, secret)| (name.as_str(), secret.reveal()));
        let env = grants.env.iter().filter_map(|(name, value)| match value {
            EnvValue::Secret(secret) => Some((name.as_str(), secret.reveal())),
            EnvValue::Plain(_) => None,
        });
        let (mut patterns, mut masks) = (Vec::new(), Vec::new());
        for (name, value) in granted.chain(env) {
            let lines = value.lines().map(str::trim).filter(|line| line.len() >= LINE_MIN);
            for pattern in [value].into_iter().filter(|value| value.len() >= VALUE_MIN).chain(lines) {
                if !patterns.contains(&pattern) {
                    patterns.push(pattern);
                    masks.push(format!("[secret {name}]"));
                }
            }
        }
        let longest = patterns.iter().map(|pattern| pattern.len()).max()?;
        let finder = AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(&patterns);
        // This fails for patterns of gigabytes alone, and a secret has at most some KiB.
        Some(Self { finder: finder.ok()?, masks, longest })
    }

    /// Returns the text with its secrets redacted.
    pub(crate) fn text(&self, text: String) -> String {
        if self.finder.is_match(&text) { self.finder.replace_all(&text, &self.masks) } else { text }
    }

    /// Redacts secrets as [`Self::text`] does, in bytes that may be cut anywhere.
    pub(crate) fn bytes(&self, bytes: Vec<u8>) -> Vec<u8> {
        if self.finder.is_match(&bytes) { self.finder.replace_all_bytes(&bytes, &self.masks) } else { bytes }
    }

    /// Number of bytes at the end of a redacted piece that may be the beginning of a secret.
    pub(crate) fn overlap(&self) -> usize {
        self.longest - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::Secret;
    use proptest::prelude::*;

    fn redactor(secrets: &[(&str, &str)]) -> Option<Redactor> {
        let secret = |(name, value): &(&str, &str)| ((*name).to_owned(), Secret::new((*value).to_owned()));
        Redactor::new(&Grants { secrets: secrets.iter().map(secret).collect(), ..Grants::default() })
    }

    #[test]
    fn a_secret_becomes_its_name_wherever_it_stands() {
        let redactor =
            redactor(&[("TOKEN", "hunter2"), ("LONG", "hunter2-and-more")]).expect("there are secrets");
        let redacted = redactor.text("hunter2, xhunter2x, hunter2-and-more, hunter".to_owned());
        assert_eq!(redacted, "[secret TOKEN], x[secret TOKEN]x, [secret LONG], hunter");
        assert_eq!(redactor.bytes(b"\xffhunter2\xff".to_vec()), b"\xff[secret TOKEN]\xff");
    }

    #[test]
    fn the_lines_of_a_key_are_secret_by_themselves() {
        let key = "-----BEGIN KEY-----\nMIIEvgIBADANBgkq\nhkiG9w0B\nx=\n-----END KEY-----\n";
        let redactor = redactor(&[("KEY", key)]).expect("there is a secret");
        assert_eq!(redactor.text("got MIIEvgIBADANBgkq".to_owned()), "got [secret KEY]");
        assert_eq!(redactor.text(format!("<{key}>")), "<[secret KEY]>");
    }

    #[test]
    fn only_what_is_kept_elsewhere_is_secret_in_the_environment() {
        let env = vec![
            ("LANG".to_owned(), EnvValue::Plain("C.UTF-8".to_owned())),
            ("API_KEY".to_owned(), EnvValue::Secret(Secret::new("hunter2".to_owned()))),
        ];
        let redactor = Redactor::new(&Grants { env, ..Grants::default() }).expect("there is a secret");
        assert_eq!(redactor.text("C.UTF-8 hunter2".to_owned()), "C.UTF-8 [secret API_KEY]");
    }

    #[test]
    fn without_secrets_there_is_nothing_to_do() {
        assert!(redactor(&[]).is_none() && redactor(&[("SHORT", "abc")]).is_none());
    }

    proptest! {
        #[test]
        fn no_text_keeps_a_secret(parts in proptest::collection::vec("(hunter2|hunt|er2|[a-z ]{0,5})", 0..10)) {
            let redactor = redactor(&[("T", "hunter2")]).expect("there is a secret");
            prop_assert!(!redactor.text(parts.concat()).contains("hunter2"));
        }
    }
}
