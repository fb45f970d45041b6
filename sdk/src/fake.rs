//! A host for unit tests, with no daemon and no Wasm: it keeps the promises of the real one that a handler can see.
//!
//! A run works on a copy of what is stored. Its log and progress are seen at once; its state writes and jobs reach the
//! host only if the handler succeeds. Time stands still until the test moves it. Left out: the limits that an operator
//! sets (fuel, memory, log, state), and other jobs at the same time.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use crate::codec::{Decode, Encode, InvalidJson};
use crate::context::{Context, StopReason};
use crate::enqueue::{EnqueueError, JobId, NewJob};
use crate::failure::Result;
use crate::handler::Handler;
use crate::host::{AttemptInfo, HostCalls, RawStateError};
use crate::log::Level;
use crate::progress::Progress;
use crate::secret::{Secret, SecretError};
use crate::state::Swapped;

/// A host for unit tests: say what a handler shall find, run it, look at what it did.
///
/// ```
/// use sandhog_sdk::{FakeHost, prelude::*};
///
/// #[handler(kind = "greet")]
/// fn greet(ctx: &Context, name: String) -> Result<String> {
///     ctx.state().increment("greeted", 1)?;
///     info!(ctx, "greeted", attempt = ctx.attempt());
///     Ok(format!("hello, {name}"))
/// }
///
/// let mut host = FakeHost::new().attempt(2).state("greeted", &41);
/// let run = host.run(|ctx| greet(ctx, "Ann".into()));
/// assert_eq!(run.result, Ok("hello, Ann".into()));
/// assert_eq!(run.logs[0].field("attempt"), Some("2"));
/// assert_eq!(host.stored("greeted"), Some(42));
/// ```
#[derive(Debug, Clone)]
pub struct FakeHost {
    kind: String,
    facts: AttemptInfo,
    remaining: Duration,
    stop: Option<StopReason>,
    secrets: BTreeMap<String, String>,
    unknown_kinds: BTreeSet<String>,
    state_unavailable: Option<String>,
    now: Duration,
    stored: BTreeMap<String, Value>,
    jobs: Vec<EnqueuedJob>,
    ids_given: u64,
}

/// What a run did.
#[derive(Debug)]
pub struct Run<T> {
    /// What the handler returned.
    pub result: Result<T>,
    /// The lines it logged, whether it succeeded or not.
    pub logs: Vec<LogLine>,
    /// The progress it reported, whether it succeeded or not.
    pub progress: Vec<Progress>,
    /// The jobs that its success created; none if it failed.
    pub enqueued: Vec<EnqueuedJob>,
}

/// A line that a handler logged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// How important it is.
    pub level: Level,
    /// Its message.
    pub message: String,
    /// Its fields, in the order in which they were written.
    pub fields: Vec<(String, String)>,
}

/// A job that a handler's success created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnqueuedJob {
    /// Its id.
    pub id: JobId,
    /// What is to be done.
    pub kind: String,
    /// The input; [`EnqueuedJob::input`] decodes it.
    pub payload: Vec<u8>,
    /// The queue, if one was named.
    pub queue: Option<String>,
    /// The wait that was asked for.
    pub delay: Duration,
    /// 0 to 255; the highest goes first.
    pub priority: u8,
    /// While a job with this key isn't final, no second one is created.
    pub unique_key: Option<String>,
}

/// The host as one run sees it.
#[derive(Debug, Clone)]
pub(crate) struct Host(Rc<RefCell<Running>>);

/// The host's stored values and jobs are a copy in here: a run that fails is simply not copied back.
#[derive(Debug)]
struct Running {
    host: FakeHost,
    jobs_before: usize,
    logs: Vec<LogLine>,
    progress: Vec<Progress>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Value {
    bytes: Vec<u8>,
    /// By the host's clock.
    expires_at: Option<Duration>,
}

/// When the clock of a new host stands still: a day in 2025, since 1970-01-01T00:00:00Z.
const NOW: Duration = Duration::from_secs(1_750_000_000);
const REMAINING: Duration = Duration::from_secs(30);
const KEY_LENGTH_MAX: usize = 256;

impl Default for FakeHost {
    fn default() -> Self {
        Self {
            kind: "test".into(),
            facts: AttemptInfo {
                tenant: "acme".into(),
                queue: "default".into(),
                attempt: 1,
                max_attempts: 5,
                idempotency_key: "job-0".into(),
                deadline: NOW + REMAINING,
            },
            remaining: REMAINING,
            stop: None,
            secrets: BTreeMap::new(),
            unknown_kinds: BTreeSet::new(),
            state_unavailable: None,
            now: NOW,
            stored: BTreeMap::new(),
            jobs: Vec::new(),
            ids_given: 0,
        }
    }
}

/// What a handler shall find.
impl FakeHost {
    /// A host where tenant `acme` runs the first attempt of five, with 30 s to go, no secret, and nothing stored.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The kind of job; it matters to handlers that look at [`Context::kind`].
    #[must_use]
    pub fn kind(mut self, kind: impl Into<String>) -> Self {
        self.kind = kind.into();
        self
    }

