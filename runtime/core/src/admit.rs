//! Admission: whether a leased job runs now. Nothing else makes a [`Plan`], and the engine takes nothing else.

use std::sync::Arc;
use std::time::Duration;

use crate::budget::{Budget, Bytes};
use crate::id::Revision;
use crate::job::Job;
use crate::reason::Reason;
use crate::retry::{OnExhausted, RetryPolicy};

/// A component that the catalog offers for a kind, with its terms. `P` is the loaded component: holding it keeps that
/// revision alive.
#[derive(Debug, Clone)]
pub struct Offer<P> {
    /// The loaded component.
    pub plugin: P,
    /// Budget of one run: already the narrowest of daemon, tenant and plugin.
    pub budget: Budget,
    /// Policy by which a failed job is tried again.
    pub retry: Arc<RetryPolicy>,
    /// Maximum size of a payload.
    pub payload_max: Bytes,
}

/// The catalog's answer for a job.
#[derive(Debug, Clone)]
pub enum Choice<P> {
    /// The code to run, and its terms.
    Offer(Offer<P>),
    /// No plugin handles the job's kind.
    NoPlugin,
    /// The revision that the job is pinned to is kept, and is being loaded.
    Loading,
    /// The revision that the job is pinned to is not kept.
    NoRevision(Revision),
}

/// Proof that a job may run: on which code, under which budget and retry policy.
#[derive(Debug)]
pub struct Plan<P> {
    plugin: P,
    budget: Budget,
    retry: Arc<RetryPolicy>,
}

impl<P> Plan<P> {
    /// Returns the component that runs.
    pub fn plugin(&self) -> &P {
        &self.plugin
    }

    /// Returns the budget of the run.
    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    /// Returns the policy by which the job is tried again if it fails.
    pub fn retry(&self) -> &Arc<RetryPolicy> {
        &self.retry
    }
}

/// Decision about a leased job.
#[derive(Debug)]
pub enum Admission<P> {
    /// Run the job now.
    Run(Plan<P>),
    /// Give the job back unharmed; it isn't ready again before `after` has passed.
    Defer {
        /// Minimum time before the job is ready again.
        after: Duration,
        /// Reason why the job can't run now.
        reason: Reason,
    },
    /// Give the job up, as it can never run.
    Reject {
        /// Reason why the job can never run.
        reason: Reason,
        /// Full explanation, for people.
        message: String,
    },
}

/// Time that a job rests while the revision that it is pinned to is being loaded.
pub const LOADING_REST: Duration = Duration::from_millis(500);

/// Decides about a leased job, given what the catalog has for it.
pub fn admit<P>(job: &Job, choice: Choice<P>) -> Admission<P> {
    let offer = match choice {
        Choice::Offer(offer) => offer,
        Choice::NoPlugin => {
            // The broker hands it out again only to those who ask for its kind.
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
    let most = offer.retry.attempts_most();
    if job.attempts >= most.get() && offer.retry.on_exhausted == OnExhausted::Bury {
        let message = format!(
            "{} attempts were made already; raise retry.max_attempts (now {most}) and redrive it",
            job.attempts
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
        Offer { plugin: (), budget: Budget::DEFAULT, retry: Arc::default(), payload_max: Bytes(100) }
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
