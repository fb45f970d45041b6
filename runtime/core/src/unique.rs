//! Unique keys: for how long a job holds its key, and what becomes of one that comes while another holds it.
//!
//! ```text
//! first job ──> holds the key ──settled, or started, or its time is over──> free
//!                    ^
//! next job ──────────┘ clash: nothing happens, or the payload of the waiting one is replaced, or its time is put off as well
//! ```
//!
//! Debouncing is no rule of its own, but two of these together: see [`UniqueRule::trailing`] and [`UniqueRule::leading`].

use std::time::Duration;

use crate::id::{Kind, UniqueKey};
use crate::job::State;
use crate::time::Timestamp;

/// Maximum time for which a key is held, whatever is asked.
pub const UNIQUE_FOR_MAX: Duration = Duration::from_secs(400 * 24 * 60 * 60);

/// Time after its longest wait at which the key of a debounced job is free in any case, if the job hasn't started by then.
const FALLBACK: Duration = Duration::from_secs(24 * 60 * 60);

/// Rule of a job's unique key. The default holds it until the job is final, and lets nothing happen on a clash.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UniqueRule {
    /// Event that frees the key.
    pub until: UniqueUntil,
    /// Time after which the key is free in any case; `None` for no such time. Always there with [`UniqueUntil::Over`].
    pub lasts: Option<Duration>,
    /// Treatment of a job that comes while another holds the key.
    pub on_clash: OnClash,
}

/// Event that frees a unique key.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum UniqueUntil {
    /// The job is final.
    #[default]
    Settled,
    /// The job starts for the first time, or is final.
    Started,
    /// The time of the key is over, whatever becomes of the job.
    Over,
}

impl UniqueUntil {
    /// Every event.
    pub const ALL: [Self; 3] = [Self::Settled, Self::Started, Self::Over];

    /// The name in the API, the configuration and the docs.
    #[must_use]
    pub fn slug(self) -> &'static str {
        match self {
            Self::Settled => "settled",
            Self::Started => "started",
            Self::Over => "over",
        }
    }

    /// Returns the event with this slug; `None` if there is no such event.
    #[must_use]
    pub fn from_slug(slug: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|until| until.slug() == slug)
    }

    /// Whether the event is that a job gets into this state.
    #[must_use]
    pub fn is(self, state: State) -> bool {
        match self {
            Self::Settled => state.is_final(),
            Self::Started => state.is_final() || state == State::Leased,
            Self::Over => false,
        }
    }
}

/// Treatment of a job that comes while another holds its unique key.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnClash {
    /// The new job isn't created; the other goes on as it is.
    #[default]
    Keep,
    /// The new job isn't created; the other gets its payload, as long as it waits.
    Replace,
    /// The new job isn't created; the other gets its payload and waits anew, or the key is held anew, as [`Debounce`] says.
    Debounce(Debounce),
}

/// Waits of a debounced job for further events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Debounce {
    /// Time without an event after which it is over.
    pub delay: Duration,
    /// Maximum time from the first event. It is stored with the first one, and later ones can't raise it.
    pub longest: Duration,
}

/// Error of a debounced job whose delay is not shorter than its longest wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the delay of a debounced job has to be shorter than its longest wait")]
pub struct DelayTooLong;

impl Debounce {
    /// Creates a debounce.
    ///
    /// # Errors
    /// If the delay isn't shorter than the longest wait.
    pub fn new(delay: Duration, longest: Duration) -> Result<Self, DelayTooLong> {
        if delay >= longest { Err(DelayTooLong) } else { Ok(Self { delay, longest }) }
    }
}

impl UniqueRule {
    /// The rule of a job that runs once no other event has come for a while, with the payload of the latest one. It has to be
    /// enqueued with the delay of the debounce. Events that come once it has started make another.
    #[must_use]
    pub fn trailing(debounce: Debounce) -> Self {
        let lasts = Some(debounce.longest.saturating_add(FALLBACK));
        Self { until: UniqueUntil::Started, lasts, on_clash: OnClash::Debounce(debounce) }
    }

