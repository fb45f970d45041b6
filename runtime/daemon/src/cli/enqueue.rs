//! `sandhog enqueue`.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use sandhog_broker::Enqueued;
use sandhog_core::budget::Bytes;
use sandhog_core::id::{JobId, Kind, QueueName, Revision, TenantId, UniqueKey};
use sandhog_core::job::{NewJob, Priority};
use sandhog_core::quota::QueueBounds;

use super::bulk;
use super::client::{Client, Route, Wanted};
use super::console::{Console, Format};
use super::daemon_link::{ask_daemon, unexpected};
use super::exit::{Exit, Failure};
use super::render::job as render;
use super::wait::{Patience, wait_for};
use crate::ambient::Ambient;
use crate::broker::Access;
use crate::config::units::parse_time;
use crate::control::{Reply, Request};

/// Enqueue a job, or many
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Enqueue {
    /// What is to be done, such as image.thumbnail
    kind: Kind,
    #[command(flatten)]
    input: Input,
    #[command(flatten)]
    options: Options,
    #[command(flatten)]
    waiting: Waiting,
}

/// Where the payload comes from, or the payloads.
#[derive(Debug, Args)]
pub(super) struct Input {
    /// The input of the handler, as JSON; `-` reads it from standard input [default: null]
    #[arg(conflicts_with_all = ["file", "bulk"])]
    payload: Option<String>,
    /// Read the payload from a file, as it is
    #[arg(long, value_name = "FILE", conflicts_with = "bulk")]
    file: Option<PathBuf>,
    /// Enqueue a job for each line of a file of JSON lines; `-` reads them from standard input
    #[arg(long, value_name = "FILE", conflicts_with = "unique_key")]
    bulk: Option<PathBuf>,
    /// Take the payload as it is, even if it is no JSON
    #[arg(long)]
    raw: bool,
}

/// What is said of the jobs beside their payload.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// Whose job it is [default: the only tenant, or the only one that handles the kind]
    #[arg(long, short, value_name = "NAME")]
    tenant: Option<TenantId>,
    /// Where it waits [default: the queue of the plugin that handles the kind]
    #[arg(long, value_name = "NAME")]
    queue: Option<QueueName>,
    /// Wait at least so long before it is run, such as 30s or 1h30m
    #[arg(long, value_name = "TIME", value_parser = parse_time, default_value = "0s", hide_default_value = true)]
    delay: Duration,
    /// 0 to 255; the highest goes first
    #[arg(long, value_name = "N", default_value_t = Priority::default().0)]
    priority: u8,
    /// Run it on this revision of its plugin and no other: the first digits of the sha256, or `current` for the one
    /// that is in force now
    #[arg(long, value_name = "DIGEST|current")]
    revision: Option<String>,
    /// While a job with this key is not final, enqueue no second one
    #[arg(long, value_name = "KEY")]
    unique_key: Option<UniqueKey>,
}

/// Whether to wait.
#[derive(Debug, Args)]
struct Waiting {
    /// Wait until the job is final, and print what came of it; the exit code tells
    #[arg(long)]
    wait: bool,
    /// With --wait: no longer than this
    #[arg(long, value_name = "TIME", value_parser = parse_time, requires = "wait")]
    timeout: Option<Duration>,
}

const EXAMPLES: &str = "\
Examples:
  sandhog enqueue image.thumbnail '{\"path\": \"/images/a.png\"}' --wait
  sandhog enqueue image.decode --file picture.png
  jq -c '.[]' orders.json | sandhog enqueue order.invoice --bulk - --priority 50
  sandhog enqueue report.daily --unique-key report-2026-11-24 --delay 1h";

