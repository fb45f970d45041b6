//! Calls of the host: one guest that does what its payload says, call by call, with whatever arguments it says. Any
//! payload is a program, so this tries any sequence of calls without compiling a component for each.
//!
//! A call is a byte for which, and then its arguments; see [`interpreter`] for how each is written. When the payload is
//! over, the guest returns.

use std::fmt::Write as _;
use std::sync::{Arc, OnceLock};

use sandhog_engine::Plugin;
use sandhog_guests::{self as guests, Guest, Import, SCRATCH};

use crate::Target;
use crate::bed::bed;

/// A program of the interpreter.
pub const TARGET: Target =
    Target { name: "host_calls", run, seeds, words: &["hostile.run", "k", "\u{0}\u{1}", "\u{2}"] };

/// A call: what it is called in the guest, its parameters (`i` or `I`), and whether it leaves something that must be
/// taken.
struct Call {
    name: &'static str,
    parameters: &'static str,
    leaves: Leaves,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Leaves {
    Nothing,
    /// A handle, which later calls may use.
    Handle,
    /// 64 bits that nobody wants.
    Number,
}

const CALLS: [Call; 15] = [
    call("log", "iiiii", Leaves::Nothing),
    call("get", "iii", Leaves::Nothing),
    call("set", "iiiiiIi", Leaves::Nothing),
    call("secret", "iii", Leaves::Nothing),
    call("report", "IiIiii", Leaves::Nothing),
    call("stop", "i", Leaves::Nothing),
    call("enqueue", "iiiiiiiIiiiii", Leaves::Nothing),
    call("random", "Ii", Leaves::Nothing),
    call("now", "", Leaves::Number),
    call("env", "i", Leaves::Nothing),
    call("after", "I", Leaves::Handle),
    call("drop", "i", Leaves::Nothing),
    call("print", "iiii", Leaves::Nothing),
    call("out", "", Leaves::Handle),
    call("exit", "i", Leaves::Nothing),
];

const fn call(name: &'static str, parameters: &'static str, leaves: Leaves) -> Call {
    Call { name, parameters, leaves }
}

fn imports() -> Vec<Import> {
    let [block, after] = guests::sleep();
    let [streams, stdout] = guests::stdout();
    // What follows in this list uses what comes before.
    let first =
        [guests::log(), guests::state_set(), guests::secret(), guests::progress(), guests::stop_requested()];
    let then =
        [guests::enqueue(), guests::random(), guests::environment(), block, after, guests::drop_pollable()];
    first.into_iter().chain(then).chain([streams, stdout, guests::exit()]).collect()
}

/// Reads its payload as a program.
///
/// A 32-bit argument is a byte for how it is written, modulo 4: 0, one byte that is its value; 1, the last handle; 2,
/// two bytes that are an offset into the payload, so that texts can be in there; 3, four bytes that are its value. A
/// 64-bit argument is one byte: if it is odd, a 32-bit argument follows, else two.
fn interpreter() -> Guest {
    let fields = r#"
      (global $at (mut i32) (i32.const 0)) (global $start (mut i32) (i32.const 0)) (global $end (mut i32) (i32.const 0))
      (global $handle (mut i32) (i32.const 0))
      (func $byte (result i32)
        (if (i32.ge_u (global.get $at) (global.get $end)) (then (return (i32.const 0))))
        (global.set $at (i32.add (global.get $at) (i32.const 1)))
        (i32.load8_u (i32.sub (global.get $at) (i32.const 1))))
      (func $two (result i32) (i32.or (call $byte) (i32.shl (call $byte) (i32.const 8))))
      (func $i32 (result i32) (local $how i32)
        (local.set $how (i32.and (call $byte) (i32.const 3)))
        (if (i32.eq (local.get $how) (i32.const 0)) (then (return (call $byte))))
        (if (i32.eq (local.get $how) (i32.const 1)) (then (return (global.get $handle))))
        (if (i32.eq (local.get $how) (i32.const 2)) (then (return (i32.add (global.get $start) (call $two)))))
        (i32.or (call $two) (i32.shl (call $two) (i32.const 16))))
      (func $i64 (result i64)
        (if (i32.and (call $byte) (i32.const 1)) (then (return (i64.extend_i32_u (call $i32)))))
        (i64.or (i64.extend_i32_u (call $i32)) (i64.shl (i64.extend_i32_u (call $i32)) (i64.const 32))))"#;
    let mut body = String::from(
        "(local $call i32)
         (global.set $at (local.get $payload)) (global.set $start (local.get $payload))
         (global.set $end (i32.add (local.get $payload) (local.get $payload_len)))
         (block $over (loop $next
           (br_if $over (i32.ge_u (global.get $at) (global.get $end)))
           (local.set $call (i32.rem_u (call $byte) (i32.const 15)))",
    );
    for (number, Call { name, parameters, leaves }) in CALLS.iter().enumerate() {
        let arguments: String = parameters
            .chars()
            .map(|kind| if kind == 'I' { "(call $i64) " } else { "(call $i32) " })
            .collect();
        let call = format!("(call ${name} {arguments})");
        let call = match leaves {
            Leaves::Nothing => call,
            Leaves::Handle => format!("(global.set $handle {call})"),
            Leaves::Number => format!("(drop {call})"),
        };
        // Writing to a string can't fail.
        let _ = write!(body, "(if (i32.eq (local.get $call) (i32.const {number})) (then {call}))");
    }
    body.push_str("(br $next)))");
    let guest = imports().iter().fold(Guest::that(&body), |guest, import| guest.importing(import));
    let clock = guests::clock_as("wasi:clocks/monotonic-clock@0.2.1");
    guest.importing(&guests::state_get_as("sandhog:job/state@0.1.1")).importing(&clock).with_fields(fields)
}

fn plugin() -> &'static Arc<Plugin> {
    static PLUGIN: OnceLock<Arc<Plugin>> = OnceLock::new();
    PLUGIN.get_or_init(|| bed().load(interpreter().text().as_bytes()).expect("the interpreter is a handler"))
}

fn run(input: &[u8]) {
    let _report = bed().run(plugin(), input);
}

/// The number of a call, as a program has it.
fn number(name: &str) -> u8 {
    let at = CALLS.iter().position(|call| call.name == name).expect("a call of the table");
    u8::try_from(at).expect("there are few")
}

/// A program of one call, with text at its end; arguments are small numbers, or `T` for where the text is.
fn program(name: &str, arguments: &[Argument], text: &[u8]) -> Vec<u8> {
    let mut program = vec![number(name)];
    let len: usize = arguments.iter().map(|argument| argument.len()).sum();
    let text_at = u8::try_from(1 + len).expect("few arguments");
    for argument in arguments {
        match argument {
            Argument::Small(value) => program.extend([0, *value]),
            Argument::Text => program.extend([2, text_at, 0]),
            Argument::Handle => program.push(1),
            Argument::Wide(value) => program.extend([1, 0, *value]),
            Argument::Answer => program.extend([3, SCRATCH.to_le_bytes()[0], SCRATCH.to_le_bytes()[1], 0, 0]),
        }
    }
    program.extend(text);
    program
}

#[derive(Clone, Copy)]
enum Argument {
    Small(u8),
    Text,
    Handle,
    Wide(u8),
    Answer,
}

impl Argument {
    fn len(self) -> usize {
        match self {
            Self::Small(_) => 2,
            Self::Text | Self::Wide(_) => 3,
            Self::Handle => 1,
            Self::Answer => 5,
        }
    }
}

fn seeds() -> Vec<Vec<u8>> {
    use Argument::{Answer, Handle, Small, Text, Wide};
    let none = Small(0);
    vec![
        program("log", &[Small(2), Text, Small(5), none, none], b"hello"),
        program("get", &[Text, Small(4), Answer], b"keys"),
        program("get", &[Text, Small(1), Answer], b"k"),
        program("get", &[Text, Small(2), Answer], b"kk"),
        program("set", &[Text, Small(1), Text, Small(1), none, Wide(0), Answer], b"k"),
        program("secret", &[Text, Small(5), Answer], b"TOKEN"),
        program("report", &[Wide(1), Small(1), Wide(2), Small(1), Text, Small(2)], b"ok"),
        program("stop", &[Answer], b""),
        program(
            "enqueue",
            &[
                Text,
                Small(4),
                Text,
                Small(4),
                none,
                none,
                none,
                Wide(0),
                Small(100),
                none,
                none,
                none,
                Answer,
            ],
            b"kind",
        ),
        program("random", &[Wide(32), Answer], b""),
        program("env", &[Answer], b""),
        [program("after", &[Wide(1)], b""), program("drop", &[Handle], b"")].concat(),
        [program("out", &[], b""), program("print", &[Handle, Small(64), Small(5), Answer], b"")].concat(),
        program("now", &[], b""),
        program("exit", &[Small(0)], b""),
    ]
}
