//! Each limit, held against a guest that does its best to break it.

use std::time::Duration;

use sandhog_core::budget::{Budget, Bytes, Fuel};
use sandhog_core::job::Level;
use sandhog_core::outcome::{Limit, Outcome, Report, StopReason};
use sandhog_engine::{Abort, Share};

use super::bed::{Bed, Mood, budget, limit, output, share};
use super::guests::{self, Guest, RESULT, SCRATCH};

const ENDLESS_FUEL: Fuel = Fuel(u64::MAX);

/// Touches every page that it gets, and traps when it gets no more, as allocators do.
const ALLOCATES: &str = "(loop $more
    (if (i32.eq (memory.grow (i32.const 16)) (i32.const -1)) (then unreachable))
    (i32.store (i32.sub (i32.mul (memory.size) (i32.const 65536)) (i32.const 4)) (i32.const 1))
    br $more)";

#[tokio::test]
async fn a_loop_without_end_runs_out_of_fuel() {
    let bed = Bed::new();
    let report = bed.run_within(guests::spin(), super::bed::budget()).await;
    assert_eq!(limit(&report), Some(Limit::Fuel));
    assert_eq!(report.usage.fuel, budget().fuel);
    let Outcome::Exceeded { message, .. } = &report.outcome else { panic!("{:?}", report.outcome) };
    assert_eq!(message, "out of fuel after 1000000000 units; raise limits.fuel");
    bed.still_works().await;
}

#[tokio::test]
async fn a_start_function_without_end_runs_out_of_fuel() {
    let bed = Bed::new();
    let guest = Guest::default().with_fields("(func $start (loop $for_ever br $for_ever)) (start $start)");
    assert_eq!(limit(&bed.run(guest.text()).await), Some(Limit::Fuel));
    bed.still_works().await;
}

#[tokio::test]
async fn with_fuel_to_spare_time_is_the_limit() {
    let bed = Bed::new();
    let short = Budget { fuel: ENDLESS_FUEL, timeout: Duration::from_millis(50), ..budget() };
    let report = bed.run_within(guests::spin(), short).await;
    assert_eq!(limit(&report), Some(Limit::Time));
    assert!(report.usage.fuel > Fuel(0), "what was computed is billed: {:?}", report.usage);
    let starting = Guest::default().with_fields("(func $start (loop $for_ever br $for_ever)) (start $start)");
    assert_eq!(limit(&bed.run_within(starting.text(), short).await), Some(Limit::Time));
    bed.still_works().await;
}

#[tokio::test]
async fn filling_memory_in_one_instruction_is_no_way_around_fuel_or_time() {
    let bed = Bed::new();
    let fills = "(drop (memory.grow (i32.const 200)))
        (loop $again (memory.fill (i32.const 4096) (i32.const 1) (i32.const 13000000)) br $again)";
    let report = bed.run(Guest::that(fills).text()).await;
    assert_eq!(limit(&report), Some(Limit::Fuel));
    let short = Budget { fuel: ENDLESS_FUEL, timeout: Duration::from_millis(50), ..budget() };
    assert_eq!(limit(&bed.run_within(Guest::that(fills).text(), short).await), Some(Limit::Time));
    bed.still_works().await;
}

#[tokio::test]
async fn allocating_without_end_runs_out_of_memory() {
    let bed = Bed::new();
    let report = bed.run(Guest::that(ALLOCATES).text()).await;
    assert_eq!(limit(&report), Some(Limit::Memory));
    assert!(report.usage.memory_peak > Bytes::mib(14) && report.usage.memory_peak <= budget().memory);
    bed.still_works().await;
}

#[tokio::test]
async fn a_refused_growth_that_the_handler_copes_with_is_no_failure() {
    let bed = Bed::new();
    let report = bed.run(Guest::that("(drop (memory.grow (i32.const 1000)))").text()).await;
    assert_eq!(output(&report), b"");
}

#[tokio::test]
async fn a_memory_that_starts_too_large_is_out_of_memory() {
    let bed = Bed::new();
    let guest = Guest { memory: "300", ..Guest::default() };
    assert_eq!(limit(&bed.run(guest.text()).await), Some(Limit::Memory));
    bed.still_works().await;
}

