//! Runs with one fresh seed after the other, some side by side: most of a run is waiting.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::plan::{Backend, Plan};
use crate::play::{Outcome, play};
use crate::recovery::{self, Recoveries};

/// Worlds side by side.
pub(crate) const WORLDS: usize = 4;

/// Failed runs after which a campaign ends early: more of them tell no more.
const FAILURES_MAX: usize = 10;

#[derive(Default)]
struct Totals {
    runs: usize,
    failed: Vec<String>,
    recoveries: Recoveries,
    /// Those of runs in which one fault struck, and no other was in its way.
    alone: Recoveries,
}

/// Plays for so long, prints each run and the totals; whether nothing was wrong.
pub(crate) fn play_for(time: Duration, backends: &[Backend]) -> bool {
    let (until, totals, enough) =
        (Instant::now() + time, Mutex::new(Totals::default()), AtomicBool::new(false));
    std::thread::scope(|scope| {
        for _ in 0..WORLDS {
            scope.spawn(|| {
                while Instant::now() < until && !enough.load(Ordering::Relaxed) {
                    let outcome = play(Plan::fresh_seed(backends));
                    let mut totals = totals.lock().expect("nobody panics with it");
                    println!("{}", describe(&outcome));
                    totals.runs += 1;
                    if outcome.faults == 1 {
                        recovery::add(&mut totals.alone, outcome.recoveries.clone());
                    }
                    recovery::add(&mut totals.recoveries, outcome.recoveries);
                    if !outcome.wrong.is_empty() {
                        totals.failed.push(outcome.what);
                    }
                    enough.store(totals.failed.len() >= FAILURES_MAX, Ordering::Relaxed);
                }
            });
        }
    });
    let Totals { runs, failed, recoveries, alone } = totals.into_inner().expect("nobody panicked with it");
    println!("{runs} runs, {} failed; recovery:\n{}", failed.len(), recovery::table(&recoveries));
    println!("where a fault was alone:\n{}", recovery::table(&alone));
    failed.iter().for_each(|what| println!("failed: {what}"));
    failed.is_empty()
}

/// A run, for people.
pub(crate) fn describe(outcome: &Outcome) -> String {
    let Outcome { what, recoveries, wrong, took, kept, .. } = outcome;
    let verdict = match kept {
        _ if wrong.is_empty() => "held".to_owned(),
        Some(folder) => format!("FAILED, see {}:\n  {}", folder.display(), wrong.join("\n  ")),
        None => format!("FAILED:\n  {}", wrong.join("\n  ")),
    };
    format!("{what}\n{}  {:.1} s: {verdict}", recovery::table(recoveries), took.as_secs_f64())
}
