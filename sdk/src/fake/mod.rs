//! A host for unit tests, with no daemon and no Wasm: it keeps the promises of the real one that a handler can see.
//!
//! A run's log, progress and files are seen at once; its state writes and jobs are written only if the handler succeeds.
//! Time stands still until the test moves it. Left out: limits of fuel, memory, time on the processor and log, and other
//! jobs at the same time.

mod assert;
mod clock;
mod drain;
mod effects;
mod files;
mod http;
mod jobs;
mod keys;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

pub use self::assert::{Enqueued, describe_unwanted, find_enqueued};
pub use self::clock::FakeClock;
pub use self::drain::{Attempt, Drained};
use self::effects::{Effects, Stored, Value};
use self::files::Files;
pub use self::http::HttpReply;
use self::http::HttpTable;
pub use self::jobs::{EnqueuedJob, JobState};
use self::jobs::{Ids, Jobs};
use crate::codec::{Decode, Encode};
use crate::context::{Context, StopReason};
use crate::enqueue::{EnqueueError, JobId, NewJob, Start};
use crate::failure::{Failure, Result, permanent, transient};
use crate::handler::Handler;
use crate::host::{AttemptInfo, HostCalls, JobFacts, RawStateError};
use crate::http::{HttpError, Request, Response};
use crate::log::Level;
use crate::progress::Progress;
use crate::secret::{Secret, SecretError};
use crate::state::Swapped;
use crate::unique::UniqueRule;

/// Host for unit tests: set up what a handler is to find, run it, and look at what it did.
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
#[derive(Debug, Default)]
pub struct FakeHost {
    given: Given,
    kind: String,
    job_id: Option<String>,
    job: JobFacts,
    attempt: u32,
    clock: FakeClock,
    stored: Stored,
    jobs: Jobs,
    ids: Ids,
}

/// Setup of a host that is the same for every handler.
#[derive(Debug, Clone)]
struct Given {
    tenant: String,
    queue: String,
    max_attempts: u32,
    remaining: Duration,
    stop: Option<StopReason>,
    secrets: BTreeMap<String, String>,
    env: BTreeMap<String, String>,
    files: Files,
    http: HttpTable,
    unknown_kinds: BTreeSet<String>,
    state_unavailable: Option<String>,
    limits: FakeLimits,
}

/// Limits that a [`FakeHost`] keeps; by default those of a plugin whose TOML sets none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FakeLimits {
    /// Maximum payload of an enqueued job, in bytes; a larger one is refused.
    pub payload: usize,
    /// Maximum number of jobs that a run enqueues; one more is refused, and a run that then fails does so for good.
    pub enqueues: usize,
    /// Maximum number of state keys that a run writes; one more is refused, and a run that then fails does so for good.
    pub state_writes: usize,
    /// Maximum size of a run's state writes and jobs together, in bytes; past it, the run fails for good.
    pub effects: usize,
    /// Maximum output of [`FakeHost::run_payload`] and [`FakeHost::drain`], in bytes; past it, the run fails for good.
    pub output: usize,
}

/// Record of what a run did.
#[derive(Debug)]
pub struct Run<T> {
    /// Result of the handler, or the reason why the attempt failed all the same: it is past its deadline or a limit, or its
    /// state writes can't be written.
    pub result: Result<T>,
    /// Log lines of the run, whether it succeeded or not.
    pub logs: Vec<LogLine>,
    /// Progress reports of the run, whether it succeeded or not.
    pub progress: Vec<Progress>,
    /// HTTP requests that the run sent, whether it succeeded or not.
    pub requests: Vec<Request>,
    /// Jobs that were created because the run succeeded; empty if it failed.
    pub enqueued: Vec<EnqueuedJob>,
}

/// Log line of a handler.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// Severity of the line.
    pub level: Level,
    /// Message of the line.
    pub message: String,
    /// Fields of the line, in the order in which they were written.
    pub fields: Vec<(String, String)>,
}

/// The host as one run sees it.
#[derive(Debug, Clone)]
pub(crate) struct Host(Rc<RefCell<Running>>);

