//! Jobs.

use std::time::Duration;

use comfy_table::Cell;
use sandhog_broker::{Counts, Unread};
use sandhog_core::id::{QueueName, TenantId};
use sandhog_core::job::{JobRecord, LogLine, Progress, State};
use sandhog_core::outcome::Usage;
use sandhog_core::text;
use sandhog_core::time::Timestamp;
use sandhog_daemon::unique;
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::{
    Color, Column, Paint, bytes, clock, content, count, duration, fitted, pairs, rfc3339, rough, state_cell,
};

/// A job, for programs. Names and meanings stay as they are; more may come.
#[derive(Debug, Serialize)]
pub struct JobDocument {
    /// Its id.
    pub id: String,
    /// Whose it is.
    pub tenant: String,
    /// Where it waits or waited.
    pub queue: String,
    /// What is to be done.
    pub kind: String,
    /// `scheduled`, `ready`, `leased`, `succeeded`, `dead` or `cancelled`.
    pub state: &'static str,
    /// Why it is there: a slug such as `out-of-fuel`.
    pub reason: Option<&'static str>,
    /// The reason in full, for people.
    pub message: Option<String>,
    /// 0 to 255; the highest goes first.
    pub priority: u8,
    /// While a job with this key is not final, no second one is created.
    pub unique_key: Option<String>,
    /// Attempts that counted.
    pub attempts: u32,
    /// Leases that ran out because a daemon vanished.
    pub expiries: u32,
    /// When its producer was told that it is safe. All times are RFC 3339, in UTC.
    pub enqueued_at: Option<String>,
    /// When it becomes ready, while it is scheduled.
    pub due_at: Option<String>,
    /// When it was leased for the last time.
    pub leased_at: Option<String>,
    /// When the present lease runs out.
    pub lease_expires_at: Option<String>,
    /// When it became final.
    pub finished_at: Option<String>,
    /// Those of the times above that are null because they lie after the year 9999, which RFC 3339 can't say.
    pub never: Vec<&'static str>,
    /// The latest report of its handler.
    pub progress: Option<ProgressDocument>,
    /// What all its runs spent together.
    pub usage: UsageDocument,
    /// The sha256 of the component that ran last.
    pub revision: Option<String>,
    /// Why some of it is left empty: it is sealed, and can't be opened.
    pub unreadable: Option<String>,
    /// What went in and came out; left out where jobs are listed, unless it is asked for.
    #[serde(flatten)]
    pub contents: Option<ContentsDocument>,
    /// The log lines that are kept with it, oldest first; only where one job is shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log: Option<Vec<LogDocument>>,
}

/// What went into a job, and came out.
#[derive(Debug, Serialize)]
pub struct ContentsDocument {
    /// The input.
    pub payload: Content,
    /// The result, once it succeeded.
    pub output: Option<Content>,
}

/// Whether payloads and outputs are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Payloads {
    /// They are.
    Shown,
    /// They are left out, as they weren't asked for.
    Left,
}

/// How far a job has come.
#[derive(Debug, Serialize)]
pub struct ProgressDocument {
    /// How much is done.
    pub done: u64,
    /// Out of how much.
    pub total: Option<u64>,
    /// What is going on.
    pub message: Option<String>,
}

/// What runs spent.
#[derive(Debug, Serialize)]
pub struct UsageDocument {
    /// Instructions.
    pub fuel: u64,
    /// The largest sum of its memories, in bytes.
    pub memory_peak: u64,
    /// From start to end, in microseconds.
    pub wall_us: u64,
    /// On a processor, in microseconds.
    pub cpu_us: u64,
    /// Calls from the guest to the host.
    pub host_calls: u64,
}

/// A line of a job's log.
#[derive(Debug, Serialize)]
pub struct LogDocument {
    /// When it was written.
    pub at: String,
    /// Which attempt wrote it; 1 is the first.
    pub attempt: u32,
    /// `trace`, `debug`, `info`, `warn` or `error`.
    pub level: &'static str,
    /// The text.
    pub message: String,
    /// Names and values beside the text.
    pub fields: Vec<(String, String)>,
}