impl Enqueue {
    pub(super) async fn execute(self, config: &Path, console: &Console) -> Result<Exit, Failure> {
        let client = Client::connect(config, Access::Serve).await?;
        let wanted = Wanted { tenant: self.options.tenant.as_ref(), queue: self.options.queue.as_ref() };
        let route = client.route(&self.kind, wanted)?;
        let pinned = match &self.options.revision {
            Some(wanted) => Some(revision(config, &route, wanted).await?),
            None => None,
        };
        let (kind, options) = (&self.kind, &self.options);
        let jobs = JobMaker { kind, route: &route, options, pinned, ambient: Ambient::system() };
        let patience = Patience::new(self.waiting.timeout);
        let patience = self.waiting.wait.then_some(patience);
        match &self.input.bulk {
            Some(file) => {
                bulk::enqueue(&client, &jobs, file, Check::unless(self.input.raw), patience, console).await
            }
            None => {
                let (inline, file) = (self.input.payload.as_deref(), self.input.file.as_deref());
                let payload = payload(inline, file, Check::unless(self.input.raw))?;
                one(&client, &jobs, payload, patience, console).await
            }
        }
    }
}

/// The revision that is meant. Only a whole digest says it without the daemon.
async fn revision(config: &Path, route: &Route<'_>, wanted: &str) -> Result<Revision, Failure> {
    if let Ok(revision) = Revision::parse(wanted) {
        return Ok(revision);
    }
    let Some(plugin) = route.plugin else {
        return Err(Failure::new("no plugin handles the kind yet, so there is no revision to pin it to"));
    };
    let (tenant, name) = (plugin.tenant.as_str(), plugin.name.as_str());
    let Reply::Plugins { plugins } = ask_daemon(config, &Request::Plugins).await? else {
        return Err(unexpected());
    };
    let standing = plugins.iter().find(|plugin| plugin.tenant == tenant && plugin.plugin == name);
    let found: Vec<&String> = match standing {
        Some(standing) if wanted == "current" => standing.revision.iter().collect(),
        Some(standing) => {
            let prefix = wanted.to_ascii_lowercase();
            standing.kept.iter().filter(|kept| !prefix.is_empty() && kept.starts_with(&prefix)).collect()
        }
        None => Vec::new(),
    };
    match found[..] {
        [only] => Ok(only.parse().map_err(|_| unexpected())?),
        [] => Err(Failure::new(format!("plugin {tenant}/{name} has no revision {wanted}"))
            .help("`sandhog plugins` lists those that are in force, and kept")),
        _ => Err(Failure::new(format!("{wanted} may be one of several revisions of plugin {tenant}/{name}"))
            .help("give more digits")),
    }
}

/// Whether payloads have to be JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Check {
    Json,
    Nothing,
}

impl Check {
    /// JSON, unless the payload is to be taken as it is.
    pub(super) fn unless(raw: bool) -> Self {
        if raw { Self::Nothing } else { Self::Json }
    }
}

/// The one payload: from a file or standard input as it is, else what is written on the command line.
pub(super) fn payload(inline: Option<&str>, file: Option<&Path>, check: Check) -> Result<Vec<u8>, Failure> {
    match (file, inline) {
        (Some(file), _) => {
            fs::read(file).map_err(|cause| Failure::io(format!("read {}", file.display()), &cause))
        }
        (None, Some("-")) => {
            let mut payload = Vec::new();
            let read = io::stdin().lock().read_to_end(&mut payload);
            read.map_err(|cause| Failure::io("read standard input", &cause))?;
            Ok(payload)
        }
        (None, inline) => {
            let inline = inline.unwrap_or("null");
            if check == Check::Json {
                check_json(inline.as_bytes()).map_err(|problem| {
                    let failure = Failure::new(format!("the payload is not JSON: {problem}"));
                    failure
                        .help("quote it for the shell: '{\"a\": 1}', '\"text\"'; or take it as it is: --raw")
                })?;
            }
            Ok(inline.as_bytes().to_vec())
        }
    }
}

/// Checks that a payload is JSON; the text says where it isn't, and shows nothing of it.
pub(super) fn check_json(payload: &[u8]) -> Result<(), String> {
    serde_json::from_slice::<serde::de::IgnoredAny>(payload).map(drop).map_err(|error| error.to_string())
}

