//! Guests that hand over values that are none, or so large that nobody can want them.

use sandhog_core::reason::Reason;
use sandhog_guests::{self as guests, Guest, RESULT, REUSE, SCRATCH};

use super::{ARM, armed};
use crate::case::{Case, Promise};

pub(crate) fn cases() -> Vec<Case> {
    [texts(), lists(), discriminants(), results(), reallocs(), handles()].into_iter().flatten().collect()
}

fn malformed(name: &'static str, does: &'static str, says: &'static str, guest: &Guest) -> Case {
    Case::new(name, Promise::Boundary, does, guest).dies(Reason::Trapped, says)
}

/// Logs a message that lies there, with fields that lie there.
fn logs(level: u32, message: [u32; 2], fields: [u32; 2]) -> Guest {
    let [at, len] = message;
    let [fields_at, fields_len] = fields;
    Guest::that(&format!(
        "(call $log (i32.const {level}) (i32.const {at}) (i32.const {len}) (i32.const {fields_at}) (i32.const {fields_len}))"
    ))
}

fn log(level: u32, message: [u32; 2], fields: [u32; 2]) -> Guest {
    logs(level, message, fields).importing(&guests::log())
}

fn texts() -> Vec<Case> {
    let bad_text = format!("(data (i32.const {SCRATCH}) \"caf\\e9 \\ff\\fe\")");
    let half_pair = format!("(data (i32.const {SCRATCH}) \"\\00\\d8A\\00\")");
    let utf16 = guests::log().lowered_with("string-encoding=utf16");
    let compact = guests::log().lowered_with("string-encoding=latin1+utf16");
    let text = [SCRATCH, 8];
    vec![
        malformed(
            "text-past-the-end",
            "logs a text that begins in its memory and ends outside",
            "",
            &log(2, [65_530, 1000], [0, 0]),
        ),
        malformed("text-of-2-gib", "logs a text of 2 GiB", "", &log(2, [0, 0x8000_0000], [0, 0])),
        malformed(
            "text-that-wraps-around",
            "logs a text whose end is before its beginning",
            "",
            &log(2, [0xffff_fff0, 0x20], [0, 0]),
        ),
        malformed(
            "no-utf-8",
            "logs a text that is no UTF-8",
            "",
            &log(2, text, [0, 0]).with_fields(&bad_text),
        ),
        malformed(
            "no-utf-8-as-a-secrets-name",
            "asks for a secret whose name is no UTF-8",
            "",
            &Guest::that(&format!("(call $secret (i32.const {SCRATCH}) (i32.const 8) (i32.const 2048))"))
                .importing(&guests::secret())
                .with_fields(&bad_text),
        ),
        malformed(
            "no-utf-8-as-a-failure",
            "fails with a message that is no UTF-8",
            "",
            &Guest::that(&format!(
                "(i32.store8 (i32.const 64) (i32.const 1)) (i32.store8 (i32.const 72) (i32.const 1))
                 (i32.store (i32.const 80) (i32.const {SCRATCH})) (i32.store (i32.const 84) (i32.const 8))"
            ))
            .with_fields(&bad_text),
        ),
        malformed(
            "half-a-pair-in-utf-16",
            "logs half a surrogate pair in UTF-16",
            "",
            &logs(2, [SCRATCH, 2], [0, 0]).importing(&utf16).with_fields(&half_pair),
        ),
        malformed(
            "odd-address-in-utf-16",
            "logs UTF-16 at an odd address",
            "",
            &logs(2, [SCRATCH + 1, 2], [0, 0]).importing(&utf16),
        ),
        malformed(
            "compact-text-of-2-gib",
            "logs a text of 2^31 units in the encoding that has two",
            "",
            &logs(2, [0, 0xffff_ffff], [0, 0]).importing(&compact),
        ),
    ]
}

