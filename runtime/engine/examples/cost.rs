//! What a job costs: a run by the engine beside the bare calls of wasmtime that it can't do without.
//!
//! `cargo run --release -p sandhog-engine --example cost [component.wasm [kind [payload]]]`
//!
//! Without arguments the component is a few lines of WebAssembly text that return at once.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use sandhog_core::admit::{Admission, Choice, Offer, Plan, admit};
use sandhog_core::budget::{Budget, Bytes, Fuel};
use sandhog_core::compile::CompileBudget;
use sandhog_core::id::{JobId, Kind, PluginName, QueueName, StateKey, TenantId};
use sandhog_core::job::{Job, JobOptions, Level, NewJob, Progress};
use sandhog_core::outcome::{Outcome, Report};
use sandhog_core::time::Timestamp;
use sandhog_engine::{
    Abort, Class, Config, Engine, EnqueueRefusal, Grants, Host, Input, JobAsk, LoadSpec, MemoryAccount,
    Plugin, Share,
};
use wasmtime::component::{Component, Linker};
use wasmtime::error::Context as _;
use wasmtime::{Enabled, InstanceAllocationStrategy, PoolingAllocationConfig, Store};

mod bindings {
    #![allow(missing_docs)]
    wasmtime::component::bindgen!({
        path: "../../wit",
        world: "handler",
        exports: { default: async },
    });
}

const ROUNDS: usize = 5_000;

/// Quick jobs that are run while others spin.
const QUICK: usize = 500;

/// Runs that spin meanwhile.
const HOGS: usize = 8;

