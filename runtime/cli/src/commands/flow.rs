//! `sandhog flow`: stores jobs that wait for others, shows them, and acts on all of them.

use std::cell::Cell;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use sandhog_api::{FlowAsk, Problem, Request, Slug, route};
use sandhog_broker::{Changed, JobAction};
use sandhog_core::flow::FlowJobView;
use sandhog_core::id::{JobId, TenantId};
use sandhog_core::job::{JobRecord, State};
use sandhog_daemon::broker::Access;
use sandhog_daemon::clock::Clock;
use sandhog_daemon::service::flows::{self, FlowPart, Found, Routed, from_part, in_order};
use sandhog_daemon::service::jobs::ACT_MAX;

use crate::client::{Beside, Client, unreadable};
use crate::commands::flow_file;
use crate::commands::wait::{Deadline, Waiting, wait_for_all};
use crate::exit::{Exit, Failure};
use crate::output::console::Console;
use crate::output::flow::{self as render, StoredFlowDocument};
use crate::target::Target;

/// Run jobs that wait for others; show, cancel or redrive all of them
#[derive(Debug, Subcommand)]
pub(crate) enum FlowCommand {
    Run(Run),
    Show(Show),
    Cancel(Cancel),
    Redrive(Redrive),
}

/// Store the jobs of a flow in one step, or none of them
#[derive(Debug, Args)]
#[command(after_help = EXAMPLE)]
pub(crate) struct Run {
    /// The flow, in JSON or TOML; `-` reads it from standard input
    file: PathBuf,
    /// Whose jobs they are [default: what the file says, or the only tenant that handles the first kind]
    #[arg(long, short, value_name = "NAME")]
    tenant: Option<TenantId>,
    /// The flow's id: a ULID of yours, from which those of its jobs are made. To repeat it with the same id makes no second flow
    #[arg(long, value_name = "ULID")]
    id: Option<JobId>,
    #[command(flatten)]
    waiting: Waiting,
}

/// Show the jobs of a flow as a tree, and what each waits for
#[derive(Debug, Args)]
pub(crate) struct Show {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    waiting: Waiting,
}

/// Cancel all jobs of a flow that are not final
#[derive(Debug, Args)]
pub(crate) struct Cancel {
    #[command(flatten)]
    which: Which,
}

/// Put all dead jobs of a flow back; each waits again for those that it comes after
#[derive(Debug, Args)]
pub(crate) struct Redrive {
    #[command(flatten)]
    which: Which,
    /// Only those of this job, by its name in the flow or its id, and of all that depend on it
    #[arg(long, value_name = "JOB")]
    from: Option<FlowPart>,
}

/// Which flow it is.
#[derive(Debug, Args)]
pub(crate) struct Which {
    /// The flow's id, or that of any of its jobs
    id: JobId,
    /// Whose it is [default: any of the configuration's tenants]
    #[arg(long, short, value_name = "NAME")]
    tenant: Option<TenantId>,
}

