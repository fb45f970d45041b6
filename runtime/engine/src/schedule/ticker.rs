//! Ticker, by whose beat running guests are looked at. It beats only while a guest thread is awake.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, Thread};
use std::time::Duration;

/// Number of beats without any guest thread awake before it stops: enough that a steady trickle of short jobs doesn't have to
/// wake it for each.
const LINGER: u32 = 100;

/// State that guest threads share with the ticker's thread.
#[derive(Debug)]
pub(super) struct TickerState {
    awake: AtomicUsize,
    resting: AtomicBool,
    closed: AtomicBool,
}

/// Handle on the ticker's thread.
#[derive(Debug)]
pub(super) struct Ticker {
    state: Arc<TickerState>,
    thread: Thread,
}

impl Ticker {
    /// Starts a thread that calls `beat` every `tick` while a guest thread is awake.
    pub(super) fn start(tick: Duration, beat: impl Fn() + Send + 'static) -> std::io::Result<Self> {
        let state = Arc::new(TickerState {
            awake: AtomicUsize::new(0),
            resting: AtomicBool::new(false),
            closed: AtomicBool::new(false),
        });
        let theirs = Arc::clone(&state);
        let handle = thread::Builder::new().name("sandhog-tick".to_owned()).spawn(move || {
            while theirs.next_beat(tick) {
                beat();
            }
        })?;
        Ok(Self { state, thread: handle.thread().clone() })
    }

    /// Counts a guest thread as awake until the guard is dropped: it is there and has something to run.
    pub(super) fn awake(&self) -> Awake<'_> {
        self.woke();
        Awake(self)
    }

    /// Counts a guest thread as awake: it has something to run.
    pub(super) fn woke(&self) {
        self.state.awake.fetch_add(1, Ordering::SeqCst);
        if self.state.resting.load(Ordering::SeqCst) {
            self.thread.unpark();
        }
    }

    /// Counts a guest thread as asleep: it has nothing to run.
    pub(super) fn slept(&self) {
        self.state.awake.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Guard of a guest thread that is awake: see [`Ticker::awake`].
pub(super) struct Awake<'a>(&'a Ticker);

impl Drop for Awake<'_> {
    fn drop(&mut self) {
        self.0.slept();
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.state.closed.store(true, Ordering::SeqCst);
        self.thread.unpark();
    }
}

impl TickerState {
    /// Waits until the next beat is due. Returns false when there will be none.
    fn next_beat(&self, tick: Duration) -> bool {
        thread::sleep(tick);
        let mut idle = 0;
        while self.awake.load(Ordering::SeqCst) == 0 && !self.closed.load(Ordering::SeqCst) {
            idle += 1;
            if idle < LINGER {
                thread::sleep(tick);
            } else {
                self.rest();
            }
        }
        !self.closed.load(Ordering::SeqCst)
    }

    /// Parks until a guest thread wakes. A guest thread that wakes first says so and then looks whether we rest; we say that we
    /// rest and then look whether any is awake: one of the two sees the other.
    fn rest(&self) {
        self.resting.store(true, Ordering::SeqCst);
        while self.awake.load(Ordering::SeqCst) == 0 && !self.closed.load(Ordering::SeqCst) {
            thread::park();
        }
        self.resting.store(false, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn it_rests_while_nobody_is_awake_and_beats_again_when_somebody_is() {
        let (beats, beat) = mpsc::channel();
        let ticker = Ticker::start(Duration::from_micros(100), move || {
            // Whoever listened may be gone when the last beats come.
            let _ = beats.send(());
        })
        .expect("a thread can be started");
        for _ in 0..3 {
            ticker.woke();
            beat.recv().expect("it beats while somebody is awake");
            ticker.slept();
            while !ticker.state.resting.load(Ordering::SeqCst) {
                thread::yield_now();
            }
            while beat.try_recv().is_ok() {}
        }
        drop(ticker);
        assert!(beat.recv().is_err(), "its thread ends with it");
    }
}
