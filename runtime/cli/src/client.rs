//! The use cases of a configuration and its broker, for commands that need no daemon.

use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sandhog_api::{DaemonsDocument, FlowAsk, LimitsDocument, Problem, QueuesDocument};
use sandhog_broker::{
    Broker, Changed, Counts, Enqueued, Filter, FlowStored, HeldGroup, JobAction, Query, Wakes,
};
use sandhog_config::{self as config, Config};
use sandhog_core::account::{Day, DayUsage};
use sandhog_core::edit::JobEdit;
use sandhog_core::event::{EventCursor, EventPage};
use sandhog_core::flow::Flow;
use sandhog_core::group_limit::GroupLimitChange;
use sandhog_core::hold::{Hold, HoldScope, NewHold};
use sandhog_core::id::{BreakerName, GroupKey, JobId, Kind, QueueName, ScheduleName, TenantId};
use sandhog_core::job::{JobRecord, LogLine, NewJob, State};
use sandhog_core::schedule::{Decision, Record, Schedule};
use sandhog_core::time::Timestamp;
use sandhog_core::waits::Wait;
use sandhog_daemon::broker::Access;
use sandhog_daemon::clock::Clock;
use sandhog_daemon::service::breakers;
use sandhog_daemon::service::bulk::{Bulk, Step};
use sandhog_daemon::service::daemons;
use sandhog_daemon::service::enqueue::{self, Route, Wanted};
use sandhog_daemon::service::events;
use sandhog_daemon::service::flows::{self, Found, Routed};
use sandhog_daemon::service::groups;
use sandhog_daemon::service::holds;
use sandhog_daemon::service::jobs::{self, Listed};
use sandhog_daemon::service::limits;
use sandhog_daemon::service::queues::{self, Place};
use sandhog_daemon::service::schedules::{self, Change, Definition};
use sandhog_daemon::service::{Caller, Service, tenants};

use crate::exit::Failure;

/// A configuration, its broker, and the operations on both. A caller who can read the configuration is its operator.
pub(crate) struct Client {
    pub(crate) config: Arc<Config>,
    /// The broker itself, for tenants that the configuration doesn't have.
    pub(crate) broker: Arc<dyn Broker>,
    service: Service,
    caller: Caller,
}

/// Reads a configuration for commands that only use the broker, and warns of the plugin files that are left out.
pub(crate) fn load(path: &Path) -> Result<Config, Failure> {
    let config = config::load_for_broker(path)?;
    for problem in config.broken.iter().flat_map(|broken| broken.problems.iter()) {
        tracing::warn!("a plugin file is left out: {}", problem.one_line());
    }
    Ok(config)
}

impl Client {
    /// Reads the configuration and connects to its broker.
    pub(crate) async fn connect(path: &Path, access: Access) -> Result<Self, Failure> {
        let config = load(path)?;
        let broker = sandhog_daemon::broker::connect(&config, access).await?.broker;
        Ok(Self::of(config, broker))
    }

    /// Creates a client of a configuration that was read already, and its broker.
    pub(crate) fn of(config: Config, broker: Arc<dyn Broker>) -> Self {
        let config = Arc::new(config);
        let service = Service::without_daemon(Arc::clone(&config), Arc::clone(&broker));
        Self { config, broker, service, caller: Caller::operator() }
    }

    /// Returns the tenant `wanted`, or all tenants if it is `None`.
    pub(crate) fn tenants(&self, wanted: Option<&TenantId>) -> Result<Vec<TenantId>, Problem> {
        tenants::find(&self.service, &self.caller, wanted)
    }

    /// See [`tenants::usage`].
    pub(crate) async fn usage(
        &self,
        tenant: &TenantId,
        days: RangeInclusive<Day>,
    ) -> Result<Vec<DayUsage>, Problem> {
        tenants::usage(&self.service, &self.caller, tenant, days).await
    }

    /// See [`enqueue::route`].
    pub(crate) fn route(&self, kind: &Kind, wanted: Wanted<'_>) -> Result<Route, Problem> {
        enqueue::route(&self.service, &self.caller, kind, wanted)
    }

    /// See [`enqueue::unserved`].
    pub(crate) fn unserved(&self, tenant: &TenantId, queue: &QueueName, kind: &Kind) -> Vec<String> {
        enqueue::unserved(&self.service, &self.caller, tenant, queue, kind)
    }

    /// See [`enqueue::enqueue`].
    pub(crate) async fn enqueue(&self, route: &Route, jobs: &[NewJob]) -> Result<Vec<Enqueued>, Problem> {
        enqueue::enqueue(&self.service, &self.caller, route, jobs).await
    }

    /// See [`daemons::list`].
    pub(crate) async fn daemons(&self) -> Result<DaemonsDocument, Problem> {
        daemons::list(&self.service, &self.caller).await
    }

