//! Groups: who has a turn, and who gets the next one. The rules are in [`sandhog_core::group`].

use std::collections::{BTreeMap, BTreeSet};

use sandhog_core::event::EventKind;
use sandhog_core::fair::FairPlaces;
use sandhog_core::group::{GROUP_CONCURRENCY_MAX, GroupRule, GroupTurns, QueueRule, TurnHolder, is_of_rest};
use sandhog_core::group_limit::{GROUP_LIMITS_MAX, GroupLimit, GroupLimitChange};
use sandhog_core::id::{GroupKey, JobId, QueueName};
use sandhog_core::job::State;
use sandhog_core::time::Timestamp;

use super::tenant::{Entry, Tenant, arrival_of};
use crate::{GROUPED_MAX, GroupLimited, HELD_GROUPS_MAX, HeldGroup, SWEEP_MAX};

/// A group: its queue, and its key.
pub(super) type Group = (QueueName, GroupKey);

impl Tenant {
    /// Gives a turn to the first in a group's line, if there is one left. Returns whether it did. It is no event that the job gets in
    /// which has come into the line just now.
    pub(super) fn let_in_one(&mut self, group: &Group, came: Option<JobId>, now: Timestamp) -> bool {
        let rule = self.group_rules.get(&group.0);
        if rule.is_some_and(|rule| self.turns_taken(group) >= self.turns_for(group, *rule, now)) {
            return false;
        }
        let has_rule = rule.is_some();
        let line = self.in_line().filter(|entry| entry.group().as_ref() == Some(group));
        let first = line.min_by_key(|entry| (entry.rank, entry.arrival)).map(|entry| entry.record.id);
        let Some(entry) = first.and_then(|id| self.jobs.get_mut(&id)) else { return false };
        (entry.has_turn, entry.rank) = (has_rule, None);
        entry.record.state = State::Ready;
        entry.arrival = arrival_of(&entry.record, &mut self.fair, &mut self.arrivals);
        let job = entry.record.id;
        if came != Some(job) {
            self.tell(EventKind::Unblocked, job, None, None, now);
        }
        true
    }

    /// Gives all turns that are left to those who wait for them, group by group, at most [`SWEEP_MAX`]. Returns how many.
    pub(super) fn let_in_all(&mut self, now: Timestamp) -> usize {
        let groups: BTreeSet<Group> = self.in_line().filter_map(Entry::group).collect();
        let mut let_in = 0;
        for group in groups {
            while let_in < SWEEP_MAX && self.let_in_one(&group, None, now) {
                let_in += 1;
            }
        }
        let_in
    }

    /// Cancels the jobs that waited behind dead ones, group by group in the order in which these died, at most [`SWEEP_MAX`]. A group
    /// of which none is left goes on.
    pub(super) fn cancel_rests(&mut self, now: Timestamp) {
        let mut rests: Vec<_> = self.rests.iter().map(|(job, died_at)| (*died_at, *job)).collect();
        rests.sort();
        let mut left = SWEEP_MAX;
        for (died_at, dead) in rests.into_iter().take(SWEEP_MAX) {
            let group = self.jobs.get(&dead).filter(|entry| entry.holds_group()).and_then(Entry::group);
            let rest = group.as_ref().map(|group| self.rest_of(group, died_at, left)).unwrap_or_default();
            for id in &rest {
                let Some(entry) = self.jobs.get(id) else { continue };
                let change = entry.standing().cancelled_behind(dead);
                self.change(*id, &change, now);
            }
            left -= rest.len();
            if left == 0 {
                return;
            }
            self.rests.remove(&dead);
            if let Some(group) = group {
                self.jobs.entry(dead).and_modify(|entry| entry.has_turn = false);
                self.let_in_one(&group, None, now);
            }
        }
    }

    /// Returns the jobs in a group's line that waited there when one died, in order, at most `most`.
    fn rest_of(&self, group: &Group, died_at: Timestamp, most: usize) -> Vec<JobId> {
        let mut line: Vec<&Entry> =
            self.in_line().filter(|entry| entry.group().as_ref() == Some(group)).collect();
        line.sort_by_key(|entry| (entry.rank, entry.arrival));
        let rest = line.into_iter().take_while(|entry| is_of_rest(entry.record.enqueued_at, died_at));
        rest.take(most).map(|entry| entry.record.id).collect()
    }

