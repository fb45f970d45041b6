//! `sandhog job`: shows one job, and acts on jobs.

use std::path::Path;

use clap::{Args, Subcommand};
use sandhog_broker::JobAction;
use sandhog_core::id::{JobId, TenantId};
use sandhog_daemon::broker::Access;

use crate::client::Client;
use crate::commands::act::{self, Act};
use crate::commands::wait::{Waiting, wait_for};
use crate::exit::{Exit, Failure};
use crate::output::console::{Console, Format};
use crate::output::flow::waits_for;
use crate::output::job::{self as render, Payloads};

/// Look at one job; cancel jobs, try them again, run them now, or remove them
#[derive(Debug, Subcommand)]
pub(crate) enum Job {
    Show(Show),
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
    pub(crate) async fn execute(self, config: &Path, console: &Console) -> Result<Exit, Failure> {
        let access = match &self {
            Self::Show(_) => Access::Look,
            Self::Cancel(_) | Self::Redrive(_) | Self::RunNow(_) | Self::Remove(_) => Access::Change,
        };
        let client = Client::connect(config, access).await?;
        match self {
            Self::Show(show) => show.execute(&client, console).await,
            Self::Cancel(Cancel { act, waiting }) => {
                act.execute(JobAction::Cancel, waiting.deadline(), &client, console).await
            }
            Self::Redrive(Redrive { act }) => act.execute(JobAction::Redrive, None, &client, console).await,
            Self::RunNow(RunNow { act }) => act.execute(JobAction::RunNow, None, &client, console).await,
            Self::Remove(Remove { act }) => act.execute(JobAction::Remove, None, &client, console).await,
        }
    }
}

impl Show {
    async fn execute(self, client: &Client, console: &Console) -> Result<Exit, Failure> {
        let id = self.id;
        let mut job = client.find(id, self.tenant.as_ref()).await?;
        let mut exit = Exit::Ok;
        if let Some(deadline) = self.waiting.deadline() {
            job = wait_for(client, &job.tenant, id, deadline, console).await?;
            exit = Exit::of_state(job.state);
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
        let log = client.log(&job.tenant, id).await?;
        let waits = client.waits(&job).await?;
        match console.format {
            Format::People => {
                let waits_for = match (&job.waits_for[..], job.options.flow) {
                    ([], _) | (_, None) => Vec::new(),
                    (_, Some(member)) => {
                        let found = client.flow(member.flow, Some(&job.tenant)).await?;
                        waits_for(&job, &found.view, console.paint())
                    }
                };
                console.result(&render::job(&job, &waits, &waits_for, &log, console.paint()))?;
            }
            Format::Json => {
                let document = render::JobDocument::new(job, Some(log), Payloads::Shown);
                console.json(&document.waiting_for(&waits))?;
            }
        }
        Ok(exit)
    }
}