/// Makes jobs that differ in their payload alone.
pub(super) struct JobMaker<'m> {
    pub(super) kind: &'m Kind,
    pub(super) route: &'m Route<'m>,
    options: &'m Options,
    pinned: Option<Revision>,
    ambient: Ambient,
}

impl JobMaker<'_> {
    /// A job with this payload, or why its plugin wouldn't take it.
    pub(super) fn job(&self, payload: Vec<u8>) -> Result<NewJob, Failure> {
        let size = Bytes::of(payload.len());
        if let Some(plugin) = self.route.plugin.filter(|plugin| size > plugin.payload) {
            let (max, name) = (plugin.payload, format!("{}/{}", plugin.tenant, plugin.name));
            let failure =
                Failure::new(format!("a payload of {size} is larger than plugin {name} takes: {max}"));
            return Err(failure.help(format!("raise limits.payload in {}", plugin.file.display())));
        }
        Ok(NewJob {
            id: self.ambient.job_id(),
            kind: self.kind.clone(),
            queue: self.route.queue.clone(),
            payload,
            delay: self.options.delay,
            priority: Priority(self.options.priority),
            unique_key: self.options.unique_key.clone(),
            pinned: self.pinned,
        })
    }
}

/// Why a job was not stored, for people.
pub(super) fn refused(answer: Enqueued) -> Failure {
    let bounds = QueueBounds::default();
    Failure::new(match answer {
        Enqueued::Full(excess) => bounds.explain(excess),
        _ => format!("the payload is larger than {}", bounds.payload),
    })
}

async fn one(
    client: &Client,
    jobs: &JobMaker<'_>,
    payload: Vec<u8>,
    patience: Option<Patience>,
    console: &Console,
) -> Result<Exit, Failure> {
    let job = jobs.job(payload)?;
    let Route { tenant, queue, .. } = jobs.route;
    let answers = bulk::store(&*client.broker, tenant, std::slice::from_ref(&job)).await?;
    let (id, duplicates) = match answers.first() {
        Some(Enqueued::Duplicate(holder)) => (*holder, 1),
        Some(Enqueued::Stored) | None => (job.id, 0),
        Some(answer @ (Enqueued::TooLarge | Enqueued::Full(_))) => return Err(refused(*answer)),
    };
    match duplicates {
        0 => console.remark(&format!("enqueued for tenant {tenant}, on queue {queue}")),
        _ => console.remark("a job with this unique key is not final yet; nothing was enqueued"),
    }
    let Some(patience) = patience else {
        let ids = vec![id.to_string()];
        let document = render::EnqueuedDocument {
            tenant: tenant.to_string(),
            queue: queue.to_string(),
            ids,
            duplicates,
        };
        console.show(&document, || id.to_string())?;
        return Ok(Exit::Ok);
    };
    await_one(client, tenant, id, patience, console).await
}

/// Waits for a job, and prints what came of it.
pub(super) async fn await_one(
    client: &Client,
    tenant: &TenantId,
    id: JobId,
    patience: Patience,
    console: &Console,
) -> Result<Exit, Failure> {
    let spinner = console.spinner(&format!("{id} waits"));
    let job = wait_for(&*client.broker, tenant, id, patience, |job| {
        let progress = job.progress.as_ref().map(|report| format!(", {}", render::progress(report)));
        spinner.set_message(format!("{id} is {}{}", job.state, progress.unwrap_or_default()));
    })
    .await;
    spinner.finish_and_clear();
    let job = job?;
    let exit = Exit::of_state(job.state);
    match console.format {
        Format::People => console.result(&render::outcome(&job, console.paint()))?,
        Format::Json => {
            let log = client.broker.log(tenant, id).await?;
            console.json(&render::JobDocument::new(job, Some(log)))?;
        }
    }
    Ok(exit)
}
