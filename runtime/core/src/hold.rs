//! Holds: what keeps jobs from being leased that could run otherwise.
//!
//! A hold has a scope, which says which jobs it holds back, and perhaps an end. It concerns what is leased from now on: what runs
//! goes on, and what comes in, or comes back after a retry, waits with the others. So a hold drains what it covers.

use std::fmt;
use std::time::Duration;

use crate::id::{JobId, Kind, QueueName};
use crate::reason::Reason;
use crate::time::Timestamp;

/// Maximum number of holds of a tenant.
pub const HOLDS_MAX: usize = 250;

/// Maximum length of a hold's note, and of the name of who made the hold, in bytes.
pub const HOLD_TEXT_MAX: usize = 500;

/// The name of who made a hold that a daemon makes by itself.
pub const DAEMON: &str = "sandhog";

/// Scope of a hold: the jobs of a tenant that it covers. A part that is `None` may be anything, so a scope without parts covers
/// all jobs of the tenant.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct HoldScope {
    /// The queue of the jobs.
    pub queue: Option<QueueName>,
    /// The kind of the jobs.
    pub kind: Option<Kind>,
}

impl HoldScope {
    /// Whether jobs of this kind in this queue are covered.
    #[must_use]
    pub fn covers(&self, queue: &QueueName, kind: &Kind) -> bool {
        self.queue.as_ref().is_none_or(|own| own == queue) && self.kind.as_ref().is_none_or(|own| own == kind)
    }

    /// Whether all jobs in this queue are covered, whatever their kind.
    #[must_use]
    pub fn covers_queue(&self, queue: &QueueName) -> bool {
        self.kind.is_none() && self.queue.as_ref().is_none_or(|own| own == queue)
    }

    /// Whether all jobs of the tenant are covered.
    #[must_use]
    pub fn covers_all(&self) -> bool {
        self.kind.is_none() && self.queue.is_none()
    }
}

impl fmt::Display for HoldScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.queue, &self.kind) {
            (None, None) => f.write_str("all jobs"),
            (Some(queue), None) => write!(f, "queue {queue}"),
            (None, Some(kind)) => write!(f, "kind {kind}"),
            (Some(queue), Some(kind)) => write!(f, "kind {kind} in queue {queue}"),
        }
    }
}

/// Reason for a hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HoldReason {
    /// Somebody paused the jobs.
    Paused,
    /// A breaker is open.
    Breaker,
    /// A breaker is half-open: few of the jobs at once may run.
    HalfOpen,
    /// The service that the jobs call takes no more calls for now, as a handler has said.
    RateLimited,
}

impl HoldReason {
    /// Every reason.
    pub const ALL: [Self; 4] = [Self::Paused, Self::Breaker, Self::HalfOpen, Self::RateLimited];

    /// The name in the API, the store and the docs.
    #[must_use]
    pub fn slug(self) -> &'static str {
        match self {
            Self::Paused => "paused",
            Self::Breaker => "breaker",
            Self::HalfOpen => "half-open",
            Self::RateLimited => "rate-limited",
        }
    }

    /// Returns the reason with this slug; `None` if there is no such reason.
    #[must_use]
    pub fn from_slug(slug: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.slug() == slug)
    }
}

impl fmt::Display for HoldReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.slug())
    }
}

/// A hold that is in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// The jobs that are held back.
    pub scope: HoldScope,
    /// Reason for the hold.
    pub reason: HoldReason,
    /// Name of the person who made the hold, as they call themselves, or of the breaker that did; `None` if that is unknown.
    pub by: Option<String>,
    /// Time since which the jobs are held back.
    pub since: Timestamp,
    /// Time at which the hold ends by itself; `None` if somebody has to lift it.
    pub until: Option<Timestamp>,
    /// Remark of who made the hold.
    pub note: Option<String>,
}

/// A hold that somebody asks for. It replaces one of the same scope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewHold {
    /// The jobs that are to be held back.
    pub scope: HoldScope,
    /// Reason for the hold.
    pub reason: HoldReason,
    /// Name of the person who asks, as they call themselves; at most [`HOLD_TEXT_MAX`] bytes.
    pub by: Option<String>,
    /// The end of the hold.
    pub end: HoldEnd,
    /// A remark; at most [`HOLD_TEXT_MAX`] bytes.
    pub note: Option<String>,
}

/// End of a hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HoldEnd {
    /// The hold ends when somebody lifts it.
    Lifted,
    /// The hold ends by itself after this time.
    After(Duration),
    /// The hold ends by itself at this time.
    At(Timestamp),
}

impl HoldEnd {
    /// Returns the time of the end of what begins at `now`, or `None` if it doesn't end by itself.
    #[must_use]
    pub fn time(self, now: Timestamp) -> Option<Timestamp> {
        match self {
            Self::Lifted => None,
            Self::After(time) => Some(now.after(time)),
            Self::At(until) => Some(until),
        }
    }
}

/// The name or the note of a hold is too long.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} of a hold has {bytes} bytes, and at most {HOLD_TEXT_MAX} are kept: shorten it")]
pub struct HoldTextTooLong {
    what: &'static str,
    bytes: usize,
}