    /// The tenant.
    #[must_use]
    pub fn tenant(mut self, tenant: impl Into<String>) -> Self {
        self.facts.tenant = tenant.into();
        self
    }

    /// The queue that the job came from.
    #[must_use]
    pub fn queue(mut self, queue: impl Into<String>) -> Self {
        self.facts.queue = queue.into();
        self
    }

    /// Which attempt it is: 1 for the first.
    #[must_use]
    pub fn attempt(mut self, attempt: u32) -> Self {
        self.facts.attempt = attempt;
        self
    }

    /// After this attempt there is no other.
    #[must_use]
    pub fn max_attempts(mut self, max_attempts: u32) -> Self {
        self.facts.max_attempts = max_attempts;
        self
    }

    /// The time until the deadline.
    #[must_use]
    pub fn remaining(mut self, remaining: Duration) -> Self {
        self.remaining = remaining;
        self.facts.deadline = self.now + remaining;
        self
    }

    /// The host would like the handler to stop.
    #[must_use]
    pub fn stop_requested(mut self, reason: StopReason) -> Self {
        self.stop = Some(reason);
        self
    }

    /// Grants a secret. Others are refused.
    #[must_use]
    pub fn secret(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.secrets.insert(name.into(), value.into());
        self
    }

    /// Stores a value.
    ///
    /// # Panics
    /// If the value has no JSON form.
    #[must_use]
    pub fn state(mut self, key: impl Into<String>, value: &(impl Encode + ?Sized)) -> Self {
        let bytes = value.encode().expect("a value to be stored has a JSON form").into_owned();
        self.stored.insert(key.into(), Value { bytes, expires_at: None });
        self
    }

    /// Makes every state call fail as unavailable.
    #[must_use]
    pub fn state_unavailable(mut self, why: impl Into<String>) -> Self {
        self.state_unavailable = Some(why.into());
        self
    }

    /// Nobody handles this kind: enqueueing it without naming a queue is refused. Every other kind has a handler.
    #[must_use]
    pub fn unknown_kind(mut self, kind: impl Into<String>) -> Self {
        self.unknown_kinds.insert(kind.into());
        self
    }

    /// Moves the clock: what was set for a time goes away.
    pub fn advance(&mut self, time: Duration) {
        self.now += time;
        self.facts.deadline += time;
        let now = self.now;
        self.stored.retain(|_, value| value.expires_at.is_none_or(|at| now < at));
    }
}

/// Running, and looking at what was done.
impl FakeHost {
    /// Runs a handler as one attempt of a job: `host.run(|ctx| greet(ctx, input))`. What it wrote is stored if it
    /// succeeded. A panic of the handler is the test's.
    pub fn run<T>(&mut self, handler: impl FnOnce(&Context) -> Result<T>) -> Run<T> {
        let running = Rc::new(RefCell::new(Running {
            host: self.clone(),
            jobs_before: self.jobs.len(),
            logs: Vec::new(),
            progress: Vec::new(),
        }));
        let job_id = JobId::new(self.facts.idempotency_key.clone());
        let ctx = Context::new(Host(Rc::clone(&running)), job_id, self.kind.clone());
        let result = handler(&ctx);
        drop(ctx);

        let Running { host, jobs_before, logs, progress } =
            Rc::into_inner(running).expect("the context, which held the other one, is gone").into_inner();
        if result.is_ok() {
            *self = host;
        }
        let enqueued = self.jobs[jobs_before..].to_vec();
        Run { result, logs, progress, enqueued }
    }

    /// Runs a handler by its whole way, from payload to output: `host.run_payload::<greet>(r#""Ann""#)`.
    pub fn run_payload<H: Handler>(&mut self, payload: impl AsRef<[u8]>) -> Run<Vec<u8>> {
        H::KIND.clone_into(&mut self.kind);
        self.run(|ctx| H::handle(ctx, payload.as_ref().to_vec()))
    }

    /// What is stored under a key now.
    ///
    /// # Panics
    /// If the value is not of this type.
    #[must_use]
    pub fn stored<T: Decode>(&self, key: &str) -> Option<T> {
        let value = self.stored.get(key)?;
        match T::decode(value.bytes.clone()) {
            Ok(value) => Some(value),
            Err(error) => panic!("the value of state key `{key}` is not of the type asked for: {error}"),
        }
    }

    /// The jobs that all runs so far have created.
    #[must_use]
    pub fn jobs(&self) -> &[EnqueuedJob] {
        &self.jobs
    }
}

impl LogLine {
    /// The value of a field.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str())
    }
}

impl EnqueuedJob {
    /// The payload as what it was made from.
    ///
    /// # Errors
    /// If it is not the JSON of this type.
    pub fn input<T: Decode>(&self) -> Result<T, InvalidJson> {
        T::decode(self.payload.clone())
    }
}

