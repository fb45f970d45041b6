//! How throughput and memory grow: with the jobs that wait, with daemons, with tenants, with plugins; and what it costs that
//! jobs go.
//!
//! What is enqueued for a round is there before daemons begin with it: they are started then, or were stopped (SIGSTOP)
//! meanwhile.

mod crowds;
mod daemons;
mod depth;
mod keep;
mod load;

use crate::figures::Figures;

/// Measures, and prints as it goes on.
pub(crate) fn run(figures: &mut Figures) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        crowds::run(figures).await;
        if std::env::var("OF").is_ok() {
            return;
        }
        daemons::run(figures).await;
        depth::run(figures).await;
        keep::run(figures).await;
    });
}

/// Adds what some rounds measured, and prints it.
fn add(figures: &mut Figures, case: &str, subject: &str, metric: &str, rounds: &[f64]) {
    figures.add(case, subject, metric, rounds);
    println!("  {case} {subject} {metric}: {:.2} {rounds:.2?}", crate::figures::median(rounds));
}
