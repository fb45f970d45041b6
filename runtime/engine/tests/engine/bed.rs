//! What a run needs around it: an engine, a plan, and a host that remembers what it was told.

use std::collections::BTreeMap;
use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use sandhog_core::admit::{Admission, Choice, Offer, Plan, admit};
use sandhog_core::budget::{Budget, Bytes, Fuel};
use sandhog_core::compile::CompileBudget;
use sandhog_core::id::{JobId, Kind, PluginName, QueueName, StateKey, TenantId};
use sandhog_core::job::{Job, JobOptions, Level, NewJob, Progress};
use sandhog_core::outcome::{Limit, Outcome, Report};
use sandhog_core::time::Timestamp;
use sandhog_engine::{
    Abort, Class, Config, Engine, EnqueueRefusal, Grants, Host, Input, JobAsk, LoadSpec, MemoryAccount,
    Plugin, Share,
};
use tokio::sync::Notify;

/// Enough for every handler that behaves.
pub(crate) fn budget() -> Budget {
    Budget {
        fuel: Fuel(1_000_000_000),
        memory: Bytes::mib(16),
        table_elements: 1000,
        timeout: Duration::from_secs(60),
        output: Bytes::kib(64),
        log: Bytes::kib(16),
        effects: Bytes::kib(64),
        ..Budget::DEFAULT
    }
}

/// An engine and what is loaded into it.
pub(crate) struct Bed {
    pub(crate) engine: Engine,
    pub(crate) host: Arc<Told>,
}

pub(crate) fn config() -> Config {
    Config {
        guest_threads: NonZeroUsize::new(2).expect("two is not zero"),
        instances: NonZeroU32::new(8).expect("eight is not zero"),
        memory_max: Bytes::mib(64),
        ..Config::default()
    }
}

pub(crate) fn tenant(name: &str) -> TenantId {
    TenantId::parse(name).expect("tenants in tests are valid")
}

/// A share of this weight, with memory to spare.
pub(crate) fn share(name: &str, weight: u32) -> Share {
    Share {
        tenant: tenant(name),
        weight: NonZeroU32::new(weight).expect("not zero"),
        class: Class::Normal,
        memory: MemoryAccount::default(),
        memory_max: Bytes::mib(8192),
    }
}

pub(crate) fn spec(wasm: impl Into<Vec<u8>>, grants: Grants) -> LoadSpec {
    let name = PluginName::parse("guest").expect("a valid name");
    LoadSpec { name, tenant: tenant("acme"), wasm: wasm.into(), compile: CompileBudget::default(), grants }
}

impl Bed {
    pub(crate) fn new() -> Self {
        Self::with(config())
    }

    pub(crate) fn with(config: Config) -> Self {
        Self { engine: Engine::new(config).expect("an engine for tests"), host: Arc::default() }
    }

    pub(crate) fn load(&self, wasm: impl Into<Vec<u8>>) -> Arc<Plugin> {
        self.load_granted(wasm, Grants::default())
    }

    pub(crate) fn load_granted(&self, wasm: impl Into<Vec<u8>>, grants: Grants) -> Arc<Plugin> {
        Arc::new(self.engine.load(spec(wasm, grants)).expect("guests of tests can be loaded"))
    }

    /// Runs a guest once, within the usual budget.
    pub(crate) async fn run(&self, wasm: impl Into<Vec<u8>>) -> Report {
        self.run_within(wasm, budget()).await
    }

    pub(crate) async fn run_within(&self, wasm: impl Into<Vec<u8>>, budget: Budget) -> Report {
        self.start(&self.load(wasm), budget, Abort::new()).await
    }

    /// Runs a plugin once.
    pub(crate) async fn start(&self, plugin: &Arc<Plugin>, budget: Budget, abort: Abort) -> Report {
        self.start_for(plugin, budget, abort, share("acme", 1)).await
    }

    pub(crate) async fn start_for(
        &self,
        plugin: &Arc<Plugin>,
        budget: Budget,
        abort: Abort,
        share: Share,
    ) -> Report {
        let host = Arc::clone(&self.host) as Arc<dyn Host>;
        self.engine.run(plan(plugin, budget), input(b"payload"), host, share, abort).await
    }

