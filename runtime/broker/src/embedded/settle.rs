//! Renewing of leases, and settling of runs.

use std::time::Duration;

use rusqlite::params;
use sandhog_core::attempt::SettleReply;
use sandhog_core::history::{self, AttemptRecord};
use sandhog_core::id::LeaseToken;
use sandhog_core::job::LogLine;
use sandhog_core::outcome::Usage;
use sandhog_core::quota::Waiting;

use super::fault::{Fault, Result};
use super::row::{fields_json, history, history_json, micros, progress_json, stamp};
use super::step::Step;
use super::stored::{Stored, select_stored};
use crate::{LOG_LINES_KEPT, Ran, Renew, Renewal, Settle};

/// The decision about a settlement.
enum Verdict {
    /// The settlement is to be recorded.
    Record(Box<Stored>),
    /// The settlement changes nothing, and is answered by this.
    Answer(SettleReply),
}

impl Step<'_> {
    pub(super) fn renew(&self, renew: &Renew, ttl: Duration) -> Result<Renewal> {
        let held = match self.held(renew.token) {
            Err(Fault::Unreadable { .. }) => return Ok(Renewal::Unreadable),
            held => held?.filter(|held| held.standing.refusal(renew.token.lease).is_none()),
        };
        let Some(held) = held else { return Ok(Renewal::Lost) };
        let progress = renew.progress.as_ref().map(progress_json).transpose()?;
        self.execute(
            "UPDATE job SET lease_expires_at = ?2, progress = coalesce(?3, progress) WHERE nr = ?1",
            params![held.nr, stamp(self.now.after(ttl)), progress],
        )?;
        self.append(held.nr, &renew.log)?;
        Ok(if held.standing.cancel_requested { Renewal::CancelRequested } else { Renewal::Held })
    }

    pub(super) fn settle(&mut self, settle: &Settle) -> Result<SettleReply> {
        let held = match self.verdict(settle) {
            Ok(Verdict::Record(held)) => *held,
            Ok(Verdict::Answer(reply)) => return Ok(reply),
            Err(Fault::Unreadable { at, problem }) => {
                let (tenant, job) = (self.tenant(), settle.token.job);
                tracing::warn!(tenant, %job, at, problem, "a job can't be read, and is left as it is");
                return Ok(SettleReply::Unreadable);
            }
            Err(fault) => return Err(fault),
        };
        self.record_end(&held, settle)?;
        if let Some((ran, effects)) = settle.effects() {
            for (key, write) in effects.writes() {
                self.write(&ran.plugin, key, write)?;
            }
            for job in effects.jobs() {
                self.enqueue_of_run(job)?;
            }
        }
        Ok(SettleReply::Applied)
    }

    /// Decides what becomes of a settlement, with nothing written that anybody could see.
    fn verdict(&self, settle: &Settle) -> Result<Verdict> {
        let Some(held) = self.held(settle.token)? else { return Ok(Verdict::Answer(SettleReply::Lost)) };
        if let Some(refusal) = held.standing.refusal(settle.token.lease) {
            return Ok(Verdict::Answer(refusal));
        }
        let Some((ran, effects)) = settle.effects() else { return Ok(Verdict::Record(Box::new(held))) };
        if let Some(key) = self.conflict(&ran.plugin, effects)? {
            return Ok(Verdict::Answer(SettleReply::Conflict { key }));
        }
        let (quota, bounds) = (ran.state_max, ran.queue_max);
        if let Some(excess) = self.excess(&ran.plugin, effects, quota)? {
            return Ok(Verdict::Answer(SettleReply::Full { excess, quota }));
        }
        if let Some(excess) = bounds.excess(self.waiting()?, Waiting::of(effects.jobs())) {
            return Ok(Verdict::Answer(SettleReply::QueueFull { excess, bounds }));
        }
        Ok(Verdict::Record(Box::new(held)))
    }

    fn held(&self, token: LeaseToken) -> Result<Option<Stored>> {
        let of_job = select_stored!("WHERE tenant = ?1 AND id = ?2");
        self.stored_job(of_job, [self.tenant(), &token.job.to_string()])
    }

    /// Records the end of a run as its holder has reported it, except for the effects.
    fn record_end(&mut self, held: &Stored, settle: &Settle) -> Result<()> {
        if let Some(progress) = &settle.progress {
            let progress = progress_json(progress)?;
            self.execute("UPDATE job SET progress = ?2 WHERE nr = ?1", params![held.nr, progress])?;
        }
        if let Some(ran) = &settle.ran {
            self.add_usage(held, ran)?;
        }
        if settle.settlement.is_start(settle.ran.is_some()) {
            self.start(held)?;
        }
        if let Some(attempt) = settle.attempt(held.attempt_that_ends(self.now)) {
            self.add_attempt(held, attempt)?;
        }
        if let Some((plugin, account)) = settle.account(held.standing.run_end(&settle.settlement)) {
            let spent = self.spent.entry(plugin.clone()).or_default();
            *spent = spent.and(&account);
        }
        self.append(held.nr, &settle.log)?;
        let change = held.standing.settled(&settle.settlement, settle.keep);
        self.change(held, &change)?;
        if let Some(plugin) = settle.keeper().filter(|_| change.state().is_final()) {
            self.execute("UPDATE job SET kept_of = ?2 WHERE nr = ?1", params![held.nr, plugin.as_str()])?;
        }
        Ok(())
    }

    /// Adds the record of an attempt to the history of its job. One that can't be read begins anew.
    pub(super) fn add_attempt(&self, job: &Stored, attempt: AttemptRecord) -> Result<()> {
        let mut attempts = job.history.as_deref().and_then(|json| history(json).ok()).unwrap_or_default();
        history::add(&mut attempts, attempt);
        self.execute("UPDATE job SET history = ?2 WHERE nr = ?1", params![job.nr, history_json(&attempts)?])?;
        Ok(())
    }

    /// Adds a run's usage to that of its job.
    fn add_usage(&self, held: &Stored, ran: &Ran) -> Result<()> {
        let Usage { fuel, memory_peak, wall, cpu, host_calls } = held.usage.and(ran.usage);
        self.execute(
            "UPDATE job SET fuel = ?2, memory_peak = ?3, wall_us = ?4, cpu_us = ?5, host_calls = ?6, revision = ?7
             WHERE nr = ?1",
            params![
                held.nr,
                fuel.0.cast_signed(),
                memory_peak.0.cast_signed(),
                micros(wall),
                micros(cpu),
                host_calls.cast_signed(),
                ran.revision.to_string(),
            ],
        )?;
        Ok(())
    }

    /// Appends lines to a job's log, and removes the oldest ones past the maximum.
    fn append(&self, nr: i64, lines: &[LogLine]) -> Result<()> {
        if lines.is_empty() {
            return Ok(());
        }
        let last = "SELECT line FROM log WHERE nr = ?1 ORDER BY line DESC LIMIT 1";
        let mut number: i64 = self.find(last, [nr], |row| row.get(0))?.unwrap_or(0);
        for line in &lines[lines.len().saturating_sub(LOG_LINES_KEPT)..] {
            number += 1;
            let (at, fields) = (stamp(line.at), fields_json(&line.fields)?);
            self.execute(
                "INSERT INTO log VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                params![nr, number, at, line.attempt, line.level.slug(), line.message, fields],
            )?;
        }
        self.execute(
            "DELETE FROM log WHERE nr = ?1 AND line <= ?2",
            params![nr, number - LOG_LINES_KEPT as i64],
        )?;
        Ok(())
    }
}