/// State of a run: a copy of what is stored, and the effects that it wants written.
#[derive(Debug)]
struct Running {
    given: Given,
    facts: AttemptInfo,
    job: JobFacts,
    clock: FakeClock,
    stored: Stored,
    ids: Ids,
    effects: Effects,
    /// Explanation of a limit that was hit, and its effect on the run: the first that always ends it, or else the last.
    exceeded: Option<(String, LimitEffect)>,
    logs: Vec<LogLine>,
    progress: Vec<Progress>,
    requests: Vec<Request>,
}

/// Effect on a run of a limit that was hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LimitEffect {
    /// The run fails.
    Always,
    /// If the run fails, it fails for good.
    IfItFails,
}

/// One attempt of one job.
struct Tried {
    id: String,
    kind: String,
    queue: String,
    attempt: u32,
    job: JobFacts,
}

const REMAINING: Duration = Duration::from_secs(30);
const KEY_LENGTH_MAX: usize = 256;
const KIND_LENGTH_MAX: usize = 127;
const QUEUE_LENGTH_MAX: usize = 63;
const GROUP_LENGTH_MAX: usize = 128;
const LABEL_NAME_LENGTH_MAX: usize = 63;
const LABEL_VALUE_LENGTH_MAX: usize = 255;
const LABELS_MAX: usize = 16;
const CONTENT_TYPE_LENGTH_MAX: usize = 127;

impl Default for Given {
    fn default() -> Self {
        Self {
            tenant: "acme".into(),
            queue: "default".into(),
            max_attempts: 5,
            remaining: REMAINING,
            stop: None,
            secrets: BTreeMap::new(),
            env: BTreeMap::new(),
            files: Files::default(),
            http: HttpTable::default(),
            unknown_kinds: BTreeSet::new(),
            state_unavailable: None,
            limits: FakeLimits::default(),
        }
    }
}

impl Default for FakeLimits {
    fn default() -> Self {
        Self { payload: 10 << 10, enqueues: 5_000, state_writes: 5_000, effects: 1 << 20, output: 1 << 20 }
    }
}

/// Setup of what a handler is to find.
impl FakeHost {
    /// Creates a host where tenant `acme` runs the first attempt of five, with 30 s to go, no secret, and nothing stored.
    #[must_use]
    pub fn new() -> Self {
        Self { kind: "test".into(), attempt: 1, ..Self::default() }
    }

    /// Sets the kind of job; it matters to handlers that look at [`Context::kind`].
    #[must_use]
    pub fn kind(mut self, kind: impl Into<String>) -> Self {
        self.kind = kind.into();
        self
    }

    /// Sets the id of the job that [`Self::run`] runs attempts of. Without it, each run is an attempt of a job of its own.
    #[must_use]
    pub fn job_id(mut self, id: impl Into<String>) -> Self {
        self.job_id = Some(id.into());
        self
    }

    /// Sets the tenant.
    #[must_use]
    pub fn tenant(mut self, tenant: impl Into<String>) -> Self {
        self.given.tenant = tenant.into();
        self
    }

    /// Sets the queue that the job came from.
    #[must_use]
    pub fn queue(mut self, queue: impl Into<String>) -> Self {
        self.given.queue = queue.into();
        self
    }

    /// Sets the group of the job that [`Self::run`] runs.
    #[must_use]
    pub fn group(mut self, group: impl Into<String>) -> Self {
        self.job.group = Some(group.into());
        self
    }

    /// Adds a label to the job that [`Self::run`] runs.
    #[must_use]
    pub fn label(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.job.labels.push((name.into(), value.into()));
        self.job.labels.sort();
        self
    }

    /// Sets the content type of the payload of the job that [`Self::run`] runs.
    #[must_use]
    pub fn content_type(mut self, content_type: impl Into<String>) -> Self {
        self.job.content_type = Some(content_type.into());
        self
    }

    /// Sets the number of the attempt that [`Self::run`] makes: 1 for the first. [`Self::drain`] counts by itself.
    #[must_use]
    pub fn attempt(mut self, attempt: u32) -> Self {
        self.attempt = attempt;
        self
    }