#[tokio::test]
async fn two_memories_have_one_limit_together() {
    let bed = Bed::new();
    // Either alone has room for its 160 pages; both together haven't.
    let grow = |pages: u32| {
        Guest {
            component: r#"(core module $more (memory 0)
                (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0))))
              (core instance $more (instantiate $more))"#
                .to_owned(),
            with: r#"(with "more" (instance $more))"#.to_owned(),
            module: r#"(import "more" "grow" (func $grow (param i32) (result i32)))"#.to_owned(),
            ..Guest::that(&format!(
                "(if (i32.eq (memory.grow (i32.const {pages})) (i32.const -1)) (then unreachable))
                 (if (i32.eq (call $grow (i32.const {pages})) (i32.const -1)) (then unreachable))"
            ))
        }
        .text()
    };
    assert_eq!(limit(&bed.run(grow(160)).await), Some(Limit::Memory));
    let fits = bed.run(grow(100)).await;
    assert_eq!(fits.usage.memory_peak, Bytes::kib(64 * 201));
    assert_eq!(output(&fits), b"");
}

#[tokio::test]
async fn memories_of_one_module_have_one_limit_together_too() {
    let bed = Bed::new();
    let more = "(memory $b 1) (memory $c 1)";
    let grows = "(loop $more
        (if (i32.eq (memory.grow $b (i32.const 8)) (i32.const -1)) (then unreachable))
        (if (i32.eq (memory.grow $c (i32.const 8)) (i32.const -1)) (then unreachable))
        br $more)";
    let report = bed.run(Guest::that(grows).with_fields(more).text()).await;
    assert_eq!(limit(&report), Some(Limit::Memory));
    assert!(report.usage.memory_peak <= budget().memory);
}

#[tokio::test]
async fn growing_a_table_without_end_runs_out_of_table() {
    let bed = Bed::new();
    let grows = "(loop $more
        (if (i32.eq (table.grow $t (ref.null func) (i32.const 100)) (i32.const -1)) (then unreachable))
        br $more)";
    let report = bed.run(Guest::that(grows).with_fields("(table $t 0 funcref)").text()).await;
    assert_eq!(limit(&report), Some(Limit::Table));
    bed.still_works().await;
}

#[tokio::test]
async fn recursing_without_end_runs_out_of_stack() {
    let bed = Bed::new();
    let dives = "(func $dive (param i32) (result i32) (i32.add (call $dive (local.get 0)) (i32.const 1)))";
    let report = bed.run(Guest::that("(drop (call $dive (i32.const 0)))").with_fields(dives).text()).await;
    assert_eq!(limit(&report), Some(Limit::Stack));
    bed.still_works().await;
}

fn returns(bytes: u32) -> String {
    let [address, length] = [RESULT + 8, RESULT + 12];
    Guest::that(&format!(
        "(i32.store (i32.const {address}) (i32.const 4096)) (i32.store (i32.const {length}) (i32.const {bytes}))
         (drop (memory.grow (i32.const 100)))"
    ))
    .text()
}

#[tokio::test]
async fn an_output_has_its_limit() {
    let bed = Bed::new();
    assert_eq!(output(&bed.run(returns(65536)).await).len(), 65536);
    assert_eq!(limit(&bed.run(returns(65537)).await), Some(Limit::Output));
    // So large that the host doesn't even take it over.
    assert_eq!(limit(&bed.run(returns(5_000_000)).await), Some(Limit::Output));
    bed.still_works().await;
}

#[tokio::test]
async fn logging_past_the_limit_drops_lines_and_says_so() {
    let bed = Bed::new();
    let logs = "(local $n i32) (loop $more
        (call $log (i32.const 2) (i32.const 4096) (i32.const 1000) (i32.const 0) (i32.const 0))
        (local.set $n (i32.add (local.get $n) (i32.const 1)))
        (br_if $more (i32.lt_u (local.get $n) (i32.const 20))))";
    let report = bed.run(Guest::that(logs).importing(&guests::log()).text()).await;
    assert_eq!(output(&report), b"");
    let lines = bed.host.lines();
    assert_eq!(lines.len(), 16);
    let last = (Level::Warn, "5 more log lines were dropped, past 16KiB; raise limits.log".to_owned());
    assert_eq!(lines[15], last);
}

#[tokio::test]
async fn logging_without_end_ends() {
    let bed = Bed::new();
    let logs = "(loop $more
        (call $log (i32.const 2) (i32.const 4096) (i32.const 100) (i32.const 0) (i32.const 0)) br $more)";
    let report = bed.run(Guest::that(logs).importing(&guests::log()).text()).await;
    assert_eq!(limit(&report), Some(Limit::Log));
    bed.still_works().await;
}

