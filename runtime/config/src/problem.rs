//! Problems with the configuration, shown where they are.
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
//! A line of a file can hold a password. So the value is left out of a line that is about a key alone, or that looks as if
//! it named a secret, or that may have a URL in it; and so is any quotation in a message that may be a password, unless it
//! is a URL that can be read and has no login: see [`shown_url`].

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sandhog_core::redis::{ConfigError, shown_url};

/// Everything that is wrong: at least one problem, in the order of files and lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems(Vec<Problem>);

/// One problem with the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file's path, as the operator named it.
    pub file: PathBuf,
    /// Place in the file; `None` if the file as a whole is meant.
    pub place: Option<Place>,
    /// Full name of the key, such as `limits.memory`; empty if none is meant.
    pub key: String,
    /// Description of what is wrong, with the value.
    pub problem: String,
    /// Rule that is broken; empty if the problem says it all.
    pub rule: String,
    /// Suggestions of what to do about it.
    pub help: Vec<String>,
}

/// A place in a file, with the line to show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Number of the line, from 1.
    pub line: usize,
    /// Number of the column in characters, from 1.
    pub column: usize,
    /// Excerpt of the line around the place, or all of it, without secrets.
    excerpt: String,
    /// Range of the excerpt's characters to mark.
    marked: Range<usize>,
}

/// Part of a line that is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shown {
    /// The line as it is, unless it may have a login in it.
    Line,
    /// The line up to its value, because the value may be a secret.
    KeyAlone,
}

/// A file of the configuration, as it was read.
#[derive(Debug, Clone)]
pub(super) struct Source {
    /// The file's path, as the operator named it.
    pub(super) file: PathBuf,
    /// Text of the file.
    pub(super) text: Arc<str>,
}

/// Maximum number of problems listed where what is shown has to be bounded.
const LISTED_MAX: usize = 10;

/// Approximate maximum length in characters of an excerpt; longer lines are cut around the place to mark.
const EXCERPT_MAX: usize = 100;

impl Problems {
    /// Creates a list of that problem alone.
    pub(super) fn one(problem: Problem) -> Self {
        Self(vec![problem])
    }

    /// Creates a list of these problems, if there are any: those of the file `first` first, and none twice.
    pub(super) fn some(mut problems: Vec<Problem>, first: &Path) -> Option<Self> {
        let place = |problem: &Problem| problem.place.as_ref().map(|place| (place.line, place.column));
        let rank = |problem: &Problem| (problem.file != first, problem.file.clone(), place(problem));
        problems.sort_by_cached_key(rank);
        problems.dedup();
        (!problems.is_empty()).then_some(Self(problems))
    }

    /// Lists the first problems, for people, and the number of those left out: what is kept of a file that somebody else
    /// writes is bounded.
    #[must_use]
    pub fn listed(&self) -> String {
        let first = self.0.iter().take(LISTED_MAX).map(|problem| problem.to_string().trim_end().to_owned());
        let more = self.0.len().checked_sub(LISTED_MAX).filter(|more| *more > 0);
        let lines: Vec<String> = first.chain(more.map(|more| format!("and {more} more"))).collect();
        lines.join("\n")
    }

    /// Iterates over the problems in their order.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.0.iter()
    }

    /// Returns the number of problems, which is never zero.
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
    /// Creates a problem with a file as a whole.
    pub(super) fn of_file(file: &Path, problem: impl Into<String>) -> Self {
        Self {
            file: file.to_owned(),
            place: None,
            key: String::new(),
            problem: without_login(problem.into()),
            rule: String::new(),
            help: Vec::new(),
        }
    }

    /// Sets the rule that is broken.
    pub(super) fn rule(mut self, rule: impl Into<String>) -> Self {
        self.rule = rule.into();
        self
    }

    /// Adds a suggestion of what to do, unless it would show what may be a login.
    pub(super) fn help(mut self, help: impl Into<String>) -> Self {
        let help = help.into();
        if without_login(help.clone()) == help {
            self.help.push(help);
        }
        self
    }

    /// Sets the problem to why a server's configuration can't be used, with what to do. That text shows no secret of its
    /// own.
    pub(super) fn because(mut self, error: &ConfigError) -> Self {
        self.problem = error.to_string();
        if error.is_about_encoding() {
            self.help.push("to percent-encode a password: printf %s 'PASSWORD' | jq -sRr @uri".to_owned());
        }
        self
    }

    /// Returns the place, the key, and what is wrong with it, in one line.
    #[must_use]
    pub fn one_line(&self) -> String {
        let file = self.file.display();
        match &self.place {
            Some(Place { line, column, .. }) => format!("{file}:{line}:{column}: {}", self.headline()),
            None => format!("{file}: {}", self.headline()),
        }
    }

    /// Returns the first line: the key, and what is wrong with it.
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
    /// Writes the place and its line, and returns the width of the line's number.
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
    /// Creates a problem at a span of bytes of this file.
    pub(super) fn problem(
        &self,
        span: &Range<usize>,
        shown: Shown,
        key: impl Into<String>,
        problem: impl Into<String>,
    ) -> Problem {
        let key = key.into();
        let shown = if may_hold_login(&key) { Shown::KeyAlone } else { shown };
        Problem {
            place: Some(self.place(span, shown)),
            key: without_login(key),
            ..Problem::of_file(&self.file, problem)
        }
    }

    /// Returns `file:line`, for a message about another place.
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
        let may_have_login = may_have_login(&self.text[line_start..line_end]);
        let (line, marked) = match shown {
            Shown::Line if !may_have_login => (line, marked),
            Shown::Line | Shown::KeyAlone => mask_value(line, marked),
        };
        let (excerpt, marked) = cut(&line, marked);
        let number = self.text[..line_start].bytes().filter(|byte| *byte == b'\n').count() + 1;
        Place { line: number, column: column + 1, excerpt, marked }
    }

    /// Returns how much can be shown of the line at this byte, where the value may not even be quoted.
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

