//! Shutdown: the order in which a daemon stops.
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

/// Maximum time that giving back the stopped runs may take.
const GIVING_BACK_MAX: Duration = Duration::from_secs(5);

/// Phase of the daemon's shutdown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Not shutting down.
    Running,
    /// Nothing is leased any more; runs go on.
    Draining,
    /// The grace time is over: runs are stopped and given back.
    Releasing,
}

/// Switch that shuts the daemon down. Dropping it releases, so that a follower of a switch that is gone has nothing to wait
/// for.
#[derive(Debug)]
pub struct Shutdown(Follow);

impl Default for Shutdown {
    fn default() -> Self {
        Self(Follow(Arc::new(Switch { phase: Mutex::new(Phase::Running), moved: Notify::new() })))
    }
}

/// Releases, as a follower of a switch that is gone has nothing to wait for any more.
impl Drop for Shutdown {
    fn drop(&mut self) {
        self.release();
    }
}

/// Follower of the switch. Followers are woken in the order in which they began to wait, not, as those of a `watch` channel, in
/// one that is left to chance: a simulation can be played again.
#[derive(Debug, Clone)]
pub struct Follow(Arc<Switch>);

#[derive(Debug)]
struct Switch {
    phase: Mutex<Phase>,
    moved: Notify,
}

impl Follow {
    /// Current phase.
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
    /// Creates a follower of the switch.
    #[must_use]
    pub fn follow(&self) -> Follow {
        self.0.clone()
    }

    /// Starts draining: nothing is leased from now on.
    pub fn drain(&self) {
        self.advance(Phase::Draining);
    }

    /// Stops the runs that are still under way, and has them given back.
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

    /// Once the phase is [`Phase::Draining`], lets runs go on for the grace time, and has those that are left then given back.
    /// Returns when that has taken so long that it can't be waited for, as the broker isn't there: jobs that are held then are
    /// taken back when their leases run out.
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
