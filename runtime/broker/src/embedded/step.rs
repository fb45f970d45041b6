//! A step: one operation for one tenant, within a transaction, and what all steps share.

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap, HashSet};

use rusqlite::{Connection, OptionalExtension, Params, Row, params};
use sandhog_core::account::Account;
use sandhog_core::event::{EventKind, attempt_of};
use sandhog_core::flow::ParentEnd;
use sandhog_core::group::{GroupRule, OnDead, Turn};
use sandhog_core::id::{JobId, PluginName, TenantId};
use sandhog_core::job::{Priority, State};
use sandhog_core::quota::Waiting;
use sandhog_core::reason::Reason;
use sandhog_core::time::Timestamp;
use sandhog_core::transition::{Change, JobCounts, Next};
use std::time::Duration;

use super::events::EventLog;
use super::fault::Result;
use super::groups::Member;
use super::row::{code, stamp};
use super::stored::Stored;
use crate::Wake;

/// One step. It has to be finished by [`Step::finish`], or some of it isn't written.
pub(super) struct Step<'a> {
    pub(super) connection: &'a Connection,
    pub(super) tenant: &'a TenantId,
    pub(super) now: Timestamp,
    /// The number of the latest arrival, once one has come in this step.
    arrivals: Option<i64>,
    /// The lines in which this step has put jobs, and those of them that were empty before.
    entered: HashSet<Line>,
    filled: Vec<Line>,
    /// Whether to wake daemons apart from lines that were empty before.
    pub(super) has_news: bool,
    /// Whether a job that counted against a fleet limit no longer does.
    pub(super) has_left: bool,
    /// Number of times a lane has come or gone; `None` until the step has read it.
    pub(super) lane_changes: Cell<Option<u64>>,
    /// Rules for groups, by queue, as far as the step has read them.
    pub(super) group_rules: HashMap<String, Option<GroupRule>>,
    /// Whether queues are fair, as far as the step has looked.
    pub(super) fair_queues: HashMap<String, bool>,
    /// Usage of the runs that the step settles, by plugin.
    pub(super) spent: BTreeMap<PluginName, Account>,
    /// The leased jobs that the step wants cancelled.
    pub(super) to_cancel: Vec<JobId>,
    /// Whether a schedule is due earlier than any was.
    pub(super) is_due_earlier: bool,
    /// State of the tenant's events, if they are recorded; `None` until the step has read it.
    pub(super) event_log: Option<Option<EventLog>>,
}

/// A line: the ready jobs that wait in one order.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Line {
    pub(super) queue: String,
    /// The kind, if it has a lane of its own in the queue; else empty.
    pub(super) lane: String,
    /// Whether it is the line of suspects: jobs that have lost a lease since an attempt of them last ended.
    pub(super) suspects: bool,
}

/// The properties that decide in which line a job waits once it is ready.
#[derive(Debug, Clone, Copy)]
pub(super) struct Waits<'a> {
    pub(super) queue: &'a str,
    pub(super) kind: &'a str,
    pub(super) is_suspect: bool,
    pub(super) priority: Priority,
    /// The key of its group.
    pub(super) group: Option<&'a str>,
}

/// The state that a job is put in, with its times or its place in the line.
#[derive(Debug, Clone, Copy)]
pub(super) enum Place {
    Scheduled {
        due_at: i64,
    },
    Ready {
        arrival: i64,
        in_lane: bool,
        /// Whether the arrival is a place in a fair queue, which others may have as well.
        is_fair: bool,
    },
    /// The place among blocked jobs, with the rank in its group's line if it waits there.
    Blocked {
        rank: Option<u8>,
        number: i64,
    },
    Final {
        state: State,
        finished_at: i64,
        remove_at: i64,
    },
}

