//! Output of holds.

use comfy_table::Cell;
pub use sandhog_api::{HoldDocument, HoldsDocument, PausedDocument, ResumedDocument};
use sandhog_core::hold::Hold;
use sandhog_core::id::TenantId;
use sandhog_core::text;
use sandhog_core::waits::{Told, Wait};

use super::{Column, Paint, clock, fitted};

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
