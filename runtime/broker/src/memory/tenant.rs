//! The steps that change the jobs of one tenant. Each is complete when it returns.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::convert::Infallible;
use std::ops::RangeInclusive;
use std::time::Duration;

use sandhog_core::account::{Account, Day, DayUsage};
use sandhog_core::attempt::SettleReply;
use sandhog_core::breaker::{BREAKERS_MAX, Barrier};
use sandhog_core::budget::{Bytes, Fuel};
use sandhog_core::edit::{Edited, JobEdit, start_by_after_edit};
use sandhog_core::effects::{Effects, StateWrite, Written};
use sandhog_core::event::{EventKind, attempt_of};
use sandhog_core::fair::{FairPlaces, FairRule};
use sandhog_core::flow::ParentEnd;
use sandhog_core::group::{GroupRule, OnDead, Turn};
use sandhog_core::group_limit::{GroupLimit, LimitsUse};
use sandhog_core::history::{self, AttemptRecord};
use sandhog_core::hold::{HOLDS_MAX, Hold, HoldScope, NewHold};
use sandhog_core::id::{
    BreakerName, DaemonId, JobId, Kind, LeaseToken, PluginName, QueueName, ScheduleName, StateKey, TenantId,
    UniqueKey,
};
use sandhog_core::job::{JobRecord, Lease, LogLine, NewJob, Priority, Progress, State};
use sandhog_core::quota::{FuelSpent, QueueBounds, StateExcess, StateQuota, StateSize, Waiting, minute_of};
use sandhog_core::rate::{FullAt, Rate};
use sandhog_core::reason::Reason;
use sandhog_core::schedule::SCHEDULES_MAX;
use sandhog_core::time::Timestamp;
use sandhog_core::transition::{Acted, Change, JobCounts, Next, Standing};
use sandhog_core::trial::{Pair, Trial, TrialReport, TrialStatus};
use sandhog_core::unique::{KeyHold, UniqueUntil, moved_along};
use sandhog_core::waits::{AHEAD_COUNTED_MAX, WaitFacts};

use super::events::EventLog;
use super::flows::Member;
use super::groups::Group;
use crate::breakers::{Barriers, sort_holds};
use crate::schedules::next_version;
use crate::{
    BreakerRecord, BreakerWrite, BreakerWritten, Breakers, Changed, Counts, Cursor, Enqueued, HoldOutcome,
    JobAction, KeepMax, LANE_KEPT, LANE_NOTED_EVERY, LANES_MAX, LOG_LINES_KEPT, LaneAsk, Lanes, LeaseAsk,
    Leased, Page, QUEUES_PAGE_MAX, Query, QueueCensus, QueuePage, RateOf, Renew, Renewal, SCHEDULES_PAGE,
    SWEEP_MAX, ScheduleQuery, ScheduleWrite, ScheduleWritten, Schedules, Settle, Still, StoredBreaker,
    StoredSchedule, Sweep, Swept, USAGE_DAYS_KEPT,
};

/// A tenant's jobs, and the state of its plugins.
#[derive(Clone, Default)]
pub(super) struct Tenant {
    pub(super) jobs: BTreeMap<JobId, Entry>,
    state: BTreeMap<(PluginName, StateKey), Stored>,
    accounts: BTreeMap<(Day, PluginName), Account>,
    /// The latest minute in which fuel was spent, and how much.
    minute: (u64, Fuel),
    /// Number of times that a job has become ready or blocked, but for those that became ready in fair queues.
    pub(super) arrivals: u64,
    /// The last grant of leases to each daemon: the number of its request, and the leases.
    asked: BTreeMap<DaemonId, (u64, Vec<LeaseToken>)>,
    /// The kinds that have a lane of their own in a queue, each with the noted time at which it was last asked for.
    lanes: BTreeMap<(QueueName, Kind), Timestamp>,
    /// Number of times that a lane was added or removed.
    lanes_changed: u64,
    trials: BTreeMap<Pair, Trial>,
    /// The holds that nobody has lifted and no sweep has removed; some of them may have ended.
    holds: BTreeMap<HoldScope, Hold>,
    /// The states of rate limits.
    rates: BTreeMap<RateOf, FullAt>,
    /// The rules for groups, by queue.
    pub(super) group_rules: BTreeMap<QueueName, GroupRule>,
    /// The limits of single groups that nobody has removed; some of them may have ended.
    pub(super) group_limits: BTreeMap<Group, GroupLimit>,
    /// The fair queues, each with its rule.
    pub(super) fair: BTreeMap<QueueName, (FairRule, FairPlaces)>,
    /// The jobs of each flow that are still kept, by the flow's id.
    pub(super) flows: BTreeMap<JobId, BTreeMap<JobId, Member>>,
    /// Jobs that have ended and that others come after, each with its end and when it came; until their edges are settled.
    pub(super) settled: BTreeMap<(JobId, ParentEnd), Timestamp>,
    /// Dead jobs that hold their groups until those that waited behind them are cancelled, each with when it died.
    pub(super) rests: BTreeMap<JobId, Timestamp>,
    schedules: BTreeMap<ScheduleName, StoredSchedule>,
    /// The breakers, each with the version of its record.
    breakers: BTreeMap<BreakerName, (u64, BreakerRecord)>,
    /// The unique keys that are held, by which job and how; some of them may have ended.
    keys: BTreeMap<UniqueKey, (JobId, KeyHold)>,
    pub(super) event_log: Option<EventLog>,
}

/// State of a tenant that listeners wait for: compared before and after a step.
pub(super) struct WakeCause {
    /// The lanes that hold a ready job: queue, kind if it has a lane of its own, and whether the jobs are suspects.
    lanes: BTreeSet<(QueueName, Option<Kind>, bool)>,
    /// The leased jobs that count against a fleet limit, or are probes of a breaker.
    limited: BTreeSet<JobId>,
    first_due: Option<Timestamp>,
    /// The holds, each with its end.
    holds: BTreeMap<HoldScope, Option<Timestamp>>,
    gates: BTreeMap<BreakerName, Barrier>,
    /// Whether edges of flows are to be settled, or jobs of groups to be cancelled.
    has_settled: bool,
}

#[derive(Clone)]
pub(super) struct Entry {
    pub(super) record: JobRecord,
    log: VecDeque<LogLine>,
    /// The value of `Tenant::arrivals` when it last became ready or blocked, or its place in a fair queue.
    pub(super) arrival: u64,
    /// Rank in its group's line, while it waits there.
    pub(super) rank: Option<u8>,
    /// Whether it has a turn of its group.
    pub(super) has_turn: bool,
    /// Whether its cancellation was requested while it is leased.
    cancel_requested: bool,
    /// Time at which it may be removed, once it is final.
    remove_at: Option<Timestamp>,
    /// The plugin among whose final jobs it is counted.
    kept_of: Option<PluginName>,
    /// The fleet limit that it counts against while it is leased.
    limit: Option<PluginName>,
    /// The breakers whose probe it is while it is leased.
    probe_of: Vec<BreakerName>,
    /// Time by which it has to start; `None` once it has started or is final.
    start_by: Option<Timestamp>,
}

#[derive(Clone)]
struct Stored {
    value: Vec<u8>,
    expires_at: Option<Timestamp>,
}

impl WakeCause {
    /// Whether a lane has jobs that had none, a lane with jobs may have room that had none, a job is due earlier than any was, or
    /// the holds are others.
    pub(super) fn is_news_after(&self, before: &Self) -> bool {
        let sooner = match (self.first_due, before.first_due) {
            (Some(now), Some(then)) => now < then,
            (Some(_), None) => true,
            (None, _) => false,
        };
        let has_lane = self.lanes.iter().any(|(_, kind, _)| kind.is_some());
        let has_left = !before.limited.is_subset(&self.limited);
        let is_fuller = !self.lanes.is_subset(&before.lanes);
        let has_settled = self.has_settled && !before.has_settled;
        sooner
            || is_fuller
            || has_settled
            || (has_lane && has_left)
            || self.holds != before.holds
            || self.gates != before.gates
    }
}