/// Bytes: an object with one of three keys.
#[derive(Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Content {
    /// They are JSON: the value as it is written, to the last digit.
    Json(Box<RawValue>),
    /// They are UTF-8: the text.
    Text(String),
    /// They are neither: two hexadecimal digits each.
    Hex(String),
}

impl Content {
    /// What those bytes are.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        if let Ok(value) = serde_json::from_slice(bytes) {
            return Self::Json(value);
        }
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::Text(text.to_owned()),
            Err(_) => Self::Hex(bytes.iter().map(|byte| format!("{byte:02x}")).collect()),
        }
    }
}

impl From<Usage> for UsageDocument {
    fn from(usage: Usage) -> Self {
        Self {
            fuel: usage.fuel.0,
            memory_peak: usage.memory_peak.0,
            wall_us: micros(usage.wall),
            cpu_us: micros(usage.cpu),
            host_calls: usage.host_calls,
        }
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

impl From<Progress> for ProgressDocument {
    fn from(progress: Progress) -> Self {
        Self { done: progress.done, total: progress.total, message: progress.message }
    }
}

impl From<LogLine> for LogDocument {
    fn from(line: LogLine) -> Self {
        let LogLine { at, attempt, level, message, fields } = line;
        Self { at: clock(at), attempt, level: level.slug(), message, fields }
    }
}

impl JobDocument {
    /// A job, with its log where one job is shown.
    #[must_use]
    pub fn new(job: JobRecord, log: Option<Vec<LogLine>>, payloads: Payloads) -> Self {
        let times = [
            ("enqueued_at", Some(job.enqueued_at)),
            ("due_at", job.due_at),
            ("leased_at", job.leased_at),
            ("lease_expires_at", job.lease_expires_at),
            ("finished_at", job.finished_at),
        ];
        let never = times.iter().filter(|(_, at)| at.is_some_and(|at| rfc3339(at).is_none()));
        let contents = || ContentsDocument {
            payload: Content::of(&job.payload),
            output: job.output.as_deref().map(Content::of),
        };
        Self {
            never: never.map(|(name, _)| *name).collect(),
            contents: (payloads == Payloads::Shown).then(contents),
            id: job.id.to_string(),
            tenant: job.tenant.to_string(),
            queue: job.queue.to_string(),
            kind: job.kind.to_string(),
            state: job.state.slug(),
            reason: job.reason.map(|reason| reason.slug()),
            message: job.message,
            priority: job.priority.0,
            unique_key: job.unique_key.map(|key| unique::shown(&job.kind, &key).to_owned()),
            attempts: job.attempts,
            expiries: job.expiries,
            enqueued_at: rfc3339(job.enqueued_at),
            due_at: job.due_at.and_then(rfc3339),
            leased_at: job.leased_at.and_then(rfc3339),
            lease_expires_at: job.lease_expires_at.and_then(rfc3339),
            finished_at: job.finished_at.and_then(rfc3339),
            progress: job.progress.map(Into::into),
            usage: job.usage.into(),
            revision: job.revision.map(|revision| revision.to_string()),
            unreadable: job.unreadable,
            log: log.map(|log| log.into_iter().map(Into::into).collect()),
        }
    }
}

/// How many jobs a tenant has in each state, for programs.
#[derive(Debug, Serialize)]
pub struct CountsDocument {
    /// The tenant.
    pub tenant: String,
    /// By the slug of the state, in the order of a job's life.
    pub counts: serde_json::Map<String, Value>,
    /// Where the list goes on, for `--after`; null if this is all of it.
    pub next: Option<String>,
}

/// A job that can't be read, for programs.
#[derive(Debug, Serialize)]
pub struct UnreadDocument {
    /// Whose it is.
    pub tenant: String,
    /// Its id.
    pub id: String,
    /// What is wrong with what is stored.
    pub problem: String,
}

impl UnreadDocument {
    /// A job of a tenant.
    #[must_use]
    pub fn new(tenant: &TenantId, unread: Unread) -> Self {
        Self { tenant: tenant.to_string(), id: unread.id.to_string(), problem: unread.problem }
    }
}

/// A page of jobs, for programs.
#[derive(Debug, Default, Serialize)]
pub struct PageDocument {
    /// The jobs, without their logs.
    pub jobs: Vec<JobDocument>,
    /// Those that are there, and can't be read.
    pub unread: Vec<UnreadDocument>,
    /// How many there are in all.
    pub tenants: Vec<CountsDocument>,
}

impl CountsDocument {
    /// Counts in the order of [`State::ALL`].
    #[must_use]
    pub fn new(tenant: &TenantId, counts: Counts, next: Option<String>) -> Self {
        let counts = counts.iter().map(|(state, n)| (state.slug().to_owned(), n.into()));
        Self { tenant: tenant.to_string(), counts: counts.collect(), next }
    }
}

/// A job, for people: all that is known of it.
#[must_use]
pub fn job(job: &JobRecord, log: &[LogLine], paint: Paint) -> String {
    let mut lines = vec![("job", paint.bold(&job.id.to_string())), ("state", standing(job, paint))];
    lines.extend(job.message.as_deref().map(|message| ("why", text::block(message).into_owned())));
    lines.push(("kind", job.kind.to_string()));
    lines.push(("tenant", job.tenant.to_string()));
    lines.push(("queue", format!("{} (priority {})", job.queue, job.priority.0)));
    let unique_key = job.unique_key.as_ref().map(|key| unique::shown(&job.kind, key).to_owned());
    lines.extend(unique_key.map(|key| ("unique key", text::line(&key).into_owned())));
    lines.push(("attempts", attempts(job)));
    lines.extend(times(job));
    lines.extend(job.progress.as_ref().map(|report| ("progress", progress(report))));
    lines.push(("usage", usage(&job.usage)));
    lines.extend(job.revision.map(|revision| ("revision", revision.short())));
    match &job.unreadable {
        Some(unreadable) => lines.push(("unreadable", text::block(unreadable).into_owned())),
        None => lines.push(("payload", cut(content(&job.payload), "--payload"))),
    }
    lines.extend(job.output.as_ref().map(|output| ("output", cut(content(output), "--output"))));
    let mut text = pairs(lines, paint);
    if !log.is_empty() {
        text += &format!("\n\n{}\n", paint.bold("log"));
        text += &log.iter().map(|line| log_line(line, paint)).collect::<Vec<_>>().join("\n");
    }
    text
}

/// Of a text that is longer, so much is shown.
const SHOWN_MAX: usize = 8 << 10;

/// The beginning of a text, and the option that prints all of it.
fn cut(text: String, option: &str) -> String {
    if text.len() <= SHOWN_MAX {
        return text;
    }
    let (shown, all) = (&text[..text.floor_char_boundary(SHOWN_MAX)], bytes(text.len() as u64));
    format!("{shown}…\n(the first of {all}; {option} prints it as it is)")
}

/// The state and its reason.
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
    times.extend(job.finished_at.map(|at| ("finished", format!("{} (after {})", clock(at), after(at)))));
    times
}

/// How far a job has come.
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

/// What runs spent.
#[must_use]
pub fn usage(usage: &Usage) -> String {
    let (fuel, memory) = (count(usage.fuel.0), bytes(usage.memory_peak.0));
    let (wall, cpu) = (duration(usage.wall), duration(usage.cpu));
    format!("fuel {fuel}, memory {memory}, time {wall} (processor {cpu}), host calls {}", usage.host_calls)
}

/// A line of a log.
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
    /// There is only one.
    One,
    /// There are several.
    Several,
}

