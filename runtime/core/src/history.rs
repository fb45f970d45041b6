//! Attempt history: how the latest attempts of a job ended, kept with the job.
//!
//! An attempt is recorded when its code has run, and when its lease was taken back. The success of a job under its first lease,
//! which is how most jobs go, is not: the job's own record tells it ([`JobRecord::ended_attempts`]).

use crate::id::{DaemonId, LeaseNo, Revision};
use crate::job::{JobRecord, State};
use crate::outcome::Usage;
use crate::reason::Reason;
use crate::settle::Settlement;
use crate::time::Timestamp;
use crate::transition::Standing;

/// Maximum number of attempts kept with a job; the oldest are removed first.
pub const ATTEMPTS_KEPT: usize = 10;

/// Maximum length of the message that is kept of an attempt, in bytes. Of a longer one the beginning is kept.
pub const ATTEMPT_MESSAGE_MAX: usize = 200;

/// Record of one attempt that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptRecord {
    /// Number of the attempt, as its log lines have it; 1 is the first. An attempt that didn't count has that of the one after it.
    pub attempt: u32,
    /// Number of its lease.
    pub lease: LeaseNo,
    /// Reason why it ended; `None` if it succeeded.
    pub reason: Option<Reason>,
    /// Reason in full, for people, cut to [`ATTEMPT_MESSAGE_MAX`].
    pub message: Option<String>,
    /// Time at which the job was leased for it.
    pub leased_at: Timestamp,
    /// Time at which its end was recorded.
    pub ended_at: Timestamp,
    /// Daemon that ran it. `None` if that is not known, as its lease was taken back or the record of the job stands for it.
    pub daemon: Option<DaemonId>,
    /// Revision that ran. `None` if that is not known.
    pub revision: Option<Revision>,
    /// Resources that it spent; none, if that is not known.
    pub usage: Usage,
}

impl AttemptRecord {
    /// Creates the record of the attempt of a leased job that ends now, as a success of which nothing more is known.
    #[must_use]
    pub fn of(standing: &Standing, leased_at: Timestamp, ended_at: Timestamp) -> Self {
        Self {
            attempt: standing.counts.attempts.saturating_add(1),
            lease: standing.lease,
            reason: None,
            message: None,
            leased_at,
            ended_at,
            daemon: None,
            revision: None,
            usage: Usage::default(),
        }
    }
}

/// Whether the end of a run by this settlement is recorded in the history, given the number of its lease.
#[must_use]
pub fn is_recorded(settlement: &Settlement, lease: LeaseNo) -> bool {
    lease != LeaseNo(1) || !matches!(settlement, Settlement::Succeed { .. })
}

/// Adds the record of an attempt, and removes the oldest ones past [`ATTEMPTS_KEPT`].
pub fn add(history: &mut Vec<AttemptRecord>, attempt: AttemptRecord) {
    history.push(attempt);
    let surplus = history.len().saturating_sub(ATTEMPTS_KEPT);
    history.drain(..surplus);
}

/// Returns the part of a message that is kept of an attempt.
#[must_use]
pub fn brief(message: &str) -> &str {
    &message[..message.floor_char_boundary(ATTEMPT_MESSAGE_MAX)]
}

impl Settlement {
    /// Returns the reason for the settlement and its message; `None` for a success.
    #[must_use]
    pub fn why(&self) -> Option<(Reason, Option<&str>)> {
        match self {
            Self::Succeed { .. } => None,
            Self::Retry { reason, message, .. } | Self::Bury { reason, message } => {
                Some((*reason, Some(message)))
            }
            Self::Release { reason, .. } => Some((*reason, None)),
            Self::Cancel => Some((Reason::Cancelled, None)),
        }
    }
}

impl JobRecord {
    /// Returns the latest attempts that have ended, the oldest first.
    #[must_use]
    pub fn ended_attempts(&self) -> Vec<AttemptRecord> {
        let mut attempts = self.history.clone();
        if let (State::Succeeded, LeaseNo(1), Some(leased_at), Some(ended_at)) =
            (self.state, self.lease, self.leased_at, self.finished_at)
        {
            let (attempt, lease) = (self.attempts, self.lease);
            let (revision, usage) = (self.revision, self.usage);
            let (reason, message, daemon) = (None, None, None);
            let derived = AttemptRecord {
                attempt,
                lease,
                reason,
                message,
                leased_at,
                ended_at,
                daemon,
                revision,
                usage,
            };
            add(&mut attempts, derived);
        }
        attempts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::effects::Effects;
    use crate::id::{JobId, Kind, QueueName, TenantId};
    use crate::job::NewJob;
    use proptest::prelude::*;

    fn attempt(n: u32) -> AttemptRecord {
        AttemptRecord {
            attempt: n,
            lease: LeaseNo(n.into()),
            reason: Some(Reason::Failed),
            message: Some(format!("failure {n}")),
            leased_at: Timestamp::from_millis(n.into()),
            ended_at: Timestamp::from_millis(u64::from(n) + 1),
            daemon: None,
            revision: None,
            usage: Usage::default(),
        }
    }

    proptest! {
        #[test]
        fn a_brief_is_the_beginning_of_its_message_and_bounded(message: String) {
            let brief = brief(&message);
            prop_assert!(message.starts_with(brief) && brief.len() <= ATTEMPT_MESSAGE_MAX);
            prop_assert!(brief.len() == message.len() || brief.len() + 4 > ATTEMPT_MESSAGE_MAX);
        }

        #[test]
        fn the_latest_attempts_are_kept_in_their_order(count in 0..40u32) {
            let mut history = Vec::new();
            (1..=count).for_each(|n| add(&mut history, attempt(n)));
            let first = count.saturating_sub(ATTEMPTS_KEPT as u32) + 1;
            let expected: Vec<AttemptRecord> = (first..=count).map(attempt).collect();
            prop_assert_eq!(history, expected);
        }
    }

    #[test]
    fn a_success_under_the_first_lease_is_told_by_the_job_itself() {
        let success = Settlement::Succeed { output: Vec::new(), effects: Effects::default() };
        assert!(!is_recorded(&success, LeaseNo(1)) && is_recorded(&success, LeaseNo(2)));
        assert!(is_recorded(&Settlement::Cancel, LeaseNo(1)));
        let at = Timestamp::from_millis;
        let asked = NewJob::new(
            JobId::from_parts(at(1), 1),
            QueueName::parse("default").expect("valid"),
            Kind::parse("mail").expect("valid"),
            Vec::new(),
        );
        let waiting = JobRecord::of(asked, TenantId::parse("acme").expect("valid"), at(1));
        assert_eq!(waiting.ended_attempts(), []);
        let leased = JobRecord { lease: LeaseNo(1), attempts: 1, leased_at: Some(at(2)), ..waiting };
        let done = JobRecord { state: State::Succeeded, finished_at: Some(at(5)), ..leased };
        let expected =
            AttemptRecord { reason: None, message: None, leased_at: at(2), ended_at: at(5), ..attempt(1) };
        assert_eq!(done.ended_attempts(), [expected]);
        let later = JobRecord { lease: LeaseNo(2), history: vec![attempt(1), attempt(2)], ..done };
        assert_eq!(later.ended_attempts(), [attempt(1), attempt(2)], "then it has a record of its own");
    }
}
