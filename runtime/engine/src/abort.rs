//! Stopping a run from outside.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Poll, Waker};

use futures::task::AtomicWaker;
use sandhog_core::outcome::StopReason;

/// Hint that a handler gets when it asks whether it should stop; it is free to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StopHint {
    /// Somebody cancelled the job.
    Cancelled,
    /// The daemon is shutting down.
    Draining,
}

/// Handle by which a run is ended, or asked to end, from outside. Its clones are one and the same; each run needs its own.
#[derive(Debug, Clone, Default)]
pub struct Abort(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// Code of the reason; 0 if there is none.
    stop: AtomicU8,
    /// Code of the hint; 0 if there is none.
    hint: AtomicU8,
    waker: AtomicWaker,
}

impl Abort {
    /// Creates a handle that has stopped nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Ends the run, whatever its guest does. Of several reasons the highest in rank counts (lease lost, then
    /// cancelled, then deadline and drained), among equals the first.
    pub fn stop(&self, reason: StopReason) {
        let code = encode(reason);
        let higher = |now: u8| (rank(now) < rank(code)).then_some(code);
        if self.0.stop.fetch_update(Ordering::AcqRel, Ordering::Acquire, higher).is_ok() {
            self.0.waker.wake();
        }
    }

    /// Sets the hint that the guest gets when it asks whether it should stop. Nothing else happens; the latest hint is
    /// shown.
    pub fn ask(&self, hint: StopHint) {
        let code = match hint {
            StopHint::Cancelled => 1,
            StopHint::Draining => 2,
        };
        self.0.hint.store(code, Ordering::Release);
    }

    /// Reason why the run is to end. `None` if it isn't.
    #[must_use]
    pub fn stopped(&self) -> Option<StopReason> {
        decode(self.0.stop.load(Ordering::Acquire))
    }

    /// Waits until the run is to end, and returns the reason. One waiter at a time.
    pub async fn wait(&self) -> StopReason {
        std::future::poll_fn(|cx| {
            self.register(cx.waker());
            self.stopped().map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }

    /// Wakes `waker` when the run is to end. One waker at a time.
    pub(crate) fn register(&self, waker: &Waker) {
        self.0.waker.register(waker);
    }

    /// Hint that the guest gets. `None` if it isn't asked to stop.
    #[must_use]
    pub fn asked(&self) -> Option<StopHint> {
        match self.0.hint.load(Ordering::Acquire) {
            1 => Some(StopHint::Cancelled),
            2 => Some(StopHint::Draining),
            _ => None,
        }
    }
}

fn encode(reason: StopReason) -> u8 {
    match reason {
        StopReason::Drained => 1,
        StopReason::Deadline => 2,
        StopReason::Cancelled => 3,
        StopReason::LeaseLost => 4,
    }
}

fn decode(code: u8) -> Option<StopReason> {
    match code {
        1 => Some(StopReason::Drained),
        2 => Some(StopReason::Deadline),
        3 => Some(StopReason::Cancelled),
        4 => Some(StopReason::LeaseLost),
        _ => None,
    }
}

fn rank(code: u8) -> u8 {
    match code {
        0 => 0,
        1 | 2 => 1,
        3 => 2,
        _ => 3,
    }
}
