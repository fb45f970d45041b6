//! Jobs, as programs read them.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use sandhog_core::group::GroupTurns;
use sandhog_core::history::AttemptRecord;
use sandhog_core::id::{GroupKey, JobId, QueueName, TenantId};
use sandhog_core::job::{JobRecord, LogLine, Progress, State};
use sandhog_core::outcome::Usage;
use sandhog_core::unique;
use sandhog_core::waits::{Told, Wait};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

use crate::HoldDocument;
use crate::time::{at_of, shown};

/// JSON document of a job. Names and meanings stay as they are; more may come.
#[derive(Debug, Serialize, Deserialize)]
pub struct JobDocument {
    /// The job's id.
    pub id: String,
    /// The tenant that it belongs to.
    pub tenant: String,
    /// The queue in which it waits or waited.
    pub queue: String,
    /// The kind, which names its handler.
    pub kind: String,
    /// The flow that it belongs to, by the id of the flow's first job.
    pub flow: Option<String>,
    /// Ids of the jobs of its flow that it waits for, while it is blocked.
    pub waits_for: Vec<String>,
    /// `blocked`, `scheduled`, `ready`, `leased`, `succeeded`, `dead` or `cancelled`.
    pub state: Cow<'static, str>,
    /// The reason for its state: a slug such as `out-of-fuel`.
    pub reason: Option<Cow<'static, str>>,
    /// The reason in full, for people.
    pub message: Option<String>,
    /// The priority, 0 to 255; the highest goes first.
    pub priority: u8,
    /// The unique key: while a job with this key is not final, no second one is created.
    pub unique_key: Option<String>,
    /// The group in its queue.
    pub group: Option<String>,
    /// Its labels, by name.
    pub labels: BTreeMap<String, String>,
    /// The content type of its payload, if its producer said so.
    pub content_type: Option<String>,
    /// The position in the trace that it belongs to.
    pub traceparent: Option<String>,
    /// State of the trace, as the systems on its way have added it.
    pub tracestate: Option<String>,
    /// Time by which it has to start for the first time; null if it needn't.
    pub start_by: Option<String>,
    /// Time by which all its attempts have to be over; null if it has no deadline.
    pub deadline: Option<String>,
    /// Number of attempts that counted.
    pub attempts: u32,
    /// Number of leases that ran out because a daemon vanished.
    pub expiries: u32,
    /// Time at which its producer was told that it is safe. All times are RFC 3339, in UTC.
    pub enqueued_at: Option<String>,
    /// Time at which it becomes ready, while it is scheduled.
    pub due_at: Option<String>,
    /// Time at which it was leased last.
    pub leased_at: Option<String>,
    /// Time at which the current lease runs out.
    pub lease_expires_at: Option<String>,
    /// Time at which it became final.
    pub finished_at: Option<String>,
    /// The names of those times above that are null because they lie after the year 9999, which RFC 3339 can't express.
    pub never: Vec<Cow<'static, str>>,
    /// The latest progress report of its handler.
    pub progress: Option<ProgressDocument>,
    /// Total usage of all its runs.
    pub usage: UsageDocument,
    /// The sha256 of the component that ran last.
    pub revision: Option<String>,
    /// The reason why some of it is left empty: it is sealed, and can't be opened.
    pub unreadable: Option<String>,
    /// All that it waits for, those that somebody has to see to first; empty unless it is scheduled or ready. A list tells less
    /// of it than a look at the one job.
    pub waits: Vec<WaitDocument>,
    /// Payload; left out where jobs are listed, unless it is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload: Option<Content>,
    /// Output; null unless it succeeded, and left out where the payload is.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "there")]
    pub output: Option<Option<Content>>,
    /// The latest attempts that have ended, oldest first; only where one job is shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub history: Option<Vec<AttemptDocument>>,
    /// The log lines that are kept with it, oldest first; only where one job is shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log: Option<Vec<LogDocument>>,
}

