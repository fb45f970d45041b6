//! Output of jobs.

use comfy_table::Cell;
pub use sandhog_api::{
    Answer, AnswerDocument, AwaitedDocument, Content, CountsDocument, EnqueuedDocument, JobDocument,
    LogDocument, PageDocument, Payloads, ProgressDocument, StateCounts, UnreadDocument, UsageDocument,
    WaitDocument,
};
use sandhog_broker::{Counts, Unread};
use sandhog_core::history::AttemptRecord;
use sandhog_core::id::TenantId;
use sandhog_core::job::{JobRecord, LogLine, Progress, State};
use sandhog_core::outcome::Usage;
use sandhog_core::reason::Reason;
use sandhog_core::text;
use sandhog_core::time::Timestamp;
use sandhog_daemon::unique;

use super::{
    Color, Column, Paint, bytes, clock, content, count, duration, fitted, pairs, rfc3339, rough, state_cell,
    table,
};

/// Renders all that is known of a job, for people, with what its document has beside the record. `waits_for` has what a blocked job waits for, a line each.
#[must_use]
pub fn job(
    job: &JobRecord,
    document: &JobDocument,
    waits_for: &[String],
    log: &[LogLine],
    paint: Paint,
) -> String {
    let mut lines = vec![("job", paint.bold(&job.id.to_string())), ("state", standing(job, paint))];
    lines.extend((!document.waits.is_empty()).then(|| ("waits", told(&document.waits))));
    lines.extend(job.message.as_deref().map(|message| ("why", text::block(message).into_owned())));
    if !waits_for.is_empty() {
        lines.push(("waits for", waits_for.join("\n")));
    }
    lines.extend(job.options.flow.map(|member| ("flow", member.flow.to_string())));
    lines.push(("kind", job.kind.to_string()));
    lines.push(("tenant", job.tenant.to_string()));
    lines.push(("queue", format!("{} (priority {})", job.queue, job.priority.0)));
    let unique_key = job.unique_key.as_ref().map(|key| unique::shown(&job.kind, key).to_owned());
    lines.extend(unique_key.map(|key| ("unique key", text::line(&key).into_owned())));
    lines.extend(job.options.group.as_ref().map(|key| ("group", text::line(key.as_str()).into_owned())));
    let labels: Vec<String> = labels(job).map(|(name, value)| format!("{name}={value}")).collect();
    if !labels.is_empty() {
        lines.push(("labels", text::line(&labels.join(", ")).into_owned()));
    }
    lines.extend(job.options.content_type.as_ref().map(|content| ("type", content.to_string())));
    lines.extend(job.options.trace.as_ref().map(|trace| ("trace", trace.parent.to_string())));
    lines.push(("attempts", attempts(job)));
    lines.extend(times(job));
    lines.extend(job.progress.as_ref().map(|report| ("progress", progress(report))));
    lines.push(("usage", usage(&job.usage)));
    lines.extend(job.revision.map(|revision| ("revision", revision.short())));
    match &job.unreadable {
        Some(unreadable) => lines.push(("unreadable", text::block(unreadable).into_owned())),
        // Not every role gets to see it.
        None if document.payload.is_none() => {}
        None => lines.push(("payload", cut(content(&job.payload), "--payload"))),
    }
    lines.extend(job.output.as_ref().map(|output| ("output", cut(content(output), "--output"))));
    let mut text = pairs(lines, paint);
    let attempts = job.ended_attempts();
    if attempts.iter().any(|attempt| attempt.reason.is_some()) {
        text += &format!("\n\n{}", history(&attempts, paint));
    }
    if !log.is_empty() {
        text += &format!("\n\n{}\n", paint.bold("log"));
        text += &log.iter().map(|line| log_line(line, paint)).collect::<Vec<_>>().join("\n");
    }
    text
}

/// Renders all that a job waits for in a line.
fn told(waits: &[WaitDocument]) -> String {
    waits.iter().map(|wait| wait.text.as_str()).collect::<Vec<_>>().join("; ")
}

