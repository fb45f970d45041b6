//! Settings of how plugins are deployed: the daemon's `[deploy]`, a plugin's `[smoke]` and `[canary]`.

use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use sandhog_core::canary::{Policy, Share};
use sandhog_core::id::Kind;
use sandhog_core::quota::QueueBounds;
use toml::de::DeValue;

use super::fields::{Entry, Fields};
use super::problem::Shown;
use super::reference::Outside;
use super::units::time;
use super::value::{Positive, found};
use super::{Deploy, Smoke};
use sandhog_files::regular_file;

/// Default folder in which deploys are remembered, beside the daemon's file.
pub(super) const FOLDER: &str = "deploys";
const KEEP: NonZeroUsize = NonZeroUsize::new(5).expect("it is not zero");
const KEEP_MAX: usize = 100;
const LOOK_EVERY: Duration = Duration::from_secs(10);
const LOOK_EVERY_MIN: Duration = Duration::from_millis(100);

/// Reads the daemon's `deploy`.
pub(super) fn deploy(fields: &mut Fields<'_>) -> Deploy {
    let folder = fields.or("folder", PathBuf::from(FOLDER));
    let keep = fields.or("keep", KEEP);
    if keep.get() > KEEP_MAX {
        let problem = fields.file.problem(&fields.path_of("keep"), format!("{keep} is too much"));
        fields.file.note(problem.rule(format!("at most {KEEP_MAX}")));
    }
    let look_every = fields.or("look_every", LOOK_EVERY);
    if look_every < LOOK_EVERY_MIN {
        let problem = format!("{} is too often", time(look_every));
        let problem = fields.file.problem(&fields.path_of("look_every"), problem);
        fields.file.note(problem.rule(format!("at least {}", time(LOOK_EVERY_MIN))));
    }
    Deploy { folder: fields.file.resolve(&folder), keep, look_every }
}

/// Reads a plugin's `smoke`; `None` if it isn't there or can't be used.
pub(super) fn smoke(fields: &mut Fields<'_>, kinds: Option<&[Kind]>, outside: Outside<'_>) -> Option<Smoke> {
    let there = fields.file.has("smoke");
    let kind = fields.entry("kind");
    let payload = fields.entry("payload");
    if !there {
        return None;
    }
    let Some(kind) = kind else {
        fields.missing("kind", "\"image.thumbnail\"");
        return None;
    };
    let (file, path) = (kind.file(), kind.path.clone());
    let kind: Kind = kind.read()?;
    if kinds.is_some_and(|kinds| !kinds.contains(&kind)) {
        let problem = file.problem(&path, format!("the plugin doesn't handle \"{kind}\""));
        file.note(problem.rule("one of plugin.kinds"));
    }
    let payload = match payload {
        Some(payload) => sample(payload, outside)?,
        None => b"null".to_vec(),
    };
    Some(Smoke { kind, payload })
}

/// Reads a payload that stands in the file as text, or in a file of its own.
fn sample(entry: Entry<'_>, outside: Outside<'_>) -> Option<Vec<u8>> {
    match &entry.value {
        DeValue::String(text) => Some(text.clone().into_owned().into_bytes()),
        DeValue::Table(_) => {
            let (file, key) = (entry.file(), entry.path.clone());
            let path = entry.table(|fields| fields.required::<PathBuf>("file", "\"sample.json\""))?;
            if !outside.follow.has_secrets() {
                return Some(Vec::new());
            }
            let path = file.resolve(&path);
            match regular_file::read(&path, QueueBounds::PAYLOAD_MAX) {
                Ok(payload) => Some(payload),
                Err(cause) => {
                    file.note(file.problem(&key, format!("can't read {}: {cause}", path.display())));
                    None
                }
            }
        }
        other => {
            let problem = format!("{} is not a payload", found(other));
            entry.file().note(entry.problem(Shown::Line, problem).rule("a text, or { file = \"path\" }"));
            None
        }
    }
}

const RUNS_MIN: NonZeroU32 = NonZeroU32::new(100).expect("it is not zero");
const FAILURES_EXTRA: f64 = 0.05;
const FUEL_RATIO: f64 = 1.5;
const FUEL_RATIO_MAX: f64 = 1000.0;
const MAX_AGE: Duration = Duration::from_secs(7 * 24 * 3600);

/// Reads a plugin's `canary`; `None` if it isn't there or can't be used.
pub(super) fn canary(fields: &mut Fields<'_>) -> Option<Policy> {
    let there = fields.file.has("canary");
    let share = fields.entry("share");
    let runs_min = fields.or("runs_min", RUNS_MIN);
    let failures_extra = fields.or("failures_extra", FAILURES_EXTRA);
    let fuel_ratio = fields.or("fuel_ratio", FUEL_RATIO);
    let Positive(max_age) = fields.or("max_age", Positive(MAX_AGE));
    if !there {
        return None;
    }
    in_range(fields, "failures_extra", failures_extra, 0.0..=1.0);
    in_range(fields, "fuel_ratio", fuel_ratio, 0.0..=FUEL_RATIO_MAX);
    let Some(share) = share else {
        fields.missing("share", "0.1");
        return None;
    };
    let (file, path) = (share.file(), share.path.clone());
    let part: f64 = share.read()?;
    let Some(share) = Share::new(part) else {
        let problem = file.problem(&path, format!("{part} is out of range"));
        file.note(problem.rule("more than 0 and less than 1: 0.1 is a tenth of the jobs"));
        return None;
    };
    Some(Policy { share, runs_min, failures_extra, fuel_ratio, max_age })
}

fn in_range(fields: &Fields<'_>, key: &str, value: f64, range: std::ops::RangeInclusive<f64>) {
    if !range.contains(&value) {
        let problem = fields.file.problem(&fields.path_of(key), format!("{value} is out of range"));
        fields.file.note(problem.rule(format!("from {} to {}", range.start(), range.end())));
    }
}
