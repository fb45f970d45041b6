//! Actions of operators on jobs: cancel, redrive, run now, remove.

use sandhog_core::id::JobId;
use sandhog_core::transition::Acted;
use sandhog_core::unique::UniqueUntil;

use super::edit::Unchanged;
use super::fault::Result;
use super::flows::{Removable, select_removable};
use super::row;
use super::step::Step;
use super::stored::Stored;
use crate::{Changed, JobAction, Still};

impl Step<'_> {
    /// Does one thing to several jobs. A job that can't be read is left as it is, and doesn't affect the others.
    pub(super) fn act(
        &mut self,
        action: JobAction,
        jobs: &[JobId],
        still: Option<Still>,
    ) -> Result<Vec<Changed>> {
        jobs.iter().map(|job| self.act_on(action, *job, still)).collect()
    }

    fn act_on(&mut self, action: JobAction, job: JobId, still: Option<Still>) -> Result<Changed> {
        let changed = self.readable(job, |step, found| {
            let state = found.standing.state;
            match still.and_then(|still| still.refusal(state, found.leased_at, found.finished_at)) {
                Some(refusal) => Ok(refusal),
                None => step.act_on_stored(action, job, &found),
            }
        })?;
        Ok(changed.unwrap_or_else(|unchanged| match unchanged {
            Unchanged::Unknown => Changed::Unknown,
            Unchanged::Unreadable => Changed::Unreadable,
        }))
    }

    fn act_on_stored(&mut self, action: JobAction, job: JobId, found: &Stored) -> Result<Changed> {
        match found.standing.acted(action) {
            Acted::Change(change) => self.change(found, &change)?,
            Acted::Release(change) => {
                if !self.waits_for_parents(found.nr)? {
                    return Ok(Changed::Not(found.standing.state));
                }
                self.change(found, &change)?;
            }
            Acted::Revive(change) => {
                let rule = found.unique_key.as_ref().map(|_| self.unique_rule(found.nr)).transpose()?;
                let is_claimed = rule.is_some_and(|rule| rule.until == UniqueUntil::Settled);
                let claimed = found.unique_key.as_ref().filter(|_| is_claimed);
                if let Some(key) = claimed
                    && let Some(holder) = self.holder(key)?
                {
                    return Ok(Changed::Duplicate(row::parse("job.id", &holder)?));
                }
                self.revive(found, change)?;
                if let (Some(key), Some(rule)) = (claimed, &rule) {
                    self.claim(key, &found.id, rule)?;
                }
            }
            Acted::AskHolder => {
                self.execute("UPDATE job SET cancel_requested = 1 WHERE nr = ?1", [found.nr])?;
                self.to_cancel.push(job);
                return Ok(Changed::Requested);
            }
            Acted::Remove => {
                let removable = self.find(select_removable!("WHERE nr = ?1"), [found.nr], Removable::read)?;
                removable.map_or(Ok(()), |removable| self.remove(&removable))?;
                if let Some(key) = found.group.as_ref().filter(|_| found.has_turn) {
                    self.let_in_one(&found.queue, key, None)?;
                }
            }
            Acted::Nothing => {}
            Acted::Refuse => return Ok(Changed::Not(found.standing.state)),
        }
        Ok(Changed::Done)
    }
}
