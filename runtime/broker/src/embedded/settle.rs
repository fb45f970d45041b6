//! Holders renew their leases, and say how their runs ended.

use std::time::Duration;

use rusqlite::params;
use sandhog_core::attempt::SettleReply;
use sandhog_core::id::{LeaseToken, Revision};
use sandhog_core::job::{LogLine, State};
use sandhog_core::outcome::Usage;
use sandhog_core::reason::Reason;
use sandhog_core::settle::Settlement;

use super::fault::Result;
use super::row::{code, fields_json, micros, progress_json, stamp, usage};
use super::step::{Place, Step};
use crate::{Cancel, LOG_LINES_KEPT, Renew, Renewal, Settle};

/// What a token is held against.
struct Held {
    nr: i64,
    state: i64,
    lease: u64,
    queue: String,
    cancel_requested: bool,
    usage: Usage,
}

/// How a settlement changes its job.
struct End<'a> {
    place: Place,
    attempts: u32,
    reason: Option<Reason>,
    message: Option<&'a str>,
    output: Option<&'a [u8]>,
}

impl Held {
    /// The number is the fence, not the clock: an expired lease holds until it is taken back.
    fn holds(&self, token: LeaseToken) -> bool {
        self.state == code(State::Leased) && self.lease == token.lease.0
    }
}

impl Step<'_> {
    pub(super) fn renew(&self, renew: &Renew, ttl: Duration) -> Result<Renewal> {
        let Some(held) = self.held(renew.token)?.filter(|held| held.holds(renew.token)) else {
            return Ok(Renewal::Lost);
        };
        let progress = renew.progress.as_ref().map(progress_json).transpose()?;
        self.execute(
            "UPDATE job SET lease_expires_at = ?2, progress = coalesce(?3, progress) WHERE nr = ?1",
            params![held.nr, stamp(self.now.after(ttl)), progress],
        )?;
        self.append(held.nr, &renew.log)?;
        Ok(if held.cancel_requested { Renewal::CancelRequested } else { Renewal::Held })
    }

    pub(super) fn settle(&mut self, settle: &Settle) -> Result<SettleReply> {
        let Some(held) = self.held(settle.token)? else { return Ok(SettleReply::Lost) };
        if !held.holds(settle.token) {
            // Whatever else ends a lease raises its number: so it was this token that settled the job before.
            let repeated = held.lease == settle.token.lease.0 && held.state != code(State::Leased);
            return Ok(if repeated { SettleReply::Applied } else { SettleReply::Lost });
        }
        let effects = match (&settle.settlement, &settle.ran) {
            (Settlement::Succeed { effects, .. }, Some(ran)) => Some((&ran.plugin, effects)),
            _ => None,
        };
        if let Some((plugin, effects)) = effects
            && let Some(key) = self.conflict(plugin, effects)?
        {
            return Ok(SettleReply::Conflict { key });
        }
        if let Some((plugin, effects)) = effects
            && let Some(quota) = settle.ran.as_ref().map(|ran| ran.state_max)
            && let Some(excess) = self.excess(plugin, effects, quota)?
        {
            return Ok(SettleReply::Full { excess, quota });
        }
        self.record_end(&held, settle)?;
        if let Some((plugin, effects)) = effects {
            for (key, write) in effects.writes() {
                self.write(plugin, key, write)?;
            }
            for job in effects.jobs() {
                self.enqueue(job)?;
            }
        }
        Ok(SettleReply::Applied)
    }

    fn held(&self, token: LeaseToken) -> Result<Option<Held>> {
        self.find(
            "SELECT nr, state, lease, queue, cancel_requested, fuel, memory_peak, wall_us, cpu_us, host_calls
             FROM job WHERE tenant = ?1 AND id = ?2",
            [self.tenant(), &token.job.to_string()],
            |row| {
                Ok(Held {
                    nr: row.get(0)?,
                    state: row.get(1)?,
                    lease: row.get::<_, i64>(2)?.cast_unsigned(),
                    queue: row.get(3)?,
                    cancel_requested: row.get(4)?,
                    usage: usage(row, 5)?,
                })
            },
        )
    }

    /// Records what a holder said about the end of its run, but for the effects.
    fn record_end(&mut self, held: &Held, settle: &Settle) -> Result<()> {
        let end = self.end(held, settle)?;
        self.put(held.nr, end.place)?;
        let progress = settle.progress.as_ref().map(progress_json).transpose()?;
        let usage = settle.ran.as_ref().map_or(held.usage, |ran| held.usage.and(ran.usage));
        let revision = settle.ran.as_ref().map(|ran| Revision::to_string(&ran.revision));
        self.execute(
            "UPDATE job SET attempts = attempts + ?2, reason = ?3, message = ?4, output = ?5,
                 progress = coalesce(?6, progress), fuel = ?7, memory_peak = ?8, wall_us = ?9, cpu_us = ?10,
                 host_calls = ?11, revision = coalesce(?12, revision)
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
            ],
        )?;
        let cancel = if held.cancel_requested { Cancel::Requested } else { Cancel::No };
        if let Some((plugin, account)) = settle.account(cancel) {
            let spent = self.spent.entry(plugin.clone()).or_default();
            *spent = spent.and(&account);
        }
        self.append(held.nr, &settle.log)
    }

    fn end<'s>(&mut self, held: &Held, settle: &'s Settle) -> Result<End<'s>> {
        let queue = &held.queue;
        let cancelled =
            |place| End { place, attempts: 0, reason: Some(Reason::Cancelled), message: None, output: None };
        Ok(match &settle.settlement {
            Settlement::Retry { .. } | Settlement::Release { .. } if held.cancel_requested => {
                cancelled(self.finished(State::Cancelled, settle.keep))
            }
            Settlement::Cancel => cancelled(self.finished(State::Cancelled, settle.keep)),
            Settlement::Succeed { output, .. } => {
                let place = self.finished(State::Succeeded, settle.keep);
                End { place, attempts: 1, reason: None, message: None, output: Some(output) }
            }
            Settlement::Retry { after, reason, message } => {
                let place = self.wait(queue, *after)?;
                End { place, attempts: 1, reason: Some(*reason), message: Some(message), output: None }
            }
            Settlement::Release { after, reason } => {
                let place = self.wait(queue, *after)?;
                End { place, attempts: 0, reason: Some(*reason), message: None, output: None }
            }
            Settlement::Bury { reason, message } => {
                let place = self.finished(State::Dead, settle.keep);
                End { place, attempts: 1, reason: Some(*reason), message: Some(message), output: None }
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