impl NewHold {
    /// Creates a pause, by nobody in particular and without end.
    #[must_use]
    pub fn pause(scope: HoldScope) -> Self {
        Self { scope, reason: HoldReason::Paused, by: None, end: HoldEnd::Lifted, note: None }
    }

    /// Creates the pause of jobs of which one has used up its attempts. The note names that one.
    #[must_use]
    pub fn of_exhausted(scope: HoldScope, job: JobId, last: Reason) -> Self {
        let note = format!("job {job} has used up its attempts: {last}");
        Self { by: Some(DAEMON.to_owned()), note: Some(note), ..Self::pause(scope) }
    }

    /// Checks that the texts are within their bounds.
    ///
    /// # Errors
    /// If one of them isn't.
    pub fn check(&self) -> Result<(), HoldTextTooLong> {
        for (what, text) in [("the note", &self.note), ("the maker's name", &self.by)] {
            let bytes = text.as_ref().map_or(0, String::len);
            if bytes > HOLD_TEXT_MAX {
                return Err(HoldTextTooLong { what, bytes });
            }
        }
        Ok(())
    }

    /// Returns the hold as it is in force from `now` on. Where a hold of the same scope was in force `before`, the jobs have been
    /// held back since then.
    #[must_use]
    pub fn made(self, before: Option<&Hold>, now: Timestamp) -> Hold {
        let Self { scope, reason, by, end, note } = self;
        let until = end.time(now);
        let since = before.filter(|hold| hold.is_in_force(now)).map_or(now, |hold| hold.since);
        Hold { scope, reason, by, since, until, note }
    }
}

impl Hold {
    /// Whether somebody made the hold, and can lift it by its scope. If not, a breaker did.
    #[must_use]
    pub fn is_by_hand(&self) -> bool {
        self.reason == HoldReason::Paused
    }

    /// Whether the hold hasn't ended by itself.
    #[must_use]
    pub fn is_in_force(&self, now: Timestamp) -> bool {
        self.until.is_none_or(|until| until > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(queue: Option<&str>, kind: Option<&str>) -> HoldScope {
        let queue = queue.map(|name| QueueName::parse(name).expect("valid"));
        HoldScope { queue, kind: kind.map(|name| Kind::parse(name).expect("valid")) }
    }

    #[test]
    fn a_hold_covers_what_each_of_its_parts_names() {
        let (mail, other) =
            (QueueName::parse("mail").expect("valid"), QueueName::parse("other").expect("valid"));
        let (send, sort) = (Kind::parse("send").expect("valid"), Kind::parse("sort").expect("valid"));
        let covered = |scope: HoldScope| {
            let jobs = [(&mail, &send), (&mail, &sort), (&other, &send), (&other, &sort)];
            jobs.map(|(queue, kind)| scope.covers(queue, kind))
        };
        assert_eq!(covered(scope(None, None)), [true; 4]);
        assert_eq!(covered(scope(Some("mail"), None)), [true, true, false, false]);
        assert_eq!(covered(scope(None, Some("send"))), [true, false, true, false]);
        assert_eq!(covered(scope(Some("mail"), Some("send"))), [true, false, false, false]);
    }

    #[test]
    fn only_a_hold_without_kind_covers_a_whole_queue() {
        let mail = QueueName::parse("mail").expect("valid");
        let whole = [(None, None), (Some("mail"), None), (Some("other"), None), (Some("mail"), Some("send"))];
        let covers = whole.map(|(queue, kind)| scope(queue, kind).covers_queue(&mail));
        assert_eq!(covers, [true, true, false, false]);
    }

    #[test]
    fn a_hold_ends_at_its_time_and_not_before() {
        let at = Timestamp::from_millis;
        let pause = |end| NewHold { end, ..NewHold::pause(scope(None, None)) }.made(None, at(1_000));
        assert!(pause(HoldEnd::Lifted).is_in_force(at(u64::MAX)));
        for end in [HoldEnd::After(Duration::from_secs(1)), HoldEnd::At(at(2_000))] {
            assert_eq!([1_999, 2_000].map(|now| pause(end).is_in_force(at(now))), [true, false]);
        }
    }

    #[test]
    fn what_is_held_again_has_been_held_since_the_first_time() {
        let at = Timestamp::from_millis;
        let new = NewHold { end: HoldEnd::At(at(20)), ..NewHold::pause(scope(None, None)) };
        let first = new.clone().made(None, at(10));
        assert_eq!(new.clone().made(Some(&first), at(19)).since, at(10));
        assert_eq!(new.made(Some(&first), at(20)).since, at(20), "it had ended");
    }

    #[test]
    fn texts_are_bounded() {
        let pause = |bytes| NewHold { note: Some("x".repeat(bytes)), ..NewHold::pause(scope(None, None)) };
        assert_eq!(pause(HOLD_TEXT_MAX).check(), Ok(()));
        assert!(pause(HOLD_TEXT_MAX + 1).check().is_err_and(|error| error.to_string().contains("501 bytes")));
    }
}
