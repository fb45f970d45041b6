//! Guests that never come to an end by themselves.

use sandhog_core::reason::Reason;
use sandhog_guests::{self as guests, Guest, SCRATCH};

use super::{ARM, armed, endlessly};
use crate::case::{Case, Promise};

const FUEL: &str = "raise limits.fuel of plugin hostile/hog";
const TIME: &str = "raise limits.timeout of plugin hostile/hog";

/// An hour, in nanoseconds.
const HOUR: &str = "(i64.const 3600000000000)";

pub(crate) fn cases() -> Vec<Case> {
    [compute(), bulk(), wait()].into_iter().flatten().collect()
}

fn compute() -> Vec<Case> {
    let spins = endlessly("");
    let start = format!("(func $start {spins}) (start $start)");
    let fuel =
        |name, does, guest: Guest| Case::new(name, Promise::Fuel, does, &guest).dies(Reason::OutOfFuel, FUEL);
    vec![
        fuel("loop-in-handle", "loops in `handle`", Guest::that(&spins)),
        fuel("loop-in-start", "loops in its start function", Guest::default().with_fields(&start)),
        fuel(
            "loop-in-start-of-a-second-module",
            "loops in the start function of a module that nobody calls",
            Guest {
                component: format!("(core module $more {start}) (core instance (instantiate $more))"),
                ..Guest::default()
            },
        ),
        fuel(
            "loop-in-realloc",
            "loops in `cabi_realloc` while the host hands the job over",
            Guest::default().with_realloc(&format!("{spins} unreachable")),
        ),
        fuel(
            "loop-in-realloc-of-an-answer",
            "loops in `cabi_realloc` while the host hands an answer over",
            armed(
                Guest::that(&format!("{ARM} (call $random (i64.const 16) (i32.const {SCRATCH}))"))
                    .importing(&guests::random()),
                &spins,
            ),
        ),
        fuel(
            "loop-in-post-return",
            "loops when its result has been taken over",
            Guest::default().with_post_return(&spins),
        ),
        fuel(
            "tail-calls",
            "two functions that call each other for ever, without stack",
            Guest::that("(call $ping)")
                .with_fields("(func $ping (return_call $pong)) (func $pong (return_call $ping))"),
        ),
        Case::new(
            "loop-with-all-the-fuel",
            Promise::Time,
            "loops, with fuel for a quarter of an hour",
            &Guest::that(&spins),
        )
        .fuel(1_000_000_000_000)
        .limits("timeout = \"300ms\"")
        .dies(Reason::TimedOut, TIME),
        Case::new(
            "loop-until-cancelled",
            Promise::Shared,
            "loops on every guest thread, with fuel and time to spare",
            &Guest::that(&spins),
        )
        .fuel(1_000_000_000_000)
        .cancelled(),
    ]
}

fn bulk() -> Vec<Case> {
    let grown = "(drop (memory.grow (i32.const 100)))";
    let fuel = |name, does, body: String, fields: &str| {
        let guest = Guest::that(&body).with_fields(fields);
        Case::new(name, Promise::Fuel, does, &guest).dies(Reason::OutOfFuel, FUEL)
    };
    let fill = endlessly("(memory.fill (i32.const 4096) (i32.const 1) (i32.const 6000000))");
    let copy = endlessly("(memory.copy (i32.const 4096) (i32.const 8192) (i32.const 6000000))");
    let init = endlessly("(memory.init $data (i32.const 4096) (i32.const 0) (i32.const 4096))");
    let table = endlessly("(table.fill $t (i32.const 0) (ref.null func) (i32.const 9000))");
    let data = format!("(data $data \"{}\")", "A".repeat(4096));
    vec![
        fuel("memory-fill", "fills memory, megabytes in one instruction", format!("{grown} {fill}"), ""),
        fuel("memory-copy", "copies memory, megabytes in one instruction", format!("{grown} {copy}"), ""),
        fuel("memory-init", "copies a data segment again and again", init, &data),
        fuel(
            "table-fill",
            "fills a table, thousands of elements in one instruction",
            table,
            "(table $t 9000 funcref)",
        ),
    ]
}

fn wait() -> Vec<Case> {
    let [block, after] = guests::sleep();
    let sleeper =
        |guest: Guest| guest.importing(&block).importing(&after).importing(&guests::drop_pollable());
    let sleep = format!("(call $block (call $after {HOUR}))");
    let [poll, poll_after] = guests::poll();
    let crowd = format!(
        "(local $n i32) (loop $more
           (i32.store (i32.add (i32.const 4096) (i32.mul (local.get $n) (i32.const 4))) (call $after {HOUR}))
           (local.set $n (i32.add (local.get $n) (i32.const 1)))
           (br_if $more (i32.lt_u (local.get $n) (i32.const 100))))
         (call $poll (i32.const 4096) (i32.const 100) (i32.const {SCRATCH}))"
    );
    let naps = "(local $nap i32) (local.set $nap (call $after (i64.const 1)))
        (call $block (local.get $nap)) (call $drop (local.get $nap))";
    let naps = naps.replacen("(local $nap i32) ", "", 1);
    let time = |name, does, guest: Guest| {
        let case = Case::new(name, Promise::Time, does, &guest).limits("timeout = \"300ms\"");
        case.dies(Reason::TimedOut, TIME)
    };
    vec![
        time("sleep", "sleeps for an hour in one call of the host", sleeper(Guest::that(&sleep))),
        time(
            "sleep-in-start",
            "sleeps for an hour in its start function, which makes the host yield there (RUSTSEC-2026-0358)",
            sleeper(Guest::default()).with_fields(&format!("(func $start {sleep}) (start $start)")),
        ),
        time(
            "wait-for-many",
            "waits for a hundred clocks at once",
            Guest::that(&crowd).importing(&poll).importing(&poll_after),
        ),
        Case::new(
            "naps-without-end",
            Promise::Shared,
            "wakes the scheduler as often as it can, a nanosecond at a time",
            &sleeper(Guest::that(&format!("(local $nap i32) {}", endlessly(&naps)))),
        )
        .fuel(5_000_000)
        .dies(Reason::OutOfFuel, FUEL),
    ]
}
