//! Unique keys: for how long a job holds its key, and what becomes of one that comes while another holds it.

use std::time::Duration;

/// A unique key, and the rule by which a job holds it. While one of the kind holds the key, no second one is created.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "a unique key does nothing until a job has it"]
pub struct Unique {
    pub(crate) key: String,
    pub(crate) hold: Hold,
}

/// The rule of a job that stands for many events: it runs when no other with its key has come for a while.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "a debounce does nothing until a job has it"]
pub struct Debounce {
    pub(crate) key: String,
    pub(crate) times: DebounceTimes,
}

/// Rule by which a unique key is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UniqueRule {
    Hold(Hold),
    Debounce(DebounceTimes),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hold {
    pub(crate) until: UniqueUntil,
    /// Time after which the key is free in any case.
    pub(crate) lasts: Option<Duration>,
    /// Whether the job that holds the key gets the payload of one that comes while it waits.
    pub(crate) replaces: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DebounceTimes {
    pub(crate) delay: Duration,
    pub(crate) longest: Duration,
    pub(crate) is_leading: bool,
}

/// Event that frees a unique key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UniqueUntil {
    Settled,
    Started,
    Over,
}

impl Unique {
    /// Creates a key that is held until the job has succeeded, is dead or cancelled.
    pub fn new(key: impl Into<String>) -> Self {
        Self { key: key.into(), hold: Hold { until: UniqueUntil::Settled, lasts: None, replaces: false } }
    }

    /// Creates a key that is held for a time, whatever becomes of the job.
    pub fn for_time(key: impl Into<String>, time: Duration) -> Self {
        let hold = Hold { until: UniqueUntil::Over, lasts: Some(time), replaces: false };
        Self { key: key.into(), hold }
    }

    /// Frees the key already when the job has started.
    pub fn until_started(mut self) -> Self {
        self.hold.until = UniqueUntil::Started;
        self
    }

    /// Frees the key after this time in any case.
    pub fn at_most(mut self, time: Duration) -> Self {
        self.hold.lasts = Some(time);
        self
    }

    /// Gives the payload of a job that comes while the one that holds the key waits to that one, if both say so.
    pub fn replacing(mut self) -> Self {
        self.hold.replaces = true;
        self
    }
}

impl Debounce {
    /// Creates the rule of a job that runs once no other with its key has come for the time `delay`, with the payload of the
    /// latest; at the time `longest` after the first one at the latest, which has to be the longer time.
    pub fn new(key: impl Into<String>, delay: Duration, longest: Duration) -> Self {
        Self { key: key.into(), times: DebounceTimes { delay, longest, is_leading: false } }
    }

    /// Runs the first one at once instead, and none of those that follow.
    pub fn leading(mut self) -> Self {
        self.times.is_leading = true;
        self
    }
}