impl Tenant {
    pub(super) fn wake_cause(&self) -> WakeCause {
        WakeCause {
            lanes: self.in_state(State::Ready).map(|entry| self.lane_of(entry)).collect(),
            limited: self.limited().chain(self.probes()).map(|entry| entry.record.id).collect(),
            first_due: self
                .in_state(State::Scheduled)
                .filter_map(|entry| entry.record.due_at)
                .chain(self.expiring())
                .min(),
            holds: self.holds.iter().map(|(scope, hold)| (scope.clone(), hold.until)).collect(),
            gates: self.gates().map(|(name, gate)| (name.clone(), gate.clone())).collect(),
            has_settled: self.has_settled(),
        }
    }

    pub(super) fn enqueue(
        &mut self,
        tenant: &TenantId,
        job: &NewJob,
        bounds: &QueueBounds,
        now: Timestamp,
    ) -> Enqueued {
        if self.jobs.contains_key(&job.id) {
            return Enqueued::Stored;
        }
        if let Some(key) = &job.unique_key
            && let Some(holder) = self.holder(key, now)
        {
            return self.clash(holder, key, job, bounds, now);
        }
        if let Some(refusal) = self.refusal(job, bounds, Waiting::default(), now) {
            return refusal;
        }
        self.insert(tenant, job, &Change::of_new(job.delay), now);
        Enqueued::Stored
    }

    /// Returns the reason why a new job can't be stored, beside others that aren't stored yet.
    pub(super) fn refusal(
        &self,
        job: &NewJob,
        bounds: &QueueBounds,
        beside: Waiting,
        now: Timestamp,
    ) -> Option<Enqueued> {
        if let Some(holder) = job.unique_key.as_ref().and_then(|key| self.holder(key, now)) {
            return Some(Enqueued::Duplicate(holder));
        }
        if Bytes::of(job.payload.len()) > bounds.payload {
            return Some(Enqueued::TooLarge);
        }
        let waiting = self.waiting();
        let waiting = Waiting { jobs: waiting.jobs + beside.jobs, bytes: waiting.bytes + beside.bytes };
        bounds.excess(waiting, Waiting::of(std::slice::from_ref(job))).map(Enqueued::Full)
    }

    pub(super) fn insert(&mut self, tenant: &TenantId, job: &NewJob, change: &Change<'_>, now: Timestamp) {
        self.jobs.insert(job.id, Entry::new(tenant, job, now));
        if let Some(key) = &job.unique_key {
            self.keys.insert(key.clone(), (job.id, job.options.unique.hold(now)));
        }
        self.tell(EventKind::Created, job.id, None, None, now);
        self.change(job.id, change, now);
    }

    /// Does to the holder of a key what a job does that comes with the same one.
    fn clash(
        &mut self,
        holder: JobId,
        key: &UniqueKey,
        job: &NewJob,
        bounds: &QueueBounds,
        now: Timestamp,
    ) -> Enqueued {
        let waiting = self.waiting();
        let Some((_, held)) = self.keys.get_mut(key) else { return Enqueued::Duplicate(holder) };
        let entry = self.jobs.get_mut(&holder).filter(|entry| entry.record.kind == job.kind);
        let entry = entry.filter(|entry| entry.record.state.waits() && entry.record.options.flow.is_none());
        let clash = job.options.unique.clash(held, entry.is_some(), now);
        held.ends = clash.ends.or(held.ends);
        let Some(entry) = entry.filter(|_| clash.replaces) else { return Enqueued::Duplicate(holder) };
        let (before, after) = (entry.record.payload.len() as u64, job.payload.len() as u64);
        if let Some(excess) = bounds.payload_excess(waiting, before, after) {
            return excess.into();
        }
        entry.record.payload.clone_from(&job.payload);
        if let (State::Scheduled, Some(before), Some(due)) =
            (entry.record.state, entry.record.due_at, clash.due)
        {
            entry.record.due_at = Some(due);
            entry.start_by = entry.start_by.map(|start_by| moved_along(start_by, before, due));
        }
        Enqueued::Replaced(holder)
    }

    /// Frees the key of a job that has got into this state, if that frees it.
    fn free_key(&mut self, job: JobId, state: State) {
        self.keys.retain(|_, (holder, held)| *holder != job || !held.until.is(state));
    }

    pub(super) fn lease(&mut self, ask: &LeaseAsk<'_>, now: Timestamp) -> Leased {
        let spent = ask.fuel.map(|_| self.spent(now));
        for lane in ask.lanes {
            self.note_lane(&lane.queue, &lane.kind, now);
        }
        let expired = self.expire(now);
        let leases = match self.repeated(ask, now) {
            Some(again) => again,
            // There may be more of them, which nobody is to get.
            None if expired == SWEEP_MAX => Vec::new(),
            None if ask.fuel.zip(spent).is_some_and(|(quota, spent)| quota.holds(&spent)) => Vec::new(),
            None if self.holds(now).any(|hold| hold.scope.covers_all()) => Vec::new(),
            None => self.hand_out(ask, now),
        };
        if let Some(asker) = ask.asker.filter(|_| !leases.is_empty()) {
            let tokens = leases.iter().map(|lease| lease.token).collect();
            self.asked.insert(asker.daemon, (asker.number, tokens));
        }
        let next_due = self.next_due(now);
        let next_due = if expired == SWEEP_MAX { Some(Duration::ZERO) } else { next_due };
        let next_token = self.next_token(ask, now);
        Leased { leases, next_due, spent, now, next_token, lanes: self.lanes_changed }
    }

    /// Creates a lane for a kind, or notes that it was asked for.
    fn note_lane(&mut self, queue: &QueueName, kind: &Kind, now: Timestamp) {
        let noted = self.lanes.get_mut(&(queue.clone(), kind.clone()));
        match noted {
            Some(noted) if now.since(*noted) >= LANE_NOTED_EVERY => *noted = now,
            Some(_) => {}
            None => {
                self.lanes.insert((queue.clone(), kind.clone()), now);
                self.lanes_changed += 1;
            }
        }
    }

    /// Removes lanes that are empty and were not asked for during [`LANE_KEPT`].
    fn give_up_lanes(&mut self, now: Timestamp) {
        let held: BTreeSet<(QueueName, Kind)> = self
            .in_state(State::Ready)
            .map(|entry| (entry.record.queue.clone(), entry.record.kind.clone()))
            .collect();
        let before = self.lanes.len();
        self.lanes.retain(|lane, noted| held.contains(lane) || now.since(*noted) < LANE_KEPT);
        self.lanes_changed += (before - self.lanes.len()) as u64;
    }

    pub(super) fn lanes(&self) -> Lanes {
        let lanes = self.lanes.keys().take(LANES_MAX).cloned().collect();
        Lanes { number: self.lanes_changed, lanes }
    }

    /// Returns the lane of a ready job: queue, kind if it has a lane of its own, and whether it is a suspect.
    fn lane_of(&self, entry: &Entry) -> (QueueName, Option<Kind>, bool) {
        let lane = (entry.record.queue.clone(), entry.record.kind.clone());
        let kind = self.lanes.contains_key(&lane).then(|| lane.1.clone());
        (lane.0, kind, entry.is_suspect())
    }

    /// Returns the leased jobs that count against a fleet limit.
    fn limited(&self) -> impl Iterator<Item = &Entry> {
        self.in_state(State::Leased).filter(|entry| entry.limit.is_some())
    }

    /// Returns the leased jobs that are probes of a breaker.
    fn probes(&self) -> impl Iterator<Item = &Entry> {
        self.in_state(State::Leased).filter(|entry| !entry.probe_of.is_empty())
    }

