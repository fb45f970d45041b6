//! `sandhog enqueue`: enqueues one job, or one for each line of a file.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use sandhog_api::{JobAsk, Problem, Slug};
use sandhog_broker::Enqueued;
use sandhog_config::units::{parse_time, time};
use sandhog_core::budget::Bytes;
use sandhog_core::id::{
    ContentType, GroupKey, JobId, Kind, LabelName, LabelValue, QueueName, Revision, TenantId, TraceParent,
    TraceState, UniqueKey,
};
use sandhog_core::job::Priority;
use sandhog_core::labels::Labels;
use sandhog_core::quota::QueueBounds;
use sandhog_core::time::Timestamp;
use sandhog_core::unique::{Debounce, UniqueUntil};
use sandhog_daemon::broker::Access;
use sandhog_daemon::clock::Clock;
use sandhog_daemon::service::enqueue::{Route, Wanted};

use crate::client::{self, Client, Told};
use crate::commands::bulk::{self, Pointer};
use crate::commands::payload::{self, Check};
use crate::commands::times::parse_at;
use crate::commands::wait::{Deadline, Waiting, wait_for};
use crate::daemon_link::{daemon, unanswered};
use crate::exit::{Exit, Failure};
use crate::output::console::{Console, Format};
use crate::output::job::{self as render, Answer, AnswerDocument, EnqueuedDocument};
use crate::target::Target;

/// Enqueue a job, or many
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Enqueue {
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
pub(crate) struct Input {
    /// The input of the handler, as JSON; `-` reads it from standard input [default: null]
    #[arg(conflicts_with_all = ["file", "bulk"])]
    payload: Option<String>,
    /// Read the payload from a file
    #[arg(long, value_name = "FILE", conflicts_with = "bulk")]
    file: Option<PathBuf>,
    /// Enqueue a job for each line of a file of JSON lines; `-` reads them from standard input
    #[arg(long, value_name = "FILE", conflicts_with_all = ["unique_key", "id"])]
    bulk: Option<PathBuf>,
    /// Take the payload as it is, even if it is no JSON
    #[arg(long)]
    raw: bool,
    /// The job's id: a ULID of yours. To repeat it with the same id makes no second job
    #[arg(long, value_name = "ULID")]
    id: Option<JobId>,
    /// With --bulk: make the ids of the jobs from this ULID and the numbers of their lines. To repeat the same file with it
    /// makes no second jobs
    #[arg(long, value_name = "ULID", requires = "bulk")]
    ids: Option<JobId>,
    /// The unique key is what the payload has there, such as /order/id; of each line's with --bulk
    #[arg(long, value_name = "POINTER", conflicts_with_all = ["raw", "unique_key"])]
    unique_key_at: Option<Pointer>,
    /// With --bulk: the group of each job is what its payload has there, such as /customer
    #[arg(long, value_name = "POINTER", requires = "bulk", conflicts_with_all = ["raw", "group"])]
    group_at: Option<Pointer>,
}

/// What is said of the jobs beside their payload.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Whose job it is [default: the only tenant, or the only one that handles the kind]
    #[arg(long, short, value_name = "NAME")]
    tenant: Option<TenantId>,
    /// Where it waits [default: the queue of the plugin that handles the kind]
    #[arg(long, value_name = "NAME")]
    queue: Option<QueueName>,
    /// Wait at least so long before it is run, such as 30s or 1h30m
    #[arg(
        long,
        value_name = "TIME",
        value_parser = parse_time,
        default_value = "0s",
        hide_default_value = true,
        allow_hyphen_values = true
    )]
    delay: Duration,
    /// Run it no earlier than then, such as 2026-11-24T18:00:00Z
    #[arg(long, value_name = "WHEN", value_parser = parse_at, conflicts_with = "delay")]
    at: Option<Timestamp>,
    /// 0 to 255; the highest goes first
    #[arg(long, value_name = "N", default_value_t = Priority::default().0)]
    priority: u8,
    /// Run it on this revision of its plugin and no other: the first digits of the sha256, or `current` for the one
    /// that is in force now
    #[arg(long, value_name = "DIGEST|current")]
    revision: Option<String>,
    /// While a job of this kind holds this key, enqueue no second one: until it is final, if nothing else is said
    #[arg(long, value_name = "KEY")]
    unique_key: Option<UniqueKey>,
    #[command(flatten)]
    pub(crate) unique: Unique,
    /// Its group in the queue, such as a customer: what the queue's rules for groups go by
    #[arg(long, value_name = "KEY")]
    group: Option<GroupKey>,
    /// Cancel it if it hasn't started so long after it could have, such as 10m
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    start_within: Option<Duration>,
    /// Give it up so long after it could have started, whatever attempts are left, such as 1h
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    deadline: Option<Duration>,
    /// A label of it, for people and programs to see; may be given several times
    #[arg(long = "label", value_name = "NAME=VALUE", value_parser = Labels::parse)]
    labels: Vec<(LabelName, LabelValue)>,
    /// What its payload is, such as text/csv
    #[arg(long, value_name = "TYPE")]
    content_type: Option<ContentType>,
    /// The trace that it belongs to, and the jobs that it enqueues: the header of the W3C's Trace Context
    #[arg(long, value_name = "TRACEPARENT")]
    traceparent: Option<TraceParent>,
    /// What goes with the trace: the header of that name
    #[arg(long, value_name = "TRACESTATE", requires = "traceparent")]
    tracestate: Option<TraceState>,
}

