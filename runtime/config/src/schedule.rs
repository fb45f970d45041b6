//! Schedules of a plugin: the tables `[schedules.NAME]` of its file.

use std::num::NonZeroU64;
use std::time::Duration;

use sandhog_core::id::{Kind, PluginName, QueueName, ScheduleName};
use sandhog_core::job::Priority;
use sandhog_core::schedule::{
    Base, CRONS_MAX, CatchUp, Cron, EVERY_MAX, EVERY_MIN, InvalidTimes, Overlap, SCHEDULE_PAYLOAD_MAX,
    SCHEDULES_MAX, SPREAD_MAX, Schedule, Source, Template, Times, Zone,
};
use sandhog_core::time::Timestamp;
use toml::de::DeValue;

use super::fields::{Entry, Fields};
use super::problem::Shown;
use super::units::time;
use super::value::Positive;

/// Settings that a schedule takes over from its plugin.
pub(super) struct Of<'p> {
    pub(super) plugin: &'p PluginName,
    pub(super) kinds: &'p [Kind],
    pub(super) queue: &'p QueueName,
}

/// Reads the schedules of a plugin, in order of name. `None` for the plugin if that can't be read.
pub(super) fn schedules(fields: &mut Fields<'_>, of: Option<&Of<'_>>) -> Vec<Schedule> {
    let mut all = Vec::new();
    for (name, entry) in fields.named("schedules") {
        if all.len() >= SCHEDULES_MAX {
            let problem = entry.problem(Shown::KeyAlone, "there are too many schedules");
            entry.file().note(problem.rule(format!("a tenant has at most {SCHEDULES_MAX}")));
            break;
        }
        let name = match ScheduleName::parse(&name) {
            Ok(name) => Some(name),
            Err(invalid) => {
                let problem =
                    entry.problem(Shown::KeyAlone, format!("\"{name}\" is not a valid schedule name"));
                entry.file().note(problem.rule(invalid.rule));
                None
            }
        };
        all.extend(entry.table(|fields| schedule(fields, name, of)));
    }
    all.sort_by(|a: &Schedule, b: &Schedule| a.name.cmp(&b.name));
    all
}

fn schedule(fields: &mut Fields<'_>, name: Option<ScheduleName>, of: Option<&Of<'_>>) -> Option<Schedule> {
    let times = times(fields);
    let kind = kind(fields, of);
    let queue = fields.get("queue");
    let payload = payload(fields);
    let priority = fields.or("priority", Priority::default());
    let spread = at_most(fields, "spread", Duration::ZERO, SPREAD_MAX);
    let times_max = fields.get("times").and_then(|Positive(times)| NonZeroU64::new(times));
    let catch_up = fields.table("catch_up", |fields| {
        let default = CatchUp::default();
        let window = at_most(fields, "window", default.window, CatchUp::WINDOW_MAX);
        let most = fields.or("most", default.most);
        if most > CatchUp::MOST_MAX {
            let problem = fields.file.problem(&fields.path_of("most"), format!("{most} is too many"));
            fields.file.note(problem.rule(format!("at most {}", CatchUp::MOST_MAX)));
        }
        CatchUp { window, most }
    });
    let overlap = fields.or("overlap", Overlap::default());
    let paused = fields.or("paused", false);
    let of = of?;
    Some(Schedule {
        name: name?,
        source: Source::Plugin(of.plugin.clone()),
        times: times?,
        job: Template { kind: kind?, queue: queue.unwrap_or_else(|| of.queue.clone()), payload, priority },
        spread,
        times_max,
        catch_up,
        overlap,
        paused,
    })
}

