//! An engine, and a host that holds what it is told against the limits.

use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use sandhog_core::admit::{Admission, Choice, Offer, admit};
use sandhog_core::budget::{Budget, Bytes, Fuel};
use sandhog_core::compile::CompileBudget;
use sandhog_core::id::{JobId, Kind, PluginName, QueueName, StateKey, TenantId};
use sandhog_core::job::{Job, JobOptions, Level, NewJob, Progress};
use sandhog_core::outcome::{Outcome, Report};
use sandhog_core::time::Timestamp;
use sandhog_engine::{
    Abort, Access, Class, Config, DirGrant, Engine, EnqueueRefusal, Grants, Host, HttpGrant, Input, JobAsk,
    LoadSpec, MemoryAccount, Plugin, Private, Share,
};
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// What each run may spend: little, for there are many.
pub(crate) const BUDGET: Budget = Budget {
    fuel: Fuel(2_000_000),
    memory: Bytes::mib(4),
    table_elements: 1000,
    timeout: Duration::from_millis(50),
    output: Bytes::kib(16),
    log: Bytes::kib(16),
    effects: Bytes::kib(16),
    ..Budget::DEFAULT
};

/// What the last line of a log may add, which says how many were dropped.
const LAST_LINE: u64 = 256;

/// The most of a message of progress that a host is told.
const MESSAGE_MAX: usize = 1024 + '…'.len_utf8();

/// An engine with its runtime; one a process.
pub(crate) struct Bed {
    runtime: Runtime,
    engine: Engine,
    /// What the guest is granted.
    folder: TempDir,
}

/// The one of this process.
pub(crate) fn bed() -> &'static Bed {
    static BED: OnceLock<Bed> = OnceLock::new();
    BED.get_or_init(|| {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let config = Config {
            guest_threads: NonZeroUsize::MIN,
            instances: NonZeroU32::new(4).expect("four is not zero"),
            memory_max: BUDGET.memory,
            ..Config::default()
        };
        let engine = {
            let _entered = runtime.enter();
            Engine::new(config).expect("an engine")
        };
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("file"), "content").expect("a file");
        Bed { runtime, engine, folder }
    })
}

impl Bed {
    /// Loads a component, if it can be.
    pub(crate) fn load(&self, wasm: &[u8]) -> Result<Arc<Plugin>, sandhog_engine::Error> {
        let (name, tenant) = (PluginName::parse("guest").expect("valid"), tenant());
        let compile = CompileBudget { component: Bytes::kib(256), ..CompileBudget::default() };
        let spec = LoadSpec { name, tenant, wasm: wasm.to_vec(), compile, grants: self.grants() };
        self.engine.load(spec).map(Arc::new)
    }

    /// A directory, and a server that there isn't.
    fn grants(&self) -> Grants {
        let dir = DirGrant {
            host: self.folder.path().to_owned(),
            guest: "/d".to_owned(),
            access: Access::ReadWrite,
            quota: Some(Bytes::mib(1)),
        };
        let to = "127.0.0.1:9".parse().expect("a host and a port");
        let http = HttpGrant { to, private: Private::Allow };
        Grants { dirs: vec![dir], http: vec![http], ..Grants::default() }
    }

    /// Runs a plugin once on this payload, and holds the report, and all the host was told, against the limits.
    pub(crate) fn run(&self, plugin: &Arc<Plugin>, payload: &[u8]) -> Report {
        let host = Arc::new(Told::default());
        let offer = Offer {
            plugin: Arc::clone(plugin),
            budget: BUDGET,
            retry: Arc::default(),
            payload_max: Bytes::mib(1),
        };
        let Admission::Run(plan) = admit(&job(), Choice::Offer(offer)) else {
            panic!("nothing is against it")
        };
        let (weight, memory_max) = (NonZeroU32::MIN, Bytes::mib(64));
        let (class, memory) = (Class::Normal, MemoryAccount::default());
        let share = Share { tenant: tenant(), weight, class, memory, memory_max };
        let (input, theirs) = (input(payload), Arc::clone(&host) as Arc<dyn Host>);
        let run = self.engine.run(plan, input, theirs, share, Abort::new());
        let report = self.runtime.block_on(run);
        holds(&report, &host);
        report
    }
}

fn holds(report: &Report, host: &Told) {
    let (outcome, usage) = (&report.outcome, report.usage);
    assert!(!matches!(outcome, Outcome::HostFault { .. }), "a guest made the host fail: {outcome:?}");
    if let Outcome::Returned { output, effects } = outcome {
        assert!(Bytes::of(output.len()) <= BUDGET.output, "an output of {}", output.len());
        assert!(effects.size() <= BUDGET.effects, "effects of {}", effects.size());
    }
    assert!(usage.fuel <= BUDGET.fuel && usage.memory_peak <= BUDGET.memory, "{usage:?}");
    let logged = host.logged.load(Ordering::Relaxed);
    assert!(logged <= BUDGET.log.0 + LAST_LINE, "{logged} bytes were logged");
}

fn tenant() -> TenantId {
    TenantId::parse("acme").expect("valid")
}

fn id() -> JobId {
    JobId::from_parts(Timestamp::from_millis(1), 1)
}

fn job() -> Job {
    Job::of(
        NewJob::new(
            id(),
            QueueName::parse("default").expect("valid"),
            Kind::parse("test").expect("valid"),
            Vec::new(),
        ),
        tenant(),
        Timestamp::from_millis(1),
    )
}

fn input(payload: &[u8]) -> Input {
    Input {
        id: id(),
        kind: Kind::parse("test").expect("valid"),
        payload: payload.to_vec(),
        tenant: tenant(),
        queue: QueueName::parse("default").expect("valid"),
        attempt: 1,
        max_attempts: 5,
        deadline: Timestamp::from_millis(1000),
        enqueued_at: Timestamp::from_millis(1),
        options: JobOptions::default(),
    }
}

/// A host that has a value for every key.
#[derive(Debug, Default)]
struct Told {
    logged: AtomicU64,
}

#[async_trait]
impl Host for Told {
    async fn state(&self, key: &StateKey) -> Result<Option<Vec<u8>>, String> {
        match key.as_str().len() % 4 {
            0 => Ok(None),
            1 => Ok(Some(b"41".to_vec())),
            2 => Ok(Some(vec![0xff; 1000])),
            _ => Err("the store is away".to_owned()),
        }
    }

    fn new_job(&self, ask: JobAsk) -> Result<NewJob, EnqueueRefusal> {
        if ask.kind.as_str().starts_with('x') {
            return Err(EnqueueRefusal::UnknownKind);
        }
        let queue = QueueName::parse("default").expect("valid");
        Ok(ask.into_job(id(), &queue, Timestamp::from_millis(1000)))
    }

    fn progress(&self, progress: Progress) {
        assert!(progress.message.is_none_or(|message| message.len() <= MESSAGE_MAX), "a long message");
    }

    fn log(&self, _level: Level, message: String, fields: Vec<(String, String)>) {
        let fields: usize = fields.iter().map(|(name, value)| name.len() + value.len()).sum();
        self.logged.fetch_add((message.len() + fields) as u64, Ordering::Relaxed);
    }
}
