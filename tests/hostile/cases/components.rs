//! Files that are no components, or components that nobody should want.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use sandhog_guests::{self as guests, Guest};

use crate::case::{Case, FileOf, Promise};

pub(crate) fn cases() -> Vec<Case> {
    [malformed(), unsuitable(), enormous(), claims()].into_iter().flatten().collect()
}

fn text(name: &'static str, does: &'static str, text: String, says: &'static str) -> Case {
    Case::file(name, does, FileOf::Bytes(text.into_bytes()), says)
}

fn wasm() -> Vec<u8> {
    wat::parse_str(guests::echo()).expect("guests are well-formed")
}

fn malformed() -> Vec<Case> {
    let bytes = |name, does, bytes, says| Case::file(name, does, FileOf::Bytes(bytes), says);
    let mut truncated = wasm();
    truncated.truncate(truncated.len() / 2);
    let mut damaged = wasm();
    damaged[10..26].fill(0xff);
    let mut garbage = b"\0asm\x0d\0\x01\0".to_vec();
    let mut random = StdRng::seed_from_u64(7);
    garbage.extend((0..10_000).map(|_| random.random::<u8>()));
    vec![
        bytes("empty", "an empty file", Vec::new(), "not a component"),
        bytes("truncated", "the first half of a component", truncated, "can't be compiled"),
        bytes("damaged", "a component with 16 bytes overwritten", damaged, "can't be compiled"),
        bytes("garbage", "the head of a component, and then random bytes", garbage, "can't be compiled"),
        text("core-module", "a core module", r#"(module (func (export "handle")))"#.to_owned(), "component"),
        bytes(
            "core-module-in-binary",
            "a core module in binary",
            wat::parse_str(r#"(module (func (export "handle")))"#).expect("well-formed"),
            "a core module, not a component",
        ),
        Case::file(
            "machine-code",
            "machine code, as the engine keeps it in its cache",
            FileOf::MachineCode,
            "not a component",
        ),
    ]
}

fn unsuitable() -> Vec<Case> {
    let with = |fields: &str| Guest::default().with_fields(fields).text();
    let imports = |import: &str| Guest { component: import.to_owned(), ..Guest::default() }.text();
    vec![
        text(
            "nothing",
            "a component that exports nothing",
            "(component)".to_owned(),
            "exports no function `handle`",
        ),
        text(
            "another-handle",
            "a component whose `handle` takes something else",
            r#"(component
              (core module $m (func (export "handle")))
              (core instance $i (instantiate $m))
              (func (export "handle") (canon lift (core func $i "handle"))))"#
                .to_owned(),
            "handle",
        ),
        text(
            "unknown-import",
            "a component that wants something from the host that there isn't",
            imports(r#"(import "evil:corp/backdoor@1.0.0" (instance (export "open" (func))))"#),
            "evil:corp/backdoor@1.0.0",
        ),
        text(
            "import-of-another-type",
            "a component that calls a function of the host as if it were of another type",
            imports(
                r#"(import "wasi:clocks/monotonic-clock@0.2.0" (instance (export "now" (func (result string)))))"#,
            ),
            "monotonic-clock",
        ),
        text(
            "import-of-a-module",
            "a component that wants a core module from the host",
            imports(r#"(import "code" (core module))"#),
            "code",
        ),
        text(
            "component-start",
            "a component with a start function of its own (RUSTSEC-2026-0358)",
            r#"(component
              (core module $m (func (export "f")))
              (core instance $i (instantiate $m))
              (func $f (canon lift (core func $i "f")))
              (start $f))"#
                .to_owned(),
            "component",
        ),
        text("memory-of-64-bits", "a memory with 64-bit addresses", with("(memory $big i64 1)"), "memory64"),
        text("shared-memory", "a memory that threads share", with("(memory $shared 1 1 shared)"), "shared"),
        text(
            "garbage-collected-types",
            "a type that a garbage collector would be needed for",
            with("(type $s (struct (field i32)))"),
            "gc",
        ),
    ]
}

fn enormous() -> Vec<Case> {
    let with = |fields: &str| Guest::default().with_fields(fields).text();
    let modules: String = (0..200).map(|_| "(core instance (instantiate $tiny))").collect();
    let memories: String = (0..8).map(|n| format!("(memory $m{n} 1)")).collect();
    let tables: String = (0..40).map(|n| format!("(table $t{n} 1 funcref)")).collect();
    let functions: String = (0..20_000).map(|n| format!("(func (result i32) (i32.const {n}))")).collect();
    let exports: String = (0..20_000).map(|n| format!("(func (export \"f{n}\"))")).collect();
    let locals = format!("(func (local {}))", "i64 ".repeat(60_000));
    let names: String = (0..20)
        .map(|n| {
            format!(r#"(import "evil:{}{n}/x@1.0.0" (instance (export "f" (func))))"#, "a".repeat(90_000))
        })
        .collect();
    let offers: String =
        (0..5000).map(|n| format!(r#"(export "f{n}{}" (func $f))"#, "a".repeat(200))).collect();
    let types: String = (1..20_000).map(|n| format!("(type $t{n} (list $t{}))", n - 1)).collect();
    let body = format!("(func {})", "nop ".repeat(8_000_000));
    vec![
        Case::file("too-large", "65 MiB of zeros", FileOf::Zeros(65 << 20), "limits.component"),
        Case::file("a-tebibyte", "a tebibyte of zeros", FileOf::Zeros(1 << 40), "limits.component"),
        text(
            "memory-of-4-gib",
            "a memory of 4 GiB from the start",
            Guest { memory: "65536", ..Guest::default() }.text(),
            "memory",
        ),
        text(
            "table-of-four-billion",
            "a table of 2^32 - 1 elements from the start (RUSTSEC-2026-0114)",
            with("(table $huge 4294967295 funcref)"),
            "table",
        ),
        text(
            "hundreds-of-instances",
            "two hundred core instances",
            Guest { component: format!("(core module $tiny) {modules}"), ..Guest::default() }.text(),
            "instances",
        ),
        text(
            "names-without-end",
            "imports whose names are megabytes",
            format!("(component {names})"),
            "evil:aaaa",
        ),
        text(
            "exports-without-end",
            "five thousand exports, and no `handle`",
            format!(
                r#"(component (core module $m (func (export "f"))) (core instance $i (instantiate $m))
                   (func $f (canon lift (core func $i "f"))) {offers})"#
            ),
            "exports no function `handle`",
        ),
        text(
            "types-without-end",
            "a function of a list of a list of a list, twenty thousand deep",
            format!(r#"(component (type $t0 u8) {types} (import "evil" (func (param "x" $t19999))))"#),
            "hostile",
        ),
        text("many-memories", "nine memories", with(&memories), "memories"),
        text("many-tables", "forty tables", with(&tables), "tables"),
        text("thousands-of-locals", "a function with 60,000 locals", with(&locals), "locals"),
        text("function-of-megabytes", "a function of eight million instructions", with(&body), "function"),
        Case::file(
            "nested-without-end",
            "a component in a component, twenty thousand times",
            FileOf::Bytes(nested(20_000)),
            "raise limits.compile_memory",
        ),
        Case::new(
            "thousands-of-functions",
            Promise::Deploy,
            "20,000 functions, which is no crime",
            &Guest::default().with_fields(&functions),
        )
        .returns(""),
        Case::new(
            "thousands-of-exports",
            Promise::Deploy,
            "20,000 functions that a module exports",
            &Guest::default().with_fields(&exports),
        )
        .returns(""),
    ]
}

/// A component in a component, so many times.
fn nested(depth: usize) -> Vec<u8> {
    const HEAD: &[u8] = b"\0asm\x0d\0\x01\0";
    /// The section that holds a component.
    const COMPONENT: u8 = 4;
    // From the inside out, and backwards, so that each level is only an addition.
    let mut reversed: Vec<u8> = HEAD.iter().rev().copied().collect();
    for _ in 0..depth {
        let mut head = HEAD.to_vec();
        head.push(COMPONENT);
        leb128(reversed.len(), &mut head);
        reversed.extend(head.iter().rev());
    }
    reversed.reverse();
    reversed
}

fn leb128(mut number: usize, to: &mut Vec<u8>) {
    loop {
        let low = u8::try_from(number & 0x7f).expect("seven bits");
        number >>= 7;
        if number == 0 {
            to.push(low);
            return;
        }
        to.push(low | 0x80);
    }
}

fn claims() -> Vec<Case> {
    vec![
        text(
            "not-the-pinned-one",
            "a component of another digest than the one that is pinned",
            guests::echo(),
            "sha256",
        )
        .plugin("sha256 = \"0000000000000000000000000000000000000000000000000000000000000000\""),
        text(
            "pinned-to-the-neighbours",
            "a component that claims, by its pin, to be the one that the neighbour runs",
            guests::echo(),
            "pins NEIGHBOURS_DIGEST",
        )
        .plugin("sha256 = \"NEIGHBOURS_DIGEST\""),
    ]
}
