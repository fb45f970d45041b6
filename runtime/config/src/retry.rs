//! The table `[retry]` of a plugin's file.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use sandhog_core::id::FailureCode;
use sandhog_core::reason::Reason;
use sandhog_core::retry::{Backoff, Growth, Jitter, RetryPolicy, RetryRule};

use toml::de::DeValue;

use super::fields::{Entry, Fields};
use super::problem::Shown;
use super::units::time;
use super::value::{BackoffType, Positive, Read, Retriable, RuleAction};

/// Maximum factor by which each wait is longer than the one before.
const FACTOR_MAX: f64 = 100.0;
/// Factor of exponential waits, unless another is written.
const FACTOR: f64 = 2.0;
/// Maximum of a wait between two attempts.
const WAIT_MAX: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Reads the whole table.
pub(super) fn retry(fields: &mut Fields<'_>) -> RetryPolicy {
    let default = RetryPolicy::default();
    let max_attempts = fields.or("max_attempts", default.max_attempts);
    let backoff = fields.table("backoff", |fields| backoff(fields, default.backoff));
    let retry_after_max = fields.or("retry_after_max", Positive(default.retry_after_max)).0;
    let on_limit = fields.or("on_limit", default.on_limit);
    let on_exhausted = fields.or("on_exhausted", default.on_exhausted);
    let (rules, codes) = rules(fields, (max_attempts, backoff));
    RetryPolicy { max_attempts, backoff, retry_after_max, on_limit, on_exhausted, rules, codes }
}

/// Reads how long waits are. What isn't written is as in `default`.
fn backoff(fields: &mut Fields<'_>, default: Backoff) -> Backoff {
    let base = fields.or("base", Positive(default.base)).0;
    let named: Option<BackoffType> = fields.get("type");
    let factor: Option<f64> = fields.get("factor");
    let max = fields.get("max").map(|Positive(max)| max);
    let jitter = fields.or("jitter", default.jitter);
    let growth = match (named, default.growth) {
        (Some(BackoffType::Fixed), _) => Growth::Fixed,
        (Some(BackoffType::Linear), _) => Growth::Linear,
        (None, Growth::Exponential { factor: usual }) => {
            Growth::Exponential { factor: factor.unwrap_or(usual) }
        }
        (Some(BackoffType::Exponential), _) => Growth::Exponential { factor: factor.unwrap_or(FACTOR) },
        (None, growth) => growth,
    };
    let max = match (max, growth) {
        (Some(max), _) => max,
        // One wait for all needs no bound.
        (None, Growth::Fixed) => default.max.max(base),
        (None, Growth::Linear | Growth::Exponential { .. }) => default.max,
    };
    let backoff = Backoff { base, growth, max, jitter };
    check_growth(fields, &backoff, named.is_some(), factor);
    check_bounds(fields, &backoff);
    backoff
}

/// Notes what is written of the growth, and has no meaning.
fn check_growth(fields: &Fields<'_>, backoff: &Backoff, is_named: bool, factor: Option<f64>) {
    let path = fields.path_of("factor");
    match (backoff.jitter, backoff.growth, factor) {
        (Jitter::Decorrelated, _, _) if is_named || factor.is_some() => {
            let path = fields.path_of(if is_named { "type" } else { "factor" });
            let problem = fields.file.problem(&path, "decorrelated waits grow in their own way");
            let rule = "with jitter = \"decorrelated\", base and max alone: each wait is from base to three times the one before";
            fields.file.note(problem.rule(rule));
        }
        (_, Growth::Fixed | Growth::Linear, Some(_)) => {
            let problem = fields.file.problem(&path, "only exponential waits have a factor");
            fields.file.note(problem.help("remove it, or the type"));
        }
        (_, Growth::Exponential { factor }, _) if !(1.0..=FACTOR_MAX).contains(&factor) => {
            let problem = fields.file.problem(&path, format!("{factor} is out of range"));
            fields.file.note(
                problem.rule("a number from 1 to 100: by how much each wait is longer than the one before"),
            );
        }
        _ => {}
    }
}