    /// See [`limits::list`].
    pub(crate) async fn limits(&self, tenant: &TenantId) -> Result<LimitsDocument, Problem> {
        limits::list(&self.service, &self.caller, tenant).await
    }

    /// See [`limits::change`].
    pub(crate) async fn change_limit(
        &self,
        tenant: &TenantId,
        queue: &QueueName,
        group: &GroupKey,
        change: GroupLimitChange,
    ) -> Result<(), Problem> {
        limits::change(&self.service, &self.caller, tenant, queue, group, change).await
    }

    /// See [`breakers::list`].
    pub(crate) async fn breakers(
        &self,
        tenant: &TenantId,
    ) -> Result<(Timestamp, Vec<breakers::Found>), Problem> {
        breakers::list(&self.service, &self.caller, tenant).await
    }

    /// See [`breakers::change`].
    pub(crate) async fn change_breaker(
        &self,
        tenant: &TenantId,
        name: &BreakerName,
        change: breakers::Change,
    ) -> Result<(Timestamp, Option<breakers::Found>), Problem> {
        breakers::change(&self.service, &self.caller, tenant, name, change).await
    }

    /// See [`holds::hold`].
    pub(crate) async fn hold(&self, tenant: &TenantId, hold: NewHold) -> Result<(), Problem> {
        holds::hold(&self.service, &self.caller, tenant, hold).await
    }

    /// See [`holds::lift`].
    pub(crate) async fn lift(&self, tenant: &TenantId, scope: HoldScope) -> Result<bool, Problem> {
        holds::lift(&self.service, &self.caller, tenant, scope).await
    }

    /// See [`holds::list`].
    pub(crate) async fn holds(&self, tenant: &TenantId) -> Result<Vec<Hold>, Problem> {
        holds::list(&self.service, &self.caller, tenant).await
    }

    /// See [`flows::make`]. A flow without an id gets a new one.
    pub(crate) fn make_flow(&self, ask: FlowAsk<Vec<u8>>) -> Result<Routed, Problem> {
        flows::make(&self.service, &self.caller, ask, |_| Clock::system().job_id())
    }

    /// See [`flows::store`].
    pub(crate) async fn store_flow(&self, flow: &Flow, routes: &[Route]) -> Result<FlowStored, Problem> {
        flows::store(&self.service, &self.caller, flow, routes).await
    }

    /// See [`flows::find`].
    pub(crate) async fn flow(&self, id: JobId, tenant: Option<&TenantId>) -> Result<Found, Problem> {
        flows::find(&self.service, &self.caller, id, tenant).await
    }

    /// See [`jobs::find`].
    pub(crate) async fn find(&self, id: JobId, tenant: Option<&TenantId>) -> Result<JobRecord, Problem> {
        jobs::find(&self.service, &self.caller, id, tenant).await
    }

    /// See [`jobs::get`].
    pub(crate) async fn job(&self, tenant: &TenantId, id: JobId) -> Result<Option<JobRecord>, Problem> {
        jobs::get(&self.service, &self.caller, tenant, id).await
    }

    /// See [`jobs::waits`].
    pub(crate) async fn waits(&self, job: &JobRecord) -> Result<Vec<Wait>, Problem> {
        jobs::waits(&self.service, &self.caller, job).await
    }

    /// See [`jobs::waits_of_list`].
    pub(crate) async fn waits_of_list(&self, tenant: &TenantId, jobs: &[JobRecord]) -> Vec<Vec<Wait>> {
        jobs::waits_of_list(&self.service, &self.caller, tenant, jobs).await
    }

    /// See [`jobs::log`].
    pub(crate) async fn log(&self, tenant: &TenantId, id: JobId) -> Result<Vec<LogLine>, Problem> {
        jobs::log(&self.service, &self.caller, tenant, id).await
    }

    /// See [`jobs::counts`].
    pub(crate) async fn counts(&self, tenant: &TenantId) -> Result<Counts, Problem> {
        jobs::counts(&self.service, &self.caller, tenant).await
    }

    /// See [`jobs::list`].
    pub(crate) async fn list(&self, tenant: &TenantId, query: Query) -> Result<Listed, Problem> {
        jobs::list(&self.service, &self.caller, tenant, query).await
    }

    /// See [`jobs::list_all`].
    pub(crate) async fn list_all(&self, tenant: &TenantId, query: &Query) -> Result<Listed, Problem> {
        jobs::list_all(&self.service, &self.caller, tenant, query).await
    }

    /// See [`Bulk::begin`].
    pub(crate) async fn bulk(
        &self,
        tenant: &TenantId,
        action: JobAction,
        state: Option<State>,
        filter: Filter,
    ) -> Result<Bulk, Problem> {
        Bulk::begin(&self.service, &self.caller, tenant, action, state, filter).await
    }

