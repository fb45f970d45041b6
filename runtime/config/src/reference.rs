//! References to values that are kept elsewhere: `{ env = "NAME" }` in the environment, `{ file = "path" }` in a file.

use std::path::PathBuf;

use sandhog_core::budget::Bytes;
use sandhog_core::secret::Secret;
use toml::de::DeValue;

use super::fields::Entry;
use super::problem::Shown;
use super::value::found;
use sandhog_files::regular_file;

/// Place where a value is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reference {
    /// Environment variable of the daemon.
    Env(String),
    /// File; a line break at its end doesn't count.
    File(PathBuf),
}

/// Access to what lies outside the configuration's own files.
#[derive(Clone, Copy)]
pub(super) struct Outside<'o> {
    /// The daemon's environment.
    pub(super) env: &'o dyn Fn(&str) -> Option<String>,
    /// Part of what the configuration refers to that is looked at.
    pub(super) follow: Follow,
}

/// Part of what the configuration refers to that is looked at; what isn't there is a problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Follow {
    /// Secrets, samples and components.
    All,
    /// Secrets and samples.
    Secrets,
    /// Only what it takes to reach the broker, and to know callers over the network.
    BrokerAndTokens,
    /// Only what it takes to reach the broker.
    BrokerAlone,
}

impl Follow {
    /// Whether secrets and samples are looked at.
    pub(super) fn has_secrets(self) -> bool {
        matches!(self, Self::All | Self::Secrets)
    }
}

/// Maximum size of a secret's file.
const FILE_MAX: Bytes = Bytes::kib(64);

const RULE: &str = "a reference: { env = \"NAME\" } or { file = \"path\" }";

impl Reference {
    /// Reads a reference; a value that stands in the file itself is refused and not shown.
    pub(super) fn read(entry: Entry<'_>) -> Option<Self> {
        if !matches!(entry.value, DeValue::Table(_)) {
            let problem =
                entry.problem(Shown::KeyAlone, "a secret does not belong into this file").rule(RULE);
            entry.file().spoil(&entry.path);
            entry.file().note(problem);
            return None;
        }
        let (file, path) = (entry.file(), entry.path.clone());
        let (env, secret_file) =
            entry.table(|fields| (fields.get::<String>("env"), fields.get::<PathBuf>("file")));
        match (env, secret_file) {
            (Some(name), None) => Some(Self::Env(name)),
            (None, Some(secret_file)) => Some(Self::File(file.resolve(&secret_file))),
            _ => {
                file.spoil(&path);
                file.note(file.problem(&path, "it names no place, or two").rule(RULE));
                None
            }
        }
    }

    /// Fetches the value.
    ///
    /// # Errors
    /// If it isn't there, or is empty; the text says what is missing and shows no value.
    pub(super) fn fetch(&self, outside: Outside<'_>) -> Result<Secret, String> {
        let value = match self {
            Self::Env(name) => {
                let value = (outside.env)(name);
                Secret::new(value.ok_or_else(|| format!("the environment variable {name} is not set"))?)
            }
            Self::File(path) => {
                let text = regular_file::read_text(path, FILE_MAX);
                let text = text.map_err(|cause| format!("can't read {}: {cause}", path.display()))?;
                // What was read is wiped, as the line of it is that stays.
                let text = Secret::new(text);
                let line = text.reveal();
                let line = line.strip_suffix('\n').unwrap_or(line);
                Secret::new(line.strip_suffix('\r').unwrap_or(line).to_owned())
            }
        };
        match (value.reveal().is_empty(), self) {
            (false, _) => Ok(value),
            (true, Self::Env(name)) => Err(format!("the environment variable {name} is empty")),
            (true, Self::File(path)) => Err(format!("{} is empty", path.display())),
        }
    }
}

/// Reads a text that stands in the file, or fetches it by a reference.
pub(super) fn text_or_reference(entry: Entry<'_>, outside: Outside<'_>) -> Option<Secret> {
    match &entry.value {
        DeValue::String(text) if !text.is_empty() => Some(Secret::new(text.clone().into_owned())),
        DeValue::Table(_) => {
            let (file, path) = (entry.file(), entry.path.clone());
            match Reference::read(entry)?.fetch(outside) {
                Ok(value) => Some(value),
                Err(problem) => {
                    file.note(file.problem(&path, problem));
                    None
                }
            }
        }
        other => {
            let problem = format!("{} is not a text", found(other));
            let rule = "text in quotes, { env = \"NAME\" } or { file = \"path\" }";
            entry.file().note(entry.problem(Shown::Line, problem).rule(rule));
            None
        }
    }
}
