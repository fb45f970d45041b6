//! Imports of guests: the interfaces of `sandhog:job`, and WASI, with the state of a run that they work on.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sandhog_core::budget::Budget;
use sandhog_core::effects::{Effects, Seen};
use sandhog_core::id::{JobId, Kind, QueueName, StateKey, TenantId, UniqueKey};
use sandhog_core::job::{Level, Priority, Progress};
use sandhog_core::outcome::Limit;
use wasmtime_wasi::{WasiCtxView, WasiView};

use self::bindings::sandhog::job::{context, enqueue, log, progress, secrets, state, types};
use crate::abort::{Abort, StopHint};
use crate::config::Deadlines;
use crate::host::{EnqueueRefusal, Host, JobAsk};
use crate::host_work::RunWork;
use crate::meter::Meter;
use crate::needed_grants::NeededGrant;
use crate::pending_effects::{PendingEffects, Refusal};
use crate::plugin::Plugin;
use crate::run::Input;
use crate::run_log::{Remark, RunLog};
use crate::state_reads::StateReads;
use crate::wasi::{ClockResolution, Wasi};

/// Bindings that are generated from `wit/`.
#[allow(missing_docs, unreachable_pub)]
pub(crate) mod bindings {
    wasmtime::component::bindgen!({
        path: "../../wit",
        world: "handler",
        imports: {
            "sandhog:job/state.get": async | trappable,
            "sandhog:job/state.compare-and-set": async | trappable,
            default: trappable,
        },
        exports: { default: async },
    });
}

pub(crate) use self::bindings::{Handler, HandlerPre};

/// Fuel for each entry of the effects that had to be gone through to keep them within their limit.
const SUM_FUEL: u64 = 20;

/// Maximum length of a guest's text that is shown in an answer or kept as the message of its progress, in bytes.
const TEXT_SHOWN: usize = 1024;

/// Phrases in the failures of handlers that were given no directory and wanted a file: of the libraries of Rust, of C and
/// Python, and of those that have their errors by number (44 and 76: there is none, and it may not be had).
const NO_FILE: [&str; 5] =
    ["pre-opened file descriptor", "No such file or directory", "os error 44", "os error 76", "Errno 44"];

/// State of one run.
pub(crate) struct RunState {
    pub(crate) meter: Meter,
    pub(crate) held: PendingEffects,
    pub(crate) log: RunLog,
    pub(crate) abort: Abort,
    /// Time at which the run has to be over.
    pub(crate) ends: Instant,
    deadlines: Deadlines,
    budget: Budget,
    facts: Facts,
    plugin: Arc<Plugin>,
    host: Arc<dyn Host>,
    work: RunWork,
    state_reads: StateReads,
    /// State of WASI, made when it is first used: many handlers never do.
    wasi: Option<Wasi>,
}

/// Surroundings of a run: its host, and what bounds and stops it.
pub(crate) struct Around {
    pub(crate) host: Arc<dyn Host>,
    pub(crate) work: RunWork,
    pub(crate) abort: Abort,
    /// Time at which the run has to be over.
    pub(crate) ends: Instant,
    pub(crate) deadlines: Deadlines,
}

/// Facts that the handler may know of its job and attempt.
struct Facts {
    id: JobId,
    tenant: TenantId,
    queue: QueueName,
    attempt: u32,
    max_attempts: u32,
    deadline_ms: u64,
}

impl RunState {
    /// Creates the state of a run that is about to start, and the job that is handed to its handler.
    pub(crate) fn new(
        budget: Budget,
        plugin: Arc<Plugin>,
        input: Input,
        around: Around,
        meter: Meter,
    ) -> (Self, types::Job) {
        let Around { host, work, abort, ends, deadlines } = around;
        let log = RunLog::new(Arc::clone(&host), budget.log, plugin.redactor().cloned());
        let resolution = ClockResolution::new(budget.clock_resolution.0);
        let facts = Facts {
            id: input.id,
            tenant: input.tenant,
            queue: input.queue,
            attempt: input.attempt,
            max_attempts: input.max_attempts,
            deadline_ms: millis(resolution.floor(Duration::from_millis(input.deadline.as_millis()))),
        };
        let job = types::Job {
            id: input.id.to_string(),
            kind: input.kind.as_str().to_owned(),
            payload: input.payload,
        };
        let state = Self {
            meter,
            held: PendingEffects::new(&budget),
            log,
            abort,
            ends,
            deadlines,
            budget,
            facts,
            plugin,
            host,
            work,
            state_reads: StateReads::default(),
            wasi: None,
        };
        (state, job)
    }

