//! `sandhog job`: one job.

use std::path::Path;
use std::time::Duration;

use clap::{Args, Subcommand};
use sandhog_broker::Changed;
use sandhog_core::id::{JobId, TenantId};
use sandhog_core::job::State;
use serde::Serialize;

use super::client::Client;
use super::console::Console;
use super::exit::{Exit, Failure};
use super::render::job as render;
use super::wait::{Patience, wait_for};
use crate::broker::Access;
use crate::config::units::parse_time;

/// Look at one job, cancel it, or try it again
#[derive(Debug, Subcommand)]
pub(super) enum Job {
    Show(Show),
    Cancel(Cancel),
    Redrive(Redrive),
}

/// Which job.
#[derive(Debug, Args)]
struct Which {
    /// The job's id
    id: JobId,
    /// Whose it is [default: any of the configuration's tenants]
    #[arg(long, short, value_name = "NAME")]
    tenant: Option<TenantId>,
}

/// Show all that is known of a job: state, reason, usage, output, log
#[derive(Debug, Args)]
pub(super) struct Show {
    #[command(flatten)]
    which: Which,
    /// Print nothing but the job's output, as it is
    #[arg(long, conflicts_with = "json")]
    output: bool,
    /// Wait until the job is final; the exit code tells what came of it
    #[arg(long)]
    wait: bool,
    /// With --wait: no longer than this
    #[arg(long, value_name = "TIME", value_parser = parse_time, requires = "wait")]
    timeout: Option<Duration>,
}

/// Cancel a job: at once if it waits, at the next renewal of its lease if it runs
#[derive(Debug, Args)]
pub(super) struct Cancel {
    #[command(flatten)]
    which: Which,
}

/// Put a dead job back, with all its attempts ahead of it
#[derive(Debug, Args)]
pub(super) struct Redrive {
    #[command(flatten)]
    which: Which,
}

/// What was done to a job, for programs.
#[derive(Debug, Serialize)]
struct DoneDocument {
    id: String,
    /// `cancelled`, `cancel-requested` or `redriven`.
    done: &'static str,
}

impl Job {
    pub(super) async fn execute(self, config: &Path, console: &Console) -> Result<Exit, Failure> {
        let access = match &self {
            Self::Show(_) => Access::Look,
            Self::Cancel(_) | Self::Redrive(_) => Access::Change,
        };
        let client = Client::connect(config, access).await?;
        match self {
            Self::Show(show) => show.execute(&client, console).await,
            Self::Cancel(cancel) => cancel.execute(&client, console).await,
            Self::Redrive(redrive) => redrive.execute(&client, console).await,
        }
    }
}

impl Show {
    async fn execute(self, client: &Client, console: &Console) -> Result<Exit, Failure> {
        let id = self.which.id;
        let mut job = client.job(id, self.which.tenant.as_ref()).await?;
        let mut exit = Exit::Ok;
        if self.wait {
            job = wait_for(client, &job.tenant, id, Patience::new(self.timeout), console).await?;
            exit = Exit::of_state(job.state);
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
        let log = client.broker.log(&job.tenant, id).await?;
        let text = || render::job(&job, &log, console.paint());
        match console.format {
            super::console::Format::People => console.result(&text())?,
            super::console::Format::Json => console.json(&render::JobDocument::new(job, Some(log)))?,
        }
        Ok(exit)
    }
}

impl Cancel {
    async fn execute(self, client: &Client, console: &Console) -> Result<Exit, Failure> {
        let id = self.which.id;
        let job = client.job(id, self.which.tenant.as_ref()).await?;
        let (done, text) = match client.broker.cancel(&job.tenant, id).await? {
            Changed::Done => ("cancelled", "cancelled"),
            Changed::Requested => ("cancel-requested", "is running; its daemon was told to stop it"),
            Changed::Not(State::Cancelled) => ("cancelled", "was cancelled before"),
            Changed::Not(state) => {
                return Err(Failure::new(format!("job {id} can't be cancelled: it is {state}")));
            }
            Changed::Duplicate(_) | Changed::Unknown | Changed::Unreadable => return Err(gone(id)),
        };
        console.show(&DoneDocument { id: id.to_string(), done }, || format!("{id} {text}"))?;
        Ok(Exit::Ok)
    }
}

impl Redrive {
    async fn execute(self, client: &Client, console: &Console) -> Result<Exit, Failure> {
        let id = self.which.id;
        let job = client.job(id, self.which.tenant.as_ref()).await?;
        match client.broker.redrive(&job.tenant, id).await? {
            Changed::Done => {}
            Changed::Not(state) => {
                return Err(Failure::new(format!("job {id} can't be redriven: it is {state}, not dead")));
            }
            Changed::Duplicate(holder) => {
                let failure =
                    Failure::new(format!("job {id} can't be redriven: job {holder} holds its unique key"));
                return Err(
                    failure.help(format!("wait for it (`sandhog job show {holder} --wait`) or cancel it"))
                );
            }
            Changed::Requested | Changed::Unknown | Changed::Unreadable => return Err(gone(id)),
        }
        console.show(&DoneDocument { id: id.to_string(), done: "redriven" }, || {
            format!("{id} is ready again")
        })?;
        Ok(Exit::Ok)
    }
}

/// It was there a moment ago.
fn gone(id: JobId) -> Failure {
    Failure::new(format!("there is no job {id} any more")).exit(Exit::NotFound)
}
