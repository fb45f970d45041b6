//! How long it took until things went on, by fault: read off the history.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::Duration;

use crate::history::{Entry, Event, Run};

/// Times by what they are of, such as `term: until it has ended`.
pub(crate) type Recoveries = BTreeMap<String, Vec<Duration>>;

/// What runs of a daemon that was robbed of them waited for.
const NEXT_ATTEMPT: &str = "until the next attempt of what it ran";

/// The recoveries of a run.
pub(crate) fn of(entries: &[Entry]) -> Recoveries {
    let mut recoveries = Recoveries::new();
    for (nth, (at, event)) in entries.iter().enumerate() {
        let mut took = |fault: &str, what: &str, time: Duration| {
            recoveries.entry(format!("{fault}: {what}")).or_default().push(time);
        };
        let begun = || entries[nth..].iter().filter_map(|(at, event)| Some((at, run_begun(event)?)));
        match event {
            Event::Robbed { fault, daemon } => {
                for run in under_way(&entries[..nth], daemon) {
                    if let Some((then, _)) = begun().find(|(_, next)| is_next(run, next)) {
                        took(fault, NEXT_ATTEMPT, then.saturating_sub(*at));
                    }
                }
            }
            Event::Took { fault, what, time } => took(fault, what, *time),
            _ => {}
        }
    }
    recoveries
}

fn run_begun(event: &Event) -> Option<&Run> {
    match event {
        Event::Began(run) => Some(run),
        _ => None,
    }
}

fn is_next(run: &Run, next: &Run) -> bool {
    (&next.tenant, &next.job) == (&run.tenant, &run.job) && next.number != run.number
}

/// The runs of this daemon that have begun and not ended.
pub(crate) fn under_way<'a>(entries: &'a [Entry], daemon: &str) -> Vec<&'a Run> {
    let ended: BTreeSet<u64> = entries
        .iter()
        .filter_map(|(_, event)| match event {
            Event::Ended { run } => Some(*run),
            _ => None,
        })
        .collect();
    let begun = entries.iter().filter_map(|(_, event)| run_begun(event));
    begun.filter(|run| run.daemon == daemon && !ended.contains(&run.number)).collect()
}

/// Adds those of another run.
pub(crate) fn add(sum: &mut Recoveries, more: Recoveries) {
    for (what, mut times) in more {
        sum.entry(what).or_default().append(&mut times);
    }
}

/// A table: how often, the middle one, the longest.
pub(crate) fn table(recoveries: &Recoveries) -> String {
    let mut text = String::new();
    let width = recoveries.keys().map(|what| what.chars().count()).max().unwrap_or_default();
    for (what, times) in recoveries {
        let mut times = times.clone();
        times.sort_unstable();
        let (middle, longest) = (times[times.len() / 2], times[times.len() - 1]);
        let _ = writeln!(
            text,
            "  {what:width$}  {:5} times  median {:6.3} s  max {:6.3} s",
            times.len(),
            middle.as_secs_f64(),
            longest.as_secs_f64()
        );
    }
    text
}

/// What a daemon was robbed of is looked for, what it had ended before isn't.
pub(crate) fn times_are_read_off_the_history() {
    let run = |number: u64, daemon: &str, job: &str| Run {
        number,
        daemon: daemon.to_owned(),
        tenant: "acme".to_owned(),
        job: job.to_owned(),
        attempt: 1,
    };
    let millis = Duration::from_millis;
    let entries = [
        (millis(0), Event::Began(run(1, "d0.1", "a"))),
        (millis(1), Event::Began(run(2, "d0.1", "b"))),
        (millis(2), Event::Began(run(3, "d1.1", "c"))),
        (millis(3), Event::Ended { run: 2 }),
        (millis(10), Event::Robbed { fault: "kill", daemon: "d0.1".to_owned() }),
        (millis(40), Event::Began(run(4, "d0.2", "b"))),
        (millis(70), Event::Began(run(5, "d1.1", "a"))),
        (millis(80), Event::Took { fault: "term", what: "until it has ended", time: millis(7) }),
    ];
    let expected = [
        (format!("kill: {NEXT_ATTEMPT}"), vec![millis(60)]),
        ("term: until it has ended".to_owned(), vec![millis(7)]),
    ];
    assert_eq!(of(&entries), Recoveries::from(expected));
}
