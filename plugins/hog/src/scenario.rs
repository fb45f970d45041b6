//! Plays the steps of a host scenario: what a handler asks of its host, one after the other.
//!
//! `sdk/scenarios` has the steps and what is to come of them, against each language's fake host and against the daemon.

use std::collections::BTreeMap;
use std::time::Duration;

use sandhog_sdk::{
    Context, Debounce, EnqueueError, Failure, NewJob, Progress, Request, Result, StateError, Swapped, Unique,
    handler, info, permanent, rate_limited, retry_after, snooze, transient, unavailable,
};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Value, json};

/// What to play.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Play {
    /// The steps of each attempt; those of the last one are those of all further ones.
    pub attempts: Vec<Vec<Step>>,
}

/// One thing that a handler does. Its answer is logged, so that it is known of attempts that fail as well.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Answers with what is stored under a key.
    Get(String),
    /// Sets a key.
    Set(Set),
    /// Removes a key.
    Delete(String),
    /// Adds to a key.
    Increment {
        /// The key.
        key: String,
        /// What is added.
        by: i64,
    },
    /// Compares and sets a key.
    Swap(Swap),
    /// Enqueues a job.
    Enqueue(Box<Enqueue>),
    /// Answers with the length of a secret.
    Secret(String),
    /// Answers with an environment variable.
    Env(String),
    /// Reports progress.
    Progress {
        /// How much is done.
        done: u64,
        /// Of how much.
        total: Option<u64>,
        /// What is going on.
        message: Option<String>,
    },
    /// Answers with facts about the attempt.
    Facts(bool),
    /// Answers with what the job's producer said of it.
    Job(bool),
    /// Answers with a file's text.
    Read(String),
    /// Writes a file.
    Write {
        /// The file.
        path: String,
        /// What is written.
        text: String,
    },
    /// Answers with the names in a folder.
    List(String),
    /// Removes a file.
    Remove(String),
    /// Sends a request, and answers with status and body.
    Fetch(Fetch),
    /// Fails, and is tried again.
    Fail(String),
    /// Fails, and is tried again after a time.
    RetryAfter {
        /// The time, in milliseconds.
        ms: u64,
        /// Why.
        message: String,
    },
    /// Fails with a code, and is tried again.
    FailWith {
        /// The code.
        code: String,
        /// Why.
        message: String,
    },
    /// Puts the job off.
    Snooze(PutOff),
    /// Puts the job off, as what it calls takes no more calls.
    RateLimited(PutOff),
    /// Puts the job off, as what it calls is unavailable.
    Unavailable(PutOff),
    /// Fails for good.
    Permanent(String),
    /// Returns a text of this length.
    Output(usize),
}

/// What to set.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Set {
    key: String,
    #[serde(default)]
    value: Value,
    /// Instead of a value, a text of this length.
    length: Option<usize>,
    ttl_ms: Option<u64>,
}

/// What to compare and set.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Swap {
    key: String,
    /// Nothing, where it isn't given; `null` is a value.
    #[serde(default, deserialize_with = "given")]
    expected: Option<Value>,
    value: Value,
    ttl_ms: Option<u64>,
}

/// For how long to put the job off, and how often.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PutOff {
    /// The time, in milliseconds.
    ms: u64,
    /// Not if this file is there, which is written before.
    unless: String,
}

/// What to enqueue.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Enqueue {
    kind: String,
    #[serde(default)]
    payload: Value,
    /// Instead of a payload, a text whose JSON has this length.
    length: Option<usize>,
    queue: Option<String>,
    delay_ms: Option<u64>,
    /// Instead of a delay, at the time so long after the playing job was enqueued.
    at_ms: Option<u64>,
    priority: Option<u8>,
    unique_key: Option<String>,
    content_type: Option<String>,
    group: Option<String>,
    start_within_ms: Option<u64>,
    deadline_ms: Option<u64>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    unique: Option<UniqueRule>,
    debounce: Option<DebounceRule>,
}

/// A unique key and its rule.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UniqueRule {
    key: String,
    /// With it, until the job has started; else until it is settled.
    #[serde(default)]
    until_started: bool,
    /// The time for which it is held, whatever becomes of the job.
    for_ms: Option<u64>,
    at_most_ms: Option<u64>,
    #[serde(default)]
    replacing: bool,
}

/// A unique key and for how long others with it are waited for.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DebounceRule {
    key: String,
    delay_ms: u64,
    longest_ms: u64,
    #[serde(default)]
    leading: bool,
}

