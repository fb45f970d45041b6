//! Whatever breaks, nothing is lost and nothing happens twice: real daemons and a real broker, and faults from a seed.
//!
//! ```text
//! plan.rs      seed -> who enqueues what, which faults strike when       faults/   what can go wrong, one module each
//! world.rs     Redis or a file, daemons, ways that go wrong              play.rs   plays a plan in a world
//! workload.rs  producers            holder.rs   holders of stale tokens  witness.rs  sees guests begin and end
//! history.rs   what has happened    check.rs    what must hold           recovery.rs  how long until things went on
//! ```
//!
//! Run by itself it plays the seeds that once found something, and sixty others. `CHAOS_SEED=n` plays one seed,
//! `CHAOS_SECONDS=n` fresh ones for so long; with `CHAOS_ON=cluster` (`sentinels`, `redis`, `embedded`) on that alone. See `docs/faults.md`.

mod bad_histories;
mod campaign;
mod check;
mod faults;
mod history;
mod holder;
mod plan;
mod play;
mod process;
mod recovery;
mod witness;
mod workload;
mod world;

use std::process::ExitCode;
use std::time::Duration;

use libtest_mimic::{Arguments, Failed, Trial};

use crate::plan::{Backend, Plan};

/// Seeds that once failed, and why.
const REGRESSIONS: [(u64, &str); 6] = [
    (590_383_053, "a component that was replaced while files were watched anew was never looked at"),
    (3_382_881_466, "the test waited for a word about what had been there before (no fault of a daemon's)"),
    (4_204_122_292, "the test compared what the end of another lease had changed (no fault of a daemon's)"),
    (961_420_610, "the test filled a Redis that it had bounded before (no fault of a daemon's)"),
    (
        1_100_292_294,
        "the test took what a full connection holds for what Redis keeps (no fault of a daemon's)",
    ),
    (
        2_739_302_046,
        "a right was taken from the version before, which then does things by halves (no fault of this one's)",
    ),
];

/// The seeds that every run of the tests plays; they take about two minutes. Fresh ones are for campaigns, whose finding
/// something says nothing against the change that is being tested.
const SAME_EACH_TIME: std::ops::Range<u64> = 0..60;

fn main() -> ExitCode {
    if sandhog_tests::previous().is_none() {
        println!(
            "The version before isn't built (`make previous`): there is no {}.",
            faults::version_mix::KIND.name
        );
    }
    let number = |name| {
        let text = std::env::var(name).ok().filter(|text| !text.is_empty());
        text.map(|text| text.parse::<u64>().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
    };
    if let Some(seed) = number("CHAOS_SEED") {
        let outcome = play::play(seed);
        println!("{}", campaign::describe(&outcome));
        return exit(outcome.wrong.is_empty());
    }
    let backends = backends(std::env::var("CHAOS_ON").unwrap_or_default().as_str());
    if let Some(seconds) = number("CHAOS_SECONDS") {
        return exit(campaign::play_for(Duration::from_secs(seconds), &backends));
    }
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(campaign::WORLDS);
    libtest_mimic::run(&arguments, trials(&backends)).exit_code()
}

fn exit(held: bool) -> ExitCode {
    if held { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The backends of this name; all, if there is none.
fn backends(name: &str) -> Vec<Backend> {
    let of_name = |backend: &Backend| format!("{backend:?}").eq_ignore_ascii_case(name);
    let meant: Vec<Backend> = Backend::ALL.into_iter().filter(of_name).collect();
    assert!(!meant.is_empty() || name.is_empty(), "CHAOS_ON is none of {:?}: {name}", Backend::ALL);
    if meant.is_empty() { Backend::ALL.into() } else { meant }
}

fn trials(backends: &[Backend]) -> Vec<Trial> {
    let checks: [(&str, fn()); 5] = [
        ("nothing_is_wrong_with_a_good_history", bad_histories::nothing_is_wrong_with_a_good_history),
        ("each_thing_that_is_wrong_is_found", bad_histories::each_thing_that_is_wrong_is_found),
        ("a_seed_always_means_the_same", plan::a_seed_always_means_the_same),
        ("every_fault_strikes_in_some_seed", plan::every_fault_strikes_in_some_seed),
        ("times_are_read_off_the_history", recovery::times_are_read_off_the_history),
    ];
    let checks = checks.into_iter().map(|(name, check)| {
        Trial::test(name, move || {
            check();
            Ok(())
        })
    });
    let fits = |seed: &u64| backends.contains(&Plan::of_seed(*seed).backend);
    let seeds = REGRESSIONS.map(|(seed, _)| seed).into_iter().chain(SAME_EACH_TIME).filter(fits);
    let runs = seeds.map(|seed| Trial::test(format!("seed_{seed}"), move || nothing_is_wrong(seed)));
    checks.chain(runs).collect()
}

fn nothing_is_wrong(seed: u64) -> Result<(), Failed> {
    let outcome = play::play(seed);
    if outcome.wrong.is_empty() { Ok(()) } else { Err(campaign::describe(&outcome).into()) }
}
