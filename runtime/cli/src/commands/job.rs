//! `sandhog job`: shows one job, and acts on jobs.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use sandhog_broker::JobAction;
use sandhog_config::units::parse_time;
use sandhog_core::edit::{Due, JobEdit};
use sandhog_core::id::{JobId, TenantId};
use sandhog_core::job::Priority;
use sandhog_core::time::Timestamp;
use sandhog_daemon::broker::Access;

use crate::client::{Client, Seen};
use crate::commands::act::{self, Act};
use crate::commands::payload::{self, Check};
use crate::commands::times::parse_at;
use crate::commands::wait::{Waiting, wait_for};
use crate::exit::{Exit, Failure};
use crate::output::act::DoneDocument;
use crate::output::console::{Console, Format};
use crate::output::flow::waits_for;
use crate::output::job as render;
use crate::target::Target;

/// Look at one job, or change what it is to do; cancel jobs, try them again, run them now, or remove them
#[derive(Debug, Subcommand)]
pub(crate) enum Job {
    Show(Show),
    Edit(Edit),
    Cancel(Cancel),
    Redrive(Redrive),
    RunNow(RunNow),
    Remove(Remove),
}

/// Show all that is known of a job: state, reason, usage, output, log
#[derive(Debug, Args)]
pub(crate) struct Show {
    /// The job's id
    id: JobId,
    /// Whose it is [default: any of the configuration's tenants]
    #[arg(long, short, value_name = "NAME")]
    tenant: Option<TenantId>,
    /// Print nothing but the job's output, as it is
    #[arg(long, conflicts_with_all = ["json", "payload"])]
    output: bool,
    /// Print nothing but the job's payload, as it is
    #[arg(long, conflicts_with = "json")]
    payload: bool,
    #[command(flatten)]
    waiting: Waiting,
}

/// Change the payload, the priority or the time of a job that waits
#[derive(Debug, Args)]
#[command(after_help = EDIT_EXAMPLES)]
pub(crate) struct Edit {
    /// The job's id
    id: JobId,
    #[command(flatten)]
    changes: Changes,
    /// Whose it is [default: any of the configuration's tenants]
    #[arg(long, short, value_name = "NAME")]
    tenant: Option<TenantId>,
}

/// What is changed about a job.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
struct Changes {
    /// The new payload, JSON; - reads it from standard input
    #[arg(long, value_name = "PAYLOAD", group = "new_payload")]
    payload: Option<String>,
    /// Read the new payload from a file
    #[arg(long, value_name = "FILE", group = "new_payload")]
    file: Option<PathBuf>,
    /// Take the payload as it is, even if it is no JSON
    #[arg(long, requires = "new_payload")]
    raw: bool,
    /// The new priority, 0 to 255: higher ones go first
    #[arg(long, value_name = "N")]
    priority: Option<u8>,
    /// Run it once this time has gone by from now on, such as 10m; 0s for at once
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    delay: Option<Duration>,
    /// Run it at this time, such as 2026-11-24T18:00:00Z
    #[arg(long, value_name = "WHEN", value_parser = parse_at, conflicts_with = "delay")]
    at: Option<Timestamp>,
}

const EDIT_EXAMPLES: &str = "\
Examples:
  sandhog job edit 01J8Z4W2Q2V7H7WQ8X3R0N5T6A --priority 200
  sandhog job edit 01J8Z4W2Q2V7H7WQ8X3R0N5T6A --payload '{\"to\": \"b@example.com\"}' --delay 10m";

/// Cancel jobs: at once if they wait, with the help of their daemon if they run
#[derive(Debug, Args)]
#[command(after_help = act::EXAMPLES)]
pub(crate) struct Cancel {
    #[command(flatten)]
    act: Act,
    #[command(flatten)]
    waiting: Waiting,
}

/// Put dead jobs back, with all their attempts ahead of them
#[derive(Debug, Args)]
#[command(after_help = act::EXAMPLES)]
pub(crate) struct Redrive {
    #[command(flatten)]
    act: Act,
}

