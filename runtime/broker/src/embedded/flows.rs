//! Flows: storing one, settling the edges of jobs that have ended, and looking at one.

use std::collections::VecDeque;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, Row, params};
use sandhog_core::flow::{
    EdgeVerdict, Flow, FlowJobView, FlowMember, FlowNode, OnFailure, Parent, ParentEnd,
};
use sandhog_core::id::{FlowJobName, JobId, TenantId};
use sandhog_core::job::State;
use sandhog_core::quota::{QueueBounds, Waiting};
use sandhog_core::transition::{Change, Next};

use super::fault::{Fault, Result};
use super::queries::flow_records;
use super::row::{self, parse};
use super::step::Step;
use super::stored::{Stored, select_stored};
use crate::{Enqueued, FlowStored, FlowView, ParentView, SWEEP_MAX, Unread, options};

/// A job that is to be removed, as far as that matters to others.
pub(super) struct Removable {
    pub(super) nr: i64,
    id: String,
    state: i64,
    options: Option<Vec<u8>>,
}

/// A statement that selects the columns of a [`Removable`]; `$rest` says of which jobs.
macro_rules! select_removable {
    ($rest:literal) => {
        concat!("SELECT nr, id, state, options FROM job ", $rest)
    };
}
pub(super) use select_removable;

impl Removable {
    pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self { nr: row.get(0)?, id: row.get(1)?, state: row.get(2)?, options: row.get(3)? })
    }
}

