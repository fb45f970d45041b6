//! Case `compute`: three real computations (`plugins/kernels`), of about a second each: as native code, in bare wasmtime,
//! and as a job from its enqueue to its settlement.
//!
//! | subject | what is timed |
//! |---|---|
//! | `native` | the same source, by the same compiler, with whatever the processor has for it |
//! | `wasmtime-plain` | bare wasmtime with the engine's settings, but with nothing that stops a guest |
//! | `wasmtime-fuel` | the same with fuel |
//! | `wasmtime-epochs` | the same with epochs, which rise every millisecond |
//! | `wasmtime` | the same with both, as for guests of Sandhog |
//! | `sandhog` | a job of a daemon, with an embedded broker: from enqueued to settled, by the broker's clock |

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sandhog_broker::Broker;
use sandhog_core::id::TenantId;
use sandhog_core::job::State;
use sandhog_engine::{Config, Engine};
use sandhog_tests::{Backend, Daemon, Site, component, finished, hog_job, tenant};
use tokio::runtime::Runtime;

use crate::bare::{Bare, Stops};
use crate::figures::Figures;
use crate::rounds::in_turns;

const ROUNDS: usize = 7;
const KERNELS: [&str; 3] = ["resize", "json", "sha256"];

/// Approximate time of the work in wasmtime.
const WORK: Duration = Duration::from_secs(1);

const SUBJECTS: [Subject; 6] = [
    Subject::Native,
    Subject::Wasmtime(Stops::Nothing),
    Subject::Wasmtime(Stops::Fuel),
    Subject::Wasmtime(Stops::Epochs),
    Subject::Wasmtime(Stops::Both),
    Subject::Sandhog,
];

/// Ratios to report: the cost of the work for one subject relative to another.
const COSTS: [(Subject, Subject, &str); 4] = [
    (Subject::Sandhog, Subject::Wasmtime(Stops::Both), "over_wasmtime_percent"),
    (Subject::Wasmtime(Stops::Fuel), Subject::Wasmtime(Stops::Nothing), "over_plain_percent"),
    (Subject::Wasmtime(Stops::Epochs), Subject::Wasmtime(Stops::Nothing), "over_plain_percent"),
    (Subject::Wasmtime(Stops::Both), Subject::Wasmtime(Stops::Nothing), "over_plain_percent"),
];

const DAEMON: &str = "[limits]\nfuel = 1_000_000_000_000_000\n";
const PLUGIN: &str = "kinds = [\"kernels.resize\", \"kernels.json\", \"kernels.sha256\"]\nqueue = \"hogs\"\n";

/// Environment in which the work is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Subject {
    Native,
    Wasmtime(Stops),
    Sandhog,
}

impl Subject {
    fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Wasmtime(Stops::Nothing) => "wasmtime-plain",
            Self::Wasmtime(Stops::Fuel) => "wasmtime-fuel",
            Self::Wasmtime(Stops::Epochs) => "wasmtime-epochs",
            Self::Wasmtime(Stops::Both) => "wasmtime",
            Self::Sandhog => "sandhog",
        }
    }
}

/// Runs the case.
pub(crate) fn run(figures: &mut Figures) {
    let bed = Bed::new();
    for kernel in KERNELS {
        let rounds = bed.rounds_of(WORK, kernel);
        let digest = bed.work(Subject::Native, kernel, rounds).digest;
        let seconds = in_turns(ROUNDS, &SUBJECTS, |subject| {
            let done = bed.work(*subject, kernel, rounds);
            assert_eq!(done.digest, digest, "{}: other work", subject.name());
            done.took.as_secs_f64()
        });
        let case = format!("compute/{kernel}");
        for (subject, seconds) in SUBJECTS.iter().zip(&seconds) {
            figures.add(&case, subject.name(), "seconds", seconds);
        }
        let of = |wanted| SUBJECTS.iter().position(|subject| *subject == wanted).map(|at| &seconds[at]);
        for (dear, cheap, metric) in COSTS {
            let (Some(dear_seconds), Some(cheap_seconds)) = (of(dear), of(cheap)) else { continue };
            let percent = |(dear, cheap): (&f64, &f64)| (dear / cheap - 1.0) * 100.0;
            let percents: Vec<f64> = dear_seconds.iter().zip(cheap_seconds).map(percent).collect();
            figures.add(&case, dear.name(), metric, &percents);
        }
        println!("{kernel}: {rounds} rounds, digest {digest}");
    }
}

