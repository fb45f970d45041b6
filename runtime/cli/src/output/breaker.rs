//! Output of circuit breakers.

use comfy_table::Cell;
use sandhog_core::breaker::BreakerState;
use sandhog_core::id::TenantId;
use sandhog_core::text;
use sandhog_core::time::Timestamp;
use sandhog_daemon::service::breakers::Found;
use serde::Serialize;

use super::{Column, Paint, clock, fitted, rfc3339};

/// JSON document of a breaker. Names and meanings stay as they are; more may come.
#[derive(Debug, Serialize)]
pub struct BreakerDocument {
    /// The tenant.
    pub tenant: String,
    /// Name of the breaker: a downstream, or `plugin/` and the name of a plugin.
    pub name: String,
    /// `closed`, `open` or `half-open`; null if the record can't be read.
    pub state: Option<&'static str>,
    /// Kinds whose jobs it holds back while it isn't closed.
    pub kinds: Vec<String>,
    /// Number of runs that failed: those within its window, or those that have opened it.
    pub failed: u64,
    /// Number of all of those runs.
    pub ended: u64,
    /// Time since which it isn't closed; null if it is.
    pub since: Option<String>,
    /// Time at which its state changes by itself; null if there is none.
    pub until: Option<String>,
    /// Whether somebody has opened or closed it by hand.
    pub is_forced: bool,
    /// Who has; null if nobody has, or that is unknown.
    pub by: Option<String>,
    /// Their remark.
    pub note: Option<String>,
    /// Why the record can't be read; null if it can be.
    pub problem: Option<String>,
    #[serde(skip)]
    until_time: Option<Timestamp>,
}

/// JSON document of breakers.
#[derive(Debug, Serialize)]
pub struct BreakersDocument {
    /// The breakers, by tenant and name.
    pub breakers: Vec<BreakerDocument>,
}

impl BreakerDocument {
    /// Creates the document of a tenant's breaker, as it is at this time.
    #[must_use]
    pub fn new(tenant: &TenantId, found: &Found, now: Timestamp) -> Self {
        let Found { name, terms, record } = found;
        let breaker = record.as_ref().ok().map(|breaker| breaker.at(now));
        let terms = terms.clone().unwrap_or_default();
        let kinds = if terms.kinds.is_empty() {
            breaker.as_ref().map(|breaker| breaker.kinds().clone()).unwrap_or_default()
        } else {
            terms.kinds
        };
        let tally = breaker.as_ref().map(|breaker| breaker.tally(now, &terms.rule)).unwrap_or_default();
        let forced = breaker.as_ref().and_then(|breaker| breaker.forced(now));
        let gate = breaker.as_ref().and_then(|breaker| breaker.gate()?.swept(now));
        let until_time = match forced {
            Some(forced) => forced.until,
            None => gate.as_ref().and_then(|gate| gate.next()),
        };
        Self {
            tenant: tenant.to_string(),
            name: name.to_string(),
            state: breaker.as_ref().map(|breaker| breaker.state(now).slug()),
            kinds: kinds.iter().map(ToString::to_string).collect(),
            failed: tally.failed,
            ended: tally.ended(),
            since: gate.as_ref().and_then(|gate| rfc3339(gate.since)),
            until: until_time.and_then(rfc3339),
            is_forced: forced.is_some(),
            by: forced.and_then(|forced| forced.by.clone()),
            note: forced.and_then(|forced| forced.note.clone()),
            problem: record.as_ref().err().cloned(),
            until_time,
        }
    }

    /// Returns what the breaker goes by, for people.
    fn why(&self) -> String {
        if let Some(problem) = &self.problem {
            return problem.clone();
        }
        if self.is_forced {
            let by = self.by.as_deref().map(|by| format!(" by {by}")).unwrap_or_default();
            let note = self.note.as_deref().map(|note| format!(": {note}")).unwrap_or_default();
            return text::line(&format!("by hand{by}{note}")).into_owned();
        }
        match self.ended {
            0 => String::new(),
            ended => format!("{} of {ended} runs failed", self.failed),
        }
    }

    fn state(&self) -> &'static str {
        self.state.unwrap_or("unreadable")
    }
}

/// Renders a breaker in a line.
#[must_use]
pub fn line(breaker: &BreakerDocument) -> String {
    let until = breaker.until_time.map(|until| format!(" until {}", clock(until))).unwrap_or_default();
    let why = Some(breaker.why()).filter(|why| !why.is_empty());
    let why = why.map(|why| format!(" ({why})")).unwrap_or_default();
    format!("breaker {} is {}{until}{why}", breaker.name, breaker.state())
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
        let is_closed = breaker.state() == BreakerState::Closed.slug();
        let until = match breaker.until_time {
            Some(until) => clock(until),
            None if is_closed && !breaker.is_forced => String::new(),
            None => "it is reset".to_owned(),
        };
        vec![
            Cell::new(&breaker.tenant),
            Cell::new(&breaker.name),
            Cell::new(breaker.state()),
            Cell::new(until),
            Cell::new(breaker.why()),
            Cell::new(breaker.kinds.join(" ")),
        ]
    });
    fitted(&columns, rows.collect(), width, paint)
}