const EXAMPLE: &str = "\
Example of a flow: b and c after a, then d
  [[jobs]]
  name = \"a\"
  kind = \"image.fetch\"
  payload = { url = \"https://example.com/a.png\" }
  [[jobs]]
  name = \"b\"
  kind = \"image.thumbnail\"
  after = [\"a\"]
  [[jobs]]
  name = \"c\"
  kind = \"image.rotate\"
  after = [\"a\"]
  [[jobs]]
  name = \"d\"
  kind = \"mail.send\"
  after = [\"b\", { job = \"c\", on_failure = \"ignore\" }]

Beside these, a job may have queue, priority, delay, unique_key, group, and outputs = true for the outputs of those before it.";

impl FlowCommand {
    pub(crate) async fn execute(self, target: &Target, console: &Console) -> Result<Exit, Failure> {
        match self {
            Self::Run(run) => run.execute(&Client::connect(target, Access::Serve).await?, console).await,
            Self::Show(show) => show.execute(&Client::connect(target, Access::Look).await?, console).await,
            Self::Cancel(Cancel { which }) => which.act(JobAction::Cancel, None, target, console).await,
            Self::Redrive(Redrive { which, from }) => {
                which.act(JobAction::Redrive, from.as_ref(), target, console).await
            }
        }
    }
}

impl Run {
    async fn execute(self, client: &Client, console: &Console) -> Result<Exit, Failure> {
        let mut ask = flow_file::read(&self.file)?;
        ask.tenant = self.tenant.map(|tenant| tenant.to_string()).or(ask.tenant);
        let given = self.id.map(|id| id.to_string()).or(ask.id);
        // It has its id from here, so that the same command can be repeated whatever becomes of the answer.
        let id = given.unwrap_or_else(|| Clock::system().job_id().to_string());
        ask.id = Some(id.clone());
        let document = store(client, ask, console).await.map_err(|mut problem| {
            let lost = problem.slug == Slug::BrokerUnavailable;
            if problem.slug == Slug::MalformedRequest {
                problem.detail = format!("{} is no flow: {}", self.file.display(), problem.detail);
            }
            let failure = Failure::from(problem);
            if lost { failure.help(format!("repeat the command with --id {id}")) } else { failure }
        })?;
        console.show(&document, || document.flow.clone())?;
        match self.waiting.deadline() {
            None => Ok(Exit::Ok),
            Some(deadline) => {
                let (tenant, ids) = document.read().map_err(unreadable)?;
                await_all(client, &tenant, &ids, deadline, console).await
            }
        }
    }
}

/// Stores a flow that has its id.
async fn store(client: &Client, ask: FlowAsk, console: &Console) -> Result<StoredFlowDocument, Problem> {
    let id = ask.id.clone().unwrap_or_default();
    let repeatable = || {
        console.remark(&format!("if this is interrupted, repeat it with --id {id}; no job is stored twice"));
    };
    let beside: &Beside = match client {
        Client::Beside(beside) => beside,
        Client::Over(client) => {
            repeatable();
            return Ok(client.call(&Request::to(route::STORE_FLOW).body(&ask)).await?);
        }
    };
    let ask = ask.with_payloads(|payload| Ok::<_, Problem>(payload.get().as_bytes().to_vec()))?;
    let routed = beside.make_flow(ask)?;
    let Routed { flow, routes } = &routed;
    for (node, route) in flow.nodes().iter().zip(routes) {
        for warning in beside.unserved(&route.tenant, &route.queue, &node.job.kind) {
            console.warn(&format!("job `{}`: {warning}", node.name));
        }
    }
    repeatable();
    let stored = beside.store_flow(flow, routes).await?;
    match (flows::refused(&routed, stored), routes.first()) {
        (None, Some(first)) => Ok(StoredFlowDocument::new(&first.tenant, flow)),
        (Some(problem), _) => Err(problem),
        (None, None) => Err(Problem::new(Slug::MalformedRequest, "a flow has one job at least")),
    }
}

/// Waits until all these jobs are final. The exit code is that of the one which fared worst.
async fn await_all(
    client: &Client,
    tenant: &TenantId,
    ids: &[JobId],
    deadline: Deadline,
    console: &Console,
) -> Result<Exit, Failure> {
    let (exit, unhappy) = (Cell::new(Exit::Ok), Cell::new(0));
    wait_for_all(client, tenant, ids, deadline, console, |job: &JobRecord| {
        let of_job = Exit::of_state(job.state);
        unhappy.set(unhappy.get() + u64::from(of_job != Exit::Ok));
        exit.set(exit.get().and(of_job));
    })
    .await?;
    match (unhappy.get(), ids.first()) {
        (0, _) | (_, None) => console.remark("all jobs of the flow succeeded"),
        (n, Some(flow)) => console.complain(&format!(
            "{n} of the {} jobs of the flow did not succeed; `sandhog flow show {flow}` shows them",
            ids.len()
        )),
    }
    Ok(exit.get())
}

impl Show {
    async fn execute(self, client: &Client, console: &Console) -> Result<Exit, Failure> {
        let mut found = self.which.find(client).await?;
        let mut exit = Exit::Ok;
        if let Some(deadline) = self.waiting.deadline() {
            let ids: Vec<JobId> = found.view.jobs.iter().map(|view| view.job.id).collect();
            exit = await_all(client, &found.tenant, &ids, deadline, console).await?;
            found = self.which.find(client).await?;
        }
        let document = render::document(&found.tenant, found.id, &found.view);
        console.show(&document, || render::tree(found.id, &found.view, console.paint()))?;
        Ok(exit)
    }
}

impl Which {
    async fn find(&self, client: &Client) -> Result<Found, Failure> {
        Ok(client.flow(self.id, self.tenant.as_ref()).await?)
    }

    /// Does one action to all jobs of the flow to which it can be done, or to one and those that depend on it.
    async fn act(
        &self,
        action: JobAction,
        from: Option<&FlowPart>,
        target: &Target,
        console: &Console,
    ) -> Result<Exit, Failure> {
        let client = &Client::connect(target, Access::Change).await?;
        if let Client::Over(client) = client {
            let route = if action == JobAction::Cancel { route::CANCEL_FLOW } else { route::REDRIVE_FLOW };
            let request = Request::to_part(route, self.id).with("tenant", self.tenant.as_ref());
            let document = client.call(&request.with("from", from)).await?;
            console.show(&document, || render::told(&document))?;
            return Ok(Exit::Ok);
        }
        let found = self.find(client).await?;
        // Those that come after others are cancelled first, and redriven last.
        let mut jobs: Vec<&FlowJobView> =
            from.map_or_else(|| Ok(in_order(&found.view)), |from| from_part(&found, from))?;
        if action == JobAction::Cancel {
            jobs.reverse();
        }
        let wanted = |job: &JobRecord| match action {
            JobAction::Cancel => !job.state.is_final(),
            _ => job.state == State::Dead,
        };
        let jobs: Vec<&FlowJobView> = jobs.into_iter().filter(|view| wanted(&view.job)).collect();
        let mut done = Vec::new();
        for batch in jobs.chunks(ACT_MAX) {
            let ids: Vec<JobId> = batch.iter().map(|view| view.job.id).collect();
            let answers = client.act(&found.tenant, action, &ids).await?;
            for (view, answer) in batch.iter().copied().zip(answers) {
                done.push((view, answer?));
            }
        }
        let mut exit = Exit::Ok;
        for (view, changed) in &done {
            let refused = match changed {
                Changed::Done
                | Changed::Requested
                | Changed::Not(_)
                | Changed::Touched
                | Changed::Unknown => continue,
                Changed::Duplicate(holder) => format!("job {holder} holds its unique key"),
                Changed::Unreadable => "what is stored of it was written by a newer version".to_owned(),
            };
            exit = exit.and(Exit::Failed);
            console.complain(&format!("job `{}` ({}): {refused}", view.name, view.job.id));
        }
        let document = render::acted(&found.tenant, found.id, action, &done);
        console.show(&document, || render::told(&document))?;
        Ok(exit)
    }
}