/// Whether a key, by its full name, holds a server's URL or address, or what is written in its place by mistake.
pub(super) fn may_hold_login(key: &str) -> bool {
    let name = key.rsplit('.').next().unwrap_or_default();
    let name = name.split('[').next().unwrap_or_default();
    matches!(name, "url" | "sentinels" | "cluster")
}

/// Whether there may be a URL or a login in a text.
fn may_have_login(text: &str) -> bool {
    text.contains('@') || text.contains("//")
}

/// Cuts what may be a login out of a message: from the first word that may have one, or the quotation in which it stands,
/// to the end of the last one.
fn without_login(text: String) -> String {
    let harmless = |word: &str| {
        let url = word.trim_matches(|c: char| "\"'`,;()".contains(c));
        !may_have_login(word) || (!word.contains('@') && shown_url(url) == url)
    };
    if text.split_whitespace().all(harmless) {
        return text;
    }
    let first = text.find(['@', '/']).unwrap_or_default();
    let last = text.rfind(['@', '/']).unwrap_or_default();
    // The longer of the word and the quotation counts, as a password may have blanks and quotes of its own.
    let word_begins = text[..first].rfind(char::is_whitespace).map_or(0, |at| at + 1);
    let begins = text[..first].find(['"', '`']).unwrap_or(first).min(word_begins);
    let word_length = text[last..].find(char::is_whitespace).unwrap_or(text.len() - last);
    let ends = last + text[last..].find(['"', '`']).unwrap_or_default().max(word_length);
    format!("{}…{}", &text[..begins], text[ends..].trim_start_matches(['"', '`']))
}

/// Replaces what follows the first `=`, or everything if what precedes it isn't plainly a key; a mark within it goes to the
/// replacement.
fn mask_value(line: Vec<char>, marked: Range<usize>) -> (Vec<char>, Range<usize>) {
    let of_key = |c: &char| c.is_ascii_alphanumeric() || "_-. \t".contains(*c);
    let equals = line.iter().position(|c| *c == '=');
    let Some(equals) = equals.filter(|equals| line[..*equals].iter().all(of_key)) else {
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

/// Cuts a long line around the mark, and replaces all that could command a terminal.
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
    fn a_line_that_may_have_a_login_in_it_is_shown_by_its_key_alone() {
        for (text, what, seen) in [
            ("url = \"redis://me:hunter2@host:1/0\" x", " x", "url = …"),
            ("  \"rediss://:a/hunter2=@myredis:6380/0\",", "rediss", "1 | …"),
            ("redis://me:hunter2@host:1/0 = 1", "me", "1 | …"),
            ("name = \"hunter2@host\"", "hunter2", "name = …"),
        ] {
            for how in [Shown::Line, Shown::KeyAlone] {
                let problem = shown(text, what, how);
                assert!(problem.contains(seen) && !problem.contains("hunter2"), "{problem}");
            }
        }
    }

    #[test]
    fn a_message_quotes_nothing_that_may_be_a_login() {
        for (text, seen) in [
            ("\"redis://me:hunter2@host\" is not a choice", "… is not a choice"),
            ("\"me:a b hunter2@host\" is not a choice", "… is not a choice"),
            ("\"rediss://:hunter2/x y@host\" is not a choice", "… is not a choice"),
            ("can't read /etc/redis://:hunter2@h: No such file", "can't read … No such file"),
            (
                "the environment variable rediss://:hunter2 is not set",
                "the environment variable … is not set",
            ),
            ("such as url = \"redis://127.0.0.1:6379\"", "such as url = \"redis://127.0.0.1:6379\""),
            ("can't read /etc/hunter: no", "can't read /etc/hunter: no"),
        ] {
            assert_eq!(without_login(text.to_owned()), seen);
        }
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
    fn of_many_problems_the_first_are_listed() {
        let problem = |n: usize| Problem::of_file("a.toml".as_ref(), format!("no. {n}"));
        let few = Problems::some((1..=2).map(problem).collect(), "a.toml".as_ref()).expect("there are some");
        assert_eq!(few.listed(), "error: no. 1\n --> a.toml\nerror: no. 2\n --> a.toml");
        let many =
            Problems::some((0..5000).map(problem).collect(), "a.toml".as_ref()).expect("there are some");
        let listed = many.listed();
        assert!(listed.ends_with("\nand 4990 more") && listed.len() < 1000, "{listed}");
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
