//! Groups: who has a turn, who waits for one in its group's line, and who gets the next one. The rules are in
//! [`sandhog_core::group`].

use std::collections::BTreeMap;
use std::num::NonZeroU16;

use rusqlite::{Connection, params};
use sandhog_core::event::EventKind;
use sandhog_core::fair::FairRule;
use sandhog_core::group::{
    GROUP_CONCURRENCY_MAX, GroupRule, GroupTurns, OnDead, QueueRule, TurnHolder, is_of_rest,
};
use sandhog_core::id::{GroupKey, JobId, QueueName, TenantId};
use sandhog_core::job::{Priority, State};
use sandhog_core::time::Timestamp;
use sandhog_core::transition::Next;

use super::events::Subject;
use super::fault::{Fault, Result};
use super::row::{code, parse, timestamp};
use super::step::{Place, Step, Waits};
use super::stored::select_stored;
use crate::{GROUPED_MAX, HELD_GROUPS_MAX, HeldGroup, SWEEP_MAX};

/// Maximum number of groups that a sweep looks at.
const LOOKED_AT_MAX: usize = 100;

/// Time, in milliseconds, for which sweeps look at the same groups where there are more.
const LOOKED_AT_FOR: i64 = 60_000;

/// A job as its group sees it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Member {
    pub(super) has_turn: bool,
    pub(super) priority: Priority,
}

