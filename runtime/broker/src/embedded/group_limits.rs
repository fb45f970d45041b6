//! Limits of single groups. The rules are in [`sandhog_core::group_limit`].

use std::num::NonZeroU16;

use rusqlite::{Row, params};
use sandhog_core::group::{GROUP_CONCURRENCY_MAX, GroupRule};
use sandhog_core::group_limit::{GROUP_LIMITS_MAX, GroupLimit, GroupLimitChange, LimitsUse};
use sandhog_core::id::{GroupKey, QueueName};

use super::fault::{Fault, Result};
use super::row::{parse, stamp, timestamp};
use super::step::Step;
use crate::{GroupLimited, SWEEP_MAX};

impl Step<'_> {
    /// Changes the limit of a group, and lets in who may get in by that.
    pub(super) fn limit_group(
        &mut self,
        queue: &QueueName,
        group: &GroupKey,
        change: &GroupLimitChange,
    ) -> Result<GroupLimited> {
        let before = self.group_limit(queue.as_str(), group.as_str())?;
        let after = match (change, before) {
            (GroupLimitChange::Set(_), None) if self.group_limits()?.len() >= GROUP_LIMITS_MAX => {
                return Ok(GroupLimited::TooMany);
            }
            (GroupLimitChange::Set(new), _) => Some(new.clone().made(queue.clone(), group.clone(), self.now)),
            (_, None) => return Ok(GroupLimited::NotLimited),
            (GroupLimitChange::Switch { is_on }, Some(before)) => {
                Some(GroupLimit { is_on: *is_on, ..before })
            }
            (GroupLimitChange::Unset, Some(_)) => None,
        };
        match after {
            Some(GroupLimit { concurrency, is_on, by, since, until, note, .. }) => self.execute(
                "INSERT OR REPLACE INTO group_limit VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
                params![
                    self.tenant(),
                    queue.as_str(),
                    group.as_str(),
                    concurrency,
                    is_on,
                    by,
                    stamp(since),
                    until.map(stamp),
                    note
                ],
            )?,
            None => self.execute(
                "DELETE FROM group_limit WHERE tenant = ?1 AND queue = ?2 AND group_key = ?3",
                [self.tenant(), queue.as_str(), group.as_str()],
            )?,
        };
        let mut let_in = 0;
        while let_in < SWEEP_MAX && self.let_in_one(queue.as_str(), group.as_str(), None)? {
            let_in += 1;
        }
        Ok(GroupLimited::Done)
    }

    /// Returns the number of turns that a group has by the rule of its queue, or by its own limit.
    pub(super) fn turns_for(&self, queue: &str, group: &str, rule: GroupRule) -> Result<u16> {
        let limit = match rule {
            GroupRule::Concurrency(_) => self.group_limit(queue, group)?,
            GroupRule::Strict(_) => None,
        };
        Ok(rule.turns_with(limit.as_ref(), self.now))
    }

    fn group_limit(&self, queue: &str, group: &str) -> Result<Option<GroupLimit>> {
        let mut statement = self.connection.prepare_cached(concat!(
            "SELECT queue, group_key, turns, is_on, by_whom, since, until, note FROM group_limit ",
            "WHERE tenant = ?1 AND queue = ?2 AND group_key = ?3"
        ))?;
        let mut rows = statement.query([self.tenant(), queue, group])?;
        let limit = rows.next()?.map(read).transpose()?;
        Ok(limit.filter(|limit| !limit.has_ended(self.now)))
    }

    /// Returns the limits of single groups that haven't ended, by queue and group.
    fn group_limits(&self) -> Result<Vec<GroupLimit>> {
        let mut statement = self.connection.prepare_cached(
            "SELECT queue, group_key, turns, is_on, by_whom, since, until, note FROM group_limit
             WHERE tenant = ?1 ORDER BY queue, group_key",
        )?;
        let all = statement.query_and_then([self.tenant()], read)?;
        all.filter(|limit| limit.as_ref().map_or(true, |limit| !limit.has_ended(self.now))).collect()
    }

    /// Removes the limits of single groups that have ended.
    pub(super) fn sweep_group_limits(&self) -> Result<()> {
        self.execute(
            "DELETE FROM group_limit WHERE tenant = ?1 AND until <= ?2",
            params![self.tenant(), self.now()],
        )?;
        Ok(())
    }

    /// Returns the time at which the first limit of a single group ends by itself, or `None` if none does.
    pub(super) fn first_limit_end(&self) -> Result<Option<i64>> {
        self.find("SELECT min(until) FROM group_limit WHERE tenant = ?1", [self.tenant()], |row| row.get(0))
            .map(Option::flatten)
    }

    /// Returns the use of the tenant's limits. Changes nothing.
    pub(super) fn limits_use(&self) -> Result<LimitsUse> {
        let mut groups = Vec::new();
        for limit in self.group_limits()? {
            let taken =
                self.turns_taken(limit.queue.as_str(), limit.group.as_str(), GROUP_CONCURRENCY_MAX)?;
            groups.push((limit, taken));
        }
        Ok(LimitsUse {
            now: self.now,
            leased: self.leased_under_limits()?,
            rates: self.rates_spent()?,
            groups,
        })
    }
}

fn read(row: &Row<'_>) -> Result<GroupLimit> {
    let (queue, group): (String, String) = (row.get(0)?, row.get(1)?);
    let turns = u16::try_from(row.get::<_, i64>(2)?).ok().and_then(NonZeroU16::new);
    Ok(GroupLimit {
        queue: parse("group_limit.queue", &queue)?,
        group: parse("group_limit.group_key", &group)?,
        concurrency: turns
            .ok_or_else(|| Fault::unreadable("group_limit.turns", "it is no number of turns"))?,
        is_on: row.get(3)?,
        by: row.get(4)?,
        since: timestamp(row.get(5)?),
        until: row.get::<_, Option<i64>>(6)?.map(timestamp),
        note: row.get(7)?,
    })
}
