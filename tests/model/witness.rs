//! A witness who sees every call arrive and every answer go, believes no token, and notes what is wrong.

use std::collections::BTreeMap;

use sandhog_broker::{Changed, Renewal, Settle};
use sandhog_core::attempt::{Ending, SettleReply};
use sandhog_core::id::LeaseNo;
use sandhog_core::job::State;
use sandhog_core::reason::Reason;
use sandhog_core::settle::Settlement;

use crate::call::{Nth, Wanted};
use crate::store::{Seen, SeenJob, Sent};

/// All that it has noted.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Witness {
    pub(crate) jobs: Vec<Noted>,
    /// The kinds that have a lane, each with whether nobody has asked for it in an hour.
    pub(crate) lanes: BTreeMap<&'static str, IsOld>,
    /// The place under a limit that was left last.
    pub(crate) left: Option<Left>,
    /// More jobs were under way than a limit allows.
    pub(crate) has_overrun: bool,
    /// A job of a lane went to somebody who hadn't asked for that lane.
    pub(crate) has_strayed: bool,
    /// The first thing that was wrong.
    pub(crate) wrong: Option<&'static str>,
}

/// What it has noted of a job.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Noted {
    pub(crate) kind: &'static str,
    pub(crate) is_enqueued: bool,
    pub(crate) is_acknowledged: bool,
    /// Who has the right to it.
    holder: Option<LeaseNo>,
    /// The plugin whose limit it counts against, while somebody has that right.
    limit: Option<&'static str>,
    /// The time of that right is over.
    has_run_out: bool,
    last_lease: u64,
    /// By which lease it was settled last.
    settled_by: Option<LeaseNo>,
    /// By which its success was recorded.
    pub(crate) succeeded_by: Vec<LeaseNo>,
    /// Settlements that were recorded and count as attempts.
    pub(crate) attempts: u32,
    /// Leases that were taken back since an attempt last ended.
    pub(crate) expiries: u32,
    /// By which leases log lines were brought that must be kept.
    pub(crate) log: Vec<u32>,
    ended_as: Option<State>,
    /// A holder has come back after its lease was another's, and was refused.
    pub(crate) has_refused: bool,
    /// A holder has said the same twice, and has heard the same twice.
    pub(crate) has_repeated: bool,
    pub(crate) has_met_a_conflict: bool,
}

pub(crate) type IsOld = bool;

/// A place under a limit that is free again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Left {
    /// Who had it.
    pub(crate) job: Nth,
    pub(crate) end: End,
}

/// How a lease ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum End {
    Settled,
    Released(Reason),
    Cancelled,
    TakenBack,
}

/// A settlement, and the answer to it.
pub(crate) struct Told<'a> {
    pub(crate) job: Nth,
    pub(crate) settle: &'a Settle,
    pub(crate) reply: &'a SettleReply,
}

impl Witness {
    pub(crate) fn of(jobs: &[Sent]) -> Self {
        Self {
            jobs: jobs.iter().map(|job| Noted::new(job.kind)).collect(),
            lanes: BTreeMap::new(),
            left: None,
            has_overrun: false,
            has_strayed: false,
            wrong: None,
        }
    }

    pub(crate) fn enqueued(&mut self, job: Nth) {
        self.jobs[job].is_enqueued = true;
    }

    pub(crate) fn acknowledged(&mut self, job: Nth) {
        self.jobs[job].is_acknowledged = true;
    }

    pub(crate) fn runs_out(&mut self, job: Nth) {
        self.jobs[job].has_run_out = true;
    }

    /// Nobody has asked for anything in an hour.
    pub(crate) fn an_hour_passes(&mut self) {
        self.lanes.values_mut().for_each(|is_old| *is_old = true);
    }

    /// Leases that have run out are taken back, and old lanes given up in which nothing is left.
    pub(crate) fn sweeps(&mut self, after: &Seen) {
        for job in 0..self.jobs.len() {
            if self.jobs[job].holder.is_some() && self.jobs[job].has_run_out {
                self.ends_lease(job, End::TakenBack);
                self.jobs[job].expiries += 1;
            }
        }
        let waits = self.jobs.iter().zip(&after.jobs);
        let held: Vec<&str> = waits
            .filter(|(_, job)| job.as_ref().is_some_and(|job| job.state == State::Ready))
            .map(|(noted, _)| noted.kind)
            .collect();
        self.lanes.retain(|kind, is_old| !*is_old || held.contains(kind));
    }

    /// Somebody asks for a job, and may be given one.
    pub(crate) fn is_asked(&mut self, wanted: &Wanted, given: Option<(Nth, LeaseNo)>) {
        self.lanes.extend(wanted.lanes.iter().map(|lane| (lane.kind, false)));
        let Some((job, lease)) = given else { return };
        let lane = wanted.lanes.iter().find(|lane| lane.kind == self.jobs[job].kind);
        self.has_strayed |= lane.is_none() && self.lanes.contains_key(self.jobs[job].kind);
        let limit = lane.and_then(|lane| lane.limit);
        let noted = &mut self.jobs[job];
        let has_two = noted.holder.is_some();
        let is_old = lease.0 <= noted.last_lease;
        noted.holder = Some(lease);
        noted.limit = limit.map(|limit| limit.plugin);
        noted.has_run_out = false;
        noted.last_lease = lease.0;
        self.check(!has_two, "a job was leased while somebody held it");
        self.check(!is_old, "a lease number came back");
        if let Some(limit) = limit {
            let counted = self.jobs.iter().filter(|noted| noted.limit == Some(limit.plugin)).count();
            self.has_overrun |= counted > limit.most as usize;
        }
    }