/// What to send.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fetch {
    method: String,
    /// Of the server that the variable `WEB` names.
    #[serde(default)]
    path: String,
    /// In the place of a path.
    url: Option<String>,
    #[serde(default)]
    body: String,
}

fn given<'de, D: Deserializer<'de>>(value: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(value).map(Some)
}

/// Plays the steps of this attempt.
#[handler(kind = "hog.play")]
pub fn play(ctx: &Context, input: Play) -> Result<String> {
    let last = input.attempts.len().checked_sub(1).ok_or_else(|| permanent("no attempt has any steps"))?;
    let at = usize::try_from(ctx.attempt() - 1).unwrap_or(usize::MAX).min(last);
    for (number, step) in input.attempts[at].iter().enumerate() {
        match end_of(ctx, step) {
            Some(end) => return end,
            None => {
                let answer = answer(ctx, step.clone());
                info!(ctx, "answer", step = number, answer = answer);
            }
        }
    }
    Ok(String::new())
}

fn end_of(ctx: &Context, step: &Step) -> Option<Result<String>> {
    let put_off = |PutOff { ms, unless }: &PutOff, end: fn(Duration) -> Failure| {
        let path = ctx.path(unless);
        if path.exists() {
            return None;
        }
        Some(Err(std::fs::write(path, "").map_or_else(Failure::from, |()| end(Duration::from_millis(*ms)))))
    };
    Some(match step {
        Step::FailWith { code, message } => Err(transient(message).code(code)),
        Step::Snooze(how) => return put_off(how, snooze),
        Step::RateLimited(how) => return put_off(how, |wait| rate_limited(wait).by("stripe")),
        Step::Unavailable(how) => return put_off(how, |wait| unavailable("stripe").after(wait)),
        Step::Fail(message) => Err(transient(message)),
        Step::RetryAfter { ms, message } => Err(retry_after(Duration::from_millis(*ms), message)),
        Step::Permanent(message) => Err(permanent(message)),
        Step::Output(length) => Ok("x".repeat(*length)),
        _ => return None,
    })
}

fn answer(ctx: &Context, step: Step) -> Value {
    let state = ctx.state();
    let done =
        |result: Result<(), StateError>| result.map_or_else(|error| of_state(&error), |()| json!("ok"));
    match step {
        Step::Get(key) => match state.get::<Value>(&key) {
            Ok(Some(value)) => json!({"value": value}),
            Ok(None) => json!("absent"),
            Err(error) => of_state(&error),
        },
        Step::Set(Set { key, value, length, ttl_ms }) => {
            let value = length.map_or(value, text_of);
            done(match ttl_ms {
                Some(ms) => state.set_for(&key, &value, Duration::from_millis(ms)),
                None => state.set(&key, &value),
            })
        }
        Step::Delete(key) => done(state.delete(&key)),
        Step::Increment { key, by } => done(state.increment(&key, by)),
        Step::Swap(Swap { key, expected, value, ttl_ms }) => {
            let swapped = match ttl_ms {
                Some(ms) => {
                    state.compare_and_set_for(&key, expected.as_ref(), &value, Duration::from_millis(ms))
                }
                None => state.compare_and_set(&key, expected.as_ref(), &value),
            };
            swapped.map_or_else(|error| of_state(&error), |swapped| json!(swapped == Swapped::Yes))
        }
        Step::Enqueue(job) => match ctx.enqueue(new_job(ctx, *job)) {
            Ok(_) => json!("ok"),
            Err(error) => of_enqueue(&error),
        },
        Step::Secret(name) => match ctx.secret(&name) {
            Ok(secret) => json!({"length": secret.expose().len()}),
            Err(_) => refused("not-granted"),
        },
        Step::Env(name) => json!(ctx.env(&name)),
        Step::Progress { done, total, message } => {
            ctx.progress(Progress { done, total, message });
            json!("ok")
        }
        Step::Facts(_) => json!({
            "attempt": ctx.attempt(),
            "max_attempts": ctx.max_attempts(),
            "kind": ctx.kind(),
            "idempotency_key_is_job_id": ctx.idempotency_key() == ctx.job_id().as_str(),
            "stop_requested": ctx.stop_requested().is_some(),
            "has_time_left": !ctx.remaining().is_zero(),
        }),
        Step::Job(_) => json!({
            "group": ctx.group(),
            "labels": ctx.labels().collect::<BTreeMap<_, _>>(),
            "content_type": ctx.content_type(),
            "has_deadline": ctx.job_deadline().is_some_and(|deadline| deadline > ctx.enqueued_at()),
        }),
        Step::Read(path) => of_file(std::fs::read_to_string(ctx.path(&path))),
        Step::Write { path, text } => of_file(std::fs::write(ctx.path(&path), text).map(|()| "ok")),
        Step::List(path) => of_file(names(ctx, &path)),
        Step::Remove(path) => of_file(std::fs::remove_file(ctx.path(&path)).map(|()| "ok")),
        Step::Fetch(Fetch { method, path, url, body }) => {
            let url = url.unwrap_or_else(|| ctx.env("WEB").unwrap_or_default() + &path);
            match ctx.http(&Request::new(method, url).body(body)) {
                Ok(response) => json!({"status": response.status, "body": response.text()}),
                Err(_) => refused("http"),
            }
        }
        Step::Snooze(_) | Step::RateLimited(_) | Step::Unavailable(_) => json!("ok"),
        Step::Fail(_)
        | Step::RetryAfter { .. }
        | Step::FailWith { .. }
        | Step::Permanent(_)
        | Step::Output(_) => Value::Null,
    }
}

