//! Calls of the host: one guest that does what its payload says, call by call, with whatever arguments it says. Any
//! payload is a program, so this tries any sequence of calls without compiling a component for each.
//!
//! The guest is made of the interfaces that the engine serves: whatever is served, it calls. Their types are in `wit/`, and
//! one that is served and isn't there is no world that can be read.
//!
//! A call is two bytes for which, and then its arguments; see [`module`] for how each is written. When the payload is over,
//! the guest returns.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::{Arc, OnceLock};

use sandhog_engine::Plugin;
use sandhog_guests::{BUMP, RESULT, SCRATCH};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::abi::{AbiVariant, WasmType};
use wit_parser::{Resolve, TypeDefKind, WorldId, WorldItem};

use crate::Target;
use crate::bed::bed;

/// A program of the interpreter.
pub const TARGET: Target = Target {
    name: "host_calls",
    run,
    seeds,
    words: &["hostile.run", "k", "/d", "file", "\u{0}\u{1}", "\u{2}"],
};

/// The types of all interfaces, each after those that it uses.
const WIT: [(&str, &str); 9] = [
    ("io.wit", include_str!("../wit/io.wit")),
    ("clocks.wit", include_str!("../wit/clocks.wit")),
    ("random.wit", include_str!("../wit/random.wit")),
    ("filesystem.wit", include_str!("../wit/filesystem.wit")),
    ("sockets.wit", include_str!("../wit/sockets.wit")),
    ("cli.wit", include_str!("../wit/cli.wit")),
    ("http.wit", include_str!("../wit/http.wit")),
    ("job-0.1.0.wit", include_str!("../../../wit/0.1.0/job.wit")),
    ("job.wit", include_str!("../../../wit/job.wit")),
];

/// The version of WASI in there.
const WASI: &str = "0.2.12";

/// The version of the contract that the handler is not of, and imports as well.
const CONTRACT_BEFORE: &str = "0.1.0";

/// A function that the host serves, as the guest imports it.
struct Call {
    /// `package/interface@version`.
    interface: String,
    name: String,
    parameters: Vec<WasmType>,
    result: Option<WasmType>,
    /// Whether its last parameter is where the result goes.
    answers: bool,
}

/// The world of a handler that imports everything.
fn world() -> (Resolve, WorldId) {
    let mut resolve = Resolve::default();
    for (name, text) in WIT {
        resolve.push_str(name, text).unwrap_or_else(|error| panic!("{name}: {error:#}"));
    }
    let mut text =
        String::from("package sandhog:fuzz; world everything { include sandhog:job/handler@0.2.0;");
    for (package, interface) in sandhog_engine::served() {
        let version = if package.starts_with("wasi:") { WASI } else { CONTRACT_BEFORE };
        // Writing to a string can't fail.
        let _ = write!(text, " import {package}/{interface}@{version};");
    }
    text.push_str(" }");
    let package =
        resolve.push_str("everything.wit", &text).unwrap_or_else(|error| panic!("{text}: {error:#}"));
    let world = resolve.select_world(&[package], None).expect("it has one world");
    (resolve, world)
}

/// All that the host serves, functions and what gives a handle back.
fn calls(resolve: &Resolve, world: WorldId) -> Vec<Call> {
    let mut calls = Vec::new();
    for (key, item) in &resolve.worlds[world].imports {
        let WorldItem::Interface { id, .. } = item else { continue };
        let (interface, of) = (resolve.name_world_key(key), &resolve.interfaces[*id]);
        for function in of.functions.values() {
            let signature = resolve.wasm_signature(AbiVariant::GuestImport, function);
            calls.push(Call {
                interface: interface.clone(),
                name: function.name.clone(),
                parameters: signature.params,
                result: signature.results.first().copied(),
                answers: signature.retptr,
            });
        }
        for (name, of) in &of.types {
            if matches!(resolve.types[*of].kind, TypeDefKind::Resource) {
                calls.push(Call {
                    interface: interface.clone(),
                    name: format!("[resource-drop]{name}"),
                    parameters: vec![WasmType::I32],
                    result: None,
                    answers: false,
                });
            }
        }
    }
    calls
}

fn core(of: WasmType) -> &'static str {
    match of {
        WasmType::I32 | WasmType::Pointer | WasmType::Length => "i32",
        WasmType::I64 | WasmType::PointerOrI64 => "i64",
        WasmType::F32 => "f32",
        WasmType::F64 => "f64",
    }
}