/// For how long a job holds its unique key, and what becomes of one that comes meanwhile.
#[derive(Debug, Args)]
pub(crate) struct Unique {
    /// Hold the key until the job is final (settled), until it has started (started), or for a time alone (over)
    #[arg(long, value_name = "EVENT", value_parser = events(), conflicts_with = "debounce")]
    unique_until: Option<UniqueUntil>,
    /// Hold the key no longer than this
    #[arg(
        long,
        value_name = "TIME",
        value_parser = parse_time,
        conflicts_with = "debounce",
        required_if_eq("unique_until", "over")
    )]
    unique_for: Option<Duration>,
    /// Where the key is held: do nothing and name the job (existing), fail (reject), or give the job that waits the new
    /// payload (replace) [default: existing]
    #[arg(long, value_name = "WHAT", conflicts_with = "debounce")]
    on_clash: Option<Clash>,
    /// Run it once no other has come for this time, with the payload of the last one
    #[arg(long, value_name = "TIME", value_parser = parse_time, conflicts_with_all = ["delay", "at"])]
    debounce: Option<Duration>,
    /// With --debounce: wait no longer than this after the first one [default: ten times as long as --debounce]
    #[arg(long, value_name = "TIME", value_parser = parse_time, requires = "debounce")]
    debounce_max: Option<Duration>,
    /// With --debounce: run the first one at once, and none of those that follow
    #[arg(long, requires = "debounce")]
    debounce_leading: bool,
}

/// What becomes of a job whose key is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Clash {
    Existing,
    Reject,
    Replace,
}

fn events() -> impl TypedValueParser<Value = UniqueUntil> {
    let slugs = PossibleValuesParser::new(UniqueUntil::ALL.map(UniqueUntil::slug));
    slugs.map(|slug| UniqueUntil::from_slug(&slug).expect("only slugs of events are possible"))
}

/// Longest wait of a debounced job, in multiples of its delay, if nothing else is said.
const DEBOUNCE_MAX: u32 = 10;

impl Unique {
    /// Checks that the delay of a debounced job fits its longest wait.
    fn check(&self) -> Result<(), Failure> {
        let Some(delay) = self.debounce else { return Ok(()) };
        let longest = self.debounce_max.unwrap_or_else(|| delay.saturating_mul(DEBOUNCE_MAX));
        let checked = Debounce::new(delay, longest).map(|_| ());
        checked.map_err(|error| {
            Failure::new(error.to_string()).help("raise --debounce-max, or lower --debounce")
        })
    }

