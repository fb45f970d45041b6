//! Schedules, as programs read them.

use std::borrow::Cow;
use std::num::NonZeroU64;

use sandhog_core::id::TenantId;
use sandhog_core::schedule::{Base, Cron, LAST_KEPT, Past, Record, RunCounts, Source, Zone};
use sandhog_core::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::Time;

/// Number of the next times that are shown with a schedule.
pub const NEXT_SHOWN: usize = LAST_KEPT;

/// JSON document of a list of schedules.
#[derive(Debug, Serialize, Deserialize)]
pub struct SchedulesDocument {
    /// The schedules, by tenant and name.
    pub schedules: Vec<ScheduleDocument>,
    /// The schedules that are stored but can't be read.
    pub unread: Vec<UnreadScheduleDocument>,
}

/// JSON document of a schedule that can't be read.
#[derive(Debug, Serialize, Deserialize)]
pub struct UnreadScheduleDocument {
    /// The tenant.
    pub tenant: String,
    /// The name of the schedule.
    pub schedule: String,
    /// A description of what is wrong with it.
    pub problem: String,
}

/// JSON document of a schedule.
#[derive(Debug, Serialize, Deserialize)]
pub struct ScheduleDocument {
    /// The tenant.
    pub tenant: String,
    /// The name of the schedule.
    pub schedule: String,
    /// The plugin in whose file it is; null if a command has added it.
    pub plugin: Option<String>,
    /// Its cron expressions; empty if it goes by an interval.
    pub cron: Vec<String>,
    /// Its interval in milliseconds; null if it goes by cron expressions.
    pub every_ms: Option<u64>,
    /// The offset of its interval in milliseconds.
    pub phase_ms: Option<u64>,
    /// Cron expressions whose times are left out.
    pub exclude: Vec<String>,
    /// The time zone by whose clock it goes.
    pub timezone: String,
    /// Time before which it has none; null if there is no such time.
    #[serde(default)]
    pub start: Option<Time>,
    /// Time from which on it has none; null if there is no such time.
    #[serde(default)]
    pub end: Option<Time>,
    /// Longest time by which its jobs are put off, in milliseconds.
    #[serde(default)]
    pub spread_ms: u64,
    /// Number of jobs that it enqueues at most; null if there is no such bound.
    #[serde(default)]
    pub times_max: Option<u64>,
    /// Age up to which times that were missed are caught up, in milliseconds.
    #[serde(default)]
    pub catch_up_window_ms: u64,
    /// Number of times that are caught up at most.
    #[serde(default)]
    pub catch_up_most: u32,
    /// Whether it has enqueued all that it ever will.
    #[serde(default)]
    pub is_over: bool,
    /// The kind of its jobs.
    pub kind: String,
    /// The queue of its jobs.
    pub queue: String,
    /// Rule for a time at which an earlier job isn't finished: `skip`, `queue`, `allow` or another rule.
    pub overlap: Cow<'static, str>,
    /// Its pause; null if it isn't paused.
    pub paused: Option<PauseDocument>,
    /// Number of times for which jobs were enqueued.
    pub fired: u64,
    /// Number of jobs that were enqueued by hand.
    pub by_hand: u64,
    /// Number of times that were missed.
    pub missed: u64,
    /// Number of times that were skipped.
    pub skipped: u64,
    /// Number of times that wait for the job before.
    pub waiting: u64,
    /// Outcomes of the last times.
    pub last: Vec<PastDocument>,
    /// The next times.
    pub next: Vec<TimeDocument>,
}

/// JSON document of a pause.
#[derive(Debug, Serialize, Deserialize)]
pub struct PauseDocument {
    /// Name of the person who has paused it; null if its definition says so.
    pub by: Option<String>,
    /// Time since which it is paused.
    pub since: Option<Time>,
    /// The remark of who paused it.
    pub note: String,
}

/// JSON document of what became of a nominal time.
#[derive(Debug, Serialize, Deserialize)]
pub struct PastDocument {
    /// The nominal time.
    pub nominal: Time,
    /// Time at which it was seen to.
    pub at: Time,
    /// The job that was enqueued; null if none was.
    pub job: Option<String>,
    /// Remark on what was done, for people.
    pub remark: String,
}

