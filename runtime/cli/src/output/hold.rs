//! Output of holds.

use comfy_table::Cell;
use sandhog_core::hold::Hold;
use sandhog_core::id::TenantId;
use sandhog_core::text;
use sandhog_core::waits::{Told, Wait};
use serde::Serialize;

use super::{Column, Paint, clock, fitted, rfc3339};

/// JSON document of a hold.
#[derive(Debug, Serialize)]
pub struct HoldDocument {
    /// The tenant whose jobs are held back.
    pub tenant: String,
    /// The queue of the jobs; null for all queues.
    pub queue: Option<String>,
    /// The kind of the jobs; null for all kinds.
    pub kind: Option<String>,
    /// The reason: `paused`.
    pub reason: &'static str,
    /// Name of the person who holds them back, as they call themselves; null if that is unknown.
    pub by: Option<String>,
    /// Time since which they are held back. All times are RFC 3339, in UTC.
    pub since: Option<String>,
    /// Time at which the hold ends by itself; null if somebody has to lift it.
    pub until: Option<String>,
    /// The remark of who made the hold.
    pub note: Option<String>,
}

/// JSON document of what is held back.
#[derive(Debug, Serialize)]
pub struct HoldsDocument {
    /// The holds, by tenant, queue and kind.
    pub holds: Vec<HoldDocument>,
}

/// JSON document of a pause that was made.
#[derive(Debug, Serialize)]
pub struct PausedDocument {
    /// The hold; null if its end has passed already.
    pub hold: Option<HoldDocument>,
}

/// JSON document of what was held back, and goes on.
#[derive(Debug, Serialize)]
pub struct ResumedDocument {
    /// The holds that have ended.
    pub lifted: Vec<HoldDocument>,
}

impl HoldDocument {
    /// Creates the document of a tenant's hold.
    #[must_use]
    pub fn new(tenant: &str, hold: Hold) -> Self {
        let Hold { scope, reason, by, since, until, note } = hold;
        Self {
            tenant: tenant.to_owned(),
            queue: scope.queue.map(|queue| queue.to_string()),
            kind: scope.kind.map(|kind| kind.to_string()),
            reason: reason.slug(),
            by,
            since: rfc3339(since),
            until: until.and_then(rfc3339),
            note,
        }
    }
}

/// Renders a hold in a line.
#[must_use]
pub fn line(hold: &Hold) -> String {
    Told { wait: &Wait::Hold(hold.clone()), clock }.to_string()
}

/// Renders holds for people, a line each; at most `width` characters wide, if that is known.
#[must_use]
pub fn table(holds: &[(TenantId, Hold)], width: Option<usize>, paint: Paint) -> String {
    if holds.is_empty() {
        return "nothing is held back".to_owned();
    }
    let columns = ["tenant", "queue", "kind", "reason", "by", "since", "until"].map(Column::Left);
    let columns: Vec<Column> = columns.into_iter().chain([Column::Rest("note")]).collect();
    let rows = holds.iter().map(|(tenant, hold)| {
        let Hold { scope, reason, by, since, until, note } = hold;
        let any = || "any".to_owned();
        let shown = |text: &Option<String>| text::line(text.as_deref().unwrap_or_default()).into_owned();
        vec![
            Cell::new(tenant),
            Cell::new(scope.queue.as_ref().map_or_else(any, ToString::to_string)),
            Cell::new(scope.kind.as_ref().map_or_else(any, ToString::to_string)),
            Cell::new(reason),
            Cell::new(shown(by)),
            Cell::new(clock(*since)),
            Cell::new(until.map_or_else(|| "it is resumed".to_owned(), clock)),
            Cell::new(shown(note)),
        ]
    });
    fitted(&columns, rows.collect(), width, paint)
}