/// Jobs, for people: a line each, as wide as `width` where that is known. `now` is what times are told from.
#[must_use]
pub fn jobs(
    jobs: &[&JobRecord],
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
    let rows = jobs.iter().map(|job| row(job, tenants, now)).collect();
    fitted(&columns, rows, width, paint)
}

fn row(job: &JobRecord, tenants: Tenants, now: Timestamp) -> Vec<Cell> {
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
    let message = job.message.as_deref().or(job.unreadable.as_deref()).unwrap_or_default();
    cells.push(Cell::new(text::line(message.lines().next().unwrap_or_default())));
    cells
}

/// The colour by which a state is known.
pub(super) fn color(state: State) -> Color {
    match state {
        State::Scheduled | State::Ready => Color::Cyan,
        State::Leased => Color::Blue,
        State::Succeeded => Color::Green,
        State::Dead => Color::Red,
        State::Cancelled => Color::Yellow,
    }
}

/// When something happens to a job, or happened last.
fn when(job: &JobRecord, now: Timestamp) -> String {
    let ago = |at: Timestamp| format!("{} ago", rough(now.since(at)));
    match job.state {
        State::Scheduled => match job.due_at {
            Some(due) if rfc3339(due).is_none() => "due never".to_owned(),
            Some(due) => format!("due in {}", rough(due.since(now))),
            None => String::new(),
        },
        State::Ready => format!("enqueued {}", ago(job.enqueued_at)),
        State::Leased => job.leased_at.map(|at| format!("leased {}", ago(at))).unwrap_or_default(),
        State::Succeeded | State::Dead | State::Cancelled => {
            job.finished_at.map(|at| format!("finished {}", ago(at))).unwrap_or_default()
        }
    }
}