#[tokio::test]
async fn printing_without_end_ends() {
    let bed = Bed::new();
    let [streams, stdout] = guests::stdout();
    let prints = "(local $out i32) (local.set $out (call $out)) (loop $more
        (call $print (local.get $out) (i32.const 4096) (i32.const 4096) (i32.const 64)) br $more)";
    let guest = Guest::that(prints).importing(&streams).importing(&stdout);
    assert_eq!(limit(&bed.run(guest.text()).await), Some(Limit::Log));
    bed.still_works().await;
}

#[tokio::test]
async fn effects_have_their_limit() {
    let bed = Bed::new();
    // Under ever new keys of four bytes.
    let writes = format!(
        "(loop $more
          (i32.store8 (i32.const {SCRATCH}) (i32.add (i32.const 65) (i32.and (global.get $n) (i32.const 31))))
          (i32.store8 (i32.const {}) (i32.add (i32.const 65) (i32.shr_u (global.get $n) (i32.const 5))))
          (global.set $n (i32.add (global.get $n) (i32.const 1)))
          (call $set (i32.const {SCRATCH}) (i32.const 2) (i32.const 4096) (i32.const 1000)
            (i32.const 0) (i64.const 0) (i32.const 2048))
          br $more)",
        SCRATCH + 1
    );
    let guest = Guest::that(&writes).importing(&guests::state_set());
    let report = bed.run(guest.with_fields("(global $n (mut i32) (i32.const 0))").text()).await;
    assert_eq!(limit(&report), Some(Limit::Effects));
    bed.still_works().await;
}

#[tokio::test]
async fn calling_the_host_without_end_runs_out_of_fuel() {
    let bed = Bed::new();
    let little = Budget { fuel: Fuel(10_000_000), ..budget() };
    let ours = Guest::that(
        "(loop $more
           (call $report (i64.const 1) (i32.const 0) (i64.const 0) (i32.const 0) (i32.const 0) (i32.const 0))
           br $more)",
    );
    let report = bed.run_within(ours.importing(&guests::progress()).text(), little).await;
    assert_eq!(limit(&report), Some(Limit::Fuel));
    assert!(report.usage.host_calls < 50_000, "{:?}", report.usage);

    let wasi = Guest::that("(loop $more (drop (call $now)) br $more)").importing(&guests::clock());
    let report = bed.run_within(wasi.text(), little).await;
    assert_eq!(limit(&report), Some(Limit::Fuel));
    bed.still_works().await;
}

#[tokio::test]
async fn a_text_that_repeats_itself_is_no_way_to_fill_the_hosts_memory() {
    let bed = Bed::new();
    // 10,000 fields, each the same 64 KiB: a hundred thousand times what the guest has in its memory.
    let fills = "(local $n i32) (drop (memory.grow (i32.const 16))) (loop $more
        (i32.store (i32.add (i32.const 131072) (i32.mul (local.get $n) (i32.const 16))) (i32.const 0))
        (i32.store (i32.add (i32.const 131076) (i32.mul (local.get $n) (i32.const 16))) (i32.const 65536))
        (local.set $n (i32.add (local.get $n) (i32.const 1)))
        (br_if $more (i32.lt_u (local.get $n) (i32.const 10000))))
        (call $log (i32.const 2) (i32.const 0) (i32.const 0) (i32.const 131072) (i32.const 10000))";
    let report = bed.run(Guest::that(fills).importing(&guests::log()).text()).await;
    assert!(matches!(report.outcome, Outcome::Trapped { .. }), "{:?}", report.outcome);
    bed.still_works().await;
}

#[tokio::test]
async fn random_bytes_come_in_bounded_portions() {
    let bed = Bed::new();
    let guest = Guest::that("(call $random (i64.const -1) (i32.const 64))").importing(&guests::random());
    let report = bed.run(guest.text()).await;
    assert!(matches!(report.outcome, Outcome::Trapped { .. }), "{:?}", report.outcome);
    bed.still_works().await;
}

