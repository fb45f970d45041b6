//! Case `growth`: throughput and memory by the number of waiting jobs, of daemons, of tenants and of plugins; and the cost
//! of the removal of jobs.
//!
//! The jobs of a round are enqueued before daemons begin with them: daemons are started afterwards, or stopped (SIGSTOP)
//! meanwhile.

mod crowds;
mod daemons;
mod depth;
mod keep;
mod load;

use crate::figures::Figures;

/// Runs the case, and prints each figure as it comes.
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

/// Adds the median of some rounds, and prints it.
fn add(figures: &mut Figures, case: &str, subject: &str, metric: &str, rounds: &[f64]) {
    figures.add(case, subject, metric, rounds);
    println!("  {case} {subject} {metric}: {:.2} {rounds:.2?}", crate::figures::median(rounds));
}
