//! The use cases, for commands: on a configuration and its broker, or over the network by a daemon's API.
//!
//! ```text
//! command ──> Client ──┬── Beside ──> use cases of the daemon's crate ──> broker
//!                      └── Over ────> HTTP ──> the same use cases, in a daemon or `sandhog serve`
//! ```

use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;

use futures::StreamExt;
use sandhog_api::{
    self as api, AllCountsDocument, BreakerDocument, BreakersDocument, Content, DaemonsDocument,
    DoneDocument, EditAsk, EnqueuedDocument, EventsDocument, FlowAsk, FlowDocument, ForceBreakerAsk,
    HeldDocument, HeldGroupsDocument, HoldAsk, HoldsDocument, JobAsk, JobDocument, JobRead, JobsAsk,
    LimitAsk, LimitsDocument, NextDocument, PageDocument, PauseScheduleAsk, PausedDocument, Payloads,
    Problem, QueuesDocument, ReleaseAsk, ReleasedDocument, Request, ResetBreakerAsk, ResumedDocument,
    ScheduleChangedDocument, ScheduleDocument, SchedulesDocument, Slug, SwitchLimitAsk, TenantsDocument,
    Time, UnreadScheduleDocument, Unreadable, UsageReport, parse_day, route, show_day,
};
use sandhog_broker::{
    Broker, Changed, Counts, Cursor, Enqueued, FlowStored, FlowView, JobAction, Query, Unread,
};
use sandhog_config::units::time;
use sandhog_config::{self as config, Config};
use sandhog_core::account::{Day, DayUsage};
use sandhog_core::edit::{Due, JobEdit};
use sandhog_core::event::{EventCursor, EventPage};
use sandhog_core::flow::Flow;
use sandhog_core::group_limit::{GroupLimitChange, NewGroupLimit};
use sandhog_core::hold::{Hold, HoldEnd, HoldScope, NewHold};
use sandhog_core::id::{BreakerName, GroupKey, JobId, Kind, QueueName, ScheduleName, TenantId};
use sandhog_core::job::{JobRecord, LogLine, State};
use sandhog_core::schedule::Schedule;
use sandhog_core::time::Timestamp;
use sandhog_daemon::broker::Access;
use sandhog_daemon::clock::Clock;
use sandhog_daemon::service::enqueue::{self, Route, Wanted};
use sandhog_daemon::service::flows::{self, Found, Routed};
use sandhog_daemon::service::jobs::{self, Listed};
use sandhog_daemon::service::limits;
use sandhog_daemon::service::queues::{self, Place};
use sandhog_daemon::service::schedules::{self, Change, Definition};
use sandhog_daemon::service::{Caller, Service, asks, breakers, daemons, groups, holds, tenants};

use crate::commands::selection::{parse_cursor, show_cursor};
use crate::exit::Failure;
use crate::target::Target;

/// The way from a command to the use cases.
pub(crate) enum Client {
    /// They are called, on a configuration and its broker.
    Beside(Beside),
    /// They are asked for over the network.
    Over(api::Client),
}

/// A configuration, its broker, and the operations on both. A caller who can read the configuration is its operator.
pub(crate) struct Beside {
    pub(crate) config: Arc<Config>,
    /// The broker itself, for tenants that the configuration doesn't have.
    pub(crate) broker: Arc<dyn Broker>,
    pub(crate) service: Service,
    pub(crate) caller: Caller,
}

/// Reads a configuration for commands that only use the broker, and warns of the plugin files that are left out.
pub(crate) fn load(path: &Path) -> Result<Config, Failure> {
    let config = config::load_for_broker(path)?;
    for problem in config.broken.iter().flat_map(|broken| broken.problems.iter()) {
        tracing::warn!("a plugin file is left out: {}", problem.one_line());
    }
    Ok(config)
}

impl Beside {
    /// Reads the configuration and connects to its broker.
    pub(crate) async fn connect(path: &Path, access: Access) -> Result<Self, Failure> {
        let config = load(path)?;
        let broker = sandhog_daemon::broker::connect(&config, access).await?.broker;
        Ok(Self::of(config, broker))
    }

    /// Creates the operations of a configuration that was read already, and its broker.
    pub(crate) fn of(config: Config, broker: Arc<dyn Broker>) -> Self {
        let config = Arc::new(config);
        let service = Service::without_daemon(Arc::clone(&config), Arc::clone(&broker));
        Self { config, broker, service, caller: Caller::operator() }
    }