#[tokio::test]
async fn handles_have_their_limit() {
    let bed = Bed::new();
    let [streams, stdout] = guests::stdout();
    let guest =
        Guest::that("(loop $more (drop (call $out)) br $more)").importing(&streams).importing(&stdout);
    for (http_bytes, handles) in [(Bytes(0), 1024), (Bytes::mib(4), 2048)] {
        let report = bed.run_within(guest.text(), Budget { http_bytes, ..budget() }).await;
        let Outcome::Trapped { message } = &report.outcome else { panic!("{:?}", report.outcome) };
        assert!(message.starts_with(&format!("it holds {handles} handles")), "{message}");
        assert!(report.usage.host_calls < handles + 10, "{:?}", report.usage);
    }
    // Who holds all that it may can still use them, until it wants one more.
    let holds = "(local $n i32) (local $stream i32)
        (loop $more
          (local.set $stream (call $out))
          (local.set $n (i32.add (local.get $n) (i32.const 1)))
          (br_if $more (i32.lt_u (local.get $n) (i32.const 1024))))
        (call $print (local.get $stream) (i32.const 0) (i32.const 0) (i32.const 128))";
    for (then, trapped) in [("", false), ("(drop (call $out))", true)] {
        let guest = Guest::that(&format!("{holds} {then}")).importing(&streams).importing(&stdout);
        let report = bed.run_within(guest.text(), Budget { http_bytes: Bytes(0), ..budget() }).await;
        match report.outcome {
            Outcome::Returned { .. } => assert!(!trapped),
            Outcome::Trapped { message } => {
                assert!(trapped && message.starts_with("it holds 1024 handles"), "{message}");
            }
            other => panic!("{other:?}"),
        }
    }
    bed.still_works().await;
}

/// The message of a limit that was hit.
fn message(report: &Report) -> &str {
    match &report.outcome {
        Outcome::Exceeded { message, .. } => message,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_component_of_too_many_core_instances_is_not_run() {
    let bed = Bed::new();
    // Its own two, and three more.
    let more = "(core module $more) (core instance (instantiate $more)) (core instance (instantiate $more))
        (core instance (instantiate $more))";
    let guest = Guest { component: more.to_owned(), ..Guest::default() };
    let fits = bed.run_within(guest.text(), Budget { instances: 5, ..budget() }).await;
    assert_eq!(output(&fits), b"");
    let report = bed.run_within(guest.text(), Budget { instances: 4, ..budget() }).await;
    assert_eq!(limit(&report), Some(Limit::Instances));
    assert_eq!(message(&report), "made of more than 4 core instances; raise limits.instances");
    bed.still_works().await;
}

#[tokio::test]
async fn calling_the_host_too_often_in_a_second_ends_the_run() {
    let bed = Bed::new();
    let few = Budget { fuel: ENDLESS_FUEL, host_calls: 1000, ..budget() };
    let ours = "(loop $more
        (call $report (i64.const 1) (i32.const 0) (i64.const 0) (i32.const 0) (i32.const 0) (i32.const 0))
        br $more)";
    let report = bed.run_within(Guest::that(ours).importing(&guests::progress()).text(), few).await;
    assert_eq!(limit(&report), Some(Limit::HostCalls));
    assert_eq!(message(&report), "more than 1000 host calls in a second; raise limits.host_calls");

    let wasi = Guest::that("(loop $more (drop (call $now)) br $more)").importing(&guests::clock());
    assert_eq!(limit(&bed.run_within(wasi.text(), few).await), Some(Limit::HostCalls));

    // Over before anybody looks at it, and yet over.
    let calls = "(drop (call $now)) (drop (call $now))";
    let returns = Guest::that(calls).importing(&guests::clock()).text();
    let report = bed.run_within(&*returns, Budget { host_calls: 1, ..budget() }).await;
    assert_eq!(limit(&report), Some(Limit::HostCalls));
    assert_eq!(output(&bed.run_within(returns, Budget { host_calls: 2, ..budget() }).await), b"");
    bed.still_works().await;
}

/// Enqueues jobs until it is refused one, and then does this.
fn enqueues(then: &str) -> String {
    let body = format!(
        r#"(loop $more
          (call $enqueue (i32.const 4096) (i32.const 4) (i32.const 0) (i32.const 0)
            (i32.const 0) (i32.const 0) (i32.const 0) (i64.const 0) (i32.const 100)
            (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 2048))
          (br_if $more (i32.eqz (i32.load8_u (i32.const 2048)))))
        {then}"#
    );
    let guest = Guest::that(&body).importing(&guests::enqueue());
    guest.with_fields(r#"(data (i32.const 4096) "test")"#).text()
}

#[tokio::test]
async fn so_many_jobs_can_be_enqueued_and_the_next_is_refused() {
    let bed = Bed::new();
    let three = Budget { enqueues: 3, ..budget() };
    let report = bed.run_within(enqueues(""), three).await;
    let Outcome::Returned { effects, .. } = &report.outcome else { panic!("{:?}", report.outcome) };
    assert_eq!(effects.jobs().len(), 3, "a handler that copes keeps what it has enqueued");
    let report = bed.run_within(enqueues("unreachable"), three).await;
    assert_eq!(limit(&report), Some(Limit::Enqueues));
    assert_eq!(message(&report), "enqueued more than 3 jobs; raise limits.enqueues");
    // Whoever is told and gives up has hit the limit, too, rather than failed in a way that may go away.
    let gives_up = format!("(i32.store8 (i32.const {RESULT}) (i32.const 1))");
    assert_eq!(limit(&bed.run_within(enqueues(&gives_up), three).await), Some(Limit::Enqueues));
    assert_eq!(limit(&bed.run_within(enqueues("unreachable"), budget()).await), Some(Limit::Enqueues));
    bed.still_works().await;
}

#[tokio::test]
async fn so_many_keys_can_be_written_and_the_next_is_refused() {
    let bed = Bed::new();
    // Each key twice, which counts once.
    let set = format!(
        "(call $set (i32.const {SCRATCH}) (i32.const 1) (i32.const 0) (i32.const 0)
          (i32.const 0) (i64.const 0) (i32.const 2048))
        (if (i32.load8_u (i32.const 2048)) (then unreachable))"
    );
    let writes = |keys: u32| {
        let body = format!(
            "(local $n i32) (loop $more
              (i32.store8 (i32.const {SCRATCH}) (i32.add (i32.const 65) (local.get $n)))
              {set} {set}
              (local.set $n (i32.add (local.get $n) (i32.const 1)))
              (br_if $more (i32.lt_u (local.get $n) (i32.const {keys}))))"
        );
        Guest::that(&body).importing(&guests::state_set()).text()
    };
    let five = Budget { state_writes: 5, ..budget() };
    let report = bed.run_within(writes(5), five).await;
    let Outcome::Returned { effects, .. } = &report.outcome else { panic!("{:?}", report.outcome) };
    assert_eq!(effects.writes().len(), 5);
    let report = bed.run_within(writes(6), five).await;
    assert_eq!(limit(&report), Some(Limit::StateWrites));
    assert_eq!(message(&report), "wrote more than 5 keys; raise limits.state_writes");
    bed.still_works().await;
}