    /// The rule of a job that runs at the first event; those that come until none has come for a while make no other.
    #[must_use]
    pub fn leading(debounce: Debounce) -> Self {
        Self { until: UniqueUntil::Over, lasts: Some(debounce.delay), on_clash: OnClash::Debounce(debounce) }
    }

    /// Whether a job of this rule shares its payload with others: it takes that of a later one, and gives its own to an earlier one.
    #[must_use]
    pub fn is_replaceable(&self) -> bool {
        self.until != UniqueUntil::Over && self.on_clash != OnClash::Keep
    }

    /// Returns how a key is held by a job that comes `now`, while nobody holds it.
    #[must_use]
    pub fn hold(&self, now: Timestamp) -> KeyHold {
        let deadline = match self.on_clash {
            OnClash::Debounce(debounce) => Some(now.after(debounce.longest)),
            OnClash::Keep | OnClash::Replace => None,
        };
        let ends = self.lasts.map(|lasts| now.after(lasts.min(UNIQUE_FOR_MAX)));
        KeyHold { until: self.until, ends, deadline, is_replaceable: self.is_replaceable() }
    }

    /// Returns what a job of this rule that comes `now` does to the one that holds its key as `held` says, and `waits` or not.
    #[must_use]
    pub fn clash(&self, held: &KeyHold, waits: bool, now: Timestamp) -> Clash {
        let put_off = |delay| held.deadline.map(|deadline| now.after(delay).min(deadline));
        let replaces = waits && held.is_replaceable && self.is_replaceable();
        match self.on_clash {
            OnClash::Keep => Clash::NOTHING,
            OnClash::Replace => Clash { replaces, ..Clash::NOTHING },
            OnClash::Debounce(debounce) if held.until == UniqueUntil::Over => {
                Clash { ends: put_off(debounce.delay), ..Clash::NOTHING }
            }
            OnClash::Debounce(debounce) => {
                Clash { replaces, due: put_off(debounce.delay).filter(|_| replaces), ends: None }
            }
        }
    }
}

/// Hold of a job on its unique key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyHold {
    /// Event that frees the key.
    pub until: UniqueUntil,
    /// Time from which on the key is free in any case.
    pub ends: Option<Timestamp>,
    /// Time past which later events put nothing off.
    pub deadline: Option<Timestamp>,
    /// Whether a later job may give its payload to the one that holds the key.
    pub is_replaceable: bool,
}

impl KeyHold {
    /// Whether the key is still held, by its time.
    #[must_use]
    pub fn is_in_force(&self, now: Timestamp) -> bool {
        self.ends.is_none_or(|ends| ends > now)
    }
}

/// Effect of a job on the one that holds its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clash {
    /// Whether that one gets the payload of this one.
    pub replaces: bool,
    /// Time at which that one is due from now on, if it is scheduled; `None` leaves the one before.
    pub due: Option<Timestamp>,
    /// Time from which on the key is free; `None` leaves the one before.
    pub ends: Option<Timestamp>,
}

impl Clash {
    /// Nothing at all.
    pub const NOTHING: Self = Self { replaces: false, due: None, ends: None };
}

/// Returns the time by which a job has to start that was due `before` and is due at another time now: it has as long as it had
/// from its due time on.
#[must_use]
pub fn moved_along(start_by: Timestamp, before: Timestamp, due: Timestamp) -> Timestamp {
    let moved = start_by.as_millis().saturating_add(due.as_millis()).saturating_sub(before.as_millis());
    Timestamp::from_millis(moved)
}

