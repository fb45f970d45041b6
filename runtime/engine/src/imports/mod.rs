//! Imports of guests: the interfaces of `sandhog:job`, and WASI, with the state of a run that they work on.

mod contract;

use std::sync::Arc;
use std::time::{Duration, Instant};

use sandhog_core::budget::Budget;
use sandhog_core::effects::{Effects, Seen};
use sandhog_core::id::{JobId, Kind, QueueName, StateKey, TenantId};
use sandhog_core::job::{JobOptions, Level, Progress};
use sandhog_core::outcome::Limit;
use sandhog_core::time::Timestamp;
use wasmtime_wasi::{WasiCtxView, WasiView};

use crate::abort::Abort;
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

pub(crate) use self::contract::{CONTRACTS, Failure, Pre, link};

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
    enqueued_at: Timestamp,
    options: JobOptions,
}

/// Job that is handed to a handler.
#[derive(Debug)]
pub(crate) struct GivenJob {
    id: String,
    kind: String,
    payload: Vec<u8>,
}

impl RunState {
    /// Creates the state of a run that is about to start, and the job that is handed to its handler.
    pub(crate) fn new(
        budget: Budget,
        plugin: Arc<Plugin>,
        input: Input,
        around: Around,
        meter: Meter,
    ) -> (Self, GivenJob) {
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
            enqueued_at: input.enqueued_at,
            options: input.options,
        };
        let job = GivenJob {
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
    ) -> wasmtime::Result<Result<Looked, StateRefusal>> {
        let seen = self.held.read(key);
        let stored = match seen {
            Seen::Known(_) => None,
            Seen::StoredPlus(_) => match self.stored(key, may_be_recent).await {
                Ok(stored) => stored,
                Err(reason) => return Ok(Err(StateRefusal::Unavailable(reason))),
            },
        };
        let Ok(value) = Effects::resolve(seen, stored.clone()) else {
            return Ok(Err(StateRefusal::NotANumber));
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
        Ok(self.held(result)?.map_err(StateRefusal::from))
    }

    /// Time that is left of the run.
    fn remaining(&self) -> Duration {
        let left = self.ends.saturating_duration_since(Instant::now());
        ClockResolution::new(self.budget.clock_resolution.0).floor(left)
    }

    fn write_line(
        &mut self,
        level: Level,
        message: String,
        fields: Vec<(String, String)>,
    ) -> wasmtime::Result<()> {
        let in_fields: usize = fields.iter().map(|(name, value)| name.len() + value.len()).sum();
        self.meter.bytes(message.len() + in_fields)?;
        Ok(self.log.line(level, message, fields)?)
    }

    fn report(&mut self, done: u64, total: Option<u64>, message: Option<String>) -> wasmtime::Result<()> {
        self.meter.bytes(message.as_ref().map_or(0, String::len))?;
        let message = message.map(|text| cut(self.log.redacted(text), TEXT_SHOWN));
        self.host.progress(Progress { done, total, message });
        Ok(())
    }

    /// Enqueues the job that `ask` makes of what the guest said, which was of this size, and returns its id.
    fn enqueue(
        &mut self,
        size: usize,
        ask: impl FnOnce() -> Result<JobAsk, String>,
    ) -> wasmtime::Result<Result<String, EnqueueRefused>> {
        self.meter.bytes(size)?;
        if !self.held.has_room_for_a_job() {
            return Ok(Err(EnqueueRefused::Limit(self.refuse(Limit::Enqueues))));
        }
        let ask = match ask() {
            Ok(ask) => ask,
            Err(reason) => return Ok(Err(EnqueueRefused::Invalid(reason))),
        };
        let (kind, starts_at) = (ask.kind.clone(), ask.start.at());
        let new = match self.host.new_job(ask) {
            Ok(new) => new,
            Err(refusal) => return Ok(Err(EnqueueRefused::of(refusal, &kind))),
        };
        let id = new.id.to_string();
        let result = self.held.enqueue(new, starts_at);
        Ok(self.held(result)?.map(|()| id).map_err(EnqueueRefused::from))
    }

    async fn get_state(&mut self, key: String) -> StateAnswer<Option<Vec<u8>>> {
        match state_key(&key) {
            Ok(key) => Ok(self.look_up(&key, true).await?.map(|looked| looked.value)),
            Err(error) => Ok(Err(error)),
        }
    }

    fn set_state(&mut self, key: String, value: Vec<u8>, ttl_ms: Option<u64>) -> StateAnswer<()> {
        self.meter.bytes(key.len() + value.len())?;
        let key = match state_key(&key) {
            Ok(key) => key,
            Err(error) => return Ok(Err(error)),
        };
        let result = self.held.set(key, value, ttl_ms.map(Duration::from_millis));
        self.state_written(result)
    }

    fn delete_state(&mut self, key: String) -> StateAnswer<()> {
        self.meter.bytes(key.len())?;
        let key = match state_key(&key) {
            Ok(key) => key,
            Err(error) => return Ok(Err(error)),
        };
        let result = self.held.delete(key);
        self.state_written(result)
    }

    /// Returns whether the value was the expected one.
    async fn swap_state(
        &mut self,
        key: String,
        expected: Option<Vec<u8>>,
        value: Vec<u8>,
        ttl_ms: Option<u64>,
    ) -> StateAnswer<bool> {
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
            return Ok(Ok(false));
        }
        let result = self.held.swap(key, looked.stored, value, ttl_ms.map(Duration::from_millis));
        Ok(self.state_written(result)?.map(|()| true))
    }

