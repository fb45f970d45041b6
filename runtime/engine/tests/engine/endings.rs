//! Every way a run can end by itself.

use std::time::Duration;

use sandhog_core::budget::Fuel;
use sandhog_core::id::{DownstreamName, FailureCode};
use sandhog_core::outcome::{Outcome, PutOff, Report};
use sandhog_core::settle::UNAVAILABLE_REST;
use sandhog_engine::Config;

use super::bed::{Bed, Mood, config, output};
use super::guests::{self, Guest, RESULT, SCRATCH};

#[tokio::test]
async fn a_result_is_returned_with_what_it_cost() {
    let bed = Bed::new();
    let report = bed.run(guests::echo()).await;
    assert_eq!(output(&report), b"payload");
    let usage = report.usage;
    assert!(usage.fuel > Fuel(0) && usage.fuel < Fuel(1000), "{usage:?}");
    assert_eq!((usage.memory_peak.0, usage.host_calls), (65536, 0));
    assert!(usage.cpu > Duration::ZERO && usage.wall >= usage.cpu, "{usage:?}");
}

#[tokio::test]
async fn the_same_run_costs_the_same_fuel() {
    let bed = Bed::new();
    let first = bed.run(guests::echo()).await;
    let second = bed.run(guests::echo()).await;
    assert_eq!(first.usage.fuel, second.usage.fuel);
}

#[tokio::test]
async fn a_failure_is_the_handlers_own() {
    let bed = Bed::new();
    let text = format!("(data (i32.const {SCRATCH}) \"no such picture\")");
    let fails = |which: i32, message: u32| {
        let [is_error, failure, address, length] =
            [RESULT, RESULT + 8, RESULT + message, RESULT + message + 4];
        format!(
            "(i32.store8 (i32.const {is_error}) (i32.const 1)) (i32.store8 (i32.const {failure}) (i32.const {which}))
             (i32.store (i32.const {address}) (i32.const {SCRATCH})) (i32.store (i32.const {length}) (i32.const 15))"
        )
    };
    let permanent = bed.run(data(Guest::that(&fails(1, 16)), &text)).await;
    let message = "no such picture".to_owned();
    assert_eq!(permanent.outcome, Outcome::FailedPermanently { message: message.clone() });

    let retry = format!(
        "{} (i32.store8 (i32.const {}) (i32.const 1)) (i64.store (i32.const {}) (i64.const 1500))",
        fails(0, 16),
        RESULT + 24,
        RESULT + 32
    );
    let transient = bed.run(data(Guest::that(&retry), &text)).await;
    let retry_after = Some(Duration::from_millis(1500));
    assert_eq!(transient.outcome, Outcome::FailedTransiently { message, code: None, retry_after });
}

/// A handler of version 0.2.0 of the contract that ends with the failure of this number, after these further stores.
fn fails_with(which: u32, more: &str) -> Guest {
    let [is_error, failure] = [RESULT, RESULT + 8];
    let body = format!(
        "(i32.store8 (i32.const {is_error}) (i32.const 1)) (i32.store8 (i32.const {failure}) (i32.const {which})) {more}"
    );
    Guest { types: guests::TYPES_0_2, ..Guest::that(&body) }
}

#[tokio::test]
async fn a_handler_puts_its_job_off() {
    let bed = Bed::new();
    let after = Duration::from_millis(1500);
    // Where the time stands: by itself, behind an optional name, behind a name and whether it is there.
    let time = |offset| format!("(i64.store (i32.const {}) (i64.const 1500))", RESULT + offset);
    for (which, why, body) in [
        (2, PutOff::Snoozed, time(16)),
        (3, PutOff::RateLimited(None), time(32)),
        (
            3,
            PutOff::RateLimited(named("stripe")),
            format!("{} {} {}", flag(16), name(20, "stripe"), time(32)),
        ),
        (
            4,
            PutOff::Unavailable(named("stripe")),
            format!("{} {} {}", name(16, "stripe"), flag(24), time(32)),
        ),
        (4, PutOff::Unavailable(None), format!("{} {} {}", name(16, "no name!"), flag(24), time(32))),
    ] {
        let guest = fails_with(which, &body);
        assert_eq!(bed.run(guest.text()).await.outcome, Outcome::PutOff { why, after });
    }
    let guest = fails_with(4, &name(16, "stripe"));
    let rest = Outcome::PutOff { why: PutOff::Unavailable(named("stripe")), after: UNAVAILABLE_REST };
    assert_eq!(bed.run(guest.text()).await.outcome, rest);
}

fn named(text: &str) -> Option<DownstreamName> {
    Some(DownstreamName::parse(text).expect("a valid name"))
}

/// Sets a flag so far behind the result.
fn flag(offset: u32) -> String {
    format!("(i32.store8 (i32.const {}) (i32.const 1))", RESULT + offset)
}