    /// Sets the maximum number of attempts: there is no other after the one of this number.
    #[must_use]
    pub fn max_attempts(mut self, max_attempts: u32) -> Self {
        self.given.max_attempts = max_attempts;
        self
    }

    /// Sets the time from the beginning of each attempt until its deadline. An attempt that is past it when its handler
    /// returns, by the host's clock, is timed out.
    #[must_use]
    pub fn remaining(mut self, remaining: Duration) -> Self {
        self.given.remaining = remaining;
        self
    }

    /// Sets the reason why the host would like the handler to stop.
    #[must_use]
    pub fn stop_requested(mut self, reason: StopReason) -> Self {
        self.given.stop = Some(reason);
        self
    }

    /// Grants a secret. Other secrets are refused.
    #[must_use]
    pub fn secret(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.given.secrets.insert(name.into(), value.into());
        self
    }

    /// Grants an environment variable, which [`Context::env`] finds.
    #[must_use]
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.given.env.insert(name.into(), value.into());
        self
    }

    /// Grants a directory, by its name in the sandbox. It is an empty one of the host's own, to which [`Context::path`]
    /// leads.
    ///
    /// # Panics
    /// If no temporary folder can be made.
    #[must_use]
    pub fn dir(mut self, directory: &str) -> Self {
        self.given.files.grant(directory);
        self
    }

    /// Puts a file into a granted directory, by its path in the sandbox. If no granted directory contains it, its own
    /// directory is granted. A handler finds the file by [`Context::path`].
    ///
    /// # Panics
    /// If it can't be written.
    #[must_use]
    pub fn file(mut self, path: &str, content: impl AsRef<[u8]>) -> Self {
        self.given.files.put(path, content.as_ref());
        self
    }

    /// Adds a reply to a request, which is `METHOD URL`: `host.http("GET https://api.example/*", HttpReply::json(&7))`. The
    /// URL may end in `*`, for all that begin like it, and the method may be `*`; the most exact one counts. Several
    /// replies to the same request are given one after the other, and the last one to all that follow. A request without a
    /// reply is refused, as if its host weren't granted.
    ///
    /// # Panics
    /// If the request isn't of that form.
    #[must_use]
    pub fn http(mut self, request: &str, reply: HttpReply) -> Self {
        self.given.http.add(request, reply);
        self
    }

    /// Stores a value under a key.
    ///
    /// # Panics
    /// If the value has no JSON form.
    #[must_use]
    pub fn state(mut self, key: impl Into<String>, value: &(impl Encode + ?Sized)) -> Self {
        let bytes = value.encode().expect("a value to be stored has a JSON form").into_owned();
        self.stored.insert(key.into(), Value { bytes, expires_at: None });
        self
    }

    /// Makes every read of what is stored fail as unavailable. Writes are held back until the end, so they don't fail.
    #[must_use]
    pub fn state_unavailable(mut self, why: impl Into<String>) -> Self {
        self.given.state_unavailable = Some(why.into());
        self
    }

    /// Makes a kind one that nobody handles: enqueueing it without naming a queue is refused. Every other kind has a
    /// handler.
    #[must_use]
    pub fn unknown_kind(mut self, kind: impl Into<String>) -> Self {
        self.given.unknown_kinds.insert(kind.into());
        self
    }

    /// Sets the limits.
    #[must_use]
    pub fn limits(mut self, limits: FakeLimits) -> Self {
        self.given.limits = limits;
        self
    }

    /// Moves the clock forward: values whose time to live ends expire, jobs whose delay ends may run.
    pub fn advance(&mut self, time: Duration) {
        self.clock.advance(time);
    }

    /// Returns the clock, for a handler under test that waits.
    #[must_use]
    pub fn clock(&self) -> FakeClock {
        self.clock.clone()
    }
}

