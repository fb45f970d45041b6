//! Use cases on schedules: looking at them, pausing, running, adding and removing them.

use std::num::NonZeroU64;
use std::time::Duration;

use sandhog_api::{Problem, Slug};
use sandhog_broker::ScheduleWritten;
use sandhog_config::nearest;
use sandhog_core::id::{JobId, Kind, QueueName, ScheduleName, TenantId};
use sandhog_core::job::Priority;
use sandhog_core::quota::QueueBounds;
use sandhog_core::schedule::{
    Base, CatchUp, Cron, Decision, Overlap, Pause, Record, SCHEDULE_PAYLOAD_MAX, SCHEDULES_MAX, SPREAD_MAX,
    Schedule, Source, Template, Times, Zone,
};
use sandhog_core::time::Timestamp;

use super::enqueue::{Route, Wanted, route};
use super::{Caller, Role, Service, list as list_names, of_broker, tenants};
use crate::schedule::step::{self, Known};

/// Maximum number of tries to change a schedule that others change as well.
const TRIES_MAX: usize = 20;

/// Schedule that was found.
#[derive(Debug)]
pub struct Found {
    /// Its name.
    pub name: ScheduleName,
    /// Its record, or the reason why it can't be read.
    pub record: Result<Record, String>,
}

/// Change of a schedule by a person.
#[derive(Debug, Clone)]
pub enum Change {
    /// The schedule fires no more until it is resumed.
    Pause {
        /// Name of the person who pauses it; `None` if that is unknown.
        by: Option<String>,
        /// Reason; may be empty.
        note: String,
    },
    /// The schedule fires again.
    Resume,
    /// A job is enqueued now.
    RunNow {
        /// Id of the job, chosen by the caller, so that a repetition makes no second one.
        id: JobId,
    },
    /// The jobs of all nominal times from `from` on and before `to` are enqueued.
    Backfill {
        /// Start of the range, inclusive.
        from: Timestamp,
        /// End of the range, exclusive.
        to: Timestamp,
    },
}

/// Lists a tenant's schedules by name. Returns the time by the store's clock as well.
///
/// # Errors
/// There is no such tenant, or the broker can't be asked.
pub async fn list(
    service: &Service,
    caller: &Caller,
    tenant: &TenantId,
) -> Result<(Timestamp, Vec<Found>), Problem> {
    caller.needs(Role::Observe)?;
    let tenant = tenants::known(&service.config(), caller, tenant)?;
    let (now, all) = step::all(&*service.broker, &tenant).await.map_err(of_broker)?;
    let found = |stored| Found { record: Known::read(&stored).map(|known| known.record), name: stored.name };
    Ok((now, all.into_iter().map(found).collect()))
}

/// Finds the tenant of a schedule: the one that is meant, or the only one that has a schedule of this name.
///
/// # Errors
/// There is no such schedule in scope, or several tenants have one.
pub async fn find(
    service: &Service,
    caller: &Caller,
    wanted: Option<&TenantId>,
    name: &ScheduleName,
) -> Result<TenantId, Problem> {
    caller.needs(Role::Observe)?;
    let (mut found, mut names) = (Vec::new(), Vec::new());
    for tenant in tenants::find(service, caller, wanted)? {
        let (_, all) = step::all(&*service.broker, &tenant).await.map_err(of_broker)?;
        names.extend(all.iter().map(|stored| stored.name.to_string()));
        if all.iter().any(|stored| stored.name == *name) {
            found.push(tenant);
        }
    }
    match &found[..] {
        [only] => Ok(only.clone()),
        [] => Err(unknown(name, wanted, &names)),
        several => {
            let tenants = list_names(several.iter().map(TenantId::as_str));
            Err(Problem::new(Slug::Ambiguous, format!("several tenants have a schedule `{name}`"))
                .help(format!("name one: --tenant {tenants}")))
        }
    }
}

/// Looks up a schedule. Returns the time by the store's clock as well.
///
/// # Errors
/// There is no such schedule, it can't be read, or the broker can't be asked.
pub async fn get(
    service: &Service,
    caller: &Caller,
    tenant: &TenantId,
    name: &ScheduleName,
) -> Result<(Timestamp, Record), Problem> {
    caller.needs(Role::Observe)?;
    let tenant = tenants::known(&service.config(), caller, tenant)?;
    let (now, known) = read(service, &tenant, name).await?;
    Ok((now, known.ok_or_else(|| unknown(name, Some(&tenant), &[]))?.record))
}