    /// See [`enqueue::route`].
    pub(crate) fn route(&self, kind: &Kind, wanted: Wanted<'_>) -> Result<Route, Problem> {
        enqueue::route(&self.service, &self.caller, kind, wanted)
    }

    /// See [`enqueue::unserved`].
    pub(crate) fn unserved(&self, tenant: &TenantId, queue: &QueueName, kind: &Kind) -> Vec<String> {
        enqueue::unserved(&self.service, &self.caller, tenant, queue, kind)
    }

    /// See [`flows::make`]. A flow without an id gets a new one.
    pub(crate) fn make_flow(&self, ask: FlowAsk<Vec<u8>>) -> Result<Routed, Problem> {
        flows::make(&self.service, &self.caller, ask, |_| Clock::system().job_id())
    }

    /// See [`flows::store`].
    pub(crate) async fn store_flow(&self, flow: &Flow, routes: &[Route]) -> Result<FlowStored, Problem> {
        flows::store(&self.service, &self.caller, flow, routes).await
    }

    /// See [`schedules::define`].
    pub(crate) fn define_schedule(&self, definition: Definition) -> Result<(Route, Schedule), Problem> {
        schedules::define(&self.service, &self.caller, Clock::system().now(), definition)
    }

    /// See [`schedules::add`].
    pub(crate) async fn add_schedule(&self, tenant: &TenantId, schedule: &Schedule) -> Result<(), Problem> {
        schedules::add(&self.service, &self.caller, tenant, schedule).await.map(|_| ())
    }
}

/// A job with all that is kept of it.
pub(crate) struct Seen {
    pub(crate) job: JobRecord,
    pub(crate) log: Vec<LogLine>,
    /// The same for programs, with what it waits for.
    pub(crate) document: JobDocument,
}

/// Listed jobs of one tenant.
pub(crate) struct Page {
    /// The jobs, each for programs as well, with what it waits for.
    pub(crate) jobs: Vec<(JobRecord, JobDocument)>,
    pub(crate) unread: Vec<Unread>,
    pub(crate) next: Option<Cursor>,
    /// Whether it ends there though there is room for more, as enough was looked at.
    pub(crate) is_cut: bool,
}

/// Answers for jobs that were enqueued, and where they are.
pub(crate) struct Told {
    pub(crate) tenant: TenantId,
    pub(crate) queue: QueueName,
    /// For each job the answer, or the reason why the server has refused it.
    pub(crate) answers: Vec<Result<Enqueued, String>>,
    /// Warnings of the server about what keeps the jobs waiting.
    pub(crate) warnings: Vec<String>,
}

/// Maximum number of requests that are under way at once, for actions on several jobs.
const AT_ONCE: usize = 16;

/// Creates the problem that an answer is of a later version.
pub(crate) fn unreadable(error: Unreadable) -> Problem {
    Problem::new(Slug::Other, error.to_string()).help("the server is of a later version than this command")
}

fn name<T: std::str::FromStr>(text: &str) -> Result<T, Problem> {
    let refuse = |_| Problem::new(Slug::Other, format!("the answer has a name that can't be read: {text:?}"));
    text.parse().map_err(refuse)
}

fn only_of(documents: Vec<JobDocument>) -> Result<Vec<(JobRecord, JobDocument)>, Problem> {
    let read = |document: JobDocument| Ok((document.read().map_err(unreadable)?.job, document));
    documents.into_iter().map(read).collect()
}

/// Returns the two keys of a document that say when something ends by itself.
fn end(end: HoldEnd) -> (Option<String>, Option<Time>) {
    match end {
        HoldEnd::After(lasts) => (Some(time(lasts)), None),
        HoldEnd::At(at) => (None, Some(at.into())),
        HoldEnd::Lifted => (None, None),
    }
}

impl Client {
    /// Connects to the broker of the configuration that is meant, or makes ready to ask the server that is.
    pub(crate) async fn connect(target: &Target, access: Access) -> Result<Self, Failure> {
        match target {
            Target::Config(path) => Ok(Self::Beside(Beside::connect(path, access).await?)),
            Target::Server(client) => Ok(Self::Over(client.clone())),
        }
    }

    /// Returns the tenant `wanted`, or all tenants in scope if it is `None`. A server checks the one that is wanted only when it is
    /// asked for something.
    pub(crate) async fn tenants(&self, wanted: Option<&TenantId>) -> Result<Vec<TenantId>, Problem> {
        match (self, wanted) {
            (Self::Beside(Beside { service, caller, .. }), wanted) => tenants::find(service, caller, wanted),
            (Self::Over(_), Some(wanted)) => Ok(vec![wanted.clone()]),
            (Self::Over(client), None) => {
                let TenantsDocument { tenants } = client.call(&Request::to(route::TENANTS)).await?;
                tenants.iter().map(|tenant| name(&tenant.tenant)).collect()
            }
        }
    }

