//! What is wrong with the configuration, shown where it is wrong.
//!
//! ```text
//! error: limits.memory: "64Mib" is not a size
//!   --> plugins.d/thumbnail.toml:9:10
//!    |
//!  9 | memory = "64Mib"
//!    |          ^^^^^^^ a number and one of B, KiB, MiB, GiB, TiB, such as "64MiB"
//!    = help: did you mean "64MiB"?
//! ```
//!
//! A line of a file can hold a password. So the value is left out of a line that is about a key alone, or that looks as
//! if it named a secret, and the user and password of a URL always are.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// All that is wrong: at least one problem, in the order of files and lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems(Vec<Problem>);

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file, as the operator named it.
    pub file: PathBuf,
    /// Where in the file; none if the file as a whole is meant.
    pub place: Option<Place>,
    /// The full name of the key, such as `limits.memory`; empty if none is meant.
    pub key: String,
    /// What is wrong, with the value.
    pub problem: String,
    /// The rule that is broken; empty if the problem says it all.
    pub rule: String,
    /// What to do about it.
    pub help: Vec<String>,
}

/// A place in a file, with the line to show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// 1 for the first.
    pub line: usize,
    /// 1 for the first character.
    pub column: usize,
    /// The line, or the part of it around the place, without secrets.
    excerpt: String,
    /// The characters of the excerpt that are meant.
    marked: Range<usize>,
}

/// How much of a line is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shown {
    /// The line as it is, but for the user and password of a URL.
    Line,
    /// The line up to its value, because the value may be a secret.
    KeyAlone,
}

/// A file of the configuration, as it was read.
#[derive(Debug, Clone)]
pub(super) struct Source {
    /// The file, as the operator named it.
    pub(super) file: PathBuf,
    /// What is in it.
    pub(super) text: Arc<str>,
}

/// Longer lines are cut to about this many characters around the place that is meant.
const EXCERPT_MAX: usize = 100;

impl Problems {
    /// That one alone.
    pub(super) fn one(problem: Problem) -> Self {
        Self(vec![problem])
    }

    /// Those problems, if there are any: those of the file `first` first, and none twice.
    pub(super) fn some(mut problems: Vec<Problem>, first: &Path) -> Option<Self> {
        let place = |problem: &Problem| problem.place.as_ref().map(|place| (place.line, place.column));
        let rank = |problem: &Problem| (problem.file != first, problem.file.clone(), place(problem));
        problems.sort_by_cached_key(rank);
        problems.dedup();
        (!problems.is_empty()).then_some(Self(problems))
    }

    /// One after the other.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.0.iter()
    }

    /// How many there are; never none.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "it is never empty")]
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

impl std::error::Error for Problems {}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in &self.0 {
            writeln!(f, "{problem}")?;
        }
        match self.0.len() {
            1 => write!(f, "there is 1 problem in the configuration"),
            n => write!(f, "there are {n} problems in the configuration"),
        }
    }
}

impl Problem {
    /// A problem with a file as a whole.
    pub(super) fn of_file(file: &Path, problem: impl Into<String>) -> Self {
        Self {
            file: file.to_owned(),
            place: None,
            key: String::new(),
            problem: without_userinfo(problem.into()),
            rule: String::new(),
            help: Vec::new(),
        }
    }

    /// States the rule that is broken.
    pub(super) fn rule(mut self, rule: impl Into<String>) -> Self {
        self.rule = rule.into();
        self
    }

    /// Says what to do.
    pub(super) fn help(mut self, help: impl Into<String>) -> Self {
        self.help.push(without_userinfo(help.into()));
        self
    }

    /// The first line: which key, and what is wrong with it.
    #[must_use]
    pub fn headline(&self) -> String {
        if self.key.is_empty() { self.problem.clone() } else { format!("{}: {}", self.key, self.problem) }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "error: {}", self.headline())?;
        let file = self.file.display();
        let gutter = match &self.place {
            Some(place) => place.write(f, &file, &self.rule)?,
            None => {
                writeln!(f, " --> {file}")?;
                if !self.rule.is_empty() {
                    writeln!(f, "  = rule: {}", self.rule)?;
                }
                1
            }
        };
        for help in &self.help {
            writeln!(f, "{:gutter$} = help: {help}", "")?;
        }
        Ok(())
    }
}