/// Runs, and the inspection of what they did.
impl FakeHost {
    /// Runs a handler as one attempt of a job: `host.run(|ctx| greet(ctx, input))`. Its writes are stored if it succeeded.
    /// A panic of the handler is one of the test.
    pub fn run<T>(&mut self, handler: impl FnOnce(&Context) -> Result<T>) -> Run<T> {
        let id = self.job_id.clone().unwrap_or_else(|| self.ids.next());
        let (kind, queue) = (self.kind.clone(), self.given.queue.clone());
        let job = JobFacts { enqueued_at: self.clock.since_epoch(), ..self.job.clone() };
        let tried = Tried { id, kind, queue, attempt: self.attempt, job };
        self.attempted(tried, handler, |_| {})
    }

    /// Runs a handler on its whole way, from payload to output: `host.run_payload::<greet>(r#""Ann""#)`.
    pub fn run_payload<H: Handler>(&mut self, payload: impl AsRef<[u8]>) -> Run<Vec<u8>> {
        H::KIND.clone_into(&mut self.kind);
        let output_max = self.given.limits.output;
        self.run(|ctx| within_output(H::handle(ctx, payload.as_ref().to_vec()), output_max))
    }

    /// Enqueues a job as a producer does, for [`Self::drain`] to run, and returns its id, or that of the job which holds
    /// its unique key, if there is one.
    ///
    /// # Errors
    /// As [`Context::enqueue`].
    pub fn enqueue(&mut self, job: NewJob) -> Result<JobId, EnqueueError> {
        let (job, payload) = checked_job(job, &self.given)?;
        let created = self.jobs.create(self.ids.next(), job, payload, self.clock.since_epoch());
        Ok(created.unwrap_or_else(|holder| holder))
    }

    /// Cancels a job that waits, which frees its unique key. A final job stays as it is.
    ///
    /// # Panics
    /// If there is no such job.
    pub fn cancel(&mut self, job: &JobId) {
        let at = self.jobs.find(job).unwrap_or_else(|| panic!("cancel: this host has no job {job}"));
        if !self.jobs.get(at).state.is_final() {
            self.jobs.end(at, JobState::Cancelled);
        }
    }

    /// Returns the value that is stored under a key now; `None` if there is none.
    ///
    /// # Panics
    /// If the value is not of this type.
    #[must_use]
    pub fn stored<T: Decode>(&self, key: &str) -> Option<T> {
        let value = self.stored.get(key, self.clock.since_epoch())?;
        match T::decode(value.bytes.clone()) {
            Ok(value) => Some(value),
            Err(error) => panic!("the value of state key `{key}` is not of the type asked for: {error}"),
        }
    }

    /// Returns all jobs: those that runs so far have created, and those of [`Self::enqueue`].
    #[must_use]
    pub fn jobs(&self) -> &[EnqueuedJob] {
        self.jobs.all()
    }

    /// Returns the real path of a path of the sandbox, as [`Context::path`] does, for looking at what a handler has
    /// written.
    #[must_use]
    pub fn path(&self, path: &str) -> PathBuf {
        self.given.files.path(path)
    }

    /// Makes one attempt: runs the handler, and writes its effects if it succeeded. `succeeded` is called before its jobs
    /// are created.
    fn attempted<T>(
        &mut self,
        tried: Tried,
        handler: impl FnOnce(&Context) -> Result<T>,
        succeeded: impl FnOnce(&mut Jobs),
    ) -> Run<T> {
        let Tried { id, kind, queue, attempt, job } = tried;
        let deadline = self.clock.since_epoch().saturating_add(self.given.remaining);
        let deadline = job.deadline.map_or(deadline, |of_job| of_job.min(deadline));
        let facts = AttemptInfo {
            tenant: self.given.tenant.clone(),
            queue,
            attempt,
            max_attempts: self.given.max_attempts,
            idempotency_key: id.clone(),
            deadline,
        };
        let running = Rc::new(RefCell::new(Running {
            given: self.given.clone(),
            facts,
            job,
            clock: self.clock.clone(),
            stored: self.stored.clone(),
            ids: self.ids.clone(),
            effects: Effects::default(),
            exceeded: None,
            logs: Vec::new(),
            progress: Vec::new(),
            requests: Vec::new(),
        }));
        let ctx = Context::new(Host(Rc::clone(&running)), JobId::new(id), kind);
        let result = handler(&ctx);
        drop(ctx);

        let mut running =
            Rc::into_inner(running).expect("the context, which held the other one, is gone").into_inner();
        let result = running.concluded(result);
        let before = self.jobs.all().len();
        if result.is_ok() {
            let now = self.clock.since_epoch();
            running.effects.write(&mut self.stored, now);
            succeeded(&mut self.jobs);
            for (id, job, payload) in std::mem::take(&mut running.effects.jobs) {
                // A job whose unique key is held is not created, and that is no failure.
                let _ = self.jobs.create(id, job, payload, now);
            }
        }
        let enqueued = self.jobs.all()[before..].to_vec();
        let Running { logs, progress, requests, .. } = running;
        Run { result, logs, progress, requests, enqueued }
    }
}