/// JSON document of one thing that a job waits for.
#[derive(Debug, Serialize, Deserialize)]
pub struct WaitDocument {
    /// The kind of wait: `paused`, `breaker`, `half-open`, `rate-limited`, `no-plugin`, `time`, `retry`, `fuel`, `limit`,
    /// `rate`, `group`, `parents` or `turn`.
    pub reason: Cow<'static, str>,
    /// The wait in a line, for people.
    pub text: String,
    /// Time at which it ends by itself; null if there is no such time.
    pub until: Option<String>,
    /// Number of jobs that go before it; 1000 means that or more. Null unless it waits for its turn.
    pub ahead: Option<u64>,
    /// The hold that it waits for; null if it waits for something else.
    pub hold: Option<HoldDocument>,
    /// The limit that it waits for; null if it waits for something else.
    pub limit: Option<LimitDocument>,
    /// Name of the rate limit that it waits for; null if it waits for something else.
    pub rate: Option<String>,
    /// The group whose turn it waits for; null if it waits for something else.
    pub group: Option<GroupWaitDocument>,
}

/// JSON document of a group whose turn a job waits for.
#[derive(Debug, Serialize, Deserialize)]
pub struct GroupWaitDocument {
    /// Key of the group.
    pub key: String,
    /// Number of jobs of it that have a turn; null if that isn't known.
    pub taken: Option<u16>,
    /// Number of turns that it has; null if that isn't known.
    pub most: Option<u16>,
    /// Id of the first job that has a turn; null if none has, or that isn't known.
    pub held_by: Option<String>,
    /// Whether that job is dead, and so holds the group until somebody sees to it.
    pub is_dead: bool,
}

impl GroupWaitDocument {
    fn new(key: &GroupKey, turns: Option<GroupTurns>) -> Self {
        let holder = turns.and_then(|turns| turns.holder);
        Self {
            key: key.to_string(),
            taken: turns.map(|turns| turns.taken),
            most: turns.map(|turns| turns.most),
            held_by: holder.map(|holder| holder.job.to_string()),
            is_dead: holder.is_some_and(|holder| holder.is_dead),
        }
    }
}

/// JSON document of a limit that a job waits for.
#[derive(Debug, Serialize, Deserialize)]
pub struct LimitDocument {
    /// The plugin that has the limit.
    pub name: String,
    /// Number of jobs that are leased under it.
    pub leased: u64,
    /// Maximum number of those.
    pub most: u32,
}

impl WaitDocument {
    /// Creates the document of one thing that a tenant's job waits for.
    #[must_use]
    pub fn new(tenant: &str, wait: &Wait) -> Self {
        let ahead = match wait {
            Wait::Turn { ahead } => Some(*ahead),
            _ => None,
        };
        let hold = match wait {
            Wait::Hold(hold) => Some(HoldDocument::new(tenant, hold.clone())),
            _ => None,
        };
        let limit = match wait {
            Wait::Limit { name, leased, most } => {
                Some(LimitDocument { name: name.to_string(), leased: *leased, most: *most })
            }
            _ => None,
        };
        let rate = match wait {
            Wait::Rate { of, .. } => Some(of.to_string()),
            _ => None,
        };
        let group = match wait {
            Wait::Group { key, turns } => Some(GroupWaitDocument::new(key, *turns)),
            _ => None,
        };
        let text = told(std::slice::from_ref(wait));
        let until = wait.until().and_then(at_of);
        Self { reason: wait.slug().into(), text, until, ahead, hold, limit, rate, group }
    }
}

/// Renders all that a job waits for in a line.
#[must_use]
pub fn told(waits: &[Wait]) -> String {
    let texts: Vec<String> = waits.iter().map(|wait| Told { wait, clock: shown }.to_string()).collect();
    texts.join("; ")
}

/// Whether payloads and outputs are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Payloads {
    /// Payloads and outputs are shown.
    Shown,
    /// Payloads and outputs are left out, as they weren't asked for.
    Left,
}

/// JSON document of a job's progress.
#[derive(Debug, Serialize, Deserialize)]
pub struct ProgressDocument {
    /// The amount that is done.
    pub done: u64,
    /// The total amount, if the handler gave one.
    pub total: Option<u64>,
    /// The handler's message.
    pub message: Option<String>,
}

