//! Use cases on flows: storing one, and looking at one.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::fmt::Display;
use std::str::FromStr;

use sandhog_api::{AfterAsk, EdgeAsk, FlowAsk, FlowJobAsk, Problem, Slug};
use sandhog_broker::{Changed, FlowStored, FlowView, JobAction};
use sandhog_config::units::parse_time;
use sandhog_core::budget::Bytes;
use sandhog_core::flow::{After, Flow, FlowJob, FlowJobView, OnFailure};
use sandhog_core::id::{FlowJobName, GroupKey, InvalidName, JobId, Kind, QueueName, TenantId, UniqueKey};
use sandhog_core::job::{JobOptions, NewJob, Priority, State};
use sandhog_core::quota::QueueBounds;

use super::enqueue::{Route, Wanted, nth_id, route, until_answered};
use super::{Caller, Role, Service, jobs, malformed, of_broker, parsed, tenants};
use crate::unique;

/// Flow that isn't stored yet, and the route of each of its jobs: one at least, all of one tenant.
#[derive(Debug)]
pub struct Routed {
    /// The flow.
    pub flow: Flow,
    /// The routes, in the order of its jobs.
    pub routes: Vec<Route>,
}

/// Makes a flow of what is asked for. Its id is the one that is asked for, or else `id` makes it for its tenant; those of its jobs
/// follow from it.
///
/// # Errors
/// It can't be understood, is no flow, or a job of it has no route.
pub fn make(
    service: &Service,
    caller: &Caller,
    ask: FlowAsk<Vec<u8>>,
    id: impl FnOnce(&TenantId) -> JobId,
) -> Result<Routed, Problem> {
    let mut tenant = parsed("tenant", ask.tenant.as_deref(), TenantId::parse)?;
    let given = parsed("id", ask.id.as_deref(), JobId::parse)?;
    let mut routes = Vec::with_capacity(ask.jobs.len());
    for job in &ask.jobs {
        let of_job = |what: &str| format!("job `{}`: {what}", job.name);
        let kind = Kind::parse(&job.kind).map_err(|error| malformed(&of_job("kind"), &error))?;
        let queue = parsed(&of_job("queue"), job.queue.as_deref(), QueueName::parse)?;
        let wanted = Wanted { tenant: tenant.as_ref(), queue: queue.as_ref() };
        let route = route(service, caller, &kind, wanted)?;
        tenant = Some(route.tenant.clone());
        routes.push((kind, route));
    }
    let Some((_, first)) = routes.first() else {
        return Err(Problem::new(Slug::MalformedRequest, "a flow has one job at least"));
    };
    let seed = given.unwrap_or_else(|| id(&first.tenant));
    let mut made = Vec::with_capacity(routes.len());
    for (place, (ask, (kind, route))) in ask.jobs.into_iter().zip(&routes).enumerate() {
        let id = if place == 0 { seed } else { nth_id(seed, place as u64) };
        made.push(job(ask, id, kind, &route.queue)?);
    }
    let flow = Flow::new(made).map_err(|error| malformed("jobs", &error))?;
    Ok(Routed { flow, routes: routes.into_iter().map(|(_, route)| route).collect() })
}

/// Makes a job of a flow.
fn job(ask: FlowJobAsk<Vec<u8>>, id: JobId, kind: &Kind, queue: &QueueName) -> Result<FlowJob, Problem> {
    let of_job = |what: &str| format!("job `{}`: {what}", ask.name);
    let wrong = |what: &str, error: &dyn Display| malformed(&of_job(what), error);
    let name = FlowJobName::parse(&ask.name).map_err(|error| wrong("name", &error))?;
    let key = parsed(&of_job("unique_key"), ask.unique_key.as_deref(), UniqueKey::parse)?;
    let group = parsed(&of_job("group"), ask.group.as_deref(), GroupKey::parse)?;
    let after = |after: &AfterAsk| {
        let (before, on_failure) = match after {
            AfterAsk::Name(before) => (before, None),
            AfterAsk::Edge(EdgeAsk { job, on_failure }) => (job, on_failure.as_deref()),
        };
        let on_failure = match on_failure {
            None => OnFailure::default(),
            Some(slug) => OnFailure::from_slug(slug).ok_or_else(|| {
                wrong("on_failure", &format!("it is `{slug}`, and may be fail, ignore or hold"))
            })?,
        };
        let job = FlowJobName::parse(before).map_err(|error| wrong("after", &error))?;
        Ok(After { job, on_failure })
    };
    let after = ask.after.iter().map(after).collect::<Result<_, Problem>>()?;
    let delay = parsed(&of_job("delay"), ask.delay.as_deref(), parse_time)?.unwrap_or_default();
    let job = NewJob {
        delay,
        priority: ask.priority.map(Priority).unwrap_or_default(),
        unique_key: key.map(|key| unique::stored(kind, &key)),
        options: JobOptions { group, ..JobOptions::default() },
        ..NewJob::new(id, queue.clone(), kind.clone(), ask.payload.unwrap_or_else(|| b"null".to_vec()))
    };
    Ok(FlowJob { name, job, after, takes_outputs: ask.outputs })
}