/// Renders the latest attempts that have ended, a line each.
fn history(attempts: &[AttemptRecord], paint: Paint) -> String {
    let known = |text: Option<String>| Cell::new(text.unwrap_or_else(|| "-".to_owned()));
    let rows = attempts.iter().map(|record| {
        vec![
            Cell::new(record.attempt),
            Cell::new(clock(record.ended_at)),
            Cell::new(duration(record.ended_at.since(record.leased_at))),
            Cell::new(record.reason.map_or_else(|| State::Succeeded.slug(), Reason::slug)),
            Cell::new(count(record.usage.fuel.0)),
            known(record.revision.map(|revision| revision.short())),
            known(record.daemon.map(|daemon| daemon.to_string())),
            Cell::new(record.message.as_deref().map(text::line).unwrap_or_default()),
        ]
    });
    let columns = [
        Column::Right("attempt"),
        Column::Left("ended"),
        Column::Right("after"),
        Column::Left("as"),
        Column::Right("fuel"),
        Column::Left("revision"),
        Column::Left("daemon"),
        Column::Left("message"),
    ];
    table(&columns, rows, paint)
}

/// Maximum length of a text that is shown in full, in bytes.
const SHOWN_MAX: usize = 8 << 10;

/// Cuts a text that is too long, and names the option that prints all of it.
fn cut(text: String, option: &str) -> String {
    if text.len() <= SHOWN_MAX {
        return text;
    }
    let (shown, all) = (&text[..text.floor_char_boundary(SHOWN_MAX)], bytes(text.len() as u64));
    format!("{shown}…\n(the first of {all}; {option} prints it as it is)")
}

/// Renders the state and its reason.
#[must_use]
pub fn standing(job: &JobRecord, paint: Paint) -> String {
    let state = paint.state(job.state);
    match job.reason {
        Some(reason) if reason.slug() != job.state.slug() => format!("{state}: {reason}"),
        _ => state,
    }
}

fn attempts(job: &JobRecord) -> String {
    match job.expiries {
        0 => job.attempts.to_string(),
        n => format!(
            "{}, and {} ran out because a daemon vanished",
            job.attempts,
            super::of(n.into(), "lease")
        ),
    }
}

fn times(job: &JobRecord) -> Vec<(&'static str, String)> {
    let after = |at: sandhog_core::time::Timestamp| duration(at.since(job.enqueued_at));
    let mut times = vec![("enqueued", clock(job.enqueued_at))];
    times.extend(job.due_at.map(|at| ("due", format!("{} (after {})", clock(at), after(at)))));
    times.extend(job.leased_at.map(|at| ("leased", format!("{} (after {})", clock(at), after(at)))));
    times.extend(job.lease_expires_at.map(|at| ("lease until", clock(at))));
    times.extend(job.start_by().map(|at| ("start by", clock(at))));
    times.extend(job.deadline().map(|at| ("deadline", clock(at))));
    times.extend(job.finished_at.map(|at| ("finished", format!("{} (after {})", clock(at), after(at)))));
    times
}

fn labels(job: &JobRecord) -> impl Iterator<Item = (String, String)> {
    job.options.labels.iter().map(|(name, value)| (name.to_string(), value.to_string()))
}

/// Renders the progress of a job.
#[must_use]
pub fn progress(progress: &Progress) -> String {
    let done = match progress.total {
        Some(total) => format!("{} of {total}", progress.done),
        None => progress.done.to_string(),
    };
    match &progress.message {
        Some(message) => format!("{done}: {}", text::line(message)),
        None => done,
    }
}

/// Renders the usage of runs.
#[must_use]
pub fn usage(usage: &Usage) -> String {
    let (fuel, memory) = (count(usage.fuel.0), bytes(usage.memory_peak.0));
    let (wall, cpu) = (duration(usage.wall), duration(usage.cpu));
    format!("fuel {fuel}, memory {memory}, time {wall} (processor {cpu}), host calls {}", usage.host_calls)
}

/// Renders a line of a log.
#[must_use]
pub fn log_line(line: &LogLine, paint: Paint) -> String {
    let fields: String = line
        .fields
        .iter()
        .map(|(name, value)| format!(" {}={}", text::line(name), text::line(value)))
        .collect();
    let at = paint.dim(&format!("{} #{}", clock(line.at), line.attempt));
    format!("{at} {:5} {}{}", line.level.slug(), text::line(&line.message), paint.dim(&fields))
}

/// Whether a table names each job's tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tenants {
    /// There is only one tenant.
    One,
    /// There are several tenants.
    Several,
}

/// Renders jobs for people, each with what it waits for, a line each; at most `width` characters wide, if that is known. Times are
/// relative to `now`.
#[must_use]
pub fn jobs(
    jobs: &[&(JobRecord, JobDocument)],
    tenants: Tenants,
    now: Timestamp,
    width: Option<usize>,
    paint: Paint,
) -> String {
    let mut columns = vec![Column::Left("job")];
    if tenants == Tenants::Several {
        columns.push(Column::Left("tenant"));
    }
    columns.extend(["kind", "queue", "state", "reason"].map(Column::Left));
    columns.extend([Column::Right("attempts"), Column::Left("when")]);
    columns.extend(["fuel", "memory", "time", "cpu"].map(Column::Spare));
    columns.push(Column::Rest("message"));
    let rows = jobs.iter().map(|(job, document)| row(job, &document.waits, tenants, now)).collect();
    fitted(&columns, rows, width, paint)
}

