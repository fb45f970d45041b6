//! The host scenarios of `sdk/scenarios`, played against a daemon in every language. The fake hosts play the same ones.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sandhog_broker::{Broker, Query};
use sandhog_core::id::{ContentType, GroupKey, JobId, LabelName, LabelValue, PluginName, StateKey, TenantId};
use sandhog_core::job::{JobOptions, JobRecord, LogLine, NewJob, State};
use sandhog_core::labels::Labels;
use sandhog_core::time::millis;
use sandhog_tests::{Backend, Language, Reply, Site, Web, finished, hog_job, tenant};
use serde_json::{Map, Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_does_as_the_scenarios_say_in_rust() {
    played_in(Language::Rust).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_does_as_the_scenarios_say_in_javascript() {
    played_in(Language::JavaScript).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_does_as_the_scenarios_say_in_python() {
    played_in(Language::Python).await;
}

/// The component is kept as it was built by the SDK for Rust of that time; see `tests/fixtures`.
#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_does_as_the_scenarios_say_for_a_component_of_the_contract_before() {
    let component = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/contract-0.1.0.wasm");
    let known = scenarios().into_iter().filter(|scenario| scenario["since"].is_null()).collect();
    played(known, |site, tenant, toml| {
        let plugin = format!("kinds = [\"hog.play\"]\nqueue = \"hogs\"\n\n{toml}");
        site.with_plugin("hog", tenant, Path::new(component), &plugin)
    })
    .await;
}

fn scenarios() -> Vec<Value> {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../sdk/scenarios/host.json");
    let text = fs::read_to_string(file).expect("the scenarios are there");
    serde_json::from_str(&text).expect("scenarios")
}

async fn played_in(language: Language) {
    played(scenarios(), |site, tenant, toml| site.with_hog_in(language, tenant, toml)).await;
}

/// Each scenario has a tenant of its own, with a folder for what its host grants, and the plugin that `with_hog` adds for it.
async fn played(scenarios: Vec<Value>, with_hog: impl Fn(Site, &str, &str) -> Site) {
    assert!(!scenarios.is_empty());
    let granted = tempfile::tempdir().expect("a folder");
    let mut site = Site::new(Backend::Embedded, "");
    let mut webs = Vec::new();
    for (number, scenario) in scenarios.iter().enumerate() {
        let web = web_of(&scenario["host"]).await;
        let toml = toml_of(&scenario["host"], &granted.path().join(name_of(number)), web.as_ref());
        webs.extend(web);
        site = with_hog(site, &name_of(number), &toml);
    }
    let broker = site.broker().await;
    let _daemon = site.daemon();
    for (number, scenario) in scenarios.iter().enumerate() {
        let stage = Stage {
            broker: &*broker,
            tenant: tenant(&name_of(number)),
            folder: granted.path().join(name_of(number)),
            name: scenario["name"].as_str().expect("a name"),
        };
        for act in scenario["play"].as_array().expect("a list") {
            match act["cancel"].as_str() {
                Some(key) => stage.cancel(key).await,
                None => stage.play(act).await,
            }
        }
    }
}

fn name_of(number: usize) -> String {
    format!("s{number}")
}

/// A web server that replies as the host of a scenario says, by path.
async fn web_of(host: &Value) -> Option<Web> {
    let replies: BTreeMap<String, (u16, Vec<u8>)> = members(&host["http"])
        .map(|(request, reply)| {
            let (_, path) = request.split_once(' ').expect("method and path");
            let status =
                reply["status"].as_u64().and_then(|status| u16::try_from(status).ok()).expect("a status");
            (path.to_owned(), (status, reply["body"].as_str().expect("a text").as_bytes().to_vec()))
        })
        .collect();
    if replies.is_empty() {
        return None;
    }
    let reply = move |path: &str| {
        let (status, body) = replies.get(path).cloned().unwrap_or_else(|| (500, b"no such path".to_vec()));
        Reply::Status(status, body)
    };
    Some(Web::start(reply).await)
}

/// What the host of a scenario grants, as TOML; and the folders and files that it does so with.
fn toml_of(host: &Value, folder: &Path, web: Option<&Web>) -> String {
    let attempts = host["max_attempts"].as_u64().unwrap_or(5);
    let mut toml = format!(
        "[retry]\nmax_attempts = {attempts}\nbackoff = {{ base = \"10ms\", max = \"20ms\" }}\n[limits]\n"
    );
    for (name, value) in members(&host["limits"]) {
        let value = if *name == "output" { format!("\"{value}B\"") } else { value.to_string() };
        writeln!(toml, "{name} = {value}").expect("text");
    }
    let mut granted = String::new();
    let mut values = String::new();
    for (name, value) in members(&host["secrets"]) {
        let file = folder.join(format!("secret-{name}"));
        write(&file, value.as_str().expect("a text"));
        write!(granted, "\"{name}\", ").expect("text");
        writeln!(values, "{name} = {{ file = {file:?} }}").expect("text");
    }
    let dirs: Vec<String> = host["dirs"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(|dir| {
            let place = folder.join(dir.trim_start_matches('/'));
            fs::create_dir_all(&place).expect("a folder");
            format!("{{ host = {place:?}, guest = \"{dir}\", access = \"read-write\" }}")
        })
        .collect();
    for (path, text) in members(&host["files"]) {
        write(&folder.join(path.trim_start_matches('/')), text.as_str().expect("a text"));
    }
    let given = members(&host["env"]).map(|(name, value)| format!("{name} = {value}"));
    let base = web.map(|web| format!("WEB = \"http://127.0.0.1:{}\"", web.port()));
    let env = given.chain(base).collect::<Vec<_>>().join(", ");
    let to = web.map(|web| format!("{{ to = \"127.0.0.1:{}\", private = \"allow\" }}", web.port()));
    write!(
        toml,
        "[grants]\nsecrets = [{granted}]\nenv = {{ {env} }}\ndirs = [{}]\nhttp = [{}]\n[secrets]\n{values}",
        dirs.join(", "),
        to.unwrap_or_default()
    )
    .expect("text");
    toml
}

fn members(of: &Value) -> impl Iterator<Item = (&String, &Value)> {
    of.as_object().into_iter().flat_map(Map::iter)
}

fn write(file: &Path, text: &str) {
    fs::create_dir_all(file.parent().expect("a folder")).expect("a folder");
    fs::write(file, text).expect("a file");
}

/// Where a scenario is played.
struct Stage<'a> {
    broker: &'a dyn Broker,
    tenant: TenantId,
    folder: PathBuf,
    name: &'a str,
}

impl Stage<'_> {
    async fn play(&self, act: &Value) {
        let (name, expect) = (self.name, &act["expect"]);
        let job = hog_job("hog.play", &json!({"attempts": act["attempts"]}).to_string());
        let job = NewJob { options: options_of(&act["job"]), ..job };
        self.broker.enqueue(&self.tenant, std::slice::from_ref(&job)).await.expect("the broker is up");
        let record = finished(self.broker, &self.tenant, job.id).await;
        let message = record.message.clone().unwrap_or_default();
        assert_eq!(
            (json!(record.state.to_string()), json!(record.attempts)),
            (expect["state"].clone(), expect["attempts"].clone()),
            "{name}: {message}"
        );
        if let Some(says) = expect["message"].as_str() {
            assert!(message.contains(says), "{name}: {message}");
        }
        if !expect["answers"].is_null() {
            assert_eq!(self.answers(job.id, record.attempts).await, expect["answers"], "{name}");
        }
        if !expect["progress"].is_null() {
            let progress = record.progress.expect("it was reported");
            let found = json!({"done": progress.done, "total": progress.total, "message": progress.message});
            assert_eq!(found, expect["progress"], "{name}");
        }
        let hog = PluginName::parse("hog").expect("valid");
        for (key, wanted) in members(&expect["stored"]) {
            let found = self.broker.state(&self.tenant, &hog, &StateKey::parse(key).expect("a key")).await;
            let found = found.expect("the broker is up").map_or_else(
                || json!("absent"),
                |bytes| {
                    let value: Value = serde_json::from_slice(&bytes).expect("JSON");
                    json!({"value": value})
                },
            );
            assert_eq!(&found, wanted, "{name}: {key}");
        }
        for (path, text) in members(&expect["files"]) {
            let found = fs::read_to_string(self.folder.join(path.trim_start_matches('/'))).expect("a file");
            assert_eq!(&json!(found), text, "{name}: {path}");
        }
        if let Some(wanted) = expect["jobs"].as_array() {
            let found = self.others().await.iter().map(described).collect();
            assert_eq!(sorted(found), sorted(wanted.clone()), "{name}");
        }
    }

    async fn answers(&self, job: JobId, attempts: u32) -> Value {
        let log = self.broker.log(&self.tenant, job).await.expect("the broker is up");
        let answer = |line: &LogLine| {
            let (_, answer) = line.fields.iter().find(|(field, _)| field == "answer").expect("an answer");
            serde_json::from_str::<Value>(answer).expect("JSON")
        };
        let of = |attempt| log.iter().filter(move |line| line.message == "answer" && line.attempt == attempt);
        json!((1..=attempts).map(|attempt| of(attempt).map(answer).collect::<Vec<_>>()).collect::<Vec<_>>())
    }

    /// The jobs that those which were played have enqueued.
    async fn others(&self) -> Vec<JobRecord> {
        let mut others = Vec::new();
        for state in [State::Scheduled, State::Ready, State::Cancelled] {
            let page = self.broker.jobs(&self.tenant, Query::of(state, 100)).await.expect("the broker is up");
            others.extend(page.jobs.into_iter().filter(|job| job.kind.as_str() != "hog.play"));
        }
        others
    }

    async fn cancel(&self, key: &str) {
        let others = self.others().await;
        let waits = |job: &&JobRecord| !job.state.is_final() && unique_key(job).as_deref() == Some(key);
        let job =
            others.iter().find(waits).unwrap_or_else(|| panic!("{}: no job has the key {key}", self.name));
        self.broker.cancel(&self.tenant, job.id).await.expect("the broker is up");
    }
}

/// A store has the kind before the key.
fn unique_key(job: &JobRecord) -> Option<String> {
    let key = job.unique_key.as_ref()?.as_str();
    Some(
        key.strip_prefix(job.kind.as_str())
            .and_then(|key| key.strip_prefix('/'))
            .expect("kind and key")
            .to_owned(),
    )
}

/// What a job is given beside its payload.
fn options_of(given: &Value) -> JobOptions {
    let text = |name: &str| given[name].as_str();
    let labels = members(&given["labels"]).map(|(name, value)| {
        let value = value.as_str().expect("a text");
        (LabelName::parse(name).expect("a name"), LabelValue::parse(value).expect("a value"))
    });
    JobOptions {
        group: text("group").map(|group| GroupKey::parse(group).expect("a group")),
        labels: Labels::of(labels).expect("few labels"),
        content_type: text("content_type").map(|given| ContentType::parse(given).expect("a content type")),
        deadline: given["deadline_ms"].as_u64().map(Duration::from_millis),
        ..JobOptions::default()
    }
}

/// What a job has beside the usual is there only if it has it.
fn described(job: &JobRecord) -> Value {
    let JobOptions { group, start_within, deadline, labels, content_type, .. } = &job.options;
    let delay = job.due_at.map_or(Duration::ZERO, |due| due.since(job.enqueued_at));
    let from_due = |time: &Option<Duration>| time.map(|time| json!(millis(time.saturating_sub(delay))));
    let texts: BTreeMap<_, _> = labels.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let mut described = json!({
        "kind": job.kind.as_str(),
        "payload": serde_json::from_slice::<Value>(&job.payload).expect("JSON"),
        "queue": job.queue.as_str(),
        "delayed": job.due_at.is_some(),
        "priority": job.priority.0,
        "unique_key": unique_key(job),
        "state": if job.state == State::Cancelled { "cancelled" } else { "waiting" },
    });
    for (name, value) in [
        ("group", group.as_ref().map(|group| json!(group.as_str()))),
        ("content_type", content_type.as_ref().map(|content_type| json!(content_type.as_str()))),
        ("labels", Some(json!(texts)).filter(|_| !labels.is_empty())),
        ("start_within_ms", from_due(start_within)),
        ("deadline_ms", from_due(deadline)),
    ] {
        described.as_object_mut().expect("an object").extend(value.map(|value| (name.to_owned(), value)));
    }
    described
}

/// Jobs that are enqueued together have no order that a list shows.
fn sorted(mut jobs: Vec<Value>) -> Vec<Value> {
    jobs.sort_by_key(Value::to_string);
    jobs
}