/// Stores a text so far behind the result.
fn name(offset: u32, text: &str) -> String {
    let bytes = text.bytes().enumerate();
    let bytes = bytes
        .map(|(n, byte)| format!("(i32.store8 (i32.const {}) (i32.const {byte}))", SCRATCH as usize + n));
    let (at, length) = (RESULT + offset, text.len());
    format!(
        "{} (i32.store (i32.const {at}) (i32.const {SCRATCH})) (i32.store (i32.const {}) (i32.const {length}))",
        bytes.collect::<String>(),
        at + 4
    )
}

#[tokio::test]
async fn a_failure_has_the_code_that_its_handler_gave_it_if_that_is_one() {
    for (code, is_valid) in [("smtp-421", true), ("SMTP 421", false), ("", false)] {
        let bed = Bed::new();
        let more = format!(
            "(i32.store8 (i32.const {}) (i32.const 1)) (i32.store (i32.const {}) (i32.const {SCRATCH}))
             (i32.store (i32.const {}) (i32.const {}))",
            RESULT + 24,
            RESULT + 28,
            RESULT + 32,
            code.len()
        );
        let text = format!("(data (i32.const {SCRATCH}) \"{code}\")");
        let report = bed.run(data(fails_with(0, &more), &text)).await;
        let expected = is_valid.then(|| FailureCode::parse(code).expect("valid"));
        let message = String::new();
        let outcome = Outcome::FailedTransiently { message, code: expected, retry_after: None };
        assert_eq!(report.outcome, outcome);
        let told = bed.host.lines().iter().any(|(_, line)| line.contains("not a valid failure code"));
        assert_eq!(told, !is_valid, "{code:?}");
    }
}

fn data(guest: Guest, text: &str) -> String {
    guest.with_fields(text).text()
}

/// Where a trap was in the source needs debug information, of which the component's author decides how much it is: it is read
/// only where that was asked for.
#[tokio::test]
async fn a_backtrace_has_files_and_lines_if_the_engine_is_to_read_them() {
    let wasm = include_bytes!("../../../../tests/fixtures/debug-info.wasm").to_vec();
    let place = "check (0x1f8)\n";
    for backtrace_lines in [false, true] {
        let bed = Bed::with(Config { backtrace_lines, ..config() });
        let report = bed.run(wasm.clone()).await;
        let Outcome::Trapped { message } = &report.outcome else { panic!("{:?}", report.outcome) };
        let lines = ["\n    at ./debug-info.c:6:9\n", "\n    at ./debug-info.c:10:5\n"];
        assert!(message.contains(place), "{message}");
        assert_eq!(lines.map(|line| message.contains(line)), [backtrace_lines; 2], "{message}");
    }
}

#[tokio::test]
async fn a_trap_says_what_and_where() {
    let bed = Bed::new();
    let report = bed.run(Guest::that("(call $deep)").with_fields("(func $deep unreachable)").text()).await;
    let Outcome::Trapped { message } = &report.outcome else { panic!("{:?}", report.outcome) };
    assert!(message.contains("unreachable"), "{message}");
    assert!(message.contains("deep") && message.contains("handle"), "{message}");
    bed.still_works().await;
}

#[tokio::test]
async fn a_trap_in_the_start_function_is_a_trap() {
    let bed = Bed::new();
    let report =
        bed.run(Guest::default().with_fields("(func $start unreachable) (start $start)").text()).await;
    assert!(matches!(report.outcome, Outcome::Trapped { .. }), "{:?}", report.outcome);
    bed.still_works().await;
}

#[tokio::test]
async fn a_result_outside_of_memory_is_a_trap() {
    let bed = Bed::new();
    let guest = Guest { handle: "i32.const -8".to_owned(), ..Guest::default() };
    let report = bed.run(guest.text()).await;
    assert!(matches!(report.outcome, Outcome::Trapped { .. }), "{:?}", report.outcome);
    bed.still_works().await;
}

#[tokio::test]
async fn leaving_without_a_result_is_a_trap() {
    let bed = Bed::new();
    let report = bed.run(Guest::that("(call $exit (i32.const 0))").importing(&guests::exit()).text()).await;
    let Outcome::Trapped { message } = &report.outcome else { panic!("{:?}", report.outcome) };
    assert!(message.starts_with("exited with status 0 instead of returning"), "{message}");
}

#[tokio::test]
async fn a_panic_of_the_host_ends_that_run_alone() {
    let bed = Bed::new();
    bed.host.set_mood(Mood::Panics);
    let asks = format!("(call $get (i32.const {SCRATCH}) (i32.const 1) (i32.const {RESULT}))");
    let guest = Guest::that(&asks).importing(&guests::state_get());
    let text = format!("(data (i32.const {SCRATCH}) \"k\")");
    let report = bed.run(data(guest, &text)).await;
    let Outcome::HostFault { message } = &report.outcome else { panic!("{:?}", report.outcome) };
    assert_eq!(message, "panicked: the host lost its temper");
    assert_billed(&report);
    bed.still_works().await;
}