    fn increment_state(&mut self, key: String, by: i64) -> StateAnswer<()> {
        self.meter.bytes(key.len())?;
        let key = match state_key(&key) {
            Ok(key) => key,
            Err(error) => return Ok(Err(error)),
        };
        let result = self.held.increment(key, by);
        self.state_written(result)
    }

    /// Returns the value of a secret, or why it can't be had.
    fn secret(&mut self, name: String) -> wasmtime::Result<Result<String, String>> {
        if let Some(secret) = self.plugin.grants().secrets.get(&name) {
            let value = secret.reveal().to_owned();
            self.meter.bytes(value.len())?;
            return Ok(Ok(value));
        }
        let (place, name) = (self.plugin.place(), cut(name, TEXT_SHOWN));
        let refusal =
            format!("secret `{name}` is not granted; add `secrets = [{name:?}]` under [grants] of {place}");
        self.log.remark(Remark::Secrets, || refusal.clone());
        Ok(Err(refusal))
    }
}

struct Looked {
    value: Option<Vec<u8>>,
    stored: Option<Vec<u8>>,
}

/// Refusal of an effect that the guest is told.
enum Refused {
    TooMany(String),
    NotANumber,
}

/// Refusal of a call about the state.
enum StateRefusal {
    InvalidKey(String),
    Limit(String),
    NotANumber,
    Unavailable(String),
}

/// Refusal of a job that the guest wants enqueued.
enum EnqueueRefused {
    UnknownKind(String),
    Invalid(String),
    Limit(String),
}

impl From<Refused> for StateRefusal {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::TooMany(reason) => Self::Limit(reason),
            Refused::NotANumber => Self::NotANumber,
        }
    }
}

impl From<Refused> for EnqueueRefused {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::TooMany(reason) => Self::Limit(reason),
            Refused::NotANumber => Self::Invalid(sandhog_core::effects::NotANumber.to_string()),
        }
    }
}

impl EnqueueRefused {
    fn of(refusal: EnqueueRefusal, kind: &Kind) -> Self {
        match refusal {
            EnqueueRefusal::UnknownKind => Self::UnknownKind(format!(
                "no plugin of this tenant handles kind `{kind}`, and no queue was named"
            )),
            EnqueueRefusal::Invalid(reason) => Self::Invalid(reason),
            EnqueueRefusal::Limit(reason) => Self::Limit(reason),
        }
    }
}

type StateAnswer<T> = wasmtime::Result<Result<T, StateRefusal>>;

impl WasiView for RunState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        self.wasi().0.view()
    }
}

fn state_key(key: &str) -> Result<StateKey, StateRefusal> {
    StateKey::parse(key).map_err(|error| StateRefusal::InvalidKey(error.to_string()))
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
