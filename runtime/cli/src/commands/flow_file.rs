//! Files of flows, in JSON or TOML: what stands in them, and how that becomes jobs.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::time::Duration;

use sandhog_config::units::parse_time;
use sandhog_core::budget::Bytes;
use sandhog_core::flow::{After, FLOW_BYTES_MAX, Flow, FlowJob, OnFailure};
use sandhog_core::id::{FlowJobName, GroupKey, JobId, Kind, QueueName, TenantId, UniqueKey};
use sandhog_core::job::{JobOptions, NewJob, Priority};
use sandhog_daemon::service::enqueue::{Route, Wanted};
use sandhog_daemon::unique;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::client::Beside;
use crate::commands::bulk::id_of;
use crate::exit::Failure;

/// Maximum length of a file: that of all payloads, and room for what stands beside them.
const FILE_MAX: Bytes = Bytes::mib(FLOW_BYTES_MAX.0 / (1 << 20) + 8);

/// A flow as it stands in a file; `P` is a payload.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FlowFile<P> {
    tenant: Option<String>,
    jobs: Vec<JobEntry<P>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct JobEntry<P> {
    name: String,
    kind: String,
    payload: Option<P>,
    #[serde(default)]
    after: Vec<AfterEntry>,
    queue: Option<String>,
    priority: Option<u8>,
    delay: Option<String>,
    unique_key: Option<String>,
    group: Option<String>,
    #[serde(default)]
    outputs: bool,
}

#[derive(Debug, Deserialize)]
#[serde(
    untagged,
    expecting = "the name of a job, or { job = NAME, on_failure = \"fail\", \"ignore\" or \"hold\" }"
)]
enum AfterEntry {
    Name(String),
    Edge(EdgeEntry),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct EdgeEntry {
    job: String,
    on_failure: Option<String>,
}

/// A flow that was read from a file, and the route of each of its jobs.
pub(crate) struct Routed {
    pub(crate) flow: Flow,
    pub(crate) routes: Vec<Route>,
}

/// Reads a flow from a file, or from standard input for `-`. Ids are made from `seed`, which is that of the first job.
///
/// # Errors
/// If the file can't be read, isn't a flow, or a job of it has no route.
pub(crate) fn read(
    file: &Path,
    seed: JobId,
    tenant: Option<&TenantId>,
    beside: &Beside,
) -> Result<Routed, Failure> {
    let name = file.display().to_string();
    let text = text(file).map_err(|cause| Failure::io(format!("read {name}"), &cause))?;
    let wrong = |problem: String| Failure::new(format!("{name} is no flow: {problem}"));
    let is_json = text.trim_start().starts_with('{');
    let file: FlowFile<Vec<u8>> = if is_json {
        serde_json::from_str::<FlowFile<Box<RawValue>>>(&text)
            .map_err(|error| wrong(error.to_string()))?
            .with_payloads(|payload| Ok(payload.get().as_bytes().to_vec()))?
    } else {
        toml::from_str::<FlowFile<toml::Value>>(&text)
            .map_err(|error| wrong(error.to_string().trim_end().to_owned()))?
            .with_payloads(|payload| {
                serde_json::to_vec(&payload).map_err(|error| wrong(format!("a payload: {error}")))
            })?
    };
    let of_file = file.tenant.as_deref().map(TenantId::parse).transpose();
    let of_file = of_file.map_err(|error| wrong(error.to_string()))?;
    let mut tenant = tenant.cloned().or(of_file);
    let (mut jobs, mut routes) = (Vec::new(), Vec::new());
    for (place, entry) in file.jobs.into_iter().enumerate() {
        let shown = entry.name.clone();
        let wrong = |problem: String| wrong(format!("job `{shown}`: {problem}"));
        let kind = Kind::parse(&entry.kind).map_err(|error| wrong(error.to_string()))?;
        let queue = entry.queue.as_deref().map(QueueName::parse).transpose();
        let queue = queue.map_err(|error| wrong(error.to_string()))?;
        let wanted = Wanted { tenant: tenant.as_ref(), queue: queue.as_ref() };
        let route = beside.route(&kind, wanted)?;
        tenant = Some(route.tenant.clone());
        let id = if place == 0 { seed } else { id_of(seed, place as u64) };
        jobs.push(entry.job(id, kind, route.queue.clone()).map_err(wrong)?);
        routes.push(route);
    }
    let flow = Flow::new(jobs).map_err(|error| wrong(error.to_string()))?;
    Ok(Routed { flow, routes })
}

/// Reads all of a file, unless it is longer than any flow may be.
fn text(file: &Path) -> io::Result<String> {
    let from: Box<dyn Read> =
        if file == Path::new("-") { Box::new(io::stdin().lock()) } else { Box::new(File::open(file)?) };
    let mut text = String::new();
    from.take(FILE_MAX.0 + 1).read_to_string(&mut text)?;
    match Bytes::of(text.len()) > FILE_MAX {
        true => Err(io::Error::other(format!("it is longer than {FILE_MAX}"))),
        false => Ok(text),
    }
}

impl<P> FlowFile<P> {
    fn with_payloads(
        self,
        mut bytes: impl FnMut(P) -> Result<Vec<u8>, Failure>,
    ) -> Result<FlowFile<Vec<u8>>, Failure> {
        let jobs = self.jobs.into_iter().map(|job| {
            let JobEntry { name, kind, payload, after, queue, priority, delay, unique_key, group, outputs } =
                job;
            let payload = payload.map(&mut bytes).transpose()?;
            Ok(JobEntry { name, kind, payload, after, queue, priority, delay, unique_key, group, outputs })
        });
        Ok(FlowFile { tenant: self.tenant, jobs: jobs.collect::<Result<_, Failure>>()? })
    }
}

impl JobEntry<Vec<u8>> {
    /// Returns the job of the flow, or what is wrong with it.
    fn job(self, id: JobId, kind: Kind, queue: QueueName) -> Result<FlowJob, String> {
        let name = FlowJobName::parse(&self.name).map_err(|error| error.to_string())?;
        let key = self.unique_key.as_deref().map(UniqueKey::parse).transpose();
        let unique_key = key.map_err(|error| error.to_string())?.map(|key| unique::stored(&kind, &key));
        let group = self.group.as_deref().map(GroupKey::parse).transpose();
        let group = group.map_err(|error| error.to_string())?;
        let delay = match &self.delay {
            Some(delay) => parse_time(delay).map_err(|error| format!("delay: {error}"))?,
            None => Duration::ZERO,
        };
        let payload = self.payload.unwrap_or_else(|| b"null".to_vec());
        let job = NewJob {
            delay,
            priority: self.priority.map(Priority).unwrap_or_default(),
            unique_key,
            options: JobOptions { group, ..JobOptions::default() },
            ..NewJob::new(id, queue, kind, payload)
        };
        let after = self.after.into_iter().map(AfterEntry::edge).collect::<Result<_, String>>()?;
        Ok(FlowJob { name, job, after, takes_outputs: self.outputs })
    }
}

impl AfterEntry {
    fn edge(self) -> Result<After, String> {
        let (job, on_failure) = match self {
            Self::Name(job) => (job, None),
            Self::Edge(EdgeEntry { job, on_failure }) => (job, on_failure),
        };
        let on_failure = match on_failure {
            None => OnFailure::default(),
            Some(slug) => OnFailure::from_slug(&slug)
                .ok_or_else(|| format!("on_failure is `{slug}`, and may be fail, ignore or hold"))?,
        };
        Ok(After { job: FlowJobName::parse(&job).map_err(|error| error.to_string())?, on_failure })
    }
}
