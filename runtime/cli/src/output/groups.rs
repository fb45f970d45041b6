//! Output of groups of jobs that are held.

use comfy_table::Cell;
pub use sandhog_api::{HeldDocument, HeldGroupsDocument, ReleasedDocument};
use sandhog_core::text;
use sandhog_core::time::Timestamp;

use super::{Column, Paint, fitted, rough};

/// Renders held groups for people, a line each. Times are relative to `now`.
#[must_use]
pub fn table(groups: &[HeldDocument], now: Timestamp, paint: Paint) -> String {
    if groups.is_empty() {
        return "no group is held".to_owned();
    }
    let columns = ["tenant", "queue", "group", "held by", "since"].map(Column::Left);
    let row = |held: &HeldDocument| {
        let since = held.since().map(|at| format!("{} ago", rough(now.since(at)))).unwrap_or_default();
        let group = text::line(&held.group).into_owned();
        vec![
            Cell::new(&held.tenant),
            Cell::new(&held.queue),
            Cell::new(group),
            Cell::new(&held.job),
            Cell::new(since),
        ]
    };
    fitted(&columns, groups.iter().map(row).collect(), None, paint)
}