/// Reads its payload as a program.
///
/// A 32-bit argument is a byte for how it is written, modulo 8: 0, one byte that is its value; 1, what the last call
/// returned, often a handle; 2, two bytes that are an offset into the payload, so that texts can be in there; 3, four bytes
/// that are its value; 4 and 5, what lies four and twelve bytes into the last answer, where handles are; else what 0 is. A
/// 64-bit argument is one byte: if it is odd, a 32-bit argument follows, else two. Where an answer goes is one byte: 255, and
/// a 32-bit argument follows; else it goes to a place of its own.
fn module(calls: &[Call]) -> String {
    let (mut imports, mut runs, mut table) = (String::new(), String::new(), String::new());
    for (number, call) in calls.iter().enumerate() {
        let Call { interface, name, parameters, result, answers } = call;
        let types: String = parameters.iter().map(|of| format!(" {}", core(*of))).collect();
        let returned = result.map_or(String::new(), |of| format!("(result {})", core(of)));
        // Writing to a string can't fail.
        let _ = write!(
            imports,
            r#"(import "{interface}" "{name}" (func $call{number} (param{types}) {returned}))"#
        );
        let last = parameters.len().saturating_sub(1);
        let arguments: String = parameters
            .iter()
            .enumerate()
            .map(|(at, of)| {
                if *answers && at == last {
                    "(call $answer) ".to_owned()
                } else {
                    format!("(call ${}) ", core(*of))
                }
            })
            .collect();
        let call = format!("(call $call{number} {arguments})");
        let call = match result.map(core) {
            None => call,
            Some("i32") => format!("(global.set $handle {call})"),
            Some(_) => format!("(drop {call})"),
        };
        let _ = write!(runs, "(func $run{number} {call})");
        let _ = write!(table, " $run{number}");
    }
    let count = calls.len();
    format!(
        r#"(module {imports}
      (memory (export "memory") 4)
      (table funcref (elem{table}))
      (type $run (func))
      (global $top (mut i32) (i32.const 65536))
      (global $at (mut i32) (i32.const 0)) (global $start (mut i32) (i32.const 0)) (global $end (mut i32) (i32.const 0))
      (global $handle (mut i32) (i32.const 0))
      (func (export "cabi_realloc") (param $old i32) (param $old_len i32) (param $align i32) (param $len i32) (result i32)
        {BUMP})
      (func $byte (result i32)
        (if (i32.ge_u (global.get $at) (global.get $end)) (then (return (i32.const 0))))
        (global.set $at (i32.add (global.get $at) (i32.const 1)))
        (i32.load8_u (i32.sub (global.get $at) (i32.const 1))))
      (func $two (result i32) (i32.or (call $byte) (i32.shl (call $byte) (i32.const 8))))
      (func $i32 (result i32) (local $how i32)
        (local.set $how (i32.and (call $byte) (i32.const 7)))
        (if (i32.eq (local.get $how) (i32.const 1)) (then (return (global.get $handle))))
        (if (i32.eq (local.get $how) (i32.const 2)) (then (return (i32.add (global.get $start) (call $two)))))
        (if (i32.eq (local.get $how) (i32.const 3))
          (then (return (i32.or (call $two) (i32.shl (call $two) (i32.const 16))))))
        (if (i32.eq (local.get $how) (i32.const 4)) (then (return (i32.load (i32.const {SCRATCH_4})))))
        (if (i32.eq (local.get $how) (i32.const 5)) (then (return (i32.load (i32.const {SCRATCH_12})))))
        (call $byte))
      (func $i64 (result i64)
        (if (i32.and (call $byte) (i32.const 1)) (then (return (i64.extend_i32_u (call $i32)))))
        (i64.or (i64.extend_i32_u (call $i32)) (i64.shl (i64.extend_i32_u (call $i32)) (i64.const 32))))
      (func $f32 (result f32) (f32.reinterpret_i32 (call $i32)))
      (func $f64 (result f64) (f64.reinterpret_i64 (call $i64)))
      (func $answer (result i32)
        (if (i32.eq (call $byte) (i32.const 255)) (then (return (call $i32))))
        (i32.const {SCRATCH}))
      {runs}
      (func (export "handle")
        (param $id i32) (param $id_len i32) (param $kind i32) (param $kind_len i32)
        (param $payload i32) (param $payload_len i32) (result i32)
        (global.set $at (local.get $payload)) (global.set $start (local.get $payload))
        (global.set $end (i32.add (local.get $payload) (local.get $payload_len)))
        (block $over (loop $next
          (br_if $over (i32.ge_u (global.get $at) (global.get $end)))
          (call_indirect (type $run) (i32.rem_u (call $two) (i32.const {count})))
          (br $next)))
        (i32.const {RESULT})))"#
    )
}

