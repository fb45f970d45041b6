//! Use cases on jobs: looking at them, and acting on them.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::Duration;

use sandhog_api::{Problem, Slug};
use sandhog_broker::{Changed, Counts, Cursor, Error, JobAction, Page, Query, Unread};
use sandhog_config::Config;
use sandhog_core::edit::{Edited, JobEdit};
use sandhog_core::group::GroupTurns;
use sandhog_core::id::{GroupKey, JobId, QueueName, TenantId};
use sandhog_core::job::{JobRecord, LogLine, State};
use sandhog_core::quota::PayloadExcess;
use sandhog_core::reason::Reason;
use sandhog_core::waits::{self, Wait, WaitFacts, WaitTerms};

use tokio::time::{Instant, sleep_until};

use super::enqueue::{self, is_served};
use super::{Caller, Role, Service, holds, list as names, of_broker, tenants};

/// Maximum number of jobs that one call acts on.
pub const ACT_MAX: usize = 500;

/// Maximum number of groups whose turns are looked up for a list of jobs.
const GROUPS_LOOKED_AT_MAX: usize = 20;

/// Looks up a job, whose tenant need not be named, with the reason for which it waits.
///
/// # Errors
/// There is no such job in scope, or the broker can't be asked.
pub async fn find(
    service: &Service,
    caller: &Caller,
    id: JobId,
    tenant: Option<&TenantId>,
) -> Result<JobRecord, Problem> {
    caller.needs(Role::Observe)?;
    let tenants = tenants::find(service, caller, tenant)?;
    for tenant in &tenants {
        if let Some(job) = service.broker.job(tenant, id).await.map_err(of_broker)? {
            return Ok(shown(&service.config(), caller, job));
        }
    }
    Err(unknown(id, &tenants))
}

/// Looks up a job of a tenant. `None` if there is no such job.
///
/// # Errors
/// There is no such tenant in scope, or the broker can't be asked.
pub async fn get(
    service: &Service,
    caller: &Caller,
    tenant: &TenantId,
    id: JobId,
) -> Result<Option<JobRecord>, Problem> {
    caller.needs(Role::Observe)?;
    let tenant = tenants::known(&service.config(), caller, tenant)?;
    let job = service.broker.job(&tenant, id).await.map_err(of_broker)?;
    Ok(job.map(|job| shown(&service.config(), caller, job)))
}

/// Looks up all that a job waits for, what has to be seen to by somebody first. Empty if it runs, or is final.
///
/// # Errors
/// There is no such tenant in scope, or the broker can't be asked.
pub async fn waits(service: &Service, caller: &Caller, job: &JobRecord) -> Result<Vec<Wait>, Problem> {
    caller.needs(Role::Observe)?;
    let config = service.config();
    let tenant = tenants::known(&config, caller, &job.tenant)?;
    if job.state.is_final() || job.state == State::Leased {
        return Ok(Vec::new());
    }
    let facts = match service.broker.why(&tenant, job.id).await {
        Ok(facts) => facts,
        // A user of Redis whose rights are those of an earlier version may not look.
        Err(Error::Unfit { problem }) => {
            tracing::debug!(%tenant, problem, "what a job waits for can't be looked up");
            None
        }
        Err(error) => return Err(of_broker(error)),
    };
    let holds = facts.as_ref().map_or(&[][..], |facts| &facts.holds);
    Ok(waits::waits(job, holds, facts.as_ref(), &terms(&config, job)))
}

/// Looks up what each job of a list waits for, without the number of jobs that go before it. What can't be looked up is left out: a
/// list is worth having without it.
pub async fn waits_of_list(
    service: &Service,
    caller: &Caller,
    tenant: &TenantId,
    jobs: &[JobRecord],
) -> Vec<Vec<Wait>> {
    let holds = match jobs.iter().any(|job| job.state.waits()) {
        true => holds::list(service, caller, tenant).await.unwrap_or_default(),
        false => Vec::new(),
    };
    let facts = FactsOfList::look(service, tenant, jobs).await;
    let config = service.config();
    let of_job = |job: &JobRecord| {
        let facts = facts.of(job);
        let mut waits = waits::waits(job, &holds, facts.as_ref(), &terms(&config, job));
        waits.retain(|wait| !matches!(wait, Wait::Turn { .. }));
        waits
    };
    jobs.iter().map(of_job).collect()
}

