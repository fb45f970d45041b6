//! The stored parts of a job that decide what may become of it.

use rusqlite::{Params, Row};
use sandhog_core::flow::FlowMember;
use sandhog_core::history::AttemptRecord;
use sandhog_core::id::LeaseNo;
use sandhog_core::job::{Priority, State};
use sandhog_core::outcome::Usage;
use sandhog_core::time::Timestamp;
use sandhog_core::transition::{JobCounts, Standing};

use super::events::Subject;
use super::fault::Result;
use super::row;
use super::step::{Step, Waits};

/// A stored job, as far as an operation on it needs it.
pub(super) struct Stored {
    pub(super) nr: i64,
    pub(super) id: String,
    pub(super) queue: String,
    pub(super) kind: String,
    pub(super) unique_key: Option<String>,
    pub(super) priority: Priority,
    /// The key of the job's group.
    pub(super) group: Option<String>,
    /// Whether the job has a turn of its group.
    pub(super) has_turn: bool,
    /// Whether the job counts against a fleet limit.
    pub(super) is_limited: bool,
    pub(super) standing: Standing,
    /// Whether the job still has to start within a time.
    pub(super) may_expire: bool,
    /// Total usage of the job's runs.
    pub(super) usage: Usage,
    /// Time at which the job was last leased.
    pub(super) leased_at: Option<Timestamp>,
    /// Time at which the job ended, if it has.
    pub(super) finished_at: Option<Timestamp>,
    /// The history of its attempts, as it is stored.
    pub(super) history: Option<String>,
    /// Membership of the job in a flow.
    pub(super) member: Option<FlowMember>,
}

/// A statement that selects the columns of a [`Stored`]; `$rest` says of which jobs.
macro_rules! select_stored {
    ($rest:literal) => {
        concat!(
            "SELECT nr, id, queue, kind, unique_key, limited_by IS NOT NULL OR probe_of IS NOT NULL,
                 state, lease, attempts, expiries, faults, cancel_requested,
                 fuel, memory_peak, wall_us, cpu_us, host_calls, leased_at, history, start_by IS NOT NULL,
                 priority, group_key, has_turn, options, finished_at FROM job ",
            $rest
        )
    };
}
pub(super) use select_stored;

impl Stored {
    fn read(row: &Row<'_>) -> rusqlite::Result<Result<Self>> {
        // A count that no version writes is no reason to fail.
        let count =
            |nth| -> rusqlite::Result<u32> { Ok(u32::try_from(row.get::<_, i64>(nth)?).unwrap_or(u32::MAX)) };
        let stored = Self {
            nr: row.get(0)?,
            id: row.get(1)?,
            queue: row.get(2)?,
            kind: row.get(3)?,
            unique_key: row.get(4)?,
            priority: Priority(row.get(20)?),
            group: row.get(21)?,
            has_turn: row.get(22)?,
            is_limited: row.get(5)?,
            standing: Standing {
                state: State::Scheduled,
                lease: LeaseNo(row.get::<_, i64>(7)?.cast_unsigned()),
                counts: JobCounts { attempts: count(8)?, expiries: count(9)?, faults: count(10)? },
                cancel_requested: row.get(11)?,
            },
            usage: row::usage(row, 12)?,
            leased_at: row.get::<_, Option<i64>>(17)?.map(row::timestamp),
            finished_at: row.get::<_, Option<i64>>(24)?.map(row::timestamp),
            history: row.get(18)?,
            may_expire: row.get(19)?,
            member: None,
        };
        let state = row::state(row.get(6)?);
        let options: Option<Vec<u8>> = row.get(23)?;
        let member: Result<Option<FlowMember>> =
            options.map_or(Ok(None), |options| Ok(row::options(&options)?.flow));
        Ok(state.and_then(|state| {
            Ok(Self { standing: Standing { state, ..stored.standing }, member: member?, ..stored })
        }))
    }

    /// Returns the record of its attempt under way, if that ended now with a success of which nothing more is known.
    pub(super) fn attempt_that_ends(&self, now: Timestamp) -> AttemptRecord {
        AttemptRecord::of(&self.standing, self.leased_at.unwrap_or(now), now)
    }

    /// Returns the job as events tell of it.
    pub(super) fn subject(&self) -> Subject<'_> {
        Subject { id: &self.id, queue: &self.queue, kind: &self.kind, group: self.group.as_deref() }
    }

    /// Returns where the job waits once it is ready, with these counts.
    pub(super) fn waits(&self, counts: JobCounts) -> Waits<'_> {
        Waits {
            queue: &self.queue,
            kind: &self.kind,
            is_suspect: counts.is_suspect(),
            priority: self.priority,
            group: self.group.as_deref(),
        }
    }
}

impl Step<'_> {
    /// Returns the job that a statement of [`select_stored`] finds.
    pub(super) fn stored_job(&self, sql: &str, params: impl Params) -> Result<Option<Stored>> {
        self.find(sql, params, Stored::read)?.transpose()
    }

    /// Returns the jobs that a statement of [`select_stored`] finds.
    pub(super) fn stored_jobs(&self, sql: &str, params: impl Params) -> Result<Vec<Stored>> {
        self.all(sql, params, Stored::read)?.into_iter().collect()
    }
}
