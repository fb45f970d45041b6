//! Guests that take all they can get: memory, tables, stack, handles.

use sandhog_core::reason::Reason;
use sandhog_guests::{self as guests, Guest};

use super::endlessly;
use crate::case::{Case, Promise};

const MEMORY: &str = "raise limits.memory of plugin hostile/hog";
const TABLE: &str = "raise limits.table_elements of plugin hostile/hog";
const STACK: &str = "engine.stack";

pub(crate) fn cases() -> Vec<Case> {
    [memory(), tables(), stack(), handles()].into_iter().flatten().collect()
}

/// Grows, touches what it got, and traps when it gets no more, as allocators do.
const ALLOCATES: &str = "(if (i32.eq (memory.grow (i32.const 8)) (i32.const -1)) (then unreachable))
    (i32.store (i32.sub (i32.mul (memory.size) (i32.const 65536)) (i32.const 4)) (i32.const 1))";

fn memory() -> Vec<Case> {
    let oom = |name, does, guest: Guest| {
        Case::new(name, Promise::Memory, does, &guest).dies(Reason::OutOfMemory, MEMORY)
    };
    let more = |n: u32| {
        format!(
            r#"(core module $m{n} (memory 1) (func (export "grow") (param i32) (result i32)
                 (memory.grow (local.get 0))))
               (core instance $m{n} (instantiate $m{n}))"#
        )
    };
    let segments: String = (0..32)
        .map(|n| format!("(data (i32.const {}) \"{}\")", 65536 * (n + 1), "A".repeat(65000)))
        .collect();
    vec![
        oom("memory-grow", "grows its memory and touches every page", Guest::that(&endlessly(ALLOCATES))),
        oom(
            "memory-grow-at-once",
            "asks for 4 GiB in one go",
            Guest::that("(if (i32.eq (memory.grow (i32.const 65535)) (i32.const -1)) (then unreachable))"),
        ),
        oom(
            "memories-of-two-modules",
            "has two memories, each within the limit",
            Guest {
                component: more(1),
                with: r#"(with "m1" (instance $m1))"#.to_owned(),
                module: r#"(import "m1" "grow" (func $grow (param i32) (result i32)))"#.to_owned(),
                ..Guest::that(
                    "(if (i32.eq (memory.grow (i32.const 80)) (i32.const -1)) (then unreachable))
                     (if (i32.eq (call $grow (i32.const 80)) (i32.const -1)) (then unreachable))",
                )
            },
        ),
        oom(
            "memories-of-one-module",
            "grows three memories of one module in turn",
            Guest::that(&endlessly(
                "(if (i32.eq (memory.grow $b (i32.const 8)) (i32.const -1)) (then unreachable))
                 (if (i32.eq (memory.grow $c (i32.const 8)) (i32.const -1)) (then unreachable))",
            ))
            .with_fields("(memory $b 1) (memory $c 1)"),
        ),
        oom(
            "memory-at-the-start",
            "wants 12 MiB before any of its code has run",
            Guest { memory: "200", ..Guest::default() },
        ),
        oom(
            "memories-at-the-start",
            "wants 9 MiB in three memories before any of its code has run",
            Guest::default().with_fields("(memory $b 48) (memory $c 48) (memory $d 48)"),
        ),
        oom(
            "memory-in-realloc",
            "grows its memory in `cabi_realloc`, while the host hands the job over",
            Guest::default().with_realloc(&format!("{} unreachable", endlessly(ALLOCATES))),
        ),
        oom(
            "memory-in-start",
            "grows its memory in its start function",
            Guest::default().with_fields(&format!("(func $start {}) (start $start)", endlessly(ALLOCATES))),
        ),
        Case::new(
            "data-segments",
            Promise::Memory,
            "brings 2 MiB of data into a memory of 1 MiB",
            &Guest { memory: "64", ..Guest::default().with_fields(&segments) },
        )
        .limits("memory = \"1MiB\"")
        .dies(Reason::OutOfMemory, MEMORY),
    ]
}