impl Place {
    /// Writes the place and its line, and returns how wide the line's number is.
    fn write(
        &self,
        f: &mut fmt::Formatter<'_>,
        file: &dyn fmt::Display,
        label: &str,
    ) -> Result<usize, fmt::Error> {
        let number = self.line.to_string();
        let gutter = number.len();
        let (indent, width) = (self.marked.start, self.marked.len().max(1));
        let marks = format!("{:indent$}{:^<width$} {label}", "", "");
        writeln!(f, "{:gutter$}--> {file}:{}:{}", "", self.line, self.column)?;
        writeln!(f, "{:gutter$} |", "")?;
        writeln!(f, "{number} | {}", self.excerpt)?;
        writeln!(f, "{:gutter$} | {}", "", marks.trim_end())?;
        Ok(gutter)
    }
}

impl Source {
    /// A problem at a span of bytes of this file.
    pub(super) fn problem(
        &self,
        span: &Range<usize>,
        shown: Shown,
        key: impl Into<String>,
        problem: impl Into<String>,
    ) -> Problem {
        Problem {
            place: Some(self.place(span, shown)),
            key: key.into(),
            ..Problem::of_file(&self.file, problem)
        }
    }

    /// `file:line`, for a message about another place.
    pub(super) fn line_of(&self, span: &Range<usize>) -> String {
        format!("{}:{}", self.file.display(), self.place(span, Shown::Line).line)
    }

    fn place(&self, span: &Range<usize>, shown: Shown) -> Place {
        let start = self.text.floor_char_boundary(span.start);
        let line_start = self.text[..start].rfind('\n').map_or(0, |newline| newline + 1);
        let line_end = self.text[start..].find('\n').map_or(self.text.len(), |length| start + length);
        let end = self.text.floor_char_boundary(span.end.clamp(start, line_end));
        let column = self.text[line_start..start].chars().count();
        let marked = column..column + self.text[start..end].chars().count();
        let line: Vec<char> = self.text[line_start..line_end].trim_end_matches('\r').chars().collect();
        let (line, marked) = match shown {
            Shown::Line => mask_userinfo(line, marked),
            Shown::KeyAlone => {
                let (line, marked) = mask_value(line, marked);
                mask_userinfo(line, marked)
            }
        };
        let (excerpt, marked) = cut(&line, marked);
        let number = self.text[..line_start].bytes().filter(|byte| *byte == b'\n').count() + 1;
        Place { line: number, column: column + 1, excerpt, marked }
    }

    /// How much of the line at a byte can be shown where it may be that its value isn't even quoted.
    pub(super) fn shown_of_malformed(&self, at: usize) -> Shown {
        let before = &self.text[..self.text.floor_char_boundary(at)];
        let header = before.lines().rev().find(|line| line.trim_start().starts_with('[')).unwrap_or_default();
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let line = self.text[line_start..].lines().next().unwrap_or_default().to_ascii_lowercase();
        let key = line.split('=').next().unwrap_or_default();
        let secret = header.contains("secrets")
            || ["secret", "password", "passwd", "token", "url"].iter().any(|word| key.contains(word));
        if secret { Shown::KeyAlone } else { Shown::Line }
    }
}

/// A text that may show a value, which may be a URL that was written in the place of something else.
fn without_userinfo(text: String) -> String {
    if !text.contains("//") {
        return text;
    }
    mask_userinfo(text.chars().collect(), 0..0).0.into_iter().collect()
}

/// Replaces `user:password@` in URLs, and keeps the mark where it was.
fn mask_userinfo(mut line: Vec<char>, mut marked: Range<usize>) -> (Vec<char>, Range<usize>) {
    let mut from = 0;
    while let Some(scheme) = find(&line, from, &['/', '/']) {
        let authority = scheme + 2;
        let end = line[authority..]
            .iter()
            .position(|c| matches!(c, '/' | '"' | '\'' | ' '))
            .map_or(line.len(), |length| authority + length);
        from = authority;
        if let Some(at) = line[authority..end].iter().rposition(|c| *c == '@') {
            line.splice(authority..authority + at, ['…']);
            for edge in [&mut marked.start, &mut marked.end] {
                if *edge >= authority + at {
                    *edge -= at - 1;
                } else if *edge > authority {
                    *edge = authority;
                }
            }
        }
    }
    (line, marked)
}

fn find(line: &[char], from: usize, what: &[char]) -> Option<usize> {
    line.get(from..)?.windows(what.len()).position(|window| window == what).map(|at| from + at)
}

