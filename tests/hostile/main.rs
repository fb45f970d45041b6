//! Guests that do their worst. Each case says which promise it tests, and each asserts three things: the guest came to
//! its named end, the daemon stayed within its memory bound, and a neighbour's job ran meanwhile.
//!
//! A case is data (`case.rs`, `cases/`); `run.rs` has a real daemon run it, `repetition.rs` does so thousands of times.
//! `docs/hostile.md` is made of the same data.

mod case;
mod cases;
mod latency;
mod page;
mod repetition;
mod run;

use libtest_mimic::{Arguments, Trial};

fn main() {
    let arguments = Arguments::from_args();
    let cases = cases::all().into_iter().map(|case| {
        let name = format!("{}::{}", case.group, case.name);
        Trial::test(name, move || run::run(&case))
    });
    let mut trials: Vec<Trial> = cases.collect();
    trials.extend(repetition::cases().into_iter().map(|case| {
        let name = format!("repetition::{}", case.name);
        Trial::test(name, move || repetition::run(&case))
    }));
    trials.push(Trial::test("repetition::malformed_values_traps_and_outputs", repetition::run_together));
    for attack in latency::attacks() {
        for (on, backend) in latency::backends(&attack) {
            let name = format!("latency::{}::{on}", attack.case.name);
            let attack = attack.clone();
            // Times of a machine that does something else as well say nothing: they are measured when somebody asks.
            let trial = Trial::test(name, move || latency::run(&attack, backend));
            trials.push(trial.with_ignored_flag(true));
        }
    }
    trials.push(Trial::test("the_page_is_made_of_the_cases", page::check));
    trials.push(Trial::test("names_are_unique", page::names_are_unique));
    libtest_mimic::run(&arguments, trials).exit();
}
