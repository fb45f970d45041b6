//! Taking more than one's share: of CPU, memory, stack, output, log, time.
//!
//! Each of these must still do it after optimisation; `black_box` and the comments say how that is ensured.

use std::hint::black_box;
use std::time::Duration;

use sandhog_sdk::{Bytes, Context, Result, handler, info};
use serde::Deserialize;

const PAGE: usize = 64 << 10;
const CHUNK: usize = 1 << 20;

/// How long to spin.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spin {
    /// Rounds of some multiplications; for ever, if not given.
    pub rounds: Option<u64>,
}

/// How much to allocate.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Allocate {
    /// Bytes, rounded up to whole MiB; without end, if not given.
    pub bytes: Option<usize>,
}

/// How deep to go.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recurse {
    /// Calls inside each other; without end, if not given.
    pub depth: Option<u64>,
}

/// How to panic.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Panic {
    /// What it says.
    pub message: Option<String>,
}

/// How much to return.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Output {
    /// Bytes of garbage.
    pub bytes: usize,
}

/// How much to log.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    /// Lines; without end, if not given.
    pub lines: Option<u64>,
}

/// How long to sleep.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sleep {
    /// Milliseconds.
    pub ms: u64,
}

/// Uses the CPU, and returns the number that all the work was for.
#[handler(kind = "hog.spin")]
pub fn spin(input: Spin) -> Result<u64> {
    let mut number = 1;
    match input.rounds {
        Some(rounds) => (0..rounds).for_each(|_| number = scramble(number)),
        None => loop {
            // Were its result of no use, the loop would be empty, and yet for ever: this keeps it at work.
            number = black_box(scramble(number));
        },
    }
    Ok(number)
}

/// Takes memory, touches every page of it, and returns how many bytes it held at the end.
#[handler(kind = "hog.allocate")]
pub fn allocate(input: Allocate) -> Result<usize> {
    let chunks_max = input.bytes.map_or(usize::MAX, |bytes| bytes.div_ceil(CHUNK));
    let mut held = Vec::new();
    while held.len() < chunks_max {
        let mut chunk = vec![0_u8; CHUNK];
        for page in chunk.chunks_mut(PAGE) {
            page[0] = 1;
        }
        // Memory that nobody reads needn't be taken; a black box may read it.
        held.push(black_box(chunk));
    }
    Ok(held.iter().map(Vec::len).sum())
}

/// Calls itself, and returns a number that depends on every call.
#[handler(kind = "hog.recurse")]
pub fn recurse(input: Recurse) -> Result<u64> {
    Ok(dive(0, input.depth.unwrap_or(u64::MAX)))
}

/// The result is changed after the inner call in a way that can't be accumulated beforehand, so this stays a call and
/// doesn't become a loop. Nothing of it lies in linear memory: it is the stack of Wasm that runs out.
#[inline(never)]
fn dive(depth: u64, depth_max: u64) -> u64 {
    if depth == depth_max {
        return 1;
    }
    scramble(dive(depth + 1, depth_max)) ^ depth
}

/// Panics.
#[handler(kind = "hog.panic")]
pub fn panics(input: Panic) -> Result<()> {
    panic!("{}", input.message.as_deref().unwrap_or("the hog was told to"))
}

/// Returns garbage, which doesn't compress.
#[handler(kind = "hog.output")]
pub fn output(input: Output) -> Result<Bytes> {
    let mut number = 1;
    let mut garbage = Vec::with_capacity(input.bytes);
    while garbage.len() < input.bytes {
        number = scramble(number);
        let more = (input.bytes - garbage.len()).min(size_of::<u64>());
        garbage.extend_from_slice(&number.to_le_bytes()[..more]);
    }
    Ok(Bytes(garbage))
}

/// Writes log lines.
#[handler(kind = "hog.log")]
pub fn log_lines(ctx: &Context, input: Log) -> Result<()> {
    for line in 0..input.lines.unwrap_or(u64::MAX) {
        info!(ctx, "the hog has a lot to say", line = line);
    }
    Ok(())
}

/// Waits without using the CPU.
#[handler(kind = "hog.sleep")]
pub fn sleep(input: Sleep) -> Result<()> {
    std::thread::sleep(Duration::from_millis(input.ms));
    Ok(())
}

/// A step of xorshift64*: no closed form, so a compiler can't skip to the end.
fn scramble(number: u64) -> u64 {
    let mut x = number;
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    x.wrapping_mul(0x2545_F491_4F6C_DD1D)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sandhog_sdk::{FakeHost, Level, permanent};

    #[test]
    fn spinning_returns_what_it_worked_for() {
        assert_eq!(spin(Spin { rounds: Some(0) }), Ok(1));
        let numbers: Vec<_> = (1..100).map(|rounds| spin(Spin { rounds: Some(rounds) })).collect();
        assert!(numbers.iter().all(|number| number.is_ok()));
        assert!((1..numbers.len()).all(|at| !numbers[..at].contains(&numbers[at])), "every round counts");
    }

    #[test]
    fn memory_is_taken_in_whole_mebibytes() {
        assert_eq!(allocate(Allocate { bytes: Some(0) }), Ok(0));
        assert_eq!(allocate(Allocate { bytes: Some(1) }), Ok(CHUNK));
        assert_eq!(allocate(Allocate { bytes: Some(3 * CHUNK) }), Ok(3 * CHUNK));
    }

    #[test]
    fn recursion_ends_at_its_depth() {
        assert_eq!(recurse(Recurse { depth: Some(0) }), Ok(1));
        assert_ne!(recurse(Recurse { depth: Some(500) }), recurse(Recurse { depth: Some(501) }));
    }

    #[test]
    #[should_panic(expected = "by order")]
    fn a_panic_says_what_it_was_told_to() {
        let _ = panics(Panic { message: Some("by order".into()) });
    }

    #[test]
    fn garbage_has_the_length_asked_for_and_repeats_nothing() {
        let Bytes(garbage) = output(Output { bytes: 8003 }).expect("no limit here");
        assert_eq!(garbage.len(), 8003);
        let words: std::collections::BTreeSet<&[u8]> = garbage.chunks_exact(8).collect();
        assert_eq!(words.len(), 1000);
    }

    #[test]
    fn every_line_is_logged() {
        let run = FakeHost::new().run(|ctx| log_lines(ctx, Log { lines: Some(3) }));
        assert_eq!(run.logs.len(), 3);
        assert_eq!(run.logs[2].field("line"), Some("2"));
        assert!(run.logs.iter().all(|line| line.level == Level::Info));
    }

    #[test]
    fn an_unknown_field_is_refused() {
        let run = FakeHost::new().run_payload::<spin>(r#"{"round": 1}"#);
        let message =
            "the payload is no input of `hog.spin`: unknown field, expected `rounds` at line 1 column 8";
        assert_eq!(run.result, Err(permanent(message)));
    }
}
