//! Output of circuit breakers.

use comfy_table::Cell;
pub use sandhog_api::{BreakerDocument, BreakersDocument};
use sandhog_core::breaker::BreakerState;
use sandhog_core::text;

use super::{Column, Paint, clock, fitted};

/// Returns what a breaker goes by, for people.
fn why(breaker: &BreakerDocument) -> String {
    if let Some(problem) = &breaker.problem {
        return problem.clone();
    }
    if breaker.is_forced {
        let by = breaker.by.as_deref().map(|by| format!(" by {by}")).unwrap_or_default();
        let note = breaker.note.as_deref().map(|note| format!(": {note}")).unwrap_or_default();
        return text::line(&format!("by hand{by}{note}")).into_owned();
    }
    match breaker.ended {
        0 => String::new(),
        ended => format!("{} of {ended} runs failed", breaker.failed),
    }
}

fn state(breaker: &BreakerDocument) -> &str {
    breaker.state.as_deref().unwrap_or("unreadable")
}

/// Renders a breaker in a line.
#[must_use]
pub fn line(breaker: &BreakerDocument) -> String {
    let until = breaker.until().map(|until| format!(" until {}", clock(until))).unwrap_or_default();
    let why = Some(why(breaker)).filter(|why| !why.is_empty());
    let why = why.map(|why| format!(" ({why})")).unwrap_or_default();
    format!("breaker {} is {}{until}{why}", breaker.name, state(breaker))
}

/// Renders breakers for people, a line each; at most `width` characters wide, if that is known.
#[must_use]
pub fn table(breakers: &[BreakerDocument], width: Option<usize>, paint: Paint) -> String {
    if breakers.is_empty() {
        return "there are no breakers".to_owned();
    }
    let columns = ["tenant", "breaker", "state", "until", "why"].map(Column::Left);
    let columns: Vec<Column> = columns.into_iter().chain([Column::Rest("kinds")]).collect();
    let rows = breakers.iter().map(|breaker| {
        let is_closed = state(breaker) == BreakerState::Closed.slug();
        let until = match breaker.until() {
            Some(until) => clock(until),
            None if is_closed && !breaker.is_forced => String::new(),
            None => "it is reset".to_owned(),
        };
        vec![
            Cell::new(&breaker.tenant),
            Cell::new(&breaker.name),
            Cell::new(state(breaker)),
            Cell::new(until),
            Cell::new(why(breaker)),
            Cell::new(breaker.kinds.join(" ")),
        ]
    });
    fitted(&columns, rows.collect(), width, paint)
}