/// Changes a schedule, and returns what was done.
///
/// # Errors
/// There is no such schedule, the change can't be made, or the broker can't be asked.
pub async fn change(
    service: &Service,
    caller: &Caller,
    tenant: &TenantId,
    name: &ScheduleName,
    change: &Change,
) -> Result<Decision, Problem> {
    caller.needs(Role::Operate)?;
    let tenant = tenants::known(&service.config(), caller, tenant)?;
    let bounds = bounds(service, &tenant);
    for _ in 0..TRIES_MAX {
        let (now, known) = read(service, &tenant, name).await?;
        let Known { version, record } = known.ok_or_else(|| unknown(name, Some(&tenant), &[]))?;
        let decision = decide(&record, now, change)?;
        let written = step::write(&*service.broker, &tenant, Some(version), &decision, &bounds, now);
        match written.await.map_err(of_broker)? {
            ScheduleWritten::Done => return Ok(decision),
            ScheduleWritten::Stale => {}
            refusal => return Err(refused(&tenant, refusal)),
        }
    }
    Err(busy(name))
}

/// Nominal times, as somebody asks for them.
#[derive(Debug, Clone, Default)]
pub struct Nominal {
    /// Cron expressions; none where there is an interval.
    pub cron: Vec<Cron>,
    /// Interval.
    pub every: Option<Duration>,
    /// Offset of the interval.
    pub phase: Option<Duration>,
    /// Cron expressions whose times are left out.
    pub exclude: Vec<Cron>,
    /// Time zone by whose clock they go. `None` for UTC.
    pub zone: Option<Zone>,
    /// Time before which there is none, in RFC 3339 or by the zone's clock.
    pub start: Option<String>,
    /// Time from which on there is none, in RFC 3339 or by the zone's clock.
    pub end: Option<String>,
}

impl Nominal {
    /// Returns the times.
    ///
    /// # Errors
    /// There are none, both a cron expression and an interval, or a point in time can't be read.
    pub fn times(self) -> Result<Times, Problem> {
        let Self { cron, every, phase, exclude, zone, start, end } = self;
        let refused = |why: &str| Problem::new(Slug::MalformedRequest, why);
        let zone = zone.unwrap_or_else(Zone::utc);
        let base = match (every, cron.is_empty()) {
            (Some(period), true) => Base::Every { period, phase: phase.unwrap_or_default() },
            (Some(_), false) => return Err(refused("it has cron expressions and an interval")),
            (None, true) => {
                return Err(refused("it has no times").help("give it `cron` or `every`"));
            }
            (None, false) if phase.is_some() => return Err(refused("it has a phase and no interval")),
            (None, false) => Base::Cron(cron),
        };
        let point = |text: Option<String>| text.map(|text| point(&zone, &text)).transpose();
        let (start, end) = (point(start)?, point(end)?);
        Times::new(base, exclude, zone, start, end).map_err(|invalid| refused(&invalid.to_string()))
    }
}

/// Parses a point in time by the clock of a zone.
///
/// # Errors
/// The text is none.
pub fn point(zone: &Zone, text: &str) -> Result<Timestamp, Problem> {
    zone.parse_time(text).ok_or_else(|| {
        Problem::new(Slug::MalformedRequest, format!("`{text}` is no point in time"))
            .help("write it as 2026-11-24T18:00:00Z, or by the schedule's clock as 2026-11-24T18:00")
    })
}

