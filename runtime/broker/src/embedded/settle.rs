//! Holders renew their leases, and say how their runs ended.

use std::time::Duration;

use rusqlite::params;
use sandhog_core::attempt::SettleReply;
use sandhog_core::effects::Effects;
use sandhog_core::id::{LeaseToken, Revision};
use sandhog_core::job::{LogLine, State};
use sandhog_core::outcome::Usage;
use sandhog_core::reason::Reason;
use sandhog_core::settle::Settlement;

use super::enqueue::waiting;
use super::fault::{Fault, Result};
use super::row::{fields_json, micros, progress_json, stamp, state, usage};
use super::step::{Place, Step, Waits};
use crate::{Cancel, LOG_LINES_KEPT, Ran, Renew, Renewal, Settle};

/// What a token is held against.
struct Held {
    nr: i64,
    state: State,
    lease: u64,
    queue: String,
    kind: String,
    expiries: i64,
    /// Whether it counts against a limit of the fleet.
    is_limited: bool,
    cancel_requested: bool,
    usage: Usage,
}

/// How a settlement changes its job.
#[derive(Clone, Copy)]
struct End<'a> {
    place: Place,
    attempts: u32,
    faults: Faults,
    reason: Option<Reason>,
    message: Option<&'a str>,
    output: Option<&'a [u8]>,
}

/// What becomes of the faults of a job's hosts, and of the leases that it has lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Faults {
    Keep,
    CountOne,
    /// An attempt ended, so its host has lived through it.
    Reset,
}

/// What a settlement comes to.
enum Verdict {
    /// It is to be recorded.
    Record(Held),
    /// Nothing is to be changed.
    Answer(SettleReply),
}

/// The plugin whose state a settlement changes, and how.
fn effects(settle: &Settle) -> Option<(&Ran, &Effects)> {
    match (&settle.settlement, &settle.ran) {
        (Settlement::Succeed { effects, .. }, Some(ran)) => Some((ran, effects)),
        _ => None,
    }
}

impl Held {
    /// The number is the fence, not the clock: an expired lease holds until it is taken back.
    fn holds(&self, token: LeaseToken) -> bool {
        self.state == State::Leased && self.lease == token.lease.0
    }
}

