//! What a handler costs by the language that it is written in: of the least that a job can do, which is to echo its
//! payload, or in C to find that a file isn't there.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use sandhog_tests::{binary, component};
use serde_json::Value;

use crate::figures::Figures;

const RUNS: usize = 21;

/// The language, the component, and the kind of job.
const LEAST: [(&str, &str, &str); 4] = [
    ("Rust", "hog", "hog.echo"),
    ("C", "wordcount", "text.count"),
    ("JavaScript", "hog-js", "hog.echo"),
    ("Python", "hog-python", "hog.echo"),
];

/// One component, as `sandhog plugin run` sees it.
struct Cost {
    size: u64,
    compile: Duration,
    load: Duration,
    run_us: u64,
    cpu_us: u64,
    fuel: u64,
    memory: u64,
}

/// Prints a row of docs/languages.md for each language.
pub(crate) fn run(_figures: &mut Figures) {
    println!(
        "| | component | compile | load, compiled | fresh instance and call | of it CPU | fuel | memory |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    for (language, plugin, kind) in LEAST {
        let cost = measure(&component(plugin), kind);
        println!(
            "| {language} | {:.2} MB | {:.2} s | {:.1} ms | {:.2} ms | {:.2} ms | {:.3} million | {:.1} MiB |",
            cost.size as f64 / 1e6,
            cost.compile.as_secs_f64(),
            cost.load.as_secs_f64() * 1e3,
            cost.run_us as f64 / 1e3,
            cost.cpu_us as f64 / 1e3,
            cost.fuel as f64 / 1e6,
            cost.memory as f64 / f64::from(1 << 20),
        );
    }
}

fn measure(wasm: &Path, kind: &str) -> Cost {
    let cache = tempfile::tempdir().expect("a temporary folder");
    let (first, _) = run_once(wasm, kind, cache.path());
    let runs: Vec<(Duration, Value)> = (0..RUNS).map(|_| run_once(wasm, kind, cache.path())).collect();
    let usage =
        |name: &str| median(runs.iter().map(|(_, usage)| usage[name].as_u64().expect("a number")).collect());
    let run_us = usage("wall_us");
    let wall = Duration::from_micros(median(
        runs.iter().map(|(wall, _)| u64::try_from(wall.as_micros()).expect("not for ever")).collect(),
    ));
    Cost {
        size: std::fs::metadata(wasm).expect("it is there").len(),
        compile: first.saturating_sub(wall),
        // What it takes to start the command and an engine is in it, a few milliseconds, in every language.
        load: wall.saturating_sub(Duration::from_micros(run_us)),
        run_us,
        cpu_us: usage("cpu_us"),
        fuel: usage("fuel"),
        memory: usage("memory_peak"),
    }
}

/// Runs it once; returns how long the command took, and what the run used.
fn run_once(wasm: &Path, kind: &str, cache: &Path) -> (Duration, Value) {
    let start = Instant::now();
    let output = Command::new(binary())
        .env("SANDHOG_CACHE", cache)
        .args(["--json", "plugin", "run"])
        .arg(wasm)
        .args(["--kind", kind, "1"])
        .output()
        .expect("the command can be started");
    let took = start.elapsed();
    let document: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let outcome = document["outcome"].as_str().unwrap_or_default();
    assert!(["returned", "failed-permanently"].contains(&outcome), "{document}");
    (took, document["usage"].clone())
}

fn median(mut numbers: Vec<u64>) -> u64 {
    numbers.sort_unstable();
    numbers[numbers.len() / 2]
}