/// Facts about what the jobs of a list wait for: those that all have in common, and the turns of the groups.
struct FactsOfList<'j> {
    common: Option<WaitFacts>,
    turns: BTreeMap<(&'j QueueName, &'j GroupKey), Option<GroupTurns>>,
}

impl<'j> FactsOfList<'j> {
    /// Looks at one ready job, and at one job of each group of which some wait.
    async fn look(service: &Service, tenant: &TenantId, jobs: &'j [JobRecord]) -> Self {
        let why = async |job: &JobRecord| service.broker.why(tenant, job.id).await.ok().flatten();
        let (mut common, mut turns) = (None, BTreeMap::new());
        if let Some(ready) = jobs.iter().find(|job| job.state == State::Ready) {
            common = why(ready).await;
        }
        for (group, job) in jobs.iter().filter_map(|job| Some((line_of(job)?, job))) {
            if turns.len() < GROUPS_LOOKED_AT_MAX && !turns.contains_key(&group) {
                let facts = why(job).await;
                turns.insert(group, facts.as_ref().and_then(|facts| facts.group));
                common = common.or(facts);
            }
        }
        Self { common, turns }
    }

    fn of(&self, job: &JobRecord) -> Option<WaitFacts> {
        let group = line_of(job).and_then(|group| self.turns.get(&group).copied().flatten());
        self.common.clone().map(|common| WaitFacts { group, ..common })
    }
}

/// Returns the group in whose line a job waits, or `None` if it waits in none.
fn line_of(job: &JobRecord) -> Option<(&QueueName, &GroupKey)> {
    let is_in_line = job.state == State::Blocked && job.waits_for.is_empty();
    job.options.group.as_ref().filter(|_| is_in_line).map(|group| (&job.queue, group))
}

/// Returns what a configuration says that a job may have to wait for.
fn terms(config: &Config, job: &JobRecord) -> WaitTerms {
    let mut plugins = config.plugins.iter().filter(|plugin| plugin.tenant == job.tenant);
    let handler = plugins.find(|plugin| plugin.kinds.contains(&job.kind));
    let limit = handler.and_then(|plugin| Some((plugin.name.clone(), plugin.concurrency?.get())));
    let rate = handler.and_then(|plugin| plugin.rate.clone());
    WaitTerms { fuel: config.tenants.get(&job.tenant).map(|tenant| tenant.fuel), limit, rate }
}

/// Looks up the log lines that are kept with a job, oldest first.
///
/// # Errors
/// There is no such tenant in scope, or the broker can't be asked.
pub async fn log(
    service: &Service,
    caller: &Caller,
    tenant: &TenantId,
    id: JobId,
) -> Result<Vec<LogLine>, Problem> {
    caller.needs(Role::Observe)?;
    let tenant = tenants::known(&service.config(), caller, tenant)?;
    service.broker.log(&tenant, id).await.map_err(of_broker)
}

/// Counts a tenant's jobs by state.
///
/// # Errors
/// There is no such tenant in scope, or the broker can't be asked.
pub async fn counts(service: &Service, caller: &Caller, tenant: &TenantId) -> Result<Counts, Problem> {
    caller.needs(Role::Observe)?;
    let tenant = tenants::known(&service.config(), caller, tenant)?;
    service.broker.counts(&tenant).await.map_err(of_broker)
}

/// Listed jobs of one tenant and one state.
#[derive(Debug, Default)]
pub struct Listed {
    /// The jobs.
    pub jobs: Vec<JobRecord>,
    /// Jobs that exist and can't be read.
    pub unread: Vec<Unread>,
    /// Position at which the list goes on. `None` if it is complete.
    pub next: Option<Cursor>,
    /// Whether it ends there though there is room for more, as enough was looked at.
    pub is_cut: bool,
}

/// Maximum number of pages of the broker that one list is made of, whatever its filter finds on them.
pub const LIST_PAGES_MAX: usize = 50;

/// Lists the first jobs that a query is for, of up to [`LIST_PAGES_MAX`] pages of the broker.
///
/// # Errors
/// There is no such tenant in scope, or the broker can't be asked.
pub async fn list(
    service: &Service,
    caller: &Caller,
    tenant: &TenantId,
    query: Query,
) -> Result<Listed, Problem> {
    caller.needs(Role::Observe)?;
    let tenant = tenants::known(&service.config(), caller, tenant)?;
    let wanted = query.limit as usize;
    let mut listed = Listed { next: query.after, ..Listed::default() };
    for _ in 0..LIST_PAGES_MAX {
        let left = u32::try_from(wanted - listed.jobs.len()).unwrap_or(Query::LIMIT_MAX);
        let query = Query { after: listed.next, limit: left.min(Query::LIMIT_MAX), ..query.clone() };
        let Page { jobs, next, unread, .. } = page(service, caller, &tenant, query).await?;
        listed.jobs.extend(jobs);
        listed.unread.extend(unread);
        listed.next = next;
        if next.is_none() || listed.jobs.len() >= wanted {
            return Ok(listed);
        }
    }
    Ok(Listed { is_cut: true, ..listed })
}