/// A handler in WebAssembly text; `BODY` is what it does before it returns nothing.
const HANDLER: &str = r#"(component
  (core module $m
    (memory (export "memory") 1)
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 4096))
    (func (export "handle") (param i32 i32 i32 i32 i32 i32) (result i32) BODY (i32.const 64)))
  (core instance $i (instantiate $m))
  (type $job' (record (field "id" string) (field "kind" string) (field "payload" (list u8))))
  (export $job "job" (type $job'))
  (type $transient' (record (field "message" string) (field "code" (option string))
    (field "retry-after-ms" (option u64))))
  (export $transient "transient-failure" (type $transient'))
  (type $limit' (record (field "downstream" (option string)) (field "after-ms" u64)))
  (export $limit "rate-limit" (type $limit'))
  (type $outage' (record (field "downstream" string) (field "after-ms" (option u64))))
  (export $outage "unavailable-service" (type $outage'))
  (type $failure' (variant (case "transient" $transient) (case "permanent" string) (case "snoozed" u64)
    (case "rate-limited" $limit) (case "unavailable" $outage)))
  (export $failure "failure" (type $failure'))
  (func (export "handle") (param "job" $job) (result (result (list u8) (error $failure)))
    (canon lift (core func $i "handle") (memory (core memory $i "memory"))
      (realloc (core func $i "realloc")))))"#;

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

/// What is run, over and over.
struct Work {
    wasm: Vec<u8>,
    kind: Kind,
    payload: Vec<u8>,
}

impl Work {
    fn of_args() -> wasmtime::Result<Self> {
        let mut args = std::env::args().skip(1);
        let wasm = match args.next() {
            Some(path) => std::fs::read(&path).with_context(|| format!("reading {path}"))?,
            None => HANDLER.replace("BODY", "").into_bytes(),
        };
        let kind = Kind::parse(args.next().as_deref().unwrap_or("hog.echo"))?;
        let payload = args.next().unwrap_or_else(|| "{}".to_owned()).into_bytes();
        Ok(Self { wasm, kind, payload })
    }

    fn input(&self) -> wasmtime::Result<Input> {
        Ok(Input {
            id: JobId::from_parts(Timestamp::from_millis(1), 1),
            kind: self.kind.clone(),
            payload: self.payload.clone(),
            tenant: TenantId::parse("acme")?,
            queue: QueueName::parse("default")?,
            attempt: 1,
            max_attempts: 1,
            deadline: Timestamp::from_millis(1),
            enqueued_at: Timestamp::from_millis(1),
            options: JobOptions::default(),
        })
    }
}

#[tokio::main]
async fn main() -> wasmtime::Result<()> {
    let work = Work::of_args()?;
    println!("median, 99th percentile and mean of {ROUNDS}, in microseconds:");
    for keep in [0, 64 << 10, 1 << 20, 4 << 20] {
        bare(&work, keep, Enabled::Auto).await?;
    }
    bare(&work, 1 << 20, Enabled::No).await?;
    one_after_the_other(&work).await?;
    many_at_once(&work, 2).await?;
    many_at_once(&work, 64).await?;
    beside_hogs(&work).await
}

/// A store, an instance, a call, and all of it dropped: on this very thread.
async fn bare(work: &Work, keep: usize, pagemap_scan: Enabled) -> wasmtime::Result<()> {
    let name = format!("bare wasmtime, {} KiB kept, pagemap scan {pagemap_scan:?}", keep >> 10);
    let mut pool = PoolingAllocationConfig::new();
    pool.linear_memory_keep_resident(keep).table_keep_resident(64 << 10).pagemap_scan(pagemap_scan);
    let mut config = wasmtime::Config::new();
    config.consume_fuel(true).epoch_interruption(true).concurrency_support(false);
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    let engine = wasmtime::Engine::new(&config)?;
    let component = Component::new(&engine, &work.wasm)?;
    let mut linker = Linker::<()>::new(&engine);
    linker.define_unknown_imports_as_traps(&component)?;
    let pre = bindings::HandlerPre::new(linker.instantiate_pre(&component)?)?;
    let job = bindings::Job {
        id: work.input()?.id.to_string(),
        kind: work.kind.as_str().to_owned(),
        payload: work.payload.clone(),
    };
    let mut took = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let start = Instant::now();
        let mut store = Store::new(&engine, ());
        store.set_fuel(1_000_000_000)?;
        store.set_epoch_deadline(1_000_000);
        let handler = pre.instantiate_async(&mut store).await?;
        let returned = handler.call_handle(&mut store, &job).await?;
        wasmtime::ensure!(returned.is_ok(), "the handler failed");
        drop(store);
        took.push(start.elapsed());
    }
    print(&name, &mut took);
    Ok(())
}

fn load(work: &Work) -> wasmtime::Result<(Engine, Arc<Plugin>)> {
    let engine = Engine::new(Config::default())?;
    let plugin = engine.load(LoadSpec {
        name: PluginName::parse("cost")?,
        tenant: TenantId::parse("acme")?,
        wasm: work.wasm.clone(),
        compile: CompileBudget::default(),
        grants: Grants::default(),
    })?;
    Ok((engine, Arc::new(plugin)))
}

fn plan(plugin: &Arc<Plugin>, input: &Input) -> wasmtime::Result<Plan<Arc<Plugin>>> {
    let budget = Budget {
        fuel: Fuel(u64::MAX),
        memory: Bytes::mib(64),
        timeout: Duration::from_secs(30),
        ..Budget::DEFAULT
    };
    let retry = Arc::default();
    let offer = Offer { plugin: Arc::clone(plugin), budget, retry, payload_max: Bytes::mib(1) };
    let job = Job::of(
        NewJob::new(input.id, input.queue.clone(), input.kind.clone(), Vec::new()),
        input.tenant.clone(),
        Timestamp::from_millis(1),
    );
    match admit(&job, Choice::Offer(offer)) {
        Admission::Run(plan) => Ok(plan),
        other => wasmtime::bail!("not admitted: {other:?}"),
    }
}

fn share(tenant: &TenantId) -> Share {
    Share {
        tenant: tenant.clone(),
        weight: NonZeroU32::MIN,
        class: Class::Normal,
        memory: MemoryAccount::default(),
        memory_max: Bytes::mib(8192),
    }
}

async fn run(engine: &Engine, plugin: &Arc<Plugin>, work: &Work) -> wasmtime::Result<Report> {
    let input = work.input()?;
    let share = share(&input.tenant);
    let plan = plan(plugin, &input)?;
    let report = engine.run(plan, input, Arc::new(Silent), share, Abort::new()).await;
    wasmtime::ensure!(matches!(report.outcome, Outcome::Returned { .. }), "{:?}", report.outcome);
    Ok(report)
}

/// Each job is handed to a guest thread that sleeps, and its end to a thread that sleeps: the latency of an idle
/// machine.
async fn one_after_the_other(work: &Work) -> wasmtime::Result<()> {
    let (engine, plugin) = load(work)?;
    let (mut took, mut cpu) = (Vec::with_capacity(ROUNDS), Vec::with_capacity(ROUNDS));
    for _ in 0..ROUNDS {
        let start = Instant::now();
        let report = run(&engine, &plugin, work).await?;
        took.push(start.elapsed());
        cpu.push(report.usage.cpu);
    }
    print("engine, one after the other: wall", &mut took);
    print("engine, one after the other: CPU of the guest thread", &mut cpu);
    Ok(())
}

/// The queue is never empty: the throughput of a busy machine.
async fn many_at_once(work: &Work, at_once: usize) -> wasmtime::Result<()> {
    let (engine, plugin) = load(work)?;
    let start = Instant::now();
    let streams = (0..at_once).map(|_| async {
        let mut cpu = Vec::new();
        for _ in 0..ROUNDS / at_once {
            cpu.push(run(&engine, &plugin, work).await?.usage.cpu);
        }
        wasmtime::Result::<_>::Ok(cpu)
    });
    let cpu = futures::future::try_join_all(streams).await?;
    let each = start.elapsed() / u32::try_from(ROUNDS)?;
    let mut cpu: Vec<_> = cpu.into_iter().flatten().collect();
    println!("{:>8.1}                    engine, {at_once} at once: wall by job", micros(each));
    print(&format!("engine, {at_once} at once: CPU of the guest thread"), &mut cpu);
    Ok(())
}

/// Every 5 ms a job, while runs of another tenant take all the time that they can get.
async fn beside_hogs(work: &Work) -> wasmtime::Result<()> {
    let (engine, plugin) = load(work)?;
    let (hogs, spin) = (TenantId::parse("hogs")?, HANDLER.replace("BODY", "(loop $for_ever br $for_ever)"));
    let spec = LoadSpec {
        name: PluginName::parse("spin")?,
        tenant: hogs.clone(),
        wasm: spin.into_bytes(),
        compile: CompileBudget::default(),
        grants: Grants::default(),
    };
    let spin = Arc::new(engine.load(spec)?);
    let mut spinning = tokio::task::JoinSet::new();
    for _ in 0..HOGS {
        let (engine, input) = (engine.clone(), work.input()?);
        let (plan, share) = (plan(&spin, &input)?, share(&hogs));
        spinning.spawn(async move { engine.run(plan, input, Arc::new(Silent), share, Abort::new()).await });
    }
    let mut took = Vec::with_capacity(QUICK);
    let mut every = tokio::time::interval(Duration::from_millis(5));
    for _ in 0..QUICK {
        every.tick().await;
        let start = Instant::now();
        run(&engine, &plugin, work).await?;
        took.push(start.elapsed());
    }
    print(&format!("engine, every 5 ms beside {HOGS} runs that spin: wall"), &mut took);
    Ok(())
}

fn print(name: &str, took: &mut [Duration]) {
    took.sort_unstable();
    let mean = took.iter().sum::<Duration>() / u32::try_from(took.len()).unwrap_or(1);
    let at = |part: usize| micros(took[took.len() * part / 100]);
    println!("{:>8.1}  {:>8.1}  {:>8.1}  {name}", at(50), at(99), micros(mean));
}

fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}