    /// Holds that whatever ran before, a handler that behaves still runs.
    pub(crate) async fn still_works(&self) {
        let report = self.run(super::guests::echo()).await;
        let Outcome::Returned { output, .. } = &report.outcome else { panic!("{:?}", report.outcome) };
        assert_eq!(output, b"payload");
    }
}

pub(crate) fn plan(plugin: &Arc<Plugin>, budget: Budget) -> Plan<Arc<Plugin>> {
    let offer =
        Offer { plugin: Arc::clone(plugin), budget, retry: Arc::default(), payload_max: Bytes::mib(1) };
    let job = Job::of(
        NewJob::new(
            JobId::from_parts(Timestamp::from_millis(1), 1),
            QueueName::parse("default").expect("valid"),
            Kind::parse("test").expect("valid"),
            Vec::new(),
        ),
        tenant("acme"),
        Timestamp::from_millis(1),
    );
    match admit(&job, Choice::Offer(offer)) {
        Admission::Run(plan) => plan,
        other => panic!("{other:?}"),
    }
}

pub(crate) fn input(payload: &[u8]) -> Input {
    Input {
        id: JobId::from_parts(Timestamp::from_millis(1), 1),
        kind: Kind::parse("test").expect("valid"),
        payload: payload.to_vec(),
        tenant: tenant("acme"),
        queue: QueueName::parse("default").expect("valid"),
        attempt: 1,
        max_attempts: 5,
        deadline: Timestamp::from_millis(1000),
        enqueued_at: Timestamp::from_millis(1),
        options: JobOptions::default(),
    }
}

/// The limit that a run hit, if it hit one.
pub(crate) fn limit(report: &Report) -> Option<Limit> {
    match &report.outcome {
        Outcome::Exceeded { limit, .. } => Some(*limit),
        _ => None,
    }
}

/// The output of a run that returned one.
pub(crate) fn output(report: &Report) -> &[u8] {
    match &report.outcome {
        Outcome::Returned { output, .. } => output,
        other => panic!("{other:?}"),
    }
}

/// A host that remembers what it was told, and does what a test tells it.
#[derive(Default)]
pub(crate) struct Told {
    pub(crate) lines: Mutex<Vec<(Level, String)>>,
    pub(crate) progress: Mutex<Vec<Progress>>,
    pub(crate) stored: Mutex<BTreeMap<String, Vec<u8>>>,
    /// A guest has asked for state, or said something.
    pub(crate) heard: Notify,
    pub(crate) mood: Mutex<Mood>,
}

/// What the host does when it is asked for state; the last one is about lines of the log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Mood {
    #[default]
    Answers,
    /// Never answers.
    Silent,
    Panics,
    Refuses,
    PanicsAtLines,
}

impl Told {
    pub(crate) fn lines(&self) -> Vec<(Level, String)> {
        self.lines.lock().expect("no test panics with it").clone()
    }

    pub(crate) fn set_mood(&self, mood: Mood) {
        *self.mood.lock().expect("no test panics with it") = mood;
    }
}

#[async_trait]
impl Host for Told {
    async fn state(&self, key: &StateKey) -> Result<Option<Vec<u8>>, String> {
        self.heard.notify_one();
        let mood = *self.mood.lock().expect("no test panics with it");
        match mood {
            Mood::Answers | Mood::PanicsAtLines => {
                Ok(self.stored.lock().expect("no test panics with it").get(key.as_str()).cloned())
            }
            Mood::Silent => std::future::pending().await,
            Mood::Panics => panic!("the host lost its temper"),
            Mood::Refuses => Err("the store is away".to_owned()),
        }
    }

    fn new_job(&self, ask: JobAsk) -> Result<NewJob, EnqueueRefusal> {
        let id = JobId::from_parts(Timestamp::from_millis(2), 2);
        Ok(ask.into_job(id, &QueueName::parse("default").expect("valid"), Timestamp::from_millis(1000)))
    }

    fn progress(&self, progress: Progress) {
        self.progress.lock().expect("no test panics with it").push(progress);
        self.heard.notify_one();
    }

    fn log(&self, level: Level, message: String, _fields: Vec<(String, String)>) {
        let mood = *self.mood.lock().expect("no test panics with it");
        assert_ne!(mood, Mood::PanicsAtLines, "the host lost its temper");
        self.lines.lock().expect("no test panics with it").push((level, message));
        self.heard.notify_one();
    }
}