    /// See [`tenants::usage`].
    pub(crate) async fn usage(
        &self,
        tenant: &TenantId,
        days: RangeInclusive<Day>,
    ) -> Result<Vec<DayUsage>, Problem> {
        match self {
            Self::Beside(Beside { service, caller, .. }) => {
                tenants::usage(service, caller, tenant, days).await
            }
            Self::Over(client) => {
                let (from, to) = (show_day(*days.start()), show_day(*days.end()));
                let request = Request::to(route::USAGE).with("tenant", Some(tenant));
                let request = request.with("from", Some(from)).with("to", Some(to));
                let report: UsageReport = client.call(&request).await?;
                let day = |text: &str| parse_day(text).map_err(|error| Problem::new(Slug::Other, error));
                let rows = report.rows.into_iter().map(|row| {
                    Ok(DayUsage {
                        day: day(row.day.as_deref().unwrap_or_default())?,
                        plugin: name(row.plugin.as_deref().unwrap_or_default())?,
                        account: row.account,
                    })
                });
                rows.collect()
            }
        }
    }

    /// See [`enqueue::unserved`]. A server says it when jobs are enqueued.
    pub(crate) fn unserved(&self, tenant: &TenantId, queue: &QueueName, kind: &Kind) -> Vec<String> {
        match self {
            Self::Beside(beside) => beside.unserved(tenant, queue, kind),
            Self::Over(_) => Vec::new(),
        }
    }

    /// Enqueues jobs that have ids, of one route. See [`enqueue::enqueue`].
    ///
    /// # Errors
    /// None is stored; or, with [`Slug::BrokerUnavailable`], that is open.
    pub(crate) async fn enqueue(&self, route: Option<&Route>, asks: Vec<JobAsk>) -> Result<Told, Problem> {
        match (self, route) {
            (Self::Beside(Beside { service, caller, .. }), Some(route)) => {
                let now = Clock::system().now();
                let made = asks.iter().map(|ask| {
                    let id = name(ask.id.as_deref().unwrap_or_default())?;
                    asks::job(ask, id, route, now)
                });
                let made: Vec<_> = made.collect::<Result<_, Problem>>()?;
                let answers = enqueue::enqueue(service, caller, route, &made).await?;
                let (tenant, queue) = (route.tenant.clone(), route.queue.clone());
                let answers = answers.into_iter().map(Ok).collect();
                Ok(Told { tenant, queue, answers, warnings: Vec::new() })
            }
            (Self::Over(client), _) => {
                let stored: EnqueuedDocument = match &asks[..] {
                    [only] => client.call(&Request::to(route::ENQUEUE).body(only)).await?,
                    _ => client.call(&Request::to(route::ENQUEUE_MANY).body(&JobsAsk { jobs: asks })).await?,
                };
                let answer = |job: &api::AnswerDocument| match job.answer {
                    api::Answer::Stored => Ok(Ok(Enqueued::Stored)),
                    api::Answer::Duplicate => Ok(Ok(Enqueued::Duplicate(name(&job.id)?))),
                    api::Answer::Replaced => Ok(Ok(Enqueued::Replaced(name(&job.id)?))),
                    api::Answer::Refused | api::Answer::Unknown => {
                        Ok(Err(job.problem.clone().unwrap_or_else(|| "the server has refused it".to_owned())))
                    }
                };
                Ok(Told {
                    tenant: name(&stored.tenant)?,
                    queue: name(&stored.queue)?,
                    answers: stored.jobs.iter().map(answer).collect::<Result<_, Problem>>()?,
                    warnings: stored.warnings,
                })
            }
            (Self::Beside(_), None) => Err(Problem::new(Slug::Ambiguous, "the jobs have no route")),
        }
    }

    /// See [`daemons::list`].
    pub(crate) async fn daemons(&self) -> Result<DaemonsDocument, Problem> {
        match self {
            Self::Beside(Beside { service, caller, .. }) => daemons::list(service, caller).await,
            Self::Over(client) => Ok(client.call(&Request::to(route::DAEMONS)).await?),
        }
    }

    /// See [`breakers::list`].
    pub(crate) async fn breakers(&self, tenant: &TenantId) -> Result<Vec<BreakerDocument>, Problem> {
        match self {
            Self::Beside(Beside { service, caller, .. }) => {
                let (now, found) = breakers::list(service, caller, tenant).await?;
                Ok(found.iter().map(|found| breaker(tenant, found, now)).collect())
            }
            Self::Over(client) => {
                let request = Request::to(route::BREAKERS).with("tenant", Some(tenant));
                Ok(client.call::<BreakersDocument>(&request).await?.breakers)
            }
        }
    }

