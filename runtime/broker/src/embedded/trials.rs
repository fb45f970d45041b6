//! Storage of canaries' trials, by the rules of [`Trial::report`].

use rusqlite::params;
use sandhog_core::id::{DaemonId, PluginName};
use sandhog_core::time::{Timestamp, millis};
use sandhog_core::trial::{Decision, Pair, Records, TRIAL_KEPT, Trial, TrialReport, TrialStatus};

use super::fault::{Fault, Result};
use super::row::{stamp, timestamp};
use super::step::Step;
use crate::SWEEP_MAX;

impl Step<'_> {
    /// Records a daemon's report of a trial, and returns the trial's status.
    pub(super) fn report_trial(&self, report: &TrialReport) -> Result<TrialStatus> {
        let stored = self.trial(&report.pair)?;
        let began_before = stored.as_ref().map(|trial| trial.began);
        let (trial, status) = Trial::report(stored, report, self.now);
        let Pair { plugin, old, new } = &report.pair;
        let (old, new, daemon) = (old.to_string(), new.to_string(), report.daemon.to_string());
        let decision = trial.decision.as_ref().map(Decision::to_text);
        if began_before == Some(trial.began) {
            self.execute(
                "UPDATE trial SET reported_at = ?5, decision = ?6
                 WHERE tenant = ?1 AND plugin = ?2 AND stable = ?3 AND canary = ?4",
                params![self.tenant(), plugin.as_str(), old, new, stamp(trial.reported), decision],
            )?;
        } else {
            self.delete_trial(plugin.as_str(), &old, &new)?;
            self.execute(
                "INSERT INTO trial VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                params![
                    self.tenant(),
                    plugin.as_str(),
                    old,
                    new,
                    stamp(trial.began),
                    stamp(trial.reported),
                    decision
                ],
            )?;
        }
        match trial.counted.get(&report.daemon) {
            Some(counted) => self.execute(
                "INSERT OR REPLACE INTO trial_count VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                params![self.tenant(), plugin.as_str(), old, new, daemon, counted.to_bytes()],
            )?,
            None => self.execute(
                "DELETE FROM trial_count
                 WHERE tenant = ?1 AND plugin = ?2 AND stable = ?3 AND canary = ?4 AND daemon = ?5",
                params![self.tenant(), plugin.as_str(), old, new, daemon],
            )?,
        };
        Ok(status)
    }

    /// Returns the stored trial of a pair, or `None` if there is none.
    fn trial(&self, pair: &Pair) -> Result<Option<Trial>> {
        let Pair { plugin, old, new } = pair;
        let (old, new) = (old.to_string(), new.to_string());
        let of_pair = params![self.tenant(), plugin.as_str(), old, new];
        let found: Option<(i64, i64, Option<String>)> = self.find(
            "SELECT began_at, reported_at, decision FROM trial
             WHERE tenant = ?1 AND plugin = ?2 AND stable = ?3 AND canary = ?4",
            of_pair,
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
        )?;
        let Some((began, reported, decision)) = found else { return Ok(None) };
        let decision = decision.map(|text| {
            Decision::parse(&text).ok_or_else(|| unreadable(plugin, "decision", "it is no decision"))
        });
        let rows: Vec<(String, Vec<u8>)> = self.all(
            "SELECT daemon, counted FROM trial_count
             WHERE tenant = ?1 AND plugin = ?2 AND stable = ?3 AND canary = ?4",
            of_pair,
            |row| Ok((row.get(0)?, row.get(1)?)),
        )?;
        let counted = rows.into_iter().map(|(daemon, counted)| {
            let daemon = DaemonId::parse(&daemon).map_err(|error| unreadable(plugin, "daemon", error))?;
            let counted = Records::from_bytes(&counted);
            Ok((daemon, counted.ok_or_else(|| unreadable(plugin, "counted", "these are no counts of runs"))?))
        });
        Ok(Some(Trial {
            began: timestamp(began),
            reported: timestamp(reported),
            decision: decision.transpose()?,
            counted: counted.collect::<Result<_>>()?,
        }))
    }

    /// Removes trials that no daemon has reported to for [`TRIAL_KEPT`].
    pub(super) fn sweep_trials(&self) -> Result<()> {
        let until = Timestamp::from_millis(self.now.as_millis().saturating_sub(millis(TRIAL_KEPT)));
        let old: Vec<(String, String, String)> = self.all(
            "SELECT plugin, stable, canary FROM trial WHERE tenant = ?1 AND reported_at <= ?2
             ORDER BY reported_at LIMIT ?3",
            params![self.tenant(), stamp(until), SWEEP_MAX as i64],
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
        )?;
        old.iter().try_for_each(|(plugin, stable, canary)| self.delete_trial(plugin, stable, canary))
    }

    fn delete_trial(&self, plugin: &str, stable: &str, canary: &str) -> Result<()> {
        let of_pair = [self.tenant(), plugin, stable, canary];
        let sql = "DELETE FROM trial WHERE tenant = ?1 AND plugin = ?2 AND stable = ?3 AND canary = ?4";
        self.execute(sql, of_pair).map(drop)
    }
}

fn unreadable(plugin: &PluginName, column: &str, problem: impl ToString) -> Fault {
    Fault::unreadable(format!("trial.{column} of plugin {plugin}"), problem)
}