/// Make scheduled jobs ready at once, and blocked ones
#[derive(Debug, Args)]
#[command(after_help = act::EXAMPLES)]
pub(crate) struct RunNow {
    #[command(flatten)]
    act: Act,
}

/// Remove final jobs, with all that is kept of them
#[derive(Debug, Args)]
#[command(after_help = act::EXAMPLES)]
pub(crate) struct Remove {
    #[command(flatten)]
    act: Act,
}

impl Job {
    pub(crate) async fn execute(self, target: &Target, console: &Console) -> Result<Exit, Failure> {
        let access = match &self {
            Self::Show(_) => Access::Look,
            Self::Edit(_) | Self::Cancel(_) | Self::Redrive(_) | Self::RunNow(_) | Self::Remove(_) => {
                Access::Change
            }
        };
        let client = Client::connect(target, access).await?;
        match self {
            Self::Show(show) => show.execute(&client, console).await,
            Self::Edit(edit) => edit.execute(&client, console).await,
            Self::Cancel(Cancel { act, waiting }) => {
                act.execute(JobAction::Cancel, waiting.deadline(), &client, console).await
            }
            Self::Redrive(Redrive { act }) => act.execute(JobAction::Redrive, None, &client, console).await,
            Self::RunNow(RunNow { act }) => act.execute(JobAction::RunNow, None, &client, console).await,
            Self::Remove(Remove { act }) => act.execute(JobAction::Remove, None, &client, console).await,
        }
    }
}

impl Edit {
    async fn execute(self, client: &Client, console: &Console) -> Result<Exit, Failure> {
        let Self { id, changes: Changes { payload, file, raw, priority, delay, at }, tenant } = self;
        let payload = match (&payload, &file) {
            (None, None) => None,
            (inline, file) => Some(payload::read(inline.as_deref(), file.as_deref(), Check::unless(raw))?),
        };
        let due = delay.map(Due::After).or_else(|| at.map(Due::At));
        let edit = JobEdit { payload, priority: priority.map(Priority), due };
        let tenant = client.edit(id, tenant.as_ref(), &edit).await?;
        let document = DoneDocument::new(id, Some(&tenant), Ok("edited"));
        console.show(&document, || format!("{id} is edited"))?;
        Ok(Exit::Ok)
    }
}

impl Show {
    async fn execute(self, client: &Client, console: &Console) -> Result<Exit, Failure> {
        let id = self.id;
        let mut seen = client.seen(id, self.tenant.as_ref()).await?;
        let mut exit = Exit::Ok;
        if let Some(deadline) = self.waiting.deadline() {
            let tenant = seen.job.tenant.clone();
            exit = Exit::of_state(wait_for(client, &tenant, id, deadline, console).await?.state);
            seen = client.seen(id, Some(&tenant)).await?;
        }
        let Seen { job, log, document } = seen;
        if (self.payload || self.output) && document.payload.is_none() {
            return Err(Failure::new("the server shows neither payload nor output to this token")
                .help("that takes the role `operate`"));
        }
        if self.payload {
            console.bytes(&job.payload)?;
            return Ok(exit);
        }
        if self.output {
            let Some(output) = &job.output else {
                let state = job.state;
                return Err(Failure::new(format!("job {id} has no output: it is {state}"))
                    .exit(exit.and(Exit::Failed)));
            };
            console.bytes(output)?;
            return Ok(exit);
        }
        match console.format {
            Format::People => {
                let waits_for = match (&job.waits_for[..], job.options.flow) {
                    ([], _) | (_, None) => Vec::new(),
                    (_, Some(member)) => {
                        let found = client.flow(member.flow, Some(&job.tenant)).await?;
                        waits_for(&job, &found.view, console.paint())
                    }
                };
                console.result(&render::job(&job, &document, &waits_for, &log, console.paint()))?;
            }
            Format::Json => console.json(&document)?,
        }
        Ok(exit)
    }
}
