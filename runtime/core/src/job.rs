//! Jobs: as a producer asks for one, as a holder leases one, and as anybody looks one up.

use std::fmt;
use std::time::Duration;

use crate::flow::FlowMember;
use crate::history::AttemptRecord;
use crate::id::{
    ContentType, GroupKey, JobId, Kind, LeaseNo, LeaseToken, QueueName, Revision, TenantId, TraceParent,
    TraceState, UniqueKey,
};
use crate::labels::Labels;
use crate::outcome::Usage;
use crate::reason::Reason;
use crate::time::Timestamp;
use crate::unique::UniqueRule;

/// Priority of a job among the ready ones of its queue: the highest goes first, equals in order of arrival. The default is
/// 100.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Priority(pub u8);

impl Priority {
    /// Priority of a job for which none was asked.
    pub const DEFAULT: Self = Self(100);
}

impl Default for Priority {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// Options that a producer may ask for beyond what every job has. A job with none is stored as if there were no options.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobOptions {
    /// Group of the job in its queue; `None` if it belongs to none.
    pub group: Option<GroupKey>,
    /// Time from its enqueueing within which the job has to start for the first time, or it is cancelled as
    /// [`Reason::Expired`]. `None` for no such bound.
    pub start_within: Option<Duration>,
    /// Time from its enqueueing after which no attempt begins and none goes on: the job is buried as
    /// [`Reason::DeadlineExceeded`]. `None` for no deadline.
    pub deadline: Option<Duration>,
    /// Labels, for people and programs to see.
    pub labels: Labels,
    /// Content type of the payload; `None` if its producer says nothing of it.
    pub content_type: Option<ContentType>,
    /// Trace that the job belongs to, which the jobs that its runs enqueue belong to as well; `None` if there is none.
    pub trace: Option<TraceContext>,
    /// Membership of the job in a flow; `None` if it is in none. [`Flow::new`](crate::flow::Flow::new) sets it.
    pub flow: Option<FlowMember>,
    /// Rule of its unique key, if it has one.
    pub unique: UniqueRule,
}

/// Trace context of a job: see <https://www.w3.org/TR/trace-context/>.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceContext {
    /// Position in the trace.
    pub parent: TraceParent,
    /// State that the systems on its way have added; `None` if there is none.
    pub state: Option<TraceState>,
}

/// A job that a producer asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewJob {
    /// Id, chosen by the producer's side, so that an enqueue whose reply was lost can be repeated without a second job.
    pub id: JobId,
    /// Kind of the job: what is to be done.
    pub kind: Kind,
    /// Queue in which the job waits.
    pub queue: QueueName,
    /// Input of the handler; nobody else looks inside.
    pub payload: Vec<u8>,
    /// Minimum time that the job waits before it is ready.
    pub delay: Duration,
    /// Priority among the ready jobs of its queue.
    pub priority: Priority,
    /// Unique key: while a job holds it, no second one with it is created; [`JobOptions::unique`] says for how long that is.
    /// `None` if the job has none.
    pub unique_key: Option<UniqueKey>,
    /// Only revision that may run the job; `None` for any that is in force when the job is leased.
    pub pinned: Option<Revision>,
    /// Further options of the job.
    pub options: JobOptions,
}

impl NewJob {
    /// Creates a job that is ready at once, of the usual priority, with no unique key, for any revision, without options. The
    /// caller may change these fields.
    #[must_use]
    pub fn new(id: JobId, queue: QueueName, kind: Kind, payload: Vec<u8>) -> Self {
        Self {
            id,
            kind,
            queue,
            payload,
            delay: Duration::ZERO,
            priority: Priority::default(),
            unique_key: None,
            pinned: None,
            options: JobOptions::default(),
        }
    }

    /// Returns the job with this delay. What counts from the time at which the job may start, as producers mean it, is moved
    /// along: stores count it from the enqueueing.
    #[must_use]
    pub fn starting_after(mut self, delay: Duration) -> Self {
        let before = self.delay;
        let moved =
            |time: Option<Duration>| time.map(|time| time.saturating_sub(before).saturating_add(delay));
        self.options.start_within = moved(self.options.start_within);
        self.options.deadline = moved(self.options.deadline);
        Self { delay, ..self }
    }

    /// Returns the size of what a handler that enqueues the job has said of it, in bytes: payload, kind, group, labels and content
    /// type.
    #[must_use]
    pub fn size(&self) -> usize {
        let JobOptions { group, labels, content_type, .. } = &self.options;
        let labels = labels.iter().map(|(name, value)| name.as_str().len() + value.as_str().len());
        self.payload.len()
            + self.kind.as_str().len()
            + group.as_ref().map_or(0, |group| group.as_str().len())
            + content_type.as_ref().map_or(0, |content_type| content_type.as_str().len())
            + labels.sum::<usize>()
    }
}