    /// See [`breakers::change`].
    pub(crate) async fn change_breaker(
        &self,
        tenant: &TenantId,
        name: &BreakerName,
        change: breakers::Change,
    ) -> Result<Option<BreakerDocument>, Problem> {
        match self {
            Self::Beside(Beside { service, caller, .. }) => {
                let (now, found) = breakers::change(service, caller, tenant, name, change).await?;
                Ok(found.map(|found| breaker(tenant, &found, now)))
            }
            Self::Over(client) => {
                let (tenant, name) = (Some(tenant.to_string()), name.to_string());
                let request = match change {
                    breakers::Change::Force { is_open: open, by: _, note, end: lasts } => {
                        let (lasts, until) = end(lasts);
                        let ask = ForceBreakerAsk { tenant, name, open, lasts, until, note };
                        Request::to(route::FORCE_BREAKER).body(&ask)
                    }
                    breakers::Change::Reset => {
                        Request::to(route::RESET_BREAKER).body(&ResetBreakerAsk { tenant, name })
                    }
                };
                Ok(client.call::<BreakersDocument>(&request).await?.breakers.pop())
            }
        }
    }

    /// See [`holds::hold`].
    pub(crate) async fn hold(&self, tenant: &TenantId, hold: NewHold) -> Result<(), Problem> {
        match self {
            Self::Beside(Beside { service, caller, .. }) => holds::hold(service, caller, tenant, hold).await,
            Self::Over(client) => {
                let (lasts, until) = end(hold.end);
                let ask = HoldAsk {
                    tenant: Some(tenant.to_string()),
                    queue: hold.scope.queue.as_ref().map(ToString::to_string),
                    kind: hold.scope.kind.as_ref().map(ToString::to_string),
                    lasts,
                    until,
                    note: hold.note,
                };
                client.call::<PausedDocument>(&Request::to(route::HOLD).body(&ask)).await?;
                Ok(())
            }
        }
    }

    /// See [`holds::lift`].
    pub(crate) async fn lift(&self, tenant: &TenantId, scope: HoldScope) -> Result<bool, Problem> {
        match self {
            Self::Beside(Beside { service, caller, .. }) => holds::lift(service, caller, tenant, scope).await,
            Self::Over(client) => {
                let request = Request::to(route::LIFT).with("tenant", Some(tenant));
                let request = request.with("queue", scope.queue).with("kind", scope.kind);
                match client.call::<ResumedDocument>(&request).await.map_err(Problem::from) {
                    Ok(_) => Ok(true),
                    Err(problem) if problem.slug == Slug::Conflict => Ok(false),
                    Err(problem) => Err(problem),
                }
            }
        }
    }

    /// See [`holds::list`].
    pub(crate) async fn holds(&self, tenant: &TenantId) -> Result<Vec<Hold>, Problem> {
        match self {
            Self::Beside(Beside { service, caller, .. }) => holds::list(service, caller, tenant).await,
            Self::Over(client) => {
                let request = Request::to(route::HOLDS).with("tenant", Some(tenant));
                let HoldsDocument { holds } = client.call(&request).await?;
                holds.iter().map(|hold| hold.read().map_err(unreadable)).collect()
            }
        }
    }

    /// See [`flows::find`].
    pub(crate) async fn flow(&self, id: JobId, tenant: Option<&TenantId>) -> Result<Found, Problem> {
        match self {
            Self::Beside(Beside { service, caller, .. }) => flows::find(service, caller, id, tenant).await,
            Self::Over(client) => {
                let request = Request::to_part(route::FLOW, id).with("tenant", tenant);
                let flow: FlowDocument = client.call(&request).await?;
                let unread = flow.unread.iter().map(|id| {
                    let problem = "what is stored of it can't be read by the server".to_owned();
                    Ok(Unread { id: name(id)?, problem })
                });
                let unread = unread.collect::<Result<_, Problem>>()?;
                let view = FlowView { jobs: flow.read().map_err(unreadable)?, unread };
                Ok(Found { tenant: name(&flow.tenant)?, id: name(&flow.flow)?, view })
            }
        }
    }

