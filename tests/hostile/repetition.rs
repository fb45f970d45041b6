//! Growth by repetition: what one run leaves behind is too little to be seen, and what a thousand leave is not. Each case
//! that has the host keep something for it, and each host call of an ordinary handler, runs a thousand times, and once all
//! is there that is kept for good, a thousand times more: the daemon is then as large as before.
//!
//! Malformed values, traps and outputs come to their ends by few ways. So those cases run side by side, each a hundred times,
//! which makes thousands of runs for each way.

use libtest_mimic::Failed;
use sandhog_tests::Reply;

use crate::case::{Case, Code, End, Promise};
use crate::run::{Scene, repeat_together};

/// How often a case is run before the daemon's size is taken, and how often from then on.
pub(crate) const ROUND: usize = 1000;

/// How often each of those is run that run side by side.
pub(crate) const ROUND_TOGETHER: usize = 100;

/// How many bytes a round may add: allocators and the broker's cache are off by less than half of it. It is twenty bytes for
/// each of a hundred calls of a run.
const TOLERANCE: u64 = 2 << 20;

/// What a run may use: enough for a hundred host calls, as it is the runs that are to be many.
const FUEL: u64 = 300_000;
const LIMITS: &str = "host_calls = 110";

/// A directory with a quota, for the ordinary handlers.
const FILES: &str = "[grants]\ndirs = [{ host = \"../granted\", guest = \"/data\", access = \"read-write\", quota = \"16MiB\" }]";

/// Fuel of a run that sends requests.
const FUEL_OF_REQUESTS: u64 = 10_000_000;

/// Nobody listens there.
const HTTP: &str = "[grants]\nhttp = [{ to = \"127.0.0.1:1\", private = \"allow\" }]";

/// The cases that are run again and again, each by itself.
pub(crate) fn cases() -> Vec<Case> {
    let hostile = crate::cases::all().into_iter().filter(ends_soon).filter(is_of_the_host);
    hostile.chain(ordinary()).map(short).chain(requests()).collect()
}

/// The cases that are run again and again side by side.
pub(crate) fn together() -> Vec<Case> {
    let ends = [Promise::Boundary, Promise::NoHalf, Promise::Contained, Promise::Output];
    let of_an_end = |case: &Case| ends.contains(&case.promise) && matches!(case.code, Code::Text(_));
    crate::cases::all().into_iter().filter(ends_soon).filter(of_an_end).map(short).collect()
}

fn short(case: Case) -> Case {
    Case { fuel: case.fuel.min(FUEL), ..case.limits(LIMITS) }
}

/// Whether its runs end by themselves, within no limits of their own.
fn ends_soon(case: &Case) -> bool {
    let ends = !matches!(case.end, End::Cancelled | End::Refused(_));
    ends && case.limits.is_empty() && case.daemon_limits.is_empty()
}

/// Whether it is about what the host keeps, which is where something could stay.
fn is_of_the_host(case: &Case) -> bool {
    [Promise::HostMemory, Promise::HostCalls, Promise::Log, Promise::Files].contains(&case.promise)
}

/// Each host call, as ordinary handlers use it.
fn ordinary() -> Vec<Case> {
    let call = |name, call, toml| Case::handler(name, Promise::HostMemory, "", call).toml(toml);
    vec![
        call("opens-a-file", ["hog.open", r#"{"path": "/data/inside.txt", "times": 120}"#], FILES),
        call("writes-a-file", ["hog.write", r#"{"path": "/data/mine", "bytes": 10000}"#], FILES),
        call("reads-a-file", ["hog.cat", r#"{"path": "/data/inside.txt"}"#], FILES),
        call("sends-a-request", ["hog.fetch", r#"{"url": "http://127.0.0.1:1/"}"#], HTTP),
        call("asks-for-a-socket", ["hog.connect", "null"], ""),
        call("asks-for-a-secret", ["hog.secret", r#"{"name": "TOKEN"}"#], ""),
        call("looks-at-clocks", ["hog.clocks", "null"], ""),
        call("counts", ["hog.count", r#"{"counter": "n"}"#], ""),
        call("compares-and-sets", ["hog.swap", r#"{"key": "x", "expected": null, "value": 1}"#], ""),
        call("notes", ["hog.note", r#"{"text": "something", "fail": false}"#], ""),
        call("logs-some-lines", ["hog.log", r#"{"lines": 20}"#], ""),
        call("echoes", ["hog.echo", "\"something\""], ""),
    ]
}

/// Requests that are answered: over the connection that a run has, over a new one each, and to a name.
fn requests() -> Vec<Case> {
    let call = |name, payload| {
        let case = Case::handler(name, Promise::HostMemory, "", ["hog.exchange", payload]);
        case.fuel(FUEL_OF_REQUESTS).limits(LIMITS)
    };
    vec![
        call("sends-requests", r#"{"url": "http://127.0.0.1:PORT/", "times": 3}"#),
        call(
            "makes-connections",
            r#"{"url": "http://127.0.0.1:PORT/", "method": "POST", "send": 1, "times": 3}"#,
        ),
        call(
            "looks-up-names",
            r#"{"url": "http://localhost:PORT/", "method": "POST", "send": 1, "times": 3}"#,
        ),
    ]
}

/// Runs a case again and again.
pub(crate) fn run(case: &Case) -> Result<(), Failed> {
    let mut case = case.clone();
    let _web = case.serve(|_| Reply::Body(b"hello".to_vec()));
    within_tolerance(ROUND, runtime()?.block_on(Scene::new(&case).repeat(ROUND)))
}

/// Runs those that run side by side.
pub(crate) fn run_together() -> Result<(), Failed> {
    let cases = together();
    let grown = runtime()?.block_on(repeat_together(&cases, ROUND_TOGETHER));
    within_tolerance(cases.len() * ROUND_TOGETHER, grown)
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()
}

fn within_tolerance(runs: usize, grown: u64) -> Result<(), Failed> {
    if grown > TOLERANCE {
        let kib = |bytes| bytes / 1024;
        let message = format!("{runs} runs added {} KiB, more than {}", kib(grown), kib(TOLERANCE));
        return Err(message.into());
    }
    Ok(())
}