fn within_output(output: Result<Vec<u8>>, max: usize) -> Result<Vec<u8>> {
    match output {
        Ok(output) if output.len() > max => {
            Err(permanent(format_args!("output larger than {max} bytes; raise limits.output")))
        }
        output => output,
    }
}

impl LogLine {
    /// Returns the value of a field; `None` if the line has no such field.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str())
    }
}

impl HostCalls for Host {
    fn attempt_info(&self) -> AttemptInfo {
        self.0.borrow().facts.clone()
    }

    fn job_info(&self) -> JobFacts {
        self.0.borrow().job.clone()
    }

    fn remaining(&self) -> Duration {
        let running = self.0.borrow();
        running.facts.deadline.saturating_sub(running.clock.since_epoch())
    }

    fn stop_requested(&self) -> Option<StopReason> {
        self.0.borrow().given.stop
    }

    fn log(&self, level: Level, message: &str, fields: &[(String, String)]) {
        let line = LogLine { level, message: message.to_owned(), fields: fields.to_vec() };
        self.0.borrow_mut().logs.push(line);
    }

    fn report(&self, progress: Progress) {
        self.0.borrow_mut().progress.push(progress);
    }

    fn enqueue(&self, job: NewJob) -> Result<JobId, EnqueueError> {
        self.0.borrow_mut().enqueue(job)
    }

    fn secret(&self, name: &str) -> Result<Secret, SecretError> {
        match self.0.borrow().given.secrets.get(name) {
            Some(value) => Ok(Secret::new(value.clone())),
            None => Err(SecretError::NotGranted(format!(
                "secret `{name}` is not granted; add `secrets = [{name:?}]` under [grants] of the plugin's TOML"
            ))),
        }
    }

    fn env(&self, name: &str) -> Option<String> {
        self.0.borrow().given.env.get(name).cloned()
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.borrow().given.files.path(path)
    }

    fn http(&self, request: &Request) -> Result<Response, HttpError> {
        let mut running = self.0.borrow_mut();
        running.requests.push(request.clone());
        running.given.http.reply(request)
    }

    fn state_get(&self, key: &str) -> Result<Option<Vec<u8>>, RawStateError> {
        let running = self.0.borrow();
        running.look_up(key)?;
        running.effects.read(&running.stored, key, running.clock.since_epoch())
    }

    fn state_set(&self, key: &str, value: &[u8], ttl: Option<Duration>) -> Result<(), RawStateError> {
        self.0.borrow_mut().write(key, |running| {
            running.effects.set(key, value, ttl);
            Ok(())
        })
    }

    fn state_delete(&self, key: &str) -> Result<(), RawStateError> {
        self.0.borrow_mut().write(key, |running| {
            running.effects.delete(key);
            Ok(())
        })
    }

    fn state_increment(&self, key: &str, by: i64) -> Result<(), RawStateError> {
        self.0.borrow_mut().write(key, |running| running.effects.increment(key, by))
    }

    fn state_compare_and_set(
        &self,
        key: &str,
        expected: Option<&[u8]>,
        value: &[u8],
        ttl: Option<Duration>,
    ) -> Result<Swapped, RawStateError> {
        let running = &mut *self.0.borrow_mut();
        running.look_up(key)?;
        let now = running.clock.since_epoch();
        if running.effects.read(&running.stored, key, now)?.as_deref() != expected {
            return Ok(Swapped::No);
        }
        running.write(key, |running| {
            running.effects.swap(&running.stored, key, expected, value, ttl, now).map(drop)
        })?;
        Ok(Swapped::Yes)
    }
}