    /// Counts a call, and returns what a WASI call works on, its state made if it is the first. Every WASI call begins with
    /// this, once.
    pub(crate) fn wasi(&mut self) -> (&mut Wasi, &Arc<Plugin>, &Budget, &RunLog) {
        self.meter.call();
        let (plugin, budget, log, work) = (&self.plugin, &self.budget, &self.log, &self.work);
        let wasi = self.wasi.get_or_insert_with(|| Wasi::new(plugin, budget, log, work));
        (wasi, plugin, budget, log)
    }

    /// Returns the state that WASI calls work on, if there has been one.
    pub(crate) fn made_wasi(&mut self) -> Option<&mut Wasi> {
        self.wasi.as_mut()
    }

    /// Logs what may have been the cause of a failure: that the guest looked for directories, and has none. Many components
    /// look and need none, so it is logged only for a failure that is about a file, by the handler's message.
    pub(crate) fn hint(&self, failure: &str) {
        let about_a_file = NO_FILE.iter().any(|words| failure.contains(words));
        if about_a_file && self.wasi.as_ref().is_some_and(Wasi::asked_for_directories_in_vain) {
            self.log.remark(Remark::Directories, || {
                let line = NeededGrant::Dirs.line().unwrap_or_default();
                let place = self.plugin.place();
                format!("it looked for directories and is granted none; add them under [grants] of {place}, such as `{line}`")
            });
        }
    }

    /// Maximum times that its host calls may wait.
    pub(crate) fn deadlines(&self) -> Deadlines {
        self.deadlines
    }

    /// Budget of the run.
    pub(crate) fn budget(&self) -> &Budget {
        &self.budget
    }

    /// Counts a host call, and returns the state for it.
    pub(crate) fn called(&mut self) -> &mut Self {
        self.meter.call();
        self
    }

    /// Returns what the run sees under a key, and what is stored there if it was asked for: now, or a moment ago if
    /// `may_be_recent`.
    async fn look_up(
        &mut self,
        key: &StateKey,
        may_be_recent: bool,
    ) -> wasmtime::Result<Result<Looked, state::StateError>> {
        let seen = self.held.read(key);
        let stored = match seen {
            Seen::Known(_) => None,
            Seen::StoredPlus(_) => match self.stored(key, may_be_recent).await {
                Ok(stored) => stored,
                Err(reason) => return Ok(Err(state::StateError::Unavailable(reason))),
            },
        };
        let Ok(value) = Effects::resolve(seen, stored.clone()) else {
            return Ok(Err(state::StateError::NotANumber));
        };
        self.meter.bytes(value.as_ref().map_or(0, Vec::len))?;
        Ok(Ok(Looked { value, stored }))
    }

    /// Returns what is stored under a key.
    async fn stored(&mut self, key: &StateKey, may_be_recent: bool) -> Result<Option<Vec<u8>>, String> {
        let recent = if may_be_recent { self.state_reads.recent(key, Instant::now()) } else { None };
        if let Some(stored) = recent {
            return Ok(stored);
        }
        let deadline = self.deadlines.state;
        let read = self.work.state_read(self.host.state(key));
        let stored = tokio::time::timeout(deadline, read).await;
        let stored = stored.unwrap_or_else(|_| Err(format!("no answer within {deadline:?}")))?;
        self.state_reads.note(key, &stored, Instant::now());
        Ok(stored)
    }

    /// Turns the result of adding to the effects into an answer to the guest, or ends the run.
    fn held(&mut self, result: Result<(), Refusal>) -> wasmtime::Result<Result<(), Refused>> {
        let summed = self.held.take_summed();
        self.meter.take(summed.saturating_mul(SUM_FUEL))?;
        match result {
            Ok(()) => Ok(Ok(())),
            Err(Refusal::TooLarge) => {
                self.meter.end(Limit::Effects);
                Err(wasmtime::format_err!("effects larger than {}", self.budget.effects))
            }
            Err(Refusal::TooMany(limit)) => Ok(Err(Refused::TooMany(self.refuse(limit)))),
            Err(Refusal::NotANumber) => Ok(Err(Refused::NotANumber)),
        }
    }