/// A job that can't be read, for people.
#[must_use]
pub fn unread(unread: &Unread) -> String {
    format!("{} can't be read: {}", unread.id, text::line(&unread.problem))
}

/// How many jobs a tenant has in each state.
#[must_use]
pub fn counts(tenant: &TenantId, counts: Counts, paint: Paint) -> String {
    let there = counts.iter().filter(|(_, n)| *n > 0);
    let there: Vec<String> = there.map(|(state, n)| format!("{n} {}", paint.state(state))).collect();
    let there = if there.is_empty() { "no jobs".to_owned() } else { there.join(", ") };
    format!("{}: {there}", paint.bold(tenant.as_str()))
}

/// Jobs that were just enqueued, for programs.
#[derive(Debug, Serialize)]
pub struct EnqueuedDocument {
    /// Whose they are.
    pub tenant: String,
    /// Where they wait.
    pub queue: String,
    /// Their ids, in the order of the payloads; for a duplicate, that of the job which holds the key.
    pub ids: Vec<String>,
    /// How many were not stored, because a job that is not final holds their unique key.
    pub duplicates: u64,
    /// The same, with the answer to each.
    pub jobs: Vec<AnswerDocument>,
    /// What the ids were made from, if the jobs are the lines of a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ids_from: Option<String>,
    /// What keeps the jobs waiting, as far as the configuration tells.
    pub warnings: Vec<String>,
}

/// What became of a job that was to be enqueued, for programs.
#[derive(Debug, Serialize)]
pub struct AnswerDocument {
    /// Of a file: the number of its line; 1 is the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
    /// The job's id; for a duplicate, that of the job which holds the key.
    pub id: String,
    /// The answer.
    pub answer: Answer,
}

/// The answer to an enqueue, for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    /// It is stored.
    Stored,
    /// A job that is not final holds its unique key; nothing was stored.
    Duplicate,
    /// Nothing was stored; the error says why.
    Refused,
    /// No answer came, so it may be stored or not.
    Unknown,
}

impl Answer {
    /// Whether there is a job that can be waited for.
    #[must_use]
    pub fn is_there(self) -> bool {
        matches!(self, Self::Stored | Self::Duplicate)
    }
}

impl EnqueuedDocument {
    /// Jobs that got these answers.
    #[must_use]
    pub fn new(
        tenant: &TenantId,
        queue: &QueueName,
        jobs: Vec<AnswerDocument>,
        warnings: Vec<String>,
    ) -> Self {
        Self {
            tenant: tenant.to_string(),
            queue: queue.to_string(),
            ids: jobs.iter().filter(|job| job.answer.is_there()).map(|job| job.id.clone()).collect(),
            duplicates: jobs.iter().filter(|job| job.answer == Answer::Duplicate).count() as u64,
            jobs,
            ids_from: None,
            warnings,
        }
    }
}

/// A job that was enqueued and waited for, for programs.
#[derive(Debug, Serialize)]
pub struct AwaitedDocument {
    /// The job.
    #[serde(flatten)]
    pub job: JobDocument,
    /// Whether it was there before, so that nothing was enqueued.
    pub duplicate: bool,
}

/// What came of a job that was waited for, for people. The id has been printed before.
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