impl Step<'_> {
    /// Returns the rule of a queue for groups.
    pub(super) fn group_rule(&mut self, queue: &str) -> Result<Option<GroupRule>> {
        if let Some(known) = self.group_rules.get(queue) {
            return Ok(*known);
        }
        let stored = self.find(
            "SELECT turns, is_strict, holds, cancels_rest FROM group_rules WHERE tenant = ?1 AND queue = ?2",
            [self.tenant(), queue],
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)),
        )?;
        let rule = stored.map(|(turns, is_strict, holds, rest)| rule(turns, is_strict, holds, rest));
        let rule = rule.transpose()?;
        self.group_rules.insert(queue.to_owned(), rule);
        Ok(rule)
    }

    /// Returns the place of a job that goes to `next`: blocked, if it needs a turn that it doesn't have.
    pub(super) fn place_in_group(
        &mut self,
        job: Waits<'_>,
        member: Option<Member>,
        next: Next,
    ) -> Result<Place> {
        if let (Some(member), Next::Waits(after)) = (member, next)
            && after.is_zero()
            && !member.has_turn
            && let Some(rule) = self.group_rule(job.queue)?
        {
            return Ok(Place::Blocked {
                rank: Some(rule.rank(member.priority)),
                number: self.next_arrival()?,
            });
        }
        self.place(job, next)
    }

    /// Gives a turn to the first in a group's line, if there is one left. Returns whether it did. It is no event that the job gets in
    /// which has come into the line just now.
    pub(super) fn let_in_one(&mut self, queue: &str, key: &str, came: Option<&str>) -> Result<bool> {
        let rule = self.group_rule(queue)?;
        if let Some(rule) = rule {
            let turns = self.turns_for(queue, key, rule)?;
            if self.turns_taken(queue, key, turns)? >= turns {
                return Ok(false);
            }
        }
        let first: Option<(i64, String, bool, String, u8)> = self.find(
            "SELECT nr, kind, expiries > 0, id, priority FROM job INDEXED BY job_in_group
             WHERE tenant = ?1 AND queue = ?2 AND group_key = ?3 AND line_rank IS NOT NULL
             ORDER BY line_rank, blocked_nr LIMIT 1",
            [self.tenant(), queue, key],
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?)),
        )?;
        let Some((nr, kind, is_suspect, id, priority)) = first else { return Ok(false) };
        let waits = Waits { queue, kind: &kind, is_suspect, priority: Priority(priority), group: Some(key) };
        let place = self.place(waits, Next::Waits(std::time::Duration::ZERO))?;
        let (state, _, arrival, ..) = place.columns();
        self.execute(
            "UPDATE job SET state = ?2, arrival = ?3, lane = iif(?4, kind, ''), has_turn = ?5, line_rank = NULL,
                 blocked_nr = NULL, tie = iif(?6, id, '')
             WHERE nr = ?1",
            params![nr, state, arrival, place.in_lane(), rule.is_some(), place.is_fair()],
        )?;
        if came != Some(id.as_str()) {
            let job = Subject { id: &id, queue, kind: &kind, group: Some(key) };
            self.tell(EventKind::Unblocked, job, None, None)?;
        }
        Ok(true)
    }

    /// Returns the turns of a group, or `None` if its queue has no rule.
    pub(super) fn turns_of(&mut self, queue: &str, key: &str) -> Result<Option<GroupTurns>> {
        let Some(rule) = self.group_rule(queue)? else { return Ok(None) };
        let taken = self.turns_taken(queue, key, GROUP_CONCURRENCY_MAX)?;
        let first: Option<(String, i64)> = self.find(
            "SELECT id, state FROM job INDEXED BY job_with_turn
             WHERE tenant = ?1 AND queue = ?2 AND group_key = ?3 AND has_turn = 1 ORDER BY id LIMIT 1",
            [self.tenant(), queue, key],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )?;
        let holder = match first {
            Some((id, state)) => {
                Some(TurnHolder { job: parse("job.id", &id)?, is_dead: state == code(State::Dead) })
            }
            None => None,
        };
        Ok(Some(GroupTurns { taken, most: self.turns_for(queue, key, rule)?, holder }))
    }

    /// Returns the number of jobs of a group that have a turn, as far as `most`.
    pub(super) fn turns_taken(&self, queue: &str, key: &str, most: u16) -> Result<u16> {
        let taken: Vec<i64> = self.all(
            "SELECT nr FROM job INDEXED BY job_with_turn
             WHERE tenant = ?1 AND queue = ?2 AND group_key = ?3 AND has_turn = 1 LIMIT ?4",
            params![self.tenant(), queue, key, most],
            |row| row.get(0),
        )?;
        Ok(u16::try_from(taken.len()).unwrap_or(u16::MAX))
    }

    /// Gives all turns that are left to those who wait for them, group by group, at most [`SWEEP_MAX`]. Returns how many. Where
    /// there are many groups, others are looked at from time to time.
    pub(super) fn let_in_all(&mut self) -> Result<usize> {
        let first = self.next_group("", "")?;
        let Some(first) = first else { return Ok(0) };
        let (mut let_in, has_more) = self.let_in_from(first, 0)?;
        if has_more && let Some(other) = self.some_group()? {
            (let_in, _) = self.let_in_from(other, let_in)?;
        }
        Ok(let_in)
    }

    /// Does that for [`LOOKED_AT_MAX`] groups from this one on, where `before` jobs have been let in already. Returns how many
    /// are now, and whether there are more groups.
    fn let_in_from(&mut self, first: (String, String), before: usize) -> Result<(usize, bool)> {
        let (mut let_in, mut next) = (before, Some(first));
        for _ in 0..LOOKED_AT_MAX {
            let Some((queue, key)) = next else { return Ok((let_in, false)) };
            while let_in < SWEEP_MAX && self.let_in_one(&queue, &key, None)? {
                let_in += 1;
            }
            next = self.next_group(&queue, &key)?;
        }
        Ok((let_in, next.is_some()))
    }

    /// Returns the first group with a line behind another one.
    fn next_group(&self, queue: &str, key: &str) -> Result<Option<(String, String)>> {
        self.find(
            "SELECT queue, group_key FROM job INDEXED BY job_in_group
             WHERE tenant = ?1 AND line_rank IS NOT NULL AND (queue, group_key) > (?2, ?3)
             ORDER BY queue, group_key LIMIT 1",
            [self.tenant(), queue, key],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
    }

    /// Returns a group with a line, another one from time to time.
    fn some_group(&self) -> Result<Option<(String, String)>> {
        let count: Option<i64> = self.find(
            "SELECT sum(n) FROM tally WHERE tenant = ?1 AND state = ?2",
            params![self.tenant(), code(State::Blocked)],
            |row| row.get(0),
        )?;
        let place = self.now() / LOOKED_AT_FOR * LOOKED_AT_MAX as i64 % count.unwrap_or(1).max(1);
        self.find(
            "SELECT queue, group_key FROM job INDEXED BY job_in_group
             WHERE tenant = ?1 AND line_rank IS NOT NULL ORDER BY queue, group_key LIMIT 1 OFFSET ?2",
            params![self.tenant(), place],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
    }

    pub(super) fn set_group_rules(&mut self, rules: &BTreeMap<QueueName, QueueRule>) -> Result<()> {
        let (mut turns, mut fair) = (Vec::new(), Vec::<(&QueueName, &FairRule)>::new());
        for (queue, rule) in rules {
            match rule {
                QueueRule::Turns(rule) => turns.push((queue, rule)),
                QueueRule::Fair(rule) => fair.push((queue, rule)),
            }
        }
        let new = self.set_fair_queues(&fair)?;
        self.set_turns(&turns)?;
        new.into_iter().try_for_each(|queue| self.give_fair_places(queue))
    }

    fn set_turns(&mut self, rules: &[(&QueueName, &GroupRule)]) -> Result<()> {
        let before: Vec<String> =
            self.all("SELECT queue FROM group_rules WHERE tenant = ?1", [self.tenant()], |row| row.get(0))?;
        self.execute("DELETE FROM group_rules WHERE tenant = ?1", [self.tenant()])?;
        self.group_rules.clear();
        for (queue, rule) in rules {
            let (is_strict, holds, cancels_rest) = match rule {
                GroupRule::Concurrency(_) => (false, false, false),
                GroupRule::Strict(on_dead) => {
                    (true, *on_dead != OnDead::Skip, *on_dead == OnDead::CancelRest)
                }
            };
            self.execute(
                "INSERT INTO group_rules VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                params![self.tenant(), queue.as_str(), rule.turns(), is_strict, holds, cancels_rest],
            )?;
            if !before.iter().any(|known| known == queue.as_str()) {
                self.hold_to(queue.as_str(), **rule)?;
            }
        }
        Ok(())
    }

    /// Holds the jobs of a queue to its first rule: those that are leased have turns, and those that are ready get what is left.
    fn hold_to(&mut self, queue: &str, rule: GroupRule) -> Result<()> {
        self.execute(
            "UPDATE job SET has_turn = 1 WHERE nr IN
                 (SELECT nr FROM job WHERE tenant = ?1 AND state = 2 AND queue = ?2 AND group_key IS NOT NULL
                  ORDER BY lease_expires_at LIMIT ?3)",
            params![self.tenant(), queue, GROUPED_MAX as i64],
        )?;
        let ready: Vec<(i64, Option<String>, u8, bool)> = self.all(
            "SELECT nr, group_key, priority, has_turn FROM job INDEXED BY job_in_line
             WHERE tenant = ?1 AND state = 1 AND queue = ?2
             ORDER BY ((255 - priority) << 45 | arrival), tie LIMIT ?3",
            params![self.tenant(), queue, GROUPED_MAX as i64],
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)),
        )?;
        for (nr, key, priority, has_turn) in ready {
            let Some(key) = key.filter(|_| !has_turn) else { continue };
            let turns = self.turns_for(queue, &key, rule)?;
            if self.turns_taken(queue, &key, turns)? < turns {
                self.execute("UPDATE job SET has_turn = 1 WHERE nr = ?1", [nr])?;
                continue;
            }
            let number = self.next_arrival()?;
            self.execute(
                "UPDATE job SET state = ?2, arrival = NULL, parked_at = NULL, lane = '', line_rank = ?3, blocked_nr = ?4
                 WHERE nr = ?1",
                params![nr, code(State::Blocked), rule.rank(Priority(priority)), number],
            )?;
        }
        Ok(())
    }

    /// Notes that the jobs are to be cancelled that wait behind one that dies.
    pub(super) fn note_rest(&mut self, dead: &str) -> Result<()> {
        self.execute(
            "INSERT INTO rest VALUES (?1, ?2, ?3) ON CONFLICT DO UPDATE SET at = excluded.at",
            params![self.tenant(), dead, self.now()],
        )?;
        self.has_news = true;
        Ok(())
    }

    /// Cancels the jobs that waited behind dead ones, group by group in the order in which these died, at most [`SWEEP_MAX`]. A group
    /// of which none is left goes on.
    pub(super) fn cancel_rests(&mut self) -> Result<()> {
        let rests: Vec<(String, i64)> = self.all(
            "SELECT job, at FROM rest WHERE tenant = ?1 ORDER BY at, job LIMIT ?2",
            params![self.tenant(), SWEEP_MAX as i64],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )?;
        let mut left = SWEEP_MAX;
        for (dead, died_at) in rests {
            let holder: Option<(i64, String, String)> = self.find(
                "SELECT nr, queue, group_key FROM job
                 WHERE tenant = ?1 AND id = ?2 AND state = ?3 AND has_turn = 1 AND group_key IS NOT NULL",
                params![self.tenant(), dead, code(State::Dead)],
                |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
            )?;
            if let Some((_, queue, key)) = &holder {
                left -= self.cancel_rest(&dead, queue, key, timestamp(died_at), left)?;
            }
            if left == 0 {
                return Ok(());
            }
            self.execute("DELETE FROM rest WHERE tenant = ?1 AND job = ?2", [self.tenant(), &dead])?;
            if let Some((nr, queue, key)) = holder {
                self.execute("UPDATE job SET has_turn = 0 WHERE nr = ?1", [nr])?;
                self.let_in_one(&queue, &key, None)?;
            }
        }
        Ok(())
    }

    /// Cancels the jobs in a group's line that waited there when one died, at most `most`. Returns how many.
    fn cancel_rest(
        &mut self,
        dead: &str,
        queue: &str,
        key: &str,
        died_at: Timestamp,
        most: usize,
    ) -> Result<usize> {
        let line: Vec<(i64, i64)> = self.all(
            "SELECT nr, enqueued_at FROM job INDEXED BY job_in_group
             WHERE tenant = ?1 AND queue = ?2 AND group_key = ?3 AND line_rank IS NOT NULL
             ORDER BY line_rank, blocked_nr LIMIT ?4",
            params![self.tenant(), queue, key, most as i64],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )?;
        let rest = line.into_iter().take_while(|(_, at)| is_of_rest(timestamp(*at), died_at));
        let dead = parse::<JobId>("job.id", dead)?;
        let mut cancelled = 0;
        for (nr, _) in rest {
            let Some(job) = self.stored_job(select_stored!("WHERE nr = ?1"), [nr])? else { break };
            self.change(&job, &job.standing.cancelled_behind(dead))?;
            cancelled += 1;
        }
        Ok(cancelled)
    }

    /// Lets a held group go on. Returns whether it was held.
    pub(super) fn release_group(&mut self, queue: &QueueName, group: &GroupKey) -> Result<bool> {
        let holders: Vec<i64> = self.all(
            "SELECT nr FROM job INDEXED BY job_with_turn
             WHERE tenant = ?1 AND queue = ?2 AND group_key = ?3 AND has_turn = 1 AND state = ?4",
            params![self.tenant(), queue.as_str(), group.as_str(), code(State::Dead)],
            |row| row.get(0),
        )?;
        for nr in &holders {
            self.execute("UPDATE job SET has_turn = 0 WHERE nr = ?1", [nr])?;
            self.let_in_one(queue.as_str(), group.as_str(), None)?;
        }
        Ok(!holders.is_empty())
    }
}