    /// See [`Bulk::find`].
    pub(crate) async fn find_bulk(&self, bulk: &mut Bulk, most: u32) -> Result<Option<Step<State>>, Problem> {
        bulk.find(&self.service, &self.caller, most).await
    }

    /// See [`Bulk::act`].
    pub(crate) async fn act_bulk(&self, bulk: &Bulk, found: Step<State>) -> Result<Step<Changed>, Problem> {
        bulk.act(&self.service, &self.caller, found).await
    }

    /// See [`queues::list`].
    pub(crate) async fn queues(
        &self,
        tenant: Option<&TenantId>,
        from: Option<&Place>,
        limit: usize,
    ) -> Result<QueuesDocument, Problem> {
        queues::list(&self.service, &self.caller, tenant, from, limit).await
    }

    /// See [`groups::held`].
    pub(crate) async fn held_groups(&self, tenant: &TenantId) -> Result<Vec<HeldGroup>, Problem> {
        groups::held(&self.service, &self.caller, tenant).await
    }

    /// See [`groups::release`].
    pub(crate) async fn release_group(
        &self,
        tenant: &TenantId,
        queue: &QueueName,
        group: &GroupKey,
    ) -> Result<bool, Problem> {
        groups::release(&self.service, &self.caller, tenant, queue, group).await
    }

    /// See [`events::record`].
    pub(crate) async fn record_events(&self, tenant: &TenantId) -> Result<EventCursor, Problem> {
        events::record(&self.service, &self.caller, tenant).await
    }

    /// See [`events::renew_every`].
    pub(crate) fn renew_events_every(&self, tenant: &TenantId) -> Result<Duration, Problem> {
        events::renew_every(&self.service, &self.caller, tenant)
    }

    /// See [`events::page`].
    pub(crate) async fn events(&self, tenant: &TenantId, after: EventCursor) -> Result<EventPage, Problem> {
        events::page(&self.service, &self.caller, tenant, after).await
    }

    /// See [`events::watch`].
    pub(crate) async fn watch_events(&self, tenants: &[TenantId]) -> Result<Wakes, Problem> {
        events::watch(&self.service, &self.caller, tenants).await
    }

    /// See [`schedules::list`].
    pub(crate) async fn schedules(
        &self,
        tenant: &TenantId,
    ) -> Result<(Timestamp, Vec<schedules::Found>), Problem> {
        schedules::list(&self.service, &self.caller, tenant).await
    }

    /// See [`schedules::find`].
    pub(crate) async fn tenant_of(
        &self,
        wanted: Option<&TenantId>,
        name: &ScheduleName,
    ) -> Result<TenantId, Problem> {
        schedules::find(&self.service, &self.caller, wanted, name).await
    }

    /// See [`schedules::get`].
    pub(crate) async fn schedule(
        &self,
        tenant: &TenantId,
        name: &ScheduleName,
    ) -> Result<(Timestamp, Record), Problem> {
        schedules::get(&self.service, &self.caller, tenant, name).await
    }

    /// See [`schedules::change`].
    pub(crate) async fn change_schedule(
        &self,
        tenant: &TenantId,
        name: &ScheduleName,
        change: &Change,
    ) -> Result<Decision, Problem> {
        schedules::change(&self.service, &self.caller, tenant, name, change).await
    }

    /// See [`schedules::define`].
    pub(crate) fn define_schedule(&self, definition: Definition) -> Result<(Route, Schedule), Problem> {
        schedules::define(&self.service, &self.caller, Clock::system().now(), definition)
    }

    /// See [`schedules::add`].
    pub(crate) async fn add_schedule(
        &self,
        tenant: &TenantId,
        schedule: &Schedule,
    ) -> Result<Record, Problem> {
        schedules::add(&self.service, &self.caller, tenant, schedule).await
    }

    /// See [`schedules::remove`].
    pub(crate) async fn remove_schedule(
        &self,
        tenant: &TenantId,
        name: &ScheduleName,
    ) -> Result<(), Problem> {
        schedules::remove(&self.service, &self.caller, tenant, name).await
    }

    /// See [`jobs::edit`].
    pub(crate) async fn edit(
        &self,
        id: JobId,
        tenant: Option<&TenantId>,
        edit: &JobEdit,
    ) -> Result<TenantId, Problem> {
        jobs::edit(&self.service, &self.caller, id, tenant, edit).await
    }

    /// See [`jobs::act`].
    pub(crate) async fn act(
        &self,
        tenant: &TenantId,
        action: JobAction,
        ids: &[JobId],
    ) -> Result<Vec<Changed>, Problem> {
        jobs::act(&self.service, &self.caller, tenant, action, ids).await
    }
}
