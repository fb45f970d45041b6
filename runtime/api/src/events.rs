//! Events of jobs, as programs read them.

use std::borrow::Cow;

use sandhog_core::event::{EventCursor, JobEvent};
use sandhog_core::id::TenantId;
use serde::{Deserialize, Serialize};

use crate::time::at_of;

/// JSON document of an event. Names and meanings stay as they are; more may come.
#[derive(Debug, Serialize, Deserialize)]
pub struct EventDocument {
    /// Place of the event; `--since` goes on behind it.
    pub cursor: String,
    /// Time of the change.
    pub at: Option<String>,
    /// Slug of the kind of event.
    pub event: Cow<'static, str>,
    /// The tenant.
    pub tenant: String,
    /// The job.
    pub job: String,
    /// Queue of the job.
    pub queue: String,
    /// Kind of the job.
    pub kind: String,
    /// Group of the job in its queue.
    pub group: Option<String>,
    /// Number of the attempt that begins or ends.
    pub attempt: Option<u32>,
    /// Reason for the change.
    pub reason: Option<Cow<'static, str>>,
}

impl EventDocument {
    /// Creates the document of an event of a tenant.
    #[must_use]
    pub fn new(tenant: &TenantId, event: &JobEvent) -> Self {
        Self {
            cursor: event.cursor.to_text(tenant),
            at: at_of(event.at),
            event: event.event.slug().into(),
            tenant: tenant.to_string(),
            job: event.job.to_string(),
            queue: event.queue.to_string(),
            kind: event.kind.to_string(),
            group: event.group.as_ref().map(ToString::to_string),
            attempt: event.attempt,
            reason: event.reason.map(|reason| reason.slug().into()),
        }
    }
}

/// JSON document of a gap, in place of the events that were missed.
#[derive(Debug, Serialize, Deserialize)]
pub struct GapDocument {
    /// Place from which it goes on.
    pub cursor: String,
    /// `gap`.
    pub event: Cow<'static, str>,
    /// The tenant.
    pub tenant: String,
}

impl GapDocument {
    /// Creates the document of a gap before this place.
    #[must_use]
    pub fn new(tenant: &TenantId, place: EventCursor) -> Self {
        Self { cursor: place.to_text(tenant), event: "gap".into(), tenant: tenant.to_string() }
    }
}

/// JSON document of where to go on with a tenant's events.
#[derive(Debug, Serialize, Deserialize)]
pub struct PlaceDocument {
    /// The tenant.
    pub tenant: String,
    /// Place behind the last event; `--since` goes on there.
    pub next: String,
    /// Whether events before the first one were missed.
    pub gap: bool,
}

/// JSON document of events.
#[derive(Debug, Serialize, Deserialize)]
pub struct EventsDocument {
    /// The events, in order of time; those of a tenant in their own order.
    pub events: Vec<EventDocument>,
    /// The place at which to go on, for each tenant.
    pub tenants: Vec<PlaceDocument>,
}
