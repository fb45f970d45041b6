//! The order in which a daemon stops.
//!
//! ```text
//!  Running ──first signal──> Draining ──grace is over──> Releasing ──all settled──> exit 0
//!                            lease no more,              stop what runs,
//!                            let run                     give it back unharmed
//!     └───────────────second signal, at any point────────────────────────────────> exit at once
//! ```

use std::time::Duration;

use tokio::sync::watch;

/// How far the daemon has come on its way down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Not at all.
    Running,
    /// Nothing is leased any more; what runs goes on.
    Draining,
    /// The grace time is over: what runs is stopped and given back.
    Releasing,
}

/// The switch.
#[derive(Debug)]
pub struct Shutdown {
    phase: watch::Sender<Phase>,
}

impl Default for Shutdown {
    fn default() -> Self {
        Self { phase: watch::Sender::new(Phase::Running) }
    }
}

impl Shutdown {
    /// Follows the switch.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    /// Leases no more from now on.
    pub fn drain(&self) {
        self.advance(Phase::Draining);
    }

    /// Stops and gives back what still runs.
    pub fn release(&self) {
        self.advance(Phase::Releasing);
    }

    fn advance(&self, to: Phase) {
        self.phase.send_if_modified(|phase| {
            let advances = *phase < to;
            *phase = (*phase).max(to);
            advances
        });
    }

    /// From [`Phase::Draining`] on, lets what runs go on for the grace time, or until `idle` says that nothing does.
    pub async fn see_out(&self, grace: Duration, idle: impl Future<Output = ()>) {
        tokio::pin!(idle);
        let in_time = tokio::time::timeout(grace, &mut idle).await;
        if in_time.is_err() {
            tracing::warn!(?grace, "the grace time is over; giving back what still runs");
            self.release();
            idle.await;
        }
    }
}

/// Resolves once the phase is `phase` or a later one; also if the switch is gone.
pub(crate) async fn reached(watch: &mut watch::Receiver<Phase>, phase: Phase) {
    // An error means that the switch is gone, and the daemon with it.
    let _ = watch.wait_for(|now| *now >= phase).await;
}