    fn ends_lease(&mut self, job: Nth, end: End) {
        let noted = &mut self.jobs[job];
        noted.holder = None;
        if noted.limit.take().is_some() {
            self.left = Some(Left { job, end });
        }
    }

    pub(crate) fn renewed(&mut self, job: Nth, lease: LeaseNo, answer: Renewal, before: &Seen, after: &Seen) {
        let noted = &mut self.jobs[job];
        if noted.holder == Some(lease) {
            noted.has_run_out = false;
            noted.log.push(lease.0 as u32);
            return self.check(answer != Renewal::Lost, "a holder was told that its lease is lost");
        }
        noted.has_refused |= answer == Renewal::Lost;
        self.check(answer == Renewal::Lost, "a stale token renewed a lease");
        self.check(before == after, "a renewal with a stale token changed something");
    }

    pub(crate) fn settled(&mut self, told: &Told<'_>, before: &Seen, after: &Seen) {
        let (lease, noted) = (told.settle.token.lease, &mut self.jobs[told.job]);
        if noted.holder == Some(lease) {
            match told.reply {
                SettleReply::Applied => {
                    let end = noted.is_settled(told.settle, before.jobs[told.job].as_ref());
                    if end == End::Released(Reason::NoPlugin) {
                        self.lanes.insert(noted.kind, false);
                    }
                    self.ends_lease(told.job, end);
                }
                SettleReply::Conflict { .. } => noted.has_met_a_conflict = true,
                SettleReply::Lost
                | SettleReply::Full { .. }
                | SettleReply::QueueFull { .. }
                | SettleReply::Unreadable => {}
            }
            let is_refused = !matches!(told.reply, SettleReply::Applied | SettleReply::Conflict { .. });
            return self.check(!is_refused, "a holder couldn't settle");
        }
        let is_repeated = noted.settled_by == Some(lease);
        match told.reply {
            SettleReply::Applied => noted.has_repeated |= is_repeated,
            _ => noted.has_refused = true,
        }
        let is_applied = *told.reply == SettleReply::Applied;
        self.check(is_applied || *told.reply == SettleReply::Lost, "a stale token got as far as the state");
        self.check(!is_applied || is_repeated, "a stale token was told that its settlement is recorded");
        self.check(before == after, "a settlement with a stale token changed something");
    }

    pub(crate) fn cancels(&mut self, job: Nth, answer: Changed) {
        let is_held = self.jobs[job].holder.is_some();
        self.check((answer == Changed::Requested) == is_held, "a job was cancelled over its holder's head");
    }

    /// A daemon is done with an attempt.
    pub(crate) fn ends(&mut self, job: Nth, lease: LeaseNo, ending: Ending) {
        let is_true = ending == Ending::Lost || self.jobs[job].settled_by == Some(lease);
        self.check(is_true, "a daemon takes for settled what isn't");
    }

    /// Looks at the broker after each step.
    pub(crate) fn looks_at(&mut self, seen: &Seen) {
        for nth in 0..self.jobs.len() {
            let state = seen.jobs[nth].as_ref().map(|job| job.state);
            let is_final = state.filter(|state| state.is_final());
            let ended_as = self.jobs[nth].ended_as;
            self.check(ended_as.is_none() || ended_as == state, "what was final has changed");
            self.jobs[nth].ended_as = is_final;
        }
        let as_noted = self.lanes.keys().copied().eq(seen.lanes.kinds.iter().map(String::as_str));
        self.check(as_noted, "the lanes aren't those that were asked for or made");
    }

    fn check(&mut self, holds: bool, wrong: &'static str) {
        if !holds {
            self.wrong.get_or_insert(wrong);
        }
    }
}

impl Noted {
    fn new(kind: &'static str) -> Self {
        Self {
            kind,
            is_enqueued: false,
            is_acknowledged: false,
            holder: None,
            limit: None,
            has_run_out: false,
            last_lease: 0,
            settled_by: None,
            succeeded_by: Vec::new(),
            attempts: 0,
            expiries: 0,
            log: Vec::new(),
            ended_as: None,
            has_refused: false,
            has_repeated: false,
            has_met_a_conflict: false,
        }
    }

    /// Whether it is leased, and counts against a limit.
    pub(crate) fn is_counted(&self) -> bool {
        self.limit.is_some()
    }

    fn is_settled(&mut self, settle: &Settle, before: Option<&SeenJob>) -> End {
        let lease = settle.token.lease;
        let is_cancelled = before.is_some_and(|job| job.is_to_be_cancelled);
        self.settled_by = Some(lease);
        self.log.push(lease.0 as u32);
        match &settle.settlement {
            Settlement::Succeed { .. } => {
                self.attempts += 1;
                self.succeeded_by.push(lease);
                End::Settled
            }
            Settlement::Bury { .. } => {
                self.attempts += 1;
                End::Settled
            }
            // Of a job that is cancelled, a failure needn't be counted.
            Settlement::Retry { .. } | Settlement::Release { .. } if is_cancelled => End::Cancelled,
            Settlement::Cancel => End::Cancelled,
            Settlement::Retry { .. } => {
                self.attempts += 1;
                self.expiries = 0;
                End::Settled
            }
            Settlement::Release { reason, .. } => End::Released(*reason),
        }
    }
}
