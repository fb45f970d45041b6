//! Actions on jobs: on those that are named, or on all that match a selection.

use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::time::{Duration, Instant};

use clap::Args;
use indicatif::ProgressBar;
use sandhog_api::{self as api, BulkAsk, BulkDocument, Problem, Request, Time, route};
use sandhog_broker::{Changed, JobAction, Query};
use sandhog_config::units::parse_rate;
use sandhog_core::id::{JobId, TenantId};
use sandhog_core::job::State;
use sandhog_core::rate::Rate;
use sandhog_daemon::service::bulk::{Bulk, BulkSummary, states};
use sandhog_daemon::service::jobs::{ACT_MAX, unknown};

use crate::client::{Beside, Client};
use crate::commands::selection::{PICKING, Selection};
use crate::commands::wait::{Deadline, wait_for};
use crate::exit::{Exit, Failure};
use crate::output::console::{Console, Format};
use crate::output::{
    self,
    act::{DoneDocument, DonesDocument, WouldDocument},
};

/// To which jobs.
#[derive(Debug, Args)]
#[group(id = "jobs", required = true, multiple = true, args = PICKING.into_iter().chain(["ids", "all"]))]
pub(crate) struct Act {
    /// The jobs' ids
    #[arg(value_name = "ID", conflicts_with_all = PICKING.into_iter().chain(["all", "rate"]))]
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
    /// Go through no more jobs than this within a time, such as 100/s
    #[arg(long, value_name = "RATE", value_parser = parse_rate)]
    rate: Option<Rate>,
}

pub(crate) const EXAMPLES: &str = "\
Jobs are named by their ids, or picked by options, as `sandhog jobs` lists them; then the command asks before it does
anything. It is about the jobs that there are when it begins: none that come later, and none twice. Ctrl-C ends it between
two steps, and the same command goes on with what is left.

Examples, of redriving:
  sandhog job redrive 01J8Z4W2Q2V7H7WQ8X3R0N5T6A
  sandhog job redrive --kind image.thumbnail --reason timed-out --since 2h --dry-run
  sandhog job redrive --label customer=acme --message '503' --rate 100/s";

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

/// The result of an action on one job.
struct Told {
    id: JobId,
    tenant: Option<TenantId>,
    /// Whether its daemon was told to stop it.
    was_requested: bool,
    outcome: Result<(&'static str, &'static str), Failure>,
}

impl Told {
    fn new(
        id: JobId,
        tenant: Option<&TenantId>,
        outcome: Result<(&'static str, &'static str), Failure>,
    ) -> Self {
        let was_requested = matches!(outcome, Ok((REQUESTED, _)));
        Self { id, tenant: tenant.cloned(), was_requested, outcome }
    }

    fn document(&self) -> DoneDocument {
        let outcome = self.outcome.as_ref().map(|(slug, _)| *slug).map_err(|failure| failure.message.clone());
        DoneDocument::new(self.id, self.tenant.as_ref(), outcome)
    }
}

/// The word for a job whose daemon was told to stop it, for programs.
const REQUESTED: &str = "cancel-requested";

/// The words for it, for people.
const STOPPING: &str = "is running; its daemon was told to stop it";

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
        let tenants = client.tenants(self.selection.tenant.as_ref()).await?;
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
            return dry(verb(action), &found, None, console);
        }
        let mut told = Vec::new();
        let acted = to_named(action, &ids, &tenants, client, &mut told).await;
        let waited = settled(&mut told, &acted, deadline, client, console).await;
        if let (Ok(()), [_]) = (acted.as_ref().and(waited.as_ref()), &ids[..]) {
            let Told { id, tenant, outcome, .. } = told.remove(0);
            let (done, text) = outcome?;
            let document = DoneDocument::new(id, tenant.as_ref(), Ok(done));
            console.show(&document, || format!("{id} {text}"))?;
            return Ok(Exit::Ok);
        }
        let exit = report(&told, console)?;
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

    /// Does the action to all jobs that match the options.
    async fn picked(
        self,
        action: JobAction,
        deadline: Option<Deadline>,
        tenants: &[TenantId],
        client: &Client,
        console: &Console,
    ) -> Result<Exit, Failure> {
        let verb = verb(action);
        if let Some(state) = self.selection.state.filter(|state| !action.changes(*state)) {
            return Err(Failure::new(format!("{state} jobs can't be {}", verb.participle)));
        }
        let mut bulks = match client {
            Client::Beside(beside) => Bulks::beside(beside, action, &self.selection, tenants).await?,
            Client::Over(client) => Bulks::over(client, action, &self.selection, tenants),
        };
        let mut count = None;
        if self.dry_run || !self.yes {
            let found = bulks.found(console).await?;
            if self.dry_run {
                return found.show(verb, console);
            }
            if found.count > 0 && !console.ask(&found.question(verb))? {
                return Err(Failure::new(format!("nothing was {}", verb.participle)));
            }
            count = Some(found.count);
        }
        let progress = match count {
            Some(count) => console.bar(count, verb.infinitive),
            None => console.spinner(verb.infinitive),
        };
        let mut run = Run { action, waits: deadline.is_some(), told: Vec::new(), tally: Outcomes::default() };
        let gone = run.go(&mut bulks, self.rate, &progress).await;
        progress.finish_and_clear();
        let waited = settled(&mut run.told, &gone, deadline, client, console).await;
        let exit = run.report(verb, console)?;
        gone.and(waited).map(|()| exit)
    }
}