    /// Looks up a job, whose tenant need not be named. See [`jobs::find`].
    pub(crate) async fn find(&self, id: JobId, tenant: Option<&TenantId>) -> Result<JobRecord, Problem> {
        match self {
            Self::Beside(Beside { service, caller, .. }) => jobs::find(service, caller, id, tenant).await,
            Self::Over(_) => Ok(self.seen(id, tenant).await?.job),
        }
    }

    /// Looks up a job with its log and what it waits for; its tenant need not be named.
    pub(crate) async fn seen(&self, id: JobId, tenant: Option<&TenantId>) -> Result<Seen, Problem> {
        match self {
            Self::Beside(Beside { service, caller, .. }) => {
                let job = jobs::find(service, caller, id, tenant).await?;
                let log = jobs::log(service, caller, &job.tenant, id).await?;
                let waits = jobs::waits(service, caller, &job).await?;
                let document = JobDocument::new(job.clone(), Some(log.clone()), Payloads::Shown);
                Ok(Seen { job, log, document: document.waiting_for(&waits) })
            }
            Self::Over(client) => {
                let request = Request::to_part(route::JOB, id).with("tenant", tenant);
                let document: JobDocument = client.call(&request).await?;
                let JobRead { job, log } = document.read().map_err(unreadable)?;
                Ok(Seen { job, log, document })
            }
        }
    }

    /// See [`jobs::get`].
    pub(crate) async fn job(&self, tenant: &TenantId, id: JobId) -> Result<Option<JobRecord>, Problem> {
        match self {
            Self::Beside(Beside { service, caller, .. }) => jobs::get(service, caller, tenant, id).await,
            Self::Over(_) => match self.seen(id, Some(tenant)).await {
                Ok(Seen { job, .. }) => Ok(Some(job)),
                Err(problem) if problem.slug == Slug::UnknownJob => Ok(None),
                Err(problem) => Err(problem),
            },
        }
    }

    /// See [`jobs::counts`].
    pub(crate) async fn counts(&self, tenant: &TenantId) -> Result<Counts, Problem> {
        match self {
            Self::Beside(Beside { service, caller, .. }) => jobs::counts(service, caller, tenant).await,
            Self::Over(client) => {
                let request = Request::to(route::COUNTS).with("tenant", Some(tenant));
                let AllCountsDocument { tenants } = client.call(&request).await?;
                Ok(tenants.first().map(|of| Counts::of(&of.counts.0)).unwrap_or_default())
            }
        }
    }

    /// Lists jobs of one state, or of all, the latest first, if it is `None`. See [`jobs::list`] and [`jobs::list_all`].
    pub(crate) async fn page(
        &self,
        tenant: &TenantId,
        state: Option<State>,
        query: Query,
    ) -> Result<Page, Problem> {
        let limit = query.limit as usize;
        match self {
            Self::Beside(Beside { service, caller, .. }) => {
                let payloads = if query.payloads { Payloads::Shown } else { Payloads::Left };
                let Listed { jobs, unread, next, is_cut } = match state {
                    Some(state) => jobs::list(service, caller, tenant, Query { state, ..query }).await?,
                    None => jobs::list_all(service, caller, tenant, &query).await?,
                };
                let waits = jobs::waits_of_list(service, caller, tenant, &jobs).await;
                let of_job = |(job, waits): (JobRecord, &Vec<_>)| {
                    let document = JobDocument::new(job.clone(), None, payloads).waiting_for(waits);
                    (job, document)
                };
                Ok(Page { jobs: jobs.into_iter().zip(&waits).map(of_job).collect(), unread, next, is_cut })
            }
            Self::Over(client) => {
                let Query { filter, after, payloads, .. } = query;
                let mut request = Request::to(route::JOBS)
                    .with("tenant", Some(tenant))
                    .with("state", state.map(State::slug))
                    .with("queue", filter.queue)
                    .with("kind", filter.kind)
                    .with("reason", filter.reason.map(|reason| reason.slug()))
                    .with("since", filter.enqueued_from.map(Time))
                    .with("until", filter.enqueued_until.map(Time))
                    .with("group", filter.group)
                    .with("message", Some(filter.message).filter(|message| !message.is_empty()))
                    .with("limit", Some(limit))
                    .with("after", after.map(show_cursor))
                    .with("payloads", Some(payloads));
                for (label, value) in filter.labels.iter() {
                    request = request.with("label", Some(format!("{label}={value}")));
                }
                let PageDocument { jobs, unread, tenants } = client.call(&request).await?;
                let unread =
                    unread.into_iter().map(|of| Ok(Unread { id: name(&of.id)?, problem: of.problem }));
                let next = tenants.first().and_then(|of| of.next.as_deref());
                let next = next.map(|next| parse_cursor(next).map_err(|why| Problem::new(Slug::Other, why)));
                let (unread, next) = (unread.collect::<Result<_, Problem>>()?, next.transpose()?);
                let is_cut = next.is_some() && jobs.len() < limit;
                Ok(Page { jobs: only_of(jobs)?, unread, next, is_cut })
            }
        }
    }