/// Result of the work, and the time that it took.
struct Done {
    digest: String,
    took: Duration,
}

/// The environments that do the work.
struct Bed {
    runtime: Runtime,
    native: PathBuf,
    bare: Vec<(Stops, Bare)>,
    broker: Arc<dyn Broker>,
    acme: TenantId,
    _daemon: Daemon,
    _site: Site,
}

impl Bed {
    fn new() -> Self {
        let runtime = Runtime::new().expect("a runtime");
        let wasm = component("kernels");
        let native = wasm.with_file_name("../../release/examples/native");
        assert!(native.exists(), "{} is missing: run `make kernels`", native.display());
        let bytes = std::fs::read(&wasm).expect("it was built");
        let entered = runtime.enter();
        let engine = Engine::new(Config::default()).expect("an engine");
        let bare = [Stops::Nothing, Stops::Fuel, Stops::Epochs, Stops::Both];
        let bare = bare.map(|stops| (stops, Bare::new(&engine, &bytes, stops))).into();
        drop(entered);
        let site = Site::new(Backend::Embedded, DAEMON).with_plugin("kernels", "acme", &wasm, PLUGIN);
        let daemon = site.daemon();
        let broker = runtime.block_on(site.broker());
        Self { runtime, native, bare, broker, acme: tenant("acme"), _daemon: daemon, _site: site }
    }

    /// Returns the number of rounds of a kernel that take about `long` in wasmtime.
    fn rounds_of(&self, long: Duration, kernel: &str) -> u32 {
        let mut rounds = 1;
        loop {
            let took = self.work(Subject::Wasmtime(Stops::Both), kernel, rounds).took;
            if took > long / 4 {
                return (long.as_secs_f64() / took.as_secs_f64() * f64::from(rounds)).round() as u32;
            }
            rounds *= 2;
        }
    }

    fn work(&self, subject: Subject, kernel: &str, rounds: u32) -> Done {
        match subject {
            Subject::Native => self.natively(kernel, rounds),
            Subject::Wasmtime(stops) => self.in_wasmtime(stops, kernel, rounds),
            Subject::Sandhog => self.as_job(kernel, rounds),
        }
    }

    fn natively(&self, kernel: &str, rounds: u32) -> Done {
        let output = Command::new(&self.native).args([kernel, &rounds.to_string()]).output();
        let output = String::from_utf8(output.expect("it can be started").stdout).expect("text");
        let (digest, seconds) = output.trim().split_once(' ').expect("a digest and a time");
        Done {
            digest: digest.to_owned(),
            took: Duration::from_secs_f64(seconds.parse().expect("a number of seconds")),
        }
    }

    fn in_wasmtime(&self, stops: Stops, kernel: &str, rounds: u32) -> Done {
        let (_, bare) = self.bare.iter().find(|(with, _)| *with == stops).expect("there is one of each");
        let (kind, payload) = (format!("kernels.{kernel}"), payload(rounds));
        let (output, took) = bare.ticking(|| {
            let began = Instant::now();
            let output = self.runtime.block_on(bare.call(&kind, payload.as_bytes()));
            (output, began.elapsed())
        });
        Done { digest: digest_in(&output), took }
    }

    fn as_job(&self, kernel: &str, rounds: u32) -> Done {
        let job = hog_job(&format!("kernels.{kernel}"), &payload(rounds));
        let record = self.runtime.block_on(async {
            self.broker.enqueue(&self.acme, std::slice::from_ref(&job)).await.expect("the broker is up");
            finished(&*self.broker, &self.acme, job.id).await
        });
        assert_eq!(record.state, State::Succeeded, "{:?}", record.message);
        let took = record.finished_at.expect("it is final").since(record.enqueued_at);
        Done { digest: digest_in(&record.output.expect("it has returned")), took }
    }
}

fn payload(rounds: u32) -> String {
    format!("{{\"rounds\": {rounds}}}")
}

/// Returns the digest in an output, which is a JSON string.
fn digest_in(output: &[u8]) -> String {
    serde_json::from_slice(output).expect("a text")
}
