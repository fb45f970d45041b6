//! Loading a component: whatever the bytes, it is loaded or refused with a reason, and what is loaded can be run.

use sandhog_engine::Error;
use sandhog_guests::{self as guests, Guest};

use crate::Target;
use crate::bed::bed;

/// A component, as bytes or as text.
pub const TARGET: Target = Target { name: "component", run, seeds, words: WORDS };

const WORDS: &[&str] = &[
    "\0asm\x01\0\0\0",
    "\0asm\x0d\0\x01\0",
    "\u{7f}",
    "\u{0}",
    "\x01",
    "(component",
    "(core module",
    "(func",
    ")",
    "(memory 1)",
    "(memory 65536)",
    "(table 1000000 funcref)",
    "(import \"wasi:io/poll@0.2.0\" (instance))",
    "(start 0)",
    "handle",
    "sandhog:job/types@0.1.0",
    "sandhog:job/types@0.2.0",
    "sandhog:job/types@0.3.0",
    "(canon lift",
    "(canon lower",
    "(export \"handle\"",
    "(type (func))",
    "i64",
    "v128",
    "externref",
    "(resource)",
    "(list u8)",
    "(own 0)",
    "string-encoding=utf16",
    "async",
];

fn seeds() -> Vec<Vec<u8>> {
    let [streams, stdout] = guests::stdout();
    let texts = [
        guests::idle(),
        guests::echo(),
        guests::spin(),
        Guest::that("(call $log (i32.const 2) (i32.const 0) (i32.const 5) (i32.const 0) (i32.const 0))")
            .importing(&guests::log())
            .text(),
        Guest::default().importing(&guests::state_get()).importing(&guests::enqueue()).text(),
        Guest::default().importing(&streams).importing(&stdout).text(),
        Guest::default().with_fields("(table $t 8 funcref) (func $start) (start $start)").text(),
        "(component)".to_owned(),
        "(module)".to_owned(),
    ];
    let compiled = texts.iter().map(|text| wat::parse_str(text).expect("guests are well-formed"));
    compiled.chain(texts.iter().map(|text| text.clone().into_bytes())).collect()
}

fn run(input: &[u8]) {
    match bed().load(input) {
        Ok(plugin) => drop(bed().run(&plugin, b"payload")),
        Err(error) => {
            let named =
                matches!(error, Error::TooLarge { .. } | Error::Malformed { .. } | Error::NotAHandler { .. });
            let shown = error.to_string();
            assert!(named && shown.starts_with("plugin acme/guest: "), "{shown}");
            assert!(!shown.contains("panicked"), "the compiler panics: {shown}");
        }
    }
}
