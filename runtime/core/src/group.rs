//! Groups: jobs of one queue that share a key, such as a customer; how many of a group run at once, and in which order.
//!
//! A queue may have a rule for its groups. Then a job that is to become ready first needs one of its group's **turns**, of
//! which there are so many. While there is none, the job is [blocked](crate::job::State::Blocked): it waits in its group's
//! line. Whenever a turn is given up, the first in line takes it and becomes ready, behind the ready jobs of its queue. So
//! what waits in a long line is in nobody's way, and no group has more ready jobs than it has turns.
//!
//! Turns are facts about jobs, and not a count of them: a group has as many left as its rule says, less its jobs that have
//! one. So none can leak.

use std::num::NonZeroU16;

use crate::fair::FairRule;
use crate::id::JobId;
use crate::job::{Priority, State};
use crate::time::Timestamp;
use crate::transition::Next;

/// Maximum number of jobs of a group that a rule lets run at once.
pub const GROUP_CONCURRENCY_MAX: u16 = 1000;

/// Rule of a queue for the groups of its jobs, which holds for all daemons together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum QueueRule {
    /// Each group has so many turns.
    Turns(GroupRule),
    /// Any number of jobs of a group run at once, and groups share by weight.
    Fair(FairRule),
}

impl From<GroupRule> for QueueRule {
    fn from(rule: GroupRule) -> Self {
        Self::Turns(rule)
    }
}

/// Rule of a queue for the turns of the groups of its jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupRule {
    /// Of each group at most this many jobs are ready or leased at once; the others wait by priority and then in the order in
    /// which they came.
    Concurrency(NonZeroU16),
    /// Of each group one job at a time runs, in the order in which they came, whatever their priorities. A job keeps its turn
    /// until it is final, also while it waits to be tried again.
    Strict(OnDead),
}

/// Turns of a group, as far as they are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupTurns {
    /// Number of jobs that have a turn, counted up to [`GROUP_CONCURRENCY_MAX`].
    pub taken: u16,
    /// Number of turns that the rule of the queue gives to each group.
    pub most: u16,
    /// The job with a turn that was enqueued first, by its id; `None` if no job has one.
    pub holder: Option<TurnHolder>,
}

/// Job that has a turn of its group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TurnHolder {
    /// The job.
    pub job: JobId,
    /// Whether it is dead, and so holds its group until somebody sees to it.
    pub is_dead: bool,
}

/// Treatment of a strictly ordered group of which a job has died.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnDead {
    /// The group is held: its jobs wait until the dead one is redriven, removed or passed over by somebody.
    #[default]
    Hold,
    /// The group goes on with its next job.
    Skip,
    /// The jobs that wait behind the dead one are cancelled, and then the group goes on with those that came later. Sweeps do that, so
    /// the group is held until then.
    CancelRest,
}

/// Fate of a job's turn when the job goes to another state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// The job keeps it.
    Kept,
    /// The job gives it up, and the next in line takes it.
    GivenUp,
    /// The job is dead and keeps it, so its group is held.
    Held,
}

impl Turn {
    /// Returns what becomes of the turn of a job that goes to `next`, by the rule of its queue, if that has one.
    #[must_use]
    pub fn after(next: Next, rule: Option<GroupRule>) -> Self {
        match (next, rule) {
            (Next::Waits(after), _) if after.is_zero() => Self::Kept,
            (Next::Waits(_), Some(GroupRule::Strict(_))) => Self::Kept,
            (Next::Ends(State::Dead, _), Some(GroupRule::Strict(OnDead::Hold | OnDead::CancelRest))) => {
                Self::Held
            }
            (Next::Blocked | Next::Waits(_) | Next::Ends(..), _) => Self::GivenUp,
        }
    }
}

impl GroupRule {
    /// Number of turns that each group has.
    #[must_use]
    pub fn turns(self) -> u16 {
        match self {
            Self::Concurrency(turns) => turns.get(),
            Self::Strict(_) => 1,
        }
    }

