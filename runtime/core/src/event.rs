//! Events of jobs: what an observer outside is told of the changes of a tenant's jobs.
//!
//! A store records events in the step that makes the change, one for each change, in one order by tenant. It does so only while
//! somebody wants them: each reader says so, and is remembered for as long as events are kept. So whoever reads again within that
//! time has missed nothing, and a tenant that nobody observes costs nothing.
//!
//! Events are numbered without a gap. A reader goes on behind the number that it has read last; if what follows isn't kept any more,
//! it is told that it has missed some, and goes on with the first that is kept.
//!
//! An event names its job, and has neither payload nor output nor message.

use std::fmt;
use std::time::Duration;

use crate::id::{GroupKey, JobId, Kind, QueueName, TenantId};
use crate::job::State;
use crate::reason::Reason;
use crate::time::Timestamp;
use crate::transition::{Change, Next, Standing};

/// Maximum number of events on one page.
pub const EVENTS_PAGE_MAX: usize = 1000;

macro_rules! event_kinds {
    ($($(#[$doc:meta])* $name:ident = $slug:literal, $code:literal;)*) => {
        /// Kind of an event: a change of a job.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum EventKind { $($(#[$doc])* $name,)* }

        impl EventKind {
            /// Every kind of event, in the order of a job's life.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The name in the API and the docs.
            #[must_use]
            pub fn slug(self) -> &'static str {
                match self { $(Self::$name => $slug,)* }
            }

            /// Returns the kind of event with this slug; `None` if there is no such kind.
            #[must_use]
            pub fn from_slug(slug: &str) -> Option<Self> {
                match slug { $($slug => Some(Self::$name),)* _ => None }
            }

            /// Returns the number by which stores know it. It never changes.
            #[must_use]
            pub const fn code(self) -> u8 {
                match self { $(Self::$name => $code,)* }
            }

            /// Returns the kind of event with this [`Self::code`]; `None` if there is no such kind.
            #[must_use]
            pub fn from_code(code: u8) -> Option<Self> {
                match code { $($code => Some(Self::$name),)* _ => None }
            }
        }
    };
}

event_kinds! {
    /// The job was stored.
    Created = "created", 1;
    /// The job waits for no other any more: neither for jobs of its flow nor for its turn in its group.
    Unblocked = "unblocked", 2;
    /// The job was leased: an attempt begins.
    Started = "started", 3;
    /// An attempt failed, and the job is tried again.
    Retried = "retried", 4;
    /// The job was given back without an attempt that counts.
    Released = "released", 5;
    /// The daemon that held the job has vanished; the job waits again.
    LeaseExpired = "lease-expired", 6;
    /// The job is done.
    Succeeded = "succeeded", 7;
    /// The job was given up: it is a dead letter.
    Dead = "dead", 8;
    /// The job was cancelled, or its time to start is over.
    Cancelled = "cancelled", 9;
    /// The dead letter was put back.
    Redriven = "redriven", 10;
}

impl EventKind {
    /// Returns what an observer is told of a change of a stored job; `None` if nothing. `in_line` says whether the job waits for its
    /// turn in its group after the change.
    #[must_use]
    pub fn of(standing: &Standing, change: &Change<'_>, in_line: bool) -> Option<Self> {
        let after = change.state();
        match (standing.state, change.next) {
            (_, Next::Ends(State::Succeeded, _)) => Some(Self::Succeeded),
            (_, Next::Ends(State::Cancelled, _)) => Some(Self::Cancelled),
            (_, Next::Ends(..)) => Some(Self::Dead),
            (State::Leased, _) if change.lease != standing.lease => Some(Self::LeaseExpired),
            (State::Leased, _) if change.counts.attempts != standing.counts.attempts => Some(Self::Retried),
            (State::Leased, _) => Some(Self::Released),
            (before, _) if before.is_final() => Some(Self::Redriven),
            (State::Blocked, _) if after != State::Blocked && !in_line => Some(Self::Unblocked),
            _ => None,
        }
    }

    /// Whether the job is final by it.
    #[must_use]
    pub fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Dead | Self::Cancelled)
    }
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.slug())
    }
}

/// Returns the number of the attempt that a change is about: the one that was under way; `None` if none was.
#[must_use]
pub fn attempt_of(standing: &Standing) -> Option<u32> {
    (standing.state == State::Leased).then(|| standing.counts.attempts.saturating_add(1))
}

/// An event of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobEvent {
    /// Place of the event among those of its tenant.
    pub cursor: EventCursor,
    /// Time of the change.
    pub at: Timestamp,
    /// Kind of the event.
    pub event: EventKind,
    /// The job.
    pub job: JobId,
    /// Queue of the job.
    pub queue: QueueName,
    /// Kind of the job.
    pub kind: Kind,
    /// Group of the job in its queue; `None` if it belongs to none.
    pub group: Option<GroupKey>,
    /// Number of the attempt that begins or ends; `None` if none does.
    pub attempt: Option<u32>,
    /// Reason for the change; `None` where it is a matter of course.
    pub reason: Option<Reason>,
}

