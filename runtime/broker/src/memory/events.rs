//! Events: recorded with each change while somebody wants them. The rules are in [`sandhog_core::event`].

use std::collections::VecDeque;

use sandhog_core::event::{
    EVENTS_PAGE_MAX, EventCursor, EventKeep, EventKind, EventPage, EventSpan, JobEvent,
};
use sandhog_core::id::JobId;
use sandhog_core::reason::Reason;
use sandhog_core::time::Timestamp;

use super::tenant::Tenant;
use crate::SWEEP_MAX;

/// The events that are kept of a tenant.
#[derive(Clone)]
pub(super) struct EventLog {
    /// Time until which somebody wants them.
    until: Timestamp,
    keep: EventKeep,
    /// Place behind the last one.
    end: EventCursor,
    events: VecDeque<JobEvent>,
}

impl EventLog {
    fn span(&self) -> EventSpan {
        EventSpan { before: EventCursor(self.end.0 - self.events.len() as u64), end: self.end }
    }
}

impl Tenant {
    pub(super) fn record_events(&mut self, keep: EventKeep, now: Timestamp) -> EventCursor {
        let until = now.after(keep.time);
        let before = self.event_log.take();
        let end = before.as_ref().map(|log| log.end);
        let kept = before.filter(|log| log.until > now);
        let log = kept.unwrap_or_else(|| EventLog {
            until,
            keep,
            end: EventCursor::anew(now, end),
            events: VecDeque::new(),
        });
        let end = log.end;
        self.event_log = Some(EventLog { until: log.until.max(until), keep, ..log });
        end
    }

    /// Records an event of a job, if somebody wants it.
    pub(super) fn tell(
        &mut self,
        event: EventKind,
        job: JobId,
        attempt: Option<u32>,
        reason: Option<Reason>,
        now: Timestamp,
    ) {
        let Some(log) = self.event_log.as_mut().filter(|log| log.until > now) else { return };
        let Some(record) = self.jobs.get(&job).map(|entry| &entry.record) else { return };
        log.end = log.end.next();
        log.events.push_back(JobEvent {
            cursor: log.end,
            at: now,
            event,
            job,
            queue: record.queue.clone(),
            kind: record.kind.clone(),
            group: record.options.group.clone(),
            attempt,
            reason,
        });
        while log.events.len() > log.keep.max as usize {
            log.events.pop_front();
        }
    }

    /// Removes events that are too old, and all once nobody wants them any more.
    pub(super) fn sweep_events(&mut self, now: Timestamp) {
        let log = self.event_log.take().filter(|log| log.until > now);
        self.event_log = log.map(|mut log| {
            let is_old = |event: &&JobEvent| event.at.after(log.keep.time) <= now;
            let old = log.events.iter().take(SWEEP_MAX).take_while(is_old).count();
            log.events.drain(..old);
            log
        });
    }

    pub(super) fn events(&self, after: EventCursor, max: usize, now: Timestamp) -> EventPage {
        let Some(log) = self.event_log.as_ref().filter(|log| log.until > now) else {
            return EventPage::of(after, None, 0, Vec::new());
        };
        let (from, _) = log.span().go_on(after);
        let behind = log.events.iter().filter(|event| event.cursor > from);
        let events: Vec<JobEvent> = behind.take(max.clamp(1, EVENTS_PAGE_MAX)).cloned().collect();
        EventPage::of(after, Some(log.span()), events.len(), events)
    }

    /// Returns the place behind the last event.
    pub(super) fn events_end(&self) -> Option<EventCursor> {
        self.event_log.as_ref().map(|log| log.end)
    }
}