impl HostCalls for Host {
    fn attempt_info(&self) -> AttemptInfo {
        self.0.borrow().host.facts.clone()
    }

    fn remaining(&self) -> Duration {
        self.0.borrow().host.remaining
    }

    fn stop_requested(&self) -> Option<StopReason> {
        self.0.borrow().host.stop
    }

    fn log(&self, level: Level, message: &str, fields: &[(String, String)]) {
        let line = LogLine { level, message: message.to_owned(), fields: fields.to_vec() };
        self.0.borrow_mut().logs.push(line);
    }

    fn report(&self, progress: Progress) {
        self.0.borrow_mut().progress.push(progress);
    }

    fn enqueue(&self, job: NewJob) -> Result<JobId, EnqueueError> {
        self.0.borrow_mut().host.enqueue(job)
    }

    fn secret(&self, name: &str) -> Result<Secret, SecretError> {
        match self.0.borrow().host.secrets.get(name) {
            Some(value) => Ok(Secret::new(value.clone())),
            None => Err(SecretError::NotGranted(format!(
                "secret `{name}` is not granted; add it to `secrets` of [grants] in the plugin's TOML"
            ))),
        }
    }

    fn state_get(&self, key: &str) -> Result<Option<Vec<u8>>, RawStateError> {
        let host = &self.0.borrow().host;
        host.check_state_call(key)?;
        Ok(host.stored.get(key).map(|value| value.bytes.clone()))
    }

    fn state_set(&self, key: &str, value: &[u8], ttl: Option<Duration>) -> Result<(), RawStateError> {
        let host = &mut self.0.borrow_mut().host;
        host.check_state_call(key)?;
        host.set(key, value, ttl);
        Ok(())
    }

    fn state_delete(&self, key: &str) -> Result<(), RawStateError> {
        let host = &mut self.0.borrow_mut().host;
        host.check_state_call(key)?;
        host.stored.remove(key);
        Ok(())
    }

    fn state_increment(&self, key: &str, by: i64) -> Result<(), RawStateError> {
        let host = &mut self.0.borrow_mut().host;
        host.check_state_call(key)?;
        let (before, expires_at) = match host.stored.get(key) {
            Some(value) => (integer(&value.bytes).ok_or(RawStateError::NotANumber)?, value.expires_at),
            None => (0, None),
        };
        let bytes = before.checked_add(by).ok_or(RawStateError::NotANumber)?.to_string().into_bytes();
        host.stored.insert(key.to_owned(), Value { bytes, expires_at });
        Ok(())
    }

    fn state_compare_and_set(
        &self,
        key: &str,
        expected: Option<&[u8]>,
        value: &[u8],
        ttl: Option<Duration>,
    ) -> Result<Swapped, RawStateError> {
        let host = &mut self.0.borrow_mut().host;
        host.check_state_call(key)?;
        if host.stored.get(key).map(|value| value.bytes.as_slice()) != expected {
            return Ok(Swapped::No);
        }
        host.set(key, value, ttl);
        Ok(Swapped::Yes)
    }
}

/// What the run asks of its copy of the host.
impl FakeHost {
    fn enqueue(&mut self, job: NewJob) -> Result<JobId, EnqueueError> {
        let NewJob { kind, payload, queue, delay, priority, unique_key } = job;
        let payload = payload.map_err(|source| EnqueueError::Payload { kind: kind.clone(), source })?;
        if queue.is_none() && self.unknown_kinds.contains(&kind) {
            return Err(EnqueueError::UnknownKind(format!("no plugin of this tenant handles kind `{kind}`")));
        }
        self.ids_given += 1;
        let id = JobId::new(format!("job-{}", self.ids_given));
        let is_same = |job: &EnqueuedJob| job.kind == kind && job.unique_key == unique_key;
        let held = unique_key.is_some() && self.jobs.iter().any(is_same);
        if !held {
            self.jobs.push(EnqueuedJob { id: id.clone(), kind, payload, queue, delay, priority, unique_key });
        }
        Ok(id)
    }

    fn check_state_call(&self, key: &str) -> Result<(), RawStateError> {
        if let Some(why) = &self.state_unavailable {
            return Err(RawStateError::Unavailable(why.clone()));
        }
        if key.is_empty() || key.len() > KEY_LENGTH_MAX || key.chars().any(char::is_control) {
            let rule = "a state key is 1 to 256 bytes without control characters";
            return Err(RawStateError::InvalidKey(rule.into()));
        }
        Ok(())
    }

    fn set(&mut self, key: &str, value: &[u8], ttl: Option<Duration>) {
        let expires_at = ttl.map(|ttl| self.now.saturating_add(ttl));
        self.stored.insert(key.to_owned(), Value { bytes: value.to_vec(), expires_at });
    }
}

/// A decimal integer as the runtime has it: no `+`, no leading zeros.
fn integer(bytes: &[u8]) -> Option<i64> {
    let value: i64 = std::str::from_utf8(bytes).ok()?.parse().ok()?;
    (value.to_string().as_bytes() == bytes).then_some(value)
}