/// Place in a tenant's events: behind the one with this number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventCursor(pub u64);

/// Numbers that are left for each millisecond, so that those of a record that begins anew are behind all earlier ones.
pub const EVENTS_PER_MILLI: u64 = 1024;

impl EventCursor {
    /// Place before all events.
    pub const START: Self = Self(0);

    /// Returns the place at which a record begins anew at this time: behind the end of the one before, as far as that is known, with
    /// a gap between them.
    #[must_use]
    pub fn anew(now: Timestamp, end: Option<Self>) -> Self {
        Self(now.as_millis().saturating_mul(EVENTS_PER_MILLI)).max(end.map_or(Self::START, Self::next))
    }

    /// Returns the place behind the next event.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// Returns the form in which readers keep the place; it says whose events it is among.
    #[must_use]
    pub fn to_text(self, tenant: &TenantId) -> String {
        format!("{tenant}@{:x}", self.0)
    }

    /// Reads the form of [`Self::to_text`].
    ///
    /// # Errors
    /// [`NoCursor`] if it hasn't this form, or is a place among the events of another tenant.
    pub fn parse(text: &str, tenant: &TenantId) -> Result<Self, NoCursor> {
        let (of, number) = text.split_once('@').ok_or(NoCursor::Form)?;
        let number = u64::from_str_radix(number, 16).map_err(|_| NoCursor::Form)?;
        if of == tenant.as_str() { Ok(Self(number)) } else { Err(NoCursor::OfAnother) }
    }
}

/// Reason why a text is no place in a tenant's events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoCursor {
    /// The text isn't written like one.
    #[error("this is no place in a stream of events; `next` of an earlier answer is one")]
    Form,
    /// The place is in the events of another tenant.
    #[error("this is a place in the events of another tenant")]
    OfAnother,
}

/// Retention of a tenant's events, by age and by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventKeep {
    /// Time for which events are kept, and for which they are recorded after a reader has last asked for it.
    pub time: Duration,
    /// Maximum number of events.
    pub max: u32,
}

impl EventKeep {
    /// Shortest [`Self::time`] that readers can be expected to keep up with.
    pub const TIME_MIN: Duration = Duration::from_secs(60);
    /// Longest [`Self::time`].
    pub const TIME_MAX: Duration = Duration::from_secs(7 * 24 * 60 * 60);
    /// Largest [`Self::max`].
    pub const MAX_MAX: u32 = 1_000_000;
}

impl Default for EventKeep {
    fn default() -> Self {
        Self { time: Duration::from_secs(60 * 60), max: 10_000 }
    }
}

/// The events of a tenant that are kept, as far as their numbers tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventSpan {
    /// Place before the first of them.
    pub before: EventCursor,
    /// Place behind the last of them.
    pub end: EventCursor,
}

impl EventSpan {
    /// Returns the place from which a reader goes on that has read up to `after`, and whether it has missed events.
    ///
    /// A place that isn't among these events, such as one from before the record began anew, is as good as one before them all.
    #[must_use]
    pub fn go_on(self, after: EventCursor) -> (EventCursor, bool) {
        let is_known = (self.before..=self.end).contains(&after);
        if is_known { (after, false) } else { (self.before, after != EventCursor::START) }
    }
}

/// A page of a tenant's events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventPage {
    /// The events, in their order.
    pub events: Vec<JobEvent>,
    /// The place behind them, for the next page.
    pub next: EventCursor,
    /// Whether there are more behind them already.
    pub has_more: bool,
    /// Whether the reader has missed events before these: they aren't kept any more, or weren't recorded.
    pub has_gap: bool,
}