/// Returns the groups that are held by dead jobs.
pub(super) fn held_groups(connection: &Connection, tenant: &TenantId) -> Result<Vec<HeldGroup>> {
    let mut statement = connection.prepare_cached(
        "SELECT queue, group_key, id, finished_at FROM job INDEXED BY job_holding_group
         WHERE tenant = ?1 AND has_turn = 1 AND finished_at IS NOT NULL
         ORDER BY finished_at, queue, group_key, id LIMIT ?2",
    )?;
    let rows = statement.query_and_then(params![tenant.as_str(), HELD_GROUPS_MAX as i64], |row| {
        let (queue, key, id): (String, String, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
        Ok(HeldGroup {
            queue: parse::<QueueName>("job.queue", &queue)?,
            group: parse::<GroupKey>("job.group_key", &key)?,
            job: parse::<JobId>("job.id", &id)?,
            since: timestamp(row.get(3)?),
        })
    })?;
    rows.collect()
}

fn rule(turns: i64, is_strict: bool, holds: bool, cancels_rest: bool) -> Result<GroupRule> {
    if is_strict {
        return Ok(GroupRule::Strict(match (holds, cancels_rest) {
            (_, true) => OnDead::CancelRest,
            (true, false) => OnDead::Hold,
            (false, false) => OnDead::Skip,
        }));
    }
    let turns = u16::try_from(turns).ok().and_then(NonZeroU16::new);
    let turns = turns.ok_or_else(|| Fault::unreadable("group_rules.turns", "it is no number of turns"))?;
    Ok(GroupRule::Concurrency(turns))
}
