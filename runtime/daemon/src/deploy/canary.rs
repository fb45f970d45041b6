//! Trial of a revision beside the one that is in force.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sandhog_core::canary::{Policy, Side, Verdict, judge, side};
use sandhog_core::id::{JobId, Revision};
use sandhog_core::outcome::Report;
use sandhog_core::trial::{Records, TrialStatus};
use tokio::sync::Notify;
use tokio::time::Instant;

/// Trial of a revision. The runs on both sides are counted in it, from any thread.
#[derive(Debug)]
pub struct CanaryTrial {
    policy: Policy,
    revision: Revision,
    counts: Mutex<Counts>,
    news: Arc<Notify>,
}

/// Counts of a trial, and its times.
#[derive(Debug, Clone, Copy)]
struct Counts {
    /// Counts of this daemon.
    own: Records,
    /// Counts of the other daemons when the store last answered.
    others: Records,
    /// Time at which the trial began, on the first daemon that had it.
    since: Instant,
    /// Time at which the store last answered, or the trial began here.
    told: Instant,
}

impl Counts {
    fn all(&self) -> Records {
        self.own.and(&self.others)
    }

    fn judged(&self, policy: &Policy) -> Verdict {
        let Records { old, new } = self.all();
        judge(policy, &old, &new, self.since.elapsed())
    }
}

impl CanaryTrial {
    /// Creates a trial of `revision`. `news` is notified that it has begun, and when there is a verdict by what is known
    /// here.
    #[must_use]
    pub fn new(policy: Policy, revision: Revision, news: Arc<Notify>) -> Self {
        let now = Instant::now();
        let counts = Counts { own: Records::default(), others: Records::default(), since: now, told: now };
        news.notify_one();
        Self { policy, revision, counts: Mutex::new(counts), news }
    }

    /// Returns the rules of the trial.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Returns the side on which a job's first attempt runs.
    #[must_use]
    pub fn side(&self, job: JobId) -> Side {
        side(job, self.revision, self.policy.share)
    }

    /// Counts a run on a side. Notifies `news` if there is a verdict then.
    pub fn record(&self, side: Side, report: &Report) {
        let verdict = {
            let mut counts = self.lock();
            let of_side = match side {
                Side::Old => &mut counts.own.old,
                Side::New => &mut counts.own.new,
            };
            of_side.count(&report.outcome, report.usage.fuel);
            counts.judged(&self.policy)
        };
        if verdict != Verdict::Undecided {
            self.news.notify_one();
        }
    }

    /// Applies the status with which the store answered a report.
    pub(super) fn told(&self, status: &TrialStatus) {
        let now = Instant::now();
        let mut counts = self.lock();
        counts.others = status.others;
        counts.told = now;
        // The trial may have begun here before the store could be told.
        counts.since = now.checked_sub(status.age).map_or(counts.since, |since| since.min(counts.since));
    }

    /// Returns the time at which the store last answered, or the trial began here.
    pub(super) fn last_told(&self) -> Instant {
        self.lock().told
    }

    /// Returns the time at which the trial's time is over. `None` if that is never.
    #[must_use]
    pub fn ends(&self) -> Option<Instant> {
        self.lock().since.checked_add(self.policy.max_age)
    }

    /// Returns the counts of this daemon.
    #[must_use]
    pub fn own_records(&self) -> Records {
        self.lock().own
    }

    /// Returns the counts of all daemons together, as far as this one knows them.
    #[must_use]
    pub fn records(&self) -> Records {
        self.lock().all()
    }

    /// Returns the verdict by what this daemon knows.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        self.lock().judged(&self.policy)
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