/// Definition of a schedule, as somebody asks for it.
#[derive(Debug, Clone)]
pub struct Definition {
    /// Name.
    pub name: ScheduleName,
    /// Nominal times.
    pub nominal: Nominal,
    /// Kind of its jobs.
    pub kind: Kind,
    /// Payload of its jobs.
    pub payload: Vec<u8>,
    /// Tenant. `None` for the only one, or the only one that handles the kind.
    pub tenant: Option<TenantId>,
    /// Queue in which its jobs wait. `None` for that of the plugin that handles the kind.
    pub queue: Option<QueueName>,
    /// Priority of its jobs.
    pub priority: Priority,
    /// Time by a part of which each job is put off.
    pub spread: Duration,
    /// Number of jobs after which it ends.
    pub times_max: Option<NonZeroU64>,
    /// Treatment of times for which there was no daemon.
    pub catch_up: CatchUp,
    /// Treatment of a time whose job before isn't final.
    pub overlap: Overlap,
    /// Whether it doesn't begin yet.
    pub paused: bool,
}

/// Makes a schedule of its definition. Returns the route of its jobs as well.
///
/// # Errors
/// Its jobs have no route, it is out of bounds, or it would never fire after `now`.
pub fn define(
    service: &Service,
    caller: &Caller,
    now: Timestamp,
    definition: Definition,
) -> Result<(Route, Schedule), Problem> {
    let Definition { name, nominal, kind, payload, tenant, queue, priority, .. } = definition;
    let Definition { spread, times_max, catch_up, overlap, paused, .. } = definition;
    let route = route(service, caller, &kind, Wanted { tenant: tenant.as_ref(), queue: queue.as_ref() })?;
    if payload.len() > SCHEDULE_PAYLOAD_MAX {
        let message = format!("a payload of {} bytes is too large for a schedule", payload.len());
        let problem = Problem::new(Slug::RequestTooLarge, message);
        return Err(problem.help(format!("at most {SCHEDULE_PAYLOAD_MAX} bytes")));
    }
    let refused = |why: &str| Problem::new(Slug::MalformedRequest, why);
    if spread > SPREAD_MAX || catch_up.window > CatchUp::WINDOW_MAX || catch_up.most > CatchUp::MOST_MAX {
        return Err(refused("a spread is at most 1d, the window to catch up 31d, the most to catch up 1000"));
    }
    let times = nominal.times()?;
    if times.next_after(now).is_none() {
        return Err(
            refused("it would never fire").help("`sandhog schedule next` shows the times of expressions")
        );
    }
    let job = Template { kind, queue: route.queue.clone(), payload, priority };
    let source = Source::Command;
    let schedule = Schedule { name, source, times, job, spread, times_max, catch_up, overlap, paused };
    Ok((route, schedule))
}

/// Adds a schedule, or replaces the definition of one that a command has added; its progress is kept.
///
/// # Errors
/// A plugin has a schedule of this name, or the broker can't be asked.
pub async fn add(
    service: &Service,
    caller: &Caller,
    tenant: &TenantId,
    schedule: &Schedule,
) -> Result<Record, Problem> {
    caller.needs(Role::Edit)?;
    let tenant = tenants::known(&service.config(), caller, tenant)?;
    for _ in 0..TRIES_MAX {
        let (now, known) = read(service, &tenant, &schedule.name).await?;
        let (expected, record) = match known {
            None => (None, Record::new(schedule.clone(), now)),
            Some(Known { version, record }) => {
                if let Source::Plugin(plugin) = &record.schedule.source {
                    return Err(of_plugin(&schedule.name, plugin.as_str()));
                }
                match record.redefined(schedule.clone(), now) {
                    Some(record) => (Some(version), record),
                    None => return Ok(record),
                }
            }
        };
        let decision = Decision::of(record);
        let bounds = QueueBounds::default();
        let written = step::write(&*service.broker, &tenant, expected, &decision, &bounds, now);
        match written.await.map_err(of_broker)? {
            ScheduleWritten::Done => return Ok(decision.record),
            ScheduleWritten::Stale => {}
            refusal => return Err(refused(&tenant, refusal)),
        }
    }
    Err(busy(&schedule.name))
}