/// Performs one action on jobs of a tenant, at most [`ACT_MAX`] of them. Returns an answer for each.
///
/// # Errors
/// There is no such tenant in scope, there are more than [`ACT_MAX`] jobs, or the broker can't be asked.
pub async fn act(
    service: &Service,
    caller: &Caller,
    tenant: &TenantId,
    action: JobAction,
    ids: &[JobId],
) -> Result<Vec<Changed>, Problem> {
    caller.needs(Role::Operate)?;
    let tenant = tenants::known(&service.config(), caller, tenant)?;
    check_count(ids)?;
    service.broker.act(&tenant, action, ids).await.map_err(of_broker)
}

/// Performs one action on a job, whose tenant need not be named. Returns its tenant, and the word for what was done.
///
/// # Errors
/// There is no such job in scope, it can't be done to it, or the broker can't be asked.
pub async fn act_on_one(
    service: &Service,
    caller: &Caller,
    action: JobAction,
    id: JobId,
    tenant: Option<&TenantId>,
) -> Result<(TenantId, &'static str), Problem> {
    caller.needs(Role::Operate)?;
    let tenant = find(service, caller, id, tenant).await?.tenant;
    let changed = act(service, caller, &tenant, action, &[id]).await?;
    match changed.first().copied().unwrap_or(Changed::Unknown) {
        Changed::Unknown => Err(unknown(id, &[tenant])),
        changed => Ok((tenant, told(action, id, changed)?)),
    }
}

/// Returns the word for what was done to a job.
///
/// # Errors
/// Nothing was done to it.
pub fn told(action: JobAction, id: JobId, changed: Changed) -> Result<&'static str, Problem> {
    let (participle, done) = match action {
        JobAction::Cancel => ("cancelled", "cancelled"),
        JobAction::Redrive => ("redriven", "redriven"),
        JobAction::RunNow => ("run now", "ready"),
        JobAction::Remove => ("removed", "removed"),
    };
    let refused =
        |why: String| Err(Problem::new(Slug::Conflict, format!("job {id} can't be {participle}: {why}")));
    match changed {
        Changed::Done => Ok(done),
        Changed::Requested => Ok("cancel-requested"),
        Changed::Not(State::Cancelled) if action == JobAction::Cancel => Ok(done),
        Changed::Not(state) => refused(format!("it is {state}")),
        Changed::Duplicate(holder) => refused(format!("job {holder} holds its unique key")),
        Changed::Touched => refused("it has started or ended meanwhile".to_owned()),
        Changed::Unreadable => {
            refused("what is stored of it was written by a newer version, and can't be read".to_owned())
        }
        Changed::Unknown => Err(Problem::new(Slug::UnknownJob, format!("there is no job {id} any more"))),
    }
}

/// First and longest wait between two looks at a job that is waited for.
const WAITS: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(500));

/// Waits until a job is final, for no longer than `time`, and returns it as it is then.
///
/// # Errors
/// There is no such job in scope, or the broker can't be asked.
pub async fn wait(
    service: &Service,
    caller: &Caller,
    id: JobId,
    tenant: Option<&TenantId>,
    time: Duration,
) -> Result<JobRecord, Problem> {
    let over = Instant::now() + time;
    let mut job = find(service, caller, id, tenant).await?;
    let mut pause = WAITS.0;
    while !job.state.is_final() && Instant::now() < over {
        sleep_until(over.min(Instant::now() + pause)).await;
        pause = (pause * 3 / 2).min(WAITS.1);
        job = find(service, caller, id, Some(&job.tenant)).await?;
    }
    Ok(job)
}