    /// Returns the jobs that wait for a turn.
    fn in_line(&self) -> impl Iterator<Item = &Entry> {
        self.jobs.values().filter(|entry| entry.rank.is_some())
    }

    fn turns_taken(&self, group: &Group) -> usize {
        self.jobs.values().filter(|entry| entry.has_turn && entry.group().as_ref() == Some(group)).count()
    }

    /// Returns the turns of a group, or `None` if its queue has no rule.
    pub(super) fn turns_of(&self, group: &Group, now: Timestamp) -> Option<GroupTurns> {
        let rule = self.group_rules.get(&group.0)?;
        let of_group =
            self.jobs.values().filter(|entry| entry.has_turn && entry.group().as_ref() == Some(group));
        let first = of_group.min_by_key(|entry| entry.record.id);
        let holder = first
            .map(|entry| TurnHolder { job: entry.record.id, is_dead: entry.record.state == State::Dead });
        let taken = self.turns_taken(group).min(GROUP_CONCURRENCY_MAX.into());
        Some(GroupTurns {
            taken: u16::try_from(taken).unwrap_or(u16::MAX),
            most: rule.turns_with(self.group_limits.get(group), now),
            holder,
        })
    }

    /// Returns the number of turns that a group has by the rule of its queue, or by its own limit.
    fn turns_for(&self, group: &Group, rule: GroupRule, now: Timestamp) -> usize {
        rule.turns_with(self.group_limits.get(group), now).into()
    }

    /// Changes the limit of a group, and lets in who may get in by that.
    pub(super) fn limit_group(
        &mut self,
        group: Group,
        change: GroupLimitChange,
        now: Timestamp,
    ) -> GroupLimited {
        self.sweep_group_limits(now);
        let is_full = self.group_limits.len() >= GROUP_LIMITS_MAX;
        match (change, self.group_limits.get_mut(&group)) {
            (GroupLimitChange::Set(_), None) if is_full => {
                return GroupLimited::TooMany;
            }
            (GroupLimitChange::Set(new), _) => {
                let limit = new.made(group.0.clone(), group.1.clone(), now);
                self.group_limits.insert(group.clone(), limit);
            }
            (_, None) => return GroupLimited::NotLimited,
            (GroupLimitChange::Switch { is_on }, Some(limit)) => limit.is_on = is_on,
            (GroupLimitChange::Unset, Some(_)) => drop(self.group_limits.remove(&group)),
        }
        let mut let_in = 0;
        while let_in < SWEEP_MAX && self.let_in_one(&group, None, now) {
            let_in += 1;
        }
        GroupLimited::Done
    }

    /// Removes the limits of single groups that have ended.
    pub(super) fn sweep_group_limits(&mut self, now: Timestamp) {
        self.group_limits.retain(|_, limit| !limit.has_ended(now));
    }

    /// Returns the limits of single groups that haven't ended, each with the number of turns that are taken.
    pub(super) fn group_limits_use(&self, now: Timestamp) -> Vec<(GroupLimit, u16)> {
        let limits = self.group_limits.iter().filter(|(_, limit)| !limit.has_ended(now));
        let taken = |group| {
            let taken = self.turns_taken(group).min(GROUP_CONCURRENCY_MAX.into());
            u16::try_from(taken).unwrap_or(u16::MAX)
        };
        limits.map(|(group, limit)| (limit.clone(), taken(group))).collect()
    }

    pub(super) fn set_group_rules(&mut self, rules: BTreeMap<QueueName, QueueRule>, now: Timestamp) {
        let (mut turns, mut fair) = (BTreeMap::new(), BTreeMap::new());
        for (queue, rule) in rules {
            match rule {
                QueueRule::Turns(rule) => drop(turns.insert(queue, rule)),
                QueueRule::Fair(rule) => drop(fair.insert(queue, rule)),
            }
        }
        let mut fair_before = std::mem::take(&mut self.fair);
        for (_, (_, places)) in fair_before.extract_if(.., |queue, _| !fair.contains_key(queue)) {
            self.arrivals = self.arrivals.max(places.highest());
        }
        let before = std::mem::replace(&mut self.group_rules, turns.clone());
        for (queue, rule) in turns.into_iter().filter(|(queue, _)| !before.contains_key(queue)) {
            self.hold_to(&queue, rule, now);
        }
        for (queue, rule) in fair {
            let places = fair_before.remove(&queue);
            let is_new = places.is_none();
            let places = places.map(|(_, places)| places).unwrap_or_default();
            self.fair.insert(queue.clone(), (rule, places));
            if is_new {
                self.give_places(&queue);
            }
        }
    }

