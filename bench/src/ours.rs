//! Sandhog's engine as in a daemon, in this process, with jobs that come from no broker.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sandhog_core::admit::{Admission, Choice, Offer, Plan, admit};
use sandhog_core::budget::{Budget, Bytes, Fuel};
use sandhog_core::compile::CompileBudget;
use sandhog_core::id::{JobId, Kind, PluginName, QueueName, StateKey, TenantId};
use sandhog_core::job::{Job, JobOptions, Level, NewJob, Progress};
use sandhog_core::outcome::{Outcome, Usage};
use sandhog_core::time::Timestamp;
use sandhog_engine::{
    Abort, Class, Engine, EnqueueRefusal, Grants, Host, Input, JobAsk, LoadSpec, MemoryAccount, Plugin, Share,
};
use sandhog_tests::tenant;

/// Kind of job that returns its payload, and the payload.
pub(crate) const ECHO: (&str, &[u8]) = ("hog.echo", b"\"ping\"");

/// The engine with one plugin.
pub(crate) struct Ours {
    engine: Engine,
    plugin: Arc<Plugin>,
    host: Arc<dyn Host>,
    memory: MemoryAccount,
}

impl Ours {
    /// Loads the component `hog`.
    ///
    /// # Panics
    /// If it isn't there.
    pub(crate) fn new(engine: Engine, wasm: Vec<u8>) -> Self {
        let spec = LoadSpec {
            name: PluginName::parse("hog").expect("a name"),
            tenant: tenant("acme"),
            wasm,
            compile: CompileBudget::default(),
            grants: Grants::default(),
        };
        let plugin = Arc::new(engine.load(spec).expect("it is a handler"));
        Self { engine, plugin, host: Arc::new(Silent), memory: MemoryAccount::default() }
    }

    /// Runs a job of a tenant that returns its payload at once, and returns its usage.
    ///
    /// # Panics
    /// If it ends in another way.
    pub(crate) async fn echo(&self, tenant: &TenantId) -> Usage {
        let (kind, payload) = ECHO;
        let input = Input {
            id: JobId::from_parts(Timestamp::from_millis(1), 1),
            kind: Kind::parse(kind).expect("a kind"),
            payload: payload.to_vec(),
            tenant: tenant.clone(),
            queue: QueueName::parse("default").expect("a queue"),
            attempt: 1,
            max_attempts: 1,
            deadline: Timestamp::from_millis(1),
            enqueued_at: Timestamp::from_millis(1),
            options: JobOptions::default(),
        };
        let share = Share {
            tenant: tenant.clone(),
            weight: NonZeroU32::MIN,
            class: Class::Normal,
            memory: self.memory.clone(),
            memory_max: Bytes::mib(8192),
        };
        let plan = plan(offer(Arc::clone(&self.plugin)), &job(tenant));
        let report = self.engine.run(plan, input, Arc::clone(&self.host), share, Abort::new()).await;
        match report.outcome {
            Outcome::Returned { output, .. } => assert_eq!(output, payload),
            other => panic!("{other:?}"),
        }
        report.usage
    }
}

/// Creates the offer that a catalog would have for the kind.
pub(crate) fn offer<P>(plugin: P) -> Offer<P> {
    let budget = Budget {
        fuel: Fuel(1_000_000_000),
        memory: Bytes::mib(64),
        timeout: Duration::from_secs(30),
        ..Budget::DEFAULT
    };
    Offer { plugin, budget, retry: Arc::default(), payload_max: Bytes::mib(1) }
}

/// Creates a job as a broker would lease it.
pub(crate) fn job(tenant: &TenantId) -> Job {
    let (kind, payload) = ECHO;
    Job::of(
        NewJob::new(
            JobId::from_parts(Timestamp::from_millis(1), 1),
            QueueName::parse("default").expect("a queue"),
            Kind::parse(kind).expect("a kind"),
            payload.to_vec(),
        ),
        tenant.clone(),
        Timestamp::from_millis(1),
    )
}

/// Admits a job, and returns the plan of its run.
///
/// # Panics
/// If the job isn't admitted.
pub(crate) fn plan<P: std::fmt::Debug>(offer: Offer<P>, job: &Job) -> Plan<P> {
    match admit(job, Choice::Offer(offer)) {
        Admission::Run(plan) => plan,
        other => panic!("{other:?}"),
    }
}

/// Host that is never called.
#[derive(Debug)]
struct Silent;

#[async_trait]
impl Host for Silent {
    async fn state(&self, _key: &StateKey) -> Result<Option<Vec<u8>>, String> {
        Ok(None)
    }

    fn new_job(&self, _ask: JobAsk) -> Result<NewJob, EnqueueRefusal> {
        Err(EnqueueRefusal::UnknownKind)
    }

    fn progress(&self, _progress: Progress) {}

    fn log(&self, _level: Level, _message: String, _fields: Vec<(String, String)>) {}
}
