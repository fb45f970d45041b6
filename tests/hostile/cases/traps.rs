//! Guests that go wrong at the worst of moments: when they have written half of what they wanted to.

use sandhog_core::reason::Reason;
use sandhog_guests::{self as guests, Guest, SCRATCH};

use super::{ARM, armed};
use crate::case::{Case, Promise};
use crate::run::KEY;

pub(crate) fn cases() -> Vec<Case> {
    [halves(), plain()].into_iter().flatten().collect()
}

/// Writes state and enqueues a job, and then does this.
fn writes_and(then: &str) -> Guest {
    let writes = format!(
        "(call $set (i32.const 512) (i32.const 1) (i32.const 512) (i32.const 1) (i32.const 0) (i64.const 0) (i32.const 2048))
         (call $enqueue (i32.const 520) (i32.const 11) (i32.const 512) (i32.const 1)
           (i32.const 0) (i32.const 0) (i32.const 0) (i64.const 0) (i32.const 100)
           (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 2048))
         {then}"
    );
    Guest::that(&writes)
        .importing(&guests::state_set())
        .importing(&guests::enqueue())
        .with_fields(&format!(r#"(data (i32.const 512) "{KEY}") (data (i32.const 520) "hostile.run")"#))
}

fn halves() -> Vec<Case> {
    let half = |name, does, says, guest: Guest| {
        Case::new(name, Promise::NoHalf, does, &guest).dies(Reason::Trapped, says)
    };
    vec![
        half(
            "trap-after-effects",
            "writes state and enqueues a job, then traps",
            "unreachable",
            writes_and("unreachable"),
        ),
        half(
            "exit-after-effects",
            "writes, then exits with status 0",
            "exited with status 0",
            writes_and("(call $exit (i32.const 0))").importing(&guests::exit()),
        ),
        half(
            "exit-with-failure",
            "writes, then exits with status 1",
            "exited with status 1",
            writes_and("(call $exit (i32.const 1))").importing(&guests::exit()),
        ),
        half(
            "trap-in-post-return",
            "writes, returns a result, then traps",
            "unreachable",
            writes_and("").with_post_return("unreachable"),
        ),
        half(
            "trap-in-the-middle-of-a-host-call",
            "writes, then traps in `cabi_realloc` while the host hands an answer over",
            "unreachable",
            armed(
                writes_and(&format!("{ARM} (call $random (i64.const 16) (i32.const {SCRATCH}))"))
                    .importing(&guests::random()),
                "unreachable",
            ),
        ),
        Case::new(
            "malformed-after-effects",
            Promise::NoHalf,
            "writes, then returns what is no result",
            &writes_and("(i32.store8 (i32.const 64) (i32.const 7))"),
        )
        .dies(Reason::Trapped, ""),
        Case::new(
            "out-of-fuel-after-effects",
            Promise::NoHalf,
            "writes, then loops",
            &writes_and("(loop $for_ever br $for_ever)"),
        )
        .dies(Reason::OutOfFuel, ""),
    ]
}

fn plain() -> Vec<Case> {
    let trap = |name, does, says, guest: Guest| {
        Case::new(name, Promise::Contained, does, &guest).dies(Reason::Trapped, says)
    };
    vec![
        trap(
            "trap-in-start",
            "traps in its start function",
            "unreachable",
            Guest::default().with_fields("(func $start unreachable) (start $start)"),
        ),
        trap(
            "load-outside",
            "reads outside of its memory",
            "out of bounds",
            Guest::that("(drop (i32.load (i32.const -4)))"),
        ),
        trap(
            "call-of-nothing",
            "calls an empty place of a table",
            "uninitialized",
            Guest::that("(call_indirect $t (i32.const 0))").with_fields("(table $t 1 funcref)"),
        ),
        trap(
            "call-of-another-type",
            "calls a function as if it were of another type",
            "indirect call type mismatch",
            Guest::that("(drop (call_indirect $t (result i32) (i32.const 0)))")
                .with_fields("(table $t funcref (elem $f)) (func $f)"),
        ),
        trap(
            "data-outside",
            "has data for outside of its memory",
            "out of bounds",
            Guest::default().with_fields("(data (i32.const 65530) \"0123456789\")"),
        ),
        trap(
            "division-by-zero",
            "divides by zero",
            "divide by zero",
            Guest::that("(drop (i32.div_u (i32.const 1) (i32.const 0)))"),
        ),
    ]
}