    /// Extends and returns the leases granted to the same request before that still hold. `None` if the request repeats none.
    fn repeated(&mut self, ask: &LeaseAsk<'_>, now: Timestamp) -> Option<Vec<Lease>> {
        let asker = ask.asker.filter(|asker| asker.repeats)?;
        let (number, tokens) = self.asked.get(&asker.daemon)?.clone();
        if number != asker.number {
            return None;
        }
        let again = tokens.into_iter().filter_map(|token| {
            let entry = self.jobs.get_mut(&token.job).filter(|entry| entry.is_held_by(token))?;
            entry.record.lease_expires_at = Some(now.after(ask.ttl));
            Some(entry.as_lease())
        });
        Some(again.collect())
    }

    /// Returns the time until there are tokens again of the first of the rate limits that has none left. What a slower rate has
    /// left doesn't hold the ones that are asked for.
    fn next_token(&mut self, ask: &LeaseAsk<'_>, now: Timestamp) -> Option<Duration> {
        let limits: BTreeMap<&RateOf, Rate> = rates_of(ask).collect();
        let waits = limits.into_iter().filter_map(|(of, rate)| {
            let full_at = self.rates.get_mut(of).map_or_else(FullAt::default, |full_at| {
                *full_at = rate.adopted(*full_at, now.as_micros());
                *full_at
            });
            let is_spent = rate.left(full_at, now.as_micros()) == 0;
            is_spent.then(|| rate.wait(full_at, rate.batch(), now.as_micros()))
        });
        waits.min().map(Duration::from_micros)
    }

    fn hand_out(&mut self, ask: &LeaseAsk<'_>, now: Timestamp) -> Vec<Lease> {
        let (mut leases, mut bytes, mut suspects) = (Vec::new(), 0, ask.suspects);
        let mut lanes = LaneRooms::of(ask, self, now);
        let limits: BTreeMap<&RateOf, Rate> = rates_of(ask).collect();
        for (queue, n) in ask.queues {
            if self.holds(now).any(|hold| hold.scope.covers_queue(queue)) {
                continue;
            }
            for id in self.first_ready(queue, *n, suspects, &mut lanes, now) {
                let Some(entry) = self.jobs.get_mut(&id) else { continue };
                bytes += entry.record.payload.len() as u64;
                if bytes > ask.bytes.0 && !leases.is_empty() {
                    return leases;
                }
                suspects -= u32::from(entry.is_suspect());
                entry.limit = lanes.limit_of(&entry.record);
                entry.probe_of = lanes.probe_of(&entry.record);
                if let Some((of, rate)) = lanes.rate_of(&entry.record).and_then(|of| limits.get_key_value(of))
                {
                    let full_at = self.rates.entry((*of).clone()).or_default();
                    *full_at = rate.taken(*full_at, 1, now.as_micros());
                }
                if let Some((_, places)) = self.fair.get_mut(queue) {
                    places.leased(entry.record.priority, entry.arrival);
                }
                leases.push(entry.lease(now, now.after(ask.ttl)));
                let attempt = attempt_of(&entry.standing());
                self.tell(EventKind::Started, id, attempt, None, now);
                self.free_key(id, State::Leased);
            }
        }
        leases
    }

    /// Makes a hold, in place of one of the same scope.
    pub(super) fn hold(&mut self, new: NewHold, now: Timestamp) -> HoldOutcome {
        let before = self.holds.get(&new.scope);
        if before.is_none() && self.holds.len() >= HOLDS_MAX {
            return HoldOutcome::TooMany;
        }
        let hold = new.made(before, now);
        self.holds.insert(hold.scope.clone(), hold);
        HoldOutcome::Held
    }

    /// Ends a hold.
    pub(super) fn lift(&mut self, scope: &HoldScope, now: Timestamp) -> HoldOutcome {
        match self.holds.remove(scope) {
            Some(hold) if hold.is_in_force(now) => HoldOutcome::Lifted,
            _ => HoldOutcome::NotHeld,
        }
    }

    /// Returns the holds that are in force.
    pub(super) fn holds(&self, now: Timestamp) -> impl Iterator<Item = &Hold> {
        self.holds.values().filter(move |hold| hold.is_in_force(now))
    }

    /// Returns the holds that are in force, those of breakers included, in the order in which they are listed.
    pub(super) fn all_holds(&self, now: Timestamp) -> Vec<Hold> {
        let mut holds: Vec<Hold> = self.holds(now).cloned().chain(self.gates_at(now).holds()).collect();
        sort_holds(&mut holds);
        holds
    }

    fn gates(&self) -> impl Iterator<Item = (&BreakerName, &Barrier)> {
        self.breakers.iter().filter_map(|(name, (_, record))| Some((name, record.gate.as_ref()?)))
    }

    fn gates_at(&self, now: Timestamp) -> Barriers {
        Barriers::new(self.gates().map(|(name, gate)| (name.clone(), gate.clone())), now)
    }

    /// Writes a breaker's record, or does nothing.
    pub(super) fn write_breaker(&mut self, write: BreakerWrite, now: Timestamp) -> BreakerWritten {
        let BreakerWrite { name, expected, record } = write;
        let stored = self.breakers.get(&name).map(|(version, _)| *version);
        if stored != expected {
            return BreakerWritten::Stale;
        }
        match record {
            None => drop(self.breakers.remove(&name)),
            Some(_) if stored.is_none() && self.breakers.len() >= BREAKERS_MAX => {
                return BreakerWritten::TooMany;
            }
            Some(record) => drop(self.breakers.insert(name, (next_version(stored, now), record))),
        }
        BreakerWritten::Done
    }

    pub(super) fn breakers(&self, name: Option<&BreakerName>, now: Timestamp) -> Breakers {
        let wanted = self.breakers.iter().filter(|(own, _)| name.is_none_or(|name| name == *own));
        let breakers = wanted.map(|(name, (version, record))| {
            let record = Ok(record.bytes.clone());
            StoredBreaker { name: name.clone(), version: *version, record }
        });
        Breakers { now, breakers: breakers.collect() }
    }

    /// Returns what a job waits for.
    pub(super) fn why(&self, job: JobId, now: Timestamp) -> Option<WaitFacts> {
        let entry = self.jobs.get(&job)?;
        let record = &entry.record;
        let covers = |hold: &&Hold| hold.scope.covers(&record.queue, &record.kind);
        // Suspects go before all others. Those with the same place in a fair queue don't count.
        let rank = |entry: &Entry| (!entry.is_suspect(), entry.place().rank);
        let goes_before = |other: &&Entry| {
            other.record.queue == record.queue
                && rank(other) < rank(entry)
                && !self.is_held(&other.record, now)
        };
        let is_in_line = record.state == State::Ready && !self.is_held(record, now);
        let ahead =
            if is_in_line { self.in_state(State::Ready).filter(goes_before).count() as u64 } else { 0 };
        Some(WaitFacts {
            now,
            holds: self.all_holds(now).into_iter().filter(|hold| covers(&hold)).collect(),
            ahead: ahead.min(AHEAD_COUNTED_MAX),
            spent: self.spent(now),
            limits: self.leased_under_limits(),
            rates: self.rates_spent(now),
            group: entry.rank.and_then(|_| entry.group()).and_then(|group| self.turns_of(&group, now)),
        })
    }

    /// Returns the use of the limits.
    pub(super) fn limits_use(&self, now: Timestamp) -> LimitsUse {
        let (leased, rates) = (self.leased_under_limits(), self.rates_spent(now));
        LimitsUse { now, leased, rates, groups: self.group_limits_use(now) }
    }

    /// Returns the number of jobs that are leased under each fleet limit.
    fn leased_under_limits(&self) -> Vec<(PluginName, u64)> {
        let mut limits = BTreeMap::new();
        for name in self.limited().filter_map(|entry| entry.limit.clone()) {
            *limits.entry(name).or_default() += 1;
        }
        limits.into_iter().collect()
    }

