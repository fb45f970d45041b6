//! Output of events of jobs.

pub use sandhog_api::{EventDocument, EventsDocument, GapDocument, PlaceDocument};
use sandhog_core::event::JobEvent;
use sandhog_core::id::TenantId;
use sandhog_core::text;

use super::{Paint, clock};

/// Renders an event for people, as a line.
#[must_use]
pub fn line(tenant: &TenantId, event: &JobEvent, paint: Paint) -> String {
    let JobEvent { cursor: _, at, event: what, job, queue, kind, group, attempt, reason } = event;
    let mut line = format!("{} ", paint.dim(&clock(*at)));
    line += &format!("{:13} {job} {tenant}/{queue} {kind}", what.slug());
    if let Some(group) = group {
        line += &format!(", group {}", text::line(group.as_str()));
    }
    if let Some(attempt) = attempt {
        line += &format!(", attempt {attempt}");
    }
    if let Some(reason) = reason {
        line += &format!(": {reason}");
    }
    line
}
