//! Waiting for jobs to become final.
//!
//! A broker tells daemons of work, not producers of results, so a command that waits polls: soon at first, then less and less
//! often. A broker that is away is asked again until it is back. What a job waits for is told: on a terminal at once,
//! elsewhere only if the wait takes long.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use clap::Args;
use futures::{StreamExt, TryStreamExt};
use indicatif::ProgressBar;
use sandhog_api::{Problem, Slug};
use sandhog_broker::{Counts, Query};
use sandhog_config::units::{parse_time, time};
use sandhog_core::id::{JobId, TenantId};
use sandhog_core::job::{JobRecord, State};
use sandhog_core::reason::Reason;
use sandhog_core::time::Timestamp;
use sandhog_daemon::clock::Clock;

use crate::client::Client;
use crate::exit::{Exit, Failure};
use crate::output::console::Console;
use crate::output::{self, clock, duration};

const FIRST: Duration = Duration::from_millis(5);
const LONGEST: Duration = Duration::from_millis(500);

/// Maximum number of jobs that are asked about at once.
const AT_ONCE: usize = 16;

/// Minimum time before the first message and between messages, where there is no terminal.
const TOLD_EVERY: Duration = Duration::from_secs(5);

/// Time from which on a scheduled job is mentioned to somebody who waits for all jobs.
const FAR_OFF: Duration = Duration::from_secs(60 * 60);

/// Whether a command waits for its jobs, and how long at most.
#[derive(Debug, Args)]
pub(crate) struct Waiting {
    /// Wait until the job is final; the exit code tells what came of it
    #[arg(long)]
    wait: bool,
    /// With --wait: no longer than this
    #[arg(long, value_name = "TIME", value_parser = parse_time, requires = "wait", allow_hyphen_values = true)]
    timeout: Option<Duration>,
}

impl Waiting {
    /// Returns the deadline from now on; `None` if the command doesn't wait.
    pub(crate) fn deadline(&self) -> Option<Deadline> {
        self.wait.then(|| Deadline::new(self.timeout))
    }
}

/// The end of a wait, if it has one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline {
    timeout: Option<Duration>,
    started: Instant,
}

impl Deadline {
    /// Starts now and ends after `timeout`, or never if it is `None`.
    pub(crate) fn new(timeout: Option<Duration>) -> Self {
        Self { timeout, started: Instant::now() }
    }

    /// Waits a little longer than the last time. If that would pass the timeout, returns the timeout as the error instead.
    async fn pause(&self, last: &mut Option<Duration>) -> Result<(), Duration> {
        let pause = last.map_or(FIRST, |last| (last * 3 / 2).min(LONGEST));
        if let Some(timeout) = self.timeout.filter(|timeout| self.started.elapsed() + pause > *timeout) {
            return Err(timeout);
        }
        tokio::time::sleep(pause).await;
        *last = Some(pause);
        Ok(())
    }
}

/// A description of what is waited for.
struct Waited {
    /// A key that stays the same as long as nothing has happened.
    phase: String,
    /// The full text.
    text: String,
    /// Help for when it takes too long.
    help: Vec<String>,
    /// Whether it is told at once, even where there is no terminal.
    urgent: bool,
}

impl Waited {
    fn too_long(self, timeout: Duration) -> Failure {
        let failure = Failure::new(format!("{} after {}", self.text, time(timeout))).exit(Exit::TimedOut);
        self.help.into_iter().fold(failure, Failure::help)
    }

    fn broker(what: &str, error: &Problem) -> Self {
        Self {
            phase: "the broker is away".to_owned(),
            text: format!("{what}: {error}"),
            help: vec!["whatever was enqueued goes on when the broker is back".to_owned()],
            urgent: true,
        }
    }

