//! Output of queues.

use comfy_table::Cell;
pub use sandhog_api::{QueueDocument, QueuesDocument};
use sandhog_core::time::Timestamp;

use super::{Column, Paint, count, fitted, rough};

/// Renders queues for people, a line each. Ages are relative to `now`.
#[must_use]
pub fn table(document: &QueuesDocument, now: Timestamp, paint: Paint) -> String {
    let mut text = if document.queues.is_empty() {
        "no queue has jobs that wait or run".to_owned()
    } else {
        let columns = [
            Column::Left("tenant"),
            Column::Left("queue"),
            Column::Right("ready"),
            Column::Right("scheduled"),
            Column::Right("blocked"),
            Column::Right("leased"),
            Column::Left("oldest ready"),
            Column::Left("held"),
        ];
        fitted(&columns, document.queues.iter().map(|queue| row(queue, now)).collect(), None, paint)
    };
    if let Some(next) = &document.next {
        text += &format!("\nthere are more: --after {next}");
    }
    text
}

fn row(queue: &QueueDocument, now: Timestamp) -> Vec<Cell> {
    let number = |n: Option<u64>| Cell::new(n.map_or_else(|| "many".to_owned(), count));
    let age = queue.oldest_ready.map(|at| rough(now.since(at.0)));
    vec![
        Cell::new(&queue.tenant),
        Cell::new(&queue.queue),
        number(Some(queue.jobs.ready)),
        number(queue.jobs.scheduled),
        number(queue.jobs.blocked),
        number(queue.jobs.leased),
        Cell::new(age.unwrap_or_default()),
        Cell::new(if queue.held { "held" } else { "" }),
    ]
}
