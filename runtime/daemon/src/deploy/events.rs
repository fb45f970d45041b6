//! What deploys have done: said in the log, kept in a ring, told to whoever asks.

use std::collections::VecDeque;

use sandhog_api::{DeployEvent, DeployEventKind};

/// How many are kept.
const KEPT: usize = 200;

/// Says it in the log.
fn log(event: &DeployEvent) {
    let DeployEvent { what, tenant, plugin, revision, was, message, .. } = event;
    let (tenant, plugin) = (tenant.as_deref(), plugin.as_deref());
    let (revision, was) = (revision.as_deref(), was.as_deref());
    let because = message.as_deref();
    match what {
        DeployEventKind::Failed => {
            tracing::warn!(tenant, plugin, because, "deploy failed; what was in force stays");
        }
        DeployEventKind::Rejected => tracing::warn!(because, "reload rejected; nothing was changed"),
        DeployEventKind::RolledBack => {
            tracing::warn!(tenant, plugin, revision, was, because, "deploy: {}", what.slug());
        }
        _ => tracing::info!(tenant, plugin, revision, was, because, "deploy: {}", what.slug()),
    }
}

/// The latest events, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Events(VecDeque<DeployEvent>);

impl Events {
    /// Those that were kept before.
    pub(crate) fn kept(events: Vec<DeployEvent>) -> Self {
        Self(events.into())
    }

    /// Adds some, and says them in the log.
    pub(crate) fn add(&mut self, events: &[DeployEvent]) {
        events.iter().for_each(log);
        self.0.extend(events.iter().cloned());
        self.0.drain(..self.0.len().saturating_sub(KEPT));
    }

    /// All of them.
    pub(crate) fn all(&self) -> Vec<DeployEvent> {
        self.0.iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use sandhog_core::time::Timestamp;

    use super::*;

    #[test]
    fn the_latest_are_kept() {
        let mut events = Events::default();
        for n in 0..500 {
            events.add(&[DeployEvent::new(Timestamp::from_millis(n), DeployEventKind::Rejected)]);
        }
        let all = events.all();
        assert_eq!((all.len(), all[0].at), (KEPT, Timestamp::from_millis(300).into()));
    }
}
