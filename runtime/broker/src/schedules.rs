//! Schedules as stores keep them: a record for each, which means nothing to the store but for when it is due.

use sandhog_core::id::ScheduleName;
use sandhog_core::job::NewJob;
use sandhog_core::quota::QueueBounds;
use sandhog_core::time::Timestamp;

use crate::Enqueued;

/// Maximum number of schedules that one look answers with.
pub const SCHEDULES_PAGE: usize = 100;

/// A change of a schedule's record and the jobs that it enqueues, as one atomic step: all of it happens, or nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScheduleWrite {
    /// The schedule.
    pub name: ScheduleName,
    /// Version that the stored record has to have; `None` if there has to be none.
    pub expected: Option<u64>,
    /// The record to be stored, or `None` to remove the schedule.
    pub record: Option<ScheduleRecord>,
    /// Jobs to be enqueued: no two with the same id, and none with a unique key. A job whose id is stored already stays as it is.
    pub jobs: Vec<NewJob>,
    /// Bounds that the jobs have to keep.
    pub bounds: QueueBounds,
}

/// The record of a schedule, as it is to be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScheduleRecord {
    /// The record: see [`Record::to_bytes`](sandhog_core::schedule::Record::to_bytes).
    pub bytes: Vec<u8>,
    /// Time at which something is to be done for the schedule. `None` if there is nothing.
    pub due_at: Option<Timestamp>,
}

/// Result of a [`ScheduleWrite`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScheduleWritten {
    /// The record and its jobs are written.
    Done,
    /// The stored record has another version, as somebody else was faster. Nothing was changed.
    Stale,
    /// The tenant has the maximum number of schedules. Nothing was changed.
    TooMany,
    /// A job was refused, for this reason. Nothing was changed.
    Refused(Enqueued),
}

/// A query for schedules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ScheduleQuery {
    /// The schedules that are due now, the first ones first; at most [`SCHEDULES_PAGE`].
    Due,
    /// The schedule of this name.
    Named(ScheduleName),
    /// All schedules whose names come after this one, in order of name; at most [`SCHEDULES_PAGE`].
    After(Option<ScheduleName>),
}

/// The answer to a [`ScheduleQuery`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedules {
    /// Time of the look, by the store's clock, from which all decisions are made.
    pub now: Timestamp,
    /// The schedules.
    pub schedules: Vec<StoredSchedule>,
}

/// A schedule that is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredSchedule {
    /// The schedule.
    pub name: ScheduleName,
    /// Version of the record, which rises with each write.
    pub version: u64,
    /// Time at which something is to be done for the schedule. `None` if there is nothing.
    pub due_at: Option<Timestamp>,
    /// The record, or the reason why it can't be opened.
    pub record: Result<Vec<u8>, String>,
}

/// Returns the version of a record that is written now in place of one of version `stored`. It differs from those of a schedule
/// of the same name that was removed before, unless the clock was put back.
pub(crate) fn next_version(stored: Option<u64>, now: Timestamp) -> u64 {
    stored.map_or(0, |stored| stored.saturating_add(1)).max(now.as_millis())
}