impl Step<'_> {
    /// Stores a flow, or nothing of it.
    pub(super) fn store_flow(&mut self, flow: &Flow, bounds: &QueueBounds) -> Result<FlowStored> {
        let known = "SELECT 1 FROM flow_job WHERE tenant = ?1 AND flow = ?2 LIMIT 1";
        if self.find(known, [self.tenant(), &flow.id().to_string()], |_| Ok(()))?.is_some() {
            return Ok(FlowStored::Stored);
        }
        for job in flow.jobs() {
            if self.is_taken(job.id)? {
                return Ok(FlowStored::Taken(job.id));
            }
        }
        let mut beside = Waiting::default();
        for job in flow.jobs() {
            match self.refusal(job, bounds, beside)? {
                Some(Enqueued::Duplicate(holder)) => {
                    return Ok(FlowStored::Duplicate { job: job.id, holder });
                }
                Some(Enqueued::TooLarge) => return Ok(FlowStored::TooLarge(job.id)),
                Some(Enqueued::Full(excess)) => return Ok(FlowStored::Full(excess)),
                // A flow replaces nothing.
                Some(Enqueued::Stored | Enqueued::Replaced(_)) | None => {}
            }
            let more = Waiting::of(std::slice::from_ref(job));
            beside = Waiting { jobs: beside.jobs + more.jobs, bytes: beside.bytes + more.bytes };
        }
        for (position, node) in flow.nodes().iter().enumerate() {
            self.store_node(flow.id(), position, node)?;
        }
        Ok(FlowStored::Stored)
    }

    /// Whether there is a job with this id, or edges of a former one are still to be settled.
    fn is_taken(&self, id: JobId) -> Result<bool> {
        let id = id.to_string();
        let job = "SELECT 1 FROM job WHERE tenant = ?1 AND id = ?2";
        if self.find(job, [self.tenant(), &id], |_| Ok(()))?.is_some() {
            return Ok(true);
        }
        let pending = "SELECT 1 FROM settled WHERE tenant = ?1 AND job = ?2 AND end >= ?3 LIMIT 1";
        Ok(self.find(pending, params![self.tenant(), id, ParentEnd::REMOVED], |_| Ok(()))?.is_some())
    }

    fn store_node(&mut self, flow: JobId, position: usize, node: &FlowNode) -> Result<()> {
        let FlowNode { name, job, parents, dependants: _ } = node;
        let next = if parents.is_empty() { Next::Waits(job.delay) } else { Next::Blocked };
        let nr = self.insert(job, next)?;
        self.execute(
            "INSERT INTO flow_job VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            params![nr, self.tenant(), flow.to_string(), job.id.to_string(), position as i64, name.as_str()],
        )?;
        for (ordinal, Parent { id, name, on_failure }) in parents.iter().enumerate() {
            self.execute(
                "INSERT INTO edge VALUES (?1, ?2, ?3, ?4, ?5, ?6, 1)",
                params![nr, ordinal as i64, self.tenant(), id.to_string(), name.as_str(), on_failure.code()],
            )?;
        }
        Ok(())
    }

    /// Notes that a job has ended that others come after.
    pub(super) fn note_settled(&mut self, job: &str, end: ParentEnd) -> Result<()> {
        self.execute(
            "INSERT INTO settled VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO UPDATE SET at = excluded.at",
            params![self.tenant(), job, end.code(), self.now()],
        )?;
        self.has_news = true;
        Ok(())
    }

    /// Whether a job waits for others of its flow.
    pub(super) fn waits_for_parents(&self, nr: i64) -> Result<bool> {
        let open = "SELECT 1 FROM edge WHERE nr = ?1 AND is_open = 1 LIMIT 1";
        Ok(self.find(open, [nr], |_| Ok(()))?.is_some())
    }

    /// Closes all edges of a job that isn't blocked any more.
    pub(super) fn close_edges(&self, nr: i64) -> Result<()> {
        self.execute("UPDATE edge SET is_open = 0 WHERE nr = ?1", [nr])?;
        Ok(())
    }

    /// Puts a dead letter back: to where it waits for those of its parents that have not succeeded, if there are any.
    pub(super) fn revive(&mut self, job: &Stored, change: Change<'static>) -> Result<()> {
        if !job.member.is_some_and(|member| member.has_parents) {
            return self.change(job, &change);
        }
        let parents: Vec<(i64, u8, i64)> = self.all(
            "SELECT edge.ordinal, edge.on_failure, parent.state FROM edge
             JOIN flow_job AS own ON own.nr = edge.nr
             JOIN flow_job AS other ON other.tenant = own.tenant AND other.flow = own.flow AND other.job = edge.parent
             JOIN job AS parent ON parent.nr = other.nr
             WHERE edge.nr = ?1 ORDER BY edge.ordinal",
            [job.nr],
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
        )?;
        let mut open = Vec::new();
        for (ordinal, rule, state) in parents {
            if on_failure(rule)?.waits_again(row::state(state)?) {
                open.push(ordinal);
            }
        }
        if open.is_empty() {
            return self.change(job, &change);
        }
        self.change(job, &change.blocked())?;
        for ordinal in open {
            self.execute(
                "UPDATE edge SET is_open = 1 WHERE nr = ?1 AND ordinal = ?2",
                params![job.nr, ordinal],
            )?;
        }
        Ok(())
    }

    /// Removes a job. Triggers remove what else belongs to it. Those that still wait for it are told that it won't come.
    pub(super) fn remove(&mut self, job: &Removable) -> Result<()> {
        if let Some(options) = &job.options {
            // What can't be read has no dependants that this version could tell.
            let member = options::read(options).ok().and_then(|options| options.flow);
            if member.is_some_and(|member| member.has_dependants) {
                let state = row::state(job.state).ok().filter(|state| state.is_final());
                let end = ParentEnd { state: state.unwrap_or(State::Cancelled), is_removed: true };
                self.note_settled(&job.id, end)?;
            }
        }
        self.execute("DELETE FROM job WHERE nr = ?1", [job.nr])?;
        Ok(())
    }

    /// Whether edges are to be settled, or jobs of groups to be cancelled.
    pub(super) fn has_settled(&self) -> Result<bool> {
        let any =
            "SELECT 1 FROM settled WHERE tenant = ?1 UNION ALL SELECT 1 FROM rest WHERE tenant = ?1 LIMIT 1";
        Ok(self.find(any, [self.tenant()], |_| Ok(()))?.is_some())
    }

    /// Settles the edges of jobs that have ended, in the order of their ends, and those of jobs that end by that. Stops after
    /// [`SWEEP_MAX`] edges.
    pub(super) fn settle_edges(&mut self) -> Result<()> {
        let ended: Vec<(String, u8)> = self.all(
            "SELECT job, end FROM settled WHERE tenant = ?1 ORDER BY at, job, end LIMIT ?2",
            params![self.tenant(), SWEEP_MAX as i64],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )?;
        let mut queue = VecDeque::from(ended);
        let mut edges = 0;
        while edges < SWEEP_MAX
            && let Some((parent, end)) = queue.pop_front()
        {
            self.execute(
                "DELETE FROM settled WHERE tenant = ?1 AND job = ?2 AND end = ?3",
                params![self.tenant(), parent, end],
            )?;
            edges += self.settle_edges_of(&parent, end, &mut queue)?;
        }
        Ok(())
    }

    /// Settles the edges of one job, and returns how many are open. A job that is put back has not ended.
    fn settle_edges_of(
        &mut self,
        parent: &str,
        end: u8,
        queue: &mut VecDeque<(String, u8)>,
    ) -> Result<usize> {
        let end = ParentEnd::from_code(end)
            .ok_or_else(|| Fault::unreadable("settled.end", format!("there is no end {end}")))?;
        let now: Option<i64> = self.find(
            "SELECT state FROM job WHERE tenant = ?1 AND id = ?2",
            [self.tenant(), parent],
            |row| row.get(0),
        )?;
        let end = match now.map(row::state).transpose()? {
            _ if end.is_removed => end,
            Some(state) if state.is_final() => ParentEnd { state, is_removed: false },
            _ => return Ok(0),
        };
        let edges: Vec<(i64, i64, String, u8)> = self.all(
            "SELECT edge.nr, ordinal, edge.name, on_failure FROM edge JOIN flow_job USING (nr)
             WHERE edge.tenant = ?1 AND parent = ?2 AND is_open = 1 ORDER BY position, job",
            [self.tenant(), parent],
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)),
        )?;
        for (nr, ordinal, name, rule) in &edges {
            let Some(dependant) = self.stored_job(select_stored!("WHERE nr = ?1"), [nr])? else { continue };
            match on_failure(*rule)?.settle(end) {
                EdgeVerdict::Hold => {}
                EdgeVerdict::Close => self.close(&dependant, *ordinal)?,
                EdgeVerdict::End(state) => {
                    let message = end.message(&parse("edge.name", name)?, parse("edge.parent", parent)?);
                    self.change(&dependant, &dependant.standing.failed_by_parent(state, message))?;
                    if dependant.member.is_some_and(|member| member.has_dependants) {
                        queue.push_back((dependant.id, ParentEnd { state, is_removed: false }.code()));
                    }
                }
            }
        }
        Ok(edges.len())
    }

    /// Closes one edge of a blocked job. With the last one, the job waits for nothing but its delay.
    fn close(&mut self, dependant: &Stored, ordinal: i64) -> Result<()> {
        self.execute(
            "UPDATE edge SET is_open = 0 WHERE nr = ?1 AND ordinal = ?2",
            params![dependant.nr, ordinal],
        )?;
        if !self.waits_for_parents(dependant.nr)? {
            let delay = dependant.member.map_or(Duration::ZERO, |member: FlowMember| member.delay);
            self.change(dependant, &dependant.standing.unblocked(delay))?;
        }
        Ok(())
    }
}