    /// See [`queues::list`].
    pub(crate) async fn queues(
        &self,
        tenant: Option<&TenantId>,
        from: Option<&Place>,
        limit: usize,
    ) -> Result<QueuesDocument, Problem> {
        match self {
            Self::Beside(Beside { service, caller, .. }) => {
                queues::list(service, caller, tenant, from, limit).await
            }
            Self::Over(client) => {
                let request = Request::to(route::QUEUES).with("tenant", tenant);
                Ok(client.call(&request.with("after", from).with("limit", Some(limit))).await?)
            }
        }
    }

    /// See [`groups::held`].
    pub(crate) async fn held_groups(&self, tenant: &TenantId) -> Result<Vec<HeldDocument>, Problem> {
        match self {
            Self::Beside(Beside { service, caller, .. }) => {
                let held = groups::held(service, caller, tenant).await?;
                let document = |held: &sandhog_broker::HeldGroup| {
                    HeldDocument::new(tenant, &held.queue, &held.group, held.job, held.since)
                };
                Ok(held.iter().map(document).collect())
            }
            Self::Over(client) => {
                let request = Request::to(route::GROUPS).with("tenant", Some(tenant));
                Ok(client.call::<HeldGroupsDocument>(&request).await?.groups)
            }
        }
    }

    /// See [`limits::list`].
    pub(crate) async fn limits(&self, tenant: &TenantId) -> Result<LimitsDocument, Problem> {
        match self {
            Self::Beside(Beside { service, caller, .. }) => limits::list(service, caller, tenant).await,
            Self::Over(client) => {
                Ok(client.call(&Request::to(route::LIMITS).with("tenant", Some(tenant))).await?)
            }
        }
    }

    /// See [`limits::change`].
    pub(crate) async fn change_limit(
        &self,
        tenant: &TenantId,
        queue: &QueueName,
        group: &GroupKey,
        change: GroupLimitChange,
    ) -> Result<(), Problem> {
        let client = match self {
            Self::Beside(Beside { service, caller, .. }) => {
                return limits::change(service, caller, tenant, queue, group, change).await;
            }
            Self::Over(client) => client,
        };
        let (of, queue, group) = (Some(tenant.to_string()), queue.to_string(), group.to_string());
        let request = match change {
            GroupLimitChange::Set(NewGroupLimit { concurrency, end: ends, note, .. }) => {
                let (lasts, until) = end(ends);
                let ask = LimitAsk { tenant: of, queue, group, concurrency, lasts, until, note };
                Request::to(route::SET_LIMIT).body(&ask)
            }
            GroupLimitChange::Switch { is_on: enabled } => {
                let ask = SwitchLimitAsk { tenant: of, queue, group, enabled };
                Request::to(route::SWITCH_LIMIT).body(&ask)
            }
            GroupLimitChange::Unset => {
                let request = Request::to(route::UNSET_LIMIT).with("tenant", Some(tenant));
                request.with("queue", Some(queue)).with("group", Some(group))
            }
        };
        client.call::<LimitsDocument>(&request).await?;
        Ok(())
    }

    /// See [`groups::release`].
    pub(crate) async fn release_group(
        &self,
        tenant: &TenantId,
        queue: &QueueName,
        group: &GroupKey,
    ) -> Result<bool, Problem> {
        match self {
            Self::Beside(Beside { service, caller, .. }) => {
                groups::release(service, caller, tenant, queue, group).await
            }
            Self::Over(client) => {
                let (queue, group) = (queue.to_string(), group.to_string());
                let ask = ReleaseAsk { tenant: Some(tenant.to_string()), queue, group };
                let request = Request::to(route::RELEASE).body(&ask);
                Ok(client.call::<ReleasedDocument>(&request).await?.released)
            }
        }
    }