/// State of a job. The reason is apart: see [`JobRecord::reason`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// Waiting for others: for its turn in its group, or for jobs of its flow.
    Blocked,
    /// Waiting for its time.
    Scheduled,
    /// Ready to be leased.
    Ready,
    /// Held by a daemon.
    Leased,
    /// Done; its effects are written.
    Succeeded,
    /// Given up: a dead letter.
    Dead,
    /// Cancelled by somebody.
    Cancelled,
}

impl State {
    /// Every state, in the order of a job's life.
    pub const ALL: [Self; 7] = [
        Self::Blocked,
        Self::Scheduled,
        Self::Ready,
        Self::Leased,
        Self::Succeeded,
        Self::Dead,
        Self::Cancelled,
    ];

    /// The name in the API, logs, metrics and docs.
    #[must_use]
    pub fn slug(self) -> &'static str {
        match self {
            Self::Blocked => "blocked",
            Self::Scheduled => "scheduled",
            Self::Ready => "ready",
            Self::Leased => "leased",
            Self::Succeeded => "succeeded",
            Self::Dead => "dead",
            Self::Cancelled => "cancelled",
        }
    }

    /// Returns the state with this slug; `None` if there is no such state.
    #[must_use]
    pub fn from_slug(slug: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.slug() == slug)
    }

    /// Returns the number by which stores know the state. It never changes, and implies no order.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Scheduled => 0,
            Self::Ready => 1,
            Self::Leased => 2,
            Self::Succeeded => 3,
            Self::Dead => 4,
            Self::Cancelled => 5,
            Self::Blocked => 6,
        }
    }

    /// Returns the state with this [`Self::code`]; `None` if there is no such state.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.code() == code)
    }

    /// Whether the job waits to be leased, sooner or later.
    #[must_use]
    pub fn waits(self) -> bool {
        match self {
            Self::Blocked | Self::Scheduled | Self::Ready => true,
            Self::Leased | Self::Succeeded | Self::Dead | Self::Cancelled => false,
        }
    }

    /// Whether nothing happens to the job any more by itself.
    #[must_use]
    pub fn is_final(self) -> bool {
        match self {
            Self::Blocked | Self::Scheduled | Self::Ready | Self::Leased => false,
            Self::Succeeded | Self::Dead | Self::Cancelled => true,
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.slug())
    }
}

/// A leased job, as its holder gets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// Id of the job.
    pub id: JobId,
    /// Tenant that the job belongs to.
    pub tenant: TenantId,
    /// Queue that the job came from.
    pub queue: QueueName,
    /// Kind of the job: what is to be done.
    pub kind: Kind,
    /// Input of the handler.
    pub payload: Vec<u8>,
    /// See [`NewJob::unique_key`].
    pub unique_key: Option<UniqueKey>,
    /// See [`NewJob::pinned`].
    pub pinned: Option<Revision>,
    /// See [`NewJob::options`].
    pub options: JobOptions,
    /// Number of attempts that counted so far, without this one; released and expired ones don't count.
    pub attempts: u32,
    /// Number of leases that expired since an attempt last ended: a job with any is suspected of killing its daemons.
    pub expiries: u32,
    /// Number of times since an attempt last ended that a daemon failed on the job; see [`Reason::is_host_fault`].
    pub faults: u32,
    /// Time at which the producer was told that the job is safe.
    pub enqueued_at: Timestamp,
}

impl Job {
    /// Returns the time that is left until the job's deadline, zero if that is over; `None` if it has no deadline.
    #[must_use]
    pub fn time_left(&self, now: Timestamp) -> Option<Duration> {
        self.options.deadline.map(|deadline| self.enqueued_at.after(deadline).since(now))
    }

    /// Creates a new job as its first holder gets it.
    #[must_use]
    pub fn of(asked: NewJob, tenant: TenantId, enqueued_at: Timestamp) -> Self {
        JobRecord::of(asked, tenant, enqueued_at).into_job()
    }
}

/// A job, with the right to run it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// Proof of the lease.
    pub token: LeaseToken,
    /// The leased job.
    pub job: Job,
}

/// Progress of a job, as its handler reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// Amount of work that is done.
    pub done: u64,
    /// Amount of work in all; `None` if the handler doesn't say.
    pub total: Option<u64>,
    /// Description of what is going on; `None` if the handler gives none.
    pub message: Option<String>,
}

/// Severity of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// The finest detail.
    Trace,
    /// Detail for those who debug the handler.
    Debug,
    /// Ordinary course of events.
    Info,
    /// Something is wrong, but the handler went on.
    Warn,
    /// Something failed.
    Error,
}

impl Level {
    /// Every level, the least important first.
    pub const ALL: [Self; 5] = [Self::Trace, Self::Debug, Self::Info, Self::Warn, Self::Error];

    /// The name in the API, logs and docs.
    #[must_use]
    pub fn slug(self) -> &'static str {
        match self {
            Self::Trace => "trace",
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }

    /// Returns the level with this slug; `None` if there is no such level.
    #[must_use]
    pub fn from_slug(slug: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|level| level.slug() == slug)
    }
}

