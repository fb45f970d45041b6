//! What the fresh sandbox of a job costs: `Engine::run`, beside a bare loop of wasmtime's calls on the same engine, the
//! same component and with the same limits, in turn.
//!
//! | way | what is timed |
//! |---|---|
//! | bare | a store under limits, an instance, the call, and all of it dropped, over and over on one thread |
//! | engine, sandbox | the processor time that a job is billed for, in the next way: all that its sandbox takes, and not what it takes to hand jobs from thread to thread |
//! | engine, busy | `Engine::run` from end to end with one guest thread and jobs waiting for it: wall time by job |
//! | engine, idle | `Engine::run` from end to end, one job after the other: each wakes a thread that sleeps, twice |
//!
//! The handler is `hog.echo` of `plugins/hog`, which returns its payload. The machine should have a processor for the
//! guest thread and one for the thread that hands jobs over, as a daemon has.

use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use comfy_table::{Table, presets};
use futures::future::join_all;
use sandhog_core::admit::{Admission, Choice, Offer, Plan, admit};
use sandhog_core::budget::{Budget, Bytes, Fuel};
use sandhog_core::compile::CompileBudget;
use sandhog_core::id::{JobId, Kind, PluginName, QueueName, StateKey, TenantId};
use sandhog_core::job::{Job, Level, NewJob, Progress};
use sandhog_core::outcome::Outcome;
use sandhog_core::settle::RetryPolicy;
use sandhog_core::time::Timestamp;
use sandhog_engine::{
    Abort, Class, Config, Engine, EnqueueRefusal, Grants, Host, Input, JobAsk, LoadSpec, MemoryAccount,
    Plugin, Share,
};
use wasmtime::component::{Component, Linker};
use wasmtime::{Store, StoreLimits, StoreLimitsBuilder, UpdateDeadline};

use crate::figures::{Figures, median};
use crate::rounds::in_turns;

mod bindings {
    #![allow(missing_docs)]
    wasmtime::component::bindgen!({
        path: "../wit",
        world: "handler",
        exports: { default: async },
    });
}

const ROUNDS: usize = 41;
const JOBS: u32 = 512;
/// Jobs that are under way at once where the engine is busy.
const AT_ONCE: u32 = 32;
const KIND: &str = "hog.echo";
const PAYLOAD: &[u8] = b"\"ping\"";
const FUEL: u64 = 1_000_000_000;
const FUEL_SYNC: u64 = 10_000_000;
const MEMORY: Bytes = Bytes::mib(64);
const TABLE: u64 = 10_000;

/// Measures, and prints a table.
pub(crate) fn run(figures: &mut Figures) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.expect("a runtime");
    let wasm = std::fs::read(sandhog_tests::component("hog")).expect("it was built");
    let config = Config { guest_threads: NonZeroUsize::MIN, ..Config::default() };
    let engine = Engine::new(config).expect("an engine");
    let bare = Bare::new(&engine, &wasm);
    let ours = Ours::new(engine, wasm);
    let ways = ["bare wasmtime", "engine, sandbox", "engine, busy", "engine, idle"];
    let measured = in_turns(ROUNDS, &ways, |way| {
        let time = runtime.block_on(async {
            match *way {
                "bare wasmtime" => bare.round().await,
                "engine, sandbox" => ours.busy().await.1,
                "engine, busy" => ours.busy().await.0,
                _ => ours.idle().await,
            }
        });
        time.as_secs_f64() * 1e6
    });
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED).set_header(["way", "by job", "to bare"]);
    let bare = median(&measured[0]);
    for (way, rounds) in ways.into_iter().zip(measured) {
        let time = median(&rounds);
        table.add_row([way, &format!("{time:.1} µs"), &format!("{:.2}", time / bare)]);
        figures.add("sandbox", way, "us_per_job", &rounds);
    }
    println!("{table}\nmedians of {ROUNDS} rounds of {JOBS} jobs each");
}

/// Wasmtime alone.
struct Bare {
    engine: wasmtime::Engine,
    pre: bindings::HandlerPre<StoreLimits>,
}

impl Bare {
    fn new(engine: &Engine, wasm: &[u8]) -> Self {
        let engine = engine.wasmtime().clone();
        let component = Component::new(&engine, wasm).expect("it compiles");
        let mut linker = Linker::new(&engine);
        linker.define_unknown_imports_as_traps(&component).expect("it is linked");
        let pre = linker.instantiate_pre(&component).and_then(bindings::HandlerPre::new);
        Self { engine, pre: pre.expect("it is a handler") }
    }