/// JSON document of the usage of runs.
#[derive(Debug, Serialize, Deserialize)]
pub struct UsageDocument {
    /// Fuel: the number of instructions.
    pub fuel: u64,
    /// Peak memory: the largest sum of a run's memories, in bytes.
    pub memory_peak: u64,
    /// Time from start to end, in microseconds.
    pub wall_us: u64,
    /// Processor time, in microseconds.
    pub cpu_us: u64,
    /// Number of calls from the guest to the host.
    pub host_calls: u64,
}

/// JSON document of an attempt that has ended.
#[derive(Debug, Serialize, Deserialize)]
pub struct AttemptDocument {
    /// The number of the attempt; 1 is the first.
    pub attempt: u32,
    /// The reason why it ended: a slug such as `timed-out`; null if it succeeded.
    pub reason: Option<Cow<'static, str>>,
    /// The reason in full, for people; cut if it is long.
    pub message: Option<String>,
    /// Time at which the job was leased for it.
    pub leased_at: String,
    /// Time at which its end was recorded.
    pub ended_at: String,
    /// The id of the daemon that ran it; null if it isn't known.
    pub daemon: Option<String>,
    /// The sha256 of the component that ran; null if it isn't known.
    pub revision: Option<String>,
    /// Resources that it spent.
    pub usage: UsageDocument,
}

/// JSON document of a line of a job's log.
#[derive(Debug, Serialize, Deserialize)]
pub struct LogDocument {
    /// Time at which it was written.
    pub at: String,
    /// The attempt that wrote it; 1 is the first.
    pub attempt: u32,
    /// `trace`, `debug`, `info`, `warn` or `error`.
    pub level: Cow<'static, str>,
    /// The message.
    pub message: String,
    /// Names and values of the fields beside the message.
    pub fields: Vec<(String, String)>,
}

/// JSON document of bytes: an object with one of three keys.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Content {
    /// The bytes are JSON: the value as it is written, to the last digit.
    Json(Box<RawValue>),
    /// The bytes are UTF-8: the text.
    Text(String),
    /// The bytes are neither: two hexadecimal digits for each.
    Hex(String),
}

impl Content {
    /// Classifies these bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        if let Ok(value) = serde_json::from_slice(bytes) {
            return Self::Json(value);
        }
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::Text(text.to_owned()),
            Err(_) => Self::Hex(HEXLOWER.encode(bytes)),
        }
    }

    /// Returns the bytes, without the blanks around a JSON value. `None` if it isn't hexadecimal.
    #[must_use]
    pub fn bytes(&self) -> Option<Vec<u8>> {
        match self {
            Self::Json(value) => Some(value.get().as_bytes().to_vec()),
            Self::Text(text) => Some(text.as_bytes().to_vec()),
            Self::Hex(digits) => HEXLOWER_PERMISSIVE.decode(digits.as_bytes()).ok(),
        }
    }
}

