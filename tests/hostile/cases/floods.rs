//! Guests that use the host's calls to drown it.

use sandhog_core::reason::Reason;
use sandhog_guests::{self as guests, Guest, REUSE, SCRATCH};

use super::endlessly;
use crate::case::{Case, Promise};

const FUEL: &str = "raise limits.fuel of plugin hostile/hog";
const LOG: &str = "raise limits.log of plugin hostile/hog";
const EFFECTS: &str = "raise limits.effects of plugin hostile/hog";

/// Fuel for some thousands of host calls.
const CALLS: u64 = 5_000_000;

pub(crate) fn cases() -> Vec<Case> {
    [logs(), effects(), questions(), fields(), outputs()].into_iter().flatten().collect()
}

fn logs() -> Vec<Case> {
    let [streams, stdout] = guests::stdout();
    let flood =
        |name, does, guest: Guest| Case::new(name, Promise::Log, does, &guest).dies(Reason::TooMuchLog, LOG);
    let log = |call: &str| Guest::that(&endlessly(call)).importing(&guests::log());
    let print = |open: &str, length: u32| {
        Guest::that(&format!(
            "(local $to i32) (local.set $to (call ${open})) {}",
            endlessly(&format!(
                "(call $print (local.get $to) (i32.const 4096) (i32.const {length}) (i32.const 64))"
            ))
        ))
        .importing(&streams)
    };
    vec![
        flood(
            "log-lines",
            "writes log lines",
            log("(call $log (i32.const 4) (i32.const 4096) (i32.const 100) (i32.const 0) (i32.const 0))"),
        ),
        flood(
            "log-empty-lines",
            "writes log lines with nothing in them",
            log("(call $log (i32.const 4) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0))"),
        ),
        flood(
            "log-empty-fields",
            "writes log lines with thousands of empty fields",
            log("(call $log (i32.const 4) (i32.const 0) (i32.const 0) (i32.const 16384) (i32.const 3000))"),
        ),
        flood(
            "stdout-without-newline",
            "prints, and never a line break",
            print("out", 4096).importing(&stdout),
        ),
        flood("stderr", "writes to standard error", print("err", 4096).importing(&guests::stderr())),
    ]
}

/// `$n` counts up, and its number lies at the scratch as four letters.
fn numbered(then: &str) -> String {
    let letters: String = (0..4)
        .map(|n| {
            format!(
                "(i32.store8 (i32.const {}) (i32.add (i32.const 65)
                   (i32.and (i32.shr_u (global.get $n) (i32.const {})) (i32.const 31))))",
                SCRATCH + n,
                5 * n
            )
        })
        .collect();
    endlessly(&format!("{letters} (global.set $n (i32.add (global.get $n) (i32.const 1))) {then}"))
}

/// Sets the four letters to a value of so many bytes.
fn set(bytes: u32) -> String {
    format!(
        "(call $set (i32.const {SCRATCH}) (i32.const 4) (i32.const 4096) (i32.const {bytes})
           (i32.const 0) (i64.const 0) (i32.const 2048))"
    )
}

/// Enqueues a job of the guest's own kind, with a payload of so many bytes.
fn enqueue(bytes: u32) -> String {
    format!(
        "(call $enqueue (i32.const 512) (i32.const 11) (i32.const 4096) (i32.const {bytes})
           (i32.const 0) (i32.const 0) (i32.const 0) (i64.const 0) (i32.const 100)
           (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 2048))"
    )
}

const KIND: &str = r#"(data (i32.const 512) "hostile.run")"#;
const COUNTER: &str = "(global $n (mut i32) (i32.const 0))";

fn effects() -> Vec<Case> {
    let too_many = |name, does, guest: Guest| {
        Case::new(name, Promise::HostMemory, does, &guest).dies(Reason::TooManyEffects, EFFECTS)
    };
    let writes =
        |bytes| Guest::that(&numbered(&set(bytes))).importing(&guests::state_set()).with_fields(COUNTER);
    let enqueues =
        |body: &str| Guest::that(body).importing(&guests::enqueue()).with_fields(KIND).with_realloc(REUSE);
    vec![
        too_many("state-values", "writes state, a kilobyte under ever new keys", writes(1000)),
        Case::new(
            "state-keys",
            Promise::HostMemory,
            "writes state, nothing under ever new keys",
            &writes(0).with_realloc(REUSE),
        )
        .fuel(2 * CALLS * 2)
        .dies(Reason::OutOfFuel, FUEL),
        too_many(
            "state-value-larger-than-all",
            "writes a value of a megabyte",
            Guest::that(&format!("(drop (memory.grow (i32.const 20))) {}", set(1_000_000)))
                .importing(&guests::state_set())
                .with_fields(&format!("(data (i32.const {SCRATCH}) \"name\")")),
        ),
        too_many("enqueue", "enqueues jobs with payloads", enqueues(&endlessly(&enqueue(1000)))),
        Case::new(
            "enqueue-tiny",
            Promise::HostMemory,
            "enqueues jobs with nothing in them",
            &enqueues(&endlessly(&enqueue(0))),
        )
        .fuel(4 * CALLS)
        .dies(Reason::OutOfFuel, FUEL),
        Case::new(
            "fork-bomb",
            Promise::Shared,
            "enqueues two of its own kind, and each of them does too",
            &enqueues(&format!("{} {}", enqueue(0), enqueue(0))),
        )
        .returns(""),
    ]
}