impl Step<'_> {
    pub(super) fn renew(&self, renew: &Renew, ttl: Duration) -> Result<Renewal> {
        let held = match self.held(renew.token) {
            Err(Fault::Unreadable { .. }) => return Ok(Renewal::Unreadable),
            held => held?.filter(|held| held.holds(renew.token)),
        };
        let Some(held) = held else { return Ok(Renewal::Lost) };
        let progress = renew.progress.as_ref().map(progress_json).transpose()?;
        self.execute(
            "UPDATE job SET lease_expires_at = ?2, progress = coalesce(?3, progress) WHERE nr = ?1",
            params![held.nr, stamp(self.now.after(ttl)), progress],
        )?;
        self.append(held.nr, &renew.log)?;
        Ok(if held.cancel_requested { Renewal::CancelRequested } else { Renewal::Held })
    }

    pub(super) fn settle(&mut self, settle: &Settle) -> Result<SettleReply> {
        let held = match self.verdict(settle) {
            Ok(Verdict::Record(held)) => held,
            Ok(Verdict::Answer(reply)) => return Ok(reply),
            Err(Fault::Unreadable { at, problem }) => {
                let (tenant, job) = (self.tenant(), settle.token.job);
                tracing::warn!(tenant, %job, at, problem, "a job can't be read, and is left as it is");
                return Ok(SettleReply::Unreadable);
            }
            Err(fault) => return Err(fault),
        };
        self.record_end(&held, settle)?;
        if let Some((ran, effects)) = effects(settle) {
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
        if !held.holds(settle.token) {
            // Whatever else ends a lease raises its number: so it was this token that settled the job before.
            let repeated = held.lease == settle.token.lease.0 && held.state != State::Leased;
            return Ok(Verdict::Answer(if repeated { SettleReply::Applied } else { SettleReply::Lost }));
        }
        let Some((ran, effects)) = effects(settle) else { return Ok(Verdict::Record(held)) };
        if let Some(key) = self.conflict(&ran.plugin, effects)? {
            return Ok(Verdict::Answer(SettleReply::Conflict { key }));
        }
        let (quota, bounds) = (ran.state_max, ran.queue_max);
        if let Some(excess) = self.excess(&ran.plugin, effects, quota)? {
            return Ok(Verdict::Answer(SettleReply::Full { excess, quota }));
        }
        if let Some(excess) = bounds.excess(self.waiting()?, waiting(effects.jobs())) {
            return Ok(Verdict::Answer(SettleReply::QueueFull { excess, bounds }));
        }
        Ok(Verdict::Record(held))
    }

    fn held(&self, token: LeaseToken) -> Result<Option<Held>> {
        let found = self.find(
            "SELECT nr, state, lease, queue, kind, expiries, limited_by IS NOT NULL, cancel_requested, fuel, memory_peak,
                 wall_us, cpu_us, host_calls
             FROM job WHERE tenant = ?1 AND id = ?2",
            [self.tenant(), &token.job.to_string()],
            |row| {
                let held = Held {
                    nr: row.get(0)?,
                    state: State::Leased,
                    lease: row.get::<_, i64>(2)?.cast_unsigned(),
                    queue: row.get(3)?,
                    kind: row.get(4)?,
                    expiries: row.get(5)?,
                    is_limited: row.get(6)?,
                    cancel_requested: row.get(7)?,
                    usage: usage(row, 8)?,
                };
                Ok((held, row.get(1)?))
            },
        )?;
        let Some((held, code)) = found else { return Ok(None) };
        Ok(Some(Held { state: state(code)?, ..held }))
    }

    /// Records what a holder said about the end of its run, but for the effects.
    fn record_end(&mut self, held: &Held, settle: &Settle) -> Result<()> {
        let end = self.end(held, settle)?;
        let progress = settle.progress.as_ref().map(progress_json).transpose()?;
        let usage = settle.ran.as_ref().map_or(held.usage, |ran| held.usage.and(ran.usage));
        let revision = settle.ran.as_ref().map(|ran| Revision::to_string(&ran.revision));
        self.execute(
            "UPDATE job SET attempts = attempts + ?2, reason = ?3, message = ?4, output = ?5,
                 progress = coalesce(?6, progress), fuel = ?7, memory_peak = ?8, wall_us = ?9, cpu_us = ?10,
                 host_calls = ?11, revision = coalesce(?12, revision),
                 faults = iif(?13, 0, faults + ?14), expiries = iif(?13, 0, expiries)
             WHERE nr = ?1",
            params![
                held.nr,
                end.attempts,
                end.reason.map(Reason::slug),
                end.message,
                end.output,
                progress,
                usage.fuel.0.cast_signed(),
                usage.memory_peak.0.cast_signed(),
                micros(usage.wall),
                micros(usage.cpu),
                usage.host_calls.cast_signed(),
                revision,
                end.faults == Faults::Reset,
                end.faults == Faults::CountOne,
            ],
        )?;
        self.put(held.nr, end.place)?;
        self.has_left |= held.is_limited;
        let cancel = if held.cancel_requested { Cancel::Requested } else { Cancel::No };
        if let Some((plugin, account)) = settle.account(cancel) {
            let spent = self.spent.entry(plugin.clone()).or_default();
            *spent = spent.and(&account);
        }
        self.append(held.nr, &settle.log)
    }

    fn end<'s>(&mut self, held: &Held, settle: &'s Settle) -> Result<End<'s>> {
        let waits = |is_suspect| Waits { queue: &held.queue, kind: &held.kind, is_suspect };
        let kept = End {
            place: self.finished(State::Cancelled, settle.keep),
            attempts: 0,
            faults: Faults::Keep,
            reason: None,
            message: None,
            output: None,
        };
        let cancelled = End { reason: Some(Reason::Cancelled), ..kept };
        Ok(match &settle.settlement {
            Settlement::Retry { .. } | Settlement::Release { .. } if held.cancel_requested => cancelled,
            Settlement::Cancel => cancelled,
            Settlement::Succeed { output, .. } => {
                let place = self.finished(State::Succeeded, settle.keep);
                End { place, attempts: 1, output: Some(output), ..kept }
            }
            Settlement::Retry { after, reason, message } => End {
                place: self.wait(waits(false), *after)?,
                attempts: 1,
                faults: Faults::Reset,
                reason: Some(*reason),
                message: Some(message),
                output: None,
            },
            Settlement::Release { after, reason } => {
                let faults = if reason.is_host_fault() { Faults::CountOne } else { Faults::Keep };
                if *reason == Reason::NoPlugin {
                    self.note_lane(&held.queue, &held.kind)?;
                }
                let place = self.wait(waits(held.expiries > 0), *after)?;
                End { place, faults, reason: Some(*reason), ..kept }
            }
            Settlement::Bury { reason, message } => {
                let place = self.finished(State::Dead, settle.keep);
                End { place, attempts: 1, reason: Some(*reason), message: Some(message), ..kept }
            }
        })
    }

    /// Adds to a job's log. The oldest lines go.
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