/// Where handles are in an answer: behind what says that there is one, and in one that is three deep.
const SCRATCH_4: u32 = SCRATCH + 4;
const SCRATCH_12: u32 = SCRATCH + 12;

/// The guest, as a component.
fn interpreter() -> Vec<u8> {
    let (resolve, world) = world();
    let mut module = wat::parse_str(module(&calls(&resolve, world))).expect("a module");
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).expect("it has its types");
    let mut encoder = ComponentEncoder::default();
    encoder.validate(true).module(&module).expect("a module of this world");
    encoder.encode().expect("a component")
}

fn plugin() -> &'static Arc<Plugin> {
    static PLUGIN: OnceLock<Arc<Plugin>> = OnceLock::new();
    PLUGIN.get_or_init(|| bed().load(&interpreter()).expect("the interpreter is a handler"))
}

fn run(input: &[u8]) {
    let _report = bed().run(plugin(), input);
}

/// What is served and the guest doesn't import; nothing, unless something was left out.
#[must_use]
pub fn not_called() -> BTreeSet<String> {
    let unversioned = |name: &String| name.split('@').next().unwrap_or_default().to_owned();
    let called: BTreeSet<String> = plugin().imports().iter().map(unversioned).collect();
    sandhog_engine::served()
        .map(|(package, interface)| format!("{package}/{interface}"))
        .filter(|served| !called.contains(served))
        .collect()
}

#[derive(Clone, Copy)]
enum Argument {
    /// A small number.
    Small(u8),
    /// Where the text of the program is.
    Text,
    /// What the last call returned.
    Handle,
    /// The handle in the last answer.
    Answered,
    /// 64 bits.
    Wide(u8),
    /// Where the answer goes.
    Answer,
}

/// A call of a program: its name is `interface#function`, without package and version.
fn step(all: &[Call], name: &str, arguments: &[Argument], text_at: u16) -> Vec<u8> {
    let is_it = |call: &Call| {
        let interface = call.interface.split('@').next().unwrap_or_default();
        let interface = interface.rsplit('/').next().unwrap_or_default();
        name.split_once('#') == Some((interface, call.name.as_str()))
    };
    let number = all.iter().position(is_it).unwrap_or_else(|| panic!("nothing is called {name}"));
    let mut step = u16::try_from(number).expect("there are some hundred").to_le_bytes().to_vec();
    for argument in arguments {
        match argument {
            Argument::Small(value) => step.extend([0, *value]),
            Argument::Text => {
                step.push(2);
                step.extend(text_at.to_le_bytes());
            }
            Argument::Handle => step.push(1),
            Argument::Answered => step.push(4),
            Argument::Wide(value) => step.extend([1, 0, *value]),
            Argument::Answer => step.push(0),
        }
    }
    step
}

