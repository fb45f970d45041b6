//! Output of schedules. Times are shown by the clock of the schedule's zone, with its offset.

use comfy_table::Cell;
pub(crate) use sandhog_api::{NEXT_SHOWN, NextDocument, ScheduleDocument, SchedulesDocument};
use sandhog_api::{ScheduleChangedDocument, Time, UnreadScheduleDocument};
use sandhog_core::id::{JobId, ScheduleName, TenantId};
use sandhog_core::schedule::{Base, Cron, Past, Record, Source, Zone};
use sandhog_core::text;
use sandhog_core::time::Timestamp;
use sandhog_daemon::service::schedules::Found;

use super::console::Console;
use super::{Column, Paint, pairs, table};
use crate::exit::{Exit, Failure};

/// Schedule of a list.
pub(crate) struct Listed {
    pub(crate) tenant: TenantId,
    /// Time of the look, by the store's clock.
    pub(crate) now: Timestamp,
    pub(crate) found: Found,
}

/// Creates the document of these schedules.
pub(crate) fn document(all: &[Listed]) -> SchedulesDocument {
    let (mut schedules, mut unread) = (Vec::new(), Vec::new());
    for Listed { tenant, now, found } in all {
        match &found.record {
            Ok(record) => schedules.push(ScheduleDocument::new(tenant, record, *now)),
            Err(problem) => unread.push(UnreadScheduleDocument {
                tenant: tenant.to_string(),
                schedule: found.name.to_string(),
                problem: problem.clone(),
            }),
        }
    }
    SchedulesDocument { schedules, unread }
}

/// Renders a list of schedules as a table.
pub(crate) fn table_of(all: &[Listed], paint: Paint) -> String {
    let columns = [
        Column::Left("tenant"),
        Column::Left("schedule"),
        Column::Left("next"),
        Column::Left("last"),
        Column::Right("fired"),
        Column::Right("skipped"),
        Column::Right("missed"),
        Column::Left("from"),
        Column::Rest("state"),
    ];
    let rows = all.iter().map(|Listed { tenant, now, found }| {
        let head = [Cell::new(tenant), Cell::new(&found.name)];
        let rest: [String; 7] = match &found.record {
            Ok(record) => row(record, *now),
            Err(problem) => {
                let mut row = <[String; 7]>::default();
                row[6] = format!("unreadable: {}", text::line(problem));
                row
            }
        };
        head.into_iter().chain(rest.into_iter().map(Cell::new)).collect()
    });
    table(&columns, rows, paint)
}

fn row(record: &Record, now: Timestamp) -> [String; 7] {
    let Record { schedule, progress } = record;
    let zone = schedule.times.zone();
    let next = match record.next(now, 1).first() {
        Some((_, effective)) if !record.is_paused() => zone.show(*effective),
        _ => "–".to_owned(),
    };
    let last = progress.last.back().map_or_else(|| "–".to_owned(), |past| zone.show(past.nominal));
    let counts = progress.counts;
    [
        next,
        last,
        (counts.fired.saturating_add(counts.by_hand)).to_string(),
        counts.skipped.to_string(),
        counts.missed.to_string(),
        source(&schedule.source),
        state(record),
    ]
}

fn source(source: &Source) -> String {
    match source {
        Source::Plugin(plugin) => plugin.to_string(),
        Source::Command => "a command".to_owned(),
    }
}

fn state(record: &Record) -> String {
    match &record.progress.pause {
        Some(pause) => {
            let since = record.schedule.times.zone().show(pause.since);
            let note = match text::line(&pause.note) {
                note if note.is_empty() => String::new(),
                note => format!(": {note}"),
            };
            let by = pause.by.as_ref().map(|by| format!(" by {}", text::line(by))).unwrap_or_default();
            format!("paused{by} since {since}{note}")
        }
        None if record.schedule.paused => "paused by its definition".to_owned(),
        None if record.is_over() => "over".to_owned(),
        None => match record.progress.waiting.len() {
            0 => String::new(),
            waiting => format!("{waiting} waiting for the run before"),
        },
    }
}