fn check_bounds(fields: &Fields<'_>, backoff: &Backoff) {
    let Backoff { base, max, .. } = *backoff;
    let path = fields.path_of("max");
    let path = if fields.file.has(&path) { path } else { fields.path_of("base") };
    if max > WAIT_MAX {
        let problem = fields.file.problem(&path, format!("{} is too long to wait", time(max)));
        fields.file.note(problem.rule(format!("at most {}", time(WAIT_MAX))));
    }
    if max < base {
        let (max_time, base_time) = (time(max), time(base));
        let problem =
            fields.file.problem(&path, format!("the longest wait, {max_time}, is shorter than the first"));
        fields.file.note(problem.rule(format!("max is at least base, which is {base_time}")));
    }
}

/// Reads the rules for single reasons, and for single codes of failures. What a rule doesn't say is as in `usual`.
fn rules(
    fields: &mut Fields<'_>,
    usual: (NonZeroU32, Backoff),
) -> (BTreeMap<Reason, RetryRule>, BTreeMap<FailureCode, RetryRule>) {
    let (mut for_reasons, mut for_codes) = (BTreeMap::new(), BTreeMap::new());
    for entry in fields.list("rules") {
        entry.table(|fields| {
            let on = subjects::<Retriable>(fields, "on");
            let codes = subjects::<FailureCode>(fields, "codes");
            if on.is_none() && codes.is_none() {
                fields.missing("on", "[\"timed-out\"]");
            }
            let rule = rule(fields, usual);
            let twice = |name: &str, path: &str, each: &str| {
                let problem = fields.file.problem(path, format!("\"{name}\" has a rule already"));
                fields.file.note(problem.rule(format!("one rule for each {each}")));
            };
            for (Retriable(reason), path) in on.unwrap_or_default() {
                if for_reasons.insert(reason, rule).is_some() {
                    twice(reason.slug(), &path, "reason");
                }
            }
            for (code, path) in codes.unwrap_or_default() {
                if for_codes.insert(code.clone(), rule).is_some() {
                    twice(code.as_str(), &path, "code");
                }
            }
        });
    }
    (for_reasons, for_codes)
}

/// Reads what a rule says of the reasons that it is about.
fn rule(fields: &mut Fields<'_>, (usual_attempts, usual_backoff): (NonZeroU32, Backoff)) -> RetryRule {
    let action = fields.or("action", RuleAction::Retry);
    let max_attempts = fields.or("max_attempts", usual_attempts);
    let backoff = fields.table("backoff", |fields| backoff(fields, usual_backoff));
    if action == RuleAction::Retry {
        return RetryRule::Retry { max_attempts, backoff };
    }
    let of_retries = ["max_attempts", "backoff"].map(|key| fields.path_of(key));
    for path in of_retries.iter().filter(|path| fields.file.has(path)) {
        let problem = fields.file.problem(path, "what is buried at once is not tried again");
        fields.file.note(problem.help("remove it, or write: action = \"retry\""));
    }
    RetryRule::Bury
}

/// Reads the reasons or codes that a rule is about, each with its place; `None` if there is no such list. It is noted if that is
/// empty.
fn subjects<T: Read>(fields: &mut Fields<'_>, key: &'static str) -> Option<Vec<(T, String)>> {
    let entry = fields.entry(key)?;
    if matches!(&entry.value, DeValue::Array(subjects) if subjects.is_empty()) {
        let problem = entry.problem(Shown::Line, "it is empty, so the rule is about nothing");
        entry.file().note(problem.rule("at least one entry, or no such list"));
    }
    let read = |entry: Entry<'_>| {
        let path = entry.path.clone();
        entry.read().map(|subject| (subject, path))
    };
    Some(entry.list().into_iter().filter_map(read).collect())
}