fn on_failure(code: u8) -> Result<OnFailure> {
    OnFailure::from_code(code)
        .ok_or_else(|| Fault::unreadable("edge.on_failure", format!("there is no rule {code}")))
}

/// Returns the edges of a job, in the order in which its flow names them.
fn parents_of(connection: &Connection, nr: i64) -> Result<Vec<Parent>> {
    let mut statement = connection
        .prepare_cached("SELECT parent, name, on_failure FROM edge WHERE nr = ?1 ORDER BY ordinal")?;
    let rows = statement.query_and_then([nr], |row| {
        let (id, name): (String, String) = (row.get(0)?, row.get(1)?);
        let on_failure = on_failure(row.get(2)?)?;
        Ok(Parent { id: parse("edge.parent", &id)?, name: parse("edge.name", &name)?, on_failure })
    })?;
    rows.collect()
}

/// Looks up the jobs of a flow.
pub(super) fn flow(connection: &Connection, tenant: &TenantId, flow: JobId) -> Result<Option<FlowView>> {
    let mut statement = connection.prepare_cached(
        "SELECT nr, job, name FROM flow_job WHERE tenant = ?1 AND flow = ?2 ORDER BY position",
    )?;
    let rows = statement
        .query_map([tenant.as_str(), &flow.to_string()], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    let members: Vec<(i64, String, String)> = rows.collect::<rusqlite::Result<_>>()?;
    if members.is_empty() {
        return Ok(None);
    }
    let mut view = FlowView { jobs: Vec::new(), unread: Vec::new() };
    let mut records = flow_records(connection)?;
    for (nr, id, name) in members {
        match records.of(nr) {
            Ok(job) => {
                let name: FlowJobName = parse("flow_job.name", &name)?;
                view.jobs.push(FlowJobView { name, parents: parents_of(connection, nr)?, job });
            }
            Err(Fault::Unreadable { at, problem }) => {
                view.unread
                    .push(Unread { id: parse("flow_job.job", &id)?, problem: format!("{at}: {problem}") });
            }
            Err(fault) => return Err(fault),
        }
    }
    Ok(Some(view))
}

/// Looks up what the parents of a job have come to, with outputs as long as all of them together have no more bytes.
pub(super) fn parents(
    connection: &Connection,
    tenant: &TenantId,
    job: JobId,
    mut bytes: usize,
) -> Result<Vec<ParentView>> {
    let mut statement = connection.prepare_cached("SELECT nr FROM job WHERE tenant = ?1 AND id = ?2")?;
    let nr: Option<i64> =
        statement.query_row([tenant.as_str(), &job.to_string()], |row| row.get(0)).optional()?;
    let Some(nr) = nr else { return Ok(Vec::new()) };
    let mut statement =
        connection.prepare_cached("SELECT state, output FROM job WHERE tenant = ?1 AND id = ?2")?;
    let mut views = Vec::new();
    for Parent { id, name, on_failure: _ } in parents_of(connection, nr)? {
        let found: Option<(i64, Option<Vec<u8>>)> = statement
            .query_row([tenant.as_str(), &id.to_string()], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        let (state, output) = found.unzip();
        let output = output.flatten().filter(|output| output.len() <= bytes);
        bytes -= output.as_ref().map_or(0, Vec::len);
        views.push(ParentView { name, id, state: state.map(row::state).transpose()?, output });
    }
    Ok(views)
}
