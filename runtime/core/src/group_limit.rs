//! Limits of single groups, set by hand while everything runs, in place of the limit that their queue gives to each of its groups.
//!
//! The most specific limit wins: that of the group, and then that of its queue. A limit that is switched off, or has ended, is as
//! none; it doesn't matter to a queue whose rule is of another kind.

use std::num::NonZeroU16;

use crate::group::GroupRule;
use crate::hold::HoldEnd;
use crate::id::{GroupKey, PluginName, QueueName};
use crate::rate::{FullAt, RateOf};
use crate::time::Timestamp;

/// Maximum number of limits of single groups of a tenant.
pub const GROUP_LIMITS_MAX: usize = 250;

/// Maximum length of a limit's note, and of the name of who set it, in bytes.
pub const GROUP_LIMIT_TEXT_MAX: usize = 500;

/// Limit of one group, which stays until it ends or is removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupLimit {
    /// The queue.
    pub queue: QueueName,
    /// The group.
    pub group: GroupKey,
    /// Maximum number of jobs of the group that are ready or leased at once.
    pub concurrency: NonZeroU16,
    /// Whether it counts. If not, it is kept for later.
    pub is_on: bool,
    /// Name of the person who set it, as they call themselves; `None` if that is unknown.
    pub by: Option<String>,
    /// Time at which it was set.
    pub since: Timestamp,
    /// Time at which it ends by itself; `None` if somebody has to remove it.
    pub until: Option<Timestamp>,
    /// Remark of who set it.
    pub note: Option<String>,
}

/// Limit of one group that somebody asks for. It replaces the one that the group has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewGroupLimit {
    /// Maximum number of jobs of the group that are ready or leased at once.
    pub concurrency: NonZeroU16,
    /// Name of the person who asks, as they call themselves; at most [`GROUP_LIMIT_TEXT_MAX`] bytes.
    pub by: Option<String>,
    /// The end of the limit.
    pub end: HoldEnd,
    /// A remark; at most [`GROUP_LIMIT_TEXT_MAX`] bytes.
    pub note: Option<String>,
}

/// Change of the limit of one group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GroupLimitChange {
    /// Sets the limit, which counts from now on.
    Set(NewGroupLimit),
    /// Has the limit count, or not count, and keeps all else of it.
    Switch {
        /// Whether it counts.
        is_on: bool,
    },
    /// Removes the limit.
    Unset,
}

/// Use of the limits of a tenant, all of one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitsUse {
    /// The time by the store's clock.
    pub now: Timestamp,
    /// Number of jobs that are leased under each fleet limit, by name. Those under which none is are left out.
    pub leased: Vec<(PluginName, u64)>,
    /// States of the rate limits of which not all tokens are there, in their order.
    pub rates: Vec<(RateOf, FullAt)>,
    /// The limits of single groups that haven't ended, by queue and group, each with the number of jobs of the group that are
    /// ready or leased, counted up to [`GROUP_CONCURRENCY_MAX`](crate::group::GROUP_CONCURRENCY_MAX).
    pub groups: Vec<(GroupLimit, u16)>,
}

/// The name or the note of a limit is too long.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} of a limit has {bytes} bytes, and at most {GROUP_LIMIT_TEXT_MAX} are kept: shorten it")]
pub struct LimitTextTooLong {
    what: &'static str,
    bytes: usize,
}

impl NewGroupLimit {
    /// Checks that the texts are within their bounds.
    ///
    /// # Errors
    /// If one of them isn't.
    pub fn check(&self) -> Result<(), LimitTextTooLong> {
        for (what, text) in [("the note", &self.note), ("the setter's name", &self.by)] {
            let bytes = text.as_ref().map_or(0, String::len);
            if bytes > GROUP_LIMIT_TEXT_MAX {
                return Err(LimitTextTooLong { what, bytes });
            }
        }
        Ok(())
    }

    /// Returns the limit of this group as it is in force from `now` on.
    #[must_use]
    pub fn made(self, queue: QueueName, group: GroupKey, now: Timestamp) -> GroupLimit {
        let Self { concurrency, by, end, note } = self;
        let until = end.time(now);
        GroupLimit { queue, group, concurrency, is_on: true, by, since: now, until, note }
    }
}

impl GroupLimit {
    /// Whether the limit has ended by itself.
    #[must_use]
    pub fn has_ended(&self, now: Timestamp) -> bool {
        self.until.is_some_and(|until| until <= now)
    }

    /// Whether the limit counts.
    #[must_use]
    pub fn is_in_force(&self, now: Timestamp) -> bool {
        self.is_on && !self.has_ended(now)
    }
}

impl GroupRule {
    /// Returns the number of turns of a group that has this limit, if it has one of its own.
    #[must_use]
    pub fn turns_with(self, limit: Option<&GroupLimit>, now: Timestamp) -> u16 {
        match (self, limit.filter(|limit| limit.is_in_force(now))) {
            (Self::Concurrency(_), Some(limit)) => limit.concurrency.get(),
            (rule, _) => rule.turns(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::group::OnDead;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    fn turns(n: u16) -> NonZeroU16 {
        NonZeroU16::new(n).expect("not 0")
    }

    fn new(end: HoldEnd) -> NewGroupLimit {
        NewGroupLimit { concurrency: turns(50), by: None, end, note: None }
    }

    fn limit(end: HoldEnd) -> GroupLimit {
        new(end).made("mails".parse().expect("valid"), "acme".parse().expect("valid"), at(10))
    }

    #[test]
    fn the_limit_of_the_group_wins_over_that_of_its_queue_while_it_counts() {
        let rule = GroupRule::Concurrency(turns(5));
        let (kept, ends) = (limit(HoldEnd::Lifted), limit(HoldEnd::After(Duration::from_secs(5))));
        assert_eq!(rule.turns_with(None, at(10)), 5);
        assert_eq!(rule.turns_with(Some(&kept), at(1_000_000)), 50);
        assert_eq!([14, 15].map(|now| rule.turns_with(Some(&ends), at(now))), [50, 5], "it has ended");
        assert_eq!(rule.turns_with(Some(&GroupLimit { is_on: false, ..kept.clone() }), at(10)), 5);
        assert_eq!(GroupRule::Strict(OnDead::Hold).turns_with(Some(&kept), at(10)), 1);
    }

    #[test]
    fn texts_are_bounded() {
        let with = |bytes| NewGroupLimit { note: Some("x".repeat(bytes)), ..new(HoldEnd::Lifted) };
        assert_eq!(with(GROUP_LIMIT_TEXT_MAX).check(), Ok(()));
        let error = with(GROUP_LIMIT_TEXT_MAX + 1).check().expect_err("it is too long");
        assert!(error.to_string().contains("501 bytes"), "{error}");
    }
}