    fn job(client: &Client, job: &JobRecord, now: Timestamp) -> Self {
        let JobRecord { id, tenant, queue, kind, state, reason, .. } = job;
        let reason = reason.filter(|reason| reason.slug() != state.slug());
        let why = reason.map(|reason| format!(" ({reason})")).unwrap_or_default();
        let mut help = Vec::new();
        match state {
            State::Scheduled => {
                if reason == Some(Reason::NoPlugin) {
                    help.extend(client.unserved(tenant, queue, kind));
                } else if let Some(due) = job.due_at {
                    let (at, left) = (clock(due), duration(due.since(now)));
                    help.push(format!(
                        "it is due at {at}, in {left}; `sandhog job run-now {id}` runs it at once"
                    ));
                }
            }
            State::Blocked => {
                if !job.waits_for.is_empty() {
                    help.push(format!(
                        "it waits for other jobs of its flow; `sandhog flow show {id}` shows them"
                    ));
                } else if let Some(group) = &job.options.group {
                    help.push(format!("it waits for others of its group `{group}` in queue {queue}"));
                }
            }
            State::Ready => {
                help.extend(client.unserved(tenant, queue, kind));
                if help.is_empty() {
                    help.push(format!(
                        "is a daemon running? none has leased it from queue {queue} of tenant {tenant}"
                    ));
                }
            }
            State::Leased | State::Succeeded | State::Dead | State::Cancelled => {}
        }
        let progress = job.progress.as_ref().map(|report| format!(", {}", output::job::progress(report)));
        help.push(format!("the job goes on in any case; `sandhog job show {id}` shows it"));
        Self {
            phase: format!("{state}{why}"),
            text: format!("job {id} is still {state}{why}{}", progress.unwrap_or_default()),
            help,
            urgent: false,
        }
    }
}

/// Tells the user what is waited for.
struct Teller<'c> {
    console: &'c Console,
    line: ProgressBar,
    told: RefCell<(String, Instant)>,
}

impl<'c> Teller<'c> {
    fn new(console: &'c Console, line: ProgressBar) -> Self {
        Self { console, line, told: RefCell::new((String::new(), Instant::now())) }
    }

    fn tell(&self, waited: &Waited) {
        self.line.set_message(waited.text.clone());
        let mut told = self.told.borrow_mut();
        let (phase, at) = &*told;
        let too_soon = !waited.urgent && at.elapsed() < TOLD_EVERY;
        if !self.line.is_hidden() || *phase == waited.phase || too_soon {
            return;
        }
        self.console.remark(&waited.text);
        waited.help.iter().for_each(|help| self.console.remark(&format!("  {help}")));
        *told = (waited.phase.clone(), Instant::now());
    }
}

impl Drop for Teller<'_> {
    fn drop(&mut self) {
        self.line.finish_and_clear();
    }
}

/// Whether the broker can't be reached for now, or the server by which it is asked.
fn is_away(problem: &Problem) -> bool {
    matches!(problem.slug, Slug::BrokerUnavailable | Slug::NoDaemon)
}

/// Waits until a job is final, and tells what it waits for meanwhile.
///
/// # Errors
/// If that takes too long, or there is no such job.
pub(crate) async fn wait_for(
    client: &Client,
    tenant: &TenantId,
    id: JobId,
    deadline: Deadline,
    console: &Console,
) -> Result<JobRecord, Failure> {
    let teller = Teller::new(console, console.spinner(&format!("job {id} waits")));
    until_final(client, tenant, id, deadline, &teller).await
}

async fn until_final(
    client: &Client,
    tenant: &TenantId,
    id: JobId,
    deadline: Deadline,
    teller: &Teller<'_>,
) -> Result<JobRecord, Failure> {
    let (clock, mut last) = (Clock::system(), None);
    loop {
        let waited = match client.job(tenant, id).await {
            Ok(Some(job)) if job.state.is_final() => return Ok(job),
            Ok(Some(job)) => Waited::job(client, &job, clock.now()),
            Ok(None) => {
                let failure = Failure::new(format!("there is no job {id} of tenant {tenant} any more"));
                return Err(failure.exit(Exit::NotFound));
            }
            Err(error) if is_away(&error) => Waited::broker(&format!("job {id} can't be looked up"), &error),
            Err(error) => return Err(error.into()),
        };
        teller.tell(&waited);
        if let Err(timeout) = deadline.pause(&mut last).await {
            return Err(waited.too_long(timeout));
        }
    }
}