/// Makes the problem that a flow was not stored. `None` if it was.
#[must_use]
pub fn refused(Routed { flow, routes }: &Routed, stored: FlowStored) -> Option<Problem> {
    let place = |id: JobId| flow.jobs().position(|job| job.id == id).unwrap_or_default();
    let refused = |slug, id: JobId, why: String| {
        Problem::new(slug, format!("job `{}`: {why}", flow.nodes()[place(id)].name))
    };
    let problem = match stored {
        FlowStored::Stored => return None,
        FlowStored::Duplicate { job, holder } => {
            let why = format!("job {holder}, which is not final yet, holds its unique key");
            let help = format!("wait for it (`sandhog job show {holder} --wait`) or cancel it");
            refused(Slug::Conflict, job, why).help(help)
        }
        FlowStored::TooLarge(job) => {
            let limit = routes.get(place(job)).map_or(QueueBounds::PAYLOAD_MAX, |route| route.bounds.payload);
            refused(Slug::RequestTooLarge, job, format!("its payload is larger than {limit}")).help(
                "pass what is large by reference: a path in a granted folder, a URL, a key of the state",
            )
        }
        FlowStored::Full(excess) => {
            let explained = routes.first().map(|Route { tenant, bounds, .. }| {
                format!("{} of tenants.{tenant}", bounds.explain(excess))
            });
            Problem::new(Slug::QueueFull, explained.unwrap_or_default())
        }
        FlowStored::Taken(job) => {
            refused(Slug::Conflict, job, format!("its id, {job}, is that of another job"))
                .help("give another id, or none")
        }
    };
    Some(problem.help("nothing of the flow was stored"))
}

/// A flow that was found, as the caller gets to see it.
#[derive(Debug)]
pub struct Found {
    /// The flow's tenant.
    pub tenant: TenantId,
    /// Id of the flow: that of its first job.
    pub id: JobId,
    /// The jobs that are still kept.
    pub view: FlowView,
}

/// A job of a flow, as a person names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FlowPart {
    /// Its id.
    Id(JobId),
    /// Its name in the flow.
    Name(FlowJobName),
}

impl FromStr for FlowPart {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        match JobId::parse(text) {
            Ok(id) => Ok(Self::Id(id)),
            Err(_) => FlowJobName::parse(text).map(Self::Name),
        }
    }
}

impl fmt::Display for FlowPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => id.fmt(f),
            Self::Name(name) => name.fmt(f),
        }
    }
}

impl FlowPart {
    fn is(&self, view: &FlowJobView) -> bool {
        match self {
            Self::Id(id) => view.job.id == *id,
            Self::Name(name) => view.name == *name,
        }
    }
}

/// Stores a flow, or nothing of it. `routes` has the route of each of its jobs, all of one tenant. If the broker's answer is lost,
/// it is asked again: the ids are the caller's, so nothing is stored twice.
///
/// # Errors
/// A payload is larger than the plugin of its kind takes, or the broker can't be asked. With [`Slug::BrokerUnavailable`] it is open
/// whether the flow is stored.
pub async fn store(
    service: &Service,
    caller: &Caller,
    flow: &Flow,
    routes: &[Route],
) -> Result<FlowStored, Problem> {
    caller.needs(Role::Produce)?;
    let Some(first) = routes.first() else {
        return Err(Problem::new(Slug::MalformedRequest, "a flow has one job at least"));
    };
    let tenant = tenants::known(&service.config(), caller, &first.tenant)?;
    let too_large = |(job, route): (&NewJob, &Route)| {
        (Bytes::of(job.payload.len()) > route.bounds.payload).then_some(job.id)
    };
    if let Some(job) = flow.jobs().zip(routes).find_map(too_large) {
        return Ok(FlowStored::TooLarge(job));
    }
    // Each payload is within the bound of its own kind.
    let bounds = QueueBounds { payload: QueueBounds::PAYLOAD_MAX, ..first.bounds };
    until_answered(|| service.broker.store_flow(&tenant, flow, &bounds)).await
}