    /// Returns the events behind a place, as far as they are kept; that they are asked for has them recorded.
    pub(crate) async fn events(&self, tenant: &TenantId, after: EventCursor) -> Result<EventPage, Problem> {
        match self {
            Self::Beside(Beside { service, caller, .. }) => {
                sandhog_daemon::service::events::page(service, caller, tenant, after).await
            }
            Self::Over(client) => {
                let request = Request::to(route::EVENTS).with("tenant", Some(tenant));
                let since = (after != EventCursor::START).then(|| after.to_text(tenant));
                let EventsDocument { events, tenants } = client.call(&request.with("since", since)).await?;
                let events = events.iter().map(|event| Ok(event.read().map_err(unreadable)?.1));
                let events: Vec<_> = events.collect::<Result<_, Problem>>()?;
                let place = tenants.first();
                let next = place.and_then(|place| EventCursor::parse(&place.next, tenant).ok());
                let (has_more, has_gap) = (!events.is_empty(), place.is_some_and(|place| place.gap));
                Ok(EventPage { events, next: next.unwrap_or(after), has_more, has_gap })
            }
        }
    }

    /// See [`schedules::list`].
    pub(crate) async fn schedules(&self, tenant: &TenantId) -> Result<SchedulesDocument, Problem> {
        match self {
            Self::Beside(Beside { service, caller, .. }) => {
                let (now, found) = schedules::list(service, caller, tenant).await?;
                let mut all = SchedulesDocument { schedules: Vec::new(), unread: Vec::new() };
                for schedules::Found { name, record } in found {
                    match record {
                        Ok(record) => all.schedules.push(ScheduleDocument::new(tenant, &record, now)),
                        Err(problem) => {
                            let (tenant, schedule) = (tenant.to_string(), name.to_string());
                            all.unread.push(UnreadScheduleDocument { tenant, schedule, problem });
                        }
                    }
                }
                Ok(all)
            }
            Self::Over(client) => {
                Ok(client.call(&Request::to(route::SCHEDULES).with("tenant", Some(tenant))).await?)
            }
        }
    }

    /// Looks up a schedule, whose tenant need not be named if only one has such a schedule. See [`schedules::get`].
    pub(crate) async fn schedule(
        &self,
        tenant: Option<&TenantId>,
        name: &ScheduleName,
    ) -> Result<ScheduleDocument, Problem> {
        match self {
            Self::Beside(Beside { service, caller, .. }) => {
                let tenant = schedules::find(service, caller, tenant, name).await?;
                let (now, record) = schedules::get(service, caller, &tenant, name).await?;
                Ok(ScheduleDocument::new(&tenant, &record, now))
            }
            Self::Over(client) => {
                Ok(client.call(&Request::to_part(route::SCHEDULE, name).with("tenant", tenant)).await?)
            }
        }
    }

    /// Returns the next times of a schedule, from now on if `after` is `None`.
    pub(crate) async fn next_times(
        &self,
        tenant: Option<&TenantId>,
        name: &ScheduleName,
        after: Option<Timestamp>,
        count: usize,
    ) -> Result<NextDocument, Problem> {
        match self {
            Self::Beside(Beside { service, caller, .. }) => {
                let tenant = schedules::find(service, caller, tenant, name).await?;
                let (now, record) = schedules::get(service, caller, &tenant, name).await?;
                let next = match after {
                    None => record.next(now, count),
                    Some(after) => record.schedule.next(after, count),
                };
                Ok(NextDocument::new(record.schedule.times.zone(), &next))
            }
            Self::Over(client) => {
                let request = Request::to_part(route::SCHEDULE_NEXT, name).with("tenant", tenant);
                let request = request.with("after", after.map(Time)).with("count", Some(count));
                Ok(client.call(&request).await?)
            }
        }
    }

    /// Changes a schedule, and returns what was done. See [`schedules::change`].
    pub(crate) async fn change_schedule(
        &self,
        tenant: Option<&TenantId>,
        name: &ScheduleName,
        change: Change,
    ) -> Result<ScheduleChangedDocument, Problem> {
        match self {
            Self::Beside(Beside { service, caller, .. }) => {
                let tenant = schedules::find(service, caller, tenant, name).await?;
                let decision = schedules::change(service, caller, &tenant, name, &change).await?;
                let done = match change {
                    Change::Pause { .. } => "paused",
                    Change::Resume => "resumed",
                    Change::RunNow { .. } | Change::Backfill { .. } => "enqueued",
                };
                let jobs = decision.jobs.iter().map(|job| job.id.to_string()).collect();
                let (tenant, schedule) = (tenant.to_string(), name.to_string());
                Ok(ScheduleChangedDocument { tenant, schedule, done: done.to_owned(), jobs })
            }
            Self::Over(client) => {
                let to = |route| Request::to_part(route, name).with("tenant", tenant);
                let request = match change {
                    Change::Pause { by: _, note } => {
                        to(route::PAUSE_SCHEDULE).body(&PauseScheduleAsk { note })
                    }
                    Change::Resume => to(route::RESUME_SCHEDULE),
                    Change::RunNow { .. } => to(route::RUN_SCHEDULE),
                    Change::Backfill { from, to: until } => {
                        let ask = api::BackfillAsk { from: from.into(), to: until.into() };
                        to(route::BACKFILL).body(&ask)
                    }
                };
                Ok(client.call(&request).await?)
            }
        }
    }

