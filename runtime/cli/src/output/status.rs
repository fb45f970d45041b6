//! Output of the fleet.

use std::time::Duration;

use comfy_table::Cell;
use sandhog_api::{DaemonDocument, DaemonsDocument, Time};
use sandhog_core::text;
use sandhog_daemon::vitals::FETCH_MAX;
use serde::Serialize;

use super::units::rough;
use super::{Column, Paint, fitted, of};

/// JSON document of `sandhog status`. Names and meanings stay as they are; more may come.
#[derive(Debug, Serialize)]
pub struct StatusDocument {
    /// The fleet.
    #[serde(flatten)]
    pub fleet: DaemonsDocument,
    /// Whether a daemon leases jobs.
    pub serves: bool,
}

impl StatusDocument {
    /// Creates the document of a fleet.
    #[must_use]
    pub fn new(fleet: DaemonsDocument) -> Self {
        let serves = fleet.daemons.iter().any(|daemon| state(daemon, fleet.time) == DaemonState::Serving);
        Self { fleet, serves }
    }
}

/// State of a daemon, by what it has told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DaemonState {
    /// Jobs are leased, or all slots are taken.
    Serving,
    /// Slots are free, and yet no jobs were looked for in too long a time.
    Stalled,
    /// Way down: nothing is leased any more.
    Draining,
    /// No plugin is in force, so there is nothing that could be leased.
    Empty,
    /// Interface alone: no jobs are run.
    Interface,
}

impl DaemonState {
    /// Returns the state in a word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Serving => "serving",
            Self::Stalled => "stalled",
            Self::Draining => "draining",
            Self::Empty => "no plugins",
            Self::Interface => "interface",
        }
    }
}

/// Returns the state of a daemon at the time of the look.
#[must_use]
pub fn state(daemon: &DaemonDocument, now: Time) -> DaemonState {
    // A daemon that has just started has had no time to fetch.
    let fetched = now.0.since(daemon.last_fetch.unwrap_or(daemon.started).0);
    if daemon.slots == 0 {
        DaemonState::Interface
    } else if daemon.draining {
        DaemonState::Draining
    } else if daemon.queues.is_empty() {
        DaemonState::Empty
    } else if daemon.slots_used < daemon.slots && fetched > FETCH_MAX {
        DaemonState::Stalled
    } else {
        DaemonState::Serving
    }
}

/// Returns how long ago a daemon leased jobs or saw that there were none.
#[must_use]
pub fn fetched(daemon: &DaemonDocument, now: Time) -> String {
    match daemon.last_fetch {
        Some(at) => format!("{} ago", rough(now.0.since(at.0))),
        None if daemon.slots == 0 => "–".to_owned(),
        None => "never".to_owned(),
    }
}

/// Returns the name of a daemon, or the end of its id if the name isn't told.
#[must_use]
pub fn name(daemon: &DaemonDocument) -> String {
    match &daemon.name {
        Some(name) => text::line(name).into_owned(),
        None => daemon.id.chars().skip(daemon.id.chars().count().saturating_sub(8)).collect(),
    }
}

/// Renders the fleet for people; at most `width` characters wide, if that is known.
#[must_use]
pub fn text(document: &StatusDocument, width: Option<usize>, paint: Paint) -> String {
    let StatusDocument { fleet, serves } = document;
    let mut text = match fleet.daemons.is_empty() {
        true => "no daemon has told of itself lately".to_owned(),
        false => table(fleet, width, paint),
    };
    if fleet.unreadable > 0 {
        text += &format!("\n{} more, of another version", of(fleet.unreadable, "daemon"));
    }
    if !serves {
        text += &format!("\n{}", paint.red("nobody serves: no job is run until a daemon does"));
    }
    text
}