    /// Gives places to the ready jobs of a queue that has become fair, from the first one's on.
    fn give_places(&mut self, queue: &QueueName) {
        let mut ready: Vec<&Entry> =
            self.in_state(State::Ready).filter(|entry| entry.record.queue == *queue).collect();
        ready.sort_by_key(|entry| entry.place());
        let Some((rule, places)) = self.fair.get(queue) else { return };
        let mut places = places.clone();
        let mut given = Vec::new();
        let mut priority = None;
        for entry in ready.into_iter().take(GROUPED_MAX) {
            if priority != Some(entry.record.priority) {
                priority = Some(entry.record.priority);
                places.leased(entry.record.priority, entry.arrival.saturating_sub(1));
            }
            let place = places.next(rule, entry.record.priority, entry.record.options.group.as_ref());
            given.push((entry.record.id, place));
        }
        for (id, place) in given {
            self.jobs.entry(id).and_modify(|entry| entry.arrival = place);
        }
        self.fair.entry(queue.clone()).and_modify(|(_, of)| *of = places);
    }

    /// Forgets the places that were given in fair queues in which nothing is ready.
    pub(super) fn forget_places(&mut self) {
        let ready: BTreeSet<QueueName> =
            self.in_state(State::Ready).map(|entry| entry.record.queue.clone()).collect();
        let idle = self.fair.iter_mut().filter(|(queue, _)| !ready.contains(*queue));
        idle.for_each(|(_, (_, places)): (_, &mut (_, FairPlaces))| places.clear());
    }

    /// Holds the jobs of a queue to its first rule: those that are leased have turns, and those that are ready get what is left.
    fn hold_to(&mut self, queue: &QueueName, rule: GroupRule, now: Timestamp) {
        for state in [State::Leased, State::Ready] {
            let mut entries: Vec<&Entry> =
                self.in_state(state).filter(|entry| entry.record.queue == *queue).collect();
            entries.sort_by_key(|entry| entry.place());
            let ids: Vec<JobId> = entries.iter().take(GROUPED_MAX).map(|entry| entry.record.id).collect();
            for id in ids {
                let Some(group) = self.jobs.get(&id).and_then(Entry::group) else { continue };
                let is_left = self.turns_taken(&group) < self.turns_for(&group, rule, now);
                let Some(entry) = self.jobs.get_mut(&id).filter(|entry| !entry.has_turn) else { continue };
                if state == State::Leased || is_left {
                    entry.has_turn = true;
                } else {
                    self.arrivals += 1;
                    (entry.arrival, entry.rank) = (self.arrivals, Some(rule.rank(entry.record.priority)));
                    entry.record.state = State::Blocked;
                }
            }
        }
    }

    /// Lets a held group go on. Returns whether it was held.
    pub(super) fn release_group(&mut self, group: &Group, now: Timestamp) -> bool {
        let holders: Vec<JobId> = self
            .holders()
            .filter(|entry| entry.group().as_ref() == Some(group))
            .map(|entry| entry.record.id)
            .collect();
        for id in &holders {
            self.jobs.entry(*id).and_modify(|entry| entry.has_turn = false);
            self.let_in_one(group, None, now);
        }
        !holders.is_empty()
    }

    pub(super) fn held_groups(&self) -> Vec<HeldGroup> {
        let held = self.holders().filter_map(|entry| {
            let (queue, group) = entry.group()?;
            Some(HeldGroup { queue, group, job: entry.record.id, since: entry.record.finished_at? })
        });
        let mut held: Vec<HeldGroup> = held.collect();
        held.sort_by_key(|held| (held.since, held.queue.clone(), held.group.clone(), held.job));
        held.truncate(HELD_GROUPS_MAX);
        held
    }

    /// Returns the dead jobs that hold their groups.
    fn holders(&self) -> impl Iterator<Item = &Entry> {
        self.jobs.values().filter(|entry| entry.holds_group())
    }
}