    async fn round(&self) -> Duration {
        let job = bindings::Job {
            id: JobId::from_parts(Timestamp::from_millis(1), 1).to_string(),
            kind: KIND.to_owned(),
            payload: PAYLOAD.to_vec(),
        };
        let start = Instant::now();
        for _ in 0..JOBS {
            assert_eq!(self.call(&job).await.expect("it doesn't trap").expect("it returns"), PAYLOAD);
        }
        start.elapsed() / JOBS
    }

    async fn call(&self, job: &bindings::Job) -> wasmtime::Result<Result<Vec<u8>, bindings::Failure>> {
        let memory = usize::try_from(MEMORY.0)?;
        let limits = StoreLimitsBuilder::new().memory_size(memory).table_elements(usize::try_from(TABLE)?);
        let mut store = Store::new(&self.engine, limits.build());
        store.limiter(|limits| limits);
        store.fuel_async_yield_interval(Some(FUEL_SYNC))?;
        store.set_fuel(FUEL)?;
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(|_| Ok(UpdateDeadline::Continue(1)));
        let handler = self.pre.instantiate_async(&mut store).await?;
        handler.call_handle(&mut store, job).await
    }
}

/// The engine, as a daemon has it.
struct Ours {
    engine: Engine,
    plugin: Arc<Plugin>,
    host: Arc<dyn Host>,
    acme: TenantId,
    memory: MemoryAccount,
}

impl Ours {
    fn new(engine: Engine, wasm: Vec<u8>) -> Self {
        let acme = TenantId::parse("acme").expect("a tenant");
        let spec = LoadSpec {
            name: PluginName::parse("hog").expect("a name"),
            tenant: acme.clone(),
            wasm,
            compile: CompileBudget::default(),
            grants: Grants::default(),
        };
        let plugin = Arc::new(engine.load(spec).expect("it is a handler"));
        Self { engine, plugin, host: Arc::new(Silent), acme, memory: MemoryAccount::default() }
    }

    /// Time by job while there is always another one; and how much of it the guest thread was at work.
    async fn busy(&self) -> (Duration, Duration) {
        let start = Instant::now();
        let stream = || async {
            let mut at_work = Duration::ZERO;
            for _ in 0..JOBS / AT_ONCE {
                at_work += self.run().await;
            }
            at_work
        };
        let at_work: Duration = join_all((0..AT_ONCE).map(|_| stream())).await.into_iter().sum();
        (start.elapsed() / JOBS, at_work / JOBS)
    }

    /// Time by job where each one is alone.
    async fn idle(&self) -> Duration {
        let start = Instant::now();
        for _ in 0..JOBS {
            self.run().await;
        }
        start.elapsed() / JOBS
    }

    /// Runs one job, and returns the processor time of the guest thread.
    async fn run(&self) -> Duration {
        let input = Input {
            id: JobId::from_parts(Timestamp::from_millis(1), 1),
            kind: Kind::parse(KIND).expect("a kind"),
            payload: PAYLOAD.to_vec(),
            tenant: self.acme.clone(),
            queue: QueueName::parse("default").expect("a queue"),
            attempt: 1,
            max_attempts: 1,
            deadline: Timestamp::from_millis(1),
        };
        let share = Share {
            tenant: self.acme.clone(),
            weight: NonZeroU32::MIN,
            class: Class::Normal,
            memory: self.memory.clone(),
            memory_max: Bytes::mib(8192),
        };
        let plan = self.plan(&input);
        let report = self.engine.run(plan, input, Arc::clone(&self.host), share, Abort::new()).await;
        match report.outcome {
            Outcome::Returned { output, .. } => assert_eq!(output, PAYLOAD),
            other => panic!("{other:?}"),
        }
        report.usage.cpu
    }

    fn plan(&self, input: &Input) -> Plan<Arc<Plugin>> {
        let budget = Budget { fuel: Fuel(FUEL), memory: MEMORY, table_elements: TABLE, ..Budget::DEFAULT };
        let retry = RetryPolicy::default();
        let offer = Offer { plugin: Arc::clone(&self.plugin), budget, retry, payload_max: Bytes::mib(1) };
        let job = Job {
            id: input.id,
            tenant: input.tenant.clone(),
            queue: input.queue.clone(),
            kind: input.kind.clone(),
            payload: Vec::new(),
            pinned: None,
            attempts: 0,
            enqueued_at: Timestamp::from_millis(1),
        };
        match admit(&job, Choice::Offer(offer)) {
            Admission::Run(plan) => plan,
            other => panic!("{other:?}"),
        }
    }
}

/// A host that is never asked anything.
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