/// JSON document of a time.
#[derive(Debug, Serialize, Deserialize)]
pub struct TimeDocument {
    /// The nominal time.
    pub nominal: Time,
    /// The time at which the job becomes ready.
    pub effective: Time,
    /// The nominal time by the clock of the zone, with its offset.
    pub local: String,
}

/// JSON document of the next times.
#[derive(Debug, Serialize, Deserialize)]
pub struct NextDocument {
    /// The time zone by whose clock it goes.
    pub timezone: String,
    /// The next times.
    pub next: Vec<TimeDocument>,
}

/// JSON document of a change of a schedule.
#[derive(Debug, Serialize, Deserialize)]
pub struct ScheduleChangedDocument {
    /// The tenant.
    pub tenant: String,
    /// The name of the schedule.
    pub schedule: String,
    /// Change that was made.
    pub done: String,
    /// Ids of the jobs that were enqueued.
    pub jobs: Vec<String>,
}

impl ScheduleDocument {
    /// Creates the document of a tenant's schedule as it is at the time `now`.
    #[must_use]
    pub fn new(tenant: &TenantId, record: &Record, now: Timestamp) -> Self {
        let Record { schedule, progress } = record;
        let texts = |crons: &[Cron]| crons.iter().map(ToString::to_string).collect::<Vec<_>>();
        let (cron, every) = match schedule.times.base() {
            Base::Cron(crons) => (texts(crons), None),
            Base::Every { period, phase } => (Vec::new(), Some((millis(*period), millis(*phase)))),
        };
        let by_command = progress.pause.as_ref().map(|pause| PauseDocument {
            by: pause.by.clone(),
            since: Some(pause.since.into()),
            note: pause.note.clone(),
        });
        let by_definition =
            schedule.paused.then(|| PauseDocument { by: None, since: None, note: String::new() });
        let RunCounts { fired, by_hand, missed, skipped } = progress.counts;
        Self {
            tenant: tenant.to_string(),
            schedule: schedule.name.to_string(),
            plugin: match &schedule.source {
                Source::Plugin(plugin) => Some(plugin.to_string()),
                Source::Command => None,
            },
            cron,
            every_ms: every.map(|(period, _)| period),
            phase_ms: every.map(|(_, phase)| phase),
            exclude: texts(schedule.times.exclude()),
            timezone: schedule.times.zone().name().to_owned(),
            start: schedule.times.start().map(Time),
            end: schedule.times.end().map(Time),
            spread_ms: millis(schedule.spread),
            times_max: schedule.times_max.map(NonZeroU64::get),
            catch_up_window_ms: millis(schedule.catch_up.window),
            catch_up_most: schedule.catch_up.most,
            is_over: record.is_over(),
            kind: schedule.job.kind.to_string(),
            queue: schedule.job.queue.to_string(),
            overlap: schedule.overlap.slug().into(),
            paused: by_command.or(by_definition),
            fired,
            by_hand,
            missed,
            skipped,
            waiting: progress.waiting.len() as u64,
            last: progress.last.iter().map(PastDocument::new).collect(),
            next: times(schedule.times.zone(), &record.next(now, NEXT_SHOWN)),
        }
    }
}

impl PastDocument {
    fn new(Past { nominal, at, what }: &Past) -> Self {
        Self {
            nominal: (*nominal).into(),
            at: (*at).into(),
            job: what.job().map(|job| job.to_string()),
            remark: what.remark(),
        }
    }
}

impl NextDocument {
    /// Creates the document of these times, each a nominal and an effective one.
    #[must_use]
    pub fn new(zone: &Zone, next: &[(Timestamp, Timestamp)]) -> Self {
        Self { timezone: zone.name().to_owned(), next: times(zone, next) }
    }
}

fn times(zone: &Zone, next: &[(Timestamp, Timestamp)]) -> Vec<TimeDocument> {
    let one = |(nominal, effective): &(Timestamp, Timestamp)| TimeDocument {
        nominal: (*nominal).into(),
        effective: (*effective).into(),
        local: zone.show(*nominal),
    };
    next.iter().map(one).collect()
}

fn millis(duration: std::time::Duration) -> u64 {
    sandhog_core::time::millis(duration)
}
