//! Output of groups of jobs that are held.

use comfy_table::Cell;
use sandhog_broker::HeldGroup;
use sandhog_core::id::TenantId;
use sandhog_core::text;
use sandhog_core::time::Timestamp;
use serde::Serialize;

use super::{Column, Paint, fitted, rfc3339, rough};

/// JSON document of a held group. Names and meanings stay as they are; more may come.
#[derive(Debug, Serialize)]
pub struct HeldDocument {
    /// The tenant.
    pub tenant: String,
    /// The queue.
    pub queue: String,
    /// The group.
    pub group: String,
    /// The dead job that holds it.
    pub job: String,
    /// Time since which it is held.
    pub since: Option<String>,
    #[serde(skip)]
    at: Timestamp,
}

impl HeldDocument {
    /// Creates the document of a tenant's group.
    #[must_use]
    pub fn new(tenant: &TenantId, held: &HeldGroup) -> Self {
        Self {
            tenant: tenant.to_string(),
            queue: held.queue.to_string(),
            group: held.group.to_string(),
            job: held.job.to_string(),
            since: rfc3339(held.since),
            at: held.since,
        }
    }
}

/// JSON document of all held groups.
#[derive(Debug, Serialize)]
pub struct HeldGroupsDocument<'d> {
    /// The groups, those of a tenant that are held for the longest time first.
    pub groups: &'d [HeldDocument],
}

/// JSON document of the release of a group.
#[derive(Debug, Serialize)]
pub struct ReleasedDocument {
    /// Whether the group was held.
    pub released: bool,
}

/// Creates the document of these groups.
#[must_use]
pub fn document(groups: &[HeldDocument]) -> HeldGroupsDocument<'_> {
    HeldGroupsDocument { groups }
}

/// Renders held groups for people, a line each. Times are relative to `now`.
#[must_use]
pub fn table(groups: &[HeldDocument], now: Timestamp, paint: Paint) -> String {
    if groups.is_empty() {
        return "no group is held".to_owned();
    }
    let columns = ["tenant", "queue", "group", "held by", "since"].map(Column::Left);
    let row = |held: &HeldDocument| {
        let since = format!("{} ago", rough(now.since(held.at)));
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
