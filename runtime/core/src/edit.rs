//! Edits of jobs that wait: what may be changed about which job, and what becomes of its place.
//!
//! | state | payload | priority | time |
//! |---|---|---|---|
//! | scheduled | yes | yes | yes |
//! | ready | yes | yes, it keeps its place among those of its new priority | yes, it is put off |
//! | blocked | yes | yes, it keeps its number in its group's line | no, it waits for others |
//! | leased, final | no | no | no |
//!
//! A unique key stays as it is, whatever the payload: it is the producer's word, and not read from the payload. In a strict
//! group an edit changes nothing about who comes before whom.

use std::time::Duration;

use crate::job::{Priority, State};
use crate::quota::PayloadExcess;
use crate::time::Timestamp;
use crate::transition::{Change, Next, Standing};
use crate::unique::moved_along;

/// Edit of a job. What is `None` stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobEdit {
    /// Payload in place of the one before.
    pub payload: Option<Vec<u8>>,
    /// Priority in place of the one before.
    pub priority: Option<Priority>,
    /// Time at which the job is due.
    pub due: Option<Due>,
}

impl JobEdit {
    /// Whether the edit changes nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Time at which an edited job is due, by the broker's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// After this time; zero for at once.
    After(Duration),
    /// At this time; at once if it is over.
    At(Timestamp),
}

impl Due {
    /// Returns the time until then, zero for at once.
    #[must_use]
    pub fn delay(self, now: Timestamp) -> Duration {
        match self {
            Self::After(delay) => delay,
            Self::At(at) => at.since(now),
        }
    }
}

/// Result of an edit. But for [`Edited::Done`], nothing was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Edited {
    /// The job is as the edit has it.
    Done,
    /// A job in this state can't be edited; if it is [`State::Blocked`], it has no time that could be.
    Not(State),
    /// The payload would pass a bound.
    Excess(PayloadExcess),
    /// The tenant has no such job.
    Unknown,
    /// This version can't read what is stored of the job.
    Unreadable,
}

impl Standing {
    /// Returns the change of place that an edit makes which has the job due after `delay`, or `None` if it stays where it is.
    ///
    /// # Errors
    /// The state, if a job in it can't be edited so.
    pub fn edited(&self, delay: Option<Duration>) -> Result<Option<Change<'static>>, State> {
        match (self.state, delay) {
            (State::Leased | State::Succeeded | State::Dead | State::Cancelled, _) => Err(self.state),
            (State::Blocked, Some(_)) => Err(self.state),
            (State::Blocked | State::Scheduled | State::Ready, None) => Ok(None),
            (State::Ready, Some(Duration::ZERO)) => Ok(None),
            (State::Scheduled | State::Ready, Some(delay)) => Ok(Some(self.goes(Next::Waits(delay)))),
        }
    }
}

/// Returns the time by which a job has to start that was due `before` and is due at another time now: one that is put off has as
/// long from its due time on as it had; one that is brought forward keeps its time.
#[must_use]
pub fn start_by_after_edit(start_by: Timestamp, before: Timestamp, due: Timestamp) -> Timestamp {
    moved_along(start_by, before, due.max(before))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::LeaseNo;
    use crate::transition::JobCounts;

    fn standing(state: State) -> Standing {
        let counts = JobCounts { attempts: 2, expiries: 1, faults: 0 };
        Standing { state, lease: LeaseNo(3), counts, cancel_requested: false }
    }

    #[test]
    fn what_waits_can_be_edited_and_nothing_else() {
        for state in State::ALL {
            assert_eq!(standing(state).edited(None).is_ok(), state.waits(), "{state}");
        }
    }

    #[test]
    fn a_job_that_waits_for_others_has_no_time() {
        for delay in [Duration::ZERO, Duration::from_secs(1)] {
            assert_eq!(standing(State::Blocked).edited(Some(delay)), Err(State::Blocked));
        }
    }

    #[test]
    fn a_time_moves_the_job_and_leaves_its_counts() {
        let second = Duration::from_secs(1);
        for (state, delay, goes_to) in [
            (State::Scheduled, second, Some(State::Scheduled)),
            (State::Scheduled, Duration::ZERO, Some(State::Ready)),
            (State::Ready, second, Some(State::Scheduled)),
            (State::Ready, Duration::ZERO, None),
        ] {
            let standing = standing(state);
            let change = standing.edited(Some(delay)).expect("it can be edited");
            assert_eq!(change.as_ref().map(Change::state), goes_to, "{state} {delay:?}");
            if let Some(change) = change {
                let (counts, lease, why) = (change.counts, change.lease, change.why);
                assert_eq!((counts, lease, why), (standing.counts, standing.lease, None));
            }
        }
    }

    #[test]
    fn a_time_that_is_over_means_at_once() {
        let at = Timestamp::from_millis;
        assert_eq!(Due::At(at(5)).delay(at(7)), Duration::ZERO);
        assert_eq!(Due::At(at(7)).delay(at(5)), Duration::from_millis(2));
    }

    #[test]
    fn a_job_that_is_put_off_may_start_later_by_as_much() {
        let at = Timestamp::from_millis;
        assert_eq!(start_by_after_edit(at(40), at(10), at(15)), at(45));
        assert_eq!(
            start_by_after_edit(at(40), at(10), at(4)),
            at(40),
            "one that is brought forward may take its time"
        );
    }
}