    /// Records that something was refused for a limit, and returns the message for the guest.
    fn refuse(&mut self, limit: Limit) -> String {
        self.meter.refuse(limit);
        let (tenant, plugin) = (self.plugin.tenant(), self.plugin.name());
        format!("{} of plugin {tenant}/{plugin}", limit.explain(&self.budget))
    }

    fn state_written(&mut self, result: Result<(), Refusal>) -> StateAnswer<()> {
        Ok(self.held(result)?.map_err(state::StateError::from))
    }
}

struct Looked {
    value: Option<Vec<u8>>,
    stored: Option<Vec<u8>>,
}

/// Refusal that the guest is told.
enum Refused {
    TooMany(String),
    NotANumber,
}

impl From<Refused> for state::StateError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::TooMany(reason) => Self::Limit(reason),
            Refused::NotANumber => Self::NotANumber,
        }
    }
}

impl From<Refused> for enqueue::EnqueueError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::TooMany(reason) => Self::Limit(reason),
            Refused::NotANumber => Self::Invalid(sandhog_core::effects::NotANumber.to_string()),
        }
    }
}

type StateAnswer<T> = wasmtime::Result<Result<T, state::StateError>>;

impl WasiView for RunState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        self.wasi().0.view()
    }
}

impl types::Host for RunState {}

impl context::Host for RunState {
    fn attempt_info(&mut self) -> wasmtime::Result<context::Attempt> {
        Ok(context::Attempt {
            tenant: self.facts.tenant.as_str().to_owned(),
            queue: self.facts.queue.as_str().to_owned(),
            attempt: self.facts.attempt,
            max_attempts: self.facts.max_attempts,
            idempotency_key: self.facts.id.to_string(),
            deadline_ms: self.facts.deadline_ms,
        })
    }

    fn remaining_ms(&mut self) -> wasmtime::Result<u64> {
        let left = self.ends.saturating_duration_since(Instant::now());
        Ok(millis(ClockResolution::new(self.budget.clock_resolution.0).floor(left)))
    }

    fn stop_requested(&mut self) -> wasmtime::Result<Option<context::StopReason>> {
        Ok(self.abort.asked().map(|hint| match hint {
            StopHint::Cancelled => context::StopReason::Cancelled,
            StopHint::Draining => context::StopReason::Draining,
        }))
    }
}

impl log::Host for RunState {
    fn write(
        &mut self,
        level: log::Level,
        message: String,
        fields: Vec<(String, String)>,
    ) -> wasmtime::Result<()> {
        let in_fields: usize = fields.iter().map(|(name, value)| name.len() + value.len()).sum();
        self.meter.bytes(message.len() + in_fields)?;
        let level = match level {
            log::Level::Trace => Level::Trace,
            log::Level::Debug => Level::Debug,
            log::Level::Info => Level::Info,
            log::Level::Warn => Level::Warn,
            log::Level::Error => Level::Error,
        };
        Ok(self.log.line(level, message, fields)?)
    }
}

impl progress::Host for RunState {
    fn report(&mut self, done: u64, total: Option<u64>, message: Option<String>) -> wasmtime::Result<()> {
        self.meter.bytes(message.as_ref().map_or(0, String::len))?;
        let message = message.map(|text| cut(self.log.wiped(text), TEXT_SHOWN));
        self.host.progress(Progress { done, total, message });
        Ok(())
    }
}

impl enqueue::Host for RunState {
    fn enqueue(&mut self, job: enqueue::NewJob) -> wasmtime::Result<Result<String, enqueue::EnqueueError>> {
        self.meter.bytes(job.payload.len())?;
        if !self.held.has_room_for_a_job() {
            return Ok(Err(enqueue::EnqueueError::Limit(self.refuse(Limit::Enqueues))));
        }
        let ask = match job_ask(job) {
            Ok(ask) => ask,
            Err(reason) => return Ok(Err(enqueue::EnqueueError::Invalid(reason))),
        };
        let kind = ask.kind.clone();
        let new = match self.host.new_job(ask) {
            Ok(new) => new,
            Err(refusal) => return Ok(Err(enqueue_error(refusal, &kind))),
        };
        let id = new.id.to_string();
        let result = self.held.enqueue(new);
        Ok(self.held(result)?.map(|()| id).map_err(enqueue::EnqueueError::from))
    }
}