    /// Adds to a job with a key what is said of the key. That a key which is held makes the command fail is seen to afterwards.
    fn add_to(&self, ask: JobAsk) -> JobAsk {
        let clash = self.on_clash.map(|clash| match clash {
            Clash::Existing | Clash::Reject => "existing".to_owned(),
            Clash::Replace => "replace".to_owned(),
        });
        JobAsk {
            unique_until: self.unique_until.map(|until| until.slug().to_owned()),
            unique_for: self.unique_for.map(time),
            on_clash: clash,
            debounce: self.debounce.map(time),
            debounce_max: self.debounce_max.map(time),
            debounce_leading: self.debounce_leading,
            ..ask
        }
    }

    /// Whether anything is said that only a job with a key can do.
    fn needs_key(&self) -> bool {
        self.unique_until.is_some()
            || self.unique_for.is_some()
            || self.on_clash.is_some()
            || self.debounce.is_some()
    }

    /// Whether a key that is held makes the command fail.
    pub(crate) fn rejects(&self) -> bool {
        self.on_clash == Some(Clash::Reject)
    }
}

const EXAMPLES: &str = "\
Examples:
  sandhog enqueue image.thumbnail '{\"path\": \"/images/a.png\"}' --wait
  sandhog enqueue image.decode --raw --file icon.png
  jq -c '.[]' orders.json | sandhog enqueue order.invoice --bulk - --unique-key-at /id
  sandhog enqueue mail.send '{\"to\": \"a@example.com\"}' --group acme
  sandhog enqueue quote.fetch --start-within 10s --deadline 1m
  sandhog enqueue report.daily --unique-key 2026-11-24 --at 2026-11-25T06:00:00Z
  sandhog enqueue mail.digest '{\"user\": 7}' --unique-key 7 --debounce 10m --debounce-max 1h

Where the key is held, nothing is enqueued, the id is that of the job that holds it, and the exit code is 0; with
--on-clash reject it is 1.";

impl Enqueue {
    pub(crate) async fn execute(self, target: &Target, console: &Console) -> Result<Exit, Failure> {
        let client = Client::connect(target, Access::Serve).await?;
        let wanted = Wanted { tenant: self.options.tenant.as_ref(), queue: self.options.queue.as_ref() };
        // A server finds the route itself.
        let route = match &client {
            Client::Beside(beside) => Some(beside.route(&self.kind, wanted)?),
            Client::Over(_) => None,
        };
        let pinned = match &self.options.revision {
            Some(wanted) => Some(revision(target, route.as_ref(), wanted).await?),
            None => None,
        };
        let clock = Clock::system();
        self.options.unique.check()?;
        let has_key = self.options.unique_key.is_some() || self.input.unique_key_at.is_some();
        if self.options.unique.needs_key() && !has_key {
            return Err(Failure::new("which jobs are the same is told by a unique key")
                .help("add --unique-key KEY, or --unique-key-at POINTER"));
        }
        let (kind, options) = (&self.kind, &self.options);
        let labels =
            Labels::of(options.labels.iter().cloned()).map_err(|wrong| Failure::new(wrong.to_string()))?;
        let jobs = JobMaker { kind, route: route.as_ref(), options, pinned, labels };
        let deadline = self.waiting.deadline();
        let check = Check::unless(self.input.raw);
        let unserved = |route: &Route| client.unserved(&route.tenant, &route.queue, kind);
        let warnings = route.as_ref().map(unserved).unwrap_or_default();
        warnings.iter().for_each(|warning| console.warn(warning));
        let call = Call { client: &client, jobs: &jobs, deadline, console, warnings };
        match &self.input.bulk {
            Some(file) => {
                let seed = self.input.ids.unwrap_or_else(|| clock.job_id());
                let (key, group) = (self.input.unique_key_at.as_ref(), self.input.group_at.as_ref());
                let source = bulk::Source { file, check, seed, key, group };
                bulk::enqueue(call, &source).await
            }
            None => {
                let (inline, file) = (self.input.payload.as_deref(), self.input.file.as_deref());
                let payload = payload::read(inline, file, check)?;
                let id = self.input.id.unwrap_or_else(|| clock.job_id());
                let at = self.input.unique_key_at.as_ref();
                let found = at.map(|at| at.key("unique key", &payload)).transpose().map_err(Failure::new)?;
                let unique_key = found.flatten().or_else(|| self.options.unique_key.clone());
                let keys = JobKeys { unique_key, group: None };
                one(call, id, jobs.job(id, payload, keys)?).await
            }
        }
    }
}

