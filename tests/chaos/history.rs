//! What happened in a run, as those saw it who asked for it or watched it.

use std::fmt::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sandhog_core::id::{JobId, LeaseNo, TenantId};
use tokio::sync::Notify;

/// One thing that happened.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Event {
    /// A producer is about to ask for a job. Without an [`Event::Acknowledged`] it may be there or not.
    Asked { tenant: TenantId, job: JobId },
    /// The broker has said that the job is stored.
    Acknowledged { tenant: TenantId, job: JobId },
    /// Somebody is about to ask for a job's cancellation.
    CancelAsked { tenant: TenantId, job: JobId },
    /// The broker has said that the job is cancelled.
    Cancelled { tenant: TenantId, job: JobId },
    /// A guest is under way.
    Began(Run),
    /// A guest's answer was over, or it was cut off.
    Ended { run: u64 },
    /// A fault has struck.
    Struck { fault: &'static str, what: String },
    /// By that, this daemon has lost what it held.
    Robbed { fault: &'static str, daemon: String },
    /// A fault is over; a probe follows for each daemon that it has touched.
    Over { fault: &'static str },
    /// What follows a fault took so long.
    Took { fault: &'static str, what: &'static str, time: Duration },
    /// A daemon that is ready, and has its connections back, was given a job of its own: whether it has begun it in time.
    Probed { daemon: String, fault: &'static str, begun: bool },
    /// A daemon has ended that wasn't told to, or not as it was told to.
    Died { daemon: String, how: String },
    /// Somebody whose lease is another's has made a call: whether he was told that it is lost.
    Stale { job: JobId, call: &'static str, refused: bool },
    /// What is stored of a job before and after such calls, as text.
    Trace { job: JobId, before: String, after: String },
    /// The broker has taken a settlement that makes a job final.
    Settled { job: JobId, lease: LeaseNo },
    /// All daemons were asked for as many runs at once as they may have: how many there were.
    Filled { runs: usize, room: usize },
}

/// A run, as its guest has shown itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Run {
    /// Its own name.
    pub(crate) number: u64,
    /// Which daemon, and which process of it.
    pub(crate) daemon: String,
    pub(crate) tenant: String,
    pub(crate) job: String,
    pub(crate) attempt: u32,
}

/// An event, and how long after the beginning it was.
pub(crate) type Entry = (Duration, Event);

/// Keeps what happens, and tells those who wait for something.
#[derive(Debug)]
pub(crate) struct History {
    started: Instant,
    entries: Mutex<Vec<Entry>>,
    news: Notify,
}

impl History {
    pub(crate) fn new() -> Self {
        Self { started: Instant::now(), entries: Mutex::default(), news: Notify::new() }
    }

    pub(crate) fn note(&self, event: Event) {
        self.lock().push((self.started.elapsed(), event));
        self.news.notify_waiters();
    }

    /// Time since the beginning.
    pub(crate) fn now(&self) -> Duration {
        self.started.elapsed()
    }

    pub(crate) fn entries(&self) -> Vec<Entry> {
        self.lock().clone()
    }

    /// Waits until something is found among what has happened.
    pub(crate) async fn until<T>(&self, find: impl Fn(&[Entry]) -> Option<T>) -> T {
        loop {
            let mut news = std::pin::pin!(self.news.notified());
            news.as_mut().enable();
            if let Some(found) = find(&self.lock()) {
                return found;
            }
            news.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One line an event.
pub(crate) fn text(entries: &[Entry]) -> String {
    let mut text = String::new();
    for (at, event) in entries {
        let _ = writeln!(text, "{:8.3} {event:?}", at.as_secs_f64());
    }
    text
}
