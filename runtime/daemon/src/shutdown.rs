//! The order in which a daemon stops.
//!
//! ```text
//!  Running ──first signal──> Draining ──grace is over──> Releasing ──all settled──> exit 0
//!                            lease no more,              stop what runs,
//!                            let run                     give it back unharmed, within GIVING_BACK_MAX
//!     └───────────────second signal, at any point────────────────────────────────> exit at once
//! ```

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

/// How long what was stopped may take to be given back.
const GIVING_BACK_MAX: Duration = Duration::from_secs(5);

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
pub struct Shutdown(Follow);

impl Default for Shutdown {
    fn default() -> Self {
        Self(Follow(Arc::new(Switch { phase: Mutex::new(Phase::Running), moved: Notify::new() })))
    }
}

/// Whoever follows a switch that is gone has nothing to wait for any more.
impl Drop for Shutdown {
    fn drop(&mut self) {
        self.release();
    }
}

/// What follows the switch. Its followers are woken in the order in which they began to wait, not, as those of a `watch`
/// channel, in one that is left to chance: a simulation can be played again.
#[derive(Debug, Clone)]
pub struct Follow(Arc<Switch>);

#[derive(Debug)]
struct Switch {
    phase: Mutex<Phase>,
    moved: Notify,
}

impl Follow {
    /// How far it has come.
    pub(crate) fn phase(&self) -> Phase {
        *self.0.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Resolves once the phase is `phase` or a later one; also if the switch is gone.
    pub(crate) async fn reached(&self, phase: Phase) {
        loop {
            let mut moved = std::pin::pin!(self.0.moved.notified());
            moved.as_mut().enable();
            if self.phase() >= phase {
                return;
            }
            moved.await;
        }
    }
}

impl Shutdown {
    /// Follows the switch.
    #[must_use]
    pub fn follow(&self) -> Follow {
        self.0.clone()
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
        let mut phase = self.0.0.phase.lock().unwrap_or_else(PoisonError::into_inner);
        if *phase < to {
            *phase = to;
            drop(phase);
            self.0.0.moved.notify_waiters();
        }
    }

    /// Once it is [`Phase::Draining`], lets what runs go on for the grace time, and has what is left then given back. Returns
    /// when that has taken so long that it can't be waited for, as the broker isn't there: what is held then is taken back
    /// when its leases run out.
    pub async fn see_out(&self, grace: Duration) {
        self.0.reached(Phase::Draining).await;
        tokio::time::sleep(grace).await;
        tracing::warn!(?grace, "the grace time is over; giving back what still runs");
        self.release();
        tokio::time::sleep(GIVING_BACK_MAX).await;
        tracing::warn!(
            after = ?GIVING_BACK_MAX,
            "what still ran could not be given back in time; it is run again when its leases have run out"
        );
    }
}
