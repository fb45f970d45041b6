//! Case `sandbox`: cost of the fresh sandbox of a job: `Engine::run`, compared with a bare loop of wasmtime's calls with the
//! same settings, component and limits, and with a process for each job.
//!
//! | subject | what is timed |
//! |---|---|
//! | `wasmtime` | a store with limits, an instance, the call, and dropping all of it, over and over on one thread |
//! | `sandhog` | the processor time that a job of `sandhog-busy` is billed for: its sandbox, without the hand-over to threads |
//! | `sandhog-busy` | `Engine::run` from end to end with one guest thread and jobs waiting for it: wall time per job |
//! | `sandhog-idle` | `Engine::run` from end to end, one job after the other: each wakes a thread that sleeps, twice |
//! | `process` | a process is started (`cat`), given the payload, and gives it back, one job after the other |
//! | `bullmq-sandboxed` | BullMQ with handlers in a child process that it keeps, one job after the other: its queue included |
//!
//! The handler is `hog.echo` of `plugins/hog`, which returns its payload. The machine should have a processor for the
//! guest thread and one for the thread that hands jobs over, as a daemon has.

use std::io::Write;
use std::num::NonZeroUsize;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use futures::future::join_all;
use sandhog_core::id::TenantId;
use sandhog_engine::{Config, Engine};
use sandhog_tests::{Fsync, Redis, tenant};

use crate::bare::{Bare, Stops};
use crate::figures::Figures;
use crate::ours::{ECHO, Ours};
use crate::peers::Peer;
use crate::rounds::in_turns;

const ROUNDS: usize = 41;
const JOBS: u32 = 512;
/// Number of jobs under way at once when the engine is busy.
const AT_ONCE: u32 = 32;
/// Number of jobs that are run as processes: fewer, as a process takes much longer.
const PROCESSES: u32 = 32;

const SUBJECTS: [&str; 6] =
    ["wasmtime", "sandhog", "sandhog-busy", "sandhog-idle", "process", "bullmq-sandboxed"];

/// Runs the case.
pub(crate) fn run(figures: &mut Figures) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.expect("a runtime");
    let _entered = runtime.enter();
    let wasm = std::fs::read(sandhog_tests::component("hog")).expect("it was built");
    let config = Config { guest_threads: NonZeroUsize::MIN, ..Config::default() };
    let engine = Engine::new(config).expect("an engine");
    let (bare, acme) = (Bare::new(&engine, &wasm, Stops::Both), tenant("acme"));
    let ours = Ours::new(engine, wasm);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let redis = Redis::start(folder.path(), Fsync::EverySecond);
    let mut bullmq = Peer::start("bullmq", &redis.url(), "sandbox");
    let micros = in_turns(ROUNDS, &SUBJECTS, |subject| {
        let time = runtime.block_on(async {
            match *subject {
                "wasmtime" => calls(&bare).await,
                "sandhog" => busy(&ours, &acme).await.1,
                "sandhog-busy" => busy(&ours, &acme).await.0,
                "sandhog-idle" => idle(&ours, &acme).await,
                "process" => processes(),
                _ => in_children(&mut bullmq),
            }
        });
        time.as_secs_f64() * 1e6
    });
    for (subject, times) in SUBJECTS.iter().zip(&micros) {
        figures.add("sandbox/echo", subject, "us_per_job", times);
    }
}

async fn calls(bare: &Bare) -> Duration {
    let (kind, payload) = ECHO;
    let start = Instant::now();
    for _ in 0..JOBS {
        assert_eq!(bare.call(kind, payload).await, payload);
    }
    start.elapsed() / JOBS
}

/// Returns the wall time per job while there is always another one, and the guest thread's processor time per job.
async fn busy(ours: &Ours, tenant: &TenantId) -> (Duration, Duration) {
    let start = Instant::now();
    let stream = || async {
        let mut at_work = Duration::ZERO;
        for _ in 0..JOBS / AT_ONCE {
            at_work += ours.echo(tenant).await.cpu;
        }
        at_work
    };
    let at_work: Duration = join_all((0..AT_ONCE).map(|_| stream())).await.into_iter().sum();
    (start.elapsed() / JOBS, at_work / JOBS)
}

/// Returns the time per job if each is run alone.
async fn idle(ours: &Ours, tenant: &TenantId) -> Duration {
    let start = Instant::now();
    for _ in 0..JOBS {
        ours.echo(tenant).await;
    }
    start.elapsed() / JOBS
}

/// Returns the time per job if each has a process of its own.
fn processes() -> Duration {
    let (_, payload) = ECHO;
    let start = Instant::now();
    for _ in 0..PROCESSES {
        let cat = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut cat = cat.expect("it can be started");
        cat.stdin.take().expect("it is piped").write_all(payload).expect("it reads");
        assert_eq!(cat.wait_with_output().expect("it ends").stdout, payload);
    }
    start.elapsed() / PROCESSES
}

/// Returns the time per job if a child process of the worker runs one after the other.
fn in_children(bullmq: &mut Peer) -> Duration {
    let jobs = JOBS as usize;
    bullmq.enqueue(jobs);
    bullmq.work_in_children(jobs, 1).settled() / JOBS
}