impl From<Usage> for UsageDocument {
    fn from(usage: Usage) -> Self {
        Self {
            fuel: usage.fuel.0,
            memory_peak: usage.memory_peak.0,
            wall_us: micros(usage.wall),
            cpu_us: micros(usage.cpu),
            host_calls: usage.host_calls,
        }
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

impl From<Progress> for ProgressDocument {
    fn from(progress: Progress) -> Self {
        Self { done: progress.done, total: progress.total, message: progress.message }
    }
}

impl From<AttemptRecord> for AttemptDocument {
    fn from(record: AttemptRecord) -> Self {
        Self {
            attempt: record.attempt,
            reason: record.reason.map(|reason| reason.slug().into()),
            message: record.message,
            leased_at: shown(record.leased_at),
            ended_at: shown(record.ended_at),
            daemon: record.daemon.map(|daemon| daemon.to_string()),
            revision: record.revision.map(|revision| revision.to_string()),
            usage: record.usage.into(),
        }
    }
}

impl From<LogLine> for LogDocument {
    fn from(line: LogLine) -> Self {
        let LogLine { at, attempt, level, message, fields } = line;
        Self { at: shown(at), attempt, level: level.slug().into(), message, fields }
    }
}

impl JobDocument {
    /// Creates the document of a job, with its log where one job is shown.
    #[must_use]
    pub fn new(job: JobRecord, log: Option<Vec<LogLine>>, payloads: Payloads) -> Self {
        let times = [
            ("enqueued_at", Some(job.enqueued_at)),
            ("due_at", job.due_at),
            ("leased_at", job.leased_at),
            ("lease_expires_at", job.lease_expires_at),
            ("finished_at", job.finished_at),
        ];
        let never = times.iter().filter(|(_, at)| at.is_some_and(|at| at_of(at).is_none()));
        let labels =
            job.options.labels.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        let [start_by, deadline] = [job.start_by(), job.deadline()].map(|at| at.map(shown));
        let is_shown = payloads == Payloads::Shown;
        Self {
            never: never.map(|(name, _)| (*name).into()).collect(),
            payload: is_shown.then(|| Content::of(&job.payload)),
            output: is_shown.then(|| job.output.as_deref().map(Content::of)),
            history: log.is_some().then(|| job.ended_attempts().into_iter().map(Into::into).collect()),
            id: job.id.to_string(),
            tenant: job.tenant.to_string(),
            queue: job.queue.to_string(),
            kind: job.kind.to_string(),
            flow: job.options.flow.map(|member| member.flow.to_string()),
            waits_for: job.waits_for.iter().map(ToString::to_string).collect(),
            state: job.state.slug().into(),
            reason: job.reason.map(|reason| reason.slug().into()),
            message: job.message,
            priority: job.priority.0,
            unique_key: job.unique_key.map(|key| unique::shown(&job.kind, &key).to_owned()),
            labels,
            content_type: job.options.content_type.as_ref().map(ToString::to_string),
            traceparent: job.options.trace.as_ref().map(|trace| trace.parent.to_string()),
            tracestate: job
                .options
                .trace
                .as_ref()
                .and_then(|trace| trace.state.as_ref().map(ToString::to_string)),
            start_by,
            deadline,
            group: job.options.group.map(|group| group.to_string()),
            attempts: job.attempts,
            expiries: job.expiries,
            enqueued_at: at_of(job.enqueued_at),
            due_at: job.due_at.and_then(at_of),
            leased_at: job.leased_at.and_then(at_of),
            lease_expires_at: job.lease_expires_at.and_then(at_of),
            finished_at: job.finished_at.and_then(at_of),
            progress: job.progress.map(Into::into),
            usage: job.usage.into(),
            revision: job.revision.map(|revision| revision.to_string()),
            unreadable: job.unreadable,
            waits: Vec::new(),
            log: log.map(|log| log.into_iter().map(Into::into).collect()),
        }
    }
}

impl JobDocument {
    /// Adds what the job waits for.
    #[must_use]
    pub fn waiting_for(self, waits: &[Wait]) -> Self {
        let waits = waits.iter().map(|wait| WaitDocument::new(&self.tenant, wait)).collect();
        Self { waits, ..self }
    }
}

/// Numbers of jobs by state.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StateCounts(pub Vec<(State, u64)>);

impl FromIterator<(State, u64)> for StateCounts {
    fn from_iter<I: IntoIterator<Item = (State, u64)>>(counts: I) -> Self {
        Self(counts.into_iter().collect())
    }
}

/// An object with the slugs of the states, in their order.
impl Serialize for StateCounts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (state, n) in &self.0 {
            map.serialize_entry(state.slug(), n)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for StateCounts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let counts = BTreeMap::<String, u64>::deserialize(deserializer)?;
        // A later version may have more states.
        Ok(State::ALL.into_iter().filter_map(|state| Some((state, *counts.get(state.slug())?))).collect())
    }
}

/// Reads what is there, null or not.
fn there<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// JSON document of the number of a tenant's jobs in each state.
#[derive(Debug, Serialize, Deserialize)]
pub struct CountsDocument {
    /// The tenant.
    pub tenant: String,
    /// Numbers of jobs by the slug of the state, in the order of a job's life.
    pub counts: StateCounts,
    /// The cursor for `--after` at which the list goes on; null if this is all of it.
    pub next: Option<String>,
}

/// JSON document of a schedule that can't be read.
#[derive(Debug, Serialize, Deserialize)]
pub struct UnreadDocument {
    /// The tenant that it belongs to.
    pub tenant: String,
    /// The job's id.
    pub id: String,
    /// A description of what is wrong with the stored job.
    pub problem: String,
}

impl UnreadDocument {
    /// Creates the document of a tenant's job.
    #[must_use]
    pub fn new(tenant: &TenantId, job: JobId, problem: String) -> Self {
        Self { tenant: tenant.to_string(), id: job.to_string(), problem }
    }
}

/// JSON document of a page of jobs.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct PageDocument {
    /// The jobs, without their logs.
    pub jobs: Vec<JobDocument>,
    /// The jobs that are stored but can't be read.
    pub unread: Vec<UnreadDocument>,
    /// The number of all jobs of each tenant, by state.
    pub tenants: Vec<CountsDocument>,
}

