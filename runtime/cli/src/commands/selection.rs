//! Selection of jobs: the options by which they are listed, and by which many are acted on.

use clap::Args;
use clap::builder::{NonEmptyStringValueParser, PossibleValuesParser, TypedValueParser};
use sandhog_broker::{Cursor, Filter, LastTimes};
use sandhog_core::id::{GroupKey, JobId, Kind, LabelName, LabelValue, QueueName, TenantId};
use sandhog_core::job::State;
use sandhog_core::labels::Labels;
use sandhog_core::reason::Reason;
use sandhog_core::time::Timestamp;

use crate::commands::times::{parse_age, parse_past};
use crate::exit::Failure;

/// What jobs have to be like.
#[derive(Debug, Args)]
pub(crate) struct Selection {
    /// Of one state only
    #[arg(long, short, value_parser = states())]
    pub(crate) state: Option<State>,
    /// Of one tenant only
    #[arg(long, short, value_name = "NAME")]
    pub(crate) tenant: Option<TenantId>,
    /// Of one queue only
    #[arg(long, value_name = "NAME")]
    pub(crate) queue: Option<QueueName>,
    /// Of one kind only
    #[arg(long, value_name = "KIND")]
    pub(crate) kind: Option<Kind>,
    /// Only those that are where they are for this reason, such as out-of-fuel
    #[arg(long, value_name = "REASON", value_parser = reasons(), hide_possible_values = true)]
    pub(crate) reason: Option<Reason>,
    /// Only those enqueued since then, such as 2026-11-24T18:00:00Z, 2026-11-24, or 90m for so long ago
    #[arg(long, value_name = "WHEN", value_parser = parse_past)]
    pub(crate) since: Option<Timestamp>,
    /// Only those enqueued before then
    #[arg(long, value_name = "WHEN", value_parser = parse_past)]
    pub(crate) until: Option<Timestamp>,
    /// Only those enqueued longer ago than this, such as 1h
    #[arg(long, value_name = "TIME", value_parser = parse_age, conflicts_with = "until")]
    pub(crate) older_than: Option<Timestamp>,
    /// Only those of this group
    #[arg(long, value_name = "KEY")]
    pub(crate) group: Option<GroupKey>,
    /// Only those with this label; may be given several times
    #[arg(long = "label", value_name = "NAME=VALUE", value_parser = Labels::parse)]
    pub(crate) labels: Vec<(LabelName, LabelValue)>,
    /// Only those whose message has this text in it
    #[arg(long, value_name = "TEXT", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) message: Option<String>,
}

/// The options of a [`Selection`] that say which jobs of a tenant are meant, by their names as arguments.
pub(crate) const PICKING: [&str; 10] =
    ["state", "queue", "kind", "reason", "since", "until", "older_than", "group", "labels", "message"];

fn states() -> impl TypedValueParser<Value = State> {
    let slugs = PossibleValuesParser::new(State::ALL.map(State::slug));
    slugs.map(|slug| State::from_slug(&slug).expect("only slugs of states are possible"))
}

fn reasons() -> impl TypedValueParser<Value = Reason> {
    let slugs = PossibleValuesParser::new(Reason::ALL.iter().map(|reason| reason.slug()));
    slugs.map(|slug| Reason::from_slug(&slug).expect("only slugs of reasons are possible"))
}

impl Selection {
    /// Returns the filter of the options other than state and tenant.
    ///
    /// # Errors
    /// If two labels have the same name, or there are more than a job may have.
    pub(crate) fn filter(&self) -> Result<Filter, Failure> {
        let labels = Labels::of(self.labels.iter().cloned());
        Ok(Filter {
            queue: self.queue.clone(),
            kind: self.kind.clone(),
            reason: self.reason,
            enqueued_from: self.since,
            enqueued_until: self.until.or(self.older_than),
            group: self.group.clone(),
            labels: labels.map_err(|wrong| Failure::new(wrong.to_string()))?,
            message: self.message.clone().unwrap_or_default(),
            last: LastTimes::default(),
        })
    }
}

/// Returns a cursor as it is printed: its rank and its job.
pub(crate) fn show_cursor(cursor: Cursor) -> String {
    format!("{}.{}", cursor.rank, cursor.id)
}

/// Parses a cursor as [`show_cursor`] prints it.
///
/// # Errors
/// If the text is not a cursor.
pub(crate) fn parse_cursor(text: &str) -> Result<Cursor, &'static str> {
    let parse = || {
        let (number, id) = text.split_once('.')?;
        let rank = number.parse::<u64>().ok().filter(|rank| rank.to_string() == number)?;
        Some(Cursor { rank, id: JobId::parse(id).ok()? })
    };
    parse().ok_or("a place in a list, as the last page names it: a number, a dot and the id of a job")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_as_it_is_shown() {
        let cursor = Cursor { rank: u64::MAX, id: JobId::from_parts(Timestamp::from_millis(7), 9) };
        assert_eq!(parse_cursor(&show_cursor(cursor)), Ok(cursor));
        for wrong in ["", "7", "7.", "+7.00000000070000000000000009", ".00000000070000000000000009"] {
            assert!(parse_cursor(wrong).is_err(), "{wrong}");
        }
    }
}
