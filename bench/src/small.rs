//! Case `small`: times of the small steps of a job, by criterion: decisions, and steps of a sandbox.
//!
//! | case | what is timed |
//! |---|---|
//! | `small/attempt` | the state machine of an attempt, from its lease to its settlement |
//! | `small/admit` | the decision whether a leased job runs now, and under which terms |
//! | `small/config` | reading and checking a daemon's file and ten plugins' |
//! | `small/call` | bare wasmtime: a store, an instance, a call, and dropping all of it |
//! | `small/run` | the engine: the same as a run, on a guest thread and back |
//! | `small/pick-1` | the engine per job, if 1,000 jobs of one tenant wait for one guest thread |
//! | `small/pick-1000` | the same with jobs of 1,000 tenants: the difference is the cost of choosing the next tenant |

use std::hint::black_box;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::Criterion;
use futures::future::join_all;
use sandhog_core::admit::{Choice, admit};
use sandhog_core::attempt::{Action, Attempt, Ending, Event, SettleReply};
use sandhog_core::effects::Effects;
use sandhog_core::id::{LeaseNo, TenantId};
use sandhog_core::outcome::Outcome;
use sandhog_core::retry::Chance;
use sandhog_core::settle::AttemptCounts;
use sandhog_core::time::Mono;
use sandhog_engine::{Config, Engine};
use sandhog_tests::{Backend, Site, component, tenant};
use serde::Deserialize;
use tokio::runtime::Runtime;

use crate::bare::{Bare, Stops};
use crate::figures::Figures;
use crate::ours::{self, ECHO, Ours};

const SAMPLES: usize = 30;
const WARM_UP: Duration = Duration::from_secs(1);
const MEASURED: Duration = Duration::from_secs(3);

/// Number of tenants, or of jobs of one tenant, that wait for a guest thread.
const CROWD: usize = 1000;
const INSTANCES: NonZeroU32 = NonZeroU32::new(CROWD as u32).expect("it is not zero");

/// Runs the case.
pub(crate) fn run(figures: &mut Figures) {
    let kept = tempfile::tempdir().expect("a temporary folder");
    let mut criterion = Criterion::default()
        .without_plots()
        .output_directory(kept.path())
        .sample_size(SAMPLES)
        .warm_up_time(WARM_UP)
        .measurement_time(MEASURED);
    decisions(&mut criterion);
    configuration(&mut criterion);
    sandboxes(&mut criterion);
    let names = ["attempt", "admit", "config", "call", "run", "pick-1", "pick-1000"];
    for name in names {
        figures.add(&format!("small/{name}"), "sandhog", "ns", &samples_of(kept.path(), name));
    }
}

/// Returns the nanoseconds per iteration of each of criterion's samples.
fn samples_of(kept: &Path, name: &str) -> Vec<f64> {
    let text =
        std::fs::read(kept.join(name).join("new/sample.json")).expect("criterion has kept its samples");
    let Samples { iters, times } = serde_json::from_slice(&text).expect("criterion's own form");
    times.iter().zip(iters).map(|(nanos, times)| nanos / times).collect()
}

/// Samples in criterion's own format.
#[derive(Deserialize)]
struct Samples {
    iters: Vec<f64>,
    times: Vec<f64>,
}

fn decisions(criterion: &mut Criterion) {
    criterion.bench_function("attempt", |bencher| bencher.iter(|| black_box(succeed())));
    let job = ours::job(&tenant("acme"));
    criterion.bench_function("admit", |bencher| {
        bencher.iter(|| black_box(admit(black_box(&job), Choice::Offer(ours::offer(())))))
    });
}

/// Plays an attempt that succeeds.
fn succeed() -> Action {
    let at = |millis| Mono::from_origin(Duration::from_millis(black_box(millis)));
    let chance = Chance::from_bits(1);
    let mut attempt = Attempt::new(AttemptCounts { lease: LeaseNo(1), attempts: 0, faults: 0 }, at(30_000));
    let admitted = Event::Admitted { retry: Arc::default(), deadline: at(20_000) };
    let returned = Outcome::Returned { output: Vec::new(), effects: Effects::default() };
    attempt.on(admitted, at(1), chance);
    attempt.on(Event::Exited(returned), at(2), chance);
    let end = attempt.on(Event::Settled(SettleReply::Applied), at(3), chance);
    assert_eq!(end, Action::End(Ending::Settled));
    end
}

fn configuration(criterion: &mut Criterion) {
    let mut site = Site::new(Backend::Embedded, "");
    for n in 0..10 {
        site = site.with_hog(&format!("t{n}"), "");
    }
    criterion.bench_function("config", |bencher| {
        bencher.iter(|| black_box(sandhog_config::load(&site.config()).expect("it is right")))
    });
}

fn sandboxes(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let _entered = runtime.enter();
    let wasm = std::fs::read(component("hog")).expect("it was built");
    let config = Config { guest_threads: NonZeroUsize::MIN, instances: INSTANCES, ..Config::default() };
    let engine = Engine::new(config).expect("an engine");
    let bare = Bare::new(&engine, &wasm, Stops::Both);
    let ours = Ours::new(engine, wasm);
    let (kind, payload) = ECHO;
    criterion.bench_function("call", |bencher| bencher.iter(|| runtime.block_on(bare.call(kind, payload))));
    let acme = tenant("acme");
    criterion.bench_function("run", |bencher| bencher.iter(|| runtime.block_on(ours.echo(&acme))));
    let many: Vec<TenantId> = (0..CROWD).map(|n| tenant(&format!("t{n}"))).collect();
    let one = vec![acme; CROWD];
    for (name, tenants) in [("pick-1", one), ("pick-1000", many)] {
        criterion.bench_function(name, |bencher| {
            bencher.iter_custom(|times| {
                let began = Instant::now();
                for _ in 0..times.div_ceil(CROWD as u64) {
                    runtime.block_on(join_all(tenants.iter().map(|tenant| ours.echo(tenant))));
                }
                // The time per job, though jobs come in crowds.
                began.elapsed().mul_f64(times as f64 / times.next_multiple_of(CROWD as u64) as f64)
            });
        });
    }
}