    /// Returns the rate limits of which not all tokens are there.
    fn rates_spent(&self, now: Timestamp) -> Vec<(RateOf, FullAt)> {
        let spent = self.rates.iter().filter(|(_, full_at)| full_at.0 > now.as_micros());
        spent.map(|(of, full_at)| (of.clone(), *full_at)).collect()
    }

    /// Whether a job is held back.
    fn is_held(&self, job: &JobRecord, now: Timestamp) -> bool {
        self.holds(now).any(|hold| hold.scope.covers(&job.queue, &job.kind))
            || self.gates_at(now).is_shut(&job.kind)
    }

    /// Makes due jobs ready, takes back expired leases, and removes final jobs and state past their time or number.
    pub(super) fn sweep(&mut self, sweep: &Sweep, now: Timestamp) -> Swept {
        let expired = self.expire(now);
        let promoted = self.promote(now);
        let (taken_back, buried) = self.take_back(sweep, now);
        self.cancel_rests(now);
        self.settle_edges(now);
        let mut removed = self.remove_old(now);
        for (plugin, keep_max) in &sweep.keep_max_of {
            removed += self.remove_surplus(Some(plugin), keep_max, SWEEP_MAX - removed, now);
        }
        removed += self.remove_surplus(None, &sweep.keep_max, SWEEP_MAX - removed, now);
        let let_in = self.let_in_all(now);
        self.forget_places();
        self.give_up_lanes(now);
        self.holds.retain(|_, hold| hold.is_in_force(now));
        for (_, record) in self.breakers.values_mut() {
            record.gate = record.gate.take().and_then(|gate| gate.swept(now));
        }
        self.trials.retain(|_, trial| !trial.is_forgotten(now));
        self.sweep_events(now);
        self.sweep_group_limits(now);
        let is_left = [expired, promoted, taken_back, removed, let_in].contains(&SWEEP_MAX);
        let limit_ends = self.group_limits.values().filter_map(|limit| limit.until).min();
        let next_due = self.next_due(now).into_iter().chain(limit_ends.map(|end| end.since(now))).min();
        let next_due = if is_left { Some(Duration::ZERO) } else { next_due };
        let has_ready = self.in_state(State::Ready).any(|entry| !self.is_held(&entry.record, now));
        let next_removal = self.jobs.values().filter_map(|entry| entry.remove_at).min();
        let next_removal = next_removal.map(|at| at.since(now));
        let next_schedule = self.first_schedule().map(|due| due.since(now));
        Swept { buried, next_due, next_schedule, next_removal, has_ready, unreadable: 0 }
    }

    /// Removes up to `most` jobs and values, and returns how many are left.
    pub(super) fn purge(&mut self, most: usize, now: Timestamp) -> u64 {
        let jobs: Vec<JobId> = self.jobs.keys().take(most.max(1)).copied().collect();
        jobs.iter().for_each(|id| drop(self.remove(*id, now)));
        self.keys.retain(|_, (job, held)| held.until == UniqueUntil::Over || !jobs.contains(job));
        let values: Vec<_> = self.state.keys().take(most.max(1) - jobs.len()).cloned().collect();
        values.iter().for_each(|at| drop(self.state.remove(at)));
        let left = self.jobs.len() + self.state.len();
        if left == 0 {
            self.accounts.clear();
            self.asked.clear();
            self.lanes_changed += self.lanes.len() as u64;
            self.lanes.clear();
            self.minute = (0, Fuel(0));
            self.trials.clear();
            self.holds.clear();
            self.group_rules.clear();
            self.group_limits.clear();
            self.fair.clear();
            self.rates.clear();
            self.flows.clear();
            self.settled.clear();
            self.rests.clear();
            self.schedules.clear();
            self.breakers.clear();
            self.keys.clear();
            self.event_log = None;
        }
        left as u64
    }

    /// Whether anything of the tenant is kept.
    pub(super) fn keeps_anything(&self) -> bool {
        let has_jobs = !(self.jobs.is_empty() && self.state.is_empty() && self.accounts.is_empty());
        has_jobs
            || !self.trials.is_empty()
            || !self.holds.is_empty()
            || !self.schedules.is_empty()
            || !self.breakers.is_empty()
    }

    /// Returns the time at which the first schedule is due.
    pub(super) fn first_schedule(&self) -> Option<Timestamp> {
        self.schedules.values().filter_map(|schedule| schedule.due_at).min()
    }

    /// Writes a schedule's record and enqueues jobs of it, or does nothing.
    pub(super) fn write_schedule(
        &mut self,
        tenant: &TenantId,
        write: &ScheduleWrite,
        now: Timestamp,
    ) -> ScheduleWritten {
        let ScheduleWrite { name, expected, record, jobs, bounds } = write;
        let stored = self.schedules.get(name).map(|schedule| schedule.version);
        if stored != *expected {
            return ScheduleWritten::Stale;
        }
        if stored.is_none() && record.is_some() && self.schedules.len() >= SCHEDULES_MAX {
            return ScheduleWritten::TooMany;
        }
        let mut next = self.clone();
        for job in jobs {
            match next.enqueue(tenant, job, bounds, now) {
                Enqueued::Stored => {}
                refusal => return ScheduleWritten::Refused(refusal),
            }
        }
        match record {
            None => drop(next.schedules.remove(name)),
            Some(record) => {
                let (due_at, record) = (record.due_at, Ok(record.bytes.clone()));
                let version = next_version(stored, now);
                let schedule = StoredSchedule { name: name.clone(), version, due_at, record };
                next.schedules.insert(name.clone(), schedule);
            }
        }
        *self = next;
        ScheduleWritten::Done
    }

    pub(super) fn schedules(&self, query: &ScheduleQuery, now: Timestamp) -> Schedules {
        let all = self.schedules.values();
        let mut schedules: Vec<StoredSchedule> = match query {
            ScheduleQuery::Due => all.filter(|s| s.due_at.is_some_and(|due| due <= now)).cloned().collect(),
            ScheduleQuery::Named(name) => self.schedules.get(name).cloned().into_iter().collect(),
            ScheduleQuery::After(after) => all.filter(|s| Some(&s.name) > after.as_ref()).cloned().collect(),
        };
        if *query == ScheduleQuery::Due {
            schedules.sort_by_key(|schedule| schedule.due_at);
        }
        schedules.truncate(SCHEDULES_PAGE);
        Schedules { now, schedules }
    }

    /// Records a daemon's report of a trial, and returns the trial's status.
    pub(super) fn report_trial(&mut self, report: &TrialReport, now: Timestamp) -> TrialStatus {
        let (trial, status) = Trial::report(self.trials.remove(&report.pair), report, now);
        self.trials.insert(report.pair.clone(), trial);
        status
    }

    /// Returns the number and size of the waiting jobs.
    fn waiting(&self) -> Waiting {
        let waits = self.jobs.values().filter(|entry| entry.record.state.waits());
        waits.fold(Waiting::default(), |sum, entry| Waiting {
            jobs: sum.jobs + 1,
            bytes: sum.bytes + entry.record.payload.len() as u64,
        })
    }

    fn spent(&self, now: Timestamp) -> FuelSpent {
        let of_day = self.accounts.iter().filter(|((day, _), _)| *day == Day::of(now));
        let day = of_day.fold(Account::default(), |sum, (_, account)| sum.and(account)).fuel;
        let minute = if self.minute.0 == minute_of(now) { self.minute.1 } else { Fuel(0) };
        FuelSpent::at(now, minute, day)
    }

    pub(super) fn renew(&mut self, renew: &Renew, expires_at: Timestamp) -> Renewal {
        let Some(entry) = self.jobs.get_mut(&renew.token.job).filter(|entry| entry.is_held_by(renew.token))
        else {
            return Renewal::Lost;
        };
        entry.record.lease_expires_at = Some(expires_at);
        entry.report(renew.progress.as_ref(), &renew.log);
        if entry.cancel_requested { Renewal::CancelRequested } else { Renewal::Held }
    }

