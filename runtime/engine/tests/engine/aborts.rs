//! Ending a run from outside, whatever it does.

use std::pin::pin;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use sandhog_core::budget::{Budget, Fuel};
use sandhog_core::outcome::{Limit, Outcome, Report, StopReason};
use sandhog_engine::{Abort, StopHint};

use super::bed::{Bed, Mood, budget, limit, output};
use super::guests::{self, Guest, RESULT, SCRATCH};

const ENDLESS: Fuel = Fuel(u64::MAX);

/// Says that it is there, and then spins.
fn spins_after_a_word() -> String {
    let body =
        "(call $report (i64.const 1) (i32.const 0) (i64.const 0) (i32.const 0) (i32.const 0) (i32.const 0))
        (loop $for_ever br $for_ever)";
    Guest::that(body).importing(&guests::progress()).text()
}

/// Says that it is there, and then sleeps for an hour.
fn sleeps_after_a_word() -> String {
    let [poll, clock] = guests::sleep();
    let body =
        "(call $report (i64.const 1) (i32.const 0) (i64.const 0) (i32.const 0) (i32.const 0) (i32.const 0))
        (call $block (call $after (i64.const 3600000000000)))";
    Guest::that(body).importing(&poll).importing(&clock).importing(&guests::progress()).text()
}

fn asks_for_state() -> String {
    let body = format!("(call $get (i32.const {SCRATCH}) (i32.const 1) (i32.const {RESULT}))");
    let key = format!("(data (i32.const {SCRATCH}) \"k\")");
    Guest::that(&body).importing(&guests::state_get()).with_fields(&key).text()
}

/// Stops a run as soon as its guest is heard of.
async fn stopped(bed: &Bed, guest: String, reason: StopReason) -> Report {
    let plugin = bed.load(guest);
    let abort = Abort::new();
    let run = bed.start(&plugin, Budget { fuel: ENDLESS, ..budget() }, abort.clone());
    let stop = async {
        bed.host.heard.notified().await;
        abort.stop(reason);
    };
    tokio::join!(run, stop).0
}

#[tokio::test]
async fn every_reason_ends_a_guest_that_computes() {
    let bed = Bed::new();
    for reason in [StopReason::Cancelled, StopReason::Drained, StopReason::LeaseLost] {
        let report = stopped(&bed, spins_after_a_word(), reason).await;
        assert_eq!(report.outcome, Outcome::Aborted(reason));
    }
    let report = stopped(&bed, spins_after_a_word(), StopReason::Deadline).await;
    assert_eq!(limit(&report), Some(Limit::Time));
    bed.still_works().await;
}

#[tokio::test]
async fn a_guest_that_sleeps_is_ended() {
    let bed = Bed::new();
    let report = stopped(&bed, sleeps_after_a_word(), StopReason::Cancelled).await;
    assert_eq!(report.outcome, Outcome::Aborted(StopReason::Cancelled));
    assert_eq!(report.usage.host_calls, 3);
    bed.still_works().await;
}

#[tokio::test]
async fn a_guest_that_waits_for_state_is_ended() {
    let bed = Bed::new();
    bed.host.set_mood(Mood::Silent);
    let report = stopped(&bed, asks_for_state(), StopReason::LeaseLost).await;
    assert_eq!(report.outcome, Outcome::Aborted(StopReason::LeaseLost));
    bed.still_works().await;
}

#[tokio::test]
async fn a_guest_that_sleeps_past_its_timeout_is_ended() {
    let bed = Bed::new();
    let short = Budget { timeout: Duration::from_millis(20), ..budget() };
    let report = bed.run_within(sleeps_after_a_word(), short).await;
    assert_eq!(limit(&report), Some(Limit::Time));
    bed.still_works().await;
}

#[tokio::test]
async fn a_sleep_holds_no_thread() {
    let mut config = super::bed::config();
    config.guest_threads = std::num::NonZeroUsize::MIN;
    let bed = Bed::with(config);
    let plugin = bed.load(sleeps_after_a_word());
    let abort = Abort::new();
    let sleeps = bed.start(&plugin, budget(), abort.clone());
    let works = async {
        bed.host.heard.notified().await;
        bed.still_works().await;
        abort.stop(StopReason::Cancelled);
    };
    let (report, ()) = tokio::join!(sleeps, works);
    assert_eq!(report.outcome, Outcome::Aborted(StopReason::Cancelled));
}

