//! Requests that define something: flows and schedules.

use std::num::NonZeroU64;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// Flow to be stored: jobs that wait for others. `P` is how its payloads are written.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FlowAsk<P = Box<RawValue>> {
    /// Tenant. `None` for the only one, or the only one that handles the first kind.
    pub tenant: Option<String>,
    /// Id: a ULID of the caller's, which is that of the first job. To repeat it makes no second flow.
    pub id: Option<String>,
    /// The jobs.
    pub jobs: Vec<FlowJobAsk<P>>,
}

/// Job of a flow to be stored.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FlowJobAsk<P = Box<RawValue>> {
    /// Name in the flow.
    pub name: String,
    /// Kind, which names its handler.
    pub kind: String,
    /// Payload, as JSON. `null` if there is none.
    pub payload: Option<P>,
    /// Jobs that it comes after.
    #[serde(default)]
    pub after: Vec<AfterAsk>,
    /// Queue in which it waits. `None` for that of the plugin that handles the kind.
    pub queue: Option<String>,
    /// Priority, 0 to 255; the highest goes first.
    pub priority: Option<u8>,
    /// Time that it waits at least once those before it are final.
    pub delay: Option<String>,
    /// Unique key: while a job of this kind holds it, no second one is stored, and no flow with it.
    pub unique_key: Option<String>,
    /// Group in its queue.
    pub group: Option<String>,
    /// Whether its handler gets the outputs of those before it.
    #[serde(default)]
    pub outputs: bool,
}

/// Job that another comes after.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "the name of a job, or { job = NAME, on_failure = \"fail\", \"ignore\" or \"hold\" }"
)]
pub enum AfterAsk {
    /// Its name; if it fails, the other fails as well.
    Name(String),
    /// Its name, and what is done if it fails.
    Edge(EdgeAsk),
}

/// Edge of a flow to be stored.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EdgeAsk {
    /// Name of the job that comes first.
    pub job: String,
    /// Rule if that job fails: `fail`, `ignore` or `hold`.
    pub on_failure: Option<String>,
}

impl<P> FlowAsk<P> {
    /// Converts each payload.
    ///
    /// # Errors
    /// `convert` fails.
    pub fn with_payloads<Q, E>(self, mut convert: impl FnMut(P) -> Result<Q, E>) -> Result<FlowAsk<Q>, E> {
        let jobs =
            self.jobs.into_iter().map(|job| {
                let FlowJobAsk {
                    name,
                    kind,
                    payload,
                    after,
                    queue,
                    priority,
                    delay,
                    unique_key,
                    group,
                    outputs,
                } = job;
                let payload = payload.map(&mut convert).transpose()?;
                Ok(FlowJobAsk {
                    name,
                    kind,
                    payload,
                    after,
                    queue,
                    priority,
                    delay,
                    unique_key,
                    group,
                    outputs,
                })
            });
        Ok(FlowAsk { tenant: self.tenant, id: self.id, jobs: jobs.collect::<Result<_, E>>()? })
    }
}

/// Schedule to be added. Lengths of time are written as in the configuration, such as `1h30m`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScheduleAsk {
    /// Name.
    pub name: String,
    /// Kind of its jobs.
    pub kind: String,
    /// Payload of its jobs, as JSON. `null` if there is none of the three.
    pub payload: Option<Box<RawValue>>,
    /// Payload of its jobs, as text.
    pub text: Option<String>,
    /// Payload of its jobs, as two hexadecimal digits for each of its bytes.
    pub hex: Option<String>,
    /// Cron expressions, such as `0 9 * * mon-fri`.
    #[serde(default)]
    pub cron: Vec<String>,
    /// Interval, in place of cron expressions.
    pub every: Option<String>,
    /// Offset of the interval.
    pub phase: Option<String>,
    /// Cron expressions whose times are left out.
    #[serde(default)]
    pub exclude: Vec<String>,
    /// Time zone by whose clock it goes, such as `Europe/Berlin`. `None` for UTC.
    pub timezone: Option<String>,
    /// Time before which there is none, in RFC 3339 or by the schedule's clock.
    pub start: Option<String>,
    /// Time from which on there is none, in RFC 3339 or by the schedule's clock.
    pub end: Option<String>,
    /// Tenant. `None` for the only one, or the only one that handles the kind.
    pub tenant: Option<String>,
    /// Queue in which its jobs wait. `None` for that of the plugin that handles the kind.
    pub queue: Option<String>,
    /// Priority of its jobs, 0 to 255; the highest goes first.
    pub priority: Option<u8>,
    /// Time by a part of which each job is put off.
    pub spread: Option<String>,
    /// Number of jobs after which it ends.
    pub times: Option<NonZeroU64>,
    /// Age up to which times are caught up for which there was no daemon.
    pub catch_up_window: Option<String>,
    /// Number of the latest times that are caught up.
    pub catch_up_most: Option<u32>,
    /// Rule for a time whose job before isn't final: `skip`, `allow` and others, as `sandhog schedule add` has them.
    pub overlap: Option<String>,
    /// Whether it doesn't begin yet.
    #[serde(default)]
    pub paused: bool,
}
