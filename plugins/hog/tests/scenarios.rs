//! The host scenarios of `sdk/scenarios`, played against the fake host.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use hog::play;
use sandhog_sdk::{EnqueuedJob, FakeHost, FakeLimits, HttpReply, JobState, NewJob, handlers};
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Scenario {
    name: String,
    /// The version of the contract that it takes, if not the first.
    #[serde(default, rename = "since")]
    _since: Option<String>,
    #[serde(default)]
    host: Given,
    play: Vec<Act>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Given {
    max_attempts: Option<u32>,
    secrets: BTreeMap<String, String>,
    env: BTreeMap<String, String>,
    files: BTreeMap<String, String>,
    dirs: Vec<String>,
    http: BTreeMap<String, Reply>,
    limits: BTreeMap<String, usize>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, untagged)]
enum Act {
    Cancel {
        cancel: String,
    },
    Job {
        #[serde(default)]
        job: Options,
        attempts: Value,
        expect: Box<Expected>,
    },
}

/// What a job is given beside its payload.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Options {
    group: Option<String>,
    labels: BTreeMap<String, String>,
    content_type: Option<String>,
    deadline_ms: Option<u64>,
}

impl Options {
    fn given_to(&self, mut job: NewJob) -> NewJob {
        if let Some(group) = &self.group {
            job = job.group(group);
        }
        if let Some(content_type) = &self.content_type {
            job = job.content_type(content_type);
        }
        if let Some(ms) = self.deadline_ms {
            job = job.deadline(Duration::from_millis(ms));
        }
        self.labels.iter().fold(job, |job, (name, value)| job.label(name, value))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Expected {
    state: String,
    attempts: u32,
    message: Option<String>,
    answers: Option<Value>,
    progress: Option<Value>,
    stored: Option<BTreeMap<String, Value>>,
    jobs: Option<Value>,
    files: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Reply {
    status: u16,
    body: String,
}

const WEB: &str = "http://web.example";

fn host_of(given: &Given) -> FakeHost {
    let mut limits = FakeLimits::default();
    for (name, value) in &given.limits {
        match name.as_str() {
            "enqueues" => limits.enqueues = *value,
            "state_writes" => limits.state_writes = *value,
            "effects" => limits.effects = *value,
            "output" => limits.output = *value,
            _ => panic!("no such limit: {name}"),
        }
    }
    let mut host = FakeHost::new().limits(limits).unknown_kind("no.such");
    if let Some(max_attempts) = given.max_attempts {
        host = host.max_attempts(max_attempts);
    }
    for (name, value) in &given.secrets {
        host = host.secret(name, value);
    }
    for (name, value) in &given.env {
        host = host.env(name, value);
    }
    if !given.http.is_empty() {
        host = host.env("WEB", WEB);
    }
    for (request, reply) in &given.http {
        let (method, path) = request.split_once(' ').expect("method and path");
        let reply_of = HttpReply::status(reply.status).body(reply.body.as_str());
        host = host.http(&format!("{method} {WEB}{path}"), reply_of);
    }
    for dir in &given.dirs {
        host = host.dir(dir);
    }
    for (path, text) in &given.files {
        host = host.file(path, text);
    }
    host
}

fn play_job(host: &mut FakeHost, options: &Options, attempts: &Value, expected: &Expected, name: &str) {
    let before = host.jobs().len();
    let job = NewJob::new("hog.play", &json!({"attempts": attempts}));
    host.enqueue(options.given_to(job)).expect("it is enqueued");
    let drained = host.drain(&handlers![play]);
    let job = host.jobs()[before].clone();
    let state = match job.state {
        JobState::Succeeded => "succeeded",
        JobState::Dead => "dead",
        other => panic!("{name}: {other:?}"),
    };
    let last = drained.attempts.last().expect("it ran");
    let message = last.run.result.as_ref().err().map(|failure| failure.message().to_owned());
    assert_eq!((state, job.attempts), (expected.state.as_str(), expected.attempts), "{name}: {message:?}");
    if let Some(says) = &expected.message {
        let message = message.unwrap_or_default();
        assert!(message.contains(says), "{name}: {message}");
    }
    let answers: Vec<Vec<Value>> = drained
        .attempts
        .iter()
        .map(|attempt| {
            let answers = attempt.run.logs.iter().filter(|line| line.message == "answer");
            answers
                .map(|line| serde_json::from_str(line.field("answer").expect("an answer")).expect("JSON"))
                .collect()
        })
        .collect();
    if let Some(wanted) = &expected.answers {
        assert_eq!(&json!(answers), wanted, "{name}");
    }
    if let Some(wanted) = &expected.progress {
        let progress = last.run.progress.last().expect("it was reported");
        let found = json!({"done": progress.done, "total": progress.total, "message": progress.message});
        assert_eq!(&found, wanted, "{name}");
    }
    for (key, wanted) in expected.stored.iter().flatten() {
        let found =
            host.stored::<Value>(key).map_or_else(|| json!("absent"), |value| json!({"value": value}));
        assert_eq!(&found, wanted, "{name}: {key}");
    }
    for (path, text) in expected.files.iter().flatten() {
        assert_eq!(&fs::read_to_string(host.path(path)).expect("a file"), text, "{name}: {path}");
    }
    if let Some(wanted) = &expected.jobs {
        let others = host.jobs().iter().filter(|job| job.kind != "hog.play");
        let found: Vec<Value> = others.map(described).collect();
        assert_eq!(&json!(found), wanted, "{name}");
    }
}

/// What a job has beside the usual is there only if it has it.
fn described(job: &EnqueuedJob) -> Value {
    let mut described = json!({
        "kind": job.kind, "payload": job.input::<Value>().expect("JSON"), "queue": job.queue,
        "delayed": !job.delay.is_zero(), "priority": job.priority, "unique_key": job.unique_key,
        "state": if job.state == JobState::Cancelled { "cancelled" } else { "waiting" },
    });
    let ms = |time: Option<Duration>| time.map(|time| json!(u64::try_from(time.as_millis()).expect("short")));
    let labels: BTreeMap<_, _> = job.labels.iter().cloned().collect();
    for (name, value) in [
        ("group", job.group.as_ref().map(|group| json!(group))),
        ("content_type", job.content_type.as_ref().map(|content_type| json!(content_type))),
        ("labels", Some(json!(labels)).filter(|_| !labels.is_empty())),
        ("start_within_ms", ms(job.start_within)),
        ("deadline_ms", ms(job.deadline)),
    ] {
        described.as_object_mut().expect("an object").extend(value.map(|value| (name.to_owned(), value)));
    }
    described
}

#[test]
fn the_fake_host_does_as_the_scenarios_say() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../sdk/scenarios/host.json");
    let text = fs::read_to_string(file).expect("the scenarios are there");
    let scenarios: Vec<Scenario> = serde_json::from_str(&text).expect("scenarios");
    assert!(!scenarios.is_empty());
    for Scenario { name, host, play, .. } in scenarios {
        let mut host = host_of(&host);
        for act in play {
            match act {
                Act::Cancel { cancel } => {
                    let waits = |key: &Option<String>| key.as_deref() == Some(cancel.as_str());
                    let job = host.jobs().iter().find(|job| !job.state.is_final() && waits(&job.unique_key));
                    let id = job.unwrap_or_else(|| panic!("{name}: no job has the key {cancel}")).id.clone();
                    host.cancel(&id);
                }
                Act::Job { job, attempts, expect } => play_job(&mut host, &job, &attempts, &expect, &name),
            }
        }
    }
}