impl<'a> Step<'a> {
    pub(super) fn new(connection: &'a Connection, tenant: &'a TenantId, now: Timestamp) -> Self {
        let (entered, filled) = (HashSet::new(), Vec::new());
        Self {
            connection,
            tenant,
            now,
            arrivals: None,
            entered,
            filled,
            has_news: false,
            has_left: false,
            lane_changes: Cell::new(None),
            group_rules: HashMap::new(),
            fair_queues: HashMap::new(),
            spent: BTreeMap::new(),
            to_cancel: Vec::new(),
            is_due_earlier: false,
            event_log: None,
        }
    }

    /// Writes what was put off, and returns the wakes to send.
    pub(super) fn finish(self) -> Result<Vec<Wake>> {
        if let Some(arrivals) = self.arrivals {
            self.execute("UPDATE arrivals SET n = ?1", [arrivals])?;
        }
        self.add_accounts()?;
        let has_events = self.finish_events()?;
        let mut is_ready = self.has_news || (self.has_left && self.has_ready_in_lanes()?);
        for line in &self.filled {
            is_ready = is_ready || self.has_ready(line)?;
        }
        let cancels = self.to_cancel.iter().map(|job| Wake::Cancel(self.tenant.clone(), *job));
        // The daemons that share a file are few: all are woken.
        let ready = is_ready.then(|| Wake::Ready { tenant: self.tenant.clone(), named: None });
        let due = self.is_due_earlier.then(|| Wake::Due(self.tenant.clone()));
        let events = has_events.then(|| Wake::Events(self.tenant.clone()));
        Ok(ready.into_iter().chain(cancels).chain(due).chain(events).collect())
    }