fn table(fleet: &DaemonsDocument, width: Option<usize>, paint: Paint) -> String {
    let left = ["daemon", "state", "fetched or saw nothing"].map(Column::Left);
    let columns = left.into_iter().chain([Column::Right("slots"), Column::Right("plugins")]);
    let columns = columns.chain(["version", "up"].map(Column::Left)).chain([Column::Rest("tenants")]);
    let columns: Vec<Column> = columns.collect();
    let rows = fleet.daemons.iter().map(|daemon| {
        let up: Duration = fleet.time.0.since(daemon.started.0);
        let more = if daemon.complete { "" } else { " …" };
        vec![
            Cell::new(name(daemon)),
            Cell::new(state(daemon, fleet.time).word()),
            Cell::new(fetched(daemon, fleet.time)),
            Cell::new(format!("{}/{}", daemon.slots_used, daemon.slots)),
            Cell::new(daemon.plugins),
            Cell::new(text::line(&daemon.version)),
            Cell::new(rough(up)),
            Cell::new(format!("{}{more}", daemon.tenants.join(" "))),
        ]
    });
    fitted(&columns, rows.collect(), width, paint)
}

#[cfg(test)]
mod tests {
    use sandhog_api::ServedQueueDocument;
    use sandhog_core::time::Timestamp;

    use super::*;

    fn at(secs: u64) -> Time {
        Time(Timestamp::from_millis(secs * 1000))
    }

    fn daemon() -> DaemonDocument {
        DaemonDocument {
            id: "01KBEXAMPLE000000000DAEMON".into(),
            name: Some("one".into()),
            version: "1.2.3".into(),
            started: at(100),
            seen: at(999),
            last_fetch: Some(at(998)),
            slots: 8,
            slots_used: 3,
            draining: false,
            plugins: 2,
            tenants: vec!["acme".into()],
            queues: vec![ServedQueueDocument { tenant: "acme".into(), queue: "default".into() }],
            complete: true,
        }
    }

    fn fleet(daemons: Vec<DaemonDocument>) -> StatusDocument {
        StatusDocument::new(DaemonsDocument { time: at(1000), daemons, unreadable: 0 })
    }

    #[test]
    fn somebody_serves_who_leases_jobs_and_has_looked_for_some_lately() {
        let late = DaemonDocument { last_fetch: Some(at(900)), ..daemon() };
        let cases = [
            (daemon(), DaemonState::Serving),
            (late.clone(), DaemonState::Stalled),
            (DaemonDocument { slots_used: 8, ..late.clone() }, DaemonState::Serving),
            (DaemonDocument { last_fetch: None, ..daemon() }, DaemonState::Stalled),
            (DaemonDocument { last_fetch: None, started: at(990), ..daemon() }, DaemonState::Serving),
            (DaemonDocument { draining: true, ..daemon() }, DaemonState::Draining),
            (DaemonDocument { queues: Vec::new(), ..daemon() }, DaemonState::Empty),
            (DaemonDocument { slots: 0, slots_used: 0, ..daemon() }, DaemonState::Interface),
        ];
        for (daemon, expected) in cases {
            assert_eq!(state(&daemon, at(1000)), expected, "{daemon:?}");
            assert_eq!(fleet(vec![daemon]).serves, expected == DaemonState::Serving);
        }
        assert!(fleet(vec![late, daemon()]).serves, "one is enough");
        assert!(!fleet(Vec::new()).serves);
    }

    #[test]
    fn the_table_says_when_each_fetched_last() {
        let shown = text(&fleet(vec![daemon()]), None, Paint::Plain);
        for part in ["one", "serving", "2s ago", "3/8", "1.2.3", "15m", "acme"] {
            assert!(shown.contains(part), "{part}: {shown}");
        }
        assert!(!shown.contains("nobody serves"));
        assert!(text(&fleet(Vec::new()), None, Paint::Plain).contains("nobody serves"));
    }

    #[test]
    fn a_hostile_name_stays_on_its_line() {
        let shown = text(
            &fleet(vec![DaemonDocument { name: Some("a\u{1b}[2J\nb".into()), ..daemon() }]),
            None,
            Paint::Plain,
        );
        assert!(!shown.contains('\u{1b}'), "{shown:?}");
    }
}