/// Returns a stored key as its producer named it, without the kind in front of it; or the digest of a long one.
#[must_use]
pub fn shown<'k>(kind: &Kind, key: &'k UniqueKey) -> &'k str {
    let bare = || key.as_str().strip_prefix(kind.as_str())?.strip_prefix('/');
    bare().unwrap_or(key.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn debounce() -> Debounce {
        Debounce::new(secs(10), secs(25)).expect("the delay is shorter")
    }

    #[test]
    fn a_key_is_free_by_the_event_of_its_rule() {
        let frees =
            |until: UniqueUntil| State::ALL.into_iter().filter(|state| until.is(*state)).collect::<Vec<_>>();
        let finals = [State::Succeeded, State::Dead, State::Cancelled];
        assert_eq!(frees(UniqueUntil::Settled), finals);
        assert_eq!(frees(UniqueUntil::Started), [&[State::Leased][..], &finals].concat());
        assert_eq!(frees(UniqueUntil::Over), []);
    }

    #[test]
    fn a_key_is_free_when_its_time_is_over() {
        let rule = UniqueRule { lasts: Some(secs(600)), ..UniqueRule::default() };
        let held = rule.hold(at(0));
        assert_eq!([599, 600].map(|now| held.is_in_force(at(now))), [true, false]);
        assert!(UniqueRule::default().hold(at(0)).is_in_force(at(u64::MAX / 1000)));
    }

    #[test]
    fn each_event_puts_a_trailing_job_off_until_the_longest_wait_of_the_first() {
        let rule = UniqueRule::trailing(debounce());
        let held = rule.hold(at(100));
        let due = |rule: UniqueRule, now| rule.clash(&held, true, at(now)).due;
        assert_eq!(
            [105, 114, 116, 124].map(|now| due(rule, now)),
            [115, 124, 125, 125].map(|due| Some(at(due)))
        );
        let patient = UniqueRule::trailing(Debounce::new(secs(1000), secs(9000)).expect("shorter"));
        assert_eq!(due(patient, 105), Some(at(125)), "whoever comes later can't raise it");
    }

    #[test]
    fn a_job_that_is_put_off_has_as_long_to_start_as_before() {
        assert_eq!(moved_along(at(40), at(10), at(15)), at(45));
        assert_eq!(moved_along(at(40), at(10), at(4)), at(34), "one that is due sooner has to start sooner");
        assert_eq!(
            moved_along(at(1), at(10), at(4)),
            at(0),
            "before its due time: it can't be less than nothing"
        );
    }

    #[test]
    fn a_job_that_runs_is_left_alone() {
        let held = UniqueRule { on_clash: OnClash::Replace, ..UniqueRule::default() }.hold(at(0));
        for on_clash in [OnClash::Keep, OnClash::Replace, OnClash::Debounce(debounce())] {
            let rule = UniqueRule { on_clash, ..UniqueRule::default() };
            assert_eq!(rule.clash(&held, false, at(1)), Clash::NOTHING, "{on_clash:?}");
        }
    }

    #[test]
    fn a_job_that_may_not_be_replaced_is_left_alone() {
        let (never, always) = (UniqueRule::default(), UniqueRule::trailing(debounce()));
        assert_eq!(always.clash(&never.hold(at(0)), true, at(1)), Clash::NOTHING);
        let leading = UniqueRule::leading(debounce());
        assert_eq!(
            leading.clash(&always.hold(at(0)), true, at(1)),
            Clash::NOTHING,
            "it shares its payload with none"
        );
    }

    #[test]
    fn a_job_that_is_not_debounced_keeps_its_time_and_gets_the_payload() {
        let rule = UniqueRule { on_clash: OnClash::Replace, ..UniqueRule::default() };
        let held = rule.hold(at(0));
        let clash = UniqueRule::trailing(debounce()).clash(&held, true, at(1));
        assert_eq!(clash, Clash { replaces: true, ..Clash::NOTHING });
    }

    #[test]
    fn later_events_hold_the_key_of_a_leading_job_on_and_change_nothing_else() {
        let rule = UniqueRule::leading(debounce());
        let held = rule.hold(at(100));
        assert_eq!(held.ends, Some(at(110)));
        let clash = |now| rule.clash(&held, true, at(now));
        assert_eq!(clash(105), Clash { ends: Some(at(115)), ..Clash::NOTHING });
        assert_eq!(clash(120).ends, Some(at(125)));
    }

    #[test]
    fn a_delay_is_shorter_than_the_longest_wait() {
        for (delay, longest) in [(10, 10), (11, 10)] {
            assert_eq!(Debounce::new(secs(delay), secs(longest)), Err(DelayTooLong));
        }
    }
}
