//! The daemon's side of a run: what a guest may ask of its host while it runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use sandhog_broker::Broker;
use sandhog_core::budget::Bytes;
use sandhog_core::id::{PluginName, StateKey, TenantId};
use sandhog_core::job::{Job, JobOptions, Level, LogLine, NewJob, Progress};
use sandhog_engine::{EnqueueRefusal, Host, JobAsk};
use tokio::runtime::Handle;
use tracing::field::display;

use crate::catalog::Tenant;
use crate::clock::Clock;
use crate::lease::renewal::LeaseHandle;
use crate::telemetry::LogFields;
use crate::unique;

/// Host of one run, as the daemon provides it.
pub(crate) struct GuestHost<P> {
    /// Runtime that the broker's connections live on. What a guest asks of the broker is asked there as well, so that no
    /// connection is made by, and so depends on, the threads that guests keep busy.
    pub(crate) runtime: Handle,
    pub(crate) broker: Arc<dyn Broker>,
    pub(crate) clock: Clock,
    pub(crate) tenant: TenantId,
    /// The tenant's terms when the run started: a deploy in the middle doesn't change what kinds it may enqueue.
    pub(crate) terms: Arc<Tenant<P>>,
    pub(crate) plugin: PluginName,
    pub(crate) job: Arc<Job>,
    pub(crate) handle: Arc<LeaseHandle>,
    /// Whether the job's log says already that jobs go to a queue from which nobody leases.
    pub(crate) warned_of_queue: AtomicBool,
}

#[async_trait]
impl<P: Send + Sync + 'static> Host for GuestHost<P> {
    async fn state(&self, key: &StateKey) -> Result<Option<Vec<u8>>, String> {
        let (broker, tenant) = (Arc::clone(&self.broker), self.tenant.clone());
        let (plugin, key) = (self.plugin.clone(), key.clone());
        let asked = self.runtime.spawn(async move { broker.state(&tenant, &plugin, &key).await });
        let Ok(answer) = asked.await else { return Err("the daemon is ending".to_owned()) };
        answer.map_err(|error| {
            tracing::warn!(tenant = %self.tenant, plugin = %self.plugin, job = %self.job.id, %error, "state could not be read");
            // The cause may name hosts and keys, which are the operator's alone.
            match error {
                sandhog_broker::Error::Sealed { .. } => "the value is sealed, and can't be opened".to_owned(),
                _ => "the store can't be reached".to_owned(),
            }
        })
    }

    fn new_job(&self, ask: JobAsk) -> Result<NewJob, EnqueueRefusal> {
        let handled_by = self.terms.kinds.get(&ask.kind);
        let queue = ask.queue.as_ref().or_else(|| handled_by.map(|plugin| &plugin.queue));
        let queue = queue.ok_or(EnqueueRefusal::UnknownKind)?.clone();
        let payload = Bytes::of(ask.payload.len());
        let limit = handled_by.map_or(self.terms.queue.payload, |plugin| plugin.stable.offer.payload_max);
        if payload > limit {
            let knob = match handled_by {
                Some(_) => format!("limits.payload of {limit} of the plugin for {}", ask.kind),
                None => format!("queue.payload of {limit} of tenants.{}", self.tenant),
            };
            return Err(EnqueueRefusal::Limit(format!("a payload of {payload} is larger than {knob}")));
        }
        if self.terms.queues.iter().all(|known| known.name != queue)
            && !self.warned_of_queue.swap(true, Ordering::Relaxed)
        {
            let message = format!("no plugin of this tenant has the queue `{queue}`, so jobs in it wait");
            self.log(Level::Warn, message, Vec::new());
        }
        let unique_key = ask.unique_key.as_ref().map(|key| unique::stored(&ask.kind, key));
        let options = JobOptions { trace: self.job.options.trace.clone(), ..ask.options };
        let ask = JobAsk { unique_key, options, ..ask };
        Ok(ask.into_job(self.clock.job_id(), &queue, self.clock.now()))
    }

    fn progress(&self, progress: Progress) {
        self.handle.note(|notes| notes.progress = Some(progress));
    }

    fn log(&self, level: Level, message: String, fields: Vec<(String, String)>) {
        let (tenant, plugin, job) = (&self.tenant, &self.plugin, self.job.id);
        // A guest's lines must not alarm the operator, whatever level it gives them.
        // In quotes, so that what a guest names `job` isn't taken for the daemon's.
        let (level_name, shown) =
            (display(level.slug()), LogFields::of(&fields).map(|fields| fields.to_string()));
        tracing::info!(target: "sandhog::guest", %tenant, %plugin, %job, level = level_name, fields = shown, "{message}");
        let line = LogLine {
            at: self.clock.now(),
            attempt: self.job.attempts.saturating_add(1),
            level,
            message,
            fields,
        };
        self.handle.note(|notes| notes.log.push(line));
    }
}
