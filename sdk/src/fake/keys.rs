//! Unique keys of a fake host, by the rules of the real one.

use std::time::Duration;

use super::jobs::JobState;
use crate::unique::{DebounceTimes, Hold, UniqueRule, UniqueUntil};

/// Time after its longest wait at which the key of a debounced job is free in any case.
const FALLBACK: Duration = Duration::from_secs(24 * 60 * 60);

/// Maximum time for which a key is held.
const HOLD_MAX: Duration = Duration::from_secs(400 * 24 * 60 * 60);

/// Rule of a job's unique key.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rule {
    hold: Hold,
    debounce: Option<DebounceTimes>,
}

/// Hold of a job on its key. Times are those of the host's clock.
#[derive(Debug, Clone, Copy)]
pub(super) struct KeyHold {
    until: UniqueUntil,
    /// Time from which on the key is free in any case.
    pub(super) ends: Option<Duration>,
    /// Time past which later jobs put nothing off.
    deadline: Option<Duration>,
    is_replaceable: bool,
}

/// Effect of a job on the one that holds its key.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Clash {
    /// Whether that one gets its payload.
    pub(super) replaces: bool,
    /// Time at which that one is due from now on.
    pub(super) due: Option<Duration>,
    /// Time from which on the key is free.
    pub(super) ends: Option<Duration>,
}

impl Rule {
    pub(super) fn of(rule: UniqueRule) -> Self {
        match rule {
            UniqueRule::Hold(hold) => Self { hold, debounce: None },
            UniqueRule::Debounce(times) => {
                let (until, lasts, replaces) = match times.is_leading {
                    true => (UniqueUntil::Over, times.delay, false),
                    false => (UniqueUntil::Started, times.longest.saturating_add(FALLBACK), true),
                };
                Self { hold: Hold { until, lasts: Some(lasts), replaces }, debounce: Some(times) }
            }
        }
    }

    /// Returns the delay of a job that waits for others with its key; `None` if it doesn't.
    pub(super) fn delay(&self) -> Option<Duration> {
        self.debounce.filter(|times| !times.is_leading).map(|times| times.delay)
    }

    fn is_replaceable(&self) -> bool {
        self.hold.replaces && self.hold.until != UniqueUntil::Over
    }

    /// Returns how a job holds its key that is created now.
    pub(super) fn hold(&self, now: Duration) -> KeyHold {
        KeyHold {
            until: self.hold.until,
            ends: self.hold.lasts.map(|lasts| now.saturating_add(lasts.min(HOLD_MAX))),
            deadline: self.debounce.map(|times| now.saturating_add(times.longest)),
            is_replaceable: self.is_replaceable(),
        }
    }

    /// Returns what a job of this rule does to the one that holds its key, and `waits` or not.
    pub(super) fn clash(&self, held: &KeyHold, waits: bool, now: Duration) -> Clash {
        let replaces = waits && held.is_replaceable && self.is_replaceable();
        let Some(DebounceTimes { delay, .. }) = self.debounce else {
            return Clash { replaces, ..Clash::default() };
        };
        let put_off = held.deadline.map(|deadline| now.saturating_add(delay).min(deadline));
        match held.until {
            UniqueUntil::Over => Clash { ends: put_off, ..Clash::default() },
            _ => Clash { replaces, due: put_off.filter(|_| replaces), ends: None },
        }
    }
}

impl KeyHold {
    /// Whether the key is still held, by the state of its job and by its time.
    pub(super) fn is_in_force(&self, state: JobState, has_started: bool, now: Duration) -> bool {
        let by_job = match self.until {
            UniqueUntil::Settled => !state.is_final(),
            UniqueUntil::Started => !state.is_final() && !has_started,
            UniqueUntil::Over => true,
        };
        by_job && self.ends.is_none_or(|ends| now < ends)
    }
}
