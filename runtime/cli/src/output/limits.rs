//! Output of limits.

use comfy_table::Cell;
use sandhog_api::GroupLimitDocument;
pub use sandhog_api::LimitsDocument;
use sandhog_core::text;

use super::{Column, Paint, fitted};

/// Renders the limit of a group in a line.
#[must_use]
pub fn line(limit: &GroupLimitDocument) -> String {
    let GroupLimitDocument { queue, concurrency, used, until, .. } = limit;
    let group = text::line(&limit.group);
    let until = until.as_deref().map(|until| format!(" until {until}")).unwrap_or_default();
    let stands = match remark(limit) {
        "" => String::new(),
        remark => format!(" ({remark})"),
    };
    format!("group {group} of queue {queue}: {used} of {concurrency}{until}{stands}")
}

/// Returns why the limit of a group doesn't count; empty if it does.
fn remark(limit: &GroupLimitDocument) -> &'static str {
    match (limit.enabled, limit.instead_of) {
        (false, _) => "off",
        (true, None) => "its queue has no group_concurrency",
        (true, Some(_)) => "",
    }
}

/// Renders limits for people, a line each; at most `width` characters wide, if that is known.
#[must_use]
pub fn table(limits: &LimitsDocument, width: Option<usize>, paint: Paint) -> String {
    let columns = ["tenant", "limit", "used", "most", "next", "by", "until"].map(Column::Left);
    let columns: Vec<Column> = columns.into_iter().chain([Column::Rest("note")]).collect();
    let mut rows = Vec::new();
    let mut row = |cells: [String; 8]| rows.push(cells.into_iter().map(Cell::new).collect::<Vec<_>>());
    let none = String::new;
    for limit in &limits.queues {
        let name = format!("each group of queue {}", limit.queue);
        row([
            limit.tenant.clone(),
            name,
            none(),
            limit.concurrency.to_string(),
            none(),
            none(),
            none(),
            none(),
        ]);
    }
    for limit in &limits.groups {
        let name = format!("group {} of queue {}", text::line(&limit.group), limit.queue);
        let shown = |text: &Option<String>| text::line(text.as_deref().unwrap_or_default()).into_owned();
        let note = [remark(limit), &shown(&limit.note)].map(str::to_owned);
        let note: Vec<String> = note.into_iter().filter(|part| !part.is_empty()).collect();
        let until = limit.until.clone().unwrap_or_else(|| "it is unset".to_owned());
        let (used, most) = (limit.used.to_string(), limit.concurrency.to_string());
        row([limit.tenant.clone(), name, used, most, none(), shown(&limit.by), until, note.join(": ")]);
    }
    for limit in &limits.plugins {
        let (name, used) = (format!("plugin {}", limit.plugin), limit.used.to_string());
        row([
            limit.tenant.clone(),
            name,
            used,
            limit.concurrency.to_string(),
            none(),
            none(),
            none(),
            none(),
        ]);
    }
    for limit in &limits.rates {
        let name = match limit.is_of_plugin {
            true => format!("rate of plugin {}", limit.name),
            false => format!("rate {}", limit.name),
        };
        let used = limit.burst.saturating_sub(limit.left).to_string();
        let next = limit.next_at.clone().unwrap_or_default();
        row([limit.tenant.clone(), name, used, limit.burst.to_string(), next, none(), none(), none()]);
    }
    if rows.is_empty() {
        return "there are no limits".to_owned();
    }
    fitted(&columns, rows, width, paint)
}