/// Maximum number of jobs that are named one by one, of those that are picked.
const NAMED_MAX: usize = 1000;
/// The same on standard output and standard error, for people.
const LINES_MAX: usize = 20;

/// What a command on many jobs would be about.
#[derive(Default)]
struct Found {
    count: u64,
    of_tenants: BTreeMap<TenantId, BTreeMap<State, u64>>,
    /// The first of them.
    sample: Vec<(TenantId, JobId, State)>,
}

impl Found {
    fn add(&mut self, tenant: &TenantId, state: State, jobs: u64) {
        *self.of_tenants.entry(tenant.clone()).or_default().entry(state).or_default() += jobs;
        self.count += jobs;
    }

    /// Notes one of the jobs, unless enough of them are noted.
    fn name(&mut self, tenant: &TenantId, id: JobId, state: State) {
        if self.sample.len() < NAMED_MAX {
            self.sample.push((tenant.clone(), id, state));
        }
    }

    /// Returns how many there are of each state and tenant.
    fn counts(&self) -> String {
        let of_tenant = |(tenant, states): (&TenantId, &BTreeMap<State, u64>)| {
            let states: Vec<String> = states.iter().map(|(state, n)| format!("{n} {state}")).collect();
            format!("{} of tenant {tenant}", states.join(", "))
        };
        self.of_tenants.iter().map(of_tenant).collect::<Vec<_>>().join("; ")
    }

    fn question(&self, verb: Verb) -> String {
        format!("{} {} ({})?", verb.infinitive, output::of(self.count, "job"), self.counts())
    }

    /// Prints the first of the jobs to which the action would be done, and how many there are.
    fn show(self, verb: Verb, console: &Console) -> Result<Exit, Failure> {
        dry(verb, &self.sample, Some(&self), console)
    }
}

/// Numbers of jobs that a command on many has gone through.
#[derive(Debug, Default)]
struct Outcomes {
    /// Jobs to which it was done, or whose daemons were told to stop them.
    done: u64,
    /// Numbers of the others, by the reason why they were left out.
    left_out: BTreeMap<Cow<'static, str>, u64>,
}

impl Outcomes {
    fn left_out(&self) -> u64 {
        self.left_out.values().sum()
    }

    fn total(&self) -> u64 {
        self.done + self.left_out()
    }
}

