//! What a neighbour waits for its jobs while a hostile tenant does its worst, for ever, with as many runs as it may have: not
//! only that it gets its turn, but when.
//!
//! Times of a machine that others use are never the same twice. So each case measures the neighbour by itself and beside the
//! attack, in turns, and holds the two of one round against each other; one of twenty rounds has to be within the bound.

use std::time::Duration;

use libtest_mimic::Failed;
use sandhog_guests::{self as guests, Guest, SCRATCH};
use sandhog_tests::{Backend, Fsync, Reply, authority};

use crate::case::{Case, Promise};
use crate::cases::endlessly;
use crate::run::{Scene, Waits};

/// How often both are measured, and by how many jobs each.
const ROUNDS: usize = 20;
const JOBS: usize = 100;

/// Beside the attack the neighbour waits at most so many times as long as without it, and so much more.
const TIMES: u32 = 2;
const MORE: Duration = Duration::from_millis(5);

/// The hostile runs, of the eight that the daemon has places for.
const RUNS: u64 = 4;

/// What a hostile tenant does for ever.
#[derive(Debug, Clone)]
pub(crate) struct Attack {
    /// The case: it goes on until it is cancelled.
    pub(crate) case: Case,
    /// Whether the broker has a part in it, so that it is tried on Redis as well.
    pub(crate) on_redis: bool,
}

const MANY: &str = "[grants]\ndirs = [{ host = \"../many\", guest = \"/data\", access = \"read-write\", quota = \"64MiB\" }]";
const NAMES: &str = "[grants]\nhttp = [\"*.nowhere.invalid:80\"]";

/// All attacks.
pub(crate) fn attacks() -> Vec<Attack> {
    let guest = |name, does, guest: &Guest| Attack {
        case: Case::new(name, Promise::Latency, does, guest),
        on_redis: false,
    };
    let handler = |name, does, call, toml| Attack {
        case: Case::handler(name, Promise::Latency, does, call).toml(toml),
        on_redis: false,
    };
    let of_broker = |attack| Attack { on_redis: true, ..attack };
    let key = format!("(data (i32.const {SCRATCH}) \"nobody\")");
    let read = format!("(call $get (i32.const {SCRATCH}) (i32.const 4) (i32.const 2048))");
    let new_key = format!(
        "(i32.store (i32.const {SCRATCH}) (i32.or (i32.const 0x41414141) (i32.and (global.get $n) (i32.const 0x0f0f0f0f))))
         (global.set $n (i32.add (global.get $n) (i32.const 1))) {read}"
    );
    let counter = "(global $n (mut i32) (i32.const 0))";
    let [poll, after] = guests::poll();
    // The same handle four thousand times over.
    let polls = format!(
        "(local $n i32) (local $handle i32) (local.set $handle (call $after (i64.const 0)))
         (loop $fill
           (i32.store (i32.add (i32.const 16384) (i32.mul (local.get $n) (i32.const 4))) (local.get $handle))
           (local.set $n (i32.add (local.get $n) (i32.const 1)))
           (br_if $fill (i32.lt_u (local.get $n) (i32.const 4000))))
         {}",
        endlessly("(call $poll (i32.const 16384) (i32.const 4000) (i32.const 2048))")
    );
    let attacks = vec![
        of_broker(guest("spins", "computes", &Guest::that(guests::SPIN))),
        guest(
            "asks-for-the-time",
            "asks for the time",
            &Guest::that(&endlessly("(drop (call $now))")).importing(&guests::clock()),
        ),
        guest(
            "asks-for-random-bytes",
            "asks for 200 kilobytes of random bytes at a time",
            &Guest {
                memory: "10",
                ..Guest::that(&endlessly("(call $random (i64.const 200000) (i32.const 2048))"))
            }
            .importing(&guests::random())
            .with_realloc("i32.const 65536"),
        ),
        guest(
            "polls",
            "waits for four thousand handles at a time that are ready",
            &Guest { memory: "2", ..Guest::that(&polls) }
                .importing(&poll)
                .importing(&after)
                .with_realloc("i32.const 65536"),
        ),
        of_broker(guest(
            "reads-one-key",
            "reads a key of its state",
            &Guest::that(&endlessly(&read)).importing(&guests::state_get()).with_fields(&key),
        )),
        of_broker(guest(
            "reads-many-keys",
            "reads ever other keys of its state",
            &Guest::that(&endlessly(&new_key))
                .importing(&guests::state_get())
                .with_fields(&format!("{key} {counter}")),
        )),
        handler(
            "lists-files",
            "lists a directory of two thousand files",
            ["hog.list", r#"{"path": "/data"}"#],
            MANY,
        ),
        handler(
            "looks-up-names",
            "looks up names that there aren't",
            ["hog.exchange", r#"{"url": "http://x.nowhere.invalid/", "times": 1000000, "heedless": true}"#],
            NAMES,
        ),
        handler(
            "sends-requests",
            "sends requests over the connection that it has",
            ["hog.exchange", r#"{"url": "http://127.0.0.1:PORT/", "times": 1000000}"#],
            "",
        ),
        handler(
            "makes-connections",
            "sends requests over a new connection each",
            [
                "hog.exchange",
                r#"{"url": "http://127.0.0.1:PORT/", "method": "POST", "send": 1, "times": 1000000}"#,
            ],
            "",
        ),
        handler(
            "shakes-hands",
            "sends requests over a new connection with TLS each",
            [
                "hog.exchange",
                r#"{"url": "https://127.0.0.1:PORT/", "method": "POST", "send": 1, "times": 1000000}"#,
            ],
            "",
        ),
        handler(
            "receives-megabytes",
            "receives a megabyte after the other",
            ["hog.exchange", r#"{"url": "http://127.0.0.1:PORT/large", "times": 1000000}"#],
            "",
        ),
    ];
    let endless = |attack: Attack| {
        let case = attack.case.cancelled().fuel(1_000_000_000_000).runs(RUNS).limits(LIMITS);
        Attack { case: Case { group: "latency", daemon_limits: LIMITS, ..case }, ..attack }
    };
    attacks.into_iter().map(endless).collect()
}

/// Nothing but what it waits for ends it before it is cancelled.
const LIMITS: &str = "host_calls = 1_000_000_000\nhttp_bytes = \"1000GiB\"";

/// Runs an attack on a broker.
pub(crate) fn run(attack: &Attack, backend: Backend) -> Result<(), Failed> {
    let mut case = attack.case.clone();
    let _web = case.serve(replies);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let is_short = |waits: &Waits| waits.beside <= waits.alone * TIMES + MORE;
    let measured =
        runtime.block_on(Scene::on(backend, &case).trusting(&authority()).measure((ROUNDS, JOBS), is_short));
    if !measured.iter().any(is_short) {
        return Err(format!("the neighbour waits too long, in each round: {measured:?}").into());
    }
    Ok(())
}

fn replies(path: &str) -> Reply {
    match path {
        "/large" => Reply::Bytes(1 << 20),
        _ => Reply::Body(b"hello".to_vec()),
    }
}

/// The brokers that an attack is tried on.
pub(crate) fn backends(attack: &Attack) -> Vec<(&'static str, Backend)> {
    let mut backends = vec![("embedded", Backend::Embedded)];
    if attack.on_redis {
        backends.push(("redis", Backend::Redis(Fsync::EverySecond)));
    }
    backends
}