/// Renders a schedule with its last and its next times.
pub(crate) fn whole(tenant: &TenantId, record: &Record, now: Timestamp, paint: Paint) -> String {
    let Record { schedule, progress } = record;
    let zone = schedule.times.zone();
    let crons = |crons: &[Cron]| crons.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
    let time = sandhog_config::units::time;
    let when = match schedule.times.base() {
        Base::Cron(all) => crons(all),
        Base::Every { period, phase } if phase.is_zero() => format!("every {}", time(*period)),
        Base::Every { period, phase } => format!("every {}, {} later", time(*period), time(*phase)),
    };
    let counts = progress.counts;
    let mut lines = vec![
        ("schedule", schedule.name.to_string()),
        ("tenant", tenant.to_string()),
        ("from", source(&schedule.source)),
        ("when", when),
    ];
    if !schedule.times.exclude().is_empty() {
        lines.push(("not", crons(schedule.times.exclude())));
    }
    lines.push(("timezone", zone.name().to_owned()));
    let bounds = [("start", schedule.times.start()), ("end", schedule.times.end())];
    lines.extend(bounds.into_iter().filter_map(|(key, at)| Some((key, zone.show(at?)))));
    lines.push(("jobs", format!("{}, on queue {}", schedule.job.kind, schedule.job.queue)));
    if !schedule.spread.is_zero() {
        lines.push(("spread", time(schedule.spread)));
    }
    if let Some(times_max) = schedule.times_max {
        lines.push(("times", format!("{times_max} at most")));
    }
    let catch_up = schedule.catch_up;
    lines.push(("catch-up", format!("the latest {} within {}", catch_up.most, time(catch_up.window))));
    lines.push(("overlap", schedule.overlap.slug().to_owned()));
    let by_hand = if counts.by_hand > 0 { format!(", {} by hand", counts.by_hand) } else { String::new() };
    lines.push((
        "counts",
        format!("{} fired{by_hand}, {} skipped, {} missed", counts.fired, counts.skipped, counts.missed),
    ));
    let state = state(record);
    if !state.is_empty() {
        lines.push(("state", state));
    }
    let mut text = pairs(lines, paint);
    if !progress.last.is_empty() {
        let columns =
            [Column::Left("last"), Column::Left("done at"), Column::Left("job"), Column::Rest("remark")];
        let rows = progress.last.iter().map(|Past { nominal, at, what }| {
            let job = what.job().map_or_else(|| "–".to_owned(), |job| job.to_string());
            [zone.show(*nominal), zone.show(*at), job, what.remark()].map(Cell::new).to_vec()
        });
        text += &format!("\n\n{}", table(&columns, rows, paint));
    }
    let next = record.next(now, NEXT_SHOWN);
    if !next.is_empty() {
        text += &format!("\n\n{}", next_table(zone, &next, paint));
    }
    text
}

/// Renders the next times as a table, with a remark where the clock has changed.
pub(crate) fn next_table(zone: &Zone, next: &[(Timestamp, Timestamp)], paint: Paint) -> String {
    let columns =
        [Column::Left("next"), Column::Left("effective"), Column::Left("in UTC"), Column::Rest("remark")];
    let mut before: Option<String> = None;
    let rows = next.iter().map(|(nominal, effective)| {
        let shown = zone.show(*nominal);
        let offset = shown.rsplit(' ').next().unwrap_or_default().to_owned();
        let remark = match before.replace(offset.clone()) {
            Some(before) if before != offset => format!("the clock has changed from {before}"),
            _ => String::new(),
        };
        let effective = if effective == nominal { "–".to_owned() } else { zone.show(*effective) };
        [shown, effective, Time(*nominal).to_string(), remark].map(Cell::new).to_vec()
    });
    table(&columns, rows, paint)
}

/// Prints what was done to a schedule.
pub(crate) fn tell(
    console: &Console,
    tenant: &TenantId,
    schedule: &ScheduleName,
    done: &str,
    jobs: &[JobId],
) -> Result<Exit, Failure> {
    let ids = || jobs.iter().map(ToString::to_string);
    let document = ScheduleChangedDocument {
        tenant: tenant.to_string(),
        schedule: schedule.to_string(),
        done: done.to_owned(),
        jobs: ids().collect(),
    };
    console.show(&document, || match jobs.is_empty() {
        true => format!("{schedule} {done}"),
        false => ids().collect::<Vec<_>>().join("\n"),
    })?;
    Ok(Exit::Ok)
}
