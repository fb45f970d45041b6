//! Case `languages`: cost of a handler by its language, for the least that a job can do: to echo its payload, or in C to
//! find that a file isn't there.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use sandhog_tests::{binary, component};
use serde_json::Value;
use tempfile::TempDir;

use crate::figures::{Figures, median};
use crate::rounds::in_turns;

const ROUNDS: usize = 21;

/// Languages, each with its component and kind of job.
const LEAST: [(&str, &str, &str); 4] = [
    ("Rust", "hog", "hog.echo"),
    ("C", "wordcount", "text.count"),
    ("JavaScript", "hog-js", "hog.echo"),
    ("Python", "hog-python", "hog.echo"),
];

/// Usage of one call of the command.
struct Call {
    /// Wall time of the command itself.
    wall: Duration,
    usage: Value,
}

/// Runs the case, and prints a row of docs/languages.md for each language.
pub(crate) fn run(figures: &mut Figures) {
    let caches = LEAST.map(|_| tempfile::tempdir().expect("a temporary folder"));
    let first = |((_, plugin, kind), cache): (&(&str, &str, &str), &TempDir)| {
        run_once(&component(plugin), kind, cache.path()).wall
    };
    let compiled: Vec<Duration> = LEAST.iter().zip(&caches).map(first).collect();
    let subjects: Vec<_> = LEAST.iter().zip(&caches).collect();
    let calls = in_turns(ROUNDS, &subjects, |((_, plugin, kind), cache)| {
        run_once(&component(plugin), kind, cache.path())
    });
    println!(
        "| | component | a process's first job | of it instance and call | fuel | memory |\n|---|---|---|---|---|---|"
    );
    for (((language, plugin, _), calls), compiled) in LEAST.iter().zip(&calls).zip(compiled) {
        let case = format!("languages/{}", language.to_lowercase());
        let used = |name: &str| -> Vec<f64> {
            calls.iter().map(|call| call.usage[name].as_f64().expect("a number")).collect()
        };
        let millis = |name: &str| -> Vec<f64> { used(name).iter().map(|micros| micros / 1e3).collect() };
        let size = fs::metadata(component(plugin)).expect("it is there").len() as f64;
        let walls: Vec<f64> = calls.iter().map(|call| call.wall.as_secs_f64() * 1e3).collect();
        // This includes the start of the command and of an engine, a few milliseconds, in every language.
        let load: Vec<f64> = walls.iter().zip(millis("wall_us")).map(|(wall, run)| wall - run).collect();
        let compile = compiled.as_secs_f64() - median(&walls) / 1e3;
        let mut add = |metric, rounds: &[f64]| figures.add(&case, "sandhog", metric, rounds);
        add("component_bytes", &[size]);
        add("compile_s", &[compile]);
        add("load_ms", &load);
        add("run_ms", &millis("wall_us"));
        add("cpu_ms", &millis("cpu_us"));
        add("fuel", &used("fuel"));
        add("memory_bytes", &used("memory_peak"));
        println!(
            "| {language} | {:.2} MB | {:.2} ms | {:.2} ms | {:.3} million | {:.1} MiB |",
            size / 1e6,
            median(&millis("wall_us")),
            median(&millis("cpu_us")),
            median(&used("fuel")) / 1e6,
            median(&used("memory_peak")) / f64::from(1 << 20),
        );
    }
}

/// Runs the command once.
fn run_once(wasm: &Path, kind: &str, cache: &Path) -> Call {
    let start = Instant::now();
    let output = Command::new(binary())
        .env("SANDHOG_CACHE", cache)
        .args(["--json", "plugin", "run"])
        .arg(wasm)
        .args(["--kind", kind, "1"])
        .output()
        .expect("the command can be started");
    let wall = start.elapsed();
    let document: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let outcome = document["outcome"].as_str().unwrap_or_default();
    assert!(["returned", "failed-permanently"].contains(&outcome), "{document}");
    Call { wall, usage: document["usage"].clone() }
}
