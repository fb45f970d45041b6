//! Runs a kernel as native code: `native resize 20` prints the digest of what was made, and how many seconds that took.

use std::process::ExitCode;
use std::time::Instant;

use kernels::{Work, json, resize, sha256};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (kernel, rounds) = match arguments.as_slice() {
        [kernel, rounds] => (kernel.as_str(), rounds.parse().ok()),
        _ => ("", None),
    };
    let run = match kernel {
        "resize" => resize,
        "json" => json,
        "sha256" => sha256,
        _ => return usage(),
    };
    let Some(rounds) = rounds else { return usage() };
    let began = Instant::now();
    match run(Work { rounds }) {
        Ok(digest) => println!("{digest} {}", began.elapsed().as_secs_f64()),
        Err(failure) => {
            eprintln!("{failure:?}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

fn usage() -> ExitCode {
    eprintln!("usage: native resize|json|sha256 ROUNDS");
    ExitCode::from(2)
}
