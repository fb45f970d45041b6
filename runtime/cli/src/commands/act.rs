//! Actions on jobs: on those that are named, or on all that match a selection.

use std::collections::BTreeMap;

use clap::Args;
use sandhog_broker::{Changed, JobAction};
use sandhog_core::id::{JobId, TenantId};
use sandhog_core::job::State;
use sandhog_daemon::service::jobs::{ACT_MAX, unknown};

use crate::client::Client;
use crate::commands::selection::Selection;
use crate::commands::wait::{Deadline, wait_for};
use crate::exit::{Exit, Failure};
use crate::output::console::{Console, Format};
use crate::output::{
    self,
    act::{DoneDocument, DonesDocument},
};

/// To which jobs.
#[derive(Debug, Args)]
#[group(id = "jobs", required = true, multiple = true, args = ["ids", "state", "queue", "kind", "reason", "since", "until", "all"])]
pub(crate) struct Act {
    /// The jobs' ids
    #[arg(value_name = "ID", conflicts_with_all = ["state", "queue", "kind", "reason", "since", "until", "all"])]
    ids: Vec<JobId>,
    #[command(flatten)]
    selection: Selection,
    /// To all jobs, as far as the other options don't say which
    #[arg(long)]
    all: bool,
    /// Don't ask
    #[arg(long, short)]
    yes: bool,
    /// Only say to which jobs it would be done
    #[arg(long)]
    dry_run: bool,
}

pub(crate) const EXAMPLES: &str = "\
Jobs are named by their ids, or picked by options, as `sandhog jobs` lists them; then the command asks before it does
anything.

Examples, of redriving:
  sandhog job redrive 01J8Z4W2Q2V7H7WQ8X3R0N5T6A
  sandhog job redrive --kind image.thumbnail --reason timed-out --since 2h --dry-run";

/// The words for an action.
#[derive(Clone, Copy)]
struct Verb {
    /// The infinitive, such as `cancel`.
    infinitive: &'static str,
    /// The participle, such as `cancelled` in `can't be cancelled`.
    participle: &'static str,
    /// The word for what was done to a job, for programs.
    done: &'static str,
    /// The words for what was done to one job, for people.
    told: &'static str,
}

impl Verb {
    const fn new(infinitive: &'static str, participle: &'static str) -> Self {
        Self { infinitive, participle, done: participle, told: participle }
    }
}

fn verb(action: JobAction) -> Verb {
    match action {
        JobAction::Cancel => Verb::new("cancel", "cancelled"),
        JobAction::Redrive => Verb { told: "is ready again", ..Verb::new("redrive", "redriven") },
        JobAction::RunNow => Verb { done: "ready", told: "is ready", ..Verb::new("run now", "run now") },
        JobAction::Remove => Verb::new("remove", "removed"),
    }
}

/// Returns the states in which the action can be done to a job.
fn states(action: JobAction) -> Vec<State> {
    State::ALL.into_iter().filter(|state| action.changes(*state)).collect()
}

/// The result of an action on one job.
struct Told {
    id: JobId,
    tenant: Option<TenantId>,
    outcome: Result<(&'static str, &'static str), Failure>,
}

impl Act {
    /// Does the action, and waits until jobs that are being stopped have ended, if `deadline` is given.
    ///
    /// # Errors
    /// If it can't be done to the only job that is named, or the broker can't be reached.
    pub(crate) async fn execute(
        self,
        action: JobAction,
        deadline: Option<Deadline>,
        client: &Client,
        console: &Console,
    ) -> Result<Exit, Failure> {
        let tenants = client.tenants(self.selection.tenant.as_ref())?;
        if self.ids.is_empty() {
            return self.picked(action, deadline, &tenants, client, console).await;
        }
        let mut ids = Vec::new();
        self.ids.iter().for_each(|id| {
            if !ids.contains(id) {
                ids.push(*id)
            }
        });
        if self.dry_run {
            let found = self.named(&ids, client).await?;
            return dry(verb(action), &found, console);
        }
        let mut told = Vec::new();
        let acted = to_named(action, &ids, &tenants, client, &mut told).await;
        let waited = settled(&mut told, &acted, deadline, client, console).await;
        if let (Ok(()), [_]) = (acted.as_ref().and(waited.as_ref()), &ids[..]) {
            let Told { id, tenant, outcome } = told.remove(0);
            let (done, text) = outcome?;
            let document = DoneDocument::new(id, tenant.as_ref(), Ok(done));
            console.show(&document, || format!("{id} {text}"))?;
            return Ok(Exit::Ok);
        }
        let exit = report(&told, Lines::EachJob, console)?;
        acted.and(waited).map(|()| exit)
    }