fn seeds() -> Vec<Vec<u8>> {
    use Argument::{Answer, Answered, Handle, Small, Text, Wide};
    let (resolve, world) = world();
    let all = calls(&resolve, world);
    let none = Small(0);
    // Its steps, and the text that they name, which lies behind them.
    let program = |steps: &[(&str, &[Argument])], text: &str| {
        let made = |at| {
            steps.iter().flat_map(|(name, arguments)| step(&all, name, arguments, at)).collect::<Vec<u8>>()
        };
        let length = u16::try_from(made(0).len()).expect("few steps");
        [made(length), text.as_bytes().to_vec()].concat()
    };
    let first_dir: &[(&str, &[Argument])] = &[("preopens#get-directories", &[Answer])];
    let mut seeds = vec![
        program(&[("log#write", &[Small(2), Text, Small(5), none, none])], "hello"),
        program(
            &[("state#get", &[Text, Small(4), Answer]), ("state#get", &[Text, Small(1), Answer])],
            "keys",
        ),
        program(&[("state#set", &[Text, Small(1), Text, Small(1), none, Wide(0), Answer])], "k"),
        program(
            &[
                ("state#increment", &[Text, Small(1), Wide(2), Answer]),
                ("state#delete", &[Text, Small(1), Answer]),
            ],
            "k",
        ),
        program(
            &[(
                "state#compare-and-set",
                &[Text, Small(4), none, none, none, Text, Small(1), none, Wide(0), Answer],
            )],
            "keys",
        ),
        program(&[("secrets#get", &[Text, Small(5), Answer])], "TOKEN"),
        program(&[("progress#report", &[Wide(1), Small(1), Wide(2), Small(1), Text, Small(2)])], "ok"),
        program(&[("context#stop-requested", &[Answer]), ("context#attempt-info", &[Answer])], ""),
        program(
            &[("random#get-random-bytes", &[Wide(32), Answer]), ("environment#get-environment", &[Answer])],
            "",
        ),
        program(
            &[
                ("monotonic-clock#subscribe-duration", &[Wide(1)]),
                ("poll#[method]pollable.block", &[Handle]),
                ("poll#[resource-drop]pollable", &[Handle]),
            ],
            "",
        ),
        program(
            &[
                ("stdout#get-stdout", &[]),
                ("streams#[method]output-stream.blocking-write-and-flush", &[Handle, Text, Small(5), Answer]),
            ],
            "hello",
        ),
        program(&[("exit#exit", &[Small(0)])], ""),
        program(&[("tcp-create-socket#create-tcp-socket", &[Small(0), Answer])], ""),
        // A request to where nobody listens.
        program(
            &[
                ("types#[constructor]fields", &[]),
                ("types#[method]fields.append", &[Handle, Text, Small(4), Text, Small(4), Answer]),
                ("types#[constructor]outgoing-request", &[Handle]),
                ("types#[method]outgoing-request.set-authority", &[Handle, Small(1), Text, Small(11)]),
                ("outgoing-handler#handle", &[Small(2), none, none, Answer]),
                ("types#[method]future-incoming-response.get", &[Answered, Answer]),
            ],
            "127.0.0.1:9",
        ),
    ];
    // The granted directory is the first handle that there is.
    for (name, arguments) in [
        ("types#[method]descriptor.read-directory", &[Small(1), Answer][..]),
        ("types#[method]descriptor.open-at", &[Small(1), none, Text, Small(4), Small(1), Small(3), Answer]),
        ("types#[method]descriptor.stat-at", &[Small(1), none, Text, Small(4), Answer]),
        ("types#[method]descriptor.create-directory-at", &[Small(1), Text, Small(4), Answer]),
        ("types#[method]descriptor.unlink-file-at", &[Small(1), Text, Small(4), Answer]),
    ] {
        seeds.push(program(&[first_dir, &[(name, arguments)]].concat(), "file"));
    }
    let opened = (
        "types#[method]descriptor.open-at",
        &[Small(1), none, Text, Small(4), Small(1), Small(3), Answer][..],
    );
    for (name, arguments) in [
        ("types#[method]descriptor.write", &[Answered, Text, Small(4), Wide(0), Answer][..]),
        ("types#[method]descriptor.read", &[Answered, Wide(4), Wide(0), Answer]),
        ("types#[method]descriptor.set-size", &[Answered, Wide(100), Answer]),
        ("types#[method]descriptor.write-via-stream", &[Answered, Wide(0), Answer]),
        ("types#[method]descriptor.read-via-stream", &[Answered, Wide(0), Answer]),
    ] {
        seeds.push(program(&[first_dir, &[opened, (name, arguments)]].concat(), "file"));
    }
    seeds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_function_of_every_interface_is_called() {
        let (resolve, world) = world();
        let all = calls(&resolve, world);
        let functions: usize = resolve.worlds[world]
            .imports
            .values()
            .filter_map(|item| {
                if let WorldItem::Interface { id, .. } = item { Some(&resolve.interfaces[*id]) } else { None }
            })
            .map(|interface| interface.functions.len())
            .sum();
        assert_eq!(all.iter().filter(|call| !call.name.starts_with("[resource-drop]")).count(), functions);
        assert!(functions > 150, "{functions}");
        assert_eq!(not_called(), BTreeSet::new());
    }
}