    /// Removes a schedule. See [`schedules::remove`].
    pub(crate) async fn remove_schedule(
        &self,
        tenant: Option<&TenantId>,
        name: &ScheduleName,
    ) -> Result<ScheduleChangedDocument, Problem> {
        match self {
            Self::Beside(Beside { service, caller, .. }) => {
                let tenant = schedules::find(service, caller, tenant, name).await?;
                schedules::remove(service, caller, &tenant, name).await?;
                let (tenant, schedule) = (tenant.to_string(), name.to_string());
                let done = "removed".to_owned();
                Ok(ScheduleChangedDocument { tenant, schedule, done, jobs: Vec::new() })
            }
            Self::Over(client) => Ok(client
                .call(&Request::to_part(route::REMOVE_SCHEDULE, name).with("tenant", tenant))
                .await?),
        }
    }

    /// See [`jobs::edit`].
    pub(crate) async fn edit(
        &self,
        id: JobId,
        tenant: Option<&TenantId>,
        edit: &JobEdit,
    ) -> Result<TenantId, Problem> {
        match self {
            Self::Beside(Beside { service, caller, .. }) => {
                jobs::edit(service, caller, id, tenant, edit).await
            }
            Self::Over(client) => {
                let (text, hex) = edit.payload.as_deref().map(payload).unwrap_or_default();
                let (delay, at) = match edit.due {
                    None => (None, None),
                    Some(Due::After(delay)) => (Some(time(delay)), None),
                    Some(Due::At(at)) => (None, Some(at.into())),
                };
                let priority = edit.priority.map(|priority| priority.0);
                let ask = EditAsk { text, hex, priority, delay, at, payload: None };
                let request = Request::to_part(route::EDIT, id).with("tenant", tenant).body(&ask);
                let done: DoneDocument = client.call(&request).await?;
                name(done.tenant.as_deref().unwrap_or_default())
            }
        }
    }

    /// Performs one action on jobs of a tenant, at most [`jobs::ACT_MAX`] of them. Returns an answer for each, or the reason why the
    /// server has refused it. See [`jobs::act`].
    pub(crate) async fn act(
        &self,
        tenant: &TenantId,
        action: JobAction,
        ids: &[JobId],
    ) -> Result<Vec<Result<Changed, Problem>>, Problem> {
        match self {
            Self::Beside(Beside { service, caller, .. }) => {
                let changed = jobs::act(service, caller, tenant, action, ids).await?;
                Ok(changed.into_iter().map(Ok).collect())
            }
            Self::Over(client) => {
                let route = match action {
                    JobAction::Cancel => route::CANCEL,
                    JobAction::Redrive => route::REDRIVE,
                    JobAction::RunNow => route::RUN_NOW,
                    JobAction::Remove => route::REMOVE,
                };
                let one = async |id: &JobId| {
                    let request = Request::to_part(route, id).with("tenant", Some(tenant));
                    match client.call::<DoneDocument>(&request).await.map_err(Problem::from) {
                        Ok(done) if done.done.as_deref() == Some("cancel-requested") => {
                            Ok(Ok(Changed::Requested))
                        }
                        Ok(_) => Ok(Ok(Changed::Done)),
                        Err(problem) if problem.slug == Slug::UnknownJob => Ok(Ok(Changed::Unknown)),
                        Err(problem) if problem.slug == Slug::Conflict => Ok(Err(problem)),
                        Err(problem) => Err(problem),
                    }
                };
                let answers = futures::stream::iter(ids.iter().map(one)).buffered(AT_ONCE);
                answers.collect::<Vec<_>>().await.into_iter().collect()
            }
        }
    }
}

fn breaker(tenant: &TenantId, found: &breakers::Found, now: Timestamp) -> BreakerDocument {
    BreakerDocument::new(tenant, &found.name, found.terms.as_ref(), &found.record, now)
}

/// Returns a payload as text if it is one, or else in hexadecimal digits.
pub(crate) fn payload(bytes: &[u8]) -> (Option<String>, Option<String>) {
    match Content::of(bytes) {
        Content::Hex(digits) => (None, Some(digits)),
        _ => (Some(String::from_utf8_lossy(bytes).into_owned()), None),
    }
}