impl CountsDocument {
    /// Creates the document of these counts.
    #[must_use]
    pub fn new(tenant: &TenantId, counts: StateCounts, next: Option<String>) -> Self {
        Self { tenant: tenant.to_string(), counts, next }
    }
}

/// JSON document of the numbers of jobs of several tenants.
#[derive(Debug, Serialize, Deserialize)]
pub struct AllCountsDocument {
    /// The tenants, by name.
    pub tenants: Vec<CountsDocument>,
}

/// JSON document of jobs that were just enqueued.
#[derive(Debug, Serialize, Deserialize)]
pub struct EnqueuedDocument {
    /// The tenant that they belong to.
    pub tenant: String,
    /// The queue in which they wait.
    pub queue: String,
    /// The jobs' ids, in the order of the payloads; for a duplicate, the id of the job which holds the key.
    pub ids: Vec<String>,
    /// Number of jobs that were not stored, because a job that is not final holds their unique key.
    pub duplicates: u64,
    /// The answer for each job, in the same order.
    pub jobs: Vec<AnswerDocument>,
    /// The id that the ids were made from, if the jobs are the lines of a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ids_from: Option<String>,
    /// Warnings about what keeps the jobs waiting, as far as the configuration tells.
    pub warnings: Vec<String>,
}

/// JSON document of the answer for one job that was to be enqueued.
#[derive(Debug, Serialize, Deserialize)]
pub struct AnswerDocument {
    /// The number of its line in the file, from 1; left out if the job isn't from a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
    /// The job's id; for a duplicate, the id of the job which holds the key.
    pub id: String,
    /// The answer.
    pub answer: Answer,
    /// The reason why nothing was stored, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// The answer to an enqueue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    /// The job is stored.
    Stored,
    /// Another job holds its unique key; nothing was stored.
    Duplicate,
    /// Another job that waits holds its unique key, and has got its payload.
    Replaced,
    /// Nothing was stored; the error says why.
    Refused,
    /// No answer came, so it may be stored or not.
    Unknown,
}

impl Answer {
    /// Whether there is a job that can be waited for.
    #[must_use]
    pub fn is_there(self) -> bool {
        matches!(self, Self::Stored | Self::Duplicate | Self::Replaced)
    }
}

impl EnqueuedDocument {
    /// Creates the document of jobs that got these answers.
    #[must_use]
    pub fn new(
        tenant: &TenantId,
        queue: &QueueName,
        jobs: Vec<AnswerDocument>,
        warnings: Vec<String>,
    ) -> Self {
        Self {
            tenant: tenant.to_string(),
            queue: queue.to_string(),
            ids: jobs.iter().filter(|job| job.answer.is_there()).map(|job| job.id.clone()).collect(),
            duplicates: jobs.iter().filter(|job| job.answer == Answer::Duplicate).count() as u64,
            jobs,
            ids_from: None,
            warnings,
        }
    }
}

/// JSON document of a job that was enqueued and waited for.
#[derive(Debug, Serialize, Deserialize)]
pub struct AwaitedDocument {
    /// The job.
    #[serde(flatten)]
    pub job: JobDocument,
    /// Whether the job was there before, so that nothing was enqueued.
    pub duplicate: bool,
}