fn questions() -> Vec<Case> {
    let fuel = |name, does, guest: Guest| {
        let case = Case::new(name, Promise::HostCalls, does, &guest.with_realloc(REUSE)).fuel(CALLS);
        case.dies(Reason::OutOfFuel, FUEL)
    };
    let key = format!("(data (i32.const {SCRATCH}) \"nobody\")");
    vec![
        fuel(
            "state-reads",
            "reads a key that isn't there",
            Guest::that(&endlessly(&format!("(call $get (i32.const {SCRATCH}) (i32.const 6) (i32.const 2048))")))
                .importing(&guests::state_get())
                .with_fields(&key),
        ),
        fuel(
            "progress",
            "reports progress",
            Guest::that(&endlessly(
                "(call $report (i64.const 1) (i32.const 0) (i64.const 0) (i32.const 1) (i32.const 4096) (i32.const 500))",
            ))
            .importing(&guests::progress()),
        ),
        fuel(
            "random",
            "asks for random bytes",
            Guest::that(&endlessly(&format!("(call $random (i64.const 16000) (i32.const {SCRATCH}))")))
                .importing(&guests::random()),
        ),
        fuel("clock", "asks for the time", Guest::that(&endlessly("(drop (call $now))")).importing(&guests::clock())),
        fuel(
            "secrets",
            "asks for a secret that it wasn't granted",
            Guest::that(&endlessly(&format!("(call $secret (i32.const {SCRATCH}) (i32.const 6) (i32.const 2048))")))
                .importing(&guests::secret())
                .with_fields(&key),
        ),
        fuel(
            "environment",
            "asks for its environment",
            Guest::that(&endlessly(&format!("(call $env (i32.const {SCRATCH}))"))).importing(&guests::environment()),
        ),
        fuel(
            "stop-requested",
            "asks whether it should stop",
            Guest::that(&endlessly(&format!("(call $stop (i32.const {SCRATCH}))"))).importing(&guests::stop_requested()),
        ),
    ]
}

/// A set of HTTP fields is kept by the host. wasmtime has been made to panic by too many of them.
fn fields() -> Vec<Case> {
    let refused = |name, does, payload| {
        Case::handler(name, Promise::HostMemory, does, ["rogue.fields", payload])
            .dies(Reason::Trapped, "total size of fields exceeds limit")
    };
    vec![
        refused(
            "fields-without-end",
            "adds HTTP fields with nothing in them under ever new names (RUSTSEC-2026-0021)",
            r#"{"bytes": 0}"#,
        ),
        refused("field-of-a-megabyte", "adds one HTTP field of a megabyte", r#"{"bytes": 1000000}"#),
    ]
}

fn outputs() -> Vec<Case> {
    let returns = |bytes: u32| {
        Guest::that(&format!(
            "(drop (memory.grow (i32.const 100))) (i32.store (i32.const 72) (i32.const 4096))
             (i32.store (i32.const 76) (i32.const {bytes}))"
        ))
    };
    let too_much = |name, does, bytes| {
        Case::new(name, Promise::Output, does, &returns(bytes))
            .dies(Reason::TooMuchOutput, "raise limits.output of plugin hostile/hog")
    };
    vec![
        too_much("output", "returns a byte more than it may", 256 * 1024 + 1),
        too_much("output-of-megabytes", "returns five megabytes", 5_000_000),
        Case::new(
            "failure-of-kilobytes",
            Promise::Output,
            "fails, and says so in 200 kilobytes",
            &Guest::that(
                "(drop (memory.grow (i32.const 10))) (i32.store8 (i32.const 64) (i32.const 1))
                 (i32.store8 (i32.const 72) (i32.const 1)) (i32.store (i32.const 80) (i32.const 4096))
                 (i32.store (i32.const 84) (i32.const 200000))",
            ),
        )
        .dies(Reason::FailedPermanently, "…"),
        Case::new(
            "random-at-once",
            Promise::HostMemory,
            "asks for 2^64 random bytes in one call",
            &Guest::that("(call $random (i64.const -1) (i32.const 64))").importing(&guests::random()),
        )
        .dies(Reason::Trapped, ""),
    ]
}