/// Waits until all these jobs are final. `done` is called with each one when it is.
///
/// # Errors
/// If that takes too long, or one of them is gone.
pub(crate) async fn wait_for_all(
    client: &Client,
    tenant: &TenantId,
    ids: &[JobId],
    deadline: Deadline,
    console: &Console,
    done: impl Fn(&JobRecord),
) -> Result<(), Failure> {
    let bar = console.bar(ids.len() as u64, "waiting");
    let teller = Teller::new(console, bar.clone());
    let waits = ids.iter().map(|id| until_final(client, tenant, *id, deadline, &teller));
    let jobs = futures::stream::iter(waits).buffer_unordered(AT_ONCE);
    jobs.try_for_each(|job| {
        bar.inc(1);
        done(&job);
        std::future::ready(Ok(()))
    })
    .await
}

/// Waits until these tenants have no job that waits or runs.
///
/// # Errors
/// If that takes too long.
pub(crate) async fn wait_until_idle(
    client: &Client,
    tenants: &[TenantId],
    deadline: Deadline,
    console: &Console,
) -> Result<(), Failure> {
    let teller = Teller::new(console, console.spinner("waiting"));
    for tenant in tenants {
        let (mut last, mut far) = (None, None);
        loop {
            let waited = match client.counts(tenant).await {
                Ok(counts) if counts.unfinished() == 0 => break,
                Ok(counts) => to_go(client, tenant, &counts, &mut far).await,
                Err(error) => Err(error),
            };
            let waited = match waited {
                Ok(waited) => waited,
                Err(error) if is_away(&error) => {
                    Waited::broker(&format!("the jobs of tenant {tenant} can't be counted"), &error)
                }
                Err(error) => return Err(error.into()),
            };
            teller.tell(&waited);
            if let Err(timeout) = deadline.pause(&mut last).await {
                return Err(waited.too_long(timeout));
            }
        }
    }
    Ok(())
}

/// Describes what a tenant still has to do. Jobs that are far off are looked up now and then, and cached in `far`.
async fn to_go(
    client: &Client,
    tenant: &TenantId,
    counts: &Counts,
    far: &mut Option<(Instant, Option<String>)>,
) -> Result<Waited, Problem> {
    let unfinished = counts.iter().filter(|(state, n)| !state.is_final() && *n > 0);
    let states: Vec<String> = unfinished.map(|(state, n)| format!("{n} {state}")).collect();
    let left = output::of(counts.unfinished(), "job");
    if counts[State::Scheduled] == 0 {
        *far = None;
    } else if far.as_ref().is_none_or(|(at, _)| at.elapsed() > TOLD_EVERY) {
        *far = Some((Instant::now(), far_off(client, tenant).await?));
    }
    let far = far.as_ref().and_then(|(_, text)| text.clone());
    let phase = format!("{tenant}, {} states, {}", states.len(), far.is_some());
    let mut help: Vec<String> = far.into_iter().collect();
    if counts[State::Ready] > 0 {
        help.push(
            "is a daemon running? `sandhog check` tells of queues and kinds that nobody serves".to_owned(),
        );
    }
    help.push(format!("`sandhog jobs --tenant {tenant}` shows them"));
    Ok(Waited {
        phase,
        text: format!("tenant {tenant} still has {left} to go: {}", states.join(", ")),
        help,
        urgent: false,
    })
}

/// Describes scheduled jobs that are due later than [`FAR_OFF`], or returns `None` if there are none.
async fn far_off(client: &Client, tenant: &TenantId) -> Result<Option<String>, Problem> {
    let query = Query { payloads: false, ..Query::of(State::Scheduled, Query::LIMIT_MAX) };
    let scheduled = client.page(tenant, Some(State::Scheduled), query).await?.jobs;
    let now = Clock::system().now();
    let is_far = |job: &&JobRecord| job.due_at.is_some_and(|at| at.since(now) > FAR_OFF);
    let far: Vec<&JobRecord> = scheduled.iter().map(|(job, _)| job).filter(is_far).collect();
    Ok(far.last().map(|job| {
        let at_least = if scheduled.len() == Query::LIMIT_MAX as usize { "at least " } else { "" };
        let (count, hour, due) =
            (output::of(far.len() as u64, "job"), time(FAR_OFF), job.due_at.unwrap_or(now));
        let (id, left, at) = (job.id, duration(due.since(now)), clock(due));
        format!("{at_least}{count} of them due in more than {hour}, such as {id}: in {left}, at {at}")
    }))
}