    /// Returns the named jobs with their current states.
    async fn named(&self, ids: &[JobId], client: &Client) -> Result<Vec<(TenantId, JobId, State)>, Failure> {
        let mut found = Vec::new();
        for id in ids {
            let job = client.find(*id, self.selection.tenant.as_ref()).await?;
            found.push((job.tenant, *id, job.state));
        }
        Ok(found)
    }

    async fn picked(
        self,
        action: JobAction,
        deadline: Option<Deadline>,
        tenants: &[TenantId],
        client: &Client,
        console: &Console,
    ) -> Result<Exit, Failure> {
        let verb = verb(action);
        let states = match self.selection.state {
            None => states(action),
            Some(state) if action.changes(state) => vec![state],
            Some(state) => return Err(Failure::new(format!("{state} jobs can't be {}", verb.participle))),
        };
        let (filter, mut found) = (self.selection.filter(), Vec::new());
        let spinner = console.spinner("looking for jobs");
        for tenant in tenants {
            let progress = |found| spinner.set_message(format!("found {}", output::of(found as u64, "job")));
            let jobs = client.pick(tenant, &states, &filter, progress).await?;
            found.extend(jobs.into_iter().map(|(id, state)| (tenant.clone(), id, state)));
        }
        spinner.finish_and_clear();
        if self.dry_run {
            return dry(verb, &found, console);
        }
        if !found.is_empty() && !self.yes {
            let question = question(verb, &found);
            if !console.ask(&question)? {
                return Err(Failure::new(format!("nothing was {}", verb.participle)));
            }
        }
        let bar = console.bar(found.len() as u64, verb.infinitive);
        let (mut told, mut acted) = (Vec::new(), Ok(()));
        for tenant in tenants {
            let of_tenant = found.iter().filter(|(of, ..)| of == tenant);
            let ids: Vec<JobId> = of_tenant.map(|(_, id, _)| *id).collect();
            for batch in ids.chunks(ACT_MAX) {
                acted = to_named(action, batch, std::slice::from_ref(tenant), client, &mut told).await;
                if acted.is_err() {
                    break;
                }
                bar.inc(batch.len() as u64);
            }
        }
        bar.finish_and_clear();
        let waited = settled(&mut told, &acted, deadline, client, console).await;
        let exit = report(&told, Lines::RefusedAlone(verb), console)?;
        let unfinished = |failure: Failure| {
            let (done, all) = (told.len(), found.len());
            let message = format!("{done} of {all} jobs were gone through: {}", failure.message);
            failure.says(message).help("repeat the command: it goes on with those that are left")
        };
        acted.map_err(unfinished).and(waited).map(|()| exit)
    }
}

/// Does the action to these jobs, whichever tenants' they are, and notes the result for each.
async fn to_named(
    action: JobAction,
    ids: &[JobId],
    tenants: &[TenantId],
    client: &Client,
    told: &mut Vec<Told>,
) -> Result<(), Failure> {
    let mut answers: BTreeMap<JobId, (TenantId, Changed)> = BTreeMap::new();
    let mut left = ids.to_vec();
    let mut acted = Ok(());
    for tenant in tenants {
        for batch in left.chunks(ACT_MAX) {
            match client.act(tenant, action, batch).await {
                Ok(changed) => {
                    let known = batch.iter().zip(changed).filter(|(_, changed)| *changed != Changed::Unknown);
                    answers.extend(known.map(|(id, changed)| (*id, (tenant.clone(), changed))));
                }
                Err(error) if acted.is_ok() => acted = Err(Failure::from(error)),
                Err(_) => {}
            }
        }
        left.retain(|id| !answers.contains_key(id));
    }
    for id in ids {
        match answers.remove(id) {
            Some((tenant, changed)) => {
                told.push(Told { id: *id, tenant: Some(tenant), outcome: outcome(action, *id, changed) });
            }
            // If a tenant couldn't be asked, it is unknown whether the job exists.
            None if acted.is_err() => {}
            None => told.push(Told { id: *id, tenant: None, outcome: Err(unknown(*id, tenants).into()) }),
        }
    }
    acted
}