/// Commands on many jobs, one for each tenant, on the way.
enum Bulks<'c> {
    /// They go on step by step, on the broker.
    Beside(&'c Beside, VecDeque<(Bulk, BulkSummary)>),
    /// A server does them, request by request.
    Over(&'c api::Client, VecDeque<BulkAsk>),
}

/// Result of a step of a command on many jobs.
#[derive(Default)]
struct Stepped {
    tally: Outcomes,
    told: Vec<Told>,
}

impl<'c> Bulks<'c> {
    async fn beside(
        beside: &'c Beside,
        action: JobAction,
        selection: &Selection,
        tenants: &[TenantId],
    ) -> Result<Self, Failure> {
        let (filter, mut bulks) = (selection.filter()?, VecDeque::new());
        let Beside { service, caller, .. } = beside;
        for tenant in tenants {
            let bulk = Bulk::begin(service, caller, tenant, action, selection.state, filter.clone()).await?;
            bulks.push_back((bulk, BulkSummary::default()));
        }
        Ok(Self::Beside(beside, bulks))
    }

    fn over(client: &'c api::Client, action: JobAction, selection: &Selection, tenants: &[TenantId]) -> Self {
        let text = |it: &dyn fmt::Display| it.to_string();
        let ask = |tenant: &TenantId| BulkAsk {
            action: slug(action).to_owned(),
            tenant: Some(text(tenant)),
            state: selection.state.map(|state| state.slug().to_owned()),
            queue: selection.queue.as_ref().map(|it| text(it)),
            kind: selection.kind.as_ref().map(|it| text(it)),
            reason: selection.reason.map(|reason| reason.slug().to_owned()),
            since: selection.since.map(Time),
            until: selection.until.or(selection.older_than).map(Time),
            group: selection.group.as_ref().map(|it| text(it)),
            labels: selection.labels.iter().map(|(name, value)| (text(name), text(value))).collect(),
            message: selection.message.clone(),
            ..BulkAsk::default()
        };
        Self::Over(client, tenants.iter().map(ask).collect())
    }

    /// Finds all jobs that the commands are about, and does nothing to them.
    async fn found(&self, console: &Console) -> Result<Found, Failure> {
        let spinner = console.spinner("looking for jobs");
        let mut found = Found::default();
        match self {
            Self::Beside(Beside { service, caller, .. }, bulks) => {
                for (bulk, _) in bulks {
                    let (mut bulk, tenant) = (bulk.clone(), bulk.tenant());
                    while let Some(step) = bulk.find(service, caller, Query::LIMIT_MAX).await? {
                        for (id, state) in step.jobs {
                            found.add(tenant, state, 1);
                            found.name(tenant, id, state);
                        }
                        spinner.set_message(format!("found {}", output::of(found.count, "job")));
                    }
                }
            }
            Self::Over(client, asks) => {
                for ask in asks {
                    let mut ask = BulkAsk { dry_run: true, ..ask.clone() };
                    loop {
                        let would: BulkDocument = client.call(&Request::to(route::BULK).body(&ask)).await?;
                        let tenant: TenantId = would.tenant.parse().map_err(|_| odd("tenant"))?;
                        for (state, n) in &would.states {
                            let state = State::from_slug(state).ok_or_else(|| odd("state"))?;
                            found.add(&tenant, state, *n);
                        }
                        for job in would.jobs {
                            let id = job.id.parse().map_err(|_| odd("id"))?;
                            let state = job.state.as_deref().and_then(State::from_slug);
                            found.name(&tenant, id, state.ok_or_else(|| odd("state"))?);
                        }
                        spinner.set_message(format!("found {}", output::of(found.count, "job")));
                        ask.after = would.next;
                        if ask.after.is_none() {
                            break;
                        }
                    }
                }
            }
        }
        spinner.finish_and_clear();
        Ok(found)
    }

    /// Goes through up to `most` further jobs. `None` once all have been gone through.
    async fn step(&mut self, action: JobAction, most: u32) -> Result<Option<Stepped>, Failure> {
        match self {
            Self::Beside(Beside { service, caller, .. }, bulks) => {
                let Some((bulk, summary)) = bulks.front_mut() else { return Ok(None) };
                let stepped = async {
                    let Some(found) = bulk.find(service, caller, most).await? else { return Ok(None) };
                    bulk.act(service, caller, found).await.map(Some)
                };
                let stepped = stepped.await;
                let Ok(Some(step)) = stepped else {
                    summary.audit(bulk, std::env::var("USER").ok().as_deref(), stepped.is_ok());
                    bulks.pop_front();
                    return Ok(stepped.map(|_| Some(Stepped::default()))?);
                };
                summary.add(&step);
                let mut of_step = BulkSummary::default();
                of_step.add(&step);
                let left_out = of_step.left_out.iter().map(|(reason, n)| (reason.slug().into(), *n));
                let tally = Outcomes { done: of_step.done + of_step.requested, left_out: left_out.collect() };
                let told = step.jobs.into_iter().map(|(id, changed)| {
                    Told::new(id, Some(bulk.tenant()), outcome(action, id, Ok(changed)))
                });
                Ok(Some(Stepped { tally, told: told.collect() }))
            }
            Self::Over(client, asks) => {
                let Some(ask) = asks.front_mut() else { return Ok(None) };
                ask.limit = Some(most.into());
                let done: BulkDocument = client.call(&Request::to(route::BULK).body(ask)).await?;
                ask.after = done.next;
                if ask.after.is_none() {
                    asks.pop_front();
                }
                let tenant: Option<TenantId> = done.tenant.parse().ok();
                let told = done.jobs.iter().map(|job| {
                    let id = job.id.parse().map_err(|_| odd("id"))?;
                    Ok(Told::new(id, tenant.as_ref(), said(action, job)))
                });
                let told = told.collect::<Result<_, Failure>>()?;
                Ok(Some(Stepped { tally: Outcomes { done: done.done, left_out: done.left_out }, told }))
            }
        }
    }

    /// Returns the number of jobs that one step may go through at most.
    fn step_max(&self) -> u32 {
        let most = match self {
            Self::Beside(..) => ACT_MAX,
            // Of a longer step not each job would be named.
            Self::Over(..) => BulkDocument::JOBS_MAX,
        };
        u32::try_from(most).unwrap_or(u32::MAX)
    }
}

/// Creates the failure of an answer with something in it that can't be read.
fn odd(what: &str) -> Failure {
    Failure::new(format!("the answer has a {what} that can't be read"))
        .help("the server is of a later version than this command")
}

/// Returns what a server says was done to a job.
fn said(action: JobAction, job: &DoneDocument) -> Result<(&'static str, &'static str), Failure> {
    match (job.done.as_deref(), &job.refused) {
        (Some(REQUESTED), _) => Ok((REQUESTED, STOPPING)),
        (Some(_), _) => Ok((verb(action).done, verb(action).told)),
        (None, why) => Err(Failure::new(why.clone().unwrap_or_default())),
    }
}

fn slug(action: JobAction) -> &'static str {
    match action {
        JobAction::Cancel => "cancel",
        JobAction::Redrive => "redrive",
        JobAction::RunNow => "run-now",
        JobAction::Remove => "remove",
    }
}