impl EventPage {
    /// Creates the page of a reader that has read up to `after`, where this is kept (`None` if nothing is recorded), and the next
    /// `read` events were looked at. Those of them that this version can't read are left out.
    #[must_use]
    pub fn of(after: EventCursor, kept: Option<EventSpan>, read: usize, events: Vec<JobEvent>) -> Self {
        let Some(kept) = kept else {
            let has_gap = after != EventCursor::START;
            return Self { events, next: EventCursor::START, has_more: false, has_gap };
        };
        let (from, has_gap) = kept.go_on(after);
        let next = EventCursor(from.0.saturating_add(read as u64));
        Self { events, next, has_more: next < kept.end, has_gap }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::LeaseNo;
    use crate::settle::Settlement;
    use crate::transition::{Acted, JobAction, JobCounts, Keep};

    fn standing(state: State) -> Standing {
        let counts = JobCounts { attempts: 2, ..JobCounts::default() };
        Standing { state, lease: LeaseNo(3), counts, cancel_requested: false }
    }

    #[test]
    fn every_kind_of_event_has_a_name_and_a_number_of_its_own() {
        for &kind in EventKind::ALL {
            assert_eq!(EventKind::from_slug(kind.slug()), Some(kind));
            assert_eq!(EventKind::from_code(kind.code()), Some(kind));
            assert_eq!(kind.is_final(), State::from_slug(kind.slug()).is_some_and(State::is_final));
        }
        assert_eq!(EventKind::from_code(0), None);
    }

    #[test]
    fn each_end_of_a_lease_is_told_as_what_it_is() {
        let leased = standing(State::Leased);
        let (reason, message) = (Reason::Failed, String::new());
        let after = Duration::from_secs(1);
        for (settlement, told) in [
            (
                Settlement::Succeed { output: Vec::new(), effects: crate::effects::Effects::default() },
                EventKind::Succeeded,
            ),
            (Settlement::Retry { after, reason, message: message.clone() }, EventKind::Retried),
            (Settlement::Release { after, reason: Reason::NoRoom }, EventKind::Released),
            (Settlement::Bury { reason, message }, EventKind::Dead),
            (Settlement::Cancel, EventKind::Cancelled),
        ] {
            let change = leased.settled(&settlement, Keep::default());
            assert_eq!(EventKind::of(&leased, &change, false), Some(told));
        }
        assert_eq!(EventKind::of(&leased, &leased.taken_back(5), true), Some(EventKind::LeaseExpired));
        assert_eq!(EventKind::of(&leased, &leased.taken_back(0), false), Some(EventKind::Dead));
        assert_eq!(attempt_of(&leased), Some(3));
        assert_eq!(attempt_of(&standing(State::Ready)), None);
    }

    #[test]
    fn a_job_that_waits_is_told_of_when_it_waits_for_no_other_any_more() {
        let blocked = standing(State::Blocked);
        let unblocked = blocked.unblocked(Duration::from_secs(1));
        assert_eq!(EventKind::of(&blocked, &unblocked, false), Some(EventKind::Unblocked));
        assert_eq!(EventKind::of(&blocked, &blocked.made_ready(), true), None, "it waits for its turn");
        let scheduled = standing(State::Scheduled);
        assert_eq!(EventKind::of(&scheduled, &scheduled.made_ready(), false), None);
        let Acted::Revive(change) = standing(State::Dead).acted(JobAction::Redrive) else {
            panic!("it is dead")
        };
        for change in [change.clone(), change.blocked()] {
            assert_eq!(EventKind::of(&standing(State::Dead), &change, false), Some(EventKind::Redriven));
        }
    }

    #[test]
    fn a_place_is_one_of_its_tenant() {
        let tenant = |name| TenantId::parse(name).expect("a valid name");
        let place = EventCursor(0x1f);
        let text = place.to_text(&tenant("acme"));
        assert_eq!(EventCursor::parse(&text, &tenant("acme")), Ok(place));
        assert_eq!(EventCursor::parse(&text, &tenant("other")), Err(NoCursor::OfAnother));
        for text in ["", "acme", "acme@", "acme@-1", "acme@zz", "12"] {
            assert_eq!(EventCursor::parse(text, &tenant("acme")), Err(NoCursor::Form), "{text}");
        }
    }

    #[test]
    fn a_reader_goes_on_where_it_was_or_is_told_of_a_gap() {
        let kept = EventSpan { before: EventCursor(10), end: EventCursor(20) };
        let page = |after| EventPage::of(EventCursor(after), Some(kept), 0, Vec::new());
        assert_eq!((page(0).next, page(0).has_gap), (EventCursor(10), false), "from the beginning");
        assert_eq!((page(10).next, page(10).has_gap), (EventCursor(10), false));
        assert_eq!((page(20).next, page(20).has_gap, page(20).has_more), (EventCursor(20), false, false));
        assert_eq!((page(9).next, page(9).has_gap, page(9).has_more), (EventCursor(10), true, true));
        assert_eq!((page(21).next, page(21).has_gap), (EventCursor(10), true), "it was never given out");
        let nothing = EventPage::of(EventCursor(7), None, 0, Vec::new());
        assert_eq!((nothing.next, nothing.has_gap), (EventCursor::START, true));
        let [first, later] = [1, 2].map(|millis| EventCursor::anew(Timestamp::from_millis(millis), None));
        assert_eq!(later.0, first.0 + EVENTS_PER_MILLI);
        let at_once = EventCursor::anew(Timestamp::from_millis(1), Some(first));
        assert!(EventSpan { before: at_once, end: at_once }.go_on(first).1, "a gap is told of");
    }
}