/// Removes a schedule. Its jobs stay. One whose plugin still has it in its file comes back when the plugin is put into force.
///
/// # Errors
/// There is no such schedule, or the broker can't be asked.
pub async fn remove(
    service: &Service,
    caller: &Caller,
    tenant: &TenantId,
    name: &ScheduleName,
) -> Result<(), Problem> {
    caller.needs(Role::Edit)?;
    let tenant = tenants::known(&service.config(), caller, tenant)?;
    for _ in 0..TRIES_MAX {
        // One that can't be read can be removed.
        let (_, stored) = step::look_up(&*service.broker, &tenant, name).await.map_err(of_broker)?;
        let stored = stored.ok_or_else(|| unknown(name, Some(&tenant), &[]))?;
        let removed = step::remove(&*service.broker, &tenant, name, stored.version).await;
        match removed.map_err(of_broker)? {
            ScheduleWritten::Stale => {}
            _ => return Ok(()),
        }
    }
    Err(busy(name))
}

fn decide(record: &Record, now: Timestamp, change: &Change) -> Result<Decision, Problem> {
    let conflict = |text: String| Problem::new(Slug::Conflict, text);
    let name = &record.schedule.name;
    match change {
        Change::Pause { by, note } => Ok(Decision::of(record.paused(Pause::new(by.as_deref(), now, note)))),
        Change::Resume => match record.resumed(now) {
            _ if record.schedule.paused => Err(paused_by_definition(record)),
            Some(resumed) => Ok(Decision::of(resumed)),
            None => Err(conflict(format!("schedule {name} isn't paused"))),
        },
        Change::RunNow { id } => Ok(record.run_now(now, *id)),
        Change::Backfill { from, to } => {
            record.backfill(*from, *to, now).map_err(|error| conflict(error.to_string()))
        }
    }
}

fn paused_by_definition(record: &Record) -> Problem {
    let name = &record.schedule.name;
    let problem = Problem::new(Slug::Conflict, format!("schedule {name} is paused by its definition"));
    match &record.schedule.source {
        Source::Plugin(plugin) => {
            problem.help(format!("remove `paused` of [schedules.{name}] in the file of plugin {plugin}"))
        }
        Source::Command => problem.help("add it again without --paused"),
    }
}

async fn read(
    service: &Service,
    tenant: &TenantId,
    name: &ScheduleName,
) -> Result<(Timestamp, Option<Known>), Problem> {
    let (now, stored) = step::look_up(&*service.broker, tenant, name).await.map_err(of_broker)?;
    match stored.as_ref().map(Known::read).transpose() {
        Ok(known) => Ok((now, known)),
        Err(why) => {
            Err(Problem::new(Slug::BrokerUnfit, format!("schedule {name} of tenant {tenant}: {why}"))
                .help("use the version that wrote it, or remove the schedule and add it again"))
        }
    }
}

/// Returns the bounds of what the tenant may have waiting.
fn bounds(service: &Service, tenant: &TenantId) -> QueueBounds {
    service.config().tenants.get(tenant).map_or_else(QueueBounds::default, |terms| terms.queue)
}

fn unknown(name: &ScheduleName, tenant: Option<&TenantId>, names: &[String]) -> Problem {
    let of = tenant.map(|tenant| format!(" of tenant {tenant}")).unwrap_or_default();
    let problem = Problem::new(Slug::UnknownSchedule, format!("there is no schedule `{name}`{of}"));
    match nearest(name.as_str(), names.iter().map(String::as_str)) {
        Some(meant) => problem.help(format!("did you mean `{meant}`?")),
        None => problem.help("`sandhog schedules` lists those that there are"),
    }
}

fn of_plugin(name: &ScheduleName, plugin: &str) -> Problem {
    Problem::new(Slug::Conflict, format!("there is a schedule `{name}`, which comes from plugin {plugin}"))
        .help("choose another name, or change it in the plugin's file")
}

fn refused(tenant: &TenantId, refusal: ScheduleWritten) -> Problem {
    match refusal {
        ScheduleWritten::TooMany => Problem::new(
            Slug::Conflict,
            format!("tenant {tenant} has {SCHEDULES_MAX} schedules, the maximum"),
        ),
        _ => Problem::new(
            Slug::Conflict,
            format!("the queue of tenant {tenant} has no room for the jobs; nothing was done"),
        )
        .help(format!("tenants.{tenant}.queue sets how much may wait")),
    }
}

fn busy(name: &ScheduleName) -> Problem {
    Problem::new(
        Slug::Conflict,
        format!("schedule {name} is changed all the time by others; nothing was done"),
    )
    .help("try again")
}