/// Returns the revision that `wanted` stands for. Only a whole digest can be resolved without the daemon.
async fn revision(target: &Target, route: Option<&Route>, wanted: &str) -> Result<Revision, Failure> {
    if let Ok(revision) = Revision::parse(wanted) {
        return Ok(revision);
    }
    let Some(route) = route else {
        return Err(Failure::new("over the network a revision is named by its whole sha256")
            .help("`sandhog plugins --json` lists those that are in force, and kept"));
    };
    let Some(plugin) = &route.plugin else {
        return Err(Failure::new("no plugin handles the kind yet, so there is no revision to pin it to"));
    };
    let (tenant, name) = (plugin.tenant.as_str(), plugin.name.as_str());
    let daemon = daemon(target)?;
    let plugins = daemon.plugins().await.map_err(|error| unanswered(target, error))?.plugins;
    let standing =
        plugins.iter().find(|plugin| plugin.tenant.as_deref() == Some(tenant) && plugin.plugin == name);
    let found: Vec<&String> = match standing {
        Some(standing) if wanted == "current" => standing.revision.iter().collect(),
        Some(standing) => {
            let prefix = wanted.to_ascii_lowercase();
            standing.kept.iter().filter(|kept| !prefix.is_empty() && kept.starts_with(&prefix)).collect()
        }
        None => Vec::new(),
    };
    match found[..] {
        [only] => {
            only.parse().map_err(|_| Failure::new(format!("the daemon names `{only}`, which is no revision")))
        }
        [] => Err(Failure::new(format!("plugin {tenant}/{name} has no revision {wanted}"))
            .help("`sandhog plugins` lists those that are in force, and kept")),
        _ => Err(Failure::new(format!("{wanted} may be one of several revisions of plugin {tenant}/{name}"))
            .help("give more digits")),
    }
}

/// The parts that one call of the command needs.
pub(crate) struct Call<'c> {
    pub(crate) client: &'c Client,
    pub(crate) jobs: &'c JobMaker<'c>,
    /// Maximum time to wait for the jobs, or `None` not to wait.
    pub(crate) deadline: Option<Deadline>,
    pub(crate) console: &'c Console,
    /// Warnings about what keeps the jobs waiting.
    pub(crate) warnings: Vec<String>,
}

/// The tenant and queue of jobs that were enqueued.
pub(crate) struct Place {
    pub(crate) tenant: TenantId,
    pub(crate) queue: QueueName,
}

impl Call<'_> {
    /// Enqueues jobs, and notes what the server warns of. Returns where they are, and an answer for each.
    pub(crate) async fn enqueue(
        &mut self,
        jobs: Vec<JobAsk>,
    ) -> Result<(Place, Vec<Result<Enqueued, String>>), Problem> {
        let Told { tenant, queue, answers, warnings } = self.client.enqueue(self.jobs.route, jobs).await?;
        for warning in warnings {
            if !self.warnings.contains(&warning) {
                self.console.warn(&warning);
                self.warnings.push(warning);
            }
        }
        Ok((Place { tenant, queue }, answers))
    }

    /// Creates the JSON document of jobs that got these answers.
    pub(crate) fn document(&self, place: &Place, jobs: Vec<AnswerDocument>) -> EnqueuedDocument {
        EnqueuedDocument::new(&place.tenant, &place.queue, jobs, self.warnings.clone())
    }
}