fn outcome(action: JobAction, id: JobId, changed: Changed) -> Result<(&'static str, &'static str), Failure> {
    let verb = verb(action);
    match (action, changed) {
        (_, Changed::Done) => Ok((verb.done, verb.told)),
        (_, Changed::Requested) => Ok(("cancel-requested", "is running; its daemon was told to stop it")),
        (JobAction::Cancel, Changed::Not(State::Cancelled)) => Ok(("cancelled", "was cancelled before")),
        (_, Changed::Not(state)) => {
            let but = match states(action)[..] {
                [only] => format!(", not {only}"),
                _ => String::new(),
            };
            Err(Failure::new(format!("job {id} can't be {}: it is {state}{but}", verb.participle)))
        }
        (_, Changed::Duplicate(holder)) => Err(Failure::new(format!(
            "job {id} can't be {}: job {holder} holds its unique key",
            verb.participle
        ))
        .help(format!("wait for it (`sandhog job show {holder} --wait`) or cancel it"))),
        (_, Changed::Unreadable) => Err(Failure::new(format!(
            "job {id} can't be {}: what is stored of it was written by a newer version, and can't be read",
            verb.participle
        ))),
        (_, Changed::Unknown) => {
            Err(Failure::new(format!("there is no job {id} any more")).exit(Exit::NotFound))
        }
    }
}

/// Waits for the jobs whose daemons were told to stop them, if `deadline` is given and all tenants were asked.
async fn settled(
    told: &mut [Told],
    acted: &Result<(), Failure>,
    deadline: Option<Deadline>,
    client: &Client,
    console: &Console,
) -> Result<(), Failure> {
    let (Ok(()), Some(deadline)) = (acted, deadline) else { return Ok(()) };
    for Told { id, tenant, outcome } in told {
        let (Some(tenant), Ok(("cancel-requested", _))) = (tenant, &outcome) else { continue };
        let job = wait_for(client, tenant, *id, deadline, console).await?;
        *outcome = match job.state {
            State::Cancelled => Ok(("cancelled", "cancelled")),
            state => Err(Failure::new(format!(
                "job {id} was not cancelled: it {state} first",
                state = ended(state)
            ))),
        };
    }
    Ok(())
}

fn ended(state: State) -> &'static str {
    match state {
        State::Succeeded => "succeeded",
        _ => "died",
    }
}

fn question(verb: Verb, found: &[(TenantId, JobId, State)]) -> String {
    let mut tenants: BTreeMap<&TenantId, BTreeMap<State, u64>> = BTreeMap::new();
    for (tenant, _, state) in found {
        *tenants.entry(tenant).or_default().entry(*state).or_default() += 1;
    }
    let of_tenant = |(tenant, states): (&&TenantId, &BTreeMap<State, u64>)| {
        let states: Vec<String> = states.iter().map(|(state, n)| format!("{n} {state}")).collect();
        format!("{} of tenant {tenant}", states.join(", "))
    };
    let all = output::of(found.len() as u64, "job");
    format!("{} {all} ({})?", verb.infinitive, tenants.iter().map(of_tenant).collect::<Vec<_>>().join("; "))
}

/// Prints the jobs to which the action would be done.
fn dry(verb: Verb, found: &[(TenantId, JobId, State)], console: &Console) -> Result<Exit, Failure> {
    let documents = found.iter().map(|(tenant, id, _)| DoneDocument::would(*id, tenant));
    let document = DonesDocument::new(documents.collect());
    let lines: Vec<String> = found.iter().map(|(_, id, state)| format!("{id} {state}")).collect();
    if console.format == Format::Json || !lines.is_empty() {
        console.show(&document, || lines.join("\n"))?;
    }
    console.remark(&format!("{} would be {}", output::of(found.len() as u64, "job"), verb.participle));
    Ok(Exit::Ok)
}

/// The jobs that get a line each.
enum Lines {
    EachJob,
    RefusedAlone(Verb),
}

/// Prints the results for the jobs, and returns the exit code.
fn report(told: &[Told], lines: Lines, console: &Console) -> Result<Exit, Failure> {
    let mut exit = Exit::Ok;
    let mut documents = Vec::new();
    let mut done = Vec::new();
    for Told { id, tenant, outcome } in told {
        let document = |outcome| DoneDocument::new(*id, tenant.as_ref(), outcome);
        match outcome {
            Ok((slug, text)) => {
                documents.push(document(Ok(*slug)));
                done.push(format!("{id} {text}"));
            }
            Err(failure) => {
                documents.push(document(Err(failure.message.clone())));
                exit = exit.and(failure.exit);
                console.complain(&failure.report(console.paint_remarks()).unwrap_or_default());
            }
        }
    }
    let text = match lines {
        Lines::EachJob => done.join("\n"),
        Lines::RefusedAlone(verb) => format!("{} {}", output::of(done.len() as u64, "job"), verb.participle),
    };
    if console.format == Format::Json || !text.is_empty() {
        console.show(&DonesDocument::new(documents), || text)?;
    }
    Ok(exit)
}