fn new_job(ctx: &Context, job: Enqueue) -> NewJob {
    let payload = job.length.map_or(job.payload, |length| text_of(length.saturating_sub(2)));
    let ms = Duration::from_millis;
    let mut new = NewJob::new(job.kind, &payload);
    if let Some(queue) = job.queue {
        new = new.queue(queue);
    }
    if let Some(delay) = job.delay_ms {
        new = new.delay(ms(delay));
    }
    if let Some(at) = job.at_ms {
        new = new.at(ctx.enqueued_at() + ms(at));
    }
    if let Some(priority) = job.priority {
        new = new.priority(priority);
    }
    if let Some(key) = job.unique_key {
        new = new.unique_key(key);
    }
    if let Some(content_type) = job.content_type {
        new = new.content_type(content_type);
    }
    if let Some(group) = job.group {
        new = new.group(group);
    }
    if let Some(time) = job.start_within_ms {
        new = new.start_within(ms(time));
    }
    if let Some(time) = job.deadline_ms {
        new = new.deadline(ms(time));
    }
    for (name, value) in job.labels {
        new = new.label(name, value);
    }
    if let Some(rule) = job.unique {
        new = new.unique(unique(&rule));
    }
    if let Some(DebounceRule { key, delay_ms, longest_ms, leading }) = job.debounce {
        let debounce = Debounce::new(key, ms(delay_ms), ms(longest_ms));
        let debounce = if leading { debounce.leading() } else { debounce };
        new = new.debounce(debounce);
    }
    new
}

fn unique(rule: &UniqueRule) -> Unique {
    let ms = Duration::from_millis;
    let mut unique = match rule.for_ms {
        Some(time) => Unique::for_time(&rule.key, ms(time)),
        None => Unique::new(&rule.key),
    };
    if rule.until_started {
        unique = unique.until_started();
    }
    if let Some(time) = rule.at_most_ms {
        unique = unique.at_most(ms(time));
    }
    if rule.replacing { unique.replacing() } else { unique }
}

fn names(ctx: &Context, path: &str) -> std::io::Result<Vec<String>> {
    let entries = std::fs::read_dir(ctx.path(path))?;
    let mut names: Vec<String> = entries
        .map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned()))
        .collect::<std::io::Result<_>>()?;
    names.sort();
    Ok(names)
}

fn text_of(length: usize) -> Value {
    Value::String("x".repeat(length))
}

fn refused(code: &str) -> Value {
    json!({"refused": code})
}

fn of_file<T: Serialize>(result: std::io::Result<T>) -> Value {
    result.map_or_else(|_| refused("file"), |value| json!(value))
}

fn of_state(error: &StateError) -> Value {
    refused(match error {
        StateError::InvalidKey(_) => "invalid-key",
        StateError::Limit(_) => "limit",
        StateError::NotANumber { .. } => "not-a-number",
        StateError::Unavailable(_) => "unavailable",
        StateError::InvalidValue { .. } => "invalid-value",
    })
}

fn of_enqueue(error: &EnqueueError) -> Value {
    refused(match error {
        EnqueueError::UnknownKind(_) => "unknown-kind",
        EnqueueError::Invalid(_) => "invalid",
        EnqueueError::Limit(_) => "limit",
        EnqueueError::Payload { .. } => "payload",
    })
}