    pub(super) fn settle(&mut self, tenant: &TenantId, settle: &Settle, now: Timestamp) -> SettleReply {
        let Some(entry) = self.jobs.get(&settle.token.job) else { return SettleReply::Lost };
        if let Some(refusal) = entry.standing().refusal(settle.token.lease) {
            return refusal;
        }
        let effects = settle.effects();
        if let Some((ran, effects)) = effects {
            let (plugin, quota) = (&ran.plugin, ran.state_max);
            if let Some(key) = self.conflict(plugin, effects, now) {
                return SettleReply::Conflict { key };
            }
            if let Some(excess) = self.excess(plugin, effects, quota, now) {
                return SettleReply::Full { excess, quota };
            }
            let bounds = ran.queue_max;
            if let Some(excess) = bounds.excess(self.waiting(), Waiting::of(effects.jobs())) {
                return SettleReply::QueueFull { excess, bounds };
            }
        }
        self.record_end(settle, now);
        if let Some((ran, effects)) = effects {
            effects.writes().for_each(|(key, write)| self.write(&ran.plugin, key, write, now));
            for job in effects.jobs() {
                self.enqueue(tenant, job, &QueueBounds::NONE, now);
            }
        }
        SettleReply::Applied
    }

    pub(super) fn act(
        &mut self,
        action: JobAction,
        job: JobId,
        still: Option<Still>,
        now: Timestamp,
    ) -> Changed {
        let Some(entry) = self.jobs.get_mut(&job) else { return Changed::Unknown };
        let standing = entry.standing();
        let (leased_at, finished_at) = (entry.record.leased_at, entry.record.finished_at);
        if let Some(changed) = still.and_then(|still| still.refusal(standing.state, leased_at, finished_at)) {
            return changed;
        }
        match standing.acted(action) {
            Acted::Change(change) => self.change(job, &change, now),
            Acted::Revive(change) => {
                let rule = entry.record.options.unique;
                let key = entry.record.unique_key.clone().filter(|_| rule.until == UniqueUntil::Settled);
                if let Some(holder) = key.as_ref().and_then(|key| self.holder(key, now)) {
                    return Changed::Duplicate(holder);
                }
                self.revive(job, change, now);
                self.keys.extend(key.map(|key| (key, (job, rule.hold(now)))));
            }
            Acted::AskHolder => {
                entry.cancel_requested = true;
                return Changed::Requested;
            }
            Acted::Release(_) if entry.record.waits_for.is_empty() => return Changed::Not(State::Blocked),
            Acted::Release(change) => self.change(job, &change, now),
            Acted::Remove => {
                let turn = self.remove(job, now).filter(|removed| removed.has_turn);
                if let Some(group) = turn.and_then(|removed| removed.group()) {
                    self.let_in_one(&group, None, now);
                }
            }
            Acted::Nothing => {}
            Acted::Refuse => return Changed::Not(standing.state),
        }
        Changed::Done
    }

    /// Edits a job, as a whole or not at all.
    pub(super) fn edit(&mut self, job: JobId, edit: JobEdit, bounds: &QueueBounds, now: Timestamp) -> Edited {
        let waiting = self.waiting();
        let Some(entry) = self.jobs.get_mut(&job) else { return Edited::Unknown };
        let change = match entry.standing().edited(edit.due.map(|due| due.delay(now))) {
            Ok(change) => change,
            Err(state) => return Edited::Not(state),
        };
        if let Some(payload) = edit.payload {
            let (before, after) = (entry.record.payload.len() as u64, payload.len() as u64);
            if let Some(excess) = bounds.payload_excess(waiting, before, after) {
                return Edited::Excess(excess);
            }
            entry.record.payload = payload;
        }
        if let Some(priority) = edit.priority {
            let before = std::mem::replace(&mut entry.record.priority, priority);
            let rule = self.group_rules.get(&entry.record.queue);
            entry.rank = entry.rank.map(|rank| rule.map_or(rank, |rule| rule.rank(priority)));
            // Which is done anew below if it is moved.
            let is_moved = change.as_ref().is_some_and(|change| change.next != Next::Blocked);
            if entry.record.state == State::Ready
                && !is_moved
                && priority != before
                && self.fair.contains_key(&entry.record.queue)
            {
                entry.arrival = arrival_of(&entry.record, &mut self.fair, &mut self.arrivals);
            }
        }
        if let Some(change) = change {
            if let (Some(start_by), Next::Waits(delay)) = (entry.start_by, change.next) {
                let before = entry.record.due_at.unwrap_or(now);
                entry.start_by = Some(start_by_after_edit(start_by, before, now.after(delay)));
            }
            self.change(job, &change, now);
        }
        Edited::Done
    }

    pub(super) fn record(&self, job: JobId) -> Option<JobRecord> {
        self.jobs.get(&job).map(|entry| entry.record.clone())
    }

    pub(super) fn log(&self, job: JobId) -> Vec<LogLine> {
        self.jobs.get(&job).map(|entry| entry.log.iter().cloned().collect()).unwrap_or_default()
    }

    pub(super) fn list(&self, query: &Query, now: Timestamp) -> Page {
        let mut found: Vec<(Cursor, &Entry)> =
            self.in_state(query.state).map(|entry| (entry.place(), entry)).collect();
        found.sort_by_key(|(place, _)| *place);
        if query.state.is_final() {
            found.reverse();
        }
        let is_behind = |place: Cursor| match query.after {
            None => true,
            Some(after) if query.state.is_final() => place < after,
            Some(after) => place > after,
        };
        let limit = query.limit.clamp(1, Query::LIMIT_MAX) as usize;
        let (mut jobs, mut bytes) = (Vec::new(), 0);
        let mut last = None;
        for (nth, (place, entry)) in found.into_iter().filter(|(place, _)| is_behind(*place)).enumerate() {
            if jobs.len() == limit || nth == Query::LOOKED_AT_MAX {
                return Page { jobs, next: last, unread: Vec::new(), now };
            }
            if query.filter.passes(&entry.record) {
                let record = entry.record.clone();
                let record = if query.payloads { record } else { record.without_payloads() };
                bytes += record.payload.len() + record.output.as_ref().map_or(0, Vec::len);
                if bytes > Query::BYTES_MAX && !jobs.is_empty() {
                    return Page { jobs, next: last, unread: Vec::new(), now };
                }
                jobs.push(record);
            }
            last = Some(place);
        }
        Page { jobs, next: None, unread: Vec::new(), now }
    }

    pub(super) fn counts(&self) -> Counts {
        Counts::of(&State::ALL.map(|state| (state, self.in_state(state).count() as u64)))
    }

    pub(super) fn queues(&self, after: Option<&QueueName>, max: usize, now: Timestamp) -> QueuePage {
        let mut all: BTreeMap<&QueueName, QueueCensus> = BTreeMap::new();
        let mut first: BTreeMap<(&QueueName, Priority), &Entry> = BTreeMap::new();
        for entry in self.jobs.values().filter(|entry| !entry.record.state.is_final()) {
            let queue = &entry.record.queue;
            let census = all.entry(queue).or_insert_with(|| QueueCensus::empty(queue.clone()));
            match entry.record.state {
                State::Scheduled => census.scheduled = census.scheduled.map(|n| n + 1),
                State::Blocked => census.blocked = census.blocked.map(|n| n + 1),
                State::Leased => census.leased = census.leased.map(|n| n + 1),
                _ => {
                    census.ready += 1;
                    let first = first.entry((queue, entry.record.priority)).or_insert(entry);
                    if entry.place() < first.place() {
                        *first = entry;
                    }
                }
            }
        }
        for ((queue, _), entry) in first {
            let since = Some(entry.record.enqueued_at).max(entry.record.leased_at);
            if let Some(census) = all.get_mut(queue) {
                census.oldest_ready = census.oldest_ready.map_or(since, |oldest| Some(oldest).min(since));
            }
        }
        let mut behind = all.into_values().filter(|census| after.is_none_or(|after| census.queue > *after));
        let queues: Vec<_> = behind.by_ref().take(max.clamp(1, QUEUES_PAGE_MAX)).collect();
        let next = behind.next().and_then(|_| queues.last()).map(|last| last.queue.clone());
        QueuePage { queues, next, now }
    }

