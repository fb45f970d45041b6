//! Routing jobs by kind, and storing them.

use std::time::Duration;

use sandhog_api::{Problem, Slug};
use sandhog_broker::{Enqueued, Error};
use sandhog_config::{Config, Plugin, nearest};
use sandhog_core::id::{JobId, Kind, QueueName, TenantId};
use sandhog_core::job::NewJob;
use sandhog_core::quota::QueueBounds;
use sandhog_core::time::Timestamp;
use sha2::{Digest, Sha256};

use super::{Caller, Role, Service, list, of_broker, tenants};

/// Tenant and queue that a producer named for its jobs.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'w> {
    /// The jobs' tenant. `None` for the only tenant, or the only one that handles the kind.
    pub tenant: Option<&'w TenantId>,
    /// Queue in which they wait. `None` for that of the plugin that handles the kind.
    pub queue: Option<&'w QueueName>,
}

/// Route of jobs of a kind.
#[derive(Debug, Clone)]
pub struct Route {
    /// The jobs' tenant.
    pub tenant: TenantId,
    /// Queue in which they wait.
    pub queue: QueueName,
    /// Plugin that handles them. `None` if there is none yet, and the producer named the queue.
    pub plugin: Option<Plugin>,
    /// Bounds on how much may wait, and on the size of a payload of the kind.
    pub bounds: QueueBounds,
}

/// Finds the route of jobs of a kind: their tenant, the queue in which they wait, and the plugin that handles them.
///
/// # Errors
/// The tenant or the queue is open, there is no such tenant in scope, or the caller may not enqueue.
pub fn route(service: &Service, caller: &Caller, kind: &Kind, wanted: Wanted<'_>) -> Result<Route, Problem> {
    caller.needs(Role::Produce)?;
    let config = &service.config();
    let tenant = match wanted.tenant {
        Some(tenant) => tenants::known(config, caller, tenant)?,
        None => tenant_for(config, caller, kind)?,
    };
    let plugin = plugins_for(config, kind).find(|plugin| plugin.tenant == tenant);
    let queue = match (wanted.queue, plugin) {
        (Some(queue), _) => queue.clone(),
        (None, Some(plugin)) => plugin.queue.clone(),
        (None, None) => return Err(no_plugin(config, kind, &tenant)),
    };
    let bounds = bounds(config, &tenant, kind);
    Ok(Route { tenant, queue, plugin: plugin.cloned(), bounds })
}

/// Returns the bounds on how much of a tenant may wait, and on the size of a payload of the kind.
pub(super) fn bounds(config: &Config, tenant: &TenantId, kind: &Kind) -> QueueBounds {
    let bounds = config.tenants.get(tenant).map_or_else(QueueBounds::default, |terms| terms.queue);
    let plugin = plugins_for(config, kind).find(|plugin| plugin.tenant == *tenant);
    QueueBounds { payload: plugin.map_or(bounds.payload, |plugin| plugin.payload), ..bounds }
}

/// Explains what keeps jobs of a kind waiting in a queue, as far as the configuration tells: nobody leases from their queue, or
/// handles the kind. Empty if some of the configuration couldn't be read.
#[must_use]
pub fn unserved(
    service: &Service,
    caller: &Caller,
    tenant: &TenantId,
    queue: &QueueName,
    kind: &Kind,
) -> Vec<String> {
    let config = service.config();
    if !config.broken.is_empty() || !caller.sees(tenant) {
        return Vec::new();
    }
    let meant = |text: &str, names: Vec<&str>| {
        nearest(text, names.into_iter()).map(|meant| format!("; did you mean `{meant}`?")).unwrap_or_default()
    };
    let mut told = Vec::new();
    if !has_queue(&config, tenant, queue) {
        let queues = plugins_of(&config, tenant).map(|plugin| plugin.queue.as_str()).collect();
        let meant = meant(queue.as_str(), queues);
        told.push(format!(
            "no plugin of tenant {tenant} has the queue `{queue}`, so nobody leases from it{meant}"
        ));
    }
    if !handles(&config, tenant, kind) {
        let kinds = plugins_of(&config, tenant).flat_map(|plugin| &plugin.kinds).map(Kind::as_str).collect();
        let meant = meant(kind.as_str(), kinds);
        told.push(format!("no plugin of tenant {tenant} handles `{kind}`, so jobs of it wait{meant}"));
    }
    told
}

/// Wait before the first repeated call to a broker that can't be reached; it doubles each time.
const FIRST_WAIT: Duration = Duration::from_millis(200);
const TRIES: u32 = 5;

/// Stores jobs. Returns an answer for each. If the broker's answer is lost, it is asked again: the ids are the caller's, so no
/// job is stored twice.
///
/// # Errors
/// The broker can't be asked. With [`Slug::BrokerUnavailable`] it is open whether the jobs are stored.
pub async fn enqueue(
    service: &Service,
    caller: &Caller,
    route: &Route,
    jobs: &[NewJob],
) -> Result<Vec<Enqueued>, Problem> {
    caller.needs(Role::Produce)?;
    let tenant = tenants::known(&service.config(), caller, &route.tenant)?;
    until_answered(|| service.broker.enqueue_within(&tenant, jobs, &route.bounds)).await
}

