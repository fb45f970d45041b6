//! Output of schedules. Times are shown by the clock of the schedule's zone, with its offset.

use std::time::Duration;

use comfy_table::Cell;
pub(crate) use sandhog_api::{NextDocument, ScheduleChangedDocument, SchedulesDocument};
use sandhog_api::{PastDocument, PauseDocument, ScheduleDocument, TimeDocument, UnreadScheduleDocument};
use sandhog_core::schedule::Zone;
use sandhog_core::text;

use super::console::Console;
use super::{Column, Paint, pairs, table};
use crate::exit::{Exit, Failure};

/// Renders a list of schedules as a table, with those that can't be read at its end.
pub(crate) fn table_of(all: &SchedulesDocument, paint: Paint) -> String {
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
    let read = all.schedules.iter().map(row);
    let unread = all.unread.iter().map(|UnreadScheduleDocument { tenant, schedule, problem }| {
        let state = format!("unreadable: {}", text::line(problem));
        let blank = String::new;
        [tenant.clone(), schedule.clone(), blank(), blank(), blank(), blank(), blank(), blank(), state]
    });
    let rows = read.chain(unread).map(|row| row.into_iter().map(Cell::new).collect());
    table(&columns, rows, paint)
}

/// Returns the zone of a schedule; UTC if this machine doesn't know it.
pub(crate) fn zone(schedule: &ScheduleDocument) -> Zone {
    Zone::parse(&schedule.timezone).unwrap_or_else(|_| Zone::utc())
}

fn row(schedule: &ScheduleDocument) -> [String; 9] {
    let zone = zone(schedule);
    let next = match schedule.next.first() {
        Some(next) if schedule.paused.is_none() => zone.show(next.effective.0),
        _ => "–".to_owned(),
    };
    let last = schedule.last.last().map_or_else(|| "–".to_owned(), |past| zone.show(past.nominal.0));
    [
        schedule.tenant.clone(),
        schedule.schedule.clone(),
        next,
        last,
        (schedule.fired.saturating_add(schedule.by_hand)).to_string(),
        schedule.skipped.to_string(),
        schedule.missed.to_string(),
        source(schedule),
        state(schedule),
    ]
}

fn source(schedule: &ScheduleDocument) -> String {
    schedule.plugin.clone().unwrap_or_else(|| "a command".to_owned())
}

fn state(schedule: &ScheduleDocument) -> String {
    match &schedule.paused {
        Some(PauseDocument { by, since: Some(since), note }) => {
            let since = zone(schedule).show(since.0);
            let note = match text::line(note) {
                note if note.is_empty() => String::new(),
                note => format!(": {note}"),
            };
            let by = by.as_ref().map(|by| format!(" by {}", text::line(by))).unwrap_or_default();
            format!("paused{by} since {since}{note}")
        }
        Some(PauseDocument { since: None, .. }) => "paused by its definition".to_owned(),
        None if schedule.is_over => "over".to_owned(),
        None => match schedule.waiting {
            0 => String::new(),
            waiting => format!("{waiting} waiting for the run before"),
        },
    }
}

/// Renders a schedule with its last and its next times.
pub(crate) fn whole(schedule: &ScheduleDocument, paint: Paint) -> String {
    let zone = zone(schedule);
    let time = |millis| sandhog_config::units::time(Duration::from_millis(millis));
    let when = match (schedule.every_ms, schedule.phase_ms.unwrap_or_default()) {
        (None, _) => schedule.cron.join("; "),
        (Some(period), 0) => format!("every {}", time(period)),
        (Some(period), phase) => format!("every {}, {} later", time(period), time(phase)),
    };
    let mut lines = vec![
        ("schedule", schedule.schedule.clone()),
        ("tenant", schedule.tenant.clone()),
        ("from", source(schedule)),
        ("when", when),
    ];
    if !schedule.exclude.is_empty() {
        lines.push(("not", schedule.exclude.join("; ")));
    }
    lines.push(("timezone", schedule.timezone.clone()));
    let bounds = [("start", schedule.start), ("end", schedule.end)];
    lines.extend(bounds.into_iter().filter_map(|(key, at)| Some((key, zone.show(at?.0)))));
    lines.push(("jobs", format!("{}, on queue {}", schedule.kind, schedule.queue)));
    if schedule.spread_ms > 0 {
        lines.push(("spread", time(schedule.spread_ms)));
    }
    if let Some(times_max) = schedule.times_max {
        lines.push(("times", format!("{times_max} at most")));
    }
    let window = time(schedule.catch_up_window_ms);
    lines.push(("catch-up", format!("the latest {} within {window}", schedule.catch_up_most)));
    lines.push(("overlap", schedule.overlap.to_string()));
    let ScheduleDocument { fired, by_hand, skipped, missed, .. } = schedule;
    let by_hand = if *by_hand > 0 { format!(", {by_hand} by hand") } else { String::new() };
    lines.push(("counts", format!("{fired} fired{by_hand}, {skipped} skipped, {missed} missed")));
    let state = state(schedule);
    if !state.is_empty() {
        lines.push(("state", state));
    }
    let mut text = pairs(lines, paint);
    if !schedule.last.is_empty() {
        let columns =
            [Column::Left("last"), Column::Left("done at"), Column::Left("job"), Column::Rest("remark")];
        let rows = schedule.last.iter().map(|PastDocument { nominal, at, job, remark }| {
            let job = job.clone().unwrap_or_else(|| "–".to_owned());
            [zone.show(nominal.0), zone.show(at.0), job, remark.clone()].map(Cell::new).to_vec()
        });
        text += &format!("\n\n{}", table(&columns, rows, paint));
    }
    if !schedule.next.is_empty() {
        text += &format!("\n\n{}", next_table(&zone, &schedule.next, paint));
    }
    text
}

/// Renders the next times as a table, with a remark where the clock has changed.
pub(crate) fn next_table(zone: &Zone, next: &[TimeDocument], paint: Paint) -> String {
    let columns =
        [Column::Left("next"), Column::Left("effective"), Column::Left("in UTC"), Column::Rest("remark")];
    let mut before: Option<String> = None;
    let rows = next.iter().map(|TimeDocument { nominal, effective, .. }| {
        let shown = zone.show(nominal.0);
        let offset = shown.rsplit(' ').next().unwrap_or_default().to_owned();
        let remark = match before.replace(offset.clone()) {
            Some(before) if before != offset => format!("the clock has changed from {before}"),
            _ => String::new(),
        };
        let effective = if effective == nominal { "–".to_owned() } else { zone.show(effective.0) };
        [shown, effective, nominal.to_string(), remark].map(Cell::new).to_vec()
    });
    table(&columns, rows, paint)
}

/// Prints what was done to a schedule.
pub(crate) fn tell(console: &Console, changed: &ScheduleChangedDocument) -> Result<Exit, Failure> {
    let ScheduleChangedDocument { schedule, done, jobs, .. } = changed;
    console.show(changed, || match jobs.is_empty() {
        true => format!("{schedule} {done}"),
        false => jobs.join("\n"),
    })?;
    Ok(Exit::Ok)
}