    pub(super) fn stored(&self, plugin: &PluginName, key: &StateKey, now: Timestamp) -> Option<&[u8]> {
        let stored = self.state.get(&(plugin.clone(), key.clone()))?;
        stored.is_there(now).then_some(&stored.value)
    }

    pub(super) fn usage(&self, days: &RangeInclusive<Day>, now: Timestamp) -> Vec<DayUsage> {
        let kept = Day::of(now).before(USAGE_DAYS_KEPT);
        let wanted = self.accounts.iter().filter(|((day, _), _)| *day >= kept && days.contains(day));
        wanted
            .map(|((day, plugin), account)| DayUsage { day: *day, plugin: plugin.clone(), account: *account })
            .collect()
    }

    pub(super) fn in_state(&self, state: State) -> impl Iterator<Item = &Entry> {
        self.jobs.values().filter(move |entry| entry.record.state == state)
    }

    /// Returns the job that holds this unique key.
    fn holder(&self, key: &UniqueKey, now: Timestamp) -> Option<JobId> {
        self.keys.get(key).filter(|(_, held)| held.is_in_force(now)).map(|(job, _)| *job)
    }

    /// Applies a transition to a job, and gives the turn that it may give up to the next in its group's line.
    pub(super) fn change(&mut self, job: JobId, change: &Change<'_>, now: Timestamp) {
        let Some(entry) = self.jobs.get_mut(&job) else { return };
        let before = entry.standing();
        entry.record.waits_for.clear();
        let group = entry.group();
        let rule = group.as_ref().and_then(|(queue, _)| self.group_rules.get(queue)).copied();
        let turn = Turn::after(change.next, rule);
        let gives_up = entry.has_turn && turn == Turn::GivenUp;
        entry.has_turn &= !gives_up;
        if entry.has_turn && turn == Turn::Held && rule == Some(GroupRule::Strict(OnDead::CancelRest)) {
            self.rests.insert(job, now);
        }
        (entry.cancel_requested, entry.remove_at, entry.rank) = (false, None, None);
        entry.kept_of = None;
        if change.state().is_final() {
            entry.start_by = None;
        }
        let record = &mut entry.record;
        (record.state, record.lease) = (change.state(), change.lease);
        let JobCounts { attempts, expiries, faults } = change.counts;
        (record.attempts, record.expiries, record.faults) = (attempts, expiries, faults);
        (record.due_at, record.lease_expires_at, record.finished_at) = (None, None, None);
        match change.next {
            Next::Blocked | Next::Waits(Duration::ZERO) => {
                if let Some(rule) = rule.filter(|_| !entry.has_turn && change.next != Next::Blocked) {
                    record.state = State::Blocked;
                    entry.rank = Some(rule.rank(record.priority));
                }
                entry.arrival = match record.state {
                    State::Ready => arrival_of(record, &mut self.fair, &mut self.arrivals),
                    _ => next_arrival(&mut self.arrivals),
                };
            }
            Next::Waits(after) => record.due_at = Some(now.after(after)),
            Next::Ends(state, keep) => {
                record.finished_at = Some(now);
                entry.remove_at = Some(now.after(keep));
                if record.options.flow.is_some_and(|member| member.has_dependants) {
                    self.settled.insert((job, ParentEnd { state, is_removed: false }), now);
                }
            }
        }
        if let Some(why) = &change.why {
            record.reason = why.reason;
            record.message = why.message.as_deref().map(str::to_owned);
        }
        record.output = change.output.map(<[u8]>::to_vec);
        let is_blocked = record.state == State::Blocked;
        let lane = change.makes_lane.then(|| (record.queue.clone(), record.kind.clone()));
        if let Some((queue, kind)) = lane {
            self.note_lane(&queue, &kind, now);
        }
        self.free_key(job, change.state());
        let in_line = is_blocked && change.state() != State::Blocked;
        if let Some(event) = EventKind::of(&before, change, in_line) {
            let reason = change.why.as_ref().and_then(|why| why.reason);
            self.tell(event, job, attempt_of(&before), reason, now);
        }
        if let Some(group) = group.filter(|_| in_line || gives_up) {
            let came = Some(job).filter(|_| before.state != State::Blocked);
            self.let_in_one(&group, came, now);
        }
    }

