//! A witness who sees every call arrive and every answer go, believes no token, and notes what is wrong.

use sandhog_broker::{Changed, Renewal, Settle};
use sandhog_core::attempt::{Ending, SettleReply};
use sandhog_core::id::LeaseNo;
use sandhog_core::job::State;
use sandhog_core::settle::Settlement;

use crate::call::Nth;
use crate::store::{Seen, SeenJob};

/// All that it has noted.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Witness {
    pub(crate) jobs: Vec<Noted>,
    /// The first thing that was wrong.
    pub(crate) wrong: Option<&'static str>,
}

/// What it has noted of a job.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(crate) struct Noted {
    pub(crate) is_enqueued: bool,
    pub(crate) is_acknowledged: bool,
    /// Who has the right to it.
    holder: Option<LeaseNo>,
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

/// A settlement, and the answer to it.
pub(crate) struct Told<'a> {
    pub(crate) job: Nth,
    pub(crate) settle: &'a Settle,
    pub(crate) reply: &'a SettleReply,
}

impl Witness {
    pub(crate) fn of(jobs: usize) -> Self {
        Self { jobs: vec![Noted::default(); jobs], wrong: None }
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

    /// Leases that have run out are taken back.
    pub(crate) fn sweeps(&mut self) {
        for noted in self.jobs.iter_mut().filter(|noted| noted.holder.is_some() && noted.has_run_out) {
            noted.holder = None;
            noted.expiries += 1;
        }
    }

    pub(crate) fn leased(&mut self, job: Nth, lease: LeaseNo) {
        let noted = &mut self.jobs[job];
        let has_two = noted.holder.is_some();
        let is_old = lease.0 <= noted.last_lease;
        noted.holder = Some(lease);
        noted.has_run_out = false;
        noted.last_lease = lease.0;
        self.check(!has_two, "a job was leased while somebody held it");
        self.check(!is_old, "a lease number came back");
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
                SettleReply::Applied => noted.is_settled(told.settle, before.jobs[told.job].as_ref()),
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
    }

    fn check(&mut self, holds: bool, wrong: &'static str) {
        if !holds {
            self.wrong.get_or_insert(wrong);
        }
    }
}

impl Noted {
    fn is_settled(&mut self, settle: &Settle, before: Option<&SeenJob>) {
        let lease = settle.token.lease;
        let is_cancelled = before.is_some_and(|job| job.is_to_be_cancelled);
        self.holder = None;
        self.settled_by = Some(lease);
        self.log.push(lease.0 as u32);
        match &settle.settlement {
            Settlement::Succeed { .. } => {
                self.attempts += 1;
                self.succeeded_by.push(lease);
            }
            Settlement::Bury { .. } => self.attempts += 1,
            // Of a job that is cancelled, a failure needn't be counted.
            Settlement::Retry { .. } if is_cancelled => {}
            Settlement::Retry { .. } => {
                self.attempts += 1;
                self.expiries = 0;
            }
            Settlement::Release { .. } | Settlement::Cancel => {}
        }
    }
}