fn lists() -> Vec<Case> {
    // Ten thousand fields, each the same 64 KiB.
    let repeats = "(local $n i32) (drop (memory.grow (i32.const 16))) (loop $more
        (i32.store (i32.add (i32.const 131072) (i32.mul (local.get $n) (i32.const 16))) (i32.const 0))
        (i32.store (i32.add (i32.const 131076) (i32.mul (local.get $n) (i32.const 16))) (i32.const 65536))
        (local.set $n (i32.add (local.get $n) (i32.const 1)))
        (br_if $more (i32.lt_u (local.get $n) (i32.const 10000))))
        (call $log (i32.const 2) (i32.const 0) (i32.const 0) (i32.const 131072) (i32.const 10000))";
    let empty = "(drop (memory.grow (i32.const 120)))
        (call $log (i32.const 2) (i32.const 0) (i32.const 0) (i32.const 65536) (i32.const 480000))";
    let [poll, after] = guests::poll();
    let same = "(local $n i32) (local $one i32) (drop (memory.grow (i32.const 120)))
        (local.set $one (call $after (i64.const 3600000000000)))
        (loop $more
          (i32.store (i32.add (i32.const 65536) (i32.mul (local.get $n) (i32.const 4))) (local.get $one))
          (local.set $n (i32.add (local.get $n) (i32.const 1)))
          (br_if $more (i32.lt_u (local.get $n) (i32.const 1900000))))
        (call $poll (i32.const 65536) (i32.const 1900000) (i32.const 1024))";
    vec![
        malformed(
            "list-past-the-end",
            "logs fields that lie outside of its memory",
            "",
            &log(2, [0, 0], [65_520, 100]),
        ),
        malformed(
            "list-whose-size-overflows",
            "logs 2^28 fields, whose size is 2^32",
            "",
            &log(2, [0, 0], [0, 0x1000_0000]),
        ),
        malformed("list-of-2-gib", "logs 2^31 fields", "", &log(2, [0, 0], [0, 0x8000_0000])),
        malformed(
            "list-at-an-odd-address",
            "logs fields at an odd address",
            "",
            &log(2, [0, 0], [SCRATCH + 1, 1]),
        ),
        Case::new(
            "one-text-ten-thousand-times",
            Promise::HostMemory,
            "logs ten thousand fields, all the same 64 KiB of its memory",
            &Guest::that(repeats).importing(&guests::log()),
        )
        .dies(Reason::Trapped, ""),
        Case::new(
            "half-a-million-empty-fields",
            Promise::HostMemory,
            "logs half a million fields with nothing in them",
            &Guest::that(empty).importing(&guests::log()),
        )
        .dies(Reason::Trapped, ""),
        Case::new(
            "one-handle-two-million-times",
            Promise::HostMemory,
            "waits for the same clock two million times over",
            &Guest::that(same).importing(&poll).importing(&after),
        )
        .dies(Reason::Trapped, ""),
    ]
}

fn discriminants() -> Vec<Case> {
    let report = |total: u32, message: u32| {
        Guest::that(&format!(
            "(call $report (i64.const 1) (i32.const {total}) (i64.const 0) (i32.const {message}) (i32.const 0) (i32.const 0))"
        ))
        .importing(&guests::progress())
    };
    let stores =
        |at: u32, value: u32| Guest::that(&format!("(i32.store8 (i32.const {at}) (i32.const {value}))"));
    vec![
        malformed("enum-out-of-range", "logs at a level that there isn't", "", &log(77, [0, 0], [0, 0])),
        malformed(
            "option-out-of-range",
            "reports a total that is neither there nor not there",
            "",
            &report(9, 0),
        ),
        malformed(
            "option-of-text-out-of-range",
            "reports a message that is neither there nor not there",
            "",
            &report(0, 0xffff_ffff),
        ),
        malformed(
            "result-out-of-range",
            "returns what is neither a result nor a failure",
            "",
            &stores(RESULT, 7),
        ),
        malformed(
            "failure-out-of-range",
            "fails in a way that there isn't",
            "",
            &Guest::that(&format!(
                "(i32.store8 (i32.const {RESULT}) (i32.const 1)) (i32.store8 (i32.const {}) (i32.const 9))",
                RESULT + 8
            )),
        ),
    ]
}

fn results() -> Vec<Case> {
    let at = |address: &str| Guest { handle: address.to_owned(), ..Guest::default() };
    let output = |address: u32, len: u32| {
        Guest::that(&format!(
            "(i32.store (i32.const {}) (i32.const {address})) (i32.store (i32.const {}) (i32.const {len}))",
            RESULT + 8,
            RESULT + 12
        ))
    };
    let asks = |answer: &str| {
        Guest::that(&format!("(call $env (i32.const {answer}))")).importing(&guests::environment())
    };
    vec![
        malformed("result-outside", "returns a result outside of its memory", "", &at("i32.const -8")),
        malformed("result-at-an-odd-address", "returns a result at an odd address", "", &at("i32.const 65")),
        malformed(
            "result-across-the-end",
            "returns a result that begins in its memory and ends outside",
            "",
            &at("i32.const 65528"),
        ),
        malformed("output-outside", "returns an output outside of its memory", "", &output(0xffff_fff0, 8)),
        Case::new(
            "output-of-2-gib",
            Promise::Boundary,
            "returns an output of 2 GiB that isn't there",
            &output(0, 0x8000_0000),
        )
        .dies(Reason::Trapped, ""),
        malformed("answer-outside", "wants an answer outside of its memory", "", &asks("-8")),
        malformed("answer-at-an-odd-address", "wants an answer at an odd address", "", &asks("1025")),
    ]
}

