//! Jobs: as a producer asks for one, as a holder leases one, as anybody looks one up.

use std::fmt;
use std::time::Duration;

use crate::id::{JobId, Kind, LeaseNo, LeaseToken, QueueName, Revision, TenantId, UniqueKey};
use crate::outcome::Usage;
use crate::reason::Reason;
use crate::time::Timestamp;

/// The place of a job among the ready ones of its queue: the highest goes first, equals in order of arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Priority(pub u8);

impl Default for Priority {
    fn default() -> Self {
        Self(100)
    }
}

/// A job that a producer asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewJob {
    /// Chosen by the producer's side, so that an enqueue whose reply was lost can be repeated without a second job.
    pub id: JobId,
    /// What is to be done.
    pub kind: Kind,
    /// Where it waits.
    pub queue: QueueName,
    /// The input; nobody but the handler looks inside.
    pub payload: Vec<u8>,
    /// How long it waits at least before it is ready.
    pub delay: Duration,
    /// Its place among the ready ones.
    pub priority: Priority,
    /// While a job with this key is not final, no second one is created.
    pub unique_key: Option<UniqueKey>,
    /// The only code that may run it; any that is in force when it is leased, if there is none.
    pub pinned: Option<Revision>,
}

impl NewJob {
    /// A job with what every job needs: ready at once, of the usual priority, with no unique key, for any revision. The other
    /// fields are for the caller to change.
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
        }
    }
}

/// Where a job stands. The reason is apart: see [`JobRecord::reason`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// Waits for its time.
    Scheduled,
    /// May be leased.
    Ready,
    /// A daemon holds it.
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
    pub const ALL: [Self; 6] =
        [Self::Scheduled, Self::Ready, Self::Leased, Self::Succeeded, Self::Dead, Self::Cancelled];

    /// The name in the API, logs, metrics and docs.
    #[must_use]
    pub fn slug(self) -> &'static str {
        match self {
            Self::Scheduled => "scheduled",
            Self::Ready => "ready",
            Self::Leased => "leased",
            Self::Succeeded => "succeeded",
            Self::Dead => "dead",
            Self::Cancelled => "cancelled",
        }
    }

    /// The state with this slug.
    #[must_use]
    pub fn from_slug(slug: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.slug() == slug)
    }

    /// The number by which stores know it. It never changes, and says nothing of an order.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Scheduled => 0,
            Self::Ready => 1,
            Self::Leased => 2,
            Self::Succeeded => 3,
            Self::Dead => 4,
            Self::Cancelled => 5,
        }
    }

    /// The state with this [`Self::code`].
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.code() == code)
    }

    /// Whether nothing happens to the job any more by itself.
    #[must_use]
    pub fn is_final(self) -> bool {
        match self {
            Self::Scheduled | Self::Ready | Self::Leased => false,
            Self::Succeeded | Self::Dead | Self::Cancelled => true,
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.slug())
    }
}

/// A job in the hands of its holder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// Its id.
    pub id: JobId,
    /// Whose it is.
    pub tenant: TenantId,
    /// Where it came from.
    pub queue: QueueName,
    /// What is to be done.
    pub kind: Kind,
    /// The input.
    pub payload: Vec<u8>,
    /// See [`NewJob::pinned`].
    pub pinned: Option<Revision>,
    /// Attempts that counted so far: this one not among them, released and expired ones neither.
    pub attempts: u32,
    /// Leases that ran out since an attempt last ended: a job with any is suspected of killing its daemons.
    pub expiries: u32,
    /// Times since an attempt last ended that a daemon failed on it; see [`Reason::is_host_fault`].
    pub faults: u32,
    /// When its producer was told that it is safe.
    pub enqueued_at: Timestamp,
}

impl Job {
    /// A new job as its first holder gets it.
    #[must_use]
    pub fn of(asked: NewJob, tenant: TenantId, enqueued_at: Timestamp) -> Self {
        JobRecord::of(asked, tenant, enqueued_at).into_job()
    }
}

/// A job and the right to run it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The proof.
    pub token: LeaseToken,
    /// The job.
    pub job: Job,
}

/// How far a job has come, in the words of its handler.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// How much is done.
    pub done: u64,
    /// Out of how much.
    pub total: Option<u64>,
    /// What is going on.
    pub message: Option<String>,
}