/// A command on many jobs that runs.
struct Run {
    action: JobAction,
    /// Whether the jobs that are being stopped are to be waited for.
    waits: bool,
    /// Results for single jobs, the first ones and those that are to be waited for.
    told: Vec<Told>,
    tally: Outcomes,
}

impl Run {
    /// Goes through all jobs of several commands, no faster than `rate`, until somebody interrupts it.
    async fn go(
        &mut self,
        bulks: &mut Bulks<'_>,
        rate: Option<Rate>,
        progress: &ProgressBar,
    ) -> Result<(), Failure> {
        let mut interrupt = std::pin::pin!(tokio::signal::ctrl_c());
        let started = Instant::now();
        let most = rate.map_or(u32::MAX, |rate| rate.burst().get()).min(bulks.step_max());
        loop {
            let due = rate.map_or(started, |rate| started + pace(rate, self.tally.total()));
            // A command can be ended between any two steps.
            tokio::select! {
                biased;
                _ = &mut interrupt => return Err(self.interrupted()),
                () = tokio::time::sleep_until(due.into()) => {}
            }
            match bulks.step(self.action, most).await {
                Ok(None) => return Ok(()),
                Ok(Some(step)) => {
                    self.add(step);
                    progress.set_position(self.tally.total());
                }
                Err(failure) => return Err(self.unfinished(failure)),
            }
        }
    }

    fn add(&mut self, Stepped { tally, told }: Stepped) {
        self.tally.done += tally.done;
        for (reason, n) in tally.left_out {
            *self.tally.left_out.entry(reason).or_default() += n;
        }
        for told in told {
            if self.told.len() < NAMED_MAX || (self.waits && told.was_requested) {
                self.told.push(told);
            }
        }
    }

    fn interrupted(&self) -> Failure {
        let message = format!("stopped after {}", output::of(self.tally.total(), "job"));
        Failure::new(message).help(GOES_ON)
    }

    fn unfinished(&self, failure: Failure) -> Failure {
        let done = output::of(self.tally.total(), "job");
        let message = format!("ended after {done}: {}", failure.message);
        failure.says(message).help(GOES_ON)
    }

    /// Prints what was done, and returns the exit code.
    fn report(self, verb: Verb, console: &Console) -> Result<Exit, Failure> {
        let Self { told, tally, .. } = self;
        let refused =
            told.iter().filter_map(|told| told.outcome.as_ref().err().map(|failure| (told, failure)));
        let mut waited_in_vain = 0;
        for (n, (told, failure)) in refused.enumerate() {
            // One that was asked to stop has been counted as done, and has ended otherwise.
            waited_in_vain += u64::from(told.was_requested);
            if n < LINES_MAX {
                console.complain(&failure.report(console.paint_remarks()).unwrap_or_default());
            }
        }
        let (left_out, done) = (tally.left_out() + waited_in_vain, tally.done - waited_in_vain);
        if !tally.left_out.is_empty() {
            let reasons = tally.left_out.iter().map(|(reason, n)| format!("{n} {reason}"));
            console.complain(&format!("left out: {}", reasons.collect::<Vec<_>>().join(", ")));
        }
        let documents = told.iter().map(Told::document).collect();
        let document = DonesDocument { jobs: documents, done, refused: left_out, left_out: tally.left_out };
        console.show(&document, || format!("{} {}", output::of(done, "job"), verb.participle))?;
        Ok(if left_out > 0 { Exit::Failed } else { Exit::Ok })
    }
}