fn tables() -> Vec<Case> {
    let oot = |name, does, guest: Guest| {
        let case = Case::new(name, Promise::Tables, does, &guest).limits("table_elements = 1000");
        case.dies(Reason::OutOfTable, TABLE)
    };
    let grow = |table: &str| {
        format!(
            "(if (i32.eq (table.grow {table} (ref.null func) (i32.const 64)) (i32.const -1)) (then unreachable))"
        )
    };
    vec![
        oot("table-grow", "grows a table", Guest::that(&endlessly(&grow("$t"))).with_fields("(table $t 0 funcref)")),
        oot(
            "tables-together",
            "grows two tables in turn",
            Guest::that(&endlessly(&format!("{} {}", grow("$t"), grow("$u"))))
                .with_fields("(table $t 0 funcref) (table $u 0 funcref)"),
        ),
        oot(
            "table-at-the-start",
            "wants a table of 9,000 elements before any of its code has run",
            Guest::default().with_fields("(table $t 9000 funcref)"),
        ),
        oot(
            "table-grow-past-everything",
            "asks for a table larger than any address space (RUSTSEC-2026-0114)",
            Guest::that("(if (i32.eq (table.grow $t (ref.null func) (i32.const -1)) (i32.const -1)) (then unreachable))")
                .with_fields("(table $t 1 funcref)"),
        )
        // A growth costs fuel by the element.
        .fuel(10_000_000_000),
    ]
}

fn stack() -> Vec<Case> {
    let deep = |name, does, guest: Guest| {
        Case::new(name, Promise::Stack, does, &guest).dies(Reason::StackOverflow, STACK)
    };
    let dive = "(func $dive (param i32) (result i32) (i32.add (call $dive (local.get 0)) (i32.const 1)))";
    vec![
        deep("recursion", "calls itself", Guest::that("(drop (call $dive (i32.const 0)))").with_fields(dive)),
        deep(
            "recursion-of-two",
            "two functions call each other by a table",
            Guest::that("(drop (call $a (i32.const 0)))").with_fields(
                "(type $f (func (param i32) (result i32))) (table $t funcref (elem $a $b))
                 (func $a (type $f) (i32.add (i32.const 1) (call_indirect $t (type $f) (local.get 0) (i32.const 1))))
                 (func $b (type $f) (i32.add (i32.const 1) (call_indirect $t (type $f) (local.get 0) (i32.const 0))))",
            ),
        ),
        deep("huge-frames", "calls itself with 4,000 values at hand", Guest::that("(drop (call $wide (i64.const 1)))").with_fields(&wide(4000))),
        deep(
            "recursion-in-start",
            "calls itself in its start function",
            Guest::default()
                .with_fields(&format!("{dive} (func $start (drop (call $dive (i32.const 0)))) (start $start)")),
        ),
        deep("recursion-in-realloc", "calls itself in `cabi_realloc`", {
            let mut guest = Guest::default().with_realloc("(call $dive (i32.const 0))");
            guest.libc.push_str(dive);
            guest
        }),
    ]
}

/// A function that keeps this many values across a call of itself.
fn wide(values: usize) -> String {
    let locals: String = (0..values).map(|n| format!("(local $v{n} i64)")).collect();
    let sets: String =
        (0..values).map(|n| format!("(local.set $v{n} (i64.load (i32.const {})))", 8 * n)).collect();
    let sums: String = (0..values).map(|n| format!("(local.get $v{n}) i64.xor ")).collect();
    format!(
        "(func $wide (param $x i64) (result i64) {locals} {sets}
           (call $wide (i64.add (local.get $x) (i64.const 1))) {sums})"
    )
}

fn handles() -> Vec<Case> {
    let [block, after] = guests::sleep();
    let [streams, stdout] = guests::stdout();
    let trapped = |name, does, guest: Guest, says| {
        Case::new(name, Promise::HostMemory, does, &guest).dies(Reason::Trapped, says)
    };
    vec![
        trapped(
            "pollables-without-end",
            "makes pollables and keeps them",
            Guest::that(&endlessly("(drop (call $after (i64.const 1)))")).importing(&block).importing(&after),
            "",
        ),
        trapped(
            "streams-without-end",
            "asks for its standard output and keeps what it gets",
            Guest::that(&endlessly("(drop (call $out))")).importing(&streams).importing(&stdout),
            "",
        ),
    ]
}