    /// Returns the rank in line of a job of this priority: the lowest goes first, and equals in the order in which they came.
    #[must_use]
    pub fn rank(self, priority: Priority) -> u8 {
        let Priority(priority) = match self {
            Self::Concurrency(_) => priority,
            Self::Strict(_) => Priority::default(),
        };
        u8::MAX - priority
    }
}

impl OnDead {
    /// Every answer.
    pub const ALL: [Self; 3] = [Self::Hold, Self::Skip, Self::CancelRest];

    /// The name in configuration and docs.
    #[must_use]
    pub fn slug(self) -> &'static str {
        match self {
            Self::Hold => "hold",
            Self::Skip => "skip",
            Self::CancelRest => "cancel-rest",
        }
    }
}

/// Whether a job in line is one of those that waited behind a dead one. The first in line that isn't ends them.
#[must_use]
pub fn is_of_rest(enqueued_at: Timestamp, died_at: Timestamp) -> bool {
    enqueued_at <= died_at
}

/// Returns the message, for people, of a job that is cancelled as it waited behind one that is dead.
#[must_use]
pub fn message_of_rest(dead: JobId) -> String {
    let [before, behind] = REST_CANCELLED;
    format!("{before}{dead}{behind}")
}

/// Parts of that message, before and behind the id of the dead job; functions in Redis tell the same.
pub const REST_CANCELLED: [&str; 2] = ["job ", ", which it waited behind in its group, is dead"];

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use proptest::prelude::*;
    use proptest::sample::select;

    fn rules() -> Vec<GroupRule> {
        let some =
            [1, 7, GROUP_CONCURRENCY_MAX].map(|n| GroupRule::Concurrency(NonZeroU16::new(n).expect("not 0")));
        some.into_iter().chain(OnDead::ALL.map(GroupRule::Strict)).collect()
    }

    fn ends(state: State) -> Next {
        Next::Ends(state, Duration::from_secs(1))
    }

    #[test]
    fn a_job_that_goes_on_at_once_keeps_its_turn_and_one_that_is_done_gives_it_up() {
        for rule in rules().into_iter().map(Some).chain([None]) {
            assert_eq!(Turn::after(Next::Waits(Duration::ZERO), rule), Turn::Kept, "{rule:?}");
            for state in [State::Succeeded, State::Cancelled] {
                assert_eq!(Turn::after(ends(state), rule), Turn::GivenUp, "{rule:?}");
            }
        }
    }

    #[test]
    fn a_strict_order_outlasts_retries_and_a_dead_job_holds_it_if_it_is_to() {
        let waits = Next::Waits(Duration::from_millis(1));
        for rule in rules() {
            let is_strict = matches!(rule, GroupRule::Strict(_));
            assert_eq!(Turn::after(waits, Some(rule)) == Turn::Kept, is_strict, "{rule:?}");
            let holds = is_strict && rule != GroupRule::Strict(OnDead::Skip);
            assert_eq!(Turn::after(ends(State::Dead), Some(rule)) == Turn::Held, holds, "{rule:?}");
        }
        assert_eq!(Turn::after(waits, None), Turn::GivenUp);
    }

    #[test]
    fn the_rest_is_what_had_come_when_a_job_died() {
        let at = Timestamp::from_millis;
        assert!(is_of_rest(at(1), at(2)) && is_of_rest(at(2), at(2)) && !is_of_rest(at(3), at(2)));
    }

    proptest! {
        #[test]
        fn a_higher_priority_goes_first_unless_the_order_is_strict(a: u8, b: u8, rule in select(rules())) {
            let (one, other) = (rule.rank(Priority(a)), rule.rank(Priority(b)));
            match rule {
                GroupRule::Concurrency(_) => prop_assert_eq!(one.cmp(&other), b.cmp(&a)),
                GroupRule::Strict(_) => prop_assert_eq!(one, other),
            }
        }
    }
}
