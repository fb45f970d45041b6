//! Growth by repetition: what one run leaves behind is too little to be seen, and what a thousand leave is not. Each case
//! that has the host keep something for it, and each host call of an ordinary handler, runs a thousand times, and once all
//! is there that is kept for good, a thousand times more: the daemon is then as large as before.

use libtest_mimic::Failed;

use crate::case::{Case, End, Promise};
use crate::run::Scene;

/// How often a case is run before the daemon's size is taken, and how often from then on.
const ROUND: usize = 1000;

/// How many bytes a round may add: allocators and the broker's cache are off by less than half of it. It is twenty bytes for
/// each of a hundred calls of a run.
const TOLERANCE: u64 = 2 << 20;

/// What a run may use: enough for a hundred host calls, as it is the runs that are to be many.
const FUEL: u64 = 300_000;
const LIMITS: &str = "host_calls = 110";

/// A directory with a quota, for the ordinary handlers.
const FILES: &str = "[grants]\ndirs = [{ host = \"../granted\", guest = \"/data\", access = \"read-write\", quota = \"16MiB\" }]";

/// Nobody listens there.
const HTTP: &str = "[grants]\nhttp = [{ to = \"127.0.0.1:1\", private = \"allow\" }]";

/// The cases that are run again and again.
pub(crate) fn cases() -> Vec<Case> {
    let hostile = crate::cases::all().into_iter().filter(is_of_the_host);
    let short = |case: Case| Case { fuel: case.fuel.min(FUEL), ..case.limits(LIMITS) };
    hostile.chain(ordinary()).map(short).collect()
}

/// Whether its runs end by themselves, within no limits of their own, and are about what the host keeps, which is where
/// something could stay.
fn is_of_the_host(case: &Case) -> bool {
    let ends = !matches!(case.end, End::Cancelled | End::Refused(_));
    let of_the_host = [Promise::HostMemory, Promise::HostCalls, Promise::Log, Promise::Files];
    ends && of_the_host.contains(&case.promise) && case.limits.is_empty()
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
        call("compares-and-sets", ["hog.swap", r#"{"key": "x", "expected": null, "value": null}"#], ""),
        call("notes", ["hog.note", r#"{"text": "something", "fail": false}"#], ""),
        call("logs-some-lines", ["hog.log", r#"{"lines": 20}"#], ""),
        call("echoes", ["hog.echo", "\"something\""], ""),
    ]
}

/// Runs a case again and again.
pub(crate) fn run(case: &Case) -> Result<(), Failed> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let grown = runtime.block_on(Scene::new(case).repeat(ROUND));
    if grown > TOLERANCE {
        let kib = |bytes| bytes / 1024;
        let message = format!("{ROUND} runs added {} KiB, more than {}", kib(grown), kib(TOLERANCE));
        return Err(message.into());
    }
    Ok(())
}
