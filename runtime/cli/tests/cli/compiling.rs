//! Components that are made to break a compiler: it is a process of its own that breaks, and nothing else notices.

use std::time::Duration;

use sandhog_core::budget::Bytes;
use sandhog_core::compile::CompileBudget;
use sandhog_core::id::{PluginName, TenantId};
use sandhog_engine::{COMPILE, Compiler, Config, Engine, Error, Grants, LoadSpec};
use sandhog_guests::ECHO;

use crate::site::{Site, component};

/// A component of so many functions that compiling them takes many seconds.
fn long() -> String {
    let add = "(local.set 0 (i32.add (i32.mul (local.get 0) (local.get 1)) (i32.const 7)))\n";
    let body = add.repeat(100);
    let functions = (0..3_000).map(|_| format!("(func (param i32 i32) (result i32) {body} local.get 0)\n"));
    format!("(component (core module {}))", functions.collect::<String>())
}

/// A component with one function so large that a compiler needs hundreds of MiB to think about it.
fn large() -> String {
    let step = "(if (local.get 0) (then (local.set 1 (i32.add (local.get 1) (local.get 0)))))\n";
    let body = step.repeat(150_000);
    format!("(component (core module (func (param i32 i32) {body})))")
}

fn budget() -> CompileBudget {
    CompileBudget::default()
}

fn spec(wasm: String, compile: CompileBudget) -> LoadSpec {
    LoadSpec {
        name: PluginName::parse("bomb").expect("a name"),
        tenant: TenantId::parse("acme").expect("a name"),
        wasm: wasm.into_bytes(),
        compile,
        grants: Grants::default(),
    }
}

/// An engine that compiles as a daemon does, and keeps nothing.
fn engine() -> Engine {
    let compiler =
        Compiler::Child { program: env!("CARGO_BIN_EXE_sandhog").into(), arguments: vec![COMPILE.into()] };
    Engine::new(Config { compiler, instances: std::num::NonZeroU32::MIN, ..Config::default() })
        .expect("there is room for one")
}

/// The memory that this process has had at most.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("it runs");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
}

#[tokio::test]
async fn one_that_takes_too_long_is_given_up_and_the_next_one_loads() {
    let engine = engine();
    let time = Duration::from_millis(200);
    let refused = engine.load(spec(long(), CompileBudget { time, ..budget() })).expect_err("it takes longer");
    assert!(matches!(refused, Error::CompileTime { max, .. } if max == time), "{refused}");
    assert!(refused.to_string().contains("raise limits.compile_time"), "{refused}");
    engine.load(spec(component(ECHO), budget())).expect("the next one is not held up");
}

#[tokio::test]
async fn one_that_takes_too_much_memory_is_given_up_and_takes_none_of_ours() {
    let engine = engine();
    let memory = Bytes::mib(64);
    let bomb = spec(large(), CompileBudget { memory, ..budget() });
    let before = peak();
    let refused = engine.load(bomb).expect_err("it takes more");
    assert!(matches!(refused, Error::CompileMemory { max, .. } if max == memory), "{refused}");
    assert!(refused.to_string().contains("raise limits.compile_memory"), "{refused}");
    assert!(peak() - before < memory.0, "the memory is the compiler's, and not ours");
    engine.load(spec(component(ECHO), budget())).expect("the next one is not held up");
}

#[tokio::test]
async fn what_a_child_refuses_is_refused_in_the_words_of_the_compiler() {
    let engine = engine();
    for (wasm, says) in
        [("(component", "a component that can't be compiled: "), ("\0asm?", "not a component: ")]
    {
        let refused = engine.load(spec(wasm.to_owned(), budget())).expect_err("it is none").to_string();
        assert!(refused.starts_with(&format!("plugin acme/bomb: {says}")), "{refused}");
    }
}

#[test]
fn limits_of_the_configuration_hold_by_plugin_and_name_the_knob() {
    let site = Site::new();
    site.write(
        "sandhog.toml",
        "[limits]\ncompile_time = \"1m\"\n[tenants.acme.limits]\ncompile_memory = \"1GiB\"\n",
    );
    site.write("plugins.d/long.wasm", &long());
    let plugin = |name: &str, limits: &str| {
        let head = format!("[plugin]\nname = \"{name}\"\ntenant = \"acme\"\ncomponent = \"long.wasm\"\n");
        site.write(
            &format!("plugins.d/{name}.toml"),
            &format!("{head}kinds = [\"{name}\"]\n[limits]\n{limits}\n"),
        );
    };
    plugin("slow", "compile_time = \"100ms\"");
    plugin("fat", "component = \"100KiB\"");
    let said = site.run(&["check", "--offline"]);
    said.fails(
        1,
        &[
            "plugin acme/slow: compiling the component took longer than 100ms; raise limits.compile_time",
            "plugin acme/fat: a component of",
            "is larger than 100KiB; raise limits.component",
            "2 plugins can't be loaded",
        ],
    );
    plugin("slow", "compile_time = \"2m\"");
    site.run(&["check", "--offline"])
        .fails(64, &["2m is more than is allowed", "limits.compile_time in sandhog.toml"]);
}

#[test]
fn the_process_that_compiles_is_nothing_for_people() {
    Site::empty().run(&[COMPILE]).fails(3, &["for the daemon's own use"]);
}
