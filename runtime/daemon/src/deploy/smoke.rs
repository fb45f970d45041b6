//! Smoke run: a sample job that a new revision has to get through before it gets real ones.

use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use sandhog_config::{self as config, Config, Smoke};
use sandhog_core::admit::{Admission, Choice, Offer, admit};
use sandhog_core::id::{QueueName, StateKey};
use sandhog_core::job::{Job, Level, NewJob, Progress};
use sandhog_core::outcome::Outcome;
use sandhog_engine::{
    Abort, Class, Engine, EnqueueRefusal, Host, Input, JobAsk, MemoryAccount, Plugin, Share,
};

use super::error::Error;
use super::slot::Loaded;
use crate::clock::Clock;

/// Runs the sample of a plugin, if it has one, under the plugin's own budget. `abort` ends it.
///
/// # Errors
/// The run doesn't return a result.
pub(super) async fn smoke(
    engine: &Engine,
    clock: &Clock,
    config: &Config,
    terms: &config::Plugin,
    code: &Loaded<Arc<Plugin>>,
    abort: Abort,
) -> Result<(), Error> {
    let Some(sample) = &terms.smoke else { return Ok(()) };
    let failed = |why: String| Error::Smoke {
        file: terms.file.clone(),
        tenant: terms.tenant.clone(),
        plugin: terms.name.clone(),
        kind: sample.kind.to_string(),
        why,
    };
    let job = job(clock, terms, sample);
    let offer = Offer {
        plugin: Arc::clone(&code.plugin),
        budget: config.budget(terms),
        retry: Arc::new(terms.retry.clone()),
        payload_max: terms.payload,
    };
    let plan = match admit(&job, Choice::Offer(offer)) {
        Admission::Run(plan) => plan,
        Admission::Reject { message, .. } => return Err(failed(message)),
        Admission::Defer { reason, .. } => return Err(failed(reason.to_string())),
    };
    let input = Input {
        id: job.id,
        kind: job.kind,
        payload: job.payload,
        tenant: job.tenant,
        queue: job.queue,
        attempt: 1,
        max_attempts: plan.retry().attempts_most().get(),
        deadline: clock.now().after(plan.budget().timeout),
        enqueued_at: job.enqueued_at,
        options: job.options,
    };
    let of_tenant = config.tenants.get(&terms.tenant);
    let share = Share {
        class: Class::Normal,
        tenant: terms.tenant.clone(),
        weight: of_tenant.map_or(NonZeroU32::MIN, |tenant| tenant.weight),
        // Counted apart from its jobs, which must not suffer from it.
        memory: MemoryAccount::default(),
        memory_max: plan.budget().memory,
    };
    let host =
        Arc::new(NoEffects { clock: clock.clone(), queue: terms.queue.clone(), last: Mutex::default() });
    let report = engine.run(plan, input, Arc::clone(&host) as Arc<dyn Host>, share, abort).await;
    match report.outcome {
        Outcome::Returned { .. } => Ok(()),
        outcome => {
            let why = why(&outcome);
            let last = host.last.lock().unwrap_or_else(PoisonError::into_inner).take();
            Err(failed(last.map_or_else(|| why.clone(), |last| format!("{why} (its last log line: {last})"))))
        }
    }
}

fn job(clock: &Clock, terms: &config::Plugin, sample: &Smoke) -> Job {
    Job::of(
        NewJob::new(clock.job_id(), terms.queue.clone(), sample.kind.clone(), sample.payload.clone()),
        terms.tenant.clone(),
        clock.now(),
    )
}

fn why(outcome: &Outcome) -> String {
    match outcome {
        Outcome::FailedTransiently { message, .. }
        | Outcome::FailedPermanently { message }
        | Outcome::Trapped { message }
        | Outcome::Exceeded { message, .. }
        | Outcome::HostFault { message } => format!("{outcome}: {message}"),
        Outcome::Returned { .. } | Outcome::PutOff { .. } | Outcome::Aborted(_) => outcome.to_string(),
    }
}

/// Host that has an empty state, and drops all effects of the guest.
struct NoEffects {
    clock: Clock,
    queue: QueueName,
    last: Mutex<Option<String>>,
}

#[async_trait]
impl Host for NoEffects {
    async fn state(&self, _key: &StateKey) -> Result<Option<Vec<u8>>, String> {
        Ok(None)
    }

    fn new_job(&self, ask: JobAsk) -> Result<NewJob, EnqueueRefusal> {
        Ok(ask.into_job(self.clock.job_id(), &self.queue, self.clock.now()))
    }

    fn progress(&self, _progress: Progress) {}

    fn log(&self, _level: Level, message: String, _fields: Vec<(String, String)>) {
        const SHOWN: usize = 200;
        let message = message.chars().take(SHOWN).collect();
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(message);
    }
}