    /// Applies to each job its transition, and returns how many there are.
    fn change_all<'a>(
        &mut self,
        jobs: &[JobId],
        now: Timestamp,
        transition: impl Fn(&Standing) -> Change<'a>,
    ) -> usize {
        for job in jobs {
            let Some(entry) = self.jobs.get(job) else { continue };
            self.change(*job, &transition(&entry.standing()), now);
        }
        jobs.len()
    }

    /// Returns the times by which jobs have to start.
    fn expiring(&self) -> impl Iterator<Item = Timestamp> {
        self.jobs.values().filter_map(|entry| entry.start_by)
    }

    /// Cancels the jobs that haven't started within their time. Returns how many had that time behind them: one that is leased
    /// has started.
    fn expire(&mut self, now: Timestamp) -> usize {
        let expired = first_until(self.jobs.values().map(|entry| (entry.start_by, entry.record.id)), now);
        for id in &expired {
            let Some(entry) = self.jobs.get_mut(id) else { continue };
            entry.start_by = None;
            if entry.record.state != State::Leased {
                let change = entry.standing().expired();
                self.change(*id, &change, now);
            }
        }
        expired.len()
    }

    /// Makes due jobs ready, and returns how many.
    fn promote(&mut self, now: Timestamp) -> usize {
        let due = self.in_state(State::Scheduled).map(|entry| (entry.record.due_at, entry.record.id));
        let due = first_until(due, now);
        self.change_all(&due, now, Standing::made_ready)
    }

    /// Takes back expired leases; returns how many, and the jobs that were buried as too many leases of them had expired.
    fn take_back(&mut self, sweep: &Sweep, now: Timestamp) -> (usize, Vec<JobId>) {
        let expired =
            self.in_state(State::Leased).map(|entry| (entry.record.lease_expires_at, entry.record.id));
        let expired = first_until(expired, now);
        let taken_back = |standing: &Standing| standing.taken_back(sweep.expiries_max);
        let mut buried = expired.clone();
        buried.retain(|id| {
            let change = self.jobs.get(id).map(|entry| taken_back(&entry.standing()));
            change.is_some_and(|change| change.state() == State::Dead)
        });
        for id in &expired {
            let Some(entry) = self.jobs.get_mut(id) else { continue };
            let attempt =
                AttemptRecord { reason: Some(Reason::LeaseExpired), ..entry.attempt_that_ends(now) };
            history::add(&mut entry.record.history, attempt);
            entry.start_by = None;
        }
        self.change_all(&expired, now, taken_back);
        (expired.len(), buried)
    }

    /// Removes final jobs past their keep time, and state past its time. Returns the number of jobs.
    fn remove_old(&mut self, now: Timestamp) -> usize {
        self.state.retain(|_, stored| stored.is_there(now));
        let old = self.jobs.values().filter(|entry| entry.remove_at.is_some());
        let old = first_until(old.map(|entry| (entry.remove_at, entry.record.id)), now);
        old.iter().for_each(|id| drop(self.remove(*id, now)));
        old.len()
    }

    /// Removes the oldest final jobs in excess of the numbers to be kept, of a plugin or of all, at most `most`, and returns how
    /// many.
    fn remove_surplus(
        &mut self,
        of: Option<&PluginName>,
        keep: &KeepMax,
        most: usize,
        now: Timestamp,
    ) -> usize {
        let mut removed = 0;
        for (state, kept) in keep.by_state() {
            let finals = self.in_state(state).filter(|entry| of.is_none() || entry.kept_of.as_ref() == of);
            let mut finals: Vec<_> =
                finals.map(|entry| (entry.record.finished_at, entry.record.id)).collect();
            finals.sort();
            let surplus = finals.len().saturating_sub(usize::try_from(kept).unwrap_or(usize::MAX));
            for (_, id) in finals.into_iter().take(surplus.min(most - removed)) {
                drop(self.remove(id, now));
                removed += 1;
            }
        }
        removed
    }

    /// Returns the first `n` ready jobs of a queue and its lanes: first at most `suspects` suspects, then the others. A kind of
    /// which it meets a job that is held back gets a lane of its own.
    fn first_ready(
        &mut self,
        queue: &QueueName,
        n: u32,
        suspects: u32,
        lanes: &mut LaneRooms<'_>,
        now: Timestamp,
    ) -> Vec<JobId> {
        let mut waiting: Vec<&Entry> =
            self.in_state(State::Ready).filter(|entry| entry.record.queue == *queue).collect();
        waiting.sort_by_key(|entry| entry.place());
        let waiting = waiting.into_iter().cloned();
        let (suspected, others): (Vec<Entry>, Vec<Entry>) = waiting.partition(Entry::is_suspect);
        let mut first = Vec::new();
        for (entries, most) in [(suspected, suspects.min(n)), (others, n)] {
            let mut left = most.min(n - first.len() as u32);
            for entry in entries {
                if left == 0 {
                    break;
                }
                let kind = &entry.record.kind;
                let is_held = self.is_held(&entry.record, now);
                let is_gated = is_held || self.gates_at(now).probing(kind).next().is_some();
                if is_gated && !self.lanes.contains_key(&(queue.clone(), kind.clone())) {
                    self.note_lane(queue, kind, now);
                }
                let is_split = self.lanes.contains_key(&(queue.clone(), kind.clone()));
                if is_held {
                    continue;
                } else if !is_split || lanes.take(&entry.record) {
                    first.push(entry.record.id);
                    left -= 1;
                }
            }
        }
        first
    }

    fn has_settled(&self) -> bool {
        !(self.settled.is_empty() && self.rests.is_empty())
    }

    /// Returns the time until a sweep has something to do, other than to remove.
    fn next_due(&self, now: Timestamp) -> Option<Duration> {
        if self.has_settled() {
            return Some(Duration::ZERO);
        }
        let due = self.in_state(State::Scheduled).filter_map(|entry| entry.record.due_at);
        let expiring = self.in_state(State::Leased).filter_map(|entry| entry.record.lease_expires_at);
        let ending = self.holds.values().filter_map(|hold| hold.until);
        let ending = ending.chain(self.gates().filter_map(|(_, gate)| gate.next()));
        due.chain(expiring).chain(ending).chain(self.expiring()).min().map(|at| at.since(now))
    }

    /// Returns the first key whose value isn't the one that the run relied on.
    fn conflict(&self, plugin: &PluginName, effects: &Effects, now: Timestamp) -> Option<StateKey> {
        let stored = |key: &StateKey| Ok::<_, Infallible>(self.stored(plugin, key, now));
        effects.conflict(stored).unwrap_or_else(|never| match never {}).cloned()
    }

    /// Returns the part of the quota that would be exceeded if a run's writes were applied.
    fn excess(
        &self,
        plugin: &PluginName,
        effects: &Effects,
        quota: StateQuota,
        now: Timestamp,
    ) -> Option<StateExcess> {
        let own = self.state.iter().filter(|((of, _), stored)| of == plugin && stored.is_there(now));
        let mut lengths: BTreeMap<&StateKey, usize> =
            own.map(|((_, key), stored)| (key, stored.value.len())).collect();
        let before = size_of(&lengths);
        for (key, write) in effects.writes() {
            let length = write.over(self.stored(plugin, key, now)).ok().and_then(|written| written.length());
            match length {
                Some(length) => lengths.insert(key, length),
                None => lengths.remove(key),
            };
        }
        quota.excess(before, size_of(&lengths)).filter(|_| effects.writes().len() > 0)
    }

    fn write(&mut self, plugin: &PluginName, key: &StateKey, write: &StateWrite, now: Timestamp) {
        let at = (plugin.clone(), key.clone());
        let before = self.state.remove(&at).filter(|stored| stored.is_there(now));
        let written = write
            .over(before.as_ref().map(|stored| stored.value.as_slice()))
            .expect("a sum that can't be made is a conflict, and was found before");
        let (value, expires_at) = match written {
            Written::Gone => return,
            Written::Value(value, ttl) => (value, ttl.map(|ttl| now.after(ttl))),
            Written::Changed(value) => (value, before.and_then(|stored| stored.expires_at)),
        };
        self.state.insert(at, Stored { value, expires_at });
    }

    /// Records the end of a run as its holder reported it, except for the effects.
    fn record_end(&mut self, settle: &Settle, now: Timestamp) {
        let Some(entry) = self.jobs.get_mut(&settle.token.job) else { return };
        entry.report(settle.progress.as_ref(), &settle.log);
        if let Some(ran) = &settle.ran {
            entry.record.usage = entry.record.usage.and(ran.usage);
            entry.record.revision = Some(ran.revision);
        }
        if settle.settlement.is_start(settle.ran.is_some()) {
            entry.start_by = None;
        }
        if let Some(attempt) = settle.attempt(entry.attempt_that_ends(now)) {
            history::add(&mut entry.record.history, attempt);
        }
        let standing = entry.standing();
        if let Some((plugin, account)) = settle.account(standing.run_end(&settle.settlement)) {
            let of_day = self.accounts.entry((Day::of(now), plugin.clone())).or_default();
            *of_day = of_day.and(&account);
            let so_far = if self.minute.0 == minute_of(now) { self.minute.1 } else { Fuel(0) };
            let fuel = so_far.0.saturating_add(account.fuel.0).min(Account::MOST);
            self.minute = (minute_of(now), Fuel(fuel));
        }
        let change = standing.settled(&settle.settlement, settle.keep);
        self.change(settle.token.job, &change, now);
        if let Some(entry) = self.jobs.get_mut(&settle.token.job).filter(|_| change.state().is_final()) {
            entry.kept_of = settle.keeper().cloned();
        }
    }
}

/// Room in each lane for the jobs of one lease request.
struct LaneRooms<'a> {
    lanes: Vec<(&'a LaneAsk, u32)>,
    /// Number of further jobs that may be leased under each fleet limit.
    free: BTreeMap<&'a PluginName, u32>,
    /// Number of tokens left of each rate limit.
    tokens: BTreeMap<&'a RateOf, u32>,
    gates: Barriers,
    /// Number of further jobs that may be leased as probes of each breaker.
    probes: BTreeMap<BreakerName, u32>,
}

impl<'a> LaneRooms<'a> {
    fn of(ask: &LeaseAsk<'a>, tenant: &Tenant, now: Timestamp) -> Self {
        let mut free = BTreeMap::new();
        for limit in ask.lanes.iter().filter_map(|lane| lane.limit.as_ref()) {
            let under_way =
                tenant.limited().filter(|entry| entry.limit.as_ref() == Some(&limit.name)).count();
            free.insert(&limit.name, limit.most.saturating_sub(u32::try_from(under_way).unwrap_or(u32::MAX)));
        }
        let left = |(of, rate): (&'a RateOf, Rate)| {
            (of, rate.left(tenant.rates.get(of).copied().unwrap_or_default(), now.as_micros()))
        };
        let tokens = rates_of(ask).map(left).collect();
        let gates = tenant.gates_at(now);
        let mut probes = BTreeMap::new();
        for (name, most) in ask.lanes.iter().flat_map(|lane| gates.probing(&lane.kind)) {
            let under_way = tenant.probes().filter(|entry| entry.probe_of.contains(name)).count();
            let under_way = u32::try_from(under_way).unwrap_or(u32::MAX);
            probes.insert(name.clone(), most.get().saturating_sub(under_way));
        }
        Self { lanes: ask.lanes.iter().map(|lane| (lane, lane.room)).collect(), free, tokens, gates, probes }
    }