/// A line of a job's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// Time at which the line was written.
    pub at: Timestamp,
    /// Number of the attempt that wrote the line; 1 is the first.
    pub attempt: u32,
    /// Severity of the line.
    pub level: Level,
    /// The text.
    pub message: String,
    /// Names and values of structured fields beside the text.
    pub fields: Vec<(String, String)>,
}

/// Everything that is known of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobRecord {
    /// Id of the job.
    pub id: JobId,
    /// Tenant that the job belongs to.
    pub tenant: TenantId,
    /// Queue in which the job waits or waited.
    pub queue: QueueName,
    /// Kind of the job: what is to be done.
    pub kind: Kind,
    /// Input of the handler.
    pub payload: Vec<u8>,
    /// Priority among the ready jobs of its queue.
    pub priority: Priority,
    /// See [`NewJob::unique_key`].
    pub unique_key: Option<UniqueKey>,
    /// See [`NewJob::pinned`].
    pub pinned: Option<Revision>,
    /// See [`NewJob::options`].
    pub options: JobOptions,
    /// State of the job.
    pub state: State,
    /// Reason for the state; `None` where it is a matter of course.
    pub reason: Option<Reason>,
    /// Reason in full, for people.
    pub message: Option<String>,
    /// Number of attempts that counted.
    pub attempts: u32,
    /// Number of leases that expired because a daemon vanished, since an attempt last ended.
    pub expiries: u32,
    /// Number of times since an attempt last ended that a daemon failed on the job.
    pub faults: u32,
    /// Number of the latest lease; 0 before the first.
    pub lease: LeaseNo,
    /// Time at which the producer was told that the job is safe.
    pub enqueued_at: Timestamp,
    /// Jobs of its flow that it waits for, while it is blocked; in the order of their ids.
    pub waits_for: Vec<JobId>,
    /// Time at which the job becomes ready, while it is scheduled.
    pub due_at: Option<Timestamp>,
    /// Time at which the job was last leased.
    pub leased_at: Option<Timestamp>,
    /// Time at which the present lease expires.
    pub lease_expires_at: Option<Timestamp>,
    /// Time at which the job became final.
    pub finished_at: Option<Timestamp>,
    /// Result of the handler, once the job succeeded.
    pub output: Option<Vec<u8>>,
    /// Latest report of the handler.
    pub progress: Option<Progress>,
    /// Sum of what all runs of the job spent.
    pub usage: Usage,
    /// Revision that ran last.
    pub revision: Option<Revision>,
    /// Latest attempts that have ended, the oldest first; see [`Self::ended_attempts`].
    pub history: Vec<AttemptRecord>,
    /// Reason why some of the record can't be shown: it is sealed and can't be opened, or was written by a newer version.
    /// What can't be shown is left empty.
    pub unreadable: Option<String>,
}

impl JobRecord {
    /// Creates the record of a new job, to which nothing has happened yet.
    #[must_use]
    pub fn of(asked: NewJob, tenant: TenantId, enqueued_at: Timestamp) -> Self {
        let NewJob { id, kind, queue, payload, delay, priority, unique_key, pinned, options } = asked;
        Self {
            id,
            tenant,
            queue,
            kind,
            payload,
            priority,
            unique_key,
            pinned,
            options,
            state: if delay.is_zero() { State::Ready } else { State::Scheduled },
            reason: None,
            message: None,
            attempts: 0,
            expiries: 0,
            faults: 0,
            lease: LeaseNo(0),
            enqueued_at,
            waits_for: Vec::new(),
            due_at: (!delay.is_zero()).then(|| enqueued_at.after(delay)),
            leased_at: None,
            lease_expires_at: None,
            finished_at: None,
            output: None,
            progress: None,
            usage: Usage::default(),
            revision: None,
            history: Vec::new(),
            unreadable: None,
        }
    }

    /// Returns the job as its holder gets it.
    #[must_use]
    pub fn into_job(self) -> Job {
        Job {
            id: self.id,
            tenant: self.tenant,
            queue: self.queue,
            kind: self.kind,
            payload: self.payload,
            unique_key: self.unique_key,
            pinned: self.pinned,
            options: self.options,
            attempts: self.attempts,
            expiries: self.expiries,
            faults: self.faults,
            enqueued_at: self.enqueued_at,
        }
    }

    /// Returns the time by which the job has to start for the first time. `None` if it needn't.
    #[must_use]
    pub fn start_by(&self) -> Option<Timestamp> {
        self.options.start_within.map(|within| self.enqueued_at.after(within))
    }

    /// Returns the time by which all its attempts have to be over. `None` if it has no deadline.
    #[must_use]
    pub fn deadline(&self) -> Option<Timestamp> {
        self.options.deadline.map(|deadline| self.enqueued_at.after(deadline))
    }

    /// Returns the record with payload and output left empty.
    #[must_use]
    pub fn without_payloads(self) -> Self {
        Self { payload: Vec::new(), output: None, ..self }
    }
}