    pub(super) fn tenant(&self) -> &'a str {
        self.tenant.as_str()
    }

    pub(super) fn now(&self) -> i64 {
        stamp(self.now)
    }

    pub(super) fn execute(&self, sql: &str, params: impl Params) -> Result<usize> {
        Ok(self.connection.prepare_cached(sql)?.execute(params)?)
    }

    /// Returns the one row of a query, or `None` if there is none.
    pub(super) fn find<T>(
        &self,
        sql: &str,
        params: impl Params,
        read: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Option<T>> {
        Ok(self.connection.prepare_cached(sql)?.query_row(params, read).optional()?)
    }

    /// Returns all rows of a query, read before anything is changed that could move them.
    pub(super) fn all<T>(
        &self,
        sql: &str,
        params: impl Params,
        read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>> {
        let mut statement = self.connection.prepare_cached(sql)?;
        let rows = statement.query_map(params, read)?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// Returns the place of a job that goes to `next`.
    pub(super) fn place(&mut self, job: Waits<'_>, next: Next) -> Result<Place> {
        match next {
            Next::Blocked => Ok(Place::Blocked { rank: None, number: self.next_arrival()? }),
            Next::Waits(Duration::ZERO) => self.ready(job),
            Next::Waits(delay) => {
                let due_at = stamp(self.now.after(delay));
                self.has_news = self.has_news || self.first_due()?.is_none_or(|first| due_at < first);
                Ok(Place::Scheduled { due_at })
            }
            Next::Ends(state, keep) => {
                let remove_at = stamp(self.now.after(keep));
                Ok(Place::Final { state, finished_at: self.now(), remove_at })
            }
        }
    }

    /// Returns the place at the end of the job's line, or that of its group's next job if its queue is fair.
    fn ready(&mut self, job: Waits<'_>) -> Result<Place> {
        let in_lane = self.enter(job)?;
        let is_fair = self.is_fair(job.queue)?;
        let arrival = if is_fair { self.next_fair_place(job)? } else { self.next_arrival()? };
        Ok(Place::Ready { arrival, in_lane, is_fair })
    }

    /// Returns the number of a job that becomes ready or blocked, which is greater than all before.
    pub(super) fn next_arrival(&mut self) -> Result<i64> {
        let arrival = self.latest_arrival()? + 1;
        self.arrivals = Some(arrival);
        Ok(arrival)
    }

    /// Has the numbers of jobs go on behind this one.
    pub(super) fn raise_arrivals(&mut self, to: i64) -> Result<()> {
        self.arrivals = Some(self.latest_arrival()?.max(to));
        Ok(())
    }

    fn latest_arrival(&self) -> Result<i64> {
        match self.arrivals {
            Some(latest) => Ok(latest),
            None => Ok(self
                .connection
                .prepare_cached("SELECT n FROM arrivals")?
                .query_one([], |row| row.get(0))?),
        }
    }

    /// Notes whether the job's line is empty before this step puts a job there. Returns whether it is the lane of the job's
    /// kind.
    pub(super) fn enter(&mut self, job: Waits<'_>) -> Result<bool> {
        let Waits { queue, kind, is_suspect, .. } = job;
        let in_lane = self.is_lane(queue, kind)?;
        let lane = if in_lane { kind } else { "" };
        let line = Line { queue: queue.to_owned(), lane: lane.to_owned(), suspects: is_suspect };
        if !self.entered.contains(&line) {
            if !self.has_ready(&line)? {
                self.filled.push(line.clone());
            }
            self.entered.insert(line);
        }
        Ok(in_lane)
    }

    /// Changes a job as a transition says, and gives the turn that it may give up to the next in its group's line.
    pub(super) fn change(&mut self, job: &Stored, change: &Change<'_>) -> Result<()> {
        let rule = match &job.group {
            Some(_) => self.group_rule(&job.queue)?,
            None => None,
        };
        let turn = Turn::after(change.next, rule);
        let gives_up = job.has_turn && turn == Turn::GivenUp;
        if job.has_turn && turn == Turn::Held && rule == Some(GroupRule::Strict(OnDead::CancelRest)) {
            self.note_rest(&job.id)?;
        }
        let has_turn = job.has_turn && !gives_up;
        if change.makes_lane {
            self.note_lane(&job.queue, &job.kind)?;
        }
        let JobCounts { attempts, expiries, faults } = change.counts;
        let member = job.group.is_some().then_some(Member { has_turn, priority: job.priority });
        let place = self.place_in_group(job.waits(change.counts), member, change.next)?;
        let (state, due_at, arrival, finished_at, remove_at) = place.columns();
        let (line_rank, blocked_nr) = place.in_line();
        let why = change.why.as_ref();
        self.execute(
            "UPDATE job SET state = ?2, due_at = ?3, arrival = ?4, finished_at = ?5, remove_at = ?6, lane = iif(?7, kind, ''),
                 lease = ?8, attempts = ?9, expiries = ?10, faults = ?11,
                 reason = iif(?12, ?13, reason), message = iif(?12, ?14, message), output = ?15,
                 lease_expires_at = NULL, cancel_requested = 0, parked_at = NULL, start_by = iif(?5 IS NULL, start_by, NULL),
                 has_turn = ?16, line_rank = ?17, blocked_nr = ?18, kept_of = NULL, tie = iif(?19, id, '')
             WHERE nr = ?1",
            params![
                job.nr,
                state,
                due_at,
                arrival,
                finished_at,
                remove_at,
                place.in_lane(),
                change.lease.0.cast_signed(),
                attempts,
                expiries,
                faults,
                why.is_some(),
                why.and_then(|why| why.reason).map(Reason::slug),
                why.and_then(|why| why.message.as_deref()),
                change.output,
                has_turn,
                line_rank,
                blocked_nr,
                place.is_fair(),
            ],
        )?;
        self.has_left |= job.is_limited;
        let in_line = blocked_nr.is_some() && change.state() != State::Blocked;
        if let Some(event) = EventKind::of(&job.standing, change, in_line) {
            let reason = why.and_then(|why| why.reason);
            self.tell(event, job.subject(), attempt_of(&job.standing), reason)?;
        }
        if let Some(key) = &job.group
            && (gives_up || in_line)
        {
            let came = Some(&job.id).filter(|_| job.standing.state != State::Blocked);
            self.let_in_one(&job.queue, key, came.map(String::as_str))?;
        }
        if job.standing.state == State::Blocked {
            self.close_edges(job.nr)?;
        }
        if let Next::Ends(state, _) = change.next
            && job.member.is_some_and(|member| member.has_dependants)
        {
            self.note_settled(&job.id, ParentEnd { state, is_removed: false })?;
        }
        Ok(())
    }

    /// Returns the number and size of jobs that wait, scheduled, blocked or ready.
    pub(super) fn waiting(&self) -> Result<Waiting> {
        let found =
            self.find("SELECT jobs, bytes FROM waiting WHERE tenant = ?1", [self.tenant()], |row| {
                let (jobs, bytes): (i64, i64) = (row.get(0)?, row.get(1)?);
                Ok(Waiting { jobs: jobs.cast_unsigned(), bytes: bytes.cast_unsigned() })
            })?;
        Ok(found.unwrap_or_default())
    }

    fn has_ready(&self, line: &Line) -> Result<bool> {
        let found = self.find(
            "SELECT 1 FROM job
             WHERE tenant = ?1 AND queue = ?2 AND lane = ?3 AND (expiries > 0) = ?4 AND state = 1 AND parked_at IS NULL
             LIMIT 1",
            params![self.tenant(), line.queue, line.lane, line.suspects],
            |_| Ok(()),
        )?;
        Ok(found.is_some())
    }

    /// Says that a job has started, and so doesn't expire any more.
    pub(super) fn start(&self, job: &Stored) -> Result<()> {
        if job.may_expire {
            self.execute("UPDATE job SET start_by = NULL WHERE nr = ?1", [job.nr])?;
        }
        Ok(())
    }

    /// Returns the first time by which a job has to start.
    pub(super) fn first_start_by(&self) -> Result<Option<i64>> {
        self.find(
            "SELECT start_by FROM job WHERE tenant = ?1 AND start_by IS NOT NULL AND state IN (0, 1, 2, 6)
             ORDER BY start_by LIMIT 1",
            [self.tenant()],
            |row| row.get(0),
        )
    }

    /// Returns the time at which the first scheduled job is due.
    pub(super) fn first_due(&self) -> Result<Option<i64>> {
        self.find(
            "SELECT due_at FROM job WHERE tenant = ?1 AND state = 0 ORDER BY due_at LIMIT 1",
            [self.tenant()],
            |row| row.get(0),
        )
    }
}

impl Place {
    /// Whether the place is in the lane of the job's kind.
    pub(super) fn in_lane(self) -> bool {
        matches!(self, Self::Ready { in_lane: true, .. })
    }

    /// Whether others may have the same arrival.
    pub(super) fn is_fair(self) -> bool {
        matches!(self, Self::Ready { is_fair: true, .. })
    }

    /// Returns the columns line_rank and blocked_nr.
    pub(super) fn in_line(self) -> (Option<u8>, Option<i64>) {
        match self {
            Self::Blocked { rank, number } => (rank, Some(number)),
            Self::Scheduled { .. } | Self::Ready { .. } | Self::Final { .. } => (None, None),
        }
    }

    /// Returns the columns state, due_at, arrival, finished_at and remove_at.
    pub(super) fn columns(self) -> (i64, Option<i64>, Option<i64>, Option<i64>, Option<i64>) {
        match self {
            Self::Scheduled { due_at } => (code(State::Scheduled), Some(due_at), None, None, None),
            Self::Ready { arrival, .. } => (code(State::Ready), None, Some(arrival), None, None),
            Self::Blocked { .. } => (code(State::Blocked), None, None, None, None),
            Self::Final { state, finished_at, remove_at } => {
                (code(state), None, None, Some(finished_at), Some(remove_at))
            }
        }
    }
}
