//! Reading of a TOML file key by key, which gathers all that is wrong with it.
//!
//! A [`File`] is one file being read; [`Fields`] is one table of it. Each key is asked for once, by name and type. What
//! can't be read is noted with its place, and a default stands in, so that reading goes on and finds the rest. Keys
//! that nobody asked for are noted at the end, with the key that may have been meant.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::{Problem, Shown, Source, may_hold_login};
use super::value::{Read, Refusal, found};

/// One file, and what was found out about it so far.
pub(super) struct File {
    source: Source,
    problems: RefCell<Vec<Problem>>,
    /// Places of the values that were asked for and are there, by the full name of their key.
    places: RefCell<BTreeMap<String, Range<usize>>>,
    /// Full names of all keys that were asked for, there or not; `*` stands for a name that the operator chooses.
    known: RefCell<BTreeSet<String>>,
    unknown: RefCell<Vec<Unknown>>,
    /// Full names of keys whose values couldn't be read.
    spoilt: RefCell<BTreeSet<String>>,
}

/// A key that nobody asked for.
struct Unknown {
    /// Path of the table with `*` for free names; `path` has it as it is.
    pattern: String,
    path: String,
    key: String,
    span: Range<usize>,
    siblings: Vec<&'static str>,
}

/// One table of a file.
pub(super) struct Fields<'f> {
    pub(super) file: &'f File,
    pattern: String,
    path: String,
    table: DeTable<'f>,
    asked: Vec<&'static str>,
}

/// A value that is there, and its place.
pub(super) struct Entry<'f> {
    file: &'f File,
    pattern: String,
    pub(super) path: String,
    pub(super) value: DeValue<'f>,
    span: Range<usize>,
}

/// Guidance for keys that people may expect here, by the pattern of their full name.
const GUIDANCE: [(&str, &str); 7] = [
    ("engine.component_max", "it is called `component`, under [limits]"),
    (
        "grants.network",
        "there are no sockets; requests are granted by host: http = [\"api.acme.example:443\"]",
    ),
    ("limits.cpu", "processor time is limited by `fuel`: instructions, about one unit each"),
    ("limits.time", "it is called `timeout`"),
    ("plugin.wasm", "it is called `component`"),
    ("plugin.kind", "it is called `kinds`, and is a list: [\"image.thumbnail\"]"),
    ("retry.max_retries", "it is called `max_attempts`, and counts the first try too"),
];

impl File {
    /// Creates a file with this text.
    pub(super) fn new(file: PathBuf, text: &str) -> Self {
        Self {
            source: Source { file, text: text.into() },
            problems: RefCell::default(),
            places: RefCell::default(),
            known: RefCell::default(),
            unknown: RefCell::default(),
            spoilt: RefCell::default(),
        }
    }

    /// Returns the file's path, as the operator named it.
    pub(super) fn name(&self) -> &Path {
        &self.source.file
    }

    /// Resolves a path that was written in this file: relative ones are relative to the file.
    pub(super) fn resolve(&self, path: &Path) -> PathBuf {
        match self.source.file.parent() {
            Some(folder) => folder.join(path),
            None => path.to_owned(),
        }
    }