/// Lists the first jobs of every state, the latest first.
///
/// # Errors
/// There is no such tenant in scope, or the broker can't be asked.
pub async fn list_all(
    service: &Service,
    caller: &Caller,
    tenant: &TenantId,
    query: &Query,
) -> Result<Listed, Problem> {
    let mut all = Listed::default();
    for state in State::ALL {
        let listed = list(service, caller, tenant, Query { state, ..query.clone() }).await?;
        all.is_cut |= listed.is_cut;
        all.jobs.extend(listed.jobs);
        all.unread.extend(listed.unread);
    }
    // A job that changed its state in between may be listed twice; the one found last counts.
    all.jobs.reverse();
    all.jobs.sort_by_key(|job| Reverse(job.id));
    all.jobs.dedup_by_key(|job| job.id);
    all.jobs.truncate(query.limit as usize);
    Ok(all)
}

/// Checks that one call may act on this number of jobs.
pub(super) fn check_count(ids: &[JobId]) -> Result<(), Problem> {
    if ids.len() > ACT_MAX {
        let message = format!("{} jobs are more than {ACT_MAX} at once", ids.len());
        return Err(Problem::new(Slug::RequestTooLarge, message));
    }
    Ok(())
}

/// Edits a job that waits, as a whole or not at all. It takes a role of its own: whoever edits a job speaks in the name of whoever
/// has enqueued it. Returns the job's tenant, which need not be named.
///
/// # Errors
/// There is no such job in scope, it can't be edited so, or the broker can't be asked.
pub async fn edit(
    service: &Service,
    caller: &Caller,
    id: JobId,
    tenant: Option<&TenantId>,
    edit: &JobEdit,
) -> Result<TenantId, Problem> {
    caller.needs(Role::Edit)?;
    let JobRecord { tenant, kind, .. } = find(service, caller, id, tenant).await?;
    let bounds = enqueue::bounds(&service.config(), &tenant, &kind);
    let refused = |why: String| Problem::new(Slug::Conflict, format!("job {id} can't be edited: {why}"));
    match service.broker.edit(&tenant, id, edit, &bounds).await.map_err(of_broker)? {
        Edited::Done => Ok(tenant),
        Edited::Not(State::Blocked) => Err(refused("it waits for others, and so has no time".to_owned())
            .help("payload and priority of a blocked job can be changed")),
        Edited::Not(state) => {
            Err(refused(format!("it is {state}")).help("jobs can be edited as long as they wait"))
        }
        Edited::Excess(PayloadExcess::TooLarge) => {
            let message = format!("a payload of `{kind}` may be {} at most", bounds.payload);
            Err(Problem::new(Slug::RequestTooLarge, message)
                .help("pass what is large by reference, or raise limits.payload of its plugin"))
        }
        Edited::Excess(PayloadExcess::Full(excess)) => Err(refused(bounds.explain(excess))),
        Edited::Unknown => Err(unknown(id, &[tenant])),
        Edited::Unreadable => {
            Err(refused("what is stored of it was written by a newer version, and can't be read".to_owned()))
        }
    }
}

/// Makes the problem that none of these tenants has a job.
#[must_use]
pub fn unknown(id: JobId, tenants: &[TenantId]) -> Problem {
    let of = match tenants {
        [only] => format!("tenant {only}"),
        several => format!("tenants {}", names(several.iter().map(TenantId::as_str))),
    };
    Problem::new(Slug::UnknownJob, format!("there is no job {id} of {of}"))
        .help("finished jobs are kept for as long as `[keep]` of their plugin says")
}

/// Returns a page of jobs, each with the reason for which it waits. That nobody serves a job is known by the configuration, and
/// by the broker for few jobs only.
pub(super) async fn page(
    service: &Service,
    caller: &Caller,
    tenant: &TenantId,
    mut query: Query,
) -> Result<Page, Problem> {
    let reason = query.filter.reason;
    if query.state == State::Ready && reason == Some(Reason::NoPlugin) {
        query.filter.reason = None;
    }
    let mut page = service.broker.jobs(tenant, query).await.map_err(of_broker)?;
    let config = service.config();
    page.jobs = page.jobs.into_iter().map(|job| shown(&config, caller, job)).collect();
    page.jobs.retain(|job| reason.is_none() || job.reason == reason);
    Ok(page)
}

/// Returns a job as the caller gets to see it, with the reason for which it waits: that nobody serves it, as far as the
/// configuration tells, or else what the broker has been told.
fn shown(config: &Config, caller: &Caller, mut job: JobRecord) -> JobRecord {
    let is_complete = config.broken.is_empty();
    if job.state == State::Ready && is_complete && !is_served(config, &job.tenant, &job.queue, &job.kind) {
        job.reason = Some(Reason::NoPlugin);
    }
    if !caller.sees_payloads() {
        job.payload = Vec::new();
        job.output = None;
    }
    job
}