/// Advice after a command that wasn't finished.
const GOES_ON: &str = "repeat the command: it goes on with those that are left";

/// Returns the time from the beginning after which this number of jobs may have been gone through.
fn pace(rate: Rate, jobs: u64) -> Duration {
    Duration::from_micros(rate.interval().saturating_mul(jobs))
}

/// Does the action to these jobs, whichever tenants' they are, and notes the result for each.
async fn to_named(
    action: JobAction,
    ids: &[JobId],
    tenants: &[TenantId],
    client: &Client,
    told: &mut Vec<Told>,
) -> Result<(), Failure> {
    let mut answers: BTreeMap<JobId, (TenantId, Result<Changed, Problem>)> = BTreeMap::new();
    let mut left = ids.to_vec();
    let mut acted = Ok(());
    for tenant in tenants {
        for batch in left.chunks(ACT_MAX) {
            match client.act(tenant, action, batch).await {
                Ok(changed) => {
                    let known = batch.iter().zip(changed).filter(|(_, it)| *it != Ok(Changed::Unknown));
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
                told.push(Told::new(*id, Some(&tenant), outcome(action, *id, changed)));
            }
            // If a tenant couldn't be asked, it is unknown whether the job exists.
            None if acted.is_err() => {}
            None => told.push(Told::new(*id, None, Err(unknown(*id, tenants).into()))),
        }
    }
    acted
}

/// Returns the words for what was done to a job: as the broker says, or the server that has refused it.
fn outcome(
    action: JobAction,
    id: JobId,
    changed: Result<Changed, Problem>,
) -> Result<(&'static str, &'static str), Failure> {
    let verb = verb(action);
    let changed = changed.map_err(Failure::from)?;
    match (action, changed) {
        (_, Changed::Done) => Ok((verb.done, verb.told)),
        (_, Changed::Requested) => Ok((REQUESTED, STOPPING)),
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
        (_, Changed::Touched) => Err(Failure::new(format!(
            "job {id} was not {}: it has started or ended since the command began",
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
    for Told { id, tenant, outcome, .. } in told {
        let (Some(tenant), Ok((REQUESTED, _))) = (tenant, &outcome) else { continue };
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

/// Prints the jobs to which the action would be done; of those that are picked, the first ones.
fn dry(
    verb: Verb,
    jobs: &[(TenantId, JobId, State)],
    found: Option<&Found>,
    console: &Console,
) -> Result<Exit, Failure> {
    let shown = if found.is_some() { LINES_MAX } else { jobs.len() };
    let mut lines: Vec<String> =
        jobs.iter().take(shown).map(|(_, id, state)| format!("{id} {state}")).collect();
    let count = found.map_or(jobs.len() as u64, |found| found.count);
    if count > lines.len() as u64 {
        lines.push(format!("… and {} more", count - lines.len() as u64));
    }
    if console.format == Format::Json || !lines.is_empty() {
        let documents = jobs.iter().map(|(tenant, id, _)| DoneDocument::would(*id, tenant)).collect();
        console.show(&WouldDocument { jobs: documents, would: count }, || lines.join("\n"))?;
    }
    let counts = found.filter(|found| found.count > 0).map(|found| format!(" ({})", found.counts()));
    let (all, counts) = (output::of(count, "job"), counts.unwrap_or_default());
    console.remark(&format!("{all} would be {}{counts}", verb.participle));
    Ok(Exit::Ok)
}

/// Prints the results for the jobs that were named, and returns the exit code.
fn report(told: &[Told], console: &Console) -> Result<Exit, Failure> {
    let mut exit = Exit::Ok;
    let mut done = Vec::new();
    for Told { id, outcome, .. } in told {
        match outcome {
            Ok((_, text)) => done.push(format!("{id} {text}")),
            Err(failure) => {
                exit = exit.and(failure.exit);
                console.complain(&failure.report(console.paint_remarks()).unwrap_or_default());
            }
        }
    }
    if console.format == Format::Json || !done.is_empty() {
        let document = DonesDocument::new(told.iter().map(Told::document).collect());
        console.show(&document, || done.join("\n"))?;
    }
    Ok(exit)
}