fn reallocs() -> Vec<Case> {
    let echo = |realloc: &str| {
        Guest::that(&format!(
            "(i32.store (i32.const {}) (local.get $payload)) (i32.store (i32.const {}) (local.get $payload_len))",
            RESULT + 8,
            RESULT + 12
        ))
        .with_realloc(realloc)
    };
    let asks = format!("{ARM} (call $env (i32.const {SCRATCH}))");
    let granted = "[grants.env]\nA = \"1\"";
    vec![
        malformed(
            "realloc-outside",
            "hands out memory that it hasn't got",
            "",
            &echo("i32.const 0x7fffff00"),
        ),
        malformed(
            "realloc-at-the-end",
            "hands out the last byte of its memory for more than that",
            "",
            &echo("i32.const 65535"),
        ),
        malformed(
            "realloc-that-wraps-around",
            "hands out the last byte of all addresses",
            "",
            &echo("i32.const -1"),
        ),
        malformed(
            "realloc-at-an-odd-address",
            "hands out an odd address for what must lie at an even one",
            "",
            &armed(Guest::that(&asks).importing(&guests::environment()), "(return (i32.const 8193))"),
        )
        .toml(granted),
        malformed(
            "realloc-that-traps",
            "traps in `cabi_realloc` while the host hands the job over",
            "unreachable",
            &echo("unreachable"),
        ),
        Case::new(
            "realloc-that-overlaps",
            Promise::Boundary,
            "hands out the same memory for everything",
            &echo(REUSE),
        )
        .returns("{}"),
        Case::new(
            "realloc-of-nothing",
            Promise::Boundary,
            "hands out address 0 for everything",
            &echo("i32.const 0"),
        )
        .returns("{}"),
        malformed(
            "realloc-that-calls-the-host",
            "calls the host in `cabi_realloc`, in the middle of a call of the host",
            "",
            &reentrant(),
        ),
    ]
}

/// Its `realloc`, in `libc`, can't import what is lowered with that `realloc`: it goes through a table, into which
/// `main` puts `$log` later.
fn reentrant() -> Guest {
    let signature = "(param i32 i32 i32 i32 i32)";
    let call = "(call_indirect $t (type $f) (i32.const 2) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0))";
    let random = format!("{ARM} (call $random (i64.const 16) (i32.const {SCRATCH}))");
    let mut guest = armed(Guest::that(&random).importing(&guests::log()).importing(&guests::random()), call);
    guest.before =
        r#"(core module $shim (table (export "table") 1 funcref)) (core instance $shim (instantiate $shim))"#
            .to_owned();
    guest.libc_with = r#"(with "shim" (instance $shim))"#.to_owned();
    guest.libc.insert_str(
        0,
        &format!(r#"(import "shim" "table" (table $t 1 funcref)) (type $f (func {signature}))"#),
    );
    guest.with.push_str(r#"(with "shim" (instance $shim))"#);
    guest.module.push_str(
        r#"(import "shim" "table" (table $t 1 funcref)) (elem (table $t) (i32.const 0) func $log)"#,
    );
    guest
}

fn handles() -> Vec<Case> {
    let [block, after] = guests::sleep();
    let clock = |body: &str| {
        Guest::that(body).importing(&block).importing(&after).importing(&guests::drop_pollable())
    };
    let [streams, _] = guests::stdout();
    let once = "(local $one i32) (local.set $one (call $after (i64.const 1))) (call $drop (local.get $one))";
    vec![
        malformed(
            "handle-that-isnt-there",
            "waits for a handle that it never got",
            "",
            &clock("(call $block (i32.const 12345))"),
        ),
        malformed(
            "handle-past-everything",
            "waits for handle 2^32 - 1",
            "",
            &clock("(call $block (i32.const -1))"),
        ),
        malformed(
            "handle-given-back-twice",
            "gives a handle back twice",
            "",
            &clock(&format!("{once} (call $drop (local.get $one))")),
        ),
        malformed(
            "handle-used-after-its-end",
            "waits for a handle that it has given back",
            "",
            &clock(&format!("{once} (call $block (local.get $one))")),
        ),
        malformed(
            "handle-of-another-type",
            "writes to a clock as if it were a stream (GHSA-9pvw-hwfg-92h5)",
            "",
            &clock("(call $print (call $after (i64.const 1)) (i32.const 0) (i32.const 1) (i32.const 64))")
                .importing(&streams),
        ),
    ]
}
