//! A guest is ended with no help from it, and within two ticks: here the ticks are in the test's hands, and it gives no
//! third one.

use std::num::NonZeroUsize;
use std::time::Duration;

use sandhog_core::budget::{Budget, Fuel};
use sandhog_core::outcome::{Outcome, Report, StopReason};
use sandhog_engine::{Abort, Config};

use super::bed::{Bed, Mood, budget, config, limit};
use super::guests::{self, Guest, RESULT, SCRATCH};

/// Longer than any test: the engine's own ticks never come.
const NEVER: Duration = Duration::from_secs(24 * 3600);

/// A hang is a failure.
const PATIENCE: Duration = Duration::from_secs(120);

const REASONS: [StopReason; 4] =
    [StopReason::Cancelled, StopReason::LeaseLost, StopReason::Drained, StopReason::Deadline];

const WORD: &str =
    "(call $report (i64.const 1) (i32.const 0) (i64.const 0) (i32.const 0) (i32.const 0) (i32.const 0))";

/// A guest that is heard of, and then does this for ever.
fn heard_of_then(body: &str) -> Guest {
    Guest::that(&format!("{WORD} {body}")).importing(&guests::progress())
}

fn spins() -> String {
    heard_of_then("(loop $for_ever br $for_ever)").text()
}

/// Whoever stops this one in the middle of an instruction has waited for it: it fills its memory, 13 MB at a time.
fn fills() -> String {
    heard_of_then(
        "(drop (memory.grow (i32.const 200)))
         (loop $again (memory.fill (i32.const 4096) (i32.const 1) (i32.const 13000000)) br $again)",
    )
    .text()
}

fn sleeps() -> String {
    let [poll, clock] = guests::sleep();
    let sleep = "(call $block (call $after (i64.const 3600000000000)))";
    heard_of_then(sleep).importing(&poll).importing(&clock).text()
}

/// Waits for state in a host that never answers, which is how the host hears of it.
fn waits_for_state() -> String {
    let body = format!("(call $get (i32.const {SCRATCH}) (i32.const 1) (i32.const {RESULT}))");
    let key = format!("(data (i32.const {SCRATCH}) \"k\")");
    Guest::that(&body).importing(&guests::state_get()).with_fields(&key).text()
}

fn bed() -> Bed {
    let bed = Bed::with(Config { tick: NEVER, guest_threads: NonZeroUsize::MIN, ..config() });
    bed.host.set_mood(Mood::Silent);
    bed
}

fn endless() -> Budget {
    Budget { fuel: Fuel(u64::MAX), timeout: NEVER, ..budget() }
}

/// Starts a guest, stops it once it is heard of, and gives two ticks.
async fn stopped(bed: &Bed, guest: &str, reason: StopReason) -> Report {
    let plugin = bed.load(guest);
    let abort = Abort::new();
    let run = bed.start(&plugin, endless(), abort.clone());
    let stop = async {
        bed.host.heard.notified().await;
        abort.stop(reason);
        bed.engine.tick();
        bed.engine.tick();
    };
    let both = async { tokio::join!(run, stop).0 };
    tokio::time::timeout(PATIENCE, both).await.expect("two ticks are enough")
}

fn is_of(report: &Report, reason: StopReason) -> bool {
    match reason {
        StopReason::Deadline => limit(report) == Some(sandhog_core::outcome::Limit::Time),
        other => report.outcome == Outcome::Aborted(other),
    }
}

#[tokio::test]
async fn two_ticks_end_a_guest_for_every_reason_whatever_it_does() {
    let bed = bed();
    for (does, guest) in [
        ("spins", spins()),
        ("fills memory", fills()),
        ("sleeps", sleeps()),
        ("waits for state", waits_for_state()),
    ] {
        for reason in REASONS {
            let report = stopped(&bed, &guest, reason).await;
            assert!(is_of(&report, reason), "one that {does}, {reason:?}: {:?}", report.outcome);
        }
    }
    bed.still_works().await;
}

#[tokio::test]
async fn a_guest_that_waits_needs_no_thread_to_be_ended_but_for_its_last_word() {
    let bed = bed();
    // The only guest thread is taken by one that never gives it up by itself.
    let (waits, spins) = (bed.load(waits_for_state()), bed.load(spins()));
    let (first, second) = (Abort::new(), Abort::new());
    let waiting = bed.start(&waits, endless(), first.clone());
    let spinning = async {
        bed.host.heard.notified().await;
        bed.start(&spins, endless(), second.clone()).await
    };
    let ended = async {
        // The one that waits is heard of first, then the one that spins.
        while bed.host.progress.lock().expect("no test panics with it").is_empty() {
            tokio::task::yield_now().await;
        }
        first.stop(StopReason::Cancelled);
        bed.engine.tick();
        bed.engine.tick();
    };
    let waiting = async {
        let report = waiting.await;
        assert_eq!(report.outcome, Outcome::Aborted(StopReason::Cancelled));
        assert!(second.stopped().is_none(), "the other goes on");
        second.stop(StopReason::Drained);
        bed.engine.tick();
        bed.engine.tick();
    };
    let all = async { tokio::join!(waiting, spinning, ended).1 };
    let report = tokio::time::timeout(PATIENCE, all).await.expect("two ticks each are enough");
    assert_eq!(report.outcome, Outcome::Aborted(StopReason::Drained));
}

#[tokio::test]
async fn a_guest_that_was_let_go_on_is_ended_by_its_own_timeout() {
    let bed = bed();
    for guest in [sleeps(), waits_for_state()] {
        let short = Budget { timeout: Duration::from_millis(20), ..endless() };
        let run = bed.run_within(guest, short);
        let report = tokio::time::timeout(PATIENCE, run).await.expect("no tick is needed where nothing runs");
        assert_eq!(limit(&report), Some(sandhog_core::outcome::Limit::Time));
    }
}
