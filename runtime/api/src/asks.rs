//! Requests: what programs ask for.

use std::collections::BTreeMap;
use std::num::NonZeroU16;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::Time;

/// Job to be enqueued. Lengths of time are written as in the configuration, such as `1h30m`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobAsk {
    /// Kind, which names its handler.
    pub kind: String,
    /// Tenant. `None` for the only one, or the only one that handles the kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// Queue in which it waits. `None` for that of the plugin that handles the kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue: Option<String>,
    /// Payload, as JSON. `null` if there is none of the three.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payload: Option<Box<RawValue>>,
    /// Payload, as text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Payload, as two hexadecimal digits for each of its bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hex: Option<String>,
    /// Id: a ULID of the caller's. To repeat it makes no second job.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Time that it waits at least.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delay: Option<String>,
    /// Time before which it doesn't run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<Time>,
    /// Priority, 0 to 255; the highest goes first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<u8>,
    /// Unique key: while a job of this kind holds it, no second one is enqueued.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unique_key: Option<String>,
    /// Event that frees the key: `final` or `start`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unique_until: Option<String>,
    /// Time after which the key is free in any case.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unique_for: Option<String>,
    /// Rule for a job whose key is held: `existing`, `reject` or `replace`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_clash: Option<String>,
    /// Time without another such job after which it runs, with the payload of the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub debounce: Option<String>,
    /// Longest time that it is put off so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub debounce_max: Option<String>,
    /// Whether the first one runs at once, and none of those that follow.
    #[serde(default)]
    pub debounce_leading: bool,
    /// Group in its queue.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Time within which it has to start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_within: Option<String>,
    /// Time after which it is given up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline: Option<String>,
    /// Labels, by name.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Content type of the payload.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// Position in the trace that it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
    /// State of the trace, as the systems on its way have added it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tracestate: Option<String>,
    /// Only revision of its plugin on which it runs: a whole sha256.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
}

/// Jobs to be enqueued together.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobsAsk {
    /// The jobs.
    pub jobs: Vec<JobAsk>,
}

/// Edit of a job that waits. What is left out stays as it is.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EditAsk {
    /// New payload, as JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payload: Option<Box<RawValue>>,
    /// New payload, as text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// New payload, as two hexadecimal digits for each of its bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hex: Option<String>,
    /// New priority.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<u8>,
    /// Time after which it is to run, from now on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delay: Option<String>,
    /// Time at which it is to run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<Time>,
}

/// Action on all jobs of a tenant that are like this. What is left out may be anything.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BulkAsk {
    /// Action: `cancel`, `redrive`, `run-now` or `remove`.
    pub action: String,
    /// Tenant. `None` for the only one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// State of the jobs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// Queue of the jobs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue: Option<String>,
    /// Kind of the jobs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Reason for their state.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Time since which they were enqueued.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
    /// Time before which they were enqueued.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Time>,
    /// Group of the jobs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Labels of the jobs, by name.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Part of the message of why they are in their state.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Number of jobs after which it ends, to be gone on with by the next request. `None` for as many as a request may do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
    /// Place at which it goes on, as `next` of the request before has named it: about the jobs that there were when that began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// Whether it is only told to how many jobs it would be done.
    #[serde(default)]
    pub dry_run: bool,
}

/// Pause of jobs.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HoldAsk {
    /// Tenant. `None` for the only one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// Queue of the jobs. `None` for all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue: Option<String>,
    /// Kind of the jobs. `None` for all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Time after which it ends by itself.
    #[serde(rename = "for")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lasts: Option<String>,
    /// Time at which it ends by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Time>,
    /// Remark.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// Setting of the limit of a single group.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimitAsk {
    /// Tenant. `None` for the only one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// Queue of the group.
    pub queue: String,
    /// Group.
    pub group: String,
    /// Maximum number of jobs of the group that are ready or leased at once.
    pub concurrency: NonZeroU16,
    /// Time after which it ends by itself.
    #[serde(rename = "for", skip_serializing_if = "Option::is_none")]
    pub lasts: Option<String>,
    /// Time at which it ends by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Time>,
    /// Remark.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// Switching of the limit of a single group on or off.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SwitchLimitAsk {
    /// Tenant. `None` for the only one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// Queue of the group.
    pub queue: String,
    /// Group.
    pub group: String,
    /// Whether the limit counts.
    pub enabled: bool,
}

/// Opening or closing of a circuit breaker by hand.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ForceBreakerAsk {
    /// Tenant. `None` for the only one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// Name: a downstream, or `plugin/` and the name of a plugin.
    pub name: String,
    /// Whether none of its jobs is started; else all are.
    pub open: bool,
    /// Time after which that ends by itself.
    #[serde(rename = "for")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lasts: Option<String>,
    /// Time at which that ends by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Time>,
    /// Remark.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// Reset of a circuit breaker.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResetBreakerAsk {
    /// Tenant. `None` for the only one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// Name: a downstream, or `plugin/` and the name of a plugin.
    pub name: String,
}

/// Release of a group that is held.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReleaseAsk {
    /// Tenant. `None` for the only one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// Queue.
    pub queue: String,
    /// Group.
    pub group: String,
}

/// Pause of a schedule.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PauseScheduleAsk {
    /// Remark.
    #[serde(default)]
    pub note: String,
}

/// Range of a schedule's times whose jobs are enqueued.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackfillAsk {
    /// Start of the range, inclusive.
    pub from: Time,
    /// End of the range, exclusive.
    pub to: Time,
}
