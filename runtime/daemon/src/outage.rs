//! What the daemon says of its broker, and how long it waits for it.
//!
//! Every loop that calls the broker goes through one [`Outage`], so that the log has one line when the broker goes, one
//! when it is back, and none between.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use sandhog_broker::Error;
use sandhog_core::settle::{Backoff, Jitter};
use tokio::time::Instant;

use crate::ambient::Ambient;

/// How calls are repeated.
const BACKOFF: Backoff = Backoff {
    base: Duration::from_millis(50),
    factor: 2.0,
    max: Duration::from_secs(2),
    jitter: Jitter::Full,
};

/// Whether the broker can be reached, as far as the latest calls have shown.
#[derive(Debug, Default)]
pub(crate) struct Outage {
    since: Mutex<Option<Instant>>,
}

impl Outage {
    /// A call came through.
    pub(crate) fn over(&self) {
        // The lock is taken on each call, but only ever for this one look.
        let since = self.since.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(since) = since {
            tracing::info!(after = ?since.elapsed(), "the broker is back");
        }
    }

    /// A call didn't.
    pub(crate) fn note(&self, error: &Error) {
        let mut since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        if since.is_none() {
            *since = Some(Instant::now());
            tracing::error!(%error, "waiting for the broker; nothing is lost, running jobs go on as long as their leases can be trusted");
        } else {
            tracing::debug!(%error, "still waiting for the broker");
        }
    }
}

/// The waits between the tries of one loop.
#[derive(Debug, Default)]
pub(crate) struct Tries {
    failures: u32,
}

impl Tries {
    /// The next try starts afresh.
    pub(crate) fn succeeded(&mut self) {
        self.failures = 0;
    }

    /// How long to wait after one more failure. Never zero: a loop that fails at once must not spin.
    pub(crate) fn failed(&mut self, ambient: &Ambient) -> Duration {
        self.failures = self.failures.saturating_add(1);
        BACKOFF.wait(self.failures, ambient.chance()).max(Duration::from_millis(10))
    }
}