fn times(fields: &mut Fields<'_>) -> Option<Times> {
    let cron = fields.entry("cron").map(crons);
    let every = fields.get::<Duration>("every");
    let phase = fields.get::<Duration>("phase");
    let exclude = fields.entry("exclude").map_or_else(|| Some(Vec::new()), crons);
    let zone = fields.or("timezone", Zone::utc());
    let (start, end) = (instant(fields, "start", &zone), instant(fields, "end", &zone));
    let base = match (cron, every) {
        (Some(_), Some(_)) => {
            let problem = fields.file.problem(&fields.path_of("every"), "it has `cron` as well");
            fields.file.note(problem.help("remove one; to have both, make two schedules"));
            return None;
        }
        (Some(crons), None) => {
            if phase.is_some() {
                let problem = fields.file.problem(&fields.path_of("phase"), "it goes with `every` alone");
                fields.file.note(problem.help("remove it"));
            }
            Base::Cron(crons?)
        }
        (None, Some(period)) => Base::Every { period, phase: phase.unwrap_or_default() },
        (None, None) => {
            if !fields.file.has(&fields.path_of("every")) {
                fields.missing("cron", "\"0 9 * * mon-fri\", or every = \"10m\"");
            }
            return None;
        }
    };
    let exclude = exclude?;
    let too_many = if exclude.len() > CRONS_MAX { "exclude" } else { "cron" };
    match Times::new(base, exclude, zone, start?, end?) {
        Ok(times) => Some(times),
        Err(invalid) => {
            let key = match invalid {
                InvalidTimes::Number => too_many,
                InvalidTimes::Every => "every",
                InvalidTimes::Phase => "phase",
                InvalidTimes::End => "end",
            };
            let rule = match invalid {
                InvalidTimes::Number => format!("1 to {CRONS_MAX}"),
                InvalidTimes::Every => format!("from {} to {}", time(EVERY_MIN), time(EVERY_MAX)),
                InvalidTimes::Phase => "less than `every`".to_owned(),
                InvalidTimes::End => "after `start`".to_owned(),
            };
            let key = fields.path_of(key);
            fields.file.note(fields.file.problem(&key, "it is out of range").rule(rule));
            None
        }
    }
}

/// Reads one expression or a list of them. `None` if one of them can't be read.
fn crons(entry: Entry<'_>) -> Option<Vec<Cron>> {
    match &entry.value {
        DeValue::Array(_) => {
            // All of them are read, so that all mistakes are found.
            let crons: Vec<Option<Cron>> = entry.list().into_iter().map(Entry::read).collect();
            crons.into_iter().collect()
        }
        _ => Some(vec![entry.read()?]),
    }
}

/// Reads a point in time: with an offset, or by the clock of the schedule's zone. The inner `None` is none; the outer one, that it
/// can't be read.
fn instant(fields: &mut Fields<'_>, key: &'static str, zone: &Zone) -> Option<Option<Timestamp>> {
    let Some(entry) = fields.entry(key) else { return Some(None) };
    let text = match &entry.value {
        DeValue::Datetime(time) => time.to_string(),
        DeValue::String(text) => text.clone().into_owned(),
        _ => String::new(),
    };
    match zone.parse_time(&text) {
        Some(at) => Some(Some(at)),
        None => {
            let problem = entry.problem(Shown::Line, "it is no point in time");
            entry.file().note(
                problem.rule(
                    "such as 2026-12-24T18:00:00+01:00, or by the schedule's clock 2026-12-24T18:00:00",
                ),
            );
            None
        }
    }
}

fn kind(fields: &mut Fields<'_>, of: Option<&Of<'_>>) -> Option<Kind> {
    let kind = fields.get::<Kind>("kind");
    let path = fields.path_of("kind");
    let of = of?;
    match (kind, of.kinds) {
        (Some(kind), kinds) if kinds.contains(&kind) || kinds.is_empty() => Some(kind),
        (Some(kind), kinds) => {
            let problem = fields.file.problem(&path, format!("\"{kind}\" is not a kind of this plugin"));
            let names: Vec<&str> = kinds.iter().map(Kind::as_str).collect();
            fields.file.note(problem.rule(format!("one of plugin.kinds: {}", names.join(", "))));
            None
        }
        (None, [only]) if !fields.file.has(&path) => Some(only.clone()),
        (None, []) => None,
        (None, [first, ..]) => {
            if !fields.file.has(&path) {
                fields.missing("kind", &format!("\"{first}\""));
            }
            None
        }
    }
}

fn payload(fields: &mut Fields<'_>) -> Vec<u8> {
    let Some(entry) = fields.entry("payload") else { return b"null".to_vec() };
    // An empty payload is allowed, unlike other texts.
    let payload = match &entry.value {
        DeValue::String(text) => text.as_bytes().to_vec(),
        _ => {
            entry.file().note(
                entry
                    .problem(Shown::Line, "it is not a text")
                    .rule("text in quotes, such as '{\"days\": 7}'"),
            );
            return Vec::new();
        }
    };
    if payload.len() > SCHEDULE_PAYLOAD_MAX {
        let problem = entry.problem(Shown::KeyAlone, format!("{} bytes are too many", payload.len()));
        entry.file().note(problem.rule(format!("at most {SCHEDULE_PAYLOAD_MAX}")));
    }
    payload
}

fn at_most(fields: &mut Fields<'_>, key: &'static str, default: Duration, most: Duration) -> Duration {
    let value = fields.or(key, default);
    if value > most {
        let problem = fields.file.problem(&fields.path_of(key), format!("{} is too long", time(value)));
        fields.file.note(problem.rule(format!("at most {}", time(most))));
    }
    value
}