#[tokio::test]
async fn runs_of_a_tenant_have_one_limit_of_memory_together() {
    let bed = Bed::new();
    let acme = Share { memory_max: Bytes::mib(20), ..share("acme", 1) };
    // Takes 12 MiB, and waits for an answer that doesn't come.
    let waits = format!(
        "(if (i32.eq (memory.grow (i32.const 191)) (i32.const -1)) (then unreachable))
         (call $get (i32.const {SCRATCH}) (i32.const 1) (i32.const 2048))"
    );
    let waits = Guest::that(&waits).importing(&guests::state_get());
    let key = format!(r#"(data (i32.const {SCRATCH}) "k")"#);
    let waits = bed.load(waits.with_fields(&key).text());
    let (greedy, starts_large) = (
        bed.load(Guest::that(ALLOCATES).text()),
        bed.load(Guest { memory: "160", ..Guest::default() }.text()),
    );
    bed.host.set_mood(Mood::Silent);
    let abort = Abort::new();
    let first = bed.start_for(&waits, budget(), abort.clone(), acme.clone());
    let others = async {
        bed.host.heard.notified().await;
        assert_eq!(acme.memory.in_use(), Bytes::mib(12));
        let run = |plugin, share| bed.start_for(plugin, budget(), Abort::new(), share);
        let second = run(&greedy, acme.clone()).await;
        assert_eq!(limit(&second), Some(Limit::TenantMemory));
        assert!(second.usage.memory_peak <= Bytes::mib(8), "{:?}", second.usage);
        assert!(message(&second).ends_with("raise memory"), "{}", message(&second));
        assert_eq!(limit(&run(&starts_large, acme.clone()).await), Some(Limit::TenantMemory));
        // Its neighbour has an account of its own.
        assert_eq!(limit(&run(&greedy, share("globex", 1)).await), Some(Limit::Memory));
        assert_eq!(acme.memory.in_use(), Bytes::mib(12), "who has ended holds nothing");
        abort.stop(StopReason::Cancelled);
    };
    let (first, ()) = tokio::join!(first, others);
    assert_eq!(first.outcome, Outcome::Aborted(StopReason::Cancelled));
    assert_eq!(acme.memory.in_use(), Bytes(0));
    // Alone, it has what its own budget allows.
    let alone = bed.start_for(&greedy, budget(), Abort::new(), acme.clone()).await;
    assert_eq!((limit(&alone), acme.memory.in_use()), (Some(Limit::Memory), Bytes(0)));
}