impl Running {
    fn enqueue(&mut self, job: NewJob) -> Result<JobId, EnqueueError> {
        if self.effects.jobs.len() >= self.given.limits.enqueues {
            let limit =
                format!("enqueued more than {} jobs; raise limits.enqueues", self.given.limits.enqueues);
            return Err(EnqueueError::Limit(self.exceed(limit, LimitEffect::IfItFails)));
        }
        let (job, payload) = checked_job(job, &self.given)?;
        let id = self.ids.next();
        self.effects.jobs.push((id.clone(), job, payload));
        match self.check_size() {
            Some(limit) => Err(EnqueueError::Limit(limit)),
            None => Ok(JobId::new(id)),
        }
    }

    /// Checks what a read of a key needs: a valid key, and a store that is available if what is stored is needed.
    fn look_up(&self, key: &str) -> Result<(), RawStateError> {
        check_key(key)?;
        match &self.given.state_unavailable {
            Some(why) if self.effects.rests_on_stored(key) => Err(RawStateError::Unavailable(why.clone())),
            _ => Ok(()),
        }
    }

    fn write(
        &mut self,
        key: &str,
        write: impl FnOnce(&mut Self) -> Result<(), RawStateError>,
    ) -> Result<(), RawStateError> {
        check_key(key)?;
        let keys_max = self.given.limits.state_writes;
        if self.effects.keys() >= keys_max && !self.effects.is_written(key) {
            let limit = format!("wrote more than {keys_max} keys; raise limits.state_writes");
            return Err(RawStateError::Limit(self.exceed(limit, LimitEffect::IfItFails)));
        }
        write(self)?;
        self.check_size().map_or(Ok(()), |limit| Err(RawStateError::Limit(limit)))
    }

    fn check_size(&mut self) -> Option<String> {
        let max = self.given.limits.effects;
        (self.effects.size() > max).then(|| {
            let limit =
                format!("state writes and enqueued jobs larger than {max} bytes; raise limits.effects");
            self.exceed(limit, LimitEffect::Always)
        })
    }

    fn exceed(&mut self, limit: String, ends: LimitEffect) -> String {
        if self.exceeded.as_ref().is_none_or(|(_, before)| *before == LimitEffect::IfItFails) {
            self.exceeded = Some((limit.clone(), ends));
        }
        limit
    }

    /// Returns the result of the attempt, given what its handler returned.
    fn concluded<T>(&self, result: Result<T>) -> Result<T> {
        if self.clock.since_epoch() > self.facts.deadline {
            let time = self.given.remaining;
            return Err(transient(format_args!("timed out after {time:?}; raise limits.timeout")));
        }
        if let Some((limit, ends)) = &self.exceeded
            && (*ends == LimitEffect::Always || result.is_err())
        {
            return Err(permanent(limit));
        }
        result.and_then(|output| match self.effects.conflict(&self.stored, self.clock.since_epoch()) {
            Some(key) => Err(conflict(key)),
            None => Ok(output),
        })
    }
}

fn conflict(key: &str) -> Failure {
    transient(format_args!("state `{key}` was changed by another job before this one could settle"))
}