/// The keys that one of several jobs has for itself.
pub(crate) struct JobKeys {
    pub(crate) unique_key: Option<UniqueKey>,
    /// The group; `None` for the one that the options name.
    pub(crate) group: Option<GroupKey>,
}

/// Makes jobs of one kind.
pub(crate) struct JobMaker<'m> {
    pub(crate) kind: &'m Kind,
    /// Their route; `None` if a server finds it.
    pub(crate) route: Option<&'m Route>,
    pub(crate) options: &'m Options,
    pinned: Option<Revision>,
    labels: Labels,
}

impl JobMaker<'_> {
    /// Creates a job with this payload, or returns why it would be refused.
    pub(crate) fn job(&self, id: JobId, payload: Vec<u8>, keys: JobKeys) -> Result<JobAsk, Failure> {
        let size = Bytes::of(payload.len());
        if size > self.payload_max() {
            return Err(self.too_large(&format!("a payload of {size}")));
        }
        let options = self.options;
        let text = |it: &dyn std::fmt::Display| it.to_string();
        let (payload_text, hex) = client::payload(&payload);
        let ask = JobAsk {
            kind: text(self.kind),
            tenant: options.tenant.as_ref().map(|it| text(it)),
            queue: options.queue.as_ref().map(|it| text(it)),
            text: payload_text,
            hex,
            id: Some(text(&id)),
            priority: Some(options.priority),
            group: keys.group.as_ref().or(options.group.as_ref()).map(|it| text(it)),
            start_within: options.start_within.map(time),
            deadline: options.deadline.map(time),
            labels: self.labels.iter().map(|(name, value)| (text(name), text(value))).collect(),
            content_type: options.content_type.as_ref().map(|it| text(it)),
            traceparent: options.traceparent.as_ref().map(|it| text(it)),
            tracestate: options.tracestate.as_ref().map(|it| text(it)),
            revision: self.pinned.map(|it| text(&it)),
            ..JobAsk::default()
        };
        let ask = match &keys.unique_key {
            Some(key) => options.unique.add_to(JobAsk { unique_key: Some(text(key)), ..ask }),
            None => ask,
        };
        // A debounced job is delayed by that, also where its payload has no key.
        let debounced = options.unique.debounce.filter(|_| !options.unique.debounce_leading);
        Ok(match (debounced, options.at) {
            (Some(_), _) if ask.debounce.is_some() => ask,
            (Some(delay), _) => JobAsk { delay: Some(time(delay)), ..ask },
            (None, Some(at)) => JobAsk { at: Some(at.into()), ..ask },
            (None, None) if options.delay.is_zero() => ask,
            (None, None) => JobAsk { delay: Some(time(options.delay)), ..ask },
        })
    }

    fn payload_max(&self) -> Bytes {
        self.route.map_or(QueueBounds::PAYLOAD_MAX, |route| route.bounds.payload)
    }

    fn too_large(&self, what: &str) -> Failure {
        let (of, knob) = match self.route {
            Some(Route { plugin: Some(plugin), .. }) => (
                format!("plugin {}/{}", plugin.tenant, plugin.name),
                format!("limits.payload in {}", plugin.file.display()),
            ),
            Some(Route { tenant, .. }) => {
                (format!("tenant {tenant}"), format!("tenants.{tenant}.queue.payload"))
            }
            None => ("a server".to_owned(), "limits.payload of its plugin".to_owned()),
        };
        let failure = Failure::new(format!("{what} is larger than {of} takes: {}", self.payload_max()));
        let failure = failure
            .help("pass what is large by reference: a path in a granted folder, a URL, a key of the state");
        if self.payload_max() < QueueBounds::PAYLOAD_MAX {
            return failure.help(format!("or raise {knob}; at most {}", QueueBounds::PAYLOAD_MAX));
        }
        failure
    }

    /// Returns why a job was not stored, for people: as the broker says, or the server.
    pub(crate) fn refused(&self, answer: Result<Enqueued, String>) -> Failure {
        match (answer, self.route) {
            (Err(why), _) => Failure::new(why),
            (Ok(Enqueued::Full(excess)), Some(Route { tenant, bounds, .. })) => {
                Failure::new(format!("{} of tenants.{tenant}", bounds.explain(excess)))
            }
            _ => self.too_large("the payload"),
        }
    }
}

