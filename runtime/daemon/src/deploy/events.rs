//! Deploy events: reported to the observer, kept in a ring, shown to callers.

use std::collections::VecDeque;
use std::sync::Arc;

use sandhog_api::DeployEvent;

use crate::telemetry::{Event, Observer};

/// Maximum number of events that are kept.
const KEPT: usize = 200;

/// Latest events, oldest first.
pub(crate) struct Events {
    latest: VecDeque<DeployEvent>,
    observer: Arc<dyn Observer>,
}

impl Events {
    /// Creates the ring of events that were kept before. The observer is told of those that are added.
    pub(crate) fn kept(events: Vec<DeployEvent>, observer: Arc<dyn Observer>) -> Self {
        Self { latest: events.into(), observer }
    }

    /// Adds events, and tells the observer.
    pub(crate) fn add(&mut self, events: &[DeployEvent]) {
        for event in events {
            self.observer.on(&Event::Deploy(event));
        }
        self.latest.extend(events.iter().cloned());
        self.latest.drain(..self.latest.len().saturating_sub(KEPT));
    }

    /// Returns all kept events, oldest first.
    pub(crate) fn all(&self) -> Vec<DeployEvent> {
        self.latest.iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use sandhog_api::DeployEventKind;
    use sandhog_core::time::Timestamp;

    use super::*;

    #[test]
    fn the_latest_are_kept() {
        let mut events = Events::kept(Vec::new(), Arc::new(()));
        for n in 0..500 {
            events.add(&[DeployEvent::new(Timestamp::from_millis(n), DeployEventKind::Rejected)]);
        }
        let all = events.all();
        assert_eq!((all.len(), all[0].at), (KEPT, Timestamp::from_millis(300).into()));
    }
}