/// The beginning of a line stays in the log until the end of the run.
#[tokio::test]
async fn a_panic_of_the_host_once_the_guest_has_ended_is_no_free_run() {
    let bed = Bed::new();
    let [streams, stdout] = guests::stdout();
    let prints = "(call $print (call $out) (i32.const 4096) (i32.const 10) (i32.const 64))";
    let guest = Guest::that(prints).importing(&streams).importing(&stdout);
    bed.host.set_mood(Mood::PanicsAtLines);
    let report = bed.run(guest.text()).await;
    bed.host.set_mood(Mood::Answers);
    let Outcome::HostFault { message } = &report.outcome else { panic!("{:?}", report.outcome) };
    assert!(message.contains("the host lost its temper"), "{message}");
    assert_billed(&report);
    bed.still_works().await;
}

/// Holds that what a run used is on its bill, of each thing.
fn assert_billed(report: &Report) {
    let usage = report.usage;
    assert!(usage.fuel > Fuel(0) && usage.memory_peak.0 > 0 && usage.host_calls > 0, "{usage:?}");
    assert!(usage.cpu > Duration::ZERO && usage.wall > Duration::ZERO, "{usage:?}");
}

#[tokio::test]
async fn a_run_that_finds_no_instance_free_is_the_hosts_fault() {
    let mut config = super::bed::config();
    config.instances = std::num::NonZeroU32::MIN;
    let bed = Bed::with(config);
    bed.host.set_mood(Mood::Silent);
    let asks = format!("(call $get (i32.const {SCRATCH}) (i32.const 1) (i32.const {RESULT}))");
    let text = format!("(data (i32.const {SCRATCH}) \"k\")");
    let holds = bed.load(data(Guest::that(&asks).importing(&guests::state_get()), &text));
    let abort = sandhog_engine::Abort::new();
    let first = bed.start(&holds, super::bed::budget(), abort.clone());
    let second = async {
        bed.host.heard.notified().await;
        let report = bed.run(guests::idle()).await;
        abort.stop(sandhog_core::outcome::StopReason::Drained);
        report
    };
    let (_, report) = tokio::join!(first, second);
    let Outcome::HostFault { message } = &report.outcome else { panic!("{:?}", report.outcome) };
    assert!(message.contains("engine.concurrency"), "{message}");
    bed.still_works().await;
}

#[tokio::test]
async fn memory_and_globals_are_fresh_in_every_run() {
    let bed = Bed::new();
    // Returns as many bytes as it has run before.
    let counts = format!(
        "(i32.store (i32.const {}) (i32.add (global.get $ran) (i32.load (i32.const {SCRATCH}))))
         (global.set $ran (i32.add (global.get $ran) (i32.const 1)))
         (i32.store (i32.const {SCRATCH}) (i32.const 7))",
        RESULT + 12
    );
    let plugin = bed.load(Guest::that(&counts).with_fields("(global $ran (mut i32) (i32.const 0))").text());
    for _ in 0..20 {
        let report = bed.start(&plugin, super::bed::budget(), sandhog_engine::Abort::new()).await;
        assert_eq!(output(&report), b"");
    }
}

#[tokio::test]
async fn a_component_of_components_works_and_counts_all_their_memories() {
    let bed = Bed::new();
    let guest = Guest {
        component: r#"(import "length" (func $length_f (param "text" string) (result u32)))
          (core func $length_c (canon lower (func $length_f)
            (memory (core memory $libc "memory")) (realloc (core func $libc "realloc"))))
          (core instance $length (export "length" (func $length_c)))"#
            .to_owned(),
        with: r#"(with "length" (instance $length))"#.to_owned(),
        module: r#"(import "length" "length" (func $length (param i32 i32) (result i32)))"#.to_owned(),
        ..Guest::that(&format!(
            "(i32.store (i32.const {}) (call $length (i32.const {SCRATCH}) (i32.const 5)))",
            RESULT + 12
        ))
    };
    let both = format!(
        r#"(component
          {}
          (component $other
            (core module $m
              (memory (export "memory") 2)
              (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
              (func (export "length") (param i32 i32) (result i32) (local.get 1)))
            (core instance $i (instantiate $m))
            (func (export "length") (param "text" string) (result u32)
              (canon lift (core func $i "length") (memory (core memory $i "memory"))
                (realloc (core func $i "realloc")))))
          {}
          (instance $other_i (instantiate $other))
          (alias export $other_i "length" (func $length))
          (instance $guest_i (instantiate $guest
            (with "sandhog:job/types@0.1.0" (instance $types)) (with "length" (func $length))))
          (alias export $guest_i "handle" (func $handle))
          (export "handle" (func $handle)))"#,
        guests::TYPES,
        guest.text().replacen("(component", "(component $guest", 1)
    );
    let report = bed.run(both).await;
    assert_eq!(output(&report).len(), 5);
    assert_eq!(report.usage.memory_peak.0, 3 * 65536);
}