async fn one(mut call: Call<'_>, id: JobId, job: JobAsk) -> Result<Exit, Failure> {
    let (place, answers) = match call.enqueue(vec![job]).await {
        Ok(stored) => stored,
        Err(error) => {
            let lost = error.slug == Slug::BrokerUnavailable;
            return Err(if lost { unknown(id, error) } else { error.into() });
        }
    };
    let Call { client, jobs, console, .. } = &call;
    let Place { tenant, queue } = &place;
    let answer = answers.into_iter().next().unwrap_or(Ok(Enqueued::Stored));
    let (id, answer) = match answer {
        Ok(Enqueued::Stored) => (id, Answer::Stored),
        Ok(Enqueued::Duplicate(holder)) if jobs.options.unique.rejects() => return Err(rejected(holder)),
        Ok(Enqueued::Duplicate(holder)) => (holder, Answer::Duplicate),
        Ok(Enqueued::Replaced(holder)) => (holder, Answer::Replaced),
        Ok(Enqueued::TooLarge | Enqueued::Full(_)) | Err(_) => return Err(jobs.refused(answer)),
    };
    match answer {
        Answer::Duplicate => {
            console.complain(&format!("nothing was enqueued: {id} holds the unique key of this kind"))
        }
        Answer::Replaced => console.remark(&format!("{id}, which waits, has got the payload")),
        _ if console.format == Format::Json && call.deadline.is_some() => {
            console.remark(&format!("{id} is enqueued for tenant {tenant}, on queue {queue}"));
        }
        _ => console.remark(&format!("enqueued for tenant {tenant}, on queue {queue}")),
    }
    let document =
        call.document(&place, vec![AnswerDocument { line: None, id: id.to_string(), answer, problem: None }]);
    let Some(deadline) = call.deadline else {
        console.show(&document, || id.to_string())?;
        return Ok(Exit::Ok);
    };
    // The id is printed in any case, however the wait ends.
    if console.format == Format::People {
        console.result(&id.to_string())?;
    }
    let waited = await_one(client, tenant, id, answer, deadline, console).await;
    if waited.is_err() && console.format == Format::Json {
        console.json(&document)?;
    }
    waited
}

/// Creates the failure of a job whose key is held.
pub(crate) fn rejected(holder: JobId) -> Failure {
    Failure::new(format!("nothing was enqueued: job {holder} holds the unique key of this kind"))
        .help(format!("`sandhog job show {holder}` shows it"))
}

/// Creates the failure of a job that was sent without an answer.
fn unknown(id: JobId, error: Problem) -> Failure {
    let help = format!("ask `sandhog job show {id}`, or repeat the command with --id {id}");
    Failure::new(format!("it is unknown whether job {id} is stored: {}", error.detail)).help(help)
}

/// Waits for a job, and prints its outcome.
async fn await_one(
    client: &Client,
    tenant: &TenantId,
    id: JobId,
    answer: Answer,
    deadline: Deadline,
    console: &Console,
) -> Result<Exit, Failure> {
    let job = wait_for(client, tenant, id, deadline, console).await?;
    let exit = Exit::of_state(job.state);
    match console.format {
        Format::People => console.result(&render::outcome(&job, console.paint()))?,
        Format::Json => {
            let job = client.seen(id, Some(tenant)).await?.document;
            console.json(&render::AwaitedDocument { job, duplicate: answer == Answer::Duplicate })?;
        }
    }
    Ok(exit)
}