/// Returns the id of the `n`th of the jobs that are stored together, which follows from that of the first. It has the same time, so
/// that they lie together.
#[must_use]
pub fn nth_id(first: JobId, n: u64) -> JobId {
    const CHANCE_BITS: u32 = 80;
    let mut hash = Sha256::new();
    hash.update(first.as_u128().to_be_bytes());
    hash.update(n.to_be_bytes());
    let chance = hash.finalize().iter().take(10).fold(0u128, |chance, byte| chance << 8 | u128::from(*byte));
    let millis = u64::try_from(first.as_u128() >> CHANCE_BITS).unwrap_or(u64::MAX);
    JobId::from_parts(Timestamp::from_millis(millis), chance)
}

/// Calls the broker by `call`, which has to be safe to repeat, until it answers or has been called [`TRIES`] times.
///
/// # Errors
/// The broker can't be asked.
pub(super) async fn until_answered<T, C>(call: impl Fn() -> C) -> Result<T, Problem>
where
    C: Future<Output = sandhog_broker::Result<T>>,
{
    let mut wait = FIRST_WAIT;
    for _ in 1..TRIES {
        match call().await {
            Err(Error::Unavailable { .. }) => tokio::time::sleep(wait).await,
            answer => return answer.map_err(of_broker),
        }
        wait *= 2;
    }
    call().await.map_err(of_broker)
}

/// Whether somebody leases a tenant's jobs from a queue, and handles the kind.
pub(super) fn is_served(config: &Config, tenant: &TenantId, queue: &QueueName, kind: &Kind) -> bool {
    has_queue(config, tenant, queue) && handles(config, tenant, kind)
}

fn has_queue(config: &Config, tenant: &TenantId, queue: &QueueName) -> bool {
    plugins_of(config, tenant).any(|plugin| plugin.queue == *queue)
}

fn handles(config: &Config, tenant: &TenantId, kind: &Kind) -> bool {
    plugins_of(config, tenant).any(|plugin| plugin.kinds.contains(kind))
}

fn plugins_of<'c>(config: &'c Config, tenant: &'c TenantId) -> impl Iterator<Item = &'c Plugin> + 'c {
    config.plugins.iter().filter(move |plugin| plugin.tenant == *tenant)
}

fn plugins_for<'c>(config: &'c Config, kind: &'c Kind) -> impl Iterator<Item = &'c Plugin> + 'c {
    config.plugins.iter().filter(move |plugin| plugin.kinds.contains(kind))
}

/// Finds the only tenant in scope, or the only one that handles the kind.
fn tenant_for(config: &Config, caller: &Caller, kind: &Kind) -> Result<TenantId, Problem> {
    let handlers = plugins_for(config, kind).map(|plugin| &plugin.tenant);
    let handlers: Vec<&TenantId> = handlers.filter(|tenant| caller.sees(tenant)).collect();
    let all: Vec<&TenantId> = tenants::in_scope(config, caller).collect();
    match (&all[..], &handlers[..]) {
        // The tenant may stand in a file that is left out.
        (_, []) if !config.broken.is_empty() => Err(Problem::new(
            Slug::WrongConfiguration,
            format!("no plugin that can be read handles `{kind}`, so it is open whose job it is"),
        )
        .help("mend the plugin files above, or name the tenant: --tenant NAME")),
        ([], _) => Err(tenants::no_tenants()),
        ([only], _) | (_, [only]) => Ok((*only).clone()),
        (_, []) => Err(Problem::new(
            Slug::Ambiguous,
            format!("no plugin handles `{kind}`, so it is open whose job it is"),
        )
        .help(format!("name the tenant: --tenant {}", list(all.iter().map(|id| id.as_str()))))),
        (_, several) => Err(Problem::new(Slug::Ambiguous, format!("several tenants handle `{kind}`"))
            .help(format!("name one: --tenant {}", list(several.iter().map(|id| id.as_str()))))),
    }
}

fn no_plugin(config: &Config, kind: &Kind, tenant: &TenantId) -> Problem {
    let kinds: Vec<&str> =
        plugins_of(config, tenant).flat_map(|plugin| &plugin.kinds).map(Kind::as_str).collect();
    let is_complete = config.broken.is_empty();
    let slug = if is_complete { Slug::UnknownPlugin } else { Slug::WrongConfiguration };
    let problem = Problem::new(slug, format!("no plugin of tenant {tenant} handles `{kind}`"));
    let problem = match nearest(kind.as_str(), kinds.iter().copied()) {
        Some(meant) => problem.help(format!("did you mean `{meant}`?")),
        None if kinds.is_empty() => problem.help("it has no plugins yet; put a plugin file into plugins.d"),
        None => problem.help(format!("its kinds are: {}", list(kinds.iter().copied()))),
    };
    let problem = match is_complete {
        true => problem,
        false => problem.help("a plugin file above that is left out may handle it"),
    };
    problem.help("to enqueue it all the same, name a queue: --queue NAME")
}