/// Whatever keeps the runtime busy on which runs are asked for, it isn't what guests' host calls work on; and so the other way
/// round.
#[test]
fn a_host_call_goes_on_while_the_runtime_of_its_caller_is_held_up() {
    let [poll, clock] = guests::sleep();
    let body = "(call $block (call $after (i64.const 1000000)))
        (call $report (i64.const 1) (i32.const 0) (i64.const 0) (i32.const 0) (i32.const 0) (i32.const 0))";
    let guest = Guest::that(body).importing(&poll).importing(&clock).importing(&guests::progress()).text();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let bed = Bed::new();
        let plugin = bed.load(guest);
        // Then its code is at hand.
        bed.start(&plugin, budget(), Abort::new()).await;
        let mut run = pin!(bed.start(&plugin, budget(), Abort::new()));
        assert!(futures::poll!(run.as_mut()).is_pending());
        let (host, (said, heard)) = (Arc::clone(&bed.host), mpsc::channel());
        thread::spawn(move || {
            let own = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
            own.block_on(async {
                while host.progress.lock().expect("no test panics with it").len() < 2 {
                    host.heard.notified().await;
                }
            });
            said.send(())
        });
        heard.recv_timeout(Duration::from_secs(60)).expect("the guest wakes up");
        run.await;
    });
}

#[tokio::test]
async fn a_run_that_was_stopped_before_it_started_never_starts() {
    let bed = Bed::new();
    let plugin = bed.load(spins_after_a_word());
    let abort = Abort::new();
    abort.stop(StopReason::Drained);
    let report = bed.start(&plugin, budget(), abort).await;
    assert_eq!(report.outcome, Outcome::Aborted(StopReason::Drained));
    assert_eq!(report.usage.fuel, Fuel(0));
}

#[tokio::test]
async fn the_reason_of_the_highest_rank_counts() {
    let abort = Abort::new();
    abort.stop(StopReason::Deadline);
    abort.stop(StopReason::Drained);
    assert_eq!(abort.stopped(), Some(StopReason::Deadline), "the first of equals");
    abort.stop(StopReason::Cancelled);
    abort.stop(StopReason::Deadline);
    assert_eq!(abort.stopped(), Some(StopReason::Cancelled));
    abort.stop(StopReason::LeaseLost);
    abort.stop(StopReason::Cancelled);
    assert_eq!(abort.stopped(), Some(StopReason::LeaseLost));
}

#[tokio::test]
async fn a_run_that_nobody_waits_for_any_more_ends() {
    let mut config = super::bed::config();
    config.guest_threads = std::num::NonZeroUsize::MIN;
    let bed = Bed::with(config);
    let plugin = bed.load(spins_after_a_word());
    {
        let run = bed.start(&plugin, Budget { fuel: ENDLESS, ..budget() }, Abort::new());
        tokio::select! {
            report = run => panic!("{:?}", report.outcome),
            () = bed.host.heard.notified() => {}
        }
    }
    // The only guest thread is free again, and so is the instance.
    for _ in 0..20 {
        bed.still_works().await;
    }
}

#[tokio::test]
async fn a_handler_is_asked_to_stop_and_told_why() {
    let bed = Bed::new();
    // Waits until it is asked, and then returns one byte more than the number of the reason.
    let body = format!(
        "(call $report (i64.const 1) (i32.const 0) (i64.const 0) (i32.const 0) (i32.const 0) (i32.const 0))
         (loop $ask (call $stop (i32.const {SCRATCH})) (br_if $ask (i32.eqz (i32.load8_u (i32.const {SCRATCH})))))
         (i32.store (i32.const {}) (i32.add (i32.const 1) (i32.load8_u (i32.const {}))))",
        RESULT + 12,
        SCRATCH + 1
    );
    let guest = Guest::that(&body).importing(&guests::stop_requested()).importing(&guests::progress()).text();
    let plugin = bed.load(guest);
    for (hint, answer) in [(StopHint::Cancelled, 1), (StopHint::Draining, 2)] {
        let abort = Abort::new();
        let run = bed.start(&plugin, Budget { fuel: ENDLESS, ..budget() }, abort.clone());
        let ask = async {
            bed.host.heard.notified().await;
            abort.ask(hint);
        };
        let (report, ()) = tokio::join!(run, ask);
        assert_eq!(output(&report).len(), answer);
    }
}
