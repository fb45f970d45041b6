//! Whether a leased job runs now. A [`Plan`] has no other maker, and the engine takes nothing else.

use std::time::Duration;

use crate::budget::{Budget, Bytes};
use crate::id::Revision;
use crate::job::Job;
use crate::reason::Reason;
use crate::settle::RetryPolicy;

/// What the catalog offers for a kind. `P` is the loaded component: holding it keeps that revision alive.
#[derive(Debug, Clone)]
pub struct Offer<P> {
    /// The component.
    pub plugin: P,
    /// What a run of it may spend: already the narrowest of daemon, tenant and plugin.
    pub budget: Budget,
    /// When it is tried again.
    pub retry: RetryPolicy,
    /// The largest payload that it takes.
    pub payload_max: Bytes,
}

/// What the catalog has for a job.
#[derive(Debug, Clone)]
pub enum Choice<P> {
    /// Code, and its terms.
    Offer(Offer<P>),
    /// Nothing handles its kind.
    NoPlugin,
    /// The revision that it is pinned to is kept, and being loaded.
    Loading,
    /// The revision that it is pinned to is not kept.
    NoRevision(Revision),
}

/// A job that may run, on which code, under which budget.
#[derive(Debug)]
pub struct Plan<P> {
    plugin: P,
    budget: Budget,
    retry: RetryPolicy,
}

impl<P> Plan<P> {
    /// The component that runs.
    pub fn plugin(&self) -> &P {
        &self.plugin
    }

    /// What the run may spend.
    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    /// When the job is tried again.
    pub fn retry(&self) -> &RetryPolicy {
        &self.retry
    }
}

/// The decision.
#[derive(Debug)]
pub enum Admission<P> {
    /// Run it now.
    Run(Plan<P>),
    /// Give it back unharmed, and not before this time has passed.
    Defer {
        /// How long.
        after: Duration,
        /// Why.
        reason: Reason,
    },
    /// It can never run.
    Reject {
        /// Why.
        reason: Reason,
        /// In full, for people.
        message: String,
    },
}

/// How long a job rests whose revision is being loaded.
pub const LOADING_REST: Duration = Duration::from_millis(500);

/// Decides about a leased job, given what the catalog has for it.
pub fn admit<P>(job: &Job, choice: Choice<P>) -> Admission<P> {
    let offer = match choice {
        Choice::Offer(offer) => offer,
        Choice::NoPlugin => {
            // The broker hands it to nobody again who doesn't ask for its kind.
            return Admission::Defer { after: Duration::ZERO, reason: Reason::NoPlugin };
        }
        Choice::Loading => return Admission::Defer { after: LOADING_REST, reason: Reason::Loading },
        Choice::NoRevision(revision) => {
            let message = format!(
                "it is pinned to revision {revision}, which is not kept any more; raise deploy.keep, or enqueue it \
                 for another"
            );
            return Admission::Reject { reason: Reason::NoRevision, message };
        }
    };
    let payload = Bytes::of(job.payload.len());
    if payload > offer.payload_max {
        let limit = offer.payload_max;
        let message = format!("payload of {payload} is larger than {limit}; raise limits.payload");
        return Admission::Reject { reason: Reason::PayloadTooLarge, message };
    }
    if job.attempts >= offer.retry.max_attempts.get() {
        let message = format!(
            "{} attempts were made already; raise retry.max_attempts (now {}) and redrive it",
            job.attempts, offer.retry.max_attempts
        );
        return Admission::Reject { reason: Reason::AttemptsExhausted, message };
    }
    Admission::Run(Plan { plugin: offer.plugin, budget: offer.budget, retry: offer.retry })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{JobId, Kind, QueueName, TenantId};
    use crate::job::NewJob;
    use crate::time::Timestamp;

    fn job(attempts: u32, payload: usize) -> Job {
        Job {
            attempts,
            ..Job::of(
                NewJob::new(
                    JobId::from_parts(Timestamp::from_millis(1), 1),
                    QueueName::parse("default").expect("valid"),
                    Kind::parse("image.thumbnail").expect("valid"),
                    vec![0; payload],
                ),
                TenantId::parse("acme").expect("valid"),
                Timestamp::from_millis(1),
            )
        }
    }

    fn offer() -> Offer<()> {
        Offer { plugin: (), budget: Budget::DEFAULT, retry: RetryPolicy::default(), payload_max: Bytes(100) }
    }

    #[test]
    fn a_job_without_a_plugin_waits_for_a_deploy() {
        let admission = admit::<()>(&job(0, 0), Choice::NoPlugin);
        assert!(matches!(admission, Admission::Defer { reason: Reason::NoPlugin, .. }));
    }

    #[test]
    fn a_job_whose_revision_is_loaded_waits_and_one_whose_revision_is_gone_is_rejected() {
        let admission = admit::<()>(&job(0, 0), Choice::Loading);
        assert!(matches!(admission, Admission::Defer { reason: Reason::Loading, .. }));
        let gone = Revision::from_sha256([7; 32]);
        match admit::<()>(&job(0, 0), Choice::NoRevision(gone)) {
            Admission::Reject { reason: Reason::NoRevision, message } => {
                assert!(message.contains(&gone.to_string()) && message.contains("deploy.keep"), "{message}");
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_payload_over_the_limit_is_rejected_and_one_at_it_is_not() {
        assert!(matches!(admit(&job(0, 100), Choice::Offer(offer())), Admission::Run(_)));
        let admission = admit(&job(0, 101), Choice::Offer(offer()));
        assert!(matches!(admission, Admission::Reject { reason: Reason::PayloadTooLarge, .. }));
    }

    #[test]
    fn attempts_that_were_used_up_under_an_older_policy_stay_used_up() {
        let admission = admit(&job(5, 0), Choice::Offer(offer()));
        assert!(matches!(admission, Admission::Reject { reason: Reason::AttemptsExhausted, .. }));
    }
}