fn job_ask(job: enqueue::NewJob) -> Result<JobAsk, String> {
    let invalid = |error: sandhog_core::id::InvalidName| error.to_string();
    Ok(JobAsk {
        kind: Kind::parse(&job.kind).map_err(invalid)?,
        payload: job.payload,
        queue: job.queue.as_deref().map(QueueName::parse).transpose().map_err(invalid)?,
        delay: Duration::from_millis(job.delay_ms),
        priority: Priority(job.priority),
        unique_key: job.unique_key.as_deref().map(UniqueKey::parse).transpose().map_err(invalid)?,
    })
}

fn enqueue_error(refusal: EnqueueRefusal, kind: &Kind) -> enqueue::EnqueueError {
    match refusal {
        EnqueueRefusal::UnknownKind => enqueue::EnqueueError::UnknownKind(format!(
            "no plugin of this tenant handles kind `{kind}`, and no queue was named"
        )),
        EnqueueRefusal::Invalid(reason) => enqueue::EnqueueError::Invalid(reason),
        EnqueueRefusal::Limit(reason) => enqueue::EnqueueError::Limit(reason),
    }
}

fn state_key(key: &str) -> Result<StateKey, state::StateError> {
    StateKey::parse(key).map_err(|error| state::StateError::InvalidKey(error.to_string()))
}

impl state::Host for RunState {
    async fn get(&mut self, key: String) -> StateAnswer<Option<Vec<u8>>> {
        match state_key(&key) {
            Ok(key) => Ok(self.look_up(&key, true).await?.map(|looked| looked.value)),
            Err(error) => Ok(Err(error)),
        }
    }

    fn set(&mut self, key: String, value: Vec<u8>, ttl_ms: Option<u64>) -> StateAnswer<()> {
        self.meter.bytes(key.len() + value.len())?;
        let key = match state_key(&key) {
            Ok(key) => key,
            Err(error) => return Ok(Err(error)),
        };
        let result = self.held.set(key, value, ttl_ms.map(Duration::from_millis));
        self.state_written(result)
    }

    fn delete(&mut self, key: String) -> StateAnswer<()> {
        self.meter.bytes(key.len())?;
        let key = match state_key(&key) {
            Ok(key) => key,
            Err(error) => return Ok(Err(error)),
        };
        let result = self.held.delete(key);
        self.state_written(result)
    }

    async fn compare_and_set(
        &mut self,
        key: String,
        expected: Option<Vec<u8>>,
        value: Vec<u8>,
        ttl_ms: Option<u64>,
    ) -> StateAnswer<state::Swapped> {
        self.meter.bytes(key.len() + value.len() + expected.as_ref().map_or(0, Vec::len))?;
        let key = match state_key(&key) {
            Ok(key) => key,
            Err(error) => return Ok(Err(error)),
        };
        // The value that is compared has to be what is there now: the job settles only if it still is.
        let looked = match self.look_up(&key, false).await? {
            Ok(looked) => looked,
            Err(error) => return Ok(Err(error)),
        };
        if looked.value != expected {
            return Ok(Ok(state::Swapped::No));
        }
        let result = self.held.swap(key, looked.stored, value, ttl_ms.map(Duration::from_millis));
        Ok(self.state_written(result)?.map(|()| state::Swapped::Yes))
    }

    fn increment(&mut self, key: String, by: i64) -> StateAnswer<()> {
        self.meter.bytes(key.len())?;
        let key = match state_key(&key) {
            Ok(key) => key,
            Err(error) => return Ok(Err(error)),
        };
        let result = self.held.increment(key, by);
        self.state_written(result)
    }
}

impl secrets::Host for RunState {
    fn get(&mut self, name: String) -> wasmtime::Result<Result<String, secrets::SecretError>> {
        if let Some(secret) = self.plugin.grants().secrets.get(&name) {
            let value = secret.reveal().to_owned();
            self.meter.bytes(value.len())?;
            return Ok(Ok(value));
        }
        let (place, name) = (self.plugin.place(), cut(name, TEXT_SHOWN));
        let refusal =
            format!("secret `{name}` is not granted; add `secrets = [{name:?}]` under [grants] of {place}");
        self.log.remark(Remark::Secrets, || refusal.clone());
        Ok(Err(secrets::SecretError::NotGranted(refusal)))
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Cuts a text to a number of bytes, at the end of a character.
pub(crate) fn cut(mut text: String, max: usize) -> String {
    if text.len() > max {
        text.truncate(text.floor_char_boundary(max));
        text.push('…');
    }
    text
}