/// How important a log line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// The finest detail.
    Trace,
    /// For whoever debugs the handler.
    Debug,
    /// The ordinary course of things.
    Info,
    /// Something is off, and the handler went on.
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

    /// The level with this slug.
    #[must_use]
    pub fn from_slug(slug: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|level| level.slug() == slug)
    }
}

/// A line of a job's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// When it was written.
    pub at: Timestamp,
    /// Which attempt wrote it; 1 is the first.
    pub attempt: u32,
    /// How important it is.
    pub level: Level,
    /// The text.
    pub message: String,
    /// Names and values beside the text.
    pub fields: Vec<(String, String)>,
}

/// All that is known of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobRecord {
    /// Its id.
    pub id: JobId,
    /// Whose it is.
    pub tenant: TenantId,
    /// Where it waits or waited.
    pub queue: QueueName,
    /// What is to be done.
    pub kind: Kind,
    /// The input.
    pub payload: Vec<u8>,
    /// Its place among the ready ones.
    pub priority: Priority,
    /// See [`NewJob::unique_key`].
    pub unique_key: Option<UniqueKey>,
    /// See [`NewJob::pinned`].
    pub pinned: Option<Revision>,
    /// Where it stands.
    pub state: State,
    /// Why it is there, where that is no matter of course.
    pub reason: Option<Reason>,
    /// The reason in full, for people.
    pub message: Option<String>,
    /// Attempts that counted.
    pub attempts: u32,
    /// Leases that ran out because a daemon vanished, since an attempt last ended.
    pub expiries: u32,
    /// Times since an attempt last ended that a daemon failed on it.
    pub faults: u32,
    /// The number of its latest lease; 0 before the first.
    pub lease: LeaseNo,
    /// When its producer was told that it is safe.
    pub enqueued_at: Timestamp,
    /// When it becomes ready, while it is scheduled.
    pub due_at: Option<Timestamp>,
    /// When it was leased for the last time.
    pub leased_at: Option<Timestamp>,
    /// When the present lease runs out.
    pub lease_expires_at: Option<Timestamp>,
    /// When it became final.
    pub finished_at: Option<Timestamp>,
    /// The result, once it succeeded.
    pub output: Option<Vec<u8>>,
    /// The latest report of its handler.
    pub progress: Option<Progress>,
    /// What all its runs spent together.
    pub usage: Usage,
    /// Which code ran last.
    pub revision: Option<Revision>,
    /// Why some of it can't be shown: it is sealed, and can't be opened, or was written by a newer version. What can't be
    /// shown is left empty.
    pub unreadable: Option<String>,
}

impl JobRecord {
    /// The record of a new job, to which nothing happened yet.
    #[must_use]
    pub fn of(asked: NewJob, tenant: TenantId, enqueued_at: Timestamp) -> Self {
        let NewJob { id, kind, queue, payload, delay, priority, unique_key, pinned } = asked;
        Self {
            id,
            tenant,
            queue,
            kind,
            payload,
            priority,
            unique_key,
            pinned,
            state: if delay.is_zero() { State::Ready } else { State::Scheduled },
            reason: None,
            message: None,
            attempts: 0,
            expiries: 0,
            faults: 0,
            lease: LeaseNo(0),
            enqueued_at,
            due_at: (!delay.is_zero()).then(|| enqueued_at.after(delay)),
            leased_at: None,
            lease_expires_at: None,
            finished_at: None,
            output: None,
            progress: None,
            usage: Usage::default(),
            revision: None,
            unreadable: None,
        }
    }

    /// The job, as its holder gets it.
    #[must_use]
    pub fn into_job(self) -> Job {
        Job {
            id: self.id,
            tenant: self.tenant,
            queue: self.queue,
            kind: self.kind,
            payload: self.payload,
            pinned: self.pinned,
            attempts: self.attempts,
            expiries: self.expiries,
            faults: self.faults,
            enqueued_at: self.enqueued_at,
        }
    }

    /// The same, with payload and output left empty.
    #[must_use]
    pub fn without_payloads(self) -> Self {
        Self { payload: Vec::new(), output: None, ..self }
    }
}