/// Replaces what follows the first `=`; a mark within it goes to the replacement.
fn mask_value(line: Vec<char>, marked: Range<usize>) -> (Vec<char>, Range<usize>) {
    let Some(equals) = line.iter().position(|c| *c == '=') else {
        return (vec!['…'], 0..1);
    };
    let mut masked: Vec<char> = line[..=equals].to_vec();
    masked.extend([' ', '…']);
    let marked = if marked.start > equals {
        equals + 2..equals + 3
    } else {
        marked.start..marked.end.clamp(marked.start, masked.len())
    };
    (masked, marked)
}

/// Cuts a long line around the mark, and shows nothing that could command a terminal.
fn cut(line: &[char], marked: Range<usize>) -> (String, Range<usize>) {
    let width = marked.len().min(EXCERPT_MAX / 2);
    let (from, before) = if line.len() <= EXCERPT_MAX || marked.start < EXCERPT_MAX / 2 {
        (0, "")
    } else {
        (marked.start - EXCERPT_MAX / 4, "…")
    };
    let to = line.len().min(from + EXCERPT_MAX);
    let after = if to < line.len() { "…" } else { "" };
    let printable = |c: &char| if c.is_control() { ' ' } else { *c };
    let middle: String = line.get(from..to).unwrap_or_default().iter().map(printable).collect();
    let start = marked.start.saturating_sub(from) + before.chars().count();
    (format!("{before}{middle}{after}"), start..start + width)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Source {
        Source { file: "a.toml".into(), text: text.into() }
    }

    fn shown(text: &str, what: &str, shown: Shown) -> String {
        let start = text.find(what).expect("it is there");
        let problem = source(text).problem(&(start..start + what.len()), shown, "k", "p");
        problem.to_string()
    }

    #[test]
    fn the_place_is_marked_whatever_stands_before_it() {
        let text = "[a]\nk = \"ü\" # \u{1b}[31m\tx";
        assert_eq!(
            shown(text, "\"ü\"", Shown::Line),
            "error: k: p\n --> a.toml:2:5\n  |\n2 | k = \"ü\" #  [31m x\n  |     ^^^\n"
        );
    }

    #[test]
    fn user_and_password_of_a_url_are_never_shown() {
        let text = "url = \"redis://me:hunter2@host:1/0\" x";
        let problem = shown(text, " x", Shown::Line);
        assert!(problem.contains("url = \"redis://…@host:1/0\" x"), "{problem}");
        assert!(!problem.contains("hunter2") && !problem.contains("me:"), "{problem}");
        let wrong_key = "\"redis://me:hunter2@host:1/0\" is not a choice";
        let problem = source(text).problem(&(0..3), Shown::Line, "broker.type", wrong_key).help(wrong_key);
        assert!(!problem.to_string().contains("hunter2"), "{problem}");
        let in_a_key = shown("redis://me:hunter2@host:1/0 = 1", "me", Shown::KeyAlone);
        assert!(!in_a_key.contains("hunter2"), "{in_a_key}");
    }

    #[test]
    fn the_value_of_a_key_that_may_be_secret_is_left_out() {
        for text in ["password = \"hunter2\"", "[secrets]\nX = hunter2", "password = \"a=hunter2"] {
            let span = text.len() - 3..text.len();
            let source = source(text);
            let shown = source.shown_of_malformed(span.start);
            let problem = source.problem(&span, shown, "", "p").to_string();
            assert!(!problem.contains("ter2") && problem.contains(" = …"), "{problem}");
        }
    }

    #[test]
    fn a_long_line_is_cut_around_the_place() {
        let text = format!("k = [{}bad{}]", "1, ".repeat(1000), ", 2".repeat(1000));
        let problem = shown(&text, "bad", Shown::Line);
        assert!(problem.lines().all(|line| line.chars().count() < 120), "{problem}");
        let lines: Vec<&str> = problem.lines().collect();
        let at = |line: &str, what: char| line.chars().position(|c| c == what);
        assert_eq!(at(lines[3], 'b'), at(lines[4], '^'));
    }

    #[test]
    fn any_span_of_any_text_can_be_shown() {
        use proptest::prelude::*;
        proptest!(|(text in ".*\n?.*", a: usize, b: usize)| {
            let (a, b) = (a % (text.len() + 1), b % (text.len() + 1));
            let source = source(&text);
            for shown in [Shown::Line, Shown::KeyAlone, source.shown_of_malformed(a)] {
                let _ = source.problem(&(a..b.max(a)), shown, "k", "p").to_string();
            }
        });
    }
}