/// Returns the jobs of a flow, each after those that it comes after.
#[must_use]
pub fn in_order(view: &FlowView) -> Vec<&FlowJobView> {
    let kept: HashMap<JobId, usize> =
        view.jobs.iter().enumerate().map(|(n, view)| (view.job.id, n)).collect();
    let mut dependants = vec![Vec::new(); view.jobs.len()];
    let mut open = vec![0; view.jobs.len()];
    for (n, FlowJobView { parents, .. }) in view.jobs.iter().enumerate() {
        for parent in parents.iter().filter_map(|parent| kept.get(&parent.id)) {
            dependants[*parent].push(n);
            open[n] += 1;
        }
    }
    let mut order: Vec<usize> = (0..open.len()).filter(|n| open[*n] == 0).collect();
    let mut next = 0;
    while let Some(&n) = order.get(next) {
        for &dependant in &dependants[n] {
            open[dependant] -= 1;
            if open[dependant] == 0 {
                order.push(dependant);
            }
        }
        next += 1;
    }
    order.into_iter().map(|n| &view.jobs[n]).collect()
}

/// Returns a job of a flow and all jobs that depend on it, directly or by others, each after those that it comes after.
///
/// # Errors
/// The flow has no such job, or it isn't kept any more.
pub fn from_part<'v>(found: &'v Found, from: &FlowPart) -> Result<Vec<&'v FlowJobView>, Problem> {
    let mut wanted: HashSet<JobId> = HashSet::new();
    let mut part = in_order(&found.view);
    part.retain(|view| {
        let depends = view.parents.iter().any(|parent| wanted.contains(&parent.id));
        let is_part = from.is(view) || depends;
        if is_part {
            wanted.insert(view.job.id);
        }
        is_part
    });
    match part.is_empty() {
        true => Err(Problem::new(Slug::UnknownJob, format!("flow {} has no job `{from}`", found.id))
            .help("`sandhog flow show` lists its jobs that are kept")),
        false => Ok(part),
    }
}

/// Cancels the jobs of a flow that aren't final, or puts the dead ones back; `from` names one of them if only that one and those
/// that depend on it are meant. Returns the flow as it was before, and the jobs to which it was done.
///
/// # Errors
/// There is no such flow or job in scope, or the broker can't be asked.
pub async fn act(
    service: &Service,
    caller: &Caller,
    id: JobId,
    tenant: Option<&TenantId>,
    action: JobAction,
    from: Option<&FlowPart>,
) -> Result<(Found, Vec<JobId>), Problem> {
    caller.needs(Role::Operate)?;
    let found = find(service, caller, id, tenant).await?;
    let wanted = |job: &FlowJobView| match action {
        JobAction::Cancel => !job.job.state.is_final(),
        _ => job.job.state == State::Dead,
    };
    // Those that come after others are cancelled first, and redriven last.
    let part = from.map_or_else(|| Ok(in_order(&found.view)), |from| from_part(&found, from))?;
    let mut ids: Vec<JobId> = part.into_iter().filter(|job| wanted(job)).map(|view| view.job.id).collect();
    if action == JobAction::Cancel {
        ids.reverse();
    }
    let mut done = Vec::new();
    for some in ids.chunks(jobs::ACT_MAX) {
        let changed = jobs::act(service, caller, &found.tenant, action, some).await?;
        let was_done = |changed: &Changed| matches!(changed, Changed::Done | Changed::Requested);
        done.extend(some.iter().zip(changed).filter(|(_, changed)| was_done(changed)).map(|(id, _)| *id));
    }
    Ok((found, done))
}

/// Looks up a flow by its id or by that of any of its jobs; its tenant need not be named.
///
/// # Errors
/// There is no such job or flow in scope, or the broker can't be asked.
pub async fn find(
    service: &Service,
    caller: &Caller,
    id: JobId,
    tenant: Option<&TenantId>,
) -> Result<Found, Problem> {
    caller.needs(Role::Observe)?;
    let tenants = tenants::find(service, caller, tenant)?;
    for tenant in &tenants {
        let job = service.broker.job(tenant, id).await.map_err(of_broker)?;
        // The first job of a flow, which has given it its id, may not be kept any more.
        let flow = match job {
            Some(job) => job.options.flow.map(|member| member.flow),
            None => Some(id),
        };
        let Some(flow) = flow else {
            return Err(Problem::new(Slug::UnknownJob, format!("job {id} is in no flow")));
        };
        if let Some(view) = service.broker.flow(tenant, flow).await.map_err(of_broker)? {
            return Ok(Found { tenant: tenant.clone(), id: flow, view });
        }
    }
    Err(jobs::unknown(id, &tenants))
}