    fn lane_of(&mut self, job: &JobRecord) -> Option<&mut (&'a LaneAsk, u32)> {
        self.lanes.iter_mut().find(|(lane, _)| lane.queue == job.queue && lane.kind == job.kind)
    }

    /// Takes room for a job of a lane; returns whether there was any.
    fn take(&mut self, job: &JobRecord) -> bool {
        let Some((lane, room)) = self.lane_of(job).map(|(lane, room)| (*lane, *room)) else { return false };
        let probing = self.probe_of(job);
        let free = lane.limit.as_ref().and_then(|limit| self.free.get_mut(&limit.name));
        let tokens = lane.rate.as_ref().and_then(|limit| self.tokens.get_mut(&limit.of));
        if room == 0
            || probing.iter().any(|name| self.probes.get(name) == Some(&0))
            || free.as_ref().is_some_and(|free| **free == 0)
            || tokens.as_ref().is_some_and(|tokens| **tokens == 0)
        {
            return false;
        }
        if let Some(free) = free {
            *free -= 1;
        }
        if let Some(tokens) = tokens {
            *tokens -= 1;
        }
        for name in &probing {
            self.probes.entry(name.clone()).and_modify(|left| *left -= 1);
        }
        if let Some((_, room)) = self.lane_of(job) {
            *room -= 1;
        }
        true
    }

    /// Returns the breakers whose probe a job is that is leased.
    fn probe_of(&self, job: &JobRecord) -> Vec<BreakerName> {
        self.gates.probing(&job.kind).map(|(name, _)| name.clone()).collect()
    }

    /// Returns the rate limit of which a job of a lane takes a token.
    fn rate_of(&mut self, job: &JobRecord) -> Option<&'a RateOf> {
        self.lane_of(job).and_then(|(lane, _)| lane.rate.as_ref().map(|limit| &limit.of))
    }

    /// Returns the fleet limit that a job of a lane counts against.
    fn limit_of(&mut self, job: &JobRecord) -> Option<PluginName> {
        self.lane_of(job).and_then(|(lane, _)| lane.limit.as_ref().map(|limit| limit.name.clone()))
    }
}

/// Returns the rate limits of an ask. If one is named twice, the last one counts.
fn rates_of<'a>(ask: &LeaseAsk<'a>) -> impl Iterator<Item = (&'a RateOf, Rate)> {
    ask.lanes.iter().filter_map(|lane| lane.rate.as_ref()).map(|limit| (&limit.of, limit.rate))
}

impl Entry {
    fn new(tenant: &TenantId, job: &NewJob, now: Timestamp) -> Self {
        let record = JobRecord::of(job.clone(), tenant.clone(), now);
        Self {
            record,
            log: VecDeque::new(),
            arrival: 0,
            rank: None,
            has_turn: false,
            cancel_requested: false,
            remove_at: None,
            kept_of: None,
            limit: None,
            probe_of: Vec::new(),
            start_by: job.options.start_within.map(|within| now.after(within)),
        }
    }

    /// Returns its place in the list of its state.
    pub(super) fn place(&self) -> Cursor {
        let record = &self.record;
        let millis = |at: Option<Timestamp>| at.map_or(0, Timestamp::as_millis);
        let rank = match record.state {
            State::Blocked => self.arrival,
            State::Scheduled => millis(record.due_at),
            State::Ready => u64::from(u8::MAX - record.priority.0) << 45 | self.arrival,
            State::Leased => millis(record.lease_expires_at),
            State::Succeeded | State::Dead | State::Cancelled => millis(record.finished_at),
        };
        Cursor { rank, id: record.id }
    }

    /// Returns the state from which its transitions are decided.
    pub(super) fn standing(&self) -> Standing {
        let JobRecord { state, lease, attempts, expiries, faults, .. } = self.record;
        let counts = JobCounts { attempts, expiries, faults };
        Standing { state, lease, counts, cancel_requested: self.cancel_requested }
    }

    /// Returns the queue and the key of its group.
    pub(super) fn group(&self) -> Option<Group> {
        let key = self.record.options.group.clone()?;
        Some((self.record.queue.clone(), key))
    }

    /// Whether it is dead, and holds its group.
    pub(super) fn holds_group(&self) -> bool {
        self.has_turn && self.record.state == State::Dead
    }

    fn is_suspect(&self) -> bool {
        self.standing().counts.is_suspect()
    }

    fn is_held_by(&self, token: LeaseToken) -> bool {
        self.standing().refusal(token.lease).is_none()
    }

    fn lease(&mut self, now: Timestamp, expires_at: Timestamp) -> Lease {
        let record = &mut self.record;
        record.state = State::Leased;
        record.lease = record.lease.next();
        record.leased_at = Some(now);
        record.lease_expires_at = Some(expires_at);
        self.as_lease()
    }

    fn as_lease(&self) -> Lease {
        let token = LeaseToken { job: self.record.id, lease: self.record.lease };
        Lease { token, job: self.record.clone().into_job() }
    }

    /// Returns the record of its attempt under way, if that ended now with a success of which nothing more is known.
    fn attempt_that_ends(&self, now: Timestamp) -> AttemptRecord {
        AttemptRecord::of(&self.standing(), self.record.leased_at.unwrap_or(now), now)
    }

    /// Records a run's report: the latest progress replaces the earlier one, surplus log lines are removed, the oldest first.
    fn report(&mut self, progress: Option<&Progress>, lines: &[LogLine]) {
        if let Some(progress) = progress {
            self.record.progress = Some(progress.clone());
        }
        self.log.extend(lines.iter().cloned());
        let surplus = self.log.len().saturating_sub(LOG_LINES_KEPT);
        self.log.drain(..surplus);
    }
}

impl Stored {
    fn is_there(&self, now: Timestamp) -> bool {
        self.expires_at.is_none_or(|expires_at| expires_at > now)
    }
}

/// Returns the number of a job that comes now.
pub(super) fn next_arrival(arrivals: &mut u64) -> u64 {
    *arrivals += 1;
    *arrivals
}

/// Returns the place of a job that becomes ready.
pub(super) fn arrival_of(
    job: &JobRecord,
    fair: &mut BTreeMap<QueueName, (FairRule, FairPlaces)>,
    arrivals: &mut u64,
) -> u64 {
    match fair.get_mut(&job.queue) {
        Some((rule, places)) => places.next(rule, job.priority, job.options.group.as_ref()),
        None => next_arrival(arrivals),
    }
}

fn size_of(lengths: &BTreeMap<&StateKey, usize>) -> StateSize {
    let bytes = lengths.iter().map(|(key, length)| key.as_str().len() + length).sum();
    StateSize { bytes: Bytes::of(bytes), keys: lengths.len() as u64 }
}

/// Returns the jobs whose time has come, the earliest first, ties by id, at most [`SWEEP_MAX`].
fn first_until(jobs: impl Iterator<Item = (Option<Timestamp>, JobId)>, now: Timestamp) -> Vec<JobId> {
    let mut due: Vec<_> = jobs.filter(|(at, _)| at.is_some_and(|at| at <= now)).collect();
    due.sort();
    due.truncate(SWEEP_MAX);
    due.into_iter().map(|(_, id)| id).collect()
}
