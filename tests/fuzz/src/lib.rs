//! What is fuzzed: functions that take any bytes at all, and panic if a promise is broken.
//!
//! Each is used twice. `tests/bounded.rs` runs it on its seeds and some thousand mutations of them, the same every time,
//! as one of the ordinary tests. `fuzz/` hands it to libFuzzer, which goes on for as long as it is let:
//! `make fuzz TARGET=config SECONDS=600`.

mod bed;
pub mod component;
pub mod config;
pub mod control;
pub mod host_calls;
mod mutate;

use rand::SeedableRng;
use rand::rngs::StdRng;

/// Something to be fuzzed.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name: that of its module, and of the binary in `fuzz/`.
    pub name: &'static str,
    /// Takes any bytes.
    pub run: fn(&[u8]),
    /// Inputs that get far, to start from.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Words that inputs are made of.
    pub words: &'static [&'static str],
}

/// All there are.
pub const TARGETS: [Target; 4] = [config::TARGET, component::TARGET, host_calls::TARGET, control::TARGET];

impl Target {
    /// Runs it on each of its seeds, and on this many mutations of them: the same ones every time.
    ///
    /// # Panics
    /// If a promise is broken; the input is printed before.
    pub fn run_bounded(&self, mutations: u32) {
        let seeds = (self.seeds)();
        for seed in &seeds {
            self.run_noting(seed);
        }
        let mut random = StdRng::seed_from_u64(0x5a0d);
        for _ in 0..mutations {
            self.run_noting(&mutate::mutation(&seeds, self.words, &mut random));
        }
    }

    fn run_noting(&self, input: &[u8]) {
        let noted = Noted { target: self.name, input };
        (self.run)(input);
        std::mem::forget(noted);
    }
}

/// Prints its input if it is dropped, which only a panic does.
struct Noted<'a> {
    target: &'static str,
    input: &'a [u8],
}

impl Drop for Noted<'_> {
    fn drop(&mut self) {
        eprintln!("{} panics on: {}", self.target, self.input.escape_ascii());
    }
}