fn row(job: &JobRecord, waits: &[WaitDocument], tenants: Tenants, now: Timestamp) -> Vec<Cell> {
    let mut cells = vec![Cell::new(job.id)];
    if tenants == Tenants::Several {
        cells.push(Cell::new(&job.tenant));
    }
    let reason = job.reason.map(|reason| reason.slug()).filter(|reason| *reason != job.state.slug());
    cells.extend([Cell::new(&job.kind), Cell::new(&job.queue), state_cell(job.state)]);
    cells.push(Cell::new(reason.unwrap_or_default()));
    cells.push(Cell::new(job.attempts));
    cells.push(Cell::new(when(job, now)));
    let ran = job.usage != Usage::default();
    let spent = |text: String| Cell::new(if ran { text } else { String::new() });
    cells.push(spent(count(job.usage.fuel.0)));
    cells.push(spent(bytes(job.usage.memory_peak.0)));
    cells.push(spent(duration(job.usage.wall)));
    cells.push(spent(duration(job.usage.cpu)));
    // When a job is due has a column of its own.
    let holds_back = |wait: &&WaitDocument| {
        wait.hold.is_some() || wait.limit.is_some() || wait.rate.is_some() || wait.group.is_some()
    };
    let held: Vec<&str> = waits.iter().filter(holds_back).map(|wait| wait.text.as_str()).collect();
    let held = held.join("; ");
    let message = job.message.as_deref().or(job.unreadable.as_deref()).unwrap_or_default();
    let message = text::line(message.lines().next().unwrap_or_default());
    cells.push(Cell::new(if held.is_empty() { message.into_owned() } else { held }));
    cells
}

/// Returns the colour of a state.
pub(super) fn color(state: State) -> Color {
    match state {
        State::Blocked | State::Scheduled | State::Ready => Color::Cyan,
        State::Leased => Color::Blue,
        State::Succeeded => Color::Green,
        State::Dead => Color::Red,
        State::Cancelled => Color::Yellow,
    }
}

/// Renders when something happens to a job, or happened last.
fn when(job: &JobRecord, now: Timestamp) -> String {
    let ago = |at: Timestamp| format!("{} ago", rough(now.since(at)));
    match job.state {
        State::Scheduled => match job.due_at {
            Some(due) if rfc3339(due).is_none() => "due never".to_owned(),
            Some(due) => format!("due in {}", rough(due.since(now))),
            None => String::new(),
        },
        State::Blocked | State::Ready => format!("enqueued {}", ago(job.enqueued_at)),
        State::Leased => job.leased_at.map(|at| format!("leased {}", ago(at))).unwrap_or_default(),
        State::Succeeded | State::Dead | State::Cancelled => {
            job.finished_at.map(|at| format!("finished {}", ago(at))).unwrap_or_default()
        }
    }
}

/// Renders a job that can't be read, for people.
#[must_use]
pub fn unread(unread: &Unread) -> String {
    format!("{} can't be read: {}", unread.id, text::line(&unread.problem))
}

/// Renders the number of a tenant's jobs in each state.
#[must_use]
pub fn counts(tenant: &TenantId, counts: Counts, paint: Paint) -> String {
    let there = counts.iter().filter(|(_, n)| *n > 0);
    let there: Vec<String> = there.map(|(state, n)| format!("{n} {}", paint.state(state))).collect();
    let there = if there.is_empty() { "no jobs".to_owned() } else { there.join(", ") };
    format!("{}: {there}", paint.bold(tenant.as_str()))
}

/// Renders the outcome of a job that was waited for, for people. The id has been printed before.
#[must_use]
pub fn outcome(job: &JobRecord, paint: Paint) -> String {
    let mut shown = standing(job, paint);
    let after = job.finished_at.map(|at| duration(at.since(job.enqueued_at)));
    shown += &paint.dim(&format!(
        " after {}, {}, {}",
        after.unwrap_or_default(),
        super::of(job.attempts.into(), "attempt"),
        usage(&job.usage)
    ));
    if let Some(message) = &job.message {
        shown += &format!("\n{}", text::block(message));
    }
    match &job.output {
        Some(output) => format!("{shown}\n{}", content(output)),
        None => shown,
    }
}