    /// Reads the whole file; `None` if it isn't even TOML.
    pub(super) fn read<T>(&self, read: impl FnOnce(&mut Fields<'_>) -> T) -> Option<T> {
        let (table, errors) = DeTable::parse_recoverable(&self.source.text);
        if !errors.is_empty() {
            errors.iter().for_each(|error| self.note(self.malformed(error)));
            return None;
        }
        let mut fields = Fields::new(self, String::new(), String::new(), table.into_inner());
        let value = read(&mut fields);
        fields.finish();
        let unknown = self.unknown.take();
        unknown.iter().for_each(|unknown| self.note(self.unknown_key(unknown)));
        Some(value)
    }

    fn malformed(&self, error: &toml::de::Error) -> Problem {
        let end = self.source.text.trim_end().len();
        let span = error.span().unwrap_or(end..end);
        let shown = self.source.shown_of_malformed(span.start);
        // Some of the parser's messages quote what they found.
        let message = if shown == Shown::Line { error.message() } else { "the value is malformed" };
        self.source.problem(&span, shown, "", format!("this is not TOML: {message}"))
    }

    /// Notes a problem.
    pub(super) fn note(&self, problem: Problem) {
        self.problems.borrow_mut().push(problem);
    }

    /// Creates a problem with the value of a key, or with the file as a whole if it has no such key.
    pub(super) fn problem(&self, key: &str, problem: impl Into<String>) -> Problem {
        self.problem_shown(key, Shown::Line, problem)
    }

    /// Creates a problem as [`Self::problem`] does, with that much of the line shown.
    pub(super) fn problem_shown(&self, key: &str, shown: Shown, problem: impl Into<String>) -> Problem {
        let places = self.places.borrow();
        match places.get(key) {
            Some(span) => self.source.problem(span, shown, key, problem),
            None => Problem { key: key.to_owned(), ..Problem::of_file(&self.source.file, problem) },
        }
    }

    /// Whether a key is there.
    pub(super) fn has(&self, key: &str) -> bool {
        self.places.borrow().contains_key(key)
    }

    /// Remembers that the value of a key couldn't be read.
    pub(super) fn spoil(&self, key: &str) {
        self.spoilt.borrow_mut().insert(key.to_owned());
    }

    /// Returns the place of a key's value as `file:line`, or the file if the key isn't there.
    pub(super) fn line_of(&self, key: &str) -> String {
        match self.places.borrow().get(key) {
            Some(span) => self.source.line_of(span),
            None => self.source.file.display().to_string(),
        }
    }

    /// Whether a key, or one below it, is there but couldn't be read, so that a default stands in for it.
    pub(super) fn is_spoilt(&self, key: &str) -> bool {
        let below = |spoilt: &String| {
            spoilt.strip_prefix(key).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        self.spoilt.borrow().iter().any(below)
    }

    /// Whether anything is wrong in what was read so far.
    pub(super) fn has_problems(&self) -> bool {
        !self.problems.borrow().is_empty()
    }

    /// Returns everything that is wrong.
    pub(super) fn into_problems(self) -> Vec<Problem> {
        self.problems.into_inner()
    }

    /// Returns the full names of all keys that there are.
    #[cfg(test)]
    pub(super) fn known(&self) -> BTreeSet<String> {
        self.known.borrow().clone()
    }

    fn unknown_key(&self, unknown: &Unknown) -> Problem {
        let Unknown { pattern, path, key, span, siblings } = unknown;
        let full = join(path, key);
        let problem = self.source.problem(span, Shown::KeyAlone, full.as_str(), "there is no such key");
        let pattern = join(pattern, key);
        if let Some((_, guidance)) = GUIDANCE.iter().find(|(name, _)| pattern.ends_with(name)) {
            return problem.help(*guidance);
        }
        if let Some(meant) = nearest(key, siblings.iter().copied()) {
            return problem.help(format!("did you mean `{meant}`?"));
        }
        if let Some(table) = self.table_of(key) {
            return problem.help(format!("`{key}` belongs to [{table}]"));
        }
        problem.help(format!("the keys here are: {}", siblings.join(", ")))
    }

    /// Returns the full name of the table that has a key of this name.
    fn table_of(&self, key: &str) -> Option<String> {
        let known = self.known.borrow();
        let found = known.iter().find_map(|full| full.strip_suffix(key)?.strip_suffix('.'));
        found.map(|table| table.replace('*', "NAME"))
    }
}

impl<'f> Fields<'f> {
    fn new(file: &'f File, pattern: String, path: String, table: DeTable<'f>) -> Self {
        Self { file, pattern, path, table, asked: Vec::new() }
    }

    fn finish(self) {
        let mut unknown = self.file.unknown.borrow_mut();
        unknown.extend(self.table.into_iter().map(|(key, _)| Unknown {
            pattern: self.pattern.clone(),
            path: self.path.clone(),
            span: key.span(),
            key: key.into_inner().into_owned(),
            siblings: self.asked.clone(),
        }));
    }

    /// Returns the full name of a key.
    pub(super) fn path_of(&self, key: &str) -> String {
        join(&self.path, key)
    }

    /// Whether a key is there, whether or not it was asked for.
    pub(super) fn has_key(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// Returns the value that is there for a key, not read yet.
    pub(super) fn entry(&mut self, key: &'static str) -> Option<Entry<'f>> {
        self.asked.push(key);
        let pattern = join(&self.pattern, key);
        self.file.known.borrow_mut().insert(pattern.clone());
        let (_, value) = self.table.remove_entry(key)?;
        Some(Entry::new(self.file, pattern, join(&self.path, key), value))
    }

    /// Reads the value of a key; `None` if it isn't there or can't be read.
    pub(super) fn get<T: Read>(&mut self, key: &'static str) -> Option<T> {
        self.entry(key)?.read()
    }

    /// Reads the value of a key, or returns `default` in its place.
    pub(super) fn or<T: Read>(&mut self, key: &'static str, default: T) -> T {
        self.get(key).unwrap_or(default)
    }

    /// Reads the value of a key that has to be there.
    pub(super) fn required<T: Read>(&mut self, key: &'static str, example: &str) -> Option<T> {
        if let Some(entry) = self.entry(key) {
            return entry.read();
        }
        self.missing(key, example);
        None
    }

    /// Notes that a required key isn't there.
    pub(super) fn missing(&self, key: &'static str, example: &str) {
        let full = self.path_of(key);
        // The place of the problem is the table, if that is there.
        let places = self.file.places.borrow();
        let problem = match places.get(&self.path) {
            Some(span) => self.file.source.problem(span, Shown::Line, full, "it is missing"),
            None => Problem { key: full, ..Problem::of_file(self.file.name(), "it is missing") },
        };
        drop(places);
        self.file.note(problem.help(format!("add it, such as: {key} = {example}")));
    }

    /// Reads the table of that name; an empty one if it isn't there, or is no table.
    pub(super) fn table<T>(&mut self, key: &'static str, read: impl FnOnce(&mut Fields<'f>) -> T) -> T {
        match self.entry(key) {
            Some(entry) => entry.table(read),
            None => Entry::absent(self.file, join(&self.pattern, key), join(&self.path, key)).table(read),
        }
    }

    /// Returns the elements of a list.
    pub(super) fn list(&mut self, key: &'static str) -> Vec<Entry<'f>> {
        self.entry(key).map(Entry::list).unwrap_or_default()
    }

    /// Returns the entries of a table whose keys are names that the operator chooses.
    pub(super) fn named(&mut self, key: &'static str) -> Vec<(String, Entry<'f>)> {
        // This records that a name stands below, even where there is none.
        self.file.known.borrow_mut().insert(format!("{}.*", join(&self.pattern, key)));
        self.entry(key).map(Entry::named).unwrap_or_default()
    }
}

impl<'f> Entry<'f> {
    fn new(file: &'f File, pattern: String, path: String, value: Spanned<DeValue<'f>>) -> Self {
        let span = value.span();
        file.places.borrow_mut().insert(path.clone(), span.clone());
        Self { file, pattern, path, value: value.into_inner(), span }
    }

    fn absent(file: &'f File, pattern: String, path: String) -> Self {
        Self { file, pattern, path, value: DeValue::Table(DeTable::new()), span: 0..0 }
    }

    /// Returns the file that the value stands in.
    pub(super) fn file(&self) -> &'f File {
        self.file
    }

    /// Reads the value, or notes why it can't be read.
    pub(super) fn read<T: Read>(self) -> Option<T> {
        match T::read(&self.value) {
            Ok(value) => Some(value),
            Err(refusal) => {
                self.refuse(refusal);
                None
            }
        }
    }

    /// Notes why the value can't be read.
    pub(super) fn refuse(&self, refusal: Refusal) {
        let problem = self.problem(Shown::Line, refusal.problem).rule(refusal.rule);
        self.file.spoil(&self.path);
        // A suggestion made from a login has a part of it.
        let has_login = matches!(&self.value, DeValue::String(text) if text.contains('@'));
        self.file.note(match refusal.help.filter(|_| !has_login) {
            Some(help) => problem.help(help),
            None => problem,
        });
    }

    /// Creates a problem with the value.
    pub(super) fn problem(&self, shown: Shown, problem: impl Into<String>) -> Problem {
        self.file.source.problem(&self.span, shown, self.path.as_str(), problem)
    }

    /// Reads the value as a table.
    pub(super) fn table<T>(self, read: impl FnOnce(&mut Fields<'f>) -> T) -> T {
        let table = match self.value {
            DeValue::Table(table) => table,
            other => {
                let problem = format!("{} is not a table", found_at(&self.path, &other));
                let source = &self.file.source;
                self.file.note(source.problem(&self.span, Shown::KeyAlone, self.path.as_str(), problem));
                DeTable::new()
            }
        };
        let mut fields = Fields::new(self.file, self.pattern, self.path, table);
        let value = read(&mut fields);
        fields.finish();
        value
    }

    /// Returns the elements of a list.
    pub(super) fn list(self) -> Vec<Self> {
        let Self { file, pattern, path, value, span } = self;
        match value {
            DeValue::Array(values) => values
                .iter()
                .enumerate()
                .map(|(n, value)| Self::new(file, pattern.clone(), format!("{path}[{n}]"), value.clone()))
                .collect(),
            other => {
                let problem = format!("{} is not a list", found_at(&path, &other));
                let problem = file.source.problem(&span, Shown::Line, path, problem);
                file.note(problem.rule("a list in square brackets"));
                Vec::new()
            }
        }
    }

    /// Returns the entries of a table whose keys are names that the operator chooses.
    fn named(self) -> Vec<(String, Self)> {
        let Self { file, pattern, path, value, span } = self;
        let pattern = format!("{pattern}.*");
        match value {
            DeValue::Table(table) => table
                .into_iter()
                .map(|(key, value)| {
                    let name = key.into_inner().into_owned();
                    let full = join(&path, &name);
                    (name, Self::new(file, pattern.clone(), full, value))
                })
                .collect(),
            other => {
                let problem = format!("{} is not a table", found(&other));
                file.note(file.source.problem(&span, Shown::KeyAlone, path, problem));
                Vec::new()
            }
        }
    }
}

/// Describes a value for a message; only as `it` if its key is one that may have a login.
fn found_at(key: &str, value: &DeValue<'_>) -> String {
    if may_hold_login(key) { "it".to_owned() } else { found(value) }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// Returns the candidate that is near enough to `text` to have been meant.
pub fn nearest<'c>(text: &str, candidates: impl Iterator<Item = &'c str>) -> Option<&'c str> {
    let distance = |candidate: &&str| strsim::damerau_levenshtein(text, candidate);
    let best = candidates.min_by_key(distance)?;
    let near = distance(&best) <= 1 + best.len() / 4;
    (near || text.replace('-', "_").eq_ignore_ascii_case(best)).then_some(best)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_key_is_recognised_and_a_strange_one_is_not() {
        let keys = ["weight", "concurrency", "limits", "max_attempts"];
        for (text, meant) in [
            ("wieght", Some("weight")),
            ("limit", Some("limits")),
            ("max-attempts", Some("max_attempts")),
            ("Max_Attempts", Some("max_attempts")),
            ("concurency", Some("concurrency")),
            ("colour", None),
            ("", None),
        ] {
            assert_eq!(nearest(text, keys.into_iter()), meant, "{text}");
        }
    }
}