/// Checks a job that the host is to create, and returns it with its payload.
fn checked_job(mut job: NewJob, given: &Given) -> Result<(NewJob, Vec<u8>), EnqueueError> {
    let invalid = |what, value: &str, rule| {
        Err(EnqueueError::Invalid(format!("`{value}` is not a valid {what}: {rule}")))
    };
    let payload = match &job.payload {
        Ok(payload) => payload.clone(),
        Err(source) => return Err(EnqueueError::Payload { kind: job.kind, source: source.clone() }),
    };
    if !is_name(&job.kind, KIND_LENGTH_MAX) {
        return invalid(
            "kind",
            &job.kind,
            "1 to 127 of a-z, 0-9, `.`, `_`, `-`, starting with a letter or digit",
        );
    }
    if let Some(queue) = job.queue.as_deref().filter(|queue| !is_name(queue, QUEUE_LENGTH_MAX)) {
        return invalid(
            "queue",
            queue,
            "1 to 63 of a-z, 0-9, `.`, `_`, `-`, starting with a letter or digit",
        );
    }
    if let Some(group) = job.group.as_deref().filter(|group| !is_key(group, GROUP_LENGTH_MAX)) {
        return invalid("group", group, "1 to 128 bytes without control characters");
    }
    if let Some(text) = job.content_type.as_deref().filter(|text| !is_content_type(text)) {
        let rule =
            "a type and a subtype with `/` between them, at most 127 visible characters of ASCII and spaces";
        return invalid("content type", text, rule);
    }
    job.labels.sort();
    check_labels(&job.labels).map_err(EnqueueError::Invalid)?;
    match &job.unique {
        Some((key, _)) if !is_key(key, KEY_LENGTH_MAX) => {
            return invalid("unique key", key, "1 to 256 bytes without control characters");
        }
        Some((_, UniqueRule::Debounce(_))) if job.start != Start::After(Duration::ZERO) => {
            let problem = "a debounced job starts by the rule of its unique key, and at no other time";
            return Err(EnqueueError::Invalid(problem.to_owned()));
        }
        Some((_, UniqueRule::Debounce(times))) if times.delay >= times.longest => {
            let problem = "the delay of a debounced job has to be shorter than its longest wait";
            return Err(EnqueueError::Invalid(problem.to_owned()));
        }
        _ => {}
    }
    if job.queue.is_none() && given.unknown_kinds.contains(&job.kind) {
        let kind = &job.kind;
        let problem = format!("no plugin of this tenant handles kind `{kind}`, and no queue was named");
        return Err(EnqueueError::UnknownKind(problem));
    }
    if payload.len() > given.limits.payload {
        let (length, max) = (payload.len(), given.limits.payload);
        return Err(EnqueueError::Limit(format!(
            "a payload of {length} bytes is larger than limits.payload of {max}"
        )));
    }
    Ok((job, payload))
}

fn check_key(key: &str) -> Result<(), RawStateError> {
    let rule =
        || RawStateError::InvalidKey("a state key is 1 to 256 bytes without control characters".into());
    if is_key(key, KEY_LENGTH_MAX) { Ok(()) } else { Err(rule()) }
}

/// Checks labels in the order of their names.
fn check_labels(labels: &[(String, String)]) -> Result<(), String> {
    if labels.len() > LABELS_MAX {
        return Err(format!("a job has at most {LABELS_MAX} labels"));
    }
    for (name, value) in labels {
        if !is_name(name, LABEL_NAME_LENGTH_MAX) {
            let rule = "1 to 63 of a-z, 0-9, `.`, `_`, `-`, starting with a letter or digit";
            return Err(format!("`{name}` is not a valid label name: {rule}"));
        }
        if !value.is_empty() && !is_key(value, LABEL_VALUE_LENGTH_MAX) {
            let rule = "at most 255 bytes without control characters";
            return Err(format!("`{value}` is not a valid label value: {rule}"));
        }
    }
    match labels.windows(2).find(|two| two[0].0 == two[1].0) {
        Some(two) => Err(format!("there is a label \"{}\" already", two[0].0)),
        None => Ok(()),
    }
}

fn is_content_type(text: &str) -> bool {
    let is_part = |part: &str| !part.is_empty() && !part.starts_with(' ') && !part.ends_with(' ');
    text.len() <= CONTENT_TYPE_LENGTH_MAX
        && text.bytes().all(|byte| (b' '..=b'~').contains(&byte))
        && text.split_once('/').is_some_and(|(main, sub)| is_part(main) && is_part(sub))
}

fn is_key(key: &str, length_max: usize) -> bool {
    !key.is_empty() && key.len() <= length_max && !key.chars().any(char::is_control)
}

fn is_name(text: &str, length_max: usize) -> bool {
    let starts_well = text.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    let rest = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b);
    starts_well && text.len() <= length_max && text.bytes().all(rest)
}
