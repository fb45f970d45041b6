//! A revision on trial beside the one that is in force.

use std::sync::{Arc, Mutex, PoisonError};

use sandhog_core::canary::{Policy, Record, Side, Verdict, judge, side};
use sandhog_core::id::{JobId, Revision};
use sandhog_core::outcome::Report;
use tokio::sync::Notify;
use tokio::time::Instant;

/// The trial: the runs on both sides are counted in it, from any thread.
#[derive(Debug)]
pub struct CanaryTrial {
    policy: Policy,
    revision: Revision,
    /// When it began.
    since: Instant,
    records: Mutex<Records>,
    decided: Arc<Notify>,
}

/// What both sides have done so far.
#[derive(Debug, Clone, Copy, Default)]
pub struct Records {
    /// The revision in force.
    pub old: Record,
    /// The one on trial.
    pub new: Record,
}

impl CanaryTrial {
    /// A trial of `revision`. `decided` hears when there is a verdict.
    #[must_use]
    pub fn new(policy: Policy, revision: Revision, decided: Arc<Notify>) -> Self {
        Self { policy, revision, since: Instant::now(), records: Mutex::default(), decided }
    }

    /// The rules.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The side that a job runs on.
    #[must_use]
    pub fn side(&self, job: JobId) -> Side {
        side(job, self.revision, self.policy.share)
    }

    /// Counts a run.
    pub fn record(&self, side: Side, report: &Report) {
        let verdict = {
            let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
            let of_side = match side {
                Side::Old => &mut records.old,
                Side::New => &mut records.new,
            };
            of_side.count(&report.outcome, report.usage.fuel);
            judge(&self.policy, &records.old, &records.new, self.since.elapsed())
        };
        if verdict != Verdict::Undecided {
            self.decided.notify_one();
        }
    }

    /// When its time is over. None if that is never.
    #[must_use]
    pub fn ends(&self) -> Option<Instant> {
        self.since.checked_add(self.policy.max_age)
    }

    /// What is known so far.
    #[must_use]
    pub fn records(&self) -> Records {
        *self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is to be done by now.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        let Records { old, new } = self.records();
        judge(&self.policy, &old, &new, self.since.elapsed())
    }
}
